//! Pictures made anew: what comes out is pixels, and nothing of what else the file held.
//!
//! Owns: the bounds of a picture, its orientation (applied), its size (at most [`limits::IMAGE_SIDE_MAX`]), the small one
//! beside it, its colour profile (kept, because colours are wrong without it).
//! Never: unpacks before it knows how much memory that takes; never keeps Exif, XMP, comments or what stands behind the end.
//! Bounds: [`limits::IMAGE_BYTES_MAX`], [`limits::IMAGE_JPEG_BYTES_MAX`] of memory for pixels. Blocks.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits};

use super::gif;
use super::kind::Kind;
use super::stock::Draft;
use crate::limits;

/// Of a picture, in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Size {
    pub(super) fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// What was made of a picture.
pub(super) struct Made {
    pub(super) kind: Kind,
    pub(super) size: Size,
    /// Whether a small one was made, and its format.
    pub(super) small: Option<Kind>,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadPicture {
    /// It cannot be read to its end.
    #[error("broken")]
    Broken,
    /// It would take more memory than one picture may.
    #[error("too many pixels")]
    TooManyPixels,
    /// Not the picture's fault.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Makes the picture `raw` of format `kind` anew into `out`, and a small one into `small` if it is larger than that.
pub(super) fn remake(raw: &Draft, kind: Kind, out: &mut Draft, small: &mut Draft) -> Result<Made, BadPicture> {
    if kind == Kind::Gif {
        let size = buffered(out, |out| gif::copy(&mut BufReader::new(raw.reader()?), out))?;
        // Unpacked as everything else, for the small one; a first frame that cannot be is no picture.
        let (first, _) = unpacked(&mut BufReader::new(raw.reader()?), kind)?;
        return Ok(Made { kind, size, small: smaller(&first, None, small)? });
    }
    let (mut picture, profile) = unpacked(&mut BufReader::new(raw.reader()?), kind)?;
    let side = limits::IMAGE_SIDE_MAX;
    if picture.width() > side || picture.height() > side {
        picture = picture.thumbnail(side, side);
    }
    let kind = if kind == Kind::Png || picture.color().has_alpha() { Kind::Png } else { Kind::Jpeg };
    buffered(out, |out| packed(&picture, kind, profile.clone(), out))?;
    let size = Size { width: picture.width(), height: picture.height() };
    Ok(Made { kind, size, small: smaller(&picture, profile, small)? })
}

/// The pixels of the (first) picture, upright, with eight bits a channel, and its colour profile.
fn unpacked<R: BufRead + Seek>(raw: &mut R, kind: Kind) -> Result<(DynamicImage, Option<Vec<u8>>), BadPicture> {
    let (format, bytes_max) = match kind {
        Kind::Jpeg => (ImageFormat::Jpeg, limits::IMAGE_JPEG_BYTES_MAX),
        Kind::Webp => (ImageFormat::WebP, limits::IMAGE_BYTES_MAX),
        Kind::Gif => (ImageFormat::Gif, limits::IMAGE_BYTES_MAX),
        _ => (ImageFormat::Png, limits::IMAGE_BYTES_MAX),
    };
    if kind == Kind::Jpeg {
        jpeg_fits(raw)?;
        raw.seek(SeekFrom::Start(0))?;
    }
    let mut reader = ImageReader::with_format(raw, format);
    let mut bounds = Limits::default();
    bounds.max_alloc = Some(bytes_max + DECODER_BYTES);
    reader.limits(bounds);
    let mut decoder = reader.into_decoder().map_err(because)?;
    if decoder.total_bytes() > bytes_max {
        return Err(BadPicture::TooManyPixels);
    }
    // What cannot be read of these two is not worth refusing a picture.
    let orientation = decoder.orientation().ok();
    let profile = decoder.icc_profile().ok().flatten().filter(|profile| is_ours(profile));
    let picture = DynamicImage::from_decoder(decoder).map_err(because)?;
    let side = limits::IMAGE_SIDE_MAX;
    // Made smaller before it is turned, which takes as much memory again.
    let picture =
        if picture.width() > side || picture.height() > side { picture.thumbnail(side, side) } else { picture };
    let mut picture = match picture {
        eight @ (DynamicImage::ImageLuma8(_) | DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_)) => eight,
        deep if deep.color().has_alpha() => deep.into_rgba8().into(),
        deep if deep.color().has_color() => deep.into_rgb8().into(),
        deep => deep.into_luma8().into(),
    };
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    Ok((picture, profile))
}

/// What a decoder may take beside the pixels: lines, tables, a profile.
const DECODER_BYTES: u64 = 8 * 1024 * 1024;

fn because(error: image::ImageError) -> BadPicture {
    match error {
        image::ImageError::Limits(_) => BadPicture::TooManyPixels,
        image::ImageError::IoError(error) if error.kind() != io::ErrorKind::UnexpectedEof => BadPicture::Disk(error),
        _ => BadPicture::Broken,
    }
}

/// Whether a colour profile (ICC.1, section 7.2) is for the colours that we write, and small enough to come along.
fn is_ours(profile: &[u8]) -> bool {
    let colors = profile.get(16..20);
    profile.len() <= limits::COLOR_PROFILE_BYTES_MAX && (colors == Some(b"RGB ") || colors == Some(b"GRAY"))
}

/// Whether the pixels of a JPEG fit: the decoder holds the coefficients of a progressive one until its end, two bytes
/// for each of three channels.
fn jpeg_fits(raw: &mut (impl Read + Seek)) -> Result<(), BadPicture> {
    let mut marker = [0; 2];
    whole(raw.read_exact(&mut marker))?;
    loop {
        whole(raw.read_exact(&mut marker))?;
        let [0xff, code] = marker else { return Err(BadPicture::Broken) };
        if code == 0xff {
            // A fill byte.
            raw.seek(SeekFrom::Current(-1))?;
            continue;
        }
        let mut length = [0; 2];
        whole(raw.read_exact(&mut length))?;
        let rest = u16::from_be_bytes(length).checked_sub(2).ok_or(BadPicture::Broken)?;
        // The frames but DHT (C4), JPG (C8) and DAC (CC); ITU T.81, table B.1.
        if matches!(code, 0xc0..=0xcf) && !matches!(code, 0xc4 | 0xc8 | 0xcc) {
            let mut frame = [0; 5];
            whole(raw.read_exact(&mut frame))?;
            let height = u64::from(u16::from_be_bytes([frame[1], frame[2]]));
            let width = u64::from(u16::from_be_bytes([frame[3], frame[4]]));
            let each = if code == 0xc2 { 9 } else { 3 };
            let fits = width * height * each <= limits::IMAGE_JPEG_BYTES_MAX;
            return if fits { Ok(()) } else { Err(BadPicture::TooManyPixels) };
        }
        raw.seek(SeekFrom::Current(i64::from(rest)))?;
    }
}

fn whole(read: io::Result<()>) -> Result<(), BadPicture> {
    read.map_err(|error| if error.kind() == io::ErrorKind::UnexpectedEof { BadPicture::Broken } else { error.into() })
}

/// Writes a small picture, if `picture` is larger than that.
fn smaller(picture: &DynamicImage, profile: Option<Vec<u8>>, out: &mut Draft) -> Result<Option<Kind>, BadPicture> {
    let side = limits::THUMB_SIDE_MAX;
    if picture.width() <= side && picture.height() <= side {
        return Ok(None);
    }
    let kind = if picture.color().has_alpha() { Kind::Png } else { Kind::Jpeg };
    let small = picture.thumbnail(side, side);
    buffered(out, |out| packed(&small, kind, profile, out))?;
    Ok(Some(kind))
}

/// Eye cannot tell it from the original, at a third of the bytes of the best one.
const QUALITY: u8 = 85;

fn packed(
    picture: &DynamicImage,
    kind: Kind,
    profile: Option<Vec<u8>>,
    out: &mut impl Write,
) -> Result<(), BadPicture> {
    let written = if kind == Kind::Png {
        with_profile(PngEncoder::new(out), picture, profile)
    } else {
        with_profile(JpegEncoder::new_with_quality(out, QUALITY), picture, profile)
    };
    written.map_err(because)
}

fn with_profile(
    mut encoder: impl ImageEncoder,
    picture: &DynamicImage,
    profile: Option<Vec<u8>>,
) -> image::ImageResult<()> {
    if let Some(profile) = profile {
        // Both encoders take one.
        let _ = encoder.set_icc_profile(profile);
    }
    picture.write_with_encoder(encoder)
}

/// Runs `work` on a buffer before `out`, which is written in large pieces then.
fn buffered<T>(
    out: &mut Draft,
    work: impl FnOnce(&mut BufWriter<&mut Draft>) -> Result<T, BadPicture>,
) -> Result<T, BadPicture> {
    let mut writer = BufWriter::with_capacity(limits::FILE_CHUNK_BYTES, out);
    let made = work(&mut writer)?;
    writer.flush()?;
    Ok(made)
}

//! Pictures made anew: what comes out is pixels, and nothing of what else the file held.
//!
//! Owns: the bounds of a picture, its orientation (applied), its size (at most [`limits::IMAGE_SIDE_MAX`]), the small one
//! beside it, its colour profile (kept, because colours are wrong without it).
//! Never: unpacks before it knows how much memory that takes; never keeps Exif, XMP, comments or what stands behind the end.
//! Bounds: [`limits::IMAGE_BYTES_MAX`] of memory, [`limits::IMAGE_PIXELS_MAX`]. Blocks.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits};

use super::kind::{HEAD_BYTES, Kind, Sort};
use super::stock::Draft;
use super::{canvas, gif, jpeg, png};
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

    /// The same shape with no side longer than `side`.
    pub(super) fn within(self, side: u32) -> Self {
        let longer = self.width.max(self.height);
        if longer <= side {
            return self;
        }
        let scaled = |length: u32| {
            let rounded = (u64::from(length) * u64::from(side) + u64::from(longer) / 2) / u64::from(longer);
            u32::try_from(rounded).unwrap_or(side).max(1)
        };
        Self { width: scaled(self.width), height: scaled(self.height) }
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

/// Pixels that a picture says it has, for its price. What cannot be told, or is more than may be, is refused before it
/// costs anything. Of an animation the first frame is unpacked and the others are walked through, byte by byte, which costs
/// about as much for each as a pixel.
pub(super) fn announced(raw: &Draft, kind: Kind) -> io::Result<u64> {
    let size = size_of(BufReader::new(raw.reader()?), kind).unwrap_or(Size { width: 0, height: 0 });
    let pixels = Some(size.pixels()).filter(|pixels| *pixels <= limits::IMAGE_PIXELS_MAX);
    let walked = if kind == Kind::Gif { raw.len() } else { 0 };
    Ok(pixels.unwrap_or(0) + walked)
}

/// Width and height that the head of a picture announces, of formats that are taken; `None`: there is
/// no such picture, or it does not say. Bytes of the network go through it before anything else looks at
/// them, so a fuzz target does nothing but this.
#[must_use]
pub fn picture_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let kind = Kind::of(bytes.get(..HEAD_BYTES).unwrap_or(bytes));
    let size = if kind.sort() == Sort::Image { size_of(io::Cursor::new(bytes), kind)? } else { return None };
    Some((size.width, size.height))
}

/// Width and height as the head of the file says them. The library would keep all that stands before them, which anybody
/// can make as long as the file.
fn size_of(mut reader: impl BufRead + Seek, kind: Kind) -> Option<Size> {
    match kind {
        Kind::Jpeg => jpeg::Outline::read(reader).ok().map(|outline| outline.size()),
        Kind::Webp => {
            let (width, height) = WebPDecoder::new(reader).ok()?.dimensions();
            Some(Size { width, height })
        }
        Kind::Png => {
            // The signature, then the chunk IHDR, which comes first (PNG, section 11.2.1).
            let mut head = [0; 24];
            reader.read_exact(&mut head).ok()?;
            let number = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
            Some(Size { width: number(16)?, height: number(20)? })
        }
        _ => {
            // The signature, then the logical screen (GIF89a, section 18).
            let mut head = [0; 10];
            reader.read_exact(&mut head).ok()?;
            let number = |at: usize| head.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
            Some(Size { width: number(6)?.into(), height: number(8)?.into() })
        }
    }
}

/// Makes the picture `raw` of format `kind` anew into `out`, and a small one into `small` if it is larger than that.
pub(super) fn remake(raw: &Draft, kind: Kind, out: &mut Draft, small: &mut Draft) -> Result<Made, BadPicture> {
    if kind == Kind::Gif {
        let size = buffered(out, |out| gif::copy(&mut BufReader::new(raw.reader()?), out))?;
        // Unpacked as everything else, for the small one; a first frame that cannot be is no picture.
        let (first, _) = unpacked(raw, kind)?;
        return Ok(Made { kind, size, small: smaller(&first, None, small)? });
    }
    let (picture, profile) = unpacked(raw, kind)?;
    let kind = if kind == Kind::Png || picture.color().has_alpha() { Kind::Png } else { Kind::Jpeg };
    buffered(out, |out| packed(&picture, kind, profile.clone(), out))?;
    let size = Size { width: picture.width(), height: picture.height() };
    Ok(Made { kind, size, small: smaller(&picture, profile, small)? })
}

/// Makes a small picture of the (first) picture of `raw` into `out`.
pub(super) fn remake_small(raw: &Draft, kind: Kind, out: &mut Draft) -> Result<Made, BadPicture> {
    let (picture, profile) = unpacked(raw, kind)?;
    let side = limits::THUMB_SIDE_MAX;
    let fits = picture.width() <= side && picture.height() <= side;
    let picture = if fits { picture } else { picture.thumbnail(side, side) };
    let kind = if kind == Kind::Png || picture.color().has_alpha() { Kind::Png } else { Kind::Jpeg };
    buffered(out, |out| packed(&picture, kind, profile, out))?;
    Ok(Made { kind, size: Size { width: picture.width(), height: picture.height() }, small: None })
}

/// The pixels of the (first) picture, upright and small enough to be kept, with eight bits a channel, and its colour profile.
fn unpacked(raw: &Draft, kind: Kind) -> Result<(DynamicImage, Option<Vec<u8>>), BadPicture> {
    let reader = || io::Result::Ok(BufReader::with_capacity(limits::FILE_CHUNK_BYTES, raw.reader()?));
    let (picture, profile) = match kind {
        Kind::Png => png::unpacked(reader()?)?,
        Kind::Jpeg => {
            let outline = jpeg::Outline::read(reader()?)?;
            // The decoder of the library is better to small pictures: it blends the colours between blocks.
            if outline.fits_whole(raw.len()) {
                by_library(reader()?, ImageFormat::Jpeg)?
            } else {
                jpeg::unpacked(raw.reader()?, &outline)?
            }
        }
        Kind::Webp => {
            let mut head = [0; 21];
            whole(reader()?.read_exact(&mut head))?;
            let (width, height) = WebPDecoder::new(reader()?).map_err(because)?.dimensions();
            let size = Size { width, height };
            if size.pixels() * webp_bytes_each(&head) + raw.len() > limits::IMAGE_BYTES_MAX {
                return Err(BadPicture::TooManyPixels);
            }
            by_library(reader()?, ImageFormat::WebP)?
        }
        _ => by_library(reader()?, ImageFormat::Gif)?,
    };
    Ok((picture, profile.filter(|profile| is_ours(profile))))
}

/// Bytes that the decoder of WebP holds for a pixel, by the kind of its first chunk (RFC 9649, section 2): planes and
/// colours; two times all colours; or, with opacity or an animation, all of them.
fn webp_bytes_each(head: &[u8; 21]) -> u64 {
    let has_more = head[20] & 0b0001_0010 != 0;
    match &head[12..16] {
        b"VP8 " => 5,
        b"VP8X" if has_more => 13,
        _ => 8,
    }
}

/// A picture that fits into memory as a whole.
fn by_library<R: BufRead + Seek>(raw: R, format: ImageFormat) -> Result<(DynamicImage, Option<Vec<u8>>), BadPicture> {
    let mut reader = ImageReader::with_format(raw, format);
    let mut bounds = Limits::default();
    bounds.max_alloc = Some(limits::IMAGE_BYTES_MAX + limits::IMAGE_DECODER_BYTES_MAX as u64);
    reader.limits(bounds);
    let mut decoder = reader.into_decoder().map_err(because)?;
    if decoder.total_bytes() > limits::IMAGE_BYTES_MAX {
        return Err(BadPicture::TooManyPixels);
    }
    // What cannot be read of these two is not worth refusing a picture.
    let turn = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().ok().flatten();
    let picture = DynamicImage::from_decoder(decoder).map_err(because)?;
    let picture = match picture {
        eight @ (DynamicImage::ImageLuma8(_) | DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_)) => eight,
        deep if deep.color().has_alpha() => deep.into_rgba8().into(),
        deep if deep.color().has_color() => deep.into_rgb8().into(),
        deep => deep.into_luma8().into(),
    };
    let size = Size { width: picture.width(), height: picture.height() };
    if turn == Orientation::NoTransforms && size.within(limits::IMAGE_SIDE_MAX) == size {
        return Ok((picture, profile));
    }
    let channels = usize::from(picture.color().channel_count());
    let picture = canvas::shrunk(picture.into_bytes(), size, channels, turn);
    Ok((picture.ok_or(BadPicture::Broken)?, profile))
}

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
    if kind == Kind::Png {
        return png::pack(picture, profile, out);
    }
    let mut encoder = JpegEncoder::new_with_quality(out, QUALITY);
    if let Some(profile) = profile {
        // It takes one.
        let _ = encoder.set_icc_profile(profile);
    }
    picture.write_with_encoder(encoder).map_err(because)
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

//! Pictures made anew: what comes out is pixels, and nothing of what else the file held.
//!
//! Owns: the order of the work: how much memory a picture takes, then its pixels, then the file
//! that is kept and the small one beside it.
//! Never: unpacks before it knows how much memory that takes.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits};

use crate::{Format, PictureError, Remade, Size, Source, bounds, canvas, gif, jpeg, png, whole};

/// Pixels that a picture says it has, for its price. What cannot be told, or is more than may be,
/// is refused before it costs anything. Of an animation the first frame is unpacked and the others
/// are walked through, byte by byte, which costs about as much for each as a pixel.
///
/// # Errors
/// The file cannot be read.
pub fn price(raw: &dyn Source, kind: Format) -> io::Result<u64> {
    let size = size_of(BufReader::new(raw.open()?), kind).unwrap_or(Size { width: 0, height: 0 });
    let pixels = Some(size.pixels()).filter(|pixels| *pixels <= bounds::IMAGE_PIXELS_MAX);
    let walked = if kind == Format::Gif { raw.bytes() } else { 0 };
    Ok(pixels.unwrap_or(0) + walked)
}

/// Width and height that the head of a picture announces; `None`: it is of no known format, or
/// does not say. Nothing is unpacked, so any bytes may be given.
#[must_use]
pub fn announced_size(bytes: &[u8]) -> Option<Size> {
    size_of(io::Cursor::new(bytes), Format::of(bytes)?)
}

/// Width and height as the head of the file says them. The library would keep all that stands
/// before them, which a sender can make as long as the file.
fn size_of(mut reader: impl BufRead + Seek, kind: Format) -> Option<Size> {
    match kind {
        Format::Jpeg => jpeg::Outline::read(reader).ok().map(|outline| outline.size()),
        Format::Webp => {
            let (width, height) = WebPDecoder::new(reader).ok()?.dimensions();
            Some(Size { width, height })
        }
        Format::Png => {
            // The signature, then the chunk IHDR, which comes first (PNG, section 11.2.1).
            let mut head = [0; 24];
            reader.read_exact(&mut head).ok()?;
            let number = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
            Some(Size { width: number(16)?, height: number(20)? })
        }
        Format::Gif => {
            // The signature, then the logical screen (GIF89a, section 18).
            let mut head = [0; 10];
            reader.read_exact(&mut head).ok()?;
            let number = |at: usize| head.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
            Some(Size { width: number(6)?.into(), height: number(8)?.into() })
        }
    }
}

/// Makes the picture `raw` of format `kind` anew into `out`, and a small one into `small` if it is
/// larger than [`bounds::THUMB_SIDE_MAX`]. Blocks, for up to seconds.
///
/// # Errors
/// See [`PictureError`]; what was written to `out` and `small` then is of no use.
pub fn remake(
    raw: &dyn Source,
    kind: Format,
    out: &mut dyn Write,
    small: &mut dyn Write,
) -> Result<Remade, PictureError> {
    if kind == Format::Gif {
        let size = buffered(out, |out| gif::copy(&mut BufReader::new(raw.open()?), out))?;
        // Unpacked as everything else, for the small one; a first frame that cannot be is no
        // picture.
        let (first, _) = unpacked(raw, kind)?;
        return Ok(Remade { format: kind, size, small: smaller(&first, None, small)? });
    }
    let (picture, profile) = unpacked(raw, kind)?;
    let kind = if kind == Format::Png || picture.color().has_alpha() { Format::Png } else { Format::Jpeg };
    buffered(out, |out| packed(&picture, kind, profile.clone(), out))?;
    let size = Size { width: picture.width(), height: picture.height() };
    Ok(Remade { format: kind, size, small: smaller(&picture, profile, small)? })
}

/// Makes a small picture, of at most [`bounds::THUMB_SIDE_MAX`], of the (first) picture of `raw`
/// into `out`. Blocks, for up to seconds.
///
/// # Errors
/// See [`PictureError`]; what was written to `out` then is of no use.
pub fn remake_small(raw: &dyn Source, kind: Format, out: &mut dyn Write) -> Result<Remade, PictureError> {
    let (picture, profile) = unpacked(raw, kind)?;
    let side = bounds::THUMB_SIDE_MAX;
    let fits = picture.width() <= side && picture.height() <= side;
    let picture = if fits { picture } else { picture.thumbnail(side, side) };
    let kind = if kind == Format::Png || picture.color().has_alpha() { Format::Png } else { Format::Jpeg };
    buffered(out, |out| packed(&picture, kind, profile, out))?;
    Ok(Remade { format: kind, size: Size { width: picture.width(), height: picture.height() }, small: None })
}

/// The pixels of the (first) picture, upright and small enough to be kept, with eight bits a
/// channel, and its colour profile.
fn unpacked(raw: &dyn Source, kind: Format) -> Result<(DynamicImage, Option<Vec<u8>>), PictureError> {
    let reader = || io::Result::Ok(BufReader::with_capacity(bounds::BUFFER_BYTES, raw.open()?));
    let (picture, profile) = match kind {
        Format::Png => png::unpacked(reader()?)?,
        Format::Jpeg => {
            let outline = jpeg::Outline::read(reader()?)?;
            // The decoder of the library is better to small pictures: it blends the colours between
            // blocks.
            if outline.fits_whole(raw.bytes()) {
                by_library(reader()?, ImageFormat::Jpeg)?
            } else {
                jpeg::unpacked(raw.open()?, &outline)?
            }
        }
        Format::Webp => {
            let mut head = [0; 21];
            whole(reader()?.read_exact(&mut head))?;
            let (width, height) = WebPDecoder::new(reader()?).map_err(because)?.dimensions();
            let size = Size { width, height };
            if size.pixels() * webp_bytes_each(&head) + raw.bytes() > bounds::IMAGE_BYTES_MAX {
                return Err(PictureError::TooManyPixels);
            }
            by_library(reader()?, ImageFormat::WebP)?
        }
        Format::Gif => by_library(reader()?, ImageFormat::Gif)?,
    };
    Ok((picture, profile.filter(|profile| is_ours(profile))))
}

/// Bytes that the decoder of WebP holds for a pixel, by the kind of its first chunk (RFC 9649,
/// section 2): planes and colours; two times all colours; or, with opacity or an animation, all of
/// them.
fn webp_bytes_each(head: &[u8; 21]) -> u64 {
    let has_more = head[20] & 0b0001_0010 != 0;
    match &head[12..16] {
        b"VP8 " => 5,
        b"VP8X" if has_more => 13,
        _ => 8,
    }
}

/// A picture that fits into memory as a whole.
fn by_library<R: BufRead + Seek>(raw: R, format: ImageFormat) -> Result<(DynamicImage, Option<Vec<u8>>), PictureError> {
    let mut reader = ImageReader::with_format(raw, format);
    let mut bounds = Limits::default();
    bounds.max_alloc = Some(bounds::IMAGE_BYTES_MAX + bounds::IMAGE_DECODER_BYTES_MAX as u64);
    reader.limits(bounds);
    let mut decoder = reader.into_decoder().map_err(because)?;
    if decoder.total_bytes() > bounds::IMAGE_BYTES_MAX {
        return Err(PictureError::TooManyPixels);
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
    if turn == Orientation::NoTransforms && size.within(bounds::IMAGE_SIDE_MAX) == size {
        return Ok((picture, profile));
    }
    let channels = usize::from(picture.color().channel_count());
    let picture = canvas::shrunk(picture.into_bytes(), size, channels, turn);
    Ok((picture.ok_or(PictureError::Broken)?, profile))
}

fn because(error: image::ImageError) -> PictureError {
    match error {
        image::ImageError::Limits(_) => PictureError::TooManyPixels,
        image::ImageError::IoError(error) if error.kind() != io::ErrorKind::UnexpectedEof => PictureError::Io(error),
        _ => PictureError::Broken,
    }
}

/// Whether a colour profile (ICC.1, section 7.2) is for the colours that we write, and small enough
/// to come along.
fn is_ours(profile: &[u8]) -> bool {
    let colors = profile.get(16..20);
    profile.len() <= bounds::COLOR_PROFILE_BYTES_MAX && (colors == Some(b"RGB ") || colors == Some(b"GRAY"))
}

/// Writes a small picture, if `picture` is larger than that.
fn smaller(
    picture: &DynamicImage,
    profile: Option<Vec<u8>>,
    out: &mut dyn Write,
) -> Result<Option<Format>, PictureError> {
    let side = bounds::THUMB_SIDE_MAX;
    if picture.width() <= side && picture.height() <= side {
        return Ok(None);
    }
    let kind = if picture.color().has_alpha() { Format::Png } else { Format::Jpeg };
    let small = picture.thumbnail(side, side);
    buffered(out, |out| packed(&small, kind, profile, out))?;
    Ok(Some(kind))
}

/// Eye cannot tell it from the original, at a third of the bytes of the best one.
const QUALITY: u8 = 85;

fn packed(
    picture: &DynamicImage,
    kind: Format,
    profile: Option<Vec<u8>>,
    out: &mut impl Write,
) -> Result<(), PictureError> {
    if kind == Format::Png {
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
    out: &mut dyn Write,
    work: impl FnOnce(&mut BufWriter<&mut dyn Write>) -> Result<T, PictureError>,
) -> Result<T, PictureError> {
    let mut writer = BufWriter::with_capacity(bounds::BUFFER_BYTES, out);
    let made = work(&mut writer)?;
    writer.flush()?;
    Ok(made)
}

//! PNG, row by row in both directions (ISO 15948): neither a screenshot of many screens nor its
//! compressed bytes are ever whole in memory.
//!
//! Never: shows more than the first picture of an animated one.
//! Bounds: [`bounds::IMAGE_PIXELS_MAX`], [`bounds::IMAGE_COMING_SIDE_MAX`]; one whose rows come
//! interlaced is held as a whole, within [`bounds::IMAGE_BYTES_MAX`].

use std::borrow::Cow;
use std::io::{self, BufRead, Seek, Write};

use image::DynamicImage;
use image::metadata::Orientation;
use png::{BitDepth, ColorType, Decoder, DecodingError, Encoder, EncodingError, Info, Transformations};

use crate::canvas::Canvas;
use crate::{PictureError, Size, bounds};

/// The (first) picture, upright, small enough to be kept, with eight bits a channel; and its colour
/// profile.
pub(crate) fn unpacked<R: BufRead + Seek>(raw: R) -> Result<(DynamicImage, Option<Vec<u8>>), PictureError> {
    let mut decoder = Decoder::new_with_limits(raw, png::Limits { bytes: bounds::IMAGE_DECODER_BYTES_MAX });
    decoder.set_transformations(Transformations::normalize_to_color8());
    let header = decoder.read_header_info()?;
    let size = Size { width: header.width, height: header.height };
    let side = size.width.max(size.height);
    if side > bounds::IMAGE_COMING_SIDE_MAX || size.pixels() > bounds::IMAGE_PIXELS_MAX {
        return Err(PictureError::TooManyPixels);
    }
    let mut reader = decoder.read_info()?;
    let exif = reader.info().exif_metadata.as_deref();
    let turn = exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let profile = reader.info().icc_profile.as_deref().map(<[u8]>::to_vec);
    let (color, _) = reader.output_color_type();
    let channels = if color == ColorType::GrayscaleAlpha { 4 } else { color.samples() };
    let mut canvas = Canvas::new(size, channels, turn);
    if reader.info().interlaced {
        let each = color.samples();
        if size.pixels() * each as u64 + Canvas::bytes(size, channels as u64) > bounds::IMAGE_BYTES_MAX {
            return Err(PictureError::TooManyPixels);
        }
        let mut all = vec![0; size.width as usize * size.height as usize * each];
        reader.next_frame(&mut all)?;
        all.chunks_exact(size.width as usize * each).for_each(|row| canvas.row(&colored(row, color)));
    } else {
        while let Some(row) = reader.next_row()? {
            canvas.row(&colored(row.data(), color));
        }
    }
    Ok((canvas.finish().ok_or(PictureError::Broken)?, profile))
}

/// Grey with opacity as colours with opacity: a canvas knows no other.
fn colored(row: &[u8], color: ColorType) -> Cow<'_, [u8]> {
    if color != ColorType::GrayscaleAlpha {
        return Cow::Borrowed(row);
    }
    let (pixels, _) = row.as_chunks::<2>();
    pixels.iter().flat_map(|&[grey, seen]| [grey, grey, grey, seen]).collect()
}

/// Writes `picture`, which has eight bits a channel.
pub(crate) fn pack(picture: &DynamicImage, profile: Option<Vec<u8>>, out: &mut impl Write) -> Result<(), PictureError> {
    let mut info = Info::with_size(picture.width(), picture.height());
    info.bit_depth = BitDepth::Eight;
    info.color_type = match picture.color().channel_count() {
        1 => ColorType::Grayscale,
        3 => ColorType::Rgb,
        _ => ColorType::Rgba,
    };
    info.icc_profile = profile.map(Cow::Owned);
    let mut writer = Encoder::with_info(out, info)?.write_header()?;
    let mut rows = writer.stream_writer_with_size(bounds::BUFFER_BYTES)?;
    rows.write_all(picture.as_bytes())?;
    rows.finish()?;
    writer.finish()?;
    Ok(())
}

impl From<DecodingError> for PictureError {
    fn from(error: DecodingError) -> Self {
        match error {
            DecodingError::LimitsExceeded => Self::TooManyPixels,
            DecodingError::IoError(error) if error.kind() != io::ErrorKind::UnexpectedEof => Self::Io(error),
            _ => Self::Broken,
        }
    }
}

impl From<EncodingError> for PictureError {
    fn from(error: EncodingError) -> Self {
        match error {
            EncodingError::IoError(error) => Self::Io(error),
            _ => Self::Broken,
        }
    }
}

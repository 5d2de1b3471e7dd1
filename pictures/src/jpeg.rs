//! JPEG that does not fit into memory as a whole (ITU T.81; Exif): the photos of phones, at a half,
//! a quarter or an eighth.
//!
//! Owns: what has to be known of a file before any memory is taken, and the scale at which a
//! picture fits.
//! Never: decodes by itself. `jpeg-decoder` does, whose inverse transform comes at a smaller scale
//! for less than the whole.
//! Bounds: [`bounds::IMAGE_PIXELS_MAX`], [`bounds::IMAGE_BYTES_MAX`], [`bounds::JPEG_SCANS_MAX`],
//! [`bounds::JPEG_SEGMENTS_MAX`].

use std::io::{self, BufRead, BufReader, Read};

use image::DynamicImage;
use image::metadata::Orientation;
use jpeg_decoder::{CodingProcess, Decoder, Error};

use crate::{PictureError, Size, bounds, canvas, whole};

/// What a JPEG is, without one of its pixels: its frame (B.2.2), and how much stands around it.
#[derive(Debug)]
pub(crate) struct Outline {
    size: Size,
    progressive: bool,
    channels: Vec<Channel>,
    /// Bytes of Exif, colour profile and the like, all of which the decoder keeps.
    notes: u64,
}

/// Of a frame.
#[derive(Debug)]
struct Channel {
    id: u8,
    /// How many blocks of it, across and down, lie in the smallest unit of the picture.
    across: u64,
    down: u64,
    /// A bit for each of the 64 coefficients that the scans bring to the last bit.
    brought: u64,
}

impl Outline {
    /// Walks over all segments and scans of a file, to the end of the first picture.
    ///
    /// # Errors
    /// There is no frame or no scan, or a frame of a process that is never sent
    /// (arithmetic codes, differences, no loss, more than eight bits); it has more pixels, scans or
    /// segments than the limits say.
    pub(crate) fn read(mut from: impl BufRead) -> Result<Self, PictureError> {
        let (mut outline, mut scans, mut segments) = (None::<Self>, 0, 0);
        let mut notes = 0;
        while let Some(code) = marker(&mut from)? {
            match code {
                0x00 | 0x01 | 0xd0..=0xd8 => continue,
                0xd9 => break,
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Err(PictureError::Broken),
                _ => {}
            }
            segments += 1;
            scans += usize::from(code == 0xda);
            if segments > bounds::JPEG_SEGMENTS_MAX || scans > bounds::JPEG_SCANS_MAX {
                return Err(PictureError::Broken);
            }
            let mut length = [0; 2];
            whole(from.read_exact(&mut length))?;
            let length = u16::from_be_bytes(length).checked_sub(2).ok_or(PictureError::Broken)?;
            let mut segment = from.by_ref().take(length.into());
            if !matches!(code, 0xc0..=0xc2 | 0xda) {
                notes += u64::from(length);
                io::copy(&mut segment, &mut io::sink())?;
                continue;
            }
            let mut bytes = Vec::with_capacity(length.into());
            segment.read_to_end(&mut bytes)?;
            outline = match outline {
                None if code != 0xda => Some(Self::of(&bytes, code == 0xc2)?),
                Some(mut known) if code == 0xda => {
                    known.note_scan(&bytes).ok_or(PictureError::Broken)?;
                    Some(known)
                }
                _ => return Err(PictureError::Broken),
            };
        }
        // A file that ends before its picture does is left to the decoders: some cameras forget the
        // last marker.
        match outline {
            Some(outline) if scans > 0 => Ok(Self { notes, ..outline }),
            _ => Err(PictureError::Broken),
        }
    }

    fn of(frame: &[u8], progressive: bool) -> Result<Self, PictureError> {
        let &[8, h1, h2, w1, w2, count @ (1 | 3 | 4), ref parts @ ..] = frame else { return Err(PictureError::Broken) };
        let size = Size { width: u16::from_be_bytes([w1, w2]).into(), height: u16::from_be_bytes([h1, h2]).into() };
        let (parts, _) = parts.as_chunks::<3>();
        let channel = |&[id, factors, _]: &[u8; 3]| {
            let (across, down) = (u64::from(factors >> 4), u64::from(factors & 15));
            Channel { id, across, down, brought: 0 }
        };
        let channels: Vec<_> = parts.iter().map(channel).collect();
        let is_right = |channel: &Channel| (1..=4).contains(&channel.across) && (1..=4).contains(&channel.down);
        if size.pixels() == 0 || channels.len() != usize::from(count) || !channels.iter().all(is_right) {
            return Err(PictureError::Broken);
        }
        if size.pixels() > bounds::IMAGE_PIXELS_MAX {
            return Err(PictureError::TooManyPixels);
        }
        Ok(Self { size, progressive, channels, notes: 0 })
    }

    /// Of which channels a scan (B.2.3) brings which coefficients. None if it is no head of one.
    fn note_scan(&mut self, head: &[u8]) -> Option<()> {
        let (&count, rest) = head.split_first()?;
        let (parts, rest) = rest.split_at_checked(usize::from(count) * 2)?;
        let &[first, last @ 0..64, bits] = rest else { return None };
        let brought = u64::MAX.checked_shl(first.into())? & (u64::MAX >> (63 - last));
        // Bits of the coefficients are still to come otherwise.
        if bits & 15 == 0 {
            let (parts, _) = parts.as_chunks::<2>();
            let is_in = |channel: &&mut Channel| parts.iter().any(|part| part[0] == channel.id);
            self.channels.iter_mut().filter(is_in).for_each(|channel| channel.brought |= brought);
        }
        Some(())
    }

    /// What the picture's frame says.
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Whether a file of `file` bytes fits as a whole. The decoder of the library, which knows no
    /// scale, holds the file, in a buffer that it doubles while it reads, the pixels, and the
    /// coefficients of a progressive one.
    pub(crate) fn fits_whole(&self, file: u64) -> bool {
        let samples = self.size.pixels() * self.channels.len() as u64;
        // Narrow ones are mostly what blocks are filled up with.
        let pixels = if self.progressive { self.bytes_at(8).max(samples * 3) } else { samples };
        let is_in_pieces = samples.max(2 * file) <= bounds::JPEG_BLOCK_BYTES_MAX && self.has_small_channels();
        is_in_pieces && pixels + self.notes + 2 * file <= bounds::IMAGE_BYTES_MAX
    }

    /// Of the picture at `eighths`.
    fn scaled(&self, eighths: u32) -> Size {
        let scaled = |length: u32| (length * eighths).div_ceil(8);
        Size { width: scaled(self.size.width), height: scaled(self.size.height) }
    }

    /// How many of the smallest units of the picture lie across and down.
    fn units(&self) -> (u64, u64) {
        let most = |of: fn(&Channel) -> u64| self.channels.iter().map(of).max().unwrap_or(1);
        let units = |length: u32, most: u64| u64::from(length).div_ceil(8 * most);
        (units(self.size.width, most(|channel| channel.across)), units(self.size.height, most(|channel| channel.down)))
    }

    /// Whether no channel has coefficients that are too many for one block of memory.
    fn has_small_channels(&self) -> bool {
        let (across, down) = self.units();
        let bytes = |channel: &Channel| across * channel.across * channel.down * down * COEFFICIENTS_BYTES;
        !self.progressive || self.channels.iter().map(bytes).all(|bytes| bytes <= bounds::JPEG_BLOCK_BYTES_MAX)
    }

    /// Bytes that are held at once at `eighths`: the planes of the channels and the pixels that
    /// they become, two rows of coefficients, and all of them of a progressive one.
    fn bytes_at(&self, eighths: u32) -> u64 {
        let (across, down) = self.units();
        let in_row = |channel: &Channel| across * channel.across * channel.down;
        let blocks_in_row: u64 = self.channels.iter().map(in_row).sum();
        let mut rows = 2 * blocks_in_row;
        if self.progressive {
            // A channel that is not brought to its end is copied before it is transformed.
            let copied = self.channels.iter().filter(|channel| channel.brought != u64::MAX).map(in_row).max();
            rows += (blocks_in_row + copied.unwrap_or(0)) * down;
        }
        let planes = blocks_in_row * down * u64::from(eighths * eighths);
        // One channel is its own picture.
        let channels = if self.channels.len() == 1 { 0 } else { self.channels.len() as u64 };
        planes + rows * COEFFICIENTS_BYTES + self.scaled(eighths).pixels() * channels
    }

    /// The largest scale that fits beside the notes, which are there twice when the profile is put
    /// together.
    fn eighths(&self) -> Option<u32> {
        let pixels = |eighths| self.scaled(eighths).pixels() * self.channels.len() as u64;
        let fits = |&eighths: &u32| {
            pixels(eighths) <= bounds::JPEG_BLOCK_BYTES_MAX
                && self.bytes_at(eighths) + 2 * self.notes <= bounds::IMAGE_BYTES_MAX
        };
        [8, 4, 2, 1].into_iter().find(fits).filter(|_| self.has_small_channels())
    }
}

/// Of a block: 64 coefficients.
const COEFFICIENTS_BYTES: u64 = 64 * 2;

/// The picture of a file that has that outline, upright and small enough to be kept, and its colour
/// profile.
///
/// # Errors
/// It is broken, or does not fit at any scale.
pub(crate) fn unpacked(from: impl Read, outline: &Outline) -> Result<(DynamicImage, Option<Vec<u8>>), PictureError> {
    unpacked_at(from, outline, outline.eighths().ok_or(PictureError::TooManyPixels)?)
}

fn unpacked_at(
    from: impl Read,
    outline: &Outline,
    eighths: u32,
) -> Result<(DynamicImage, Option<Vec<u8>>), PictureError> {
    let (size, channels) = (outline.scaled(eighths), outline.channels.len());
    let mut decoder = Decoder::new(BufReader::with_capacity(bounds::BUFFER_BYTES, from));
    // It takes the smallest scale at which one of the sides is reached: the shorter one never is.
    let side =
        |length: u32, other: u32| if length < other { u16::MAX } else { u16::try_from(length).unwrap_or(u16::MAX) };
    let (width, height) = decoder.scale(side(size.width, size.height), side(size.height, size.width))?;
    let info = decoder.info().ok_or(PictureError::Broken)?;
    let process = if outline.progressive { CodingProcess::DctProgressive } else { CodingProcess::DctSequential };
    // Whatever it has found that was not counted on is not unpacked.
    let is_known = (size.width, size.height) == (width.into(), height.into()) && info.coding_process == process;
    if !is_known || info.pixel_format.pixel_bytes() != channels {
        return Err(PictureError::Broken);
    }
    let pixels = decoder.decode()?;
    let turn = decoder.exif_data().and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile();
    drop(decoder);
    let (pixels, channels) = if channels == 4 { (without_inks(&pixels), 3) } else { (pixels, channels) };
    Ok((canvas::shrunk(pixels, size, channels, turn).ok_or(PictureError::Broken)?, profile))
}

/// What the four inks of a printer leave of red, green and blue. As everywhere on screens, without
/// their profile.
fn without_inks(pixels: &[u8]) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<4>();
    let left = |ink: u8, black: u8| {
        let left = u32::from(255 - ink) * u32::from(255 - black) / 255;
        u8::try_from(left).unwrap_or(u8::MAX)
    };
    let mut colors = Vec::with_capacity(pixels.len() * 3);
    for &[cyan, magenta, yellow, black] in pixels {
        colors.extend([cyan, magenta, yellow].map(|ink| left(ink, black)));
    }
    colors
}

/// The code of the next marker; none at the end.
fn marker(from: &mut impl BufRead) -> io::Result<Option<u8>> {
    from.skip_until(0xff)?;
    loop {
        let Some(&code) = from.fill_buf()?.first() else { return Ok(None) };
        from.consume(1);
        // Any number of them may stand before a code.
        if code != 0xff {
            return Ok(Some(code));
        }
    }
}

impl From<Error> for PictureError {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                Self::Io(error)
            }
            _ => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests;

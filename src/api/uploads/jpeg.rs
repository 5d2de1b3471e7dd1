//! JPEG that does not fit into memory as a whole (ITU T.81; Exif): the photos of phones, at a half, a quarter or an eighth.
//!
//! Owns: what of the head has to be known before any memory is taken, and the scale at which a picture fits.
//! Never: decodes by itself. `jpeg-decoder` does, whose inverse transform comes at a smaller scale for less than the whole.
//! Bounds: [`limits::IMAGE_PIXELS_MAX`], [`limits::IMAGE_BYTES_MAX`], [`limits::JPEG_SCANS_MAX`].

use std::io::{self, BufRead, BufReader, Read};

use image::DynamicImage;
use image::metadata::Orientation;
use jpeg_decoder::{CodingProcess, Decoder, Error};

use super::canvas;
use super::picture::{BadPicture, Size};
use crate::limits;

/// The frame of a JPEG (B.2.2).
#[derive(Debug)]
pub(super) struct Head {
    size: Size,
    progressive: bool,
    /// How many samples of each channel, across and down, lie in the smallest unit of the picture.
    factors: Vec<(u64, u64)>,
}

impl Head {
    /// Looks for the frame.
    ///
    /// # Errors
    /// There is none, or one of a process that nobody sends (arithmetic codes, differences, no loss), or one of more than
    /// [`limits::IMAGE_PIXELS_MAX`].
    pub(super) fn read(mut from: impl BufRead) -> Result<Self, BadPicture> {
        loop {
            from.skip_until(0xff)?;
            let mut code = [0xff];
            while code == [0xff] {
                whole(from.read_exact(&mut code))?;
            }
            match code[0] {
                0x00 | 0x01 | 0xd0..=0xd8 => continue,
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf | 0xd9 | 0xda => return Err(BadPicture::Broken),
                _ => {}
            }
            let mut length = [0; 2];
            whole(from.read_exact(&mut length))?;
            let length = u16::from_be_bytes(length).checked_sub(2).ok_or(BadPicture::Broken)?;
            let mut segment = from.by_ref().take(length.into());
            if matches!(code[0], 0xc0..=0xc2) {
                let mut frame = Vec::with_capacity(length.into());
                segment.read_to_end(&mut frame)?;
                return Self::of(&frame, code[0] == 0xc2);
            }
            io::copy(&mut segment, &mut io::sink())?;
        }
    }

    fn of(frame: &[u8], progressive: bool) -> Result<Self, BadPicture> {
        let &[8, h1, h2, w1, w2, count @ (1 | 3 | 4), ref parts @ ..] = frame else { return Err(BadPicture::Broken) };
        let size = Size { width: u16::from_be_bytes([w1, w2]).into(), height: u16::from_be_bytes([h1, h2]).into() };
        let (parts, _) = parts.as_chunks::<3>();
        let factors: Vec<_> = parts.iter().map(|part| (u64::from(part[1] >> 4), u64::from(part[1] & 15))).collect();
        let is_right = |&(across, down): &(u64, u64)| (1..=4).contains(&across) && (1..=4).contains(&down);
        if size.pixels() == 0 || factors.len() != usize::from(count) || !factors.iter().all(is_right) {
            return Err(BadPicture::Broken);
        }
        if size.pixels() > limits::IMAGE_PIXELS_MAX {
            return Err(BadPicture::TooManyPixels);
        }
        Ok(Self { size, progressive, factors })
    }

    /// Bytes that the decoder of the library, which knows no scale, holds beside the file: the pixels, and the
    /// coefficients of a progressive one.
    pub(super) fn bytes_whole(&self) -> u64 {
        self.size.pixels() * self.factors.len() as u64 * if self.progressive { 3 } else { 1 }
    }

    /// Of the picture at `eighths`.
    fn scaled(&self, eighths: u32) -> Size {
        let scaled = |length: u32| (length * eighths).div_ceil(8);
        Size { width: scaled(self.size.width), height: scaled(self.size.height) }
    }

    /// Bytes that are held at once at `eighths`: the planes of the channels and the pixels that they become, two rows of
    /// coefficients, and all of them of a progressive one.
    fn bytes_at(&self, eighths: u32) -> u64 {
        let most = |of: fn(&(u64, u64)) -> u64| self.factors.iter().map(of).max().unwrap_or(1);
        let units = |length: u32, most: u64| u64::from(length).div_ceil(8 * most);
        let across = units(self.size.width, most(|factors| factors.0));
        let down = units(self.size.height, most(|factors| factors.1));
        let blocks_in_row: u64 = self.factors.iter().map(|(wide, high)| across * wide * high).sum();
        let rows_of_coefficients = if self.progressive { 2 + down } else { 2 };
        let planes = blocks_in_row * down * u64::from(eighths * eighths);
        // One channel is its own picture.
        let channels = if self.factors.len() == 1 { 0 } else { self.factors.len() as u64 };
        planes + blocks_in_row * 64 * 2 * rows_of_coefficients + self.scaled(eighths).pixels() * channels
    }

    /// The largest scale that fits beside the notes of a file of `file` bytes, which are as many at most.
    fn eighths(&self, file: u64) -> Option<u32> {
        [8, 4, 2, 1].into_iter().find(|&eighths| self.bytes_at(eighths) + file <= limits::IMAGE_BYTES_MAX)
    }
}

/// The picture of a file of `file` bytes that has that head, upright and small enough to be kept, and its colour profile.
///
/// # Errors
/// It is broken, or does not fit at any scale; four channels, which printers know, are not made red, green and blue here.
pub(super) fn unpacked(from: impl Read, head: &Head, file: u64) -> Result<(DynamicImage, Option<Vec<u8>>), BadPicture> {
    let channels = head.factors.len();
    let eighths = head.eighths(file).filter(|_| channels < 4).ok_or(BadPicture::TooManyPixels)?;
    let size = head.scaled(eighths);
    let from = BufReader::with_capacity(limits::FILE_CHUNK_BYTES, Scans { from, last: 0, seen: 0 });
    let mut decoder = Decoder::new(from);
    // It takes the smallest scale at which one of the sides is reached: the shorter one never is.
    let side =
        |length: u32, other: u32| if length < other { u16::MAX } else { u16::try_from(length).unwrap_or(u16::MAX) };
    let (width, height) = decoder.scale(side(size.width, size.height), side(size.height, size.width))?;
    let info = decoder.info().ok_or(BadPicture::Broken)?;
    let process = if head.progressive { CodingProcess::DctProgressive } else { CodingProcess::DctSequential };
    // Whatever it has found that was not counted on is not unpacked.
    let is_known = (size.width, size.height) == (width.into(), height.into()) && info.coding_process == process;
    if !is_known || info.pixel_format.pixel_bytes() != channels {
        return Err(BadPicture::Broken);
    }
    let pixels = decoder.decode()?;
    let turn = decoder.exif_data().and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile();
    drop(decoder);
    Ok((canvas::shrunk(pixels, size, channels, turn).ok_or(BadPicture::Broken)?, profile))
}

/// A file in which no more scans begin than [`limits::JPEG_SCANS_MAX`]. The decoder takes any number of them.
struct Scans<R> {
    from: R,
    last: u8,
    seen: usize,
}

impl<R: Read> Read for Scans<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        let read = buffer.get(..length).unwrap_or_default();
        let begins = usize::from(self.last == 0xff && read.first() == Some(&0xda));
        self.seen += begins + memchr::memmem::find_iter(read, b"\xff\xda").count();
        self.last = read.last().copied().unwrap_or(self.last);
        if self.seen > limits::JPEG_SCANS_MAX { Err(io::ErrorKind::InvalidData.into()) } else { Ok(length) }
    }
}

impl From<Error> for BadPicture {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                Self::Disk(error)
            }
            _ => Self::Broken,
        }
    }
}

/// A file that ends too early is the sender's fault, unlike one that cannot be read.
fn whole(read: io::Result<()>) -> Result<(), BadPicture> {
    read.map_err(|error| if error.kind() == io::ErrorKind::UnexpectedEof { BadPicture::Broken } else { error.into() })
}

#[cfg(test)]
mod tests;

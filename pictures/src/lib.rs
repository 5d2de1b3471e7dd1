//! Pictures of strangers made anew: what comes out is pixels, upright and of a bounded size, and
//! nothing of what else the file held (Exif, XMP, comments, what stands behind its end).
//!
//! Owns: which formats are taken, the size that is kept, the orientation (applied), the small
//! picture beside it, the colour profile (kept, because colours are wrong without it).
//! Never: unpacks before it knows how much memory that takes.
//! Bounds: [`bounds`]. A call holds at most [`bounds::IMAGE_BYTES_MAX`] and
//! [`bounds::IMAGE_DECODER_BYTES_MAX`], and takes up to seconds. The decoders that it uses may
//! panic on a broken picture: the caller catches that, and should run one call at a time on one
//! thread, because an allocator keeps memory for each thread that has used much of it.

pub mod bounds;
mod canvas;
mod gif;
mod jpeg;
mod png;
mod remaking;

use std::io::{self, Read, Seek};

pub use remaking::{announced_size, price, remake, remake_small};

/// A format of pictures that are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// ISO 15948.
    Png,
    /// JFIF and Exif (ITU T.81).
    Jpeg,
    /// 87a and 89a.
    Gif,
    /// RFC 9649.
    Webp,
}

impl Format {
    /// The format of a file that begins with `head`, of which the first 12 bytes are enough.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let at = |from: usize, word: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(word));
        match head {
            _ if at(0, b"\x89PNG\r\n\x1a\n") => Some(Self::Png),
            _ if at(0, b"\xff\xd8\xff") => Some(Self::Jpeg),
            _ if at(0, b"GIF87a") || at(0, b"GIF89a") => Some(Self::Gif),
            _ if at(0, b"RIFF") && at(8, b"WEBP") => Some(Self::Webp),
            _ => None,
        }
    }
}

/// Of a picture, in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// From left to right.
    pub width: u32,
    /// From top to bottom.
    pub height: u32,
}

impl Size {
    fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// The same shape with no side longer than `side`.
    fn within(self, side: u32) -> Self {
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remade {
    /// Of the picture that is kept: a JPEG, or a PNG if something of it is seen through; an
    /// animation stays one.
    pub format: Format,
    /// Of the picture that is kept.
    pub size: Size,
    /// Whether a small one was made, and its format.
    pub small: Option<Format>,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// It cannot be read to its end, or is of a kind that is never sent.
    #[error("broken")]
    Broken,
    /// It would take more memory than one picture may.
    #[error("too many pixels")]
    TooManyPixels,
    /// The file cannot be read or written: not the picture's fault.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file with a picture, which is read more than once.
pub trait Source {
    /// A reader at the beginning of the file. One is used at a time.
    ///
    /// # Errors
    /// The file cannot be read.
    fn open(&self) -> io::Result<Box<dyn Bytes + '_>>;

    /// Bytes of the file.
    fn bytes(&self) -> u64;
}

/// What a [`Source`] is read through.
pub trait Bytes: Read + Seek {}

impl<T: Read + Seek> Bytes for T {}

impl Source for &[u8] {
    fn open(&self) -> io::Result<Box<dyn Bytes + '_>> {
        Ok(Box::new(io::Cursor::new(*self)))
    }

    fn bytes(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
}

/// A file that ends too early is the sender's fault, unlike one that cannot be read.
fn whole(read: io::Result<()>) -> Result<(), PictureError> {
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => PictureError::Broken,
        _ => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
    use proptest::prelude::*;

    use super::*;

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        picture.write_to(&mut out, format).expect("memory");
        out.into_inner()
    }

    fn some_picture(width: u32, height: u32) -> DynamicImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x, y, x ^ y].map(|n| (n % 251) as u8))).into()
    }

    fn remade(bytes: &[u8]) -> Result<(Remade, Vec<u8>, Vec<u8>), PictureError> {
        let format = Format::of(bytes).ok_or(PictureError::Broken)?;
        let (mut out, mut small) = (Vec::new(), Vec::new());
        let made = remake(&bytes, format, &mut out, &mut small)?;
        Ok((made, out, small))
    }

    #[test]
    fn every_format_comes_out_as_one_that_pages_show() {
        let picture = some_picture(400, 300);
        for (format, taken, kept) in [
            (ImageFormat::Png, Format::Png, Format::Png),
            (ImageFormat::Jpeg, Format::Jpeg, Format::Jpeg),
            (ImageFormat::WebP, Format::Webp, Format::Jpeg),
            (ImageFormat::Gif, Format::Gif, Format::Gif),
        ] {
            let bytes = encoded(&picture, format);
            assert_eq!(Format::of(&bytes), Some(taken));
            assert_eq!(announced_size(&bytes), Some(Size { width: 400, height: 300 }), "{format:?}");
            let (made, out, small) = remade(&bytes).expect("a picture");
            assert_eq!((made.format, made.size), (kept, Size { width: 400, height: 300 }), "{format:?}");
            assert_eq!(Format::of(&out), Some(kept));
            assert_eq!(Format::of(&small), made.small);
            assert_eq!(announced_size(&small), Some(Size { width: 320, height: 240 }), "{format:?}");
        }
    }

    #[test]
    fn what_is_seen_through_stays_so() {
        let picture = RgbaImage::from_fn(10, 10, |x, _| Rgba([1, 2, 3, if x < 5 { 0 } else { 255 }])).into();
        let (made, out, small) = remade(&encoded(&picture, ImageFormat::WebP)).expect("a picture");
        assert_eq!((made.format, made.small, small.len()), (Format::Png, None, 0));
        let out = image::load_from_memory(&out).expect("a PNG").into_rgba8();
        assert_eq!((out.get_pixel(0, 0).0[3], out.get_pixel(9, 9).0[3]), (0, 255));
    }

    #[test]
    fn a_picture_for_a_list_is_small_whatever_came() {
        let bytes = encoded(&some_picture(1000, 10), ImageFormat::Png);
        let mut out = Vec::new();
        let made = remake_small(&&bytes[..], Format::Png, &mut out).expect("a picture");
        assert_eq!((made.size, made.small), (Size { width: 320, height: 3 }, None));
        assert_eq!(announced_size(&out), Some(made.size));
    }

    #[test]
    fn pixels_are_counted_before_they_are_unpacked() {
        let mut gif = encoded(&some_picture(2, 2), ImageFormat::Gif);
        gif[6..10].copy_from_slice(&[0xff; 4]);
        assert_eq!(announced_size(&gif), Some(Size { width: 65_535, height: 65_535 }));
        assert!(matches!(remade(&gif), Err(PictureError::TooManyPixels)));
        let walked = price(&&gif[..], Format::Gif).expect("memory");
        assert_eq!(walked, gif.len() as u64, "no pixel, and its frames are walked through");
    }

    proptest! {
        #[test]
        fn the_head_of_any_bytes_says_a_size_or_nothing(
            head in prop::sample::select(vec![
                &b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff", b"GIF89a", b"RIFF\x10\0\0\0WEBPVP8 ", b"",
            ]),
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = [head, &rest].concat();
            let size = announced_size(&bytes);
            prop_assert_eq!(announced_size(&bytes), size);
            prop_assert!(Format::of(&bytes).is_some() || size.is_none());
        }

        #[test]
        fn half_a_picture_and_a_changed_one_hurt_nothing(
            format in prop::sample::select(vec![ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif]),
            at: prop::sample::Index,
            value: u8,
            end: prop::sample::Index,
        ) {
            let mut bytes = encoded(&some_picture(24, 16), format);
            let at = at.index(bytes.len());
            bytes[at] = value;
            bytes.truncate(bytes.len() - end.index(bytes.len()) / 2);
            if let Ok((made, out, _)) = remade(&bytes) {
                prop_assert!(made.size.width.max(made.size.height) <= bounds::IMAGE_SIDE_MAX);
                prop_assert_eq!(Format::of(&out), Some(made.format));
            }
        }
    }
}

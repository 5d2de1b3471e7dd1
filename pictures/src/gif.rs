//! Animated pictures as they are, without what is no picture (GIF89a specification, 1990).
//!
//! Owns: the walk over the blocks of a GIF, which copies what is drawn and how it repeats, and
//! nothing else: comments, texts and the blocks of other programs (XMP may say where a picture was
//! taken) stay behind.
//! Never: unpacks a frame. So nothing can blow up here, and the colours stay what they are.
//! Bounds: [`bounds::GIF_PIXELS_MAX`], [`bounds::GIF_FRAMES_MAX`],
//! [`bounds::GIF_DRAWN_PIXELS_MAX`].

use std::io::{self, Read, Write};

use crate::{PictureError, Size, bounds, whole};

/// Copies the GIF `from` to `to`; its size.
pub(crate) fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<Size, PictureError> {
    let header: [u8; 13] = taken(from)?;
    if !header.starts_with(b"GIF87a") && !header.starts_with(b"GIF89a") {
        return Err(PictureError::Broken);
    }
    let size = Size { width: u16_at(&header, 6).into(), height: u16_at(&header, 8).into() };
    if size.pixels() == 0 {
        return Err(PictureError::Broken);
    }
    if size.pixels() > bounds::GIF_PIXELS_MAX {
        return Err(PictureError::TooManyPixels);
    }
    to.write_all(&header)?;
    colors(header[10], from, to)?;
    let (mut frames, mut drawn) = (0, 0_u64);
    loop {
        let [introducer] = taken(from)?;
        match introducer {
            0x21 => extension(from, to)?,
            0x2c => {
                let place: [u8; 9] = taken(from)?;
                frames += 1;
                drawn += u64::from(u16_at(&place, 4)) * u64::from(u16_at(&place, 6));
                if frames > bounds::GIF_FRAMES_MAX || drawn > bounds::GIF_DRAWN_PIXELS_MAX {
                    return Err(PictureError::TooManyPixels);
                }
                to.write_all(&[0x2c])?;
                to.write_all(&place)?;
                colors(place[8], from, to)?;
                let [code_size] = taken(from)?;
                to.write_all(&[code_size])?;
                blocks(from, to)?;
            }
            0x3b => break,
            _ => return Err(PictureError::Broken),
        }
    }
    if frames == 0 {
        return Err(PictureError::Broken);
    }
    to.write_all(&[0x3b])?;
    Ok(size)
}

/// The table of colours that `packed` announces.
fn colors(packed: u8, from: &mut impl Read, to: &mut impl Write) -> Result<(), PictureError> {
    if packed & 0x80 != 0 {
        let len = 3 * (2_u64 << (packed & 7));
        if io::copy(&mut from.take(len), to)? != len {
            return Err(PictureError::Broken);
        }
    }
    Ok(())
}

/// Copies how a frame is shown and how the animation repeats; skips everything else.
fn extension(from: &mut impl Read, to: &mut impl Write) -> Result<(), PictureError> {
    let [label, len] = taken(from)?;
    let mut first = [0; 255];
    let first = &mut first[..usize::from(len)];
    whole(from.read_exact(first))?;
    let kept = match label {
        0xf9 => true,
        0xff => *first == *b"NETSCAPE2.0" || *first == *b"ANIMEXTS1.0",
        _ => false,
    };
    if len == 0 {
        // An extension without any block: its end was read already.
        return Ok(());
    }
    if !kept {
        return blocks(from, &mut io::sink());
    }
    to.write_all(&[0x21, label, len])?;
    to.write_all(first)?;
    blocks(from, to)
}

/// Copies blocks up to the empty one, and that.
fn blocks(from: &mut impl Read, to: &mut impl Write) -> Result<(), PictureError> {
    let mut block = [0; 255];
    loop {
        let [len] = taken(from)?;
        let block = &mut block[..usize::from(len)];
        whole(from.read_exact(block))?;
        to.write_all(&[len])?;
        to.write_all(block)?;
        if len == 0 {
            return Ok(());
        }
    }
}

fn taken<const N: usize>(from: &mut impl Read) -> Result<[u8; N], PictureError> {
    let mut bytes = [0; N];
    whole(from.read_exact(&mut bytes))?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 2 x 1 pixels in `frames` frames that say that they are of 2 x `rows` pixels.
    fn gif(frames: usize, rows: u8) -> Vec<u8> {
        let mut gif = b"GIF89a\x02\0\x01\0\x80\0\0\0\0\0\xff\xff\xff".to_vec();
        gif.extend_from_slice(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0");
        gif.extend_from_slice(b"\x21\xff\x0bXMP DataXMP\x06secret\0");
        gif.extend_from_slice(b"\x21\xfe\x06secret\0");
        for _ in 0..frames {
            gif.extend_from_slice(b"\x21\xf9\x04\0\x0a\0\0\0");
            gif.extend_from_slice(&[0x2c, 0, 0, 0, 0, 2, 0, rows, 0, 0]);
            gif.extend_from_slice(b"\x02\x02\x44\x0a\0");
        }
        gif.push(0x3b);
        gif
    }

    fn copied(gif: &[u8]) -> Result<(Size, Vec<u8>), PictureError> {
        let mut out = Vec::new();
        copy(&mut &gif[..], &mut out).map(|size| (size, out))
    }

    #[test]
    fn frames_stay_and_texts_go() {
        let (size, out) = copied(&gif(3, 1)).expect("a picture");
        assert_eq!((size.width, size.height), (2, 1));
        assert_eq!(out.windows(6).filter(|word| word == b"secret").count(), 0);
        assert_eq!(out.windows(8).filter(|word| word == b"NETSCAPE").count(), 1);
        assert_eq!(out.windows(5).filter(|word| word == b"\x02\x02\x44\x0a\0").count(), 3);
        assert_eq!(copied(&out).expect("what comes out goes in").1, out);
    }

    #[test]
    fn what_is_behind_the_end_stays_behind() {
        let mut with_tail = gif(1, 1);
        with_tail.extend_from_slice(b"<script>alert(1)</script>");
        assert!(copied(&with_tail).expect("a picture").1.ends_with(&[0x3b]));
    }

    #[test]
    fn half_a_picture_is_none() {
        let whole = gif(2, 1);
        for end in 0..whole.len() {
            assert!(matches!(copied(&whole[..end]), Err(PictureError::Broken)), "{end}");
        }
        assert!(matches!(copied(&gif(0, 1)), Err(PictureError::Broken)));
    }

    #[test]
    fn frames_and_pixels_are_bounded() {
        let frames = usize::try_from(bounds::GIF_FRAMES_MAX).expect("a small number");
        assert!(copied(&gif(frames, 1)).is_ok());
        assert!(matches!(copied(&gif(frames + 1, 1)), Err(PictureError::TooManyPixels)));
        let mut huge = gif(1, 1);
        huge[6..10].copy_from_slice(b"\xff\xff\xff\xff");
        assert!(matches!(copied(&huge), Err(PictureError::TooManyPixels)));
    }
}

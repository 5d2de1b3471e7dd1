//! A picture that is made smaller, and upright, while its rows come: the whole of a large one is
//! never in memory.
//!
//! Owns: the size that is kept (at most [`bounds::IMAGE_SIDE_MAX`]), the mean over the area of each
//! pixel that is left, and where a pixel lies after the turn that the camera has asked for.
//! Bounds: [`bounds::IMAGE_SIDE_MAX`] squared times four bytes, and two rows.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage, RgbaImage};

use crate::{Size, bounds};

/// A picture that is whole already, made smaller in the memory that it has, and upright in new
/// memory then.
///
/// None if `pixels` are fewer than those of such a picture.
pub(crate) fn shrunk(pixels: Vec<u8>, size: Size, channels: usize, turn: Orientation) -> Option<DynamicImage> {
    let wide = size.width as usize * channels;
    let mut canvas = Canvas::over(pixels, size, channels);
    if canvas.from != canvas.to {
        let mut row = vec![0; wide];
        for y in 0..size.height as usize {
            // A row that is kept ends before the last one that it was made of.
            row.copy_from_slice(canvas.out.get(y * wide..(y + 1) * wide)?);
            canvas.row(&row);
        }
    }
    canvas.out.truncate(canvas.to.width as usize * canvas.to.height as usize * channels);
    canvas.out.shrink_to_fit();
    let mut picture = canvas.finish()?;
    picture.apply_orientation(turn);
    Some(picture)
}

/// See the module.
pub(crate) struct Canvas {
    /// Of what comes. No side is longer than [`bounds::IMAGE_COMING_SIDE_MAX`], so that no sum
    /// below overflows.
    from: Size,
    /// Of what is kept, before the turn.
    to: Size,
    /// 1 (grey), 3 (RGB) or 4 (RGBA) bytes a pixel.
    channels: usize,
    turn: Orientation,
    out: Vec<u8>,
    /// The next row of `to`.
    next: u32,
    /// A row that has come, as wide as `to`, with eight bits behind the point.
    narrow: Vec<u32>,
    /// Of the rows that have come for the next row, each weighed by its part in it.
    sums: Vec<u32>,
    /// What the next row still lacks, where `from.height` is a whole one.
    lacking: u32,
}

impl Canvas {
    /// An empty one for a picture of that size, which is not empty.
    pub(crate) fn new(from: Size, channels: usize, turn: Orientation) -> Self {
        let to = from.within(bounds::IMAGE_SIDE_MAX);
        let out = vec![0; to.width as usize * to.height as usize * channels];
        Self { turn, ..Self::over(out, from, channels) }
    }

    /// One that is not turned, and drawn into `out`.
    fn over(out: Vec<u8>, from: Size, channels: usize) -> Self {
        let to = from.within(bounds::IMAGE_SIDE_MAX);
        let width = to.width as usize * channels;
        Self {
            from,
            to,
            channels,
            turn: Orientation::NoTransforms,
            out,
            next: 0,
            narrow: vec![0; width],
            sums: vec![0; width],
            lacking: from.height,
        }
    }

    /// The memory that one takes.
    pub(crate) fn bytes(from: Size, channels: u64) -> u64 {
        from.within(bounds::IMAGE_SIDE_MAX).pixels() * channels
    }

    /// The next row, from the top; rows beyond the last are not looked at.
    pub(crate) fn row(&mut self, row: &[u8]) {
        if self.next >= self.to.height {
            return;
        }
        if self.from == self.to {
            return self.put_row(row);
        }
        match self.channels {
            1 => self.make_narrow::<1>(row),
            3 => self.make_narrow::<3>(row),
            _ => self.make_narrow::<4>(row),
        }
        // A row is `to.height` long where a row of `to` is `from.height`.
        let mut part = self.to.height;
        if part >= self.lacking {
            self.add(self.lacking);
            part -= self.lacking;
            let whole = self.finished();
            self.put_row(&whole);
            self.sums.fill(0);
            self.lacking = self.from.height;
        }
        self.add(part);
        self.lacking -= part;
    }

    fn make_narrow<const N: usize>(&mut self, row: &[u8]) {
        let (from, to) = (self.from.width, self.to.width);
        let (mut sums, mut lacking) = ([0_u32; N], from);
        let (pixels, _) = row.as_chunks::<N>();
        let (outs, _) = self.narrow.as_chunks_mut::<N>();
        let mut outs = outs.iter_mut();
        for &pixel in pixels {
            let pixel = weighed(pixel);
            let mut part = to;
            if part >= lacking {
                let Some(out) = outs.next() else { return };
                for at in 0..N {
                    // At most 255 * 65535 * 256, which 32 bits just hold.
                    out[at] = (sums[at] + pixel[at] * lacking) * 256 / from;
                }
                part -= lacking;
                (sums, lacking) = ([0; N], from);
            }
            for at in 0..N {
                sums[at] += pixel[at] * part;
            }
            lacking -= part;
        }
    }

    fn add(&mut self, part: u32) {
        for (sum, value) in self.sums.iter_mut().zip(&self.narrow) {
            *sum += value * part;
        }
    }

    /// The next row, whose sums are whole.
    fn finished(&self) -> Vec<u8> {
        let byte = |value: u32| u8::try_from((value + 128) / 256).unwrap_or(u8::MAX);
        let mut row: Vec<u8> = self.sums.iter().map(|sum| byte(sum / self.from.height)).collect();
        if self.channels == 4 {
            let (pixels, _) = row.as_chunks_mut::<4>();
            let (sums, _) = self.sums.as_chunks::<4>();
            for (pixel, sums) in pixels.iter_mut().zip(sums) {
                for at in 0..3 {
                    // What was multiplied by the opacity is divided by it; nobody sees what has
                    // none.
                    let color = u64::from(sums[at]) * 255 / u64::from(sums[3]).max(1);
                    pixel[at] = u8::try_from(color).unwrap_or(u8::MAX);
                }
            }
        }
        row
    }

    fn put_row(&mut self, row: &[u8]) {
        let (y, channels) = (self.next, self.channels);
        self.next += 1;
        if self.turn == Orientation::NoTransforms {
            let start = y as usize * self.to.width as usize * channels;
            for (to, from) in self.out.iter_mut().skip(start).zip(row) {
                *to = *from;
            }
            return;
        }
        let wide = self.turned().width;
        for (pixel, x) in row.chunks_exact(channels).zip(0..self.to.width) {
            let (x, y) = place(self.turn, self.to, x, y);
            let start = (y as usize * wide as usize + x as usize) * channels;
            if let Some(out) = self.out.get_mut(start..start + channels) {
                out.copy_from_slice(pixel);
            }
        }
    }

    fn turned(&self) -> Size {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        let Size { width, height } = self.to;
        match self.turn {
            Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH => Size { width: height, height: width },
            _ => self.to,
        }
    }

    /// The picture; rows that have not come are black.
    pub(crate) fn finish(self) -> Option<DynamicImage> {
        let Size { width, height } = self.turned();
        match self.channels {
            1 => GrayImage::from_raw(width, height, self.out).map(Into::into),
            3 => RgbImage::from_raw(width, height, self.out).map(Into::into),
            _ => RgbaImage::from_raw(width, height, self.out).map(Into::into),
        }
    }
}

/// A pixel for a mean: its colours count as much as it is seen.
fn weighed<const N: usize>(pixel: [u8; N]) -> [u32; N] {
    let mut weighed = pixel.map(u32::from);
    if N == 4 {
        let seen = weighed[3];
        for color in &mut weighed[..3] {
            *color = (*color * seen + 127) / 255;
        }
    }
    weighed
}

/// Where the pixel (`x`, `y`) of a picture of that size lies after the turn (Exif 2.32, tag 274).
fn place(turn: Orientation, size: Size, x: u32, y: u32) -> (u32, u32) {
    let (right, bottom) = (size.width - 1, size.height - 1);
    match turn {
        Orientation::NoTransforms => (x, y),
        Orientation::FlipHorizontal => (right - x, y),
        Orientation::FlipVertical => (x, bottom - y),
        Orientation::Rotate180 => (right - x, bottom - y),
        Orientation::Rotate90 => (bottom - y, x),
        Orientation::Rotate270 => (y, right - x),
        Orientation::Rotate90FlipH => (y, x),
        Orientation::Rotate270FlipH => (bottom - y, right - x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(picture: &DynamicImage, turn: Orientation) -> DynamicImage {
        let channels = usize::from(picture.color().channel_count());
        let size = Size { width: picture.width(), height: picture.height() };
        let mut canvas = Canvas::new(size, channels, turn);
        picture.as_bytes().chunks_exact(channels * size.width as usize).for_each(|row| canvas.row(row));
        canvas.finish().expect("a picture")
    }

    fn some_picture(width: u32, height: u32) -> DynamicImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x, y, x ^ y].map(|n| (n % 251) as u8))).into()
    }

    #[test]
    fn a_picture_is_turned_as_the_camera_says() {
        let picture = some_picture(5, 3);
        for exif in 1..=8 {
            let turn = Orientation::from_exif(exif).expect("one of eight");
            let mut expected = picture.clone();
            expected.apply_orientation(turn);
            assert_eq!(drawn(&picture, turn), expected, "{turn:?}");
        }
    }

    #[test]
    fn a_large_picture_is_its_mean() {
        let side = bounds::IMAGE_SIDE_MAX;
        let checks = |x: u32, y: u32| if (x + y).is_multiple_of(2) { [200, 0, 90] } else { [100, 50, 90] };
        let small =
            drawn(&RgbImage::from_fn(side * 2, 4, |x, y| image::Rgb(checks(x, y))).into(), Orientation::Rotate90);
        assert_eq!((small.width(), small.height()), (2, side));
        assert!(small.to_rgb8().pixels().all(|pixel| pixel.0 == [150, 25, 90]));
        for width in [side + 1, side * 3 / 2, side * 7 + 5] {
            let grey = GrayImage::from_fn(width, 3, |x, _| image::Luma([(x * 255 / width) as u8]));
            let small = drawn(&grey.into(), Orientation::NoTransforms).to_luma8();
            let expected = |x: u32| (x * 255 / side) as i32;
            for (x, _, pixel) in small.enumerate_pixels() {
                assert!((i32::from(pixel.0[0]) - expected(x)).abs() <= 1, "{width}: {x}");
            }
        }
        let white = drawn(&RgbImage::from_pixel(65_535, 700, image::Rgb([255; 3])).into(), Orientation::NoTransforms);
        assert!(white.to_rgb8().pixels().all(|pixel| pixel.0 == [255; 3]), "no sum overflows");
    }

    #[test]
    fn a_whole_picture_is_shrunk_where_it_is() {
        let side = bounds::IMAGE_SIDE_MAX;
        for (width, height) in [(5, 3), (side + 1, 40), (30, side * 2), (side * 3 + 7, 9)] {
            let picture = some_picture(width, height);
            for exif in [1, 3, 6] {
                let turn = Orientation::from_exif(exif).expect("one of eight");
                let shrunk = shrunk(picture.as_bytes().to_vec(), Size { width, height }, 3, turn);
                assert_eq!(shrunk, Some(drawn(&picture, turn)), "{width} x {height}, {turn:?}");
            }
            let less = picture.as_bytes()[1..].to_vec();
            assert_eq!(shrunk(less, Size { width, height }, 3, Orientation::NoTransforms), None);
        }
    }

    #[test]
    fn what_is_not_seen_gives_no_color() {
        let side = bounds::IMAGE_SIDE_MAX;
        let hidden = |x: u32, _| image::Rgba(if x.is_multiple_of(2) { [250, 10, 0, 255] } else { [0, 255, 255, 0] });
        let small = drawn(&RgbaImage::from_fn(side * 2, 1, hidden).into(), Orientation::NoTransforms).to_rgba8();
        for pixel in small.pixels() {
            assert!(pixel.0[0] >= 249 && pixel.0[1] <= 11 && pixel.0[2] == 0 && pixel.0[3] == 128, "{pixel:?}");
        }
    }
}

//! The decoder beside that of the library, on pictures of a third one's encoder; and what is no picture.

use image::{ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use proptest::prelude::*;

use super::*;

/// Soft colours, so that what each decoder makes of the colours between two blocks is nearly the same.
fn soft(width: u16, height: u16) -> Vec<u8> {
    let wave = |n: f32| (n.sin() * 100.0 + 128.0) as u8;
    let pixel = |x: u16, y: u16| {
        let (x, y) = (f32::from(x), f32::from(y));
        [wave(x / 23.0), wave(y / 31.0 + 1.0), wave((x + y) / 41.0 + 2.0)]
    };
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

/// How a picture is written.
#[derive(Clone, Copy, Debug)]
struct Way {
    factor: SamplingFactor,
    progressive: bool,
    restart: u16,
    grey: bool,
}

const PLAIN: Way = Way { factor: SamplingFactor::F_2_2, progressive: false, restart: 0, grey: false };

fn jpeg(width: u16, height: u16, way: Way) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, 92);
    encoder.set_sampling_factor(way.factor);
    encoder.set_progressive(way.progressive);
    encoder.set_restart_interval(way.restart);
    let mut pixels = soft(width, height);
    let mut color = ColorType::Rgb;
    if way.grey {
        pixels = pixels.into_iter().step_by(3).collect();
        color = ColorType::Luma;
    }
    encoder.encode(&pixels, width, height, color).expect("memory");
    out
}

fn drawn(bytes: &[u8]) -> Result<DynamicImage, BadPicture> {
    Jpeg::open(bytes)?.draw()
}

fn farthest(one: &RgbImage, other: &RgbImage) -> u8 {
    assert_eq!(one.dimensions(), other.dimensions());
    let differences = one.as_raw().iter().zip(other.as_raw()).map(|(one, other)| one.abs_diff(*other));
    differences.max().unwrap_or(0)
}

#[test]
fn every_way_to_write_a_picture_is_read_as_the_library_reads_it() {
    use SamplingFactor::{F_1_1, F_1_2, F_2_1, F_2_2};
    let sizes = [(64, 48), (61, 47), (1, 1), (8, 9), (300, 17)];
    for (width, height) in sizes {
        for factor in [F_1_1, F_2_1, F_1_2, F_2_2] {
            for (progressive, restart, grey) in [
                (false, 0, false),
                (false, 3, false),
                (true, 0, false),
                (true, 2, false),
                (false, 5, true),
                (true, 0, true),
            ] {
                let way = Way { factor, progressive, restart, grey };
                let bytes = jpeg(width, height, way);
                let picture = drawn(&bytes).unwrap_or_else(|why| panic!("{why}: {way:?}")).into_rgb8();
                let known = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg).expect("a JPEG").into_rgb8();
                let far = farthest(&picture, &known);
                // A colour is told once for up to four pixels in a line, and blended or not.
                assert!(
                    far <= if grey || matches!(factor, F_1_1) { 4 } else { 32 },
                    "{far}: {width} x {height}, {way:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_blended_is_still_the_picture() {
    // Also where the library is at a loss.
    for (width, height) in [(640, 480), (61, 47), (8, 9)] {
        let known = soft(width, height);
        for factor in [SamplingFactor::F_2_2, SamplingFactor::F_4_1, SamplingFactor::F_4_2] {
            for progressive in [false, true] {
                let bytes = jpeg(width, height, Way { factor, progressive, ..PLAIN });
                let picture = drawn(&bytes).expect("a JPEG").into_rgb8();
                let differences =
                    picture.as_raw().iter().zip(&known).map(|(one, other)| u64::from(one.abs_diff(*other)));
                let mean = differences.sum::<u64>() / known.len() as u64;
                assert!(mean <= 4, "{factor:?}, {width} x {height}: {mean}");
            }
        }
    }
}

#[test]
fn a_large_picture_becomes_smaller_and_upright() {
    let mut bytes = jpeg(5120, 2600, PLAIN);
    let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let length = u16::try_from(exif.len() + 2).expect("short").to_be_bytes();
    bytes.splice(2..2, [&[0xff, 0xe1], &length[..], exif].concat());
    let picture = drawn(&bytes).expect("a JPEG");
    assert_eq!((picture.width(), picture.height()), (1300, 2560));
    let known = RgbImage::from_raw(5120, 2600, soft(5120, 2600)).expect("a picture");
    let (corner, from) = (picture.into_rgb8().get_pixel(1299, 0).0, known.get_pixel(0, 0).0);
    assert!(corner.iter().zip(from).all(|(one, other)| one.abs_diff(other) < 12), "{corner:?}, {from:?}");
}

#[test]
fn half_a_picture_is_none() {
    for progressive in [false, true] {
        let bytes = jpeg(100, 60, Way { progressive, ..PLAIN });
        for end in (0..bytes.len() - 2).step_by(7) {
            assert!(drawn(&bytes[..end]).is_err(), "{end} of {}", bytes.len());
        }
    }
}

#[test]
fn what_takes_too_much_is_refused_before_it_is_taken() {
    let mut bytes = jpeg(16, 16, PLAIN);
    let frame = bytes.windows(2).position(|two| two == [0xff, 0xc0]).expect("a frame");
    bytes[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert!(matches!(drawn(&bytes), Err(BadPicture::TooManyPixels)));
    let mut bytes = jpeg(16, 16, Way { progressive: true, ..PLAIN });
    let frame = bytes.windows(2).position(|two| two == [0xff, 0xc2]).expect("a frame");
    bytes[frame + 5..frame + 9].copy_from_slice(&[0x1f, 0xff, 0x1f, 0xff]);
    assert!(matches!(drawn(&bytes), Err(BadPicture::TooManyPixels)), "64 million pixels, but not as a whole");
    // Scans without end: each is a walk over all blocks.
    let mut bytes = jpeg(16, 16, Way { progressive: true, grey: true, ..PLAIN });
    let from = bytes.windows(2).rposition(|two| two == [0xff, 0xda]).expect("a scan");
    let scan = bytes[from..bytes.len() - 2].to_vec();
    let end = bytes.len() - 2;
    bytes.splice(end..end, scan.repeat(limits::JPEG_SCANS_MAX));
    assert!(drawn(&bytes).is_err());
}

proptest! {
    #[test]
    fn no_bytes_hurt(progressive: bool, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = jpeg(40, 24, Way { progressive, restart: 2, ..PLAIN });
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = drawn(&bytes);
    }
}

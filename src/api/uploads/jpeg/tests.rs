//! What comes at a smaller scale beside what the decoder of the library makes of the whole; and what is no picture.

use image::imageops::thumbnail;
use image::{ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use proptest::prelude::*;

use super::*;

/// Soft colours, so that what each decoder makes of the colours between two blocks is nearly the same.
fn soft(width: u16, height: u16) -> Vec<u8> {
    let wave = |n: f32| (n.sin() * 100.0 + 128.0) as u8;
    let pixel = |x: u16, y: u16| {
        let (x, y) = (f32::from(x), f32::from(y));
        [wave(x / 43.0), wave(y / 51.0 + 1.0), wave((x + y) / 61.0 + 2.0)]
    };
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

/// How a picture is written.
#[derive(Clone, Copy, Debug)]
struct Way {
    factor: SamplingFactor,
    progressive: bool,
    restart: u16,
    color: ColorType,
}

const PLAIN: Way = Way { factor: SamplingFactor::F_2_2, progressive: false, restart: 0, color: ColorType::Rgb };
const IN_STEPS: Way = Way { progressive: true, ..PLAIN };
const GREY: Way = Way { color: ColorType::Luma, ..PLAIN };

fn jpeg(width: u16, height: u16, way: Way) -> Vec<u8> {
    let pixels = match way.color {
        ColorType::Luma => soft(width, height).into_iter().step_by(3).collect(),
        ColorType::Cmyk => vec![99; usize::from(width) * usize::from(height) * 4],
        _ => soft(width, height),
    };
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, 92);
    encoder.set_sampling_factor(way.factor);
    encoder.set_progressive(way.progressive);
    encoder.set_restart_interval(way.restart);
    encoder.encode(&pixels, width, height, way.color).expect("memory");
    out
}

/// Says that it is of another size.
fn resized(mut bytes: Vec<u8>, width: u16, height: u16) -> Vec<u8> {
    let frame = bytes.windows(2).position(|two| matches!(two, [0xff, 0xc0 | 0xc2])).expect("a frame");
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// `bytes` as they are unpacked where nothing more fits than the picture at `eighths`.
fn unpacked_at(bytes: &[u8], eighths: u32) -> Result<RgbImage, BadPicture> {
    let head = Head::read(bytes)?;
    let (picture, _) = unpacked(bytes, &head, limits::IMAGE_BYTES_MAX - head.bytes_at(eighths))?;
    Ok(picture.into_rgb8())
}

fn unpacked_alone(bytes: &[u8]) -> Result<(DynamicImage, Option<Vec<u8>>), BadPicture> {
    unpacked(bytes, &Head::read(bytes)?, bytes.len() as u64)
}

#[test]
fn at_every_scale_it_is_the_picture_that_the_library_shows() {
    use SamplingFactor::{F_1_1, F_1_2, F_2_1, F_2_2, F_4_1};
    for (width, height) in [(640, 480), (611, 397), (1, 1), (8, 200), (300, 17)] {
        for factor in [F_1_1, F_2_1, F_1_2, F_2_2, F_4_1] {
            let ways = [PLAIN, IN_STEPS, GREY, Way { restart: 3, ..PLAIN }, Way { progressive: true, ..GREY }];
            for way in ways.map(|way| Way { factor, ..way }) {
                let bytes = jpeg(width, height, way);
                let known = RgbImage::from_raw(width.into(), height.into(), soft(width, height)).expect("a picture");
                let known = if matches!(way.color, ColorType::Luma) {
                    image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg).expect("a JPEG").into_rgb8()
                } else {
                    known
                };
                for eighths in [8, 4, 2, 1] {
                    let picture = unpacked_at(&bytes, eighths).unwrap_or_else(|why| panic!("{why}: {way:?}"));
                    let size = [u32::from(width), u32::from(height)].map(|side| (side * eighths).div_ceil(8));
                    assert_eq!([picture.width(), picture.height()], size, "{eighths} eighths, {way:?}");
                    let known = thumbnail(&known, picture.width(), picture.height());
                    let differences =
                        picture.as_raw().iter().zip(known.as_raw()).map(|(one, other)| one.abs_diff(*other));
                    let mean = differences.map(u64::from).sum::<u64>() / known.as_raw().len() as u64;
                    assert!(mean <= 4, "{mean}: {width} x {height} at {eighths} eighths, {way:?}");
                }
            }
        }
    }
}

#[test]
fn a_photo_of_24_million_pixels_becomes_smaller_and_upright() {
    let mut bytes = jpeg(6000, 4000, PLAIN);
    let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let profile = [b"ICC_PROFILE\0\x01\x01", &[7; 300][..]].concat();
    for (code, segment) in [(0xe1, &exif[..]), (0xe2, &profile[..])] {
        let length = u16::try_from(segment.len() + 2).expect("short").to_be_bytes();
        bytes.splice(2..2, [&[0xff, code], &length[..], segment].concat());
    }
    let (picture, profile) = unpacked_alone(&bytes).expect("a JPEG");
    assert_eq!((picture.width(), picture.height()), (1707, 2560));
    assert_eq!(profile, Some(vec![7; 300]));
    let (picture, known) = (picture.into_rgb8(), soft(6000, 4000));
    for (x, y) in [(0, 0), (3000, 2000), (5990, 10), (17, 3980)] {
        let at = (picture.width() - 1 - y * 2560 / 6000, x * 2560 / 6000);
        let (pixel, from) = (picture.get_pixel(at.0, at.1).0, &known[(y as usize * 6000 + x as usize) * 3..][..3]);
        assert!(pixel.iter().zip(from).all(|(one, other)| one.abs_diff(*other) < 12), "{x}, {y}: {pixel:?}, {from:?}");
    }
}

#[test]
fn no_scale_is_smaller_than_it_must_be() {
    let small = jpeg(16, 16, PLAIN);
    for (width, height, eighths) in [(3648, 2736, 8), (4032, 3024, 4), (6000, 4000, 4), (8160, 6144, 2)] {
        let head = Head::read(&resized(small.clone(), width, height)[..]).expect("a head");
        assert_eq!(head.eighths(0), Some(eighths), "{width} x {height}");
    }
}

#[test]
fn half_a_picture_is_none() {
    for way in [PLAIN, IN_STEPS, GREY] {
        let bytes = jpeg(100, 60, way);
        for end in (0..bytes.len() - 2).step_by(7) {
            assert!(unpacked_alone(&bytes[..end]).is_err(), "{end} of {}", bytes.len());
        }
    }
}

#[test]
fn what_takes_too_much_is_refused_before_it_is_taken() {
    let refused = |bytes: &[u8]| matches!(unpacked_alone(bytes), Err(BadPicture::TooManyPixels));
    assert!(refused(&resized(jpeg(16, 16, PLAIN), 0xffff, 0xffff)));
    for (width, height) in [(8191, 8191), (6000, 4000), (0xffff, 500)] {
        let bytes = resized(jpeg(16, 16, IN_STEPS), width, height);
        assert!(refused(&bytes), "{width} x {height} are few enough, but their coefficients are not");
    }
    let printed = jpeg(16, 16, Way { color: ColorType::Cmyk, ..PLAIN });
    assert!(refused(&printed), "nobody sees the four colours of a printer");
    let notes = Head::read(&jpeg(16, 16, PLAIN)[..]).expect("a head").eighths(limits::IMAGE_BYTES_MAX);
    assert_eq!(notes, None);
}

#[test]
fn scans_without_end_are_no_picture() {
    // Each is a walk over all blocks.
    let bytes = jpeg(16, 16, Way { progressive: true, ..GREY });
    let from = bytes.windows(2).rposition(|two| two == [0xff, 0xda]).expect("a scan");
    let (end, scan) = (bytes.len() - 2, &bytes[from..bytes.len() - 2]);
    for (more, is_one) in [(limits::JPEG_SCANS_MAX / 2, true), (limits::JPEG_SCANS_MAX, false)] {
        let bytes = [&bytes[..end], &scan.repeat(more), &bytes[end..]].concat();
        assert_eq!(unpacked_alone(&bytes).is_ok(), is_one, "{more} more");
        let mut scans = Scans { from: Halting(&bytes), last: 0, seen: 0 };
        assert_eq!(io::copy(&mut scans, &mut io::sink()).is_ok(), is_one, "{more} more, byte by byte");
    }
}

/// Gives a byte at once.
struct Halting<'a>(&'a [u8]);

impl Read for Halting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

#[test]
fn what_the_head_does_not_say_is_no_picture() {
    let known = jpeg(16, 16, PLAIN);
    let head = Head::read(&known[..]).expect("a head");
    for other in [jpeg(16, 24, PLAIN), jpeg(16, 16, GREY), jpeg(16, 16, IN_STEPS)] {
        assert!(matches!(unpacked(&other[..], &head, 0), Err(BadPicture::Broken)));
    }
    for kind in [0xc3, 0xc5, 0xc9, 0xcf] {
        let frame = known.windows(2).position(|two| two == [0xff, 0xc0]).expect("a frame");
        let mut bytes = known.clone();
        bytes[frame + 1] = kind;
        assert!(matches!(Head::read(&bytes[..]), Err(BadPicture::Broken)), "{kind:x}");
    }
}

proptest! {
    #[test]
    fn no_bytes_hurt(progressive: bool, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = jpeg(40, 24, Way { progressive, restart: 2, ..PLAIN });
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = unpacked_alone(&bytes);
    }

    #[test]
    fn a_head_of_any_bytes_is_one_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Head::read(&[&[0xff, 0xd8, 0xff, 0xc0], &bytes[..]].concat()[..]);
    }
}

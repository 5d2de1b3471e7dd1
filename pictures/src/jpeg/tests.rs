//! What comes at a smaller scale beside what the decoder of the library makes of the whole; and
//! what is no picture.

use image::imageops::thumbnail;
use image::{ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use proptest::prelude::*;

use super::*;

/// Soft colours, so that what each decoder makes of the colours between two blocks is nearly the
/// same.
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

/// With a segment right behind the begin.
fn with_segment(bytes: &[u8], code: u8, segment: &[u8]) -> Vec<u8> {
    let length = u16::try_from(segment.len() + 2).expect("short").to_be_bytes();
    [&bytes[..2], &[0xff, code], &length, segment, &bytes[2..]].concat()
}

fn unpacked_alone(bytes: &[u8]) -> Result<(DynamicImage, Option<Vec<u8>>), PictureError> {
    unpacked(bytes, &Outline::read(bytes)?)
}

fn outline_of(bytes: &[u8]) -> Outline {
    Outline::read(bytes).expect("an outline")
}

fn by_library(bytes: &[u8]) -> RgbImage {
    image::load_from_memory_with_format(bytes, ImageFormat::Jpeg).expect("a JPEG").into_rgb8()
}

/// How far two pictures of one size are from each other, in the mean of all bytes.
fn mean_difference(one: &RgbImage, other: &RgbImage) -> u64 {
    assert_eq!(one.dimensions(), other.dimensions());
    let differences = one.as_raw().iter().zip(other.as_raw()).map(|(one, other)| u64::from(one.abs_diff(*other)));
    differences.sum::<u64>() / one.as_raw().len() as u64
}

#[test]
fn at_every_scale_it_is_the_picture_that_the_library_shows() {
    use SamplingFactor::{F_1_1, F_1_2, F_2_1, F_2_2, F_4_1};
    for (width, height) in [(640, 480), (611, 397), (1, 1), (8, 200), (300, 17)] {
        for factor in [F_1_1, F_2_1, F_1_2, F_2_2, F_4_1] {
            let ways = [PLAIN, IN_STEPS, GREY, Way { restart: 3, ..PLAIN }, Way { progressive: true, ..GREY }];
            for way in ways.map(|way| Way { factor, ..way }) {
                let bytes = jpeg(width, height, way);
                let known = if matches!(way.color, ColorType::Luma) {
                    by_library(&bytes)
                } else {
                    RgbImage::from_raw(width.into(), height.into(), soft(width, height)).expect("a picture")
                };
                // At an eighth, a colour that comes for 32 pixels at once is seen.
                let most = if matches!(factor, F_4_1) { 8 } else { 4 };
                for eighths in [8, 4, 2, 1] {
                    let (picture, _) = unpacked_at(&bytes[..], &outline_of(&bytes), eighths).expect("a picture");
                    let size = [u32::from(width), u32::from(height)].map(|side| (side * eighths).div_ceil(8));
                    assert_eq!([picture.width(), picture.height()], size, "{eighths} eighths, {way:?}");
                    let known = thumbnail(&known, picture.width(), picture.height());
                    let mean = mean_difference(&picture.into_rgb8(), &known);
                    assert!(mean <= most, "{mean}: {width} x {height} at {eighths} eighths, {way:?}");
                }
            }
        }
    }
}

#[test]
fn a_photo_of_24_million_pixels_becomes_smaller_and_upright() {
    let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let profile = [b"ICC_PROFILE\0\x01\x01", &[7; 300][..]].concat();
    let bytes = with_segment(&with_segment(&jpeg(6000, 4000, PLAIN), 0xe1, exif), 0xe2, &profile);
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
    for (width, height, eighths) in [(2592, 1944, 8), (4032, 3024, 4), (6000, 4000, 4), (8160, 6144, 2)] {
        let outline = outline_of(&resized(small.clone(), width, height));
        assert_eq!(outline.eighths(), Some(eighths), "{width} x {height}");
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
    let refused = |bytes: &[u8]| matches!(unpacked_alone(bytes), Err(PictureError::TooManyPixels));
    assert!(refused(&resized(jpeg(16, 16, PLAIN), 0xffff, 0xffff)));
    for (width, height) in [(8191, 8191), (6000, 4000), (0xffff, 500)] {
        let bytes = resized(jpeg(16, 16, IN_STEPS), width, height);
        assert!(refused(&bytes), "{width} x {height} are few enough, but their coefficients are not");
    }
    let notes = vec![0; 64_000];
    let noted = (0..400).fold(jpeg(16, 16, PLAIN), |bytes, _| with_segment(&bytes, 0xe2, &notes));
    assert!(refused(&noted), "25 MB of a colour profile");
}

#[test]
fn what_is_not_brought_to_its_end_takes_more_memory() {
    let bytes = jpeg(160, 160, IN_STEPS);
    let last = bytes.windows(2).rposition(|two| two == [0xff, 0xda]).expect("a scan");
    let less = [&bytes[..last], &[0xff, 0xd9]].concat();
    let copied = outline_of(&less).bytes_at(1) - outline_of(&bytes).bytes_at(1);
    assert!([100, 400].contains(&(copied / 128)), "{copied} bytes: the blocks of a channel");
    // It is shown as far as it came.
    let (whole, part) = (unpacked_alone(&bytes).expect("whole").0, unpacked_alone(&less).expect("a part").0);
    assert!(mean_difference(&whole.into_rgb8(), &part.into_rgb8()) < 16);
}

#[test]
fn what_a_printer_would_print_is_shown() {
    let inks: Vec<u8> = soft(160, 120).chunks_exact(3).flat_map(|rgb| [rgb[0], rgb[1], rgb[2], rgb[0] / 3]).collect();
    for color in [ColorType::Cmyk, ColorType::CmykAsYcck] {
        for progressive in [false, true] {
            let mut bytes = Vec::new();
            let mut encoder = Encoder::new(&mut bytes, 95);
            encoder.set_sampling_factor(SamplingFactor::F_1_1);
            encoder.set_progressive(progressive);
            encoder.encode(&inks, 160, 120, color).expect("memory");
            for eighths in [8, 4, 2] {
                let (picture, _) = unpacked_at(&bytes[..], &outline_of(&bytes), eighths).expect("a picture");
                let known = thumbnail(&by_library(&bytes), picture.width(), picture.height());
                let mean = mean_difference(&picture.into_rgb8(), &known);
                assert!(mean <= 3, "{mean}: {color:?}, progressive {progressive}, {eighths} eighths");
            }
        }
    }
}

#[test]
fn scans_and_notes_without_end_are_no_picture() {
    // Each scan is a walk over all blocks.
    let bytes = jpeg(16, 16, Way { progressive: true, ..GREY });
    let from = bytes.windows(2).rposition(|two| two == [0xff, 0xda]).expect("a scan");
    let (end, scan) = (bytes.len() - 2, &bytes[from..bytes.len() - 2]);
    for (more, is_one) in [(bounds::JPEG_SCANS_MAX / 2, true), (bounds::JPEG_SCANS_MAX, false)] {
        let bytes = [&bytes[..end], &scan.repeat(more), &bytes[end..]].concat();
        assert_eq!(unpacked_alone(&bytes).is_ok(), is_one, "{more} more");
    }
    // A decoder keeps each with what it needs to put them together.
    let note = b"\xff\xe2\0\x11ICC_PROFILE\0\x01\xffx";
    for (notes, is_one) in [(bounds::JPEG_SEGMENTS_MAX - 100, true), (bounds::JPEG_SEGMENTS_MAX, false)] {
        let bytes = [&bytes[..2], &note.repeat(notes), &bytes[2..]].concat();
        assert_eq!(Outline::read(&bytes[..]).is_ok(), is_one, "{notes} notes");
    }
}

#[test]
fn what_the_outline_does_not_say_is_no_picture() {
    let known = jpeg(16, 16, PLAIN);
    let outline = outline_of(&known);
    for other in [jpeg(16, 24, PLAIN), jpeg(16, 16, GREY), jpeg(16, 16, IN_STEPS)] {
        assert!(matches!(unpacked(&other[..], &outline), Err(PictureError::Broken)));
    }
    let frame = known.windows(2).position(|two| two == [0xff, 0xc0]).expect("a frame");
    // Processes that are never sent, samples of 12 and 16 bits, two and five channels, blocks of
    // five.
    let (process, depth, channels, factors) = (frame + 1, frame + 4, frame + 9, frame + 11);
    let changes = [0xc3, 0xc5, 0xc9, 0xcf].map(|code| (process, code));
    for (at, value) in
        changes.into_iter().chain([(depth, 12), (depth, 16), (channels, 2), (channels, 5), (factors, 0x51)])
    {
        let mut bytes = known.clone();
        bytes[at] = value;
        assert!(matches!(Outline::read(&bytes[..]), Err(PictureError::Broken)), "{at}: {value:x}");
    }
    let twice = [&known[..frame], &known[frame..frame + 19], &known[frame..]].concat();
    assert!(matches!(Outline::read(&twice[..]), Err(PictureError::Broken)), "two frames");
}

fn any_way() -> impl Strategy<Value = Way> {
    use SamplingFactor::{F_1_1, F_1_2, F_2_1, F_2_2};
    let factor = prop::sample::select(vec![F_1_1, F_1_2, F_2_1, F_2_2]);
    let color = prop_oneof![Just(ColorType::Rgb), Just(ColorType::Luma)];
    (factor, any::<bool>(), 0_u16..9, color).prop_map(|(factor, progressive, restart, color)| Way {
        factor,
        progressive,
        restart,
        color,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn at_full_size_it_is_what_the_library_shows(width in 1_u16..160, height in 1_u16..160, way in any_way()) {
        let bytes = jpeg(width, height, way);
        let (picture, _) = unpacked_at(&bytes[..], &outline_of(&bytes), 8).expect("a picture");
        let mean = mean_difference(&picture.into_rgb8(), &by_library(&bytes));
        prop_assert!(mean <= 3, "{}", mean);
    }
}

proptest! {
    #[test]
    fn no_bytes_hurt(
        way in any_way(),
        end: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
    ) {
        let mut bytes = jpeg(40, 24, way);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - end.index(bytes.len()) / 2);
        // A panic of a decoder is a broken picture to the caller, but ours would be a mistake.
        let Ok(outline) = Outline::read(&bytes[..]) else { return Ok(()) };
        prop_assert!(outline.size.pixels() <= bounds::IMAGE_PIXELS_MAX);
        let Some(eighths) = outline.eighths() else { return Ok(()) };
        prop_assert!(outline.bytes_at(eighths) <= bounds::IMAGE_BYTES_MAX);
        if outline.bytes_at(eighths) < 1024 * 1024
            && let Ok((picture, _)) = unpacked(&bytes[..], &outline)
        {
            prop_assert_eq!((picture.width(), picture.height()), (outline.size.width, outline.size.height));
        }
    }

    #[test]
    fn an_outline_of_any_bytes_is_one_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Outline::read(&[&[0xff, 0xd8, 0xff, 0xc0], &bytes[..]].concat()[..]);
    }
}

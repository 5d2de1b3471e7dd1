//! Places are blanked wherever cameras write them, and nothing else is.

use std::io::Cursor;

use proptest::prelude::*;

use super::super::kind::Kind;
use super::*;

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len() + 8).expect("small").to_be_bytes();
    [&len[..], kind, content].concat()
}

fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

fn ftyp(brand: &[u8; 4]) -> Vec<u8> {
    boxed(b"ftyp", &[&brand[..], b"\0\0\0\0mp42"].concat())
}

/// What becomes of a file.
fn blanked(file: &[u8]) -> Result<Vec<u8>, BadBoxes> {
    let mut copy = Cursor::new(file.to_vec());
    let changed = blank_places(&mut copy, file.len() as u64)?;
    assert!(changed || copy.get_ref() == file, "it says that it has changed");
    assert_eq!(copy.get_ref().len(), file.len());
    Ok(copy.into_inner())
}

fn holds(file: &[u8], word: &[u8]) -> bool {
    file.windows(word.len()).any(|window| window == word)
}

/// `meta` with a key for each text, and the text as its value.
fn mdta(said: &[(&str, &str)], has_version: bool) -> Vec<u8> {
    let count = u32::try_from(said.len()).expect("few").to_be_bytes();
    let keys: Vec<_> = said.iter().map(|(key, _)| boxed(b"mdta", key.as_bytes())).collect();
    let values = said.iter().zip(1_u32..).map(|((_, value), number)| {
        boxed(&number.to_be_bytes(), &boxed(b"data", &[b"\0\0\0\x01\0\0\0\0", value.as_bytes()].concat()))
    });
    let content = joined(&[
        if has_version { vec![0; 4] } else { Vec::new() },
        boxed(b"hdlr", b"\0\0\0\0\0\0\0\0mdta"),
        boxed(b"keys", &[&[0; 4][..], &count, &joined(&keys)].concat()),
        boxed(b"ilst", &joined(&values.collect::<Vec<_>>())),
    ]);
    boxed(b"meta", &content)
}

fn track(format: &[u8; 4], said: &[u8]) -> Vec<u8> {
    let stsd = boxed(b"stsd", &[&b"\0\0\0\0\0\0\0\x01"[..], &boxed(format, said)].concat());
    boxed(b"trak", &boxed(b"mdia", &boxed(b"minf", &boxed(b"stbl", &stsd))))
}

/// A film of a phone, with `meta` as QuickTime or as MPEG writes it.
fn film(has_version: bool) -> Vec<u8> {
    let said = [
        ("com.apple.quicktime.make", "Make"),
        ("com.apple.quicktime.location.ISO6709", "+48.1SECRET"),
        ("com.apple.quicktime.location.accuracy.horizontal", "4.7SECRET"),
        ("com.apple.quicktime.software", "17.1"),
    ];
    let udta = joined(&[
        boxed(b"\xa9xyz", b"\0\x11\x15\xc7+48.1SECRET/"),
        boxed(b"loci", b"\0\0\0\0\x15\xc7SECRET\0\0"),
        boxed(b"XMP_", b"<x:xmpmeta>SECRET"),
        boxed(b"name", b"a name"),
    ]);
    let moov = [boxed(b"mvhd", &[7; 100]), track(b"avc1", b"format"), boxed(b"udta", &udta), mdta(&said, has_version)];
    let xmp = [&NOTES[0][..], b"<x:xmpmeta>SECRET"].concat();
    joined(&[
        ftyp(b"isom"),
        boxed(b"moov", &joined(&moov)),
        boxed(b"uuid", &xmp),
        boxed(b"mdat", b"\xa9xyz loci +48.1 is part of the film"),
    ])
}

#[test]
fn a_film_loses_its_place_and_nothing_else() {
    for has_version in [false, true] {
        let film = film(has_version);
        let after = blanked(&film).expect("a film");
        assert!(holds(&film, b"SECRET") && !holds(&after, b"SECRET"), "{has_version}");
        for kept in
            [&b"a name"[..], b"Make", b"17.1", b"format", b"is part of the film", b"\xa9xyz loci", b"location.ISO6709"]
        {
            assert!(holds(&after, kept), "{}", kept.escape_ascii());
        }
        let changed: Vec<_> = (0..film.len()).filter(|&at| film[at] != after[at]).collect();
        assert!(changed.len() < 150, "{changed:?}");
        assert_eq!(blanked(&after).expect("a film"), after, "there is nothing more to do");
    }
}

#[test]
fn a_track_that_follows_the_camera_is_refused() {
    for (format, said) in [(b"gpmd", &b""[..]), (b"camm", b""), (b"rtmd", b""), (b"mebx", b"keys com.x.location.y")] {
        let file = joined(&[ftyp(b"mp42"), boxed(b"moov", &track(format, said))]);
        assert!(matches!(blanked(&file), Err(BadBoxes::PlaceTrack)), "{}", format.escape_ascii());
    }
    for said in ["application/gpx+xml", "application/geo+json", "urn:x:Location"] {
        for format in [b"mett", b"metx", b"urim"] {
            let file = joined(&[ftyp(b"mp42"), boxed(b"moov", &track(format, said.as_bytes()))]);
            assert!(matches!(blanked(&file), Err(BadBoxes::PlaceTrack)), "{said}");
        }
    }
    for (format, said) in [(b"mebx", &b"detected-face"[..]), (b"mett", b"application/motionphoto-image-meta")] {
        let file = joined(&[ftyp(b"qt  "), boxed(b"moov", &track(format, said))]);
        assert_eq!(blanked(&file).expect("notes of another sort"), file);
    }
}

/// A box whose size has 64 bits.
fn wide(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u64 + 16).to_be_bytes();
    [&b"\0\0\0\x01"[..], kind, &len, content].concat()
}

#[test]
fn a_place_is_found_behind_free_room_in_wide_boxes_and_in_fragments() {
    let place = boxed(b"\xa9xyz", b"\0\x11\x15\xc7+48.1SECRET/");
    let noted = boxed(b"udta", &joined(&[place.clone(), boxed(b"name", b"a name")]));
    let id3 = [vec![0; 4], boxed(b"hdlr", b"\0\0\0\0\0\0\0\0ID32"), boxed(b"ID32", b"\0\0\0\0\x15\xc7ID3 SECRET")];
    for film in [
        joined(&[boxed(b"free", b"...."), ftyp(b"isom"), boxed(b"moov", &noted)]),
        joined(&[boxed(b"wide", b""), boxed(b"mdat", b"film"), boxed(b"moov", &noted)]),
        joined(&[
            wide(b"free", b"...."),
            ftyp(b"isom"),
            wide(b"moov", &wide(b"udta", &joined(&[place, boxed(b"name", b"a name")]))),
        ]),
        joined(&[boxed(b"styp", b"msdh\0\0\0\0"), boxed(b"moof", &boxed(b"traf", &noted)), boxed(b"mdat", b"film")]),
        joined(&[
            ftyp(b"M4A "),
            boxed(b"moov", &boxed(b"meta", &joined(&id3))),
            boxed(b"udta", &boxed(b"name", b"a name")),
        ]),
        joined(&[ftyp(b"M4A "), boxed(b"meta", &joined(&id3)), boxed(b"udta", &boxed(b"name", b"a name"))]),
    ] {
        assert!(Kind::has_boxes(&film), "{}", film.escape_ascii());
        let after = blanked(&film).expect("a film");
        assert!(!holds(&after, b"SECRET") && holds(&after, b"a name"), "{}", after.escape_ascii());
    }
}

/// A picture with Exif in `mdat`, XMP in `idat`, and the picture behind the Exif.
fn picture(version: u8) -> Vec<u8> {
    let infe = |id: u8, kind: &[u8; 4]| boxed(b"infe", &[&[2, 0, 0, 0, 0, id, 0, 0][..], kind, b"\0"].concat());
    let iinf = [&b"\0\0\0\0\0\x03"[..], &infe(1, b"hvc1"), &infe(2, b"Exif"), &infe(3, b"mime")].concat();
    let exif = b"\0\0\0\0II*\0\x08\0\0\0 SECRET gps ";
    let xmp = b"<x:xmpmeta>SECRET";
    let build = |at: u32| {
        let mut iloc = vec![version, 0, 0, 0, 0x44, 0x00, 0, 3];
        for (id, method, from, len) in
            [(1, 0, at + exif.len() as u32, 11), (2, 0, at, exif.len() as u32), (3, 1, 0, xmp.len() as u32)]
        {
            iloc.extend_from_slice(&[0, id]);
            if version > 0 {
                iloc.extend_from_slice(&[0, method]);
            }
            iloc.extend_from_slice(&[0, 0, 0, 1]);
            iloc.extend_from_slice(&u32::to_be_bytes(from));
            iloc.extend_from_slice(&u32::to_be_bytes(len));
        }
        let meta = joined(&[
            vec![0; 4],
            boxed(b"hdlr", b"\0\0\0\0\0\0\0\0pict"),
            boxed(b"iinf", &iinf),
            boxed(b"iloc", &iloc),
            boxed(b"idat", xmp),
        ]);
        joined(&[ftyp(b"heic"), boxed(b"meta", &meta), boxed(b"mdat", &[&exif[..], b"the picture"].concat())])
    };
    let at = build(0).len() - 11 - exif.len();
    build(u32::try_from(at).expect("small"))
}

#[test]
fn a_picture_in_boxes_loses_its_notes() {
    let after = blanked(&picture(1)).expect("a picture");
    assert!(!holds(&after, b"SECRET") && holds(&after, b"the picture") && holds(&after, &EMPTY_EXIF));
    // Without methods nothing lies in `idat`.
    let after = blanked(&picture(0)).expect("a picture");
    assert!(!holds(&after, b"SECRET gps") && holds(&after, b"the picture"));
}

#[test]
fn what_is_no_box_is_left_alone() {
    let mut torn = film(true);
    torn.truncate(torn.len() - 20);
    assert!(!holds(&blanked(&torn).expect("a torn film"), b"SECRET"));
    for file in [&b""[..], b"\0\0\0\x08ftyp", b"\0\0\0\0ftypisom", b"\0\0\0\x01ftyp\0\0", &[0; 200], &[0xff; 200]] {
        assert_eq!(blanked(file).expect("no boxes"), file);
    }
}

#[test]
fn the_walk_is_bounded() {
    let many = boxed(b"free", b"").repeat(limits::BOXES_MAX as usize + 1);
    assert!(matches!(blanked(&many), Err(BadBoxes::TooMany)));
    let deep = (0..20).fold(Vec::new(), |inner, _| boxed(b"udta", &inner));
    assert!(matches!(blanked(&deep), Err(BadBoxes::TooMany)));
    // Items that take no byte of the table, and pieces that all lie in the same place.
    let mut iloc = vec![1, 0, 0, 0, 0x00, 0x00, 0xff, 0xff];
    iloc.extend_from_slice(&[0, 2, 0, 1, 0, 0, 0xff, 0xff].repeat(20_000));
    let iinf = [&b"\0\0\0\0\0\x01"[..], &boxed(b"infe", b"\x02\0\0\0\0\x02\0\0Exif\0")].concat();
    let meta = joined(&[
        vec![0; 4],
        boxed(b"hdlr", b""),
        boxed(b"iinf", &iinf),
        boxed(b"iloc", &iloc),
        boxed(b"idat", &[9; 100]),
    ]);
    let file = joined(&[ftyp(b"heic"), boxed(b"meta", &meta)]);
    assert_eq!(blanked(&file).expect("a table that is none"), file);
}

proptest! {
    #[test]
    fn no_bytes_hurt(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = blanked(&bytes);
    }

    #[test]
    fn a_changed_film_hurts_nobody(
        which in 0..4_u8, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = match which { 0 => film(false), 1 => film(true), 2 => picture(0), _ => picture(1) };
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok(after) = blanked(&file) {
            // Whatever was changed is blank now.
            for at in (0..file.len()).filter(|&at| file[at] != after[at]) {
                prop_assert!(after[at] == 0 || after[at] == b' ' || b"freeMM*\x08".contains(&after[at]), "{}", at);
            }
        }
    }

    #[test]
    fn boxes_of_any_sort_keep_what_they_hold(
        kinds in prop::collection::vec((0..8_usize, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
    ) {
        const KINDS: [&[u8; 4]; 8] = [b"free", b"mvhd", b"\xa9xyz", b"loci", b"wide", b"mdat", b"\xa9nam", b"skip"];
        let boxes: Vec<_> = kinds.iter().map(|(kind, content)| boxed(KINDS[*kind], content)).collect();
        let file = joined(&[ftyp(b"isom"), joined(&boxes)]);
        let after = blanked(&file).expect("boxes");
        let mut at = ftyp(b"isom").len();
        for ((kind, content), whole) in kinds.iter().zip(boxes) {
            let expected = if matches!(kind, 2 | 3) { boxed(b"free", &vec![0; content.len()]) } else { whole };
            prop_assert_eq!(&after[at..at + expected.len()], &expected[..]);
            at += expected.len();
        }
    }
}

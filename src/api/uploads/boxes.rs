//! Films, sounds and pictures in boxes (ISO 14496-12, QuickTime), without the place where they were
//! taken.
//!
//! Owns: the walk over the boxes of MP4, QuickTime, 3GP and HEIF files, which blanks what names a
//! place in place: the file keeps its length, and everything else its bytes. Blanked are `©xyz`,
//! `loci` and the other boxes of [`PLACES`] (ISO 14496-12, 3GPP TS 26.244, Android, action
//! cameras), XMP, ID3 (ISO 14496-12's `ID32`, which may hold XMP or anything), QuickTime's `mdta`
//! values whose key speaks of a location, and the Exif and XMP items of HEIF pictures, wholly: of
//! pictures that are made anew no note is kept either. Never: looks into the film itself. A file
//! with a track of places ([`PLACE_TRACKS`]) is refused. Bounds: [`limits::BOXES_MAX`] boxes,
//! [`limits::BOX_DEPTH_MAX`] of them within each other, [`limits::EXTENTS_MAX`] pieces of a
//! picture, [`limits::BOX_TABLE_BYTES_MAX`] of memory for a table, and no byte is blanked twice. A
//! file with more is refused; one that ends in the middle of a box, or whose boxes are none, is
//! left as it is from there on: no player finds anything there either.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use crate::limits;

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadBoxes {
    /// It follows its camera's place, beat by beat.
    #[error("a track of places")]
    PlaceTrack,
    /// More boxes, deeper ones or longer tables than any camera writes.
    #[error("too many boxes")]
    TooMany,
    /// Not the file's fault.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Boxes that say where something was taken.
const PLACES: [&[u8; 4]; 7] = [b"\xa9xyz", b"loci", b"gps ", b"gpsd", b"GPS ", b"XMP_", b"ID32"];
/// Formats of tracks that follow a place: GoPro, Google's camera motion, and Sony's.
const PLACE_TRACKS: [&[u8; 4]; 3] = [b"gpmd", b"camm", b"rtmd"];
/// Formats of tracks of notes that say what they are about: Apple's, in their keys; those of ISO
/// 14496-12, section 12.3, in a media type or an address.
const NOTE_TRACKS: [&[u8; 4]; 4] = [b"mebx", b"mett", b"metx", b"urim"];
/// Boxes with such boxes in them.
const PARENTS: [&[u8; 4]; 8] = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"moof", b"traf"];
/// XMP at the top (Adobe, XMP part 3), and Canon's notes: no player needs either.
const NOTES: [[u8; 16]; 2] = [
    [0xbe, 0x7a, 0xcf, 0xcb, 0x97, 0xa9, 0x42, 0xe8, 0x9c, 0x71, 0x99, 0x94, 0x91, 0xe3, 0xaf, 0xac],
    [0x85, 0xc0, 0xb6, 0x87, 0x82, 0x0f, 0x11, 0xe0, 0x81, 0x11, 0xf4, 0xce, 0x46, 0x2b, 0x6a, 0x48],
];
/// Exif without a note: the offset of its head, its head (TIFF 6.0, section 2), and no entry.
const EMPTY_EXIF: [u8; 18] = *b"\0\0\0\0MM\0\x2a\0\0\0\x08\0\0\0\0\0\0";

/// Blanks what names a place in `file`, which has `len` bytes. Whether anything was changed.
///
/// # Errors
/// See [`BadBoxes`]; what was blanked until then is blanked.
pub(super) fn blank_places<F: Read + Write + Seek>(file: &mut F, len: u64) -> Result<bool, BadBoxes> {
    let mut walk = Walk { file, left: limits::BOXES_MAX, blanks: len, changed: false };
    let (mut metas, mut media) = (Vec::new(), Vec::new());
    walk.boxes(0..len, &mut |walk, found| {
        match &found.kind {
            b"meta" => metas.push(found.content),
            b"mdat" => media.push(found.content),
            _ => return walk.inner(found, 0),
        }
        Ok(())
    })?;
    metas.into_iter().try_for_each(|meta| walk.items(meta, &media))?;
    Ok(walk.changed)
}

/// A box: its type, and where it lies.
#[derive(Clone)]
struct Found {
    kind: [u8; 4],
    /// Where its head begins.
    start: u64,
    content: Range<u64>,
}

struct Walk<'a, F> {
    file: &'a mut F,
    /// Boxes that may still be looked at.
    left: u32,
    /// Bytes that may still be blanked.
    blanks: u64,
    changed: bool,
}

/// Something that is done with each box.
type Each<'e, F> = &'e mut dyn FnMut(&mut Walk<'_, F>, Found) -> Result<(), BadBoxes>;

impl<F: Read + Write + Seek> Walk<'_, F> {
    /// The boxes in a range, one after the other.
    fn boxes(&mut self, range: Range<u64>, each: Each<'_, F>) -> Result<(), BadBoxes> {
        let mut at = range.start;
        while at.checked_add(8).is_some_and(|end| end <= range.end) {
            self.left = self.left.checked_sub(1).ok_or(BadBoxes::TooMany)?;
            let head: [u8; 8] = self.read(at)?;
            let ([a, b, c, d], kind) = ([head[0], head[1], head[2], head[3]], [head[4], head[5], head[6], head[7]]);
            let (size, head_len) = match u32::from_be_bytes([a, b, c, d]) {
                0 => (range.end - at, 8),
                1 if at + 16 <= range.end => (u64::from_be_bytes(self.read(at + 8)?), 16),
                size => (size.into(), 8),
            };
            let Some(end) = at.checked_add(size).filter(|end| size >= head_len && *end <= range.end) else {
                return Ok(());
            };
            each(self, Found { kind, start: at, content: at + head_len..end })?;
            at = end;
        }
        Ok(())
    }

    /// A box of a film.
    fn inner(&mut self, found: Found, depth: u32) -> Result<(), BadBoxes> {
        let kind = &found.kind;
        if PLACES.contains(&kind) {
            return self.blank(&found);
        }
        match kind {
            b"uuid" if found.content.end - found.content.start >= 16 => {
                let user: [u8; 16] = self.read(found.content.start)?;
                if NOTES.contains(&user) { self.blank(&found) } else { Ok(()) }
            }
            b"meta" => self.values(found.content),
            // A version, flags, and the number of the formats before them (ISO 14496-12, 8.5.2).
            b"stsd" => self.boxes(behind(&found.content, 8), &mut |walk, format| {
                let notes = NOTE_TRACKS.contains(&&format.kind);
                let follows = notes && speaks_of_location(&walk.table(&format.content)?);
                if follows || PLACE_TRACKS.contains(&&format.kind) { Err(BadBoxes::PlaceTrack) } else { Ok(()) }
            }),
            _ if PARENTS.contains(&kind) => {
                if depth == limits::BOX_DEPTH_MAX {
                    return Err(BadBoxes::TooMany);
                }
                self.boxes(found.content, &mut |walk, found| walk.inner(found, depth + 1))
            }
            _ => Ok(()),
        }
    }

    /// QuickTime's values: a list of keys, and the values by the numbers of the keys (QuickTime
    /// File Format, "Metadata").
    fn values(&mut self, content: Range<u64>) -> Result<(), BadBoxes> {
        let content = self.behind_version(content)?;
        let (mut keys, mut values, mut notes) = (None, None, Vec::new());
        self.boxes(content, &mut |_, found| {
            match &found.kind {
                b"keys" => keys = Some(found.content),
                b"ilst" => values = Some(found.content),
                kind if PLACES.contains(&kind) => notes.push(found),
                _ => {}
            }
            Ok(())
        })?;
        notes.iter().try_for_each(|found| self.blank(found))?;
        let Some(values) = values else { return Ok(()) };
        // Numbers from 1 on; a version, flags and their number stand before them.
        let (mut number, mut places) = (0_u32, Vec::new());
        if let Some(keys) = keys {
            self.boxes(behind(&keys, 8), &mut |walk, key| {
                number += 1;
                if speaks_of_location(&walk.table(&key.content)?) {
                    places.push(number);
                }
                Ok(())
            })?;
        }
        self.boxes(values, &mut |walk, value| {
            let is_place = PLACES.contains(&&value.kind) || places.contains(&u32::from_be_bytes(value.kind));
            if !is_place {
                return Ok(());
            }
            // The box of the value stays, so that the list does; what it says goes.
            walk.boxes(value.content, &mut |walk, data| walk.fill(&behind(&data.content, 8), 0))
        })
    }

    /// The notes of a picture: which item is one, and where it lies (ISO 14496-12, 8.11).
    fn items(&mut self, content: Range<u64>, media: &[Range<u64>]) -> Result<(), BadBoxes> {
        let content = self.behind_version(content)?;
        let (mut infos, mut places, mut data) = (None, None, 0..0);
        self.boxes(content.clone(), &mut |_, found| {
            match &found.kind {
                b"iinf" => infos = Some(found.content),
                b"iloc" => places = Some(found.content),
                b"idat" => data = found.content,
                _ => {}
            }
            Ok(())
        })?;
        let (Some(infos), Some(places)) = (infos, places) else { return self.values(content) };
        let notes = self.notes(infos)?;
        let places = self.table(&places)?;
        let Some(extents) = Places::read(&places, &notes) else { return Ok(()) };
        for Extent { is_exif, in_data, from, bytes, is_first } in extents {
            // What is said lies in the boxes that are for it; an item that lies elsewhere is none.
            let start = if in_data { data.start.saturating_add(from) } else { from };
            let holders = if in_data { std::slice::from_ref(&data) } else { media };
            let Some(holder) = holders.iter().find(|holder| holder.contains(&start)) else { continue };
            let range = start..if bytes == 0 { holder.end } else { start.saturating_add(bytes).min(holder.end) };
            self.fill(&range, if is_exif { 0 } else { b' ' })?;
            if is_exif && is_first && range.end - range.start >= EMPTY_EXIF.len() as u64 {
                self.write(range.start, &EMPTY_EXIF)?;
            }
        }
        Ok(())
    }

    /// The numbers of the items that are notes, and whether they are Exif.
    fn notes(&mut self, infos: Range<u64>) -> Result<BTreeMap<u32, bool>, BadBoxes> {
        let Some(version) = self.byte(&infos)? else { return Ok(BTreeMap::new()) };
        let mut notes = BTreeMap::new();
        self.boxes(behind(&infos, if version == 0 { 6 } else { 8 }), &mut |walk, info| {
            let head = walk.table_start(&info.content, 14)?;
            let (id, kind) = match head.as_slice() {
                [2, _, _, _, a, b, _, _, kind @ ..] => (u32::from(u16::from_be_bytes([*a, *b])), kind),
                [3, _, _, _, a, b, c, d, _, _, kind @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), kind),
                _ => return Ok(()),
            };
            if kind.starts_with(b"Exif") || kind.starts_with(b"mime") {
                notes.insert(id, kind.starts_with(b"Exif"));
            }
            Ok(())
        })?;
        Ok(notes)
    }

    /// What stands behind version and flags, which QuickTime's `meta` does not have.
    fn behind_version(&mut self, content: Range<u64>) -> Result<Range<u64>, BadBoxes> {
        let head = self.table_start(&content, 8)?;
        let plain = head.get(4..8) == Some(b"hdlr");
        Ok(if plain { content } else { behind(&content, 4) })
    }

    /// Makes a box one that is not read.
    fn blank(&mut self, found: &Found) -> Result<(), BadBoxes> {
        self.write(found.start + 4, b"free")?;
        self.fill(&found.content, 0)
    }

    fn fill(&mut self, range: &Range<u64>, with: u8) -> Result<(), BadBoxes> {
        let block = [with; 4096];
        self.blanks = self.blanks.checked_sub(range.end - range.start).ok_or(BadBoxes::TooMany)?;
        let mut at = range.start;
        while at < range.end {
            let piece = usize::try_from(range.end - at).unwrap_or(block.len()).min(block.len());
            self.write(at, &block[..piece])?;
            at += piece as u64;
        }
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), BadBoxes> {
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(bytes)?;
        self.changed = true;
        Ok(())
    }

    fn read<const N: usize>(&mut self, at: u64) -> Result<[u8; N], BadBoxes> {
        let mut bytes = [0; N];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn byte(&mut self, range: &Range<u64>) -> Result<Option<u8>, BadBoxes> {
        Ok(self.table_start(range, 1)?.first().copied())
    }

    /// The first bytes of a box, at most `max`.
    fn table_start(&mut self, range: &Range<u64>, max: usize) -> Result<Vec<u8>, BadBoxes> {
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(max).min(max);
        let mut bytes = vec![0; len];
        self.file.seek(SeekFrom::Start(range.start))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// All of a box that is held in memory.
    fn table(&mut self, range: &Range<u64>) -> Result<Vec<u8>, BadBoxes> {
        if range.end.saturating_sub(range.start) > limits::BOX_TABLE_BYTES_MAX as u64 {
            return Err(BadBoxes::TooMany);
        }
        self.table_start(range, limits::BOX_TABLE_BYTES_MAX)
    }
}

/// What stands behind the first `head` bytes.
fn behind(range: &Range<u64>, head: u64) -> Range<u64> {
    range.start.saturating_add(head).min(range.end)..range.end
}

/// A piece of an item.
struct Extent {
    is_exif: bool,
    /// In the box `idat`; otherwise in the file.
    in_data: bool,
    from: u64,
    /// 0: up to the end.
    bytes: u64,
    is_first: bool,
}

/// The box `iloc` (ISO 14496-12, 8.11.3).
struct Places<'a> {
    left: &'a [u8],
}

impl Places<'_> {
    /// The pieces of the items that are `notes`; `None` for a table that is none.
    fn read(table: &[u8], notes: &BTreeMap<u32, bool>) -> Option<Vec<Extent>> {
        let mut table = Places { left: table };
        let version = table.number(1)?;
        table.number(3)?;
        let (widths, more) = (table.number(1)?, table.number(1)?);
        let (offset, length, base) = (width(widths >> 4)?, width(widths & 15)?, width(more >> 4)?);
        let index = if version == 0 { 0 } else { width(more & 15)? };
        let id = if version < 2 { 2 } else { 4 };
        let (mut extents, mut left) = (Vec::new(), limits::EXTENTS_MAX);
        for _ in 0..table.number(id)? {
            let item = u32::try_from(table.number(id)?).ok()?;
            let method = if version == 0 { 0 } else { table.number(2)? & 15 };
            table.number(2)?;
            let base = table.number(base)?;
            let note = notes.get(&item).filter(|_| method < 2);
            for n in 0..table.number(2)? {
                // A piece may take no byte of the table.
                left = left.checked_sub(1)?;
                table.number(index)?;
                let (from, bytes) = (base.checked_add(table.number(offset)?)?, table.number(length)?);
                if let Some(is_exif) = note {
                    extents.push(Extent { is_exif: *is_exif, in_data: method == 1, from, bytes, is_first: n == 0 });
                }
            }
        }
        Some(extents)
    }

    /// The next number of so many bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let (number, rest) = self.left.split_at_checked(bytes)?;
        self.left = rest;
        Some(number.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
}

fn speaks_of_location(said: &[u8]) -> bool {
    let said = said.to_ascii_lowercase();
    LOCATION_WORDS.iter().any(|word| said.windows(word.len()).any(|part| part == *word))
}

/// In names of keys, and in media types of notes.
const LOCATION_WORDS: [&[u8]; 7] = [b"location", b"gps", b"gpx", b"nmea", b"kml", b"geo+json", b"geojson"];

/// Bytes of a number of `iloc`.
fn width(said: u64) -> Option<usize> {
    [0, 4, 8].into_iter().find(|width| *width as u64 == said)
}

#[cfg(test)]
mod tests;

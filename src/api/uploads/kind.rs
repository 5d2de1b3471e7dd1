//! What a file is, by its first bytes.
//!
//! Owns: the table of sorts that are known, what each may weigh, and how it is served.
//! Never: looks at a name or at what a client says. What the table does not know is bytes to be
//! saved, never a page.

mod ogg;

use pictures::Format;

use crate::limits;

/// A format of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::api) enum Kind {
    /// ISO 15948.
    Png,
    /// JFIF and Exif.
    Jpeg,
    /// 87a and 89a.
    Gif,
    /// RIFF with VP8.
    Webp,
    /// With an ID3 tag or without.
    Mp3,
    /// ADTS, as phones record it.
    Aac,
    /// Vorbis, Opus.
    Ogg,
    /// Ogg with moving pictures: Theora, Dirac and such.
    Ogv,
    /// RIFF.
    Wav,
    /// AMR, as older phones record it.
    Amr,
    /// Without loss.
    Flac,
    /// MPEG-4 with sound only.
    M4a,
    /// MPEG-4, QuickTime and 3GPP, under one name: browsers go by what is in them.
    Mp4,
    /// Also what browsers record as voice.
    Webm,
    /// Pictures of phones in boxes. Few browsers show them, so they are saved.
    Heic,
    /// The same with AV1, which browsers show.
    Avif,
    /// Saved, not shown: browsers show it with scripts of its own.
    Pdf,
    /// Archives, and the office formats made of them.
    Zip,
    /// Everything else, HTML and SVG among it.
    Other,
}

/// A group of formats with a limit of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::api) enum Sort {
    /// Pictures, which are made anew.
    Image,
    /// Pictures that stay as they are, but for what they say of their place.
    Still,
    /// Sound.
    Audio,
    /// Moving pictures.
    Video,
    /// To be saved only.
    File,
}

/// Bytes that [`Kind::of`] wants to see, if the file has so many.
pub(in crate::api) const HEAD_BYTES: usize = 512;

impl Kind {
    /// All of them.
    pub(in crate::api) const ALL: [Self; 19] = [
        Self::Png,
        Self::Jpeg,
        Self::Gif,
        Self::Webp,
        Self::Mp3,
        Self::Aac,
        Self::Ogg,
        Self::Ogv,
        Self::Wav,
        Self::Amr,
        Self::Flac,
        Self::M4a,
        Self::Mp4,
        Self::Webm,
        Self::Heic,
        Self::Avif,
        Self::Pdf,
        Self::Zip,
        Self::Other,
    ];

    /// The format of a file that begins with `head`.
    pub(in crate::api) fn of(head: &[u8]) -> Self {
        if let Some(format) = Format::of(head) {
            return format.into();
        }
        let at = |from: usize, word: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(word));
        match head {
            _ if at(0, b"RIFF") && at(8, b"WAVE") => Self::Wav,
            _ if at(0, b"OggS") => ogg::kind(head),
            _ if at(0, b"#!AMR") => Self::Amr,
            _ if at(0, b"fLaC") => Self::Flac,
            _ if at(0, b"%PDF-") => Self::Pdf,
            _ if at(0, b"PK\x03\x04") => Self::Zip,
            _ if at(0, b"ID3") => Self::Mp3,
            // The word of sync, then the layer: 00 is ADTS, 01 is layer III.
            [0xff, second, ..] if second & 0xf6 == 0xf0 => Self::Aac,
            [0xff, second, ..] if second & 0xe6 == 0xe2 => Self::Mp3,
            _ if at(0, b"\x1a\x45\xdf\xa3") && head.windows(4).any(|word| word == b"webm") => Self::Webm,
            _ => Self::of_boxes(head),
        }
    }

    /// Of the family of boxes: by the first one that says anything, behind such as only take room.
    fn of_boxes(head: &[u8]) -> Self {
        if !Self::has_boxes(head) {
            return Self::Other;
        }
        let mut left = head;
        while let Some(first) = FirstBox::of(left) {
            match &first.kind {
                b"ftyp" | b"styp" => return Self::of_brands(first.content),
                kind if !ROOM.contains(&kind) => break,
                _ => {}
            }
            let Some(behind) = first.behind else { break };
            left = behind;
        }
        // QuickTime as cameras wrote it before there were brands, or a piece of a stream.
        Self::Mp4
    }

    /// Its format, of a picture that is made anew.
    pub(super) const fn picture(self) -> Option<Format> {
        match self {
            Self::Png => Some(Format::Png),
            Self::Jpeg => Some(Format::Jpeg),
            Self::Gif => Some(Format::Gif),
            Self::Webp => Some(Format::Webp),
            _ => None,
        }
    }

    /// What the content of a box of brands says (ISO 14496-12, sections 4.3 and 8.16.2): the brand
    /// that a file calls its best says what it is, and if that says nothing, the first of those
    /// that it is compatible with.
    fn of_brands(content: &[u8]) -> Self {
        let best = content.first_chunk::<4>();
        // Behind the best one stands its version.
        let others = content.get(8..).unwrap_or_default().as_chunks::<4>().0;
        let mut known = best.into_iter().chain(others).filter_map(Self::of_brand);
        if matches!(best, Some(b"mif1" | b"mif2" | b"msf1" | b"miaf")) {
            // A picture of whatever coding: the other brands know more. If they do not, phones
            // write HEVC.
            return known.find(|kind| *kind == Self::Avif).unwrap_or(Self::Heic);
        }
        known.next().unwrap_or(Self::Other)
    }

    /// What a brand says (the registry of the MP4 Registration Authority, and what cameras write
    /// beside it); nothing if it is common to several, or unknown.
    fn of_brand(brand: &[u8; 4]) -> Option<Self> {
        match brand {
            b"avif" | b"avis" => Some(Self::Avif),
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" => Some(Self::Heic),
            b"M4A " | b"M4B " | b"M4P " | b"F4A " | b"F4B " | b"f4a " | b"f4b " => Some(Self::M4a),
            b"qt  " | b"avc1" | b"dash" | b"mmp4" | b"mmp2" | b"MSNV" | b"NDSC" | b"NDSH" | b"NDSM" | b"NDSP"
            | b"NDSS" | b"NDXC" | b"NDXH" | b"NDXM" | b"NDXP" | b"NDXS" | b"KDDI" | b"XAVC" | b"CAEP" | b"nvr1"
            | b"dby1" | b"hvc1" | b"hev1" | b"av01" | b"f4v " | b"F4V " | b"f4p " | b"F4P " | b"cmfc" | b"cmf2"
            | b"cmff" | b"cmfs" | b"msdh" | b"msix" | b"lmsg" => Some(Self::Mp4),
            [b'i', b's', b'o', b'm' | b'0'..=b'9' | b'a'..=b'c'] | [b'm', b'p', b'4', b'1' | b'2'] => Some(Self::Mp4),
            [b'M', b'4', b'V', _] | [b'3', b'g', _, _] => Some(Self::Mp4),
            _ => None,
        }
    }

    /// Whether a file that begins so is made of boxes, whatever is in them.
    pub(super) fn has_boxes(head: &[u8]) -> bool {
        head.get(4..8).is_some_and(|kind| FIRST.iter().chain(&ROOM).any(|first| kind == *first))
    }

    /// The end of its names.
    pub(in crate::api) const fn ext(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Gif => "gif",
            Self::Webp => "webp",
            Self::Mp3 => "mp3",
            Self::Aac => "aac",
            Self::Ogg => "ogg",
            Self::Ogv => "ogv",
            Self::Wav => "wav",
            Self::Amr => "amr",
            Self::Flac => "flac",
            Self::M4a => "m4a",
            Self::Mp4 => "mp4",
            Self::Webm => "webm",
            Self::Heic => "heic",
            Self::Avif => "avif",
            Self::Pdf => "pdf",
            Self::Zip => "zip",
            Self::Other => "bin",
        }
    }

    /// As what it is served.
    pub(in crate::api) const fn mime(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Mp3 => "audio/mpeg",
            Self::Aac => "audio/aac",
            Self::Ogg => "audio/ogg",
            Self::Ogv => "video/ogg",
            Self::Wav => "audio/wav",
            Self::Amr => "audio/amr",
            Self::Flac => "audio/flac",
            Self::M4a => "audio/mp4",
            Self::Mp4 => "video/mp4",
            Self::Webm => "video/webm",
            Self::Heic => "image/heic",
            Self::Avif => "image/avif",
            Self::Pdf => "application/pdf",
            Self::Zip => "application/zip",
            Self::Other => "application/octet-stream",
        }
    }

    /// Its group.
    pub(in crate::api) const fn sort(self) -> Sort {
        match self {
            Self::Png | Self::Jpeg | Self::Gif | Self::Webp => Sort::Image,
            Self::Heic | Self::Avif => Sort::Still,
            Self::Mp3 | Self::Aac | Self::Ogg | Self::Wav | Self::Amr | Self::Flac | Self::M4a => Sort::Audio,
            Self::Mp4 | Self::Webm | Self::Ogv => Sort::Video,
            Self::Pdf | Self::Zip | Self::Other => Sort::File,
        }
    }

    /// Bytes that a file of this format may have at most, whatever the configuration allows.
    pub(super) const fn bytes_max(self) -> u64 {
        match self.sort() {
            Sort::Image | Sort::Still => limits::UPLOAD_IMAGE_BYTES_MAX,
            Sort::Audio => limits::UPLOAD_AUDIO_BYTES_MAX,
            Sort::Video | Sort::File => limits::UPLOAD_BYTES_MAX,
        }
    }

    /// Whether a browser may show it in a page; otherwise it is saved.
    pub(in crate::api) const fn is_shown(self) -> bool {
        !matches!(self.sort(), Sort::File) && !matches!(self, Self::Heic)
    }
}

impl From<Format> for Kind {
    fn from(format: Format) -> Self {
        match format {
            Format::Png => Self::Png,
            Format::Jpeg => Self::Jpeg,
            Format::Gif => Self::Gif,
            Format::Webp => Self::Webp,
        }
    }
}

/// Boxes that say what a file is: its brands, or those that a QuickTime file without them, or a
/// piece of a stream, begins with.
const FIRST: [&[u8; 4]; 8] = [b"ftyp", b"styp", b"moov", b"mdat", b"pnot", b"moof", b"sidx", b"emsg"];
/// Boxes that only take room before these.
const ROOM: [&[u8; 4]; 4] = [b"free", b"skip", b"wide", b"pdin"];

/// The box at the beginning of some bytes.
struct FirstBox<'a> {
    kind: [u8; 4],
    /// As far as it is here.
    content: &'a [u8],
    /// What follows it; `None`: nothing that is here.
    behind: Option<&'a [u8]>,
}

impl<'a> FirstBox<'a> {
    /// ISO 14496-12, section 4.2: a size and a type, or 1 as the size, a type, and 64 bits of size.
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (size, head_len) = match (u32::from_be_bytes(*size), rest.first_chunk()) {
            // Up to the end of the file.
            (0, _) => (u64::MAX, 8),
            (1, Some(size)) => (u64::from_be_bytes(*size), 16),
            (size, _) => (u64::from(size), 8),
        };
        let end = usize::try_from(size).unwrap_or(usize::MAX);
        let content = bytes.get(head_len..end.min(bytes.len())).unwrap_or_default();
        let behind = if end < head_len { None } else { bytes.get(end..).filter(|behind| !behind.is_empty()) };
        Some(Self { kind: *kind, content, behind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first page of a stream, up to its segments.
    const OGG: [u8; 26] = *b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\xaa\xbb\xcc\xdd";

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        for (head, kind) in [
            (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], Kind::Png),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", Kind::Jpeg),
            (b"GIF89a\x01\0", Kind::Gif),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Kind::Webp),
            (b"RIFF\x10\0\0\0WAVEfmt ", Kind::Wav),
            (b"RIFF\x10\0\0\0AVI LIST", Kind::Other),
            (b"ID3\x04\0", Kind::Mp3),
            (b"\xff\xfb\x90\0", Kind::Mp3),
            (b"\xff\xf1\x50\x80", Kind::Aac),
            (b"OggS\0\x02", Kind::Ogg),
            (&[&OGG[..], b"\x01\x13OpusHead\x01\x02"].concat(), Kind::Ogg),
            (&[&OGG[..], b"\x01\x2a\x80theora\x03\x02"].concat(), Kind::Ogv),
            (&[&OGG[..], b"\x01\x08fishead\0", &OGG, b"\x01\x2a\x80theora"].concat(), Kind::Ogv),
            (&[&OGG[..], b"\x01\x08fishead\0", &OGG, b"\x01\x1e\x01vorbis"].concat(), Kind::Ogg),
            (b"#!AMR\n", Kind::Amr),
            (b"\0\0\0\x20ftypisom\0\0\x02\0", Kind::Mp4),
            (b"\0\0\0\x20ftypM4A \0\0\x02\0", Kind::M4a),
            (b"\0\0\0\x20ftypheic\0\0\0\0", Kind::Heic),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", Kind::Heic),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1mp41", Kind::Heic),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", Kind::Avif),
            (b"\0\0\0\x14ftypqt  \0\0\x02\0qt  ", Kind::Mp4),
            (b"\0\0\0\x18ftyp3gp4\0\0\0\x003gp4isom", Kind::Mp4),
            (b"\0\0\0\x18ftyp3gp6\0\0\0\x003gp6mp41", Kind::Mp4),
            (b"\0\0\0\x18ftypXXXX\0\0\0\0XXXXiso8", Kind::Mp4),
            (b"\0\0\0\x18ftypXXXX\0\0\0\0XXXXM4A ", Kind::M4a),
            (b"\0\0\0\x14ftypXXXX\0\0\0\0XXXXmp42", Kind::Other),
            (b"\0\0\0\x18ftypjp2 \0\0\0\0jp2 jp2 ", Kind::Other),
            (b"\0\0\0\x08wide\0\0\x10\0mdat", Kind::Mp4),
            (b"\0\0\x10\0moov\0\0\0\x6cmvhd", Kind::Mp4),
            (b"\0\0\0\x08wide\0\0\0\x14ftypM4A \0\0\0\0mp42", Kind::M4a),
            (b"\0\0\0\x0cfree....\0\0\0\x14ftypM4A \0\0\0\0mp42", Kind::M4a),
            (b"\0\0\x10\0free....", Kind::Mp4),
            (b"\0\0\0\x01free\0\0\0\0\0\0\0\x12..\0\0\0\x14ftypheic\0\0\0\0mif1", Kind::Heic),
            (b"\0\0\0\x01ftyp\0\0\0\0\0\0\0\x1cM4A \0\0\0\0mp42", Kind::M4a),
            (b"\0\0\0\x01ftyp\xff\xff\xff\xff\xff\xff\xff\xffM4A ", Kind::M4a),
            (b"\0\0\0\0ftypM4A \0\0\0\0mp42", Kind::M4a),
            (b"\0\0\0\x04freeftypM4A \0\0\0\0mp42", Kind::Mp4),
            (b"\0\0\0\x18stypmsdh\0\0\0\0msdhdash", Kind::Mp4),
            (b"\0\0\x01\0moof\0\0\0\x10mfhd", Kind::Mp4),
            (b"fLaC\0\0\0\x22", Kind::Flac),
            (b"\0\0\0\x18ftyp", Kind::Other),
            (b"\xff\xff\xff\xffftypM4V ", Kind::Mp4),
            (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", Kind::Webm),
            (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x88matroska", Kind::Other),
            (b"%PDF-1.7", Kind::Pdf),
            (b"PK\x03\x04\x14\0", Kind::Zip),
            (b"<!doctype html><script>alert(1)</script>", Kind::Other),
            (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", Kind::Other),
            (b"", Kind::Other),
            (b"\xff", Kind::Other),
        ] {
            assert_eq!(Kind::of(head), kind, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn what_is_shown_is_no_page() {
        for kind in Kind::ALL {
            let (mime, shown) = (kind.mime(), kind.is_shown());
            let passive = ["image/", "audio/", "video/"].iter().any(|group| mime.starts_with(group));
            let known = passive && !mime.contains("svg") && !mime.contains("xml") && kind != Kind::Heic;
            assert_eq!(shown, known, "{kind:?}");
            assert!(kind.bytes_max() <= limits::UPLOAD_BYTES_MAX, "{kind:?}");
            let twins = Kind::ALL.iter().filter(|other| other.ext() == kind.ext()).count();
            assert_eq!(twins, 1, "a name says what a file is served as: {kind:?}");
        }
    }
}

//! What a file is, by its first bytes.
//!
//! Owns: the table of sorts that are known, what each may weigh, and how it is served.
//! Never: looks at a name or at what a client says. What the table does not know is bytes to be saved, never a page.

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
    /// RIFF.
    Wav,
    /// AMR, as older phones record it.
    Amr,
    /// MPEG-4 with sound only.
    M4a,
    /// MPEG-4 and QuickTime.
    Mp4,
    /// Also what browsers record as voice.
    Webm,
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
    /// Sound.
    Audio,
    /// Moving pictures.
    Video,
    /// To be saved only.
    File,
}

/// Bytes that [`Kind::of`] wants to see, if the file has so many.
pub(super) const HEAD_BYTES: usize = 64;

impl Kind {
    /// All of them.
    pub(in crate::api) const ALL: [Self; 15] = [
        Self::Png,
        Self::Jpeg,
        Self::Gif,
        Self::Webp,
        Self::Mp3,
        Self::Aac,
        Self::Ogg,
        Self::Wav,
        Self::Amr,
        Self::M4a,
        Self::Mp4,
        Self::Webm,
        Self::Pdf,
        Self::Zip,
        Self::Other,
    ];

    /// The format of a file that begins with `head`.
    pub(in crate::api) fn of(head: &[u8]) -> Self {
        let at = |from: usize, word: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(word));
        match head {
            _ if at(0, b"\x89PNG\r\n\x1a\n") => Self::Png,
            _ if at(0, b"\xff\xd8\xff") => Self::Jpeg,
            _ if at(0, b"GIF87a") || at(0, b"GIF89a") => Self::Gif,
            _ if at(0, b"RIFF") && at(8, b"WEBP") => Self::Webp,
            _ if at(0, b"RIFF") && at(8, b"WAVE") => Self::Wav,
            _ if at(0, b"OggS") => Self::Ogg,
            _ if at(0, b"#!AMR") => Self::Amr,
            _ if at(0, b"%PDF-") => Self::Pdf,
            _ if at(0, b"PK\x03\x04") => Self::Zip,
            _ if at(0, b"ID3") => Self::Mp3,
            // The word of sync, then the layer: 00 is ADTS, 01 is layer III.
            [0xff, second, ..] if second & 0xf6 == 0xf0 => Self::Aac,
            [0xff, second, ..] if second & 0xe6 == 0xe2 => Self::Mp3,
            _ if at(0, b"\x1a\x45\xdf\xa3") && head.windows(4).any(|word| word == b"webm") => Self::Webm,
            _ if at(4, b"ftyp") => Self::of_brand(head.get(8..12).unwrap_or_default()),
            _ => Self::Other,
        }
    }

    /// Of the family of MPEG-4; its pictures (HEIC, AVIF) are none that we can make anew.
    fn of_brand(brand: &[u8]) -> Self {
        match brand {
            b"M4A " | b"M4B " => Self::M4a,
            b"isom" | b"iso2" | b"iso4" | b"iso5" | b"iso6" | b"mp41" | b"mp42" | b"avc1" | b"dash" | b"M4V "
            | b"MSNV" | b"qt  " | b"3gp4" | b"3gp5" => Self::Mp4,
            _ => Self::Other,
        }
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
            Self::Wav => "wav",
            Self::Amr => "amr",
            Self::M4a => "m4a",
            Self::Mp4 => "mp4",
            Self::Webm => "webm",
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
            Self::Wav => "audio/wav",
            Self::Amr => "audio/amr",
            Self::M4a => "audio/mp4",
            Self::Mp4 => "video/mp4",
            Self::Webm => "video/webm",
            Self::Pdf => "application/pdf",
            Self::Zip => "application/zip",
            Self::Other => "application/octet-stream",
        }
    }

    /// Its group.
    pub(in crate::api) const fn sort(self) -> Sort {
        match self {
            Self::Png | Self::Jpeg | Self::Gif | Self::Webp => Sort::Image,
            Self::Mp3 | Self::Aac | Self::Ogg | Self::Wav | Self::Amr | Self::M4a => Sort::Audio,
            Self::Mp4 | Self::Webm => Sort::Video,
            Self::Pdf | Self::Zip | Self::Other => Sort::File,
        }
    }

    /// Bytes that a file of this format may have at most, whatever the configuration allows.
    pub(super) const fn bytes_max(self) -> u64 {
        match self.sort() {
            Sort::Image => limits::UPLOAD_IMAGE_BYTES_MAX,
            Sort::Audio => limits::UPLOAD_AUDIO_BYTES_MAX,
            Sort::Video | Sort::File => limits::UPLOAD_BYTES_MAX,
        }
    }

    /// Whether a browser may show it in a page; otherwise it is saved.
    pub(in crate::api) const fn is_shown(self) -> bool {
        !matches!(self.sort(), Sort::File)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (b"#!AMR\n", Kind::Amr),
            (b"\0\0\0\x20ftypisom\0\0\x02\0", Kind::Mp4),
            (b"\0\0\0\x20ftypM4A \0\0\x02\0", Kind::M4a),
            (b"\0\0\0\x20ftypheic\0\0\0\0", Kind::Other),
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
            assert_eq!(shown, passive && !mime.contains("svg") && !mime.contains("xml"), "{kind:?}");
            assert!(kind.bytes_max() <= limits::UPLOAD_BYTES_MAX, "{kind:?}");
            let twins = Kind::ALL.iter().filter(|other| other.ext() == kind.ext()).count();
            assert_eq!(twins, 1, "a name says what a file is served as: {kind:?}");
        }
    }
}

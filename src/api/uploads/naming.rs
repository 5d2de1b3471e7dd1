//! What a file is called, for people.
//!
//! Owns: what is left of a name that a client says, and how a download carries it (RFC 6266, RFC
//! 8187).
//! Never: believes a name: it is no path, opens nothing, and says nothing of what a file is.
//! Bounds: [`NAME_CHARS_MAX`].

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a name in a header may not hold as it is (RFC 8187, section 3.2.1, allows a few more).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');
/// What file systems allow.
const NAME_CHARS_MAX: usize = 255;

/// The last part of a path, without control characters and without those that turn the direction of
/// writing (with which `gnp.exe` reads as `exe.png`), and not too long: then its end stays, which
/// says what it is.
pub(in crate::api) fn plain(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: Vec<char> = last.chars().filter(|c| !c.is_control() && !turns(*c)).collect();
    let Some(over) = plain.len().checked_sub(NAME_CHARS_MAX).filter(|over| *over > 0) else {
        return plain.into_iter().collect();
    };
    let end = plain.iter().rposition(|c| *c == '.').filter(|dot| plain.len() - dot <= ENDING_CHARS_MAX);
    let end = end.unwrap_or(plain.len());
    plain[..end - over.min(end)].iter().chain(&plain[end..]).collect()
}

/// An ending that is worth keeping.
const ENDING_CHARS_MAX: usize = 16;

/// The bidirectional controls (Unicode Standard Annex 9, section 2).
const fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The header `Content-Disposition` of a download under `name`, as it came in a URL; without a name
/// if nothing is left of it. `kind`: `inline` or `attachment`.
pub(in crate::api) fn disposition(kind: &str, name: &str) -> String {
    let name = plain(name);
    let name = name.trim_matches(['.', ' ']);
    if name.is_empty() {
        return kind.to_owned();
    }
    // For programs that know nothing newer: no quote, no backslash, and nothing that an old one
    // could decode.
    let old: String =
        name.chars().map(|c| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%') { c } else { '_' }).collect();
    let mut value = format!("{kind}; filename=\"{old}\"");
    if old != name {
        value.push_str("; filename*=UTF-8''");
        value.extend(utf8_percent_encode(name, ENCODED));
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_download_carries_its_name() {
        for (name, value) in [
            ("a.pdf", "attachment; filename=\"a.pdf\""),
            (
                "季度报告 Q3.pdf",
                "attachment; filename=\"____ Q3.pdf\"; \
              filename*=UTF-8''%E5%AD%A3%E5%BA%A6%E6%8A%A5%E5%91%8A%20Q3.pdf",
            ),
            ("a\"b;c.pdf", "attachment; filename=\"a_b;c.pdf\"; filename*=UTF-8''a%22b%3Bc.pdf"),
            ("../../etc/passwd", "attachment; filename=\"passwd\""),
            ("C:\\x\\50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
            ("a\r\nSet-Cookie: x=1.pdf", "attachment; filename=\"aSet-Cookie: x=1.pdf\""),
            ("\u{202e}gnp.exe", "attachment; filename=\"gnp.exe\""),
            (".htaccess", "attachment; filename=\"htaccess\""),
            ("", "attachment"),
            ("..", "attachment"),
            ("a/", "attachment"),
        ] {
            assert_eq!(disposition("attachment", name), value, "{name:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        let name = plain(&format!("{}.pdf", "x".repeat(300)));
        assert!(name.chars().count() == NAME_CHARS_MAX && name.ends_with("x.pdf"));
        assert_eq!(plain(&"报".repeat(300)).chars().count(), NAME_CHARS_MAX);
    }

    proptest! {
        #[test]
        fn every_name_is_a_header_and_says_one_thing(name in any::<String>()) {
            let value = disposition("inline", &name);
            prop_assert!(axum::http::HeaderValue::from_str(&value).is_ok());
            prop_assert!(value.is_ascii() && [0, 2].contains(&value.matches('"').count()), "{value}");
        }
    }
}

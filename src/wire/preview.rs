//! The beginning of a message's body as an object's fields again: for the line of a conversation in
//! a list.
//!
//! Owns: where a body that was cut may end.
//! Never: allocates, or looks at more than it is given.
//! Bounds: as long as the beginning that it is given.

/// What [`close`] finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Closed<'a> {
    /// The fields that are whole, and perhaps a text that is not.
    pub(super) fields: &'a str,
    /// Whether that text lacks its quotation mark.
    pub(super) in_text: bool,
}

/// Where a body that is cut off anywhere may end: behind the last field that is whole or, if the
/// field after it is a text, at the end of what is left of it, but not within an escape or between
/// the halves of a surrogate pair.
pub(super) fn close(start: &str) -> Closed<'_> {
    let mut scan = Scan::default();
    for (at, byte) in start.bytes().enumerate() {
        scan.take(at, byte);
    }
    let text = scan.value && scan.in_string && scan.depth == 0;
    let end = if text { scan.safe } else { scan.whole };
    Closed { fields: start.get(..end).unwrap_or_default(), in_text: text && end > 0 }
}

/// Where a scan of fields stands.
#[derive(Default)]
struct Scan {
    /// The end of the last field that is known to be whole.
    whole: usize,
    /// In a text: behind the last character after which it may end.
    safe: usize,
    depth: usize,
    in_string: bool,
    /// Behind the colon of a field.
    value: bool,
    /// Bytes of an escape that are still to come.
    escape: usize,
    /// The four digits of a `\u` escape, as far as they have come.
    digits: u32,
    /// The first half of a surrogate pair was read, the second was not.
    half: bool,
}

impl Scan {
    fn take(&mut self, at: usize, byte: u8) {
        if self.in_string {
            self.take_text(at, byte);
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.safe = at + 1;
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b':' if self.depth == 0 => self.value = true,
            b',' if self.depth == 0 => {
                self.value = false;
                self.whole = at;
            }
            _ => {}
        }
    }

    fn take_text(&mut self, at: usize, byte: u8) {
        match (self.escape, byte) {
            (0, b'"') => {
                self.in_string = false;
                self.half = false;
                if self.value && self.depth == 0 {
                    self.whole = at + 1;
                }
            }
            (0, b'\\') => self.escape = 5,
            // The character behind the backslash: of all escapes one is longer.
            (5, b'u') => (self.escape, self.digits) = (4, 0),
            (5, _) => {
                self.escape = 0;
                self.half = false;
            }
            (0, _) => self.half = false,
            (_, digit) => {
                self.escape -= 1;
                self.digits = (self.digits << 4) | char::from(digit).to_digit(16).unwrap_or(0);
                if self.escape == 0 {
                    self.half = matches!(self.digits, 0xd800..=0xdbff);
                }
            }
        }
        if self.in_string && self.escape == 0 && !self.half {
            self.safe = at + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn parsed(start: &str) -> Map<String, Value> {
        let Closed { fields, in_text } = close(start);
        let text = format!("{{{fields}{}}}", if in_text { "\"" } else { "" });
        match serde_json::from_str(&text) {
            Ok(Value::Object(fields)) => fields,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn whole_fields_and_the_beginning_of_a_text_are_left() {
        assert_eq!(parsed(""), Map::new());
        assert_eq!(parsed(r#""me"#), Map::new());
        assert_eq!(parsed(r#""media":1"#), Map::new(), "it may have been 10");
        assert_eq!(parsed(r#""media":1,"#)["media"], json!(1));
        assert_eq!(parsed(r#""media":1,"content":"hel"#)["content"], json!("hel"));
        assert_eq!(parsed(r#""media":1,"content":"hello""#)["content"], json!("hello"));
        assert_eq!(parsed(r#""a":{"content":"hel"#), Map::new(), "not of the message itself");
        assert_eq!(parsed(r#""a":[1,{"b":",}"},2],"c":"\"#), parsed(r#""a":[1,{"b":",}"},2],"c":""#));
    }

    #[test]
    fn no_escape_and_no_pair_is_cut() {
        let whole = r#""content":"a\ud83d\ude00\nb\\"#;
        for end in 0..=whole.len() {
            let found = parsed(&whole[..end]);
            let content = found.get("content").and_then(Value::as_str).unwrap_or_default();
            assert!("a😀\nb\\".starts_with(content), "{end}: {content}");
        }
    }

    proptest! {
        #[test]
        fn wherever_it_is_cut_it_is_an_object_that_says_the_same(
            texts in prop::collection::vec(("[a-z]{1,4}", any::<String>()), 0..5), number in any::<i64>(), end in 0usize..400,
        ) {
            let mut fields: Vec<String> = texts.iter().enumerate().map(|(n, (key, text))| format!("\"{key}{n}\":{}", json!(text))).collect();
            fields.insert(fields.len() / 2, format!("\"n\":{number},\"o\":{{\"x\":[\"}},\",{number}]}}"));
            let body = fields.join(",");
            let mut end = end.min(body.len());
            while !body.is_char_boundary(end) {
                end -= 1;
            }
            let whole: Map<String, Value> = serde_json::from_str(&format!("{{{body}}}")).unwrap_or_default();
            for (key, value) in parsed(&body[..end]) {
                match (&value, &whole[&key]) {
                    (Value::String(cut), Value::String(text)) => prop_assert!(text.starts_with(cut.as_str())),
                    (value, all) => prop_assert_eq!(value, all),
                }
            }
        }
    }
}

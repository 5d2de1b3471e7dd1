//! What guests of `/chatroom` say, and how all there get it.
//!
//! Owns: reading `{"token":…,"content":…}` as Go's encoding/json does, and writing it as Go's
//! encoder does.
//! Never: gives a meaning to either field. Never panics on input.
//! Bounds: the input by [`crate::limits::MESSAGE_BYTES_MAX`]; the output is at most six times as
//! long.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};

/// A guest's frame that is no message. simple-chatroom ends such a connection without a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no object with the strings token and content")]
pub struct NoMessage;

/// A message as a guest sent it. What is missing or `null` is empty.
#[derive(Default)]
struct Said {
    token: String,
    content: String,
}

/// Reads one message and writes it anew: exactly the two keys, `<`, `>`, `&`, U+2028 and U+2029
/// escaped, a line feed at the end. Bytes after the first JSON value are ignored, unknown keys are
/// dropped, the last of equal keys wins.
///
/// # Errors
/// [`NoMessage`]: not JSON, not an object (nor `null`), or one of the two is no string.
pub fn parse(message: &[u8]) -> Result<Arc<str>, NoMessage> {
    // A text frame is UTF-8; in a binary one Go's decoder replaces what is not.
    let text = String::from_utf8_lossy(message);
    let mut values = serde_json::Deserializer::from_str(&text);
    let said = values.deserialize_option(SaidVisitor).map_err(|_| NoMessage)?;
    let mut out = String::with_capacity(said.token.len() + said.content.len() + 32);
    out.push_str("{\"token\":");
    write_string(&mut out, &said.token);
    out.push_str(",\"content\":");
    write_string(&mut out, &said.content);
    out.push_str("}\n");
    Ok(out.into())
}

struct SaidVisitor;

impl<'de> Visitor<'de> for SaidVisitor {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_none<E>(self) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Said, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let place = match field(&key) {
                Some(Field::Token) => &mut said.token,
                Some(Field::Content) => &mut said.content,
                None => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            // In Go `null` leaves a string as it is.
            if let Some(value) = map.next_value::<Option<String>>()? {
                *place = value;
            }
        }
        Ok(said)
    }
}

enum Field {
    Token,
    Content,
}

/// Keys match without case, and U+212A KELVIN SIGN is a `k` (Go's simple folding; neither name has
/// an `s`).
fn field(key: &str) -> Option<Field> {
    let is = |name: &str| {
        let mut folded = key.chars().map(|c| if c == '\u{212a}' { 'k' } else { c.to_ascii_lowercase() });
        let same = name.chars().all(|c| folded.next() == Some(c));
        same && folded.next().is_none()
    };
    if is("token") {
        Some(Field::Token)
    } else if is("content") {
        Some(Field::Content)
    } else {
        None
    }
}

/// A string as Go's `json.Encoder` writes it: three short escapes for control characters, the
/// page's dangers by number.
fn write_string(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str("\\u");
                for shift in [12, 8, 4, 0] {
                    out.extend(char::from_digit(u32::from(c) >> shift & 0xf, 16));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn said(message: &str) -> Result<String, NoMessage> {
        parse(message.as_bytes()).map(|json| json.to_string())
    }

    #[test]
    fn as_the_original_relays() {
        for (message, out) in [
            ("{\"token\":\"t\",\"content\":\"hi\"}\n", "{\"token\":\"t\",\"content\":\"hi\"}\n"),
            (r#"{"content":"<b>&","x":[1,{"y":null}]}"#, "{\"token\":\"\",\"content\":\"\\u003cb\\u003e\\u0026\"}\n"),
            (r#"{"TOKEN":"a","to\u212aen":"b","Content":null}"#, "{\"token\":\"b\",\"content\":\"\"}\n"),
            (r#"{"token":"a","token":null}"#, "{\"token\":\"a\",\"content\":\"\"}\n"),
            ("null", "{\"token\":\"\",\"content\":\"\"}\n"),
            ("{} and more", "{\"token\":\"\",\"content\":\"\"}\n"),
            (
                r#"{"content":"\u0000\b\u001f\u2028\ud83d\ude00\t"}"#,
                "{\"token\":\"\",\"content\":\"\\u0000\\u0008\\u001f\\u2028\u{1f600}\\t\"}\n",
            ),
        ] {
            assert_eq!(said(message).as_deref(), Ok(out), "{message}");
        }
    }

    #[test]
    fn what_is_no_message() {
        for message in
            ["", " ", "hello", "[]", "1", "\"x\"", "{\"token\":1}", "{\"content\":{}}", "{\"token\":\"a\"", "{"]
        {
            assert_eq!(said(message), Err(NoMessage), "{message}");
        }
        assert!(parse(b"{\"content\":\"\xff\"}").is_ok(), "a binary frame need not be UTF-8");
    }

    proptest! {
        #[test]
        fn what_was_said_is_what_is_heard(token in any::<String>(), content in any::<String>()) {
            let out = said(&json!({"content": content, "token": token}).to_string()).unwrap_or_default();
            prop_assert_eq!(serde_json::from_str::<Value>(&out).ok(), Some(json!({"token": token, "content": content})));
            let clean = out.ends_with('\n') && !out.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
            prop_assert!(clean, "{}", out);
        }

        #[test]
        fn nothing_panics(bytes in any::<Vec<u8>>()) {
            let _ = parse(&bytes);
        }
    }
}

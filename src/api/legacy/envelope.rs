//! The envelope of every JSON answer: `code`, `msg`, then `data`, or `rows` and `total`, or both.
//!
//! Owns: the order of the keys, Go's escapes, the headers.
//! Never: another HTTP status than 200, because the old pages swallow it; never more than one JSON
//! document.

use axum::response::Response;
use serde::Serialize;

use crate::api::json::json;

/// Success.
pub(super) const OK: i32 = 0;
/// Failure.
pub(super) const FAILED: i32 = -1;

/// One answer that is no list; `rows` and `total` are there for every list, also for an empty one
/// ([`Rows`]).
#[derive(Serialize)]
struct Envelope<'a, Data: Serialize> {
    code: i32,
    msg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

/// `{"code":-1,"msg":…}`.
pub(super) fn failure(msg: &str) -> Response {
    plain(FAILED, msg)
}

/// `{"code":0,"msg":…}`.
pub(super) fn success(msg: &str) -> Response {
    plain(OK, msg)
}

/// `{"code":…,"msg":…,"data":…}`.
pub(super) fn single<Data: Serialize>(code: i32, msg: &str, data: Data) -> Response {
    written(&Envelope { code, msg, data: Some(data) })
}

/// The rows of a list as they are written, so that none of them is held twice.
pub(super) struct Rows {
    json: String,
    total: usize,
    bytes_max: usize,
}

impl Rows {
    /// An empty list for at most so many bytes.
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { json: String::new(), total: 0, bytes_max }
    }

    /// Writes a row. Answers whether it had room.
    pub(super) fn push<Row: Serialize>(&mut self, row: &Row) -> bool {
        let row = escaped(&text_of(row));
        let has_room = self.json.len() + row.len() < self.bytes_max;
        if has_room {
            if self.total > 0 {
                self.json.push(',');
            }
            self.json.push_str(&row);
            self.total += 1;
        }
        has_room
    }

    /// `[…]`.
    pub(super) fn array(&self) -> String {
        format!("[{}]", self.json)
    }

    /// `{"code":0,"msg":"","rows":[…],"total":…}`.
    pub(super) fn answer(&self) -> Response {
        let (rows, total) = (&self.json, self.total);
        json(format!(r#"{{"code":{OK},"msg":"","rows":[{rows}],"total":{total}}}"#))
    }

    /// `{"code":0,"msg":…,"rows":[…],"total":…,"data":…}`, of which `data` is JSON.
    pub(super) fn answer_with(&self, msg: &str, data: &str) -> Response {
        let (rows, total, msg) = (&self.json, self.total, escaped(&text_of(&msg)));
        json(format!(r#"{{"code":{OK},"msg":{msg},"rows":[{rows}],"total":{total},"data":{data}}}"#))
    }
}

/// Only a map with keys that are no texts could fail, and there is none.
fn text_of<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

fn plain(code: i32, msg: &str) -> Response {
    written(&Envelope::<'_, ()> { code, msg, data: None })
}

fn written<Data: Serialize>(envelope: &Envelope<'_, Data>) -> Response {
    // Only a map with keys that are no texts could fail, and we have none; the client gets a
    // document all the same.
    let text = serde_json::to_string(envelope).unwrap_or_else(|_| r#"{"code":-1,"msg":""}"#.to_owned());
    json(escaped(&text))
}

/// `json` with the escapes of Go's encoder. The characters occur inside of JSON strings only, so
/// they are replaced wherever they stand.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 16);
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_as_go_does() {
        let text = serde_json::to_string("a<b>&c\u{2028}\u{2029}\"\\\n\u{1}你").expect("a string");
        assert_eq!(escaped(&text), r#""a\u003cb\u003e\u0026c\u2028\u2029\"\\\n\u0001你""#);
    }

    proptest! {
        #[test]
        fn escaping_changes_no_meaning(text in ".*") {
            let json = escaped(&serde_json::to_string(&text).expect("a string"));
            prop_assert!(!json.contains(['<', '>', '&']));
            prop_assert_eq!(serde_json::from_str::<String>(&json).expect("still JSON"), text);
        }
    }
}

//! The top-level fields of a client's JSON object, verbatim.
//!
//! Owns: the spans of keys and values in the client's own spelling ([`Spans`]), and which keys mean
//! something to us ([`Name`]).
//! Never: decides whether a text is JSON. Only what simd-json has accepted comes here; should the
//! two ever disagree, the spans end early and the caller refuses.
//! Bounds: no recursion; every byte is looked at once.

/// What a key means, after unescaping and folding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Name {
    /// `id`, `ts`, `userid`, `dup`, `recall`, `recalled`, `happened`: the server's; dropped unread.
    Owned,
    Cmd,
    Dstid,
    Kind,
    Cid,
    Media,
    /// `url`; the old pages read only this spelling. `exact`: it is this one.
    Url {
        exact: bool,
    },
    /// `content`, `pic`, `memo`.
    Text,
    Amount,
    After,
    Before,
    Limit,
    Recv,
    Read,
    Users,
    /// The server's in messages; the client's in `cmd` 8.
    Seq,
    /// Nothing to us: relayed as it is.
    Other,
}

impl Name {
    /// The meaning of an unescaped key. Compares as Go's encoding/json does: ASCII letters without
    /// case, and the two characters outside of ASCII that Unicode's simple folding maps into it:
    /// U+212A KELVIN SIGN is `k`, U+017F LONG S is `s`.
    pub(super) fn of(key: &str) -> Self {
        let mut folded = [0u8; 8];
        let mut length = 0;
        for c in key.chars() {
            let c = match c {
                '\u{212a}' => b'k',
                '\u{17f}' => b's',
                c if c.is_ascii() => (c as u8).to_ascii_lowercase(),
                _ => return Self::Other,
            };
            let Some(place) = folded.get_mut(length) else { return Self::Other };
            *place = c;
            length += 1;
        }
        match folded.get(..length).unwrap_or_default() {
            b"id" | b"ts" | b"userid" | b"dup" | b"recall" | b"recalled" | b"happened" => Self::Owned,
            b"cmd" => Self::Cmd,
            b"dstid" => Self::Dstid,
            b"kind" => Self::Kind,
            b"cid" => Self::Cid,
            b"media" => Self::Media,
            b"url" => Self::Url { exact: key == "url" },
            b"content" | b"pic" | b"memo" => Self::Text,
            b"amount" => Self::Amount,
            b"after" => Self::After,
            b"before" => Self::Before,
            b"limit" => Self::Limit,
            b"recv" => Self::Recv,
            b"read" => Self::Read,
            b"users" => Self::Users,
            b"seq" => Self::Seq,
            _ => Self::Other,
        }
    }
}

/// Walks an object: yields each key (with its quotes) and its value as they stand in the text.
pub(super) struct Spans<'t> {
    text: &'t str,
    /// Where the next key may begin.
    at: usize,
}

/// Whether a field of that name says what a post is, for whom, or which one: not a message's own.
#[must_use]
pub fn is_of_command(key: &str) -> bool {
    matches!(Name::of(key), Name::Cmd | Name::Dstid | Name::Cid)
}

impl<'t> Spans<'t> {
    /// The fields of the object that `text` is.
    pub(super) fn of(text: &'t str) -> Self {
        let open = text.bytes().take_while(|&b| b != b'{').count();
        Self { text, at: open + 1 }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// The first place from `at` on that is no white space and not `separator`.
    fn past(&self, mut at: usize, separator: u8) -> usize {
        while self.byte(at).is_some_and(|b| b == separator || matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
            at += 1;
        }
        at
    }

    /// The end of the string whose opening quote is at `at`.
    fn string_end(&self, at: usize) -> Option<usize> {
        let mut at = at + 1;
        loop {
            at += memchr::memchr2(b'"', b'\\', self.text.as_bytes().get(at..)?)?;
            if self.byte(at) == Some(b'"') {
                return Some(at + 1);
            }
            at += 2;
        }
    }

    /// The end of the value that begins at `at`.
    fn value_end(&self, at: usize) -> Option<usize> {
        match self.byte(at)? {
            b'"' => self.string_end(at),
            b'{' | b'[' => self.nested_end(at),
            _ => {
                let ends = |b: &u8| matches!(b, b',' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
                Some(at + self.text.as_bytes().get(at..)?.iter().position(ends)?)
            }
        }
    }

    /// The end of the object or array that opens at `at`: where as many brackets are closed as
    /// opened. Which of the two they are need not be looked at, since the text is known to be JSON.
    fn nested_end(&self, mut at: usize) -> Option<usize> {
        let mut depth = 0usize;
        loop {
            match self.byte(at)? {
                b'"' => {
                    at = self.string_end(at)?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1)?,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
}

impl<'t> Iterator for Spans<'t> {
    type Item = (&'t str, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.past(self.at, b',');
        if self.byte(key)? != b'"' {
            return None;
        }
        let key_end = self.string_end(key)?;
        let value = self.past(key_end, b':');
        let value_end = self.value_end(value)?;
        self.at = value_end;
        Some((self.text.get(key..key_end)?, self.text.get(value..value_end)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_verbatim() {
        let text = "\n { \"a\" : 1.50 ,\"b\\\"}\":\"x\\\\\" , \"c\":[ {\"d\":\"]\\\"\"} , 2 ]\t,\"e\":null,\"\":{}}  ";
        let spans: Vec<_> = Spans::of(text).collect();
        assert_eq!(
            spans,
            [
                ("\"a\"", "1.50"),
                ("\"b\\\"}\"", "\"x\\\\\""),
                ("\"c\"", "[ {\"d\":\"]\\\"\"} , 2 ]"),
                ("\"e\"", "null"),
                ("\"\"", "{}"),
            ]
        );
        assert_eq!(Spans::of(" {\n} ").count(), 0);
    }

    #[test]
    fn what_is_not_json_ends_early() {
        for text in
            ["", "{", "{\"", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":\"\\", "{\"a\":[", "{\"a\":{\"", "x", "[1,2]"]
        {
            assert_eq!(Spans::of(text).count(), 0, "{text}");
        }
    }

    #[test]
    fn names_fold_as_in_go() {
        for (key, name) in [
            ("cmd", Name::Cmd),
            ("CmD", Name::Cmd),
            ("u\u{17f}erid", Name::Owned),
            ("\u{17f}eq", Name::Seq),
            ("Recalled", Name::Owned),
            ("Happened", Name::Owned),
            ("\u{212a}ind", Name::Kind),
            ("D\u{17f}TID", Name::Dstid),
            ("url", Name::Url { exact: true }),
            ("Url", Name::Url { exact: false }),
            ("contenT", Name::Text),
            ("cmd ", Name::Other),
            ("\u{131}d", Name::Other),
            ("", Name::Other),
            ("a key that is longer than any of ours", Name::Other),
        ] {
            assert_eq!(Name::of(key), name, "{key:?}");
        }
    }
}

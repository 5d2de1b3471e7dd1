//! Bodies of `multipart/form-data` (RFC 7578, RFC 2046 section 5.1), part by part and chunk by
//! chunk.
//!
//! Owns: the bytes that may belong to a delimiter. A library would gather a part's head without a
//! bound.
//! Never: reads or waits; bytes are fed to it, and it says when it wants more.
//! Bounds: [`limits::MULTIPART_HEAD_BYTES_MAX`] for the head of a part and for what stands before
//! the first one.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use crate::limits;

/// See the module.
pub(super) struct Multipart {
    /// The line break before a delimiter, two hyphens and the boundary.
    delimiter: Vec<u8>,
    held: BytesMut,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Before the first delimiter.
    Preamble,
    /// Right behind a delimiter.
    Delimiter,
    /// In the head of a part.
    Head,
    /// In the content of a part.
    Content,
    /// Behind the last part.
    End,
}

/// What was found.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Nothing before more is fed.
    Hungry,
    /// A part begins; its field name, empty if it has none.
    Part(String),
    /// Bytes of the content of the part.
    Content(Bytes),
    /// The part is whole.
    PartEnd,
    /// The last part was it.
    End,
}

/// The body is no `multipart/form-data` with that boundary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

impl Multipart {
    /// For a body of that `Content-Type`; `None` when it is another one, or has no usable boundary.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary =
            parameter(parameters, "boundary").filter(|text| (1..=BOUNDARY_CHARS_MAX).contains(&text.len()))?;
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first delimiter may stand at the very beginning, without a line before it.
        Some(Self { delimiter, held: BytesMut::from(&b"\r\n"[..]), place: Place::Preamble })
    }

    /// More of the body.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next thing.
    ///
    /// # Errors
    /// [`Malformed`]; nothing more is to be had then.
    pub(super) fn next(&mut self) -> Result<Found, Malformed> {
        loop {
            match self.place {
                Place::Preamble => {
                    let Some(at) = memmem::find(&self.held, &self.delimiter) else {
                        return self.hungry();
                    };
                    drop(self.held.split_to(at + self.delimiter.len()));
                    self.place = Place::Delimiter;
                }
                Place::Delimiter => {
                    if self.held.starts_with(b"--") {
                        self.place = Place::End;
                        continue;
                    }
                    let Some(at) = memmem::find(&self.held, b"\r\n") else { return self.hungry() };
                    if !self.held[..at].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
                        return Err(Malformed);
                    }
                    // The line break stays: a part without headers has nothing before its empty
                    // line.
                    drop(self.held.split_to(at));
                    self.place = Place::Head;
                }
                Place::Head => {
                    let Some(at) = memmem::find(&self.held, b"\r\n\r\n") else { return self.hungry() };
                    let head = self.held.split_to(at + 4);
                    self.place = Place::Content;
                    return Ok(Found::Part(field_name(&String::from_utf8_lossy(&head))));
                }
                Place::Content => return Ok(self.content()),
                Place::End => return Ok(Found::End),
            }
        }
    }

    fn content(&mut self) -> Found {
        match memmem::find(&self.held, &self.delimiter) {
            Some(0) => {
                drop(self.held.split_to(self.delimiter.len()));
                self.place = Place::Delimiter;
                Found::PartEnd
            }
            Some(at) => Found::Content(self.held.split_to(at).freeze()),
            None => {
                // The end of what is held may be the beginning of a delimiter.
                let certain = self.held.len().saturating_sub(self.delimiter.len() - 1);
                if certain == 0 { Found::Hungry } else { Found::Content(self.held.split_to(certain).freeze()) }
            }
        }
    }

    fn hungry(&self) -> Result<Found, Malformed> {
        if self.held.len() > limits::MULTIPART_HEAD_BYTES_MAX { Err(Malformed) } else { Ok(Found::Hungry) }
    }
}

/// RFC 2046, section 5.1.1.
const BOUNDARY_CHARS_MAX: usize = 70;

/// The value of `name` in `a=b; c="d"`.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// The `name` of the header `Content-Disposition`.
fn field_name(head: &str) -> String {
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    disposition.and_then(|value| parameter(value, "name")).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = b"before\r\n--xYz\r\nContent-Disposition: form-data; name=\"userid\"\r\n\r\n7\r\n--xYz\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"../../a;b.html\"\r\nContent-Type: text/html\r\n\r\n\
        \r\n--xY <b>\r\n\r\n--xYz--\r\nbehind";

    /// Field names and contents, of a body that is fed in pieces of `step` bytes.
    fn parts(body: &[u8], step: usize) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
        let mut multipart = Multipart::of("multipart/form-data; boundary=xYz").expect("a boundary");
        let (mut pieces, mut parts) = (body.chunks(step), Vec::<(String, Vec<u8>)>::new());
        loop {
            match multipart.next()? {
                Found::Hungry => multipart.feed(pieces.next().ok_or(Malformed)?),
                Found::Part(name) => parts.push((name, Vec::new())),
                Found::Content(bytes) => parts.last_mut().expect("a part").1.extend_from_slice(&bytes),
                Found::PartEnd => {}
                Found::End => return Ok(parts),
            }
        }
    }

    proptest! {
        #[test]
        fn parts_are_found_however_the_body_comes(step in 1..200_usize) {
            let expected = vec![("userid".to_owned(), b"7".to_vec()), ("file".to_owned(), b"\r\n--xY <b>\r\n".to_vec())];
            prop_assert_eq!(parts(BODY, step), Ok(expected));
        }

        #[test]
        fn half_a_body_is_no_body(end in 0..BODY.len() - 10, step in 1..50_usize) {
            prop_assert_eq!(parts(&BODY[..end], step), Err(Malformed));
        }

        #[test]
        fn no_bytes_hurt(body in proptest::collection::vec(any::<u8>(), 0..300), step in 1..50_usize) {
            let _ = parts(&body, step);
        }
    }

    #[test]
    fn heads_are_bounded() {
        let mut body = b"--xYz\r\n".to_vec();
        body.resize(limits::MULTIPART_HEAD_BYTES_MAX * 2, b'a');
        assert_eq!(parts(&body, 1000), Err(Malformed));
        assert_eq!(parts(b"--xYz\r\n\r\nx\r\n--xYz--", 3), Ok(vec![(String::new(), b"x".to_vec())]));
    }

    #[test]
    fn a_boundary_is_needed() {
        assert!(Multipart::of("multipart/form-data; charset=utf-8; Boundary=\"a b\"").is_some());
        for wrong in ["multipart/form-data", "multipart/form-data; boundary=", "text/plain; boundary=x"] {
            assert!(Multipart::of(wrong).is_none(), "{wrong}");
        }
    }
}

//! Files in responses: conditional requests, ranges, and a body that is read as fast as the client
//! takes it.
//!
//! Owns: the rules of RFC 9110, sections 13 and 14, for one range. By hand: the crate `headers`
//! takes neither `Bytes=`, nor empty places in a list, nor numbers beyond 64 bits.
//! Never: reads ahead of the client: one chunk is in memory.
//! Bounds: [`limits::FILE_CHUNK_BYTES`], or what another [`Source`] gives at once.

use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::blocking::BlockingJobs;
use crate::clock::http_date;
use crate::limits;

/// An opened file, as far as it is served.
pub(super) trait Object: Read + Seek + Send {}

impl<T: Read + Seek + Send> Object for T {}

/// Where the bytes of a body come from, a chunk at a time.
pub(super) trait Source: Send {
    /// Bytes at most of a chunk.
    fn chunk_bytes(&self) -> usize;

    /// The source again, and the next bytes from `at` on, of which there are `left`: some, and not
    /// more than that.
    ///
    /// # Errors
    /// They cannot be had; the body ends there.
    fn chunk(self: Box<Self>, at: u64, left: u64) -> Chunk;
}

/// What [`Source::chunk`] promises.
pub(super) type Chunk = Pin<Box<dyn Future<Output = io::Result<(Box<dyn Source>, Bytes)>> + Send>>;

/// A file, read on the threads of `jobs`.
pub(super) struct FileSource {
    pub(super) object: Box<dyn Object>,
    pub(super) jobs: BlockingJobs,
}

impl Source for FileSource {
    fn chunk_bytes(&self) -> usize {
        limits::FILE_CHUNK_BYTES
    }

    fn chunk(self: Box<Self>, at: u64, left: u64) -> Chunk {
        let Self { object, jobs } = *self;
        let read = jobs.clone();
        Box::pin(async move {
            let (object, bytes) = read.run(move || chunk(object, at, left)).await?;
            Ok((Box::new(Self { object, jobs }) as Box<dyn Source>, bytes))
        })
    }
}

/// What is to be served.
pub(super) struct Content {
    pub(super) source: Box<dyn Source>,
    pub(super) len: u64,
    pub(super) mime: &'static str,
    /// With its quotes.
    pub(super) tag: String,
    /// Unix milliseconds, when it says anything.
    pub(super) modified_ms: Option<u64>,
}

/// On a response whose body is read while it is sent: it holds a chunk of so many bytes, whatever
/// its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streamed(pub(super) usize);

/// The answer to a request for `content`. Any method but HEAD gets it: the old pages fetch static
/// JSON with POST.
pub(super) fn answer(method: &Method, asked: &HeaderMap, content: Content) -> Response {
    let modified = content.modified_ms.map(http_date);
    let mut response = Response::new(Body::empty());
    set(&mut response, header::ETAG, &content.tag);
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    if let Some(modified) = &modified {
        set(&mut response, header::LAST_MODIFIED, modified);
    }
    if is_other(asked, &content.tag, modified.as_deref()) {
        *response.status_mut() = StatusCode::PRECONDITION_FAILED;
        return response;
    }
    if is_unchanged(asked, &content.tag, modified.as_deref()) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    set(&mut response, header::CONTENT_TYPE, content.mime);
    // A range is for GET alone (RFC 9110, section 14.2).
    let ranges = method == Method::GET;
    let wanted = match ranges.then(|| range(asked, &content.tag, modified.as_deref(), content.len)) {
        None | Some(Wanted::All) => 0..content.len,
        Some(Wanted::Part(first, end)) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut response, header::CONTENT_RANGE, &format!("bytes {first}-{}/{}", end - 1, content.len));
            first..end
        }
        Some(Wanted::Nothing) => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{}", content.len));
            return response;
        }
    };
    let left = wanted.end - wanted.start;
    set(&mut response, header::CONTENT_LENGTH, &left.to_string());
    if method != Method::HEAD {
        response.extensions_mut().insert(Streamed(content.source.chunk_bytes()));
        *response.body_mut() = Body::new(Reading::new(content.source, wanted.start, left));
    }
    response
}

/// The answer when the disk does not give a file.
pub(super) fn broken() -> Response {
    let mut response = Response::new(Body::from("500 the file cannot be read\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    set(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

/// The answer when the store of files does not answer; it may in a moment.
pub(super) fn unavailable() -> Response {
    let mut response = Response::new(Body::from("503 the store of files does not answer; try again\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    set(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    set(&mut response, header::RETRY_AFTER, UNAVAILABLE_RETRY_SECS);
    response
}

/// When to come back then: the store is tried every second.
const UNAVAILABLE_RETRY_SECS: &str = "2";

fn set(response: &mut Response, name: HeaderName, value: &str) {
    // All of them are ours and plain.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn text(asked: &HeaderMap, name: HeaderName) -> Option<&str> {
    asked.get(name)?.to_str().ok()
}

/// Whether the client wants another version only, as one that resumes a download (RFC 9110,
/// sections 13.1.1 and 13.1.4). A weak tag never matches here.
fn is_other(asked: &HeaderMap, tag: &str, modified: Option<&str>) -> bool {
    match text(asked, header::IF_MATCH) {
        Some("*") => false,
        Some(tags) => tags.split(',').all(|one| one.trim() != tag),
        None => {
            modified.is_some() && text(asked, header::IF_UNMODIFIED_SINCE).is_some_and(|held| Some(held) != modified)
        }
    }
}

/// Whether the client holds this already (RFC 9110, section 13.1.2). Dates are compared as texts:
/// what we sent comes back unchanged.
pub(super) fn is_unchanged(asked: &HeaderMap, tag: &str, modified: Option<&str>) -> bool {
    let held: Vec<&str> = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).collect();
    match held.as_slice() {
        [_, ..] => {
            let mut tags = held.iter().flat_map(|tags| tags.split(',')).map(str::trim);
            tags.any(|one| one == "*" || one.trim_start_matches("W/") == tag)
        }
        [] => modified.is_some() && text(asked, header::IF_MODIFIED_SINCE) == modified,
    }
}

/// The bytes that are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    All,
    /// First, and the one behind the last.
    Part(u64, u64),
    /// Bytes that are not there.
    Nothing,
}

/// What `Range` and `If-Range` say. Several ranges, other units and nonsense are answered with
/// everything.
fn range(asked: &HeaderMap, tag: &str, modified: Option<&str>, len: u64) -> Wanted {
    let same = text(asked, header::IF_RANGE).is_none_or(|held| held == tag || Some(held) == modified);
    let Some(range) = text(asked, header::RANGE).filter(|_| same) else { return Wanted::All };
    // The unit may be written in capitals, and a list of one range may have empty places (RFC 9110,
    // 14.1 and 5.6.1).
    let ranges = range.split_once('=').filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes")).map(|(_, ranges)| ranges);
    let mut ranges = ranges.into_iter().flat_map(|ranges| ranges.split(',')).filter(|range| !range.trim().is_empty());
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Wanted::All };
    let Some((first, last)) = range.split_once('-') else { return Wanted::All };
    let (first, last) = (first.trim(), last.trim());
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Wanted::All,
        (Some(first), _) if first >= len && (last.is_empty() || number(last).is_some()) => Wanted::Nothing,
        (Some(first), Some(last)) => Wanted::Part(first, last.saturating_add(1).min(len)),
        (Some(first), None) if last.is_empty() => Wanted::Part(first, len),
        (None, Some(0)) if first.is_empty() => Wanted::Nothing,
        (None, Some(_)) if first.is_empty() && len == 0 => Wanted::Nothing,
        (None, Some(tail)) if first.is_empty() => Wanted::Part(len.saturating_sub(tail), len),
        _ => Wanted::All,
    }
}

/// Digits, and nothing else; a number that is too large to be one stands for the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// A body that is read from a source.
pub(super) struct Reading {
    /// `None` while a chunk is on its way.
    source: Option<Box<dyn Source>>,
    at: u64,
    left: u64,
    next: Option<Chunk>,
}

impl Reading {
    /// `left` bytes of `source` from `at` on.
    pub(super) fn new(source: Box<dyn Source>, at: u64, left: u64) -> Self {
        Self { source: Some(source), at, left, next: None }
    }
}

impl hyper::body::Body for Reading {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(source) = self.source.take() {
            self.next = Some(source.chunk(self.at, self.left));
        }
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let Poll::Ready(read) = next.as_mut().poll(cx) else { return Poll::Pending };
        self.next = None;
        let (source, bytes) = read?;
        self.source = Some(source);
        self.at += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}

/// Reads at most a chunk; a file that has become shorter is an error, because its length was
/// promised.
fn chunk(mut object: Box<dyn Object>, at: u64, left: u64) -> io::Result<(Box<dyn Object>, Bytes)> {
    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(limits::FILE_CHUNK_BYTES);
    object.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![0; wanted];
    object.read_exact(&mut bytes)?;
    Ok((object, bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(HeaderName, &'static str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn of(text: &'static str, len: u64) -> Wanted {
        range(&asked(&[(header::RANGE, text)]), "\"t\"", None, len)
    }

    #[test]
    fn one_range_is_served() {
        for (text, len, wanted) in [
            ("bytes=0-0", 10, Wanted::Part(0, 1)),
            ("bytes=2-", 10, Wanted::Part(2, 10)),
            ("bytes=2-99", 10, Wanted::Part(2, 10)),
            ("bytes=-3", 10, Wanted::Part(7, 10)),
            ("bytes=-99", 10, Wanted::Part(0, 10)),
            ("bytes=-0", 10, Wanted::Nothing),
            ("bytes=10-", 10, Wanted::Nothing),
            ("bytes=10-12", 10, Wanted::Nothing),
            ("bytes=0-", 0, Wanted::Nothing),
            ("bytes=-1", 0, Wanted::Nothing),
            ("Bytes=0-0", 10, Wanted::Part(0, 1)),
            ("bytes=, 2-3 ,", 10, Wanted::Part(2, 4)),
            ("bytes=", 10, Wanted::All),
            ("bytes", 10, Wanted::All),
            ("bytes=+1-2", 10, Wanted::All),
            ("bytes=3-2", 10, Wanted::All),
            ("bytes=0-1,4-5", 10, Wanted::All),
            ("bytes=a-b", 10, Wanted::All),
            ("lines=0-1", 10, Wanted::All),
            ("bytes=18446744073709551615-18446744073709551615", 10, Wanted::Nothing),
            ("bytes=0-18446744073709551615", 10, Wanted::Part(0, 10)),
        ] {
            assert_eq!(of(text, len), wanted, "{text} of {len}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_everything() {
        let of =
            |held| range(&asked(&[(header::RANGE, "bytes=0-1"), (header::IF_RANGE, held)]), "\"t\"", Some("then"), 9);
        assert_eq!(of("\"t\""), Wanted::Part(0, 2));
        assert_eq!(of("then"), Wanted::Part(0, 2));
        assert_eq!(of("\"u\""), Wanted::All);
    }

    #[test]
    fn a_download_is_resumed_of_the_same_version_only() {
        let other = |name, value| is_other(&asked(&[(name, value)]), "\"t\"", Some("then"));
        assert!(!other(header::IF_MATCH, "\"s\", \"t\"") && !other(header::IF_MATCH, "*"));
        assert!(other(header::IF_MATCH, "\"s\"") && other(header::IF_MATCH, "W/\"t\""));
        assert!(!other(header::IF_UNMODIFIED_SINCE, "then") && other(header::IF_UNMODIFIED_SINCE, "before"));
        assert!(!other(header::ACCEPT, "*/*"));
    }

    #[test]
    fn what_is_held_is_not_sent_again() {
        let unchanged = |name, value| is_unchanged(&asked(&[(name, value)]), "\"t\"", Some("then"));
        assert!(unchanged(header::IF_NONE_MATCH, "\"s\", W/\"t\""));
        assert!(unchanged(header::IF_NONE_MATCH, "*"));
        assert!(unchanged(header::IF_MODIFIED_SINCE, "then"));
        assert!(!unchanged(header::IF_NONE_MATCH, "\"s\""));
        assert!(!unchanged(header::IF_MODIFIED_SINCE, "later"));
    }
}

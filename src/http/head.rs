//! One request head, borrowed from the buffer it arrived in.
//!
//! Owns: [`Head`]: method, path, query, headers, and what the gate asks of them.
//! Never: copies, except a query value that is percent-encoded. Never looks at the body.
//! Bounds: [`HEAD_BYTES_MAX`] bytes, [`HEADERS_MAX`] headers.

use std::borrow::Cow;

use url::form_urlencoded;

use super::Response;
use super::cookie::{self, Cookie};
use super::host;
use super::value::{elements, text, trimmed};
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

/// A whole request head.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// As sent: methods are case-sensitive.
    method: &'a str,
    /// The request target without its query, never empty.
    path: &'a str,
    /// What follows the first `?`; empty without one.
    query: &'a str,
    /// HTTP/1.1, otherwise HTTP/1.0.
    is_1_1: bool,
    headers: [httparse::Header<'a>; HEADERS_MAX],
    /// How many of `headers` are used.
    header_count: usize,
    /// Bytes of the head, its empty line included.
    len: usize,
}

/// Why a head is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadHead {
    /// Not HTTP/1: bad characters, an unknown version, a TLS hello on the plain port.
    #[error("the request head is not HTTP/1")]
    Malformed,
    /// More than [`HEAD_BYTES_MAX`] bytes or [`HEADERS_MAX`] headers.
    #[error("the request head is too large")]
    TooLarge,
}

impl BadHead {
    /// What its sender is told: 400 or 431.
    #[must_use]
    pub const fn response(self) -> Response {
        match self {
            Self::Malformed => Response::BadRequest,
            Self::TooLarge => Response::HeadTooLarge,
        }
    }
}

impl<'a> Head<'a> {
    /// Reads the head at the start of `bytes`, everything that the connection has sent; `None`
    /// means that more is needed.
    ///
    /// # Errors
    /// [`BadHead`], as soon as it is certain that no further byte can help.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Self>, BadHead> {
        let bounded = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let len = match request.parse(bounded) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if bytes.len() >= HEAD_BYTES_MAX => return Err(BadHead::TooLarge),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLarge),
            Err(_) => return Err(BadHead::Malformed),
        };
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(BadHead::Malformed);
        };
        let header_count = request.headers.len();
        let target = without_authority(target);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = if path.is_empty() { "/" } else { path };
        Ok(Some(Self { method, path, query, is_1_1: version == 1, headers, header_count, len }))
    }

    /// Bytes of the head; what follows in the buffer belongs to the body or to the upgraded
    /// connection.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a head is never empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The method, `GET` for instance.
    #[must_use]
    pub const fn method(&self) -> &'a str {
        self.method
    }

    /// The path as sent: starts with `/` unless the target is `*`, not percent-decoded, without the
    /// query.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// The query as sent, without its `?`.
    #[must_use]
    pub const fn query(&self) -> &'a str {
        self.query
    }

    /// Whether the request is HTTP/1.1, otherwise HTTP/1.0.
    #[must_use]
    pub const fn is_1_1(&self) -> bool {
        self.is_1_1
    }

    /// The first value of the query parameter `name`, decoded as a form is: `+` is a space, bad
    /// UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn query_param(&self, name: &str) -> Option<Cow<'a, str>> {
        // Each connection is asked for several of them; only what may be the one is decoded.
        self.query.split('&').find_map(|pair| {
            let key = pair.split_once('=').map_or(pair, |(key, _)| key);
            if key != name && !key.contains(['%', '+']) {
                return None;
            }
            form_urlencoded::parse(pair.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
        })
    }

    /// The values of every header line called `name`, in order, without surrounding blanks,
    /// whatever their bytes are.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let used = self.headers.iter().take(self.header_count);
        used.filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| trimmed(header.value))
    }

    /// The value of the first header line called `name`; one that is not UTF-8 reads as
    /// [`UNREADABLE`](super::value::UNREADABLE).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.header_values(name).next().map(text)
    }

    /// The elements of a header that is a comma-separated list, over all its lines, as
    /// [`elements`] reads them.
    pub fn header_list(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.header_values(name).flat_map(elements)
    }

    /// Whether the request says for which host it is, as [`host::is_right`] wants it.
    #[must_use]
    pub fn has_right_host(&self) -> bool {
        let used = self.headers.iter().take(self.header_count);
        let hosts = used.filter(|header| header.name.eq_ignore_ascii_case("host")).map(|header| header.value);
        host::is_right(hosts, self.is_1_1)
    }

    /// Whether bytes of a body follow, or may: a length that is not 0, or any transfer coding (RFC
    /// 9112, section 6.3).
    #[must_use]
    pub fn has_body(&self) -> bool {
        let used = self.headers.iter().take(self.header_count);
        used.clone().any(|header| header.name.eq_ignore_ascii_case("transfer-encoding"))
            || used
                .filter(|header| header.name.eq_ignore_ascii_case("content-length"))
                .any(|header| header.value.is_empty() || header.value.iter().any(|&byte| byte != b'0'))
    }

    /// The `Host` header.
    #[must_use]
    pub fn host(&self) -> Option<&'a str> {
        self.header("host")
    }

    /// All cookies, in order (RFC 6265, section 5.4).
    pub fn cookies(&self) -> impl Iterator<Item = Cookie<'a>> {
        self.header_values("cookie").flat_map(cookie::parse)
    }

    /// The value of the first cookie called `name`.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.cookies().find(|cookie| cookie.name == name).map(|cookie| cookie.value)
    }

    /// The cookies whose name starts with `prefix`; their names are what follows it.
    pub fn cookies_with_prefix(&self, prefix: &str) -> impl Iterator<Item = Cookie<'a>> {
        self.cookies().filter_map(move |cookie| Some(Cookie { name: cookie.name.strip_prefix(prefix)?, ..cookie }))
    }

    /// Whether this asks for WebSocket: `Connection` lists `upgrade` and `Upgrade` lists
    /// `websocket`. Such a request is judged by [`ws::handshake`](crate::ws::handshake), every
    /// other one by the control plane.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.header_list("connection").any(|item| item.eq_ignore_ascii_case("upgrade"))
            && self.header_list("upgrade").any(|item| item.eq_ignore_ascii_case("websocket"))
    }
}

/// A server must take the absolute form that proxies use, `GET http://host/path` (RFC 9112, section
/// 3.2.2).
fn without_authority(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or("")
        }
        _ => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::value::UNREADABLE;

    fn parse(text: &str) -> Head<'_> {
        Head::parse(text.as_bytes()).expect("a good head").expect("a whole head")
    }

    #[test]
    fn a_browsers_upgrade_is_read() {
        let text = "GET /chat?id=7&token=a%2Bb+c&id=8 HTTP/1.1\r\nHost: im.example:8081\r\nConnection: keep-alive, Upgrade\r\n\
                    upgrade: websocket\r\nCookie: im_7=x; other=\"q\"\r\nCookie: im_8=y\r\n\r\nbody";
        let head = parse(text);
        assert_eq!((head.method(), head.path(), head.query()), ("GET", "/chat", "id=7&token=a%2Bb+c&id=8"));
        assert_eq!(head.len(), text.len() - "body".len());
        assert_eq!(head.query_param("token").as_deref(), Some("a+b c"));
        assert_eq!(head.query_param("id").as_deref(), Some("7"));
        assert_eq!(head.query_param("ID"), None);
        assert_eq!(head.host(), Some("im.example:8081"));
        assert!(head.is_upgrade() && head.is_1_1());
        assert_eq!((head.cookie("other"), head.cookie("im_8"), head.cookie("im_")), (Some("q"), Some("y"), None));
        let of_users: Vec<_> = head.cookies_with_prefix("im_").map(|cookie| (cookie.name, cookie.value)).collect();
        assert_eq!(of_users, [("7", "x"), ("8", "y")]);
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        for (headers, asked) in [
            ("Connection: upgrade\r\nUpgrade: WebSocket\r\n", true),
            ("Connection: a\r\nConnection: b,upgrade\r\nUpgrade: h2c, websocket\r\n", true),
            ("Connection: upgrade\r\n", false),
            ("Upgrade: websocket\r\n", false),
            ("Connection: upgraded\r\nUpgrade: websocket\r\n", false),
            ("Connection: upgrade\r\nUpgrade: websockets\r\n", false),
        ] {
            let text = format!("GET / HTTP/1.1\r\n{headers}\r\n");
            assert_eq!(parse(&text).is_upgrade(), asked, "{headers}");
        }
    }

    #[test]
    fn the_absolute_form_is_a_path() {
        for (target, path, query) in [
            ("/a/b?c=d?e", "/a/b", "c=d?e"),
            ("http://host:1/a?b", "/a", "b"),
            ("ws://host", "/", ""),
            ("http://host?a", "/", "a"),
            ("/redirect?to=http://host/x", "/redirect", "to=http://host/x"),
            ("*", "*", ""),
        ] {
            let text = format!("GET {target} HTTP/1.1\r\n\r\n");
            let head = parse(&text);
            assert_eq!((head.path(), head.query()), (path, query), "{target}");
        }
    }

    #[test]
    fn a_body_is_announced_by_a_length_or_a_coding() {
        for (headers, has_body) in [
            ("", false),
            ("Content-Length: 0\r\n", false),
            ("content-length: 00\r\n", false),
            ("Content-Length: 5\r\n", true),
            ("Content-Length: 0\r\nCONTENT-LENGTH: 5\r\n", true),
            ("Content-Length: 0, 5\r\n", true),
            ("Content-Length:\r\n", true),
            ("Transfer-Encoding: chunked\r\n", true),
            ("TRANSFER-ENCODING: identity\r\n", true),
        ] {
            let text = format!("GET /chat HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
            assert_eq!(parse(&text).has_body(), has_body, "{headers}");
        }
    }

    #[test]
    fn a_cut_head_wants_more() {
        let text = "GET /chat HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\n\r\n";
        for cut in 0..text.len() {
            assert!(matches!(Head::parse(&text.as_bytes()[..cut]), Ok(None)), "cut at {cut}");
        }
        assert_eq!(parse(text).len(), text.len());
    }

    #[test]
    fn a_head_ends_at_its_limit() {
        let frame = "GET / HTTP/1.1\r\nA: \r\n\r\n".len();
        let head = |len: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(len - frame));
        assert_eq!(parse(&head(HEAD_BYTES_MAX)).len(), HEAD_BYTES_MAX);
        assert!(matches!(Head::parse(head(HEAD_BYTES_MAX + 1).as_bytes()), Err(BadHead::TooLarge)));
        let endless = vec![b'a'; HEAD_BYTES_MAX];
        assert!(matches!(Head::parse(&endless[1..]), Ok(None)));
        assert!(matches!(Head::parse(&endless), Err(BadHead::TooLarge)));
        // A body behind a whole head does not count.
        let with_body = "POST / HTTP/1.1\r\n\r\n".to_owned() + &"b".repeat(2 * HEAD_BYTES_MAX);
        assert_eq!(parse(&with_body).method(), "POST");
    }

    #[test]
    fn headers_end_at_their_limit() {
        let head = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert_eq!(parse(&head(HEADERS_MAX)).header_values("a").count(), HEADERS_MAX);
        assert!(matches!(Head::parse(head(HEADERS_MAX + 1).as_bytes()), Err(BadHead::TooLarge)));
    }

    #[test]
    fn garbage_is_told_at_once() {
        for garbage in
            [&b"\x16\x03\x01\x02\x00"[..], b"GET / HTTP/9.9\r\n", b"\0\0\0\0", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"]
        {
            let bad = Head::parse(garbage).expect_err("garbage");
            assert_eq!(bad, BadHead::Malformed, "{garbage:?}");
            assert_eq!(bad.response(), Response::BadRequest);
        }
        assert_eq!(BadHead::TooLarge.response(), Response::HeadTooLarge);
    }

    #[test]
    fn a_line_that_is_not_utf8_is_there() {
        let lines = b"GET / HTTP/1.1\r\nHost: \xff\r\nHost: b\r\nConnection: \xe9, upgrade\r\nUpgrade: websocket\r\n\
                      Cookie: a=\xff; b=c\r\n\r\n";
        let head = Head::parse(lines).expect("a good head").expect("a whole head");
        assert_eq!((head.host(), head.header_values("host").count()), (Some(UNREADABLE), 2));
        assert_eq!((head.cookie("a"), head.cookie("b")), (None, Some("c")));
        assert!(head.is_upgrade(), "a bad element is alone in being bad");
    }
}

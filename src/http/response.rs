//! What the gate says to those whom it does not let in.
//!
//! Owns: [`Response`] and its bytes.
//! Never: answers for the control plane, and never keeps a connection: the stream may hold anything
//! after a refusal.

use crate::clock::http_date;

/// A refusal of the gate. The connection is closed after its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response {
    /// 400: the bytes are no request.
    BadRequest,
    /// 400: a request without TLS where TLS is spoken.
    NotTls,
    /// 400: a request for `/chat` that is no upgrade, or a bad one.
    BadUpgrade,
    /// 403 `Forbidden`: an upgrade whose token is not valid, in the legacy profile.
    Forbidden,
    /// 405: an upgrade by another method than GET.
    MethodNotAllowed,
    /// 408: the head did not arrive in time.
    RequestTimeout,
    /// 431: the head is larger than [`HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX), or has too
    /// many headers.
    HeadTooLarge,
    /// 503: the shard or the control plane has no room now.
    Unavailable,
}

impl Response {
    /// Every refusal there is.
    pub const ALL: [Self; 8] = [
        Self::BadRequest,
        Self::NotTls,
        Self::BadUpgrade,
        Self::Forbidden,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::HeadTooLarge,
        Self::Unavailable,
    ];

    /// The status code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::NotTls | Self::BadUpgrade => 400,
            Self::Forbidden => 403,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::HeadTooLarge => 431,
            Self::Unavailable => 503,
        }
    }

    /// The whole response at `wall_ms` (Unix milliseconds) to whoever has sent `asked`, which may
    /// be any bytes: one that asks by HEAD gets the head alone, with the length that GET would get
    /// (RFC 9110, section 9.3.2). Refused upgrades name the version that is spoken here, as the
    /// originals do and RFC 6455, section 4.2.2, wants it.
    #[must_use]
    pub fn to(self, asked: &[u8], wall_ms: u64) -> Vec<u8> {
        let (status, headers, content) = self.parts();
        let (date, len) = (http_date(wall_ms), content.len());
        let shown = if is_head(asked) { "" } else { content };
        format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: text/plain; charset=utf-8\r\n{headers}\
             X-Content-Type-Options: nosniff\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{shown}"
        )
        .into_bytes()
    }

    /// Code and reason, header lines of its own, content.
    const fn parts(self) -> (&'static str, &'static str, &'static str) {
        const VERSION: &str = "Sec-Websocket-Version: 13\r\n";
        match self {
            Self::BadRequest => ("400 Bad Request", "", "Bad Request\n"),
            Self::NotTls => ("400 Bad Request", "", "Bad Request: this port is https\n"),
            Self::BadUpgrade => ("400 Bad Request", VERSION, "Bad Request\n"),
            Self::Forbidden => ("403 Forbidden", VERSION, "Forbidden\n"),
            Self::MethodNotAllowed => {
                ("405 Method Not Allowed", "Allow: GET\r\nSec-Websocket-Version: 13\r\n", "Method Not Allowed\n")
            }
            Self::RequestTimeout => ("408 Request Timeout", "", "Request Timeout\n"),
            Self::HeadTooLarge => ("431 Request Header Fields Too Large", "", "Request Header Fields Too Large\n"),
            Self::Unavailable => ("503 Service Unavailable", "Retry-After: 1\r\n", "Service Unavailable\n"),
        }
    }
}

/// Whether the request that these bytes begin asks by HEAD. Empty lines may stand before it (RFC
/// 9112, section 2.2).
fn is_head(asked: &[u8]) -> bool {
    let start = asked.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or_default();
    asked.get(start..).is_some_and(|line| line.starts_with(b"HEAD "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_is_whole() {
        for response in Response::ALL {
            let mut headers = [httparse::EMPTY_HEADER; 8];
            let mut head = httparse::Response::new(&mut headers);
            let bytes = response.to(b"GET / HTTP/1.1", 784_111_777_000);
            let len = head.parse(&bytes).expect("a response").unwrap();
            let value = |name: &str| head.headers.iter().find(|header| header.name == name).map(|header| header.value);
            assert_eq!(head.code, Some(response.status()));
            assert_eq!(value("Content-Length"), Some((bytes.len() - len).to_string().as_bytes()), "{response:?}");
            assert_eq!(value("Connection"), Some(&b"close"[..]));
            assert_eq!(value("Content-Type"), Some(&b"text/plain; charset=utf-8"[..]));
            assert_eq!(value("Date"), Some(&b"Sun, 06 Nov 1994 08:49:37 GMT"[..]));
            let reason = head.reason.expect("a reason");
            let body = str::from_utf8(&bytes[len..]).expect("ASCII");
            assert!(body.starts_with(reason) && body.ends_with('\n'), "{body}");
        }
    }

    #[test]
    fn an_answer_to_head_is_the_head_alone() {
        for response in Response::ALL {
            let whole = response.to(b"", 0);
            for asked in [&b"HEAD / HTTP/1.1\r\n"[..], b"\r\n\r\nHEAD /", b"\nHEAD "] {
                let alone = response.to(asked, 0);
                assert!(whole.starts_with(&alone) && alone.ends_with(b"\r\n\r\n"), "{response:?}");
            }
            for asked in [&b"HEADS / HTTP/1.1\r\n"[..], b"head /", b"GET /\r\nHEAD /", b"HEAD", b"\r\n"] {
                assert_eq!(response.to(asked, 0), whole, "{asked:?}");
            }
        }
    }

    #[test]
    fn refused_upgrades_name_the_version() {
        for response in [Response::BadUpgrade, Response::Forbidden, Response::MethodNotAllowed] {
            let text = String::from_utf8(response.to(b"GET", 0)).expect("ASCII");
            assert!(text.contains("\r\nSec-Websocket-Version: 13\r\n"), "{text}");
        }
    }
}

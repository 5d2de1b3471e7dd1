//! What the gate says to those whom it does not let in.
//!
//! Owns: [`Response`] and its bytes, which never change, so that refusing costs no memory.
//! Never: answers for the control plane, and never keeps a connection: the stream may hold anything
//! after a refusal.

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

/// `body_len` is checked by a test, because the length of a literal is not a literal.
macro_rules! response {
    ($status:literal, $headers:literal, $body_len:literal, $body:literal) => {
        concat!(
            "HTTP/1.1 ",
            $status,
            "\r\nContent-Type: text/plain; charset=utf-8\r\n",
            $headers,
            "X-Content-Type-Options: nosniff\r\nContent-Length: ",
            $body_len,
            "\r\nConnection: close\r\n\r\n",
            $body
        )
        .as_bytes()
    };
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

    /// The whole response, head and body. Refused upgrades name the version that is spoken here, as
    /// the originals do and RFC 6455, section 4.2.2, wants it.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::BadRequest => response!("400 Bad Request", "", 12, "Bad Request\n"),
            Self::NotTls => response!("400 Bad Request", "", 32, "Bad Request: this port is https\n"),
            Self::BadUpgrade => response!("400 Bad Request", "Sec-Websocket-Version: 13\r\n", 12, "Bad Request\n"),
            Self::Forbidden => response!("403 Forbidden", "Sec-Websocket-Version: 13\r\n", 10, "Forbidden\n"),
            Self::MethodNotAllowed => response!(
                "405 Method Not Allowed",
                "Allow: GET\r\nSec-Websocket-Version: 13\r\n",
                19,
                "Method Not Allowed\n"
            ),
            Self::RequestTimeout => response!("408 Request Timeout", "", 16, "Request Timeout\n"),
            Self::HeadTooLarge => {
                response!("431 Request Header Fields Too Large", "", 32, "Request Header Fields Too Large\n")
            }
            Self::Unavailable => {
                response!("503 Service Unavailable", "Retry-After: 1\r\n", 20, "Service Unavailable\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_is_whole() {
        for response in Response::ALL {
            let mut headers = [httparse::EMPTY_HEADER; 8];
            let mut head = httparse::Response::new(&mut headers);
            let bytes = response.bytes();
            let len = head.parse(bytes).expect("a response").unwrap();
            let value = |name: &str| head.headers.iter().find(|header| header.name == name).map(|header| header.value);
            assert_eq!(head.code, Some(response.status()));
            assert_eq!(value("Content-Length"), Some((bytes.len() - len).to_string().as_bytes()), "{response:?}");
            assert_eq!(value("Connection"), Some(&b"close"[..]));
            assert_eq!(value("Content-Type"), Some(&b"text/plain; charset=utf-8"[..]));
            let reason = head.reason.expect("a reason");
            let body = str::from_utf8(&bytes[len..]).expect("ASCII");
            assert!(body.starts_with(reason) && body.ends_with('\n'), "{body}");
        }
    }

    #[test]
    fn refused_upgrades_name_the_version() {
        for response in [Response::BadUpgrade, Response::Forbidden, Response::MethodNotAllowed] {
            let text = str::from_utf8(response.bytes()).expect("ASCII");
            assert!(text.contains("\r\nSec-Websocket-Version: 13\r\n"), "{text}");
        }
    }
}

//! The upgrade from HTTP to WebSocket (RFC 6455, section 4.2).
//!
//! Owns: the order in which a request is judged, the accept key, the 101 response.
//! Never: knows which subprotocols there are, or what a token is. What is agreed upon of extensions
//! is [`deflate`](super::deflate)'s to say.

use tungstenite::handshake::derive_accept_key;

use super::deflate::{self, Agreed};
use crate::http::value::text;
use crate::http::{Head, Response};

/// Why a request is not upgraded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UpgradeRefused {
    /// HTTP/1.1 without `Host`, two of them, or one that can be none (RFC 9112, section 3.2).
    #[error("the request does not say for which host it is")]
    Host,
    /// No `Connection: upgrade` or no `Upgrade: websocket`.
    #[error("the request is no WebSocket upgrade")]
    NoUpgrade,
    /// Another method than GET.
    #[error("an upgrade must be a GET")]
    Method,
    /// HTTP/1.0, or another `Sec-WebSocket-Version` than 13.
    #[error("the protocol version is not spoken here")]
    Version,
    /// A body is announced. Its bytes would be read as frames: a proxy that reads them as a body
    /// may be made to send frames that are not its client's.
    #[error("an upgrade has no body")]
    Body,
    /// `Sec-WebSocket-Key` is missing, given twice, or not 16 bytes in base64.
    #[error("the WebSocket key is not valid")]
    Key,
    /// `Sec-WebSocket-Extensions` is not what RFC 6455, section 9.1 allows.
    #[error("the list of extensions is malformed")]
    Extensions,
}

impl UpgradeRefused {
    /// What the client is told: 400 or 405.
    #[must_use]
    pub const fn response(self) -> Response {
        match self {
            Self::Host | Self::NoUpgrade | Self::Version | Self::Body | Self::Key | Self::Extensions => {
                Response::BadUpgrade
            }
            Self::Method => Response::MethodNotAllowed,
        }
    }
}

/// A request that asks for WebSocket properly, as far as can be said before its token is judged.
///
/// The originals judge the token before the key, and so does the owner of this: first the token,
/// with 403 if it is refused, then [`accept`](Self::accept).
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a, 'b> {
    head: &'b Head<'a>,
}

impl<'a, 'b> Upgrade<'a, 'b> {
    /// Judges everything that comes before the token, in the order of the originals, which know
    /// nothing of bodies.
    ///
    /// # Errors
    /// [`UpgradeRefused`], never [`UpgradeRefused::Key`].
    pub fn of(head: &'b Head<'a>) -> Result<Self, UpgradeRefused> {
        if !head.has_right_host() {
            return Err(UpgradeRefused::Host);
        }
        if !head.is_upgrade() {
            return Err(UpgradeRefused::NoUpgrade);
        }
        if head.method() != "GET" {
            return Err(UpgradeRefused::Method);
        }
        if !head.is_1_1() || head.header("sec-websocket-version") != Some("13") {
            return Err(UpgradeRefused::Version);
        }
        if head.has_body() {
            return Err(UpgradeRefused::Body);
        }
        Ok(Self { head })
    }

    /// Whether the client offers the subprotocol `name`, which is case-sensitive (RFC 6455, section
    /// 11.3.4).
    #[must_use]
    pub fn offers(&self, name: &str) -> bool {
        self.subprotocols().any(|offer| offer == name)
    }

    /// What follows `prefix` in the first offered subprotocol that starts with it: how browsers,
    /// which can set no header, pass a token without putting it into the URL.
    #[must_use]
    pub fn offer_after(&self, prefix: &str) -> Option<&'a str> {
        self.subprotocols().find_map(|offer| offer.strip_prefix(prefix))
    }

    fn subprotocols(&self) -> impl Iterator<Item = &'a str> {
        self.head.header_list("sec-websocket-protocol")
    }

    /// What can be agreed upon with the client about compression, if it is to be had at all.
    ///
    /// # Errors
    /// [`UpgradeRefused::Extensions`].
    pub fn compression(&self, on: bool) -> Result<Option<Agreed>, UpgradeRefused> {
        if !on {
            return Ok(None);
        }
        deflate::agree(self.head.header_values("sec-websocket-extensions").map(text))
            .map_err(|_| UpgradeRefused::Extensions)
    }

    /// Judges the key, the last thing to be judged.
    ///
    /// # Errors
    /// [`UpgradeRefused::Key`].
    pub fn accept(&self) -> Result<Accept, UpgradeRefused> {
        let mut keys = self.head.header_values("sec-websocket-key");
        let (Some(key), None) = (keys.next(), keys.next()) else { return Err(UpgradeRefused::Key) };
        if !is_nonce(key) {
            return Err(UpgradeRefused::Key);
        }
        let answer = derive_accept_key(key);
        Ok(Accept { key: answer.as_bytes().try_into().map_err(|_| UpgradeRefused::Key)? })
    }
}

/// The proof that the request was a good one and has been understood: small and owned, so that it
/// travels with a connection to the shard that writes the 101.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accept {
    /// `Sec-WebSocket-Accept`: the base64 of a SHA-1.
    key: [u8; 28],
}

impl Accept {
    /// Appends the 101 response, with the chosen subprotocol if one of the client's offers was
    /// chosen, and with what was agreed upon about compression.
    pub fn write_response(&self, out: &mut Vec<u8>, subprotocol: Option<&'static str>, agreed: Option<Agreed>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.key);
        if let Some(name) = subprotocol {
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(name.as_bytes());
        }
        if let Some(agreed) = agreed {
            out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
            agreed.write(out);
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// Whether `key` is the base64 of 16 bytes (RFC 6455, section 4.2.1): 22 digits and two signs of
/// padding. That the last digit's unused bits are zero is not asked: no peer is worse off for it,
/// and the RFC's grammar allows them.
fn is_nonce(key: &[u8]) -> bool {
    const DIGITS: usize = 22;
    key.split_at_checked(DIGITS).is_some_and(|(digits, padding)| {
        padding == b"==" && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The headers of RFC 6455, section 1.2.
    const GOOD: [(&str, &str); 5] = [
        ("Host", "server.example.com"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn request(start: &str, headers: &[(&str, &str)]) -> String {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{start}\r\n{lines}\r\n")
    }

    fn judge(request: &str) -> Result<Accept, UpgradeRefused> {
        let head = Head::parse(request.as_bytes()).expect("a good head").expect("a whole head");
        Upgrade::of(&head)?.accept()
    }

    /// The good request without the header `name`, or with another value of it.
    fn with(name: &str, value: Option<&str>) -> String {
        let mut headers: Vec<_> = GOOD.into_iter().filter(|(known, _)| *known != name).collect();
        headers.extend(value.map(|value| (name, value)));
        request("GET /chat HTTP/1.1", &headers)
    }

    #[test]
    fn the_rfcs_example_is_accepted() {
        let accept = judge(&request("GET /chat HTTP/1.1", &GOOD)).expect("a good request");
        let mut out = Vec::new();
        accept.write_response(&mut out, None, None);
        assert_eq!(
            str::from_utf8(&out),
            Ok("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        );
        out.clear();
        accept.write_response(&mut out, Some("imgate.v2"), None);
        assert!(out.ends_with(b"=\r\nSec-WebSocket-Protocol: imgate.v2\r\n\r\n"));
    }

    #[test]
    fn each_header_is_needed() {
        for (name, value, refused) in [
            ("Host", None, UpgradeRefused::Host),
            ("Host", Some("a/b"), UpgradeRefused::Host),
            ("Connection", None, UpgradeRefused::NoUpgrade),
            ("Upgrade", None, UpgradeRefused::NoUpgrade),
            ("Upgrade", Some("h2c"), UpgradeRefused::NoUpgrade),
            ("Sec-WebSocket-Version", None, UpgradeRefused::Version),
            ("Sec-WebSocket-Version", Some("8"), UpgradeRefused::Version),
            ("Sec-WebSocket-Key", None, UpgradeRefused::Key),
            ("Sec-WebSocket-Key", Some(""), UpgradeRefused::Key),
            ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ"), UpgradeRefused::Key),
            ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25j*Q=="), UpgradeRefused::Key),
            ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="), UpgradeRefused::Key),
            ("Sec-WebSocket-Key", Some("ééééééééééé=="), UpgradeRefused::Key),
        ] {
            assert_eq!(judge(&with(name, value)), Err(refused), "{name}: {value:?}");
        }
        let twice = [GOOD.as_slice(), &GOOD[4..]].concat();
        assert_eq!(judge(&request("GET / HTTP/1.1", &twice)), Err(UpgradeRefused::Key));
        let two_hosts = [GOOD.as_slice(), &GOOD[..1]].concat();
        assert_eq!(judge(&request("GET / HTTP/1.1", &two_hosts)), Err(UpgradeRefused::Host));
        assert_eq!(judge(&request("GET / HTTP/1.0", &GOOD)), Err(UpgradeRefused::Version));
    }

    #[test]
    fn an_upgrade_with_a_body_is_none() {
        for (name, value, is_good) in
            [("Content-Length", "0", true), ("Content-Length", "6", false), ("Transfer-Encoding", "chunked", false)]
        {
            let headers = [GOOD.as_slice(), &[(name, value)]].concat();
            // What follows is one masked frame, which must not be taken for one.
            let text = request("GET /chat HTTP/1.1", &headers) + "\u{1}\u{0}abcd";
            assert_eq!(judge(&text).err(), (!is_good).then_some(UpgradeRefused::Body), "{name}: {value}");
        }
    }

    #[test]
    fn the_order_is_the_originals() {
        // Each request breaks a rule and all later ones: the first broken rule is told.
        assert_eq!(judge(&request("POST / HTTP/1.1", &[])), Err(UpgradeRefused::Host));
        assert_eq!(judge(&request("POST / HTTP/1.1", &GOOD[..1])), Err(UpgradeRefused::NoUpgrade));
        assert_eq!(judge(&request("POST / HTTP/1.1", &GOOD[..3])), Err(UpgradeRefused::Method));
        assert_eq!(judge(&request("GET / HTTP/1.1", &GOOD[..3])), Err(UpgradeRefused::Version));
        assert_eq!(judge(&request("GET / HTTP/1.1", &GOOD[..4])), Err(UpgradeRefused::Key));
        assert_eq!(UpgradeRefused::Method.response().status(), 405);
        for refused in [
            UpgradeRefused::Host,
            UpgradeRefused::NoUpgrade,
            UpgradeRefused::Version,
            UpgradeRefused::Body,
            UpgradeRefused::Key,
        ] {
            assert_eq!(refused.response().status(), 400);
        }
    }

    #[test]
    fn offers_are_read_over_all_lines() {
        let extra = [("Sec-WebSocket-Protocol", "soap, token.ab-_1"), ("sec-websocket-protocol", "imgate.v2")];
        let text = request("GET / HTTP/1.1", &[GOOD.as_slice(), &extra].concat());
        let head = Head::parse(text.as_bytes()).expect("a good head").expect("a whole head");
        let upgrade = Upgrade::of(&head).expect("a good request");
        assert!(upgrade.offers("imgate.v2") && !upgrade.offers("imgate") && !upgrade.offers("IMGATE.V2"));
        assert_eq!((upgrade.offer_after("token."), upgrade.offer_after("other.")), (Some("ab-_1"), None));
    }
}

//! A blocking HTTP/1.1 GET or form over one short connection: metrics, history, accounts and
//! groups, never the measured path.
//!
//! Owns: the request, and the answer's head, `Content-Length` and chunked bodies.
//! Bounds: head and body by [`crate::limits`], every read and write by a time-out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::clock::{Clock, pause, seconds_ns};
use crate::interrupt::Interrupt;
use crate::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX};

/// How long connecting, and each read and write, may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries to reach a gateway that is starting.
const LOOK_MS: u64 = 20;

/// `http://HOST:PORT/path`, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    /// `HOST:PORT`.
    pub(crate) host: String,
    /// Path and query, with the slash in front.
    pub(crate) path: String,
}

/// Where a gateway is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// For the `Host` header.
    pub(crate) host: String,
}

impl Url {
    /// Parses an `http` URL.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://").with_context(|| format!("{url}: only http:// URLs are supported"))?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        ensure!(!host.is_empty() && !rest.bytes().any(|b| b.is_ascii_control() || b == b' '), "{url}: not a URL");
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        Ok(Self { host, path: path.to_owned() })
    }

    /// The first address of the host.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        let mut all = self.host.to_socket_addrs().with_context(|| format!("cannot resolve {}", self.host))?;
        all.next().with_context(|| format!("{} has no address", self.host))
    }
}

/// Gets a document. A status other than 200 is an error.
pub(crate) fn get(url: &Url, bearer: Option<&str>) -> Result<Vec<u8>> {
    exchange("GET", url, bearer, None, TIMEOUT)
}

/// As [`get`], of a document that is worth only so much waiting.
pub(crate) fn get_within(url: &Url, patience: Duration) -> Result<Vec<u8>> {
    exchange("GET", url, None, None, patience)
}

/// Waits until a gateway answers HTTP, `seconds` at the most.
pub(crate) fn await_answer(base: &Url, clock: Clock, seconds: u64, interrupt: &Interrupt) -> Result<()> {
    let until = clock.nanos() + seconds_ns(seconds);
    let wanted = Url { path: "/message/history".to_owned(), ..base.clone() };
    loop {
        // What it answers does not matter, as long as it is an answer.
        match get(&wanted, None) {
            Ok(_) => return Ok(()),
            Err(error) if clock.nanos() > until => return Err(error.context("the server does not answer")),
            Err(_) => {
                interrupt.check()?;
                pause(LOOK_MS);
            }
        }
    }
}

/// Posts a form. A status other than 200 is an error.
pub(crate) fn post(url: &Url, bearer: Option<&str>, fields: &[(&str, &str)]) -> Result<Vec<u8>> {
    let pairs: Vec<String> = fields.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    exchange("POST", url, bearer, Some(&pairs.join("&")), TIMEOUT)
}

fn exchange(method: &str, url: &Url, bearer: Option<&str>, form: Option<&str>, patience: Duration) -> Result<Vec<u8>> {
    let context = || format!("{method} http://{}{}", url.host, url.path);
    let mut stream = TcpStream::connect_timeout(&url.address()?, patience).with_context(context)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let authorization = bearer.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = form
        .map(|form| format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", form.len()));
    let request = format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\n{authorization}{}Accept: */*\r\nConnection: close\r\n\r\n{}",
        url.path,
        url.host,
        length.unwrap_or_default(),
        form.unwrap_or_default()
    );
    stream.write_all(request.as_bytes()).with_context(context)?;
    let mut bytes = Vec::new();
    let most = (HEAD_BYTES_MAX + BODY_BYTES_MAX) as u64;
    stream.take(most).read_to_end(&mut bytes).with_context(context)?;
    body(&bytes).with_context(context)
}

/// Percent-encodes everything that is not certainly harmless in a form.
fn encoded(value: &str) -> String {
    let one = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(b).to_string(),
        other => format!("%{other:02X}"),
    };
    value.bytes().map(one).collect()
}

/// The body of a whole answer.
pub(crate) fn body(bytes: &[u8]) -> Result<Vec<u8>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("no response head")?;
    let head = std::str::from_utf8(&bytes[..end]).context("a response head that is no text")?;
    let rest = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "answered {status}");
    let header = |name: &str| {
        head.split("\r\n").skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    };
    if header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        return unchunk(rest);
    }
    match header("content-length") {
        Some(length) => {
            let length: usize = length.parse().context("Content-Length")?;
            Ok(rest.get(..length).context("the body ends early")?.to_vec())
        }
        None => Ok(rest.to_vec()),
    }
}

/// Puts a chunked body together (RFC 9112, section 7.1).
fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").context("the chunks end early")?;
        let size = std::str::from_utf8(&rest[..end])?.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).context("a chunk size")?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Ok(out);
        }
        let Some((chunk, after)) = rest.split_at_checked(size) else { bail!("a chunk ends early") };
        out.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").context("a chunk without its end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_by_length_by_chunks_and_by_the_end() {
        let ok = |bytes: &[u8]| body(bytes).expect("a body");
        assert_eq!(ok(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi--"), b"hi");
        assert_eq!(
            ok(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n1\r\n!\r\n0\r\n\r\n"),
            b"hi!"
        );
        assert_eq!(ok(b"HTTP/1.0 200 OK\r\n\r\nall of it"), b"all of it");
    }

    #[test]
    fn short_and_refused_answers_are_errors() {
        for bad in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"[..],
            b"HTTP/1.1 404 Not Found\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",
            b"HTTP/1.1 200",
        ] {
            assert!(body(bad).is_err());
        }
    }

    #[test]
    fn forms_carry_anything() {
        assert_eq!(encoded("a-1 &=\u{e9}"), "a-1%20%26%3D%C3%A9");
    }

    #[test]
    fn urls() {
        let url = Url::parse("http://127.0.0.1:8082/metrics?x=1").expect("a URL");
        assert_eq!((url.host.as_str(), url.path.as_str()), ("127.0.0.1:8082", "/metrics?x=1"));
        assert_eq!(Url::parse("http://localhost").expect("a URL").host, "localhost:80");
        assert!(Url::parse("https://x/").is_err() && Url::parse("http://a b/").is_err());
    }
}

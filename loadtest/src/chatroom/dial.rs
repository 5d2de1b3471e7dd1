//! The two handshakes of simple-chatroom: that of its Go client, without an Origin, and that of its
//! page, opened from a disk.
//!
//! Bounds: the response head is at most [`HEAD_BYTES_MAX`], and each read and write has a time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use crate::limits::HEAD_BYTES_MAX;

/// How long a connection, an upgrade or a write may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The role of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guise {
    /// gorilla's dialer: no Origin, no extension.
    Go,
    /// A page of the file system in a browser: `Origin: null`, and compression is offered, but need
    /// not be taken.
    Page,
}

/// Connects and upgrades. What the server sends behind its answer has not been read.
pub(crate) fn dial(address: SocketAddr, host: &str, guise: Guise) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let key = generate_key();
    let upgrade = format!(
        "Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n"
    );
    let others = match guise {
        Guise::Go => format!("User-Agent: Go-http-client/1.1\r\n{upgrade}"),
        Guise::Page => format!(
            "User-Agent: Mozilla/5.0\r\nOrigin: null\r\n{upgrade}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        ),
    };
    let request = format!("GET /chatroom HTTP/1.1\r\nHost: {host}\r\n{others}\r\n");
    stream.write_all(request.as_bytes()).context("cannot ask for the upgrade")?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < HEAD_BYTES_MAX, "the response head is too long");
        stream.read_exact(&mut byte).context("no answer to the upgrade")?;
        head.push(byte[0]);
    }
    judge(&head, &key)?;
    Ok(stream)
}

/// What gorilla's dialer checks, and that nothing was chosen that was not offered or that we do not
/// speak.
fn judge(head: &[u8], key: &str) -> Result<()> {
    let head = std::str::from_utf8(head).context("a response head that is no text")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.starts_with("HTTP/1.1 101 "), "the server answered {status:?}");
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    };
    let is = |name, wanted: &str| header(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
    ensure!(is("upgrade", "websocket") && is("connection", "upgrade"), "no upgrade in the answer");
    ensure!(header("sec-websocket-accept") == Some(derive_accept_key(key.as_bytes()).as_str()), "a wrong accept key");
    ensure!(header("sec-websocket-protocol").is_none(), "a subprotocol that was not offered");
    ensure!(header("sec-websocket-extensions").is_none(), "an extension was chosen");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert!(judge(format!("{good}\r\n").as_bytes(), key).is_ok());
        for more in ["Sec-WebSocket-Protocol: imgate.v2\r\n", "Sec-WebSocket-Extensions: permessage-deflate\r\n"] {
            assert!(judge(format!("{good}{more}\r\n").as_bytes(), key).is_err());
        }
        assert!(judge(format!("{good}\r\n").as_bytes(), "another").is_err());
        assert!(judge(b"HTTP/1.1 400 Bad Request\r\n\r\n", key).is_err());
    }
}

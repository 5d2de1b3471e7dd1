//! Asking a running gateway through its admin port, as the commands for operators do.
//!
//! Owns: one HTTP/1.1 exchange, with the operator's token where it is needed.
//! Bounds: [`ANSWER_BYTES_MAX`] of an answer, [`PATIENCE`] for each step.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use imgate::config::Config;

/// The largest answer that is read: a scrape has some tens of kilobytes.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How long the gateway may take for a step.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the admin port is asked from this machine.
pub(crate) fn address(config: &Config) -> SocketAddr {
    let mut address = config.admin;
    if address.ip().is_unspecified() {
        let ip = if address.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
        address.set_ip(ip);
    }
    address
}

/// Asks `method` of `path`: the status and the body.
///
/// # Errors
/// No gateway is there, or it has not answered in time.
pub(crate) fn ask(to: SocketAddr, method: &str, path: &str, token: Option<&str>) -> anyhow::Result<(u16, String)> {
    let answer = exchange(to, method, path, token).with_context(|| format!("no gateway answers at {to} (admin)"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("that is no HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("that is no HTTP")?;
    Ok((status, body.to_owned()))
}

/// As [`ask`], for an answer of 2xx.
pub(crate) fn ask_well(to: SocketAddr, method: &str, path: &str, token: Option<&str>) -> anyhow::Result<String> {
    match ask(to, method, path, token)? {
        (200..=299, body) => Ok(body),
        (401, _) => bail!("the gateway at {to} has another signing key: --data or IMGATE_SECRET must be its own"),
        (status, body) => bail!("the gateway at {to} answers {status}: {}", body.trim_end()),
    }
}

fn exchange(to: SocketAddr, method: &str, path: &str, token: Option<&str>) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let proof = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: 0\r\n{proof}\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    String::from_utf8(answer).map_err(io::Error::other)
}

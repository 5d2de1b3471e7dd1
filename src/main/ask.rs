//! Asking a running gateway through its admin port, as the commands for operators do.
//!
//! Owns: one HTTP/1.1 exchange, with the operator's token where it is needed.
//! Bounds: [`ANSWER_BYTES_MAX`] of an answer, [`PATIENCE`] for each step, besides what the gateway
//! is asked to take.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
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
    ask_within(to, method, path, token, PATIENCE)
}

fn ask_within(
    to: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    patience: Duration,
) -> anyhow::Result<(u16, String)> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE);
    let stream = stream.with_context(|| format!("no gateway answers at {to} (admin)"))?;
    let answer = exchange(stream, to, method, path, token, patience).map_err(|error| match error.kind() {
        // What the system calls "temporarily unavailable" is its way to say so.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            anyhow!("what listens at {to} (admin) does not answer in time ({} s)", patience.as_secs())
        }
        _ => anyhow!(error).context(format!("no gateway answers at {to} (admin)")),
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").context("that is no HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("that is no HTTP")?;
    Ok((status, body.to_owned()))
}

/// As [`ask`], for an answer of 2xx.
pub(crate) fn ask_well(to: SocketAddr, method: &str, path: &str, token: Option<&str>) -> anyhow::Result<String> {
    ask_well_for(to, method, path, token, 0)
}

/// As [`ask_well`], for what the gateway takes `seconds` to answer by itself.
pub(crate) fn ask_well_for(
    to: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    seconds: u64,
) -> anyhow::Result<String> {
    well(to, ask_within(to, method, path, token, PATIENCE + Duration::from_secs(seconds))?)
}

/// As [`ask_well_for`]; the words of an answer of 404.
pub(crate) fn ask_found(
    to: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    seconds: u64,
) -> anyhow::Result<Result<String, String>> {
    match ask_within(to, method, path, token, PATIENCE + Duration::from_secs(seconds))? {
        (404, words) => Ok(Err(words)),
        answer => well(to, answer).map(Ok),
    }
}

fn well(to: SocketAddr, answer: (u16, String)) -> anyhow::Result<String> {
    match answer {
        (200..=299, body) => Ok(body),
        (401, _) => bail!("the gateway at {to} has another signing key: --data or IMGATE_SECRET must be its own"),
        (status, body) => bail!("the gateway at {to} answers {status}: {}", body.trim_end()),
    }
}

/// Each read and write takes `patience` at most.
fn exchange(
    mut stream: TcpStream,
    to: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    patience: Duration,
) -> io::Result<String> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let proof = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: 0\r\n{proof}\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    String::from_utf8(answer).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_listens_and_does_not_answer_is_no_absent_gateway() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let to = listener.local_addr().expect("an address");
        // Accepted by the system, and never by a program.
        let late = ask_within(to, "GET", "/readyz", None, Duration::from_millis(1)).expect_err("it does not answer");
        let said = format!("{late:#}");
        assert!(said.contains("does not answer in time") && !said.contains("os error"), "{said}");
        drop(listener);
        let absent = ask(to, "GET", "/readyz", None).expect_err("nothing listens");
        assert!(format!("{absent:#}").contains("no gateway answers"), "{absent:#}");
    }
}

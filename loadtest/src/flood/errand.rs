//! One visit of a well-behaved user: connects, gets what it came for, and goes.
//!
//! Owns: [`Errand`], over WebSocket (connect, 101, a heartbeat's answer) or HTTP (connect, request,
//! answer).
//! Bounds: an answer by [`crate::limits::BODY_BYTES_MAX`]; the time by the caller.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::line::Line;
use super::{Account, FloodUser, Target};
use crate::http::body;
use crate::limits::BODY_BYTES_MAX;
use crate::net::dial;
use crate::scan::scan;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Act {
    /// A session and its first heartbeat.
    Websocket,
    /// A cheap HTTP request.
    Http,
    /// A login with the right password.
    Login,
    Healthz,
    Readyz,
    Metrics,
}

/// All of them.
pub(crate) const ACTS: [Act; 6] = [Act::Websocket, Act::Http, Act::Login, Act::Healthz, Act::Readyz, Act::Metrics];

impl Act {
    /// As it is called in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Websocket => "newcomer_ws",
            Self::Http => "newcomer_http",
            Self::Login => "login",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::Metrics => "metrics",
        }
    }
}

/// A visit under way.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) act: Act,
    /// When it was meant to begin.
    pub(crate) due_ns: u64,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Session { line: Line, user: FloodUser, asked: bool },
    Call { stream: TcpStream, request: Vec<u8>, answer: Vec<u8> },
}

/// How a visit goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// Nothing to tell yet.
    Open,
    /// It got what it came for: the answer's body, if it was HTTP.
    Done(Vec<u8>),
    /// It did not.
    Failed(String),
}

impl Errand {
    /// A visit by WebSocket.
    pub(crate) fn session(
        target: &Target,
        user: FloodUser,
        due_ns: u64,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let line = Line::dial(target.address, registry, token)?;
        Ok(Self { act: Act::Websocket, due_ns, work: Work::Session { line, user, asked: false } })
    }

    /// A visit by HTTP. `account` is for logins.
    pub(crate) fn call(
        target: &Target,
        act: Act,
        account: Option<&Account>,
        due_ns: u64,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let admin = matches!(act, Act::Healthz | Act::Readyz | Act::Metrics);
        let (address, url) =
            if admin { (target.admin_address, &target.admin) } else { (target.address, &target.public) };
        let mut stream = dial(address, None, false)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let request = request(act, &url.host, account).into_bytes();
        Ok(Self { act, due_ns, work: Work::Call { stream, request, answer: Vec::new() } })
    }

    /// Does what the socket is ready for.
    pub(crate) fn ready(&mut self, host: &str, scratch: &mut [u8]) -> Progress {
        let progress = match &mut self.work {
            Work::Session { line, user, asked } => visit(line, user, asked, host, scratch),
            Work::Call { stream, request, answer } => call(stream, request, answer, scratch),
        };
        match progress {
            Ok(None) => Progress::Open,
            Ok(Some(body)) if self.act == Act::Login && !contains(&body, b"\"code\":0") => {
                Progress::Failed(format!("answered {}", String::from_utf8_lossy(&body)))
            }
            Ok(Some(body)) => Progress::Done(body),
            Err(why) => Progress::Failed(why),
        }
    }
}

fn request(act: Act, host: &str, account: Option<&Account>) -> String {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    match (act, account) {
        (Act::Login, Some(Account { mobile, password })) => {
            let form = format!("mobile={mobile}&passwd={password}");
            format!(
                "POST /user/login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{form}",
                form.len()
            )
        }
        (Act::Healthz, _) => get("/healthz"),
        (Act::Readyz, _) => get("/readyz"),
        (Act::Metrics, _) => get("/metrics"),
        _ => get("/api/v1/config"),
    }
}

fn visit(
    line: &mut Line,
    user: &FloodUser,
    asked: &mut bool,
    host: &str,
    scratch: &mut [u8],
) -> Result<Option<Vec<u8>>, String> {
    let mut beat = false;
    line.ready(host, user, scratch, |text| beat |= scan(text).is_some_and(|fields| fields.cmd == Some(0)))?;
    if line.is_open() && !std::mem::replace(asked, true) {
        line.send(r#"{"cmd":0}"#)?;
    }
    Ok(beat.then(Vec::new))
}

fn call(
    stream: &mut TcpStream,
    request: &mut Vec<u8>,
    answer: &mut Vec<u8>,
    scratch: &mut [u8],
) -> Result<Option<Vec<u8>>, String> {
    if let Some(error) = stream.take_error().map_err(|e| e.to_string())? {
        return Err(error.to_string());
    }
    while !request.is_empty() {
        match stream.write(request) {
            Ok(n) => drop(request.drain(..n)),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A gateway that is full may answer before it has read.
            Err(_) => break,
        }
    }
    loop {
        match stream.read(scratch) {
            Ok(0) if answer.is_empty() => return Err("the gateway ended the connection".to_owned()),
            Ok(0) => return body(answer).map(Some).map_err(|error| format!("{error:#}")),
            Ok(n) => {
                answer.extend_from_slice(&scratch[..n]);
                if answer.len() > BODY_BYTES_MAX {
                    return Err("an answer without an end".to_owned());
                }
                if is_whole(answer) {
                    return body(answer).map(Some).map_err(|error| format!("{error:#}"));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
    }
}

/// Whether an answer of a told length is complete.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_a_told_length_ends_by_itself() {
        assert!(is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        for open in
            ["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "HTTP/1.1 200 OK\r\n\r\nok", "HTTP/1.1 200 OK\r\n"]
        {
            assert!(!is_whole(open.as_bytes()), "{open}");
        }
    }

    #[test]
    fn a_login_is_a_form() {
        let account = Account { mobile: "1".to_owned(), password: "abc".to_owned() };
        let text = request(Act::Login, "h", Some(&account));
        assert!(text.ends_with("Content-Length: 19\r\nConnection: close\r\n\r\nmobile=1&passwd=abc"), "{text}");
        assert!(request(Act::Http, "h", None).starts_with("GET /api/v1/config HTTP/1.1\r\n"));
    }
}

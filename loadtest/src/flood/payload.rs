//! The bytes of every flood.
//!
//! Owns: [`Payload`], made once for a flood. What a session writes is a round of whole frames of at
//! least [`ROUND_BYTES`], so that the place in it is all that an attacker has to remember.
//! Never: sends what RFC 6455 or the protocol forbids: the floods are greedy, not broken.
//! Bounds: the rounds are made of constants; a picture is made once.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

use super::kind::Kind;
use super::{Account, FloodUser};
use crate::frame::{Opcode, encode, piece};
use crate::verify::dice::mix;

/// Least bytes of a round: one write of an attacker.
const ROUND_BYTES: usize = 16 * 1024;
/// Commands of a round that name one user after another.
const VARIED: usize = 512;
/// Users of a watch list: what the gateway takes at most.
const LIST_USERS: usize = 200;
/// Watch lists that are made; an attacker sends two of them in turn.
const LISTS: usize = 32;
/// Read marks of a round: about so many conversations, none of which exists.
const MARKS: usize = 65_536;
/// Fragments of a message: a little below what the gateway takes (1,024).
const FRAGMENTS: usize = 1_002;
/// Pixels of a picture's side: 25 million in all, below what the gateway takes.
const PICTURE_SIDE: u32 = 5_000;
/// Requests of a reader that never reads.
const DEAF_REQUESTS: usize = 16;
/// Parts of one byte in a body that does not end.
const CHUNKS: usize = 8_000;
/// The mask protects proxies from scripts in browsers (RFC 6455, section 10.3); here it only has to
/// be there.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What the attackers of one flood send.
#[derive(Debug)]
pub(crate) struct Payload {
    kind: Kind,
    host: String,
    /// The attackers' users, if they need any.
    users: Vec<FloodUser>,
    accounts: Vec<Account>,
    /// The round that is the same for all, or whose units all begin somewhere else.
    round: Vec<u8>,
    /// Bytes of a unit of the round, if attackers begin at different ones.
    unit: usize,
    picture: Vec<u8>,
    /// Tells this run's mobile numbers from those of others.
    salt: u64,
    next: AtomicU64,
}

impl Payload {
    /// The bytes of a flood. `users` must not be empty if the kind needs them; `library` is a group
    /// with a history.
    pub(crate) fn new(
        kind: Kind,
        host: &str,
        users: Vec<FloodUser>,
        accounts: Vec<Account>,
        library: u64,
        salt: u64,
    ) -> Result<Self> {
        let mut payload = Self {
            kind,
            host: host.to_owned(),
            users,
            accounts,
            round: Vec::new(),
            unit: 0,
            picture: Vec::new(),
            salt,
            next: AtomicU64::new(0),
        };
        (payload.round, payload.unit) = payload.make_round(library);
        if kind == Kind::Pictures {
            payload.picture = picture()?;
        }
        Ok(payload)
    }

    /// The user of an attacker.
    pub(crate) fn user(&self, attacker: usize) -> &FloodUser {
        &self.users[attacker % self.users.len()]
    }

    /// What a session writes over and over. `scratch` is used where it is the attacker's own.
    pub(crate) fn round<'a>(&'a self, attacker: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if self.kind != Kind::Presence {
            return &self.round;
        }
        scratch.clear();
        while scratch.len() < ROUND_BYTES {
            for list in [2 * attacker, 2 * attacker + 1] {
                let at = list % LISTS * self.unit;
                scratch.extend_from_slice(&self.round[at..at + self.unit]);
            }
        }
        scratch
    }

    /// Where in the round an attacker begins.
    pub(crate) fn start(&self, attacker: usize) -> usize {
        if self.unit == 0 || self.kind == Kind::Presence {
            return 0;
        }
        let units = self.round.len() / self.unit;
        (mix(attacker as u64) % units as u64) as usize * self.unit
    }

    /// What an attacker writes over HTTP before it does anything else.
    pub(crate) fn opening(&self, attacker: usize) -> Vec<u8> {
        let host = &self.host;
        let form = |path: &str, form: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{form}",
                form.len()
            )
        };
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let text = match self.kind {
            Kind::HalfHeads => format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Half: "),
            Kind::IdleHttp => format!("GET /api/v1/config HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            // Of those that say nothing more every second one has said much, in the smallest parts.
            Kind::SlowBodies if attacker % 4 == 2 => format!(
                "POST /user/login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{}",
                "1\r\n&\r\n".repeat(CHUNKS)
            ),
            Kind::SlowBodies => format!(
                "POST /user/login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: 60000\r\n\r\nmobile=1"
            ),
            Kind::SlowReaders => {
                format!("GET /api/v1/openapi.json HTTP/1.1\r\nHost: {host}\r\n\r\n").repeat(DEAF_REQUESTS)
            }
            Kind::Logins => {
                let Account { mobile, password } = &self.accounts[n as usize % self.accounts.len()];
                let wrong = if n.is_multiple_of(2) { "" } else { "-wrong" };
                form("/user/login", &format!("mobile={mobile}&passwd={password}{wrong}"))
            }
            Kind::Registrations => {
                let mobile = mobile(self.salt, 1_000_000 + n);
                form("/user/register", &format!("mobile={mobile}&passwd=flood-{mobile}&nickname=flood"))
            }
            Kind::Pictures => return self.upload(attacker, n),
            _ => String::new(),
        };
        text.into_bytes()
    }

    /// A picture that was never sent before: what stands behind its end makes its digest another
    /// one.
    fn upload(&self, attacker: usize, n: u64) -> Vec<u8> {
        let (host, token) = (&self.host, &self.user(attacker).token);
        let head = format!(
            "POST /api/v1/files?name=flood.png HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: image/png\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.picture.len() + 8
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.picture);
        bytes.extend_from_slice(&mix(self.salt ^ n).to_be_bytes());
        bytes
    }

    /// The round, and the bytes of its units if attackers begin at different ones.
    fn make_round(&self, library: u64) -> (Vec<u8>, usize) {
        let user = |place: usize| self.users[place % self.users.len()].id;
        match self.kind {
            Kind::Pongs => (repeated(|out| encode(out, Opcode::Pong, b"", MASK)), 0),
            Kind::Pings => (repeated(|out| encode(out, Opcode::Ping, b"", MASK)), 0),
            Kind::Fragments => (repeated(|out| fragments(out, user(1))), 0),
            Kind::Typing => varied(VARIED, |n| format!(r#"{{"cmd":6,"kind":10,"dstid":{:>16}}}"#, user(n))),
            Kind::Marks => varied(MARKS, |n| {
                let dstid = 1_000_000_000 + n;
                format!(r#"{{"cmd":3,"kind":10,"dstid":{dstid:>16},"recv":1,"read":1}}"#)
            }),
            Kind::Posts => varied(VARIED, |n| {
                let dstid = user(n);
                format!(r#"{{"cmd":10,"dstid":{dstid:>16},"media":1,"content":"{}"}}"#, "flood ".repeat(16))
            }),
            Kind::Presence => self.watch_lists(),
            Kind::Syncs | Kind::SlowReaders => {
                let sync = format!(r#"{{"cmd":4,"kind":11,"dstid":{library},"limit":200}}"#);
                (repeated(|out| encode(out, Opcode::Text, sync.as_bytes(), MASK)), 0)
            }
            Kind::Lists => (repeated(|out| encode(out, Opcode::Text, br#"{"cmd":5}"#, MASK)), 0),
            Kind::Guests => {
                let text = br#"{"token":"flood","content":"flood"}"#;
                (repeated(|out| encode(out, Opcode::Text, text, MASK)), 0)
            }
            _ => (Vec::new(), 0),
        }
    }

    /// Lists of users that exist as far as there are enough of them, each padded to the same
    /// length.
    fn watch_lists(&self) -> (Vec<u8>, usize) {
        let most = self.users.iter().map(|user| user.id).max().unwrap_or(0);
        varied(LISTS, |list| {
            let mut text = String::from(r#"{"cmd":7,"users":["#);
            for n in 0..LIST_USERS {
                let place = list * LIST_USERS + n;
                let id = self.users.get(place).map_or(most + place as u64 + 1, |user| user.id);
                let comma = if n == 0 { "" } else { "," };
                // Writing to a String cannot fail.
                let _ = write!(text, "{comma}{id:>8}");
            }
            text + "]}"
        })
    }
}

/// A mobile number of eleven digits that other runs hardly have.
pub(crate) fn mobile(salt: u64, n: u64) -> String {
    format!("1{:010}", mix(salt ^ mix(n)) % 10_000_000_000)
}

/// Whole frames until a round is long enough.
fn repeated(one: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    while out.len() < ROUND_BYTES {
        one(&mut out);
    }
    out
}

/// `count` texts of the same length, and the bytes of one of their frames.
fn varied(count: usize, text: impl Fn(usize) -> String) -> (Vec<u8>, usize) {
    let mut out = Vec::new();
    for n in 0..count {
        encode(&mut out, Opcode::Text, text(n).as_bytes(), MASK);
    }
    let unit = out.len() / count;
    (out, unit)
}

/// Two messages that mean something and want no answer: one of fragments of a byte, one of empty
/// fragments.
fn fragments(out: &mut Vec<u8>, user: u64) {
    const FINAL: u8 = 0x80;
    let padded = format!("{:FRAGMENTS$}", format!(r#"{{"cmd":6,"kind":10,"dstid":{user}}}"#));
    for (n, byte) in padded.bytes().enumerate() {
        let first = if n == 0 { 1 } else { 0 } | if n + 1 == FRAGMENTS { FINAL } else { 0 };
        piece(out, first, &[byte], MASK);
    }
    piece(out, 1, padded.trim_end().as_bytes(), MASK);
    for n in 1..FRAGMENTS {
        piece(out, if n + 1 == FRAGMENTS { FINAL } else { 0 }, b"", MASK);
    }
}

/// A grey PNG of 25 million pixels in some 30 KiB.
fn picture() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, PICTURE_SIDE, PICTURE_SIDE);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().context("a picture's head")?;
    writer.write_image_data(&vec![0x80; (PICTURE_SIDE * PICTURE_SIDE) as usize]).context("a picture")?;
    writer.finish().context("a picture's end")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;

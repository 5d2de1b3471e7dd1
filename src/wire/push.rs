//! What one session is told and nobody else: acks, refusals, heartbeats, sync answers, the welcome, control frames.
//!
//! Owns: their encoding. Every function returns one complete unmasked WebSocket frame.
//! (Skeleton: signatures that the other rooms build on; the wire step fills it.)

use super::command::Target;
use super::packet::Stored;
use super::{CloseCode, Echo, Reject};
use crate::ids::UserId;
use crate::store::Page;

/// `cmd` 1. A volatile message has no `stored`. `dup`: it was stored before, this is the old ack.
#[must_use]
pub fn ack(cid: Option<&str>, of: Target, stored: Option<Stored>, ts_ms: u64, dup: bool) -> Box<[u8]> {
    let _ = (cid, of, stored, ts_ms, dup);
    Box::new([])
}

/// `cmd` 2 for v2 sessions.
#[must_use]
pub fn refusal(reject: Reject, cid: Option<&str>) -> Box<[u8]> {
    let _ = (reject, cid);
    Box::new([])
}

/// A refusal for legacy sessions: a text without `}`.
#[must_use]
pub fn legacy_refusal(reject: Reject) -> Box<[u8]> {
    let _ = reject;
    Box::new([])
}

/// `cmd` 0: `{"cmd":0,"ts":…}`.
#[must_use]
pub fn heartbeat(ts_ms: u64) -> Box<[u8]> {
    let _ = ts_ms;
    Box::new([])
}

/// `cmd` 4, the answer: `{"cmd":4,"kind":…,"dstid":…,"rows":[…],"more":…,"floor":…,"head":…,"epoch":…}` with the rows as [`super::Packet`] writes them,
/// and `"reset":true` when the client's `after` lies above the head.
#[must_use]
pub fn sync(of: Target, reader: UserId, page: &Page, reset: bool) -> Box<[u8]> {
    let _ = (of, reader, page, reset);
    Box::new([])
}

/// The first frame of a legacy session: `welcome!` (fastIM) or `hello,world!` (IMChat).
#[must_use]
pub fn welcome(echo: Echo) -> Box<[u8]> {
    let _ = echo;
    Box::new([])
}

/// A ping with a payload of at most 125 bytes.
#[must_use]
pub fn ping(payload: &[u8]) -> Box<[u8]> {
    let _ = payload;
    Box::new([])
}

/// A pong with a payload of at most 125 bytes.
#[must_use]
pub fn pong(payload: &[u8]) -> Box<[u8]> {
    let _ = payload;
    Box::new([])
}

/// A close frame with the code's reason.
#[must_use]
pub fn close(code: CloseCode) -> Box<[u8]> {
    let _ = code;
    Box::new([])
}

/// The answer to the peer's close frame: its own code back, or an empty close frame if it gave none.
#[must_use]
pub fn close_echo(code: Option<u16>) -> Box<[u8]> {
    let _ = code;
    Box::new([])
}

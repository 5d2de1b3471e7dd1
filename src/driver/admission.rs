//! What a request head asks for, and whether it may: the gate's judgement, without a socket.
//!
//! Owns: the order of the checks, the places where an upgrade may have its token, the two ways to
//! refuse one.
//! Never: asks the store. Epoch and ban are judged by the owner's shard at open. Whom a token or a
//! cookie proves is [`caller`](crate::caller)'s to say.

use std::borrow::Cow;

use crate::auth::{Identity, Issuer};
use crate::caller::{ClaimedIdentity, Judge, Peer, Unproven, bearer, is_jwt, preamble};
use crate::http::{BadHead, Head, Response};
use crate::metrics::proxies::Heard;
use crate::metrics::tally::GateRefusal;
use crate::shard::Hello;
use crate::wire::{self, CloseCode, Device, Profile, push};
use crate::ws::deflate::{Agreed, Window};
use crate::ws::handshake::{Upgrade, UpgradeRefused};

/// The subprotocol of our own clients.
const V2: &str = "imgate.v2";
/// What stands before a token in an offered subprotocol: keeps it out of URLs and logs.
const TOKEN_OFFER: &str = "token.";

/// What becomes of a connection.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The head is not whole.
    Incomplete,
    /// It is told no, and closed.
    Refused(GateRefusal, Response),
    /// Not ours: the control plane's, with all its bytes.
    Http,
    /// A session. `head_len` bytes are used up; `response` is the 101; `heard` is what becomes of
    /// what a proxy says.
    Session { head_len: usize, hello: Hello, response: Vec<u8>, heard: Heard },
    /// A v2 client with a bad token: the 101 and the close frame, because a browser shows its page
    /// no HTTP status.
    BadToken { why: GateRefusal, words: Vec<u8> },
    /// The hidden route for protocol tests.
    Echo { head_len: usize, response: Vec<u8>, deflate: Option<Window> },
}

/// What the judge knows besides the bytes.
#[derive(Clone, Copy)]
pub(super) struct AdmissionRules<'a> {
    pub(super) judge: &'a Judge,
    pub(super) wall_ms: u64,
    /// The echo route exists.
    pub(super) echo: bool,
    /// `/chatroom` exists.
    pub(super) room: bool,
    /// Messages may be compressed.
    pub(super) compression: bool,
}

/// Judges everything that a connection has sent so far. `peer` is its other end, for the few heads
/// for which that matters; `None`: it is gone.
pub(super) fn judge(bytes: &[u8], rules: AdmissionRules<'_>, peer: impl Fn() -> Option<Peer>) -> Verdict {
    let head = match Head::parse(bytes) {
        Ok(Some(head)) => head,
        Ok(None) => return Verdict::Incomplete,
        Err(bad) => return bad_head(bad, bytes),
    };
    match head.path() {
        "/chat" => chat(&head, rules, peer).unwrap_or_else(refused),
        "/chatroom" if rules.room => room(&head, rules, peer).unwrap_or_else(refused),
        "/echo" if rules.echo => echo(&head, rules).unwrap_or_else(refused),
        _ => Verdict::Http,
    }
}

fn bad_head(bad: BadHead, bytes: &[u8]) -> Verdict {
    let why = if preamble::is_announced(bytes) { GateRefusal::Preamble } else { GateRefusal::BadRequest };
    Verdict::Refused(why, bad.response())
}

/// What becomes of what a proxy says of the client. Of a head that says nothing the peer is not
/// asked for.
fn heard(head: &Head<'_>, rules: AdmissionRules<'_>, peer: impl FnOnce() -> Option<Peer>) -> Heard {
    if !Judge::speaks_for_others(head) {
        return Heard::Direct;
    }
    rules.judge.heard(head, peer().unwrap_or(Peer::GONE))
}

fn refused(refused: UpgradeRefused) -> Verdict {
    Verdict::Refused(GateRefusal::BadRequest, refused.response())
}

fn echo(head: &Head<'_>, rules: AdmissionRules<'_>) -> Result<Verdict, UpgradeRefused> {
    let mut response = Vec::new();
    let upgrade = Upgrade::of(head)?;
    let agreed = upgrade.compression(rules.compression)?;
    upgrade.accept()?.write_response(&mut response, None, agreed);
    Ok(Verdict::Echo { head_len: head.len(), response, deflate: agreed.map(Agreed::window) })
}

/// Every client may enter, from any page, and offers of subprotocols find no answer.
fn room(
    head: &Head<'_>,
    rules: AdmissionRules<'_>,
    peer: impl Fn() -> Option<Peer>,
) -> Result<Verdict, UpgradeRefused> {
    let mut response = Vec::new();
    let upgrade = Upgrade::of(head)?;
    let agreed = upgrade.compression(rules.compression)?;
    upgrade.accept()?.write_response(&mut response, None, agreed);
    let deflate = agreed.map(Agreed::window);
    let (identity, profile, device) = (Identity::GUEST, Profile::Room, Device::default());
    let hello = Hello { identity, profile, device, device_tag: 0, deflate };
    let heard = heard(head, rules, peer);
    Ok(Verdict::Session { head_len: head.len(), hello, response, heard })
}

fn chat(
    head: &Head<'_>,
    rules: AdmissionRules<'_>,
    peer: impl Fn() -> Option<Peer>,
) -> Result<Verdict, UpgradeRefused> {
    let upgrade = Upgrade::of(head)?;
    let v2 = upgrade.offers(V2);
    if presented(head, &upgrade, v2).is_some_and(|token| is_jwt(&token)) {
        // Another system's: the control plane asks the database, and gives the connection back with
        // a token of ours.
        return Ok(Verdict::Http);
    }
    let proven = identify(head, &upgrade, v2, rules, &peer);
    if !v2 && let Err(why) = proven {
        return Ok(Verdict::Refused(refusal(why), Response::Forbidden));
    }
    let mut response = Vec::new();
    let agreed = upgrade.compression(rules.compression)?;
    upgrade.accept()?.write_response(&mut response, v2.then_some(V2), agreed);
    let identity = match proven {
        Ok(identity) => identity,
        Err(why) => {
            response.extend_from_slice(&push::close(CloseCode::BadToken));
            return Ok(Verdict::BadToken { why: refusal(why), words: response });
        }
    };
    let device = head.query_param("device").and_then(|name| Device::parse(&name)).unwrap_or_default();
    let profile = if v2 { Profile::V2 } else { Profile::Legacy(echo_of(identity.issuer())) };
    let device_tag = head.query_param("device_id").map_or(0, |id| device_tag(&id));
    let hello = Hello { identity, profile, device, device_tag, deflate: agreed.map(Agreed::window) };
    let heard = heard(head, rules, peer);
    Ok(Verdict::Session { head_len: head.len(), hello, response, heard })
}

/// FNV-1a (Fowler, Noll, Vo; 32 bits) of a device's name: two devices of one user that meet in it
/// cost one of them its session, and only if their user chose the names to that end. Never 0 for a
/// name.
fn device_tag(name: &str) -> u32 {
    if name.is_empty() {
        return 0;
    }
    name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).max(1)
}

/// The user, if what the head presents proves it.
fn identify(
    head: &Head<'_>,
    upgrade: &Upgrade<'_, '_>,
    v2: bool,
    rules: AdmissionRules<'_>,
    peer: impl FnOnce() -> Option<Peer>,
) -> Result<Identity, Unproven> {
    let claim = match head.query_param("id") {
        Some(id) => ClaimedIdentity::of(id.parse().ok()),
        None if v2 => ClaimedIdentity::Any,
        // A legacy page always names its user; a head that does not is no page's.
        None => ClaimedIdentity::Nobody,
    };
    let token = presented(head, upgrade, v2);
    let place = || rules.judge.place(head, peer().unwrap_or(Peer::GONE));
    rules.judge.acting(head, place, token.as_deref(), claim, rules.wall_ms)
}

/// The token that the client itself has put somewhere. An empty `?token=` is none: that is how a
/// page leaves it to the cookie.
fn presented<'a>(head: &'a Head<'_>, upgrade: &Upgrade<'a, '_>, v2: bool) -> Option<Cow<'a, str>> {
    let asked = head.query_param("token").filter(|token| !token.is_empty());
    let offer = || upgrade.offer_after(TOKEN_OFFER).filter(|_| v2);
    asked.or_else(|| bearer(head).or_else(offer).map(Cow::Borrowed))
}

const fn refusal(why: Unproven) -> GateRefusal {
    match why {
        Unproven::NoToken => GateRefusal::Forbidden,
        Unproven::Foreign => GateRefusal::CrossOrigin,
    }
}

/// Which page asks is known by the issuer of its token.
const fn echo_of(issuer: Issuer) -> wire::Echo {
    match issuer {
        Issuer::ImChat => wire::Echo::Groups,
        Issuer::FastIm | Issuer::Own => wire::Echo::None,
    }
}

#[cfg(test)]
mod tests;

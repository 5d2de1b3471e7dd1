//! Floods: attackers that take what they can get, and well-behaved users measured beside them.
//!
//! The map: `kind` (every flood, its size, what one attacker does) · `payload` (the bytes of it) ·
//! `attack` (the attackers' threads) · `line`, `errand` (one connection, one visit of a
//! well-behaved user) · `measured` (what was found out about them) · `watch` (the thread that
//! measures) · `gauges` (what the gateway says of itself) · `prepare` (accounts, a group with a
//! history) · `signals` (what the threads share) · `verdict` (bounds, and the judgement). The
//! scenario of that name puts them together.
//!
//! Never: attacks what is not this machine unless told that it is the user's; measures on a thread
//! that attacks.

pub(crate) mod attack;
pub(crate) mod errand;
pub(crate) mod gauges;
pub(crate) mod kind;
pub(crate) mod line;
pub(crate) mod measured;
pub(crate) mod payload;
pub(crate) mod prepare;
pub(crate) mod signals;
pub(crate) mod verdict;
pub(crate) mod watch;

use std::net::SocketAddr;

use crate::clock::Clock;
use crate::http::Url;

/// What all threads of one flood know about the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The same as a URL: its `host` is for the `Host` header.
    pub(crate) public: Url,
    /// Its admin port.
    pub(crate) admin: Url,
    pub(crate) admin_address: SocketAddr,
    pub(crate) clock: Clock,
    /// Source addresses of the attackers in 127.0.0.0/8; 0 and 1: that of all the others.
    pub(crate) sources: u8,
    /// Nanoseconds between two connections of one attacking thread.
    pub(crate) connect_gap_ns: u64,
    /// Attacking threads.
    pub(crate) threads: usize,
}

/// A user and the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FloodUser {
    pub(crate) id: u64,
    pub(crate) token: String,
}

/// A mobile number and its password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    pub(crate) mobile: String,
    pub(crate) password: String,
}

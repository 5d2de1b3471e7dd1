//! The load generator that speaks to all servers alike: members connect, some post, everybody
//! counts what arrives.
//!
//! Owns: `stamp` (what every message carries), `dialect` (how a server wants to be spoken to),
//! `crowd` (the connections), `drive` (who posts when, and what came of it). One thread; it must
//! stay cheaper than the servers it measures, so it looks for stamps in payloads and parses nothing
//! else.

pub mod crowd;
pub mod dialect;
pub mod drive;
pub mod stamp;

pub use crowd::Crowd;
pub use dialect::{Dialect, To};
pub use drive::{Load, Outcome, Pace, Traffic};

//! What the gateway says about itself.
//!
//! Owns: every metric's name (`names`), the plain counters of one thread (`tally`), how long its
//! turns and hops take (`spans`), where threads lay copies down for a scrape (`board`), what
//! becomes of logins and registrations (`accounts`) and of plain HTTP (`http`), in closed lists of
//! outcomes (`labels`), what clients ask for (`commands`), what is asked of an object store
//! (`objects`), what is said between gateways (`cluster`), buckets of time (`histogram`), what
//! threads take (`threads`), which users take the most (`top`), the numbers of the process
//! (`process`), the text that a scrape gets (`render`).
//! Never: a lock on the hot path for longer than a copy, an atomic, or a name outside `names`. A
//! thread counts in its own [`Tally`] and publishes copies.

pub mod accounts;
pub mod backends;
pub mod board;
pub mod cluster;
pub mod commands;
pub mod histogram;
pub mod http;
mod labels;
pub mod names;
pub mod objects;
pub mod process;
pub mod proxies;
pub mod render;
pub mod spans;
pub mod surroundings;
pub mod tally;
pub mod threads;
pub mod top;

pub use board::{Board, Publisher, ShardReport, TurnAsked};
pub use tally::{DriverTally, Tally};

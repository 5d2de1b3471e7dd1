//! What the gateway says about itself.
//!
//! Owns: every metric's name (`names`), the plain counters of one thread (`tally`), the text that a scrape gets (`render`).
//! Never: a lock or an atomic on the hot path. A thread counts in its own [`Tally`] and publishes copies.

pub mod names;
pub mod tally;

pub use tally::Tally;

//! What people are told while a run goes on.
//!
//! Never: fails. A reader of standard error that has gone away, or a disk that is full, changes
//! neither the run nor its verdict.

use std::io::Write;

/// A line on standard error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

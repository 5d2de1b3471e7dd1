//! Where figures come from: what every report says of the code and the command that made it.
//!
//! Owns: the commit and the command line, as a report tells them.

use std::path::Path;
use std::process::Command;

/// The commit of the working directory, `-dirty` if something in it is not committed; empty outside
/// of a repository.
#[must_use]
pub fn commit() -> String {
    let described = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    described.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The arguments as they were given. Paths are somebody's own: only their last part is told.
#[must_use]
pub fn arguments() -> String {
    let last = |argument: String| match Path::new(&argument).file_name() {
        Some(name) if argument.starts_with('/') => name.to_string_lossy().into_owned(),
        _ => argument,
    };
    std::env::args().skip(1).map(last).collect::<Vec<_>>().join(" ")
}

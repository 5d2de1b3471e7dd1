//! A look at the database from outside: for an operator who wants to know whether it is there and
//! what its commits are worth.
//!
//! Never: takes the lock of a data directory, changes a schema, or shows a password.

use std::path::Path;

use super::{OpenError, mysql, sqlite};

/// What a look has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probed {
    /// Kind, version and place, for people.
    pub described: String,
    /// What a commit is worth.
    pub commits: Commits,
    /// The server takes no writes: it was told to be read-only.
    pub read_only: bool,
    /// The server's wall clock in Unix milliseconds, if it has one of its own.
    pub wall_ms: Option<u64>,
}

/// By how many milliseconds our clock is ahead of another one that said `theirs` between `before`
/// and `after` of ours; negative: behind. What may have been the way there and back is neither's.
#[must_use]
pub const fn clock_offset_ms(before: u64, theirs: u64, after: u64) -> i64 {
    if theirs < before {
        before.saturating_sub(theirs).cast_signed()
    } else {
        -theirs.saturating_sub(after).cast_signed()
    }
}

/// What decides about the durability of a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commits {
    /// The setting `sqlite_synchronous`.
    Sqlite,
    /// Nothing is kept.
    Memory,
    /// The server's settings.
    Mysql {
        /// `innodb_flush_log_at_trx_commit`: 1 syncs at each commit.
        flush_at_commit: u64,
        /// `sync_binlog`, if there is a binary log: 1 syncs it at each commit.
        sync_binlog: Option<u64>,
    },
}

/// Looks at the store that `url` names, as [`open`](super::open) would.
///
/// # Errors
/// It cannot be reached or read, or the URL names none.
pub fn probe(url: &str, data_dir: &Path) -> Result<Probed, OpenError> {
    match url {
        "sqlite" | "sqlite:" => Ok(Probed {
            described: sqlite::describe(data_dir)?,
            commits: Commits::Sqlite,
            read_only: false,
            wall_ms: None,
        }),
        "memory" | "memory:" => {
            Ok(Probed { described: "memory".to_owned(), commits: Commits::Memory, read_only: false, wall_ms: None })
        }
        _ if mysql::is_ours(url) => mysql::probe(url),
        _ => Err(OpenError::Unreadable(url.split(':').next().unwrap_or_default().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_question_took_is_no_difference_of_clocks() {
        assert_eq!(clock_offset_ms(1_000, 1_000, 1_400), 0);
        assert_eq!(clock_offset_ms(1_000, 1_400, 1_400), 0);
        assert_eq!(clock_offset_ms(5_000, 1_400, 5_100), 3_600, "we are ahead");
        assert_eq!(clock_offset_ms(1_000, 9_400, 1_400), -8_000, "we are behind");
    }
}

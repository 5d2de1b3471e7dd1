//! Why a database fails, in a word that a metric may have.
//!
//! Owns: [`StoreCause`], read out of the words that a backend has for an error.
//! Never: decides anything; what may be tried again the kind of an [`Error`] says.

use super::Error;

/// What is wrong with a database that fails, for whoever has to mend it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreCause {
    /// Nothing answers, or not in time.
    Away,
    /// Its disk, or its table space, is full.
    Full,
    /// It takes no writes: a replica, a file system that was mounted again after an error.
    ReadOnly,
    /// It does not let us in, or lacks the rights or the database.
    Denied,
    /// It holds what cannot be, or its disk fails.
    Damaged,
    /// Something else: the log has its words.
    Other,
}

impl StoreCause {
    /// All, in the order of the labels of `imgate_store_failing`.
    pub const ALL: [Self; 6] = [Self::Away, Self::Full, Self::ReadOnly, Self::Denied, Self::Damaged, Self::Other];

    /// Of an error. The words are those of SQLite, of a server, and of the system.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        let (Error::Unavailable(words) | Error::Contended(words) | Error::Unknown(words) | Error::Broken(words)) =
            error;
        let words = words.to_ascii_lowercase();
        let has = |these: &[&str]| these.iter().any(|part| words.contains(part));
        if has(&["disk is full", "table space is full", "no space left"]) {
            Self::Full
        } else if has(&["readonly", "read-only", "only reads"]) {
            Self::ReadOnly
        } else if has(&[
            "see the grants",
            "make the database first",
            "access denied",
            "permission denied",
            "unable to open",
        ]) {
            Self::Denied
        } else if matches!(error, Error::Broken(_)) || has(&["disk i/o error", "malformed"]) {
            Self::Damaged
        } else if has(&[
            "no answer in time",
            "refused",
            "timed out",
            "unreachable",
            "broken pipe",
            "connection reset",
            "not connected",
            "no more connections",
            "could not connect",
            "failed to lookup",
            "shutdown in progress",
        ]) {
            Self::Away
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_databases_and_systems_are_understood() {
        let of = |words: &str| StoreCause::of(&Error::Unavailable(words.to_owned()));
        assert_eq!(of("database or disk is full"), StoreCause::Full);
        assert_eq!(
            of("ERROR 1114 (HY000): the table is full; the server's disk or table space is full"),
            StoreCause::Full
        );
        assert_eq!(of("attempt to write a readonly database"), StoreCause::ReadOnly);
        assert_eq!(of("ERROR 1290; the server only reads: is this the primary?"), StoreCause::ReadOnly);
        assert_eq!(of("ERROR 1045 (28000): Access denied for user"), StoreCause::Denied);
        assert_eq!(of("unable to open database file"), StoreCause::Denied);
        assert_eq!(of("Could not connect to address: Connection refused (os error 111)"), StoreCause::Away);
        assert_eq!(of("no answer in time: x"), StoreCause::Away);
        assert_eq!(of("disk I/O error"), StoreCause::Damaged);
        assert_eq!(of("ERROR 3101: something new"), StoreCause::Other);
        assert_eq!(StoreCause::of(&Error::Broken("no such table".to_owned())), StoreCause::Damaged);
    }

    #[test]
    fn each_has_a_place_of_its_own() {
        assert!(StoreCause::ALL.into_iter().enumerate().all(|(place, cause)| cause as usize == place));
    }
}

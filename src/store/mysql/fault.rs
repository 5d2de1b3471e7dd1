//! What can go wrong with a statement, and what that means for what was asked.
//!
//! Owns: the list of the server's error numbers that mean something to us.
//! Never: guesses that nothing is stored. Only a transaction whose COMMIT was never sent, or was
//! refused with a known number, is certainly not.

use std::error::Error as _;
use std::io;

use crate::store::Error;

/// A key is there already.
pub(super) const DUPLICATE: u16 = 1062;
/// A column is there already.
pub(super) const DUPLICATE_COLUMN: u16 = 1060;
/// Error number: a key of that name is there already.
pub(super) const DUPLICATE_KEY_NAME: u16 = 1061;
/// A key that is to be dropped is not there.
pub(super) const NO_SUCH_KEY: u16 = 1091;
/// A row's lock was waited for in vain.
pub(super) const LOCK_WAIT: u16 = 1205;
/// The server does not know the words.
pub(super) const SYNTAX: u16 = 1064;
/// The server does not know a variable.
pub(super) const UNKNOWN_VARIABLE: u16 = 1193;
/// A table is not there.
pub(super) const NO_SUCH_TABLE: u16 = 1146;

/// Deadlock, lock wait time-out, and the ways in which a server says that it only reads (read_only,
/// a read-only transaction, read-only mode): the statement was refused, COMMIT included, and the
/// transaction is or can be rolled back.
const REFUSED: [u16; 5] = [1205, 1213, 1290, 1792, 1836];

/// Of these, the words for "another transaction holds the rows": with Galera also that another node
/// was faster, which only COMMIT finds out.
const HELD: [u16; 2] = [1205, 1213];

/// Errors that no second try repairs: the statement does not fit the schema, a value does not fit
/// its column, or a row is there that cannot be (no such column, null, unknown default, syntax,
/// number of columns, out of range, wrong value, too long).
const FOREIGN: [u16; 10] = [DUPLICATE, NO_SUCH_TABLE, 1048, 1054, 1064, 1136, 1264, 1364, 1366, 1406];

/// Why a statement gave no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server says no; the connection lives, unless the server ends it afterwards.
    Server {
        /// Its number: <https://mariadb.com/kb/en/mariadb-error-codes/>.
        code: u16,
        /// Its words.
        text: String,
    },
    /// The connection is gone, or in an unknown state.
    Lost(String),
    /// The same after a wait: a second try would wait as long.
    Late(String),
    /// Another transaction was there first; everything from the start again will find what it left.
    Raced,
    /// Ours.
    Store(Error),
}

impl Fault {
    /// Whether a COMMIT that was answered so is certainly not done.
    pub(super) fn refuses_commit(&self) -> bool {
        matches!(self, Self::Server { code, .. } if REFUSED.contains(code))
    }

    /// Whether nothing can be asked on this connection any more.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Late(_))
    }

    /// Whether the server's answer has that number.
    pub(super) fn is(&self, number: u16) -> bool {
        matches!(self, Self::Server { code, .. } if *code == number)
    }
}

/// Of a statement before COMMIT: nothing is stored.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Server { code, text } if FOREIGN.contains(&code) => Self::Broken(text),
            Fault::Server { code, text } if HELD.contains(&code) => Self::Contended(text),
            Fault::Server { code, text } => Self::Unavailable(format!("{text}{}", advice(code))),
            Fault::Lost(text) => Self::Unavailable(format!("the connection is lost: {text}")),
            Fault::Late(text) => Self::Unavailable(text),
            Fault::Raced => Self::Contended("another gateway is writing the same".to_owned()),
            Fault::Store(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<mysql::Error> for Fault {
    fn from(error: mysql::Error) -> Self {
        match error {
            mysql::Error::MySqlError(error) => Self::Server { code: error.code, text: error.to_string() },
            mysql::Error::IoError(error) if is_late(&error) => Self::Late(late(&error)),
            mysql::Error::CodecError(error)
                if error.source().and_then(|source| source.downcast_ref()).is_some_and(is_late) =>
            {
                Self::Late(late(&error))
            }
            // What the driver could not read it may have read in part.
            error => Self::Lost(error.to_string()),
        }
    }
}

/// The words for it: the system's own, "temporarily unavailable", do not say that time ran out.
fn late(error: &dyn std::error::Error) -> String {
    format!("no answer in time: {error}")
}

/// A socket's time-out has one of two names.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// What to do about an error whose own words do not say it.
fn advice(code: u16) -> &'static str {
    match code {
        1044 | 1045 | 1142 | 1698 => "; see the grants in docs/operations.md",
        1290 | 1792 | 1836 => "; the server only reads: is this the primary?",
        1021 | 1114 => "; the server's disk or table space is full",
        1040 | 1203 | 1226 => "; the server takes no more connections",
        1049 => "; make the database first, see docs/operations.md",
        1969 | 3024 => "; a read took too long and was ended",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u16) -> Fault {
        Fault::Server { code, text: format!("ERROR {code}") }
    }

    #[test]
    fn the_worlds_troubles_pass_and_ours_do_not() {
        for code in [1021, 1040, 1044, 1045, 1047, 1049, 1053, 1114, 1142, 1290, 1698, 1792, 1836, 1927, 4031] {
            assert!(matches!(Error::from(said(code)), Error::Unavailable(_)), "{code}");
        }
        for code in HELD {
            assert!(matches!(Error::from(said(code)), Error::Contended(_)), "{code}");
        }
        for code in FOREIGN {
            assert!(matches!(Error::from(said(code)), Error::Broken(_)), "{code}");
        }
        assert!(matches!(Error::from(Fault::Lost("x".into())), Error::Unavailable(_)));
    }

    #[test]
    fn a_server_that_is_frozen_has_not_answered_in_time() {
        let fault = Fault::from(mysql::Error::IoError(io::Error::from(io::ErrorKind::WouldBlock)));
        let Fault::Late(text) = fault else { panic!("{fault:?}") };
        assert!(text.starts_with("no answer in time: "), "{text}");
        assert!(matches!(Error::from(Fault::Late(text.clone())), Error::Unavailable(words) if words == text));
    }

    #[test]
    fn only_a_refusal_says_that_a_commit_is_not_done() {
        for code in REFUSED {
            assert!(said(code).refuses_commit());
        }
        // The connection was killed, the query was interrupted, the server stops, an error during
        // COMMIT.
        for code in [1927, 1317, 1053, 1180] {
            assert!(!said(code).refuses_commit());
        }
        assert!(!Fault::Lost("x".into()).refuses_commit());
    }
}

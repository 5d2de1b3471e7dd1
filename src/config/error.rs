//! What is wrong with a configuration, in words for its author.
//!
//! Owns: [`Error`], and the setting that was meant by a name that is none.
//! Never: shows a secret.

use std::fmt;
use std::path::PathBuf;

use super::{FIELDS, Field, Reach};

/// What is wrong with a configuration. Says where the value came from, never what a secret is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path}: {error}")]
    Toml {
        /// Which.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// A key of the file is no setting.
    #[error("{path}: there is no setting `{key}`{}; `imgate config` prints all of them", Meant(.meant))]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: String,
        /// The setting whose name is most like it.
        meant: Option<&'static str>,
    },
    /// An environment variable begins with `IMGATE_` and is no setting.
    #[error("the variable `{variable}` is no setting{}; `imgate config` prints all of them", Meant(.meant))]
    UnknownVariable {
        /// Which variable.
        variable: String,
        /// The variable whose name is most like it.
        meant: Option<String>,
    },
    /// The value of a variable of ours is no text.
    #[error("the variable `{variable}` is not valid UTF-8")]
    NoText {
        /// Which variable.
        variable: String,
    },
    /// A value is no text, number or boolean, or a list where one value belongs.
    #[error("{origin}: one value is wanted for `{key}`")]
    Shape {
        /// Where it came from.
        origin: String,
        /// Which setting.
        key: &'static str,
    },
    /// A value is out of range or not understood.
    #[error("{origin}: {why}")]
    Value {
        /// Where it came from: `--shards`, `IMGATE_SHARDS` or the file and key.
        origin: String,
        /// What is wanted, and what was given unless it is secret.
        why: String,
    },
}

/// `, did you mean …?` behind a name that is none.
struct Meant<'a, T>(&'a Option<T>);

impl<T: fmt::Display> fmt::Display for Meant<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |meant| write!(f, "; did you mean `{meant}`?"))
    }
}

/// The setting whose key is most like `key`, if one is like it.
pub(super) fn most_like(key: &str) -> Option<&'static Field> {
    let likeness = |field: &Field| strsim::jaro_winkler(field.key, key);
    let shown = FIELDS.iter().filter(|field| field.reach != Reach::Hidden);
    shown.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|field| likeness(field) >= LIKENESS_MIN)
}

/// What [`strsim::jaro_winkler`] gives to two names that differ by a slip of the hand.
const LIKENESS_MIN: f64 = 0.85;

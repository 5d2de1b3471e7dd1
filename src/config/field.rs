//! What there is to say about a setting.
//!
//! Owns: the shape of a row of the table ([`FIELDS`](super::FIELDS)).
//! Never: knows a setting.

/// One setting, as a person meets it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Key in the file. The flag is the same with hyphens, the variable is `IMGATE_` and the key in
    /// capitals.
    pub key: &'static str,
    /// Placeholder of the value in `--help`.
    pub value: &'static str,
    /// What it means, in full sentences.
    pub doc: &'static str,
    /// The default as TOML, or empty when there is none.
    pub default: &'static str,
    /// What is allowed, in words.
    pub range: &'static str,
    /// Where it may be set.
    pub reach: Reach,
    /// When a change takes effect.
    pub change: TakesEffect,
}

/// Where a setting may be set, and whether it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// File, environment, flag.
    Everywhere,
    /// As above, and several times: a list in the file, commas in the environment, a repeated flag.
    Repeatable,
    /// File and environment only: every user of the machine can read a process's arguments.
    NoFlag,
    /// Environment and flag, shown nowhere.
    Hidden,
}

/// When a changed setting takes effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TakesEffect {
    /// A running gateway takes it up when it loads its configuration again.
    Reload,
    /// At the next start.
    Restart,
}

impl TakesEffect {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Reload => "at a reload",
            Self::Restart => "at a restart",
        }
    }
}

impl Field {
    /// `--max-connections`.
    #[must_use]
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// `IMGATE_MAX_CONNECTIONS`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("IMGATE_{}", self.key.to_ascii_uppercase())
    }
}

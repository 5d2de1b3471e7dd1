//! What the program ends with: every verdict, its exit code, what it means and where it can occur.
//!
//! Owns: [`Exit`], from which `--help` and the table in `README.md` are made (a test compares
//! them).

/// A verdict on a run. Of several, the one that stands first in [`Exit::ALL`] is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Passed,
    Failed,
    NoResult,
    Limited,
    Unfit,
    Refused,
    Nothing,
    Mode,
    Exceeded,
    Interrupted,
    Worker,
}

impl Exit {
    /// All of them, the weightiest first: what was lost is lost, whatever else happened.
    pub(crate) const ALL: [Self; 11] = [
        Self::Interrupted,
        Self::Worker,
        Self::Failed,
        Self::Refused,
        Self::Mode,
        Self::Nothing,
        Self::Exceeded,
        Self::Limited,
        Self::Unfit,
        Self::NoResult,
        Self::Passed,
    ];

    /// The exit code of the process.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::NoResult => 2,
            Self::Limited => 3,
            Self::Unfit => 4,
            Self::Refused => 5,
            Self::Nothing => 6,
            Self::Mode => 7,
            Self::Exceeded => 8,
            Self::Interrupted => 9,
            Self::Worker => 10,
        }
    }

    /// As reports call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NoResult => "no result",
            Self::Limited => "generator at its limit",
            Self::Unfit => "target in trouble",
            Self::Refused => "refused",
            Self::Nothing => "nothing delivered",
            Self::Mode => "wrong mode",
            Self::Exceeded => "bound exceeded",
            Self::Interrupted => "interrupted",
            Self::Worker => "worker failed",
        }
    }

    /// The verdict that reports call so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.name() == name)
    }

    /// What it says about the run, in a line of `--help` and of the table.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Passed => "everything that was promised held",
            Self::Failed => {
                "something was lost, doubled, out of order or unanswered, or a connection went; \
                 of `flood`: the well-behaved felt it"
            }
            Self::NoResult => "wrong flags, no server, a refused token or `--compress`, too few users or descriptors",
            Self::Limited => {
                "this program was late or busy itself, or could not connect: what it has seen of the \
                 server proves nothing"
            }
            Self::Unfit => "before there was a flood, the well-behaved did not get in or something failed",
            Self::Refused => "the server refused messages, or took no more, beyond `--refused-max`",
            Self::Nothing => "nothing was delivered, acked or reached, so nothing is proved",
            Self::Mode => {
                "the server stores although `--mode volatile` was given, or the reverse, or now this, now that"
            }
            Self::Exceeded => "a bound on latency, memory, CPU or queries did not hold",
            Self::Interrupted => "SIGINT, SIGTERM or SIGHUP came; the report has what was measured until then",
            Self::Worker => {
                "one of `--workers` went, fell silent or could not reach the server; the run was ended, and the \
                 report has what was measured until then"
            }
        }
    }

    /// Whether a scenario can end so.
    pub(crate) fn concerns(self, scenario: &str) -> bool {
        match self {
            // They report nothing themselves.
            _ if matches!(scenario, "worker" | "tokens") => matches!(self, Self::Passed | Self::NoResult),
            Self::Passed | Self::Failed | Self::NoResult | Self::Interrupted => true,
            Self::Limited => {
                matches!(scenario, "fanout" | "direct" | "mixed" | "capacity" | "slow" | "churn" | "chatroom" | "flood")
            }
            Self::Unfit => scenario == "flood",
            Self::Worker => matches!(scenario, "idle" | "fanout" | "direct" | "mixed" | "capacity"),
            Self::Refused => matches!(scenario, "fanout" | "direct" | "mixed" | "slow" | "cost"),
            Self::Nothing => !matches!(scenario, "idle" | "check" | "storm" | "restart" | "capacity"),
            Self::Mode => matches!(scenario, "fanout" | "direct" | "mixed" | "slow"),
            Self::Exceeded => scenario != "flood",
        }
    }

    /// The weightier of two.
    pub(crate) fn or(self, other: Self) -> Self {
        if other.is_worse_than(self) { other } else { self }
    }

    /// Whether it weighs more.
    pub(crate) fn is_worse_than(self, other: Self) -> bool {
        let rank = |exit| Self::ALL.iter().position(|one| *one == exit);
        rank(self) < rank(other)
    }

    /// The section of `--help`, of one scenario or of all.
    pub(crate) fn help(scenario: Option<&str>) -> String {
        let mut text = "Exit codes (of several, the one that stands higher):\n".to_owned();
        for exit in Self::ALL.into_iter().filter(|exit| scenario.is_none_or(|name| exit.concerns(name))) {
            let meaning = exit.meaning().replace('`', "");
            let meaning = match (meaning.split_once("; of flood: "), scenario) {
                (Some((_, floods)), Some("flood")) => floods,
                (Some((others, _)), Some(_)) => others,
                _ => &meaning,
            };
            text.push_str(&format!("  {}  {}: {meaning}\n", exit.code(), exit.name()));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_different_and_the_weightiest_is_told() {
        let mut codes = Exit::ALL.map(Exit::code);
        codes.sort_unstable();
        assert!(codes.into_iter().eq(0..Exit::ALL.len() as u8), "{codes:?}");
        assert_eq!(Exit::Passed.or(Exit::Exceeded).or(Exit::Refused).or(Exit::Limited), Exit::Refused);
        assert_eq!(Exit::Interrupted.or(Exit::Failed), Exit::Interrupted);
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../README.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} | {} |", exit.code(), exit.name(), exit.meaning());
            assert!(readme.contains(&row), "loadtest/README.md lacks this row:\n{row}");
        }
    }

    #[test]
    fn help_of_a_scenario_has_its_codes_and_no_others() {
        let (idle, flood) = (Exit::help(Some("idle")), Exit::help(Some("flood")));
        assert!(
            idle.contains("8  bound exceeded") && !idle.contains("refused:") && !idle.contains("trouble"),
            "{idle}"
        );
        assert!(flood.contains("4  target in trouble") && !flood.contains("wrong mode"), "{flood}");
        assert_eq!(Exit::help(Some("worker")).lines().count(), 3, "a line before them");
        let (mixed, restart) = (Exit::help(Some("mixed")), Exit::help(Some("restart")));
        assert!(["3  ", "5  ", "7  "].iter().all(|code| mixed.contains(&format!("\n  {code}"))), "{mixed}");
        assert!(!restart.contains("nothing delivered"), "{restart}");
        assert!(idle.contains("10  worker failed") && !flood.contains("worker failed"), "{idle}");
    }
}

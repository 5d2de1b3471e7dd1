//! What users do, and how often: a file of rates per user and hour.
//!
//! Owns: [`Kind`], the things that users do; [`Mix`], how often one does each; [`Pace`], when the
//! next of a kind is due, also while a run speeds up.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

/// The mix unless another is named.
const DAY: &str = include_str!("../../../mix/day.toml");
/// The most that one user may do of a kind in an hour: ten a second, which is no person any more.
const HOURLY_MAX: f64 = 36_000.0;
/// Seconds of an hour.
const HOUR_S: f64 = 3_600.0;

/// Something that users do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A message to the other of the pair.
    Direct,
    /// A message to the group.
    Group,
    /// A sign of typing.
    Typing,
    /// A read mark.
    Read,
    /// The newest page of the group.
    History,
    /// The list of conversations.
    List,
    /// Whether others are online.
    Presence,
    /// A heartbeat.
    Heartbeat,
    /// Going and coming back.
    Reconnect,
    /// A login over HTTP.
    Login,
}

/// How many kinds there are.
pub(super) const KINDS: usize = Kind::ALL.len();

impl Kind {
    /// All of them, each at its own place.
    pub(super) const ALL: [Self; 10] = [
        Self::Direct,
        Self::Group,
        Self::Typing,
        Self::Read,
        Self::History,
        Self::List,
        Self::Presence,
        Self::Heartbeat,
        Self::Reconnect,
        Self::Login,
    ];

    /// As files and reports call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Group => "group",
            Self::Typing => "typing",
            Self::Read => "read",
            Self::History => "history",
            Self::List => "list",
            Self::Presence => "presence",
            Self::Heartbeat => "heartbeat",
            Self::Reconnect => "reconnect",
            Self::Login => "login",
        }
    }

    /// Whether it needs a group.
    pub(super) const fn in_group(self) -> bool {
        matches!(self, Self::Group | Self::History)
    }

    /// Whether the server answers each one. It may leave out typing and read marks.
    pub(super) const fn is_answered(self) -> bool {
        !matches!(self, Self::Typing | Self::Read)
    }

    /// Whether how long it takes is the server's doing alone. Marks may wait there until there are
    /// more of them, logins are made here one after another; messages of pairs are judged as in
    /// `direct`.
    pub(super) const fn is_prompt(self) -> bool {
        self.is_answered() && !matches!(self, Self::Direct | Self::Login)
    }
}

/// How often one user does each kind in an hour.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Mix([f64; KINDS]);

impl Mix {
    /// What a file says, or the mix of a busy day.
    pub(super) fn of(text: Option<&str>) -> Result<Self> {
        Self::parse(text.unwrap_or(DAY))
    }

    fn parse(text: &str) -> Result<Self> {
        let rates: BTreeMap<String, f64> = toml::from_str(text)?;
        let mut mix = Self([0.0; KINDS]);
        for (name, rate) in rates {
            let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
                bail!("{name:?} is nothing that users do: {}", Kind::ALL.map(Kind::name).join(", "));
            };
            ensure!((0.0..=HOURLY_MAX).contains(&rate), "{name}: from 0 to {HOURLY_MAX} an hour");
            mix.0[kind as usize] = rate;
        }
        ensure!(mix.0.iter().any(|rate| *rate > 0.0), "users who do nothing: see `autoclient idle`");
        Ok(mix)
    }

    /// How often one user does it in an hour.
    pub(super) const fn hourly(&self, kind: Kind) -> f64 {
        self.0[kind as usize]
    }

    /// Without what needs a group.
    pub(super) fn without_group(mut self) -> Self {
        Kind::ALL.into_iter().filter(|kind| kind.in_group()).for_each(|kind| self.0[kind as usize] = 0.0);
        self
    }

    /// When all of `users` do it, `speed` times as often, over `seconds`, of which the first `ramp`
    /// lead from nothing to that.
    pub(super) fn pace(&self, kind: Kind, users: u32, speed: f64, ramp: u64, seconds: u64) -> Pace {
        let per_second = self.hourly(kind) * f64::from(users) * speed / HOUR_S;
        let mut pace = Pace { per_second, ramp_s: ramp as f64, total: 0, next: 0 };
        pace.total = pace.before(seconds as f64);
        pace
    }
}

/// When each of a kind is due: evenly, at a rate that rises from nothing during the ramp.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Pace {
    per_second: f64,
    ramp_s: f64,
    /// How many become due in the whole run.
    pub(super) total: u64,
    /// How many were due.
    next: u64,
}

impl Pace {
    /// How many are due before a second of the run.
    fn before(&self, second: f64) -> u64 {
        let rising = second.min(self.ramp_s);
        let risen = if self.ramp_s > 0.0 { rising * rising / (2.0 * self.ramp_s) } else { 0.0 };
        (self.per_second * (risen + (second - self.ramp_s).max(0.0))).ceil() as u64
    }

    /// When the next is due, in nanoseconds from the start. `None`: all were.
    pub(super) fn due_ns(&self) -> Option<u64> {
        if self.next >= self.total {
            return None;
        }
        let work = self.next as f64 / self.per_second;
        let second =
            if work < self.ramp_s / 2.0 { (2.0 * self.ramp_s * work).sqrt() } else { work + self.ramp_s / 2.0 };
        Some((second * 1e9) as u64)
    }

    /// Takes the next: its place among all.
    pub(super) const fn take(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(per_hour: f64, ramp: u64, seconds: u64) -> Pace {
        Mix([per_hour; KINDS]).pace(Kind::Direct, 10, 2.0, ramp, seconds)
    }

    #[test]
    fn the_mix_of_a_day_is_readable_and_names_every_kind() {
        let day = Mix::parse(DAY).expect("the file of this crate");
        assert!(Kind::ALL.into_iter().all(|kind| day.hourly(kind) > 0.0));
        let alone = day.without_group();
        assert_eq!((alone.hourly(Kind::Group), alone.hourly(Kind::History)), (0.0, 0.0));
        assert_eq!(alone.hourly(Kind::Direct), day.hourly(Kind::Direct));
    }

    #[test]
    fn a_mix_that_is_none_is_refused() {
        for (bad, why) in [
            ("", "users who do nothing"),
            ("direct = 0", "users who do nothing"),
            ("direct = -1", "from 0 to"),
            ("direct = nan", "from 0 to"),
            ("direct = 36001", "from 0 to"),
            ("chat = 1", "nothing that users do: direct, group"),
            ("direct = \"often\"", "expected"),
        ] {
            let error = format!("{:#}", Mix::parse(bad).expect_err(bad));
            assert!(error.contains(why), "{bad:?}: {error}");
        }
    }

    #[test]
    fn without_a_ramp_the_pace_is_even() {
        // 10 users, 3,600 an hour, twice as fast: 20 a second.
        let mut pace = pace(3_600.0, 0, 3);
        assert_eq!(pace.total, 60);
        let due: Vec<u64> = std::iter::from_fn(|| pace.due_ns().inspect(|_| _ = pace.take())).collect();
        assert_eq!((due.len(), due[0], due[1], due[59]), (60, 0, 50_000_000, 2_950_000_000));
    }

    #[test]
    fn a_ramp_rises_from_nothing_and_loses_half_of_its_time() {
        let mut pace = pace(3_600.0, 4, 10);
        assert_eq!(pace.total, 160, "20 a second over 6 s, and half of that over 4");
        let due: Vec<u64> = std::iter::from_fn(|| pace.due_ns().inspect(|_| _ = pace.take())).collect();
        assert!(due.is_sorted() && *due.last().expect("some") < 10_000_000_000);
        let within = |from: u64, to: u64| due.iter().filter(|at| (from..to).contains(&(**at / 1_000_000_000))).count();
        assert_eq!((within(0, 1), within(9, 10)), (3, 20), "a sixteenth of the ramp's forty, and the full rate");
    }
}

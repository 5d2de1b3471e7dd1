//! What a message says about itself: which run, which sender, its number there, and when it was
//! meant to be sent.
//!
//! Owns: the text form in `content` (`ac.RUN.SENDER.N.INTENDED_NS.xxxx…`) and in `cid`
//! (`RUN.SENDER.N`), both free of JSON escapes.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

/// The mark in front, so that other people's messages are not taken for ours.
const MARK: &str = "ac.";

/// A number that tells this run's messages from those of other runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run(u64);

impl Run {
    /// A new run. The standard library's random hash keys are the only random source that is
    /// needed.
    pub(crate) fn new() -> Self {
        Self(RandomState::new().hash_one(0))
    }

    /// The run of a number.
    pub(crate) const fn of(number: u64) -> Self {
        Self(number)
    }

    /// A second name for messages of the same run.
    pub(crate) const fn beside(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// As a number.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}

/// The identity of one message of this run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Index of the sender among the run's users.
    pub(crate) sender: u32,
    /// The sender's own counter: 1, 2, 3, …
    pub(crate) n: u32,
    /// When it was meant to be sent, on the run's [`crate::clock::Clock`].
    pub(crate) intended_ns: u64,
}

impl Stamp {
    /// Writes the whole `cmd` 10 or 11 message, `payload` bytes of content (or the stamp's length,
    /// if that is more).
    pub(crate) fn write(self, out: &mut String, run: Run, cmd: u8, dstid: u64, payload: usize) {
        out.clear();
        let Self { sender, n, intended_ns } = self;
        let Run(run) = run;
        // Writing to a String cannot fail.
        let _ = write!(out, r#"{{"cmd":{cmd},"cid":"{run:x}.{sender}.{n}","dstid":{dstid},"media":1,"content":""#);
        let start = out.len();
        let _ = write!(out, "{MARK}{run:x}.{sender}.{n}.{intended_ns}.");
        let padding = payload.saturating_sub(out.len() - start);
        out.extend(std::iter::repeat_n('x', padding));
        out.push_str("\"}");
    }

    /// Reads a `content`. `None`: not a message of this run.
    pub(crate) fn from_content(content: &str, run: Run) -> Option<Self> {
        let (stamp, rest) = Self::read(content.strip_prefix(MARK)?, run)?;
        let (intended, _padding) = rest?.split_once('.')?;
        Some(Self { intended_ns: intended.parse().ok()?, ..stamp })
    }

    /// Reads a `cid`; the time of sending is not in it.
    pub(crate) fn from_cid(cid: &str, run: Run) -> Option<Self> {
        let (stamp, rest) = Self::read(cid, run)?;
        rest.is_none().then_some(stamp)
    }

    /// The `cid` of a message.
    pub(crate) fn cid(self, run: Run) -> String {
        format!("{:x}.{}.{}", run.0, self.sender, self.n)
    }

    /// `RUN.SENDER.N`, and what follows behind a dot.
    fn read(text: &str, run: Run) -> Option<(Self, Option<&str>)> {
        let mut parts = text.splitn(4, '.');
        if u64::from_str_radix(parts.next()?, 16).ok()? != run.0 {
            return None;
        }
        let sender = parts.next()?.parse().ok()?;
        let n = parts.next()?.parse().ok()?;
        Some((Self { sender, n, intended_ns: 0 }, parts.next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::scan;

    #[test]
    fn a_stamp_comes_back_from_the_message_it_wrote() {
        let run = Run::new();
        let stamp = Stamp { sender: 7, n: 12, intended_ns: 987_654_321 };
        let mut text = String::new();
        stamp.write(&mut text, run, 11, 9, 200);
        let fields = scan(&text).expect("an object");
        let content = fields.content.expect("content");
        assert_eq!(content.len(), 200);
        assert_eq!((fields.cmd, fields.dstid), (Some(11), Some(9)));
        assert_eq!(Stamp::from_content(content, run), Some(stamp));
        assert_eq!(fields.cid, Some(stamp.cid(run).as_str()));
        assert_eq!(Stamp::from_cid(&stamp.cid(run), run), Some(Stamp { intended_ns: 0, ..stamp }));
    }

    #[test]
    fn messages_of_others_are_not_ours() {
        let (run, other) = (Run(1), Run(2));
        let stamp = Stamp { sender: 0, n: 1, intended_ns: 5 };
        assert_eq!(Stamp::from_cid(&stamp.cid(other), run), None);
        assert_eq!(Stamp::from_content("hello", run), None);
        assert_eq!(Stamp::from_content("ac.1.2", run), None);
        assert_eq!(Stamp::from_cid("1.2.3.4", run), None);
    }
}

//! What any device saw of each conversation and what was acked, in one place for all threads, and
//! everything that contradicts it.
//!
//! Owns: the table of conversations (fixed for a run), one record per conversation behind a lock,
//! and the findings. Every arrival on every device is compared with the first one at that place at
//! once, so a contradiction is found when it is seen and its story can be told.
//! Bounds: some 200 bytes per message, [`MESSAGES_MAX`] messages of a conversation;
//! [`TROUBLES_MAX`] stories.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::mail::{Mail, Row};
use crate::clock::Clock;
use crate::limits::{MESSAGES_MAX, TROUBLES_MAX};

/// What can be wrong. The names are those of the report's counts, and each must be zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Fault {
    /// Acked, and not in the history.
    Lost,
    /// One `cid` under two `seq`.
    Doubled,
    /// Two messages at one place.
    OutOfOrder,
    /// A `seq` that is nowhere, or a page that leaves some out.
    Gaps,
    /// An ack, or a second ack, that names another place or number than the message has.
    Misacked,
    /// Content, author or conversation are not those that were sent.
    Altered,
    /// From a user that may not write there, or that is none of this run.
    Foreign,
    /// Shown to a device, and not in the history.
    Phantom,
    /// A device that was connected and read was not told.
    Missed,
    /// A device that was connected and read was told later than `--lag-max` allows.
    Late,
    /// A device that has asked for everything does not have what the history has.
    Incomplete,
    /// Neither acked nor refused when the time was over.
    Unacked,
    /// A correct command was refused for good.
    Refused,
    /// A history that was taken back (`reset`, or another epoch).
    Reset,
    /// A close code that forbids to come back.
    Banished,
    /// Not RFC 6455, or not docs/protocol.md.
    Protocol,
    /// The server ended by itself.
    Crashed,
}

impl Fault {
    /// All, in the order of the report.
    pub(crate) const ALL: [(Self, &'static str); 17] = [
        (Self::Lost, "lost"),
        (Self::Doubled, "doubled"),
        (Self::OutOfOrder, "out_of_order"),
        (Self::Gaps, "gaps"),
        (Self::Misacked, "misacked"),
        (Self::Altered, "altered"),
        (Self::Foreign, "foreign"),
        (Self::Phantom, "phantom"),
        (Self::Missed, "missed"),
        (Self::Late, "late"),
        (Self::Incomplete, "incomplete"),
        (Self::Unacked, "unacked"),
        (Self::Refused, "refused"),
        (Self::Reset, "reset_histories"),
        (Self::Banished, "banished"),
        (Self::Protocol, "protocol"),
        (Self::Crashed, "crashed"),
    ];
}

/// A conversation as the server names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Name {
    /// Two users' ids, the smaller one first.
    Direct(u64, u64),
    Group(u64),
}

impl Name {
    /// 10 or 11.
    pub(crate) const fn kind(self) -> u64 {
        match self {
            Self::Direct(..) => 10,
            Self::Group(_) => 11,
        }
    }

    /// What the conversation is called from the point of view of a user.
    pub(crate) const fn dstid(self, user: u64) -> u64 {
        match self {
            Self::Group(group) => group,
            Self::Direct(a, b) => {
                if user == a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(a, b) => write!(f, "the conversation of {a} and {b}"),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

/// The device that saw something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Who {
    /// By place.
    pub(crate) user: u32,
    pub(crate) device: u16,
}

/// By which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    Ack,
    Push,
    Sync,
    History,
}

/// A message at a place, as a device saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) mail: Mail,
    pub(crate) seq: u64,
    pub(crate) id: u64,
    pub(crate) who: Who,
    pub(crate) how: How,
    pub(crate) at_ms: u32,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mail, seq, id, who, how, at_ms } = self;
        let seconds = f64::from(*at_ms) / 1e3;
        write!(f, "{how:?} at {seconds:.3} s to user #{} device {}: seq {seq}, id {id}, {mail}", who.user, who.device)
    }
}

/// What is known of one conversation.
#[derive(Default, Debug)]
pub(crate) struct Record {
    /// By `seq`, from the base on: the first sight of each.
    pub(crate) rows: Vec<Option<Seen>>,
    /// Where each message is.
    pub(crate) places: HashMap<Mail, u64>,
    /// The first ack of each.
    pub(crate) acks: HashMap<Mail, Seen>,
}

/// One conversation of the run.
#[derive(Debug)]
pub(crate) struct Conv {
    pub(crate) name: Name,
    /// Members, by place.
    pub(crate) members: Vec<u32>,
    /// The head before the run.
    pub(crate) base: u64,
    head: AtomicU64,
    record: Mutex<Record>,
}

impl Conv {
    pub(crate) fn new(name: Name, members: Vec<u32>, base: u64) -> Self {
        Self { name, members, base, head: AtomicU64::new(base), record: Mutex::default() }
    }

    /// The highest `seq` that any device has seen.
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Relaxed)
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing that is wrong, and its story.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) fault: Fault,
    pub(crate) at_ms: u32,
    pub(crate) story: String,
}

#[derive(Default, Debug)]
struct Findings {
    counts: BTreeMap<Fault, u64>,
    first: Vec<Finding>,
}

/// All conversations, and what is wrong.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) convs: Vec<Conv>,
    clock: Clock,
    findings: Mutex<Findings>,
}

impl Book {
    pub(crate) fn new(convs: Vec<Conv>, clock: Clock) -> Self {
        Self { convs, clock, findings: Mutex::default() }
    }

    /// Milliseconds since the start.
    pub(crate) fn now_ms(&self) -> u32 {
        u32::try_from(self.clock.nanos() / 1_000_000).unwrap_or(u32::MAX)
    }

    /// Enters that something is wrong.
    pub(crate) fn blame(&self, fault: Fault, story: impl FnOnce() -> String) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        *findings.counts.entry(fault).or_default() += 1;
        if findings.first.len() < TROUBLES_MAX {
            let finding = Finding { fault, at_ms: self.now_ms(), story: story() };
            findings.first.push(finding);
        }
    }

    /// How often, by fault, and the first stories.
    pub(crate) fn findings(&self) -> (BTreeMap<Fault, u64>, Vec<Finding>) {
        let findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        (findings.counts.clone(), findings.first.clone())
    }

    /// Compares a message with its `cid` and its conversation. `None`: it is not a message of this
    /// run, or not one of this conversation.
    pub(crate) fn identify(
        &self,
        conv: u32,
        row: &Row,
        ids: &[u64],
        run: u64,
        payload: usize,
        by: Who,
    ) -> Option<Mail> {
        let name = self.convs[conv as usize].name;
        let told = || {
            format!(
                "in {name}, seq {}, id {}, cid {:?}, seen by user #{} device {}",
                row.seq, row.id, row.cid, by.user, by.device
            )
        };
        let Some(mail) = Mail::from_cid(&row.cid, run) else {
            self.blame(Fault::Foreign, || {
                format!("a message that nobody of this run sent: {} of {}", told(), row.userid)
            });
            return None;
        };
        if ids.get(mail.user as usize) != Some(&row.userid) {
            self.blame(Fault::Altered, || format!("{mail} is shown as one of {}: {}", row.userid, told()));
        }
        if mail.conv != conv || row.kind != name.kind() || row.dstid != name.dstid(row.userid) {
            self.blame(Fault::Altered, || format!("{mail} was sent to another conversation: {}", told()));
        }
        if let Some(what) = row.altered(mail, run, payload) {
            self.blame(Fault::Altered, || format!("{mail}: {what}: {}", told()));
        }
        Some(mail)
    }

    /// Enters a message that a device saw, and compares it with what was seen before. Returns when
    /// it was first seen, or acked, in milliseconds of the run.
    pub(crate) fn observe(&self, conv: u32, seen: Seen) -> u32 {
        let conv = &self.convs[conv as usize];
        let mut record = conv.record();
        if !conv.members.contains(&seen.mail.user) {
            self.blame(Fault::Foreign, || format!("{}: the author is not a member: {seen}", conv.name));
        }
        let place = seen.seq.checked_sub(conv.base + 1).and_then(|place| usize::try_from(place).ok());
        let Some(place) = place.filter(|place| *place < MESSAGES_MAX) else {
            self.blame(Fault::OutOfOrder, || {
                format!("{}: a place that cannot be (the run began at {}): {seen}", conv.name, conv.base)
            });
            return seen.at_ms;
        };
        conv.head.fetch_max(seen.seq, Relaxed);
        if record.rows.len() <= place {
            record.rows.resize(place + 1, None);
        }
        match record.rows[place] {
            None => record.rows[place] = Some(seen),
            Some(first) if first.mail != seen.mail => {
                self.blame(Fault::OutOfOrder, || {
                    format!("{}: two messages at one place: first {first}; then {seen}", conv.name)
                });
            }
            Some(first) if first.id != seen.id => {
                self.blame(Fault::Misacked, || {
                    format!("{}: two ids of one message: first {first}; then {seen}", conv.name)
                });
            }
            Some(_) => {}
        }
        let seq = *record.places.entry(seen.mail).or_insert(seen.seq);
        if seq != seen.seq {
            self.blame(Fault::Doubled, || {
                let first = record.rows.get((seq - conv.base - 1) as usize).copied().flatten();
                let acked =
                    record.acks.get(&seen.mail).map_or_else(|| "not acked".to_owned(), |ack| format!("acked: {ack}"));
                let first = first.map_or_else(|| format!("seq {seq}"), |first| first.to_string());
                format!("{}: one cid at two places: first {first}; then {seen}; {acked}", conv.name)
            });
        }
        record.rows[place].map_or(seen.at_ms, |first| first.at_ms)
    }

    /// Enters an ack. True: the first one of this message.
    pub(crate) fn acked(&self, conv: u32, seen: Seen) -> bool {
        self.observe(conv, seen);
        let conv = &self.convs[conv as usize];
        let mut record = conv.record();
        let Some(first) = record.acks.get(&seen.mail).copied() else {
            record.acks.insert(seen.mail, seen);
            return true;
        };
        if (first.seq, first.id) != (seen.seq, seen.id) {
            self.blame(Fault::Misacked, || format!("{}: two acks that differ: first {first}; then {seen}", conv.name));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        Book::new(vec![Conv::new(Name::Group(7), vec![0, 1], 0)], Clock::start())
    }

    fn seen(n: u32, seq: u64) -> Seen {
        let mail = Mail { user: 0, device: 0, n, conv: 0 };
        Seen { mail, seq, id: 100 + u64::from(n), who: Who { user: 1, device: 0 }, how: How::Push, at_ms: 1 }
    }

    #[track_caller]
    fn only(book: &Book, fault: Fault) {
        let (counts, stories) = book.findings();
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(fault, 1)]);
        assert!(stories[0].story.contains("group 7"), "{stories:?}");
    }

    #[test]
    fn the_same_seen_by_many_is_nothing() {
        let book = book();
        let firsts = [(seen(1, 1), 1), (seen(2, 2), 1), (Seen { at_ms: 9, ..seen(1, 1) }, 1)];
        firsts.into_iter().for_each(|(seen, first_ms)| assert_eq!(book.observe(0, seen), first_ms));
        assert!(book.acked(0, seen(2, 2)) && !book.acked(0, seen(2, 2)));
        assert!(book.findings().0.is_empty());
        assert_eq!(book.convs[0].head(), 2);
    }

    #[test]
    fn each_contradiction_is_found() {
        let check = |second: Seen, fault| {
            let book = book();
            book.observe(0, seen(1, 1));
            book.observe(0, second);
            only(&book, fault);
        };
        check(seen(1, 2), Fault::Doubled);
        check(seen(2, 1), Fault::OutOfOrder);
        check(Seen { id: 5, ..seen(1, 1) }, Fault::Misacked);
        check(seen(2, 0), Fault::OutOfOrder);
        let outsider = Mail { user: 9, ..seen(2, 2).mail };
        check(Seen { mail: outsider, ..seen(2, 2) }, Fault::Foreign);
    }
}

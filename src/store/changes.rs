//! What has changed about users since a moment ago, so that a gateway hears what another gateway of
//! the same database did.
//!
//! Owns: the vocabulary of changes, and how a gateway follows them ([`Following`]).
//! Never: says more than which user must be looked at and how things stand now: a change that is
//! told twice is told right twice.
//! Bounds: one answer has [`crate::limits::CHANGES_MAX`] rows at most; rows are kept for
//! [`crate::limits::CHANGES_KEPT_S`] at least.
//!
//! A database with several writers gives numbers in one order and shows their rows in another. So
//! every answer says up to which number nothing can appear any more, and a follower reads what lies
//! above again until that is so.

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::ids::{GroupId, LoginId, Seq, UserId};

/// Something about a user is not what it was, written in the transaction that changed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Grows; never given twice.
    pub id: u64,
    /// Whose.
    pub user: UserId,
    /// What, as it stands when it is read.
    pub what: Changed,
}

/// How things stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    /// Logged out everywhere, a new password, a ban or its end.
    Standing {
        /// Tokens of an older epoch are void.
        token_epoch: u32,
        /// No session for this user; so it is with a user that does not exist any more.
        banned: bool,
    },
    /// Joined or left a group.
    Member {
        /// Which.
        group: GroupId,
        /// Since when (exclusive) the user is a member; `None`: is none.
        since: Option<Seq>,
    },
    /// Refuses another user's direct messages, or takes them again.
    Block {
        /// Whose messages.
        other: UserId,
        /// Whether they are refused.
        on: bool,
    },
    /// Logged out with one device.
    Login {
        /// Which login.
        login: LoginId,
        /// It is still good; nothing is to be done.
        alive: bool,
    },
}

/// Some of the changes after a number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// In the order of their numbers.
    pub list: Vec<Change>,
    /// Whether there are more behind the last one.
    pub more: bool,
    /// The highest number of those between them of which only a later version knows: they stand in
    /// the list's place, and are not in it.
    pub strange: Option<u64>,
    /// At or below this number nothing appears any more that could not be read when this answer
    /// was.
    pub settled: u64,
}

/// The columns `kind` and `other` of a stored change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Note {
    Standing,
    Member(GroupId),
    Block(UserId),
    Login(LoginId),
}

impl Note {
    pub(super) const STANDING: u64 = 1;
    pub(super) const MEMBER: u64 = 2;
    pub(super) const BLOCK: u64 = 3;
    pub(super) const LOGIN: u64 = 4;
    /// Above it a kind is one of a later version.
    pub(super) const LAST: u64 = Self::LOGIN;

    pub(super) fn columns(self) -> (u64, u64) {
        match self {
            Self::Standing => (Self::STANDING, 0),
            Self::Member(group) => (Self::MEMBER, group.get()),
            Self::Block(other) => (Self::BLOCK, other.get()),
            Self::Login(login) => (Self::LOGIN, login.get().into()),
        }
    }

    /// `None`: no such note.
    pub(super) fn from_columns(kind: u64, other: u64) -> Option<Self> {
        match kind {
            Self::STANDING => Some(Self::Standing),
            Self::MEMBER => GroupId::new(other).map(Self::Member),
            Self::BLOCK => UserId::new(other).map(Self::Block),
            Self::LOGIN => u32::try_from(other).ok().and_then(LoginId::new).map(Self::Login),
            _ => None,
        }
    }
}

/// How far one gateway has read. Asks with [`Following::after`], and is given each answer in turn.
///
/// A gateway that could not ask for longer than [`crate::limits::CHANGES_KEPT_S`] may have missed
/// changes, and begins anew: with a new `Following`, and by reading how all its users stand.
#[derive(Debug, Default)]
pub struct Following {
    /// Everything up to here was read when nothing could appear there any more. `None`: not begun.
    settled: Option<u64>,
    /// The answer that began this round said so; what is read until the round ends is all there is
    /// up to here.
    settles: u64,
    /// The last number read in this round; `None` between two rounds.
    last: Option<u64>,
    /// Numbers above `settled` that were handed on.
    seen: HashSet<u64, FixedState>,
    /// The round is a quick one, see [`Following::begin`].
    quick: bool,
    /// The highest number handed on: so far, when this round began, and when the one before did.
    top: [u64; 3],
}

impl Following {
    /// A round begins, unless one is under way. A quick one reads what was not there two rounds
    /// ago: while very much changes, everything that is not settled is not read each time. What
    /// appears later than that, under a number below, is left to the next one that is not quick.
    pub fn begin(&mut self, quick: bool) {
        if self.last.is_none() {
            self.quick = quick;
            self.top = [self.top[0], self.top[0], self.top[1]];
        }
    }

    /// Whether the round that has ended was not quick: one that was under way goes on as it began.
    #[must_use]
    pub const fn was_whole(&self) -> bool {
        !self.quick
    }

    /// Where the next answer begins; `None`: the first, which has no rows and says where they
    /// begin.
    #[must_use]
    pub fn after(&self) -> Option<u64> {
        let from = self.settled.map(|settled| if self.quick { settled.max(self.top[2]) } else { settled });
        self.last.or(from)
    }

    /// What is new in the answer to the last question. As long as the answer says `more`, the next
    /// question may follow at once.
    pub fn take(&mut self, changes: Changes) -> Vec<Change> {
        let Some(settled) = self.settled else {
            self.settled = Some(changes.settled);
            return Vec::new();
        };
        if self.last.is_none() {
            self.settles = changes.settled.max(settled);
        }
        let Changes { list, more, strange, .. } = changes;
        let fresh: Vec<Change> = list.iter().copied().filter(|change| self.seen.insert(change.id)).collect();
        // One that is not known is passed by like any other.
        let last = list.last().map(|change| change.id).max(strange);
        self.top[0] = self.top[0].max(last.unwrap_or(0));
        self.last = last.filter(|_| more);
        // A quick round has not read all that is up to there.
        if self.last.is_none() && !self.quick {
            let settles = self.settles;
            self.settled = Some(settles);
            self.seen.retain(|id| *id > settles);
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(id: u64) -> Change {
        let what = Changed::Standing { token_epoch: 1, banned: false };
        Change { id, user: UserId::new(1).expect("in range"), what }
    }

    /// The answer of a table in which `ids` can be seen.
    fn answer(ids: &[u64], after: Option<u64>, max: usize, settled: u64) -> Changes {
        let Some(after) = after else { return Changes { settled, ..Changes::default() } };
        let all: Vec<Change> = ids.iter().filter(|id| **id > after).map(|id| change(*id)).collect();
        Changes { list: all.iter().copied().take(max).collect(), more: all.len() > max, settled, strange: None }
    }

    fn round(following: &mut Following, ids: &[u64], settled: u64) -> Vec<u64> {
        let mut got = Vec::new();
        loop {
            let answer = answer(ids, following.after(), 2, settled);
            let more = answer.more;
            got.extend(following.take(answer).iter().map(|change| change.id));
            if !more {
                return got;
            }
        }
    }

    #[test]
    fn a_change_that_appears_late_is_told_and_none_twice() {
        let mut following = Following::default();
        assert_eq!(following.after(), None);
        assert_eq!(round(&mut following, &[1, 2, 3], 3), [0; 0], "what was before is read with the users");
        assert_eq!(round(&mut following, &[1, 2, 3, 5, 6, 7], 3), [5, 6, 7], "a page and another one");
        assert_eq!(round(&mut following, &[1, 2, 3, 4, 5, 6, 7], 3), [4], "4 was not committed yet");
        assert_eq!(round(&mut following, &[1, 2, 3, 4, 5, 6, 7], 6), [0; 0]);
        assert_eq!(following.after(), Some(6));
        assert_eq!(following.seen.len(), 1, "only what may be read again");
        assert_eq!(round(&mut following, &[7, 9], 9), [9]);
        assert_eq!((following.after(), following.seen.len()), (Some(9), 0));
    }

    #[test]
    fn what_no_version_of_ours_has_written_is_passed_by() {
        let mut following = Following::default();
        following.take(answer(&[], None, 2, 0));
        let page = |list, strange, more| Changes { list, more, settled: 0, strange };
        assert_eq!(following.take(page(vec![change(1)], Some(2), true)), [change(1)]);
        assert_eq!(following.after(), Some(2));
        assert_eq!(following.take(page(Vec::new(), Some(4), true)), [], "a page of nothing else");
        assert_eq!(following.after(), Some(4));
        assert_eq!(following.take(page(vec![change(6)], Some(5), false)), [change(6)]);
    }

    #[test]
    fn what_settles_while_a_round_runs_waits_for_the_next() {
        let mut following = Following::default();
        following.take(answer(&[], None, 2, 0));
        following.take(answer(&[2, 3, 4], following.after(), 2, 0));
        // 1 appears behind the page that was read, and by the time of the next page it is settled.
        following.take(answer(&[1, 2, 3, 4], following.after(), 2, 4));
        assert_eq!(round(&mut following, &[1, 2, 3, 4], 4), [1]);
    }

    /// 5,000 changes are made while another gateway says so twenty times: of a group that ends, or
    /// of a list of members. Each is read twice at most until everything is looked at again.
    #[test]
    fn a_burst_of_changes_is_not_read_again_by_each_look() {
        const EACH: u64 = 250;
        let mut following = Following::default();
        following.take(answer(&[], following.after(), 1000, 0));
        let (mut read, mut told) = (0, 0);
        let look = |following: &mut Following, ids: &[u64], quick: bool| {
            following.begin(quick);
            let (mut rows, mut fresh) = (0, Vec::new());
            loop {
                let page = answer(ids, following.after(), 1000, 0);
                let more = page.more;
                rows += page.list.len();
                fresh.extend(following.take(page).iter().map(|change| change.id));
                if !more {
                    return (rows, fresh);
                }
            }
        };
        // Every hundredth appears one look later than the others.
        for n in 1..=20 {
            let ids: Vec<u64> = (1..=n * EACH).filter(|id| id % 100 != 0 || *id <= (n - 1) * EACH).collect();
            let (more, fresh) = look(&mut following, &ids, true);
            (read, told) = (read + more, told + fresh.len() as u64);
            assert_eq!(told, ids.len() as u64, "all that can be seen");
        }
        assert!(read as u64 <= 2 * 20 * EACH, "{read} rows");
        let all: Vec<u64> = (1..=20 * EACH).collect();
        assert_eq!(look(&mut following, &all, true).1, [4800, 4900, 5000], "these were late");
        look(&mut following, &all, true);
        assert_eq!(look(&mut following, &all, true), (0, Vec::new()));
        assert_eq!(look(&mut following, &all, false), (all.len(), Vec::new()), "everything that is not settled");
    }

    #[test]
    fn only_a_look_at_everything_settles_anything() {
        let mut following = Following::default();
        following.take(answer(&[], None, 9, 0));
        for _ in 0..3 {
            following.begin(true);
            following.take(answer(&[2, 3], following.after(), 9, 0));
        }
        // 1 was late, and all of them are settled when a quick look comes.
        following.begin(true);
        assert_eq!(following.take(answer(&[1, 2, 3], following.after(), 9, 3)), []);
        following.begin(false);
        assert_eq!(following.take(answer(&[1, 2, 3], following.after(), 9, 3)), [change(1)]);
        assert_eq!(following.after(), Some(3));
    }

    #[test]
    fn notes_have_columns_of_their_own() {
        let notes = [
            Note::Standing,
            Note::Member(GroupId::new(7).expect("in range")),
            Note::Block(UserId::new(9).expect("in range")),
            Note::Login(LoginId::new(LoginId::MAX).expect("in range")),
        ];
        for note in notes {
            let (kind, other) = note.columns();
            assert_eq!(Note::from_columns(kind, other), Some(note));
        }
        assert_eq!(Note::from_columns(5, 1), None);
        assert_eq!(Note::from_columns(Note::LOGIN, 1 << 24), None);
        assert_eq!(Note::from_columns(Note::BLOCK, 0), None);
    }
}

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
}

impl Following {
    /// Where the next answer begins; `None`: the first, which has no rows and says where they
    /// begin.
    #[must_use]
    pub fn after(&self) -> Option<u64> {
        self.last.or(self.settled)
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
        let Changes { list, more, .. } = changes;
        let fresh: Vec<Change> = list.iter().copied().filter(|change| self.seen.insert(change.id)).collect();
        self.last = list.last().map(|change| change.id).filter(|_| more);
        if self.last.is_none() {
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
        Changes { list: all.iter().copied().take(max).collect(), more: all.len() > max, settled }
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
    fn what_settles_while_a_round_runs_waits_for_the_next() {
        let mut following = Following::default();
        following.take(answer(&[], None, 2, 0));
        following.take(answer(&[2, 3, 4], following.after(), 2, 0));
        // 1 appears behind the page that was read, and by the time of the next page it is settled.
        following.take(answer(&[1, 2, 3, 4], following.after(), 2, 4));
        assert_eq!(round(&mut following, &[1, 2, 3, 4], 4), [1]);
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

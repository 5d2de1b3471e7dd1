//! The answers as their questions type them: what a shard takes out of a [`Reply`].
//!
//! Owns: which answers each question has. A backend that answers another question than it was
//! asked is a bug of ours, found here and nowhere else.

use super::worker::Reply;
use super::{Error, Heads, Page, ReadAnswer, Refusal, UserState, Written};
use crate::ids::{ConvId, MsgId, Seq};

/// What became of a message: of [`super::Write::Append`], [`super::Write::Line`] and
/// [`super::Write::Recall`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Appended {
    /// As [`Written::Stored`].
    Stored {
        /// Its place.
        seq: Seq,
        /// Its number.
        id: MsgId,
        /// Its time.
        ts_ms: u64,
        /// The time of the message before it.
        before_ms: u64,
    },
    /// As [`Written::Duplicate`].
    Duplicate {
        /// Where the earlier message is.
        conv: ConvId,
        /// Its place.
        seq: Seq,
        /// Its number.
        id: MsgId,
        /// Its time.
        ts_ms: u64,
    },
    /// As [`Written::Refused`].
    Refused(Refusal),
}

/// What became of a membership: of [`super::Write::Join`] and [`super::Write::Leave`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Membership {
    /// As [`Written::Joined`].
    Joined {
        /// Where it begins.
        since: Seq,
        /// There was one before.
        already: bool,
    },
    /// As [`Written::Left`].
    Left {
        /// There was one before.
        was_member: bool,
    },
    /// As [`Written::Refused`].
    Refused(Refusal),
}

/// The head of a conversation: to [`super::Write::Head`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reached(pub Seq);

/// A cursor is kept: to [`super::Write::Cursor`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept;

/// Something that a question is answered with.
pub trait TypedAnswer: Sized {
    /// Out of what a backend says. `None`: that answers another question.
    fn of_written(written: Written) -> Option<Self> {
        let _ = written;
        None
    }

    /// As [`Self::of_written`].
    fn of_read(answer: ReadAnswer) -> Option<Self> {
        let _ = answer;
        None
    }
}

impl Reply {
    /// The answer, of the type of its question.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Panics
    /// The store has answered another question: a bug of ours.
    pub fn of<A: TypedAnswer>(self) -> Result<A, Error> {
        let answer = match self {
            Self::Written(written) => A::of_written(written?),
            Self::Read(answer) => A::of_read(answer?),
        };
        Ok(answer.unwrap_or_else(|| unreachable!("the store answers what it was asked")))
    }
}

impl TypedAnswer for Appended {
    fn of_written(written: Written) -> Option<Self> {
        match written {
            Written::Stored { seq, id, ts_ms, before_ms } => Some(Self::Stored { seq, id, ts_ms, before_ms }),
            Written::Duplicate { conv, seq, id, ts_ms } => Some(Self::Duplicate { conv, seq, id, ts_ms }),
            Written::Refused(refusal) => Some(Self::Refused(refusal)),
            Written::Head { .. } | Written::Joined { .. } | Written::Left { .. } | Written::Kept => None,
        }
    }
}

impl TypedAnswer for Membership {
    fn of_written(written: Written) -> Option<Self> {
        match written {
            Written::Joined { since, already } => Some(Self::Joined { since, already }),
            Written::Left { was_member } => Some(Self::Left { was_member }),
            Written::Refused(refusal) => Some(Self::Refused(refusal)),
            Written::Stored { .. } | Written::Duplicate { .. } | Written::Head { .. } | Written::Kept => None,
        }
    }
}

impl TypedAnswer for Reached {
    fn of_written(written: Written) -> Option<Self> {
        if let Written::Head { head } = written { Some(Self(head)) } else { None }
    }
}

impl TypedAnswer for Kept {
    fn of_written(written: Written) -> Option<Self> {
        matches!(written, Written::Kept).then_some(Self)
    }
}

/// To [`super::Read::Page`]: the page, or why the reader may not.
impl TypedAnswer for Result<Page, Refusal> {
    fn of_read(answer: ReadAnswer) -> Option<Self> {
        match answer {
            ReadAnswer::Page(page) => Some(Ok(page)),
            ReadAnswer::Refused(refusal) => Some(Err(refusal)),
            ReadAnswer::Open(_) | ReadAnswer::Heads(_) => None,
        }
    }
}

impl TypedAnswer for UserState {
    fn of_read(answer: ReadAnswer) -> Option<Self> {
        if let ReadAnswer::Open(state) = answer { Some(state) } else { None }
    }
}

impl TypedAnswer for Heads {
    fn of_read(answer: ReadAnswer) -> Option<Self> {
        if let ReadAnswer::Heads(heads) = answer { Some(heads) } else { None }
    }
}

//! Refusals (`cmd` 2) and close codes: one enum each; `docs/protocol.md` is checked against them.
//!
//! Owns: the codes, their numbers, texts and whether trying again makes sense.

use crate::metrics::names;

/// Why a command is refused. Told to v2 sessions as `cmd` 2, to legacy sessions as a text without
/// `}`, counted always.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u16)]
pub enum Reject {
    /// Not a JSON object, or a field of the wrong type.
    Malformed = 1,
    /// No such `cmd`.
    UnknownCommand = 2,
    /// A field that the command needs is missing or out of range.
    BadField = 3,
    /// `media` 4 without a string `url`, and the other shapes that freeze old pages.
    BadMedia = 4,
    /// No member of that group.
    NotMember = 10,
    /// No such group.
    NoSuchGroup = 11,
    /// No such user.
    NoSuchUser = 12,
    /// The recipient has blocked the sender.
    Blocked = 13,
    /// The `cid` was used for another conversation.
    CidReused = 14,
    /// The message is too old to be recalled.
    TooLate = 15,
    /// Only one's own messages can be recalled.
    NotYours = 16,
    /// There is no such message to recall, or none any more.
    NoSuchMessage = 17,
    /// A queue is full or the database is in trouble: this try is certainly not stored (an earlier
    /// one with the same `cid` may be); try again.
    Busy = 20,
    /// Perhaps stored, perhaps not: try again with the same `cid`, which is safe.
    Retry = 21,
    /// The gateway is stopping: not stored, as with `Busy`.
    Stopping = 22,
}

impl Reject {
    /// Every code, in order of its number.
    pub const ALL: [Self; names::REFUSED.len()] = [
        Self::Malformed,
        Self::UnknownCommand,
        Self::BadField,
        Self::BadMedia,
        Self::NotMember,
        Self::NoSuchGroup,
        Self::NoSuchUser,
        Self::Blocked,
        Self::CidReused,
        Self::TooLate,
        Self::NotYours,
        Self::NoSuchMessage,
        Self::Busy,
        Self::Retry,
        Self::Stopping,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// Whether the same command may succeed later.
    #[must_use]
    pub const fn retry(self) -> bool {
        matches!(self, Self::Busy | Self::Retry | Self::Stopping)
    }

    /// The text for people: English, without `}` and without a quote, so that it is safe
    /// everywhere.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Malformed => "malformed command",
            Self::UnknownCommand => "unknown command",
            Self::BadField => "missing or invalid field",
            Self::BadMedia => "the media type lacks what it needs",
            Self::NotMember => "not a member of this group",
            Self::NoSuchGroup => "no such group",
            Self::NoSuchUser => "no such user",
            Self::Blocked => "blocked by the recipient",
            Self::CidReused => "this cid was used in another conversation",
            Self::TooLate => "too late to recall this message",
            Self::NotYours => "only your own messages can be recalled",
            Self::NoSuchMessage => "no such message",
            Self::Busy => "busy, try again",
            Self::Retry => "outcome unknown, try again with the same cid",
            Self::Stopping => "the gateway is stopping",
        }
    }

    /// Its place in [`Self::ALL`], for counters.
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|&other| other == self).unwrap_or_default()
    }

    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        names::REFUSED.get(self.index()).copied().unwrap_or_default()
    }
}

/// Why the server closes a connection. 1000–1015 as RFC 6455, section 7.4.1; 4000–4499: reconnect;
/// 4500–4999: do not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u16)]
pub enum CloseCode {
    /// Normal end, as the peer asked.
    Normal = 1000,
    /// RFC 6455 violated.
    Protocol = 1002,
    /// A data type that we do not take.
    Unsupported = 1003,
    /// A text that is not UTF-8.
    InvalidUtf8 = 1007,
    /// A message was not whole in time, or too much that was not whole was kept.
    Incomplete = 1008,
    /// Larger than the limit.
    TooBig = 1009,
    /// Our fault: parsing panicked.
    Internal = 1011,
    /// The gateway stops or restarts; `retry_ms` in the reason.
    Shutdown = 4000,
    /// Behind in too many conversations, or the outbox budget is used up.
    Slow = 4001,
    /// The store could not look the user up; try again.
    Unavailable = 4002,
    /// Nothing heard for [`crate::limits::IDLE_MS`].
    Idle = 4003,
    /// Over the pace for [`crate::limits::GREED_MS_MAX`].
    TooFast = 4429,
    /// The token is wrong, expired or revoked.
    BadToken = 4501,
    /// Another device took the place.
    Replaced = 4502,
    /// The user is banned.
    Banned = 4503,
}

impl CloseCode {
    /// Every code, in order of its number.
    pub const ALL: [Self; names::CLOSED.len()] = [
        Self::Normal,
        Self::Protocol,
        Self::Unsupported,
        Self::InvalidUtf8,
        Self::Incomplete,
        Self::TooBig,
        Self::Internal,
        Self::Shutdown,
        Self::Slow,
        Self::Unavailable,
        Self::Idle,
        Self::TooFast,
        Self::BadToken,
        Self::Replaced,
        Self::Banned,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The reason on the wire, at most 123 bytes.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::Protocol => "protocol error",
            Self::Unsupported => "unsupported data",
            Self::InvalidUtf8 => "invalid utf-8",
            Self::Incomplete => "message not completed",
            Self::TooBig => "message too big",
            Self::Internal => "internal error",
            Self::Shutdown => "shutdown retry_ms=1000",
            Self::Slow => "slow",
            Self::Unavailable => "unavailable",
            Self::Idle => "idle",
            Self::TooFast => "too fast",
            Self::BadToken => "bad token",
            Self::Replaced => "replaced",
            Self::Banned => "banned",
        }
    }

    /// Its place in [`Self::ALL`], for counters.
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|&other| other == self).unwrap_or_default()
    }

    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        names::CLOSED.get(self.index()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `NoSuchGroup` as `no_such_group`, `InvalidUtf8` as `invalid_utf8`.
    fn snake(variant: &str) -> String {
        let mut out = String::new();
        for c in variant.chars() {
            if c.is_ascii_uppercase() && !out.is_empty() {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        }
        out
    }

    #[test]
    fn labels_are_the_variants_in_their_order() {
        for (at, reject) in Reject::ALL.into_iter().enumerate() {
            assert_eq!((reject.index(), reject.label()), (at, snake(&format!("{reject:?}")).as_str()));
        }
        for (at, code) in CloseCode::ALL.into_iter().enumerate() {
            assert_eq!((code.index(), code.label()), (at, snake(&format!("{code:?}")).as_str()));
        }
    }

    #[test]
    fn numbers_ascend_and_stay_in_their_ranges() {
        assert!(Reject::ALL.is_sorted_by(|a, b| a.code() < b.code()));
        assert!(CloseCode::ALL.is_sorted_by(|a, b| a.code() < b.code()));
        for code in CloseCode::ALL.map(CloseCode::code) {
            assert!(matches!(code, 1000..=1015 | 4000..=4999), "{code}");
        }
    }

    #[test]
    fn texts_are_safe_everywhere() {
        for reject in Reject::ALL {
            assert!(reject.message().bytes().all(|b| b.is_ascii() && !b.is_ascii_control() && !b"}\"\\".contains(&b)));
        }
        for code in CloseCode::ALL {
            assert!(code.reason().len() <= crate::limits::CONTROL_BYTES_MAX - 2);
        }
    }
}

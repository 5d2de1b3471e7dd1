//! What a session tells the application, and what it names conversations and messages by.

use serde_json::{Map, Value};

/// A conversation, as this user names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Conv {
    /// With that user; one's own number: notes to oneself.
    Direct(u64),
    /// That group.
    Group(u64),
}

impl Conv {
    /// From `kind` and `dstid` of a frame.
    #[must_use]
    pub const fn new(kind: u64, dstid: u64) -> Option<Self> {
        match kind {
            10 => Some(Self::Direct(dstid)),
            11 => Some(Self::Group(dstid)),
            _ => None,
        }
    }

    /// 10 or 11.
    #[must_use]
    pub const fn kind(self) -> u64 {
        match self {
            Self::Direct(_) => 10,
            Self::Group(_) => 11,
        }
    }

    /// The other user, or the group.
    #[must_use]
    pub const fn dstid(self) -> u64 {
        match self {
            Self::Direct(id) | Self::Group(id) => id,
        }
    }
}

/// A message, pushed or from a page.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// Its place in the conversation; `None` where the gateway stores nothing.
    pub seq: Option<u64>,
    /// Its number on the server.
    pub id: Option<u64>,
    /// Unix milliseconds.
    pub ts_ms: u64,
    /// The author.
    pub userid: u64,
    /// All fields, those of the server included.
    pub body: Map<String, Value>,
}

impl Message {
    /// From a frame of `cmd` 10 or 11, or a row of a page.
    pub(crate) fn new(body: Map<String, Value>) -> Self {
        let number = |field: &str| body.get(field).and_then(Value::as_u64);
        let (seq, id) = (number("seq"), number("id"));
        let (ts_ms, userid) = (number("ts").unwrap_or(0), number("userid").unwrap_or(0));
        Self { seq, id, ts_ms, userid, body }
    }

    /// What it says, if that is a text.
    #[must_use]
    pub fn content(&self) -> &str {
        self.body.get("content").and_then(Value::as_str).unwrap_or_default()
    }
}

/// What the application is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The connection is open.
    Online,
    /// It is not. `again`: the session comes back by itself.
    Offline {
        /// The close code; 1006: there was none.
        code: u16,
        /// The close reason.
        reason: String,
        /// Whether it comes back by itself. If not: posts without [`Event::Sent`] and
        /// [`Event::Refused`] may be stored or not; the next client says them with
        /// [`Client::post_again`](crate::Client::post_again).
        again: bool,
    },
    /// The next message of a conversation: each number once, in order, none left out but what
    /// [`Event::Gap`] says. The user's own messages are among them.
    Message {
        /// Where.
        conv: Conv,
        /// What.
        message: Message,
    },
    /// A message of the application is stored. [`Event::Message`] shows it in its turn.
    Sent {
        /// The application's name for it.
        cid: String,
        /// Where.
        conv: Conv,
        /// Its place; `None` where the gateway stores nothing.
        seq: Option<u64>,
    },
    /// The gateway has refused something for good, or would refuse it without saying what it means:
    /// such a message is not sent.
    Refused {
        /// The message in question; `None`: a conversation cannot be read.
        cid: Option<String>,
        /// Where.
        conv: Conv,
        /// See the table of refusal codes in `docs/protocol.md`.
        code: u64,
    },
    /// Somebody has received and read a conversation up to these numbers; 0: not said.
    Receipt {
        /// That user; one's own number: on another device.
        userid: u64,
        /// Where.
        conv: Conv,
        /// Received.
        recv: u64,
        /// Read.
        read: u64,
    },
    /// The conversation has another history now: what was shown of it is to be forgotten.
    Reset {
        /// Which.
        conv: Conv,
    },
    /// The gateway does not keep these messages any more.
    Gap {
        /// Where.
        conv: Conv,
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A page of before, as it was asked for.
    History {
        /// Where.
        conv: Conv,
        /// In ascending order.
        rows: Vec<Message>,
        /// Whether there is more before it.
        more: bool,
    },
    /// Anything else that the gateway says (typing, presence, hints, what is not known yet), as it
    /// came.
    Other(Map<String, Value>),
}

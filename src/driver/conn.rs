//! One connection as the driver sees it.
//!
//! Owns: the transport, the state it is in, and the marks that keep it from standing twice on a list.
//! Never: knows who the user is or what was said; that is the shard's.
//! Bounds: an idle session owns no buffer; what the other states own is bounded where they are described.

use super::echo::Echo;
use super::transport::Transport;
use crate::caller::Peer;
use crate::wire::Profile;
use crate::ws::Decoder;

/// A connection.
pub(super) struct Conn {
    pub(super) transport: Transport,
    /// As in its [`crate::ids::ConnId`].
    pub(super) generation: u32,
    /// Stands on the ready list: the kernel may have bytes for us.
    pub(super) listed: bool,
    /// Stands on the dirty list: there are bytes for the kernel.
    pub(super) dirty: bool,
    /// The kernel took less than it was offered; it will say when there is room.
    pub(super) blocked: bool,
    /// Stands on the list of those to be buried: neither read nor written any more.
    pub(super) doomed: bool,
    /// The kernel has announced the end of the stream: a short read is not the last one.
    pub(super) ending: bool,
    /// The poll reports on it. Not before its first read: many a connection is another thread's after that.
    pub(super) registered: bool,
    /// The poll reports room for writing as well: it was full once.
    pub(super) reports_room: bool,
    pub(super) state: State,
}

const _: () = assert!(
    // A debug build of mio keeps with each socket in which poll it stands.
    cfg!(debug_assertions) || size_of::<Option<Conn>>() <= 32,
    "a million idle connections cost the driver 32 MB, and its table 8 for generations and free slots"
);

impl Conn {
    pub(super) const fn new(transport: Transport, generation: u32, state: State) -> Self {
        Self {
            transport,
            generation,
            listed: false,
            dirty: false,
            blocked: false,
            doomed: false,
            ending: false,
            registered: false,
            reports_room: false,
            state,
        }
    }

    /// Whether the shard has heard of it and must hear of its end.
    pub(super) const fn is_session(&self) -> bool {
        match &self.state {
            State::Open(_) => true,
            State::Parting(parting) => parting.session,
            State::Head(_) | State::Echo(_) => false,
        }
    }

    /// Whether it ends, and its peer has said its last.
    pub(super) fn has_ended(&self) -> bool {
        matches!(&self.state, State::Parting(parting) if parting.heard_end)
    }

    /// Whether its 101 has not left yet.
    pub(super) const fn is_unwelcomed(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.unwelcomed)
    }
}

/// What a connection is doing.
pub(super) enum State {
    /// Its request head has not come yet. What has come of it, for the few that come in pieces.
    Head(Option<Box<Head>>),
    /// A session of this shard.
    Open(Open),
    /// The hidden route for protocol tests.
    Echo(Box<Echo>),
    /// Its last bytes are on their way; then it ends.
    Parting(Box<Parting>),
}

/// A request head that comes in pieces, or whose sender another than the kernel names.
#[derive(Default)]
pub(super) struct Head {
    /// What has come: at most [`crate::limits::HEAD_BYTES_MAX`], and [`crate::limits::PREAMBLE_BYTES_MAX`] before it.
    pub(super) stash: Vec<u8>,
    /// The header of the PROXY protocol has not come yet.
    pub(super) preamble: bool,
    /// The other end, if it is not the socket's.
    pub(super) peer: Option<Peer>,
}

/// A session's socket.
pub(super) struct Open {
    /// Holds a partial frame or message, and what a pause has left unread.
    pub(super) decoder: Decoder,
    /// How it is spoken to.
    pub(super) profile: Profile,
    /// The decoder holds bytes that the shard has not heard.
    pub(super) held: bool,
    /// The shard does not want to hear of it now.
    pub(super) paused: bool,
    /// Its 101 waits with the welcomes, and leaves before anything else.
    pub(super) unwelcomed: bool,
    /// The peer has sent its close frame: nothing that it may still send means anything (RFC 6455, section 5.5.1).
    pub(super) farewell: bool,
}

/// The end of a connection: what is still to be said, then end of stream, then the wait for the peer's.
#[derive(Default)]
pub(super) struct Parting {
    /// The gate's last words; a session has its own in the shard's outbox.
    pub(super) words: Vec<u8>,
    /// Bytes of `words` that the socket has taken.
    pub(super) sent: usize,
    /// The shard knows this connection.
    pub(super) session: bool,
    /// Everything is said; only the peer's end of stream is missing.
    pub(super) finished: bool,
    /// The peer has finished sending, by its end of stream or by its close frame.
    pub(super) heard_end: bool,
}

//! One connection as the driver sees it.
//!
//! Owns: the transport, the state it is in, and the marks that keep it from standing twice on a
//! list.
//! Never: knows the user or what was said; that is the shard's.
//! Bounds: an idle session owns no buffer; what the other states own is bounded where they are
//! described.

use super::addresses::NetworkCounter;
use super::echo::Echo;
use super::ready::Recent;
use super::tls::Newcomer;
use super::transport::Transport;
use crate::caller::Peer;
use crate::fair::Holding;
use crate::wire::Profile;
use crate::ws::Decoder;

/// A connection.
pub(super) struct Conn {
    pub(super) transport: Transport,
    /// As in its [`crate::ids::ConnId`].
    pub(super) generation: u32,
    /// Whose share of the connections it takes.
    pub(super) origin: NetworkCounter,
    /// Stands on a ready list: the kernel may have bytes for us.
    pub(super) listed: bool,
    /// Stands on a dirty list: there are bytes for the kernel.
    pub(super) dirty: bool,
    /// The kernel took less than it was offered; it will say when there is room.
    pub(super) blocked: bool,
    /// Stands on the list of those to be reaped: neither read nor written any more.
    pub(super) closed: bool,
    /// [`ENDING`] and [`TLS`]: a byte each would be one too many.
    flags: u8,
    /// What the poll reports.
    pub(super) reports: Reports,
    pub(super) state: State,
}

const _: () = assert!(
    // A debug build of mio keeps with each socket in which poll it stands.
    cfg!(debug_assertions) || size_of::<Option<Conn>>() <= 32,
    "a million idle connections cost the driver 32 MB, and its table 8 for generations and free slots"
);

/// What the poll reports of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reports {
    /// Nothing. Not before its first read: many a connection is another thread's after that.
    Nothing,
    /// Bytes to be read.
    Bytes,
    /// Room for writing as well: it was full once.
    Room,
}

/// The kernel has announced the end of the stream: a short read is not the last one.
const ENDING: u8 = 1;
/// Its bytes pass a TLS session, which stands beside the connection in the table.
const TLS: u8 = 2;

const _: () = assert!(size_of::<State>() <= 16, "what a connection does is half of it");

impl Conn {
    pub(super) const fn new(transport: Transport, generation: u32, origin: NetworkCounter, state: State) -> Self {
        Self {
            transport,
            generation,
            origin,
            listed: false,
            dirty: false,
            blocked: false,
            closed: false,
            flags: 0,
            reports: Reports::Nothing,
            state,
        }
    }

    /// Whether the kernel has announced the end of the stream.
    pub(super) const fn ending(&self) -> bool {
        self.flags & ENDING != 0
    }

    /// The kernel has announced the end of the stream.
    pub(super) const fn note_end(&mut self) {
        self.flags |= ENDING;
    }

    /// Whether its bytes pass a TLS session.
    pub(super) const fn is_tls(&self) -> bool {
        self.flags & TLS != 0
    }

    /// Its bytes pass a TLS session from now on.
    pub(super) const fn set_tls(&mut self) {
        self.flags |= TLS;
    }

    /// Whether the shard has heard of it and must hear of its end.
    pub(super) const fn is_session(&self) -> bool {
        match &self.state {
            State::Open(_) => true,
            State::Closing(closing) => closing.session,
            State::Handshake(_) | State::Head(_) | State::Echo(_) => false,
        }
    }

    /// Whether it is a session of `/chatroom`.
    pub(super) const fn is_guest(&self) -> bool {
        matches!(&self.state, State::Open(open) if matches!(open.profile, Profile::Room))
    }

    /// Whether it ends, and its peer has said its last.
    pub(super) fn has_ended(&self) -> bool {
        matches!(&self.state, State::Closing(closing) if closing.heard_end)
    }

    /// What it has brought lately. A connection without a whole head is new.
    pub(super) fn recent(&self) -> Recent {
        match &self.state {
            State::Handshake(_) | State::Head(_) => Recent::default(),
            State::Open(open) => open.recent,
            State::Echo(echo) => echo.recent,
            State::Closing(closing) => closing.recent,
        }
    }

    /// The same, to be changed.
    pub(super) fn recent_mut(&mut self) -> Option<&mut Recent> {
        match &mut self.state {
            State::Handshake(_) | State::Head(_) => None,
            State::Open(open) => Some(&mut open.recent),
            State::Echo(echo) => Some(&mut echo.recent),
            State::Closing(closing) => Some(&mut closing.recent),
        }
    }

    /// What is kept of what it has begun to send.
    pub(super) fn holding(&self) -> Holding {
        match &self.state {
            State::Handshake(newcomer) => newcomer.holding(),
            State::Head(Some(head)) => Holding { bytes: head.stash.capacity(), since_ms: head.since_ms },
            State::Open(open) => open.holding(),
            State::Echo(echo) => echo.holding(),
            State::Head(None) | State::Closing(_) => Holding::default(),
        }
    }
}

/// What a connection is doing.
pub(super) enum State {
    /// Its TLS handshake is not done.
    Handshake(Box<Newcomer>),
    /// Its request head has not come yet. What has come of it, for the few that come in pieces.
    Head(Option<Box<Head>>),
    /// A session of this shard.
    Open(Open),
    /// The hidden route for protocol tests.
    Echo(Box<Echo>),
    /// Its last bytes are on their way; then it ends.
    Closing(Box<Closing>),
}

/// A request head that comes in pieces, or whose sender another than the kernel names.
#[derive(Default)]
pub(super) struct Head {
    /// What has come: at most [`crate::limits::HEAD_READ_BYTES`] more than is too much for a head.
    pub(super) stash: Vec<u8>,
    /// How long it was when it was judged last.
    pub(super) judged: usize,
    /// Monotonic milliseconds at which the first piece came.
    pub(super) since_ms: u64,
    /// A header of the PROXY protocol has to come first, and is not whole.
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
    /// The peer has sent its close frame: nothing that it may still send means anything (RFC 6455,
    /// section 5.5.1).
    pub(super) close_received: bool,
    /// Its messages may be compressed.
    pub(super) deflates: bool,
    /// What it has brought lately.
    pub(super) recent: Recent,
}

impl Open {
    /// A session that is not read yet; `unread` has come behind its request head.
    pub(super) fn new(profile: Profile, deflates: bool, unread: &[u8], now_ms: u64) -> Self {
        let mut decoder = Decoder::default();
        decoder.keep(unread);
        decoder.note_since(now_ms);
        let held = !unread.is_empty();
        Self { decoder, profile, paused: true, held, close_received: false, deflates, recent: Recent::default() }
    }

    /// What its decoder keeps.
    pub(super) fn holding(&self) -> Holding {
        Holding { bytes: self.decoder.heap_bytes(), since_ms: self.decoder.since_ms() }
    }
}

/// The end of a connection: what is still to be said, then end of stream, then the wait for the
/// peer's.
#[derive(Default)]
pub(super) struct Closing {
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
    /// What it has brought lately.
    pub(super) recent: Recent,
}

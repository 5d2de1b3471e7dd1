//! The plain counters of one shard's thread.
//!
//! Owns: [`Tally`] of the shard and [`DriverTally`] of the driver around it. Counters only grow;
//! gauges are set. Summed over shards at scrape.

use super::commands::CommandKind;
use super::histogram::Histogram;
use super::names;
use super::proxies::{Heard, Sighting};

/// Counts of one shard since the start.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Gauge: sessions that are open.
    pub sessions: u64,
    /// Gauge: of these, by the index of their label in [`names::PROFILE_LABELS`].
    pub profiles: [u64; names::PROFILE_LABELS.len()],
    /// Sessions that were opened.
    pub opened: u64,
    /// From the acceptance of a message by its home to its ack here.
    pub posts: Histogram,
    /// Gauge: users with at least one session.
    pub users_online: u64,
    /// Gauge: sessions that are behind in at least one conversation.
    pub sessions_behind: u64,
    /// Commands taken from clients, by [`CommandKind`].
    pub commands: [u64; CommandKind::LABELS.len()],
    /// Posts for which this home got a stored (or volatile: accepted) answer.
    pub stored: u64,
    /// Posts that had been stored before.
    pub duplicates: u64,
    /// Chat messages put into outboxes or broadcast.
    pub delivered: u64,
    /// Commands refused, by the index of their label in [`names::REFUSED`].
    pub refused: [u64; names::REFUSED.len()],
    /// Gauge: users that are not read because they were over their pace.
    pub paced: u64,
    /// Times that a user or guest ran out of something, by the index of its label in
    /// [`names::PACE_LABELS`].
    pub pauses: [u64; names::PACE_LABELS.len()],
    /// Words that a later one of the same sort has replaced before they were carried out, by
    /// [`Merged::ALL`].
    pub merged: [u64; Merged::ALL.len()],
    /// Sessions closed by the server, by the index of their label in [`names::CLOSED`].
    pub closed: [u64; names::CLOSED.len()],
    /// Sessions that their peers closed with a close frame.
    pub ended_by_peer: u64,
    /// Sessions of which the socket was gone without a close frame of either side.
    pub ended_by_loss: u64,
    /// Times that a session went behind in a conversation.
    pub went_behind: u64,
    /// Rows that catching up has sent.
    pub caught_up: u64,
    /// Reads of pages for sessions that catch up; one may serve many.
    pub catch_up_reads: u64,
    /// Gauge: bytes of memory that this shard keeps alive for its readers.
    pub held: u64,
    /// Sessions closed for being slow, by [`Slowness::ALL`].
    pub slow: [u64; Slowness::ALL.len()],
    /// Open sessions closed because their proof is none any more, by [`Revocation::ALL`].
    pub revoked: [u64; Revocation::ALL.len()],
    /// Messages that a full outbox of a volatile session dropped.
    pub dropped: u64,
    /// Volatile messages that a full lane or backlog of sweeps dropped; each was for all sessions
    /// of a shard.
    pub lane_dropped: u64,
    /// Guests' words in `/chatroom`, which are never stored.
    pub room_messages: u64,
    /// The same, put into outboxes or broadcast.
    pub room_delivered: u64,
    /// The same, which a full outbox of a guest dropped.
    pub room_dropped: u64,
    /// The same, which a full lane or backlog of sweeps dropped; each was for all guests of a
    /// shard.
    pub room_lane_dropped: u64,
    /// Deliveries that a full lane or backlog of sweeps refused and a mark replaced.
    pub marked: u64,
    /// Reads of rows that were revealed but not delivered.
    pub gap_reads: u64,
    /// Messages of other gateways that were handed on as they came.
    pub far_rows: u64,
    /// The same, of which this gateway had handed on that number before.
    pub far_duplicates: u64,
    /// The same, for which there was no room: they are read, or found by the digest.
    pub far_dropped: u64,
    /// Reads of rows that only the digest has revealed.
    pub digest_repairs: u64,
    /// Commit outcomes that were unknown.
    pub unknown_outcomes: u64,
    /// Messages that waited at a shard for others of their busy group.
    pub coalesced: u64,
    /// Acks that waited for others to the same author.
    pub acks_waited: u64,
    /// Batches that went to members of a group.
    pub sweeps: u64,
    /// Gauge: asks of the store without an answer.
    pub store_pending: u64,
    /// Gauge: conversations that this home keeps state of.
    pub conversations: u64,
    /// Gauge: groups of this home that other shards listen to.
    pub listened_groups: u64,
    /// Times that this shard told the home of a group that a member is here, or none any
    /// more.
    pub interests: u64,
    /// Times that what can be read again was forgotten because the process took too much memory.
    pub caches_shed: u64,
    /// Units of work that commands and frames have cost, by the prices of a pace.
    pub work: u64,
    /// Messages of which a compressed form was made, each for all of its receivers.
    pub deflated: u64,
    /// Messages that were compressed and had not become much shorter.
    pub deflated_vain: u64,
    /// Bytes of the messages of `deflated`, by [`names::COMPRESSION_LABELS`].
    pub deflated_bytes: [u64; names::COMPRESSION_LABELS.len()],
}

/// Counts of one shard's driver since the start: its sockets, and its turns.
#[derive(Clone, Debug, Default)]
pub struct DriverTally {
    /// Gauge: sockets that the shard's driver holds, with those whose head is not read yet.
    pub connections: u64,
    /// Gauge: of these, without a complete request head.
    pub heads_pending: u64,
    /// Gauge: open sessions by how their bytes travel, in the order of
    /// [`names::TRANSPORT_LABELS`].
    pub transports: [u64; names::TRANSPORT_LABELS.len()],
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused or lost before they were upgraded or handed to the control plane, by
    /// [`GateRefusal::ALL`].
    pub gate_refused: [u64; GateRefusal::ALL.len()],
    /// Sessions by what a proxy in front has said of their clients, by [`Heard::ALL`].
    pub proxied: [u64; Heard::LABELS.len()],
    /// Gauge: when what a proxy may have wrong was seen last, in Unix seconds, by
    /// [`Sighting::ALL`]; 0: never.
    pub proxy_seen_s: [u64; Sighting::LABELS.len()],
    /// TLS handshakes that ended, by [`HandshakeEnd::ALL`].
    pub handshakes: [u64; HandshakeEnd::ALL.len()],
    /// Gauge: connections that used up their quantum and wait for their turn among others of their
    /// kind.
    pub heavy: u64,
    /// Frames decoded.
    pub frames: u64,
    /// Gauge: bytes that are kept of what clients have begun to send.
    pub inbound: u64,
    /// Gauge: bytes that are left of TLS records that their readers have not taken whole.
    pub unsent: u64,
    /// Connections ended because of what they had begun to send, by [`InboundEnd::ALL`].
    pub inbound_ended: [u64; InboundEnd::ALL.len()],
    /// Compressed messages that were inflated.
    pub inflated: u64,
    /// Their bytes, by [`names::COMPRESSION_LABELS`].
    pub inflated_bytes: [u64; names::COMPRESSION_LABELS.len()],
    /// Compressed messages that were refused, by [`InflateRefusal::ALL`].
    pub inflate_refused: [u64; InflateRefusal::ALL.len()],
    /// Connections handed to the shard that owns the user.
    pub handed_over: u64,
    /// Plain HTTP connections handed to the control plane.
    pub http: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes written to clients.
    pub bytes_out: u64,
    /// Send system calls.
    pub sends: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Messages taken from other threads.
    pub mail: u64,
    /// Wake-ups sent to other shards.
    pub wakes: u64,
    /// Gauge: deliveries waiting in the lanes to this shard.
    pub inbox: u64,
    /// Nanoseconds in which the loop slept.
    pub asleep_ns: u64,
    /// Sockets that the kernel reported.
    pub events: u64,
    /// From the acceptance of a connection until its session is open.
    pub opens: Histogram,
    /// From the reading of a message until the sessions of this shard have it.
    pub deliveries: Histogram,
    /// Of this, the time since it might be handed on.
    pub fanouts: Histogram,
    /// From a request to the store to its answer.
    pub answers: Histogram,
    /// Panics caught in parsing; the connection was closed.
    pub parse_panics: u64,
}

/// What is carried out at a pace, the last word for those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Merged {
    /// Received and read.
    Mark,
    /// Whose presence is watched.
    Watch,
    /// A hint at a change elsewhere.
    Hint,
}

impl Merged {
    /// Every sort.
    pub const ALL: [Self; 3] = [Self::Mark, Self::Watch, Self::Hint];

    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Watch => "watch",
            Self::Hint => "hint",
        }
    }
}

/// Why the gate let a connection go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateRefusal {
    /// Garbage, or a head that is too large.
    BadRequest,
    /// The head did not come in time.
    Timeout,
    /// The token is wrong.
    Forbidden,
    /// A queue is full: 503.
    Busy,
    /// The peer went away.
    Gone,
    /// The process is out of descriptors; counted per failed accept.
    Descriptors,
    /// A page of another origin, with the login cookie of its visitor.
    CrossOrigin,
    /// No header of the PROXY protocol where there must be one.
    ProxyHeader,
    /// Its place was needed for a newcomer: 408.
    Evicted,
    /// Its address connects too often.
    ConnectRate,
    /// Its address has too many connections: 503.
    Address,
    /// `/chatroom` has as many guests as it may, in all or from its address: 503.
    Guests,
    /// The process takes nearly all the memory that it may: 503.
    Memory,
    /// Its TLS handshake failed.
    Handshake,
    /// Where a header of the PROXY protocol must come: a peer that is no trusted proxy.
    ProxyPeer,
    /// A header of the PROXY protocol where there is none.
    Preamble,
}

impl GateRefusal {
    /// What it shows of a proxy in front, if something.
    #[must_use]
    pub const fn sighting(self) -> Option<Sighting> {
        match self {
            Self::CrossOrigin => Some(Sighting::CrossOrigin),
            Self::ProxyHeader => Some(Sighting::ProxyHeader),
            Self::ProxyPeer => Some(Sighting::ProxyPeer),
            Self::Preamble => Some(Sighting::Preamble),
            _ => None,
        }
    }

    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::Timeout,
        Self::Forbidden,
        Self::Busy,
        Self::Gone,
        Self::Descriptors,
        Self::CrossOrigin,
        Self::ProxyHeader,
        Self::Evicted,
        Self::ConnectRate,
        Self::Address,
        Self::Guests,
        Self::Memory,
        Self::Handshake,
        Self::ProxyPeer,
        Self::Preamble,
    ];

    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Timeout => "timeout",
            Self::Forbidden => "forbidden",
            Self::Busy => "busy",
            Self::Gone => "gone",
            Self::Descriptors => "descriptors",
            Self::CrossOrigin => "cross_origin",
            Self::ProxyHeader => "proxy_header",
            Self::Evicted => "evicted",
            Self::ConnectRate => "connect_rate",
            Self::Address => "address",
            Self::Guests => "guests",
            Self::Memory => "memory",
            Self::Handshake => "handshake",
            Self::ProxyPeer => "proxy_peer",
            Self::Preamble => "preamble",
        }
    }
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeEnd {
    /// A session of TLS 1.3.
    Full13,
    /// The same, by a ticket.
    Resumed13,
    /// A session of TLS 1.2.
    Full12,
    /// The same, by a ticket.
    Resumed12,
    /// The peer went away, was too slow, or gave way to a newcomer.
    Unfinished,
    /// What came was no TLS.
    NotTls,
    /// There is no version, cipher or protocol that both have.
    Incompatible,
    /// The peer ended it, for example because it does not trust the certificate.
    Peer,
    /// The peer broke the rules.
    Misbehaved,
    /// Something failed here.
    Failed,
}

impl HandshakeEnd {
    /// Every end.
    pub const ALL: [Self; 10] = [
        Self::Full13,
        Self::Resumed13,
        Self::Full12,
        Self::Resumed12,
        Self::Unfinished,
        Self::NotTls,
        Self::Incompatible,
        Self::Peer,
        Self::Misbehaved,
        Self::Failed,
    ];

    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full13 => "tls13",
            Self::Resumed13 => "tls13_resumed",
            Self::Full12 => "tls12",
            Self::Resumed12 => "tls12_resumed",
            Self::Unfinished => "unfinished",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::Peer => "peer",
            Self::Misbehaved => "misbehaved",
            Self::Failed => "failed",
        }
    }
}

/// Why a compressed message was refused, and its connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InflateRefusal {
    /// It cannot be inflated, or is no text.
    Damaged,
    /// It became larger than a message may be.
    Size,
    /// It became too many times larger, or smaller, than it was.
    Ratio,
}

impl InflateRefusal {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Damaged, Self::Size, Self::Ratio];

    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Size => "size",
            Self::Ratio => "ratio",
        }
    }
}

/// Why a connection was ended because of what it had begun to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InboundEnd {
    /// All together were too much, and it had the most for the longest.
    Budget,
    /// Its message was not whole in time.
    Slow,
}

impl InboundEnd {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Budget, Self::Slow];

    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Slow => "slow",
        }
    }
}

/// Why a session was closed as slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slowness {
    /// All outboxes together kept too much alive, and it was among the slowest.
    Budget,
    /// The process took more memory than it may, and it was among the slowest.
    Memory,
    /// Its socket took nothing for too long.
    Stalled,
    /// It was behind in too many conversations.
    Behind,
}

impl Slowness {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Budget, Self::Memory, Self::Stalled, Self::Behind];

    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Memory => "memory",
            Self::Stalled => "stalled",
            Self::Behind => "behind",
        }
    }
}

/// Why the proof of a session that was open is none any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// Its token's time is over.
    Expired,
    /// The user has logged out everywhere, or has a new password.
    LoggedOut,
    /// The user is banned, or deleted.
    Banned,
}

impl Revocation {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Expired, Self::LoggedOut, Self::Banned];

    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::LoggedOut => "logged_out",
            Self::Banned => "banned",
        }
    }
}

impl DriverTally {
    /// A compressed message was refused.
    pub fn inflate_refuse(&mut self, why: InflateRefusal) {
        self.inflate_refused[why as usize] += 1;
    }

    /// Counts a TLS handshake that ended.
    pub fn handshake(&mut self, end: HandshakeEnd) {
        self.handshakes[end as usize] += 1;
    }

    /// Counts a connection that the gate let go.
    pub fn gate_refuse(&mut self, why: GateRefusal) {
        self.gate_refused[why as usize] += 1;
    }

    /// Notes when something was seen that a proxy may have wrong.
    pub fn see(&mut self, what: Option<Sighting>, wall_ms: u64) {
        if let Some(what) = what {
            self.proxy_seen_s[what as usize] = wall_ms / 1000;
        }
    }
}

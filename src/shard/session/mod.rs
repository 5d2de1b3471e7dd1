//! A session: one open connection of one user, as the shard knows it.
//!
//! Owns: what is queued for it, its phase, where it is behind (`behind`), and the rule when it is
//! read ([`Session::wants_reading`]). The table of all is in `sessions`.
//! Never: knows what a conversation is; what a session lacks is sent by `catching_up`.
//! Bounds: [`SESSION_BYTES_MAX`], and a session that is idle owns no heap.

pub(super) mod behind;
pub(super) mod expiry;
pub(super) mod held;
pub(super) mod introductions;
pub(super) mod outbox;
pub(super) mod places;
pub(super) mod stream;
pub(super) mod unconfirmed;

use crate::shard::broken::broken;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::Now;
use crate::ids::{ConvId, GroupId, LoginId, Seq, UserId};
use crate::limits;
use crate::shard::event::Hello;
use crate::shard::peer::Way;
use crate::shard::session::behind::Behind;
use crate::shard::session::expiry::Expiry;
use crate::shard::session::held::Held;
use crate::shard::session::introductions::Introductions;
use crate::shard::session::outbox::Outbox;
use crate::shard::session::places::Membership;
use crate::shard::session::stream::Stream;
use crate::shard::session::unconfirmed::Unconfirmed;
use crate::store::PostKey;
use crate::wire::{Device, Echo, Profile, Target};
use crate::ws::deflate::Window;

/// What a session costs here, however idle (docs/capacity.md has the sum of all parts).
const SESSION_BYTES_MAX: usize = 88;

const _: () = assert!(size_of::<Option<Session>>() <= SESSION_BYTES_MAX, "a million sessions cost 88 MB");

/// The slot of no session.
pub(in crate::shard) const NO_SLOT: u32 = u32::MAX;

/// Where a session stands between its first and its last byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Phase {
    /// Registered, so that nothing falls between; the store has not answered yet for its user.
    /// Nothing is delivered or read. After [`limits::PARK_MS_MAX`] of it the client is asked to
    /// come back as soon as the store fails; after [`limits::IDLE_MS`] in any case.
    Opening,
    /// In full use.
    Open,
    /// Forgotten but for its outbox, which ends with a close frame.
    Finishing,
}

/// A legacy session's post that was refused for now.
#[derive(Clone, Debug)]
pub(in crate::shard) struct Parked {
    /// What to send again, under the same key.
    pub post: Outgoing,
    /// Monotonic milliseconds after which it is given up and told.
    pub deadline_ms: u64,
}

/// A post as its author's shard remembers it while it is under way.
#[derive(Clone, Debug)]
pub(in crate::shard) struct Outgoing {
    /// The addressee as the client wrote it, for the ack.
    pub target: Target,
    /// The dedupe key: the client's id, if it gave one, which the ack repeats.
    pub key: PostKey,
    /// The surviving fields.
    pub body: Arc<str>,
    /// The message that it takes back.
    pub recall: Option<Seq>,
    /// How it is treated at its home.
    pub way: Way,
    /// When it was read, however often it is tried; see
    /// [`crate::wire::packet::Milestones::said_us`].
    pub said_us: u64,
    /// One try ended with an unknown outcome: it may be stored, whatever a later try says.
    pub uncertain: bool,
}

/// What only few sessions have; boxed, so that the others do not pay for it.
#[derive(Debug, Default)]
pub(in crate::shard) struct Unfinished {
    /// Conversations in which the session lacks messages.
    pub behind: Behind,
    /// Posts that wait for their next try, in the order of their refusal. Bounded by
    /// [`limits::ANSWERS_PENDING_MAX`]: each is an unanswered command.
    pub parked: VecDeque<Parked>,
    /// Groups left while the read at open was under way; its answer may be older.
    pub left: Vec<GroupId>,
    /// Whom an old page has been introduced to while it is given what it has missed.
    pub introductions: Introductions,
}

impl Unfinished {
    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        self.behind.check();
        assert!(self.parked.len() <= limits::ANSWERS_PENDING_MAX as usize, "posts that wait are unanswered commands");
    }

    /// Whether nothing of it is needed any more.
    pub(in crate::shard) fn is_over(&self) -> bool {
        self.behind.is_over() && self.parked.is_empty() && self.left.is_empty() && !self.introductions.wait()
    }
}

/// What is so with a session or not. They take five bits of a byte, whose others are the window
/// that the session inflates with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(in crate::shard) enum Flag {
    /// The peer had finished sending before it was let in: its session is no device.
    Ended = 1,
    /// The driver was told to flush, and has not reported that everything is out.
    Flushing = 2,
    /// One of the messages of the batch that is swept right now is its own.
    Author = 4,
    /// Acks are in the outbox, and the driver has not been told to flush it.
    AcksWait = 8,
    /// An old page that opens knows which conversations other gateways may still send it messages
    /// of that it has read.
    Guarded = 16,
}

/// The lowest of the three bits for the session's window, in the same byte: one more than the
/// smallest window is 1. A session with the smallest is sent everything plain, as one without: of
/// so short messages little can be saved.
const WINDOW_SHIFT: u32 = 5;

/// One open connection of one user.
#[derive(Debug)]
pub(in crate::shard) struct Session {
    /// With the slot, its name.
    pub generation: u32,
    /// The low 24 bits of the token epoch of the identity that opened it: no user logs out
    /// everywhere eight million times within one connection.
    epoch: [u8; 3],
    /// The number of its login; zero: its token belongs to none.
    login: [u8; 3],
    /// When its token ends.
    pub expiry: Expiry,
    /// Whose it is: [`crate::auth::Identity::user`] of the proof it was opened with.
    pub user: UserId,
    /// The slot of the user's next session, in the order in which they came; [`NO_SLOT`] for the
    /// last.
    pub sibling: u32,
    /// The low 24 bits of the monotonic milliseconds at which something was heard last, or it was
    /// opened. Silence is a difference, and a session is looked at long before it has been silent
    /// for the four hours of one round.
    heard_ms: [u8; 3],
    /// Legacy or v2.
    pub profile: Profile,
    /// Class of device.
    pub device: Device,
    /// As [`Hello::device_tag`], the low 24 bits: of one user's few devices two hardly ever share
    /// them.
    device_tag: [u8; 3],
    /// Where it stands.
    phase: Phase,
    /// What is so, of what a [`Flag`] says; in the upper three bits the window with which it
    /// inflates, 0 for one that does not.
    flags: u8,
    /// The driver was told not to read it.
    pub paused: bool,
    /// Pings sent since something was heard.
    pub pings: u8,
    /// Syncs that the store has not answered; at most [`limits::ANSWERS_PENDING_MAX`].
    syncs: u8,
    /// Commands without an answer in the outbox yet.
    unanswered: u16,
    /// How it posts.
    pub stream: Stream,
    /// What is queued, if anything is.
    pub outbox: Option<Box<Outbox>>,
    /// What only few have.
    pub unfinished: Option<Box<Unfinished>>,
    /// What a legacy session was sent and has not confirmed.
    pub unconfirmed: Option<Box<Unconfirmed>>,
    /// Its place in the roster of one of its groups; the further ones are in
    /// [`crate::shard::session::places::Places`].
    pub groups: Membership,
}

impl Session {
    /// A session that has just been registered.
    pub(in crate::shard) fn new(generation: u32, hello: &Hello, now: Now) -> Self {
        Self {
            generation,
            epoch: low_bytes(hello.identity.epoch().into()),
            login: low_bytes(hello.identity.login().map_or(0, LoginId::get).into()),
            expiry: Expiry::of(hello.identity.expires_ms(), now.wall_ms),
            user: hello.identity.user(),
            sibling: NO_SLOT,
            heard_ms: low_bytes(now.mono_ms),
            profile: hello.profile,
            device: hello.device,
            device_tag: low_bytes(hello.device_tag.into()),
            phase: Phase::Opening,
            flags: hello.deflate.map_or(0, |window| (window.bits() - Window::MIN.bits()) << WINDOW_SHIFT),
            paused: true,
            pings: 0,
            syncs: 0,
            unanswered: 0,
            stream: Stream::default(),
            outbox: None,
            unfinished: None,
            unconfirmed: None,
            groups: Membership::NONE,
        }
    }

    /// Whether it is so.
    pub(in crate::shard) fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u8 != 0
    }

    /// It is so from now on, or not any more.
    pub(in crate::shard) fn set(&mut self, flag: Flag, on: bool) {
        if on {
            self.flags |= flag as u8;
        } else {
            self.flags &= !(flag as u8);
        }
    }

    /// With which window it inflates; `None`: it gets everything plain.
    pub(in crate::shard) fn deflate(&self) -> Option<Window> {
        let above = self.flags >> WINDOW_SHIFT;
        if above == 0 { None } else { Window::new(Window::MIN.bits() + above) }
    }

    /// Where it stands.
    pub(in crate::shard) const fn phase(&self) -> Phase {
        self.phase
    }

    /// The store has let it in.
    pub(in crate::shard) const fn opened(&mut self) {
        self.phase = Phase::Open;
    }

    /// Nothing but what its outbox holds is to be done any more.
    pub(in crate::shard) const fn finish(&mut self) {
        self.phase = Phase::Finishing;
    }

    /// Commands without an answer in the outbox yet.
    pub(in crate::shard) const fn unanswered(&self) -> u16 {
        self.unanswered
    }

    /// A command of it waits for its answer.
    pub(in crate::shard) const fn asked(&mut self) {
        self.unanswered += 1;
    }

    /// The same of a sync, which the store is to answer.
    pub(in crate::shard) const fn asked_page(&mut self) {
        self.asked();
        self.syncs = self.syncs.saturating_add(1);
    }

    /// The store has answered a sync.
    pub(in crate::shard) fn answered_page(&mut self) {
        self.answered();
        self.syncs = self.syncs.checked_sub(1).unwrap_or_else(|| broken("a page that was read was asked for"));
    }

    /// One of its commands is answered.
    pub(in crate::shard) fn answered(&mut self) {
        self.unanswered = self.unanswered.checked_sub(1).unwrap_or_else(|| broken("a command is answered once"));
    }

    /// Something was heard, or nothing could be.
    pub(in crate::shard) fn hear(&mut self, now_ms: u64) {
        self.heard_ms = low_bytes(now_ms);
        self.pings = 0;
    }

    /// For how many milliseconds nothing was heard; while it opens, for how long it does.
    pub(in crate::shard) fn silent_ms(&self, now_ms: u64) -> u64 {
        between(self.heard_ms, low_bytes(now_ms))
    }

    /// Whether it was opened with a token that is void since the user's tokens are of `epoch`.
    pub(in crate::shard) fn is_older_than(&self, epoch: u32) -> bool {
        let ahead = between(self.epoch, low_bytes(epoch.into()));
        ahead > 0 && ahead < WRAP / 2
    }

    /// The login whose token opened it, if it was one's.
    pub(in crate::shard) fn login(&self) -> Option<LoginId> {
        let [a, b, c] = self.login;
        LoginId::new(u32::from_le_bytes([a, b, c, 0]))
    }

    /// What its device is called, as far as it is kept; 0: it has not said.
    pub(in crate::shard) const fn tag(&self) -> u32 {
        let [a, b, c] = self.device_tag;
        u32::from_le_bytes([a, b, c, 0])
    }

    /// Whether it has waited too long for the store to answer for its user.
    pub(in crate::shard) fn opens_too_long(&self, now_ms: u64) -> bool {
        self.phase == Phase::Opening && self.silent_ms(now_ms) >= limits::PARK_MS_MAX
    }

    /// Whether it is a page of the old clients.
    pub(in crate::shard) const fn is_legacy(&self) -> bool {
        matches!(self.profile, Profile::Legacy(_))
    }

    /// Whether its own group messages come back to it.
    pub(in crate::shard) fn wants_echo(&self, target: Target) -> bool {
        match self.profile {
            Profile::Legacy(echo) => echo == Echo::Groups && matches!(target, Target::Group(_)),
            Profile::V2 => false,
            Profile::Room => true,
        }
    }

    /// Whether it may be read: it is open and has neither too many unanswered commands, nor too
    /// many unflushed answers (or so many syncs under way that their pages may be too many), nor a
    /// parked post.
    pub(in crate::shard) fn wants_reading(&self) -> bool {
        let (answers, bytes) = self.outbox.as_ref().map_or((0, 0), |outbox| (outbox.answers(), outbox.answer_bytes()));
        self.phase == Phase::Open
            && u32::from(self.unanswered) + answers < limits::ANSWERS_PENDING_MAX
            && bytes + usize::from(self.syncs) * limits::SYNC_BYTES_MAX < limits::ANSWERS_BYTES_MAX
            && self.unfinished.as_ref().is_none_or(|unfinished| unfinished.parked.is_empty())
    }

    /// Whether it may be read again although not everything is flushed: at half of its bounds, so
    /// that it is not stopped and read again with every answer.
    pub(in crate::shard) fn may_read_on(&self) -> bool {
        let (answers, bytes) = self.outbox.as_ref().map_or((0, 0), |outbox| (outbox.answers(), outbox.answer_bytes()));
        self.wants_reading()
            && u32::from(self.unanswered) + answers <= limits::ANSWERS_PENDING_MAX / 2
            && bytes + usize::from(self.syncs) * limits::SYNC_BYTES_MAX <= limits::ANSWERS_BYTES_MAX / 2
    }

    /// Monotonic milliseconds at which the socket has taken nothing for [`limits::STALL_MS_MAX`],
    /// if it goes on so.
    pub(in crate::shard) fn stalled_at(&self) -> Option<u64> {
        self.outbox.as_ref().map(|outbox| outbox.moved_ms() + limits::STALL_MS_MAX)
    }

    /// Whether a batch of `conv` can go to the socket as it is: nothing of this session is queued
    /// or special, nor missing there. What it lacks elsewhere comes in an order of its own.
    pub(in crate::shard) fn takes_batches(&self, conv: ConvId) -> bool {
        self.phase == Phase::Open
            && !self.is(Flag::Author)
            && self.outbox.is_none()
            && self.takes_pushes()
            && self.unfinished.as_ref().is_none_or(|unfinished| !unfinished.behind.missing.contains_key(&conv))
    }

    /// Whether a message may be pushed past what is still to come: not while an old page asks for
    /// an author.
    pub(in crate::shard) fn takes_pushes(&self) -> bool {
        self.unfinished.as_ref().is_none_or(|unfinished| !unfinished.introductions.wait())
    }

    /// The queue, made if there is none.
    pub(in crate::shard) fn outbox_mut(&mut self, held: &mut Held, now_ms: u64) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| Box::new(Outbox::new(held, now_ms)))
    }

    /// Gives the queue back, with whatever is in it.
    pub(in crate::shard) fn drop_outbox(&mut self, held: &mut Held) {
        if let Some(outbox) = self.outbox.take() {
            outbox.release(held);
        }
    }

    /// What may be sent to it now: before it is open nothing but the response to the upgrade.
    pub(in crate::shard) fn sendable(&self) -> Option<&Outbox> {
        let outbox = self.outbox.as_deref().filter(|outbox| !outbox.is_empty())?;
        (self.phase != Phase::Opening || outbox.has_response()).then_some(outbox)
    }

    /// The rare parts, made if there are none.
    pub(in crate::shard) fn unfinished_mut(&mut self) -> &mut Unfinished {
        self.unfinished.get_or_insert_default()
    }

    /// Frees what is no longer needed.
    pub(in crate::shard) fn tidy(&mut self, held: &mut Held) {
        if self.outbox.as_ref().is_some_and(|outbox| outbox.is_empty()) {
            self.drop_outbox(held);
        }
        if self.unfinished.as_ref().is_some_and(|unfinished| unfinished.is_over()) {
            self.unfinished = None;
        }
    }

    /// Whether a pong of that payload answers a ping that asks for what has arrived.
    pub(in crate::shard) fn awaits_pong(&self, payload: &[u8]) -> bool {
        self.unconfirmed.as_ref().is_some_and(|unconfirmed| unconfirmed.has_asked() && unconfirmed.is_asked_by(payload))
    }

    /// Whether it lacks messages somewhere.
    pub(in crate::shard) fn is_behind(&self) -> bool {
        self.unfinished.as_ref().is_some_and(|unfinished| unfinished.behind.is_lacking())
    }
}

/// Three bytes wrap around here.
const WRAP: u64 = 1 << 24;

fn low_bytes(number: u64) -> [u8; 3] {
    let [a, b, c, ..] = number.to_le_bytes();
    [a, b, c]
}

/// How far `to` is ahead of `from`, both wrapped.
fn between([a, b, c]: [u8; 3], [x, y, z]: [u8; 3]) -> u64 {
    let (from, to) = (u32::from_le_bytes([a, b, c, 0]), u32::from_le_bytes([x, y, z, 0]));
    (u64::from(to) + WRAP - u64::from(from)) % WRAP
}

//! What a session is about to be sent: counted references to shared frames, and its own answers.
//!
//! Owns: the order of the bytes, the place where the last send stopped, the accounting by class, and the entries in the shard's account of what readers
//! keep alive ([`Held`]): an outbox that is dropped takes them out itself.
//! Never: writes. The driver takes contiguous bytes with [`Outbox::gather`] and says with [`Outbox::consume`] how many the socket took.
//! Bounds: pushes by [`crate::limits::OUTBOX_BYTES_MAX`], answers by the session's stop of reading; kept by the callers. An idle session has none at all.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::held::{Held, Places};
use crate::ids::{ConnId, Seq};
use crate::wire::{Packet, Profile};

/// A packet inside one shard: clones are counted without atomics. (Clones of one atomic counter on two cores cost 20 times more: design, section 4.)
#[derive(Clone, Debug)]
pub struct Frame(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    packet: Arc<Packet>,
    places: Places,
}

/// What a frame costs beside its bytes: the packet, and the counts around it.
const FRAME_BYTES: usize = size_of::<Shared>() + size_of::<Packet>() + 4 * size_of::<usize>();

impl Frame {
    /// Takes a packet into this shard.
    #[must_use]
    pub fn new(packet: Arc<Packet>) -> Self {
        Self(Rc::new(Shared { packet, places: Places::default() }))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.packet.frame()
    }

    /// See [`Packet::is_hidden`].
    pub(super) fn is_hidden(&self) -> bool {
        self.0.packet.is_hidden()
    }

    /// Whether a session of that profile is not sent it, but counts it as if it were.
    pub(super) fn is_hidden_from(&self, profile: Profile) -> bool {
        self.is_hidden() && profile != Profile::V2
    }

    /// Bytes of memory that it keeps alive.
    pub(super) fn kept(&self) -> usize {
        FRAME_BYTES + self.bytes().len()
    }

    /// It stands in one place more: entered if it is the first.
    pub(super) fn enter(&self, held: &Held) {
        if self.0.places.enter() {
            held.add(self.kept());
        }
    }

    /// It stands in one place less.
    pub(super) fn leave(&self, held: &Held) {
        if self.0.places.leave() {
            held.sub(self.kept());
        }
    }

    /// What makes it another frame than its equals.
    pub(super) fn name(&self) -> *const () {
        Rc::as_ptr(&self.0).cast()
    }
}

/// One message of a [`Batch`].
#[derive(Clone, Debug)]
pub struct BatchPart {
    /// The frame alone, for those who do not get the whole batch.
    pub frame: Frame,
    /// Its place, `None` if volatile.
    pub seq: Option<Seq>,
    /// The connection of this shard that posted it and gets an ack instead.
    pub origin: Option<ConnId>,
}

/// Packets of one group, contiguous, for the members whose outboxes are empty.
#[derive(Debug)]
pub struct Batch {
    bytes: Box<[u8]>,
    parts: Vec<BatchPart>,
    places: Places,
}

impl Batch {
    /// Joins `parts`. A batch of one copies nothing: [`Batch::bytes`] is the frame.
    #[must_use]
    pub fn new(parts: Vec<BatchPart>) -> Self {
        let bytes = match parts.as_slice() {
            [_] => Box::default(),
            many => {
                let mut bytes = Vec::with_capacity(many.iter().map(|part| part.frame.bytes().len()).sum());
                for part in many {
                    bytes.extend_from_slice(part.frame.bytes());
                }
                bytes.into_boxed_slice()
            }
        };
        Self { bytes, parts, places: Places::default() }
    }

    /// Bytes of memory that it keeps alive: the contiguous ones and the frames, although one of these may wait alone somewhere, too.
    fn kept(&self) -> usize {
        self.bytes.len() + self.parts.iter().map(|part| part.frame.kept() + size_of::<BatchPart>()).sum::<usize>()
    }

    /// Everything, contiguous.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self.parts.as_slice() {
            [one] => one.frame.bytes(),
            _ => &self.bytes,
        }
    }

    /// The messages one by one.
    #[must_use]
    pub fn parts(&self) -> &[BatchPart] {
        &self.parts
    }
}

/// One piece of what is to be sent.
#[derive(Debug)]
enum Item {
    /// A message for many.
    Frame(Frame),
    /// A group's batch of which the socket took a part.
    Batch(Rc<Batch>),
    /// An answer to this session's own command: counted until it is flushed (K of promise 5).
    Answer(Box<[u8]>),
    /// Welcome, ping, pong, close, the 101: never dropped, small, bounded by their makers.
    Control(Box<[u8]>),
}

impl Item {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(frame) => frame.bytes(),
            Self::Batch(batch) => batch.bytes(),
            Self::Answer(bytes) | Self::Control(bytes) => bytes,
        }
    }

    /// It is queued.
    fn enter(&self, held: &Held) {
        match self {
            Self::Frame(frame) => frame.enter(held),
            Self::Batch(batch) => {
                if batch.places.enter() {
                    held.add(batch.kept());
                }
            }
            Self::Answer(bytes) | Self::Control(bytes) => held.add(bytes.len()),
        }
    }

    /// It is not queued any more.
    fn leave(&self, held: &Held) {
        match self {
            Self::Frame(frame) => frame.leave(held),
            Self::Batch(batch) => {
                if batch.places.leave() {
                    held.sub(batch.kept());
                }
            }
            Self::Answer(bytes) | Self::Control(bytes) => held.sub(bytes.len()),
        }
    }
}

/// What is queued for one session.
#[derive(Debug)]
pub struct Outbox {
    held: Held,
    /// Monotonic milliseconds at which the socket took something last, or at which there was something to take first.
    moved_ms: u64,
    items: VecDeque<Item>,
    /// Bytes of the first item that the socket has taken.
    sent: usize,
    /// Bytes of pushes (frames and batches) queued.
    push_bytes: usize,
    /// Answers queued, and their bytes.
    answers: u32,
    answer_bytes: usize,
    /// All bytes queued, less `sent`.
    bytes: usize,
}

impl Outbox {
    /// An empty one, entered in the account of its shard.
    pub(super) fn new(held: &Held) -> Self {
        held.add(size_of::<Self>());
        Self {
            held: held.clone(),
            moved_ms: held.now_ms(),
            items: VecDeque::new(),
            sent: 0,
            push_bytes: 0,
            answers: 0,
            answer_bytes: 0,
            bytes: 0,
        }
    }

    /// Queues a message for many.
    pub fn push(&mut self, frame: Frame) {
        self.push_bytes += frame.bytes().len();
        self.add(Item::Frame(frame));
    }

    /// Queues the rest of a batch of which the socket took `written` bytes. Only for an empty outbox.
    pub fn push_rest(&mut self, batch: Rc<Batch>, written: usize) {
        debug_assert!(self.items.is_empty(), "a batch goes to members with nothing queued");
        if written >= batch.bytes().len() {
            return;
        }
        self.push_bytes += batch.bytes().len();
        self.add(Item::Batch(batch));
        self.sent = written;
        self.bytes -= written;
    }

    /// Queues an answer.
    pub fn answer(&mut self, frame: Box<[u8]>) {
        self.answers += 1;
        self.answer_bytes += frame.len();
        self.add(Item::Answer(frame));
    }

    /// Queues a control frame, the welcome or the 101.
    pub fn control(&mut self, frame: Box<[u8]>) {
        self.add(Item::Control(frame));
    }

    fn add(&mut self, item: Item) {
        self.bytes += item.bytes().len();
        item.enter(&self.held);
        let places = self.items.capacity();
        self.items.push_back(item);
        self.held.add((self.items.capacity() - places) * size_of::<Item>());
    }

    /// The socket is offered what is queued, from now on.
    pub(super) fn offer(&mut self) {
        self.moved_ms = self.held.now_ms();
    }

    /// Monotonic milliseconds at which the socket took something last, or at which there was something to take first.
    pub(super) const fn moved_ms(&self) -> u64 {
        self.moved_ms
    }

    /// Forgets everything but the item that the socket has taken a part of, without which the peer could not read what comes after: the session ends.
    pub(super) fn cut(&mut self) {
        let places = self.items.capacity();
        while self.items.len() > usize::from(self.sent > 0) {
            let Some(item) = self.items.pop_back() else { break };
            self.bytes -= item.bytes().len();
            self.let_go(&item);
        }
        self.shrink(places);
    }

    /// Forgets the pushes of which the socket has taken nothing; only for volatile sessions. How many messages these were.
    pub(super) fn drop_pushes(&mut self) -> u64 {
        let (mut dropped, places) = (0, self.items.capacity());
        for item in self.items.split_off(usize::from(self.sent > 0)) {
            match &item {
                Item::Frame(_) => dropped += 1,
                Item::Batch(batch) => dropped += batch.parts().len() as u64,
                Item::Answer(_) | Item::Control(_) => {
                    self.items.push_back(item);
                    continue;
                }
            }
            self.bytes -= item.bytes().len();
            self.let_go(&item);
        }
        self.shrink(places);
        dropped
    }

    /// Gives back the list's memory, of which `places` were entered.
    fn shrink(&mut self, places: usize) {
        self.items.shrink_to_fit();
        self.held.sub(places * size_of::<Item>());
        self.held.add(self.items.capacity() * size_of::<Item>());
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that a socket has still to take.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of pushes queued.
    #[must_use]
    pub const fn push_bytes(&self) -> usize {
        self.push_bytes
    }

    /// Answers not yet flushed.
    #[must_use]
    pub const fn answers(&self) -> u32 {
        self.answers
    }

    /// Bytes of answers not yet flushed.
    #[must_use]
    pub const fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// The next bytes to send: if one item (or its rest) is all or fills `scratch`, that very item; else as many items as fit, copied together, because for
    /// small frames one contiguous send beats a list of pieces.
    pub fn gather<'a>(&'a self, scratch: &'a mut [u8]) -> &'a [u8] {
        let Some(first) = self.items.front() else { return &[] };
        let first = first.bytes().get(self.sent..).unwrap_or_default();
        if self.items.len() == 1 || first.len() >= scratch.len() {
            return first;
        }
        let mut filled = 0;
        for (i, item) in self.items.iter().enumerate() {
            let bytes = if i == 0 { first } else { item.bytes() };
            let take = bytes.len().min(scratch.len() - filled);
            scratch[filled..filled + take].copy_from_slice(&bytes[..take]);
            filled += take;
            if filled == scratch.len() {
                break;
            }
        }
        &scratch[..filled]
    }

    /// The socket has taken the next `n` bytes.
    pub fn consume(&mut self, mut n: usize) {
        debug_assert!(n <= self.bytes, "no more was sent than was queued");
        self.bytes = self.bytes.saturating_sub(n);
        if n > 0 {
            self.moved_ms = self.held.now_ms();
        }
        while n > 0 {
            let Some(first) = self.items.front() else { return };
            let left = first.bytes().len() - self.sent;
            if n < left {
                self.sent += n;
                return;
            }
            n -= left;
            self.pop();
        }
        // Empty items (there are none, but a zero-length frame must not wedge the queue) leave with their predecessors.
        while self.items.front().is_some_and(|item| item.bytes().is_empty()) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        self.sent = 0;
        if let Some(item) = self.items.pop_front() {
            self.let_go(&item);
        }
    }

    fn let_go(&mut self, item: &Item) {
        item.leave(&self.held);
        match item {
            Item::Frame(frame) => self.push_bytes -= frame.bytes().len(),
            Item::Batch(batch) => self.push_bytes -= batch.bytes().len(),
            Item::Answer(bytes) => {
                self.answers -= 1;
                self.answer_bytes -= bytes.len();
            }
            Item::Control(_) => {}
        }
    }

    /// What it keeps alive and `seen` has not, which notes it: counted anew, for `check_invariants`.
    pub(super) fn kept(&self, seen: &mut BTreeSet<*const ()>) -> usize {
        let mut kept = size_of::<Self>() + self.items.capacity() * size_of::<Item>();
        for item in &self.items {
            kept += match item {
                Item::Frame(frame) if seen.insert(frame.name()) => frame.kept(),
                Item::Batch(batch) if seen.insert(Rc::as_ptr(batch).cast()) => batch.kept(),
                Item::Frame(_) | Item::Batch(_) => 0,
                Item::Answer(bytes) | Item::Control(bytes) => bytes.len(),
            };
        }
        kept
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        for item in &self.items {
            item.leave(&self.held);
        }
        self.held.sub(size_of::<Self>() + self.items.capacity() * size_of::<Item>());
    }
}

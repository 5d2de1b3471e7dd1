//! What a session is about to be sent: counted references to shared frames, and its own answers.
//!
//! Owns: the order of the bytes, the place where the last send stopped, the accounting by class.
//! Never: writes, and never knows the time or the account of what readers keep alive ([`Held`]):
//! both are arguments. An outbox that is not needed any more is released ([`Outbox::release`]).
//! Bounds: pushes by [`crate::limits::OUTBOX_BYTES_MAX`], answers by the session's stop of reading;
//! kept by the callers. An idle session has none at all.

use std::cell::OnceCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::ids::{ConnId, Seq};
use crate::shard::broken::broken;
use crate::shard::session::held::{Held, Uses};
use crate::wire::{Packet, Profile};
use crate::ws::deflate::{Deflater, Window};

/// In which form a session is sent a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As it is.
    Plain,
    /// Compressed; of several messages, those that are worth it.
    Deflated,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Deflated];
}

/// A packet inside one shard: clones are counted without atomics. (Clones of one atomic counter on
/// two cores cost 20 times more)
#[derive(Clone, Debug)]
pub struct Frame(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    packet: Arc<Packet>,
    places: Uses,
    /// Of these, the ones where it stands compressed.
    deflated_places: Uses,
}

/// What a frame costs beside its bytes: the packet, and the counts around it.
const FRAME_BYTES: usize = size_of::<Shared>() + size_of::<Packet>() + 4 * size_of::<usize>();

impl Frame {
    /// Takes a packet into this shard.
    #[must_use]
    pub fn new(packet: Arc<Packet>) -> Self {
        Self(Rc::new(Shared { packet, places: Uses::default(), deflated_places: Uses::default() }))
    }

    /// What is shared with other threads.
    pub(in crate::shard) fn packet(&self) -> &Arc<Packet> {
        &self.0.packet
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.packet.frame()
    }

    /// The bytes in `form`, which [`Self::form`] has said.
    #[must_use]
    pub fn bytes_as(&self, form: Form) -> &[u8] {
        match form {
            Form::Plain => self.bytes(),
            Form::Deflated => self.0.packet.deflated().unwrap_or_else(|| self.bytes()),
        }
    }

    /// In which form a session gets it that inflates with `window`, if with any. The compressed
    /// form is made if there is none yet.
    pub(in crate::shard) fn form(&self, window: Option<Window>, deflater: &mut Deflater) -> Form {
        match window {
            Some(window) if window.holds(self.0.packet.json().len()) && self.0.packet.deflate(deflater).is_some() => {
                Form::Deflated
            }
            _ => Form::Plain,
        }
    }

    /// As [`Self::form`], for one of many messages at once: if there is no compressed form yet, one
    /// is made only of the first so many bytes, which are taken off `bytes`.
    pub(in crate::shard) fn form_within(
        &self,
        window: Option<Window>,
        deflater: &mut Deflater,
        bytes: &mut usize,
    ) -> Form {
        let Some(window) = window else { return Form::Plain };
        if self.0.packet.deflated().is_none() && deflater.takes(self.0.packet.json().len()) {
            match bytes.checked_sub(self.bytes().len()) {
                Some(left) => *bytes = left,
                None => return Form::Plain,
            }
        }
        self.form(Some(window), deflater)
    }

    /// See [`Packet::is_hidden`].
    pub(in crate::shard) fn is_hidden(&self) -> bool {
        self.0.packet.is_hidden()
    }

    /// Whether a session of that profile is not sent it, but counts it as if it were.
    pub(in crate::shard) fn is_hidden_from(&self, profile: Profile) -> bool {
        self.is_hidden() && profile != Profile::V2
    }

    /// Bytes of memory that it keeps alive.
    pub(in crate::shard) fn kept(&self) -> usize {
        FRAME_BYTES + self.bytes().len()
    }

    /// The same of its compressed form, beyond that.
    fn kept_deflated(&self) -> usize {
        self.bytes_as(Form::Deflated).len()
    }

    /// It stands in one place more: entered if it is the first.
    pub(in crate::shard) fn enter(&self, held: &mut Held) {
        if self.0.places.enter() {
            held.add(self.kept());
        }
    }

    /// It stands in one place less.
    pub(in crate::shard) fn leave(&self, held: &mut Held) {
        if self.0.places.leave() {
            held.sub(self.kept());
        }
    }

    /// The same, in a form.
    fn enter_as(&self, form: Form, held: &mut Held) {
        self.enter(held);
        if form == Form::Deflated && self.0.deflated_places.enter() {
            held.add(self.kept_deflated());
        }
    }

    fn leave_as(&self, form: Form, held: &mut Held) {
        self.leave(held);
        if form == Form::Deflated && self.0.deflated_places.leave() {
            held.sub(self.kept_deflated());
        }
    }

    /// What makes it another frame than its equals.
    pub(in crate::shard) fn name(&self) -> *const () {
        Rc::as_ptr(&self.0).cast()
    }
}

/// One message of a [`Batch`].
#[derive(Clone, Debug)]
pub struct BatchPart {
    /// The frame alone, for members that do not get the whole batch.
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
    /// Made when the first session wants it; `None`: no message is worth it.
    deflated: OnceCell<Option<DeflatedBatch>>,
    parts: Vec<BatchPart>,
    places: Uses,
    /// Of these, the ones where it stands compressed.
    deflated_places: Uses,
}

/// The messages of a batch, compressed where that is worth it, contiguous.
#[derive(Debug)]
struct DeflatedBatch {
    /// Nothing for a batch of one.
    bytes: Box<[u8]>,
    /// Bytes of the longest message that is compressed.
    longest: usize,
    /// Bytes of memory of the compressed frames.
    frames: usize,
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
        Self { bytes, deflated: OnceCell::new(), parts, places: Uses::default(), deflated_places: Uses::default() }
    }

    /// Bytes of memory that it keeps alive: the contiguous ones and the frames, although one of
    /// these may wait alone somewhere, too.
    fn kept(&self) -> usize {
        self.bytes.len() + self.parts.iter().map(|part| part.frame.kept() + size_of::<BatchPart>()).sum::<usize>()
    }

    /// The same of its compressed form, beyond that.
    fn kept_deflated(&self) -> usize {
        self.deflated.get().and_then(Option::as_ref).map_or(0, |deflated| deflated.bytes.len() + deflated.frames)
    }

    /// In which form a session gets it that inflates with `window`. The compressed form is made if
    /// there is none yet.
    pub(in crate::shard) fn form(&self, window: Window, deflater: &mut Deflater) -> Form {
        match self.deflated.get_or_init(|| self.deflate(deflater)) {
            Some(deflated) if window.holds(deflated.longest) => Form::Deflated,
            _ => Form::Plain,
        }
    }

    fn deflate(&self, deflater: &mut Deflater) -> Option<DeflatedBatch> {
        let (mut longest, mut frames) = (0, 0);
        for part in &self.parts {
            if let Some(deflated) = part.frame.0.packet.deflate(deflater) {
                longest = longest.max(part.frame.0.packet.json().len());
                frames += deflated.len();
            }
        }
        if longest == 0 {
            return None;
        }
        let bytes = match self.parts.as_slice() {
            [_] => Vec::new(),
            many => {
                let parts: Vec<&[u8]> = many.iter().map(|part| part.frame.bytes_as(Form::Deflated)).collect();
                parts.concat()
            }
        };
        Some(DeflatedBatch { bytes: bytes.into_boxed_slice(), longest, frames })
    }

    /// Everything, contiguous, in `form`.
    #[must_use]
    pub fn bytes_as(&self, form: Form) -> &[u8] {
        match (form, self.parts.as_slice()) {
            (Form::Plain, _) => self.bytes(),
            (Form::Deflated, [one]) => one.frame.bytes_as(form),
            (Form::Deflated, _) => match self.deflated.get() {
                Some(Some(deflated)) => &deflated.bytes,
                _ => self.bytes(),
            },
        }
    }

    fn enter_as(&self, form: Form, held: &mut Held) {
        if self.places.enter() {
            held.add(self.kept());
        }
        if form == Form::Deflated && self.deflated_places.enter() {
            held.add(self.kept_deflated());
        }
    }

    fn leave_as(&self, form: Form, held: &mut Held) {
        if self.places.leave() {
            held.sub(self.kept());
        }
        if form == Form::Deflated && self.deflated_places.leave() {
            held.sub(self.kept_deflated());
        }
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
    Frame(Frame, Form),
    /// A group's batch of which the socket took a part.
    Batch(Rc<Batch>, Form),
    /// An answer to this session's own command: counted until it is flushed
    /// ([`crate::limits::ANSWERS_PENDING_MAX`]).
    Answer(Box<[u8]>),
    /// Welcome, ping, pong, close: never dropped, small, bounded by their makers.
    Control(Box<[u8]>),
    /// The response to the upgrade (101): the first item of every outbox that has one, because no
    /// frame may leave before it.
    Response(Box<[u8]>),
}

impl Item {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(frame, form) => frame.bytes_as(*form),
            Self::Batch(batch, form) => batch.bytes_as(*form),
            Self::Answer(bytes) | Self::Control(bytes) | Self::Response(bytes) => bytes,
        }
    }

    /// It is queued.
    fn enter(&self, held: &mut Held) {
        match self {
            Self::Frame(frame, form) => frame.enter_as(*form, held),
            Self::Batch(batch, form) => batch.enter_as(*form, held),
            Self::Answer(bytes) | Self::Control(bytes) | Self::Response(bytes) => held.add(bytes.len()),
        }
    }

    /// It is not queued any more.
    fn leave(&self, held: &mut Held) {
        match self {
            Self::Frame(frame, form) => frame.leave_as(*form, held),
            Self::Batch(batch, form) => batch.leave_as(*form, held),
            Self::Answer(bytes) | Self::Control(bytes) | Self::Response(bytes) => held.sub(bytes.len()),
        }
    }
}

/// Items up to which a queue is counted anew when it is checked: a look in each turn must stay
/// cheap.
const CHECKED_ITEMS_MAX: usize = 64;

/// What is queued for one session.
#[derive(Debug)]
pub struct Outbox {
    /// Monotonic milliseconds at which the socket took something last, or at which there was
    /// something to take first.
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
    pub(in crate::shard) fn new(held: &mut Held, now_ms: u64) -> Self {
        held.add(size_of::<Self>());
        Self { moved_ms: now_ms, items: VecDeque::new(), sent: 0, push_bytes: 0, answers: 0, answer_bytes: 0, bytes: 0 }
    }

    /// Queues a message for many.
    pub(in crate::shard) fn push(&mut self, frame: Frame, form: Form, held: &mut Held) {
        self.push_bytes += frame.bytes_as(form).len();
        self.add(Item::Frame(frame, form), held);
    }

    /// Queues the rest of a batch of which the socket took `written` bytes. Only for an empty
    /// outbox.
    pub(in crate::shard) fn push_rest(&mut self, batch: Rc<Batch>, form: Form, written: usize, held: &mut Held) {
        debug_assert!(self.items.is_empty(), "a batch goes to members with nothing queued");
        let bytes = batch.bytes_as(form).len();
        if written >= bytes {
            return;
        }
        self.push_bytes += bytes;
        self.add(Item::Batch(batch, form), held);
        self.sent = written;
        self.bytes -= written;
    }

    /// Queues an answer.
    pub(in crate::shard) fn answer(&mut self, frame: Box<[u8]>, held: &mut Held) {
        self.answers += 1;
        self.answer_bytes += frame.len();
        self.add(Item::Answer(frame), held);
    }

    /// Queues a control frame, or the welcome.
    pub(in crate::shard) fn control(&mut self, frame: Box<[u8]>, held: &mut Held) {
        self.add(Item::Control(frame), held);
    }

    /// Queues the response to the upgrade. Only for an empty outbox.
    pub(in crate::shard) fn response(&mut self, response: Box<[u8]>, held: &mut Held) {
        debug_assert!(self.items.is_empty(), "nothing leaves before the response");
        self.add(Item::Response(response), held);
    }

    fn add(&mut self, item: Item, held: &mut Held) {
        self.bytes += item.bytes().len();
        item.enter(held);
        let places = self.items.capacity();
        self.items.push_back(item);
        held.add((self.items.capacity() - places) * size_of::<Item>());
    }

    /// The socket is offered what is queued, from now on.
    pub(in crate::shard) const fn offer(&mut self, now_ms: u64) {
        self.moved_ms = now_ms;
    }

    /// Whether the response to the upgrade has not left, or not all of it.
    pub(in crate::shard) fn has_response(&self) -> bool {
        matches!(self.items.front(), Some(Item::Response(_)))
    }

    /// Whether that is all.
    pub(in crate::shard) fn is_only_response(&self) -> bool {
        self.items.len() == 1 && self.has_response()
    }

    /// How many of the first items must leave whatever happens: the one of which the socket has
    /// taken a part, without which the peer could not read what comes after, or the response.
    fn begun(&self) -> usize {
        usize::from(self.sent > 0 || self.has_response())
    }

    /// Monotonic milliseconds at which the socket took something last, or at which there was
    /// something to take first.
    pub(in crate::shard) const fn moved_ms(&self) -> u64 {
        self.moved_ms
    }

    /// Forgets everything but what is begun: the session ends.
    pub(in crate::shard) fn cut(&mut self, held: &mut Held) {
        let places = self.items.capacity();
        while self.items.len() > self.begun() {
            let Some(item) = self.items.pop_back() else { break };
            self.bytes -= item.bytes().len();
            self.let_go(&item, held);
        }
        self.shrink(places, held);
    }

    /// Forgets the pushes of which the socket has taken nothing; only for volatile sessions. How
    /// many messages these were.
    pub(in crate::shard) fn drop_pushes(&mut self, held: &mut Held) -> u64 {
        let (mut dropped, places) = (0, self.items.capacity());
        for item in self.items.split_off(self.begun().min(self.items.len())) {
            match &item {
                Item::Frame(..) => dropped += 1,
                Item::Batch(batch, _) => dropped += batch.parts().len() as u64,
                Item::Answer(_) | Item::Control(_) | Item::Response(_) => {
                    self.items.push_back(item);
                    continue;
                }
            }
            self.bytes -= item.bytes().len();
            self.let_go(&item, held);
        }
        self.shrink(places, held);
        dropped
    }

    /// Gives back the list's memory, of which `places` were entered.
    fn shrink(&mut self, places: usize, held: &mut Held) {
        self.items.shrink_to_fit();
        held.sub(places * size_of::<Item>());
        held.add(self.items.capacity() * size_of::<Item>());
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

    /// What is left of the first item.
    pub(in crate::shard) fn first(&self) -> &[u8] {
        self.items.front().and_then(|item| item.bytes().get(self.sent..)).unwrap_or_default()
    }

    /// Copies as many items as fit into `scratch`, because for small frames one contiguous send
    /// beats a list of pieces. How many bytes that are; 0 if [`Outbox::first`] is all, or fills
    /// `scratch` alone.
    pub(in crate::shard) fn gather(&self, scratch: &mut [u8]) -> usize {
        let first = self.first();
        if self.items.len() <= 1 || first.len() >= scratch.len() {
            return 0;
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
        filled
    }

    /// The socket has taken the next `n` bytes.
    pub(in crate::shard) fn consume(&mut self, mut n: usize, now_ms: u64, held: &mut Held) {
        let Some(bytes) = self.bytes.checked_sub(n) else { broken("a socket took more than was queued") };
        self.bytes = bytes;
        if n > 0 {
            self.moved_ms = now_ms;
        }
        while n > 0 {
            let Some(first) = self.items.front() else { return };
            let left = first.bytes().len() - self.sent;
            if n < left {
                self.sent += n;
                return;
            }
            n -= left;
            self.pop(held);
        }
        // Empty items (there are none, but a zero-length frame must not wedge the queue) leave with
        // their predecessors.
        while self.items.front().is_some_and(|item| item.bytes().is_empty()) {
            self.pop(held);
        }
    }

    fn pop(&mut self, held: &mut Held) {
        self.sent = 0;
        if let Some(item) = self.items.pop_front() {
            self.let_go(&item, held);
        }
    }

    fn let_go(&mut self, item: &Item, held: &mut Held) {
        item.leave(held);
        match item {
            Item::Frame(..) | Item::Batch(..) => self.push_bytes -= item.bytes().len(),
            Item::Answer(bytes) => {
                self.answers -= 1;
                self.answer_bytes -= bytes.len();
            }
            Item::Control(_) | Item::Response(_) => {}
        }
    }

    /// What it keeps alive and `seen` has not, which notes it: counted anew, for
    /// `check_invariants`.
    pub(in crate::shard) fn kept(&self, seen: &mut BTreeSet<*const ()>) -> usize {
        let mut kept = size_of::<Self>() + self.items.capacity() * size_of::<Item>();
        for item in &self.items {
            kept += match item {
                Item::Frame(frame, form) => {
                    let plain = if seen.insert(frame.name()) { frame.kept() } else { 0 };
                    let deflated = *form == Form::Deflated && seen.insert(frame.0.deflated_places.name());
                    plain + if deflated { frame.kept_deflated() } else { 0 }
                }
                Item::Batch(batch, form) => {
                    let plain = if seen.insert(Rc::as_ptr(batch).cast()) { batch.kept() } else { 0 };
                    let deflated = *form == Form::Deflated && seen.insert(batch.deflated_places.name());
                    plain + if deflated { batch.kept_deflated() } else { 0 }
                }
                Item::Answer(bytes) | Item::Control(bytes) | Item::Response(bytes) => bytes.len(),
            };
        }
        kept
    }

    /// What is counted is what is queued. A long queue is looked at in part.
    pub(in crate::shard) fn check(&self) {
        if self.items.len() > CHECKED_ITEMS_MAX {
            return;
        }
        let (mut bytes, mut push_bytes, mut answers, mut answer_bytes) = (0, 0, 0, 0);
        for item in &self.items {
            let len = item.bytes().len();
            bytes += len;
            match item {
                Item::Frame(..) | Item::Batch(..) => push_bytes += len,
                Item::Answer(_) => (answers, answer_bytes) = (answers + 1, answer_bytes + len),
                Item::Control(_) | Item::Response(_) => {}
            }
        }
        assert_eq!(self.bytes + self.sent, bytes, "bytes queued are counted");
        assert_eq!(self.push_bytes, push_bytes, "pushes queued are counted");
        assert_eq!((self.answers, self.answer_bytes), (answers, answer_bytes), "answers queued are counted");
    }

    /// Takes everything out of the account: the outbox is not needed any more.
    pub(in crate::shard) fn release(&self, held: &mut Held) {
        for item in &self.items {
            item.leave(held);
        }
        held.sub(size_of::<Self>() + self.items.capacity() * size_of::<Item>());
    }
}

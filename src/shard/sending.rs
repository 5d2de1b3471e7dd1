//! The way out to the sockets: what is to be written to a connection, and what follows when its
//! socket has taken some of it.
//!
//! Owns: [`Shard::poll_send`] and [`Transmit`]. Whoever drives a shard (the driver, the simulation,
//! a benchmark) asks for the next bytes, writes them, and says how many were taken; everything that
//! follows from that is done here: the session is read on, it is given what it lacks, what a
//! broadcast left is queued.
//! Never: writes.
//! Bounds: what is queued has its own; one [`Transmit`] is at most the caller's scratch, or one
//! item.

use std::mem;
use std::rc::Rc;

use super::effect::Effects;
use super::session::outbox::{Batch, Form, Outbox};
use super::session::{Flag, Phase};
use super::{PlantedBug, Shard};
use crate::clock::Now;
use crate::ids::ConnId;

/// The next bytes for one socket. Dropped without a word of [`Transmit::sent`], nothing has
/// happened.
pub struct Transmit<'a> {
    shard: &'a mut Shard,
    conn: ConnId,
    source: Source<'a>,
}

/// Where the bytes lie.
enum Source<'a> {
    /// Copied together here.
    Scratch(&'a [u8], &'a mut Effects),
    /// In the first item of the outbox.
    First(&'a mut Effects),
    /// In the batch of a broadcast.
    Batch(&'a Rc<Batch>, Form),
}

impl Shard {
    /// What is to be written to a connection now: as much as is queued and fits into `scratch`,
    /// contiguous. `None`: nothing, or not yet. Every [`Effect::Flush`](super::Effect::Flush) is
    /// followed by such calls until there is nothing, or the socket is full. `effects` are to be
    /// drained before the next event, as after [`Shard::step`].
    pub fn poll_send<'a>(
        &'a mut self,
        now: Now,
        conn: ConnId,
        scratch: &'a mut [u8],
        effects: &'a mut Effects,
    ) -> Option<Transmit<'a>> {
        self.io.now = now;
        let session = self.sessions.table.get(conn)?;
        let Some(outbox) = session.sendable() else {
            if session.is(Flag::Flushing) {
                mem::swap(&mut self.io.effects, effects);
                self.flushed(conn);
                mem::swap(&mut self.io.effects, effects);
            }
            return None;
        };
        // Before a session is open its response goes alone.
        let gathered = if session.phase() == Phase::Opening { 0 } else { outbox.gather(scratch) };
        let source = match gathered {
            0 => Source::First(effects),
            n => Source::Scratch(scratch.get(..n).unwrap_or_default(), effects),
        };
        Some(Transmit { shard: self, conn, source })
    }

    /// What of a broadcast is to be written to one of its connections: all of it, at once.
    pub fn broadcast_to<'a>(&'a mut self, conn: ConnId, batch: &'a Rc<Batch>, form: Form) -> Transmit<'a> {
        Transmit { shard: self, conn, source: Source::Batch(batch, form) }
    }

    /// The socket has taken `n` bytes of what is queued. Whether there is more to be sent.
    fn taken(&mut self, conn: ConnId, n: usize, effects: &mut Effects) -> bool {
        mem::swap(&mut self.io.effects, effects);
        let more = self.sessions.taken(&mut self.io, conn, n);
        if !more {
            self.flushed(conn);
        }
        mem::swap(&mut self.io.effects, effects);
        more
    }

    /// Everything that may be sent has been taken: a session that lacks something is given it.
    fn flushed(&mut self, conn: ConnId) {
        let Self { io, sessions, deliveries, .. } = self;
        sessions.flushed(io, conn);
        if !io.has_bug(PlantedBug::LostWake) {
            deliveries.catching_up.catch_up(io, sessions, conn);
        }
    }
}

impl Transmit<'_> {
    /// The bytes, at least one.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Scratch(bytes, _) => bytes,
            Source::First(_) => {
                let outbox = self.shard.sessions.table.get(self.conn).and_then(|session| session.outbox.as_deref());
                outbox.map(Outbox::first).unwrap_or_default()
            }
            Source::Batch(batch, form) => batch.bytes_as(*form),
        }
    }

    /// The socket has taken the first `n` of them. Whether there is more to be sent.
    pub fn sent(self, n: usize) -> bool {
        match self.source {
            Source::Scratch(_, effects) | Source::First(effects) => self.shard.taken(self.conn, n, effects),
            Source::Batch(batch, form) => {
                let rest = n < batch.bytes_as(form).len();
                if rest {
                    self.shard.sessions.keep_rest(&mut self.shard.io, self.conn, batch, form, n);
                }
                rest
            }
        }
    }
}

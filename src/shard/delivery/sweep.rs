//! Sweeps: a group's messages on their way over its members, in batches and chunks.
//!
//! Owns: what waits for a sweep, and the sweeps; when one waits is for `coalescing` to say.
//! Never: copies a frame per member; members with nothing queued share one contiguous batch, in one
//! of two forms.
//! Bounds: [`crate::limits::SWEEP_BATCH_BYTES_MAX`] a batch,
//! [`crate::limits::SWEEP_BACKLOG_BYTES_MAX`] all that waits, [`crate::limits::SWEEP_CHUNK_MAX`]
//! members and [`crate::limits::SWEEP_CHUNK_BYTES_MAX`] bytes a step.

use crate::shard::broken::broken;
use crate::shard::catching_up::CatchingUp;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::ids::{ConnId, ConvId, GroupId, Seq};
use crate::limits;
use crate::shard::PlantedBug;
use crate::shard::coalescing::Waiting;
use crate::shard::delivery::Deliveries;
use crate::shard::effect::Effect;
use crate::shard::io::Io;
use crate::shard::session::Flag;
use crate::shard::session::outbox::{Batch, BatchPart, Form, Frame};
use crate::shard::sessions::Sessions;
use crate::shard::sessions::roster::{PendingAck, Sweep, Work};

/// Members that one step of a sweep reaches.
fn chunk(work: &Work) -> usize {
    let (bytes, messages) = match work {
        Work::Mark { .. } => (1, 1),
        Work::Batch { batch, .. } => (batch.bytes().len(), batch.parts().len()),
    };
    let fits = (limits::SWEEP_CHUNK_BYTES_MAX / bytes.max(1)).min(limits::SWEEP_CHUNK_MESSAGES_MAX / messages.max(1));
    fits.clamp(1, limits::SWEEP_CHUNK_MAX)
}

/// Groups with something to sweep, in turn.
#[derive(Default)]
pub(in crate::shard) struct Sweeps {
    queue: VecDeque<u32>,
    /// Groups that wait before they are swept.
    waiting: Waiting,
    /// Bytes of messages in the pending lists and sweeps of all groups.
    pub bytes: usize,
    /// Members that the last chunk reached, each as often as it was given a message on its own.
    pub reached: usize,
}

impl Sweeps {
    /// Whether there is one.
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Groups that have something to sweep now.
    pub(in crate::shard) fn len(&self) -> usize {
        self.queue.len()
    }

    /// When the next group has waited long enough.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        self.waiting.next_ms()
    }
}

impl Deliveries {
    pub(super) fn deliver_to_group(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        id: GroupId,
        seq: Option<Seq>,
        frame: &Frame,
        own: Option<(ConnId, Option<Box<[u8]>>)>,
    ) {
        let reorder = io.has_bug(PlantedBug::ReorderedFanOut);
        let Some((key, group)) = sessions.roster.group_mut(id).filter(|(_, group)| group.heard) else {
            // No open member here; the author has left meanwhile, or is gone.
            if let Some((conn, ack)) = own {
                sessions.give_answer(io, conn, ack);
            }
            return;
        };
        let bytes = frame.bytes().len();
        let budget_ms = if io.quiescing { 0 } else { io.setup.coalesce_ms };
        // An author's own message always finds a place, because its ack stands there; a session has
        // few of them unanswered.
        if own.is_none() && self.sweeps.bytes + bytes > limits::SWEEP_BACKLOG_BYTES_MAX {
            return self.overflow(io, sessions, ConvId::Group(id), seq);
        }
        self.sweeps.bytes += bytes;
        let full = group.pending_bytes + bytes > limits::SWEEP_BATCH_BYTES_MAX;
        if full {
            group.close_batch();
        }
        let waits = group.pace.hear(io.now_ms(), budget_ms);
        let origin = own.as_ref().map(|own| own.0);
        if let Some((conn, frame)) = own {
            group.acks.push(PendingAck { part: group.pending.len(), conn, frame: Some(frame.unwrap_or_default()) });
        }
        let part = BatchPart { frame: frame.clone(), seq, origin };
        if reorder {
            // Only what is shown is in the wrong order: acks stay with their messages.
            let at = group.pending.len();
            for ack in &mut group.acks {
                ack.part = if ack.part == at { 0 } else { ack.part + 1 };
            }
            group.acks.sort_by_key(|ack| ack.part);
            group.pending.insert(0, part);
        } else {
            group.pending.push(part);
        }
        group.pending_bytes += bytes;
        if waits && !group.queued {
            let due_ms = io.now_ms() + u64::from(budget_ms);
            (group.queued, group.due_ms) = (true, Some(due_ms));
            self.sweeps.waiting.add(due_ms, key);
        }
        if full || !group.queued {
            self.sweep_next(sessions, key);
        } else if group.due_ms.is_some() {
            io.tally.coalesced += 1;
        }
    }

    /// The group has something to sweep that does not wait.
    pub(super) fn sweep_next(&mut self, sessions: &mut Sessions, key: u32) {
        let Some(group) = sessions.roster.at_mut(key) else { return };
        let waited = group.due_ms.take().is_some();
        if !std::mem::replace(&mut group.queued, true) || waited {
            self.sweeps.queue.push_back(key);
        }
    }

    /// Sweeps the groups whose time has come at `now_ms`.
    pub(in crate::shard) fn sweep_what_has_waited(&mut self, sessions: &mut Sessions, now_ms: u64) {
        while let Some((due_ms, key)) = self.sweeps.waiting.due(now_ms) {
            if sessions.roster.at(key).is_some_and(|group| group.due_ms == Some(due_ms)) {
                self.sweep_next(sessions, key);
            }
        }
    }

    /// This shard has more messages for its members than it may keep: this one takes the way of
    /// those that a full lane refused.
    pub(in crate::shard) fn overflow(&mut self, io: &mut Io, sessions: &mut Sessions, conv: ConvId, seq: Option<Seq>) {
        match seq {
            Some(seq) => {
                io.tally.marked += 1;
                self.missed(io, sessions, conv, seq, seq);
            }
            None => io.lane_dropped(conv),
        }
    }

    /// One chunk of the next group's sweep.
    pub(in crate::shard) fn sweep(&mut self, io: &mut Io, sessions: &mut Sessions) {
        self.sweeps.reached = 0;
        let Some(&key) = self.sweeps.queue.front() else { return };
        let Some(group) = sessions.roster.at_mut(key) else {
            self.sweeps.queue.pop_front();
            return;
        };
        if group.sweeps.is_empty() {
            group.close_batch();
        }
        let conv = ConvId::Group(group.id);
        let since_max = group.since_max;
        if let Some(mut sweep) = group.sweeps.pop_front() {
            let end = sweep.end.min(sweep.next + chunk(&sweep.work));
            let range = sweep.next..end;
            match &mut sweep.work {
                Work::Mark { from, upto } => self.sweep_mark(io, sessions, key, conv, range, *from, *upto),
                Work::Batch { batch, acks } => {
                    let batch = Rc::clone(batch);
                    sweep.given |= self.sweep_batch(io, sessions, key, conv, range, &batch, acks, since_max);
                }
            }
            sweep.next = end;
            if sweep.next < sweep.end {
                if let Some(group) = sessions.roster.at_mut(key) {
                    group.sweeps.push_front(sweep);
                }
            } else {
                self.end_sweep(io, sessions, sweep);
            }
        }
        self.next_sweep(sessions, key);
    }

    /// An author that is no member any more gets the ack all the same.
    fn end_sweep(&mut self, io: &mut Io, sessions: &mut Sessions, sweep: Sweep) {
        let Work::Batch { batch, acks } = sweep.work else { return };
        if sweep.given {
            batch.parts().iter().for_each(|part| io.passages.add(part.frame.packet()));
        }
        let bytes = batch.parts().iter().map(|part| part.frame.bytes().len()).sum();
        self.sweeps.bytes = self.sweeps.bytes.checked_sub(bytes).unwrap_or_else(|| broken("what was swept has waited"));
        for mut ack in acks {
            if let Some(frame) = ack.frame.take() {
                sessions.give_answer(io, ack.conn, (!frame.is_empty()).then_some(frame));
            }
            if let Some(session) = sessions.table.get_mut(ack.conn) {
                session.set(Flag::Author, false);
            }
        }
    }

    /// Puts the group back into the line, or lets it rest.
    fn next_sweep(&mut self, sessions: &mut Sessions, key: u32) {
        self.sweeps.queue.pop_front();
        let Some(group) = sessions.roster.at_mut(key) else { return };
        if group.sweeps.is_empty() && group.pending.is_empty() {
            group.queued = false;
            sessions.roster.compact(&mut sessions.table, key);
        } else {
            self.sweeps.queue.push_back(key);
        }
    }

    fn sweep_mark(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        key: u32,
        conv: ConvId,
        range: std::ops::Range<usize>,
        from: Seq,
        upto: Seq,
    ) {
        self.sweeps.reached = range.len();
        for place in range {
            let Some(slot) = sessions.roster.member(key, place) else { continue };
            let Some(session) = sessions.table.at(slot) else { continue };
            let conn = ConnId { slot, generation: session.generation };
            let from = from.max(sessions.roster.since(session, slot, key).next());
            if from <= upto {
                self.catching_up.went_behind(io, sessions, conn, conv, from, upto);
            }
        }
    }

    /// Whether any member was given something, other than an author its ack.
    #[expect(clippy::too_many_arguments, reason = "a chunk of a sweep has these parts")]
    fn sweep_batch(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        key: u32,
        conv: ConvId,
        range: std::ops::Range<usize>,
        batch: &Rc<Batch>,
        acks: &mut [PendingAck],
        since_max: Seq,
    ) -> bool {
        for ack in acks.iter() {
            if let Some(session) = sessions.table.get_mut(ack.conn) {
                session.set(Flag::Author, true);
            }
        }
        let old_members_only = batch.parts().first().and_then(|part| part.seq).is_some_and(|first| first > since_max);
        let all_members = old_members_only || io.is_volatile(conv);
        let (mut conns, mut inflaters, mut given) = (io.effects.spare(), Vec::new(), false);
        for place in range {
            let Some(slot) = sessions.roster.member(key, place) else { continue };
            let Some(session) = sessions.table.at(slot) else { continue };
            let conn = ConnId { slot, generation: session.generation };
            let hidden = batch.parts().iter().any(|part| part.frame.is_hidden_from(session.profile));
            if all_members && session.takes_batches(conv) && !hidden {
                match session.deflate().map(|window| batch.form(window, &mut io.deflater)) {
                    None | Some(Form::Plain) => conns.push(conn),
                    Some(Form::Deflated) => {
                        if inflaters.capacity() == 0 {
                            inflaters = io.effects.spare();
                        }
                        inflaters.push(conn);
                    }
                }
                if session.is_legacy()
                    && let Some(last) = batch.parts().iter().rev().find_map(|part| part.seq)
                {
                    sessions.sent_legacy(io, conn, conv, last);
                }
                continue;
            }
            let since = sessions.roster.since(session, slot, key);
            self.sweeps.reached += batch.parts().len();
            for (i, part) in batch.parts().iter().enumerate() {
                if part.origin == Some(conn) {
                    Self::own_part(io, sessions, conn, conv, i, part.seq, acks);
                } else if part.seq.is_none_or(|seq| seq > since) {
                    given |= self.push(io, sessions, conn, conv, part.seq, &part.frame);
                }
            }
        }
        io.tally.sweeps += 1;
        for (form, conns) in Form::ALL.into_iter().zip([conns, inflaters]) {
            self.sweeps.reached += conns.len();
            if conns.is_empty() {
                io.effects.recycle(conns);
                continue;
            }
            given = true;
            let delivered = (conns.len() * batch.parts().len()) as u64;
            *io.delivered_in(conv) += delivered;
            io.push(Effect::Broadcast { batch: Rc::clone(batch), form, conns });
        }
        given
    }

    /// The author's own message has its turn in the author's session: the ack takes its place.
    fn own_part(
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        conv: ConvId,
        part: usize,
        seq: Option<Seq>,
        acks: &mut [PendingAck],
    ) {
        CatchingUp::own_message(io, sessions, conn, conv, seq);
        if let Some(frame) = acks.iter_mut().find(|ack| ack.part == part).and_then(|ack| ack.frame.take()) {
            sessions.give_answer(io, conn, (!frame.is_empty()).then_some(frame));
        }
    }
}

//! Deliveries as they reach the sessions of this shard: direct ones at once, a group's in sweeps over its members.
//!
//! Owns: the way of a frame into an outbox ([`Shard::push`]), and the sweeps; when a sweep waits is for `coalescing` to say.
//! Never: copies a frame per member; members with nothing queued share one contiguous batch.
//! Bounds: [`crate::limits::SWEEP_BATCH_BYTES_MAX`] a batch, [`crate::limits::SWEEP_BACKLOG_BYTES_MAX`] all that waits,
//! [`crate::limits::SWEEP_CHUNK_MAX`] members and [`crate::limits::SWEEP_CHUNK_BYTES_MAX`] bytes a step.

use std::collections::VecDeque;
use std::rc::Rc;

use super::coalescing::Waiting;
use super::effect::{Effect, Effects};
use super::outbox::{Batch, BatchPart, Frame};
use super::peer::Delivery;
use super::roster::{PendingAck, Work};
use super::session::{Flag, Phase};
use super::{PlantedBug, Shard};
use crate::ids::{ConnId, ConvId, GroupId, Seq, UserId};
use crate::limits;

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
pub(super) struct Sweeps {
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
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Groups that have something to sweep now.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// When the next group has waited long enough.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.waiting.next_ms()
    }
}

impl Shard {
    /// A delivery from its home.
    pub(super) fn delivery(&mut self, delivery: Delivery, fx: &mut Effects) {
        let Delivery { conv, seq, packet } = delivery;
        self.deliver_here(conv, seq, &Frame::new(packet), None, fx);
    }

    /// Delivers to the sessions of this shard. `own`: the connection through which it was posted, and the answer that it gets instead.
    pub(super) fn deliver_here(
        &mut self,
        conv: ConvId,
        seq: Option<Seq>,
        frame: &Frame,
        own: Option<(ConnId, Option<Box<[u8]>>)>,
        fx: &mut Effects,
    ) {
        if frame.is_hidden() {
            // A message was recalled: nobody is given it any more from what was read before.
            self.pages.forget_kept(&self.held);
        }
        let author = own.as_ref().map(|own| own.0);
        match conv {
            ConvId::Group(group) => self.deliver_to_group(group, seq, frame, own, fx),
            ConvId::Direct { lo, hi } => {
                self.deliver_to_user(lo, conv, seq, frame, author, fx);
                if hi != lo {
                    self.deliver_to_user(hi, conv, seq, frame, author, fx);
                }
                if let Some((conn, ack)) = own {
                    self.own_message(conn, conv, seq);
                    self.give_ack(conn, ack, fx);
                }
            }
        }
    }

    fn deliver_to_user(
        &mut self,
        user: UserId,
        conv: ConvId,
        seq: Option<Seq>,
        frame: &Frame,
        own: Option<ConnId>,
        fx: &mut Effects,
    ) {
        for slot in self.roster.sessions_of(&self.sessions, user) {
            if let Some(conn) = self.sessions.name(slot)
                && Some(conn) != own
            {
                self.push(conn, conv, seq, frame, fx);
            }
        }
    }

    fn deliver_to_group(
        &mut self,
        id: GroupId,
        seq: Option<Seq>,
        frame: &Frame,
        own: Option<(ConnId, Option<Box<[u8]>>)>,
        fx: &mut Effects,
    ) {
        let reorder = self.setup.planted_bug == Some(PlantedBug::ReorderedFanOut);
        let Some((key, group)) = self.roster.group_mut(id).filter(|(_, group)| group.heard) else {
            // No open member here; the author has left meanwhile, or is gone.
            if let Some((conn, ack)) = own {
                self.give_answer(conn, ack, fx);
            }
            return;
        };
        let bytes = frame.bytes().len();
        let budget_ms = if self.quiescing { 0 } else { self.setup.coalesce_ms };
        // An author's own message always finds a place, because its ack stands there; a session has few of them unanswered.
        if own.is_none() && self.sweeps.bytes + bytes > limits::SWEEP_BACKLOG_BYTES_MAX {
            return self.overflow(ConvId::Group(id), seq, fx);
        }
        self.sweeps.bytes += bytes;
        let full = group.pending_bytes + bytes > limits::SWEEP_BATCH_BYTES_MAX;
        if full {
            group.close_batch();
        }
        let waits = group.pace.hear(self.now_ms, budget_ms);
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
            let due_ms = self.now_ms + u64::from(budget_ms);
            (group.queued, group.due_ms) = (true, Some(due_ms));
            self.sweeps.waiting.add(due_ms, key);
        }
        if full || !group.queued {
            self.sweep_next(key);
        } else if group.due_ms.is_some() {
            self.tally.coalesced += 1;
        }
    }

    /// The group has something to sweep that does not wait.
    fn sweep_next(&mut self, key: u32) {
        let Some(group) = self.roster.at_mut(key) else { return };
        let waited = group.due_ms.take().is_some();
        if !std::mem::replace(&mut group.queued, true) || waited {
            self.sweeps.queue.push_back(key);
        }
    }

    /// Sweeps the groups whose time has come at `now_ms`.
    pub(super) fn sweep_what_has_waited(&mut self, now_ms: u64) {
        while let Some((due_ms, key)) = self.sweeps.waiting.due(now_ms) {
            if self.roster.at(key).is_some_and(|group| group.due_ms == Some(due_ms)) {
                self.sweep_next(key);
            }
        }
    }

    /// This shard has more messages for its members than it may keep: this one takes the way of those that a full lane refused.
    fn overflow(&mut self, conv: ConvId, seq: Option<Seq>, fx: &mut Effects) {
        match seq {
            Some(seq) => {
                self.tally.marked += 1;
                self.missed(conv, seq, seq, fx);
            }
            None => self.lane_dropped(conv),
        }
    }

    /// Messages of `from..=upto` were lost on the way to this shard: its sessions there are behind.
    pub(super) fn missed(&mut self, conv: ConvId, from: Seq, upto: Seq, fx: &mut Effects) {
        match conv {
            ConvId::Direct { lo, hi } => {
                for user in [Some(lo), (hi != lo).then_some(hi)].into_iter().flatten() {
                    for slot in self.roster.sessions_of(&self.sessions, user) {
                        if let Some(conn) = self.sessions.name(slot) {
                            self.went_behind(conn, conv, from, upto, fx);
                        }
                    }
                }
            }
            ConvId::Group(id) => {
                let Some((key, group)) = self.roster.group_mut(id).filter(|(_, group)| group.heard) else { return };
                group.close_batch();
                group.add_mark(from, upto);
                self.sweep_next(key);
            }
        }
    }

    /// One chunk of the next group's sweep.
    pub(super) fn sweep(&mut self, fx: &mut Effects) {
        self.sweeps.reached = 0;
        let Some(&key) = self.sweeps.queue.front() else { return };
        let Some(group) = self.roster.at_mut(key) else {
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
                Work::Mark { from, upto } => self.sweep_mark(key, conv, range, *from, *upto, fx),
                Work::Batch { batch, acks } => {
                    let batch = Rc::clone(batch);
                    self.sweep_batch(key, conv, range, &batch, acks, since_max, fx);
                }
            }
            sweep.next = end;
            if sweep.next < sweep.end {
                if let Some(group) = self.roster.at_mut(key) {
                    group.sweeps.push_front(sweep);
                }
            } else {
                self.end_sweep(sweep.work, fx);
            }
        }
        self.next_sweep(key);
    }

    /// The author who is no member any more gets the ack all the same.
    fn end_sweep(&mut self, work: Work, fx: &mut Effects) {
        let Work::Batch { batch, acks } = work else { return };
        self.sweeps.bytes -= batch.parts().iter().map(|part| part.frame.bytes().len()).sum::<usize>();
        for mut ack in acks {
            if let Some(frame) = ack.frame.take() {
                self.give_answer(ack.conn, (!frame.is_empty()).then_some(frame), fx);
            }
            if let Some(session) = self.sessions.get_mut(ack.conn) {
                session.set(Flag::Author, false);
            }
        }
    }

    /// Puts the group back into the line, or lets it rest.
    fn next_sweep(&mut self, key: u32) {
        self.sweeps.queue.pop_front();
        let Some(group) = self.roster.at_mut(key) else { return };
        if group.sweeps.is_empty() && group.pending.is_empty() {
            group.queued = false;
            self.roster.bury(&mut self.sessions, key);
        } else {
            self.sweeps.queue.push_back(key);
        }
    }

    fn sweep_mark(
        &mut self,
        key: u32,
        conv: ConvId,
        range: std::ops::Range<usize>,
        from: Seq,
        upto: Seq,
        fx: &mut Effects,
    ) {
        self.sweeps.reached = range.len();
        for place in range {
            let Some(slot) = self.roster.member(key, place) else { continue };
            let Some(session) = self.sessions.at(slot) else { continue };
            let conn = ConnId { slot, generation: session.generation };
            let from = from.max(self.roster.since(session, slot, key).next());
            if from <= upto {
                self.went_behind(conn, conv, from, upto, fx);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a chunk of a sweep has these parts")]
    fn sweep_batch(
        &mut self,
        key: u32,
        conv: ConvId,
        range: std::ops::Range<usize>,
        batch: &Rc<Batch>,
        acks: &mut [PendingAck],
        since_max: Seq,
        fx: &mut Effects,
    ) {
        for ack in acks.iter() {
            if let Some(session) = self.sessions.get_mut(ack.conn) {
                session.set(Flag::Author, true);
            }
        }
        let old_members_only = batch.parts().first().and_then(|part| part.seq).is_some_and(|first| first > since_max);
        let everybody = old_members_only || self.is_volatile(conv);
        let mut conns = fx.spare();
        for place in range {
            let Some(slot) = self.roster.member(key, place) else { continue };
            let Some(session) = self.sessions.at(slot) else { continue };
            let conn = ConnId { slot, generation: session.generation };
            let hidden = batch.parts().iter().any(|part| part.frame.is_hidden_from(session.profile));
            if everybody && session.takes_batches() && !hidden {
                conns.push(conn);
                if let Some(last) = batch.parts().last().and_then(|part| part.seq) {
                    self.sent_legacy(conn, conv, last);
                }
                continue;
            }
            let since = self.roster.since(session, slot, key);
            self.sweeps.reached += batch.parts().len();
            for (i, part) in batch.parts().iter().enumerate() {
                if part.origin == Some(conn) {
                    self.own_part(conn, conv, i, part.seq, acks, fx);
                } else if part.seq.is_none_or(|seq| seq > since) {
                    self.push(conn, conv, part.seq, &part.frame, fx);
                }
            }
        }
        self.tally.sweeps += 1;
        self.sweeps.reached += conns.len();
        if conns.is_empty() {
            return fx.recycle(conns);
        }
        let delivered = (conns.len() * batch.parts().len()) as u64;
        *self.delivered_in(conv) += delivered;
        fx.push(Effect::Broadcast { batch: Rc::clone(batch), conns });
    }

    /// The author's own message has its turn in the author's session: the ack takes its place.
    fn own_part(
        &mut self,
        conn: ConnId,
        conv: ConvId,
        part: usize,
        seq: Option<Seq>,
        acks: &mut [PendingAck],
        fx: &mut Effects,
    ) {
        self.own_message(conn, conv, seq);
        if let Some(frame) = acks.iter_mut().find(|ack| ack.part == part).and_then(|ack| ack.frame.take()) {
            self.give_answer(conn, (!frame.is_empty()).then_some(frame), fx);
        }
    }

    /// Where deliveries in `conv` are counted: what is said in `/chatroom` stands apart.
    fn delivered_in(&mut self, conv: ConvId) -> &mut u64 {
        let in_room = conv == ConvId::Group(GroupId::ROOM);
        if in_room { &mut self.tally.room_delivered } else { &mut self.tally.delivered }
    }

    /// A volatile message was dropped for all sessions of a shard.
    pub(super) fn lane_dropped(&mut self, conv: ConvId) {
        let in_room = conv == ConvId::Group(GroupId::ROOM);
        let counter = if in_room { &mut self.tally.room_lane_dropped } else { &mut self.tally.lane_dropped };
        *counter += 1;
    }

    /// Puts one message into one outbox, or notes that the session lacks it.
    pub(super) fn push(&mut self, conn: ConnId, conv: ConvId, seq: Option<Seq>, frame: &Frame, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.phase == Phase::Finishing {
            return;
        }
        let bytes = frame.bytes().len();
        let queued = session.outbox.as_ref().map_or(0, |outbox| outbox.push_bytes());
        let fits = queued == 0 || queued + bytes <= self.setup.outbox_bytes;
        let Some(seq) = seq else {
            // Volatile: dropped and counted, never a reason to close.
            if !fits {
                let in_room = conv == ConvId::Group(GroupId::ROOM);
                let counter = if in_room { &mut self.tally.room_dropped } else { &mut self.tally.dropped };
                *counter += 1;
                return;
            }
            session.outbox_mut(&self.held).push(frame.clone());
            *self.delivered_in(conv) += 1;
            return self.ask_flush(conn, fx);
        };
        let (opening, hidden) = (session.phase == Phase::Opening, frame.is_hidden_from(session.profile));
        let fits = fits && session.takes_pushes();
        if !self.is_next(conn, conv, seq, fits && !opening, fx) {
            return;
        }
        if hidden {
            return self.sent_legacy(conn, conv, seq);
        }
        if let Some(session) = self.sessions.get_mut(conn) {
            session.outbox_mut(&self.held).push(frame.clone());
        }
        self.sent_legacy(conn, conv, seq);
        self.tally.delivered += 1;
        self.ask_flush(conn, fx);
    }
}

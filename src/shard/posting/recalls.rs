//! Taking a message back (`cmd` 8): a post whose body the server makes, and that blanks an earlier
//! one in the same transaction; and what the control plane posts.
//!
//! Owns: what a recall is made of, for sessions and for the control plane.
//! Never: judges; whose message it is, and how old, the store knows, by the row.

use std::sync::Arc;

use crate::ids::{ConnId, ConvId, GroupId, Seq, UserId};
use crate::limits;
use crate::shard::delivery::{Deliveries, Poster};
use crate::shard::effect::Effect;
use crate::shard::event::Answer;
use crate::shard::io::Io;
use crate::shard::peer::{Outcome, Way};
use crate::shard::posting::{Asker, Posting};
use crate::shard::session::Outgoing;
use crate::shard::session::outbox::Frame;
use crate::shard::sessions::Sessions;
use crate::wire::command::RecallCommand;
use crate::wire::{Post, Reject, Target, recall};

impl Posting {
    /// `cmd` 8.
    pub(in crate::shard) fn recall(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        recall: RecallCommand,
    ) {
        let RecallCommand { of, seq, cid } = recall;
        // Nothing is kept, so there is nothing to take back.
        if io.setup.volatile {
            return sessions.tell_refusal(io, conn, Reject::NoSuchMessage, cid.as_deref(), Some(of));
        }
        let outgoing = self.outgoing(io, Post { to: of, cid, body: recall::body(seq) }, Some(seq));
        let Some(session) = sessions.table.get_mut(conn) else { return };
        session.asked();
        self.try_post(io, sessions, conn, outgoing, io.now_ms() + limits::PARK_MS_MAX);
    }

    /// The control plane takes a message of `user` back for that user.
    pub(in crate::shard) fn recall_for(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        id: u64,
        user: UserId,
        of: Target,
        seq: Seq,
    ) {
        let conv = of.conv(user);
        let refusal = if io.quiescing {
            Reject::Stopping
        } else if io.is_volatile(conv) {
            Reject::NoSuchMessage
        } else {
            let outgoing = self.outgoing(io, Post { to: of, cid: None, body: recall::body(seq) }, Some(seq));
            match self.send_post(io, sessions, Asker::ControlPlane(id), user, conv, outgoing, 0) {
                Ok(()) => return,
                Err(_) => Reject::Busy,
            }
        };
        io.push(Effect::Answer { id, answer: Answer::Refused(refusal) });
    }

    /// A backend has something to say for `user`.
    pub(in crate::shard) fn post_for(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        id: u64,
        user: UserId,
        post: Post,
        way: Way,
    ) {
        let conv = post.to.conv(user);
        let refusal = if io.quiescing {
            Reject::Stopping
        } else {
            let outgoing = Outgoing { way, ..self.outgoing(io, post, None) };
            match self.send_post(io, sessions, Asker::ControlPlane(id), user, conv, outgoing, 0) {
                Ok(()) => return,
                Err(_) => Reject::Busy,
            }
        };
        io.answer(id, Answer::Refused(refusal));
    }

    /// The control plane has something said in a group about the group.
    pub(in crate::shard) fn line_for(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        id: u64,
        user: UserId,
        group: GroupId,
        body: Arc<str>,
    ) {
        let refusal = if io.quiescing {
            Reject::Stopping
        } else {
            let outgoing = self.outgoing(io, Post { to: Target::Group(group), cid: None, body }, None);
            match self.send_post(io, sessions, Asker::ControlPlane(id), user, ConvId::Group(group), outgoing, 0) {
                Ok(()) => return,
                Err(_) => Reject::Busy,
            }
        };
        io.push(Effect::Answer { id, answer: Answer::Refused(refusal) });
    }

    /// The home has answered what the control plane asked for: a recall, a line, or a post.
    pub(in crate::shard) fn recalled(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        delivery: &mut Deliveries,
        id: u64,
        conv: ConvId,
        recalls: bool,
        outcome: Outcome,
    ) {
        let answer = match outcome {
            Outcome::Refused(reject) => Answer::Refused(reject),
            Outcome::Done { stored, packet, missed, ts_ms, dup } => {
                let seq = stored.map(|stored| stored.seq).unwrap_or_default();
                if let Some(from) = missed {
                    delivery.missed(io, sessions, conv, from, seq.prev());
                }
                if let Some(packet) = packet {
                    delivery.deliver_here(io, sessions, conv, stored.map(|_| seq), &Frame::new(packet), Poster::Here);
                }
                if recalls { Answer::Recalled { seq } } else { Answer::Posted { stored, ts_ms, dup } }
            }
        };
        io.push(Effect::Answer { id, answer });
    }
}

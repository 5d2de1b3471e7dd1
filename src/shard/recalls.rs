//! Taking a message back (`cmd` 8): a post whose body the server makes, and that blanks an earlier one in the same transaction.
//!
//! Owns: what a recall is made of, for sessions and for the control plane.
//! Never: judges; whose message it is, and how old, the store knows, by the row.

use std::sync::Arc;

use super::Shard;
use super::effect::{Effect, Effects};
use super::event::Answer;
use super::outbox::Frame;
use super::peer::Outcome;
use super::posting::Asker;
use crate::clock::Now;
use crate::ids::{ConnId, ConvId, GroupId, Seq, UserId};
use crate::limits;
use crate::wire::command::Recall;
use crate::wire::{Post, Reject, Target, recall};

impl Shard {
    /// `cmd` 8.
    pub(super) fn recall(&mut self, now: Now, conn: ConnId, recall: Recall, fx: &mut Effects) {
        let Recall { of, seq, cid } = recall;
        // Nothing is kept, so there is nothing to take back.
        if self.setup.volatile {
            return self.tell_refusal(conn, Reject::NoSuchMessage, cid.as_deref(), Some(of), fx);
        }
        let outgoing = self.outgoing(Post { to: of, cid, body: recall::body(seq) }, Some(seq));
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.unanswered += 1;
        self.try_post(now, conn, outgoing, now.mono_ms + limits::PARK_MS_MAX, fx);
    }

    /// The control plane takes a message of `user` back for her.
    pub(super) fn recall_for(&mut self, id: u64, user: UserId, of: Target, seq: Seq, fx: &mut Effects) {
        let conv = of.conv(user);
        let refusal = if self.quiescing {
            Reject::Stopping
        } else if self.is_volatile(conv) {
            Reject::NoSuchMessage
        } else {
            let outgoing = self.outgoing(Post { to: of, cid: None, body: recall::body(seq) }, Some(seq));
            match self.send_post(Asker::ControlPlane(id), user, conv, outgoing, 0, fx) {
                Ok(()) => return,
                Err(_) => Reject::Busy,
            }
        };
        fx.push(Effect::Answer { id, answer: Answer::Refused(refusal) });
    }

    /// The control plane has something said in a group about the group.
    pub(super) fn line_for(&mut self, id: u64, user: UserId, group: GroupId, body: Arc<str>, fx: &mut Effects) {
        let refusal = if self.quiescing {
            Reject::Stopping
        } else {
            let outgoing = self.outgoing(Post { to: Target::Group(group), cid: None, body }, None);
            match self.send_post(Asker::ControlPlane(id), user, ConvId::Group(group), outgoing, 0, fx) {
                Ok(()) => return,
                Err(_) => Reject::Busy,
            }
        };
        fx.push(Effect::Answer { id, answer: Answer::Refused(refusal) });
    }

    /// The home has answered what the control plane asked for: a recall, or a line.
    pub(super) fn recalled(&mut self, id: u64, conv: ConvId, recalls: bool, outcome: Outcome, fx: &mut Effects) {
        let answer = match outcome {
            Outcome::Refused(reject) => Answer::Refused(reject),
            Outcome::Done { stored, packet, missed, .. } => {
                let seq = stored.map(|stored| stored.seq).unwrap_or_default();
                if let Some(from) = missed {
                    self.missed(conv, from, seq.prev(), fx);
                }
                if let Some(packet) = packet {
                    self.deliver_here(conv, stored.map(|_| seq), &Frame::new(packet), None, fx);
                }
                if recalls { Answer::Recalled { seq } } else { Answer::Line }
            }
        };
        fx.push(Effect::Answer { id, answer });
    }
}

//! The author's side: from a client's command to the home, and from the home's word to the client's
//! answer.
//!
//! Owns: the posts of this shard's sessions that are under way; the early refusals; the parked
//! posts of legacy sessions.
//! Never: leaves a command without its one answer while the session lives.

mod lists;
mod recalls;
mod syncing;

use crate::shard::PlantedBug;
use crate::shard::broken::broken;
use std::sync::Arc;

use slab::Slab;

use crate::ids::{ConnId, ConvId, Seq, ShardId, UserId, home_of};
use crate::limits;
use crate::shard::delivery::{Deliveries, Poster};
use crate::shard::io::Io;
use crate::shard::peer::{Outcome, PeerMsg, PeerPost, Posted, Way};
use crate::shard::posting::lists::Lists;
use crate::shard::retries::Retry;
use crate::shard::session::outbox::Frame;
use crate::shard::session::{Outgoing, Parked, Phase, Session};
use crate::shard::sessions::Sessions;
use crate::store::PostKey;
use crate::wire::packet::Stored;
use crate::wire::{Post, Profile, Reject, Target, push};

/// For whom a post is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Asker {
    /// A session, which gets the answer to its command.
    Session(ConnId),
    /// The control plane, by the number of its notice.
    ControlPlane(u64),
}

/// A post under way.
#[derive(Debug)]
struct Sent {
    asker: Asker,
    sender: UserId,
    to: ShardId,
    bytes: usize,
    conv: ConvId,
    post: Outgoing,
    /// When a legacy session's post is given up; set at the first try.
    deadline_ms: u64,
}

/// The posts of this shard's sessions that are under way, by ask number.
#[derive(Default)]
pub(in crate::shard) struct Posts {
    sent: Slab<Sent>,
}

impl Posts {
    /// How many there are.
    pub(in crate::shard) fn len(&self) -> usize {
        self.sent.len()
    }
}

/// What the clients of this shard have asked for and is under way.
#[derive(Default)]
pub(in crate::shard) struct Posting {
    posts: Posts,
    lists: Lists,
}

impl Posting {
    /// Posts under way.
    pub(in crate::shard) fn len(&self) -> usize {
        self.posts.len()
    }
}

impl Posting {
    pub(in crate::shard) fn post(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId, post: Post) {
        let outgoing = self.outgoing(io, post, None);
        let Some(session) = sessions.table.get_mut(conn) else { return };
        session.asked();
        self.try_post(io, sessions, conn, outgoing, io.now_ms() + limits::PARK_MS_MAX);
    }

    /// A post with its key, under which it is stored once however often it is tried.
    fn outgoing(&mut self, io: &mut Io, post: Post, recall: Option<Seq>) -> Outgoing {
        let key = match post.cid {
            Some(cid) => PostKey::Client(cid),
            None => io.server_key(),
        };
        Outgoing {
            target: post.to,
            key,
            body: post.body,
            recall,
            way: Way::Judged,
            said_us: io.now.mono_us(),
            uncertain: false,
        }
    }

    /// Sends a session's post to its home, or refuses it.
    fn try_post(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId, post: Outgoing, deadline_ms: u64) {
        let Some(session) = sessions.table.get(conn) else { return };
        let sender = session.user;
        let conv = post.target.conv(sender);
        if io.quiescing {
            return self.post_refused(io, sessions, conn, post, Reject::Stopping, deadline_ms);
        }
        // A volatile conversation has no other judge. In a stored one the store decides: it knows
        // what another node has done just now.
        if let Target::Group(group) = post.target
            && io.is_volatile(conv)
            && !sessions.roster.is_member(&sessions.table, conn, group)
        {
            return self.post_refused(io, sessions, conn, post, Reject::NotMember, deadline_ms);
        }
        if let Target::User(other) = post.target
            && io.setup.volatile
            && sessions.blocks.is_blocked_by(sender, other)
        {
            return self.post_refused(io, sessions, conn, post, Reject::Blocked, deadline_ms);
        }
        if let Err(post) = self.send_post(io, sessions, Asker::Session(conn), sender, conv, post, deadline_ms) {
            self.post_refused(io, sessions, conn, post, Reject::Busy, deadline_ms);
        }
    }

    /// Sends a post to its home. Gives it back when the lane has no place for it and its answer.
    fn send_post(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        asker: Asker,
        sender: UserId,
        conv: ConvId,
        post: Outgoing,
        deadline_ms: u64,
    ) -> Result<(), Outgoing> {
        let to = home_of(conv, io.setup.shards);
        let bytes = size_of::<PeerPost>() + post.body.len();
        if !io.lanes.reserve_post(to, bytes) {
            return Err(post);
        }
        let (key, body, recall, way) = (post.key.clone(), Arc::clone(&post.body), post.recall, post.way);
        let said_us = post.said_us;
        sessions.begin_share(sender);
        let number = self.posts.sent.insert(Sent { asker, sender, to, bytes, conv, post, deadline_ms });
        let ask = u32::try_from(number).unwrap_or(u32::MAX);
        io.send(to, PeerMsg::Post(Box::new(PeerPost { ask, conv, sender, key, body, recall, way, said_us })));
        Ok(())
    }

    /// The home has answered.
    pub(in crate::shard) fn posted(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        delivery: &mut Deliveries,
        posted: Posted,
    ) {
        let Some(sent) = self.posts.sent.try_remove(posted.ask as usize) else {
            // A home that breaks this rule answers twice.
            if io.has_bug(PlantedBug::AckBeforeCommit) {
                return;
            }
            broken("a post is answered once");
        };
        io.lanes.free_post(sent.to, sent.bytes);
        let sender = sent.sender;
        let conn = match sent.asker {
            Asker::Session(conn) => conn,
            Asker::ControlPlane(id) => {
                sessions.end_share(io, sender);
                return self.recalled(
                    io,
                    sessions,
                    delivery,
                    id,
                    sent.conv,
                    sent.post.recall.is_some(),
                    posted.outcome,
                );
            }
        };
        match posted.outcome {
            Outcome::Refused(reject) => self.post_refused(io, sessions, conn, sent.post, reject, sent.deadline_ms),
            Outcome::Done { stored, ts_ms, dup, packet, missed } => {
                if !dup {
                    // The home's clock is this one.
                    io.tally.posts.record(io.now.wall_ms.saturating_sub(ts_ms).saturating_mul(1_000_000));
                }
                if let Some(from) = missed {
                    let upto = stored.map_or(from, |stored| stored.seq.prev());
                    delivery.missed(io, sessions, sent.conv, from, upto);
                }
                let echo = sessions.table.get(conn).is_some_and(|session| session.wants_echo(sent.post.target));
                let ack = self.ack_for(sessions, conn, &sent, stored, ts_ms, dup);
                let seq = stored.map(|stored| stored.seq);
                match packet {
                    Some(packet) if echo => {
                        delivery.deliver_here(io, sessions, sent.conv, seq, &Frame::new(packet), Poster::Here);
                        sessions.give_answer(io, conn, None);
                    }
                    Some(packet) => {
                        let poster = Poster::Session(conn, ack);
                        delivery.deliver_here(io, sessions, sent.conv, seq, &Frame::new(packet), poster);
                    }
                    None => sessions.give_answer(io, conn, ack),
                }
            }
        }
        sessions.end_share(io, sender);
        sessions.regulate(io, conn);
    }

    /// The answer to a post that was stored: an ack for v2, silence for legacy pages.
    fn ack_for(
        &self,
        sessions: &Sessions,
        conn: ConnId,
        sent: &Sent,
        stored: Option<Stored>,
        ts_ms: u64,
        dup: bool,
    ) -> Option<Box<[u8]>> {
        let session = sessions.table.get(conn)?;
        (session.profile == Profile::V2).then(|| push::ack(sent.post.key.cid(), sent.post.target, stored, ts_ms, dup))
    }

    /// A post was refused: v2 sessions are told; a legacy session's post is tried again until its
    /// deadline, if that can help.
    fn post_refused(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        mut post: Outgoing,
        reject: Reject,
        deadline_ms: u64,
    ) {
        let Some(session) = sessions.table.get_mut(conn) else { return };
        post.uncertain |= reject == Reject::Retry;
        // A post that may have been stored must not be answered with "certainly not".
        let reject = if post.uncertain && reject.retry() { Reject::Retry } else { reject };
        let patient = matches!(session.profile, Profile::Legacy(_)) && session.phase() == Phase::Open;
        if patient && reject.retry() && !io.quiescing && io.now_ms() < deadline_ms {
            let unfinished = session.unfinished_mut();
            if unfinished.parked.is_empty() {
                io.retry(Retry::Parked(conn));
            }
            unfinished.parked.push_back(Parked { post, deadline_ms });
            return sessions.regulate(io, conn);
        }
        session.answered();
        sessions.tell_refusal(io, conn, reject, post.key.cid(), Some(post.target));
    }

    /// Tries a legacy session's parked posts again, in their order.
    pub(in crate::shard) fn retry_parked(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId) {
        let Some(session) = sessions.table.get_mut(conn) else { return };
        let Some(unfinished) = session.unfinished.as_mut() else { return };
        for parked in std::mem::take(&mut unfinished.parked) {
            self.try_post(io, sessions, conn, parked.post, parked.deadline_ms);
        }
        if let Some(session) = sessions.table.get_mut(conn) {
            session.tidy(&mut io.held);
        }
        sessions.regulate(io, conn);
    }

    /// The gateway stops: whoever waits for a better moment is told now that it will not come,
    /// while there is a connection to say it on.
    pub(in crate::shard) fn refuse_parked(&mut self, io: &mut Io, sessions: &mut Sessions) {
        let waits =
            |session: &Session| session.unfinished.as_ref().is_some_and(|unfinished| !unfinished.parked.is_empty());
        let conns: Vec<ConnId> = sessions
            .table
            .iter()
            .filter(|(_, session)| waits(session))
            .map(|(slot, session)| ConnId { slot, generation: session.generation })
            .collect();
        for conn in conns {
            self.retry_parked(io, sessions, conn);
        }
    }
}

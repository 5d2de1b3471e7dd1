//! The author's side: from a client's command to the home, and from the home's word to the client's answer.
//!
//! Owns: the posts of this shard's sessions that are under way; the early refusals; the parked posts of legacy sessions.
//! Never: leaves a command without its one answer while the session lives.

use std::sync::Arc;

use slab::Slab;

use super::Shard;
use super::asks::Purpose;
use super::deadlines::Retry;
use super::effect::{Effect, Effects};
use super::outbox::Frame;
use super::peer::{Outcome, PeerMsg, PeerPost, Posted};
use super::prices::Price;
use super::session::{Outgoing, Parked, Phase, Session};
use crate::clock::Now;
use crate::ids::{ConnId, ConvId, GroupId, Seq, ShardId, UserId, home_of};
use crate::limits;
use crate::store::{self, Page, PageStart, PostKey, Read, Refusal};
use crate::wire::command::{Refused, SyncRequest};
use crate::wire::packet::Stored;
use crate::wire::{Command, Post, Profile, Reject, Target, push};

/// For whom a post is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
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
pub(super) struct Posts {
    sent: Slab<Sent>,
}

impl Posts {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }
}

/// Index into [`crate::metrics::Tally::commands`].
const fn command_index(command: &Command) -> usize {
    match command {
        Command::Heartbeat => 0,
        Command::Post(Post { to: Target::User(_), .. }) => 1,
        Command::Post(Post { to: Target::Group(_), .. }) => 2,
        Command::Sync(_) => 3,
        Command::Cursor(_) => 4,
        Command::Convs(_) => 5,
        Command::Say(_) => 6,
        Command::Typing(_) => 7,
        Command::Watch(_) => 8,
        Command::Recall(_) => 9,
    }
}

impl Shard {
    /// A client's command.
    pub(super) fn command(&mut self, now: Now, conn: ConnId, command: Command, fx: &mut Effects) {
        let gap_ms = self.sessions.get(conn).map_or(0, |session| session.silent_ms(now.mono_ms));
        let Some(session) = self.hear(now, conn) else { return };
        let profile = session.profile;
        self.pay(conn, &Price::of(&command), fx);
        if let Some(count) = self.tally.commands.get_mut(command_index(&command)) {
            *count += 1;
        }
        match command {
            Command::Heartbeat if profile == Profile::V2 => self.answer(conn, push::heartbeat(now.wall_ms), fx),
            Command::Heartbeat => {}
            Command::Post(post) => {
                self.note_post(conn, gap_ms);
                self.post(now, conn, post, fx);
            }
            Command::Sync(sync) => self.sync(conn, sync, fx),
            Command::Cursor(cursor) => self.cursor(now, conn, &cursor, fx),
            Command::Convs(convs) => self.convs(conn, convs, fx),
            Command::Typing(of) => self.typing(now, conn, of, fx),
            Command::Watch(users) => self.watch(conn, users, fx),
            Command::Recall(recall) => self.recall(now, conn, recall, fx),
            Command::Say(words) => {
                self.post(now, conn, Post { to: Target::Group(GroupId::ROOM), cid: None, body: words }, fx);
            }
        }
        self.regulate(conn, fx);
    }

    /// A client's message that is no command.
    pub(super) fn unreadable(&mut self, now: Now, conn: ConnId, refused: &Refused, fx: &mut Effects) {
        if self.hear(now, conn).is_some() {
            self.pay(conn, &Price::UNREADABLE, fx);
            self.tell_refusal(conn, refused.reject, refused.cid.as_deref(), None, fx);
            self.regulate(conn, fx);
        }
    }

    fn post(&mut self, now: Now, conn: ConnId, post: Post, fx: &mut Effects) {
        let outgoing = self.outgoing(post, None);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.unanswered += 1;
        self.try_post(now, conn, outgoing, now.mono_ms + limits::PARK_MS_MAX, fx);
    }

    /// A post with its key, under which it is stored once however often it is tried.
    pub(super) fn outgoing(&mut self, post: Post, recall: Option<Seq>) -> Outgoing {
        let key = match post.cid {
            Some(cid) => PostKey::Client(cid),
            None => self.server_key(),
        };
        Outgoing { target: post.to, key, body: post.body, recall, uncertain: false }
    }

    /// A key that no client can make and no later start of the process makes again.
    fn server_key(&mut self) -> PostKey {
        self.server_keys += 1;
        let counter = u64::from(self.setup.id.0) << 48 | self.server_keys;
        PostKey::Server { node: self.setup.node.0, boot: self.setup.boot, counter }
    }

    /// Sends a session's post to its home, or refuses it.
    pub(super) fn try_post(&mut self, now: Now, conn: ConnId, post: Outgoing, deadline_ms: u64, fx: &mut Effects) {
        let Some(session) = self.sessions.get(conn) else { return };
        let sender = session.user;
        let conv = post.target.conv(sender);
        if self.quiescing {
            return self.post_refused(now, conn, post, Reject::Stopping, deadline_ms, fx);
        }
        // A volatile conversation has no other judge. In a stored one the store decides: it knows what another node has done just now.
        if let Target::Group(group) = post.target
            && self.is_volatile(conv)
            && !self.roster.is_member(&self.sessions, conn, group)
        {
            return self.post_refused(now, conn, post, Reject::NotMember, deadline_ms, fx);
        }
        if let Target::User(other) = post.target
            && self.setup.volatile
            && self.blocks.is_blocked_by(sender, other)
        {
            return self.post_refused(now, conn, post, Reject::Blocked, deadline_ms, fx);
        }
        if let Err(post) = self.send_post(Asker::Session(conn), sender, conv, post, deadline_ms, fx) {
            self.post_refused(now, conn, post, Reject::Busy, deadline_ms, fx);
        }
    }

    /// Sends a post to its home. Gives it back when the lane has no place for it and its answer.
    pub(super) fn send_post(
        &mut self,
        asker: Asker,
        sender: UserId,
        conv: ConvId,
        post: Outgoing,
        deadline_ms: u64,
        fx: &mut Effects,
    ) -> Result<(), Outgoing> {
        let to = home_of(conv, self.setup.shards);
        let bytes = size_of::<PeerPost>() + post.body.len();
        if !self.lanes.reserve_post(to, bytes) {
            return Err(post);
        }
        let (key, body, recall) = (post.key.clone(), Arc::clone(&post.body), post.recall);
        self.shares.begin(sender);
        let number = self.posts.sent.insert(Sent { asker, sender, to, bytes, conv, post, deadline_ms });
        let ask = u32::try_from(number).unwrap_or(u32::MAX);
        self.send(to, PeerMsg::Post(Box::new(PeerPost { ask, conv, sender, key, body, recall })), fx);
        Ok(())
    }

    /// The home has answered.
    pub(super) fn posted(&mut self, now: Now, posted: Posted, fx: &mut Effects) {
        let Some(sent) = self.posts.sent.try_remove(posted.ask as usize) else { return };
        self.lanes.free_post(sent.to, sent.bytes);
        let sender = sent.sender;
        let conn = match sent.asker {
            Asker::Session(conn) => conn,
            Asker::ControlPlane(id) => {
                self.end_share(sender, fx);
                return self.recalled(id, sent.conv, sent.post.recall.is_some(), posted.outcome, fx);
            }
        };
        match posted.outcome {
            Outcome::Refused(reject) => self.post_refused(now, conn, sent.post, reject, sent.deadline_ms, fx),
            Outcome::Done { stored, ts_ms, dup, packet, missed } => {
                if let Some(from) = missed {
                    let upto = stored.map_or(from, |stored| stored.seq.prev());
                    self.missed(sent.conv, from, upto, fx);
                }
                let echo = self.sessions.get(conn).is_some_and(|session| session.wants_echo(sent.post.target));
                let ack = self.ack_for(conn, &sent, stored, ts_ms, dup);
                let seq = stored.map(|stored| stored.seq);
                match packet {
                    Some(packet) if echo => {
                        self.deliver_here(sent.conv, seq, &Frame::new(packet), None, fx);
                        self.give_answer(conn, None, fx);
                    }
                    Some(packet) => self.deliver_here(sent.conv, seq, &Frame::new(packet), Some((conn, ack)), fx),
                    None => self.give_answer(conn, ack, fx),
                }
            }
        }
        self.end_share(sender, fx);
        self.regulate(conn, fx);
    }

    /// The answer to a post that was stored: an ack for v2, silence for legacy pages.
    fn ack_for(&self, conn: ConnId, sent: &Sent, stored: Option<Stored>, ts_ms: u64, dup: bool) -> Option<Box<[u8]>> {
        let session = self.sessions.get(conn)?;
        (session.profile == Profile::V2).then(|| push::ack(sent.post.key.cid(), sent.post.target, stored, ts_ms, dup))
    }

    /// One command of `conn` is answered, with a frame or with silence.
    pub(super) fn give_answer(&mut self, conn: ConnId, frame: Option<Box<[u8]>>, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        debug_assert!(session.unanswered > 0, "a command is answered once");
        session.unanswered = session.unanswered.saturating_sub(1);
        match frame {
            Some(frame) => self.answer(conn, frame, fx),
            None => self.regulate(conn, fx),
        }
    }

    /// A post was refused: v2 sessions are told; a legacy session's post is tried again until its deadline, if that can help.
    fn post_refused(
        &mut self,
        now: Now,
        conn: ConnId,
        mut post: Outgoing,
        reject: Reject,
        deadline_ms: u64,
        fx: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        post.uncertain |= reject == Reject::Retry;
        // Who may have been heard must not be told "certainly not".
        let reject = if post.uncertain && reject.retry() { Reject::Retry } else { reject };
        let patient = matches!(session.profile, Profile::Legacy(_)) && session.phase == Phase::Open;
        if patient && reject.retry() && !self.quiescing && now.mono_ms < deadline_ms {
            let trouble = session.trouble_mut();
            if trouble.parked.is_empty() {
                self.retries.add(now.mono_ms, Retry::Parked(conn));
            }
            trouble.parked.push_back(Parked { post, deadline_ms });
            return self.regulate(conn, fx);
        }
        session.unanswered = session.unanswered.saturating_sub(1);
        self.tell_refusal(conn, reject, post.key.cid(), Some(post.target), fx);
    }

    /// Tries a legacy session's parked posts again, in their order.
    pub(super) fn retry_parked(&mut self, now: Now, conn: ConnId, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let Some(trouble) = session.trouble.as_mut() else { return };
        for parked in std::mem::take(&mut trouble.parked) {
            self.try_post(now, conn, parked.post, parked.deadline_ms, fx);
        }
        if let Some(session) = self.sessions.get_mut(conn) {
            session.tidy();
        }
        self.regulate(conn, fx);
    }

    /// The gateway stops: whoever waits for a better moment is told now that it will not come, while there is a connection to say it on.
    pub(super) fn refuse_parked(&mut self, now: Now, fx: &mut Effects) {
        let waits = |session: &Session| session.trouble.as_ref().is_some_and(|trouble| !trouble.parked.is_empty());
        let conns: Vec<ConnId> = self
            .sessions
            .iter()
            .filter(|(_, session)| waits(session))
            .map(|(slot, session)| ConnId { slot, generation: session.generation })
            .collect();
        for conn in conns {
            self.retry_parked(now, conn, fx);
        }
    }

    /// Tells a refusal in the session's own language, and counts it.
    pub(super) fn tell_refusal(
        &mut self,
        conn: ConnId,
        reject: Reject,
        cid: Option<&str>,
        of: Option<Target>,
        fx: &mut Effects,
    ) {
        let Some(session) = self.sessions.get(conn) else { return };
        if let Some(count) = self.tally.refused.get_mut(reject.index()) {
            *count += 1;
        }
        let frame = match session.profile {
            Profile::V2 => push::refusal(reject, cid, of),
            Profile::Legacy(_) => push::legacy_refusal(reject),
            // Its page prints whatever comes: a refusal would be somebody's words.
            Profile::Room => return,
        };
        self.answer(conn, frame, fx);
    }

    fn sync(&mut self, conn: ConnId, sync: SyncRequest, fx: &mut Effects) {
        let Some(session) = self.sessions.get(conn) else { return };
        let user = session.user;
        if self.quiescing {
            return self.tell_refusal(conn, Reject::Stopping, None, Some(sync.of), fx);
        }
        let conv = sync.of.conv(user);
        let after = match sync.from {
            PageStart::After(seq) => Some(seq.get()),
            PageStart::Before(_) => None,
        };
        let Some(ask) = self.asks.take(Purpose::Sync { conn, of: sync.of, after }) else {
            return self.tell_refusal(conn, Reject::Busy, None, Some(sync.of), fx);
        };
        if let Some(session) = self.sessions.get_mut(conn) {
            session.unanswered += 1;
            session.syncs = session.syncs.saturating_add(1);
        }
        let read = Read::Page {
            conv,
            reader: Some(user),
            from: sync.from,
            rows_max: sync.limit.clamp(1, limits::SYNC_ROWS_MAX),
            bytes_max: limits::SYNC_BYTES_MAX,
        };
        fx.push(Effect::Read { ask, read });
    }

    /// The store has read for a client.
    pub(super) fn sync_settled(
        &mut self,
        conn: ConnId,
        of: Target,
        after: Option<u64>,
        reply: Result<Result<Page, Refusal>, store::Error>,
        fx: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.unanswered = session.unanswered.saturating_sub(1);
        session.syncs = session.syncs.saturating_sub(1);
        let user = session.user;
        match reply {
            Ok(Ok(page)) => {
                let reset = after.and_then(Seq::new).is_some_and(|after| after > page.head);
                self.answer(conn, push::sync(of, user, &page, reset), fx);
            }
            Ok(Err(refusal)) => self.tell_refusal(conn, refusal.into(), None, Some(of), fx),
            Err(_) => self.tell_refusal(conn, Reject::Busy, None, Some(of), fx),
        }
        self.regulate(conn, fx);
    }

    /// Queues an answer.
    pub(super) fn answer(&mut self, conn: ConnId, frame: Box<[u8]>, fx: &mut Effects) {
        if let Some(session) = self.sessions.get_mut(conn)
            && session.phase != Phase::Finishing
        {
            session.outbox_mut(&self.held).answer(frame);
            self.ask_flush(conn, fx);
            self.regulate(conn, fx);
        }
    }
}

//! What a session is told of its user's conversations after it has opened: v2 the list (`cmd` 5), legacy pages the messages that they have missed.
//!
//! Owns: the pace of these reads, and what is made of the answers.
//! Never: holds a v2 session back; a legacy session waits for the answer, so that no new message overtakes a missed one.
//! Bounds: [`limits::HEADS_ASKS_MAX`] reads under way; the others wait in line.

use std::collections::VecDeque;

use super::Shard;
use super::asks::Purpose;
use super::deadlines::Retry;
use super::effect::{Effect, Effects};
use super::session::Phase;
use crate::clock::Now;
use crate::ids::{ConnId, ConvId, Seq, UserId};
use crate::limits;
use crate::store::{self, Heads, Read};
use crate::wire::{Profile, push};

/// The sessions that wait for their first page.
#[derive(Default)]
pub(super) struct Readies {
    waiting: VecDeque<ConnId>,
    under_way: usize,
}

impl Shard {
    /// Asks for the conversations of a session's user, now or when it is its turn.
    pub(super) fn ask_heads(&mut self, now: Now, conn: ConnId, fx: &mut Effects) {
        self.readies.waiting.push_back(conn);
        self.next_heads(now, fx);
    }

    fn next_heads(&mut self, now: Now, fx: &mut Effects) {
        // The gateway stops: they are told to come back before it is their turn.
        while !self.quiescing
            && self.readies.under_way < limits::HEADS_ASKS_MAX
            && let Some(conn) = self.readies.waiting.pop_front()
        {
            let Some(session) = self.sessions.get(conn) else { continue };
            // A page is told what it has missed, and of no other conversation; a client of ours wants its whole list.
            let (user, missed) = (session.user, session.profile != Profile::V2);
            let Some(ask) = self.asks.take(Purpose::Heads { conn }) else {
                self.retries.add(now.mono_ms, Retry::Heads(conn));
                continue;
            };
            self.readies.under_way += 1;
            fx.push(Effect::Read { ask, read: Read::Heads { user, before: None, missed, max: limits::HEADS_MAX } });
        }
    }

    /// The store has listed the conversations of a session's user.
    pub(super) fn heads_settled(
        &mut self,
        now: Now,
        conn: ConnId,
        reply: Result<Heads, store::Error>,
        fx: &mut Effects,
    ) {
        self.readies.under_way = self.readies.under_way.saturating_sub(1);
        self.next_heads(now, fx);
        let Some(session) = self.sessions.get(conn) else { return };
        let (profile, phase, late) = (session.profile, session.phase, session.opens_too_long(now.mono_ms));
        match (reply, profile, phase) {
            (Ok(heads), Profile::V2, Phase::Open) => self.tell_ready(conn, heads, fx),
            (Ok(heads), Profile::Legacy(_), Phase::Opening) => self.replay(conn, &heads, fx),
            (Ok(_), ..) => {}
            // Nobody can serve a page whose gaps are unknown: it is asked to come back, like one whose user is unknown.
            (Err(_), Profile::Legacy(_), Phase::Opening) if late => {
                self.close(conn, crate::wire::CloseCode::Unavailable, fx);
            }
            (Err(_), ..) => self.retries.add(now.mono_ms, Retry::Heads(conn)),
        }
    }

    /// What the user has said lately may not be stored yet.
    pub(super) fn add_newest(&self, user: UserId, heads: &mut Heads) {
        for state in &mut heads.convs {
            let (recv, read) = self.cursors.newest(user, state.conv);
            state.recv = state.recv.max(recv);
            // What is unread after it only the store can count, unless it is nothing: else the pair that it has read stays together.
            if read >= state.head {
                (state.read, state.unread) = (read, 0);
            }
        }
    }

    fn tell_ready(&mut self, conn: ConnId, mut heads: Heads, fx: &mut Effects) {
        let Some(user) = self.sessions.get(conn).map(|session| session.user) else { return };
        self.add_newest(user, &mut heads);
        if let Some(session) = self.sessions.get_mut(conn) {
            session.outbox_mut(&self.held).control(push::ready(user, &heads));
            self.ask_flush(conn, fx);
        }
    }

    /// A legacy session gets what it has missed, the newest [`limits::REPLAY_MAX`] messages; it is behind there, and catches up.
    fn replay(&mut self, conn: ConnId, heads: &Heads, fx: &mut Effects) {
        let Some(user) = self.sessions.get(conn).map(|session| session.user) else { return };
        let mut budget = limits::REPLAY_MAX;
        for state in &heads.convs {
            // What was noted meanwhile may be of an earlier membership than the store's: between the two is what is none of hers.
            self.lacks_only_after(conn, state.conv, state.floor.prev());
            let recv = self.cursors.newest(user, state.conv).0.max(state.recv);
            let first = recv.next().max(state.floor);
            // A group that she has left meanwhile is none of hers any more; one that she has joined meanwhile begins with the news of it.
            let stranger = match state.conv {
                ConvId::Group(group) => !self.roster.is_member(&self.sessions, conn, group),
                ConvId::Direct { .. } => false,
            };
            if first > state.head || budget == 0 || stranger {
                continue;
            }
            let missed = state.head.get() - first.get() + 1;
            let kept = missed.min(budget);
            budget -= kept;
            let from = Seq::new(state.head.get() - kept + 1).unwrap_or(state.head);
            self.lacks(conn, state.conv, from, state.head);
        }
        self.opened(conn, fx);
    }
}

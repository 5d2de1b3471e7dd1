//! What a session is told of its user's conversations after it has opened: v2 the list (`cmd` 5),
//! legacy pages the messages that they have missed.
//!
//! Owns: the pace of these reads, and what is made of the answers.
//! Never: holds a v2 session back; a legacy session waits for the answer, so that no new message
//! overtakes a missed one.
//! Bounds: [`limits::HEADS_ASKS_MAX`] reads under way; the others wait in line.

use crate::shard::broken::broken;
use std::collections::VecDeque;

use crate::ids::{ConnId, ConvId, Seq};
use crate::limits;
use crate::metrics::tally::Slowness;
use crate::shard::PlantedBug;
use crate::shard::asks::Purpose;
use crate::shard::catching_up::CatchingUp;
use crate::shard::effect::Effect;
use crate::shard::io::Io;
use crate::shard::opening::Opening;
use crate::shard::retries::Retry;
use crate::shard::session::{Flag, Phase, Session};
use crate::shard::sessions::Sessions;
use crate::store::{self, Heads, Read};
use crate::wire::{Profile, push};

/// The sessions that wait for their first page.
#[derive(Default)]
pub(in crate::shard) struct Readies {
    waiting: VecDeque<ConnId>,
    under_way: usize,
}

impl Opening {
    /// Asks for the conversations of a session's user, now or when it is its turn.
    pub(in crate::shard) fn ask_heads(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId) {
        self.readies.waiting.push_back(conn);
        self.next_heads(io, sessions);
    }

    fn next_heads(&mut self, io: &mut Io, sessions: &mut Sessions) {
        // The gateway stops: they are told to come back before it is their turn.
        while !io.quiescing
            && self.readies.under_way < limits::HEADS_ASKS_MAX
            && let Some(conn) = self.readies.waiting.pop_front()
        {
            let Some(session) = sessions.table.get(conn) else { continue };
            // A page is told what it has missed, and of no other conversation; a client of ours
            // wants its whole list.
            let (user, guarded) = (session.user, Self::is_guarded(io, session));
            let missed = session.profile != Profile::V2 && guarded;
            let Some(ask) = io.asks.take(Purpose::Heads { conn }) else {
                io.retry(Retry::Heads(conn));
                continue;
            };
            self.readies.under_way += 1;
            io.push(Effect::Read { ask, read: Read::Heads { user, before: None, missed, max: limits::HEADS_MAX } });
        }
    }

    /// The store has listed the conversations of a session's user.
    pub(in crate::shard) fn heads_settled(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
        conn: ConnId,
        reply: Result<Heads, store::Error>,
    ) {
        self.readies.under_way =
            self.readies.under_way.checked_sub(1).unwrap_or_else(|| broken("a list that has come was under way"));
        self.next_heads(io, sessions);
        let Some(session) = sessions.table.get(conn) else { return };
        let (profile, phase, late) = (session.profile, session.phase(), session.opens_too_long(io.now_ms()));
        match (reply, profile, phase) {
            (Ok(heads), Profile::V2, Phase::Open) => self.tell_ready(io, sessions, conn, &heads),
            (Ok(heads), Profile::Legacy(_), Phase::Opening) if !Self::is_guarded(io, session) => {
                self.guard(io, sessions, conn, &heads);
            }
            (Ok(heads), Profile::Legacy(_), Phase::Opening) => self.replay(io, sessions, catching_up, conn, &heads),
            (Ok(_), ..) => {}
            // A page whose gaps are unknown cannot be served: it is asked to come back, like one
            // whose user is unknown.
            (Err(_), Profile::Legacy(_), Phase::Opening) if late => {
                sessions.close(io, conn, crate::wire::CloseCode::Unavailable);
            }
            (Err(_), ..) => io.retry(Retry::Heads(conn)),
        }
    }

    /// Whether nothing is to be asked before what a session has missed.
    fn is_guarded(io: &Io, session: &Session) -> bool {
        !io.setup.clustered || io.has_bug(PlantedBug::UnguardedPage) || session.is(Flag::Guarded)
    }

    /// An old page shows what it is sent, also if its user has read that elsewhere: what it will
    /// not have missed, and another gateway may still send, is noted before.
    fn guard(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId, heads: &Heads) {
        if let Some(session) = sessions.table.get_mut(conn) {
            let since_ms = io.now.wall_ms.saturating_sub(limits::FAR_MEMO_MS);
            for state in heads.convs.iter().filter(|state| state.ts_ms >= since_ms) {
                if !CatchingUp::has_until(io, session, state.conv, state.head) {
                    return sessions.close_slow(io, conn, Slowness::Behind);
                }
            }
            session.set(Flag::Guarded, true);
        }
        self.ask_heads(io, sessions, conn);
    }

    fn tell_ready(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId, heads: &Heads) {
        let Some(user) = sessions.table.get(conn).map(|session| session.user) else { return };
        if let Some(session) = sessions.table.get_mut(conn) {
            session.outbox_mut(&mut io.held, io.now.mono_ms).control(push::ready(user, heads), &mut io.held);
            Sessions::flush(io, conn, session);
        }
    }

    /// A legacy session gets what it has missed, of each conversation as much as [`shares`] says;
    /// it is behind there, and catches up.
    pub(in crate::shard) fn replay(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
        conn: ConnId,
        heads: &Heads,
    ) {
        let mut missed = Vec::new();
        for state in &heads.convs {
            // What was noted meanwhile may be of an earlier membership than the store's: what lies
            // between the two is not for the user.
            CatchingUp::lacks_only_after(io, sessions, conn, state.conv, state.floor.prev());
            let recv = state.recv;
            let first = recv.next().max(state.floor);
            // A group that the user has left meanwhile is not replayed; one that was joined
            // meanwhile begins with the news of it.
            let stranger = match state.conv {
                ConvId::Group(group) => !sessions.roster.is_member(&sessions.table, conn, group),
                ConvId::Direct { .. } => false,
            };
            if first <= state.head && !stranger {
                missed.push((state.conv, state.head, state.head.get() - first.get() + 1));
            }
        }
        let counts: Vec<u64> = missed.iter().map(|&(.., count)| count).collect();
        let turns = if io.has_bug(PlantedBug::GreedyReplay) { limits::REPLAY_MAX } else { 1 };
        for ((conv, head, _), share) in missed.into_iter().zip(shares(&counts, turns)) {
            let from = Seq::new(head.get() + 1 - share).unwrap_or(head);
            if let Some(session) = sessions.table.get_mut(conn)
                && share > 0
                && !CatchingUp::lacks(io, session, conv, from, head)
            {
                return sessions.close_slow(io, conn, Slowness::Behind);
            }
        }
        self.opened(io, sessions, catching_up, conn);
    }
}

/// Of so many messages missed in each conversation, how many are replayed: `most` of each in turn
/// (one, if all is well), until there are [`limits::REPLAY_MAX`]. What is left out counts as
/// received with the next message there, so that a busy conversation must not take the places of
/// the others.
fn shares(missed: &[u64], most: u64) -> Vec<u64> {
    let mut shares = vec![0; missed.len()];
    let mut left = limits::REPLAY_MAX;
    while left > 0 && shares != missed {
        for (share, &missed) in shares.iter_mut().zip(missed) {
            let given = most.min(left).min(missed - *share);
            (*share, left) = (*share + given, left - given);
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_conversation_leaves_the_others_their_places() {
        assert_eq!(shares(&[], 1), Vec::<u64>::new());
        assert_eq!(shares(&[2, 1], 1), [2, 1], "all of it");
        assert_eq!(shares(&[5_000, 3, 1], 1), [196, 3, 1]);
        assert_eq!(shares(&[5_000, 3, 5_000], 1), [99, 3, 98]);
        let many = shares(&[7; limits::REPLAY_MAX as usize + 1], 1);
        assert_eq!(many.split_last(), Some((&0, vec![1; limits::REPLAY_MAX as usize].as_slice())), "the newest first");
    }
}

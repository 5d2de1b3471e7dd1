//! Deliveries as they reach the sessions of this shard: direct ones at once, a group's in sweeps
//! over its members (`sweep`).
//!
//! Owns: the way of a frame into an outbox, and of a hole to the sessions that lack what is in it.
//! Never: copies a frame per member.

mod announcing;
pub(in crate::shard) mod sweep;

use std::sync::Arc;

use crate::ids::{ConnId, ConvId, GroupId, Seq, UserId, shard_of};
use crate::shard::catching_up::{CatchingUp, Next};
use crate::shard::delivery::announcing::Announcements;
use crate::shard::delivery::sweep::Sweeps;
use crate::shard::effect::Effect;
use crate::shard::io::Io;
use crate::shard::peer::Delivery;
use crate::shard::session::outbox::Frame;
use crate::shard::session::{Phase, Session};
use crate::shard::sessions::Sessions;

/// Through what a message has come.
pub(in crate::shard) enum Poster {
    /// That session of this shard, which gets this answer instead of it.
    Session(ConnId, Option<Box<[u8]>>),
    /// This gateway.
    Here,
    /// Another one, see [`Delivery::far`].
    Far,
}

/// The deliveries of a shard, and the catching up of sessions that could not be given theirs.
#[derive(Default)]
pub(in crate::shard) struct Deliveries {
    pub catching_up: CatchingUp,
    sweeps: Sweeps,
    announcements: Announcements,
}

impl Deliveries {
    /// The groups that are swept.
    pub(in crate::shard) const fn sweeps(&self) -> &Sweeps {
        &self.sweeps
    }

    /// Whether sessions are to be told something that is for everybody.
    pub(in crate::shard) fn announces(&self) -> bool {
        self.announcements.are_due()
    }
}

impl Deliveries {
    /// A delivery from its home.
    pub(in crate::shard) fn delivery(&mut self, io: &mut Io, sessions: &mut Sessions, delivery: Delivery) {
        let Delivery { conv, seq, packet, far } = delivery;
        let poster = if far { Poster::Far } else { Poster::Here };
        self.deliver_here(io, sessions, conv, seq, &Frame::new(packet), poster);
    }

    /// Delivers to the sessions of this shard.
    pub(in crate::shard) fn deliver_here(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        conv: ConvId,
        seq: Option<Seq>,
        frame: &Frame,
        poster: Poster,
    ) {
        if frame.is_hidden() {
            // A message was recalled: no session is given it any more from what was read before.
            self.catching_up.forget_pages(io);
        }
        match conv {
            ConvId::Group(group) => {
                let own = if let Poster::Session(conn, ack) = poster { Some((conn, ack)) } else { None };
                self.deliver_to_group(io, sessions, group, seq, frame, own);
            }
            ConvId::Direct { lo, hi } => {
                let mut given = self.deliver_to_user(io, sessions, lo, conv, seq, frame, &poster);
                if hi != lo {
                    given |= self.deliver_to_user(io, sessions, hi, conv, seq, frame, &poster);
                }
                if given {
                    io.passages.add(frame.packet());
                }
                if let Poster::Session(conn, ack) = poster {
                    CatchingUp::own_message(io, sessions, conn, conv, seq);
                    sessions.give_ack(io, conn, ack);
                }
            }
        }
    }

    /// Whether any session was given it.
    fn deliver_to_user(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        user: UserId,
        conv: ConvId,
        seq: Option<Seq>,
        frame: &Frame,
        poster: &Poster,
    ) -> bool {
        let slots = sessions.roster.sessions_of(&sessions.table, user);
        if slots.is_empty() {
            // The gateway that has stored it tells that the user is away, unless it took the user
            // for one that is here: since a moment ago, or since the bus went away.
            let is_ours = !matches!(poster, Poster::Far) || sessions.elsewhere.is_stale();
            if is_ours || sessions.has_just_left(io, user) {
                Self::offline(io, sessions, user, conv, seq, Some(frame));
            }
            return false;
        }
        let own = if let Poster::Session(conn, _) = poster { Some(*conn) } else { None };
        let mut given = false;
        for slot in slots {
            if let Some(conn) = sessions.table.name(slot)
                && Some(conn) != own
            {
                given |= self.push(io, sessions, conn, conv, seq, frame);
            }
        }
        given
    }

    /// The user of a direct conversation may have no session on any gateway: whoever wants to hear
    /// of that does.
    fn offline(io: &mut Io, sessions: &Sessions, user: UserId, conv: ConvId, seq: Option<Seq>, frame: Option<&Frame>) {
        // The other user's sessions may be on another shard, which sees to that.
        let is_ours = io.setup.tells_offline && shard_of(user, io.setup.shards) == io.setup.id;
        if is_ours && sessions.elsewhere.has(user) && !sessions.elsewhere.is_stale() {
            return;
        }
        if let Some(seq) = seq.filter(|_| is_ours && !frame.is_some_and(Frame::is_hidden)) {
            io.push(Effect::Offline { user, conv, seq, packet: frame.map(|frame| Arc::clone(frame.packet())) });
        }
    }

    /// Messages of `from..=upto` were lost on the way to this shard: its sessions there are behind.
    pub(in crate::shard) fn missed(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        conv: ConvId,
        from: Seq,
        upto: Seq,
    ) {
        match conv {
            ConvId::Direct { lo, hi } => {
                for user in [Some(lo), (hi != lo).then_some(hi)].into_iter().flatten() {
                    if sessions.roster.sessions_of(&sessions.table, user).is_empty() {
                        Self::offline(io, sessions, user, conv, Some(upto), None);
                    }
                    for slot in sessions.roster.sessions_of(&sessions.table, user) {
                        if let Some(conn) = sessions.table.name(slot) {
                            self.catching_up.went_behind(io, sessions, conn, conv, from, upto);
                        }
                    }
                }
            }
            ConvId::Group(id) => {
                let Some((key, group)) = sessions.roster.group_mut(id).filter(|(_, group)| group.heard) else { return };
                group.close_batch();
                group.add_mark(from, upto);
                self.sweep_next(sessions, key);
            }
        }
    }

    /// Puts one message into one outbox, or notes that the session lacks it. Answers whether it is
    /// in the outbox.
    pub(in crate::shard) fn push(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        conv: ConvId,
        seq: Option<Seq>,
        frame: &Frame,
    ) -> bool {
        let Some(session) = sessions.table.get_mut(conn) else { return false };
        if session.phase() == Phase::Finishing {
            return false;
        }
        let bytes = frame.bytes().len();
        let queued = session.outbox.as_ref().map_or(0, |outbox| outbox.push_bytes());
        let fits = queued == 0 || queued + bytes <= io.setup.outbox_bytes;
        let Some(seq) = seq else {
            // Volatile: dropped and counted, never a reason to close.
            if !fits {
                let in_room = conv == ConvId::Group(GroupId::ROOM);
                let counter = if in_room { &mut io.tally.room_dropped } else { &mut io.tally.dropped };
                *counter += 1;
                return false;
            }
            Self::enqueue(io, session, frame);
            *io.delivered_in(conv) += 1;
            Sessions::flush(io, conn, session);
            return true;
        };
        let fits = fits && session.takes_pushes() && session.phase() != Phase::Opening;
        match CatchingUp::judge(io, session, conv, seq, fits) {
            // Nothing need be under way: what lies before it may never have been told.
            Next::Skip => {
                self.catching_up.catch_up(io, sessions, conn);
                return false;
            }
            Next::Lacks => {
                self.catching_up.went_behind(io, sessions, conn, conv, seq, seq);
                return false;
            }
            Next::Send => {}
        }
        let is_shown = !frame.is_hidden_from(session.profile);
        if is_shown {
            Self::enqueue(io, session, frame);
            io.tally.delivered += 1;
            Sessions::flush(io, conn, session);
        }
        if session.is_legacy() {
            sessions.sent_legacy(io, conn, conv, seq);
        }
        is_shown
    }

    fn enqueue(io: &mut Io, session: &mut Session, frame: &Frame) {
        let form = frame.form(session.deflate(), &mut io.deflater);
        session.outbox_mut(&mut io.held, io.now.mono_ms).push(frame.clone(), form, &mut io.held);
    }
}

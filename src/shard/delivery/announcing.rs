//! Announcements: what is said to all sessions of this shard in the order of their slots, to a part
//! of them in each turn.
//!
//! Owns: the announcements on their way, and how far each has come.
//! Never: stores one, or waits for a slow reader: what does not fit into an outbox is dropped
//! there.
//! Bounds: [`ANNOUNCEMENTS_MAX`] at once, [`TURN_ANNOUNCED_MAX`] sessions a turn.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ids::{ConvId, UserId};
use crate::limits::{ANNOUNCEMENTS_MAX, TURN_ANNOUNCED_MAX};
use crate::shard::delivery::Deliveries;
use crate::shard::event::Answer;
use crate::shard::io::Io;
use crate::shard::session::outbox::Frame;
use crate::shard::sessions::Sessions;
use crate::wire::{Packet, Profile, Reject};

/// One on its way.
struct Announcement {
    frame: Frame,
    conv: ConvId,
    /// The first slot that has not had it, and the end: a session that comes later has missed it.
    next: u32,
    end: u32,
}

/// Those on their way, the oldest first.
#[derive(Default)]
pub(in crate::shard) struct Announcements {
    all: VecDeque<Announcement>,
}

impl Announcements {
    /// Whether some session waits for one.
    pub(in crate::shard) fn are_due(&self) -> bool {
        !self.all.is_empty()
    }
}

impl Deliveries {
    /// Begins to tell all sessions. The author's conversation with itself stands for everybody's
    /// with the author, so that one frame serves all.
    pub(in crate::shard) fn announce(
        &mut self,
        io: &mut Io,
        sessions: &Sessions,
        user: UserId,
        body: &str,
        ts_ms: u64,
    ) -> Answer {
        if io.quiescing {
            return Answer::Refused(Reject::Stopping);
        }
        if self.announcements.all.len() >= ANNOUNCEMENTS_MAX {
            return Answer::Refused(Reject::Busy);
        }
        let conv = ConvId::direct(user, user);
        let frame = Frame::new(Arc::new(Packet::chat(conv, user, None, ts_ms, body)));
        self.announcements.all.push_back(Announcement { frame, conv, next: 0, end: sessions.table.span() });
        Answer::Done
    }

    /// Tells the next sessions.
    pub(in crate::shard) fn announce_some(&mut self, io: &mut Io, sessions: &mut Sessions) {
        let Some(announcement) = self.announcements.all.front_mut() else { return };
        let from = announcement.next;
        let upto = announcement.end.min(from.saturating_add(TURN_ANNOUNCED_MAX));
        announcement.next = upto;
        let (frame, conv, is_over) = (announcement.frame.clone(), announcement.conv, upto == announcement.end);
        if is_over {
            self.announcements.all.pop_front();
        }
        for slot in from..upto {
            let guest = sessions.table.at(slot).is_some_and(|session| session.profile == Profile::Room);
            if let Some(conn) = sessions.table.name(slot).filter(|_| !guest) {
                self.push(io, sessions, conn, conv, None, &frame);
            }
        }
    }
}

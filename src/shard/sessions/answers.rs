//! What a session is answered.
//!
//! Owns: that a command has one answer, and in which language it is.

use crate::ids::ConnId;
use crate::shard::io::Io;
use crate::shard::session::{Phase, Session};
use crate::shard::sessions::Sessions;
use crate::wire::{Profile, Reject, Target, push};

impl Sessions {
    /// One command of `conn` is answered, with a frame or with silence.
    pub(in crate::shard) fn give_answer(&mut self, io: &mut Io, conn: ConnId, frame: Option<Box<[u8]>>) {
        let Some(session) = self.table.get_mut(conn) else { return };
        session.answered();
        match frame {
            Some(frame) => self.answer(io, conn, frame),
            None => self.regulate(io, conn),
        }
    }

    /// Tells a refusal in the session's own language, and counts it.
    pub(in crate::shard) fn tell_refusal(
        &mut self,
        io: &mut Io,
        conn: ConnId,
        reject: Reject,
        cid: Option<&str>,
        of: Option<Target>,
    ) {
        let Some(session) = self.table.get(conn) else { return };
        if let Some(count) = io.tally.refused.get_mut(reject.index()) {
            *count += 1;
        }
        io.counting.refusal(session.user);
        let frame = match session.profile {
            Profile::V2 => push::refusal(reject, cid, of),
            Profile::Legacy(_) => push::legacy_refusal(reject),
            // Its page prints whatever comes: a refusal would look like a guest's words.
            Profile::Room => return,
        };
        self.answer(io, conn, frame);
    }

    /// Queues an answer that may be long: compressed, if that was agreed upon and is worth it.
    pub(in crate::shard) fn answer_page(&mut self, io: &mut Io, conn: ConnId, frame: Box<[u8]>) {
        let window = self.table.get(conn).and_then(Session::deflate);
        let frame = match window {
            Some(window) => io.deflater.again(frame, window),
            None => frame,
        };
        self.answer(io, conn, frame);
    }

    /// Queues an answer.
    pub(in crate::shard) fn answer(&mut self, io: &mut Io, conn: ConnId, frame: Box<[u8]>) {
        if let Some(session) = self.table.get_mut(conn)
            && session.phase() != Phase::Finishing
        {
            session.outbox_mut(&mut io.held, io.now.mono_ms).answer(frame, &mut io.held);
            Self::flush(io, conn, session);
            self.regulate(io, conn);
        }
    }
}

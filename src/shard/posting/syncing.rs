//! Pages of history that clients ask for (`cmd` 4).
//!
//! Owns: what is asked of the store for them, and the answer.
//! Bounds: [`limits::SYNC_ROWS_MAX`] rows and [`limits::SYNC_BYTES_MAX`] bytes a page.

use crate::ids::{ConnId, Seq};
use crate::limits;
use crate::shard::asks::Purpose;
use crate::shard::effect::Effect;
use crate::shard::io::Io;
use crate::shard::posting::Posting;
use crate::shard::sessions::Sessions;
use crate::store::{self, Page, PageStart, Read, Refusal};
use crate::wire::command::SyncRequest;
use crate::wire::{Reject, Target, push};

impl Posting {
    pub(in crate::shard) fn sync(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId, sync: SyncRequest) {
        let Some(session) = sessions.table.get(conn) else { return };
        let user = session.user;
        if io.quiescing {
            return sessions.tell_refusal(io, conn, Reject::Stopping, None, Some(sync.of));
        }
        let conv = sync.of.conv(user);
        let after = match sync.from {
            PageStart::After(seq) => Some(seq.get()),
            PageStart::Before(_) => None,
        };
        let Some(ask) = io.asks.take(Purpose::Sync { conn, of: sync.of, after }) else {
            return sessions.tell_refusal(io, conn, Reject::Busy, None, Some(sync.of));
        };
        if let Some(session) = sessions.table.get_mut(conn) {
            session.asked_page();
        }
        let read = Read::Page {
            conv,
            reader: Some(user),
            from: sync.from,
            rows_max: sync.limit.clamp(1, limits::SYNC_ROWS_MAX),
            bytes_max: limits::SYNC_BYTES_MAX,
        };
        io.push(Effect::Read { ask, read });
    }

    /// The store has read for a client.
    pub(in crate::shard) fn sync_settled(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        of: Target,
        after: Option<u64>,
        reply: Result<Result<Page, Refusal>, store::Error>,
    ) {
        let Some(session) = sessions.table.get_mut(conn) else { return };
        session.answered_page();
        let user = session.user;
        match reply {
            Ok(Ok(page)) => {
                let reset = after.and_then(Seq::new).is_some_and(|after| after > page.head);
                sessions.answer_page(io, conn, push::sync(of, user, &page, reset));
            }
            Ok(Err(refusal)) => sessions.tell_refusal(io, conn, refusal.into(), None, Some(of)),
            Err(_) => sessions.tell_refusal(io, conn, Reject::Busy, None, Some(of)),
        }
        sessions.regulate(io, conn);
    }
}

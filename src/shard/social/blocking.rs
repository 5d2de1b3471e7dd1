//! What a block that begins or ends means to two users that watch each other.
//!
//! Owns: the presence that the two are shown.

use crate::ids::{UserId, shard_of};
use crate::shard::io::Io;
use crate::shard::sessions::Sessions;
use crate::shard::social::Social;
use crate::wire::push;

impl Social {
    /// A block has begun or ended. Each of the two, as far as they are here, is shown the other as
    /// offline, or as it is.
    pub(in crate::shard) fn block_changed(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        owner: UserId,
        other: UserId,
        on: bool,
    ) {
        let me = io.setup.id;
        let here = [owner, other].map(|user| {
            shard_of(user, io.setup.shards) == me && !sessions.roster.sessions_of(&sessions.table, user).is_empty()
        });
        sessions.blocks.change(owner, other, on, here, io.now_ms());
        for (watcher, watched) in [(owner, other), (other, owner)] {
            let hidden = sessions.blocks.between(watcher, watched);
            for slot in sessions.roster.sessions_of(&sessions.table, watcher) {
                let Some(conn) = sessions.table.name(slot) else { continue };
                if self.watches.sees_online(conn, watched) {
                    sessions.whisper(io, conn, push::presence(&[(watched, !hidden)]));
                }
            }
        }
    }
}

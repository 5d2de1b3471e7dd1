//! Memberships as the homes of groups tell them.
//!
//! Owns: what a membership that begins or ends means to the sessions of its user here.
//! Never: decides memberships.

use crate::ids::{ConvId, GroupId, Seq, UserId};
use crate::shard::catching_up::CatchingUp;
use crate::shard::io::Io;
use crate::shard::opening::Opening;
use crate::shard::peer::MemberChange;
use crate::shard::session::Phase;
use crate::shard::sessions::Sessions;

impl Opening {
    /// The user's shard hears of a membership, in one order with the group's deliveries.
    fn member_joined(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
        (group, user): (GroupId, UserId),
        since: Seq,
        passed: Seq,
    ) {
        for slot in sessions.roster.sessions_of(&sessions.table, user) {
            let Some(conn) = sessions.table.name(slot) else { continue };
            if let Some(unfinished) = sessions.table.get_mut(conn).and_then(|session| session.unfinished.as_mut()) {
                unfinished.left.retain(|&left| left != group);
            }
            let was_member = sessions.roster.is_member(&sessions.table, conn, group);
            sessions.roster.join(&mut sessions.table, conn, group, since);
            CatchingUp::lacks_only_after(io, sessions, conn, ConvId::Group(group), since);
            // One that opens reads them by itself.
            let is_open = sessions.table.get(conn).is_some_and(|session| session.phase() == Phase::Open);
            if passed > since && is_open && !was_member && !io.setup.volatile {
                catching_up.went_behind(io, sessions, conn, ConvId::Group(group), since.next(), passed);
            }
        }
        // The home that tells of a member sends what follows to the member's shard.
        sessions.roster.set_heard(group);
    }

    /// The user's shard hears that a membership has ended.
    fn member_left(&mut self, sessions: &mut Sessions, group: GroupId, user: UserId) {
        for slot in sessions.roster.sessions_of(&sessions.table, user) {
            let Some(conn) = sessions.table.name(slot) else { continue };
            // What the session lacks stays noted: the word may be older than the membership that
            // the session was opened with, and then the newer one follows. Else the next page finds
            // no member.
            sessions.roster.leave(&mut sessions.table, conn, group);
            if let Some(session) = sessions.table.get_mut(conn)
                && session.phase() == Phase::Opening
            {
                // The read at open may have seen the membership: its answer must not bring it back.
                session.unfinished_mut().left.push(group);
            }
        }
    }

    /// The home of a group tells of a membership.
    pub(in crate::shard) fn member(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
        (group, user): (GroupId, UserId),
        change: MemberChange,
    ) {
        match change {
            MemberChange::Joined { since, passed } => {
                self.member_joined(io, sessions, catching_up, (group, user), since, passed);
                // The home counts this shard in before it tells; for a user that is not online it
                // is told that it need not.
                self.heard_for_nobody(io, sessions, ConvId::Group(group));
            }
            MemberChange::Left => self.member_left(sessions, group, user),
        }
    }
}

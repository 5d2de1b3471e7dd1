//! What the control plane says, and which part does it.
//!
//! Owns: the table from a notice to the part that carries it out.
//! Never: leaves a notice without its one answer.

use super::Shard;
use super::event::{Answer, Notice};
use super::far::{FarSaid, FarWord};
use super::peer::MemberChange;
use super::social::hints::Concern;
use crate::ids::{ConvId, Seq, ShardId};
use crate::store::Write;
use crate::wire::{CloseCode, Post};

impl Shard {
    /// The control plane has something to say.
    pub(super) fn notice(&mut self, id: u64, notice: Notice) {
        let Self { io, home, sessions, deliveries, posting, social, .. } = self;
        match notice {
            Notice::Join { group, user } => {
                return home.change_membership(io, id, group, user, Write::Join { group, user });
            }
            Notice::Leave { group, user } => {
                return home.change_membership(io, id, group, user, Write::Leave { group, user });
            }
            Notice::MemberSeen { group, user, since, age_ms } => {
                let change =
                    since.map_or(MemberChange::Left, |since| MemberChange::Joined { since, passed: Seq::ZERO });
                return home.member_seen(io, id, (group, user), change, age_ms);
            }
            Notice::Recall { user, of, seq } => return posting.recall_for(io, sessions, id, user, of, seq),
            Notice::Line { user, group, body } => return posting.line_for(io, sessions, id, user, group, body),
            Notice::Post { user, to, cid, body, way } => {
                return posting.post_for(io, sessions, id, user, Post { to, cid, body }, way);
            }
            Notice::Announce { user, body, ts_ms } => {
                let answer = deliveries.announce(io, sessions, user, &body, ts_ms);
                // Every shard is given it; the first one tells the other gateways.
                if answer == Answer::Done && io.setup.id == ShardId(0) {
                    io.say_far(FarSaid { conv: ConvId::direct(user, user), to_all: true, sender: user, ts_ms, body });
                }
                return io.answer(id, answer);
            }
            Notice::Online { users } => return io.answer(id, Answer::Online { users: sessions.online_of(&users) }),
            Notice::Roster { from } => {
                let (users, next) = sessions.roster_from(from);
                return io.answer(id, Answer::Roster { users, next });
            }
            Notice::Sessions { user } => {
                return io.answer(id, Answer::Sessions(sessions.shown_of(io, user)));
            }
            Notice::EndSessions { user, only } => {
                let sessions = sessions.disconnect(io, user, only);
                return io.answer(id, Answer::Ended { sessions });
            }
            Notice::Disconnect { user } => {
                sessions.disconnect(io, user, None);
                io.tell_far(FarWord::Disconnect { user });
            }
            Notice::LoggedOut { user, epoch } => sessions.close_older(io, user, epoch),
            Notice::LoginEnded { user, login } => sessions.close_login(io, user, login),
            Notice::Banned { user } => sessions.close_user(io, user, CloseCode::Banned),
            Notice::Block { owner, other, on } => social.block_changed(io, sessions, owner, other, on),
            Notice::Changed { user, what, id: of } => social.hint(io, sessions, Concern::User(user, what), of),
            Notice::GroupChanged { group } => social.hint(io, sessions, Concern::Group(group), group.get()),
            Notice::Introduced { reader, of } => deliveries.catching_up.introduced(sessions, reader, of),
            Notice::Hello => {}
        }
        io.answer(id, Answer::Done);
    }
}

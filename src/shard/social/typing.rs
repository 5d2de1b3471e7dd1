//! Typing (`cmd` 6): relayed at once or never.
//!
//! Owns: the pace of the relays, and which users are told: the peer of a direct conversation, the
//! members of a small group.
//! Never: touches the store, and never repeats: a client that goes on typing says so again.
//! Bounds: [`limits::TYPINGS_MAX`] relays within [`limits::TYPING_PACE_MS`],
//! [`limits::TYPING_CONVS_MAX`] of them of one user, on however many devices.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::{ConnId, ConvId, UserId, home_of, shard_of};
use crate::limits;
use crate::shard::far::FarWord;
use crate::shard::home::Home;
use crate::shard::io::Io;
use crate::shard::peer::PeerMsg;
use crate::shard::sessions::Sessions;
use crate::shard::social::Social;
use crate::wire::{Reject, Target, push};

/// The relays of the last [`limits::TYPING_PACE_MS`].
#[derive(Default)]
pub(in crate::shard) struct Typings {
    relayed: BTreeSet<(UserId, ConvId)>,
    /// The same in their order, with the end of their pause.
    pauses: VecDeque<(u64, UserId, ConvId)>,
}

impl Typings {
    /// Whether a user's typing in a conversation is to be relayed now; if so, it pauses from now
    /// on.
    fn take(&mut self, user: UserId, conv: ConvId, now_ms: u64) -> bool {
        while let Some(&(over_ms, user, conv)) = self.pauses.front()
            && over_ms <= now_ms
        {
            self.pauses.pop_front();
            self.relayed.remove(&(user, conv));
        }
        let (first, last) = ConvId::ends();
        let of_user = self.relayed.range((user, first)..=(user, last)).count();
        if of_user >= limits::TYPING_CONVS_MAX || self.pauses.len() >= limits::TYPINGS_MAX {
            return false;
        }
        let is_new = self.relayed.insert((user, conv));
        if is_new {
            self.pauses.push_back((now_ms + limits::TYPING_PACE_MS, user, conv));
        }
        is_new
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        assert_eq!(self.relayed.len(), self.pauses.len(), "every pause ends once");
        assert!(self.pauses.len() <= limits::TYPINGS_MAX, "relays are bounded");
    }
}

impl Social {
    /// `cmd` 6. There is no answer; only a user that is no member is told.
    pub(in crate::shard) fn typing(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId, of: Target) {
        let Some(session) = sessions.table.get(conn) else { return };
        let user = session.user;
        if let Target::Group(group) = of
            && !sessions.roster.is_member(&sessions.table, conn, group)
        {
            return sessions.tell_refusal(io, conn, Reject::NotMember, None, Some(of));
        }
        let conv = of.conv(user);
        if self.relay_typing(io, sessions, user, conv) && !io.is_volatile(conv) {
            io.tell_far(FarWord::Typing { user, conv });
        }
    }

    /// Tells the shards concerned, unless they have been told a moment ago. Whether they are.
    pub(super) fn relay_typing(&mut self, io: &mut Io, sessions: &Sessions, user: UserId, conv: ConvId) -> bool {
        if !self.typings.take(user, conv, io.now_ms()) {
            return false;
        }
        let to = match conv {
            ConvId::Direct { lo, hi } => {
                let other = if user == lo { hi } else { lo };
                // A user need not be told of notes to self.
                if other == user || sessions.blocks.between(user, other) {
                    return false;
                }
                shard_of(other, io.setup.shards)
            }
            ConvId::Group(_) => home_of(conv, io.setup.shards),
        };
        io.send_if_room(to, PeerMsg::Typing { user, conv });
        true
    }

    /// A user is typing in a conversation of users of this shard.
    pub(in crate::shard) fn peer_typing(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        home: &Home,
        user: UserId,
        conv: ConvId,
    ) {
        match conv {
            ConvId::Direct { lo, hi } => {
                let listener = if user == lo { hi } else { lo };
                if sessions.blocks.between(listener, user) {
                    return;
                }
                sessions.whisper_to(io, listener, &push::typing(user, conv, listener));
            }
            ConvId::Group(group) => {
                let me = io.setup.id;
                if home_of(conv, io.setup.shards) == me {
                    // Only the home knows where the members are.
                    for shard in home.concerned(io, conv).into_iter().filter(|&shard| shard != me) {
                        io.send_if_room(shard, PeerMsg::Typing { user, conv });
                    }
                }
                let frame = push::typing(user, conv, user);
                sessions.whisper_to_group(io, group, Some(user), limits::TYPING_MEMBERS_MAX, &frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::GroupId;

    fn user(n: u64) -> UserId {
        UserId::new(n).expect("small")
    }

    fn conv(n: u64) -> ConvId {
        ConvId::Group(GroupId::new(n).expect("small"))
    }

    #[test]
    fn a_user_is_relayed_once_in_a_pause_and_conversation() {
        let mut typings = Typings::default();
        assert!(typings.take(user(1), conv(1), 0));
        assert!(!typings.take(user(1), conv(1), limits::TYPING_PACE_MS - 1));
        assert!(typings.take(user(1), conv(2), 5) && typings.take(user(2), conv(1), 5));
        assert!(typings.take(user(1), conv(1), limits::TYPING_PACE_MS));
        typings.check();
    }

    #[test]
    fn neither_a_user_nor_a_shard_relays_without_end() {
        let mut typings = Typings::default();
        let relayed = (1..=100).filter(|&n| typings.take(user(1), conv(n), 0)).count();
        assert_eq!(relayed, limits::TYPING_CONVS_MAX);
        let relayed = (2..100_000).filter(|&n| typings.take(user(n), conv(1), 0)).count();
        assert_eq!(relayed, limits::TYPINGS_MAX - limits::TYPING_CONVS_MAX);
        typings.check();
        assert!(typings.take(user(1), conv(1), limits::TYPING_PACE_MS));
        assert_eq!(typings.pauses.len(), 1, "what is over is forgotten");
    }
}

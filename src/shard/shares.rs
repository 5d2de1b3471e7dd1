//! How many posts each user has under way, so that nobody's take the places of all.
//!
//! Owns: the count of each user's unanswered posts, all sessions together, and the rule how many
//! these may be ([`most_of`]).
//! Never: refuses a post; a session over its share is not read until one is answered.
//! Bounds: users with a post under way, which are no more than there are places in the lanes.

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use super::Shard;
use super::effect::Effects;
use super::lanes::Crowding;
use super::session::Session;
use crate::ids::UserId;
use crate::limits::ANSWERS_PENDING_MAX;
use crate::wire::Profile;

/// Posts that one user may have under way, all sessions together.
const fn most_of(crowding: Crowding) -> u32 {
    match crowding {
        Crowding::None => ANSWERS_PENDING_MAX,
        Crowding::Half => ANSWERS_PENDING_MAX / 8,
        Crowding::ThreeQuarters => 1,
    }
}

/// The posts under way, by user.
#[derive(Default)]
pub(super) struct Shares {
    under_way: HashMap<UserId, u32, RandomState>,
    /// Users with half of what they may have, or more.
    heavy: u32,
    /// Users of whom a session is not read for its share.
    limited: HashSet<UserId, RandomState>,
}

impl Shares {
    /// A post of `user` is sent to its home.
    pub(super) fn begin(&mut self, user: UserId) {
        let count = self.under_way.entry(user).or_insert(0);
        *count += 1;
        self.heavy += u32::from(*count == ANSWERS_PENDING_MAX / 2);
    }

    /// A post of `user` is answered. Whether a session of that user waits for it.
    pub(super) fn end(&mut self, user: UserId) -> bool {
        let Some(count) = self.under_way.get_mut(&user) else {
            debug_assert!(false, "a post ends once");
            return false;
        };
        self.heavy -= u32::from(*count == ANSWERS_PENDING_MAX / 2);
        *count -= 1;
        if *count == 0 {
            self.under_way.remove(&user);
        }
        !self.limited.is_empty() && self.limited.remove(&user)
    }

    /// How many posts of `user` are under way.
    fn of(&self, user: UserId) -> u32 {
        self.under_way.get(&user).copied().unwrap_or(0)
    }

    /// Whether a session of `user` may wait for the answer to a post. For `check_invariants`.
    pub(super) fn waits(&self, user: UserId) -> bool {
        self.limited.contains(&user)
    }

    /// For `check_invariants`: `posts` are under way.
    pub(super) fn check(&self, posts: usize) {
        let counted: u32 = self.under_way.values().sum();
        assert_eq!(counted as usize, posts, "posts under way are counted by user");
        let heavy = self.under_way.values().filter(|&&count| count >= ANSWERS_PENDING_MAX / 2).count();
        assert_eq!(heavy, self.heavy as usize, "who has many is known");
        assert!(self.limited.iter().all(|&user| self.of(user) > 0), "who waits is woken by an answer");
    }
}

impl Shard {
    /// Whether a session may be read although posts of its user are under way. Half of what a user
    /// may have is whoever's of the sessions that comes first; of the other half each session has
    /// its part. A session with nothing unanswered may always be read, so none starves beside
    /// another.
    pub(super) fn has_share(&self, session: &Session) -> bool {
        let crowding = self.lanes.crowding();
        let calm = self.shares.heavy == 0 && crowding == Crowding::None;
        if calm || session.unanswered == 0 || session.profile == Profile::Room {
            return true;
        }
        let (under_way, most) = (self.shares.of(session.user), most_of(crowding));
        if under_way * 2 < most {
            return true;
        }
        let own = u32::from(session.unanswered);
        match u32::try_from(self.roster.sessions_of(&self.sessions, session.user).len()) {
            Ok(0 | 1) => own < most || under_way == 0,
            Ok(sessions) => own < (most / (2 * sessions)).max(1) || under_way == 0,
            Err(_) => false,
        }
    }

    /// A session of `user` is not read until one of the user's posts is answered.
    pub(super) fn note_limited(&mut self, user: UserId) {
        self.shares.limited.insert(user);
    }

    /// A post of `user` is answered: whoever has waited for it is read again.
    pub(super) fn end_share(&mut self, user: UserId, fx: &mut Effects) {
        if self.shares.end(user) {
            self.regulate_user(user, fx);
        }
    }
}

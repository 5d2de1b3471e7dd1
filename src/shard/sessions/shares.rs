//! How many posts each user has under way, so that no user's take the places of all.
//!
//! Owns: the count of each user's unanswered posts, all sessions together, and the rule how many
//! these may be ([`most_of`]).
//! Never: refuses a post; a session over its share is not read until one is answered.
//! Bounds: users with a post under way, which are no more than there are places in the lanes.

use crate::shard::broken::broken;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use crate::ids::UserId;
use crate::limits::ANSWERS_PENDING_MAX;
use crate::shard::lanes::Crowding;

/// Posts that one user may have under way, all sessions together.
pub(in crate::shard) const fn most_of(crowding: Crowding) -> u32 {
    match crowding {
        Crowding::None => ANSWERS_PENDING_MAX,
        Crowding::Half => ANSWERS_PENDING_MAX / 8,
        Crowding::ThreeQuarters => 1,
    }
}

/// The posts under way, by user.
#[derive(Default)]
pub(in crate::shard) struct Shares {
    under_way: HashMap<UserId, u32, RandomState>,
    /// Users with half of what they may have, or more.
    heavy: u32,
    /// Users of whom a session is not read for its share.
    limited: HashSet<UserId, RandomState>,
}

impl Shares {
    /// A post of `user` is sent to its home.
    pub(in crate::shard) fn begin(&mut self, user: UserId) {
        let count = self.under_way.entry(user).or_insert(0);
        *count += 1;
        self.heavy += u32::from(*count == ANSWERS_PENDING_MAX / 2);
    }

    /// A post of `user` is answered. Whether a session of that user waits for it.
    pub(in crate::shard) fn end(&mut self, user: UserId) -> bool {
        let Some(count) = self.under_way.get_mut(&user) else { broken("a post ends once") };
        self.heavy -= u32::from(*count == ANSWERS_PENDING_MAX / 2);
        *count -= 1;
        if *count == 0 {
            self.under_way.remove(&user);
        }
        !self.limited.is_empty() && self.limited.remove(&user)
    }

    /// Whether no user has many posts under way.
    pub(super) const fn is_calm(&self) -> bool {
        self.heavy == 0
    }

    /// A session of `user` is not read until one of the user's posts is answered.
    pub(in crate::shard) fn limit(&mut self, user: UserId) {
        self.limited.insert(user);
    }

    /// How many posts of `user` are under way.
    pub(in crate::shard) fn of(&self, user: UserId) -> u32 {
        self.under_way.get(&user).copied().unwrap_or(0)
    }

    /// Whether a session of `user` may wait for the answer to a post. For `check_invariants`.
    pub(in crate::shard) fn waits(&self, user: UserId) -> bool {
        self.limited.contains(&user)
    }

    /// For `check_invariants`: `posts` are under way.
    pub(in crate::shard) fn check(&self, posts: usize) {
        let counted: u32 = self.under_way.values().sum();
        assert_eq!(counted as usize, posts, "posts under way are counted by user");
        let heavy = self.under_way.values().filter(|&&count| count >= ANSWERS_PENDING_MAX / 2).count();
        assert_eq!(heavy, self.heavy as usize, "users with many are known");
        assert!(self.limited.iter().all(|&user| self.of(user) > 0), "a session that waits is woken by an answer");
    }
}

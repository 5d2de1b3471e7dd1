//! Between whom of this shard's users and others a block stands.
//!
//! Owns: the blocks of users that are online here, both those of their own and those of others
//! against them, as the store has said at the open and the control plane since; and the rule that
//! neither of the two hears of the other: no typing, no read marks, no presence, and nothing that
//! is volatile.
//! Never: judges what is stored; the store does, with the whole list.
//! Bounds: [`limits::BLOCKS_MAX`] each way and user, kept only while the user is online and has
//! any; [`limits::BLOCKS_RECENT_MAX`] changes.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::ids::UserId;
use crate::limits;

/// The blocks of one user that is online.
#[derive(Debug, Default)]
struct BlockLists {
    /// Users that this one has blocked, ascending.
    own: Vec<UserId>,
    /// Users that have blocked this one, ascending.
    others: Vec<UserId>,
}

impl BlockLists {
    fn set(list: &mut Vec<UserId>, user: UserId, on: bool) {
        match list.binary_search(&user) {
            Ok(at) if !on => {
                list.remove(at);
            }
            Err(at) if on && list.len() < limits::BLOCKS_MAX as usize => list.insert(at, user),
            Ok(_) | Err(_) => {}
        }
    }
}

/// A change since a moment ago.
#[derive(Clone, Copy, Debug)]
struct BlockChange {
    at_ms: u64,
    owner: UserId,
    other: UserId,
    on: bool,
}

/// The blocks of a shard's users.
#[derive(Default)]
pub(in crate::shard) struct Blocks {
    lists: HashMap<UserId, BlockLists, FixedState>,
    recent: VecDeque<BlockChange>,
}

impl Blocks {
    /// The store has said how things stood when it was asked; what has changed lately is newer.
    pub(in crate::shard) fn learn(&mut self, user: UserId, own: Vec<UserId>, others: Vec<UserId>, now_ms: u64) {
        let mut lists = BlockLists { own, others };
        for change in self.recent.iter().filter(|change| change.at_ms + limits::BLOCKS_RECENT_MS >= now_ms) {
            if change.owner == user {
                BlockLists::set(&mut lists.own, change.other, change.on);
            } else if change.other == user {
                BlockLists::set(&mut lists.others, change.owner, change.on);
            }
        }
        self.keep(user, lists);
    }

    /// `owner` has blocked `other`, or not any more; `here`: which of the two are online here.
    pub(in crate::shard) fn change(&mut self, owner: UserId, other: UserId, on: bool, here: [bool; 2], now_ms: u64) {
        if self.recent.len() >= limits::BLOCKS_RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(BlockChange { at_ms: now_ms, owner, other, on });
        if here[0] {
            let mut lists = self.lists.remove(&owner).unwrap_or_default();
            BlockLists::set(&mut lists.own, other, on);
            self.keep(owner, lists);
        }
        if here[1] {
            let mut lists = self.lists.remove(&other).unwrap_or_default();
            BlockLists::set(&mut lists.others, owner, on);
            self.keep(other, lists);
        }
    }

    fn keep(&mut self, user: UserId, lists: BlockLists) {
        if lists.own.is_empty() && lists.others.is_empty() {
            self.lists.remove(&user);
        } else {
            self.lists.insert(user, lists);
        }
    }

    /// The user has no session here any more.
    pub(in crate::shard) fn forget(&mut self, user: UserId) {
        self.lists.remove(&user);
    }

    /// Whether one of the two has blocked the other, as far as it is known of `user`, which is
    /// online here.
    pub(in crate::shard) fn between(&self, user: UserId, other: UserId) -> bool {
        let found = |list: &[UserId]| list.binary_search(&other).is_ok();
        self.lists.get(&user).is_some_and(|lists| found(&lists.own) || found(&lists.others))
    }

    /// Whether `other` has blocked `user`, which is online here.
    pub(in crate::shard) fn is_blocked_by(&self, user: UserId, other: UserId) -> bool {
        self.lists.get(&user).is_some_and(|lists| lists.others.binary_search(&other).is_ok())
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self, is_here: impl Fn(UserId) -> bool) {
        assert!(self.recent.len() <= limits::BLOCKS_RECENT_MAX, "changes are bounded");
        for (&user, lists) in &self.lists {
            assert!(is_here(user), "blocks are kept of users that are online");
            for list in [&lists.own, &lists.others] {
                assert!(
                    list.len() <= limits::BLOCKS_MAX as usize && list.is_sorted(),
                    "a list is bounded and in order"
                );
            }
            assert!(!lists.own.is_empty() || !lists.others.is_empty(), "a user without blocks costs nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u64) -> UserId {
        UserId::new(n).expect("small")
    }

    #[test]
    fn a_block_stands_between_the_two_until_it_ends() {
        let mut blocks = Blocks::default();
        blocks.learn(user(1), vec![user(2)], vec![user(3)], 0);
        assert!(
            blocks.between(user(1), user(2)) && blocks.between(user(1), user(3)) && !blocks.between(user(1), user(4))
        );
        assert!(blocks.is_blocked_by(user(1), user(3)) && !blocks.is_blocked_by(user(1), user(2)));
        blocks.change(user(2), user(1), true, [false, true], 10);
        blocks.change(user(1), user(2), false, [true, false], 20);
        assert!(blocks.between(user(1), user(2)), "the other way round it still stands");
        blocks.change(user(2), user(1), false, [false, true], 30);
        assert!(!blocks.between(user(1), user(2)));
        blocks.change(user(3), user(1), false, [false, true], 30);
        blocks.check(|_| false);
    }

    #[test]
    fn an_older_reading_does_not_undo_a_change() {
        let mut blocks = Blocks::default();
        blocks.change(user(2), user(1), true, [false, false], 1_000);
        blocks.learn(user(1), vec![], vec![], 1_500);
        assert!(blocks.is_blocked_by(user(1), user(2)));
        blocks.learn(user(1), vec![], vec![], 1_001 + limits::BLOCKS_RECENT_MS);
        assert!(!blocks.between(user(1), user(2)), "by now the store knows better");
    }

    #[test]
    fn lists_and_changes_are_bounded() {
        let mut blocks = Blocks::default();
        for n in 2..2 + 3 * u64::from(limits::BLOCKS_MAX) {
            blocks.change(user(n), user(1), true, [false, true], n);
        }
        blocks.check(|of| of == user(1));
        blocks.forget(user(1));
        blocks.check(|_| false);
    }
}

//! What crosses between shards for one message, by the design alone.
//!
//! A post goes to the home of its conversation and its answer comes back, unless the author is at
//! home there; and the home sends the message to every other shard on which somebody is to get it,
//! but not to the author's, whose answer carries it.
//!
//! Owns: [`hops`] and [`hops_to_all`], the figures that the counters of a run are held against.

use std::collections::BTreeSet;

use imgate::ids::{ConvId, ShardId, UserId, home_of, shard_of};

/// Messages from one shard to another that one message of `author` in `conv` causes while `members`
/// are online.
#[must_use]
pub fn hops(author: UserId, conv: ConvId, members: impl IntoIterator<Item = UserId>, shards: u16) -> u32 {
    let (from, home) = (shard_of(author, shards), home_of(conv, shards));
    let listening: BTreeSet<ShardId> = members.into_iter().map(|member| shard_of(member, shards)).collect();
    let sent = listening.into_iter().filter(|&shard| shard != from && shard != home).count();
    u32::try_from(sent).unwrap_or(u32::MAX) + if from == home { 0 } else { 2 }
}

/// The same if the messages of a group went to every shard, whoever is there.
#[must_use]
pub fn hops_to_all(author: UserId, conv: ConvId, shards: u16) -> u32 {
    let all = u32::from(shards);
    if shard_of(author, shards) == home_of(conv, shards) { all - 1 } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgate::ids::GroupId;

    fn user(number: u64) -> UserId {
        UserId::new(number).expect("an id")
    }

    #[test]
    fn direct_messages_hop_never_once_or_twice() {
        let mut seen = [0.0; 3];
        for (a, b) in (1..=400).flat_map(|a| (1..=50).map(move |b| (user(a), user(1000 + b)))) {
            for (author, other) in [(a, b), (b, a)] {
                let hops = hops(author, ConvId::direct(a, b), [author, other], 4);
                seen[hops as usize] += 1.0 / 40_000.0;
            }
        }
        // A quarter at home on one shard, and of the others every second one begins at the home.
        let near = |is: f64, should: f64| (is - should).abs() < 0.02;
        assert!(near(seen[0], 0.25) && near(seen[1], 0.375) && near(seen[2], 0.375), "{seen:?}");
    }

    #[test]
    fn a_group_hops_to_those_who_listen() {
        let conv = ConvId::Group(GroupId::new(1).expect("an id"));
        for author in (1..=100).map(user) {
            let everybody = || (1..=1000).map(user);
            assert_eq!(hops(author, conv, everybody(), 8), hops_to_all(author, conv, 8));
            assert_eq!(hops(author, conv, everybody(), 1), 0);
            let alone = hops(author, conv, [author], 8);
            assert_eq!(alone, if shard_of(author, 8) == home_of(conv, 8) { 0 } else { 2 });
        }
    }
}

//! What a group's home keeps of the shards that listen is what is there.

use super::*;

/// Groups listed at their homes.
fn listed(world: &World) -> usize {
    world.shards.iter().map(|shard| shard.home.listened()).sum()
}

/// A group whose home is another shard than that of `user`.
fn group_elsewhere(user: &str) -> String {
    let elsewhere = |&group: &u64| {
        let group = GroupId::new(group).expect("in range");
        home_of(ConvId::Group(group), SHARDS) != shard_of(user_of(user), SHARDS)
    };
    (1..).find(elsewhere).expect("most are").to_string()
}

#[test]
fn who_joins_while_she_is_away_is_not_listened_for() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let group = group_elsewhere("a");
    let mut run = |line: &str| {
        world.line(line);
        world.settle();
        listed(&world)
    };
    assert_eq!(run(&format!("join a {group}")), 0, "nobody is there");
    assert_eq!(run("a: open"), 1);
    assert_eq!(run(&format!("join a {group}")), 1, "she is there");
    assert_eq!(run(&format!("join d {group}")), 1, "somebody else's news change nothing");
    assert_eq!(run("a: gone"), 0);
}

#[test]
fn a_farewell_and_an_opening_that_cross_lose_nothing() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let group = group_elsewhere("a");
    for line in ["b: open".to_owned(), format!("join b {group}")] {
        world.line(&line);
        world.settle();
    }
    // The word of the join is under way, and the session opens before it has come.
    world.line(&format!("join a {group}"));
    world.line("a: open");
    world.settle();
    world.trace.clear();
    world.line(&format!("b -> #{group}: hi [x]"));
    world.settle();
    assert!(world.trace.contains("a: push #1 b hi"), "{}", world.trace);
}

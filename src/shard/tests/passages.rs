//! When the ways of messages began, as the shards remember it until they have been given.

use super::*;
use crate::shard::Passage;
use crate::wire::packet::Milestones;

/// `a`, `b` and `c`, each on a shard of its own, in group 7; nothing was measured yet.
fn three_shards() -> World {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for line in ["a: open", "b: open", "c: open", "join a 7", "join b 7", "join c 7", "wait 1000"] {
        world.line(line);
        world.settle();
    }
    let mut shards = ["a", "b", "c"].map(|name| world.named(name).shard);
    shards.sort_unstable();
    assert_eq!(shards, [0, 1, 2]);
    assert!(passages(&mut world).is_empty(), "nothing was said");
    world
}

/// What the shards have been given, by shard.
fn passages(world: &mut World) -> Vec<(usize, Passage)> {
    let shards = world.shards.iter_mut().enumerate();
    shards.flat_map(|(shard, of)| of.passages().map(|passage| (shard, passage)).collect::<Vec<_>>()).collect()
}

fn run(world: &mut World, lines: &[&str]) {
    for line in lines {
        world.line(line);
        world.settle();
    }
}

#[test]
fn a_direct_message_is_measured_where_it_is_given_to_somebody() {
    let mut world = three_shards();
    world.now.sub_us = 250;
    let said_us = world.now.mono_us();
    run(&mut world, &["hold store", "a -> b: hi"]);
    world.now.sub_us = 0;
    run(&mut world, &["wait 30"]);
    assert!(passages(&mut world).is_empty(), "it is not stored");
    let known_us = world.now.mono_us();
    run(&mut world, &["release store"]);
    let at = world.named("b").shard;
    let passage = Passage { milestones: Milestones { said_us, known_us }, count: 1 };
    assert_eq!(passages(&mut world), [(at, passage)], "not where its author gets the ack");
    assert_eq!(known_us - said_us, 29_750);
    run(&mut world, &["b: gone", "a -> b: are you there?"]);
    assert!(passages(&mut world).is_empty(), "it was given to no session");
}

#[test]
fn a_group_message_is_measured_once_on_each_shard_that_gives_it_to_a_member() {
    let mut world = three_shards();
    let said_us = world.now.mono_us();
    run(&mut world, &["a -> #7: one", "a -> #7: two"]);
    let readers = ["b", "c"].map(|name| world.named(name).shard);
    let seen = passages(&mut world);
    let shards: Vec<usize> = seen.iter().map(|(shard, _)| *shard).collect();
    assert_eq!(shards.len(), 2, "where only the author is, the ack takes its place: {seen:?}");
    assert!(readers.iter().all(|reader| shards.contains(reader)), "{seen:?}");
    assert!(seen.iter().all(|(_, passage)| passage.count == 2 && passage.milestones.said_us == said_us), "{seen:?}");
}

#[test]
fn what_no_session_is_shown_is_not_measured() {
    let mut world = three_shards();
    run(&mut world, &["b: gone", "b: open legacy", "a -> b: oops"]);
    assert_eq!(passages(&mut world).len(), 1);
    run(&mut world, &["a: recalls b 1"]);
    assert!(passages(&mut world).is_empty(), "an old page sees nothing of it");
}

#[test]
fn a_post_that_is_tried_again_is_as_old_as_its_first_try() {
    let mut world = three_shards();
    run(&mut world, &["a: gone", "a: open legacy", "wait 5"]);
    passages(&mut world);
    let said_us = world.now.mono_us();
    run(&mut world, &["fail store", "a -> b: hi", "wait 40", "release store", "wait 400"]);
    let seen = passages(&mut world);
    assert_eq!(seen.len(), 1, "{seen:?}");
    let Milestones { said_us: found_us, known_us } = seen[0].1.milestones;
    assert!(found_us == said_us && known_us >= said_us + 40_000, "{seen:?}");
}

#[test]
fn what_is_not_taken_is_bounded() {
    let mut world = three_shards();
    let at = world.named("b").shard;
    for _ in 0..limits::PASSAGES_MAX + 9 {
        world.line("a -> b: hi");
        world.settle();
        world.now.mono_ms += 1;
    }
    let seen: Vec<Passage> = world.shards[at].passages().collect();
    let count: u64 = seen.iter().map(|passage| passage.count).sum();
    assert_eq!((seen.len(), count), (limits::PASSAGES_MAX, limits::PASSAGES_MAX as u64 + 9));
}

//! A busy group's messages wait for each other, in their order, and nobody else's do.

use super::*;

/// `a`, `b` and `c` in group 7, which is busy: it has had a message every five milliseconds for a
/// while, thirty in all.
fn busy_world() -> World {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for shard in &mut world.shards {
        shard.io.setup.coalesce_ms = 5;
    }
    for line in ["a: open", "b: open", "c: open", "join a 7", "join b 7", "join c 7"] {
        world.line(line);
        world.settle();
    }
    for _ in 0..30 {
        world.line("a -> #7: noise");
        world.settle();
        world.line("wait 5");
        world.settle();
    }
    assert!(world.shards.iter().any(|shard| shard.io.tally.coalesced > 0), "the group is busy");
    world.trace.clear();
    world
}

fn check_busy(script: &str, expect: &str) {
    check_in(busy_world(), script, expect);
}

#[test]
fn what_comes_within_the_budget_leaves_together_and_the_ack_has_its_place() {
    check_busy(
        "a -> #7: one [x]
         wait 2
         b -> #7: two [y]
         wait 2
         c: beat
         wait 1",
        "c: beat
         a: ack #31 x
         a: push #32 b two
         b: push #31 a one
         b: ack #32 y
         c: push #31 a one
         c: push #32 b two",
    );
}

#[test]
fn a_batch_is_one_send_per_member() {
    let mut world = busy_world();
    let sweeps = |world: &World| world.shards.iter().map(|shard| shard.io.tally.sweeps).sum::<u64>();
    let shards_with_members = sweeps(&world).div_ceil(30);
    let before = sweeps(&world);
    for line in ["a -> #7: one", "wait 1", "a -> #7: two", "wait 1", "a -> #7: three", "wait 3"] {
        world.line(line);
        world.settle();
    }
    assert_eq!(sweeps(&world) - before, shards_with_members);
    assert!(world.trace.contains("push #33 a three"), "{}", world.trace);
}

#[test]
fn a_quiet_group_and_direct_messages_never_wait() {
    check_busy(
        "a -> #7: one [x]
         c -> b: at once [y]
         wait 5
         wait 100
         a -> #7: two [z]",
        "b: push #1 c at once
         c: ack #1 y
         a: ack #31 x
         b: push #31 a one
         c: push #31 a one
         a: ack #32 z
         b: push #32 a two
         c: push #32 a two",
    );
}

#[test]
fn the_deadline_is_told_and_counted_from_the_first_that_waits() {
    let mut world = busy_world();
    let due = world.now.mono_ms + 5;
    world.line("a -> #7: one");
    world.settle();
    world.line("wait 3");
    world.line("b -> #7: two");
    world.settle();
    let deadlines = world.shards.iter().filter_map(Shard::deadline_ms);
    assert_eq!(deadlines.min(), Some(due));
}

#[test]
fn who_leaves_while_messages_wait_does_not_get_them_and_who_joins_gets_the_next() {
    check_busy(
        "a -> #7: one [x]
         leave b 7
         join d 7
         d: open
         a -> #7: two [y]
         wait 5",
        "notice 1: Done
         notice 1: Done
         d: ready 11:7 head 31 recv 0 read 0 unread 0
         a: ack #31 x
         a: ack #32 y
         c: push #31 a one
         c: push #32 a two
         d: push #32 a two",
    );
}

#[test]
fn a_stop_waits_for_nothing() {
    check_busy(
        "a -> #7: one [x]
         quiesce",
        "a: ack #31 x
         b: push #31 a one
         c: push #31 a one",
    );
}

#[test]
fn a_mark_does_not_wait_and_what_waited_goes_before_it() {
    let mut world = busy_world();
    world.line("a -> #7: one");
    world.settle();
    let group = GroupId::new(7).expect("small");
    let conv = ConvId::Group(group);
    for shard in 0..world.shards.len() {
        let (from, upto) = (Seq::new(32).expect("small"), Seq::new(32).expect("small"));
        world.step(shard, Event::Peer { from: ShardId(0), msg: PeerMsg::Mark { conv, from, upto } });
        let waits =
            world.shards[shard].sessions.roster.group_mut(group).is_some_and(|(_, group)| group.due_ms.is_some());
        assert!(!waits, "shard {shard} sweeps now");
    }
    world.settle();
    assert!(world.trace.contains("b: push #31 a one"), "{}", world.trace);
}

//! The acks of a stream of direct messages wait for each other; its messages and everybody else's
//! acks do not.

use super::*;

/// So many posts, one each millisecond, make the next one's ack wait.
const QUICK: usize = 17;

/// `a` and `b`; `a` has posted `posts` direct messages, one each millisecond.
fn world_after(posts: usize) -> World {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for shard in &mut world.shards {
        shard.io.setup.coalesce_ms = 5;
    }
    for line in ["a: open", "b: open"] {
        world.line(line);
        world.settle();
    }
    for _ in 0..posts {
        run(&mut world, &["a -> b: noise", "wait 1"]);
    }
    world.trace.clear();
    world
}

fn run(world: &mut World, lines: &[&str]) {
    for line in lines {
        world.line(line);
        world.settle();
    }
}

fn waited(world: &World) -> u64 {
    world.shards.iter().map(|shard| shard.io.tally.acks_waited).sum()
}

#[test]
fn nobody_waits_who_posts_now_and_then() {
    let mut world = world_after(0);
    for _ in 0..100 {
        run(&mut world, &["a -> b: hello", "wait 6"]);
    }
    assert_eq!(waited(&world), 0);
}

#[test]
fn the_acks_of_a_stream_leave_together_and_its_messages_at_once() {
    // A millisecond before the first that waits has waited for five.
    let mut world = world_after(QUICK + 4);
    assert_eq!(waited(&world), 4);
    run(&mut world, &["a -> b: last"]);
    let heard: Vec<&str> = world.trace.lines().collect();
    assert_eq!(heard, ["b: push #22 a last"], "the acks wait");
    run(&mut world, &["wait 1"]);
    let acks = world.trace.lines().filter(|line| line.starts_with("a: ack")).count();
    assert_eq!(acks, 5, "{}", world.trace);
}

#[test]
fn the_deadline_is_told() {
    let mut world = world_after(QUICK);
    run(&mut world, &["a -> b: first [x]"]);
    let due = world.now.mono_ms + 5;
    assert!(world.shards.iter().any(|shard| shard.deadline_ms() == Some(due)), "the driver knows when to wake");
    run(&mut world, &["wait 4"]);
    assert!(!world.trace.contains("ack"), "{}", world.trace);
    run(&mut world, &["wait 1"]);
    assert!(world.trace.contains("a: ack #18 x"), "{}", world.trace);
}

#[test]
fn whatever_else_is_to_be_sent_takes_them_along() {
    let mut world = world_after(QUICK);
    run(&mut world, &["a -> b: one [x]", "b -> a: two"]);
    let mut heard: Vec<&str> = world.trace.lines().collect();
    heard.sort_by_key(|line| line.split(':').next());
    assert_eq!(heard, ["a: ack #18 x", "a: push #19 b two", "b: push #18 a one", "b: ack #19 -"]);
}

#[test]
fn who_falls_silent_for_an_ack_is_soon_given_each_at_once() {
    // Each post comes a millisecond after the ack of the one before.
    let mut world = world_after(0);
    let mut late = Vec::new();
    for n in 0..200 {
        run(&mut world, &["a -> b: next"]);
        let began = world.now.mono_ms;
        let ack = format!("a: ack #{} -\n", n + 1);
        while !world.trace.contains(&ack) {
            assert!(world.now.mono_ms <= began + 5, "no ack waits for longer than the budget");
            run(&mut world, &["wait 1"]);
        }
        if world.now.mono_ms > began {
            late.push(n);
        }
        run(&mut world, &["wait 1"]);
    }
    assert_eq!(late, [17, 21, 29, 45, 77, 141], "the rest after each has doubled");
}

#[test]
fn many_acks_do_not_wait_for_the_deadline() {
    let mut world = world_after(QUICK);
    for _ in 0..limits::ACKS_WAITING_MAX {
        assert!(!world.trace.contains("ack"), "{}", world.trace);
        run(&mut world, &["a -> b: more"]);
    }
    assert_eq!(world.trace.matches("a: ack").count(), limits::ACKS_WAITING_MAX as usize);
}

#[test]
fn a_stop_and_a_close_take_them_along() {
    let mut world = world_after(QUICK);
    run(&mut world, &["a -> b: last [x]", "quiesce"]);
    assert!(world.trace.contains("a: ack #18 x"), "{}", world.trace);
    let mut world = world_after(QUICK);
    run(&mut world, &["a -> b: last [x]", "banned a"]);
    let ack = world.trace.find("a: ack #18 x");
    assert!(ack.is_some() && ack < world.trace.find("a: close"), "{}", world.trace);
}

//! Slow readers: what they may keep alive, who goes first, and what those who catch up together
//! share.

use std::cmp::Reverse;

use super::*;
use crate::metrics::tally::Slowness;
use crate::shard::session::outbox::{Form, Frame};
use crate::wire::Packet;

/// The first `count` users who live on shard 0, connected.
fn here(world: &mut World, count: usize) -> Vec<String> {
    let names = ('a'..='z').map(String::from).filter(|name| shard_of(user_of(name), SHARDS).0 == 0);
    let names: Vec<String> = names.take(count).collect();
    assert_eq!(names.len(), count, "so many letters live there");
    for name in &names {
        world.open(name, &[], Device::Web);
        world.settle();
    }
    names
}

fn say(world: &mut World, line: &str) {
    world.line(line);
    world.settle();
}

/// `who` is sent a message of so many bytes by itself, on another device: nobody else has it.
fn fill(world: &mut World, who: &str, bytes: usize) {
    let to = user_of(who);
    let conv = ConvId::direct(to, to);
    let packet = Arc::new(Packet::chat(conv, to, None, 1, &format!(r#""x":"{}""#, "x".repeat(bytes))));
    let frame = Frame::new(packet);
    let conn = world.named(who).conn;
    let Shard { sessions, io, .. } = &mut world.shards[0];
    let session = sessions.table.get_mut(conn).expect("it is open");
    session.outbox_mut(&mut io.held, io.now.mono_ms).push(frame, Form::Plain, &mut io.held);
    sessions.ask_flush(io, conn);
    let effects: Vec<Effect> = io.effects.drain().collect();
    effects.into_iter().for_each(|effect| world.act(0, effect));
}

#[test]
fn the_slowest_go_first_and_no_more_than_has_to() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let names = here(&mut world, 4);
    for name in &names {
        world.line(&format!("stall {name}"));
    }
    // The same for all, one after the other: who came first has waited longest. The last has the
    // most, but only since now.
    for name in &names[..3] {
        fill(&mut world, name, 10_000);
        world.line("wait 1000");
        world.settle();
    }
    fill(&mut world, &names[3], 20_000);
    let before = world.shards[0].held();
    assert!((50_000..60_000).contains(&before), "{before}");
    world.shards[0].io.setup.outbox_part = 35_000;
    world.step(0, Event::Overdrawn { bytes: 12_000 });
    let held = world.shards[0].held();
    assert!((25_000..35_000).contains(&held), "two have gone: {held}");
    world.step(0, Event::Overdrawn { bytes: 12_000 });
    assert_eq!(world.shards[0].held(), held, "it keeps no more than its part: it is another shard's turn");
    for name in &names {
        say(&mut world, &format!("drain {name}"));
    }
    let closed = |name: &String| world.trace.contains(&format!("{name}: close 4001"));
    assert_eq!(names.iter().map(closed).collect::<Vec<_>>(), [true, true, false, false], "{}", world.trace);
    assert_eq!(world.shards[0].tally().slow[Slowness::Budget as usize], 2);
    assert_eq!(world.shards[0].held(), 0, "everything was taken, or let go");
}

#[test]
fn when_the_process_takes_too_much_caches_go_first_and_then_the_slowest() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let names = here(&mut world, 2);
    for (name, bytes) in names.iter().zip([20_000, 5_000]) {
        world.line(&format!("stall {name}"));
        fill(&mut world, name, bytes);
        world.line("wait 1000");
        world.settle();
    }
    world.step(0, Event::Shed { bytes: 0 });
    assert!(world.shards[0].held() > 25_000, "what waits for readers is no cache");
    // However little the shard keeps of the budget of outboxes.
    world.step(0, Event::Shed { bytes: 1 });
    let held = world.shards[0].held();
    assert!((5_000..10_000).contains(&held), "one has gone: {held}");
    let tally = world.shards[0].tally();
    assert_eq!((tally.caches_shed, tally.slow[Slowness::Memory as usize]), (2, 1));
    for name in &names {
        say(&mut world, &format!("drain {name}"));
    }
    let closed = |name: &String| world.trace.contains(&format!("{name}: close 4001"));
    assert_eq!(names.iter().map(closed).collect::<Vec<_>>(), [true, false], "{}", world.trace);
}

#[test]
fn a_volatile_session_loses_its_messages_and_stays() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, true);
    let names = here(&mut world, 1);
    world.line(&format!("stall {}", names[0]));
    fill(&mut world, &names[0], 10_000);
    fill(&mut world, &names[0], 10_000);
    world.shards[0].io.setup.outbox_part = 1000;
    world.step(0, Event::Overdrawn { bytes: 100_000 });
    assert_eq!(world.shards[0].tally().dropped, 2);
    world.line("wait 1000000");
    say(&mut world, &format!("drain {}", names[0]));
    say(&mut world, &format!("{}: beat", names[0]));
    assert!(!world.trace.contains("4001"), "{}", world.trace);
}

#[test]
fn a_peer_that_talks_and_takes_nothing_is_given_up() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let names = here(&mut world, 2);
    world.line(&format!("stall {}", names[0]));
    fill(&mut world, &names[0], 1000);
    let mut waited_ms = 0;
    while world.shards[0].tally().slow[Slowness::Stalled as usize] == 0 {
        assert!(waited_ms < limits::STALL_MS_MAX + 60_000, "it is looked at often enough");
        waited_ms += 20_000;
        say(&mut world, "wait 20000");
        names.iter().for_each(|name| say(&mut world, &format!("{name}: beat")));
    }
    assert!(waited_ms >= limits::STALL_MS_MAX, "not before: {waited_ms}");
    say(&mut world, &format!("drain {}", names[0]));
    assert!(world.trace.contains(&format!("{}: close 4001", names[0])), "{}", world.trace);
    assert!(!world.trace.contains(&format!("{}: close", names[1])), "who takes its answers stays");
}

/// Only what waits at the end of a look counts, and only while somebody looks.
#[test]
fn an_operator_sees_for_whom_how_much_waits() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let names = here(&mut world, 3);
    for name in &names {
        world.line(&format!("stall {name}"));
    }
    fill(&mut world, &names[1], 20_000);
    assert!(world.shards[0].look(false).is_none());
    assert!(world.shards[0].look(true).is_none());
    fill(&mut world, &names[2], 10_000);
    let mut users = world.shards[0].look(false).expect("it was looked").users;
    users.sort_unstable_by_key(|(_, weights)| Reverse(weights.queued));
    let queued: Vec<_> = users.iter().map(|(user, weights)| (*user, weights.queued / 1000)).collect();
    assert_eq!(queued, [(user_of(&names[1]), 20), (user_of(&names[2]), 10)], "nothing waits for the first one");
}

#[test]
fn a_session_is_read_on_before_the_last_answer_is_taken() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let name = here(&mut world, 1).remove(0);
    let conn = world.named(&name).conn;
    let paused = |world: &World| world.shards[0].sessions.table.get(conn).expect("it is open").paused;
    world.line(&format!("stall {name}"));
    for _ in 0..limits::ANSWERS_PENDING_MAX {
        say(&mut world, &format!("{name}: beat"));
    }
    assert!(paused(&world));
    let all = world.shards[0].outbox(conn).expect("the answers wait").bytes();
    let take = |world: &mut World, n: usize| {
        let mut scratch = vec![0; all];
        let transmit = world.shards[0].poll_send(world.now, conn, &mut scratch, &mut world.fx).expect("answers wait");
        assert!(transmit.sent(n), "and there are more");
        world.obey(0);
    };
    take(&mut world, all / 4);
    assert!(paused(&world), "too few were taken");
    take(&mut world, all / 2);
    assert!(!paused(&world), "a quarter is left");
}

#[test]
fn those_who_lack_the_same_share_one_read_and_one_encoding() {
    const MESSAGES: usize = 300;
    let mut world = World::new(20_000, false);
    let names = here(&mut world, 6);
    names.iter().for_each(|name| say(&mut world, &format!("join {name} 7")));
    for name in &names[1..] {
        world.line(&format!("stall {name}"));
    }
    let body = "x".repeat(1000);
    for n in 0..MESSAGES {
        say(&mut world, &format!("{} -> #7: {body} [{n}]", names[0]));
    }
    let one = world.shards[0].held();
    assert!(one < 2 * 20_000, "five outboxes refer to the same frames: {one}");
    assert_eq!(world.shards[0].tally().went_behind, 5);
    world.held = true;
    for name in &names[1..] {
        world.line(&format!("drain {name}"));
    }
    world.settle();
    assert_eq!(world.shards[0].tally().catch_up_reads, 1, "they come from the same place");
    world.held = false;
    world.settle();
    let tally = world.shards[0].tally();
    let (reads, rows) = (tally.catch_up_reads, tally.caught_up);
    assert!(rows > 5 * 250 && reads <= rows / 5 / 15, "{reads} reads for {rows} rows");
    for name in &names[1..] {
        let pushes = world.trace.lines().filter(|line| line.starts_with(&format!("{name}: push #"))).count();
        assert_eq!(pushes, MESSAGES, "{name}");
    }
    assert_eq!(world.shards[0].held(), 0, "nothing is kept when nobody is behind");
}

#[test]
fn reads_of_those_who_catch_up_are_bounded_and_nobody_is_forgotten() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let names = here(&mut world, 5);
    // No room for a page at all: one read at a time all the same.
    world.shards[0].io.setup.outbox_part = 1;
    for name in &names {
        say(&mut world, &format!("{name} -> {name}: hello [{name}]"));
    }
    world.held = true;
    for name in &names {
        let (conn, user) = (world.named(name).conn, user_of(name));
        let one = Seq::new(1).expect("small");
        let Shard { io, sessions, deliveries, .. } = &mut world.shards[0];
        deliveries.catching_up.went_behind(io, sessions, conn, ConvId::direct(user, user), one, one);
        io.effects.drain().collect::<Vec<_>>().into_iter().for_each(|effect| world.act(0, effect));
    }
    assert_eq!(world.store.len(), 1, "the others wait in line");
    world.held = false;
    world.settle();
    for name in &names {
        assert!(world.trace.contains(&format!("{name}: push #1 {name} hello")), "{name}: {}", world.trace);
    }
}

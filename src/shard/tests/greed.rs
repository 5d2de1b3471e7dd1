//! What one user may take: the pace, the brakes on what has no answer, the shares of the places for
//! posts. The others are told what they would have been told.

use super::*;
use crate::fair::Flow;
use crate::limits::{
    ANSWERS_PENDING_MAX, APPENDS_UNDER_WAY_MAX, FRESH_APPENDS_RESERVED, GREED_MS_MAX, OPEN_ASKS_RESERVED,
    STORE_ASKS_MAX,
};
use crate::metrics::tally::Merged;

const OFF: Flow = Flow { per_second: 0, burst: 0 };

/// Ten messages at once, and 25 in a second.
const SLOW: PaceLimits = PaceLimits { user: [Flow { per_second: 100, burst: 40 }, OFF, OFF], guest: [OFF; 3] };

impl World {
    fn is_paused(&mut self, name: &str) -> bool {
        let (shard, conn) = (self.named(name).shard, self.named(name).conn);
        self.shards[shard].sessions.table.get(conn).expect("it is open").paused
    }

    fn lines(&mut self, lines: &str) {
        for line in lines.lines() {
            self.line(line.trim());
            self.settle();
        }
    }

    fn pong(&mut self, name: &str) {
        let (shard, conn) = (self.named(name).shard, self.named(name).conn);
        self.step(shard, Event::Pong { conn, payload: Box::default() });
    }

    fn sum(&mut self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.shards.iter_mut().map(|shard| of(shard.tally())).sum()
    }
}

fn paced() -> World {
    let mut world = World::paced(limits::OUTBOX_BYTES_MAX, false, SLOW);
    world.lines("a: open\na2: open\nb: open");
    world
}

#[test]
fn who_is_over_the_pace_is_not_read_until_it_has_come_back_and_loses_nothing() {
    let mut world = paced();
    for n in 0..10 {
        assert!(!world.is_paused("a"), "a burst is allowed");
        world.lines(&format!("a -> b: {n}"));
    }
    world.lines("a -> b: last");
    assert!(world.is_paused("a") && world.is_paused("a2"), "the pace is of a user, not of a session");
    assert!(!world.is_paused("b"), "and of nobody else");
    assert_eq!(world.sum(|tally| tally.pauses[0]), 1);
    assert_eq!(world.trace.matches("a: ack").count(), 11, "what was read is heard");
    world.lines("a3: open");
    assert!(world.is_paused("a3"), "a new session of the same user waits, too");
    // A newcomer is asked about a few milliseconds later.
    world.lines("wait 130");
    assert!(world.is_paused("a"));
    world.lines("wait 10");
    assert!(["a", "a2", "a3"].iter().all(|name| !world.is_paused(name)));
    world.lines("wait 10000");
    assert_eq!(world.shards.iter().map(|shard| shard.io.tally.paced).sum::<u64>(), 0);
}

#[test]
fn who_never_keeps_the_pace_is_closed_and_the_users_other_device_is_not() {
    let mut world = paced();
    let begun_ms = world.now.mono_ms;
    while !world.trace.contains("a: close 4429") {
        if !world.is_paused("a") {
            world.pong("a");
        } else {
            world.lines("wait 10");
        }
        if world.now.mono_ms.is_multiple_of(5_000) && !world.is_paused("a2") {
            world.lines("a2: beat");
        }
        assert!(world.now.mono_ms <= begun_ms + GREED_MS_MAX + 1_000, "patience ends");
    }
    assert!(world.now.mono_ms >= begun_ms + GREED_MS_MAX);
    let (shard, conn, of) = (world.named("a").shard, world.named("a").conn, world.named("a2").conn);
    let user = world.shards[shard].user_of(conn);
    assert!(user.is_some() && user == world.shards[shard].user_of(of), "the log can say whose it was");
    world.lines("wait 60000");
    assert!(!world.is_paused("a2") && !world.trace.contains("a2: close"));
    assert_eq!(world.sum(|tally| tally.closed[crate::wire::CloseCode::TooFast.index()]), 1);
}

#[test]
fn heartbeats_and_pongs_that_were_asked_for_never_run_out() {
    let mut world = paced();
    for _ in 0..60 {
        world.lines(&format!("wait {}\na: beat", limits::PING_AFTER_MS));
        assert!(!world.is_paused("a"));
    }
    let (shard, conn) = (world.named("a").shard, world.named("a").conn);
    for asked in [true, false] {
        for _ in 0..20 {
            world.shards[shard].sessions.table.get_mut(conn).expect("it is open").pings = u8::from(asked);
            world.pong("a");
        }
        assert_eq!(world.is_paused("a"), !asked, "twenty that nobody wants cost more than a burst");
    }
}

#[test]
fn fragments_and_bytes_are_charged_for() {
    let bytes = Flow { per_second: 1000, burst: 1000 };
    let mut world =
        World::paced(limits::OUTBOX_BYTES_MAX, false, PaceLimits { user: [SLOW.user[0], OFF, bytes], ..SLOW });
    world.lines("a: open\nb: open");
    let spend = |world: &mut World, name, bytes, fragments| {
        let (shard, conn) = (world.named(name).shard, world.named(name).conn);
        world.step(shard, Event::Spent { conn, bytes, fragments, inflated: 0 });
        world.is_paused(name)
    };
    assert!(!spend(&mut world, "a", 500, 10));
    assert!(spend(&mut world, "a", 10, 1), "eleven fragments are more than a burst");
    assert!(!spend(&mut world, "b", 1000, 0));
    assert!(spend(&mut world, "b", 1, 0));
    assert_eq!([world.sum(|tally| tally.pauses[0]), world.sum(|tally| tally.pauses[2])], [1, 1]);
}

#[test]
fn an_idle_deadline_rests_while_its_session_does() {
    let slow = Flow { per_second: 1, burst: 200 };
    let mut world = World::paced(limits::OUTBOX_BYTES_MAX, false, PaceLimits { user: [slow, OFF, OFF], ..SLOW });
    world.lines("a: open");
    (0..55).for_each(|_| world.pong("a"));
    assert!(world.is_paused("a"));
    world.lines("wait 15000\nwait 5100");
    assert!(!world.trace.contains("ping") && !world.is_paused("a"), "{}", world.trace);
}

#[test]
fn watch_lists_are_carried_out_once_a_second_and_the_last_one_is() {
    check(
        "a: open
         b: open
         c: open
         a: watches b
         a: watches c
         a: watches
         a: watches b c
         wait 999
         wait 1
         a: watches c
         a: gone
         wait 5000",
        "a: b online
         a: b online
         a: c online",
    );
}

#[test]
fn two_lists_in_turn_cost_one_replacement_a_second() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    world.lines("a: open");
    for n in 0..1000 {
        world.line(if n % 2 == 0 { "a: watches b c d" } else { "a: watches e f g" });
    }
    assert_eq!(world.sum(|tally| tally.merged[Merged::Watch as usize]), 998, "one was carried out, one waits");
    world.lines("wait 1000");
    world.shards.iter().for_each(Shard::check_invariants);
}

#[test]
fn a_read_mark_of_what_does_not_exist_is_refused_and_leaves_nothing() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    world.lines(
        "a: open
         join b 7
         a: recv b 5 read 5
         a: recv #7 5 read 5",
    );
    assert_eq!(world.trace.matches("a: refused 17").count(), 1, "{}", world.trace);
    assert_eq!(world.trace.matches("a: refused 10").count(), 1, "{}", world.trace);
    assert!(world.db.cursors.is_empty() && world.shards.iter().all(|shard| shard.social.cursors().next_ms().is_none()));
    for n in 0..1000 {
        let of = Target::User(UserId::new(1000 + n).expect("small"));
        world.command("a", Command::Cursor(Cursor { of, recv: Seq::new(1).expect("small"), read: Seq::ZERO }));
        assert!(world.store.len() <= limits::CLAIM_ASKS_MAX as usize, "the store is asked at a pace");
    }
    world.settle();
    assert!(world.trace.contains("a: refused 20"), "so many do not wait");
    for _ in 0..limits::CLAIMS_PER_USER_MAX {
        world.lines(&format!("wait {}", limits::CLAIM_ASK_MS));
    }
    assert_eq!(world.trace.matches("a: refused").count(), 1002, "every one is answered");
    world.shards.iter().for_each(Shard::check_invariants);
}

#[test]
fn a_read_mark_above_the_head_is_cut_where_it_comes_in() {
    check(
        "a: open
         b: open
         a -> b: one
         b: recv a 1000000 read 1000000
         a -> b: two
         b: recv a 1000000 read 900000
         a -> b: three
         wait 5000
         b: recv a 3 read 3
         wait 5000",
        "a: ack #1 -
         b: push #1 a one
         a: cursor of b in 10:2 1 1
         b: cursor of b in 10:1 1 1
         a: ack #2 -
         b: push #2 a two
         a: ack #3 -
         b: push #3 a three
         a: cursor of b in 10:2 2 2
         b: cursor of b in 10:1 2 2
         a: cursor of b in 10:2 3 3
         b: cursor of b in 10:1 3 3",
    );
}

#[test]
fn of_the_read_marks_that_wait_for_the_store_the_last_one_counts() {
    check(
        "a: open
         b: open
         b -> a: one
         b -> a: two
         b -> a: three
         fail store
         a: recv b 1 read 1
         a: recv b 2 read 2
         a: recv b 3 read 2
         release store
         wait 100",
        "a: push #1 b one
         b: ack #1 -
         a: push #2 b two
         b: ack #2 -
         a: push #3 b three
         b: ack #3 -
         a: cursor of a in 10:2 3 2
         b: cursor of a in 10:1 3 2",
    );
}

#[test]
fn hints_are_told_every_two_seconds_and_the_last_one_is() {
    check(
        r"a: open
          join a 7
          changed a groups 1
          changed a groups 2
          changed a groups 3
          changed a friends 9
          regroup 7
          regroup 7
          wait 1999
          wait 1",
        r#"notice 1: Done
           a: hint "groups" 1
           notice 1: Done
           notice 1: Done
           notice 1: Done
           a: hint "friends" 9
           notice 1: Done
           a: hint "groups" 7
           notice 1: Done
           notice 1: Done
           notice 1: Done
           notice 1: Done
           notice 1: Done
           notice 1: Done
           a: hint "groups" 3
           a: hint "groups" 7"#,
    );
}

#[test]
fn one_list_of_a_user_is_read_at_a_time() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    world.lines("b: open\na: open\na2: open\nb -> a: hi\nhold store");
    for _ in 0..=limits::LISTS_WAITING_MAX {
        world.lines("a: convs");
    }
    assert_eq!(world.store.len(), 1);
    world.lines("a2: convs");
    assert!(world.trace.contains("a2: refused 20"));
    world.lines("a2: gone\nrelease store");
    assert_eq!(world.trace.matches("a: ready 10:2").count(), limits::LISTS_WAITING_MAX + 1);
    world.lines("a: convs");
    assert_eq!(world.trace.matches("a: ready 10:2").count(), limits::LISTS_WAITING_MAX + 2);
}

#[test]
fn unanswered_posts_count_for_the_user_and_each_device_has_its_part() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    world.lines("a: open\na2: open\nb: open\nhold store");
    let post_until_paused = |world: &mut World, name: &str| {
        let mut posts = 0;
        while !world.is_paused(name) {
            world.line(&format!("{name} -> b: {posts}"));
            posts += 1;
        }
        posts
    };
    assert_eq!(post_until_paused(&mut world, "a"), ANSWERS_PENDING_MAX / 2, "the half that is the first one's");
    assert_eq!(post_until_paused(&mut world, "a2"), ANSWERS_PENDING_MAX / 4, "and a part of the other");
    assert_eq!(post_until_paused(&mut world, "b"), ANSWERS_PENDING_MAX, "a user of one device has all");
    world.lines("a: gone\nrelease store");
    assert!(!world.is_paused("a2") && !world.is_paused("b"));
    world.shards.iter().for_each(Shard::check_invariants);
    assert_eq!(world.shards.iter().map(Shard::outstanding).sum::<usize>(), 0);
}

#[test]
fn while_a_lane_is_crowded_each_user_has_few_posts() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    world.lines("a: open\nb: open\nhold store");
    let (shard, home) = (world.named("a").shard, home_of(ConvId::direct(user_of("a"), user_of("b")), SHARDS));
    let fill = |world: &mut World, posts: u32| {
        while world.shards[shard].io.lanes.posts() < posts {
            assert!(world.shards[shard].io.lanes.reserve_post(home, 1));
        }
    };
    fill(&mut world, limits::POSTS_PER_LANE_MAX / 2);
    let post = |world: &mut World, most: u32| {
        for n in 0..most {
            assert!(!world.is_paused("a"), "{n} of {most}");
            world.shards[shard].sessions.shares().check(n as usize);
            let conn = world.named("a").conn;
            let post = Post { to: Target::User(user_of("b")), cid: None, body: r#""x":1"#.into() };
            world.shards[shard].handle(Event::Command { conn, command: Command::Post(post) });
        }
        world.shards[shard].io.effects.drain().for_each(drop);
        world.is_paused("a")
    };
    assert!(post(&mut world, ANSWERS_PENDING_MAX / 8), "half full: an eighth");
}

#[test]
fn posts_that_find_the_store_full_wait_in_turn_by_author() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let conv = ConvId::Group(GroupId::new(9).expect("small"));
    let home = usize::from(home_of(conv, SHARDS).0);
    for name in ["a", "b", "c"] {
        world.db.members.insert((GroupId::new(9).expect("small"), user_of(name)), Seq::ZERO);
        world.lines(&format!("{name}: open"));
    }
    world.lines("a -> #9: first\nhold store");
    let full: Vec<u32> = (0..APPENDS_UNDER_WAY_MAX)
        .map(|_| world.shards[home].io.asks.take(Purpose::Append { post: u32::MAX, bytes: 1 }).expect("there is room"))
        .collect();
    world.trace.clear();
    world.lines("a -> #9: a1\na -> #9: a2\na -> #9: a3\nb -> #9: b1\nc -> #9: c1");
    assert!(world.store.is_empty() && world.trace.is_empty(), "they wait, and are not refused");
    full.into_iter().for_each(|ask| assert!(world.shards[home].io.asks.settle(ask).is_some()));
    world.lines("release store");
    let texts: Vec<&str> = world.trace.lines().filter_map(|line| line.strip_prefix("c: push #")).collect();
    assert_eq!(
        texts,
        ["2 b b1", "4 a a1", "5 a a2", "6 a a3"],
        "whoever has one is before whoever has three; c's own is the third"
    );
    world.shards.iter().for_each(Shard::check_invariants);
}

#[test]
fn whoever_writes_now_and_then_finds_a_place_in_a_store_that_is_full_for_others() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let conv = ConvId::Group(GroupId::new(9).expect("small"));
    let home = usize::from(home_of(conv, SHARDS).0);
    for name in ["a", "b"] {
        world.db.members.insert((GroupId::new(9).expect("small"), user_of(name)), Seq::ZERO);
        world.lines(&format!("{name}: open"));
    }
    world.lines("a -> #9: first\nhold store");
    let asks = &mut world.shards[home].io.asks;
    let taken: Vec<u32> = (0..APPENDS_UNDER_WAY_MAX - FRESH_APPENDS_RESERVED)
        .map(|_| asks.take(Purpose::Append { post: u32::MAX, bytes: 1 }).expect("there is room"))
        .collect();
    world.trace.clear();
    world.lines("a -> #9: a1\na -> #9: a2\na -> #9: a3\nb -> #9: b1");
    assert_eq!(world.store.len(), 2, "each has one place there, and a's further ones wait");
    taken.into_iter().for_each(|ask| assert!(world.shards[home].io.asks.settle(ask).is_some()));
    world.lines("release store");
    let texts: Vec<&str> = world.trace.lines().filter_map(|line| line.strip_prefix("b: push #")).collect();
    assert_eq!(texts, ["2 a a1", "4 a a2", "5 a a3"], "b's own is the third");
    world.shards.iter().for_each(Shard::check_invariants);
}

#[test]
fn sessions_that_open_have_places_that_nothing_else_can_fill() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let conv = ConvId::direct(user_of("a"), user_of("b"));
    let shard = usize::from(shard_of(user_of("a"), SHARDS).0);
    let asks = &mut world.shards[shard].io.asks;
    let reads = std::iter::from_fn(|| asks.take(Purpose::Mark { user: user_of("a"), conv })).count();
    assert_eq!(reads, limits::READ_ASKS_MAX);
    let posts = std::iter::from_fn(|| asks.take(Purpose::Append { post: u32::MAX, bytes: 0 })).count();
    let others = std::iter::from_fn(|| asks.take(Purpose::Gap { conv })).count();
    assert_eq!(posts, STORE_ASKS_MAX as usize / 2);
    assert_eq!(reads + posts + others, STORE_ASKS_MAX as usize - OPEN_ASKS_RESERVED);
    world.line("hold store");
    world.line("a: open");
    assert_eq!(world.store.len(), 1, "the newcomer is asked about all the same");
}

#[test]
fn a_user_of_two_thousand_groups_connects_and_goes_in_a_few_steps_for_each() {
    const GROUPS: usize = limits::GROUPS_JOINED_MAX as usize;
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for n in 1..=GROUPS as u64 {
        world.db.members.insert((GroupId::new(n).expect("small"), user_of("a")), Seq::ZERO);
    }
    world.lines("a: open\na2: open");
    let shard = world.named("a").shard;
    let opened = world.shards[shard].sessions.roster.steps();
    assert!(opened <= 40 * GROUPS, "{opened} steps to connect twice");
    // Its places are taken by the other device's.
    world.line("a: gone");
    let gone = world.shards[shard].sessions.roster.steps() - opened;
    assert!(gone <= 20 * GROUPS, "{gone} steps to go");
    world.shards[shard].check_invariants();
}

//! Sessions of which the store has not said yet who they are.

use super::far::{one_of_several, words_told};
use super::*;
use crate::shard::far::{FarIn, FarWord};
use crate::wire::CloseCode;

/// The sessions that were closed, each with its code.
fn closed(world: &World) -> Vec<(String, u16)> {
    let lines = world.trace.lines().filter_map(|line| line.trim().split_once(": close "));
    lines.map(|(name, code)| (name.to_owned(), code.parse().expect("a code"))).collect()
}

/// As many sessions as the policy of these tests allows, and all of them open.
fn full() -> World {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for name in ["a: open", "a1: open", "a2: open", "a3: phone"] {
        world.line(name);
        world.settle();
    }
    world.line("wait 1000");
    world.settle();
    world.trace.clear();
    world
}

#[test]
fn a_session_that_is_not_let_in_takes_the_place_of_none() {
    for (token_epoch, banned, code) in [(1, false, CloseCode::BadToken), (0, true, CloseCode::Banned)] {
        let mut world = full();
        (world.db.token_epoch, world.db.banned) = (token_epoch, banned);
        for name in ["a4", "a5", "a6"] {
            world.line(&format!("{name}: open"));
            world.line(&format!("{name}: phone"));
            world.settle();
            world.line("wait 1000");
            world.settle();
        }
        let closed = closed(&world);
        assert_eq!(closed.len(), 6, "{}", world.trace);
        assert!(closed.iter().all(|(name, with)| name.as_str() > "a3" && *with == code.code()), "{}", world.trace);
    }
}

#[test]
fn a_session_whose_peer_is_gone_before_it_opens_takes_the_place_of_none() {
    let mut world = full();
    world.line("hold store");
    for name in ["a4", "a5", "a6"] {
        world.line(&format!("{name}: phone"));
        world.settle();
        world.line(&format!("{name}: gone"));
        world.settle();
    }
    world.line("release store");
    world.line("wait 1000");
    world.settle();
    assert_eq!(closed(&world), [], "{}", world.trace);
    // Nor does one whose peer has gone long ago, which its connection says only when it is read.
    world.ended = true;
    world.line("a6: phone");
    world.line("wait 1000");
    world.settle();
    assert_eq!(closed(&world), [], "{}", world.trace);
    world.line("a6: gone");
    // Nor does one that goes while the store is asked.
    world.ended = false;
    world.line("hold store");
    world.line("a6: phone");
    world.settle();
    world.line("a6: ends");
    world.line("release store");
    world.line("wait 1000");
    world.settle();
    assert_eq!(closed(&world), [], "{}", world.trace);
    world.line("a6: gone");
    // One that stays does take it, once it is let in.
    world.line("hold store");
    world.line("a7: phone");
    world.settle();
    assert_eq!(closed(&world), [], "{}", world.trace);
    world.line("release store");
    world.line("wait 1000");
    world.settle();
    assert_eq!(closed(&world), [("a3".to_owned(), CloseCode::Replaced.code())], "{}", world.trace);
}

#[test]
fn a_session_whose_peer_had_left_helps_to_push_out_none() {
    let mut world = full();
    world.ended = true;
    world.line("a4: open");
    world.line("wait 1000");
    world.settle();
    assert_eq!(closed(&world), [], "{}", world.trace);
    world.line("a5: open");
    world.line("wait 1000");
    world.settle();
    assert_eq!(closed(&world), [("a".to_owned(), CloseCode::Replaced.code())], "{}", world.trace);
}

#[test]
fn other_gateways_hear_of_a_session_when_it_is_let_in() {
    let (mut world, _) = one_of_several();
    let shard = usize::from(shard_of(user_of("c"), SHARDS).0);
    let rows = [(user_of("c"), true)].into();
    world.step(shard, Event::Far(FarIn::Elsewhere { rows }));
    let told = |world: &mut World| {
        words_told(world).into_iter().filter(|word| matches!(word, FarWord::Devices { .. })).count()
    };
    world.db.banned = true;
    world.line("c: open");
    world.line("wait 1000");
    world.settle();
    assert_eq!(told(&mut world), 0, "{}", world.trace);
    world.db.banned = false;
    world.line("c1: open");
    world.line("wait 1000");
    world.settle();
    assert_eq!(told(&mut world), 1, "{}", world.trace);
}

#[test]
fn a_user_may_have_so_many_sessions_that_are_about_to_open() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    world.line("hold store");
    for n in 0..limits::OPENINGS_PER_USER_MAX + 3 {
        world.line(&format!("a{n}: open"));
    }
    world.settle();
    let last = |n: usize| (format!("a{}", limits::OPENINGS_PER_USER_MAX + n), CloseCode::Unavailable.code());
    assert_eq!(closed(&world), [last(0), last(1), last(2)], "{}", world.trace);
    world.line("b: open");
    world.settle();
    assert_eq!(closed(&world).len(), 3, "another user has places of its own");
}

#[test]
fn a_store_that_never_answers_holds_nobody_for_ever() {
    for profile in ["", " legacy"] {
        let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
        world.held = true;
        world.line(&format!("a: open{profile}"));
        world.settle();
        world.line(&format!("wait {}", limits::IDLE_MS - 1));
        world.settle();
        assert_eq!(world.trace, "", "she waits");
        // Each slot is looked at once a round, a part of them each second.
        for _ in 0..2 {
            world.line("wait 1000");
            world.settle();
        }
        assert_eq!(world.trace, format!("a: close {}\n", CloseCode::Unavailable.code()));
        // Its answer comes after all, and means nothing any more.
        world.line("release store");
        world.settle();
        assert_eq!(world.trace.lines().count(), 1, "{}", world.trace);
    }
}

#[test]
fn a_session_ends_with_its_token_also_when_it_only_listens() {
    for profile in ["", " legacy"] {
        let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
        world.token_ms = Some(60_000);
        world.line(&format!("a: open{profile}"));
        world.token_ms = None;
        world.line("b: open");
        world.settle();
        world.line("wait 59000");
        world.settle();
        assert!(!world.trace.contains("a: ping"), "no ping before the close: {}", world.trace);
        world.trace.clear();
        for _ in 0..4 {
            world.line("wait 1000");
            world.settle();
        }
        let closed: Vec<&str> = world.trace.lines().filter(|line| line.contains("close")).collect();
        assert_eq!(closed, [format!("a: close {}", CloseCode::BadToken.code())]);
        let revoked: u64 = world.shards.iter_mut().map(|shard| shard.tally().revoked[0]).sum();
        assert_eq!(revoked, 1);
    }
}

#[test]
fn what_another_gateway_did_to_a_membership_ends_hearing_the_group() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for line in ["join a 7", "join b 7", "a: open", "b: open"] {
        world.line(line);
        world.settle();
    }
    world.line("wait 10000");
    world.settle();
    world.seen("b", "7", None, 0);
    world.settle();
    world.trace.clear();
    world.line("a -> #7: hello");
    world.settle();
    assert!(!world.trace.contains("b:"), "{}", world.trace);
    world.seen("b", "7", Some(1), 0);
    world.settle();
    world.trace.clear();
    world.line("a -> #7: again");
    world.settle();
    assert!(world.trace.contains("b:"), "{}", world.trace);
    // A reading from before a change of this home is no news.
    world.line("leave b 7");
    world.settle();
    world.line("join b 7");
    world.settle();
    world.trace.clear();
    world.seen("b", "7", None, 0);
    world.settle();
    assert!(world.trace.contains("Retry"), "{}", world.trace);
    world.line("a -> #7: still");
    world.settle();
    assert!(world.trace.contains("b:"), "{}", world.trace);
}

/// Stores a message of `who` without telling a shard of it.
fn store(world: &mut World, who: &str, conv: ConvId, text: &str, ts_ms: u64) {
    let key = PostKey::Client(format!("{}", world.db.next_id).into());
    let body = format!(r#""content":"{text}""#).into();
    world.db.insert(&store::NewMessage { conv, sender: user_of(who), key, ts_ms, body });
}

fn wait_for_introductions(world: &mut World) {
    for _ in 0..20 {
        world.line(&format!("wait {}", limits::RETRY_MS));
        world.settle();
    }
}

#[test]
fn a_page_gets_a_friends_message_however_much_a_group_has_said() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let group = ConvId::Group(GroupId::new(7).expect("in range"));
    for who in ["a", "b"] {
        world.db.members.insert((GroupId::new(7).expect("in range"), user_of(who)), Seq::ZERO);
    }
    for n in 1..=250 {
        store(&mut world, "a", group, "chatter", n);
    }
    store(&mut world, "c", ConvId::direct(user_of("b"), user_of("c")), "call me", 249);
    world.line("b: open legacy");
    world.settle();
    wait_for_introductions(&mut world);
    let pushes: Vec<&str> = world.trace.lines().filter(|line| line.starts_with("b: push")).collect();
    assert!(pushes.contains(&"b: push #1 c call me"), "{}", world.trace);
    assert!(pushes.contains(&"b: push #250 a chatter"), "{}", world.trace);
    assert_eq!(pushes.len() as u64, limits::REPLAY_MAX);
}

#[test]
fn a_page_that_has_caught_up_in_a_quiet_conversation_takes_the_batches_of_others() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for line in ["a: open", "join a 7", "join b 7", "a -> b: missed", "b: open legacy"] {
        world.line(line);
        world.settle();
    }
    wait_for_introductions(&mut world);
    assert!(world.trace.contains("b: push #1 a missed"), "{}", world.trace);
    let (shard, conn) = (world.named("b").shard, world.named("b").conn);
    world.turns = false;
    world.line("a -> #7: hi");
    world.settle();
    world.shards[shard].step(world.now, Event::TurnEnd, &mut world.fx);
    world.obey(shard);
    world.shards[shard].step(world.now, Event::Sweep, &mut world.fx);
    let batched = |effect: Effect| matches!(effect, Effect::Broadcast { conns, .. } if conns.contains(&conn));
    assert!(world.fx.drain().any(batched), "nothing is missing in the group");
}

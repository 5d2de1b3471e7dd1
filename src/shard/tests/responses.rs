//! The response to an upgrade: it waits for what its session is told first, and leaves before
//! anything else.

use super::*;
use crate::auth::Identity;

const RESPONSE: &[u8] = b"101";

/// A session of shard 0 that has just been upgraded.
fn open(world: &mut World, slot: u32, profile: Profile) -> ConnId {
    let key = Key::new([7; 32]);
    let token = key.issue(user_of("a"), 0, Issuer::Own, u64::MAX >> 12);
    let identity = if profile == Profile::Room {
        Identity::GUEST
    } else {
        key.verify(&token, world.now.wall_ms).expect("a fresh token")
    };
    let hello = Hello { identity, profile, device: Device::Web, device_tag: 0, deflate: None };
    let conn = ConnId { slot, generation: 1 };
    world.step(0, Event::Open { conn, hello, response: RESPONSE.into(), ended: false });
    conn
}

/// Sends what shard 0 has for a connection now.
fn send(world: &mut World, conn: ConnId) -> Option<Vec<u8>> {
    let mut scratch = [0; 4096];
    let transmit = world.shards[0].poll_send(world.now, conn, &mut scratch, &mut world.fx)?;
    let bytes = transmit.bytes().to_vec();
    assert!(!transmit.sent(bytes.len()), "it goes in one send");
    world.obey(0);
    Some(bytes)
}

#[test]
fn only_a_session_that_will_be_told_something_waits() {
    let legacy = Profile::Legacy(Echo::None);
    for (profile, volatile, waits) in [
        (Profile::V2, false, true),
        (Profile::V2, true, false),
        (legacy, false, true),
        (legacy, true, true),
        (Profile::Room, false, false),
        (Profile::Room, true, false),
    ] {
        let mut world = World::new(limits::OUTBOX_BYTES_MAX, volatile);
        let conn = open(&mut world, 0, profile);
        assert_eq!(world.dirty.contains(&(0, conn)), !waits, "{profile:?}, volatile: {volatile}");
        let due = waits.then_some(world.now.mono_ms + limits::WELCOME_MS_MAX);
        assert_eq!(world.shards[0].sessions.responses().next_ms(), due, "{profile:?}, volatile: {volatile}");
    }
}

#[test]
fn it_leaves_in_one_send_with_what_is_told_first() {
    for (profile, text) in [(Profile::V2, "\"cmd\":5"), (Profile::Legacy(Echo::None), "welcome")] {
        let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
        world.turns = false;
        let conn = open(&mut world, 0, profile);
        world.settle();
        assert!(world.dirty.contains(&(0, conn)), "{profile:?}");
        let sent = send(&mut world, conn).expect("something is queued");
        assert!(sent.starts_with(RESPONSE) && String::from_utf8_lossy(&sent).contains(text), "{profile:?}");
    }
}

#[test]
fn a_late_store_holds_it_up_no_longer_than_it_may_and_nothing_goes_with_it() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    (world.held, world.turns) = (true, false);
    let conn = open(&mut world, 0, Profile::Legacy(Echo::None));
    world.now.mono_ms += limits::WELCOME_MS_MAX - 1;
    world.step(0, Event::TurnEnd);
    assert!(world.dirty.is_empty());
    world.now.mono_ms += 1;
    world.step(0, Event::TurnEnd);
    assert_eq!(world.dirty, [(0, conn)]);
    assert_eq!(send(&mut world, conn).as_deref(), Some(RESPONSE), "nobody knows yet whose session it is");
    assert_eq!(send(&mut world, conn), None);
    world.held = false;
    world.settle();
    let welcome = send(&mut world, conn).expect("it has opened");
    assert!(String::from_utf8_lossy(&welcome).contains("welcome"));
}

#[test]
fn a_session_that_ends_before_its_response_has_left_gets_it_and_the_close_frame() {
    for open_first in [false, true] {
        let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
        (world.held, world.turns) = (!open_first, false);
        let conn = open(&mut world, 0, Profile::V2);
        world.settle();
        world.line("close all");
        let sent = send(&mut world, conn).expect("it is told");
        assert!(sent.starts_with(RESPONSE) && sent.len() > RESPONSE.len());
        world.shards[0].check_invariants();
    }
}

#[test]
fn a_session_that_is_answered_or_gone_leaves_nothing_behind() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    (world.held, world.turns) = (true, false);
    let conns = [0, 1, 2].map(|slot| {
        world.now.mono_ms = 100 + u64::from(slot);
        open(&mut world, slot, Profile::V2)
    });
    let next_ms = |world: &World| world.shards[0].sessions.responses().next_ms();
    assert_eq!(next_ms(&world), Some(100 + limits::WELCOME_MS_MAX));
    assert_eq!(send(&mut world, conns[1]).as_deref(), Some(RESPONSE));
    assert_eq!(next_ms(&world), Some(100 + limits::WELCOME_MS_MAX), "the first still waits");
    world.step(0, Event::Gone { conn: conns[0] });
    assert_eq!(next_ms(&world), Some(102 + limits::WELCOME_MS_MAX), "the driver is not woken for those before");
    world.now.mono_ms = 102 + limits::WELCOME_MS_MAX;
    world.step(0, Event::TurnEnd);
    assert_eq!(world.dirty, [(0, conns[2])]);
    assert_eq!(send(&mut world, conns[2]).as_deref(), Some(RESPONSE));
    assert_eq!((next_ms(&world), send(&mut world, conns[2])), (None, None), "each is sent once");
    world.shards[0].check_invariants();
}

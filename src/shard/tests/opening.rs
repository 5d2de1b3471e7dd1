//! Sessions of which the store has not said yet who they are.

use super::*;
use crate::wire::CloseCode;

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

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
        world.line(&format!("wait {}", limits::IDLE_MS_MAX - 1));
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

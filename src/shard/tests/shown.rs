//! What an operator is shown of a user's sessions, and their end by hand.

use super::*;
use crate::fair::Flow;
use crate::wire::CloseCode;

/// One step of the shard of `a`: the answer, and the connections that are to end, with their codes.
fn asked(world: &mut World, notice: Notice) -> (Answer, Vec<(ConnId, Option<u16>)>) {
    let shard = usize::from(shard_of(user_of("a"), SHARDS).0);
    world.shards[shard].step(world.now, Event::Notice { id: 1, notice }, &mut world.fx);
    let (mut answer, mut ends) = (None, Vec::new());
    for effect in world.fx.drain() {
        match effect {
            Effect::Answer { answer: said, .. } => answer = Some(said),
            Effect::Finish { conn, code, by_peer: false } => ends.push((conn, code)),
            _ => {}
        }
    }
    world.shards[shard].check_invariants();
    (answer.expect("it answers at once"), ends)
}

fn shown(world: &mut World) -> Vec<SessionView> {
    let (answer, ends) = asked(world, Notice::Sessions { user: user_of("a") });
    assert_eq!(ends, [], "to look ends nothing");
    let Answer::Sessions(sessions) = answer else { panic!("{answer:?}") };
    sessions.into_vec()
}

#[test]
fn the_sessions_of_a_user_are_shown_as_they_are() {
    let flow = Flow { per_second: 100, burst: 40 };
    let off = Flow { per_second: 0, burst: 0 };
    let pace = PaceLimits { user: [flow, off, off], guest: [off; 3] };
    let mut world = World::paced(limits::OUTBOX_BYTES_MAX, false, pace);
    assert_eq!(shown(&mut world), []);
    for line in ["a: open", "a2: phone", "b: open", "wait 9000", "a: beat", "stall a2", "b -> a: hello"] {
        world.line(line);
        world.settle();
    }
    let sessions = shown(&mut world);
    let seen = |session: &SessionView| (session.device, session.open, session.silent_ms, session.waiting_bytes > 0);
    let seen: Vec<_> = sessions.iter().map(seen).collect();
    assert_eq!(seen, [(Device::Web, true, 0, false), (Device::Phone, true, 9000, true)]);
    assert_eq!(sessions[0].conn, world.named("a").conn);
    assert!(sessions.iter().all(|one| one.held_back.is_none() && !one.behind && one.socket.is_none()));
    for n in 0..11 {
        world.line(&format!("a -> b: {n}"));
        world.settle();
    }
    let held_back: Vec<_> = shown(&mut world).iter().map(|session| session.held_back).collect();
    assert_eq!(held_back, [Some(HeldBack::Pace); 2], "the pace is of the user");
    world.line("hold store");
    world.line("a3: open");
    assert_eq!(shown(&mut world).last().map(|session| session.open), Some(false), "the store has not answered");
}

#[test]
fn one_session_of_a_user_ends_by_hand_or_all_of_them() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for line in ["a: open", "a2: open", "a3: open"] {
        world.line(line);
        world.settle();
    }
    let [first, second, third] = ["a", "a2", "a3"].map(|name| world.named(name).conn);
    let user = user_of("a");
    let mut end = |only| {
        let (answer, ends) = asked(&mut world, Notice::EndSessions { user, only });
        let Answer::Ended { sessions } = answer else { panic!("{answer:?}") };
        (sessions, ends)
    };
    let shutdown = Some(CloseCode::Shutdown.code());
    assert_eq!(end(Some(second)), (1, vec![(second, shutdown)]));
    assert_eq!(end(Some(second)), (0, vec![]), "it has ended");
    let next = ConnId { generation: first.generation + 1, ..first };
    assert_eq!(end(Some(next)), (0, vec![]), "the one that takes over a slot is another");
    assert_eq!(end(None), (2, vec![(first, shutdown), (third, shutdown)]));
    assert_eq!(end(None), (0, vec![]));
    assert_eq!(shown(&mut world), []);
}

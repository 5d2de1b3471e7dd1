//! The list of everybody who is online, read piece by piece.

use super::*;

/// What one shard says, and in how many pieces.
fn listed(world: &mut World, shard: usize) -> (Vec<UserId>, usize) {
    let (mut all, mut from, mut pieces) = (Vec::new(), 0, 0);
    loop {
        let notice = Notice::Roster { from };
        world.shards[shard].step(world.now, Event::Notice { id: 1, notice }, &mut world.fx);
        let answer = world.fx.drain().find_map(|effect| match effect {
            Effect::Answer { answer: Answer::Roster { users, next }, .. } => Some((users, next)),
            _ => None,
        });
        let (users, next) = answer.expect("it answers at once");
        all.extend(users);
        pieces += 1;
        match next {
            Some(next) => from = next,
            None => return (all, pieces),
        }
    }
}

#[test]
fn each_user_online_is_listed_once_wherever_its_sessions_are() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for (slot, name) in
        [(0, "a"), (1, "b"), (ROSTER_SLOTS, "a2"), (3 * ROSTER_SLOTS, "c"), (3 * ROSTER_SLOTS + 1, "a3")]
    {
        world.slots = slot;
        world.line(&format!("{name}: open"));
        world.settle();
    }
    let (mut all, mut pieces) = (Vec::new(), 0);
    for shard in 0..usize::from(SHARDS) {
        let (users, of_shard) = listed(&mut world, shard);
        all.extend(users);
        pieces += of_shard;
    }
    all.sort_unstable();
    assert_eq!(all, ["a", "b", "c"].map(user_of));
    assert!(pieces > usize::from(SHARDS), "{pieces} pieces");
}

//! What may be lost: typing, presence and hints, and who hears of them.

use super::*;

#[test]
fn typing_is_heard_by_the_peers_v2_sessions_and_nobody_else() {
    check(
        "a: open
         a2: open
         b: open
         b2: open legacy
         c: open
         a: types b
         a: types a",
        "b2: text welcome!
         b: a types in 10:1",
    );
}

#[test]
fn typing_in_a_group_is_heard_by_its_other_members_and_refused_to_strangers() {
    check(
        "a: open
         a2: open
         b: open
         b2: open imchat
         c: open
         join a 7
         join b 7
         a: types #7
         c: types #7",
        "b2: text hello,world!
         notice 1: Done
         notice 1: Done
         b: a types in 11:7
         c: refused 10",
    );
}

#[test]
fn typing_is_relayed_at_a_pace_and_dropped_by_a_full_lane() {
    check(
        "a: open
         b: open
         b -> a: awake
         a: types b
         a: types b
         wait 1999
         a: types b
         wait 1
         a: types b
         wait 2000
         full lanes
         a: types b
         free lanes
         wait 2000
         a: types b",
        "a: push #1 b awake
         b: ack #1 -
         b: a types in 10:1
         b: a types in 10:1
         b: a types in 10:1",
    );
}

#[test]
fn typing_in_a_crowd_is_not_relayed() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for n in 1..=2_u64 {
        world.line(&format!("{}: open", letter(n)));
    }
    world.settle();
    world.line("join a 7");
    world.line("join b 7");
    world.settle();
    let shard = usize::from(shard_of(user_of("b"), SHARDS).0);
    let id = GroupId::new(7).expect("in range");
    // A crowd of which only the places matter here: nobody is there when it comes to telling them.
    let (_, group) = world.shards[shard].roster.group_mut(id).expect("b is a member");
    group.members.resize(limits::TYPING_MEMBERS_MAX + 1, u32::MAX);
    let heard = |world: &mut World| {
        world.shards[shard].peer_typing(user_of("a"), ConvId::Group(id), &mut world.fx);
        world.fx.drain().count()
    };
    assert_eq!(heard(&mut world), 0, "one more than so many is a crowd");
    let (_, group) = world.shards[shard].roster.group_mut(id).expect("b is a member");
    group.members.pop();
    assert_eq!(heard(&mut world), 1, "so many are told");
}

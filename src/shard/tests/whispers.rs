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
    // What the group's home says to other shards is another matter.
    world.shards[shard].home = Home::new(&world.shards[shard].io.setup);
    // A crowd of which only the places matter here: nobody is there when it comes to telling them.
    let (_, group) = world.shards[shard].sessions.roster.group_mut(id).expect("b is a member");
    group.members.resize(limits::TYPING_MEMBERS_MAX + 1, u32::MAX);
    let heard = |world: &mut World| {
        let Shard { io, home, sessions, social, .. } = &mut world.shards[shard];
        social.peer_typing(io, sessions, home, user_of("a"), ConvId::Group(id));
        io.effects.drain().count()
    };
    assert_eq!(heard(&mut world), 0, "one more than so many is a crowd");
    let (_, group) = world.shards[shard].sessions.roster.group_mut(id).expect("b is a member");
    group.members.pop();
    assert_eq!(heard(&mut world), 1, "so many are told");
}

#[test]
fn who_watches_is_told_at_once_and_when_it_changes_until_she_stops() {
    check(
        "b: open
         a: open
         a: watches b c
         c: open legacy
         c2: open
         c: gone
         wait 2000
         c2: gone
         wait 2000
         b: gone
         a: watches b
         c: open
         a: watches
         b: open",
        "a: c offline
         a: b online
         a: c online
         c: text welcome!
         a: c offline
         a: b offline
         a: b offline",
    );
}

#[test]
fn a_second_watcher_is_told_from_what_the_shard_knows() {
    check(
        "a: open
         a2: open
         b: open
         a: watches b
         full lanes
         a2: watches b
         free lanes
         b: gone
         a: gone",
        "a: b online
         a2: b online
         a: b offline
         a2: b offline",
    );
}

#[test]
fn a_flapping_connection_is_told_every_two_seconds_at_most_and_in_the_end_as_it_is() {
    check(
        "a: open
         a: watches b
         b: open
         b: gone
         b: open
         b: gone
         wait 1999
         b: open
         wait 1
         b: gone
         wait 1999
         wait 1",
        "a: b offline
         a: b online
         a: b offline",
    );
}

#[test]
fn a_lost_word_about_presence_is_healed_by_asking_again() {
    let (a, b) = ("a", "b");
    assert_ne!(shard_of(user_of(a), SHARDS), shard_of(user_of(b), SHARDS), "there is a lane between them");
    let round = format!("wait {}\n", limits::PRESENCE_TICK_MS).repeat(limits::PRESENCE_TICKS + 1);
    check(
        &format!(
            "a: open
             full lanes
             a: watches b
             free lanes
             wait 1000
             full lanes
             b: open
             free lanes
             {round}"
        ),
        "a: b offline
         a: b online",
    );
}

#[test]
fn watches_end_with_their_session_and_are_forgotten_by_the_users_shard() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let watched =
        |world: &World| world.shards.iter().filter(|shard| shard.social.presences().next_ms().is_some()).count();
    for line in ["a: open", "a: watches b c d e f"] {
        world.line(line);
        world.settle();
    }
    assert!(watched(&world) > 0, "somebody's shard was told");
    world.line("a: gone");
    world.settle();
    assert_eq!(watched(&world), 0, "and told that it is over");
    world.line(&format!("wait {}", limits::WATCH_PACE_MS));
    world.settle();
    assert!(world.shards.iter().all(|shard| shard.social.watches().next_ms().is_none()), "nothing is left to do");
}

#[test]
fn what_is_not_asked_for_again_ends_by_itself() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for line in ["a: open", "a: watches b", "full lanes", "a: gone", "free lanes"] {
        world.line(line);
        world.settle();
    }
    let shard = usize::from(shard_of(user_of("b"), SHARDS).0);
    assert!(world.shards[shard].social.presences().next_ms().is_some(), "the end of the watch was lost");
    let ticks = limits::PRESENCE_LEASE_MS / limits::PRESENCE_TICK_MS + limits::PRESENCE_TICKS as u64;
    for _ in 0..=ticks {
        world.line(&format!("wait {}", limits::PRESENCE_TICK_MS));
        world.settle();
    }
    assert_eq!(world.shards[shard].social.presences().next_ms(), None);
}

#[test]
fn a_crowd_of_watchers_is_bounded_and_everybody_is_answered() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    world.line("a: open");
    world.settle();
    let (shard, conn) = (world.named("a").shard, world.named("a").conn);
    let users: Box<[UserId]> = [user_of("b")].into();
    let watches = world.shards[shard].social.watches_mut();
    for slot in 0..=limits::WATCHERS_PER_USER_MAX as u32 {
        let conn = ConnId { slot, generation: 9 };
        assert_eq!(watches.replace(conn, users.clone()), Some(vec![]), "nothing is known yet");
    }
    assert_eq!(watches.learn(user_of("b"), true).len(), limits::WATCHERS_PER_USER_MAX);
    let owed = std::iter::from_fn(|| watches.pop_owed()).collect::<Vec<_>>();
    let last = ConnId { slot: limits::WATCHERS_PER_USER_MAX as u32, generation: 9 };
    assert_eq!(owed, [(last, user_of("b"), Some(true))], "who was too many hears the first answer as well");
    assert_eq!(
        watches.replace(conn, users.clone()),
        Some(vec![(user_of("b"), true)]),
        "one more is answered all the same"
    );
    let first = ConnId { slot: 0, generation: 9 };
    watches.replace(first, Box::default());
    assert_eq!(watches.replace(last, users.clone()), Some(vec![(user_of("b"), true)]));
    assert!(watches.learn(user_of("b"), false).contains(&last), "its list finds the place that is free now");
    assert_eq!(watches.learn(user_of("b"), true).len(), limits::WATCHERS_PER_USER_MAX);
    for slot in 1..=limits::WATCHERS_PER_USER_MAX as u32 {
        watches.replace(ConnId { slot, generation: 9 }, Box::default());
    }
    assert_eq!(watches.replace(conn, users.clone()), Some(vec![]), "the crowd has gone, and nothing is known");
    assert_eq!(watches.learn(user_of("b"), true), [conn], "it was asked again");
    let too_many: Box<[UserId]> = (0..=limits::WATCHES_MAX as u64).filter_map(|n| UserId::new(n + 1)).collect();
    assert_eq!(watches.replace(conn, too_many), None);
    assert_eq!(watches.replace(conn, users), Some(vec![(user_of("b"), true)]), "nothing has changed");
}

#[test]
fn a_change_elsewhere_is_told_to_the_users_v2_sessions() {
    check(
        "a: open
         a2: open
         a3: open legacy
         b: open
         changed a groups 7
         changed c friends 1",
        r#"a3: text welcome!
         a: hint "groups" 7
         a2: hint "groups" 7
         notice 1: Done
         notice 1: Done"#,
    );
}

#[test]
fn a_group_that_changed_is_told_to_its_members_v2_sessions_wherever_they_live() {
    check(
        "a: open
         a2: open
         a3: open legacy
         b: open
         c: open
         d: open
         join a 7
         join b 7
         join c 7
         leave c 7
         regroup 7",
        r#"a3: text welcome!
         notice 1: Done
         notice 1: Done
         notice 1: Done
         notice 1: Done
         a: hint "groups" 7
         a2: hint "groups" 7
         b: hint "groups" 7
         notice 1: Done
         notice 1: Done
         notice 1: Done"#,
    );
}

#[test]
fn a_crowd_is_not_told_that_its_group_changed() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    world.line("b: open");
    world.settle();
    world.line("join b 7");
    world.settle();
    let (shard, id) = (usize::from(shard_of(user_of("b"), SHARDS).0), GroupId::new(7).expect("in range"));
    let (_, group) = world.shards[shard].sessions.roster.group_mut(id).expect("b is a member");
    group.members.resize(limits::HINT_MEMBERS_MAX + 1, u32::MAX);
    let told = |world: &mut World| {
        world.shards[shard].notice(1, Notice::GroupChanged { group: id });
        world.shards[shard].io.effects.drain().count()
    };
    assert_eq!(told(&mut world), 1, "the answer only");
    // Or it would wait for the end of the pause.
    world.shards[shard].social.forget_hints();
    let (_, group) = world.shards[shard].sessions.roster.group_mut(id).expect("b is a member");
    group.members.pop();
    assert_eq!(told(&mut world), 2, "so many are told");
}

/// What becomes of some lines after the trace of those before was forgotten.
fn then(world: &mut World, lines: &[&str]) -> String {
    world.settle();
    world.trace.clear();
    for line in lines {
        world.line(line);
        world.settle();
    }
    world.trace.lines().filter(|line| !line.starts_with("notice")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn neither_of_two_hears_of_the_other_while_one_has_blocked_the_other() {
    for before_the_open in [true, false] {
        let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
        if before_the_open {
            world.line("block a b on");
        }
        for line in ["b: open", "a: open", "c: open", "c -> a: x", "b -> a: x"] {
            world.line(line);
            world.settle();
        }
        if !before_the_open {
            world.line("block a b on");
        }
        let heard = then(&mut world, &["b: types a", "wait 5000", "a: types b", "wait 5000", "a: recv b 1 read 1"]);
        assert_eq!(heard, "a: cursor of a in 10:2 1 1\n", "her own sessions only, and nobody's typing");
        let heard = then(&mut world, &["c: types a", "wait 5000", "a: recv c 1 read 1"]);
        assert!(heard.contains("a: c types in 10:3") && heard.contains("c: "), "the others do: {heard}");
        // Presence: offline at once, and no word that it came and went.
        let heard = then(
            &mut world,
            &["wait 5000", "b: watches a c", "wait 5000", "a: gone", "wait 5000", "a: open", "wait 5000"],
        );
        assert!(heard.contains("b: a offline") && heard.contains("b: c online"), "every name gets its word: {heard}");
        assert!(!heard.contains("b: a online"), "{heard}");
        let heard = then(&mut world, &["block a b off", "wait 5000", "a: types b"]);
        assert!(heard.contains("b: a types in 10:1"), "until the block ends: {heard}");
    }
}

#[test]
fn who_is_seen_online_goes_offline_with_a_block_and_comes_back_with_its_end() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for line in ["a: open", "b: open", "b: watches a", "wait 5000"] {
        world.line(line);
        world.settle();
    }
    let seen = then(&mut world, &["block a b on"]);
    let gone = then(&mut world, &["wait 5000"]);
    let again = then(&mut world, &["block a b off"]);
    assert_eq!((seen.as_str(), gone.as_str(), again.as_str()), ("b: a offline\n", "", "b: a online\n"));
}

#[test]
fn a_volatile_gateway_honours_blocks() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, true);
    world.line("block a b on");
    for line in ["a: open", "b: open", "c: open"] {
        world.line(line);
        world.settle();
    }
    let heard = then(&mut world, &["b -> a: hello [c1]"]);
    assert_eq!(heard, "b: refused 13\n");
    let heard = then(&mut world, &["a -> b: hello", "c -> a: hello"]);
    assert!(heard.contains("b: push") && heard.contains("a: push"), "who blocks may still write: {heard}");
    let heard = then(&mut world, &["block a b off", "b -> a: hello"]);
    assert!(heard.contains("a: push"), "{heard}");
}

//! The first message after a rest: one transaction, and nothing that was stored meanwhile is lost.

use super::*;

const LONG_AGO_MS: u64 = 1;

/// A message of another gateway.
fn foreign(world: &mut World, conv: ConvId, ts_ms: u64) {
    let (n, sender) = (world.db.next_id + 1, user_of("b"));
    let (key, body) = (PostKey::Client(format!("foreign {n}").into()), r#""content":"foreign""#.into());
    world.db.insert(&store::NewMessage { conv, sender, key, ts_ms, body });
}

/// Two users with a session each, whose conversation has an old message and rests.
fn resting() -> (World, ConvId) {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let conv = ConvId::direct(user_of("a"), user_of("b"));
    foreign(&mut world, conv, LONG_AGO_MS);
    for line in ["a: open", "b: open", "hold store"] {
        world.line(line);
        world.settle();
    }
    world.trace.clear();
    (world, conv)
}

fn say(world: &mut World, lines: &[&str]) {
    for line in lines {
        world.line(line);
        world.settle();
    }
}

/// What the clients were told, by client: which of two is told first is not promised.
fn told(world: &mut World) -> Vec<String> {
    let mut lines: Vec<String> = mem::take(&mut world.trace).lines().map(str::to_owned).collect();
    lines.sort_by_key(|line| line.split(':').next().map(str::to_owned));
    lines
}

/// The transactions and reads that the store is asked for, those that follow included, one each.
fn work_off(world: &mut World) -> Vec<&'static str> {
    let mut done = Vec::new();
    while let Some((shard, ask, what)) = world.store.pop_front() {
        let reply = match what {
            Ask::Write(write) => {
                done.push(if matches!(write, Write::Head(_)) { "head" } else { "write" });
                Reply::Written(Ok(world.db.write(&write)))
            }
            Ask::Read(read) => {
                done.push("read");
                Reply::Read(Ok(world.db.read(&read)))
            }
        };
        world.step(shard, Event::Settled { ask, reply });
        world.settle();
    }
    done
}

#[test]
fn the_first_message_after_a_rest_costs_one_transaction() {
    let (mut world, _) = resting();
    say(&mut world, &["a -> b: hi [x]"]);
    assert_eq!(work_off(&mut world), ["write"]);
    assert_eq!(told(&mut world), ["a: ack #2 x", "b: push #2 a hi"]);
    world.line(&format!("wait {}", 2 * limits::CONV_IDLE_MS));
    world.line("release store");
    world.settle();
    world.line("hold store");
    assert!(world.shards.iter().all(|shard| shard.home.len() == 0), "it rests again");
    world.trace.clear();
    say(&mut world, &["b -> a: ho [y]"]);
    assert_eq!(work_off(&mut world), ["write"]);
    assert_eq!(told(&mut world), ["a: push #3 b ho", "b: ack #3 y"]);
}

#[test]
fn what_another_gateway_has_stored_since_the_home_began_is_handed_on() {
    let (mut world, conv) = resting();
    say(&mut world, &["wait 10", "a -> b: hi [x]", "wait 10"]);
    let now_ms = world.now.wall_ms;
    foreign(&mut world, conv, now_ms);
    assert_eq!(work_off(&mut world), ["write", "read"], "where it begins, and the gap in one");
    let both = ["a: push #2 b foreign", "a: ack #3 x", "b: push #2 b foreign", "b: push #3 a hi"];
    assert_eq!(told(&mut world), both);
}

#[test]
fn what_was_stored_before_the_home_began_is_not_handed_on_again() {
    let (mut world, conv) = resting();
    for age_ms in [1, 50] {
        let now_ms = world.now.wall_ms;
        foreign(&mut world, conv, now_ms - age_ms);
    }
    say(&mut world, &["a -> b: hi [x]"]);
    assert_eq!(work_off(&mut world), ["write"]);
    assert_eq!(told(&mut world), ["a: ack #4 x", "b: push #4 a hi"]);
}

/// The page of an old client was read when it opened, and the home, which began later, has told of
/// nothing before its first message.
#[test]
fn what_comes_behind_messages_that_the_home_never_told_of_is_read() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let conv = ConvId::direct(user_of("a"), user_of("b"));
    foreign(&mut world, conv, LONG_AGO_MS);
    // Longer than the page is given to ask for an author.
    let while_it_asks = ["wait 100"; 2 * limits::INTRODUCTION_TICKS as usize];
    say(&mut world, &["a: open", "b: open legacy"]);
    say(&mut world, &while_it_asks);
    for _ in 0..2 {
        foreign(&mut world, conv, LONG_AGO_MS);
    }
    world.trace.clear();
    say(&mut world, &["a -> b: hi [x]"]);
    say(&mut world, &while_it_asks);
    let new = ["a: ack #4 x", "b: push #2 b foreign", "b: push #3 b foreign", "b: push #4 a hi"];
    assert_eq!(told(&mut world), new);
}

/// What was said before has a time to come then, also of a gateway whose clock is ahead: a home
/// that had forgotten how far it is would take it for something new.
#[test]
fn a_clock_that_is_set_back_tells_nothing_again() {
    let (mut world, conv) = resting();
    say(&mut world, &["a -> b: hi [x]"]);
    work_off(&mut world);
    world.now.wall_ms -= 5 * limits::CONV_IDLE_MS;
    world.line(&format!("wait {}", 2 * limits::CONV_IDLE_MS));
    world.line("release store");
    world.settle();
    world.line("hold store");
    for shard in 0..world.shards.len() {
        world.step(shard, Event::Shed { bytes: 0 });
    }
    world.settle();
    world.trace.clear();
    say(&mut world, &["b -> a: ho [y]"]);
    assert_eq!(work_off(&mut world), ["write"]);
    assert_eq!(told(&mut world), ["a: push #3 b ho", "b: ack #3 y"]);
    // Its time has passed.
    world.line(&format!("wait {}", 5 * limits::CONV_IDLE_MS));
    world.line("release store");
    world.settle();
    assert!(world.shards.iter().all(|shard| shard.home.delivered(conv).is_none()), "it rests again");
}

#[test]
fn a_first_post_whose_outcome_stays_unknown_reaches_the_others_if_it_is_stored() {
    let (mut world, _) = resting();
    say(&mut world, &["a -> b: hi [x]"]);
    for n in 0..=limits::UNKNOWN_RETRIES_MAX {
        let (shard, ask, what) = world.store.pop_front().expect("it is asked again");
        let Ask::Write(write @ Write::Append(_)) = what else { panic!("an append") };
        if n == 0 {
            world.db.write(&write);
        }
        let lost = Reply::Written(Err(store::Error::Unknown("test".into())));
        world.step(shard, Event::Settled { ask, reply: lost });
        world.settle();
    }
    assert_eq!(work_off(&mut world), ["head", "read"]);
    // The author's session asks again: its own row comes as a push, which tells it as much.
    assert_eq!(told(&mut world), ["a: refused 21", "a: push #2 a hi", "b: push #2 a hi"]);
    say(&mut world, &["b -> a: ho [y]"]);
    assert_eq!(work_off(&mut world), ["write"]);
    assert_eq!(told(&mut world), ["a: push #3 b ho", "b: ack #3 y"]);
}

/// The first try's commit hangs in the server with its locks, which the second one finds. It is not
/// certain that the message was not stored.
#[test]
fn a_post_that_its_own_first_try_keeps_out_has_an_unknown_outcome() {
    let (mut world, _) = resting();
    say(&mut world, &["a -> b: hi [x]"]);
    let answers = [Err(store::Error::Unknown("test".into())), Ok(held())];
    for answer in answers {
        let (shard, ask, what) = world.store.pop_front().expect("it is asked again");
        let Ask::Write(write @ Write::Append(_)) = what else { panic!("an append") };
        if answer.is_err() {
            world.db.write(&write);
        }
        world.step(shard, Event::Settled { ask, reply: Reply::Written(answer) });
        world.settle();
    }
    assert_eq!(work_off(&mut world), ["head", "read"]);
    assert_eq!(told(&mut world), ["a: refused 21", "a: push #2 a hi", "b: push #2 a hi"]);
    // A resend may meet the commit of another gateway in the same way.
    say(&mut world, &["b -> a: ho [y]"]);
    let (shard, ask, _) = world.store.pop_front().expect("it is asked");
    world.step(shard, Event::Settled { ask, reply: Reply::Written(Ok(held())) });
    world.settle();
    assert_eq!((told(&mut world), work_off(&mut world)), (vec!["b: refused 21".to_owned()], vec![]));
}

fn held() -> Written {
    Written::Refused(store::Refusal::Held)
}

/// The other gateway's clock is late, so its row looks older than the home, and stands behind ours.
#[test]
fn a_late_clock_elsewhere_hides_no_message_of_ours() {
    let (mut world, conv) = resting();
    say(&mut world, &["a -> b: hi [x]"]);
    for n in 0..=limits::UNKNOWN_RETRIES_MAX {
        let (shard, ask, what) = world.store.pop_front().expect("it is asked again");
        let Ask::Write(write @ Write::Append(_)) = what else { panic!("an append") };
        if n == 0 {
            world.db.write(&write);
            let now_ms = world.now.wall_ms;
            foreign(&mut world, conv, now_ms - 50);
        }
        let lost = Reply::Written(Err(store::Error::Unknown("test".into())));
        world.step(shard, Event::Settled { ask, reply: lost });
        world.settle();
    }
    assert_eq!(work_off(&mut world), ["head", "read"]);
    let all = ["a: refused 21", "a: push #2 a hi", "a: push #3 b foreign", "b: push #2 a hi", "b: push #3 b foreign"];
    assert_eq!(told(&mut world), all);
}

#[test]
fn a_first_post_that_is_refused_leaves_nothing_behind() {
    let (mut world, _) = resting();
    say(&mut world, &["a -> b: hi [x]"]);
    let (shard, ask, _) = world.store.pop_front().expect("it is asked");
    let refused = Reply::Written(Err(store::Error::Unavailable("test".into())));
    world.step(shard, Event::Settled { ask, reply: refused });
    world.settle();
    assert_eq!((told(&mut world), work_off(&mut world)), (vec!["a: refused 20".to_owned()], vec![]));
    say(&mut world, &["b -> a: ho [y]"]);
    assert_eq!(work_off(&mut world), ["write"]);
    assert_eq!(told(&mut world), ["a: push #2 b ho", "b: ack #2 y"]);
}

#[test]
fn a_resend_in_a_conversation_that_rests_is_answered_at_once() {
    let (mut world, conv) = resting();
    let (key, body) = (PostKey::Client("old".into()), r#""content":"old""#.into());
    world.db.insert(&store::NewMessage { conv, sender: user_of("a"), key, ts_ms: LONG_AGO_MS, body });
    say(&mut world, &["a -> b: old [old]"]);
    assert_eq!(work_off(&mut world), ["write"]);
    assert_eq!(told(&mut world), ["a: ack #2 old dup"]);
    assert!(world.shards.iter().all(|shard| shard.outstanding() == 0));
}

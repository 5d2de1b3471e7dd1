//! Threads meet: order, room, bounds, and no lost wake.

use std::thread;
use std::time::Duration;

use mio::Events;

use super::*;
use crate::ids::{ConvId, GroupId, Seq, UserId};
use crate::limits::{DELIVER_BYTES_PER_LANE_MAX, DELIVER_MSGS_PER_LANE_MAX, NOTICES_MAX};
use crate::shard::{Answer, Notice, PeerMsg};
use crate::store::Error;

fn mesh(shards: u16) -> (Mesh<u32>, Vec<(Poll, MeshEndpoint<u32>)>) {
    let mut mesh = build(shards).expect("descriptors");
    let endpoints = std::mem::take(&mut mesh.endpoints);
    (mesh, endpoints)
}

fn ask(n: u32) -> PeerMsg {
    PeerMsg::MemberKnown { ask: n }
}

fn delivery(n: u64) -> PeerMsg {
    let seq = Seq::new(n).expect("in range");
    PeerMsg::Mark { conv: ConvId::Group(GroupId::new(1).expect("in range")), from: seq, upto: seq }
}

fn name(msg: &PeerMsg) -> u64 {
    match msg {
        PeerMsg::MemberKnown { ask } => u64::from(*ask),
        PeerMsg::Mark { from, .. } => from.get(),
        other => panic!("no message of these tests: {other:?}"),
    }
}

fn user() -> UserId {
    UserId::new(7).expect("in range")
}

#[test]
fn one_order_for_all_kinds_of_message_of_a_pair() {
    let (_mesh, mut endpoints) = mesh(2);
    for turn in 0..10u64 {
        for n in 0..10 {
            let n = turn * 10 + n;
            let msg = if n % 3 == 0 { ask(u32::try_from(n).expect("small")) } else { delivery(n) };
            endpoints[0].1.say(ShardId(1), msg);
        }
        endpoints[0].1.flush(0);
    }
    let got = std::iter::from_fn(|| endpoints[1].1.peer()).map(|(from, msg)| {
        assert_eq!(from, ShardId(0));
        name(&msg)
    });
    assert_eq!(got.collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_full_channel_keeps_the_rest_in_order() {
    let (_mesh, mut endpoints) = mesh(2);
    let turns = LANE_BATCHES_MAX as u64 * 2 + 10;
    for n in 0..turns {
        endpoints[0].1.say(ShardId(1), delivery(n + 1));
        endpoints[0].1.flush(0);
    }
    assert!(endpoints[0].1.stuck(), "the receiver has taken nothing");
    let mut got = Vec::new();
    while got.len() as u64 != turns {
        while let Some((_, msg)) = endpoints[1].1.peer() {
            got.push(name(&msg));
        }
        endpoints[0].1.flush(0);
    }
    assert!(!endpoints[0].1.stuck());
    assert_eq!(got, (1..=turns).collect::<Vec<_>>());
}

#[test]
fn room_shrinks_with_what_is_under_way_and_grows_with_what_is_taken() {
    let (_mesh, mut endpoints) = mesh(2);
    let credits = |endpoints: &mut Vec<(Poll, MeshEndpoint<u32>)>| {
        let mut told = Vec::new();
        endpoints[0].1.credits(|to, msgs, bytes| told.push((to, msgs, bytes)));
        told
    };
    for n in 1..=10 {
        endpoints[0].1.say(ShardId(1), delivery(n));
    }
    endpoints[0].1.say(ShardId(1), ask(99));
    endpoints[0].1.flush(0);
    assert_eq!(credits(&mut endpoints), [], "nothing was taken, and the shard knows what it has sent");
    for n in 11..=13 {
        endpoints[0].1.say(ShardId(1), delivery(n));
    }
    endpoints[0].1.flush(0);
    assert!(endpoints[1].1.peer().is_some());
    let bytes = delivery(1).bytes();
    let left = (ShardId(1), DELIVER_MSGS_PER_LANE_MAX - 3, DELIVER_BYTES_PER_LANE_MAX - 3 * bytes);
    assert_eq!(credits(&mut endpoints), [left], "a batch is taken as a whole; an ask takes no room");
    assert_eq!(credits(&mut endpoints), [], "told once");
    while endpoints[1].1.peer().is_some() {}
    assert_eq!(credits(&mut endpoints), [(ShardId(1), DELIVER_MSGS_PER_LANE_MAX, DELIVER_BYTES_PER_LANE_MAX)]);
}

#[test]
fn notices_are_bounded_answered_once_and_dropped_with_their_shard() {
    let (mesh, mut endpoints) = mesh(1);
    let (tell, told) = crossbeam_channel::bounded(4);
    let then = |n: usize| {
        let tell = tell.clone();
        Box::new(move |answer| tell.send((n, answer)).expect("the test listens")) as Box<dyn FnOnce(Answer) + Send>
    };
    let notice = Notice::Banned { user: user() };
    for n in 0..NOTICES_MAX {
        assert_eq!(mesh.notices.ask(ShardId(0), notice.clone(), then(n)), Ok(()));
    }
    assert_eq!(mesh.notices.ask(ShardId(0), notice.clone(), then(0)), Err(Full));
    assert_eq!(mesh.notices.ask(ShardId(1), notice.clone(), then(0)), Err(Full), "there is no such shard");
    let (id, taken) = endpoints[0].1.notice().expect("a notice");
    assert_eq!(taken, notice);
    assert_eq!(mesh.notices.ask(ShardId(0), notice.clone(), then(0)), Err(Full), "taken is not answered");
    endpoints[0].1.answer(id, Answer::Done);
    assert_eq!(told.try_recv(), Ok((0, Answer::Done)));
    assert_eq!(mesh.notices.ask(ShardId(0), notice.clone(), then(0)), Ok(()), "its place is free again");
    drop(endpoints);
    assert_eq!(mesh.notices.ask(ShardId(0), notice.clone(), then(0)), Err(Full), "nobody is left to answer");
    drop(tell);
    assert_eq!(told.recv(), Err(crossbeam_channel::RecvError), "no callback outlives the shard");
}

#[test]
fn hand_overs_are_bounded_and_come_back() {
    let (mesh, mut endpoints) = mesh(2);
    for n in 0..u32::try_from(HANDOVERS_MAX).expect("small") {
        assert_eq!(endpoints[0].1.hand_over(ShardId(1), Box::new(n)), Ok(()));
    }
    assert_eq!(endpoints[0].1.hand_over(ShardId(1), Box::new(77)), Err(Box::new(77)));
    assert_eq!(mesh.handovers.hand_over(1, Box::new(78)), Err(Box::new(78)));
    assert_eq!(endpoints[1].1.handed_over(), Some(Box::new(0)));
    assert_eq!(mesh.handovers.hand_over(1, Box::new(78)), Ok(()));
}

#[test]
fn a_shard_may_sleep_only_when_its_inbox_is_empty() {
    let (mesh, mut endpoints) = mesh(2);
    assert!(endpoints[0].1.arm());
    endpoints[0].1.disarm();
    let reply = Reply::Written(Err(Error::Unavailable(String::new())));
    mesh.replies.settle(ShardId(0), vec![(1, reply.clone()), (2, reply)]);
    assert!(!endpoints[0].1.arm());
    endpoints[0].1.disarm();
    assert_eq!(endpoints[0].1.settled().map(|(ask, _)| ask), Some(1));
    assert!(!endpoints[0].1.arm(), "half of a hand-in is still mail");
    endpoints[0].1.disarm();
    assert_eq!(endpoints[0].1.settled().map(|(ask, _)| ask), Some(2));
    assert!(endpoints[0].1.arm());
    mesh.orders.all(&Order::Quiesce);
    assert!(matches!(endpoints[0].1.order(), Some(Order::Quiesce)));
}

#[test]
fn a_shard_is_woken_once_and_only_when_it_sleeps() {
    let (_mesh, mut endpoints) = mesh(3);
    for n in 0..100 {
        endpoints[0].1.say(ShardId(1), ask(n));
        endpoints[0].1.say(ShardId(2), ask(n));
    }
    assert!(endpoints[1].1.arm());
    assert_eq!(endpoints[0].1.flush(0), 1, "one sleeps, one is awake");
    endpoints[0].1.say(ShardId(1), ask(100));
    assert_eq!(endpoints[0].1.flush(0), 0, "it has been woken already");
}

/// Two shards that wake each other and sleep in between: a lost wake would leave both asleep until
/// the time-out, which the test takes for a failure.
#[test]
fn no_wake_is_lost() {
    const ROUNDS: u32 = 20_000;
    let (_mesh, mut endpoints) = mesh(2);
    let play = |(mut poll, mut endpoint): (Poll, MeshEndpoint<u32>), to: ShardId, first: bool| {
        let mut events = Events::with_capacity(8);
        if first {
            endpoint.say(to, ask(0));
            endpoint.flush(0);
        }
        let mut heard = 0;
        while heard < ROUNDS {
            if endpoint.arm() {
                poll.poll(&mut events, Some(Duration::from_secs(20))).expect("a poll");
                assert!(!events.is_empty(), "a wake was lost after {heard} messages");
            }
            endpoint.disarm();
            while let Some((_, msg)) = endpoint.peer() {
                heard += 1;
                endpoint.say(to, msg);
            }
            endpoint.flush(0);
        }
        // The other one may wait for the last message, which was flushed above, and for nothing
        // else: it counts to the same number.
        (poll, endpoint)
    };
    thread::scope(|scope| {
        let second = endpoints.pop().expect("two");
        let first = endpoints.pop().expect("two");
        let first = scope.spawn(move || play(first, ShardId(1), true));
        let second = scope.spawn(move || play(second, ShardId(0), false));
        first.join().expect("it hears everything");
        second.join().expect("it hears everything");
    });
}

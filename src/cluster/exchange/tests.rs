//! Tests of one exchange; several of them, with their gateways, are in `tests/simulation.rs`.

use std::collections::VecDeque;

use super::*;
use crate::ids::{GroupId, Seq, UserId};
use crate::limits::{
    CLUSTER_TICK_MS, ENVELOPE_OLD_MS, FAR_HEADS_MAX, FAR_IN_MAX, FAR_IN_ROWS, FAR_ROOM_MS, LATELY_MS, NODE_SILENT_MS,
    PRESENCE_GONE_MS, TWIN_ANSWER_MS, TWIN_GONE_MS,
};
use crate::wire::Hint;

/// An exchange whose bus is there and whose database has answered.
struct Rig {
    exchange: Exchange,
    now: Now,
    here: bool,
}

impl Rig {
    fn new(node: u16, boot: u64) -> Self {
        Self::of_shards(node, boot, 2)
    }

    fn of_shards(node: u16, boot: u64, shards: u16) -> Self {
        let now = Now { mono_ms: 5, wall_ms: 1_800_000_000_000, sub_us: 0 };
        let mut rig = Self { exchange: Exchange::new(NodeId(node), boot, shards, now, None), now, here: true };
        rig.step(In::Bus { up: true });
        rig.step(In::Tick);
        rig.step(In::Scanned { scan: 1, answer: Some(recent(Vec::new())) });
        rig
    }

    fn admitted(node: u16, boot: u64) -> Self {
        Self::new(node, boot).admit()
    }

    fn admit(mut self) -> Self {
        self.step(In::Tick);
        self.pass(TWIN_ANSWER_MS);
        self.step(In::Tick);
        assert_eq!(self.exchange.admitted(), Some(true));
        self
    }

    fn step(&mut self, what: In) -> Vec<Out> {
        let (mut out, here) = (Vec::new(), self.here);
        self.exchange.step(self.now, what, &|_| here, &mut out);
        out
    }

    fn pass(&mut self, ms: u64) {
        (self.now.mono_ms, self.now.wall_ms) = (self.now.mono_ms + ms, self.now.wall_ms + ms);
    }
}

fn recent(list: Vec<RecentConv>) -> Recent {
    Recent { epoch: 9, from_s: 10, now_s: 20, list, next: None }
}

/// What was published, as the others hear it.
fn said(out: Vec<Out>) -> Vec<Envelope> {
    let said = out.into_iter().filter_map(|one| match one {
        Out::Publish(to, from, items) => Some(Envelope { from, to, items, unknown: 0 }),
        _ => None,
    });
    said.collect()
}

fn given(out: &[Out]) -> Vec<(ShardId, FarIn)> {
    let given = out.iter().filter_map(|one| match one {
        Out::Give(shard, far) => Some((*shard, far.clone())),
        _ => None,
    });
    given.collect()
}

fn head(n: u64) -> RecentConv {
    let seq = Seq::new(1).expect("small");
    RecentConv { conv: ConvId::Group(GroupId::new(n).expect("small")), lowest: seq, newest: seq }
}

/// Others took the recipient for one that is here: whether somebody was, is for this gateway to
/// say.
#[test]
fn what_comes_for_who_has_just_left_is_given_to_its_home() {
    let mut rig = Rig::admitted(2, 7);
    let user = |n| UserId::new(n).expect("small");
    let conv = ConvId::direct(user(1), user(2));
    let seq = Seq::new(1).expect("small");
    let mut count = 0;
    let mut gets = |rig: &mut Rig| {
        count += 1;
        let from = From { node: 1, boot: 3, count, sent_ms: rig.now.wall_ms, epoch: 9 };
        let heads = vec![RecentConv { conv, lowest: seq, newest: seq }];
        let digest = Digest { from_s: 10, to_s: 20, piece: 0, last: true, heads };
        let envelope = Envelope { from, to: To::All, items: vec![Item::Digest(digest)], unknown: 0 };
        given(&rig.step(In::Heard(envelope))).iter().any(|(_, far)| matches!(far, FarIn::Head { .. }))
    };
    rig.step(In::Arrivals(vec![(user(1), true)]));
    rig.here = false;
    assert!(gets(&mut rig), "nobody was told yet that the user has gone");
    rig.step(In::Arrivals(vec![(user(1), false)]));
    assert!(gets(&mut rig));
    rig.pass(DEPARTED_MS);
    assert!(!gets(&mut rig));
}

/// The counters that shards keep may say yes where nobody is: a head given for that costs a read of
/// the database, and looks like something that the bus has lost.
#[test]
fn heads_of_other_peoples_conversations_go_to_no_home() {
    let mut rig = Rig::admitted(2, 7);
    assert!(rig.here, "all counters say yes");
    let user = |n| UserId::new(n).expect("small");
    let conv = ConvId::direct(user(1), user(2));
    let direct = RecentConv { conv, ..head(1) };
    let mut count = 0;
    let mut gets = |rig: &mut Rig, head: RecentConv| {
        count += 1;
        let from = From { node: 1, boot: 3, count, sent_ms: rig.now.wall_ms, epoch: 9 };
        let digest = Digest { from_s: 10, to_s: 20, piece: 0, last: true, heads: vec![head] };
        let envelope = Envelope { from, to: To::All, items: vec![Item::Digest(digest)], unknown: 0 };
        given(&rig.step(In::Heard(envelope))).iter().any(|(_, far)| matches!(far, FarIn::Head { .. }))
    };
    assert!(!gets(&mut rig, direct));
    assert!(gets(&mut rig, head(1)), "of groups no more is known");
    rig.step(In::Arrivals(vec![(user(1), true)]));
    assert!(gets(&mut rig, direct));

    // What this gateway has read itself is no other matter.
    let mut rig = Rig::admitted(2, 7);
    rig.pass(2 * DIGEST_MS);
    let scan = rig.step(In::Tick).into_iter().find_map(|one| match one {
        Out::Scan { scan, .. } => Some(scan),
        _ => None,
    });
    let scan = scan.expect("it reads the digest");
    let out = rig.step(In::Scanned { scan, answer: Some(recent(vec![direct, head(1)])) });
    let heads = given(&out).into_iter().filter(|(_, far)| matches!(far, FarIn::Head { .. }));
    assert_eq!(heads.count(), 1, "{out:?}");
}

/// Another gateway with a user, and how many users shards are told to be gone.
fn with_a_user_elsewhere() -> Rig {
    let mut rig = Rig::admitted(2, 7);
    let from = From { node: 1, boot: 3, count: 1, sent_ms: rig.now.wall_ms, epoch: 9 };
    let rows = vec![(UserId::new(4).expect("small"), true)];
    let items = vec![Item::Presence { number: 1, rows }];
    let out = rig.step(In::Heard(Envelope { from, to: To::All, items, unknown: 0 }));
    assert!(given(&out).iter().any(|(_, far)| matches!(far, FarIn::Elsewhere { .. })));
    rig
}

/// Ticks for so long in which nothing is heard: how many users are told to be gone.
fn gone_in(rig: &mut Rig, ms: u64) -> usize {
    let mut gone = 0;
    for _ in 0..ms / CLUSTER_TICK_MS {
        rig.pass(CLUSTER_TICK_MS);
        let told = given(&rig.step(In::Tick)).into_iter();
        gone += told.filter(|(_, far)| matches!(far, FarIn::Elsewhere { .. })).count();
    }
    gone
}

#[test]
fn a_gateway_that_stood_still_takes_nobody_for_gone_by_its_own_silence() {
    let mut rig = with_a_user_elsewhere();
    rig.pass(2 * PRESENCE_GONE_MS);
    let out = rig.step(In::Tick);
    assert!(!given(&out).iter().any(|(_, far)| matches!(far, FarIn::Elsewhere { .. })), "{out:?}");
    assert_eq!(gone_in(&mut rig, PRESENCE_GONE_MS - CLUSTER_TICK_MS), 0, "what was said waits to be read");
    assert_eq!(gone_in(&mut rig, CLUSTER_TICK_MS), 1, "nothing came");
}

#[test]
fn a_bus_that_brings_nothing_takes_nobody_for_gone() {
    let mut rig = with_a_user_elsewhere();
    let alone = |out: Vec<Out>| {
        let on = given(&out).into_iter().filter_map(|(_, far)| match far {
            FarIn::Alone { on } => Some(on),
            _ => None,
        });
        on.collect::<Vec<_>>()
    };
    assert_eq!(alone(rig.step(In::Deaf { on: true })), [false; 0], "another gateway was heard a moment ago");
    assert_eq!(gone_in(&mut rig, NODE_SILENT_MS + CLUSTER_TICK_MS), 0);
    assert_eq!(alone(rig.step(In::Deaf { on: true })), [true; 2], "shards are told that they know less");
    assert_eq!(alone(rig.step(In::Deaf { on: true })), [false; 0], "once");
    assert_eq!(gone_in(&mut rig, 2 * PRESENCE_GONE_MS), 0);
    assert_eq!(alone(rig.step(In::Deaf { on: false })), [false; 2]);
    assert_eq!(gone_in(&mut rig, PRESENCE_GONE_MS - CLUSTER_TICK_MS), 0);
    assert_eq!(gone_in(&mut rig, CLUSTER_TICK_MS), 1);
}

#[test]
fn numbers_at_their_end_are_only_numbers() {
    let mut rig = Rig::admitted(2, 7);
    let most = u64::MAX;
    let from = From { node: 1, boot: 3, count: most, sent_ms: most, epoch: 9 };
    let digest = Digest { from_s: most, to_s: most, piece: 0, last: true, heads: Vec::new() };
    rig.exchange.hole = false;
    rig.step(In::Heard(Envelope { from, to: To::All, items: vec![Item::Digest(digest)], unknown: 0 }));
    assert_eq!(rig.exchange.counts().digests, 1, "it was heard");
    assert!(rig.exchange.hole, "and says nothing about what lies before it");
}

/// One shard, a digest of as many conversations as may wait, and no room for most of them.
#[test]
fn what_a_full_shard_refused_comes_back_as_fast_as_it_takes_it() {
    // A turn of 256 takes 5 ms, most of which are other things.
    const TAKEN: usize = 2 * 256;
    let mut rig = Rig::of_shards(2, 7, 1).admit();
    let all = FAR_HEADS_MAX as u64;
    let heads = (1..=all).map(head).collect();
    let from = From { node: 1, boot: 3, count: 1, sent_ms: rig.now.wall_ms, epoch: 9 };
    let digest = Digest { from_s: 0, to_s: 20, piece: 0, last: true, heads };
    let mut out = rig.step(In::Heard(Envelope { from, to: To::All, items: vec![Item::Digest(digest)], unknown: 0 }));
    let (shard, most) = (ShardId(0), FAR_IN_MAX - FAR_IN_ROWS);
    let (mut queue, mut seen, mut turns) = (0, 0, 0);
    while seen < FAR_HEADS_MAX {
        for (_, far) in given(&out).into_iter().filter(|(_, far)| matches!(far, FarIn::Head { .. })) {
            if queue < most {
                queue += 1;
            } else {
                rig.step(In::Refused(shard, far));
            }
        }
        let taken = TAKEN.min(queue);
        (queue, seen, turns) = (queue - taken, seen + taken, turns + 1);
        rig.pass(FAR_ROOM_MS);
        out = if rig.exchange.waits_for(shard) { rig.step(In::Room(shard, most - queue)) } else { Vec::new() };
        assert!(out.len() <= most - queue, "no more than there is room for");
    }
    assert!(rig.exchange.counts().refused > 0, "it was too much at once");
    assert_eq!(turns, FAR_HEADS_MAX.div_ceil(TAKEN), "the shard was never without work");
    assert!(turns as u64 * FAR_ROOM_MS < 2_000, "{turns} turns");
}

#[test]
fn a_second_gateway_with_the_same_number_is_refused_and_the_first_stays() {
    let (mut first, mut second) = (Rig::admitted(3, 70), Rig::new(3, 60));
    let asked = said(second.step(In::Tick));
    assert_eq!(asked[0].items, [Item::Start]);
    let answers = said(first.step(In::Heard(asked[0].clone())));
    assert_eq!(answers[0].items, [Item::Taken { boot: 60 }]);
    second.step(In::Heard(answers[0].clone()));
    assert_eq!(second.exchange.admitted(), Some(false));
    second.pass(10 * TWIN_ANSWER_MS);
    assert_eq!(said(second.step(In::Tick)), [], "it says nothing more");
    assert_eq!(said(second.step(In::Stop)), [], "not even goodbye: that would be the first one's");
    assert_eq!(first.exchange.admitted(), Some(true));

    // To the others it was never there.
    let mut other = Rig::admitted(1, 5);
    other.step(In::Heard(asked[0].clone()));
    assert_eq!(other.exchange.nodes(other.now), 1);

    // What was said to an earlier start stops no later one.
    let mut third = Rig::new(3, 61);
    third.step(In::Tick);
    third.step(In::Heard(answers[0].clone()));
    third.pass(TWIN_ANSWER_MS);
    third.step(In::Tick);
    assert_eq!(third.exchange.admitted(), Some(true), "the first one is gone");
}

/// The bus came only after both had begun, so the second one runs, and says nothing.
#[test]
fn a_gateway_that_was_refused_asks_again_when_the_other_one_is_gone() {
    let (mut first, mut second) = (Rig::admitted(3, 70), Rig::new(3, 60));
    let asked = said(second.step(In::Tick));
    let answers = said(first.step(In::Heard(asked[0].clone())));
    second.step(In::Heard(answers[0].clone()));
    let mut wait = |second: &mut Rig, ms: u64, hears: bool| {
        let mut told = Vec::new();
        for _ in 0..ms / CLUSTER_TICK_MS {
            first.pass(CLUSTER_TICK_MS);
            second.pass(CLUSTER_TICK_MS);
            for word in said(first.step(In::Tick)) {
                if hears {
                    told.extend(said(second.step(In::Heard(word))));
                }
            }
            told.extend(said(second.step(In::Tick)));
        }
        told
    };
    assert_eq!(wait(&mut second, 3 * NODE_SILENT_MS, true), [], "the other one is there");
    assert_eq!(wait(&mut second, TWIN_GONE_MS - HEARTBEAT_MS, false), [], "it may stand still");
    second.step(In::Deaf { on: true });
    assert_eq!(wait(&mut second, TWIN_GONE_MS, false), [], "nothing could be heard of it");
    second.step(In::Deaf { on: false });
    let told = wait(&mut second, TWIN_GONE_MS + 2 * CLUSTER_TICK_MS, false);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].items, [Item::Start]);
    assert_eq!(second.exchange.admitted(), None);
    wait(&mut second, TWIN_ANSWER_MS + CLUSTER_TICK_MS, false);
    assert_eq!(second.exchange.admitted(), Some(true));
}

#[test]
fn a_gateway_whose_twin_says_that_it_goes_asks_at_once() {
    let (mut first, mut second) = (Rig::admitted(3, 70), Rig::new(3, 60));
    let asked = said(second.step(In::Tick));
    let answers = said(first.step(In::Heard(asked[0].clone())));
    second.step(In::Heard(answers[0].clone()));
    assert_eq!(second.exchange.admitted(), Some(false));
    let bye = said(first.step(In::Stop));
    second.step(In::Heard(bye[0].clone()));
    second.pass(CLUSTER_TICK_MS);
    assert_eq!(said(second.step(In::Tick))[0].items, [Item::Start]);
    second.pass(TWIN_ANSWER_MS);
    second.step(In::Tick);
    assert_eq!(second.exchange.admitted(), Some(true));
}

/// Of two with one number, one that stood still for so long that the other has it now says nothing
/// in its name any more.
#[test]
fn a_gateway_that_was_away_for_long_asks_whether_its_number_is_still_its_own() {
    let stands = |rig: &mut Rig| rig.pass(TWIN_GONE_MS);
    let loses = |rig: &mut Rig| {
        rig.step(In::Bus { up: false });
        for _ in 0..=TWIN_GONE_MS / CLUSTER_TICK_MS {
            rig.pass(CLUSTER_TICK_MS);
            rig.step(In::Tick);
        }
        rig.step(In::Bus { up: true });
    };
    let cases: [&dyn Fn(&mut Rig); 2] = [&stands, &loses];
    for goes_away in cases {
        let (mut first, mut second) = (Rig::admitted(3, 70), Rig::admitted(3, 60));
        goes_away(&mut first);
        let asked = said(first.step(In::Tick));
        assert_eq!(asked[0].items, [Item::Start], "before anything else");
        let answers = said(second.step(In::Heard(asked[0].clone())));
        first.step(In::Heard(answers[0].clone()));
        assert_eq!((first.exchange.admitted(), second.exchange.admitted()), (Some(false), Some(true)));
        // Alone it has it again.
        let mut only = Rig::admitted(3, 70);
        goes_away(&mut only);
        only.step(In::Tick);
        only.pass(TWIN_ANSWER_MS);
        only.step(In::Tick);
        assert_eq!(only.exchange.admitted(), Some(true));
    }
}

#[test]
fn of_two_that_begin_together_one_goes_on() {
    let (mut one, mut two) = (Rig::new(3, 1), Rig::new(3, 2));
    let asked = [said(one.step(In::Tick)), said(two.step(In::Tick))];
    let answers = [said(one.step(In::Heard(asked[1][0].clone()))), said(two.step(In::Heard(asked[0][0].clone())))];
    assert_eq!(answers[1], [], "the other one is first");
    two.step(In::Heard(answers[0][0].clone()));
    one.pass(TWIN_ANSWER_MS);
    one.step(In::Tick);
    assert_eq!((one.exchange.admitted(), two.exchange.admitted()), (Some(true), Some(false)));
}

/// One of them was not on the bus yet when the other one asked.
#[test]
fn of_two_that_begin_one_after_the_other_one_goes_on() {
    for boots in [[1, 2], [2, 1]] {
        let [mut early, mut late] = boots.map(|boot| Rig::new(3, boot));
        early.step(In::Tick);
        early.pass(TWIN_ANSWER_MS / 2);
        late.pass(TWIN_ANSWER_MS / 2);
        let mut words = said(late.step(In::Tick));
        for _ in 0..=TWIN_ANSWER_MS / CLUSTER_TICK_MS {
            let answers: Vec<Envelope> = words.drain(..).flat_map(|word| said(early.step(In::Heard(word)))).collect();
            words.extend(answers.into_iter().flat_map(|word| said(late.step(In::Heard(word)))));
            early.pass(CLUSTER_TICK_MS);
            late.pass(CLUSTER_TICK_MS);
            let asked = said(early.step(In::Tick));
            words.extend(asked.into_iter().flat_map(|word| said(late.step(In::Heard(word)))).collect::<Vec<_>>());
            words.extend(said(late.step(In::Tick)));
        }
        let admitted = [early.exchange.admitted(), late.exchange.admitted()];
        assert_eq!(admitted.iter().filter(|one| **one == Some(true)).count(), 1, "{boots:?}: {admitted:?}");
        assert!(admitted.contains(&Some(false)), "{boots:?}: {admitted:?}");
    }
}

#[test]
fn a_bus_that_goes_while_it_is_asked_is_asked_again() {
    let mut rig = Rig::new(3, 1);
    assert_eq!(said(rig.step(In::Tick)).len(), 1);
    let out = rig.step(In::Bus { up: false });
    assert!(matches!(given(&out)[..], [(_, FarIn::Alone { on: true }), ..]), "{out:?}");
    rig.pass(TWIN_ANSWER_MS);
    rig.step(In::Tick);
    assert_eq!(rig.exchange.admitted(), None);
    rig.step(In::Bus { up: true });
    assert_eq!(said(rig.step(In::Tick))[0].items, [Item::Start]);
}

#[test]
fn words_go_to_those_whom_they_concern_and_nowhere_else() {
    let (user, group) = (UserId::new(4).expect("small"), GroupId::new(6).expect("small"));
    let (direct, seq) = (ConvId::direct(user, UserId::new(5).expect("small")), Seq::new(2).expect("small"));
    let words = vec![
        FarWord::Typing { user, conv: direct },
        FarWord::Cursor { user, conv: direct, recv: seq, read: seq },
        FarWord::Hint { user, what: Hint::Friends, id: 5 },
        FarWord::GroupHint { group },
    ];
    let (mut one, mut two) = (Rig::admitted(1, 1), Rig::admitted(2, 2));
    let heard = said(one.step(In::Words(words.clone())));
    assert_eq!(heard.len(), 1, "together: {heard:?}");
    let shard = shard_of(user, 2);
    let mut wanted: Vec<_> = words.iter().take(3).map(|word| (shard, word.clone())).collect();
    wanted.extend([0, 1].map(|shard| (ShardId(shard), words[3].clone())));
    let out = two.step(In::Heard(heard[0].clone()));
    let told = given(&out).into_iter().filter_map(|(shard, far)| match far {
        FarIn::Word(word) => Some((shard, word)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), wanted);
    assert_eq!((one.exchange.counts().words_out, two.exchange.counts().words_in), (4, 4));

    let mut empty = Rig::admitted(3, 3);
    empty.here = false;
    assert_eq!(given(&empty.step(In::Heard(heard[0].clone()))).len(), 0);
    assert_eq!(empty.exchange.counts().filtered, 4);

    // Nothing is kept of them: neither without a bus nor for a shard that is busy.
    one.step(In::Bus { up: false });
    assert_eq!(said(one.step(In::Words(words.clone()))), []);
    two.step(In::Refused(shard, FarIn::Word(words[0].clone())));
    assert!(!two.exchange.waits_for(shard));
    assert_eq!((one.exchange.counts().words_dropped, two.exchange.counts().words_dropped), (4, 1));
}

/// What one says, the others hear; and what they say to that, until all are silent.
fn hear_each_other(rigs: &mut [Rig], from: usize, out: Vec<Out>) {
    let mut under_way: VecDeque<_> = said(out).into_iter().map(|envelope| (from, envelope)).collect();
    while let Some((from, envelope)) = under_way.pop_front() {
        for (index, rig) in rigs.iter_mut().enumerate().filter(|(index, _)| *index != from) {
            if matches!(envelope.to, To::Node(node) if node != rig.exchange.me.node) {
                continue;
            }
            let answers = said(rig.step(In::Heard(envelope.clone())));
            under_way.extend(answers.into_iter().map(|answer| (index, answer)));
        }
    }
}

/// Hints and read marks are said once, so whoever comes a moment after them is told them, too. What
/// is repeated anyhow, or ends sessions that were there, is not.
#[test]
fn a_user_who_comes_a_moment_later_is_told_the_words_that_are_said_once() {
    let (user, peer) = (UserId::new(4).expect("small"), UserId::new(5).expect("small"));
    let (group, seq) = (GroupId::new(6).expect("small"), Seq::new(2).expect("small"));
    let conv = ConvId::direct(user, peer);
    let mut rigs: Vec<_> = (1..=5).map(|node| Rig::admitted(node, u64::from(node))).collect();
    for round in 0..200 {
        for index in 0..rigs.len() {
            rigs[index].pass(CLUSTER_TICK_MS);
            let out = rigs[index].step(In::Tick);
            hear_each_other(&mut rigs, index, out);
        }
        if (2..=5).all(|node| rigs[0].exchange.whereabouts.known(node).is_some()) {
            break;
        }
        assert!(round < 199, "each knows the others' users");
    }
    let once = [
        FarWord::Cursor { user, conv, recv: seq, read: seq },
        FarWord::Cursor { user, conv: ConvId::Group(group), recv: seq, read: seq },
        FarWord::Hint { user, what: Hint::Friends, id: 5 },
    ];
    let other =
        [FarWord::Typing { user: peer, conv }, FarWord::Devices { user, node: 1, asks: false, list: Box::default() }];
    let mut words = once.to_vec();
    words.extend(other);
    assert_eq!(said(rigs[0].step(In::Words(words))), [], "they are nowhere");

    let come = rigs[1].step(In::Arrivals(vec![(user, true)]));
    let told = said(come).into_iter().flat_map(|envelope| said(rigs[0].step(In::Heard(envelope))));
    let [told] = told.collect::<Vec<_>>().try_into().expect("one envelope");
    assert_eq!(told.to, To::Node(2));
    assert_eq!(told.items, once.map(Item::Word));

    // Later it has read them from the database.
    rigs[0].pass(LATELY_MS);
    rigs[0].step(In::Tick);
    let come = rigs[2].step(In::Arrivals(vec![(user, true)]));
    let told = said(come).into_iter().flat_map(|envelope| said(rigs[0].step(In::Heard(envelope))));
    assert_eq!(told.collect::<Vec<_>>(), []);
}

/// Hears a word of gateway 1 of that start; whether it was believed.
fn hears(rig: &mut Rig, boot: u64, count: u64, sent_ms: u64) -> bool {
    let from = From { node: 1, boot, count, sent_ms, epoch: 9 };
    let before = rig.exchange.counts().stale;
    rig.step(In::Heard(Envelope { from, to: To::All, items: vec![Item::Hello], unknown: 0 }));
    rig.exchange.counts().stale == before
}

#[test]
fn a_gateway_whose_clock_was_ahead_is_heard_a_minute_after_its_start() {
    const HOUR_MS: u64 = 3_600_000;
    let mut rig = Rig::admitted(2, 7);
    let ahead = rig.now.wall_ms + HOUR_MS;
    assert!(hears(&mut rig, 30, 1, ahead), "clocks may be wrong");
    assert!(hears(&mut rig, 30, 2, ahead + 5));

    // Its clock is set, and it starts anew.
    rig.pass(1_000);
    let sent_ms = rig.now.wall_ms;
    assert!(!hears(&mut rig, 31, 1, sent_ms), "it may be a word of an earlier start");
    rig.pass(ENVELOPE_OLD_MS);
    let sent_ms = rig.now.wall_ms;
    assert!(hears(&mut rig, 31, 2, sent_ms));
    assert_eq!(rig.exchange.nodes(rig.now), 2);

    // What the start before it has said seems to be young for an hour, and is repeated.
    for (count, passed_ms) in [(2, 0), (3, 10), (4, 2 * ENVELOPE_OLD_MS), (5, HOUR_MS - 3 * ENVELOPE_OLD_MS)] {
        rig.pass(passed_ms);
        assert!(!hears(&mut rig, 30, count, ahead + 6), "count {count}");
        let sent_ms = rig.now.wall_ms;
        assert!(hears(&mut rig, 31, 10 * count, sent_ms), "and stops nothing");
    }
    rig.pass(2 * ENVELOPE_OLD_MS);
    assert!(!hears(&mut rig, 30, 6, ahead + 6), "it is old now");
}

#[test]
fn a_start_whose_clock_is_behind_is_heard_when_the_one_before_is_silent() {
    let mut rig = Rig::admitted(2, 7);
    let first_ms = rig.now.wall_ms;
    assert!(hears(&mut rig, 30, 1, first_ms));
    rig.pass(ENVELOPE_OLD_MS - 1);
    let behind = |rig: &Rig| rig.now.wall_ms - ENVELOPE_OLD_MS;
    let sent_ms = behind(&rig);
    assert!(!hears(&mut rig, 31, 1, sent_ms), "it is earlier than what was heard");
    rig.pass(1);
    let sent_ms = behind(&rig);
    assert!(hears(&mut rig, 31, 2, sent_ms));
    assert!(!hears(&mut rig, 30, 2, first_ms + 1), "of a start that has ended");
    let sent_ms = rig.now.wall_ms;
    assert!(!hears(&mut rig, 30, 3, sent_ms), "whatever its time");
}

#[test]
fn a_gateway_that_starts_often_is_heard_each_time() {
    let mut rig = Rig::admitted(2, 7);
    for boot in 30..50 {
        rig.pass(10);
        let sent_ms = rig.now.wall_ms;
        assert!(hears(&mut rig, boot, 1, sent_ms));
        assert!(!hears(&mut rig, boot - 1, 2, sent_ms), "the one before");
    }
}

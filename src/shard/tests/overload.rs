//! What a shard does when there is more than it can do at once: bounds are kept, turns end, nobody
//! is forgotten.

use super::*;
use crate::shard::peer::{Delivery, MemberChange};
use crate::wire::Packet;
use crate::wire::packet::Stored;

const GROUP: u64 = 7;

fn seq(raw: u64) -> Seq {
    Seq::new(raw).expect("a test's seq is small")
}

fn group(raw: u64) -> GroupId {
    GroupId::new(raw).expect("a test's group is small")
}

/// A message of user `b` in `conv`, as its home hands it on.
fn delivery(conv: ConvId, place: u64, body: &str) -> PeerMsg {
    let stored = Stored { id: MsgId::new(place).expect("small"), seq: seq(place) };
    let packet = Arc::new(Packet::chat(conv, user_of("b"), Some(stored), 1, body));
    PeerMsg::Deliver(Delivery { conv, seq: Some(stored.seq), packet, far: false })
}

impl World {
    /// Opens a session for each of the first `count` users who live on shard 0, in the group unless
    /// `alone`.
    fn neighbours(&mut self, count: usize, alone: bool) -> Vec<(String, ConnId)> {
        let names = ('a'..='z').map(String::from).filter(|name| shard_of(user_of(name), SHARDS).0 == 0);
        let names: Vec<String> = names.take(count).collect();
        assert_eq!(names.len(), count, "so many letters live there");
        for name in &names {
            self.open(name, &[], Device::Web);
            self.settle();
            if !alone {
                self.db.members.insert((group(GROUP), user_of(name)), Seq::ZERO);
                let (change, user) = (MemberChange::Joined { since: Seq::ZERO, passed: Seq::ZERO }, user_of(name));
                self.hear(PeerMsg::Member { ask: 0, group: group(GROUP), user, change });
                self.lanes.clear();
            }
        }
        names.into_iter().map(|name| (name.clone(), self.named(&name).conn)).collect()
    }

    /// Opens a session for each of `count` users of shard 0, members of the group.
    fn crowd(&mut self, count: usize, profile: Profile) -> Vec<ConnId> {
        let key = Key::new([7; 32]);
        let users = (1..).filter_map(UserId::new).filter(|&user| shard_of(user, SHARDS).0 == 0);
        let open = |user: UserId| {
            self.db.members.insert((group(GROUP), user), Seq::ZERO);
            let token = key.issue(user, 0, Issuer::FastIm, u64::MAX >> 12);
            let identity = key.verify(&token, self.now.wall_ms).expect("a fresh token");
            let conn = ConnId { slot: self.slots, generation: 1 };
            self.slots += 1;
            let name = format!("u{}", user.get());
            self.clients.push(Client { name, conn, shard: 0, stalled: false, open: true, buffer: Vec::new() });
            let hello = Hello { identity, profile, device: Device::Web, device_tag: 0, deflate: None };
            self.step(0, Event::Open { conn, hello, response: Box::default(), ended: false });
            conn
        };
        let conns = users.take(count).map(open).collect();
        self.settle();
        conns
    }

    /// Shard 0 hears `msg` from shard 1.
    fn hear(&mut self, msg: PeerMsg) {
        self.step(0, Event::Peer { from: ShardId(1), msg });
    }

    fn pushes_to(&self, name: &str) -> Vec<&str> {
        let mine = self.trace.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": push #"));
        mine.filter_map(|line| line.split(' ').next()).collect()
    }
}

#[test]
fn a_member_who_is_closed_by_the_sweep_takes_nobody_elses_turn() {
    let mut world = World::new(10, false);
    let members = world.neighbours(3, false);
    let (slow, last) = (members[0].1, members[2].0.clone());
    world.line(&format!("stall {}", members[0].0));
    // As far behind as one may be, and something in the outbox: the next message that does not fit
    // ends the session.
    for other in 0..limits::BEHIND_CONVS_MAX as u64 {
        let conv = ConvId::Group(group(1000 + other));
        let Shard { io, sessions, deliveries, .. } = &mut world.shards[0];
        deliveries.catching_up.went_behind(io, sessions, slow, conv, seq(1), seq(1));
        io.effects.drain().for_each(drop);
    }
    world.hear(delivery(ConvId::direct(user_of("b"), user_of(&members[0].0)), 1, ""));
    world.hear(delivery(ConvId::Group(group(GROUP)), 1, ""));
    world.end_turn();
    assert_eq!(world.pushes_to(&last), ["1"], "the member who moves up was not reached yet: {}", world.trace);
}

#[test]
fn a_group_that_hears_more_than_it_can_be_sent_goes_behind_instead_of_growing() {
    const MESSAGES: u64 = 700;
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let members = world.neighbours(2, false);
    let conv = ConvId::Group(group(GROUP));
    let body: Arc<str> = format!(r#""x":"{}""#, "x".repeat(60_000)).into();
    for place in 1..=MESSAGES {
        let id = MsgId::new(place).expect("small");
        let row = Row { seq: seq(place), id, ts_ms: 1, sender: user_of("b"), body: Arc::clone(&body) };
        world.db.rows.entry(conv).or_default().push((PostKey::Client(place.to_string().into()), row));
        world.hear(delivery(conv, place, &body));
        assert!(world.shards[0].deliveries.sweeps().bytes <= limits::SWEEP_BACKLOG_BYTES_MAX);
    }
    assert!(world.shards[0].tally().marked > 0, "the messages are more than the backlog holds");
    world.db.next_id = MESSAGES;
    world.turns = false;
    // Its ack has its place in the order, so this one is taken all the same.
    world.line(&format!("{} -> #{GROUP}: mine [z]", members[0].0));
    world.settle();
    world.turns = true;
    world.settle();
    let expect: Vec<String> = (1..=MESSAGES).map(|place| place.to_string()).collect();
    assert_eq!(world.pushes_to(&members[0].0), expect);
    assert_eq!(world.pushes_to(&members[1].0).len(), expect.len() + 1);
    let ack = format!("{}: ack #{} z", members[0].0, MESSAGES + 1);
    assert!(world.trace.lines().any(|line| line == ack), "the author hears of it once: {ack}");
    assert_eq!(world.shards[0].deliveries.sweeps().bytes, 0);
}

#[test]
fn syncs_under_way_count_as_the_pages_that_they_will_bring() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let (name, conn) = world.neighbours(1, true).remove(0);
    let paused = |world: &World| world.shards[0].sessions.table.get(conn).expect("it is open").paused;
    world.line("hold store");
    for _ in 0..limits::ANSWERS_BYTES_MAX / limits::SYNC_BYTES_MAX {
        assert!(!paused(&world), "what it has asked for has a place");
        world.line(&format!("{name}: sync b after 0"));
    }
    assert!(paused(&world), "no more than two pages wait for a client that does not read");
    world.line("release store");
    world.settle();
    assert!(!paused(&world), "answered and written");
}

#[test]
fn a_sweep_over_members_who_are_being_written_to_costs_what_it_costs() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let members = world.neighbours(3, false);
    members.iter().for_each(|(name, _)| world.line(&format!("stall {name}")));
    let conv = ConvId::Group(group(GROUP));
    world.hear(delivery(conv, 1, ""));
    world.end_turn();
    assert_eq!(world.shards[0].swept(), members.len(), "one batch each");
    world.hear(delivery(conv, 2, ""));
    world.hear(delivery(conv, 3, ""));
    world.end_turn();
    assert_eq!(world.shards[0].swept(), 2 * members.len(), "each message each: no effect tells the driver of them");
}

/// Shard 0 as the home of a conversation in which the store answers a resend with place 5, while it
/// has handed on one message; up to the ask for the gap.
fn home_with_a_gap(world: &mut World) -> (ConvId, u32) {
    let names = world.neighbours(1, true);
    let user = user_of(&names[0].0);
    let conv = ConvId::direct(user, user);
    world.held = true;
    world.say(&names[0].0, &names[0].0, &["first", "[f]"]);
    world.say(&names[0].0, &names[0].0, &["again", "[x]"]);
    let mut settle = |written| {
        let (_, ask, _) = world.store.pop_front().expect("the store was asked");
        world.step(0, Event::Settled { ask, reply: Reply::Written(Ok(written)) });
    };
    settle(Written::Stored { seq: seq(1), id: MsgId::new(1).expect("small"), ts_ms: 1, before_ms: 0 });
    settle(Written::Duplicate { conv, seq: seq(5), id: MsgId::new(5).expect("small"), ts_ms: 1 });
    let (_, ask, what) = world.store.pop_front().expect("the gap is read");
    assert!(matches!(what, Ask::Read(_)));
    (conv, ask)
}

#[test]
fn a_gap_that_the_store_does_not_fill_is_not_read_in_a_loop() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let (_, ask) = home_with_a_gap(&mut world);
    let page = store::Page { floor: seq(1), head: seq(5), ..store::Page::default() };
    world.step(0, Event::Settled { ask, reply: Reply::Read(Ok(ReadAnswer::Page(page))) });
    world.settle();
    assert!(world.store.is_empty(), "not at once");
    world.line(&format!("wait {}", limits::RETRY_MS));
    world.settle();
    assert_eq!(world.store.len(), 1, "but soon");
}

#[test]
fn a_resend_of_what_retention_has_cut_is_answered() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let (_, ask) = home_with_a_gap(&mut world);
    let page = store::Page { floor: seq(50), head: seq(60), ..store::Page::default() };
    world.step(0, Event::Settled { ask, reply: Reply::Read(Ok(ReadAnswer::Page(page))) });
    world.settle();
    assert!(world.trace.contains("ack #5 x dup"), "{}", world.trace);
    assert_eq!(world.shards[0].outstanding(), 0);
}

#[test]
fn a_conversation_that_never_rests_does_not_keep_others_from_catching_up() {
    let mut world = World::new(10, false);
    let (name, conn) = world.neighbours(1, true).remove(0);
    world.held = true;
    let busy = ConvId::direct(user_of(&name), user_of("y"));
    let quiet = ConvId::direct(user_of(&name), user_of("z"));
    for (conv, head) in [(busy, 1000), (quiet, 1)] {
        for place in 1..=head {
            let id = MsgId::new(place).expect("small");
            let row = Row { seq: seq(place), id, ts_ms: 1, sender: user_of("b"), body: "".into() };
            world.db.rows.entry(conv).or_default().push((PostKey::Client(place.to_string().into()), row));
        }
        world.hear(PeerMsg::Mark { conv, from: seq(1), upto: seq(head) });
    }
    let mut asked = Vec::new();
    for _ in 0..2 {
        let (_, ask, what) = world.store.pop_front().expect("it catches up");
        let Ask::Read(read @ Read::Page { conv, .. }) = what else { panic!("a page is read") };
        asked.push(conv);
        let reply = Reply::Read(Ok(world.db.read(&read)));
        world.step(0, Event::Settled { ask, reply });
        world.flush(0, conn);
    }
    assert_eq!(asked, [busy, quiet]);
}

#[test]
fn those_who_are_too_many_for_one_read_do_not_keep_the_shard_awake() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let conns = world.crowd(limits::CATCH_UP_TAKERS_MAX + 44, Profile::V2);
    let conv = ConvId::Group(group(GROUP));
    let row = Row { seq: seq(1), id: MsgId::new(1).expect("small"), ts_ms: 1, sender: user_of("b"), body: "".into() };
    world.db.rows.insert(conv, vec![(PostKey::Client("x".into()), row)]);
    world.held = true;
    world.hear(PeerMsg::Mark { conv, from: seq(1), upto: seq(1) });
    world.settle();
    assert_eq!(world.store.len(), 1, "they lack the same");
    assert_ne!(world.shards[0].deadline_ms(), Some(world.now.mono_ms), "nothing is to be done before it is read");
    world.held = false;
    world.settle();
    let pushes = world.trace.lines().filter(|line| line.contains(": push #1 ")).count();
    assert_eq!(pushes, conns.len(), "and nobody is forgotten");
}

#[test]
fn a_turn_asks_a_bounded_number_of_pages_what_has_arrived() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    let conns = world.crowd(limits::TURN_TIMERS_MAX + 2, Profile::Legacy(Echo::None));
    let Shard { io, sessions, .. } = &mut world.shards[0];
    for &conn in &conns {
        sessions.sent_legacy(io, conn, ConvId::Group(group(GROUP)), seq(1));
    }
    let mut flushes = || {
        world.shards[0].step(world.now, Event::TurnEnd, &mut world.fx);
        world.fx.drain().filter(|effect| matches!(effect, Effect::Flush { .. })).count()
    };
    assert_eq!([flushes(), flushes(), flushes()], [limits::TURN_TIMERS_MAX, 2, 0]);
}

#[test]
fn a_page_that_lacks_too_much_before_it_is_open_is_asked_to_come_back() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    world.line("hold store");
    world.line("b: open legacy");
    world.settle();
    let (shard, conn) = (world.named("b").shard, world.named("b").conn);
    let Shard { io, sessions, deliveries, opening, .. } = &mut world.shards[shard];
    for other in 0..limits::BEHIND_CONVS_MAX as u64 {
        let conv = ConvId::Group(group(1000 + other));
        deliveries.catching_up.went_behind(io, sessions, conn, conv, seq(1), seq(1));
    }
    let conv = ConvId::direct(user_of("a"), user_of("b"));
    let (recv, read) = (Seq::ZERO, Seq::ZERO);
    let state = ConvState { conv, head: seq(1), ts_ms: 1, floor: seq(1), recv, read, unread: 1, newest: None };
    let heads = Heads { convs: vec![state], more: false, epoch: 1 };
    opening.replay(io, sessions, &mut deliveries.catching_up, conn, &heads);
    io.effects.drain().collect::<Vec<_>>().into_iter().for_each(|effect| world.act(shard, effect));
    world.settle();
    assert!(world.trace.contains("b: close 4001"), "{}", world.trace);
    world.shards[shard].check_invariants();
}

//! What other gateways store, as it reaches the sessions here: once, in order, and not later than
//! it must.

use super::*;
use crate::shard::far::{FarDevice, FarIn, FarOut, FarRow, FarWord};
use crate::shard::{Notice, Passage, Way};
use crate::wire::packet::Milestones;

/// A message of another gateway, stored; and as that gateway tells it.
fn elsewhere(world: &mut World, conv: ConvId, text: &str, ts_ms: u64) -> FarRow {
    let (n, sender) = (world.db.next_id + 1, user_of("b"));
    let (key, body) = (PostKey::Client(format!("far {n}").into()), format!(r#""content":"{text}""#).into());
    let before_ms = world.db.rows.get(&conv).and_then(|rows| rows.last()).map_or(0, |(_, row)| row.ts_ms);
    world.db.insert(&store::NewMessage { conv, sender, key, ts_ms, body });
    let row = world.db.rows[&conv].last().expect("it is stored").1.clone();
    FarRow { conv, row, before_ms: Some(before_ms) }
}

/// A gateway among others, with a session of `a` and one of `b`.
pub(super) fn one_of_several() -> (World, ConvId) {
    one_of_several_with(None)
}

fn one_of_several_with(planted_bug: Option<PlantedBug>) -> (World, ConvId) {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for shard in &mut world.shards {
        *shard = Shard::new(Setup { clustered: true, planted_bug, ..shard.io.setup });
    }
    let conv = ConvId::direct(user_of("a"), user_of("b"));
    for line in ["a: open", "b: open"] {
        world.line(line);
        world.settle();
    }
    world.trace.clear();
    (world, conv)
}

fn hear(world: &mut World, far: FarIn) {
    let conv = match &far {
        FarIn::Row(row) => row.conv,
        FarIn::Said(said) => said.conv,
        FarIn::Head { conv, .. } => *conv,
        FarIn::Word(_)
        | FarIn::Elsewhere { .. }
        | FarIn::Census
        | FarIn::Covered
        | FarIn::Ahead { .. }
        | FarIn::Alone { .. } => {
            panic!("of no conversation")
        }
    };
    let home = usize::from(home_of(conv, SHARDS).0);
    world.step(home, Event::Far(far));
    world.settle();
}

fn row(row: &FarRow) -> FarIn {
    FarIn::Row(Box::new(row.clone()))
}

fn head(conv: ConvId, lowest: u64, newest: u64) -> FarIn {
    let seq = |raw| Seq::new(raw).expect("small");
    FarIn::Head { conv, lowest: seq(lowest), newest: seq(newest) }
}

/// What `a` was told.
fn told(world: &mut World) -> Vec<String> {
    let lines = mem::take(&mut world.trace);
    lines.lines().filter_map(|line| line.strip_prefix("a: ")).map(str::to_owned).collect()
}

fn wait(world: &mut World, ms: u64) {
    world.line(&format!("wait {ms}"));
    world.settle();
}

fn sum(world: &mut World, of: impl Fn(&Tally) -> u64) -> u64 {
    world.shards.iter_mut().map(|shard| of(shard.tally())).sum()
}

#[test]
fn what_is_stored_here_is_told_to_the_others_as_a_row() {
    let (mut world, conv) = one_of_several();
    let here: Vec<_> = world.far.drain(..).collect();
    assert_eq!(here.len(), 2, "two users have come: {here:?}");
    world.line("a -> b: hi [x]");
    world.settle();
    let [FarOut::Row(far)] = world.far.as_slice() else { panic!("one row: {:?}", world.far) };
    assert_eq!((far.conv, far.row.seq.get(), far.before_ms), (conv, 1, Some(0)));
    assert!(far.row.body.contains("hi"));
}

#[test]
fn without_other_gateways_nothing_is_told() {
    let mut world = World::new(limits::OUTBOX_BYTES_MAX, false);
    for line in ["a: open", "b: open", "a -> b: hi [x]"] {
        world.line(line);
        world.settle();
    }
    assert!(world.far.is_empty(), "{:?}", world.far);
}

#[test]
fn a_row_that_has_its_turn_is_handed_on_without_a_read() {
    let (mut world, conv) = one_of_several();
    wait(&mut world, 5);
    elsewhere(&mut world, conv, "old", 1);
    let now_ms = world.now.wall_ms;
    let first = elsewhere(&mut world, conv, "one", now_ms);
    let second = elsewhere(&mut world, conv, "two", now_ms);
    for far in [&first, &second, &first, &second] {
        hear(&mut world, row(far));
    }
    assert_eq!(told(&mut world), ["push #2 b one", "push #3 b two"]);
    let known_us = world.now.mono_us();
    let milestones = Milestones { said_us: 0, known_us };
    let passages: Vec<_> = world.shards.iter_mut().flat_map(Shard::passages).collect();
    let of_two = |all: &[Passage]| all.iter().map(|one| one.count).sum::<u64>() >= 2;
    assert!(of_two(&passages) && passages.iter().all(|one| one.milestones == milestones), "{passages:?}");
    let counts =
        (sum(&mut world, |t| t.far_rows), sum(&mut world, |t| t.far_duplicates), sum(&mut world, |t| t.gap_reads));
    assert_eq!(counts, (2, 2, 0));
}

#[test]
fn rows_in_another_order_wait_for_each_other_and_then_are_read() {
    let (mut world, conv) = one_of_several();
    let now_ms = world.now.wall_ms;
    let rows: Vec<_> = ["one", "two", "three", "four"].map(|text| elsewhere(&mut world, conv, text, now_ms)).into();
    hear(&mut world, row(&rows[0]));
    hear(&mut world, row(&rows[2]));
    hear(&mut world, row(&rows[1]));
    assert_eq!(told(&mut world), ["push #1 b one", "push #2 b two", "push #3 b three"]);
    assert_eq!(sum(&mut world, |t| t.gap_reads), 0, "they came in time");
    let lost = elsewhere(&mut world, conv, "five", now_ms);
    hear(&mut world, row(&lost));
    assert_eq!(told(&mut world), [""; 0], "the one before it may be on its way");
    wait(&mut world, limits::FAR_PATIENCE_MS);
    assert_eq!(told(&mut world), ["push #4 b four", "push #5 b five"]);
    assert_eq!(sum(&mut world, |t| t.gap_reads), 1);
}

#[test]
fn the_digest_finds_what_the_bus_has_lost() {
    let (mut world, conv) = one_of_several();
    elsewhere(&mut world, conv, "long ago", 1);
    let now_ms = world.now.wall_ms;
    for text in ["one", "two"] {
        elsewhere(&mut world, conv, text, now_ms);
    }
    hear(&mut world, head(conv, 3, 3));
    assert_eq!(told(&mut world), ["push #2 b one", "push #3 b two"], "also what is below the digest, if it is young");
    hear(&mut world, head(conv, 2, 3));
    elsewhere(&mut world, conv, "three", now_ms);
    hear(&mut world, head(conv, 2, 4));
    wait(&mut world, limits::FAR_PATIENCE_MS);
    assert_eq!(told(&mut world), ["push #4 b three"]);
    assert_eq!(sum(&mut world, |t| t.digest_repairs), 1);
}

#[test]
fn a_scan_over_an_outage_finds_what_is_older_than_the_window() {
    let (mut world, conv) = one_of_several();
    for text in ["before", "one", "two"] {
        elsewhere(&mut world, conv, text, 1);
    }
    hear(&mut world, head(conv, 2, 3));
    assert_eq!(told(&mut world), ["push #2 b one", "push #3 b two"]);
}

#[test]
fn a_home_finds_its_beginning_behind_more_than_one_page() {
    let (mut world, conv) = one_of_several();
    elsewhere(&mut world, conv, "old", 1);
    let (now_ms, many) = (world.now.wall_ms, u64::from(limits::SYNC_ROWS_MAX) * 2 + 10);
    for n in 0..many {
        elsewhere(&mut world, conv, &format!("{n}"), now_ms);
    }
    hear(&mut world, head(conv, many, many + 1));
    wait(&mut world, limits::FAR_PATIENCE_MS);
    wait(&mut world, limits::FAR_PATIENCE_MS);
    let told = told(&mut world);
    assert_eq!(told.len() as u64, many, "from {:?} to {:?}", told.first(), told.last());
    assert_eq!(
        (told.first().map(String::as_str), told.last().cloned()),
        (Some("push #2 b 0"), Some(format!("push #{} b {}", many + 1, many - 1)),)
    );
}

#[test]
fn a_conversation_that_is_forgotten_is_not_shown_again() {
    let (mut world, conv) = one_of_several();
    let now_ms = world.now.wall_ms;
    let first = elsewhere(&mut world, conv, "one", now_ms);
    hear(&mut world, row(&first));
    wait(&mut world, 1);
    for shard in 0..world.shards.len() {
        world.step(shard, Event::Shed { bytes: 0 });
    }
    assert!(world.shards.iter().all(|shard| shard.home.len() == 0), "it is forgotten");
    hear(&mut world, head(conv, 1, 1));
    hear(&mut world, row(&first));
    assert_eq!(told(&mut world), ["push #1 b one"]);
    let second = elsewhere(&mut world, conv, "two", now_ms);
    hear(&mut world, row(&second));
    assert_eq!(told(&mut world), ["push #2 b two"]);
    assert_eq!(sum(&mut world, |t| t.gap_reads), 0);
}

/// While the row before it may be on its way, memory is short, and nothing tells of it again.
#[test]
fn a_conversation_that_waits_for_a_row_is_not_forgotten() {
    let (mut world, conv) = one_of_several();
    let now_ms = world.now.wall_ms;
    let first = elsewhere(&mut world, conv, "one", now_ms);
    hear(&mut world, row(&first));
    elsewhere(&mut world, conv, "two", now_ms);
    hear(&mut world, head(conv, 2, 2));
    wait(&mut world, 1);
    for shard in 0..world.shards.len() {
        world.step(shard, Event::Shed { bytes: 0 });
    }
    wait(&mut world, limits::FAR_PATIENCE_MS);
    assert_eq!(told(&mut world), ["push #1 b one", "push #2 b two"]);
}

/// Ours is committed, and its answer is on its way; the other gateway's, which came behind it, is
/// here already.
#[test]
fn our_own_row_in_a_gap_waits_for_its_answer() {
    let (mut world, conv) = one_of_several();
    let now_ms = world.now.wall_ms;
    let first = elsewhere(&mut world, conv, "one", now_ms);
    hear(&mut world, row(&first));
    world.trace.clear();
    world.line("hold store");
    world.line("a -> b: mine [x]");
    world.settle();
    let (shard, ask, what) = world.store.pop_front().expect("it is asked");
    let Ask::Write(write) = what else { panic!("a write") };
    let written = world.db.write(&write);
    let third = elsewhere(&mut world, conv, "three", now_ms);
    hear(&mut world, row(&third));
    wait(&mut world, limits::FAR_PATIENCE_MS);
    // The gap is read, and has our own row.
    let (reader, read, what) = world.store.pop_front().expect("the gap");
    let Ask::Read(page) = what else { panic!("a read") };
    let reply = Reply::Read(Ok(world.db.read(&page)));
    world.step(reader, Event::Settled { ask: read, reply });
    world.settle();
    assert_eq!(told(&mut world), [""; 0], "it is not another gateway's");
    world.step(shard, Event::Settled { ask, reply: Reply::Written(Ok(written)) });
    world.settle();
    assert_eq!(told(&mut world), ["ack #2 x", "push #3 b three"]);
    world.line("release store");
    wait(&mut world, limits::RETRY_MS);
    assert!(world.shards.iter().all(|shard| shard.outstanding() == 0));
}

/// The digest that told of the end may have gone past while no member was here.
#[test]
fn what_a_gaps_page_has_is_handed_on_to_its_end() {
    let (mut world, conv) = one_of_several();
    let now_ms = world.now.wall_ms;
    let rows: Vec<_> = ["one", "two", "three", "four"].map(|text| elsewhere(&mut world, conv, text, now_ms)).into();
    hear(&mut world, row(&rows[0]));
    hear(&mut world, head(conv, 2, 2));
    wait(&mut world, limits::FAR_PATIENCE_MS);
    assert_eq!(told(&mut world), ["push #1 b one", "push #2 b two", "push #3 b three", "push #4 b four"]);
    assert_eq!(sum(&mut world, |t| t.gap_reads), 1, "the page had all of it");
}

/// Behind what is known may stand a post of ours whose answer is on its way, so nothing of the page
/// beyond that is handed on before the answer has come.
#[test]
fn a_gaps_page_is_handed_on_no_further_than_known_while_a_post_is_under_way() {
    let (mut world, conv) = one_of_several();
    let now_ms = world.now.wall_ms;
    let first = elsewhere(&mut world, conv, "one", now_ms);
    hear(&mut world, row(&first));
    world.trace.clear();
    world.line("hold store");
    world.line("a -> b: mine [x]");
    world.settle();
    let (shard, ask, what) = world.store.pop_front().expect("it is asked");
    let Ask::Write(write) = what else { panic!("a write") };
    for text in ["two", "three", "four"] {
        elsewhere(&mut world, conv, text, now_ms);
    }
    hear(&mut world, head(conv, 2, 2));
    wait(&mut world, limits::FAR_PATIENCE_MS);
    let (reader, read, what) = world.store.pop_front().expect("the gap");
    let Ask::Read(page) = what else { panic!("a read") };
    let reply = Reply::Read(Ok(world.db.read(&page)));
    world.step(reader, Event::Settled { ask: read, reply });
    world.settle();
    assert_eq!(told(&mut world), ["push #2 b two"], "the page has two more");

    let written = world.db.write(&write);
    world.step(shard, Event::Settled { ask, reply: Reply::Written(Ok(written)) });
    world.line("release store");
    world.settle();
    wait(&mut world, limits::FAR_PATIENCE_MS);
    assert_eq!(told(&mut world), ["push #3 b three", "push #4 b four", "ack #5 x"]);
    assert!(world.shards.iter().all(|shard| shard.outstanding() == 0));
}

/// The user has had it on another gateway and has said so; the bus brings it here after the page
/// has opened.
#[test]
fn a_page_is_not_shown_what_its_user_had_elsewhere() {
    assert_eq!(page_of_who_has_read_elsewhere(None), ["push #2 b two"]);
}

#[test]
fn a_page_that_is_not_guarded_is_noticed() {
    let shown = page_of_who_has_read_elsewhere(Some(PlantedBug::UnguardedPage));
    assert_eq!(shown, ["push #1 b one", "push #2 b two"], "the planted bug shows");
}

fn page_of_who_has_read_elsewhere(planted_bug: Option<PlantedBug>) -> Vec<String> {
    let (mut world, conv) = one_of_several_with(planted_bug);
    let now_ms = world.now.wall_ms;
    let first = elsewhere(&mut world, conv, "one", now_ms);
    let (user, seq) = (user_of("a"), first.row.seq);
    world.db.write(&Write::Cursor { user, conv, recv: seq, read: seq });
    world.line("a2: open legacy");
    world.settle();
    world.trace.clear();
    hear(&mut world, row(&first));
    let second = elsewhere(&mut world, conv, "two", now_ms);
    hear(&mut world, row(&second));
    world.trace.lines().filter_map(|line| line.strip_prefix("a2: ")).map(str::to_owned).collect()
}

/// What the other gateways were told beside messages.
pub(super) fn words_told(world: &mut World) -> Vec<FarWord> {
    let told = world.far.drain(..).filter_map(|what| match what {
        FarOut::Word(word) => Some(word),
        FarOut::Row(_) | FarOut::Said(_) | FarOut::Here { .. } | FarOut::Census { .. } => None,
    });
    told.collect()
}

fn say(world: &mut World, user: UserId, word: FarWord) {
    world.step(usize::from(shard_of(user, SHARDS).0), Event::Far(FarIn::Word(word)));
    world.settle();
}

#[test]
fn who_types_is_told_once_in_a_pause_wherever_it_is_said() {
    let (mut world, conv) = one_of_several();
    let (user, word) = (user_of("b"), FarWord::Typing { user: user_of("b"), conv });
    say(&mut world, user, word.clone());
    say(&mut world, user, word);
    assert_eq!(told(&mut world), ["b types in 10:2"]);
    assert!(words_told(&mut world).is_empty(), "it is not said again to those who know");
    world.line("a: types b");
    world.line("a: types b");
    world.settle();
    assert_eq!(words_told(&mut world), [FarWord::Typing { user: user_of("a"), conv }]);
}

#[test]
fn a_word_of_another_gateway_does_not_pass_a_block() {
    let (mut world, conv) = one_of_several();
    world.line("block b a on");
    world.settle();
    told(&mut world);
    words_told(&mut world);
    let seq = Seq::new(1).expect("small");
    let user = user_of("b");
    say(&mut world, user, FarWord::Typing { user, conv });
    say(&mut world, user, FarWord::Cursor { user, conv, recv: seq, read: seq });
    assert_eq!(told(&mut world), [""; 0]);
}

#[test]
fn what_was_read_elsewhere_is_told_at_the_pace_of_one_gateway() {
    let (mut world, conv) = one_of_several();
    let user = user_of("b");
    let word = |recv: u64, read: u64| {
        let seq = |raw| Seq::new(raw).expect("small");
        FarWord::Cursor { user, conv, recv: seq(recv), read: seq(read) }
    };
    say(&mut world, user, word(1, 0));
    assert_eq!(told(&mut world), ["cursor of b in 10:2 1 0"]);
    // Two devices of the user, on two gateways.
    for word in [word(2, 2), word(4, 0), word(3, 3)] {
        say(&mut world, user, word);
    }
    assert_eq!(told(&mut world), [""; 0], "a moment later");
    wait(&mut world, limits::CURSOR_PACE_MS);
    assert_eq!(told(&mut world), ["cursor of b in 10:2 4 3"], "the most of all");
    assert!(words_told(&mut world).is_empty(), "it is not said again to those who know");
}

#[test]
fn hints_of_another_gateway_are_told_here_and_those_of_this_one_there() {
    let (mut world, _) = one_of_several();
    let user = user_of("a");
    words_told(&mut world);
    say(&mut world, user, FarWord::Hint { user, what: Hint::Friends, id: 9 });
    assert_eq!(told(&mut world), [r#"hint "friends" 9"#]);
    assert!(words_told(&mut world).is_empty());
    let group = GroupId::new(7).expect("small");
    world.line("regroup 7");
    world.settle();
    assert_eq!(words_told(&mut world), [FarWord::GroupHint { group }], "every shard is told, and one of them tells it");
}

#[test]
fn who_is_on_another_gateway_is_online_until_gone_there_as_well() {
    let (mut world, _) = one_of_several();
    let (user, shard) = (user_of("b"), usize::from(shard_of(user_of("b"), SHARDS).0));
    let elsewhere = |world: &mut World, on| {
        world.step(shard, Event::Far(FarIn::Elsewhere { rows: [(user, on)].into() }));
        world.settle();
    };
    world.line("a: watches b");
    world.settle();
    assert_eq!(told(&mut world), ["b online"]);
    elsewhere(&mut world, true);
    world.line("b: gone");
    wait(&mut world, limits::PRESENCE_PACE_MS);
    assert_eq!(told(&mut world), [""; 0], "still there");
    elsewhere(&mut world, false);
    wait(&mut world, limits::PRESENCE_PACE_MS);
    assert_eq!(told(&mut world), ["b offline"]);
}

/// The clock of the other gateway is ahead: a session that comes is the newest all the same.
#[test]
fn a_session_that_comes_is_never_the_one_that_is_too_many() {
    let (mut world, user, here) = one_session_of_a_user_elsewhere();
    assert_eq!(here.opened_ms, world.now.wall_ms + AHEAD_MS, "by the most advanced clock");
    let before = FarDevice { opened_ms: here.opened_ms - 1, id: 1, ..here };
    world.trace.clear();
    say(&mut world, user, FarWord::Devices { user, node: 9, asks: false, list: [before].into() });
    assert_eq!(world.trace, "");
    // Where that clock was not known yet, what has been heard is older still.
    let late = FarDevice { opened_ms: here.opened_ms + 60_000, ..before };
    say(&mut world, user, FarWord::Devices { user, node: 8, asks: false, list: [late].into() });
    assert!(world.trace.contains("c: close"), "{}", world.trace);
    words_told(&mut world);
    world.line("c2: open");
    world.settle();
    let told = words_told(&mut world);
    let [FarWord::Devices { asks: true, list, .. }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(list[0].opened_ms, late.opened_ms + 1);
}

/// How far the other gateway's clock is ahead.
const AHEAD_MS: u64 = 20_000;

/// A gateway of a user with one device, of which another gateway has said something; and a session
/// that has come here since.
fn one_session_of_a_user_elsewhere() -> (World, UserId, FarDevice) {
    let (mut world, _) = one_of_several();
    for shard in &mut world.shards {
        shard.io.setup.devices = DevicePolicy { total: 1, of_class: [1; 4] };
    }
    let (user, shard) = (user_of("c"), usize::from(shard_of(user_of("c"), SHARDS).0));
    world.step(shard, Event::Far(FarIn::Elsewhere { rows: [(user, true)].into() }));
    world.step(shard, Event::Far(FarIn::Ahead { ms: AHEAD_MS }));
    words_told(&mut world);
    world.line("c: open");
    world.settle();
    let told = words_told(&mut world);
    let [FarWord::Devices { asks: true, list, .. }] = told.as_slice() else { panic!("{told:?}") };
    let here = list[0];
    (world, user, here)
}

/// A device comes back on another gateway before its session here was missed: that one is older,
/// however short a time it has been here.
#[test]
fn a_session_that_comes_elsewhere_a_moment_later_is_the_newer_one() {
    let (mut world, user, here) = one_session_of_a_user_elsewhere();
    wait(&mut world, 600);
    world.trace.clear();
    let back = FarDevice { opened_ms: here.opened_ms + 600, id: 2, ..here };
    say(&mut world, user, FarWord::Devices { user, node: 9, asks: true, list: [back].into() });
    assert!(world.trace.contains("c: close"), "{}", world.trace);
    assert_eq!(words_told(&mut world), [], "and nothing is left to tell");
}

#[test]
fn what_is_kept_nowhere_is_told_once_and_heard_as_it_was_said() {
    let (mut world, conv) = one_of_several();
    world.far.clear();
    let post = |to| Notice::Post {
        user: user_of("a"),
        to,
        cid: None,
        body: "\"content\":\"soon gone\"".into(),
        way: Way::Fleeting,
    };
    let shard = usize::from(shard_of(user_of("a"), SHARDS).0);
    world.step(shard, Event::Notice { id: 1, notice: post(Target::User(user_of("b"))) });
    world.settle();
    let [FarOut::Said(said)] = world.far.as_slice() else { panic!("one message: {:?}", world.far) };
    let said = said.clone();
    assert_eq!((said.conv, said.to_all, said.sender), (conv, false, user_of("a")));
    assert_eq!(told(&mut world), ["push a soon gone"]);
    // Of another gateway it is handed on, and not told again.
    world.far.clear();
    hear(&mut world, FarIn::Said(said));
    assert_eq!(told(&mut world), ["push a soon gone"]);
    assert!(world.far.is_empty(), "{:?}", world.far);
    assert_eq!(sum(&mut world, |t| t.stored), 1, "it was accepted once");
}

/// A backend says something to open sessions, and then stores a message under the same `cid`.
#[test]
fn what_was_kept_nowhere_is_no_answer_to_what_is_to_be_stored() {
    let (mut world, _) = one_of_several();
    let said = |world: &mut World, way| {
        let (to, cid) = (Target::User(user_of("b")), Some("c".into()));
        let notice = Notice::Post { user: user_of("a"), to, cid, body: "\"content\":\"x\"".into(), way };
        world.step(usize::from(shard_of(user_of("a"), SHARDS).0), Event::Notice { id: 1, notice });
        world.settle();
        let trace = mem::take(&mut world.trace);
        let answer = trace.lines().find(|line| line.starts_with("notice 1")).expect("an answer").to_owned();
        (answer.contains("stored: Some"), answer.contains("dup: true"))
    };
    assert_eq!(said(&mut world, Way::Fleeting), (false, false));
    assert_eq!(said(&mut world, Way::Fleeting), (false, true), "a repetition");
    assert_eq!(said(&mut world, Way::Judged), (true, false));
    assert_eq!(said(&mut world, Way::Judged), (true, true));
    assert_eq!(said(&mut world, Way::Fleeting), (true, true), "it has reached the sessions");
}

#[test]
fn what_is_for_everybody_is_told_by_one_shard_and_reaches_all_sessions_of_the_others() {
    let (mut world, _) = one_of_several();
    world.far.clear();
    let user = user_of("b");
    for shard in 0..usize::from(SHARDS) {
        let notice = Notice::Announce { user, body: "\"content\":\"all\"".into(), ts_ms: 5 };
        world.step(shard, Event::Notice { id: 1, notice });
    }
    world.settle();
    let [FarOut::Said(said)] = world.far.as_slice() else { panic!("once: {:?}", world.far) };
    let said = said.clone();
    assert_eq!((said.to_all, said.conv), (true, ConvId::direct(user, user)));
    assert_eq!(told(&mut world), ["push b all"]);
    world.far.clear();
    for shard in 0..usize::from(SHARDS) {
        world.step(shard, Event::Far(FarIn::Said(said.clone())));
    }
    world.settle();
    assert_eq!(told(&mut world), ["push b all"]);
    assert!(world.far.is_empty(), "{:?}", world.far);
}

/// A message to somebody who is away is told by the gateway that has stored it, also where its
/// author has a session on another one; and by that one, if it was taken for the recipient's.
#[test]
fn who_is_away_is_told_by_the_gateway_that_has_stored_the_message() {
    let (mut world, conv) = one_of_several();
    world.shards.iter_mut().for_each(|shard| shard.io.setup.tells_offline = true);
    let away = |world: &mut World| mem::take(&mut world.trace).matches("1 is away").count();
    let (now_ms, a) = (world.now.wall_ms, user_of("a"));
    world.line("a: gone");
    world.settle();
    let first = elsewhere(&mut world, conv, "one", now_ms);
    hear(&mut world, row(&first));
    assert_eq!(away(&mut world), 1, "the other gateway took it for one that is here");
    world.line("b -> a: here [c1]");
    world.settle();
    assert_eq!(away(&mut world), 1);
    wait(&mut world, limits::DEPARTED_MS);
    let second = elsewhere(&mut world, conv, "two", now_ms);
    hear(&mut world, row(&second));
    elsewhere(&mut world, conv, "three", now_ms);
    hear(&mut world, head(conv, 4, 4));
    wait(&mut world, limits::FAR_PATIENCE_MS);
    assert_eq!(sum(&mut world, |t| t.gap_reads), 1, "it was read and handed on");
    assert_eq!(away(&mut world), 0, "and told there");
    world.line("b -> a: here again [c2]");
    world.settle();
    assert_eq!(away(&mut world), 1);
    world.step(usize::from(shard_of(a, SHARDS).0), Event::Far(FarIn::Elsewhere { rows: [(a, true)].into() }));
    world.line("b -> a: you are there [c3]");
    world.settle();
    assert_eq!(away(&mut world), 0);
    // While the bus is away, nobody says who has left.
    let alone = |world: &mut World, on| {
        (0..usize::from(SHARDS)).for_each(|shard| world.step(shard, Event::Far(FarIn::Alone { on })));
    };
    alone(&mut world, true);
    world.line("b -> a: are you [c4]");
    world.settle();
    assert_eq!(away(&mut world), 1);
    let seen = elsewhere(&mut world, conv, "by the database", now_ms);
    hear(&mut world, row(&seen));
    assert_eq!(away(&mut world), 1, "the other gateway may take it for one that is here");
    alone(&mut world, false);
    world.line("b -> a: you are [c5]");
    world.settle();
    assert_eq!(away(&mut world), 0);
}

/// One of several gateways, which `a` has left some time ago.
fn one_that_tells_who_is_away() -> (World, ConvId) {
    let (mut world, conv) = one_of_several();
    world.shards.iter_mut().for_each(|shard| shard.io.setup.tells_offline = true);
    world.line("b -> a: one [c0]");
    world.line("a: gone");
    wait(&mut world, limits::DEPARTED_MS);
    world.trace.clear();
    (world, conv)
}

/// A gateway has stored it and was gone before it could tell; its author asks another one.
#[test]
fn who_is_away_is_told_of_a_message_whose_author_asks_here_what_became_of_it() {
    let (mut world, conv) = one_that_tells_who_is_away();
    let (key, body) = (PostKey::Client("c9".into()), r#""content":"nine""#.into());
    let ts_ms = world.now.wall_ms;
    world.db.insert(&store::NewMessage { conv, sender: user_of("b"), key, ts_ms, body });
    world.line("b -> a: nine [c9]");
    world.settle();
    wait(&mut world, limits::FAR_PATIENCE_MS);
    assert!(world.trace.contains(" dup") && world.trace.contains("1 is away"), "{}", world.trace);
}

/// A post whose outcome stayed unknown is found in the database: it may be this gateway's.
#[test]
fn who_is_away_is_told_of_a_post_that_was_given_up() {
    let (mut world, conv) = one_that_tells_who_is_away();
    let home = usize::from(home_of(conv, SHARDS).0);
    world.held = true;
    world.line("b -> a: two [c1]");
    world.settle();
    for _ in 0..=limits::UNKNOWN_RETRIES_MAX {
        let Some((shard, ask, Ask::Write(write))) = world.store.pop_front() else { panic!("a post is in the store") };
        assert_eq!(shard, home);
        world.db.write(&write);
        let reply = Reply::Written(Err(store::Error::Unknown("test".into())));
        world.step(shard, Event::Settled { ask, reply });
    }
    world.held = false;
    world.settle();
    wait(&mut world, limits::FAR_PATIENCE_MS);
    assert!(world.trace.contains("b: refused 21") && world.trace.contains("1 is away"), "{}", world.trace);
}

#[test]
fn who_is_disconnected_on_one_gateway_is_disconnected_on_all() {
    let (mut world, _) = one_of_several();
    world.far.clear();
    let user = user_of("a");
    let shard = usize::from(shard_of(user, SHARDS).0);
    world.step(shard, Event::Notice { id: 1, notice: Notice::Disconnect { user } });
    world.settle();
    assert_eq!(words_told(&mut world), [FarWord::Disconnect { user }]);
    assert_eq!(told(&mut world), ["close 4000"]);
    // Another gateway says it of the other.
    say(&mut world, user_of("b"), FarWord::Disconnect { user: user_of("b") });
    assert!(world.trace.contains("b: close 4000"), "{}", world.trace);
    assert!(words_told(&mut world).is_empty(), "it is not said again");
}

#[test]
fn a_shard_tells_all_its_users_when_it_is_asked() {
    let (mut world, _) = one_of_several();
    world.line("a2: open");
    world.settle();
    world.far.clear();
    for shard in 0..usize::from(SHARDS) {
        world.step(shard, Event::Far(FarIn::Census));
    }
    let mut told: Vec<UserId> = Vec::new();
    for what in world.far.drain(..) {
        let FarOut::Census { users } = what else { panic!("{what:?}") };
        told.extend(users);
    }
    told.sort_unstable();
    assert_eq!(told, [user_of("a"), user_of("b")], "each once");
}

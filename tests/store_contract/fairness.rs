//! Whose turn it is in the store's queues: nobody keeps others waiting.

use std::sync::{Arc, mpsc};

use imgate::clock::Clock;
use imgate::ids::{ConvId, Seq};
use imgate::limits::{COMMIT_WRITES_FIRST, COMMIT_WRITES_MAX, COMMIT_WRITES_MIN, COMMIT_WRITES_SHARED_MIN};
use imgate::store::worker::{Lane, LanePlace, Replies, Reply, Store};
use imgate::store::{Keep, Opened};

use super::workers::{Faulty, PATIENCE, Rig, Script, Sink, filled, pair, ticket, written};
use super::*;

#[test]
fn the_quiet_are_stored_with_the_next_batch_however_much_the_greedy_say() {
    let rig = Rig::new(1);
    let (waits, open) = rig.script.close_gate();
    rig.post(0, pair(), 1, "first");
    waits.recv_timeout(PATIENCE).expect("the first commit runs");
    let (most, quiet) = (COMMIT_WRITES_MAX as u32, ConvId::direct(uid(7), uid(8)));
    for ask in 1..=3 * most {
        rig.post(ask, pair(), 1, &ask.to_string());
    }
    let last = 3 * most + 1;
    rig.post(last, quiet, 7, "quiet");
    drop(open);
    let answers = rig.sink.wait(last as usize + 1);
    let settled = rig.sink.settled.lock().expect("no panic");
    let batch =
        |ask: u32| settled.iter().position(|(_, replies)| replies.iter().any(|(n, _)| *n == ask)).expect("answered");
    // One for the batch that ran; the one after it is told to two shards.
    assert!(batch(last) <= 2, "it is in the batch after the one that ran");
    for ask in 0..=3 * most {
        let seq = stored(&written(&answers[&ticket(ask)]).expect("stored"));
        assert_eq!(seq, 1 + u64::from(ask), "one's own messages stay in their order");
    }
}

#[test]
fn commits_are_short_once_a_user_has_written_that_writes_now_and_then() {
    let sizes = |quiet: bool| {
        let rig = Rig::new(1);
        // A short commit has room for ten of these, another one for forty; each has its least number.
        rig.script.writes_take(100);
        let (waits, open) = rig.script.close_gate();
        rig.post(0, pair(), 1, "first");
        waits.recv_timeout(PATIENCE).expect("the first commit runs");
        for ask in 1..300 {
            rig.post(ask, pair(), 1, &ask.to_string());
        }
        if quiet {
            rig.post(300, ConvId::direct(uid(7), uid(8)), 7, "quiet");
        }
        drop(open);
        rig.sink.wait(300 + usize::from(quiet));
        rig.script.commits()
    };
    assert_eq!(sizes(false)[..4], [1, COMMIT_WRITES_FIRST, COMMIT_WRITES_MIN, COMMIT_WRITES_MIN]);
    assert_eq!(sizes(true)[..4], [1, 1, COMMIT_WRITES_FIRST, COMMIT_WRITES_SHARED_MIN]);
}

#[test]
fn calls_and_writes_do_not_keep_each_other_waiting() {
    let rig = Rig::new(1);
    let (waits, open) = rig.script.close_gate();
    rig.post(0, pair(), 1, "first");
    waits.recv_timeout(PATIENCE).expect("the first commit runs");
    let (tell, told) = mpsc::channel();
    let call = |lane: Lane, name: u32| {
        let tell = tell.clone();
        rig.store.call(LanePlace::of(lane), Box::new(move |_| tell.send(name).expect("awaited"))).expect("a place");
    };
    (0..200).for_each(|name| call(Lane::Light, name));
    call(Lane::Login, 1000);
    rig.post(1, pair(), 1, "second");
    drop(open);
    rig.sink.wait(2);
    let order: Vec<u32> = (0..201).map(|_| told.recv_timeout(PATIENCE).expect("every call runs")).collect();
    let login = order.iter().position(|name| *name == 1000).expect("it ran");
    assert!(login <= 2, "lanes are served in turn: {login}");
    assert!(order.iter().filter(|name| **name < 1000).is_sorted());
}

#[test]
fn a_session_opens_while_every_other_reader_stands() {
    let memory = filled(3);
    let script = Arc::new(Script::default());
    let faulty = || -> Box<dyn Backend> {
        Box::new(Faulty { backend: Box::new(memory.connect()), script: Arc::clone(&script) })
    };
    let opened =
        Opened { writers: vec![faulty()], readers: vec![faulty(), faulty()], upkeep: None, keep: Keep::default() };
    let sink = Arc::new(Sink::default());
    let replies: Arc<dyn Replies> = sink.clone();
    let store = Store::start(opened, 2, replies, Clock::start()).expect("threads");
    let (waits, open) = script.close_gate();
    let from = PageStart::After(Seq::ZERO);
    for ask in 0..500 {
        store.read(
            ticket(ask),
            Read::Page { conv: pair(), reader: Some(uid(1)), from, rows_max: 200, bytes_max: 1 << 20 },
        );
    }
    store.ring();
    waits.recv_timeout(PATIENCE).expect("a page is being read");
    store.read(ticket(500), Read::Open { user: uid(9) });
    store.ring();
    let (tell, told) = mpsc::channel();
    let login =
        move |db: &mut dyn Backend| tell.send(db.people().user(uid(3)).expect("works").is_some()).expect("awaited");
    store.query(LanePlace::of(Lane::Login), Box::new(login)).expect("a place");
    assert!(matches!(sink.wait(1)[&ticket(500)], Reply::Read(Ok(ReadAnswer::Open(_)))));
    assert!(told.recv_timeout(PATIENCE).expect("so is a login"));
    assert!(store.gauges().reads_queued[Lane::Heavy as usize] > 400);
    drop(open);
    assert_eq!(sink.wait(501).len(), 501);
    assert_eq!(store.gauges().reads_queued, [0; 4]);
}

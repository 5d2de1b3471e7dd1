//! Retention: floors move, numbers do not, keys live on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use imgate::ids::{ConvId, ID_MAX, Seq};
use imgate::store::{NewMessage, PostKey, Read, ReadAnswer, Retention, Trimmed, Write, Written};

use super::*;

/// Steps that are enough for everything in one of these tests.
const ALL: u32 = 100_000;

fn pair() -> ConvId {
    ConvId::direct(uid(1), uid(2))
}

fn after(raw: u64) -> PageStart {
    PageStart::After(Seq::new(raw).expect("in range"))
}

fn before(raw: u64) -> PageStart {
    PageStart::Before(Seq::new(raw).expect("in range"))
}

fn newest(count: u64) -> Retention {
    Retention { count, ..Retention::default() }
}

fn since(before_ms: u64) -> Retention {
    Retention { before_ms, ..Retention::default() }
}

/// One message of user 1 for each of these times; its key is its time.
fn at(conv: ConvId, times: &[u64]) -> Vec<Write> {
    let key = |ms: u64| PostKey::Client(format!("{conv:?} {ms}").into());
    let one = |&ts_ms| NewMessage { conv, sender: uid(1), key: key(ts_ms), ts_ms, body: "x".into() };
    times.iter().map(|ms| Write::Append(one(ms))).collect()
}

/// A whole pass, and another that finds nothing.
fn pass(db: &mut dyn Backend, retention: Retention) -> Trimmed {
    let trimmed = steps(db, retention, ALL).into_iter().fold(Trimmed::default(), |all, step| Trimmed {
        messages: all.messages + step.messages,
        keys: all.keys + step.keys,
        ..step
    });
    let again = steps(db, retention, ALL);
    assert!(again.iter().all(|step| step.messages == 0 && step.keys == 0), "{again:?}");
    trimmed
}

/// The steps of one pass.
fn steps(db: &mut dyn Backend, retention: Retention, steps_max: u32) -> Vec<Trimmed> {
    let mut steps = Vec::new();
    while steps.last().is_none_or(|step: &Trimmed| !step.done) {
        steps.push(db.trim(&retention, steps_max).expect("trimmed"));
        assert!(steps.len() < 10_000, "a pass ends");
    }
    steps
}

/// Numbers kept, floor, head.
fn kept(db: &mut dyn Backend, conv: ConvId) -> (Vec<u64>, u64, u64) {
    let page = all(db, conv);
    (seqs(&page), page.floor.get(), page.head.get())
}

pub(super) fn the_newest_are_kept(site: &Site) {
    let mut db = site.connect();
    users(&mut *db, 3);
    let short = ConvId::direct(uid(1), uid(3));
    commit(&mut *db, &at(pair(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    commit(&mut *db, &at(short, &[1, 2, 3, 4]));
    assert_eq!(pass(&mut *db, Retention::default()), Trimmed { done: true, ..Trimmed::default() });
    assert_eq!(pass(&mut *db, newest(4)), Trimmed { messages: 6, done: true, ..Trimmed::default() });
    assert_eq!(kept(&mut *db, pair()), (vec![7, 8, 9, 10], 7, 10));
    assert_eq!(kept(&mut *db, short), (vec![1, 2, 3, 4], 1, 4));
    drop(db);

    let db = &mut *site.connect();
    assert_eq!(kept(db, pair()), (vec![7, 8, 9, 10], 7, 10), "also after a restart");
    let seen = |page: Page| (seqs(&page), page.more, page.floor.get());
    assert_eq!(seen(page(db, pair(), Some(2), after(3), 2)), (vec![7, 8], true, 7), "the gap shows in the floor");
    assert_eq!(seen(page(db, pair(), Some(2), after(6), 9)), (vec![7, 8, 9, 10], false, 7));
    assert_eq!(seen(page(db, pair(), Some(2), before(7), 9)), (vec![], false, 7));
    assert_eq!(seen(page(db, pair(), Some(2), before(2), 9)), (vec![], false, 7));
    assert_eq!(seen(page(db, pair(), Some(2), before(ID_MAX), 3)), (vec![8, 9, 10], true, 7));
    assert_eq!(seen(page(db, pair(), Some(2), before(9), 2)), (vec![7, 8], false, 7));
    assert_eq!(commit(db, &at(pair(), &[11])).iter().map(stored).collect::<Vec<_>>(), [11], "numbers go on");
    assert_eq!(pass(db, newest(4)).messages, 1);
    assert_eq!(kept(db, pair()), (vec![8, 9, 10, 11], 8, 11));
    assert_eq!(pass(db, newest(100)).messages, 0, "a floor does not come back");
    assert_eq!(kept(db, pair()).1, 8);
}

pub(super) fn what_is_young_is_kept(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    // Times step back: the first young one keeps all that come after it, else there would be a hole.
    commit(db, &at(pair(), &[10, 20, 11, 30, 12, 40]));
    assert_eq!(pass(db, since(10)).messages, 0, "not older than the line");
    assert_eq!(pass(db, since(15)).messages, 1);
    assert_eq!(kept(db, pair()), (vec![2, 3, 4, 5, 6], 2, 6));
    assert_eq!(pass(db, since(25)).messages, 2);
    assert_eq!(kept(db, pair()), (vec![4, 5, 6], 4, 6));
}

pub(super) fn the_stricter_rule_holds(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let other = ConvId::direct(uid(1), uid(3));
    commit(db, &at(pair(), &[10, 20, 30, 40, 50]));
    commit(db, &at(other, &[10, 20, 30, 40, 50, 60]));
    let both = Retention { before_ms: 45, count: 3, keys_before_ms: 0 };
    assert_eq!(pass(db, both).messages, 4 + 4);
    assert_eq!((kept(db, pair()), kept(db, other)), ((vec![5], 5, 5), (vec![5, 6], 5, 6)));
    let counted = Retention { before_ms: 15, count: 1, keys_before_ms: 0 };
    assert_eq!(pass(db, counted).messages, 1);
    assert_eq!(kept(db, other), (vec![6], 6, 6));
}

pub(super) fn nothing_kept_is_still_a_conversation(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    commit(db, &at(pair(), &[10, 20, 30]));
    assert_eq!(pass(db, since(1_000)).messages, 3);
    for from in [after(0), after(2), after(3), after(9), before(ID_MAX), before(3)] {
        let page = page(db, pair(), Some(1), from, 5);
        assert_eq!((page.rows.len(), page.more, page.floor.get(), page.head.get()), (0, false, 4, 3), "{from:?}");
    }
    assert_eq!(commit_one(db, Write::Head(pair())), Written::Head { head: Seq::new(3).expect("in range") });
    let listed = |db: &mut dyn Backend, missed, max| match db
        .read(&[Read::Heads { user: uid(2), before: None, missed, max }])
        .expect("read")
        .remove(0)
    {
        ReadAnswer::Heads(heads) => (heads.convs, heads.more),
        other => panic!("{other:?}"),
    };
    let (heads, _) = listed(db, false, 9);
    let told: Vec<_> = heads.iter().map(|s| (s.head.get(), s.ts_ms, s.floor.get(), s.recv.get(), s.unread)).collect();
    assert_eq!(told, [(3, 30, 4, 0, 0)]);
    assert_eq!(listed(db, true, 9), (vec![], false), "who asks for what was missed is not told of it");
    assert_eq!(stored(&commit(db, &at(pair(), &[2_000]))[0]), 4);
    assert_eq!(pass(db, since(1_000)).messages, 0);
    assert_eq!(kept(db, pair()), (vec![4], 4, 4));
    let (heads, more) = listed(db, true, 1);
    assert_eq!((heads.iter().map(|state| state.conv).collect(), more), (vec![pair()], false), "it has a message again");
}

pub(super) fn what_is_empty_takes_no_place_from_what_is_kept(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    let with = |n: u64| ConvId::direct(uid(1), uid(n));
    let of_group = ConvId::Group(group(db, uid(4)));
    // The newest conversation is emptied, and the group is joined after its only message.
    commit(db, &at(with(2), &[3_000]));
    assert_eq!(pass(db, since(3_500)).messages, 1);
    commit(db, &at(with(3), &[2_000]));
    commit(db, &at(with(4), &[1_000]));
    let ConvId::Group(id) = of_group else { panic!("a group") };
    commit_one(db, post(of_group, 4, "before"));
    commit_one(db, Write::Join { group: id, user: uid(1) });
    let convs = |db: &mut dyn Backend, missed, before, max| match db
        .read(&[Read::Heads { user: uid(1), before, missed, max }])
        .expect("read")
        .remove(0)
    {
        ReadAnswer::Heads(heads) => {
            let last = heads.convs.last().map(|state| (state.ts_ms, state.conv));
            (heads.convs.iter().map(|state| state.conv).collect::<Vec<_>>(), heads.more, last)
        }
        other => panic!("{other:?}"),
    };
    let (first, more, last) = convs(db, true, None, 1);
    assert_eq!((first, more), (vec![with(3)], true));
    let (second, more, _) = convs(db, true, last, 9);
    assert_eq!((second, more), (vec![with(4)], false), "neither the emptied one nor the group that was joined later");
    assert_eq!(convs(db, false, None, 9).0.len(), 4, "the list has them all");
}

pub(super) fn steps_are_bounded_and_reach_the_end(site: &Site) {
    const CONVS: u64 = 30;
    const EACH: u64 = 20;
    let db = &mut *site.connect();
    users(db, CONVS + 1);
    let with = |n: u64| ConvId::direct(uid(1), uid(n));
    let times: Vec<u64> = (1..=EACH).collect();
    for n in 2..=CONVS + 1 {
        commit(db, &at(with(n), &times));
    }
    for (retention, steps_max, first_kept) in [
        (newest(15), 2, 6),
        (since(8), 3, 8),
        (Retention { before_ms: 5, count: 8, keys_before_ms: 0 }, 7, 13),
        (since(15), 50, 15),
        (since(1_000), 33, EACH + 1),
    ] {
        let (mut removed, mut floors) = (0, 0);
        let before: u64 = (2..=CONVS + 1).map(|n| kept(db, with(n)).1).sum();
        loop {
            let step = db.trim(&retention, steps_max).expect("trimmed");
            assert!(step.messages < u64::from(steps_max), "{step:?}");
            removed += step.messages;
            if step.done {
                break;
            }
            floors += 1;
            assert!(floors < 10_000, "a pass ends");
            // Whatever is left half done has no hole.
            let n = 2 + floors % CONVS;
            let (numbers, floor, head) = kept(db, with(n));
            assert_eq!((numbers, head), ((floor..=EACH).collect(), EACH));
            assert!(floor <= first_kept, "never more than allowed");
        }
        let after: u64 = (2..=CONVS + 1).map(|n| kept(db, with(n)).1).sum();
        assert_eq!((after, removed), (CONVS * first_kept, after - before), "{retention:?}");
    }
}

pub(super) fn unread_ends_at_the_floor(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    commit(db, &at(pair(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    let cursor = |recv, read| {
        let seq = |raw| Seq::new(raw).expect("in range");
        Write::Cursor { user: uid(2), conv: pair(), recv: seq(recv), read: seq(read) }
    };
    commit_one(db, cursor(4, 2));
    pass(db, newest(3));
    let stand =
        |db: &mut dyn Backend| match db.read(&[Read::Heads { user: uid(2), before: None, missed: false, max: 1 }]) {
            Ok(answers) => match &answers[..] {
                [ReadAnswer::Heads(heads)] => {
                    let state = &heads.convs[0];
                    (state.floor.get(), state.recv.get(), state.read.get(), state.unread)
                }
                other => panic!("{other:?}"),
            },
            Err(error) => panic!("{error}"),
        };
    assert_eq!(stand(db), (8, 4, 2, 3), "what is gone is not unread; the cursor stays where it was");
    commit_one(db, cursor(9, 9));
    assert_eq!(stand(db), (8, 9, 9, 1));
}

pub(super) fn a_membership_may_begin_above_the_floor(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let group_id = group(db, uid(1));
    let conv = ConvId::Group(group_id);
    commit(db, &at(conv, &[1, 2, 3, 4]));
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    commit(db, &at(conv, &[5, 6, 7, 8]));
    pass(db, newest(6));
    let mut seen = |user| {
        let page = page(db, conv, Some(user), after(0), 9);
        (seqs(&page), page.floor.get())
    };
    assert_eq!((seen(1), seen(2)), ((vec![3, 4, 5, 6, 7, 8], 3), (vec![5, 6, 7, 8], 5)));
    pass(db, newest(2));
    let mut seen = |user| {
        let page = page(db, conv, Some(user), after(0), 9);
        (seqs(&page), page.floor.get())
    };
    assert_eq!((seen(1), seen(2)), ((vec![7, 8], 7), (vec![7, 8], 7)));
}

pub(super) fn keys_outlive_their_messages(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let writes = at(pair(), &[10, 20, 30, 40]);
    let first = commit(db, &writes);
    assert_eq!(pass(db, Retention { before_ms: 35, count: 0, keys_before_ms: 10 }).keys, 0);
    for (write, first) in writes.iter().zip(&first) {
        let (Written::Stored { seq, id, ts_ms, .. }, conv) = (first.clone(), pair()) else { panic!("{first:?}") };
        assert_eq!(commit_one(db, write.clone()), Written::Duplicate { conv, seq, id, ts_ms }, "its old answer");
    }
    assert_eq!(kept(db, pair()), (vec![4], 4, 4));
    // Steps of two keys each: the pass reaches the last one.
    let keys = |db: &mut dyn Backend| {
        let old = Retention { before_ms: 0, count: 0, keys_before_ms: 25 };
        steps(db, old, 2).iter().map(|step| step.keys).sum::<u64>()
    };
    assert_eq!((keys(db), keys(db)), (2, 0));
    assert_eq!(stored(&commit_one(db, writes[0].clone())), 5, "nobody knows it any more");
    assert_eq!(stored(&commit_one(db, writes[1].clone())), 6);
    assert!(matches!(commit_one(db, writes[2].clone()), Written::Duplicate { seq, .. } if seq.get() == 3));
    assert!(matches!(commit_one(db, writes[3].clone()), Written::Duplicate { seq, .. } if seq.get() == 4));
}

pub(super) fn readers_see_no_hole_while_floors_move(site: &Site) {
    const MESSAGES: u64 = 600;
    let mut connections = site.connect_all(2);
    let mut reader = connections.pop().expect("two connections");
    let mut writer = connections.pop().expect("two connections");
    users(&mut *writer, 2);
    for batch in (1..=MESSAGES).collect::<Vec<_>>().chunks(100) {
        commit(&mut *writer, &at(pair(), batch));
    }
    let done = AtomicBool::new(false);
    let (round, rounds) = mpsc::sync_channel(1);
    let pages = thread::scope(|scope| {
        let done = &done;
        let reading = scope.spawn(move || {
            let (mut floor, mut pages, mut last) = (1, 0, false);
            while !last {
                last = done.load(Ordering::SeqCst);
                for from in [after(0), after(MESSAGES / 2), before(MESSAGES), before(MESSAGES / 2)] {
                    let page = page(&mut *reader, pair(), Some(2), from, 50);
                    let numbers = seqs(&page);
                    assert!(page.floor.get() >= floor, "floors only rise");
                    floor = page.floor.get();
                    assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "{from:?}: {numbers:?}");
                    if let PageStart::After(after) = from {
                        let first = floor.max(after.get() + 1);
                        assert_eq!(numbers.first().copied().unwrap_or(first), first, "{from:?}, floor {floor}");
                        assert!(numbers.len() == 50 || first + 50 > MESSAGES, "a whole page, or the end");
                    } else if let (PageStart::Before(before), Some(&newest)) = (from, numbers.last()) {
                        assert_eq!(newest + 1, before.get(), "{from:?}");
                    }
                    pages += 1;
                }
                // Full: the writer has not come halfway.
                let _ = round.try_send(());
            }
            pages
        });
        for count in (1..MESSAGES / 10).rev() {
            steps(&mut *writer, newest(count * 10), 8);
            if count == MESSAGES / 20 {
                // A writer in memory may be done before the reader's thread has begun. Should that end, its panic tells.
                let _ = rounds.recv();
            }
        }
        done.store(true, Ordering::SeqCst);
        reading.join().expect("no hole")
    });
    assert!(pages > 4, "it read while floors moved");
    assert_eq!(kept(&mut *writer, pair()).0.len(), 10);
}

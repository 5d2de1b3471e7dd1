//! Cursors, and the conversations of a user with what is unread.

use std::collections::BTreeMap;

use imgate::ids::{ConvId, GroupId, ID_MAX, Seq};
use imgate::limits::{HEADS_MAX, PREVIEW_BYTES_MAX, UNREAD_MAX, UNREAD_SCAN_MAX};
use imgate::store::{ConvState, Heads, NewMessage, PostKey, Read, ReadAnswer, Seed, Write, Written};

use super::*;

fn pair() -> ConvId {
    ConvId::direct(uid(1), uid(2))
}

fn seq(raw: u64) -> Seq {
    Seq::new(raw).expect("in range")
}

/// A message of `sender` at the time `ts_ms`; nobody sends two at one time.
fn say(conv: ConvId, sender: u64, ts_ms: u64) -> Write {
    let key = PostKey::Client(format!("{conv:?} {ts_ms}").into());
    Write::Append(NewMessage { conv, sender: uid(sender), key, ts_ms, body: "x".into() })
}

/// `n` messages of `sender`.
fn fill(db: &mut dyn Backend, conv: ConvId, sender: u64, n: u64) {
    let key = |k| PostKey::Client(format!("{conv:?} {sender} {k}").into());
    let one = |k| NewMessage { conv, sender: uid(sender), key: key(k), ts_ms: 5, body: "x".into() };
    let first = match commit_one(db, Write::Head(conv)) {
        Written::Head { head } => head.get(),
        other => panic!("{other:?}"),
    };
    let writes: Vec<Write> = (first..first + n).map(|k| Write::Append(one(k))).collect();
    assert!(commit(db, &writes).iter().all(|w| stored(w) > 0));
}

fn cursor(user: u64, conv: ConvId, recv: u64, read: u64) -> Write {
    Write::Cursor { user: uid(user), conv, recv: seq(recv), read: seq(read) }
}

fn keep(db: &mut dyn Backend, user: u64, conv: ConvId, recv: u64, read: u64) {
    assert_eq!(commit_one(db, cursor(user, conv, recv, read)), Written::Kept);
}

fn heads_from(db: &mut dyn Backend, user: u64, before: Option<(u64, ConvId)>, max: u32) -> Heads {
    match db.read(&[Read::Heads { user: uid(user), before, missed: false, max }]).expect("read").remove(0) {
        ReadAnswer::Heads(heads) => heads,
        other => panic!("{other:?}"),
    }
}

fn heads(db: &mut dyn Backend, user: u64) -> Vec<ConvState> {
    let heads = heads_from(db, user, None, HEADS_MAX);
    assert!(!heads.more);
    heads.convs
}

/// What `user` is told of `conv`: received, read, unread.
fn stand(db: &mut dyn Backend, user: u64, conv: ConvId) -> (u64, u64, u64) {
    let state = heads(db, user).into_iter().find(|state| state.conv == conv).expect("it has messages");
    (state.recv.get(), state.read.get(), state.unread)
}

pub(super) fn cursors_never_move_back(site: &Site) {
    let mut db = site.connect();
    users(&mut *db, 2);
    fill(&mut *db, pair(), 1, 10);
    assert_eq!(stand(&mut *db, 2, pair()), (0, 0, 10), "never said");
    keep(&mut *db, 2, pair(), 5, 3);
    assert_eq!(stand(&mut *db, 2, pair()), (5, 3, 7));
    keep(&mut *db, 2, pair(), 4, 4);
    assert_eq!(stand(&mut *db, 2, pair()), (5, 4, 6), "each by itself");
    keep(&mut *db, 2, pair(), 0, 0);
    commit(&mut *db, &[cursor(2, pair(), 9, 9), cursor(2, pair(), 7, 1), cursor(1, pair(), 1, 1)]);
    drop(db);
    let db = &mut *site.connect();
    assert_eq!((stand(db, 2, pair()), stand(db, 1, pair())), ((9, 9, 1), (1, 1, 0)), "also after a restart");
}

pub(super) fn cursors_end_at_the_head(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    keep(db, 2, pair(), 7, 7);
    assert_eq!(heads(db, 2), [], "a cursor makes no conversation");
    fill(db, pair(), 1, 3);
    assert_eq!(stand(db, 2, pair()), (0, 0, 3));
    keep(db, 2, pair(), ID_MAX, ID_MAX);
    assert_eq!(stand(db, 2, pair()), (3, 3, 0));
    fill(db, pair(), 1, 1);
    assert_eq!(stand(db, 2, pair()), (3, 3, 1), "what comes later is unread");
    let batch = [say(pair(), 1, 100), cursor(2, pair(), 5, 5), say(pair(), 1, 101)];
    commit(db, &batch);
    assert_eq!(stand(db, 2, pair()), (5, 5, 1), "the head at its place of the batch");
}

pub(super) fn nobody_keeps_the_cursor_of_anothers_conversation(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let group_id = group(db, uid(1));
    fill(db, pair(), 1, 3);
    fill(db, ConvId::Group(group_id), 1, 3);
    keep(db, 3, pair(), 3, 3);
    keep(db, 3, ConvId::Group(group_id), 3, 3);
    keep(db, 3, ConvId::Group(GroupId::new(77).expect("in range")), 3, 3);
    assert_eq!(heads(db, 3), []);
    commit_one(db, Write::Join { group: group_id, user: uid(3) });
    fill(db, ConvId::Group(group_id), 1, 2);
    assert_eq!(stand(db, 3, ConvId::Group(group_id)), (3, 3, 2), "the start of her membership");
}

pub(super) fn a_membership_begins_without_a_cursor(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let group_id = group(db, uid(1));
    let conv = ConvId::Group(group_id);
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    fill(db, conv, 1, 6);
    keep(db, 2, conv, 6, 6);
    commit_one(db, Write::Leave { group: group_id, user: uid(2) });
    keep(db, 2, conv, 6, 6);
    assert_eq!(heads(db, 2), [], "not a member's business any more");
    fill(db, conv, 1, 1);
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    fill(db, conv, 1, 3);
    assert_eq!(stand(db, 2, conv), (7, 7, 3));
    keep(db, 2, conv, 6, 8);
    assert_eq!(stand(db, 2, conv), (7, 8, 2), "what is before the membership counts for nothing");
    // Within one batch, too.
    let leave = Write::Leave { group: group_id, user: uid(2) };
    let join = Write::Join { group: group_id, user: uid(2) };
    commit(db, &[cursor(2, conv, 10, 10), leave, say(conv, 1, 100), join, say(conv, 1, 101)]);
    assert_eq!(stand(db, 2, conv), (11, 11, 1));
}

pub(super) fn own_messages_are_not_unread(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    fill(db, pair(), 1, 2);
    fill(db, pair(), 2, 3);
    fill(db, pair(), 1, 1);
    assert_eq!((stand(db, 1, pair()), stand(db, 2, pair())), ((0, 0, 3), (0, 0, 3)), "saying something is not reading");
    keep(db, 1, pair(), 4, 4);
    assert_eq!(stand(db, 1, pair()), (4, 4, 1));
    keep(db, 2, pair(), 2, 2);
    assert_eq!(stand(db, 2, pair()), (2, 2, 1));
    let notes = ConvId::direct(uid(1), uid(1));
    fill(db, notes, 1, 5);
    assert_eq!(stand(db, 1, notes), (0, 0, 0), "notes to oneself, listed once");
    assert_eq!(heads(db, 1).len(), 2);
}

pub(super) fn unread_is_counted_up_to_its_limit(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let group_id = group(db, uid(1));
    let conv = ConvId::Group(group_id);
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    fill(db, conv, 1, UNREAD_MAX - 1);
    assert_eq!(stand(db, 2, conv).2, UNREAD_MAX - 1);
    fill(db, conv, 1, 1);
    assert_eq!(stand(db, 2, conv).2, UNREAD_MAX);
    fill(db, conv, 1, 50);
    assert_eq!(stand(db, 2, conv).2, UNREAD_MAX);
    keep(db, 2, conv, 0, 60);
    assert_eq!(stand(db, 2, conv).2, UNREAD_MAX - 10);
    // Own messages take places among those that are looked at, which are for a page in all.
    keep(db, 2, conv, 0, UNREAD_MAX + 50);
    fill(db, pair(), 1, 10);
    fill(db, pair(), 2, UNREAD_SCAN_MAX as u64 - 15);
    fill(db, pair(), 1, 10);
    assert_eq!(stand(db, 2, pair()).2, 15);
}

/// Found by seed 1394 of the simulation: a page that had confirmed the newest 200 conversations was never given what it lacked in older ones.
pub(super) fn what_is_confirmed_takes_no_place_from_what_is_missed(site: &Site) {
    let db = &mut *site.connect();
    users(db, 6);
    let with = |other| ConvId::direct(uid(3), uid(other));
    let of_group = ConvId::Group(group(db, uid(3)));
    let says = [(with(1), 1, 10), (of_group, 3, 20), (with(2), 2, 30), (with(5), 5, 40), (with(6), 6, 50)];
    commit(db, &says.map(|(conv, who, ts_ms)| say(conv, who, ts_ms)));
    let missed = |db: &mut dyn Backend, before, max| {
        let read = Read::Heads { user: uid(3), before, missed: true, max };
        match db.read(&[read]).expect("read").remove(0) {
            ReadAnswer::Heads(heads) => (heads.convs.iter().map(|state| state.conv).collect::<Vec<_>>(), heads.more),
            other => panic!("{other:?}"),
        }
    };
    for conv in [with(6), with(5), of_group] {
        keep(db, 3, conv, 1, 0);
    }
    keep(db, 1, with(1), 1, 1);
    assert_eq!(missed(db, None, 2), (vec![with(2), with(1)], false), "nor has she what her partner has confirmed");
    assert_eq!(missed(db, None, 1), (vec![with(2)], true));
    assert_eq!(missed(db, Some((30, with(2))), 1), (vec![with(1)], false));
    commit(db, &[say(with(6), 6, 60)]);
    assert_eq!(missed(db, None, 1), (vec![with(6)], true), "there is something new");
    assert_eq!(heads(db, 3).len(), 5, "the list has them all");
}

pub(super) fn conversations_come_newest_first(site: &Site) {
    let db = &mut *site.connect();
    users(db, 9);
    let (a, b) = (group(db, uid(5)), group(db, uid(5)));
    let (a, b) = (ConvId::Group(a), ConvId::Group(b));
    let with = |other| ConvId::direct(uid(5), uid(other));
    // Larger and smaller partners, groups, and one time for many.
    let says = [
        say(with(2), 2, 30),
        say(with(8), 5, 10),
        say(a, 5, 20),
        say(b, 5, 20),
        say(with(1), 1, 20),
        say(with(9), 9, 20),
        say(with(3), 3, 20),
        say(ConvId::direct(uid(2), uid(3)), 2, 99),
        // Times may step back: the newest message counts, not the latest time.
        say(with(7), 5, 90),
        say(with(7), 7, 15),
    ];
    commit(db, &says);
    let order =
        [(30, with(2)), (20, b), (20, a), (20, with(9)), (20, with(3)), (20, with(1)), (15, with(7)), (10, with(8))];
    let found: Vec<(u64, ConvId)> = heads(db, 5).iter().map(|state| (state.ts_ms, state.conv)).collect();
    assert_eq!(found, order);
    // From page to page, of every size.
    for max in 1..=9 {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = heads_from(db, 5, before, max);
            assert_eq!(page.more, found.len() + page.convs.len() < order.len());
            assert!(page.convs.len() == max as usize || !page.more);
            found.extend(page.convs.iter().map(|state| (state.ts_ms, state.conv)));
            before = found.last().copied();
            if !page.more {
                break;
            }
        }
        assert_eq!(found, order, "{max} a page");
    }
    let none = heads_from(db, 5, Some((10, with(8))), 5);
    assert_eq!((none.convs, none.more), (vec![], false));
    assert_eq!(heads_from(db, 5, Some((19, a)), 1).convs[0].conv, with(7), "from a place where nothing stands");
    assert_eq!(heads_from(db, 5, None, 0).convs.len(), 1, "never fewer than one");
    let epoch = page(db, pair(), None, PageStart::After(Seq::ZERO), 1).epoch;
    assert_eq!((heads_from(db, 4, None, 5), none.epoch), (Heads { epoch, ..Heads::default() }, epoch));
}

pub(super) fn a_member_is_told_of_her_part_of_a_group(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let group_id = group(db, uid(1));
    let conv = ConvId::Group(group_id);
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    assert_eq!(heads(db, 2), [], "nothing was said");
    commit_one(db, Write::Leave { group: group_id, user: uid(2) });
    commit(db, &[say(conv, 1, 10), say(conv, 1, 11)]);
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    let told = |head, ts_ms, floor, recv, unread| {
        let (head, floor, recv) = (seq(head), seq(floor), seq(recv));
        ConvState { conv, head, ts_ms, floor, recv, read: recv, unread, newest: None }
    };
    // What stands in the list of the newest message has a test of its own.
    let heads = |db: &mut dyn Backend, user| {
        let convs = heads(db, user).into_iter();
        convs.map(|state| ConvState { newest: None, ..state }).collect::<Vec<_>>()
    };
    assert_eq!(heads(db, 2), [told(2, 11, 3, 2, 0)], "hers begins after what is there");
    assert_eq!(heads(db, 1), [told(2, 11, 1, 0, 0)]);
    commit(db, &[say(conv, 1, 12), say(conv, 2, 13), say(conv, 1, 14)]);
    assert_eq!(heads(db, 2), [told(5, 14, 3, 2, 2)]);
    assert_eq!(heads(db, 1), [told(5, 14, 1, 0, 1)]);
}

/// Its memberships end one by one, and the process may end before they have.
pub(super) fn a_dissolved_group_is_in_no_list(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let (ended, other) = (group(db, uid(1)), group(db, uid(1)));
    for (id, ts_ms) in [(ended, 20), (other, 10)] {
        commit(db, &[Write::Join { group: id, user: uid(2) }, say(ConvId::Group(id), 1, ts_ms)]);
    }
    let listed = |db: &mut dyn Backend, user, missed| {
        let read = Read::Heads { user: uid(user), before: None, missed, max: 1 };
        match db.read(&[read]).expect("read").remove(0) {
            ReadAnswer::Heads(heads) => (heads.convs.iter().map(|state| state.conv).collect::<Vec<_>>(), heads.more),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(listed(db, 2, false), (vec![ConvId::Group(ended)], true));
    assert_eq!((db.groups().owner(ended), db.groups().dissolve(ended, uid(1))), (Ok(Some(uid(1))), Ok(true)));
    for user in [1, 2] {
        for missed in [false, true] {
            assert_eq!(listed(db, user, missed), (vec![ConvId::Group(other)], false), "{user} {missed}");
        }
    }
    assert_eq!(db.groups().owner(ended), Ok(Some(uid(1))), "whoever ends the rest finds it");
    assert_eq!(db.groups().owner(GroupId::new(77).expect("in range")), Ok(None));
}

pub(super) fn the_list_brings_the_newest_messages(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let newest = |db: &mut dyn Backend, user: u64, conv: ConvId| {
        let state = heads(db, user).into_iter().find(|state| state.conv == conv).expect("it has messages");
        state.newest.map(|newest| (newest.sender.get(), newest.ts_ms, newest.body.to_string(), newest.cut))
    };
    let post = |conv, sender, ts_ms, body: &str| {
        let key = PostKey::Client(format!("{conv:?} {ts_ms}").into());
        Write::Append(NewMessage { conv, sender: uid(sender), key, ts_ms, body: body.into() })
    };
    let (one, group_id) = (pair(), group(db, uid(1)));
    let many = ConvId::Group(group_id);
    let long = format!("\"content\":\"{}\"", "é".repeat(PREVIEW_BYTES_MAX));
    commit(db, &[post(one, 1, 10, "\"n\":1"), post(one, 2, 11, "\"n\":2"), post(many, 1, 12, &long)]);
    assert_eq!(newest(db, 1, one), Some((2, 11, "\"n\":2".to_owned(), false)));
    let (sender, ts_ms, body, cut) = newest(db, 1, many).expect("the owner reads it");
    assert_eq!((sender, ts_ms, cut), (1, 12, true));
    assert!(long.starts_with(&body) && body.len() > PREVIEW_BYTES_MAX - 4 && body.len() <= PREVIEW_BYTES_MAX);
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    assert_eq!(newest(db, 2, many), None, "it was said before this member came");
    commit_one(db, post(many, 1, 13, "\"n\":3"));
    assert_eq!(newest(db, 2, many), Some((1, 13, "\"n\":3".to_owned(), false)));
    let missed = Read::Heads { user: uid(1), before: None, missed: true, max: HEADS_MAX };
    match db.read(&[missed]).expect("read").remove(0) {
        ReadAnswer::Heads(heads) => {
            assert!(heads.convs.iter().all(|state| state.newest.is_none()), "it reads on itself");
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn a_user_with_a_thousand_conversations(site: &Site) {
    let db = &mut *site.connect();
    db.seed(&Seed { users: 1_001, groups: 0, group_size: 0, created_ms: 0 }).expect("seeded");
    let me = 500;
    let mut expected = BTreeMap::new();
    let mut writes = Vec::new();
    for other in (1..=1_001).filter(|&other| other != me) {
        let (conv, ts_ms) = (ConvId::direct(uid(me), uid(other)), 1_000 + other * 37 % 211);
        writes.extend((0..=other % 3).map(|n| say(conv, other, n)));
        writes.push(say(conv, me, ts_ms));
        writes.push(cursor(me, conv, 1, 1));
        expected.insert((ts_ms, conv), other % 3);
    }
    for batch in writes.chunks(500) {
        commit(db, batch);
    }
    let (mut found, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = heads_from(db, me, before, u32::MAX);
        assert!(page.convs.len() <= HEADS_MAX as usize);
        found.extend(page.convs.iter().map(|state| ((state.ts_ms, state.conv), state.unread)));
        before = found.last().map(|&(place, _)| place);
        pages += 1;
        if !page.more {
            break;
        }
    }
    assert_eq!(found, expected.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(pages, 5);
}

pub(super) fn many_users_are_answered_with_few_statements(site: &Site) {
    let db = &mut *site.connect();
    users(db, 300);
    let group_id = group(db, uid(1));
    let conv = ConvId::Group(group_id);
    let joins: Vec<Write> = (2..=300).map(|n| Write::Join { group: group_id, user: uid(n) }).collect();
    commit(db, &joins);
    commit_one(db, say(conv, 1, 50));
    let writes: Vec<Write> = (2..=300).map(|n| say(ConvId::direct(uid(1), uid(n)), n, n)).collect();
    commit(db, &writes);
    let heads = |n, before, max| Read::Heads { user: uid(n), before, missed: false, max };
    // The same user twice, pages and accounts between, users who do not exist.
    let page =
        Read::Page { conv, reader: Some(uid(7)), from: PageStart::After(Seq::ZERO), rows_max: 5, bytes_max: 100 };
    let mut reads: Vec<Read> = (1..=310).map(|n| heads(n, None, 2)).collect();
    reads.extend([page, Read::Open { user: uid(7) }, heads(7, Some((50, conv)), 2), heads(7, None, 1)]);
    let asked = db.user_queries();
    let answers = db.read(&reads).expect("read");
    let cost = db.user_queries() - asked;
    let got = |n: usize| match &answers[n] {
        ReadAnswer::Heads(heads) => (heads.convs.iter().map(|state| state.conv).collect::<Vec<_>>(), heads.more),
        other => panic!("{other:?}"),
    };
    let with = |n| ConvId::direct(uid(1), uid(n));
    assert_eq!(got(0), (vec![with(300), with(299)], true));
    assert_eq!(got(6), (vec![conv, with(7)], false));
    assert_eq!(got(299), (vec![with(300), conv], false));
    assert!((300..310).all(|n| got(n) == (vec![], false)));
    assert!(matches!(&answers[310], ReadAnswer::Page(page) if seqs(page) == [1]));
    assert!(matches!(&answers[311], ReadAnswer::Open(state) if state.groups == [(group_id, Seq::ZERO)]));
    assert_eq!((got(312), got(313)), ((vec![with(7)], false), (vec![conv], true)));
    let asked = db.user_queries();
    db.read(&[heads(1, None, 2), Read::Open { user: uid(1) }]).expect("read");
    assert_eq!(db.user_queries() - asked, cost, "as many for 313 as for 2");
    db.read(&[]).expect("read");
    assert_eq!(db.user_queries() - asked, cost, "none for nothing");
}

/// Of a user with so many conversations that they stand in an index by time, on both sides of the user's number.
pub(super) fn a_long_list_stays_in_order(site: &Site) {
    const USERS: u64 = 640;
    const ME: u64 = 320;
    let db = &mut *site.connect();
    users(db, USERS);
    let group_id = group(db, uid(ME));
    let mut newest: BTreeMap<ConvId, u64> = BTreeMap::new();
    for batch in 0..30 {
        let mut writes = Vec::new();
        for n in batch * 60..(batch + 1) * 60 {
            let other = 1 + n * 263 % USERS;
            let conv = if other == ME { ConvId::Group(group_id) } else { ConvId::direct(uid(ME), uid(other)) };
            // Clocks step back now and then.
            let ts_ms = 10_000 + 10 * n - if n % 7 == 0 { 3_000 } else { 0 };
            writes.push(say(conv, if conv == ConvId::Group(group_id) { ME } else { other }, ts_ms));
            newest.insert(conv, ts_ms);
        }
        commit(db, &writes);
    }
    let mut expected: Vec<(u64, ConvId)> = newest.into_iter().map(|(conv, ms)| (ms, conv)).collect();
    expected.sort_unstable_by_key(|place| std::cmp::Reverse(*place));
    assert_eq!(expected.len() as u64, USERS);
    let list = |db: &mut dyn Backend, missed: bool| {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let read = Read::Heads { user: uid(ME), before, missed, max: 200 };
            let ReadAnswer::Heads(heads) = db.read(&[read]).expect("read").remove(0) else { panic!("no list") };
            before = heads.convs.last().map(|state| (state.ts_ms, state.conv));
            all.extend(heads.convs.iter().map(|state| (state.ts_ms, state.conv)));
            if !heads.more {
                return all;
            }
        }
    };
    assert_eq!(list(db, false), expected);
    // What is confirmed is not missed.
    let confirmed: Vec<Write> = expected
        .iter()
        .skip(10)
        .step_by(2)
        .map(|(_, conv)| Write::Cursor {
            user: uid(ME),
            conv: *conv,
            recv: Seq::new(1000).expect("in range"),
            read: Seq::ZERO,
        })
        .collect();
    commit(db, &confirmed);
    let mut missed = expected.clone();
    let mut n = 0;
    missed.retain(|_| {
        n += 1;
        n <= 10 || n % 2 == 0
    });
    assert_eq!(list(db, true), missed);
    // The others have one or two conversations.
    let read = Read::Heads { user: uid(1), before: None, missed: false, max: 200 };
    let ReadAnswer::Heads(heads) = db.read(&[read]).expect("read").remove(0) else { panic!("no list") };
    assert_eq!(heads.convs.iter().map(|state| state.conv).collect::<Vec<_>>(), [ConvId::direct(uid(1), uid(ME))]);
}

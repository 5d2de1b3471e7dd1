//! Reads: pages, their clamp to the membership, and the state of users.

use imgate::ids::{ConvId, GroupId, ID_MAX, Seq};
use imgate::limits::SYNC_ROWS_MAX;
use imgate::store::{Read, ReadAnswer, Refusal, UserState, Write};

use super::*;

fn pair() -> ConvId {
    ConvId::direct(uid(1), uid(2))
}

fn after(raw: u64) -> PageStart {
    PageStart::After(Seq::new(raw).expect("in range"))
}

fn before(raw: u64) -> PageStart {
    PageStart::Before(Seq::new(raw).expect("in range"))
}

/// `n` messages of user 1 to `conv`.
fn fill(db: &mut dyn Backend, conv: ConvId, n: u64) {
    let writes: Vec<Write> = (0..n).map(|k| post(conv, 1, &format!("{conv:?} {k}"))).collect();
    assert!(commit(db, &writes).iter().all(|w| stored(w) > 0));
}

pub(super) fn a_fresh_conversation_has_an_empty_page(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    for from in [after(0), after(7), before(ID_MAX), before(0)] {
        let page = page(db, pair(), Some(1), from, 10);
        assert_eq!((page.rows.len(), page.more, page.floor.get(), page.head.get()), (0, false, 1, 0));
        assert!((1..=ID_MAX).contains(&page.epoch));
    }
}

pub(super) fn pages_walk_forward(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    fill(db, pair(), 10);
    let walk = [
        (0, vec![1, 2, 3, 4], true),
        (4, vec![5, 6, 7, 8], true),
        (8, vec![9, 10], false),
        (6, vec![7, 8, 9, 10], false),
    ];
    for (from, rows, more) in walk {
        let page = page(db, pair(), Some(2), after(from), 4);
        assert_eq!((seqs(&page), page.more, page.head.get(), page.floor.get()), (rows, more, 10, 1), "after {from}");
    }
    for beyond in [10, 11, ID_MAX] {
        let page = page(db, pair(), Some(2), after(beyond), 4);
        assert_eq!((seqs(&page), page.more, page.head.get()), (vec![], false, 10));
    }
}

pub(super) fn pages_walk_backward(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    fill(db, pair(), 10);
    let walk = [
        (ID_MAX, vec![7, 8, 9, 10], true),
        (7, vec![3, 4, 5, 6], true),
        (3, vec![1, 2], false),
        (5, vec![1, 2, 3, 4], false),
    ];
    for (from, rows, more) in walk {
        let page = page(db, pair(), Some(2), before(from), 4);
        assert_eq!((seqs(&page), page.more, page.head.get()), (rows, more, 10), "before {from}");
    }
    for beyond in [0, 1] {
        let page = page(db, pair(), Some(2), before(beyond), 4);
        assert_eq!((seqs(&page), page.more), (vec![], false));
    }
}

pub(super) fn pages_end_at_their_bytes(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let writes: Vec<Write> = (0..5).map(|n| post(pair(), 1, &format!("{n:0100}"))).collect();
    commit(db, &writes);
    let mut page = |from, bytes_max| {
        let read = Read::Page { conv: pair(), reader: None, from, rows_max: 10, bytes_max };
        match db.read(&[read]).expect("read").remove(0) {
            ReadAnswer::Page(page) => (seqs(&page), page.more),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page(after(0), 0), (vec![1], true), "at least one");
    assert_eq!(page(after(0), 299), (vec![1, 2], true));
    assert_eq!(page(after(0), 300), (vec![1, 2, 3], true));
    assert_eq!(page(after(0), 500), (vec![1, 2, 3, 4, 5], false));
    assert_eq!(page(before(ID_MAX), 0), (vec![5], true), "the newest, not the oldest");
    assert_eq!(page(before(ID_MAX), 250), (vec![4, 5], true));
}

pub(super) fn a_page_is_never_longer_than_allowed(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    fill(db, pair(), u64::from(SYNC_ROWS_MAX) + 10);
    assert_eq!(page(db, pair(), None, after(0), u32::MAX).rows.len(), SYNC_ROWS_MAX as usize);
    assert_eq!(page(db, pair(), None, before(ID_MAX), u32::MAX).rows.len(), SYNC_ROWS_MAX as usize);
    assert_eq!(seqs(&page(db, pair(), None, after(0), 0)), [1], "nor shorter than one");
}

pub(super) fn a_reader_sees_the_time_of_membership(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let group_id = group(db, uid(1));
    let conv = ConvId::Group(group_id);
    fill(db, conv, 5);
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    let joined = page(db, conv, Some(2), after(0), 10);
    assert_eq!((seqs(&joined), joined.more, joined.floor.get(), joined.head.get()), (vec![], false, 6, 5));
    commit(db, &[post(conv, 1, "six"), post(conv, 2, "seven")]);
    for from in [after(0), after(3), after(5), before(ID_MAX), before(8)] {
        let page = page(db, conv, Some(2), from, 10);
        assert_eq!((seqs(&page), page.more, page.floor.get(), page.head.get()), (vec![6, 7], false, 6, 7), "{from:?}");
    }
    assert_eq!(seqs(&page(db, conv, Some(2), before(6), 10)), [0; 0]);
    let short = page(db, conv, Some(2), before(ID_MAX), 1);
    assert_eq!((seqs(&short), short.more), (vec![7], true));
    assert_eq!(seqs(&page(db, conv, Some(1), after(0), 10)), [1, 2, 3, 4, 5, 6, 7], "the owner was there always");

    commit_one(db, Write::Leave { group: group_id, user: uid(2) });
    assert_eq!(seqs(&page(db, conv, Some(2), after(0), 10)), [6, 7], "what was said while it lasted");
    commit_one(db, post(conv, 1, "eight"));
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    commit_one(db, post(conv, 1, "nine"));
    assert_eq!(seqs(&page(db, conv, Some(2), after(0), 10)), [9], "who comes back begins anew");
}

pub(super) fn strangers_read_nothing(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    fill(db, pair(), 1);
    let group_id = group(db, uid(1));
    assert_eq!(read(db, pair(), Some(3), after(0), 10), ReadAnswer::Refused(Refusal::NotMember));
    assert_eq!(read(db, ConvId::Group(group_id), Some(3), after(0), 10), ReadAnswer::Refused(Refusal::NotMember));
    let nowhere = ConvId::Group(GroupId::new(77).expect("in range"));
    assert_eq!(read(db, nowhere, Some(3), after(0), 10), ReadAnswer::Refused(Refusal::NoSuchGroup));
    assert_eq!(page(db, nowhere, None, after(0), 10).head, Seq::ZERO, "the home itself may");
}

pub(super) fn many_opens_are_answered_together(site: &Site) {
    let db = &mut *site.connect();
    users(db, 500);
    let (a, b) = (group(db, uid(1)), group(db, uid(2)));
    commit_one(db, post(ConvId::Group(a), 1, "x"));
    commit_one(db, Write::Join { group: a, user: uid(2) });
    let reads: Vec<Read> = (1..=600).chain([2]).map(|n| Read::Open { user: uid(n) }).collect();
    let answers = db.read(&reads).expect("read");
    assert_eq!(answers.len(), 601);
    let state = |groups| ReadAnswer::Open(UserState { groups, ..UserState::default() });
    let two = state(vec![(a, Seq::new(1).expect("in range")), (b, Seq::ZERO)]);
    assert_eq!((&answers[0], &answers[1], &answers[600]), (&state(vec![(a, Seq::ZERO)]), &two, &two));
    assert!(answers[2..600].iter().all(|answer| *answer == state(vec![])), "also of users who do not exist");
}

pub(super) fn reads_follow_their_order(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    fill(db, pair(), 3);
    let page = Read::Page { conv: pair(), reader: Some(uid(1)), from: after(2), rows_max: 5, bytes_max: 100 };
    let refused = Read::Page { conv: pair(), reader: Some(uid(9)), from: after(2), rows_max: 5, bytes_max: 100 };
    let answers = db.read(&[refused, Read::Open { user: uid(1) }, page]).expect("read");
    assert_eq!(answers[0], ReadAnswer::Refused(Refusal::NotMember));
    assert_eq!(answers[1], ReadAnswer::Open(UserState::default()));
    assert!(matches!(&answers[2], ReadAnswer::Page(page) if seqs(page) == [3]));
    assert_eq!(db.read(&[]), Ok(Vec::new()));
}

pub(super) fn who_has_left_reads_up_to_the_leave(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let group = group(db, uid(1));
    let conv = ConvId::Group(group);
    commit(
        db,
        &[
            post(conv, 1, "1"),
            Write::Join { group, user: uid(2) },
            post(conv, 1, "2"),
            post(conv, 2, "3"),
            Write::Leave { group, user: uid(2) },
            post(conv, 1, "4"),
        ],
    );
    commit_one(db, Write::Leave { group, user: uid(2) });
    commit_one(db, post(conv, 1, "5"));
    let newest = PageStart::Before(Seq::new(ID_MAX).expect("in range"));
    for from in [PageStart::After(Seq::ZERO), newest] {
        let seen = page(db, conv, Some(2), from, 10);
        assert_eq!((seqs(&seen), seen.more, seen.floor.get(), seen.head.get()), (vec![2, 3], false, 2, 3), "{from:?}");
    }
    let first = page(db, conv, Some(2), PageStart::After(Seq::ZERO), 1);
    assert_eq!((seqs(&first), first.more), (vec![2], true));
    assert_eq!(seqs(&page(db, conv, Some(2), PageStart::After(Seq::new(3).expect("small")), 9)), [0; 0]);
    assert_eq!(read(db, conv, Some(3), newest, 10), ReadAnswer::Refused(Refusal::NotMember), "never there");
    assert_eq!(seqs(&page(db, conv, Some(1), newest, 10)), [1, 2, 3, 4, 5]);
    commit_one(db, Write::Join { group, user: uid(2) });
    let again = page(db, conv, Some(2), newest, 10);
    assert_eq!((seqs(&again), again.floor.get()), (vec![], 6), "who comes back begins anew");
    commit(db, &[post(conv, 1, "6"), Write::Leave { group, user: uid(2) }]);
    assert_eq!(seqs(&page(db, conv, Some(2), newest, 10)), [6], "the last membership");
    db.groups().dissolve(group, uid(1)).expect("works");
    assert_eq!(read(db, conv, Some(2), newest, 10), ReadAnswer::Refused(Refusal::NoSuchGroup));
}

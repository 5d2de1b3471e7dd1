//! Appends and memberships: order, dedupe, the judge.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use imgate::ids::{ConvId, GroupId, ID_MAX, Seq};
use imgate::limits::GROUPS_JOINED_MAX;
use imgate::store::{Error, NewMessage, PostKey, Refusal, Role, Seed, Write, Written};

use super::*;

fn pair() -> ConvId {
    ConvId::direct(uid(1), uid(2))
}

fn refused(written: Written) -> Refusal {
    match written {
        Written::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub(super) fn numbers_have_no_hole(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    for n in 1..=20u64 {
        assert_eq!(stored(&commit_one(db, post(pair(), 1 + n % 2, &n.to_string()))), n);
        assert_eq!(stored(&commit_one(db, post(ConvId::direct(uid(2), uid(3)), 3, &n.to_string()))), n);
    }
    let page = all(db, pair());
    assert_eq!(seqs(&page), (1..=20).collect::<Vec<_>>());
    assert_eq!((page.head.get(), page.floor.get()), (20, 1));
    assert!(page.rows.iter().zip(1..).all(|(row, n)| *row.body == n.to_string() && row.sender == uid(1 + n % 2)));
}

pub(super) fn a_batch_is_numbered_in_its_order(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let other = ConvId::direct(uid(1), uid(3));
    let batch = [
        Write::Head(pair()),
        post(pair(), 1, "a"),
        post(other, 1, "b"),
        Write::Head(pair()),
        post(pair(), 2, "c"),
        post(pair(), 1, "a"),
        post(ConvId::direct(uid(1), uid(9)), 1, "d"),
        post(pair(), 1, "e"),
        Write::Head(pair()),
    ];
    let written = commit(db, &batch);
    let head = |n| Written::Head { head: Seq::new(n).expect("in range") };
    assert_eq!((&written[0], &written[3], &written[8]), (&head(0), &head(1), &head(3)));
    assert_eq!([1, 2, 4, 7].map(|n: usize| stored(&written[n])), [1, 1, 2, 3]);
    assert!(matches!(written[5], Written::Duplicate { seq, .. } if seq.get() == 1), "a duplicate within the batch");
    assert_eq!(written[6], Written::Refused(Refusal::NoSuchUser));
    let bodies: Vec<Arc<str>> = all(db, pair()).rows.into_iter().map(|row| row.body).collect();
    assert_eq!(bodies, ["a", "c", "e"].map(Arc::from));
    assert_eq!(db.commit(&[]), Ok(Vec::new()));
}

pub(super) fn a_resend_gives_the_old_answer(site: &Site) {
    let first = {
        let db = &mut *site.connect();
        users(db, 2);
        commit_one(db, post(pair(), 1, "a"))
    };
    let db = &mut *site.connect();
    let Written::Stored { seq, id, ts_ms, .. } = first else { panic!("not stored: {first:?}") };
    let again =
        NewMessage { conv: pair(), sender: uid(1), key: PostKey::Client("a".into()), ts_ms: 9, body: "new".into() };
    let old = Written::Duplicate { conv: pair(), seq, id, ts_ms };
    assert_eq!(commit_one(db, Write::Append(again.clone())), old, "also after a restart");
    assert_eq!(commit_one(db, Write::Append(again)), old);
    let page = all(db, pair());
    assert_eq!((seqs(&page), &*page.rows[0].body), (vec![1], "a"));
}

pub(super) fn an_answer_tells_the_time_of_the_message_before(site: &Site) {
    let mut connections = site.connect_all(2);
    let other = &mut *connections.remove(1);
    let db = &mut *connections.remove(0);
    users(db, 2);
    let at = |cid: &str, ts_ms| {
        let key = PostKey::Client(cid.into());
        Write::Append(NewMessage { conv: pair(), sender: uid(1), key, ts_ms, body: "".into() })
    };
    let before = |written: &Written| match written {
        Written::Stored { before_ms, .. } => *before_ms,
        other => panic!("not stored: {other:?}"),
    };
    let written = commit(db, &[at("a", 70), at("b", 60)]);
    assert_eq!(written.iter().map(before).collect::<Vec<_>>(), [0, 70]);
    assert_eq!(before(&commit_one(db, at("c", 90))), 60);
    assert_eq!(before(&commit_one(other, at("d", 80))), 90, "also of another connection's");
}

pub(super) fn a_key_belongs_to_its_sender(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    assert_eq!(stored(&commit_one(db, post(pair(), 1, "a"))), 1);
    assert_eq!(stored(&commit_one(db, post(pair(), 2, "a"))), 2);
    assert_eq!(stored(&commit_one(db, post(pair(), 1, "A"))), 3, "keys are compared exactly");
    assert_eq!(stored(&commit_one(db, post(pair(), 1, "a "))), 4);
}

pub(super) fn a_key_is_claimed_across_conversations(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let group = ConvId::Group(group(db, uid(1)));
    assert_eq!(stored(&commit_one(db, post(group, 1, "a"))), 1);
    assert!(matches!(commit_one(db, post(pair(), 1, "a")), Written::Duplicate { conv, .. } if conv == group));
    assert_eq!(all(db, pair()).head, Seq::ZERO);
    assert_eq!(stored(&commit_one(db, post(pair(), 1, "b"))), 1);
    assert!(matches!(commit_one(db, post(group, 1, "b")), Written::Duplicate { conv, .. } if conv == pair()));
}

pub(super) fn keys_of_servers_and_clients_do_not_meet(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let keyed = |key| Write::Append(NewMessage { conv: pair(), sender: uid(1), key, ts_ms: 0, body: "".into() });
    let server = |node, boot, counter| PostKey::Server { node, boot, counter };
    let keys = [
        server(0, 0, 0),
        server(0, 0, 1),
        server(0, 1, 0),
        server(1, 0, 0),
        server(u16::MAX, u64::MAX, u64::MAX),
        PostKey::Client("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".into()),
        PostKey::Client("\u{1}".into()),
        PostKey::Client("x".repeat(64).into()),
    ];
    for (key, n) in keys.iter().zip(1..) {
        assert_eq!(stored(&commit_one(db, keyed(key.clone()))), n);
    }
    for (key, n) in keys.iter().zip(1..) {
        assert!(matches!(commit_one(db, keyed(key.clone())), Written::Duplicate { seq, .. } if seq.get() == n));
    }
}

pub(super) fn a_refused_append_claims_no_key(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let group_id = group(db, uid(1));
    let conv = ConvId::Group(group_id);
    assert_eq!(refused(commit_one(db, post(conv, 2, "a"))), Refusal::NotMember);
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    assert_eq!(stored(&commit_one(db, post(conv, 2, "a"))), 1);
    let stranger = ConvId::direct(uid(1), uid(3));
    assert_eq!(refused(commit_one(db, post(stranger, 1, "b"))), Refusal::NoSuchUser);
    assert_eq!(stored(&commit_one(db, post(pair(), 1, "b"))), 1);
}

pub(super) fn a_resend_is_answered_before_it_is_judged(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let group_id = group(db, uid(1));
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    assert_eq!(stored(&commit_one(db, post(ConvId::Group(group_id), 2, "a"))), 1);
    commit_one(db, Write::Leave { group: group_id, user: uid(2) });
    assert!(matches!(commit_one(db, post(ConvId::Group(group_id), 2, "a")), Written::Duplicate { .. }));
}

/// What was refused stays refused, although the same batch claims its key for another conversation
/// afterwards, and although a resend behind that has the batch decided again.
pub(super) fn a_key_that_is_claimed_later_in_a_batch_answers_no_earlier_refusal(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let group = ConvId::Group(group(db, uid(2)));
    let old = stored(&commit_one(db, post(pair(), 1, "old")));
    let batch = [post(group, 1, "a"), post(pair(), 1, "a"), post(pair(), 1, "old"), post(pair(), 1, "b")];
    let written = commit(db, &batch);
    assert_eq!(written[0], Written::Refused(Refusal::NotMember));
    assert_eq!([1, 3].map(|n: usize| stored(&written[n])), [2, 3]);
    assert!(matches!(written[2], Written::Duplicate { seq, .. } if seq.get() == old), "{written:?}");
    let bodies: Vec<Arc<str>> = all(db, pair()).rows.into_iter().map(|row| row.body).collect();
    assert_eq!(bodies, ["old", "a", "b"].map(Arc::from));
}

pub(super) fn direct_messages_are_judged(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    assert_eq!(refused(commit_one(db, post(ConvId::direct(uid(1), uid(3)), 1, "a"))), Refusal::NoSuchUser);
    assert_eq!(refused(commit_one(db, post(ConvId::direct(uid(3), uid(3)), 3, "a"))), Refusal::NoSuchUser);
    assert_eq!(refused(commit_one(db, post(pair(), 3, "a"))), Refusal::NotMember, "nobody speaks for another");
    assert_eq!(stored(&commit_one(db, post(ConvId::direct(uid(1), uid(1)), 1, "note"))), 1, "notes to oneself");
}

pub(super) fn group_messages_are_judged(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let nowhere = ConvId::Group(GroupId::new(77).expect("in range"));
    assert_eq!(refused(commit_one(db, post(nowhere, 1, "a"))), Refusal::NoSuchGroup);
    let group_id = group(db, uid(1));
    assert_eq!(refused(commit_one(db, post(ConvId::Group(group_id), 2, "a"))), Refusal::NotMember);
    assert_eq!(stored(&commit_one(db, post(ConvId::Group(group_id), 1, "a"))), 1, "the owner is a member");
    let join = |group, user| Write::Join { group, user };
    assert_eq!(refused(commit_one(db, join(GroupId::new(77).expect("in range"), uid(1)))), Refusal::NoSuchGroup);
    assert_eq!(refused(commit_one(db, join(group_id, uid(3)))), Refusal::NoSuchUser);
}

pub(super) fn a_block_ends_where_it_is_lifted(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    for _ in 0..2 {
        db.social().block(uid(2), uid(1), true).expect("blocked, once or twice");
    }
    assert_eq!(refused(commit_one(db, post(pair(), 1, "a"))), Refusal::Blocked);
    assert_eq!(stored(&commit_one(db, post(pair(), 2, "a"))), 1, "one direction only");
    let group_id = group(db, uid(2));
    commit_one(db, Write::Join { group: group_id, user: uid(1) });
    assert_eq!(stored(&commit_one(db, post(ConvId::Group(group_id), 1, "g"))), 1, "not in groups");
    db.social().block(uid(2), uid(1), false).expect("lifted");
    db.social().block(uid(2), uid(1), false).expect("lifting twice is harmless");
    assert_eq!(stored(&commit_one(db, post(pair(), 1, "a"))), 2, "the refused post had claimed nothing");
}

pub(super) fn what_another_connection_wrote_is_known(site: &Site) {
    let mut dbs = site.connect_all(2);
    let (one, two) = dbs.split_at_mut(1);
    let (one, two) = (&mut *one[0], &mut *two[0]);
    users(one, 3);
    assert_eq!(stored(&commit_one(one, post(pair(), 1, "a"))), 1);
    assert_eq!(stored(&commit_one(two, post(pair(), 1, "b"))), 2);
    assert_eq!(stored(&commit_one(one, post(pair(), 2, "c"))), 3, "the head has moved meanwhile");
    two.social().block(uid(2), uid(1), true).expect("blocked");
    assert_eq!(refused(commit_one(one, post(pair(), 1, "d"))), Refusal::Blocked, "the judge had said yes before");
    let resent = commit_one(one, post(pair(), 1, "b"));
    assert!(matches!(resent, Written::Duplicate { seq, .. } if seq.get() == 2), "{resent:?}");
    // A key of another conversation, in one that has no row yet.
    let fresh = ConvId::direct(uid(1), uid(3));
    let resent = commit_one(two, post(fresh, 1, "a"));
    assert!(matches!(resent, Written::Duplicate { conv, .. } if conv == pair()), "{resent:?}");
    assert_eq!(stored(&commit_one(one, post(fresh, 1, "e"))), 1);
    assert_eq!(stored(&commit_one(two, post(fresh, 3, "a"))), 2);
}

pub(super) fn joining_twice_and_leaving_twice_succeed(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let group_id = group(db, uid(1));
    commit_one(db, post(ConvId::Group(group_id), 1, "a"));
    let since = Seq::new(1).expect("in range");
    let join = Write::Join { group: group_id, user: uid(2) };
    assert_eq!(commit_one(db, join.clone()), Written::Joined { since, already: false });
    commit_one(db, post(ConvId::Group(group_id), 1, "b"));
    assert_eq!(commit_one(db, join), Written::Joined { since, already: true }, "the start of the first time counts");
    let leave = Write::Leave { group: group_id, user: uid(2) };
    assert_eq!(commit_one(db, leave.clone()), Written::Left { was_member: true });
    assert_eq!(commit_one(db, leave), Written::Left { was_member: false });
    let nowhere = Write::Leave { group: GroupId::new(77).expect("in range"), user: uid(2) };
    assert_eq!(commit_one(db, nowhere), Written::Left { was_member: false });
}

pub(super) fn an_owner_leaves_no_group_but_a_dissolved_one(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let group_id = group(db, uid(1));
    let leave = |user| Write::Leave { group: group_id, user: uid(user) };
    commit_one(db, Write::Join { group: group_id, user: uid(2) });
    assert_eq!(refused(commit_one(db, leave(1))), Refusal::Owner);
    assert_eq!(db.admissions().set_role(group_id, uid(1), uid(2), Role::Owner), Ok(true));
    assert_eq!(refused(commit_one(db, leave(2))), Refusal::Owner, "whoever it was handed on to");
    assert_eq!(commit_one(db, leave(1)), Written::Left { was_member: true });
    assert_eq!(db.groups().dissolve(group_id, uid(2)), Ok(true));
    assert_eq!(commit_one(db, leave(2)), Written::Left { was_member: true });
}

pub(super) fn membership_has_its_place_in_the_batch(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let group_id = group(db, uid(1));
    let conv = ConvId::Group(group_id);
    let batch = [
        post(conv, 2, "early"),
        post(conv, 1, "a"),
        Write::Join { group: group_id, user: uid(2) },
        post(conv, 2, "b"),
        Write::Leave { group: group_id, user: uid(2) },
        post(conv, 2, "late"),
        post(conv, 1, "c"),
    ];
    let written = commit(db, &batch);
    assert_eq!(written[2], Written::Joined { since: Seq::new(1).expect("in range"), already: false });
    assert_eq!([1, 3, 6].map(|n: usize| stored(&written[n])), [1, 2, 3]);
    let not_member = Written::Refused(Refusal::NotMember);
    assert_eq!((&written[0], &written[5]), (&not_member, &not_member));
}

pub(super) fn a_user_joins_no_more_groups_than_allowed(site: &Site) {
    let db = &mut *site.connect();
    users(db, 1);
    // Groups of one member each, whose members are the new users 2 and 3 in turn.
    let seed = Seed { users: 2, groups: u64::from(GROUPS_JOINED_MAX) + 1, group_size: 1, created_ms: 0 };
    let groups = db.seed(&seed).expect("seeded").groups;
    let joins: Vec<Write> = groups.iter().map(|&group| Write::Join { group, user: uid(1) }).collect();
    let written = commit(db, &joins);
    let (last, before) = written.split_last().expect("not empty");
    assert!(before.iter().all(|w| matches!(w, Written::Joined { already: false, .. })));
    assert_eq!(*last, Written::Refused(Refusal::TooManyGroups));
    assert!(matches!(commit_one(db, joins[0].clone()), Written::Joined { already: true, .. }), "being one is success");
    assert_eq!(db.groups().create_group(&new_group("one more", uid(1))), Ok(None));
    commit_one(db, Write::Leave { group: groups[0], user: uid(1) });
    let last = Write::Join { group: *groups.last().expect("not empty"), user: uid(1) };
    assert!(matches!(commit_one(db, last), Written::Joined { already: false, .. }));
}

pub(super) fn ids_are_unique_across_connections_and_restarts(site: &Site) {
    let mut seen = HashSet::new();
    users(&mut *site.connect(), 2);
    for round in 0..3 {
        let mut dbs = site.connect_all(2);
        for n in 0..20 {
            let db = &mut *dbs[n % 2];
            match commit_one(db, post(pair(), 1, &format!("{round}.{n}"))) {
                Written::Stored { id, .. } => assert!(seen.insert(id), "{id} twice"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(seen.len(), 60);
}

pub(super) fn concurrent_appends_leave_no_hole(site: &Site) {
    const EACH: usize = 200;
    users(&mut *site.connect(), 2);
    let dbs = site.connect_all(2);
    let mut threads = Vec::new();
    for (who, mut db) in dbs.into_iter().enumerate() {
        threads.push(thread::spawn(move || {
            // Half of the keys are the same on both sides: one of them stores, the other is a duplicate.
            let cid = |n: usize| if n.is_multiple_of(2) { format!("both {n}") } else { format!("{who} {n}") };
            let mut stored = Vec::new();
            for n in 0..EACH {
                let write = [post(pair(), 1, &cid(n)), post(pair(), 1, &cid(n))];
                loop {
                    match db.commit(&write) {
                        Ok(written) => {
                            assert!(matches!(written[1], Written::Duplicate { .. }), "{written:?}");
                            if let Written::Stored { seq, .. } = written[0] {
                                stored.push(seq);
                            }
                            break;
                        }
                        // The other connection has the lock; nothing was stored.
                        Err(Error::Unavailable(_) | Error::Contended(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            stored
        }));
    }
    let mut stored: Vec<Seq> = threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect();
    stored.sort();
    let expected: Vec<u64> = (1..=(EACH + EACH / 2) as u64).collect();
    assert_eq!(stored.iter().map(|s| s.get()).collect::<Vec<_>>(), expected, "each number was given once");
    let page = all(&mut *site.connect(), pair());
    assert_eq!(seqs(&page), expected);
    let bodies: HashSet<Arc<str>> = page.rows.iter().map(|row| Arc::clone(&row.body)).collect();
    assert_eq!(bodies.len(), page.rows.len(), "no key was stored twice");
}

pub(super) fn a_restart_keeps_everything(site: &Site) {
    let (group_id, before, epoch) = {
        let db = &mut *site.connect();
        users(db, 2);
        let group_id = group(db, uid(1));
        commit(db, &[post(ConvId::Group(group_id), 1, "a"), Write::Join { group: group_id, user: uid(2) }]);
        commit(db, &[post(pair(), 1, "b"), post(pair(), 2, "c")]);
        db.social().block(uid(1), uid(2), true).expect("blocked");
        let page = all(db, pair());
        // The connection is dropped here, as a crash would: nothing is told to close.
        (group_id, page.rows, page.epoch)
    };
    let db = &mut *site.connect();
    let after = all(db, pair());
    assert_eq!((after.rows, after.epoch), (before, epoch));
    assert_eq!(refused(commit_one(db, post(pair(), 2, "d"))), Refusal::Blocked);
    assert_eq!(stored(&commit_one(db, post(pair(), 1, "d"))), 3, "the numbers go on");
    assert_eq!(stored(&commit_one(db, post(ConvId::Group(group_id), 2, "e"))), 2, "still a member");
}

/// The answer of a commit is lost in two ways: it happened, or it did not. The same key heals both.
pub(super) fn an_unknown_outcome_is_healed_by_the_same_key(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let batch = [post(pair(), 1, "a"), post(pair(), 2, "b")];
    let lost = db.commit(&batch).expect("it happened");
    let again = commit(db, &[batch.to_vec(), vec![post(pair(), 1, "c")]].concat());
    for (old, new) in lost.iter().zip(&again) {
        let Written::Stored { seq, id, ts_ms, .. } = *old else { panic!("{old:?}") };
        assert_eq!(*new, Written::Duplicate { conv: pair(), seq, id, ts_ms });
    }
    assert_eq!(stored(&again[2]), 3);
    assert_eq!(seqs(&all(db, pair())), [1, 2, 3]);
}

pub(super) fn odd_bodies_and_times_come_back(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let bodies = ["", "\0", "\"cid\":\"ü\"", "\u{1F600}\u{10FFFF}", &"x".repeat(64 * 1024)];
    for (body, n) in bodies.iter().zip(0u64..) {
        let key = PostKey::Client(n.to_string().into());
        let ts_ms = if n == 0 { ID_MAX } else { 0 };
        let message = NewMessage { conv: pair(), sender: uid(1), key, ts_ms, body: Arc::from(*body) };
        stored(&commit_one(db, Write::Append(message)));
    }
    let rows = all(db, pair()).rows;
    assert_eq!(rows.iter().map(|row| &*row.body).collect::<Vec<_>>(), bodies);
    assert_eq!((rows[0].ts_ms, rows[1].ts_ms), (ID_MAX, 0));
}

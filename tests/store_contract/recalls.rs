//! Taking messages back.

use imgate::ids::Seq;
use imgate::store::{Recall, Refusal};

use super::*;

const BLANK: &str = "blank";
/// How what the server says about a group begins.
const LINE: &str = "line: ";
const WITHIN_MS: u64 = 500;

fn pair() -> ConvId {
    ConvId::direct(uid(1), uid(2))
}

/// User `sender` recalls message `seq` at `ts_ms` under the key `cid`; what [`post`] says was said at 1,000.
fn recall(conv: ConvId, sender: u64, seq: u64, ts_ms: u64, cid: &str) -> Write {
    let (key, body) = (PostKey::Client(cid.into()), cid.into());
    let message = NewMessage { conv, sender: uid(sender), key, ts_ms, body };
    let seq = Seq::new(seq).expect("in range");
    Write::Recall(Box::new(Recall { message, seq, blank: BLANK.into(), spared: LINE, within_ms: WITHIN_MS }))
}

fn bodies(db: &mut dyn Backend, conv: ConvId) -> Vec<String> {
    all(db, conv).rows.iter().map(|row| row.body.to_string()).collect()
}

pub(super) fn a_recall_is_a_message_that_blanks_another(site: &Site) {
    let before = {
        let db = &mut *site.connect();
        users(db, 2);
        commit(db, &[post(pair(), 1, "a"), post(pair(), 1, "b"), post(pair(), 2, "c")]);
        let before = all(db, pair()).rows;
        assert_eq!(stored(&commit_one(db, recall(pair(), 1, 1, 1_200, "recall"))), 4);
        before
    };
    let db = &mut *site.connect();
    assert_eq!(bodies(db, pair()), [BLANK, "b", "c", "recall"]);
    let after = all(db, pair()).rows;
    let place = |row: &imgate::store::Row| (row.seq, row.id, row.ts_ms, row.sender);
    assert_eq!(after.iter().take(3).map(place).collect::<Vec<_>>(), before.iter().map(place).collect::<Vec<_>>());
    assert_eq!((after[3].ts_ms, after[3].sender), (1_200, uid(1)));
    assert_eq!(stored(&commit_one(db, post(pair(), 2, "d"))), 5, "the order goes on");
}

pub(super) fn only_ones_own_young_message_is_recalled(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    let group_id = group(db, uid(1));
    let conv = ConvId::Group(group_id);
    commit(db, &[Write::Join { group: group_id, user: uid(2) }, post(conv, 1, "a"), post(conv, 2, "b")]);
    let mut tell = |write| commit_one(db, write);
    let no = |refusal| Written::Refused(refusal);
    assert_eq!(tell(recall(conv, 2, 1, 1_000, "1")), no(Refusal::NotYours));
    assert_eq!(tell(recall(conv, 1, 1, 1_501, "2")), no(Refusal::TooLate));
    assert_eq!(tell(recall(conv, 2, 1, 9_000, "3")), no(Refusal::NotYours), "whose it is comes first");
    for seq in [0, 3, 77] {
        assert_eq!(tell(recall(conv, 1, seq, 1_000, "4")), no(Refusal::NoSuchMessage), "{seq}");
    }
    assert_eq!(tell(recall(conv, 3, 1, 1_000, "5")), no(Refusal::NotMember));
    assert_eq!(tell(recall(pair(), 1, 1, 1_000, "6")), no(Refusal::NoSuchMessage), "nothing was said there");
    assert_eq!(tell(recall(ConvId::direct(uid(1), uid(9)), 1, 1, 1_000, "7")), no(Refusal::NoSuchUser));
    assert_eq!(bodies(db, conv), ["a", "b"], "nothing was stored or blanked");
    // A refusal claims no key; and the last moment is early enough, also for a clock that went back.
    assert_eq!(stored(&commit_one(db, recall(conv, 1, 1, 1_500, "2"))), 3);
    assert_eq!(stored(&commit_one(db, recall(conv, 2, 2, 1, "1"))), 4);
    assert_eq!(bodies(db, conv), [BLANK, BLANK, "2", "1"]);
}

pub(super) fn what_the_server_says_of_a_user_is_not_recalled(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let conv = ConvId::Group(group(db, uid(1)));
    let line = |cid: &str| {
        let (key, body) = (PostKey::Client(cid.into()), format!("{LINE}{cid}").into());
        Write::Line(NewMessage { conv, sender: uid(1), key, ts_ms: 1_000, body })
    };
    commit(db, &[line("1 removed 2"), post(conv, 1, "a")]);
    let none = Written::Refused(Refusal::NoSuchMessage);
    assert_eq!(commit_one(db, recall(conv, 1, 1, 1_000, "r")), none);
    let both = commit(db, &[line("1 removed 3"), recall(conv, 1, 3, 1_000, "r")]);
    assert_eq!((stored(&both[0]), &both[1]), (3, &none), "nor in one batch with it");
    assert_eq!(stored(&commit_one(db, recall(conv, 1, 2, 1_000, "r"))), 4, "own words are");
    assert_eq!(bodies(db, conv), ["line: 1 removed 2", BLANK, "line: 1 removed 3", "r"]);
}

pub(super) fn a_recall_is_done_once(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    commit_one(db, post(pair(), 1, "a"));
    let Written::Stored { seq, id, ts_ms, .. } = commit_one(db, recall(pair(), 1, 1, 1_100, "r")) else {
        panic!("not recalled");
    };
    let again = Written::Duplicate { conv: pair(), seq, id, ts_ms };
    assert_eq!(commit_one(db, recall(pair(), 1, 1, 9_999, "r")), again, "a resend is answered before it is judged");
    assert_eq!(commit_one(db, recall(pair(), 1, 1, 1_100, "s")), Written::Refused(Refusal::NoSuchMessage));
    assert_eq!(bodies(db, pair()), [BLANK, "r"]);
}

pub(super) fn a_recall_in_one_batch_with_its_message(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let written = commit(
        db,
        &[
            post(pair(), 1, "a"),
            post(pair(), 2, "b"),
            recall(pair(), 1, 1, 1_000, "r"),
            recall(pair(), 1, 1, 1_000, "s"),
            recall(pair(), 1, 2, 1_000, "t"),
            recall(pair(), 1, 1, 1_000, "r"),
        ],
    );
    assert_eq!(stored(&written[2]), 3);
    assert_eq!(written[3], Written::Refused(Refusal::NoSuchMessage));
    assert_eq!(written[4], Written::Refused(Refusal::NotYours));
    assert!(matches!(written[5], Written::Duplicate { seq, .. } if seq.get() == 3));
    assert_eq!(bodies(db, pair()), [BLANK, "b", "r"]);
}

pub(super) fn what_one_could_say_one_may_take_back(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let group_id = group(db, uid(1));
    let conv = ConvId::Group(group_id);
    commit(
        db,
        &[Write::Join { group: group_id, user: uid(2) }, post(conv, 2, "a"), post(conv, 1, "b"), post(pair(), 1, "c")],
    );
    db.social().block(uid(2), uid(1), true).expect("blocked");
    assert_eq!(commit_one(db, post(pair(), 1, "d")), Written::Refused(Refusal::Blocked));
    assert_eq!(stored(&commit_one(db, recall(pair(), 1, 1, 1_100, "r1"))), 2, "blocked since");
    assert_eq!(bodies(db, pair()), [BLANK, "r1"]);
    commit_one(db, Write::Leave { group: group_id, user: uid(2) });
    assert_eq!(commit_one(db, post(conv, 2, "e")), Written::Refused(Refusal::NotMember));
    assert_eq!(commit_one(db, recall(conv, 2, 1, 9_000, "r2")), Written::Refused(Refusal::TooLate));
    assert_eq!(commit_one(db, recall(conv, 2, 2, 1_100, "r2")), Written::Refused(Refusal::NotMember), "the owner's");
    assert_eq!(commit_one(db, recall(conv, 2, 9, 1_100, "r2")), Written::Refused(Refusal::NotMember));
    assert_eq!(stored(&commit_one(db, recall(conv, 2, 1, 1_100, "r2"))), 3, "gone since");
    assert_eq!(bodies(db, conv), [BLANK, "b", "r2"]);
    assert_eq!(commit_one(db, recall(conv, 3, 2, 1_100, "r3")), Written::Refused(Refusal::NotMember), "never there");
    db.groups().dissolve(group_id, uid(1)).expect("works");
    assert_eq!(commit_one(db, recall(conv, 1, 2, 1_100, "r4")), Written::Refused(Refusal::NoSuchGroup));
}

/// What user 2 is told is unread of the pair.
fn unread(db: &mut dyn Backend) -> u64 {
    let read = Read::Heads { user: uid(2), before: None, missed: false, max: 10 };
    match db.read(&[read]).expect("read").remove(0) {
        ReadAnswer::Heads(heads) => heads.convs[0].unread,
        other => panic!("{other:?}"),
    }
}

pub(super) fn unread_counts_what_can_be_read(site: &Site) {
    {
        let db = &mut *site.connect();
        users(db, 2);
        commit(db, &[post(pair(), 1, "a"), post(pair(), 1, "b"), post(pair(), 1, "c"), post(pair(), 2, "mine")]);
        assert_eq!(unread(db), 3);
        commit_one(db, recall(pair(), 1, 3, 1_000, "r3"));
        assert_eq!(unread(db), 2, "neither what was taken back nor what says so");
        commit_one(db, recall(pair(), 1, 3, 1_000, "r3"));
        assert_eq!(unread(db), 2, "done once");
        // Behind what was read, in one batch with its message, and a recall that is recalled itself.
        let seq = |raw| Seq::new(raw).expect("in range");
        commit_one(db, Write::Cursor { user: uid(2), conv: pair(), recv: seq(1), read: seq(1) });
        commit(db, &[recall(pair(), 1, 1, 1_000, "r1"), post(pair(), 1, "d"), recall(pair(), 1, 7, 1_000, "r7")]);
        assert_eq!(unread(db), 1);
        commit_one(db, recall(pair(), 1, 5, 1_000, "r5"));
        assert_eq!(unread(db), 1);
    }
    let db = &mut *site.connect();
    assert_eq!(unread(db), 1, "also after a restart");
    commit_one(db, recall(pair(), 1, 2, 1_000, "r2"));
    assert_eq!(unread(db), 0);
    commit_one(db, post(pair(), 1, "e"));
    assert_eq!(unread(db), 1);
}

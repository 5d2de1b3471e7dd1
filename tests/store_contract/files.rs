//! Claims of files, what refers to them, and which may go.

use std::collections::BTreeSet;

use imgate::ids::Seq;
use imgate::store::{Claim, FileId, GroupChange, Recall, Retired, UserChange};

use super::*;

const DAY_MS: u64 = 86_400_000;

fn file(n: u8) -> FileId {
    FileId([n; 32])
}

/// The upload of file `n`, of 30 bytes, which holds until `until_ms`.
fn upload(user: u64, n: u8, until_ms: u64) -> Claim {
    Claim {
        user: Some(uid(user)),
        digests: vec![[n; 32], [n + 100; 32]],
        file: file(n),
        thumb: None,
        bytes: 30,
        note: format!("note {n}"),
        until_ms,
    }
}

fn url(n: u8) -> String {
    format!(r#"{{"url":"/files/{}.png"}}"#, format!("{n:02x}").repeat(32))
}

/// What goes at `now_ms`.
fn retired(db: &mut dyn Backend, now_ms: u64) -> BTreeSet<FileId> {
    let mut gone = BTreeSet::new();
    loop {
        let step = db.files().retire(now_ms, 2, &mut |file| gone.insert(file)).expect("works");
        if step.seen < 2 && step.removed == 0 && step.held == 0 {
            return gone;
        }
    }
}

fn says(conv: ConvId, sender: u64, body: &str, cid: &str) -> Write {
    let (key, body) = (PostKey::Client(cid.into()), body.into());
    Write::Append(NewMessage { conv, sender: uid(sender), key, ts_ms: 1_000, body })
}

fn takes_back(conv: ConvId, sender: u64, seq: u64) -> Write {
    let key = PostKey::Client(format!("back {seq}").into());
    let message = NewMessage { conv, sender: uid(sender), key, ts_ms: 1_000, body: "back".into() };
    let seq = Seq::new(seq).expect("in range");
    Write::Recall(Box::new(Recall { message, seq, blank: "blank".into(), spared: "a line", within_ms: 1_000 }))
}

pub(super) fn an_upload_weighs_once_on_each_who_claims_it(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    assert_eq!(db.files().claim(&upload(1, 1, 10), 29), Ok(false), "too heavy, and nothing is recorded");
    assert_eq!(db.files().is_known(file(1)), Ok(false));
    assert_eq!(db.files().claimed(uid(1), &[1; 32], 10), Ok(None));
    assert_eq!(db.files().claim(&upload(1, 1, 10), 30), Ok(true), "up to the bound");
    assert_eq!(db.files().claim(&upload(1, 1, 20), 30), Ok(true), "again: it weighs nothing more");
    assert_eq!(db.files().claim(&upload(1, 2, 20), 59), Ok(false));
    assert_eq!(db.files().claim(&upload(2, 1, 20), 100), Ok(true));
    assert_eq!((db.files().uploaded(uid(1)), db.files().uploaded(uid(2))), (Ok(30), Ok(30)), "each pays for it");
    assert_eq!(db.files().claim(&upload(9, 1, 20), 100), Ok(false), "there is no such user");
    assert_eq!(db.files().unclaim(&upload(1, 1, 10)), Ok(()), "a later claim of the same has taken its place");
    let seen = db.files().retire(15, 9, &mut |_| false).map(|step| step.seen);
    assert_eq!((seen, db.files().uploaded(uid(1))), (Ok(0), Ok(30)), "which stays as it is");
    assert_eq!(db.files().unclaim(&upload(2, 1, 20)), Ok(()));
    assert_eq!((db.files().uploaded(uid(1)), db.files().uploaded(uid(2))), (Ok(30), Ok(0)));
    assert_eq!((db.files().is_known(file(1)), db.files().is_known(file(2))), (Ok(true), Ok(false)));
    let mut looked_at = BTreeSet::new();
    let look = |file| !looked_at.insert(file);
    assert_eq!(db.files().retire(DAY_MS, 9, &mut { look }).map(|step| (step.seen, step.removed)), Ok((1, 0)));
    assert_eq!((looked_at, db.files().is_known(file(1))), ([file(1)].into(), Ok(true)), "a look forgets nothing");
    assert_eq!(retired(db, DAY_MS), [file(1)].into(), "whom it weighs on is free of it again");
    assert_eq!(db.files().is_known(file(1)), Ok(false));
    assert_eq!(db.files().uploaded(uid(1)), Ok(0));
}

pub(super) fn what_others_have_uploaded_is_never_told(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    assert_eq!(db.files().claim(&upload(1, 1, 10), 100), Ok(true));
    let note = Ok(Some("note 1".to_owned()));
    assert_eq!(db.files().claimed(uid(1), &[1; 32], 10), note);
    assert_eq!(db.files().claimed(uid(1), &[101; 32], 10), note, "also by what is kept of it");
    assert_eq!(db.files().claimed(uid(2), &[1; 32], 10), Ok(None));
    assert_eq!(db.files().claimed(uid(1), &[1; 32], 30), note, "renewed");
    assert_eq!(retired(db, 20), BTreeSet::new());
    assert_eq!(retired(db, 30), [file(1)].into());
    assert_eq!(db.files().claimed(uid(1), &[1; 32], 40), Ok(None), "what is gone is not told");
}

pub(super) fn what_a_message_shows_stays(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let (pair, other) = (ConvId::direct(uid(1), uid(2)), ConvId::direct(uid(1), uid(3)));
    for n in 1..=4 {
        assert_eq!(db.files().claim(&upload(1, n, 10), 1_000), Ok(true));
    }
    commit(db, &[says(pair, 1, &url(1), "a"), says(pair, 1, &url(2), "b"), says(other, 2, "refused", "c")]);
    commit(db, &[says(other, 1, &url(2), "d"), says(pair, 2, &url(9), "no file")]);
    assert_eq!(retired(db, DAY_MS), [file(3), file(4)].into(), "nothing shows them");
    assert_eq!(retired(db, DAY_MS), BTreeSet::new());
    assert_eq!(stored(&commit_one(db, takes_back(pair, 1, 1))), 4);
    assert_eq!(stored(&commit_one(db, takes_back(pair, 1, 2))), 5);
    assert_eq!(
        retired(db, 5),
        [file(1)].into(),
        "at once, although its claim holds until 10; the other one is still shown"
    );
    let mut trimmed = false;
    while !trimmed {
        let retention = imgate::store::Retention { before_ms: 2_000, count: 0, keys_before_ms: 0 };
        trimmed = db.trim(&retention, 4).expect("works").done;
    }
    assert_eq!(retired(db, DAY_MS), [file(2)].into(), "retention lets go, too");
    assert_eq!(db.files().uploaded(uid(1)), Ok(0));
}

pub(super) fn a_recalled_file_stays_as_long_as_somebody_else_claims_it(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let pair = ConvId::direct(uid(1), uid(2));
    assert_eq!(db.files().claim(&upload(1, 1, 10), 100), Ok(true));
    assert_eq!(db.files().claim(&upload(2, 1, 50), 100), Ok(true));
    commit(db, &[says(pair, 1, &url(1), "a")]);
    commit(db, &[takes_back(pair, 1, 1)]);
    assert_eq!(retired(db, 20), BTreeSet::new());
    assert_eq!(retired(db, 50), [file(1)].into());
    // In one batch, too.
    assert_eq!(db.files().claim(&upload(1, 2, 90), 100), Ok(true));
    commit(db, &[says(pair, 1, &url(2), "b"), takes_back(pair, 1, 3)]);
    assert_eq!(retired(db, 90), [file(2)].into());
}

pub(super) fn avatars_and_icons_hold_their_files(site: &Site) {
    let db = &mut *site.connect();
    for n in 1..=4 {
        let guest = Claim { user: None, ..upload(1, n, 10) };
        assert_eq!(db.files().claim(&guest, 0), Ok(true), "who registers pays nothing");
    }
    let ann = db.people().create_user(&NewUser { avatar: url(1), ..new_user("1") }).expect("works").expect("made");
    let made =
        db.groups().create_group(&NewGroup { icon: url(2), ..new_group("g", ann.id) }).expect("works").expect("made");
    let avatar = |text: String| UserChange { avatar: Some(text), ..UserChange::default() };
    let icon = |text: String| GroupChange { icon: Some(text), ..GroupChange::default() };
    assert_eq!(retired(db, DAY_MS), [file(3), file(4)].into());
    db.people()
        .update_user(ann.id, &UserChange { memo: Some("x".to_owned()), ..UserChange::default() })
        .expect("works");
    assert_eq!(retired(db, DAY_MS), BTreeSet::new());
    db.people().update_user(ann.id, &avatar(url(2))).expect("works");
    assert_eq!(retired(db, DAY_MS), [file(1)].into());
    assert_eq!(db.groups().update_group(made.id, uid(9), &icon(String::new())), Ok(None), "not the owner");
    db.groups().update_group(made.id, ann.id, &icon(String::new())).expect("works");
    assert_eq!(retired(db, DAY_MS), BTreeSet::new(), "the avatar shows it");
    db.people().update_user(ann.id, &avatar(String::new())).expect("works");
    assert_eq!(retired(db, DAY_MS), [file(2)].into());
}

pub(super) fn the_icon_of_a_group_that_has_ended_holds_no_file(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let with_icon = |db: &mut dyn Backend, owner, n| {
        assert_eq!(db.files().claim(&upload(owner, n, 10), 100), Ok(true));
        let new = NewGroup { icon: url(n), ..new_group("g", uid(owner)) };
        db.groups().create_group(&new).expect("works").expect("made").id
    };
    let (dissolved, left, handed_on) = (with_icon(db, 1, 1), with_icon(db, 2, 2), with_icon(db, 2, 3));
    commit(db, &[Write::Join { group: handed_on, user: uid(3) }, Write::Join { group: dissolved, user: uid(3) }]);
    assert_eq!(retired(db, DAY_MS), BTreeSet::new());
    db.groups().dissolve(dissolved, uid(1)).expect("works");
    assert_eq!(retired(db, DAY_MS), [file(1)].into());
    assert_eq!(db.files().uploaded(uid(1)), Ok(0));
    db.people().erase(uid(2)).expect("works");
    assert_eq!(db.groups().group(left), Ok(None));
    assert_eq!(retired(db, DAY_MS), [file(2)].into(), "the other group goes on");
    db.groups().dissolve(handed_on, uid(3)).expect("works");
    assert_eq!(retired(db, DAY_MS), [file(3)].into());
}

pub(super) fn a_small_picture_goes_with_its_picture(site: &Site) {
    let db = &mut *site.connect();
    users(db, 1);
    for (n, thumb) in [(1, 8), (2, 8), (3, 9)] {
        let claim = Claim { thumb: Some(file(thumb)), ..upload(1, n, 10) };
        assert_eq!(db.files().claim(&claim, 1_000), Ok(true));
    }
    let own = ConvId::direct(uid(1), uid(1));
    commit(db, &[says(own, 1, &url(1), "a"), says(own, 1, &url(9), "b")]);
    assert_eq!(
        retired(db, DAY_MS),
        [file(2), file(3)].into(),
        "one is of a picture that stays, one stands in a message"
    );
    commit(db, &[takes_back(own, 1, 1), takes_back(own, 1, 2)]);
    assert_eq!(retired(db, DAY_MS), [file(1), file(8), file(9)].into());
}

pub(super) fn what_could_not_be_removed_is_not_forgotten(site: &Site) {
    let db = &mut *site.connect();
    users(db, 1);
    assert_eq!(db.files().claim(&upload(1, 1, 10), 100), Ok(true));
    assert_eq!(db.files().retire(20, 9, &mut |_| false), Ok(Retired { seen: 1, ..Retired::default() }));
    assert_eq!(db.files().claimed(uid(1), &[1; 32], 10), Ok(Some("note 1".to_owned())));
    assert_eq!(db.files().retire(20, 9, &mut |_| true), Ok(Retired { removed: 1, seen: 1, ..Retired::default() }));
    assert_eq!(db.files().retire(20, 9, &mut |_| true), Ok(Retired::default()));
}

//! What is left of a user who was deleted.

use imgate::ids::Seq;
use imgate::store::{Asked, Befriended, Claim, FileId, Refusal, UserChange};

use super::*;

pub(super) fn a_deleted_user_leaves_only_what_the_others_have(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    let (ann, bob) = (uid(1), uid(2));
    let ann_was = db.people().user(ann).expect("works").expect("is there");
    for other in [2, 3] {
        assert_eq!(db.social().befriend(ann, uid(other), 0), Ok(Befriended::New));
    }
    assert_eq!(db.social().befriend(bob, uid(3), 0), Ok(Befriended::New));
    db.social().block(ann, uid(4), true).expect("blocked");
    let file = FileId([1; 32]);
    let (digests, note) = (vec![[2; 32]], String::new());
    let claim = Claim { user: Some(ann), digests, file, thumb: None, bytes: 100, note, until_ms: u64::MAX >> 1 };
    assert_eq!(db.files().claim(&claim, 1000), Ok(true));
    let (kept, ended) = (group(db, ann), group(db, ann));
    commit(
        db,
        &[
            Write::Join { group: kept, user: uid(3) },
            post(ConvId::Group(kept), 1, "a"),
            Write::Join { group: kept, user: bob },
            post(ConvId::direct(ann, bob), 1, "b"),
        ],
    );
    let direct = ConvId::direct(ann, bob);
    commit_one(db, Write::Cursor { user: ann, conv: direct, recv: Seq::new(1).expect("small"), read: Seq::ZERO });

    for round in 1..=2 {
        assert_eq!(db.people().erase(ann), Ok(true), "again is success");
        let left = db.people().user(ann).expect("works").expect("the number stays");
        assert!(left.banned && left.is_erased() && left.token_epoch == ann_was.token_epoch + round, "{left:?}");
        assert_eq!((left.nickname.as_str(), left.password.as_str()), ("deleted", "!"));
        assert_eq!(db.people().user_by_mobile(&ann_was.mobile), Ok(None), "free again");
    }
    assert_eq!(db.social().friends(ann, None, 9).expect("works"), []);
    let friends = db.social().friends(bob, None, 9).expect("works");
    assert_eq!(friends.iter().map(|friend| friend.user.id).collect::<Vec<_>>(), [uid(3)], "the others' own");
    assert_eq!(db.social().blocked(ann, None, 9).expect("works"), []);
    assert_eq!(db.files().uploaded(ann), Ok(0));
    assert_eq!(
        db.files().retire(1, 9, &mut |gone| gone == file).map(|retired| retired.removed),
        Ok(1),
        "nobody claims it"
    );
    assert_eq!(
        db.groups().group(kept).expect("works").map(|group| group.owner),
        Some(uid(3)),
        "the member of longest standing"
    );
    assert_eq!(db.groups().group(ended).expect("works"), None, "nobody else was in it");
    let state = db.read(&[Read::Open { user: ann }]).expect("read").remove(0);
    assert!(matches!(state, ReadAnswer::Open(state) if state.banned && state.token_epoch == 2));
    let page =
        Read::Page { conv: direct, reader: Some(bob), from: PageStart::After(Seq::ZERO), rows_max: 9, bytes_max: 999 };
    let page = db.read(&[page]).expect("read").remove(0);
    assert!(
        matches!(page, ReadAnswer::Page(page) if page.rows.len() == 1 && page.rows[0].sender == ann),
        "what Bob has got"
    );

    let refused = |why| Written::Refused(why);
    let join = |group, user| Write::Join { group, user };
    assert_eq!(db.social().befriend(bob, ann, 0), Ok(Befriended::NoSuchUser));
    assert_eq!(commit_one(db, post(direct, 2, "c")), refused(Refusal::NoSuchUser), "the judge had let them pass");
    assert_eq!(commit_one(db, post(ConvId::direct(ann, uid(3)), 3, "d")), refused(Refusal::NoSuchUser));
    let other = group(db, bob);
    assert_eq!(commit_one(db, join(other, ann)), refused(Refusal::NoSuchUser));
    assert_eq!(commit_one(db, join(ended, bob)), refused(Refusal::NoSuchGroup));
    assert_eq!(commit_one(db, Write::Leave { group: ended, user: ann }), Written::Left { was_member: true });
    // The next owner is deleted before the first has left: neither is an heir.
    assert_eq!(db.people().erase(uid(3)), Ok(true));
    assert_eq!(db.groups().group(kept).expect("works").map(|group| group.owner), Some(bob));

    let again = NewUser { mobile: ann_was.mobile.clone(), ..NewUser::default() };
    let again = db.people().create_user(&again).expect("works").expect("a free mobile number");
    assert!(again.id > uid(4), "another account");
    assert_eq!(db.people().erase(uid(99)), Ok(false));
}

/// The leaves come after the deletion, in the order of each group, and the gateway may die before
/// any of them: whatever is repeated, no past membership is left.
pub(super) fn a_deleted_user_was_never_a_member(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let (ann, bob) = (uid(1), uid(2));
    let groups = [group(db, bob), group(db, bob), group(db, bob)];
    for id in groups {
        commit(db, &[Write::Join { group: id, user: ann }, post(ConvId::Group(id), 1, &id.to_string())]);
    }
    let leave = |group| Write::Leave { group, user: ann };
    let left = Written::Left { was_member: true };
    let was_member = |db: &mut dyn Backend| {
        groups.map(|group| db.admissions().standing(group, ann).expect("works").expect("is there").was_member)
    };
    assert_eq!(commit_one(db, leave(groups[0])), left);
    assert_eq!(was_member(db), [true, false, false]);

    assert_eq!(db.people().erase(ann), Ok(true));
    assert_eq!(was_member(db), [false; 3], "also of what had ended before");
    assert_eq!(commit_one(db, leave(groups[1])), left);
    assert_eq!(was_member(db), [false; 3]);
    assert_eq!(db.people().erase(ann), Ok(true), "once more, as after a crash");
    assert_eq!(commit(db, &[leave(groups[1]), leave(groups[2])]), [Written::Left { was_member: false }, left]);
    assert_eq!(was_member(db), [false; 3]);
    let conv = ConvId::Group(groups[2]);
    assert_eq!(read(db, conv, Some(1), PageStart::After(Seq::ZERO), 9), ReadAnswer::Refused(Refusal::NotMember));
    assert_eq!(stored(&commit_one(db, post(conv, 2, "bob"))), 2, "the others go on");
}

/// A request that was let in before the deletion reaches the database behind it.
pub(super) fn what_was_under_way_brings_nothing_of_a_deleted_user_back(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let (ann, bob) = (uid(1), uid(2));
    let file = FileId([7; 32]);
    let claim = |user, until_ms| {
        let (digests, note) = (vec![[3; 32]], "picture".to_owned());
        Claim { user: Some(user), digests, file, thumb: None, bytes: 100, note, until_ms }
    };
    // The avatar's file, which nothing but that holds.
    assert_eq!(db.files().claim(&claim(bob, 5), 1000), Ok(true));
    let (others, direct) = (group(db, bob), ConvId::direct(ann, bob));
    let seq = |n| Seq::new(n).expect("small");
    commit(db, &[post(direct, 2, "a"), post(direct, 2, "b"), post(ConvId::direct(bob, uid(3)), 3, "c")]);
    assert_eq!(db.people().erase(ann), Ok(true));
    let erased = db.people().user(ann).expect("works").expect("the number stays");

    let avatar = Some(format!("/files/{}.png", "07".repeat(32)));
    let nickname = Some("Ann".to_owned());
    let change = UserChange { nickname, avatar, sex: Some("W".into()), memo: Some("me".into()) };
    assert_eq!(db.people().update_user(ann, &change), Ok(None));
    assert_eq!(db.people().user(ann), Ok(Some(erased)));
    let gone = db.files().retire(9, 9, &mut |_| true).map(|retired| (retired.removed, retired.held));
    assert_eq!(gone, Ok((1, 0)), "no avatar holds it");

    assert_eq!(db.files().claim(&claim(ann, u64::MAX >> 1), 1000), Ok(false));
    assert_eq!((db.files().uploaded(ann), db.files().is_known(file)), (Ok(0), Ok(false)));
    assert_eq!(db.files().claimed(ann, &[3; 32], 9), Ok(None));

    assert_eq!(db.social().block(ann, bob, true), Ok(false));
    assert_eq!(db.social().blocked(ann, None, 9), Ok(Vec::new()));

    assert_eq!(db.admissions().ask(others, ann, 5), Ok(Asked::NoSuchUser));
    assert_eq!(db.admissions().requests(others, None, 9), Ok(Vec::new()));

    assert_eq!(db.groups().create_group(&new_group("the owner", ann)), Ok(None));
    assert_eq!(
        (db.groups().groups_of(ann), db.groups().groups_named("the owner", 9)),
        (Ok(Vec::new()), Ok(Vec::new()))
    );

    // In one batch with a cursor that is kept.
    let cursor = |user, conv| Write::Cursor { user, conv, recv: seq(1), read: seq(1) };
    let written = commit(db, &[cursor(ann, direct), cursor(bob, ConvId::direct(bob, uid(3))), cursor(bob, direct)]);
    assert_eq!(written, [Written::Kept, Written::Kept, Written::Kept]);
    assert_eq!(commit(db, &[cursor(ann, direct)]), [Written::Kept]);
    for (user, conv, recv) in [(ann, direct, 0), (bob, direct, 1), (bob, ConvId::direct(bob, uid(3)), 1)] {
        let heads = db.read(&[Read::Heads { user, before: None, missed: false, max: 9 }]).expect("read").remove(0);
        let ReadAnswer::Heads(heads) = heads else { panic!("{heads:?}") };
        let state = heads.convs.iter().find(|state| state.conv == conv).expect("it has messages");
        assert_eq!((state.recv.get(), state.read.get()), (recv, recv), "{user} in {conv:?}");
    }
}

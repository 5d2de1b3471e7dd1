//! Friends, blocks, profiles, and what becomes of groups.

use imgate::ids::GroupId;
use imgate::limits::FRIENDS_MAX;
use imgate::store::{Befriended, Friend, Group, GroupChange, Refusal, User, UserChange};

use super::*;

fn ids(users: Vec<User>) -> Vec<u64> {
    users.iter().map(|user| user.id.get()).collect()
}

/// The friends of a user, and whether each is blocked.
fn friends(db: &mut dyn Backend, user: u64) -> Vec<(u64, bool)> {
    let friends = db.social().friends(uid(user), None, 100).expect("listed");
    friends.into_iter().map(|Friend { user, blocked }| (user.id.get(), blocked)).collect()
}

pub(super) fn friendship_goes_both_ways(site: &Site) {
    {
        let db = &mut *site.connect();
        users(db, 4);
        assert_eq!(db.social().befriend(uid(3), uid(1), 5), Ok(Befriended::New));
        assert_eq!(db.social().befriend(uid(3), uid(1), 6), Ok(Befriended::Already));
        assert_eq!(db.social().befriend(uid(1), uid(3), 7), Ok(Befriended::Already));
        assert_eq!(db.social().befriend(uid(3), uid(2), 8), Ok(Befriended::New));
        for (user, other) in [(3, 3), (3, 9), (9, 3)] {
            assert_eq!(db.social().befriend(uid(user), uid(other), 5), Ok(Befriended::NoSuchUser), "{user} {other}");
        }
    }
    let db = &mut *site.connect();
    assert_eq!(friends(db, 3), [(1, false), (2, false)]);
    assert_eq!(friends(db, 1), [(3, false)]);
    assert_eq!(friends(db, 4), []);
    let page = db.social().friends(uid(3), Some(uid(1)), 1).expect("listed");
    assert_eq!(page[0].user, db.people().user(uid(2)).expect("works").expect("made"), "whole users, page by page");
    assert_eq!(db.social().friends(uid(3), None, 1).expect("listed").len(), 1);
    assert_eq!(db.social().unfriend(uid(1), uid(3)), Ok(true));
    assert_eq!(db.social().unfriend(uid(1), uid(3)), Ok(false), "ending it twice is no harm");
    assert_eq!((friends(db, 1), friends(db, 3)), (vec![], vec![(2, false)]));
    assert_eq!(db.social().befriend(uid(1), uid(3), 9), Ok(Befriended::New), "and again");
}

pub(super) fn friends_have_a_limit(site: &Site) {
    let db = &mut *site.connect();
    let most = u64::from(FRIENDS_MAX);
    // Making thousands of friends costs a commit each where there is a disk.
    if !matches!(site, Site::Memory(_)) {
        return;
    }
    users(db, most + 2);
    for other in 2..=most + 1 {
        assert_eq!(db.social().befriend(uid(1), uid(other), 0), Ok(Befriended::New));
    }
    assert_eq!(db.social().befriend(uid(1), uid(most + 2), 0), Ok(Befriended::TooMany));
    assert_eq!(db.social().befriend(uid(most + 2), uid(1), 0), Ok(Befriended::TooMany));
    assert_eq!(db.social().unfriend(uid(2), uid(1)), Ok(true));
    assert_eq!(db.social().befriend(uid(most + 2), uid(1), 0), Ok(Befriended::New));
}

pub(super) fn blocks_are_listed_and_refuse_friendship(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    db.social().befriend(uid(1), uid(2), 0).expect("works");
    for other in [4, 2, 3] {
        db.social().block(uid(1), uid(other), true).expect("blocked");
    }
    assert_eq!(ids(db.social().blocked(uid(1), None, 10).expect("listed")), [2, 3, 4]);
    assert_eq!(ids(db.social().blocked(uid(1), Some(uid(2)), 1).expect("listed")), [3]);
    assert_eq!(ids(db.social().blocked(uid(2), None, 10).expect("listed")), Vec::<u64>::new());
    assert_eq!(friends(db, 1), [(2, true)], "a blocked friend is still one");
    assert_eq!(friends(db, 2), [(1, false)], "who is blocked is not told");
    assert_eq!(db.social().befriend(uid(3), uid(1), 0), Ok(Befriended::Blocked));
    assert_eq!(db.social().befriend(uid(2), uid(1), 0), Ok(Befriended::Already));
    assert_eq!(db.social().befriend(uid(1), uid(3), 0), Ok(Befriended::New), "whoever blocks may");
    db.social().block(uid(1), uid(4), false).expect("lifted");
    assert_eq!(db.social().befriend(uid(4), uid(1), 0), Ok(Befriended::New));
}

pub(super) fn users_are_found_together(site: &Site) {
    let db = &mut *site.connect();
    users(db, 5);
    let found = db.people().users(&[uid(4), uid(9), uid(2), uid(4)]).expect("found");
    assert_eq!(ids(found.clone()), [2, 4]);
    assert_eq!(found[1], db.people().user(uid(4)).expect("works").expect("made"));
    assert_eq!(db.people().users(&[]), Ok(vec![]));
}

pub(super) fn a_profile_changes_where_it_is_told_to(site: &Site) {
    let before = {
        let db = &mut *site.connect();
        users(db, 1);
        db.people().create_user(&new_user("2")).expect("works").expect("free")
    };
    let text = |text: &str| Some(text.to_owned());
    let change = UserChange { nickname: text("Änn 😀"), memo: text(""), ..UserChange::default() };
    let changed = User { nickname: "Änn 😀".to_owned(), memo: String::new(), ..before.clone() };
    let db = &mut *site.connect();
    assert_eq!(db.people().update_user(before.id, &change), Ok(Some(changed.clone())));
    assert_eq!(db.people().update_user(before.id, &UserChange::default()), Ok(Some(changed.clone())), "nothing new");
    let rest = UserChange { avatar: text("/a.png"), sex: text("W"), ..UserChange::default() };
    let changed = User { avatar: "/a.png".to_owned(), sex: "W".to_owned(), ..changed };
    assert_eq!(db.people().update_user(before.id, &rest), Ok(Some(changed.clone())));
    assert_eq!(db.people().user(before.id), Ok(Some(changed)));
    assert_eq!(db.people().update_user(uid(9), &change), Ok(None));
}

pub(super) fn passwords_and_epochs_move_together(site: &Site) {
    let db = &mut *site.connect();
    let user = db
        .people()
        .create_user(&NewUser { password: "old".to_owned(), ..new_user("1") })
        .expect("works")
        .expect("free");
    assert_eq!(db.people().set_password(user.id, "OLD", "x", true), Ok(None), "compared byte by byte");
    assert_eq!(db.people().set_password(user.id, "old", "new", true), Ok(Some(1)));
    assert_eq!(db.people().set_password(user.id, "old", "x", true), Ok(None), "the second of two");
    assert_eq!(db.people().set_password(user.id, "new", "hashed anew", false), Ok(Some(1)), "tokens stay");
    assert_eq!(db.people().log_out(user.id, 0), Ok(Some(2)));
    let stored = db.people().user(user.id).expect("works").expect("made");
    assert_eq!((stored.password.as_str(), stored.token_epoch), ("hashed anew", 2));
    let ReadAnswer::Open(open) = db.read(&[Read::Open { user: user.id }]).expect("read").remove(0) else {
        panic!("an answer to an open");
    };
    assert_eq!(open.token_epoch, 2, "sessions hear of it");
    assert_eq!(db.people().log_out(uid(9), 0), Ok(None));
    assert_eq!(db.people().set_password(uid(9), "", "x", true), Ok(None));
}

pub(super) fn groups_of_one_name_come_oldest_first(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let made: Vec<GroupId> = ["Tea", "wine", "TEA ", "tea"]
        .map(|name| db.groups().create_group(&new_group(name, uid(1))).expect("works").expect("made").id)
        .into();
    commit_one(db, Write::Join { group: made[2], user: uid(2) });
    let named = |db: &mut dyn Backend, max| -> Vec<(GroupId, u64)> {
        let groups = db.groups().groups_named("teA", max).expect("found");
        groups.into_iter().map(|(group, members)| (group.id, members)).collect()
    };
    assert_eq!(named(db, 10), [(made[0], 1), (made[2], 2), (made[3], 1)]);
    assert_eq!(named(db, 1), [(made[0], 1)]);
    let change = GroupChange { name: Some("Coffee".to_owned()), ..GroupChange::default() };
    let renamed = db.groups().update_group(made[0], uid(1), &change).expect("works").expect("the owner");
    assert!(renamed.renamed);
    let again = db.groups().update_group(made[0], uid(1), &change).expect("works").expect("the owner");
    assert!(!again.renamed && again.group == renamed.group, "it has that name already");
    let renamed = renamed.group;
    assert_eq!((renamed.name.as_str(), renamed.icon.as_str(), renamed.memo.as_str()), ("Coffee", "/i.png", "memo"));
    assert_eq!(named(db, 1), [(made[2], 2)]);
    assert_eq!(db.groups().group_by_name("coffee"), Ok(Some(renamed)));
    let rest = GroupChange { icon: Some(String::new()), memo: Some("m".to_owned()), ..GroupChange::default() };
    let changed = db.groups().update_group(made[0], uid(1), &rest).expect("works").expect("the owner");
    assert!(!changed.renamed);
    let changed = changed.group;
    assert_eq!((changed.name.as_str(), changed.icon.as_str(), changed.memo.as_str()), ("Coffee", "", "m"));
    assert_eq!(db.groups().update_group(made[0], uid(2), &change), Ok(None), "not the owner");
    assert_eq!(db.groups().update_group(GroupId::new(77).expect("in range"), uid(1), &change), Ok(None));
}

pub(super) fn members_are_listed_page_by_page(site: &Site) {
    let db = &mut *site.connect();
    users(db, 6);
    let group = group(db, uid(3));
    let joins: Vec<Write> = [6, 1, 4].map(|user| Write::Join { group, user: uid(user) }).into();
    commit(db, &joins);
    assert_eq!(ids(db.groups().members(group, None, 10).expect("listed")), [1, 3, 4, 6]);
    assert_eq!(ids(db.groups().members(group, Some(uid(3)), 1).expect("listed")), [4]);
    assert_eq!(
        ids(db.groups().members(GroupId::new(77).expect("in range"), None, 10).expect("listed")),
        Vec::<u64>::new()
    );
    assert_eq!(db.groups().membership(group, uid(4)), Ok((4, true)));
    assert_eq!(db.groups().membership(group, uid(2)), Ok((4, false)));
}

pub(super) fn a_dissolved_group_is_no_more(site: &Site) {
    let (id, next) = {
        let db = &mut *site.connect();
        users(db, 3);
        let id = group(db, uid(1));
        let conv = ConvId::Group(id);
        commit(db, &[Write::Join { group: id, user: uid(2) }, post(conv, 2, "kept")]);
        assert_eq!(db.groups().dissolve(id, uid(2)), Ok(false), "not the owner");
        assert_eq!(db.groups().dissolve(GroupId::new(77).expect("in range"), uid(1)), Ok(false));
        assert_eq!(db.groups().dissolve(id, uid(1)), Ok(true));
        assert_eq!(db.groups().dissolve(id, uid(1)), Ok(true), "twice is no harm");
        let no = Written::Refused(Refusal::NoSuchGroup);
        let written = commit(
            db,
            &[
                post(conv, 2, "late"),
                Write::Join { group: id, user: uid(3) },
                Write::Join { group: id, user: uid(2) },
                Write::Leave { group: id, user: uid(2) },
                Write::Leave { group: id, user: uid(2) },
            ],
        );
        let left = |was_member| Written::Left { was_member };
        assert_eq!(written, [no.clone(), no.clone(), no, left(true), left(false)]);
        let answer = read(db, conv, Some(1), PageStart::After(imgate::ids::Seq::ZERO), 10);
        assert_eq!(answer, ReadAnswer::Refused(Refusal::NoSuchGroup), "also for whoever is still a member");
        assert_eq!(all(db, conv).rows.len(), 1, "what was said is kept");
        (id, group(db, uid(1)))
    };
    assert_ne!(id, next, "its number is not given again");
    let db = &mut *site.connect();
    assert_eq!((db.groups().group(id), db.groups().groups_named("g", 9).expect("found").len()), (Ok(None), 1));
    let listed: Vec<Group> =
        db.groups().groups_of(uid(1)).expect("listed").into_iter().map(|(group, _)| group).collect();
    assert_eq!(listed.iter().map(|group| group.id).collect::<Vec<_>>(), [next]);
    assert_eq!(db.groups().group_by_name("g").expect("works").map(|group| group.id), Some(next));
    assert_eq!(db.groups().update_group(id, uid(1), &GroupChange::default()), Ok(None));
    for _ in 1..6 {
        assert!(
            db.groups().create_group(&new_group("more", uid(1))).expect("works").is_some(),
            "it does not count any more"
        );
    }
    assert_eq!(db.groups().create_group(&new_group("seventh", uid(1))), Ok(None));
}

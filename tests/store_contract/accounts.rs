//! Users and groups, as the control plane uses them.

use imgate::ids::{GroupId, Seq};
use imgate::store::{ReadAnswer, Seeded, User, UserState};

use super::*;

pub(super) fn mobile_numbers_are_unique_without_case_and_trailing_blanks(site: &Site) {
    let made = {
        let db = &mut *site.connect();
        let made = db.people().create_user(&new_user("Anna ")).expect("works").expect("free");
        for taken in ["Anna ", "anna", "ANNA   "] {
            assert_eq!(db.people().create_user(&new_user(taken)), Ok(None), "{taken:?}");
        }
        made
    };
    let new = new_user("Anna ");
    let NewUser { mobile, password, avatar, sex, nickname, memo, created_ms, wanted: _ } = new;
    let (id, token_epoch, banned) = (uid(1), 0, false);
    let expected = User { id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned };
    assert_eq!(made, expected);
    let db = &mut *site.connect();
    assert_eq!(db.people().user(uid(1)), Ok(Some(made.clone())));
    assert_eq!(db.people().user_by_mobile("aNNa"), Ok(Some(made)));
    assert_eq!(db.people().user_by_mobile(" anna"), Ok(None));
    assert_eq!(db.people().user(uid(2)), Ok(None));
    let second = db.people().create_user(&new_user("ärzte")).expect("works").expect("free");
    assert_eq!(second.id, uid(2), "a taken number costs no id");
    assert_eq!(db.people().user_by_mobile("ÄRZTE"), Ok(Some(second)));
}

pub(super) fn groups_are_found_by_folded_name(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let first = db.groups().create_group(&new_group("G3", uid(1))).expect("works").expect("made");
    let second = db.groups().create_group(&new_group("g3 ", uid(2))).expect("works").expect("names are not unique");
    assert_eq!((first.name.as_str(), first.owner, first.icon.as_str()), ("G3", uid(1), "/i.png"));
    assert_eq!((first.cate, first.memo.as_str(), first.created_ms), (3, "memo", 7));
    assert!(first.id < second.id);
    assert_eq!(db.groups().group_by_name("g3   "), Ok(Some(first.clone())), "the oldest");
    assert_eq!(db.groups().group_by_name("g4"), Ok(None));
    assert_eq!(db.groups().group(second.id), Ok(Some(second)));
    assert_eq!(db.groups().group(GroupId::new(77).expect("in range")), Ok(None));
    let open = db.read(&[Read::Open { user: uid(1) }]).expect("read").remove(0);
    let groups = vec![(first.id, Seq::ZERO)];
    assert_eq!(open, ReadAnswer::Open(UserState { groups, ..UserState::default() }), "the owner is a member");
}

pub(super) fn an_owner_has_a_limit(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    for n in 0..6 {
        assert!(db.groups().create_group(&new_group(&n.to_string(), uid(1))).expect("works").is_some());
    }
    assert_eq!(db.groups().create_group(&new_group("seven", uid(1))), Ok(None));
    assert_eq!(db.groups().group_by_name("seven"), Ok(None));
    assert!(db.groups().create_group(&new_group("other", uid(2))).expect("works").is_some());
    assert!(
        db.groups().create_group(&NewGroup { owned_max: 7, ..new_group("seven", uid(1)) }).expect("works").is_some()
    );
    assert_eq!(db.groups().create_group(&new_group("nobody's", uid(9))), Ok(None));
}

pub(super) fn a_wanted_number_is_kept_while_it_is_above_all(site: &Site) {
    let mut made = 0;
    let mut user = |wanted: Option<u64>| {
        made += 1;
        let new = NewUser { wanted: wanted.map(uid), ..new_user(&made.to_string()) };
        site.connect().people().create_user(&new).expect("works").expect("free").id.get()
    };
    assert_eq!([user(Some(3)), user(None)], [3, 4], "the next ones lie above it");
    assert_eq!([user(Some(9)), user(Some(9)), user(Some(2)), user(None)], [9, 10, 11, 12], "nor is one given twice");
    let taken = NewUser { wanted: Some(uid(50)), ..new_user("1") };
    assert_eq!(site.connect().people().create_user(&taken), Ok(None));
    assert_eq!([user(None), user(Some(14))], [13, 14], "whose mobile number is taken costs none");
    let group = |wanted: Option<u64>| {
        let wanted = wanted.and_then(GroupId::new);
        let new = NewGroup { wanted, ..new_group("g", uid(9)) };
        site.connect().groups().create_group(&new).expect("works").expect("made").id.get()
    };
    assert_eq!([group(Some(7)), group(None), group(Some(5))], [7, 8, 9]);
    let db = &mut *site.connect();
    assert_eq!(db.people().user(uid(9)).expect("read").expect("a user").mobile, "3");
    assert_eq!(db.people().user(uid(5)), Ok(None));
    let join = db.commit(&[Write::Join { group: GroupId::new(7).expect("an id"), user: uid(4) }]).expect("works");
    assert!(matches!(join[..], [Written::Joined { already: false, .. }]), "{join:?}");
    let sizes: Vec<_> =
        db.groups().groups_of(uid(9)).expect("read").into_iter().map(|(group, size)| (group.id.get(), size)).collect();
    assert_eq!(sizes, [(7, 2), (8, 1), (9, 1)]);
}

pub(super) fn groups_are_listed_with_their_sizes(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let (a, b) = (group(db, uid(1)), group(db, uid(2)));
    commit(db, &[Write::Join { group: b, user: uid(1) }, Write::Join { group: b, user: uid(3) }]);
    let mut sizes = |user| -> Vec<(GroupId, u64)> {
        let groups = db.groups().groups_of(uid(user)).expect("listed");
        groups.into_iter().map(|(group, size)| (group.id, size)).collect()
    };
    assert_eq!(sizes(1), [(a, 1), (b, 3)]);
    assert_eq!(sizes(2), [(b, 3)]);
    assert_eq!(sizes(9), []);
    commit_one(db, Write::Leave { group: b, user: uid(3) });
    assert_eq!(db.groups().groups_of(uid(3)), Ok(vec![]));
}

pub(super) fn a_seed_continues_after_what_is_there(site: &Site) {
    let db = &mut *site.connect();
    db.people().create_user(&new_user("13800138000")).expect("works").expect("free");
    let seed = Seed { users: 5, groups: 2, group_size: 3, created_ms: 11 };
    let first = db.seed(&seed).expect("seeded");
    assert_eq!((first.first_user, first.users, first.groups.len()), (uid(2), 5, 2));
    let second = db.seed(&seed).expect("seeded again");
    assert_eq!(second.first_user, uid(7));
    assert!(second.groups[0] > first.groups[1]);

    let user = db.people().user(uid(6)).expect("works").expect("made");
    assert_eq!((user.password.as_str(), user.nickname.as_str(), user.created_ms), ("!", "user 6", 11));
    assert!(user.mobile.starts_with('9') && user.mobile.len() == 16, "{}", user.mobile);
    assert_eq!(db.people().user_by_mobile(&user.mobile), Ok(Some(user)));
    let next = db.people().create_user(&new_user("13800138001")).expect("works").expect("free");
    assert_eq!(next.id, uid(12), "numbers go on after a seed");

    // The new users 2 to 6 in turn: 2 3 4, then 5 6 2.
    let members = |db: &mut dyn Backend, n: u64| -> Vec<GroupId> {
        db.groups().groups_of(uid(n)).expect("listed").into_iter().map(|(group, _)| group.id).collect()
    };
    assert_eq!(members(db, 2), first.groups);
    assert_eq!(members(db, 4), first.groups[..1]);
    assert_eq!(members(db, 6), first.groups[1..]);
    assert_eq!(db.groups().groups_of(uid(2)).expect("listed")[0].1, 3);
    assert_eq!(
        db.groups().group(first.groups[1]).expect("works").expect("made").owner,
        uid(5),
        "the first of its members"
    );
}

pub(super) fn a_seed_without_users_makes_nothing(site: &Site) {
    let db = &mut *site.connect();
    let nothing = Seeded { first_user: uid(1), users: 0, groups: vec![] };
    assert_eq!(db.seed(&Seed { users: 0, groups: 3, group_size: 3, created_ms: 0 }), Ok(nothing));
    let whole = db.seed(&Seed { users: 2, groups: 1, group_size: 100, created_ms: 0 }).expect("seeded");
    assert_eq!(db.groups().groups_of(uid(1)).expect("listed")[0].1, 2, "nobody is a member twice");
    assert_eq!(whole.groups.len(), 1);
}

pub(super) fn it_answers_a_ping(site: &Site) {
    let db = &mut *site.connect();
    assert_eq!(db.ping(), Ok(()));
    assert_eq!(db.ping(), Ok(()));
}

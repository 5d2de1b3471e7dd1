//! Who gets into a group, and what is left of it for strangers.

use imgate::ids::Seq;
use imgate::limits::{GROUP_ADMINS_MAX, GROUPS_OWNED_MAX, REQUESTS_OF_USER_MAX};
use imgate::store::{Asked, GroupChange, Refusal, Role};

use super::*;

fn made(db: &mut dyn Backend, rule: Rule) -> GroupId {
    let new = NewGroup { rule, owned_max: 1_000, ..new_group("Tea", uid(1)) };
    db.groups().create_group(&new).expect("works").expect("made").id
}

fn role(db: &mut dyn Backend, group: GroupId, user: u64) -> Option<Role> {
    db.admissions().standing(group, uid(user)).expect("works").expect("a group").role
}

pub(super) fn a_group_by_invitation_is_none_to_strangers(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    let (hidden, asked) = (made(db, Rule::Invitation), made(db, Rule::Approval));
    commit(db, &[Write::Join { group: hidden, user: uid(2) }, Write::Join { group: asked, user: uid(2) }]);
    let (conv, other) = (ConvId::Group(hidden), ConvId::Group(asked));
    assert_eq!(stored(&commit_one(db, post(conv, 2, "a"))), 1, "who was added is a member like any");
    assert_eq!(commit_one(db, post(conv, 3, "b")), Written::Refused(Refusal::NoSuchGroup));
    assert_eq!(read(db, conv, Some(3), PageStart::After(Seq::ZERO), 9), ReadAnswer::Refused(Refusal::NoSuchGroup));
    assert_eq!(commit_one(db, post(other, 3, "c")), Written::Refused(Refusal::NotMember));
    assert_eq!(read(db, other, Some(3), PageStart::After(Seq::ZERO), 9), ReadAnswer::Refused(Refusal::NotMember));
    let found = |db: &mut dyn Backend| {
        let named = db.groups().groups_named("tea", 9).expect("works");
        (
            named.iter().map(|(group, _)| group.id).collect::<Vec<_>>(),
            db.groups().group_by_name("tea").expect("works").map(|g| g.id),
        )
    };
    assert_eq!(found(db), (vec![asked], Some(asked)));
    commit_one(db, Write::Leave { group: hidden, user: uid(2) });
    assert_eq!(commit_one(db, post(conv, 2, "d")), Written::Refused(Refusal::NotMember), "who was in it knows it");
    assert_eq!(seqs(&page(db, conv, Some(2), PageStart::After(Seq::ZERO), 9)), [1]);
    let open = GroupChange { rule: Some(Rule::Open), members_add: Some(false), ..GroupChange::default() };
    let changed = db.groups().update_group(hidden, uid(1), &open).expect("works").expect("the owner").group;
    assert_eq!((changed.rule, changed.members_add, changed.name.as_str()), (Rule::Open, false, "Tea"));
    assert_eq!(commit_one(db, post(conv, 3, "e")), Written::Refused(Refusal::NotMember));
    assert_eq!(found(db).0, [hidden, asked]);
}

pub(super) fn roles_go_with_the_membership(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    let group = made(db, Rule::Open);
    commit(db, &[Write::Join { group, user: uid(2) }, Write::Join { group, user: uid(3) }]);
    assert_eq!([1, 2, 4].map(|user| role(db, group, user)), [Some(Role::Owner), Some(Role::Member), None]);
    assert_eq!(db.admissions().set_role(group, uid(1), uid(4), Role::Admin), Ok(false), "no member");
    assert_eq!(db.admissions().set_role(group, uid(1), uid(2), Role::Admin), Ok(true));
    assert_eq!((role(db, group, 2), db.admissions().admins(group)), (Some(Role::Admin), Ok(vec![uid(2)])));
    assert_eq!(db.admissions().set_role(group, uid(2), uid(3), Role::Owner), Ok(false), "not an admin's to give");
    assert_eq!(db.admissions().set_role(group, uid(1), uid(3), Role::Owner), Ok(true));
    for role in [Role::Owner, Role::Admin, Role::Member] {
        assert_eq!(db.admissions().set_role(group, uid(1), uid(2), role), Ok(false), "given away, it is given once");
    }
    assert_eq!([1, 2, 3].map(|user| role(db, group, user)), [Some(Role::Admin), Some(Role::Admin), Some(Role::Owner)]);
    assert_eq!(db.admissions().admins(group), Ok(vec![uid(1), uid(2)]), "the owner is not among them");
    assert_eq!(db.groups().group(group).expect("works").map(|group| group.owner), Some(uid(3)));
    assert_eq!(db.admissions().set_role(group, uid(3), uid(1), Role::Member), Ok(true));
    commit(db, &[Write::Leave { group, user: uid(2) }, Write::Join { group, user: uid(2) }]);
    assert_eq!([1, 2].map(|user| role(db, group, user)), [Some(Role::Member); 2], "who comes back begins anew");
    let standing = db.admissions().standing(group, uid(2)).expect("works").expect("a group");
    assert_eq!((standing.members, standing.was_member), (3, false));
    commit_one(db, Write::Leave { group, user: uid(2) });
    assert!(db.admissions().standing(group, uid(2)).expect("works").expect("a group").was_member);
    db.groups().dissolve(group, uid(3)).expect("works");
    assert_eq!(db.admissions().standing(group, uid(1)), Ok(None));
    assert_eq!(db.admissions().set_role(group, uid(3), uid(1), Role::Admin), Ok(false));
}

/// The membership of a deleted user ends by and by, in the order of each group.
pub(super) fn a_deleted_user_is_given_no_role(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let group = made(db, Rule::Open);
    commit(db, &[Write::Join { group, user: uid(2) }, Write::Join { group, user: uid(3) }]);
    assert_eq!(db.people().erase(uid(2)), Ok(true));
    for role in [Role::Owner, Role::Admin] {
        assert_eq!(db.admissions().set_role(group, uid(1), uid(2), role), Ok(false), "{role:?}");
    }
    assert_eq!(commit_one(db, Write::Leave { group, user: uid(2) }), Written::Left { was_member: true });
    assert_eq!(db.admissions().set_role(group, uid(1), uid(3), Role::Owner), Ok(true));
}

pub(super) fn a_group_has_so_many_admins(site: &Site) {
    let db = &mut *site.connect();
    users(db, GROUP_ADMINS_MAX as u64 + 3);
    let group = made(db, Rule::Open);
    let joins: Vec<Write> = (2..GROUP_ADMINS_MAX as u64 + 4).map(|n| Write::Join { group, user: uid(n) }).collect();
    commit(db, &joins);
    for n in 2..GROUP_ADMINS_MAX as u64 + 2 {
        assert_eq!(db.admissions().set_role(group, uid(1), uid(n), Role::Admin), Ok(true));
    }
    let last = uid(GROUP_ADMINS_MAX as u64 + 2);
    assert_eq!(db.admissions().set_role(group, uid(1), last, Role::Admin), Ok(false));
    assert_eq!(db.admissions().set_role(group, uid(1), uid(2), Role::Admin), Ok(true), "who is one stays one");
    assert_eq!(db.admissions().set_role(group, uid(1), uid(2), Role::Member), Ok(true));
    assert_eq!(db.admissions().set_role(group, uid(1), last, Role::Admin), Ok(true));
}

pub(super) fn who_is_given_groups_has_no_more_than_one_may_make(site: &Site) {
    let db = &mut *site.connect();
    users(db, 2);
    let mut hand_on = || {
        let group = made(db, Rule::Open);
        commit_one(db, Write::Join { group, user: uid(2) });
        (group, db.admissions().set_role(group, uid(1), uid(2), Role::Owner).expect("works"))
    };
    let given: Vec<_> = (0..GROUPS_OWNED_MAX).map(|_| hand_on()).collect();
    assert!(given.iter().all(|(_, done)| *done));
    let (left, done) = hand_on();
    assert!(!done && role(db, left, 1) == Some(Role::Owner), "the heir has enough");
    assert_eq!(
        db.admissions().set_role(given[0].0, uid(2), uid(2), Role::Owner),
        Ok(true),
        "what one has stays one's own"
    );
    db.groups().dissolve(given[0].0, uid(2)).expect("works");
    assert_eq!(db.admissions().set_role(left, uid(1), uid(2), Role::Owner), Ok(true), "dissolved ones do not count");
}

pub(super) fn a_link_leads_to_its_group_until_it_is_replaced(site: &Site) {
    let db = &mut *site.connect();
    users(db, 1);
    let (group, other) = (made(db, Rule::Invitation), made(db, Rule::Invitation));
    let leads = |db: &mut dyn Backend, secret: &str| {
        db.admissions().invited(secret).expect("works").map(|(group, members)| (group.id, members))
    };
    assert_eq!((db.admissions().invite(group), leads(db, "one")), (Ok(None), None));
    db.admissions().set_invite(group, Some("one")).expect("works");
    db.admissions().set_invite(other, Some("three")).expect("works");
    assert_eq!((db.admissions().invite(group), leads(db, "one")), (Ok(Some("one".into())), Some((group, 1))));
    db.admissions().set_invite(group, Some("two")).expect("works");
    assert_eq!([leads(db, "one"), leads(db, "two"), leads(db, "ONE")], [None, Some((group, 1)), None]);
    db.admissions().set_invite(group, None).expect("works");
    assert_eq!((db.admissions().invite(group), leads(db, "two")), (Ok(None), None));
    db.groups().dissolve(other, uid(1)).expect("works");
    assert_eq!((db.admissions().invite(other), leads(db, "three")), (Ok(None), None));
}

pub(super) fn requests_wait_until_they_are_answered(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    let group = made(db, Rule::Approval);
    let waiting = |db: &mut dyn Backend, after: Option<u64>| -> Vec<u64> {
        let found = db.admissions().requests(group, after.map(uid), 9).expect("works");
        found.iter().map(|user| user.id.get()).collect()
    };
    for user in [3, 2, 4, 3] {
        assert_eq!(db.admissions().ask(group, uid(user), 5), Ok(Asked::Standing));
    }
    assert_eq!((waiting(db, None), waiting(db, Some(2))), (vec![2, 3, 4], vec![3, 4]));
    assert!(db.admissions().standing(group, uid(2)).expect("works").expect("a group").asked);
    commit_one(db, Write::Join { group, user: uid(2) });
    assert_eq!(waiting(db, None), [3, 4], "let in");
    assert_eq!([3, 3].map(|user| db.admissions().forget_request(group, uid(user))), [Ok(true), Ok(false)]);
    db.people().erase(uid(4)).expect("works");
    assert_eq!(waiting(db, None), [0; 0]);
    for _ in 0..REQUESTS_OF_USER_MAX {
        let one = made(db, Rule::Approval);
        assert_eq!(db.admissions().ask(one, uid(3), 5), Ok(Asked::Standing));
    }
    assert_eq!(db.admissions().ask(group, uid(3), 5), Ok(Asked::TooMany));
}

/// Otherwise they would count among those of the user for ever.
pub(super) fn requests_end_with_the_group_and_none_is_noted_where_it_means_nothing(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    let ask = |db: &mut dyn Backend, group, user| db.admissions().ask(group, uid(user), 5);
    let of_member = made(db, Rule::Approval);
    commit_one(db, Write::Join { group: of_member, user: uid(2) });
    assert_eq!(ask(db, of_member, 2), Ok(Asked::Standing));
    commit_one(db, Write::Leave { group: of_member, user: uid(2) });
    let standing = db.admissions().standing(of_member, uid(2)).expect("works").expect("a group");
    assert!(!standing.asked, "who has left has asked for nothing");
    for n in 0..REQUESTS_OF_USER_MAX {
        let (owner, new) =
            (if n % 2 == 0 { uid(1) } else { uid(4) }, NewGroup { rule: Rule::Approval, ..new_group("g", uid(1)) });
        let group =
            db.groups().create_group(&NewGroup { owner, owned_max: 1_000, ..new }).expect("works").expect("made").id;
        assert_eq!(ask(db, group, 3), Ok(Asked::Standing));
        if n % 2 == 0 {
            db.groups().dissolve(group, owner).expect("works");
            assert_eq!(db.admissions().requests(group, None, 9), Ok(Vec::new()));
            assert_eq!(ask(db, group, 2), Ok(Asked::NoSuchGroup));
        }
    }
    assert_eq!(ask(db, GroupId::new(7_777).expect("in range"), 2), Ok(Asked::NoSuchGroup));
    // Those of a user who is deleted end, too: nobody else is in them.
    assert_eq!(db.people().erase(uid(4)), Ok(true));
    for n in 0..REQUESTS_OF_USER_MAX {
        let group = made(db, Rule::Approval);
        assert_eq!(ask(db, group, 3), Ok(Asked::Standing), "{n}");
    }
    assert_eq!(ask(db, of_member, 3), Ok(Asked::TooMany));
}

pub(super) fn a_line_is_said_by_whoever_the_server_says(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let group = made(db, Rule::Invitation);
    let line = |group: GroupId, cid: &str| {
        let Write::Append(message) = post(ConvId::Group(group), 3, cid) else { panic!("a post") };
        Write::Line(message)
    };
    assert_eq!(stored(&commit_one(db, line(group, "a"))), 1, "who is no member");
    assert!(matches!(commit_one(db, line(group, "a")), Written::Duplicate { seq, .. } if seq.get() == 1));
    let nowhere = GroupId::new(77).expect("in range");
    assert_eq!(commit_one(db, line(nowhere, "b")), Written::Refused(Refusal::NoSuchGroup));
    db.groups().dissolve(group, uid(1)).expect("works");
    assert_eq!(commit_one(db, line(group, "c")), Written::Refused(Refusal::NoSuchGroup));
    assert_eq!(seqs(&page(db, ConvId::Group(group), None, PageStart::After(Seq::ZERO), 9)), [1]);
}

//! The control socket, and what other gateways of the same database have changed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::rig::{Mood, PATIENCE, Rig, group_of};
use crate::api::control;
use crate::api::services::operator::{Deed, DeedOutcome};
use crate::ids::{ConvId, Seq, UserId, home_of, shard_of};
use crate::shard::Notice;
use crate::store::{Backend, Write as StoreWrite};

fn ask(rig: &Rig, deed: Deed, user: UserId) -> DeedOutcome {
    control::ask(rig.data.path(), deed, user).expect("an answer").expect("somebody listens")
}

#[test]
fn a_ban_is_stored_and_told_to_the_users_shard() {
    let rig = Rig::start();
    let (ann, _) = rig.user("ann");
    assert!(matches!(ask(&rig, Deed::Show, ann.id), DeedOutcome::Account(shown) if !shown.banned));
    assert!(rig.homes.notices.lock().is_empty(), "looking tells nobody");
    assert!(matches!(ask(&rig, Deed::Ban, ann.id), DeedOutcome::Account(shown) if shown.banned));
    assert_eq!(*rig.homes.notices.lock(), [(shard_of(ann.id, 4), Notice::Banned { user: ann.id })]);
    assert!(matches!(ask(&rig, Deed::Unban, ann.id), DeedOutcome::Account(shown) if !shown.banned));
    let nobody = UserId::new(77).expect("an id");
    for deed in [Deed::Show, Deed::Ban, Deed::Unban, Deed::Delete] {
        assert_eq!(ask(&rig, deed, nobody), DeedOutcome::NoSuchUser);
    }
}

#[test]
fn a_deletion_ends_sessions_and_memberships() {
    let rig = Rig::start();
    let (ann, _) = rig.user("ann");
    let (bob, _) = rig.user("bob");
    let group = rig.memory.connect().groups().create_group(&group_of(bob.id)).expect("memory").expect("made").id;
    rig.memory.connect().commit(&[StoreWrite::Join { group, user: ann.id }]).expect("memory");
    assert!(
        matches!(ask(&rig, Deed::Delete, ann.id), DeedOutcome::Account(shown) if shown.deleted && shown.groups == 0)
    );
    let home = home_of(ConvId::Group(group), 4);
    let told = [(shard_of(ann.id, 4), Notice::Banned { user: ann.id }), (home, Notice::Leave { group, user: ann.id })];
    assert_eq!(*rig.homes.notices.lock(), told);
}

/// Its owner hands a group to a user whose account was erased a moment ago.
#[test]
fn a_deletion_that_finds_a_group_of_the_user_may_be_asked_for_again() {
    let rig = Rig::start();
    let [ann, bob] = ["ann", "bob"].map(|mobile| rig.user(mobile).0);
    let group = rig.memory.connect().groups().create_group(&group_of(bob.id)).expect("memory").expect("made").id;
    rig.memory.connect().commit(&[StoreWrite::Join { group, user: ann.id }]).expect("memory");
    *rig.homes.mood.lock() = Mood::Owned;
    assert_eq!(ask(&rig, Deed::Delete, ann.id), DeedOutcome::Unsure, "the same again hands it on");
    assert!(
        matches!(ask(&rig, Deed::Delete, ann.id), DeedOutcome::Account(shown) if shown.deleted && shown.groups == 0)
    );
}

#[test]
fn groups_are_told_that_a_deleted_member_has_left() {
    let rig = Rig::start();
    let (ann, _) = rig.user("ann");
    let (bob, _) = rig.user("bob");
    let mut group = group_of(bob.id);
    group.rule = crate::store::Rule::Open;
    let group = rig.memory.connect().groups().create_group(&group).expect("memory").expect("made").id;
    rig.memory.connect().commit(&[StoreWrite::Join { group, user: ann.id }]).expect("memory");
    for _ in 0..2 {
        assert!(matches!(ask(&rig, Deed::Delete, ann.id), DeedOutcome::Account(shown) if shown.deleted));
    }
    let said = rig.memory.rows(ConvId::Group(group));
    let left = format!(r#""what":"left","user":{}}}"#, ann.id);
    assert!(said.len() == 1 && said[0].sender == ann.id && said[0].body.contains(&left), "{said:?}");
}

#[test]
fn a_line_that_means_nothing_gets_no_answer() {
    let rig = Rig::start();
    let long = "x".repeat(10_000);
    for line in ["", "{}", r#"{"user":"kick","id":1}"#, r#"{"user":"ban","id":0}"#, r#"{"user":"ban","id":-1}"#, &long]
    {
        let mut stream = UnixStream::connect(control::place(rig.data.path())).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        // The gateway may have ended it by then.
        let _ = stream.write_all(format!("{line}\n").as_bytes());
        let mut answer = String::new();
        let read = BufReader::new(stream).read_line(&mut answer);
        assert!(matches!(read, Ok(0) | Err(_)), "{line:.20}: {answer}");
    }
}

#[test]
fn a_gateway_hears_what_another_one_of_its_database_has_changed() {
    let rig = Rig::shared();
    let (ann, _) = rig.user("ann");
    let (bob, _) = rig.user("bob");
    let mut other = rig.memory.connect();
    let group = group_of(bob.id);
    let began = Instant::now();
    // What was there before the first look is no news, so it goes on until something is heard.
    while rig.homes.notices.lock().is_empty() {
        other.people().log_out(ann.id, 0).expect("memory");
        assert!(began.elapsed() < 2 * PATIENCE, "nothing is heard");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let group = other.groups().create_group(&group).expect("memory").expect("made").id;
    other
        .commit(&[StoreWrite::Join { group, user: ann.id }, StoreWrite::Leave { group, user: ann.id }])
        .expect("memory");
    other.people().set_banned(bob.id, true).expect("memory");
    let banned = (shard_of(bob.id, 4), Notice::Banned { user: bob.id });
    while !rig.homes.notices.lock().contains(&banned) {
        assert!(began.elapsed() < 4 * PATIENCE, "{:?}", rig.homes.notices.lock());
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let notices = rig.homes.notices.lock();
    let home = home_of(ConvId::Group(group), 4);
    let seen = |of: UserId| -> Option<Option<Seq>> {
        notices.iter().rev().find_map(|(shard, notice)| match notice {
            Notice::MemberSeen { user, since, .. } if *user == of && *shard == home => Some(*since),
            _ => None,
        })
    };
    assert_eq!((seen(bob.id), seen(ann.id)), (Some(Some(Seq::ZERO)), Some(None)));
    assert!(notices.iter().any(|(_, notice)| matches!(notice, Notice::LoggedOut { user, .. } if *user == ann.id)));
}

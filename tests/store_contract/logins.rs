//! Logins: tokens that can be ended one by one.

use imgate::ids::LoginId;
use imgate::limits::LOGINS_PER_USER_MAX;
use imgate::store::{Changed, LoggedIn, LoginInfo, NewLogin};

use super::*;

fn lid(raw: u32) -> LoginId {
    LoginId::new(raw).expect("in range")
}

fn new_login(wanted: u32, at_ms: u64) -> NewLogin {
    let (agent, address) = (format!("agent {wanted}"), "192.0.2.1".to_owned());
    NewLogin { epoch: 0, wanted: lid(wanted), agent, address, created_ms: at_ms, expires_ms: at_ms + 1_000_000 }
}

fn log_in(db: &mut dyn Backend, user: u64, wanted: u32, at_ms: u64) -> LoggedIn {
    db.logins().log_in(uid(user), &new_login(wanted, at_ms)).expect("works").expect("a user")
}

fn numbers(db: &mut dyn Backend, user: u64) -> Vec<u32> {
    db.logins().logins_of(uid(user)).expect("works").iter().map(|login| login.login.get()).collect()
}

/// What a shard is told when a session opens.
fn opened(db: &mut dyn Backend, user: u64) -> Vec<u32> {
    match db.read(&[Read::Open { user: uid(user) }]).expect("read").remove(0) {
        ReadAnswer::Open(state) => state.logins.iter().map(|login| login.get()).collect(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn a_login_is_good_until_it_is_ended(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    assert_eq!(log_in(db, 1, 7, 10), LoggedIn { login: lid(7), ended: Vec::new() });
    assert_eq!(log_in(db, 1, 7, 20).login, lid(8), "a number is one login's");
    assert_eq!(log_in(db, 2, 7, 30).login, lid(7), "among those of its user");
    let NewLogin { agent, address, created_ms, expires_ms, .. } = new_login(7, 10);
    let seven = LoginInfo { login: lid(7), agent, address, created_ms, used_ms: 10, expires_ms };
    assert_eq!(db.logins().login(uid(1), lid(7)), Ok(Some(seven.clone())));
    assert_eq!((numbers(db, 1), opened(db, 1), opened(db, 3)), (vec![8, 7], vec![7, 8], vec![]));
    db.logins().use_login(uid(1), lid(7), 50).expect("works");
    db.logins().use_login(uid(1), lid(7), 40).expect("works");
    assert_eq!(db.logins().login(uid(1), lid(7)), Ok(Some(LoginInfo { used_ms: 50, ..seven })));
    assert_eq!(numbers(db, 1), [7, 8], "the one used last first");

    let mark = db.changes(Some(0), 100).expect("read").list.last().map_or(0, |change| change.id);
    assert_eq!(db.logins().end_login(uid(1), lid(7)), Ok(true));
    assert_eq!(db.logins().end_login(uid(1), lid(7)), Ok(false));
    assert_eq!((db.logins().login(uid(1), lid(7)), opened(db, 1), opened(db, 2)), (Ok(None), vec![8], vec![7]));
    let told = db.changes(Some(mark), 100).expect("read").list;
    assert_eq!(
        told.iter().map(|change| (change.user, change.what)).collect::<Vec<_>>(),
        [(uid(1), Changed::Login { login: lid(7), alive: false })]
    );
}

pub(super) fn logins_end_with_the_epoch_and_with_the_account(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    for user in 1..=3 {
        log_in(db, user, 5, 10);
    }
    assert_eq!(db.people().log_out(uid(1), 0), Ok(Some(1)));
    assert_eq!(db.people().set_password(uid(2), "!", "new", true), Ok(Some(1)));
    assert_eq!(db.people().erase(uid(3)), Ok(true));
    assert_eq!([1, 2, 3].map(|user| numbers(db, user)), [const { Vec::<u32>::new() }; 3]);
    assert_eq!(db.logins().log_in(uid(1), &new_login(5, 20)), Ok(None), "the password was checked before");
    let fresh = NewLogin { epoch: 1, ..new_login(5, 20) };
    assert!(db.logins().log_in(uid(1), &fresh).expect("works").is_some());
    assert_eq!(db.logins().log_in(uid(99), &new_login(5, 20)), Ok(None));
}

pub(super) fn a_user_has_so_many_logins_and_the_oldest_goes(site: &Site) {
    let db = &mut *site.connect();
    users(db, 1);
    let most = u32::try_from(LOGINS_PER_USER_MAX).expect("few");
    for n in 1..=most {
        assert_eq!(log_in(db, 1, n, 10 + u64::from(n)).ended, []);
    }
    db.logins().use_login(uid(1), lid(1), 5_000).expect("works");
    assert_eq!(log_in(db, 1, 1_000, 6_000).ended, [lid(2)], "the one used least recently");
    assert_eq!(numbers(db, 1).len(), LOGINS_PER_USER_MAX);
    let late = 10_000_000;
    let ended = log_in(db, 1, 1_001, late).ended;
    assert_eq!((ended.len(), numbers(db, 1)), (LOGINS_PER_USER_MAX, vec![1_001]), "tokens that have expired");
}

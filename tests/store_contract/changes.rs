//! What a gateway hears of changes that it did not make itself.

use imgate::ids::Seq;
use imgate::store::{Changed, Changes, Following};
use mysql::prelude::Queryable;

use super::*;

/// What is new since `after`, without the numbers.
fn told(db: &mut dyn Backend, after: u64) -> Vec<(u64, Changed)> {
    let Changes { list, more, .. } = db.changes(Some(after), 1000).expect("read");
    assert!(!more && list.is_sorted_by_key(|change| change.id), "{list:?}");
    list.iter().map(|change| (change.user.get(), change.what)).collect()
}

fn last(db: &mut dyn Backend) -> u64 {
    let changes = db.changes(Some(0), 1000).expect("read");
    changes.list.last().map_or(0, |change| change.id)
}

fn standing(token_epoch: u32, banned: bool) -> Changed {
    Changed::Standing { token_epoch, banned }
}

pub(super) fn every_change_is_told_with_how_things_stand(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    assert_eq!(told(db, 0), [], "users of a seed change nothing");
    let group = group(db, uid(1));
    let member = |since: Option<u64>| Changed::Member { group, since: since.and_then(Seq::new) };
    assert_eq!(told(db, 0), [(1, member(Some(0)))]);

    let mark = last(db);
    commit(
        db,
        &[post(ConvId::Group(group), 1, "a"), Write::Join { group, user: uid(2) }, Write::Join { group, user: uid(3) }],
    );
    let mut joined = told(db, mark);
    joined.sort_by_key(|(user, _)| *user);
    assert_eq!(joined, [(2, member(Some(1))), (3, member(Some(1)))]);

    let mark = last(db);
    commit_one(db, Write::Leave { group, user: uid(2) });
    assert_eq!(told(db, mark), [(2, member(None))]);

    let mark = last(db);
    assert_eq!(db.people().log_out(uid(3), 0), Ok(Some(1)));
    assert_eq!(db.people().set_password(uid(4), "!", "new", true), Ok(Some(1)));
    assert_eq!(db.people().set_banned(uid(2), true), Ok(true));
    assert_eq!(told(db, mark), [(3, standing(1, false)), (4, standing(1, false)), (2, standing(0, true))]);
    let state = db.read(&[Read::Open { user: uid(2) }]).expect("read").remove(0);
    assert!(matches!(state, ReadAnswer::Open(state) if state.banned));
    assert!(db.people().user(uid(2)).expect("works").expect("is there").banned);

    let mark = last(db);
    assert_eq!(db.people().set_banned(uid(2), false), Ok(true));
    assert_eq!(told(db, mark), [(2, standing(0, false))]);

    let mark = last(db);
    db.social().block(uid(1), uid(4), true).expect("blocked");
    assert_eq!(told(db, mark), [(1, Changed::Block { other: uid(4), on: true })]);
    db.social().block(uid(1), uid(4), false).expect("lifted");
    let lifted = (1, Changed::Block { other: uid(4), on: false });
    assert_eq!(told(db, mark), [lifted, lifted], "both are told as things stand now");
}

pub(super) fn what_changes_nothing_is_not_told(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    let group = group(db, uid(1));
    db.social().block(uid(1), uid(4), true).expect("blocked");
    let mark = last(db);
    let writes =
        [Write::Join { group, user: uid(1) }, Write::Leave { group, user: uid(2) }, post(ConvId::Group(group), 1, "a")];
    commit(db, &writes);
    db.social().block(uid(1), uid(4), true).expect("again");
    db.social().block(uid(1), uid(3), false).expect("was none");
    assert_eq!(db.people().set_password(uid(4), "!", "hashed anew", false), Ok(Some(0)), "tokens stay");
    assert_eq!(db.people().set_password(uid(4), "wrong", "x", true), Ok(None));
    assert_eq!(db.people().log_out(uid(9), 0), Ok(None));
    assert_eq!(db.people().set_banned(uid(9), true), Ok(false));
    assert_eq!(told(db, mark), []);
    assert_eq!(db.forget_changes(1000), Ok(0), "nothing is old");
}

pub(super) fn changes_come_page_by_page(site: &Site) {
    let db = &mut *site.connect();
    users(db, 9);
    let mut following = Following::default();
    assert_eq!(following.take(db.changes(following.after(), 2).expect("read")), []);
    for user in 1..=9 {
        db.people().log_out(uid(user), 0).expect("works");
    }
    let (mut users, mut pages) = (Vec::new(), 0);
    loop {
        let changes = db.changes(following.after(), 2).expect("read");
        let more = changes.more;
        assert!(changes.list.len() <= 2);
        users.extend(following.take(changes).iter().map(|change| change.user.get()));
        pages += 1;
        if !more {
            break;
        }
    }
    assert_eq!((users, pages), ((1..=9).collect(), 5));
    assert_eq!(following.take(db.changes(following.after(), 2).expect("read")), [], "none twice");
}

/// A gateway of a later version writes what this one does not know: the changes behind it are told
/// all the same.
pub(super) fn a_change_of_no_known_kind_holds_up_no_other(site: &Site) {
    let db = &mut *site.connect();
    users(db, 3);
    let mark = last(db);
    db.people().log_out(uid(1), 0).expect("works");
    let strange = "INSERT INTO changes (user_id, kind, other, at_s) VALUES (0, 99, 7, ";
    match site {
        // It is written by this version alone.
        Site::Memory(_) => return,
        Site::Sqlite(dir) => {
            let file = rusqlite::Connection::open(dir.path().join("imgate.db")).expect("a database");
            file.execute(&format!("{strange} unixepoch())"), []).expect("written");
        }
        Site::Mysql(url) => {
            let mut conn = mysql::Conn::new(url.as_str()).expect("a connection");
            // A server that is set up against us.
            conn.query_drop("SET SESSION TRANSACTION READ WRITE").expect("set");
            conn.query_drop("SET autocommit = 1").expect("set");
            conn.query_drop(format!("{strange} UNIX_TIMESTAMP())")).expect("written");
        }
    }
    db.people().log_out(uid(3), 0).expect("works");
    let changes = db.changes(Some(mark), 1000).expect("read");
    let all: Vec<u64> = changes.list.iter().map(|change| change.id).chain(changes.strange).collect();
    assert_eq!(told(db, mark), [(1, standing(1, false)), (3, standing(1, false))]);
    assert_eq!(all.len(), 3, "its number is said: {changes:?}");
    // Also where it is all that fits.
    let next = db.changes(Some(changes.list[0].id), 1).expect("read");
    assert_eq!((next.list.len(), next.strange, next.more), (0, changes.strange, true));
}

/// Numbers are given in one order and appear in another: nothing is lost by that.
pub(super) fn changes_of_two_connections_are_all_told(site: &Site) {
    const EACH: u64 = 40;
    let mut connections = site.connect_all(3);
    users(&mut *connections[0], 2);
    let mut reader = connections.remove(0);
    let mut following = Following::default();
    following.take(reader.changes(None, 100).expect("read"));
    let mut told = [0u64; 2];
    std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for (mut db, user) in connections.into_iter().zip(1..) {
            writers.push(scope.spawn(move || {
                (0..EACH).for_each(|_| {
                    db.people().log_out(uid(user), 0).expect("works");
                });
            }));
        }
        // One more round after both have ended: what was committed then is told then.
        let mut done = false;
        while !done {
            done = writers.iter().all(std::thread::ScopedJoinHandle::is_finished);
            loop {
                let changes = reader.changes(following.after(), 100).expect("read");
                let more = changes.more;
                following.take(changes).iter().for_each(|change| told[change.user.get() as usize - 1] += 1);
                if !more {
                    break;
                }
            }
        }
        assert_eq!(told, [EACH; 2], "each once, none lost");
    });
}

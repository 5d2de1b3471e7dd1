//! Which conversations have got messages lately, on backends that several gateways can share.

use imgate::ids::Seq;
use imgate::store::{RecentConv, Since};
use mysql::prelude::Queryable;

use super::*;

fn listed(db: &mut dyn Backend, since: Since) -> Vec<(ConvId, u64, u64)> {
    let recent = db.recent(since, 0, 1000).expect("asked");
    let mut list: Vec<_> = recent.list.iter().map(|one| (one.conv, one.lowest.get(), one.newest.get())).collect();
    list.sort_unstable();
    list
}

/// Some messages, and who asks hears of the conversations; pages are complete.
fn what_was_stored_lately_is_listed(site: &Site) {
    let db = &mut *site.connect();
    users(db, 4);
    let group = ConvId::Group(group(db, uid(1)));
    let pair = ConvId::direct(uid(1), uid(2));
    commit(db, &[post(pair, 1, "a"), post(group, 1, "b"), post(pair, 2, "c")]);
    commit(db, &[post(pair, 2, "d"), post(ConvId::direct(uid(3), uid(4)), 3, "e")]);
    let other = ConvId::direct(uid(3), uid(4));
    assert_eq!(listed(db, Since::Ago(60)), [(pair, 1, 3), (other, 1, 1), (group, 1, 1)]);
    let recent = db.recent(Since::Ago(60), 0, 1000).expect("asked");
    assert_eq!((recent.next, recent.epoch), (None, all(db, pair).epoch));
    assert_eq!(recent.from_s + 60, recent.now_s);
    assert_eq!(listed(db, Since::At(recent.now_s + 60)), [], "nothing was stored in the future");

    let mut pages = Vec::new();
    let mut after = Some(0);
    while let Some(from) = after {
        let page = db.recent(Since::At(recent.from_s), from, 2).expect("asked");
        assert!(page.list.len() <= 2);
        pages.extend(page.list.iter().map(|&RecentConv { conv, lowest, newest }| (conv, lowest, newest)));
        after = page.next;
    }
    pages.sort_unstable();
    let number = |raw| Seq::new(raw).expect("small");
    assert_eq!(pages, [(pair, number(1), number(3)), (other, number(1), number(1)), (group, number(1), number(1))]);
}

#[test]
fn what_was_stored_lately_is_listed_in_memory() {
    let memory = Memory::new();
    memory.set_clock(1_000, 1_000);
    what_was_stored_lately_is_listed(&Site::Memory(memory));
}

#[test]
fn what_was_stored_lately_is_listed_on_a_server() {
    for site in [Site::mysql(), Site::hostile()].into_iter().flatten() {
        what_was_stored_lately_is_listed(&site);
    }
}

#[test]
fn a_late_commit_has_an_early_second_in_memory() {
    let memory = Memory::new();
    memory.set_clock(1_000, 996);
    let db = &mut memory.connect();
    users(db, 2);
    let pair = ConvId::direct(uid(1), uid(2));
    commit_one(db, post(pair, 1, "a"));
    assert_eq!(listed(db, Since::Ago(3)), []);
    assert_eq!(listed(db, Since::Ago(4)), [(pair, 1, 1)]);
    memory.set_clock(5_000, 5_000);
    assert_eq!(listed(db, Since::At(0)), [], "it is kept for a while");
}

/// What was not committed when somebody looked is found by a look that goes back as far as commits
/// may take.
#[test]
fn a_transaction_that_is_open_is_found_by_the_next_look() {
    let Some(server) = mariadb::Server::shared() else { return };
    let database = server.database();
    let db = &mut *Site::Mysql(server.url(&database)).connect();
    users(db, 3);
    let pair = ConvId::direct(uid(1), uid(2));
    commit_one(db, post(pair, 1, "a"));
    let mut other = server.admin();
    other.query_drop(format!("USE {database}")).expect("works");
    other.query_drop("START TRANSACTION").expect("works");
    let insert = "INSERT INTO claims (sender, `key`, conv, seq, id, ts_ms, created_s)
        SELECT 2, 'late', conv, 2, 999, 1, UNIX_TIMESTAMP() - 3 FROM claims LIMIT 1";
    other.query_drop(insert).expect("works");
    let before = db.recent(Since::Ago(60), 0, 10).expect("asked");
    assert_eq!(before.list.len(), 1);
    assert_eq!(before.list[0].newest.get(), 1, "not committed");
    other.query_drop("COMMIT").expect("works");
    assert_eq!(listed(db, Since::At(before.now_s.saturating_sub(5))), [(pair, 1, 2)]);
}

#[test]
fn a_database_of_one_gateway_is_not_asked() {
    let db = &mut *Site::sqlite().connect();
    assert!(db.recent(Since::Ago(5), 0, 10).is_err());
}

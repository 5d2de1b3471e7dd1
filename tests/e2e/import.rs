//! Databases of fastIM and IMChat taken over from a real server: people log in with their old passwords and find each other.

use std::path::Path;

use imgate::config::Config;
use imgate::node::{Node, Tuning, open_backend};
use imgate::store::{Imported, NewUser, OLD_PASSWORD, OpenError, import};
use serde_json::Value;

use crate::mariadb::Server;
use crate::support::{config, post, retaken};

/// md5("123456" + "004321"), md5("654321" + "000007").
const DIGESTS: [&str; 2] = ["8b07005ee8f863641b81e8f0636c41ba", "073bbb18ee1fa6cc1427f9873331c9f1"];

/// A database as xorm makes it, with what went wrong in the old days; its URL.
fn old_database(server: &Server, password: &str, object: &str) -> String {
    let database = server.database();
    let run = |sql: &str| server.run(&sql.replace("@@", &database));
    run(&format!(
        "CREATE TABLE @@.`user` (id BIGINT PRIMARY KEY AUTO_INCREMENT, mobile VARCHAR(20), {password} VARCHAR(40), \
         avatar VARCHAR(150), sex VARCHAR(2), nickname VARCHAR(20), salt VARCHAR(10), online INT, token VARCHAR(40), \
         memo VARCHAR(140), createat DATETIME) CHARSET utf8"
    ));
    run("CREATE TABLE @@.community (id BIGINT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(30), ownerid BIGINT, \
         icon VARCHAR(250), cate INT, memo VARCHAR(120), createat DATETIME) CHARSET utf8");
    run(&format!(
        "CREATE TABLE @@.contact (id BIGINT PRIMARY KEY AUTO_INCREMENT, ownerid BIGINT, {object} BIGINT, cate INT, \
         memo VARCHAR(120), createat DATETIME) CHARSET utf8"
    ));
    let [ann, bob] = DIGESTS;
    run(&format!(
        "INSERT INTO @@.`user` (id, mobile, {password}, avatar, sex, nickname, salt, memo, createat) VALUES \
         (3, '13800000001', '{ann}', './resource/1.png', 'W', '安', '004321', 'hi', '2020-01-12 21:53:25'), \
         (5, '13800000002', '{bob}', '/asset/images/user.jpg', 'M', 'Bob', '000007', NULL, NULL), \
         (6, '', 'x', NULL, NULL, NULL, NULL, NULL, NULL), (7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), \
         (8, '13800000001 ', 'twin', NULL, NULL, NULL, '1', NULL, NULL)"
    ));
    run("INSERT INTO @@.community (id, name, ownerid, icon, cate, memo, createat) VALUES \
         (2, '茶', 3, './resource/2.png', 1, 'tea', '2020-01-13 10:00:00'), \
         (4, '茶', 3, NULL, NULL, NULL, '2020-01-13 10:00:00'), (9, '', 3, NULL, 0, NULL, NULL), (10, 'x', 99, NULL, 0, NULL, NULL)");
    run(&format!(
        "INSERT INTO @@.contact (ownerid, {object}, cate) VALUES (3, 5, 1), (5, 3, 1), (3, 2, 2), (5, 2, 2), (3, 4, 2), \
         (3, 99, 1), (5, 10, 2), (3, 3, 1), (NULL, NULL, NULL)"
    ));
    server.url(&database)
}

fn taken_over(config: &Config, from: &str) -> Imported {
    let mut backend = retaken(|| open_backend(config));
    import(from, backend.as_mut()).expect("it is taken over")
}

/// The stored password of a user.
fn stored(config: &Config, mobile: &str) -> String {
    let mut backend = retaken(|| open_backend(config));
    backend.people().user_by_mobile(mobile).expect("a store").expect("a user").password
}

fn log_in(node: &Node, mobile: &str, password: &str) -> Value {
    post(node.addresses()[0], "/user/login", "", &format!("mobile={mobile}&passwd={password}"))
}

fn check(data: &Path, from: &str, settings: &[(&str, &str)]) {
    let config = config(data, 1, settings);
    let first = Imported {
        users: 2,
        users_left_out: 3,
        groups: 2,
        groups_left_out: 2,
        members: 1,
        friends: 1,
        contacts_left_out: 4,
        ..Imported::default()
    };
    assert_eq!(taken_over(&config, from), first);
    let again = Imported { users: 0, users_here: 2, groups: 0, groups_here: 2, members: 0, friends: 0, ..first };
    assert_eq!(taken_over(&config, from), again, "a second time finds everything");
    assert!(stored(&config, "13800000001").starts_with(OLD_PASSWORD));

    let node = retaken(|| Node::start(&config, Tuning::default()));
    assert_eq!(log_in(&node, "13800000001", "1234567")["code"], -1);
    assert_eq!(log_in(&node, "13800000001", "twin")["code"], -1);
    let ann = log_in(&node, "13800000001", "123456");
    assert_eq!((&ann["data"]["nickname"], &ann["data"]["avatar"]), (&"安".into(), &"/resource/1.png".into()));
    let token = ann["data"]["token"].as_str().expect("a token");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(ann["data"]["id"], 3, "her old number");
    let friends = post(node.addresses()[0], "/contact/loadfriend", &bearer, "userid=3");
    assert_eq!((&friends["total"], &friends["rows"][0]["nickname"]), (&1.into(), &"Bob".into()));
    assert_eq!(friends["rows"][0]["id"], 5);
    let groups = post(node.addresses()[0], "/contact/loadcommunity", &bearer, "userid=0");
    assert_eq!((&groups["total"], &groups["rows"][0]["name"]), (&2.into(), &"茶".into()));
    assert_eq!(groups["rows"][0]["icon"], "/resource/2.png");
    assert_eq!(groups["data"]["group_map"], serde_json::json!({"2": 2, "4": 1}), "their old numbers");
    let new = post(node.addresses()[0], "/user/register", "", "mobile=13800000003&passwd=x&nickname=New");
    assert_eq!(new["data"]["id"], 6, "above the old ones");
    assert_eq!(log_in(&node, "13800000001", "123456")["code"], 0, "with the new hash");
    node.stop();
    assert!(stored(&config, "13800000001").starts_with("$argon2id$"), "replaced at the login");
    assert!(stored(&config, "13800000002").starts_with(OLD_PASSWORD), "not yet");
}

#[test]
fn a_database_of_fastim_is_taken_over() {
    let Some(server) = Server::shared() else { return };
    let data = tempfile::tempdir().expect("a directory");
    check(data.path(), &old_database(server, "passwd", "dstobj"), &[]);
}

#[test]
fn a_database_of_fastim_is_taken_over_into_one_on_a_server() {
    let Some(server) = Server::shared() else { return };
    let data = tempfile::tempdir().expect("a directory");
    let store = server.url(&server.database());
    check(data.path(), &old_database(server, "passwd", "dstobj"), &[("store", &store)]);
}

#[test]
fn numbers_that_somebody_has_here_are_not_given_again() {
    let Some(server) = Server::shared() else { return };
    let data = tempfile::tempdir().expect("a directory");
    let config = config(data.path(), 1, &[]);
    let mut backend = retaken(|| open_backend(&config));
    for mobile in ["1", "2", "3"] {
        let user = NewUser { mobile: mobile.to_owned(), ..NewUser::default() };
        backend.people().create_user(&user).expect("a store").expect("free");
    }
    drop(backend);
    let done = taken_over(&config, &old_database(server, "passwd", "dstobj"));
    assert_eq!((done.users, done.users_renumbered, done.groups, done.groups_renumbered), (2, 1, 2, 0));
    let mut backend = retaken(|| open_backend(&config));
    let mut number = |mobile| backend.people().user_by_mobile(mobile).expect("a store").expect("a user").id.get();
    assert_eq!([number("3"), number("13800000001"), number("13800000002")], [3, 4, 5]);
}

#[test]
fn a_database_of_imchat_is_taken_over() {
    let Some(server) = Server::shared() else { return };
    let data = tempfile::tempdir().expect("a directory");
    check(data.path(), &old_database(server, "password", "dstid"), &[]);
}

#[test]
fn another_database_is_refused_without_its_password() {
    let Some(server) = Server::shared() else { return };
    let data = tempfile::tempdir().expect("a directory");
    let mut backend = open_backend(&config(data.path(), 1, &[])).expect("a store");
    let empty = server.url(&server.database());
    let error = import(&empty, backend.as_mut()).expect_err("it has no tables");
    assert!(error.to_string().contains("no table `user`"), "{error}");
    let other = import("postgres://im:secret@db/chat", backend.as_mut()).expect_err("another server");
    assert_eq!(other, OpenError::Unsupported("postgres".to_owned()));
}

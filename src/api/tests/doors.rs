//! Who gets into a group by `/api/v1`, and what strangers learn of one.

use serde_json::{Value, json};

use super::rig::{Ask, LEGACY, Rig};
use crate::ids::{ConvId, GroupId, UserId};
use crate::store::{Backend, Befriended};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A user with a token.
struct Person {
    id: UserId,
    token: String,
}

fn person(rig: &Rig, mobile: &str) -> Person {
    let (user, token) = rig.user(mobile);
    Person { id: user.id, token }
}

fn call(rig: &Rig, who: &Person, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let bearer = format!("Bearer {}", who.token);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let target = format!("/api/v1{target}");
    let answer =
        rig.ask(Ask { method, target: &target, headers: &[JSON, ("Authorization", bearer.as_str())], body: &body });
    (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
}

fn code((status, body): (u16, Value)) -> (u16, String) {
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

fn no(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn friends(rig: &Rig, one: &Person, other: &Person) {
    assert_eq!(rig.memory.connect().social().befriend(one.id, other.id, 0), Ok(Befriended::New));
}

/// The number of a group that was just made.
fn made(answer: (u16, Value)) -> u64 {
    assert_eq!(answer.0, 201, "{answer:?}");
    answer.1["id"].as_u64().expect("a number")
}

/// What is said in a group about it.
fn said(rig: &Rig, group: u64) -> Vec<Value> {
    let conv = ConvId::Group(GroupId::new(group).expect("an id"));
    let lines = rig.memory.rows(conv).into_iter();
    let value = |body: &str| serde_json::from_str::<Value>(&format!("{{{body}}}")).expect("JSON")["happened"].clone();
    lines.map(|row| json!([row.sender.get(), value(&row.body)])).collect()
}

#[test]
fn a_group_of_the_new_api_is_by_invitation_and_says_nothing_to_strangers() {
    let rig = Rig::start();
    let [ann, bob, eve] = ["1", "2", "3"].map(|mobile| person(&rig, mobile));
    let (status, group) = call(&rig, &ann, "POST", "/groups", &json!({ "name": "Tea" }));
    assert_eq!((status, &group["rule"], &group["members_add"]), (201, &json!("invitation"), &json!(true)));
    let g = format!("/groups/{}", group["id"]);
    let none = "/groups/999";
    for (method, end) in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/members"),
        ("PUT", "/members/me"),
        ("PUT", "/members/2"),
        ("DELETE", "/members/1"),
        ("PATCH", "/members/1"),
        ("GET", "/requests"),
        ("GET", "/invite"),
        ("POST", "/invite"),
    ] {
        let body = if method == "PATCH" && !end.is_empty() { json!({ "role": "admin" }) } else { json!({}) };
        let ask = |group: &str| code(call(&rig, &eve, method, &format!("{group}{end}"), &body));
        assert_eq!(ask(&g), no(404, "no_such_group"), "{method} {end}");
        assert_eq!(ask(&g), ask(none), "as if there were none");
    }
    assert_eq!(call(&rig, &eve, "GET", "/groups?name=Tea", &Value::Null).1["rows"], json!([]));
    let history =
        |group: &Value| code(call(&rig, &eve, "GET", &format!("/history?kind=11&dstid={group}"), &Value::Null));
    assert_eq!(history(&group["id"]), history(&json!(999)));
    if LEGACY {
        let join = rig.ask(Ask {
            headers: &[super::rig::FORM, ("Authorization", &format!("Bearer {}", eve.token))],
            ..Ask::form("/contact/joincommunity", "dstname=Tea")
        });
        assert_eq!(join.at("/msg"), json!("您要加入的群不存在"));
    }
    // A friend of a member gets in.
    assert_eq!(code(call(&rig, &ann, "PUT", &format!("{g}/members/{}", bob.id), &Value::Null)), no(403, "not_friend"));
    friends(&rig, &ann, &bob);
    assert_eq!(call(&rig, &ann, "PUT", &format!("{g}/members/{}", bob.id), &Value::Null).0, 200);
    assert_eq!(call(&rig, &bob, "GET", &g, &Value::Null).1["role"], json!("member"));
    assert_eq!(said(&rig, group["id"].as_u64().expect("a number")), [json!([1, { "what": "joined", "user": 2 }])]);
    // Who has left knows it, and does not get back in alone.
    assert_eq!(call(&rig, &bob, "DELETE", &format!("{g}/members/me"), &Value::Null).0, 200);
    assert_eq!(call(&rig, &bob, "GET", &g, &Value::Null).1["role"], Value::Null);
    assert_eq!(code(call(&rig, &bob, "PUT", &format!("{g}/members/me"), &Value::Null)), no(404, "no_such_group"));
}

#[test]
fn a_group_starts_with_the_friends_that_were_picked() {
    let rig = Rig::start();
    let [ann, bob, eve] = ["1", "2", "3"].map(|mobile| person(&rig, mobile));
    friends(&rig, &ann, &bob);
    let wish = |members: Value| json!({ "name": "Tea", "members": members });
    assert_eq!(code(call(&rig, &ann, "POST", "/groups", &wish(json!([2, 3])))), no(403, "not_friend"));
    assert_eq!(call(&rig, &ann, "GET", "/groups", &Value::Null).1["rows"], json!([]), "nothing was made");
    friends(&rig, &ann, &eve);
    rig.memory.connect().social().block(eve.id, ann.id, true).expect("memory");
    assert_eq!(code(call(&rig, &ann, "POST", "/groups", &wish(json!([2, 3])))), no(403, "not_friend"), "blocked");
    let (status, group) = call(&rig, &ann, "POST", "/groups", &wish(json!([2, 2, 1])));
    assert_eq!((status, &group["members"]), (201, &json!(2)));
    assert_eq!(call(&rig, &bob, "GET", "/groups", &Value::Null).1["rows"][0]["id"], group["id"]);
}

#[test]
fn what_several_do_at_once_is_said_once() {
    let rig = Rig::start();
    let [ann, bob] = ["1", "2"].map(|mobile| person(&rig, mobile));
    let group = made(call(&rig, &ann, "POST", "/groups", &json!({ "name": "Open", "rule": "open" })));
    let at_once = |who: &Person, method: &str, target: &str, body: &Value| {
        std::thread::scope(|scope| {
            let answers = [(); 6].map(|()| scope.spawn(|| call(&rig, who, method, target, body).0));
            for answer in answers {
                assert_eq!(answer.join().expect("no panic"), 200);
            }
        });
    };
    let place = format!("/groups/{group}/members/me");
    for _ in 0..5 {
        at_once(&bob, "PUT", &place, &Value::Null);
        at_once(&bob, "DELETE", &place, &Value::Null);
    }
    at_once(&ann, "PATCH", &format!("/groups/{group}"), &json!({ "name": "Closed" }));
    let said = said(&rig, group);
    let times = |what: &str| said.iter().filter(|line| line[1]["what"] == what).count();
    assert_eq!([times("joined"), times("left"), times("renamed")], [5, 5, 1], "{said:?}");
}

#[test]
fn an_open_group_lets_in_and_one_by_approval_asks() {
    let rig = Rig::start();
    let [ann, bob, eve] = ["1", "2", "3"].map(|mobile| person(&rig, mobile));
    let open = made(call(&rig, &ann, "POST", "/groups", &json!({ "name": "Open", "rule": "open" })));
    assert_eq!(call(&rig, &bob, "PUT", &format!("/groups/{open}/members/me"), &Value::Null).0, 200);
    assert_eq!(call(&rig, &bob, "PUT", &format!("/groups/{open}/members/me"), &Value::Null).0, 200);
    assert_eq!(said(&rig, open), [json!([2, { "what": "joined", "user": 2 }])], "once");
    let group = made(call(&rig, &ann, "POST", "/groups", &json!({ "name": "Asks", "rule": "approval" })));
    let g = format!("/groups/{group}");
    for who in [&bob, &eve, &bob] {
        let (status, card) = call(&rig, who, "PUT", &format!("{g}/members/me"), &Value::Null);
        assert_eq!((status, &card["asked"], &card["role"]), (202, &json!(true), &Value::Null));
    }
    assert_eq!(code(call(&rig, &bob, "GET", &format!("{g}/requests"), &Value::Null)), no(403, "not_member"));
    let waiting = || {
        let rows = call(&rig, &ann, "GET", &format!("{g}/requests"), &Value::Null).1["rows"].clone();
        rows.as_array().expect("rows").iter().map(|row| row["id"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!(waiting(), [2, 3]);
    assert_eq!(call(&rig, &ann, "PUT", &format!("{g}/members/2"), &Value::Null).0, 200, "no friend, but asked");
    assert_eq!(call(&rig, &ann, "DELETE", &format!("{g}/requests/3"), &Value::Null).0, 200);
    assert_eq!(waiting(), [0; 0]);
    assert_eq!(call(&rig, &bob, "GET", &g, &Value::Null).1["role"], json!("member"));
    assert_eq!(code(call(&rig, &bob, "PUT", &format!("{g}/members/3"), &Value::Null)), no(403, "not_friend"));
}

#[test]
fn a_link_lets_in_until_it_is_revoked() {
    let rig = Rig::start();
    let [ann, bob, eve] = ["1", "2", "3"].map(|mobile| person(&rig, mobile));
    let group = made(call(&rig, &ann, "POST", "/groups", &json!({ "name": "Tea" })));
    let g = format!("/groups/{group}");
    assert_eq!(call(&rig, &ann, "GET", &format!("{g}/invite"), &Value::Null).1, json!({ "secret": null }));
    let (status, link) = call(&rig, &ann, "POST", &format!("{g}/invite"), &Value::Null);
    let secret = link["secret"].as_str().expect("a secret").to_owned();
    assert_eq!((status, secret.len(), &link["path"]), (201, 22, &json!(format!("/#/join/{secret}"))));
    let invites = format!("/invites/{secret}");
    assert_eq!(call(&rig, &bob, "GET", &invites, &Value::Null).1["name"], json!("Tea"));
    let (status, card) = call(&rig, &bob, "PUT", &invites, &Value::Null);
    assert_eq!((status, &card["id"], &card["role"]), (200, &json!(group), &json!("member")));
    assert_eq!(call(&rig, &bob, "GET", &format!("{g}/invite"), &Value::Null).1["secret"], json!(secret));
    let quiet = json!({ "members_add": false });
    assert_eq!(call(&rig, &ann, "PATCH", &g, &quiet).0, 200);
    assert_eq!(code(call(&rig, &bob, "GET", &format!("{g}/invite"), &Value::Null)), no(403, "not_admin"));
    assert_eq!(code(call(&rig, &bob, "POST", &format!("{g}/invite"), &Value::Null)), no(403, "not_admin"));
    assert_eq!(call(&rig, &ann, "DELETE", &format!("{g}/invite"), &Value::Null).0, 200);
    for method in ["GET", "PUT"] {
        assert_eq!(code(call(&rig, &eve, method, &invites, &Value::Null)), no(404, "no_such_group"));
    }
}

#[test]
fn roles_say_who_may_do_what() {
    let rig = Rig::start();
    let people = ["1", "2", "3", "4"].map(|mobile| person(&rig, mobile));
    let [ann, bob, eve, joe] = &people;
    for other in [bob, eve, joe] {
        friends(&rig, ann, other);
    }
    let group = made(call(&rig, ann, "POST", "/groups", &json!({ "name": "Tea", "members": [2, 3, 4] })));
    let g = format!("/groups/{group}");
    let role = |who: &Person, of: u64, role: &str| {
        code(call(&rig, who, "PATCH", &format!("{g}/members/{of}"), &json!({ "role": role })))
    };
    assert_eq!(role(bob, 3, "admin"), no(403, "not_owner"));
    assert_eq!(role(ann, 99, "admin"), no(409, "no_role"));
    assert_eq!([role(ann, 2, "admin"), role(ann, 3, "admin")], [no(200, ""), no(200, "")]);
    let roles = || {
        let rows = call(&rig, joe, "GET", &format!("{g}/members"), &Value::Null).1["rows"].clone();
        rows.as_array().expect("rows").iter().map(|row| row["role"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(roles(), ["owner", "admin", "admin", "member"]);
    // An admin renames and removes members, not other admins; who gets in is the owner's to say.
    assert_eq!(code(call(&rig, joe, "PATCH", &g, &json!({ "name": "Joe's" }))), no(403, "not_admin"));
    assert_eq!(call(&rig, bob, "PATCH", &g, &json!({ "name": "Coffee" })).1["name"], json!("Coffee"));
    assert_eq!(code(call(&rig, bob, "PATCH", &g, &json!({ "rule": "open" }))), no(403, "not_owner"));
    let remove = |who: &Person, of: u64| code(call(&rig, who, "DELETE", &format!("{g}/members/{of}"), &Value::Null));
    assert_eq!([remove(bob, 3), remove(bob, 1)], [no(403, "not_owner"), no(403, "not_owner")]);
    assert_eq!([remove(bob, 4), remove(bob, 4)], [no(200, ""), no(200, "")]);
    // The owner hands the group on and leaves.
    assert_eq!([remove(ann, 1), role(ann, 1, "member")], [no(409, "owner_leaves"), no(409, "owner_leaves")]);
    assert_eq!(role(ann, 2, "owner"), no(200, ""));
    assert_eq!(remove(ann, 1), no(200, ""));
    assert_eq!(call(&rig, bob, "GET", &g, &Value::Null).1["owner"], json!(2));
    let happened: Vec<Value> = said(&rig, group).into_iter().skip(3).collect();
    assert_eq!(
        happened,
        [
            json!([2, { "what": "renamed", "name": "Coffee" }]),
            json!([2, { "what": "removed", "user": 4 }]),
            json!([1, { "what": "left", "user": 1 }]),
        ]
    );
}

#[test]
#[cfg(feature = "legacy")]
fn a_group_of_the_old_pages_stays_open_and_silent() {
    let rig = Rig::start();
    let [ann, bob] = ["1", "2"].map(|mobile| person(&rig, mobile));
    let form = |who: &Person, path: &str, form: &str| {
        let bearer = format!("Bearer {}", who.token);
        rig.ask(Ask { headers: &[super::rig::FORM, ("Authorization", &bearer)], ..Ask::form(path, form) })
    };
    let group = form(&ann, "/contact/createcommunity", "name=Old").at("/data/id").as_u64().expect("a number");
    assert_eq!(form(&bob, "/contact/joincommunity", "dstname=Old").at("/code"), json!(0));
    assert_eq!(call(&rig, &bob, "GET", &format!("/groups/{group}"), &Value::Null).1["rule"], json!("open"));
    assert_eq!(said(&rig, group), [json!(null); 0]);
    let asks = made(call(&rig, &ann, "POST", "/groups", &json!({ "name": "Asks", "rule": "approval" })));
    let answer = form(&bob, "/contact/joincommunity", &format!("dstid={asks}"));
    assert_eq!((answer.at("/code"), answer.at("/msg")), (json!(-1), json!("已申请加入,请等待管理员同意")));
}

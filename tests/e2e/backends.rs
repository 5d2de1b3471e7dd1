//! `/api/v1/server`: keys, and what backends do with them.

use std::process::Command;

use imgate::auth::Issuer;
use imgate::node::Tuning;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, ask, exchange};

const ALL: &str = "send,users,groups,online,history,moderate,data,stats,tokens";

/// A key that the operator makes.
pub(crate) fn key(gateway: &Gateway, name: &str, scopes: &str, more: &str) -> (String, String) {
    let path = format!("/admin/keys?name={name}&scopes={scopes}{more}");
    let (status, made) = ask(gateway.admin(), "POST", &path, &gateway.operator_token(), &Value::Null);
    assert_eq!(status, 201, "{made}");
    let text = |field: &str| made[field].as_str().unwrap_or_else(|| panic!("{field}: {made}")).to_owned();
    (text("id"), text("key"))
}

/// A backend with a key.
struct Backend<'a> {
    gateway: &'a Gateway,
    key: String,
}

impl<'a> Backend<'a> {
    fn of(gateway: &'a Gateway) -> Self {
        Self { gateway, key: key(gateway, "all", ALL, "&rate=10000").1 }
    }

    fn call(&self, method: &str, path: &str, json: Value) -> (u16, Value) {
        ask(self.gateway.address(), method, &format!("/api/v1/server/{path}"), &self.key, &json)
    }

    fn done(&self, method: &str, path: &str, json: Value) -> Value {
        let (status, answer) = self.call(method, path, json);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    fn send(&self, messages: Value) -> Vec<Value> {
        let answer = self.done("POST", "messages", json!({ "messages": messages }));
        answer["results"].as_array().expect("results").clone()
    }
}

/// A message with that text.
fn text(content: &str) -> Value {
    json!({ "media": 1, "content": content })
}

/// The next message with that content.
fn hear(client: &mut Client, content: &str) -> Value {
    loop {
        let message = client.json();
        if message["content"] == content {
            return message;
        }
    }
}

#[test]
fn a_key_does_what_its_scopes_say_until_it_ends() {
    let gateway = Gateway::start(2, 2);
    let (id, send) = key(&gateway, "mailer", "send", "");
    let stats = |key: &str| ask(gateway.address(), "GET", "/api/v1/server/stats", key, &Value::Null);
    let one = |key: &str| {
        let message = json!({ "messages": [{ "to": { "user": 1 }, "message": text("hi") }] });
        ask(gateway.address(), "POST", "/api/v1/server/messages", key, &message).0
    };
    assert_eq!((one(&send), stats(&send).0), (200, 403));
    assert_eq!(stats(&send).1["error"]["code"], "no_scope");
    let tampered = send.replace(&id, "00000000");
    let other = format!("{}{}", &send[..send.len() - 1], if send.ends_with('A') { "Q" } else { "A" });
    for bad in ["", "imk_", &tampered, &other, &gateway.token(1, Issuer::Own), &gateway.operator_token()] {
        let (status, answer) = stats(bad);
        assert_eq!((status, answer["error"]["code"].as_str()), (401, Some("no_key")), "{bad}");
    }
    // In the header that other systems use.
    let request =
        format!("GET /api/v1/server/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {send}\r\n\r\n");
    assert!(exchange(gateway.address(), request.as_bytes()).starts_with("HTTP/1.1 403 "));

    let operator = gateway.operator_token();
    let (status, new) =
        ask(gateway.admin(), "POST", &format!("/admin/keys/{id}/rotate?grace_s=60"), &operator, &Value::Null);
    assert_eq!((status, new["name"].as_str()), (201, Some("mailer")), "{new}");
    let new = new["key"].as_str().expect("a key");
    assert_eq!((one(&send), one(new)), (200, 200), "both, for a while");
    let listed = ask(gateway.admin(), "GET", "/admin/keys", &operator, &Value::Null).1;
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(2), "{listed}");
    assert!(!listed.to_string().contains(&send[13..]), "secrets are not shown again");
    assert_eq!(ask(gateway.admin(), "DELETE", &format!("/admin/keys/{id}"), &operator, &Value::Null).0, 200);
    assert_eq!((one(&send), one(new)), (401, 200));
    assert_eq!(ask(gateway.admin(), "DELETE", "/admin/keys/0000000g", &operator, &Value::Null).0, 404);
    assert_eq!(ask(gateway.admin(), "GET", "/admin/keys", "x", &Value::Null).0, 401, "the operator only");
    for bad in
        ["name=&scopes=send", "name=x&scopes=everything", "name=x&scopes=send&rate=0", "name=x&scopes=send&ttl_s=0"]
    {
        assert_eq!(
            ask(gateway.admin(), "POST", &format!("/admin/keys?{bad}"), &operator, &Value::Null).0,
            400,
            "{bad}"
        );
    }
}

#[test]
fn a_key_that_goes_too_fast_is_told_so_and_others_are_not() {
    let gateway = Gateway::start(2, 1);
    let (_, slow) = key(&gateway, "slow", "stats", "&rate=1");
    let (_, quick) = key(&gateway, "quick", "stats", "");
    let stats = |key: &str| ask(gateway.address(), "GET", "/api/v1/server/stats", key, &Value::Null);
    let (told, status) = std::iter::repeat_with(|| stats(&slow))
        .take(20)
        .find(|(status, _)| *status != 200)
        .map_or_else(|| panic!("twenty calls in a second"), |(status, told)| (told, status));
    assert_eq!((status, told["error"]["code"].as_str()), (429, Some("too_fast")));
    assert_eq!(stats(&quick).0, 200);
    let page = exchange(gateway.admin(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let line = page.lines().find(|line| line.starts_with(r#"imgate_backend_calls_total{outcome="too_fast"}"#));
    assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{line:?}");
}

#[test]
fn messages_of_the_system_and_of_users_are_stored_once_and_heard() {
    let gateway = Gateway::start(2, 3);
    let backend = Backend::of(&gateway);
    let (mut one, mut two) = (gateway.v2(1), gateway.v2(2));
    let first = backend.send(json!([
        { "to": { "user": 1 }, "cid": "s1", "message": text("from the system") },
        { "from": 2, "to": { "user": 1 }, "cid": "u1", "message": text("as two") },
    ]));
    assert_eq!(
        (first[0]["seq"].as_u64(), first[0]["dup"].as_bool(), first[1]["seq"].as_u64()),
        (Some(1), Some(false), Some(1))
    );
    let said = hear(&mut one, "from the system");
    let system = said["userid"].as_u64().expect("an author");
    assert!(system > 3, "a user of its own: {said}");
    assert_eq!(hear(&mut one, "as two")["userid"], 2);
    assert_eq!(hear(&mut two, "as two")["seq"], 1, "the author's own sessions, too");
    let again = backend.send(json!([{ "to": { "user": 1 }, "cid": "s1", "message": text("from the system") }]));
    assert_eq!((again[0]["dup"].as_bool(), &again[0]["id"]), (Some(true), &first[0]["id"]));
    assert_eq!(gateway.history(1, 10, system).len(), 1);
    let name = backend.done("GET", &format!("users/{system}"), Value::Null);
    assert_eq!(name["nickname"], "System");

    let refused = backend.send(json!([
        { "to": { "user": 999_999 }, "message": text("x") },
        { "from": 999_999, "to": { "user": 1 }, "message": text("x") },
        { "to": { "user": 1, "group": 1 }, "message": text("x") },
        { "to": { "all": true }, "message": text("x") },
        { "to": { "user": 1 }, "message": { "media": "one" } },
        { "from": 2, "to": { "user": 1 }, "cid": "s2", "message": text("the others go their way") },
    ]));
    let codes: Vec<&str> = refused.iter().map(|result| result["error"]["code"].as_str().unwrap_or("sent")).collect();
    assert_eq!(codes, ["no_such_user", "no_such_user", "bad_field", "bad_field", "bad_message", "sent"]);
    let many: Vec<Value> = (0..101).map(|_| json!({ "to": { "user": 1 }, "message": text("x") })).collect();
    assert_eq!(backend.call("POST", "messages", json!({ "messages": many })).0, 413);
    // The server's own fields are the server's.
    backend.send(json!([{ "from": 2, "to": { "user": 1 }, "message": { "media": 1, "content": "forged", "userid": 3, "seq": 99, "CMD": 11 } }]));
    let forged = hear(&mut one, "forged");
    assert_eq!(
        (forged["userid"].as_u64(), forged["cmd"].as_u64(), forged["seq"].as_u64()),
        (Some(2), Some(10), Some(3))
    );
}

#[test]
fn a_batch_keeps_its_order_in_a_conversation() {
    let gateway = Gateway::start(3, 2);
    let backend = Backend::of(&gateway);
    let batch: Vec<Value> =
        (0..100).map(|n| json!({ "from": 1, "to": { "user": 2 }, "message": text(&format!("m{n}")) })).collect();
    let seqs: Vec<u64> = backend.send(Value::Array(batch)).iter().filter_map(|result| result["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=100).collect::<Vec<u64>>());
    let said: Vec<String> = gateway.history(2, 10, 1).iter().map(|row| row["content"].to_string()).collect();
    assert_eq!(said, (0..100).map(|n| format!("\"m{n}\"")).collect::<Vec<_>>());
}

#[test]
fn what_is_not_stored_reaches_open_sessions_only() {
    let gateway = Gateway::start(2, 4);
    let backend = Backend::of(&gateway);
    let group = gateway.group(1, &[2]);
    let mut clients: Vec<Client> = (1..=4).map(|user| gateway.v2(user)).collect();
    let sent = backend.send(json!([
        { "from": 2, "to": { "user": 1 }, "store": false, "message": text("passing by") },
        { "from": 1, "to": { "group": group }, "store": false, "message": text("in the group") },
    ]));
    assert!(sent.iter().all(|result| result["ts"].is_u64() && result["seq"].is_null()), "{sent:?}");
    let passing = hear(&mut clients[0], "passing by");
    assert!(passing["seq"].is_null() && passing["userid"] == 2, "{passing}");
    assert_eq!(hear(&mut clients[1], "in the group")["dstid"], group);
    let told = backend.send(json!([{ "to": { "all": true }, "store": false, "message": text("to everybody") }]));
    assert!(told[0]["ts"].is_u64(), "{told:?}");
    for client in &mut clients {
        let said = hear(client, "to everybody");
        assert_eq!(said["dstid"], said["userid"], "for whoever hears it: {said}");
    }
    assert!(gateway.history(1, 10, 2).is_empty() && gateway.history(1, 11, group).is_empty());
    // Numbers go on as if nothing had been said.
    clients[1].say_acked(11, group, "c1", "stored");
    assert_eq!(hear(&mut clients[0], "stored")["seq"], 1);
}

/// What is not stored the store does not judge: neither what is said to open sessions nor anything of a gateway that stores nothing.
#[test]
fn blocks_and_memberships_hold_for_what_is_not_stored() {
    for settings in [&[][..], &[("durability", "volatile")]] {
        let gateway = Gateway::start_with(2, 4, settings, Tuning::default());
        let backend = Backend::of(&gateway);
        let group = gateway.group(1, &[2]);
        let blocked = ask(gateway.address(), "PUT", "/api/v1/blocks/3", &gateway.token(1, Issuer::Own), &Value::Null);
        assert_eq!(blocked.0, 200, "{}", blocked.1);
        let mut one = gateway.v2(1);
        for store in [false, true] {
            let mut wishes = json!([
                { "from": 3, "to": { "user": 1 }, "message": text("from whom one has blocked") },
                { "from": 3, "to": { "group": group }, "message": text("a stranger") },
                { "to": { "group": 999_999 }, "message": text("nowhere") },
                { "from": 1, "to": { "user": 999_999 }, "message": text("to nobody") },
                { "from": 2, "to": { "user": 1 }, "message": text("from another one") },
                { "from": 1, "to": { "user": 3 }, "message": text("the other way") },
                { "from": 2, "to": { "group": group }, "message": text("from a member") },
                { "to": { "group": group }, "message": text("from the system") },
            ]);
            wishes.as_array_mut().expect("a list").iter_mut().for_each(|wish| wish["store"] = json!(store));
            let sent = backend.send(wishes);
            let codes: Vec<&str> = sent.iter().map(|one| one["error"]["code"].as_str().unwrap_or("sent")).collect();
            let refused = ["blocked", "not_member", "no_such_group", "no_such_user"];
            assert_eq!(codes[..4], refused, "{settings:?} {store}");
            assert_eq!(codes[4..], ["sent"; 4], "{settings:?} {store}");
            let mut heard: Vec<String> =
                (0..4).map(|_| one.json()["content"].as_str().expect("a message").to_owned()).collect();
            heard.sort_unstable();
            assert_eq!(heard, ["from a member", "from another one", "from the system", "the other way"]);
        }
    }
}

#[test]
fn the_system_writes_into_groups_and_users_only_into_their_own() {
    let gateway = Gateway::start(2, 3);
    let backend = Backend::of(&gateway);
    let group = gateway.group(1, &[2]);
    let mut one = gateway.v2(1);
    let sent = backend.send(json!([
        { "to": { "group": group }, "cid": "g1", "message": text("maintenance at four") },
        { "from": 3, "to": { "group": group }, "message": text("a stranger") },
        { "to": { "group": 999_999 }, "message": text("nowhere") },
    ]));
    assert_eq!(sent[0]["seq"], 1);
    assert_eq!(sent[1]["error"]["code"], "not_member");
    assert_eq!(sent[2]["error"]["code"], "no_such_group");
    assert_eq!(hear(&mut one, "maintenance at four")["seq"], 1);
    assert_eq!(gateway.history(2, 11, group).len(), 1, "stored for who was away");
}

#[test]
fn users_are_made_by_subject_banned_disconnected_and_erased() {
    let gateway = Gateway::start_with(2, 1, &[("registration", "closed")], Tuning::default());
    let backend = Backend::of(&gateway);
    let wish = json!({ "subject": "auth0|ann", "nickname": "Ann" });
    let (status, ann) = backend.call("POST", "users", wish.clone());
    assert_eq!((status, ann["nickname"].as_str()), (201, Some("Ann")), "{ann}");
    let id = ann["id"].as_u64().expect("an id");
    let (status, again) = backend.call("POST", "users", json!({ "subject": "auth0|ann", "nickname": "Anna" }));
    assert_eq!((status, again["id"].as_u64(), again["nickname"].as_str()), (200, Some(id), Some("Anna")));
    let found = backend.done("GET", "users?subject=auth0%7Cann", Value::Null);
    assert_eq!((found["id"].as_u64(), found["banned"].as_bool()), (Some(id), Some(false)));
    assert_eq!(backend.call("GET", "users?subject=nobody", Value::Null).0, 404);
    assert_eq!(backend.call("POST", "users", json!({ "subject": "x", "mobile": "y" })).0, 400);
    let (status, bob) = backend.call("POST", "users", json!({ "mobile": "bob", "password": "correct horse" }));
    assert_eq!(status, 201, "{bob}");
    assert_eq!(backend.call("POST", "users", json!({ "mobile": "Bob" })).0, 409);
    let login = json!({ "mobile": "bob", "password": "correct horse" });
    assert_eq!(ask(gateway.address(), "POST", "/api/v1/login", "", &login).0, 200);
    assert_eq!(backend.done("PATCH", &format!("users/{id}"), json!({ "memo": "at sea" }))["memo"], "at sea");

    let token = backend.done("POST", &format!("users/{id}/token"), json!({ "ttl_s": 600 }));
    let token = token["token"].as_str().expect("a token").to_owned();
    let mut client = Client::v2(gateway.address(), &token);
    backend.done("POST", &format!("users/{id}/disconnect"), json!({}));
    assert_eq!(client.closed(), 4000, "it may come back");
    let mut client = Client::v2(gateway.address(), &token);
    backend.done("POST", &format!("users/{id}/disconnect"), json!({ "log_out": true }));
    assert_eq!(client.closed(), 4501, "it may not");
    let token = backend.done("POST", &format!("users/{id}/token"), json!({}));
    let token = token["token"].as_str().expect("a token").to_owned();
    let mut client = Client::v2(gateway.address(), &token);
    backend.done("PUT", &format!("users/{id}/ban"), Value::Null);
    assert_eq!(client.closed(), 4503);
    assert_eq!(backend.done("GET", &format!("users/{id}"), Value::Null)["banned"], true);
    backend.done("DELETE", &format!("users/{id}/ban"), Value::Null);
    Client::v2(gateway.address(), &token).say_acked(10, 1, "c", "back again");

    let data = backend.done("GET", &format!("users/{id}/data"), Value::Null);
    assert_eq!(
        (data["account"]["memo"].as_str(), data["conversations"][0]["dstid"].as_u64()),
        (Some("at sea"), Some(1)),
        "{data}"
    );
    let page = backend.done("GET", &format!("history?kind=10&user={id}&dstid=1"), Value::Null);
    assert_eq!(page["rows"][0]["content"], "back again");
    backend.done("DELETE", &format!("users/{id}"), Value::Null);
    backend.done("DELETE", &format!("users/{id}"), Value::Null);
    assert_eq!(backend.done("GET", &format!("users/{id}"), Value::Null)["deleted"], true);
    assert_eq!(backend.call("POST", &format!("users/{id}/token"), json!({})).0, 404);
    let anew = backend.done("POST", "users", wish);
    assert_ne!(anew["id"].as_u64(), Some(id), "the subject is a new user's");
}

#[test]
fn nobody_registers_the_name_of_another_systems_user() {
    let gateway = Gateway::start(2, 0);
    let form = "mobile=~system&passwd=secret&nickname=n";
    let answer = crate::support::post(gateway.address(), "/user/register", "", form);
    assert_ne!(answer["code"], 0, "{answer}");
    let wish = json!({ "mobile": "~system", "password": "correct horse" });
    assert_eq!(ask(gateway.address(), "POST", "/api/v1/register", "", &wish).0, 409);
}

#[test]
fn groups_are_made_changed_and_dissolved_without_invitations() {
    let gateway = Gateway::start(2, 5);
    let backend = Backend::of(&gateway);
    let mut three = gateway.v2(3);
    let made = backend.done("POST", "groups", json!({ "owner": 1, "name": "crew", "members": [2, 3, 999_999] }));
    let group = made["id"].as_u64().expect("a group");
    assert_eq!(made["members"], 3, "who does not exist is left out: {made}");
    backend.send(json!([{ "from": 1, "to": { "group": group }, "message": text("welcome") }]));
    hear(&mut three, "welcome");
    backend.done("PUT", &format!("groups/{group}/members/4"), Value::Null);
    assert_eq!(backend.call("PUT", &format!("groups/{group}/members/999999"), Value::Null).0, 404);
    backend.done("PATCH", &format!("groups/{group}/members/2"), json!({ "role": "admin" }));
    backend.done("DELETE", &format!("groups/{group}/members/3"), Value::Null);
    assert_eq!(backend.call("DELETE", &format!("groups/{group}/members/1"), Value::Null).0, 409, "the owner stays");
    let members = backend.done("GET", &format!("groups/{group}/members"), Value::Null);
    let roles: Vec<(u64, &str)> = members["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row["id"].as_u64().expect("an id"), row["role"].as_str().expect("a role")))
        .collect();
    assert_eq!(roles, [(1, "owner"), (2, "admin"), (4, "member")]);
    assert_eq!(backend.done("PATCH", &format!("groups/{group}"), json!({ "name": "watch" }))["name"], "watch");
    let page = backend.done("GET", &format!("history?kind=11&dstid={group}"), Value::Null);
    assert!(page["rows"].as_array().is_some_and(|rows| !rows.is_empty()), "{page}");
    backend.done("DELETE", &format!("groups/{group}"), Value::Null);
    assert_eq!(backend.call("GET", &format!("groups/{group}"), Value::Null).0, 404);
}

#[test]
fn who_is_online_and_how_much_is_done_can_be_asked() {
    let gateway = Gateway::start(3, 200);
    let backend = Backend::of(&gateway);
    let mut clients: Vec<Client> = [3, 7, 150].map(|user| gateway.v2(user)).into();
    let all: Vec<u64> = (1..=200).chain([7, 999_999]).collect();
    assert_eq!(backend.done("POST", "online", json!({ "users": all }))["online"], json!([3, 7, 150]));
    let many: Vec<u64> = (1..=1_001).collect();
    assert_eq!(backend.call("POST", "online", json!({ "users": many })).0, 400);
    clients[0].say_acked(10, 7, "c", "hi");
    let stats = backend.done("GET", "stats", Value::Null);
    assert_eq!(
        (stats["shards"].as_u64(), stats["sessions"].as_u64(), stats["users_online"].as_u64()),
        (Some(3), Some(3), Some(3)),
        "{stats}"
    );
}

#[test]
fn the_command_line_makes_and_ends_keys() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let process = crate::process::Process::start(data.path());
    let imgate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(arguments).args(["--admin", &process.admin.to_string(), "--data"]).arg(data.path());
        let output = command.output().expect("the command runs");
        (output.status.success(), String::from_utf8(output.stdout).expect("text"))
    };
    let (made, key) = imgate(&["key", "new", "my backend", "--scopes", "stats", "--ttl", "90d"]);
    assert!(made && key.trim().starts_with("imk_"), "{key}");
    let stats = |key: &str| ask(process.address, "GET", "/api/v1/server/stats", key, &Value::Null).0;
    assert_eq!(stats(key.trim()), 200);
    let id = &key[4..12];
    let (listed, list) = imgate(&["key", "list"]);
    assert!(listed && list.contains(id) && list.contains("\"my backend\": stats, 500 calls a second"), "{list}");
    let (rotated, new) = imgate(&["key", "rotate", id]);
    assert!(rotated && stats(new.trim()) == 200 && stats(key.trim()) == 200, "{new}");
    assert!(imgate(&["key", "end", id]).0);
    assert_eq!((stats(key.trim()), stats(new.trim())), (401, 200));
    assert!(!imgate(&["key", "end", "ffffffff"]).0 && !imgate(&["key", "new", "x", "--scopes", "all"]).0);
}

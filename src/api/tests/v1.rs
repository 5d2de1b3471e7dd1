//! `/api/v1`: accounts, people, groups, and who may.

use serde_json::{Value, json};

use super::rig::{Answered, Ask, FORM, LEGACY, Mood, Rig, group_of};
use crate::auth::Issuer;
use crate::clock;
use crate::ids::{ConvId, GroupId, Seq, ShardId, UserId, home_of, shard_of};
use crate::limits;
use crate::shard::Notice;
use crate::store::{Backend, NewMessage, NewUser, PostKey, Write};
use crate::wire::{Hint, Reject, Target};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn uid(raw: u64) -> UserId {
    UserId::new(raw).expect("an id")
}

fn gid(raw: u64) -> GroupId {
    GroupId::new(raw).expect("an id")
}

fn value(answer: &Answered) -> Value {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

/// Status and body of a call with a bearer token.
fn call(rig: &Rig, token: &str, method: &str, target: &str, body: &str) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let headers = [JSON, ("Authorization", bearer.as_str())];
    let answer = rig.ask(Ask { method, target, headers: &headers, body });
    (answer.status, value(&answer))
}

fn open_call(rig: &Rig, target: &str, body: &str) -> Answered {
    rig.ask(Ask { method: "POST", target, headers: &[JSON], body })
}

/// Status and code of a refusal.
fn code((status, body): (u16, Value)) -> (u16, String) {
    assert!(body["error"]["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{body}");
    (status, body["error"]["code"].as_str().expect("a code").to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn every_401_has_a_challenge() {
    let rig = Rig::start();
    assert_eq!(
        open_call(&rig, "/api/v1/register", r#"{"mobile":"1380000","password":"pw-of-Ann","nickname":"A"}"#).status,
        201
    );
    let login = r#"{"mobile":"1380000","password":"another password"}"#;
    let bad = [("Authorization", "Bearer nonsense")];
    for (ask, code) in [
        (Ask::get("/api/v1/me", &[]), "not_logged_in"),
        (Ask::get("/api/v1/me", &bad), "not_logged_in"),
        (Ask { method: "POST", target: "/api/v1/files?name=a", headers: &[], body: "x" }, "not_logged_in"),
        (Ask { method: "POST", target: "/api/v1/login", headers: &[JSON], body: login }, "wrong_login"),
        (Ask::get("/api/v1/server/stats", &[]), "no_key"),
    ] {
        let answer = rig.ask(ask);
        assert!(answer.status == 401 && answer.body.contains(code), "{answer:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{answer:?}");
    }
    assert_eq!(rig.ask(Ask::get("/api/v1/none", &[])).header("www-authenticate"), None);
}

#[test]
fn a_user_registers_logs_in_and_is_herself() {
    let rig = Rig::start();
    let wish = r#"{"mobile":"13800000001","password":"pw-of-Ann","nickname":"Ann <&>","sex":"W"}"#;
    let answer = open_call(&rig, "/api/v1/register", wish);
    let body = value(&answer);
    assert_eq!((answer.status, &body["user"]["id"], &body["user"]["nickname"]), (201, &json!(1), &json!("Ann <&>")));
    let token = body["token"].as_str().expect("a token");
    assert_eq!(
        answer.header("set-cookie").map(|cookie| cookie.starts_with(&format!("imgate_{}_1={token}; ", rig.key.tag()))),
        Some(true)
    );
    let identity = rig.key.verify(token, clock::wall_ms()).expect("a usable token");
    assert_eq!((identity.user(), identity.issuer()), (uid(1), Issuer::Own));
    let again = open_call(&rig, "/api/v1/register", wish);
    assert_eq!(code((again.status, value(&again))), refused(409, "mobile_taken"));

    let login = |body: &str| {
        let answer = open_call(&rig, "/api/v1/login", body);
        (answer.status, value(&answer))
    };
    let (status, body) = login(r#"{"mobile":" 138-0000-0001","password":"pw-of-Ann"}"#);
    assert_eq!((status, &body["user"]["mobile"]), (200, &json!("13800000001")));
    for body in [r#"{"mobile":"13800000001","password":"no"}"#, r#"{"mobile":"7","password":"pw"}"#] {
        assert_eq!(code(login(body)), refused(401, "wrong_login"), "nobody learns who is registered");
    }
    for body in [r#"{"mobile":1,"password":"pw"}"#, "[]", "{", r#"{"mobile":"1"}"#, ""] {
        assert_eq!(code(login(body)), refused(400, "bad_json"), "{body}");
    }
    let (status, me) = call(&rig, token, "GET", "/api/v1/me", "");
    assert_eq!((status, &me["mobile"], &me["sex"]), (200, &json!("13800000001"), &json!("W")));
    let (status, me) = call(&rig, token, "PATCH", "/api/v1/me", r#"{"memo":"hi","mobile":"2","avatar":null}"#);
    assert_eq!(
        (status, &me["memo"], &me["mobile"], &me["nickname"]),
        (200, &json!("hi"), &json!("13800000001"), &json!("Ann <&>"))
    );
    let long = format!(r#"{{"nickname":"{}"}}"#, "x".repeat(21));
    assert_eq!(code(call(&rig, token, "PATCH", "/api/v1/me", &long)), refused(400, "bad_field"));
}

#[test]
fn a_cookie_alone_changes_nothing() {
    let rig = Rig::start();
    let (_, ann) = rig.user("1");
    let (_, bob) = rig.user("2");
    let cookies = format!("imgate_1={ann}; imgate_2={bob}");
    let ask = |method: &str, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![JSON, ("Cookie", cookies.as_str())];
        all.extend_from_slice(headers);
        let answer = rig.ask(Ask { method, target: "/api/v1/me", headers: &all, body });
        (answer.status, value(&answer))
    };
    let (status, me) = ask("PATCH", &[("X-Imgate-User", "2")], r#"{"nickname":"Bob"}"#);
    assert_eq!((status, &me["id"], &me["nickname"]), (200, &json!(2), &json!("Bob")));
    assert_eq!(ask("GET", &[("X-Imgate-User", "1")], "").1["id"], 1);
    assert_eq!(code(ask("GET", &[], "")), refused(401, "not_logged_in"), "which of the two?");
    assert_eq!(code(ask("GET", &[("X-Imgate-User", "3")], "")), refused(401, "not_logged_in"));
    for odd in ["me", "-1", "0", ""] {
        assert_eq!(code(ask("GET", &[("X-Imgate-User", odd)], "")), refused(400, "bad_user_header"), "{odd}");
    }
    let one = format!("imgate_1={ann}");
    let alone = |method| {
        let answer = rig.ask(Ask { method, target: "/api/v1/me", headers: &[JSON, ("Cookie", &one)], body: "{}" });
        (answer.status, value(&answer))
    };
    assert_eq!(code(alone("PATCH")), refused(403, "missing_user_header"));
    assert_eq!(alone("GET").0, 200, "reading is no harm: nobody else sees the answer");
    // A form of another site, which may name its body as it likes but not as JSON.
    let form = [("Content-Type", "text/plain"), ("Cookie", one.as_str())];
    let login = r#"{"mobile":"1","password":"x"}"#;
    let answer = rig.ask(Ask { method: "POST", target: "/api/v1/login", headers: &form, body: login });
    assert_eq!(code((answer.status, value(&answer))), refused(415, "not_json"));
}

#[test]
fn logging_out_removes_the_cookie_and_everywhere_voids_the_tokens() {
    let rig = Rig::start();
    let (ann, token) = rig.user("1");
    let bearer = format!("Bearer {token}");
    let headers = [JSON, ("Authorization", bearer.as_str())];
    let logout = |body| rig.ask(Ask { method: "POST", target: "/api/v1/logout", headers: &headers, body });
    let answer = logout("");
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    assert_eq!(
        answer.header("set-cookie"),
        Some(format!("imgate_{}_1=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0", rig.key.tag()).as_str())
    );
    assert_eq!(call(&rig, &token, "GET", "/api/v1/me", "").0, 200, "a token of no login goes with all of them only");
    assert!(rig.homes.notices.lock().is_empty());
    let before_s = clock::wall_ms() / 1000;
    assert_eq!(logout(r#"{"everywhere":true}"#).status, 200);
    let epoch = rig.memory.connect().people().user(ann.id).expect("memory").expect("Ann").token_epoch;
    assert!((before_s..=clock::wall_ms() / 1000).contains(&epoch.into()), "the epoch is the time: {epoch}");
    let told = (shard_of(ann.id, 4), Notice::LoggedOut { user: ann.id, epoch });
    assert_eq!(*rig.homes.notices.lock(), [told], "so that her sessions end");
    assert_eq!(code(call(&rig, &token, "GET", "/api/v1/me", "")), refused(401, "not_logged_in"));
}

#[test]
fn a_new_password_ends_every_other_login() {
    let rig = Rig::start();
    let registered =
        value(&open_call(&rig, "/api/v1/register", r#"{"mobile":"13800000001","password":"old-password"}"#));
    let token = registered["token"].as_str().expect("a token").to_owned();
    let change = |token: &str, body: &str| call(&rig, token, "POST", "/api/v1/me/password", body);
    assert_eq!(code(change(&token, r#"{"old":"no","new":"other-password"}"#)), refused(401, "wrong_login"));
    assert_eq!(code(change(&token, r#"{"old":"old-password","new":"short-7"}"#)), refused(400, "bad_field"));
    let (status, body) = change(&token, r#"{"old":"old-password","new":"new-password"}"#);
    assert_eq!(status, 200);
    assert_eq!(
        rig.homes.notices.lock().last().map(|told| told.1.clone()),
        Some(Notice::LoggedOut { user: uid(1), epoch: 1 })
    );
    assert_eq!(code(call(&rig, &token, "GET", "/api/v1/me", "")), refused(401, "not_logged_in"));
    let fresh = body["token"].as_str().expect("a token");
    assert_eq!(call(&rig, fresh, "GET", "/api/v1/me", "").0, 200);
    assert_eq!(open_call(&rig, "/api/v1/login", r#"{"mobile":"13800000001","password":"old-password"}"#).status, 401);
    assert_eq!(open_call(&rig, "/api/v1/login", r#"{"mobile":"13800000001","password":"new-password"}"#).status, 200);
    let mut wrong = 0;
    // One more comes back every so often while this runs.
    while change(fresh, r#"{"old":"no","new":"other-password"}"#).0 == 401 {
        wrong += 1;
        assert!(wrong < 10 * limits::ACCOUNT_ATTEMPTS_MAX, "unbounded");
    }
    // With the one at the beginning.
    assert!(wrong + 1 >= limits::ACCOUNT_ATTEMPTS_MAX, "too early: {wrong}");
    assert_eq!(code(change(fresh, r#"{"old":"new-password","new":"other-password"}"#)), refused(429, "too_often"));
    assert_eq!(
        open_call(&rig, "/api/v1/login", r#"{"mobile":"13800000001","password":"new-password"}"#).status,
        200,
        "elsewhere"
    );
}

#[test]
fn people_are_found_befriended_and_blocked() {
    let rig = Rig::start();
    let (_, ann) = rig.user("1380");
    let (_, bob) = rig.user("1381");
    rig.user("1382");
    let get = |target: &str| call(&rig, &ann, "GET", target, "");
    let (status, user) = get("/api/v1/users/2");
    assert_eq!((status, &user["id"], user.get("mobile")), (200, &json!(2), None));
    for target in ["/api/v1/users/77", "/api/v1/users/0", "/api/v1/users/x"] {
        assert_eq!(code(get(target)), refused(404, "no_such_user"));
    }
    let ids = |(status, list): (u16, Value)| -> Vec<u64> {
        assert_eq!(status, 200, "{list}");
        list["rows"].as_array().expect("rows").iter().map(|row| row["id"].as_u64().expect("an id")).collect()
    };
    assert_eq!(ids(get("/api/v1/users?ids=3,77,1,3")), [1, 3]);
    assert_eq!(ids(get("/api/v1/users?mobile=1381")), [2]);
    assert_eq!(ids(get("/api/v1/users?mobile=13")), [0; 0], "exactly");
    let many = format!("/api/v1/users?ids={}", vec!["1"; 201].join(","));
    for target in ["/api/v1/users", "/api/v1/users?ids=1&mobile=2", "/api/v1/users?ids=1,x", many.as_str()] {
        assert_eq!(code(get(target)), refused(400, "bad_query"), "{target}");
    }

    let put = |target: &str| call(&rig, &ann, "PUT", target, "");
    assert_eq!(put("/api/v1/friends/2").1["id"], 2);
    let hints: Vec<Notice> = rig.homes.hints.lock().drain(..).map(|(_, notice)| notice).collect();
    let hint = |user, id| Notice::Changed { user: uid(user), what: Hint::Friends, id };
    assert_eq!(hints, [hint(1, 2), hint(2, 1)], "both are told to load their friends again");
    assert_eq!(put("/api/v1/friends/2").0, 200, "twice is success");
    assert_eq!(put("/api/v1/friends/3").0, 200);
    assert_eq!(code(put("/api/v1/friends/1")), refused(409, "yourself"));
    assert_eq!(code(put("/api/v1/friends/9")), refused(404, "no_such_user"));
    let (_, page) = get("/api/v1/friends?limit=1");
    assert_eq!(
        (&page["rows"][0]["id"], &page["rows"][0]["blocked"], &page["more"]),
        (&json!(2), &json!(false), &json!(true))
    );
    assert_eq!(page["rows"][0].get("mobile"), None);
    assert_eq!(ids(get("/api/v1/friends?after=2")), [3]);
    assert_eq!(ids(call(&rig, &bob, "GET", "/api/v1/friends", "")), [1], "both ways");
    assert_eq!(code(get("/api/v1/friends?limit=x")), refused(400, "bad_query"));

    assert_eq!(put("/api/v1/blocks/2"), (200, json!({})));
    assert_eq!(ids(get("/api/v1/blocks")), [2]);
    assert_eq!(get("/api/v1/friends").1["rows"][0]["blocked"], true);
    assert_eq!(call(&rig, &ann, "DELETE", "/api/v1/friends/2", ""), (200, json!({})));
    assert_eq!(ids(call(&rig, &bob, "GET", "/api/v1/friends", "")), [0; 0]);
    assert_eq!(code(call(&rig, &bob, "PUT", "/api/v1/friends/1", "")), refused(403, "blocked"));
    assert_eq!(call(&rig, &ann, "DELETE", "/api/v1/blocks/2", ""), (200, json!({})));
    assert_eq!(call(&rig, &bob, "PUT", "/api/v1/friends/1", "").0, 200);
    assert_eq!(code(put("/api/v1/blocks/9")), refused(404, "no_such_user"));
}

#[test]
fn a_group_lives_from_its_making_to_its_end() {
    let rig = Rig::start();
    let (_, ann) = rig.user("1");
    let (_, bob) = rig.user("2");
    let (_, eve) = rig.user("3");
    let (status, made) =
        call(&rig, &ann, "POST", "/api/v1/groups", r#"{"name":" Tea ","cate":2,"memo":"m","rule":"open"}"#);
    assert_eq!(status, 201);
    let mut expected = json!({"id":1,"name":"Tea","icon":"","cate":2,"memo":"m","owner":1,"members":1,"rule":"open"});
    (expected["members_add"], expected["created_ms"]) = (json!(true), made["created_ms"].clone());
    assert_eq!(made, expected);
    for unfit in [r#"{"name":" "}"#, r#"{"name":"a\u0000b"}"#] {
        // A name is shown as it was given or refused.
        assert_eq!(code(call(&rig, &ann, "POST", "/api/v1/groups", unfit)), refused(400, "bad_field"));
    }
    assert_eq!(call(&rig, &bob, "GET", "/api/v1/groups/1", ""), (200, expected), "to decide whether to join");
    assert_eq!(call(&rig, &bob, "GET", "/api/v1/groups?name=tea", "").1["rows"][0]["id"], 1);
    assert_eq!(call(&rig, &bob, "GET", "/api/v1/groups", "").1, json!({"rows":[],"more":false}));
    assert_eq!(code(call(&rig, &bob, "GET", "/api/v1/groups/1/members", "")), refused(403, "not_member"));
    for token in [&bob, &bob, &eve] {
        let (status, group) = call(&rig, token, "PUT", "/api/v1/groups/1/members/me", "");
        assert_eq!((status, &group["id"]), (200, &json!(1)));
    }
    assert_eq!(code(call(&rig, &bob, "PUT", "/api/v1/groups/7/members/me", "")), refused(404, "no_such_group"));
    let (_, page) = call(&rig, &bob, "GET", "/api/v1/groups/1/members?after=1&limit=1", "");
    assert_eq!((&page["rows"][0]["id"], &page["more"]), (&json!(2), &json!(true)));

    let hints = |rig: &Rig| rig.homes.hints.lock().drain(..).collect::<Vec<_>>();
    let out = |user| (shard_of(uid(user), 4), Notice::Changed { user: uid(user), what: Hint::Groups, id: 1 });
    assert_eq!(hints(&rig), [1, 2, 2, 3].map(out), "whoever joins loads her groups on her other devices, too");
    let (status, group) = call(&rig, &ann, "PATCH", "/api/v1/groups/1", r#"{"name":"Wine"}"#);
    let everywhere = [0, 1, 2, 3].map(|shard| (ShardId(shard), Notice::GroupChanged { group: gid(1) }));
    assert_eq!(hints(&rig), everywhere, "every shard tells those of the members who are there");
    assert_eq!(
        (status, &group["name"], &group["memo"], &group["members"]),
        (200, &json!("Wine"), &json!("m"), &json!(3))
    );
    assert_eq!(code(call(&rig, &bob, "PATCH", "/api/v1/groups/1", r#"{"name":"x"}"#)), refused(403, "not_admin"));
    assert_eq!(code(call(&rig, &ann, "PATCH", "/api/v1/groups/1", r#"{"name":""}"#)), refused(400, "bad_field"));

    assert_eq!(code(call(&rig, &bob, "DELETE", "/api/v1/groups/1/members/3", "")), refused(403, "not_admin"));
    assert_eq!(code(call(&rig, &ann, "DELETE", "/api/v1/groups/1/members/me", "")), refused(409, "owner_leaves"));
    assert_eq!(code(call(&rig, &ann, "DELETE", "/api/v1/groups/1/members/1", "")), refused(409, "owner_leaves"));
    assert_eq!(call(&rig, &ann, "DELETE", "/api/v1/groups/1/members/3", ""), (200, json!({})));
    let home = home_of(ConvId::Group(gid(1)), 4);
    assert_eq!(rig.homes.notices.lock().last().cloned(), Some((home, Notice::Leave { group: gid(1), user: uid(3) })));
    assert_eq!(call(&rig, &eve, "DELETE", "/api/v1/groups/1/members/me", ""), (200, json!({})), "is out already");

    assert_eq!(code(call(&rig, &bob, "DELETE", "/api/v1/groups/1", "")), refused(403, "not_owner"));
    assert_eq!(hints(&rig)[0], out(3), "removed");
    assert_eq!(call(&rig, &ann, "DELETE", "/api/v1/groups/1", ""), (200, json!({})));
    assert_eq!(hints(&rig), [1, 2].map(out), "dissolved");
    assert_eq!(rig.memory.members(gid(1)), []);
    let left: Vec<_> = rig.homes.notices.lock().iter().rev().take(2).rev().cloned().collect();
    assert_eq!(
        left,
        [1, 2].map(|user| (home, Notice::Leave { group: gid(1), user: uid(user) })),
        "sessions hear of it"
    );
    for (method, target) in
        [("GET", "/api/v1/groups/1"), ("PUT", "/api/v1/groups/1/members/me"), ("PATCH", "/api/v1/groups/1")]
    {
        assert_eq!(code(call(&rig, &ann, method, target, "{}")), refused(404, "no_such_group"), "{method} {target}");
    }
    assert_eq!(call(&rig, &ann, "DELETE", "/api/v1/groups/1", ""), (200, json!({})), "twice is success");
    assert_eq!(code(call(&rig, &ann, "DELETE", "/api/v1/groups/9", "")), refused(404, "no_such_group"));
}

#[test]
fn dissolving_a_large_group_ends_every_membership_and_can_be_taken_up_again() {
    let rig = Rig::start();
    let (_, ann) = rig.user("1");
    call(&rig, &ann, "POST", "/api/v1/groups", r#"{"name":"x"}"#);
    let most = u64::from(limits::DISSOLVE_STEP_MAX) * 5 / 2;
    let joins: Vec<Write> =
        (2..=most).map(|n| Write::Join { group: gid(1), user: rig.user(&format!("m{n}")).0.id }).collect();
    rig.memory.connect().commit(&joins).expect("memory");
    *rig.homes.mood.lock() = Mood::Full;
    assert_eq!(code(call(&rig, &ann, "DELETE", "/api/v1/groups/1", "")), refused(503, "busy"));
    assert_eq!(code(call(&rig, &ann, "GET", "/api/v1/groups/1", "")), refused(404, "no_such_group"), "at once");
    assert_eq!(rig.memory.members(gid(1)).len() as u64, most);
    *rig.homes.mood.lock() = Mood::Willing;
    assert_eq!(call(&rig, &ann, "DELETE", "/api/v1/groups/1", ""), (200, json!({})));
    assert_eq!(rig.memory.members(gid(1)), []);
}

#[test]
fn too_many_groups_are_told() {
    let rig = Rig::start();
    let (_, ann) = rig.user("1");
    for _ in 0..limits::GROUPS_OWNED_MAX {
        assert_eq!(call(&rig, &ann, "POST", "/api/v1/groups", r#"{"name":"x"}"#).0, 201);
    }
    assert_eq!(code(call(&rig, &ann, "POST", "/api/v1/groups", r#"{"name":"x"}"#)), refused(409, "too_many_groups"));
}

#[test]
fn history_is_that_of_the_websocket() {
    let rig = Rig::start();
    let (_, ann) = rig.user("1");
    rig.user("2");
    let conv = ConvId::direct(uid(1), uid(2));
    let post = |n: u64| {
        let (key, body) = (PostKey::Client(n.to_string().into()), format!(r#""media":1,"content":"{n}""#).into());
        Write::Append(NewMessage { conv, sender: uid(2), key, ts_ms: n, body })
    };
    rig.memory.connect().commit(&[post(1), post(2), post(3)]).expect("memory");
    let (status, page) = call(&rig, &ann, "GET", "/api/v1/history?kind=10&dstid=2&limit=2", "");
    assert_eq!(status, 200);
    let told = ["cmd", "kind", "dstid", "more", "floor", "head", "epoch"].map(|name| page[name].clone());
    assert_eq!(told, [json!(4), json!(10), json!(2), json!(true), json!(1), json!(3), json!(1)]);
    assert_eq!((&page["rows"][0]["seq"], &page["rows"][1]["content"]), (&json!(2), &json!("3")));
    let get = |target: &str| code(call(&rig, &ann, "GET", target, ""));
    assert_eq!(get("/api/v1/history?kind=10"), refused(400, "bad_query"));
    assert_eq!(get("/api/v1/history?kind=11&dstid=9"), refused(404, "no_such_group"));
}

#[test]
fn what_is_no_call_and_who_is_nobody() {
    let rig = Rig::start();
    let (_, ann) = rig.user("1");
    assert_eq!(code(call(&rig, &ann, "GET", "/api/v1/nothing", "")), refused(404, "not_found"));
    assert_eq!(code(call(&rig, &ann, "PUT", "/api/v1/me", "")), refused(405, "method_not_allowed"));
    assert_eq!(code(call(&rig, "nonsense", "GET", "/api/v1/me", "")), refused(401, "not_logged_in"));
    let large = format!(r#"{{"memo":"{}"}}"#, "x".repeat(limits::HTTP_BODY_BYTES_MAX));
    assert_eq!(code(call(&rig, &ann, "PATCH", "/api/v1/me", &large)), refused(413, "too_large"));
    let config = rig.ask(Ask::get("/api/v1/config", &[]));
    assert_eq!((config.status, &value(&config)["recall_ms"]), (200, &json!(120_000)));
    rig.store.stop();
    assert_eq!(code(call(&rig, &ann, "GET", "/api/v1/me", "")), refused(503, "busy"));
}

#[test]
fn a_message_is_recalled_where_its_author_lives_and_refusals_have_their_words() {
    let rig = Rig::start();
    let (_, ann) = rig.user("1380");
    let path = "/api/v1/messages/recall";
    let recall = |body: &str| call(&rig, &ann, "POST", path, body);
    assert_eq!(recall(r#"{"kind":10,"dstid":2,"seq":4}"#), (200, json!({"seq": 5})));
    let asked = rig.homes.notices.lock().pop().map(|(_, notice)| notice);
    let of = Target::User(uid(2));
    assert_eq!(asked, Some(Notice::Recall { user: uid(1), of, seq: Seq::new(4).expect("small") }));
    assert_eq!(code(recall(r#"{"kind":12,"dstid":2,"seq":4}"#)), refused(400, "bad_field"));
    assert_eq!(code(recall(r#"{"kind":11,"dstid":2,"seq":0}"#)), refused(404, "no_such_message"));
    for (why, status, word) in [
        (Reject::TooLate, 409, "too_late"),
        (Reject::NotYours, 403, "not_yours"),
        (Reject::NoSuchMessage, 404, "no_such_message"),
        (Reject::Retry, 503, "unsure"),
        (Reject::Busy, 503, "busy"),
    ] {
        *rig.homes.mood.lock() = Mood::Refusing(why);
        assert_eq!(code(recall(r#"{"kind":11,"dstid":2,"seq":4}"#)), refused(status, word));
    }
}

/// The numbers of all rows of a list, page by page, and how many pages there were.
fn paged(rig: &Rig, token: &str, list: &str) -> (Vec<u64>, usize) {
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let after = found.last().copied().unwrap_or_default();
        let (status, page) = call(rig, token, "GET", &format!("{list}&after={after}"), "");
        assert_eq!(status, 200, "{page}");
        let rows = page["rows"].as_array().expect("rows");
        found.extend(rows.iter().map(|row| row["id"].as_u64().expect("an id")));
        pages += 1;
        if page["more"] == json!(false) {
            return (found, pages);
        }
        assert!(!rows.is_empty(), "every page goes on");
    }
}

#[test]
fn every_list_goes_on_in_the_next_page() {
    let rig = Rig::start();
    let (ann, token) = rig.user("ann");
    let mut store = rig.memory.connect();
    let others: Vec<u64> = (0..7).map(|n| rig.user(&format!("user {n}")).0.id.get()).collect();
    let mut groups = Vec::new();
    for &other in &others {
        store.social().befriend(ann.id, uid(other), 1).expect("memory");
        store.social().block(ann.id, uid(other), true).expect("memory");
        let group = group_of(uid(other));
        let group = store.groups().create_group(&group).expect("memory").expect("few groups").id;
        store.commit(&[Write::Join { group, user: ann.id }]).expect("memory");
        groups.push(group.get());
    }
    for &other in &others[1..] {
        store.commit(&[Write::Join { group: gid(groups[0]), user: uid(other) }]).expect("memory");
    }
    let members: Vec<u64> = std::iter::once(ann.id.get()).chain(others.iter().copied()).collect();
    for (list, all, pages) in [
        ("/api/v1/friends", &others, 3),
        ("/api/v1/blocks", &others, 3),
        ("/api/v1/groups", &groups, 3),
        (&*format!("/api/v1/groups/{}/members", groups[0]), &members, 3),
    ] {
        assert_eq!(paged(&rig, &token, &format!("{list}?limit=3")), (all.clone(), pages), "{list}");
        assert_eq!(paged(&rig, &token, &format!("{list}?limit=1000000")), (all.clone(), 1), "{list}");
    }
    assert_eq!(code(call(&rig, &token, "GET", "/api/v1/groups?after=-1", "")), refused(400, "bad_query"));
}

#[test]
fn a_page_ends_where_its_answer_would_be_too_large() {
    let rig = Rig::start();
    let (ann, token) = rig.user("ann");
    let mut store = rig.memory.connect();
    let friends: Vec<u64> = (0..500)
        .map(|n| {
            // Six bytes of JSON each.
            let long = |chars| "\u{1}".repeat(chars);
            let (avatar, memo) = (long(limits::ICON_CHARS_MAX), long(limits::USER_MEMO_CHARS_MAX));
            let friend =
                NewUser { mobile: format!("f{n}"), password: "!".to_owned(), avatar, memo, ..NewUser::default() };
            let friend = store.people().create_user(&friend).expect("memory").expect("a free name").id;
            store.social().befriend(ann.id, friend, 1).expect("memory");
            friend.get()
        })
        .collect();
    let bearer = format!("Bearer {token}");
    let page = rig.ask(Ask::get("/api/v1/friends", &[("Authorization", &bearer)]));
    assert!((400_000..=limits::HTTP_ANSWER_BYTES_MAX + 20).contains(&page.body.len()), "{}", page.body.len());
    let (found, pages) = paged(&rig, &token, "/api/v1/friends?limit=500");
    assert_eq!((found, pages), (friends, 3));
    if !LEGACY {
        return;
    }
    // The old page has no second page: it gets what a whole answer may hold.
    let old = rig.ask(Ask { headers: &[FORM, ("Authorization", &bearer)], ..Ask::form("/contact/loadfriend", "") });
    assert_eq!(old.at("/total"), 500);
    assert!(old.body.len() <= limits::HTTP_LIST_BYTES_MAX);
}

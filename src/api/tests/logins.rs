//! Who may log in, register and look people up, how often, and under which spelling.

use serde_json::{Value, json};

use super::rig::{Answered, Ask, FORM, LEGACY, Rig};
use crate::api::Allowed;
use crate::api::services::passwords::{Passwords, Turn};
use crate::ids::UserId;
use crate::limits;
use crate::metrics::accounts::{Login, Registered};
use crate::store::{Backend, NewUser, User};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A POST of JSON from an address behind the proxy on this machine.
fn post(rig: &Rig, from: &str, target: &str, extra: &[(&str, &str)], body: &Value) -> Answered {
    let mut headers = vec![JSON, ("X-Forwarded-For", from)];
    headers.extend_from_slice(extra);
    rig.ask(Ask { method: "POST", target, headers: &headers, body: &body.to_string() })
}

fn login(rig: &Rig, from: &str, mobile: &str, password: &str) -> u16 {
    post(rig, from, "/api/v1/login", &[], &json!({ "mobile": mobile, "password": password })).status
}

fn register(rig: &Rig, from: &str, mobile: &str, password: &str) -> u16 {
    let wish = json!({ "mobile": mobile, "password": password, "nickname": "n" });
    post(rig, from, "/api/v1/register", &[], &wish).status
}

/// A user as an earlier version, or another system, has stored one.
fn stored(rig: &Rig, mobile: &str, password: &str) -> User {
    // Read back, because only the service hashes.
    assert_eq!(register(rig, "192.0.2.1", "helper", "a password"), 201);
    assert_eq!(login(rig, "192.0.2.1", "helper", "a password"), 200);
    let hash = Passwords::new(1).expect("randomness");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let password =
        runtime.block_on(hash.hash(Turn::Own(UserId::new(1).expect("an id")), password.to_owned())).expect("a hash");
    let user = NewUser { mobile: mobile.to_owned(), password, ..NewUser::default() };
    rig.memory.connect().people().create_user(&user).expect("memory").expect("a free mobile number")
}

/// Tries wrong passwords until no more are taken, which ends although one comes back every so
/// often; how many were taken.
fn lock(rig: &Rig, from: &str, mobile: &str) -> u64 {
    let mut taken = 0;
    loop {
        match login(rig, from, mobile, "wrong") {
            401 => taken += 1,
            429 => return taken,
            status => panic!("{status}"),
        }
        assert!(taken < 10 * limits::ACCOUNT_ATTEMPTS_MAX, "unbounded");
    }
}

#[test]
fn a_stranger_does_not_lock_the_owner_out() {
    let rig = Rig::start();
    let (stranger, home) = ("203.0.113.66", "198.51.100.5");
    assert_eq!(register(&rig, home, "13800000001", "right-password"), 201);
    assert!(lock(&rig, stranger, "13800000001") >= limits::ACCOUNT_ATTEMPTS_MAX);
    let locked = post(&rig, stranger, "/api/v1/login", &[], &json!({ "mobile": "+86 138-0000-0001", "password": "x" }));
    assert!(locked.status == 429 && locked.body.contains(r#""code":"locked""#), "however it is spelled: {locked:?}");
    assert_eq!(locked.header("retry-after"), Some("60"));
    assert_eq!(login(&rig, home, "13800000001", "right-password"), 200);
    assert!(rig.counts.logins()[Login::Locked as usize] >= 2);
    // At the stranger's own address: with a token that proves whose account it is.
    let user = rig.memory.connect().people().user_by_mobile("13800000001").expect("memory").expect("registered");
    let (other, others) = rig.user("other");
    let wish = json!({ "mobile": "13800000001", "password": "right-password" });
    let with = |id: UserId, token: &str| {
        lock(&rig, stranger, "13800000001");
        let cookie = format!("imgate_{id}={token}");
        post(&rig, stranger, "/api/v1/login", &[("Cookie", &cookie)], &wish).status
    };
    let token = rig.token(user.id);
    assert_eq!([with(user.id, &token), with(other.id, &others)], [200, 429], "her own, not another one's");
    rig.memory.connect().people().log_out(user.id, 0).expect("memory");
    assert_eq!(with(user.id, &token), 429, "a void one");
}

#[test]
fn an_unknown_login_name_is_locked_like_a_known_one() {
    let rig = Rig::start();
    assert_eq!(register(&rig, "192.0.2.1", "13800000001", "right-password"), 201);
    for mobile in ["13800000001", "13800000002"] {
        assert!(lock(&rig, "203.0.113.66", mobile) >= limits::ACCOUNT_ATTEMPTS_MAX, "nobody learns who is registered");
    }
}

#[test]
#[cfg(feature = "legacy")]
fn what_the_database_fails_does_not_count() {
    let rig = Rig::start();
    rig.store.stop();
    for _ in 0..2 * limits::ADDRESS_ATTEMPTS_MAX {
        let answer = rig.ask(Ask {
            method: "POST",
            target: "/user/login",
            headers: &[FORM, ("X-Forwarded-For", "192.0.2.1")],
            body: "mobile=1&passwd=right",
        });
        assert_eq!(answer.at("/msg"), "系统繁忙,请稍后再试");
    }
    assert_eq!(rig.counts.logins()[Login::Trouble as usize], 2 * limits::ADDRESS_ATTEMPTS_MAX);
}

#[test]
fn a_number_is_one_account_however_it_is_typed() {
    let rig = Rig::start();
    let home = "192.0.2.1";
    assert_eq!(register(&rig, home, "13800000001", "right-password"), 201);
    let typed = [
        "138 0000 0001",
        "138-0000-0001",
        "+8613800000001",
        "１３８００００００01",
        "\u{202d}13800000001\u{202c}",
        "13800000001\u{200b}",
    ];
    for typed in typed {
        assert_eq!(login(&rig, home, typed, "right-password"), 200, "{typed:?}");
        assert_eq!(register(&rig, home, typed, "right-password"), 409, "{typed:?}");
    }
    assert_eq!(register(&rig, home, "+86 (139) 0000-0002", "right-password"), 201);
    let user = rig.memory.connect().people().user_by_mobile("13900000002").expect("memory");
    assert!(user.is_some_and(|user| user.mobile == "13900000002"), "kept in its normal form");
    let (_, ann) = rig.user("ann");
    let bearer = format!("Bearer {ann}");
    let found = rig.ask(Ask::get("/api/v1/users?mobile=%2B86%20139%200000%200002", &[("Authorization", &bearer)]));
    assert_eq!(serde_json::from_str::<Value>(&found.body).expect("JSON")["rows"][0]["id"], 2);
}

#[test]
fn accounts_of_before_there_was_a_normal_form_still_log_in() {
    let rig = Rig::start();
    let home = "192.0.2.1";
    // An e with its dots as two characters, as macOS types it.
    let decomposed = "Zoe\u{308}-Mu\u{308}ller-1";
    let old = stored(&rig, "+8613800000001", decomposed);
    for typed in ["+8613800000001", "13800000001", "138-0000-0001"] {
        assert_eq!(login(&rig, home, typed, decomposed), 200, "{typed}");
        assert_eq!(register(&rig, home, typed, "right-password"), 409, "{typed}: nobody takes it again");
    }
    let kept = rig.memory.connect().people().user(old.id).expect("memory").expect("still there").password;
    assert_ne!(kept, old.password, "the first login has stored the normal form");
    assert_eq!(login(&rig, home, "13800000001", "Zo\u{eb}-M\u{fc}ller-1"), 200);
    assert_eq!(login(&rig, home, "13800000001", "Zoe-Muller-1"), 401);
}

#[test]
fn a_password_is_one_on_every_keyboard_and_has_a_least_length() {
    let rig = Rig::start();
    let home = "192.0.2.1";
    assert_eq!(register(&rig, home, "13800000001", "Zo\u{eb}-M\u{fc}ller-1"), 201);
    assert_eq!(login(&rig, home, "13800000001", "Zoe\u{308}-Mu\u{308}ller-1"), 200);
    assert_eq!(register(&rig, home, "13800000002", " blanks "), 201);
    assert_eq!([" blanks ", "blanks"].map(|typed| login(&rig, home, "13800000002", typed)), [200, 401]);
    for short in ["", "1234567", "zoe\u{308}zoe\u{308}z"] {
        assert_eq!(register(&rig, home, "13800000003", short), 400, "{short:?}");
    }
    assert_eq!(register(&rig, home, "13800000003", "密码密码密码密码"), 201, "eight characters");
    if LEGACY {
        let answer = rig.post("/user/register", "mobile=13800000004&passwd=x");
        assert_eq!(answer.at("/code"), 0, "the old pages have no such rule: {answer:?}");
    }
}

#[test]
fn a_name_has_something_to_see() {
    let rig = Rig::start();
    let wish =
        |name: &str| json!({ "mobile": format!("m{}", name.len()), "password": "right-password", "nickname": name });
    for name in ["   ", "\u{200b}\u{feff}", "\u{301}", "\u{3164}"] {
        let answer = post(&rig, "192.0.2.1", "/api/v1/register", &[], &wish(name));
        assert!(answer.status == 400 && answer.body.contains("bad_field"), "{name:?}: {answer:?}");
    }
    let answer = post(&rig, "192.0.2.1", "/api/v1/register", &[], &wish(" A\u{202e}nn "));
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, &body["user"]["nickname"]), (201, &json!("Ann")));
    let bearer = format!("Bearer {}", body["token"].as_str().expect("a token"));
    let headers = [JSON, ("Authorization", bearer.as_str())];
    let change = |name: &str| {
        let body = json!({ "nickname": name }).to_string();
        rig.ask(Ask { method: "PATCH", target: "/api/v1/me", headers: &headers, body: &body }).status
    };
    assert_eq!([change("\u{2800}"), change(""), change("Bob")], [400, 200, 200]);
    if LEGACY {
        assert_eq!(rig.post("/user/register", "mobile=9&passwd=x&nickname=%E2%80%8B").at("/msg"), "昵称不能全是空白");
    }
}

#[test]
fn registration_may_be_closed_or_have_a_pace() {
    let rig = Rig::with_allowed(Allowed { registration: false, ..Allowed::default() });
    assert_eq!(register(&rig, "192.0.2.1", "13800000001", "right-password"), 403);
    if LEGACY {
        assert_eq!(rig.post("/user/register", "mobile=1&passwd=x").at("/msg"), "注册已关闭");
    }
    assert_eq!(rig.counts.registrations()[Registered::Closed as usize], 1 + u64::from(LEGACY));

    let rig = Rig::with_allowed(Allowed { registrations_per_minute: 2, ..Allowed::default() });
    let made = |from: &str, first: u32| -> Vec<u16> {
        (first..first + 3).map(|n| register(&rig, from, &format!("1380000000{n}"), "right-password")).collect()
    };
    assert_eq!([made("192.0.2.1", 1), made("192.0.2.2", 4)], [[201, 201, 429], [201, 201, 429]]);
    assert_eq!(login(&rig, "192.0.2.1", "13800000001", "right-password"), 200, "logins are counted apart");
    assert_eq!(rig.counts.registrations()[Registered::TooOften as usize], 2);
}

#[test]
fn nobody_reads_the_directory_quickly() {
    let allowed = Allowed { lookups_per_minute: 5, mobile_lookups_per_minute: 2, ..Allowed::default() };
    let rig = Rig::with_allowed(allowed);
    let (ann, token) = rig.user("ann");
    let (_, bob) = rig.user("bob");
    let get = |token: &str, target: &str| {
        let bearer = format!("Bearer {token}");
        rig.ask(Ask::get(target, &[("Authorization", &bearer)])).status
    };
    let by_mobile = ["bob", "nobody", "bob"].map(|mobile| get(&token, &format!("/api/v1/users?mobile={mobile}")));
    assert_eq!(by_mobile, [200, 200, 429], "found or not");
    let cookie = format!("imgate_{}={token}", ann.id);
    let headers = [FORM, ("Cookie", cookie.as_str())];
    let old = |target, body| rig.ask(Ask { method: "POST", target, headers: &headers, body });
    if LEGACY {
        assert_eq!(old("/contact/addfriend", "userid=1&dstname=bob").at("/msg"), "操作过于频繁,请稍后再试");
    }
    assert_eq!(get(&token, "/api/v1/users?ids=1,2,3"), 200);
    assert_eq!([get(&token, "/api/v1/users/2"), get(&token, "/api/v1/users/77")], [200, 404]);
    assert_eq!([get(&token, "/api/v1/users/2"), get(&token, "/api/v1/users?ids=1")], [429, 429]);
    if LEGACY {
        let card = old("/user/find", "id=2");
        assert_eq!((card.at("/code"), card.at("/data/id")), (json!(-1), json!(2)), "a card all the same");
    }
    assert_eq!([get(&bob, "/api/v1/users/1"), get(&bob, "/api/v1/me"), get(&token, "/api/v1/me")], [200; 3]);
    assert_eq!(rig.counts.refused(), if LEGACY { [3, 2] } else { [2, 1] });
}

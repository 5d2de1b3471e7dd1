//! Logins of one user: what each is, and how one of them ends.

use serde_json::{Value, json};

use super::rig::{Answered, Ask, LEGACY, Mood, Rig};
use crate::clock;
use crate::ids::{LoginId, UserId, shard_of};
use crate::limits;
use crate::shard::Notice;
use crate::store::{Backend, NewLogin};
use crate::wire::Reject;

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn ask(rig: &Rig, agent: &str, token: &str, method: &str, target: &str, body: &Value) -> Answered {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![JSON, ("User-Agent", agent), ("X-Forwarded-For", "192.0.2.7")];
    if !token.is_empty() {
        headers.push(("Authorization", &bearer));
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    rig.ask(Ask { method, target, headers: &headers, body: &body })
}

fn value(answer: &Answered) -> Value {
    serde_json::from_str(&answer.body).expect("JSON")
}

fn token_of(answer: &Answered) -> String {
    value(answer)["token"].as_str().unwrap_or_else(|| panic!("a token: {answer:?}")).to_owned()
}

/// Ann's three devices: two of our own client, one of an old page.
fn three_devices(rig: &Rig) -> [String; 3] {
    let wish = json!({ "mobile": "13800000001", "password": "pw-of-Ann", "nickname": "Ann" });
    let desk = token_of(&ask(rig, "Firefox/123", "", "POST", "/api/v1/register", &wish));
    let phone = token_of(&ask(rig, "Phone", "", "POST", "/api/v1/login", &wish));
    if !LEGACY {
        return [desk, phone, token_of(&ask(rig, "Old", "", "POST", "/api/v1/login", &wish))];
    }
    let old = rig.post("/user/login", "mobile=13800000001&passwd=pw-of-Ann");
    [desk, phone, old.at("/data/token").as_str().expect("a token").to_owned()]
}

fn logins(rig: &Rig, token: &str) -> Vec<Value> {
    value(&ask(rig, "", token, "GET", "/api/v1/me/logins", &Value::Null))["rows"].as_array().expect("rows").clone()
}

fn status(rig: &Rig, token: &str) -> u16 {
    ask(rig, "", token, "GET", "/api/v1/me", &Value::Null).status
}

fn login_of(rig: &Rig, token: &str) -> LoginId {
    rig.key.verify(token, clock::wall_ms()).expect("a signature").login().expect("a login")
}

#[test]
fn logging_out_ends_that_token_and_no_other() {
    let rig = Rig::start();
    let [desk, phone, old] = three_devices(&rig);
    assert_eq!([&desk, &phone, &old].map(|token| status(&rig, token)), [200; 3]);
    assert_eq!(ask(&rig, "", &desk, "POST", "/api/v1/logout", &json!({})).status, 200);
    assert_eq!([&desk, &phone, &old].map(|token| status(&rig, token)), [401, 200, 200]);
    let ann = UserId::new(1).expect("an id");
    let told = (shard_of(ann, 4), Notice::LoginEnded { user: ann, login: login_of(&rig, &desk) });
    assert_eq!(*rig.homes.notices.lock(), [told], "so that its sessions end");
    if !LEGACY {
        return;
    }
    // Everything that asks who acts asks for the login, too.
    let bearer = format!("Bearer {desk}");
    let find =
        rig.ask(Ask { headers: &[super::rig::FORM, ("Authorization", &bearer)], ..Ask::form("/user/find", "id=1") });
    assert_eq!(find.at("/data/nickname"), json!(""), "a blank card");
    let form = "userid=1";
    let load = rig.ask(Ask {
        headers: &[super::rig::FORM, ("Authorization", &bearer)],
        ..Ask::form("/contact/loadfriend", form)
    });
    assert_eq!(load.at("/code"), json!(-1));
}

#[test]
fn a_device_is_listed_and_logged_out_from_another_one() {
    let rig = Rig::start();
    let [desk, phone, old] = three_devices(&rig);
    let rows = logins(&rig, &phone);
    assert_eq!(rows.len(), 3, "{rows:?}");
    let row = |token: &str| {
        let id = login_of(&rig, token).get();
        rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{id} in {rows:?}"))
    };
    assert_eq!([&desk, &phone, &old].map(|token| row(token)["current"] == true), [false, true, false]);
    assert_eq!((&row(&desk)["agent"], &row(&desk)["address"]), (&json!("Firefox/123"), &json!("192.0.2.7")));
    assert!(row(&phone)["used_ms"].as_u64() >= row(&phone)["created_ms"].as_u64());
    let end =
        |token: &str, id: &str| ask(&rig, "", token, "DELETE", &format!("/api/v1/me/logins/{id}"), &Value::Null).status;
    let number = login_of(&rig, &desk).get().to_string();
    assert_eq!([end(&phone, &number), end(&phone, &number), end(&phone, "x"), end(&phone, "0")], [200, 404, 404, 404]);
    assert_eq!([&desk, &phone].map(|token| status(&rig, token)), [401, 200]);
    assert_eq!(logins(&rig, &phone).len(), 2);
    let (_, bob) = rig.user("2");
    assert_eq!(end(&bob, &login_of(&rig, &old).get().to_string()), 404, "another user's are not there");
    assert_eq!(status(&rig, &old), 200);
}

#[test]
fn a_login_keeps_the_name_of_a_program_whatever_its_bytes_are() {
    let rig = Rig::start();
    let wish = json!({ "mobile": "13800000001", "password": "pw-of-Ann", "nickname": "Ann" });
    ask(&rig, "", "", "POST", "/api/v1/register", &wish);
    let long = [b'x'; limits::AGENT_CHARS_MAX + 100];
    for (agent, kept) in [
        (&b"Lo\xefc's iPad"[..], "Lo\u{fffd}c's iPad".to_owned()),
        ("Lo\u{ef}c\u{2019}s \u{5e73}\u{677f}".as_bytes(), "Lo\u{ef}c\u{2019}s \u{5e73}\u{677f}".to_owned()),
        (b"\xc0\xee iPad", "\u{fffd}\u{fffd} iPad".to_owned()),
        (&long, "x".repeat(limits::AGENT_CHARS_MAX)),
    ] {
        let body = wish.to_string();
        let head = format!(
            "POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nUser-Agent: ",
            body.len()
        );
        let mut client = rig.client();
        client.send(&[head.as_bytes(), agent, b"\r\n\r\n", body.as_bytes()].concat());
        let token = token_of(&client.answer());
        let rows = logins(&rig, &token);
        let own = rows.iter().find(|row| row["current"] == true).expect("the login that asks");
        assert_eq!(own["agent"], json!(kept), "{agent:?}");
    }
}

#[test]
fn a_new_password_leaves_one_login() {
    let rig = Rig::start();
    let [desk, phone, old] = three_devices(&rig);
    let change = json!({ "old": "pw-of-Ann", "new": "another of Ann" });
    let fresh = token_of(&ask(&rig, "Desk", &desk, "POST", "/api/v1/me/password", &change));
    assert_eq!([&desk, &phone, &old, &fresh].map(|token| status(&rig, token)), [401, 401, 401, 200]);
    let rows = logins(&rig, &fresh);
    assert_eq!((rows.len(), &rows[0]["current"], &rows[0]["agent"]), (1, &json!(true), &json!("Desk")));
}

#[test]
fn a_stolen_token_that_was_logged_out_spares_no_login_its_limits() {
    let rig = Rig::start();
    let [desk, ..] = three_devices(&rig);
    assert_eq!(ask(&rig, "", &desk, "POST", "/api/v1/logout", &json!({})).status, 200);
    let wrong = json!({ "mobile": "13800000001", "password": "wrong" });
    let tries =
        (0..10 * limits::ACCOUNT_ATTEMPTS_MAX).map(|_| ask(&rig, "", &desk, "POST", "/api/v1/login", &wrong).status);
    assert!(tries.into_iter().any(|status| status == 429));
    let right = json!({ "mobile": "13800000001", "password": "pw-of-Ann" });
    assert_eq!(
        ask(&rig, "", &desk, "POST", "/api/v1/login", &right).status,
        429,
        "locked for strangers, and it is one"
    );
}

#[test]
fn a_login_is_noted_as_used_once_an_hour() {
    let rig = Rig::start();
    let (ann, _) = rig.user("13800000001");
    let now_ms = clock::wall_ms();
    let login = LoginId::new(9).expect("in range");
    let used_ms = now_ms - limits::LOGIN_USED_MS - 1;
    let new = NewLogin {
        epoch: 0,
        wanted: login,
        agent: String::new(),
        address: String::new(),
        created_ms: used_ms,
        expires_ms: now_ms + 1_000_000,
    };
    let mut memory = rig.memory.connect();
    memory.logins().log_in(ann.id, &new).expect("memory").expect("made");
    let token = rig.key.issue_login(ann.id, 0, crate::auth::Issuer::Own, now_ms + 1_000_000, login);
    assert_eq!(status(&rig, &token), 200);
    rig.until(|| {
        let kept = rig.memory.connect().logins().login(ann.id, login).expect("memory").expect("alive");
        kept.used_ms >= now_ms
    });
}

/// On a gateway alone nobody else tells a shard that was busy whose sessions are to end.
#[test]
fn a_shard_that_was_busy_is_told_again_whose_sessions_end() {
    let rig = Rig::start();
    let [desk, phone, _] = three_devices(&rig);
    *rig.homes.mood.lock() = Mood::Full;
    for (token, everywhere) in [(&desk, false), (&phone, true)] {
        let wish = json!({ "everywhere": everywhere });
        assert_eq!(ask(&rig, "", token, "POST", "/api/v1/logout", &wish).status, 200);
    }
    let (user, login) = (UserId::new(1).expect("an id"), login_of(&rig, &desk));
    let epoch = rig.memory.connect().people().user(user).expect("memory").expect("Ann").token_epoch;
    let ends = [Notice::LoginEnded { user, login }, Notice::LoggedOut { user, epoch }];
    let told = |notice: &Notice| rig.homes.notices.lock().iter().filter(|told| told.1 == *notice).count();
    rig.until(|| ends.iter().all(|end| told(end) > 1));
    *rig.homes.mood.lock() = Mood::Willing;
    rig.homes.notices.lock().clear();
    rig.until(|| ends.iter().all(|end| told(end) == 1));
}

#[test]
fn an_account_is_deleted_by_its_owner_with_the_password() {
    let rig = Rig::start();
    let [desk, phone, _] = three_devices(&rig);
    let group = json!({ "name": "Ann's" });
    assert_eq!(ask(&rig, "", &desk, "POST", "/api/v1/groups", &group).status, 201);
    let delete = |password: &str| ask(&rig, "", &phone, "POST", "/api/v1/me/delete", &json!({ "password": password }));
    assert_eq!(delete("wrong").status, 401);
    *rig.homes.mood.lock() = Mood::Refusing(Reject::Busy);
    std::thread::scope(|scope| {
        let deletion = scope.spawn(|| delete("pw-of-Ann"));
        // It goes on trying while the shards are busy: nobody else could.
        rig.until(|| {
            rig.homes.notices.lock().iter().filter(|told| matches!(told.1, Notice::Banned { .. })).count() > 1
        });
        *rig.homes.mood.lock() = Mood::Willing;
        let answer = deletion.join().expect("no panic");
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"), "{answer:?}");
        assert!(answer.header("set-cookie").is_some_and(|cookie| cookie.contains("Max-Age=0")));
    });
    assert_eq!([&desk, &phone].map(|token| status(&rig, token)), [401; 2]);
    let mut memory = rig.memory.connect();
    let left = memory.people().user(UserId::new(1).expect("an id")).expect("memory").expect("the number stays");
    assert!(left.is_erased() && memory.groups().groups_of(left.id).expect("memory").is_empty(), "{left:?}");
    let again = json!({ "mobile": "13800000001", "password": "pw-of-Bob", "nickname": "Bob" });
    assert_eq!(ask(&rig, "", "", "POST", "/api/v1/register", &again).status, 201, "the number is free");
}

#[test]
#[cfg(feature = "legacy")]
fn a_password_that_an_old_page_cut_works_as_it_was_typed() {
    let rig = Rig::start();
    let body = "mobile=13800000001&passwd=pw+of&x+1&nickname=n";
    assert_eq!(rig.post("/user/register", body).at("/code"), json!(0));
    let login = |password: &str| {
        let wish = json!({ "mobile": "13800000001", "password": password });
        ask(&rig, "", "", "POST", "/api/v1/login", &wish).status
    };
    assert_eq!(["pw+of&x+1", "pw of", "pw+of", "pw-of&x+1", "pw"].map(login), [200, 200, 200, 401, 401]);
    assert_eq!(rig.post("/user/login", "mobile=13800000001&passwd=pw+of&x+1").at("/code"), json!(0), "there, too");
}

#[test]
fn a_registration_of_the_new_api_is_checked_and_its_rules_are_said_before() {
    let rig = Rig::start();
    let rules = value(&rig.ask(Ask::get("/api/v1/config", &[])))["rules"].clone();
    let expected = json!({
        "password_chars_min": 8, "password_bytes_max": 256, "mobile_chars_max": 20, "number_digits_min": 5,
        "number_digits_max": 15, "nickname_chars_max": 20, "registration_open": true,
    });
    assert_eq!(rules, expected);
    let register = |mobile: &str, password: &str| {
        let wish = json!({ "mobile": mobile, "password": password, "nickname": "n" });
        let answer = ask(&rig, "", "", "POST", "/api/v1/register", &wish);
        (answer.status, value(&answer)["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    for mobile in ["1", "1381", "1234567890123456", "a", "<script>", "a b"] {
        assert_eq!(register(mobile, "pw-of-Ann"), (400, "bad_mobile".to_owned()), "{mobile}");
    }
    assert_eq!(register("13800000001", "short"), (400, "bad_field".to_owned()));
    for password in ["password", "12345678", "13800000001"] {
        assert_eq!(register("13800000001", password), (400, "weak_password".to_owned()), "{password}");
    }
    assert_eq!(register("13800000001", "pw-of-Ann").0, 201);
    // The old pages know no such rules.
    assert!(!LEGACY || rig.post("/user/register", "mobile=1&passwd=1&nickname=n").at("/code") == json!(0));
}

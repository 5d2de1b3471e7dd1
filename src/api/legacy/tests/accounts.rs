//! Registration, login and the user's card.

use crate::api::legacy::date;
use crate::api::tests::rig::{Ask, FORM, Rig};
use crate::auth::Issuer;
use crate::clock;
use crate::ids::UserId;
use crate::shard::Notice;
use crate::store::Backend;

/// The body of a successful registration or login, with what is fresh each time taken from the
/// answer itself.
fn user_json(rig: &Rig, msg: &str, answer: &crate::api::tests::rig::Answered, fields: [&str; 5]) -> String {
    let [mobile, avatar, sex, nickname, memo] = fields;
    let token = answer.at("/data/token");
    let user = rig.memory.connect().people().user_by_mobile(mobile).expect("memory").expect("a registered user");
    format!(
        concat!(
            r#"{{"code":0,"msg":"{}","data":{{"id":{},"mobile":"{}","avatar":"{}","sex":"{}","nickname":"{}","#,
            r#""online":0,"token":{},"memo":"{}","createat":"{}"}}}}"#
        ),
        msg,
        user.id,
        mobile,
        avatar,
        sex,
        nickname,
        token,
        memo,
        date::rfc3339(user.created_ms)
    )
}

fn token_issuer(rig: &Rig, answer: &crate::api::tests::rig::Answered) -> Issuer {
    let token = answer.at("/data/token");
    let identity = rig.key.verify(token.as_str().expect("a text"), clock::wall_ms()).expect("a usable token");
    assert_eq!(Some(identity.user().get()), answer.at("/data/id").as_u64());
    identity.issuer()
}

#[test]
fn fastim_registers_and_logs_in() {
    let rig = Rig::start();
    let form = "mobile=13800000001&passwd=pw&passwdr=pw&memo=&avatar=/asset/images/user.jpg&sex=M&nickname=Ann";
    let answer = rig.post("/user/register", form);
    let fields = ["13800000001", "/asset/images/user.jpg", "M", "Ann", ""];
    assert_eq!(answer.json(), user_json(&rig, "", &answer, fields));
    assert_eq!(token_issuer(&rig, &answer), Issuer::FastIm, "a usable token already at registration");
    let token = answer.at("/data/token");
    let token = token.as_str().expect("a text");
    let tag = rig.key.tag();
    let cookie = format!("imgate_{tag}_1={token}; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000");
    assert_eq!(answer.header("set-cookie"), Some(cookie.as_str()));

    let answer = rig.post("/user/login", "mobile=13800000001&passwd=pw");
    assert_eq!(answer.json(), user_json(&rig, "", &answer, fields));
    assert_eq!(token_issuer(&rig, &answer), Issuer::FastIm);
    assert!(answer.header("set-cookie").is_some_and(|cookie| cookie.starts_with(&format!("imgate_{tag}_1="))));
}

#[test]
fn fastim_says_what_is_wrong() {
    let rig = Rig::start();
    let form = "mobile=13800000001&passwd=pw&nickname=Ann";
    assert_eq!(rig.post("/user/register", form).at("/code"), 0);
    for (path, form, msg) in [
        ("/user/register", form, "该手机号已注册"),
        ("/user/register", "mobile=&passwd=pw", "手机号和密码不能为空"),
        ("/user/register", "mobile=13800000009", "手机号和密码不能为空"),
        ("/user/register", "mobile=138000000011380000000113800&passwd=pw", "手机号过长"),
        ("/user/register", "mobile=13800000009&passwd=x&nickname=123456789012345678901", "昵称过长"),
        ("/user/login", "mobile=13800000001&passwd=", "用户名或密码不正确"),
        ("/user/login", "passwd=pw", "用户名或密码不正确"),
        ("/user/login", "mobile=13800000002&passwd=pw", "用户不存在"),
        ("/user/login", "mobile=13800000001&passwd=no", "密码不正确"),
        // The password never comes from the URL.
        ("/user/login?passwd=pw", "mobile=13800000001", "用户名或密码不正确"),
    ] {
        let answer = rig.post(path, form);
        assert_eq!(answer.json(), format!(r#"{{"code":-1,"msg":"{msg}"}}"#), "{path} {form}");
        assert_eq!(answer.header("set-cookie"), None);
    }
}

#[test]
fn imchat_has_its_own_fields_and_texts() {
    let rig = Rig::start();
    let form = "mobile=13800000001&password=pw&nickname=Bob&avatar=ignored&sex=M";
    let answer = rig.post("/register", form);
    let fields = ["13800000001", "", "U", "Bob", ""];
    assert_eq!(answer.json(), user_json(&rig, "", &answer, fields));
    assert_eq!(token_issuer(&rig, &answer), Issuer::ImChat);

    let answer = rig.post("/login", "mobile=13800000001&password=pw");
    assert_eq!(answer.json(), user_json(&rig, "登陆成功", &answer, fields));
    assert_eq!(token_issuer(&rig, &answer), Issuer::ImChat, "the page waits for the echo of its own messages");

    assert_eq!(rig.post("/register", form).json(), r#"{"code":-1,"msg":"该手机号已经被注册"}"#);
    for form in ["", "mobile=1&password=pw", "mobile=13800000001&password=no", "mobile=13800000001&passwd=pw"] {
        assert_eq!(rig.post("/login", form).json(), r#"{"code":-1,"msg":"密码不正确"}"#, "{form}");
    }
    // One account for both originals.
    assert_eq!(rig.post("/user/login", "mobile=13800000001&passwd=pw").at("/code"), 0);
}

#[test]
fn any_method_and_json_register() {
    let rig = Rig::start();
    let put = Ask { method: "PUT", target: "/user/register?mobile=1&nickname=q", headers: &[FORM], body: "passwd=x" };
    let answer = rig.ask(put);
    assert_eq!((answer.at("/data/mobile"), answer.at("/data/nickname")), ("1".into(), "q".into()));
    let body = r#"{"Mobile":"2","passwd":"x","nickname":"j","memo":"<b>&"}"#;
    let json = [("Content-Type", "application/json; charset=utf-8")];
    let answer = rig.ask(Ask { method: "POST", target: "/user/register", headers: &json, body });
    assert!(answer.json().contains(r#""nickname":"j","online":0"#), "{answer:?}");
    assert!(answer.json().contains(r#""memo":"\u003cb\u003e\u0026""#), "escaped as Go does: {answer:?}");
    assert_eq!(rig.post("/user/login", "mobile=2&passwd=x").at("/code"), 0);
    // Without a content type there are no fields, and that is no reason for another status.
    let answer = rig.ask(Ask { method: "POST", target: "/user/register", headers: &[], body: "mobile=3&passwd=x" });
    assert_eq!(answer.at("/msg"), "手机号和密码不能为空");
}

#[test]
fn encode_uri_mangles_registration_and_login_alike() {
    let rig = Rig::start();
    assert_eq!(rig.post("/user/register", "mobile=1&passwd=pw&x+1").at("/code"), 0);
    assert_eq!(rig.post("/user/login", "mobile=1&passwd=pw&x+1").at("/code"), 0);
    assert_eq!(rig.post("/user/login", "mobile=1&passwd=pw").at("/code"), 0);
    assert_eq!(rig.post("/user/register", "mobile=2&passwd=a+b;c=d").at("/code"), 0);
    assert_eq!(rig.post("/user/login", "mobile=2&passwd=a%20b%3Bc%3Dd").at("/code"), 0);
}

#[test]
fn a_card_shows_neither_token_nor_mobile_and_is_always_there() {
    let rig = Rig::start();
    rig.post("/user/register", "mobile=13800000001&passwd=pw&nickname=Ann&avatar=/a.png&sex=W&memo=hi");
    let created =
        rig.memory.connect().people().user(UserId::new(1).expect("an id")).expect("memory").expect("Ann").created_ms;
    let ann = format!(
        concat!(
            r#"{{"code":0,"msg":"获取用户信息成功","data":{{"id":1,"mobile":"","avatar":"/a.png","sex":"W","#,
            r#""nickname":"Ann","online":0,"token":"","memo":"hi","createat":"{}"}}}}"#
        ),
        date::rfc3339(created)
    );
    let token = rig.token(UserId::new(1).expect("an id"));
    let cookie = format!("imgate_1={token}");
    let headers = [FORM, ("Cookie", cookie.as_str())];
    let find = |body: &str| rig.ask(Ask { method: "POST", target: "/user/find", headers: &headers, body });
    assert_eq!(find("id=1").json(), ann);
    let stub = |code: i32, msg: &str, id: u64| {
        format!(
            concat!(
                r#"{{"code":{},"msg":"{}","data":{{"id":{},"mobile":"","avatar":"","sex":"","nickname":"","#,
                r#""online":0,"token":"","memo":"","createat":"0001-01-01T00:00:00Z"}}}}"#
            ),
            code, msg, id
        )
    };
    assert_eq!(find("id=77").json(), stub(0, "获取用户信息成功", 77));
    for form in ["id=NaN", "id=", "", "id=-1", "id=99999999999999999"] {
        assert_eq!(find(form).json(), stub(0, "获取用户信息成功", 0), "{form}");
    }
    assert_eq!(
        rig.post("/user/find", "id=1").json(),
        stub(0, "获取用户信息成功", 1),
        "nobody reads the directory without a login"
    );
    rig.memory.connect().people().log_out(UserId::new(1).expect("an id"), 0).expect("memory").expect("Ann");
    assert_eq!(find("id=1").json(), stub(0, "获取用户信息成功", 1), "nor with a void token");
    let answer = rig.ask(Ask { method: "POST", target: "/user/find", headers: &[], body: "id=1" });
    assert_eq!(answer.json(), stub(-1, "当前方法暂不支持", 0));
}

/// The pages of several users in one browser send all their cookies, and do not say who asks.
#[test]
fn a_card_is_shown_to_whoever_may_act_of_those_who_ask() {
    let rig = Rig::start();
    let [(ann, of_ann), (bob, of_bob)] = ["1", "2"].map(|mobile| rig.user(mobile));
    let cookies = format!("imgate_1={of_ann}; imgate_2={of_bob}");
    let headers = [FORM, ("Cookie", cookies.as_str())];
    let find = || rig.ask(Ask { method: "POST", target: "/user/find", headers: &headers, body: "id=2" });
    let introduced = || {
        let told = std::mem::take(&mut *rig.homes.introduced.lock());
        told.into_iter().map(|(_, notice)| notice).collect::<Vec<_>>()
    };
    let created = |answer: &crate::api::tests::rig::Answered| answer.at("/data/createat");
    let shown = created(&find());
    assert_ne!(shown, "0001-01-01T00:00:00Z");
    let reads = |reader| Notice::Introduced { reader, of: bob.id };
    assert_eq!(introduced(), [reads(ann.id), reads(bob.id)], "neither waits for what the other has read");
    rig.memory.connect().people().log_out(ann.id, 0).expect("memory").expect("Ann");
    assert_eq!(created(&find()), shown, "Ann has logged out everywhere, Bob has not");
    assert_eq!(introduced(), [reads(bob.id)]);
}

#[test]
fn two_who_register_at_once_are_two_or_one_is_told() {
    let rig = Rig::start();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let same = || rig.post("/user/register", "mobile=13800000001&passwd=pw");
        let both = [scope.spawn(same), scope.spawn(same)];
        both.into_iter().map(|one| one.join().expect("an answer").json().to_owned()).collect()
    });
    let taken = answers.iter().filter(|answer| answer.as_str() == r#"{"code":-1,"msg":"该手机号已注册"}"#);
    assert_eq!(taken.count(), 1, "{answers:?}");
}

#[test]
fn a_stopped_store_is_told_as_busy() {
    let rig = Rig::start();
    rig.store.stop();
    let busy = r#"{"code":-1,"msg":"系统繁忙,请稍后再试"}"#;
    assert_eq!(rig.post("/user/register", "mobile=1&passwd=pw").json(), busy);
    assert_eq!(rig.post("/user/login", "mobile=1&passwd=pw").json(), busy);
    assert_eq!(rig.post("/user/find", "id=1").at("/data/id"), 1, "a card all the same, or the pages freeze");
}

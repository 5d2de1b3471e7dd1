//! Making, joining and listing groups, and who may.

use crate::api::legacy::date;
use crate::api::tests::rig::{Answered, Ask, FORM, Mood, Rig};
use crate::auth::Issuer;
use crate::clock;
use crate::ids::{ConvId, GroupId, UserId, home_of};
use crate::limits;
use crate::shard::Notice;
use crate::store::Backend;
use crate::wire::Reject;

const LOGIN: &str = r#"{"code":-1,"msg":"请先登录"}"#;

fn group(raw: u64) -> GroupId {
    GroupId::new(raw).expect("an id")
}

fn as_bearer(rig: &Rig, token: &str, path: &str, form: &str) -> Answered {
    let bearer = format!("Bearer {token}");
    rig.ask(Ask { method: "POST", target: path, headers: &[FORM, ("Authorization", &bearer)], body: form })
}

fn with_cookies(rig: &Rig, cookies: &str, path: &str, form: &str) -> Answered {
    rig.ask(Ask { method: "POST", target: path, headers: &[FORM, ("Cookie", cookies)], body: form })
}

#[test]
fn a_group_is_made_and_returned_and_its_home_is_told() {
    let rig = Rig::start();
    let (ann, token) = rig.user("1");
    let form = format!("name=Tea <%26> talk&cate=2&memo=m&icon=/i.png&ownerid={}&id=99&createat=x", ann.id);
    let answer = as_bearer(&rig, &token, "/contact/createcommunity", &form);
    let made = rig.memory.connect().groups().group(group(1)).expect("memory").expect("a group");
    assert_eq!(
        answer.json(),
        format!(
            concat!(
                r#"{{"code":0,"msg":"","data":{{"id":1,"name":"Tea \u003c\u0026\u003e talk","ownerid":1,"#,
                r#""icon":"/i.png","cate":2,"memo":"m","createat":"{}"}}}}"#
            ),
            date::rfc3339(made.created_ms)
        )
    );
    let home = home_of(ConvId::Group(group(1)), 4);
    assert_eq!(*rig.homes.notices.lock(), [(home, Notice::Join { group: group(1), user: ann.id })]);
    assert_eq!(rig.memory.members(group(1)).len(), 1);
}

#[test]
fn a_group_that_is_not_made_is_told() {
    let rig = Rig::start();
    let (_, token) = rig.user("1");
    let create = |form: &str| as_bearer(&rig, &token, "/contact/createcommunity", form).json().to_owned();
    assert_eq!(create("name=&ownerid=1"), r#"{"code":-1,"msg":"缺少群名称"}"#);
    assert_eq!(create(&format!("name={}", "x".repeat(31))), r#"{"code":-1,"msg":"群名称过长"}"#);
    assert_eq!(create("name=x&ownerid=2"), LOGIN);
    assert_eq!(rig.post("/contact/createcommunity", "name=x&ownerid=1").json(), LOGIN);
    assert_eq!(rig.post("/contact/createcommunity", "ownerid=1").json(), r#"{"code":-1,"msg":"缺少群名称"}"#);
    for _ in 0..limits::GROUPS_OWNED_MAX {
        assert!(create("name=x&ownerid=1").starts_with(r#"{"code":0,"#));
    }
    assert_eq!(create("name=x&ownerid=1"), r#"{"code":-1,"msg":"一个用户最多只能创见5个群"}"#);
}

#[test]
fn a_home_that_cannot_be_told_does_not_unmake_a_group() {
    let rig = Rig::start();
    let (_, token) = rig.user("1");
    for mood in [Mood::Full, Mood::Gone, Mood::Refusing(Reject::Stopping)] {
        *rig.homes.mood.lock() = mood;
        let answer = as_bearer(&rig, &token, "/contact/createcommunity", "name=x");
        assert_eq!(answer.at("/data/name"), "x");
    }
}

#[test]
fn joining_by_name_and_by_number() {
    let rig = Rig::start();
    let (_, owner) = rig.user("1");
    let (bob, token) = rig.user("2");
    as_bearer(&rig, &owner, "/contact/createcommunity", "name=Tea");
    as_bearer(&rig, &owner, "/contact/createcommunity", "name=Wine");
    let join = |form: &str| as_bearer(&rig, &token, "/contact/joincommunity", form).json().to_owned();
    let done = r#"{"code":0,"msg":"加群成功"}"#;
    assert_eq!(join("dstname=tea  &userid=2"), done, "by name, without case and trailing blanks");
    assert_eq!(join("dstname=Tea&userid=2"), done, "joining twice is success");
    assert_eq!(join("dstid=2&dstname=Tea&userid=2"), done, "the number wins");
    let joined = rig.homes.notices.lock().last().cloned().expect("a notice").1;
    assert_eq!(joined, Notice::Join { group: group(2), user: bob.id });
    assert!(rig.memory.members(group(2)).iter().any(|(user, _)| *user == bob.id));
    for form in ["dstname=nobody", "dstid=99", "dstname=", "", "dstid=NaN", "dstid=-1"] {
        assert_eq!(join(form), r#"{"code":-1,"msg":"您要加入的群不存在"}"#, "{form}");
    }
}

#[test]
fn a_home_that_does_not_take_a_join_is_told() {
    let rig = Rig::start();
    let (_, owner) = rig.user("owner");
    let (_, token) = rig.user("1");
    assert_eq!(as_bearer(&rig, &owner, "/contact/createcommunity", "name=g").at("/data/id"), 1);
    for (mood, msg) in [
        (Mood::Full, "系统繁忙,请稍后再试"),
        (Mood::Refusing(Reject::Busy), "系统繁忙,请稍后再试"),
        (Mood::Refusing(Reject::Stopping), "系统繁忙,请稍后再试"),
        (Mood::Gone, "操作结果未知,请刷新后重试"),
        (Mood::Refusing(Reject::Retry), "操作结果未知,请刷新后重试"),
        (Mood::Refusing(Reject::Blocked), "您不能加入该群"),
        (Mood::Refusing(Reject::NoSuchGroup), "您要加入的群不存在"),
    ] {
        *rig.homes.mood.lock() = mood;
        let answer = as_bearer(&rig, &token, "/contact/joincommunity", "dstid=1");
        assert_eq!(answer.json(), format!(r#"{{"code":-1,"msg":"{msg}"}}"#));
    }
}

#[test]
fn the_list_serves_both_pages() {
    let rig = Rig::start();
    let (_, ann) = rig.user("1");
    let (_, bob) = rig.user("2");
    let empty = concat!(
        r#"{"code":0,"msg":"获取社群信息成功","rows":[],"total":0,"#,
        r#""data":{"comunitys":[],"communities":[],"group_map":{}}}"#
    );
    assert_eq!(as_bearer(&rig, &bob, "/contact/loadcommunity", "userid=2").json(), empty);
    as_bearer(&rig, &ann, "/contact/createcommunity", "name=Tea&cate=1");
    as_bearer(&rig, &bob, "/contact/createcommunity", "name=Wine");
    as_bearer(&rig, &bob, "/contact/joincommunity", "dstname=Tea");
    let groups = rig.memory.connect().groups().groups_of(UserId::new(2).expect("an id")).expect("memory");
    let rows: Vec<_> = groups
        .iter()
        .map(|(group, _)| {
            let createat = date::rfc3339(group.created_ms);
            let (id, name, owner, cate) = (group.id, &group.name, group.owner, group.cate);
            format!(
                concat!(r#"{{"id":{},"name":"{}","ownerid":{},"icon":"","cate":{},"memo":"","createat":"{}"}}"#),
                id, name, owner, cate, createat
            )
        })
        .collect();
    let rows = rows.join(",");
    let expected = format!(
        concat!(
            r#"{{"code":0,"msg":"获取社群信息成功","rows":[{rows}],"total":2,"#,
            r#""data":{{"comunitys":[{rows}],"communities":[{rows}],"group_map":{{"1":2,"2":1}}}}}}"#
        ),
        rows = rows
    );
    assert_eq!(as_bearer(&rig, &bob, "/contact/loadcommunity", "userid=2").json(), expected);
    let bearer = format!("Bearer {bob}");
    assert_eq!(rig.ask(Ask::get("/contact/loadcommunity", &[("Authorization", &bearer)])).json(), expected);
}

#[test]
fn the_claimed_user_chooses_among_cookies() {
    let rig = Rig::start();
    let (ann, a) = rig.user("1");
    let (bob, b) = rig.user("2");
    let both = format!("other=x; imgate_{}={a}; imgate_{}={b}", ann.id, bob.id);
    let create = |cookies: &str, form: &str| with_cookies(&rig, cookies, "/contact/createcommunity", form);
    assert_eq!(create(&both, "name=x&ownerid=2").at("/data/ownerid"), 2);
    assert_eq!(create(&both, "name=x&ownerid=1").at("/data/ownerid"), 1);
    assert_eq!(create(&both, "name=x&ownerid=3").json(), LOGIN, "nobody's cookie");
    assert_eq!(create(&both, "name=x&ownerid=-1").json(), LOGIN);
    assert_eq!(create(&both, "name=x").json(), LOGIN, "which of the two?");
    let one = format!("imgate_{}={b}", bob.id);
    assert_eq!(create(&one, "name=x").at("/data/ownerid"), 2, "the only identity acts");
    assert_eq!(create(&one, "name=x&ownerid=NaN").at("/data/ownerid"), 2);
    assert_eq!(create(&format!("imgate_1={b}"), "name=x").json(), LOGIN, "a token under another user's name");
}

#[test]
fn a_bearer_token_wins_over_the_cookie() {
    let rig = Rig::start();
    let (ann, a) = rig.user("1");
    let (_, b) = rig.user("2");
    let cookie = format!("imgate_{}={a}", ann.id);
    let ask = |bearer: &str, form: &str| {
        let headers = [FORM, ("Authorization", bearer), ("Cookie", cookie.as_str())];
        rig.ask(Ask { method: "POST", target: "/contact/createcommunity", headers: &headers, body: form })
    };
    assert_eq!(ask(&format!("Bearer {b}"), "name=x").at("/data/ownerid"), 2);
    assert_eq!(ask(&format!("bearer {b}"), "name=x&ownerid=1").json(), LOGIN, "the cookie does not help it");
    assert_eq!(ask("Bearer nonsense", "name=x").json(), LOGIN, "nor does it repair a bad one");
    assert_eq!(ask("Basic eDp5", "name=x").at("/data/ownerid"), 1, "a proxy's own credentials are no bearer");
}

#[test]
fn void_tokens_do_not_act() {
    let rig = Rig::start();
    let (ann, _) = rig.user("1");
    let load = |token: &str| as_bearer(&rig, token, "/contact/loadcommunity", "").json().to_owned();
    let later = clock::wall_ms() + 60_000;
    assert_eq!(load(&rig.key.issue(ann.id, 0, Issuer::FastIm, 1)), LOGIN, "expired");
    let nobody = UserId::new(4711).expect("an id");
    assert_eq!(load(&rig.key.issue(nobody, 0, Issuer::FastIm, later)), LOGIN, "a user who does not exist");
    let foreign = crate::auth::Key::new([8; 32]);
    assert_eq!(load(&foreign.issue(ann.id, 0, Issuer::FastIm, later)), LOGIN, "another key");
    assert!(load(&rig.key.issue(ann.id, 0, Issuer::Own, later)).starts_with(r#"{"code":0"#));
}

#[test]
fn a_cookie_is_not_the_wish_of_another_sites_page() {
    let rig = Rig::start();
    let (ann, token) = rig.user("1");
    let cookie = format!("imgate_{}={token}", ann.id);
    let load = |more: &[(&str, &str)]| {
        let headers = [&[FORM, ("Cookie", &cookie)], more].concat();
        let ask = Ask { method: "POST", target: "/contact/loadcommunity", headers: &headers, body: "userid=1" };
        rig.ask(ask).at("/code") == 0
    };
    assert!(load(&[]), "no browser, or an old one");
    assert!(load(&[("Origin", "http://gate.example")]) && load(&[("Origin", "https://GATE.example")]));
    let proxied = [("X-Forwarded-Host", "chat.example"), ("X-Forwarded-Proto", "https")];
    assert!(load(&[&[("Origin", "https://chat.example")], &proxied[..]].concat()), "behind a proxy");
    assert!(!load(&[("Origin", "https://evil.example"), ("X-Forwarded-Host", "evil.example")]), "which says more");
    assert!(load(&[("Origin", "https://chat.example"), ("Sec-Fetch-Site", "same-origin")]), "the browser knows");
    assert!(load(&[("Sec-Fetch-Site", "none")]), "typed by the user");
    for origin in ["http://gate.example:3000", "http://evil.example", "null", "gate.example"] {
        assert!(!load(&[("Origin", origin)]), "{origin}");
    }
    for site in ["cross-site", "same-site", "?"] {
        assert!(!load(&[("Sec-Fetch-Site", site)]), "{site}");
    }
    let bearer = format!("Bearer {token}");
    let headers = [FORM, ("Authorization", bearer.as_str()), ("Origin", "http://evil.example")];
    let ask = Ask { method: "POST", target: "/contact/loadcommunity", headers: &headers, body: "" };
    assert_eq!(rig.ask(ask).at("/code"), 0, "a token is not sent by itself");
}

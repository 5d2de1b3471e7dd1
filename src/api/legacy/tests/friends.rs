//! The originals' friends, and the profile; and whom they obey.

use crate::api::tests::rig::{Answered, Ask, FORM, Rig};
use crate::limits;
use crate::store::Backend;

const LOGIN: &str = r#"{"code":-1,"msg":"请先登录"}"#;

fn as_bearer(rig: &Rig, token: &str, path: &str, form: &str) -> Answered {
    let bearer = format!("Bearer {token}");
    rig.ask(Ask { method: "POST", target: path, headers: &[FORM, ("Authorization", &bearer)], body: form })
}

#[test]
fn a_friend_is_added_by_mobile_number_with_the_texts_of_fastim() {
    let rig = Rig::start();
    let (_, token) = rig.user("13800000001");
    let (bob, bobs) = rig.user("13800000002");
    let add = |form: &str| as_bearer(&rig, &token, "/contact/addfriend", form).json().to_owned();
    let failed = |msg: &str| format!(r#"{{"code":-1,"msg":"{msg}"}}"#);
    assert_eq!(add("dstname=13800000002&userid=1"), r#"{"code":0,"msg":"好友添加成功!"}"#);
    assert_eq!(add("dstname=13800000002&userid=1"), failed("该好友已经添加过了"));
    assert_eq!(add("dstname=13800000001&userid=1"), failed("不能添加自己为好友啊"));
    for form in ["dstname=13800000009&userid=1", "dstname=&userid=1", "userid=1", "dstid=NaN", "dstid=0"] {
        assert_eq!(add(form), failed("您要添加的好友不存在"), "{form}");
    }
    // Both ways, and the numbers stay private.
    let friends = as_bearer(&rig, &bobs, "/contact/loadfriend", "userid=2");
    assert_eq!((friends.at("/rows/0/id"), friends.at("/total")), (1.into(), 1.into()));
    assert_eq!((friends.at("/rows/0/mobile"), friends.at("/rows/0/token")), ("".into(), "".into()));
    let (eve, eves) = rig.user("3");
    rig.memory.connect().social().block(bob.id, eve.id, true).expect("memory");
    let refused = as_bearer(&rig, &eves, "/contact/addfriend", "dstname=13800000002");
    assert_eq!(refused.json(), failed("对方拒绝添加好友"));
}

#[test]
fn a_friend_is_added_by_number_with_the_texts_of_imchat() {
    let rig = Rig::start();
    let (_, token) = rig.user("13800000001");
    rig.user("13800000002");
    rig.user("13800000003");
    let add = |form: &str| as_bearer(&rig, &token, "/contact/addfriend", form).json().to_owned();
    let failed = |msg: &str| format!(r#"{{"code":-1,"msg":"{msg}"}}"#);
    assert_eq!(add("dstid=2&dstname=13800000003&userid=1"), r#"{"code":0,"msg":"好友添加成功"}"#, "the number wins");
    assert_eq!(add("dstid=2"), failed("该用户已经被添加过啦"));
    assert_eq!(add("dstid=1"), failed("不能添加自己为好友啊"));
    assert_eq!(add("dstid=77"), failed("该用户不存在"));
    assert_eq!(add("dstid=9007199254740992"), failed("该用户不存在"), "no id");
    let bearer = format!("Bearer {token}");
    let unbound =
        Ask { method: "POST", target: "/contact/addfriend", headers: &[("Authorization", &bearer)], body: "" };
    assert_eq!(rig.ask(unbound).json(), failed("当前方法暂不支持"));
    let list = as_bearer(&rig, &token, "/contact/loadfriend", "userid=1");
    assert_eq!((list.at("/rows/0/id"), list.at("/total")), (2.into(), 1.into()));
}

#[test]
fn nobody_acts_for_another() {
    let rig = Rig::start();
    let (_, token) = rig.user("1");
    rig.user("2");
    for (path, form) in [
        ("/contact/addfriend", "dstid=1&userid=2"),
        ("/contact/loadfriend", "userid=2"),
        ("/modification", "userid=2&nickname=x"),
        ("/modification", "id=2&nickname=x"),
    ] {
        assert_eq!(as_bearer(&rig, &token, path, form).json(), LOGIN, "{path} {form}");
        assert_eq!(rig.post(path, form).json(), LOGIN, "{path} {form}: nobody");
    }
    let empty = r#"{"code":0,"msg":"","rows":[],"total":0}"#;
    assert_eq!(as_bearer(&rig, &token, "/contact/loadfriend", "userid=1").json(), empty);
    let bearer = format!("Bearer {token}");
    assert_eq!(rig.ask(Ask::get("/contact/loadfriend", &[("Authorization", &bearer)])).json(), empty);
}

#[test]
fn a_link_on_a_foreign_page_changes_nothing() {
    let rig = Rig::start();
    let (ann, token) = rig.user("1");
    rig.user("2");
    // What a browser sends when its user follows a link: SameSite=Lax lets the cookie through, but
    // there is no form.
    let cookie = format!("imgate_{}={token}", ann.id);
    for target in
        ["/contact/addfriend?dstid=2&userid=1", "/contact/createcommunity?name=x", "/modification?nickname=x&userid=1"]
    {
        assert_eq!(rig.ask(Ask::get(target, &[("Cookie", &cookie)])).at("/code"), -1, "{target}");
    }
}

#[test]
fn a_profile_is_changed_field_by_field() {
    let rig = Rig::start();
    let (_, token) = rig.user("13800000001");
    let modify = |form: &str| as_bearer(&rig, &token, "/modification", form);
    let answer = modify("userid=1&nickname=Ann&sex=W&memo=hi");
    assert_eq!((answer.at("/code"), answer.at("/msg")), (0.into(), "修改成功".into()));
    assert_eq!((answer.at("/data/mobile"), answer.at("/data/token")), ("13800000001".into(), "".into()));
    let answer = modify("memo=&avatar=/a.png&passwd=x&mobile=2&token_epoch=7&sex=?");
    let shown = ["/data/nickname", "/data/memo", "/data/avatar", "/data/sex", "/data/mobile"];
    assert_eq!(shown.map(|at| answer.at(at)), ["Ann", "", "/a.png", "U", "13800000001"]);
    assert_eq!(["1", "2", "0"].map(|sex| modify(&format!("sex={sex}")).at("/data/sex")), ["M", "W", "U"], "IMChat's");
    let long = format!("nickname={}", "x".repeat(limits::NICKNAME_CHARS_MAX + 1));
    assert_eq!(modify(&long).json(), r#"{"code":-1,"msg":"昵称过长"}"#);
    let card = as_bearer(&rig, &token, "/user/find", "id=1");
    assert_eq!((card.at("/data/nickname"), card.at("/data/mobile")), ("Ann".into(), "".into()));
}

#[test]
fn wrong_passwords_come_to_an_end_and_right_ones_do_not() {
    let rig = Rig::start();
    rig.post("/user/register", "mobile=1&passwd=pw");
    for _ in 0..3 {
        assert_eq!(rig.post("/user/login", "mobile=1&passwd=pw").at("/code"), 0);
    }
    let failed = |msg: &str| format!(r#"{{"code":-1,"msg":"{msg}"}}"#);
    let mut wrong = 0;
    // One more comes back every so often while this runs.
    while rig.post("/login", "mobile=1&password=no").json() == failed("密码不正确") {
        wrong += 1;
        assert!(wrong < 10 * limits::ACCOUNT_ATTEMPTS_MAX, "unbounded");
    }
    assert!(wrong >= limits::ACCOUNT_ATTEMPTS_MAX, "too early: {wrong}");
    for password in ["no", "pw"] {
        let form = format!("mobile=1&passwd={password}");
        assert_eq!(rig.post("/user/login", &form).json(), failed("操作过于频繁,请稍后再试"));
    }
    assert_eq!(rig.post("/user/login", "mobile=2&passwd=no").json(), failed("用户不存在"), "other accounts are free");
}

#[test]
fn an_address_that_knocks_too_often_is_told() {
    let rig = Rig::start();
    let headers = [FORM, ("X-Forwarded-For", "203.0.113.5")];
    let ask = |body: &'static str| Ask { method: "POST", target: "/user/login", headers: &headers, body };
    let mut client = rig.client();
    let mut last = String::new();
    // One more comes back every so often while this runs, so the limit is passed by far.
    for n in 0..4 * limits::ADDRESS_ATTEMPTS_MAX {
        let long = "mobile=123456789012345678901&passwd=x";
        last = client.ask(ask(long)).json().to_owned();
        if last.contains("操作过于频繁") {
            assert!(n >= limits::ADDRESS_ATTEMPTS_MAX, "too early: {n}");
            break;
        }
    }
    assert_eq!(last, r#"{"code":-1,"msg":"操作过于频繁,请稍后再试"}"#);
    assert_eq!(rig.post("/user/login", "mobile=7&passwd=x").at("/msg"), "用户不存在", "others are free");
}

//! `/user/register`, `/user/login`, `/user/find` (fastIM), `/register`, `/login` (IMChat) and
//! `/modification`.

use axum::extract::State;
use axum::response::Response;

use super::binding::Asked;
use super::envelope::{FAILED, OK, failure, single};
use super::objects::LegacyUser;
use super::{NOT_LOGGED_IN, TOO_OFTEN, UNBOUND, store_failure, too_long};
use crate::api::app::App;
use crate::api::caller::agent;
use crate::api::services::accounts::{self, Card, LoginContext, NotLoggedIn, NotRegistered, Registration, UserToken};
use crate::api::services::logins::LoginDevice;
use crate::api::services::profiles::{self, NotChanged};
use crate::auth::{Identity, Issuer};
use crate::clock;
use crate::ids::{UserId, shard_of};
use crate::shard::Notice;
use crate::store::UserChange;

/// fastIM: any binding. Unlike there, `memo` is kept and JSON may carry the password.
pub(super) async fn register_fastim(State(app): State<App>, asked: Asked) -> Response {
    let fields = asked.bind().unwrap_or_default();
    let wish = Registration {
        mobile: fields.text("mobile").to_owned(),
        password: fields.text("passwd").to_owned(),
        nickname: fields.text("nickname").to_owned(),
        avatar: fields.text("avatar").to_owned(),
        sex: fields.text("sex").to_owned(),
        memo: fields.text("memo").to_owned(),
    };
    register(&app, &asked, wish, Issuer::FastIm, "该手机号已注册").await
}

/// IMChat: the form in the body only; its page never sends an avatar or a sex.
pub(super) async fn register_imchat(State(app): State<App>, asked: Asked) -> Response {
    let fields = asked.post_form();
    let wish = Registration {
        mobile: fields.text("mobile").to_owned(),
        password: fields.text("password").to_owned(),
        nickname: fields.text("nickname").to_owned(),
        sex: "U".to_owned(),
        ..Registration::default()
    };
    register(&app, &asked, wish, Issuer::ImChat, "该手机号已经被注册").await
}

fn context<'a>(asked: &'a Asked, presented: &'a [Identity], issuer: Issuer) -> LoginContext<'a> {
    let device = LoginDevice { from: asked.place().client, agent: agent(asked.headers()) };
    LoginContext { device, presented, issuer, now_ms: clock::wall_ms() }
}

/// What the request proves already.
fn presented(app: &App, asked: &Asked) -> Vec<Identity> {
    app.presented(asked.headers(), asked.place())
}

async fn register(app: &App, asked: &Asked, wish: Registration, issuer: Issuer, taken: &str) -> Response {
    match accounts::register(&app.services, wish, context(asked, &[], issuer)).await {
        Ok(account) => logged_in(app, asked, &account, ""),
        Err(NotRegistered::Incomplete) => failure("手机号和密码不能为空"),
        Err(NotRegistered::TooLong(field)) => failure(too_long(field)),
        Err(NotRegistered::Taken) => failure(taken),
        Err(NotRegistered::Closed) => failure("注册已关闭"),
        // Only our own API asks for these.
        Err(NotRegistered::BadMobile(_)) => failure("手机号格式不正确"),
        Err(NotRegistered::WeakPassword(_)) => failure("密码过于简单"),
        Err(NotRegistered::InvisibleName) => failure(INVISIBLE_NAME),
        Err(NotRegistered::TooOften) => failure(TOO_OFTEN),
        Err(NotRegistered::Store(why)) => failure(store_failure(why)),
    }
}

/// fastIM: says whether it is the user or the password.
pub(super) async fn login_fastim(State(app): State<App>, asked: Asked) -> Response {
    let fields = asked.post_form();
    let password = fields.text("passwd").to_owned();
    let presented = presented(&app, &asked);
    let context = context(&asked, &presented, Issuer::FastIm);
    match accounts::login(&app.services, fields.text("mobile"), password, context).await {
        Ok(account) => logged_in(&app, &asked, &account, ""),
        Err(NotLoggedIn::Incomplete) => failure("用户名或密码不正确"),
        Err(NotLoggedIn::Unknown) => failure("用户不存在"),
        Err(NotLoggedIn::WrongPassword) => failure("密码不正确"),
        Err(NotLoggedIn::Banned) => failure(BANNED),
        Err(NotLoggedIn::Locked | NotLoggedIn::TooOften) => failure(TOO_OFTEN),
        Err(NotLoggedIn::Store(why)) => failure(store_failure(why)),
    }
}

/// IMChat: one text for everything that is wrong.
pub(super) async fn login_imchat(State(app): State<App>, asked: Asked) -> Response {
    let fields = asked.post_form();
    let password = fields.text("password").to_owned();
    let presented = presented(&app, &asked);
    let context = context(&asked, &presented, Issuer::ImChat);
    match accounts::login(&app.services, fields.text("mobile"), password, context).await {
        Ok(account) => logged_in(&app, &asked, &account, "登陆成功"),
        Err(NotLoggedIn::Incomplete | NotLoggedIn::Unknown | NotLoggedIn::WrongPassword) => failure("密码不正确"),
        Err(NotLoggedIn::Banned) => failure(BANNED),
        Err(NotLoggedIn::Locked | NotLoggedIn::TooOften) => failure(TOO_OFTEN),
        Err(NotLoggedIn::Store(why)) => failure(store_failure(why)),
    }
}

/// The card of any user, for whoever is logged in; the pages that ask have the cookie of their
/// login. Everybody else gets the same blank card for every number, so that nobody reads the
/// directory of users without an account. Both pages take `data` without looking at `code` and
/// freeze without it, so it is always there.
pub(super) async fn find(State(app): State<App>, asked: Asked) -> Response {
    let Ok(fields) = asked.bind() else { return single(FAILED, UNBOUND, LegacyUser::stub(0)) };
    let Some(id) = u64::try_from(fields.int("id")).ok().and_then(UserId::new) else {
        return single(OK, FOUND, LegacyUser::stub(0));
    };
    let presented = presented(&app, &asked);
    let card = accounts::card(&app.services, &presented, id).await;
    if let Ok(Card::Of(_, readers)) = &card {
        for &reader in readers {
            let shard = shard_of(reader, app.services.homes.shards());
            app.services.tell(shard, Notice::Introduced { reader, of: id });
        }
    }
    match card {
        Ok(Card::Of(user, _)) => single(OK, FOUND, LegacyUser::shown(&user)),
        Ok(Card::Blank) => single(OK, FOUND, LegacyUser::stub(id.get())),
        Ok(Card::TooOften) => single(FAILED, TOO_OFTEN, LegacyUser::stub(id.get())),
        Err(why) => single(FAILED, store_failure(why), LegacyUser::stub(id.get())),
    }
}

/// Changes one's own profile. A field that is not there stays; one that is empty becomes so.
/// IMChat's page says the sex as 0, 1 or 2.
pub(super) async fn modify(State(app): State<App>, asked: Asked) -> Response {
    let Ok(fields) = asked.bind() else { return failure(UNBOUND) };
    let claimed = [fields.int("userid"), fields.int("id")].into_iter().find(|&id| id != 0).unwrap_or(0);
    let user = match asked.acting(&app, claimed).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let given = |name| fields.given(name).map(str::to_owned);
    let sex = given("sex").map(|sex| match sex.as_str() {
        "1" => "M".to_owned(),
        "2" => "W".to_owned(),
        _ => sex,
    });
    let change = UserChange { nickname: given("nickname"), avatar: given("avatar"), sex, memo: given("memo") };
    match profiles::update(&app.services, user, change).await {
        Ok(user) => single(OK, "修改成功", LegacyUser::mine(&user)),
        Err(NotChanged::TooLong(field)) => failure(too_long(field)),
        Err(NotChanged::Store(why)) => failure(store_failure(why)),
        Err(NotChanged::InvisibleName) => failure(INVISIBLE_NAME),
        // Only a password could be any of the others.
        Err(NotChanged::Gone | NotChanged::WeakPassword(_) | NotChanged::WrongPassword | NotChanged::TooOften) => {
            failure(NOT_LOGGED_IN)
        }
    }
}

fn logged_in(app: &App, asked: &Asked, account: &UserToken, msg: &str) -> Response {
    let mut response = single(OK, msg, LegacyUser::own(account));
    app.log_in(&mut response, (asked.headers(), asked.place()), (account.user.id, &account.token));
    response
}

const INVISIBLE_NAME: &str = "昵称不能全是空白";
const BANNED: &str = "该用户已被禁用";
const FOUND: &str = "获取用户信息成功";

//! `/contact/addfriend`, `/contact/loadfriend`: the texts of both originals.

use axum::extract::State;
use axum::response::Response;

use super::binding::Asked;
use super::envelope::{Rows, failure, success};
use super::objects::LegacyUser;
use super::{TOO_OFTEN, UNBOUND, store_failure};
use crate::api::app::App;
use crate::api::services::friends::{self, NotFriends, WantedFriend};
use crate::clock;
use crate::ids::UserId;
use crate::limits;

/// Adds by number (`dstid`, IMChat) or else by mobile number (`dstname`, fastIM); each has its own
/// texts.
pub(super) async fn add(State(app): State<App>, asked: Asked) -> Response {
    let Ok(fields) = asked.bind() else { return failure(UNBOUND) };
    let user = match asked.acting(&app, fields.int("userid")).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let id = u64::try_from(fields.int("dstid")).ok().filter(|&id| id > 0);
    let by_number = id.is_some();
    let wanted = match id {
        Some(id) => UserId::new(id).map(WantedFriend::Id),
        // An account without a mobile number is nobody's friend by that.
        None => Some(fields.text("dstname").trim())
            .filter(|name| !name.is_empty())
            .map(|name| WantedFriend::Mobile(name.into())),
    };
    let Some(wanted) = wanted else { return failure(if by_number { NOBODY } else { NOBODY_CALLED_SO }) };
    match (friends::add(&app.services, user, wanted, clock::wall_ms()).await, by_number) {
        (Ok((_, true)), true) => success("好友添加成功"),
        (Ok((_, true)), false) => success("好友添加成功!"),
        (Ok((_, false)), true) => failure("该用户已经被添加过啦"),
        (Ok((_, false)), false) => failure("该好友已经添加过了"),
        (Err(NotFriends::Yourself), _) => failure("不能添加自己为好友啊"),
        (Err(NotFriends::NoSuchUser), true) => failure(NOBODY),
        (Err(NotFriends::NoSuchUser), false) => failure(NOBODY_CALLED_SO),
        (Err(NotFriends::Blocked), _) => failure("对方拒绝添加好友"),
        (Err(NotFriends::TooMany | NotFriends::TooManyBlocks), _) => failure("好友数量已达上限"),
        (Err(NotFriends::TooOften), _) => failure(TOO_OFTEN),
        (Err(NotFriends::Store(why)), _) => failure(store_failure(why)),
    }
}

/// All friends, without their tokens and mobile numbers; of somebody whose friends write novels
/// about themselves, as many as an answer may hold.
pub(super) async fn load(State(app): State<App>, asked: Asked) -> Response {
    let fields = asked.bind().unwrap_or_default();
    let user = match asked.acting(&app, fields.int("userid")).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let mut rows = Rows::new(limits::HTTP_LIST_BYTES_MAX);
    let mut after = None;
    loop {
        let (found, more) = match friends::of(&app.services, user, after, limits::HTTP_LIST_ROWS_MAX).await {
            Ok(page) => page,
            Err(why) => return failure(store_failure(why)),
        };
        let all_fit = found.iter().all(|friend| rows.push(&LegacyUser::shown(&friend.user)));
        after = found.last().map(|friend| friend.user.id);
        if !(more && all_fit) {
            return rows.answer();
        }
    }
}

const NOBODY: &str = "该用户不存在";
const NOBODY_CALLED_SO: &str = "您要添加的好友不存在";

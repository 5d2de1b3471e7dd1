//! `/contact/createcommunity`, `/contact/joincommunity`, `/contact/loadcommunity`: one answer for
//! both originals.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;

use super::binding::Asked;
use super::envelope::{OK, Rows, failure, single, success};
use super::objects::Community;
use super::{NOT_LOGGED_IN, store_failure, too_long};
use crate::api::app::App;
use crate::api::services::groups::{self, NotCreated, NotJoined, WantedGroup, Wish};
use crate::clock;
use crate::ids::GroupId;
use crate::limits;
use crate::store::Rule;
use crate::wire::Reject;

/// Makes a group; unlike the originals it answers with the group that was made.
pub(super) async fn create(State(app): State<App>, asked: Asked) -> Response {
    let fields = asked.bind().unwrap_or_default();
    let wish = Wish {
        name: fields.text("name").to_owned(),
        icon: fields.text("icon").to_owned(),
        cate: fields.int("cate"),
        memo: fields.text("memo").to_owned(),
        rule: Rule::Plain,
    };
    // The originals look at the name before they look at who asks.
    if let Err(why) = groups::check(&wish) {
        return not_created(why);
    }
    let owner = match asked.acting(&app, fields.int("ownerid")).await {
        Ok(owner) => owner,
        Err(refusal) => return refusal,
    };
    match groups::create(&app.services, owner, wish, clock::wall_ms()).await {
        Ok(group) => single(OK, "", Community::new(&group)),
        Err(why) => not_created(why),
    }
}

fn not_created(why: NotCreated) -> Response {
    failure(match why {
        NotCreated::Nameless => "缺少群名称",
        NotCreated::TooLong(field) => too_long(field),
        NotCreated::TooMany => "一个用户最多只能创见5个群",
        // No member is added here.
        NotCreated::NotFriends => "您不能加入该群",
        NotCreated::Store(why) => store_failure(why),
    })
}

/// Joins by number (`dstid`, IMChat) or else by name (`dstname`, fastIM).
pub(super) async fn join(State(app): State<App>, asked: Asked) -> Response {
    let fields = asked.bind().unwrap_or_default();
    let user = match asked.acting(&app, fields.int("userid")).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let wanted = match fields.int("dstid") {
        id if id > 0 => u64::try_from(id).ok().and_then(GroupId::new).map(WantedGroup::Id),
        _ => Some(fields.text("dstname").trim())
            .filter(|name| !name.is_empty())
            .map(|name| WantedGroup::Name(name.to_owned())),
    };
    let Some(wanted) = wanted else { return failure(NO_SUCH_GROUP) };
    match groups::join(&app.services, user, wanted, clock::wall_ms()).await {
        Ok(_) => success("加群成功"),
        Err(NotJoined::NoSuchGroup) => failure(NO_SUCH_GROUP),
        Err(NotJoined::Refused(Reject::NoSuchUser)) => failure(NOT_LOGGED_IN),
        Err(NotJoined::Asked) => failure("已申请加入,请等待管理员同意"),
        Err(NotJoined::Refused(_) | NotJoined::TooManyAsked) => failure("您不能加入该群"),
        Err(NotJoined::Store(why)) => failure(store_failure(why)),
    }
}

/// The groups of the user, in both originals' forms at once: IMChat's has a second list, spelled
/// `comunitys`, and the members by number of the group, sorted as texts, as Go writes a map.
pub(super) async fn load(State(app): State<App>, asked: Asked) -> Response {
    let fields = asked.bind().unwrap_or_default();
    let user = match asked.acting(&app, fields.int("userid")).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    // The rows stand in the answer three times.
    let mut rows = Rows::new(limits::HTTP_LIST_BYTES_MAX / 3);
    let (mut after, mut group_map) = (None, BTreeMap::new());
    loop {
        let (found, more) = match groups::of(&app.services, user, after, limits::HTTP_LIST_ROWS_MAX).await {
            Ok(page) => page,
            Err(why) => return failure(store_failure(why)),
        };
        let fitting = found.iter().take_while(|(group, _)| rows.push(&Community::new(group)));
        let fitting: Vec<_> = fitting.map(|(group, members)| (group.id.to_string(), *members)).collect();
        let all_fit = fitting.len() == found.len();
        group_map.extend(fitting);
        after = found.last().map(|(group, _)| group.id);
        if !(more && all_fit) {
            break;
        }
    }
    let members = serde_json::to_string(&group_map).unwrap_or_default();
    let groups = rows.array();
    // im-system's page reads the right spelling, IMChat's the other one.
    let data = format!(r#"{{"comunitys":{groups},"communities":{groups},"group_map":{members}}}"#);
    rows.answer_with("获取社群信息成功", &data)
}

const NO_SUCH_GROUP: &str = "您要加入的群不存在";

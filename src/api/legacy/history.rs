//! `GET /message/history`: a page of one conversation, in the envelope of the old systems.
//!
//! Query: as [`PageWish::parse`] reads it, and `userid` (optional claim).

use axum::extract::State;
use axum::response::Response;

use super::binding::Asked;
use super::envelope::failure;
use super::store_failure;
use crate::api::app::App;
use crate::api::history::{PageWish, rows, standing};
use crate::api::json::json;
use crate::api::services::history::{self, NoPage};
use crate::ids::ConvId;
use crate::store::{Page, Refusal};

/// The handler.
pub(super) async fn history(State(app): State<App>, asked: Asked) -> Response {
    let reader = match asked.acting(&app, asked.query().int("userid")).await {
        Ok(reader) => reader,
        Err(refusal) => return refusal,
    };
    let Some(wish) = PageWish::parse(asked.query_text(), reader) else { return failure("参数错误") };
    match history::page(&app.services, reader, wish.conv, wish.from, wish.rows).await {
        Ok(page) => json(written(wish.conv, &page)),
        Err(NoPage::Refused(Refusal::NoSuchGroup)) => failure("群不存在"),
        Err(NoPage::Refused(Refusal::NoSuchUser)) => failure("用户不存在"),
        Err(NoPage::Refused(_)) => failure("您不是该会话的成员"),
        Err(NoPage::Store(why)) => failure(store_failure(why)),
    }
}

/// The envelope around the messages.
fn written(conv: ConvId, page: &Page) -> String {
    let (rows, total, standing) = (rows(conv, page), page.rows.len(), standing(page));
    format!(r#"{{"code":0,"msg":"","rows":{rows},"total":{total},"data":{{{standing}}}}}"#)
}

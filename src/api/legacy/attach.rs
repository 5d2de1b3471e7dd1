//! `/attach/upload`: the upload of the old pages.
//!
//! A form with a part `file`; the first one wins. The part `filetype` and the file's own name are
//! not looked at: the content decides. The answer's `data` is an absolute path, which the pages of
//! both originals take.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use super::envelope::{OK, failure, single};
use super::form::FormFile;
use super::multipart::Multipart;
use super::{NOT_LOGGED_IN, TOO_OFTEN, store_failure};
use crate::api::app::App;
use crate::api::caller;
use crate::api::services::{StoreFailure, accounts};
use crate::api::uploads::NotKept;
use crate::api::uploads::blobs::Kept;
use crate::api::uploads::intake::{Incoming, Intake};
use crate::caller::Place;
use crate::ids::UserId;

/// The handler.
pub(super) async fn upload(State(app): State<App>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let form = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(Multipart::of);
    let Some(form) = form else { return refused(Intake::new(&head.headers, body), "请选择要上传的文件") };
    let mut file = FormFile::new(&head.headers, body, form);
    let place = caller::place(&head.extensions);
    let user = match somebody(&app, &head.headers, place).await {
        Ok(user) => user,
        Err(why) => return refused(file.into_body(), store_failure(why)),
    };
    if user.is_none() {
        if app.pages.is_none() && !is_registering(&head.headers) {
            return refused(file.into_body(), NOT_LOGGED_IN);
        }
        if !app.services.attempts.portrait(place.client) {
            return refused(file.into_body(), TOO_OFTEN);
        }
    }
    match taken(&app, &mut file, user, place.client).await {
        Ok(kept) => {
            file.into_body().linger();
            single(OK, "", format!("/resource/{}", kept.name))
        }
        Err(why) => refused(file.into_body(), text(&why)),
    }
}

async fn taken(app: &App, file: &mut FormFile, user: Option<UserId>, address: IpAddr) -> Result<Kept, NotKept> {
    let uploads = &app.uploads;
    // Before the first byte: who announces too much is told at once.
    if file.declared().is_some_and(|declared| declared > uploads.bytes_max()) {
        return Err(if uploads.bytes_max() == 0 { NotKept::Off } else { NotKept::TooLarge });
    }
    if !file.find("file").await? {
        return Err(NotKept::Empty);
    }
    match user {
        Some(user) => uploads.take(&app.services, (user, address), file, None).await,
        None => uploads.take_portrait(&app.services, address, file).await,
    }
}

/// The first of the users that a request presents who may act: the pages do not say which of them
/// uploads.
async fn somebody(app: &App, headers: &HeaderMap, place: Place) -> Result<Option<UserId>, StoreFailure> {
    for identity in app.presented(headers, place) {
        if let Some(user) = accounts::acting(&app.services, identity).await? {
            return Ok(Some(user));
        }
    }
    Ok(None)
}

/// Whether the page of registration asks: it uploads the avatar before there is a user. Anybody
/// may write this header, so it allows no more than that page needs.
fn is_registering(headers: &HeaderMap) -> bool {
    let page = headers.get(header::REFERER).and_then(|value| value.to_str().ok());
    page.and_then(|page| page.split(['?', '#']).next()).is_some_and(|page| page.ends_with("/register.shtml"))
}

const fn text(why: &NotKept) -> &'static str {
    match why {
        NotKept::Off => "本站不支持上传文件",
        NotKept::Empty => "请选择要上传的文件",
        NotKept::TooLarge => "文件过大",
        NotKept::Cut | NotKept::Other => "文件上传不完整",
        NotKept::Guest => NOT_LOGGED_IN,
        NotKept::BrokenPicture => "图片无法识别",
        NotKept::TooManyPixels => "图片尺寸过大",
        NotKept::PlaceTrack => "视频含有位置轨迹,无法上传",
        NotKept::BadBoxes => "视频无法识别",
        NotKept::NoSpace => "存储空间不足",
        NotKept::TooOften => TOO_OFTEN,
        NotKept::OverQuota => "您的文件已达到存储上限",
        NotKept::Store(why) => store_failure(*why),
        NotKept::Busy => store_failure(StoreFailure::Busy),
        NotKept::Disk(_) => store_failure(StoreFailure::Broken),
        NotKept::Unavailable => "文件存储暂时不可用,请稍后再试",
    }
}

/// The refusal, which ends the connection while something still comes.
fn refused(intake: Intake, msg: &str) -> Response<Body> {
    let mut response = failure(msg);
    if intake.linger() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

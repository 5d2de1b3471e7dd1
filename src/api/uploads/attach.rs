//! `/attach/upload`: the upload of the old pages (contract, A.7).
//!
//! A form with a part `file`; the first one wins. The part `filetype` and the file's own name are not looked at: the
//! content decides. The answer's `data` is an absolute path, which the pages of both originals take.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use super::intake::Intake;
use super::multipart::Multipart;
use super::stock::Kept;
use super::{NotKept, Uploader, Uploads};
use crate::api::envelope::{OK, failure, single};
use crate::api::legacy::{NOT_LOGGED_IN, TOO_OFTEN, trouble};
use crate::api::services::{Services, Trouble, accounts};
use crate::api::{App, caller, origin};
use crate::clock;

/// The handler.
pub(super) async fn upload(State(app): State<App>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let form = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(Multipart::of);
    let Some(form) = form else { return refused(Intake::raw(&head.headers, body), "请选择要上传的文件") };
    let mut intake = Intake::form(&head.headers, body, form);
    let who = match somebody(&app.services, &head.headers).await {
        Ok(true) => Uploader::User,
        Ok(false) if app.pages.is_none() => return refused(intake, NOT_LOGGED_IN),
        Ok(false) => Uploader::Guest,
        Err(why) => return refused(intake, trouble(why)),
    };
    if who == Uploader::Guest && !app.services.attempts.from_address(origin::of(&head.extensions, &head.headers)) {
        return refused(intake, TOO_OFTEN);
    }
    match taken(&app.uploads, &mut intake, who).await {
        Ok(kept) => {
            intake.linger();
            single(OK, "", format!("/resource/{}", kept.name))
        }
        Err(why) => refused(intake, text(&why)),
    }
}

async fn taken(uploads: &Uploads, intake: &mut Intake, who: Uploader) -> Result<Kept, NotKept> {
    // Before the first byte: who announces too much is told at once.
    if intake.declared().is_some_and(|declared| declared > uploads.bytes_max_of(who)) {
        return Err(if uploads.bytes_max_of(who) == 0 { NotKept::Off } else { NotKept::TooLarge });
    }
    if !intake.find("file").await? {
        return Err(NotKept::Empty);
    }
    uploads.take_from(intake, who, None).await
}

/// Whether any of the users that a request presents may act: the pages do not say which of them uploads.
async fn somebody(services: &Services, headers: &HeaderMap) -> Result<bool, Trouble> {
    for identity in caller::presented(headers, &services.key, clock::wall_ms()) {
        if accounts::acting(services, identity).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
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
        NotKept::NoRoom => "存储空间不足",
        NotKept::Busy => trouble(Trouble::Busy),
        NotKept::Disk(_) => trouble(Trouble::Broken),
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

//! Uploads for our own clients: the body is the file, and who has its digest need not send it.

use axum::body::Body as Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::asking::{Actor, Body, Caller, Params};
use super::refusal::{self, Refusal};
use super::{answer, refusal::Failure};
use crate::api::app::App;
use crate::api::uploads::NotKept;
use crate::api::uploads::blobs::{Digest, Kept};
use crate::api::uploads::intake::Intake;
use crate::api::uploads::naming::plain;

/// A file that is kept.
#[derive(Serialize, ToSchema)]
pub(super) struct File {
    /// Where it is served, for everybody who knows this; `?name=` says under which name it is
    /// saved. Tells nothing of the content, and stays as long as the file does.
    #[schema(example = "/files/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.png")]
    url: String,
    /// A small one, of pictures that are larger than 320 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    thumb: Option<String>,
    /// Of what is served. Pictures are made anew, so it may differ from what was sent.
    sha256: String,
    /// Bytes of what is served.
    size: u64,
    /// As what it is served, told from the content.
    #[serde(rename = "type")]
    kind: String,
    /// Pixels, of a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    /// Pixels, of a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    /// As the client calls it: the last part of what it said, without control characters.
    name: String,
}

/// How a file is called and how long it is, as the client says.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Label {
    /// For people; comes back in the answer.
    #[serde(default)]
    name: String,
    /// Bytes, for bodies without `Content-Length`.
    size: Option<u64>,
}

/// A file that may be here already.
#[derive(Deserialize, ToSchema)]
pub(super) struct Claim {
    /// Of the file as it would be sent, in hexadecimal digits.
    #[schema(pattern = "^[0-9A-Fa-f]{64}$")]
    sha256: String,
    /// For people; comes back in the answer.
    #[serde(default)]
    name: String,
}

/// Keeps a file; the body is its content. What it is, is told from the content. Pictures are made
/// anew, without what was not seen in them; films lose the place where they were taken.
#[utoipa::path(post, path = "/api/v1/files", tag = "files",
    params(Label, ("X-Content-Sha256" = Option<String>, Header, pattern = "^[0-9A-Fa-f]{64}$",
        description = "The body's; another body is refused")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = File), (status = "4XX", body = Failure)))]
pub(super) async fn upload(
    State(app): State<App>,
    actor: Result<Actor, Refusal>,
    caller: Caller,
    label: Result<Params<Label>, Refusal>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut intake = Intake::new(&headers, body);
    let taken = async {
        let Actor(user) = actor?;
        let Params(label) = label?;
        if is_form(&headers) {
            return Err(refusal::FORM);
        }
        let announced = match headers.get("x-content-sha256") {
            None => None,
            Some(value) => Some(value.to_str().ok().and_then(Digest::parse).ok_or(refusal::BAD_DIGEST)?),
        };
        if label.size.is_some_and(|size| size > app.uploads.bytes_max()) && app.uploads.bytes_max() > 0 {
            return Err(refusal::TOO_LARGE);
        }
        let kept = app.uploads.take(&app.services, (user, caller.address()), &mut intake, announced).await?;
        Ok::<_, Refusal>(shown(kept, &label.name))
    };
    let taken = taken.await;
    let unread = intake.linger();
    match taken {
        Ok(file) => answer(StatusCode::CREATED, &file),
        Err(why) => {
            let mut response = why.into_response();
            if unread {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }
}

/// Whether the body is a form with parts, whatever is in it.
fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("multipart/form-data"))
}

/// Whether the user who asks has uploaded a file of this content before. Then it is as if it had
/// been sent again. What others have uploaded is never told.
#[utoipa::path(post, path = "/api/v1/files/claim", tag = "files", request_body = Claim,
    responses((status = 200, body = File), (status = "4XX", body = Failure)))]
pub(super) async fn claim(
    State(app): State<App>,
    Actor(user): Actor,
    Body(claim): Body<Claim>,
) -> Result<Response, Refusal> {
    let digest = Digest::parse(&claim.sha256).ok_or(refusal::BAD_DIGEST)?;
    let kept = app.uploads.claimed(&app.services, user, digest).await?.ok_or(refusal::NOT_STORED)?;
    Ok(answer(StatusCode::OK, &shown(kept, &claim.name)))
}

fn shown(kept: Kept, name: &str) -> File {
    let Kept { name: stored, thumb, sha256, size, mime, width, height } = kept;
    let thumb = thumb.map(|name| format!("/files/{name}"));
    File { url: format!("/files/{stored}"), thumb, sha256, size, kind: mime, width, height, name: plain(name) }
}

impl From<NotKept> for Refusal {
    fn from(why: NotKept) -> Self {
        match why {
            NotKept::Off => refusal::UPLOADS_OFF,
            NotKept::Empty => refusal::EMPTY_FILE,
            NotKept::TooLarge => refusal::TOO_LARGE,
            NotKept::Cut => refusal::CUT_OFF,
            NotKept::Other => refusal::OTHER_CONTENT,
            #[cfg(feature = "legacy")]
            NotKept::Guest => refusal::NOT_LOGGED_IN,
            NotKept::BrokenPicture => refusal::BAD_PICTURE,
            NotKept::TooManyPixels => refusal::TOO_MANY_PIXELS,
            NotKept::PlaceTrack => refusal::PLACE_TRACK,
            NotKept::BadBoxes => refusal::BAD_FILM,
            NotKept::NoSpace => refusal::DISK_FULL,
            NotKept::Busy => refusal::BUSY,
            NotKept::TooOften => refusal::TOO_OFTEN,
            NotKept::OverQuota => refusal::OVER_QUOTA,
            NotKept::Store(why) => why.into(),
            NotKept::Disk(_) => refusal::BROKEN,
            NotKept::Unavailable => refusal::FILES_AWAY,
        }
    }
}

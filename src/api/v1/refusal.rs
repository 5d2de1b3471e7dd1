//! What `/api/v1` says when it does not do what it was asked.
//!
//! Owns: the list of all refusals: status, code, English text.
//! Never: another body than `{"error":{"code":…,"msg":…}}`, and never the database's own words.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::services::StoreFailure;
use crate::api::services::accounts::{NotLoggedIn, NotRegistered, OverlongField};
use crate::api::services::admissions::{NoRole, NotAdded};
use crate::api::services::friends::NotFriends;
use crate::api::services::groups::{NotCreated, NotDone, NotJoined};
use crate::api::services::identities::{BadMobile, Weak};
use crate::api::services::profiles::NotChanged;
use crate::store::Refusal as Judged;
use crate::wire::Reject;

/// A refusal. The code is for programs and never changes; the text is for whoever writes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    msg: &'static str,
}

/// The body of every answer that is no success.
#[derive(Serialize, ToSchema)]
pub(super) struct Failure {
    error: Problem,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct Problem {
    /// For programs: one of the codes in docs/http.md.
    #[schema(example = "not_logged_in")]
    code: &'static str,
    /// For people.
    msg: &'static str,
}

impl Problem {
    /// Whether what was asked for may have been done all the same.
    pub(super) fn is_unsure(&self) -> bool {
        self.code == UNSURE.code
    }
}

impl From<Refusal> for Problem {
    fn from(why: Refusal) -> Self {
        Self { code: why.code, msg: why.msg }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let failure = Failure { error: self.into() };
        let mut response = super::answer(self.status, &failure);
        if self.code == FILES_AWAY.code {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(FILES_RETRY_SECS));
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = if self.code == TOO_FAST.code { "1" } else { ATTEMPTS_RETRY_SECS };
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        response
    }
}

/// What every 401 carries (RFC 9110, section 15.5.2): without it the clients of some platforms fail
/// instead of showing the answer. For this scheme browsers open no dialog.
const CHALLENGE: &str = "Bearer";

/// When to come back after too many attempts (RFC 9110, section 10.2.3): their bounds are per
/// minute.
const ATTEMPTS_RETRY_SECS: &str = "60";

/// When to come back while the store of files is away: it is tried every second.
const FILES_RETRY_SECS: &str = "2";

const fn refusal(status: StatusCode, code: &'static str, msg: &'static str) -> Refusal {
    Refusal { status, code, msg }
}

pub(super) const BAD_JSON: Refusal =
    refusal(StatusCode::BAD_REQUEST, "bad_json", "the body is not the JSON object that this call wants");
pub(super) const BAD_QUERY: Refusal = refusal(
    StatusCode::BAD_REQUEST,
    "bad_query",
    "a parameter of the URL is missing, wrong, or does not go with another",
);
pub(super) const BAD_USER_HEADER: Refusal =
    refusal(StatusCode::BAD_REQUEST, "bad_user_header", "X-Imgate-User is not a user id");
pub(super) const NOT_LOGGED_IN: Refusal =
    refusal(StatusCode::UNAUTHORIZED, "not_logged_in", "log in first, as the user that X-Imgate-User names");
pub(super) const WRONG_LOGIN: Refusal =
    refusal(StatusCode::UNAUTHORIZED, "wrong_login", "mobile number or password is wrong");
pub(super) const MISSING_USER_HEADER: Refusal = refusal(
    StatusCode::FORBIDDEN,
    "missing_user_header",
    "a call with a cookie that changes something carries X-Imgate-User",
);
pub(super) const NOT_FOUND: Refusal = refusal(StatusCode::NOT_FOUND, "not_found", "there is no such call");
pub(super) const NO_SUCH_USER: Refusal = refusal(StatusCode::NOT_FOUND, "no_such_user", "there is no such user");
pub(super) const NO_SUCH_GROUP: Refusal = refusal(StatusCode::NOT_FOUND, "no_such_group", "there is no such group");
pub(super) const METHOD_NOT_ALLOWED: Refusal =
    refusal(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this call has another method");
pub(super) const TOO_LARGE: Refusal = refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large");
pub(super) const NOT_JSON: Refusal =
    refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "the Content-Type of a body is application/json");
pub(super) const ENCODED: Refusal = refusal(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "encoded",
    "the body is compressed; send it without a Content-Encoding",
);
pub(super) const BAD_DIGEST: Refusal =
    refusal(StatusCode::BAD_REQUEST, "bad_digest", "a SHA-256 has 64 hexadecimal digits");
pub(super) const EMPTY_FILE: Refusal = refusal(StatusCode::BAD_REQUEST, "empty_file", "the body is empty");
pub(super) const CUT_OFF: Refusal =
    refusal(StatusCode::BAD_REQUEST, "cut_off", "the body ended early or came too slowly");
pub(super) const OTHER_CONTENT: Refusal =
    refusal(StatusCode::BAD_REQUEST, "other_content", "the body has another SHA-256 than X-Content-Sha256 says");
pub(super) const UPLOADS_OFF: Refusal = refusal(StatusCode::FORBIDDEN, "uploads_off", "this gateway takes no files");
pub(super) const NOT_STORED: Refusal = refusal(StatusCode::NOT_FOUND, "not_stored", "this file is not here; send it");
pub(super) const TOO_MANY_PIXELS: Refusal =
    refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_many_pixels", "the picture has too many pixels or frames");
pub(super) const BAD_PICTURE: Refusal =
    refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_picture", "the picture cannot be read");
pub(super) const FORM: Refusal =
    refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "form", "the body is the file itself; a form goes to /attach/upload");
pub(super) const PLACE_TRACK: Refusal = refusal(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "place_track",
    "the film says at every moment where it was taken; remove that track first",
);
pub(super) const BAD_FILM: Refusal =
    refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_film", "the film is made of more pieces than any camera writes");
pub(super) const DISK_FULL: Refusal =
    refusal(StatusCode::SERVICE_UNAVAILABLE, "disk_full", "there is no room for files");
pub(super) const FILES_AWAY: Refusal =
    refusal(StatusCode::SERVICE_UNAVAILABLE, "files_away", "the store of files does not answer; not done, try again");
const REGISTRATION_CLOSED: Refusal =
    refusal(StatusCode::FORBIDDEN, "registration_closed", "this gateway's operator makes the accounts");
const SHORT_PASSWORD: Refusal = bad_field("a password has at least 8 characters");
const PASSWORD_IS_NAME: Refusal = weak_password("a password is not the login name");
const COMMON_PASSWORD: Refusal = weak_password("this password is among the first that anybody tries");
const BAD_NUMBER: Refusal = bad_mobile("a telephone number has 5 to 15 digits");
const BAD_NAME: Refusal =
    bad_mobile("a login name has 2 characters at least: letters and digits, and . _ - @ between them");
pub(super) const NO_SUCH_LOGIN: Refusal = refusal(StatusCode::NOT_FOUND, "no_such_login", "there is no such login");
const INVISIBLE_NAME: Refusal = bad_field("nothing of this name can be seen");
const LOCKED: Refusal = refusal(
    StatusCode::TOO_MANY_REQUESTS,
    "locked",
    "too many wrong passwords of this account from this network; try again in a minute, or from elsewhere",
);
const BANNED: Refusal = refusal(StatusCode::FORBIDDEN, "banned", "this user is banned");
const BLOCKED: Refusal = refusal(StatusCode::FORBIDDEN, "blocked", "the other user has blocked you");
const NOT_OWNER: Refusal = refusal(StatusCode::FORBIDDEN, "not_owner", "only the owner of the group may do this");
const NOT_ADMIN: Refusal =
    refusal(StatusCode::FORBIDDEN, "not_admin", "only the owner and the admins of the group may do this");
const NOT_FRIEND: Refusal = refusal(StatusCode::FORBIDDEN, "not_friend", "only friends are added, at most 100 at once");
const NO_ROLE: Refusal =
    refusal(StatusCode::CONFLICT, "no_role", "no member of the group, or it has as many admins as it may");
const TOO_MANY_ASKED: Refusal =
    refusal(StatusCode::CONFLICT, "too_many_asked", "too many requests to be let into groups are unanswered");
const NOT_MEMBER: Refusal = refusal(StatusCode::FORBIDDEN, "not_member", "only members of the group may do this");
const MOBILE_TAKEN: Refusal = refusal(StatusCode::CONFLICT, "mobile_taken", "this mobile number is registered");
const YOURSELF: Refusal = refusal(StatusCode::CONFLICT, "yourself", "that is you");
const TOO_MANY_FRIENDS: Refusal =
    refusal(StatusCode::CONFLICT, "too_many_friends", "one of the two has too many friends");
const TOO_MANY_BLOCKS: Refusal =
    refusal(StatusCode::CONFLICT, "too_many_blocks", "you have blocked as many as one may");
const TOO_MANY_GROUPS: Refusal = refusal(StatusCode::CONFLICT, "too_many_groups", "you have too many groups");
const OWNER_LEAVES: Refusal =
    refusal(StatusCode::CONFLICT, "owner_leaves", "the owner of a group cannot leave it; dissolve it instead");
pub(super) const BAD_KIND: Refusal = refusal(StatusCode::BAD_REQUEST, "bad_field", "kind is 10 or 11");
pub(super) const NO_SUCH_MESSAGE: Refusal =
    refusal(StatusCode::NOT_FOUND, "no_such_message", "there is no such message to recall");
pub(super) const NO_KEY: Refusal = refusal(
    StatusCode::UNAUTHORIZED,
    "no_key",
    "this call wants the key of a backend, and this is none, or none any more",
);
pub(super) const NO_SCOPE: Refusal = refusal(StatusCode::FORBIDDEN, "no_scope", "the key may not do this");
pub(super) const TOO_FAST: Refusal =
    refusal(StatusCode::TOO_MANY_REQUESTS, "too_fast", "more calls than the key may make in a second, or at once");
pub(super) const TOO_MANY_MESSAGES: Refusal =
    refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_many_messages", "at most 100 messages in a call");
pub(super) const TOO_MANY_MEMBERS: Refusal =
    refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_many_members", "at most 100 members in a call");
pub(super) const BAD_ADDRESSEE: Refusal = bad_field("to names one of user, group and all");
pub(super) const STORED_FOR_ALL: Refusal = bad_field("what is said to all is not stored: store is false");
pub(super) const BAD_SUBJECT: Refusal = bad_field("a subject has 1 to 255 characters");
pub(super) const BAD_NEW_USER: Refusal =
    bad_field("a user has a subject or a mobile; password, sex and memo go with mobile only");
pub(super) const BAD_USERS: Refusal = bad_field("users are ids from 1 to 9007199254740991, at most 1,000");
const BAD_MESSAGE: Refusal = refusal(
    StatusCode::BAD_REQUEST,
    "bad_message",
    "the message has a field that no message has so: see docs/protocol.md",
);
const CID_REUSED: Refusal = refusal(StatusCode::CONFLICT, "cid_reused", "this cid was used for another conversation");

/// Why a message is not sent.
pub(super) fn of_message(why: Reject) -> Refusal {
    match why {
        Reject::Malformed | Reject::UnknownCommand | Reject::BadField | Reject::BadMedia => BAD_MESSAGE,
        Reject::CidReused => CID_REUSED,
        why => why.into(),
    }
}

const NOT_YOURS: Refusal = refusal(StatusCode::FORBIDDEN, "not_yours", "only your own messages can be recalled");
const TOO_LATE: Refusal = refusal(StatusCode::CONFLICT, "too_late", "the message is too old to be recalled");
pub(super) const OVER_QUOTA: Refusal =
    refusal(StatusCode::FORBIDDEN, "over_quota", "your files weigh as much as they may");
pub(super) const TOO_OFTEN: Refusal =
    refusal(StatusCode::TOO_MANY_REQUESTS, "too_often", "too many attempts; try again in a minute");
pub(super) const TOO_MANY_REQUESTS: Refusal = refusal(
    StatusCode::TOO_MANY_REQUESTS,
    "too_many_requests",
    "too many requests of this user at once; try again when one has ended",
);
pub(super) const BUSY: Refusal = refusal(StatusCode::SERVICE_UNAVAILABLE, "busy", "not done; try again");
const UNSURE: Refusal =
    refusal(StatusCode::SERVICE_UNAVAILABLE, "unsure", "done or not done, nobody knows; look before you try again");
pub(super) const BROKEN: Refusal =
    refusal(StatusCode::SERVICE_UNAVAILABLE, "broken", "the database is broken; trying again does not help");

/// A field that is missing, or too long for its column.
const fn bad_field(msg: &'static str) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "bad_field", msg)
}

const fn weak_password(msg: &'static str) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "weak_password", msg)
}

const fn bad_mobile(msg: &'static str) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "bad_mobile", msg)
}

impl From<Weak> for Refusal {
    fn from(why: Weak) -> Self {
        match why {
            Weak::Short => SHORT_PASSWORD,
            Weak::LoginName => PASSWORD_IS_NAME,
            Weak::Common => COMMON_PASSWORD,
        }
    }
}

impl From<OverlongField> for Refusal {
    fn from(field: OverlongField) -> Self {
        bad_field(match field {
            OverlongField::Mobile => "mobile is too long",
            OverlongField::Password => "password is too long",
            OverlongField::Nickname => "nickname is too long",
            OverlongField::Icon => "avatar or icon is too long",
            OverlongField::Memo => "memo is too long",
            OverlongField::GroupName => "name is too long",
        })
    }
}

impl From<StoreFailure> for Refusal {
    fn from(why: StoreFailure) -> Self {
        match why {
            StoreFailure::Busy => BUSY,
            StoreFailure::Unsure => UNSURE,
            StoreFailure::Broken => BROKEN,
        }
    }
}

impl From<NotRegistered> for Refusal {
    fn from(why: NotRegistered) -> Self {
        match why {
            NotRegistered::Incomplete => bad_field("mobile and password may not be empty"),
            NotRegistered::TooLong(field) => field.into(),
            NotRegistered::Taken => MOBILE_TAKEN,
            NotRegistered::Closed => REGISTRATION_CLOSED,
            NotRegistered::BadMobile(BadMobile::Number) => BAD_NUMBER,
            NotRegistered::BadMobile(BadMobile::Name) => BAD_NAME,
            NotRegistered::WeakPassword(why) => why.into(),
            NotRegistered::InvisibleName => INVISIBLE_NAME,
            NotRegistered::TooOften => TOO_OFTEN,
            NotRegistered::Store(why) => why.into(),
        }
    }
}

impl From<NotLoggedIn> for Refusal {
    fn from(why: NotLoggedIn) -> Self {
        match why {
            // Which of them it is would tell who is registered.
            NotLoggedIn::Incomplete | NotLoggedIn::Unknown | NotLoggedIn::WrongPassword => WRONG_LOGIN,
            NotLoggedIn::Banned => BANNED,
            NotLoggedIn::Locked => LOCKED,
            NotLoggedIn::TooOften => TOO_OFTEN,
            NotLoggedIn::Store(why) => why.into(),
        }
    }
}

impl From<NotChanged> for Refusal {
    fn from(why: NotChanged) -> Self {
        match why {
            NotChanged::TooLong(field) => field.into(),
            NotChanged::WeakPassword(why) => why.into(),
            NotChanged::InvisibleName => INVISIBLE_NAME,
            NotChanged::WrongPassword => WRONG_LOGIN,
            NotChanged::TooOften => TOO_OFTEN,
            NotChanged::Gone => NOT_LOGGED_IN,
            NotChanged::Store(why) => why.into(),
        }
    }
}

impl From<NotFriends> for Refusal {
    fn from(why: NotFriends) -> Self {
        match why {
            NotFriends::Yourself => YOURSELF,
            NotFriends::NoSuchUser => NO_SUCH_USER,
            NotFriends::Blocked => BLOCKED,
            NotFriends::TooMany => TOO_MANY_FRIENDS,
            NotFriends::TooManyBlocks => TOO_MANY_BLOCKS,
            NotFriends::TooOften => TOO_OFTEN,
            NotFriends::Store(why) => why.into(),
        }
    }
}

impl From<NotCreated> for Refusal {
    fn from(why: NotCreated) -> Self {
        match why {
            NotCreated::Nameless => bad_field("name must have something that can be seen, and no control characters"),
            NotCreated::TooLong(field) => field.into(),
            NotCreated::TooMany => TOO_MANY_GROUPS,
            NotCreated::NotFriends => NOT_FRIEND,
            NotCreated::Store(why) => why.into(),
        }
    }
}

impl From<NotJoined> for Refusal {
    fn from(why: NotJoined) -> Self {
        match why {
            NotJoined::NoSuchGroup => NO_SUCH_GROUP,
            NotJoined::TooManyAsked => TOO_MANY_ASKED,
            // Told as success, with 202; not said of who is added or has the link.
            NotJoined::Asked => BUSY,
            NotJoined::Refused(Reject::NoSuchUser) => NOT_LOGGED_IN,
            // Joined is all that somebody can be too much here.
            NotJoined::Refused(_) => TOO_MANY_GROUPS,
            NotJoined::Store(why) => why.into(),
        }
    }
}

impl From<NotAdded> for Refusal {
    fn from(why: NotAdded) -> Self {
        match why {
            NotAdded::NotFriend => NOT_FRIEND,
            NotAdded::Blocked => BLOCKED,
            NotAdded::NotDone(why) => why.into(),
            NotAdded::NotJoined(why) => why.into(),
        }
    }
}

impl From<NoRole> for Refusal {
    fn from(why: NoRole) -> Self {
        match why {
            NoRole::Refused => NO_ROLE,
            NoRole::NotDone(why) => why.into(),
        }
    }
}

impl From<NotDone> for Refusal {
    fn from(why: NotDone) -> Self {
        match why {
            NotDone::NoSuchGroup => NO_SUCH_GROUP,
            NotDone::NotOwner => NOT_OWNER,
            NotDone::NotAdmin => NOT_ADMIN,
            NotDone::NotMember => NOT_MEMBER,
            NotDone::OwnerLeaves => OWNER_LEAVES,
            NotDone::Bad(why) => why.into(),
            NotDone::Store(why) => why.into(),
        }
    }
}

impl From<Reject> for Refusal {
    fn from(why: Reject) -> Self {
        match why {
            Reject::NoSuchGroup => NO_SUCH_GROUP,
            Reject::NoSuchUser => NO_SUCH_USER,
            Reject::NotMember => NOT_MEMBER,
            Reject::Blocked => BLOCKED,
            Reject::NoSuchMessage => NO_SUCH_MESSAGE,
            Reject::NotYours => NOT_YOURS,
            Reject::TooLate => TOO_LATE,
            Reject::Retry => UNSURE,
            _ => BUSY,
        }
    }
}

impl From<Judged> for Refusal {
    fn from(why: Judged) -> Self {
        match why {
            Judged::NoSuchGroup => NO_SUCH_GROUP,
            Judged::NoSuchUser => NO_SUCH_USER,
            Judged::NotMember => NOT_MEMBER,
            Judged::Owner => NotDone::OwnerLeaves.into(),
            Judged::Blocked => BLOCKED,
            Judged::TooManyGroups => TOO_MANY_GROUPS,
            // By an earlier try of the same, perhaps.
            Judged::Held => UNSURE,
            Judged::NoSuchMessage => NO_SUCH_MESSAGE,
            Judged::NotYours => NOT_YOURS,
            Judged::TooLate => TOO_LATE,
        }
    }
}

//! How a legacy request becomes named fields: the binding rules of the originals.
//!
//! Owns: [`Asked`] (a request with its bounded body) and [`Fields`].
//! Never: fails on what a page may send. A number that is none (`NaN`, empty) is 0, an unknown
//! field is ignored, and `encodeURI`'s raw `&`, `=` and `+` mean what they mean to every form
//! parser, at registration and login alike.
//! Bounds: [`crate::limits::HTTP_BODY_BYTES_MAX`] for the body, [`crate::limits::HEAD_BYTES_MAX`]
//! for the query, [`LEGACY_FIELDS_MAX`] for what is made of both.

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;
use url::form_urlencoded;

use super::{NOT_LOGGED_IN, TOO_LARGE, envelope, store_failure};
use crate::api::app::App;
use crate::api::json::without_bom;
use crate::api::services::accounts;
use crate::api::{bodies, caller};
use crate::caller::Place;
use crate::ids::UserId;
use crate::limits::LEGACY_FIELDS_MAX;

/// A request whose body has been read.
pub(super) struct Asked {
    method: Method,
    headers: HeaderMap,
    query: String,
    body: Bytes,
    place: Place,
}

/// The content type is neither a form nor JSON (or the JSON cannot be read): there are no fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unbound;

/// Named values in the order in which they win.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Fields(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let method = request.method().clone();
        let headers = request.headers().clone();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let place = caller::place(request.extensions());
        let body = bodies::whole(request, state).await.map_err(|response| {
            // The old pages hear of nothing but 200.
            if response.status() == StatusCode::PAYLOAD_TOO_LARGE { envelope::failure(TOO_LARGE) } else { response }
        })?;
        Ok(Self { method, headers, query, body, place })
    }
}

impl Asked {
    /// The headers, for [`crate::api::caller`].
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Where it comes from.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// fastIM's `util.Bind`: a form (its body before the query, with any method), or JSON.
    ///
    /// # Errors
    /// [`Unbound`]: fastIM's routes go on without fields, IMChat's tell it.
    pub(super) fn bind(&self) -> Result<Fields, Unbound> {
        if self.is(FORM) {
            let mut fields = self.form_body();
            fields.append(self.query.as_bytes());
            return Ok(fields);
        }
        if self.is(JSON) {
            return Fields::of_json(&self.body);
        }
        Err(Unbound)
    }

    /// Go's `PostForm`: the body of a form only, and nothing at all otherwise. The login routes
    /// never take a password from a URL.
    pub(super) fn post_form(&self) -> Fields {
        if self.is(FORM) { self.form_body() } else { Fields::default() }
    }

    /// The user who acts, or the answer when it cannot be the one that is claimed.
    ///
    /// # Errors
    /// The answer.
    pub(super) async fn acting(&self, app: &App, claimed: i64) -> Result<UserId, Response> {
        let identity = app.identity(&self.headers, self.place, claimed);
        let identity = identity.ok_or_else(|| envelope::failure(NOT_LOGGED_IN))?;
        match accounts::acting(&app.services, identity).await {
            Ok(user) => user.ok_or_else(|| envelope::failure(NOT_LOGGED_IN)),
            Err(why) => Err(envelope::failure(store_failure(why))),
        }
    }

    /// The query as it came.
    pub(super) fn query_text(&self) -> &str {
        &self.query
    }

    /// The query alone, for our own `GET` routes.
    pub(super) fn query(&self) -> Fields {
        let mut fields = Fields::default();
        fields.append(self.query.as_bytes());
        fields
    }

    /// Go reads the body as a form for these methods only.
    fn form_body(&self) -> Fields {
        let mut fields = Fields::default();
        if [Method::POST, Method::PUT, Method::PATCH].contains(&self.method) {
            fields.append(&self.body);
        }
        fields
    }

    fn is(&self, kind: &str) -> bool {
        let value = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.to_ascii_lowercase().contains(kind))
    }
}

impl Fields {
    /// The first value of `name`, or an empty text.
    pub(super) fn text(&self, name: &str) -> &str {
        self.given(name).unwrap_or_default()
    }

    /// The first value of `name`, if there is one.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of `name` as a number; 0 for what is none.
    pub(super) fn int(&self, name: &str) -> i64 {
        self.text(name).trim().parse().unwrap_or(0)
    }

    /// Appends the pairs of a form, as far as there is room.
    fn append(&mut self, form: &[u8]) {
        let room = LEGACY_FIELDS_MAX.saturating_sub(self.0.len());
        let pairs = form_urlencoded::parse(form).map(|(key, value)| (key.into_owned(), value.into_owned()));
        self.0.extend(pairs.take(room));
    }

    /// The scalars of a JSON object. Go's decoder compares names without case, so names are kept in
    /// lower case.
    fn of_json(body: &[u8]) -> Result<Self, Unbound> {
        let Ok(Value::Object(object)) = serde_json::from_slice(without_bom(body)) else { return Err(Unbound) };
        let scalars = object.into_iter().filter_map(|(key, value)| {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
            };
            Some((key.to_lowercase(), text))
        });
        Ok(Self(scalars.take(LEGACY_FIELDS_MAX).collect()))
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(method: Method, content_type: Option<&str>, query: &str, body: &str) -> Asked {
        let mut headers = HeaderMap::new();
        if let Some(text) = content_type {
            headers.insert(header::CONTENT_TYPE, text.parse().expect("a header value"));
        }
        let place = caller::place(&axum::http::Extensions::new());
        Asked { method, headers, query: query.to_owned(), body: Bytes::copy_from_slice(body.as_bytes()), place }
    }

    fn form(body: &str) -> Fields {
        asked(Method::POST, Some(FORM), "", body).post_form()
    }

    #[test]
    fn a_form_is_merged_with_the_query_and_the_body_wins() {
        let both = asked(Method::POST, Some("Application/X-WWW-Form-Urlencoded; charset=UTF-8"), "a=q&b=q", "a=body");
        let fields = both.bind().expect("a form");
        assert_eq!((fields.text("a"), fields.text("b")), ("body", "q"));
        assert_eq!((both.post_form().text("a"), both.post_form().text("b")), ("body", ""));
        let get = asked(Method::GET, Some(FORM), "a=q", "a=body");
        assert_eq!(get.bind().expect("a form").text("a"), "q", "a GET has no form in its body");
    }

    #[test]
    fn json_binds_scalars_without_case() {
        let body = r#"{"UserId":7,"name":"x","list":[1],"nil":null,"cate":"2"}"#;
        let fields = asked(Method::POST, Some("application/json"), "", body).bind().expect("JSON");
        assert_eq!((fields.int("userid"), fields.text("name"), fields.int("cate")), (7, "x", 2));
        assert_eq!(asked(Method::POST, Some("application/json"), "", "[1]").bind(), Err(Unbound));
        let marked = format!("\u{feff}{body}");
        let fields = asked(Method::POST, Some("application/json"), "", &marked).bind().expect("JSON behind a mark");
        assert_eq!(fields.int("userid"), 7);
    }

    #[test]
    fn anything_else_has_no_fields() {
        for kind in [None, Some("multipart/form-data; boundary=x"), Some("text/plain")] {
            assert_eq!(asked(Method::POST, kind, "a=1", "a=1").bind(), Err(Unbound));
        }
    }

    #[test]
    fn what_is_no_number_is_zero() {
        let fields = form("nan=NaN&empty=&none&ok=7&minus=-3&huge=99999999999999999999");
        for name in ["nan", "empty", "none", "missing", "huge"] {
            assert_eq!(fields.int(name), 0, "{name}");
        }
        assert_eq!((fields.int("ok"), fields.int("minus")), (7, -3));
    }

    #[test]
    fn a_field_costs_more_than_it_weighs_and_there_are_only_so_many() {
        let fields = form(&format!("mobile=138&passwd=pw{}", "&a".repeat(32_000)));
        assert_eq!((fields.text("mobile"), fields.text("passwd")), ("138", "pw"));
        assert_eq!(fields.0.len(), LEGACY_FIELDS_MAX);
        let object = (0..5_000).map(|n| format!("\"{n}\":1")).collect::<Vec<_>>().join(",");
        let fields = asked(Method::POST, Some(JSON), "", &format!("{{{object}}}")).bind().expect("JSON");
        assert_eq!(fields.0.len(), LEGACY_FIELDS_MAX);
    }

    #[test]
    fn encode_uri_bodies_are_read_like_any_form() {
        let fields = form("mobile=13800000001&passwd=pw&x+1&memo=a=b;c%20%E4%BD%A0+d");
        assert_eq!(fields.text("passwd"), "pw");
        assert_eq!(fields.text("memo"), "a=b;c 你 d");
    }

    /// JavaScript's `encodeURI`: what it leaves alone goes out raw.
    fn encode_uri(text: &str) -> String {
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(char::from(byte)),
                _ if b"-_.!~*'();/?:@&=+$,#".contains(&byte) => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn a_value_survives_up_to_its_first_ampersand_with_blanks_for_plus(before in ".{0,20}", value in "\\PC{0,40}") {
            let body = format!("before={}&value={}", encode_uri(&before.replace('&', "")), encode_uri(&value));
            let expected = value.split('&').next().unwrap_or_default().replace('+', " ");
            prop_assert_eq!(form(&body).text("value").to_owned(), expected);
        }

        #[test]
        fn no_bytes_stop_it(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut fields = Fields::default();
            fields.append(&body);
            let pairs = body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).count();
            prop_assert_eq!(fields.0.len(), pairs);
            let is_object = body.contains(&b'{');
            prop_assert!(Fields::of_json(&body).is_err() || is_object);
        }
    }
}

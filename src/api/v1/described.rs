//! The OpenAPI document: what utoipa's macros make of the handlers, and what holds for all of them.
//!
//! Owns: the servers, the two ways to say who one is, the header `X-Imgate-User`, the answers that
//! any call may get, the examples.
//! Never: describes a single call; that stands with its handler.

use serde_json::{Map, Value, json};

use crate::ids::ID_MAX;
use crate::limits;

/// Completes what the macros made.
pub(super) fn complete(document: &mut Value) {
    document["servers"] = json!([{ "url": "/", "description": "The gateway that serves this document." }]);
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for call in paths.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        complete_call(call);
    }
    let components = &mut document["components"];
    components["securitySchemes"] = json!({
        "bearer": {
            "type": "http", "scheme": "bearer",
            "description": "The `token` of a registration or login.",
        },
        "cookie": {
            "type": "apiKey", "in": "cookie", "name": "imgate_TAG_ID",
            "description": "The cookie that registration and login set: TAG belongs to the gateway's key, ID is the user. \
                It counts for the gateway's own pages and those of the setting `origins`. A call that changes something \
                carries `X-Imgate-User` beside it.",
        },
    });
    components["securitySchemes"]["api_key"] = json!({
        "type": "http", "scheme": "bearer",
        "description": "The key of a backend (`imgate key new`), as a bearer token or in the header `X-API-Key`. The calls below \
            `/api/v1/server/` take it, and nothing else.",
    });
    components["parameters"]["User"] = json!({
        "name": "X-Imgate-User", "in": "header", "required": false,
        "description": "The user who asks. With a cookie: required where something is changed (403 `missing_user_header` \
            without it), and it chooses among the cookies of several users elsewhere. With a token it may be left out; \
            if it names another user than the token, nobody is logged in (401).",
        "schema": { "type": "integer", "format": "int64", "minimum": 1, "maximum": ID_MAX },
        "example": 1,
    });
    components["responses"]["NotNow"] = json!({
        "description": "Not now: `busy` was not done, `unsure` perhaps, `broken` needs the operator. `Retry-After` says when to \
            try again.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Failure" } } },
    });
    for name in ["kind", "dstid", "seq"] {
        narrow(name, &mut components["schemas"]["Recall"]["properties"][name]);
    }
    for (schema, property, least, most) in LENGTHS {
        if let Some(text) = components["schemas"][schema]["properties"][property].as_object_mut() {
            text.insert("minLength".to_owned(), (*least).into());
            text.insert("maxLength".to_owned(), (*most).into());
        }
    }
    for (schema, example) in EXAMPLES {
        // A test reads all of them, and looks that each has its schema.
        if let (Some(schema), Ok(example)) =
            (components["schemas"].get_mut(schema).and_then(Value::as_object_mut), serde_json::from_str(example))
        {
            schema.insert("example".to_owned(), example);
        }
    }
}

/// Lengths of texts in characters, by schema and property. What is a password of few bytes more is
/// said in words.
const LENGTHS: &[(&str, &str, usize, usize)] = &[
    ("RegisterWish", "mobile", 2, limits::MOBILE_CHARS_MAX),
    ("RegisterWish", "password", limits::PASSWORD_CHARS_MIN, limits::PASSWORD_BYTES_MAX),
    ("RegisterWish", "nickname", 0, limits::NICKNAME_CHARS_MAX),
    ("RegisterWish", "avatar", 0, limits::ICON_CHARS_MAX),
    ("RegisterWish", "memo", 0, limits::USER_MEMO_CHARS_MAX),
    ("LoginWish", "mobile", 1, limits::MOBILE_CHARS_MAX),
    ("LoginWish", "password", 1, limits::PASSWORD_BYTES_MAX),
    ("PasswordWish", "new", limits::PASSWORD_CHARS_MIN, limits::PASSWORD_BYTES_MAX),
    ("GroupWish", "name", 1, limits::GROUP_NAME_CHARS_MAX),
    ("NewGroupWish", "name", 1, limits::GROUP_NAME_CHARS_MAX),
    ("NewUserWish", "subject", 1, limits::SUBJECT_CHARS_MAX),
    ("NewUserWish", "mobile", 2, limits::MOBILE_CHARS_MAX),
    ("GroupEdit", "name", 1, limits::GROUP_NAME_CHARS_MAX),
];

/// What a number may be that is called so: it narrows `schema`.
fn narrow(name: &str, schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    match name {
        "kind" => drop(schema.insert("enum".to_owned(), json!([10, 11]))),
        "id" | "user" | "dstid" | "seq" | "after" | "before" => {
            let least = i64::from(!matches!(name, "after" | "before"));
            schema.insert("minimum".to_owned(), least.into());
            schema.insert("maximum".to_owned(), ID_MAX.into());
        }
        _ => {}
    }
}

fn complete_call(call: &mut Value) {
    for parameter in call.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        narrow(&name, &mut parameter["schema"]);
    }
    // Who is no user, or asks with a key, does not name one.
    let is_open = call.get("security").is_some();
    if !is_open {
        let user = json!({ "$ref": "#/components/parameters/User" });
        match call.get_mut("parameters").and_then(Value::as_array_mut) {
            Some(parameters) => parameters.push(user),
            None => call["parameters"] = json!([user]),
        }
    }
    call["responses"]["503"] = json!({ "$ref": "#/components/responses/NotNow" });
    if let Some(refused) = call.pointer_mut("/responses/4XX").and_then(Value::as_object_mut) {
        let words =
            "Refused. As plain text where it was no request at all: no `Host`, too slow, a head that is too large.";
        refused.insert("description".to_owned(), words.into());
        refused["content"]["text/plain"] = json!({ "schema": { "type": "string" } });
    }
}

/// Examples of bodies, by schema.
const EXAMPLES: &[(&str, &str)] = &[
    ("RegisterWish", r#"{"mobile":"13800000001","password":"correct horse","nickname":"Ann"}"#),
    ("LoginWish", r#"{"mobile":"13800000001","password":"correct horse"}"#),
    ("LogoutWish", r#"{"everywhere":false}"#),
    ("PasswordWish", r#"{"old":"correct horse","new":"battery staple"}"#),
    ("ProfileWish", r#"{"nickname":"Ann","memo":"at sea until May"}"#),
    ("User", r#"{"id":1,"nickname":"Ann","avatar":"","sex":"W","memo":"","created_ms":1764320400000}"#),
    ("GroupWish", r#"{"name":"tea","memo":"every day at four"}"#),
    ("GroupEdit", r#"{"name":"coffee"}"#),
    ("Recall", r#"{"kind":10,"dstid":2,"seq":17}"#),
    ("Recalled", r#"{"seq":18}"#),
    ("Claim", r#"{"sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","name":"abc.txt"}"#),
    (
        "HistoryPage",
        r#"{"cmd":4,"kind":10,"dstid":2,"rows":[{"id":42,"seq":1,"ts":1764320400000,"userid":2,"cmd":10,"dstid":1,
        "cid":"a1","media":1,"content":"hello"}],"more":false,"floor":1,"head":1,"epoch":7}"#,
    ),
    ("Failure", r#"{"error":{"code":"not_logged_in","msg":"log in first, as the user that X-Imgate-User names"}}"#),
];

#[cfg(test)]
mod tests {
    use super::super::described;
    use super::*;

    fn document() -> Value {
        serde_json::from_slice(&described()).expect("JSON")
    }

    #[test]
    fn every_example_fits_its_schema() {
        let schemas = document()["components"]["schemas"].clone();
        for (name, example) in EXAMPLES {
            let example: Value = serde_json::from_str(example).expect("JSON");
            let schema = schemas.get(name).unwrap_or_else(|| panic!("there is no schema {name}"));
            assert_eq!(schema["example"], example);
            let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("{name} has no properties"));
            let given = example.as_object().expect("an object");
            assert!(given.keys().all(|key| properties.contains_key(key)), "{name}: {given:?}");
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            required.for_each(|key| assert!(given.contains_key(key), "{name} without {key}"));
        }
    }

    #[test]
    fn what_would_be_refused_by_its_look_is_described_as_such() {
        let document = document();
        for (schema, property, least, most) in LENGTHS {
            let text = &document["components"]["schemas"][schema]["properties"][property];
            assert!(text["type"].to_string().contains("string"), "{schema}.{property}: {text}");
            assert_eq!((&text["minLength"], &text["maxLength"]), (&json!(least), &json!(most)), "{schema}.{property}");
        }
        let recall = &document["components"]["schemas"]["Recall"]["properties"];
        assert_eq!((&recall["kind"]["enum"], &recall["seq"]["minimum"]), (&json!([10, 11]), &json!(1)));
        let history = document["paths"]["/api/v1/history"]["get"]["parameters"].to_string();
        assert!(history.contains(r#""enum":[10,11]"#), "{history}");
    }

    #[test]
    fn who_asks_is_described_at_every_call_that_wants_to_know() {
        let document = document();
        assert_eq!(document["servers"][0]["url"], "/");
        assert_eq!(document["security"], json!([{"bearer": []}, {"cookie": []}]));
        let (mut open, mut closed) = (0, 0);
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, call) in item.as_object().expect("an item") {
                let named = call["parameters"].to_string().contains("#/components/parameters/User");
                let is_open = call["security"] == json!([{}]);
                let by_key = call["security"] == json!([{"api_key": []}]);
                assert_ne!(named, is_open || by_key, "{method} {path}");
                assert_eq!(by_key, path.starts_with("/api/v1/server/"), "{method} {path}");
                assert!(call["responses"]["503"].is_object(), "{method} {path}");
                *(if is_open { &mut open } else { &mut closed }) += 1;
            }
        }
        assert!(open >= 4 && closed > open);
    }
}

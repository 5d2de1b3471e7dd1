//! What the control plane says in the trails: requests, and what users, backends and operators have
//! done.
//!
//! Owns: which calls are events of the audit trail ([`DEEDS`]), and what a line has. A request is
//! named by the pattern of its route: what stands in its path, its query or its body stays out.
//! Numbers in the path of a call that was done are those of users, groups, logins or keys, and
//! stand in the line.
//! Never: says anything of a call before it has been answered, or given up.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, Response as HttpResponse};
use axum::middleware::Next;
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::ids::UserId;
use crate::log::trail::Trails;

/// What backends say in the name of users. What they say as the system is in the access trail
/// alone.
const SENT_AS_USER: &str = "sent_as_user";

/// The calls that are events of the audit trail. Further ones below `/admin/` are `operator`; other
/// reads of backends stand in the access trail alone.
const DEEDS: &[(Method, &str, &str)] = &[
    (Method::POST, "/api/v1/logout", "logout"),
    (Method::POST, "/api/v1/me/password", "password_changed"),
    (Method::POST, "/api/v1/me/delete", "account_deleted"),
    (Method::DELETE, "/api/v1/me/logins/{id}", "login_ended"),
    (Method::DELETE, "/api/v1/groups/{id}", "group_dissolved"),
    (Method::PATCH, "/api/v1/groups/{id}", "group_changed"),
    (Method::PATCH, "/api/v1/groups/{id}/members/{user}", "role_changed"),
    (Method::DELETE, "/api/v1/groups/{id}/members/{user}", "member_removed"),
    (Method::POST, "/api/v1/groups/{id}/invite", "invite_made"),
    (Method::DELETE, "/api/v1/groups/{id}/invite", "invite_revoked"),
    (Method::POST, "/api/v1/server/users", "user_made"),
    (Method::PATCH, "/api/v1/server/users/{id}", "user_changed"),
    (Method::DELETE, "/api/v1/server/users/{id}", "account_deleted"),
    (Method::PUT, "/api/v1/server/users/{id}/ban", "banned"),
    (Method::DELETE, "/api/v1/server/users/{id}/ban", "unbanned"),
    (Method::POST, "/api/v1/server/users/{id}/disconnect", "disconnected"),
    (Method::POST, "/api/v1/server/users/{id}/token", "token_issued"),
    (Method::GET, "/api/v1/server/users/{id}/data", "data_exported"),
    (Method::GET, "/api/v1/server/history", "history_read"),
    (Method::POST, "/api/v1/server/messages", SENT_AS_USER),
    (Method::POST, "/api/v1/server/groups", "group_made"),
    (Method::PATCH, "/api/v1/server/groups/{id}", "group_changed"),
    (Method::DELETE, "/api/v1/server/groups/{id}", "group_dissolved"),
    (Method::PUT, "/api/v1/server/groups/{id}/members/{user}", "member_added"),
    (Method::PATCH, "/api/v1/server/groups/{id}/members/{user}", "role_changed"),
    (Method::DELETE, "/api/v1/server/groups/{id}/members/{user}", "member_removed"),
    (Method::GET, "/admin/users/{user}/sessions", "sessions_listed"),
    (Method::DELETE, "/admin/users/{user}/sessions", "disconnected"),
    (Method::DELETE, "/admin/users/{user}/sessions/{session}", "disconnected"),
    (Method::POST, "/admin/users/{user}/ban", "banned"),
    (Method::POST, "/admin/users/{user}/unban", "unbanned"),
    (Method::GET, "/admin/keys", "keys_listed"),
    (Method::POST, "/admin/keys", "key_made"),
    (Method::POST, "/admin/keys/{id}/rotate", "key_rotated"),
    (Method::DELETE, "/admin/keys/{id}", "key_revoked"),
    (Method::POST, "/admin/backup", "backup_asked"),
    (Method::POST, "/admin/retention", "retention_asked"),
    (Method::POST, "/admin/drain", "drain_asked"),
    (Method::POST, "/admin/reload", "reload_asked"),
    (Method::POST, "/admin/log", "log_filter_changed"),
];

/// The name of an HTTP connection in the trails and in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnName(pub(super) u64);

impl fmt::Display for ConnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// On whose behalf a request is answered, as far as it has turned out, and what it asks for.
#[derive(Debug, Default)]
pub(super) struct Acting {
    actor: OnceLock<Actor>,
    route: OnceLock<MatchedPath>,
}

#[derive(Debug)]
enum Actor {
    User(UserId),
    Key { id: u32, name: Arc<str> },
    Operator,
}

impl Acting {
    /// A user has given proof.
    pub(super) fn user(&self, user: UserId) {
        let _ = self.actor.set(Actor::User(user));
    }

    /// A backend has, by the key of that number and name.
    pub(super) fn key(&self, id: u32, name: Arc<str>) {
        let _ = self.actor.set(Actor::Key { id, name });
    }

    /// The operator has, by the operator's token.
    pub(super) fn operator(&self) {
        let _ = self.actor.set(Actor::Operator);
    }
}

/// What a handler adds to the audit trail's line of its call, beside its answer. Nothing secret.
#[derive(Clone)]
pub(super) struct Particulars(pub(super) Value);

/// Notes the pattern of a request's route, beside its answer, too.
pub(super) async fn route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    if let (Some(route), Some(acting)) = (&route, request.extensions().get::<Arc<Acting>>()) {
        let _ = acting.route.set(route.clone());
    }
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// A request, from its head to the last byte of its answer. The access trail's line is written when
/// it is dropped: then the answer has left, or was given up.
pub(super) struct TrailedRequest {
    trails: Trails,
    clock: Clock,
    began_ns: u64,
    /// The connection that it came on.
    conn: ConnName,
    from: IpAddr,
    method: Method,
    path: String,
    acting: Arc<Acting>,
    /// `None` until there is an answer.
    status: Option<u16>,
    /// Of the answer's body, as far as it has been taken.
    bytes: u64,
}

impl TrailedRequest {
    /// One that has come now; `None` if no trail wants to know.
    pub(super) fn begin(
        trails: &Trails,
        clock: Clock,
        (method, path): (&Method, &str),
        from: IpAddr,
        conn: ConnName,
    ) -> Option<Box<Self>> {
        (trails.audit.is_on() || trails.access.is_on()).then(|| {
            Box::new(Self {
                trails: trails.clone(),
                clock,
                began_ns: clock.nanos(),
                conn,
                from,
                method: method.clone(),
                path: path.to_owned(),
                acting: Arc::default(),
                status: None,
                bytes: 0,
            })
        })
    }

    /// Where it is noted on whose behalf it is answered.
    pub(super) fn acting(&self) -> Arc<Acting> {
        Arc::clone(&self.acting)
    }

    /// It has got this answer, whose body is still to leave.
    pub(super) fn answered<B>(&mut self, response: &HttpResponse<B>) {
        if let Some(route) = response.extensions().get::<MatchedPath>() {
            let _ = self.acting.route.set(route.clone());
        }
        let status = response.status().as_u16();
        self.status = Some(status);
        let Some(event) = self.event() else { return };
        if event == SENT_AS_USER && response.extensions().get::<Particulars>().is_none() {
            return;
        }
        let line = || {
            let mut line = self.line();
            // What failed on our side may have been done all the same.
            if response.status().is_success() || response.status().is_server_error() {
                line.insert("of".to_owned(), self.numbers());
                if let Some(Particulars(Value::Object(more))) = response.extensions().get::<Particulars>() {
                    line.extend(more.clone());
                }
            }
            Value::Object(line)
        };
        if self.acting.actor.get().is_some() {
            self.trails.audit.say_deed(event, line);
        } else {
            // Refused to somebody who has proved nothing.
            self.trails.audit.say(event, line);
        }
    }

    /// So many bytes of its answer have been taken.
    pub(super) const fn took(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    fn route(&self) -> &str {
        self.acting.route.get().map_or("none", MatchedPath::as_str)
    }

    fn event(&self) -> Option<&'static str> {
        let route = self.route();
        let known = DEEDS.iter().find(|(method, of, _)| *method == self.method && *of == route);
        // Of this one only what was done: a refused key is one like any other.
        let is_done = self.status.is_none_or(|status| status == 200);
        let known = known.filter(|(_, _, event)| *event != SENT_AS_USER || is_done);
        if let Some((_, _, event)) = known {
            return Some(event);
        }
        if route.starts_with("/admin/") {
            return Some("operator");
        }
        let is_refused = route.starts_with("/api/v1/server/") && matches!(self.status, Some(401 | 403));
        is_refused.then_some("key_refused")
    }

    fn line(&self) -> Map<String, Value> {
        let (by, user, key) = match self.acting.actor.get() {
            Some(Actor::User(user)) => (Some("user"), Some(user.get()), None),
            Some(Actor::Key { id, name }) => (Some("key"), None, Some((format!("{id:08x}"), name.to_string()))),
            Some(Actor::Operator) => (Some("operator"), None, None),
            None => (None, None, None),
        };
        let (key_id, key) = key.unzip();
        let line = json!({
            "conn": self.conn.to_string(), "from": self.from.to_string(), "method": self.method.as_str(),
            "route": self.route(), "status": self.status, "by": by, "user": user, "key": key, "key_id": key_id,
        });
        if let Value::Object(line) = line { line } else { Map::new() }
    }

    /// The numbers in the places that the route leaves open, by their names.
    fn numbers(&self) -> Value {
        let named = self.route().split('/').zip(self.path.split('/')).filter_map(|(pattern, given)| {
            let name = pattern.strip_prefix('{')?.strip_suffix('}')?;
            // As the handler has got it.
            let given = percent_decode_str(given).decode_utf8().ok()?;
            let is_number = given.len() <= NUMBER_DIGITS_MAX && given.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_number.then(|| (name.to_owned(), Value::from(given.into_owned())))
        });
        let numbers: Map<_, _> = named.collect();
        if numbers.is_empty() { Value::Null } else { Value::Object(numbers) }
    }
}

impl Drop for TrailedRequest {
    fn drop(&mut self) {
        // Whoever asked has hung up: what was begun may have been done all the same.
        if self.status.is_none()
            && self.acting.actor.get().is_some()
            && let Some(event) = self.event()
        {
            self.trails.audit.say_deed(event, || {
                let mut line = self.line();
                line.insert("of".to_owned(), self.numbers());
                Value::Object(line)
            });
        }
        self.trails.access.say("request", || {
            let mut line = self.line();
            let us = self.clock.nanos().saturating_sub(self.began_ns) / 1000;
            line.insert("ms".to_owned(), (us as f64 / 1000.0).into());
            line.insert("bytes".to_owned(), self.bytes.into());
            Value::Object(line)
        });
    }
}

/// The largest number of a user has so many.
const NUMBER_DIGITS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use axum::routing::any;
    use tower::ServiceExt;

    use super::*;
    use crate::log::trail::Trail;

    /// The lines of both trails after a call of `path` below `route`, answered with `status`.
    async fn trailed(method: Method, route: &str, path: &str, status: StatusCode, by: Actor) -> [String; 2] {
        let folder = tempfile::tempdir().expect("a folder");
        let places = ["audit", "access"].map(|name| folder.path().join(name));
        let [audit, access] =
            places.each_ref().map(|place| Trail::start("trail", place.to_str().expect("UTF-8")).expect("a file"));
        let trails = Trails { audit, access };
        let from = IpAddr::from([192, 0, 2, 1]);
        let mut asked =
            TrailedRequest::begin(&trails, Clock::start(), (&method, path), from, ConnName(3)).expect("it is on");
        let _ = asked.acting().actor.set(by);
        let router: Router =
            Router::new().route(route, any(async move || (status, "words"))).layer(from_fn(super::route));
        let request = Request::builder().method(&method).uri(path).body(Body::empty()).expect("a request");
        let Ok(response) = router.oneshot(request).await;
        asked.answered(&response);
        asked.took(5);
        drop(asked);
        for trail in [&trails.audit, &trails.access] {
            trail.flush(Duration::from_secs(20));
        }
        places.map(|place| std::fs::read_to_string(place).expect("a file"))
    }

    /// A line without its times, which may have any digits.
    fn timeless(line: &str) -> String {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        (line["ts_ms"], line["ms"]) = (Value::Null, Value::Null);
        line.to_string()
    }

    fn user(id: u64) -> Actor {
        Actor::User(UserId::new(id).expect("an id"))
    }

    #[tokio::test]
    async fn a_line_names_the_route_and_not_the_path() {
        let (route, path) = ("/api/v1/invites/{secret}", "/api/v1/invites/open-sesame?token=t-4711");
        let [audit, access] = trailed(Method::GET, route, path, StatusCode::OK, user(5)).await;
        assert_eq!(audit, "");
        assert!(!access.contains("sesame") && !timeless(&access).contains("4711"), "{access}");
        let line: Value = serde_json::from_str(&access).expect("JSON");
        assert_eq!((&line["route"], &line["user"], &line["conn"]), (&route.into(), &5.into(), &"h3".into()));
        assert_eq!((&line["status"], &line["bytes"], &line["by"]), (&200.into(), &5.into(), &"user".into()));
        assert!(line["ms"].as_f64() > Some(0.0), "{line}");
    }

    #[tokio::test]
    async fn what_was_given_up_is_an_event_without_a_status() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("audit");
        let audit = Trail::start("trail", place.to_str().expect("UTF-8")).expect("a file");
        let trails = Trails { audit, access: Trail::default() };
        let (from, path) = (IpAddr::from([192, 0, 2, 1]), "/api/v1/server/users/7/ban");
        for proves in [true, false] {
            let asked = TrailedRequest::begin(&trails, Clock::start(), (&Method::PUT, path), from, ConnName(3))
                .expect("it is on");
            let waits = async move |acting: axum::Extension<Arc<Acting>>| {
                if proves {
                    acting.key(0xab, "shop".into());
                }
                std::future::pending::<()>().await;
            };
            let router: Router = Router::new().route("/api/v1/server/users/{id}/ban", any(waits)).layer(from_fn(route));
            let request = Request::builder().method(Method::PUT).uri(path).extension(asked.acting());
            let answer = router.oneshot(request.body(Body::empty()).expect("a request"));
            assert!(tokio::time::timeout(Duration::from_millis(1), answer).await.is_err(), "it is under way");
            drop(asked);
        }
        trails.audit.flush(Duration::from_secs(20));
        let said = std::fs::read_to_string(place).expect("a file");
        let line: Value = serde_json::from_str(&said).expect("one line: the other one has proved nothing");
        assert_eq!((&line["event"], &line["status"]), (&"banned".into(), &Value::Null));
        assert_eq!((&line["key"], &line["of"]), (&"shop".into(), &json!({ "id": "7" })));
    }

    #[tokio::test]
    async fn what_changes_rights_is_an_event_and_says_of_whom() {
        let route = "/api/v1/groups/{id}/members/{user}";
        let [audit, _] = trailed(Method::PATCH, route, "/api/v1/groups/7/members/9", StatusCode::OK, user(5)).await;
        let line: Value = serde_json::from_str(&audit).expect("JSON");
        assert_eq!((&line["event"], &line["of"]), (&"role_changed".into(), &json!({ "id": "7", "user": "9" })));
        let key = || Actor::Key { id: 0xab, name: "shop".into() };
        let route = "/api/v1/server/users/{id}/ban";
        let path = "/api/v1/server/users/13812345601/ban";
        let [audit, access] = trailed(Method::PUT, route, path, StatusCode::NOT_FOUND, key()).await;
        let is_said = |line: &str| timeless(line).contains("138");
        assert!(!is_said(&audit) && !is_said(&access), "what was not found may be anything: {audit}");
        let line: Value = serde_json::from_str(&audit).expect("JSON");
        assert_eq!(
            (&line["event"], &line["key"], &line["key_id"]),
            (&"banned".into(), &"shop".into(), &"000000ab".into())
        );
        // A commit of unknown outcome may have been carried out. The path is read as handlers have
        // it.
        let (unsure, path) = (StatusCode::SERVICE_UNAVAILABLE, "/api/v1/server/users/%37/ban");
        let [audit, _] = trailed(Method::PUT, route, path, unsure, key()).await;
        let line: Value = serde_json::from_str(&audit).expect("JSON");
        assert_eq!((&line["status"], &line["of"]), (&503.into(), &json!({ "id": "7" })));
        let [audit, _] = trailed(Method::GET, "/admin/top", "/admin/top", StatusCode::OK, Actor::Operator).await;
        assert!(audit.contains("\"event\":\"operator\"") && audit.contains("\"by\":\"operator\""), "{audit}");
    }
}

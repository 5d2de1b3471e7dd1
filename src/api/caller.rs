//! Who calls: the identities that a request presents, and the one that acts (design, section 6).
//!
//! Owns: the order (`Authorization: Bearer`, then the login cookies), the name and attributes of a login cookie.
//! Never: takes a claimed `userid` for a proof. A claim only chooses among what is proven, or contradicts it.
//! Bounds: [`limits::COOKIES_TRIED_MAX`] signatures checked per request.

use axum::http::{HeaderMap, header};

use crate::auth::{Identity, Key};
use crate::ids::UserId;
use crate::limits;

/// The name of a login cookie without its user: one cookie per user, so that two tabs with two users work.
const COOKIE: &str = "imgate_";

/// The identity that acts: that of the bearer token if there is one, otherwise that of the login cookie of the user
/// `claimed`; with no claim (0) the only identity presented. `None`: not logged in as who is claimed.
pub(super) fn acting(headers: &HeaderMap, key: &Key, now_ms: u64, claimed: i64) -> Option<Identity> {
    let presented = presented(headers, key, now_ms);
    match (claimed, presented.as_slice()) {
        (0, [only]) => Some(*only),
        (0, _) => None,
        (claimed, several) => several.iter().find(|one| u64::try_from(claimed) == Ok(one.user().get())).copied(),
    }
}

/// Every identity that a request presents.
pub(super) fn presented(headers: &HeaderMap, key: &Key, now_ms: u64) -> Vec<Identity> {
    match bearer(headers) {
        // A bad token is not repaired by a cookie: who sends one wants to be that one.
        Some(token) => key.verify(token, now_ms).into_iter().collect(),
        None if is_foreign(headers) => Vec::new(),
        None => cookies(headers, key, now_ms),
    }
}

/// The value of `Set-Cookie` that logs `user` in for `ttl_ms`.
pub(super) fn cookie(user: UserId, token: &str, ttl_ms: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}{user}={token}; HttpOnly; SameSite=Lax; Path=/; Max-Age={}{secure}", ttl_ms / 1000)
}

/// The value of `Set-Cookie` that removes the login cookie of `user`.
pub(super) fn no_cookie(user: UserId, secure: bool) -> String {
    cookie(user, "", 0, secure)
}

/// Whether a request presents a token of its own, which no browser adds by itself.
pub(super) fn has_bearer(headers: &HeaderMap) -> bool {
    bearer(headers).is_some()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a browser says that another site's page asks: then the cookies are its visitor's, but not the wish. `SameSite`
/// keeps them off already where the other site has another domain; not from another port of this machine.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text("origin") else { return false };
    // A proxy may ask for another host than the browser, and says which one that was.
    let ours = [text("host"), text("x-forwarded-host")];
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    !authority.is_some_and(|authority| ours.iter().flatten().any(|host| host.eq_ignore_ascii_case(authority)))
}

/// The users whose cookies hold a valid token of their own, each once.
fn cookies(headers: &HeaderMap, key: &Key, now_ms: u64) -> Vec<Identity> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let ours = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().strip_prefix(COOKIE));
    let mut found = Vec::<Identity>::new();
    for (user, token) in ours.take(limits::COOKIES_TRIED_MAX).filter_map(|pair| pair.split_once('=')) {
        let Ok(identity) = key.verify(token, now_ms) else { continue };
        let own = user.parse() == Ok(identity.user().get());
        if own && found.iter().all(|other| other.user() != identity.user()) {
            found.push(identity);
        }
    }
    found
}

//! Requests that bring a token of another system: before anything else looks at them it is replaced
//! by one of our own.
//!
//! Owns: where such a token stands in a request, and what stands there afterwards.
//! Never: lets a request go on with the token it came with, so that none goes round in a circle
//! between the gate and here.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Uri, header};

use super::services::Services;
use super::services::jwt::{Jwt, NotTaken};
use crate::caller::{bearer, is_jwt};
use crate::http::value::elements;

/// What stands before a token in an offered subprotocol.
const TOKEN_OFFER: &str = "token.";
/// In the place of a token that is not good: no token at all.
const VOID: &str = "void";

/// The tokens of another system, and what is needed to judge them.
#[derive(Clone)]
pub(super) struct ForeignTokens {
    pub(super) jwt: Arc<Jwt>,
    pub(super) services: Arc<Services>,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Replaced {
    /// It brought none.
    Nothing,
    /// It has one of ours now, or one that is none.
    Token,
    /// It is to be told to come back.
    NotNow,
}

impl ForeignTokens {
    /// Replaces the token of a request.
    pub(super) async fn replace(&self, parts: &mut Parts) -> Replaced {
        let Some(shown) = shown(parts) else { return Replaced::Nothing };
        let own = match self.jwt.admit(&self.services, &shown).await {
            Ok(own) => own,
            Err(NotTaken::Bad(_)) => VOID.to_owned(),
            Err(NotTaken::Store(_)) => return Replaced::NotNow,
        };
        put(parts, &own);
        Replaced::Token
    }
}

/// The token that counts, if it is one of another system: where our own are taken. For a WebSocket
/// that is the query, the header, the offered subprotocols, as the gate looks for it; everywhere
/// else the header, for what stands in a URL ends in the logs of others.
fn shown(parts: &Parts) -> Option<String> {
    let is_gates = is_gates(parts);
    let query = parts.uri.query().filter(|_| is_gates).unwrap_or_default();
    let asked =
        url::form_urlencoded::parse(query.as_bytes()).find(|(name, token)| name == "token" && !token.is_empty());
    let asked = asked.map(|(_, token)| token.into_owned());
    let offered = || {
        let lines = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter(|_| is_gates);
        let mut offers = lines.flat_map(|line| elements(line.as_bytes()));
        offers.find_map(|offer| offer.strip_prefix(TOKEN_OFFER)).map(str::to_owned)
    };
    let token = asked.or_else(|| bearer(&parts.headers).map(str::to_owned)).or_else(offered)?;
    is_jwt(&token).then_some(token)
}

/// Whether the gate answers a request: there a browser cannot set a header.
fn is_gates(parts: &Parts) -> bool {
    parts.uri.path() == "/chat"
}

/// Puts `own` into the header, and takes what stands in the query away.
fn put(parts: &mut Parts, own: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("Bearer {own}")) {
        parts.headers.insert(header::AUTHORIZATION, value);
    }
    let Some(query) = parts.uri.query().filter(|_| is_gates(parts)) else { return };
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_token(pair)).collect();
    let target =
        if kept.is_empty() { parts.uri.path().to_owned() } else { format!("{}?{}", parts.uri.path(), kept.join("&")) };
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = PathAndQuery::try_from(target).ok();
    if let Ok(uri) = Uri::from_parts(uri) {
        parts.uri = uri;
    }
}

fn is_token(pair: &str) -> bool {
    url::form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == "token")
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let request = headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn a_token_is_found_where_the_gate_looks_and_nothing_of_it_stays() {
        let query = format!("/chat?a=1&token={JWT}&device=web");
        let (bearer, offer) = (format!("Bearer {JWT}"), format!("imgate.v2, token.{JWT}"));
        for (uri, headers) in [
            (query.as_str(), vec![]),
            ("/chat?a=1&device=web", vec![("authorization", bearer.as_str())]),
            ("/chat?a=1&device=web&token=", vec![("sec-websocket-protocol", offer.as_str())]),
        ] {
            let mut parts = parts(uri, &headers);
            assert_eq!(shown(&parts).as_deref(), Some(JWT), "{uri}");
            put(&mut parts, "own");
            assert_eq!(shown(&parts), None, "it does not come round again");
            assert_eq!(parts.uri.to_string(), "/chat?a=1&device=web");
            assert_eq!(parts.headers.get("authorization").map(HeaderValue::as_bytes), Some(&b"Bearer own"[..]));
        }
        let mut beside = parts("/chat", &[]);
        let offers = [b"\xff, ", offer.as_bytes()].concat();
        beside.headers.insert("sec-websocket-protocol", HeaderValue::from_bytes(&offers).expect("a value"));
        assert_eq!(shown(&beside).as_deref(), Some(JWT), "a bad offer beside it");
        assert_eq!(shown(&parts("/chat?token=AQAAAAAAAAA", &[])), None, "our own");
        let both = parts("/chat?token=ours", &[("authorization", bearer.as_str())]);
        assert_eq!(shown(&both), None, "the first place counts");
    }

    #[test]
    fn elsewhere_only_the_header_counts_as_for_tokens_of_our_own() {
        let (bearer, offer) = (format!("Bearer {JWT}"), format!("imgate.v2, token.{JWT}"));
        let query = format!("/api/v1/me?token={JWT}");
        assert_eq!(shown(&parts(&query, &[])), None, "a URL ends in logs");
        assert_eq!(shown(&parts("/api/v1/me", &[("sec-websocket-protocol", offer.as_str())])), None);
        let mut parts = parts("/api/v1/me?token=of-an-invitation", &[("authorization", bearer.as_str())]);
        assert_eq!(shown(&parts).as_deref(), Some(JWT), "what the query says is none of ours");
        put(&mut parts, "own");
        assert_eq!(parts.uri.to_string(), "/api/v1/me?token=of-an-invitation");
        assert_eq!(parts.headers.get("authorization").map(HeaderValue::as_bytes), Some(&b"Bearer own"[..]));
    }
}

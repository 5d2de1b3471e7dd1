//! Login cookies: their names, their attributes, and how many of them a browser keeps.
//!
//! Owns: one cookie per user, so that two tabs may be two users. Its name is `imgate_<tag>_<user>`,
//! where the tag is that of the gateway's key: browsers share cookies between the ports of a host,
//! and two gateways on it must not overwrite each other's. While the key is replaced, cookies with
//! the tag of the other key are read, too. Where the browser's side is encrypted,
//! it begins with `__Host-`: such a cookie never travels in the clear, and no neighbour's site may
//! set it (RFC 6265bis, section 4.1.3.2).
//! Never: sets a cookie for a page of another origin, or with a `Domain`.
//! Bounds: [`LOGIN_COOKIES_MAX`] in one browser; the oldest are removed at a login,
//! [`COOKIES_REMOVED_MAX`] at once.

use std::cmp::Reverse;

use super::{Headers, Judge, Place};
use crate::http::cookie;
use crate::ids::UserId;
use crate::limits::{COOKIES_REMOVED_MAX, LOGIN_COOKIES_MAX};

/// What every name of a login cookie holds; alone before the user it is the name of earlier
/// versions, which is still read.
const PREFIX: &str = "imgate_";
/// What the name begins with where the browser's side is encrypted.
const HOST_PREFIX: &str = "__Host-";

/// A login cookie of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Login<'a> {
    /// As the browser calls it.
    pub(super) name: &'a str,
    /// Whose it says that it is.
    pub(super) user: UserId,
    /// What should prove that.
    pub(super) token: &'a str,
    /// It has the name of earlier versions, which other gateways may use, too.
    pub(super) is_old: bool,
}

impl Judge {
    /// The login cookies of a request, in order, whether their tokens are valid or not.
    pub(super) fn logins<'a>(&self, head: &'a impl Headers) -> impl Iterator<Item = Login<'a>> {
        let cookies = head.values("cookie").flat_map(cookie::parse);
        cookies.filter_map(|cookie| {
            let (user, is_old) = self.owner(cookie.name)?;
            Some(Login { name: cookie.name, user, token: cookie.value, is_old })
        })
    }

    /// Whose cookie has that name, and whether it is the name of earlier versions.
    fn owner(&self, name: &str) -> Option<(UserId, bool)> {
        let bare = name.strip_prefix(HOST_PREFIX);
        let rest = bare.unwrap_or(name).strip_prefix(PREFIX)?;
        match rest.split_once('_') {
            Some((tag, user)) => {
                let is_ours = tag == self.tag || self.fallback_tag.as_deref() == Some(tag);
                Some((user_of(user)?, false)).filter(|_| is_ours)
            }
            None => Some((user_of(rest)?, true)).filter(|_| bare.is_none()),
        }
    }

    /// The values of `Set-Cookie` that log `user` in with `token` for `ttl_ms`, the login itself
    /// last; none where a page of another origin asks, which would choose for its visitor which
    /// user he is. Cookies that are of no use any more are removed, and the oldest beyond
    /// [`LOGIN_COOKIES_MAX`]: a browser sends all of them with each request, and their sum has a
    /// limit.
    #[must_use]
    pub fn log_in(
        &self,
        head: &impl Headers,
        place: Place,
        (user, token): (UserId, &str),
        ttl_ms: u64,
        now_ms: u64,
    ) -> Vec<String> {
        if place.foreign {
            return Vec::new();
        }
        let name = self.name(user, place.https);
        // With the end of each: 0 for what proves nothing.
        let mut others = Vec::new();
        let mut removed = Vec::new();
        for login in self.logins(head).filter(|login| login.name != name) {
            let proven = self.key.verify(login.token, now_ms).ok().filter(|one| one.user() == login.user);
            match proven {
                _ if login.user == user => removed.push(login.name),
                Some(identity) => others.push((identity.expires_ms(), login.name)),
                // It may be another gateway's.
                None if login.is_old => others.push((0, login.name)),
                None => removed.push(login.name),
            }
        }
        others.sort_by_key(|&(expires_ms, _)| Reverse(expires_ms));
        let kept = others.len().min(LOGIN_COOKIES_MAX - 1);
        // The oldest first, since only so many are removed at once.
        removed.extend(others.split_off(kept).into_iter().rev().map(|(_, name)| name));
        let mut lines = removals(removed);
        lines.push(line(&name, token, ttl_ms / 1000));
        lines
    }

    /// The values of `Set-Cookie` that log `user` out in this browser; none where a page of another
    /// origin asks.
    #[must_use]
    pub fn log_out(&self, head: &impl Headers, place: Place, user: UserId) -> Vec<String> {
        if place.foreign {
            return Vec::new();
        }
        let current = self.name(user, place.https);
        let mut names = vec![current.as_str()];
        names.extend(self.logins(head).filter(|login| login.user == user).map(|login| login.name));
        removals(names)
    }

    fn name(&self, user: UserId, https: bool) -> String {
        let host = if https { HOST_PREFIX } else { "" };
        format!("{host}{PREFIX}{}_{user}", self.tag)
    }
}

/// A user as a name says it: digits without leading zeros.
fn user_of(text: &str) -> Option<UserId> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain).and_then(UserId::new)
}

/// The lines that remove these cookies, each once, the first [`COOKIES_REMOVED_MAX`] of them.
fn removals<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut lines = Vec::<String>::new();
    for name in names {
        let line = line(name, "", 0);
        if lines.len() < COOKIES_REMOVED_MAX && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn line(name: &str, value: &str, seconds: u64) -> String {
    let secure = if name.starts_with(HOST_PREFIX) { "; Secure" } else { "" };
    format!("{name}={value}; HttpOnly; SameSite=Lax; Path=/; Max-Age={seconds}{secure}")
}

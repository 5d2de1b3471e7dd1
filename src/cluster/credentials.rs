//! User and password, or token, of the bus: what its URL has before the `@`.
//!
//! Owns: how they reach the client of the bus, which takes only host and port from a URL.
//! Never: shows them.

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

/// `options` with what the first of the URLs has that has a name; all servers of a bus take the
/// same. A name alone is a token, as everywhere with NATS.
pub(super) fn given(options: ConnectOptions, servers: &[String]) -> ConnectOptions {
    match of(servers) {
        Some((user, Some(password))) => options.user_and_password(user, password),
        Some((token, None)) => options.token(token),
        None => options,
    }
}

fn of(servers: &[String]) -> Option<(String, Option<String>)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    servers.iter().find_map(|server| {
        let server: ServerAddr = server.parse().ok()?;
        Some((decoded(server.username()?), server.password().map(decoded)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_url_that_names_somebody_has_them() {
        let of = |urls: &[&str]| of(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["nats://a:4222", "nats://im:s%40same@b:4222"]), Some(("im".into(), Some("s@same".into()))));
        assert_eq!(of(&["tls://t0ken@a"]), Some(("t0ken".into(), None)));
        assert_eq!(of(&["nats://a", "nats://b:4222"]), None);
        assert_eq!(of(&[]), None);
    }
}

//! Counts every request with its status and its time, by the family of its route.
//!
//! Never: by the route itself or by who asks; a client that makes up paths makes no new series.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::app::App;
use crate::clock::Clock;
use crate::metrics::http::Routes;

/// Passes a request on and counts its answer.
pub(super) async fn pass(State(app): State<App>, request: Request, next: Next) -> Response {
    let routes = family(request.uri().path());
    let clock = Clock::start();
    let response = next.run(request).await;
    app.counts.answered(routes, response.status().as_u16(), clock.nanos());
    response
}

fn family(path: &str) -> Routes {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "api" if path.starts_with("/api/v1/files") => Routes::Files,
        "api" if path.starts_with("/api/v1/server/") => Routes::Server,
        "api" => Routes::V1,
        "user" | "contact" | "message" => Routes::Legacy,
        "attach" | "files" | "resource" | "mnt" => Routes::Files,
        "" | "assets" | "app" | "sdk" => Routes::Web,
        _ => Routes::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_family() {
        for (path, routes) in [
            ("/", Routes::Web),
            ("/assets/1/app.css", Routes::Web),
            ("/api/v1/users/7", Routes::V1),
            ("/api/v1/server/messages", Routes::Server),
            ("/api/v1/files/x", Routes::Files),
            ("//user/login", Routes::Legacy),
            ("/attach/upload", Routes::Files),
            ("/mnt/x.png", Routes::Files),
            ("/files/x.png", Routes::Files),
            ("/resource/x.png", Routes::Files),
            ("/chat", Routes::Other),
            ("/../../etc/passwd", Routes::Other),
        ] {
            assert_eq!(family(path), routes, "{path}");
        }
    }
}

//! The control plane: the HTTP API on the public port and the admin port, in ordinary async code.
//!
//! Owns: its runtime and threads, the connections that the gates hand over, the admin listeners.
//! Never: touches a session. What concerns one goes to its shard as a notice, and is awaited with a deadline.
//! Talks to: the store ([`services::Db`]), the homes ([`services::Homes`]), the gates ([`crate::mesh::Gate`]).

pub mod admin;
pub mod control;
pub mod services;

mod binding;
mod caller;
mod client;
mod connection;
mod cors;
mod crowd;
mod date;
mod delivery;
mod door;
mod envelope;
mod exchange;
mod following;
mod legacy;
mod messages;
mod pages;
mod rewind;
mod seating;
#[cfg(test)]
mod tests;
mod turnstile;
mod uploads;
mod v1;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::auth::Key;
use crate::caller::Judge;
use crate::clock;
use crate::fair::Networks;
use crate::ids::UserId;
use crate::limits;
use crate::log::outage::Outage;
use crate::mesh::{ControlPlane, Gate};
use crate::metrics::accounts::AccountCounts;
use crate::metrics::http::HttpCounts;
use crate::store::worker::Store;
use crate::threads::Priority;
use admin::{Insight, Metrics};
use binding::Asked;
pub use connection::Deadlines;
use crowd::Crowd;
use door::{Door, Hall};
use pages::Pages;
pub use seating::SeatBounds;
use seating::Seating;
pub use services::attempts::Allowed;
use services::attempts::Attempts;
use services::passwords::Passwords;
use services::{Db, Homes, Services, accounts};
use uploads::{Desks, Uploads, cleaning};
pub use uploads::{FileCounters, picture_size};

/// What the control plane is built from.
pub struct Setup {
    /// The running store.
    pub store: Store,
    /// Signs and checks tokens.
    pub key: Key,
    /// The way to the shards; [`crate::mesh::Notices`] is one.
    pub homes: Arc<dyn Homes>,
    /// Where upgrades on kept-alive connections go.
    pub gate: Arc<dyn Gate>,
    /// How long tokens and their cookies live, in milliseconds.
    pub token_ttl_ms: u64,
    /// Who may make accounts, and how often people may be looked up.
    pub allowed: Allowed,
    /// Where logins and registrations are counted.
    pub counts: Arc<AccountCounts>,
    /// Says who asks, and from where.
    pub judge: Arc<Judge>,
    /// The control socket, bound.
    pub control: Option<control::Socket>,
    /// Other gateways may write to the same database: what they change about users is followed.
    pub shared: bool,
    /// The admin listeners, bound.
    pub admin: Vec<TcpListener>,
    /// The text of a scrape.
    pub metrics: Metrics,
    /// How patient it is with slow connections.
    pub deadlines: Deadlines,
    /// Networks of proxies, which have no share of the seats.
    pub trusted_proxies: Networks,
    /// Connections of the public port, and what they may hold.
    pub seats: SeatBounds,
    /// Where connections and requests are counted.
    pub http: Arc<HttpCounts>,
    /// Passwords hashed at once: half of the cores, at least one.
    pub password_threads: usize,
    /// The directory of uploaded files.
    pub files: PathBuf,
    /// What users may upload.
    pub uploads: UploadBounds,
    /// Counts for the scrape.
    pub file_counters: Arc<FileCounters>,
    /// A checkout of an original, whose pages are served.
    pub legacy_pages: Option<PathBuf>,
    /// What an operator may set off at the admin port.
    pub operator: admin::Operator,
}

/// What users may upload.
#[derive(Clone, Copy, Debug)]
pub struct UploadBounds {
    /// Bytes of a file; 0 allows none.
    pub bytes_max: u64,
    /// Bytes of all files of one user; 0: without a bound.
    pub user_bytes_max: u64,
    /// Files of one user in a minute; 0: without a bound.
    pub per_minute: u32,
    /// Milliseconds for which a file is kept that nothing refers to; 0: for ever.
    pub grace_ms: u64,
    /// Milliseconds between two looks for such files.
    pub look_ms: u64,
}

/// The running control plane.
pub struct ApiHandle {
    runtime: Runtime,
    /// The admin port's own: it answers when everything else is busy.
    admin_runtime: Runtime,
    door: Arc<Door>,
    stop: watch::Sender<bool>,
    stopping: Arc<AtomicBool>,
    /// Ends when the last connection of both doors has gone.
    gone: mpsc::Receiver<()>,
}

/// Threads of the runtime: the control plane is light, and the cores belong to the shards.
const RUNTIME_THREADS: usize = 2;
/// Blocking threads of the admin port, for scrapes.
const PROBE_THREADS: usize = 4;

/// Starts the control plane on its own threads.
///
/// # Errors
/// Threads, listeners or randomness are not to be had.
pub fn start(setup: Setup) -> io::Result<ApiHandle> {
    let runtime = runtime_of("imgate-api", RUNTIME_THREADS, limits::FILE_JOBS_MAX + limits::FILM_JOBS_MAX, || {
        Priority::Http.give_way();
    })?;
    let admin_runtime = runtime_of("imgate-admin", 1, PROBE_THREADS, || {})?;
    let passwords = Passwords::new(setup.password_threads).map_err(io::Error::other)?;
    let db = Db::new(setup.store.clone());
    let homes = Arc::clone(&setup.homes);
    let services = Arc::new(services_of(&setup, &db, &passwords));
    let desks = Desks::new(limits::FILE_JOBS_MAX);
    let admin_key = setup.key.clone();
    let pages = setup.legacy_pages.map(|root| Pages::open(&root, desks.clone())).transpose()?;
    let uploads = Arc::new(Uploads::open(setup.files, setup.key, setup.uploads, desks, setup.file_counters)?);
    runtime.spawn(cleaning::clean(Arc::downgrade(&uploads), db.clone(), setup.uploads.look_ms));
    let app = App {
        services: Arc::clone(&services),
        judge: Arc::clone(&setup.judge),
        uploads,
        pages: pages.map(Arc::new),
        crowd: Arc::default(),
        description: v1::described(),
        index: Arc::new(client::Index::new()),
    };
    let stopping = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = watch::channel(false);
    let (alive, gone) = mpsc::channel(1);
    let seating = Seating::new(setup.seats, setup.trusted_proxies.clone(), Arc::clone(&setup.http));
    let metrics = counted(setup.metrics, Arc::clone(&seating), passwords);
    let insight = Insight {
        metrics,
        homes,
        db,
        probes: Arc::new(Semaphore::new(PROBE_THREADS)),
        stopping: Arc::clone(&stopping),
        key: admin_key,
        operator: setup.operator,
    };
    let public = Hall {
        router: routes(app),
        gate: Some(setup.gate),
        judge: setup.judge,
        counts: setup.counts,
        deadlines: setup.deadlines,
        stop: stopped.clone(),
        spare: Arc::clone(&seating),
        seating,
        alive,
    };
    let back = Hall {
        router: admin::routes(insight, is_local(&setup.admin)),
        gate: None,
        seating: Seating::new(SeatBounds::admin(), setup.trusted_proxies, setup.http),
        ..public.clone()
    };
    if let Some(socket) = setup.control {
        runtime.spawn(control::serve(socket, Arc::clone(&services), stop.subscribe()));
    }
    if setup.shared {
        runtime.spawn(following::follow(services, stop.subscribe()));
    }
    let (door, line) = Door::new(Arc::clone(&public.seating));
    runtime.spawn(door::serve_line(line, public));
    open_admin(&admin_runtime, setup.admin, &back)?;
    Ok(ApiHandle { runtime, admin_runtime, door: Arc::new(door), stop, stopping, gone })
}

fn services_of(setup: &Setup, db: &Db, passwords: &Passwords) -> Services {
    Services {
        db: db.clone(),
        homes: Arc::clone(&setup.homes),
        key: setup.key.clone(),
        passwords: passwords.clone(),
        attempts: Attempts::new(setup.allowed, Arc::clone(&setup.counts)),
        token_ttl_ms: setup.token_ttl_ms,
        group_rule: setup.allowed.group_rule,
        untold: Outage::default(),
    }
}

fn open_admin(runtime: &Runtime, listeners: Vec<TcpListener>, hall: &Hall) -> io::Result<()> {
    let _entered = runtime.enter();
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        runtime.spawn(door::serve_listener(listener, hall.clone()));
    }
    Ok(())
}

/// Whether only this machine reaches the listeners.
fn is_local(listeners: &[TcpListener]) -> bool {
    listeners.iter().all(|listener| listener.local_addr().is_ok_and(|address| address.ip().is_loopback()))
}

fn runtime_of(name: &str, threads: usize, blocking: usize, begin: fn()) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(blocking)
        .thread_name(name)
        .on_thread_start(begin)
        .enable_all()
        .build()
}

/// A scrape that begins with laying down the gauges of the control plane.
fn counted(metrics: Metrics, seating: Arc<Seating>, passwords: Passwords) -> Metrics {
    Arc::new(move || {
        seating.publish();
        seating.counts().passwords(passwords.waiting());
        metrics()
    })
}

impl ApiHandle {
    /// Where the gates hand over what is no upgrade.
    #[must_use]
    pub fn control_plane(&self) -> Arc<dyn ControlPlane> {
        Arc::clone(&self.door) as Arc<dyn ControlPlane>
    }

    /// Says on `/readyz` that the gateway stops, so that a balancer looks elsewhere; everything is served as before.
    pub fn announce_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Takes no new connection, lets requests under way end for at most `patience`, then ends the rest. Blocks.
    pub fn stop(self, patience: Duration) {
        self.announce_stop();
        // The receivers live in the halls; without any there is nothing left to tell.
        self.stop.send_replace(true);
        let mut gone = self.gone;
        let ended = self.runtime.block_on(async { tokio::time::timeout(patience, gone.recv()).await });
        if ended.is_err() {
            tracing::warn!("HTTP requests were cut off by the stop");
        }
        self.runtime.shutdown_background();
        self.admin_runtime.shutdown_background();
    }
}

/// What every handler of the public routes knows.
#[derive(Clone)]
struct App {
    services: Arc<Services>,
    judge: Arc<Judge>,
    uploads: Arc<Uploads>,
    pages: Option<Arc<Pages>>,
    crowd: Arc<Crowd>,
    /// The OpenAPI document.
    description: Bytes,
    /// The page of the web client.
    index: Arc<client::Index>,
}

impl App {
    /// The user who acts, or the answer to who may not.
    async fn acting(&self, asked: &Asked, claimed: i64) -> Result<UserId, Response> {
        let identity = self.identity(asked.headers(), asked.place(), claimed);
        let identity = identity.ok_or_else(|| envelope::failure(legacy::NOT_LOGGED_IN))?;
        match accounts::acting(&self.services, identity).await {
            Ok(user) => user.ok_or_else(|| envelope::failure(legacy::NOT_LOGGED_IN)),
            Err(why) => Err(envelope::failure(legacy::trouble(why))),
        }
    }
}

fn routes(app: App) -> Router {
    Router::new()
        .merge(legacy::routes())
        .merge(uploads::routes())
        .route("/message/history", get(messages::history))
        .route("/", get(front))
        .merge(client::routes())
        // The gate takes what asks for an upgrade here; what does not is told as the originals tell it.
        .route("/chat", any(no_upgrade))
        .route("/chatroom", any(no_upgrade))
        .merge(v1::routes())
        .layer(from_fn_with_state(app.clone(), turnstile::pass))
        .layer(DefaultBodyLimit::max(limits::HTTP_BODY_BYTES_MAX))
        .layer(from_fn_with_state(app.clone(), cors::pass))
        .with_state(app)
}

async fn no_upgrade() -> Response {
    let version = [(header::SEC_WEBSOCKET_VERSION, "13")];
    (version, page(StatusCode::BAD_REQUEST, "Bad Request\n")).into_response()
}

/// What has no route: a page or a file of the original, if there is one.
async fn unknown(State(app): State<App>, request: Request) -> Response {
    match &app.pages {
        Some(pages) => {
            let (parts, _) = request.into_parts();
            match pages.answer(&parts).await {
                Some(mut response) => {
                    log_in_by_link(&app, &parts, &mut response).await;
                    response
                }
                None => not_found().await,
            }
        }
        None => not_found().await,
    }
}

/// A page that is opened by its link alone (`?id=&token=`: copied, or in a WebView) has no login cookie, and its lists would
/// stay empty although its socket works: in the originals the two parameters are enough. It gets the cookie, unless another
/// site's page leads there.
async fn log_in_by_link(app: &App, parts: &Parts, response: &mut Response) {
    let is_page = parts.uri.path().ends_with(".shtml") && response.status() == StatusCode::OK;
    let Some(query) = parts.uri.query().filter(|_| is_page) else { return };
    let value = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let (Some(id), Some(token)) = (value("id"), value("token")) else { return };
    let Ok(identity) = app.services.key.verify(&token, clock::wall_ms()) else { return };
    if id != identity.user().to_string() {
        return;
    }
    if let Ok(Some(user)) = accounts::acting(&app.services, identity).await {
        app.log_in(response, (&parts.headers, caller::place(&parts.extensions)), (user, &token));
    }
}

/// Our web client; or, with pages of an original, their login.
async fn front(State(app): State<App>, headers: HeaderMap) -> Response {
    match app.pages.as_ref().and_then(|pages| pages.front()) {
        Some(login) => login,
        None => app.index.answer(&headers),
    }
}

async fn not_found() -> Response {
    page(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn page(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

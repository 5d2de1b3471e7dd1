//! The control plane: the HTTP API on the public port and the admin port, in ordinary async code.
//!
//! Owns: its runtime and threads, the connections that the gates hand over, the admin listeners.
//! Never: touches a session. What concerns one goes to its shard as a notice, and is awaited with a
//! deadline.
//! Talks to: the store ([`services::Db`]), the homes ([`services::ShardAccess`]), the gates
//! ([`crate::mesh::Gate`]).

pub mod admin;
pub mod control;
pub mod services;

mod absent;
mod acceptor;
mod app;
mod blocking;
mod bodies;
mod caller;
mod client;
mod connection;
mod cors;
mod current_judge;
mod delivery;
mod ending;
mod exchange;
mod family;
mod files;
mod following;
mod foreign;
mod history;
mod json;
#[cfg(feature = "legacy")]
mod legacy;
mod limiter;
mod measured;
mod rewind;
mod slots;
mod stream;
#[cfg(test)]
mod tests;
mod trails;
mod uploads;
mod user_requests;
mod v1;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore};

use crate::auth::Key;
use crate::caller::Judge;
use crate::fair::Networks;
use crate::hooks::Hooks;
use crate::limits;
use crate::log::outage::Outage;
use crate::log::trail::Trails;
use crate::mesh::{ControlPlane, Gate};
use crate::metrics::accounts::AccountCounts;
use crate::metrics::http::HttpCounts;
use crate::object_store::ObjectStore;
use crate::store::worker::Store;
use crate::threads::Priority;
use acceptor::HandoverQueue;
use admin::{Insight, Metrics};
use app::{App, SitePages};
use blocking::BlockingJobs;
use connection::ConnectionContext;
pub use connection::Deadlines;
use current_judge::CurrentJudge;
pub use ending::AdminPort;
use ending::{Ending, Mortal};
use foreign::ForeignTokens;
use services::api_keys::Keyring;
pub use services::attempts::Allowed;
use services::attempts::Attempts;
pub use services::jwt::{BadKeys, Jwt, JwtSettings};
use services::passwords::Passwords;
use services::{Db, Services, ShardAccess, subjects};
use slots::ConnectionSlots;
pub use slots::SlotBounds;
pub use uploads::{FileCounters, UploadBounds};
use uploads::{Uploads, cleaning};

/// What the control plane is built from.
pub struct Setup {
    /// The running store.
    pub store: Store,
    /// Signs and checks tokens.
    pub key: Key,
    /// The way to the shards; [`crate::mesh::Notices`] is one.
    pub homes: Arc<dyn ShardAccess>,
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
    /// How gateways that speak with each other hear sooner of what the others have changed.
    pub others: Option<Others>,
    /// The admin listeners, bound.
    pub admin: Vec<TcpListener>,
    /// The text of a scrape.
    pub metrics: Metrics,
    /// How patient it is with slow connections.
    pub deadlines: Deadlines,
    /// Networks of proxies, which have no share of the slots.
    pub trusted_proxies: Networks,
    /// Connections of the public port, and what they may hold.
    pub slots: SlotBounds,
    /// Where connections and requests are counted.
    pub http: Arc<HttpCounts>,
    /// Passwords hashed at once: half of the cores, at least one.
    pub password_threads: usize,
    /// The directory of uploaded files; of their drafts alone if there are [`Setup::objects`].
    pub files: PathBuf,
    /// The object store in which files are kept.
    pub objects: Option<Arc<ObjectStore>>,
    /// What users may upload.
    pub uploads: UploadBounds,
    /// Counts for the scrape.
    pub file_counters: Arc<FileCounters>,
    /// Seconds for which browsers that came over TLS come over nothing else; 0: they are told
    /// nothing.
    pub hsts_s: u64,
    /// A checkout of an original, whose pages are served.
    pub legacy_pages: Option<PathBuf>,
    /// What is asked of tokens of another system.
    pub jwt: JwtSettings,
    /// What webhooks are told.
    pub hooks: Hooks,
    /// `durability = "volatile"`: no message is stored.
    pub volatile: bool,
    /// What an operator may set off at the admin port.
    pub operator: admin::Operator,
    /// Where it is written down what happens.
    pub trails: Trails,
}

/// The running control plane.
pub struct ApiHandle {
    runtime: Runtime,
    handovers: Arc<HandoverQueue>,
    foreign: ForeignTokens,
    uploads: Arc<Uploads>,
    judge: Arc<CurrentJudge>,
    stopping: Arc<AtomicBool>,
    /// The end of the public port's connections.
    ending: Ending,
    slots: Arc<ConnectionSlots>,
    /// With a runtime of its own: it answers when everything else is busy, or has ended.
    admin: AdminPort,
}

/// What a running control plane takes up when the configuration was loaded again.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// See [`Setup::allowed`].
    pub allowed: Allowed,
    /// See [`Setup::token_ttl_ms`].
    pub token_ttl_ms: u64,
    /// See [`Setup::uploads`].
    pub uploads: UploadBounds,
    /// See [`Setup::judge`].
    pub judge: Arc<Judge>,
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
    // The name of an object store is looked up on one more.
    let blocking = limits::FILE_JOBS_MAX + limits::FILM_JOBS_MAX + usize::from(setup.objects.is_some());
    let runtime = runtime_of("imgate-api", RUNTIME_THREADS, blocking, || Priority::Http.give_way())?;
    let admin_runtime = runtime_of("imgate-admin", 1, PROBE_THREADS, || {})?;
    let passwords = Passwords::new(setup.password_threads).map_err(io::Error::other)?;
    let db = Db::new(setup.store.clone());
    let services = Arc::new(services_of(&setup, &db, &passwords));
    let foreign = foreign_tokens(&setup, &services)?;
    let jobs = BlockingJobs::new(limits::FILE_JOBS_MAX);
    let admin_key = setup.key.clone();
    let pages = site_pages(setup.legacy_pages, &jobs)?;
    let uploads =
        Arc::new(Uploads::open((setup.files, setup.objects), setup.key, setup.uploads, jobs, setup.file_counters)?);
    runtime.spawn(cleaning::clean(Arc::downgrade(&uploads), db.clone(), setup.uploads.look_ms));
    let judge = Arc::new(CurrentJudge::new(setup.judge));
    let app = App {
        services: Arc::clone(&services),
        judge: Arc::clone(&judge),
        uploads: Arc::clone(&uploads),
        pages,
        user_requests: Arc::default(),
        description: v1::described(),
        counts: Arc::clone(&setup.http),
        index: Arc::new(client::Index::new()),
        board: setup.operator.board.clone(),
    };
    let stopping = Arc::new(AtomicBool::new(false));
    let (ending, mortal) = Ending::new();
    let slots = ConnectionSlots::new(setup.slots, setup.trusted_proxies.clone(), Arc::clone(&setup.http));
    let metrics = counted(setup.metrics, Arc::clone(&slots), passwords);
    let insight = Insight {
        metrics,
        services: Arc::clone(&services),
        db,
        probes: Arc::new(Semaphore::new(PROBE_THREADS)),
        stopping: Arc::clone(&stopping),
        key: admin_key,
        operator: setup.operator,
        looks: Arc::new(Semaphore::new(1)),
    };
    let public = ConnectionContext {
        router: routes(app),
        gate: Some(setup.gate),
        judge: Arc::clone(&judge),
        counts: setup.counts,
        hsts: connection::hsts(setup.hsts_s),
        foreign: Some(foreign.clone()),
        deadlines: setup.deadlines,
        trails: setup.trails,
        numbers: Arc::new(AtomicU64::new(1)),
        spare: Arc::clone(&slots),
        slots: Arc::clone(&slots),
        courtesy: services.passwords.courtesy(),
        mortal: mortal.clone(),
    };
    let back_slots = ConnectionSlots::new(SlotBounds::admin(), setup.trusted_proxies, setup.http);
    let back = (admin::routes(insight, is_local(&setup.admin)), back_slots);
    let admin = open_admin(admin_runtime, setup.admin, &public, back)?;
    let following = (setup.shared, setup.others.map(|others| others.heard));
    serve_beside(&runtime, setup.control, following, services, &mortal);
    let (queue, handovers) = HandoverQueue::new(Arc::clone(&slots));
    runtime.spawn(acceptor::serve_handovers(handovers, public));
    Ok(ApiHandle { runtime, handovers: Arc::new(queue), foreign, uploads, judge, stopping, ending, slots, admin })
}

/// The other gateways of the same database.
pub struct Others {
    /// To be called when something that they follow was changed here.
    pub tell: Arc<dyn Fn() + Send + Sync>,
    /// Notified when one of them has changed something.
    pub heard: Arc<Notify>,
}

fn services_of(setup: &Setup, db: &Db, passwords: &Passwords) -> Services {
    Services {
        db: db.clone(),
        homes: Arc::clone(&setup.homes),
        key: setup.key.clone(),
        passwords: passwords.clone(),
        attempts: Attempts::new(setup.allowed, Arc::clone(&setup.counts)),
        token_ttl: AtomicU64::new(setup.token_ttl_ms),
        untold: Outage::default(),
        keys: Keyring::new(Arc::clone(setup.counts.backends())),
        hooks: setup.hooks.clone(),
        volatile: setup.volatile,
        ending: Arc::new(Semaphore::new(limits::FOLLOW_TELLING_MAX)),
        system: OnceLock::new(),
        system_sought_ms: AtomicU64::new(0),
        audit: setup.trails.audit.clone(),
        tell_others: setup.others.as_ref().map(|others| Arc::clone(&others.tell)),
    }
}

/// What is served beside HTTP.
fn serve_beside(
    runtime: &Runtime,
    control: Option<control::Socket>,
    (shared, heard): (bool, Option<Arc<Notify>>),
    services: Arc<Services>,
    Mortal { stop, alive }: &Mortal,
) {
    if let Some(messages) = services.hooks.group_messages() {
        runtime.spawn(absent::tell(Arc::clone(&services), messages, stop.clone(), alive.clone()));
    }
    if let Some(socket) = control {
        runtime.spawn(control::serve(socket, Arc::clone(&services), stop.clone()));
    }
    // An earlier run may have made it; who asks is told from the beginning.
    let seeking = Arc::clone(&services);
    runtime.spawn(async move { subjects::seek_system(&seeking).await });
    if shared {
        runtime.spawn(following::follow(services, heard, stop.clone()));
    }
}

fn foreign_tokens(setup: &Setup, services: &Arc<Services>) -> io::Result<ForeignTokens> {
    let jwt = Jwt::new(setup.jwt.clone(), Arc::clone(&setup.counts)).map_err(io::Error::other)?;
    Ok(ForeignTokens { jwt: Arc::new(jwt), services: Arc::clone(services) })
}

/// Serves the admin port, whose connections share what those of the `public` one do, but for what
/// is given.
fn open_admin(
    runtime: Runtime,
    listeners: Vec<TcpListener>,
    public: &ConnectionContext,
    (router, slots): (Router, Arc<ConnectionSlots>),
) -> io::Result<AdminPort> {
    let (ending, mortal) = Ending::new();
    let port = AdminPort { runtime, ending, slots: Arc::clone(&slots) };
    let context = ConnectionContext { router, gate: None, hsts: None, foreign: None, slots, mortal, ..public.clone() };
    let entered = port.runtime.enter();
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        port.runtime.spawn(acceptor::serve_listener(listener, context.clone()));
    }
    drop(entered);
    Ok(port)
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
fn counted(metrics: Metrics, slots: Arc<ConnectionSlots>, passwords: Passwords) -> Metrics {
    Arc::new(move |format, unready| {
        slots.publish();
        slots.counts().passwords(passwords.waiting());
        metrics(format, unready)
    })
}

impl ApiHandle {
    /// Where the gates hand over what is no upgrade.
    #[must_use]
    pub fn control_plane(&self) -> Arc<dyn ControlPlane> {
        Arc::clone(&self.handovers) as Arc<dyn ControlPlane>
    }

    /// Reads the keys of the other system again. Users that came in by a key that is gone are
    /// disconnected, by and by; how many they are.
    ///
    /// # Errors
    /// A file is none of keys; the old ones stay.
    pub fn reload_jwt(&self, settings: JwtSettings) -> Result<usize, BadKeys> {
        let gone = self.foreign.jwt.reload(settings)?;
        let (users, services) = (gone.len(), Arc::clone(&self.foreign.services));
        self.runtime.spawn(async move { Jwt::end_sessions(&services, gone).await });
        Ok(users)
    }

    /// Goes by other settings from now on; requests under way end as they have begun.
    pub fn adjust(&self, to: ControlSettings) {
        let services = &self.foreign.services;
        services.attempts.allow(to.allowed);
        services.token_ttl.store(to.token_ttl_ms, Ordering::Relaxed);
        self.uploads.bound(to.uploads);
        self.judge.set(to.judge);
    }

    /// Says on `/readyz` that the gateway stops, so that a balancer looks elsewhere; the control
    /// plane serves everything as before.
    pub fn announce_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Takes no new connection of the public port, lets requests under way end for at most
    /// `patience`, then ends the rest; how many these are. The admin port goes on: whoever looks
    /// sees a gateway that stops. Blocks.
    pub fn stop_public(self, patience: Duration) -> (usize, AdminPort) {
        self.announce_stop();
        (self.ending.end(self.runtime, &self.slots, patience), self.admin)
    }

    /// As [`ApiHandle::stop_public`], of both ports.
    pub fn stop(self, patience: Duration) -> usize {
        let (cut, admin) = self.stop_public(patience);
        cut + admin.stop(patience)
    }
}

fn routes(app: App) -> Router {
    let router = Router::new()
        .route("/", get(front))
        .route("/files/{name}", any(files::file))
        .merge(client::routes())
        // The gate takes what asks for an upgrade here; what does not is told as the originals tell
        // it.
        .route("/chat", any(no_upgrade))
        .route("/chatroom", any(no_upgrade))
        .merge(v1::routes());
    #[cfg(feature = "legacy")]
    let router = router.merge(legacy::routes());
    router
        .layer(from_fn_with_state(app.clone(), limiter::pass))
        .layer(DefaultBodyLimit::max(limits::HTTP_BODY_BYTES_MAX))
        .layer(from_fn_with_state(app.clone(), cors::pass))
        .layer(from_fn_with_state(app.clone(), measured::pass))
        .layer(from_fn(trails::route))
        .with_state(app)
}

async fn no_upgrade() -> Response {
    let version = [(header::SEC_WEBSOCKET_VERSION, "13")];
    (version, json::text(StatusCode::BAD_REQUEST, "Bad Request\n")).into_response()
}

/// Our web client; or, with pages of an original, their login.
async fn front(State(app): State<App>, headers: HeaderMap) -> Response {
    let pages = app.pages.as_ref().and_then(|pages| pages.front());
    pages.unwrap_or_else(|| app.index.answer(&headers))
}

/// The pages of an original, from the checkout at `root`.
#[cfg(feature = "legacy")]
fn site_pages(root: Option<PathBuf>, jobs: &BlockingJobs) -> io::Result<Option<Arc<dyn SitePages>>> {
    let Some(root) = root else { return Ok(None) };
    Ok(Some(Arc::new(legacy::pages::Pages::open(&root, jobs.clone())?)))
}

/// The pages of an original are not in this build.
#[cfg(not(feature = "legacy"))]
fn site_pages(root: Option<PathBuf>, _: &BlockingJobs) -> io::Result<Option<Arc<dyn SitePages>>> {
    let refused = root.map(|_| io::Error::other("legacy_pages is set, and this build has no feature `legacy`"));
    refused.map_or(Ok(None), Err)
}

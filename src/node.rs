//! One gateway process: builds everything, starts the threads in order, stops them in reverse.
//!
//! Owns: the order of start and stop, the signals, the descriptor limit.
//! Never: takes part in the work; between start and stop it only waits.
//! Bounds: a stop takes at most what the setting `drain_deadline` says (`stop`).

mod cluster;
mod data;
mod endings;
mod keys;
mod memory;
mod outside;
mod reloading;
mod settings;
mod signals;
mod starting;
mod stop;
mod supervisor;
mod surroundings;
mod tls;
mod turns;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, available_parallelism};
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use imgate_tls::{Acceptor, Certificates};
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::endings::Endings;
pub use self::keys::{gateways_key, signing_key, tokens_key};
use self::outside::Outside;
use self::reloading::{Fixed, Reloading};
use self::settings::{Counts, allowed, jwt_settings, start_hooks, trails, upload_bounds};
use self::signals::{Heard, Wish};
use self::starting::{Crossing, start_unless_stopped};
pub use self::stop::Stopped;
use self::supervisor::{Supervisor, Watchdog};
use self::surroundings::{Surroundings, SurroundingsWatch};
pub use self::tls::check_certificates;
use crate::api::admin::ReloadWish;
use crate::api::services::ShardAccess;
use crate::api::{self, ApiHandle};
use crate::auth::Key;
use crate::caller::Judge;
use crate::clock::{self, Clock};
use crate::cluster::{Cluster, Numbers};
use crate::config::{self, Config, Durability, Layers};
use crate::driver::{self, AddressCounts, AddressLimits, Driver, HandOver, Parts, Pressure, ReturnGate};
use crate::hooks::{Hooks, Telling};
use crate::ids::ShardId;
use crate::limits::{DESCRIPTORS_RESERVED, DESCRIPTORS_RESERVED_PART, HEAD_MS_MAX, MESSAGE_MS_MAX, WELCOME_MS_MAX};
use crate::log::Log;
use crate::log::trail::Trails;
use crate::mesh::{self, ControlPlane, Gate, Orders, ShardEnd, StopProgress};
use crate::metrics::process::ProcessNumbers;
use crate::metrics::render::{Scrape, StoreNumbers, render};
use crate::metrics::surroundings::BudgetNumbers;
use crate::metrics::threads::ThreadTimes;
use crate::metrics::{Board, Publisher};
use crate::object_store::ObjectStore;
use crate::shard::Setup;
use crate::store::worker::{Replies, Store};
use crate::store::{self, Backend, Backups, DataLock, Opened};

/// What only tests set.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// How long a request head may take.
    pub head_ms_max: u64,
    /// How long a 101 may wait for the first frames of its session.
    pub welcome_ms_max: u64,
    /// How long a message may take from its first byte to its last.
    pub message_ms_max: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { head_ms_max: HEAD_MS_MAX, welcome_ms_max: WELCOME_MS_MAX, message_ms_max: MESSAGE_MS_MAX }
    }
}

/// How many lines of the log were lost so far.
type LostLines = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a running gateway is asked to do.
enum Asked {
    /// Stop in order.
    Stop,
    /// Load the configuration again; whoever has asked at the admin port wants to know how it went.
    Reload(Option<ReloadWish>),
}

impl From<Wish> for Asked {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Stop => Self::Stop,
            Wish::Reload => Self::Reload(None),
        }
    }
}

/// A running gateway.
pub struct Node {
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
    /// Bound for as long as this is.
    admin_port: TcpListener,
    clock: Clock,
    orders: Orders,
    progress: Receiver<StopProgress>,
    /// Ends when the last shard's thread does.
    ended: Receiver<Infallible>,
    drain: config::DrainPlan,
    endings: Endings,
    /// The way to the shards for threads that ask them something.
    homes: Arc<dyn ShardAccess>,
    /// The hash of the configuration as it was last loaded.
    fingerprint: Arc<Mutex<String>>,
    /// A request at the admin port wants the gateway to stop.
    drain_asked: Receiver<()>,
    /// A request at the admin port wants the configuration loaded again.
    reload_asked: Receiver<ReloadWish>,
    /// What stays when the configuration is loaded again.
    fixed: Fixed,
    /// Where it is written down what happens.
    trails: Trails,
    backups: Backups,
    board: Board,
    store: Store,
    api: ApiHandle,
    certificates: Option<Arc<Certificates>>,
    cluster: Option<Cluster>,
    /// Tells the webhooks.
    telling: Telling,
    /// They look as long as the gateway lives.
    _watches: (memory::Watch, SurroundingsWatch),
    /// Nothing of another gateway may lie in the same directory.
    _data_lock: Arc<DataLock>,
}

/// Reads the sources of the configuration again.
///
/// # Errors
/// One of them cannot be read, or says what it may not.
pub type Load = Box<dyn FnMut() -> anyhow::Result<Layers>>;

/// Runs a gateway until a signal ends it; `signals` says which signal means what. A stop that comes
/// during the start ends the process before it has served. What is given back is the admin port,
/// to be dropped as the last thing: whoever waits for the end (`imgate drain`) looks at it.
///
/// `load` reads the sources of the configuration, `layers` is what it has said for `config`.
///
/// # Errors
/// It cannot start; why is in the chain.
pub fn run(config: &Config, layers: Layers, log: &Log, load: Load) -> anyhow::Result<Option<TcpListener>> {
    // Before anything else, so that a signal during the start is not lost.
    let Heard { wishes, hurries } = signals::watch().context("cannot listen for signals")?;
    for (setting, why) in config.without_effect() {
        tracing::warn!(setting, "this setting has no effect: {why}");
    }
    let (configured, outside) = (config.clone(), Outside::of(log, &layers));
    let settings = Arc::clone(&outside.settings);
    let start = move |crossing: &_| Node::start_inside(&configured, Tuning::default(), outside, crossing);
    let Some((mut node, heard)) = start_unless_stopped(&wishes, start)? else {
        tracing::info!("stopped during the start");
        return Ok(None);
    };
    let mut reloading = Reloading::new(layers, load, settings);
    let supervisor = Supervisor::of_environment();
    let watchdog = node.watchdog().inspect_err(|_| node.endings.stopped()).context("cannot start a thread")?;
    supervisor.ready();
    // What was read for the start may be older than what whoever asked meanwhile has written.
    let mut wish = heard.map_or_else(|| node.next_wish(&wishes), Asked::from);
    while let Asked::Reload(whom) = wish {
        supervisor.reloading();
        let outcome = reloading.reload(&mut node, log, if whom.is_some() { "operator" } else { "signal" });
        if let Some(whom) = whom {
            // It may have waited too long.
            let _ = whom.send(outcome);
        }
        supervisor.ready();
        wish = node.next_wish(&wishes);
    }
    tracing::info!("stopping");
    supervisor.stopping();
    // From now on the deadline counts: shards that have ended answer no watchdog.
    drop(watchdog);
    let admin_port = node.admin_port.try_clone().ok();
    let stopped = node.stop_unless_hurried(&hurries);
    supervisor.status(&stopped);
    if stopped.is_orderly() {
        tracing::info!("stopped: {stopped}");
    } else {
        tracing::warn!("stopped, not in order: {stopped}");
    }
    Ok(admin_port)
}

impl Node {
    /// Starts a gateway: store, control plane, shards, in this order, so that none of them is asked
    /// before it can answer. Port 0 lets the kernel choose; see [`Node::addresses`].
    ///
    /// # Errors
    /// The data directory, the database, an address or a thread is not to be had.
    pub fn start(config: &Config, tuning: Tuning) -> anyhow::Result<Self> {
        Self::start_inside(config, tuning, Outside::none(), &Crossing::default())
    }

    /// As [`Node::start`], inside a process that has a log, and that may be stopped meanwhile.
    fn start_inside(config: &Config, tuning: Tuning, outside: Outside, crossing: &Crossing) -> anyhow::Result<Self> {
        raise_descriptor_limit();
        let (clock, start_ms) = (Clock::start(), clock::wall_ms());
        probe_addresses(config)?;
        let data_lock = data::lock(config)?;
        // Before the store is opened, which another try would find taken.
        let (key, counts) = (signing_key(config)?, Counts::new(config)?);
        let shards = config.shards;
        let (mut mesh, boot) = (mesh::build(shards).context("no polls for the shards")?, getrandom::u64()?);
        let store = open_store(config, &data_lock, Arc::clone(&mesh.replies) as _, clock)?;
        let cluster = cluster::start(config, &key, boot, &mut mesh, &store, clock)?;
        let Sockets { mut public, mut proxied, mut tls, admin, addresses, admin_address } = Sockets::bind(config)?;
        let admin_port = admin.try_clone().context("the admin port has no descriptor")?;
        let certificates = tls::certificates(config)?;
        let board = Board::new(shards);
        let ((drain, drain_asked), (reload, reload_asked)) = (bounded(1), bounded(1));
        let pressure = Arc::new(Pressure::new(memory::allowed(config.memory_max)));
        let (judge, trails) = (judge(config, &key), trails(config)?);
        let (hooks, telling) = start_hooks(config, &counts).context("cannot start the webhooks")?;
        let fingerprint = Arc::new(Mutex::new(config.fingerprint()));
        let around = Arc::new(Surroundings::new((clock, start_ms), config.data.clone(), certificates.clone()));
        let endings = Endings::of(&config.data, config.node);
        let numbers = (pressure.max(), Arc::clone(&around), cluster.as_ref().map(Cluster::numbers), endings.unclean());
        let process = (start_ms, clock, Arc::clone(&outside.lost_lines));
        let metrics = scraper(&board, config, &store, &counts, process, numbers, (&fingerprint, &trails));
        let homes = Arc::new(mesh.notices) as Arc<dyn ShardAccess>;
        let memory = memory::Watch::start(&pressure, turns::watch(&board, clock, &homes)).context("no thread")?;
        let ways = (Arc::clone(&homes), Arc::new(ReturnGate::new(mesh.handovers)) as Arc<dyn Gate>);
        let (secret, proofs) = (key.ticket_secret(), (key.clone(), Arc::clone(&judge)));
        let backups = Backups::new(config.store.expose(), &config.data);
        let operator = operator((drain, reload, &backups), &outside, (&board, clock), cluster.as_ref(), &pressure);
        let told = (hooks.clone(), trails.clone());
        let setup = api_setup(config, store.clone(), proofs, ways, (admin, operator), counts, metrics, told);
        let api = api::start(setup).context("cannot start the control plane")?;
        // After everything else has its descriptors.
        let common = Common::new(config, tuning, (clock, boot), &store, judge, &api, pressure, (hooks, trails.clone()));
        around.allow(common.conns_max);
        let surroundings = SurroundingsWatch::start(&around).context("no thread")?;
        let fixed = Fixed { key, conns_max: common.conns_max, trusted_proxies: config.trusted_proxies.clone() };
        let listeners = || [&mut public, &mut proxied, &mut tls].map(|l| l.iter_mut().filter_map(Vec::pop).collect());
        let acceptor = || certificates.as_ref().map(|all| tls::acceptor(config, &secret, all)).transpose();
        let ended = crossing.serve(&endings, || start_shards(&common, mesh.endpoints, &board, listeners, acceptor))?;
        announce(&addresses, shards, admin_address);
        Ok(Self {
            addresses,
            admin_address,
            admin_port,
            clock,
            orders: mesh.orders,
            progress: mesh.progress,
            ended,
            drain: config.drain,
            endings,
            homes,
            fingerprint,
            drain_asked,
            reload_asked,
            fixed,
            trails,
            board,
            backups,
            store,
            api,
            certificates,
            cluster,
            telling,
            _watches: (memory, surroundings),
            _data_lock: data_lock,
        })
    }

    fn watchdog(&self) -> std::io::Result<Option<Watchdog>> {
        Watchdog::start(Arc::clone(&self.homes), u16::try_from(self.orders.shards()).unwrap_or(u16::MAX))
    }

    /// Waits until something is wanted: by a signal, or at the admin port. An error would mean that
    /// the thread of the signals has gone; there is no other way to be stopped then, so it stops.
    fn next_wish(&self, signals: &Receiver<Wish>) -> Asked {
        crossbeam_channel::select! {
            recv(signals) -> wish => wish.map_or(Asked::Stop, Asked::from),
            recv(self.drain_asked) -> _ => Asked::Stop,
            recv(self.reload_asked) -> whom => whom.map_or(Asked::Stop, |whom| Asked::Reload(Some(whom))),
        }
    }

    /// Reads the certificates again. Connections do not notice; a pair that does not fit stays as
    /// it was. Which were taken, and why others were not.
    pub fn reload_certificates(&self) -> imgate_tls::Reloaded {
        self.certificates.as_deref().map(tls::reload).unwrap_or_default()
    }

    /// The public addresses, with the ports that the kernel chose: plain ones, those with the PROXY
    /// protocol, those with TLS.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The admin address.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Where the shards publish their counters.
    #[must_use]
    pub const fn board(&self) -> &Board {
        &self.board
    }
}

/// Before anything is made: a gateway that cannot listen leaves no directory, and no key, behind.
fn probe_addresses(config: &Config) -> anyhow::Result<()> {
    let public = config.listen.iter().chain(&config.listen_proxy).chain(&config.listen_tls);
    for &address in public.chain([&config.admin]) {
        driver::probe(address).with_context(|| format!("cannot listen on {address}"))?;
    }
    Ok(())
}

/// Starts each shard with listeners of its own, and waits until they turn. What is returned says
/// when the last one has ended.
fn start_shards(
    common: &Common<'_>,
    endpoints: Vec<ShardEnd<HandOver>>,
    board: &Board,
    mut listeners: impl FnMut() -> [Vec<TcpListener>; 3],
    acceptor: impl Fn() -> anyhow::Result<Option<Acceptor>>,
) -> anyhow::Result<Receiver<Infallible>> {
    let shards = endpoints.len();
    let (ready, all_ready) = bounded(shards);
    let (alive, ended) = bounded(0);
    for (poll, endpoint) in endpoints {
        let (id, now_ms) = (endpoint.me(), common.clock.now().mono_ms);
        let publisher = board.publisher(id, now_ms).context("a shard has no place on the board")?;
        let parts = common.parts((poll, endpoint), listeners(), acceptor()?, publisher);
        start_shard(id, parts, ready.clone(), alive.clone())?;
    }
    (0..shards).try_for_each(|_| all_ready.recv()).context("a shard has ended at its start")?;
    Ok(ended)
}

/// What every shard is given alike.
struct Common<'a> {
    config: &'a Config,
    tuning: Tuning,
    clock: Clock,
    boot: u64,
    store: Store,
    judge: Arc<Judge>,
    http: Arc<dyn ControlPlane>,
    conns: Arc<AtomicUsize>,
    conns_max: usize,
    held: Arc<AtomicUsize>,
    inbound: Arc<AtomicUsize>,
    pressure: Arc<Pressure>,
    address_limits: AddressLimits,
    address_counts: Arc<AddressCounts>,
    hooks: Hooks,
    trails: Trails,
}

impl<'a> Common<'a> {
    fn new(
        config: &'a Config,
        tuning: Tuning,
        (clock, boot): (Clock, u64),
        store: &Store,
        judge: Arc<Judge>,
        api: &ApiHandle,
        pressure: Arc<Pressure>,
        (hooks, trails): (Hooks, Trails),
    ) -> Self {
        let [conns, held, inbound] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let conns_max = connections_allowed(config);
        let address_limits = address_limits(config, conns_max);
        let address_counts = Arc::new(AddressCounts::new());
        Self {
            config,
            tuning,
            clock,
            boot,
            store: store.clone(),
            judge,
            http: api.control_plane(),
            conns,
            conns_max,
            held,
            inbound,
            pressure,
            address_limits,
            address_counts,
            hooks,
            trails,
        }
    }

    fn parts(
        &self,
        (poll, endpoint): ShardEnd<HandOver>,
        [listeners, proxy_listeners, tls_listeners]: [Vec<TcpListener>; 3],
        acceptor: Option<Acceptor>,
        publisher: Publisher,
    ) -> Parts {
        Parts {
            setup: shard_setup(self.config, &self.tuning, endpoint.me(), self.boot, &self.hooks),
            clock: self.clock,
            poll,
            endpoint,
            listeners,
            proxy_listeners,
            tls_listeners,
            acceptor,
            store: self.store.clone(),
            http: Arc::clone(&self.http),
            judge: Arc::clone(&self.judge),
            hooks: self.hooks.clone(),
            trails: self.trails.clone(),
            publisher,
            conns: Arc::clone(&self.conns),
            conns_max: self.conns_max,
            held: Arc::clone(&self.held),
            held_max: self.config.outbox_budget,
            inbound: Arc::clone(&self.inbound),
            inbound_max: self.config.inbound_budget,
            pressure: Arc::clone(&self.pressure),
            address_limits: self.address_limits.clone(),
            address_counts: Arc::clone(&self.address_counts),
            send_buffer: self.config.send_buffer,
            head_ms_max: self.tuning.head_ms_max,
            message_ms_max: self.tuning.message_ms_max,
            compression: self.config.compression,
            echo: self.config.echo,
            room: self.config.chatroom,
        }
    }
}

/// Says where the gateway can be reached.
fn announce(addresses: &[SocketAddr], shards: u16, admin: SocketAddr) {
    for address in addresses {
        tracing::info!(%address, shards, "listening");
    }
    tracing::info!(address = %admin, "admin");
    if let Some(address) = addresses.first() {
        tracing::info!("open {} in a browser", page_of(*address));
    }
}

/// The address of the web client as a browser on this machine takes it; one that means every
/// address of it is no name.
fn page_of(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://localhost:{}/", address.port())
    } else {
        format!("http://{address}/")
    }
}

/// The listening sockets.
struct Sockets {
    /// For each public address one per shard.
    public: Vec<Vec<TcpListener>>,
    /// The same for addresses with the PROXY protocol.
    proxied: Vec<Vec<TcpListener>>,
    /// The same for addresses with TLS.
    tls: Vec<Vec<TcpListener>>,
    admin: TcpListener,
    /// The public addresses in this order, with the ports that the kernel chose.
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
}

impl Sockets {
    fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = |&address| {
            driver::bind(address, config.shards, config.send_buffer)
                .with_context(|| format!("cannot listen on {address}"))
        };
        let public = config.listen.iter().map(bind).collect::<anyhow::Result<Vec<_>>>()?;
        let proxied = config.listen_proxy.iter().map(bind).collect::<anyhow::Result<Vec<_>>>()?;
        let tls = config.listen_tls.iter().map(bind).collect::<anyhow::Result<Vec<_>>>()?;
        let admin =
            TcpListener::bind(config.admin).with_context(|| format!("cannot listen on {} (admin)", config.admin))?;
        let addresses = public.iter().chain(&proxied).chain(&tls).filter_map(|of_shards| of_shards.first());
        let addresses = addresses.map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        let admin_address = admin.local_addr()?;
        Ok(Self { public, proxied, tls, admin, addresses, admin_address })
    }
}

/// Where the operator's commands ask. A gateway without one works as well.
fn control_socket(config: &Config) -> Option<api::control::Socket> {
    match api::control::bind(&config.data) {
        Ok(socket) => Some(socket),
        Err(error) => {
            let path = api::control::place(&config.data);
            tracing::warn!(%error, path = %path.display(), "no control socket: `imgate user` cannot ask this gateway");
            None
        }
    }
}

/// Starts a shard's thread. It says when it is `ready`, and holds `alive` until everything of it is
/// gone.
fn start_shard(id: ShardId, parts: Parts, ready: Sender<()>, alive: Sender<Infallible>) -> anyhow::Result<()> {
    let name = format!("shard-{}", id.0);
    let body = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            // Built on its own thread: inside a shard references are counted without atomics.
            let driver = Driver::new(parts)?;
            let _ = ready.send(());
            driver.run()
        }));
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, shard = id.0, "a shard lost its poll");
                std::process::abort();
            }
            // The shard's state can no longer be trusted. The panic itself was printed by the hook.
            Err(_) => {
                tracing::error!(shard = id.0, "a shard panicked; clients will sync after the restart");
                std::process::abort();
            }
        }
        drop(alive);
    };
    // A shard that panics takes the process with it, so there is no need to ask how it has ended.
    thread::Builder::new().name(name).spawn(body).context("cannot start a shard's thread")?;
    Ok(())
}

fn shard_setup(config: &Config, tuning: &Tuning, id: ShardId, boot: u64, hooks: &Hooks) -> Setup {
    Setup {
        id,
        shards: config.shards,
        node: config.node,
        boot,
        volatile: config.durability == Durability::Volatile,
        outbox_bytes: config.outbox_bytes,
        outbox_part: config.outbox_budget / usize::from(config.shards.max(1)),
        coalesce_ms: config.coalesce_ms,
        compression_min_bytes: config.compression_min_bytes,
        ping_after_ms: config.ping_after_ms,
        idle_after_ms: config.idle_after_ms,
        response_ms_max: tuning.welcome_ms_max,
        devices: config.devices,
        pace: config.pace,
        clustered: cluster::is_clustered(config),
        tells_offline: hooks.wants_messages(),
        tells_group: hooks.wants_group_messages(),
        planted_bug: None,
    }
}

fn operator(
    (drain, reload, backups): (Sender<()>, Sender<ReloadWish>, &Backups),
    outside: &Outside,
    (board, clock): (&Board, Clock),
    cluster: Option<&Cluster>,
    pressure: &Arc<Pressure>,
) -> (api::admin::Operator, Option<api::Others>) {
    let degraded = cluster.map(cluster::degraded);
    let pressure = Arc::clone(pressure);
    let short_of_memory = Arc::new(move || pressure.refuses_newcomers());
    let dead = Arc::new(turns::dead(board, clock));
    let (log, settings) = (Arc::clone(&outside.set_log), outside.show_settings());
    let board = board.clone();
    let operator = api::admin::Operator {
        drain,
        reload,
        log,
        settings,
        backups: backups.clone(),
        board,
        dead,
        degraded,
        short_of_memory,
    };
    (operator, cluster.map(cluster::others))
}

/// The judge of requests, by the configuration.
fn judge(config: &Config, key: &Key) -> Arc<Judge> {
    Arc::new(
        Judge::new(key.clone(), config.trusted_proxies.clone(), config.origins.clone())
            .with_readers(config.cors_origins.clone()),
    )
}

fn api_setup(
    config: &Config,
    store: Store,
    (key, judge): (Key, Arc<Judge>),
    (homes, gate): (Arc<dyn ShardAccess>, Arc<dyn Gate>),
    (admin, (operator, others)): (TcpListener, (api::admin::Operator, Option<api::Others>)),
    counts: Counts,
    metrics: api::admin::Metrics,
    (hooks, trails): (Hooks, Trails),
) -> api::Setup {
    api::Setup {
        store,
        key,
        homes,
        gate,
        token_ttl_ms: config.token_ttl_ms,
        allowed: allowed(config),
        counts: counts.accounts,
        judge,
        control: control_socket(config),
        // Only a server's database can be another gateway's as well.
        shared: config.store.expose().starts_with("mysql:"),
        others,
        admin: vec![admin],
        metrics,
        deadlines: api::Deadlines { idle: Duration::from_millis(config.http_idle_ms), ..api::Deadlines::default() },
        trusted_proxies: config.trusted_proxies.clone(),
        slots: api::SlotBounds::public(config.http_budget),
        http: counts.http,
        password_threads: available_parallelism().map_or(1, |cores| cores.get() / 2).max(1),
        files: config.data.join("files"),
        objects: counts.objects,
        uploads: upload_bounds(config),
        file_counters: counts.files,
        hsts_s: config.hsts_s,
        legacy_pages: config.legacy_pages.clone(),
        jwt: jwt_settings(config),
        hooks,
        volatile: config.durability == Durability::Volatile,
        operator,
        trails,
    }
}

/// What a scrape is made of, called on a thread of the control plane.
fn scraper(
    board: &Board,
    config: &Config,
    store: &Store,
    counts: &Counts,
    (start_ms, clock, lost_log_lines): (u64, Clock, LostLines),
    (memory_max, around, cluster, unclean_ends): (u64, Arc<Surroundings>, Option<Numbers>, u64),
    (fingerprint, trails): (&Arc<Mutex<String>>, &Trails),
) -> api::admin::Metrics {
    let (board, store, counts, fingerprint) = (board.clone(), store.clone(), counts.clone(), Arc::clone(fingerprint));
    let (stored, trails) = (config.durability == Durability::Stored, trails.clone());
    let threads = ThreadTimes::new(usize::from(config.shards));
    let budgets = BudgetNumbers {
        outbox: config.outbox_budget as u64,
        inbound: config.inbound_budget as u64,
        http: config.http_budget as u64,
    };
    // Of these the connections are no part: they have not begun.
    let descriptors = ProcessNumbers::read(start_ms).open_fds;
    Arc::new(move |format, unready| {
        let shards = board.reports_at(clock.nanos());
        let connections: u64 = shards.iter().map(|report| report.driver.connections).sum();
        render(&Scrape {
            format,
            version: env!("CARGO_PKG_VERSION"),
            config: &fingerprint.lock(),
            unready,
            threads: &threads.by_role(),
            shards: &shards,
            accounts: &counts.accounts,
            http: &counts.http,
            store: stored.then(|| store_numbers(&store, !unready.store)),
            cluster: cluster.as_ref().map(|numbers| *numbers.lock()).as_ref(),
            lost_log_lines: lost_log_lines(),
            trail_left_out: trails.left_out(),
            files: counts.files.numbers(),
            objects: counts.objects.as_deref().map(ObjectStore::counts),
            surroundings: around.numbers(),
            budgets,
            process: ProcessNumbers {
                memory_max: Some(memory_max),
                unclean_ends: Some(unclean_ends),
                ..ProcessNumbers::read_quickly(start_ms, descriptors.map(|own| own + connections))
            },
        })
    })
}

/// Raises the limit of open descriptors to what the system allows: every connection is one.
fn raise_descriptor_limit() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => tracing::info!(from = ?before.current, to = ?before.maximum, "descriptor limit"),
        Err(error) => tracing::warn!(%error, limit = ?before.current, "the descriptor limit cannot be raised"),
    }
}

/// Connections that the configuration and the descriptor limit allow. Some descriptors stay with
/// the admin port, the store, files and the log, so that a flood of connections takes none of
/// theirs.
fn connections_allowed(config: &Config) -> usize {
    let limit =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let used = ProcessNumbers::read(0).open_fds.unwrap_or_default();
    let used = usize::try_from(used).unwrap_or(usize::MAX);
    let free = limit.saturating_sub(used);
    let reserved = DESCRIPTORS_RESERVED.min(free / DESCRIPTORS_RESERVED_PART);
    let allowed = (free - reserved).max(1);
    if allowed < config.max_connections {
        tracing::info!(
            limit,
            reserved,
            max_connections = allowed,
            wanted = config.max_connections,
            "the descriptor limit allows fewer connections than max_connections"
        );
    }
    allowed.min(config.max_connections)
}

fn address_limits(config: &Config, conns_max: usize) -> AddressLimits {
    AddressLimits {
        trusted: config.trusted_proxies.clone(),
        connect_rate: config.connect_rate,
        connect_burst: config.connect_burst,
        connections: config.connections_per_address,
        // What needs no login leaves room for what has one.
        guests: config.chatroom_guests.min(conns_max.div_ceil(2)),
        guests_per_address: config.chatroom_guests_per_address,
    }
}

/// A writing connection to the database, with the lock of the data directory: for commands that run
/// without a gateway.
///
/// # Errors
/// The database cannot be opened, or a gateway is running on it.
pub fn open_backend(config: &Config) -> anyhow::Result<Box<dyn Backend>> {
    open(config, None)?.writers.pop().context("the store has no writing connection")
}

/// Opens the database and starts its threads.
fn open_store(config: &Config, lock: &Arc<DataLock>, replies: Arc<dyn Replies>, clock: Clock) -> anyhow::Result<Store> {
    Store::start(open(config, Some(lock))?, config.shards, replies, clock)
        .context("cannot start the threads of the store")
}

fn open(config: &Config, held: Option<&Arc<DataLock>>) -> anyhow::Result<Opened> {
    let (synchronous, keep) = (config.sqlite_synchronous, config.keep);
    // What is not a server has one writer.
    let writers = if config.store.is_server() { config.store_writers } else { 1 };
    let gateway = getrandom::u32().context("no random numbers")?;
    let options = store::Options { synchronous, keep, writers, gateway, ..store::Options::default() };
    store::open(config.store.expose(), &config.data, held, options).context("cannot open the store")
}

/// The store's own counters under the names that a scrape shows.
/// `answers`: it has just taken a ping, which a store that has nothing to write notices first.
fn store_numbers(store: &Store, answers: bool) -> StoreNumbers {
    let gauges = store.gauges();
    StoreNumbers {
        up: gauges.is_ready() && answers,
        failing: gauges.failing_for.filter(|_| !gauges.is_ready()).map(|cause| cause as usize),
        writes_queued: gauges.writes_queued as u64,
        reads_queued: gauges.reads_queued.map(|reads| reads as u64),
        reads_late: gauges.reads_late,
        users_waiting: gauges.users_waiting as u64,
        commits: gauges.commits,
        committed_writes: gauges.writes,
        commit_ns: gauges.commit_nanos_total,
        transactions: gauges.commit_times,
        user_reads: gauges.user_reads,
        user_queries: gauges.user_queries,
        trimmed_messages: gauges.trimmed_messages,
        trimmed_keys: gauges.trimmed_keys,
        upkeep_errors: gauges.upkeep_errors,
        errors: gauges.commit_errors + gauges.read_errors,
        clock_offset_ms: gauges.clock_offset_ms,
    }
}

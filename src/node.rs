//! One gateway process: builds everything, starts the threads in order, stops them in reverse.
//!
//! Owns: the order of start and stop (design, section 3, rule 7), the signals, the descriptor limit.
//! Never: takes part in the work; between start and stop it only waits.
//! Bounds: a stop takes at most [`STOP_QUIESCE_MS_MAX`], [`STOP_CLOSE_MS_MAX`] and [`STOP_HTTP_MS_MAX`] together, and what the store needs to finish.

use std::fs::DirBuilder;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle, available_parallelism};
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::api::{self, ApiHandle};
use crate::auth::{Key, Origin};
use crate::clock::{self, Clock};
use crate::cluster::Alone;
use crate::config::{Config, Durability};
use crate::driver::{self, Driver, Parts, ReturnGate};
use crate::ids::ShardId;
use crate::limits::{
    HEAD_MS_MAX, STOP_CLOSE_MS_MAX, STOP_ECHO_MS, STOP_HTTP_MS_MAX, STOP_QUIESCE_MS_MAX, WELCOME_MS_MAX,
};
use crate::mesh::{self, Order, Orders, Progress};
use crate::metrics::Board;
use crate::metrics::process::ProcessNumbers;
use crate::metrics::render::{Scrape, StoreNumbers, render};
use crate::shard::Setup;
use crate::store::worker::{Replies, Store};
use crate::store::{self, Backend, Opened};

/// What only tests set.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// How long a request head may take.
    pub head_ms_max: u64,
    /// How long a 101 may wait for the first frames of its session.
    pub welcome_ms_max: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { head_ms_max: HEAD_MS_MAX, welcome_ms_max: WELCOME_MS_MAX }
    }
}

/// A running gateway.
pub struct Node {
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
    clock: Clock,
    orders: Orders,
    progress: Receiver<Progress>,
    shards: Vec<JoinHandle<()>>,
    board: Board,
    store: Store,
    api: ApiHandle,
}

/// Runs a gateway until a signal ends it: SIGTERM or SIGINT stop it in order, a second one at once, if it does not come so
/// soon ([`STOP_ECHO_MS`]) that it must be the first one's echo.
///
/// # Errors
/// It cannot start; why is in the chain.
pub fn run(config: &Config) -> anyhow::Result<()> {
    // Before anything else, so that a signal during the start is not lost.
    let signals = Signals::new([SIGTERM, SIGINT]).context("cannot listen for signals")?;
    let node = Node::start(config, Tuning::default())?;
    let stop = watch_signals(signals).context("cannot start the thread for signals")?;
    // An error would mean that the thread has gone; there is no other way to be stopped then, so stop.
    let _ = stop.recv();
    tracing::info!("stopping");
    node.stop();
    tracing::info!("stopped");
    Ok(())
}

fn watch_signals(mut signals: Signals) -> std::io::Result<Receiver<()>> {
    let (tell, told) = crossbeam_channel::bounded(1);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let clock = Clock::start();
        let mut began_ms = None;
        for _ in signals.forever() {
            let now_ms = clock.now().mono_ms;
            let began_ms = *began_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(began_ms) > STOP_ECHO_MS {
                std::process::exit(EXIT_FORCED);
            }
            let _ = tell.try_send(());
        }
    })?;
    Ok(told)
}

/// The exit code after a second signal: not 0, because sessions were cut off.
const EXIT_FORCED: i32 = 1;

impl Node {
    /// Starts a gateway: store, control plane, shards, in this order, so that nobody is asked before it can answer. Port 0 lets the kernel choose; see
    /// [`Node::addresses`].
    ///
    /// # Errors
    /// The data directory, the database, an address or a thread is not to be had.
    pub fn start(config: &Config, tuning: Tuning) -> anyhow::Result<Self> {
        raise_descriptor_limit();
        let (clock, start_ms) = (Clock::start(), clock::wall_ms());
        probe_addresses(config)?;
        let key = signing_key(config)?;
        let shards = config.shards;
        let mesh = mesh::build(shards).context("cannot make the polls of the shards")?;
        let store = open_store(config, Arc::clone(&mesh.replies) as _, clock)?;
        let mut listeners = public_listeners(config)?;
        let admin =
            TcpListener::bind(config.admin).with_context(|| format!("cannot listen on {} (admin)", config.admin))?;
        let admin_address = admin.local_addr()?;
        let addresses = listeners.iter().filter_map(|of_shards| of_shards.first());
        let addresses = addresses.map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        let board = Board::new(shards);
        let api = api::start(api::Setup {
            store: store.clone(),
            key: key.clone(),
            homes: Arc::new(mesh.notices),
            gate: Arc::new(ReturnGate::new(mesh.doors)),
            token_ttl_ms: config.token_ttl_ms,
            cookie_secure: false,
            admin: vec![admin],
            metrics: scraper(board.clone(), config, store.clone(), start_ms),
            deadlines: api::Deadlines::default(),
            password_threads: available_parallelism().map_or(1, |cores| cores.get() / 2).max(1),
            files: config.data.join("files"),
            uploads: upload_bounds(config),
            legacy_pages: config.legacy_pages.clone(),
        });
        let api = api.context("cannot start the control plane")?;
        let (conns, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let boot = getrandom::u64().context("no random numbers")?;
        let mut threads = Vec::new();
        let (ready, all_ready) = crossbeam_channel::bounded(usize::from(shards));
        for (poll, seat) in mesh.seats {
            let id = seat.me();
            let publisher = board.publisher(id, clock.now().mono_ms).context("a shard has no place on the board")?;
            let parts = Parts {
                setup: shard_setup(config, id, boot),
                clock,
                poll,
                seat,
                listeners: listeners.iter_mut().filter_map(Vec::pop).collect(),
                store: store.clone(),
                http: api.control_plane(),
                key: key.clone(),
                publisher,
                conns: Arc::clone(&conns),
                conns_max: config.max_connections,
                held: Arc::clone(&held),
                held_max: config.outbox_budget,
                send_buffer: config.send_buffer,
                head_ms_max: tuning.head_ms_max,
                welcome_ms_max: tuning.welcome_ms_max,
                echo: config.echo,
                room: config.chatroom,
            };
            threads.push(start_shard(id, parts, ready.clone())?);
        }
        for _ in 0..shards {
            all_ready.recv().context("a shard has ended at its start")?;
        }
        for address in &addresses {
            tracing::info!(%address, shards, "listening");
        }
        tracing::info!(address = %admin_address, "admin");
        let (orders, progress) = (mesh.orders, mesh.progress);
        Ok(Self { addresses, admin_address, clock, orders, progress, shards: threads, board, store, api })
    }

    /// The public addresses, with the ports that the kernel chose.
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

    /// Stops in order: accept, command intake, outstanding asks, flush and close, shards, store, control plane. Blocks, each stage within its limit.
    pub fn stop(self) {
        self.api.announce_stop();
        self.orders.all(Order::StopAccepting);
        self.orders.all(Order::Quiesce);
        if !self.wait_for(STOP_QUIESCE_MS_MAX, |progress| matches!(progress, Progress::Quiet(_))) {
            tracing::warn!("some commands were not answered before the stop; their clients will ask again");
        }
        self.orders.all(Order::CloseAll);
        if !self.wait_for(STOP_CLOSE_MS_MAX, |progress| matches!(progress, Progress::Empty(_))) {
            tracing::info!("some connections did not answer the close");
        }
        self.orders.all(Order::Exit);
        for shard in self.shards {
            // A shard that panics takes the process with it, so this is always the good end.
            let _ = shard.join();
        }
        self.store.stop();
        self.api.stop(Duration::from_millis(STOP_HTTP_MS_MAX));
    }

    /// Waits until every shard has reported `wanted`. Answers whether they did in time.
    fn wait_for(&self, ms_max: u64, wanted: impl Fn(&Progress) -> bool) -> bool {
        let end_ms = self.clock.now().mono_ms + ms_max;
        let mut missing = self.orders.shards();
        while missing > 0 {
            let left = end_ms.saturating_sub(self.clock.now().mono_ms);
            match self.progress.recv_timeout(Duration::from_millis(left)) {
                Ok(progress) if wanted(&progress) => missing -= 1,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// Before anything is made: who cannot listen leaves no directory, and no key, behind.
fn probe_addresses(config: &Config) -> anyhow::Result<()> {
    for &address in config.listen.iter().chain([&config.admin]) {
        driver::probe(address).with_context(|| format!("cannot listen on {address}"))?;
    }
    Ok(())
}

/// For each public address one listener per shard.
fn public_listeners(config: &Config) -> anyhow::Result<Vec<Vec<TcpListener>>> {
    let bind = |&address| {
        driver::bind(address, config.shards, config.send_buffer).with_context(|| format!("cannot listen on {address}"))
    };
    config.listen.iter().map(bind).collect()
}

const fn upload_bounds(config: &Config) -> api::UploadBounds {
    api::UploadBounds {
        bytes_max: config.upload_max,
        user_bytes_max: config.upload_user_max,
        per_minute: config.uploads_per_minute,
    }
}

fn start_shard(id: ShardId, parts: Parts, ready: Sender<()>) -> anyhow::Result<JoinHandle<()>> {
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
            // The shard's state can no longer be trusted (design, section 3, rule 6). The panic itself was printed by the hook.
            Err(_) => {
                tracing::error!(shard = id.0, "a shard panicked; clients will sync after the restart");
                std::process::abort();
            }
        }
    };
    thread::Builder::new().name(name).spawn(body).context("cannot start a shard's thread")
}

fn shard_setup(config: &Config, id: ShardId, boot: u64) -> Setup {
    Setup {
        id,
        shards: config.shards,
        node: Alone::new(config.node).node(),
        boot,
        volatile: config.durability == Durability::Volatile,
        outbox_bytes: config.outbox_bytes,
        outbox_part: config.outbox_budget / usize::from(config.shards.max(1)),
        coalesce_ms: config.coalesce_ms,
        ping_after_ms: config.ping_after_ms,
        idle_after_ms: config.idle_after_ms,
        devices: config.devices,
        pace: config.pace,
        planted_bug: None,
    }
}

/// The key of the configuration or of the data directory, which is made if it is missing.
///
/// # Errors
/// The directory or the key cannot be had.
pub fn signing_key(config: &Config) -> anyhow::Result<Key> {
    if let Some(secret) = &config.secret {
        return Key::from_secret(secret.expose()).context("the setting `secret`");
    }
    // Whoever comes first makes the directory, and that is here: what is said in it is private to the gateway's account.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&config.data);
    made.with_context(|| format!("cannot make {}", config.data.display()))?;
    let path = config.data.join("secret.key");
    let loaded = Key::load_or_create(&path)?;
    match loaded.origin {
        Origin::Created => tracing::info!(path = %path.display(), "made a new signing key"),
        Origin::Private => {}
        Origin::Exposed { mode } => {
            tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others may read the signing key");
        }
    }
    Ok(loaded.key)
}

/// What a scrape is made of, called on a thread of the control plane.
fn scraper(board: Board, config: &Config, store: Store, start_ms: u64) -> api::admin::Metrics {
    let stored = config.durability == Durability::Stored;
    Arc::new(move || {
        render(&Scrape {
            version: env!("CARGO_PKG_VERSION"),
            shards: &board.reports(),
            store: stored.then(|| store_numbers(&store)),
            process: ProcessNumbers::read(start_ms),
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

/// A writing connection to the database, with the lock of the data directory: for commands that run without a gateway.
///
/// # Errors
/// The database cannot be opened, or a gateway is running on it.
pub fn open_backend(config: &Config) -> anyhow::Result<Box<dyn Backend>> {
    open(config)?.writers.pop().context("the store has no writing connection")
}

/// Opens the database and starts its threads.
fn open_store(config: &Config, replies: Arc<dyn Replies>, clock: Clock) -> anyhow::Result<Store> {
    Store::start(open(config)?, config.shards, replies, clock).context("cannot start the threads of the store")
}

fn open(config: &Config) -> anyhow::Result<Opened> {
    let (synchronous, keep) = (config.sqlite_synchronous, config.keep);
    let options = store::Options { synchronous, keep, ..store::Options::default() };
    store::open(config.store.expose(), &config.data, options).context("cannot open the store")
}

/// The store's own counters under the names that a scrape shows.
fn store_numbers(store: &Store) -> StoreNumbers {
    let gauges = store.gauges();
    StoreNumbers {
        up: gauges.is_ready(),
        writes_queued: gauges.writes_queued as u64,
        reads_queued: gauges.reads_queued as u64,
        commits: gauges.commits,
        committed_writes: gauges.writes,
        commit_ns: gauges.commit_nanos_total,
        user_reads: gauges.user_reads,
        user_queries: gauges.user_queries,
        trimmed_messages: gauges.trimmed_messages,
        trimmed_keys: gauges.trimmed_keys,
        upkeep_errors: gauges.upkeep_errors,
        errors: gauges.commit_errors + gauges.read_errors,
    }
}

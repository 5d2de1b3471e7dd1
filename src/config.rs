//! The configuration: defaults < file < environment < flags; texts first, then one typed
//! [`Config`].
//!
//! Owns: [`FIELDS`], the one table of every setting with its meaning, default and range; the
//! layers; the sample file. To show one as it is in force: `shown`. Never: prints a secret or a
//! database URL that may hold a password. Never decides beyond `limits`: a range ends where a cap
//! is. To add a setting: a row in [`FIELDS`], a field in [`Config`], a line in
//! [`Config::from_layers`]; then `cargo run -- config > docs/imgate.sample.toml`, which a test
//! compares.

mod error;
mod field;
mod fields;
mod foreign;
mod layers;
mod objects;
mod pace;
mod reading;
mod shown;
mod units;
mod webhooks;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

pub use self::error::Error;
pub use self::field::{Field, Reach, TakesEffect};
pub use self::fields::FIELDS;
pub use self::foreign::ForeignUsers;
pub use self::layers::Layers;
use self::reading::{
    CONNECT_BURST_RANGE, CONNECTIONS_DEFAULT, HTTP_BUDGET_RANGE, HTTP_IDLE_RANGE_MS, INBOUND_BUDGET_RANGE,
    OUTBOX_BUDGET_RANGE, OUTBOX_RANGE, PING_RANGE_MS, TOKEN_TTL_DEFAULT_MS, TOKEN_TTL_RANGE_MS, UPLOADS_RANGE,
    accounts, address, bytes, cluster, cluster_name, coalesce, compression, compression_min, cors_origins, count,
    drain, durability, duration, file_grace, hsts, keep, listen, log_filter, log_format, memory_max, number, origins,
    parse, parse_devices, secret, send_buffer, shards, size, synchronous, text, tls_own_records, tls_pairs,
    trusted_proxies, upload_user_max,
};
pub use self::shown::{Shown, explain, in_force, shown, table};
pub use self::units::{parse_duration_ms, parse_size};
pub use self::webhooks::Webhooks;
use crate::caller::{Origins, Readers};
use crate::fair::Networks;
use crate::ids::NodeId;
use crate::limits;
use crate::log::LineFormat;
use crate::object_store::ObjectTarget;
use crate::shard::{DevicePolicy, PaceLimits};
pub use crate::store::Synchronous;
use crate::store::{Keep, Rule};

/// What the gateway is told, typed and within its ranges. What each setting means stands in
/// [`FIELDS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Public addresses, at least one, without repetition.
    pub listen: Vec<SocketAddr>,
    /// Public addresses whose connections begin with a header of the PROXY protocol.
    pub listen_proxy: Vec<SocketAddr>,
    /// Public addresses whose connections are TLS.
    pub listen_tls: Vec<SocketAddr>,
    /// Certificates for them, each with its key.
    pub tls_pairs: Vec<imgate_tls::Pair>,
    /// Whether our own record layer follows the handshake, or that of rustls.
    pub tls_own_records: bool,
    /// How long browsers come over TLS only, in seconds; 0: they are told nothing.
    pub hsts_s: u64,
    /// Networks whose word about a client is believed.
    pub trusted_proxies: Networks,
    /// Pages of other origins that may use cookies.
    pub origins: Origins,
    /// Pages of other origins that may read what the API answers.
    pub cors_origins: Readers,
    /// Address of `/metrics`, `/healthz`, `/readyz`.
    pub admin: SocketAddr,
    /// Directory of the database and of the signing key.
    pub data: PathBuf,
    /// The database.
    pub store: StoreUrl,
    /// What an ack promises.
    pub durability: Durability,
    /// When SQLite syncs.
    pub sqlite_synchronous: Synchronous,
    /// Connections that write to a MySQL-protocol database, `1..=8`.
    pub store_writers: usize,
    /// How much is kept.
    pub keep: Keep,
    /// Shard threads, `1..=SHARDS_MAX`.
    pub shards: u16,
    /// Bytes of pushes queued for one session before it is behind.
    pub outbox_bytes: usize,
    /// Bytes that all outboxes of the process may keep alive.
    pub outbox_budget: usize,
    /// Bytes that may be kept of what clients have begun to send.
    pub inbound_budget: usize,
    /// Bytes of memory that the process may take; 0: most of what there is.
    pub memory_max: u64,
    /// What the kernel may hold for one session that does not read, in bytes of `SO_SNDBUF`; 0: as
    /// much as `net.ipv4.tcp_wmem` says.
    pub send_buffer: usize,
    /// How long the messages of a busy group may wait for each other, in milliseconds; 0: they
    /// never do.
    pub coalesce_ms: u32,
    /// Messages are compressed for clients that ask for it.
    pub compression: bool,
    /// Bytes from which on they are.
    pub compression_min_bytes: usize,
    /// Silence in milliseconds after which the server pings.
    pub ping_after_ms: u64,
    /// Silence in milliseconds after which a connection is dead; at least twice
    /// [`Config::ping_after_ms`].
    pub idle_after_ms: u64,
    /// How the gateway stops.
    pub drain: DrainPlan,
    /// How many devices of one user may be connected at once.
    pub devices: DevicePolicy,
    /// How fast a user, and a guest of `/chatroom`, may go.
    pub pace: PaceLimits,
    /// Life of a token in milliseconds.
    pub token_ttl_ms: u64,
    /// How accounts are made, and how often people may be looked up.
    pub accounts: Accounts,
    /// The signing key's text; `None`: the file `secret.key` in [`Config::data`].
    pub secret: Option<Secret>,
    /// The text of a key whose tokens are accepted, too; `None`: the file `secret.fallback.key` in
    /// [`Config::data`], if there is one.
    pub secret_fallback: Option<Secret>,
    /// Connections of the process, all shards together.
    pub max_connections: usize,
    /// How long a kept-alive HTTP connection may be idle, in milliseconds.
    pub http_idle_ms: u64,
    /// Bytes that plain HTTP may hold of memory.
    pub http_budget: usize,
    /// Connections of one address in a second; 0: any number.
    pub connect_rate: u64,
    /// Connections of one address at once after a rest.
    pub connect_burst: u64,
    /// Connections of one address at once; 0: any number.
    pub connections_per_address: u32,
    /// This gateway among those that share a database.
    pub node: NodeId,
    /// Servers of the bus between gateways; none: there are no others.
    pub cluster: BusUrls,
    /// The name of the cluster there.
    pub cluster_name: String,
    /// Filter of the log.
    pub log: String,
    /// How its lines look.
    pub log_format: LineFormat,
    /// Where the audit trail goes: a file, `stderr`, or nowhere if it is empty.
    pub audit_log: String,
    /// The same of requests and sessions.
    pub access_log: String,
    /// Users of another system, which signs their tokens.
    pub foreign: ForeignUsers,
    /// What backends are told by themselves.
    pub webhooks: Webhooks,
    /// The object store in which files lie; `None`: the folder `files` in [`Config::data`].
    pub objects: Option<ObjectTarget>,
    /// Bytes of an uploaded file; 0 allows none.
    pub upload_max: u64,
    /// Bytes of all files of one user; 0: without a bound.
    pub upload_user_max: u64,
    /// Files of one user in a minute; 0: without a bound.
    pub uploads_per_minute: u32,
    /// Milliseconds for which a file is kept that nothing refers to; 0: for ever.
    pub file_grace_ms: u64,
    /// A checkout of fastIM or IMChat, whose pages are served.
    pub legacy_pages: Option<PathBuf>,
    /// Whether `/chatroom` exists: a room of guests without a token.
    pub chatroom: bool,
    /// Guests there at once.
    pub chatroom_guests: usize,
    /// Of these, of one address; 0: any number.
    pub chatroom_guests_per_address: u32,
    /// The hidden echo route for protocol tests.
    pub echo: bool,
}

/// Which database, as a URL that may hold a password: only its scheme is ever shown. `store` says
/// whether it can open it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The whole URL, for the code that opens it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it names a database server, which several gateways may share.
    #[must_use]
    pub fn is_server(&self) -> bool {
        ["mysql:", "mariadb:"].iter().any(|scheme| self.0.starts_with(scheme))
    }

    /// Whether it is a file in the data directory.
    #[must_use]
    pub fn is_file(&self) -> bool {
        !self.is_server() && !self.0.starts_with("memory")
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({}:…)", self.0.split(':').next().unwrap_or_default())
    }
}

/// Where the bus between gateways is. May hold a password.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct BusUrls(Vec<String>);

impl BusUrls {
    /// The whole URLs, to connect.
    #[must_use]
    pub fn expose(&self) -> &[String] {
        &self.0
    }

    /// Whether there is a bus at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for BusUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusUrls({})", self.0.len())
    }
}

/// What an ack promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The message is in the database.
    Stored,
    /// The home shard has accepted it; nothing is kept.
    Volatile,
}

/// How a gateway stops, and when its clients come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrainPlan {
    /// Milliseconds until the process ends, whatever does not answer.
    pub deadline_ms: u64,
    /// Milliseconds, of these, in which a stop is said to balancers and everything is served.
    pub announce_ms: u64,
    /// Milliseconds over which sessions are closed, at most.
    pub spread_ms: u64,
    /// Milliseconds from the last close to the first return.
    pub return_after_ms: u64,
    /// Connections that come back in a second.
    pub return_rate: u64,
}

/// How accounts are made, and how often people may be looked up. A rate of 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accounts {
    /// Whether strangers may make one.
    pub registration: bool,
    /// Which users get into a group of our own API whose maker does not say it.
    pub group_rule: Rule,
    /// Accounts made by one network in a minute.
    pub registrations_per_minute: u32,
    /// Accounts made by all networks in a minute.
    pub registrations_per_minute_all: u32,
    /// Look-ups by number of one user in a minute.
    pub lookups_per_minute: u32,
    /// Look-ups by mobile number of one user in a minute.
    pub mobile_lookups_per_minute: u32,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for the code that signs with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Config {
    /// The typed configuration.
    ///
    /// # Errors
    /// [`Error::Value`] or [`Error::Shape`] for the first value that does not fit.
    pub fn from_layers(layers: &Layers) -> Result<Self, Error> {
        let ping_after_ms = duration(layers, "ping_after", PING_RANGE_MS, limits::PING_AFTER_MS)?;
        let idle_range = (ping_after_ms * 2 + 1, limits::IDLE_MS_MAX);
        let idle_ms = limits::IDLE_MS.max(ping_after_ms * 2 + (limits::IDLE_MS - 2 * limits::PING_AFTER_MS));
        let [listen, listen_proxy, listen_tls] = listen(layers)?;
        let (uploads, guests) = (limits::UPLOADS_PER_MINUTE_DEFAULT, limits::GUESTS_PER_ADDRESS_DEFAULT);
        Ok(Self {
            tls_pairs: tls_pairs(layers)?,
            tls_own_records: tls_own_records(layers)?,
            hsts_s: hsts(layers)?,
            listen,
            listen_proxy,
            listen_tls,
            trusted_proxies: trusted_proxies(layers)?,
            origins: origins(layers)?,
            cors_origins: cors_origins(layers)?,
            admin: parse(layers, "admin", SocketAddr::from(([127, 0, 0, 1], 8082)), address)?,
            store: StoreUrl(text(layers, "store", "sqlite:")?),
            data: PathBuf::from(text(layers, "data", "./data")?),
            durability: durability(layers)?,
            sqlite_synchronous: synchronous(layers)?,
            store_writers: number(layers, "store_writers", 1, 1..=limits::STORE_WRITERS_MAX)?,
            keep: keep(layers)?,
            shards: shards(layers)?,
            outbox_bytes: size(layers, "outbox", limits::OUTBOX_BYTES_MAX, OUTBOX_RANGE)?,
            outbox_budget: size(layers, "outbox_budget", limits::OUTBOX_BUDGET_DEFAULT, OUTBOX_BUDGET_RANGE)?,
            inbound_budget: size(layers, "inbound_budget", limits::INBOUND_BUDGET_DEFAULT, INBOUND_BUDGET_RANGE)?,
            memory_max: memory_max(layers)?,
            send_buffer: send_buffer(layers)?,
            coalesce_ms: coalesce(layers)?,
            compression: compression(layers)?,
            compression_min_bytes: compression_min(layers)?,
            ping_after_ms,
            idle_after_ms: duration(layers, "idle_after", idle_range, idle_ms)?,
            drain: drain(layers)?,
            devices: parse(layers, "devices", DevicePolicy::default(), parse_devices)?,
            pace: pace::read(layers)?,
            token_ttl_ms: duration(layers, "token_ttl", TOKEN_TTL_RANGE_MS, TOKEN_TTL_DEFAULT_MS)?,
            accounts: accounts(layers)?,
            secret: secret(layers, "secret")?,
            secret_fallback: secret(layers, "secret_fallback")?,
            max_connections: number(layers, "max_connections", CONNECTIONS_DEFAULT, 1..=limits::CONNECTIONS_MAX)?,
            http_idle_ms: duration(layers, "http_idle", HTTP_IDLE_RANGE_MS, limits::HTTP_IDLE_MS_DEFAULT)?,
            http_budget: size(layers, "http_budget", limits::HTTP_BUDGET_DEFAULT, HTTP_BUDGET_RANGE)?,
            connect_rate: number(layers, "connect_rate", limits::CONNECT_RATE_DEFAULT, 0..=limits::CONNECT_RATE_MAX)?,
            connect_burst: number(layers, "connect_burst", limits::CONNECT_BURST_DEFAULT, CONNECT_BURST_RANGE)?,
            connections_per_address: count(layers, "connections_per_address", limits::ADDRESS_CONNECTIONS_DEFAULT)?,
            cluster: BusUrls(cluster(layers)?),
            cluster_name: parse(layers, "cluster_name", "imgate".to_owned(), cluster_name)?,
            node: parse(layers, "node", NodeId(0), |text| text.parse().ok().map(NodeId))?,
            log: log_filter(layers)?,
            log_format: log_format(layers)?,
            audit_log: parse(layers, "audit_log", String::new(), |text| Some(text.to_owned()))?,
            access_log: parse(layers, "access_log", String::new(), |text| Some(text.to_owned()))?,
            foreign: foreign::read(layers)?,
            webhooks: webhooks::read(layers)?,
            objects: objects::read(layers)?,
            upload_max: bytes(layers, "upload_max", limits::UPLOAD_BYTES_DEFAULT, limits::UPLOAD_BYTES_MAX)?,
            upload_user_max: upload_user_max(layers)?,
            uploads_per_minute: number(layers, "uploads_per_minute", uploads, UPLOADS_RANGE)?,
            file_grace_ms: file_grace(layers)?,
            legacy_pages: parse(layers, "legacy_pages", None, |text| {
                Some((!text.is_empty()).then(|| PathBuf::from(text)))
            })?,
            chatroom: parse(layers, "chatroom", true, |text| text.parse().ok())?,
            chatroom_guests: number(layers, "chatroom_guests", limits::GUESTS_DEFAULT, 1..=limits::CONNECTIONS_MAX)?,
            chatroom_guests_per_address: count(layers, "chatroom_guests_per_address", guests)?,
            echo: parse(layers, "echo", false, |text| text.parse().ok())?,
        })
    }
}

impl Config {
    /// Settings that were given and change nothing here, with why.
    #[must_use]
    pub fn without_effect(&self) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        if self.durability == Durability::Volatile {
            const NOTHING_KEPT: &str = "with durability = \"volatile\" no message is kept anyway";
            let given = [("keep_age", self.keep.age_ms), ("keep_count", self.keep.count)];
            found.extend(given.into_iter().filter(|(_, most)| *most > 0).map(|(key, _)| (key, NOTHING_KEPT)));
            if !self.cluster.is_empty() {
                found.push((
                    "cluster",
                    "with durability = \"volatile\" there is no database by which gateways know each other",
                ));
            }
        }
        if !self.store.is_file() && self.sqlite_synchronous != Synchronous::Full {
            found.push(("sqlite_synchronous", "the store is no file of SQLite"));
        }
        if self.listen_tls.is_empty() && !self.tls_pairs.is_empty() {
            found.push(("tls_cert", "without listen_tls nothing speaks TLS"));
        }
        found
    }

    /// Eight hexadecimal digits that tell this configuration from others. Secrets are not in it,
    /// nor what each gateway of a cluster has for itself: its number, its addresses, its directory,
    /// as many shards as its machine has cores, how much it says in its log.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let alike = Self {
            node: NodeId(0),
            listen: Vec::new(),
            listen_proxy: Vec::new(),
            listen_tls: Vec::new(),
            admin: nowhere,
            data: PathBuf::new(),
            shards: 0,
            log: String::new(),
            log_format: LineFormat::Text,
            ..self.clone()
        };
        // What may hold a secret prints without it.
        let digest = Sha256::digest(format!("{alike:?}").as_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The commented sample file: every setting with its default.
#[must_use]
pub fn sample() -> String {
    let mut out = String::from(
        "# imgate's configuration; `imgate --config FILE` reads it. Printed by `imgate config`.\n\
         # Every line shows a default; remove the # to change it.\n\
         # A flag goes before an environment variable, and that before this file. An empty variable is as\n\
         # good as none.\n\
         # What changes \"at a reload\" is taken up by a running gateway at SIGHUP and `imgate reload`.\n\
         # Times: 250ms, 55s, 5m, 12h, 30d. Sizes: 4096, 64KiB, 16MiB.\n",
    );
    for field in FIELDS.iter().filter(|field| field.reach != Reach::Hidden) {
        let flag = if field.reach == Reach::NoFlag { String::new() } else { format!("--{}, ", field.flag()) };
        let default = if field.default.is_empty() { r#""""# } else { field.default };
        let lines = [
            field.doc.to_owned(),
            format!("Allowed: {}. Also {flag}{}. Changes {}.", field.range, field.variable(), field.change.words()),
            format!("{} = {default}", field.key),
        ];
        out.push('\n');
        for (index, line) in lines.iter().enumerate() {
            out.push_str(if index < 2 { "# " } else { "#" });
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests;

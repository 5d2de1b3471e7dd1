//! The configuration: defaults < file < environment < flags; texts first, then one typed [`Config`].
//!
//! Owns: [`FIELDS`], the one table of every setting with its meaning, default and range; the layers; the sample file.
//! Never: prints a secret or a database URL that may hold a password. Never decides beyond `limits`: a range ends where a cap is.
//! To add a setting: a row in [`FIELDS`], a field in [`Config`], a line in [`Config::from_layers`]; then
//! `cargo run -- config > docs/imgate.sample.toml`, which a test compares.

mod error;
mod layers;
mod pace;
mod units;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread::available_parallelism;

pub use self::error::Error;
pub use self::layers::Layers;
pub use self::units::{parse_duration_ms, parse_size};
use crate::caller::Origins;
use crate::fair::Networks;
use crate::ids::NodeId;
use crate::shard::{DevicePolicy, PaceLimits};
use crate::store::Keep;
pub use crate::store::Synchronous;
use crate::wire::Device;
use crate::{limits, log};

/// What the gateway is told, typed and within its ranges. What each setting means stands in [`FIELDS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Public addresses, at least one, without repetition.
    pub listen: Vec<SocketAddr>,
    /// Public addresses whose connections begin with a header of the PROXY protocol.
    pub listen_proxy: Vec<SocketAddr>,
    /// Networks whose word about a client is believed.
    pub trusted_proxies: Networks,
    /// Pages of other origins that may use cookies.
    pub origins: Origins,
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
    /// What the kernel may hold for one session that does not read, in bytes of `SO_SNDBUF`; 0: as much as `net.ipv4.tcp_wmem` says.
    pub send_buffer: usize,
    /// How long the messages of a busy group may wait for each other, in milliseconds; 0: they never do.
    pub coalesce_ms: u32,
    /// Silence in milliseconds after which the server pings.
    pub ping_after_ms: u64,
    /// Silence in milliseconds after which a connection is dead; at least twice [`Config::ping_after_ms`].
    pub idle_after_ms: u64,
    /// How many devices of one user may be connected at once.
    pub devices: DevicePolicy,
    /// How fast a user, and a guest of `/chatroom`, may go.
    pub pace: PaceLimits,
    /// Life of a token in milliseconds.
    pub token_ttl_ms: u64,
    /// Who may make accounts, and how often people may be looked up.
    pub accounts: Accounts,
    /// The signing key's text; `None`: the file `secret.key` in [`Config::data`].
    pub secret: Option<Secret>,
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
    /// Filter of the log.
    pub log: String,
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
    /// Whether `/chatroom` exists: a room of guests who need no token.
    pub chatroom: bool,
    /// Guests there at once.
    pub chatroom_guests: usize,
    /// Of these, of one address; 0: any number.
    pub chatroom_guests_per_address: u32,
    /// The hidden echo route for protocol tests.
    pub echo: bool,
}

/// Which database, as a URL that may hold a password: only its scheme is ever shown. `store` says whether it can open it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The whole URL, for the one who opens it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({}:…)", self.0.split(':').next().unwrap_or_default())
    }
}

/// What an ack promises (design, sections 4 and 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The message is in the database.
    Stored,
    /// The home shard has accepted it; nothing is kept.
    Volatile,
}

/// Who may make accounts, and how often people may be looked up. A rate of 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accounts {
    /// Whether anybody may make one.
    pub registration: bool,
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
    /// The text, for the one who signs with it.
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

/// One setting, as a person meets it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Key in the file. The flag is the same with hyphens, the variable is `IMGATE_` and the key in capitals.
    pub key: &'static str,
    /// Placeholder of the value in `--help`.
    pub value: &'static str,
    /// What it means, in full sentences.
    pub doc: &'static str,
    /// The default as TOML, or empty when there is none.
    pub default: &'static str,
    /// What is allowed, in words.
    pub range: &'static str,
    /// Where it may be set.
    pub reach: Reach,
}

/// Where a setting may be set, and whether it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// File, environment, flag.
    Everywhere,
    /// As above, and several times: a list in the file, commas in the environment, a repeated flag.
    Repeatable,
    /// File and environment only: every user of the machine can read a process's arguments.
    NoFlag,
    /// Environment and flag, shown nowhere.
    Hidden,
}

/// Every setting. The order is that of the sample file.
pub const FIELDS: &[Field] = &[
    Field {
        key: "listen",
        value: "ADDRESS",
        doc: "Public addresses: WebSocket, HTTP API. Repeatable.",
        default: r#"["0.0.0.0:8081"]"#,
        range: "IP address or host name, and port; 1 to 16 of them; `:8081` is every IPv4 address; port 0 lets the system choose",
        reach: Reach::Repeatable,
    },
    Field {
        key: "listen_proxy",
        value: "ADDRESS",
        doc: "Further public addresses, for proxies that speak the PROXY protocol (version 1 or 2): there every connection begins with its header, and only \
              trusted_proxies may connect. Repeatable.",
        default: "[]",
        range: "as `listen`; together at most 16",
        reach: Reach::Repeatable,
    },
    Field {
        key: "trusted_proxies",
        value: "NETWORK",
        doc: "Networks of the proxies in front of the gateway. What they say of a client's address, scheme and host is believed, and they are exempt from the \
              limits per address. Repeatable.",
        default: r#"["127.0.0.0/8", "::1/128"]"#,
        range: "networks as 10.0.0.0/8 or single addresses, or `none`",
        reach: Reach::Repeatable,
    },
    Field {
        key: "origins",
        value: "ORIGIN",
        doc: "Origins of pages, beside the gateway's own, whose requests and WebSockets may use login cookies. Those that bring a token themselves may come from \
              any page. Repeatable.",
        default: "[]",
        range: "scheme and host as https://chat.example, with a port if it is not the usual one; at most 64",
        reach: Reach::Repeatable,
    },
    Field {
        key: "admin",
        value: "ADDRESS",
        doc: "Address of /metrics, /healthz and /readyz. Keep it private.",
        default: r#""127.0.0.1:8082""#,
        range: "IP address or host name, and port; `:8082` is every IPv4 address",
        reach: Reach::Everywhere,
    },
    Field {
        key: "data",
        value: "DIR",
        doc: "Directory of the database and of the signing key; made at the first start. One gateway at a time.",
        default: r#""./data""#,
        range: "a directory",
        reach: Reach::Everywhere,
    },
    Field {
        key: "store",
        value: "URL",
        doc: "The database: `sqlite:` is a file in the data directory, `mysql://user:password@host:port/database` a MySQL or \
              MariaDB server (`?tls=verify-full&ca=FILE`; docs/operations.md), `memory:` is gone when the process ends.",
        default: r#""sqlite:""#,
        range: "sqlite:, mysql://, memory:",
        reach: Reach::Everywhere,
    },
    Field {
        key: "durability",
        value: "MODE",
        doc: "What an ack promises. `stored`: the message is in the database. `volatile`: a pure router, nothing is kept; no id, \
              no seq, no history.",
        default: r#""stored""#,
        range: "stored, volatile",
        reach: Reach::Everywhere,
    },
    Field {
        key: "sqlite_synchronous",
        value: "MODE",
        doc: "When SQLite syncs. `full`: an ack survives a power cut. `normal`: it survives a crash of the process; a power cut may \
              lose the last commits.",
        default: r#""full""#,
        range: "full, normal",
        reach: Reach::Everywhere,
    },
    Field {
        key: "keep_age",
        value: "TIME",
        doc: "Messages older than this are removed; 0 keeps messages of any age. The dedupe keys of removed messages live on for 7 days.",
        default: r#""0""#,
        range: "0, or 1h to 36500d",
        reach: Reach::Everywhere,
    },
    Field {
        key: "keep_count",
        value: "N",
        doc: "The newest messages of each conversation that are kept; 0 keeps all. With keep_age, what either removes is gone.",
        default: "0",
        range: "0, or 200 to 1000000000",
        reach: Reach::Everywhere,
    },
    Field {
        key: "shards",
        value: "N",
        doc: "Shard threads. `auto` is one for each core.",
        default: r#""auto""#,
        range: "auto, or 1 to 1024",
        reach: Reach::Everywhere,
    },
    Field {
        key: "outbox",
        value: "SIZE",
        doc: "What may be queued for one slow session before it is behind and catches up from the store later.",
        default: r#""256KiB""#,
        range: "128KiB to 256KiB",
        reach: Reach::Everywhere,
    },
    Field {
        key: "outbox_budget",
        value: "SIZE",
        doc: "What all that is queued for slow sessions may take of memory, all shards together; beyond it the slowest are closed (4001), or, volatile, \
              their messages dropped.",
        default: r#""256MiB""#,
        range: "8MiB to 1024GiB",
        reach: Reach::Everywhere,
    },
    Field {
        key: "inbound_budget",
        value: "SIZE",
        doc: "What may be kept of what clients have begun to send (parts of messages and of request heads, sessions that are not read now), all shards together; \
              beyond it whoever has the most for the longest is closed (1008).",
        default: r#""64MiB""#,
        range: "4MiB to 1024GiB",
        reach: Reach::Everywhere,
    },
    Field {
        key: "send_buffer",
        value: "SIZE",
        doc: "What the kernel may hold for one session that does not read, before imgate queues for it; the kernel takes twice as much with its own records. 0: as \
              much as `net.ipv4.tcp_wmem` says. `net.core.wmem_max` is above it.",
        default: r#""64KiB""#,
        range: "0, or 16KiB to 4MiB",
        reach: Reach::Everywhere,
    },
    Field {
        key: "coalesce",
        value: "TIME",
        doc: "How long the messages of a busy group may wait for each other, so that several leave in one send per member; 0: never. \
              Direct messages and those of a quiet group never wait; the acks of whoever posts direct messages in a stream do.",
        default: r#""5ms""#,
        range: "0, or 1ms to 100ms",
        reach: Reach::Everywhere,
    },
    Field {
        key: "ping_after",
        value: "TIME",
        doc: "Silence of a client after which it is pinged; up to 10 s earlier, so that they do not all come at once.",
        default: r#""55s""#,
        range: "11s to 55s",
        reach: Reach::Everywhere,
    },
    Field {
        key: "idle_after",
        value: "TIME",
        doc: "Silence of a client, pongs included, after which its connection is closed.",
        default: r#""130s""#,
        range: "more than twice ping_after, up to 130s",
        reach: Reach::Everywhere,
    },
    Field {
        key: "devices",
        value: "POLICY",
        doc: "Connections of one user at once, of all classes or also of one, as in `8,phone=1,pad=1`; the oldest one gives way (4502).",
        default: r#""8""#,
        range: "1 to 64 each; classes: phone, pad, desktop, web",
        reach: Reach::Everywhere,
    },
    Field {
        key: "user_cost",
        value: "N",
        doc: "Work that one user may cause in a second, all devices together, in units: a message is 4, a ping or heartbeat 1, a page of history or of \
              conversations 32 (docs/operations.md has them all). Whoever is over it is not read until it has come back, and closed (4429) after 30 s on end. 0: \
              without a bound.",
        default: "2000",
        range: "0 to 1099511627776",
        reach: Reach::Everywhere,
    },
    Field {
        key: "user_cost_burst",
        value: "N",
        doc: "Units that one user may use at once after a rest.",
        default: "10000",
        range: "0 to 1099511627776",
        reach: Reach::Everywhere,
    },
    Field {
        key: "user_messages",
        value: "N",
        doc: "Messages of one user in a second, commands of every sort; over it as with user_cost. 0: without a bound.",
        default: "500",
        range: "0 to 1099511627776",
        reach: Reach::Everywhere,
    },
    Field {
        key: "user_messages_burst",
        value: "N",
        doc: "Messages that one user may send at once after a rest.",
        default: "5000",
        range: "0 to 1099511627776",
        reach: Reach::Everywhere,
    },
    Field {
        key: "user_bytes",
        value: "SIZE",
        doc: "Bytes that one user may send in a second over WebSockets; over it as with user_cost. 0: without a bound.",
        default: r#""1MiB""#,
        range: "0 to 1024GiB",
        reach: Reach::Everywhere,
    },
    Field {
        key: "user_bytes_burst",
        value: "SIZE",
        doc: "Bytes that one user may send at once after a rest.",
        default: r#""32MiB""#,
        range: "0 to 1024GiB",
        reach: Reach::Everywhere,
    },
    Field {
        key: "guest_messages",
        value: "N",
        doc: "Messages of one guest of /chatroom in a second, each connection for itself; over it as with user_cost. 0: without a bound.",
        default: "0",
        range: "0 to 1099511627776",
        reach: Reach::Everywhere,
    },
    Field {
        key: "guest_messages_burst",
        value: "N",
        doc: "Messages that one guest may send at once after a rest.",
        default: "100",
        range: "0 to 1099511627776",
        reach: Reach::Everywhere,
    },
    Field {
        key: "token_ttl",
        value: "TIME",
        doc: "How long a token is valid that a login, a registration or `imgate token` issues.",
        default: r#""30d""#,
        range: "1m to 3650d",
        reach: Reach::Everywhere,
    },
    Field {
        key: "registration",
        value: "MODE",
        doc: "Who makes accounts. `open`: whoever comes. `closed`: only the operator.",
        default: r#""open""#,
        range: "open, closed",
        reach: Reach::Everywhere,
    },
    Field {
        key: "registrations_per_minute",
        value: "N",
        doc: "How many accounts one network (an IPv4 address, or the /64 of an IPv6 address) may make in a minute, and at once; 0: without a bound.",
        default: "60",
        range: "0 to 60000",
        reach: Reach::Everywhere,
    },
    Field {
        key: "registrations_per_minute_all",
        value: "N",
        doc: "How many accounts all networks together may make in a minute, and at once; 0: without a bound.",
        default: "0",
        range: "0 to 60000",
        reach: Reach::Everywhere,
    },
    Field {
        key: "lookups_per_minute",
        value: "N",
        doc: "How many others one user may look up by number in a minute, and at once; 0: without a bound.",
        default: "1200",
        range: "0 to 60000",
        reach: Reach::Everywhere,
    },
    Field {
        key: "mobile_lookups_per_minute",
        value: "N",
        doc: "How many mobile numbers one user may look up in a minute, and at once, found or not; 0: without a bound.",
        default: "30",
        range: "0 to 60000",
        reach: Reach::Everywhere,
    },
    Field {
        key: "secret",
        value: "TEXT",
        doc: "The key that signs tokens; the nodes of a cluster share it. Without it, the file secret.key in the data directory, \
              made at the first start.",
        default: "",
        range: "16 to 1024 bytes",
        reach: Reach::NoFlag,
    },
    Field {
        key: "max_connections",
        value: "N",
        doc: "Connections of this process. If the descriptor limit allows fewer, with a reserve for the admin port, the store and files, it is fewer; the log says so \
              at start.",
        default: "1000000",
        range: "1 to 16777216",
        reach: Reach::Everywhere,
    },
    Field {
        key: "http_idle",
        value: "TIME",
        doc: "How long a kept-alive HTTP connection may be idle; answers announce it (`Keep-Alive: timeout=`). Longer than the proxy in front keeps its own. \
              When seats are short, the longest idle ones end earlier.",
        default: r#""75s""#,
        range: "1s to 1h",
        reach: Reach::Everywhere,
    },
    Field {
        key: "http_budget",
        value: "SIZE",
        doc: "What plain HTTP may hold of memory: connections, bodies that come, answers that wait for their peers. Beyond it the largest and oldest of these \
              end, and requests that read much wait, then get 503.",
        default: r#""64MiB""#,
        range: "8MiB to 1024GiB",
        reach: Reach::Everywhere,
    },
    Field {
        key: "connect_rate",
        value: "N",
        doc: "Connections that one address (IPv6: /64) may make in a second; further ones are closed at once. 0: any number. Addresses of trusted_proxies are exempt.",
        default: "200",
        range: "0 to 1000",
        reach: Reach::Everywhere,
    },
    Field {
        key: "connect_burst",
        value: "N",
        doc: "Connections that one address may make at once after a rest, before connect_rate holds.",
        default: "2000",
        range: "1 to 16777216",
        reach: Reach::Everywhere,
    },
    Field {
        key: "connections_per_address",
        value: "N",
        doc: "Connections that one address (IPv6: /64) may have at once; further ones are told 503. 0: any number. Addresses of trusted_proxies are exempt.",
        default: "10000",
        range: "0 to 16777216",
        reach: Reach::Everywhere,
    },
    Field {
        key: "node",
        value: "N",
        doc: "The number of this gateway among those that share a database.",
        default: "0",
        range: "0 to 65535",
        reach: Reach::Everywhere,
    },
    Field {
        key: "log",
        value: "FILTER",
        doc: "What is logged to stderr: a level, or levels by module (`info,imgate::store=debug`).",
        default: r#""info""#,
        range: "error, warn, info, debug, trace; by module",
        reach: Reach::Everywhere,
    },
    Field {
        key: "upload_max",
        value: "SIZE",
        doc: "The largest file that a user may upload; 0 allows none. Pictures are limited to 20MiB and sounds to 64MiB besides.",
        default: r#""64MiB""#,
        range: "0, or 1 B to 2GiB",
        reach: Reach::Everywhere,
    },
    Field {
        key: "upload_user_max",
        value: "SIZE",
        doc: "What the files of one user may weigh together; 0: without a bound. Each user pays for what she has uploaded, also if others have uploaded the same.",
        default: r#""2GiB""#,
        range: "0, or 1 B to 1048576GiB",
        reach: Reach::Everywhere,
    },
    Field {
        key: "uploads_per_minute",
        value: "N",
        doc: "How many files one user may upload in a minute; 0: without a bound.",
        default: "60",
        range: "0 to 60000",
        reach: Reach::Everywhere,
    },
    Field {
        key: "file_grace",
        value: "TIME",
        doc: "How long an uploaded file is kept that no message, avatar or icon refers to; 0: for ever. What a recalled message showed goes at once.",
        default: r#""1d""#,
        range: "0, or 1m to 365d",
        reach: Reach::Everywhere,
    },
    Field {
        key: "legacy_pages",
        value: "DIR",
        doc: "A checkout of fastIM or IMChat: its pages are served unmodified, and `/` leads to its login.",
        default: "",
        range: "a directory",
        reach: Reach::Everywhere,
    },
    Field {
        key: "chatroom",
        value: "BOOL",
        doc: "The room at `/chatroom`, for simple-chatroom's clients: whoever connects may speak there, without a login. Nothing said there is stored.",
        default: "true",
        range: "true, false",
        reach: Reach::Everywhere,
    },
    Field {
        key: "chatroom_guests",
        value: "N",
        doc: "Guests in `/chatroom` at once; further ones are told 503. They are never more than half of max_connections.",
        default: "10000",
        range: "1 to 16777216",
        reach: Reach::Everywhere,
    },
    Field {
        key: "chatroom_guests_per_address",
        value: "N",
        doc: "Of these, guests from one address (IPv6: /64). 0: any number. Addresses of trusted_proxies are exempt.",
        default: "1000",
        range: "0 to 16777216",
        reach: Reach::Everywhere,
    },
    Field {
        key: "echo",
        value: "BOOL",
        doc: "The echo route that protocol test suites talk to; larger limits.",
        default: "false",
        range: "true, false",
        reach: Reach::Hidden,
    },
];

impl Field {
    /// `--max-connections`.
    #[must_use]
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// `IMGATE_MAX_CONNECTIONS`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("IMGATE_{}", self.key.to_ascii_uppercase())
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
        let (listen, listen_proxy) = listen(layers)?;
        Ok(Self {
            listen,
            listen_proxy,
            trusted_proxies: trusted_proxies(layers)?,
            origins: origins(layers)?,
            admin: parse(layers, "admin", SocketAddr::from(([127, 0, 0, 1], 8082)), address)?,
            store: StoreUrl(text(layers, "store", "sqlite:")?),
            data: PathBuf::from(text(layers, "data", "./data")?),
            durability: parse(layers, "durability", Durability::Stored, |text| match text {
                "stored" => Some(Durability::Stored),
                "volatile" => Some(Durability::Volatile),
                _ => None,
            })?,
            sqlite_synchronous: parse(layers, "sqlite_synchronous", Synchronous::Full, |text| match text {
                "full" => Some(Synchronous::Full),
                "normal" => Some(Synchronous::Normal),
                _ => None,
            })?,
            keep: keep(layers)?,
            shards: shards(layers)?,
            outbox_bytes: size(layers, "outbox", limits::OUTBOX_BYTES_MAX, OUTBOX_RANGE)?,
            outbox_budget: size(layers, "outbox_budget", limits::OUTBOX_BUDGET_DEFAULT, OUTBOX_BUDGET_RANGE)?,
            inbound_budget: size(layers, "inbound_budget", limits::INBOUND_BUDGET_DEFAULT, INBOUND_BUDGET_RANGE)?,
            send_buffer: parse(layers, "send_buffer", limits::SEND_BUFFER_DEFAULT, |text| {
                let bytes = usize::try_from(parse_size(text)?).ok()?;
                (bytes == 0 || (limits::SEND_BUFFER_MIN..=limits::SEND_BUFFER_MAX).contains(&bytes)).then_some(bytes)
            })?,
            coalesce_ms: parse(layers, "coalesce", limits::COALESCE_MS_DEFAULT, |text| {
                u32::try_from(parse_duration_ms(text)?).ok().filter(|ms| *ms <= limits::COALESCE_MS_MAX)
            })?,
            ping_after_ms,
            idle_after_ms: duration(layers, "idle_after", idle_range, limits::IDLE_MS_MAX)?,
            devices: parse(layers, "devices", DevicePolicy::default(), parse_devices)?,
            pace: pace::read(layers)?,
            token_ttl_ms: duration(layers, "token_ttl", TOKEN_TTL_RANGE_MS, TOKEN_TTL_DEFAULT_MS)?,
            accounts: accounts(layers)?,
            secret: secret(layers)?,
            max_connections: number(layers, "max_connections", CONNECTIONS_DEFAULT, 1..=limits::CONNECTIONS_MAX)?,
            http_idle_ms: duration(layers, "http_idle", HTTP_IDLE_RANGE_MS, limits::HTTP_IDLE_MS_DEFAULT)?,
            http_budget: parse(layers, "http_budget", limits::HTTP_BUDGET_DEFAULT, |text| {
                let range = limits::HTTP_BUDGET_MIN..=limits::HTTP_BUDGET_MAX;
                parse_size(text).and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| range.contains(bytes))
            })?,
            connect_rate: number(layers, "connect_rate", limits::CONNECT_RATE_DEFAULT, 0..=limits::CONNECT_RATE_MAX)?,
            connect_burst: number(layers, "connect_burst", limits::CONNECT_BURST_DEFAULT, CONNECT_BURST_RANGE)?,
            connections_per_address: count(layers, "connections_per_address", limits::ADDRESS_CONNECTIONS_DEFAULT)?,
            node: parse(layers, "node", NodeId(0), |text| text.parse().ok().map(NodeId))?,
            log: log_filter(layers)?,
            upload_max: parse(layers, "upload_max", limits::UPLOAD_BYTES_DEFAULT, |text| {
                parse_size(text).filter(|bytes| *bytes <= limits::UPLOAD_BYTES_MAX)
            })?,
            upload_user_max: parse(layers, "upload_user_max", limits::UPLOAD_USER_BYTES_DEFAULT, |text| {
                parse_size(text).filter(|bytes| *bytes <= limits::UPLOAD_USER_BYTES_MAX)
            })?,
            uploads_per_minute: number(
                layers,
                "uploads_per_minute",
                limits::UPLOADS_PER_MINUTE_DEFAULT,
                UPLOADS_RANGE,
            )?,
            file_grace_ms: parse(layers, "file_grace", limits::FILE_GRACE_MS, |text| match text {
                "0" => Some(0),
                time => parse_duration_ms(time).filter(|ms| FILE_GRACE_RANGE_MS.contains(ms)),
            })?,
            legacy_pages: parse(layers, "legacy_pages", None, |text| {
                Some((!text.is_empty()).then(|| PathBuf::from(text)))
            })?,
            chatroom: parse(layers, "chatroom", true, |text| text.parse().ok())?,
            chatroom_guests: number(layers, "chatroom_guests", limits::GUESTS_DEFAULT, 1..=limits::CONNECTIONS_MAX)?,
            chatroom_guests_per_address: count(
                layers,
                "chatroom_guests_per_address",
                limits::GUESTS_PER_ADDRESS_DEFAULT,
            )?,
            echo: parse(layers, "echo", false, |text| text.parse().ok())?,
        })
    }
}

/// How long and how much of a conversation is kept; 0: without end.
fn keep(layers: &Layers) -> Result<Keep, Error> {
    Ok(Keep {
        age_ms: parse(layers, "keep_age", 0, |text| {
            parse_duration_ms(text).filter(|ms| *ms == 0 || KEEP_AGE_RANGE_MS.contains(ms))
        })?,
        count: parse(layers, "keep_count", 0, |text| {
            text.parse().ok().filter(|n| *n == 0 || KEEP_COUNT_RANGE.contains(n))
        })?,
    })
}

fn accounts(layers: &Layers) -> Result<Accounts, Error> {
    let per_minute =
        |key, default| parse(layers, key, default, |text| text.parse().ok().filter(|n| *n <= limits::PER_MINUTE_MAX));
    Ok(Accounts {
        registration: parse(layers, "registration", true, |text| match text {
            "open" => Some(true),
            "closed" => Some(false),
            _ => None,
        })?,
        registrations_per_minute: per_minute("registrations_per_minute", limits::REGISTRATIONS_PER_MINUTE_DEFAULT)?,
        registrations_per_minute_all: per_minute("registrations_per_minute_all", 0)?,
        lookups_per_minute: per_minute("lookups_per_minute", limits::LOOKUPS_PER_MINUTE_DEFAULT)?,
        mobile_lookups_per_minute: per_minute("mobile_lookups_per_minute", limits::MOBILE_LOOKUPS_PER_MINUTE_DEFAULT)?,
    })
}

/// A policy as in `8,phone=1`: the total, then classes that are allowed fewer.
fn parse_devices(text: &str) -> Option<DevicePolicy> {
    let number = |text: &str| text.trim().parse().ok().filter(|n| (1..=limits::SESSIONS_PER_USER_MAX).contains(n));
    let mut parts = text.split(',');
    let total = number(parts.next()?)?;
    let mut policy = DevicePolicy { total, of_class: [total; Device::ALL.len()] };
    for part in parts {
        let (class, most) = part.split_once('=')?;
        let class = Device::parse(class.trim()).filter(|_| !class.trim().is_empty())?;
        let place = Device::ALL.iter().position(|&other| other == class)?;
        *policy.of_class.get_mut(place)? = number(most)?;
    }
    Some(policy)
}

const TOKEN_TTL_RANGE_MS: (u64, u64) = (MINUTE_MS, 3650 * DAY_MS);
const TOKEN_TTL_DEFAULT_MS: u64 = 30 * DAY_MS;
const HTTP_IDLE_RANGE_MS: (u64, u64) = (1000, 60 * MINUTE_MS);
/// What a client needs between the upload and the message, up to a year.
const FILE_GRACE_RANGE_MS: RangeInclusive<u64> = limits::FILE_GRACE_MS_MIN..=365 * DAY_MS;
/// Shorter would take messages from readers that are only slow.
const KEEP_AGE_RANGE_MS: RangeInclusive<u64> = 60 * MINUTE_MS..=36_500 * DAY_MS;
/// Fewer than one page, and a legacy page would not get what it missed.
const KEEP_COUNT_RANGE: RangeInclusive<u64> = limits::REPLAY_MAX..=1_000_000_000;
/// A ping comes up to the jitter earlier, and never at once.
const PING_RANGE_MS: (u64, u64) = (limits::PING_JITTER_MS + 1000, limits::PING_AFTER_MS);
const CONNECTIONS_DEFAULT: usize = 1_000_000;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

fn text(layers: &Layers, key: &'static str, default: &str) -> Result<String, Error> {
    parse(layers, key, default.to_owned(), |text| (!text.is_empty()).then(|| text.to_owned()))
}

fn parse<T>(layers: &Layers, key: &'static str, default: T, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
    let Some(found) = layers.find(key) else { return Ok(default) };
    let given = found.one()?;
    read(given).ok_or_else(|| found.wrong(given))
}

/// A number in its range.
fn number<T: FromStr + PartialOrd>(
    layers: &Layers,
    key: &'static str,
    default: T,
    range: RangeInclusive<T>,
) -> Result<T, Error> {
    parse(layers, key, default, |text| text.parse().ok().filter(|n| range.contains(n)))
}

/// A size in its range.
fn size(layers: &Layers, key: &'static str, default: usize, range: RangeInclusive<usize>) -> Result<usize, Error> {
    parse(layers, key, default, |text| usize::try_from(parse_size(text)?).ok().filter(|n| range.contains(n)))
}

const OUTBOX_RANGE: RangeInclusive<usize> = limits::OUTBOX_BYTES_MIN..=limits::OUTBOX_BYTES_MAX;
const OUTBOX_BUDGET_RANGE: RangeInclusive<usize> = limits::OUTBOX_BUDGET_MIN..=limits::OUTBOX_BUDGET_MAX;
const INBOUND_BUDGET_RANGE: RangeInclusive<usize> = limits::INBOUND_BUDGET_MIN..=limits::INBOUND_BUDGET_MAX;
const CONNECT_BURST_RANGE: RangeInclusive<u64> = 1..=limits::CONNECTIONS_MAX as u64;
const UPLOADS_RANGE: RangeInclusive<u32> = 0..=limits::UPLOADS_PER_MINUTE_MAX;

/// A number where 0 means that there is no bound.
fn count(layers: &Layers, key: &'static str, default: u32) -> Result<u32, Error> {
    parse(layers, key, default, |text| text.parse().ok().filter(|n| *n as usize <= limits::CONNECTIONS_MAX))
}

fn duration(layers: &Layers, key: &'static str, (min, max): (u64, u64), default: u64) -> Result<u64, Error> {
    parse(layers, key, default, |text| parse_duration_ms(text).filter(|ms| (min..=max).contains(ms)))
}

/// The addresses of `listen` and of `listen_proxy`, none of them twice.
fn listen(layers: &Layers) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), Error> {
    let listen = match layers.find("listen") {
        Some(found) if found.values.is_empty() => return Err(found.wrong("no address")),
        Some(found) => addresses(&found, &[])?,
        None => vec![SocketAddr::from(([0, 0, 0, 0], 8081))],
    };
    let proxied = layers.find("listen_proxy").map(|found| addresses(&found, &listen)).transpose()?;
    Ok((listen, proxied.unwrap_or_default()))
}

/// Addresses that are not yet among `others`, and together with them not too many.
fn addresses(found: &layers::Found<'_>, others: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
    if found.values.len() + others.len() > limits::LISTENERS_MAX {
        return Err(found.wrong(&format!("{} addresses", found.values.len())));
    }
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(found.values.len());
    for given in found.values {
        let address = address(given).ok_or_else(|| found.wrong(given))?;
        if address.port() != 0 && addresses.iter().chain(others).any(|other| *other == address) {
            return Err(found.wrong_unshown(&format!("`{given}` is given twice")));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn origins(layers: &Layers) -> Result<Origins, Error> {
    let Some(found) = layers.find("origins") else { return Ok(Origins::default()) };
    Origins::parse(found.values.iter().map(String::as_str)).map_err(|given| found.wrong(&given))
}

fn log_filter(layers: &Layers) -> Result<String, Error> {
    let Some(found) = layers.find("log") else { return Ok("info".to_owned()) };
    let given = found.one()?;
    log::check(given).map_err(|bad| found.wrong_unshown(&bad.to_string()))?;
    Ok(given.to_owned())
}

fn trusted_proxies(layers: &Layers) -> Result<Networks, Error> {
    let Some(found) = layers.find("trusted_proxies") else { return Ok(Networks::loopback()) };
    if matches!(found.values, [only] if only == "none") {
        return Ok(Networks::default());
    }
    if found.values.len() > limits::TRUSTED_PROXIES_MAX {
        return Err(found.wrong(&format!("{} networks", found.values.len())));
    }
    Networks::parse(found.values.iter().map(String::as_str)).map_err(|given| found.wrong(&given))
}

/// `127.0.0.1:8081`, `[::1]:8081`, `:8081` (every IPv4 address) or `localhost:8081`. A name is looked up here, once, and stands for one address: an
/// IPv4 address if it has any, because that is what most clients of a name try as well.
fn address(text: &str) -> Option<SocketAddr> {
    if let Some(port) = text.strip_prefix(':') {
        return Some(SocketAddr::from(([0, 0, 0, 0], port.parse().ok()?)));
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut found: Vec<SocketAddr> = text.to_socket_addrs().ok()?.collect();
    found.sort_by_key(|address| !address.is_ipv4());
    found.first().copied()
}

fn shards(layers: &Layers) -> Result<u16, Error> {
    let cores = available_parallelism().map_or(1, |n| u16::try_from(n.get()).unwrap_or(limits::SHARDS_MAX));
    let auto = cores.min(limits::SHARDS_MAX);
    parse(layers, "shards", auto, |text| match text {
        "auto" => Some(auto),
        number => number.parse().ok().filter(|n| (1..=limits::SHARDS_MAX).contains(n)),
    })
}

fn secret(layers: &Layers) -> Result<Option<Secret>, Error> {
    let Some(found) = layers.find("secret") else { return Ok(None) };
    let given = found.one()?;
    if !(16..=1024).contains(&given.len()) {
        return Err(found.wrong_unshown("a secret has 16 to 1024 bytes"));
    }
    Ok(Some(Secret(given.to_owned())))
}

/// The commented sample file: every setting with its default.
#[must_use]
pub fn sample() -> String {
    let mut out = String::from(
        "# imgate's configuration; `imgate --config FILE` reads it. Printed by `imgate config`.\n\
         # Every line shows a default; remove the # to change it.\n\
         # A flag goes before an environment variable, and that before this file.\n\
         # Times: 250ms, 55s, 5m, 12h, 30d. Sizes: 4096, 64KiB, 16MiB.\n",
    );
    for field in FIELDS.iter().filter(|field| field.reach != Reach::Hidden) {
        let flag = if field.reach == Reach::NoFlag { String::new() } else { format!("--{}, ", field.flag()) };
        let default = if field.default.is_empty() { r#""""# } else { field.default };
        let lines = [
            field.doc.to_owned(),
            format!("Allowed: {}. Also {flag}{}.", field.range, field.variable()),
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

//! The configuration: defaults < file < environment < flags; texts first, then one typed [`Config`].
//!
//! Owns: [`FIELDS`], the one table of every setting with its meaning, default and range; the layers; the sample file.
//! Never: prints a secret or a database URL that may hold a password. Never decides beyond `limits`: a range ends where a cap is.
//! To add a setting: a row in [`FIELDS`], a field in [`Config`], a line in [`Config::from_layers`]; then
//! `cargo run -- config > docs/imgate.sample.toml`, which a test compares.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use crate::fair::{Flow, Networks};
use crate::ids::NodeId;
use crate::limits;
use crate::shard::{DevicePolicy, PaceLimits};
use crate::store::Keep;
pub use crate::store::Synchronous;
use crate::wire::Device;

/// What the gateway is told, typed and within its ranges. What each setting means stands in [`FIELDS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Public addresses, at least one, without repetition.
    pub listen: Vec<SocketAddr>,
    /// Networks whose word about a client is believed.
    pub trusted_proxies: Networks,
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
    /// The signing key's text; `None`: the file `secret.key` in [`Config::data`].
    pub secret: Option<Secret>,
    /// Connections of the process, all shards together.
    pub max_connections: usize,
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
    /// A checkout of fastIM or IMChat, whose pages are served.
    pub legacy_pages: Option<PathBuf>,
    /// Whether `/chatroom` exists: a room of guests who need no token.
    pub chatroom: bool,
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

/// What is wrong with a configuration. Says where the value came from, never what a secret is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path}: {error}")]
    Toml {
        /// Which.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// A key of the file is no setting.
    #[error("{path}: there is no setting `{key}`; `imgate config` prints all of them")]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: String,
    },
    /// A value is no text, number or boolean, or a list where one value belongs.
    #[error("{origin}: one value is wanted for `{key}`")]
    Shape {
        /// Where it came from.
        origin: String,
        /// Which setting.
        key: &'static str,
    },
    /// A value is out of range or not understood.
    #[error("{origin}: {why}")]
    Value {
        /// Where it came from: `--shards`, `IMGATE_SHARDS` or the file and key.
        origin: String,
        /// What is wanted, and what was given unless it is secret.
        why: String,
    },
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
        key: "trusted_proxies",
        value: "NETWORK",
        doc: "Networks of the proxies in front of the gateway. What they say of a client's address, scheme and host is believed, and they are exempt from the \
              limits per address. Repeatable.",
        default: r#"["127.0.0.0/8", "::1/128"]"#,
        range: "networks as 10.0.0.0/8 or single addresses, or `none`",
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
        doc: "Connections of this process. The descriptor limit may allow fewer; tables are reserved, not filled, at start.",
        default: "1000000",
        range: "1 to 16777216",
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
        doc: "What the files of one user may weigh together; 0: without a bound. A file that somebody else has brought already costs nothing.",
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

/// The values of one source, as written.
#[derive(Clone, Default)]
struct Layer {
    /// Field, where it came from, the values.
    values: Vec<(&'static Field, String, Vec<String>)>,
}

impl Layer {
    fn get(&self, key: &str) -> Option<(&str, &[String])> {
        self.values
            .iter()
            .find(|(field, _, _)| field.key == key)
            .map(|(_, origin, values)| (origin.as_str(), &values[..]))
    }
}

/// The sources in ascending rank. Built by the command line, by tests, and nowhere else.
#[derive(Clone, Default)]
pub struct Layers {
    file: Layer,
    environment: Layer,
    flags: Layer,
}

impl Layers {
    /// Reads the TOML file `path`.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Toml`], [`Error::UnknownKey`], [`Error::Shape`].
    pub fn file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::File { path: path.to_owned(), error })?;
        self.file_text(path, &text)
    }

    /// As [`Layers::file`], for a text that was read from `path`.
    ///
    /// # Errors
    /// As there.
    pub fn file_text(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let table: toml::Table =
            text.parse().map_err(|error| Error::Toml { path: path.to_owned(), error: Box::new(error) })?;
        for (key, value) in table {
            let known = FIELDS.iter().find(|field| field.key == key && field.reach != Reach::Hidden);
            let Some(field) = known else { return Err(Error::UnknownKey { path: path.to_owned(), key }) };
            let origin = format!("{}, `{key}`", path.display());
            let values = match (value, field.reach) {
                (toml::Value::Array(list), Reach::Repeatable) => list.into_iter().map(scalar).collect(),
                (value, _) => scalar(value).map(|text| vec![text]),
            };
            let Some(values) = values else { return Err(Error::Shape { origin, key: field.key }) };
            self.file.values.push((field, origin, values));
        }
        Ok(())
    }

    /// Takes the `IMGATE_…` variables that `lookup` knows. An empty variable is an unset one.
    pub fn environment(&mut self, lookup: impl Fn(&str) -> Option<String>) {
        for field in FIELDS {
            let variable = field.variable();
            let Some(text) = lookup(&variable).filter(|text| !text.is_empty()) else { continue };
            let values = match field.reach {
                Reach::Repeatable => text.split(',').map(|part| part.trim().to_owned()).collect(),
                _ => vec![text],
            };
            self.environment.values.push((field, variable, values));
        }
    }

    /// Takes the values of one flag.
    pub fn flag(&mut self, field: &'static Field, values: Vec<String>) {
        self.flags.values.push((field, format!("--{}", field.flag()), values));
    }

    /// The values of the highest layer that has the key.
    fn find(&self, key: &'static str) -> Option<Found<'_>> {
        [&self.flags, &self.environment, &self.file]
            .into_iter()
            .find_map(|layer| layer.get(key))
            .map(|(origin, values)| Found { key, origin, values })
    }
}

/// What was found for a setting.
#[derive(Clone, Copy)]
struct Found<'a> {
    key: &'static str,
    origin: &'a str,
    values: &'a [String],
}

impl Found<'_> {
    fn one(&self) -> Result<&str, Error> {
        match self.values {
            [one] => Ok(one),
            _ => Err(Error::Shape { origin: self.origin.to_owned(), key: self.key }),
        }
    }

    fn wrong(&self, given: &str) -> Error {
        let range = FIELDS.iter().find(|field| field.key == self.key).map_or("", |field| field.range);
        Error::Value { origin: self.origin.to_owned(), why: format!("`{given}` is not allowed; wanted: {range}") }
    }

    /// For values that may hold a secret.
    fn wrong_unshown(&self, why: &str) -> Error {
        Error::Value { origin: self.origin.to_owned(), why: why.to_owned() }
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
        Ok(Self {
            listen: listen(layers)?,
            trusted_proxies: trusted_proxies(layers)?,
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
            outbox_bytes: parse(layers, "outbox", limits::OUTBOX_BYTES_MAX, |text| {
                let bytes = usize::try_from(parse_size(text)?).ok()?;
                (limits::OUTBOX_BYTES_MIN..=limits::OUTBOX_BYTES_MAX).contains(&bytes).then_some(bytes)
            })?,
            outbox_budget: parse(layers, "outbox_budget", limits::OUTBOX_BUDGET_DEFAULT, |text| {
                let bytes = usize::try_from(parse_size(text)?).ok()?;
                (limits::OUTBOX_BUDGET_MIN..=limits::OUTBOX_BUDGET_MAX).contains(&bytes).then_some(bytes)
            })?,
            send_buffer: parse(layers, "send_buffer", limits::SEND_BUFFER_DEFAULT, |text| {
                let bytes = usize::try_from(parse_size(text)?).ok()?;
                (bytes == 0 || (limits::SEND_BUFFER_MIN..=limits::SEND_BUFFER_MAX).contains(&bytes)).then_some(bytes)
            })?,
            coalesce_ms: parse(layers, "coalesce", limits::COALESCE_MS_DEFAULT, |text| match text {
                "0" => Some(0),
                time => {
                    u32::try_from(parse_duration_ms(time)?).ok().filter(|ms| (1..=limits::COALESCE_MS_MAX).contains(ms))
                }
            })?,
            ping_after_ms,
            idle_after_ms: duration(layers, "idle_after", idle_range, limits::IDLE_MS_MAX)?,
            devices: parse(layers, "devices", DevicePolicy::default(), parse_devices)?,
            pace: pace(layers)?,
            token_ttl_ms: duration(layers, "token_ttl", TOKEN_TTL_RANGE_MS, TOKEN_TTL_DEFAULT_MS)?,
            secret: secret(layers)?,
            max_connections: parse(layers, "max_connections", CONNECTIONS_DEFAULT, |text| {
                text.parse().ok().filter(|n| (1..=limits::CONNECTIONS_MAX).contains(n))
            })?,
            node: parse(layers, "node", NodeId(0), |text| text.parse().ok().map(NodeId))?,
            log: text(layers, "log", "info")?,
            upload_max: parse(layers, "upload_max", limits::UPLOAD_BYTES_DEFAULT, |text| {
                parse_size(text).filter(|bytes| *bytes <= limits::UPLOAD_BYTES_MAX)
            })?,
            upload_user_max: parse(layers, "upload_user_max", limits::UPLOAD_USER_BYTES_DEFAULT, |text| {
                parse_size(text).filter(|bytes| *bytes <= limits::UPLOAD_USER_BYTES_MAX)
            })?,
            uploads_per_minute: parse(layers, "uploads_per_minute", limits::UPLOADS_PER_MINUTE_DEFAULT, |text| {
                text.parse().ok().filter(|n| *n <= limits::UPLOADS_PER_MINUTE_MAX)
            })?,
            legacy_pages: parse(layers, "legacy_pages", None, |text| {
                Some((!text.is_empty()).then(|| PathBuf::from(text)))
            })?,
            chatroom: parse(layers, "chatroom", true, |text| text.parse().ok())?,
            echo: parse(layers, "echo", false, |text| text.parse().ok())?,
        })
    }
}

/// How fast users and guests may go.
fn pace(layers: &Layers) -> Result<PaceLimits, Error> {
    let flow = |keys: [&'static str; 2], default: [u64; 2]| {
        let number = |text: &str| parse_size(text).filter(|n| *n <= limits::PACE_MAX);
        let [per_second, burst] = keys;
        let per_second = parse(layers, per_second, default[0], number)?;
        Ok::<_, Error>(Flow { per_second, burst: parse(layers, burst, default[1], number)? })
    };
    let cost = [limits::PACE_COST_DEFAULT, limits::PACE_COST_BURST_DEFAULT];
    let messages = [limits::PACE_MESSAGES_DEFAULT, limits::PACE_MESSAGES_BURST_DEFAULT];
    let bytes = [limits::PACE_BYTES_DEFAULT, limits::PACE_BYTES_BURST_DEFAULT];
    Ok(PaceLimits {
        user: [
            flow(["user_cost", "user_cost_burst"], cost)?,
            flow(["user_messages", "user_messages_burst"], messages)?,
            flow(["user_bytes", "user_bytes_burst"], bytes)?,
        ],
        guest: [
            Flow::default(),
            flow(["guest_messages", "guest_messages_burst"], [0, limits::PACE_GUEST_BURST_DEFAULT])?,
            Flow::default(),
        ],
    })
}

/// How long and how much of a conversation is kept; 0: without end.
fn keep(layers: &Layers) -> Result<Keep, Error> {
    Ok(Keep {
        age_ms: parse(layers, "keep_age", 0, |text| match text {
            "0" => Some(0),
            time => parse_duration_ms(time).filter(|ms| KEEP_AGE_RANGE_MS.contains(ms)),
        })?,
        count: parse(layers, "keep_count", 0, |text| {
            text.parse().ok().filter(|n| *n == 0 || KEEP_COUNT_RANGE.contains(n))
        })?,
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

fn duration(layers: &Layers, key: &'static str, (min, max): (u64, u64), default: u64) -> Result<u64, Error> {
    parse(layers, key, default, |text| parse_duration_ms(text).filter(|ms| (min..=max).contains(ms)))
}

fn listen(layers: &Layers) -> Result<Vec<SocketAddr>, Error> {
    let Some(found) = layers.find("listen") else { return Ok(vec![SocketAddr::from(([0, 0, 0, 0], 8081))]) };
    if found.values.is_empty() || found.values.len() > limits::LISTENERS_MAX {
        return Err(found.wrong(&format!("{} addresses", found.values.len())));
    }
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(found.values.len());
    for given in found.values {
        let address = address(given).ok_or_else(|| found.wrong(given))?;
        if address.port() != 0 && addresses.contains(&address) {
            return Err(found.wrong_unshown(&format!("`{given}` is given twice")));
        }
        addresses.push(address);
    }
    Ok(addresses)
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

/// A TOML value as the text that a flag would carry; `None` for lists, tables and dates.
fn scalar(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

/// Milliseconds of `250ms`, `55s`, `5m`, `12h`, `30d`. A bare number is refused: nobody knows its unit.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => MINUTE_MS,
        "h" => 60 * MINUTE_MS,
        "d" => DAY_MS,
        _ => return None,
    };
    number.checked_mul(unit_ms)
}

/// Bytes of `4096`, `64KiB`, `16MiB`, `2GiB`; also `B`. Decimal units are refused: memory is not sold in them.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    if let Ok(bytes) = text.parse() {
        return Some(bytes);
    }
    let (number, unit) = split_unit(text)?;
    let unit_bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit_bytes)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
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

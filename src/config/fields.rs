//! Every setting as a person meets it.
//!
//! Owns: [`FIELDS`], the one table of key, meaning, default and range.
//! Never: a setting that is read and does not stand here.

/// One setting, as a person meets it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Key in the file. The flag is the same with hyphens, the variable is `IMGATE_` and the key in
    /// capitals.
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
        key: "listen_tls",
        value: "ADDRESS",
        doc: "Further public addresses, where every connection is TLS (1.3 or 1.2): wss and https with the certificates of tls_cert. Repeatable.",
        default: "[]",
        range: "as `listen`; together at most 16",
        reach: Reach::Repeatable,
    },
    Field {
        key: "tls_cert",
        value: "FILE",
        doc: "Certificate chains for listen_tls as PEM, the server's own certificate first. A client gets the one with the name that it asks for, or else the first. \
              The files are read again when they change, and at SIGHUP. Repeatable.",
        default: "[]",
        range: "as many files as `tls_key` has; at most 64",
        reach: Reach::Repeatable,
    },
    Field {
        key: "tls_key",
        value: "FILE",
        doc: "Their private keys as PEM, in the same order. Repeatable.",
        default: "[]",
        range: "as many files as `tls_cert` has",
        reach: Reach::Repeatable,
    },
    Field {
        key: "tls_records",
        value: "WHOSE",
        doc: "What encrypts after the handshake. `own`: 152 to 216 bytes a connection. `rustls`: the library's own record layer, some 3.5 KB a connection.",
        default: r#""own""#,
        range: "own, rustls",
        reach: Reach::Everywhere,
    },
    Field {
        key: "hsts",
        value: "TIME",
        doc: "How long browsers that have come over TLS, here or at a trusted proxy, are told to come over nothing else (Strict-Transport-Security); 0: they are \
              told nothing.",
        default: r#""0""#,
        range: "0, or 1m to 3650d",
        reach: Reach::Everywhere,
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
        key: "cors_origins",
        value: "ORIGIN",
        doc: "Origins of pages that may call /api/v1 with a token that they bring themselves, or `*` for every page; those of `origins` may besides, with their \
              login cookies. The SDK may be loaded by every page. Repeatable.",
        default: "[]",
        range: "as `origins`, or `*` alone",
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
              MariaDB server (`?tls=verify-full&ca=FILE`; docs/operations.md), `memory:` is gone when the process ends. `store_file` names a file that holds it instead: a URL may have a password.",
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
        key: "store_writers",
        value: "N",
        doc: "Connections that write to a MySQL-protocol database; a conversation always uses the same one. With several gateways on one \
              database two to four keep a conversation that is written to by all of them from holding up the others. SQLite has one writer.",
        default: "1",
        range: "1 to 8",
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
        key: "memory_max",
        value: "SIZE",
        doc: "What the process may take of memory in all. From 90 % of it on newcomers are refused (503), from 95 % on what can be read again is forgotten, beyond it \
              the slowest readers are closed (4001). 0: 80 % of what the control group or the machine has.",
        default: r#""0""#,
        range: "0, or 64MiB to 64TiB",
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
        key: "drain_deadline",
        value: "TIME",
        doc: "How long a stop may take, whatever does not answer. A supervisor must wait longer before it kills (TimeoutStopSec, terminationGracePeriodSeconds, \
              `docker stop --time`).",
        default: r#""10s""#,
        range: "1s to 10m",
        reach: Reach::Everywhere,
    },
    Field {
        key: "drain_spread",
        value: "TIME",
        doc: "Over how long a stop spreads the closes of the sessions; few sessions take less, at least 1,000 are closed in a second.",
        default: r#""5s""#,
        range: "0 to drain_deadline",
        reach: Reach::Everywhere,
    },
    Field {
        key: "drain_return_after",
        value: "TIME",
        doc: "How long after the last close the first clients come back: what a restart needs. 0 suits gateways of which others take over.",
        default: r#""1s""#,
        range: "0 to 10m",
        reach: Reach::Everywhere,
    },
    Field {
        key: "drain_return_rate",
        value: "N",
        doc: "How many clients come back in a second after a stop: each is told its own moment. 15,000 at 2,000 come back within 7.5 s.",
        default: "2000",
        range: "1 to 1000000",
        reach: Reach::Everywhere,
    },
    Field {
        key: "devices",
        value: "POLICY",
        doc: "Connections of one user at once, of all classes or also of one, as in `8,phone=1,pad=1`; the oldest one gives way (4502).",
        default: r#""8""#,
        range: "1 to 64 each; classes: phone, pad, desktop, web, each once at most",
        reach: Reach::Everywhere,
    },
    Field {
        key: "user_cost",
        value: "N",
        doc: "Work that one user may cause in a second, all devices together, in units: a message is 4, a ping or heartbeat 1, a page of history or of \
              conversations 32 (docs/protocol.md has them all). Whoever is over it is not read until it has come back, and closed (4429) after 30 s on end. 0: \
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
        key: "group_rule",
        value: "RULE",
        doc: "Who gets into a group of `/api/v1` whose maker does not say it. `invitation`: whom a member adds, or gives the link to. `approval`: whom an admin lets in. `open`: everybody. Groups of the old pages are open.",
        default: r#""invitation""#,
        range: "invitation, approval, open",
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
        doc: "The key that signs tokens; the nodes of a cluster share it. `secret_file` names a file that holds it instead. Without either, the file secret.key in the \
              data directory, made at the first start.",
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
        range: "off, error, warn, info, debug; by module of imgate",
        reach: Reach::Everywhere,
    },
    Field {
        key: "webhook_url",
        value: "URL",
        doc: "URLs that are told what happens (messages to users without a session, users made and deleted, members that come and go), by signed POST requests. \
              Repeatable.",
        default: "[]",
        range: "http or https, without a password; at most 8",
        reach: Reach::Repeatable,
    },
    Field {
        key: "webhook_secret",
        value: "TEXT",
        doc: "What signs them (Standard Webhooks). While a secret is replaced, both stand here, with a comma between them. `webhook_secret_file` names a file \
              that holds it instead.",
        default: "",
        range: "`whsec_` and 24 to 64 bytes as base64; 1 or 2",
        reach: Reach::NoFlag,
    },
    Field {
        key: "webhook_events",
        value: "KIND",
        doc: "What is told. Repeatable.",
        default: r#"["message.offline", "user.registered", "user.deleted", "group.joined", "group.left"]"#,
        range: "some of those",
        reach: Reach::Repeatable,
    },
    Field {
        key: "webhook_networks",
        value: "NETWORK",
        doc: "Networks inside the operator's own, or of this machine, that webhook_url may lead to. Without it only addresses of the Internet are asked, whatever a name \
              resolves to. Repeatable.",
        default: "[]",
        range: "networks as 10.0.0.0/8 or single addresses",
        reach: Reach::Repeatable,
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

//! Every metric's name, kind, help and labels, in one place.
//!
//! Owns: [`ALL`], the constants it lists, and the label values of the counters that
//! [`super::Tally`] keeps by kind.
//! Never: a metric's name as a literal anywhere else (`tests/tidy.rs`). To add a metric: a field in
//! `tally`, a row here, a line in `render`; `docs/metrics.md` is compared in a test.

/// How a metric behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// Only grows; starts at zero with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Quantiles of the last one to two minutes, with a sum and a count since the start.
    Summary,
    /// Counts by buckets of time ([`super::histogram`]), with a sum and a count, since the start.
    Histogram,
}

impl MetricKind {
    /// The word in a `# TYPE` line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name; ours start with `imgate_`, those of the process have the names that every exporter
    /// uses.
    pub name: &'static str,
    /// Behaviour.
    pub kind: MetricKind,
    /// Names of its labels, in the order in which they are written.
    pub labels: &'static [&'static str],
    /// What it counts, in one sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric { name: $name, kind: MetricKind::$kind, labels: &[$($label),*], help: $help };
        )*

        /// Every metric, in the order of a scrape.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    BUILD_INFO = Gauge "imgate_build_info" ["version"] "Always 1; the version is the label.";
    CONFIG_INFO = Gauge "imgate_config_info" ["hash"] "Always 1; the hash of the settings as they were last loaded is the label, without secrets and what each gateway has for itself (`node`, `listen…`, `admin`, `data`, `shards`): gateways with the same one are set up alike.";
    READY = Gauge "imgate_ready" [] "1 when /readyz says so, 0 when it does not.";
    NOT_READY = Gauge "imgate_not_ready" ["reason"] "1 for each reason that /readyz has to say no: a shard that does not answer, the store, a stop that has begun, too little memory for newcomers.";
    SHARDS = Gauge "imgate_shards" [] "Shard threads.";

    SHARD_CONNECTIONS = Gauge "imgate_connections" ["shard"] "Sockets that a shard holds, with those whose request head is not read yet.";
    CONNECTIONS_MAX = Gauge "imgate_connections_max" [] "Connections that there may be: max_connections, or what the descriptor limit allows if that is less.";
    HEADS_PENDING = Gauge "imgate_heads_pending" [] "Connections without a complete request head.";
    ACCEPTED = Counter "imgate_accepted_total" [] "Connections accepted on the public addresses.";
    GATE_REFUSED = Counter "imgate_gate_refused_total" ["reason"] "Connections refused or lost before they were upgraded or handed to the control plane.";
    TLS_HANDSHAKES = Counter "imgate_tls_handshakes_total" ["outcome"] "TLS handshakes by how they ended: with a session of TLS 1.3 or 1.2, full or resumed by a ticket, or without one.";
    TLS_NOT_AFTER = Gauge "imgate_tls_not_after_seconds" [] "When the first of the certificates that are served ends, in seconds since 1970; absent without listen_tls.";
    TLS_REFUSED = Gauge "imgate_tls_refused_certificates" [] "Certificates whose files cannot be served as they are now; what was read before is served still. Absent without listen_tls.";
    HEAVY = Gauge "imgate_connections_heavy" ["shard"] "Connections that used up their share of a turn and wait for the next one among others of their kind.";
    INBOUND = Gauge "imgate_inbound_bytes" [] "Bytes that are kept of what clients have begun to send: parts of messages, of request heads and of TLS records, sessions that are not read now; bounded by inbound_budget.";
    INBOUND_ENDED = Counter "imgate_inbound_ended_total" ["why"] "Connections ended because of what they had begun to send: inbound_budget was exceeded and they had the most for the longest, or their message or record was not whole in time.";
    DEFLATED = Counter "imgate_compressed_messages_total" ["outcome"] "Messages compressed, each for all who get it on a shard or, made in time by another shard, there too; in vain are those that did not become a tenth shorter and are sent as they are.";
    DEFLATED_BYTES = Counter "imgate_compressed_bytes_total" ["form"] "Bytes of the messages that became shorter, as they were and as they are sent; each message once, however many get it.";
    INFLATED = Counter "imgate_inflated_messages_total" [] "Compressed messages taken from clients.";
    INFLATED_BYTES = Counter "imgate_inflated_bytes_total" ["form"] "Bytes of these messages, as they came (compressed) and as they are (plain).";
    INFLATE_REFUSED = Counter "imgate_inflate_refused_total" ["reason"] "Compressed messages that were refused, and their connections closed: damaged (1007), larger than a message may be (1009), too many times larger or smaller than what came (1009).";
    HANDED_OVER = Counter "imgate_handed_over_total" [] "Connections handed to the shard that owns their user.";
    HTTP = Counter "imgate_http_handed_over_total" [] "Plain HTTP connections handed to the control plane.";

    PROXIED = Counter "imgate_proxied_total" ["outcome"] "Plain HTTP requests, and upgrades that became sessions, by what a proxy in front has said of their client in X-Forwarded-… or Forwarded: nothing; nothing, although the peer is in trusted_proxies (silent; HTTP only); its address; something, but not its address; something that is not believed, because the peer is not in trusted_proxies, whose address may be a private one, as proxies have.";
    UNSAID = Counter "imgate_proxy_unsaid_total" ["what"] "Plain HTTP requests of the gateway's own pages that show what a proxy in front has not said: that the browser has the page by https (scheme: login cookies are not Secure), or under which host and port (host: WebSockets of some browsers are refused as those of another origin). Of peers that are in trusted_proxies or have a private address, and not where their headers are not believed.";
    PROXY_SEEN = Gauge "imgate_proxy_seen_timestamp_seconds" ["what"] "Unix time at which something was seen last that a proxy in front, or what is configured of it, may have wrong; 0: never since the start. Of imgate_proxied_total silent, no_client, untrusted and untrusted_private, of imgate_proxy_unsaid_total scheme and host, of imgate_gate_refused_total cross_origin, proxy_header, proxy_peer and preamble.";
    HTTP_CROSS_ORIGIN = Counter "imgate_http_cross_origin_total" [] "HTTP requests of pages of other origins; the login cookies that came with them did not count.";
    HTTP_REQUESTS = Counter "imgate_http_requests_total" ["routes", "status"] "Plain HTTP requests answered on the public port, by the family of their route and the class of the status.";
    HTTP_SECONDS = Histogram "imgate_http_request_seconds" ["routes"] "Time of a plain HTTP request in its handler: bodies that come slowly and answers that are not read are not in it.";
    HTTP_SEATS = Gauge "imgate_http_connections" ["state"] "Plain HTTP connections of the public port: idle ones, those whose peers are waited for, those for which work is done.";
    HTTP_BYTES = Gauge "imgate_http_bytes" [] "Bytes of memory that plain HTTP holds: connections, bodies, answers; bounded by http_budget.";
    HTTP_EVICTED = Counter "imgate_http_evicted_total" ["reason"] "Plain HTTP connections, those of the admin port included, that had to go in favour of others.";
    HTTP_REFUSED = Counter "imgate_http_refused_total" ["reason"] "Plain HTTP requests that were refused or given up before their route had an answer, or while their answer was not read.";
    PASSWORDS_WAITING = Gauge "imgate_passwords_waiting" [] "Passwords that are being hashed or wait for it.";

    SESSIONS = Gauge "imgate_sessions" [] "Open sessions.";
    SESSIONS_BY_TRANSPORT = Gauge "imgate_sessions_by_transport" ["shard", "transport"] "Open sessions of a shard by how their bytes travel: as they are, over the gateway's own TLS, and with compressed messages (permessage-deflate) or without.";
    SESSIONS_BY_PROFILE = Gauge "imgate_sessions_by_profile" ["shard", "profile"] "Open sessions of a shard by how they are spoken to: as an old page, as our protocol, as a guest of /chatroom.";
    OPENS = Histogram "imgate_open_seconds" ["shard"] "Time from the acceptance of a connection until its session is open: the TLS handshake, the request head, the token, the way to the shard of its user, the store's read; what the client takes for its part counts as well. Of our protocol the answer to the upgrade may leave up to 50 ms later, with the list of conversations. A connection that the control plane gives back (a token of another system, an upgrade behind another request) counts from then on; guests of /chatroom are in it, and what never opened is not.";
    SESSIONS_OPENED = Counter "imgate_sessions_opened_total" [] "Sessions that were opened.";
    USERS_ONLINE = Gauge "imgate_users_online" [] "Users with at least one session.";
    SESSIONS_BEHIND = Gauge "imgate_sessions_behind" [] "Sessions that are behind in at least one conversation and will catch up from the store.";
    SESSIONS_CLOSED = Counter "imgate_sessions_closed_total" ["code"] "Sessions that the server closed, by the reason.";
    SLOW_CLOSED = Counter "imgate_slow_closed_total" ["why"] "Of these, sessions closed for being slow: the budget of all outboxes was exceeded, the socket took nothing for too long, or they were behind in too many conversations.";
    REVOKED = Counter "imgate_sessions_revoked_total" ["reason"] "Of these, open sessions whose proof is none any more: their token has expired, their user has logged out everywhere or has a new password, or is banned.";
    SESSIONS_ENDED = Counter "imgate_sessions_ended_total" ["by"] "Sessions that ended without a close by the server: by the close frame of the peer, or by the loss of the connection.";

    LOGINS = Counter "imgate_logins_total" ["outcome"] "Logins by how they ended; `locked` are those refused for too many wrong passwords of the account from one network.";
    REGISTRATIONS = Counter "imgate_registrations_total" ["outcome"] "Registrations by how they ended.";
    FOLLOWED = Counter "imgate_changes_followed_total" ["outcome"] "Changes about users (bans, log-outs, memberships, blocks) read from a database that gateways share and told to the shard concerned, this gateway's own among them; and looks for them that failed.";
    GROUP_LINES_DROPPED = Counter "imgate_group_lines_dropped_total" [] "Lines in groups about what a user did there that were not written, because there had been many.";
    LOOKUPS_REFUSED = Counter "imgate_lookups_refused_total" ["by"] "Look-ups of users refused because their user looks up too many.";

    FOREIGN_TOKENS = Counter "imgate_jwt_total" ["outcome"] "Tokens that another system has signed (JWT), by what became of each use.";
    BACKEND_CALLS = Counter "imgate_backend_calls_total" ["outcome"] "Calls of backends (/api/v1/server) by how they began: admitted, or refused and why.";
    HOOK_EVENTS = Counter "imgate_webhook_events_total" ["outcome"] "Events that webhooks were to be told, by endpoint each: delivered, given up after all tries (dead), or dropped because the queue of the endpoint was full.";
    HOOK_FAILURES = Counter "imgate_webhook_failures_total" [] "Requests of webhooks that failed; most are tried again.";
    HOOK_JOURNAL_FAILURES = Counter "imgate_webhook_journal_failures_total" [] "Batches of events that wait for a webhook in memory alone, because their file could not be written: a kill would lose them.";
    HOOK_QUEUE = Gauge "imgate_webhook_queue" [] "Events that wait to be told, over all endpoints.";

    COMMANDS = Counter "imgate_commands_total" ["cmd"] "Commands taken from clients.";
    STORED = Counter "imgate_messages_stored_total" [] "Messages stored (with durability volatile: accepted); not those of /chatroom.";
    DUPLICATES = Counter "imgate_messages_duplicate_total" [] "Messages that had been stored before and got their old ack.";
    DELIVERED = Counter "imgate_messages_delivered_total" [] "Messages put on their way to a session; not those of /chatroom.";
    COMMANDS_REFUSED = Counter "imgate_commands_refused_total" ["reason"] "Commands refused; the client was told.";
    PACED = Gauge "imgate_paced" [] "Users whose connections are not read at the moment because they were over their pace; guests of /chatroom are not counted.";
    PAUSES = Counter "imgate_pauses_total" ["what"] "Times that a user or guest went over the pace and was not read for a while, by what ran out.";
    MERGED = Counter "imgate_merged_total" ["what"] "Read marks, watch lists and hints that were replaced by a later one before they were carried out.";
    HELD = Gauge "imgate_outbox_bytes" [] "Bytes of memory that shards keep alive for their readers, rests of TLS records included; bounded by outbox_budget.";
    DROPPED = Counter "imgate_messages_dropped_total" [] "Messages that the full outbox of a volatile session, or the full budget of all outboxes, dropped.";
    LANE_DROPPED = Counter "imgate_lane_dropped_total" [] "Volatile messages that a full lane between shards, or a full list of sweeps, dropped; each for all sessions of a shard.";
    ROOM_MESSAGES = Counter "imgate_room_messages_total" [] "Guests' words taken in /chatroom, which are never stored.";
    ROOM_DELIVERED = Counter "imgate_room_delivered_total" [] "Guests' words put on their way to a guest of /chatroom.";
    ROOM_DROPPED = Counter "imgate_room_dropped_total" [] "Guests' words that the full outbox of a guest, or the full budget of all outboxes, dropped.";
    ROOM_LANE_DROPPED = Counter "imgate_room_lane_dropped_total" [] "Guests' words that a full lane between shards, or a full list of sweeps, dropped; each for all guests of a shard.";
    WENT_BEHIND = Counter "imgate_went_behind_total" [] "Times that a session went behind in a conversation.";
    CAUGHT_UP = Counter "imgate_caught_up_rows_total" [] "Messages that catching up has sent.";
    CATCH_UP_READS = Counter "imgate_catch_up_reads_total" [] "Reads of the store for sessions that catch up; one serves all that lack the same.";

    CONVERSATIONS = Gauge "imgate_conversations_active" [] "Conversations that their homes keep state of.";
    LISTENED_GROUPS = Gauge "imgate_groups_listened" [] "Groups with a member online on another shard than their home; only such shards are sent their messages.";
    INTERESTS = Counter "imgate_group_interests_total" [] "Times that a shard told the home of a group that its first member is here, or that the last one has gone.";
    MARKED = Counter "imgate_deliveries_marked_total" [] "Deliveries that a full lane between shards, or a full list of sweeps, refused; a mark took their place.";
    GAP_READS = Counter "imgate_gap_reads_total" [] "Reads of rows that were revealed but not delivered.";
    FAR_ROWS = Counter "imgate_far_rows_total" [] "Messages of other gateways that were handed on here as they came over the bus.";
    FAR_DUPLICATES = Counter "imgate_far_duplicates_total" [] "Messages of other gateways that had been handed on here before.";
    FAR_DROPPED = Counter "imgate_far_dropped_total" [] "Messages of other gateways that a home had no room for; it reads them from the database, or the digest finds them.";
    DIGEST_REPAIRS = Counter "imgate_digest_repairs_total" [] "Reads of messages that only the digest has revealed: what the bus has lost. Zero while all is well.";
    UNKNOWN_OUTCOMES = Counter "imgate_unknown_outcomes_total" [] "Commits whose outcome was unknown.";
    COALESCED = Counter "imgate_coalesced_total" [] "Group messages that waited for others of their busy group, counted at every shard; `coalesce` says how long at most.";
    ACKS_WAITED = Counter "imgate_acks_waited_total" [] "Acks of direct messages that waited for others, because their author posts in a stream; `coalesce` says how long at most.";
    SWEEPS = Counter "imgate_sweeps_total" [] "Batches that went to members of a group.";

    NODES = Gauge "imgate_nodes" [] "Gateways of the cluster that live, this one included; absent without `cluster`, like all that follow until imgate_digest_holes_total.";
    BUS_UP = Gauge "imgate_bus_up" [] "1 while the bus between gateways is connected, brings what is said to this one, and refuses nothing that a gateway needs.";
    BUS_REFUSED = Counter "imgate_bus_refused_total" ["reason"] "What the bus has refused: a subject that a gateway needs and the account may not use (permission), a message above the server's max_payload (size), anything else (other).";
    BUS_RENEWED = Counter "imgate_bus_renewed_total" [] "Times that the bus was to be connected anew, because it was connected and brought nothing that this gateway said to itself.";
    BUS_MESSAGES = Counter "imgate_bus_messages_total" ["direction"] "Envelopes given to the bus, and envelopes that came.";
    BUS_BYTES = Counter "imgate_bus_bytes_total" ["direction"] "Their bytes.";
    BUS_ROWS = Counter "imgate_bus_rows_total" ["direction"] "Messages of users in them; of those that came only what concerns somebody here.";
    BUS_WORDS = Counter "imgate_bus_words_total" ["direction"] "What was typed, received, read and changed, in them; of what came only what concerns somebody here.";
    BUS_WORDS_DROPPED = Counter "imgate_bus_words_dropped_total" [] "Of these, those that were dropped because a queue was full or the bus away: nothing repairs it, and the next one says as much.";
    USERS_ELSEWHERE = Gauge "imgate_users_elsewhere" [] "Users with sessions on other gateways, once for each of these.";
    USERS_CROWDED = Counter "imgate_users_elsewhere_dropped_total" [] "Users of other gateways that are taken for offline, because there are too many.";
    BUS_SAID = Counter "imgate_bus_said_total" ["direction"] "Messages that are kept nowhere, in them: of guests of /chatroom, and of backends to sessions that are open; of those that came only what concerns somebody here.";
    BUS_SAID_DROPPED = Counter "imgate_bus_said_dropped_total" [] "Of these, those that were dropped because a queue was full or the bus away.";
    BUS_ADDRESSED = Counter "imgate_bus_addressed_total" ["to"] "Messages and words by where they went: to all gateways, to single ones (each as often as there was one), or to none, because they concern no other.";
    BUS_FILTERED = Counter "imgate_bus_filtered_total" [] "Messages, numbers and words that came and concern nobody here.";
    BUS_DROPPED = Counter "imgate_bus_dropped_total" ["reason"] "What was not said or not believed: a queue was full, the bus away, an envelope damaged, of another version, key, database or time, of a gateway with the same number, of too many, or of an unknown kind; the digest finds what was in it.";
    DIGEST_AGE = Gauge "imgate_digest_age_seconds" [] "Seconds since everything that was stored before was known here; a few as a rule.";
    DIGEST_SCANS = Counter "imgate_digest_scans_total" ["outcome"] "Times that this gateway has asked the database what was stored lately: answered, or failed.";
    DIGESTS = Counter "imgate_digests_total" [] "Digests of other gateways that came complete.";
    DIGEST_HOLES = Counter "imgate_digest_holes_total" [] "Times that this gateway had to ask the database because a digest was missing.";

    POSTS = Histogram "imgate_post_seconds" ["shard"] "Time of a message from its acceptance by its home until the shard of its author has the ack, the store's commit included; to the millisecond.";
    DELIVERIES = Histogram "imgate_delivery_seconds" ["shard"] "Time of a message from the turn in which the shard of its author read it until the end of the turn in which the last session of this shard was given it: written to its socket, or queued, behind what that has not taken or for the writes of the next turns. Once for each message and each shard where a session was given it (of messages of a group that are handed on together: any of them), the store's commit, the lanes, the wait of a busy group (`coalesce`) and words of /chatroom included. Not what sessions are behind with and catch up from the store, nor messages of other gateways.";
    FANOUTS = Histogram "imgate_fanout_seconds" ["shard"] "As imgate_delivery_seconds, from the turn in which the home of the conversation knew that the message is stored (where nothing is stored: took it); messages of other gateways are in it, too, from when the bus brought them here.";
    SHARD_INBOX = Gauge "imgate_shard_inbox" ["shard"] "Deliveries that wait in the lanes to a shard.";
    MAIL = Counter "imgate_shard_mail_total" [] "Messages that shards took from other threads.";
    WAKES = Counter "imgate_shard_wakes_total" [] "Wake-ups that shards sent each other.";
    HOPS = Summary "imgate_hop_seconds" ["shard"] "Time of a message of one shard on its way to another: from the end of the turn in which it was said until the other takes it.";
    TURNS = Summary "imgate_turn_seconds" ["shard"] "Time of one turn of a shard's loop, without its sleep and the wake-ups at its end.";
    TURN_MAX = Gauge "imgate_turn_max_seconds" ["shard"] "The longest turn of the last one to two minutes.";
    TURNING = Gauge "imgate_shard_turning_seconds" ["shard"] "How long a shard has been in its turn, or has not answered, whichever is longer; near 0 for one that is well. One that is stuck shows here while it is.";
    SHARD_ASLEEP = Counter "imgate_shard_asleep_seconds_total" ["shard"] "Time that a shard has slept because there was nothing to do; 1 minus its rate is how busy the shard is.";
    SHARD_EVENTS = Counter "imgate_shard_events_total" ["shard"] "Sockets that the kernel has reported to a shard as readable or writable.";
    BYTES_IN = Counter "imgate_received_bytes_total" [] "Bytes read from clients by shards.";
    BYTES_OUT = Counter "imgate_sent_bytes_total" [] "Bytes written to clients by shards.";
    FRAMES = Counter "imgate_frames_total" [] "WebSocket frames taken from clients: messages, fragments, control frames. By the count of imgate_turn_seconds, the mean of a turn.";
    CACHES_SHED = Counter "imgate_caches_shed_total" [] "Times that a shard forgot what can be read again, because the process took nearly memory_max.";
    WORK = Counter "imgate_work_units_total" [] "Units of work that commands and frames of sessions have cost, by the prices of a pace: a unit is about half a microsecond of a shard.";
    SENDS = Counter "imgate_sends_total" [] "Send system calls of shards.";
    PARSE_PANICS = Counter "imgate_parse_panics_total" [] "Panics caught in parsing; the connection was closed. Always a bug of ours.";

    STORE_PENDING = Gauge "imgate_store_pending" [] "Requests of shards that the store has not answered.";
    STORE_ANSWERS = Histogram "imgate_store_answer_seconds" ["shard"] "Time from a shard's request to the store until the turn in which the shard takes the answer.";
    STORE_UP = Gauge "imgate_store_up" [] "1 when the last commit or probe succeeded, 0 when it failed.";
    STORE_FAILING = Gauge "imgate_store_failing" ["why"] "1 for what is wrong with a store whose commits fail: away (nothing answers in time), full (its disk), read_only, denied (rights, or no such database), damaged, other (the log has its words).";
    STORE_QUEUED = Gauge "imgate_store_queued" ["queue"] "Requests in the queues of the store's threads.";
    STORE_LANE_QUEUED = Gauge "imgate_store_lane_queued" ["lane"] "Reads that wait for a reading thread of the store.";
    STORE_LATE = Counter "imgate_store_late_total" ["lane"] "Reads that waited too long and were refused instead of begun.";
    STORE_WAITING = Gauge "imgate_store_users_waiting" [] "Users and conversations for which something waits its turn in the store, when a thread last looked.";
    STORE_COMMITS = Counter "imgate_store_commits_total" [] "Transactions committed by the store's writers.";
    STORE_ROWS = Counter "imgate_store_committed_writes_total" [] "Writes in these transactions; by the commits, the mean batch.";
    STORE_TRANSACTIONS = Histogram "imgate_store_transaction_seconds" [] "Time of one of these transactions, its sync to the disk included.";
    STORE_SECONDS = Counter "imgate_store_commit_seconds_total" [] "Time spent in these transactions.";
    STORE_USER_READS = Counter "imgate_store_user_reads_total" [] "Reads about one user as a whole: her account and groups, or a page of her conversations.";
    STORE_USER_QUERIES = Counter "imgate_store_user_queries_total" [] "Statements that answered these reads: of a batch of any size as many as of one. SQLite runs them for each user, and counts them once.";
    STORE_TRIMMED = Counter "imgate_store_trimmed_messages_total" [] "Messages that retention removed.";
    STORE_TRIMMED_KEYS = Counter "imgate_store_trimmed_keys_total" [] "Dedupe keys that retention removed.";
    STORE_UPKEEP_ERRORS = Counter "imgate_store_upkeep_errors_total" [] "Checkpoints and steps of retention that failed; the next round tries again.";
    STORE_ERRORS = Counter "imgate_store_errors_total" [] "Transactions and reads that failed; transient ones were tried again.";
    STORE_CLOCK_OFFSET = Gauge "imgate_store_clock_offset_seconds" [] "By how much the system's clock is ahead of the database server's; negative: behind. What the question takes is neither's. Absent without a server, and while it does not answer.";

    LOG_LINES_LOST = Counter "imgate_log_lines_lost_total" [] "Lines of the log that were lost: whatever reads stderr is slower than they come, or has gone, or its disk is full.";
    TRAIL_LEFT_OUT = Counter "imgate_trail_left_out_total" ["trail"] "Lines of the audit and the access trail that were left out: they came faster than is taken, or could not be written.";
    UPLOADS = Gauge "imgate_uploads" [] "Uploads whose bodies are coming in.";
    UPLOADS_REFUSED = Counter "imgate_uploads_refused_total" ["reason"] "Uploads that were refused, by reason: as /api/v1 says it, or store, disk and object_store, which fail.";
    UPLOADS_DISPLACED = Counter "imgate_uploads_displaced_total" [] "Uploads that gave their place to a newcomer when all were taken.";
    FILES_KEPT = Counter "imgate_files_kept_total" [] "Uploads that were kept.";
    FILES_KEPT_BYTES = Counter "imgate_files_kept_bytes_total" [] "What they weigh, small pictures included; the same content counts each time.";
    FILES_BLANKED = Counter "imgate_files_blanked_total" [] "Films, sounds and HEIF pictures from which the place was taken where they were made.";
    FILES_REMOVED = Counter "imgate_files_removed_total" [] "Files that were removed because nothing referred to them any more.";
    FILES_REMOVED_BYTES = Counter "imgate_files_removed_bytes_total" [] "What they weighed.";
    PICTURES = Counter "imgate_pictures_total" [] "Pictures that were made anew, or found to be none.";
    PICTURE_SECONDS = Counter "imgate_picture_seconds_total" [] "Time spent on them, on a thread of low priority.";
    PICTURES_WAITING = Gauge "imgate_pictures_waiting" [] "Pictures that wait for their turn.";

    OBJECT_STORE_UP = Gauge "imgate_object_store_up" [] "1 when the last request to the object store of the setting `files` did not fail, 0 when it did; absent without one, like all that follow until imgate_object_store_bytes_total.";
    OBJECT_STORE_REQUESTS = Counter "imgate_object_store_requests_total" ["operation", "outcome"] "Requests to the object store by what they ask for and what became of them, tries included: done, no such file, refused (the settings are wrong), failed, late, unreachable; or not made, because it had just failed (away) or too many were under way (busy).";
    OBJECT_STORE_SECONDS = Histogram "imgate_object_store_seconds" ["operation"] "Time of such a request, its wait for others and its tries included.";
    OBJECT_STORE_BYTES = Counter "imgate_object_store_bytes_total" ["direction"] "Bytes of files that the object store was sent, and that came from it.";

    PROCESS_CPU = Counter "process_cpu_seconds_total" [] "User and system CPU time of the process.";
    THREAD_CPU = Counter "imgate_thread_cpu_seconds_total" ["thread"] "User and system CPU time of threads by what they do: each shard, the store, the control plane, the admin port, passwords, others.";
    PROCESS_RSS = Gauge "process_resident_memory_bytes" [] "Resident memory of the process.";
    MEMORY_MAX = Gauge "imgate_memory_max_bytes" [] "Resident memory that the process may take: memory_max.";
    OUTBOX_BUDGET = Gauge "imgate_outbox_budget_bytes" [] "What imgate_outbox_bytes may be: outbox_budget.";
    INBOUND_BUDGET = Gauge "imgate_inbound_budget_bytes" [] "What imgate_inbound_bytes may be: inbound_budget.";
    HTTP_BUDGET = Gauge "imgate_http_budget_bytes" [] "What imgate_http_bytes may be: http_budget.";
    PROCESS_FDS = Gauge "process_open_fds" [] "Open descriptors of the process.";
    PROCESS_FDS_MAX = Gauge "process_max_fds" [] "Descriptors that the process may open.";
    PROCESS_THREADS = Gauge "process_threads" [] "Threads of the process.";
    PROCESS_START = Gauge "process_start_time_seconds" [] "Unix time at which the process started.";
    UNCLEAN_ENDS = Counter "imgate_unclean_ends_total" [] "How often a gateway with this data directory and node number has ended without being stopped: killed, aborted, or with its machine. Kept over restarts.";
    CLOCK_MOVED = Gauge "imgate_clock_moved_seconds" [] "By how much the system's clock was set since the start of the process, forwards or backwards: a jump is a clock that was stepped.";
    CLOCK_SET_AGE = Gauge "imgate_clock_set_age_seconds" [] "How long ago the system's clock was set the last time, by 2 s or more, as far as the process has seen it; absent while it never was.";
    DATA_FREE = Gauge "imgate_data_free_bytes" [] "Room on the disk of the data directory; absent without one, before the first look at the disk, and while the disk does not answer.";
    DATA_SIZE = Gauge "imgate_data_size_bytes" [] "The size of that disk.";
}

/// What a user may run out of, in the order of [`super::Tally::pauses`].
pub const PACE_LABELS: [&str; 3] = ["cost", "messages", "bytes"];

/// Labels of sessions that the server did not close: [`super::Tally::ended_by_peer`],
/// [`super::Tally::ended_by_loss`].
pub const ENDED: [&str; 2] = ["peer", "loss"];

/// What became of messages that were to be compressed.
pub const DEFLATED_LABELS: [&str; 2] = ["shorter", "vain"];
/// The two forms of a message that is compressed.
pub const COMPRESSION_LABELS: [&str; 2] = ["plain", "compressed"];

/// Labels of plain HTTP connections, in the order of [`super::http::HttpCounts::taken`].
pub const SEAT_LABELS: [&str; 3] = ["idle", "waiting", "working"];

/// Labels of sessions by profile, in the order of [`super::Tally::profiles`].
pub const PROFILE_LABELS: [&str; 3] = ["legacy", "v2", "room"];

/// Labels of sessions by transport; see [`transport`].
pub const TRANSPORT_LABELS: [&str; 4] = ["plain", "tls", "plain_deflate", "tls_deflate"];

/// The place of a session among [`TRANSPORT_LABELS`].
#[must_use]
pub const fn transport(tls: bool, deflate: bool) -> usize {
    tls as usize + 2 * deflate as usize
}

/// Reasons not to be ready, in the order of [`super::render::Readiness`].
pub const NOT_READY_LABELS: [&str; 4] = ["shard", "store", "stopping", "memory"];

/// The trails.
pub const TRAIL_LABELS: [&str; 2] = ["audit", "access"];

/// Families of HTTP routes, in the order of [`super::http::Routes`].
pub const ROUTES_LABELS: [&str; 6] = ["v1", "server", "legacy", "files", "web", "other"];
/// Classes of HTTP statuses.
pub const STATUS_LABELS: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Labels of the store's queues.
/// Values of `why` of [`STORE_FAILING`], in the order of `store::StoreCause`.
pub const STORE_FAILING_LABELS: [&str; 6] = ["away", "full", "read_only", "denied", "damaged", "other"];
/// Values of `reason` of [`UPLOADS_REFUSED`].
pub const UPLOADS_REFUSED_LABELS: [&str; 17] = [
    "off",
    "empty",
    "too_large",
    "cut_off",
    "other_content",
    "not_logged_in",
    "bad_picture",
    "too_many_pixels",
    "place_track",
    "bad_film",
    "disk_full",
    "busy",
    "too_often",
    "over_quota",
    "store",
    "disk",
    "object_store",
];
/// Values of `queue`, as far as the store has them.
pub const QUEUE_LABELS: [&str; 2] = ["writes", "reads"];
/// Labels of the lanes of its reads, in the order of `store::worker::Lane::ALL`, which a test there
/// compares.
pub const LANE_LABELS: [&str; 4] = ["open", "login", "light", "heavy"];

/// Labels of refused commands, in the order of `wire::Reject::ALL`, which a test there compares.
pub const REFUSED: [&str; 15] = [
    "malformed",
    "unknown_command",
    "bad_field",
    "bad_media",
    "not_member",
    "no_such_group",
    "no_such_user",
    "blocked",
    "cid_reused",
    "too_late",
    "not_yours",
    "no_such_message",
    "busy",
    "retry",
    "stopping",
];

/// Labels of closes by the server, in the order of `wire::CloseCode::ALL`, which a test there
/// compares.
pub const CLOSED: [&str; 15] = [
    "normal",
    "protocol",
    "unsupported",
    "invalid_utf8",
    "incomplete",
    "too_big",
    "internal",
    "shutdown",
    "slow",
    "unavailable",
    "idle",
    "too_fast",
    "bad_token",
    "replaced",
    "banned",
];

/// Labels of what the bus takes and brings.
pub const BUS_DIRECTIONS: [&str; 2] = ["out", "in"];

/// Labels of what the bus refuses.
pub const BUS_REFUSED_LABELS: [&str; 3] = ["permission", "size", "other"];

/// Labels of where something went.
pub const BUS_ADDRESSED_LABELS: [&str; 3] = ["all", "node", "none"];

/// Labels of what was dropped between gateways.
pub const BUS_DROPPED_LABELS: [&str; 13] = [
    "shards_full",
    "bus_away",
    "bus_full",
    "slow",
    "damaged",
    "version",
    "key",
    "foreign",
    "stale",
    "twin",
    "crowded",
    "unknown",
    "shard_busy",
];

/// Labels of the bytes of files that an object store takes and gives.
pub const OBJECT_DIRECTIONS: [&str; 2] = ["out", "in"];

/// Labels of scans of the database.
pub const SCAN_LABELS: [&str; 2] = ["answered", "failed"];

/// The page `docs/metrics.md`: `imgate docs metrics` prints it, and a test compares.
#[must_use]
pub fn page() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in ALL {
        let labels = if metric.labels.is_empty() { "–".to_owned() } else { metric.labels.join(", ") };
        out.push_str(&format!("| `{}` | {} | {labels} | {} |\n", metric.name, metric.kind.word(), metric.help));
    }
    out.push_str(CLOSING);
    out
}

/// What stands before and behind the table.
const INTRODUCTION: &str = include_str!("introduction.txt");
const CLOSING: &str = include_str!("closing.txt");

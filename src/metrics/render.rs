//! What a scrape of `/metrics` gets: the Prometheus text format, version 0.0.4, or OpenMetrics,
//! version 1.0.0, for whoever asks for it.
//!
//! Owns: [`render`], and the plain numbers that other rooms hand in ([`StoreNumbers`]), because
//! `metrics` may import none of them.
//! Never: invents a name; all come from `names`.

use std::fmt::{Display, Write};

use super::accounts::{AccountCounts, Followed, Foreign, Login, Lookup, Registered};
use super::backends::{Called, Hooked};
use super::board::ShardReport;
use super::cluster::ClusterNumbers;
use super::commands::CommandKind;
use super::histogram::{BUCKETS, Histogram, bound_seconds};
use super::http::{Evicted, HttpCounts, Refused};
use super::names::{self, Metric, MetricKind};
use super::objects::{ObjectCounts, ObjectOperation, ObjectOutcome};
use super::process::ProcessNumbers;
use super::proxies::{Heard, Sighting, Unsaid};
use super::spans::{QUANTILES, SpanSummary};
use super::surroundings::{BudgetNumbers, SurroundingNumbers};
use super::tally::{
    DriverTally, GateRefusal, HandshakeEnd, InboundEnd, InflateRefusal, Merged, Revocation, Slowness, Tally,
};

/// How a scrape is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// Prometheus's own, which everything reads.
    #[default]
    Text,
    /// OpenMetrics: families of counters have no `_total`, and the end is marked.
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for: OpenMetrics, where nothing else is taken. Prometheus takes
    /// both, and gets what promtool and every older tool read; without exemplars the other form
    /// tells it nothing more.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let takes = |kind: &str| accept.split(',').any(|part| part.trim_start().starts_with(kind));
        match takes("application/openmetrics-text") && !takes("text/") && !takes("*/*") {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    /// The value of the `Content-Type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What stands between the gateway and a 200 of `/readyz`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Readiness {
    /// A shard does not answer.
    pub shard: bool,
    /// The store cannot write or read.
    pub store: bool,
    /// A stop has begun.
    pub stopping: bool,
    /// Newcomers are refused for want of memory.
    pub memory: bool,
}

impl Readiness {
    const fn reasons(self) -> [bool; names::NOT_READY_LABELS.len()] {
        [self.shard, self.store, self.stopping, self.memory]
    }
}

/// What the store says about itself.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct StoreNumbers {
    /// The last commit or probe succeeded.
    pub up: bool,
    /// What is wrong where commits fail: a place in [`names::STORE_FAILING_LABELS`].
    pub failing: Option<usize>,
    /// Writes in the queues.
    pub writes_queued: u64,
    /// Reads that wait, by lane.
    pub reads_queued: [u64; names::LANE_LABELS.len()],
    /// Reads that waited too long, by lane.
    pub reads_late: [u64; names::LANE_LABELS.len()],
    /// Users for which something waits its turn.
    pub users_waiting: u64,
    /// Transactions since the start.
    pub commits: u64,
    /// Writes in them.
    pub committed_writes: u64,
    /// Nanoseconds spent in them.
    pub commit_ns: u64,
    /// How long each took.
    pub transactions: Histogram,
    /// Reads about one user as a whole.
    pub user_reads: u64,
    /// Statements for them.
    pub user_queries: u64,
    /// Messages that retention removed.
    pub trimmed_messages: u64,
    /// Post keys that retention removed.
    pub trimmed_keys: u64,
    /// Failed checkpoints and steps of retention.
    pub upkeep_errors: u64,
    /// Failed transactions and reads.
    pub errors: u64,
    /// Milliseconds by which the system's clock is ahead of the database's.
    pub clock_offset_ms: Option<i64>,
}

/// What the files say about themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileNumbers {
    /// Uploads under way.
    pub places: u64,
    /// Pictures that wait to be made anew.
    pub waiting: u64,
    /// Uploads that were kept since the start.
    pub kept: u64,
    /// What they weigh.
    pub kept_bytes: u64,
    /// Uploads that were refused, in the order of [`names::UPLOADS_REFUSED_LABELS`].
    pub refused: [u64; names::UPLOADS_REFUSED_LABELS.len()],
    /// Uploads that gave way to a newcomer.
    pub displaced: u64,
    /// Pictures that were made anew, or found to be none.
    pub painted: u64,
    /// Nanoseconds spent on them.
    pub paint_ns: u64,
    /// Films and sounds that lost the place where they were taken.
    pub blanked: u64,
    /// Files that were removed because nothing referred to them.
    pub removed: u64,
    /// What they weighed.
    pub removed_bytes: u64,
}

/// Everything that one scrape shows.
#[derive(Clone, Copy, Debug)]
pub struct Scrape<'a> {
    /// How it is written.
    pub format: Format,
    /// The version of the binary.
    pub version: &'a str,
    /// The hash of the settings.
    pub config: &'a str,
    /// Why it is not ready.
    pub unready: Readiness,
    /// CPU seconds of the threads by what they do.
    pub threads: &'a [(String, f64)],
    /// Reports in order of the shards.
    pub shards: &'a [ShardReport],
    /// What becomes of plain HTTP.
    pub http: &'a HttpCounts,
    /// What became of logins, registrations and look-ups.
    pub accounts: &'a AccountCounts,
    /// `None` in volatile mode.
    pub store: Option<StoreNumbers>,
    /// What is said between gateways; `None` without a cluster.
    pub cluster: Option<&'a ClusterNumbers>,
    /// Lines of the log that were lost.
    pub lost_log_lines: u64,
    /// Lines that the audit and the access trail have left out.
    pub trail_left_out: [u64; 2],
    /// The files.
    pub files: FileNumbers,
    /// What is asked of an object store; `None`: files lie in a folder.
    pub objects: Option<&'a ObjectCounts>,
    /// What is around the gateway.
    pub surroundings: SurroundingNumbers,
    /// Bytes that parts of the process may hold.
    pub budgets: BudgetNumbers,
    /// The process.
    pub process: ProcessNumbers,
}

/// The text of a scrape.
#[must_use]
pub fn render(scrape: &Scrape<'_>) -> String {
    let mut page = Page { out: String::with_capacity(32 * 1024), format: scrape.format };
    page.one_of(names::BUILD_INFO, &[scrape.version], 1);
    page.one_of(names::CONFIG_INFO, &[scrape.config], 1);
    let reasons = scrape.unready.reasons();
    page.one(names::READY, u8::from(!reasons.contains(&true)));
    page.by_label(names::NOT_READY, names::NOT_READY_LABELS, |index| reasons.get(index).copied().map_or(0, u64::from));
    page.one(names::SHARDS, scrape.shards.len());
    connections(&mut page, scrape.shards, &scrape.surroundings);
    proxies(&mut page, scrape);
    page.one(names::HTTP_CROSS_ORIGIN, scrape.accounts.cross_origins());
    http(&mut page, scrape.http);
    sessions(&mut page, scrape.shards);
    accounts(&mut page, scrape.accounts);
    messages(&mut page, scrape.shards);
    if let Some(numbers) = scrape.cluster {
        cluster(&mut page, numbers);
    }
    loops(&mut page, scrape.shards);
    page.one(names::STORE_PENDING, sum(scrape.shards, |tally| tally.store_pending));
    page.histograms(names::STORE_ANSWERS, scrape.shards, |report| &report.driver.answers);
    if let Some(store) = &scrape.store {
        store_numbers(&mut page, store);
    }
    page.one(names::LOG_LINES_LOST, scrape.lost_log_lines);
    page.by_label(names::TRAIL_LEFT_OUT, names::TRAIL_LABELS, |index| {
        scrape.trail_left_out.get(index).copied().unwrap_or(0)
    });
    file_numbers(&mut page, &scrape.files);
    if let Some(objects) = scrape.objects {
        object_store(&mut page, objects);
    }
    process(&mut page, &scrape.process, scrape.budgets, scrape.threads);
    surroundings(&mut page, &scrape.surroundings);
    page.end()
}

fn cluster(page: &mut Page, numbers: &ClusterNumbers) {
    let counts = &numbers.counts;
    page.one(names::NODES, numbers.nodes);
    page.one(names::BUS_UP, u8::from(numbers.up));
    page.by_label(names::BUS_REFUSED, names::BUS_REFUSED_LABELS, |index| {
        numbers.bus_refused.get(index).copied().unwrap_or_default()
    });
    page.one(names::BUS_RENEWED, numbers.renewed);
    let both = |pair: [u64; 2]| move |index: usize| pair.get(index).copied().unwrap_or_default();
    page.by_label(names::BUS_MESSAGES, names::BUS_DIRECTIONS, both([numbers.envelopes_out, numbers.envelopes_in]));
    page.by_label(names::BUS_BYTES, names::BUS_DIRECTIONS, both([numbers.bytes_out, numbers.bytes_in]));
    page.by_label(names::BUS_ROWS, names::BUS_DIRECTIONS, both([counts.rows_out, counts.rows_in]));
    page.by_label(names::BUS_WORDS, names::BUS_DIRECTIONS, both([counts.words_out, counts.words_in]));
    page.one(names::BUS_WORDS_DROPPED, counts.words_dropped + numbers.words_full);
    page.one(names::USERS_ELSEWHERE, counts.elsewhere);
    page.one(names::USERS_CROWDED, counts.users_crowded);
    page.by_label(names::BUS_SAID, names::BUS_DIRECTIONS, both([counts.said_out, counts.said_in]));
    page.one(names::BUS_SAID_DROPPED, counts.said_dropped + numbers.said_full);
    let addressed = [counts.to_all, counts.to_nodes, counts.to_none];
    page.by_label(names::BUS_ADDRESSED, names::BUS_ADDRESSED_LABELS, |index| {
        addressed.get(index).copied().unwrap_or_default()
    });
    page.one(names::BUS_FILTERED, counts.filtered);
    // In the order of their labels.
    let dropped: [u64; names::BUS_DROPPED_LABELS.len()] = [
        numbers.shards_dropped,
        counts.unsaid,
        numbers.bus_full,
        numbers.slow,
        numbers.damaged,
        numbers.version,
        numbers.tag,
        counts.foreign,
        counts.stale,
        counts.twins,
        counts.crowded,
        counts.unknown,
        counts.refused,
    ];
    page.by_label(names::BUS_DROPPED, names::BUS_DROPPED_LABELS, |index| {
        dropped.get(index).copied().unwrap_or_default()
    });
    page.one(names::DIGEST_AGE, numbers.age_ms as f64 / 1e3);
    page.by_label(names::DIGEST_SCANS, names::SCAN_LABELS, both([counts.scans, counts.scans_failed]));
    page.one(names::DIGESTS, counts.digests);
    page.one(names::DIGEST_HOLES, counts.holes);
}

fn connections(page: &mut Page, shards: &[ShardReport], around: &SurroundingNumbers) {
    page.per_shard(names::SHARD_CONNECTIONS, shards, |report| report.driver.connections);
    page.one(names::CONNECTIONS_MAX, around.connections_max);
    page.one(names::HEADS_PENDING, sum_driver(shards, |driver| driver.heads_pending));
    page.one(names::ACCEPTED, sum_driver(shards, |driver| driver.accepted));
    page.by_label(names::GATE_REFUSED, GateRefusal::ALL.map(GateRefusal::label), |index| {
        sum_driver(shards, |driver| driver.gate_refused.get(index).copied().unwrap_or_default())
    });
    page.by_label(names::TLS_HANDSHAKES, HandshakeEnd::ALL.map(HandshakeEnd::label), |index| {
        sum_driver(shards, |driver| driver.handshakes.get(index).copied().unwrap_or_default())
    });
    if let Some(certificates) = around.certificates {
        page.one(names::TLS_NOT_AFTER, certificates.not_after_s);
        page.one(names::TLS_REFUSED, certificates.refused);
    }
    page.per_shard(names::HEAVY, shards, |report| report.driver.heavy);
    page.one(names::INBOUND, sum_driver(shards, |driver| driver.inbound));
    page.by_label(names::INBOUND_ENDED, InboundEnd::ALL.map(InboundEnd::label), |index| {
        sum_driver(shards, |driver| driver.inbound_ended.get(index).copied().unwrap_or_default())
    });
    compression(page, shards);
    page.one(names::HANDED_OVER, sum_driver(shards, |driver| driver.handed_over));
    page.one(names::HTTP, sum_driver(shards, |driver| driver.http));
}

fn compression(page: &mut Page, shards: &[ShardReport]) {
    page.by_label(names::DEFLATED, names::DEFLATED_LABELS, |index| {
        sum(shards, |tally| if index == 0 { tally.deflated } else { tally.deflated_vain })
    });
    page.by_label(names::DEFLATED_BYTES, names::COMPRESSION_LABELS, |index| {
        sum(shards, |tally| tally.deflated_bytes.get(index).copied().unwrap_or_default())
    });
    page.one(names::INFLATED, sum_driver(shards, |driver| driver.inflated));
    page.by_label(names::INFLATED_BYTES, names::COMPRESSION_LABELS, |index| {
        sum_driver(shards, |driver| driver.inflated_bytes.get(index).copied().unwrap_or_default())
    });
    page.by_label(names::INFLATE_REFUSED, InflateRefusal::ALL.map(InflateRefusal::label), |index| {
        sum_driver(shards, |driver| driver.inflate_refused.get(index).copied().unwrap_or_default())
    });
}

fn http(page: &mut Page, counts: &HttpCounts) {
    let at = |counts: &[u64], index: usize| counts.get(index).copied().unwrap_or_default();
    let (requests, times) = (counts.requests(), counts.seconds());
    page.head(names::HTTP_REQUESTS);
    for (routes, by_status) in names::ROUTES_LABELS.iter().zip(requests) {
        for (status, count) in names::STATUS_LABELS.iter().zip(by_status) {
            page.sample(names::HTTP_REQUESTS.name, "", &[("routes", routes), ("status", status)], count);
        }
    }
    page.head(names::HTTP_SECONDS);
    for (routes, times) in names::ROUTES_LABELS.iter().zip(&times) {
        page.histogram(names::HTTP_SECONDS, &[("routes", routes)], times);
    }
    page.by_label(names::HTTP_SEATS, names::SEAT_LABELS, |index| at(&counts.taken(), index));
    page.one(names::HTTP_BYTES, counts.bytes());
    page.by_label(names::HTTP_EVICTED, Evicted::LABELS, |index| at(&counts.evictions(), index));
    page.by_label(names::HTTP_REFUSED, Refused::LABELS, |index| at(&counts.refusals(), index));
    page.one(names::PASSWORDS_WAITING, counts.passwords_waiting());
}

fn sessions(page: &mut Page, shards: &[ShardReport]) {
    page.one(names::SESSIONS, sum(shards, |tally| tally.sessions));
    page.head(names::SESSIONS_BY_TRANSPORT);
    for (shard, report) in shards.iter().enumerate() {
        for (transport, count) in names::TRANSPORT_LABELS.iter().zip(report.driver.transports) {
            page.sample(names::SESSIONS_BY_TRANSPORT.name, "", &[("shard", &shard), ("transport", transport)], count);
        }
    }
    page.head(names::SESSIONS_BY_PROFILE);
    for (shard, report) in shards.iter().enumerate() {
        for (profile, count) in names::PROFILE_LABELS.iter().zip(report.tally.profiles) {
            page.sample(names::SESSIONS_BY_PROFILE.name, "", &[("shard", &shard), ("profile", profile)], count);
        }
    }
    page.histograms(names::OPENS, shards, |report| &report.driver.opens);
    page.one(names::SESSIONS_OPENED, sum(shards, |tally| tally.opened));
    page.one(names::USERS_ONLINE, sum(shards, |tally| tally.users_online));
    page.one(names::SESSIONS_BEHIND, sum(shards, |tally| tally.sessions_behind));
    page.by_label(names::SESSIONS_CLOSED, names::CLOSED, |index| {
        sum(shards, |tally| tally.closed.get(index).copied().unwrap_or_default())
    });
    page.by_label(names::SLOW_CLOSED, Slowness::ALL.map(Slowness::label), |index| {
        sum(shards, |tally| tally.slow.get(index).copied().unwrap_or_default())
    });
    page.by_label(names::REVOKED, Revocation::ALL.map(Revocation::label), |index| {
        sum(shards, |tally| tally.revoked.get(index).copied().unwrap_or_default())
    });
    page.by_label(names::SESSIONS_ENDED, names::ENDED, |index| {
        sum(shards, |tally| if index == 0 { tally.ended_by_peer } else { tally.ended_by_loss })
    });
}

fn proxies(page: &mut Page, scrape: &Scrape<'_>) {
    let at = |counts: &[u64], index: usize| counts.get(index).copied().unwrap_or_default();
    let counts = scrape.accounts.proxies();
    page.by_label(names::PROXIED, Heard::LABELS, |index| {
        at(&counts.heard(), index) + sum_driver(scrape.shards, |driver| at(&driver.proxied, index))
    });
    page.by_label(names::UNSAID, Unsaid::LABELS, |index| at(&counts.unsaid(), index));
    page.by_label(names::PROXY_SEEN, Sighting::LABELS, |index| {
        let of_shards = scrape.shards.iter().map(|report| at(&report.driver.proxy_seen_s, index));
        of_shards.fold(at(&counts.seen_s(), index), u64::max)
    });
}

fn accounts(page: &mut Page, counts: &AccountCounts) {
    let at = |counts: &[u64], index: usize| counts.get(index).copied().unwrap_or_default();
    page.by_label(names::LOGINS, Login::LABELS, |index| at(&counts.logins(), index));
    page.by_label(names::REGISTRATIONS, Registered::LABELS, |index| at(&counts.registrations(), index));
    page.by_label(names::FOLLOWED, Followed::LABELS, |index| at(&counts.followed(), index));
    page.one(names::GROUP_LINES_DROPPED, counts.group_lines_dropped());
    page.by_label(names::LOOKUPS_REFUSED, Lookup::LABELS, |index| at(&counts.refused(), index));
    page.by_label(names::FOREIGN_TOKENS, Foreign::LABELS, |index| at(&counts.foreign_tokens(), index));
    let backends = counts.backends();
    page.by_label(names::BACKEND_CALLS, Called::LABELS, |index| at(&backends.calls(), index));
    page.by_label(names::HOOK_EVENTS, Hooked::LABELS, |index| at(&backends.hooks(), index));
    page.one(names::HOOK_FAILURES, backends.hook_failures());
    page.one(names::HOOK_JOURNAL_FAILURES, backends.hook_journal_failures());
    page.one(names::HOOK_QUEUE, backends.hook_queue());
}

fn messages(page: &mut Page, shards: &[ShardReport]) {
    page.by_label(names::COMMANDS, CommandKind::LABELS, |index| {
        sum(shards, |tally| tally.commands.get(index).copied().unwrap_or_default())
    });
    page.one(names::STORED, sum(shards, |tally| tally.stored));
    page.one(names::DUPLICATES, sum(shards, |tally| tally.duplicates));
    page.one(names::DELIVERED, sum(shards, |tally| tally.delivered));
    page.by_label(names::COMMANDS_REFUSED, names::REFUSED, |index| {
        sum(shards, |tally| tally.refused.get(index).copied().unwrap_or_default())
    });
    page.one(names::PACED, sum(shards, |tally| tally.paced));
    page.by_label(names::PAUSES, names::PACE_LABELS, |index| {
        sum(shards, |tally| tally.pauses.get(index).copied().unwrap_or_default())
    });
    page.by_label(names::MERGED, Merged::ALL.map(Merged::label), |index| {
        sum(shards, |tally| tally.merged.get(index).copied().unwrap_or_default())
    });
    page.one(names::HELD, sum(shards, |tally| tally.held) + sum_driver(shards, |driver| driver.unsent));
    page.one(names::DROPPED, sum(shards, |tally| tally.dropped));
    page.one(names::LANE_DROPPED, sum(shards, |tally| tally.lane_dropped));
    page.one(names::ROOM_MESSAGES, sum(shards, |tally| tally.room_messages));
    page.one(names::ROOM_DELIVERED, sum(shards, |tally| tally.room_delivered));
    page.one(names::ROOM_DROPPED, sum(shards, |tally| tally.room_dropped));
    page.one(names::ROOM_LANE_DROPPED, sum(shards, |tally| tally.room_lane_dropped));
    page.one(names::WENT_BEHIND, sum(shards, |tally| tally.went_behind));
    page.one(names::CAUGHT_UP, sum(shards, |tally| tally.caught_up));
    page.one(names::CATCH_UP_READS, sum(shards, |tally| tally.catch_up_reads));
    page.one(names::CONVERSATIONS, sum(shards, |tally| tally.conversations));
    page.one(names::LISTENED_GROUPS, sum(shards, |tally| tally.listened_groups));
    page.one(names::INTERESTS, sum(shards, |tally| tally.interests));
    page.one(names::MARKED, sum(shards, |tally| tally.marked));
    page.one(names::GAP_READS, sum(shards, |tally| tally.gap_reads));
    page.one(names::FAR_ROWS, sum(shards, |tally| tally.far_rows));
    page.one(names::FAR_DUPLICATES, sum(shards, |tally| tally.far_duplicates));
    page.one(names::FAR_DROPPED, sum(shards, |tally| tally.far_dropped));
    page.one(names::DIGEST_REPAIRS, sum(shards, |tally| tally.digest_repairs));
    page.one(names::UNKNOWN_OUTCOMES, sum(shards, |tally| tally.unknown_outcomes));
    page.one(names::COALESCED, sum(shards, |tally| tally.coalesced));
    page.one(names::ACKS_WAITED, sum(shards, |tally| tally.acks_waited));
    page.one(names::SWEEPS, sum(shards, |tally| tally.sweeps));
}

fn loops(page: &mut Page, shards: &[ShardReport]) {
    page.histograms(names::POSTS, shards, |report| &report.tally.posts);
    page.histograms(names::DELIVERIES, shards, |report| &report.driver.deliveries);
    page.histograms(names::FANOUTS, shards, |report| &report.driver.fanouts);
    page.per_shard(names::SHARD_INBOX, shards, |report| report.driver.inbox);
    page.one(names::MAIL, sum_driver(shards, |driver| driver.mail));
    page.one(names::WAKES, sum_driver(shards, |driver| driver.wakes));
    page.spans(names::HOPS, shards, |report| &report.hops);
    page.spans(names::TURNS, shards, |report| &report.turns);
    page.per_shard(names::TURN_MAX, shards, |report| seconds(report.turns.max_ns));
    page.per_shard(names::TURNING, shards, |report| seconds(report.turning_ns));
    page.per_shard(names::SHARD_ASLEEP, shards, |report| seconds(report.driver.asleep_ns));
    page.per_shard(names::SHARD_EVENTS, shards, |report| report.driver.events);
    page.one(names::BYTES_IN, sum_driver(shards, |driver| driver.bytes_in));
    page.one(names::BYTES_OUT, sum_driver(shards, |driver| driver.bytes_out));
    page.one(names::FRAMES, sum_driver(shards, |driver| driver.frames));
    page.one(names::CACHES_SHED, sum(shards, |tally| tally.caches_shed));
    page.one(names::WORK, sum(shards, |tally| tally.work));
    page.one(names::SENDS, sum_driver(shards, |driver| driver.sends));
    page.one(names::PARSE_PANICS, sum_driver(shards, |driver| driver.parse_panics));
}

fn store_numbers(page: &mut Page, store: &StoreNumbers) {
    page.one(names::STORE_UP, u8::from(store.up));
    page.by_label(names::STORE_FAILING, names::STORE_FAILING_LABELS, |index| u64::from(store.failing == Some(index)));
    let queued = [store.writes_queued, store.reads_queued.iter().sum()];
    page.by_label(names::STORE_QUEUED, names::QUEUE_LABELS, |index| queued.get(index).copied().unwrap_or_default());
    let of = |lanes: &[u64], index: usize| lanes.get(index).copied().unwrap_or_default();
    page.by_label(names::STORE_LANE_QUEUED, names::LANE_LABELS, |index| of(&store.reads_queued, index));
    page.by_label(names::STORE_LATE, names::LANE_LABELS, |index| of(&store.reads_late, index));
    page.one(names::STORE_WAITING, store.users_waiting);
    page.one(names::STORE_COMMITS, store.commits);
    page.one(names::STORE_ROWS, store.committed_writes);
    page.head(names::STORE_TRANSACTIONS);
    page.histogram(names::STORE_TRANSACTIONS, &[], &store.transactions);
    page.one(names::STORE_SECONDS, seconds(store.commit_ns));
    page.one(names::STORE_USER_READS, store.user_reads);
    page.one(names::STORE_USER_QUERIES, store.user_queries);
    page.one(names::STORE_TRIMMED, store.trimmed_messages);
    page.one(names::STORE_TRIMMED_KEYS, store.trimmed_keys);
    page.one(names::STORE_UPKEEP_ERRORS, store.upkeep_errors);
    page.one(names::STORE_ERRORS, store.errors);
    page.if_known(names::STORE_CLOCK_OFFSET, store.clock_offset_ms.map(|ms| ms as f64 / 1000.0));
}

fn file_numbers(page: &mut Page, files: &FileNumbers) {
    page.one(names::UPLOADS, files.places);
    page.by_label(names::UPLOADS_REFUSED, names::UPLOADS_REFUSED_LABELS, |index| {
        files.refused.get(index).copied().unwrap_or_default()
    });
    page.one(names::UPLOADS_DISPLACED, files.displaced);
    page.one(names::FILES_KEPT, files.kept);
    page.one(names::FILES_KEPT_BYTES, files.kept_bytes);
    page.one(names::FILES_BLANKED, files.blanked);
    page.one(names::FILES_REMOVED, files.removed);
    page.one(names::FILES_REMOVED_BYTES, files.removed_bytes);
    page.one(names::PICTURES, files.painted);
    page.one(names::PICTURE_SECONDS, seconds(files.paint_ns));
    page.one(names::PICTURES_WAITING, files.waiting);
}

fn object_store(page: &mut Page, counts: &ObjectCounts) {
    page.one(names::OBJECT_STORE_UP, u8::from(counts.up()));
    page.head(names::OBJECT_STORE_REQUESTS);
    for (operation, by_outcome) in ObjectOperation::LABELS.iter().zip(counts.requests()) {
        for (outcome, count) in ObjectOutcome::LABELS.iter().zip(by_outcome) {
            let labels: [(&str, &dyn Display); 2] = [("operation", operation), ("outcome", outcome)];
            page.sample(names::OBJECT_STORE_REQUESTS.name, "", &labels, count);
        }
    }
    page.head(names::OBJECT_STORE_SECONDS);
    for (operation, times) in ObjectOperation::LABELS.iter().zip(&counts.seconds()) {
        page.histogram(names::OBJECT_STORE_SECONDS, &[("operation", operation)], times);
    }
    page.by_label(names::OBJECT_STORE_BYTES, names::OBJECT_DIRECTIONS, |index| {
        counts.bytes().get(index).copied().unwrap_or_default()
    });
}

fn surroundings(page: &mut Page, around: &SurroundingNumbers) {
    page.one(names::CLOCK_MOVED, around.clock_moved_ms as f64 / 1000.0);
    page.if_known(names::CLOCK_SET_AGE, around.clock_set_age_ms.map(|ms| ms as f64 / 1000.0));
    page.if_known(names::DATA_FREE, around.data_disk.map(|[free, _]| free));
    page.if_known(names::DATA_SIZE, around.data_disk.map(|[_, size]| size));
}

fn process(page: &mut Page, process: &ProcessNumbers, budgets: BudgetNumbers, threads: &[(String, f64)]) {
    page.if_known(names::PROCESS_CPU, process.cpu_seconds);
    if !threads.is_empty() {
        page.head(names::THREAD_CPU);
        for (thread, time) in threads {
            page.sample(names::THREAD_CPU.name, "", &[("thread", thread)], time);
        }
    }
    page.if_known(names::PROCESS_RSS, process.resident_bytes);
    page.if_known(names::MEMORY_MAX, process.memory_max);
    page.one(names::OUTBOX_BUDGET, budgets.outbox);
    page.one(names::INBOUND_BUDGET, budgets.inbound);
    page.one(names::HTTP_BUDGET, budgets.http);
    page.if_known(names::PROCESS_FDS, process.open_fds);
    page.if_known(names::PROCESS_FDS_MAX, process.max_fds);
    page.if_known(names::PROCESS_THREADS, process.threads);
    page.if_known(names::PROCESS_START, process.start_ms.map(|ms| seconds(ms.saturating_mul(1_000_000))));
    page.if_known(names::UNCLEAN_ENDS, process.unclean_ends);
}

fn sum(shards: &[ShardReport], of: impl Fn(&Tally) -> u64) -> u64 {
    shards.iter().map(|report| of(&report.tally)).sum()
}

fn sum_driver(shards: &[ShardReport], of: impl Fn(&DriverTally) -> u64) -> u64 {
    shards.iter().map(|report| of(&report.driver)).sum()
}

/// Nanoseconds as seconds; a double keeps them exact for a hundred days.
#[expect(clippy::cast_precision_loss, reason = "the format has doubles only")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The text as it grows. Writing to a `String` cannot fail, hence the discarded results.
struct Page {
    out: String,
    format: Format,
}

impl Page {
    fn head(&mut self, metric: Metric) {
        let Metric { name, kind, help, .. } = metric;
        let name = match (self.format, kind) {
            (Format::OpenMetrics, MetricKind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let _ = write!(self.out, "{name}{suffix}");
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.out, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.out, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// The whole text.
    fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    /// One series of a histogram.
    fn histogram(&mut self, metric: Metric, labels: &[(&str, &dyn Display)], histogram: &Histogram) {
        let mut below = 0;
        for (bucket, count) in histogram.counts.iter().enumerate().take(BUCKETS) {
            below += count;
            let bound = bound_seconds(bucket).map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            let mut all: Vec<(&str, &dyn Display)> = labels.to_vec();
            all.push(("le", &bound));
            self.sample(metric.name, "_bucket", &all, below);
        }
        self.sample(metric.name, "_sum", labels, seconds(histogram.sum_ns));
        self.sample(metric.name, "_count", labels, below);
    }

    /// A histogram per shard.
    fn histograms(&mut self, metric: Metric, shards: &[ShardReport], of: impl Fn(&ShardReport) -> &Histogram) {
        self.head(metric);
        for (shard, report) in shards.iter().enumerate() {
            self.histogram(metric, &[("shard", &shard)], of(report));
        }
    }

    /// A metric without labels.
    fn one(&mut self, metric: Metric, value: impl Display) {
        self.one_of(metric, &[], value);
    }

    /// A metric with one series.
    fn one_of(&mut self, metric: Metric, labels: &[&str], value: impl Display) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        self.head(metric);
        let labels: Vec<(&str, &dyn Display)> =
            metric.labels.iter().zip(labels).map(|(name, value)| (*name, value as &dyn Display)).collect();
        self.sample(metric.name, "", &labels, value);
    }

    /// A metric that may be unknown.
    fn if_known(&mut self, metric: Metric, value: Option<impl Display>) {
        if let Some(value) = value {
            self.one(metric, value);
        }
    }

    /// A metric with one label whose values are known beforehand, so that every series exists from
    /// the start.
    fn by_label<const N: usize>(&mut self, metric: Metric, values: [&str; N], of: impl Fn(usize) -> u64) {
        self.head(metric);
        for (index, value) in values.iter().enumerate() {
            for label in metric.labels {
                self.sample(metric.name, "", &[(*label, value)], of(index));
            }
        }
    }

    /// A summary per shard.
    fn spans(&mut self, metric: Metric, shards: &[ShardReport], of: impl Fn(&ShardReport) -> &SpanSummary) {
        self.head(metric);
        for (shard, report) in shards.iter().enumerate() {
            let summary = of(report);
            for (quantile, ns) in QUANTILES.iter().zip(summary.quantiles_ns) {
                self.sample(metric.name, "", &[("shard", &shard), ("quantile", quantile)], seconds(ns));
            }
            self.sample(metric.name, "_sum", &[("shard", &shard)], seconds(summary.sum_ns));
            self.sample(metric.name, "_count", &[("shard", &shard)], summary.count);
        }
    }

    /// A metric with a series per shard.
    fn per_shard<T: Display>(&mut self, metric: Metric, shards: &[ShardReport], of: impl Fn(&ShardReport) -> T) {
        self.head(metric);
        for (shard, report) in shards.iter().enumerate() {
            self.sample(metric.name, "", &[("shard", &shard)], of(report));
        }
    }
}

#[cfg(test)]
mod tests;

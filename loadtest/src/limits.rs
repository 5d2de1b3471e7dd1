//! What one run may cost at most: every cap of the load generator, and the raising of the
//! descriptor limit.
//!
//! Owns: the numbers, each with its reason.
//! Never: a queue, table or loop elsewhere in this crate whose bound is not named here.

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections of one run, over all workers. What a process may have is decided by its descriptors
/// ([`raise_descriptors`]); this keeps a slip of the pen from asking for more memory than there is.
pub(crate) const CONNECTIONS_MAX: usize = 4_000_000;
/// Length of a measurement. A load generator that was forgotten must stop by itself.
pub(crate) const SECONDS_MAX: u64 = 3_600;
/// Length of a measurement of messages: a soak takes a day.
pub(crate) const SOAK_SECONDS_MAX: u64 = 86_400;
/// How many times faster than its mix `mixed` may go: an hour in a second.
pub(crate) const SPEED_MAX: f64 = 3_600.0;
/// Points of a plot over time: more than a page is wide.
pub(crate) const POINTS_MAX: u64 = 900;
/// Threads of the engine.
pub(crate) const THREADS_MAX: usize = 64;
/// Connections opened per second, asked for at most.
pub(crate) const CONNECT_RATE_MAX: u64 = 100_000;
/// Messages per second, asked for at most.
pub(crate) const RATE_MAX: u64 = 1_000_000;
/// Source addresses: one octet counts them.
pub(crate) const SOURCES_MAX: u8 = 250;
/// Bytes of a message's content: below the gateway's message size with the envelope around it.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 60 * 1024;
/// Messages in flight of one user of a pair: what its [`crate::ledger::Window`] can tell apart.
pub(crate) const WINDOW_MAX: usize = 128;
/// Acked messages of one author whose order is remembered: no ack is so late that it belongs before
/// all of them.
pub(crate) const OWN_ORDER_MAX: usize = 2 * WINDOW_MAX;
/// Pairs of (member, publisher) that a fan-out tells apart, 48 bytes each.
pub(crate) const MEMBER_PUBLISHERS_MAX: usize = 2_000_000;
/// Messages that an open loop keeps for a user who cannot send now; beyond it they are counted as
/// unsent.
pub(crate) const BACKLOG_MAX: usize = 4_096;
/// Things that a user of `mixed` did not do because one before was not answered, of which the times
/// are kept.
pub(crate) const MISSED_MAX: usize = 64;
/// A list of a user's groups with fewer rows is whole: the gateway cuts it by its bytes.
pub(crate) const WHOLE_LIST_MAX: usize = 100;
/// Unanswered messages of one publisher, so that a server that answers nothing does not fill our
/// memory.
pub(crate) const UNACKED_MAX: usize = 65_536;

/// A message from the server: a sync answer of 256 KiB of bodies fits many times.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A response head.
pub(crate) const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The body of an HTTP answer (metrics, a page of history).
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes queued for one connection that the server does not take; beyond it a message is counted as
/// unsent.
pub(crate) const OUT_BYTES_MAX: usize = 1024 * 1024;
/// The read buffer of one engine thread.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// Readiness events of one turn: few, so that an intended send time is not missed by a long turn.
pub(crate) const EVENTS_MAX: usize = 256;
/// Bytes read from one connection in one turn; the rest waits for the next.
pub(crate) const TURN_READ_BYTES_MAX: usize = 1024 * 1024;

/// Tries to open a connection before the run fails.
pub(crate) const CONNECT_TRIES_MAX: u32 = 5;
/// How long a connection may take from `connect` to the 101.
pub(crate) const CONNECT_NS_MAX: u64 = 15_000_000_000;
/// Connection attempts begun in one turn, so that the answers to the first are not read after the
/// last.
pub(crate) const TURN_DIALS_MAX: usize = 64;
/// First pause before a connection is tried again; it doubles up to [`RETRY_NS_MAX`], with jitter.
pub(crate) const RETRY_NS: u64 = 50_000_000;
/// Longest pause between two tries.
pub(crate) const RETRY_NS_MAX: u64 = 2_000_000_000;
/// First pause before something is sent again that was refused for now; it doubles with each
/// refusal, with jitter: the protocol asks clients for that, and a load test must not be the
/// greediest.
pub(crate) const BUSY_NS: u64 = 1_000_000_000;
/// The longest such pause. The protocol allows a minute; the end of a run waits for the last try.
pub(crate) const BUSY_NS_MAX: u64 = 16_000_000_000;
/// The longest time for which a gateway that stops may send a client away; a longer one is not
/// believed.
pub(crate) const AWAY_MS_MAX: u64 = 3_600_000;
/// How exactly the moment is kept at which a client was told to come back.
pub(crate) const SLOT_JITTER_NS: u64 = 1_000_000_000;
/// How often a thread looks at the board although nothing happened.
pub(crate) const TICK_NS: u64 = 20_000_000;
/// How often a member is read that is not watched: shorter than [`LINGER_MS`], so that what comes
/// at the end is seen.
pub(crate) const LEISURE_NS: u64 = 400_000_000;
/// How long the closing handshakes at the end may take.
pub(crate) const CLOSE_NS_MAX: u64 = 2_000_000_000;
/// How long what is on its way may take to arrive in a run that was interrupted: whoever sends
/// SIGTERM waits some ten seconds before SIGKILL.
pub(crate) const INTERRUPTED_DRAIN_NS: u64 = 2_000_000_000;
/// A second signal within this time is the first one's echo: `timeout`, shells and some init
/// systems signal a process and its group, and that must not cost the report. No person is so
/// quick.
pub(crate) const SIGNAL_ECHO_NS: u64 = 250_000_000;
/// How long a measurement waits for the server's figures: those that come later are not of now.
pub(crate) const GLANCE_MS_MAX: u64 = 1_000;
/// Opening connections is given up when none has been opened for so long: longer than one of them
/// may take.
pub(crate) const OPENING_NS_MAX: u64 = 60_000_000_000;
/// After so long a connection that came back hears all of its groups: what was said before may have
/// passed it by.
pub(crate) const HEARING_NS: u64 = 1_000_000_000;
/// How long a run listens on after everything has arrived: a message that comes twice comes second.
pub(crate) const LINGER_MS: u64 = 500;

/// Sequence numbers missing in one stream that are remembered one by one.
pub(crate) const HOLES_MAX: usize = 65_536;
/// Rows asked for in one sync or page of history: what the gateway gives at most.
pub(crate) const SYNC_ROWS: u32 = 200;
/// Pages of one conversation's history that `check` reads.
pub(crate) const PAGES_MAX: usize = 100_000;

/// Devices of one `verify`: each is looked at every [`VERIFY_TICK_MS`].
pub(crate) const DEVICES_MAX: usize = 20_000;
/// Messages of one conversation that `verify` keeps books of, some 200 bytes each.
pub(crate) const MESSAGES_MAX: usize = 2_000_000;
/// Groups of one `verify`.
pub(crate) const GROUPS_MAX: u32 = 1_000;
/// Commands of one device that may be unanswered: well below the 64 beyond which the gateway does
/// not read on.
pub(crate) const OUTSTANDING_MAX: usize = 40;
/// Messages of one device that wait for their ack; beyond it nothing new is sent.
pub(crate) const LETTERS_MAX: usize = 24;
/// Acked messages that a device remembers, to send one of them again.
pub(crate) const KEPT_MAX: usize = 256;
/// Connections of one thread that were left standing, unread; the oldest is let go.
pub(crate) const ABANDONED_MAX: usize = 512;
/// Messages read from one connection in one turn of `verify`.
pub(crate) const TURN_MESSAGES_MAX: usize = 256;
/// How often a device of `verify` looks at its clock.
pub(crate) const VERIFY_TICK_MS: u64 = 5;
/// The receive buffer of a reader that stalls. The kernel doubles it, and the least it takes is of
/// that size.
pub(crate) const STALLED_RECEIVE_BYTES: usize = 4_096;
/// How often a settling device asks again although it was told that there is nothing more.
pub(crate) const SETTLE_TRIES_MAX: u32 = 50;
/// What happened to the server, kept for the stories.
pub(crate) const EVENTS_KEPT: usize = 4_096;
/// Gateways of one system, and servers that are kept.
pub(crate) const SERVERS_MAX: usize = 16;
/// Commands that run at the same time.
pub(crate) const COMMANDS_MAX: usize = 16;
/// Problems that are printed one by one.
pub(crate) const TROUBLES_MAX: usize = 20;

/// Attackers of one flood: one process has some 20,000 descriptors, and the well-behaved need some.
pub(crate) const ATTACKERS_MAX: usize = 19_000;
/// Connections of the attackers of one thread that are being opened at the same time.
pub(crate) const FLOOD_CONNECTING_MAX: usize = 1_024;
/// Visits of the well-behaved under way at the same time; one that is due beyond it has failed.
pub(crate) const ERRANDS_MAX: usize = 512;
/// How long a visit of a well-behaved user may take until it is given up, unless more is in time.
pub(crate) const ERRAND_NS_MAX: u64 = 5_000_000_000;
/// Heartbeats, or stored messages, of the well-behaved that may be unanswered at the same time.
pub(crate) const UNANSWERED_MAX: usize = 65_536;
/// What an answer that never came counts as, in nanoseconds.
pub(crate) const NEVER_NS: u64 = 60_000_000_000;
/// Figures of the gateway that one flood keeps: one each second.
pub(crate) const READINGS_MAX: usize = 4_096;
/// Reasons of failure that are told apart.
pub(crate) const REASONS_MAX: usize = 16;

/// Workers of one run.
pub(crate) const WORKERS_MAX: usize = 256;
/// A message between control and worker as long as they do not know each other.
pub(crate) const GREETING_BYTES_MAX: usize = 4 * 1024;
/// A message between control and worker: fourteen histograms with a large count in every place fit.
pub(crate) const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of users' tokens in one message to a worker.
pub(crate) const USERS_BYTES: usize = 256 * 1024;
/// Bytes of users' tokens that a worker takes in all: a hundred for each connection that a run may
/// have.
pub(crate) const USERS_BYTES_MAX: usize = 100 * CONNECTIONS_MAX;
/// Bytes of a secret for HS256: the gateway takes no shorter one.
pub(crate) const HS256_BYTES_MIN: usize = 32;
/// How long a token may be good for that is made for a load test: a month.
pub(crate) const TOKEN_HOURS_MAX: u64 = 720;
/// Words of the command line that a control passes on.
pub(crate) const ARGUMENTS_MAX: usize = 256;
/// Bytes of a file (certificates, a mix) that a control passes on.
pub(crate) const PASSED_BYTES_MAX: usize = 1024 * 1024;
/// Letters of a secret that control and workers share: fewer can be guessed.
pub(crate) const SECRET_LETTERS_MIN: usize = 16;
/// Connections to one worker that have not shown yet what they are.
pub(crate) const GREETERS_MAX: usize = 8;
/// How long control and worker may take to know each other.
pub(crate) const GREETING_MS_MAX: u64 = 5_000;
/// How long control or worker may say nothing until the other gives it up: both speak at least once
/// a second.
pub(crate) const SILENCE_MS_MAX: u64 = 10_000;
/// How long a worker waits for its part once it knows the control, which may have accounts to
/// register at a busy server first.
pub(crate) const BRIEFING_MS_MAX: u64 = 60_000;
/// How often a worker tells its counters.
pub(crate) const COUNTS_MS: u64 = 100;
/// How often a control asks for a worker's clock.
pub(crate) const PING_MS: u64 = 1_000;
/// How often it asks before the start, of which the shortest way counts.
pub(crate) const CLOCK_PINGS: u32 = 32;
/// How far ahead the start of the measurement is told to workers, so that all know it in time.
pub(crate) const START_LEAD_MS: u64 = 250;
/// How long a worker may take from the end of the run to its findings.
pub(crate) const ENDING_MS_MAX: u64 = 30_000;

/// Descriptors that a run needs besides its connections: standard streams, pollers, timers, logs,
/// HTTP.
const DESCRIPTORS_OTHER: u64 = 64;

/// Raises the soft descriptor limit to the hard one, and says clearly when `connections` do not
/// fit.
pub(crate) fn raise_descriptors(connections: usize) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let needed = connections as u64 + DESCRIPTORS_OTHER;
    if let Some(hard) = limit.maximum
        && needed > hard
    {
        bail!(
            "{connections} connections need {needed} descriptors, but this process gets at most {hard} (hard limit): \
             ask for at most {} connections, raise the hard limit (`ulimit -Hn`, LimitNOFILE=), or share the run \
             among several processes (`--workers`)",
            hard.saturating_sub(DESCRIPTORS_OTHER)
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

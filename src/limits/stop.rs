//! Caps of a stop: how fast sessions are closed, how long each stage may take, and when clients
//! come back.
//!
//! Owns: the numbers, each with its unit and its reason.
//! Never: is used but through [`crate::limits`].

/// Sessions that one turn of a shard closes when the gateway stops, and bytes of which may wait
/// unwritten: orders are seen between two turns, and a mass close takes no more memory than this
/// many frames.
pub const TURN_CLOSES_MAX: u32 = 256;
/// Sessions closed in a second at least, whatever the spread: the stop of a gateway with few
/// sessions is not drawn out.
pub const DRAIN_CLOSES_PER_SECOND_MIN: u64 = 1_000;
/// The least time for which a session that the gateway closes stays away, milliseconds: the process
/// needs as long to end.
pub const DRAIN_AWAY_MS_MIN: u64 = 1_000;
/// The longest: a window beyond it would be an outage.
pub const DRAIN_AWAY_MS_MAX: u64 = 900_000;
/// See [`crate::config::Config::drain`]. Supervisors kill after 10 s (Docker), 30 s (Kubernetes) or
/// 90 s (systemd).
pub const DRAIN_DEADLINE_MS_DEFAULT: u64 = 10_000;
/// See [`crate::config::Config::drain`].
pub const DRAIN_SPREAD_MS_DEFAULT: u64 = 5_000;
/// See [`crate::config::Config::drain`]: a restart takes about a second.
pub const DRAIN_RETURN_AFTER_MS_DEFAULT: u64 = 1_000;
/// See [`crate::config::Config::drain`]: about half of what one core accepts beside its work, so
/// that a return leaves room for messages.
pub const DRAIN_RETURN_RATE_DEFAULT: u64 = 2_000;
/// How long a stop waits for outstanding asks: a healthy store answers in milliseconds, and a sick
/// one must not hold the process.
pub const STOP_QUIESCE_MS_MAX: u64 = 3_000;
/// How long a stop waits for peers to answer the close. Below [`super::CLOSE_MS_MAX`]: a supervisor
/// waits too.
pub const STOP_CLOSE_MS_MAX: u64 = 2_500;
/// A second signal within this time is the first one's echo: `timeout`, some init systems and
/// shells signal a process and its group, and that must not turn an orderly stop into one that cuts
/// sessions off. No person is so quick.
pub const STOP_ECHO_MS: u64 = 250;
/// Signals that wait to be obeyed: one of each kind, and the echo of a stop.
pub const SIGNALS_WAITING_MAX: usize = 4;
/// The part of a stop's deadline that is kept for what comes after the sessions (HTTP, the store,
/// the end of the process), at most; of a short deadline it is a fifth.
pub const STOP_REST_MS_MAX: u64 = 2_000;
/// The part of it that HTTP requests under way do not have, for what comes after them (webhooks,
/// trails, the end of the process), at most; of a short deadline it is a twentieth. Otherwise they
/// have all that is left: a download is cut for no other reason than the deadline. A store that
/// hangs leaves as much to them, and half of it to the trails.
pub const STOP_LAST_MS_MAX: u64 = 500;

const _: () = assert!(
    STOP_QUIESCE_MS_MAX + STOP_CLOSE_MS_MAX + STOP_REST_MS_MAX < DRAIN_DEADLINE_MS_DEFAULT
        && 2 * STOP_LAST_MS_MAX < STOP_REST_MS_MAX,
    "the stages of a stop fit into its deadline"
);

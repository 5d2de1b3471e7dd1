//! Caps of what a gateway has to do with the machine around it: certificates, the clock, the disk,
//! the supervisor.
//!
//! Owns: the numbers, each with its unit and its reason.
//! Never: is used but through [`crate::limits`].

/// Pause between two looks at what is around a gateway: certificates, the clock, the disk. Some
/// calls of stat(2); what they find is to be seen within the minute in which it began.
pub const SURROUNDINGS_LOOK_MS: u64 = 10_000;
/// A clock that moves by so much between two looks was set.
pub const CLOCK_STEP_MS: u64 = 2_000;
/// For so long people are told of it: as long as the rule `ImgateClockSet` looks back. A clock
/// that was set once, when its machine started, is no trouble for as long as the gateway runs.
pub const CLOCK_SET_TOLD_S: u64 = 300;
/// For so long after it was seen last `imgate doctor` warns of what a proxy in front has wrong: a
/// proxy that was mended is not the gateway's trouble until its next start, and one that is not
/// shows it with its next clients.
pub const PROXY_SEEN_TOLD_S: u64 = 600;
/// From so long before its end on a certificate is worth a warning: what renews them begins 30 days
/// before, and has failed for two weeks then.
pub const CERTIFICATE_ENDS_SOON_S: u64 = 14 * 86_400;
/// Less room on the disk of the data directory is worth a warning: a day of a busy database, and
/// twice what uploads leave.
pub const DATA_ROOM_BYTES_MIN: u64 = 1 << 30;
/// How long a supervisor whose queue is full is waited for, milliseconds: what it is told once
/// (that the gateway is ready, reloads, stops) it would otherwise never hear. systemd takes it at
/// once.
pub const SUPERVISOR_WAIT_MS_MAX: u64 = 1_000;
/// Pause before the next try, unless its queue has room before.
pub const SUPERVISOR_LOOK_MS: u64 = 10;

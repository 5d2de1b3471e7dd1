//! Every metric's name, help and label values, in one place.
//!
//! Owns: the label values of the counters that [`super::Tally`] keeps by kind; the names that `render` writes (the metrics step fills them in).
//! To add a metric: a field in `tally`, a name here, a line in `render`; `docs/metrics.md` is compared in a test.

/// Labels of refused commands, in the order of `wire::Reject::ALL`, which a test there compares.
pub const REFUSED: [&str; 12] = [
    "malformed",
    "unknown_command",
    "bad_field",
    "bad_media",
    "not_member",
    "no_such_group",
    "no_such_user",
    "blocked",
    "cid_reused",
    "busy",
    "retry",
    "stopping",
];

/// Labels of closes by the server, in the order of `wire::CloseCode::ALL`, which a test there compares.
pub const CLOSED: [&str; 13] = [
    "normal",
    "protocol",
    "unsupported",
    "invalid_utf8",
    "too_big",
    "internal",
    "shutdown",
    "slow",
    "unavailable",
    "idle",
    "bad_token",
    "replaced",
    "banned",
];

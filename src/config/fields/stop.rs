//! The settings of a stop as a person meets them.

use super::{Field, Reach, TakesEffect};

/// Within which time it ends.
pub(super) const DRAIN_DEADLINE: Field = Field {
    key: "drain_deadline",
    value: "TIME",
    doc: "How long a stop may take, whatever does not answer. A supervisor must wait longer before it kills (TimeoutStopSec, terminationGracePeriodSeconds, \
          `docker stop --time`).",
    default: r#""10s""#,
    range: "1s to 10m",
    reach: Reach::Everywhere,
    change: TakesEffect::Reload,
};

/// How long it is only announced.
pub(super) const DRAIN_ANNOUNCE: Field = Field {
    key: "drain_announce",
    value: "TIME",
    doc: "How long a stop is only announced: `/readyz` says 503, and everything is served as before, newcomers too, until balancers have looked. It is a part of \
          drain_deadline; a second signal ends it. 0: the listeners close in the same moment.",
    default: r#""0s""#,
    range: "0 to half of drain_deadline",
    reach: Reach::Everywhere,
    change: TakesEffect::Reload,
};

/// How slowly sessions are closed.
pub(super) const DRAIN_SPREAD: Field = Field {
    key: "drain_spread",
    value: "TIME",
    doc: "Over how long a stop spreads the closes of the sessions; few sessions take less, at least 1,000 are closed in a second.",
    default: r#""5s""#,
    range: "0 to drain_deadline",
    reach: Reach::Everywhere,
    change: TakesEffect::Reload,
};

/// When the first come back.
pub(super) const DRAIN_RETURN_AFTER: Field = Field {
    key: "drain_return_after",
    value: "TIME",
    doc: "How long after the last close the first clients come back: what a restart needs. 0 suits gateways of which others take over.",
    default: r#""1s""#,
    range: "0 to 10m",
    reach: Reach::Everywhere,
    change: TakesEffect::Reload,
};

/// How fast the others follow.
pub(super) const DRAIN_RETURN_RATE: Field = Field {
    key: "drain_return_rate",
    value: "N",
    doc: "How many clients come back in a second after a stop: each is told its own moment. 15,000 at 2,000 come back within 7.5 s.",
    default: "2000",
    range: "1 to 1000000",
    reach: Reach::Everywhere,
    change: TakesEffect::Reload,
};

//! How fast users and guests may go, as the configuration says it.
//!
//! Owns: the settings `user_…` and `guest_…`, typed.

use super::{Error, Layers, parse, parse_size};
use crate::fair::Flow;
use crate::limits;
use crate::shard::PaceLimits;

/// How fast users and guests may go.
pub(super) fn read(layers: &Layers) -> Result<PaceLimits, Error> {
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

//! Limits of what is measured.

use super::{TURN_LIGHT_FRAMES_MAX, TURN_MAIL_MAX};

/// Messages of one shard whose ways have ended and are counted at the end of the turn, those that
/// came together as one: 100 KB, and what other shards say in a turn.
pub const PASSAGES_MAX: usize = 4096;

const _: () = assert!(PASSAGES_MAX >= TURN_MAIL_MAX as usize, "of a turn's mail none is taken for another");
const _: () = assert!(PASSAGES_MAX >= TURN_LIGHT_FRAMES_MAX as usize, "nor of what clients say");

//! What a running shard and its gate go by from now on, when the configuration was loaded again.
//!
//! Owns: [`Adjusted`], the part of the settings that shards take up without a restart.
//! Never: a setting that a part of the gateway has already been sized by.

use std::sync::Arc;

use crate::caller::Judge;
use crate::shard::Adjustable;

/// The settings that a shard takes up while it runs.
#[derive(Clone, Debug)]
pub struct Adjusted {
    /// Those of the shard itself.
    pub shard: Adjustable,
    /// Judges the heads that come from now on.
    pub judge: Arc<Judge>,
    /// Whether new connections may agree upon compression.
    pub compression: bool,
    /// Connections of one address in a second, all shards together; 0: any number.
    pub connect_rate: u64,
    /// Connections of one address at once after a rest, all shards together.
    pub connect_burst: u64,
    /// Connections of one address at once; 0: any number.
    pub connections_per_address: u32,
    /// Guests of `/chatroom` at once.
    pub guests: usize,
    /// Of these, of one address; 0: any number.
    pub guests_per_address: u32,
}

//! What this shard may still send to each other shard.
//!
//! Owns: the room for deliveries as the driver reported it last, less what was sent since; the places reserved for posts and their answers.
//! Never: sends. An ask that finds no place is refused here, before it exists; so the mesh never has to refuse one.

use super::peer::PeerMsg;
use crate::ids::ShardId;
use crate::limits;

/// The lane to one shard.
#[derive(Clone, Copy, Debug)]
struct Lane {
    deliver_msgs: u32,
    deliver_bytes: usize,
    posts: u32,
    post_bytes: usize,
}

/// The lanes to all shards.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
}

impl Lanes {
    /// Empty lanes to `shards` shards.
    pub(super) fn new(shards: u16) -> Self {
        let lane = Lane {
            deliver_msgs: limits::DELIVER_MSGS_PER_LANE_MAX,
            deliver_bytes: limits::DELIVER_BYTES_PER_LANE_MAX,
            posts: 0,
            post_bytes: 0,
        };
        Self { lanes: vec![lane; usize::from(shards)] }
    }

    /// The driver has counted.
    pub(super) fn set_room(&mut self, to: ShardId, msgs: u32, bytes: usize) {
        if let Some(lane) = self.lanes.get_mut(usize::from(to.0)) {
            lane.deliver_msgs = msgs;
            lane.deliver_bytes = bytes;
        }
    }

    /// Takes the room for a delivery of `bytes`. `false`: there is none.
    pub(super) fn take_room(&mut self, to: ShardId, bytes: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(usize::from(to.0)) else { return false };
        if lane.deliver_msgs == 0 || lane.deliver_bytes < bytes {
            return false;
        }
        lane.deliver_msgs -= 1;
        lane.deliver_bytes -= bytes;
        true
    }

    /// Reserves a place for a post and its answer. `false`: refuse it.
    pub(super) fn reserve_post(&mut self, to: ShardId, bytes: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(usize::from(to.0)) else { return false };
        if lane.posts >= limits::POSTS_PER_LANE_MAX || lane.post_bytes + bytes > limits::POST_BYTES_PER_LANE_MAX {
            return false;
        }
        lane.posts += 1;
        lane.post_bytes += bytes;
        true
    }

    /// The post was answered.
    pub(super) fn free_post(&mut self, to: ShardId, bytes: usize) {
        if let Some(lane) = self.lanes.get_mut(usize::from(to.0)) {
            debug_assert!(lane.posts > 0 && lane.post_bytes >= bytes, "a post is freed once");
            lane.posts = lane.posts.saturating_sub(1);
            lane.post_bytes = lane.post_bytes.saturating_sub(bytes);
        }
    }

    /// Posts under way to all homes.
    pub(super) fn posts(&self) -> u32 {
        self.lanes.iter().map(|lane| lane.posts).sum()
    }
}

/// Bytes of a mark in a lane.
pub(super) const MARK_BYTES: usize = size_of::<PeerMsg>();

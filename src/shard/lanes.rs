//! What this shard may still send to each other shard.
//!
//! Owns: the credit for deliveries as the driver reported it last, less what was sent since; the
//! places reserved for posts and their answers.
//! Never: sends. An ask that finds no place is refused here, before it exists; so the mesh never
//! has to refuse one.

use crate::ids::ShardId;
use crate::limits;
use crate::shard::broken::broken;
use crate::shard::peer::PeerMsg;

/// How full the fullest lane is of posts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::shard) enum Crowding {
    /// Less than half.
    None,
    /// Half of its posts, or of their bytes.
    Half,
    /// Three quarters.
    ThreeQuarters,
}

/// The lane to one shard.
#[derive(Clone, Copy, Debug)]
struct Lane {
    deliver_msgs: u32,
    deliver_bytes: usize,
    posts: u32,
    post_bytes: usize,
}

impl Lane {
    const fn crowding(&self) -> Crowding {
        let (posts, bytes) = (self.posts, self.post_bytes);
        if posts >= limits::POSTS_PER_LANE_MAX / 4 * 3 || bytes >= limits::POST_BYTES_PER_LANE_MAX / 4 * 3 {
            Crowding::ThreeQuarters
        } else if posts >= limits::POSTS_PER_LANE_MAX / 2 || bytes >= limits::POST_BYTES_PER_LANE_MAX / 2 {
            Crowding::Half
        } else {
            Crowding::None
        }
    }
}

/// The lanes to all shards.
#[derive(Debug)]
pub(in crate::shard) struct Lanes {
    lanes: Vec<Lane>,
    /// Lanes that are half full, and three quarters full.
    crowded: [u32; 2],
}

impl Lanes {
    /// Empty lanes to `shards` shards.
    pub(in crate::shard) fn new(shards: u16) -> Self {
        let lane = Lane {
            deliver_msgs: limits::DELIVER_MSGS_PER_LANE_MAX,
            deliver_bytes: limits::DELIVER_BYTES_PER_LANE_MAX,
            posts: 0,
            post_bytes: 0,
        };
        Self { lanes: vec![lane; usize::from(shards)], crowded: [0; 2] }
    }

    /// The driver has counted.
    pub(in crate::shard) fn set_credit(&mut self, to: ShardId, msgs: u32, bytes: usize) {
        if let Some(lane) = self.lanes.get_mut(usize::from(to.0)) {
            lane.deliver_msgs = msgs;
            lane.deliver_bytes = bytes;
        }
    }

    /// Takes credit for a delivery of `bytes`. `false`: there is none.
    pub(in crate::shard) fn take_credit(&mut self, to: ShardId, bytes: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(usize::from(to.0)) else { return false };
        if lane.deliver_msgs == 0 || lane.deliver_bytes < bytes {
            return false;
        }
        lane.deliver_msgs -= 1;
        lane.deliver_bytes -= bytes;
        true
    }

    /// Reserves a place for a post and its answer. `false`: refuse it.
    pub(in crate::shard) fn reserve_post(&mut self, to: ShardId, bytes: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(usize::from(to.0)) else { return false };
        if lane.posts >= limits::POSTS_PER_LANE_MAX || lane.post_bytes + bytes > limits::POST_BYTES_PER_LANE_MAX {
            return false;
        }
        let before = lane.crowding();
        lane.posts += 1;
        lane.post_bytes += bytes;
        let after = lane.crowding();
        self.count(before, after);
        true
    }

    /// The post was answered.
    pub(in crate::shard) fn free_post(&mut self, to: ShardId, bytes: usize) {
        if let Some(lane) = self.lanes.get_mut(usize::from(to.0)) {
            let before = lane.crowding();
            let left = lane.posts.checked_sub(1).zip(lane.post_bytes.checked_sub(bytes));
            let Some(left) = left else { broken("a post frees its place once") };
            (lane.posts, lane.post_bytes) = left;
            let after = lane.crowding();
            self.count(before, after);
        }
    }

    fn count(&mut self, before: Crowding, after: Crowding) {
        if before == after {
            return;
        }
        for (count, level) in self.crowded.iter_mut().zip([Crowding::Half, Crowding::ThreeQuarters]) {
            *count = count.saturating_add_signed(i32::from(after >= level) - i32::from(before >= level));
        }
    }

    /// How full the fullest lane is of posts.
    pub(in crate::shard) const fn crowding(&self) -> Crowding {
        match self.crowded {
            [0, _] => Crowding::None,
            [_, 0] => Crowding::Half,
            _ => Crowding::ThreeQuarters,
        }
    }

    /// Posts under way to all homes.
    pub(in crate::shard) fn posts(&self) -> u32 {
        self.lanes.iter().map(|lane| lane.posts).sum()
    }
}

/// Bytes of a mark in a lane.
pub(in crate::shard) const MARK_BYTES: usize = size_of::<PeerMsg>();

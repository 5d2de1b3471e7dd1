//! The pulse of the shards: whether each of them turns.
//!
//! Never: waits for one shard after the other, nor longer than one deadline for all of them.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout_at};

use super::ShardAccess;
use crate::ids::ShardId;
use crate::limits;
use crate::shard::Notice;

/// The shards that do not answer [`Notice::Hello`] within [`limits::READY_MS_MAX`]: stuck, ended,
/// or with so many unanswered notices that they take no more. Takes as long as the slowest of them,
/// and at most that time.
pub async fn silent(homes: &dyn ShardAccess) -> Vec<ShardId> {
    let all: Vec<ShardId> = (0..homes.shards()).map(ShardId).collect();
    silent_of(homes, &all).await
}

/// As [`silent`], of some shards.
pub async fn silent_of(homes: &dyn ShardAccess, shards: &[ShardId]) -> Vec<ShardId> {
    // The runtime's own time: nothing else needs to agree with it.
    let deadline = sleep(Duration::from_millis(limits::READY_MS_MAX)).deadline();
    let asked: Vec<_> = shards
        .iter()
        .map(|&shard| {
            let (tell, told) = oneshot::channel();
            let then = Box::new(move |_| {
                // This fails when the receiver has gone.
                let _ = tell.send(());
            });
            let sent = homes.ask(shard, Notice::Hello, then);
            (shard, sent.map(|()| told))
        })
        .collect();
    let mut silent = Vec::new();
    for (shard, sent) in asked {
        let heard = match sent {
            Ok(told) => matches!(timeout_at(deadline, told).await, Ok(Ok(()))),
            Err(_) => false,
        };
        if !heard {
            silent.push(shard);
        }
    }
    silent
}

//! Taking back a message of one's own.
//!
//! Never: judges. The store does, in the transaction that blanks the message; the way there is that
//! of every message.

use super::Services;
use crate::ids::{Seq, UserId, shard_of};
use crate::shard::{Answer, Notice};
use crate::wire::{Reject, Target};

/// Recalls message `seq` of the conversation of `user` with `of`. Answers the place of the message
/// that says so.
///
/// # Errors
/// As the home refuses. [`Reject::Retry`]: recalled or not, nobody knows; asking again is
/// harmless.
pub async fn recall(services: &Services, user: UserId, of: Target, seq: Seq) -> Result<Seq, Reject> {
    let shard = shard_of(user, services.homes.shards());
    match services.notify(shard, Notice::Recall { user, of, seq }).await {
        Answer::Recalled { seq } => Ok(seq),
        Answer::Refused(why) => Err(why),
        Answer::Done
        | Answer::AsBefore
        | Answer::OwnerStays
        | Answer::Posted { .. }
        | Answer::Online { .. }
        | Answer::Roster { .. }
        | Answer::Sessions(_)
        | Answer::Ended { .. } => Err(Reject::Retry),
    }
}

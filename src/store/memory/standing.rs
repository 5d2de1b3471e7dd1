//! Where users stand: cursors, and a user's conversations with what is unread.
//!
//! Owns: the cursors, the order of conversations, the count of unread messages.
//! Never: iterates over conversations of other users.
//! Bounds: messages are counted as [`allot`] says; of many direct conversations the newest
//! [`HEADS_SCAN_MAX`] are looked at for what was missed.

use std::cmp::Reverse;
use std::ops::Bound;

use super::State;
use crate::ids::{ConvId, Seq, UserId};
use crate::limits::{HEADS_MAX, HEADS_SCAN_MAX, UNREAD_MAX};
use crate::store::newest::{is_shown, newest};
use crate::store::unread::allot;
use crate::store::{ConvState, Heads};

/// How far a user has come in one conversation.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursor {
    recv: Seq,
    read: Seq,
}

impl State {
    /// After which number `user` reads `conv`, as one of the pair or as a member.
    fn since_in(&self, conv: ConvId, user: UserId) -> Option<Seq> {
        match conv {
            ConvId::Direct { .. } => conv.is_between(user).then_some(Seq::ZERO),
            ConvId::Group(group) => self.judge_member(group, user).ok(),
        }
    }

    /// Keeps what is larger than before.
    pub(super) fn keep_cursor(&mut self, user: UserId, conv: ConvId, recv: Seq, read: Seq) {
        let cursor = self.cursors.entry((user, conv)).or_default();
        cursor.recv = cursor.recv.max(recv);
        cursor.read = cursor.read.max(read);
    }

    /// See [`crate::store::Read::Heads`].
    pub(super) fn heads(&self, user: UserId, before: Option<(u64, ConvId)>, missed: bool, max: u32) -> Heads {
        let max = max.clamp(1, HEADS_MAX) as usize;
        let until = before.map_or(Bound::Unbounded, Bound::Excluded);
        let directs =
            self.directs.get(&user).into_iter().flat_map(|directs| directs.range((Bound::Unbounded, until)).rev());
        let directs = directs.copied().take(if missed { HEADS_SCAN_MAX as usize } else { max + 1 });
        let groups = self.joined.get(&user).into_iter().flatten().filter(|group| self.group(**group).is_some());
        let groups = groups.map(|&group| ConvId::Group(group));
        let groups = groups.filter_map(|conv| Some((self.convs.get(&conv)?.newest_ms, conv)));
        let order = directs.chain(groups.filter(|&place| before.is_none_or(|before| place < before)));
        let lacks = |state: &ConvState| state.floor.max(state.recv.next()) <= state.head;
        let lacking = |&(_, conv): &(u64, ConvId)| self.stand(user, conv).as_ref().is_some_and(lacks);
        let mut order: Vec<(u64, ConvId)> = order.filter(|place| !missed || lacking(place)).collect();
        order.sort_unstable_by_key(|&place| Reverse(place));
        let more = order.len() > max;
        let mut convs: Vec<ConvState> =
            order.iter().take(max).filter_map(|&(_, conv)| self.stand(user, conv)).collect();
        let counts = allot(convs.iter());
        for (state, count) in convs.iter_mut().zip(counts) {
            let Some(kept) = self.convs.get(&state.conv) else { continue };
            let rows = kept.after(count.from.prev()).iter().take(count.looks as usize);
            let others = rows.filter(|row| row.sender != user && !kept.hidden.contains(&row.seq)).count() as u64;
            state.unread = (others + count.beyond).min(UNREAD_MAX);
            if !missed && is_shown(state) {
                let row = self.convs.get(&state.conv).and_then(|kept| kept.after(state.head.prev()).first());
                state.newest = row.map(|row| newest(row.id, row.ts_ms, row.sender, &row.body));
            }
        }
        Heads { convs, more, epoch: self.epoch }
    }

    /// Without what is unread.
    fn stand(&self, user: UserId, conv: ConvId) -> Option<ConvState> {
        let since = self.since_in(conv, user)?;
        let kept = self.convs.get(&conv)?;
        let cursor = self.cursors.get(&(user, conv)).copied().unwrap_or_default();
        let (recv, read) = (cursor.recv.max(since), cursor.read.max(since));
        let floor = kept.floor.max(since.next());
        Some(ConvState { conv, head: kept.head, ts_ms: kept.newest_ms, floor, recv, read, unread: 0, newest: None })
    }
}

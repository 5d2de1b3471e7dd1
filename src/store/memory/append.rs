//! Writes in memory: what [`decide`] must know, and what it has decided.
//!
//! Owns: the tables of messages, claims and memberships while a batch is applied.
//! Never: judges or numbers anything itself.

use std::sync::Arc;

use super::files::Referrer;
use super::{Conv, State};
use crate::ids::{ConvId, Seq};
use crate::store::changes::Note;
use crate::store::decide::{
    Claimed, ConvHead, Decided, GroupRules, Known, MemberChange, Placed, Recalled, appends, decide, joiners, left,
    movers, other_of, places, recalls,
};
use crate::store::{Error, Row, Rule, Seen, Write, Written};

impl State {
    /// See [`crate::store::Backend::commit`].
    pub(super) fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, Error> {
        let known = self.known(writes);
        let decided = decide(&known, writes, self.id_last + 1)?;
        let own = |place: &(ConvId, Seq)| !known.recalled.contains_key(place);
        let fresh: Vec<_> = decided.blanked.keys().copied().filter(own).collect();
        let Decided { written, messages, blanked, members, past, cursors, forgotten, .. } = decided;
        for placed in messages {
            let is_shown = !fresh.contains(&(placed.message.conv, placed.seq));
            self.insert(&placed, is_shown);
        }
        for ((conv, seq), blank) in blanked {
            self.blank(conv, seq, blank);
        }
        for (user, conv) in forgotten {
            self.cursors.remove(&(user, conv));
        }
        for ((user, conv), (recv, read)) in cursors {
            if self.living(user).is_some() {
                self.keep_cursor(user, conv, recv, read);
            }
        }
        for change in members {
            self.change_member(change);
        }
        for ((group, user), (since, until)) in past {
            self.past_members.insert((group, user), Seen { since, until: Some(until) });
        }
        Ok(written)
    }

    fn known<'a>(&self, writes: &'a [Write]) -> Known<'a> {
        let mut known = Known::default();
        for message in appends(writes) {
            if let ConvId::Direct { lo, hi } = message.conv {
                let other = other_of(lo, hi, message.sender);
                known.users.extend(self.living(other));
                known.blocks.extend(self.blocks.get(&(other, message.sender)));
            }
            if let Some(claimed) = self.claims.get(&(message.sender, message.key.clone())) {
                known.claims.insert((message.sender, &message.key), *claimed);
            }
        }
        for conv in writes.iter().map(Write::conv) {
            if let Some(kept) = self.convs.get(&conv) {
                known.heads.insert(conv, ConvHead { seq: kept.head, newest_ms: kept.newest_ms });
            }
        }
        for (group, user) in places(writes) {
            known
                .groups
                .extend(self.group(group).map(|row| (group, GroupRules { hidden: row.rule == Rule::Invitation })));
            known.members.extend(self.since(group, user).map(|since| ((group, user), since)));
            known.past.extend(self.past_members.get(&(group, user)).map(|_| (group, user)));
        }
        for group in left(writes) {
            known.owners.extend(self.group(group).map(|row| (group, row.owner)));
        }
        known.users.extend(movers(writes).into_iter().filter_map(|user| self.living(user)));
        for user in joiners(writes) {
            known.joined.insert(user, self.joined_count(user) as u64);
        }
        for recall in recalls(writes) {
            let place = (recall.message.conv, recall.seq);
            let kept = self.convs.get(&place.0).and_then(|kept| kept.after(place.1.prev()).first());
            if let Some(row) = kept.filter(|row| row.seq == place.1) {
                let found = Recalled { sender: row.sender, ts_ms: row.ts_ms, body: row.body.to_string() };
                known.recalled.insert(place, found);
            }
        }
        known
    }

    /// Keeps a message. `is_shown`: it is not recalled by the same batch, so that files in it are
    /// held.
    fn insert(&mut self, placed: &Placed<'_>, is_shown: bool) {
        let Placed { message, seq, id, hidden } = *placed;
        let (conv, ts_ms) = (message.conv, message.ts_ms);
        let row = Row { seq, id, ts_ms, sender: message.sender, body: Arc::clone(&message.body) };
        if let ConvId::Direct { lo, hi } = conv {
            let before = self.convs.get(&conv).map(|kept| kept.newest_ms);
            for user in [lo, hi] {
                let directs = self.directs.entry(user).or_default();
                before.into_iter().for_each(|ms| _ = directs.remove(&(ms, conv)));
                directs.insert((ts_ms, conv));
            }
        }
        let kept = self.convs.entry(conv).or_insert_with(|| Conv { floor: seq, ..Conv::default() });
        if is_shown {
            self.library.refer(Referrer::Message(conv, seq), &row.body);
        }
        kept.rows.push(row);
        if hidden {
            kept.hidden.insert(seq);
        }
        (kept.head, kept.newest_ms) = (seq, ts_ms);
        self.lately.stored(conv, seq);
        self.id_last = id.get();
        let claimed = Claimed { conv, seq, id, ts_ms };
        self.claims.insert((message.sender, message.key.clone()), claimed);
    }

    fn blank(&mut self, conv: ConvId, seq: Seq, blank: &str) {
        let Some(kept) = self.convs.get_mut(&conv) else { return };
        let Ok(at) = kept.rows.binary_search_by_key(&seq, |row| row.seq) else { return };
        let row = &mut kept.rows[at];
        row.body = blank.into();
        let sender = row.sender;
        kept.hidden.insert(seq);
        self.library.recall(conv, seq, sender);
    }

    fn change_member(&mut self, change: MemberChange) {
        let MemberChange { group, user, was, since } = change;
        if was {
            if let Some(members) = self.members.get_mut(&group) {
                members.remove(&user);
            }
            if let Some(joined) = self.joined.get_mut(&user) {
                joined.remove(&group);
            }
        }
        self.doors.moved(group, user);
        if let Some(since) = since {
            self.add_member(group, user, since);
        }
        self.note(user, Note::Member(group));
    }
}

//! The driver's half that obeys: every effect of a shard, acted upon at once and held against its contract.
//!
//! Owns: what `shard::effect` promises to the driver, checked: rooms, reserved asks, broadcasts to empty outboxes only, one answer for each notice.

use std::rc::Rc;

use imgate::ids::{ConnId, ShardId};
use imgate::limits::STORE_ASKS_MAX;
use imgate::shard::{Answer, Batch, Effect, FarOut, Form, Notice, PeerMsg, Whom};
use imgate::store::{Read, Write};
use imgate::wire::Reject;

use crate::world::{Checked, World, shard_id};

impl World {
    /// Acts upon one effect.
    pub(crate) fn obey(&mut self, node: usize, effect: Effect) -> Checked {
        match effect {
            Effect::Flush { conn } => {
                let (client, now_ms) = (self.holder(node, conn)?, self.now.mono_ms);
                self.link(client)?.mark_dirty(now_ms);
                Ok(())
            }
            Effect::Broadcast { batch, form, conns } => self.broadcast(node, &batch, form, conns),
            Effect::Pause { conn } => {
                let client = self.holder(node, conn)?;
                self.link(client)?.paused = true;
                Ok(())
            }
            Effect::Resume { conn } => {
                let client = self.holder(node, conn)?;
                let (step, heads) = (self.step, self.truth.heads());
                let moment = self.truth.moment(step, self.clients[client].user);
                let link = self.link(client)?;
                link.begun.get_or_insert(moment);
                link.paused = false;
                if link.resumed.is_some() {
                    return Ok(());
                }
                link.resumed = Some((step, heads));
                self.judge_devices(client)
            }
            Effect::Finish { conn, .. } => {
                let client = self.holder(node, conn)?;
                let now_ms = self.now.mono_ms;
                self.paces.ended(self.clients[client].user);
                let (overdrawn, step, has_no_place) = (self.overdrawn, self.step, self.has_no_place(client));
                let link = self.link(client)?;
                link.finished_step = step;
                link.replaced |= link.resumed.is_none() && has_no_place;
                link.overdrawn = overdrawn;
                link.starved_ms = if link.flush { now_ms - link.took_ms } else { 0 };
                if link.finished_ms.replace(now_ms).is_some() {
                    return Err(format!("contract: {conn:?} is finished twice"));
                }
                link.flush = true;
                Ok(())
            }
            Effect::Peer { to, msg } => self.send(node, to, msg),
            Effect::Far(FarOut::Row(row)) => {
                self.far.push(row);
                Ok(())
            }
            Effect::Far(FarOut::Word(word)) => {
                self.far_words.push(word);
                Ok(())
            }
            Effect::Far(FarOut::Census { users }) => Err(format!("contract: {users:?} were not asked for")),
            // Nobody here says what is kept nowhere; the gateways themselves do.
            Effect::Far(FarOut::Said(said)) => Err(format!("contract: {said:?} was never said")),
            Effect::Far(FarOut::Here { whom, on }) => {
                match whom {
                    Whom::User(user) => {
                        self.arrivals.insert(user, on);
                    }
                    Whom::Group(group) if on => {
                        self.members.insert(group);
                    }
                    Whom::Group(_) => {}
                }
                let count = self.here.entry(whom).or_default();
                *count = if on { Some(*count + 1) } else { count.checked_sub(1) }
                    .ok_or_else(|| format!("contract: {whom:?} goes more often than it comes"))?;
                Ok(())
            }
            Effect::Write { ask, write } => {
                self.reserve(node, ask)?;
                if let Write::Cursor { user, conv, recv, read } = write {
                    let head = self.truth.head(conv);
                    if recv.get().max(read.get()) > head {
                        return Err(format!(
                            "cursors: {user:?} has come to {recv:?} in {conv:?}, which ends at {head}"
                        ));
                    }
                    self.paces.moves(user, conv, self.now.mono_ms, Some((node, ask)))?;
                }
                self.database.write(shard_id(node), ask, write);
                Ok(())
            }
            Effect::Read { ask, read } => {
                self.reserve(node, ask)?;
                // Nobody else wants no more than the end of a conversation.
                if let Read::Page { conv, reader: Some(user), bytes_max: 1, .. } = read {
                    self.nodes[node].marks.insert(ask, (user, conv));
                }
                self.database.read(shard_id(node), ask, read);
                Ok(())
            }
            Effect::Offline { .. } | Effect::GroupStored { .. } => {
                Err("contract: nobody wants to hear of who is away".to_owned())
            }
            Effect::Answer { id, answer } => self.answered(id, answer),
        }
    }

    fn reserve(&mut self, node: usize, ask: u32) -> Checked {
        let asks = &mut self.nodes[node].asks;
        if !asks.insert(ask) {
            return Err(format!("contract: shard {node} asks the store twice under {ask}"));
        }
        if asks.len() > STORE_ASKS_MAX as usize {
            return Err(format!("bounds: shard {node} has {} asks outstanding", asks.len()));
        }
        Ok(())
    }

    fn send(&mut self, node: usize, to: ShardId, msg: PeerMsg) -> Checked {
        let target = usize::from(to.0);
        if target == node || target >= self.nodes.len() {
            return Err(format!("contract: shard {node} writes to {to:?}"));
        }
        if let PeerMsg::Cursor { user, conv, .. } = msg {
            self.paces.moves(user, conv, self.now.mono_ms, None)?;
        }
        if msg.is_deliver() {
            let bytes = msg.bytes();
            let room = &mut self.nodes[node].rooms[target];
            if room.0 == 0 || room.1 < bytes {
                return Err(format!(
                    "contract: shard {node} sends {bytes} bytes to {to:?}, whose lane has room for {room:?}"
                ));
            }
            *room = (room.0 - 1, room.1 - bytes);
        }
        self.lanes[node * self.nodes.len() + target].push_back(msg);
        Ok(())
    }

    fn broadcast(&mut self, node: usize, batch: &Rc<Batch>, form: Form, conns: Vec<ConnId>) -> Checked {
        let bytes = batch.bytes_as(form);
        self.nodes[node].largest = self.nodes[node].largest.max(bytes.len());
        for &conn in &conns {
            let client = self.holder(node, conn)?;
            let (calm, now_ms, frozen) = (self.calm, self.now.mono_ms, self.clients[client].frozen);
            let Some(link) = self.clients[client].link.as_mut() else { continue };
            let shard = &mut self.nodes[node].shard;
            if link.finished_ms.is_some() || shard.outbox(conn).is_some_and(|outbox| !outbox.is_empty()) {
                return Err(format!(
                    "contract: a broadcast to client {client}, which is finished or has something queued"
                ));
            }
            if form == Form::Deflated && link.deflate.is_none() {
                return Err(format!("contract: a compressed broadcast to client {client}, which did not ask for it"));
            }
            self.sights.deflated += u64::from(form == Form::Deflated);
            let take = link.takes(&mut self.random, calm, frozen, now_ms, bytes.len());
            if shard.broadcast_to(conn, batch, form).sent(take) {
                link.mark_dirty(now_ms);
            }
            self.receive(client, &bytes[..take])?;
        }
        self.nodes[node].effects.recycle(conns);
        Ok(())
    }

    /// The control plane hears the end of a notice.
    fn answered(&mut self, id: u64, answer: Answer) -> Checked {
        let Some(issued) = self.issued.get_mut(&id) else {
            return Err(format!("contract: an answer to no notice: {id}"));
        };
        if issued.answer.replace(answer.clone()).is_some() {
            return Err(format!("contract: notice {id} is answered twice"));
        }
        let (notice, given) = (issued.notice.clone(), issued.given_step.unwrap_or(u64::MAX));
        if matches!(answer, Answer::Refused(_)) {
            self.seen.notices_refused += 1;
        }
        if let Notice::Recall { user, of, seq } = notice {
            return self.recall_answered(user, of, seq.get(), answer);
        }
        let (Notice::Join { group, user } | Notice::Leave { group, user }) = notice else { return Ok(()) };
        let step = self.step;
        if let Some(standing) = self.standings.get_mut(&(group, user)) {
            standing.outstanding -= 1;
            standing.changed_step = step;
            match answer {
                Answer::Done | Answer::AsBefore => {
                    standing.doubt_step = standing.doubt_step.filter(|&doubt| given <= doubt);
                }
                Answer::Refused(_) => standing.doubt_step = Some(step),
                Answer::OwnerStays if self.truth.is_owner(group, user) => {}
                Answer::OwnerStays => return Err(format!("contract: {user} may leave {group}")),
                Answer::Recalled { .. }
                | Answer::Posted { .. }
                | Answer::Online { .. }
                | Answer::Roster { .. }
                | Answer::Sessions(_)
                | Answer::Ended { .. } => {
                    return Err(format!("contract: notice {id} asked for no recall"));
                }
            }
        }
        if matches!(answer, Answer::Done | Answer::AsBefore) {
            self.truth.told(group, user, matches!(notice, Notice::Join { .. }), given);
        }
        let lawful = [Reject::Busy, Reject::Retry, Reject::NoSuchGroup, Reject::NoSuchUser, Reject::Stopping];
        match answer {
            Answer::Refused(reject) if !lawful.contains(&reject) => {
                Err(format!("notice {id} is refused with {reject:?}"))
            }
            _ => Ok(()),
        }
    }
}

//! What one gateway says to the others and makes of what they say: a pure state machine.
//!
//! Owns: which gateways live; which rows and heads go to which shard; the digest: which gateway
//! reads what the database has got lately, up to where this gateway knows everything, and when it
//! has to look for itself. The bus is a hint and the digest is the promise: whatever the bus loses,
//! every gateway hears of it from a digest, its own or another's.
//! Never: a socket, a clock, a thread. Time and bytes are arguments, as with a shard.
//! Bounds: [`NODES_MAX`] gateways, [`crate::limits::FAR_HEADS_MAX`] heads that wait for room at a
//! shard; beyond it the database is asked again.
//!
//! Before a gateway says anything it asks whether its number is another's already (`admission`).
//! What is said goes where it concerns a user or a member (`routing`).
//!
//! The live gateway with the lowest number reads the digest; the others take over, each in its
//! turn, when they hear none. Two at once are harmless, so nothing is agreed upon. A gateway that
//! hears no other is the lowest that it knows.

mod admission;
mod peers;
mod routing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::clock::Now;
use crate::cluster::addresses::Addresses;
use crate::cluster::clocks::Clocks;
use crate::cluster::envelope::{Digest, Envelope, From, Item, To};
use crate::cluster::exchange::admission::Admission;
use crate::cluster::exchange::peers::Peer;
use crate::cluster::waiting::Waiting;
use crate::cluster::whereabouts::Whereabouts;
use crate::fair::Departures;
use crate::ids::{ConvId, GroupId, NodeId, ShardId, UserId, home_of, shard_of};
use crate::limits::{
    DEPARTED_MAX, DEPARTED_MS, DIGEST_ALONE_MS_MAX, DIGEST_ALONE_MS_PER_NODE, DIGEST_ANSWER_MS, DIGEST_BACK_S,
    DIGEST_DEEP_MS, DIGEST_DEEP_S, DIGEST_HOLE_S_MAX, DIGEST_LATE_MS, DIGEST_MS, HEARTBEAT_MS, NODE_SILENT_MS,
    NODES_MAX, PRESENCE_GONE_MS,
};
use crate::metrics::cluster::ExchangeCounts;
use crate::shard::{FarIn, FarRow, FarSaid, FarWord, Whom};
use crate::store::{Recent, RecentConv, Since};

/// What happens to an exchange.
#[derive(Debug)]
pub enum In {
    /// Shards here have got messages stored.
    Rows(Vec<Box<FarRow>>),
    /// Shards here have something to say that may be lost.
    Words(Vec<FarWord>),
    /// Something was said here that is kept nowhere.
    Said(Vec<Box<FarSaid>>),
    /// Users have got their first session here, or have none any more.
    Arrivals(Vec<(UserId, bool)>),
    /// These users have a session on that shard here, and no others of it.
    Everybody(ShardId, Vec<UserId>),
    /// First members of these groups have come to a shard here; without one: perhaps of any group.
    MembersCame(Vec<GroupId>),
    /// The control plane has changed what other gateways follow in the database.
    Changed,
    /// Another gateway speaks.
    Heard(Envelope),
    /// The bus is connected, or not any more.
    Bus { up: bool },
    /// Whether it is connected and does not bring what is said to this gateway; before each tick.
    Deaf { on: bool },
    /// Something of the bus was dropped before it could be read.
    Lost,
    /// The database has answered the scan of that number, or has not.
    Scanned { scan: u64, answer: Option<Recent> },
    /// A shard had no room for it.
    Refused(ShardId, FarIn),
    /// So much room is at a shard for which something waits ([`Exchange::waits_for`]).
    Room(ShardId, usize),
    /// Time passes; to be given every [`crate::limits::CLUSTER_TICK_MS`].
    Tick,
    /// This gateway stops.
    Stop,
}

/// What an exchange wants done.
#[derive(Debug)]
pub enum Out {
    /// Say it to all others, or to one.
    Publish(To, From, Vec<Item>),
    /// Give it to a shard, or say [`In::Refused`].
    Give(ShardId, FarIn),
    /// The control plane is to look now what others have changed.
    Look,
    /// Ask the database ([`crate::store::Backend::recent`]); the answer has the same number.
    Scan { scan: u64, since: Since, after: u64 },
}

/// A scan under way.
#[derive(Debug)]
struct Scan {
    number: u64,
    began_ms: u64,
    /// When the database was asked last.
    asked_ms: u64,
    /// Where it begins and ends, once the database has said that.
    span: Option<(u64, u64)>,
    piece: u16,
}

/// Whether a session of a user, or of a member of a group, may be here.
pub type IsHere<'a> = &'a dyn Fn(Whom) -> bool;

/// A rule to break. Only `tests/simulation.rs` sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlantedFault {
    /// Silence of the others is not noticed.
    ForgottenIsolation,
    /// Users of a gateway that is gone stay online.
    GhostPresence,
    /// What may be lost is lost always.
    UnheardWords,
    /// Where a member has come to another gateway, what is said is not sent there.
    StaleAddress,
    /// A scan goes back no further than the last one, so that late commits are missed.
    ShortScan,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Exchange {
    me: From,
    admission: Admission,
    shards: u16,
    fault: Option<PlantedFault>,
    /// Once the database has said it.
    epoch: Option<u64>,
    peers: BTreeMap<u16, Peer>,
    up: bool,
    /// Nothing that others say comes here.
    alone: bool,
    /// When that began or ended last, or this gateway had stood still: before that no other one
    /// could be heard.
    turned_ms: u64,
    /// When the last tick came.
    ticked_ms: u64,
    hello_ms: u64,
    /// Everything that was stored up to this second is known here, but for late commits.
    covered_s: Option<u64>,
    covered_ms: u64,
    /// When a digest of a gateway before this one was complete.
    digest_ms: u64,
    scan: Option<Scan>,
    scans: u64,
    next_scan_ms: u64,
    deep_ms: u64,
    /// A scan is due whoever reads the digest, and goes back far.
    hole: bool,
    /// What shards had no room for.
    waiting: Waiting,
    whereabouts: Whereabouts,
    /// Users of this gateway whom others may still take for such.
    departures: Departures<UserId>,
    clocks: Clocks,
    /// As the shards know it.
    told_ahead_ms: u64,
    addresses: Addresses,
    counts: ExchangeCounts,
}

impl Exchange {
    /// Of the gateway `node`, started as `boot` at `now`, with so many shards.
    #[must_use]
    pub fn new(node: NodeId, boot: u64, shards: u16, now: Now, fault: Option<PlantedFault>) -> Self {
        let me = From { node: node.0, boot, count: 0, sent_ms: 0, epoch: 0 };
        Self {
            me,
            admission: Admission::Asking(None),
            shards,
            fault,
            epoch: None,
            peers: BTreeMap::new(),
            up: false,
            alone: true,
            turned_ms: now.mono_ms,
            ticked_ms: now.mono_ms,
            hello_ms: now.mono_ms,
            covered_s: None,
            covered_ms: now.mono_ms,
            digest_ms: now.mono_ms,
            scan: None,
            scans: 0,
            next_scan_ms: now.mono_ms,
            deep_ms: now.mono_ms,
            hole: true,
            waiting: Waiting::new(shards),
            whereabouts: Whereabouts::new(shards),
            departures: Departures::new(DEPARTED_MS, DEPARTED_MAX),
            clocks: Clocks::default(),
            told_ahead_ms: 0,
            addresses: Addresses::default(),
            counts: ExchangeCounts::default(),
        }
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counts(&self) -> ExchangeCounts {
        let (elsewhere, crowded) = (self.whereabouts.len() as u64, self.whereabouts.crowded);
        ExchangeCounts { elsewhere, users_crowded: crowded, ..self.counts }
    }

    /// This gateway's number.
    #[must_use]
    pub const fn node(&self) -> u16 {
        self.me.node
    }

    /// Gateways that live, this one included.
    #[must_use]
    pub fn nodes(&self, now: Now) -> usize {
        1 + self.live(now).count()
    }

    /// Milliseconds since everything that was stored before was known here.
    #[must_use]
    pub const fn age_ms(&self, now: Now) -> u64 {
        now.mono_ms.saturating_sub(self.covered_ms)
    }

    /// Whether something waits for room at a shard; [`In::Room`] gives it.
    #[must_use]
    pub fn waits_for(&self, shard: ShardId) -> bool {
        self.waiting.is_for(shard) || self.whereabouts.waits_for(shard)
    }

    /// One thing happens.
    pub fn step(&mut self, now: Now, what: In, is_here: IsHere<'_>, out: &mut Vec<Out>) {
        match what {
            In::Rows(rows) => self.tell(now, rows, out),
            In::Words(words) => self.tell_words(now, words, out),
            In::Said(said) => self.tell_said(now, said, out),
            In::Changed => self.publish(now, To::All, vec![Item::Changed], out),
            In::Everybody(shard, users) => {
                let rows = self.whereabouts.compared(shard, &users);
                self.step(now, In::Arrivals(rows), is_here, out);
            }
            In::Arrivals(rows) => {
                for &(user, _) in rows.iter().filter(|(_, on)| !on) {
                    self.departures.note(user, now.mono_ms);
                }
                for item in self.whereabouts.changed(&rows) {
                    self.publish(now, To::All, vec![item], out);
                }
            }
            In::MembersCame(groups) => {
                for item in self.whereabouts.members_came(&groups) {
                    self.publish(now, To::All, vec![item], out);
                }
            }
            In::Heard(envelope) => self.heard(now, envelope, is_here, out),
            In::Bus { up } => self.bus(now, up, out),
            In::Deaf { on } => {
                // It may be one of two connections: another gateway that is heard says so.
                let alone = !self.up || (on && self.live(now).next().is_none());
                self.set_alone(now, alone, out);
            }
            In::Lost => self.hole = true,
            In::Scanned { scan, answer } => self.scanned(now, scan, answer, is_here, out),
            In::Refused(shard, far) => self.refused(shard, far),
            In::Room(shard, most) => {
                let users = (most > 0).then(|| self.whereabouts.take_untold(shard)).flatten();
                let heads = self.waiting.take(shard, most - users.iter().len().min(most));
                out.extend(users.map(|users| Out::Give(shard, users)));
                out.extend(heads.into_iter().map(|head| give_head(shard, head)));
            }
            In::Tick => self.tick(now, is_here, out),
            In::Stop => self.publish(now, To::All, vec![Item::Bye], out),
        }
    }

    fn has_fault(&self, fault: PlantedFault) -> bool {
        self.fault == Some(fault)
    }

    fn live(&self, now: Now) -> impl Iterator<Item = u16> {
        let since_ms = now.mono_ms.saturating_sub(NODE_SILENT_MS);
        self.peers.iter().filter(move |(_, peer)| !peer.gone && peer.heard_ms >= since_ms).map(|(&node, _)| node)
    }

    fn bus(&mut self, now: Now, up: bool, out: &mut Vec<Out>) {
        let was_away = up && !self.up;
        self.up = up;
        if was_away && self.alone {
            self.doubt_admission(now.mono_ms.saturating_sub(self.turned_ms));
        }
        self.set_alone(now, !up, out);
        if up {
            self.hello_ms = now.mono_ms;
        } else if matches!(self.admission, Admission::Asking(_)) {
            // Whoever was to answer may not have heard.
            self.admission = Admission::Asking(None);
        }
    }

    fn set_alone(&mut self, now: Now, alone: bool, out: &mut Vec<Out>) {
        if std::mem::replace(&mut self.alone, alone) != alone {
            self.turned_ms = now.mono_ms;
            self.give_alone(out);
        }
    }

    // ---- what is said ---------------------------------------------------------------------------

    /// Whether the others hear what this gateway says: until the database has said which it is, and
    /// while another gateway may have this number, there is nothing to say.
    fn may_speak(&self) -> bool {
        self.up && self.epoch.is_some() && self.admission == Admission::Given
    }

    fn publish(&mut self, now: Now, to: To, items: Vec<Item>, out: &mut Vec<Out>) {
        if self.may_speak() {
            self.publish_anyhow(now, to, items, out);
        }
    }

    fn publish_anyhow(&mut self, now: Now, to: To, items: Vec<Item>, out: &mut Vec<Out>) {
        let Some(epoch) = self.epoch.filter(|_| self.up) else { return };
        self.me.count += 1;
        out.push(Out::Publish(to, From { sent_ms: now.wall_ms, epoch, ..self.me }, items));
    }

    // ---- what others say ------------------------------------------------------------------------

    fn heard(&mut self, now: Now, envelope: Envelope, is_here: IsHere<'_>, out: &mut Vec<Out>) {
        let from = envelope.from;
        if from.node == self.me.node {
            return self.twin(now, &envelope, out);
        }
        // A gateway that only asks for a number is not one of the others yet, and may not become
        // one.
        if envelope.items == [Item::Start] || !self.is_believed(now, &from, envelope.to) {
            return;
        }
        let before = self.whereabouts.known(from.node);
        self.counts.unknown += u64::from(envelope.unknown);
        for item in envelope.items {
            match item {
                Item::Row(row) => {
                    self.answer_if_vain(from.node, row.conv, is_here);
                    if self.may_concern(now, is_here, row.conv) {
                        self.counts.rows_in += 1;
                        out.push(Out::Give(home_of(row.conv, self.shards), FarIn::Row(row)));
                    } else {
                        self.counts.filtered += 1;
                    }
                }
                Item::Word(word) => {
                    if let FarWord::GroupHint { group } | FarWord::Typing { conv: ConvId::Group(group), .. } = &word {
                        self.answer_if_vain(from.node, ConvId::Group(*group), is_here);
                    }
                    self.hear_word(word, is_here, out);
                }
                Item::Said(said) => self.hear_said(said, is_here, out),
                Item::Digest(digest) => self.digest(now, from.node, &digest, is_here, out),
                Item::Presence { number, rows } => {
                    let told = self.whereabouts.heard((from.node, from.boot), number, &rows);
                    out.extend(told.into_iter().map(|(shard, far)| Out::Give(shard, far)));
                    let come = rows.iter().filter(|(_, on)| *on).map(|&(user, _)| Whom::User(user));
                    self.catch_up(now, from.node, come, out);
                }
                Item::MembersHere { number, groups } => {
                    self.whereabouts.heard_members((from.node, from.boot), number);
                    self.members_came(now, from.node, &groups, out);
                }
                Item::NotHere { number, groups } => {
                    // It is of another moment, if more has been said since: it is answered again.
                    let peer = self.peers.get(&from.node).map(|peer| peer.place);
                    if let Some(place) = peer.filter(|_| self.whereabouts.has_heard((from.node, from.boot), number)) {
                        self.addresses.are_away(&groups, place);
                    }
                }
                Item::Listed(listed) => {
                    let told = self.whereabouts.listed(now, (from.node, from.boot), &listed);
                    out.extend(told.into_iter().map(|(shard, far)| Out::Give(shard, far)));
                    self.catch_up(now, from.node, listed.users.iter().map(|&user| Whom::User(user)), out);
                }
                Item::WhoIsThere { node } if node == self.me.node => self.whereabouts.tell_list(),
                Item::WhoIsThere { .. } => {}
                Item::Changed => out.push(Out::Look),
                Item::Hello | Item::Start | Item::Taken { .. } => {}
                Item::Bye => {
                    if let Some(peer) = self.peers.get_mut(&from.node) {
                        peer.gone = true;
                    }
                }
            }
        }
        self.note_known(from.node, before);
    }

    /// Another gateway sends here what is said in a group, and no member of it is here.
    fn answer_if_vain(&mut self, node: u16, conv: ConvId, is_here: IsHere<'_>) {
        if let ConvId::Group(group) = conv
            && !is_here(Whom::Group(group))
        {
            self.addresses.answer(node, group);
        }
    }

    /// Gives a word to the shards that a session here would have told it to.
    fn hear_word(&mut self, word: FarWord, is_here: IsHere<'_>, out: &mut Vec<Out>) {
        let (concerned, to) = match word {
            FarWord::Cursor { user, conv: ConvId::Group(_), .. }
            | FarWord::Hint { user, .. }
            | FarWord::Disconnect { user }
            | FarWord::Devices { user, .. } => (is_here(Whom::User(user)), Some(user)),
            FarWord::Cursor { user, conv, .. } | FarWord::Typing { user, conv } => {
                (concerns(is_here, conv), Some(user))
            }
            FarWord::GroupHint { group } => (is_here(Whom::Group(group)), None),
        };
        if !concerned || self.has_fault(PlantedFault::UnheardWords) {
            self.counts.filtered += 1;
            return;
        }
        self.counts.words_in += 1;
        match to {
            Some(user) => out.push(Out::Give(shard_of(user, self.shards), FarIn::Word(word))),
            None => out.extend((0..self.shards).map(|shard| Out::Give(ShardId(shard), FarIn::Word(word.clone())))),
        }
    }

    fn hear_said(&mut self, said: Box<FarSaid>, is_here: IsHere<'_>, out: &mut Vec<Out>) {
        if said.to_all {
            self.counts.said_in += 1;
            out.extend((0..self.shards).map(|shard| Out::Give(ShardId(shard), FarIn::Said(said.clone()))));
        } else if concerns(is_here, said.conv) {
            self.counts.said_in += 1;
            out.push(Out::Give(home_of(said.conv, self.shards), FarIn::Said(said)));
        } else {
            self.counts.filtered += 1;
        }
    }

    /// Whether an envelope is of another gateway of this database, and new.
    fn is_believed(&mut self, now: Now, from: &From, to: To) -> bool {
        let way = usize::from(to != To::All);
        if way == 1 && to != To::Node(self.me.node) {
            self.counts.stale += 1;
            return false;
        }
        if self.epoch != Some(from.epoch) {
            self.counts.foreign += 1;
            return false;
        }
        let full = self.peers.len() >= NODES_MAX && !self.peers.contains_key(&from.node);
        if full {
            self.counts.crowded += 1;
            return false;
        }
        let place = u16::try_from(self.peers.len()).unwrap_or(u16::MAX);
        let peer = self.peers.entry(from.node).or_insert_with(|| Peer::new(from.boot, place));
        if !peer.believes(now, from, way) {
            self.counts.stale += 1;
            return false;
        }
        self.clocks.heard(now, from.node, from.sent_ms);
        true
    }

    fn digest(&mut self, now: Now, node: u16, digest: &Digest, is_here: IsHere<'_>, out: &mut Vec<Out>) {
        self.give_heads(now, &digest.heads, is_here, out);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let is_next = digest.piece == 0 || peer.pieces == Some((digest.to_s, digest.piece));
        peer.pieces = (is_next && !digest.last).then(|| (digest.to_s, digest.piece.saturating_add(1)));
        if !is_next || !digest.last {
            return;
        }
        self.counts.digests += 1;
        if node < self.me.node {
            self.digest_ms = now.mono_ms;
        }
        // It must go back as far as our own would.
        match self.covered_s {
            Some(covered_s) if digest.from_s.saturating_add(DIGEST_BACK_S.into()) <= covered_s => {
                self.cover(now.mono_ms, digest.to_s, out);
            }
            _ => self.hole = true,
        }
    }

    /// Everything up to that second is known.
    fn cover(&mut self, at_ms: u64, to_s: u64, out: &mut Vec<Out>) {
        // The clock of a database that took over may be behind.
        let set_back = self.covered_s.is_some_and(|covered_s| to_s.saturating_add(DIGEST_DEEP_S.into()) < covered_s);
        self.covered_s = Some(if set_back { to_s } else { self.covered_s.unwrap_or(0).max(to_s) });
        self.covered_ms = self.covered_ms.max(at_ms);
        out.extend((0..self.shards).map(|shard| Out::Give(ShardId(shard), FarIn::Covered)));
        self.give_ahead(out);
        self.give_alone(out);
    }

    /// Tells all shards whether the bus is away, or brings nothing.
    fn give_alone(&self, out: &mut Vec<Out>) {
        let on = self.alone;
        out.extend((0..self.shards).map(|shard| Out::Give(ShardId(shard), FarIn::Alone { on })));
    }

    /// Tells all shards how far the most advanced clock is ahead.
    fn give_ahead(&mut self, out: &mut Vec<Out>) {
        self.told_ahead_ms = self.clocks.ahead_ms();
        let ms = self.told_ahead_ms;
        out.extend((0..self.shards).map(|shard| Out::Give(ShardId(shard), FarIn::Ahead { ms })));
    }

    /// Whether a message may concern a session here, or be one of which others leave it to this
    /// gateway to tell that its recipient was away.
    fn may_concern(&self, now: Now, is_here: IsHere<'_>, conv: ConvId) -> bool {
        concerns(is_here, conv) || self.is_of_ours(now, conv)
    }

    /// Whether it is direct, and one of its users is here, or was a moment ago.
    fn is_of_ours(&self, now: Now, conv: ConvId) -> bool {
        let was_here = |user| self.whereabouts.is_mine(user) || self.departures.has(user, now.mono_ms);
        matches!(conv, ConvId::Direct { lo, hi } if was_here(lo) || was_here(hi))
    }

    /// Direct ones by what is known exactly: `is_here` may say yes where no user is, and such a
    /// head costs a read of the database and counts as what the bus has lost. A user that came
    /// within the last tick is not known yet; what is lacking there is read at open, or with the
    /// next digest, which goes back further than this one.
    fn give_heads(&mut self, now: Now, heads: &[RecentConv], is_here: IsHere<'_>, out: &mut Vec<Out>) {
        for &head in heads {
            let concerned = match head.conv {
                ConvId::Direct { .. } => self.is_of_ours(now, head.conv),
                ConvId::Group(group) => is_here(Whom::Group(group)),
            };
            if concerned {
                out.push(give_head(home_of(head.conv, self.shards), head));
            } else {
                self.counts.filtered += 1;
            }
        }
    }

    // ---- what shards had no room for ------------------------------------------------------------

    fn refused(&mut self, shard: ShardId, far: FarIn) {
        let head = match far {
            FarIn::Row(row) => RecentConv { conv: row.conv, lowest: row.row.seq, newest: row.row.seq },
            FarIn::Head { conv, lowest, newest } => RecentConv { conv, lowest, newest },
            FarIn::Elsewhere { rows } => return self.whereabouts.refused(shard, &rows),
            FarIn::Word(_) => {
                self.counts.words_dropped += 1;
                return;
            }
            FarIn::Said(_) => {
                self.counts.said_dropped += 1;
                return;
            }
            FarIn::Covered | FarIn::Census | FarIn::Ahead { .. } | FarIn::Alone { .. } => {
                self.counts.refused += 1;
                return;
            }
        };
        self.counts.refused += 1;
        self.hole |= !self.waiting.keep(shard, head);
    }

    // ---- time -----------------------------------------------------------------------------------

    fn tick(&mut self, now: Now, is_here: IsHere<'_>, out: &mut Vec<Out>) {
        let stood_ms = now.mono_ms.saturating_sub(std::mem::replace(&mut self.ticked_ms, now.mono_ms));
        if stood_ms > NODE_SILENT_MS {
            // What the others have said meanwhile is yet to be read.
            self.turned_ms = now.mono_ms;
            self.doubt_admission(stood_ms);
        }
        self.ask_admission(now, out);
        if now.mono_ms >= self.hello_ms && self.up {
            self.hello_ms = now.mono_ms + HEARTBEAT_MS;
            self.publish(now, To::All, vec![Item::Hello, self.whereabouts.count()], out);
        }
        if self.may_speak() {
            self.tend_whereabouts(now, out);
            self.answer_in_vain(now, is_here, out);
        }
        self.addresses.tidy(now.mono_ms);
        if self.clocks.ahead_ms() > self.told_ahead_ms {
            self.give_ahead(out);
        }
        if self.scan.as_ref().is_some_and(|scan| scan.asked_ms + DIGEST_ANSWER_MS <= now.mono_ms) {
            self.scan_failed(now);
        }
        if self.scan.is_none() && now.mono_ms >= self.next_scan_ms && (self.hole || self.reads_digest(now)) {
            self.begin_scan(now, out);
        }
    }

    /// Tells what was asked for, asks for what is lacking, and forgets users that are gone. Without
    /// a bus, or with one that brings nothing, everybody stays where they were heard of last.
    fn tend_whereabouts(&mut self, now: Now, out: &mut Vec<Out>) {
        if let Some(piece) = self.whereabouts.next_piece() {
            self.publish(now, To::All, vec![piece], out);
        }
        let live: Vec<_> = self.live(now).filter_map(|node| Some((node, self.peers.get(&node)?.boot))).collect();
        let asks = self.whereabouts.asks(now, live.into_iter());
        for (node, ask) in asks {
            self.publish(now, To::Node(node), vec![ask], out);
        }
        let is_silent = |peer: &Peer| peer.heard_ms.max(self.turned_ms) + PRESENCE_GONE_MS <= now.mono_ms;
        let gone: Vec<u16> = self.peers.iter().filter(|(_, peer)| is_silent(peer)).map(|(&node, _)| node).collect();
        let ghosts = self.has_fault(PlantedFault::GhostPresence);
        for node in gone.into_iter().filter(|_| !ghosts && !self.alone) {
            let told = self.whereabouts.forget(node);
            out.extend(told.into_iter().map(|(shard, far)| Out::Give(shard, far)));
        }
    }

    /// Whether no other gateway reads the digest for this one.
    fn reads_digest(&self, now: Now) -> bool {
        if self.has_fault(PlantedFault::ForgottenIsolation) {
            return self.peers.keys().all(|node| *node > self.me.node);
        }
        let is_first = self.live(now).all(|node| node > self.me.node);
        is_first || !self.up || self.digest_ms + DIGEST_LATE_MS <= now.mono_ms
    }

    /// Pause between two scans: a gateway that scans for itself leaves the database to the others,
    /// too.
    fn pause_ms(&self, now: Now) -> u64 {
        if self.up && self.live(now).next().is_some() {
            return DIGEST_MS;
        }
        (DIGEST_ALONE_MS_PER_NODE * (self.peers.len() as u64 + 1)).clamp(DIGEST_MS, DIGEST_ALONE_MS_MAX)
    }

    fn begin_scan(&mut self, now: Now, out: &mut Vec<Out>) {
        let deep = self.hole || now.mono_ms >= self.deep_ms;
        if deep {
            self.deep_ms = now.mono_ms + DIGEST_DEEP_MS;
        }
        if self.hole && self.covered_s.is_some() {
            self.counts.holes += 1;
        }
        self.hole = false;
        let back_s = match self.fault {
            Some(PlantedFault::ShortScan) => 0,
            _ if deep => DIGEST_DEEP_S,
            _ => DIGEST_BACK_S,
        };
        let known = self.covered_s.filter(|_| self.age_ms(now) < u64::from(DIGEST_HOLE_S_MAX) * 1000);
        let since = match known {
            Some(covered_s) => Since::At(covered_s.saturating_sub(back_s.into())),
            None if self.covered_s.is_some() => Since::Ago(DIGEST_HOLE_S_MAX),
            // At the start: what was stored while nothing was answered.
            None => {
                let up_s = u32::try_from(self.age_ms(now) / 1000).unwrap_or(u32::MAX);
                Since::Ago(up_s.saturating_add(DIGEST_DEEP_S).min(DIGEST_HOLE_S_MAX))
            }
        };
        self.scans += 1;
        let ms = now.mono_ms;
        self.scan = Some(Scan { number: self.scans, began_ms: ms, asked_ms: ms, span: None, piece: 0 });
        self.next_scan_ms = ms + self.pause_ms(now);
        out.push(Out::Scan { scan: self.scans, since, after: 0 });
    }

    fn scan_failed(&mut self, now: Now) {
        self.counts.scans_failed += 1;
        self.scan = None;
        self.next_scan_ms = now.mono_ms + self.pause_ms(now);
        // Whatever it was to find is looked for again.
        self.deep_ms = now.mono_ms;
    }

    fn scanned(&mut self, now: Now, number: u64, answer: Option<Recent>, is_here: IsHere<'_>, out: &mut Vec<Out>) {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.number == number) else { return };
        let Some(recent) = answer else { return self.scan_failed(now) };
        let (from_s, to_s) = *scan.span.get_or_insert((recent.from_s, recent.now_s));
        let (piece, began_ms) = (scan.piece, scan.began_ms);
        scan.piece = scan.piece.saturating_add(1);
        scan.asked_ms = now.mono_ms;
        self.counts.scans += 1;
        if self.epoch.replace(recent.epoch).is_some_and(|epoch| epoch != recent.epoch) {
            // Restored: what others said of the one before is void.
            let nodes: Vec<u16> = self.peers.keys().copied().collect();
            self.peers.clear();
            self.addresses = Addresses::default();
            for node in nodes {
                let told = self.whereabouts.forget(node);
                out.extend(told.into_iter().map(|(shard, far)| Out::Give(shard, far)));
            }
        }
        self.give_heads(now, &recent.list, is_here, out);
        let last = recent.next.is_none();
        self.publish(now, To::All, vec![Item::Digest(Digest { from_s, to_s, piece, last, heads: recent.list })], out);
        match recent.next {
            Some(after) => out.push(Out::Scan { scan: number, since: Since::At(from_s), after }),
            None => {
                self.scan = None;
                self.cover(began_ms, to_s, out);
            }
        }
    }
}

/// Whether a conversation may concern a session here.
fn concerns(is_here: IsHere<'_>, conv: ConvId) -> bool {
    match conv {
        ConvId::Direct { lo, hi } => is_here(Whom::User(lo)) || is_here(Whom::User(hi)),
        ConvId::Group(group) => is_here(Whom::Group(group)),
    }
}

fn give_head(shard: ShardId, RecentConv { conv, lowest, newest }: RecentConv) -> Out {
    Out::Give(shard, FarIn::Head { conv, lowest, newest })
}

//! What one gateway says to the others and makes of what they say: a pure state machine.
//!
//! Owns: which gateways live; which rows and heads go to which shard; the digest: which gateway
//! reads what the database has got lately, up to where this gateway knows everything, and when it
//! has to look for itself. The bus is a hint and the digest is the promise: whatever the bus loses,
//! every gateway hears of it from a digest, its own or another's.
//! Never: a socket, a clock, a thread. Time and bytes are arguments, as with a shard.
//! Bounds: [`NODES_MAX`] gateways, [`FAR_HEADS_MAX`] heads that wait for room at a shard; beyond it
//! the database is asked again.
//!
//! The live gateway with the lowest number reads the digest; the others take over, each in its
//! turn, when they hear none. Two at once are harmless, so nothing is agreed upon. A gateway that
//! hears no other is the lowest that it knows.

use std::collections::BTreeMap;

use crate::clock::Now;
use crate::cluster::envelope::{self, Digest, Envelope, From, Item};
use crate::ids::{ConvId, NodeId, Seq, ShardId, home_of};
use crate::limits::{
    DIGEST_ALONE_MS_MAX, DIGEST_ALONE_MS_PER_NODE, DIGEST_ANSWER_MS, DIGEST_BACK_S, DIGEST_DEEP_MS, DIGEST_DEEP_S,
    DIGEST_HOLE_S_MAX, DIGEST_LATE_MS, DIGEST_MS, ENVELOPE_FILL_BYTES, ENVELOPE_OLD_MS, FAR_HEADS_MAX, HEARTBEAT_MS,
    NODE_SILENT_MS, NODES_MAX, TURN_FAR_MAX,
};
use crate::metrics::cluster::ExchangeCounts;
use crate::shard::{FarIn, FarRow};
use crate::store::{Recent, RecentConv, Since};

/// What happens to an exchange.
#[derive(Debug)]
pub enum In {
    /// Shards here have got messages stored.
    Rows(Vec<Box<FarRow>>),
    /// Another gateway speaks.
    Heard(Envelope),
    /// The bus is connected, or not any more.
    Bus { up: bool },
    /// Something of the bus was dropped before it could be read.
    Lost,
    /// The database has answered the scan of that number, or has not.
    Scanned { scan: u64, answer: Option<Recent> },
    /// A shard had no room for it.
    Refused(ShardId, FarIn),
    /// Time passes; to be given every [`crate::limits::CLUSTER_TICK_MS`].
    Tick,
    /// This gateway stops.
    Stop,
}

/// What an exchange wants done.
#[derive(Debug)]
pub enum Out {
    /// Say it to all others.
    Publish(From, Vec<Item>),
    /// Give it to a shard, or say [`In::Refused`].
    Give(ShardId, FarIn),
    /// Ask the database ([`crate::store::Backend::recent`]); the answer has the same number.
    Scan { scan: u64, since: Since, after: u64 },
}

/// Another gateway.
#[derive(Debug)]
struct Peer {
    boot: u64,
    count: u64,
    sent_ms: u64,
    heard_ms: u64,
    gone: bool,
    /// The digest that comes in pieces: its end, and the next piece.
    pieces: Option<(u64, u16)>,
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

/// A rule to break. Only `tests/simulation.rs` sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlantedFault {
    /// Silence of the others is not noticed.
    ForgottenIsolation,
    /// A scan goes back no further than the last one, so that late commits are missed.
    ShortScan,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Exchange {
    me: From,
    shards: u16,
    fault: Option<PlantedFault>,
    /// Once the database has said it.
    epoch: Option<u64>,
    peers: BTreeMap<u16, Peer>,
    up: bool,
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
    heads: BTreeMap<(ShardId, ConvId), (Seq, Seq)>,
    counts: ExchangeCounts,
}

impl Exchange {
    /// Of the gateway `node`, started as `boot` at `now`, with so many shards.
    #[must_use]
    pub fn new(node: NodeId, boot: u64, shards: u16, now: Now, fault: Option<PlantedFault>) -> Self {
        let me = From { node: node.0, boot, count: 0, sent_ms: 0, epoch: 0 };
        Self {
            me,
            shards,
            fault,
            epoch: None,
            peers: BTreeMap::new(),
            up: false,
            hello_ms: now.mono_ms,
            covered_s: None,
            covered_ms: now.mono_ms,
            digest_ms: now.mono_ms,
            scan: None,
            scans: 0,
            next_scan_ms: now.mono_ms,
            deep_ms: now.mono_ms,
            hole: true,
            heads: BTreeMap::new(),
            counts: ExchangeCounts::default(),
        }
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counts(&self) -> ExchangeCounts {
        self.counts
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

    /// One thing happens. `concerns`: whether a conversation may concern a session here.
    pub fn step(&mut self, now: Now, what: In, concerns: &dyn Fn(ConvId) -> bool, out: &mut Vec<Out>) {
        match what {
            In::Rows(rows) => self.tell(now, rows, out),
            In::Heard(envelope) => self.heard(now, envelope, concerns, out),
            In::Bus { up } => self.bus(now, up),
            In::Lost => self.hole = true,
            In::Scanned { scan, answer } => self.scanned(now, scan, answer, concerns, out),
            In::Refused(shard, far) => self.refused(shard, far),
            In::Tick => self.tick(now, out),
            In::Stop => self.publish(now, vec![Item::Bye], out),
        }
    }

    fn live(&self, now: Now) -> impl Iterator<Item = u16> {
        let since_ms = now.mono_ms.saturating_sub(NODE_SILENT_MS);
        self.peers.iter().filter(move |(_, peer)| !peer.gone && peer.heard_ms >= since_ms).map(|(&node, _)| node)
    }

    fn bus(&mut self, now: Now, up: bool) {
        self.up = up;
        if up {
            self.hello_ms = now.mono_ms;
        }
    }

    // ---- what shards have stored ----------------------------------------------------------------

    #[expect(clippy::vec_box, reason = "each row comes in its box and goes on in it")]
    fn tell(&mut self, now: Now, rows: Vec<Box<FarRow>>, out: &mut Vec<Out>) {
        if !self.up || self.epoch.is_none() {
            self.counts.unsaid += rows.len() as u64;
            return;
        }
        self.counts.rows_out += rows.len() as u64;
        let (mut items, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let item = Item::Row(row);
            bytes += envelope::size(&item);
            items.push(item);
            if bytes >= ENVELOPE_FILL_BYTES {
                self.publish(now, std::mem::take(&mut items), out);
                bytes = 0;
            }
        }
        if !items.is_empty() {
            self.publish(now, items, out);
        }
    }

    fn publish(&mut self, now: Now, items: Vec<Item>, out: &mut Vec<Out>) {
        // Until the database has said which it is there is nothing to say.
        let Some(epoch) = self.epoch.filter(|_| self.up) else { return };
        self.me.count += 1;
        out.push(Out::Publish(From { sent_ms: now.wall_ms, epoch, ..self.me }, items));
    }

    // ---- what others say ------------------------------------------------------------------------

    fn heard(&mut self, now: Now, envelope: Envelope, concerns: &dyn Fn(ConvId) -> bool, out: &mut Vec<Out>) {
        let from = envelope.from;
        if !self.is_believed(now, &from) {
            return;
        }
        self.counts.unknown += u64::from(envelope.unknown);
        for item in envelope.items {
            match item {
                Item::Row(row) => {
                    if concerns(row.conv) {
                        self.counts.rows_in += 1;
                        out.push(Out::Give(home_of(row.conv, self.shards), FarIn::Row(row)));
                    } else {
                        self.counts.filtered += 1;
                    }
                }
                Item::Digest(digest) => self.digest(now, from.node, &digest, concerns, out),
                Item::Hello => {}
                Item::Bye => {
                    if let Some(peer) = self.peers.get_mut(&from.node) {
                        peer.gone = true;
                    }
                }
            }
        }
    }

    /// Whether an envelope is of another gateway of this database, and new.
    fn is_believed(&mut self, now: Now, from: &From) -> bool {
        if from.node == self.me.node {
            // One's own words do not come back.
            self.counts.twins += u64::from(from.boot != self.me.boot);
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
        let peer = self.peers.entry(from.node).or_insert(Peer {
            boot: from.boot,
            count: 0,
            sent_ms: 0,
            heard_ms: 0,
            gone: false,
            pieces: None,
        });
        let is_next = if peer.boot == from.boot { from.count > peer.count } else { from.sent_ms > peer.sent_ms };
        if !is_next || from.sent_ms.saturating_add(ENVELOPE_OLD_MS) < now.wall_ms {
            self.counts.stale += 1;
            return false;
        }
        if peer.boot != from.boot {
            peer.pieces = None;
        }
        (peer.boot, peer.count, peer.sent_ms) = (from.boot, from.count, from.sent_ms);
        (peer.heard_ms, peer.gone) = (now.mono_ms, false);
        true
    }

    fn digest(&mut self, now: Now, node: u16, digest: &Digest, concerns: &dyn Fn(ConvId) -> bool, out: &mut Vec<Out>) {
        self.give_heads(&digest.heads, concerns, out);
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
    }

    fn give_heads(&mut self, heads: &[RecentConv], concerns: &dyn Fn(ConvId) -> bool, out: &mut Vec<Out>) {
        for &RecentConv { conv, lowest, newest } in heads {
            if concerns(conv) {
                out.push(Out::Give(home_of(conv, self.shards), FarIn::Head { conv, lowest, newest }));
            } else {
                self.counts.filtered += 1;
            }
        }
    }

    // ---- what shards had no room for ------------------------------------------------------------

    fn refused(&mut self, shard: ShardId, far: FarIn) {
        self.counts.refused += 1;
        let (conv, lowest, newest) = match far {
            FarIn::Row(row) => (row.conv, row.row.seq, row.row.seq),
            FarIn::Head { conv, lowest, newest } => (conv, lowest, newest),
            FarIn::Covered => return,
        };
        if self.heads.len() >= FAR_HEADS_MAX && !self.heads.contains_key(&(shard, conv)) {
            self.hole = true;
            return;
        }
        let kept = self.heads.entry((shard, conv)).or_insert((lowest, newest));
        *kept = (kept.0.min(lowest), kept.1.max(newest));
    }

    // ---- time -----------------------------------------------------------------------------------

    fn tick(&mut self, now: Now, out: &mut Vec<Out>) {
        if now.mono_ms >= self.hello_ms && self.up {
            self.hello_ms = now.mono_ms + HEARTBEAT_MS;
            self.publish(now, vec![Item::Hello], out);
        }
        for _ in 0..TURN_FAR_MAX {
            let Some(((shard, conv), (lowest, newest))) = self.heads.pop_first() else { break };
            out.push(Out::Give(shard, FarIn::Head { conv, lowest, newest }));
        }
        if self.scan.as_ref().is_some_and(|scan| scan.asked_ms + DIGEST_ANSWER_MS <= now.mono_ms) {
            self.scan_failed(now);
        }
        if self.scan.is_none() && now.mono_ms >= self.next_scan_ms && (self.hole || self.reads_digest(now)) {
            self.begin_scan(now, out);
        }
    }

    /// Whether no other gateway reads the digest for this one.
    fn reads_digest(&self, now: Now) -> bool {
        if self.fault == Some(PlantedFault::ForgottenIsolation) {
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

    fn scanned(
        &mut self,
        now: Now,
        number: u64,
        answer: Option<Recent>,
        concerns: &dyn Fn(ConvId) -> bool,
        out: &mut Vec<Out>,
    ) {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.number == number) else { return };
        let Some(recent) = answer else { return self.scan_failed(now) };
        let (from_s, to_s) = *scan.span.get_or_insert((recent.from_s, recent.now_s));
        let (piece, began_ms) = (scan.piece, scan.began_ms);
        scan.piece = scan.piece.saturating_add(1);
        scan.asked_ms = now.mono_ms;
        self.counts.scans += 1;
        if self.epoch.replace(recent.epoch).is_some_and(|epoch| epoch != recent.epoch) {
            // Restored: what others said of the one before is void.
            self.peers.clear();
        }
        self.give_heads(&recent.list, concerns, out);
        let last = recent.next.is_none();
        self.publish(now, vec![Item::Digest(Digest { from_s, to_s, piece, last, heads: recent.list })], out);
        match recent.next {
            Some(after) => out.push(Out::Scan { scan: number, since: Since::At(from_s), after }),
            None => {
                self.scan = None;
                self.cover(began_ms, to_s, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_their_end_are_only_numbers() {
        let now = Now { mono_ms: 5, wall_ms: 1_800_000_000_000 };
        let mut exchange = Exchange::new(NodeId(2), 7, 1, now, None);
        let mut out = Vec::new();
        let mut step = |what| exchange.step(now, what, &|_| true, &mut out);
        step(In::Bus { up: true });
        step(In::Tick);
        let answer = Recent { epoch: 9, from_s: 10, now_s: 20, list: Vec::new(), next: None };
        step(In::Scanned { scan: 1, answer: Some(answer) });
        let most = u64::MAX;
        let from = From { node: 1, boot: 3, count: most, sent_ms: most, epoch: 9 };
        let digest = Digest { from_s: most, to_s: most, piece: 0, last: true, heads: Vec::new() };
        step(In::Heard(Envelope { from, items: vec![Item::Digest(digest)], unknown: 0 }));
        assert_eq!(exchange.counts().digests, 1, "it was heard");
        assert!(exchange.hole, "and says nothing about what lies before it");
    }
}

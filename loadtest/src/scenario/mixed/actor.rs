//! The users of one thread, and what they do.
//!
//! Owns: [`Mixed`]. The pairs' messages and their books are [`Direct`]'s, as in a run of `direct`
//! with reconnects; what else users do is here: one of each kind under way for a member.
//! Never: takes a connection that it closed itself for one that was dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::mix::{KINDS, Kind, Pace};
use crate::board::Phase;
use crate::engine::Actor;
use crate::ledger::{Stream, Verdict};
use crate::limits::{HEARING_NS, MISSED_MAX, TICK_NS, WINDOW_MAX};
use crate::net::Net;
use crate::scan::{Fields, scan};
use crate::scenario::direct::Direct;
use crate::split::wire::Whole;
use crate::split::{Splits, packed};
use crate::stamp::{Run, Stamp};
use crate::tally::{Reckoning, latencies, span};

/// Rows of one look at the history: what a screen and its margin show.
const HISTORY_ROWS: u32 = 30;
/// Users in one question about presence: a list of friends.
const WATCHED: usize = 20;

/// What has become of one kind.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(super) struct KindFindings {
    /// Sent.
    pub(super) done: u64,
    /// Not sent: the member was away, or still waited for the one before.
    pub(super) skipped: u64,
    pub(super) refused: u64,
    /// Never answered, although the connection stood.
    pub(super) unanswered: u64,
    pub(super) answered: u64,
    /// From when it was due to the answer, or to its arrival at another; also of those that were
    /// not sent because they would have had to wait for the one before.
    #[serde(with = "packed")]
    pub(super) latency_ns: Histogram<u64>,
}

impl Default for KindFindings {
    fn default() -> Self {
        Self { done: 0, skipped: 0, refused: 0, unanswered: 0, answered: 0, latency_ns: latencies() }
    }
}

impl KindFindings {
    /// One was answered.
    pub(super) fn answered_after(&mut self, ns: u64) {
        self.answered += 1;
        self.latency_ns.saturating_record(ns);
    }
}

/// What the users of one thread, or of all, have found.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
pub(super) struct Findings {
    /// By the place of the kind.
    pub(super) kinds: [KindFindings; KINDS],
    /// From when a group message was due to its arrival at each other member.
    #[serde(with = "packed::optional")]
    pub(super) group_delivery_ns: Option<Histogram<u64>>,
    /// Messages of the group that a member should have got.
    pub(super) group_lost: u64,
    pub(super) group_doubled: u64,
    pub(super) group_out_of_order: u64,
    /// Messages of the group whose ack was lost with a connection that was closed here.
    pub(super) group_unsettled: u64,
}

impl Findings {
    /// Adds another thread's.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, one) in self.kinds.iter_mut().zip(&other.kinds) {
            sum.done += one.done;
            sum.skipped += one.skipped;
            sum.refused += one.refused;
            sum.unanswered += one.unanswered;
            sum.answered += one.answered;
            // All have the same bounds, so adding cannot fail.
            sum.latency_ns.add(&one.latency_ns).expect("invariant: equal bounds");
        }
        if let Some(one) = &other.group_delivery_ns {
            let sum = self.group_delivery_ns.get_or_insert_with(latencies);
            sum.add(one).expect("invariant: equal bounds");
        }
        self.group_lost += other.group_lost;
        self.group_doubled += other.group_doubled;
        self.group_out_of_order += other.group_out_of_order;
        self.group_unsettled += other.group_unsettled;
    }
}

/// One user, beside the conversation of the pair.
#[derive(Default, Debug)]
struct Member {
    /// When what is under way of each kind was due; 0: none is.
    waiting: [u64; KINDS],
    /// What was not sent because the one before was under way: the kind, and when it was due.
    missed: Vec<(Kind, u64)>,
    /// The group's numbers since this connection stands.
    group: Stream,
    /// How far the group was when this connection heard it for certain. `None`: not yet, or there
    /// is no connection.
    hears_after: Option<u64>,
    /// Counts the connections: of one that has gone nothing is certain any more.
    visits: u64,
    /// Own messages to the group that have no ack: counter, and when each was due.
    posts: VecDeque<(u32, u64)>,
    posted: u32,
}

impl Member {
    /// How many of the group's messages `low..=high`, which were acked, this connection should have
    /// got and did not.
    fn lacks(&self, low: u64, high: u64) -> u64 {
        match (self.group.first(), self.hears_after) {
            // What was said before it heard anything is not known to have been for it, unless it
            // was there from the beginning.
            (Some(first), Some(0)) => self.group.missing(first.min(low), high),
            (Some(first), Some(_)) => self.group.missing(first, high),
            (None, Some(after)) => high.saturating_sub(after.max(low.saturating_sub(1))),
            // It has gone, or may not have heard all yet.
            (_, None) => self.group.holes(),
        }
    }
}

/// The users of one thread. Their places are [`Direct`]'s.
pub(super) struct Mixed {
    direct: Direct,
    paces: [Pace; KINDS],
    members: Vec<Member>,
    /// All users, for questions about presence.
    users: Vec<u64>,
    group: Option<u64>,
    /// The group's messages have a name of their own: counters of a pair and of a group would
    /// meet.
    run: Run,
    payload: usize,
    threads: usize,
    lane: usize,
    /// The highest number of the group that any member of this process has seen.
    heard: Arc<AtomicU64>,
    /// Members that have come back and may not hear the group yet: until when, which one, and which
    /// of its connections.
    arriving: VecDeque<(u64, u32, u64)>,
    /// Lowest and highest `seq` of the group that members of this thread were acked.
    acked_seqs: Option<(u64, u64)>,
    /// Members that lack something of the group, as they were counted last in
    /// [`crate::board::Lane`]; until the first look one, so that the run is not over before it.
    lacking: u64,
    /// When they are counted next.
    look_ns: u64,
    pub(super) findings: Findings,
    text: String,
}

/// What the actors of a run have in common.
pub(super) struct Terms {
    pub(super) paces: [Pace; KINDS],
    pub(super) users: Vec<u64>,
    pub(super) group: Option<u64>,
    pub(super) run: Run,
    pub(super) payload: usize,
    pub(super) threads: usize,
    /// See [`Mixed`].
    pub(super) heard: Arc<AtomicU64>,
}

impl Mixed {
    pub(super) fn new(terms: &Terms, direct: Direct, lane: usize, members: usize) -> Self {
        Self {
            direct,
            paces: terms.paces,
            members: (0..members).map(|_| Member::default()).collect(),
            users: terms.users.clone(),
            group: terms.group,
            run: terms.run,
            payload: terms.payload,
            threads: terms.threads,
            lane,
            heard: Arc::clone(&terms.heard),
            arriving: VecDeque::new(),
            acked_seqs: None,
            lacking: 0,
            look_ns: 0,
            findings: Findings::default(),
            text: String::new(),
        }
    }

    /// The run is over; what has no answer then never got one.
    fn settle(&mut self, whole: &Whole) {
        let interrupted = whole.cut_short;
        for place in 0..self.members.len() {
            match whole.acked_seqs.filter(|_| !interrupted) {
                Some((low, high)) => self.findings.group_lost += self.members[place].lacks(low, high),
                None => self.count_group(place),
            }
            for kind in Kind::ALL.into_iter().filter(|kind| kind.is_answered() && !interrupted) {
                let waits = self.members[place].waiting[kind as usize] > 0;
                self.findings.kinds[kind as usize].unanswered += u64::from(waits);
            }
            if !interrupted {
                let posts = self.members[place].posts.len() as u64;
                self.findings.kinds[Kind::Group as usize].unanswered += posts;
            }
        }
    }

    // ---- doing --------------------------------------------------------------------------------

    /// Does what is due. Returns when the next is.
    fn schedule(&mut self, net: &mut Net, now_ns: u64) -> u64 {
        let (start, end) = (net.board().started_ns(), net.board().ended_ns());
        let mut wake = u64::MAX;
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Login) {
            while let Some(offset) = self.paces[kind as usize].due_ns()
                && start + offset <= end
            {
                let due = start + offset;
                if due > now_ns {
                    wake = wake.min(due);
                    break;
                }
                let place = self.paces[kind as usize].take();
                if let Some(member) = self.member(kind, place) {
                    net.lane().scheduled.add(1);
                    self.direct.tally.lag_ns.saturating_record(now_ns - due);
                    self.act(net, kind, member, due);
                }
            }
        }
        wake
    }

    /// Whose turn it is, if it is one of this thread. The first of each pair begins conversations.
    fn member(&self, kind: Kind, place: u64) -> Option<u32> {
        let user = match kind {
            Kind::Direct => place * 2 % self.users.len() as u64,
            _ => place % self.users.len() as u64,
        };
        let (pair, side) = (user as usize / 2, user as u32 % 2);
        (pair % self.threads == self.lane).then(|| (pair / self.threads * 2) as u32 + side)
    }

    fn act(&mut self, net: &mut Net, kind: Kind, member: u32, due_ns: u64) {
        if kind == Kind::Direct {
            // It waits for the connection, if there is none.
            self.findings.kinds[kind as usize].done += 1;
            return self.direct.post(net, member, due_ns);
        }
        let busy = kind.is_answered() && self.members[member as usize].waiting[kind as usize] > 0;
        if busy && self.members[member as usize].missed.len() < MISSED_MAX {
            // It would have waited for as long as the one before and longer, and is in the figures.
            self.members[member as usize].missed.push((kind, due_ns));
        }
        if busy || !net.is_open(member) || !self.send(net, kind, member, due_ns) {
            self.findings.kinds[kind as usize].skipped += 1;
            return;
        }
        self.findings.kinds[kind as usize].done += 1;
        if kind != Kind::Group {
            let before = std::mem::replace(&mut self.members[member as usize].waiting[kind as usize], due_ns.max(1));
            net.lane().waiting.add(u64::from(kind.is_answered() && before == 0));
        }
    }

    /// Sends it. False: it cannot be sent now.
    fn send(&mut self, net: &mut Net, kind: Kind, member: u32, due_ns: u64) -> bool {
        let peer = self.direct.peer(member);
        let group = self.group.unwrap_or_default();
        let text = match kind {
            Kind::Direct | Kind::Login => return false,
            Kind::Group => return self.post(net, member, group, due_ns),
            Kind::Reconnect => {
                self.leave(net, member);
                return true;
            }
            Kind::Typing => format!(r#"{{"cmd":6,"kind":10,"dstid":{peer}}}"#),
            Kind::Read => match self.direct.newest(member) {
                0 => return false,
                seq => format!(r#"{{"cmd":3,"kind":10,"dstid":{peer},"read":{seq}}}"#),
            },
            Kind::History => {
                let before = (1_u64 << 53) - 1;
                format!(r#"{{"cmd":4,"kind":11,"dstid":{group},"before":{before},"limit":{HISTORY_ROWS}}}"#)
            }
            Kind::List => r#"{"cmd":5}"#.to_owned(),
            Kind::Presence => {
                let from = net.random_below(self.users.len() as u64) as usize;
                let some = self.users.iter().cycle().skip(from).take(WATCHED.min(self.users.len()));
                let some: Vec<String> = some.map(u64::to_string).collect();
                format!(r#"{{"cmd":7,"users":[{}]}}"#, some.join(","))
            }
            Kind::Heartbeat => r#"{"cmd":0}"#.to_owned(),
        };
        net.send(member, &text)
    }

    fn post(&mut self, net: &mut Net, member: u32, group: u64, due_ns: u64) -> bool {
        let of = &mut self.members[member as usize];
        if of.posts.len() >= WINDOW_MAX {
            return false;
        }
        let stamp = Stamp { sender: self.direct.login(member), n: of.posted + 1, intended_ns: due_ns };
        stamp.write(&mut self.text, self.run, 11, group, self.payload);
        let sent = net.send(member, &self.text);
        if sent {
            of.posted += 1;
            of.posts.push_back((of.posted, due_ns));
            net.lane().sent.add(1);
            net.lane().waiting.add(1);
        }
        sent
    }

    /// The member goes, and comes back at once. What is under way is lost with the connection.
    fn leave(&mut self, net: &mut Net, member: u32) {
        self.forget(net, member);
        self.direct.left(member);
        net.come_back(member);
    }

    fn forget(&mut self, net: &Net, member: u32) {
        self.count_group(member as usize);
        let of = &mut self.members[member as usize];
        of.hears_after = None;
        of.visits += 1;
        let answers = Kind::ALL.into_iter().filter(|kind| kind.is_answered() && of.waiting[*kind as usize] > 0).count();
        net.lane().waiting.sub(answers as u64 + of.posts.len() as u64);
        of.waiting = [0; KINDS];
        of.missed.clear();
        self.findings.group_unsettled += of.posts.len() as u64;
        of.posts.clear();
    }

    /// What a connection should have got of the group, and did not.
    fn count_group(&mut self, place: usize) {
        let stream = std::mem::take(&mut self.members[place].group);
        self.findings.group_lost += stream.holes();
    }

    /// A number of the group has been seen here.
    fn hear(&self, seq: u64) {
        if seq > self.heard.load(Ordering::Relaxed) {
            self.heard.fetch_max(seq, Ordering::Relaxed);
        }
    }

    /// Notes how far the group is for those that hear it by now.
    fn settle_in(&mut self, now_ns: u64) {
        while let Some((_, member, visit)) = self.arriving.pop_front_if(|(until_ns, ..)| *until_ns <= now_ns) {
            let of = &mut self.members[member as usize];
            if of.visits == visit {
                // Never as one that was there from the beginning.
                of.hears_after = Some(self.heard.load(Ordering::Relaxed).max(1));
            }
        }
    }

    /// Shows on the board how many members still lack something of the group, while the run waits
    /// for them.
    fn count_lacking(&mut self, net: &Net, now_ns: u64) {
        let mut lacking = 1;
        if net.board().phase() == Phase::Draining {
            if now_ns < self.look_ns {
                return;
            }
            self.look_ns = now_ns + TICK_NS;
            let high = self.heard.load(Ordering::Relaxed);
            // Before the first that was acked nothing is of this run.
            let low = self.acked_seqs.map_or(high, |(low, _)| low);
            lacking = self.members.iter().filter(|of| of.lacks(low, high) > 0).count() as u64;
        }
        net.lane().waiting.add(lacking.saturating_sub(self.lacking));
        net.lane().waiting.sub(self.lacking.saturating_sub(lacking));
        self.lacking = lacking;
    }

    // ---- what comes ---------------------------------------------------------------------------

    /// What a member waited for has come.
    fn answered(&mut self, net: &Net, member: u32, kind: Kind, now_ns: u64) {
        let due_ns = std::mem::take(&mut self.members[member as usize].waiting[kind as usize]);
        if due_ns > 0 {
            net.lane().waiting.sub(u64::from(kind.is_answered()));
            let found = &mut self.findings.kinds[kind as usize];
            found.answered_after(now_ns.saturating_sub(due_ns));
            self.members[member as usize].missed.retain(|(missed, due_ns)| {
                if *missed == kind {
                    found.latency_ns.saturating_record(now_ns.saturating_sub(*due_ns));
                }
                *missed != kind
            });
        }
    }

    /// Something that the other of the pair did has come here.
    fn relayed(&mut self, net: &Net, member: u32, fields: &Fields<'_>, kind: Kind, now_ns: u64) {
        if fields.userid == Some(self.direct.peer(member)) {
            self.answered(net, member ^ 1, kind, now_ns);
        }
    }

    fn judge_group(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Fresh => {}
            Verdict::Late => self.findings.group_out_of_order += 1,
            Verdict::Doubled => self.findings.group_doubled += 1,
        }
    }

    fn group_pushed(&mut self, net: &mut Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        if fields.dstid != self.group {
            return self.direct.strayed(fields.content);
        }
        if let Some(seq) = fields.seq {
            self.hear(seq);
            let verdict = self.members[member as usize].group.push(seq);
            self.judge_group(verdict);
        }
        let stamp = fields.content.and_then(|content| Stamp::from_content(content, self.run));
        if let Some(stamp) = stamp.filter(|stamp| stamp.sender != self.direct.login(member)) {
            net.lane().delivered.add(1);
            let after = now_ns.saturating_sub(stamp.intended_ns);
            self.findings.group_delivery_ns.get_or_insert_with(latencies).saturating_record(after);
            self.direct.tally.note_delivery(after);
        }
    }

    fn group_acked(&mut self, net: &Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        let stamp = fields.cid.and_then(|cid| Stamp::from_cid(cid, self.run));
        let of = &mut self.members[member as usize];
        let place = stamp.and_then(|stamp| of.posts.iter().position(|(n, _)| *n == stamp.n));
        let Some((_, due_ns)) = place.and_then(|place| of.posts.remove(place)) else { return };
        net.lane().waiting.sub(1);
        let verdict = fields.seq.map_or(Verdict::Fresh, |seq| of.group.ack(seq));
        self.judge_group(verdict);
        if let Some(seq) = fields.seq {
            self.hear(seq);
            self.acked_seqs = span(self.acked_seqs, Some((seq, seq)));
        }
        self.findings.kinds[Kind::Group as usize].answered_after(now_ns.saturating_sub(due_ns));
    }

    /// A refusal. False: it concerns the pair.
    fn refused(&mut self, net: &Net, member: u32, fields: &Fields<'_>, text: &str) -> bool {
        let of = &mut self.members[member as usize];
        let stamp = fields.cid.and_then(|cid| Stamp::from_cid(cid, self.run));
        let kind = match (stamp, fields.cid, fields.kind) {
            (Some(stamp), ..) => {
                let before = of.posts.len();
                of.posts.retain(|(n, _)| *n != stamp.n);
                net.lane().waiting.sub((before - of.posts.len()) as u64);
                Kind::Group
            }
            (None, Some(_), _) => return false,
            (None, None, Some(11)) => Kind::History,
            // A sync of the pair.
            (None, None, Some(_)) => return false,
            (None, None, None) if of.waiting[Kind::List as usize] > 0 => Kind::List,
            (None, None, None) => Kind::Presence,
        };
        let waited = std::mem::take(&mut of.waiting[kind as usize]) > 0;
        net.lane().waiting.sub(u64::from(waited));
        // What would have waited for this one has waited for nothing: the next is another matter.
        of.missed.retain(|(missed, _)| *missed != kind);
        self.findings.kinds[kind as usize].refused += 1;
        net.board().trouble(|| format!("{}: refused: {text:.200}", kind.name()));
        true
    }
}

/// What the users of threads have found, in pairs and beside them.
#[derive(Default, Serialize, Deserialize, Debug)]
pub(crate) struct Day {
    pub(super) pairs: Reckoning,
    pub(super) findings: Findings,
}

impl Splits for Mixed {
    type Findings = Day;

    /// Those of the group: the books of pairs are closed where they are.
    fn acked_seqs(&self) -> Option<(u64, u64)> {
        self.acked_seqs
    }

    fn close(mut self, whole: &Whole) -> Day {
        self.settle(whole);
        Day { pairs: self.direct.close(whole), findings: self.findings }
    }

    fn add(sum: &mut Day, one: &Day) {
        sum.pairs.add(&one.pairs);
        sum.findings.add(&one.findings);
    }

    fn lateness(found: &Day) -> Option<&Histogram<u64>> {
        Some(&found.pairs.tally.lag_ns)
    }
}

impl Actor for Mixed {
    fn opened(&mut self, net: &mut Net, member: u32, again: bool) {
        let due_ns = self.members[member as usize].waiting[Kind::Reconnect as usize];
        if due_ns > 0 {
            self.answered(net, member, Kind::Reconnect, net.plan().clock.nanos());
        }
        let of = &mut self.members[member as usize];
        // What the connection before still got while it closed says nothing about this one.
        of.group = Stream::default();
        if again {
            self.arriving.push_back((net.plan().clock.nanos() + HEARING_NS, member, of.visits));
        } else {
            // Nothing is said before all are there.
            of.hears_after = Some(0);
        }
        self.direct.opened(net, member, again);
    }

    fn text(&mut self, net: &mut Net, member: u32, text: &str, now_ns: u64) {
        let Some(fields) = scan(text) else { return };
        match (fields.cmd, fields.kind) {
            (Some(0), _) => self.answered(net, member, Kind::Heartbeat, now_ns),
            (Some(1), Some(11)) => self.group_acked(net, member, &fields, now_ns),
            (Some(2), _) if self.refused(net, member, &fields, text) => {}
            (Some(3), _) => self.relayed(net, member, &fields, Kind::Read, now_ns),
            (Some(4), Some(11)) => self.answered(net, member, Kind::History, now_ns),
            (Some(5), _) => self.answered(net, member, Kind::List, now_ns),
            (Some(6), _) => self.relayed(net, member, &fields, Kind::Typing, now_ns),
            (Some(7), _) => self.answered(net, member, Kind::Presence, now_ns),
            (Some(11), _) => self.group_pushed(net, member, &fields, now_ns),
            _ => self.direct.heard(net, member, &fields, text, now_ns),
        }
    }

    fn closed(&mut self, net: &mut Net, member: u32) {
        self.forget(net, member);
        self.direct.closed(net, member);
    }

    fn turn(&mut self, net: &mut Net, now_ns: u64) -> u64 {
        // What was due before the end is done, even if this thread comes late to it.
        let on = matches!(net.board().phase(), Phase::Running | Phase::Draining);
        let next = if on { self.schedule(net, now_ns) } else { u64::MAX };
        self.settle_in(now_ns);
        if on {
            self.count_lacking(net, now_ns);
        }
        next.min(self.direct.turn(net, now_ns))
    }
}

//! `fanout`: one group, open loop. Every member must receive every message exactly once and in order.
//!
//! Owns: the members' books and the publishers' schedule. Message k is due at start + k / rate, whatever became of those before it; its latency counts
//! from then, so a server that stalls cannot hide it (no coordinated omission).
//! Never: sends a refused message again; an open loop goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;

use crate::board::Phase;
use crate::clock::seconds_ns;
use crate::conduct::{deal, perform};
use crate::engine::Actor;
use crate::ledger::{Stream, Verdict, Window};
use crate::limits::{MEMBER_PUBLISHERS_MAX, PAYLOAD_BYTES_MAX, RATE_MAX, SECONDS_MAX, UNACKED_MAX};
use crate::net::{Net, Plan};
use crate::options::Options;
use crate::report::Report;
use crate::scan::{Fields, scan};
use crate::stamp::{Run, Stamp};
use crate::tally::Tally;
use crate::upgrade::Profile;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) options: Options,
    /// The group, of which the first users of the tokens file are members.
    #[arg(long)]
    group: u64,
    /// Members that are online.
    #[arg(long)]
    members: usize,
    /// How many of them publish, in turn.
    #[arg(long, default_value_t = 10)]
    publishers: usize,
    /// Messages per second, all publishers together.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate: u64,
    /// Length of the measurement.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Bytes of each message's content.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAYLOAD_BYTES_MAX as i64))]
    payload: u32,
    /// How long the last messages may take to arrive.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    drain: u64,
}

/// A message on its way: the publisher's counter, and when it was meant to be sent.
type Sent = (u32, u64);

/// The members of one thread. Member `m` of thread `t` is member `m * threads + t` of all; the first of all are the publishers.
struct Fanout {
    flags: Arc<Flags>,
    run: Run,
    profile: Profile,
    threads: usize,
    lane: usize,
    /// Per member: what it has received, by `seq`.
    streams: Vec<Stream>,
    /// Per member and publisher: what it has received, by content.
    windows: Vec<Window>,
    /// Per member that publishes: its last counter, and what is unanswered.
    publishers: Vec<(u32, VecDeque<Sent>)>,
    /// The next message to send, counted over all threads.
    next: u64,
    tally: Tally,
    text: String,
}

impl Fanout {
    fn new(flags: &Arc<Flags>, run: Run, plan: &Plan, lane: usize, members: usize) -> Self {
        let threads = plan.board.lanes.len();
        Self {
            flags: Arc::clone(flags),
            run,
            profile: plan.profile,
            threads,
            lane,
            streams: vec![Stream::default(); members],
            windows: vec![Window::default(); members * flags.publishers],
            publishers: deal(flags.publishers, threads, lane).map(|_| (0, VecDeque::new())).collect(),
            next: 0,
            tally: Tally::new(),
            text: String::new(),
        }
    }

    /// The place of a local member among all.
    fn index(&self, member: u32) -> u32 {
        (member as usize * self.threads + self.lane) as u32
    }

    /// Enters a message that a member received or, as an ack, had received by sending it.
    fn arrive(&mut self, net: &Net, member: u32, stamp: Stamp, by_seq: Verdict) -> Verdict {
        let window = member as usize * self.flags.publishers + stamp.sender as usize;
        let by_content = self.windows[window].enter(stamp.n);
        if by_content != Verdict::Doubled {
            net.lane().arrived.add(1);
        }
        let verdict = by_seq.max(by_content);
        self.tally.judge(verdict);
        verdict
    }

    fn pushed(&mut self, net: &Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        if fields.dstid != Some(self.flags.group) {
            self.tally.foreign += 1;
            return;
        }
        let stamp = fields.content.and_then(|content| Stamp::from_content(content, self.run));
        let stamp = stamp.filter(|s| (s.sender as usize) < self.flags.publishers);
        if self.profile == Profile::Legacy && stamp.is_some_and(|s| s.sender == self.index(member)) {
            // Some old servers echo, some do not; the books have it since it was sent.
            return;
        }
        let by_seq = fields.seq.map_or(Verdict::Fresh, |seq| self.streams[member as usize].push(seq));
        let Some(stamp) = stamp else {
            // Somebody else's message takes a place in the order and no other.
            self.tally.foreign += 1;
            return self.tally.judge(by_seq);
        };
        net.lane().delivered.add(1);
        if self.arrive(net, member, stamp, by_seq) != Verdict::Doubled {
            self.tally.delivery_ns.saturating_record(now_ns.saturating_sub(stamp.intended_ns));
        }
    }

    /// Takes a message from those unanswered, by its `cid`.
    fn settle(&mut self, net: &Net, member: u32, fields: &Fields<'_>) -> Option<Stamp> {
        let stamp = Stamp::from_cid(fields.cid?, self.run)?;
        let (_, unanswered) = self.publishers.get_mut(member as usize)?;
        let place = unanswered.iter().position(|(n, _)| *n == stamp.n)?;
        let (_, intended_ns) = unanswered.remove(place)?;
        net.lane().pending.sub(1);
        Some(Stamp { intended_ns, ..stamp })
    }

    fn acked(&mut self, net: &Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        let Some(stamp) = self.settle(net, member, fields) else {
            // An ack of nothing, or a second one.
            return self.tally.judge(Verdict::Doubled);
        };
        net.lane().acked.add(1);
        self.tally.ack_ns.saturating_record(now_ns.saturating_sub(stamp.intended_ns));
        let by_seq = fields.seq.map_or(Verdict::Fresh, |seq| {
            self.tally.acked_seq(seq);
            self.streams[member as usize].ack(seq)
        });
        self.arrive(net, member, stamp, by_seq);
    }

    fn refused(&mut self, net: &Net, member: u32, fields: &Fields<'_>, text: &str) {
        self.tally.refused(fields.code.unwrap_or_default());
        if self.settle(net, member, fields).is_some() {
            net.lane().refused.add(1);
        } else {
            net.board().trouble(|| format!("a refusal of nothing: {text}"));
        }
    }

    fn publish(&mut self, net: &mut Net, member: u32, intended_ns: u64) {
        let sender = self.index(member);
        let (last, unanswered) = &mut self.publishers[member as usize];
        let stamp = Stamp { sender, n: *last + 1, intended_ns };
        stamp.write(&mut self.text, self.run, 11, self.flags.group, self.flags.payload as usize);
        if unanswered.len() >= UNACKED_MAX || !net.send(member, &self.text) {
            self.tally.unsent += 1;
            return;
        }
        *last += 1;
        net.lane().sent.add(1);
        if self.profile == Profile::V2 {
            unanswered.push_back((stamp.n, intended_ns));
            net.lane().pending.add(1);
        } else {
            net.lane().acked.add(1);
            self.arrive(net, member, stamp, Verdict::Fresh);
        }
    }
}

impl Actor for Fanout {
    fn text(&mut self, net: &mut Net, member: u32, text: &str, now_ns: u64) {
        let Some(fields) = scan(text) else { return };
        match fields.cmd {
            Some(11) => self.pushed(net, member, &fields, now_ns),
            Some(1) => self.acked(net, member, &fields, now_ns),
            Some(2) => self.refused(net, member, &fields, text),
            _ => {}
        }
    }

    fn turn(&mut self, net: &mut Net, now_ns: u64) -> u64 {
        // What was due before the end is sent, even if this thread comes late to it.
        if !matches!(net.board().phase(), Phase::Running | Phase::Draining) {
            return u64::MAX;
        }
        let (start, end) = (net.board().started_ns(), seconds_ns(self.flags.seconds));
        loop {
            let offset = (u128::from(self.next) * 1_000_000_000 / u128::from(self.flags.rate)) as u64;
            if offset >= end {
                return u64::MAX;
            }
            if start + offset > now_ns {
                return start + offset;
            }
            let publisher = (self.next % self.flags.publishers as u64) as usize;
            if publisher % self.threads == self.lane {
                net.lane().scheduled.add(1);
                self.publish(net, (publisher / self.threads) as u32, start + offset);
            }
            self.next += 1;
        }
    }
}

pub(crate) fn run(flags: &Flags) -> Result<Report> {
    let Flags { options, members, publishers, .. } = flags;
    ensure!((1..=*members).contains(publishers), "--publishers must be between 1 and --members");
    ensure!(
        members.saturating_mul(*publishers) <= MEMBER_PUBLISHERS_MAX,
        "{members} members x {publishers} publishers are too many to be told apart: at most {MEMBER_PUBLISHERS_MAX}"
    );
    let plan = options.plan(*members, *members, true, false)?;
    let probe = options.probe()?;
    let threads = usize::from(options.threads);
    let (shared, run) = (Arc::new(flags.clone()), Run::new());
    let actors = (0..threads)
        .map(|lane| {
            let logins: Vec<u32> = deal(*members, threads, lane).map(|i| i as u32).collect();
            let fanout = Fanout::new(&shared, run, &plan, lane, logins.len());
            (logins, fanout)
        })
        .collect();
    let all = *members as u64;
    let (steady, actors) = perform(&plan, probe.as_ref(), actors, |conductor| {
        conductor.open(*members, options.opening_seconds(*members))?;
        let steady = conductor.run(flags.seconds);
        conductor.drain(flags.drain, |board| {
            board.sum(|l| &l.scheduled) == flags.rate * flags.seconds
                && board.sum(|l| &l.pending) == 0
                && board.sum(|l| &l.arrived) >= board.sum(|l| &l.acked) * all
        });
        Ok(steady)
    })?;
    let mut report = Report::new("fanout");
    report.count("members", all);
    report.count("publishers", *publishers as u64);
    report.count("rate_per_second", flags.rate);
    report.count("seconds", flags.seconds);
    report.count("payload_bytes", u64::from(flags.payload));
    judge(&mut report, &plan, &actors);
    report.steady(&steady);
    report.troubles(&plan.board.troubles());
    Ok(report)
}

/// Compares what every member has received with what was acked.
fn judge(report: &mut Report, plan: &Plan, actors: &[Fanout]) {
    let tally = Tally::merged(actors.iter().map(|actor| &actor.tally));
    let acked = plan.board.sum(|l| &l.acked);
    let mut lost = 0;
    for actor in actors {
        let windows = actor.windows.chunks(actor.flags.publishers);
        for (stream, windows) in actor.streams.iter().zip(windows) {
            let arrived: u64 = windows.iter().map(|window| u64::from(window.arrived)).sum();
            let by_seq = tally.acked_seqs.map_or(0, |(low, high)| stream.missing(low, high));
            lost += by_seq.max(acked.saturating_sub(arrived));
        }
    }
    report.text("mode", mode(plan.profile, &tally));
    report.traffic(&plan.board, &tally, lost);
    report.must_be_zero("dropped", plan.board.sum(|l| &l.dropped));
}

/// What the server turned out to be.
pub(super) fn mode(profile: Profile, tally: &Tally) -> &'static str {
    match (profile, tally.acked_seqs) {
        (Profile::Legacy, _) => "legacy: no acks, checked by content",
        (Profile::V2, Some(_)) => "stored: checked by seq and content",
        (Profile::V2, None) => "volatile: no seq, checked by content",
    }
}

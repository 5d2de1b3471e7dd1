//! `slow`: one group in two halves of the same traffic. In the second half some members stop reading on live connections; then they wake up.
//!
//! Owns: the books of those who read (every push judged as it comes) and of those who stall (judged as a client that follows `seq` and syncs shows it),
//! and the comparison of the two halves for those who read.
//! Never: sends a refused message again; an open loop goes on. Message k is due at start + k / rate, and its latency counts from then.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::Value;

use crate::board::Phase;
use crate::clock::seconds_ns;
use crate::conduct::{Conductor, deal, perform};
use crate::engine::Actor;
use crate::ledger::{Eye, Sight, Stream, Verdict, Window};
use crate::limits::{
    MEMBER_PUBLISHERS_MAX, PAYLOAD_BYTES_MAX, RATE_MAX, RETRY_NS_MAX, SECONDS_MAX, SYNC_ROWS, UNACKED_MAX,
};
use crate::net::{Net, Plan};
use crate::options::Options;
use crate::probe::Sample;
use crate::report::Report;
use crate::scan::{Fields, scan};
use crate::stamp::{Run, Stamp};
use crate::tally::Tally;
use crate::verify::crew::histogram;

/// Let the connections' own costs pass before the first half.
const SETTLE_NS: u64 = 1_000_000_000;

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
    /// How many of them stop reading in the second half.
    #[arg(long)]
    stalled: usize,
    /// How many of those who read publish, in turn.
    #[arg(long, default_value_t = 10)]
    publishers: usize,
    /// Messages per second, all publishers together.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate: u64,
    /// Length of each half.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX / 2))]
    seconds: u64,
    /// Bytes of each message's content.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAYLOAD_BYTES_MAX as i64))]
    payload: u32,
    /// How long those who wake up may take until they have everything.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    drain: u64,
    /// Fail when the p99 of those who read grows by more than this factor.
    #[arg(long)]
    p99_factor: Option<f64>,
}

/// What one member has.
#[derive(Debug)]
enum Book {
    /// Reads all the time: the next push is always the next `seq`.
    Reading(Stream),
    /// Stalls: shows what is next, syncs what is missing. True: a sync is unanswered.
    Stalling(Eye, bool),
}

/// The members of one thread, dealt in turn as in `fanout`. The last of all stall; the first publish.
struct Slow {
    flags: Arc<Flags>,
    run: Run,
    threads: usize,
    lane: usize,
    books: Vec<Book>,
    /// Per member and publisher: what it has, by content.
    windows: Vec<Window>,
    /// Per publisher: its last counter, and what is unanswered.
    publishers: Vec<(u32, VecDeque<(u32, u64)>)>,
    /// The next message to send, counted over all threads.
    next: u64,
    /// Syncs that were refused for now, in the order of their times.
    again: VecDeque<(u64, u32)>,
    tally: Tally,
    /// Of those who read: the delivery latencies of the first half and of the second.
    halves: [Histogram<u64>; 2],
    /// Connections that went: of those who read, of those who stall.
    dropped: [u64; 2],
    text: String,
}

impl Slow {
    fn new(flags: &Arc<Flags>, run: Run, plan: &Plan, lane: usize, members: usize) -> Self {
        let threads = plan.board.lanes.len();
        let book = |member: usize| {
            let stalls = member * threads + lane >= plan.narrow_from;
            if stalls { Book::Stalling(Eye::default(), false) } else { Book::Reading(Stream::default()) }
        };
        Self {
            flags: Arc::clone(flags),
            run,
            threads,
            lane,
            books: (0..members).map(book).collect(),
            windows: vec![Window::default(); members * flags.publishers],
            publishers: deal(flags.publishers, threads, lane).map(|_| (0, VecDeque::new())).collect(),
            next: 0,
            again: VecDeque::new(),
            tally: Tally::new(),
            halves: [histogram(), histogram()],
            dropped: [0; 2],
            text: String::new(),
        }
    }

    /// Enters a message that is this member's now: pushed, read, or acked.
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

    fn stamp(&self, content: Option<&str>) -> Option<Stamp> {
        Stamp::from_content(content?, self.run).filter(|stamp| (stamp.sender as usize) < self.flags.publishers)
    }

    fn pushed(&mut self, net: &mut Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        let Some(seq) = fields.seq.filter(|_| fields.dstid == Some(self.flags.group)) else {
            self.tally.foreign += 1;
            return;
        };
        let stamp = self.stamp(fields.content);
        let by_seq = match &mut self.books[member as usize] {
            Book::Stalling(..) => return self.shown(net, member, seq, stamp),
            Book::Reading(stream) => stream.push(seq),
        };
        let Some(stamp) = stamp else {
            self.tally.foreign += 1;
            return self.tally.judge(by_seq);
        };
        net.lane().delivered.add(1);
        if self.arrive(net, member, stamp, by_seq) != Verdict::Doubled {
            let half = usize::from(stamp.intended_ns >= net.board().started_ns() + seconds_ns(self.flags.seconds));
            self.halves[half].saturating_record(now_ns.saturating_sub(stamp.intended_ns));
        }
    }

    /// A reader that stalls meets a message, pushed or read.
    fn shown(&mut self, net: &mut Net, member: u32, seq: u64, stamp: Option<Stamp>) {
        let Book::Stalling(eye, _) = &mut self.books[member as usize] else { return };
        match eye.see(seq) {
            Sight::Skip => self.tally.hidden += 1,
            Sight::Sync => self.sync(net, member),
            Sight::Show => match stamp {
                Some(stamp) => {
                    net.lane().delivered.add(1);
                    self.arrive(net, member, stamp, Verdict::Fresh);
                }
                None => self.tally.foreign += 1,
            },
        }
    }

    /// Asks for what follows, unless it is asked already.
    fn sync(&mut self, net: &mut Net, member: u32) {
        let Book::Stalling(eye, asked) = &mut self.books[member as usize] else { return };
        if !*asked {
            let (group, after) = (self.flags.group, eye.last);
            let request = format!(r#"{{"cmd":4,"kind":11,"dstid":{group},"after":{after},"limit":{SYNC_ROWS}}}"#);
            *asked = net.send(member, &request);
        }
    }

    fn page(&mut self, net: &mut Net, member: u32, text: &str) {
        if let Book::Stalling(_, asked) = &mut self.books[member as usize] {
            *asked = false;
        }
        let Ok(answer) = serde_json::from_str::<Value>(text) else { return };
        for row in answer["rows"].as_array().into_iter().flatten() {
            if let Some(seq) = row["seq"].as_u64() {
                let stamp = self.stamp(row["content"].as_str());
                self.shown(net, member, seq, stamp);
            }
        }
        let more = answer["more"].as_bool() == Some(true);
        let behind = matches!(&self.books[member as usize], Book::Stalling(eye, _) if eye.behind());
        if more || behind {
            self.sync(net, member);
        }
    }

    fn settle(&mut self, net: &Net, member: u32, cid: Option<&str>) -> Option<Stamp> {
        let stamp = Stamp::from_cid(cid?, self.run)?;
        let (_, unanswered) = self.publishers.get_mut(member as usize)?;
        let place = unanswered.iter().position(|(n, _)| *n == stamp.n)?;
        let (_, intended_ns) = unanswered.remove(place)?;
        net.lane().pending.sub(1);
        Some(Stamp { intended_ns, ..stamp })
    }

    fn acked(&mut self, net: &Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        let (Some(stamp), Some(seq)) = (self.settle(net, member, fields.cid), fields.seq) else {
            // An ack of nothing, or a second one.
            return self.tally.judge(Verdict::Doubled);
        };
        net.lane().acked.add(1);
        self.tally.acked_seq(seq);
        self.tally.ack_ns.saturating_record(now_ns.saturating_sub(stamp.intended_ns));
        let Book::Reading(stream) = &mut self.books[member as usize] else { return };
        let by_seq = stream.ack(seq);
        self.arrive(net, member, stamp, by_seq);
    }

    fn refused(&mut self, net: &Net, member: u32, fields: &Fields<'_>, text: &str, now_ns: u64) {
        self.tally.refused(fields.code.unwrap_or_default());
        if self.settle(net, member, fields.cid).is_some() {
            net.lane().refused.add(1);
        } else if let (Book::Stalling(..), true) = (&self.books[member as usize], fields.retry) {
            self.again.push_back((now_ns + RETRY_NS_MAX, member));
        } else {
            net.board().trouble(|| format!("a refusal of nothing: {text}"));
        }
    }

    fn publish(&mut self, net: &mut Net, member: u32, intended_ns: u64) {
        let sender = (member as usize * self.threads + self.lane) as u32;
        let (last, unanswered) = &mut self.publishers[member as usize];
        let stamp = Stamp { sender, n: *last + 1, intended_ns };
        stamp.write(&mut self.text, self.run, 11, self.flags.group, self.flags.payload as usize);
        if unanswered.len() >= UNACKED_MAX || !net.send(member, &self.text) {
            self.tally.unsent += 1;
            return;
        }
        *last += 1;
        unanswered.push_back((stamp.n, intended_ns));
        net.lane().sent.add(1);
        net.lane().pending.add(1);
    }

    /// Messages between `low` and `high` that a member lacks.
    fn missing(&self, member: usize, low: u64, high: u64) -> u64 {
        match &self.books[member] {
            Book::Reading(stream) => stream.missing(low, high),
            Book::Stalling(eye, _) if eye.last == 0 => high - low + 1,
            Book::Stalling(eye, _) => eye.first.saturating_sub(low) + high.saturating_sub(eye.last),
        }
    }
}

impl Actor for Slow {
    fn opened(&mut self, net: &mut Net, member: u32, again: bool) {
        if again {
            if let Book::Stalling(_, asked) = &mut self.books[member as usize] {
                *asked = false;
            }
            self.sync(net, member);
        }
    }

    fn text(&mut self, net: &mut Net, member: u32, text: &str, now_ns: u64) {
        let Some(fields) = scan(text) else { return };
        match fields.cmd {
            Some(11) => self.pushed(net, member, &fields, now_ns),
            Some(1) => self.acked(net, member, &fields, now_ns),
            Some(2) => self.refused(net, member, &fields, text, now_ns),
            Some(4) => self.page(net, member, text),
            _ => {}
        }
    }

    fn closed(&mut self, net: &mut Net, member: u32) {
        self.dropped[usize::from(net.is_narrow(member))] += 1;
    }

    fn turn(&mut self, net: &mut Net, now_ns: u64) -> u64 {
        while let Some((_, member)) = self.again.pop_front_if(|(at, _)| *at <= now_ns) {
            if let Book::Stalling(_, asked) = &mut self.books[member as usize] {
                *asked = false;
            }
            self.sync(net, member);
        }
        let again = self.again.front().map_or(u64::MAX, |(at, _)| *at);
        // What was due before the end is sent, even if this thread comes late to it.
        if !matches!(net.board().phase(), Phase::Running | Phase::Draining) {
            return again;
        }
        let (start, end) = (net.board().started_ns(), 2 * seconds_ns(self.flags.seconds));
        loop {
            let offset = (u128::from(self.next) * 1_000_000_000 / u128::from(self.flags.rate)) as u64;
            if offset >= end {
                return again;
            }
            if start + offset > now_ns {
                return again.min(start + offset);
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

/// The server's resident memory: the largest reading of each half and of the time after it, and their number.
#[derive(Clone, Copy, Default, Debug)]
struct Memory {
    most: [Option<u64>; 3],
    samples: u64,
}

impl Memory {
    fn enter(&mut self, part: usize, sample: Sample) {
        self.most[part] = self.most[part].max(sample.resident_bytes);
        self.samples += u64::from(sample.resident_bytes.is_some());
    }
}

pub(crate) fn run(flags: &Flags) -> Result<Report> {
    let Flags { options, members, publishers, stalled, .. } = flags;
    ensure!(!options.legacy, "--legacy has no sync, and this scenario is about it");
    ensure!(stalled < members, "--stalled must be less than --members");
    ensure!((1..=members - stalled).contains(publishers), "--publishers must be between 1 and those who read");
    ensure!(
        members.saturating_mul(*publishers) <= MEMBER_PUBLISHERS_MAX,
        "{members} members x {publishers} publishers are too many to be told apart: at most {MEMBER_PUBLISHERS_MAX}"
    );
    let mut plan = options.plan(*members, *members, true, true)?;
    Arc::get_mut(&mut plan).expect("invariant: nobody else has it yet").narrow_from = members - stalled;
    let probe = options.probe()?;
    let threads = usize::from(options.threads);
    let (shared, run) = (Arc::new(flags.clone()), Run::new());
    let actors = (0..threads)
        .map(|lane| {
            let logins: Vec<u32> = deal(*members, threads, lane).map(|i| i as u32).collect();
            let slow = Slow::new(&shared, run, &plan, lane, logins.len());
            (logins, slow)
        })
        .collect();
    let (memory, actors) = perform(&plan, probe.as_ref(), actors, |conductor| {
        conductor.open(*members, options.opening_seconds(*members))?;
        Ok(conduct(flags, conductor))
    })?;
    let mut report = Report::new("slow");
    report.count("members", *members as u64);
    report.count("stalled", *stalled as u64);
    report.count("publishers", *publishers as u64);
    report.count("rate_per_second", flags.rate);
    report.count("seconds", flags.seconds);
    report.count("payload_bytes", u64::from(flags.payload));
    judge(&mut report, flags, &plan, &actors);
    for (key, most) in
        ["resident_max_reading", "resident_max_stalled", "resident_max_after"].into_iter().zip(memory.most)
    {
        report.figure(key, most.map(|bytes| bytes as f64 / (1 << 20) as f64), "MiB");
    }
    report.count("resident_samples", memory.samples);
    report.troubles(&plan.board.troubles());
    Ok(report)
}

/// Both halves, and the awakening.
fn conduct(flags: &Flags, conductor: &Conductor<'_>) -> Memory {
    let (clock, board) = (conductor.plan.clock, conductor.board());
    let mut memory = Memory::default();
    conductor.watch("settling", clock.nanos() + SETTLE_NS, |_| {});
    let start = clock.nanos();
    board.enter(Phase::Running, start);
    conductor.watch("everybody reads", start + seconds_ns(flags.seconds), |sample| memory.enter(0, sample));
    board.set_asleep(true);
    conductor.watch("some do not read", start + 2 * seconds_ns(flags.seconds), |sample| memory.enter(1, sample));
    board.enter(Phase::Draining, clock.nanos());
    board.set_asleep(false);
    memory.enter(2, conductor.sample());
    let all = flags.members as u64;
    conductor.drain(flags.drain, |board| {
        board.sum(|l| &l.scheduled) == flags.rate * 2 * flags.seconds
            && board.sum(|l| &l.pending) == 0
            && board.sum(|l| &l.arrived) >= board.sum(|l| &l.acked) * all
    });
    memory.enter(2, conductor.sample());
    memory
}

/// Compares what every member has with what was acked, and the halves with each other.
fn judge(report: &mut Report, flags: &Flags, plan: &Plan, actors: &[Slow]) {
    let tally = Tally::merged(actors.iter().map(|actor| &actor.tally));
    let acked = plan.board.sum(|l| &l.acked);
    let (mut lost, mut incomplete) = (0, 0);
    let mut halves = [histogram(), histogram()];
    let mut dropped = [0; 2];
    for actor in actors {
        for (member, windows) in actor.windows.chunks(flags.publishers).enumerate() {
            let arrived: u64 = windows.iter().map(|window| u64::from(window.arrived)).sum();
            let by_seq = tally.acked_seqs.map_or(0, |(low, high)| actor.missing(member, low, high));
            let missing = by_seq.max(acked.saturating_sub(arrived));
            lost += missing;
            incomplete += u64::from(missing > 0 && matches!(actor.books[member], Book::Stalling(..)));
        }
        for half in 0..2 {
            // All have the same bounds, so adding cannot fail.
            halves[half].add(&actor.halves[half]).expect("invariant: equal bounds");
            dropped[half] += actor.dropped[half];
        }
    }
    report.count("sent", plan.board.sum(|l| &l.sent));
    report.count("acked", acked);
    report.count("refused", plan.board.sum(|l| &l.refused));
    report.refusals(&tally.refusals);
    report.count("unsent", tally.unsent);
    report.count("foreign", tally.foreign);
    report.count("hidden_repetitions", tally.hidden);
    report.must_be_zero("lost", lost);
    report.must_be_zero("stalled_incomplete", incomplete);
    report.must_be_zero("doubled", tally.doubled);
    report.must_be_zero("out_of_order", tally.out_of_order);
    report.must_be_zero("unacked", plan.board.sum(|l| &l.pending));
    report.must_be_zero("readers_dropped", dropped[0]);
    report.count("stalled_dropped", dropped[1]);
    report.latency("ack_latency", &tally.ack_ns);
    report.latency("latency_all_read", &halves[0]);
    report.latency("latency_some_stalled", &halves[1]);
    let [before, after] = halves.map(|half| half.value_at_quantile(0.99) as f64);
    let factor = (before > 0.0).then_some(after / before);
    report.figure("p99_factor", factor, "times");
    if let Some(most) = flags.p99_factor {
        report.must_be_zero("p99_factor_exceeded", u64::from(factor.is_none_or(|factor| factor > most)));
    }
    if tally.acked_seqs.is_none() {
        // Nothing was stored: nothing could be made up for.
        report.must_be_zero("runs_without_a_seq", 1);
    }
}

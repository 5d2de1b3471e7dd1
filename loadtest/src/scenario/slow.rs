//! `slow`: one group in two halves of the same traffic. In the second half some members stop
//! reading on live connections; then they wake up.
//!
//! Owns: the books of the readers (every push judged as it comes) and of the stalled (judged
//! as a client that follows `seq` and syncs shows it), and the comparison of the two halves for
//! those who read.

use std::collections::VecDeque;

use std::path::Path;

use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::Value;

use super::crowd::{Crowd, Desk};
use super::traffic::Found;
use crate::board::Phase;
use crate::clock::seconds_ns;
use crate::conduct::{Conductor, deal, perform};
use crate::engine::Actor;
use crate::exit::Exit;
use crate::goals::within;
use crate::interrupt::Interrupt;
use crate::ledger::{Eye, Sight, Stream, Verdict};
use crate::limits::{RETRY_NS_MAX, SECONDS_MAX, SYNC_ROWS};
use crate::net::{Net, Plan};
use crate::probe::{Sample, own_cpu_seconds};
use crate::report::Report;
use crate::scan::{Fields, scan};
use crate::stamp::{Run, Stamp};
use crate::tally::Tally;
use crate::verify::crew::histogram;

/// Let the connections' own costs pass before the first half.
const SETTLE_NS: u64 = 1_000_000_000;
/// Bytes of a mebibyte, in which memory is told.
const MIB: f64 = 1_048_576.0;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    crowd: Crowd,
    /// How many members stop reading in the second half; `--seconds` is the length of each half.
    #[arg(long)]
    stalled: usize,
    /// Fail when the p99 of the readers grows by more than this factor.
    #[arg(long)]
    p99_factor: Option<f64>,
    /// Fail when the server's resident memory, sampled each second, is ever above so many MiB.
    #[arg(long)]
    rss_max: Option<u64>,
}

impl Flags {
    /// Where the report is wanted as a page.
    pub(super) fn html(&self) -> Option<&Path> {
        self.crowd.options.html.as_deref()
    }

    /// Whether the report is wanted as JSON.
    pub(super) fn json(&self) -> bool {
        self.crowd.options.json
    }
}

/// What one member has.
#[derive(Debug)]
enum Book {
    /// Reads all the time: the next push is always the next `seq`.
    Reading(Stream),
    /// Stalls: shows what is next, syncs what is missing. True: a sync is unanswered.
    Stalling(Eye, bool),
}

/// The members of one thread, dealt in turn as in `fanout`. The last of all stall; the first
/// publish.
struct Slow {
    desk: Desk,
    /// Length of each half.
    seconds: u64,
    books: Vec<Book>,
    /// Syncs that were refused for now, in the order of their times.
    again: VecDeque<(u64, u32)>,
    /// Of the readers: the delivery latencies of the first half and of the second.
    halves: [Histogram<u64>; 2],
    /// Connections that went: of readers, of stalled ones.
    dropped: [u64; 2],
}

impl Slow {
    fn new(crowd: &Crowd, group: u64, run: Run, plan: &Plan, lane: usize, members: usize) -> Self {
        let threads = plan.board.lanes.len();
        let book = |member: usize| {
            let stalls = member * threads + lane >= plan.narrow_from;
            if stalls { Book::Stalling(Eye::default(), false) } else { Book::Reading(Stream::default()) }
        };
        Self {
            desk: Desk::new(crowd, group, run, plan, lane, members),
            seconds: crowd.measure.seconds,
            books: (0..members).map(book).collect(),
            again: VecDeque::new(),
            halves: [histogram(), histogram()],
            dropped: [0; 2],
        }
    }

    fn pushed(&mut self, net: &mut Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        let elsewhere = fields.dstid != Some(self.desk.group);
        let Some(seq) = fields.seq.filter(|_| !elsewhere) else {
            // In its group, but without a number: that is told as the wrong mode.
            return self.desk.tally.strayed(fields.content.filter(|_| elsewhere), self.desk.run);
        };
        let stamp = self.desk.stamp(fields.content);
        let by_seq = match &mut self.books[member as usize] {
            Book::Stalling(..) => return self.shown(net, member, seq, stamp),
            Book::Reading(stream) => stream.push(seq),
        };
        let Some(stamp) = stamp else {
            self.desk.tally.foreign += 1;
            return self.desk.tally.judge(by_seq);
        };
        net.lane().delivered.add(1);
        if self.desk.arrive(net, member, stamp, by_seq) != Verdict::Doubled && net.is_watched(member) {
            let half = usize::from(stamp.intended_ns >= net.board().started_ns() + seconds_ns(self.seconds));
            self.halves[half].saturating_record(now_ns.saturating_sub(stamp.intended_ns));
        }
    }

    /// A reader that stalls meets a message, pushed or read.
    fn shown(&mut self, net: &mut Net, member: u32, seq: u64, stamp: Option<Stamp>) {
        let Book::Stalling(eye, _) = &mut self.books[member as usize] else { return };
        match eye.see(seq) {
            Sight::Skip => self.desk.tally.hidden += 1,
            Sight::Sync => self.sync(net, member),
            Sight::Show => match stamp {
                Some(stamp) => {
                    net.lane().delivered.add(1);
                    self.desk.arrive(net, member, stamp, Verdict::Fresh);
                }
                None => self.desk.tally.foreign += 1,
            },
        }
    }

    /// Asks for what follows, unless it is asked already.
    fn sync(&mut self, net: &mut Net, member: u32) {
        let Book::Stalling(eye, asked) = &mut self.books[member as usize] else { return };
        if !*asked {
            let (group, after) = (self.desk.group, eye.last);
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
                let stamp = self.desk.stamp(row["content"].as_str());
                self.shown(net, member, seq, stamp);
            }
        }
        let more = answer["more"].as_bool() == Some(true);
        let behind = matches!(&self.books[member as usize], Book::Stalling(eye, _) if eye.behind());
        if more || behind {
            self.sync(net, member);
        }
    }

    fn acked(&mut self, net: &Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        let Some(stamp) = self.desk.acked(net, member, fields.cid, fields.seq, now_ns) else { return };
        let Some(seq) = fields.seq else { return };
        let Book::Reading(stream) = &mut self.books[member as usize] else { return };
        let by_seq = stream.ack(seq);
        self.desk.arrive(net, member, stamp, by_seq);
    }

    fn refused(&mut self, net: &Net, member: u32, fields: &Fields<'_>, text: &str, now_ns: u64) {
        if self.desk.tally.refused(fields.code.unwrap_or_default()) {
            net.board().trouble(|| format!("refused: {text:.200}"));
        }
        if self.desk.settle(net, member, fields.cid).is_some() {
            net.lane().refused.add(1);
        } else if let (Book::Stalling(..), true) = (&self.books[member as usize], fields.retry) {
            self.again.push_back((now_ns + RETRY_NS_MAX, member));
        } else {
            net.board().trouble(|| format!("a refusal of nothing: {text}"));
        }
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
        again.min(self.desk.schedule(net, 2 * self.seconds, now_ns))
    }
}

/// The server's resident memory: the largest reading of each half and of the time after it, and
/// their number.
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

    /// The maxima, and whether the bound of `most_mib` held. A bound that could not be checked did
    /// not hold.
    fn tell(&self, report: &mut Report, most_mib: Option<u64>) {
        let mib = |bytes: u64| bytes as f64 / MIB;
        for (key, most) in
            ["resident_max_reading", "resident_max_stalled", "resident_max_after"].into_iter().zip(self.most)
        {
            report.figure(key, most.map(mib), "MiB");
        }
        let most = self.most.into_iter().flatten().max().map(mib);
        report.figure("resident_max", most, "MiB");
        report.count("resident_samples", self.samples);
        if let Some(bound) = most_mib {
            report.exceeded("rss_max_exceeded", most.is_none_or(|most| most > bound as f64));
        }
    }
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    flags.crowd.options.refuse_workers("`slow`")?;
    let Flags { crowd, stalled, .. } = flags;
    let members = crowd.members;
    ensure!(!crowd.options.legacy, "--legacy has no sync, and this scenario is about it");
    ensure!(
        crowd.measure.seconds <= SECONDS_MAX / 2,
        "--seconds is the length of each half: at most {}",
        SECONDS_MAX / 2
    );
    let plan = crowd.plan(*stalled, true, interrupt)?;
    let probe = crowd.options.probe()?;
    ensure!(flags.rss_max.is_none() || probe.is_some(), "--rss-max needs --metrics or --server-pid");
    let (threads, run, group) = (plan.board.lanes.len(), Run::new(), crowd.group(&plan)?);
    let actors = (0..threads)
        .map(|lane| {
            let logins: Vec<u32> = deal(members, threads, lane).map(|i| i as u32).collect();
            let slow = Slow::new(crowd, group, run, &plan, lane, logins.len());
            (logins, slow)
        })
        .collect();
    let ((memory, busy), actors) = perform(&plan, probe.as_ref(), actors, |conductor| {
        conductor.open(members)?;
        let own = own_cpu_seconds();
        let from = plan.clock.nanos();
        let memory = conduct(crowd, conductor);
        let wall = (plan.clock.nanos() - from) as f64 / 1e9;
        Ok((memory, own.zip(own_cpu_seconds()).map(|(from, to)| (to - from) * 100.0 / wall)))
    })?;
    let mut report = Report::new("slow", interrupt);
    crowd.describe(&mut report, group);
    report.count("stalled", *stalled as u64);
    judge(&mut report, flags, &plan, &actors, busy);
    memory.tell(&mut report, flags.rss_max);
    report.figure("client_cpu_percent", busy, "% of one core");
    report.troubles(&plan.board.troubles());
    Ok(report)
}

/// Both halves, and the awakening.
fn conduct(crowd: &Crowd, conductor: &Conductor<'_>) -> Memory {
    let (clock, board) = (conductor.plan.clock, conductor.board());
    let (mut memory, seconds) = (Memory::default(), crowd.measure.seconds);
    conductor.watch("settling", clock.nanos() + SETTLE_NS, |_| {});
    let start = clock.nanos();
    board.enter(Phase::Running, start);
    conductor.watch("everybody reads", start + seconds_ns(seconds), |sample| memory.enter(0, sample));
    board.set_asleep(!conductor.interrupted());
    conductor.watch("some do not read", start + 2 * seconds_ns(seconds), |sample| memory.enter(1, sample));
    board.enter(Phase::Draining, clock.nanos());
    board.set_asleep(false);
    memory.enter(2, conductor.sample());
    let all = crowd.members as u64;
    conductor.drain(crowd.measure.drain, |board| {
        (conductor.interrupted() || board.sum(|l| &l.scheduled) == crowd.rate * 2 * seconds)
            && board.sum(|l| &l.pending) == 0
            && board.sum(|l| &l.arrived) >= board.sum(|l| &l.acked) * all
    });
    memory.enter(2, conductor.sample());
    memory
}

/// Compares what every member has with what was acked, and the halves with each other.
fn judge(report: &mut Report, flags: &Flags, plan: &Plan, actors: &[Slow], busy: Option<f64>) {
    let tally = Tally::merged(actors.iter().map(|actor| &actor.desk.tally));
    let acked = plan.board.sum(|l| &l.acked);
    let (mut lost, mut incomplete) = (0, 0);
    let mut halves = [histogram(), histogram()];
    let mut dropped = [0; 2];
    for actor in actors {
        for (member, arrived) in actor.desk.arrived().enumerate() {
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
    let traffic = &flags.crowd.traffic;
    let scheduled = Some(flags.crowd.rate * 2 * flags.crowd.measure.seconds);
    let found = Found { plan, tally: &tally, client_percent: busy, scheduled, crosses: false };
    traffic.judge(report, &found);
    report.count("hidden_repetitions", tally.hidden);
    // What is not stored cannot be made up for: that is told below, and no loss.
    let stored = tally.acked_without_seq == 0;
    report.must_be_zero_at_the_end("lost", if stored { lost } else { 0 });
    report.must_be_zero_at_the_end("stalled_incomplete", if stored { incomplete } else { 0 });
    report.must_be_zero("doubled", tally.doubled);
    report.must_be_zero("out_of_order", tally.out_of_order);
    report.must_be_zero_at_the_end("unacked", plan.board.sum(|l| &l.pending));
    report.must_be_zero("readers_dropped", dropped[0]);
    report.count("stalled_dropped", dropped[1]);
    report.latency("ack_latency", &tally.ack_ns);
    let (bound, generator) = (traffic.p99_ms(&found), found.generator());
    for (key, half) in ["latency_all_read", "latency_some_stalled"].into_iter().zip(&halves) {
        report.latency(key, half);
        within(report, key, half, bound, &generator);
    }
    let [before, after] = halves.map(|half| half.value_at_quantile(0.99) as f64);
    let factor = (before > 0.0).then_some(after / before);
    report.figure("p99_factor", factor, "times");
    if let Some(most) = flags.p99_factor {
        report.exceeded("p99_factor_exceeded", factor.is_none_or(|factor| factor > most));
    }
    if !stored {
        report.fail(Exit::Mode, format!("acks without a seq: {}", tally.acked_without_seq));
    }
}

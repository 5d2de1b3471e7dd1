//! `fanout`: one group, open loop. Every member must receive every message exactly once and in
//! order.
//!
//! Owns: the members' books by `seq`; those by content and the publishers are in [`super::crowd`].

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use hdrhistogram::Histogram;

use super::crowd::{Crowd, Desk};
use super::traffic::Found;
use crate::conduct::Steady;
use crate::engine::Actor;
use crate::interrupt::Interrupt;
use crate::ledger::{Stream, Verdict};
use crate::net::{Net, Plan};
use crate::options::Options;
use crate::report::Report;
use crate::scan::{Fields, scan};
use crate::split::wire::Whole;
use crate::split::worker::Station;
use crate::split::{Dealing, Job, Splits, perform};
use crate::tally::Reckoning;
use crate::upgrade::Profile;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    crowd: Crowd,
}

impl Flags {
    /// The flags that all scenarios share.
    pub(super) const fn options(&mut self) -> &mut Options {
        &mut self.crowd.options
    }

    /// Where the report is wanted as a page.
    pub(super) fn html(&self) -> Option<&Path> {
        self.crowd.options.html.as_deref()
    }

    /// Whether the report is wanted as JSON.
    pub(super) fn json(&self) -> bool {
        self.crowd.options.json
    }
}

/// The members of one thread.
struct Fanout {
    desk: Desk,
    seconds: u64,
    /// Per member: what it has received, by `seq`.
    streams: Vec<Stream>,
}

impl Fanout {
    fn pushed(&mut self, net: &Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        if fields.dstid != Some(self.desk.group) {
            return self.desk.tally.strayed(fields.content, self.desk.run);
        }
        let stamp = self.desk.stamp(fields.content);
        if self.desk.profile == Profile::Legacy && stamp.is_some_and(|s| s.sender == self.desk.index(member)) {
            // Some old servers echo, some do not; the books have it since it was sent.
            return;
        }
        let by_seq = fields.seq.map_or(Verdict::Fresh, |seq| self.streams[member as usize].push(seq));
        let Some(stamp) = stamp else {
            // Another program's message takes a place in the order and no other.
            self.desk.tally.foreign += 1;
            return self.desk.tally.judge(by_seq);
        };
        net.lane().delivered.add(1);
        if self.desk.arrive(net, member, stamp, by_seq) != Verdict::Doubled && net.is_watched(member) {
            self.desk.tally.delivered_after(now_ns.saturating_sub(stamp.intended_ns));
        }
    }

    fn acked(&mut self, net: &Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        if let Some(stamp) = self.desk.acked(net, member, fields.cid, fields.seq, now_ns) {
            let by_seq = fields.seq.map_or(Verdict::Fresh, |seq| self.streams[member as usize].ack(seq));
            self.desk.arrive(net, member, stamp, by_seq);
        }
    }

    fn refused(&mut self, net: &Net, member: u32, fields: &Fields<'_>, text: &str) {
        if self.desk.tally.refused(fields.code.unwrap_or_default()) {
            net.board().trouble(|| format!("refused: {text:.200}"));
        }
        if self.desk.settle(net, member, fields.cid).is_some() {
            net.lane().refused.add(1);
        } else {
            net.board().trouble(|| format!("a refusal of nothing: {text}"));
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
            // No message goes to one user here.
            Some(10) => self.desk.tally.strayed(fields.content, self.desk.run),
            _ => {}
        }
    }

    fn turn(&mut self, net: &mut Net, now_ns: u64) -> u64 {
        self.desk.schedule(net, self.seconds, now_ns)
    }
}

impl Splits for Fanout {
    type Findings = Reckoning;

    fn acked_seqs(&self) -> Option<(u64, u64)> {
        self.desk.tally.acked_seqs
    }

    /// Compares what every member has received with what was acked, wherever that was.
    fn close(self, whole: &Whole) -> Reckoning {
        let mut lost = 0;
        for (stream, arrived) in self.streams.iter().zip(self.desk.arrived()) {
            let by_seq = whole.acked_seqs.map_or(0, |(low, high)| stream.missing(low, high));
            lost += by_seq.max(whole.acked.saturating_sub(arrived));
        }
        Reckoning { tally: self.desk.tally, lost }
    }

    fn add(sum: &mut Reckoning, one: &Reckoning) {
        sum.add(one);
    }

    fn lateness(found: &Reckoning) -> Option<&Histogram<u64>> {
        Some(&found.tally.lag_ns)
    }
}

/// The threads of this process, with their members.
fn actors(crowd: &Crowd, plan: &Plan, group: u64) -> Vec<(Vec<u32>, Fanout)> {
    let (threads, seconds) = (plan.board.lanes.len(), crowd.measure.seconds);
    let actor = |lane| {
        let logins = Dealing::Singles.places(crowd.members, threads, lane);
        let desk = Desk::new(crowd, group, plan.run, plan, lane, logins.len());
        let streams = vec![Stream::default(); logins.len()];
        (logins, Fanout { desk, seconds, streams })
    };
    plan.own.clone().map(actor).collect()
}

/// A worker's part.
pub(crate) fn part(flags: &Flags, station: &mut Station) -> Result<()> {
    let group = station.part()?.group.context("the control has told no group")?;
    let plan = flags.crowd.plan(0, false, &station.interrupt)?;
    station.work(&plan, actors(&flags.crowd, &plan, group))
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    let crowd = &flags.crowd;
    let (members, seconds) = (crowd.members, crowd.measure.seconds);
    let plan = crowd.plan(0, false, interrupt)?;
    let (probe, group) = (crowd.options.probe()?, crowd.group(&plan)?);
    let job = Job { group: Some(group), ..Job::of(members, Dealing::Singles) };
    let actors = actors(crowd, &plan, group);
    let (steady, found) = perform(&plan, probe.as_ref(), &job, actors, |conductor| {
        conductor.open(members)?;
        let steady = conductor.run(seconds);
        conductor.drain(crowd.measure.drain, |board| {
            (interrupt.is_set() || board.sum(|l| &l.scheduled) == crowd.rate * seconds)
                && board.sum(|l| &l.pending) == 0
                && board.sum(|l| &l.arrived) >= board.sum(|l| &l.acked) * members as u64
        });
        Ok(steady)
    })?;
    let mut report = Report::new("fanout", interrupt);
    crowd.describe(&mut report, group);
    judge(&mut report, crowd, &plan, &found, &steady);
    report.steady(&steady);
    crowd.options.wire(&mut report, &plan);
    crowd.options.show(&mut report, &plan);
    report.troubles(&plan.board.troubles());
    Ok(report)
}

fn judge(report: &mut Report, crowd: &Crowd, plan: &Plan, found: &Reckoning, steady: &Steady) {
    let Reckoning { tally, lost } = found;
    let scheduled = Some(crowd.rate * crowd.measure.seconds);
    let found = Found { plan, tally, client_percent: steady.client_percent, scheduled, crosses: true };
    crowd.traffic.judge(report, &found);
    report.must_be_zero_at_the_end("lost", *lost);
    report.must_be_zero("doubled", tally.doubled);
    report.must_be_zero("out_of_order", tally.out_of_order);
    report.must_be_zero_at_the_end("unacked", plan.board.sum(|l| &l.pending));
    crowd.traffic.judge_latencies(report, &found);
    report.must_be_zero("dropped", plan.board.sum(|l| &l.dropped));
}

//! `direct`: pairs of users; each message of the first is answered by the second. Open loop (a
//! rate) or closed loop (a window per pair).
//!
//! Owns: which user sends when, the log of acks, and with `--reconnect` the resends and syncs that
//! make a server's death invisible.
//! Bounds: what is planned for later (resends, syncs) is at most one entry per unanswered message
//! and one per user.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::Value;

use crate::board::Phase;
use crate::clock::seconds_ns;
use crate::conduct::Steady;
use crate::engine::Actor;
use crate::interrupt::Interrupt;
use crate::limits::{BUSY_NS, BUSY_NS_MAX, CONNECTIONS_MAX, RATE_MAX, RETRY_NS, WINDOW_MAX};
use crate::net::{Net, Plan};
use crate::options::{Measure, Options};
use crate::probe::Probe;
use crate::report::Report;
use crate::scan::{Fields, scan};
use crate::scenario::pair::{PairTerms, Side};
use crate::scenario::traffic::{Found, Traffic};
use crate::split::wire::Whole;
use crate::split::worker::Station;
use crate::split::{Dealing, Job, Splits, perform};
use crate::stamp::Run;
use crate::tally::{Reckoning, Tally};
use crate::upgrade::Profile;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(flatten)]
    measure: Measure,
    #[command(flatten)]
    traffic: Traffic,
    /// Pairs of users: the first two of the tokens file, the next two, …
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX as i64 / 2))]
    pairs: u32,
    /// Messages per second, all pairs together, at intended times whatever comes back (open loop).
    /// Answers come on top.
    #[arg(long, required_unless_present = "window", conflicts_with = "window",
        value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate: Option<u64>,
    /// Messages that each pair keeps under way: the next leaves when an answer has come (closed
    /// loop).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=WINDOW_MAX as i64))]
    window: Option<u32>,
    /// Survive the server's death: connect again, resend what is unanswered, sync, and judge what a
    /// client would show.
    #[arg(long, conflicts_with = "legacy")]
    reconnect: bool,
    /// Append a line `sender peer cid seq id` for every ack, for `check`.
    #[arg(long)]
    acked_log: Option<PathBuf>,
}

/// How the first of each pair sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// Open loop: messages per second, all pairs together.
    Rate(u64),
    /// Closed loop: messages that each pair keeps under way.
    Window(u32),
}

impl Flags {
    /// A run without reconnects and without a log.
    pub(super) fn plain(options: Options, measure: Measure, pairs: u32, load: Load) -> Self {
        let (rate, window) = match load {
            Load::Rate(rate) => (Some(rate), None),
            Load::Window(window) => (None, Some(window)),
        };
        Self { options, measure, traffic: Traffic::default(), pairs, rate, window, reconnect: false, acked_log: None }
    }

    /// Of a run whose messages another scenario sends: nothing leaves by itself, and connections
    /// come back.
    pub(super) fn driven(options: Options, measure: Measure, pairs: u32) -> Self {
        Self { reconnect: true, ..Self::plain(options, measure, pairs, Load::Window(0)) }
    }

    /// As [`Flags::plain`], with the bounds of a run that is to hold.
    pub(super) fn bounded(options: Options, measure: Measure, pairs: u32, load: Load, p99_ms: f64) -> Self {
        Self { traffic: Traffic::bounded(p99_ms), ..Self::plain(options, measure, pairs, load) }
    }
}

/// Something to do for a member later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Later {
    Resend(u32),
    Sync,
}

/// How long to wait after a refusal for now, the one after so many `before` of the same.
fn busy_ns(before: u32) -> u64 {
    BUSY_NS.saturating_mul(1 << before.min(16)).min(BUSY_NS_MAX)
}

/// The pairs of one thread. Members 2 i and 2 i + 1 are its pair i, which is pair i * threads + t
/// of all.
pub(super) struct Direct {
    flags: Arc<Flags>,
    terms: PairTerms,
    answered: bool,
    threads: usize,
    lane: usize,
    sides: Vec<Side>,
    /// The next message of the open loop, counted over all threads.
    next: u64,
    /// Whether the closed loop has begun.
    begun: bool,
    later: BinaryHeap<Reverse<(u64, u32, Later)>>,
    pub(super) tally: Tally,
    log: Option<File>,
    /// Log lines of this turn.
    lines: String,
    text: String,
}

impl Direct {
    pub(super) fn new(flags: &Arc<Flags>, run: Run, plan: &Plan, lane: usize, logins: &[u32]) -> Result<Self> {
        let user = |at: usize| plan.tokens.get(at).0;
        let side = |&login: &u32| {
            let at = login as usize;
            Side::new(user(at), user(at ^ 1), login)
        };
        let open = |path: &PathBuf| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        Ok(Self {
            terms: PairTerms { run, payload: flags.measure.payload as usize, eye: flags.reconnect },
            answered: plan.profile == Profile::V2,
            threads: plan.board.lanes.len(),
            lane,
            sides: logins.iter().map(side).collect(),
            next: 0,
            begun: false,
            later: BinaryHeap::new(),
            tally: Tally::of(plan, lane),
            log: flags.acked_log.as_ref().map(open).transpose()?,
            lines: String::new(),
            text: String::new(),
            flags: Arc::clone(flags),
        })
    }

    /// The user with whom a member talks.
    pub(super) fn peer(&self, member: u32) -> u64 {
        self.sides[member as usize].peer
    }

    /// A member's place among the run's users.
    pub(super) fn login(&self, member: u32) -> u32 {
        self.sides[member as usize].login()
    }

    /// The newest message that a member has been shown; 0: none.
    pub(super) fn newest(&self, member: u32) -> u64 {
        self.sides[member as usize].newest()
    }

    /// A member's connection goes because it is wanted: it comes back.
    pub(super) fn left(&mut self, member: u32) {
        self.sides[member as usize].interrupted();
    }

    /// Messages that were acked and that the other of the pair has not got.
    pub(super) fn lost(&self) -> u64 {
        let lost = self.sides.chunks(2).map(|pair| match pair {
            [a, b] => a.lost(&self.terms, b) + b.lost(&self.terms, a),
            _ => 0,
        });
        lost.sum()
    }

    /// A member shall send a message that was meant to leave at `intended_ns`.
    pub(super) fn post(&mut self, net: &mut Net, member: u32, intended_ns: u64) {
        if self.sides[member as usize].due(intended_ns) {
            net.lane().pending.add(1);
            self.pump(net, member);
        } else {
            self.tally.unsent += 1;
        }
    }

    /// Sends what is due as long as there is room and a connection.
    fn pump(&mut self, net: &mut Net, member: u32) {
        let side = &mut self.sides[member as usize];
        while net.is_open(member) && side.next(&self.terms, &mut self.text) && net.send(member, &self.text) {
            side.sent(!self.answered);
            net.lane().sent.add(1);
            if !self.answered {
                net.lane().acked.add(1);
                net.lane().pending.sub(1);
            }
        }
    }

    fn plan_later(&mut self, net: &mut Net, member: u32, from_ns: u64, pause_ns: u64, what: Later) {
        let at = from_ns + pause_ns + net.random_below(pause_ns / 4);
        self.later.push(Reverse((at, member, what)));
    }

    fn sync(&mut self, net: &mut Net, member: u32) {
        let request = self.sides[member as usize].sync();
        net.send(member, &request);
    }

    fn acked(&mut self, net: &mut Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        let side = &mut self.sides[member as usize];
        let behind = side.behind();
        if let Some(acked) = side.acked(&self.terms, fields, now_ns, &mut self.tally) {
            net.lane().acked.add(1);
            net.lane().pending.sub(1);
            if self.log.is_some() {
                let cid = acked.stamp.cid(self.terms.run);
                // Writing to a String cannot fail.
                let _ = writeln!(self.lines, "{} {} {cid} {} {}", side.user, side.peer, acked.seq, acked.id);
            }
        }
        if self.terms.eye && side.wants_sync() {
            // After a reconnect what came meanwhile is asked for anyway.
            self.tally.gaps += u64::from(!behind);
            self.sync(net, member);
        }
        self.pump(net, member);
    }

    fn refused(&mut self, net: &mut Net, member: u32, fields: &Fields<'_>, text: &str, now_ns: u64) {
        if self.tally.refused(fields.code.unwrap_or_default()) {
            net.board().trouble(|| format!("refused: {text:.200}"));
        }
        let side = &mut self.sides[member as usize];
        if fields.retry {
            if let Some((n, before)) = side.put_off(&self.terms, fields.cid) {
                return self.plan_later(net, member, now_ns, busy_ns(before), Later::Resend(n));
            }
        } else if side.refused(&self.terms, fields.cid).is_some() {
            net.lane().refused.add(1);
            net.lane().pending.sub(1);
            return;
        }
        // A sync has no cid.
        if self.terms.eye && fields.cid.is_none() {
            let before = side.sync_refused();
            self.plan_later(net, member, now_ns, busy_ns(before), Later::Sync);
        }
    }

    /// Enters a message that has no business here, whether of the pairs or of a group beside them.
    pub(super) fn strayed(&mut self, content: Option<&str>) {
        self.tally.strayed(content, self.terms.run);
    }

    fn received(&mut self, net: &mut Net, member: u32, message: &Fields<'_>, now_ns: u64) {
        let side = &mut self.sides[member as usize];
        let (from, own) = (message.userid == Some(side.peer), message.userid == Some(side.user));
        let here = message.dstid == Some(if own { side.peer } else { side.user });
        if !here || !(from || own) || (own && !self.answered) {
            if !own {
                self.strayed(message.content);
            }
            return;
        }
        let Some(stamp) = side.arrived(&self.terms, message, &mut self.tally) else { return };
        net.lane().delivered.add(1);
        net.lane().arrived.add(1);
        self.tally.delivered_after(now_ns.saturating_sub(stamp.intended_ns));
        // The second of a pair answers; an answer lets the first go on, if the loop is closed.
        let answers = member % 2 == 1;
        let goes_on = self.flags.window.is_some_and(|window| window > 0) && net.board().phase() == Phase::Running;
        if answers || goes_on {
            self.post(net, member, now_ns);
        }
    }

    fn pushed(&mut self, net: &mut Net, member: u32, fields: &Fields<'_>, now_ns: u64) {
        let behind = self.sides[member as usize].behind();
        self.received(net, member, fields, now_ns);
        if self.terms.eye && self.sides[member as usize].wants_sync() {
            self.tally.gaps += u64::from(!behind);
            self.sync(net, member);
        }
    }

    /// An answer to a sync: rare, so it is parsed as a whole.
    fn synced(&mut self, net: &mut Net, member: u32, text: &str, now_ns: u64) {
        let Ok(answer) = serde_json::from_str::<Value>(text) else {
            net.board().trouble(|| format!("an answer to a sync that is no JSON: {text:.80}"));
            return;
        };
        let rows = answer["rows"].as_array().map_or(&[][..], Vec::as_slice);
        for row in rows {
            let message = Fields {
                seq: row["seq"].as_u64(),
                userid: row["userid"].as_u64(),
                dstid: row["dstid"].as_u64(),
                content: row["content"].as_str(),
                ..Fields::default()
            };
            self.received(net, member, &message, now_ns);
        }
        let side = &mut self.sides[member as usize];
        let more = side.synced(answer["more"].as_bool() == Some(true) && !rows.is_empty());
        if more || (side.wants_sync() && !rows.is_empty()) {
            self.sync(net, member);
        } else if side.wants_sync() {
            // Heard of, but not in the answer: ask again, not at once.
            self.plan_later(net, member, now_ns, RETRY_NS, Later::Sync);
        }
    }

    /// Something has come for a member: `fields` is what [`scan`] found in `text`.
    pub(super) fn heard(&mut self, net: &mut Net, member: u32, fields: &Fields<'_>, text: &str, now_ns: u64) {
        match fields.cmd {
            Some(10) => self.pushed(net, member, fields, now_ns),
            Some(1) => self.acked(net, member, fields, now_ns),
            Some(2) => self.refused(net, member, fields, text, now_ns),
            Some(4) => self.synced(net, member, text, now_ns),
            _ => {}
        }
    }

    /// Sends what is due by the clock. Returns when the next message is due.
    fn schedule(&mut self, net: &mut Net, now_ns: u64) -> u64 {
        let (phase, start) = (net.board().phase(), net.board().started_ns());
        let pairs = u64::from(self.flags.pairs);
        let Some(rate) = self.flags.rate else {
            if phase == Phase::Running && start > now_ns {
                return start;
            }
            if phase == Phase::Running && !std::mem::replace(&mut self.begun, true) {
                for member in (0..self.sides.len() as u32).step_by(2) {
                    (0..self.flags.window.unwrap_or(1)).for_each(|_| self.post(net, member, now_ns));
                }
            }
            return u64::MAX;
        };
        loop {
            let offset = (u128::from(self.next) * 1_000_000_000 / u128::from(rate)) as u64;
            if offset >= seconds_ns(self.flags.measure.seconds) || start + offset > net.board().ended_ns() {
                return u64::MAX;
            }
            if start + offset > now_ns {
                return start + offset;
            }
            let pair = (self.next % pairs) as usize;
            if pair % self.threads == self.lane {
                net.lane().scheduled.add(1);
                self.tally.lag_ns.saturating_record(now_ns - (start + offset));
                self.post(net, (pair / self.threads * 2) as u32, start + offset);
            }
            self.next += 1;
        }
    }

    /// Does what was planned for now. Returns when the next thing is.
    fn repair(&mut self, net: &mut Net, now_ns: u64) -> u64 {
        while let Some(Reverse((at, member, what))) = self.later.peek().copied() {
            if at > now_ns {
                return at;
            }
            self.later.pop();
            let side = &mut self.sides[member as usize];
            match what {
                Later::Resend(n) => {
                    side.try_is_due(n);
                    if net.is_open(member) && side.again(n, &self.terms, &mut self.text) {
                        net.send(member, &self.text);
                    }
                }
                Later::Sync if net.is_open(member) && side.wants_sync() => self.sync(net, member),
                Later::Sync => {}
            }
        }
        u64::MAX
    }

    fn write_log(&mut self, net: &Net) {
        if let Some(log) = &mut self.log
            && !self.lines.is_empty()
        {
            // One write of whole lines to a file opened for appending: threads do not mix theirs.
            if let Err(error) = log.write_all(self.lines.as_bytes()) {
                net.board().trouble(|| format!("cannot write the log of acks: {error}"));
            }
            self.lines.clear();
        }
    }
}

impl Actor for Direct {
    fn opened(&mut self, net: &mut Net, member: u32, again: bool) {
        if again {
            self.sync(net, member);
            for n in self.sides[member as usize].unanswered() {
                if self.sides[member as usize].again(n, &self.terms, &mut self.text) {
                    net.send(member, &self.text);
                }
            }
            self.pump(net, member);
        }
    }

    fn text(&mut self, net: &mut Net, member: u32, text: &str, now_ns: u64) {
        if let Some(fields) = scan(text) {
            self.heard(net, member, &fields, text, now_ns);
        }
    }

    fn closed(&mut self, _net: &mut Net, member: u32) {
        self.sides[member as usize].interrupted();
    }

    fn turn(&mut self, net: &mut Net, now_ns: u64) -> u64 {
        self.write_log(net);
        // What was due before the end is sent, even if this thread comes late to it.
        let on = matches!(net.board().phase(), Phase::Running | Phase::Draining);
        let next = if on { self.schedule(net, now_ns) } else { u64::MAX };
        next.min(self.repair(net, now_ns))
    }
}

/// What a run has shown.
pub(super) struct Outcome {
    pub(super) plan: Arc<Plan>,
    pub(super) steady: Steady,
    pub(super) tally: Tally,
    pub(super) lost: u64,
    /// Connections open at the end.
    pub(super) open: u64,
}

impl Splits for Direct {
    type Findings = Reckoning;

    fn close(self, _whole: &Whole) -> Reckoning {
        Reckoning { lost: self.lost(), tally: self.tally }
    }

    fn add(sum: &mut Reckoning, one: &Reckoning) {
        sum.add(one);
    }

    fn lateness(found: &Reckoning) -> Option<&Histogram<u64>> {
        Some(&found.tally.lag_ns)
    }
}

impl Flags {
    /// Users of all pairs.
    const fn users(&self) -> usize {
        self.pairs as usize * 2
    }

    fn plan(&self, interrupt: &Interrupt) -> Result<Arc<Plan>> {
        if self.acked_log.is_some() {
            self.options.refuse_workers("a run with --acked-log")?;
        }
        self.options.plan(self.users(), usize::MAX, true, self.reconnect, interrupt)
    }

    /// The threads of this process, with their users.
    fn actors(&self, plan: &Plan) -> Result<Vec<(Vec<u32>, Direct)>> {
        let (shared, threads) = (Arc::new(self.clone()), plan.board.lanes.len());
        let actor = |lane| {
            let logins = Dealing::Pairs.places(self.users(), threads, lane);
            let direct = Direct::new(&shared, plan.run, plan, lane, &logins)?;
            Ok((logins, direct))
        };
        plan.own.clone().map(actor).collect()
    }
}

/// A worker's part.
pub(crate) fn part(flags: &Flags, station: &mut Station) -> Result<()> {
    let plan = flags.plan(&station.interrupt)?;
    station.work(&plan, flags.actors(&plan)?)
}

/// Runs the pairs and keeps their books.
pub(super) fn measure(flags: &Flags, probe: Option<&Probe>, interrupt: &Interrupt) -> Result<Outcome> {
    let measure = &flags.measure;
    let (users, plan) = (flags.users(), flags.plan(interrupt)?);
    let load = flags.rate.map(|rate| (rate, measure.seconds));
    let job = Job { load, ..Job::of(users, Dealing::Pairs) };
    let actors = flags.actors(&plan)?;
    let ((steady, open), found) = perform(&plan, probe, &job, actors, |conductor| {
        conductor.open(users)?;
        let steady = conductor.run(measure.seconds);
        conductor.drain(measure.drain, |board| {
            let sent = interrupt.is_set() || board.sum(|l| &l.scheduled) == flags.rate.unwrap_or(0) * measure.seconds;
            // Where no connection is left, nothing is on its way any more.
            let deserted = !plan.reconnect && board.sum(|l| &l.open) == 0;
            let all = board.sum(|l| &l.pending) == 0 && board.sum(|l| &l.arrived) >= board.sum(|l| &l.acked);
            sent && (all || deserted)
        });
        Ok((steady, conductor.board().sum(|l| &l.open)))
    })?;
    let Reckoning { tally, lost } = found;
    Ok(Outcome { plan, steady, tally, lost, open })
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    let (mut report, outcome) = judged(flags, interrupt)?;
    flags.options.wire(&mut report, &outcome.plan);
    flags.options.show(&mut report, &outcome.plan);
    Ok(report)
}

/// A run and the verdict on it.
pub(super) fn judged(flags: &Flags, interrupt: &Interrupt) -> Result<(Report, Outcome)> {
    let outcome = measure(flags, flags.options.probe()?.as_ref(), interrupt)?;
    let Outcome { plan, steady, tally, lost, open } = &outcome;
    let mut report = Report::new("direct", interrupt);
    report.count("pairs", u64::from(flags.pairs));
    report.text(
        "load",
        &match (flags.rate, flags.window) {
            (Some(rate), _) => format!("open loop, {rate}/s and the answers"),
            (None, window) => format!("closed loop, window {}", window.unwrap_or(1)),
        },
    );
    report.count("seconds", flags.measure.seconds);
    report.count("payload_bytes", u64::from(flags.measure.payload));
    let scheduled = flags.rate.map(|rate| rate * flags.measure.seconds);
    let found = Found { plan, tally, client_percent: steady.client_percent, scheduled, crosses: false };
    flags.traffic.judge(&mut report, &found);
    report.must_be_zero_at_the_end("lost", *lost);
    report.must_be_zero("doubled", tally.doubled);
    report.must_be_zero("out_of_order", tally.out_of_order);
    report.must_be_zero_at_the_end("unacked", plan.board.sum(|l| &l.pending));
    flags.traffic.judge_latencies(&mut report, &found);
    if plan.reconnect {
        report.count("dropped", plan.board.sum(|l| &l.dropped));
        report.count("reopened", plan.board.sum(|l| &l.reopened));
        report.count("hidden_repetitions", tally.hidden);
    } else {
        report.must_be_zero("dropped", plan.board.sum(|l| &l.dropped));
    }
    report.must_be_zero_at_the_end("not_open_at_the_end", (u64::from(flags.pairs) * 2).saturating_sub(*open));
    report.steady(steady);
    report.troubles(&plan.board.troubles());
    Ok((report, outcome))
}

//! The workers of a run, as the control sees them.
//!
//! Owns: [`Fleet`], the connections to all workers; one thread for each while a run goes on, which
//! passes the board's phases on and enters what the worker tells. When one fails, the run is ended
//! by [`crate::interrupt::Interrupt::fail`], and what the others have found is told.
//! Never: waits longer than [`SILENCE_MS_MAX`] for a worker that says nothing, or than
//! [`ENDING_MS_MAX`] for findings.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::clocks::ClockOffset;
use super::packed::unpack;
use super::secret::{End, Secret, nonce};
use super::wire::{Briefing, Introduction, Link, PROTOCOL, Scene, ToControl, ToWorker, VERSION, WorkerCounts};
use super::{Job, Splits, whole};
use crate::board::{Board, Count, Lane, Phase};
use crate::clock::{Clock, pause};
use crate::conduct::{Conductor, Ending};
use crate::goals::{BUSY_PERCENT, Generator};
use crate::limits::{
    ARGUMENTS_MAX, CLOCK_PINGS, ENDING_MS_MAX, GREETING_MS_MAX, PASSED_BYTES_MAX, PING_MS, SILENCE_MS_MAX,
    START_LEAD_MS, USERS_BYTES,
};
use crate::net::Plan;
use crate::probe::Probe;
use crate::report::Report;
use crate::tally::span;

/// How long one look at a worker's connection waits: a phase is passed on as fast.
const LOOK: Duration = Duration::from_millis(5);
/// Clock readings of so many pings are looked at together during a run: the surest counts.
const CLOCK_WINDOW: u64 = 10;

/// What a worker has told so far.
#[derive(Clone, Default, Debug)]
struct Told {
    /// How often it has told its counters.
    rounds: u64,
    /// CPU seconds, and when they were told: at first, at the beginning and at the end of the
    /// steady stretch, and last.
    cpu: [Option<(f64, u64)>; 4],
    /// Connections that were open at the same time.
    connections: u64,
    /// p99 of how much later than meant messages left.
    late_ms: Option<f64>,
    /// Its clock towards the end, where it was asked often enough.
    clock: Option<ClockOffset>,
    /// Why it does not do its part any more.
    failed: Option<String>,
}

/// Places in [`Told::cpu`].
const FIRST: usize = 0;
const FROM: usize = 1;
const TO: usize = 2;
const LAST: usize = 3;

/// One worker.
#[derive(Debug)]
struct Remote {
    /// As it was given.
    address: String,
    link: Mutex<Option<Link>>,
    /// Its clock before the start, by which its times are corrected.
    clock: ClockOffset,
    told: Mutex<Told>,
}

/// All workers of a run.
#[derive(Debug)]
pub(crate) struct Fleet {
    remotes: Vec<Remote>,
    /// Engine threads of each.
    threads: usize,
    certificates: Option<String>,
}

/// To whom a server is shut.
pub(crate) enum ShutOut {
    /// To these workers, as it is open to others.
    Some(String),
    /// To all that there are.
    All,
    /// No worker got in so far.
    Unknown,
}

/// How far the threads that follow the workers are.
#[derive(Default)]
struct Following {
    ready: AtomicUsize,
    /// The run has begun: from now on a failure is a verdict.
    begun: AtomicBool,
    /// Workers that have ended or failed.
    ended: AtomicUsize,
    acked_seqs: Mutex<Option<(u64, u64)>>,
    /// Why the run could not begin.
    refused: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Connects to the workers, makes sure that they are what they should be, and compares clocks.
    ///
    /// # Errors
    /// One cannot be reached, is of another version, has another secret, or is busy.
    pub(crate) fn connect(
        addresses: &[String],
        secret: Option<&Secret>,
        threads: usize,
        certificates: Option<String>,
        clock: Clock,
    ) -> Result<Self> {
        let connected = std::thread::scope(|scope| {
            let each: Vec<_> =
                addresses.iter().map(|address| (address, scope.spawn(move || greet(address, secret, clock)))).collect();
            let joined = each.into_iter().map(|(address, thread)| {
                let (link, offset) = thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
                    .with_context(|| format!("worker {address}"))?;
                let (link, told) = (Mutex::new(Some(link)), Mutex::default());
                Ok(Remote { address: address.clone(), link, clock: offset, told })
            });
            joined.collect::<Result<Vec<_>>>()
        });
        Ok(Self { remotes: connected?, threads, certificates })
    }

    /// Workers.
    pub(crate) const fn len(&self) -> usize {
        self.remotes.len()
    }

    /// Runs a scenario on the workers while `conduct` moves the phases.
    pub(crate) fn perform<A: Splits, T>(
        &self,
        plan: &Arc<Plan>,
        probe: Option<&Probe>,
        job: &Job,
        conduct: impl FnOnce(&Conductor<'_>) -> Result<T>,
    ) -> Result<(T, A::Findings)> {
        let (following, bar) = (Following::default(), Conductor::bar()?);
        let (outcome, found) = std::thread::scope(|scope| {
            let following = &following;
            let follow = |place| move || self.follow::<A>(place, plan, job, following);
            let threads: Vec<_> = (0..self.len()).map(|place| scope.spawn(follow(place))).collect();
            let ending = Ending(plan);
            let outcome = self.conduct(plan, probe, following, &bar, conduct);
            drop(ending);
            bar.finish_and_clear();
            let joined = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| {
                    plan.interrupt.fail("a thread that follows a worker panicked".to_owned());
                    None
                })
            });
            (outcome, joined.collect::<Vec<Option<A::Findings>>>())
        });
        let mut sum = A::Findings::default();
        for (remote, one) in self.remotes.iter().zip(found) {
            let Some(one) = one else { continue };
            lock(&remote.told).late_ms =
                A::lateness(&one).filter(|late| !late.is_empty()).map(|late| late.value_at_quantile(0.99) as f64 / 1e6);
            A::add(&mut sum, &one);
        }
        Ok((outcome?, sum))
    }

    /// Conducts as soon as all workers are ready.
    fn conduct<T>(
        &self,
        plan: &Arc<Plan>,
        probe: Option<&Probe>,
        following: &Following,
        bar: &ProgressBar,
        conduct: impl FnOnce(&Conductor<'_>) -> Result<T>,
    ) -> Result<T> {
        while following.ready.load(Ordering::Acquire) < self.len() {
            if let Some(why) = lock(&following.refused).clone() {
                bail!(why);
            }
            plan.interrupt.check()?;
            pause(LOOK.as_millis() as u64);
        }
        following.begun.store(true, Ordering::Release);
        conduct(&Conductor { plan, probe, bar: bar.clone() })
    }

    /// Follows one worker to its findings. `None`: it has failed, and that is noted.
    fn follow<A: Splits>(
        &self,
        place: usize,
        plan: &Arc<Plan>,
        job: &Job,
        following: &Following,
    ) -> Option<A::Findings> {
        let remote = &self.remotes[place];
        let found = (|| {
            let ended = Departure { following, told: false };
            let mut link = lock(&remote.link).take().context("it has done its part")?;
            self.brief(&mut link, place, plan, job)?;
            let mut hand = Hand { fleet: self, remote, place, plan, following, shown: None, ended };
            hand.hold(&mut link)?;
            findings::<A>(&mut link, plan, following)
        })();
        found.map_err(|error| self.failed(place, plan, following, &format!("{error:#}"))).ok()
    }

    /// Tells a worker what its part is.
    fn brief(&self, link: &mut Link, place: usize, plan: &Plan, job: &Job) -> Result<()> {
        let (lanes, first) = (plan.board.lanes.len(), place * self.threads);
        let arguments: Vec<String> =
            std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
        ensure!(arguments.len() <= ARGUMENTS_MAX, "a command line of more than {ARGUMENTS_MAX} words");
        for (file, text) in [("--tls", &self.certificates), ("--mix", &job.mix)] {
            let length = text.as_ref().map_or(0, String::len);
            ensure!(length <= PASSED_BYTES_MAX, "{file}: {length} bytes, more than {PASSED_BYTES_MAX}");
        }
        link.send(&ToWorker::Briefing(Box::new(Briefing {
            arguments,
            lanes,
            first,
            threads: self.threads,
            run: plan.run.number(),
            ahead_ns: self.remotes[place].clock.ahead_ns,
            group: job.group,
            load: job.load,
            certificates: self.certificates.clone(),
            mix: job.mix.clone(),
        })))?;
        let of = |lane| move |users| job.dealing.places(users, lanes, lane);
        let mut own: Vec<u32> = (first..first + self.threads).flat_map(|lane| of(lane)(job.users)).collect();
        own.sort_unstable();
        let told = if job.all_ids { (0..job.users as u32).collect() } else { own.clone() };
        let mut text = String::new();
        for at in told {
            let (id, token) = plan.tokens.get(at as usize);
            let token = if own.binary_search(&at).is_ok() { token } else { "" };
            text.push_str(&format!("{at} {id} {token}\n"));
            if text.len() >= USERS_BYTES {
                link.send(&ToWorker::Users(std::mem::take(&mut text)))?;
            }
        }
        link.send(&ToWorker::Users(text))?;
        link.send(&ToWorker::Begin)
    }

    /// A worker does not do its part any more.
    fn failed(&self, place: usize, plan: &Plan, following: &Following, why: &str) {
        let remote = &self.remotes[place];
        let told = format!("{}: {why}", self.name(place));
        lock(&remote.told).failed = Some(why.to_owned());
        for lane in self.lanes(plan, place) {
            lane.open.set(0);
        }
        if following.begun.load(Ordering::Acquire) {
            plan.board.trouble(|| told.clone());
            plan.interrupt.fail(told);
        } else {
            lock(&following.refused).get_or_insert(told);
        }
    }

    fn name(&self, place: usize) -> String {
        format!("worker {} ({})", place + 1, self.remotes[place].address)
    }

    fn lanes<'a>(&self, plan: &'a Plan, place: usize) -> &'a [Lane] {
        &plan.board.lanes[place * self.threads..(place + 1) * self.threads]
    }

    // ---- what the conductor asks --------------------------------------------------------------

    /// How often each worker has told its counters. Those that have failed never tell them again.
    pub(crate) fn rounds(&self) -> Vec<u64> {
        let rounds = |remote: &Remote| {
            let told = lock(&remote.told);
            if told.failed.is_some() { u64::MAX } else { told.rounds }
        };
        self.remotes.iter().map(rounds).collect()
    }

    /// How far ahead of now the measurement shall start.
    pub(crate) fn lead_ns(&self) -> u64 {
        let unsure = self.remotes.iter().map(|remote| remote.clock.unsure_ns).max().unwrap_or(0);
        START_LEAD_MS * 1_000_000 + 4 * unsure
    }

    /// CPU seconds of all workers together, as they were told last, and of each.
    pub(crate) fn cpu_seconds(&self) -> (Option<f64>, Vec<Option<f64>>) {
        let each: Vec<_> = self.remotes.iter().map(|one| lock(&one.told).cpu[LAST].map(|(cpu, _)| cpu)).collect();
        (each.iter().copied().sum(), each)
    }

    /// The steady stretch begins, or ends.
    pub(crate) fn mark(&self, end: bool) {
        for remote in &self.remotes {
            let mut told = lock(&remote.told);
            told.cpu[if end { TO } else { FROM }] = told.cpu[LAST];
        }
    }

    /// Which workers could not open connections, where others could. What a server refuses for good
    /// it would refuse to any of them.
    pub(crate) fn shut_out(&self, plan: &Plan) -> ShutOut {
        let is = |place: &usize, of: fn(&Lane) -> bool| self.lanes(plan, *place).iter().any(of);
        let denied = (0..self.len()).any(|place| is(&place, |lane| lane.denied.get() > 0));
        let failed: Vec<usize> = (0..self.len()).filter(|place| is(place, |lane| lane.failed.get() > 0)).collect();
        if denied || failed.len() == self.len() {
            return ShutOut::All;
        }
        let mut others = (0..self.len()).filter(|place| !failed.contains(place));
        if !others.any(|place| is(&place, |lane| lane.open.get() > 0)) {
            return ShutOut::Unknown;
        }
        ShutOut::Some(failed.into_iter().map(|place| self.name(place)).collect::<Vec<_>>().join(", "))
    }

    // ---- what the report asks -----------------------------------------------------------------

    /// How the workers did: the one with the least CPU time left over.
    pub(crate) fn busiest(&self) -> Generator {
        let percent = self.remotes.iter().filter_map(|remote| lock(&remote.told).percent());
        Generator { lag_ms: None, percent: percent.reduce(f64::max), threads: self.threads, clocks_ms: None }
    }

    /// Workers whose messages left later than that, and how late.
    pub(crate) fn late(&self, bound_ms: f64) -> Vec<String> {
        let late = |place: usize| lock(&self.remotes[place].told).late_ms.filter(|ms| *ms > bound_ms);
        (0..self.len()).filter_map(|place| Some(format!("{}: p99 {:.1} ms", self.name(place), late(place)?))).collect()
    }

    /// By how much the clocks of two workers may differ, in milliseconds: what is known of them
    /// before the start, and what has changed since.
    pub(crate) fn clocks_ms(&self) -> f64 {
        let of = |remote: &Remote| {
            let drift = lock(&remote.told).clock.map_or(0, |clock| clock.since(remote.clock).unsigned_abs());
            (remote.clock.unsure_ns + drift) as f64 / 1e6
        };
        let mut each: Vec<f64> = self.remotes.iter().map(of).collect();
        each.sort_by(f64::total_cmp);
        each.iter().rev().take(2).sum()
    }

    /// One row about each worker.
    pub(crate) fn tell(&self, report: &mut Report, plan: &Plan) {
        let each: Vec<(Value, String)> = (0..self.len()).map(|place| self.row(plan, place)).collect();
        let shown: Vec<&str> = each.iter().map(|(_, shown)| shown.as_str()).collect();
        let shown = format!("\n    {}", shown.join("\n    "));
        report.value("workers", each.iter().map(|(value, _)| value.clone()).collect(), shown);
        report.figure("clocks_differ_by", Some(self.clocks_ms()), "ms at most, between two workers");
    }

    fn row(&self, plan: &Plan, place: usize) -> (Value, String) {
        let (remote, lanes) = (&self.remotes[place], self.lanes(plan, place));
        let (told, clock) = (lock(&remote.told).clone(), remote.clock);
        let sum = |of: fn(&Lane) -> &Count| lanes.iter().map(|l| of(l).get()).sum::<u64>();
        let (sent, delivered) = (sum(|l| &l.sent), sum(|l| &l.delivered));
        let percent = told.percent();
        let at_its_limit = percent.is_some_and(|percent| percent >= BUSY_PERCENT * self.threads as f64);
        let drift_ns = told.clock.map(|end| end.since(clock));
        let value = json!({
            "address": remote.address, "threads": self.threads, "connections": told.connections, "sent": sent,
            "delivered": delivered, "cpu_percent": percent, "at_its_limit": at_its_limit,
            "lateness_p99_ms": told.late_ms, "clock_unsure_us": clock.unsure_ns as f64 / 1e3,
            "clock_drift_us": drift_ns.map(|ns| ns as f64 / 1e3), "failed": told.failed,
        });
        let known = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.1}"));
        let mut shown = format!(
            "{}: {} connections, {sent} sent, {delivered} delivered, {} % of a core for {} threads, late p99 {} ms, \
             clock known to {:.3} ms",
            self.name(place),
            told.connections,
            known(percent),
            self.threads,
            known(told.late_ms),
            clock.unsure_ns as f64 / 1e6,
        );
        if at_its_limit {
            shown.push_str(", AT ITS LIMIT");
        }
        if let Some(why) = told.failed {
            shown.push_str(&format!(", FAILED: {why}"));
        }
        (value, shown)
    }
}

impl Told {
    /// CPU time in percent of one core: over the steady stretch, or over all that is known.
    fn percent(&self) -> Option<f64> {
        let between = |from: usize, to: usize| {
            let ((from, from_ns), (to, to_ns)) = (self.cpu[from]?, self.cpu[to]?);
            (to_ns > from_ns).then(|| (to - from) * 1e11 / (to_ns - from_ns) as f64)
        };
        between(FROM, TO).or_else(|| between(FIRST, LAST))
    }
}

/// Connects to a worker and compares clocks.
fn greet(address: &str, secret: Option<&Secret>, clock: Clock) -> Result<(Link, ClockOffset)> {
    let patience = Duration::from_millis(GREETING_MS_MAX);
    let resolved = address.to_socket_addrs().context("HOST:PORT is wanted")?.next().context("no such host")?;
    let stream = TcpStream::connect_timeout(&resolved, patience)
        .context("cannot be reached: start it there with `autoclient worker --listen HOST:PORT`")?;
    let mut link = Link::new(stream)?;
    let ToControl::Greeting(theirs) = awaited(&mut link, clock)? else { bail!("it does not greet") };
    ensure!(
        (theirs.protocol, theirs.version.as_str()) == (PROTOCOL, VERSION),
        "it is autoclient {} with protocol {}, this is {VERSION} with {PROTOCOL}: take the same build for both",
        theirs.version,
        theirs.protocol
    );
    match (theirs.proof.is_some(), secret.is_some()) {
        (true, false) => bail!("it wants a secret: give --secret-file"),
        (false, true) => bail!("it has no secret, and one was given: start it with --secret-file"),
        _ => {}
    }
    let nonce = nonce()?;
    let proof = secret.map(|secret| secret.proof(End::Control, &theirs.nonce, &nonce));
    let version = VERSION.to_owned();
    link.send(&ToWorker::Hello(Introduction { protocol: PROTOCOL, version, nonce: nonce.clone(), proof }))?;
    let ToControl::Welcome(welcome) = awaited(&mut link, clock)? else { bail!("it does not say welcome") };
    if let Some(secret) = secret {
        let proof = welcome.proof.unwrap_or_default();
        ensure!(secret.is_proved(End::Worker, &theirs.nonce, &nonce, &proof), "it has another secret");
    }
    link.trust();
    let mut best: Option<ClockOffset> = None;
    for number in 0..u64::from(CLOCK_PINGS) {
        let asked_ns = clock.nanos();
        link.send(&ToWorker::Ping(number))?;
        let ToControl::Pong(of, theirs_ns) = awaited(&mut link, clock)? else { bail!("it does not tell the time") };
        ensure!(of == number, "it answers what was not asked");
        let one = ClockOffset::of(asked_ns, clock.nanos(), theirs_ns);
        best = Some(best.map_or(one, |best| best.or(one)));
    }
    Ok((link, best.context("no answer")?))
}

/// What a worker says next, while both get to know each other.
fn awaited(link: &mut Link, clock: Clock) -> Result<ToControl> {
    let until = clock.nanos() + GREETING_MS_MAX * 1_000_000;
    while clock.nanos() < until {
        match link.receive(Duration::from_millis(GREETING_MS_MAX))? {
            Some(ToControl::Refused(why)) => bail!(why),
            Some(message) => return Ok(message),
            None => {}
        }
    }
    bail!("it says nothing for {} s", GREETING_MS_MAX / 1000)
}

/// What a worker has found, and the end of its connection: then it is free for the next run.
fn findings<A: Splits>(link: &mut Link, plan: &Plan, following: &Following) -> Result<A::Findings> {
    let seqs = *lock(&following.acked_seqs);
    link.send(&ToWorker::Whole(whole(&plan.board, seqs, plan.interrupt.is_set())))?;
    let until = plan.clock.nanos() + ENDING_MS_MAX * 1_000_000;
    let mut found = None;
    while plan.clock.nanos() < until {
        match link.receive(LOOK) {
            Ok(Some(ToControl::Findings(value))) => {
                found = Some(serde_json::from_value(value).context("findings that are none")?);
            }
            Ok(Some(ToControl::Refused(why))) => bail!(why),
            Ok(_) => {}
            // It has said all and let go.
            Err(_) if found.is_some() => break,
            Err(error) => return Err(error),
        }
    }
    found.with_context(|| format!("it has told no findings within {} s", ENDING_MS_MAX / 1000))
}

/// Follows one worker while a run goes on.
struct Hand<'a> {
    fleet: &'a Fleet,
    remote: &'a Remote,
    place: usize,
    plan: &'a Arc<Plan>,
    following: &'a Following,
    /// The board as it was shown last.
    shown: Option<Scene>,
    ended: Departure<'a>,
}

/// That a worker has ended: told when it says so, or when nothing more is heard of it.
struct Departure<'a> {
    following: &'a Following,
    told: bool,
}

impl Departure<'_> {
    fn tell(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            self.following.ended.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}

impl Hand<'_> {
    /// Until all workers have ended.
    fn hold(&mut self, link: &mut Link) -> Result<()> {
        let clock = self.plan.clock;
        let (mut heard_ns, mut ping_ns, mut pings) = (clock.nanos(), clock.nanos(), 0);
        let (mut asked, mut stopping_ns) = ((0, 0), None);
        while !self.ended.told || self.following.ended.load(Ordering::Acquire) < self.fleet.len() {
            let now_ns = clock.nanos();
            if now_ns >= ping_ns {
                asked = (pings, now_ns);
                link.send(&ToWorker::Ping(pings))?;
                (ping_ns, pings) = (now_ns + PING_MS * 1_000_000, pings + 1);
            }
            self.show(link)?;
            match link.receive(LOOK)? {
                Some(ToControl::Pong(of, theirs_ns)) if of == asked.0 => {
                    self.clock(of, ClockOffset::of(asked.1, clock.nanos(), theirs_ns));
                }
                Some(message) => self.heard(message)?,
                None if now_ns - heard_ns > SILENCE_MS_MAX * 1_000_000 => {
                    bail!("it has said nothing for {} s", SILENCE_MS_MAX / 1000)
                }
                None => continue,
            }
            heard_ns = clock.nanos();
            if self.plan.board.phase() == Phase::Stopping && !self.ended.told {
                let since = *stopping_ns.get_or_insert(now_ns);
                let seconds = ENDING_MS_MAX / 1000;
                ensure!(now_ns - since < ENDING_MS_MAX * 1_000_000, "it has not ended within {seconds} s");
            }
        }
        Ok(())
    }

    /// Passes on what has changed on the board.
    fn show(&mut self, link: &mut Link) -> Result<()> {
        let scene = scene(&self.plan.board);
        if self.shown != Some(scene) {
            link.send(&ToWorker::Scene(scene))?;
            self.shown = Some(scene);
        }
        Ok(())
    }

    fn heard(&mut self, message: ToControl) -> Result<()> {
        match message {
            ToControl::Ready => {
                self.following.ready.fetch_add(1, Ordering::AcqRel);
            }
            ToControl::Counts(counts) => self.enter(&counts)?,
            ToControl::Ended(counts, seqs) if !self.ended.told => {
                self.enter(&counts)?;
                let mut all = lock(&self.following.acked_seqs);
                *all = span(*all, seqs);
                drop(all);
                self.ended.tell();
            }
            ToControl::Refused(why) => bail!(why),
            // An answer that comes behind the next question says nothing about clocks.
            ToControl::Pong(..) => {}
            other => bail!("it says what it should not now: {:.80}", format!("{other:?}")),
        }
        Ok(())
    }

    fn clock(&self, number: u64, one: ClockOffset) {
        let mut told = lock(&self.remote.told);
        let fresh = number.is_multiple_of(CLOCK_WINDOW);
        told.clock = Some(told.clock.filter(|_| !fresh).map_or(one, |best| best.or(one)));
    }

    /// Enters what a worker has counted.
    fn enter(&self, counts: &WorkerCounts) -> Result<()> {
        let (plan, lanes) = (self.plan, self.fleet.lanes(self.plan, self.place));
        ensure!(counts.lanes.len() == lanes.len(), "it tells of {} threads", counts.lanes.len());
        for (lane, counted) in lanes.iter().zip(&counts.lanes) {
            let counters = lane.counters();
            ensure!(counted.len() == counters.len(), "it tells {} counters", counted.len());
            counters.into_iter().zip(counted).for_each(|(counter, n)| counter.set(*n));
        }
        for trouble in &counts.troubles {
            plan.board.trouble(|| format!("{}: {trouble}", self.fleet.name(self.place)));
        }
        if let Some((timeline, [ack, delivery])) = plan.timeline.as_ref().zip(counts.recent.as_ref()) {
            timeline.enter(self.place, &[unpack(ack)?, unpack(delivery)?]);
        }
        let mut told = lock(&self.remote.told);
        told.cpu[LAST] = Some((counts.cpu_seconds, plan.clock.nanos()));
        told.cpu[FIRST] = told.cpu[FIRST].or(told.cpu[LAST]);
        told.connections = told.connections.max(lanes.iter().map(|lane| lane.open.get()).sum());
        // Last: whoever sees the round sees its counters.
        told.rounds += 1;
        Ok(())
    }
}

/// The board as workers are shown it.
fn scene(board: &Board) -> Scene {
    // The phase first: whoever sees it sees its times, too.
    let phase = board.phase() as u8;
    Scene {
        phase,
        started_ns: board.started_ns(),
        ended_ns: board.ended_ns(),
        goal: board.goal() as u64,
        roll_call: board.roll_call(),
    }
}

//! The process that waits for a control, does its part of a run, and waits again.
//!
//! Owns: [`serve`], one run at a time; [`Station`], a worker's end of a run; [`Part`], what a run's
//! options are made of there instead of files.
//! Never: reads or writes a file that a control names, or starts a program for it; goes on with a
//! run whose control has gone or says nothing for [`SILENCE_MS_MAX`].
//! Bounds: [`GREETERS_MAX`] connections that have not shown yet what they are, each for
//! [`GREETING_MS_MAX`].

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;

use super::packed::pack;
use super::secret::{End, Secret, nonce};
use super::wire::{Briefing, Introduction, Link, PROTOCOL, Scene, ToControl, ToWorker, VERSION, Whole, WorkerCounts};
use super::{Splits, acked_seqs, closed};
use crate::board::{Board, Phase};
use crate::clock::{Clock, pause, process_cpu_seconds};
use crate::conduct::Ending;
use crate::engine;
use crate::interrupt::Interrupt;
use crate::limits::{
    ARGUMENTS_MAX, BRIEFING_MS_MAX, COUNTS_MS, GREETERS_MAX, GREETING_MS_MAX, SILENCE_MS_MAX, THREADS_MAX,
    USERS_BYTES_MAX, WORKERS_MAX,
};
use crate::net::Plan;
use crate::say::say;
use crate::scenario::Scenario;
use crate::stamp::Run;
use crate::tokens::Tokens;

/// Between two looks at the listener.
const LOOK_MS: u64 = 20;
/// How long one look at the control's connection waits.
const LOOK: Duration = Duration::from_millis(5);
/// Why it ends while a control wants something.
const SIGNAL: &str = "a signal ends the worker";

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// Where controls find it; port 0: the system chooses, and it is told on standard error.
    /// Anything but a loopback address wants a secret.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// The secret that controls must have: a file. Without it, that of the environment variable
    /// AUTOCLIENT_SECRET, if there is one.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// What a control's words are taken for: the command line of a scenario.
pub(crate) type Reader = fn(&[String]) -> Result<Scenario>;

/// Waits for controls until a signal comes.
///
/// # Errors
/// It cannot listen, or has no secret where it needs one.
pub(crate) fn serve(flags: &Flags, interrupt: &Interrupt, read: Reader) -> Result<()> {
    let secret = Secret::read(flags.secret_file.as_deref())?;
    ensure!(
        secret.is_some() || flags.listen.ip().is_loopback(),
        "{} is no loopback address: a worker there wants a secret (--secret-file)",
        flags.listen
    );
    let listener = TcpListener::bind(flags.listen).with_context(|| format!("cannot listen on {}", flags.listen))?;
    listener.set_nonblocking(true)?;
    say(&format!("autoclient worker: listening on {}", listener.local_addr()?));
    let (greeters, taken) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        while !interrupt.is_set() {
            // More than it can greet wait in the system's queue.
            let room = greeters.load(Ordering::Acquire) < GREETERS_MAX;
            let Some(Ok((stream, from))) = room.then(|| listener.accept()) else {
                // Nothing is there, or the connection went, or there is no descriptor just now.
                pause(LOOK_MS);
                continue;
            };
            let greeter = Greeter { greeters: &greeters, taken: &taken, secret: secret.as_ref(), interrupt, read };
            greeters.fetch_add(1, Ordering::AcqRel);
            scope.spawn(move || match greeter.attend(stream) {
                Ok(()) => say(&format!("autoclient worker: a run of {from} is over")),
                Err(error) => say(&format!("autoclient worker: {from}: {error:#}")),
            });
        }
    });
    Ok(())
}

/// What the thread of one connection has of the process.
struct Greeter<'a> {
    greeters: &'a AtomicUsize,
    /// Whether there is a run.
    taken: &'a AtomicBool,
    secret: Option<&'a Secret>,
    interrupt: &'a Interrupt,
    read: Reader,
}

/// That there is a run; goes with it.
struct Seat<'a>(&'a AtomicBool);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Greeter<'_> {
    fn attend(&self, stream: TcpStream) -> Result<()> {
        let clock = Clock::start();
        let linked = Link::new(stream);
        let greeted = linked.map_err(anyhow::Error::from).and_then(|mut link| {
            let seat = self.greet(&mut link, clock).inspect_err(|error| refuse(&mut link, error))?;
            Ok((link, seat))
        });
        self.greeters.fetch_sub(1, Ordering::AcqRel);
        let (link, seat) = greeted?;
        let mut station = Station { link, clock, interrupt: self.interrupt.clone(), part: None };
        let done = station.run(self.read);
        // Free before the control sees the end of the connection: it may come again at once.
        drop(seat);
        if let Err(error) = &done {
            refuse(&mut station.link, error);
        }
        done
    }

    /// Makes sure that a control is there, and takes the only seat.
    fn greet(&self, link: &mut Link, clock: Clock) -> Result<Seat<'_>> {
        let number = nonce()?;
        let introduce =
            |proof| Introduction { protocol: PROTOCOL, version: VERSION.to_owned(), nonce: number.clone(), proof };
        link.send(&ToControl::Greeting(introduce(self.secret.map(|_| String::new()))))?;
        let until = clock.nanos() + GREETING_MS_MAX * 1_000_000;
        let hello = loop {
            match link.receive(Duration::from_millis(LOOK_MS))? {
                Some(ToWorker::Hello(hello)) => break hello,
                Some(_) => bail!("a control says hello first"),
                None if clock.nanos() > until => bail!("it has said nothing for {} s", GREETING_MS_MAX / 1000),
                None => ensure!(!self.interrupt.is_set(), SIGNAL),
            }
        };
        ensure!(
            (hello.protocol, hello.version.as_str()) == (PROTOCOL, VERSION),
            "the control is autoclient {} with protocol {}, the worker is {VERSION} with {PROTOCOL}: take the same \
             build for both",
            hello.version,
            hello.protocol
        );
        let mut proof = None;
        if let Some(secret) = self.secret {
            let theirs = hello.proof.unwrap_or_default();
            ensure!(secret.is_proved(End::Control, &number, &hello.nonce, &theirs), "the control has another secret");
            proof = Some(secret.proof(End::Worker, &number, &hello.nonce));
        }
        ensure!(!self.taken.swap(true, Ordering::AcqRel), "it is busy with another run");
        let seat = Seat(self.taken);
        link.send(&ToControl::Welcome(introduce(proof)))?;
        link.trust();
        Ok(seat)
    }
}

/// Says why, if the other end still listens.
fn refuse(link: &mut Link, error: &anyhow::Error) {
    if link.send(&ToControl::Refused(format!("{error:#}"))).is_ok() {
        link.leave();
    }
}

/// What the options of a scenario are made of on a worker.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its own users, and of others what it has to know.
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) lanes: usize,
    pub(crate) first: usize,
    pub(crate) threads: usize,
    pub(crate) run: Run,
    pub(crate) group: Option<u64>,
    pub(crate) load: Option<(u64, u64)>,
    pub(crate) clock: Clock,
    pub(crate) certificates: Option<String>,
    pub(crate) mix: Option<String>,
}

impl Part {
    /// The lanes of this process.
    pub(crate) const fn own(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.threads
    }
}

/// A worker's end of a run.
#[derive(Debug)]
pub(crate) struct Station {
    link: Link,
    /// By which it tells the time; at zero when the control came.
    clock: Clock,
    pub(crate) interrupt: Interrupt,
    part: Option<Arc<Part>>,
}

/// What engine threads have to show.
struct Pace<'a> {
    /// What was told of the board's troubles already.
    troubles: usize,
    next_ns: u64,
    plan: &'a Plan,
}

impl Station {
    /// Takes a briefing, and does what it says.
    fn run(&mut self, read: Reader) -> Result<()> {
        let (mut briefing, mut users) = (None, String::new());
        loop {
            match self.heard(BRIEFING_MS_MAX)? {
                Some(ToWorker::Briefing(told)) => briefing = Some(*told),
                Some(ToWorker::Users(more)) => {
                    ensure!(users.len() + more.len() <= USERS_BYTES_MAX, "more than {USERS_BYTES_MAX} bytes of users");
                    users.push_str(&more);
                }
                Some(ToWorker::Begin) => break,
                Some(other) => bail!("a control says what its part is first, not {:.40}", format!("{other:?}")),
                None => bail!(SIGNAL),
            }
        }
        let briefing = briefing.context("a control says what the part is before it begins")?;
        let mut scenario = read(&briefing.arguments)?;
        let part = Arc::new(part(briefing, users, self.clock)?);
        let options = scenario.shared_options().context("this scenario cannot be shared by workers")?;
        options.part = Some(Arc::clone(&part));
        self.part = Some(part);
        scenario.part(self)
    }

    /// What it has to do.
    ///
    /// # Errors
    /// It was not told.
    pub(crate) fn part(&self) -> Result<&Part> {
        self.part.as_deref().context("no part of a run")
    }

    /// The next word of the control. `None`: there is none just now.
    ///
    /// # Errors
    /// It has gone, or has said nothing for too long.
    fn heard(&mut self, within_ms: u64) -> Result<Option<ToWorker>> {
        let mut from_ns = self.clock.nanos();
        loop {
            match self.link.receive(LOOK)? {
                Some(ToWorker::Ping(number)) => {
                    from_ns = self.clock.nanos();
                    self.link.send(&ToControl::Pong(number, from_ns))?;
                }
                Some(message) => return Ok(Some(message)),
                None if self.interrupt.is_set() => return Ok(None),
                None if self.clock.nanos() - from_ns > within_ms * 1_000_000 => {
                    bail!("the control has said nothing for {} s", within_ms / 1000)
                }
                None => {}
            }
        }
    }

    /// Does the part: runs `actors` until the control says that it is over, and tells what they
    /// have found.
    pub(crate) fn work<A: Splits>(&mut self, plan: &Arc<Plan>, actors: Vec<(Vec<u32>, A)>) -> Result<()> {
        let lacking = actors.iter().flat_map(|(logins, _)| logins).find(|login| !plan.tokens.has(**login as usize));
        if let Some(login) = lacking {
            bail!("the control has told no user for place {login}");
        }
        let mut pace = Pace { troubles: 0, next_ns: 0, plan };
        let actors = std::thread::scope(|scope| {
            let spawn = |(lane, (logins, actor)): (usize, (Vec<u32>, A))| {
                let plan = Arc::clone(plan);
                scope.spawn(move || engine::run(plan, lane, &logins, actor))
            };
            let threads: Vec<_> = plan.own.clone().zip(actors).map(spawn).collect();
            let ending = Ending(plan);
            let obeyed = self.obey(&mut pace, &threads);
            drop(ending);
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(result) => result.context("an engine thread failed"),
                Err(_) => Err(anyhow!("an engine thread panicked")),
            });
            let actors: Result<Vec<A>> = joined.collect();
            obeyed.and(actors)
        })?;
        let counts = pace.counts()?;
        self.link.send(&ToControl::Ended(counts, acked_seqs(&actors)))?;
        let whole = self.whole()?;
        let found = serde_json::to_value(closed(actors, &whole)).context("findings")?;
        self.link.send(&ToControl::Findings(found))
    }

    /// Does what the control says until it says that the run is over.
    fn obey<T>(&mut self, pace: &mut Pace<'_>, threads: &[ScopedJoinHandle<'_, T>]) -> Result<()> {
        let board = &pace.plan.board;
        self.link.send(&ToControl::Ready)?;
        let mut heard_ns = self.clock.nanos();
        loop {
            let now_ns = self.clock.nanos();
            let message = self.link.receive(LOOK)?;
            if message.is_some() {
                heard_ns = now_ns;
            }
            match message {
                Some(ToWorker::Ping(number)) => self.link.send(&ToControl::Pong(number, self.clock.nanos()))?,
                Some(ToWorker::Scene(scene)) => follow(board, &scene),
                Some(other) => bail!("a control does not say {:.40} during a run", format!("{other:?}")),
                None => ensure!(
                    now_ns.saturating_sub(heard_ns) <= SILENCE_MS_MAX * 1_000_000,
                    "the control has said nothing for {} s",
                    SILENCE_MS_MAX / 1000
                ),
            }
            ensure!(!self.interrupt.is_set(), SIGNAL);
            if now_ns >= pace.next_ns {
                pace.next_ns = now_ns + COUNTS_MS * 1_000_000;
                self.link.send(&ToControl::Counts(pace.counts()?))?;
            }
            if threads.iter().all(ScopedJoinHandle::is_finished) {
                return Ok(());
            }
        }
    }

    /// What all threads of the run have to know; told when all have ended.
    fn whole(&mut self) -> Result<Whole> {
        loop {
            match self.heard(SILENCE_MS_MAX)? {
                Some(ToWorker::Whole(whole)) => return Ok(whole),
                Some(ToWorker::Scene(_)) => {}
                Some(other) => bail!("a control does not say {:.40} at the end", format!("{other:?}")),
                None => bail!(SIGNAL),
            }
        }
    }
}

impl Pace<'_> {
    /// What the engine threads have counted so far.
    fn counts(&mut self) -> Result<WorkerCounts> {
        let board = &self.plan.board;
        let lanes = board.lanes[self.plan.own.clone()].iter();
        let troubles = board.troubles();
        let recent = self.plan.timeline.as_ref().map(|timeline| timeline.take_recent());
        Ok(WorkerCounts {
            lanes: lanes.map(|lane| lane.counters().map(|counter| counter.get()).to_vec()).collect(),
            cpu_seconds: process_cpu_seconds(),
            troubles: troubles[std::mem::replace(&mut self.troubles, troubles.len())..].to_vec(),
            recent: recent
                .map(|[ack, delivery]| Ok::<_, anyhow::Error>([pack(&ack)?, pack(&delivery)?]))
                .transpose()?,
        })
    }
}

/// Makes the board look like the control's. Phases that were passed over are entered, unless all is
/// over anyway.
fn follow(board: &Board, scene: &Scene) {
    board.set_goal(usize::try_from(scene.goal).unwrap_or(usize::MAX));
    if scene.roll_call {
        board.call_the_roll();
    }
    let over = scene.phase >= Phase::Stopping as u8;
    for (phase, at_ns) in [(Phase::Running, scene.started_ns), (Phase::Draining, scene.ended_ns)] {
        if !over && board.phase() < phase && phase as u8 <= scene.phase {
            board.enter(phase, at_ns);
        }
    }
    if over {
        board.enter(Phase::Stopping, scene.ended_ns);
    }
}

/// What a briefing means, looked at before anything believes it.
fn part(briefing: Briefing, users: String, clock: Clock) -> Result<Part> {
    let Briefing { arguments, lanes, first, threads, run, ahead_ns, group, load, certificates, mix } = briefing;
    ensure!(arguments.len() <= ARGUMENTS_MAX, "a command line of more than {ARGUMENTS_MAX} words");
    ensure!((1..=THREADS_MAX).contains(&threads), "{threads} threads: from 1 to {THREADS_MAX}");
    ensure!(lanes <= WORKERS_MAX * THREADS_MAX, "{lanes} threads in all");
    ensure!(first.checked_add(threads).is_some_and(|end| end <= lanes), "threads beyond the last of {lanes}");
    let tokens = Arc::new(Tokens::told(users).context("users")?);
    let (run, clock) = (Run::of(run), clock.behind(ahead_ns).context("a clock that is not of this world")?);
    Ok(Part { tokens, lanes, first, threads, run, group, load, clock, certificates, mix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_follows_the_controls() {
        let board = Board::new(2, 0);
        let scene = |phase: Phase| Scene { phase: phase as u8, started_ns: 5, ended_ns: 9, goal: 3, roll_call: false };
        follow(&board, &scene(Phase::Opening));
        assert_eq!((board.phase(), board.goal(), board.roll_call()), (Phase::Opening, 3, false));
        follow(&board, &scene(Phase::Draining));
        assert_eq!((board.phase(), board.started_ns(), board.ended_ns()), (Phase::Draining, 5, 9));
        follow(&board, &Scene { roll_call: true, ..scene(Phase::Running) });
        assert_eq!((board.phase(), board.roll_call()), (Phase::Draining, true), "it only moves forward");
        let board = Board::new(1, 0);
        follow(&board, &scene(Phase::Stopping));
        assert_eq!((board.phase(), board.started_ns()), (Phase::Stopping, 0), "nothing is begun at the end");
    }

    #[test]
    fn a_briefing_that_cannot_be_is_refused() {
        let briefing = |lanes, first, threads| Briefing {
            arguments: Vec::new(),
            lanes,
            first,
            threads,
            run: 1,
            ahead_ns: 0,
            group: None,
            load: None,
            certificates: None,
            mix: None,
        };
        let told = |lanes, first, threads, users: &str| {
            part(briefing(lanes, first, threads), users.to_owned(), Clock::start())
        };
        let good = told(4, 2, 2, "0 7 a\n3 9 \n").expect("a part");
        assert_eq!((good.own(), good.tokens.get(0), good.tokens.get(3)), (2..4, (7, "a"), (9, "")));
        assert!(good.tokens.has(0) && !good.tokens.has(3) && !good.tokens.has(1));
        for (lanes, first, threads) in [(4, 3, 2), (4, usize::MAX, 2), (4, 0, 0), (99, 0, 65), (usize::MAX, 0, 1)] {
            assert!(told(lanes, first, threads, "0 7 a\n").is_err(), "{lanes} {first} {threads}");
        }
        for users in
            ["x 7 a\n", "0 7\n", "0 7 a b\n", "1 7 a\n0 8 b\n", "0 7 a\n0 7 a\n", "4000000000000 1 a\n", "0 7 \u{e9}\n"]
        {
            assert!(told(4, 0, 1, users).is_err(), "{users:?}");
        }
    }
}

//! `chatroom`: simple-chatroom's own load client, which sends and never reads, beside a reader that
//! must receive everything.
//!
//! Owns: the flags, the order of things, the report. The participants are in [`crate::chatroom`].
//! Never: ends with a verdict on a connection before everything was sent: until then none is looked
//! at into those that never read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressBar;

use crate::chatroom::Room;
use crate::chatroom::dial::{Guise, dial};
use crate::chatroom::guests::{Visits, visit};
use crate::chatroom::observer::{Books, observe};
use crate::chatroom::talkers::{Fate, Talkers};
use crate::clock::{Clock, pause, seconds_ns};
use crate::goals::{Generator, Goals};
use crate::http::Url;
use crate::interrupt::Interrupt;
use crate::limits::{INTERRUPTED_DRAIN_NS, LINGER_MS, SECONDS_MAX};
use crate::options::allow;
use crate::report::Report;

/// Between two looks at the run.
const LOOK_MS: u64 = 20;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// Where the gateway listens: HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:8081")]
    target: String,
    /// Connections that never read; all but the last one send.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    connections: u64,
    /// Messages per second, all connections together.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// How long messages are sent.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// How long the last messages may take to arrive.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    drain: u64,
    /// Allow a target that is not this machine.
    #[arg(long)]
    i_own_the_target: bool,
    #[command(flatten)]
    goals: Goals,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    let url = Url::parse(&format!("http://{}", flags.target))?;
    let address = allow(&url, flags.i_own_the_target)?;
    let room = Room {
        clock: Clock::start(),
        connections: flags.connections,
        rate: flags.rate,
        seconds: flags.seconds,
        start_ns: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        over: AtomicBool::new(false),
        done: AtomicBool::new(false),
        interrupt: interrupt.clone(),
    };
    let observer = dial(address, &url.host, Guise::Page).context("the observer")?;
    let mut talkers = Talkers::dial(address, &url.host, flags.connections)?;
    // Hidden unless standard error is a terminal.
    let bar = ProgressBar::new(flags.rate * flags.seconds);
    let (received, heard) = (AtomicU64::new(0), AtomicU64::new(0));
    let (fate, books, visits) = std::thread::scope(|scope| {
        let observed = scope.spawn(|| {
            observe(observer, &room, |books| {
                received.store(books.received, Ordering::Relaxed);
                heard.store(u64::from(books.heard == books.said), Ordering::Relaxed);
            })
        });
        let visited = scope.spawn(|| visit(address, &url.host, &room));
        let shown = scope.spawn(|| {
            while !room.done.load(Ordering::Acquire) {
                bar.set_position(received.load(Ordering::Relaxed));
                pause(LOOK_MS);
            }
        });
        let mut fate = talkers.talk(&room);
        let wanted = room.sent.load(Ordering::Acquire).saturating_sub(fate.unsent);
        let drain_ns = if interrupt.is_set() { INTERRUPTED_DRAIN_NS } else { seconds_ns(flags.drain) };
        let until = room.clock.nanos() + drain_ns;
        let complete = || received.load(Ordering::Relaxed) >= wanted && heard.load(Ordering::Relaxed) > 0;
        while room.clock.nanos() < until && !observed.is_finished() && !complete() {
            pause(LOOK_MS);
        }
        // What comes twice comes second.
        pause(LINGER_MS);
        room.done.store(true, Ordering::Release);
        talkers.judge(&mut fate);
        match (observed.join(), visited.join(), shown.join()) {
            (Ok(books), Ok(visits), Ok(())) => Ok((fate, books, visits)),
            _ => bail!("a thread panicked"),
        }
    })?;
    bar.finish_and_clear();
    Ok(report(flags, &room, &fate, &books, &visits))
}

fn report(flags: &Flags, room: &Room, fate: &Fate, books: &Books, visits: &Visits) -> Report {
    let sent = room.sent.load(Ordering::Acquire);
    let mut report = Report::new("chatroom", &room.interrupt);
    report.count("connections", flags.connections);
    report.count("rate_per_second", flags.rate);
    report.count("seconds", flags.seconds);
    report.count("sent", sent.saturating_sub(fate.unsent));
    report.count("received", books.received);
    report.must_be_zero("unsent", fate.unsent);
    report.must_be_zero_at_the_end("lost", books.lost(fate.unsent, sent));
    report.must_be_zero("doubled", books.doubled);
    report.must_be_zero("out_of_order", books.out_of_order);
    report.must_be_zero("misframed", books.misframed);
    report.must_be_zero("observer_dropped", books.dropped);
    report.must_be_zero("disconnected", fate.ended);
    report.count("said", books.said);
    report.must_be_zero_at_the_end("said_and_not_heard", books.said.saturating_sub(books.heard));
    report.count("guests", visits.guests);
    report.must_be_zero("guests_failed", visits.failed);
    report.count("unread_bytes_max", fate.unread_max);
    let lag_ms = (!fate.lag_ns.is_empty()).then(|| fate.lag_ns.value_at_quantile(0.99) as f64 / 1e6);
    let generator = Generator { lag_ms, percent: None, threads: 1, clocks_ms: None };
    report.latency("lateness", &fate.lag_ns);
    flags.goals.tell(&mut report, "delivery_latency", &books.latency_ns, &generator);
    flags.goals.tell(&mut report, "echo_latency", &books.echo_ns, &Generator::default());
    flags.goals.tell(&mut report, "guest_latency", &visits.first_ns, &Generator::default());
    // A check of nothing proves nothing.
    report.must_not_be_zero("received", books.received);
    let troubles: Vec<String> =
        [&fate.troubles, &books.troubles, &visits.troubles].into_iter().flatten().take(20).cloned().collect();
    report.troubles(&troubles);
    report
}

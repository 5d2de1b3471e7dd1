//! `chatroom`: simple-chatroom's own load client, which sends and never reads, beside a reader that must receive everything.
//!
//! Owns: the flags, the order of things, the report. Who takes part is in [`crate::chatroom`].
//! Never: ends with a verdict on a connection before everything was sent: until then nobody looks into those that never read.

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
use crate::http::Url;
use crate::limits::{LINGER_MS, SECONDS_MAX};
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
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(flags: &Flags) -> Result<Report> {
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
        let until = room.clock.nanos() + seconds_ns(flags.drain);
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
    let mut report = Report::new("chatroom");
    report.count("connections", flags.connections);
    report.count("rate_per_second", flags.rate);
    report.count("seconds", flags.seconds);
    report.count("sent", sent.saturating_sub(fate.unsent));
    report.count("received", books.received);
    report.must_be_zero("unsent", fate.unsent);
    report.must_be_zero("lost", books.lost(fate.unsent, sent));
    report.must_be_zero("doubled", books.doubled);
    report.must_be_zero("out_of_order", books.out_of_order);
    report.must_be_zero("misframed", books.misframed);
    report.must_be_zero("observer_dropped", books.dropped);
    report.must_be_zero("disconnected", fate.ended);
    report.count("said", books.said);
    report.must_be_zero("said_and_not_heard", books.said.saturating_sub(books.heard));
    report.count("guests", visits.guests);
    report.must_be_zero("guests_failed", visits.failed);
    report.count("unread_bytes_max", fate.unread_max);
    report.latency("delivery_latency", &books.latency_ns);
    report.latency("echo_latency", &books.echo_ns);
    report.latency("guest_latency", &visits.first_ns);
    if sent == 0 {
        // A check of nothing proves nothing.
        report.must_be_zero("runs_without_a_message", 1);
    }
    let troubles: Vec<String> =
        [&fate.troubles, &books.troubles, &visits.troubles].into_iter().flatten().take(20).cloned().collect();
    report.troubles(&troubles);
    report
}

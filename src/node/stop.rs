//! The end of a gateway: its stages, each within its part of one deadline, and what it has left
//! behind.
//!
//! Owns: the pace at which sessions are closed and asked to come back ([`plan`]), and the
//! [`Stopped`] that says how it went. Never: waits beyond the deadline, whoever does not answer: a
//! shard that is late, a peer, a database, an HTTP request. Bounds:
//! [`crate::config::DrainPlan::deadline_ms`] for all of it.

use std::convert::Infallible;
use std::fmt;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use serde_json::json;

use super::Node;
use crate::clock::Clock;
use crate::config;
use crate::limits::{
    DRAIN_AWAY_MS_MAX, DRAIN_CLOSES_PER_SECOND_MIN, HOOK_STOP_MS_MAX, STOP_CLOSE_MS_MAX, STOP_LAST_MS_MAX,
    STOP_QUIESCE_MS_MAX, STOP_REST_MS_MAX, TRAIL_STOP_MS_MAX,
};
use crate::mesh::{Order, StopProgress};
use crate::shard::Drain;

/// How a gateway has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stopped {
    /// Connections when the closes began.
    pub connections: usize,
    /// Sessions that were told to end and whose peers have not let go.
    pub cut_off: usize,
    /// Sessions that were not told.
    pub unreached: usize,
    /// Commands whose answer was not waited for: their clients ask again.
    pub unanswered: usize,
    /// Shards that did not see the order to end.
    pub stuck_shards: usize,
    /// HTTP requests under way that were cut off.
    pub cut_requests: usize,
    /// Whether the store has finished everything that was asked of it.
    pub store_finished: bool,
    /// Milliseconds from the order to the end.
    pub took_ms: u64,
}

impl Stopped {
    /// Whether no client was left without a word.
    #[must_use]
    pub const fn is_orderly(&self) -> bool {
        let left = self.unreached + self.unanswered + self.stuck_shards + self.cut_requests;
        left == 0 && self.store_finished
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, cut_off, unreached, unanswered, stuck_shards, cut_requests, .. } = self;
        let closed = connections.saturating_sub(cut_off + unreached);
        write!(f, "{closed} of {connections} connections closed, {cut_off} cut off, {unreached} not reached, ")?;
        write!(f, "{unanswered} commands unanswered, ")?;
        if *stuck_shards > 0 {
            write!(f, "{stuck_shards} shards stuck, ")?;
        }
        if *cut_requests > 0 {
            write!(f, "{cut_requests} HTTP requests cut off, ")?;
        }
        let store = if self.store_finished { "finished" } else { "NOT finished" };
        write!(f, "the store has {store}; {}.{:03} s", self.took_ms / 1000, self.took_ms % 1000)
    }
}

/// How `connections` are closed within `room_ms`, and when they come back.
fn plan(settings: &config::DrainPlan, connections: usize, room_ms: u64) -> Drain {
    let connections = u64::try_from(connections).unwrap_or(u64::MAX);
    // A client that is closed last has time for an answer as well.
    let unhurried_ms = connections.saturating_mul(1000) / DRAIN_CLOSES_PER_SECOND_MIN;
    let spread_ms = settings.spread_ms.min(unhurried_ms).min(room_ms * 3 / 4);
    let return_after_ms = spread_ms + settings.return_after_ms;
    let over_ms = connections.saturating_mul(1000) / settings.return_rate.max(1);
    Drain { spread_ms, return_after_ms, return_over_ms: over_ms.min(DRAIN_AWAY_MS_MAX.saturating_sub(return_after_ms)) }
}

impl Node {
    /// Stops in order: word to balancers, accept, command intake, outstanding asks, close, shards,
    /// store, control plane, webhooks, the admin port, trails. Blocks, at most as long as the
    /// setting `drain_deadline` says.
    pub fn stop(self) -> Stopped {
        self.stop_unless_hurried(&crossbeam_channel::never())
    }

    /// As [`Node::stop`]; what `hurries` brings ends the announcement.
    pub(super) fn stop_unless_hurried(mut self, hurries: &Receiver<()>) -> Stopped {
        let clock = self.clock;
        let began_ms = clock.now().mono_ms;
        self.trails.audit.say_deed("drain", || json!({ "deadline_ms": self.drain.deadline_ms }));
        let deadline_ms = self.drain.deadline_ms;
        let end_ms = began_ms + deadline_ms;
        let sessions_end_ms = end_ms - STOP_REST_MS_MAX.min(deadline_ms / 5);
        // A store that hangs takes nothing from requests, and these nothing from what comes last.
        let last_ms = STOP_LAST_MS_MAX.min(deadline_ms / 20);
        let (store_end_ms, http_end_ms) = (end_ms - 2 * last_ms, end_ms - last_ms);
        let backups = self.backups.clone();
        let backups_end = aside("stop-backup", move || backups.stop());
        self.announce(hurries);
        self.orders.all(&Order::StopAccepting);
        self.orders.all(&Order::Quiesce);
        let now_ms = self.clock.now().mono_ms;
        let quiet_ms = now_ms + STOP_QUIESCE_MS_MAX.min(end_ms.saturating_sub(now_ms) / 3);
        if !self.wait_for(quiet_ms, |progress| matches!(progress, StopProgress::Quiet(_))) {
            tracing::warn!("some commands were not answered before the stop; their clients will ask again");
        }
        let connections = self.board.reports().iter().map(|report| report.driver.connections as usize).sum();
        let now_ms = self.clock.now().mono_ms;
        let drain = plan(&self.drain, connections, sessions_end_ms.saturating_sub(now_ms));
        tracing::info!(connections, ?drain, "closing");
        self.orders.all(&Order::CloseAll(drain));
        let closed_ms = sessions_end_ms.min(now_ms + drain.spread_ms + STOP_CLOSE_MS_MAX);
        self.wait_for(closed_ms, |progress| matches!(progress, StopProgress::Empty(_)));
        self.orders.all(&Order::Exit);
        let mut stopped = self.wait_for_ends(sessions_end_ms.max(closed_ms), store_end_ms);
        stopped.connections = connections;
        // What was stored last has left the shards.
        if let Some(cluster) = self.cluster.take() {
            cluster.stop();
        }
        let store = self.store.clone();
        let store_ends = aside("stop-store", move || store.stop());
        has_ended(&store_ends, clock, store_end_ms);
        let left_ms = |until_ms: u64| until_ms.saturating_sub(clock.now().mono_ms);
        let (cut, admin) = self.api.stop_public(Duration::from_millis(left_ms(http_end_ms)));
        // Half of what is left is for the trails.
        self.telling.stop(Duration::from_millis((left_ms(end_ms) / 2).min(HOOK_STOP_MS_MAX)));
        stopped.cut_requests = cut + admin.stop(Duration::from_millis(left_ms(end_ms) / 2));
        // A store that is only slow has what the others did not need.
        stopped.store_finished = has_ended(&store_ends, clock, end_ms - last_ms / 2);
        self.trails
            .audit
            .say_deed("stopped", || json!({ "connections": stopped.connections, "orderly": stopped.is_orderly() }));
        let endings = self.endings.clone();
        let remembered = aside("endings", move || endings.stopped());
        for trail in [&self.trails.audit, &self.trails.access] {
            trail.flush(Duration::from_millis(left_ms(end_ms).min(TRAIL_STOP_MS_MAX)));
        }
        has_ended(&remembered, clock, end_ms);
        has_ended(&backups_end, clock, end_ms);
        stopped.took_ms = clock.now().mono_ms.saturating_sub(began_ms);
        stopped
    }

    /// Says on `/readyz` that it stops, and serves on for as long as balancers need to hear of it.
    fn announce(&self, hurries: &Receiver<()>) {
        self.api.announce_stop();
        let announce_ms = self.drain.announce_ms;
        if announce_ms == 0 {
            return;
        }
        tracing::info!(announce_ms, "/readyz says that the gateway stops; everything is still served");
        if hurries.recv_timeout(Duration::from_millis(announce_ms)) != Err(RecvTimeoutError::Timeout) {
            tracing::info!("a second signal: the rest of the announcement is left out");
        }
    }

    /// Waits until every shard has reported `wanted`. Answers whether they did in time.
    fn wait_for(&self, end_ms: u64, wanted: impl Fn(&StopProgress) -> bool) -> bool {
        let mut missing = self.orders.shards();
        while missing > 0 {
            let Some(progress) = self.next_progress(end_ms) else { return false };
            missing -= usize::from(wanted(&progress));
        }
        true
    }

    fn next_progress(&self, end_ms: u64) -> Option<StopProgress> {
        let left_ms = end_ms.saturating_sub(self.clock.now().mono_ms);
        self.progress.recv_timeout(Duration::from_millis(left_ms)).ok()
    }

    /// Waits for the last words of the shards until `end_ms`, and for the ends of their threads
    /// until `last_ms`: what they leave open takes its time.
    fn wait_for_ends(&self, end_ms: u64, last_ms: u64) -> Stopped {
        let mut stopped = Stopped { stuck_shards: self.orders.shards(), ..Stopped::default() };
        // Half of what is left is theirs at least: the order has to be seen.
        let end_ms = end_ms.max(self.clock.now().mono_ms.midpoint(last_ms));
        while stopped.stuck_shards > 0 {
            match self.next_progress(end_ms) {
                Some(StopProgress::Over { open, unreached, unanswered, .. }) => {
                    stopped.stuck_shards -= 1;
                    stopped.cut_off += open.saturating_sub(unreached);
                    stopped.unreached += unreached;
                    stopped.unanswered += unanswered;
                }
                Some(StopProgress::Quiet(_) | StopProgress::Empty(_)) => {}
                None => break,
            }
        }
        if stopped.cut_off + stopped.unreached == 0 && stopped.stuck_shards == 0 {
            // Nothing is left that could take long.
            let left_ms = last_ms.saturating_sub(self.clock.now().mono_ms);
            let _ = self.ended.recv_timeout(Duration::from_millis(left_ms));
        }
        stopped
    }
}

/// Whether what was begun [`aside`] ends before `end_ms`.
fn has_ended(work: &Receiver<Infallible>, clock: Clock, end_ms: u64) -> bool {
    let left_ms = end_ms.saturating_sub(clock.now().mono_ms);
    work.recv_timeout(Duration::from_millis(left_ms)) == Err(RecvTimeoutError::Disconnected)
}

/// Does `work` on a thread of its own, because a database or a disk may hold it for ever. What is
/// given back ends when it does.
fn aside(name: &str, work: impl Fn() + Clone + Send + 'static) -> Receiver<Infallible> {
    let (alive, ended) = bounded(0);
    let here = work.clone();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        work();
        drop(alive);
    });
    if thread.is_err() {
        // Here, then; it only takes long if something hangs.
        here();
    }
    ended
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::path::Path;

    use crossbeam_channel::Sender;

    use super::*;
    use crate::node::Tuning;
    use crate::node::data::test_config;
    use crate::store::Backend;
    use crate::store::worker::{Lane, LanePlace};

    const SETTINGS: config::DrainPlan = config::DrainPlan {
        deadline_ms: 10_000,
        announce_ms: 0,
        spread_ms: 5_000,
        return_after_ms: 1_000,
        return_rate: 2_000,
    };

    #[test]
    fn the_window_fits_the_population() {
        let few = plan(&SETTINGS, 10, 8_000);
        assert_eq!(few, Drain { spread_ms: 10, return_after_ms: 1_010, return_over_ms: 5 });
        let usual = plan(&SETTINGS, 15_000, 8_000);
        assert_eq!(usual, Drain { spread_ms: 5_000, return_after_ms: 6_000, return_over_ms: 7_500 });
        let many = plan(&SETTINGS, 1_000_000, 8_000);
        assert_eq!(many, Drain { spread_ms: 5_000, return_after_ms: 6_000, return_over_ms: 500_000 });
        assert_eq!(plan(&SETTINGS, 100_000_000, 8_000).return_over_ms, DRAIN_AWAY_MS_MAX - 6_000);
    }

    #[test]
    fn what_was_lost_before_the_closes_shortens_their_spread() {
        assert_eq!(plan(&SETTINGS, 1_000_000, 4_000).spread_ms, 3_000);
        assert_eq!(plan(&SETTINGS, 1_000_000, 0).spread_ms, 0);
    }

    #[test]
    fn a_summary_says_what_was_left() {
        let good = Stopped { connections: 15_000, store_finished: true, took_ms: 5_021, ..Stopped::default() };
        assert!(good.is_orderly());
        assert_eq!(
            good.to_string(),
            "15000 of 15000 connections closed, 0 cut off, 0 not reached, 0 commands unanswered, the store has finished; 5.021 s"
        );
        let bad = Stopped { cut_off: 2, unreached: 3, unanswered: 4, stuck_shards: 1, store_finished: false, ..good };
        assert!(!bad.is_orderly());
        let cut = Stopped { cut_requests: 5, ..good };
        assert!(!cut.is_orderly() && cut.to_string().contains(", 5 HTTP requests cut off, the store has"), "{cut}");
        assert_eq!(
            bad.to_string(),
            "14995 of 15000 connections closed, 2 cut off, 3 not reached, 4 commands unanswered, 1 shards stuck, \
             the store has NOT finished; 5.021 s"
        );
    }

    /// A gateway whose store does nothing until what comes with it is dropped, and a connection
    /// that was answered and is idle.
    fn with_a_store_that_hangs(data: &Path, audit: &Path) -> (Node, Sender<()>, TcpStream) {
        let path = audit.to_str().expect("UTF-8");
        let config = test_config(data, &[("audit_log", path), ("drain_deadline", "10s")]);
        let node = Node::start(&config, Tuning::default()).expect("it starts");
        let mut idle = TcpStream::connect(node.addresses()[0]).expect("it listens");
        idle.write_all(b"GET /api/v1/config HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is taken");
        idle.read_exact(&mut [0; 512]).expect("it is answered");
        let (go_on, held) = bounded::<()>(0);
        let hang = Box::new(move |_: &mut dyn Backend| {
            let _ = held.recv();
        });
        node.store.call(LanePlace::of(Lane::Open), hang).expect("there is room");
        (node, go_on, idle)
    }

    fn last_line(audit: &Path) -> String {
        let said = fs::read_to_string(audit).expect("a file");
        said.lines().last().expect("lines").to_owned()
    }

    #[test]
    fn a_store_that_hangs_takes_nothing_from_requests_and_trails() {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = folder.path().join("audit.log");
        let (node, go_on, _idle) = with_a_store_that_hangs(folder.path(), &audit);
        let deadline_ms = node.drain.deadline_ms;
        let stopped = node.stop();
        drop(go_on);
        // A store that is waited for without an end is so for good; the machine may be busy.
        assert!(!stopped.store_finished && stopped.took_ms <= deadline_ms + 5_000, "{stopped}");
        assert_eq!(stopped.cut_requests, 0, "nothing was asked: {stopped}");
        let patience = Clock::start();
        while !last_line(&audit).contains("stopped") && patience.now().mono_ms < 20_000 {
            thread::yield_now();
        }
        let last = last_line(&audit);
        assert!(last.contains("\"event\":\"stopped\"") && last.contains("\"orderly\":false"), "{last}");
    }

    #[test]
    fn a_slow_store_has_the_time_that_requests_did_not_need() {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = folder.path().join("audit.log");
        let (node, go_on, mut idle) = with_a_store_that_hangs(folder.path(), &audit);
        let stopped = thread::scope(|scope| {
            scope.spawn(move || {
                // Idle connections end when the store has been waited for.
                idle.read_to_end(&mut Vec::new()).expect("the server ends the stream");
                drop(go_on);
            });
            node.stop()
        });
        assert!(stopped.store_finished && stopped.is_orderly(), "{stopped}");
        let last = last_line(&audit);
        assert!(last.contains("\"event\":\"stopped\"") && last.contains("\"orderly\":true"), "{last}");
    }

    #[test]
    fn what_hangs_aside_is_waited_for_until_its_time_and_no_longer() {
        let (clock, (go_on, held)) = (Clock::start(), bounded::<()>(0));
        let work = aside("hangs", move || {
            let _ = held.recv();
        });
        assert!(!has_ended(&work, clock, clock.now().mono_ms + 10));
        drop(go_on);
        assert!(has_ended(&work, clock, clock.now().mono_ms + 20_000));
    }
}

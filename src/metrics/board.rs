//! Where shard threads lay down copies of their counters, and a scrape picks them up.
//!
//! Owns: [`Board`], one place per shard, and [`Publisher`], a shard's access to its own place.
//! Never: lets a shard wait for a scrape for longer than one copy of a [`ShardReport`] (some
//! hundred bytes): nothing else happens under the lock, on either side. The lock of a shard is its
//! own, so that shards never meet here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::spans::{SpanSummary, Spans};
use super::top::TopReport;
use super::{DriverTally, Tally};
use crate::ids::ShardId;

/// What a shard says about itself.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// Its counters.
    pub tally: Tally,
    /// The counters of its driver.
    pub driver: DriverTally,
    /// Its turns.
    pub turns: SpanSummary,
    /// The messages of other shards on their way here.
    pub hops: SpanSummary,
}

/// The reports of all shards; clones share them.
#[derive(Clone)]
pub struct Board {
    places: Arc<[Mutex<ShardReport>]>,
    /// An operator looks which users take the most.
    looked_at: Arc<AtomicBool>,
    /// What the shards have counted for the look that has ended.
    tops: Arc<[Mutex<Option<TopReport>>]>,
}

impl Board {
    /// Empty reports of `shards` shards.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self {
            places: (0..shards).map(|_| Mutex::default()).collect(),
            looked_at: Arc::default(),
            tops: (0..shards).map(|_| Mutex::default()).collect(),
        }
    }

    /// The way in of one shard, whose time starts at `now_ms`; `None` for a shard that there is
    /// not.
    #[must_use]
    pub fn publisher(&self, shard: ShardId, now_ms: u64) -> Option<Publisher> {
        let place = usize::from(shard.0);
        let publisher =
            || Publisher { board: self.clone(), place, turns: Spans::new(now_ms), hops: Spans::new(now_ms) };
        (place < self.places.len()).then(publisher)
    }

    /// Begins a look which users take the most, or ends it. A shard hears of it at the end of its
    /// next turn; whoever wants to be sure that there has been one asks it something.
    pub fn look(&self, on: bool) {
        self.looked_at.store(on, Ordering::Release);
    }

    /// Takes what the shards have handed in since the last time.
    #[must_use]
    pub fn take_tops(&self) -> Vec<TopReport> {
        self.tops.iter().filter_map(|place| place.lock().take()).collect()
    }

    /// Copies of all reports, in order of the shards. Each is from the end of some turn; they are
    /// not from one moment.
    #[must_use]
    pub fn reports(&self) -> Vec<ShardReport> {
        self.places.iter().map(|place| place.lock().clone()).collect()
    }
}

/// One shard's way to the board.
pub struct Publisher {
    board: Board,
    place: usize,
    turns: Spans,
    hops: Spans,
}

impl Publisher {
    /// Whether an operator looks which users take the most.
    #[must_use]
    pub fn is_looked_at(&self) -> bool {
        self.board.looked_at.load(Ordering::Acquire)
    }

    /// Hands in what was counted for a look that has ended.
    pub fn hand_in(&self, top: TopReport) {
        if let Some(place) = self.board.tops.get(self.place) {
            *place.lock() = Some(top);
        }
    }

    /// Counts `msgs` messages of another shard that were `ns` nanoseconds on their way and were
    /// taken in the turn of `now_ms`; they show when it is published.
    pub fn hopped(&mut self, ns: u64, msgs: u64, now_ms: u64) {
        self.hops.record_many(ns, msgs, now_ms);
    }

    /// Publishes at the end of a turn that took `turn_ns` nanoseconds and ended at `now_ms`.
    pub fn publish(&mut self, turn_ns: u64, now_ms: u64, tally: &Tally, driver: &DriverTally) {
        self.turns.record(turn_ns, now_ms);
        let (turns, hops) = (self.turns.summary(), self.hops.summary());
        if let Some(place) = self.board.places.get(self.place) {
            let mut report = place.lock();
            report.tally.clone_from(tally);
            report.driver.clone_from(driver);
            report.turns = turns;
            report.hops = hops;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_its_own_place() {
        let board = Board::new(2);
        let mut second = board.publisher(ShardId(1), 0).expect("there are two");
        assert!(board.publisher(ShardId(2), 0).is_none());
        second.hopped(2000, 3, 1);
        second.publish(5000, 1, &Tally { sessions: 7, ..Tally::default() }, &DriverTally::default());
        let reports = board.reports();
        assert_eq!((reports[0].tally.sessions, reports[1].tally.sessions), (0, 7));
        assert_eq!((reports[0].turns.count, reports[1].turns.count), (0, 1));
        assert_eq!((reports[1].turns.sum_ns, reports[1].hops.count, reports[1].hops.sum_ns), (5000, 3, 6000));
    }

    #[test]
    fn the_last_report_stays_when_its_shard_ends() {
        let board = Board::new(1);
        let shard = board.clone();
        std::thread::spawn(move || {
            let mut publisher = shard.publisher(ShardId(0), 0).expect("there is one");
            for stored in 1..=100 {
                publisher.publish(1000, stored, &Tally { stored, ..Tally::default() }, &DriverTally::default());
            }
        })
        .join()
        .expect("the thread ends well");
        assert_eq!(board.reports()[0].tally.stored, 100);
    }
}

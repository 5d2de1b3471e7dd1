//! Where shard threads lay down copies of their counters, and a scrape picks them up.
//!
//! Owns: [`Board`], one place per shard, and [`Publisher`], a shard's access to its own place.
//! Never: lets a shard wait for a scrape for longer than one copy of a [`ShardReport`] (some
//! hundred bytes): nothing else happens under the lock, on either side. The lock of a shard is its
//! own, so that shards never meet here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
    /// As [`Board::turning`]. Only in what [`Board::reports_at`] gives.
    pub turning_ns: u64,
}

/// What one shard has on the board.
#[derive(Default)]
struct Place {
    report: Mutex<ShardReport>,
    /// When the turn that is under way began, in nanoseconds of the gateway's clock; 0 between two.
    /// A shard that is stuck never ends its turn, so this cannot wait for a report.
    turn_began_ns: AtomicU64,
    /// When the shard was asked whether it turns, if it has not answered; else 0. One that is not
    /// woken, or gets no processor, is in no turn.
    asked_ns: AtomicU64,
}

/// The reports of all shards; clones share them.
#[derive(Clone)]
pub struct Board {
    places: Arc<[Place]>,
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
            places: (0..shards).map(|_| Place::default()).collect(),
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
        self.places.iter().map(|place| place.report.lock().clone()).collect()
    }

    /// As [`Board::reports`], with how long the turns under way have lasted at `now_ns` of the
    /// gateway's clock.
    #[must_use]
    pub fn reports_at(&self, now_ns: u64) -> Vec<ShardReport> {
        let turning = self.turning(now_ns);
        self.reports()
            .into_iter()
            .zip(turning)
            .map(|(report, turning_ns)| ShardReport { turning_ns, ..report })
            .collect()
    }

    /// For each shard how long, at `now_ns`, its turn that is under way has lasted, or it has not
    /// answered for, whichever is longer, in nanoseconds; 0 for one that sleeps and owes no answer.
    pub fn turning(&self, now_ns: u64) -> impl Iterator<Item = u64> {
        let lasted = move |since: &AtomicU64| match since.load(Ordering::Relaxed) {
            0 => 0,
            since_ns => now_ns.saturating_sub(since_ns),
        };
        self.places.iter().map(move |place| lasted(&place.turn_began_ns).max(lasted(&place.asked_ns)))
    }

    /// Notes that `shard` is asked whether it turns, at `now_ns`. What is given back is to be
    /// dropped when it answers. `None`: it owes an answer already, or there is no such shard.
    #[must_use]
    pub fn ask(&self, shard: ShardId, now_ns: u64) -> Option<TurnAsked> {
        let place = usize::from(shard.0);
        let asked_ns = &self.places.get(place)?.asked_ns;
        let free = asked_ns.compare_exchange(0, now_ns.max(1), Ordering::Relaxed, Ordering::Relaxed);
        free.is_ok().then(|| TurnAsked { board: self.clone(), place })
    }
}

/// A question to a shard; dropped, it is answered, or the shard is no more.
pub struct TurnAsked {
    board: Board,
    place: usize,
}

impl Drop for TurnAsked {
    fn drop(&mut self) {
        if let Some(place) = self.board.places.get(self.place) {
            place.asked_ns.store(0, Ordering::Relaxed);
        }
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

    /// A turn begins, at `now_ns` of the gateway's clock.
    pub fn begin_turn(&self, now_ns: u64) {
        self.set_turn_began(now_ns.max(1));
    }

    /// The shard goes to sleep, or the next turn begins at once.
    pub fn end_turn(&self) {
        self.set_turn_began(0);
    }

    fn set_turn_began(&self, ns: u64) {
        if let Some(place) = self.board.places.get(self.place) {
            place.turn_began_ns.store(ns, Ordering::Relaxed);
        }
    }

    /// Publishes at the end of a turn that took `turn_ns` nanoseconds and ended at `now_ms`.
    pub fn publish(&mut self, turn_ns: u64, now_ms: u64, tally: &Tally, driver: &DriverTally) {
        self.turns.record(turn_ns, now_ms);
        let (turns, hops) = (self.turns.summary(), self.hops.summary());
        if let Some(place) = self.board.places.get(self.place) {
            let mut report = place.report.lock();
            report.tally.clone_from(tally);
            report.driver.clone_from(driver);
            report.turns = turns;
            report.hops = hops;
        }
    }
}

/// A shard that has ended is in no turn, however it has.
impl Drop for Publisher {
    fn drop(&mut self) {
        self.end_turn();
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
    fn a_turn_that_does_not_end_is_seen() {
        let board = Board::new(2);
        let mut first = board.publisher(ShardId(0), 0).expect("there are two");
        assert_eq!(board.turning(7_000).collect::<Vec<_>>(), [0, 0], "neither has begun");
        first.begin_turn(2_000);
        assert_eq!(board.turning(7_000).collect::<Vec<_>>(), [5_000, 0]);
        assert_eq!(board.reports_at(9_000).iter().map(|report| report.turning_ns).collect::<Vec<_>>(), [7_000, 0]);
        assert_eq!(board.turning(1_000).next(), Some(0), "the clock was read before the turn began");
        first.publish(6_000, 0, &Tally::default(), &DriverTally::default());
        first.end_turn();
        assert_eq!(board.turning(9_000).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn a_shard_that_is_not_woken_owes_an_answer() {
        let board = Board::new(2);
        let asked = board.ask(ShardId(1), 3_000).expect("it owes none");
        assert!(board.ask(ShardId(1), 4_000).is_none() && board.ask(ShardId(2), 0).is_none());
        assert_eq!(board.turning(9_000).collect::<Vec<_>>(), [0, 6_000], "since the first one");
        drop(asked);
        assert_eq!(board.turning(9_000).collect::<Vec<_>>(), [0, 0]);
        assert!(board.ask(ShardId(1), 9_000).is_some());
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

//! How long it takes until a session is open, and until a message is with its readers.
//!
//! Owns: when the connections that are no sessions yet were accepted ([`Comers`]), and what of both
//! is counted at the end of a turn, when everything is written.
//! Never: reads a clock: everything happens when its turn begins or ends. Costs nothing for a
//! session that is open.
//! Bounds: those of connections that wait for their heads, for the store, or end.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Driver;
use crate::ids::ConnId;
use crate::metrics::DriverTally;
use crate::shard::Passage;

/// Connections that are no sessions yet, and those that have become one in this turn.
#[derive(Default)]
pub(super) struct Comers {
    /// When they were accepted, in nanoseconds of the gateway's clock.
    since_ns: HashMap<ConnId, u64, RandomState>,
    /// The same of those that are open now.
    opened_ns: Vec<u64>,
}

/// A crowd of them leaves so much memory behind, and no more.
const PLACES_KEPT: usize = 1024;

impl Comers {
    /// A connection was accepted at `at_ns`, here or at another shard.
    pub(super) fn come(&mut self, id: ConnId, at_ns: u64) {
        self.since_ns.insert(id, at_ns);
    }

    /// When it was accepted, if it waits still.
    pub(super) fn since_ns(&self, id: ConnId) -> Option<u64> {
        self.since_ns.get(&id).copied()
    }

    /// Its session may be read: the first time, it is open.
    pub(super) fn open(&mut self, id: ConnId) {
        let since_ns = self.leave(id);
        self.opened_ns.extend(since_ns);
    }

    /// It is gone, another thread's, or no session.
    pub(super) fn leave(&mut self, id: ConnId) -> Option<u64> {
        let since_ns = self.since_ns.remove(&id);
        let len = self.since_ns.len();
        if self.since_ns.capacity() > 4 * len + PLACES_KEPT {
            self.since_ns.shrink_to(2 * len);
        }
        since_ns
    }

    /// Counts those that have opened in the turn that ends at `ended_ns`.
    fn count(&mut self, ended_ns: u64, tally: &mut DriverTally) {
        for since_ns in self.opened_ns.drain(..) {
            tally.opens.record(ended_ns.saturating_sub(since_ns));
        }
    }
}

/// Counts messages whose ways have come to their end in the turn that ends at `ended_ns`.
fn count(passages: impl Iterator<Item = Passage>, ended_ns: u64, tally: &mut DriverTally) {
    for Passage { milestones, count } in passages {
        let places = [(&mut tally.deliveries, milestones.said_us), (&mut tally.fanouts, milestones.known_us)];
        for (times, since_us) in places.into_iter().filter(|(_, since_us)| *since_us > 0) {
            times.record_many(ended_ns.saturating_sub(since_us.saturating_mul(1000)), count);
        }
    }
}

impl Driver {
    /// Counts what has come to its end in this turn, which is written.
    pub(super) fn note_latencies(&mut self) {
        self.comers.count(self.ended_ns, &mut self.tally);
        count(self.shard.passages(), self.ended_ns, &mut self.tally);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::Milestones;

    const MS: u64 = 1_000_000;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    #[test]
    fn a_session_that_opens_counts_once_from_its_acceptance_on() {
        let (mut comers, mut tally) = (Comers::default(), DriverTally::default());
        comers.come(conn(1), 10 * MS);
        comers.come(conn(2), 10 * MS);
        comers.come(conn(3), 12 * MS);
        assert_eq!(comers.since_ns(conn(3)), Some(12 * MS), "it is told to the shard that gets it");
        comers.open(conn(1));
        comers.open(conn(1));
        comers.leave(conn(3));
        comers.open(conn(3));
        comers.count(15 * MS, &mut tally);
        comers.open(conn(2));
        comers.open(conn(4));
        comers.count(110 * MS, &mut tally);
        assert_eq!((tally.opens.counts.iter().sum::<u64>(), tally.opens.sum_ns), (2, 105 * MS));
        assert!(comers.since_ns.is_empty() && comers.opened_ns.is_empty());
    }

    #[test]
    fn a_crowd_leaves_no_memory_behind() {
        let mut comers = Comers::default();
        (0..5000).for_each(|slot| comers.come(conn(slot), 1));
        // One of them says nothing, and stays.
        let left = (1..5000).filter_map(|slot| comers.leave(conn(slot))).count();
        assert_eq!(left, 4999);
        assert!(comers.since_ns.capacity() <= PLACES_KEPT + 4, "{}", comers.since_ns.capacity());
    }

    #[test]
    fn a_message_counts_from_where_its_way_began() {
        let mut tally = DriverTally::default();
        let passage = |said_us, known_us, count| Passage { milestones: Milestones { said_us, known_us }, count };
        let passages = [passage(1_000, 4_000, 3), passage(0, 9_000, 1)];
        count(passages.into_iter(), 10 * MS, &mut tally);
        assert_eq!((tally.deliveries.counts.iter().sum::<u64>(), tally.deliveries.sum_ns), (3, 27 * MS));
        assert_eq!((tally.fanouts.counts.iter().sum::<u64>(), tally.fanouts.sum_ns), (4, 19 * MS));
    }
}

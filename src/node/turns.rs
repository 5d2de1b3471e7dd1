//! Whether every shard turns, looked at now and then and said in the log.
//!
//! Owns: what was said of each shard.
//! Never: waits for a shard. Ends nothing: a supervisor's watchdog does (`supervisor.rs`).
//! Bounds: one question to each shard, once in [`SHARD_ASK_MS`]; lines as [`Outage`] has them.

use std::sync::Arc;
use std::time::Duration;

use crate::api::services::ShardAccess;
use crate::clock::Clock;
use crate::ids::ShardId;
use crate::limits::{SHARD_ASK_MS, SHARD_DEAD_MS, SHARD_STUCK_MS};
use crate::log::outage::{Outage, OutageLine};
use crate::metrics::Board;
use crate::shard::Notice;

/// What looks at the turns of all shards, each time that it is called. `clock` is theirs.
pub(super) fn watch(board: &Board, clock: Clock, homes: &Arc<dyn ShardAccess>) -> impl FnMut() + Send + 'static {
    let (mut turns, homes) = (Turns::new(board.clone(), clock), Arc::clone(homes));
    move || turns.look(&homes)
}

/// What says which shard has not turned for so long that it will not any more, each time that it is
/// called. `clock` is theirs.
pub(super) fn dead(board: &Board, clock: Clock) -> impl Fn() -> Option<ShardId> + Send + Sync + 'static {
    let board = board.clone();
    move || dead_at(&board, clock.nanos())
}

fn dead_at(board: &Board, now_ns: u64) -> Option<ShardId> {
    let mut turning = (0..).map(ShardId).zip(board.turning(now_ns));
    turning.find(|(_, turning_ns)| turning_ns / 1_000_000 >= SHARD_DEAD_MS).map(|(shard, _)| shard)
}

/// What is known of the turns.
struct Turns {
    board: Board,
    clock: Clock,
    /// When the shards were asked last.
    asked_ms: u64,
    /// Of each shard that was ever looked at.
    outages: Vec<Outage>,
}

impl Turns {
    const fn new(board: Board, clock: Clock) -> Self {
        Self { board, clock, asked_ms: 0, outages: Vec::new() }
    }

    /// Looks once, and says what is new; asks the shards now and then, through `homes`.
    fn look(&mut self, homes: &Arc<dyn ShardAccess>) {
        let now_ms = self.clock.now().mono_ms;
        if now_ms >= self.asked_ms + SHARD_ASK_MS {
            self.asked_ms = now_ms;
            for shard in (0..homes.shards()).map(ShardId) {
                let Some(asked) = self.board.ask(shard, self.clock.nanos()) else { continue };
                // Without room for it the shard is asked again; others see that it is full.
                let _ = homes.ask(shard, Notice::Hello, Box::new(move |_| drop(asked)));
            }
        }
        for (shard, line, turning_ms) in self.lines_at(self.clock.nanos()) {
            let (shard, turning) = (shard.0, Duration::from_millis(turning_ms));
            match line {
                OutageLine::Begins { untold } => tracing::error!(shard, ?turning, untold, "a shard does not turn"),
                OutageLine::Lasts { .. } => tracing::error!(shard, ?turning, "a shard still does not turn"),
                OutageLine::Ended { seconds, .. } => tracing::info!(shard, seconds, "a shard turns again"),
            }
        }
    }

    /// The lines that are due at `now_ns`, and how long the shard's present turn has lasted, in
    /// milliseconds.
    fn lines_at(&mut self, now_ns: u64) -> Vec<(ShardId, OutageLine, u64)> {
        let now_ms = Clock::now_at(now_ns).mono_ms;
        let mut lines = Vec::new();
        for (shard, turning_ns) in (0..).map(ShardId).zip(self.board.turning(now_ns)) {
            let place = usize::from(shard.0);
            if self.outages.len() <= place {
                self.outages.push(Outage::default());
            }
            let turning_ms = turning_ns / 1_000_000;
            let Some(outage) = self.outages.get(place) else { continue };
            let line = if turning_ms >= SHARD_STUCK_MS { outage.failed(now_ms) } else { outage.worked(now_ms) };
            lines.extend(line.map(|line| (shard, line, turning_ms)));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LOG_OUTAGE_PAUSE_MS;
    use crate::metrics::{DriverTally, Tally};

    /// The lines of a look at `ms`.
    fn look(turns: &mut Turns, ms: u64) -> Vec<(u16, OutageLine, u64)> {
        turns.lines_at(ms * 1_000_000).into_iter().map(|(shard, line, ms)| (shard.0, line, ms)).collect()
    }

    #[test]
    fn a_shard_that_does_not_turn_is_named_once_and_once_when_it_turns_again() {
        let board = Board::new(3);
        let [_idle, mut stuck, mut busy] =
            [0, 1, 2].map(|shard| board.publisher(ShardId(shard), 0).expect("there are three"));
        let mut turns = Turns::new(board, Clock::start());
        stuck.begin_turn(1_000 * 1_000_000);
        let mut said = Vec::new();
        for ms in (1_000..=20_000).step_by(250) {
            // A busy shard is in some turn whenever it is looked at.
            busy.begin_turn((ms - 10) * 1_000_000);
            said.extend(look(&mut turns, ms));
        }
        assert_eq!(said, [(1, OutageLine::Begins { untold: 0 }, SHARD_STUCK_MS)]);
        let later = 1_000 + SHARD_STUCK_MS + LOG_OUTAGE_PAUSE_MS;
        busy.end_turn();
        assert!(matches!(look(&mut turns, later)[..], [(1, OutageLine::Lasts { .. }, _)]), "an operator finds it");
        stuck.publish(1, later, &Tally::default(), &DriverTally::default());
        stuck.end_turn();
        assert!(matches!(look(&mut turns, later + 250)[..], [(1, OutageLine::Ended { .. }, 0)]));
        assert_eq!(look(&mut turns, later + 500), []);
        busy.publish(1, later, &Tally::default(), &DriverTally::default());
    }

    #[test]
    fn a_shard_whose_turn_has_lasted_half_a_minute_is_dead_and_one_that_has_ended_is_not() {
        let board = Board::new(3);
        let [_idle, mut stuck, ended] =
            [0, 1, 2].map(|shard| board.publisher(ShardId(shard), 0).expect("there are three"));
        let dead = |ms: u64| dead_at(&board, ms * 1_000_000).map(|shard| shard.0);
        ended.begin_turn(500 * 1_000_000);
        stuck.begin_turn(1_000 * 1_000_000);
        drop(ended);
        assert_eq!((dead(2_000), dead(SHARD_DEAD_MS)), (None, None), "it may come back");
        assert_eq!(dead(SHARD_DEAD_MS + 1_000), Some(1));
        stuck.publish(1, 0, &Tally::default(), &DriverTally::default());
        stuck.end_turn();
        assert_eq!(dead(2 * SHARD_DEAD_MS), None);
        let _asked = board.ask(ShardId(0), 1_000_000).expect("it owes none");
        assert_eq!(dead(SHARD_DEAD_MS + 1), Some(0), "one that is not woken is no better");
    }
}

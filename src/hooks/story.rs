//! What the log says of one endpoint: a line when it stops taking events, a count now and then, a
//! line when it takes them again; and the same of events that found no place.
//!
//! Owns: [`Story`], with what was not said yet.
//! Never: counts for the metrics; those count each time.
//! Bounds: lines as [`Outage`] bounds them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Held;
use crate::clock::Clock;
use crate::log::outage::{Outage, OutageLine};

/// See the module.
pub(super) struct Story {
    endpoint: String,
    held: Arc<Held>,
    clock: Clock,
    failing: Outage,
    full: Outage,
    /// Events that found no place and stand in no line yet.
    dropped: u64,
}

/// A line, and how many events it says to be dropped.
type Line = (OutageLine, u64);

impl Story {
    pub(super) fn new(endpoint: String, held: Arc<Held>) -> Self {
        let clock = Clock::start();
        Self { endpoint, held, clock, failing: Outage::default(), full: Outage::default(), dropped: 0 }
    }

    /// A request was not taken, and why.
    pub(super) fn failed(&mut self, why: &dyn std::fmt::Display, events: usize, attempt: u32) {
        let Some((line, dropped)) = self.fails(self.clock.now().mono_ms) else { return };
        let (endpoint, waiting) = (&self.endpoint, self.waiting());
        match line {
            OutageLine::Begins { untold } => tracing::warn!(
                %endpoint, %why, events, attempt, untold, waiting, dropped, "a webhook does not take its events"
            ),
            OutageLine::Lasts { failures, seconds } => tracing::warn!(
                %endpoint, %why, failures, seconds, waiting, dropped, "a webhook still does not take its events"
            ),
            OutageLine::Ended { .. } => {}
        }
    }

    /// Events are given up, after their last try.
    pub(super) fn given_up(&self, why: &dyn std::fmt::Display, events: usize, attempt: u32) {
        let (endpoint, waiting) = (&self.endpoint, self.waiting());
        tracing::warn!(%endpoint, %why, events, attempt, waiting, "events of a webhook are given up");
    }

    /// A request was taken.
    pub(super) fn taken(&mut self) {
        let now_ms = self.clock.now().mono_ms;
        if let Some((OutageLine::Ended { failures, seconds }, dropped)) = self.works(now_ms) {
            let (endpoint, waiting) = (&self.endpoint, self.waiting());
            tracing::info!(%endpoint, failures, seconds, waiting, dropped, "a webhook takes its events again");
        }
        let line = self.finds_places(now_ms);
        let (endpoint, waiting) = (&self.endpoint, self.waiting());
        match line {
            Some((OutageLine::Begins { .. } | OutageLine::Lasts { .. }, dropped)) => tracing::warn!(
                %endpoint, waiting, dropped, "a webhook is slower than its events come: some found no place"
            ),
            Some((OutageLine::Ended { seconds, .. }, _)) => {
                tracing::info!(%endpoint, seconds, waiting, "the events of a webhook find places again");
            }
            None => {}
        }
    }

    fn waiting(&self) -> usize {
        self.held.events.load(Ordering::Acquire)
    }

    fn look(&mut self) -> u64 {
        let dropped = self.held.dropped.swap(0, Ordering::AcqRel);
        self.dropped += dropped;
        dropped
    }

    fn fails(&mut self, now_ms: u64) -> Option<Line> {
        self.look();
        let line = self.failing.failed(now_ms)?;
        Some((line, std::mem::take(&mut self.dropped)))
    }

    fn works(&mut self, now_ms: u64) -> Option<Line> {
        let line = self.failing.worked(now_ms)?;
        self.look();
        Some((line, std::mem::take(&mut self.dropped)))
    }

    /// Of an endpoint that takes events: whether all of them find places.
    fn finds_places(&mut self, now_ms: u64) -> Option<Line> {
        let all_do = self.look() == 0 && self.dropped == 0;
        let line = if all_do { self.full.worked_quietly(now_ms) } else { self.full.failed(now_ms) }?;
        Some((line, std::mem::take(&mut self.dropped)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{LOG_OUTAGE_PAUSE_MS, LOG_OUTAGE_QUIET_MS};

    fn story() -> (Story, Arc<Held>) {
        let held = Arc::<Held>::default();
        (Story::new("http://h".to_owned(), Arc::clone(&held)), held)
    }

    #[test]
    fn an_outage_has_a_beginning_counts_what_is_dropped_and_an_end() {
        let (mut story, held) = story();
        assert_eq!(story.fails(0), Some((OutageLine::Begins { untold: 0 }, 0)));
        held.drop_one();
        held.drop_one();
        assert_eq!(story.fails(1), None, "not each try");
        held.drop_one();
        let seconds = LOG_OUTAGE_PAUSE_MS / 1000;
        assert_eq!(story.fails(LOG_OUTAGE_PAUSE_MS), Some((OutageLine::Lasts { failures: 2, seconds }, 3)));
        held.drop_one();
        let ended = OutageLine::Ended { failures: 3, seconds };
        assert_eq!(story.works(LOG_OUTAGE_PAUSE_MS + 1), Some((ended, 1)), "what was dropped since");
        assert_eq!(story.finds_places(LOG_OUTAGE_PAUSE_MS + 1), None, "it is said once");
        assert_eq!(story.works(LOG_OUTAGE_PAUSE_MS + 2), None);
    }

    #[test]
    fn what_a_slow_endpoint_makes_the_gateway_drop_is_said() {
        let (mut story, held) = story();
        assert_eq!((story.works(0), story.finds_places(0)), (None, None));
        held.drop_one();
        assert_eq!(story.finds_places(1), Some((OutageLine::Begins { untold: 0 }, 1)));
        held.drop_one();
        assert_eq!(story.finds_places(2), None);
        let quiet_ms = 2 + LOG_OUTAGE_QUIET_MS;
        assert_eq!(story.finds_places(LOG_OUTAGE_PAUSE_MS), None, "one is not told yet");
        assert_eq!(story.finds_places(LOG_OUTAGE_PAUSE_MS + quiet_ms).map(|(_, dropped)| dropped), Some(1));
        let ended = story.finds_places(LOG_OUTAGE_PAUSE_MS + 2 * quiet_ms);
        assert!(matches!(ended, Some((OutageLine::Ended { .. }, 0))), "{ended:?}");
    }
}

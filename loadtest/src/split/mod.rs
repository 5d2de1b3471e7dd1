//! A run that several processes share, on one machine or on many: workers drive connections, a
//! control conducts, judges and reports.
//!
//! The map: `wire` (what they say) · `secret` (how they know each other) · `clocks` (how far their
//! clocks differ) · `packed` (histograms as text) · `control` (the workers as the control sees
//! them) · `worker` (the process that waits, and its part).
//!
//! Owns: [`Splits`], what a scenario needs to be shared, and [`perform`]. Nothing else of a
//! scenario knows of it: threads of all workers are numbered through as those of one process are,
//! so the same pairs, publishers and times fall to the same numbers; the control's board shows all
//! lanes, and its conductor moves the phases of all boards.
//! Never: compares what two clocks say without telling by how much they may differ.

pub(crate) mod clocks;
pub(crate) mod control;
pub(crate) mod packed;
pub(crate) mod secret;
pub(crate) mod wire;
pub(crate) mod worker;

use std::sync::Arc;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::board::Board;
use crate::conduct::{self, Conductor, deal};
use crate::engine::Actor;
use crate::net::Plan;
use crate::probe::Probe;
use crate::tally::span;
use wire::Whole;

/// An actor whose threads may sit in several processes. What it finds must add up, and what it
/// judges must need no more of other threads than [`Whole`] has.
pub(crate) trait Splits: Actor {
    /// What one thread, or all of them, have found.
    type Findings: Serialize + DeserializeOwned + Default + Send;

    /// Lowest and highest `seq` that members of this thread were acked, where the books of others
    /// need it.
    fn acked_seqs(&self) -> Option<(u64, u64)> {
        None
    }

    /// The run is over: the books are closed.
    fn close(self, whole: &Whole) -> Self::Findings;

    /// Adds another thread's findings.
    fn add(sum: &mut Self::Findings, one: &Self::Findings);

    /// How much later than meant messages left, if any were meant to leave at a time.
    fn lateness(_found: &Self::Findings) -> Option<&Histogram<u64>> {
        None
    }
}

/// How users are dealt to threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dealing {
    /// One to each in turn.
    Singles,
    /// The two of a pair to the same one, so that one clock times both ends of a conversation and
    /// one thread keeps its books.
    Pairs,
}

impl Dealing {
    /// Places of the users of one thread of `threads`.
    pub(crate) fn places(self, users: usize, threads: usize, thread: usize) -> Vec<u32> {
        match self {
            Self::Singles => deal(users, threads, thread).map(|i| i as u32).collect(),
            Self::Pairs => deal(users / 2, threads, thread).flat_map(|i| [2 * i as u32, 2 * i as u32 + 1]).collect(),
        }
    }
}

/// What workers have to be told of a run besides the command line.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) users: usize,
    pub(crate) dealing: Dealing,
    /// Every worker needs the ids of all users, not only of its own.
    pub(crate) all_ids: bool,
    /// The group, where the gateway was asked for it.
    pub(crate) group: Option<u64>,
    /// Rate and seconds, where the run is one of several.
    pub(crate) load: Option<(u64, u64)>,
    /// The file of `--mix`.
    pub(crate) mix: Option<String>,
}

impl Job {
    /// Of so many users, dealt in that way.
    pub(crate) const fn of(users: usize, dealing: Dealing) -> Self {
        Self { users, dealing, all_ids: false, group: None, load: None, mix: None }
    }
}

/// Runs a scenario here, or on the workers that the plan has, while `conduct` moves the phases.
/// `actors` are this process's own: a control has none.
///
/// # Errors
/// No result: connections cannot be opened, or no worker does its part.
pub(crate) fn perform<A: Splits, T>(
    plan: &Arc<Plan>,
    probe: Option<&Probe>,
    job: &Job,
    actors: Vec<(Vec<u32>, A)>,
    conduct: impl FnOnce(&Conductor<'_>) -> Result<T>,
) -> Result<(T, A::Findings)> {
    if let Some(fleet) = &plan.fleet {
        return fleet.perform::<A, T>(plan, probe, job, conduct);
    }
    let (outcome, actors) = conduct::perform(plan, probe, actors, conduct)?;
    let acked_seqs = acked_seqs(&actors);
    Ok((outcome, closed(actors, &whole(&plan.board, acked_seqs, plan.interrupt.is_set()))))
}

/// What all threads have to know.
pub(crate) fn whole(board: &Board, acked_seqs: Option<(u64, u64)>, cut_short: bool) -> Whole {
    Whole { acked: board.sum(|l| &l.acked), acked_seqs, cut_short }
}

/// The span of what all these threads were acked.
pub(crate) fn acked_seqs<A: Splits>(actors: &[A]) -> Option<(u64, u64)> {
    actors.iter().map(Splits::acked_seqs).fold(None, span)
}

/// What all these threads have found.
pub(crate) fn closed<A: Splits>(actors: Vec<A>, whole: &Whole) -> A::Findings {
    let mut sum = A::Findings::default();
    for actor in actors {
        A::add(&mut sum, &actor.close(whole));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_dealt_once_and_pairs_stay_together() {
        for dealing in [Dealing::Singles, Dealing::Pairs] {
            let mut all: Vec<u32> = (0..6).flat_map(|thread| dealing.places(40, 6, thread)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..40).collect::<Vec<u32>>());
        }
        let own = Dealing::Pairs.places(40, 6, 5);
        assert_eq!(own, [10, 11, 22, 23, 34, 35]);
    }
}

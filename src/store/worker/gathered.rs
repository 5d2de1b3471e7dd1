//! What has gathered in a queue while its worker was busy, and what becomes of it when one of it
//! breaks.
//!
//! Owns: the batch: asks and their tickets.
//! Never: waits for more to come; reorders what it is given.
//! Bounds: as many asks and bytes as the worker allows; [`ISOLATION_TRIES_MAX`] tries to find what
//! breaks a batch.

use crossbeam_channel::Receiver;

use super::{Ask, Job, Ticket};
use crate::limits::ISOLATION_TRIES_MAX;
use crate::store::Error;

pub(super) struct Gathered<T> {
    tickets: Vec<Ticket>,
    asks: Vec<T>,
    asks_max: usize,
    bytes_max: usize,
}

impl<T: Ask> Gathered<T> {
    pub(super) fn new(asks_max: usize, bytes_max: usize) -> Self {
        Self { tickets: Vec::new(), asks: Vec::new(), asks_max, bytes_max }
    }

    /// Takes `ask` and what waits behind it; gives back the job that ended the gathering.
    pub(super) fn take(&mut self, jobs: &Receiver<Job<T>>, ticket: Ticket, ask: T) -> Option<Job<T>> {
        let mut bytes = self.add(ticket, ask);
        while self.asks.len() < self.asks_max && bytes < self.bytes_max {
            match jobs.try_recv() {
                Ok(Job::Ask(ticket, ask)) => bytes = bytes.saturating_add(self.add(ticket, ask)),
                Ok(other) => return Some(other),
                Err(_) => return None,
            }
        }
        None
    }

    /// How many asks a batch takes at most.
    pub(super) const fn asks_max(&self) -> usize {
        self.asks_max
    }

    /// From now on a batch takes at most so many asks.
    pub(super) const fn limit(&mut self, asks_max: usize) {
        self.asks_max = asks_max;
    }

    /// Adds one; what it weighs.
    pub(super) fn add(&mut self, ticket: Ticket, ask: T) -> usize {
        let bytes = ask.bytes();
        self.tickets.push(ticket);
        self.asks.push(ask);
        bytes
    }

    /// Takes what `next` gives, as long as there is room.
    pub(super) fn fill(&mut self, mut next: impl FnMut() -> Option<(Ticket, T)>) {
        let mut bytes = 0usize;
        while self.asks.len() < self.asks_max && bytes < self.bytes_max {
            let Some((ticket, ask)) = next() else { return };
            bytes = bytes.saturating_add(self.add(ticket, ask));
        }
    }

    pub(super) fn asks(&self) -> &[T] {
        &self.asks
    }

    /// Gives each of `answers`, in the order of the asks, to `answer`; empty afterwards.
    pub(super) fn settle<A>(
        &mut self,
        answers: impl IntoIterator<Item = Result<A, Error>>,
        mut answer: impl FnMut(Ticket, Result<A, Error>),
    ) {
        self.asks.clear();
        self.tickets.drain(..).zip(answers).for_each(|(ticket, one)| answer(ticket, one));
    }
}

/// The answers to `asks`, which were given to the database together and are [`Error::Broken`] or
/// [`Error::Contended`] as a whole: smaller and smaller parts are tried in their order, until what
/// breaks, or what is held, stands alone. When
/// the database becomes unavailable, or there were too many tries, the rest is refused.
pub(super) fn isolate<T, A>(
    asks: &[T],
    broken: Error,
    mut attempt: impl FnMut(&[T]) -> Result<Vec<A>, Error>,
) -> Vec<Result<A, Error>> {
    let mut answers = Vec::with_capacity(asks.len());
    let refuse = |answers: &mut Vec<_>, part: &[T], why: &Error| {
        answers.extend(part.iter().map(|_| Err(why.clone())));
    };
    let (mut tries, mut end) = (0, None);
    // The next part is the last one; the first of all is known to break.
    let mut parts = Vec::new();
    split(asks, &mut parts);
    if parts.is_empty() {
        refuse(&mut answers, asks, &broken);
    }
    while let Some(part) = parts.pop() {
        if tries == ISOLATION_TRIES_MAX {
            end.get_or_insert_with(|| broken.clone());
        }
        if let Some(why) = &end {
            refuse(&mut answers, part, why);
            continue;
        }
        tries += 1;
        match attempt(part) {
            Ok(done) => answers.extend(done.into_iter().map(Ok)),
            Err(Error::Broken(_) | Error::Contended(_)) if part.len() > 1 => split(part, &mut parts),
            Err(why) => {
                refuse(&mut answers, part, &why);
                end = matches!(why, Error::Unavailable(_)).then_some(why);
            }
        }
    }
    answers
}

/// Puts both halves on top of `parts`, the first one uppermost; nothing, if there are no two.
fn split<'a, T>(part: &'a [T], parts: &mut Vec<&'a [T]>) {
    if part.len() > 1 {
        let (first, second) = part.split_at(part.len() / 2);
        parts.extend([second, first]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Error {
        Error::Broken("whole".into())
    }

    #[test]
    fn only_what_breaks_is_refused_and_the_order_stays() {
        let asks: Vec<u32> = (0..1000).collect();
        let (mut tries, mut done) = (0, Vec::new());
        let answers = isolate(&asks, broken(), |part| {
            tries += 1;
            if part.contains(&7) || part.contains(&700) {
                return Err(Error::Broken("part".into()));
            }
            done.extend_from_slice(part);
            Ok(part.to_vec())
        });
        for (ask, answer) in asks.iter().zip(&answers) {
            assert_eq!(answer.is_err(), [7, 700].contains(ask), "{ask}: {answer:?}");
        }
        assert_eq!(answers.len(), asks.len());
        assert!(done.is_sorted(), "in order");
        assert!(tries <= 40, "{tries} tries");
    }

    #[test]
    fn only_what_is_held_is_refused() {
        let asks: Vec<u32> = (0..100).collect();
        let answers = isolate(&asks, Error::Contended("whole".into()), |part| match part.contains(&70) {
            true => Err(Error::Contended("part".into())),
            false => Ok(part.to_vec()),
        });
        for (ask, answer) in asks.iter().zip(&answers) {
            assert_eq!(answer.is_err(), *ask == 70, "{ask}: {answer:?}");
        }
        assert_eq!(answers[70], Err(Error::Contended("part".into())));
    }

    #[test]
    fn where_everything_breaks_it_ends() {
        for asks in [1, 2, 3, 1000] {
            let mut tries = 0;
            let answers: Vec<Result<(), Error>> = isolate(&vec![(); asks], broken(), |_| {
                tries += 1;
                Err(Error::Broken("part".into()))
            });
            assert_eq!(answers.len(), asks);
            assert!(answers.iter().all(Result::is_err));
            assert!(tries <= ISOLATION_TRIES_MAX);
        }
    }

    #[test]
    fn an_outage_in_between_refuses_the_rest_and_an_unknown_outcome_only_its_part() {
        let asks: Vec<u32> = (0..8).collect();
        let answers = isolate(&asks, broken(), |part| match part {
            [_, _, _, _] => Err(Error::Broken("part".into())),
            [0, 1] => Err(Error::Unknown("part".into())),
            [2, 3] => Ok(part.to_vec()),
            _ => Err(Error::Unavailable("gone".into())),
        });
        assert!(answers[..2].iter().all(|a| matches!(a, Err(Error::Unknown(_)))), "{answers:?}");
        assert_eq!(answers[2..4], [Ok(2), Ok(3)]);
        assert!(answers[4..].iter().all(|a| matches!(a, Err(Error::Unavailable(_)))), "{answers:?}");
    }
}

//! The start of a gateway on a thread of its own, and a stop that comes meanwhile.
//!
//! Owns: which of the two was first.
//! Never: leaves a gateway that serves without its orderly stop.
//! Bounds: a database may hold the start for ever, and a stop does not wait for it. What is left
//! once a start has got its turn is the first turn of the shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context;
use crossbeam_channel::{Receiver, bounded};

use super::endings::Endings;
use super::signals::Wish;

/// Where a start and a stop meet: one of them goes on.
#[derive(Clone, Default)]
pub(super) struct Crossing(Arc<AtomicBool>);

impl Crossing {
    /// Whether it is the first of the two that asks.
    fn is_first(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// The start goes on, unless a stop was first: from now on an end without a stop counts, that
    /// of `shards` in their first turn as well. If they do not start, nothing has to be stopped.
    ///
    /// # Errors
    /// As `shards`, and that a stop was first.
    pub(super) fn serve<T>(&self, endings: &Endings, shards: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        anyhow::ensure!(self.is_first(), "stopped during the start");
        endings.begin();
        shards().inspect_err(|_| endings.stopped())
    }
}

/// What has started, and the wish that was heard meanwhile. `None`: a stop was faster, and `start`
/// does not get further than its crossing.
///
/// # Errors
/// It cannot start; why is in the chain.
pub(super) fn start_unless_stopped<T: Send + 'static>(
    wishes: &Receiver<Wish>,
    start: impl FnOnce(&Crossing) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<Option<(T, Option<Wish>)>> {
    let (tell, started) = bounded(1);
    let crossing = Crossing::default();
    let its_crossing = crossing.clone();
    let start = move || {
        let _ = tell.send(start(&its_crossing));
    };
    thread::Builder::new().name("start".to_owned()).spawn(start).context("cannot start a thread")?;
    let mut heard = None;
    let node = loop {
        crossbeam_channel::select! {
            recv(started) -> node => break node,
            recv(wishes) -> wish => match wish {
                Ok(Wish::Reload) => heard = Some(Wish::Reload),
                Ok(Wish::Stop) | Err(_) if crossing.is_first() => return Ok(None),
                Ok(Wish::Stop) | Err(_) => {
                    // There may be connections already.
                    heard = Some(Wish::Stop);
                    break started.recv();
                }
            },
        }
    };
    // No word at all: it panicked, and why has been printed.
    node.context("the start has failed")?.map(|node| Some((node, heard)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    #[test]
    fn a_stop_that_is_first_ends_the_start_at_its_crossing() {
        // Without room: what was sent was heard.
        let (ask, wishes) = bounded(0);
        let (go_on, held) = bounded::<()>(0);
        let (tell, told) = bounded(1);
        let outcome = thread::scope(|scope| {
            scope.spawn(|| ask.send(Wish::Stop));
            start_unless_stopped(&wishes, move |crossing| {
                let _ = held.recv();
                tell.send(crossing.is_first()).expect("the test listens");
                Ok(())
            })
        });
        assert_eq!(outcome.expect("nothing has failed"), None);
        drop(go_on);
        assert_eq!(told.recv(), Ok(false), "it does not begin");
    }

    #[test]
    fn what_is_heard_behind_the_crossing_is_for_the_gateway() {
        for wish in [Wish::Stop, Wish::Reload] {
            let (ask, wishes) = bounded(0);
            let asks = ask.clone();
            let outcome = start_unless_stopped(&wishes, move |crossing| {
                assert!(crossing.is_first());
                asks.send(wish).expect("somebody listens");
                Ok("a gateway")
            });
            assert_eq!(outcome.expect("nothing has failed"), Some(("a gateway", Some(wish))));
        }
    }

    #[test]
    fn an_end_in_the_first_turn_counts_and_a_start_that_fails_or_is_stopped_does_not() {
        let data = tempfile::tempdir().expect("a directory");
        let endings = || Endings::of(data.path(), NodeId(0));
        let failed = Crossing::default().serve::<()>(&endings(), || anyhow::bail!("no thread"));
        assert_eq!(failed.expect_err("it fails").to_string(), "no thread");
        assert_eq!(endings().unclean(), 0, "it has ended in order");
        let stopped = Crossing::default();
        assert!(stopped.is_first());
        stopped.serve(&endings(), || Ok(())).expect_err("a stop was first");
        assert_eq!(endings().unclean(), 0, "it has not begun");
        let unclean = Crossing::default().serve(&endings(), || Ok(endings().unclean()));
        assert_eq!(unclean.expect("they start"), 1, "were it killed now");
    }

    #[test]
    fn a_start_that_fails_says_why() {
        let (_ask, wishes) = bounded(0);
        let failed = start_unless_stopped::<()>(&wishes, |_| anyhow::bail!("no disk"));
        assert_eq!(failed.expect_err("it fails").to_string(), "no disk");
    }
}

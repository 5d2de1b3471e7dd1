//! When a writing worker takes a step of retention, or forgets old changes about users.
//!
//! Owns: the policy, the time of the next step, what is known of the pass.
//! Never: takes two steps without giving waiting writes a commit between them.
//! Bounds: [`TRIM_STEPS_MAX`] rows in a step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Counters;
use crate::clock::Now;
use crate::limits::{CHANGES_PAUSE_MS, TRIM_PASS_MS, TRIM_PAUSE_MS, TRIM_STEPS_MAX};
use crate::store::{Backend, Keep, RetentionView, Trimmed};

/// What others tell the worker that has retention, and what it tells them.
#[derive(Default)]
pub(super) struct Keeping {
    view: Mutex<RetentionView>,
    /// A pass over everything is to begin.
    wanted: AtomicBool,
}

impl Keeping {
    /// So much is kept from now on.
    pub(super) fn keep(&self, keep: Keep) {
        let mut view = self.view.lock();
        if view.keep != keep {
            view.keep = keep;
            self.wanted.store(true, Ordering::Release);
        }
    }

    /// Has a pass begun; `false`: everything is kept.
    pub(super) fn begin(&self) -> bool {
        let view = self.view.lock();
        let is_due = !view.keep.is_everything();
        self.wanted.fetch_or(is_due, Ordering::Release);
        is_due
    }

    pub(super) fn view(&self) -> RetentionView {
        *self.view.lock()
    }
}

/// Retention of one database; one of its writing workers has it.
pub(super) struct Trimming {
    keeping: Arc<Keeping>,
    keep: Keep,
    /// When a step of retention is due, in monotonic milliseconds; never, where everything is kept.
    due_ms: u64,
    /// When old changes go.
    changes_due_ms: u64,
    /// What a pass has left out that was under way when the next one was asked for.
    again: bool,
}

impl Trimming {
    /// The first pass begins at once.
    pub(super) fn new(keeping: Arc<Keeping>) -> Self {
        keeping.wanted.store(true, Ordering::Release);
        Self { keeping, keep: Keep::default(), due_ms: u64::MAX, changes_due_ms: 0, again: false }
    }

    pub(super) fn due_ms(&self) -> u64 {
        self.due_ms.min(self.changes_due_ms)
    }

    /// One step, if it is time for one.
    pub(super) fn step(&mut self, backend: &mut dyn Backend, now: Now, counters: &Counters) {
        if self.keeping.wanted.swap(false, Ordering::Acquire) {
            self.heed(now);
        }
        if now.mono_ms >= self.changes_due_ms {
            self.changes_due_ms = now.mono_ms + forget_changes(backend, counters);
            return;
        }
        if now.mono_ms < self.due_ms {
            return;
        }
        let stepped = backend.trim(&self.keep.at(now.wall_ms), TRIM_STEPS_MAX);
        let pause_ms = match &stepped {
            Ok(trimmed) => {
                counters.trimmed(*trimmed);
                let removed = trimmed.messages + trimmed.keys;
                match trimmed.done {
                    true if std::mem::take(&mut self.again) => 0,
                    true => TRIM_PASS_MS,
                    // There is much to remove: as fast as it comes in, at least.
                    false if removed >= u64::from(TRIM_STEPS_MAX) / 2 => 0,
                    false => TRIM_PAUSE_MS,
                }
            }
            Err(why) => {
                counters.upkeep_failed();
                // Not more often than a pass begins.
                tracing::warn!(%why, "a step of retention fails");
                TRIM_PASS_MS
            }
        };
        self.note(stepped.ok(), now.wall_ms);
        self.due_ms = now.mono_ms + pause_ms;
    }

    /// Takes up the policy, and begins a pass at once.
    fn heed(&mut self, Now { mono_ms, wall_ms, .. }: Now) {
        let mut view = self.keeping.view.lock();
        self.keep = view.keep;
        // The backend goes on where a pass was cut short: what that has passed over comes after it.
        self.again |= view.running;
        if self.keep.is_everything() {
            self.due_ms = u64::MAX;
            view.ended_ms = view.ended_ms.or_else(|| view.running.then_some(wall_ms));
            (view.running, view.elsewhere) = (false, false);
        } else {
            self.due_ms = mono_ms;
        }
    }

    /// Says what became of a step; `None`: it failed.
    fn note(&self, stepped: Option<Trimmed>, wall_ms: u64) {
        let mut view = self.keeping.view.lock();
        view.elsewhere = stepped.is_some_and(|trimmed| trimmed.elsewhere);
        if view.elsewhere {
            view.running = false;
            return;
        }
        if !view.running {
            *view = RetentionView { keep: view.keep, began_ms: Some(wall_ms), ..RetentionView::default() };
        }
        let trimmed = stepped.unwrap_or_default();
        view.messages += trimmed.messages;
        view.keys += trimmed.keys;
        view.failed = stepped.is_none();
        view.running = !(trimmed.done || view.failed);
        view.ended_ms = (!view.running).then_some(wall_ms);
    }
}

/// Forgets old changes; how long nothing needs to be done again.
fn forget_changes(backend: &mut dyn Backend, counters: &Counters) -> u64 {
    match backend.forget_changes(TRIM_STEPS_MAX) {
        Ok(gone) if gone >= u64::from(TRIM_STEPS_MAX) / 2 => TRIM_PAUSE_MS,
        Ok(_) => CHANGES_PAUSE_MS,
        Err(why) => {
            counters.upkeep_failed();
            tracing::warn!(%why, "old changes about users cannot be removed");
            CHANGES_PAUSE_MS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConvId;
    use crate::store::memory::Memory;
    use crate::store::{NewMessage, NewUser, PostKey, Write};

    const HOUR_MS: u64 = 60 * 60 * 1000;

    /// Retention of a database with `n` messages in one conversation.
    struct Desk {
        backend: Box<dyn Backend>,
        keeping: Arc<Keeping>,
        trimming: Trimming,
        counters: Counters,
        mono_ms: u64,
    }

    impl Desk {
        fn new(keep: Keep, n: u64) -> Self {
            let mut backend: Box<dyn Backend> = Box::new(Memory::new().connect());
            let mut user = |mobile: &str| {
                let new = NewUser { mobile: mobile.to_owned(), nickname: mobile.to_owned(), ..NewUser::default() };
                backend.people().create_user(&new).expect("memory").expect("a free number").id
            };
            let [one, two] = ["1", "2"].map(&mut user);
            let message = |at: u64| NewMessage {
                conv: ConvId::direct(one, two),
                sender: one,
                key: PostKey::Client(at.to_string().into()),
                ts_ms: HOUR_MS,
                body: "x".into(),
            };
            let writes: Vec<Write> = (0..n).map(|at| Write::Append(message(at))).collect();
            backend.commit(&writes).expect("stored");
            let keeping = Arc::<Keeping>::default();
            keeping.keep(keep);
            let trimming = Trimming::new(Arc::clone(&keeping));
            let mut desk = Self { backend, keeping, trimming, counters: Counters::default(), mono_ms: 5 };
            // The first look is for old changes about users.
            desk.step();
            desk
        }

        /// What is known after a step.
        fn step(&mut self) -> RetentionView {
            let now = Now { mono_ms: self.mono_ms, wall_ms: HOUR_MS + self.mono_ms, sub_us: 0 };
            self.trimming.step(&mut *self.backend, now, &self.counters);
            self.keeping.view()
        }
    }

    #[test]
    fn what_is_too_much_goes_at_once_when_the_policy_changes() {
        let mut desk = Desk::new(Keep::default(), 10);
        assert_eq!(desk.step(), RetentionView::default(), "everything is kept");
        assert!(!desk.keeping.begin() && desk.trimming.due_ms() > desk.mono_ms);
        desk.keeping.keep(Keep { age_ms: 0, count: 4 });
        let view = desk.step();
        assert_eq!((view.messages, view.running, view.failed), (6, false, false), "{view:?}");
        assert_eq!((view.began_ms, view.ended_ms), (Some(HOUR_MS + 5), Some(HOUR_MS + 5)));
        desk.keeping.keep(Keep::default());
        let kept = desk.step();
        assert_eq!((kept.keep, kept.messages), (Keep::default(), 6), "what has gone is still told");
    }

    #[test]
    fn a_pass_that_a_policy_cuts_short_has_ended_and_is_made_good_later() {
        let much = u64::from(TRIM_STEPS_MAX) + 10;
        let four = Keep { age_ms: 0, count: 4 };
        let mut desk = Desk::new(four, much);
        assert!(desk.step().running);
        desk.keeping.keep(Keep::default());
        let cut = desk.step();
        assert_eq!((cut.running, cut.ended_ms), (false, Some(HOUR_MS + 5)), "nothing is removed any more");
        desk.keeping.keep(four);
        assert_eq!(desk.step().messages + cut.messages, much - 4, "the rest of it");
        desk.mono_ms += 1;
        assert_eq!(desk.step().began_ms, Some(HOUR_MS + 6), "and once more from the beginning, without a pause");
    }

    #[test]
    fn a_pass_is_begun_at_once_when_asked_for() {
        let mut desk = Desk::new(Keep { age_ms: 0, count: 4 }, 10);
        assert_eq!(desk.step().messages, 6);
        desk.mono_ms += 1;
        let first = desk.step();
        assert_eq!(first.ended_ms, Some(HOUR_MS + 5), "the next one is due in a minute");
        assert!(desk.keeping.begin());
        let second = desk.step();
        assert_eq!((second.began_ms, second.messages), (Some(HOUR_MS + 6), 0));
    }

    #[test]
    fn a_pass_that_is_under_way_is_followed_by_the_one_that_was_asked_for() {
        let much = u64::from(TRIM_STEPS_MAX) + 10;
        let mut desk = Desk::new(Keep { age_ms: 0, count: 4 }, much);
        assert!(desk.step().running);
        assert!(desk.keeping.begin());
        let ended = desk.step();
        assert_eq!((ended.running, ended.messages), (false, much - 4));
        let next = desk.step();
        assert_eq!((next.running, next.messages), (false, 0), "another one, without a pause");
        desk.mono_ms += 1;
        assert_eq!(desk.step(), next, "and no third one");
    }
}

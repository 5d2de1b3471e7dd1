//! Threads that sleep until there is something for them.
//!
//! Owns: which of them sleep, and whether one was woken that has not looked yet.
//! Never: spins, or lets the core go, before it sleeps, as a channel does: where threads share a
//! core with a shard, a session that opens cost a third more of them. Never wakes two for what one
//! will find: what a shard asks in one turn is one batch.
//! Bounds: as many entries as threads.
//!
//! Whoever brings something puts it where the threads look, and then calls [`Sleepers::wake_one`];
//! whoever sleeps has said so before its last look. With a fence between the two on either side,
//! one of them sees what the other has done (Dekker's protocol).

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::thread::{self, Thread};

use parking_lot::Mutex;

/// Threads of one kind, each of which does what any of them can do.
#[derive(Default)]
pub(super) struct Sleepers {
    dormitory: Mutex<Dormitory>,
    /// As many as sleep.
    count: AtomicUsize,
}

#[derive(Default)]
struct Dormitory {
    /// The one that has worked last is woken first: what it needs may still be in the caches.
    asleep: Vec<Thread>,
    /// One was woken and has not looked yet.
    woken: bool,
}

impl Sleepers {
    /// Something is there now. One that sleeps looks for it; none does if one that was woken is
    /// about to look, or if all are awake, which look before they sleep.
    pub(super) fn wake_one(&self) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut dormitory = self.dormitory.lock();
        if dormitory.woken {
            return;
        }
        let Some(thread) = dormitory.asleep.pop() else { return };
        dormitory.woken = true;
        self.count.store(dormitory.asleep.len(), Ordering::Relaxed);
        drop(dormitory);
        thread.unpark();
    }

    /// All of them look, because it is over.
    pub(super) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        let asleep = {
            let mut dormitory = self.dormitory.lock();
            self.count.store(0, Ordering::Relaxed);
            std::mem::take(&mut dormitory.asleep)
        };
        asleep.iter().for_each(Thread::unpark);
    }

    /// Said by a thread that is about to look: what is brought after this wakes one again.
    pub(super) fn look(&self) {
        self.dormitory.lock().woken = false;
    }

    /// Sleeps until this thread is woken; not at all if there `is_something`, looked at once more.
    pub(super) fn sleep(&self, is_something: impl FnOnce() -> bool) {
        let me = thread::current();
        self.change(|asleep| asleep.push(me.clone()));
        fence(Ordering::SeqCst);
        if is_something() {
            self.change(|asleep| asleep.retain(|thread| thread.id() != me.id()));
            return;
        }
        // What is left of an earlier call wakes it for nothing.
        while self.dormitory.lock().asleep.iter().any(|thread| thread.id() == me.id()) {
            thread::park();
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Thread>)) {
        let mut dormitory = self.dormitory.lock();
        change(&mut dormitory.asleep);
        self.count.store(dormitory.asleep.len(), Ordering::Relaxed);
    }

    /// How many sleep.
    #[cfg(test)]
    pub(super) fn asleep(&self) -> usize {
        self.dormitory.lock().asleep.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Tokens that some threads bring and others take, in a place that is looked at without a lock.
    #[derive(Default)]
    struct Place {
        sleepers: Sleepers,
        there: AtomicUsize,
        taken: AtomicUsize,
        over: AtomicBool,
    }

    impl Place {
        fn bring(&self) {
            self.there.fetch_add(1, Ordering::Relaxed);
            self.sleepers.wake_one();
        }

        fn take(&self) {
            loop {
                self.sleepers.look();
                let n = self.there.swap(0, Ordering::Relaxed);
                self.taken.fetch_add(n, Ordering::Relaxed);
                if n > 0 {
                    continue;
                }
                if self.over.load(Ordering::Relaxed) {
                    return;
                }
                let is_something = || self.there.load(Ordering::Relaxed) > 0 || self.over.load(Ordering::Relaxed);
                self.sleepers.sleep(is_something);
            }
        }
    }

    /// Each token is brought when the one before was taken, so that the takers go to sleep all the
    /// time; one that is forgotten is never taken, and the test does not end.
    #[test]
    fn nothing_is_forgotten_by_threads_that_go_to_sleep() {
        const TOKENS: usize = 20_000;
        for takers in [1, 2, 3] {
            let place = Arc::<Place>::default();
            let takers: Vec<_> = (0..takers)
                .map(|_| {
                    let place = Arc::clone(&place);
                    thread::spawn(move || place.take())
                })
                .collect();
            for n in 1..=TOKENS {
                place.bring();
                while n % 3 == 0 && place.taken.load(Ordering::Relaxed) < n {
                    thread::yield_now();
                }
            }
            place.over.store(true, Ordering::Relaxed);
            place.sleepers.wake_all();
            takers.into_iter().for_each(|taker| taker.join().expect("no panic"));
            assert_eq!((place.taken.load(Ordering::Relaxed), place.sleepers.asleep()), (TOKENS, 0));
        }
    }

    #[test]
    fn one_is_woken_for_a_batch_and_the_next_one_when_that_has_been_looked_at() {
        let place = Arc::<Place>::default();
        let sleeper = || {
            let place = Arc::clone(&place);
            thread::spawn(move || place.sleepers.sleep(|| false))
        };
        let sleepers = [sleeper(), sleeper()];
        let until = |asleep| {
            while place.sleepers.asleep() != asleep {
                thread::yield_now();
            }
        };
        until(2);
        (0..5).for_each(|_| place.sleepers.wake_one());
        assert_eq!(place.sleepers.asleep(), 1, "it has not looked yet");
        place.sleepers.look();
        place.sleepers.wake_one();
        assert_eq!(place.sleepers.asleep(), 0);
        sleepers.into_iter().for_each(|sleeper| sleeper.join().expect("no panic"));
        let again = sleeper();
        until(1);
        place.sleepers.wake_all();
        again.join().expect("no panic");
    }
}

//! Which threads give way to which when there are fewer cores than work.
//!
//! Owns: the one table of priorities. A shard and the thread that commits messages are what
//! everybody waits for, so all other threads take what these leave, and a fair part of it even
//! then: a login or a page of history comes later, not never. Never: raises a priority, which needs
//! rights that a gateway has no other use for.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::limits::STEP_ASIDE_POLLS;

/// What a thread is for; those that come later in this list give way to those before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Priority {
    /// Reads for sessions: history, lists, what a session has missed.
    Reads,
    /// The control plane: heads, bodies and answers of plain HTTP.
    Http,
    /// Hashes passwords.
    Passwords,
    /// Cleans up, when there is time.
    Upkeep,
    /// Decodes and draws pictures.
    Pictures,
}

impl Priority {
    /// How far below a shard (Linux, nice(2)): with each step a thread gets about a fifth less of a
    /// core that both want.
    const fn nice(self) -> i32 {
        match self {
            Self::Reads => 7,
            Self::Http => 7,
            Self::Passwords => 7,
            Self::Upkeep => 10,
            Self::Pictures => 12,
        }
    }

    /// The calling thread is for this from now on. A kernel that does not allow it leaves the
    /// thread as it is.
    pub fn give_way(self) {
        // Of this thread alone, on Linux. More niceness is always allowed.
        let _ = rustix::process::nice(self.nice());
    }
}

/// Lets the threads that wait for this core have it first; at once back when there are none. A
/// kernel that is not asked lets a thread run on for a whole tick (4 ms) while one that matters
/// more waits: of a shard that shares its core with a few busy threads that is a third of the time.
/// Whatever computes for longer asks every tenth of a millisecond or so.
pub fn step_aside() {
    std::thread::yield_now();
}

/// How threads of one level, of which some compute for long and do not step aside, share a core
/// with shards and with each other.
#[derive(Default)]
pub struct Courtesy {
    absorbed: AtomicUsize,
    polls: AtomicU32,
}

/// A thread that does not step aside for milliseconds.
pub struct Absorbed<'a>(&'a Courtesy);

impl Courtesy {
    /// The calling thread does not step aside, as long as the answer lives.
    pub fn absorb(&self) -> Absorbed<'_> {
        self.absorbed.fetch_add(1, Ordering::Relaxed);
        Absorbed(self)
    }

    /// How many such threads there are.
    #[must_use]
    pub fn absorbed(&self) -> usize {
        self.absorbed.load(Ordering::Relaxed)
    }

    /// As [`step_aside`]; while a thread is absorbed, for one of [`STEP_ASIDE_POLLS`] calls: it is
    /// that thread that has the core then, for a whole tick each time.
    pub fn step_aside(&self) {
        if self.is_due() {
            step_aside();
        }
    }

    fn is_due(&self) -> bool {
        self.absorbed() == 0 || self.polls.fetch_add(1, Ordering::Relaxed).is_multiple_of(STEP_ASIDE_POLLS)
    }
}

impl Drop for Absorbed<'_> {
    fn drop(&mut self) {
        self.0.absorbed.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_can_wait_longer_gives_way() {
        let all = [Priority::Reads, Priority::Http, Priority::Passwords, Priority::Upkeep, Priority::Pictures];
        assert!(all.is_sorted_by_key(|priority| priority.nice()) && all[0].nice() > 0);
    }

    #[test]
    fn while_a_thread_is_absorbed_few_polls_step_aside() {
        let courtesy = Courtesy::default();
        let due = |courtesy: &Courtesy| (0..3 * STEP_ASIDE_POLLS).filter(|_| courtesy.is_due()).count();
        assert_eq!(due(&courtesy), 3 * STEP_ASIDE_POLLS as usize);
        let absorbed = [courtesy.absorb(), courtesy.absorb()];
        assert_eq!((courtesy.absorbed(), due(&courtesy)), (2, 3));
        drop(absorbed);
        assert_eq!((courtesy.absorbed(), due(&courtesy)), (0, 3 * STEP_ASIDE_POLLS as usize));
    }

    #[test]
    fn a_thread_gives_way_alone() {
        let nice = || rustix::process::nice(0).expect("the niceness of this thread");
        let before = nice();
        std::thread::spawn(move || {
            Priority::Reads.give_way();
            assert_eq!(nice(), (before + 7).min(19));
        })
        .join()
        .expect("the thread ended well");
        assert_eq!(nice(), before);
    }
}

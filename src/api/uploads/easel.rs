//! The one thread on which pictures are made anew.
//!
//! One, because the allocator keeps memory for each thread that has used much of it: what one picture leaves behind, the
//! next one takes.
//! Owns: the turn of those who wait for it.
//! Never: ends because of a picture. A decoder that panics has met a broken one.
//! Bounds: one picture at once; [`limits::IMAGE_WAIT_MS_MAX`] of patience.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rayon_core::ThreadPoolBuilder;
use tokio::sync::{Semaphore, oneshot};

use super::NotKept;
use super::picture::BadPicture;
use crate::limits;

type Job = Box<dyn FnOnce() + Send>;

/// See the module. The thread ends when this is dropped.
pub(super) struct Easel {
    turn: Semaphore,
    jobs: SyncSender<Job>,
}

impl Easel {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is none to be had.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(1);
        let work = move || {
            // Whoever asks for threads while it paints gets this one. Of those that it starts otherwise, the decoder of
            // large JPEGs waits in queues without a bound, and each keeps memory.
            let Ok(_alone) = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build() else { return };
            waiting.into_iter().for_each(|job| job());
        };
        thread::Builder::new().name("imgate-easel".to_owned()).spawn(work)?;
        Ok(Self { turn: Semaphore::new(1), jobs })
    }

    /// Runs `work` when it is its turn.
    ///
    /// # Errors
    /// [`NotKept::Busy`]: the turn did not come in time. Otherwise that of `work`.
    pub(super) async fn paint<T, F>(&self, work: F) -> Result<T, NotKept>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, BadPicture> + Send + 'static,
    {
        let wait = Duration::from_millis(limits::IMAGE_WAIT_MS_MAX);
        let Ok(Ok(turn)) = tokio::time::timeout(wait, self.turn.acquire()).await else { return Err(NotKept::Busy) };
        let (tell, told) = oneshot::channel();
        let job = Box::new(move || {
            // Nothing of the work is looked at after a panic.
            let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(BadPicture::Broken));
            // Nobody waits any more when this fails.
            drop(tell.send(done));
        });
        // There is room: a job whose sender went away may still be at work, and one waits at most.
        self.jobs.try_send(job).map_err(|_| NotKept::Busy)?;
        let done = told.await.map_err(|_| NotKept::Busy)?;
        drop(turn);
        Ok(done?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_works_and_a_panic_is_a_broken_picture() {
        let easel = Easel::start().expect("a thread");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let here = thread::current().id();
            let there = easel.paint(|| Ok(thread::current().id())).await.expect("a turn");
            assert_ne!(there, here);
            let broken = easel.paint(|| -> Result<(), BadPicture> { panic!("a decoder's mistake") }).await;
            assert!(matches!(broken, Err(NotKept::BrokenPicture)));
            assert!(matches!(easel.paint(|| Ok(thread::current().id())).await, Ok(again) if again == there));
        });
    }
}

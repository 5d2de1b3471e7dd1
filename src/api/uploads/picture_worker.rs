//! The one thread on which pictures are made anew.
//!
//! One, because the allocator keeps memory for each thread that has used much of it: what one
//! picture leaves behind, the next one takes. It has a low priority, so that it takes little time
//! from the shards.
//! Owns: the line before it, in which users have their turns, and how many pixels each may ask for.
//! Never: ends because of a picture. A decoder that panics has met a broken one.
//! Bounds: one picture at once; [`limits::IMAGES_WAITING_MAX`] that wait,
//! [`limits::IMAGE_WAIT_MS_MAX`] each; [`limits::IMAGE_MEGAPIXELS_MAX`] of one user at once.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pictures::PictureError;
use rayon_core::ThreadPoolBuilder;
use tokio::sync::oneshot;

use super::NotKept;
use super::counters::FileCounters;
use crate::clock::Clock;
use crate::fair::{BoundedTurns, Rate, Rates};
use crate::ids::UserId;
use crate::limits;
use crate::threads::Priority;

type Job = Box<dyn FnOnce() + Send>;

/// Whose picture it is: `None` is everybody who is no user yet.
type Who = Option<UserId>;

/// See the module. The thread ends when this is dropped.
pub(super) struct PictureWorker {
    line: Arc<Mutex<Line>>,
    jobs: SyncSender<Job>,
    clock: Clock,
    pixels: Mutex<Rates<Who>>,
    counters: Arc<FileCounters>,
}

struct Line {
    busy: bool,
    waiting: BoundedTurns<Who, oneshot::Sender<Turn>>,
}

/// The right to work now, which goes to the next in line when it is dropped.
struct Turn(Option<Arc<Mutex<Line>>>);

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(line) = self.0.take() else { return };
        loop {
            let next = {
                let mut line = line.lock();
                let next = line.waiting.pop();
                line.busy = next.is_some();
                next
            };
            let Some((_, next)) = next else { return };
            match next.send(Self(Some(Arc::clone(&line)))) {
                Ok(()) => return,
                // It has gone: the turn is the next one's.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

impl PictureWorker {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is none to be had.
    pub(super) fn start(counters: Arc<FileCounters>) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(1);
        let work = move || {
            Priority::Pictures.give_way();
            // Whoever asks for threads while it paints gets this one. Of those that it starts
            // otherwise, the decoder of large JPEGs waits in queues without a bound, and each keeps
            // memory.
            let Ok(_alone) = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build() else { return };
            waiting.into_iter().for_each(|job| job());
        };
        thread::Builder::new().name("imgate-picture_worker".to_owned()).spawn(work)?;
        let line = Line { busy: false, waiting: BoundedTurns::new(limits::IMAGES_WAITING_MAX) };
        let (line, pixels) = (Arc::new(Mutex::new(line)), Mutex::new(Rates::new(limits::ATTEMPT_KEYS_MAX)));
        Ok(Self { line, jobs, clock: Clock::start(), pixels, counters })
    }

    /// Runs `work` on a picture of `who` that has so many pixels, when it is the turn of it.
    ///
    /// # Errors
    /// [`NotKept::TooOften`]: more pixels than one user may ask for. [`NotKept::Busy`]:
    /// the turn did not come in time. Otherwise that of `work`.
    pub(super) async fn paint<T, F>(&self, who: Who, pixels: u64, work: F) -> Result<T, NotKept>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, PictureError> + Send + 'static,
    {
        let megapixels = (pixels >> 20).clamp(1, limits::IMAGE_MEGAPIXELS_MAX);
        let rate = Rate { most: limits::IMAGE_MEGAPIXELS_MAX, pause_ms: limits::IMAGE_MEGAPIXEL_MS };
        if !self.pixels.lock().take_many(who, megapixels, rate, self.clock.now().mono_ms) {
            return Err(NotKept::TooOften);
        }
        let turn = self.turn(who)?;
        let wait = Duration::from_millis(limits::IMAGE_WAIT_MS_MAX);
        let turn = tokio::time::timeout(wait, turn).await;
        self.counters.waiting(self.line.lock().waiting.len());
        let Ok(Ok(turn)) = turn else { return Err(NotKept::Busy) };
        let (tell, told) = oneshot::channel();
        let (clock, counters) = (self.clock, Arc::clone(&self.counters));
        let job = Box::new(move || {
            let begun = clock.nanos();
            // Nothing of the work is looked at after a panic.
            let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(PictureError::Broken));
            counters.painted(clock.nanos().saturating_sub(begun));
            drop(turn);
            // This fails when the receiver has gone.
            drop(tell.send(done));
        });
        // There is room: whoever has the turn is alone, and keeps it until its job has ended.
        self.jobs.try_send(job).map_err(|_| NotKept::Busy)?;
        Ok(told.await.map_err(|_| NotKept::Busy)??)
    }

    /// Where the turn comes: at once if nobody works. Of whoever gave way for it, the turn never
    /// comes.
    fn turn(&self, who: Who) -> Result<oneshot::Receiver<Turn>, NotKept> {
        let (give, given) = oneshot::channel();
        let mut line = self.line.lock();
        if line.busy {
            let displaced = line.waiting.push(who, give).map_err(|_| NotKept::Busy)?;
            self.counters.waiting(line.waiting.len());
            drop(line);
            drop(displaced);
            return Ok(given);
        }
        line.busy = true;
        drop(line);
        // The other end is held here.
        let _ = give.send(Turn(Some(Arc::clone(&self.line))));
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u64 = 100;

    fn picture_worker() -> (Arc<PictureWorker>, tokio::runtime::Runtime) {
        let picture_worker = PictureWorker::start(Arc::default()).expect("a thread");
        (
            Arc::new(picture_worker),
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"),
        )
    }

    /// Polls once: it waits for its turn then.
    fn stands_in_line<F: Future>(painting: std::pin::Pin<&mut F>) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(painting.poll(&mut cx).is_pending());
    }

    #[test]
    fn one_works_and_a_panic_is_a_broken_picture() {
        let (picture_worker, runtime) = picture_worker();
        runtime.block_on(async {
            let here = thread::current().id();
            let there = picture_worker.paint(None, SMALL, || Ok(thread::current().id())).await.expect("a turn");
            assert_ne!(there, here);
            let broken = picture_worker.paint(None, SMALL, || -> Result<(), PictureError> { panic!("a decoder's mistake") }).await;
            assert!(matches!(broken, Err(NotKept::BrokenPicture)));
            assert!(
                matches!(picture_worker.paint(None, SMALL, || Ok(thread::current().id())).await, Ok(again) if again == there)
            );
        });
    }

    #[test]
    fn users_have_their_turns_and_who_goes_away_holds_nobody_up() {
        let (picture_worker, runtime) = picture_worker();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (go, gate) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            let paint = |id: u64, work: Box<dyn FnOnce() + Send>| {
                let (picture_worker, order) = (Arc::clone(&picture_worker), Arc::clone(&order));
                async move {
                    let work = move || {
                        work();
                        order.lock().push(id);
                        Ok(())
                    };
                    picture_worker.paint(UserId::new(id), SMALL, work).await
                }
            };
            let waits = Box::new(move || gate.recv().expect("a word"));
            let (first, goes_away) = (paint(1, waits), paint(3, Box::new(|| ())));
            let rest = [1, 1, 1, 2].map(|id| paint(id, Box::new(|| ())));
            let (mut first, mut goes_away, mut rest) = (Box::pin(first), Box::pin(goes_away), rest.map(Box::pin));
            stands_in_line(first.as_mut());
            stands_in_line(goes_away.as_mut());
            rest.iter_mut().for_each(|one| stands_in_line(one.as_mut()));
            drop(goes_away);
            go.send(()).expect("it waits");
            let [a, b, c, d] = rest;
            let done = tokio::join!(first, a, b, c, d);
            assert!(done.0.is_ok() && done.1.is_ok() && done.2.is_ok() && done.3.is_ok() && done.4.is_ok());
        });
        assert_eq!(*order.lock(), [1, 2, 1, 1, 1], "whoever asks now and then does not wait for a round");
        assert_eq!(picture_worker.line.lock().waiting.len(), 0);
    }

    #[test]
    fn a_user_asks_for_so_many_pixels_and_others_do_not_pay_for_it() {
        let (picture_worker, runtime) = picture_worker();
        let large = pictures::bounds::IMAGE_PIXELS_MAX;
        runtime.block_on(async {
            let ask = |who| picture_worker.paint(who, large, || Ok(()));
            let mut asked = 0;
            while ask(UserId::new(1)).await.is_ok() {
                asked += 64;
            }
            assert!(
                (limits::IMAGE_MEGAPIXELS_MAX..2 * limits::IMAGE_MEGAPIXELS_MAX).contains(&(asked + 63)),
                "{asked}"
            );
            assert!(matches!(ask(UserId::new(1)).await, Err(NotKept::TooOften)));
            assert!(ask(UserId::new(2)).await.is_ok());
        });
    }
}

//! Blocking work on files: permits for the threads of the runtime that may block.
//!
//! Never: blocks the task that asks; it waits for a permit, then for the work.
//! Bounds: the permits that [`BlockingJobs::new`] is given.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// See the module. Clones share their permits.
#[derive(Clone)]
pub(super) struct BlockingJobs(Arc<Semaphore>);

impl BlockingJobs {
    /// At most `jobs` at once.
    pub(super) fn new(jobs: usize) -> Self {
        Self(Arc::new(Semaphore::new(jobs)))
    }

    /// Runs `work` on a blocking thread as soon as there is a permit.
    ///
    /// # Errors
    /// That of `work`; one of its own when it panicked.
    pub(super) async fn run<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        // Never closed.
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        let work = move || {
            let done = work();
            drop(permit);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }
}

//! The requests of each user that are under way at once.
//!
//! Owns: who has how many of them.
//! Never: makes one user wait for another.
//! Bounds: [`limits::USER_REQUESTS_MAX`] of one user, [`limits::USER_REQUESTS_WAITING_MAX`] that
//! wait for one of them to end, for at most [`limits::HTTP_WAIT_MS_MAX`]. Users without a request
//! are not in the table.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::slots::Short;
use crate::ids::UserId;
use crate::limits;

/// See the module.
#[derive(Default)]
pub(super) struct UserRequests(Mutex<HashMap<UserId, Busy>>);

struct Busy {
    /// Requests under way, and those that wait.
    requests: usize,
    under_way: Arc<Semaphore>,
}

/// A place among the requests of a user.
struct Place {
    user_requests: Arc<UserRequests>,
    user: UserId,
}

/// The right to serve a request of a user; ends when dropped.
#[must_use]
pub(super) struct RequestPermit {
    _place: Place,
    _under_way: OwnedSemaphorePermit,
}

impl UserRequests {
    /// Lets a request of `user` in, when there are not too many.
    ///
    /// # Errors
    /// [`Short`].
    pub(super) async fn enter(self: &Arc<Self>, user: UserId) -> Result<RequestPermit, Short> {
        let (place, under_way) = self.place(user)?;
        let patience = Duration::from_millis(limits::HTTP_WAIT_MS_MAX);
        match tokio::time::timeout(patience, under_way.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(RequestPermit { _place: place, _under_way: permit }),
            // It is never closed, so it was the time.
            Ok(Err(_)) | Err(_) => Err(Short),
        }
    }

    fn place(self: &Arc<Self>, user: UserId) -> Result<(Place, Arc<Semaphore>), Short> {
        let mut users = self.0.lock();
        let busy = users
            .entry(user)
            .or_insert_with(|| Busy { requests: 0, under_way: Arc::new(Semaphore::new(limits::USER_REQUESTS_MAX)) });
        if busy.requests >= limits::USER_REQUESTS_MAX + limits::USER_REQUESTS_WAITING_MAX {
            return Err(Short);
        }
        busy.requests += 1;
        Ok((Place { user_requests: Arc::clone(self), user }, Arc::clone(&busy.under_way)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self.user_requests.0.lock();
        if let Some(busy) = users.get_mut(&self.user) {
            busy.requests -= 1;
            if busy.requests == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ninth_request_waits_and_others_do_not() {
        let user_requests = Arc::<UserRequests>::default();
        let user = |id| UserId::new(id).expect("an id");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let mut under_way = Vec::new();
            for _ in 0..limits::USER_REQUESTS_MAX {
                under_way.push(user_requests.enter(user(1)).await.expect("one of eight"));
            }
            assert!(user_requests.enter(user(1)).await.is_err(), "not in time");
            assert!(user_requests.enter(user(2)).await.is_ok());
            let ninth = tokio::spawn({
                let user_requests = Arc::clone(&user_requests);
                async move { user_requests.enter(user(1)).await.is_ok() }
            });
            tokio::task::yield_now().await;
            under_way.pop();
            assert!(ninth.await.expect("no panic"), "in the place of one that has ended");
            let waiting: Vec<_> = std::iter::from_fn(|| user_requests.place(user(1)).ok()).collect();
            assert!(waiting.len() <= limits::USER_REQUESTS_WAITING_MAX + 1, "{}", waiting.len());
            drop((waiting, under_way));
            assert!(user_requests.0.lock().is_empty(), "nothing is left of who has gone");
        });
    }
}

//! Places for uploads under way.
//!
//! Owns: who holds how many of them.
//! Never: waits for one.
//! Bounds: [`limits::UPLOADS_MAX`] in all; of these one user has at most [`limits::USER_UPLOADS_MAX`], and all who are no
//! users yet together [`limits::GUEST_UPLOADS_MAX`], so that nobody who sends slowly keeps everybody else from sending.

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::ids::UserId;
use crate::limits;

/// See the module.
#[derive(Default)]
pub(super) struct Seats(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    all: usize,
    /// Only who has any. `None`: who is no user yet.
    by: HashMap<Option<UserId>, usize>,
}

/// A place; given back when dropped.
#[must_use]
pub(super) struct Seat<'a> {
    seats: &'a Seats,
    who: Option<UserId>,
}

/// Why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoSeat {
    /// All are taken.
    Full,
    /// This user has enough of them.
    Enough,
}

impl Seats {
    /// A place for `who`; `None` is somebody who is no user yet.
    ///
    /// # Errors
    /// See [`NoSeat`].
    pub(super) fn take(&self, who: Option<UserId>) -> Result<Seat<'_>, NoSeat> {
        let most = if who.is_some() { limits::USER_UPLOADS_MAX } else { limits::GUEST_UPLOADS_MAX };
        let mut taken = self.0.lock();
        if taken.by.get(&who).is_some_and(|&own| own >= most) {
            return Err(if who.is_some() { NoSeat::Enough } else { NoSeat::Full });
        }
        if taken.all >= limits::UPLOADS_MAX {
            return Err(NoSeat::Full);
        }
        taken.all += 1;
        *taken.by.entry(who).or_default() += 1;
        Ok(Seat { seats: self, who })
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock();
        taken.all -= 1;
        if let Some(own) = taken.by.get_mut(&self.who) {
            *own -= 1;
            if *own == 0 {
                taken.by.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: u64) -> Option<UserId> {
        UserId::new(id)
    }

    #[test]
    fn nobody_takes_all_places() {
        let seats = Seats::default();
        let of_one: Vec<_> = (0..limits::USER_UPLOADS_MAX).map(|_| seats.take(user(1)).ok()).collect();
        assert!(of_one.iter().all(Option::is_some));
        assert_eq!(seats.take(user(1)).err(), Some(NoSeat::Enough));
        let guests: Vec<_> = (0..limits::GUEST_UPLOADS_MAX).map(|_| seats.take(None).ok()).collect();
        assert!(guests.iter().all(Option::is_some));
        assert_eq!(seats.take(None).err(), Some(NoSeat::Full));
        assert!(seats.take(user(2)).is_ok(), "there is room for others");
    }

    #[test]
    fn all_together_have_so_many_and_places_come_back() {
        let seats = Seats::default();
        let mut all: Vec<_> = (0..limits::UPLOADS_MAX as u64).map(|id| seats.take(user(1 + id))).collect();
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(seats.take(user(1000)).err(), Some(NoSeat::Full));
        all.pop();
        assert!(seats.take(user(1000)).is_ok());
        drop(all);
        let taken = seats.0.lock();
        assert_eq!((taken.all, taken.by.len()), (0, 0), "nothing is left of who has gone");
    }
}

//! UploadSlots for uploads under way, shared by address and by user.
//!
//! Owns: who holds how many of them, and who gives way when all are taken.
//! Never: waits for one.
//! Bounds: [`limits::UPLOADS_MAX`] in all; of these one user has at most
//! [`limits::USER_UPLOADS_MAX`], and all who are no users yet together
//! [`limits::GUEST_UPLOADS_MAX`].
//!
//! When all are taken, a newcomer with fewer places than the busiest network, or than the busiest
//! user, takes the newest place of that one. Where all have the same number, an upload that has
//! come too slowly for [`limits::UPLOAD_SETTLE_MS`] gives way. So neither many connections nor slow
//! ones keep anybody out. Guests beyond their bound do so among themselves, by network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::fair::Network;
use crate::ids::UserId;
use crate::limits;

/// Who uploads: `None` is somebody who is no user yet.
type Who = Option<UserId>;

/// See the module.
#[derive(Default)]
pub(super) struct UploadSlots(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    /// In the order in which they came.
    holders: Vec<Holder>,
    /// The number of the next one.
    next: u64,
}

struct Holder {
    number: u64,
    who: Who,
    network: Network,
    since_ms: u64,
    shared: Arc<Shared>,
}

/// What a holder and its upload say to each other.
#[derive(Default)]
struct Shared {
    came: AtomicU64,
    gives_way: Notify,
}

/// A place; given back when dropped.
#[must_use]
pub(super) struct UploadSlot {
    taken: Arc<Mutex<Taken>>,
    number: u64,
    shared: Arc<Shared>,
    /// Whether somebody else gave way for it.
    pub(super) displaced: bool,
}

/// Why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoUploadSlot {
    /// All are taken, by others who have no more than this one.
    Full,
    /// This user has enough of them.
    Enough,
}

impl UploadSlots {
    /// A place for `who` at `network`.
    ///
    /// # Errors
    /// See [`NoUploadSlot`].
    pub(super) fn take(&self, who: Who, network: Network, now_ms: u64) -> Result<UploadSlot, NoUploadSlot> {
        let mut taken = self.0.lock();
        let of_this = taken.count(|holder| holder.who == who);
        if who.is_some() && of_this >= limits::USER_UPLOADS_MAX {
            return Err(NoUploadSlot::Enough);
        }
        let is_beyond = who.is_none() && of_this >= limits::GUEST_UPLOADS_MAX;
        let displaced = is_beyond || taken.holders.len() >= limits::UPLOADS_MAX;
        if displaced {
            let gives_way = if is_beyond {
                taken.guest_gives_way(network, now_ms)
            } else {
                taken.who_gives_way(who, network, now_ms)
            };
            taken.holders.remove(gives_way.ok_or(NoUploadSlot::Full)?).shared.gives_way.notify_one();
        }
        let (number, shared) = (taken.next, Arc::default());
        taken.next += 1;
        taken.holders.push(Holder { number, who, network, since_ms: now_ms, shared: Arc::clone(&shared) });
        drop(taken);
        Ok(UploadSlot { taken: Arc::clone(&self.0), number, shared, displaced })
    }

    /// UploadSlots that are taken.
    pub(super) fn taken(&self) -> usize {
        self.0.lock().holders.len()
    }
}

impl Taken {
    fn count(&self, holds: impl Fn(&Holder) -> bool) -> usize {
        self.holders.iter().filter(|holder| holds(holder)).count()
    }

    /// The place that `who` may take from somebody else.
    fn who_gives_way(&self, who: Who, network: Network, now_ms: u64) -> Option<usize> {
        let of_network = |network| self.count(|holder| holder.network == network);
        let of_user = |who| self.count(|holder| holder.who == who);
        let busiest = self.holders.iter().max_by_key(|holder| (of_network(holder.network), of_user(holder.who)))?;
        if of_network(network) + 1 < of_network(busiest.network) {
            let (network, who) = (busiest.network, busiest.who);
            return self.holders.iter().rposition(|holder| holder.network == network && holder.who == who);
        }
        let busiest = self.holders.iter().map(|holder| holder.who).max_by_key(|who| of_user(*who))?;
        if of_user(who) + 1 < of_user(busiest) {
            return self.holders.iter().rposition(|holder| holder.who == busiest);
        }
        self.slowest(now_ms, |holder| holder.who != who)
    }

    /// The place that a guest of `network` may take from another one.
    fn guest_gives_way(&self, network: Network, now_ms: u64) -> Option<usize> {
        let is_of = |holder: &Holder, network| holder.who.is_none() && holder.network == network;
        let guests_of = |network| self.count(|holder| is_of(holder, network));
        let busiest = self.holders.iter().map(|holder| holder.network).max_by_key(|network| guests_of(*network))?;
        if guests_of(network) + 1 < guests_of(busiest) {
            return self.holders.iter().rposition(|holder| is_of(holder, busiest));
        }
        self.slowest(now_ms, |holder| holder.who.is_none() && holder.network != network)
    }

    /// The place of the slowest upload, if it has come too slowly for a while.
    fn slowest(&self, now_ms: u64, is_among: impl Fn(&Holder) -> bool) -> Option<usize> {
        let pace = |holder: &Holder| {
            let age_ms = now_ms.saturating_sub(holder.since_ms);
            let came = holder.shared.came.load(Ordering::Relaxed);
            (age_ms >= limits::UPLOAD_SETTLE_MS).then(|| came.saturating_mul(1000) / age_ms.max(1))
        };
        let among = self.holders.iter().enumerate().filter(|(_, holder)| is_among(holder));
        let slowest = among.filter_map(|(at, holder)| Some((pace(holder)?, at))).min()?;
        (slowest.0 < limits::UPLOAD_PACE_BYTES).then_some(slowest.1)
    }
}

impl UploadSlot {
    /// So many bytes have come.
    pub(super) fn came(&self, bytes: usize) {
        self.shared.came.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits until somebody else has this place.
    pub(super) async fn given_way(&self) {
        self.shared.gives_way.notified().await;
    }
}

impl Drop for UploadSlot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.holders.retain(|holder| holder.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: u64) -> Who {
        UserId::new(id)
    }

    fn network(n: u8) -> Network {
        Network::of([192, 0, 2, n].into())
    }

    fn gave_way(place: &UploadSlot) -> bool {
        !place.taken.lock().holders.iter().any(|holder| holder.number == place.number)
    }

    #[test]
    fn one_user_has_so_many_and_guests_together_so_many() {
        let places = UploadSlots::default();
        let of_one: Vec<_> = (0..limits::USER_UPLOADS_MAX).map(|_| places.take(user(1), network(1), 0).ok()).collect();
        assert!(of_one.iter().all(Option::is_some));
        assert_eq!(places.take(user(1), network(2), 0).err(), Some(NoUploadSlot::Enough));
        let guests: Vec<_> = (0..limits::GUEST_UPLOADS_MAX).map(|_| places.take(None, network(1), 0).ok()).collect();
        assert!(guests.iter().all(Option::is_some));
        assert_eq!(places.take(None, network(1), 0).err(), Some(NoUploadSlot::Full));
        drop((of_one, guests));
        assert_eq!(places.taken(), 0, "nothing is left of who has gone");
    }

    #[test]
    fn guests_of_one_network_leave_places_to_those_of_another() {
        let places = UploadSlots::default();
        let guest = |n| places.take(None, network(n), 0);
        let user = places.take(user(1), network(1), 0).expect("a place");
        let half = limits::GUEST_UPLOADS_MAX / 2;
        let all: Vec<_> = (0..limits::GUEST_UPLOADS_MAX).map(|_| guest(1).expect("a place")).collect();
        let others: Vec<_> = (0..half).map(|_| guest(2).expect("the newest of the other network gives way")).collect();
        assert!(others.iter().all(|place| place.displaced) && all.iter().rev().take(half).all(gave_way));
        assert_eq!(guest(2).err(), Some(NoUploadSlot::Full), "half of them each");
        let third = guest(3).expect("two networks do not hold them all");
        assert!(third.displaced && !gave_way(&user), "no user gives way for a guest");
        assert_eq!(places.taken(), 1 + limits::GUEST_UPLOADS_MAX);
    }

    #[test]
    fn a_slow_guest_gives_way_where_each_network_has_one() {
        let places = UploadSlots::default();
        let networks = 1..=u8::try_from(limits::GUEST_UPLOADS_MAX).expect("few");
        let all: Vec<_> = networks.map(|n| places.take(None, network(n), 0).expect("a place")).collect();
        let fast = usize::try_from(2 * limits::UPLOAD_PACE_BYTES * limits::UPLOAD_SETTLE_MS / 1000).expect("small");
        all.iter().skip(1).for_each(|place| place.came(fast));
        let take = |now_ms| places.take(None, network(99), now_ms);
        assert_eq!(take(limits::UPLOAD_SETTLE_MS - 1).err(), Some(NoUploadSlot::Full), "each has a moment");
        let _newcomer = take(limits::UPLOAD_SETTLE_MS).expect("a place");
        assert!(gave_way(&all[0]) && !all.iter().skip(1).any(gave_way));
    }

    #[test]
    fn a_newcomer_takes_the_newest_place_of_the_busiest_user() {
        let places = UploadSlots::default();
        let users = (limits::UPLOADS_MAX / limits::USER_UPLOADS_MAX) as u64;
        let of = |id| (0..limits::USER_UPLOADS_MAX).map(move |_| id);
        let all: Vec<_> =
            (1..=users).flat_map(of).map(|id| places.take(user(id), network(1), 0).expect("a place")).collect();
        let newcomer = places.take(user(99), network(1), 0).expect("a place");
        assert!(newcomer.displaced);
        assert_eq!(all.iter().filter(|place| gave_way(place)).count(), 1);
        assert!(all.chunks(limits::USER_UPLOADS_MAX).any(|of_one| of_one.last().is_some_and(gave_way)), "its newest");
        assert_eq!(places.taken(), limits::UPLOADS_MAX);
        drop(all);
        assert_eq!(places.taken(), 1, "who gave way gives nothing back");
    }

    #[test]
    fn many_users_of_one_network_leave_places_to_another() {
        let places = UploadSlots::default();
        let all: Vec<_> = (0..limits::UPLOADS_MAX as u64)
            .map(|id| places.take(user(1 + id), network(1), 0).expect("a place"))
            .collect();
        assert_eq!(
            places.take(user(1000), network(1), 0).err(),
            Some(NoUploadSlot::Full),
            "as many as each of the others"
        );
        let newcomers: Vec<_> = (0..limits::UPLOADS_MAX as u64 / 2)
            .map(|id| places.take(user(2000 + id), network(2), 0).expect("a place"))
            .collect();
        assert!(newcomers.iter().all(|place| place.displaced));
        assert_eq!(places.take(user(3000), network(2), 0).err(), Some(NoUploadSlot::Full), "half of them each");
        assert_eq!(all.iter().filter(|place| gave_way(place)).count(), newcomers.len());
    }

    #[test]
    fn among_equals_a_slow_upload_gives_way() {
        let places = UploadSlots::default();
        let all: Vec<_> = (0..limits::UPLOADS_MAX as u64)
            .map(|id| places.take(user(1 + id), network(1), 0).expect("a place"))
            .collect();
        let fast = usize::try_from(2 * limits::UPLOAD_PACE_BYTES * limits::UPLOAD_SETTLE_MS / 1000).expect("small");
        all.iter().skip(1).for_each(|place| place.came(fast));
        let now_ms = limits::UPLOAD_SETTLE_MS;
        assert_eq!(
            places.take(user(1000), network(1), now_ms - 1).err(),
            Some(NoUploadSlot::Full),
            "each has a moment"
        );
        let newcomer = places.take(user(1000), network(1), now_ms).expect("a place");
        assert!(newcomer.displaced && gave_way(&all[0]));
        assert_eq!(places.take(user(1001), network(1), now_ms).err(), Some(NoUploadSlot::Full), "the others are quick");
    }
}

//! The seats of plain HTTP connections: who has one, what all of them hold of memory, and who goes
//! when either is short.
//!
//! Owns: the table of seats ([`crate::fair::Seats`]) and the rules of eviction. A newcomer is
//! served: idle connections go as soon as fewer than a quarter of the seats are free, then whoever
//! keeps us waiting, always the oldest of the busiest network; beyond the budget of memory, whoever
//! holds most for longest.
//! Never: ends a connection for which work is being done. An evicted one has lost its seat at once,
//! and ends by itself.
//! Bounds: [`SeatBounds`]. What works in all seats but some is bounded, so that there is always
//! somebody who can go; of those some are for logins.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::clock::Clock;
use crate::fair::{Hold, Network, Networks, SeatId, Seats};
use crate::limits;
use crate::metrics::http::{Evicted, HttpCounts, Refused};

/// How many connections there are, and what they may hold.
#[derive(Clone, Copy, Debug)]
pub struct SeatBounds {
    /// Seats.
    pub seats: usize,
    /// Seats of one network that is no trusted proxy.
    pub of_network: usize,
    /// Seats in which only logins and registrations may work.
    pub login_reserve: usize,
    /// Seats beyond these in which nothing may work.
    pub head_reserve: usize,
    /// Bytes of memory of all seats.
    pub budget: usize,
}

impl SeatBounds {
    /// Those of the public port.
    #[must_use]
    pub const fn public(budget: usize) -> Self {
        Self {
            seats: limits::HTTP_CONNS_MAX,
            of_network: limits::HTTP_NETWORK_CONNS_MAX,
            login_reserve: limits::HTTP_LOGIN_RESERVE,
            head_reserve: limits::HTTP_HEAD_RESERVE,
            budget,
        }
    }

    /// Those of the admin port: nothing there works for long.
    #[must_use]
    pub const fn admin() -> Self {
        let seats = limits::ADMIN_CONNS_MAX;
        Self { seats, of_network: seats, login_reserve: 0, head_reserve: seats / 4, budget: limits::HTTP_BUDGET_MIN }
    }
}

/// What a request is, as far as seats are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Errand {
    /// A login or a registration, which may use the reserve.
    Login,
    /// Everything else.
    Other,
}

/// The seats of one door.
pub(super) struct Seating {
    bounds: SeatBounds,
    trusted: Networks,
    clock: Clock,
    table: Mutex<Table>,
    /// How many seats are taken, for threads that wait for no lock.
    taken: AtomicUsize,
    /// Somebody has gone, or holds less.
    freed: Arc<Notify>,
    counts: Arc<HttpCounts>,
}

struct Table {
    seats: Seats<Option<Network>, Arc<Notify>>,
    /// Of the seats that are working, those of logins.
    logins: usize,
}

/// A connection's seat; given back when dropped.
pub(super) struct Seat {
    seating: Arc<Seating>,
    id: SeatId,
    evicted: Arc<Notify>,
    /// When the last progress was made.
    progress_ms: AtomicU64,
    /// Bytes since then.
    moved: AtomicUsize,
    /// What is being worked on is a login.
    login: AtomicBool,
    /// The network of the other end; `None` for a trusted proxy, which is many.
    network: Option<Network>,
}

/// A request that is being worked on; ends when dropped.
#[must_use]
pub(super) struct Work(Arc<Seat>);

/// Why there is no seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NoSeat {
    /// All are working.
    Full,
    /// All of this network are.
    Share,
}

/// Memory, or the right to work, was not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Short;

impl Seating {
    pub(super) fn new(bounds: SeatBounds, trusted: Networks, counts: Arc<HttpCounts>) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            trusted,
            clock: Clock::start(),
            table: Mutex::new(Table { seats: Seats::new(bounds.seats), logins: 0 }),
            taken: AtomicUsize::new(0),
            freed: Arc::default(),
            counts,
        })
    }

    /// A seat for a connection from `peer`, as soon as there is one. `None`: every seat of its
    /// network works.
    pub(super) async fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let network = Some(peer).filter(|peer| !self.trusted.contains(*peer)).map(Network::of);
        loop {
            let freed = Arc::clone(&self.freed).notified_owned();
            match self.try_enter(network) {
                Ok(seat) => return Some(seat),
                Err(NoSeat::Share) => {
                    self.counts.refused(Refused::Seats);
                    return None;
                }
                Err(NoSeat::Full) => freed.await,
            }
        }
    }

    fn try_enter(self: &Arc<Self>, network: Option<Network>) -> Result<Seat, NoSeat> {
        let now_ms = self.now_ms();
        let mut table = self.table.lock();
        if network.is_some() && table.seats.of(network) >= self.bounds.of_network {
            let idle = table.seats.first_of(network, Hold::Idle);
            let gone = idle.or_else(|| table.seats.first_of(network, Hold::Waiting)).ok_or(NoSeat::Share)?;
            self.evict(&mut table, gone, Evicted::Share);
        }
        while table.seats.free() <= self.bounds.seats / 4
            && let Some(idle) = table.seats.first(Hold::Idle)
        {
            self.evict(&mut table, idle, Evicted::Idle);
        }
        if table.seats.free() == 0
            && let Some(slow) = table.seats.first(Hold::Waiting)
        {
            self.evict(&mut table, slow, Evicted::Slow);
        }
        let evicted = Arc::<Notify>::default();
        let id = table.seats.take(network, Hold::Waiting, now_ms, Arc::clone(&evicted)).ok_or(NoSeat::Full)?;
        drop(table);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(Seat {
            seating: Arc::clone(self),
            id,
            evicted,
            progress_ms: AtomicU64::new(now_ms),
            moved: AtomicUsize::new(0),
            login: AtomicBool::new(false),
            network,
        })
    }

    /// Ends the connection that can best be spared, because a descriptor is needed. Answers whether
    /// there is one.
    pub(super) fn spare(&self) -> bool {
        let mut table = self.table.lock();
        let spared = table.seats.first(Hold::Idle).or_else(|| table.seats.first(Hold::Waiting));
        if let Some(spared) = spared {
            self.evict(&mut table, spared, Evicted::Descriptors);
        }
        spared.is_some()
    }

    /// Whether seats are so short that an idle connection would go at once: then it is better told
    /// so.
    pub(super) fn is_short(&self) -> bool {
        self.table.lock().seats.free() <= self.bounds.seats / 8
    }

    /// How many seats are taken. May be a little old.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Puts the gauges where a scrape finds them.
    pub(super) fn publish(&self) {
        let table = self.table.lock();
        let counts = [Hold::Idle, Hold::Waiting, Hold::Working].map(|hold| table.seats.count(hold));
        self.counts.seats(counts, table.seats.bytes());
    }

    pub(super) fn counts(&self) -> &HttpCounts {
        &self.counts
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().mono_ms
    }

    fn evict(&self, table: &mut Table, id: SeatId, why: Evicted) {
        if let Some(evicted) = table.seats.leave(id) {
            // Kept for a holder that is just being polled.
            evicted.notify_one();
            self.counts.evicted(why);
        }
    }

    /// Makes whoever holds most for longest go until `more` bytes fit, of those who hold more than
    /// `bytes`. Answers whether they do. Who has just come stays: one more connection is not what
    /// takes the memory.
    fn make_room(&self, table: &mut Table, more: usize, bytes: usize) -> bool {
        while table.seats.bytes().saturating_add(more) > self.bounds.budget {
            let until_ms = self.now_ms().saturating_sub(YOUNG_MS);
            let Some(heaviest) = table.seats.heaviest(bytes, until_ms) else { return false };
            self.evict(table, heaviest, Evicted::Memory);
        }
        true
    }
}

impl Seat {
    /// Completes when the seat is lost.
    pub(super) fn evicted(&self) -> Pin<Box<OwnedNotified>> {
        Box::pin(Arc::clone(&self.evicted).notified_owned())
    }

    /// A request begins, or ends: what the connection does from now on, and what it holds of
    /// memory. Beyond the budget somebody goes, perhaps itself.
    pub(super) fn hold(&self, hold: Hold, bytes: usize) {
        self.progress_ms.store(self.now_ms(), Ordering::Relaxed);
        let mut table = self.seating.table.lock();
        self.set(&mut table, hold);
        self.weigh(&mut table, bytes);
    }

    /// Whether the other side is waited for. The wait counts from the last progress.
    pub(super) fn waits(&self, waits: bool) {
        let hold = if waits { Hold::Waiting } else { Hold::Working };
        self.set(&mut self.seating.table.lock(), hold);
    }

    /// So many bytes came, or were taken. A few now and then are no progress.
    pub(super) fn moved(&self, bytes: usize) {
        if self.moved.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) >= PROGRESS_BYTES {
            self.moved.store(0, Ordering::Relaxed);
            self.progress_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    /// What the connection holds of memory from now on.
    pub(super) fn weighs(&self, bytes: usize) {
        self.weigh(&mut self.seating.table.lock(), bytes);
    }

    /// Adds to what the connection holds, when there is room; waits for it for a moment.
    ///
    /// # Errors
    /// [`Short`].
    pub(super) async fn reserve(&self, bytes: usize) -> Result<(), Short> {
        let trying = async {
            loop {
                let freed = Arc::clone(&self.seating.freed).notified_owned();
                if self.try_reserve(bytes) {
                    return;
                }
                freed.await;
            }
        };
        let patience = Duration::from_millis(limits::HTTP_WAIT_MS_MAX);
        tokio::time::timeout(patience, trying).await.map_err(|_| {
            self.seating.counts.refused(Refused::Memory);
            Short
        })
    }

    fn try_reserve(&self, bytes: usize) -> bool {
        let mut table = self.seating.table.lock();
        let held = table.seats.weight(self.id);
        self.seating.make_room(&mut table, bytes, limits::HTTP_CONN_BYTES) && table.seats.weigh(self.id, held + bytes)
    }

    /// Work begins on a request, for `client` if a trusted proxy named one.
    ///
    /// # Errors
    /// [`Short`]: so much is being worked on that the rest of the seats is kept for others.
    pub(super) fn begin(self: &Arc<Self>, errand: Errand, client: IpAddr) -> Result<Work, Short> {
        let bounds = &self.seating.bounds;
        self.progress_ms.store(self.now_ms(), Ordering::Relaxed);
        let mut table = self.seating.table.lock();
        let working = table.seats.count(Hold::Working);
        let most = bounds.seats.saturating_sub(bounds.head_reserve);
        let is_short = match errand {
            Errand::Login => working >= most,
            Errand::Other => working - table.logins >= most.saturating_sub(bounds.login_reserve) || working >= most,
        };
        if is_short {
            drop(table);
            self.seating.counts.refused(Refused::Reserve);
            return Err(Short);
        }
        let client = Some(client).filter(|client| !self.seating.trusted.contains(*client)).map(Network::of);
        if self.network.is_none() && client.is_some() {
            table.seats.regroup(self.id, client);
        }
        self.login.store(errand == Errand::Login, Ordering::Relaxed);
        self.set(&mut table, Hold::Working);
        Ok(Work(Arc::clone(self)))
    }

    pub(super) fn seating(&self) -> &Seating {
        &self.seating
    }

    /// Milliseconds of the seats' own clock.
    pub(super) fn now_ms(&self) -> u64 {
        self.seating.now_ms()
    }

    fn set(&self, table: &mut Table, hold: Hold) {
        let Some(before) = table.seats.state(self.id) else { return };
        table.seats.hold(self.id, hold, self.progress_ms.load(Ordering::Relaxed));
        if self.login.load(Ordering::Relaxed) {
            table.logins -= usize::from(before == Hold::Working);
            table.logins += usize::from(hold == Hold::Working);
        }
    }

    fn weigh(&self, table: &mut Table, bytes: usize) {
        let lighter = bytes < table.seats.weight(self.id);
        if table.seats.weigh(self.id, bytes) {
            self.seating.make_room(table, 0, 0);
        }
        if lighter {
            self.seating.freed.notify_waiters();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.seating.table.lock();
        // Idle is in no count that does not go with the seat.
        self.set(&mut table, Hold::Idle);
        table.seats.leave(self.id);
        drop(table);
        self.seating.taken.fetch_sub(1, Ordering::Relaxed);
        self.seating.freed.notify_waiters();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Self(seat) = self;
        let mut table = seat.seating.table.lock();
        seat.set(&mut table, Hold::Waiting);
        seat.login.store(false, Ordering::Relaxed);
        if seat.network.is_none() {
            table.seats.regroup(seat.id, None);
        }
        drop(table);
        seat.seating.freed.notify_waiters();
    }
}

/// How long a connection is young.
const YOUNG_MS: u64 = 100;
/// Bytes that are progress: half a packet.
const PROGRESS_BYTES: usize = 512;

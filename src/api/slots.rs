//! The slots of plain HTTP connections: who has one, what all of them hold of memory, and who goes
//! when either is short.
//!
//! Owns: the table of slots ([`crate::fair::SlotTable`]) and the rules of eviction. A newcomer is
//! served: idle connections go as soon as fewer than a quarter of the slots are free, then whoever
//! keeps us waiting, always the oldest of the busiest network; beyond the budget of memory, whoever
//! holds most for longest.
//! Never: ends a connection for which work is being done. An evicted one has lost its slot at once,
//! and ends by itself.
//! Bounds: [`SlotBounds`]. What works in all slots but some is bounded, so that there is always
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
use crate::fair::{Hold, Network, Networks, SlotId, SlotTable};
use crate::limits;
use crate::metrics::http::{Evicted, HttpCounts, Refused};

/// How many connections there are, and what they may hold.
#[derive(Clone, Copy, Debug)]
pub struct SlotBounds {
    /// Slots.
    pub slots: usize,
    /// Slots of one network that is no trusted proxy.
    pub of_network: usize,
    /// Slots in which only logins and registrations may work.
    pub login_reserve: usize,
    /// Slots beyond these in which nothing may work.
    pub head_reserve: usize,
    /// Bytes of memory of all slots.
    pub budget: usize,
}

impl SlotBounds {
    /// Those of the public port.
    #[must_use]
    pub const fn public(budget: usize) -> Self {
        Self {
            slots: limits::HTTP_CONNS_MAX,
            of_network: limits::HTTP_NETWORK_CONNS_MAX,
            login_reserve: limits::HTTP_LOGIN_RESERVE,
            head_reserve: limits::HTTP_HEAD_RESERVE,
            budget,
        }
    }

    /// Those of the admin port: nothing there works for long.
    #[must_use]
    pub const fn admin() -> Self {
        let slots = limits::ADMIN_CONNS_MAX;
        Self { slots, of_network: slots, login_reserve: 0, head_reserve: slots / 4, budget: limits::HTTP_BUDGET_MIN }
    }
}

/// What a request is, as far as slots are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RequestClass {
    /// A login or a registration, which may use the reserve.
    Login,
    /// Everything else.
    Other,
}

/// The slots of one door.
pub(super) struct ConnectionSlots {
    bounds: SlotBounds,
    trusted: Networks,
    clock: Clock,
    table: Mutex<Table>,
    /// How many slots are taken, for threads that wait for no lock.
    taken: AtomicUsize,
    /// Somebody has gone, or holds less.
    freed: Arc<Notify>,
    counts: Arc<HttpCounts>,
}

struct Table {
    slots: SlotTable<Option<Network>, Arc<Notify>>,
    /// Of the slots that are working, those of logins.
    logins: usize,
}

/// A connection's slot; given back when dropped.
pub(super) struct Slot {
    slots: Arc<ConnectionSlots>,
    id: SlotId,
    evicted: Arc<Notify>,
    /// When the last progress was made.
    progress_ms: AtomicU64,
    /// Bytes since then.
    moved: AtomicUsize,
    /// Whether a request is being worked on: there is a [`Work`].
    works: AtomicBool,
    /// What is being worked on is a login.
    login: AtomicBool,
    /// Whether this slot is one of [`Table::logins`].
    counted: AtomicBool,
    /// The network of the other end; `None` for a trusted proxy, which is many.
    network: Option<Network>,
}

/// A request that is being worked on; ends when dropped.
#[must_use]
pub(super) struct Work(Arc<Slot>);

/// Why there is no slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NoSlot {
    /// All are working.
    Full,
    /// All of this network are.
    Share,
}

/// Memory, or the right to work, was not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Short;

impl ConnectionSlots {
    pub(super) fn new(bounds: SlotBounds, trusted: Networks, counts: Arc<HttpCounts>) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            trusted,
            clock: Clock::start(),
            table: Mutex::new(Table { slots: SlotTable::new(bounds.slots), logins: 0 }),
            taken: AtomicUsize::new(0),
            freed: Arc::default(),
            counts,
        })
    }

    /// A slot for a connection from `peer`, as soon as there is one. `None`: every slot of its
    /// network works.
    pub(super) async fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Slot> {
        let network = Some(peer).filter(|peer| !self.trusted.contains(*peer)).map(Network::of);
        loop {
            let freed = Arc::clone(&self.freed).notified_owned();
            match self.try_enter(network) {
                Ok(slot) => return Some(slot),
                Err(NoSlot::Share) => {
                    self.counts.refused(Refused::Slots);
                    return None;
                }
                Err(NoSlot::Full) => freed.await,
            }
        }
    }

    fn try_enter(self: &Arc<Self>, network: Option<Network>) -> Result<Slot, NoSlot> {
        let now_ms = self.now_ms();
        let mut table = self.table.lock();
        if network.is_some() && table.slots.of(network) >= self.bounds.of_network {
            let idle = table.slots.first_of(network, Hold::Idle);
            let gone = idle.or_else(|| table.slots.first_of(network, Hold::Waiting)).ok_or(NoSlot::Share)?;
            self.evict(&mut table, gone, Evicted::Share);
        }
        while table.slots.free() <= self.bounds.slots / 4
            && let Some(idle) = table.slots.first(Hold::Idle)
        {
            self.evict(&mut table, idle, Evicted::Idle);
        }
        if table.slots.free() == 0
            && let Some(slow) = table.slots.first(Hold::Waiting)
        {
            self.evict(&mut table, slow, Evicted::Slow);
        }
        let evicted = Arc::<Notify>::default();
        let id = table.slots.take(network, Hold::Waiting, now_ms, Arc::clone(&evicted)).ok_or(NoSlot::Full)?;
        drop(table);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(Slot {
            slots: Arc::clone(self),
            id,
            evicted,
            progress_ms: AtomicU64::new(now_ms),
            moved: AtomicUsize::new(0),
            works: AtomicBool::new(false),
            login: AtomicBool::new(false),
            counted: AtomicBool::new(false),
            network,
        })
    }

    /// Ends the connection that can best be spared, because a descriptor is needed. Answers whether
    /// there is one.
    pub(super) fn spare(&self) -> bool {
        let mut table = self.table.lock();
        let spared = table.slots.first(Hold::Idle).or_else(|| table.slots.first(Hold::Waiting));
        if let Some(spared) = spared {
            self.evict(&mut table, spared, Evicted::Descriptors);
        }
        spared.is_some()
    }

    /// Whether slots are so short that an idle connection would go at once: then it is better told
    /// so.
    pub(super) fn is_short(&self) -> bool {
        self.table.lock().slots.free() <= self.bounds.slots / 8
    }

    /// How many slots are taken. May be a little old.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many connections are in the middle of a request.
    pub(super) fn busy(&self) -> usize {
        let table = self.table.lock();
        [Hold::Waiting, Hold::Working].map(|hold| table.slots.count(hold)).iter().sum()
    }

    /// Puts the gauges where a scrape finds them.
    pub(super) fn publish(&self) {
        let table = self.table.lock();
        let counts = [Hold::Idle, Hold::Waiting, Hold::Working].map(|hold| table.slots.count(hold));
        self.counts.slots(counts, table.slots.bytes());
    }

    pub(super) fn counts(&self) -> &HttpCounts {
        &self.counts
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().mono_ms
    }

    fn evict(&self, table: &mut Table, id: SlotId, why: Evicted) {
        if let Some(evicted) = table.slots.leave(id) {
            // Kept for a holder that is just being polled.
            evicted.notify_one();
            self.counts.evicted(why);
        }
    }

    /// Makes whoever holds most for longest go until `more` bytes fit, of those who hold more than
    /// `bytes`. Answers whether they do. Who has just come stays: one more connection is not what
    /// takes the memory.
    fn make_room(&self, table: &mut Table, more: usize, bytes: usize) -> bool {
        while table.slots.bytes().saturating_add(more) > self.bounds.budget {
            let until_ms = self.now_ms().saturating_sub(YOUNG_MS);
            let Some(heaviest) = table.slots.heaviest(bytes, until_ms) else { return false };
            self.evict(table, heaviest, Evicted::Memory);
        }
        true
    }
}

impl Slot {
    /// Completes when the slot is lost.
    pub(super) fn evicted(&self) -> Pin<Box<OwnedNotified>> {
        Box::pin(Arc::clone(&self.evicted).notified_owned())
    }

    /// A request begins, or ends: what the connection does from now on, and what it holds of
    /// memory. Beyond the budget somebody goes, perhaps itself.
    pub(super) fn hold(&self, hold: Hold, bytes: usize) {
        self.progress_ms.store(self.now_ms(), Ordering::Relaxed);
        let mut table = self.slots.table.lock();
        self.set(&mut table, hold);
        self.weigh(&mut table, bytes);
    }

    /// Whether the other side is waited for. The wait counts from the last progress. While nothing
    /// is being worked on, it always is.
    pub(super) fn waits(&self, waits: bool) {
        let mut table = self.slots.table.lock();
        let works = !waits && self.works.load(Ordering::Relaxed);
        self.set(&mut table, if works { Hold::Working } else { Hold::Waiting });
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
        self.weigh(&mut self.slots.table.lock(), bytes);
    }

    /// Adds to what the connection holds, when there is room; waits for it for a moment.
    ///
    /// # Errors
    /// [`Short`].
    pub(super) async fn reserve(&self, bytes: usize) -> Result<(), Short> {
        let trying = async {
            loop {
                let freed = Arc::clone(&self.slots.freed).notified_owned();
                if self.try_reserve(bytes) {
                    return;
                }
                freed.await;
            }
        };
        let patience = Duration::from_millis(limits::HTTP_WAIT_MS_MAX);
        tokio::time::timeout(patience, trying).await.map_err(|_| {
            self.slots.counts.refused(Refused::Memory);
            Short
        })
    }

    fn try_reserve(&self, bytes: usize) -> bool {
        let mut table = self.slots.table.lock();
        let held = table.slots.weight(self.id);
        self.slots.make_room(&mut table, bytes, limits::HTTP_CONN_BYTES + limits::HTTP_TLS_CONN_BYTES)
            && table.slots.weigh(self.id, held + bytes)
    }

    /// Work begins on a request, for `client` if a trusted proxy named one.
    ///
    /// # Errors
    /// [`Short`]: so much is being worked on that the rest of the slots is kept for others.
    pub(super) fn begin(self: &Arc<Self>, class: RequestClass, client: IpAddr) -> Result<Work, Short> {
        let bounds = &self.slots.bounds;
        self.progress_ms.store(self.now_ms(), Ordering::Relaxed);
        let mut table = self.slots.table.lock();
        let working = table.slots.count(Hold::Working);
        let most = bounds.slots.saturating_sub(bounds.head_reserve);
        let is_short = match class {
            RequestClass::Login => working >= most,
            RequestClass::Other => {
                working - table.logins >= most.saturating_sub(bounds.login_reserve) || working >= most
            }
        };
        if is_short {
            drop(table);
            self.slots.counts.refused(Refused::Reserve);
            return Err(Short);
        }
        let client = Some(client).filter(|client| !self.slots.trusted.contains(*client)).map(Network::of);
        if self.network.is_none() && client.is_some() {
            table.slots.regroup(self.id, client);
        }
        self.works.store(true, Ordering::Relaxed);
        self.login.store(class == RequestClass::Login, Ordering::Relaxed);
        self.set(&mut table, Hold::Working);
        Ok(Work(Arc::clone(self)))
    }

    pub(super) fn slots(&self) -> &ConnectionSlots {
        &self.slots
    }

    /// Milliseconds of the slots' own clock.
    pub(super) fn now_ms(&self) -> u64 {
        self.slots.now_ms()
    }

    fn set(&self, table: &mut Table, hold: Hold) {
        if !table.slots.hold(self.id, hold, self.progress_ms.load(Ordering::Relaxed)) {
            return;
        }
        let counts = hold == Hold::Working && self.login.load(Ordering::Relaxed);
        if self.counted.swap(counts, Ordering::Relaxed) {
            table.logins -= 1;
        }
        table.logins += usize::from(counts);
    }

    fn weigh(&self, table: &mut Table, bytes: usize) {
        let lighter = bytes < table.slots.weight(self.id);
        if table.slots.weigh(self.id, bytes) {
            self.slots.make_room(table, 0, 0);
        }
        if lighter {
            self.slots.freed.notify_waiters();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.slots.table.lock();
        // Idle is in no count that does not go with the slot.
        self.set(&mut table, Hold::Idle);
        table.slots.leave(self.id);
        drop(table);
        self.slots.taken.fetch_sub(1, Ordering::Relaxed);
        self.slots.freed.notify_waiters();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Self(slot) = self;
        let mut table = slot.slots.table.lock();
        slot.set(&mut table, Hold::Waiting);
        slot.works.store(false, Ordering::Relaxed);
        slot.login.store(false, Ordering::Relaxed);
        if slot.network.is_none() {
            table.slots.regroup(slot.id, None);
        }
        drop(table);
        slot.slots.freed.notify_waiters();
    }
}

/// How long a connection is young.
const YOUNG_MS: u64 = 100;
/// Bytes that are progress: half a packet.
const PROGRESS_BYTES: usize = 512;

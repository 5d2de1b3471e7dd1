//! The queue of reads: lanes that do not fill each other, and in each lane the users in turn.
//!
//! Owns: which read or call a reading thread takes next, which has waited too long to be begun, and
//! when a reading thread is woken.
//! Never: makes a shard wait: an ask goes to a channel, and the reading threads sort what came.
//! Bounds: the channels are as long as all reservations together, and what was sorted is part of
//! that; a lane has [`crate::limits::STORE_CALLS_MAX`] places for calls; nothing waits longer than
//! [`READ_WAIT_MS_MAX`].
//!
//! With two reading threads or more, the first one serves [`Lane::Open`] and [`Lane::Login`] alone,
//! so that a session that opens never waits for a page of an open one. The others take from all
//! lanes in turn, a bounded batch of one lane at a time; of what is the first one's they hear only
//! when that one is late ([`EXPRESS_LATE_MS`]), so that as a rule one thread is woken for one
//! session, and always the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::gathered::Gathered;
use super::sleepers::Sleepers;
use super::{Ask, Busy, Call, CallPlace, Queued, Replies, Ticket};
use crate::clock::Clock;
use crate::fair::Turns;
use crate::ids::{ConvId, UserId};
use crate::limits::{
    EXPRESS_LATE_MS, READ_WAIT_MS_MAX, READS_GATHERED_BYTES_MAX, READS_GATHERED_MAX, READS_HEAVY_MAX, READS_LIGHT_MAX,
};
use crate::store::Read;

/// How urgent and how large a request is. Lanes have places of their own and are served in turn.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// What a shard must know when a session opens, and probes of readiness.
    Open,
    /// What a login or a registration looks up.
    Login,
    /// One row or a few; the list of a user's conversations; what a home reads for all sessions.
    Light,
    /// Pages of history and lists.
    Heavy,
}

impl Lane {
    /// All, in the order of their numbers.
    pub const ALL: [Self; LANES] = [Self::Open, Self::Login, Self::Light, Self::Heavy];

    /// How metrics call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Login => "login",
            Self::Light => "light",
            Self::Heavy => "heavy",
        }
    }

    const fn of(read: &Read) -> Self {
        match read {
            Read::Open { .. } => Self::Open,
            Read::Heads { .. } | Read::Page { reader: None, .. } => Self::Light,
            Read::Page { reader: Some(_), .. } => Self::Heavy,
        }
    }

    /// Requests that one thread takes at once.
    const fn batch_max(self) -> usize {
        match self {
            Self::Open => READS_GATHERED_MAX,
            Self::Login | Self::Light => READS_LIGHT_MAX,
            Self::Heavy => READS_HEAVY_MAX,
        }
    }
}

/// How many lanes there are.
pub const LANES: usize = 4;

/// The first so many of them have a thread of their own.
const EXPRESS_LANES: usize = 2;

/// A time that has not come: the express thread has nothing to do.
const IDLE: u64 = u64::MAX;

/// Where a call of the control plane waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LanePlace {
    /// In which lane.
    pub lane: Lane,
    /// Whose turn it takes there; `None`: one of its own.
    pub user: Option<UserId>,
}

impl LanePlace {
    /// Of no user.
    #[must_use]
    pub const fn of(lane: Lane) -> Self {
        Self { lane, user: None }
    }

    /// Of `user`.
    #[must_use]
    pub const fn of_user(lane: Lane, user: UserId) -> Self {
        Self { lane, user: Some(user) }
    }
}

/// Whose turn a request takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Whose {
    User(UserId),
    /// What the home of a conversation reads and writes for all sessions.
    Conv(ConvId),
    /// A call of no user: its number.
    Call(u64),
}

impl Whose {
    fn of(read: &Read) -> Self {
        match read {
            Read::Open { user } | Read::Heads { user, .. } => Self::User(*user),
            Read::Page { reader: Some(user), .. } => Self::User(*user),
            Read::Page { conv, reader: None, .. } => Self::Conv(*conv),
        }
    }
}

/// Gives calls of no user their numbers, and counts the places of all.
#[derive(Default)]
pub(super) struct CallPlaces {
    taken: [Arc<AtomicUsize>; LANES],
    numbers: AtomicU64,
}

impl CallPlaces {
    pub(super) fn queue(&self, place: LanePlace, call: Call) -> Result<(Whose, Queued), Busy> {
        let taken = CallPlace::take(&self.taken[place.lane as usize]).ok_or(Busy)?;
        let number = || Whose::Call(self.numbers.fetch_add(1, Ordering::Relaxed));
        let whose = place.user.map_or_else(number, Whose::User);
        Ok((whose, Queued { call, place: taken, lane: place.lane, whose }))
    }
}

/// What waits to be read.
struct Waiter {
    /// Monotonic milliseconds at which it was asked.
    since_ms: u64,
    what: What,
}

enum What {
    Ask(Ticket, Read),
    Call(Queued),
}

/// What a thread has taken.
pub(super) struct Taken {
    pub(super) reads: Gathered<Read>,
    pub(super) calls: Vec<Queued>,
    /// Reads that have waited too long.
    pub(super) late: Vec<Ticket>,
}

impl Taken {
    pub(super) fn new() -> Self {
        let reads = Gathered::new(READS_GATHERED_MAX, READS_GATHERED_BYTES_MAX);
        Self { reads, calls: Vec::new(), late: Vec::new() }
    }
}

/// What a thread does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// What was taken.
    Work,
    /// Nothing is there.
    Wait,
    /// Nothing is there, and nothing comes any more.
    End,
}

/// One of the two ways in, and the threads that sleep behind it.
struct Door {
    sender: Sender<(Lane, Whose, Waiter)>,
    receiver: Receiver<(Lane, Whose, Waiter)>,
    sleepers: Sleepers,
}

impl Door {
    fn new(places: usize) -> Self {
        let (sender, receiver) = bounded(places);
        Self { sender, receiver, sleepers: Sleepers::default() }
    }
}

/// Numbers of one lane for the metrics.
#[derive(Default)]
struct Gauge {
    queued: AtomicUsize,
    late: AtomicU64,
}

/// What the reading threads share.
pub(super) struct ReadQueue {
    /// By it comes what the express thread serves, if there is one.
    express: Door,
    general: Door,
    has_express: bool,
    /// Monotonic milliseconds since which the express thread serves what it has taken; [`IDLE`].
    at_work_since_ms: AtomicU64,
    sorted: Mutex<Sorted>,
    gauges: [Gauge; LANES],
    whose: AtomicUsize,
    places: CallPlaces,
    clock: Clock,
}

#[derive(Default)]
struct Sorted {
    lanes: [Turns<Whose, Waiter>; LANES],
    stopping: bool,
}

impl Sorted {
    /// Whether something waits for a thread that serves so many lanes.
    fn is_waiting(&self, lanes: usize) -> bool {
        self.lanes.iter().take(lanes).any(|lane| !lane.is_empty())
    }
}

/// The lanes that a thread serves, and listens for.
const fn served(express: bool) -> usize {
    if express { EXPRESS_LANES } else { LANES }
}

impl ReadQueue {
    /// `places`: what may wait in all. `has_express`: one of the threads serves what is urgent, and
    /// nothing else.
    pub(super) fn new(places: usize, has_express: bool, clock: Clock) -> Self {
        Self {
            express: Door::new(places),
            general: Door::new(places),
            has_express,
            at_work_since_ms: AtomicU64::new(IDLE),
            sorted: Mutex::default(),
            gauges: Default::default(),
            whose: AtomicUsize::new(0),
            places: CallPlaces::default(),
            clock,
        }
    }

    const fn door(&self, lane: Lane) -> &Door {
        match lane {
            Lane::Open | Lane::Login if self.has_express => &self.express,
            _ => &self.general,
        }
    }

    fn hand_over(&self, lane: Lane, whose: Whose, what: What, now_ms: u64) -> Result<(), Busy> {
        let waiter = Waiter { since_ms: now_ms, what };
        let queued = &self.gauges[lane as usize].queued;
        queued.fetch_add(1, Ordering::Relaxed);
        if self.door(lane).sender.try_send((lane, whose, waiter)).is_err() {
            queued.fetch_sub(1, Ordering::Relaxed);
            return Err(Busy);
        }
        Ok(())
    }

    /// Tells the threads of what was queued.
    pub(super) fn ring(&self) {
        self.ring_at(self.clock.now().mono_ms);
    }

    fn ring_at(&self, now_ms: u64) {
        if !self.general.receiver.is_empty() {
            self.general.sleepers.wake_one();
        }
        if !self.express.receiver.is_empty() {
            self.express.sleepers.wake_one();
            // That thread looks at its door before it sleeps, so nothing is forgotten. What comes
            // in the first moments of a batch that hangs, and is followed by nothing else, waits
            // for its end.
            if now_ms.saturating_sub(self.at_work_since_ms.load(Ordering::Relaxed)) >= EXPRESS_LATE_MS {
                self.general.sleepers.wake_one();
            }
        }
    }

    /// Queues a read of a shard; [`Self::ring`] tells of it.
    pub(super) fn ask(&self, ticket: Ticket, read: Read) -> Result<(), Busy> {
        self.hand_over(Lane::of(&read), Whose::of(&read), What::Ask(ticket, read), self.clock.now().mono_ms)
    }

    /// Queues a call of the control plane.
    pub(super) fn call(&self, place: LanePlace, call: Call) -> Result<(), Busy> {
        let (whose, queued) = self.places.queue(place, call)?;
        let now_ms = self.clock.now().mono_ms;
        self.hand_over(place.lane, whose, What::Call(queued), now_ms)?;
        self.ring_at(now_ms);
        Ok(())
    }

    /// Tells the threads to end when everything is done.
    pub(super) fn stop(&self) {
        self.sorted.lock().stopping = true;
        for door in [&self.express, &self.general] {
            door.sleepers.wake_all();
        }
    }

    /// Takes a batch of one lane, the one after `turn` first. `express`: of the lanes that have a
    /// thread of their own.
    pub(super) fn take(&self, express: bool, turn: &mut usize, now_ms: u64, taken: &mut Taken) -> Next {
        let mut sorted = self.sorted.lock();
        self.sort(&mut sorted, express);
        let lanes = served(express);
        let next = (1..=lanes).map(|step| (*turn + step) % lanes).find(|lane| !sorted.lanes[*lane].is_empty());
        if express {
            let since_ms = if next.is_some() { now_ms } else { IDLE };
            self.at_work_since_ms.store(since_ms, Ordering::Relaxed);
        }
        let Some(lane) = next else {
            return if sorted.stopping { Next::End } else { Next::Wait };
        };
        *turn = lane;
        self.fill(&mut sorted.lanes[lane], Lane::ALL[lane], now_ms, taken);
        self.whose.store(sorted.lanes.iter().map(Turns::keys).sum(), Ordering::Relaxed);
        // What is left is for a thread that has nothing to do.
        if sorted.is_waiting(EXPRESS_LANES) {
            self.express.sleepers.wake_one();
        }
        if sorted.is_waiting(LANES) {
            self.general.sleepers.wake_one();
        }
        Next::Work
    }

    fn fill(&self, lane: &mut Turns<Whose, Waiter>, name: Lane, now_ms: u64, taken: &mut Taken) {
        let gauge = &self.gauges[name as usize];
        let mut bytes = 0usize;
        while taken.reads.asks().len() + taken.calls.len() < name.batch_max() && bytes < READS_GATHERED_BYTES_MAX {
            let Some((_, Waiter { since_ms, what })) = lane.pop() else { return };
            gauge.queued.fetch_sub(1, Ordering::Relaxed);
            let late = now_ms.saturating_sub(since_ms) >= READ_WAIT_MS_MAX;
            gauge.late.fetch_add(u64::from(late), Ordering::Relaxed);
            match what {
                What::Ask(ticket, _) if late => taken.late.push(ticket),
                // Its end tells the waiting caller.
                What::Call(_) if late => {}
                What::Ask(ticket, read) => bytes = bytes.saturating_add(taken.reads.add(ticket, read)),
                What::Call(call) => taken.calls.push(call),
            }
        }
    }

    /// Sorts what came for a thread of this kind.
    fn sort(&self, sorted: &mut Sorted, express: bool) {
        let mine = if express { &self.express } else { &self.general };
        // Before the look at the doors: what comes after it wakes somebody again.
        mine.sleepers.look();
        for door in [Some(&self.express), (!express).then_some(&self.general)].into_iter().flatten() {
            for (lane, whose, waiter) in door.receiver.try_iter() {
                sorted.lanes[lane as usize].push(whose, waiter);
            }
        }
    }

    /// Waits until something comes.
    pub(super) fn wait(&self, express: bool) {
        let door = if express { &self.express } else { &self.general };
        door.sleepers.sleep(|| {
            let sorted = self.sorted.lock();
            sorted.stopping || sorted.is_waiting(served(express)) || !door.receiver.is_empty()
        });
    }

    /// Refuses what came too late for the threads.
    pub(super) fn refuse_all(&self, replies: &dyn Replies) {
        let mut refused = Vec::new();
        {
            let mut sorted = self.sorted.lock();
            self.sort(&mut sorted, false);
            for (lane, gauge) in sorted.lanes.iter_mut().zip(&self.gauges) {
                while let Some((_, waiter)) = lane.pop() {
                    gauge.queued.fetch_sub(1, Ordering::Relaxed);
                    refused.push(waiter.what);
                }
            }
        }
        for what in refused {
            if let What::Ask(ticket, _) = what {
                replies.settle(ticket.shard, vec![(ticket.ask, Read::refused("it has stopped"))]);
            }
        }
    }

    /// What waits in each lane.
    pub(super) fn queued(&self) -> [usize; LANES] {
        std::array::from_fn(|lane| self.gauges[lane].queued.load(Ordering::Relaxed))
    }

    /// What has waited too long in each lane, since the start.
    pub(super) fn late(&self) -> [u64; LANES] {
        std::array::from_fn(|lane| self.gauges[lane].late.load(Ordering::Relaxed))
    }

    /// For how many users (or conversations) something waited at the last look.
    pub(super) fn whose(&self) -> usize {
        self.whose.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STORE_CALLS_MAX;
    use crate::metrics::names;

    fn user(raw: u64) -> UserId {
        UserId::new(raw).expect("in range")
    }

    fn ticket(ask: u32) -> Ticket {
        Ticket { shard: crate::ids::ShardId(0), ask }
    }

    fn page(of: u64) -> Read {
        let (conv, from) = (ConvId::direct(user(1), user(2)), crate::store::PageStart::After(crate::ids::Seq::ZERO));
        Read::Page { conv, reader: Some(user(of)), from, rows_max: 1, bytes_max: 1 }
    }

    /// What a thread takes next: the number of reads that are not late, and those that are.
    fn take(queue: &ReadQueue, express: bool, turn: &mut usize, now_ms: u64) -> (Next, usize, usize) {
        let mut taken = Taken::new();
        let next = queue.take(express, turn, now_ms, &mut taken);
        (next, taken.reads.asks().len(), taken.late.len())
    }

    #[test]
    fn what_has_waited_too_long_is_not_begun() {
        let queue = ReadQueue::new(100, true, Clock::start());
        queue.ask(ticket(1), page(1)).expect("a place");
        queue.ask(ticket(2), Read::Open { user: user(1) }).expect("a place");
        queue.call(LanePlace::of(Lane::Light), Box::new(|_| panic!("too late"))).expect("a place");
        assert_eq!(queue.queued(), [1, 0, 1, 1]);
        let (mut turn, late_ms) = (0, queue.clock.now().mono_ms + READ_WAIT_MS_MAX);
        assert_eq!(take(&queue, false, &mut turn, late_ms), (Next::Work, 0, 0), "the call");
        assert_eq!(take(&queue, false, &mut turn, late_ms), (Next::Work, 0, 1), "the page");
        assert_eq!(take(&queue, false, &mut turn, 0), (Next::Work, 1, 0), "in time");
        assert_eq!(take(&queue, false, &mut turn, late_ms), (Next::Wait, 0, 0));
        assert_eq!((queue.queued(), queue.late(), queue.whose()), ([0; 4], [0, 0, 1, 1], 0));
    }

    #[test]
    fn one_thread_alone_serves_the_lanes_in_turn() {
        let queue = ReadQueue::new(1000, false, Clock::start());
        (0..100).for_each(|n| queue.ask(ticket(n), page(1)).expect("a place"));
        queue.ask(ticket(100), page(2)).expect("a place");
        (101..104).for_each(|n| queue.ask(ticket(n), Read::Open { user: user(3) }).expect("a place"));
        let mut turn = 0;
        let mut taken = Taken::new();
        assert_eq!(queue.take(false, &mut turn, 0, &mut taken), Next::Work);
        let first = matches!(taken.reads.asks(), [Read::Page { reader: Some(reader), .. }, ..] if reader.get() == 2);
        assert!(
            first && taken.reads.asks().len() == READS_HEAVY_MAX,
            "whoever asks once does not wait for a hundred: {:?}",
            taken.reads.asks()
        );
        assert_eq!(take(&queue, false, &mut turn, 0), (Next::Work, 3, 0), "sessions that open wait for one batch");
        assert_eq!(take(&queue, false, &mut turn, 0), (Next::Work, READS_HEAVY_MAX, 0));
        assert_eq!(queue.queued(), [0, 0, 0, 101 - 2 * READS_HEAVY_MAX]);
    }

    #[test]
    fn the_express_thread_takes_nothing_large_and_what_it_leaves_is_taken() {
        let queue = ReadQueue::new(1000, true, Clock::start());
        let mut turn = 0;
        queue.ask(ticket(0), page(1)).expect("a place");
        assert_eq!(take(&queue, true, &mut turn, 0), (Next::Wait, 0, 0));
        (1..=300).for_each(|n| queue.ask(ticket(n), Read::Open { user: user(3) }).expect("a place"));
        assert_eq!(take(&queue, true, &mut turn, 0), (Next::Work, READS_GATHERED_MAX, 0));
        // The rest was sorted and not taken: the thread does not sleep.
        queue.wait(true);
        assert_eq!(take(&queue, true, &mut turn, 0), (Next::Work, 300 - READS_GATHERED_MAX, 0));
        queue.stop();
        assert_eq!(take(&queue, true, &mut turn, 0), (Next::End, 0, 0));
        assert_eq!(take(&queue, false, &mut turn, 0), (Next::Work, 1, 0), "what is queued is done");
        assert_eq!(take(&queue, false, &mut turn, 0), (Next::End, 0, 0));
    }

    #[test]
    fn others_are_called_for_what_is_urgent_when_the_express_thread_is_late() {
        let queue = ReadQueue::new(1000, true, Clock::start());
        let (mut turn, mut others) = (0, 0);
        let open = |now_ms| {
            let read = Read::Open { user: user(3) };
            queue.hand_over(Lane::Open, Whose::of(&read), What::Ask(ticket(0), read), now_ms).expect("a place");
            queue.ring_at(now_ms);
        };
        let asleep = || queue.general.sleepers.asleep();
        std::thread::scope(|scope| {
            let sleep = || {
                scope.spawn(|| queue.wait(false));
                while asleep() == 0 {
                    std::thread::yield_now();
                }
            };
            sleep();
            open(7);
            assert_eq!(take(&queue, true, &mut turn, 7), (Next::Work, 1, 0));
            (8..7 + EXPRESS_LATE_MS).for_each(open);
            assert_eq!(asleep(), 1, "it waits for one that is about to be ready");
            (0..3).for_each(|more| open(7 + EXPRESS_LATE_MS + more));
            assert_eq!(asleep(), 0, "another one is called");
            assert_eq!(take(&queue, false, &mut others, 20), (Next::Work, EXPRESS_LATE_MS as usize + 2, 0));
            sleep();
            open(21);
            assert_eq!(asleep(), 0, "and again");
            // The first thread is back before the other one looks.
            assert_eq!(take(&queue, true, &mut turn, 22), (Next::Work, 1, 0));
            assert_eq!(take(&queue, false, &mut others, 22), (Next::Wait, 0, 0));
            sleep();
            open(23);
            assert_eq!(take(&queue, true, &mut turn, 24), (Next::Work, 1, 0));
            assert_eq!(take(&queue, true, &mut turn, 25), (Next::Wait, 0, 0));
            open(99);
            assert_eq!(asleep(), 1, "late with one batch, not with all of them, and not when there is none");
            queue.stop();
        });
    }

    /// Some ask for one thing at a time, of each lane; what is forgotten is never answered, and the
    /// test does not end.
    #[test]
    fn nothing_is_forgotten_by_threads_that_come_and_go() {
        let queue = ReadQueue::new(1000, true, Clock::start());
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for express in [true, false, false] {
                let (queue, done) = (&queue, &done);
                scope.spawn(move || {
                    let (mut turn, mut taken) = (0, Taken::new());
                    loop {
                        match queue.take(express, &mut turn, 0, &mut taken) {
                            Next::Work => {
                                let asks = taken.reads.asks().len();
                                taken.reads.settle((0..asks).map(|_| Ok(())), |_, _| {});
                                done.fetch_add(asks as u64, Ordering::Relaxed);
                            }
                            Next::Wait => queue.wait(express),
                            Next::End => return,
                        }
                    }
                });
            }
            for n in 1..=6_000 {
                let read = if n % 3 == 0 { page(n) } else { Read::Open { user: user(n) } };
                queue.ask(ticket(0), read).expect("a place");
                queue.ring();
                while n % 2 == 0 && done.load(Ordering::Relaxed) < n {
                    std::thread::yield_now();
                }
            }
            queue.stop();
        });
        assert_eq!(done.load(Ordering::Relaxed), 6_000);
    }

    #[test]
    fn a_full_lane_refuses_nobody_in_another() {
        let queue = ReadQueue::new(10_000, true, Clock::start());
        let ask = |lane| queue.call(LanePlace::of_user(lane, user(1)), Box::new(|_| {}));
        (0..STORE_CALLS_MAX).for_each(|_| ask(Lane::Heavy).expect("a place"));
        assert_eq!(ask(Lane::Heavy), Err(Busy));
        assert_eq!((ask(Lane::Login), ask(Lane::Light), ask(Lane::Open)), (Ok(()), Ok(()), Ok(())));
    }

    #[test]
    fn metrics_call_the_lanes_by_their_names() {
        assert_eq!(Lane::ALL.map(Lane::name), names::LANE_LABELS);
        assert!(Lane::ALL.iter().enumerate().all(|(n, lane)| *lane as usize == n));
    }
}

//! The queue of reads: lanes that do not fill each other, and in each lane the users in turn.
//!
//! Owns: which read or call a reading thread takes next, and which has waited too long to be begun.
//! Never: makes a shard wait: an ask goes to a channel, and the reading threads sort what came.
//! Bounds: the channels are as long as all reservations together, and what was sorted is part of
//! that; a lane has [`crate::limits::STORE_CALLS_MAX`] places for calls; nothing waits longer than
//! [`READ_WAIT_MS_MAX`].
//!
//! With two reading threads or more, the first one serves [`Lane::Open`] and [`Lane::Login`] alone,
//! so that a session that opens never waits for a page of an open one. The others take from all
//! lanes in turn, a bounded batch of one lane at a time; of what is the first one's they hear only
//! while that one is at work, so that as a rule one thread is woken for one session, and always the
//! same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::gathered::Gathered;
use super::{Ask, Busy, Call, CallPlace, Queued, Replies, Ticket};
use crate::clock::Clock;
use crate::fair::Turns;
use crate::ids::{ConvId, UserId};
use crate::limits::{READ_WAIT_MS_MAX, READS_GATHERED_BYTES_MAX, READS_GATHERED_MAX, READS_HEAVY_MAX, READS_LIGHT_MAX};
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

enum Job {
    Wait(Lane, Whose, Waiter),
    /// Something that was sorted waits for the express thread.
    Look,
    /// Something is there for any of the others.
    Help,
    /// End when everything is done.
    Stop,
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

/// One of the two ways in.
struct Door {
    sender: Sender<Job>,
    receiver: Receiver<Job>,
}

impl Door {
    fn new(places: usize) -> Self {
        let (sender, receiver) = bounded(places);
        Self { sender, receiver }
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
    /// Whether the express thread is serving something.
    at_work: AtomicBool,
    /// Whether a [`Job::Help`] is on its way.
    called: AtomicBool,
    sorted: Mutex<Sorted>,
    gauges: [Gauge; LANES],
    whose: AtomicUsize,
    places: CallPlaces,
    clock: Clock,
}

#[derive(Default)]
struct Sorted {
    lanes: [Turns<Whose, Waiter>; LANES],
    /// Whether a [`Job::Look`] is on its way.
    look: bool,
    stopping: bool,
}

impl ReadQueue {
    /// `places`: what may wait in all, the threads' ends included. `has_express`: one of the
    /// threads serves what is urgent, and nothing else.
    pub(super) fn new(places: usize, has_express: bool, clock: Clock) -> Self {
        // Room for a look or a call for help, and for the word that it is over.
        let door = || Door::new(places + 2);
        Self {
            express: door(),
            general: door(),
            has_express,
            at_work: AtomicBool::new(false),
            called: AtomicBool::new(false),
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

    /// Something is there that one of the other threads is to look for.
    fn call_for_help(&self) {
        if !self.called.swap(true, Ordering::AcqRel) {
            // A door that is full is one that will be looked through.
            let _ = self.general.sender.try_send(Job::Help);
        }
    }

    fn hand_over(&self, lane: Lane, whose: Whose, what: What) -> Result<(), Busy> {
        let waiter = Waiter { since_ms: self.clock.now().mono_ms, what };
        let queued = &self.gauges[lane as usize].queued;
        queued.fetch_add(1, Ordering::Relaxed);
        if self.door(lane).sender.try_send(Job::Wait(lane, whose, waiter)).is_err() {
            queued.fetch_sub(1, Ordering::Relaxed);
            return Err(Busy);
        }
        if self.has_express && matches!(lane, Lane::Open | Lane::Login) {
            fence(Ordering::SeqCst);
            if self.at_work.load(Ordering::Relaxed) {
                self.call_for_help();
            }
        }
        Ok(())
    }

    /// Queues a read of a shard.
    pub(super) fn ask(&self, ticket: Ticket, read: Read) -> Result<(), Busy> {
        self.hand_over(Lane::of(&read), Whose::of(&read), What::Ask(ticket, read))
    }

    /// Queues a call of the control plane.
    pub(super) fn call(&self, place: LanePlace, call: Call) -> Result<(), Busy> {
        let (whose, queued) = self.places.queue(place, call)?;
        self.hand_over(place.lane, whose, What::Call(queued))
    }

    /// Tells the threads to end when everything is done.
    pub(super) fn stop(&self) {
        for door in [&self.express, &self.general] {
            // One that is full is one that will be looked through.
            self.sorted.lock().stopping = true;
            let _ = door.sender.try_send(Job::Stop);
        }
    }

    /// Takes a batch of one lane, the one after `turn` first. `express`: of the lanes that have a
    /// thread of their own.
    pub(super) fn take(&self, express: bool, turn: &mut usize, now_ms: u64, taken: &mut Taken) -> Next {
        let mut sorted = self.sorted.lock();
        if express {
            // Before the look at its door: what comes after that look calls the others. With the
            // fence in `hand_over` one of the two sees what the other has done.
            self.at_work.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        } else {
            self.sort(&mut sorted, &self.general.receiver);
            // Behind the look at this door, so that no call is taken from it and still counts as on
            // its way; before the look at the other one, so that what comes after that calls again.
            self.called.swap(false, Ordering::AcqRel);
        }
        self.sort(&mut sorted, &self.express.receiver);
        let lanes = if express { EXPRESS_LANES } else { LANES };
        let next = (1..=lanes).map(|step| (*turn + step) % lanes).find(|lane| !sorted.lanes[*lane].is_empty());
        let Some(lane) = next else {
            if express {
                self.at_work.store(false, Ordering::Relaxed);
            }
            return if sorted.stopping { Next::End } else { Next::Wait };
        };
        *turn = lane;
        self.fill(&mut sorted.lanes[lane], Lane::ALL[lane], now_ms, taken);
        self.whose.store(sorted.lanes.iter().map(Turns::keys).sum(), Ordering::Relaxed);
        self.send_looks(&mut sorted);
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

    /// What is left is for an idle thread.
    fn send_looks(&self, sorted: &mut Sorted) {
        let waits = |lanes: &[Turns<Whose, Waiter>]| lanes.iter().any(|lane| !lane.is_empty());
        if self.has_express && !sorted.look && waits(&sorted.lanes[..EXPRESS_LANES]) {
            sorted.look = self.express.sender.try_send(Job::Look).is_ok();
        }
        if waits(&sorted.lanes) {
            self.call_for_help();
        }
    }

    fn sort(&self, sorted: &mut Sorted, receiver: &Receiver<Job>) {
        receiver.try_iter().for_each(|job| self.sort_one(sorted, job));
    }

    fn sort_one(&self, sorted: &mut Sorted, job: Job) {
        match job {
            Job::Wait(lane, whose, waiter) => sorted.lanes[lane as usize].push(whose, waiter),
            // The thread that took it looks at the lanes now, and sends another one if need be.
            Job::Look => sorted.look = false,
            Job::Help => {}
            Job::Stop => sorted.stopping = true,
        }
    }

    /// Waits until something comes.
    pub(super) fn wait(&self, express: bool) {
        let door = if express { &self.express } else { &self.general };
        // A door has its sender here, so something comes.
        if let Ok(job) = door.receiver.recv() {
            self.sort_one(&mut self.sorted.lock(), job);
        }
    }

    /// Refuses what came too late for the threads.
    pub(super) fn refuse_all(&self, replies: &dyn Replies) {
        let mut refused = Vec::new();
        {
            let mut sorted = self.sorted.lock();
            self.sort(&mut sorted, &self.express.receiver);
            self.sort(&mut sorted, &self.general.receiver);
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
        // The rest was sorted by a thread that is busy now; a word about it waits at the door.
        queue.wait(true);
        assert_eq!(take(&queue, true, &mut turn, 0), (Next::Work, 300 - READS_GATHERED_MAX, 0));
        queue.stop();
        assert_eq!(take(&queue, true, &mut turn, 0), (Next::End, 0, 0));
        assert_eq!(take(&queue, false, &mut turn, 0), (Next::Work, 1, 0), "what is queued is done");
        assert_eq!(take(&queue, false, &mut turn, 0), (Next::End, 0, 0));
    }

    #[test]
    fn others_are_called_for_what_is_urgent_while_the_express_thread_is_at_work() {
        let queue = ReadQueue::new(1000, true, Clock::start());
        let (mut turn, mut others) = (0, 0);
        let open = |n| queue.ask(ticket(n), Read::Open { user: user(3) }).expect("a place");
        open(0);
        assert_eq!(queue.general.receiver.len(), 0, "one thread is woken for it");
        assert_eq!(take(&queue, true, &mut turn, 0), (Next::Work, 1, 0));
        (1..=3).for_each(open);
        assert_eq!(queue.general.receiver.len(), 1, "one call for all three");
        queue.wait(false);
        assert_eq!(take(&queue, false, &mut others, 0), (Next::Work, 3, 0));
        open(4);
        assert_eq!(queue.general.receiver.len(), 1, "it calls again");
        // The first thread is back before anybody has heard of it.
        queue.wait(true);
        assert_eq!(take(&queue, true, &mut turn, 0), (Next::Work, 1, 0));
        queue.wait(false);
        assert_eq!(take(&queue, false, &mut others, 0), (Next::Wait, 0, 0));
        assert_eq!(take(&queue, true, &mut turn, 0), (Next::Wait, 0, 0));
        open(5);
        assert_eq!((queue.general.receiver.len(), queue.express.receiver.len()), (0, 1), "it waits for work again");
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

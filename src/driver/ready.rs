//! Which connections may have bytes for us, in which order they are read, and how much of a turn
//! each of them gets.
//!
//! Owns: the lists of connections that are to be read, what a connection has brought lately
//! ([`Recent`]), the quantum of one connection, and the [`Share`] of one part of a turn. `light` is
//! read first, as far as its share of a turn goes, and those sooner that have brought less lately:
//! a heartbeat is never behind a hundred connections that send all the time, although none of these
//! sends much at once. `heavy` is whoever used up the quantum: they get a small share of each turn,
//! one after the other. So a flooder shares with flooders, and while it is not read its bytes stay
//! in the kernel, which slows its sender.
//! Never: keeps anything of a connection that is on no list; what is kept in the connection itself
//! is one byte.
//! Bounds: each connection stands on one list once at most (`Conn::listed`).

use std::collections::VecDeque;

use crate::ids::ConnId;
use crate::limits::{QUANTUM_BYTES, QUANTUM_BYTES_MIN, QUANTUM_FRAMES, QUANTUM_HEAVY_BYTES, RECENT_MS};

/// What one connection may bring in one turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Quantum {
    /// Bytes that are read from its socket.
    pub(super) bytes: usize,
    /// Frames that are decoded: each message, fragment and control frame is one.
    pub(super) frames: u32,
}

/// What a connection has brought lately, in one byte: an amount, and in which window of
/// [`RECENT_MS`] it was brought last. With each window that passes the amount is halved. The
/// windows are counted modulo eight, so that whoever comes back after just so many is taken for
/// busier than it is, for one visit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Recent(u8);

/// Bits of [`Recent`] for the amount.
const AMOUNT_BITS: u32 = 5;
/// The amount of whoever used up the quantum; what is counted ends one below.
const USED_UP: u8 = (1 << AMOUNT_BITS) - 1;
/// Units of work, as a pace counts them, that are one of the amount: a post.
const UNITS: u64 = 4;
/// What [`Recent::add_hasty`] counts at least: one level above connections that say two or three
/// things in a window.
const HASTY_UNITS: u64 = 4 * UNITS;

impl Recent {
    const fn window(now_ms: u64) -> u8 {
        (now_ms / RECENT_MS) as u8 & (u8::MAX >> AMOUNT_BITS)
    }

    const fn amount(self, now_ms: u64) -> u8 {
        let passed = Self::window(now_ms).wrapping_sub(self.0 >> AMOUNT_BITS) & (u8::MAX >> AMOUNT_BITS);
        (self.0 & USED_UP) >> passed
    }

    const fn set(&mut self, now_ms: u64, amount: u8) {
        self.0 = Self::window(now_ms) << AMOUNT_BITS | amount;
    }

    /// The connection has brought work of so many units, at least one.
    pub(super) fn add(&mut self, now_ms: u64, units: u64) {
        let more = u8::try_from(units.div_ceil(UNITS)).unwrap_or(USED_UP).max(1);
        // Whoever has used up the quantum and does not do so any more is like the busiest of the
        // others.
        self.set(now_ms, self.amount(now_ms).saturating_add(more).min(USED_UP - 1));
    }

    /// The connection has brought work of so many units, and has more than a short quantum had room
    /// for: it stands behind those that say something now and then, at once and not after it has
    /// brought as much as they do in a while.
    pub(super) fn add_hasty(&mut self, now_ms: u64, units: u64) {
        self.add(now_ms, units.max(HASTY_UNITS));
    }

    /// The connection has said something that goes to everybody: it stands behind all that did not
    /// use up their quantum. Its share of visits says little of its share of the work, which one
    /// message makes for hundreds of others.
    pub(super) fn add_for_all(&mut self, now_ms: u64) {
        self.add(now_ms, u64::MAX);
    }

    /// The connection has used up its quantum.
    pub(super) const fn use_up(&mut self, now_ms: u64) {
        self.set(now_ms, USED_UP);
    }

    /// Whether the connection used up its quantum when it was read last.
    pub(super) const fn is_heavy(self) -> bool {
        self.0 & USED_UP == USED_UP
    }

    /// How busy the connection is: from 0, for one that has brought nothing lately, to [`LEVELS`] -
    /// 1.
    pub(super) const fn level(self, now_ms: u64) -> usize {
        (u8::BITS - self.amount(now_ms).leading_zeros()) as usize
    }
}

/// The level of the busiest.
pub(super) const LAST_LEVEL: usize = LEVELS - 1;
/// See [`Recent::level`].
const LEVELS: usize = AMOUNT_BITS as usize + 1;

impl Quantum {
    /// Whether it is what a connection may bring when there is room: whoever has more than that is
    /// heavy.
    pub(super) const fn is_whole(self) -> bool {
        self.bytes >= QUANTUM_BYTES
    }
}

/// Connections that wait, by [`Recent::level`]. Half of the turns are for those that have brought
/// nothing lately, a quarter for the next level, an eighth for the one after it, and so on; what a
/// level does not use is for those that have brought least. A level gives the one that came last
/// and the one that came first by turns: so a heartbeat waits for a few visits, however many are
/// busy, and also when thousands begin at once, of whom nothing is known yet; and none waits for
/// ever.
#[derive(Default)]
pub(super) struct Levels {
    lists: [VecDeque<ConnId>; LEVELS],
    turns: u32,
}

impl Levels {
    /// Puts a connection at the end of its level.
    pub(super) fn put(&mut self, id: ConnId, level: usize) {
        if let Some(list) = self.lists.get_mut(level) {
            list.push_back(id);
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Option<ConnId> {
        self.turns = self.turns.wrapping_add(1);
        // 0 1 0 2 0 1 0 3 0 1 …; the last level has what is left.
        let level = (self.turns.trailing_zeros() as usize).min(LAST_LEVEL);
        // Which of its turns this is: the level's number in binary stands below.
        let newest = self.turns >> (level + 1) & 1 == 0;
        let pop = if newest { VecDeque::pop_back } else { VecDeque::pop_front };
        let of_turn = self.lists.get_mut(level).and_then(pop);
        of_turn.or_else(|| self.lists.iter_mut().find_map(VecDeque::pop_front))
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.lists.iter().map(VecDeque::len).sum()
    }
}

/// The connections that are to be read.
#[derive(Default)]
pub(super) struct Ready {
    light: Levels,
    heavy: VecDeque<ConnId>,
    /// Whether a light one has its turn among the heavy.
    light_next: bool,
    /// By how many halves the quantum of a light connection is smaller now.
    halves: u32,
}

/// As often as the quantum can be halved.
const HALVES_MAX: u32 = (QUANTUM_BYTES / QUANTUM_BYTES_MIN).ilog2();

impl Ready {
    /// Puts a connection at the end of its list.
    pub(super) fn put(&mut self, id: ConnId, recent: Recent, now_ms: u64) {
        if recent.is_heavy() {
            self.heavy.push_back(id);
        } else {
            self.light.put(id, recent.level(now_ms));
        }
    }

    /// Whether none is to be read.
    pub(super) fn is_empty(&self) -> bool {
        self.heavy.is_empty() && self.light() == 0
    }

    /// How many light ones wait.
    pub(super) fn light(&self) -> usize {
        self.light.len()
    }

    /// How many heavy ones wait.
    pub(super) fn heavy(&self) -> usize {
        self.heavy.len()
    }

    /// The next light one.
    pub(super) fn next_light(&mut self) -> Option<ConnId> {
        self.light.next()
    }

    /// The next one for the share of the heavy: a heavy one and, if the light ones did not fit into
    /// their share, one of these in turn.
    pub(super) fn next_heavy(&mut self) -> Option<ConnId> {
        self.light_next = !self.light_next;
        if self.light_next {
            self.light.next().or_else(|| self.heavy.pop_front())
        } else {
            self.heavy.pop_front().or_else(|| self.light.next())
        }
    }

    /// What a light connection may bring now. As soon as the light ones do not fit into their share
    /// of a turn it is as small as it may be, so that each of them is soon known for what it
    /// brings; then it grows again, turn by turn. A thousand that begin to flood at once hold up
    /// the others only for as long as they are new.
    pub(super) const fn quantum(&self) -> Quantum {
        Quantum { bytes: QUANTUM_BYTES >> self.halves, frames: QUANTUM_FRAMES >> self.halves }
    }

    /// What a heavy one may bring each time that it has its turn: little, because what is read and
    /// not decoded yet is memory.
    pub(super) const fn heavy_quantum() -> Quantum {
        Quantum { bytes: QUANTUM_HEAVY_BYTES, frames: QUANTUM_FRAMES }
    }

    /// The light ones have had their share of a turn; whether all that waited were read.
    pub(super) const fn end_light(&mut self, all: bool) {
        if all {
            self.halves = self.halves.saturating_sub(1);
        } else {
            self.halves = HALVES_MAX;
        }
    }
}

/// What one part of a turn may still take: so many bytes, so many steps (frames, messages, sends),
/// so much time. Looking at the clock costs as much as a small frame, so it is looked at now and
/// then.
pub(super) struct Share {
    bytes: usize,
    steps: u32,
    micros: u64,
    /// In nanoseconds of the clock: known when it was looked at for the first time, so that a short
    /// turn need not look.
    end_ns: Option<u64>,
    /// Work since the clock was looked at.
    unlooked: u32,
    spent: bool,
}

/// Steps between two looks at the clock. The dearest step takes some 20 microseconds.
const LOOK_STEPS: u32 = 32;
/// Bytes that count like a step: the kernel takes a microsecond for so many.
const STEP_BYTES: usize = 4096;

impl Share {
    /// So many bytes and steps, and so many microseconds from the first look at the clock on.
    pub(super) const fn new(bytes: usize, steps: u32, micros: u64) -> Self {
        Self { bytes, steps, micros, end_ns: None, unlooked: 0, spent: false }
    }

    /// Begins now, at `now_ns`. Answers when it is over.
    pub(super) fn begin(&mut self, now_ns: u64) -> u64 {
        *self.end_ns.insert(now_ns + self.micros * 1000)
    }

    /// What of `quantum` the share still has.
    pub(super) fn cut(&self, quantum: Quantum) -> Quantum {
        Quantum { bytes: quantum.bytes.min(self.bytes), frames: quantum.frames.min(self.steps) }
    }

    /// Takes away what a connection has used. Each visit is a step at least, and four more for its
    /// system call.
    pub(super) const fn take(&mut self, bytes: usize, steps: u32) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.steps = self.steps.saturating_sub(if steps == 0 { 1 } else { steps });
        self.unlooked = self.unlooked.saturating_add(steps + 4 + (bytes / STEP_BYTES) as u32);
    }

    /// Whether nothing is left; `clock` tells the time in nanoseconds.
    pub(super) fn is_spent(&mut self, clock: impl FnOnce() -> u64) -> bool {
        if self.unlooked >= LOOK_STEPS {
            self.unlooked = 0;
            let now_ns = clock();
            match self.end_ns {
                Some(end_ns) => self.spent |= now_ns >= end_ns,
                None => {
                    self.begin(now_ns);
                }
            }
        }
        self.spent || self.bytes == 0 || self.steps == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{TURN_HEAVY_BYTES_MAX, TURN_HEAVY_FRAMES_MAX};

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    /// A driver without sockets: what each connection has waiting, and what it has brought.
    struct Sockets {
        waiting: Vec<u32>,
        recent: Vec<Recent>,
        now_ms: u64,
    }

    impl Sockets {
        fn new(waiting: Vec<u32>) -> Self {
            let recent = vec![Recent::default(); waiting.len()];
            Self { waiting, recent, now_ms: 0 }
        }

        fn list(&self, slot: u32, ready: &mut Ready) {
            ready.put(conn(slot), self.recent[slot as usize], self.now_ms);
        }

        fn visit(&mut self, id: ConnId, quantum: Quantum, whole: bool, share: &mut Share, ready: &mut Ready) -> u32 {
            let at = id.slot as usize;
            let taken = self.waiting[at].min(quantum.frames);
            self.waiting[at] -= taken;
            share.take(0, taken);
            let recent = &mut self.recent[at];
            if taken == quantum.frames && (quantum.is_whole() || whole) {
                recent.use_up(self.now_ms);
            } else if taken == quantum.frames {
                recent.add_hasty(self.now_ms, u64::from(taken) * UNITS);
            } else if taken > 0 {
                recent.add(self.now_ms, u64::from(taken) * UNITS);
            }
            if taken == quantum.frames {
                self.list(id.slot, ready);
            }
            taken
        }

        /// One turn as the driver does it. Answers the order in which connections were read, and
        /// how many frames were.
        fn turn(&mut self, ready: &mut Ready, most: u32) -> (Vec<u32>, u32) {
            let (mut order, mut frames) = (Vec::new(), 0);
            let mut share = Share::new(usize::MAX, most, 1);
            let mut all = true;
            for _ in 0..ready.light() {
                if share.is_spent(|| 0) {
                    all = false;
                    break;
                }
                let Some(id) = ready.next_light() else { break };
                order.push(id.slot);
                frames += self.visit(id, ready.quantum(), false, &mut share, ready);
            }
            ready.end_light(all);
            let mut share = Share::new(TURN_HEAVY_BYTES_MAX, TURN_HEAVY_FRAMES_MAX, 1);
            while !share.is_spent(|| 0) {
                let Some(id) = ready.next_heavy() else { break };
                order.push(id.slot);
                let quantum = share.cut(Ready::heavy_quantum());
                frames += self.visit(id, quantum, true, &mut share, ready);
            }
            (order, frames)
        }
    }

    const FLOODERS: u32 = 1000;
    const MOST: u32 = 3072;

    #[test]
    fn flooders_share_with_flooders_and_the_others_are_read_first_in_each_turn() {
        let mut ready = Ready::default();
        let mut sockets = Sockets::new(vec![u32::MAX / 2; FLOODERS as usize + 1]);
        (0..FLOODERS).for_each(|slot| sockets.list(slot, &mut ready));
        // Until each of them is known for what it brings.
        let mut turns = 0;
        while ready.light.lists[0].len() + ready.light.lists[1].len() > 0 {
            sockets.turn(&mut ready, MOST);
            turns += 1;
        }
        assert!(turns <= 8, "{turns} turns");
        // And until all have had their turn among those that share what is left.
        while ready.light() > 0 {
            sockets.turn(&mut ready, MOST);
        }
        let before = sockets.waiting.clone();
        for n in 0..1000 {
            sockets.now_ms += 5;
            sockets.recent[FLOODERS as usize] = Recent::default();
            sockets.waiting[FLOODERS as usize] = 1;
            sockets.list(FLOODERS, &mut ready);
            let (order, frames) = sockets.turn(&mut ready, MOST);
            assert_eq!(order[0], FLOODERS, "turn {n}: a heartbeat does not wait for flooders");
            assert!(frames <= MOST + TURN_HEAVY_FRAMES_MAX + 2 * QUANTUM_FRAMES, "turn {n}: {frames} frames");
        }
        let left = &sockets.waiting;
        let taken = || before.iter().zip(left).take(FLOODERS as usize).map(|(before, left)| before - left);
        let (least, most) = (taken().min().expect("some"), taken().max().expect("some"));
        assert!(least > 0 && most - least <= 2 * QUANTUM_FRAMES, "they share alike: {least} to {most}");
    }

    #[test]
    fn a_thousand_who_send_a_little_all_the_time_do_not_hold_up_who_sends_now_and_then() {
        const LITTLE: u32 = 5;
        let mut ready = Ready::default();
        let mut sockets = Sockets::new(vec![0; FLOODERS as usize + 1]);
        let mut longest = 0;
        for n in 0..400 {
            // Less than any quantum, of so many that a turn has no room for all of them.
            for slot in 0..FLOODERS {
                if sockets.waiting[slot as usize] == 0 {
                    sockets.waiting[slot as usize] = LITTLE;
                    sockets.list(slot, &mut ready);
                }
            }
            let honest = n % 100 == 50;
            if honest {
                sockets.waiting[FLOODERS as usize] = 1;
                sockets.list(FLOODERS, &mut ready);
            }
            let (order, _) = sockets.turn(&mut ready, MOST / 2);
            sockets.now_ms += 6;
            if honest {
                longest = longest.max(order.iter().position(|&slot| slot == FLOODERS).unwrap_or(usize::MAX));
            }
        }
        assert!(longest <= 2, "{longest} were read before");
        assert!(ready.light() > 0, "there was more than could be read");
    }

    #[test]
    fn whoever_speaks_while_thousands_begin_is_read_soon_and_the_first_of_them_too() {
        let mut levels = Levels::default();
        (0..5000).for_each(|slot| levels.put(conn(slot), 0));
        for n in 0..100 {
            levels.put(conn(9000 + n), 0);
            let waited = (0..).find(|_| levels.next().is_none_or(|id| id == conn(9000 + n)));
            assert!(waited.is_some_and(|visits| visits <= 3), "number {n} waits for {waited:?} visits");
        }
        // A further one comes for each visit, and still the oldest are read.
        let (mut rest, mut next) = (4990, 10_000);
        while levels.lists[0].iter().any(|id| id.slot < 10) {
            levels.put(conn(next), 0);
            (rest, next) = (rest - 1, next + 1);
            levels.next();
            assert!(rest > 0, "the first ones wait for ever");
        }
    }

    #[test]
    fn each_level_has_a_part_of_the_turns_and_the_least_busy_the_largest() {
        let mut levels = Levels::default();
        for level in 0..LEVELS {
            (0..64).for_each(|n| levels.put(conn((100 * level + n) as u32), level));
        }
        let order: Vec<u32> = std::iter::from_fn(|| levels.next()).map(|id| id.slot).collect();
        assert_eq!((order.len(), levels.len()), (64 * LEVELS, 0));
        let parts: Vec<usize> =
            (0..LEVELS as u32).map(|level| order[..64].iter().filter(|&&slot| slot / 100 == level).count()).collect();
        assert_eq!(parts, [32, 16, 8, 4, 2, 2]);
    }

    #[test]
    fn who_has_said_something_does_not_wait_for_thousands_who_have_not() {
        let mut levels = Levels::default();
        (0..5000).for_each(|slot| levels.put(conn(slot), 0));
        (0..4).for_each(|n| levels.put(conn(6000 + n), 2));
        let last = std::iter::from_fn(|| levels.next()).position(|id| id.slot == 6003).expect("it is there");
        assert!(last < 40, "{last} before it");
    }

    #[test]
    fn what_was_brought_is_halved_with_each_window_and_forgotten() {
        let mut recent = Recent::default();
        assert_eq!((recent.level(0), recent.is_heavy()), (0, false));
        recent.add(0, 1);
        assert_eq!(recent.level(0), 1);
        recent.add(0, 7 * UNITS);
        assert_eq!([0, 1, 2, 3, 4].map(|n| recent.level(n * RECENT_MS)), [4, 3, 2, 1, 0]);
        (0..100).for_each(|_| recent.add(0, 1000 * UNITS));
        assert!(
            recent.level(0) == LAST_LEVEL && !recent.is_heavy(),
            "only a connection that leaves something behind is heavy"
        );
        recent.use_up(5 * RECENT_MS);
        assert!(recent.is_heavy() && recent.level(5 * RECENT_MS) == LAST_LEVEL);
        recent.add(6 * RECENT_MS, 1);
        assert!(!recent.is_heavy() && recent.level(6 * RECENT_MS) == 5);
    }

    #[test]
    fn who_stops_flooding_is_light_again() {
        let mut ready = Ready::default();
        let mut sockets = Sockets::new(vec![QUANTUM_FRAMES + 1]);
        sockets.list(0, &mut ready);
        sockets.turn(&mut ready, 10_000);
        assert_eq!((sockets.waiting[0], ready.is_empty()), (0, true), "the rest came in the heavy share");
        assert!(!sockets.recent[0].is_heavy());
    }

    #[test]
    fn the_quantum_shrinks_while_the_light_do_not_fit_and_grows_again() {
        let mut ready = Ready::default();
        let whole = ready.quantum();
        assert_eq!(whole, Quantum { bytes: QUANTUM_BYTES, frames: QUANTUM_FRAMES });
        (0..100).for_each(|_| ready.end_light(false));
        let least = ready.quantum();
        assert!(least.bytes == QUANTUM_BYTES_MIN && least.frames > 1, "{least:?}");
        (0..100).for_each(|_| ready.end_light(true));
        assert_eq!(ready.quantum(), whole);
    }

    #[test]
    fn whoever_speaks_to_all_is_behind_those_who_speak_often() {
        let (mut often, mut to_all) = (Recent::default(), Recent::default());
        (0..10).for_each(|_| often.add(0, UNITS));
        to_all.add_for_all(0);
        assert!(often.level(0) < to_all.level(0) && to_all.level(0) == LAST_LEVEL && !to_all.is_heavy());
        assert_eq!(to_all.level(8 * RECENT_MS - 1), 0, "it is forgotten within a second");
    }

    #[test]
    fn a_share_ends_by_bytes_by_steps_and_by_time() {
        let mut share = Share::new(10_000, 1000, 50);
        assert!(!share.is_spent(|| panic!("the clock is not looked at before there was work")));
        share.take(1_000, LOOK_STEPS);
        assert!(!share.is_spent(|| 7_000), "its time begins");
        share.take(1_000, LOOK_STEPS);
        assert!(!share.is_spent(|| 56_999));
        share.take(1_000, LOOK_STEPS);
        assert!(share.is_spent(|| 57_000) && share.is_spent(|| 0), "once spent, it stays so");
        let mut share = Share::new(10_000, 100, 50);
        assert_eq!(share.begin(7_000), 57_000, "or at once");
        share.take(10_000, 1);
        assert!(share.is_spent(|| 0));
        let mut share = Share::new(10_000, 100, 50);
        share.take(0, 100);
        assert!(share.is_spent(|| 0));
        let mut share = Share::new(10_000, 3, 50);
        (0..3).for_each(|_| share.take(0, 0));
        assert!(share.is_spent(|| 0), "a look in vain is a step as well");
    }
}

//! Which connections may have bytes for us, and how much of a turn each of them gets.
//!
//! Owns: the two lists of those who are to be read, the quantum of one connection, and the [`Share`] of one part of a turn.
//! `light` is read first, and whole as far as its share goes: newcomers, and everybody who left a part of the quantum unused
//! when it was read last. `heavy` is whoever used it up: they get a small share of each turn, one after the other. So a flooder
//! shares with flooders, and while it is not read its bytes stay in the kernel, which slows its sender.
//! Never: keeps anything of a connection that is on neither list.
//! Bounds: each connection stands on one list once at most (`Conn::listed`).

use std::collections::VecDeque;

use crate::ids::ConnId;
use crate::limits::{QUANTUM_BYTES, QUANTUM_BYTES_MIN, QUANTUM_FRAMES, QUANTUM_HEAVY_BYTES};

/// What one connection may bring in one turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Quantum {
    /// Bytes that are read from its socket.
    pub(super) bytes: usize,
    /// Frames that are decoded: each message, fragment and control frame is one.
    pub(super) frames: u32,
}

/// Those who are to be read.
#[derive(Default)]
pub(super) struct Ready {
    light: VecDeque<ConnId>,
    heavy: VecDeque<ConnId>,
    /// By how many halves the quantum of a light connection is smaller now.
    halves: u32,
}

/// As often as the quantum can be halved.
const HALVES_MAX: u32 = (QUANTUM_BYTES / QUANTUM_BYTES_MIN).ilog2();

impl Ready {
    /// Puts a connection at the end of its list.
    pub(super) fn put(&mut self, id: ConnId, heavy: bool) {
        if heavy {
            self.heavy.push_back(id);
        } else {
            self.light.push_back(id);
        }
    }

    /// Whether nobody is to be read.
    pub(super) fn is_empty(&self) -> bool {
        self.light.is_empty() && self.heavy.is_empty()
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
        self.light.pop_front()
    }

    /// The next heavy one.
    pub(super) fn next_heavy(&mut self) -> Option<ConnId> {
        self.heavy.pop_front()
    }

    /// What a light connection may bring now. While the light ones do not fit into their share of a turn it shrinks turn by turn,
    /// so that the busier ones among them become heavy and the others are all read in each turn; then it grows again.
    pub(super) const fn quantum(&self) -> Quantum {
        Quantum { bytes: QUANTUM_BYTES >> self.halves, frames: QUANTUM_FRAMES >> self.halves }
    }

    /// What a heavy one may bring each time that it has its turn: little, because what is read and not decoded yet is memory.
    pub(super) const fn heavy_quantum() -> Quantum {
        Quantum { bytes: QUANTUM_HEAVY_BYTES, frames: QUANTUM_FRAMES }
    }

    /// The light ones have had their share of a turn; whether all of those who waited were read.
    pub(super) const fn end_light(&mut self, all: bool) {
        if all {
            self.halves = self.halves.saturating_sub(1);
        } else if self.halves < HALVES_MAX {
            self.halves += 1;
        }
    }
}

/// What one part of a turn may still take: so many bytes, so many steps (frames, messages, sends), so much time. Looking at the
/// clock costs as much as a small frame, so it is looked at now and then.
pub(super) struct Share {
    bytes: usize,
    steps: u32,
    micros: u64,
    /// In nanoseconds of the clock: known when it was looked at for the first time, so that a short turn need not look.
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

    /// Takes away what somebody has used. Each visit is a step at least, and four more for its system call.
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

    /// One turn as the driver does it, without sockets: what each connection has waiting is taken from `waiting`. Answers the
    /// order in which they were read, and how many frames were.
    fn turn(ready: &mut Ready, waiting: &mut [u32], heavy: &mut [bool], most: u32) -> (Vec<u32>, u32) {
        let (mut order, mut frames) = (Vec::new(), 0);
        let mut visit = |id: ConnId, quantum: Quantum, share: &mut Share, ready: &mut Ready, order: &mut Vec<u32>| {
            let at = id.slot as usize;
            let taken = waiting[at].min(quantum.frames);
            waiting[at] -= taken;
            heavy[at] = taken == quantum.frames;
            order.push(id.slot);
            frames += taken;
            share.take(0, taken);
            if heavy[at] {
                ready.put(id, true);
            }
        };
        let mut share = Share::new(usize::MAX, most, 1);
        let count = ready.light();
        let mut all = true;
        for _ in 0..count {
            if share.is_spent(|| 0) {
                all = false;
                break;
            }
            let Some(id) = ready.next_light() else { break };
            let quantum = ready.quantum();
            visit(id, quantum, &mut share, ready, &mut order);
        }
        ready.end_light(all);
        let mut share = Share::new(TURN_HEAVY_BYTES_MAX, TURN_HEAVY_FRAMES_MAX, 1);
        while !share.is_spent(|| 0) {
            let Some(id) = ready.next_heavy() else { break };
            let quantum = share.cut(Ready::heavy_quantum());
            visit(id, quantum, &mut share, ready, &mut order);
        }
        (order, frames)
    }

    #[test]
    fn flooders_share_with_flooders_and_the_others_are_read_first_in_each_turn() {
        const FLOODERS: u32 = 1000;
        const MOST: u32 = 3072;
        let mut ready = Ready::default();
        let mut waiting = vec![u32::MAX / 2; FLOODERS as usize + 1];
        let mut heavy = vec![false; FLOODERS as usize + 1];
        (0..FLOODERS).for_each(|slot| ready.put(conn(slot), false));
        // Until all of them are known as such.
        let mut turns = 0;
        while ready.light() > 0 {
            turn(&mut ready, &mut waiting, &mut heavy, MOST);
            turns += 1;
        }
        assert!(turns <= 64, "{turns} turns");
        let before = waiting.clone();
        for n in 0..1000 {
            waiting[FLOODERS as usize] = 1;
            ready.put(conn(FLOODERS), false);
            let (order, frames) = turn(&mut ready, &mut waiting, &mut heavy, MOST);
            assert_eq!(order[0], FLOODERS, "turn {n}: who sends a heartbeat does not wait for flooders");
            assert!(frames <= TURN_HEAVY_FRAMES_MAX + 1, "turn {n}: {frames} frames");
        }
        let taken = || before.iter().zip(&waiting).take(FLOODERS as usize).map(|(before, left)| before - left);
        let (least, most) = (taken().min().expect("some"), taken().max().expect("some"));
        assert!(least > 0 && most - least <= 2 * QUANTUM_FRAMES, "they share alike: {least} to {most}");
    }

    #[test]
    fn who_stops_flooding_is_light_again() {
        let mut ready = Ready::default();
        let (mut waiting, mut heavy) = (vec![QUANTUM_FRAMES + 1], vec![false]);
        ready.put(conn(0), false);
        turn(&mut ready, &mut waiting, &mut heavy, 10_000);
        assert_eq!((waiting[0], heavy[0], ready.is_empty()), (0, false, true), "the rest came in the heavy share");
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

//! The policy of devices on several gateways, from seeds: sessions of one user come to any of them,
//! words between them take their time, and clocks differ.

use super::far::{one_of_several, words_told};
use super::*;
use crate::shard::DevicePolicy;
use crate::shard::far::{FarIn, FarWord};

const GATEWAYS: usize = 3;
const TICK_MS: u64 = 20;
/// What a word takes at most.
const WAY_MS: u64 = 40;
/// Which of two sessions is the newer one is nobody's promise if neither was known where the other
/// came.
const SAME_MS: u64 = 2 * WAY_MS + TICK_MS;

/// Vigna's splitmix64: <https://prng.di.unimi.it/splitmix64.c>.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// A session of the user.
#[derive(Debug)]
struct Came {
    at_ms: u64,
    open: bool,
}

struct Several {
    gateways: Vec<World>,
    chance: Chance,
    /// What is on its way: when it arrives, and where.
    lanes: Vec<VecDeque<(u64, FarIn)>>,
    came: Vec<Came>,
    total: usize,
    now_ms: u64,
    /// There is no bus.
    away: bool,
}

impl Several {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let total = 1 + chance.below(3) as usize;
        let gateway = |node: usize| {
            let (mut world, _) = one_of_several();
            for shard in &mut world.shards {
                shard.io.setup.devices = DevicePolicy { total, of_class: [total; 4] };
                shard.io.setup.node = NodeId(node as u16);
            }
            world.now.wall_ms += chance.below(4) * 7_000;
            world.far.clear();
            world
        };
        let mut gateways: Vec<World> = (0..GATEWAYS).map(gateway).collect();
        let first_ms = gateways.iter().map(|world| world.now.wall_ms).max().expect("there is one");
        for world in &mut gateways {
            let ms = first_ms - world.now.wall_ms;
            (0..usize::from(SHARDS)).for_each(|shard| world.step(shard, Event::Far(FarIn::Ahead { ms })));
        }
        let lanes = (0..GATEWAYS * GATEWAYS).map(|_| VecDeque::new()).collect();
        Self { gateways, chance, lanes, came: Vec::new(), total, now_ms: 0, away: false }
    }

    fn send(&mut self, from: usize, far: &FarIn) {
        if self.away {
            return;
        }
        for to in (0..GATEWAYS).filter(|to| *to != from) {
            let lane = &mut self.lanes[from * GATEWAYS + to];
            // Nothing overtakes what the same gateway has said before.
            let before = lane.back().map_or(0, |(due_ms, _)| *due_ms);
            lane.push_back((before.max(self.now_ms + self.chance.below(WAY_MS)), far.clone()));
        }
    }

    /// The bus goes, or comes again, and every gateway notices.
    fn set_away(&mut self, away: bool) {
        self.away = away;
        for world in &mut self.gateways {
            let alone = || Event::Far(FarIn::Alone { on: away });
            (0..usize::from(SHARDS)).for_each(|shard| world.step(shard, alone()));
        }
    }

    fn open(&mut self) {
        let gateway = self.chance.below(GATEWAYS as u64) as usize;
        self.open_at(gateway);
    }

    fn open_at(&mut self, gateway: usize) {
        self.came.push(Came { at_ms: self.now_ms, open: true });
        self.gateways[gateway].line(&format!("c{}: open", self.came.len() - 1));
        self.gateways[gateway].settle();
        self.send(gateway, &FarIn::Elsewhere { rows: [(user_of("c"), true)].into() });
        self.say(gateway);
    }

    /// Passes on what a gateway has told the others, and looks which sessions it has closed.
    fn say(&mut self, gateway: usize) {
        for word in words_told(&mut self.gateways[gateway]) {
            if let FarWord::Devices { .. } = word {
                self.send(gateway, &FarIn::Word(word));
            }
        }
        let trace = mem::take(&mut self.gateways[gateway].trace);
        for line in trace.lines() {
            let Some((name, "4502")) = line.trim().split_once(": close ") else { continue };
            let which: usize = name.trim_start_matches('c').parse().expect("a number");
            let at_ms = self.came[which].at_ms;
            self.came[which].open = false;
            let newer = self.came.iter().enumerate().filter(|(n, one)| *n != which && one.at_ms + SAME_MS >= at_ms);
            assert!(newer.count() >= self.total, "{name} is none too many of {}: {:?}", self.total, self.came);
        }
    }

    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.now_ms += TICK_MS;
            for to in 0..GATEWAYS {
                self.gateways[to].line(&format!("wait {TICK_MS}"));
                for from in 0..GATEWAYS {
                    let lane = from * GATEWAYS + to;
                    while self.lanes[lane].front().is_some_and(|(due_ms, _)| *due_ms <= self.now_ms) {
                        let (_, far) = self.lanes[lane].pop_front().expect("it is there");
                        let shard = usize::from(shard_of(user_of("c"), SHARDS).0);
                        self.gateways[to].step(shard, Event::Far(far));
                    }
                }
                self.gateways[to].settle();
                self.say(to);
            }
        }
    }
}

#[test]
fn as_many_of_the_newest_sessions_stay_as_may_wherever_they_are() {
    // SEEDS=1000 for more of them.
    let seeds = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    for seed in 0..seeds {
        let mut several = Several::new(seed);
        for _ in 0..10 {
            let ms = [TICK_MS, 200, 700, 2_500][several.chance.below(4) as usize];
            several.pass(ms);
            several.open();
        }
        several.pass(3 * limits::DEVICES_AGAIN_MS);
        let open = several.came.iter().filter(|one| one.open).count();
        assert_eq!(open, several.total, "seed {seed}: {:?}", several.came);
    }
}

/// Each of two gateways takes another session of a user who is on both, and no word of it arrives.
#[test]
fn what_came_while_the_bus_was_away_is_made_up_for() {
    for seed in 0..8 {
        let mut several = Several::new(seed);
        let total = several.total;
        (0..total).for_each(|n| several.open_at(n % 2));
        if total == 1 {
            // Both know of each other, and one is to go.
            several.open_at(1);
        }
        several.pass(3 * limits::DEVICES_AGAIN_MS);
        several.set_away(true);
        (0..2 * total).for_each(|n| several.open_at(n % 2));
        several.pass(3 * limits::DEVICES_AGAIN_MS);
        let open = |several: &Several| several.came.iter().filter(|one| one.open).count();
        assert!(open(&several) > total, "seed {seed}: {:?}", several.came);
        several.set_away(false);
        several.pass(limits::DEVICES_ANEW_MS + 3 * limits::DEVICES_AGAIN_MS);
        assert_eq!(open(&several), total, "seed {seed}: {:?}", several.came);
    }
}

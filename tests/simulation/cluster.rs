//! Several gateways that tell each other what they store: each a world of its own, with an exchange
//! as the thread of the cluster has it, and a bus between them that loses, doubles, delays, is deaf
//! to some, and goes away.
//!
//! Owns: the bus, the database's clock, which is not that of commits, and the order of turns. What
//! one gateway stores every session of the others is owed, within a time that does not depend on
//! what the bus does.

use std::collections::{BTreeMap, VecDeque};

use imgate::cluster::envelope::{Envelope, From, Item, To};
use imgate::cluster::exchange::{Exchange, In, Out, PlantedFault};
use imgate::ids::{ConvId, GroupId, NodeId, ShardId, UserId};
use imgate::limits::{
    CLUSTER_TICK_MS, DIGEST_ALONE_MS_MAX, DIGEST_ANSWER_MS, FAR_PATIENCE_MS, HINT_PACE_MS, PRESENCE_ASK_MS,
    PRESENCE_GONE_MS, RETRY_MS, TWIN_ANSWER_MS,
};
use imgate::shard::{DevicePolicy, Event, FarIn, FarSaid, FarWord, PlantedBug, Whom};
use imgate::store::memory::Memory;
use imgate::store::{Backend, Since};

use crate::plan::Plan;
use crate::random::Random;
use crate::trace::Trace;
use crate::world::{Checked, WALL_MS, World};

/// How long after its commit the last session has a message, whatever the bus does: a scan that was
/// just lost and the next one, what shards have no room for, and the reads that follow.
const OWED_MS: u64 = 2 * DIGEST_ALONE_MS_MAX + 20 * CLUSTER_TICK_MS + 10 * RETRY_MS + FAR_PATIENCE_MS;
/// Time in which everything else comes to its end.
const SETTLE_MS: u64 = 15_000 + DIGEST_ANSWER_MS;
/// Conversations in one page of a scan.
const PAGE: u32 = 3;
/// What a shard's queue takes while the storm lasts.
const FAR_QUEUE: usize = 12;

/// Of it, what only messages take.
const FAR_QUEUE_ROWS: usize = 4;

/// The room of all guests.
const ROOM: Whom = Whom::Group(GroupId::ROOM);

/// What a run has met.
pub(crate) const MET: [&str; 20] = [
    "rows on the bus",
    "rows handed on",
    "duplicates",
    "repairs by the digest",
    "holes",
    "refused by a full queue",
    "lost by the bus",
    "doubled by the bus",
    "stale envelopes",
    "failed scans",
    "late commits",
    "gap reads",
    "words heard",
    "words dropped",
    "users elsewhere",
    "guests heard",
    "guests not heard",
    "said to all",
    "said to some",
    "said to none",
];

/// What ails the bus for one gateway.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Line {
    Fine,
    /// It hears nothing.
    Deaf,
    /// It is not connected.
    Cut,
}

struct Gateway {
    world: World,
    exchange: Exchange,
    line: Line,
    scans: Vec<(u64, Since, u64)>,
    deaths: u64,
    tick_ms: u64,
    /// What guests of this gateway have said.
    said: u64,
    /// The last that was heard here of each other gateway's guests.
    heard: BTreeMap<u64, u64>,
}

struct Cluster {
    gateways: Vec<Gateway>,
    memory: Memory,
    /// From each gateway to each other one, in order.
    lanes: Vec<VecDeque<Envelope>>,
    random: Random,
    /// Of 1000 envelopes these are lost, and these doubled.
    loss: u64,
    doubling: u64,
    /// Of 1000 commits these have taken long.
    lateness: u64,
    calm: bool,
    /// No scan is answered.
    deaf_to_the_database: bool,
    fault: Option<PlantedFault>,
    met: [u64; MET.len()],
}

/// Runs the plans of a seed.
pub(crate) fn run(
    seed: u64,
    bug: Option<PlantedBug>,
    fault: Option<PlantedFault>,
    trace: &Trace,
) -> Result<[u64; MET.len()], String> {
    let mut cluster = Cluster::new(seed, bug, fault, trace)?;
    cluster.live()?;
    Ok(cluster.met())
}

impl Cluster {
    fn new(seed: u64, bug: Option<PlantedBug>, fault: Option<PlantedFault>, trace: &Trace) -> Result<Self, String> {
        let (memory, plans) = (Memory::new(), Plan::cluster(seed, bug));
        memory.set_clock(WALL_MS / 1000, WALL_MS / 1000);
        let mut random = Random::new(seed ^ 0x6275_7300);
        // Whether users have devices on several gateways; of a source of its own, so that the rest of
        // a seed is what it was.
        let spread = Random::new(seed ^ 0x7370_7264_0000).chance(500);
        let count = plans.len();
        let mut gateways = Vec::new();
        for (which, mut plan) in plans.into_iter().enumerate() {
            if spread {
                // Which of a user's devices give way is told between gateways, and the model judges
                // each gateway alone.
                plan.devices = DevicePolicy { total: 64, of_class: [64; 4] };
            }
            let mut world = World::on(&memory, plan, trace.clone())?;
            world.database.news = Some(Vec::new());
            world.paces.spread = spread;
            let users: Vec<_> = if spread {
                world.users.iter().copied().cycle().skip(which).take(world.users.len()).collect()
            } else {
                world.users.iter().copied().skip(which).step_by(count).collect()
            };
            for (n, client) in world.clients.iter_mut().enumerate() {
                client.user = users[n % users.len()];
            }
            let exchange = exchange(which, &world, random.bits(), fault);
            gateways.push(Gateway {
                world,
                exchange,
                line: Line::Fine,
                scans: Vec::new(),
                deaths: 0,
                tick_ms: 0,
                said: 0,
                heard: BTreeMap::new(),
            });
        }
        Ok(Self {
            gateways,
            memory,
            lanes: (0..count * count).map(|_| VecDeque::new()).collect(),
            loss: random.pick(&[0, 20, 300, 1000]),
            doubling: random.pick(&[0, 100]),
            lateness: random.pick(&[0, 200]),
            random,
            calm: false,
            deaf_to_the_database: false,
            fault,
            met: [0; MET.len()],
        })
    }

    fn live(&mut self) -> Checked {
        for which in 0..self.gateways.len() {
            self.hear(which, In::Bus { up: true })?;
            self.one(which, World::begin)?;
        }
        let moves: u32 = self.gateways.iter().map(|gateway| gateway.world.plan.moves).sum();
        for _ in 0..moves {
            self.step_once()?;
        }
        // Whoever waits for a slow store, or reads slowly, may be late; from here on all is well
        // but the bus.
        self.calm = true;
        for gateway in &mut self.gateways {
            gateway.world.calm = true;
        }
        self.settle(SETTLE_MS)?;
        self.check("after the storm")?;
        // With the bus as it is, something is said once more by everybody, and heard in time.
        for which in 0..self.gateways.len() {
            for client in 0..self.gateways[which].world.clients.len() {
                self.one(
                    which,
                    |world| if world.clients[client].link.is_none() { world.connect(client) } else { Ok(()) },
                )?;
            }
        }
        self.settle(SETTLE_MS)?;
        for which in 0..self.gateways.len() {
            for client in 0..self.gateways[which].world.clients.len() {
                self.one(which, |world| world.post(client))?;
            }
        }
        self.settle(OWED_MS)?;
        self.check("in time")?;
        self.say_what_may_be_lost()?;
        self.settle(2 * PRESENCE_ASK_MS)?;
        self.say_with_a_bus_that_loses_nothing()?;
        self.check_presence(0, "all are there")?;
        // One goes without a word. Its users are gone a little later.
        self.gateways[0].line = Line::Cut;
        self.hear(0, In::Bus { up: false })?;
        self.settle(PRESENCE_GONE_MS + 10 * CLUSTER_TICK_MS)?;
        self.check_presence(1, "one is gone")
    }

    /// Who is online on any of the gateways from `first` on is online on all of them.
    fn check_presence(&mut self, first: usize, when: &str) -> Checked {
        let mut online = std::collections::BTreeSet::new();
        for gateway in &mut self.gateways[first..] {
            gateway.world.ask_who_is_online();
            online.extend(gateway.world.who_is_here());
        }
        for which in first..self.gateways.len() {
            self.one(which, |world| world.settle(0))?;
        }
        for (which, gateway) in self.gateways.iter().enumerate().skip(first) {
            if let Some((user, said)) = gateway.world.not_online_as(&online) {
                return Err(format!("P11: gateway {which} says that {user:?} is online: {said}; {when}"));
            }
            self.met[14] += gateway.exchange.counts().elsewhere;
        }
        Ok(())
    }

    /// What may be lost is heard everywhere while all is well.
    fn say_what_may_be_lost(&mut self) -> Checked {
        self.loss = 0;
        let count = self.gateways.len();
        for which in 0..count {
            self.gateways[which].line = Line::Fine;
            self.hear(which, In::Bus { up: true })?;
        }
        self.settle(2 * TWIN_ANSWER_MS)?;
        for which in (0..count).chain(0..count) {
            self.guest_says(which)?;
        }
        self.settle(2 * CLUSTER_TICK_MS)?;
        for (which, gateway) in self.gateways.iter().enumerate() {
            for (other, guests) in self.gateways.iter().enumerate().filter(|(other, _)| *other != which) {
                if gateway.heard.get(&(other as u64)) != Some(&guests.said) {
                    return Err(format!("P13: gateway {which} has not heard the guests of gateway {other}"));
                }
            }
        }
        let users = self.gateways[0].world.users.clone();
        let hints = || users.iter().zip(1_000_000..).map(|(&user, id)| (user, id));
        for (at, (user, id)) in hints().enumerate() {
            // Through a gateway that is not the user's.
            self.one((at + 1) % count, |world| {
                world.hint_profile(user, id);
                Ok(())
            })?;
        }
        self.settle(2 * HINT_PACE_MS)?;
        for (which, gateway) in self.gateways.iter().enumerate() {
            if let Some((user, client)) =
                hints().find_map(|(user, id)| Some((user, gateway.world.unheard_hint(user, id)?)))
            {
                return Err(format!(
                    "P10: client {client} of gateway {which} has heard no hint at the profile of {user:?}"
                ));
            }
        }
        Ok(())
    }

    /// Users come again, and everybody says something: while the bus loses nothing, all is heard without a digest.
    fn say_with_a_bus_that_loses_nothing(&mut self) -> Checked {
        self.deaf_to_the_database = true;
        for which in 0..self.gateways.len() {
            // Those of one gateway go and come again, and meanwhile all others talk.
            for client in 0..self.gateways[which].world.clients.len() {
                self.one(which, |world| world.cut(client))?;
            }
            self.settle(5 * CLUSTER_TICK_MS)?;
            self.everybody_says_something()?;
            for client in 0..self.gateways[which].world.clients.len() {
                self.one(which, |world| world.connect(client))?;
            }
            self.settle(10 * CLUSTER_TICK_MS)?;
            self.everybody_says_something()?;
            self.settle(20 * CLUSTER_TICK_MS)?;
            self.check("without a digest").map_err(|why| format!("P12: users of gateway {which} have come: {why}"))?;
        }
        self.deaf_to_the_database = false;
        Ok(())
    }

    fn everybody_says_something(&mut self) -> Checked {
        for which in 0..self.gateways.len() {
            for client in 0..self.gateways[which].world.clients.len() {
                if self.gateways[which].world.clients[client].link.is_some() {
                    self.one(which, |world| world.post(client))?;
                }
            }
        }
        self.settle(5 * CLUSTER_TICK_MS)
    }

    fn check(&mut self, when: &str) -> Checked {
        for (which, gateway) in self.gateways.iter_mut().enumerate() {
            let checked = gateway.world.check_sessions();
            let (ms, line) = (gateway.world.now.mono_ms, gateway.line);
            checked.map_err(|why| format!("gateway {which}, {when}, {ms} ms, {line:?}: {why}"))?;
        }
        Ok(())
    }

    // ---- moves ----------------------------------------------------------------------------------

    fn step_once(&mut self) -> Checked {
        let which = self.random.index(self.gateways.len());
        match self.random.below(100) {
            0..50 => self.one(which, World::step_once),
            50..75 => self.deliver(),
            75..85 => self.answer_scan(which),
            85..96 => self.tick(which),
            96 => {
                // What is idle is forgotten.
                let node = self.random.index(self.gateways[which].world.nodes.len());
                self.one(which, |world| world.give(node, Event::Shed { bytes: 0 }))
            }
            97 => match self.random.chance(500) {
                true => self.hear(which, In::Lost),
                false => self.guest_says(which),
            },
            98 => {
                let line = self.random.pick(&[Line::Fine, Line::Fine, Line::Deaf, Line::Cut]);
                self.gateways[which].line = line;
                self.hear(which, In::Bus { up: line != Line::Cut })
            }
            _ => {
                // A gateway at the bus is slow for once.
                let ms = self.random.below(1500);
                self.pass_for_all(ms, None);
                Ok(())
            }
        }
    }

    /// Lets one gateway do something; the others hear of what was committed, and time passes for
    /// all.
    fn one(&mut self, which: usize, what: impl FnOnce(&mut World) -> Checked) -> Checked {
        let before_ms = self.gateways[which].world.now.mono_ms;
        let late_s = if !self.calm && self.random.chance(self.lateness) { self.random.below(5) } else { 0 };
        let now_s = (WALL_MS + before_ms) / 1000;
        self.memory.set_clock(now_s, now_s - late_s);
        let world = &mut self.gateways[which].world;
        what(world).map_err(|why| format!("gateway {which}, step {}, {} ms: {why}", world.step, world.now.mono_ms))?;
        let passed_ms = world.now.mono_ms - before_ms;
        let news = world.database.news.as_mut().map(std::mem::take).unwrap_or_default();
        self.met[10] += if late_s > 0 { news.len() as u64 } else { 0 };
        self.pass_for_all(passed_ms, Some(which));
        for (other, gateway) in self.gateways.iter_mut().enumerate().filter(|(other, _)| *other != which) {
            for (writes, written) in &news {
                let told = gateway.world.truth.elsewhere(gateway.world.step, writes, written);
                told.map_err(|why| format!("gateway {other}: {why}"))?;
            }
        }
        if self.gateways[which].world.deaths > self.gateways[which].deaths {
            self.restart(which)?;
        }
        let rows = std::mem::take(&mut self.gateways[which].world.far);
        if !rows.is_empty() {
            self.hear(which, In::Rows(rows))?;
        }
        let words = std::mem::take(&mut self.gateways[which].world.far_words);
        if words.is_empty() { Ok(()) } else { self.say(which, words) }
    }

    fn say(&mut self, which: usize, words: Vec<FarWord>) -> Checked {
        for other in (0..self.gateways.len()).filter(|other| *other != which) {
            let [one, two] = self.gateways.get_disjoint_mut([which, other]).map_err(|error| error.to_string())?;
            two.world.said_elsewhere(&one.world);
        }
        self.hear(which, In::Words(words))
    }

    /// A guest of a gateway says a number that nobody has said before.
    fn guest_says(&mut self, which: usize) -> Checked {
        let gateway = &mut self.gateways[which];
        gateway.said += 1;
        let (body, ts_ms) = (gateway.said.to_string().into(), which as u64);
        let conv = ConvId::Group(GroupId::ROOM);
        let said = FarSaid { conv, to_all: false, sender: UserId::GUEST, ts_ms, body };
        self.hear(which, In::Said(vec![Box::new(said)]))
    }

    fn pass_for_all(&mut self, ms: u64, but: Option<usize>) {
        for (which, gateway) in self.gateways.iter_mut().enumerate() {
            if Some(which) != but && ms > 0 {
                gateway.world.pass(ms);
            }
        }
    }

    /// The process has died and begins again; what was on its way to it is gone.
    fn restart(&mut self, which: usize) -> Checked {
        let boot = self.random.bits();
        let gateway = &mut self.gateways[which];
        self.met[3] += gateway.world.counted.iter().map(|tally| tally.digest_repairs).sum::<u64>();
        gateway.deaths = gateway.world.deaths;
        self.met[4] += gateway.exchange.counts().holes;
        gateway.exchange = exchange(which, &gateway.world, boot, self.fault);
        gateway.scans.clear();
        let up = gateway.line != Line::Cut;
        let count = self.gateways.len();
        for from in 0..count {
            self.lanes[from * count + which].clear();
        }
        self.hear(which, In::Bus { up })
    }

    /// Something happens to an exchange.
    fn hear(&mut self, which: usize, what: In) -> Checked {
        let gateway = &mut self.gateways[which];
        let world = &mut gateway.world;
        let here = &world.here;
        // There is always a guest.
        let is_here = |whom: Whom| whom == ROOM || here.get(&whom).is_some_and(|count| *count > 0);
        let mut out = Vec::new();
        world.trace.line(|| format!("gateway {which}: {what:?}"));
        gateway.exchange.step(world.now, what, &is_here, &mut out);
        let mut refused = Vec::new();
        let mut said = Vec::new();
        for one in out {
            if let Out::Give(_, FarIn::Said(one)) = &one {
                let (guest, number) = (one.ts_ms, one.body.parse::<u64>().map_err(|error| error.to_string())?);
                let before = gateway.heard.insert(guest, number).unwrap_or(0);
                if number <= before {
                    return Err(format!("P13: gateway {which} hears {number} of guest {guest} after {before}"));
                }
                self.met[15] += 1;
                self.met[16] += number - before - 1;
            }
            match one {
                Out::Publish(to, from, items) => said.push((to, from, items)),
                Out::Give(shard, far) => {
                    let queue = &mut world.nodes[usize::from(shard.0)].far;
                    let most = if matches!(far, FarIn::Row(_)) { FAR_QUEUE } else { FAR_QUEUE - FAR_QUEUE_ROWS };
                    if !self.calm && queue.len() >= most {
                        self.met[5] += 1;
                        refused.push((shard, far));
                    } else {
                        queue.push_back(far);
                    }
                }
                // Nobody changes anything through a control plane here.
                Out::Look => {}
                Out::Scan { scan, since, after } => gateway.scans.push((scan, since, after)),
            }
        }
        for (shard, far) in refused {
            let mut nothing = Vec::new();

            gateway.exchange.step(world.now, In::Refused(shard, far), &is_here, &mut nothing);
            if !nothing.is_empty() {
                return Err(format!("contract: gateway {which} wants something when a shard is full: {nothing:?}"));
            }
        }
        for (to, from, items) in said {
            self.send(which, to, from, &items);
        }
        Ok(())
    }

    // ---- the bus --------------------------------------------------------------------------------

    fn send(&mut self, which: usize, address: To, from: From, items: &[Item]) {
        self.met[0] += items.iter().filter(|item| matches!(item, Item::Row(_))).count() as u64;
        let count = self.gateways.len();
        let is_for = |to: usize| to != which && (address == To::All || address == To::Node(node_of(to)));
        for to in (0..count).filter(|to| is_for(*to)) {
            let lost = self.random.chance(self.loss) || self.gateways[which].line == Line::Cut;
            self.met[6] += u64::from(lost);
            let times = if lost { 0 } else { 1 + usize::from(self.random.chance(self.doubling)) };
            self.met[7] += u64::from(times > 1);
            for _ in 0..times {
                let envelope = Envelope { from, to: address, items: items.to_vec(), unknown: 0 };
                self.lanes[which * count + to].push_back(envelope);
            }
        }
    }

    /// One envelope reaches one gateway.
    fn deliver(&mut self) -> Checked {
        let busy: Vec<usize> = (0..self.lanes.len()).filter(|&lane| !self.lanes[lane].is_empty()).collect();
        if busy.is_empty() {
            return Ok(());
        }
        let lane = self.random.pick(&busy);
        let to = lane % self.gateways.len();
        let Some(envelope) = self.lanes[lane].pop_front() else { return Ok(()) };
        if self.gateways[to].line == Line::Fine { self.hear(to, In::Heard(envelope)) } else { Ok(()) }
    }

    // ---- the database ---------------------------------------------------------------------------

    fn answer_scan(&mut self, which: usize) -> Checked {
        let gateway = &mut self.gateways[which];
        if gateway.scans.is_empty() {
            return Ok(());
        }
        let (scan, since, after) = gateway.scans.remove(0);
        let world = &mut gateway.world;
        let now_s = (WALL_MS + world.now.mono_ms) / 1000;
        self.memory.set_clock(now_s, now_s);
        let fails = !self.calm && (world.now.mono_ms < world.outage.0 || self.random.chance(world.plan.read_failures));
        self.met[9] += u64::from(fails);
        let answer = world.database.backend.recent(since, after, PAGE).ok().filter(|_| !fails);
        self.hear(which, In::Scanned { scan, answer })
    }

    fn tick(&mut self, which: usize) -> Checked {
        self.gateways[which].tick_ms = self.gateways[which].world.now.mono_ms + CLUSTER_TICK_MS;
        let arrivals: Vec<_> = std::mem::take(&mut self.gateways[which].world.arrivals).into_iter().collect();
        if !arrivals.is_empty() {
            self.hear(which, In::Arrivals(arrivals))?;
        }
        let members: Vec<_> = std::mem::take(&mut self.gateways[which].world.members).into_iter().collect();
        if !members.is_empty() {
            self.hear(which, In::MembersCame(members))?;
        }
        self.hear(which, In::Tick)?;
        for shard in (0..self.gateways[which].world.plan.shards).map(ShardId) {
            let waiting = self.gateways[which].world.nodes[usize::from(shard.0)].far.len();
            let room = (FAR_QUEUE - FAR_QUEUE_ROWS).saturating_sub(waiting);
            if self.gateways[which].exchange.waits_for(shard) && room > 0 {
                self.hear(which, In::Room(shard, room))?;
            }
        }
        Ok(())
    }

    // ---- the calm -------------------------------------------------------------------------------

    /// `ms` pass, in steps of a tick, in which everybody does everything that can be done.
    fn settle(&mut self, ms: u64) -> Checked {
        for _ in 0..ms.div_ceil(CLUSTER_TICK_MS) {
            for which in 0..self.gateways.len() {
                self.tick(which)?;
                while !self.deaf_to_the_database && !self.gateways[which].scans.is_empty() {
                    self.answer_scan(which)?;
                }
            }
            while self.lanes.iter().any(|lane| !lane.is_empty()) {
                self.deliver()?;
            }
            for which in 0..self.gateways.len() {
                self.one(which, |world| world.settle(0))?;
            }
            self.pass_for_all(CLUSTER_TICK_MS / 2, None);
            for which in 0..self.gateways.len() {
                self.one(which, |world| world.settle(0))?;
            }
            self.pass_for_all(CLUSTER_TICK_MS / 2, None);
        }
        Ok(())
    }

    fn met(mut self) -> [u64; MET.len()] {
        for gateway in &mut self.gateways {
            let counts = gateway.exchange.counts();
            self.met[4] += counts.holes;
            self.met[8] += counts.stale;
            self.met[12] += counts.words_in;
            self.met[13] += counts.words_dropped;
            for (at, count) in [(17, counts.to_all), (18, counts.to_nodes), (19, counts.to_none)] {
                self.met[at] += count;
            }
            for node in &mut gateway.world.nodes {
                let tally = node.shard.tally();
                for (at, count) in
                    [(1, tally.far_rows), (2, tally.far_duplicates), (3, tally.digest_repairs), (11, tally.gap_reads)]
                {
                    self.met[at] += count;
                }
            }
        }
        self.met
    }
}

fn node_of(which: usize) -> u16 {
    u16::try_from(which).unwrap_or(0)
}

fn exchange(which: usize, world: &World, boot: u64, fault: Option<PlantedFault>) -> Exchange {
    Exchange::new(NodeId(node_of(which)), boot, world.plan.shards, world.now, fault)
}

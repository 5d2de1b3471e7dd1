//! What kind of world a seed makes: how many of everything, and how bad the weather is.
//!
//! Owns: [`Plan`], every number that shapes a run. The run itself draws its chances from the same seed.

use imgate::fair::Flow;
use imgate::limits::{OUTBOX_BUDGET_DEFAULT, OUTBOX_BYTES_MAX};
use imgate::shard::{DevicePolicy, PaceLimits, PlantedBug};

use crate::random::Random;

/// How one work of the store fails. A read that fails was not done, whatever is said here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// It is certainly not done.
    Refused,
    /// It is done, and nobody is told.
    Silent,
    /// It is not done, and nobody knows.
    Lost,
}

/// The shape of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What makes it.
    pub(crate) seed: u64,
    /// Its first chances, instead of those of the seed.
    pub(crate) tape: Vec<u8>,
    /// The rule that the shards break on purpose.
    pub(crate) bug: Option<PlantedBug>,
    /// Whether no message is stored.
    pub(crate) volatile: bool,
    /// Shards of the node.
    pub(crate) shards: u16,
    /// Store workers that write.
    pub(crate) writers: u16,
    /// Users.
    pub(crate) users: u64,
    /// Groups.
    pub(crate) groups: u64,
    /// Members of each at the start.
    pub(crate) group_size: u64,
    /// Clients (devices), dealt to the users in turn.
    pub(crate) clients: usize,
    /// Moves of the world before it calms down.
    pub(crate) moves: u32,
    /// The shards' outbox cap.
    pub(crate) outbox_bytes: usize,
    /// What all outboxes of the node may keep alive.
    pub(crate) outbox_budget: usize,
    /// Turns of 1000 that start with little room in the lanes.
    pub(crate) tight_rooms: u64,
    /// Commits of 1000 that are refused, done without an answer, lost without an answer.
    pub(crate) commits: [u64; 3],
    /// Reads of 1000 that fail.
    pub(crate) read_failures: u64,
    /// Weight of sockets that die.
    pub(crate) deaths: u64,
    /// Weight of sockets that stop taking bytes for a while, and whether some take few at a time.
    pub(crate) stalls: u64,
    /// One client stops taking bytes and does not begin again until all others are served.
    pub(crate) frozen: bool,
    /// Weight of rows that another gateway writes into the same database.
    pub(crate) foreign: u64,
    /// Weight of membership changes.
    pub(crate) joins: u64,
    /// Weight of users that are logged out or banned.
    pub(crate) evictions: u64,
    /// Weight of floods of commands from one client.
    pub(crate) floods: u64,
    /// Weight of floods of all that has no answer, and of posts, from the first user's devices.
    pub(crate) greed: u64,
    /// Weight of times in which the store fails altogether, one way or the other.
    pub(crate) outages: u64,
    /// Weight of silences in which homes forget their conversations.
    pub(crate) lulls: u64,
    /// Weight of crashes of the whole process; the store survives.
    pub(crate) crashes: u64,
    /// Weight of retention.
    pub(crate) trims: u64,
    /// How many devices of one user may be here at once.
    pub(crate) devices: DevicePolicy,
    /// How fast users may go.
    pub(crate) pace: PaceLimits,
    /// Which of several gateways on one database: all but the first find it filled.
    pub(crate) gateway: usize,
    /// They tell each other what they store.
    pub(crate) clustered: bool,
    /// The store's work of this number, counted from the start, fails, and how.
    pub(crate) fault: Option<(u64, Failure)>,
    /// Strangers who have each written one message to the first user before the run: more conversations than one page lists.
    pub(crate) crowd: u64,
    /// How long the messages of a busy group may wait.
    pub(crate) coalesce_ms: u32,
}

impl Plan {
    /// The plan of a seed. Each kind of trouble is absent in some seeds, so that what the others hide can show.
    pub(crate) fn new(seed: u64, volatile: bool, bug: Option<PlantedBug>) -> Self {
        let mut random = Random::new(seed ^ 0x0070_6c61_6e00);
        let users = random.between(2, 7);
        let faulty = random.chance(600);
        let mut fault = |most: u64| if faulty { random.between(0, most) } else { 0 };
        let commits = [fault(120), fault(120), fault(80)];
        let read_failures = fault(200);
        let stalls = random.pick(&[0, 8, 20]);
        let outbox_bytes = random.pick(&[512, 700, 1024, 4096, OUTBOX_BYTES_MAX]);
        Self {
            seed,
            tape: Vec::new(),
            bug,
            volatile,
            shards: random.pick(&[1, 2, 3, 5]),
            writers: random.pick(&[1, 2, 3]),
            users,
            groups: random.between(1, 3),
            group_size: random.between(1, users),
            clients: usize::try_from(users).unwrap_or(2) + random.index(8),
            moves: u32::try_from(random.between(400, 1800)).unwrap_or(400),
            outbox_bytes,
            tight_rooms: random.pick(&[0, 0, 300, 800]),
            commits,
            read_failures,
            deaths: random.pick(&[0, 3, 8]),
            stalls,
            frozen: random.chance(250),
            foreign: if volatile { 0 } else { random.pick(&[0, 0, 0, 0, 0, 0, 0, 4]) },
            joins: if volatile { 0 } else { random.pick(&[0, 6, 20]) },
            evictions: random.pick(&[0, 0, 2]),
            floods: random.pick(&[0, 0, 2]),
            outages: if faulty { random.pick(&[0, 1]) } else { 0 },
            lulls: random.pick(&[0, 0, 1]),
            crashes: if volatile { 0 } else { random.pick(&[0, 0, 1]) },
            trims: if volatile { 0 } else { random.pick(&[0, 0, 0, 4]) },
            devices: random.pick(&[
                DevicePolicy { total: 64, of_class: [64; 4] },
                DevicePolicy { total: 64, of_class: [64; 4] },
                DevicePolicy { total: 3, of_class: [1, 3, 3, 3] },
                DevicePolicy { total: 2, of_class: [2, 1, 2, 1] },
            ]),
            greed: Random::new(seed ^ 0x6772_6565_6400).pick(&[0, 0, 3]),
            pace: pace(&mut Random::new(seed ^ 0x7061_6365_0000)),
            gateway: 0,
            clustered: false,
            fault: None,
            crowd: if !volatile && random.chance(30) { 230 } else { 0 },
            outbox_budget: random.pick(&[
                OUTBOX_BUDGET_DEFAULT,
                OUTBOX_BUDGET_DEFAULT,
                OUTBOX_BUDGET_DEFAULT,
                40_000,
                8000,
            ]),
            coalesce_ms: random.pick(&[0, 0, 5, 20, 100]),
        }
    }

    /// A short run in which nothing of the store fails but what is asked for.
    pub(crate) fn short(seed: u64, fault: Option<(u64, Failure)>) -> Self {
        let calm = Self { commits: [0; 3], read_failures: 0, outages: 0, crashes: 0, ..Self::new(seed, false, None) };
        Self { moves: 400, crowd: 0, lulls: 0, fault, ..calm }
    }

    /// A run whose chances a fuzzer decides: of the two first bytes the shape is made, the others are its tape.
    pub(crate) fn taped(input: &[u8]) -> Option<Self> {
        let (seed, tape) = input.split_first_chunk()?;
        let plan = Self::new(u16::from_be_bytes(*seed).into(), seed[0] & 7 == 7, None);
        Some(Self { tape: tape.to_vec(), moves: plan.moves.min(500), crowd: 0, ..plan })
    }

    /// Two gateways on one database: nothing that they do not tell each other changes who may read and what is kept.
    pub(crate) fn pair(seed: u64) -> [Self; 2] {
        let one =
            |seed| Self { foreign: 0, joins: 0, evictions: 0, trims: 0, crowd: 0, ..Self::new(seed, false, None) };
        let (here, there) = (one(seed), one(seed ^ 0x7477_696e_0000));
        let (users, groups, group_size) = (here.users, here.groups, here.group_size);
        let clients = there.clients.max(2);
        [here, Self { gateway: 1, users, groups, group_size, clients, ..there }]
    }

    /// Several gateways that tell each other what they store. Homes forget what they like all the same.
    pub(crate) fn cluster(seed: u64, bug: Option<PlantedBug>) -> Vec<Self> {
        let mut random = Random::new(seed ^ 0x636c_7573_7465);
        let (gateways, users) = (random.between(2, 4), random.between(4, 7));
        let group_size = random.between(2, users);
        let one = |gateway: u64| {
            let plan = Self::new(seed ^ (gateway << 40), false, bug);
            let clients = plan.clients.clamp(2, 6);
            let gateway = usize::try_from(gateway).unwrap_or(0);
            let calm = Self { foreign: 0, joins: 0, evictions: 0, trims: 0, crowd: 0, greed: 0, floods: 0, ..plan };
            let small = Self { users, group_size, clients, groups: 1, moves: calm.moves.min(700), ..calm };
            Self { gateway, clustered: true, ..small }
        };
        (0..gateways).map(one).collect()
    }

    /// With this the content of this gateway's posts begins.
    pub(crate) const fn letter(&self) -> char {
        match self.gateway {
            0 => 'm',
            1 => 'w',
            2 => 'x',
            _ => 'y',
        }
    }

    /// Nothing in this plan makes a volatile message go missing.
    pub(crate) const fn gentle(&self) -> bool {
        self.stalls == 0
            && !self.frozen
            && self.tight_rooms == 0
            && self.floods == 0
            && self.outbox_bytes == OUTBOX_BYTES_MAX
            && self.outbox_budget == OUTBOX_BUDGET_DEFAULT
    }
}

/// Mostly the pace that a gateway has by itself, which nobody here reaches; sometimes one that
/// everybody who floods does. Of a source of its own, so that the rest of a seed is what it was.
fn pace(random: &mut Random) -> PaceLimits {
    let cost = random.pick(&[0, 2_000, 400]);
    let burst = random.pick(&[20, 100, 400]);
    let cost = Flow { per_second: cost, burst };
    let messages = Flow { per_second: random.pick(&[0, 0, 60]), burst };
    PaceLimits { user: [cost, messages, Flow::default()], guest: [Flow::default(); 3] }
}

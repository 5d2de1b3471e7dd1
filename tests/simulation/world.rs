//! The world around the shards: the driver, the lanes, the sockets and the clock, played in one thread.
//!
//! Owns: [`World`]. It obeys every effect at once, keeps the contract of `shard::event`, and notices when a shard breaks that of `shard::effect`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use imgate::auth::Key;
use imgate::clock::Now;
use imgate::ids::{ConnId, ConvId, GroupId, NodeId, ShardId, UserId};
use imgate::limits::{
    ANSWERS_PENDING_MAX, CLOSE_MS_MAX, DELIVER_BYTES_PER_LANE_MAX, DELIVER_MSGS_PER_LANE_MAX, WELCOME_MS_MAX,
};
use imgate::metrics::Tally;
use imgate::shard::{Answer, Effect, Effects, Event, FarIn, FarRow, FarWord, Notice, PeerMsg, Setup, Shard, Whom};
use imgate::store::memory::Memory;
use imgate::store::worker::Reply;
use imgate::store::{Backend, Read, ReadAnswer, Seed};
use imgate::wire::{CloseCode, Command, Echo, Profile, Reject, Target};

use crate::client::{Client, Link, Sent, Waiting};
use crate::connections::crowd;
use crate::database::{Database, Settled, Weather};
use crate::plan::Plan;
use crate::random::Random;
use crate::trace::Trace;
use crate::truth::Truth;
use crate::whispers::Whispers;
use crate::words::Paces;

/// The first broken promise, or nothing.
pub(crate) type Checked = Result<(), String>;

/// The conversation that a user's `target` names.
pub(crate) fn conv_of(user: UserId, target: Target) -> ConvId {
    match target {
        Target::User(other) => ConvId::direct(user, other),
        Target::Group(group) => ConvId::Group(group),
    }
}

/// What `user` calls one of its conversations.
pub(crate) fn target_of(user: UserId, conv: ConvId) -> Target {
    match conv {
        ConvId::Group(group) => Target::Group(group),
        ConvId::Direct { lo, hi } => Target::User(if lo == user { hi } else { lo }),
    }
}

/// Wall time at the start.
pub(crate) const WALL_MS: u64 = 1_800_000_000_000;
/// By how much the wall clock is set back at most.
pub(crate) const SET_BACK_MS_MAX: u64 = 3000;

/// One shard and its driver.
pub(crate) struct Node {
    pub(crate) shard: Shard,
    pub(crate) effects: Effects,
    /// By slot: the generation, and the client that holds it.
    pub(crate) slots: Vec<(u32, Option<usize>)>,
    /// One FIFO for each thread of the store.
    replies: Vec<VecDeque<(u32, Reply)>>,
    pub(crate) notices: VecDeque<(u64, Notice)>,
    /// What other gateways say to it.
    pub(crate) far: VecDeque<FarIn>,
    pub(crate) asks: BTreeSet<u32>,
    /// Of these, questions how far a conversation goes about which a user has said something.
    pub(crate) marks: BTreeMap<u32, (UserId, ConvId)>,
    /// What each user has spent lately of the messages that the pace allows, in thousandths, and
    /// when that was counted.
    spent: BTreeMap<UserId, (u64, u64)>,
    /// Deliveries that may still be sent to each other shard.
    pub(crate) rooms: Vec<(u32, usize)>,
    /// Something was said outside a turn.
    dirty: bool,
    /// Bytes kept alive at the last settlement.
    pub(crate) held: usize,
    /// The largest frame or batch that can have been queued.
    pub(crate) largest: usize,
}

/// A post, as its author knows it.
pub(crate) struct Post {
    pub(crate) client: usize,
    pub(crate) cid: Option<String>,
    pub(crate) target: Target,
    pub(crate) conv: ConvId,
    pub(crate) body: String,
    /// Times that a shard was given it, the step and the connection of the first.
    pub(crate) gives: u32,
    pub(crate) step: u64,
    pub(crate) serial: u64,
    /// Counts all first gives of the run: the order of one connection's posts.
    pub(crate) place: u64,
    pub(crate) acked: bool,
    pub(crate) busy: bool,
}

/// A notice of the control plane and what became of it.
pub(crate) struct Issued {
    pub(crate) notice: Notice,
    pub(crate) given_step: Option<u64>,
    pub(crate) answer: Option<Answer>,
}

/// What a user's shard must know of a membership.
#[derive(Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) outstanding: u32,
    /// The step of the last answer.
    pub(crate) changed_step: u64,
    /// The step of the last refusal, until a later notice is done: the store may have changed it and told nobody.
    pub(crate) doubt_step: Option<u64>,
}

/// Refusals and closes that clients have read, by code.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) refusals: BTreeMap<u16, u64>,
    pub(crate) legacy_refusals: u64,
    pub(crate) closes: BTreeMap<u16, u64>,
    /// Answers that can have been lost with a connection.
    pub(crate) lost: u64,
    pub(crate) notices_refused: u64,
    pub(crate) commands: [u64; 10],
}

/// What a whole run has met, crashes or not.
#[derive(Default)]
pub(crate) struct Sights {
    pub(crate) relays: u64,
    /// Sends of compressed batches.
    pub(crate) deflated: u64,
    pub(crate) lists: u64,
    pub(crate) pages: u64,
    pub(crate) longer: u64,
    pub(crate) cut: u64,
    pub(crate) replayed: u64,
    pub(crate) confirmed: u64,
    pub(crate) replaced: u64,
    pub(crate) trimmed: u64,
    pub(crate) words_refused: u64,
    pub(crate) overdrafts: u64,
    pub(crate) typings: u64,
    pub(crate) presences: u64,
    pub(crate) hints: u64,
    pub(crate) recalls: u64,
}

/// Everything.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) now: Now,
    skew_ms: u64,
    pub(crate) step: u64,
    pub(crate) calm: bool,
    pub(crate) closing_all: bool,
    /// The event under way tells a shard that the outboxes keep too much alive.
    pub(crate) overdrawn: bool,
    /// Until when the store fails, and how.
    pub(crate) outage: (u64, [u64; 3]),
    /// What the shards had counted when they crashed.
    pub(crate) counted: Vec<Tally>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) lanes: Vec<VecDeque<PeerMsg>>,
    pub(crate) database: Database,
    pub(crate) truth: Truth,
    pub(crate) users: Vec<UserId>,
    pub(crate) groups: Vec<GroupId>,
    pub(crate) epochs: BTreeMap<UserId, u32>,
    pub(crate) clients: Vec<Client>,
    pub(crate) posts: Vec<Post>,
    pub(crate) issued: BTreeMap<u64, Issued>,
    pub(crate) standings: BTreeMap<(GroupId, UserId), Standing>,
    pub(crate) seen: Seen,
    pub(crate) sights: Sights,
    pub(crate) whispers: Whispers,
    pub(crate) paces: Paces,
    pub(crate) trace: Trace,
    /// What shards have told other gateways, and for whom there are sessions here.
    #[expect(clippy::vec_box, reason = "as shards give them")]
    pub(crate) far: Vec<Box<FarRow>>,
    /// What may be lost, on its way to other gateways.
    pub(crate) far_words: Vec<FarWord>,
    /// Users that have come or gone, and how it stands.
    pub(crate) arrivals: BTreeMap<UserId, bool>,
    /// Groups of which a first member has come to a shard.
    pub(crate) members: BTreeSet<GroupId>,
    pub(crate) here: BTreeMap<Whom, u64>,
    /// Times that the process died.
    pub(crate) deaths: u64,
    pub(crate) serials: u64,
    places: u64,
    pub(crate) key: Key,
}

impl World {
    /// The world of a plan.
    pub(crate) fn new(plan: Plan, trace: Trace) -> Result<Self, String> {
        Self::on(&Memory::new(), plan, trace)
    }

    /// The world of a plan with its store in `memory`, which a first gateway on the same one has filled.
    pub(crate) fn on(memory: &Memory, plan: Plan, trace: Trace) -> Result<Self, String> {
        let mut random = Random::taped(plan.seed, &plan.tape);
        let mut database = Database::new(memory, plan.writers);
        let seed = Seed {
            users: plan.users + plan.crowd,
            groups: plan.groups,
            group_size: plan.group_size,
            created_ms: WALL_MS,
        };
        let seed = if plan.gateway > 0 { Seed { users: 0, ..seed } } else { seed };
        let mut seeded = database.backend.seed(&seed).map_err(|error| error.to_string())?;
        if plan.gateway > 0 {
            seeded.first_user = UserId::new(1).ok_or("simulation: no user")?;
            seeded.groups = (1..=plan.groups).filter_map(GroupId::new).collect();
        }
        let users: Vec<UserId> = (0..plan.users).filter_map(|i| UserId::new(seeded.first_user.get() + i)).collect();
        let mut truth = Truth::new(plan.letter());
        let all: Vec<UserId> =
            (0..plan.users + plan.crowd).filter_map(|i| UserId::new(seeded.first_user.get() + i)).collect();
        let mut owners = BTreeMap::new();
        for &group in &seeded.groups {
            let found = database.backend.groups().group(group).map_err(|error| error.to_string())?;
            owners.extend(found.map(|found| (group, found.owner)));
        }
        truth.found(&all, &owners);
        for &user in &all {
            let answers = database.backend.read(&[Read::Open { user }]).map_err(|error| error.to_string())?;
            let [ReadAnswer::Open(state)] = answers.as_slice() else {
                return Err("store: no answer to open".to_owned());
            };
            for &(group, since) in &state.groups {
                truth.founding_member(group, user, since.get());
            }
        }
        crowd(&plan, users[0], &all[users.len()..], &mut database, &mut truth)?;
        let shards = usize::from(plan.shards);
        let nodes = (0..plan.shards).map(|id| Node::new(&plan, id, random.bits())).collect();
        let clients = (0..plan.clients).map(|i| client(&mut random, users[i % users.len()])).collect();
        let lanes = (0..shards * shards).map(|_| VecDeque::new()).collect();
        Ok(Self {
            now: Now { mono_ms: 0, wall_ms: WALL_MS, sub_us: 0 },
            skew_ms: 0,
            step: 0,
            calm: false,
            closing_all: false,
            overdrawn: false,
            outage: (0, [0; 3]),
            counted: Vec::new(),
            nodes,
            lanes,
            database,
            truth,
            users,
            groups: seeded.groups,
            epochs: BTreeMap::new(),
            clients,
            posts: Vec::new(),
            issued: BTreeMap::new(),
            standings: BTreeMap::new(),
            seen: Seen::default(),
            sights: Sights::default(),
            whispers: Whispers::default(),
            paces: Paces::default(),
            trace,
            far: Vec::new(),
            far_words: Vec::new(),
            arrivals: BTreeMap::new(),
            members: BTreeSet::new(),
            here: BTreeMap::new(),
            deaths: 0,
            serials: 0,
            places: 1,
            key: Key::new([7; 32]),
            plan,
            random,
        })
    }

    // ---- the clock ------------------------------------------------------------------------------

    /// Lets time pass; sometimes the wall clock is set back a little.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        if self.random.chance(20) {
            self.skew_ms = self.random.below(SET_BACK_MS_MAX);
        }
        self.now.wall_ms = WALL_MS + self.now.mono_ms - self.skew_ms.min(self.now.mono_ms);
    }

    // ---- connections ----------------------------------------------------------------------------

    /// The client that holds `conn`, if the generation is alive.
    pub(crate) fn holder(&self, node: usize, conn: ConnId) -> Result<usize, String> {
        let slot = usize::try_from(conn.slot).ok().and_then(|slot| self.nodes[node].slots.get(slot));
        match slot {
            Some(&(generation, Some(client))) if generation == conn.generation => Ok(client),
            _ => Err(format!("contract: an effect for {conn:?} of shard {node}, which is gone")),
        }
    }

    /// The connection of a client that must have one.
    pub(crate) fn link(&mut self, client: usize) -> Result<&mut Link, String> {
        self.clients[client].link.as_mut().ok_or_else(|| format!("simulation: client {client} has no connection"))
    }

    // ---- turns ----------------------------------------------------------------------------------

    /// Whether a turn of this shard has something to do.
    pub(crate) fn has_input(&self, node: usize) -> bool {
        let here = &self.nodes[node];
        here.dirty
            || here.shard.sweep_due()
            || here.shard.deadline_ms().is_some_and(|at| at <= self.now.mono_ms)
            || !here.notices.is_empty()
            || !here.far.is_empty()
            || here.replies.iter().any(|lane| !lane.is_empty())
            || (0..self.nodes.len()).any(|from| !self.lanes[from * self.nodes.len() + node].is_empty())
            || self.clients.iter().any(|client| {
                client.link.as_ref().is_some_and(|link| {
                    let writes = link.flush && !client.frozen;
                    let ends = link.finished_ms.is_some_and(|at| !link.flush || at + CLOSE_MS_MAX <= self.now.mono_ms);
                    link.node == node && (writes || ends || (link.is_read() && !link.queue.is_empty()))
                })
            })
    }

    /// One turn: at most `events` of what waits, then sweeps and writes.
    pub(crate) fn turn(&mut self, node: usize, events: u64) -> Checked {
        self.nodes[node].dirty = false;
        self.tell_credits(node)?;
        for _ in 0..events {
            if !self.take_input(node)? {
                break;
            }
        }
        self.give(node, Event::TurnEnd)?;
        let mut budget = if self.calm { u64::MAX } else { self.random.below(6) };
        while budget > 0 && self.nodes[node].shard.sweep_due() {
            self.give(node, Event::Sweep)?;
            budget -= 1;
        }
        for client in 0..self.clients.len() {
            if self.clients[client].link.as_ref().is_some_and(|link| link.node == node) {
                self.write(client)?;
            }
        }
        self.settle_budget(node)?;
        self.check_node(node)
    }

    /// Tells a shard when all of them keep too much alive, and sees that it lets go of it.
    pub(crate) fn settle_budget(&mut self, node: usize) -> Checked {
        let before = self.nodes[node].shard.held();
        self.nodes[node].held = before;
        let part = self.plan.outbox_budget / self.nodes.len();
        let all: usize = self.nodes.iter().map(|node| node.held).sum();
        let bytes = all.saturating_sub(self.plan.outbox_budget);
        if bytes == 0 || before <= part {
            return Ok(());
        }
        self.sights.overdrafts += 1;
        self.overdrawn = true;
        self.give(node, Event::Overdrawn { bytes })?;
        self.overdrawn = false;
        let after = self.nodes[node].shard.held();
        self.nodes[node].held = after;
        // A shard without anything to let go of has nothing to do in a further turn either: it waits for its sockets.
        self.nodes[node].dirty = after != before;
        let open =
            |link: &&Link| link.node == node && link.flush && link.resumed.is_some() && link.finished_ms.is_none();
        let left = self.clients.iter().filter_map(|client| client.link.as_ref().filter(open)).count();
        if after > part.max(before.saturating_sub(bytes)) && left > 0 && !self.plan.volatile {
            return Err(format!(
                "bounds: shard {node} kept {before} bytes alive for its readers, {bytes} too many, and now {after} with {left} open"
            ));
        }
        Ok(())
    }

    /// At rest the outboxes keep no more alive than they may.
    pub(crate) fn check_budget(&mut self) -> Checked {
        for node in 0..self.nodes.len() {
            self.settle_budget(node)?;
        }
        let all: usize = self.nodes.iter().map(|node| node.held).sum();
        if all > self.plan.outbox_budget
            && self.clients.iter().flat_map(|client| &client.link).all(|link| link.finished_ms.is_none())
        {
            return Err(format!("bounds: {all} bytes are kept alive for readers, {} may be", self.plan.outbox_budget));
        }
        Ok(())
    }

    fn tell_credits(&mut self, node: usize) -> Checked {
        for to in 0..self.nodes.len() {
            if to == node {
                continue;
            }
            let room = if !self.calm && self.random.chance(self.plan.tight_rooms) {
                (
                    u32::try_from(self.random.below(4)).unwrap_or(0),
                    self.random.pick(&[0, 600, 5000, DELIVER_BYTES_PER_LANE_MAX]),
                )
            } else {
                (DELIVER_MSGS_PER_LANE_MAX, DELIVER_BYTES_PER_LANE_MAX)
            };
            self.nodes[node].rooms[to] = room;
            let to = shard_id(to);
            self.give(node, Event::Credit { to, msgs: room.0, bytes: room.1 })?;
        }
        Ok(())
    }

    /// Gives one of the things that wait; `false` if nothing does.
    fn take_input(&mut self, node: usize) -> Result<bool, String> {
        let count = self.nodes.len();
        let mut sources: Vec<(u8, usize)> = Vec::new();
        sources.extend((0..count).filter(|from| !self.lanes[from * count + node].is_empty()).map(|from| (0, from)));
        sources.extend(
            (0..self.nodes[node].replies.len())
                .filter(|&lane| !self.nodes[node].replies[lane].is_empty())
                .map(|lane| (1, lane)),
        );
        if !self.nodes[node].notices.is_empty() {
            sources.push((2, 0));
        }
        if !self.nodes[node].far.is_empty() {
            sources.push((4, 0));
        }
        sources.extend(self.clients.iter().enumerate().filter_map(|(i, client)| {
            let link = client.link.as_ref()?;
            (link.node == node && link.is_read() && !link.queue.is_empty()).then_some((3, i))
        }));
        if sources.is_empty() {
            return Ok(false);
        }
        let (kind, which) = self.random.pick(&sources);
        match kind {
            0 => {
                if let Some(msg) = self.lanes[which * count + node].pop_front() {
                    self.give(node, Event::Peer { from: shard_id(which), msg })?;
                }
            }
            1 => {
                if let Some((ask, reply)) = self.nodes[node].replies[which].pop_front() {
                    self.nodes[node].asks.remove(&ask);
                    if matches!(reply, Reply::Written(Err(_))) {
                        self.paces.failed(node, ask);
                    }
                    match self.nodes[node].marks.remove(&ask) {
                        Some(of) => self.give_mark(node, of, Event::Settled { ask, reply })?,
                        None => self.give(node, Event::Settled { ask, reply })?,
                    }
                }
            }
            2 => {
                if let Some((id, notice)) = self.nodes[node].notices.pop_front() {
                    if let Some(issued) = self.issued.get_mut(&id) {
                        issued.given_step = Some(self.step + 1);
                    }
                    self.give(node, Event::Notice { id, notice })?;
                }
            }
            4 => {
                if let Some(far) = self.nodes[node].far.pop_front() {
                    self.give(node, Event::Far(far))?;
                }
            }
            _ => self.read_client(which)?,
        }
        Ok(true)
    }

    /// The driver reads one message of a client.
    fn read_client(&mut self, client: usize) -> Checked {
        let (step, now_ms, v2) = (self.step, self.now.mono_ms, self.clients[client].is_v2());
        let user = self.clients[client].user;
        let link = self.link(client)?;
        let Some(sent) = link.queue.pop_front() else { return Ok(()) };
        let (node, conn) = (link.node, link.conn);
        link.heard_ms = now_ms;
        if matches!(sent, Sent::Command(..) | Sent::Unreadable(_)) {
            self.spend(node, user)?;
        }
        let link = self.link(client)?;
        let event = match sent {
            Sent::Ping(payload) => {
                link.pings.push_back(payload.clone());
                Event::Ping { conn, payload: payload.into() }
            }
            Sent::Pong(payload, read) => {
                if let Some(read) = read {
                    self.confirm(client, &payload, &read);
                }
                Event::Pong { conn, payload: payload.into() }
            }
            Sent::PeerClosed(code) => {
                (link.mute, link.closing) = (true, Some(code));
                Event::PeerClosed { conn, code }
            }
            Sent::Violation(code) => {
                (link.mute, link.closing) = (true, Some(Some(code.code())));
                Event::Violation { conn, code }
            }
            Sent::End => return self.cut(client),
            Sent::Unreadable(refused) => {
                if v2 {
                    let cid = refused.cid.as_deref().map(str::to_owned);
                    link.waiting.push(Waiting::Unreadable { code: refused.reject.code(), cid });
                } else {
                    link.unreadable += 1;
                }
                Event::Unreadable { conn, refused }
            }
            Sent::Command(command, post) => {
                self.expect(client, user, &command, post, step)?;
                if let Command::Cursor(cursor) = command {
                    self.give_word(client, node, cursor)?;
                    return self.check_unanswered(client);
                }
                Event::Command { conn, command }
            }
        };
        self.give(node, event)?;
        self.check_unanswered(client)
    }

    /// A message of `user` is read: that may not be while more are owed than a burst.
    fn spend(&mut self, node: usize, user: UserId) -> Checked {
        let [_, flow, _] = self.plan.pace.user;
        if flow.per_second == 0 {
            return Ok(());
        }
        let now_ms = self.now.mono_ms;
        let (owed, at_ms) = self.nodes[node].spent.entry(user).or_insert((0, now_ms));
        *owed = owed.saturating_sub(flow.per_second * (now_ms - *at_ms));
        *at_ms = now_ms;
        if *owed > flow.burst * 1000 {
            return Err(format!("pace: {user:?} is read, although {owed} thousandths of a message are owed"));
        }
        *owed += 1000;
        Ok(())
    }

    fn check_unanswered(&self, client: usize) -> Checked {
        let Some(link) = &self.clients[client].link else { return Ok(()) };
        if link.waiting.len() > ANSWERS_PENDING_MAX as usize && !link.paused && link.finished_ms.is_none() {
            return Err(format!(
                "bounds: client {client} has {} unanswered commands and is still read",
                link.waiting.len()
            ));
        }
        Ok(())
    }

    /// Notes what a command must lead to.
    fn expect(&mut self, client: usize, user: UserId, command: &Command, post: Option<usize>, step: u64) -> Checked {
        let v2 = self.clients[client].is_v2();
        let (kind, waiting) = match command {
            Command::Heartbeat => (0, Some(Waiting::Heartbeat)),
            Command::Cursor(_) => (4, None),
            Command::Say(_) => return Err(format!("simulation: nobody says {command:?}")),
            Command::Typing(_) => (7, None),
            Command::Watch(_) => (8, None),
            Command::Recall(recall) => {
                let cid = recall.cid.as_deref().ok_or("simulation: a recall without a key")?.to_owned();
                let (conv, of) = (conv_of(user, recall.of), recall.seq.get());
                (9, Some(Waiting::Recall { cid, conv, of, step }))
            }
            Command::Convs(convs) => {
                let before = convs.before.map(|(ts, of)| (ts, conv_of(user, of)));
                (5, Some(Waiting::Convs { before, asked: self.truth.moment(step, user) }))
            }
            Command::Sync(sync) => {
                let conv = conv_of(user, sync.of);
                let head = self.truth.head(conv);
                (3, Some(Waiting::Sync { conv, from: sync.from, limit: sync.limit, head, step }))
            }
            Command::Post(sent) => {
                let kind = if matches!(sent.to, Target::User(_)) { 1 } else { 2 };
                let number = post.ok_or("simulation: a post without a number")?;
                let serial = self.link(client)?.serial;
                let places = self.places;
                let post = &mut self.posts[number];
                if post.gives == 0 {
                    (post.step, post.serial, post.place) = (step, serial, places);
                    self.places += 1;
                }
                post.gives += 1;
                let waiting = Waiting::Post { post: number, cid: post.cid.clone(), conv: post.conv, step };
                self.link(client)?.own.insert(number);
                (kind, Some(waiting))
            }
        };
        self.seen.commands[kind] += 1;
        if v2 {
            self.link(client)?.waiting.extend(waiting);
        }
        Ok(())
    }

    /// Writes what the socket of a client takes, and ends it when it is finished.
    fn write(&mut self, client: usize) -> Checked {
        let (calm, now_ms, frozen) = (self.calm, self.now.mono_ms, self.clients[client].frozen);
        let Some(link) = self.clients[client].link.as_mut() else { return Ok(()) };
        let (node, conn) = (link.node, link.conn);
        if link.flush {
            self.step += 1;
            let here = &mut self.nodes[node];
            let mut scratch = vec![0; 1 + self.random.index(4096)];
            let want = here.shard.outbox(conn).map_or(0, |outbox| outbox.bytes());
            let mut budget = link.takes(&mut self.random, calm, frozen, now_ms, want);
            let (mut taken, mut more) = (Vec::new(), true);
            while more && (budget > 0 || want == 0) {
                let polled = here.shard.poll_send(self.now, conn, &mut scratch, &mut here.effects);
                let Some(transmit) = polled else {
                    more = false;
                    break;
                };
                let bytes = transmit.bytes();
                if bytes.is_empty() {
                    return Err(format!("contract: client {client} is to be sent nothing"));
                }
                let take = bytes.len().min(budget);
                taken.extend_from_slice(&bytes[..take]);
                more = transmit.sent(take);
                budget -= take;
            }
            if !taken.is_empty() {
                link.took_ms = now_ms;
            }
            link.flush = more;
            let effects: Vec<Effect> = here.effects.drain().collect();
            self.receive(client, &taken)?;
            for effect in effects {
                self.trace.effect(node, &effect);
                self.obey(node, effect)?;
            }
        }
        let Some(link) = &self.clients[client].link else { return Ok(()) };
        let Some(at) = link.finished_ms else { return Ok(()) };
        if now_ms >= at + CLOSE_MS_MAX || (!link.flush && (calm || self.random.chance(500))) {
            if !link.flush && !link.closed {
                return Err(format!("contract: client {client} was finished without a close frame"));
            }
            return self.cut(client);
        }
        Ok(())
    }

    /// The client's side of its socket gets bytes.
    pub(crate) fn receive(&mut self, client: usize, bytes: &[u8]) -> Checked {
        let link = self.link(client)?;
        let (head, frames) = bytes.split_at(bytes.len().min(link.response.len()));
        let Some(rest) = link.response.strip_prefix(head) else {
            return Err(format!("contract: {head:?} comes to client {client} before the response to its upgrade"));
        };
        link.response = rest;
        link.reader.take(frames);
        while let Some(frame) = self.link(client)?.reader.next()? {
            self.trace.line(|| format!("client {client} reads {frame:?}"));
            self.hear(client, frame).map_err(|why| format!("client {client}: {why}"))?;
        }
        Ok(())
    }

    // ---- events and effects ---------------------------------------------------------------------

    /// Gives one event and obeys its effects.
    pub(crate) fn give(&mut self, node: usize, event: Event) -> Checked {
        self.step += 1;
        self.trace.event(self.now.mono_ms, node, &event);
        let ends = matches!(event, Event::TurnEnd | Event::Sweep | Event::Credit { .. });
        let here = &mut self.nodes[node];
        here.dirty |= !ends;
        if matches!(event, Event::TurnEnd) {
            here.dirty = false;
        }
        here.shard.step(self.now, event, &mut here.effects);
        let effects: Vec<Effect> = here.effects.drain().collect();
        let mut broadcasts = Vec::new();
        for effect in effects {
            self.trace.effect(node, &effect);
            if let Effect::Broadcast { form, .. } = &effect {
                if broadcasts.contains(form) {
                    return Err(format!("contract: a step has two {form:?} broadcasts"));
                }
                broadcasts.push(*form);
            }
            self.obey(node, effect)?;
        }
        Ok(())
    }

    // ---- the store ------------------------------------------------------------------------------

    /// One commit or one read.
    pub(crate) fn work_store(&mut self, write: bool) -> Checked {
        self.step += 1;
        let outage = Some(self.outage.1).filter(|_| self.now.mono_ms < self.outage.0);
        let weather = Weather { plan: &self.plan, random: &mut self.random, outage, calm: self.calm, step: self.step };
        let settled = if write {
            self.database.commit(weather, &mut self.truth)?
        } else {
            self.database.answer_read(weather, &self.truth)?
        };
        for Settled { shard, lane, ask, reply } in settled {
            self.trace.line(|| format!("store: ask {ask} of {shard:?} -> {reply:?}"));
            self.nodes[usize::from(shard.0)].replies[lane].push_back((ask, reply));
        }
        Ok(())
    }

    /// The process dies and starts again: all connections, queues and answers under way are gone, the store is not.
    pub(crate) fn crash(&mut self) -> Checked {
        self.step += 1;
        self.trace.line(|| "the process crashes".to_owned());
        self.deaths += 1;
        self.far.clear();
        self.far_words.clear();
        self.arrivals.clear();
        self.here.clear();
        let weather =
            Weather { plan: &self.plan, random: &mut self.random, outage: None, calm: false, step: self.step };
        self.database.crash(weather, &mut self.truth)?;
        for lane in &mut self.lanes {
            lane.clear();
        }
        for client in &mut self.clients {
            client.link = None;
        }
        for (id, node) in (0..).zip(&mut self.nodes) {
            self.counted.push(node.shard.tally().clone());
            *node = Node::new(&self.plan, id, self.random.bits());
        }
        for issued in self.issued.values_mut().filter(|issued| issued.answer.is_none()) {
            issued.answer = Some(Answer::Refused(Reject::Retry));
        }
        for standing in self.standings.values_mut().filter(|standing| standing.outstanding > 0) {
            (standing.outstanding, standing.doubt_step) = (0, Some(self.step));
        }
        self.seen = Seen::default();
        self.paces.crash();
        self.truth.words.crash();
        Ok(())
    }

    // ---- what is true after every turn ----------------------------------------------------------

    fn check_node(&mut self, node: usize) -> Checked {
        let (cap, wait_ms, now_ms) = (self.plan.outbox_bytes, u64::from(self.plan.coalesce_ms), self.now.mono_ms);
        let here = &mut self.nodes[node];
        for (i, client) in self.clients.iter_mut().enumerate() {
            let Some(link) = client.link.as_mut().filter(|link| link.node == node) else { continue };
            let waits_ms = link.acks_wait_ms.take();
            let Some(outbox) = here.shard.outbox(link.conn) else { continue };
            let bound = (cap + MESSAGE_FRAME_MAX).max(here.largest + MESSAGE_FRAME_MAX);
            if outbox.push_bytes() > bound {
                return Err(format!(
                    "bounds: {} bytes of pushes are queued for client {i}, the cap is {cap}",
                    outbox.push_bytes()
                ));
            }
            // Only acks may wait for others, or the response to the upgrade for what is told first, and not for long.
            let wait_ms = if link.response.is_empty() { wait_ms } else { WELCOME_MS_MAX };
            if !outbox.is_empty() && !link.flush && link.resumed.is_some() {
                let since_ms = *link.acks_wait_ms.insert(waits_ms.unwrap_or(now_ms));
                if outbox.push_bytes() > 0 || now_ms >= since_ms + wait_ms {
                    return Err(format!("contract: the outbox of client {i} is not empty and no flush was wanted"));
                }
            }
        }
        Ok(())
    }
}

/// More than the frame of any message that the clients send.
const MESSAGE_FRAME_MAX: usize = 500;

/// The shard of an index.
pub(crate) fn shard_id(node: usize) -> ShardId {
    ShardId(u16::try_from(node).unwrap_or(u16::MAX))
}

fn client(random: &mut Random, user: UserId) -> Client {
    let profile = random.pick(&[
        Profile::V2,
        Profile::V2,
        Profile::V2,
        Profile::Legacy(Echo::Groups),
        Profile::Legacy(Echo::None),
    ]);
    Client {
        user,
        profile,
        anonymous: random.chance(150),
        frozen: false,
        link: None,
        memory: crate::client::Memory::default(),
        posts: Vec::new(),
    }
}

impl Node {
    fn new(plan: &Plan, id: u16, boot: u64) -> Self {
        let setup = Setup {
            id: ShardId(id),
            shards: plan.shards,
            node: NodeId(0),
            boot,
            volatile: plan.volatile,
            outbox_bytes: plan.outbox_bytes,
            outbox_part: plan.outbox_budget / usize::from(plan.shards),
            coalesce_ms: plan.coalesce_ms,
            compression_min_bytes: imgate::limits::COMPRESSION_MIN_BYTES_MIN,
            ping_after_ms: imgate::limits::PING_AFTER_MS,
            idle_after_ms: imgate::limits::IDLE_MS,
            devices: plan.devices,
            pace: plan.pace,
            response_ms_max: WELCOME_MS_MAX,
            clustered: plan.clustered,
            tells_offline: false,
            tells_group: false,
            planted_bug: plan.bug,
        };
        Self {
            shard: Shard::new(setup),
            effects: Effects::default(),
            slots: Vec::new(),
            replies: (0..=plan.writers).map(|_| VecDeque::new()).collect(),
            notices: VecDeque::new(),
            far: VecDeque::new(),
            asks: BTreeSet::new(),
            marks: BTreeMap::new(),
            spent: BTreeMap::new(),
            rooms: vec![(DELIVER_MSGS_PER_LANE_MAX, DELIVER_BYTES_PER_LANE_MAX); usize::from(plan.shards)],
            dirty: false,
            held: 0,
            largest: 0,
        }
    }
}

/// The close code of that number.
pub(crate) fn close_code(code: u16) -> Option<CloseCode> {
    CloseCode::ALL.into_iter().find(|known| known.code() == code)
}

//! A whole gateway without sockets, threads and disk: real shards, in-memory transports that take
//! everything, a store that answers at once.
//!
//! Owns: [`Gateway`]: the turns of every shard in one thread, the lanes between them, what a driver
//! would do with their effects, and the sample messages.
//! Never: a system call. What is measured here is our own CPU time and memory; the kernel's part is
//! the business of `load` and of `loadtest`.

use std::collections::{HashMap, VecDeque};

use imgate::auth::{Identity, Issuer, Key};
use imgate::clock::Now;
use imgate::ids::{ConnId, ConvId, GroupId, MsgId, NodeId, Seq, ShardId, UserId, shard_of};
use imgate::limits;
use imgate::shard::{DevicePolicy, Effect, Effects, Event, Hello, PaceLimits, PeerMsg, Setup, Shard};
use imgate::store::worker::Reply;
use imgate::store::{Heads, Page, Read, ReadAnswer, Refusal, UserState, Write, Written};
use imgate::wire::command::Parser;
use imgate::wire::{Command, Device, Profile};

/// A direct message to user 2 as a client of ours sends it, about 105 bytes.
pub const DIRECT: &str =
    r#"{"cmd":10,"dstid":2,"cid":"01J8Z3K4Q5","media":1,"content":"shall we meet at the station at half past?"}"#;
/// A group message of the same size.
pub const GROUP: &str =
    r#"{"cmd":11,"dstid":1,"cid":"01J8Z3K4Q5","media":1,"content":"shall we meet at the station at half past?"}"#;

/// First byte of a ping frame (RFC 6455, section 5.2).
const PING: u8 = 0x89;

/// What a gateway is made for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Shards, all in the calling thread.
    pub shards: u16,
    /// Users, numbered from 1; one session each.
    pub users: u32,
    /// Whether all of them are members of group 1.
    pub in_group: bool,
    /// A pure router.
    pub volatile: bool,
}

/// What every shard of these measurements is told.
#[must_use]
pub fn setup(id: ShardId, shards: u16, volatile: bool) -> Setup {
    Setup {
        id,
        shards,
        node: NodeId(0),
        boot: 7,
        volatile,
        outbox_bytes: limits::OUTBOX_BYTES_MAX,
        outbox_part: limits::OUTBOX_BUDGET_DEFAULT,
        coalesce_ms: 0,
        compression_min_bytes: limits::COMPRESSION_MIN_BYTES_DEFAULT,
        ping_after_ms: limits::PING_AFTER_MS,
        idle_after_ms: limits::IDLE_MS,
        response_ms_max: limits::WELCOME_MS_MAX,
        devices: DevicePolicy::default(),
        pace: PaceLimits::default(),
        clustered: false,
        tells_offline: false,
        tells_group: false,
        planted_bug: None,
    }
}

/// One shard with what its driver would hold.
struct Seat {
    shard: Shard,
    effects: Effects,
    /// What waits for the next turn.
    causes: VecDeque<Event>,
    dirty: Vec<ConnId>,
    /// What the transports have taken, by slot.
    taken: Vec<u64>,
    /// The next connection's slot.
    slots: u32,
}

/// What the shards have done, for the reports.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Bytes that transports have taken.
    pub sent_bytes: u64,
    /// Sends that a driver would have made.
    pub sends: u64,
    /// Messages from one shard to another.
    pub hops: u64,
    /// Requests to the store.
    pub asks: u64,
    /// Pings that were answered.
    pub pongs: u64,
}

/// The gateway.
pub struct Gateway {
    plan: Plan,
    seats: Vec<Seat>,
    /// From shard f to shard t at `f * shards + t`.
    lanes: Vec<VecDeque<PeerMsg>>,
    parser: Parser,
    /// The clock, which only the caller moves.
    pub now: Now,
    heads: HashMap<ConvId, Seq>,
    scratch: Vec<u8>,
    /// The connection of each user, by number less one.
    conns: Vec<ConnId>,
    key: Key,
    /// What was done so far.
    pub counts: Counts,
}

impl Gateway {
    /// Nobody is connected. What the surroundings need is there from the start, so that whatever
    /// grows later belongs to the shards.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut conns = vec![ConnId { slot: 0, generation: u32::MAX }; plan.users as usize];
        let mut slots = vec![0; usize::from(plan.shards)];
        for (number, conn) in (1..).zip(&mut conns) {
            let slot: &mut u32 = &mut slots[usize::from(shard_of(user(number), plan.shards).0)];
            *conn = ConnId { slot: *slot, generation: 0 };
            *slot += 1;
        }
        let seat = |(id, &slots): (u16, &u32)| Seat {
            shard: Shard::new(setup(ShardId(id), plan.shards, plan.volatile)),
            effects: Effects::default(),
            causes: VecDeque::new(),
            dirty: Vec::new(),
            // Written to, because untouched memory is not resident.
            taken: (0..slots).map(|_| 0).collect(),
            slots,
        };
        Self {
            plan,
            seats: (0..).zip(&slots).map(seat).collect(),
            lanes: (0..usize::from(plan.shards).pow(2)).map(|_| VecDeque::new()).collect(),
            parser: Parser::default(),
            now: Now { mono_ms: 1, wall_ms: 1_700_000_000_000, sub_us: 0 },
            heads: HashMap::new(),
            scratch: vec![0; limits::TURN_WRITE_BYTES_MAX],
            conns,
            key: Key::new([7; 32]),
            counts: Counts::default(),
        }
    }

    /// A gateway on which all users of `plan` are connected.
    #[must_use]
    pub fn full(plan: Plan) -> Self {
        let mut gateway = Self::new(plan);
        for number in 1..=plan.users {
            let identity = gateway.identity(number);
            gateway.open(number, identity);
            gateway.settle();
        }
        gateway
    }

    /// The proof of user `number`, which the gate would have made of a token.
    ///
    /// # Panics
    /// Never: the key verifies what it has signed.
    #[must_use]
    pub fn identity(&self, number: u32) -> Identity {
        let token = self.key.issue(user(number), 0, Issuer::Own, u64::MAX);
        self.key.verify(&token, 0).expect("the key verifies what it has signed")
    }

    /// Queues the upgrade of user `number`.
    pub fn open(&mut self, number: u32, identity: Identity) {
        let conn = &mut self.conns[number as usize - 1];
        conn.generation += 1;
        let conn = *conn;
        let hello = Hello { identity, profile: Profile::V2, device: Device::Web, device_tag: 0, deflate: None };
        self.seat_of(number).causes.push_back(Event::Open { conn, hello, response: Box::default(), ended: false });
    }

    /// Queues the loss of user `number`'s connection.
    pub fn lose(&mut self, number: u32) {
        let conn = self.conns[number as usize - 1];
        self.seat_of(number).causes.push_back(Event::Gone { conn });
    }

    /// One message of user `number`, from its bytes to the bytes on the transports. The clock goes
    /// on by a millisecond.
    ///
    /// # Panics
    /// If the message is no command.
    pub fn say(&mut self, number: u32, message: &[u8]) {
        self.pass(1);
        self.post(number, message);
        self.settle();
    }

    /// As [`Gateway::say`], for a command that was parsed before.
    pub fn obey(&mut self, number: u32, command: Command) {
        self.pass(1);
        self.queue(number, command);
        self.settle();
    }

    /// Parses a message and queues it for the next turn; the clock stands.
    ///
    /// # Panics
    /// If the message is no command.
    pub fn post(&mut self, number: u32, message: &[u8]) {
        let command = self.parser.parse(message, Profile::V2).expect("the sample is a command");
        self.queue(number, command);
    }

    fn queue(&mut self, number: u32, command: Command) {
        let conn = self.conns[number as usize - 1];
        self.seat_of(number).causes.push_back(Event::Command { conn, command });
    }

    /// Moves the clock.
    pub fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
    }

    /// Turns every shard until there is silence: no event, no message under way, no sweep, nothing
    /// to write, nothing due. Sessions that came in a crowd are asked about a moment later, so the
    /// clock goes on by such moments.
    pub fn settle(&mut self) {
        loop {
            while self.advance() {
                self.sweep();
                self.flush();
            }
            let soon = self.seats.iter().filter_map(|seat| seat.shard.deadline_ms()).min();
            match soon.map(|at| at.saturating_sub(self.now.mono_ms)) {
                Some(ms) if (1..=limits::OPEN_PACE_MS).contains(&ms) => self.pass(ms),
                _ => return,
            }
        }
    }

    /// Gives every shard what waits for it, and ends its turn, until nothing waits but sweeps and
    /// writes. Answers whether there was anything to do, or is now.
    pub fn advance(&mut self) -> bool {
        let mut any = false;
        loop {
            let mut busy = false;
            for index in 0..self.seats.len() {
                busy |= self.turn(index);
            }
            any |= busy;
            if !busy {
                return any || self.seats.iter().any(|seat| seat.shard.sweep_due() || !seat.dirty.is_empty());
            }
        }
    }

    /// One turn of one shard without its sweeps and writes. Answers whether it had a reason.
    fn turn(&mut self, index: usize) -> bool {
        let due = |ms: u64| ms <= self.now.mono_ms;
        let seat = &self.seats[index];
        let timer = !seat.shard.sweep_due() && seat.shard.deadline_ms().is_some_and(due);
        let mut busy = !seat.causes.is_empty() || timer;
        for from in 0..self.seats.len() {
            let lane = from * self.seats.len() + index;
            while let Some(msg) = self.lanes[lane].pop_front() {
                busy = true;
                self.counts.hops += 1;
                self.step(index, Event::Peer { from: shard_id(from), msg });
            }
        }
        if !busy {
            return false;
        }
        // Everything that was sent has been taken, at the latest before the sender's next turn.
        for to in (0..self.seats.len()).filter(|&to| to != index) {
            let (msgs, bytes) = (limits::DELIVER_MSGS_PER_LANE_MAX, limits::DELIVER_BYTES_PER_LANE_MAX);
            self.step(index, Event::Credit { to: shard_id(to), msgs, bytes });
        }
        while let Some(event) = self.seats[index].causes.pop_front() {
            self.step(index, event);
        }
        self.step(index, Event::TurnEnd);
        true
    }

    /// All sweeps that are due.
    pub fn sweep(&mut self) {
        for index in 0..self.seats.len() {
            while self.seats[index].shard.sweep_due() {
                self.step(index, Event::Sweep);
            }
        }
    }

    /// Writes what is queued for connections; whoever is pinged answers.
    pub fn flush(&mut self) {
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            for conn in std::mem::take(&mut seat.dirty) {
                let mut more = true;
                while more
                    && let Some(transmit) = seat.shard.poll_send(self.now, conn, &mut self.scratch, &mut seat.effects)
                {
                    let bytes = transmit.bytes();
                    let (taken, first) = (bytes.len(), bytes.first().copied());
                    more = transmit.sent(taken);
                    self.counts.sends += 1;
                    self.counts.sent_bytes += taken as u64;
                    seat.taken[conn.slot as usize] += taken as u64;
                    if first == Some(PING) {
                        self.counts.pongs += 1;
                        seat.causes.push_back(Event::Pong { conn, payload: Box::default() });
                    }
                }
            }
            self.carry_out(index);
        }
    }

    fn step(&mut self, index: usize, event: Event) {
        let seat = &mut self.seats[index];
        seat.shard.step(self.now, event, &mut seat.effects);
        self.carry_out(index);
    }

    /// Acts upon the effects of a shard.
    fn carry_out(&mut self, index: usize) {
        let Self { seats, lanes, counts, heads, plan, .. } = self;
        let shards = seats.len();
        let seat = &mut seats[index];
        let mut spent = Vec::new();
        for effect in seat.effects.drain() {
            match effect {
                Effect::Flush { conn } | Effect::Finish { conn, .. } => seat.dirty.push(conn),
                Effect::Broadcast { batch, form, conns } => {
                    let bytes = batch.bytes_as(form).len() as u64;
                    for conn in &conns {
                        seat.taken[conn.slot as usize] += bytes;
                    }
                    counts.sends += conns.len() as u64;
                    counts.sent_bytes += bytes * conns.len() as u64;
                    spent.push(conns);
                }
                Effect::Write { ask, write } => {
                    counts.asks += 1;
                    let reply = Reply::Written(Ok(written(heads, &write)));
                    seat.causes.push_back(Event::Settled { ask, reply });
                }
                Effect::Read { ask, read } => {
                    counts.asks += 1;
                    let reply = Reply::Read(Ok(answer(&read, plan.in_group)));
                    seat.causes.push_back(Event::Settled { ask, reply });
                }
                Effect::Peer { to, msg } => lanes[index * shards + usize::from(to.0)].push_back(msg),
                Effect::Pause { .. }
                | Effect::Resume { .. }
                | Effect::Answer { .. }
                | Effect::Offline { .. }
                | Effect::GroupStored { .. }
                | Effect::Far(_) => {}
            }
        }
        for conns in spent {
            seat.effects.recycle(conns);
        }
    }

    fn seat_of(&mut self, number: u32) -> &mut Seat {
        &mut self.seats[usize::from(shard_of(user(number), self.plan.shards).0)]
    }

    /// What every shard checks of itself at the end of each turn.
    pub fn check(&mut self) {
        self.seats.iter_mut().for_each(|seat| seat.shard.check_next());
    }

    /// Bytes that the transport of user `number` has taken.
    #[must_use]
    pub fn taken(&self, number: u32) -> u64 {
        let conn = self.conns[number as usize - 1];
        self.seats[usize::from(shard_of(user(number), self.plan.shards).0)].taken[conn.slot as usize]
    }

    /// Messages that the shards have put on their way to sessions.
    pub fn delivered(&mut self) -> u64 {
        self.seats.iter_mut().map(|seat| seat.shard.tally().delivered).sum()
    }

    /// Sessions of all shards, and the connections that the plan gives each.
    pub fn sessions(&mut self) -> Vec<(u64, u32)> {
        self.seats.iter_mut().map(|seat| (seat.shard.tally().sessions, seat.slots)).collect()
    }
}

fn shard_id(index: usize) -> ShardId {
    ShardId(u16::try_from(index).expect("a plan has at most u16::MAX shards"))
}

fn user(number: u32) -> UserId {
    UserId::new(u64::from(number)).expect("users count from 1")
}

fn written(heads: &mut HashMap<ConvId, Seq>, write: &Write) -> Written {
    let head = heads.entry(write.conv()).or_default();
    match write {
        Write::Append(message) | Write::Line(message) => {
            *head = head.next();
            let id = MsgId::new(head.get()).expect("a head is above zero here");
            Written::Stored { seq: *head, id, ts_ms: message.ts_ms, before_ms: 0 }
        }
        Write::Recall(_) => Written::Refused(Refusal::NoSuchMessage),
        Write::Head(_) => Written::Head { head: *head },
        Write::Join { .. } => Written::Joined { since: *head, already: false },
        Write::Leave { .. } => Written::Left { was_member: true },
        Write::Cursor { .. } => Written::Kept,
    }
}

fn answer(read: &Read, in_group: bool) -> ReadAnswer {
    match read {
        Read::Open { .. } => {
            let group = GroupId::new(1).expect("1 is an id");
            let groups = if in_group { vec![(group, Seq::ZERO)] } else { Vec::new() };
            ReadAnswer::Open(UserState { groups, ..UserState::default() })
        }
        Read::Page { .. } => ReadAnswer::Page(Page::default()),
        Read::Heads { .. } => ReadAnswer::Heads(Heads::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A benchmark that measures refusals is fast and worthless.

    fn plans(users: u32, in_group: bool) -> impl Iterator<Item = Plan> {
        let all = [(1, false), (1, true), (3, false), (3, true)];
        all.into_iter().map(move |(shards, volatile)| Plan { shards, users, in_group, volatile })
    }

    #[test]
    fn a_direct_message_reaches_the_other() {
        for plan in plans(2, false) {
            let mut gateway = Gateway::full(plan);
            let (delivered, bytes) = (gateway.delivered(), gateway.counts.sent_bytes);
            gateway.say(1, DIRECT.as_bytes());
            assert_eq!(gateway.delivered() - delivered, 1, "{plan:?}");
            assert!(gateway.counts.sent_bytes > bytes + DIRECT.len() as u64, "a packet and an ack: {plan:?}");
        }
    }

    #[test]
    fn a_group_message_reaches_everybody_else() {
        for plan in plans(100, true) {
            let mut gateway = Gateway::full(plan);
            let (delivered, taken) = (gateway.delivered(), gateway.taken(7));
            gateway.say(1, GROUP.as_bytes());
            assert_eq!(gateway.delivered() - delivered, 99, "{plan:?}");
            assert!(gateway.taken(7) > taken + GROUP.len() as u64, "{plan:?}");
        }
    }

    const STEP_MS: u64 = 250;

    #[test]
    fn the_silent_are_pinged_and_the_lost_come_back() {
        let mut gateway = Gateway::full(Plan { shards: 2, users: 50, in_group: true, volatile: false });
        // As time passes: the shards look at everybody once in a while, not at the very
        // millisecond.
        let mut passed_ms = 0;
        while gateway.counts.pongs < 50 && passed_ms < limits::IDLE_MS {
            gateway.pass(STEP_MS);
            gateway.settle();
            passed_ms += STEP_MS;
        }
        assert!(gateway.counts.pongs >= 50, "{} of 50 were pinged", gateway.counts.pongs);
        assert_eq!(gateway.sessions().iter().map(|&(sessions, _)| sessions).sum::<u64>(), 50);
        for number in 1..=50 {
            gateway.lose(number);
        }
        gateway.settle();
        assert!(gateway.sessions().iter().all(|&(sessions, _)| sessions == 0));
        let identity = gateway.identity(9);
        gateway.open(9, identity);
        gateway.settle();
        assert_eq!(gateway.sessions().iter().map(|&(sessions, _)| sessions).sum::<u64>(), 1);
    }
}

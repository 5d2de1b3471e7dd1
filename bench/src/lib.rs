//! What the micro-benchmarks share: a shard whose sockets take everything and whose store answers at once.
//!
//! Owns: [`Rig`] and the sample messages.
//! Never: a socket, a thread or a disk. What is measured here is our own CPU time; the whole system is `loadtest`'s business.

use std::collections::{HashMap, VecDeque};

use imgate::auth::{Identity, Issuer, Key};
use imgate::clock::Now;
use imgate::ids::{ConnId, ConvId, GroupId, MsgId, NodeId, Seq, ShardId, UserId};
use imgate::limits;
use imgate::shard::{Effect, Effects, Event, Hello, Setup, Shard};
use imgate::store::worker::Reply;
use imgate::store::{Heads, Page, Read, ReadAnswer, UserState, Write, Written};
use imgate::wire::command::Parser;
use imgate::wire::{Command, Device, Profile};

/// A direct message as a client of ours sends it, about 105 bytes.
pub const DIRECT: &str =
    r#"{"cmd":10,"dstid":2,"cid":"01J8Z3K4Q5","media":1,"content":"shall we meet at the station at half past?"}"#;
/// A group message of the same size.
pub const GROUP: &str =
    r#"{"cmd":11,"dstid":1,"cid":"01J8Z3K4Q5","media":1,"content":"shall we meet at the station at half past?"}"#;

/// One shard with its surroundings.
pub struct Rig {
    shard: Shard,
    parser: Parser,
    effects: Effects,
    now: Now,
    causes: VecDeque<Event>,
    dirty: Vec<ConnId>,
    heads: HashMap<ConvId, Seq>,
    scratch: Vec<u8>,
    in_group: bool,
    /// Bytes that the sockets have taken.
    pub sent_bytes: u64,
}

impl Rig {
    /// A shard with `users` users, one session each, whose connection is the user's number less one. `in_group`: all of them are members of
    /// group 1.
    #[must_use]
    pub fn new(users: u32, in_group: bool, volatile: bool) -> Self {
        let setup = Setup {
            id: ShardId(0),
            shards: 1,
            node: NodeId(0),
            boot: 7,
            volatile,
            outbox_bytes: limits::OUTBOX_BYTES_MAX,
            coalesce_ms: 0,
            ping_after_ms: limits::PING_AFTER_MS,
            idle_after_ms: limits::IDLE_MS_MAX,
            devices: imgate::shard::DevicePolicy::default(),
            planted_bug: None,
        };
        let mut rig = Self {
            shard: Shard::new(setup),
            parser: Parser::default(),
            effects: Effects::default(),
            now: Now { mono_ms: 1, wall_ms: 1_700_000_000_000 },
            causes: VecDeque::new(),
            dirty: Vec::new(),
            heads: HashMap::new(),
            scratch: vec![0; limits::TURN_WRITE_BYTES_MAX],
            in_group,
            sent_bytes: 0,
        };
        for number in 1..=users {
            rig.open(number);
        }
        rig
    }

    fn open(&mut self, number: u32) {
        let hello = Hello { identity: identity(number), profile: Profile::V2, device: Device::Web, plain: true };
        self.causes.push_back(Event::Open { conn: conn_of(number), hello });
        self.turn();
    }

    /// One message of user `number`, from its bytes to the bytes on the sockets: parse, step, settle, sweep, flush. The clock goes on by a millisecond.
    ///
    /// # Panics
    /// If the message is no command.
    pub fn say(&mut self, number: u32, message: &[u8]) {
        let command = self.parser.parse(message, Profile::V2).expect("the sample is a command");
        self.obey(number, command);
    }

    /// As [`Rig::say`], for a command that was parsed before.
    pub fn obey(&mut self, number: u32, command: Command) {
        self.now.mono_ms += 1;
        self.now.wall_ms += 1;
        self.causes.push_back(Event::Command { conn: conn_of(number), command });
        self.turn();
    }

    /// Messages that the shard has put on their way to sessions.
    pub fn delivered(&mut self) -> u64 {
        self.shard.tally().delivered
    }

    /// Gives every cause that waits, and all that follow from it, until there is silence.
    fn turn(&mut self) {
        loop {
            while let Some(event) = self.causes.pop_front() {
                self.step(event);
            }
            self.step(Event::TurnEnd);
            while self.shard.sweep_due() {
                self.step(Event::Sweep);
            }
            for conn in std::mem::take(&mut self.dirty) {
                self.flush(conn);
            }
            if self.causes.is_empty() {
                return;
            }
        }
    }

    fn step(&mut self, event: Event) {
        let mut effects = std::mem::take(&mut self.effects);
        self.shard.step(self.now, event, &mut effects);
        let mut spent = Vec::new();
        for effect in effects.drain() {
            match effect {
                Effect::Flush { conn } | Effect::Finish { conn } => self.dirty.push(conn),
                Effect::Broadcast { batch, conns } => {
                    self.sent_bytes += batch.bytes().len() as u64 * conns.len() as u64;
                    spent.push(conns);
                }
                Effect::Write { ask, write } => {
                    let reply = Reply::Written(Ok(self.written(&write)));
                    self.causes.push_back(Event::Settled { ask, reply });
                }
                Effect::Read { ask, read } => {
                    let reply = Reply::Read(Ok(self.read(&read)));
                    self.causes.push_back(Event::Settled { ask, reply });
                }
                Effect::Pause { .. } | Effect::Resume { .. } | Effect::Peer { .. } | Effect::Answer { .. } => {}
            }
        }
        for conns in spent {
            effects.recycle(conns);
        }
        self.effects = effects;
    }

    fn flush(&mut self, conn: ConnId) {
        while let Some(outbox) = self.shard.outbox(conn) {
            let taken = outbox.gather(&mut self.scratch).len();
            outbox.consume(taken);
            self.sent_bytes += taken as u64;
        }
        self.causes.push_back(Event::Flushed { conn });
    }

    fn written(&mut self, write: &Write) -> Written {
        let head = self.heads.entry(write.conv()).or_default();
        match write {
            Write::Append(message) => {
                *head = head.next();
                let id = MsgId::new(head.get()).expect("a head is above zero here");
                Written::Stored { seq: *head, id, ts_ms: message.ts_ms }
            }
            Write::Head(_) => Written::Head { head: *head },
            Write::Join { .. } => Written::Joined { since: *head, already: false },
            Write::Leave { .. } => Written::Left { was_member: true },
            Write::Cursor { .. } => Written::Kept,
        }
    }

    fn read(&self, read: &Read) -> ReadAnswer {
        match read {
            Read::Open { .. } => {
                let groups = if self.in_group { vec![(the_group(), Seq::ZERO)] } else { Vec::new() };
                ReadAnswer::Open(UserState { groups, ..UserState::default() })
            }
            Read::Page { .. } => ReadAnswer::Page(Page::default()),
            Read::Heads { .. } => ReadAnswer::Heads(Heads::default()),
        }
    }
}

fn the_group() -> GroupId {
    GroupId::new(1).expect("1 is an id")
}

fn conn_of(number: u32) -> ConnId {
    ConnId { slot: number - 1, generation: 1 }
}

fn identity(number: u32) -> Identity {
    let user = UserId::new(u64::from(number)).expect("users count from 1");
    let key = Key::new([7; 32]);
    key.verify(&key.issue(user, 0, Issuer::Own, u64::MAX), 0).expect("the key verifies what it has signed")
}

#[cfg(test)]
mod tests {
    use super::*;

    // A benchmark that measures refusals is fast and worthless.

    #[test]
    fn a_direct_message_reaches_the_other() {
        for volatile in [false, true] {
            let mut rig = Rig::new(2, false, volatile);
            let (delivered, bytes) = (rig.delivered(), rig.sent_bytes);
            rig.say(1, DIRECT.as_bytes());
            assert_eq!(rig.delivered() - delivered, 1, "volatile: {volatile}");
            assert!(rig.sent_bytes > bytes + DIRECT.len() as u64, "a packet and an ack");
        }
    }

    #[test]
    fn a_group_message_reaches_everybody_else() {
        let mut rig = Rig::new(100, true, false);
        let (delivered, bytes) = (rig.delivered(), rig.sent_bytes);
        rig.say(1, GROUP.as_bytes());
        assert_eq!(rig.delivered() - delivered, 99);
        assert!(rig.sent_bytes > bytes + 99 * GROUP.len() as u64);
    }
}

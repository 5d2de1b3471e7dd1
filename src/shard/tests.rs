//! Scenarios: a script in, what each client saw out. The world around the shards is the smallest
//! that can play a script.
//!
//! Script, one line each: `a: open [legacy|imchat]`, `a: phone` (`a2` is another device of `a`), `a
//! -> b: text`, `a -> #7: text`, `… [cid]` behind the text, `a: sync b|#7 after N`, `a: beat`, `a:
//! convs`, `a: recv b|#7 N read N`, `a: types b|#7`, `a: recalls b|#7 N [cid]`, `recall a b|#7 N`
//! (by the control plane), `a: watches [b …]`, `a: gone`, `join a 7`, `leave a 7`, `banned a`,
//! `changed a groups 7`, `stall a`, `drain a`, `hold store`, `release store`, `fail store`, `lose
//! answers` (the next commits happen, but nobody hears), `full lanes`, `free lanes`, `wait MS`,
//! `turn off` / `turn on` (the end of the turn is put off), `quiesce`, `close all`. Trace, line by
//! line of the script, per client in the order in which it left (which of two clients hears first
//! is nobody's promise): `b: push #1 a hi`, `a: ack #1 cid`, `a: refused busy`, `a: text welcome!`,
//! `a: close 4000`, `a: rows #1 #2 head 2`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::auth::{Issuer, Key};
use crate::ids::{ConvId, GroupId, MsgId, NodeId, Seq, UserId, home_of, shard_of};
use crate::store::{self, ConvState, Heads, PageStart, PostKey, Read, ReadAnswer, Row, UserState, Write, Written};
use crate::wire::command::{Convs, Cursor, Post, RecallCommand, SyncRequest};
use crate::wire::{Command, Device, Echo, Hint, Profile, Target};

mod acks;
mod coalescing;
mod far;
mod far_devices;
mod fresh;
mod greed;
mod interest;
mod opening;
mod overload;
mod passages;
mod recalls;
mod responses;
mod roster;
mod shown;
mod slow;
mod whispers;

const SHARDS: u16 = 3;

#[derive(Default)]
struct Db {
    /// Tokens of an earlier epoch were revoked.
    token_epoch: u32,
    banned: bool,
    /// Who has blocked whom.
    blocks: Vec<(UserId, UserId)>,
    rows: BTreeMap<ConvId, Vec<(PostKey, Row)>>,
    members: BTreeMap<(GroupId, UserId), Seq>,
    cursors: BTreeMap<(UserId, ConvId), (Seq, Seq)>,
    next_id: u64,
}

impl Db {
    fn head(&self, conv: ConvId) -> Seq {
        Seq::new(self.rows.get(&conv).map_or(0, |rows| rows.len() as u64)).expect("a test's seq is small")
    }

    fn state(&self, user: UserId, conv: ConvId) -> Option<ConvState> {
        let since = match conv {
            ConvId::Group(group) => *self.members.get(&(group, user))?,
            direct => direct.is_between(user).then_some(Seq::ZERO)?,
        };
        let (recv, read) = self.cursors.get(&(user, conv)).copied().unwrap_or_default();
        let rows = self.rows.get(&conv)?;
        let unread = rows.iter().filter(|(_, row)| row.seq > read.max(since) && row.sender != user).count() as u64;
        let ts_ms = rows.last()?.1.ts_ms;
        Some(ConvState { conv, head: self.head(conv), ts_ms, floor: since.next(), recv, read, unread, newest: None })
    }

    fn write(&mut self, write: &Write) -> Written {
        match write {
            Write::Head(conv) => Written::Head { head: self.head(*conv) },
            Write::Recall(recall) => self.recall(recall),
            Write::Line(message) => self.insert(message),
            Write::Join { group, user } => {
                let since = self.head(ConvId::Group(*group));
                self.members.insert((*group, *user), since);
                Written::Joined { since, already: false }
            }
            Write::Cursor { user, conv, recv, read } => {
                let kept = self.cursors.entry((*user, *conv)).or_default();
                *kept = (kept.0.max(*recv), kept.1.max(*read));
                Written::Kept
            }
            Write::Leave { group, user } => {
                Written::Left { was_member: self.members.remove(&(*group, *user)).is_some() }
            }
            Write::Append(message) => {
                for (&conv, rows) in &self.rows {
                    if let Some((_, row)) =
                        rows.iter().find(|(key, row)| *key == message.key && row.sender == message.sender)
                    {
                        return Written::Duplicate { conv, seq: row.seq, id: row.id, ts_ms: row.ts_ms };
                    }
                }
                if let ConvId::Group(group) = message.conv
                    && !self.members.contains_key(&(group, message.sender))
                {
                    return Written::Refused(store::Refusal::NotMember);
                }
                self.insert(message)
            }
        }
    }

    fn insert(&mut self, message: &store::NewMessage) -> Written {
        self.next_id += 1;
        let row = Row {
            seq: self.head(message.conv).next(),
            id: MsgId::new(self.next_id).expect("small"),
            ts_ms: message.ts_ms,
            sender: message.sender,
            body: Arc::clone(&message.body),
        };
        let before_ms = self.rows.get(&message.conv).and_then(|rows| rows.last()).map_or(0, |(_, row)| row.ts_ms);
        let written = Written::Stored { seq: row.seq, id: row.id, ts_ms: row.ts_ms, before_ms };
        self.rows.entry(message.conv).or_default().push((message.key.clone(), row));
        written
    }

    fn recall(&mut self, recall: &store::Recall) -> Written {
        let append = Write::Append(recall.message.clone());
        let is_claimed =
            |(key, row): &(PostKey, Row)| *key == recall.message.key && row.sender == recall.message.sender;
        if self.rows.values().flatten().any(is_claimed) {
            return self.write(&append);
        }
        let is_member = match recall.message.conv {
            ConvId::Group(group) => self.members.contains_key(&(group, recall.message.sender)),
            ConvId::Direct { .. } => true,
        };
        let mut rows = self.rows.get_mut(&recall.message.conv).into_iter().flatten().map(|(_, row)| row);
        let refusal = match rows.find(|row| row.seq == recall.seq) {
            Some(row) if row.sender != recall.message.sender && !is_member => store::Refusal::NotMember,
            Some(row) if row.sender != recall.message.sender => store::Refusal::NotYours,
            Some(row) if row.body == recall.blank || row.body.starts_with(recall.spared) => {
                store::Refusal::NoSuchMessage
            }
            Some(row) if recall.message.ts_ms - row.ts_ms > recall.within_ms => store::Refusal::TooLate,
            Some(row) => {
                row.body = Arc::clone(&recall.blank);
                return self.insert(&recall.message);
            }
            None => store::Refusal::NoSuchMessage,
        };
        Written::Refused(refusal)
    }

    fn read(&self, read: &Read) -> ReadAnswer {
        match read {
            Read::Open { user } => {
                let groups =
                    self.members.iter().filter(|((_, who), _)| who == user).map(|((g, _), since)| (*g, *since));
                let of = |first: fn(&(UserId, UserId)) -> UserId, second: fn(&(UserId, UserId)) -> UserId| {
                    let mut found: Vec<UserId> =
                        self.blocks.iter().filter(|pair| first(pair) == *user).map(second).collect();
                    found.sort_unstable();
                    found
                };
                let (blocks, blocked_by) = (of(|pair| pair.0, |pair| pair.1), of(|pair| pair.1, |pair| pair.0));
                let (token_epoch, banned) = (self.token_epoch, self.banned);
                let groups = groups.collect();
                let state = UserState { groups, blocks, blocked_by, token_epoch, banned, ..UserState::default() };
                ReadAnswer::Open(state)
            }
            Read::Heads { user, max, .. } => {
                let mut convs: Vec<ConvState> = self.rows.keys().filter_map(|&conv| self.state(*user, conv)).collect();
                convs.sort_by_key(|state| std::cmp::Reverse((state.ts_ms, state.conv)));
                let more = convs.len() > *max as usize;
                convs.truncate(*max as usize);
                ReadAnswer::Heads(Heads { convs, more, epoch: 1 })
            }
            Read::Page { conv, from, rows_max, reader, .. } => {
                let mut since = Seq::ZERO;
                if let (ConvId::Group(group), Some(reader)) = (conv, reader) {
                    match self.members.get(&(*group, *reader)) {
                        Some(&joined) => since = joined,
                        None => return ReadAnswer::Refused(store::Refusal::NotMember),
                    }
                }
                let all = self.rows.get(conv).into_iter().flatten().map(|(_, row)| row.clone());
                let mut rows: Vec<Row> = all.filter(|row| row.seq > since).collect();
                let rows_max = *rows_max as usize;
                match *from {
                    PageStart::After(after) => rows.retain(|row| row.seq > after),
                    PageStart::Before(before) => rows.retain(|row| row.seq < before),
                }
                let more = rows.len() > rows_max;
                match *from {
                    PageStart::After(_) => rows.truncate(rows_max),
                    PageStart::Before(_) => drop(rows.drain(..rows.len().saturating_sub(rows_max))),
                }
                ReadAnswer::Page(store::Page { rows, more, floor: since.next(), head: self.head(*conv), epoch: 1 })
            }
        }
    }
}

struct Client {
    name: String,
    conn: ConnId,
    shard: usize,
    stalled: bool,
    open: bool,
    buffer: Vec<u8>,
}

enum Ask {
    Write(Write),
    Read(Read),
}

struct World {
    now: Now,
    shards: Vec<Shard>,
    fx: Effects,
    lanes: VecDeque<(usize, usize, PeerMsg)>,
    far: Vec<FarOut>,
    store: VecDeque<(usize, u32, Ask)>,
    held: bool,
    failing: bool,
    losing: bool,
    turns: bool,
    db: Db,
    clients: Vec<Client>,
    dirty: Vec<(usize, ConnId)>,
    pongs: Vec<(usize, ConnId, Box<[u8]>)>,
    slots: u32,
    /// How long the tokens of those who open live; `None`: for ever.
    token_ms: Option<u64>,
    /// The next client that comes has finished sending.
    ended: bool,
    trace: String,
}

fn user_of(name: &str) -> UserId {
    let letter = name.bytes().next().expect("a client has a letter");
    UserId::new(u64::from(letter - b'a') + 1).expect("letters are users")
}

fn letter(user: u64) -> char {
    char::from(b'a' + u8::try_from(user - 1).expect("users are letters"))
}

impl World {
    fn new(outbox_bytes: usize, volatile: bool) -> Self {
        Self::paced(outbox_bytes, volatile, PaceLimits::default())
    }

    fn paced(outbox_bytes: usize, volatile: bool, pace: PaceLimits) -> Self {
        let shard = |i: u16| {
            let id = ShardId(i);
            Shard::new(Setup {
                id,
                shards: SHARDS,
                node: NodeId(0),
                boot: 1,
                volatile,
                outbox_bytes,
                outbox_part: limits::OUTBOX_BUDGET_DEFAULT,
                coalesce_ms: 0,
                compression_min_bytes: limits::COMPRESSION_MIN_BYTES_DEFAULT,
                ping_after_ms: limits::PING_AFTER_MS,
                idle_after_ms: limits::IDLE_MS,
                response_ms_max: limits::WELCOME_MS_MAX,
                devices: DevicePolicy { total: 4, of_class: [1, 4, 4, 4] },
                pace,
                clustered: false,
                tells_offline: false,
                tells_group: false,
                planted_bug: None,
            })
        };
        Self {
            now: Now { mono_ms: 0, wall_ms: 1_000_000, sub_us: 0 },
            shards: (0..SHARDS).map(shard).collect(),
            fx: Effects::default(),
            lanes: VecDeque::new(),
            far: Vec::new(),
            store: VecDeque::new(),
            held: false,
            failing: false,
            losing: false,
            turns: true,
            db: Db::default(),
            clients: Vec::new(),
            dirty: Vec::new(),
            pongs: Vec::new(),
            slots: 0,
            token_ms: None,
            ended: false,
            trace: String::new(),
        }
    }

    fn step(&mut self, shard: usize, event: Event) {
        self.shards[shard].step(self.now, event, &mut self.fx);
        self.obey(shard);
    }

    fn obey(&mut self, shard: usize) {
        let effects: Vec<Effect> = self.fx.drain().collect();
        for effect in effects {
            self.act(shard, effect);
        }
    }

    fn act(&mut self, shard: usize, effect: Effect) {
        match effect {
            Effect::Flush { conn } | Effect::Finish { conn, .. } => self.dirty.push((shard, conn)),
            Effect::Broadcast { batch, form, conns } => {
                for &conn in &conns {
                    let stalled = self.client(shard, conn).is_none_or(|client| client.stalled);
                    if stalled {
                        self.shards[shard].broadcast_to(conn, &batch, form).sent(0);
                        self.dirty.push((shard, conn));
                    } else {
                        self.receive(shard, conn, batch.bytes_as(form));
                    }
                }
                self.fx.recycle(conns);
            }
            Effect::Pause { .. } | Effect::Resume { .. } => {}
            Effect::Peer { to, msg } => self.lanes.push_back((shard, usize::from(to.0), msg)),
            Effect::Far(what) => self.far.push(what),
            Effect::Write { ask, write } => self.store.push_back((shard, ask, Ask::Write(write))),
            Effect::Read { ask, read } => self.store.push_back((shard, ask, Ask::Read(read))),
            Effect::GroupStored { .. } => unreachable!("it was not asked for"),
            Effect::Offline { user, .. } => {
                writeln!(self.trace, "{user} is away").expect("a string takes all");
            }
            Effect::Answer { id, answer } => {
                writeln!(self.trace, "notice {id}: {answer:?}").expect("a string takes all");
            }
        }
    }

    fn client(&mut self, shard: usize, conn: ConnId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.shard == shard && client.conn == conn)
    }

    fn receive(&mut self, shard: usize, conn: ConnId, bytes: &[u8]) {
        let Some(client) = self.client(shard, conn) else { return };
        client.buffer.extend_from_slice(bytes);
        let name = client.name.clone();
        while let Some((opcode, payload)) = next_frame(&mut self.client(shard, conn).expect("it is there").buffer) {
            if opcode == 9 && !payload.is_empty() {
                // A ping that asks whether messages have arrived: browsers answer it by themselves,
                // and nobody sees it.
                self.pongs.push((shard, conn, payload.into()));
                continue;
            }
            let line = describe(opcode, &payload);
            if line == "ready " {
                continue;
            }
            writeln!(self.trace, "{name}: {line}").expect("a string takes all");
        }
    }

    /// Lets everything happen that can happen now.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            while let Some((from, to, msg)) = self.lanes.pop_front() {
                let from = ShardId(u16::try_from(from).expect("small"));
                self.step(to, Event::Peer { from, msg });
                idle = false;
            }
            while !self.held
                && let Some((shard, ask, what)) = self.store.pop_front()
            {
                let reply = match what {
                    Ask::Write(_) if self.failing => Reply::Written(Err(store::Error::Unavailable("test".into()))),
                    Ask::Write(write) if self.losing && matches!(write, Write::Append(_) | Write::Recall(_)) => {
                        self.db.write(&write);
                        Reply::Written(Err(store::Error::Unknown("test".into())))
                    }
                    Ask::Write(write) => Reply::Written(Ok(self.db.write(&write))),
                    Ask::Read(_) if self.failing => Reply::Read(Err(store::Error::Unavailable("test".into()))),
                    Ask::Read(read) => Reply::Read(Ok(self.db.read(&read))),
                };
                self.losing &= !matches!(reply, Reply::Written(Err(_)));
                self.step(shard, Event::Settled { ask, reply });
                idle = false;
            }
            for (shard, conn, payload) in mem::take(&mut self.pongs) {
                self.step(shard, Event::Pong { conn, payload });
                idle = false;
            }
            if idle && self.turns {
                idle = !self.end_turn() && !self.wait_for_arrivals();
            }
            if idle {
                return;
            }
        }
    }

    /// Sessions that came together are asked about a moment later.
    fn wait_for_arrivals(&mut self) -> bool {
        let now_ms = self.now.mono_ms;
        let soon = self.shards.iter().filter_map(|shard| shard.opening.next_ms()).filter(|&at| at > now_ms).min();
        let Some(at) = soon.filter(|&at| at <= now_ms + limits::OPEN_PACE_MS) else { return false };
        self.now = Now { mono_ms: at, wall_ms: self.now.wall_ms + at - now_ms, sub_us: 0 };
        true
    }

    fn end_turn(&mut self) -> bool {
        let mut busy = false;
        for shard in 0..self.shards.len() {
            self.step(shard, Event::TurnEnd);
            while self.shards[shard].sweep_due() {
                self.step(shard, Event::Sweep);
                busy = true;
            }
        }
        for (shard, conn) in mem::take(&mut self.dirty) {
            if self.client(shard, conn).is_none_or(|client| client.stalled) {
                self.dirty.push((shard, conn));
                continue;
            }
            busy |= self.flush(shard, conn);
        }
        busy || !self.lanes.is_empty() || (!self.held && !self.store.is_empty())
    }

    fn flush(&mut self, shard: usize, conn: ConnId) -> bool {
        let mut scratch = [0; 100];
        let mut more = true;
        while more && let Some(transmit) = self.shards[shard].poll_send(self.now, conn, &mut scratch, &mut self.fx) {
            let bytes = transmit.bytes().to_vec();
            more = transmit.sent(bytes.len());
            self.receive(shard, conn, &bytes);
        }
        self.obey(shard);
        true
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["hold", "store"] => self.held = true,
            ["release", "store"] => (self.held, self.failing) = (false, false),
            ["fail", "store"] => self.failing = true,
            ["lose", "answers"] => self.losing = true,
            ["turn", on] => self.turns = *on == "on",
            ["wait", ms] => {
                let ms: u64 = ms.parse().expect("milliseconds");
                self.now = Now { mono_ms: self.now.mono_ms + ms, wall_ms: self.now.wall_ms + ms, sub_us: 0 };
            }
            ["full", "lanes"] => self.room(0),
            ["free", "lanes"] => self.room(1000),
            ["quiesce"] => (0..self.shards.len()).for_each(|shard| self.step(shard, Event::Quiesce)),
            ["close", "all"] => (0..self.shards.len()).for_each(|shard| {
                self.step(shard, Event::CloseAll(Drain::default()));
                self.step(shard, Event::CloseSome { most: u32::MAX });
            }),
            ["join", who, group] => self.member(who, group, true),
            ["leave", who, group] => self.member(who, group, false),
            ["hello"] => self.step(0, Event::Notice { id: 1, notice: Notice::Hello }),
            ["block", who, of, on] => {
                let (owner, other, on) = (user_of(who), user_of(of), *on == "on");
                self.db.blocks.retain(|pair| *pair != (owner, other));
                if on {
                    self.db.blocks.push((owner, other));
                }
                let mut shards = [owner, other].map(|user| usize::from(shard_of(user, SHARDS).0)).to_vec();
                shards.dedup();
                for shard in shards {
                    self.step(shard, Event::Notice { id: 1, notice: Notice::Block { owner, other, on } });
                }
            }
            ["changed", who, what, of] => {
                let user = user_of(who);
                let what = [Hint::Friends, Hint::Groups, Hint::Profile].into_iter().find(|hint| hint.what() == *what);
                let (what, of) = (what.expect("a hint"), of.parse().expect("an id"));
                let notice = Notice::Changed { user, what, id: of };
                self.step(usize::from(shard_of(user, SHARDS).0), Event::Notice { id: 1, notice });
            }
            ["regroup", group] => {
                let group = GroupId::new(group.parse().expect("an id")).expect("in range");
                for shard in 0..usize::from(SHARDS) {
                    self.step(shard, Event::Notice { id: 1, notice: Notice::GroupChanged { group } });
                }
            }
            ["recall", who, of, seq] => {
                let seq = Seq::new(seq.parse().expect("a number")).expect("in range");
                let notice = Notice::Recall { user: user_of(who), of: Self::target(of), seq };
                self.step(0, Event::Notice { id: 1, notice });
            }
            ["introduce", who, of] => {
                let (reader, of) = (user_of(who), user_of(of));
                let shard = usize::from(shard_of(reader, SHARDS).0);
                self.step(shard, Event::Notice { id: 1, notice: Notice::Introduced { reader, of } });
            }
            ["banned", who] => {
                let user = user_of(who);
                let shard = usize::from(shard_of(user, SHARDS).0);
                self.step(shard, Event::Notice { id: 1, notice: Notice::Banned { user } });
            }
            ["stall", who] => self.named(who).stalled = true,
            ["drain", who] => self.named(who).stalled = false,
            [who, "->", to, text @ ..] => self.say(who, to.trim_end_matches(':'), text),
            [who, "open", profile @ ..] => self.open(who.trim_end_matches(':'), profile, Device::Web),
            [who, "phone"] => self.open(who.trim_end_matches(':'), &[], Device::Phone),
            [who, rest @ ..] => self.talk(who.trim_end_matches(':'), rest),
            [] => {}
        }
    }

    fn room(&mut self, msgs: u32) {
        for shard in 0..self.shards.len() {
            for to in 0..SHARDS {
                self.step(shard, Event::Credit { to: ShardId(to), msgs, bytes: 1 << 20 });
            }
        }
    }

    fn member(&mut self, who: &str, group: &str, join: bool) {
        let (user, group) = (user_of(who), GroupId::new(group.parse().expect("a group")).expect("in range"));
        let home = usize::from(home_of(ConvId::Group(group), SHARDS).0);
        let notice = if join { Notice::Join { group, user } } else { Notice::Leave { group, user } };
        self.step(home, Event::Notice { id: 1, notice });
    }

    /// What a gateway reads of a membership that another one may have changed.
    fn seen(&mut self, who: &str, group: &str, since: Option<u64>, age_ms: u64) {
        let (user, group) = (user_of(who), GroupId::new(group.parse().expect("a group")).expect("in range"));
        let home = usize::from(home_of(ConvId::Group(group), SHARDS).0);
        let since = since.and_then(Seq::new);
        self.step(home, Event::Notice { id: 1, notice: Notice::MemberSeen { group, user, since, age_ms } });
    }

    fn named(&mut self, name: &str) -> &mut Client {
        self.clients.iter_mut().find(|client| client.open && client.name == name).expect("the client is open")
    }

    fn open(&mut self, name: &str, profile: &[&str], device: Device) {
        let key = Key::new([7; 32]);
        let user = user_of(name);
        let (profile, issuer) = match profile {
            ["legacy"] => (Profile::Legacy(Echo::None), Issuer::FastIm),
            ["imchat"] => (Profile::Legacy(Echo::Groups), Issuer::ImChat),
            _ => (Profile::V2, Issuer::Own),
        };
        let expires_ms = self.token_ms.map_or(u64::MAX >> 12, |ms| self.now.wall_ms + ms);
        let token = key.issue(user, 0, issuer, expires_ms);
        let identity = key.verify(&token, self.now.wall_ms).expect("a fresh token");
        let conn = ConnId { slot: self.slots, generation: 1 };
        self.slots += 1;
        let shard = usize::from(shard_of(user, SHARDS).0);
        self.clients.push(Client { name: name.into(), conn, shard, stalled: false, open: true, buffer: Vec::new() });
        let hello = Hello { identity, profile, device, device_tag: 0, deflate: None };
        let ended = mem::take(&mut self.ended);
        self.step(shard, Event::Open { conn, hello, response: Box::default(), ended });
    }

    fn command(&mut self, who: &str, command: Command) {
        let (shard, conn) = (self.named(who).shard, self.named(who).conn);
        self.step(shard, Event::Command { conn, command });
    }

    fn target(word: &str) -> Target {
        match word.strip_prefix('#') {
            Some(group) => Target::Group(GroupId::new(group.parse().expect("a group")).expect("in range")),
            None => Target::User(user_of(word)),
        }
    }

    fn say(&mut self, who: &str, to: &str, text: &[&str]) {
        let (text, cid) = match text {
            [text @ .., last] if last.starts_with('[') => (text, Some(last.trim_matches(['[', ']']))),
            text => (text, None),
        };
        let content = text.join(" ");
        let body = cid.map_or_else(
            || format!(r#""content":"{content}""#),
            |cid| format!(r#""cid":"{cid}","content":"{content}""#),
        );
        let post = Post { to: Self::target(to), cid: cid.map(Into::into), body: body.into() };
        self.command(who, Command::Post(post));
    }

    fn talk(&mut self, who: &str, words: &[&str]) {
        match words {
            ["beat"] => self.command(who, Command::Heartbeat),
            ["sync", of, "after", n] => {
                let after = Seq::new(n.parse().expect("a number")).expect("in range");
                self.command(
                    who,
                    Command::Sync(SyncRequest { of: Self::target(of), from: PageStart::After(after), limit: 100 }),
                );
            }
            ["convs"] => self.command(who, Command::Convs(Convs { before: None })),
            ["recv", of, recv, "read", read] => {
                let seq = |n: &str| Seq::new(n.parse().expect("a number")).expect("in range");
                self.command(who, Command::Cursor(Cursor { of: Self::target(of), recv: seq(recv), read: seq(read) }));
            }
            ["watches", users @ ..] => {
                let mut users: Vec<UserId> = users.iter().map(|name| user_of(name)).collect();
                users.sort_unstable();
                self.command(who, Command::Watch(users.into()));
            }
            ["recalls", of, seq, cid @ ..] => {
                let seq = Seq::new(seq.parse().expect("a number")).expect("in range");
                let cid = cid.first().map(|cid| cid.trim_matches(['[', ']']).into());
                self.command(who, Command::Recall(RecallCommand { of: Self::target(of), seq, cid }));
            }
            ["types", of] => self.command(who, Command::Typing(Self::target(of))),
            ["close"] => {
                let (shard, conn) = (self.named(who).shard, self.named(who).conn);
                self.step(shard, Event::PeerClosed { conn, code: Some(1000) });
            }
            ["ends"] => {
                let (shard, conn) = (self.named(who).shard, self.named(who).conn);
                self.step(shard, Event::PeerEnded { conn });
            }
            ["gone"] => {
                let (shard, conn) = (self.named(who).shard, self.named(who).conn);
                self.named(who).open = false;
                self.step(shard, Event::Gone { conn });
            }
            other => panic!("no such line: {who} {other:?}"),
        }
    }
}

/// Takes one server frame off the front of `buffer`. Its own reading of RFC 6455, section 5.2.
fn next_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&first, &second) = (buffer.first()?, buffer.get(1)?);
    assert_eq!(first & 0x80, 0x80, "the server does not fragment");
    let (len, header) = match second {
        126 => (usize::from(u16::from_be_bytes([*buffer.get(2)?, *buffer.get(3)?])), 4),
        short => (usize::from(short), 2),
    };
    if buffer.len() < header + len {
        return None;
    }
    let payload = buffer[header..header + len].to_vec();
    buffer.drain(..header + len);
    Some((first & 0x0f, payload))
}

fn describe_row(row: &Value) -> String {
    let state = match (row["recalled"].as_bool(), row["recall"].as_u64()) {
        (Some(true), _) => " (recalled)".to_owned(),
        (_, Some(seq)) => format!(" (recalls #{seq})"),
        _ => String::new(),
    };
    format!("#{}{state}", row["seq"])
}

fn describe(opcode: u8, payload: &[u8]) -> String {
    match opcode {
        8 => return format!("close {}", u16::from_be_bytes([payload[0], payload[1]])),
        9 => return "ping".into(),
        10 => return "pong".into(),
        _ => {}
    }
    let Ok(json) = serde_json::from_slice::<Value>(payload) else {
        return format!("text {}", String::from_utf8_lossy(payload));
    };
    let seq = json["seq"].as_u64().map_or(String::new(), |seq| format!(" #{seq}"));
    match json["cmd"].as_u64().expect("a cmd") {
        0 => "beat".into(),
        3 => format!(
            "cursor of {} in {}:{} {} {}",
            letter(json["userid"].as_u64().expect("userid")),
            json["kind"],
            json["dstid"],
            json["recv"],
            json["read"]
        ),
        5 => {
            let state = |conv: &Value| {
                format!(
                    "{}:{} head {} recv {} read {} unread {}",
                    conv["kind"], conv["dstid"], conv["head"], conv["recv"], conv["read"], conv["unread"]
                )
            };
            let convs: Vec<String> = json["convs"].as_array().expect("convs").iter().map(state).collect();
            format!("ready {}", convs.join(", "))
        }
        6 => {
            format!("{} types in {}:{}", letter(json["userid"].as_u64().expect("userid")), json["kind"], json["dstid"])
        }
        7 => {
            let row = |row: &Value| {
                let state = if row["online"] == true { "online" } else { "offline" };
                format!("{} {state}", letter(row["userid"].as_u64().expect("userid")))
            };
            let rows: Vec<String> = json["rows"].as_array().expect("rows").iter().map(row).collect();
            rows.join(", ")
        }
        9 => format!("hint {} {}", json["what"], json["id"]),
        1 => {
            let dup = if json["dup"] == true { " dup" } else { "" };
            format!("ack{seq} {}{dup}", json["cid"].as_str().unwrap_or("-"))
        }
        2 => format!("refused {}", json["code"]),
        4 => {
            let rows: Vec<String> = json["rows"].as_array().expect("rows").iter().map(describe_row).collect();
            format!("rows {} head {}", rows.join(" "), json["head"])
        }
        _ if json["recall"].is_u64() => {
            format!("push{seq} {} recalls #{}", letter(json["userid"].as_u64().expect("userid")), json["recall"])
        }
        _ => format!(
            "push{seq} {} {}",
            letter(json["userid"].as_u64().expect("userid")),
            json["content"].as_str().unwrap_or("?")
        ),
    }
}

#[track_caller]
fn check_in(mut world: World, script: &str, expect: &str) {
    let mut trace = Vec::new();
    for line in script.lines() {
        world.line(line.trim());
        world.settle();
        let mut heard: Vec<String> = mem::take(&mut world.trace).lines().map(Into::into).collect();
        heard.sort_by_key(|line| line.split(':').next().map(str::to_owned));
        trace.extend(heard);
    }
    let expect: Vec<&str> = expect.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(trace.join("\n"), expect.join("\n"));
    for shard in &world.shards {
        shard.check_invariants();
    }
}

#[track_caller]
fn check(script: &str, expect: &str) {
    check_in(World::new(limits::OUTBOX_BYTES_MAX, false), script, expect);
}

#[test]
fn a_direct_message_is_acked_and_pushed_to_every_device() {
    check(
        "a: open
         a2: open
         b: open
         b2: open legacy
         a -> b: hi [x]
         b2 -> a: yes",
        "b2: text welcome!
         a: ack #1 x
         a2: push #1 a hi
         b: push #1 a hi
         b2: push #1 a hi
         a: push #2 b yes
         a2: push #2 b yes
         b: push #2 b yes",
    );
}

#[test]
fn a_note_to_oneself_reaches_the_other_device_once() {
    check(
        "a: open
         a2: open
         a -> a: remember",
        "a: ack #1 -
         a2: push #1 a remember",
    );
}

#[test]
fn a_group_message_reaches_members_only_and_joining_while_connected_counts_from_then_on() {
    check(
        "a: open
         b: open
         c: open imchat
         join a 7
         a -> #7: one
         join b 7
         join c 7
         b -> #7: two
         c -> #7: three
         leave b 7
         a -> #7: four
         b -> #7: five",
        "c: text hello,world!
         notice 1: Done
         a: ack #1 -
         notice 1: Done
         notice 1: Done
         a: push #2 b two
         b: ack #2 -
         c: push #2 b two
         a: push #3 c three
         b: push #3 c three
         c: push #3 c three
         notice 1: Done
         a: ack #4 -
         c: push #4 a four
         b: refused 10",
    );
}

#[test]
fn nothing_is_acked_before_the_store_has_it_and_a_refusal_is_told() {
    check(
        "a: open
         b: open
         hold store
         a -> b: one [x]
         a: beat
         release store
         fail store
         a -> b: two [y]
         release store
         a -> b: two [y]",
        "a: beat
         a: ack #1 x
         b: push #1 a one
         a: refused 20
         a: ack #2 y
         b: push #2 a two",
    );
}

#[test]
fn a_resend_gets_the_old_ack_and_nobody_sees_it_twice() {
    check(
        "a: open
         b: open
         a -> b: hi [x]
         a -> b: hi [x]
         hold store
         a -> b: ho [y]
         a -> b: ho [y]
         release store
         a -> c: hi [x]",
        "a: ack #1 x
         b: push #1 a hi
         a: ack #1 x dup
         a: ack #2 y
         a: ack #2 y dup
         b: push #2 a ho
         a: refused 14",
    );
}

#[test]
fn a_resend_that_cannot_wait_for_the_first_one_is_not_told_that_nothing_is_stored() {
    let tries = "a -> b: hi [x]\n".repeat(limits::WAITERS_MAX + 2);
    let dups = "a: ack #1 x dup\n".repeat(limits::WAITERS_MAX);
    check(
        &format!("a: open\nb: open\nhold store\n{tries}release store"),
        &format!("a: refused 21\na: ack #1 x\n{dups}b: push #1 a hi"),
    );
}

#[test]
fn a_lost_answer_of_the_store_is_asked_again_and_delivered_once() {
    check(
        "a: open
         b: open
         a -> b: first [w]
         lose answers
         a -> b: hi [x]
         a -> b: ho [y]
         a -> b: hi [x]",
        "a: ack #1 w
         b: push #1 a first
         a: ack #2 x
         b: push #2 a hi
         a: ack #3 y
         b: push #3 a ho
         a: ack #2 x dup",
    );
}

#[test]
fn a_stalled_session_goes_behind_and_catches_up_while_others_go_on() {
    check_in(
        World::new(150, false),
        "a: open
         b: open
         b2: open
         stall b2
         a -> b: one
         a -> b: two
         a -> b: three
         a -> b: four
         drain b2
         a -> b: five",
        "a: ack #1 -
         b: push #1 a one
         a: ack #2 -
         b: push #2 a two
         a: ack #3 -
         b: push #3 a three
         a: ack #4 -
         b: push #4 a four
         b2: push #1 a one
         b2: push #2 a two
         b2: push #3 a three
         b2: push #4 a four
         a: ack #5 -
         b: push #5 a five
         b2: push #5 a five",
    );
}

#[test]
fn a_full_lane_leaves_a_mark_and_the_store_heals_it() {
    check(
        "a: open
         b: open
         c: open
         d: open
         join a 7
         join b 7
         join c 7
         join d 7
         full lanes
         a -> #7: one
         free lanes
         a -> #7: two
         wait 10",
        "notice 1: Done
         notice 1: Done
         notice 1: Done
         notice 1: Done
         a: ack #1 -
         b: push #1 a one
         d: push #1 a one
         c: push #1 a one
         a: ack #2 -
         b: push #2 a two
         c: push #2 a two
         d: push #2 a two",
    );
}

#[test]
fn an_author_who_leaves_before_the_sweep_gets_the_ack_all_the_same() {
    check(
        "a: open
         b: open
         join a 7
         join b 7
         turn off
         a -> #7: bye [x]
         leave a 7
         turn on
         wait 1",
        "notice 1: Done
         notice 1: Done
         notice 1: Done
         a: ack #1 x
         b: push #1 a bye",
    );
}

#[test]
fn a_legacy_post_is_parked_while_the_store_is_busy_and_told_in_words_when_it_stays_so() {
    check(
        "a: open legacy
         b: open
         fail store
         a -> b: patience
         wait 200
         release store
         wait 200
         fail store
         a -> b: too long
         wait 3000
         wait 3000
         wait 3000",
        "a: text welcome!
         b: push #1 a patience
         a: text refused: busy, try again",
    );
}

#[test]
fn a_session_waits_for_the_store_before_it_hears_or_says_anything() {
    check(
        "a: open
         hold store
         b: open legacy
         release store
         a -> b: hi",
        "b: text welcome!
         a: ack #1 -
         b: push #1 a hi",
    );
    check(
        "a: open
         b: open
         banned b
         a -> b: hi",
        "b: close 4503
         notice 1: Done
         a: ack #1 -",
    );
}

#[test]
fn a_store_that_never_answers_for_a_session_ends_it_with_a_request_to_come_back() {
    check(
        "fail store
         a: open
         wait 200
         wait 6000
         wait 200",
        "a: close 4002",
    );
}

#[test]
fn silence_is_pinged_twice_and_then_ended() {
    check(
        "a: open
         wait 56000
         wait 56000
         wait 30000",
        "a: ping
         a: ping
         a: close 4003",
    );
}

#[test]
fn every_end_of_a_session_is_counted_once_by_who_began_it() {
    let mut world = World::new(150, false);
    let script = ["a: open", "b: open", "c: open", "a: close", "a: gone", "b: gone", "banned c", "c: close", "c: gone"];
    for line in script {
        world.line(line);
        world.settle();
    }
    let mut ended = [0, 0, 0];
    for shard in &mut world.shards {
        let tally = shard.tally();
        ended[0] += tally.ended_by_peer;
        ended[1] += tally.ended_by_loss;
        ended[2] += tally.closed.iter().sum::<u64>();
    }
    assert_eq!(ended, [1, 1, 1]);
}

#[test]
fn sync_shows_what_a_member_may_see() {
    check(
        "a: open
         b: open
         join a 7
         a -> #7: one
         a -> #7: two
         join b 7
         a -> #7: three
         b: sync #7 after 0
         c: open
         c: sync #7 after 0
         a: sync #7 after 9",
        "notice 1: Done
         a: ack #1 -
         a: ack #2 -
         notice 1: Done
         a: ack #3 -
         b: push #3 a three
         b: rows #3 head 3
         c: refused 10
         a: rows  head 3",
    );
}

#[test]
fn stopping_tells_who_waited_and_reads_no_more_for_anybody() {
    check(
        "a: open
         b: open legacy
         fail store
         b -> a: parked
         quiesce
         release store
         a: sync b after 0
         a: convs
         c: open
         close all",
        "b: text welcome!
         b: text refused: the gateway is stopping
         a: refused 22
         a: refused 22
         c: close 4000
         a: close 4000
         b: close 4000",
    );
}

#[test]
fn stopping_refuses_posts_and_tells_everybody_to_come_back() {
    check(
        "a: open
         b: open legacy
         quiesce
         a -> b: late [x]
         b -> a: late
         a: beat
         hello
         close all",
        "b: text welcome!
         a: refused 22
         b: text refused: the gateway is stopping
         a: beat
         notice 1: Done
         a: close 4000
         b: close 4000",
    );
}

#[test]
fn a_volatile_gateway_routes_and_numbers_nothing() {
    check_in(
        World::new(150, true),
        "a: open
         b: open
         a -> b: hi [x]
         a -> b: hi [x]
         stall b
         a -> b: one
         a -> b: two
         a -> b: three
         drain b
         a -> #7: nobody",
        "a: ack x
         b: push a hi
         a: ack x dup
         a: ack -
         a: ack -
         a: ack -
         b: push a one
         b: push a two
         a: refused 10",
    );
}

#[test]
fn what_a_user_has_read_is_kept_relayed_and_told_at_the_next_open() {
    check(
        "a: open
         a2: open
         b: open
         a -> b: one
         a -> b: two
         b: recv a 2 read 1
         wait 10
         b: recv a 2 read 2
         b: recv a 1 read 1
         wait 10
         wait 6000
         b: gone
         b: open
         b: convs",
        "a: ack #1 -
         a2: push #1 a one
         b: push #1 a one
         a: ack #2 -
         a2: push #2 a two
         b: push #2 a two
         a: cursor of b in 10:2 2 1
         a2: cursor of b in 10:2 2 1
         b: cursor of b in 10:1 2 1
         a: cursor of b in 10:2 2 2
         a2: cursor of b in 10:2 2 2
         b: cursor of b in 10:1 2 2
         b: ready 10:1 head 2 recv 2 read 2 unread 0
         b: ready 10:1 head 2 recv 2 read 2 unread 0",
    );
}

#[test]
fn a_page_gets_what_it_missed_after_its_welcome_and_nothing_twice() {
    check(
        "b: open legacy
         a: open
         a -> b: one
         wait 6000
         b: gone
         a -> b: two
         a -> b: three
         b: open legacy
         wait 100
         wait 100
         wait 100
         a -> b: four
         wait 6000
         b: gone
         b: open legacy",
        "b: text welcome!
         a: ack #1 -
         b: push #1 a one
         a: cursor of b in 10:2 1 0
         a: ack #2 -
         a: ack #3 -
         b: text welcome!
         b: push #2 a two
         b: push #3 a three
         a: ack #4 -
         b: push #4 a four
         a: cursor of b in 10:2 4 0
         b: text welcome!",
    );
}

#[test]
fn what_a_page_missed_waits_until_it_knows_the_author_and_nothing_overtakes_it() {
    check(
        "a: open
         c: open
         a -> b: one
         a -> b: two
         c -> b: three
         b: open legacy
         c -> b: four
         wait 100
         wait 100
         introduce b a
         wait 100
         wait 100
         wait 100
         wait 100",
        "a: ack #1 -
         a: ack #2 -
         c: ack #1 -
         b: text welcome!
         b: push #1 a one
         c: ack #2 -
         notice 1: Done
         b: push #1 c three
         b: push #2 a two
         b: push #2 c four",
    );
    check(
        "a: open
         a -> b: one
         a -> b: two
         b: open legacy
         introduce b a
         wait 100
         a -> b: three",
        "a: ack #1 -
         a: ack #2 -
         b: text welcome!
         b: push #1 a one
         notice 1: Done
         b: push #2 a two
         a: ack #3 -
         b: push #3 a three",
    );
}

#[test]
fn a_page_that_lives_for_a_moment_confirms_all_the_same() {
    check(
        "b: open legacy
         a: open
         a -> b: one
         b: gone
         b: open legacy",
        "b: text welcome!
         a: ack #1 -
         b: push #1 a one
         a: cursor of b in 10:2 1 0
         b: text welcome!",
    );
}

#[test]
fn a_page_that_never_confirmed_gets_it_again() {
    check(
        "b: open legacy
         stall b
         a: open
         a -> b: one
         wait 6000
         b: gone
         b: open legacy",
        "b: text welcome!
         a: ack #1 -
         b: text welcome!
         b: push #1 a one",
    );
}

#[test]
fn a_new_device_beyond_the_policy_replaces_the_oldest_of_its_class_and_then_of_all() {
    check(
        "a: open
         a1: phone
         a2: phone
         a3: open
         a4: open
         a5: open",
        "a1: close 4502
         a: close 4502",
    );
}

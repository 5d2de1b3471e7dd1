//! How far users have come, as clients tell it and are told: `cmd` 3 and 5, and the pongs of legacy clients.
//!
//! Owns: these moves of clients, the meaning of what they read of it, and the checks of cursors when all is quiet.

use std::collections::{BTreeMap, BTreeSet};

use imgate::ids::{ConvId, UserId};
use imgate::limits::HEADS_MAX;
use imgate::shard::Event;
use imgate::store::{Backend, Read, ReadAnswer};
use imgate::wire::command::{Convs, Cursor};
use imgate::wire::{Command, Echo, Profile, Reject};
use serde_json::{Map, Value};

use crate::client::{Sent, Waiting};
use crate::hear::{conv, number, seq_of, user};
use crate::truth::Moment;
use crate::words::Reach;
use crate::world::{Checked, World, conv_of, target_of};

/// A conversation as `cmd` 5 lists it.
struct Listed {
    conv: ConvId,
    head: u64,
    ts: u64,
    reach: Reach,
    unread: u64,
    floor: u64,
    /// Number, author and time of the newest message.
    last: Option<(u64, UserId, u64)>,
}

impl Listed {
    fn parse(object: &Value, reader: UserId) -> Result<Self, String> {
        let Value::Object(object) = object else { return Err(format!("{object} is no conversation")) };
        let last = match object.get("last") {
            Some(Value::Object(last)) => {
                Some((number(last, "seq")?, user(number(last, "userid")?)?, number(last, "ts")?))
            }
            _ => None,
        };
        Ok(Self {
            conv: conv(number(object, "kind")?, number(object, "dstid")?, reader)?,
            head: number(object, "head")?,
            ts: number(object, "ts")?,
            reach: (number(object, "recv")?, number(object, "read")?),
            unread: number(object, "unread")?,
            floor: number(object, "floor")?,
            last,
        })
    }

    fn place(&self) -> (u64, ConvId) {
        (self.ts, self.conv)
    }
}

impl World {
    // ---- what clients say -----------------------------------------------------------------------

    /// A v2 client says how far it has come, rarely more than there is.
    pub(crate) fn say_word(&mut self, client: usize) -> Checked {
        let known: Vec<ConvId> = self.clients[client].memory.last.keys().copied().collect();
        let user = self.clients[client].user;
        let of = if known.is_empty() || self.random.chance(100) {
            self.target()
        } else {
            target_of(user, self.random.pick(&known))
        };
        let conv = conv_of(user, of);
        let has = self.clients[client].memory.last.get(&conv).copied().unwrap_or(0);
        let lies = self.random.chance(20);
        let most = if lies { self.truth.head(conv) + self.random.between(1, 5) } else { has };
        if most == 0 || !self.clients[client].is_v2() {
            return Ok(());
        }
        let recv = if lies || self.random.chance(600) { most } else { self.random.between(1, most) };
        let some = self.random.between(1, recv);
        let read = self.random.pick(&[0, some, recv]);
        let cursor = Cursor { of, recv: seq_of(recv), read: seq_of(read) };
        self.queue(client, Sent::Command(Command::Cursor(cursor), None));
        Ok(())
    }

    /// A v2 client asks for a page of its conversations.
    pub(crate) fn ask_convs(&mut self, client: usize) -> Checked {
        let (some_of, long_ago) = (self.target(), self.now.wall_ms.saturating_sub(self.random.below(5000)));
        let volatile = self.plan.volatile;
        let here = &self.clients[client];
        let Some(link) = here.link.as_ref().filter(|link| link.ready || volatile) else { return Ok(()) };
        if !here.is_v2() || here.is_listing() {
            return Ok(());
        }
        let user = here.user;
        let before = match self.random.below(3) {
            0 => None,
            1 if !link.listed.is_empty() => {
                let (ts, conv) = self.random.pick(&link.listed);
                Some((ts, target_of(user, conv)))
            }
            _ => Some((long_ago, some_of)),
        };
        self.queue(client, Sent::Command(Command::Convs(Convs { before }), None));
        Ok(())
    }

    /// A v2 client asks for all pages of its conversations.
    pub(crate) fn walk(&mut self, client: usize) {
        let here = &mut self.clients[client];
        if let Some(link) = here.link.as_mut().filter(|link| link.is_live() && here.profile == Profile::V2) {
            link.walk = Some(Vec::new());
            link.queue.push_back(Sent::Command(Command::Convs(Convs { before: None }), None));
        }
    }

    /// The driver gives a shard a word.
    pub(crate) fn give_word(&mut self, client: usize, node: usize, cursor: Cursor) -> Checked {
        let user = self.clients[client].user;
        let conn = self.link(client)?.conn;
        let (conv, reach) = (conv_of(user, cursor.of), (cursor.recv.get(), cursor.read.get()));
        self.truth.words.say(user, conv, reach);
        if reach.0 > self.truth.head(conv) {
            self.truth.words.lie(user, conv);
        }
        let (step, before) = (self.step, self.nodes[node].shard.tally().refused);
        self.give(node, Event::Command { conn, command: Command::Cursor(cursor) })?;
        let after = self.nodes[node].shard.tally().refused;
        let refused: Vec<Reject> =
            Reject::ALL.into_iter().filter(|reject| before[reject.index()] != after[reject.index()]).collect();
        match refused.as_slice() {
            [] if self.plan.volatile => Ok(()),
            [] => {
                let head = self.truth.head(conv);
                // Of what does not exist nothing is owed: the refusal comes when the store has said
                // so.
                if head > 0 && self.truth.since(conv, user).is_some() {
                    self.truth.words.owe(user, conv, reach, head);
                }
                Ok(())
            }
            [reject] => {
                let nowhere = matches!(conv, ConvId::Group(group) if !self.groups.contains(&group));
                if *reject != Reject::NotMember || !nowhere {
                    self.judge_refusal(client, *reject, conv, step, false)?;
                }
                self.sights.words_refused += 1;
                self.link(client)?.refused_words.push((conv, reject.code()));
                Ok(())
            }
            many => Err(format!("P8: a word is refused with {many:?}")),
        }
    }

    /// The store has answered how far a conversation goes about which `user` has said something:
    /// what was said is refused at once, or is a cursor.
    pub(crate) fn give_mark(&mut self, node: usize, (user, conv): (UserId, ConvId), event: Event) -> Checked {
        let hers: Vec<usize> = (0..self.clients.len())
            .filter(|&client| self.clients[client].user == user)
            .filter(|&client| self.clients[client].link.as_ref().is_some_and(|link| link.node == node))
            .collect();
        let queued = |world: &mut Self| -> Vec<usize> {
            let conns = hers.iter().filter_map(|&client| Some(world.clients[client].link.as_ref()?.conn));
            conns.map(|conn| world.nodes[node].shard.outbox(conn).map_or(0, |outbox| outbox.bytes())).collect()
        };
        let (before, refused) = (queued(self), self.nodes[node].shard.tally().refused);
        self.give(node, event)?;
        let (after, refused_after) = (queued(self), self.nodes[node].shard.tally().refused);
        let told: Vec<usize> = (0..hers.len()).filter(|&at| before[at] != after[at]).map(|at| hers[at]).collect();
        if told.is_empty() {
            // The session is about to end: it is told nothing any more.
            self.seen.lost += refused_after.iter().sum::<u64>() - refused.iter().sum::<u64>();
            return Ok(());
        }
        let mut turn = 0;
        for reject in Reject::ALL {
            for _ in refused[reject.index()]..refused_after[reject.index()] {
                let lawful =
                    matches!(reject, Reject::NoSuchMessage | Reject::NotMember | Reject::NoSuchGroup | Reject::Busy);
                let Some(&client) = told.get(turn.min(told.len().saturating_sub(1))).filter(|_| lawful) else {
                    return Err(format!("P8: a word is refused with {reject:?}, and {told:?} are told"));
                };
                turn += 1;
                self.sights.words_refused += 1;
                self.link(client)?.refused_words.push((conv, reject.code()));
            }
        }
        Ok(())
    }

    /// A legacy client's pong is about to be given to the shard: everything that the client had read before the ping has arrived.
    pub(crate) fn confirm(&mut self, client: usize, payload: &[u8], read: &BTreeMap<ConvId, u64>) {
        let (user, profile) = (self.clients[client].user, self.clients[client].profile);
        let Some(link) = &self.clients[client].link else { return };
        if self.plan.volatile || self.clients[client].is_v2() {
            return;
        }
        // Its own messages are not sent to it, but count.
        let echoes = |conv: ConvId| profile == Profile::Legacy(Echo::Groups) && matches!(conv, ConvId::Group(_));
        let own: Vec<(ConvId, u64)> = link.own.iter().filter_map(|&post| self.truth.place_of(post)).collect();
        for (conv, seq) in own.into_iter().filter(|&(conv, _)| !echoes(conv)) {
            self.truth.words.say(user, conv, (seq, 0));
        }
        for (&conv, &seq) in read {
            self.truth.words.say(user, conv, (seq, 0));
            // A ping without payload asks for a sign of life and for nothing else.
            if !payload.is_empty() && self.truth.since(conv, user).is_some() {
                self.truth.words.owe(user, conv, (seq, 0), self.truth.head(conv));
                self.sights.confirmed += 1;
            }
        }
    }

    // ---- what clients are told ------------------------------------------------------------------

    /// `cmd` 3: how far somebody has come.
    pub(crate) fn hear_word(&mut self, client: usize, object: &Map<String, Value>) -> Checked {
        let listener = self.clients[client].user;
        let who = user(number(object, "userid")?)?;
        let conv = conv(number(object, "kind")?, number(object, "dstid")?, listener)?;
        let reach = (number(object, "recv")?, number(object, "read")?);
        let concerns = who == listener || (matches!(conv, ConvId::Direct { .. }) && conv.is_between(who));
        if self.plan.volatile || !concerns {
            return Err(format!("P6: {listener:?} is told of {who:?} in {conv:?}"));
        }
        if !self.truth.words.has(who, conv, reach, |seq| self.truth.ended_at(conv, who, seq)) {
            return Err(format!("P6: told that {who:?} has come to {reach:?} in {conv:?}, which nobody has said"));
        }
        let link = self.link(client)?;
        // Words of two devices may arrive in either order: a listener keeps the larger numbers (docs/protocol.md).
        let heard = link.heard.entry((who, conv)).or_default();
        *heard = (heard.0.max(reach.0), heard.1.max(reach.1));
        if link.resumed.is_none() {
            return Err("a word before the session is open".to_owned());
        }
        self.sights.relays += 1;
        Ok(())
    }

    /// `cmd` 5: a page of the user's conversations, asked for or not.
    pub(crate) fn hear_list(&mut self, client: usize, object: &Map<String, Value>) -> Checked {
        let reader = self.clients[client].user;
        let question = self.settle_waiting(client, "conversations", |waiting| matches!(waiting, Waiting::Convs { .. }));
        let volatile = self.plan.volatile;
        let walking = question.is_ok();
        let link = self.link(client)?;
        let (before, asked) = match question {
            Ok(Waiting::Convs { before, asked }) => (before, asked),
            _ if link.ready || volatile => return Err("P8: a list that nobody has asked for".to_owned()),
            _ => {
                link.ready = true;
                (None, link.begun.clone().ok_or("a list before the session is open")?)
            }
        };
        let Some(Value::Array(convs)) = object.get("convs") else { return Err("no convs in a list".to_owned()) };
        let page: Vec<Listed> = convs.iter().map(|one| Listed::parse(one, reader)).collect::<Result<_, _>>()?;
        let more = object.get("more").and_then(Value::as_bool).ok_or("no more in a list")?;
        if number(object, "epoch")? != 1 || page.len() > HEADS_MAX as usize || (more && page.len() < HEADS_MAX as usize)
        {
            return Err(format!("a list of {} conversations, more {more}: {object:?}", page.len()));
        }
        self.check_places(reader, before, &asked, &page, more)?;
        for one in &page {
            self.check_listed(reader, &asked, one)?;
        }
        self.sights.lists += u64::from(before.is_none());
        self.sights.pages += u64::from(before.is_some());
        self.sights.longer += u64::from(more);
        let link = self.link(client)?;
        link.listed = page.iter().map(Listed::place).collect();
        if let Some(walk) = link.walk.as_mut().filter(|_| walking) {
            walk.extend(page.iter().map(|one| one.conv));
            if let Some(last) = page.last().filter(|_| more) {
                let before = Some((last.ts, target_of(reader, last.conv)));
                link.queue.push_back(Sent::Command(Command::Convs(Convs { before }), None));
            }
        }
        Ok(())
    }

    /// The newest first, each once, nothing left out that had its place in this page from the question to the answer.
    fn check_places(
        &self,
        reader: UserId,
        before: Option<(u64, ConvId)>,
        asked: &Moment,
        page: &[Listed],
        more: bool,
    ) -> Checked {
        let order: Vec<(u64, ConvId)> = before.into_iter().chain(page.iter().map(Listed::place)).collect();
        if order.windows(2).any(|pair| pair[1] >= pair[0]) {
            return Err(format!("a list that is not in order: {order:?}"));
        }
        let convs: BTreeSet<ConvId> = page.iter().map(|one| one.conv).collect();
        if convs.len() != page.len() {
            return Err(format!("a list with a conversation twice: {order:?}"));
        }
        let last = page.last().map(Listed::place);
        for (&conv, stand) in asked.convs.iter().filter(|(conv, _)| !convs.contains(conv)) {
            let stays = match conv {
                ConvId::Direct { .. } => true,
                ConvId::Group(group) => {
                    self.truth.membership(group, reader).is_some_and(|span| span.step <= asked.step)
                }
            };
            let elsewhere = (stand.head..=self.truth.head(conv)).any(|seq| {
                let place = self.truth.message(conv, seq).map(|message| (message.ts, conv));
                before.is_some_and(|before| place >= Some(before)) || (more && place < last)
            });
            if stays && !elsewhere {
                return Err(format!("a list without {conv:?}, where {reader:?} stood at {stand:?}: {order:?}"));
            }
        }
        Ok(())
    }

    /// Each number of a listed conversation was true at some time from the question to the answer.
    fn check_listed(&self, reader: UserId, asked: &Moment, one: &Listed) -> Checked {
        let &Listed { conv, head, ts, reach, unread, floor, last } = one;
        let fail = |why: &str| {
            let (is, was) = (self.truth.moment(0, reader).convs.get(&conv).copied(), asked.convs.get(&conv));
            Err(format!(
                "cursors: {conv:?} is listed for {reader:?} with head {head}, {reach:?}, {unread} unread, floor {floor}: \
                 {why}; it was {was:?}, is {is:?}"
            ))
        };
        let sinces: Vec<u64> = match conv {
            ConvId::Direct { .. } => vec![0],
            ConvId::Group(group) => {
                let spans = self.truth.spans.get(&(group, reader)).map(Vec::as_slice).unwrap_or_default();
                let lasted = spans.iter().filter(|span| span.until.is_none() || span.end_step >= asked.step);
                lasted.map(|span| span.since).collect()
            }
        };
        let then = asked.convs.get(&conv);
        let (head_then, floor_then) = then.map_or((1, 1), |stand| (stand.head, stand.floor));
        if head < head_then || head > self.truth.head(conv) {
            return fail("no such head");
        }
        if self.truth.message(conv, head).is_none_or(|message| message.ts != ts) {
            return fail("another time");
        }
        let kept = self.truth.floor(conv);
        let lawful = |since: &u64| (floor_then.max(since + 1)..=kept.max(since + 1)).contains(&floor);
        if !sinces.iter().any(lawful) {
            return fail("no such floor");
        }
        let (most, since) = (self.truth.words.most(reader, conv), sinces.iter().copied().max().unwrap_or(0));
        let least = then.map_or((0, 0), |stand| stand.stored);
        if reach.0 < least.0 || reach.1 < least.1 || reach.0 > most.0.max(since) || reach.1 > most.1.max(since) {
            return fail("nobody has come there");
        }
        if reach.1 > reach.0 {
            return fail("read and not received");
        }
        let shown = self.truth.message(conv, head).filter(|_| floor <= head);
        if last != shown.map(|message| (head, message.sender, message.ts)) {
            return fail("another newest message");
        }
        if unread != self.truth.unread(conv, reader, (floor, reach.1, head)) {
            return fail("unread does not fit");
        }
        Ok(())
    }

    // ---- when all is quiet ----------------------------------------------------------------------

    /// Every walk has met each conversation once.
    pub(crate) fn check_walks(&mut self) -> Checked {
        for client in 0..self.clients.len() {
            let user = self.clients[client].user;
            let Some(walk) = self.clients[client].link.as_mut().and_then(|link| link.walk.take()) else { continue };
            let met: BTreeSet<ConvId> = walk.iter().copied().collect();
            let wanted: BTreeSet<ConvId> = self.truth.moment(0, user).convs.into_keys().collect();
            if met != wanted || met.len() != walk.len() {
                return Err(format!("client {client} walked over {walk:?}, its conversations are {wanted:?}"));
            }
        }
        Ok(())
    }

    /// What was said is stored, and every legacy session has confirmed what it has.
    pub(crate) fn check_cursors(&mut self) -> Checked {
        if self.plan.volatile {
            return Ok(());
        }
        for &user in &self.users {
            let read = Read::Heads { user, before: None, missed: false, max: HEADS_MAX };
            let answers = self.database.backend.read(&[read]).map_err(|error| error.to_string())?;
            let [ReadAnswer::Heads(heads)] = answers.as_slice() else { return Err("store: no heads".to_owned()) };
            self.truth.check_heads(user, None, (false, HEADS_MAX), heads)?;
        }
        for (user, conv, owed) in self.truth.words.all_owed() {
            let Some(since) = self.truth.since(conv, user) else { continue };
            let stored = self.truth.words.stored(user, conv);
            if stored.0.max(since) < owed.0 || stored.1.max(since) < owed.1 {
                return Err(format!("cursors: {user:?} has said {owed:?} in {conv:?}, stored is {stored:?}"));
            }
        }
        for (i, client) in self.clients.iter().enumerate().filter(|(_, client)| !client.is_v2()) {
            for (&conv, pushes) in client.link.iter().filter(|link| link.is_live()).flat_map(|link| &link.pushes) {
                let (last, said) = (pushes.last().copied().unwrap_or(0), self.truth.words.most(client.user, conv).0);
                if self.truth.since(conv, client.user).is_some_and(|since| last > since.max(said)) {
                    return Err(format!("cursors: client {i} has read {conv:?} #{last} and was never asked"));
                }
            }
        }
        Ok(())
    }
}

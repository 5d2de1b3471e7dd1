//! One device: a correct client by the rules of docs/protocol.md, with bad habits that the rules
//! allow: it breaks off, leaves connections standing, stops reading, sends what is acked again, and
//! knocks at other people's groups.
//!
//! Owns: [`Device`], its connection, its views, the messages that wait for their ack. What it saw
//! goes to the [`super::book::Book`] at once.
//! Never: sleeps, or knows another device.
//! Bounds: [`OUTSTANDING_MAX`] unanswered commands (rule 7), [`LETTERS_MAX`] waiting messages,
//! [`KEPT_MAX`] remembered ones.

mod lag;

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use imgate_client::link::{Broken, Got, Link, Upgrade};
use mio::{Registry, Token};
use serde_json::{Value, json};

use super::book::{Fault, How, Name, Seen, Who};
use super::dice::Dice;
use super::mail::{Mail, Row};
use super::view::{Asked, DeviceSight, View};
use super::{CrewLane, RunStage, World};
use crate::ledger::OwnOrder;
use crate::limits::{
    CONNECT_NS_MAX, KEPT_MAX, LETTERS_MAX, OUTSTANDING_MAX, RETRY_NS, RETRY_NS_MAX, SETTLE_TRIES_MAX,
    STALLED_RECEIVE_BYTES, SYNC_ROWS, TURN_MESSAGES_MAX,
};

const SECOND: u64 = 1_000_000_000;
/// First pause before an unanswered message is sent again on the same connection; it doubles up to
/// [`PATIENCE_NS_MAX`].
const PATIENCE_NS: u64 = 4 * SECOND;
const PATIENCE_NS_MAX: u64 = 30 * SECOND;
/// How long an answer to a sync is waited for.
const PAGE_NS: u64 = 20 * SECOND;
/// How long a closing handshake may take.
const CLOSING_NS: u64 = 2 * SECOND;
/// Mean periods of a reader that stalls.
const READING_NS: u64 = 4 * SECOND;
const STALLED_NS: u64 = 6 * SECOND;
/// Messages that two devices send at the same time, in a thousand.
const TWIN_PERMILLE: u64 = 10;

/// The refusal of users that are not members.
const NOT_MEMBER: u64 = 10;
/// From here on a close code forbids to come back.
const BANISHED: u16 = 4500;

/// What a device may use of its thread.
pub(crate) struct Turn<'a> {
    pub(crate) world: &'a World,
    pub(crate) lane: &'a CrewLane,
    pub(crate) registry: &'a Registry,
    pub(crate) ids: &'a [u64],
    pub(crate) ack_ns: &'a mut Histogram<u64>,
    pub(crate) lag_ns: &'a mut Histogram<u64>,
    /// Connections that are left standing.
    pub(crate) parked: &'a mut VecDeque<(u64, Link)>,
    /// Messages that another device of the same user shall send as well.
    pub(crate) twins: &'a mut Vec<(u32, u16, Mail)>,
    pub(crate) stage: RunStage,
    pub(crate) now_ns: u64,
}

/// Where the connection stands.
enum Line {
    Off {
        at_ns: u64,
    },
    Opening {
        link: Link,
        until_ns: u64,
    },
    Open(Link),
    /// Our close frame is sent.
    Closing {
        link: Link,
        until_ns: u64,
    },
    /// The server forbade to come back.
    Banished,
}

/// What a message is sent for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Aim {
    /// For the first time, by the device that made it.
    New,
    /// By another device of the same user as well.
    Twin,
    /// Again although it was acked. `strict`: the ack must say `dup`, because nothing else of it
    /// can be under way.
    Repeat { strict: bool },
    /// To a group that the user is not in.
    Intrusion,
}

/// A message that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Letter {
    mail: Mail,
    aim: Aim,
    tries: u32,
    /// When it was first sent; 0: not yet.
    sent_ns: u64,
    /// Whether it is unanswered on this connection.
    asked: bool,
    /// Another device may send it, too.
    twin: bool,
    /// Its place among those that this device has sent for the first time.
    order: u64,
    /// When to send it (again).
    at_ns: u64,
}

impl Letter {
    /// One that is to be sent now.
    const fn new(mail: Mail, aim: Aim) -> Self {
        Self { mail, aim, tries: 0, sent_ns: 0, asked: false, twin: false, order: 0, at_ns: 0 }
    }
}

/// One device of one user.
pub(crate) struct Device {
    pub(crate) who: Who,
    /// In its thread: the token of its connections.
    place: u32,
    generation: u32,
    line: Line,
    pub(crate) views: Vec<View>,
    letters: Vec<Letter>,
    /// Acked messages, and whether each was sent exactly once.
    kept: VecDeque<(Mail, bool)>,
    /// Messages made.
    n: u32,
    /// Letters sent for the first time.
    posted: u64,
    dice: Dice,
    /// Whether it is one of the readers that stall.
    slow: bool,
    /// Until when it does not read.
    stalled_ns: Option<u64>,
    next_stall_ns: u64,
    next_send_ns: u64,
    next_churn_ns: u64,
    tries: u32,
    settle_tries: u32,
}

impl Device {
    pub(crate) fn new(world: &World, who: Who, place: u32) -> Self {
        let habits = &world.habits;
        let number = u64::from(who.user) * u64::from(habits.devices) + u64::from(who.device);
        let mut dice = Dice::new(world.seed, number);
        let view = |conv: &u32| View::new(*conv, world.book.convs[*conv as usize].base);
        Self {
            who,
            place,
            generation: 0,
            line: Line::Off { at_ns: dice.below(SECOND) },
            views: world.users[who.user as usize].convs.iter().map(view).collect(),
            letters: Vec::new(),
            kept: VecDeque::new(),
            n: 0,
            posted: 0,
            // Spread evenly over all devices, so that the share is met also when there are few.
            slow: number * habits.stalled_permille % 1000 >= 1000 - habits.stalled_permille.min(1000),
            stalled_ns: None,
            next_stall_ns: 0,
            next_send_ns: 0,
            next_churn_ns: 0,
            tries: 0,
            settle_tries: 0,
            dice,
        }
    }

    /// Messages of this user that are neither acked nor refused.
    pub(crate) fn pending(&self) -> usize {
        self.letters.iter().filter(|letter| matches!(letter.aim, Aim::New | Aim::Twin)).count()
    }

    /// Those messages, for the story.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (Mail, u32)> {
        self.letters
            .iter()
            .filter(|letter| matches!(letter.aim, Aim::New | Aim::Twin))
            .map(|letter| (letter.mail, letter.tries))
    }

    /// Views that lack something: what others saw, or what the present stage asks for.
    pub(crate) fn behind<'a>(&'a self, world: &'a World, stage: RunStage) -> impl Iterator<Item = &'a View> {
        let unsettled = stage >= RunStage::Settling;
        self.views
            .iter()
            .filter(move |view| view.last < world.book.convs[view.conv as usize].head() || (unsettled && !view.settled))
    }

    /// Also sends a message that another device of this user has made.
    pub(crate) fn join(&mut self, mail: Mail) {
        if self.letters.len() < LETTERS_MAX && self.letters.iter().all(|letter| letter.mail != mail) {
            self.letters.push(Letter::new(mail, Aim::Twin));
        }
    }

    /// A new stage of the run.
    pub(crate) fn enter(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now_ns;
        self.settle_tries = 0;
        match turn.stage {
            RunStage::Running => {
                self.next_send_ns = now + self.dice.wait(turn.world.habits.send_gap_ns);
                self.next_churn_ns = now + self.dice.wait(turn.world.habits.churn_ns);
                self.next_stall_ns = now + self.dice.wait(READING_NS);
            }
            RunStage::Quiet => {
                self.letters.retain(|letter| matches!(letter.aim, Aim::New | Aim::Twin));
                if let Line::Off { at_ns } = &mut self.line {
                    *at_ns = (*at_ns).min(now + self.dice.below(SECOND));
                }
            }
            RunStage::Settling => self.views.iter_mut().for_each(|view| (view.settled, view.dirty) = (false, true)),
            RunStage::Rereading if self.who.device == 0 => {
                let convs = &turn.world.book.convs;
                self.unsteady(turn);
                self.views.iter_mut().for_each(|view| view.begin_again(convs[view.conv as usize].base));
            }
            RunStage::Opening | RunStage::Rereading | RunStage::Stopping => {}
        }
    }

    /// Everything that is not caused by the socket.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now_ns;
        match &self.line {
            Line::Off { at_ns } if *at_ns <= now => self.dial(turn),
            Line::Opening { until_ns, .. } if *until_ns <= now => {
                turn.lane.failed.add(1);
                self.off(turn, true);
            }
            Line::Closing { until_ns, .. } if *until_ns <= now => self.off(turn, false),
            Line::Open(_) => self.live(turn),
            _ => {}
        }
    }

    /// Something may be read or written.
    pub(crate) fn ready(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.line, Line::Opening { .. }) {
            self.advance(turn);
        }
        if let Line::Open(link) | Line::Closing { link, .. } = &mut self.line
            && let Err(broken) = link.flush()
        {
            return self.lost(turn, broken);
        }
        if self.stalled_ns.is_none() {
            self.read(turn);
        }
    }

    /// Whether a token is that of the present connection.
    pub(crate) fn owns(&self, token: Token) -> bool {
        (token.0 >> 32) as u32 == self.generation
    }

    // ---- the connection -----------------------------------------------------------------------

    fn dial(&mut self, turn: &mut Turn<'_>) {
        self.generation = self.generation.wrapping_add(1) & 0x7fff_ffff;
        let token = Token((self.generation as usize) << 32 | self.place as usize);
        let receive = self.slow.then_some(STALLED_RECEIVE_BYTES);
        match Link::dial(turn.world.door(self.who, self.generation).address, None, receive, turn.registry, token) {
            Ok(link) => self.line = Line::Opening { link, until_ns: turn.now_ns + CONNECT_NS_MAX },
            Err(_) => {
                turn.lane.failed.add(1);
                self.off(turn, true);
            }
        }
    }

    fn advance(&mut self, turn: &mut Turn<'_>) {
        let Line::Opening { link, until_ns } = std::mem::replace(&mut self.line, Line::Off { at_ns: 0 }) else {
            return;
        };
        let user = &turn.world.users[self.who.user as usize];
        let path = format!("/chat?id={}&token={}&device=web&device_id=d{}", user.id, user.token, self.who.device);
        match link.advance(&Upgrade {
            host: turn.world.door(self.who, self.generation).host.clone(),
            path,
            bearer: None,
        }) {
            Ok(link) if link.is_open() => {
                self.line = Line::Open(link);
                self.tries = 0;
                turn.lane.open.add(1);
                turn.lane.connects.add(1);
                // Rule 6: after every connect, sync each conversation. Rule 4: send what is
                // unanswered again.
                self.views.iter_mut().for_each(|view| view.dirty = true);
            }
            Ok(link) => self.line = Line::Opening { link, until_ns },
            Err(broken) => {
                if let Broken::Fault(what) = broken {
                    turn.world
                        .book
                        .blame(Fault::Protocol, || format!("the upgrade of user #{}: {what}", self.who.user));
                }
                turn.lane.failed.add(1);
                self.off(turn, true);
            }
        }
    }

    /// Lets go of the connection, and comes back after a pause: jittered and doubling after a
    /// failure.
    fn off(&mut self, turn: &mut Turn<'_>, failed: bool) {
        self.tries = if failed { self.tries + 1 } else { 0 };
        let pause = (RETRY_NS << self.tries.min(10)).min(RETRY_NS_MAX);
        let at_ns = turn.now_ns + pause / 2 + self.dice.below(pause / 2);
        self.off_until(turn, at_ns);
    }

    fn off_until(&mut self, turn: &mut Turn<'_>, at_ns: u64) {
        if matches!(self.line, Line::Open(_) | Line::Closing { .. }) {
            turn.lane.open.sub(1);
        }
        self.line = Line::Off { at_ns };
        self.stalled_ns = None;
        for letter in &mut self.letters {
            (letter.asked, letter.at_ns) = (false, 0);
        }
        self.unsteady(turn);
        for view in &mut self.views {
            (view.asked, view.given_up, view.hold_ns, view.order) = (None, 0, 0, OwnOrder::default());
        }
    }

    /// The connection went, or broke the rules.
    fn lost(&mut self, turn: &mut Turn<'_>, broken: Broken) {
        if matches!(self.line, Line::Open(_)) {
            turn.lane.dropped.add(1);
        }
        if let Broken::Fault(what) = broken {
            turn.world
                .book
                .blame(Fault::Protocol, || format!("user #{} device {}: {what}", self.who.user, self.who.device));
        }
        self.off(turn, true);
    }

    /// One of the ways to break off, and how long to stay away.
    fn churn(&mut self, turn: &mut Turn<'_>) {
        self.next_churn_ns = turn.now_ns + self.dice.wait(turn.world.habits.churn_ns);
        let away = match self.dice.below(20) {
            0 => 10 * SECOND,
            1..=4 => 3 * SECOND,
            _ => SECOND / 2,
        };
        let back_ns = turn.now_ns + self.dice.wait(away);
        let way = self.dice.below(3);
        if way == 0 {
            turn.lane.closed.add(1);
            self.unsteady(turn);
            let Line::Open(mut link) = std::mem::replace(&mut self.line, Line::Off { at_ns: 0 }) else { return };
            // What cannot be written now is not worth more than the time-out.
            let _ = link.close();
            self.line = Line::Closing { link, until_ns: turn.now_ns + CLOSING_NS };
            return;
        }
        let Line::Open(link) = std::mem::replace(&mut self.line, Line::Off { at_ns: 0 }) else { return };
        turn.lane.open.sub(1);
        if way == 1 {
            turn.lane.reset.add(1);
            link.reset();
        } else {
            turn.lane.abandoned.add(1);
            turn.parked.push_back((turn.now_ns + self.dice.wait(20 * SECOND), link));
        }
        self.off_until(turn, back_ns);
    }

    // ---- what is due --------------------------------------------------------------------------

    fn live(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now_ns;
        if let Some(until) = self.stalled_ns
            && (until <= now || turn.stage >= RunStage::Quiet)
        {
            self.stalled_ns = None;
            self.next_stall_ns = now + self.dice.wait(READING_NS);
            // The answers may lie in the buffer: there is no impatience at once.
            self.letters
                .iter_mut()
                .filter(|letter| letter.asked)
                .for_each(|letter| letter.at_ns = letter.at_ns.max(now + 2 * SECOND));
            self.views.iter_mut().filter_map(|view| view.asked.as_mut()).for_each(|asked| asked.at_ns = now);
            self.read(turn);
        }
        if turn.stage == RunStage::Running {
            if turn.world.habits.churn_ns > 0 && self.next_churn_ns <= now {
                return self.churn(turn);
            }
            if self.slow && self.stalled_ns.is_none() && self.next_stall_ns <= now {
                self.stalled_ns = Some(now + self.dice.wait(STALLED_NS));
                turn.lane.stalls.add(1);
            }
            if self.next_send_ns <= now {
                self.next_send_ns = now + self.dice.wait(turn.world.habits.send_gap_ns);
                self.write_one(turn);
            }
        }
        if let Err(broken) = self.post(turn).and_then(|()| self.ask(turn)) {
            self.lost(turn, broken);
        }
    }

    /// Makes a message.
    fn write_one(&mut self, turn: &mut Turn<'_>) {
        if self.letters.len() >= LETTERS_MAX {
            turn.lane.unsent.add(1);
            return;
        }
        let user = &turn.world.users[self.who.user as usize];
        let mut aim = Aim::New;
        let mut conv = user.convs[self.dice.below(user.convs.len() as u64) as usize];
        if self.dice.chance(turn.world.habits.intrusion_permille) && !user.strange.is_empty() {
            conv = user.strange[self.dice.below(user.strange.len() as u64) as usize];
            aim = Aim::Intrusion;
            turn.lane.intrusions.add(1);
        }
        self.n += 1;
        let mail = Mail { user: self.who.user, device: self.who.device, n: self.n, conv };
        let twin = aim == Aim::New && self.dice.chance(TWIN_PERMILLE);
        self.letters.push(Letter { twin, ..Letter::new(mail, aim) });
        if twin {
            turn.twins.push((self.who.user, self.who.device, mail));
        }
        let repeat = self.dice.chance(turn.world.habits.repeat_permille);
        if repeat && !self.kept.is_empty() && self.letters.len() < LETTERS_MAX {
            let (mail, strict) = self.kept[self.dice.below(self.kept.len() as u64) as usize];
            if self.letters.iter().all(|letter| letter.mail != mail) {
                self.letters.push(Letter::new(mail, Aim::Repeat { strict }));
            }
        }
    }

    fn outstanding(&self) -> usize {
        self.letters.iter().filter(|letter| letter.asked).count()
            + self.views.iter().filter(|view| view.asked.is_some()).count()
    }

    /// Sends the letters that are due.
    fn post(&mut self, turn: &mut Turn<'_>) -> Result<(), Broken> {
        let Line::Open(link) = &mut self.line else { return Ok(()) };
        let mut room = OUTSTANDING_MAX.saturating_sub(
            self.letters.iter().filter(|letter| letter.asked).count()
                + self.views.iter().filter(|view| view.asked.is_some()).count(),
        );
        let (world, now) = (turn.world, turn.now_ns);
        for letter in &mut self.letters {
            // A device that does not read cannot know that an answer has not come.
            if letter.at_ns > now || (letter.asked && self.stalled_ns.is_some()) || (!letter.asked && room == 0) {
                continue;
            }
            let name = world.book.convs[letter.mail.conv as usize].name;
            let dstid = name.dstid(world.users[self.who.user as usize].id);
            if !link.send(letter.mail.command(world.run, world.habits.payload, name.kind(), dstid))? {
                return Ok(());
            }
            if letter.aim == Aim::Intrusion {
                // A user that may not write there may not read there either.
                link.send(json!({"cmd": 4, "kind": name.kind(), "dstid": dstid, "after": 0}).to_string())?;
            }
            room = room.saturating_sub(usize::from(!letter.asked));
            match letter.aim {
                Aim::New if letter.tries == 0 => turn.lane.sent.add(1),
                Aim::Repeat { .. } | Aim::Twin if letter.tries == 0 => turn.lane.repeated.add(1),
                Aim::Intrusion => {}
                _ => turn.lane.resent.add(1),
            }
            if letter.tries == 0 {
                self.posted += 1;
                (letter.sent_ns, letter.order) = (now, self.posted);
            }
            (letter.asked, letter.tries) = (true, letter.tries + 1);
            letter.at_ns = now + (PATIENCE_NS << (letter.tries - 1).min(4)).min(PATIENCE_NS_MAX);
        }
        Ok(())
    }

    /// Asks for what follows, conversation by conversation.
    fn ask(&mut self, turn: &mut Turn<'_>) -> Result<(), Broken> {
        if self.stalled_ns.is_some() {
            return Ok(());
        }
        let mut room = OUTSTANDING_MAX.saturating_sub(self.outstanding());
        let Line::Open(link) = &mut self.line else { return Ok(()) };
        let (world, now) = (turn.world, turn.now_ns);
        for view in &mut self.views {
            if view.asked.is_some_and(|asked| asked.at_ns + PAGE_NS <= now) {
                (view.asked, view.dirty, view.given_up) = (None, true, view.given_up + 1);
            }
            if !view.dirty || view.asked.is_some() || view.hold_ns > now || room == 0 {
                continue;
            }
            let name = world.book.convs[view.conv as usize].name;
            let dstid = name.dstid(world.users[self.who.user as usize].id);
            let request =
                json!({"cmd": 4, "kind": name.kind(), "dstid": dstid, "after": view.last, "limit": SYNC_ROWS});
            if !link.send(request.to_string())? {
                return Ok(());
            }
            room -= 1;
            view.dirty = false;
            view.asked = Some(Asked { after: view.last, at_ns: now, stage: turn.stage });
        }
        Ok(())
    }

    // ---- what comes ---------------------------------------------------------------------------

    fn read(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..TURN_MESSAGES_MAX {
            let (Line::Open(link) | Line::Closing { link, .. }) = &mut self.line else { return };
            match link.read() {
                Ok(Got::Text(text)) => self.take(turn, &text),
                Ok(Got::Close { code, .. }) => return self.closed(turn, code),
                Ok(Got::Other) => {}
                Ok(Got::Nothing) => return,
                Err(broken) => return self.lost(turn, broken),
            }
        }
    }

    fn closed(&mut self, turn: &mut Turn<'_>, code: Option<u16>) {
        if matches!(self.line, Line::Closing { .. }) {
            // The answer to our own: come back when the habit says so.
            let back = turn.now_ns + self.dice.wait(SECOND / 2);
            return self.off_until(turn, back);
        }
        let who = self.who;
        let told = || format!("user #{} device {} was closed with {code:?}", who.user, who.device);
        match code {
            Some(code) if code >= BANISHED => {
                turn.world.book.blame(Fault::Banished, told);
                self.lost(turn, Broken::Gone);
                self.line = Line::Banished;
            }
            Some(1002 | 1003 | 1007 | 1009 | 1011) => self.lost(turn, Broken::Fault(told())),
            _ => self.lost(turn, Broken::Gone),
        }
    }

    fn take(&mut self, turn: &mut Turn<'_>, text: &str) {
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            return self.odd(turn, "a text that is no JSON", text);
        };
        match value["cmd"].as_u64() {
            Some(10 | 11) => match Row::read(&value) {
                Ok(row) => self.pushed(turn, &row),
                Err(missing) => self.odd(turn, missing, text),
            },
            Some(1) => self.answered(turn, &value, text),
            Some(2) => self.refused(turn, &value, text),
            Some(4) => self.page(turn, &value, text),
            // Rule: clients ignore commands that they do not know.
            Some(_) => {}
            None => self.odd(turn, "no cmd", text),
        }
    }

    fn odd(&self, turn: &Turn<'_>, what: &str, text: &str) {
        let beginning: String = text.chars().take(300).collect();
        turn.world.book.blame(Fault::Protocol, || {
            format!("user #{} device {}: {what}: {beginning}", self.who.user, self.who.device)
        });
    }

    /// The view that a kind and a partner or group name.
    fn view_of(&self, turn: &Turn<'_>, kind: u64, dstid: u64) -> Option<usize> {
        turn.world.users[self.who.user as usize].places.get(&(kind, dstid)).map(|place| *place as usize)
    }

    /// Whether a kind and a group name one that the user is not in.
    fn is_strange(&self, turn: &Turn<'_>, kind: u64, dstid: u64) -> bool {
        let world = turn.world;
        let names =
            world.users[self.who.user as usize].strange.iter().map(|conv| world.book.convs[*conv as usize].name);
        kind == 11 && names.into_iter().any(|name| name == Name::Group(dstid))
    }

    fn pushed(&mut self, turn: &mut Turn<'_>, row: &Row) {
        let own = turn.world.users[self.who.user as usize].id;
        let dstid = if row.kind == 10 && row.userid != own { row.userid } else { row.dstid };
        match self.view_of(turn, row.kind, dstid) {
            Some(place) => self.see(turn, place, row, How::Push),
            None => turn.world.book.blame(Fault::Foreign, || {
                format!(
                    "user #{} device {} was sent a message of a conversation that is not theirs: {row:?}",
                    self.who.user, self.who.device
                )
            }),
        }
    }

    fn answered(&mut self, turn: &mut Turn<'_>, value: &Value, text: &str) {
        let mail = value["cid"].as_str().and_then(|cid| Mail::from_cid(cid, turn.world.run));
        let (Some(mail), Some(seq), Some(id)) = (mail, value["seq"].as_u64(), value["id"].as_u64()) else {
            return self.odd(turn, "an ack without cid, seq or id", text);
        };
        let dup = value["dup"].as_bool() == Some(true);
        turn.lane.dups.add(u64::from(dup));
        let seen = Seen { mail, seq, id, who: self.who, how: How::Ack, at_ms: (turn.now_ns / 1_000_000) as u32 };
        if turn.world.book.acked(mail.conv, seen) {
            turn.lane.acked.add(1);
        }
        let place = self.view_of(turn, value["kind"].as_u64().unwrap_or(0), value["dstid"].as_u64().unwrap_or(0));
        match place {
            Some(place) if self.views[place].conv == mail.conv => match self.views[place].see(seq, mail.print()) {
                DeviceSight::Show => turn.lane.shown.add(1),
                DeviceSight::Skip => turn.lane.hidden.add(1),
                DeviceSight::Hole => turn.lane.holes.add(1),
            },
            _ => {
                turn.world
                    .book
                    .blame(Fault::Misacked, || format!("{mail}: the ack names another conversation: {text}"));
            }
        }
        let Some(at) = self.letters.iter().position(|letter| letter.mail == mail) else { return };
        let letter = self.letters.swap_remove(at);
        self.in_its_turn(turn, &letter, seq, dup, place);
        match letter.aim {
            Aim::New if letter.tries == 1 && !dup => turn.ack_ns.saturating_record(turn.now_ns - letter.sent_ns),
            Aim::Repeat { strict: true } if letter.tries == 1 && !dup => {
                turn.world.book.blame(Fault::Misacked, || {
                    format!("{mail} was acked before, and its repetition is acked without `dup`: {text}")
                });
            }
            _ => {}
        }
        if matches!(letter.aim, Aim::New | Aim::Twin) {
            self.kept.push_back((mail, letter.aim == Aim::New && letter.tries == 1));
            if self.kept.len() > KEPT_MAX {
                self.kept.pop_front();
            }
        }
    }

    /// What a device says once on one connection stands in its conversation in the order in which
    /// it was said.
    fn in_its_turn(&mut self, turn: &Turn<'_>, letter: &Letter, seq: u64, dup: bool, place: Option<usize>) {
        let once = letter.aim == Aim::New && letter.tries == 1 && !letter.twin && !dup;
        let Some(view) = place.map(|place| &mut self.views[place]).filter(|_| once) else { return };
        if !view.order.enter(letter.order, seq) {
            turn.world.book.blame(Fault::OutOfOrder, || {
                let name = turn.world.book.convs[letter.mail.conv as usize].name;
                format!("{name}: {} is at seq {seq}, on the other side of another one than it was sent", letter.mail)
            });
        }
    }

    fn refused(&mut self, turn: &mut Turn<'_>, value: &Value, text: &str) {
        let retry = value["retry"].as_bool() == Some(true);
        turn.lane.refused.add(u64::from(retry));
        let mail = value["cid"].as_str().and_then(|cid| Mail::from_cid(cid, turn.world.run));
        let Some(mail) = mail else {
            // No message's: then it is a sync's.
            let (kind, dstid) = (value["kind"].as_u64().unwrap_or(0), value["dstid"].as_u64().unwrap_or(0));
            let Some(place) = self.view_of(turn, kind, dstid) else {
                let expected = retry || value["code"].as_u64() == Some(NOT_MEMBER);
                if !expected || !self.is_strange(turn, kind, dstid) {
                    self.odd(turn, "a refusal of nothing", text);
                }
                return;
            };
            let view = &mut self.views[place];
            if view.given_up > 0 {
                view.given_up -= 1;
            } else {
                (view.asked, view.dirty) = (None, true);
            }
            view.hold_ns = turn.now_ns + SECOND / 2 + self.dice.below(SECOND);
            if !retry {
                turn.world.book.blame(Fault::Refused, || {
                    format!("a sync of user #{} device {}: {text}", self.who.user, self.who.device)
                });
            }
            return;
        };
        let Some(at) = self.letters.iter().position(|letter| letter.mail == mail) else { return };
        let letter = &mut self.letters[at];
        let expected = letter.aim == Aim::Intrusion && (retry || value["code"].as_u64() == Some(NOT_MEMBER));
        if retry && !expected {
            // Rule 5: one second, doubled, with jitter.
            letter.asked = false;
            letter.at_ns = turn.now_ns + (SECOND << letter.tries.saturating_sub(1).min(3)) + self.dice.below(SECOND);
            return;
        }
        self.letters.swap_remove(at);
        if !expected {
            turn.world.book.blame(Fault::Refused, || {
                format!("{mail} in {}: {text}", turn.world.book.convs[mail.conv as usize].name)
            });
        }
    }

    fn page(&mut self, turn: &mut Turn<'_>, value: &Value, text: &str) {
        turn.lane.pages.add(1);
        let number = |key: &str| value[key].as_u64().unwrap_or(0);
        let Some(place) = self.view_of(turn, number("kind"), number("dstid")) else {
            if self.is_strange(turn, number("kind"), number("dstid")) {
                let story =
                    || format!("user #{} was given the history of a group of others: {text:.300}", self.who.user);
                return turn.world.book.blame(Fault::Foreign, story);
            }
            return self.odd(turn, "a page of a conversation that was not asked for", text);
        };
        let Some(rows) = value["rows"].as_array() else { return self.odd(turn, "a page without rows", text) };
        // An answer to a question that was given up before is as good as any, but settles nothing.
        let view = &mut self.views[place];
        let asked = if view.given_up > 0 { None } else { view.asked.take() };
        view.given_up = view.given_up.saturating_sub(1);
        let rows: Result<Vec<Row>, _> = rows.iter().map(Row::read).collect();
        let rows = match rows {
            Ok(rows) => rows,
            Err(missing) => return self.odd(turn, missing, text),
        };
        let (floor, head, more) = (number("floor"), number("head"), value["more"].as_bool() == Some(true));
        if let Some(asked) = asked {
            self.whole(turn, place, asked.after, &rows, floor, more);
        }
        let (epoch, before) = (value["epoch"].as_u64(), self.views[place].epoch);
        if value["reset"].as_bool() == Some(true) || (before.is_some() && epoch != before) {
            turn.world.book.blame(Fault::Reset, || {
                format!("user #{} device {}, epoch {before:?} before: {text:.300}", self.who.user, self.who.device)
            });
        }
        self.views[place].epoch = epoch.or(before);
        self.floor(turn, place, floor);
        rows.iter().for_each(|row| self.see(turn, place, row, How::Sync));
        let view = &mut self.views[place];
        view.heard = view.heard.max(head);
        if more || view.heard > view.last {
            view.dirty = true;
            view.hold_ns = if more { 0 } else { turn.now_ns + SECOND / 20 };
            self.settle_tries += u32::from(!more);
            if turn.stage >= RunStage::Settling && self.settle_tries > SETTLE_TRIES_MAX {
                view.hold_ns = u64::MAX;
            }
        } else {
            view.settled |= asked.is_some_and(|asked| asked.stage == turn.stage);
            if view.steady_ms.is_none() && matches!(self.line, Line::Open(_)) {
                view.steady_ms = Some((turn.now_ns / 1_000_000) as u32);
            }
            // A question of an earlier stage settles nothing: ask again.
            view.dirty = !view.settled && turn.stage >= RunStage::Settling;
        }
    }

    /// A page must begin behind what was asked for (or at the floor) and leave nothing out.
    fn whole(&self, turn: &Turn<'_>, place: usize, after: u64, rows: &[Row], floor: u64, more: bool) {
        let name = turn.world.book.convs[self.views[place].conv as usize].name;
        let mut next = (after + 1).max(floor);
        let hole = rows.iter().find(|row| {
            let hole = row.seq != next;
            next = row.seq + 1;
            hole
        });
        if let Some(row) = hole {
            turn.world.book.blame(Fault::Gaps, || {
                let near = |one: &&Row| one.seq.abs_diff(row.seq) <= 3;
                let seqs: Vec<u64> = rows.iter().filter(near).map(|row| row.seq).collect();
                format!(
                    "{name}: a page that user #{} device {} asked for after {after}, floor {floor}, leaves something out \
                     before {}, near which it has {seqs:?}",
                    self.who.user, self.who.device, row.seq
                )
            });
        }
        if more && rows.is_empty() {
            turn.world
                .book
                .blame(Fault::Gaps, || format!("{name}: an empty page after {after} says that there is more"));
        }
    }
}

//! The thread that measures: well-behaved users at a fixed, modest pace, whatever becomes of the
//! answers.
//!
//! Owns: [`run`]: sessions that stand (heartbeats, direct messages), visits (newcomers, logins, the
//! admin port) and the gateway's figures each second. Each is due at a time of its own, and its
//! latency counts from then: a gateway that stalls cannot hide it. How late this thread itself is,
//! is measured too.
//! Bounds: visits under way by [`ERRANDS_MAX`], unanswered heartbeats and messages by
//! [`UNANSWERED_MAX`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result};
use mio::{Events, Poll, Token};

use super::errand::{ACTS, Act, Errand, Progress};
use super::gauges::Reading;
use super::line::Line;
use super::measured::{Measured, count};
use super::signals::{FloodStage, STAGES, Signals};
use super::{Account, FloodUser, Target};
use crate::engine::{TIMER, Timer};
use crate::limits::{ERRAND_NS_MAX, ERRANDS_MAX, EVENTS_MAX, READ_BYTES, READINGS_MAX, UNANSWERED_MAX};
use crate::scan::scan;
use crate::stamp::{Run, Stamp};

/// How often deadlines and the stage are looked at.
const TICK_NS: u64 = 5_000_000;
/// Before a session that was lost is dialled again.
const REDIAL_NS: u64 = 100_000_000;
/// Bytes of a direct message's content.
const CONTENT_BYTES: usize = 100;
/// How much higher than other threads' the priority is, if the system allows it.
const NICE: i32 = -5;

/// The well-behaved.
#[derive(Clone, Debug)]
pub(crate) struct People {
    /// Users whose sessions stand: 0 writes to 1, 2 to 3, …
    pub(crate) residents: Vec<FloodUser>,
    /// Users that come by WebSocket, in turn.
    pub(crate) newcomers: Vec<FloodUser>,
    /// Accounts that log in, in turn; none: no logins.
    pub(crate) accounts: Vec<Account>,
}

/// How often each is done, in a second; and what is in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paces {
    pub(crate) heartbeats: u32,
    pub(crate) directs: u32,
    pub(crate) newcomers: u32,
    pub(crate) logins: u32,
    pub(crate) within_ns: u64,
}

impl Paces {
    /// How long a visit may take until it is given up.
    pub(crate) fn patience_ns(&self) -> u64 {
        ERRAND_NS_MAX.max(self.within_ns)
    }
}

/// What was found out.
#[derive(Debug)]
pub(crate) struct Findings {
    /// By [`FloodStage`].
    pub(crate) stages: Vec<Measured>,
    pub(crate) readings: Vec<Reading>,
    /// The last scrape before the flood, and the last one of it or soon after.
    pub(crate) before: String,
    pub(crate) after: String,
}

/// Something that is due again and again.
#[derive(Clone, Copy, Debug)]
enum What {
    Heartbeat,
    Direct,
    Visit(Act),
}

#[derive(Debug)]
struct Pace {
    what: What,
    gap_ns: u64,
    next_ns: u64,
    n: u64,
}

/// A well-behaved user's session.
#[derive(Debug)]
struct Resident {
    user: FloodUser,
    line: Option<Line>,
    stood: bool,
    redial_ns: u64,
    /// Heartbeats without an answer: when they were due, and in which stage.
    beats: VecDeque<(u64, FloodStage)>,
}

/// A direct message on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    due_ns: u64,
    stage: FloodStage,
    acked: bool,
    delivered: bool,
}

struct Watch<'a> {
    target: &'a Target,
    people: &'a People,
    paces: Paces,
    signals: &'a Signals,
    poll: Poll,
    residents: Vec<Resident>,
    errands: Vec<Option<(Errand, FloodStage)>>,
    sent: BTreeMap<u32, Sent>,
    run: Run,
    text: String,
    findings: Findings,
}

/// Measures until the stage is [`FloodStage::Done`].
pub(crate) fn run(target: &Target, people: &People, paces: Paces, signals: &Signals) -> Result<Findings> {
    // Only root may; the attackers' threads give way as far as they can.
    let _ = rustix::process::nice(NICE);
    let resident = |user: &FloodUser| Resident {
        user: user.clone(),
        line: None,
        stood: false,
        redial_ns: 0,
        beats: VecDeque::new(),
    };
    let mut watch = Watch {
        target,
        people,
        paces,
        signals,
        poll: Poll::new().context("epoll")?,
        residents: people.residents.iter().map(resident).collect(),
        errands: (0..ERRANDS_MAX).map(|_| None).collect(),
        sent: BTreeMap::new(),
        run: Run::new(),
        text: String::new(),
        findings: Findings {
            stages: (0..STAGES).map(|_| Measured::new()).collect(),
            readings: Vec::new(),
            before: String::new(),
            after: String::new(),
        },
    };
    watch.run()?;
    Ok(watch.findings)
}

impl Watch<'_> {
    fn run(&mut self) -> Result<()> {
        let mut timer = Timer::new(&self.poll).context("timerfd")?;
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut scratch = vec![0; READ_BYTES];
        let mut paces = self.pace();
        loop {
            let stage = self.signals.stage();
            if stage == FloodStage::Done {
                self.give_up();
                return Ok(());
            }
            let now_ns = self.target.clock.nanos();
            let mut wake_ns = now_ns + TICK_NS;
            for pace in &mut paces {
                while pace.next_ns <= now_ns {
                    self.begin(pace, stage);
                    pace.n += 1;
                    pace.next_ns += pace.gap_ns;
                }
                wake_ns = wake_ns.min(pace.next_ns);
            }
            self.tend(now_ns);
            timer.arm(wake_ns, now_ns).context("timerfd")?;
            match self.poll.poll(&mut events, None) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e).context("epoll"),
                _ => {}
            }
            for Token(at) in events.iter().map(mio::event::Event::token).filter(|token| *token != TIMER) {
                match at.checked_sub(self.residents.len()) {
                    None => self.resident_ready(at, &mut scratch),
                    Some(slot) => self.errand_ready(slot, &mut scratch),
                }
            }
        }
    }

    /// Everything that is done again and again, evenly spread.
    fn pace(&self) -> Vec<Pace> {
        let now_ns = self.target.clock.nanos();
        let Paces { heartbeats, directs, newcomers, logins, .. } = self.paces;
        let logins = if self.people.accounts.is_empty() { 0 } else { logins };
        let visits = ACTS.map(|act| match act {
            Act::Websocket | Act::Http => (What::Visit(act), newcomers),
            Act::Login => (What::Visit(act), logins),
            Act::Healthz | Act::Readyz => (What::Visit(act), newcomers.min(2)),
            Act::Metrics => (What::Visit(act), 1),
        });
        let all = [(What::Heartbeat, heartbeats), (What::Direct, directs)].into_iter().chain(visits);
        all.filter(|(_, rate)| *rate > 0)
            .enumerate()
            .map(|(place, (what, rate))| {
                let gap_ns = 1_000_000_000 / u64::from(rate);
                Pace { what, gap_ns, next_ns: now_ns + gap_ns * place as u64 / 8, n: 0 }
            })
            .collect()
    }

    fn begin(&mut self, pace: &Pace, stage: FloodStage) {
        let due_ns = pace.next_ns;
        let late_ns = self.target.clock.nanos().saturating_sub(due_ns);
        self.findings.stages[stage as usize].lag_ns.saturating_record(late_ns);
        match pace.what {
            What::Heartbeat => self.beat(pace.n as usize % self.residents.len(), due_ns, stage),
            What::Direct => self.write(pace.n, due_ns, stage),
            What::Visit(act) => self.visit(act, pace.n as usize, due_ns, stage),
        }
    }

    fn beat(&mut self, place: usize, due_ns: u64, stage: FloodStage) {
        let resident = &mut self.residents[place];
        let open = resident.line.as_mut().filter(|line| line.is_open());
        let Some(line) = open.filter(|_| resident.beats.len() < UNANSWERED_MAX) else {
            return self.findings.stages[stage as usize].never(|measured| &mut measured.heartbeat_ns);
        };
        resident.beats.push_back((due_ns, stage));
        if let Err(why) = line.send(r#"{"cmd":0}"#) {
            self.lose(place, &why);
        }
    }

    fn write(&mut self, n: u64, due_ns: u64, stage: FloodStage) {
        let pair = n as usize % (self.residents.len() / 2);
        let to = self.residents[2 * pair + 1].user.id;
        let Some(line) = self.residents[2 * pair].line.as_mut().filter(|line| line.is_open()) else {
            return self.never_sent(stage);
        };
        if self.sent.len() >= UNANSWERED_MAX {
            return self.never_sent(stage);
        }
        let stamp = Stamp { sender: 0, n: n as u32, intended_ns: due_ns };
        stamp.write(&mut self.text, self.run, 10, to, CONTENT_BYTES);
        self.sent.insert(stamp.n, Sent { due_ns, stage, acked: false, delivered: false });
        if let Err(why) = line.send(&self.text) {
            self.lose(2 * pair, &why);
        }
    }

    fn never_sent(&mut self, stage: FloodStage) {
        let measured = &mut self.findings.stages[stage as usize];
        measured.never(|measured| &mut measured.ack_ns);
        measured.never(|measured| &mut measured.delivery_ns);
    }

    fn visit(&mut self, act: Act, n: usize, due_ns: u64, stage: FloodStage) {
        let failed = |watch: &mut Self, why: &str| watch.findings.stages[stage as usize].visits_mut(act).failed(why);
        let Some(slot) = self.errands.iter().position(Option::is_none) else {
            return failed(self, "too many visits under way");
        };
        let token = Token(self.residents.len() + slot);
        let registry = self.poll.registry();
        let begun = match act {
            Act::Websocket => {
                let user = self.people.newcomers[n % self.people.newcomers.len()].clone();
                Errand::session(self.target, user, due_ns, registry, token)
            }
            _ => {
                let account = self.people.accounts.get(n % self.people.accounts.len().max(1));
                Errand::call(self.target, act, account, due_ns, registry, token)
            }
        };
        match begun {
            Ok(errand) => self.errands[slot] = Some((errand, stage)),
            Err(error) => self.short(stage, &error),
        }
    }

    /// This machine has no connection to give.
    fn short(&mut self, stage: FloodStage, error: &io::Error) {
        if stage < FloodStage::Done {
            count(&mut self.findings.stages[stage as usize].short, &error.to_string());
        }
    }

    /// Dials sessions that are lost, and gives up visits whose time is over.
    fn tend(&mut self, now_ns: u64) {
        for place in 0..self.residents.len() {
            let resident = &mut self.residents[place];
            if resident.line.is_none() && resident.redial_ns <= now_ns {
                resident.redial_ns = now_ns + REDIAL_NS;
                match Line::dial(self.target.address, self.poll.registry(), Token(place)) {
                    Ok(line) => resident.line = Some(line),
                    Err(error) => self.short(self.signals.stage(), &error),
                }
            }
        }
        let patience_ns = self.paces.patience_ns();
        for slot in &mut self.errands {
            if let Some((errand, stage)) = slot.take_if(|(errand, _)| errand.due_ns + patience_ns <= now_ns) {
                self.findings.stages[stage as usize].visits_mut(errand.act).failed("no answer, given up");
            }
        }
        if self.signals.stage() == FloodStage::After {
            self.signals.awaited.set(self.awaited());
        }
    }

    /// How much of what was due before the end of the flood has no answer yet.
    fn awaited(&self) -> u64 {
        let beats = self.residents.iter().flat_map(|resident| &resident.beats).map(|(_, stage)| *stage);
        let sent = self.sent.values().map(|sent| sent.stage);
        let errands = self.errands.iter().flatten().map(|(_, stage)| *stage);
        // One more: nothing was looked at before.
        1 + beats.chain(sent).chain(errands).filter(|stage| *stage < FloodStage::After).count() as u64
    }

    fn resident_ready(&mut self, place: usize, scratch: &mut [u8]) {
        let now_ns = self.target.clock.nanos();
        let Self { residents, target, findings, sent, run, .. } = self;
        let Resident { user, line, beats, stood, .. } = &mut residents[place];
        let Some(line) = line else { return };
        let result = line.ready(&target.public.host, user, scratch, |text| {
            let Some(fields) = scan(text) else { return };
            match fields.cmd {
                Some(0) => {
                    if let Some((due_ns, stage)) = beats.pop_front() {
                        let measured = &mut findings.stages[stage as usize];
                        measured.heartbeat_ns.saturating_record(now_ns.saturating_sub(due_ns));
                    }
                }
                Some(cmd @ (1 | 2 | 10)) => {
                    let stamp = fields.cid.and_then(|cid| Stamp::from_cid(cid, *run));
                    if let Some(stamp) = stamp {
                        heard(sent, findings, stamp.n, cmd, fields.code.unwrap_or(0), now_ns);
                    }
                }
                _ => {}
            }
        });
        if line.is_open() && !std::mem::replace(stood, true) {
            self.signals.residents.add(1);
        }
        if let Err(why) = result {
            self.lose(place, &why);
        }
    }

    /// A session is gone, and with it the answers to its heartbeats.
    fn lose(&mut self, place: usize, why: &str) {
        let stage = self.signals.stage();
        let resident = &mut self.residents[place];
        resident.line = None;
        resident.redial_ns = self.target.clock.nanos() + REDIAL_NS;
        if stage < FloodStage::Done {
            count(&mut self.findings.stages[stage as usize].lost, why);
        }
        for (_, stage) in std::mem::take(&mut resident.beats) {
            self.findings.stages[stage as usize].never(|measured| &mut measured.heartbeat_ns);
        }
    }

    fn errand_ready(&mut self, slot: usize, scratch: &mut [u8]) {
        let Some((errand, stage)) = &mut self.errands[slot] else { return };
        let (act, stage) = (errand.act, *stage);
        let progress = errand.ready(&self.target.public.host, scratch);
        let now_ns = self.target.clock.nanos();
        let took_ns = now_ns.saturating_sub(errand.due_ns);
        let visits = self.findings.stages[stage as usize].visits_mut(act);
        match progress {
            Progress::Open => return,
            Progress::Done(body) => {
                visits.done(took_ns, self.paces.within_ns);
                if act == Act::Metrics {
                    self.read(&String::from_utf8_lossy(&body), now_ns);
                }
            }
            Progress::Failed(why) => visits.failed(&why),
        }
        self.errands[slot] = None;
    }

    /// The gateway's figures have come.
    fn read(&mut self, text: &str, now_ns: u64) {
        let stage = self.signals.stage();
        let reading = Reading::of(text, now_ns, stage);
        self.signals.tell_rss(stage, reading.rss_bytes.unwrap_or(0));
        self.signals.turn_us.store((reading.turn_p999_seconds.unwrap_or(0.0) * 1e6) as u64, Relaxed);
        self.signals.readings.fetch_add(1, Relaxed);
        if stage <= FloodStage::Gathering {
            text.clone_into(&mut self.findings.before);
        }
        let ended = self.findings.readings.iter().any(|reading| reading.stage == FloodStage::After);
        if stage == FloodStage::Flooding || (stage == FloodStage::After && !ended) {
            text.clone_into(&mut self.findings.after);
        }
        if self.findings.readings.len() < READINGS_MAX {
            self.findings.readings.push(reading);
        }
    }

    /// What has no answer now will not be judged by one.
    fn give_up(&mut self) {
        for resident in &mut self.residents {
            for (_, stage) in std::mem::take(&mut resident.beats) {
                self.findings.stages[stage as usize].never(|measured| &mut measured.heartbeat_ns);
            }
        }
        for sent in std::mem::take(&mut self.sent).into_values() {
            let measured = &mut self.findings.stages[sent.stage as usize];
            if !sent.acked {
                measured.never(|measured| &mut measured.ack_ns);
            }
            if !sent.delivered {
                measured.never(|measured| &mut measured.delivery_ns);
            }
        }
        for (errand, stage) in self.errands.iter_mut().filter_map(Option::take) {
            // Those of the last moments had no time.
            if stage < FloodStage::After {
                self.findings.stages[stage as usize].visits_mut(errand.act).failed("no answer until the end");
            }
        }
    }
}

/// An ack (1), a refusal (2) or an arrival (10) of message `n`.
fn heard(sent: &mut BTreeMap<u32, Sent>, findings: &mut Findings, n: u32, cmd: u64, code: u64, now_ns: u64) {
    let Some(message) = sent.get_mut(&n) else { return };
    let measured = &mut findings.stages[message.stage as usize];
    let took_ns = now_ns.saturating_sub(message.due_ns);
    match cmd {
        1 if !std::mem::replace(&mut message.acked, true) => measured.ack_ns.saturating_record(took_ns),
        2 => {
            *measured.refused.entry(code).or_default() += 1;
            measured.never(|measured| &mut measured.ack_ns);
            measured.never(|measured| &mut measured.delivery_ns);
            (message.acked, message.delivered) = (true, true);
        }
        10 if !std::mem::replace(&mut message.delivered, true) => measured.delivery_ns.saturating_record(took_ns),
        _ => {}
    }
    if message.acked && message.delivered {
        sent.remove(&n);
    }
}

//! Streams of messages beside each other, and what came of each.
//!
//! Owns: [`Flow`] (who posts what to whom, how fast), [`Streams`] (all that run at a time) and
//! [`Stretch`] (what was measured).
//! Never: begins to measure before every receiver was reached, nor ends before what is under way
//! has come or is lost.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;

use crate::clock;
use crate::load::Crowd;
use crate::load::crowd::Arrival;
use crate::load::stamp::Stamp;
use crate::process::usage;
use crate::scrape::{Counters, scrape};

const SECOND_NS: u64 = 1_000_000_000;
/// Before anything is counted.
const WARM_NS: u64 = SECOND_NS / 2;
/// How long everybody has to be reached, and how often that is tried.
const REACH_NS_MAX: u64 = 20 * SECOND_NS;
const REACH_PAUSE_NS: u64 = SECOND_NS / 4;
/// How long after the last arrival what is missing is waited for.
const DRAIN_NS: u64 = SECOND_NS;
/// Bytes of a message, as `side-by-side` has them.
const BYTES: usize = 150;

/// What one author posts.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Who.
    pub author: usize,
    /// The command: 10 to a user, 11 to a group.
    pub cmd: u8,
    /// Whom it is for.
    pub dstid: u64,
    /// All who are in the conversation, the author too.
    pub members: Rc<[usize]>,
}

impl Letter {
    fn receivers(&self) -> u64 {
        self.members.len() as u64 - 1
    }
}

/// How fast.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum FlowPace {
    /// So many a second, all letters in turn (open loop).
    Rate(f64),
    /// So many of each letter under way (closed loop).
    Window(u32),
}

/// A stream of messages. No author has two letters.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Who posts what.
    pub letters: Vec<Letter>,
    /// How fast.
    pub pace: FlowPace,
}

/// What came of a flow.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Messages posted in the stretch.
    pub posted: u64,
    /// Deliveries that arrived in it.
    pub delivered: u64,
    /// Deliveries that never came.
    pub lost: u64,
    /// Nanoseconds from when a message was due until it was read.
    pub latency_ns: Histogram<u64>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// How long it was.
    pub nanos: u64,
    /// The gateway's processor time, all threads.
    pub cpu_ns: u64,
    /// What the gateway counted.
    pub counters: Counters,
    /// The share of one core that the load generator used.
    pub generator_share: f64,
    /// Each flow, in order.
    pub heard: Vec<Heard>,
}

impl Stretch {
    /// Deliveries of all flows.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.heard.iter().map(|heard| heard.delivered).sum()
    }

    /// The gateway's processor time for each delivery, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> f64 {
        self.cpu_ns as f64 / self.delivered().max(1) as f64 / 1000.0
    }
}

/// How far one flow is.
struct State {
    posted: u64,
    expected: u64,
    arrived: u64,
    /// The next of an open loop, and its letter.
    next_ns: u64,
    next: usize,
    latency_ns: Histogram<u64>,
}

impl State {
    fn new() -> Self {
        // Bounds of a minute and three digits: the arguments are lawful.
        let latency_ns = Histogram::new_with_bounds(1_000, 60 * SECOND_NS, 3).unwrap_or_else(|_| unreachable!());
        Self { posted: 0, expected: 0, arrived: 0, next_ns: 0, next: 0, latency_ns }
    }
}

/// Flows against one crowd.
pub struct Streams<'a, 'b> {
    crowd: &'a mut Crowd<'b>,
    flows: &'a [Flow],
    /// By member: the flow and the letter of which it is the author.
    letters: Vec<Option<(usize, usize)>>,
    states: Vec<State>,
    stretch: u16,
    serial: u64,
    posting: bool,
    stamp: String,
    text: String,
}

impl<'a, 'b> Streams<'a, 'b> {
    /// Flows of `members` members, all of whom are connected. `stretch` is a number that no run
    /// against this crowd has had before; two are used.
    pub fn new(crowd: &'a mut Crowd<'b>, members: usize, flows: &'a [Flow], stretch: u16) -> Self {
        let mut letters = vec![None; members];
        for (f, flow) in flows.iter().enumerate() {
            for (l, letter) in flow.letters.iter().enumerate() {
                letters[letter.author] = Some((f, l));
            }
        }
        let states = flows.iter().map(|_| State::new()).collect();
        let serial = u64::from(stretch) << 32;
        Self {
            crowd,
            flows,
            letters,
            states,
            stretch,
            serial,
            posting: false,
            stamp: String::new(),
            text: String::new(),
        }
    }

    /// Reaches everybody, warms up, measures for `seconds`, and drains.
    ///
    /// # Errors
    /// Somebody cannot be reached, or the gateway does not hold.
    pub fn measure(mut self, pid: u32, admin: SocketAddr, seconds: f64) -> Result<Stretch> {
        self.reach()?;
        self.stretch += 1;
        self.begin();
        self.until(clock::nanos() + WARM_NS, |_| false)?;
        let counters = scrape(admin)?;
        let marks: Vec<(u64, u64)> = self.states.iter().map(|state| (state.posted, state.arrived)).collect();
        self.states.iter_mut().for_each(|state| state.latency_ns.reset());
        let (before, own_ns, began_ns) = (usage(pid)?, clock::thread_cpu_nanos(), clock::nanos());
        self.until(began_ns + (seconds * 1e9) as u64, |_| false)?;
        let after = usage(pid)?;
        let nanos = clock::nanos() - began_ns;
        let generator_share = (clock::thread_cpu_nanos() - own_ns) as f64 / nanos as f64;
        let counters = scrape(admin)?.since(counters);
        let done: Vec<(u64, u64)> = self.states.iter().map(|state| (state.posted, state.arrived)).collect();
        self.drain()?;
        let heard = self.states.iter().zip(marks).zip(done).map(|((state, (posted, arrived)), done)| Heard {
            posted: done.0 - posted,
            delivered: done.1 - arrived,
            lost: state.expected.saturating_sub(state.arrived),
            latency_ns: state.latency_ns.clone(),
        });
        let heard = heard.collect();
        Ok(Stretch { nanos, cpu_ns: after.cpu_ns - before.cpu_ns, counters, generator_share, heard })
    }

    /// Posts until every receiver has got something: a member is not there the moment it is
    /// upgraded.
    fn reach(&mut self) -> Result<()> {
        let flows = self.flows;
        let began_ns = clock::nanos();
        let mut reached = vec![false; self.letters.len()];
        let mut next_ns = began_ns;
        loop {
            let now_ns = clock::nanos();
            let lacks = |letter: &&Letter| letter.members.iter().any(|&m| m != letter.author && !reached[m]);
            let open: Vec<&Letter> = flows.iter().flat_map(|flow| &flow.letters).filter(lacks).collect();
            if open.is_empty() {
                return Ok(());
            }
            if now_ns - began_ns > REACH_NS_MAX {
                bail!("the receivers of {} authors receive nothing", open.len());
            }
            if now_ns >= next_ns {
                open.into_iter().for_each(|letter| self.write(letter, now_ns));
                next_ns = clock::nanos() + REACH_PAUSE_NS;
            }
            self.crowd.turn(Duration::from_millis(10))?;
            for arrival in &self.crowd.arrivals {
                reached[arrival.member] |= arrival.stamp.author as usize != arrival.member;
            }
        }
    }

    fn begin(&mut self) {
        self.posting = true;
        let now_ns = clock::nanos();
        let flows = self.flows;
        for (f, flow) in flows.iter().enumerate() {
            self.states[f].next_ns = now_ns;
            if let FlowPace::Window(window) = flow.pace {
                for _ in 0..window {
                    (0..flow.letters.len()).for_each(|l| self.post(f, l, now_ns));
                }
            }
        }
    }

    fn until(&mut self, end_ns: u64, done: impl Fn(&Self) -> bool) -> Result<()> {
        loop {
            let now_ns = clock::nanos();
            if now_ns >= end_ns || done(self) {
                return Ok(());
            }
            let due_ns = self.post_due(now_ns).min(end_ns);
            // A poll rounds up to milliseconds; the last one is spun away, on a core that is ours.
            let patience = Duration::from_millis(due_ns.saturating_sub(clock::nanos()) / 1_000_000);
            self.crowd.turn(patience)?;
            let arrivals = std::mem::take(&mut self.crowd.arrivals);
            for arrival in &arrivals {
                self.arrive(arrival);
            }
            self.crowd.arrivals = arrivals;
        }
    }

    fn arrive(&mut self, arrival: &Arrival) {
        let Arrival { member, stamp, now_ns } = *arrival;
        let author = stamp.author as usize;
        let Some((f, l)) = self.letters.get(author).copied().flatten().filter(|_| stamp.stretch == self.stretch) else {
            return;
        };
        if author == member {
            return;
        }
        self.states[f].arrived += 1;
        self.states[f].latency_ns.saturating_record(now_ns.saturating_sub(stamp.due_ns));
        if self.posting && matches!(self.flows[f].pace, FlowPace::Window(_)) {
            self.post(f, l, clock::nanos());
        }
    }

    /// Posts what is due; answers when the next one is.
    fn post_due(&mut self, now_ns: u64) -> u64 {
        let flows = self.flows;
        let mut soonest = u64::MAX;
        if !self.posting {
            return soonest;
        }
        for (f, flow) in flows.iter().enumerate() {
            let FlowPace::Rate(rate) = flow.pace else { continue };
            let gap_ns = (1e9 / rate) as u64;
            while self.states[f].next_ns <= now_ns {
                let (due_ns, l) = (self.states[f].next_ns, self.states[f].next);
                self.post(f, l, due_ns);
                let state = &mut self.states[f];
                (state.next_ns, state.next) = (due_ns + gap_ns, (l + 1) % flow.letters.len());
            }
            soonest = soonest.min(self.states[f].next_ns);
        }
        soonest
    }

    fn post(&mut self, f: usize, l: usize, due_ns: u64) {
        let flows = self.flows;
        let letter = &flows[f].letters[l];
        self.states[f].posted += 1;
        self.states[f].expected += letter.receivers();
        self.write(letter, due_ns);
    }

    fn write(&mut self, letter: &Letter, due_ns: u64) {
        self.serial += 1;
        self.stamp.clear();
        self.text.clear();
        Stamp { due_ns, author: letter.author as u32, stretch: self.stretch }.write(&mut self.stamp);
        let Letter { cmd, dstid, .. } = letter;
        // Writing to a string cannot fail.
        let _ = write!(
            self.text,
            r#"{{"cmd":{cmd},"dstid":{dstid},"cid":"{}","media":1,"content":"{}"#,
            self.serial, self.stamp
        );
        while self.text.len() + 2 < BYTES {
            self.text.push('x');
        }
        self.text.push_str(r#""}"#);
        self.crowd.say(letter.author, &self.text);
    }

    /// Stops posting and waits for what is under way.
    fn drain(&mut self) -> Result<()> {
        self.posting = false;
        let missing = |streams: &Self| streams.states.iter().any(|state| state.arrived < state.expected);
        loop {
            let arrived = |streams: &Self| streams.states.iter().map(|state| state.arrived).sum::<u64>();
            let before = arrived(self);
            self.until(clock::nanos() + DRAIN_NS, |streams| !missing(streams))?;
            if !missing(self) || arrived(self) == before {
                return Ok(());
            }
        }
    }
}

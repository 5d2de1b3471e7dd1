//! Who posts when, and what came of it.
//!
//! Owns: [`Load`] (what to do to a server) and [`Outcome`] (what it did). A stretch begins after a
//! warm-up in which every receiver was reached, and ends with a drain, so that what is missing then
//! is lost.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;

use super::crowd::{Arrival, Crowd};
use super::dialect::To;
use super::stamp::Stamp;
use crate::clock;
use crate::process::{Usage, usage};
use crate::scrape::{Inside, scrape};

const SECOND_NS: u64 = 1_000_000_000;
/// How long the warm-up tries to reach everybody.
const REACH_NS_MAX: u64 = 20 * SECOND_NS;
/// How long after its last arrival a stretch waits for what is missing.
const DRAIN_NS: u64 = 3 * SECOND_NS;
/// Pause between two tries to reach everybody.
const REACH_PAUSE_NS: u64 = SECOND_NS / 4;

/// How fast messages follow each other.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// So many per second, all authors together, whatever becomes of them (open loop).
    Rate(f64),
    /// So many under way (per pair, if there are pairs), counted by what has arrived (closed loop).
    Window(u32),
}

/// From whom to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// The first `publishers` members post to the group, in turn.
    Group { publishers: usize },
    /// Member 2i posts to member 2i + 1.
    Pairs,
}

/// What is done to a server.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Load {
    /// How many connections.
    pub members: usize,
    /// Who to whom.
    pub traffic: Traffic,
    /// How fast.
    pub pace: Pace,
    /// Bytes of a message.
    pub bytes: usize,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The server's process.
    pub pid: u32,
    /// Where it tells its metrics, if it does.
    pub admin: Option<SocketAddr>,
}

/// What came of one stretch.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Length of the stretch.
    pub nanos: u64,
    /// Messages posted in it.
    pub posted: u64,
    /// Deliveries that arrived in it.
    pub delivered: u64,
    /// Bytes of all frames that came in it, acks and pings too.
    pub frame_bytes: u64,
    /// Deliveries of the stretch's messages that never arrived.
    pub lost: u64,
    /// The server's processor time, all threads.
    pub server_cpu_ns: u64,
    /// The share of one core that the load generator used; near 1, it was the bottleneck.
    pub generator_share: f64,
    /// Nanoseconds from when a message was due until it was read.
    pub latency_ns: Histogram<u64>,
    /// Nanoseconds from when a message was due until its author read that it was accepted (or its
    /// own message, if that comes back); empty for servers that say nothing.
    pub ack_ns: Histogram<u64>,
    /// What the gateway counted, if it is one.
    pub inside: Option<Inside>,
}

impl Outcome {
    /// The server's processor time per delivery, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> f64 {
        self.server_cpu_ns as f64 / self.delivered.max(1) as f64 / 1000.0
    }

    /// Bytes of frames per delivery.
    #[must_use]
    pub fn bytes_each(&self) -> f64 {
        self.frame_bytes as f64 / self.delivered.max(1) as f64
    }

    /// Deliveries per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.delivered as f64 * 1e9 / self.nanos.max(1) as f64
    }
}

/// A run against one crowd.
pub struct Drive<'a, 'b> {
    crowd: &'a mut Crowd<'b>,
    load: Load,
    stretch: u16,
    serial: u64,
    stamp: String,
    text: String,
    /// Of this stretch.
    posted: u64,
    arrived: u64,
    latency_ns: Histogram<u64>,
    ack_ns: Histogram<u64>,
    /// The next message of an open loop.
    next_ns: u64,
    posting: bool,
}

impl<'a, 'b> Drive<'a, 'b> {
    /// A run of `load`; the crowd has its members already.
    #[must_use]
    pub fn new(crowd: &'a mut Crowd<'b>, load: Load) -> Self {
        // Bounds of a minute and three digits: the arguments are lawful.
        let empty = || Histogram::new_with_bounds(1_000, 60 * SECOND_NS, 3).unwrap_or_else(|_| unreachable!());
        Self {
            crowd,
            load,
            stretch: 0,
            serial: 0,
            stamp: String::new(),
            text: String::new(),
            posted: 0,
            arrived: 0,
            latency_ns: empty(),
            ack_ns: empty(),
            next_ns: 0,
            posting: false,
        }
    }

    /// Warms up, then measures `seconds` of what is watched, then drains.
    ///
    /// # Errors
    /// The server loses connections, or somebody cannot be reached at all.
    pub fn measure(mut self, watch: &Watch, warm_seconds: f64, seconds: f64) -> Result<Outcome> {
        self.reach()?;
        self.begin();
        self.until(clock::nanos() + (warm_seconds * 1e9) as u64, |_| false)?;
        if let Pace::Rate(_) = self.load.pace {
            self.drain()?;
        }
        self.begin();
        let (began_ns, own_ns, arrived) = (clock::nanos(), clock::thread_cpu_nanos(), self.arrived);
        let frame_bytes = self.crowd.frame_bytes;
        // A closed loop has not stopped in between.
        let posted = self.posted;
        // The scrapes are outside of what is measured.
        let counted = watch.admin.map(scrape).transpose()?;
        let before: Usage = usage(watch.pid)?;
        self.until(began_ns + (seconds * 1e9) as u64, |_| false)?;
        let after = usage(watch.pid)?;
        let nanos = clock::nanos() - began_ns;
        let generator_share = (clock::thread_cpu_nanos() - own_ns) as f64 / nanos as f64;
        let (posted, delivered) = (self.posted - posted, self.arrived - arrived);
        let frame_bytes = self.crowd.frame_bytes - frame_bytes;
        let inside = match (watch.admin, counted) {
            (Some(admin), Some(before)) => Some(scrape(admin)?.since(before).per_delivery(delivered)),
            _ => None,
        };
        let lost = self.drain()?;
        Ok(Outcome {
            nanos,
            posted,
            delivered,
            frame_bytes,
            lost,
            server_cpu_ns: after.cpu_ns - before.cpu_ns,
            generator_share,
            latency_ns: self.latency_ns,
            ack_ns: self.ack_ns,
            inside,
        })
    }

    /// A new stretch: a closed loop goes on with what is under way, an open one begins with
    /// nothing.
    fn begin(&mut self) {
        if !(self.posting && matches!(self.load.pace, Pace::Window(_))) {
            self.stretch += 1;
            (self.posted, self.arrived) = (0, 0);
        }
        self.latency_ns.reset();
        self.ack_ns.reset();
        self.next_ns = clock::nanos();
        let kick = !self.posting && self.load.traffic == Traffic::Pairs;
        self.posting = true;
        if let (true, Pace::Window(window)) = (kick, self.load.pace) {
            for pair in 0..self.load.members / 2 {
                for _ in 0..window {
                    self.post(2 * pair, To::Member(2 * pair + 1), clock::nanos());
                }
            }
        }
    }

    /// Posts until every receiver has got something: the members of some servers are not there the
    /// moment they are upgraded.
    fn reach(&mut self) -> Result<()> {
        self.stretch += 1;
        let began_ns = clock::nanos();
        let mut reached = vec![false; self.load.members];
        let (mut left, mut next_ns) = (self.receivers_all(), began_ns);
        while left > 0 {
            let now_ns = clock::nanos();
            if now_ns - began_ns > REACH_NS_MAX {
                bail!("{left} members receive nothing");
            }
            if now_ns >= next_ns {
                match self.load.traffic {
                    Traffic::Group { .. } => {
                        self.post(0, To::Group, now_ns);
                        self.post(1, To::Group, now_ns);
                    }
                    Traffic::Pairs => {
                        for pair in (0..self.load.members / 2).filter(|pair| !reached[2 * pair + 1]) {
                            self.post(2 * pair, To::Member(2 * pair + 1), now_ns);
                        }
                    }
                }
                next_ns = now_ns + REACH_PAUSE_NS;
            }
            self.crowd.turn(Duration::from_millis(10))?;
            for arrival in &self.crowd.arrivals {
                let own = arrival.stamp.author as usize == arrival.member;
                if !own && !std::mem::replace(&mut reached[arrival.member], true) {
                    left -= 1;
                }
            }
        }
        Ok(())
    }

    fn receivers_all(&self) -> usize {
        match self.load.traffic {
            Traffic::Group { .. } => self.load.members,
            Traffic::Pairs => self.load.members / 2,
        }
    }

    /// Deliveries of one message.
    fn receivers(&self) -> u64 {
        match self.load.traffic {
            Traffic::Group { .. } => self.load.members as u64 - 1,
            Traffic::Pairs => 1,
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
        if stamp.stretch != self.stretch {
            return;
        }
        let late_ns = now_ns.saturating_sub(stamp.due_ns);
        if stamp.author as usize == member {
            return self.ack_ns.saturating_record(late_ns);
        }
        self.arrived += 1;
        self.latency_ns.saturating_record(late_ns);
        if self.posting && self.load.traffic == Traffic::Pairs && matches!(self.load.pace, Pace::Window(_)) {
            self.post(stamp.author as usize, To::Member(member), clock::nanos());
        }
    }

    /// Posts what is due; answers when the next one is.
    fn post_due(&mut self, now_ns: u64) -> u64 {
        match (self.posting, self.load.pace, self.load.traffic) {
            (false, _, _) | (true, Pace::Window(_), Traffic::Pairs) => u64::MAX,
            (true, Pace::Rate(rate), traffic) => {
                let gap_ns = (1e9 / rate) as u64;
                while self.next_ns <= now_ns {
                    let k = self.posted as usize;
                    match traffic {
                        Traffic::Group { publishers } => self.post(k % publishers, To::Group, self.next_ns),
                        Traffic::Pairs => {
                            let pair = k % (self.load.members / 2);
                            self.post(2 * pair, To::Member(2 * pair + 1), self.next_ns);
                        }
                    }
                    self.next_ns += gap_ns;
                }
                self.next_ns
            }
            (true, Pace::Window(window), Traffic::Group { publishers }) => {
                while self.posted * self.receivers() < self.arrived + u64::from(window) * self.receivers() {
                    self.post(self.posted as usize % publishers, To::Group, now_ns);
                }
                u64::MAX
            }
        }
    }

    fn post(&mut self, author: usize, to: To, due_ns: u64) {
        self.posted += 1;
        self.serial += 1;
        self.stamp.clear();
        self.text.clear();
        Stamp { due_ns, author: author as u32, stretch: self.stretch }.write(&mut self.stamp);
        self.crowd.dialect().post(&mut self.text, to, &self.stamp, self.serial, self.load.bytes);
        self.crowd.say(author, &self.text);
    }

    /// Stops posting and waits for what is under way. Answers what is missing.
    fn drain(&mut self) -> Result<u64> {
        self.posting = false;
        let expected = self.posted * self.receivers();
        loop {
            let arrived = self.arrived;
            self.until(clock::nanos() + DRAIN_NS, |drive| drive.arrived >= expected)?;
            if self.arrived >= expected || self.arrived == arrived {
                return Ok(expected.saturating_sub(self.arrived));
            }
        }
    }
}

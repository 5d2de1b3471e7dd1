//! The devices of one thread: one poll, and a look at every device's clock every few milliseconds.
//!
//! Owns: [`run`] and what it gives back. All devices of a user are in one thread.
//! Bounds: [`TURN_MESSAGES_MAX`](crate::limits::TURN_MESSAGES_MAX) messages per device and turn,
//! [`ABANDONED_MAX`] connections left standing.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use imgate_client::link::Link;
use mio::{Events, Poll};

use super::book::{Fault, Who};
use super::device::{Device, Turn};
use super::mail::Mail;
use super::{RunStage, World};
use crate::limits::{ABANDONED_MAX, EVENTS_MAX, VERIFY_TICK_MS};

/// How often the gauges are renewed.
const GAUGE_NS: u64 = 50_000_000;
/// Stories of one thread about what is missing at the end of a stage.
const STORIES_MAX: usize = 5;

/// What one device had of one conversation at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) who: Who,
    pub(crate) conv: u32,
    /// After settling: the last `seq` and the chain.
    pub(crate) settled: (u64, u64),
    /// After reading everything again; of one device of each user.
    pub(crate) reread: Option<(u64, u64)>,
    /// Whether retention took something before it was shown.
    pub(crate) trimmed: bool,
}

/// What one thread gives back.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) outcomes: Vec<Outcome>,
    /// From sending to the ack, of messages that needed no second try.
    pub(crate) ack_ns: Histogram<u64>,
    /// From the first device that has a message to each other one that is connected and reads.
    pub(crate) lag_ns: Histogram<u64>,
}

/// Latencies from a microsecond to an hour, with three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3).expect("invariant: constant bounds that fit 3 digits")
}

/// Everything of one thread.
struct Deck<'a> {
    world: &'a World,
    lane: usize,
    poll: Poll,
    devices: Vec<Device>,
    ids: Vec<u64>,
    ack_ns: Histogram<u64>,
    lag_ns: Histogram<u64>,
    parked: VecDeque<(u64, Link)>,
    twins: Vec<(u32, u16, Mail)>,
    stage: RunStage,
}

/// Runs the devices of thread `lane` until the run is over.
pub(crate) fn run(world: &World, lane: usize) -> Result<Crew> {
    let poll = Poll::new().context("epoll")?;
    let mut devices = Vec::new();
    for user in (lane..world.users.len()).step_by(world.lanes.len()) {
        for device in 0..world.habits.devices {
            let who = Who { user: user as u32, device };
            devices.push(Device::new(world, who, devices.len() as u32));
        }
    }
    let ids = world.users.iter().map(|user| user.id).collect();
    let (ack_ns, lag_ns, parked, twins) = (histogram(), histogram(), VecDeque::new(), Vec::new());
    let mut deck = Deck { world, lane, poll, devices, ids, ack_ns, lag_ns, parked, twins, stage: RunStage::Opening };
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut gauge_ns = 0;
    loop {
        let now = world.clock.nanos();
        let stage = world.stage();
        if stage != deck.stage {
            deck.leave();
            deck.stage = stage;
            deck.each(now, |device, turn| device.enter(turn));
        }
        if stage == RunStage::Stopping {
            return Ok(deck.end());
        }
        deck.each(now, |device, turn| device.tick(turn));
        deck.pass_twins();
        while deck.parked.front().is_some_and(|(until, _)| *until <= now) || deck.parked.len() > ABANDONED_MAX {
            deck.parked.pop_front();
        }
        if now >= gauge_ns {
            gauge_ns = now + GAUGE_NS;
            deck.gauge();
        }
        match deck.poll.poll(&mut events, Some(Duration::from_millis(VERIFY_TICK_MS))) {
            Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(e).context("epoll"),
            _ => {}
        }
        let now = world.clock.nanos();
        for event in events.iter() {
            let token = event.token();
            deck.one(token.0 as u32 as usize, now, |device, turn| {
                if device.owns(token) {
                    device.ready(turn);
                }
            });
        }
    }
}

impl Deck<'_> {
    fn one(&mut self, place: usize, now_ns: u64, act: impl FnOnce(&mut Device, &mut Turn<'_>)) {
        let Some(device) = self.devices.get_mut(place) else { return };
        let mut turn = Turn {
            world: self.world,
            lane: &self.world.lanes[self.lane],
            registry: self.poll.registry(),
            ids: &self.ids,
            ack_ns: &mut self.ack_ns,
            lag_ns: &mut self.lag_ns,
            parked: &mut self.parked,
            twins: &mut self.twins,
            stage: self.stage,
            now_ns,
        };
        act(device, &mut turn);
    }

    fn each(&mut self, now_ns: u64, mut act: impl FnMut(&mut Device, &mut Turn<'_>)) {
        for place in 0..self.devices.len() {
            self.one(place, now_ns, &mut act);
        }
    }

    /// The device beside the one that made a message sends it, too.
    fn pass_twins(&mut self) {
        let count = self.world.habits.devices;
        for (user, device, mail) in std::mem::take(&mut self.twins) {
            let other = Who { user, device: (device + 1) % count };
            let twin = self.devices.iter_mut().find(|d| d.who == other && device != other.device);
            if let Some(twin) = twin {
                twin.join(mail);
            }
        }
    }

    fn gauge(&self) {
        let lane = &self.world.lanes[self.lane];
        lane.pending.set(self.devices.iter().map(|device| device.pending() as u64).sum());
        if self.stage >= RunStage::Quiet {
            let behind = |device: &Device| device.behind(self.world, self.stage).count() as u64;
            lane.behind.set(self.devices.iter().map(behind).sum());
        }
    }

    /// A stage is over: what it should have brought about and did not, is a finding.
    fn leave(&self) {
        let book = &self.world.book;
        if self.stage == RunStage::Quiet {
            for (mail, tries) in self.devices.iter().flat_map(Device::unanswered) {
                let name = book.convs[mail.conv as usize].name;
                book.blame(Fault::Unacked, || {
                    format!("{mail} to {name}, sent {tries} times, was neither acked nor refused")
                });
            }
        }
        let fault = match self.stage {
            RunStage::Quiet => Fault::Missed,
            RunStage::Settling | RunStage::Rereading => Fault::Incomplete,
            _ => return,
        };
        let mut told = 0;
        for device in &self.devices {
            for view in device.behind(self.world, self.stage) {
                told += 1;
                let (conv, who) = (&book.convs[view.conv as usize], device.who);
                book.blame(fault, || {
                    if told > STORIES_MAX {
                        return format!("{}: so did others", conv.name);
                    }
                    let next = conv.record().rows.get((view.last - conv.base) as usize).copied().flatten();
                    let next = next.map_or_else(|| "nobody saw that one".to_owned(), |seen| format!("it was seen: {seen}"));
                    format!(
                        "{}: when stage {:?} was over, user #{} device {} had everything up to seq {} of {}; the next: {next}",
                        conv.name, self.stage, who.user, who.device, view.last, conv.head()
                    )
                });
            }
        }
    }

    fn end(self) -> Crew {
        let mut outcomes = Vec::new();
        for device in &self.devices {
            for view in &device.views {
                let now = (view.last, view.chain);
                let (settled, reread) = view.before.map_or((now, None), |before| (before, Some(now)));
                outcomes.push(Outcome { who: device.who, conv: view.conv, settled, reread, trimmed: view.trimmed });
            }
        }
        Crew { outcomes, ack_ns: self.ack_ns, lag_ns: self.lag_ns }
    }
}

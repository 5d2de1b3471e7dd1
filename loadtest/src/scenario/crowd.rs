//! What the scenarios of one group share: their flags, the publishers with their schedule, and the
//! books by content.
//!
//! Owns: [`Crowd`] and [`Desk`]. Message k is due at start + k / rate, whatever became of those
//! before it; its latency counts from then, so a server that stalls cannot hide it (no coordinated
//! omission).
//! Never: sends a refused message again; an open loop goes on.
//! Bounds: [`MEMBER_PUBLISHERS_MAX`] windows, [`UNACKED_MAX`] unanswered messages of a publisher.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use super::traffic::Traffic;
use crate::board::Phase;
use crate::clock::seconds_ns;
use crate::conduct::deal;
use crate::http::{self, Url};
use crate::interrupt::Interrupt;
use crate::ledger::{Verdict, Window};
use crate::limits::{MEMBER_PUBLISHERS_MAX, RATE_MAX, UNACKED_MAX, WHOLE_LIST_MAX};
use crate::net::{Net, Plan};
use crate::options::{Measure, Options};
use crate::report::Report;
use crate::stamp::{Run, Stamp};
use crate::tally::Tally;
use crate::upgrade::Profile;

/// Flags of the scenarios of one group.
#[derive(Args, Clone, Debug)]
pub(super) struct Crowd {
    #[command(flatten)]
    pub(super) options: Options,
    #[command(flatten)]
    pub(super) measure: Measure,
    #[command(flatten)]
    pub(super) traffic: Traffic,
    /// The group, of which the first users of the tokens file are members. Without it, the first
    /// one that the first user is in: the gateway is asked.
    #[arg(long)]
    group: Option<u64>,
    /// Members that are online.
    #[arg(long)]
    pub(super) members: usize,
    /// How many of them publish, in turn.
    #[arg(long, default_value_t = 10)]
    pub(super) publishers: usize,
    /// Messages per second, all publishers together.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    pub(super) rate: u64,
    /// Members whose latencies are measured, spread evenly; 0: all. The others are read a few times
    /// a second, which costs this machine far less. Every member's messages are checked in any
    /// case.
    #[arg(long, default_value_t = 0)]
    pub(super) watched: usize,
}

impl Crowd {
    /// The plan. An error if the flags contradict each other; `stalled` of the members do not read
    /// all the time.
    pub(super) fn plan(&self, stalled: usize, reconnect: bool, interrupt: &Interrupt) -> Result<Arc<Plan>> {
        let Self { members, publishers, .. } = self;
        ensure!(stalled < *members || stalled == 0, "--stalled must be less than --members");
        ensure!(
            (1..=members - stalled).contains(publishers),
            "--publishers must be between 1 and the number of those who read"
        );
        let own = members.div_ceil(self.options.processes());
        ensure!(
            own.saturating_mul(*publishers) <= MEMBER_PUBLISHERS_MAX,
            "{own} members of a process x {publishers} publishers are too many to be told apart: at most \
             {MEMBER_PUBLISHERS_MAX}"
        );
        let mut plan = self.options.plan(*members, *members, true, reconnect, interrupt)?;
        let own = Arc::get_mut(&mut plan).expect("invariant: nobody else has it yet");
        if stalled > 0 {
            own.narrow_from = members - stalled;
        }
        if self.watched > 0 {
            // A publisher waits for acks.
            own.leisure_from = *publishers;
            own.watched_every = (members - stalled).div_ceil(self.watched);
        }
        Ok(plan)
    }

    /// The group that is meant.
    ///
    /// # Errors
    ///
    /// None is known, or the gateway tells that the last of the members is not in it.
    pub(super) fn group(&self, plan: &Plan) -> Result<u64> {
        let group = self.group.map_or_else(|| first_group(plan), Ok)?;
        let last = self.members - 1;
        // A server that does not tell may have the group all the same, and a long list may be cut.
        if let Ok(groups) = groups_of(plan, last)
            && groups.len() < WHOLE_LIST_MAX
            && !groups.contains_key(&group)
        {
            let sizes = groups_of(plan, 0).unwrap_or_default();
            let size = sizes.get(&group).copied().flatten();
            let size = size.map(|size| format!(" (it has {size} members)")).unwrap_or_default();
            let (user, members) = (plan.tokens.get(last).0, self.members);
            bail!(
                "user {user}, the last of {members} members, is not in group {group}{size}: its messages would all count \
                 as lost; ask for fewer --members, or let them join"
            );
        }
        Ok(group)
    }

    /// The load, for the report.
    pub(super) fn describe(&self, report: &mut Report, group: u64) {
        report.count("group", group);
        report.count("members", self.members as u64);
        report.count("publishers", self.publishers as u64);
        report.count("rate_per_second", self.rate);
        report.count("seconds", self.measure.seconds);
        report.count("payload_bytes", u64::from(self.measure.payload));
    }
}

/// The first group that the first user is in, as the gateway tells.
fn first_group(plan: &Plan) -> Result<u64> {
    let user = plan.tokens.get(0).0;
    let group = groups_of(plan, 0).context("cannot ask for a group")?.into_keys().next();
    group.with_context(|| format!("user {user} is in no group: give --group, or make one (`imgate seed --groups 1`)"))
}

/// The groups of one of the run's users, and the number of their members where the gateway tells
/// it.
fn groups_of(plan: &Plan, at: usize) -> Result<BTreeMap<u64, Option<u64>>> {
    let (user, token) = plan.tokens.get(at);
    let url = Url { host: plan.host().to_owned(), path: "/contact/loadcommunity".to_owned() };
    let answer = http::post(&url, Some(token), &[("userid", &user.to_string())])?;
    let answer: Value = serde_json::from_slice(&answer).context("a list of groups that is no JSON")?;
    let rows = answer["rows"].as_array().context("a list of groups without rows")?;
    let group = |row: &Value| {
        let id = row["id"].as_u64()?;
        Some((id, answer["data"]["group_map"][id.to_string()].as_u64()))
    };
    Ok(rows.iter().filter_map(group).collect())
}

/// A message on its way: the publisher's counter, and when it was meant to be sent.
type Sent = (u32, u64);

/// The members of one thread: member `m` of thread `t` is member `m * threads + t` of all; the
/// first of all are the publishers.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) run: Run,
    pub(super) profile: Profile,
    pub(super) group: u64,
    rate: u64,
    payload: usize,
    threads: usize,
    lane: usize,
    publishers: usize,
    /// Per member and publisher: what it has, by content.
    windows: Vec<Window>,
    /// Per member that publishes: its last counter, and what is unanswered.
    posts: Vec<(u32, VecDeque<Sent>)>,
    /// The next message to send, counted over all threads.
    next: u64,
    pub(super) tally: Tally,
    text: String,
}

impl Desk {
    pub(super) fn new(crowd: &Crowd, group: u64, run: Run, plan: &Plan, lane: usize, members: usize) -> Self {
        let threads = plan.board.lanes.len();
        Self {
            run,
            profile: plan.profile,
            group,
            rate: crowd.rate,
            payload: crowd.measure.payload as usize,
            threads,
            lane,
            publishers: crowd.publishers,
            windows: vec![Window::default(); members * crowd.publishers],
            posts: deal(crowd.publishers, threads, lane).map(|_| (0, VecDeque::new())).collect(),
            next: 0,
            tally: Tally::of(plan, lane),
            text: String::new(),
        }
    }

    /// The place of a local member among all.
    pub(super) fn index(&self, member: u32) -> u32 {
        (member as usize * self.threads + self.lane) as u32
    }

    /// The stamp of a message of this run, by one of its publishers.
    pub(super) fn stamp(&self, content: Option<&str>) -> Option<Stamp> {
        Stamp::from_content(content?, self.run).filter(|stamp| (stamp.sender as usize) < self.publishers)
    }

    /// Enters a message that a member received or, as an ack, had received by sending it.
    pub(super) fn arrive(&mut self, net: &Net, member: u32, stamp: Stamp, by_seq: Verdict) -> Verdict {
        let window = member as usize * self.publishers + stamp.sender as usize;
        let by_content = self.windows[window].enter(stamp.n);
        if by_content != Verdict::Doubled {
            net.lane().arrived.add(1);
        }
        let verdict = by_seq.max(by_content);
        self.tally.judge(verdict);
        verdict
    }

    /// Different messages that each local member has.
    pub(super) fn arrived(&self) -> impl Iterator<Item = u64> {
        self.windows.chunks(self.publishers).map(|each| each.iter().map(|window| u64::from(window.arrived)).sum())
    }

    /// Takes a message from those unanswered, by its `cid`.
    pub(super) fn settle(&mut self, net: &Net, member: u32, cid: Option<&str>) -> Option<Stamp> {
        let stamp = Stamp::from_cid(cid?, self.run)?;
        let (_, unanswered) = self.posts.get_mut(member as usize)?;
        let place = unanswered.iter().position(|(n, _)| *n == stamp.n)?;
        let (_, intended_ns) = unanswered.remove(place)?;
        net.lane().pending.sub(1);
        Some(Stamp { intended_ns, ..stamp })
    }

    /// An ack has come. `None`, and judged: of nothing, or the second one.
    pub(super) fn acked(
        &mut self,
        net: &Net,
        member: u32,
        cid: Option<&str>,
        seq: Option<u64>,
        now_ns: u64,
    ) -> Option<Stamp> {
        let Some(stamp) = self.settle(net, member, cid) else {
            self.tally.judge(Verdict::Doubled);
            return None;
        };
        net.lane().acked.add(1);
        self.tally.acked_after(now_ns.saturating_sub(stamp.intended_ns));
        self.tally.acked_seq(seq);
        Some(stamp)
    }

    fn publish(&mut self, net: &mut Net, member: u32, intended_ns: u64) {
        let sender = self.index(member);
        let (last, unanswered) = &mut self.posts[member as usize];
        let stamp = Stamp { sender, n: *last + 1, intended_ns };
        stamp.write(&mut self.text, self.run, 11, self.group, self.payload);
        if unanswered.len() >= UNACKED_MAX || !net.send(member, &self.text) {
            self.tally.unsent += 1;
            return;
        }
        *last += 1;
        net.lane().sent.add(1);
        if self.profile == Profile::V2 {
            unanswered.push_back((stamp.n, intended_ns));
            net.lane().pending.add(1);
        } else {
            net.lane().acked.add(1);
            self.arrive(net, member, stamp, Verdict::Fresh);
        }
    }

    /// Sends what is due in a measurement of `seconds`. Returns when the next message is.
    pub(super) fn schedule(&mut self, net: &mut Net, seconds: u64, now_ns: u64) -> u64 {
        // What was due before the end is sent, even if this thread comes late to it.
        if !matches!(net.board().phase(), Phase::Running | Phase::Draining) {
            return u64::MAX;
        }
        let (start, end) = (net.board().started_ns(), seconds_ns(seconds));
        loop {
            let offset = (u128::from(self.next) * 1_000_000_000 / u128::from(self.rate)) as u64;
            if offset >= end || start + offset > net.board().ended_ns() {
                return u64::MAX;
            }
            if start + offset > now_ns {
                return start + offset;
            }
            let publisher = (self.next % self.publishers as u64) as usize;
            if publisher % self.threads == self.lane {
                net.lane().scheduled.add(1);
                self.tally.lag_ns.saturating_record(now_ns - (start + offset));
                self.publish(net, (publisher / self.threads) as u32, start + offset);
            }
            self.next += 1;
        }
    }
}

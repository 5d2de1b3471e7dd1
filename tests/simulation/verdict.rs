//! A whole run, and what must hold when the storm is over.
//!
//! Owns: the order of a run: storm, calm, everybody back, the frozen one thawed, the quiet time, the stop. After each the promises are checked as a whole.

use std::collections::BTreeSet;

use imgate::ids::{ConvId, UserId};
use imgate::limits::{CONV_IDLE_MS, REPLAY_MAX, STALL_MS_MAX};
use imgate::metrics::Tally;
use imgate::metrics::tally::{Merged, Slowness};
use imgate::shard::{Drain, Event, Notice};
use imgate::wire::{CloseCode, Echo, Profile, Reject};

use crate::client::Link;
use crate::plan::Plan;
use crate::trace::Trace;
use crate::truth::{Message, Stand};
use crate::world::{Checked, SET_BACK_MS_MAX, World};

/// Time in which everything that was begun must come to its end: parked commands are told after five seconds.
const SETTLE_MS: u64 = 15_000;
/// The same where old pages may have missed the messages of 64 strangers, of whom each is given 0.3 s.
const SETTLE_CROWD_MS: u64 = 25_000;
/// Such times until a user who went too fast has been read, or closed for it.
const PACED_ROUNDS_MAX: u32 = 20;

/// What a run has met, by the shards' own counters; the seeds together must have met all of it.
pub(crate) type Met = [(&'static str, u64); 40];

/// Runs one plan from its beginning to its end.
pub(crate) fn run(plan: Plan, trace: Trace) -> Result<Met, String> {
    let mut world = World::new(plan, trace)?;
    let outcome = world.live();
    outcome.map_err(|why| format!("step {}, {} ms: {why}", world.step, world.now.mono_ms))?;
    Ok(world.met())
}

/// The most messages that were missed by the user of a session when it was opened.
fn missed(link: &Link) -> u64 {
    let stands = link.begun.iter().flat_map(|begun| &begun.convs);
    let missed = stands.map(|(conv, stand)| {
        let opened = link.opened.convs.get(conv);
        let has = opened.map_or(0, |opened| opened.stored.0.max(opened.floor - 1));
        stand.head.saturating_sub(has)
    });
    missed.sum()
}

/// Of each conversation in which something was missed at least so many messages are replayed, the newest: none takes the
/// places of the others.
fn share(link: &Link) -> u64 {
    let stands = link.begun.iter().flat_map(|begun| &begun.convs);
    let lacks = |(conv, stand): &(&ConvId, &Stand)| {
        let opened = link.opened.convs.get(conv);
        opened.map_or(0, |opened| opened.stored.0.max(opened.floor - 1)) < stand.head
    };
    REPLAY_MAX / (stands.filter(lacks).count() as u64).max(1)
}

impl World {
    fn live(&mut self) -> Checked {
        self.begin()?;
        for _ in 0..self.plan.moves {
            self.step_once()?;
        }
        self.calm_down()?;
        self.finish()
    }

    /// Most clients connect.
    pub(crate) fn begin(&mut self) -> Checked {
        for client in 0..self.clients.len() {
            if self.random.chance(800) {
                self.connect(client)?;
            }
        }
        Ok(())
    }

    /// The storm is over: everything that was begun comes to its end.
    pub(crate) fn calm_down(&mut self) -> Checked {
        self.calm = true;
        self.settle_all()?;
        self.check_budget()?;
        while self.repeat_memberships() {
            self.settle(SETTLE_MS)?;
        }
        Ok(())
    }

    /// Everything comes to its end, also what is read slowly because its user went too fast: a whole quiet time follows the last of it.
    fn settle_all(&mut self) -> Checked {
        for _ in 0..PACED_ROUNDS_MAX {
            let waited = self.anybody_waits();
            self.settle(if self.plan.crowd > 0 { SETTLE_CROWD_MS } else { SETTLE_MS })?;
            if !waited && !self.anybody_waits() {
                break;
            }
        }
        Ok(())
    }

    /// Whether a client has something to say that is not read yet.
    fn anybody_waits(&self) -> bool {
        let waits = |link: &Link| link.is_live() && (link.paused || !link.queue.is_empty());
        let mut awake = self.clients.iter().filter(|client| !client.frozen);
        awake.any(|client| client.link.as_ref().is_some_and(waits))
    }

    /// Everybody comes back and everything is looked at.
    pub(crate) fn finish(&mut self) -> Checked {
        self.check_sessions()?;
        self.return_everybody()?;
        self.check_sessions()?;
        self.check_clients()?;
        if self.plan.frozen && self.random.chance(500) {
            // Until the shard loses patience, as its pings' silence or the closed window tells it.
            self.settle(STALL_MS_MAX + 2 * SETTLE_MS)?;
        }
        for client in 0..self.clients.len() {
            if std::mem::take(&mut self.clients[client].frozen) && self.clients[client].link.is_none() {
                self.connect(client)?;
            }
        }
        self.settle_all()?;
        self.check_sessions()?;
        self.check_tallies()?;
        let connected: Vec<bool> = self.clients.iter().map(|client| client.link.is_some()).collect();
        self.settle(2 * CONV_IDLE_MS)?;
        self.check_idle(&connected)?;
        self.check_cursors()?;
        self.stop()
    }

    /// Everybody who is away connects, and every v2 client reads what it lacks.
    fn return_everybody(&mut self) -> Checked {
        for client in 0..self.clients.len() {
            if self.clients[client].link.is_none() {
                self.connect(client)?;
            }
        }
        self.settle_all()?;
        if self.plan.volatile {
            return Ok(());
        }
        for client in 0..self.clients.len() {
            if self.clients[client].is_v2() && !self.clients[client].frozen && self.clients[client].link.is_some() {
                let convs: Vec<ConvId> = self.conversations_of(self.clients[client].user).collect();
                self.clients[client].memory.holes.extend(convs);
                self.walk(client);
            }
        }
        self.settle_all()?;
        self.check_walks()
    }

    /// The conversations that a user may read now.
    fn conversations_of(&self, user: UserId) -> impl Iterator<Item = ConvId> {
        self.truth.convs.keys().copied().filter(move |&conv| match conv {
            ConvId::Direct { .. } => conv.is_between(user),
            ConvId::Group(group) => self.truth.membership(group, user).is_some(),
        })
    }

    // ---- sessions -------------------------------------------------------------------------------

    pub(crate) fn check_sessions(&mut self) -> Checked {
        for (i, client) in self.clients.iter().enumerate() {
            let Some(link) = client.link.as_ref().filter(|_| !client.frozen) else { continue };
            self.check_session(i, link).map_err(|why| format!("client {i} of {:?}: {why}", client.user))?;
        }
        for client in 0..self.clients.len() {
            if !self.clients[client].frozen {
                self.check_cut(client)?;
            }
        }
        let frozen = self.clients.iter().filter(|client| client.frozen).count() as u64;
        let volatile = self.plan.volatile;
        let dropped = self.dropped();
        if volatile {
            let missing = self.missing_volatile();
            if missing > dropped || (self.plan.gentle() && dropped > 0) {
                return Err(format!("P8: {missing} volatile messages are missing, {dropped} are counted as dropped"));
            }
        }
        for (i, node) in self.nodes.iter_mut().enumerate() {
            let behind = node.shard.tally().sessions_behind;
            if behind > frozen {
                return Err(format!("P5: {behind} sessions of shard {i} are behind, {frozen} may be"));
            }
            let outstanding = node.shard.outstanding();
            if outstanding > 0 && frozen == 0 {
                return Err(format!("bounds: {outstanding} asks of shard {i} are outstanding"));
            }
        }
        let unanswered = self.issued.iter().find(|(_, issued)| issued.answer.is_none());
        match unanswered {
            Some((id, issued)) => Err(format!("notice {id} is never answered: {:?}", issued.notice)),
            None => Ok(()),
        }
    }

    fn check_session(&self, client: usize, link: &Link) -> Checked {
        if link.finished_ms.is_some() || link.mute {
            return Err("it was finished and never let go".to_owned());
        }
        let Some((step, heads)) = &link.resumed else { return Err("it never opened".to_owned()) };
        if link.paused || !link.queue.is_empty() {
            return Err(format!("it is not read: paused {}, {} messages wait", link.paused, link.queue.len()));
        }
        if let Some(waiting) = link.waiting.first() {
            return Err(format!("P8: {} commands were never answered, first {waiting:?}", link.waiting.len()));
        }
        if let Some(word) = link.refused_words.first() {
            return Err(format!("P8: the refusal of a word was never told: {word:?}"));
        }
        if !link.pings.is_empty() {
            return Err("a ping was never answered".to_owned());
        }
        self.check_evictions(client, link)?;
        if self.plan.volatile {
            return Ok(());
        }
        if self.clients[client].is_v2() && !link.ready {
            return Err("the list of its conversations never came".to_owned());
        }
        self.check_legacy_answers(client, link)?;
        self.check_crowd(client, link)?;
        let user = self.clients[client].user;
        let (replays, all) = (!self.clients[client].is_v2(), missed(link) <= REPLAY_MAX);
        for conv in self.conversations_of(user) {
            let head = heads.get(&conv).copied().unwrap_or(0);
            // What nobody has confirmed before it was opened comes first in a legacy session.
            let begun = link.begun.as_ref().and_then(|moment| moment.convs.get(&conv)).filter(|_| replays);
            let owed = begun.map_or(head, |stand| {
                let left_out = if all { 0 } else { stand.head.saturating_sub(share(link)) };
                stand.said.0.max(left_out).min(head)
            });
            let low = match conv {
                ConvId::Direct { .. } => (0, owed),
                ConvId::Group(group) => {
                    let Some(span) = self.truth.membership(group, user) else { continue };
                    let opened_at = head.max(span.since);
                    let low = if !span.clean {
                        // Nobody was told of it before it was repeated; until then an earlier end may have been told last.
                        span.told.unwrap_or(u64::MAX).max(opened_at)
                    } else if span.step <= link.opened.step {
                        owed.max(span.since)
                    } else if span.step <= *step {
                        opened_at
                    } else {
                        span.since
                    };
                    (span.since, low)
                }
            };
            self.check_range(client, link, conv, low)?;
        }
        Ok(())
    }

    /// From the first push, or from what the session had to get, to the head: every message came, or was its own.
    fn check_range(&self, client: usize, link: &Link, conv: ConvId, (since, low): (u64, u64)) -> Checked {
        let echoes = self.clients[client].profile == Profile::Legacy(Echo::Groups) && matches!(conv, ConvId::Group(_));
        let pushes: BTreeSet<u64> =
            link.pushes.get(&conv).into_iter().flatten().copied().filter(|&seq| seq > since).collect();
        let first = pushes.first().map_or(u64::MAX, |&first| first - 1);
        for seq in low.min(first).saturating_add(1)..=self.revealed_head(conv) {
            let own = || {
                let post = self.truth.message(conv, seq).and_then(|message| message.post);
                !self.clients[client].is_v2() && !echoes && post.is_some_and(|post| link.own.contains(&post))
            };
            // An old page is shown neither what is no more nor the message that says so.
            let hidden = self.truth.message(conv, seq).is_some_and(Message::is_hidden);
            let foreign = self.truth.message(conv, seq).is_some_and(|message| message.post.is_none());
            if foreign && !self.plan.clustered && (seq <= first || self.plan.lulls > 0 || self.has_rested(conv, seq)) {
                // Nobody here had to know of it: a home that begins to keep a conversation, perhaps after a lull, starts at its head.
                continue;
            }
            if seq < self.truth.floor(conv) {
                continue;
            }
            let acked = link.acks.get(&conv).is_some_and(|acks| acks.contains(&seq));
            if !pushes.contains(&seq) && !acked && !own() && (self.clients[client].is_v2() || !hidden) {
                let head = self.truth.head(conv);
                return Err(format!(
                    "P4: {conv:?} #{seq} never came; first push {first:?}+1, owed from {low}+1, head {head}"
                ));
            }
        }
        Ok(())
    }

    /// Whether between what was said here before a foreign message and what was said after it the home may have let go of the conversation.
    fn has_rested(&self, conv: ConvId, seq: u64) -> bool {
        let rows = self.truth.convs.get(&conv).map(Vec::as_slice).unwrap_or_default();
        let (before, after) = rows.split_at((seq as usize).min(rows.len()));
        let ours = |message: &&Message| message.post.is_some();
        let (last, next) = (before.iter().rfind(ours), after.iter().find(ours));
        last.zip(next).is_none_or(|(last, next)| next.ts.saturating_sub(last.ts) >= CONV_IDLE_MS)
    }

    /// Of the strangers' messages a legacy session gets the newest that nobody has confirmed, and no more than it may.
    fn check_crowd(&self, client: usize, link: &Link) -> Checked {
        let Some(begun) = link.begun.as_ref().filter(|_| self.plan.crowd > 0 && !self.clients[client].is_v2()) else {
            return Ok(());
        };
        let stranger = |conv: ConvId| matches!(conv, ConvId::Direct { hi, .. } if !self.users.contains(&hi));
        let place = |conv: ConvId| self.truth.message(conv, self.truth.head(conv)).map(|message| (message.ts, conv));
        let (mut count, mut oldest) = (0, None);
        for (&conv, pushes) in link.pushes.iter().filter(|&(&conv, _)| stranger(conv)) {
            // What retention has taken away in the midst of a replay is not missed.
            let (floor, head) = (self.truth.floor(conv), self.truth.head(conv));
            let whole = pushes.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] <= floor);
            if !whole || pushes.last() != Some(&head) && floor <= head {
                let last: Vec<_> = (1..=head).rev().take(4).map(|seq| self.truth.message(conv, seq)).collect();
                return Err(format!(
                    "P4: of {conv:?}, written before the run, {pushes:?} are replayed; its last are {last:?}"
                ));
            }
            count += pushes.len() as u64;
            oldest = oldest.min(place(conv)).or_else(|| place(conv));
        }
        let all = missed(link) <= REPLAY_MAX;
        let lacks = |conv: &ConvId| {
            let owed = stranger(*conv) && begun.convs[conv].said.0 < self.truth.head(*conv);
            let kept = self.truth.floor(*conv) <= self.truth.head(*conv);
            owed && kept
                && !link.pushes.contains_key(conv)
                && (all || oldest.is_some_and(|oldest| place(*conv) > Some(oldest)))
        };
        let lacking = begun.convs.keys().find(|conv| lacks(conv));
        if count > REPLAY_MAX || lacking.is_some() {
            return Err(format!("P4: {count} strangers' messages are replayed, and not that of {lacking:?}"));
        }
        Ok(())
    }

    /// A legacy session that has missed more than it gets, gets all that it may.
    fn check_cut(&mut self, client: usize) -> Checked {
        let settled = self.plan.joins == 0 && self.plan.trims == 0 && !self.clients[client].is_v2();
        let Some(link) = self.clients[client].link.as_ref().filter(|_| settled && !self.plan.volatile) else {
            return Ok(());
        };
        let Some(begun) = &link.begun else { return Ok(()) };
        let least: u64 = begun
            .convs
            .iter()
            .filter_map(|(conv, stand)| Some((link.opened.convs.get(conv)?.head).saturating_sub(stand.said.0)))
            .sum();
        let old = |(conv, seqs): (&ConvId, &Vec<u64>)| {
            let head = begun.convs.get(conv).map_or(0, |stand| stand.head);
            seqs.iter().filter(|&&seq| seq <= head).count() as u64
        };
        let got: u64 = link.pushes.iter().map(old).sum();
        // Recalls count among the newest and are not shown.
        let hidden = begun.convs.iter().map(|(&conv, stand)| {
            (1..=stand.head).filter(|&seq| self.truth.message(conv, seq).is_some_and(Message::is_hidden)).count() as u64
        });
        let hidden: u64 = hidden.sum();
        self.sights.cut += u64::from(least > REPLAY_MAX);
        if least >= REPLAY_MAX && got + hidden < REPLAY_MAX {
            return Err(format!("P4: client {client} has missed {least} messages at least and got {got}"));
        }
        Ok(())
    }

    /// The newest message that this gateway must know of: another's rows are revealed by the next of its own.
    fn revealed_head(&self, conv: ConvId) -> u64 {
        let rows = self.truth.convs.get(&conv).map(Vec::as_slice).unwrap_or_default();
        let known = |message: &Message| self.plan.clustered || message.post.is_some();
        rows.iter().rposition(known).map_or(0, |at| at as u64 + 1)
    }

    /// Each post of a legacy session is stored or refused in words.
    fn check_legacy_answers(&self, client: usize, link: &Link) -> Checked {
        if self.clients[client].is_v2() {
            return Ok(());
        }
        let lacking =
            link.own.iter().filter(|&&post| self.truth.place_of(post).is_none()).count() as u64 + link.unreadable;
        let [refusals, unknown] = link.refusals;
        if refusals < lacking || refusals - lacking > unknown {
            return Err(format!(
                "P8: {lacking} commands of a legacy session failed, {refusals} refusals were told, {unknown} of them unsure"
            ));
        }
        Ok(())
    }

    /// Nobody is connected who was logged out or banned.
    fn check_evictions(&self, client: usize, link: &Link) -> Checked {
        let user = self.clients[client].user;
        for issued in
            self.issued.values().filter(|issued| issued.given_step.is_some_and(|step| step >= link.opened.step))
        {
            match issued.notice.clone() {
                Notice::LoggedOut { user: who, epoch } if who == user && epoch > link.epoch => {
                    return Err(format!("P6: epoch {} is still connected, {epoch} was told", link.epoch));
                }
                Notice::Banned { user: who } if who == user => return Err("P6: banned and still connected".to_owned()),
                _ => {}
            }
        }
        Ok(())
    }

    // ---- clients --------------------------------------------------------------------------------

    /// After its last sync every v2 client has everything that its user may read, once.
    fn check_clients(&self) -> Checked {
        for post in self.posts.iter().enumerate().filter(|(_, post)| post.busy && !post.acked && post.gives == 1) {
            let certain = post.1.cid.is_some() && !self.cid_is_reused(post.0);
            if certain && self.truth.place_of(post.0).is_some() && !self.plan.volatile {
                return Err(format!("P8: post {} was refused busy, which means not stored, but it is stored", post.0));
            }
        }
        if self.plan.volatile {
            return Ok(());
        }
        for (i, client) in self.clients.iter().enumerate().filter(|(_, client)| client.is_v2() && !client.frozen) {
            if client.link.is_none() {
                continue;
            }
            for conv in self.conversations_of(client.user) {
                let (last, head) = (client.memory.last.get(&conv).copied().unwrap_or(0), self.truth.head(conv));
                if last != head {
                    return Err(format!("P3: client {i} has {conv:?} up to #{last}, the head is #{head}"));
                }
                let since = match conv {
                    ConvId::Group(group) => self.truth.membership(group, client.user).map_or(0, |span| span.since),
                    ConvId::Direct { .. } => 0,
                };
                let applied = client.memory.applied.get(&conv);
                let first = self.truth.floor(conv).max(since + 1);
                if let Some(seq) = (first..=head).find(|seq| applied.is_none_or(|applied| !applied.contains(seq))) {
                    return Err(format!("P3: client {i} never applied {conv:?} #{seq}"));
                }
            }
        }
        Ok(())
    }

    // ---- volatile -------------------------------------------------------------------------------

    /// The most messages that may be missing; a full lane drops for every session on its other side.
    fn dropped(&mut self) -> u64 {
        let sessions = self.clients.len() as u64;
        self.sum(|tally| tally.dropped) + self.sum(|tally| tally.lane_dropped) * sessions
    }

    /// Accepted messages that a session of the time did not get.
    fn missing_volatile(&self) -> u64 {
        let mut missing = 0;
        for client in self.clients.iter().filter(|client| !client.frozen) {
            let Some(link) = &client.link else { continue };
            let Some((resumed, _)) = link.resumed else { continue };
            for (number, post) in self.posts.iter().enumerate() {
                let echoes = client.profile == Profile::Legacy(Echo::Groups) && matches!(post.conv, ConvId::Group(_));
                let due = post.acked
                    && post.gives == 1
                    && post.step > resumed
                    && (post.serial != link.serial || echoes)
                    && self.truth.may_see(post.conv, client.user, 1);
                missing += u64::from(due && !link.shown.contains(&number));
            }
        }
        missing
    }

    // ---- counters -------------------------------------------------------------------------------

    fn sum(&mut self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.nodes.iter_mut().map(|node| of(node.shard.tally())).sum()
    }

    fn check_tallies(&mut self) -> Checked {
        let sessions = self.clients.iter().filter(|client| client.link.is_some()).count() as u64;
        let users: BTreeSet<UserId> =
            self.clients.iter().filter(|client| client.link.is_some()).map(|client| client.user).collect();
        let gauges = [
            ("sessions", self.sum(|tally| tally.sessions), sessions),
            ("users_online", self.sum(|tally| tally.users_online), users.len() as u64),
            ("sessions_behind", self.sum(|tally| tally.sessions_behind), 0),
            ("store_pending", self.sum(|tally| tally.store_pending), 0),
        ];
        for (name, is, should) in gauges {
            if is != should {
                return Err(format!("the gauge {name} is {is} and should be {should}"));
            }
        }
        for kind in 0..self.seen.commands.len() {
            let counted = self.sum(|tally| tally.commands[kind]);
            if counted != self.seen.commands[kind] {
                return Err(format!(
                    "{counted} commands of kind {kind} are counted, {} were given",
                    self.seen.commands[kind]
                ));
            }
        }
        self.check_refusal_counts()
    }

    /// P8: every refusal is told and counted.
    fn check_refusal_counts(&mut self) -> Checked {
        let mut told = self.seen.legacy_refusals;
        for reject in Reject::ALL {
            let seen = self.seen.refusals.get(&reject.code()).copied().unwrap_or(0);
            let counted = self.sum(|tally| tally.refused[reject.index()]);
            told += seen;
            if seen > counted {
                return Err(format!("P8: {seen} refusals {reject:?} were read, {counted} are counted"));
            }
        }
        for code in CloseCode::ALL.into_iter().filter(|code| code.code() >= 4000) {
            let (seen, counted) =
                (self.seen.closes.get(&code.code()).copied(), self.sum(|tally| tally.closed[code.index()]));
            if seen.unwrap_or(0) > counted {
                return Err(format!("P8: {seen:?} closes {code:?} were read, {counted} are counted"));
            }
        }
        let counted = self.sum(|tally| tally.refused.iter().sum());
        let most = told + self.seen.lost + self.seen.notices_refused;
        if counted < told || counted > most {
            return Err(format!("P8: {counted} refusals are counted, {told} were read, at most {most} can have been"));
        }
        Ok(())
    }

    /// After the quiet time nothing is left but the sessions, and conversations with a message of a time to come: these are looked at
    /// again when they have rested once more.
    fn check_idle(&mut self, connected: &[bool]) -> Checked {
        let conversations = self.sum(|tally| tally.conversations);
        let from_ms = self.now.wall_ms - CONV_IDLE_MS - SET_BACK_MS_MAX;
        let ahead = |rows: &&Vec<Message>| rows.iter().any(|row| row.ts >= from_ms);
        let ahead = self.truth.convs.values().filter(ahead).count() as u64;
        if conversations > ahead {
            return Err(format!("bounds: {conversations} idle conversations are kept, {ahead} of them with a reason"));
        }
        match self.clients.iter().zip(connected).position(|(client, &was)| was && client.link.is_none()) {
            Some(client) => Err(format!("client {client} answers pings and is gone")),
            None => Ok(()),
        }
    }

    /// What the run has met.
    pub(crate) fn met(&mut self) -> Met {
        let crashed: Vec<Tally> = std::mem::take(&mut self.counted);
        let mut sum = |of: &dyn Fn(&Tally) -> u64| self.sum(of) + crashed.iter().map(of).sum::<u64>();
        [
            ("sessions behind", sum(&|tally| tally.went_behind)),
            ("rows caught up", sum(&|tally| tally.caught_up)),
            ("marks", sum(&|tally| tally.marked)),
            ("gap reads", sum(&|tally| tally.gap_reads)),
            ("unknown outcomes", sum(&|tally| tally.unknown_outcomes)),
            ("duplicates", sum(&|tally| tally.duplicates)),
            ("messages that waited", sum(&|tally| tally.coalesced)),
            ("sweeps", sum(&|tally| tally.sweeps)),
            ("refusals: busy", sum(&|tally| tally.refused[Reject::Busy.index()])),
            ("refusals: retry", sum(&|tally| tally.refused[Reject::Retry.index()])),
            ("refusals: a cid reused", sum(&|tally| tally.refused[Reject::CidReused.index()])),
            ("refusals: no member", sum(&|tally| tally.refused[Reject::NotMember.index()])),
            ("volatile: dropped by an outbox", sum(&|tally| tally.dropped)),
            ("volatile: dropped by a lane", sum(&|tally| tally.lane_dropped)),
            ("slow sessions closed", sum(&|tally| tally.slow[Slowness::Budget as usize])),
            ("stalled sessions closed", sum(&|tally| tally.slow[Slowness::Stalled as usize])),
            ("crashes", u64::from(!crashed.is_empty())),
            ("pauses for work", sum(&|tally| tally.pauses[0])),
            ("pauses for messages", sum(&|tally| tally.pauses[1])),
            ("closed for greed", sum(&|tally| tally.closed[CloseCode::TooFast.index()])),
            ("read marks merged", sum(&|tally| tally.merged[Merged::Mark as usize])),
            ("watch lists merged", sum(&|tally| tally.merged[Merged::Watch as usize])),
            ("hints merged", sum(&|tally| tally.merged[Merged::Hint as usize])),
            ("words relayed", self.sights.relays),
            ("batches sent compressed", self.sights.deflated),
            ("words refused", self.sights.words_refused),
            ("lists of conversations", self.sights.lists),
            ("further pages of conversations", self.sights.pages),
            ("pages with more behind them", self.sights.longer),
            ("replays cut to the newest", self.sights.cut),
            ("messages replayed", self.sights.replayed),
            ("conversations confirmed", self.sights.confirmed),
            ("devices replaced", self.sights.replaced),
            ("messages trimmed", self.sights.trimmed),
            ("overdrafts of the budget", self.sights.overdrafts),
            ("somebody types", self.sights.typings),
            ("presence", self.sights.presences),
            ("hints", self.sights.hints),
            ("recalls", self.sights.recalls),
            ("works of the store", self.database.works),
        ]
    }

    // ---- the end --------------------------------------------------------------------------------

    fn stop(&mut self) -> Checked {
        self.closing_all = true;
        for node in 0..self.nodes.len() {
            self.give(node, Event::Quiesce)?;
        }
        let stored = self.truth.stored();
        for client in 0..self.clients.len() {
            self.post(client)?;
        }
        for client in 0..self.clients.len() {
            self.say_word(client)?;
        }
        self.settle(SETTLE_MS)?;
        if stored != self.truth.stored() {
            return Err("a post was stored after the gateway had begun to stop".to_owned());
        }
        for (i, node) in self.nodes.iter().enumerate() {
            if node.shard.outstanding() > 0 {
                return Err(format!("shard {i} has {} asks outstanding and cannot stop", node.shard.outstanding()));
            }
        }
        for node in 0..self.nodes.len() {
            self.give(node, Event::CloseAll(Drain::default()))?;
            // In portions, and while other shards have not begun.
            self.give(node, Event::CloseSome { most: 1 })?;
        }
        for node in 0..self.nodes.len() {
            self.give(node, Event::CloseSome { most: u32::MAX })?;
        }
        self.settle(SETTLE_MS)?;
        if let Some(client) = self.clients.iter().position(|client| client.link.is_some()) {
            return Err(format!("client {client} is connected after the end"));
        }
        self.check_cursors()?;
        match self.sum(|tally| tally.sessions + tally.users_online) {
            0 => Ok(()),
            left => Err(format!("{left} sessions and users are left after the end")),
        }
    }
}

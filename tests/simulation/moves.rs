//! What happens of itself: clients talk, sockets stall and die, users join and leave, time passes.
//!
//! Owns: one random move of the world, and the calm in which everything must come to its end.

use imgate::ids::{ConvId, GroupId, ShardId, UserId, home_of, shard_of};
use imgate::limits::{CLOSE_MS_MAX, CONV_IDLE_MS};
use imgate::shard::Notice;
use imgate::store::{NewMessage, PageStart, PostKey, Retention, Write};
use imgate::wire::command::{Post as WirePost, RefusedCommand, SyncRequest};
use imgate::wire::{CloseCode, Command, Reject, Target};

use crate::client::{Client, Link, Sent};
use crate::hear::seq_of;
use crate::world::{Checked, Issued, Post, Standing, World, conv_of, target_of};

/// Rounds of a calm world in which it should have come to rest.
const CALM_ROUNDS_MAX: u32 = 20_000;

impl World {
    /// One move.
    pub(crate) fn step_once(&mut self) -> Checked {
        let plan = &self.plan;
        let weights =
            [400, 160, 100, 260, 40, plan.deaths * 10, plan.stalls * 10, 60, plan.joins * 10, plan.evictions * 10];
        let rare = [
            plan.foreign * 10,
            plan.floods * 10,
            10,
            plan.outages * 2,
            plan.lulls,
            plan.crashes,
            plan.trims,
            plan.greed * 10,
        ];
        let weights: Vec<u64> = weights.into_iter().chain(rare).collect();
        let mut luck = self.random.below(weights.iter().sum());
        let mut which = 0;
        while luck >= weights[which] {
            luck -= weights[which];
            which += 1;
        }
        let client = self.random.index(self.clients.len());
        match which {
            0 => {
                let node = self.random.index(self.nodes.len());
                let events = self.random.between(1, 12);
                self.turn(node, events)
            }
            1 => self.work_store(true),
            2 => self.work_store(false),
            3 => self.talk(client),
            4 if self.clients[client].link.is_none() => self.connect(client),
            5 => {
                let link = self.clients[client].link.as_ref();
                let opens = link.is_some_and(|link| link.resumed.is_none() && !link.is_silent());
                if opens && self.step.is_multiple_of(2) { self.give_up(client) } else { self.cut(client) }
            }
            6 => {
                let until = self.now.mono_ms + self.random.below(4000);
                if let Some(link) = &mut self.clients[client].link {
                    link.stalled_until_ms = until;
                }
                Ok(())
            }
            7 => {
                let most = self.random.pick(&[1, 1, 1, 20, 200, 2000]);
                let ms = self.random.between(1, most);
                self.pass(ms);
                Ok(())
            }
            8 => self.change_membership(),
            9 => self.evict(),
            10 => self.foreign_row(),
            11 => {
                for _ in 0..self.random.between(20, 120) {
                    self.talk(client)?;
                }
                Ok(())
            }
            12 if self.plan.frozen && self.clients.iter().all(|client| !client.frozen) => {
                self.clients[client].frozen = self.clients[client].link.is_some();
                Ok(())
            }
            13 => {
                let how = self.random.pick(&[[1000, 0, 0], [0, 1000, 0], [0, 0, 1000], [300, 300, 300]]);
                self.outage = (self.now.mono_ms + self.random.below(9000), how);
                Ok(())
            }
            14 => {
                self.pass(CONV_IDLE_MS + 1000);
                Ok(())
            }
            15 => self.crash(),
            16 => self.trim(),
            17 => self.flood(),
            _ => Ok(()),
        }
    }

    // ---- clients --------------------------------------------------------------------------------

    /// A client says something, if it is connected.
    fn talk(&mut self, client: usize) -> Checked {
        if self.clients[client].link.as_ref().is_none_or(Link::is_silent) {
            return Ok(());
        }
        let rare = self.plan.deaths > 0;
        match self.random.below(200) {
            0..120 => self.post(client),
            120..134 => self.resend(client),
            134..148 => self.sync_something(client),
            148..160 => self.say_word(client),
            160..164 => self.ask_convs(client),
            164..172 => {
                self.queue(client, Sent::Command(Command::Heartbeat, None));
                Ok(())
            }
            172..182 => {
                let payload = vec![7; self.random.index(126)];
                self.queue(client, Sent::Ping(payload));
                Ok(())
            }
            182..186 => {
                let payload = vec![9; self.random.index(4)];
                self.queue(client, Sent::Pong(payload, None));
                Ok(())
            }
            186..192 => {
                let reject =
                    self.random.pick(&[Reject::Malformed, Reject::UnknownCommand, Reject::BadField, Reject::BadMedia]);
                let cid = Some(format!("u{}", self.random.below(1000)).into());
                self.queue(client, Sent::Unreadable(RefusedCommand { reject, cid }));
                Ok(())
            }
            192 if rare => {
                let code = self.random.pick(&[None, Some(1000), Some(1001), Some(3999)]);
                self.queue(client, Sent::PeerClosed(code));
                Ok(())
            }
            193 if rare => {
                let code = self.random.pick(&[CloseCode::Protocol, CloseCode::InvalidUtf8, CloseCode::TooBig]);
                self.queue(client, Sent::Violation(code));
                Ok(())
            }
            194..196 => self.recall_something(client),
            196..198 => self.type_something(client),
            198 => self.watch(client),
            199 => self.hint(),
            _ => Ok(()),
        }
    }

    /// A device of the first user sends much of everything that costs its user nothing: others must
    /// not suffer for it, and what is taken of it is not lost.
    fn flood(&mut self) -> Checked {
        let user = self.clients[0].user;
        let devices: Vec<usize> = (0..self.clients.len()).filter(|&at| self.clients[at].user == user).collect();
        let client = self.random.pick(&devices);
        if self.clients[client].link.as_ref().is_none_or(Link::is_silent) {
            return Ok(());
        }
        for _ in 0..self.random.between(20, 120) {
            match self.random.below(6) {
                0 => self.post(client)?,
                1 => self.type_something(client)?,
                2 => self.watch(client)?,
                3 => self.say_word(client)?,
                4 => self.hint()?,
                _ => self.queue(client, Sent::Pong(vec![9; 2], None)),
            }
        }
        Ok(())
    }

    pub(crate) fn queue(&mut self, client: usize, sent: Sent) {
        if let Some(link) = &mut self.clients[client].link {
            link.queue.push_back(sent);
        }
    }

    pub(crate) fn target(&mut self) -> Target {
        if self.random.chance(500) {
            let group = self.random.pick(&self.groups);
            let nowhere = GroupId::new(group.get() + 1_000_000).filter(|_| self.random.chance(15));
            Target::Group(nowhere.unwrap_or(group))
        } else {
            let user = self.random.pick(&self.users);
            let nobody = UserId::new(user.get() + 1_000_000).filter(|_| self.random.chance(15));
            Target::User(nobody.unwrap_or(user))
        }
    }

    /// A new post; sometimes under a `cid` that was used before.
    pub(crate) fn post(&mut self, client: usize) -> Checked {
        let number = self.posts.len();
        let target = self.target();
        let here = &self.clients[client];
        let conv = conv_of(here.user, target);
        let keyed = here.is_v2() && !here.anonymous;
        let reused = if keyed && !self.plan.volatile && !here.posts.is_empty() && self.random.chance(20) {
            let old = self.random.pick(&self.clients[client].posts);
            self.posts[old].cid.clone().filter(|_| self.posts[old].conv != conv)
        } else {
            None
        };
        // One user's devices on other gateways have keys of their own.
        let letter = self.plan.letter();
        let cid = if keyed { Some(reused.unwrap_or_else(|| format!("c{letter}{client}-{number}"))) } else { None };
        let most = self.random.pick(&[0, 20, 200]);
        let padding = "x".repeat(self.random.index(most + 1));
        let content = format!(r#""media":1,"content":"{letter}{number} {padding}","n":[1,{{"a":null}}]"#);
        let body = cid.as_ref().map_or_else(|| content.clone(), |cid| format!(r#""cid":"{cid}",{content}"#));
        self.posts.push(Post {
            client,
            cid,
            target,
            conv,
            body,
            gives: 0,
            step: 0,
            serial: 0,
            place: 0,
            acked: false,
            busy: false,
        });
        self.clients[client].posts.push(number);
        self.send_post(client, number)
    }

    /// An old post again, acked or not, sometimes one of another device of the same user; only with a `cid` that is safe.
    fn resend(&mut self, client: usize) -> Checked {
        let fit = |client: &Client| client.is_v2() && !client.anonymous && !client.posts.is_empty();
        let user = self.clients[client].user;
        if !self.clients[client].is_v2() || self.clients[client].anonymous {
            return Ok(());
        }
        let any_device = self.random.chance(200);
        let authors: Vec<usize> = (0..self.clients.len())
            .filter(|&author| author == client || (any_device && self.clients[author].user == user))
            .filter(|&author| fit(&self.clients[author]))
            .collect();
        if authors.is_empty() {
            return Ok(());
        }
        let author = self.random.pick(&authors);
        let posts = &self.clients[author].posts;
        let from = if self.random.chance(700) { posts.len().saturating_sub(5) } else { 0 };
        let number = posts[from + self.random.index(posts.len() - from)];
        self.send_post(client, number)
    }

    fn send_post(&mut self, client: usize, number: usize) -> Checked {
        let post = &self.posts[number];
        let wire =
            WirePost { to: post.target, cid: post.cid.as_deref().map(Into::into), body: post.body.as_str().into() };
        self.queue(client, Sent::Command(Command::Post(wire), Some(number)));
        Ok(())
    }

    fn sync_something(&mut self, client: usize) -> Checked {
        let target = self.target();
        let here = &self.clients[client];
        let here_is_fit = here.is_v2() && !here.anonymous && !self.plan.volatile;
        if !here_is_fit || self.clients[client].is_syncing() {
            return Ok(());
        }
        let conv = conv_of(self.clients[client].user, target);
        let head = self.truth.head(conv);
        let from = match self.random.below(4) {
            0 => PageStart::Before(seq_of(self.random.between(1, head + 2))),
            1 => PageStart::After(seq_of(self.random.below(head + 3))),
            _ => PageStart::After(seq_of(self.clients[client].memory.last.get(&conv).copied().unwrap_or(0))),
        };
        let limit = self.random.pick(&[1, 3, 50, 200]);
        self.queue(client, Sent::Command(Command::Sync(SyncRequest { of: target, from, limit }), None));
        Ok(())
    }

    /// A client syncs a conversation in which it knows to have missed something; whether it does.
    pub(crate) fn repair(&mut self, client: usize) -> bool {
        let here = &mut self.clients[client];
        let idle = here.is_v2() && !here.is_syncing() && !(here.anonymous && here.is_posting());
        if !idle || here.link.as_ref().is_none_or(|link| !link.is_live() || link.is_silent()) {
            return false;
        }
        let Some(conv) = here.memory.holes.pop_first() else { return false };
        let of = target_of(here.user, conv);
        let from = PageStart::After(seq_of(here.memory.last.get(&conv).copied().unwrap_or(0)));
        let limit = self.random.pick(&[2, 40, 200]);
        self.queue(client, Sent::Command(Command::Sync(SyncRequest { of, from, limit }), None));
        true
    }

    // ---- the control plane ----------------------------------------------------------------------

    fn change_membership(&mut self) -> Checked {
        let group = self.random.pick(&self.groups);
        let user = self.random.pick(&self.users);
        let outstanding = self.standings.get(&(group, user)).is_some_and(|standing| standing.outstanding > 0);
        if outstanding && self.random.chance(700) {
            return Ok(());
        }
        let join = self.random.chance(600);
        self.issue_membership(group, user, join);
        Ok(())
    }

    fn issue_membership(&mut self, group: GroupId, user: UserId, join: bool) {
        let fresh = Standing { outstanding: 0, changed_step: 0, doubt_step: None };
        self.standings.entry((group, user)).or_insert(fresh).outstanding += 1;
        let notice = if join { Notice::Join { group, user } } else { Notice::Leave { group, user } };
        self.issue(home_of(ConvId::Group(group), self.plan.shards), notice);
    }

    pub(crate) fn issue(&mut self, shard: ShardId, notice: Notice) {
        let id = self.issued.len() as u64 + 1;
        self.issued.insert(id, Issued { notice: notice.clone(), given_step: None, answer: None });
        self.nodes[usize::from(shard.0)].notices.push_back((id, notice));
    }

    fn evict(&mut self) -> Checked {
        let user = self.random.pick(&self.users);
        let notice = if self.random.chance(700) {
            let epoch = self.epochs.entry(user).or_insert(0);
            *epoch += 1;
            Notice::LoggedOut { user, epoch: *epoch }
        } else {
            Notice::Banned { user }
        };
        self.issue(shard_of(user, self.plan.shards), notice);
        Ok(())
    }

    fn foreign_row(&mut self) -> Checked {
        let group = self.random.pick(&self.groups);
        let sender = self.random.pick(&self.users);
        if self.truth.membership(group, sender).is_none() {
            return Ok(());
        }
        let key = PostKey::Server { node: 9, boot: 9, counter: self.step };
        let body = r#""media":1,"content":"from afar""#.into();
        let message = NewMessage { conv: ConvId::Group(group), sender, key, ts_ms: self.now.wall_ms, body };
        self.step += 1;
        self.database.foreign(self.step, Write::Append(message), &mut self.truth)
    }

    fn trim(&mut self) -> Checked {
        let old = self.now.wall_ms.saturating_sub(self.random.below(3000));
        let retention = Retention {
            before_ms: self.random.pick(&[0, 0, old]),
            count: self.random.pick(&[0, 1, 2, 5, 20]),
            keys_before_ms: 0,
        };
        let steps = self.random.pick(&[1, 3, 10, u32::MAX]);
        self.step += 1;
        let gone = self.database.trim(&retention, steps, &mut self.truth)?;
        self.trace.line(|| format!("retention {retention:?} takes {gone} messages"));
        self.sights.trimmed += gone;
        Ok(())
    }

    // ---- the calm -------------------------------------------------------------------------------

    /// Repeats every membership change that was refused or whose end nobody knows.
    pub(crate) fn repeat_memberships(&mut self) -> bool {
        let doubtful: Vec<(GroupId, UserId)> = self
            .standings
            .iter()
            .filter(|(_, standing)| standing.doubt_step.is_some() && standing.outstanding == 0)
            .map(|(&key, _)| key)
            .collect();
        for &(group, user) in &doubtful {
            let member = self.truth.membership(group, user).is_some();
            self.issue_membership(group, user, member);
        }
        !doubtful.is_empty()
    }

    /// Everything that waits is worked off; then time passes from deadline to deadline, `ms` in all.
    pub(crate) fn settle(&mut self, ms: u64) -> Checked {
        let end = self.now.mono_ms + ms;
        for _ in 0..CALM_ROUNDS_MAX {
            if self.work()? {
                continue;
            }
            if self.now.mono_ms >= end {
                return Ok(());
            }
            let deadlines = self.nodes.iter().filter_map(|node| node.shard.deadline_ms());
            let closes =
                self.clients.iter().filter_map(|client| Some(client.link.as_ref()?.finished_ms? + CLOSE_MS_MAX));
            let due = deadlines.chain(closes).min().unwrap_or(end).min(end);
            self.pass(due.saturating_sub(self.now.mono_ms).max(1));
        }
        Err("the world does not come to rest: something is due again and again".to_owned())
    }

    /// One round of everybody; whether anybody had something to do.
    fn work(&mut self) -> Result<bool, String> {
        let mut worked = false;
        for client in 0..self.clients.len() {
            worked |= self.repair(client);
        }
        for node in 0..self.nodes.len() {
            if self.has_input(node) {
                self.turn(node, u64::MAX)?;
                worked = true;
            }
        }
        while !self.database.is_idle() {
            self.work_store(true)?;
            self.work_store(false)?;
            worked = true;
        }
        Ok(worked)
    }
}

//! What every frame that a client reads must be: the promises, checked one frame at a time.
//!
//! Owns: the meaning of frames on the client's side, compared with [`Truth`](crate::truth::Truth).

use imgate::ids::{ConvId, GroupId, Seq, UserId};
use imgate::limits::{BEHIND_OWN_MAX, IDLE_MS, STALL_MS_MAX};
use imgate::shard::{Notice, PaceLimits};
use imgate::store::PageStart;
use imgate::wire::command::{Command, Convs};
use imgate::wire::{CloseCode, Echo, Profile, Reject};
use serde_json::{Map, Value};

use crate::client::{Link, Sent, Waiting};
use crate::frames::Frame;
use crate::truth::post_number;
use crate::world::{Checked, World, close_code, target_of};

/// The field `name`, a whole number.
pub(crate) fn number(object: &Map<String, Value>, name: &str) -> Result<u64, String> {
    object.get(name).and_then(Value::as_u64).ok_or_else(|| format!("no number {name:?} in {object:?}"))
}

/// The field `name`, a text or absent.
fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_owned)
}

pub(crate) fn user(raw: u64) -> Result<UserId, String> {
    UserId::new(raw).ok_or_else(|| format!("{raw} is no user"))
}

/// The conversation that `kind` and `dstid` name for `reader`.
pub(crate) fn conv(kind: u64, dstid: u64, reader: UserId) -> Result<ConvId, String> {
    match kind {
        10 => Ok(ConvId::direct(reader, user(dstid)?)),
        11 => Ok(ConvId::Group(GroupId::new(dstid).ok_or_else(|| format!("{dstid} is no group"))?)),
        _ => Err(format!("{kind} is no kind of conversation")),
    }
}

/// The conversation that an answer names, if it does.
fn place_of(object: &Map<String, Value>, reader: UserId) -> Result<Option<ConvId>, String> {
    let named = object.contains_key("kind");
    named.then(|| conv(number(object, "kind")?, number(object, "dstid")?, reader)).transpose()
}

/// A chat message as it came.
struct Chat {
    conv: ConvId,
    seq: Option<u64>,
    id: Option<u64>,
    ts: u64,
    sender: UserId,
    fields: Map<String, Value>,
}

impl Chat {
    fn parse(mut object: Map<String, Value>) -> Result<Self, String> {
        let sender = user(number(&object, "userid")?)?;
        let conv = conv(number(&object, "cmd")?, number(&object, "dstid")?, sender)?;
        let seq = object.get("seq").map(|_| number(&object, "seq")).transpose()?;
        let id = object.get("id").map(|_| number(&object, "id")).transpose()?;
        let ts = number(&object, "ts")?;
        for name in ["id", "seq", "ts", "userid", "cmd", "dstid"] {
            object.remove(name);
        }
        Ok(Self { conv, seq, id, ts, sender, fields: object })
    }
}

impl World {
    pub(crate) fn there(&mut self, client: usize) -> Result<&mut Link, String> {
        self.clients[client].link.as_mut().ok_or_else(|| "simulation: a frame without a connection".to_owned())
    }

    /// A client has read a frame.
    pub(crate) fn hear(&mut self, client: usize, frame: Frame) -> Checked {
        let link = self.there(client)?;
        link.frames += 1;
        if link.closed {
            return Err(format!("P7: {frame:?} after the close frame"));
        }
        match frame {
            Frame::Ping(payload) => {
                let last = |(&conv, seqs): (&ConvId, &Vec<u64>)| Some((conv, *seqs.last()?));
                let read = link.pushes.iter().filter_map(last).collect();
                link.queue.push_back(Sent::Pong(payload, Some(read)));
                Ok(())
            }
            Frame::Pong(payload) => match link.pings.pop_front() {
                Some(expected) if expected == payload => Ok(()),
                expected => Err(format!("a pong {payload:?} to the ping {expected:?}")),
            },
            Frame::Close(code) => self.hear_close(client, code),
            Frame::Text(text) if self.clients[client].is_v2() => self.hear_v2(client, &text),
            Frame::Text(text) => self.hear_legacy(client, &text),
        }
    }

    fn hear_close(&mut self, client: usize, code: Option<u16>) -> Checked {
        let user = self.clients[client].user;
        let (now_ms, closing_all) = (self.now.mono_ms, self.closing_all);
        let link = self.there(client)?;
        link.closed = true;
        let (opened, epoch, closing) = (link.opened.step, link.epoch, link.closing);
        let silent_ms = now_ms - link.heard_ms;
        let resumed = link.resumed.is_some();
        let replaced = link.replaced;
        let slow = link.overdrawn || link.starved_ms >= STALL_MS_MAX;
        *self.seen.closes.entry(code.unwrap_or(0)).or_default() += 1;
        let taken = code == Some(CloseCode::Replaced.code());
        self.sights.replaced += u64::from(taken);
        if taken && !replaced {
            return Err("devices: closed for newer ones, of which there are too few".to_owned());
        }
        if closing == Some(code) || (closing == Some(None) && code == Some(1000)) {
            return Ok(());
        }
        let told = |wanted: &dyn Fn(&Notice) -> bool| {
            self.issued.values().any(|issued| issued.given_step.is_some() && wanted(&issued.notice))
        };
        let fine = match code.and_then(close_code) {
            Some(CloseCode::BadToken) => told(
                &|notice| matches!(notice, Notice::LoggedOut { user: who, epoch: new } if *who == user && *new > epoch),
            ),
            Some(CloseCode::Banned) => self.issued.values().any(|issued| {
                issued.given_step.is_some_and(|step| step >= opened) && issued.notice == (Notice::Banned { user })
            }),
            Some(CloseCode::Unavailable) => !resumed,
            Some(CloseCode::Slow) => slow && !self.plan.volatile,
            Some(CloseCode::Idle) => silent_ms + 1000 >= IDLE_MS,
            Some(CloseCode::TooFast) => self.plan.pace != PaceLimits::default(),
            Some(CloseCode::Shutdown) => closing_all,
            Some(CloseCode::Replaced) => replaced,
            _ => false,
        };
        if fine { Ok(()) } else { Err(format!("closed with {code:?} for no reason")) }
    }

    // ---- legacy ---------------------------------------------------------------------------------

    fn hear_legacy(&mut self, client: usize, text: &str) -> Checked {
        let Profile::Legacy(echo) = self.clients[client].profile else {
            return Err("simulation: not a legacy client".to_owned());
        };
        let link = self.there(client)?;
        if link.frames == 1 {
            let welcome = if echo == Echo::Groups { "hello,world!" } else { "welcome!" };
            return if text == welcome {
                Ok(())
            } else {
                Err(format!("the first frame of a legacy session is {text:?}"))
            };
        }
        if !text.contains('}') {
            let known = Reject::ALL.into_iter().find(|reject| text.contains(reject.message()));
            let Some(reject) = known else { return Err(format!("P8: a legacy session reads {text:?}")) };
            link.refusals[0] += 1;
            link.refusals[1] += u64::from(reject == Reject::Retry);
            self.seen.legacy_refusals += 1;
            return Ok(());
        }
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
        match number(&object, "cmd")? {
            10 | 11 => self.hear_push(client, Chat::parse(object)?),
            _ => Err(format!("P8: a legacy session reads {text}")),
        }
    }

    // ---- imgate.v2 ------------------------------------------------------------------------------

    fn hear_v2(&mut self, client: usize, text: &str) -> Checked {
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
        match number(&object, "cmd")? {
            10 | 11 => self.hear_push(client, Chat::parse(object)?),
            0 => self.settle_waiting(client, "heartbeat", |waiting| *waiting == Waiting::Heartbeat).map(|_| ()),
            1 => self.hear_ack(client, &object),
            2 => self.hear_refusal(client, &object),
            3 => self.hear_word(client, &object),
            4 => self.hear_sync(client, object),
            5 => self.hear_list(client, &object),
            6 => self.hear_typing(client, &object),
            7 => self.hear_presence(client, &object),
            9 => self.hear_hint(client, &object),
            _ => Err(format!("an unknown frame {text}")),
        }
    }

    /// Takes the first fitting question off the list.
    pub(crate) fn settle_waiting(
        &mut self,
        client: usize,
        what: &str,
        fits: impl Fn(&Waiting) -> bool,
    ) -> Result<Waiting, String> {
        let link = self.there(client)?;
        let at = link.waiting.iter().position(fits);
        at.map(|at| link.waiting.remove(at)).ok_or_else(|| format!("P8: an answer without a question: {what}"))
    }

    fn hear_ack(&mut self, client: usize, object: &Map<String, Value>) -> Checked {
        let user = self.clients[client].user;
        let cid = text(object, "cid");
        if let Some(cid) = cid.as_deref().filter(|cid| cid.starts_with('r')) {
            return self.hear_recall_ack(client, cid, object);
        }
        let conv = conv(number(object, "kind")?, number(object, "dstid")?, user)?;
        let fits = |waiting: &Waiting, place: Option<ConvId>| matches!(waiting, Waiting::Post { cid: asked, conv, .. } if *asked == cid && place.is_none_or(|place| place == *conv));
        let waiting = self
            .settle_waiting(client, "ack", |waiting| fits(waiting, Some(conv)))
            .or_else(|_| self.settle_waiting(client, "ack", |waiting| fits(waiting, None)))?;
        let Waiting::Post { post, .. } = waiting else { return Err("simulation: not a post".to_owned()) };
        let ts = number(object, "ts")?;
        if self.plan.volatile {
            self.posts[post].acked = true;
            let stored = object.contains_key("seq") || object.contains_key("id");
            return if stored { Err(format!("a volatile ack with seq or id: {object:?}")) } else { Ok(()) };
        }
        let (id, seq) = (number(object, "id")?, number(object, "seq")?);
        let Some(message) = self.truth.message(conv, seq) else {
            return Err(format!("P1: acked {object:?}, but the head is {}", self.truth.head(conv)));
        };
        if (message.id, message.ts, message.sender) != (id, ts, user) {
            return Err(format!("P1: acked {object:?}, but stored is {message:?}"));
        }
        let number = message.post;
        match &cid {
            Some(cid) if self.truth.claim(user, cid) != Some((conv, seq)) => {
                return Err(format!(
                    "P1: acked {object:?}, but the cid is claimed at {:?}",
                    self.truth.claim(user, cid)
                ));
            }
            None if number
                .is_none_or(|number| self.posts[number].client != client || self.posts[number].conv != conv) =>
            {
                return Err(format!("P1: acked {object:?}, which somebody else wrote"));
            }
            _ => {}
        }
        if let Some(number) = number {
            self.posts[number].acked = true;
        }
        if let Some(cid) = cid {
            let old = self.clients[client].memory.acks.entry(cid).or_insert((conv, seq, id, ts));
            if *old != (conv, seq, id, ts) {
                return Err(format!("P3: acked {object:?}, but the first ack was {old:?}"));
            }
        }
        self.there(client)?.acks.entry(conv).or_default().insert(seq);
        self.clients[client].apply(conv, seq, number).map(|_| ())
    }

    fn hear_refusal(&mut self, client: usize, object: &Map<String, Value>) -> Checked {
        let cid = text(object, "cid");
        let code = u16::try_from(number(object, "code")?).map_err(|error| error.to_string())?;
        let Some(reject) = Reject::ALL.into_iter().find(|reject| reject.code() == code) else {
            return Err(format!("P8: an unknown refusal {object:?}"));
        };
        if object.get("retry") != Some(&Value::Bool(reject.retry())) {
            return Err(format!("P8: retry is wrong in {object:?}"));
        }
        *self.seen.refusals.entry(code).or_default() += 1;
        if let Some(cid) = cid.as_deref().filter(|cid| cid.starts_with('r')) {
            return self.hear_recall_refusal(client, cid, reject);
        }
        let taken = self.clients[client].user;
        let place = place_of(object, taken)?;
        let word = |word: &(ConvId, u16)| cid.is_none() && place.is_some_and(|place| *word == (place, code));
        let words = &mut self.there(client)?.refused_words;
        if let Some(word) = words.iter().position(word) {
            words.remove(word);
            return Ok(());
        }
        let waiting = self.refused_question(client, reject, &cid, place).map_err(|why| format!("{why}: {object:?}"))?;
        match waiting {
            Waiting::Post { post, conv, step, .. } => {
                self.posts[post].busy |= reject == Reject::Busy;
                // Without `cid`, or with one of two conversations, the answer may mean another post than the one taken for it.
                let reused = self.cid_is_reused(post);
                if cid.is_none() || reused { Ok(()) } else { self.judge_refusal(client, reject, conv, step, false) }
            }
            Waiting::Sync { conv, step, .. } => {
                if reject.retry() {
                    self.clients[client].memory.holes.insert(conv);
                }
                self.judge_refusal(client, reject, conv, step, false)
            }
            // Too many of the user's sessions ask for a list at once: a walk goes on when there is room.
            Waiting::Convs { before, .. } => {
                if let Some(link) = self.clients[client].link.as_mut().filter(|link| link.walk.is_some()) {
                    let before = before.map(|(ts, conv)| (ts, target_of(taken, conv)));
                    link.queue.push_back(Sent::Command(Command::Convs(Convs { before }), None));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes the question off the list that a refusal answers.
    fn refused_question(
        &mut self,
        client: usize,
        reject: Reject,
        cid: &Option<String>,
        place: Option<ConvId>,
    ) -> Result<Waiting, String> {
        let user = self.clients[client].user;
        let claim = cid.as_deref().and_then(|cid| self.truth.claim(user, cid)).map(|(conv, _)| conv);
        // Of several posts without `cid` the refusal does not say which it means: one for which it makes sense.
        let sensible = |waiting: &Waiting| match waiting {
            Waiting::Post { post, cid: asked, conv, step } if asked == cid && place == Some(*conv) => {
                let reused = claim.is_some_and(|claim| claim != *conv) || self.cid_is_reused(*post);
                (reject != Reject::CidReused || claim != Some(*conv))
                    && self.judge_refusal(client, reject, *conv, *step, reused).is_ok()
            }
            _ => false,
        };
        let link = self.clients[client].link.as_ref().ok_or("simulation: a frame without a connection")?;
        let best = link.waiting.iter().find(|waiting| sensible(waiting)).cloned();
        let of_post = |waiting: &Waiting| match &best {
            Some(best) => waiting == best,
            None => matches!(waiting, Waiting::Post { cid: asked, conv, .. } if asked == cid && place == Some(*conv)),
        };
        let unreadable = Waiting::Unreadable { code: reject.code(), cid: cid.clone() };
        self.settle_waiting(client, "refusal", |waiting| *waiting == unreadable)
            .or_else(|_| self.settle_waiting(client, "refusal", of_post))
            .or_else(|_| {
                self.settle_waiting(client, "refusal", |waiting| {
                    cid.is_none() && matches!(waiting, Waiting::Sync { conv, .. } if Some(*conv) == place)
                })
            })
            .or_else(|_| {
                self.settle_waiting(client, "refusal", |waiting| {
                    cid.is_none() && place.is_none() && reject.retry() && matches!(waiting, Waiting::Convs { .. })
                })
            })
    }

    /// Whether another post of the same user has the same `cid` for another conversation.
    pub(crate) fn cid_is_reused(&self, post: usize) -> bool {
        let this = &self.posts[post];
        let user = self.clients[this.client].user;
        self.posts.iter().any(|other| {
            other.cid.is_some()
                && other.cid == this.cid
                && other.conv != this.conv
                && self.clients[other.client].user == user
        })
    }

    /// Whether a refusal has a reason.
    pub(crate) fn judge_refusal(
        &self,
        client: usize,
        reject: Reject,
        conv: ConvId,
        step: u64,
        reused: bool,
    ) -> Checked {
        let user = self.clients[client].user;
        let fine = match (reject, conv) {
            (Reject::Busy | Reject::Retry, _) => true,
            (Reject::Stopping, _) => self.closing_all,
            (Reject::CidReused, _) => reused,
            (Reject::NoSuchGroup, ConvId::Group(group)) => !self.groups.contains(&group),
            (Reject::NotMember, ConvId::Group(group)) => {
                let uncertain = self.standings.get(&(group, user)).is_some_and(|standing| {
                    standing.doubt_step.is_some() || standing.outstanding > 0 || standing.changed_step >= step
                });
                (self.plan.volatile || self.groups.contains(&group))
                    && (uncertain || self.truth.membership(group, user).is_none())
            }
            (Reject::NoSuchUser, ConvId::Direct { lo, hi }) => !(self.users.contains(&lo) && self.users.contains(&hi)),
            _ => false,
        };
        if fine { Ok(()) } else { Err(format!("P8: refused with {reject:?} for no reason in {conv:?}")) }
    }

    fn hear_sync(&mut self, client: usize, mut object: Map<String, Value>) -> Checked {
        let user = self.clients[client].user;
        let conv = conv(number(&object, "kind")?, number(&object, "dstid")?, user)?;
        let fits = |waiting: &Waiting| matches!(waiting, Waiting::Sync { conv: asked, .. } if *asked == conv);
        let Waiting::Sync { from, limit, head: head_then, step, .. } = self.settle_waiting(client, "sync", fits)?
        else {
            return Err("simulation: not a sync".to_owned());
        };
        let (head, floor) = (number(&object, "head")?, number(&object, "floor")?);
        if floor > self.truth.floor(conv).max(self.truth.since(conv, user).unwrap_or(u64::MAX - 1) + 1) {
            return Err(format!("P4: a sync of {conv:?} says floor {floor}, kept is from {}", self.truth.floor(conv)));
        }
        // Who is a member no more is told where the membership ended.
        if (head < head_then && !self.truth.ended_at(conv, user, head)) || head > self.truth.head(conv) {
            return Err(format!(
                "P4: a sync of {conv:?} says head {head}: it was {head_then} and is {}",
                self.truth.head(conv)
            ));
        }
        let more = object.get("more").and_then(Value::as_bool).ok_or("no more in a sync")?;
        let reset = object.get("reset").and_then(Value::as_bool).unwrap_or(false);
        if reset != matches!(from, PageStart::After(after) if after.get() > head) {
            return Err(format!("P4: reset is {reset} in a sync from {from:?}, the head is {head}"));
        }
        let Some(Value::Array(rows)) = object.remove("rows") else { return Err("no rows in a sync".to_owned()) };
        if rows.len() > limit as usize {
            return Err(format!("P4: {} rows, {limit} were asked for", rows.len()));
        }
        let mut seqs = Vec::new();
        if !reset && matches!(from, PageStart::After(_)) {
            let last = self.clients[client].memory.last.entry(conv).or_insert(0);
            *last = (*last).max(floor.saturating_sub(1));
        }
        for row in rows {
            let Value::Object(row) = row else { return Err("a row that is no object".to_owned()) };
            let chat = Chat::parse(row)?;
            let seq = chat.seq.ok_or("a row without seq")?;
            if chat.conv != conv {
                return Err(format!("a row of {:?} in a sync of {conv:?}", chat.conv));
            }
            self.check_stored(client, &chat, Some(step))?;
            self.clients[client].apply(conv, seq, post_number(&chat.fields, self.plan.letter()))?;
            seqs.push(seq);
        }
        page_fits(from, &seqs, floor, head, more)?;
        if more && matches!(from, PageStart::After(_)) {
            self.clients[client].memory.holes.insert(conv);
        }
        Ok(())
    }

    // ---- messages -------------------------------------------------------------------------------

    /// A message is in the store with this very content, and this client may see it. `asked`: the step since which it was read; what was recalled before
    /// is blank then. What is pushed may have left before.
    fn check_stored(&self, client: usize, chat: &Chat, asked: Option<u64>) -> Checked {
        let (Some(seq), Some(id)) = (chat.seq, chat.id) else {
            return Err("P1: a message without seq or id".to_owned());
        };
        let Some(message) = self.truth.message(chat.conv, seq) else {
            return Err(format!("P1: shown {:?} #{seq}, but the head is {}", chat.conv, self.truth.head(chat.conv)));
        };
        let before = message.was.as_ref().filter(|(step, _)| asked.is_none_or(|asked| asked <= *step));
        let is_said = chat.fields == message.fields || before.is_some_and(|(_, fields)| chat.fields == *fields);
        if (message.id, message.ts, message.sender) != (id, chat.ts, chat.sender) || !is_said {
            return Err(format!("P1: shown {:?} #{seq} {:?}, but stored is {message:?}", chat.conv, chat.fields));
        }
        if !self.truth.may_see(chat.conv, self.clients[client].user, seq) {
            return Err(format!("P6: shown {:?} #{seq} without being a member", chat.conv));
        }
        Ok(())
    }

    fn hear_push(&mut self, client: usize, chat: Chat) -> Checked {
        let (user, profile) = (self.clients[client].user, self.clients[client].profile);
        if self.there(client)?.resumed.is_none() {
            return Err("a message before the session is open".to_owned());
        }
        let post = post_number(&chat.fields, self.plan.letter());
        let serial = self.there(client)?.serial;
        let own =
            post.and_then(|post| self.posts.get(post)).is_some_and(|post| post.gives > 0 && post.serial == serial);
        let echoes = profile == Profile::Legacy(Echo::Groups) && matches!(chat.conv, ConvId::Group(_));
        if self.plan.volatile {
            return self.hear_volatile(client, &chat, own && !echoes);
        }
        self.check_stored(client, &chat, None)?;
        if !self.clients[client].is_v2() && ["recall", "recalled"].iter().any(|name| chat.fields.contains_key(*name)) {
            return Err(format!("P8: a legacy session reads of a recall: {:?}", chat.fields));
        }
        let seq = chat.seq.unwrap_or_default();
        let silent = self.truth.message(chat.conv, seq).is_some_and(|message| message.silent);
        // A session that is behind remembers a bounded number of its own messages in a conversation.
        let link = self.clients[client].link.as_ref();
        let mine = link.iter().flat_map(|link| &link.own).filter(|&&post| self.posts[post].conv == chat.conv).count();
        if own && !echoes && !silent && !self.clients[client].is_v2() && mine <= BEHIND_OWN_MAX {
            return Err(format!("P3: its own {:?} #{seq} comes back to a page that shows it already", chat.conv));
        }
        if !self.clients[client].is_v2() {
            self.check_no_hole(client, chat.conv, seq, echoes)?;
        }
        let link = self.there(client)?;
        let pushes = link.pushes.entry(chat.conv).or_default();
        if let Some(last) = pushes.last().filter(|&&last| last >= seq) {
            return Err(format!("P2: {:?} #{seq} after #{last}", chat.conv));
        }
        pushes.push(seq);
        debug_assert!(chat.conv.kind() as u64 == 11 || chat.conv.is_between(user), "checked by may_see");
        self.clients[client].apply(chat.conv, seq, post).map(|_| ())
    }

    /// A page cannot ask for what it has missed: it must get everything in its turn, but for its own messages.
    fn check_no_hole(&mut self, client: usize, conv: ConvId, seq: u64, echoes: bool) -> Checked {
        let user = self.clients[client].user;
        let link = self.clients[client].link.as_ref().ok_or("simulation: a frame without a connection")?;
        self.sights.replayed += u64::from(link.opened.convs.get(&conv).is_some_and(|stand| seq <= stand.head));
        let Some(&last) = link.pushes.get(&conv).and_then(|seqs| seqs.last()) else { return Ok(()) };
        let belongs = match conv {
            ConvId::Direct { .. } => true,
            // A user that has left is refused what was still to be read, perhaps before its shard knows of it.
            ConvId::Group(group) => self.truth.membership(group, user).is_some_and(|span| span.since < last),
        };
        let excused = |missing: u64| {
            let message = self.truth.message(conv, missing);
            let own = !echoes && message.and_then(|message| message.post).is_some_and(|post| link.own.contains(&post));
            let hidden =
                message.is_some_and(|message| (message.post.is_none() && !self.plan.clustered) || message.is_hidden());
            own || missing < self.truth.floor(conv) || hidden
        };
        match (last + 1..seq).find(|&missing| belongs && !excused(missing)) {
            Some(missing) => Err(format!("P4: a page reads {conv:?} #{seq} after #{last}, without #{missing}")),
            None => Ok(()),
        }
    }

    fn hear_volatile(&mut self, client: usize, chat: &Chat, own_and_silent: bool) -> Checked {
        let user = self.clients[client].user;
        let Some(number) = post_number(&chat.fields, self.plan.letter()) else {
            return Err(format!("nobody posted {:?}", chat.fields));
        };
        let Some(post) = self.posts.get(number) else { return Err(format!("nobody posted {number}")) };
        let fields: Map<String, Value> =
            serde_json::from_str(&format!("{{{}}}", post.body)).map_err(|error| error.to_string())?;
        if chat.seq.is_some() || chat.id.is_some() || own_and_silent {
            return Err(format!("a volatile message with seq or id, or its own: {number}"));
        }
        if (post.conv, &fields) != (chat.conv, &chat.fields) || self.clients[post.client].user != chat.sender {
            return Err(format!("P6: post {number} was changed on its way: {:?}", chat.fields));
        }
        if !self.truth.may_see(chat.conv, user, 1) {
            return Err(format!("P6: shown {:?} without being a member", chat.conv));
        }
        let (once, serial, place) = (post.gives == 1, post.serial, post.place);
        let link = self.there(client)?;
        if !link.shown.insert(number) {
            return Err(format!("P3: post {number} is shown twice"));
        }
        if once {
            let last = link.last_of.entry((serial, chat.conv)).or_insert(0);
            if *last > place {
                return Err(format!("post {number} of {:?} comes after a later one of the same connection", chat.conv));
            }
            *last = place;
        }
        Ok(())
    }
}

/// Whether the seqs of a page are those that were asked for.
fn page_fits(from: PageStart, seqs: &[u64], floor: u64, head: u64, more: bool) -> Checked {
    let fail = |why: &str| {
        Err(format!("P4: a page from {from:?} with {seqs:?}, floor {floor}, head {head}, more {more}: {why}"))
    };
    if seqs.windows(2).any(|pair| pair[1] != pair[0] + 1) {
        return fail("a hole");
    }
    match from {
        PageStart::After(after) => {
            let first = (after.get() + 1).max(floor);
            match seqs.last() {
                None if first > head && !more => Ok(()),
                Some(&last) if seqs[0] == first && more == (last < head) => Ok(()),
                _ => fail("not what comes after"),
            }
        }
        PageStart::Before(before) => {
            let last = before.get().saturating_sub(1).min(head);
            match seqs.first() {
                None if (last < floor || last == 0) && !more => Ok(()),
                Some(&first) if seqs.last() == Some(&last) && more == (first > floor) => Ok(()),
                _ => fail("not what comes before"),
            }
        }
    }
}

/// The seq of that number; zero if there is none.
pub(crate) fn seq_of(raw: u64) -> Seq {
    Seq::new(raw).unwrap_or(Seq::ZERO)
}

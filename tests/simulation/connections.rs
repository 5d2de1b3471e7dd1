//! How clients come and go, which devices give way to others, and who wrote before anybody came.
//!
//! Owns: the opening and the end of connections on the driver's side; the model of the device policy.

use imgate::auth::{Identity, Issuer};
use imgate::ids::{ConnId, ConvId, UserId, shard_of};
use imgate::shard::{Event, Hello};
use imgate::store::{NewMessage, PostKey, Write};
use imgate::wire::Device;
use imgate::ws::deflate::Window;

use crate::client::{Link, Pace, RESPONSE, Sent};
use crate::database::Database;
use crate::frames::Reader;
use crate::plan::Plan;
use crate::truth::Truth;
use crate::world::{Checked, WALL_MS, World};

impl World {
    fn identity(&self, user: UserId, epoch: u32) -> Result<Identity, String> {
        let token = self.key.issue(user, epoch, Issuer::Own, WALL_MS * 2);
        self.key.verify(&token, self.now.wall_ms).map_err(|error| error.to_string())
    }

    /// A free slot of the shard, or a new one.
    fn take_slot(&mut self, node: usize, client: usize) -> ConnId {
        let slots = &mut self.nodes[node].slots;
        let free: Vec<usize> = (0..slots.len()).filter(|&slot| slots[slot].1.is_none()).collect();
        let slot = if free.is_empty() { slots.len() } else { self.random.pick(&free) };
        if slot == slots.len() {
            slots.push((0, None));
        }
        slots[slot].0 += 1;
        slots[slot].1 = Some(client);
        ConnId { slot: u32::try_from(slot).unwrap_or(0), generation: slots[slot].0 }
    }

    /// Connects a client that has no connection.
    pub(crate) fn connect(&mut self, client: usize) -> Checked {
        let user = self.clients[client].user;
        let node = usize::from(shard_of(user, self.plan.shards).0);
        let conn = self.take_slot(node, client);
        let epoch = self.epochs.get(&user).copied().unwrap_or(0);
        let identity = self.identity(user, epoch)?;
        let device = self.random.pick(&[Device::Phone, Device::Pad, Device::Desktop, Device::Web]);
        let deflates = !self.random.chance(600);
        // Each of the windows that there are, mostly one that holds any message.
        let bits = if self.serials.is_multiple_of(3) { 8 + (self.serials / 3 % 8) as u8 } else { 15 };
        let hello = Hello {
            identity,
            profile: self.clients[client].profile,
            device,
            device_tag: 0,
            deflate: Window::new(bits).filter(|_| deflates),
        };
        self.serials += 1;
        let slow = self.plan.stalls > 0 && self.random.chance(400);
        let ended = !self.calm && self.serials.is_multiple_of(16);
        let pace = if slow { Pace::Slow(self.random.pick(&[3, 60, 700])) } else { Pace::Fast };
        self.clients[client].link = Some(Link {
            serial: self.serials,
            epoch,
            deflate: hello.deflate,
            reader: Reader::inflating(hello.deflate),
            pace,
            heard_ms: self.now.mono_ms,
            ended,
            queue: ended.then_some(Sent::End).into_iter().collect(),
            ..Link::new(node, conn, device, self.truth.moment(self.step, user))
        });
        self.trace.line(|| format!("client {client} ({user:?}, {:?}) opens {conn:?} of shard {node}", hello.profile));
        self.give(node, Event::Open { conn, hello, response: RESPONSE.into(), ended })
    }

    /// A session has opened: the policy of devices holds now, and what was closed for it in this step had as many newer ones of its user beside it as may be.
    pub(crate) fn judge_devices(&mut self, client: usize) -> Checked {
        let user = self.clients[client].user;
        let (policy, step) = (self.plan.devices, self.step);
        let links = self.clients.iter().filter(|there| there.user == user).filter_map(|there| there.link.as_ref());
        let opened: Vec<&Link> = links.filter(|link| link.resumed.is_some() && !link.ended).collect();
        let (open, closed): (Vec<&Link>, Vec<&Link>) = opened.iter().partition(|link| link.finished_ms.is_none());
        let of = |all: &[&Link], class: usize| all.iter().filter(|link| Device::ALL[class] == link.device).count();
        if open.len() > policy.total || (0..Device::ALL.len()).any(|class| of(&open, class) > policy.of_class[class]) {
            let devices: Vec<Device> = open.iter().map(|link| link.device).collect();
            return Err(format!("devices: {devices:?} are open at once, {policy:?} may be"));
        }
        let now: Vec<&Link> = closed.into_iter().filter(|link| link.finished_step == step).collect();
        let replaced: Vec<u64> = now
            .iter()
            .filter(|old| {
                let newer: Vec<&Link> =
                    open.iter().chain(&now).copied().filter(|link| link.serial > old.serial).collect();
                let class = Device::ALL.iter().position(|&other| other == old.device).unwrap_or(0);
                newer.len() >= policy.total || of(&newer, class) >= policy.of_class[class]
            })
            .map(|link| link.serial)
            .collect();
        for link in self.clients.iter_mut().filter_map(|there| there.link.as_mut()) {
            link.replaced |= replaced.contains(&link.serial);
        }
        Ok(())
    }

    /// Whether a session that is closed before it has opened has no place among those that came later and opened sooner.
    pub(crate) fn has_no_place(&self, client: usize) -> bool {
        let (user, Some(late)) = (self.clients[client].user, self.clients[client].link.as_ref()) else { return false };
        let links = self.clients.iter().filter(|there| there.user == user).filter_map(|there| there.link.as_ref());
        let newer: Vec<Device> = links
            .filter(|link| link.resumed.is_some() && link.finished_ms.is_none() && !link.ended)
            .filter(|link| link.serial > late.serial)
            .map(|link| link.device)
            .collect();
        let class = Device::ALL.iter().position(|&other| other == late.device).unwrap_or(0);
        let of_class = newer.iter().filter(|&&device| device == late.device).count();
        newer.len() >= self.plan.devices.total || of_class >= self.plan.devices.of_class[class]
    }

    /// A client whose session has not opened gives up: it has finished sending, and that is read when the session has opened.
    pub(crate) fn give_up(&mut self, client: usize) -> Checked {
        let link = self.link(client)?;
        link.ended = true;
        link.queue.push_back(Sent::End);
        let (node, conn) = (link.node, link.conn);
        self.give(node, Event::PeerEnded { conn })
    }

    /// The socket of a client is gone.
    pub(crate) fn cut(&mut self, client: usize) -> Checked {
        let Some(link) = self.clients[client].link.take() else { return Ok(()) };
        self.nodes[link.node].slots[usize::try_from(link.conn.slot).unwrap_or(0)].1 = None;
        let posts = if self.clients[client].is_v2() { 0 } else { link.own.len() as u64 };
        self.seen.lost += (link.waiting.len() + link.refused_words.len()) as u64 + posts + link.unreadable;
        if link.finished_ms.is_none() {
            self.paces.ended(self.clients[client].user);
        }
        self.give(link.node, Event::Gone { conn: link.conn })
    }
}

/// Each stranger has written to `user` before the run, one in their midst often: one after the other.
pub(crate) fn crowd(
    plan: &Plan,
    user: UserId,
    strangers: &[UserId],
    database: &mut Database,
    truth: &mut Truth,
) -> Result<(), String> {
    let talker = strangers.len() / 2;
    let times = |at: usize| if at == talker { TALKER_MESSAGES } else { 1 };
    let writers = strangers.iter().enumerate().flat_map(|(at, &stranger)| (0..times(at)).map(move |_| stranger));
    for (counter, sender) in (0..).zip(writers) {
        let key = PostKey::Server { node: 9, boot: 8, counter };
        let (conv, body) = (ConvId::direct(sender, user), r#""media":1,"content":"from afar""#.into());
        let ts_ms = WALL_MS - plan.crowd - TALKER_MESSAGES + counter;
        database.foreign(0, Write::Append(NewMessage { conv, sender, key, ts_ms, body }), truth)?;
    }
    Ok(())
}

/// What the stranger who writes most has written: with those after it more than a legacy session gets.
const TALKER_MESSAGES: u64 = 120;

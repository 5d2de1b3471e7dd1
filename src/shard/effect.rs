//! Everything that a shard wants done.
//!
//! Owns: [`Effect`], the closed list, and [`Effects`], the list that `step` fills and the driver
//! drains completely before the next event.
//! Never: is acted upon inside the shard.

use std::rc::Rc;
use std::sync::Arc;

use crate::ids::{ConnId, ConvId, GroupId, Seq, ShardId, UserId};
use crate::shard::event::Answer;
use crate::shard::far::FarOut;
use crate::shard::peer::PeerMsg;
use crate::shard::session::outbox::{Batch, Form};
use crate::store::{Read, Write};
use crate::wire::Packet;

/// One wish of a shard.
#[derive(Debug)]
pub enum Effect {
    /// There is something worth a send: at the end of the turn write what
    /// [`Shard::poll_send`](super::Shard::poll_send) gives, until it gives nothing. Not given again
    /// before that.
    Flush { conn: ConnId },
    /// Write `batch`, in `form`, to each of `conns` at once, one contiguous send each
    /// ([`Shard::broadcast_to`](super::Shard::broadcast_to)); they have nothing queued, and a step
    /// has at most one broadcast in each form. A connection whose socket does not take all of it is
    /// to be written to when it becomes writable, without another [`Effect::Flush`]. The list comes
    /// back through [`Effects::recycle`].
    Broadcast { batch: Rc<Batch>, form: Form, conns: Vec<ConnId> },
    /// Stop reading this connection (its session has too many unanswered commands, or is not open
    /// yet).
    Pause { conn: ConnId },
    /// Read it again.
    Resume { conn: ConnId },
    /// The last frame is queued (a close frame, mostly): write everything, then end the connection;
    /// wait for the peer's close no longer than [`crate::limits::CLOSE_MS_MAX`]. The shard has
    /// forgotten the session but for what is queued; the driver reports
    /// [`Event::Gone`](super::event::Event::Gone) at the end. `code` is that of the close frame
    /// (RFC 6455, section 7.4), `None` if the peer has given none; `by_peer`: it has closed first.
    Finish { conn: ConnId, code: Option<u16>, by_peer: bool },
    /// Hand `msg` to the mesh. It has room: asks and settles are reserved, deliveries were counted
    /// against [`Event::Credit`](super::event::Event::Credit).
    Peer { to: ShardId, msg: PeerMsg },
    /// Tell the other gateways. Given only with [`Setup::clustered`](super::Setup::clustered).
    Far(FarOut),
    /// Ask the store. It has room: the shard counts its own asks.
    Write { ask: u32, write: Write },
    /// Ask the store.
    Read { ask: u32, read: Read },
    /// A direct message is stored, and its recipient `user` has no session; without `packet` it is
    /// all up to `seq` that the user's shard was not given. Only if
    /// [`Setup::tells_offline`](super::Setup::tells_offline).
    Offline { user: UserId, conv: ConvId, seq: Seq, packet: Option<Arc<Packet>> },
    /// A message of a group is stored, which this shard has ordered, and is handed on: members that
    /// are away may be told of it. Only if [`Setup::tells_group`](super::Setup::tells_group).
    GroupStored { group: GroupId, seq: Seq, packet: Arc<Packet> },
    /// Answer the control plane.
    Answer { id: u64, answer: Answer },
}

/// The effects of one step, in order.
#[derive(Default)]
pub struct Effects {
    list: Vec<Effect>,
    spare: Vec<Vec<ConnId>>,
}

impl Effects {
    /// Appends a wish.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Takes all wishes, in order.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect> {
        self.list.drain(..)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// An empty list for [`Effect::Broadcast`], reused if there is one.
    pub fn spare(&mut self) -> Vec<ConnId> {
        self.spare.pop().unwrap_or_default()
    }

    /// Gives a list back.
    pub fn recycle(&mut self, mut conns: Vec<ConnId>) {
        conns.clear();
        if conns.capacity() > 0 && self.spare.len() < SPARE_LISTS_MAX {
            self.spare.push(conns);
        }
    }
}

/// Lists kept for reuse; more than a few sweeps a turn are rare.
const SPARE_LISTS_MAX: usize = 8;

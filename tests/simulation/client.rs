//! One virtual client: a device of a user with its socket, what it waits for, and what it has learned.
//!
//! Owns: [`Client`], its present connection ([`Link`]), and the memory of an `imgate.v2` client, which applies a message only
//! if it is the next one and otherwise syncs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use imgate::ids::{ConnId, ConvId, UserId};
use imgate::store::PageStart;
use imgate::wire::command::RefusedCommand;
use imgate::wire::{CloseCode, Command, Device, Profile};
use imgate::ws::deflate::Window;

use crate::frames::Reader;
use crate::random::Random;
use crate::truth::Moment;
use crate::words::Reach;

/// Something that a client has sent and the shard has not read yet.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// A command; a post knows its number.
    Command(Command, Option<usize>),
    /// Not readable.
    Unreadable(RefusedCommand),
    Ping(Vec<u8>),
    /// The answer to a ping, and what the client had read before it: the last push of each conversation; `None`: to no ping.
    Pong(Vec<u8>, Option<BTreeMap<ConvId, u64>>),
    PeerClosed(Option<u16>),
    Violation(CloseCode),
    /// The end of the stream, without a word.
    End,
}

/// A command that must be answered exactly once.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Waiting {
    Post {
        post: usize,
        cid: Option<String>,
        conv: ConvId,
        step: u64,
    },
    Sync {
        conv: ConvId,
        from: PageStart,
        limit: u32,
        head: u64,
        step: u64,
    },
    Heartbeat,
    /// A page of the user's conversations, and where they stood when it was asked for.
    Convs {
        before: Option<(u64, ConvId)>,
        asked: Moment,
    },
    Unreadable {
        code: u16,
        cid: Option<String>,
    },
    /// Of the message `of`.
    Recall {
        cid: String,
        conv: ConvId,
        of: u64,
        step: u64,
    },
}

/// How a socket takes bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// Everything at once.
    Fast,
    /// At most so many bytes at a time.
    Slow(u64),
}

/// What answers an upgrade here: no frame begins like this.
pub(crate) const RESPONSE: &[u8] = b"101 upgraded";

/// A connection as the client and the driver see it.
pub(crate) struct Link {
    pub(crate) node: usize,
    pub(crate) conn: ConnId,
    /// Counts all connections of the run.
    pub(crate) serial: u64,
    pub(crate) epoch: u32,
    pub(crate) deflate: Option<Window>,
    /// The step and the heads of the first resume: from then on the session misses nothing.
    pub(crate) resumed: Option<(u64, BTreeMap<ConvId, u64>)>,
    pub(crate) paused: bool,
    /// Set by `Finish`: milliseconds.
    pub(crate) finished_ms: Option<u64>,
    pub(crate) finished_step: u64,
    /// The outbox holds bytes that the driver has to write.
    pub(crate) flush: bool,
    /// Since when the outbox holds acks that wait for others, in milliseconds.
    pub(crate) acks_wait_ms: Option<u64>,
    /// When the socket last took something, or there was something to take first.
    pub(crate) took_ms: u64,
    /// The shard was told of an overdraft when it finished this one, or how long the socket had taken nothing then.
    pub(crate) overdrawn: bool,
    pub(crate) starved_ms: u64,
    pub(crate) stalled_until_ms: u64,
    pub(crate) pace: Pace,
    /// Sent by the client, not yet read.
    pub(crate) queue: VecDeque<Sent>,
    /// Nothing more is read: the client closed or broke the protocol.
    pub(crate) mute: bool,
    /// The client had given up before its session opened, and says nothing any more.
    pub(crate) ended: bool,
    /// When the shard last read something.
    pub(crate) heard_ms: u64,
    /// What is still to come of the response to the upgrade, before any frame.
    pub(crate) response: &'static [u8],
    pub(crate) reader: Reader,
    pub(crate) frames: u64,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) pings: VecDeque<Vec<u8>>,
    /// The only close code that may come, with the reason why it may.
    pub(crate) closing: Option<Option<u16>>,
    pub(crate) closed: bool,
    /// Seqs of the pushes, in their order.
    pub(crate) pushes: BTreeMap<ConvId, Vec<u64>>,
    /// Seqs acked here.
    pub(crate) acks: BTreeMap<ConvId, BTreeSet<u64>>,
    /// Numbers of the posts made here.
    pub(crate) own: BTreeSet<usize>,
    /// Posts shown here, and (volatile) the last place of each sender.
    pub(crate) shown: BTreeSet<usize>,
    pub(crate) last_of: BTreeMap<(u64, ConvId), u64>,
    /// Refusals read by a legacy session: all, and those that leave the outcome open.
    pub(crate) refusals: [u64; 2],
    /// Unreadable messages of a legacy session.
    pub(crate) unreadable: u64,
    /// Where the user stood when it was opened, and when it was read for the first time.
    pub(crate) opened: Moment,
    pub(crate) begun: Option<Moment>,
    /// The list of conversations has come, unasked.
    pub(crate) ready: bool,
    /// The last page of it.
    pub(crate) listed: Vec<(u64, ConvId)>,
    /// What a walk over all pages has met so far.
    pub(crate) walk: Option<Vec<ConvId>>,
    /// The last word heard of each user in each conversation.
    pub(crate) heard: BTreeMap<(UserId, ConvId), Reach>,
    /// Words that were refused and of which it has not heard yet, with the code.
    pub(crate) refused_words: Vec<(ConvId, u16)>,
    /// Other devices may have taken its place.
    pub(crate) replaced: bool,
    pub(crate) device: Device,
}

impl Link {
    /// A connection that nothing was said about yet.
    pub(crate) fn new(node: usize, conn: ConnId, device: Device, opened: Moment) -> Self {
        Self {
            node,
            conn,
            serial: 0,
            epoch: 0,
            deflate: None,
            resumed: None,
            acks_wait_ms: None,
            paused: true,
            finished_ms: None,
            finished_step: 0,
            flush: false,
            took_ms: 0,
            overdrawn: false,
            starved_ms: 0,
            stalled_until_ms: 0,
            pace: Pace::Fast,
            queue: VecDeque::new(),
            mute: false,
            ended: false,
            heard_ms: 0,
            response: RESPONSE,
            reader: Reader::default(),
            frames: 0,
            waiting: Vec::new(),
            pings: VecDeque::new(),
            closing: None,
            closed: false,
            pushes: BTreeMap::new(),
            acks: BTreeMap::new(),
            own: BTreeSet::new(),
            shown: BTreeSet::new(),
            last_of: BTreeMap::new(),
            refusals: [0; 2],
            unreadable: 0,
            opened,
            begun: None,
            ready: false,
            listed: Vec::new(),
            walk: None,
            heard: BTreeMap::new(),
            refused_words: Vec::new(),
            replaced: false,
            device,
        }
    }

    /// There is something to write.
    pub(crate) fn mark_dirty(&mut self, now_ms: u64) {
        if !self.flush {
            (self.flush, self.took_ms) = (true, now_ms);
        }
    }

    /// Whether a session can be expected behind it.
    pub(crate) fn is_live(&self) -> bool {
        self.resumed.is_some() && self.finished_ms.is_none() && !self.mute
    }

    /// Whether the client says nothing any more.
    pub(crate) fn is_silent(&self) -> bool {
        self.mute || self.ended || self.finished_ms.is_some()
    }

    /// Whether the driver reads it.
    pub(crate) fn is_read(&self) -> bool {
        !self.paused && self.finished_ms.is_none() && !self.mute
    }

    /// Bytes that the socket takes now of `want`.
    pub(crate) fn takes(&self, random: &mut Random, calm: bool, frozen: bool, now_ms: u64, want: usize) -> usize {
        match self.pace {
            _ if frozen => 0,
            _ if calm => want,
            _ if now_ms < self.stalled_until_ms => 0,
            Pace::Fast => want,
            Pace::Slow(most) => want.min(usize::try_from(random.below(most + 1)).unwrap_or(want)),
        }
    }
}

/// What an `imgate.v2` client keeps over its connections.
#[derive(Default)]
pub(crate) struct Memory {
    /// The last seq applied of each conversation.
    pub(crate) last: BTreeMap<ConvId, u64>,
    /// What was applied.
    pub(crate) applied: BTreeMap<ConvId, BTreeSet<u64>>,
    /// Posts applied, whatever their place.
    pub(crate) posts: BTreeSet<usize>,
    /// Conversations with a hole.
    pub(crate) holes: BTreeSet<ConvId>,
    /// Old acks, which a resend must get again.
    pub(crate) acks: BTreeMap<String, (ConvId, u64, u64, u64)>,
}

/// A device.
pub(crate) struct Client {
    pub(crate) user: UserId,
    pub(crate) profile: Profile,
    /// Sends its posts without `cid`; such a client does not sync while it waits, so that every answer has one question.
    pub(crate) anonymous: bool,
    /// Takes no byte.
    pub(crate) frozen: bool,
    pub(crate) link: Option<Link>,
    pub(crate) memory: Memory,
    /// Its posts.
    pub(crate) posts: Vec<usize>,
}

impl Client {
    /// Whether it speaks `imgate.v2`.
    pub(crate) fn is_v2(&self) -> bool {
        self.profile == Profile::V2
    }

    /// Applies a message of the history, or an own acked one, by the rule of promise 3. Whether it was the next one.
    pub(crate) fn apply(&mut self, conv: ConvId, seq: u64, post: Option<usize>) -> Result<bool, String> {
        let last = self.memory.last.entry(conv).or_insert(0);
        if seq <= *last {
            return Ok(false);
        }
        if seq > *last + 1 {
            self.memory.holes.insert(conv);
            return Ok(false);
        }
        *last = seq;
        if !self.memory.applied.entry(conv).or_default().insert(seq)
            || post.is_some_and(|post| !self.memory.posts.insert(post))
        {
            return Err(format!("P3: {conv:?} #{seq} is applied a second time"));
        }
        Ok(true)
    }

    /// Whether a sync is on its way or unanswered. One at a time: a refusal of a sync does not say which it means.
    pub(crate) fn is_syncing(&self) -> bool {
        self.link.as_ref().is_some_and(|link| {
            link.waiting.iter().any(|waiting| matches!(waiting, Waiting::Sync { .. }))
                || link.queue.iter().any(|sent| matches!(sent, Sent::Command(Command::Sync(_), _)))
        })
    }

    /// Whether a question for its conversations is on its way or unanswered. One at a time: a page does not say which question it answers.
    pub(crate) fn is_listing(&self) -> bool {
        self.link.as_ref().is_some_and(|link| {
            link.waiting.iter().any(|waiting| matches!(waiting, Waiting::Convs { .. }))
                || link.queue.iter().any(|sent| matches!(sent, Sent::Command(Command::Convs(_), _)))
        })
    }

    /// Whether a post is on its way or unanswered.
    pub(crate) fn is_posting(&self) -> bool {
        self.link.as_ref().is_some_and(|link| {
            link.waiting.iter().any(|waiting| matches!(waiting, Waiting::Post { .. }))
                || link.queue.iter().any(|sent| matches!(sent, Sent::Command(Command::Post(_), _)))
        })
    }
}

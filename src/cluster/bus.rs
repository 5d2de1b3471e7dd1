//! The way to the other gateways: NATS.
//!
//! Owns: the connection, two subscriptions (what is for all, and what is for this one), and the
//! thread on which an [`Exchange`] and its ways run: HTTP load never delays it, and it never delays
//! a shard.
//! Never: waits for the bus with anything in its hands: what the bus does not take at once is
//! dropped and counted, because the digest finds it.
//! Bounds: [`BUS_OUT_MAX`] envelopes and [`BUS_OUT_BYTES_MAX`] out, [`BUS_IN_MAX`] in,
//! [`FAR_OUT_TAKEN_MAX`] rows of shards at once.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{
    Client, ClientError, ConnectOptions, Event, PublishErrorKind, ServerAddr, Subject, SubscribeError, Subscriber,
};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::cluster::canary::{Canary, Ways};
use crate::cluster::envelope::{self, Bad, BusKey, To};
use crate::cluster::exchange::{Exchange, In, Out};
use crate::cluster::refusals::Refusals;
use crate::cluster::{credentials, trial};
use crate::ids::ShardId;
use crate::limits::{
    BUS_COMMANDS_MAX, BUS_CONNECT_MS, BUS_IN_MAX, BUS_OUT_BYTES_MAX, BUS_OUT_MAX, BUS_OUT_ROWS, BUS_OUT_WORDS,
    BUS_PING_MS, BUS_RETRY_MS_MAX, CANARY_SAY_MS, CLUSTER_TICK_MS, ENVELOPE_BYTES_MAX, FAR_OUT_TAKEN_MAX, FAR_ROOM_MS,
    FAR_SAID_TAKEN_MAX, FAR_WORDS_TAKEN_MAX, LOG_OUTAGE_PAUSE_MS, RECENT_CONVS_MAX,
};
use crate::mesh::FarEnd;
use crate::metrics::cluster::ClusterNumbers;
use crate::store::worker::{Call, Lane, LanePlace, Store};
use crate::store::{Error as StoreError, Recent, Since};

/// What a bus is told when it is made.
pub struct Setup {
    /// Servers of the bus.
    pub servers: Vec<String>,
    /// The name of the cluster: part of the subject.
    pub name: String,
    /// The key of the cluster.
    pub key: BusKey,
    /// What the gateway says and hears.
    pub exchange: Exchange,
    /// The way to the shards,
    pub end: FarEnd,
    /// and what they call when they have told something.
    pub wake: Arc<Notify>,
    /// The database.
    pub store: Store,
    /// The process's clock.
    pub clock: Clock,
    /// The way to and from whoever changes what other gateways follow.
    pub changes: ChangeFeed,
}

/// Between the control plane, which changes what other gateways follow in the database, and the
/// thread of the cluster.
#[derive(Clone, Default)]
pub struct ChangeFeed {
    /// Something was changed here and is not said yet.
    pub(super) mine: Arc<AtomicBool>,
    /// Others have changed something.
    pub(super) look: Arc<Notify>,
}

/// The numbers of a running bus, for a scrape.
pub type Numbers = Arc<Mutex<ClusterNumbers>>;

/// What the thread of the cluster holds.
pub(super) struct Bus {
    exchange: Exchange,
    key: BusKey,
    end: FarEnd,
    store: Store,
    clock: Clock,
    changes: ChangeFeed,
    numbers: Numbers,
    mine: ClusterNumbers,
    to_send: mpsc::Sender<(To, Vec<u8>)>,
    /// Bytes that wait to be sent.
    held: Arc<AtomicUsize>,
    scanned_in: mpsc::Sender<(u64, Option<Recent>)>,
    /// Whether the exchange was told that the bus is there.
    up: bool,
    /// When the thread began.
    began_ms: u64,
    /// The start, which waits to hear whether this gateway has its number for itself.
    admission: Option<oneshot::Sender<bool>>,
    /// What the log has last.
    logged: Logged,
    /// The same of another gateway with this one's number, and of how many of its envelopes.
    twins: (Option<u64>, u64),
    /// Whether the bus brings what is said to this gateway.
    canary: Arc<Canary>,
    /// How many of its attempts to connect anew the exchange was told of.
    renewed: u64,
    /// What the bus refuses this gateway,
    refusals: Refusals,
    /// and what its client did not take.
    unpublished: Arc<Unpublished>,
    /// Where the bus is, to ask it why it does not let this gateway in.
    servers: Vec<String>,
    /// Words that the bus had no room for, and messages that are kept nowhere.
    words_full: u64,
    said_full: u64,
}

/// What the log has, so that it has nothing too often.
#[derive(Default)]
struct Logged {
    /// When another key on the bus was last complained of,
    key_ms: Option<u64>,
    /// another version of envelopes,
    version_ms: Option<u64>,
    /// what the server complains of,
    server_ms: Option<u64>,
    /// why it does not let this gateway in,
    why_ms: Option<u64>,
    /// and that messages are too large, with how many they were.
    oversized: (Option<u64>, u64),
    /// What the account may not do.
    forbidden: Option<&'static str>,
    /// The bus was away at the start, or has been there since.
    away: bool,
}

/// Whether that names a server of the bus.
pub(super) fn is_server(text: &str) -> bool {
    text.parse::<ServerAddr>().is_ok()
}

/// Runs until `stop` says so, or its other end is gone. `admission` hears whether this gateway may
/// begin.
pub(super) async fn run(setup: Setup, numbers: Numbers, admission: oneshot::Sender<bool>, stop: oneshot::Receiver<()>) {
    let Setup { servers, name, key, exchange, end, wake, store, clock, changes } = setup;
    let subjects = Subjects::new(&name);
    let node = exchange.node();
    let mine = [To::All, To::Node(node)].map(|to| subjects.of(to));
    let ways = Ways { first: subjects.of(To::Node(node)), second: subjects.probe(node) };
    let (events_in, mut events) = mpsc::channel(BUS_COMMANDS_MAX);
    let (client, mut heard) = connect(&servers, mine.clone(), events_in).await.unzip();
    let (to_send, to_publish) = mpsc::channel(BUS_OUT_MAX);
    let (held, unpublished, one_of) =
        (Arc::<AtomicUsize>::default(), Arc::<Unpublished>::default(), subjects.node.clone());
    let counted = (Arc::clone(&held), Arc::clone(&unpublished));
    let publisher = client.clone().map(|client| tokio::spawn(publish(client, subjects, to_publish, counted)));
    let canary = Arc::new(Canary::new());
    let watch = client.clone().map(|client| tokio::spawn(watch(Arc::clone(&canary), client, servers.clone(), ways)));
    let (scanned_in, mut scanned) = mpsc::channel(4);
    let mut bus = Bus {
        exchange,
        key,
        end,
        store,
        clock,
        changes,
        numbers,
        mine: ClusterNumbers::default(),
        to_send,
        held,
        scanned_in,
        up: false,
        began_ms: clock.now().mono_ms,
        admission: Some(admission),
        logged: Logged::default(),
        twins: (None, 0),
        canary,
        renewed: 0,
        refusals: Refusals::new(mine[0].to_string(), mine[1].to_string(), one_of),
        unpublished,
        servers,
        words_full: 0,
        said_full: 0,
    };
    let mut tick = interval(Duration::from_millis(CLUSTER_TICK_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Made once: a pause that began anew with each turn would never end while there is traffic.
    let mut room = interval(Duration::from_millis(FAR_ROOM_MS));
    room.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = wake.notified() => bus.tell(&wake),
            Some(message) = next(&mut heard) => bus.hear(&message.payload),
            Some(event) = events.recv() => bus.note(&event),
            Some((scan, answer)) = scanned.recv() => bus.step(In::Scanned { scan, answer }),
            _ = tick.tick() => bus.tick(client.as_ref(), &mine, &mut heard).await,
            _ = room.tick(), if bus.waits() => bus.give_what_waits(),
            _ = &mut stop => break,
        }
    }
    if let Some(watch) = watch {
        watch.abort();
    }
    bus.tell(&wake);
    bus.step(In::Stop);
    drop(bus);
    // What is said is on its way, or the bus is away.
    if let (Some(publisher), Some(client)) = (publisher, client) {
        let _ = tokio::time::timeout(Duration::from_millis(CLUSTER_TICK_MS), publisher).await;
        let _ = tokio::time::timeout(Duration::from_millis(CLUSTER_TICK_MS), client.flush()).await;
    }
}

/// The subjects of a cluster.
pub(super) struct Subjects {
    all: Subject,
    /// With the number of a gateway behind it.
    node: String,
    /// The same.
    probe: String,
}

impl Subjects {
    pub(super) fn new(name: &str) -> Self {
        Self {
            all: format!("im.{name}.1.all").into(),
            node: format!("im.{name}.1.n."),
            probe: format!("im.{name}.1.probe."),
        }
    }

    /// See [`super::canary`].
    pub(super) fn probe(&self, node: u16) -> Subject {
        format!("{}{node}", self.probe).into()
    }

    pub(super) fn of(&self, to: To) -> Subject {
        match to {
            To::All => self.all.clone(),
            To::Node(node) => format!("{}{node}", self.node).into(),
        }
    }
}

/// The next message, if there is a bus at all.
async fn next(heard: &mut Option<Heard>) -> Option<async_nats::Message> {
    match heard {
        Some(heard) => heard.next().await,
        None => std::future::pending().await,
    }
}

/// What comes on both subjects.
type Heard = stream::Select<Subscriber, Subscriber>;

/// Of a client that connects again and again.
fn options(name: &str, servers: &[String]) -> ConnectOptions {
    credentials::given(ConnectOptions::new(), servers)
        .name(name)
        .no_echo()
        .retry_on_initial_connect()
        .max_reconnects(None)
        .ping_interval(Duration::from_millis(BUS_PING_MS))
        .connection_timeout(Duration::from_millis(BUS_CONNECT_MS))
        .subscription_capacity(BUS_IN_MAX)
        .client_capacity(BUS_COMMANDS_MAX)
        .reconnect_delay_callback(|tries| {
            // All gateways come back at once: each a little different.
            let most_ms = 50_u64.saturating_mul(1 << tries.min(8)).min(BUS_RETRY_MS_MAX);
            let random = getrandom::u64().unwrap_or_default();
            Duration::from_millis(most_ms / 2 + random % (most_ms / 2 + 1))
        })
}

/// The canary's own connection, and its watch.
async fn watch(canary: Arc<Canary>, first: Client, servers: Vec<String>, ways: Ways) {
    let second = async {
        let client = options("imgate canary", &servers).connect(&servers[..]).await.ok()?;
        let heard = client.subscribe(ways.second.clone()).await.ok()?;
        Some((client, heard))
    };
    // Whether a server lets it in is not known here: it tries again and again, and the words say
    // whether it got in. What fails at once is the setup, which is the first one's as well.
    if let Some((second, heard)) = second.await {
        canary.watch(first, second, heard, ways).await;
    }
}

/// A client and its subscriptions.
async fn connect(servers: &[String], mine: [Subject; 2], events: mpsc::Sender<Event>) -> Option<(Client, Heard)> {
    let options = options("imgate", servers).event_callback(move |event| {
        let _ = events.try_send(event);
        std::future::ready(())
    });
    let client = match options.connect(servers).await {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "the bus between gateways cannot be used; messages of others come from the database");
            return None;
        }
    };
    match subscribe(&client, mine).await {
        Ok(heard) => Some((client, heard)),
        Err(error) => {
            tracing::error!(%error, "the bus between gateways takes no subscription");
            None
        }
    }
}

async fn subscribe(client: &Client, [all, one]: [Subject; 2]) -> Result<Heard, SubscribeError> {
    Ok(stream::select(client.subscribe(all).await?, client.subscribe(one).await?))
}

/// What the client of the bus did not take.
#[derive(Debug, Default)]
struct Unpublished {
    /// It is larger than the server's `max_payload`.
    oversized: AtomicU64,
    other: AtomicU64,
}

/// Gives the client of the bus what is to be sent; waits while it is not connected.
async fn publish(
    client: Client,
    subjects: Subjects,
    mut envelopes: mpsc::Receiver<(To, Vec<u8>)>,
    (held, unpublished): (Arc<AtomicUsize>, Arc<Unpublished>),
) {
    while let Some((to, envelope)) = envelopes.recv().await {
        held.fetch_sub(envelope.len(), Ordering::Relaxed);
        if let Err(error) = client.publish(subjects.of(to), envelope.into()).await {
            tracing::debug!(%error, "the bus did not take something");
            let count = match error.kind() {
                PublishErrorKind::MaxPayloadExceeded => &unpublished.oversized,
                _ => &unpublished.other,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The database is to be asked what it has got lately.
fn scan_call(answering: Answering, since: Since, after: u64) -> Call {
    Box::new(move |store| answering.end(store.recent(since, after, RECENT_CONVS_MAX)))
}

/// Tells the thread of the cluster how a scan has ended, in any case: a call that has waited for
/// too long, or that the store has no room for, is dropped, and the exchange would wait for its
/// answer.
struct Answering {
    scan: u64,
    answer: Option<Recent>,
    answers: mpsc::Sender<(u64, Option<Recent>)>,
}

impl Answering {
    /// The database has answered, or has not.
    fn end(mut self, answer: Result<Recent, StoreError>) {
        match answer {
            Ok(recent) => self.answer = Some(recent),
            Err(error) => tracing::debug!(%error, "the database was not scanned"),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let _ = self.answers.try_send((self.scan, self.answer.take()));
    }
}

impl Bus {
    fn step(&mut self, what: In) {
        let now = self.clock.now();
        let here = Arc::clone(&self.end.here);
        let is_here = move |whom| here.has(whom);
        let mut out = Vec::new();
        self.exchange.step(now, what, &is_here, &mut out);
        let mut refused = Vec::new();
        for one in out {
            match one {
                Out::Publish(to, from, items) => self.send(to, envelope::encode(&self.key, &from, to, &items)),
                Out::Give(shard, far) => refused.extend(self.end.give(shard, far).err().map(|far| (shard, far))),
                Out::Look => self.changes.look.notify_one(),
                Out::Scan { scan, since, after } => self.scan(scan, since, after),
            }
        }
        self.end.wake();
        for (shard, far) in refused {
            // It is kept for later: nothing follows from it now.
            self.exchange.step(now, In::Refused(shard, far), &is_here, &mut Vec::new());
        }
    }

    fn send(&mut self, to: To, envelope: Vec<u8>) {
        let bytes = envelope.len();
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= BUS_OUT_BYTES_MAX && self.to_send.try_send((to, envelope)).is_ok() {
            self.mine.envelopes_out += 1;
            self.mine.bytes_out += bytes as u64;
        } else {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            self.mine.bus_full += 1;
        }
    }

    /// Says what shards have told.
    fn tell(&mut self, wake: &Notify) {
        let rows = self.end.out.take(FAR_OUT_TAKEN_MAX);
        let words = self.end.out.take_words(FAR_WORDS_TAKEN_MAX);
        let said = self.end.out.take_said(FAR_SAID_TAKEN_MAX);
        let full =
            [(rows.len(), FAR_OUT_TAKEN_MAX), (words.len(), FAR_WORDS_TAKEN_MAX), (said.len(), FAR_SAID_TAKEN_MAX)];
        if full.iter().any(|(taken, most)| taken == most) {
            // The others have their turn, and then the rest.
            wake.notify_one();
        }
        if !rows.is_empty() {
            self.step(In::Rows(rows));
        }
        if self.changes.mine.swap(false, Ordering::AcqRel) {
            self.step(In::Changed);
        }
        if words.is_empty() {
        } else if self.to_send.capacity() <= BUS_OUT_ROWS {
            self.words_full += words.len() as u64;
        } else {
            self.step(In::Words(words));
        }
        if said.is_empty() {
        } else if self.to_send.capacity() <= BUS_OUT_ROWS + BUS_OUT_WORDS {
            self.said_full += said.len() as u64;
        } else {
            self.step(In::Said(said));
        }
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.end.shards()).map(ShardId)
    }

    /// Whether something waits for room at a shard.
    fn waits(&self) -> bool {
        self.shards().any(|shard| self.exchange.waits_for(shard))
    }

    fn give_what_waits(&mut self) {
        for shard in self.shards() {
            let room = self.end.room(shard);
            if room > 0 && self.exchange.waits_for(shard) {
                self.step(In::Room(shard, room));
            }
        }
    }

    fn scan(&self, scan: u64, since: Since, after: u64) {
        let answering = Answering { scan, answer: None, answers: self.scanned_in.clone() };
        // One that there is no room for answers by that.
        let _ = self.store.query(LanePlace::of(Lane::Light), scan_call(answering, since, after));
    }

    fn hear(&mut self, bytes: &[u8]) {
        if bytes == trial::WORD || self.canary.take(bytes) {
            return;
        }
        self.mine.envelopes_in += 1;
        self.mine.bytes_in += bytes.len() as u64;
        match envelope::decode(&self.key, bytes) {
            Ok(envelope) => self.step(In::Heard(envelope)),
            Err(Bad::Damaged) => self.mine.damaged += 1,
            Err(Bad::Version) => {
                self.mine.version += 1;
                let now_ms = self.clock.now().mono_ms;
                if is_time(&mut self.logged.version_ms, now_ms) {
                    tracing::warn!(
                        "a gateway on the bus has another version of envelopes: its messages come from the database until \
                         all gateways run programs that understand each other"
                    );
                }
            }
            Err(Bad::Tag) => {
                self.mine.tag += 1;
                let now_ms = self.clock.now().mono_ms;
                if is_time(&mut self.logged.key_ms, now_ms) {
                    tracing::warn!(
                        "something on the bus was not made with this cluster's key: have all gateways the same `secret`?"
                    );
                }
            }
        }
    }

    fn note(&mut self, event: &Event) {
        let now_ms = self.clock.now().mono_ms;
        match event {
            Event::Connected => {
                self.refusals.asked(now_ms);
                self.set_up(true);
            }
            Event::Disconnected | Event::Closed => self.set_up(false),
            Event::SlowConsumer(_) => {
                self.mine.slow += 1;
                self.canary.overrun();
                self.step(In::Lost);
            }
            Event::ServerError(error) => {
                self.refusals.note(now_ms, error);
                if is_time(&mut self.logged.server_ms, now_ms) {
                    tracing::warn!(%error, "the bus complains");
                }
            }
            Event::ClientError(error) => self.ask_why(error, now_ms),
            Event::LameDuckMode | Event::Draining => {}
        }
    }

    fn set_up(&mut self, up: bool) {
        if std::mem::replace(&mut self.up, up) != up {
            // From now on the log has each change.
            self.logged.away = true;
            if up {
                tracing::info!("the bus between gateways is there");
            } else {
                tell_away();
            }
            self.step(In::Bus { up });
        }
    }

    /// The client has tried to connect in vain: the log has it now and then, with the reason.
    fn ask_why(&mut self, error: &ClientError, now_ms: u64) {
        if is_time(&mut self.logged.why_ms, now_ms) {
            let (servers, error) = (self.servers.clone(), error.to_string());
            tokio::spawn(async move {
                let error = trial::why_not(&servers).await.unwrap_or(error);
                tracing::warn!(error, "no server of the bus between gateways lets this one in");
            });
        }
    }

    /// Asks for the subscriptions again if the bus has refused one: rules of NATS may change while
    /// a connection stands.
    async fn ask_again(&mut self, client: &Client, mine: &[Subject; 2], heard: &mut Heard) {
        let now_ms = self.clock.now().mono_ms;
        if !self.up || !self.refusals.is_time_to_ask(now_ms) {
            return;
        }
        self.refusals.asked(now_ms);
        let asking = subscribe(client, mine.clone());
        if let Ok(Ok(again)) = tokio::time::timeout(Duration::from_millis(CANARY_SAY_MS), asking).await {
            *heard = again;
            // What the old ones have not been asked for yet.
            self.step(In::Lost);
        }
    }

    /// What the bus refuses, in numbers, on `/readyz`, and in the log when it begins and ends.
    fn show_refusals(&mut self, now_ms: u64) {
        let forbidden = self.refusals.forbidden(now_ms);
        if let Some(what) = forbidden.filter(|_| forbidden != self.logged.forbidden) {
            tracing::warn!(what, "the account at NATS may not do what a gateway does");
        } else if self.logged.forbidden.is_some() && forbidden.is_none() {
            tracing::info!("the account at NATS may do what a gateway does, as far as is known");
        }
        self.logged.forbidden = forbidden;
        let oversized = self.unpublished.oversized.load(Ordering::Relaxed);
        if oversized > self.logged.oversized.1 && is_time(&mut self.logged.oversized.0, now_ms) {
            self.logged.oversized.1 = oversized;
            tracing::warn!(
                "NATS takes no messages of the size that gateways say: its `max_payload` is less than {ENVELOPE_BYTES_MAX}"
            );
        }
        // What may not be done while there is no bus is not the trouble.
        self.mine.forbidden = forbidden.filter(|_| self.up);
        let other = self.refusals.other + self.unpublished.other.load(Ordering::Relaxed);
        self.mine.bus_refused = [self.refusals.needed, oversized, other];
    }

    async fn tick(&mut self, client: Option<&Client>, mine: &[Subject; 2], heard: &mut Option<Heard>) {
        if let (Some(client), Some(heard)) = (client, heard) {
            self.ask_again(client, mine, heard).await;
        }
        self.set_up(client.is_some_and(|client| client.connection_state() == State::Connected));
        if self.canary.renewed() > std::mem::replace(&mut self.renewed, self.canary.renewed()) {
            // What others said meanwhile is in the database.
            self.step(In::Lost);
        }
        self.step(In::Deaf { on: self.canary.is_deaf() });
        let movements = self.end.take_movements();
        if !movements.changed.is_empty() {
            self.step(In::Arrivals(movements.changed));
        }
        for (shard, users) in movements.all {
            self.step(In::Everybody(shard, users));
        }
        if let Some(groups) = self.end.take_members() {
            self.step(In::MembersCame(groups));
        }
        self.step(In::Tick);
        let (now, counts) = (self.clock.now(), self.exchange.counts());
        self.tell_admission(now.mono_ms);
        if counts.twins > self.twins.1 && is_time(&mut self.twins.0, now.mono_ms) {
            self.twins.1 = counts.twins;
            tracing::error!("another gateway has the same number: give each another `node`, or stop one of them");
        }
        self.show_refusals(now.mono_ms);
        if !self.up && !self.logged.away && self.began_ms + BUS_CONNECT_MS <= now.mono_ms {
            tell_away();
            self.logged.away = true;
        }
        self.mine.up = self.up && !self.canary.is_deaf() && self.logged.forbidden.is_none();
        self.mine.refused = self.exchange.admitted() == Some(false);
        self.mine.renewed = self.renewed;
        self.mine.nodes = self.exchange.nodes(now) as u64;
        self.mine.age_ms = self.exchange.age_ms(now);
        self.mine.shards_dropped = self.end.out.dropped();
        self.mine.words_full = self.words_full + self.end.out.words_dropped();
        self.mine.said_full = self.said_full + self.end.out.said_dropped();
        self.mine.counts = counts;
        *self.numbers.lock() = self.mine;
    }

    /// Whoever waits to begin hears whether it may; without a bus there is no other to hear of.
    fn tell_admission(&mut self, now_ms: u64) {
        let alone = !self.up && self.began_ms + BUS_CONNECT_MS <= now_ms;
        if let Some(admitted) = self.exchange.admitted().or_else(|| alone.then_some(true))
            && let Some(waits) = self.admission.take()
        {
            // It may have waited long enough.
            let _ = waits.send(admitted);
        }
    }
}

fn tell_away() {
    tracing::warn!("the bus between gateways is away: messages of others come from the database, some seconds later");
}

/// Whether a complaint is due again; if so, it was made now.
fn is_time(complained_ms: &mut Option<u64>, now_ms: u64) -> bool {
    let is_due = complained_ms.is_none_or(|at_ms| at_ms + LOG_OUTAGE_PAUSE_MS <= now_ms);
    if is_due {
        *complained_ms = Some(now_ms);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConvId, GroupId, NodeId, Seq};
    use crate::limits::FAR_IN_MAX;
    use crate::mesh::build;
    use crate::shard::FarIn;
    use crate::store::memory::Memory;
    use crate::store::{Backend, Keep, Opened};

    #[test]
    fn a_scan_is_answered_once_whether_the_store_runs_it_or_drops_it() {
        let (answers, mut heard) = mpsc::channel(4);
        let call = |scan| scan_call(Answering { scan, answer: None, answers: answers.clone() }, Since::Ago(5), 0);
        call(1)(&mut Memory::new().connect());
        // It has waited for too long.
        drop(call(2));
        let (scan, answer) = heard.try_recv().expect("it was run");
        assert!(scan == 1 && answer.is_some_and(|recent| recent.list.is_empty()));
        assert_eq!(heard.try_recv(), Ok((2, None)));
        assert!(heard.try_recv().is_err(), "each of them once");
    }

    /// Something that happens again and again, without a pause, does not hold it up.
    #[test]
    fn what_waits_for_room_is_given_while_there_is_traffic() {
        // More than there is room for at once.
        const HEADS: u64 = FAR_IN_MAX as u64;
        // The first look is made at once, the next one after a pause.
        const EVENTS: [u32; 2] = [2_000, 2_000_000];
        let clock = Clock::start();
        let memory = Memory::new();
        let connection = || vec![Box::new(memory.connect()) as Box<dyn Backend>];
        let opened = Opened { writers: connection(), readers: connection(), upkeep: None, keep: Keep::default() };
        let mut mesh = build::<()>(1).expect("descriptors");
        let store = Store::start(opened, 1, Arc::clone(&mesh.replies) as _, clock).expect("threads");
        let (wake, notify) = crate::cluster::waker();
        let end = mesh.join_cluster(wake);
        let (_, mut endpoint) = mesh.endpoints.remove(0);
        let mut exchange = Exchange::new(NodeId(1), 7, 1, clock.now(), None);
        for n in 1..=HEADS {
            let (conv, seq) = (ConvId::Group(GroupId::new(n).expect("small")), Seq::new(3).expect("small"));
            let head = FarIn::Head { conv, lowest: seq, newest: seq };
            exchange.step(clock.now(), In::Refused(ShardId(0), head), &|_| true, &mut Vec::new());
        }
        let setup = Setup {
            servers: vec!["nats://127.0.0.1:1".to_owned()],
            name: "test".to_owned(),
            key: BusKey::new((&[7; 32], None), "test"),
            exchange,
            end,
            wake: Arc::clone(&notify),
            store,
            clock,
            changes: ChangeFeed::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a poll");
        let came = runtime.block_on(async {
            let ((admission, _hears), (_stop, stopped)) = (oneshot::channel(), oneshot::channel());
            tokio::spawn(run(setup, Numbers::default(), admission, stopped));
            let mut came = Vec::new();
            for events in EVENTS {
                let (mut heads, before) = (0, came.iter().sum::<u64>());
                for _ in 0..events {
                    notify.notify_one();
                    tokio::task::yield_now().await;
                    let all = std::iter::from_fn(|| endpoint.heard_far());
                    heads += all.filter(|far| matches!(far, FarIn::Head { .. })).count() as u64;
                    if before + heads == HEADS || (heads > 0 && before == 0) {
                        break;
                    }
                }
                came.push(heads);
            }
            came
        });
        assert!(came[0] > 0 && came.iter().sum::<u64>() == HEADS, "at once, and the rest: {came:?}");
    }
}

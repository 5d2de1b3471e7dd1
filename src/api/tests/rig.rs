//! A running control plane with everything around it, and a small HTTP client.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;

use crate::api::admin::Operator;
use crate::api::services::ShardAccess;
use crate::api::{
    Allowed, ApiHandle, Deadlines, FileCounters, JwtSettings, Setup, SlotBounds, UploadBounds, control, start,
};
use crate::auth::{Issuer, Key};
use crate::caller::{Judge, Origins, Peer, Readers};
use crate::clock::{self, Clock};
use crate::fair::Networks;
use crate::hooks::Hooks;
use crate::ids::{ConnId, ConvId, LoginId, ShardId, UserId};
use crate::limits;
use crate::log::trail::Trails;
use crate::mesh::{ControlPlane, Full, Gate, Wire};
use crate::metrics::Board;
use crate::metrics::accounts::AccountCounts;
use crate::metrics::http::HttpCounts;
use crate::object_store::ObjectStore;
use crate::shard::{Answer, HeldBack, Notice, ROSTER_SLOTS, SessionView, SocketView};
use crate::store::memory::Memory;
use crate::store::worker::{Replies, Reply, Store};
use crate::store::{
    Backend, Backups, Keep, NewGroup, NewMessage, NewUser, Opened, PostKey, Rule, User, Write, Written,
};
use crate::wire::{Device, Profile, Reject};

/// Whether the routes of the old systems are in this build.
pub(in crate::api) const LEGACY: bool = cfg!(feature = "legacy");
/// A group of `owner` as the tests make them.
pub(in crate::api) fn group_of(owner: UserId) -> NewGroup {
    NewGroup {
        name: "g".to_owned(),
        owner,
        icon: String::new(),
        cate: 0,
        memo: String::new(),
        created_ms: 0,
        owned_max: 10,
        wanted: None,
        rule: Rule::Plain,
    }
}

/// The session that every user has.
fn session() -> SessionView {
    SessionView {
        conn: ConnId { slot: 7, generation: 1 },
        profile: Profile::V2,
        device: Device::Phone,
        login: LoginId::new(5),
        open: true,
        silent_ms: 0,
        pings: 0,
        waiting_bytes: 0,
        unanswered: 0,
        behind: false,
        held_back: Some(HeldBack::Pace),
        deflates: true,
        socket: Some(SocketView { address: Some("192.0.2.1".into()), tls: true }),
    }
}

/// Longer than anything here takes, shorter than a person's patience.
pub(in crate::api) const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that the gate of a test has room for.
pub(in crate::api) const RETURNED_MAX: usize = 16;
/// Enough for the files of the tests, and quickly passed.
pub(in crate::api) const UPLOAD_BYTES_MAX: u64 = 1024 * 1024;
/// Files without a bound of their own, which are looked at quickly.
pub(in crate::api) const BOUNDS: UploadBounds =
    UploadBounds { bytes_max: UPLOAD_BYTES_MAX, user_bytes_max: 0, per_minute: 0, grace_ms: 86_400_000, look_ms: 20 };
/// 30 days.
pub(in crate::api) const TTL_MS: u64 = 30 * 86_400_000;

/// See the module.
pub(in crate::api) struct Rig {
    pub(in crate::api) api: Option<ApiHandle>,
    pub(in crate::api) store: Store,
    pub(in crate::api) memory: Memory,
    pub(in crate::api) key: Key,
    pub(in crate::api) homes: Arc<TestShards>,
    /// What became of logins and registrations.
    pub(in crate::api) counts: Arc<AccountCounts>,
    /// What came back to the gate.
    #[cfg_attr(not(feature = "legacy"), expect(dead_code, reason = "for tests that speak through the old routes"))]
    pub(in crate::api) returned: Receiver<(TcpStream, Vec<u8>)>,
    pub(in crate::api) public: SocketAddr,
    pub(in crate::api) admin: SocketAddr,
    #[cfg_attr(not(feature = "legacy"), expect(dead_code, reason = "for tests that speak through the old routes"))]
    pub(in crate::api) http: Arc<HttpCounts>,
    /// Where the uploaded files are.
    pub(in crate::api) files: tempfile::TempDir,
    pub(in crate::api) file_counters: Arc<FileCounters>,
    /// Where the control socket is.
    pub(in crate::api) data: tempfile::TempDir,
    /// What the admin port's drain asks for.
    pub(in crate::api) drained: Receiver<()>,
    front: Option<JoinHandle<()>>,
    closing: Arc<AtomicBool>,
}

impl Rig {
    pub(in crate::api) fn start() -> Self {
        Self::with(Deadlines::default())
    }

    pub(in crate::api) fn with(deadlines: Deadlines) -> Self {
        Self::with_bounds(deadlines, BOUNDS)
    }

    pub(in crate::api) fn with_bounds(deadlines: Deadlines, bounds: UploadBounds) -> Self {
        Self::with_all(deadlines, bounds, Allowed::default(), false)
    }

    /// With so many slots, and with such proxies, of which this machine need not be one.
    #[cfg_attr(not(feature = "legacy"), expect(dead_code, reason = "for tests that speak through the old routes"))]
    pub(in crate::api) fn with_slots(slots: SlotBounds, trusted_proxies: Networks) -> Self {
        Self::with_slots_and(Deadlines::default(), BOUNDS, Allowed::default(), false, (slots, trusted_proxies))
    }

    pub(in crate::api) fn with_allowed(allowed: Allowed) -> Self {
        Self::with_all(Deadlines::default(), BOUNDS, allowed, false)
    }

    /// One of several gateways of its database.
    pub(in crate::api) fn shared() -> Self {
        Self::with_all(Deadlines::default(), BOUNDS, Allowed::default(), true)
    }

    fn with_all(deadlines: Deadlines, bounds: UploadBounds, allowed: Allowed, shared: bool) -> Self {
        let slots = SlotBounds::public(limits::HTTP_BUDGET_DEFAULT);
        Self::with_slots_and(deadlines, bounds, allowed, shared, (slots, Networks::loopback()))
    }

    /// With files in an object store.
    pub(in crate::api) fn with_objects(bounds: UploadBounds, objects: ObjectStore) -> Self {
        let slots = (SlotBounds::public(limits::HTTP_BUDGET_DEFAULT), Networks::loopback());
        Self::with_everything(Deadlines::default(), bounds, Allowed::default(), false, slots, Some(objects))
    }

    fn with_slots_and(
        deadlines: Deadlines,
        bounds: UploadBounds,
        allowed: Allowed,
        shared: bool,
        slots: (SlotBounds, Networks),
    ) -> Self {
        Self::with_everything(deadlines, bounds, allowed, shared, slots, None)
    }

    fn with_everything(
        deadlines: Deadlines,
        bounds: UploadBounds,
        allowed: Allowed,
        shared: bool,
        (slots, trusted_proxies): (SlotBounds, Networks),
        objects: Option<ObjectStore>,
    ) -> Self {
        let counts = Arc::<AccountCounts>::default();
        let memory = Memory::new();
        let connection = || Box::new(memory.connect()) as Box<dyn Backend>;
        let opened =
            Opened { writers: vec![connection()], readers: vec![connection()], upkeep: None, keep: Keep::default() };
        let store = Store::start(opened, 1, Arc::new(NoShards), Clock::start()).expect("threads");
        let homes = Arc::new(TestShards {
            memory: memory.clone(),
            notices: Mutex::default(),
            introduced: Mutex::default(),
            hints: Mutex::default(),
            mood: Mutex::default(),
            dead: Mutex::default(),
            unanswered: Mutex::default(),
            lines: AtomicU64::default(),
        });
        let (keep, returned) = bounded(RETURNED_MAX);
        let admin = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let admin_addr = admin.local_addr().expect("an address");
        let key = Key::new([7; 32]);
        let files = tempfile::tempdir().expect("a directory");
        let http = Arc::<HttpCounts>::default();
        let file_counters = Arc::<FileCounters>::default();
        let data = tempfile::tempdir().expect("a directory");
        let (drain, drained) = bounded(1);
        let shards = Arc::clone(&homes);
        let setup = Setup {
            store: store.clone(),
            key: key.clone(),
            homes: Arc::clone(&homes) as Arc<dyn ShardAccess>,
            gate: Arc::new(TestGate(keep)),
            token_ttl_ms: TTL_MS,
            allowed,
            counts: Arc::clone(&counts),
            judge: Arc::new(judge(&key)),
            control: Some(control::bind(data.path()).expect("a socket")),
            shared,
            others: None,
            admin: vec![admin],
            metrics: Arc::new(|format, unready| format!("imgate_sessions 3\n# {format:?} {unready:?}\n")),
            deadlines,
            trusted_proxies,
            slots,
            http: Arc::clone(&http),
            password_threads: 1,
            files: files.path().join("files"),
            objects: objects.map(Arc::new),
            uploads: bounds,
            file_counters: Arc::clone(&file_counters),
            hsts_s: 0,
            legacy_pages: None,
            jwt: JwtSettings::default(),
            hooks: Hooks::default(),
            volatile: false,
            operator: Operator {
                drain,
                reload: bounded(1).0,
                log: Arc::new(|filter| Ok(crate::log::check(filter)?)),
                settings: Arc::new(|| serde_json::json!({ "settings": [] })),
                backups: Backups::new("memory:", files.path()),
                board: Board::new(4),
                dead: Arc::new(move || *shards.dead.lock()),
                degraded: None,
                short_of_memory: Arc::new(|| false),
            },
            trails: Trails::default(),
        };
        let api = start(setup).expect("a control plane");
        let front = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let public = front.local_addr().expect("an address");
        let (plane, closing) = (api.control_plane(), Arc::<AtomicBool>::default());
        let closed = Arc::clone(&closing);
        let front = Some(std::thread::spawn(move || hand_over(&front, plane.as_ref(), &closed)));
        Self {
            api: Some(api),
            store,
            memory,
            key,
            homes,
            counts,
            returned,
            public,
            admin: admin_addr,
            http,
            files,
            file_counters,
            data,
            drained,
            front,
            closing,
        }
    }

    /// A new connection to the public port.
    pub(in crate::api) fn client(&self) -> Client {
        Client::connect(self.public)
    }

    /// Asks again and again until it is so: what the gateway does by itself is announced by
    /// nothing.
    pub(in crate::api) fn until(&self, is_so: impl Fn() -> bool) {
        let clock = Clock::start();
        let patience_ms = PATIENCE.as_secs() * 1000;
        while !is_so() {
            assert!(clock.now().mono_ms < patience_ms, "it is not so");
            // Whatever makes it so has few cores, and threads that step aside for this one.
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// One request on its own connection.
    pub(in crate::api) fn ask(&self, request: Ask<'_>) -> Answered {
        self.client().ask(request)
    }

    /// A POST with a form, as the pages send it.
    pub(in crate::api) fn post(&self, path: &str, form: &str) -> Answered {
        self.ask(Ask::form(path, form))
    }

    /// A user without HTTP, and a token.
    pub(in crate::api) fn user(&self, mobile: &str) -> (User, String) {
        let user = NewUser { mobile: mobile.to_owned(), password: "!".to_owned(), ..NewUser::default() };
        let user = self.memory.connect().people().create_user(&user).expect("memory").expect("a free mobile number");
        let token = self.token(user.id);
        (user, token)
    }

    pub(in crate::api) fn token(&self, user: UserId) -> String {
        self.key.issue(user, 0, Issuer::FastIm, clock::wall_ms() + TTL_MS)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        // Wakes the front.
        drop(TcpStream::connect(self.public));
        if let Some(front) = self.front.take() {
            let front = front.join();
            assert!(front.is_ok() || std::thread::panicking(), "the front panicked");
        }
        if let Some(api) = self.api.take() {
            api.stop(PATIENCE);
        }
        self.store.stop();
    }
}

/// No shard asks the store here.
struct NoShards;

impl Replies for NoShards {
    fn settle(&self, shard: ShardId, _: Vec<(u32, Reply)>) {
        panic!("{shard:?} asked nothing");
    }
}

/// Does what a shard's gate does with requests that are no upgrade.
fn hand_over(front: &TcpListener, plane: &dyn ControlPlane, closing: &AtomicBool) {
    for stream in front.incoming() {
        let Ok(mut stream) = stream else { return };
        let Ok(peer) = stream.peer_addr() else { continue };
        if closing.load(Ordering::Acquire) {
            return;
        }
        // The first byte only, so that the rest of the head comes from the socket.
        let mut first = [0];
        let Ok(n) = stream.read(&mut first) else { continue };
        stream.set_nonblocking(true).expect("a socket");
        let wire = Wire { socket: stream, tls: None };
        if let Err((mut refused, _)) = plane.serve(wire, first[..n].to_vec(), Peer::plain(peer.ip())) {
            let _ = refused.socket.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        }
    }
}

struct TestGate(Sender<(TcpStream, Vec<u8>)>);

impl Gate for TestGate {
    fn admit(&self, wire: Wire, read: Vec<u8>, _: Peer) -> Result<(), Wire> {
        self.0.try_send((wire.socket, read)).map_err(|refused| match refused {
            TrySendError::Full((socket, _)) | TrySendError::Disconnected((socket, _)) => Wire { socket, tls: None },
        })
    }
}

/// How the homes answer.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::api) enum Mood {
    /// By writing to the store.
    #[default]
    Willing,
    /// Their inbox is full.
    Full,
    /// They end without an answer.
    Gone,
    /// The inbox of one shard is full.
    FullAt(ShardId),
    /// They refuse everything.
    Refusing(Reject),
    /// One shard is stuck, the others say that they turn.
    Stuck(ShardId),
    /// They say of the next who is to leave that the group is that user's, and are willing then.
    Owned,
}

/// What is called with the answer to a notice.
type Then = Box<dyn FnOnce(Answer) + Send>;

/// The access to four shards.
pub(in crate::api) struct TestShards {
    memory: Memory,
    pub(in crate::api) notices: Mutex<Vec<(ShardId, Notice)>>,
    /// Who has read whose card.
    pub(in crate::api) introduced: Mutex<Vec<(ShardId, Notice)>>,
    /// What sessions are to load again.
    pub(in crate::api) hints: Mutex<Vec<(ShardId, Notice)>>,
    pub(in crate::api) mood: Mutex<Mood>,
    /// One that `/healthz` is told does not turn any more.
    pub(in crate::api) dead: Mutex<Option<ShardId>>,
    /// Of the shards that are stuck.
    unanswered: Mutex<Vec<Then>>,
    /// What was said in groups about them.
    lines: AtomicU64,
}

impl ShardAccess for TestShards {
    fn shards(&self) -> u16 {
        4
    }

    fn ask(&self, shard: ShardId, notice: Notice, then: Box<dyn FnOnce(Answer) + Send>) -> Result<(), Full> {
        let mood = *self.mood.lock();
        if notice == Notice::Hello {
            match mood {
                Mood::Full => return Err(Full),
                Mood::Gone => drop(then),
                Mood::Stuck(stuck) if stuck == shard => self.unanswered.lock().push(then),
                Mood::Willing | Mood::Refusing(_) | Mood::Stuck(_) | Mood::FullAt(_) | Mood::Owned => {
                    then(Answer::Done);
                }
            }
            return Ok(());
        }
        if matches!(notice, Notice::Introduced { .. }) {
            self.introduced.lock().push((shard, notice));
            then(Answer::Done);
            return Ok(());
        }
        if matches!(notice, Notice::Block { .. }) {
            then(Answer::Done);
            return Ok(());
        }
        if matches!(notice, Notice::Changed { .. } | Notice::GroupChanged { .. }) {
            self.hints.lock().push((shard, notice));
            then(Answer::Done);
            return Ok(());
        }
        if let Notice::Line { user, group, body } = &notice {
            let key = PostKey::Server { node: 0, boot: 1, counter: self.lines.fetch_add(1, Ordering::AcqRel) };
            let (conv, body) = (ConvId::Group(*group), Arc::clone(body));
            let line = Write::Line(NewMessage { conv, sender: *user, key, ts_ms: 1, body });
            self.memory.connect().commit(&[line]).expect("memory");
            then(Answer::Posted { stored: None, ts_ms: 1, dup: false });
            return Ok(());
        }
        if let Notice::Roster { from } = notice {
            // Of each shard ten places, in each of which another user is.
            let place = from / ROSTER_SLOTS;
            let user = UserId::new(u64::from(shard.0) * 10 + u64::from(place) + 1).expect("above 0");
            then(Answer::Roster { users: [user].into(), next: (place < 9).then_some(from + ROSTER_SLOTS) });
            return Ok(());
        }
        self.notices.lock().push((shard, notice.clone()));
        let write = match notice {
            Notice::Join { group, user } => Some(Write::Join { group, user }),
            Notice::Leave { group, user } => Some(Write::Leave { group, user }),
            Notice::LoggedOut { .. }
            | Notice::LoginEnded { .. }
            | Notice::Banned { .. }
            | Notice::MemberSeen { .. }
            | Notice::Announce { .. }
            | Notice::Sessions { .. }
            | Notice::EndSessions { .. }
            | Notice::Recall { .. } => None,
            Notice::Block { .. }
            | Notice::Introduced { .. }
            | Notice::Changed { .. }
            | Notice::GroupChanged { .. }
            | Notice::Line { .. }
            | Notice::Post { .. }
            | Notice::Online { .. }
            | Notice::Roster { .. }
            | Notice::Disconnect { .. }
            | Notice::Hello => {
                panic!("the API never says {notice:?} here")
            }
        };
        match mood {
            Mood::Full => return Err(Full),
            Mood::FullAt(full) if full == shard => return Err(Full),
            Mood::Stuck(_) => self.unanswered.lock().push(then),
            Mood::Gone => drop(then),
            Mood::Refusing(why) => then(Answer::Refused(why)),
            Mood::Owned if matches!(notice, Notice::Leave { .. }) => {
                *self.mood.lock() = Mood::Willing;
                then(Answer::OwnerStays);
            }
            Mood::Willing | Mood::FullAt(_) | Mood::Owned => {
                let written = write.map(|write| self.memory.connect().commit(&[write]).expect("memory").remove(0));
                let refused = matches!(written, Some(Written::Refused(_)));
                let as_before = matches!(
                    written,
                    Some(Written::Joined { already: true, .. } | Written::Left { was_member: false })
                );
                then(match notice {
                    _ if refused => Answer::Refused(Reject::NoSuchGroup),
                    Notice::Recall { seq, .. } => Answer::Recalled { seq: seq.next() },
                    Notice::Sessions { .. } => Answer::Sessions([session()].into()),
                    Notice::EndSessions { only, .. } => {
                        Answer::Ended { sessions: usize::from(only.is_none_or(|only| only == session().conn)) }
                    }
                    _ if as_before => Answer::AsBefore,
                    _ => Answer::Done,
                });
            }
        }
        Ok(())
    }
}

/// A page of another origin that may read what the API answers.
pub(in crate::api) const PAGE: &str = "https://page.example";

fn judge(key: &Key) -> Judge {
    let readers = Readers::parse([PAGE]).expect("an origin");
    Judge::new(key.clone(), Networks::loopback(), Origins::default()).with_readers(readers)
}

/// A request.
#[derive(Clone, Copy)]
pub(in crate::api) struct Ask<'a> {
    pub(in crate::api) method: &'a str,
    pub(in crate::api) target: &'a str,
    pub(in crate::api) headers: &'a [(&'a str, &'a str)],
    pub(in crate::api) body: &'a str,
}

impl<'a> Ask<'a> {
    pub(in crate::api) const fn get(target: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: "GET", target, headers, body: "" }
    }

    pub(in crate::api) const fn form(target: &'a str, body: &'a str) -> Self {
        Self { method: "POST", target, headers: &[FORM], body }
    }

    pub(in crate::api) fn text(&self) -> String {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if self.headers.iter().all(|(name, _)| *name != "Host") {
            text.push_str("Host: gate.example\r\n");
        }
        for (name, value) in self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text + "\r\n" + self.body
    }
}

/// The admin port of this machine answers to no other name.
pub(in crate::api) const LOCAL: (&str, &str) = ("Host", "localhost");
pub(in crate::api) const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// A response.
#[derive(Debug)]
pub(in crate::api) struct Answered {
    pub(in crate::api) status: u16,
    headers: Vec<(String, String)>,
    /// As text, what is none replaced.
    pub(in crate::api) body: String,
    pub(in crate::api) bytes: Vec<u8>,
}

impl Answered {
    pub(in crate::api) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body of a business answer: HTTP 200 and JSON, whatever became of it.
    pub(in crate::api) fn json(&self) -> &str {
        assert_eq!((self.status, self.header("content-type")), (200, Some("application/json")), "{self:?}");
        let parsed = serde_json::from_str::<serde_json::Value>(&self.body);
        assert!(parsed.is_ok(), "exactly one JSON document: {self:?}");
        &self.body
    }

    /// A value in the JSON, by JSON pointer.
    pub(in crate::api) fn at(&self, pointer: &str) -> serde_json::Value {
        let value: serde_json::Value = serde_json::from_str(self.json()).expect("checked above");
        value.pointer(pointer).cloned().unwrap_or_default()
    }
}

/// A connection.
pub(in crate::api) struct Client {
    pub(in crate::api) stream: BufReader<TcpStream>,
}

impl Client {
    pub(in crate::api) fn connect(to: SocketAddr) -> Self {
        Self::of(TcpStream::connect(to).expect("a listening port"))
    }

    /// From another address of this machine.
    #[cfg_attr(not(feature = "legacy"), expect(dead_code, reason = "for tests that speak through the old routes"))]
    pub(in crate::api) fn connect_from(from: [u8; 4], to: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((from, 0)).into()).expect("loopback");
        socket.connect(&to.into()).expect("a listening port");
        Self::of(socket.into())
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { stream: BufReader::new(stream) }
    }

    pub(in crate::api) fn ask(&mut self, request: Ask<'_>) -> Answered {
        self.send(request.text().as_bytes());
        self.answer()
    }

    pub(in crate::api) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("an open connection");
    }

    /// Reads one response.
    pub(in crate::api) fn answer(&mut self) -> Answered {
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.expect("a status line");
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut answered = Answered { status, headers, body: String::new(), bytes: Vec::new() };
        let length = answered.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the whole body");
        answered.body = String::from_utf8_lossy(&body).into_owned();
        answered.bytes = body;
        answered
    }

    /// Whether the server has ended the connection.
    pub(in crate::api) fn is_ended(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok([]))
            || self.stream.fill_buf().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

//! The client against a small server of this module, which fails as it is told;
//! `tests/e2e/objects.rs` has the same against a server that others have written.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::{Body, Frame};
use parking_lot::{Condvar, Mutex};
use percent_encoding::percent_decode_str;
use tokio::runtime::Runtime;

use super::*;
use crate::metrics::objects::ObjectOutcome;

/// Until a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ServerMood {
    /// As it should.
    Well,
    /// Not at all, until the mood is another one.
    Silent,
    /// 503 to so many requests, and well then.
    Failing(usize),
    /// 403 with that code.
    Refusing(&'static str),
    /// Well, and the connection is closed without a word.
    HangingUp,
    /// Well, and what is to be removed is there for a while yet.
    Tardy,
    /// With another piece of the file than was asked for.
    Wrong,
    /// Refuses what is put when its head has come, and reads no more of it.
    Hasty,
    /// Well, but what is put waits until the mood is another one, and is refused then.
    HoldingPuts,
    /// The next that is put is held, and the mood is `OneHeld` then.
    HoldingOne,
    /// Well, but the one that is held is refused when the mood is another one.
    OneHeld,
}

/// An object store in memory.
pub(crate) struct TestStore {
    pub(crate) port: u16,
    shared: Arc<SharedStore>,
}

struct SharedStore {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    mood: Mutex<ServerMood>,
    changed: Condvar,
    /// Method and name of each request.
    asked: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

struct TestRequest {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl TestStore {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(SharedStore {
            objects: Mutex::default(),
            mood: Mutex::new(ServerMood::Well),
            changed: Condvar::new(),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let of_all = Arc::clone(&shared);
        // Both end with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                of_all.connections.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(&of_all);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn target(&self) -> ObjectTarget {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        ObjectTarget::new("s3://chat/x", Some(&endpoint), "us-east-1", true, ("key", "secret")).expect("a target")
    }

    pub(crate) fn client(&self) -> ObjectStore {
        ObjectStore::new(self.target()).expect("a client")
    }

    pub(crate) fn mood(&self, mood: ServerMood) {
        *self.shared.mood.lock() = mood;
        self.shared.changed.notify_all();
    }

    /// The names of what is kept, without the prefix.
    pub(crate) fn names(&self) -> Vec<String> {
        self.shared.objects.lock().keys().filter_map(|key| key.strip_prefix("x/").map(str::to_owned)).collect()
    }

    pub(crate) fn insert(&self, name: &str, bytes: &[u8]) {
        self.shared.objects.lock().insert(format!("x/{name}"), bytes.to_vec());
    }

    pub(crate) fn remove(&self, name: &str) {
        self.shared.objects.lock().remove(&format!("x/{name}"));
    }

    /// Whether one that was put is held.
    pub(crate) fn holds_one(&self) -> bool {
        *self.shared.mood.lock() == ServerMood::OneHeld
    }

    /// Takes what was asked so far: method and name each.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.asked.lock())
    }
}

impl SharedStore {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        let mut writer = stream;
        while let Some(head) = TestRequest::head(&mut reader) {
            if head.method == "PUT" && *self.mood.lock() == ServerMood::Hasty {
                let _ = writer.write_all(b"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n");
                let mut mood = self.mood.lock();
                // Open, and without a reader, until the test is over.
                self.changed.wait_while(&mut mood, |_| true);
                return;
            }
            let Some(request) = head.with_body(&mut reader) else { return };
            self.asked.lock().push(request.shown());
            let mood = self.settled(request.method == "PUT");
            let (status, more, body) = self.answer(&request, mood);
            let is_head = request.method == "HEAD";
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n{more}\r\n", body.len());
            let sent = writer.write_all(head.as_bytes());
            if sent.and_then(|()| if is_head { Ok(()) } else { writer.write_all(&body) }).is_err() {
                return;
            }
            if mood == ServerMood::HangingUp {
                return;
            }
        }
    }

    /// The mood, when it is not silent.
    fn settled(&self, is_put: bool) -> ServerMood {
        let mut mood = self.mood.lock();
        if is_put && matches!(*mood, ServerMood::HoldingPuts | ServerMood::HoldingOne) {
            if *mood == ServerMood::HoldingOne {
                *mood = ServerMood::OneHeld;
            }
            let held = *mood;
            self.changed.wait_while(&mut mood, |mood| *mood == held);
            return ServerMood::Refusing("AccessDenied");
        }
        self.changed.wait_while(&mut mood, |mood| *mood == ServerMood::Silent);
        let now = *mood;
        if let ServerMood::Failing(times) = now {
            *mood = if times > 1 { ServerMood::Failing(times - 1) } else { ServerMood::Well };
        }
        now
    }

    fn answer(&self, request: &TestRequest, mood: ServerMood) -> (u16, String, Vec<u8>) {
        let error =
            |status, code: &str| (status, String::new(), format!("<Error><Code>{code}</Code></Error>").into_bytes());
        match mood {
            ServerMood::Failing(_) => return error(503, "SlowDown"),
            ServerMood::Refusing(code) => return error(403, code),
            _ => {}
        }
        if !request.query.contains_key("X-Amz-Signature") {
            return error(403, "AccessDenied");
        }
        let key = request.path.strip_prefix("/chat/").unwrap_or_default().to_owned();
        let mut objects = self.objects.lock();
        match request.method.as_str() {
            "PUT" => {
                let said = request.headers.get("x-amz-checksum-sha256").cloned().unwrap_or_default();
                if said != STANDARD.encode(Sha256::digest(&request.body)) {
                    return error(400, "BadDigest");
                }
                objects.insert(key, request.body.clone());
                (200, String::new(), Vec::new())
            }
            "DELETE" => {
                if mood == ServerMood::Tardy {
                    drop(objects);
                    std::thread::park_timeout(Duration::from_millis(20));
                    objects = self.objects.lock();
                }
                objects.remove(&key);
                (204, String::new(), Vec::new())
            }
            "GET" if request.query.contains_key("list-type") => {
                (200, String::new(), list(&objects, &request.query).into_bytes())
            }
            "HEAD" => {
                objects.get(&key).map_or((404, String::new(), Vec::new()), |all| (200, String::new(), all.clone()))
            }
            _ => {
                let Some(all) = objects.get(&key) else { return error(404, "NoSuchKey") };
                let range =
                    request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
                let (first, last) = range.expect("a range is always asked for");
                let first: usize = first.parse().expect("a number");
                let end = (last.parse::<usize>().expect("a number") + 1).min(all.len());
                let told = if mood == ServerMood::Wrong { first + 1 } else { first };
                let head = format!("Content-Range: bytes {told}-{}/{}\r\n", end - 1, all.len());
                (206, head, all[first..end].to_vec())
            }
        }
    }
}

fn list(objects: &BTreeMap<String, Vec<u8>>, query: &BTreeMap<String, String>) -> String {
    let (prefix, most) = (&query["prefix"], query["max-keys"].parse().expect("a number"));
    let after = query.get("start-after").map_or("", |after| after.as_str());
    let found = objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after).take(most);
    let rows = found.map(|(key, bytes)| format!("<Contents><Key>{key}</Key><Size>{}</Size></Contents>", bytes.len()));
    let rows: String = rows.collect();
    format!("<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{rows}</ListBucketResult>")
}

impl TestRequest {
    /// Method and path, and of a list what the names begin with.
    fn shown(&self) -> String {
        let prefix = self.query.get("prefix").and_then(|prefix| prefix.strip_prefix("x/"));
        let prefix = prefix.map(|prefix| format!(" {prefix}")).unwrap_or_default();
        format!("{} {}{prefix}", self.method, self.path)
    }

    fn head(reader: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let (path, query) = target.split_once('?')?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let query = query.split('&').filter_map(|part| part.split_once('='));
        let query = query.map(|(name, value)| (decoded(name), decoded(value))).collect();
        Some(Self { method, path: decoded(path), query, headers, body: Vec::new() })
    }

    fn with_body(mut self, reader: &mut BufReader<TcpStream>) -> Option<Self> {
        let length = self.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        self.body = vec![0; length];
        reader.read_exact(&mut self.body).ok()?;
        Some(self)
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Puts `bytes`.
async fn put(store: &ObjectStore, name: &str, bytes: &Bytes) -> Result<(), ObjectError> {
    let content = ObjectContent { len: bytes.len() as u64, sha256: Sha256::digest(bytes).into(), mime: "image/png" };
    let body = || Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync();
    store.put(name, content, &body).await
}

fn outcomes(store: &ObjectStore, operation: ObjectOperation) -> Vec<(&'static str, u64)> {
    let counts = store.counts().requests()[operation as usize];
    ObjectOutcome::LABELS.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
}

#[test]
fn an_object_goes_in_whole_and_comes_out_in_pieces() {
    let server = TestStore::start();
    let store = server.client();
    runtime().block_on(async {
        let bytes = Bytes::from_iter((0..2 * limits::OBJECT_CHUNK_BYTES + 7).map(|n| n as u8));
        put(&store, "ab/c d.png", &bytes).await.expect("it is put");
        let mut read = Vec::new();
        while let Some(piece) = store.read("ab/c d.png", read.len() as u64, usize::MAX).await.expect("it is there") {
            assert_eq!(piece.total, bytes.len() as u64);
            read.extend_from_slice(&piece.bytes);
            if read.len() == bytes.len() {
                break;
            }
        }
        assert_eq!(read, bytes);
        assert_eq!(store.length("ab/c d.png").await.expect("an answer"), Some(bytes.len() as u64));
        let listed = store.list("ab/", 5).await.expect("a list");
        assert_eq!(listed, [ListedObject { name: "ab/c d.png".to_owned(), bytes: bytes.len() as u64 }]);
        store.remove("ab/c d.png").await.expect("it is removed");
        store.remove("ab/c d.png").await.expect("it is gone already");
        assert_eq!(store.read("ab/c d.png", 0, 1).await.expect("an answer"), None);
        assert_eq!(store.length("ab/c d.png").await.expect("an answer"), None);
        assert_eq!(store.list("ab/", 5).await.expect("a list"), []);
        assert_eq!(store.counts().bytes(), [bytes.len() as u64; 2]);
    });
    assert_eq!(server.asked().iter().filter(|asked| asked.starts_with("GET /chat/x/ab/c d.png")).count(), 4);
    assert_eq!(server.shared.connections.load(Ordering::Relaxed), 1, "one connection served all of it");
}

#[test]
fn a_kept_connection_that_was_ended_is_no_failure() {
    let server = TestStore::start();
    let store = server.client();
    server.mood(ServerMood::HangingUp);
    runtime().block_on(async {
        for _ in 0..4 {
            assert_eq!(store.length("none").await.expect("an answer"), None);
        }
    });
    assert_eq!(outcomes(&store, ObjectOperation::Head), [("missing", 4)]);
}

#[test]
fn what_passes_is_tried_again_and_what_is_refused_is_not() {
    let server = TestStore::start();
    let store = server.client();
    runtime().block_on(async {
        server.mood(ServerMood::Failing(2));
        put(&store, "a", &Bytes::from_static(b"abc")).await.expect("the third try");
        assert_eq!(server.asked().len(), 3);
        server.mood(ServerMood::Failing(1));
        store.remove("b").await.expect_err("a removal is tried once");
        assert_eq!(server.asked().len(), 1);
        server.mood(ServerMood::Refusing("SignatureDoesNotMatch"));
        let why = put(&store, "a", &Bytes::from_static(b"abc")).await.expect_err("refused");
        assert!(why.is_refusal() && why.to_string().contains("s3_secret_key"), "{why}");
        assert_eq!(server.asked().len(), 1);
        assert!(!store.is_away(), "it answers");
        server.mood(ServerMood::Wrong);
        let why = store.read("a", 0, 2).await.expect_err("another piece");
        assert!(matches!(why, ObjectError::Nonsense(_)), "{why}");
    });
    assert_eq!(outcomes(&store, ObjectOperation::Put), [("done", 1), ("refused", 1)]);
}

#[test]
fn what_is_sent_is_what_was_promised() {
    let server = TestStore::start();
    let store = server.client();
    runtime().block_on(async {
        let content = ObjectContent { len: 3, sha256: Sha256::digest(b"abc").into(), mime: "image/png" };
        let body = || Full::new(Bytes::from_static(b"abd")).map_err(|never| match never {}).boxed_unsync();
        let why = store.put("a", content, &body).await.expect_err("another content");
        assert!(why.to_string().contains("BadDigest"), "{why}");
        assert_eq!(server.names(), [""; 0]);
    });
}

/// A body of so many zeros, a piece at a time.
struct Zeros(u64);

impl Body for Zeros {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
        let bytes = self.0.min(PIECE.len() as u64);
        self.0 -= bytes;
        Poll::Ready((bytes > 0).then(|| Ok(Frame::data(Bytes::from_static(&PIECE[..bytes as usize])))))
    }
}

#[test]
fn a_connection_whose_body_was_answered_too_early_serves_no_other_request() {
    let server = TestStore::start();
    let store = server.client();
    server.mood(ServerMood::Hasty);
    runtime().block_on(async {
        // More than fits between two ends that do not read.
        let content = ObjectContent { len: 64 << 20, sha256: [0; 32], mime: "image/png" };
        let why = store.put("a", content, &|| Zeros(content.len).boxed_unsync()).await.expect_err("refused");
        assert!(why.is_refusal(), "{why}");
        assert_eq!(store.length("a").await.expect("an answer"), None);
    });
    assert_eq!(server.shared.connections.load(Ordering::Relaxed), 2);
}

#[test]
fn a_store_that_stalls_is_given_up_in_time_and_comes_back() {
    let server = TestStore::start();
    let quick = ObjectDeadlines { answer_ms: 50, put_ms: 50, read_wait_ms: 50, write_wait_ms: 50 };
    let store = ObjectStore::with(server.target(), quick).expect("a client");
    server.mood(ServerMood::Silent);
    runtime().block_on(async {
        for _ in 0..limits::OBJECT_FAILURES_MAX {
            let why = store.length("a").await.expect_err("no answer");
            assert!(matches!(why, ObjectError::Late), "{why}");
        }
        assert!(store.is_away());
        // Its threads may hear of a question after the client has given it up.
        let hears = async {
            while server.shared.asked.lock().len() < 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, hears).await.expect("it is asked three times");
        let asked = server.asked().len();
        let why = store.length("a").await.expect_err("it is not asked");
        assert!(matches!(why, ObjectError::Away), "{why}");
        assert_eq!((asked, server.asked().len()), (3, 0));
        server.mood(ServerMood::Well);
        // It is tried again after a pause.
        let tried = async {
            while store.length("a").await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, tried).await.expect("it is tried again");
        assert!(!store.is_away() && store.counts().up());
    });
}

#[test]
fn more_requests_than_may_be_under_way_are_refused_and_disturb_none() {
    let server = TestStore::start();
    let quick = ObjectDeadlines { read_wait_ms: 50, ..ObjectDeadlines::default() };
    let store = Arc::new(ObjectStore::with(server.target(), quick).expect("a client"));
    server.mood(ServerMood::Silent);
    runtime().block_on(async {
        let ask = || {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.length("a").await })
        };
        let under_way: Vec<_> = (0..limits::OBJECT_READS_MAX).map(|_| ask()).collect();
        let why = ask().await.expect("a task").expect_err("too many");
        assert!(matches!(why, ObjectError::Busy), "{why}");
        // What is written does not wait for what is read.
        server.mood(ServerMood::Well);
        put(&store, "b", &Bytes::from_static(b"abc")).await.expect("it is put");
        for one in under_way {
            assert_eq!(one.await.expect("a task").expect("an answer"), None);
        }
    });
    assert!(server.shared.connections.load(Ordering::Relaxed) <= limits::OBJECT_READS_MAX + 1);
}

#[test]
fn lists_and_removals_do_not_wait_for_files_on_their_way_in() {
    let server = TestStore::start();
    let quick = ObjectDeadlines { write_wait_ms: 50, ..ObjectDeadlines::default() };
    let store = Arc::new(ObjectStore::with(server.target(), quick).expect("a client"));
    server.mood(ServerMood::HoldingPuts);
    runtime().block_on(async {
        let ask = || {
            let store = Arc::clone(&store);
            tokio::spawn(async move { put(&store, "a", &Bytes::from_static(b"abc")).await })
        };
        let under_way: Vec<_> = (0..limits::OBJECT_WRITES_MAX).map(|_| ask()).collect();
        let why = ask().await.expect("a task").expect_err("too many");
        assert!(matches!(why, ObjectError::Busy), "{why}");
        assert_eq!(store.list("", 1).await.expect("a list"), []);
        store.remove("b").await.expect("it is gone");
        server.mood(ServerMood::Well);
        for one in under_way {
            assert!(one.await.expect("a task").expect_err("refused").is_refusal());
        }
    });
}

#[test]
fn a_check_says_which_step_does_not_work_and_leaves_nothing() {
    let server = TestStore::start();
    ObjectStore::check_blocking(server.target()).expect("all is well");
    assert_eq!(server.names(), [""; 0]);
    server.mood(ServerMood::Refusing("NoSuchBucket"));
    let failed = ObjectStore::check_blocking(server.target()).expect_err("no bucket");
    let text = failed.to_string();
    assert!(
        failed.why.is_refusal() && text.contains("listing the bucket") && text.contains("s3://chat/x at"),
        "{text}"
    );
    // A port at which nothing listens.
    let gone = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let target = ObjectTarget::new("s3://chat", Some(&format!("http://{gone}")), "x", true, ("key", "sesame"));
    let failed = ObjectStore::check_blocking(target.expect("a target")).expect_err("nothing listens");
    assert!(!failed.why.is_refusal() && !failed.to_string().contains("sesame"), "{failed}");
}

#[test]
fn a_range_that_no_number_holds_is_another_piece() {
    let headers = [(CONTENT_RANGE, HeaderValue::from_static("bytes 0-18446744073709551615/5"))].into_iter().collect();
    let reply = Reply { status: 206, headers, body: Bytes::from_static(b"abcde") };
    assert!(matches!(piece(reply, 0, 5), Err(ObjectError::Nonsense(_))));
}

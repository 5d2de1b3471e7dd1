//! A private nats-server for tests: on a port of its own, gone with the process that asked for it.
//!
//! A shell stands between, as with MariaDB: it ends the server as soon as its standard input ends.
//! Needs Debian's `nats-server`; without it a test says so and is skipped, and with `CI` set it
//! fails.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Generous: two cores may run all test binaries together.
const PATIENCE: Duration = Duration::from_secs(30);
/// Ports tried; between choosing one and using it somebody else may take it.
const PORTS_TRIED: u32 = 5;

/// Ends the server when its own input ends.
const GUARDIAN: &str = r#"
"$@" </dev/null >/dev/null 2>&1 &
server=$!
echo "$server"
read -r line
kill -9 "$server" 2>/dev/null
wait "$server" 2>/dev/null
"#;

/// A running server.
pub(crate) struct Nats {
    program: PathBuf,
    port: u16,
    config: Option<PathBuf>,
    guardian: Option<Child>,
}

impl Nats {
    /// One for a test, or `None` where there is no nats-server.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// One with a file of its configuration: accounts, permissions, TLS.
    pub(crate) fn configured(config: PathBuf) -> Option<Self> {
        Self::start_with(Some(config))
    }

    fn start_with(config: Option<PathBuf>) -> Option<Self> {
        let Some(program) = program() else {
            let text = "nats-server is missing: please install nats-server (scripts/test.sh does)";
            assert!(std::env::var_os("CI").is_none(), "{text}");
            eprintln!("SKIPPED: {text}");
            return None;
        };
        for _ in 0..PORTS_TRIED {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
            let mut server = Self { program: program.clone(), port, config: config.clone(), guardian: None };
            if server.launch() {
                return Some(server);
            }
        }
        panic!("nats-server does not start");
    }

    /// `false`: it does not answer, most likely because the port was taken.
    fn launch(&mut self) -> bool {
        let mut guardian = Command::new("sh");
        guardian.args(["-c", GUARDIAN, "guardian"]).arg(&self.program);
        guardian.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(config) = &self.config {
            guardian.arg("-c").arg(config);
        }
        let mut guardian =
            guardian.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell for the server");
        let mut line = String::new();
        let said = BufReader::new(guardian.stdout.take().expect("its output")).read_line(&mut line);
        self.guardian = Some(guardian);
        assert!(said.is_ok_and(|bytes| bytes > 0), "the shell tells the server's id");
        let until = Instant::now() + PATIENCE;
        while self.dial().is_none() {
            if Instant::now() >= until {
                self.kill();
                return false;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        true
    }

    /// Kills the server as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut guardian) = self.guardian.take() {
            drop(guardian.stdin.take());
            guardian.wait().expect("the shell ends");
        }
    }

    /// Starts it again, on the same port.
    pub(crate) fn start_again(&mut self) {
        assert!(self.guardian.is_none(), "it was killed before");
        assert!(self.launch(), "nats-server does not start again");
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its URL with that scheme, for whoever has these credentials (`user:password`).
    pub(crate) fn url_of(&self, scheme: &str, credentials: &str) -> String {
        format!("{scheme}://{credentials}@127.0.0.1:{}", self.port)
    }

    /// A connection that has read the server's greeting.
    fn dial(&self) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut byte = [0];
        let mut line = Vec::new();
        while byte[0] != b'\n' {
            stream.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        line.starts_with(b"INFO ").then_some(stream)
    }

    /// A way to the server that can be made deaf. Its threads end with their connections, and with
    /// the process.
    pub(crate) fn relay(&self) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let relay = Relay { port, made: Arc::default(), hearing_from: Arc::default() };
        let (made, hearing_from, to) = (Arc::clone(&relay.made), Arc::clone(&relay.hearing_from), self.port);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let number = made.fetch_add(1, Ordering::SeqCst);
                let hearing_from = Arc::clone(&hearing_from);
                let copies = [&client, &server].map(|stream| stream.try_clone().expect("a copy"));
                thread::spawn(move || {
                    let [mut client, mut server] = copies;
                    let _ = std::io::copy(&mut client, &mut server);
                    let _ = server.shutdown(Shutdown::Both);
                });
                thread::spawn(move || {
                    let _ = pass_on(server, &client, || number >= hearing_from.load(Ordering::SeqCst));
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        relay
    }

    /// Somebody who has got access to the server, and nothing else.
    pub(crate) fn stranger(&self) -> Stranger {
        let mut stream = self.dial().expect("the server answers");
        stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB im.> 1\r\n").expect("a subscription");
        let mut stranger = Stranger { stream: BufReader::new(stream) };
        stranger.fence();
        stranger
    }
}

/// Stands between a gateway and the server: drops the messages of some connections, and passes
/// everything else.
pub(crate) struct Relay {
    port: u16,
    /// Connections so far.
    made: Arc<AtomicUsize>,
    /// Those before this one hear nothing.
    hearing_from: Arc<AtomicUsize>,
}

impl Relay {
    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// From now on the connections that there are bring nothing; those that are made later do.
    pub(crate) fn deafen(&self) {
        self.hearing_from.store(self.made.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// No connection brings anything, or each of them does.
    pub(crate) fn deafen_all(&self, deaf: bool) {
        self.hearing_from.store(if deaf { usize::MAX } else { 0 }, Ordering::SeqCst);
    }
}

/// What the server says to a connection, message by message, or without the messages.
fn pass_on(server: TcpStream, mut client: &TcpStream, hears: impl Fn() -> bool) -> std::io::Result<()> {
    let mut server = BufReader::new(server);
    loop {
        let mut said = Vec::new();
        if server.read_until(b'\n', &mut said)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&said).trim_end().to_owned();
        let is_message = line.starts_with("MSG ") || line.starts_with("HMSG ");
        if is_message {
            let length: usize = line.rsplit(' ').next().and_then(|length| length.parse().ok()).expect("a length");
            let head = said.len();
            said.resize(head + length + 2, 0);
            server.read_exact(&mut said[head..])?;
        }
        if !is_message || hears() {
            client.write_all(&said)?;
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// See [`Nats::stranger`].
pub(crate) struct Stranger {
    stream: BufReader<TcpStream>,
}

impl Stranger {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server speaks");
        line.trim_end().to_owned()
    }

    /// What was said before has reached the server.
    fn fence(&mut self) {
        self.stream.get_mut().write_all(b"PING\r\n").expect("a ping");
        while self.line() != "PONG" {}
    }

    /// The next message: subject and bytes.
    pub(crate) fn hear(&mut self) -> (String, Vec<u8>) {
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["MSG", subject, _, length] => {
                    let mut bytes = vec![0; length.parse::<usize>().expect("a length") + 2];
                    self.stream.read_exact(&mut bytes).expect("a message");
                    bytes.truncate(bytes.len() - 2);
                    return ((*subject).to_owned(), bytes);
                }
                ["PING"] => self.stream.get_mut().write_all(b"PONG\r\n").expect("a pong"),
                _ => {}
            }
        }
    }

    /// Says something.
    pub(crate) fn say(&mut self, subject: &str, bytes: &[u8]) {
        let mut message = format!("PUB {subject} {}\r\n", bytes.len()).into_bytes();
        message.extend_from_slice(bytes);
        message.extend_from_slice(b"\r\n");
        self.stream.get_mut().write_all(&message).expect("it is sent");
    }
}

/// The server, which may stand where only root looks.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    dirs.into_iter().map(|dir| dir.join("nats-server")).find(|program| program.is_file())
}

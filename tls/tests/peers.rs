//! Clients that others have written, over real sockets: OpenSSL, Python's `ssl`, and tlslite-ng.
//!
//! A client that is not installed is skipped, and says so; with `CI` set the test fails.
//! `scripts/test.sh` installs the first two. The last one comes from the package registry by `pip`,
//! once for each version, into the folder of the build.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use imgate_tls::limits::RECORD_WIRE_BYTES_MAX;
use imgate_tls::{Acceptor, End, Failure, KeyLife, Outgoing, Session, Step};
use support::Place;

/// How a connection ended, as its server saw it.
#[derive(Debug)]
enum Ended {
    /// Whether it was TLS 1.3 and resumed, and what ended it.
    Session {
        tls13: bool,
        resumed: bool,
        end: Option<End>,
    },
    Handshake(#[expect(dead_code, reason = "shown when a test fails")] Failure),
}

/// Answers every byte with itself, in `clients` connections one after another.
struct EchoServer {
    address: SocketAddr,
    thread: JoinHandle<Vec<Ended>>,
}

impl EchoServer {
    fn start(place: &Place, own_records: bool, clients: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let acceptor = place.acceptor(own_records);
        let thread = std::thread::spawn(move || {
            (0..clients).map(|_| serve(&acceptor, listener.accept().expect("it listens").0)).collect()
        });
        Self { address, thread }
    }

    fn ended(self) -> Vec<Ended> {
        self.thread.join().expect("the server has not panicked")
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

fn serve(acceptor: &Acceptor, mut stream: TcpStream) -> Ended {
    stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    let mut handshake = acceptor.accept().expect("it can begin");
    let mut buffer = vec![0; RECORD_WIRE_BYTES_MAX + 64 * 1024];
    let finished = loop {
        let step = handshake.step();
        stream.write_all(handshake.output()).expect("the client reads");
        let sent = handshake.output().len();
        handshake.sent(sent);
        match step {
            Step::More => {}
            Step::Failed(failure) => return Ended::Handshake(failure),
            Step::Done => break handshake.finish().expect("it is done"),
            Step::Wait => {
                let room = handshake.room();
                let read = stream.read(&mut buffer[..room]).expect("the client is there");
                if read == 0 {
                    return Ended::Handshake(Failure::Peer);
                }
                handshake.receive(&buffer[..read]);
            }
        }
    };
    let mut session = finished.session;
    let mut out = Outgoing::new(64 * 1024, KeyLife::default());
    let mut fresh = 0;
    let end = loop {
        let opened = session.open(&mut buffer, RECORD_WIRE_BYTES_MAX..RECORD_WIRE_BYTES_MAX + fresh, 1);
        let plain = buffer[opened.plain].to_vec();
        write(&mut stream, &mut session, &plain, &mut out);
        if opened.end.is_some() {
            session.close();
            write(&mut stream, &mut session, &[], &mut out);
            // Unread bytes would be answered by a reset, which takes the alert along.
            let _ = stream.shutdown(Shutdown::Write);
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
            break opened.end;
        }
        fresh = stream.read(&mut buffer[RECORD_WIRE_BYTES_MAX..]).unwrap_or(0);
        if fresh == 0 {
            break None;
        }
    };
    Ended::Session { tls13: finished.tls13, resumed: finished.resumed, end }
}

/// Writes as to a socket that is nearly full: 1,000 bytes at a time.
fn write(stream: &mut TcpStream, session: &mut Session, mut plain: &[u8], out: &mut Outgoing) {
    while !plain.is_empty() || session.wants_write() {
        let sealed = session.seal(plain, out);
        let piece = &sealed.bytes()[..sealed.bytes().len().min(1000)];
        // A client that was refused may be gone.
        let Ok(()) = stream.write_all(piece) else { return };
        let sent = piece.len();
        let refused = sealed.refused().is_some();
        plain = &plain[sealed.sent(sent)..];
        if refused {
            plain = &[];
        }
    }
}

fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("version").output().is_ok();
    if !found {
        skipped(&format!("there is no {program}"));
    }
    found
}

/// A client is missing; where everything has to be there, that is a failure.
fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
}

/// Runs `openssl s_client` with more arguments and `input`.
fn s_client(place: &Place, address: SocketAddr, more: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-no_ign_eof", "-servername", "localhost", "-verify_return_error", "-CAfile"])
        .arg(&place.certificate_file)
        .args(["-connect", &address.to_string()])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was found");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut stdout = child.stdout.take().expect("it is piped");
    stdin.write_all(input).expect("it reads");
    let mut heard = vec![0; input.len()];
    stdout.read_exact(&mut heard).expect("every byte comes back");
    drop(stdin);
    let mut output = child.wait_with_output().expect("it ends with its input");
    output.stdout = heard;
    output
}

#[test]
fn openssl_speaks_with_both_record_layers_in_every_suite() {
    if !is_there("openssl") {
        return;
    }
    let place = Place::new();
    let text: Vec<u8> = (0..4_000).flat_map(|line| format!("line {line} of what is said\n").into_bytes()).collect();
    for own_records in [true, false] {
        for arguments in [
            &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"][..],
            &["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"],
            &["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
        ] {
            let server = EchoServer::start(&place, own_records, 1);
            let output = s_client(&place, server.address, arguments, &text);
            assert!(output.stdout == text, "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            match server.ended()[..] {
                [Ended::Session { tls13, resumed: false, end: Some(End::Closed) | None }] => {
                    assert_eq!(tls13, arguments[0] == "-tls1_3");
                }
                ref other => panic!("{arguments:?}: {other:?}"),
            }
        }
    }
}

/// A line of `K` has s_client ask for a key update, one of `k` has it update its own alone; `R` has
/// it renegotiate.
#[test]
fn openssl_updates_its_keys_and_may_not_renegotiate() {
    if !is_there("openssl") {
        return;
    }
    let place = Place::new();
    let interactive = |more: &str, deeds: &[(&str, &str)]| {
        let server = EchoServer::start(&place, true, 1);
        // What it does is said on its standard error.
        let line = format!("exec openssl s_client -connect {} -servername localhost {more} 2>&1", server.address);
        let mut child = Command::new("sh")
            .args(["-c", &line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut stdin = child.stdin.take().expect("it is piped");
        let mut stdout = child.stdout.take().expect("it is piped");
        let mut heard = String::new();
        for (line, answer) in deeds {
            // It looks at the first letter of a read only, so each line waits for what it leads to.
            stdin.write_all(format!("{line}\n").as_bytes()).expect("it reads");
            let mut piece = [0; 4096];
            while !heard.contains(answer) {
                let read = stdout.read(&mut piece).expect("it writes");
                assert!(read > 0, "{answer:?} has not come: {heard}");
                heard.push_str(&String::from_utf8_lossy(&piece[..read]));
            }
            heard.clear();
        }
        // Unless the server has ended it, the end of the input does.
        drop(stdin);
        child.wait().expect("it ends");
        server.ended().remove(0)
    };
    let deeds = [
        ("one of it", "one of it"),
        ("K", "KEYUPDATE"),
        ("two of it", "two of it"),
        ("k", "KEYUPDATE"),
        ("three of it", "three of it"),
    ];
    let ended = interactive("-tls1_3", &deeds);
    assert!(matches!(ended, Ended::Session { end: Some(End::Closed) | None, .. }), "{ended:?}");
    let ended = interactive("-tls1_2", &[("one of it", "one of it"), ("R", "RENEGOTIATING")]);
    // OpenSSL obeys RFC 5746 and asks; what it gets is no_renegotiation and the end.
    assert!(
        matches!(ended, Ended::Session { end: Some(End::Refused(imgate_tls::Alert::NoRenegotiation)), .. }),
        "{ended:?}"
    );
}

#[test]
fn openssl_resumes_with_a_ticket() {
    if !is_there("openssl") {
        return;
    }
    let place = Place::new();
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let session = folder.path().join("session.pem");
    let session = session.to_str().expect("it is a text");
    for version in ["-tls1_3", "-tls1_2"] {
        let server = EchoServer::start(&place, true, 2);
        s_client(&place, server.address, &[version, "-sess_out", session], b"one\n");
        s_client(&place, server.address, &[version, "-sess_in", session], b"two\n");
        let ended = server.ended();
        assert!(
            matches!(ended[..], [Ended::Session { resumed: false, .. }, Ended::Session { resumed: true, .. }]),
            "{version}: {ended:?}"
        );
    }
}

#[test]
fn pythons_ssl_speaks_with_both_record_layers() {
    if !is_there("python3") {
        return;
    }
    let place = Place::new();
    for own_records in [true, false] {
        let server = EchoServer::start(&place, own_records, 2);
        run_python(Path::new(""), "echo.py", &server, &place.certificate_file, own_records);
        for ended in server.ended() {
            assert!(matches!(ended, Ended::Session { end: Some(End::Closed), .. }), "{ended:?}");
        }
    }
}

#[test]
fn hostile_records_of_tlslite_are_refused() {
    let packages = match tlslite() {
        Ok(packages) => packages,
        Err(why) => return skipped(&format!("tlslite-ng is missing, which python3 and pip bring: {why}")),
    };
    let place = Place::new();
    for own_records in [true, false] {
        let server = EchoServer::start(&place, own_records, TLSLITE_CLIENTS);
        run_python(&packages, "hostile.py", &server, &place.certificate_file, own_records);
        assert_eq!(server.ended().len(), TLSLITE_CLIENTS);
    }
}

/// Connections that `hostile.py` makes.
const TLSLITE_CLIENTS: usize = 18;

/// What `hostile.py` needs, each with its version.
const TLSLITE: [&str; 3] = ["tlslite-ng==0.8.2", "ecdsa==0.19.2", "six==1.17.0"];

/// Where its packages are, after they were installed.
fn tlslite() -> Result<PathBuf, String> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(TLSLITE.join("-").replace("==", "-"));
    if place.is_dir() {
        return Ok(place);
    }
    let fresh = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]);
    pip.args(["--only-binary", ":all:", "--root-user-action", "ignore", "--target"]).arg(fresh.path()).args(TLSLITE);
    let done = pip.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
    }
    // Another process may have been faster.
    match std::fs::rename(fresh.path(), &place) {
        Err(error) if !place.is_dir() => Err(error.to_string()),
        _ => Ok(place),
    }
}

/// Runs a script of this folder, with more Python packages; it fails if what it sees is wrong.
fn run_python(packages: &Path, script: &str, server: &EchoServer, certificate: &Path, own_records: bool) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
    let output = Command::new("python3")
        .env("PYTHONPATH", packages)
        .arg(script)
        .arg(server.address.port().to_string())
        .arg(certificate)
        .arg(if own_records { "own" } else { "rustls" })
        .output()
        .expect("it was found");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

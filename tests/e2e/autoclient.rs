//! `autoclient` against real gateways. With `--compress` messages come compressed and are judged like any others, and what is
//! damaged on the way is found; with several targets pairs talk across gateways.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use imgate::auth::Issuer;
use imgate::node::Tuning;
use serde_json::Value;

use crate::support::{Gateway, exchange};

/// Users: two pairs.
const USERS: u64 = 4;

/// The program, which a build of the workspace puts beside the gateway's. Without it, so the test says, it is skipped.
pub(crate) fn program() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_imgate")).with_file_name("autoclient");
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is not built", path.display());
        eprintln!("SKIPPED: {} is not built: `cargo test --workspace --bins` does it", path.display());
        return None;
    }
    Some(path)
}

/// A run of `direct` against an address. The exit code, the report, and what was said.
fn run(program: &Path, gateway: &Gateway, target: SocketAddr, more: &[&str]) -> (Option<i32>, Value, String) {
    run_at(program, gateway, &target.to_string(), &[more, &["--compress"]].concat())
}

pub(crate) fn run_at(program: &Path, gateway: &Gateway, targets: &str, more: &[&str]) -> (Option<i32>, Value, String) {
    let tokens = gateway.data().join("tokens");
    let lines: String = (1..=USERS).map(|user| format!("{user} {}\n", gateway.token(user, Issuer::Own))).collect();
    std::fs::write(&tokens, lines).expect("tokens");
    let mut command = Command::new(program);
    command.args(["direct", "--pairs", "2", "--rate", "40", "--seconds", "1", "--drain", "20", "--payload", "1500"]);
    command.args(["--p99-ms", "inf", "--lag-ms", "inf", "--metrics", "off", "--json", "--tokens"]).arg(tokens);
    let output = command.args(more).arg("--target").arg(targets).output().expect("autoclient runs");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), report, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn sample(gateway: &Gateway, name: &str) -> f64 {
    let page = exchange(gateway.admin(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn compressed_messages_arrive_once_and_in_order() {
    let Some(program) = program() else { return };
    let gateway = Gateway::start_with(2, USERS, &[("compression", "on")], Tuning::default());
    let (code, report, said) = run(&program, &gateway, gateway.address(), &[]);
    assert_eq!(code, Some(0), "{said} {report}");
    let count = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key}: {report}"));
    assert_eq!((count("acked"), count("delivered"), count("lost")), (80, 80, 0), "{report}");
    // Every delivery is long enough; an ack is not.
    assert_eq!(count("compressed_messages"), 80, "{report}");
    assert!(count("inflated_bytes") > 80 * 1500 && count("compressed_bytes") * 4 < count("inflated_bytes"), "{report}");
    assert_eq!(sample(&gateway, "imgate_compressed_messages_total{outcome=\"shorter\"}"), 80.0);
    let (plain, compressed) = (
        sample(&gateway, "imgate_compressed_bytes_total{form=\"plain\"}"),
        sample(&gateway, "imgate_compressed_bytes_total{form=\"compressed\"}"),
    );
    assert_eq!((plain as u64, compressed as u64), (count("inflated_bytes"), count("compressed_bytes")), "{report}");
}

#[test]
fn a_gateway_that_does_not_compress_is_no_result() {
    let Some(program) = program() else { return };
    let gateway = Gateway::start(2, USERS);
    let (code, _, said) = run(&program, &gateway, gateway.address(), &[]);
    assert!(code == Some(2) && said.contains("the server does not compress"), "{code:?}: {said}");
}

#[test]
fn a_compressed_message_that_is_damaged_on_its_way_is_found() {
    let Some(program) = program() else { return };
    let gateway = Gateway::start_with(2, USERS, &[("compression", "on")], Tuning::default());
    let (code, report, said) =
        run(&program, &gateway, damaging(gateway.address()), &["--sources", "0", "--drain", "3"]);
    assert_eq!(code, Some(1), "{said} {report}");
    assert!(report["dropped"].as_u64() >= Some(1), "{report}");
    assert!(report["troubles"].to_string().contains("a compressed message that is none"), "{report}");
}

/// Something between client and gateway that damages the first compressed message of each connection.
fn damaging(gateway: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(gateway).expect("the gateway accepts");
            let (up, down) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            thread::spawn(move || {
                let (mut up, mut server) = (up, server);
                // Either may go.
                let _ = std::io::copy(&mut up, &mut server);
                let _ = server.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let _ = damage(BufReader::new(down), &client);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

/// Passes on what a gateway says, but for the first byte of the first frame that has the bit of RFC 7692.
fn damage(mut from: impl Read, mut to: &TcpStream) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    to.write_all(&head)?;
    let mut done = false;
    loop {
        let mut frame = vec![0; 2];
        from.read_exact(&mut frame)?;
        let (first, mut length) = (frame[0], usize::from(frame[1]));
        if let wide @ 1.. = [0, 2, 8][length.saturating_sub(125).min(2)] {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes[8 - wide..])?;
            frame.extend_from_slice(&bytes[8 - wide..]);
            length = u64::from_be_bytes(bytes) as usize;
        }
        let place = frame.len();
        frame.resize(place + length, 0);
        from.read_exact(&mut frame[place..])?;
        if first & 0x40 != 0 && !std::mem::replace(&mut done, true) {
            // Three bits that begin no block there is (RFC 1951, section 3.2.3).
            frame[place] = 0xff;
        }
        to.write_all(&frame)?;
    }
}

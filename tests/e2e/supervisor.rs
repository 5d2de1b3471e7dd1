//! A supervisor (systemd) is told what it wants to know, by a fake `NOTIFY_SOCKET`; and the unit that is shipped is valid.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::Process;
use crate::support::PATIENCE;

/// The next datagram that is no sign of life, and how many of those came before it.
fn told(socket: &UnixDatagram) -> (String, usize) {
    let mut signs = 0;
    let until = Instant::now() + PATIENCE;
    loop {
        let mut taken = [0; 1024];
        let len = socket.recv(&mut taken).expect("the supervisor is told something");
        let text = String::from_utf8_lossy(&taken[..len]).into_owned();
        if text != "WATCHDOG=1" {
            return (text, signs);
        }
        signs += 1;
        assert!(Instant::now() < until, "nothing but signs of life");
    }
}

#[test]
fn a_supervisor_hears_of_start_life_reload_and_stop() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut process = Process::launch(command, &folder.path().join("data"));
    let states = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    // Signs of life may come a moment before it is ready.
    assert_eq!(states(&told(&socket).0), ["READY=1", "STATUS=serving"]);
    let mut signs = 0;
    while signs < 3 {
        let mut taken = [0; 64];
        let len = socket.recv(&mut taken).expect("signs of life");
        assert_eq!(&taken[..len], b"WATCHDOG=1");
        signs += 1;
    }
    let asked_us = imgate::clock::system_monotonic_us();
    process.signal(Signal::HUP);
    // In one datagram, with a time between the request and now: systemd waits for it (`Type=notify-reload`).
    let reloading = states(&told(&socket).0);
    let at_us = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
    assert_eq!(reloading[0], "RELOADING=1");
    assert!(
        at_us.is_some_and(|at_us| (asked_us..=imgate::clock::system_monotonic_us()).contains(&at_us)),
        "{reloading:?}"
    );
    assert_eq!(states(&told(&socket).0), ["READY=1", "STATUS=serving"]);
    process.signal(Signal::TERM);
    assert_eq!(states(&told(&socket).0), ["STOPPING=1", "STATUS=stopping"]);
    let (last, _) = told(&socket);
    assert!(last.starts_with("STATUS=0 of 0 connections closed") && last.contains("the store has finished"), "{last}");
    assert_eq!(process.ended(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn who_is_not_watched_shows_no_life() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000").env("WATCHDOG_PID", "1");
    let process = Process::launch(command, &folder.path().join("data"));
    assert_eq!(told(&socket), ("READY=1\nSTATUS=serving".to_owned(), 0), "another process is watched");
    process.signal(Signal::TERM);
    assert_eq!(told(&socket).1, 0, "so this one never shows life");
}

#[test]
fn the_unit_is_valid() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("sysctl/imgate.service");
    let text = std::fs::read_to_string(&unit).expect("the unit");
    let folder = tempfile::tempdir().expect("a temporary directory");
    // Verified are also the programs that it names, which are not installed here.
    let here = text.replace("/usr/local/bin/imgate", env!("CARGO_BIN_EXE_imgate"));
    let copy = folder.path().join("imgate.service");
    std::fs::write(&copy, here).expect("a copy");
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output();
    match verified {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let about_us: Vec<&str> = said.lines().filter(|line| line.contains("imgate.service")).collect();
            assert!(about_us.is_empty(), "{about_us:#?}");
        }
        // Without systemd: at least what the tests above rely on.
        Err(_) => eprintln!("skipped: systemd-analyze is not here"),
    }
    for line in ["Type=notify", "WatchdogSec=30", "ExecReload=/bin/kill -HUP $MAINPID", "NoNewPrivileges=yes"] {
        assert!(text.lines().any(|other| other == line), "{line}");
    }
    let number = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("a number: {key}"))
    };
    assert!(
        number("TimeoutStopSec") * 1000 > imgate::limits::DRAIN_DEADLINE_MS_DEFAULT + 2_000,
        "a stop may end by itself"
    );
    assert!(number("LimitNOFILE") > 1_000_000, "a million connections");
}

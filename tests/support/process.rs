//! The real binary as a process of a test's own.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::PATIENCE;

/// The binary as a process; killed when the test ends early.
pub(crate) struct Process {
    child: Child,
    /// The lines of its log that were not asked for yet.
    log: Receiver<String>,
    /// Those of before it listened.
    pub(crate) beginning: Vec<String>,
    /// The public address.
    pub(crate) address: SocketAddr,
    /// All public addresses, those with TLS last.
    pub(crate) listening: Vec<SocketAddr>,
    /// The admin address.
    pub(crate) admin: SocketAddr,
}

impl Process {
    /// Starts it on `data`.
    pub(crate) fn start(data: &Path) -> Self {
        Self::launch(Command::new(env!("CARGO_BIN_EXE_imgate")), data)
    }

    /// With so many descriptors and no more.
    pub(crate) fn start_short_of_descriptors(data: &Path, descriptors: u32) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_imgate")]);
        Self::launch(command, data)
    }

    /// Starts it as `command` does, which passes on what it is given.
    pub(crate) fn launch(mut command: Command, data: &Path) -> Self {
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--data"]).arg(data);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = BufReader::new(child.stderr.take().expect("its log"));
        let (tell, told) = crossbeam_channel::bounded(64);
        // Reads on for as long as the process lives, so that its log never blocks it.
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                // Who has heard enough does not take any more.
                let _ = tell.try_send(line);
            }
        });
        // From here on it ends with this, also when it never says where it listens.
        let mut process = Self {
            child,
            log: told,
            beginning: Vec::new(),
            address: SocketAddr::from(([0; 4], 0)),
            listening: Vec::new(),
            admin: SocketAddr::from(([0; 4], 0)),
        };
        process.hear();
        process
    }

    /// Waits until it has said where it listens.
    fn hear(&mut self) {
        let until = Instant::now() + PATIENCE;
        let (mut listening, mut beginning): (Vec<SocketAddr>, Vec<String>) = Default::default();
        let admin = loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).expect("it says where it listens");
            let address = || {
                let address = line.split_once("address=").and_then(|(_, rest)| rest.split(' ').next());
                address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("an address: {line}"))
            };
            if line.contains("listening") {
                listening.push(address());
            } else if line.contains(" admin ") {
                break address();
            } else {
                beginning.push(line);
            }
        };
        self.address = *listening.first().expect("it listens before it says where its admin port is");
        (self.beginning, self.listening, self.admin) = (beginning, listening, admin);
    }

    /// Waits for a line of its log that holds `words`.
    pub(crate) fn says(&self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|_| panic!("it does not say `{words}`"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The lines of its log up to one that holds `words`. Of more than it has room for some are lost, perhaps that one.
    pub(crate) fn lines_until(&self, words: &str) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else { panic!("it does not say `{words}`, but {lines:#?}") };
            let is_last = line.contains(words);
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
    }

    /// Has it stand still, and waits until each of its threads does.
    pub(crate) fn stands_still(&self) {
        self.signal(Signal::STOP);
        let stands = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        let tasks = || fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs").flatten();
        while !tasks().all(stands) {
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < until, "the process still runs after {within:?}");
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, in the good case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

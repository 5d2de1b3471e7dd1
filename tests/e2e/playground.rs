//! `scripts/cluster.sh`: one command makes several gateways with all that they need, and takes all of it away again.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Client, PATIENCE, exchange, history};

/// What the start may take: a database is made from nothing, and a package is fetched, perhaps.
const START: Duration = Duration::from_secs(180);

/// Lines of the script that wait to be read.
const LINES_MAX: usize = 1024;

/// The script while it runs.
struct Playground {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// What it has said of each part.
    said: HashMap<String, String>,
}

impl Playground {
    /// `None`: this machine has not what it needs.
    fn start(folder: &Path) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cluster.sh");
        let mut command = Command::new(script);
        command.env("IMGATE", env!("CARGO_BIN_EXE_imgate")).env("TMPDIR", folder).args(["2", "--", "--shards", "2"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the script starts");
        let (input, output) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        let mut errors = child.stderr.take().expect("its errors");
        let (tell, lines) = crossbeam_channel::bounded(LINES_MAX);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        let mut playground = Self { child, input, lines, said: HashMap::new() };
        let until = Instant::now() + START;
        while !playground.said.contains_key("ready") {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = playground.lines.recv_timeout(left) else {
                let _ = playground.child.kill();
                let errors = errors.join().expect("a thread");
                assert!(errors.contains("please install") && std::env::var_os("CI").is_none(), "{errors}");
                eprintln!("SKIPPED: {errors}");
                return None;
            };
            let (name, rest) = line.split_once(' ').expect("a name, and what it is");
            playground.said.insert(name.to_owned(), rest.trim().to_owned());
        }
        Some(playground)
    }

    /// The address behind `word` of a part.
    fn address(&self, part: &str, word: &str) -> Option<SocketAddr> {
        let rest = self.said.get(part)?.split_once(word)?.1.trim().strip_prefix("http://")?;
        Some(rest.split('/').next().expect("a part").parse().expect("an address"))
    }

    fn token(&self, user: usize) -> String {
        let path = self.said["tokens"].split(' ').next().expect("a path");
        let tokens = std::fs::read_to_string(path).expect("the tokens");
        tokens.lines().nth(user - 1).and_then(|line| line.split_once(' ')).expect("a token").1.to_owned()
    }

    fn sessions(&self, gateway: &str) -> f64 {
        let admin = self.address(gateway, "metrics").expect("an address");
        let page =
            exchange(admin, format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes());
        let of =
            page.lines().filter(|line| line.starts_with("imgate_sessions{") || line.starts_with("imgate_sessions "));
        of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Gives it a command and waits for its word.
    fn tell(&mut self, command: &str, word: &str) {
        writeln!(self.input, "{command}").expect("it listens");
        while !self.lines.recv_timeout(PATIENCE).expect("it answers").contains(word) {}
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        // It has ended, in the good case; or else it ends what it has started.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn one_command_makes_gateways_behind_a_balancer_and_takes_them_away_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut playground) = Playground::start(folder.path()) else { return };
    let both = ["gateway-1", "gateway-2"];
    let [one, two] = both.map(|name| playground.address(name, "").expect("an address"));
    // Without a balancer on this machine the gateways are asked themselves.
    let balancer = playground.address("balancer", "");
    let [to_first, to_second] = balancer.map_or([one, two], |balancer| [balancer; 2]);
    let (mut a, mut b) = (Client::v2(to_first, &playground.token(1)), Client::v2(to_second, &playground.token(2)));
    assert_eq!(both.map(|name| playground.sessions(name)), [1.0, 1.0], "the balancer takes turns");
    a.say_acked(10, 2, "c1", "through another gateway");
    assert_eq!(b.wait_for(10)["content"], "through another gateway");

    playground.tell("kill gateway-2", "gateway-2 killed");
    let to = balancer.unwrap_or(one);
    let mut again = Client::v2(to, &playground.token(2));
    again.say_acked(10, 1, "c2", "from where there is one");
    playground.tell("start gateway-2", "gateway-2 started");
    assert_eq!(playground.address("gateway-2", ""), Some(two));
    assert_eq!(history(two, &playground.token(1), 10, 2).len(), 2);

    // As Ctrl-C; a shell that was started in the background may be deaf to that, and is told otherwise.
    for signal in [Signal::INT, Signal::TERM] {
        kill_process(Pid::from_child(&playground.child), signal).expect("it runs");
    }
    let status = playground.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
    let ours = folder.path().to_string_lossy().into_owned();
    for process in std::fs::read_dir("/proc").expect("processes").filter_map(Result::ok) {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(&ours), "{process:?} is left");
    }
}

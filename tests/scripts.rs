//! `scripts/`: what they do before and around the long work, for which they need neither a network nor a build.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const HOST: &str = include_str!("../scripts/guest/host.sh");
const MILLION: &str = include_str!("../scripts/million.sh");

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// A program of so many lines of shell in `folder`.
fn program(folder: &Path, name: &str, lines: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a file");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
}

/// A number in a source: what stands behind `before`.
fn number(text: &str, before: &str) -> u64 {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before}"));
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '_').filter(|c| *c != '_').collect();
    digits.parse().unwrap_or_else(|error| panic!("{before}: {error}"))
}

/// Where one says that memory is enough, the other one must not see it run out.
#[test]
fn a_pair_of_sockets_weighs_the_same_wherever_it_is_reckoned() {
    let end = number(include_str!("../src/doctor.rs"), "const KERNEL_BYTES_EACH: u64 = ");
    let pair = number(MILLION, "\nbytes_per_pair=");
    assert_eq!(pair, 2 * end);
    let guest_kib = number(HOST, "mib=$((600 + connections * ");
    assert!(guest_kib * 1024 >= pair, "{guest_kib} KB in the guest");
    let measured = include_str!("../docs/capacity.md");
    assert!(measured.contains("| kernel slab for each pair of sockets, at its peak | 9.5 KB | 9.2 KB |"), "below it");
    assert!(MILLION.contains("imgate\" doctor --target-connections"), "what else a machine lacks the doctor knows");
}

/// The SDK's tests come after half an hour of others.
#[test]
fn a_node_that_is_too_old_is_told_before_anything_else_is_done() {
    let folder = tempfile::tempdir().expect("a directory");
    let needed = "cc make mariadbd nats-server npm chromium python3 pip3 openssl";
    needed.split(' ').for_each(|name| program(folder.path(), name, "exit 0"));
    program(folder.path(), "node", "echo v18.19.0");
    // What comes next has an end, too.
    program(folder.path(), "cargo", "echo cargo was asked >&2; exit 3");
    let run = |node: &str| {
        program(folder.path(), "node", &format!("echo {node}"));
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let output = Command::new("bash").arg(scripts().join("test.sh")).env("PATH", path).output().expect("bash runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for old in ["v18.19.0", "v9.1.0"] {
        let (code, told) = run(old);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(old) && told.contains("Node 20 or newer") && told.contains("nodejs.org"), "{told}");
        assert!(!told.contains("cargo"), "nothing was begun: {told}");
    }
    for new in ["v20.0.0", "v121.3.1-nightly"] {
        let (code, told) = run(new);
        assert!(code == Some(3) && told.contains("cargo was asked"), "{new}: {code:?} {told}");
    }
}

/// A piece of the script, with a kernel that sleeps.
#[test]
fn the_end_of_a_guests_script_ends_its_kernel() {
    let folder = tempfile::tempdir().expect("a directory");
    let (_, piece) = HOST.split_once("\n# A kernel with a first file system.").expect("`boot` is there");
    let (piece, _) = piece.split_once("\npack()").expect("its end is there");
    // It holds the output of the script open for as long as it lives, as does what it has started.
    program(folder.path(), "kernel", "sleep 40 >&9 &\necho $$ >\"$HOME/runs\"\nexec sleep 40 >&9");
    let script = format!(
        "set -euo pipefail; place=$1 folder=$1 guest=; exec 9>&1\n# {piece}\n\
         launch \"$folder/words\" \"$folder/kernel\" root 60\n\
         until [[ -s \"$folder/runs\" ]]; do sleep 0.05; done\n"
    );
    let began = Instant::now();
    for end in ["kill -KILL -- \"-$guest\"", "kill -KILL \"$(cat \"$folder/runs\")\"; until_over; echo over"] {
        let _ = fs::remove_file(folder.path().join("runs"));
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{script}{end}"), "bash"]).arg(folder.path()).stderr(Stdio::null());
        let output = command.output().expect("bash runs");
        assert!(output.status.success(), "{output:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "something was left running by {end}");
    }
}

/// A piece that nearly all of them end with. Its child takes a moment to end, and writes into the folder until then.
#[test]
fn a_second_signal_leaves_nothing_of_a_script_behind() {
    let script = r#"
        set -euo pipefail
        . "$1/ending.sh"
        dir="$2/work" child=""
        mkdir "$dir"
        top="$2"
        clean_up() { touch "$top/begun"; end_processes 20 $child; rm -rf "$dir"; echo "$child" >"$top/cleaned"; }
        at_end clean_up
        bash -c 'trap "for n in 1 2 3 4 5; do touch $0/\$n; sleep 0.01; done; exit" TERM; touch "$0/runs"; while :; do sleep 0.01; done' "$dir" &
        child=$!
        until [[ -e "$dir/runs" ]]; do sleep 0.01; done
        touch "$2/ready"
        while :; do sleep 0.01; done"#;
    let (int, term) = (Signal::INT, Signal::TERM);
    for (signals, at_once) in [([int, int], false), ([int, term], false), ([term, term], false), ([int, term], true)] {
        let folder = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash"]).arg(scripts()).arg(folder.path());
        let mut bash = command.spawn().expect("bash runs");
        let until = Instant::now() + Duration::from_secs(30);
        let pid = Pid::from_child(&bash);
        let mut until_there = |name: &str| {
            while !folder.path().join(name).exists() {
                assert!(Instant::now() < until && bash.try_wait().expect("it is ours").is_none(), "no {name}");
            }
        };
        until_there("ready");
        kill_process(pid, signals[0]).expect("it runs");
        if !at_once {
            until_there("begun");
        }
        kill_process(pid, signals[1]).expect("it runs");
        assert_eq!(bash.wait().expect("it ends").code(), Some(130), "{signals:?}");
        assert!(!folder.path().join("work").exists(), "{signals:?}: its folder is left");
        let child = fs::read_to_string(folder.path().join("cleaned")).expect("it has cleaned up to the end");
        assert!(!Path::new("/proc").join(child.trim()).exists(), "{signals:?}: its child is left");
    }
    let folders = [scripts(), scripts().join("guest")];
    for entry in folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a directory")) {
        let path = entry.expect("an entry").path();
        let is_other = path.is_dir() || path.ends_with("ending.sh");
        let text = if is_other { String::new() } else { fs::read_to_string(&path).expect("a script") };
        assert!(!text.lines().any(|line| line.trim_end().ends_with(" EXIT")), "{}: at_end it is", path.display());
    }
}

/// Commands of a script that `timeout` runs in the foreground, but in a process group of their own: the terminal's
/// Ctrl-C does not reach them, and a shell with a trap waits for their end.
fn deaf(script: &str) -> Vec<String> {
    let joined = script.replace("\\\n", " ");
    let is_begun = |rest: &str| rest.starts_with(['-', '"', '$']) || rest.starts_with(|c: char| c.is_ascii_digit());
    let is_deaf = |line: &&str| {
        let (before, rest) = line.split_once("timeout ").unwrap_or(("#", ""));
        let begun = is_begun(rest) && before.chars().next_back().is_none_or(|c| c.is_whitespace() || c == '(');
        begun
            && !line.trim_start().starts_with('#')
            && !line.contains("--foreground")
            && !line.trim_end().ends_with('&')
    };
    joined.lines().filter(is_deaf).map(str::to_owned).collect()
}

#[test]
fn ctrl_c_reaches_what_scripts_wait_for() {
    let (mut seen, mut folders) = (0, vec![scripts()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let text = fs::read_to_string(&entry).expect("a script");
                assert_eq!(deaf(&text), Vec::<String>::new(), "{}", entry.display());
                seen += text.matches("timeout --foreground ").count();
            }
        }
    }
    assert!(seen >= 3, "only {seen} were found");
    assert_eq!(deaf("X=1 timeout 5 \\\n  program\n  timeout -k 3 $((n + 1)) b | c").len(), 2);
    assert_eq!(
        deaf("timeout --foreground 5 a\ntimeout 5 a \\\n  b &\n# timeout 5 a\n  timeout connect 2s\n read_timeout 5s")
            .len(),
        0
    );
}

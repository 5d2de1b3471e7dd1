//! `sysctl/apply` and `sysctl/check` against a tree of files: what is larger is never lowered.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CONF: &str = include_str!("../sysctl/99-imgate.conf");

/// The settings of the file, without the sign of those that may be missing.
fn wanted() -> BTreeMap<&'static str, &'static str> {
    let lines = CONF.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(" = ").map(|(key, value)| (key.trim_start_matches('-'), value)).expect(line))
        .collect()
}

struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    /// A kernel with these values.
    fn of(values: &BTreeMap<&str, &str>) -> Self {
        let tree = Self { folder: tempfile::tempdir().expect("a directory") };
        for (key, value) in values {
            let path = tree.path(key);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a directory");
            fs::write(path, format!("{}\n", value.replace(' ', "\t"))).expect("a file");
        }
        tree
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join("sys").join(key.replace('.', "/"))
    }

    fn value(&self, key: &str) -> String {
        let text = fs::read_to_string(self.path(key)).expect("a setting");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("99-imgate.conf")
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sysctl").join(script);
        let mut command = Command::new("bash");
        command.arg(script).args(arguments);
        command.env("IMGATE_PROC_SYS", self.folder.path().join("sys")).env("IMGATE_SYSCTL_TARGET", self.target());
        command.output().expect("bash runs")
    }
}

#[test]
fn apply_raises_what_is_smaller_and_never_lowers_what_is_larger() {
    let mut values = wanted();
    values.insert("fs.file-max", "9223372036854775807");
    values.insert("net.core.somaxconn", "128");
    values.insert("net.ipv4.tcp_mem", "94335 125780 9999999");
    values.insert("net.ipv4.tcp_rmem", "4096 131072 6291456");
    values.remove("net.netfilter.nf_conntrack_max");
    let tree = Tree::of(&values);
    let dry = tree.run("apply", &["--dry-run"]);
    assert!(dry.status.success(), "{dry:?}");
    assert_eq!(
        (tree.value("net.core.somaxconn"), tree.target().exists()),
        ("128".to_owned(), false),
        "nothing is done"
    );
    let done = tree.run("apply", &[]);
    assert!(done.status.success(), "{done:?}");
    for (key, value) in [
        ("fs.file-max", "9223372036854775807"),
        ("net.core.somaxconn", "65535"),
        ("net.ipv4.tcp_mem", "799152 1065536 9999999"),
        ("net.ipv4.tcp_rmem", "4096 16384 4194304"),
    ] {
        assert_eq!(tree.value(key), value, "{key}");
    }
    let installed = fs::read_to_string(tree.target()).expect("it is installed");
    assert!(installed.contains("net.ipv4.tcp_mem = 799152 1065536 9999999\n"), "{installed}");
    for left in ["fs.file-max", "nf_conntrack_max"] {
        assert!(!installed.contains(left), "at the next start it would be lowered: {installed}");
    }
}

/// The second run finds what the first one has set, and must not take it for the kernel's own.
#[test]
fn what_is_installed_stays_installed_when_it_is_applied_again() {
    let mut values = wanted();
    values.insert("fs.file-max", "9223372036854775807");
    values.insert("net.core.somaxconn", "128");
    values.insert("net.ipv4.tcp_mem", "94335 125780 9999999");
    let tree = Tree::of(&values);
    let apply = || {
        let done = tree.run("apply", &[]);
        assert!(done.status.success(), "{done:?}");
        fs::read_to_string(tree.target()).expect("it is installed")
    };
    let first = apply();
    assert!(first.contains("net.core.somaxconn = 65535\n") && !first.contains("fs.file-max"), "{first}");
    assert_eq!(apply(), first);
    // A module that is not loaded now, and a number that somebody has raised since.
    fs::remove_file(tree.path("net.netfilter.nf_conntrack_max")).expect("it was there");
    fs::write(tree.path("net.core.somaxconn"), "70000\n").expect("a file");
    assert_eq!(apply(), first.replace("somaxconn = 65535", "somaxconn = 70000"));
}

#[test]
fn check_is_content_with_more_and_not_with_less() {
    let mut values = wanted();
    values.insert("net.ipv4.tcp_max_orphans", "99999999");
    values.remove("net.netfilter.nf_conntrack_max");
    let verdict = |values: &BTreeMap<&str, &str>| {
        let output = Tree::of(values).run("check", &[]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let differing = text.lines().filter(|line| !line.starts_with("ok") && line.contains('.'));
        differing.filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect::<Vec<_>>()
    };
    let others = ["of", "buffers"];
    let keys = |values: &BTreeMap<&str, &str>| {
        verdict(values).into_iter().filter(|key| !others.contains(&key.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(keys(&values), Vec::<String>::new());
    values.insert("net.ipv4.tcp_mem", "799152 1065535 1598304");
    values.insert("net.ipv4.tcp_fin_timeout", "60");
    assert_eq!(keys(&values), ["net.ipv4.tcp_mem", "net.ipv4.tcp_fin_timeout"]);
}

#[test]
fn every_setting_has_its_reason() {
    let mut commented = false;
    for line in CONF.lines() {
        match line {
            "" => commented = false,
            _ if line.starts_with('#') => commented = true,
            _ => assert!(commented, "without a reason: {line}"),
        }
    }
    for key in
        ["net.ipv4.tcp_mem", "net.ipv4.tcp_max_orphans", "fs.epoll.max_user_watches", "net.netfilter.nf_conntrack_max"]
    {
        assert!(wanted().contains_key(key), "{key}");
    }
}

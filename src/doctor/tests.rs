//! The checks against machines made of files.

use std::fs;
use std::path::Path;

use super::{Finding, Machine, Need, Report, Severity, disk, host, kernel};

/// A machine that has everything for a million connections.
const LARGE: [(&str, &str); 19] = [
    ("proc/sys/fs/nr_open", "2097152"),
    ("proc/sys/fs/file-max", "9223372036854775807"),
    ("proc/sys/fs/file-nr", "1024\t0\t9223372036854775807"),
    ("proc/sys/net/core/somaxconn", "65535"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65535"),
    ("proc/sys/net/ipv4/tcp_mem", "1572864\t2097152\t3145728"),
    ("proc/sys/net/ipv4/tcp_rmem", "4096\t16384\t4194304"),
    ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
    ("proc/sys/net/ipv4/tcp_max_orphans", "1048576"),
    ("proc/sys/net/ipv4/ip_local_port_range", "10000\t65535"),
    ("proc/sys/fs/epoll/max_user_watches", "4194304"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "2097152"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "7"),
    ("proc/meminfo", "MemTotal:       65536000 kB\nSwapTotal:             0 kB"),
    ("proc/self/cgroup", "0::/system.slice/imgate.service"),
    ("sys/fs/cgroup/system.slice/imgate.service/memory.max", "max"),
    ("sys/fs/cgroup/system.slice/imgate.service/cpu.max", "max 100000"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
];

fn need(connections: u64) -> Need {
    Need {
        connections,
        descriptors: connections + 640,
        user_bytes: connections * 200,
        kernel_bytes: connections * 7_000,
        shards: 4,
        ports: vec![8081, 8082],
        max_connections: 1_000_000,
        memory_max: 0,
    }
}

#[test]
fn a_bound_on_the_size_of_files_is_told() {
    let root = tempfile::tempdir().expect("a directory");
    let mut machine = Machine::at(root.path(), 1024, 2_000_000);
    let about = |machine: &Machine| {
        let findings = kernel::findings(machine, &need(1000));
        findings.into_iter().find(|finding| finding.what.contains("ulimit -f")).map(|finding| finding.found)
    };
    assert_eq!(about(&machine), None);
    machine.fsize = Some(1_048_576);
    assert_eq!(about(&machine).as_deref(), Some("1,048,576"));
}

/// What is found on the large machine with some files changed; an empty one is removed.
fn found(changed: &[(&str, &str)], hard: u64, need: &Need) -> Vec<Finding> {
    let root = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new("/"))).expect("a directory");
        fs::write(path, format!("{text}\n")).expect("a file");
    };
    LARGE.iter().for_each(|(path, text)| write(path, text));
    for (path, text) in changed {
        if text.is_empty() { fs::remove_file(root.path().join(path)).expect("a file") } else { write(path, text) }
    }
    let machine = Machine::at(root.path(), 1024, hard);
    let mut findings = kernel::findings(&machine, need);
    findings.extend(host::findings(&machine, need));
    findings
}

/// What matters on it.
fn bad(changed: &[(&str, &str)]) -> Vec<(Severity, &'static str, Option<String>)> {
    let findings = found(changed, 2_000_000, &need(1_000_000));
    let bad = findings.into_iter().filter(|finding| finding.severity > Severity::Note);
    bad.map(|finding| (finding.severity, finding.what, finding.mend)).collect()
}

#[test]
fn a_machine_that_has_everything_is_left_alone() {
    assert_eq!(bad(&[]), []);
}

#[test]
fn each_limit_is_found_with_the_command_that_mends_it() {
    let stops = Severity::Stops;
    let warns = Severity::Warning;
    for (path, text, severity, what, mend) in [
        ("proc/sys/fs/nr_open", "1000000", stops, "fs.nr_open", "sudo sysctl -w fs.nr_open=1000640"),
        ("proc/sys/fs/file-max", "1000000", stops, "fs.file-max", "sudo sysctl -w fs.file-max=1001664"),
        ("proc/sys/net/core/somaxconn", "4096", warns, "net.core.somaxconn", "sudo sysctl -w net.core.somaxconn=65535"),
        ("proc/sys/net/ipv4/tcp_mem", "94335 2000000 188670", warns, "", ""),
        (
            "proc/sys/net/ipv4/tcp_mem",
            "94335 125780 188670",
            warns,
            "net.ipv4.tcp_mem",
            "sudo sysctl -w net.ipv4.tcp_mem=\"799152 1065536 1598304\"",
        ),
        (
            "proc/sys/net/ipv4/tcp_rmem",
            "4096 131072 6291456",
            warns,
            "net.ipv4.tcp_rmem",
            "sudo sysctl -w net.ipv4.tcp_rmem=\"4096 16384 6291456\"",
        ),
        (
            "proc/sys/net/ipv4/tcp_max_orphans",
            "65536",
            warns,
            "net.ipv4.tcp_max_orphans",
            "sudo sysctl -w net.ipv4.tcp_max_orphans=1000000",
        ),
        (
            "proc/sys/net/ipv4/ip_local_port_range",
            "1024 65535",
            warns,
            "net.ipv4.ip_local_port_range",
            "sudo sysctl -w net.ipv4.ip_local_reserved_ports=8081,8082",
        ),
        (
            "proc/sys/fs/epoll/max_user_watches",
            "900000",
            stops,
            "fs.epoll.max_user_watches",
            "sudo sysctl -w fs.epoll.max_user_watches=1001024",
        ),
        (
            "proc/sys/net/netfilter/nf_conntrack_max",
            "262144",
            stops,
            "net.netfilter.nf_conntrack_max",
            "sudo sysctl -w net.netfilter.nf_conntrack_max=1250007",
        ),
        (
            "sys/fs/cgroup/system.slice/imgate.service/memory.max",
            "1073741824",
            stops,
            "memory",
            "sudo systemctl set-property imgate.service MemoryMax=7200000000",
        ),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise never",
            warns,
            "transparent huge pages",
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        (
            "proc/meminfo",
            "MemTotal: 65536000 kB\nSwapTotal: 1048576 kB",
            warns,
            "swap",
            "sudo sysctl -w vm.swappiness=1   # for the service alone: MemorySwapMax=0 in its unit",
        ),
    ] {
        let wanted = if what.is_empty() { vec![] } else { vec![(severity, what, Some(mend.to_owned()))] };
        assert_eq!(bad(&[(path, text)]), wanted, "{path}: {text}");
    }
}

#[test]
fn a_bound_on_memory_that_the_sessions_alone_reach_is_found() {
    let judged = |memory_max| {
        let need = Need { memory_max, ..need(1_000_000) };
        let finding = found(&[], 2_000_000, &need).into_iter().find(|finding| finding.what == "memory");
        finding.map(|finding| (finding.severity, finding.found))
    };
    assert_eq!(judged(64 << 20), Some((Severity::Stops, "memory_max = 64.0 MiB".to_owned())));
    assert_eq!(judged(1 << 30).map(|found| found.0), Some(Severity::Ok));
}

#[test]
fn what_has_no_command_is_told_as_well() {
    let memory = ("proc/meminfo", "MemTotal: 1048576 kB\nSwapTotal: 0 kB");
    assert_eq!(bad(&[memory]), [(Severity::Stops, "memory", None)]);
    let slow = "sys/devices/system/clocksource/clocksource0";
    let current = format!("{slow}/current_clocksource");
    assert_eq!(bad(&[(&current, "hpet")]), [(Severity::Warning, "clock source", None)]);
    let available = format!("{slow}/available_clocksource");
    let mend = Some(format!("echo tsc | sudo tee /{current}"));
    assert_eq!(
        bad(&[(&current, "hpet"), (&available, "hpet tsc acpi_pm")]),
        [(Severity::Warning, "clock source", mend)]
    );
    let quota = "sys/fs/cgroup/system.slice/imgate.service/cpu.max";
    assert_eq!(bad(&[(quota, "150000 100000")]).len(), 1, "1.5 processors for four shards");
}

#[test]
fn descriptors_and_the_gateways_own_limit_are_told() {
    let findings = found(&[], 20_000, &need(1_000_000));
    let nofile = &findings[0];
    assert_eq!((nofile.severity, nofile.wanted.as_deref()), (Severity::Stops, Some("1,000,640")));
    assert!(nofile.mend.as_ref().is_some_and(|mend| mend.contains("LimitNOFILE=1000640")), "{nofile:?}");
    assert_eq!(found(&[], 20_000, &need(10_000))[0].severity, Severity::Note, "enough for ten thousand");
    let own = found(&[], 2_000_000, &Need { max_connections: 5, ..need(1_000) });
    assert_eq!((own[1].severity, own[1].what), (Severity::Stops, "max_connections"));
}

#[test]
fn what_cannot_be_read_is_a_note_and_no_verdict() {
    let findings = found(&[("proc/sys/net/ipv4/tcp_mem", ""), ("proc/sys/fs/nr_open", "")], 2_000_000, &need(1_000));
    let unknown = findings.iter().filter(|finding| finding.found == "unknown");
    assert_eq!(unknown.map(|finding| finding.severity).collect::<Vec<_>>(), [Severity::Note; 2]);
    let untracked = found(&[("proc/sys/net/netfilter/nf_conntrack_max", "")], 2_000_000, &need(1_000));
    assert!(untracked.iter().any(|finding| finding.found == "connections are not tracked"));
}

#[test]
fn bounds_of_old_control_groups_are_not_taken_for_none() {
    let old = "11:memory:/docker/7f\n4:cpu,cpuacct:/docker/7f\n1:name=systemd:/docker/7f";
    let findings = found(&[("proc/self/cgroup", old)], 2_000_000, &need(1_000));
    for what in ["memory", "processors"] {
        let finding = findings.iter().find(|finding| finding.what == what).expect("it is looked at");
        assert_eq!(finding.severity, Severity::Note, "{finding:?}");
    }
    let unread = found(&[("proc/meminfo", "")], 2_000_000, &need(1_000));
    let swap = unread.iter().find(|finding| finding.what == "swap").expect("it is looked at");
    assert_eq!((swap.severity, swap.found.as_str()), (Severity::Note, "unknown"));
}

#[test]
fn ports_that_are_reserved_are_the_gateways() {
    const RANGE: (&str, &str) = ("proc/sys/net/ipv4/ip_local_port_range", "1024\t65535");
    const RESERVED: &str = "proc/sys/net/ipv4/ip_local_reserved_ports";
    let mend = |reserved: &str| {
        let bad = bad(&[RANGE, (RESERVED, reserved)]);
        bad.into_iter().map(|(_, _, mend)| mend.expect("there is a command")).collect::<Vec<_>>()
    };
    let command = |list: &str| vec![format!("sudo sysctl -w net.ipv4.ip_local_reserved_ports={list}")];
    assert_eq!(mend(" "), command("8081,8082"));
    assert_eq!(mend("3306,8082"), command("3306,8082,8081"), "what is reserved stays so");
    assert!(mend("8081,8082").is_empty() && mend("8000-8100").is_empty());
}

#[test]
fn each_reason_why_nothing_can_be_written_has_a_remedy_of_its_own() {
    let mend = |errno: i32| {
        let error = std::io::Error::from_raw_os_error(errno);
        disk::unwritable("sync", Path::new("/var/lib/imgate"), &error).mend.expect("there is a command")
    };
    // EACCES, ENOSPC, EDQUOT, EROFS, EIO of Linux.
    for (errno, command) in [(13, "chown"), (28, "df -h"), (122, "df -h"), (30, "remount,rw"), (5, "dmesg")] {
        assert!(mend(errno).contains(command), "{errno}: {}", mend(errno));
    }
}

#[test]
fn a_report_has_the_worst_first_and_its_remedy() {
    let report = Report {
        target_connections: 1_234_567,
        verdict: Severity::Stops,
        findings: vec![
            Finding::ok("swap", "none"),
            Finding::bad(Severity::Stops, "memory", "1 GiB", "too little").wanted("2 GiB").mend("buy some"),
        ],
    };
    let text = report.text();
    assert_eq!(
        text,
        "for 1,234,567 connections\nSTOPS    memory: 1 GiB, wanted 2 GiB\n         why   too little\n         \
         mend  buy some\nok       swap: none\nthe target is not reached like this\n"
    );
    let json = report.json();
    assert_eq!(json["verdict"], "stops");
    assert_eq!(json["findings"][1]["mend"], "buy some");
    assert!(json["findings"][0].get("mend").is_none());
}

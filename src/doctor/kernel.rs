//! Limits of the kernel: descriptors, queues, buffers, tables.

use super::{Finding, Machine, Need, Severity, grouped};

/// A shard's listener asks for so long a queue.
const BACKLOG_MAX: u64 = 65_535;
/// Below it a storm of reconnects meets a full queue, whatever the target.
const BACKLOG_MIN: u64 = 4_096;
/// Pages that all buffers together need beside one of each connection.
const PAGES_BESIDE: u64 = 65_536;
/// Default buffers above this are more than a chat needs.
const BUFFER_DEFAULT_MAX: u64 = 32 * 1024;
/// From so many connections on the default buffers matter.
const MANY: u64 = 100_000;

pub(super) fn findings(machine: &Machine, need: &Need) -> Vec<Finding> {
    let mut all = vec![nofile(machine, need)];
    all.extend(machine.fsize.map(file_size));
    all.extend(max_connections(need));
    all.extend([
        at_least(machine, "fs.nr_open", need.descriptors, Severity::Stops, "no process may have more descriptors"),
        file_max(machine, need),
        backlog(machine, need, "net.core.somaxconn", "handshakes wait here for accept: beyond it they time out"),
        backlog(machine, need, "net.ipv4.tcp_max_syn_backlog", "half-made connections: beyond it they are dropped"),
        tcp_mem(machine, need),
        buffers(machine, need, "net.ipv4.tcp_rmem"),
        buffers(machine, need, "net.ipv4.tcp_wmem"),
        at_least(
            machine,
            "net.ipv4.tcp_max_orphans",
            need.connections,
            Severity::Warning,
            "when all are closed at once, those beyond it are reset instead of told why",
        ),
        ports(machine, need),
        at_least(
            machine,
            "fs.epoll.max_user_watches",
            need.connections + 1_024,
            Severity::Stops,
            "a connection is a watch: beyond it the gateway cannot listen to a socket",
        ),
        conntrack(machine, need),
    ]);
    all
}

fn unread(what: &'static str) -> Finding {
    Finding::note(what, "unknown", "it cannot be read here")
}

/// A setting that must not be smaller.
fn at_least(machine: &Machine, key: &'static str, wanted: u64, severity: Severity, why: &str) -> Finding {
    match machine.number(key) {
        None => unread(key),
        Some(found) if found >= wanted => Finding::ok(key, grouped(found)),
        Some(found) => Finding::bad(severity, key, grouped(found), why)
            .wanted(grouped(wanted))
            .mend(format!("sudo sysctl -w {key}={wanted}")),
    }
}

fn nofile(machine: &Machine, need: &Need) -> Finding {
    const WHAT: &str = "descriptors of a process (ulimit -n)";
    let (_, hard) = machine.nofile;
    let wanted = need.descriptors;
    match hard {
        None => Finding::ok(WHAT, "unlimited"),
        Some(hard) if hard >= wanted => {
            Finding::note(WHAT, grouped(hard), "of whoever runs this; a service has its own (LimitNOFILE)")
        }
        Some(hard) => Finding::bad(Severity::Stops, WHAT, grouped(hard), "a connection is a descriptor")
            .wanted(grouped(wanted))
            .mend(format!(
                "printf '[Service]\\nLimitNOFILE={wanted}\\n' | sudo install -D -m 644 /dev/stdin \
                 /etc/systemd/system/imgate.service.d/nofile.conf && sudo systemctl daemon-reload && \
                 sudo systemctl restart imgate   # in a shell: sudo prlimit --pid $$ --nofile={wanted}:{wanted}"
            )),
    }
}

/// Bytes that a file of a process may have, if there is a bound.
fn file_size(most: u64) -> Finding {
    let why = "the database and the logs end there: what is written beyond it fails, as on a full disk";
    Finding::bad(Severity::Warning, "size of a file (ulimit -f)", grouped(most), why).wanted("unlimited").mend(
        "LimitFSIZE=infinity in the unit (systemctl edit imgate), then a restart   # in a shell: ulimit -f unlimited",
    )
}

fn max_connections(need: &Need) -> Option<Finding> {
    let (found, wanted) = (need.max_connections, need.connections);
    (found < wanted).then(|| {
        Finding::bad(Severity::Stops, "max_connections", grouped(found), "the gateway itself takes no more")
            .wanted(grouped(wanted))
            .mend(format!("max_connections = {wanted} in the configuration"))
    })
}

fn file_max(machine: &Machine, need: &Need) -> Finding {
    // Open now, unused (always 0), the most.
    let used = machine.sysctl("fs.file-nr").and_then(|numbers| numbers.first().copied()).unwrap_or_default();
    let why = "all processes together may have no more descriptors";
    at_least(machine, "fs.file-max", need.descriptors + used, Severity::Stops, why)
}

fn backlog(machine: &Machine, need: &Need, key: &'static str, why: &str) -> Finding {
    // A storm comes within seconds; what cannot be accepted at once has to wait somewhere.
    let wanted = (need.connections / 8).clamp(BACKLOG_MIN, BACKLOG_MAX);
    at_least(machine, key, wanted, Severity::Warning, why)
}

fn tcp_mem(machine: &Machine, need: &Need) -> Finding {
    const KEY: &str = "net.ipv4.tcp_mem";
    let Some([low, pressure, most]) = machine.sysctl(KEY).and_then(|numbers| <[u64; 3]>::try_from(numbers).ok()) else {
        return unread(KEY);
    };
    let wanted = need.connections + PAGES_BESIDE;
    let found = format!("{low} {pressure} {most} pages");
    if pressure >= wanted {
        return Finding::ok(KEY, found);
    }
    // Each of the three at least as large as it is.
    let (low, pressure, most) = (low.max(wanted * 3 / 4), wanted, most.max(wanted * 3 / 2));
    Finding::bad(
        Severity::Warning,
        KEY,
        found,
        "whoever speaks holds a page: when all do at once (a mass close, a message to everybody), the kernel shrinks windows and drops",
    )
    .wanted(format!("{low} {pressure} {most}"))
    .mend(format!("sudo sysctl -w {KEY}=\"{low} {pressure} {most}\""))
}

fn buffers(machine: &Machine, need: &Need, key: &'static str) -> Finding {
    let Some([least, default, most]) = machine.sysctl(key).and_then(|numbers| <[u64; 3]>::try_from(numbers).ok())
    else {
        return unread(key);
    };
    let found = format!("{least} {default} {most}");
    if default <= BUFFER_DEFAULT_MAX || need.connections < MANY {
        return Finding::ok(key, found);
    }
    let why = "the second number times all slow clients is more than the machine has";
    Finding::bad(Severity::Warning, key, found, why)
        .wanted(format!("{least} 16384 {most}"))
        .mend(format!("sudo sysctl -w {key}=\"{least} 16384 {most}\""))
}

fn ports(machine: &Machine, need: &Need) -> Finding {
    const KEY: &str = "net.ipv4.ip_local_port_range";
    let Some([from, to]) = machine.sysctl(KEY).and_then(|numbers| <[u64; 2]>::try_from(numbers).ok()) else {
        return unread(KEY);
    };
    let found = format!("{from} {to}");
    let reserved = machine.text("proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let is_taken = |port: &&u16| (from..=to).contains(&u64::from(**port)) && !has_port(&reserved, **port);
    let within: Vec<String> = need.ports.iter().filter(is_taken).map(u16::to_string).collect();
    if within.is_empty() {
        return Finding::ok(KEY, found);
    }
    let within = within.join(",");
    // The setting is a whole list: what is reserved already stays so.
    let all = if reserved.is_empty() { within.clone() } else { format!("{reserved},{within}") };
    Finding::bad(
        Severity::Warning,
        KEY,
        found,
        format!("an outgoing connection may take port {within} before the gateway does"),
    )
    .mend(format!("sudo sysctl -w net.ipv4.ip_local_reserved_ports={all}"))
}

/// Whether a list such as `8080,9000-9010` has the port.
fn has_port(list: &str, port: u16) -> bool {
    list.split(',').any(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<u16>().ok();
        number(from).zip(number(to)).is_some_and(|(from, to)| (from..=to).contains(&port))
    })
}

fn conntrack(machine: &Machine, need: &Need) -> Finding {
    const KEY: &str = "net.netfilter.nf_conntrack_max";
    if machine.number(KEY).is_none() {
        return Finding::ok(KEY, "connections are not tracked");
    }
    let used = machine.number("net.netfilter.nf_conntrack_count").unwrap_or_default();
    // What has ended is tracked for a while.
    let wanted = need.connections + need.connections / 4 + used;
    let why = "the firewall drops what it has no room to track (\"table full\" in the kernel's log)";
    at_least(machine, KEY, wanted, Severity::Stops, why)
}

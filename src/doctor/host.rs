//! Memory, processors and clocks of the machine or of the container.

use super::{Finding, Machine, Need, Severity, bytes};

/// Clock sources that are read without a system call.
const QUICK_CLOCKS: [&str; 6] =
    ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "xen", "riscv_clocksource"];
/// Above it the kernel swaps out idle sessions to keep files in memory.
const SWAPPINESS_MAX: u64 = 10;
/// Said where a bound may be that was not looked at.
const OLD_GROUPS: &str =
    "the control groups are of version 1: a bound that the container has is not read; compare it with its settings";

pub(super) fn findings(machine: &Machine, need: &Need) -> Vec<Finding> {
    vec![memory(machine, need), processors(machine, need), swap(machine), huge_pages(machine), clock_source(machine)]
}

fn memory(machine: &Machine, need: &Need) -> Finding {
    const WHAT: &str = "memory";
    let group = machine.of_groups("memory.max").iter().filter_map(|limit| limit.parse::<u64>().ok()).min();
    let Some(total) = machine.memory("MemTotal") else {
        return Finding::note(WHAT, "unknown", "it cannot be read here");
    };
    let there_is = group.map_or(total, |limit| limit.min(total));
    let wanted = need.user_bytes + need.kernel_bytes;
    if need.memory_max > 0 && need.memory_max / 10 * 9 < need.user_bytes {
        let why = "from nine tenths of it on newcomers are refused";
        let found = format!("memory_max = {}", bytes(need.memory_max));
        let least = need.user_bytes / 9 * 10;
        return Finding::bad(Severity::Stops, WHAT, found, why)
            .wanted(bytes(least))
            .mend("a larger memory_max in the configuration, or none: 80 % of what there is");
    }
    let of = if group.is_some_and(|limit| limit < total) { "of the control group" } else { "of the machine" };
    let found = format!("{} {of}", bytes(there_is));
    if there_is >= wanted {
        let found = format!("{found}; needed about {}", bytes(wanted));
        return if machine.is_in_old_groups("memory") {
            Finding::note(WHAT, found, OLD_GROUPS)
        } else {
            Finding::ok(WHAT, found)
        };
    }
    let why = format!(
        "{} of the gateway and {} of the kernel's sockets, when nobody says anything",
        bytes(need.user_bytes),
        bytes(need.kernel_bytes)
    );
    let finding = Finding::bad(Severity::Stops, WHAT, found, why).wanted(bytes(wanted));
    if group.is_some_and(|limit| limit < total) && total >= wanted {
        return finding.mend(format!("sudo systemctl set-property imgate.service MemoryMax={wanted}"));
    }
    finding
}

fn processors(machine: &Machine, need: &Need) -> Finding {
    const WHAT: &str = "processors";
    // Quota and period in microseconds; "max": none.
    let quota = |text: &String| {
        let (quota, period) = text.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    };
    let limit = machine.of_groups("cpu.max").iter().filter_map(quota).fold(f64::INFINITY, f64::min);
    let shards = need.shards as f64;
    if limit >= shards {
        if machine.is_in_old_groups("cpu") {
            return Finding::note(WHAT, format!("{} shards", need.shards), OLD_GROUPS);
        }
        return Finding::ok(WHAT, format!("{} shards, no quota below it", need.shards));
    }
    let why = "a shard whose quota is used up stands still until the next period: every user of it waits up to 100 ms";
    Finding::bad(Severity::Warning, WHAT, format!("a quota of {limit:.1} for {} shards", need.shards), why)
        .wanted(format!("{shards:.0}"))
        .mend(format!(
            "shards = {} in the configuration, or a larger quota (CPUQuota, limits.cpu)",
            limit.floor().max(1.0)
        ))
}

fn swap(machine: &Machine) -> Finding {
    const WHAT: &str = "swap";
    let Some(total) = machine.memory("SwapTotal") else {
        return Finding::note(WHAT, "unknown", "it cannot be read here");
    };
    let swappiness = machine.number("vm.swappiness").unwrap_or(60);
    if total == 0 {
        return Finding::ok(WHAT, "none");
    }
    let found = format!("{}, vm.swappiness {swappiness}", bytes(total));
    if swappiness <= SWAPPINESS_MAX {
        return Finding::ok(WHAT, found);
    }
    let why = "idle sessions are swapped out, and a shard that pings them waits for the disk";
    Finding::bad(Severity::Warning, WHAT, found, why)
        .wanted("vm.swappiness 1")
        .mend("sudo sysctl -w vm.swappiness=1   # for the service alone: MemorySwapMax=0 in its unit")
}

fn huge_pages(machine: &Machine) -> Finding {
    const WHAT: &str = "transparent huge pages";
    const FILE: &str = "sys/kernel/mm/transparent_hugepage/enabled";
    let Some(text) = machine.text(FILE) else { return Finding::note(WHAT, "unknown", "it cannot be read here") };
    let chosen = text.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
    if chosen != "always" {
        return Finding::ok(WHAT, chosen);
    }
    let why = "what a burst has taken does not go back to the system in small pieces, and merging pages stops a shard";
    Finding::bad(Severity::Warning, WHAT, chosen, why)
        .wanted("madvise")
        .mend(format!("echo madvise | sudo tee /{FILE}"))
}

fn clock_source(machine: &Machine) -> Finding {
    const WHAT: &str = "clock source";
    const FOLDER: &str = "sys/devices/system/clocksource/clocksource0";
    let Some(current) = machine.text(&format!("{FOLDER}/current_clocksource")) else {
        return Finding::note(WHAT, "unknown", "it cannot be read here");
    };
    if QUICK_CLOCKS.contains(&current.as_str()) {
        return Finding::ok(WHAT, current);
    }
    let others = machine.text(&format!("{FOLDER}/available_clocksource")).unwrap_or_default();
    let quick = others.split_whitespace().find(|other| QUICK_CLOCKS.contains(other));
    let why = "each look at the clock is a system call, and a shard looks some ten times a turn";
    let finding = Finding::bad(Severity::Warning, WHAT, current, why);
    match quick {
        Some(quick) => finding.wanted(quick).mend(format!("echo {quick} | sudo tee /{FOLDER}/current_clocksource")),
        None => finding,
    }
}

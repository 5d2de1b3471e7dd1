//! The gateway that runs here, if one does: what it says of itself in its metrics.
//!
//! Owns: what of it is worth a finding. Never: asks; the texts are given.

use std::net::SocketAddr;

use super::{Finding, Need, Scrapes, Severity, grouped};
use crate::limits::CLOCK_SET_TOLD_S;
use crate::metrics::names::{self, Metric};

const WHAT: &str = "the running gateway";

/// Of the time, what a shard that has hardly any left has worked.
const BUSY: f64 = 0.95;

/// `None`: none answers at the admin port. `settings` is the fingerprint of those that the doctor
/// was given.
pub(super) fn findings(scrapes: Option<&Scrapes>, need: &Need, settings: &str) -> Vec<Finding> {
    let Some(scrapes) = scrapes else {
        return vec![Finding::note(WHAT, "none answers", "what only a running gateway knows is not told")];
    };
    let told = Told(&scrapes.now);
    let mut found = vec![ready(&told, scrapes.admin)];
    found.extend(others_settings(&told, settings));
    found.extend(descriptors(&told, need));
    found.extend(troubles(&told));
    found.extend(load(&Told(&scrapes.before), &told, scrapes.between.as_secs_f64()));
    found
}

/// A page of metrics.
pub(super) struct Told<'a>(pub(super) &'a str);

impl Told<'_> {
    /// Labels and value of each series of a metric.
    pub(super) fn series(&self, metric: Metric) -> impl Iterator<Item = (&str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(metric.name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(labelled) => labelled.split_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.parse().ok()?))
        })
    }

    /// The sum of its series; `None`: it has none.
    pub(super) fn sum(&self, metric: Metric) -> Option<f64> {
        self.series(metric).map(|(_, value)| value).reduce(|one, other| one + other)
    }
}

fn ready(told: &Told<'_>, admin: SocketAddr) -> Finding {
    let reasons: Vec<_> = told.series(names::NOT_READY).filter(|(_, value)| *value > 0.0).map(|(why, _)| why).collect();
    if reasons.is_empty() {
        return Finding::ok(WHAT, "ready");
    }
    let why = "it takes no newcomers, and what it cannot store it refuses";
    let store = told.series(names::STORE_FAILING).filter(|(_, value)| *value > 0.0);
    let store: Vec<_> = store.map(|(why, _)| format!("; the store: {why}")).collect();
    Finding::bad(Severity::Stops, WHAT, format!("not ready: {}{}", reasons.join(", "), store.concat()), why)
        .mend(format!("curl {admin}/readyz, and its log   # docs/operations.md, ImgateNotReady"))
}

/// A doctor that was given other settings examines another gateway than the one that answers. Of
/// another version it cannot be said: the fingerprint goes by what settings there are.
fn others_settings(told: &Told<'_>, settings: &str) -> Option<Finding> {
    let this_version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    told.series(names::BUILD_INFO).find(|(labels, _)| labels.split(',').any(|label| label == this_version))?;
    let (labels, _) = told.series(names::CONFIG_INFO).next()?;
    let hash = labels.strip_prefix("hash=\"")?.strip_suffix('"')?;
    let why = "what stands here is about the settings of this command, and the gateway has others";
    (hash != settings).then(|| {
        Finding::bad(Severity::Warning, "settings", format!("{settings} here, {hash} in the running gateway"), why)
            .mend("its own --config, --data and variables   # systemctl cat imgate; if they are its own: imgate reload, or a restart")
    })
}

/// Its own limit, which is not that of the shell in which the doctor runs.
fn descriptors(told: &Told<'_>, need: &Need) -> Option<Finding> {
    const WHAT: &str = "descriptors of the running gateway";
    let most = told.sum(names::PROCESS_FDS_MAX)? as u64;
    if most >= need.descriptors {
        return Some(Finding::ok(WHAT, grouped(most)));
    }
    let why = "a connection is a descriptor";
    Some(
        Finding::bad(Severity::Stops, WHAT, grouped(most), why)
            .wanted(grouped(need.descriptors))
            .mend(format!("LimitNOFILE={} in the unit (systemctl edit imgate), then a restart", need.descriptors)),
    )
}

/// What is told only where something is wrong.
fn troubles(told: &Told<'_>) -> Vec<Finding> {
    let warn = |found: String, why: &str, mend: &str| Finding::bad(Severity::Warning, WHAT, found, why).mend(mend);
    let mut found = Vec::new();
    if told.sum(names::BUS_UP) == Some(0.0) {
        let why = "messages of other gateways come from the database, up to 10 s late";
        let forbidden = told.series(names::BUS_REFUSED).any(|(reason, n)| reason == "reason=\"permission\"" && n > 0.0);
        found.push(match forbidden {
            true => {
                let mend = "the permissions of its account at NATS; /readyz says which   # docs/cluster.md, NATS";
                warn("has a bus that refuses what a gateway needs".to_owned(), why, mend)
            }
            false => warn("has no bus".to_owned(), why, "systemctl status nats-server   # where `cluster` points to"),
        });
    }
    if let Some(refused) = told.sum(names::TLS_REFUSED).filter(|count| *count > 0.0) {
        let why = "it serves the pair that it had, until that ends";
        found.push(warn(format!("refused {refused} certificates"), why, "imgate reload   # says why"));
    }
    if let Some(age) = told.sum(names::CLOCK_SET_AGE) {
        let moved = told.sum(names::CLOCK_MOVED).unwrap_or_default();
        let seen = format!("has seen the clock set {age:.0} s ago: by {moved:.0} s since its start");
        let why = "tokens end early or late by it, and times of messages look wrong";
        found.push(match age < CLOCK_SET_TOLD_S as f64 {
            true => warn(seen, why, "timedatectl; sudo timedatectl set-ntp true"),
            false => Finding::note(WHAT, seen, "that is over; whether the clock is right now, timedatectl says"),
        });
    }
    let failing = told.sum(names::HOOK_FAILURES).is_some_and(|failures| failures > 0.0);
    if let Some(waiting) = told.sum(names::HOOK_QUEUE).filter(|events| failing && *events > 0.0) {
        let why = "a webhook has failed, and these wait for its endpoint";
        found.push(warn(
            format!("keeps {waiting} events"),
            why,
            "the log of the endpoint   # docs/operations.md, ImgateWebhookWaits",
        ));
    }
    if let Some(lost) = told.sum(names::TRAIL_LEFT_OUT).filter(|lines| *lines > 0.0) {
        let why = "who did what in that time is not known: the disk of the file was full, or could not be written";
        found.push(warn(format!("has lost {lost} lines of its trails"), why, "df -h of audit_log and access_log"));
    }
    if let Some(lost) = told.sum(names::LOG_LINES_LOST).filter(|lines| *lines > 0.0) {
        let why = "what takes its standard error is full, too slow, or gone";
        found.push(warn(
            format!("has lost {lost} lines of its log"),
            why,
            "journalctl --disk-usage, or df -h of its file",
        ));
    }
    let most = told.sum(names::CONNECTIONS_MAX).unwrap_or_default();
    if let Some(open) = told.sum(names::SHARD_CONNECTIONS).filter(|open| most > 0.0 && *open > 0.9 * most) {
        let why = "beyond them newcomers are turned away (503)";
        found.push(warn(format!("has {open} of {most} connections"), why, "imgate top   # says whose they are"));
    }
    let most = told.sum(names::PROCESS_FDS_MAX).unwrap_or_default();
    if let Some(open) = told.sum(names::PROCESS_FDS).filter(|open| most > 0.0 && *open > 0.9 * most) {
        let why = "without descriptors it accepts nobody, whatever max_connections says";
        let mend = "prlimit --nofile --pid $(pidof imgate)   # LimitNOFILE in the unit, then a restart";
        found.push(warn(format!("has {open} of {most} descriptors open"), why, mend));
    }
    found
}

/// What two scrapes tell: shards that have no time left, users that take too much of it, gateways
/// that are not believed.
fn load(before: &Told<'_>, now: &Told<'_>, between_s: f64) -> Vec<Finding> {
    let warn = |found: String, why: &str| {
        Finding::bad(Severity::Warning, WHAT, found, why).mend("imgate top   # says who takes the most")
    };
    let mut found = Vec::new();
    for (shard, asleep_s) in now.series(names::SHARD_ASLEEP) {
        let asleep_before_s = before.series(names::SHARD_ASLEEP).find(|(of, _)| *of == shard);
        let Some((_, asleep_before_s)) = asleep_before_s else { continue };
        let busy = 1.0 - (asleep_s - asleep_before_s) / between_s;
        // After a restart between the two it has slept less than before.
        if (BUSY..=1.0).contains(&busy) {
            let why = "its users wait for each other; if it is one of several, few users or one group make the load";
            let shard = shard.trim_start_matches("shard=").trim_matches('"');
            found.push(warn(format!("shard {shard} was busy {:.0} % of the last second", busy * 100.0), why));
        }
    }
    let dropped = |of: &Told<'_>, why: &str| {
        of.series(names::BUS_DROPPED).filter(|(reason, _)| *reason == why).map(|(_, count)| count).sum::<f64>()
    };
    let strangers = [
        ("reason=\"key\"", "another secret"),
        ("reason=\"twin\"", "the same node"),
        ("reason=\"version\"", "another version of envelopes"),
    ];
    for (reason, what) in strangers {
        if dropped(now, reason) > dropped(before, reason) {
            let why = "what that one says is not believed: messages of it come from the database, up to 10 s late";
            let mend =
                "imgate config print on both   # secret, node, cluster_name; docs/operations.md, ImgateBusStranger";
            let found_it = format!("hears a gateway of its cluster that has {what}");
            found.push(Finding::bad(Severity::Warning, WHAT, found_it, why).mend(mend));
        }
    }
    for (reason, count) in now.series(names::GATE_REFUSED) {
        let is_full = ["reason=\"busy\"", "reason=\"descriptors\"", "reason=\"memory\""].contains(&reason);
        let count_before = before.series(names::GATE_REFUSED).find(|(of, _)| *of == reason);
        let more = count - count_before.map_or(count, |(_, count)| count);
        if is_full && more > 0.0 {
            let reason = reason.trim_start_matches("reason=").trim_matches('"');
            let why = "newcomers are turned away; docs/operations.md, ImgateTurnsAway, has what each reason wants";
            found.push(warn(format!("has turned {more} connections away meanwhile: {reason}"), why));
        }
    }
    let are_paced = |told: &Told<'_>| told.sum(names::PACED).filter(|users| *users > 0.0);
    if let Some(paced) = are_paced(now) {
        let why = "their connections are read as fast as their pace allows; `imgate top` says whose they are";
        let seen = format!("holds back {paced} users that are over their pace");
        // Some are over it for a moment in good order: a client that comes back after long.
        found.push(if are_paced(before).is_some() { warn(seen, why) } else { Finding::note(WHAT, seen, why) });
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn need(descriptors: u64) -> Need {
        Need {
            connections: 1,
            descriptors,
            user_bytes: 0,
            kernel_bytes: 0,
            shards: 1,
            ports: Vec::new(),
            max_connections: 1,
            memory_max: 0,
        }
    }

    fn told(scrape: &str) -> Vec<(Severity, String)> {
        told_after(scrape, scrape)
    }

    /// Two scrapes, two seconds apart.
    fn told_after(before: &str, now: &str) -> Vec<(Severity, String)> {
        let between = Duration::from_secs(2);
        let admin = SocketAddr::from(([127, 0, 0, 1], 9_099));
        let scrapes = Scrapes { admin, before: before.to_owned(), now: now.to_owned(), between };
        let found = findings(Some(&scrapes), &need(1000), "0123abcd");
        found.into_iter().map(|finding| (finding.severity, finding.found)).collect()
    }

    #[test]
    fn one_that_is_well_is_left_alone() {
        let well = "imgate_not_ready{reason=\"store\"} 0\nprocess_max_fds 20000\nimgate_bus_up 1\n\
                    imgate_tls_refused_certificates 0\nimgate_clock_moved_seconds -0.4\nimgate_webhook_queue 3\n\
                    imgate_webhook_failures_total 0\nimgate_connections{shard=\"0\"} 5\nimgate_connections_max 100\n";
        assert_eq!(told(well), [(Severity::Ok, "ready".to_owned()), (Severity::Ok, "20,000".to_owned())]);
        assert_eq!(findings(None, &need(1), "")[0].severity, Severity::Note);
    }

    #[test]
    fn other_settings_than_the_gateways_are_told() {
        let of = |version: &str, hash: &str| {
            let page =
                format!("imgate_build_info{{version=\"{version}\"}} 1\nimgate_config_info{{hash=\"{hash}\"}} 1\n");
            told(&page).into_iter().skip(1).collect::<Vec<_>>()
        };
        let this = env!("CARGO_PKG_VERSION");
        assert_eq!(of(this, "0123abcd"), []);
        assert_eq!(of("0.0.1", "ffffffff"), [], "another version has another set of settings");
        let warned = (Severity::Warning, "0123abcd here, ffffffff in the running gateway".to_owned());
        assert_eq!(of(this, "ffffffff"), [warned]);
    }

    #[test]
    fn each_trouble_is_told() {
        let ill = "imgate_not_ready{reason=\"store\"} 1\nprocess_max_fds 400\nimgate_bus_up 0\n\
                   imgate_tls_refused_certificates 1\nimgate_clock_moved_seconds -7200\nimgate_clock_set_age_seconds 20\nimgate_webhook_queue 3\n\
                   imgate_webhook_failures_total 2\nimgate_connections{shard=\"0\"} 50\nimgate_connections{shard=\"1\"} 45\n\
                   imgate_connections_max 100\n";
        let texts: Vec<_> = told(ill).into_iter().map(|(severity, found)| format!("{severity:?} {found}")).collect();
        assert_eq!(
            texts,
            [
                "Stops not ready: reason=\"store\"",
                "Stops 400",
                "Warning has no bus",
                "Warning refused 1 certificates",
                "Warning has seen the clock set 20 s ago: by -7200 s since its start",
                "Warning keeps 3 events",
                "Warning has 95 of 100 connections",
            ]
        );
    }

    #[test]
    fn a_bus_that_refuses_is_told_from_one_that_is_away() {
        let refused = |times: u32, up: u32| {
            told(&format!("imgate_bus_up {up}\nimgate_bus_refused_total{{reason=\"permission\"}} {times}\n"))
        };
        let refuses = (Severity::Warning, "has a bus that refuses what a gateway needs".to_owned());
        assert_eq!(refused(3, 0)[1..], [refuses]);
        assert_eq!(refused(0, 0)[1..], [(Severity::Warning, "has no bus".to_owned())]);
        assert_eq!(refused(3, 1)[1..], [], "that is over");
    }

    #[test]
    fn a_clock_that_was_set_when_the_machine_started_is_no_warning() {
        let long_ago = told("imgate_clock_moved_seconds 86400\nimgate_clock_set_age_seconds 301\n");
        let seen = "has seen the clock set 301 s ago: by 86400 s since its start";
        assert_eq!(long_ago[1..], [(Severity::Note, seen.to_owned())]);
    }

    #[test]
    fn a_shard_without_time_and_users_over_their_pace_are_told() {
        let at = |shards: [f64; 2]| {
            let [one, other] = shards;
            format!(
                "imgate_shard_asleep_seconds_total{{shard=\"0\"}} {one}\nimgate_shard_asleep_seconds_total{{shard=\"1\"}} {other}\nimgate_paced 3\n"
            )
        };
        let texts =
            |before, now| told_after(&at(before), &at(now)).into_iter().map(|(_, found)| found).collect::<Vec<_>>();
        let paced = "holds back 3 users that are over their pace";
        let busy = "shard 1 was busy 99 % of the last second";
        assert_eq!(texts([10.0, 10.0], [11.0, 10.02]), ["ready", busy, paced]);
        assert_eq!(texts([10.0, 10.0], [12.0, 0.3]), ["ready", paced], "it has been started anew");
        let dropped = |key: u32| {
            format!("imgate_bus_dropped_total{{reason=\"key\"}} {key}\nimgate_bus_dropped_total{{reason=\"late\"}} 9\n")
        };
        let refused = |address: u32, busy: u32| {
            format!(
                "imgate_gate_refused_total{{reason=\"address\"}} {address}\nimgate_gate_refused_total{{reason=\"busy\"}} {busy}\n"
            )
        };
        let turned_away = "has turned 4 connections away meanwhile: busy";
        let all = |before: &str, now: &str| told_after(before, now).into_iter().skip(1).collect::<Vec<_>>();
        assert_eq!(all(&refused(1, 2), &refused(9, 6)), [(Severity::Warning, turned_away.to_owned())]);
        assert_eq!(all(&refused(1, 2), &refused(9, 2)), []);
        let held_back = "holds back 1 users that are over their pace".to_owned();
        assert_eq!(all("imgate_paced 1\n", "imgate_paced 1\n"), [(Severity::Warning, held_back.clone())]);
        assert_eq!(all("imgate_paced 0\n", "imgate_paced 1\n"), [(Severity::Note, held_back)]);
        let full = "process_max_fds 20000\nprocess_open_fds 18001\n";
        let descriptors = "has 18001 of 20000 descriptors open".to_owned();
        assert_eq!(all(full, full)[1..], [(Severity::Warning, descriptors)]);
        let strange = told_after(&dropped(1), &dropped(2));
        assert_eq!(strange[1].1, "hears a gateway of its cluster that has another secret");
        assert_eq!(told_after(&dropped(2), &dropped(2)).len(), 1);
        let version = |count: u32| format!("imgate_bus_dropped_total{{reason=\"version\"}} {count}\n");
        let strange = told_after(&version(0), &version(9));
        assert_eq!(strange[1].1, "hears a gateway of its cluster that has another version of envelopes");
    }
}

//! Tests of the exposition format, by a checker of its own, and of docs/metrics.md.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::metrics::http::Routes;
use crate::metrics::spans::SpanSummary;
use crate::metrics::surroundings::{BudgetNumbers, CertificateNumbers};

const CLUSTER: ClusterNumbers = ClusterNumbers {
    up: true,
    forbidden: None,
    bus_refused: [1, 2, 3],
    refused: false,
    renewed: 5,
    nodes: 3,
    age_ms: 1_500,
    envelopes_out: 0,
    envelopes_in: 0,
    bytes_out: 0,
    bytes_in: 0,
    bus_full: 0,
    slow: 0,
    shards_dropped: 0,
    words_full: 0,
    said_full: 0,
    damaged: 0,
    version: 0,
    tag: 0,
    counts: crate::metrics::cluster::ExchangeCounts {
        rows_out: 0,
        rows_in: 0,
        words_out: 0,
        words_in: 0,
        words_dropped: 0,
        said_out: 0,
        said_in: 0,
        said_dropped: 0,
        to_all: 0,
        to_nodes: 0,
        to_none: 0,
        elsewhere: 0,
        users_crowded: 0,
        filtered: 0,
        unsaid: 0,
        foreign: 0,
        stale: 0,
        twins: 0,
        crowded: 0,
        unknown: 0,
        refused: 0,
        scans: 0,
        scans_failed: 0,
        digests: 0,
        holes: 0,
    },
};

/// Reads the text format strictly: HELP, TYPE, samples of that family, no series twice. Answers
/// series → value.
fn check(text: &str) -> Result<BTreeMap<String, f64>, String> {
    let mut series = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut family = (String::new(), String::new());
    let mut helped = String::new();
    if !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("HELP without a text")?;
            if !families.insert(name.to_owned()) || help.contains('\\') {
                return Err(format!("{name}: twice, or not escaped"));
            }
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("TYPE without a kind")?;
            if name != helped || !["counter", "gauge", "summary", "histogram"].contains(&kind) {
                return Err(format!("TYPE {name} {kind} after HELP {helped}"));
            }
            family = (name.to_owned(), kind.to_owned());
        } else {
            let (key, value) = line.rsplit_once(' ').ok_or("a sample without a value")?;
            check_sample(key, &family)?;
            let value: f64 = value.parse().map_err(|_| format!("{line}: no number"))?;
            if series.insert(key.to_owned(), value).is_some() {
                return Err(format!("{key}: twice"));
            }
        }
    }
    Ok(series)
}

fn check_sample(key: &str, (family, kind): &(String, String)) -> Result<(), String> {
    let (name, labels) = match key.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').ok_or_else(|| format!("{key}: not closed"))?),
        None => (key, ""),
    };
    let suffix = name.strip_prefix(family.as_str()).ok_or_else(|| format!("{name} stands under {family}"))?;
    let suffixes: &[&str] = match kind.as_str() {
        "summary" => &["", "_sum", "_count"],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    if !suffixes.contains(&suffix) {
        return Err(format!("{name} is no {kind} {family}"));
    }
    let well_named = |name: &str| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_ascii_lowercase()) && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if !well_named(name) || (kind == "counter") != family.ends_with("_total") {
        return Err(format!("{name}: not a good name for a {kind}"));
    }
    for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once('=').ok_or_else(|| format!("{pair}: no label"))?;
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        if !well_named(label) || quoted.is_none_or(|value| value.contains(['"', '\\', '\n'])) {
            return Err(format!("{key}: bad label {pair}"));
        }
    }
    Ok(())
}

fn two_shards() -> String {
    two_shards_as(Format::Text)
}

fn two_shards_as(format: Format) -> String {
    let mut first = ShardReport::default();
    first.tally.sessions = 3;
    first.driver.connections = 4;
    let busy = names::REFUSED.iter().position(|reason| *reason == "busy").expect("a reason");
    first.tally.refused[busy] = 2;
    first.driver.gate_refused[1] = 5;
    first.tally.ended_by_peer = 7;
    first.tally.ended_by_loss = 8;
    first.tally.profiles = [1, 2, 0];
    first.driver.transports = [1, 0, 0, 2];
    first.tally.posts.record(1_000_000);
    first.tally.posts.record(90_000_000_000);
    first.driver.opens.record(3_000_000);
    first.driver.deliveries.record_many(2_000_000, 3);
    first.driver.fanouts.record(500_000);
    first.driver.proxied[Heard::NoClient as usize] = 2;
    first.driver.see(GateRefusal::Preamble.sighting(), 1_700_000_000_900);
    first.driver.see(GateRefusal::Busy.sighting(), 1_700_000_000_900);
    first.driver.asleep_ns = 2_500_000_000;
    let mut second = first.clone();
    second.driver.connections = 6;
    second.turns =
        SpanSummary { count: 2, sum_ns: 1_500_000_000, quantiles_ns: [1000, 2000, 3000, 4000], max_ns: 250_000_000 };
    second.turning_ns = 12_500_000_000;
    let http = HttpCounts::default();
    http.slots([1, 2, 3], 4096);
    http.evicted(Evicted::Memory);
    http.refused(Refused::User);
    http.answered(Routes::V1, 404, 70_000);
    let counts = AccountCounts::default();
    counts.cross_origin();
    assert_eq!(counts.proxies().hear(Heard::NoClient, 1_800_000_000_000), 1);
    counts.proxies().miss(Unsaid::Host, 1_800_000_001_000);
    counts.login(Login::Locked);
    let store = StoreNumbers {
        up: true,
        reads_queued: [1, 0, 2, 5],
        reads_late: [0, 0, 0, 3],
        users_waiting: 6,
        clock_offset_ms: Some(-2_500),
        ..StoreNumbers::default()
    };
    let store = StoreNumbers { commit_ns: 500_000_000, ..store };
    let objects = ObjectCounts::default();
    objects.asked(ObjectOperation::Get, ObjectOutcome::Late, 8_000_000_000);
    objects.sent(512);
    render(&Scrape {
        format,
        version: "0.1.0",
        config: "0123abcd",
        unready: Readiness { store: true, ..Readiness::default() },
        threads: &[("shard-0".to_owned(), 1.25)],
        shards: &[first, second],
        accounts: &counts,
        http: &http,
        store: Some(store),
        lost_log_lines: 3,
        trail_left_out: [1, 2],
        surroundings: AROUND,
        budgets: BudgetNumbers { outbox: 1_024, inbound: 2_048, http: 4_096 },
        cluster: Some(&CLUSTER),
        files: FileNumbers { places: 3, paint_ns: 2_500_000_000, ..FileNumbers::default() },
        objects: Some(&objects),
        process: ProcessNumbers {
            cpu_seconds: Some(1.5),
            resident_bytes: Some(1 << 20),
            open_fds: Some(9),
            max_fds: Some(20_000),
            threads: Some(4),
            memory_max: Some(1 << 30),
            unclean_ends: Some(2),
            start_ms: Some(1_700_000_000_000),
        },
    })
}

const AROUND: SurroundingNumbers = SurroundingNumbers {
    connections_max: 500,
    clock_moved_ms: -1_500,
    clock_set_age_ms: Some(61_500),
    data_disk: Some([1 << 30, 1 << 32]),
    certificates: Some(CertificateNumbers { not_after_s: 5_000_000_000, refused: 1 }),
};

#[test]
fn the_text_is_well_formed_and_says_the_numbers() {
    let series = check(&two_shards()).expect("the format is kept");
    for (key, value) in [
        ("imgate_build_info{version=\"0.1.0\"}", 1.0),
        ("imgate_shards", 2.0),
        ("imgate_config_info{hash=\"0123abcd\"}", 1.0),
        ("imgate_ready", 0.0),
        ("imgate_not_ready{reason=\"shard\"}", 0.0),
        ("imgate_not_ready{reason=\"store\"}", 1.0),
        ("imgate_sessions", 6.0),
        ("imgate_sessions_by_profile{shard=\"1\",profile=\"v2\"}", 2.0),
        ("imgate_sessions_by_transport{shard=\"1\",transport=\"tls_deflate\"}", 2.0),
        ("imgate_http_requests_total{routes=\"v1\",status=\"4xx\"}", 1.0),
        ("imgate_http_request_seconds_bucket{routes=\"v1\",le=\"0.000065536\"}", 0.0),
        ("imgate_http_request_seconds_bucket{routes=\"v1\",le=\"0.000131072\"}", 1.0),
        ("imgate_http_request_seconds_bucket{routes=\"v1\",le=\"+Inf\"}", 1.0),
        ("imgate_http_request_seconds_count{routes=\"v1\"}", 1.0),
        ("imgate_post_seconds_bucket{shard=\"0\",le=\"+Inf\"}", 2.0),
        ("imgate_post_seconds_bucket{shard=\"0\",le=\"0.001048576\"}", 1.0),
        ("imgate_post_seconds_sum{shard=\"0\"}", 90.001),
        ("imgate_open_seconds_sum{shard=\"0\"}", 0.003),
        ("imgate_delivery_seconds_count{shard=\"1\"}", 3.0),
        ("imgate_delivery_seconds_sum{shard=\"1\"}", 0.006),
        ("imgate_fanout_seconds_bucket{shard=\"0\",le=\"0.000524288\"}", 1.0),
        ("imgate_shard_asleep_seconds_total{shard=\"0\"}", 2.5),
        ("imgate_thread_cpu_seconds_total{thread=\"shard-0\"}", 1.25),
        ("imgate_http_cross_origin_total", 1.0),
        ("imgate_proxied_total{outcome=\"no_client\"}", 5.0),
        ("imgate_proxy_unsaid_total{what=\"scheme\"}", 0.0),
        ("imgate_proxy_unsaid_total{what=\"host\"}", 1.0),
        ("imgate_proxy_seen_timestamp_seconds{what=\"silent\"}", 0.0),
        ("imgate_proxy_seen_timestamp_seconds{what=\"no_client\"}", 1_800_000_000.0),
        ("imgate_proxy_seen_timestamp_seconds{what=\"host\"}", 1_800_000_001.0),
        ("imgate_proxy_seen_timestamp_seconds{what=\"preamble\"}", 1_700_000_000.0),
        ("imgate_connections{shard=\"0\"}", 4.0),
        ("imgate_connections{shard=\"1\"}", 6.0),
        ("imgate_commands_refused_total{reason=\"busy\"}", 4.0),
        ("imgate_gate_refused_total{reason=\"timeout\"}", 10.0),
        ("imgate_sessions_ended_total{by=\"peer\"}", 14.0),
        ("imgate_sessions_ended_total{by=\"loss\"}", 16.0),
        ("imgate_http_connections{state=\"waiting\"}", 2.0),
        ("imgate_http_bytes", 4096.0),
        ("imgate_http_evicted_total{reason=\"memory\"}", 1.0),
        ("imgate_http_refused_total{reason=\"user\"}", 1.0),
        ("imgate_logins_total{outcome=\"locked\"}", 1.0),
        ("imgate_turn_seconds{shard=\"1\",quantile=\"0.999\"}", 0.000_004),
        ("imgate_turn_seconds_sum{shard=\"1\"}", 1.5),
        ("imgate_turn_seconds_count{shard=\"1\"}", 2.0),
        ("imgate_turn_max_seconds{shard=\"1\"}", 0.25),
        ("imgate_shard_turning_seconds{shard=\"0\"}", 0.0),
        ("imgate_shard_turning_seconds{shard=\"1\"}", 12.5),
        ("imgate_store_up", 1.0),
        ("imgate_object_store_up", 0.0),
        ("imgate_object_store_requests_total{operation=\"get\",outcome=\"late\"}", 1.0),
        ("imgate_object_store_seconds_count{operation=\"get\"}", 1.0),
        ("imgate_object_store_bytes_total{direction=\"out\"}", 512.0),
        ("imgate_store_queued{queue=\"reads\"}", 8.0),
        ("imgate_store_lane_queued{lane=\"heavy\"}", 5.0),
        ("imgate_store_late_total{lane=\"heavy\"}", 3.0),
        ("imgate_store_users_waiting", 6.0),
        ("imgate_store_clock_offset_seconds", -2.5),
        ("imgate_store_commit_seconds_total", 0.5),
        ("process_cpu_seconds_total", 1.5),
        ("process_start_time_seconds", 1_700_000_000.0),
        ("imgate_unclean_ends_total", 2.0),
        ("imgate_clock_set_age_seconds", 61.5),
        ("imgate_outbox_budget_bytes", 1_024.0),
        ("imgate_inbound_budget_bytes", 2_048.0),
        ("imgate_http_budget_bytes", 4_096.0),
    ] {
        assert_eq!(series.get(key), Some(&value), "{key}");
    }
}

/// What is asked of labels in texts, `metric{label="a|b"}` with whatever comparison: series that
/// there are not.
fn not_told(text: &str, scrape: &str) -> BTreeSet<String> {
    let text = text.replace("\\\"", "\"");
    let mut missing = BTreeSet::new();
    for (at, _) in text.match_indices('{') {
        let (before, rest) = text.split_at(at);
        let name_at = before.rfind(|c: char| !c.is_ascii_lowercase() && c != '_').map_or(0, |end| end + 1);
        let (name, Some((labels, _))) = (&before[name_at..], rest[1..].split_once('}')) else { continue };
        if !name.starts_with("imgate_") {
            continue;
        }
        for (label, value) in labels.split(',').filter_map(|pair| pair.split_once('=')) {
            let label = label.trim().trim_end_matches('!');
            let value = value.trim_start_matches('~').trim();
            let Some(value) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else { continue };
            if ["job", "instance", "le"].contains(&label) {
                continue;
            }
            let told = |value: &&str| {
                let pair = format!("{label}=\"{value}\"");
                let mut series = scrape.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
                series.any(|labels| labels.contains(&pair))
            };
            missing
                .extend(value.split('|').filter(|value| !told(value)).map(|value| format!("{name} {label}={value}")));
        }
    }
    missing
}

/// A rule whose condition names what is told no more never fires, and nothing else notices.
#[test]
fn rules_dashboard_and_runbook_name_labels_that_there_are() {
    let scrape = two_shards();
    for (name, text) in [
        ("alerts.yml", include_str!("../../../ops/prometheus/alerts.yml")),
        ("alerts.test.yml", include_str!("../../../ops/prometheus/alerts.test.yml")),
        ("imgate.json", include_str!("../../../ops/grafana/imgate.json")),
        ("operations.md", include_str!("../../../docs/operations.md")),
    ] {
        assert_eq!(not_told(text, &scrape), BTreeSet::new(), "{name}");
    }
    let wrong = "rate(imgate_gate_refused_total{reason=~\"busy|dull\"}[1m]) / imgate_logins_total{outcome!=\"good\"}";
    assert_eq!(not_told(wrong, &scrape).len(), 2, "the check can fail");
    assert_eq!(not_told("imgate_turn_seconds{a=~\\\"$x\\\",quantile=\\\"0.98\\\"}", &scrape).len(), 2, "in JSON, too");
}

#[test]
fn every_metric_is_rendered_and_nothing_else() {
    let text = two_shards();
    let rendered: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let named: Vec<(&str, &str)> = names::ALL.iter().map(|metric| (metric.name, metric.kind.word())).collect();
    assert_eq!(rendered, named);
}

#[test]
fn the_labels_are_those_that_were_promised() {
    let text = two_shards();
    for metric in names::ALL {
        let sample = text.lines().find(|line| line.starts_with(metric.name)).expect("every metric is rendered");
        let mut labels: Vec<&str> =
            sample.split(['{', ',', '}']).filter_map(|part| Some(part.split_once("=\"")?.0)).collect();
        labels.retain(|&label| label != "quantile" && label != "le");
        assert_eq!(labels, metric.labels, "{}", metric.name);
    }
}

#[test]
fn what_is_unknown_is_left_out() {
    let http = &HttpCounts::default();
    let accounts = &AccountCounts::default();
    let text = render(&Scrape {
        format: Format::Text,
        version: "0",
        config: "",
        unready: Readiness::default(),
        threads: &[],
        shards: &[],
        accounts,
        http,
        store: None,
        lost_log_lines: 0,
        trail_left_out: [0, 0],
        surroundings: AROUND,
        budgets: BudgetNumbers { outbox: 1_024, inbound: 2_048, http: 4_096 },
        cluster: Some(&CLUSTER),
        files: FileNumbers::default(),
        objects: None,
        process: ProcessNumbers::default(),
    });
    let series = check(&text).expect("the format is kept");
    assert!(!series.keys().any(|key| key.starts_with("process_")
        || key.starts_with("imgate_thread")
        || key.starts_with("imgate_object_store")
        || key.starts_with("imgate_store_up")));
    assert_eq!(series.get("imgate_sessions"), Some(&0.0));
}

#[test]
fn open_metrics_is_for_whoever_asks() {
    for (accept, format) in [
        ("", Format::Text),
        ("text/plain", Format::Text),
        ("*/*", Format::Text),
        ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
        ("application/json, application/openmetrics-text;version=0.0.1", Format::OpenMetrics),
        ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", Format::Text),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept}");
    }
    let text = two_shards_as(Format::OpenMetrics);
    assert!(text.ends_with("\n# EOF\n") && text.contains("# TYPE imgate_accepted counter\nimgate_accepted_total 0\n"));
    assert!(!text.contains("_total counter"), "families of counters have no suffix");
    let samples =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(samples(&text), samples(&two_shards()), "the samples are the same");
    // Families of which one is the other with a suffix would be one there.
    let mut families: Vec<&str> = names::ALL.iter().map(|metric| metric.name.trim_end_matches("_total")).collect();
    families.sort_unstable();
    assert!(families.windows(2).all(|pair| pair[0] != pair[1]), "{families:?}");
}

#[test]
fn the_checker_can_fail() {
    for bad in [
        "imgate_x 1\n",
        "# HELP a_total b\n# TYPE a_total counter\na_total x\n",
        "# HELP a_total b\n# TYPE a_total counter\na_total 1\na_total 2\n",
        "# HELP a b\n# TYPE a counter\na 1\n",
        "# HELP a b\n# TYPE a gauge\nb 1\n",
        "# HELP a b\n# TYPE a gauge\na_sum 1\n",
        "# HELP a b\n# TYPE a gauge\na{x=1} 1\n",
        "# HELP a b\n# TYPE a gauge\na{x=\"\"\"} 1\n",
        "# HELP a b\n# TYPE a gauge\na{x=\"1\" 1\n",
        "# HELP a b\n# TYPE a gauge\na 1",
        "# HELP a b\n# TYPE b gauge\nb 1\n",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_docs_are_what_the_command_prints() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(path).expect("docs/metrics.md is there");
    assert!(page == names::page(), "cargo run --offline -- docs metrics > docs/metrics.md");
}

//! `ops/`: every alert has its runbook section, and rules and dashboard ask for nothing that the gateway does not tell.

use std::collections::BTreeSet;

use imgate::config::{Config, Layers};
use imgate::limits::{CERTIFICATE_ENDS_SOON_S, CLOCK_SET_TOLD_S, DATA_ROOM_BYTES_MIN, READY_MS_MAX};
use imgate::metrics::names;

const ALERTS: &str = include_str!("../ops/prometheus/alerts.yml");
const ALERT_TESTS: &str = include_str!("../ops/prometheus/alerts.test.yml");
const DASHBOARD: &str = include_str!("../ops/grafana/imgate.json");
const DOCKERFILE: &str = include_str!("../Dockerfile");
const KUBERNETES: &str = include_str!("../ops/kubernetes/imgate.yaml");
const PACKAGES: &str = include_str!("../scripts/package.sh");
const STATUS_PAGE: &str = include_str!("../src/api/admin/status.html");
const RUNBOOK: &str = include_str!("../docs/operations.md");

/// The values of a key, a line each.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": ")).collect()
}

/// Names of metrics in a query.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("imgate_") || word.starts_with("process_"))
}

/// Those that no scrape has.
fn unknown(queries: &[&str]) -> BTreeSet<String> {
    let known = |name: &str| names::ALL.iter().any(|metric| metric.name == name);
    let suffixes = ["_bucket", "_sum", "_count"];
    let is_part = |name: &str| suffixes.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(known));
    queries
        .iter()
        .flat_map(|query| metrics(query))
        .filter(|name| !known(name) && !is_part(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn containers_are_made_of_what_there_is() {
    let cargo = include_str!("../Cargo.toml");
    let rust =
        cargo.lines().find_map(|line| line.strip_prefix("rust-version = \"")).expect("a version").trim_matches('"');
    assert!(DOCKERFILE.contains(&format!("FROM rust:{rust}-bookworm")), "the compiler is the one that is asked for");
    let image = format!("image: imgate:{}", env!("CARGO_PKG_VERSION"));
    assert!(KUBERNETES.contains(&image), "{image}");
    for path in values(KUBERNETES, "httpGet") {
        assert!(["/readyz", "/healthz"].iter().any(|known| path.contains(&format!("path: {known},"))), "{path}");
    }
    let (_, readiness) = KUBERNETES.split_once("readinessProbe:").expect("a probe");
    let patience: u64 = values(readiness, "timeoutSeconds")[0].parse().expect("seconds");
    assert!(patience * 1000 > 2 * READY_MS_MAX, "a slow store is told as one, and not taken for none");
    // One user in all three, so that a volume may be taken from one to the other.
    let user = "65532";
    assert!(
        DOCKERFILE.contains(&format!("USER {user}:{user}")) && PACKAGES.contains(&format!("imgate:x:{user}:{user}:"))
    );
    assert_eq!(values(KUBERNETES, "runAsUser"), [user]);
    let grace: u64 = values(KUBERNETES, "terminationGracePeriodSeconds")[0].parse().expect("seconds");
    let config = pod(&[]);
    assert!(grace * 1000 > config.drain.deadline_ms, "a drain is not cut short");
    for port in [config.listen[0].port(), config.admin.port()] {
        assert!(KUBERNETES.contains(&format!("containerPort: {port}")), "{port}");
    }
}

/// The variables of a pod with their values. Of what is a comment, too, if it is wanted.
fn variables(comments: bool) -> Vec<(String, String)> {
    let lines =
        KUBERNETES.lines().map(str::trim).map(|line| line.strip_prefix("# ").filter(|_| comments).unwrap_or(line));
    let lines: Vec<&str> = lines.map(str::trim).collect();
    let value = |pair: &[&str]| {
        let name = pair[0].strip_prefix("- name: ").filter(|name| name.starts_with("IMGATE_"))?;
        Some((name.to_owned(), pair[1].strip_prefix("value: ").map(|value| value.trim_matches('"').to_owned())?))
    };
    lines.windows(2).filter_map(value).collect()
}

/// The configuration of a pod; with `more` variables, that of one of several.
fn pod(more: &[(&str, &str)]) -> Config {
    let more_of_them = more.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let variables = variables(!more.is_empty()).into_iter().map(|(name, value)| (name.into(), value.into()));
    let mut layers = Layers::default();
    layers.environment(variables.chain(more_of_them)).expect("every variable is a setting");
    Config::from_layers(&layers).expect("every value is allowed")
}

#[test]
fn pods_of_a_cluster_tell_each_other_apart_and_take_over() {
    let (_, number) = KUBERNETES.split_once("- name: IMGATE_NODE\n").expect("each has a number of its own");
    let from = "fieldRef: { fieldPath: \"metadata.labels['apps.kubernetes.io/pod-index']\" }";
    assert!(number.lines().take(2).any(|line| line.trim() == from) && KUBERNETES.contains("kind: StatefulSet"));
    let one = pod(&[]);
    assert!(one.cluster.is_empty() && one.drain.return_after_ms > 0, "a single one has to come back first");
    assert!(KUBERNETES.contains("# - name: IMGATE_STORE\n"));
    let several = pod(&[("IMGATE_STORE", "mysql://im@db/im"), ("IMGATE_NODE", "2")]);
    assert!(!several.cluster.is_empty() && several.drain.return_after_ms == 0);
    // A proxy has looked twice before newcomers are refused.
    let period: u64 = values(KUBERNETES, "periodSeconds")[0].parse().expect("seconds");
    assert!(one.drain.announce_ms > 2 * period * 1000, "{}", one.drain.announce_ms);
}

#[test]
fn every_alert_has_its_runbook() {
    let names = values(ALERTS, "alert");
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        assert!(RUNBOOK.contains(&format!("\n#### {name}\n")), "docs/operations.md has no section {name}");
        let link = format!("runbook_url: docs/operations.md#{}", name.to_lowercase());
        assert!(ALERTS.contains(&link), "{name} does not link to its section");
    }
    assert_eq!(values(ALERTS, "expr").len(), names.len());
}

/// What `promtool test rules` is asked: whether each rule fires when it should, and is quiet while all is well.
#[test]
fn every_alert_is_tested() {
    let names = values(ALERTS, "alert");
    let (well, ill) = ALERT_TESTS.split_once("\n\n").expect("a gateway that is well comes first");
    let quiet = |name: &str| well.contains(&format!("{{eval_time: 18m, alertname: {name}}}"));
    let fires = |name: &str| ill.contains(&format!("alertname: {name}\n        exp_alerts:\n"));
    let missing: Vec<_> = names.iter().filter(|name| !quiet(name) || !fires(name)).collect();
    assert!(missing.is_empty(), "ops/prometheus/alerts.test.yml does not show that they fire, and do not: {missing:?}");
    assert!(!fires("ImgateNothing") && !quiet("ImgateNothing"), "the check can fail");
    let tested = values(ALERT_TESTS, "alertname");
    assert!(tested.iter().all(|name| names.contains(name)), "{tested:?}");
}

#[test]
fn numbers_in_alerts_are_rounded_for_people() {
    let shown: Vec<&str> = ALERTS.split("$value").skip(1).collect();
    assert!(shown.len() > 20, "{}", shown.len());
    for rest in shown {
        assert!(rest.starts_with(" | "), "as many digits as a float has: $value{}", &rest[..20]);
    }
}

/// Every program tells numbers of its process; without the job a rule would fire for any of them.
#[test]
fn numbers_of_the_process_are_asked_of_this_job() {
    let of_any = |query: &&str| !query.contains("imgate_") && metrics(query).count() > query.matches("{job=").count();
    let parts = values(ALERTS, "expr").into_iter().flat_map(|query| query.split(" or "));
    assert_eq!(parts.filter(of_any).collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(of_any(&"process_open_fds / process_max_fds{job=\"x\"} > 0.9"), "the check can fail");
}

/// The doctor, the log, the rules, the runbook and the status page warn at the same point.
#[test]
fn one_limit_is_the_same_wherever_it_is_told() {
    let days = format!("{} * 86400", CERTIFICATE_ENDS_SOON_S / 86_400);
    for (text, place) in [(ALERTS, "the rules"), (RUNBOOK, "the runbook")] {
        assert!(text.contains(&format!("imgate_data_free_bytes < {DATA_ROOM_BYTES_MIN}")), "the disk in {place}");
        assert!(text.contains(&format!("imgate_tls_not_after_seconds - time() < {days}")), "certificates in {place}");
    }
    assert!(STATUS_PAGE.contains(&format!("left < {days} ")), "certificates on the status page");
    let clock = format!("imgate_clock_set_age_seconds\") < {CLOCK_SET_TOLD_S} ");
    assert!(STATUS_PAGE.contains(&clock), "the clock on the status page");
    let window = format!("imgate_clock_moved_seconds[{}m]", CLOCK_SET_TOLD_S / 60);
    assert!(ALERTS.contains(&window) && RUNBOOK.contains(&window), "the clock in the rules and the runbook");
    let room = format!("imgate_data_free_bytes\") < 2 ** {} ", DATA_ROOM_BYTES_MIN.ilog2());
    assert!(STATUS_PAGE.contains(&room) && DATA_ROOM_BYTES_MIN.is_power_of_two(), "the disk on the status page");
}

#[test]
fn rules_and_dashboard_ask_for_what_there_is() {
    assert_eq!(unknown(&values(ALERTS, "expr")), BTreeSet::new());
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
    assert!(queries.len() > 50, "{}", queries.len());
    assert_eq!(unknown(&queries), BTreeSet::new());
    assert_eq!(unknown(&["rate(imgate_nothing_total[1m]) + imgate_turn_seconds_sum"]).len(), 1, "the check can fail");
}

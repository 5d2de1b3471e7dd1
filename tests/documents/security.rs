//! `docs/security.md` says what the code does: its tables of limits are compared with `limits`, the
//! settings and the metrics.

use imgate::config::{FIELDS, Field, Reach};
use imgate::metrics::names;

const DOC: &str = include_str!("../../docs/security.md");
const LIMITS: [&str; 10] = [
    include_str!("../../src/limits.rs"),
    include_str!("../../src/limits/backends.rs"),
    include_str!("../../src/limits/accounts.rs"),
    include_str!("../../src/limits/cluster.rs"),
    include_str!("../../src/limits/deflate.rs"),
    include_str!("../../src/limits/files.rs"),
    include_str!("../../src/limits/http.rs"),
    include_str!("../../src/limits/objects.rs"),
    include_str!("../../src/limits/store.rs"),
    include_str!("../../pictures/src/bounds.rs"),
];

/// Settings that bound nothing that a client could take too much of. A new setting stands here, or
/// in a table of the page.
const NO_LIMITS: &[&str] = &[
    "listen",
    "listen_proxy",
    "listen_tls",
    "tls_cert",
    "tls_key",
    "tls_records",
    "hsts",
    "trusted_proxies",
    "origins",
    "cors_origins",
    "admin",
    "data",
    "store",
    "durability",
    "sqlite_synchronous",
    "store_writers",
    "keep_age",
    "keep_count",
    "shards",
    "coalesce",
    "ping_after",
    "token_ttl",
    "drain_deadline",
    "drain_announce",
    "drain_spread",
    "drain_return_after",
    "drain_return_rate",
    "secret",
    "secret_fallback",
    "node",
    "cluster",
    "cluster_name",
    "compression",
    "log",
    "log_format",
    "audit_log",
    "access_log",
    "legacy_pages",
    "jwt_keys",
    "jwt_issuer",
    "jwt_audience",
    "jwt_leeway",
    "jwt_user_claim",
    "jwt_name_claim",
    "jwt_avatar_claim",
    "webhook_url",
    "webhook_secret",
    "webhook_events",
    "webhook_networks",
    "chatroom",
    "files",
    "s3_endpoint",
    "s3_region",
    "s3_access_key",
    "s3_secret_key",
    "s3_path_style",
];

/// One row of a table: what bounds, its default, the setting, the metric, the answer.
#[derive(Debug)]
struct Limit {
    names: Vec<String>,
    default: String,
    settings: Vec<String>,
    metrics: Vec<String>,
    answer: String,
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of all tables under `## Limits`.
fn limits() -> Vec<Limit> {
    let section = DOC.split("\n## ").find(|section| section.starts_with("Limits")).expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| limit "));
    let row = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [names, default, settings, metrics, answer] = cells[..] else { panic!("five cells: {row}") };
        Limit {
            names: quoted(names),
            default: default.to_owned(),
            settings: quoted(settings),
            metrics: quoted(metrics),
            answer: answer.to_owned(),
        }
    };
    rows.map(row).collect()
}

/// The value of a constant of `limits.rs`, if it is a product or a sum of numbers and of other
/// constants.
fn value(name: &str) -> Option<u64> {
    let mut all = LIMITS.iter().flat_map(|text| text.split("pub const "));
    let declared = all.find(|text| text.starts_with(&format!("{name}:")))?;
    let expression = declared.split_once('=')?.1.split_once(';')?.0;
    let factor = |text: &str| -> Option<u64> {
        let text = text.trim().trim_end_matches(" as u64").trim_end_matches(" as usize").trim();
        if let Some((left, right)) = text.split_once("<<") {
            let left = left.trim().trim_end_matches("_u64").trim_end_matches("_usize");
            return Some(left.parse::<u64>().ok()? << right.trim().parse::<u32>().ok()?);
        }
        text.replace('_', "").parse().ok().or_else(|| value(text.rsplit("::").next()?))
    };
    let product = |text: &str| text.split('*').map(factor).try_fold(1_u64, |all, one| Some(all * one?));
    expression.split('+').map(product).try_fold(0_u64, |all, one| Some(all + one?))
}

/// How the page writes a value, by the unit that the name of the constant ends in.
fn written(name: &str, value: u64) -> String {
    let has = |unit: &str| name.split('_').any(|word| word == unit);
    let scaled = |units: &[(u64, &str)]| {
        let (size, unit) =
            units.iter().find(|(size, _)| value >= *size && value.is_multiple_of(*size)).expect("a unit");
        format!("{} {unit}", grouped(value / size))
    };
    if has("MS") {
        scaled(&[(60_000, "min"), (1000, "s"), (1, "ms")])
    } else if has("BYTES") {
        scaled(&[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")])
    } else {
        grouped(value)
    }
}

/// `1234567` as `1,234,567`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let from_the_end = |at: usize| digits.len() - at;
    let comma = |at: usize| if at > 0 && from_the_end(at).is_multiple_of(3) { "," } else { "" };
    digits.char_indices().map(|(at, digit)| format!("{}{digit}", comma(at))).collect()
}

fn setting(key: &str) -> &'static Field {
    FIELDS.iter().find(|field| field.key == key).unwrap_or_else(|| panic!("there is no setting `{key}`"))
}

#[test]
fn every_limit_of_the_page_exists_with_its_value() {
    let limits = limits();
    assert!(limits.len() >= 40, "only {} limits were found", limits.len());
    let mut wrong = Vec::new();
    for limit in &limits {
        assert!(!limit.answer.is_empty(), "{limit:?}: what is its offender told?");
        assert!(!limit.names.is_empty() || !limit.settings.is_empty(), "{limit:?}: a constant or a setting is named");
        for name in
            limit.names.iter().filter(|name| name.bytes().all(|byte| byte == b'_' || !byte.is_ascii_lowercase()))
        {
            match value(name) {
                None if name.contains('/') => {}
                None => wrong.push(format!("{name}: no constant of src/limits.rs with a plain value")),
                Some(value) if limit.settings.is_empty() && limit.names.len() == 1 => {
                    let wanted = written(name, value);
                    if !limit.default.starts_with(&wanted) {
                        wrong.push(format!("{name}: the page says `{}`, the code {wanted}", limit.default));
                    }
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_setting_of_the_page_exists_with_its_default() {
    for limit in limits() {
        for key in &limit.settings {
            let default = setting(key).default.trim_matches('"');
            let shown = quoted(&limit.default);
            assert!(
                limit.settings.len() > 1 && limit.default.contains(default) || shown.iter().any(|text| text == default),
                "`{key}`: the page says {}, the code `{default}`",
                limit.default
            );
        }
    }
}

#[test]
fn every_metric_of_the_page_exists() {
    for limit in limits() {
        for metric in &limit.metrics {
            let (name, label) = metric.split_once('{').unwrap_or((metric, ""));
            let known = names::ALL.iter().find(|known| known.name == name);
            let known = known.unwrap_or_else(|| panic!("there is no metric `{name}`"));
            let label = label.split('=').next().unwrap_or_default();
            assert!(label.is_empty() || known.labels.contains(&label), "`{name}` has no label `{label}`");
        }
    }
}

#[test]
fn every_setting_that_is_a_limit_is_on_the_page() {
    let on_the_page: Vec<String> = limits().into_iter().flat_map(|limit| limit.settings).collect();
    let missing: Vec<&str> = FIELDS
        .iter()
        .filter(|field| field.reach != Reach::Hidden)
        .map(|field| field.key)
        .filter(|key| !NO_LIMITS.contains(key) && !on_the_page.iter().any(|other| other == key))
        .collect();
    assert!(missing.is_empty(), "docs/security.md has no row for {missing:?}");
    let both: Vec<&&str> = NO_LIMITS.iter().filter(|key| on_the_page.iter().any(|other| other == *key)).collect();
    assert!(both.is_empty(), "{both:?} are on the page, and need not be left out");
    for key in NO_LIMITS {
        let _ = setting(key);
    }
}

#[test]
fn values_are_written_as_people_write_them() {
    assert_eq!(written("HEAD_MS_MAX", 10_000), "10 s");
    assert_eq!(written("RETRY_MS", 100), "100 ms");
    assert_eq!(written("IDLE_MS_MAX", 120_000), "2 min");
    assert_eq!(written("HEAD_BYTES_MAX", 8192), "8 KiB");
    assert_eq!(written("HTTP_CONNS_MAX", 1_234_567), "1,234,567");
    assert_eq!(value("READ_SCRATCH_BYTES"), Some(64 * 1024));
    assert_eq!(value("UNREAD_BYTES_MAX"), Some(64 * 1024));
    assert_eq!(value("NO_SUCH_LIMIT"), None);
}

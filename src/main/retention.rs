//! `imgate retention`: what the running gateway keeps, and the pass that removes the rest.
//!
//! Owns: how that is printed.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;
use imgate::config::Config;
use serde_json::Value;

use super::ask::{address, ask_well};

#[derive(Args)]
pub(crate) struct RetentionArgs {
    /// Begins a pass at once instead of within a minute; one that is under way is followed by
    /// another.
    #[arg(long)]
    now: bool,
    /// Prints one JSON line.
    #[arg(long)]
    json: bool,
}

/// Asks, and prints.
pub(crate) fn run(config: &Config, args: &RetentionArgs) -> anyhow::Result<()> {
    let to = address(config);
    let token = imgate::node::gateways_key(config)?.admin_token();
    let answer = ask_well(to, if args.now { "POST" } else { "GET" }, "/admin/retention", Some(&token))?;
    if args.json {
        return Ok(writeln!(io::stdout(), "{answer}")?);
    }
    let view: Value = serde_json::from_str(&answer).context("the answer is no JSON")?;
    Ok(writeln!(io::stdout(), "{}\n{}", kept(&view), pass(&view))?)
}

fn kept(view: &Value) -> String {
    let (age_ms, count) = (number(view, "keep_age_ms"), number(view, "keep_count"));
    match (age_ms, count) {
        (0, 0) => "kept: everything".to_owned(),
        (0, count) => format!("kept: the newest {count} messages of each conversation"),
        (age_ms, 0) => format!("kept: messages of the last {}", age(age_ms)),
        (age_ms, count) => {
            format!("kept: messages of the last {}, and of them the newest {count} of each conversation", age(age_ms))
        }
    }
}

/// In the units in which it is set as a rule: `humantime` says 2 months and 29 days for 90 days.
fn age(ms: u64) -> String {
    const HOUR_MS: u64 = 60 * 60 * 1000;
    match ms {
        _ if ms.is_multiple_of(24 * HOUR_MS) => format!("{}d", ms / (24 * HOUR_MS)),
        _ if ms.is_multiple_of(HOUR_MS) => format!("{}h", ms / HOUR_MS),
        _ => humantime::format_duration(Duration::from_millis(ms)).to_string(),
    }
}

fn pass(view: &Value) -> String {
    if view["elsewhere"] == true {
        return "removed by another gateway of this database".to_owned();
    }
    let time = |name: &str| {
        let ms = view[name].as_u64()?;
        Some(humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms)).to_string())
    };
    let removed = format!("{} messages and {} dedupe keys removed", number(view, "messages"), number(view, "keys"));
    match (time("began_ms"), time("ended_ms")) {
        (None, _) => "no pass yet".to_owned(),
        (Some(began), None) => format!("a pass runs since {began}: {removed} so far"),
        (Some(_), Some(ended)) if view["failed"] == true => {
            format!("the last pass failed at {ended} (the log says why): {removed} before")
        }
        (Some(began), Some(ended)) => format!("the last pass: {began} to {ended}, {removed}"),
    }
}

fn number(view: &Value, name: &str) -> u64 {
    view[name].as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_says_what_is_kept_and_what_went() {
        let mut view = json!({
            "keep_age_ms": 0, "keep_count": 0, "running": false, "began_ms": null, "ended_ms": null, "messages": 0,
            "keys": 0, "failed": false, "elsewhere": false,
        });
        assert_eq!((kept(&view), pass(&view)), ("kept: everything".to_owned(), "no pass yet".to_owned()));
        (view["keep_age_ms"], view["began_ms"], view["messages"]) = (7_776_000_000_u64.into(), 0.into(), 12.into());
        assert_eq!(kept(&view), "kept: messages of the last 90d");
        let removed = "12 messages and 0 dedupe keys removed";
        assert_eq!(pass(&view), format!("a pass runs since 1970-01-01T00:00:00Z: {removed} so far"));
        view["ended_ms"] = 61_000.into();
        assert_eq!(pass(&view), format!("the last pass: 1970-01-01T00:00:00Z to 1970-01-01T00:01:01Z, {removed}"));
        (view["failed"], view["keep_count"]) = (true.into(), 500.into());
        assert!(pass(&view).contains("failed") && kept(&view).ends_with("the newest 500 of each conversation"));
        view["elsewhere"] = true.into();
        assert!(pass(&view).contains("another gateway"));
    }
}

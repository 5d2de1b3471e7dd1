//! `imgate reload`: a running gateway loads its configuration again, and says what became of it.

use std::io::{self, Write};

use anyhow::{Context, bail};
use clap::Args;
use imgate::config::Config;
use serde_json::Value;

use super::ask::{address, ask};

#[derive(Args)]
pub(crate) struct ReloadArgs {
    /// Prints one JSON line.
    #[arg(long)]
    json: bool,
}

/// Asks for it, and prints the outcome.
pub(crate) fn run(config: &Config, args: &ReloadArgs) -> anyhow::Result<()> {
    let to = address(config);
    let token = imgate::node::gateways_key(config)?.admin_token();
    let body = match ask(to, "POST", "/admin/reload", Some(&token))? {
        (200, body) => body,
        (401, _) => bail!("the gateway at {to} has another signing key: --data or IMGATE_SECRET must be its own"),
        (422, why) => bail!("the configuration stays as it is: {}", why.trim_end()),
        (status, why) => bail!("the gateway at {to} answers {status}: {}", why.trim_end()),
    };
    let reloaded: Value = serde_json::from_str(&body).context("that is no JSON")?;
    let list =
        |key: &str| -> Vec<&str> { reloaded[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{body}")?;
    } else {
        let lines = [
            ("in_force", "in force now"),
            ("needs_restart", "waits for a restart"),
            ("read_again", "read again and in force"),
        ];
        for (key, words) in lines {
            let keys = list(key);
            let keys = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
            writeln!(out, "{words}: {keys}")?;
        }
    }
    match list("refused")[..] {
        [] => Ok(()),
        ref why => bail!("a certificate stays as it was: {}", why.join("; ")),
    }
}

//! `imgate backup`: a copy of the database, made here, or by the running gateway.
//!
//! Owns: how a backup that the gateway makes is waited for.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use imgate::config::Config;
use imgate::store::{Halt, NeverHalt};
use serde_json::{Value, json};

use super::ask::{address, ask_well_for};

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// The copy. Nothing is overwritten.
    #[arg(value_name = "FILE", required_unless_present = "by_gateway", conflicts_with = "by_gateway")]
    file: Option<PathBuf>,
    /// Has the running gateway make it, in the folder `backups` of its data directory, and waits
    /// until it is made.
    #[arg(long)]
    by_gateway: bool,
    /// Its name there; made of the time without it.
    #[arg(long, value_name = "NAME", requires = "by_gateway")]
    name: Option<String>,
}

/// Pause between two looks whether the gateway has made it.
const LOOK: Duration = Duration::from_millis(200);
/// The gateway asks the disk before it answers.
const WAITS_S: u64 = 5;

/// Makes it, and prints one JSON line.
pub(crate) fn run(config: &Config, args: &BackupArgs) -> anyhow::Result<()> {
    let Some(file) = &args.file else { return by_gateway(config, args.name.as_deref()) };
    let never = Arc::new(NeverHalt) as Arc<dyn Halt>;
    let bytes = imgate::store::backup(config.store.expose(), &config.data, file, &never);
    printed(&file.to_string_lossy(), bytes.context("no backup")?)
}

fn by_gateway(config: &Config, name: Option<&str>) -> anyhow::Result<()> {
    let to = address(config);
    let token = imgate::node::gateways_key(config)?.admin_token();
    let path = name.map_or_else(
        || "/admin/backup".to_owned(),
        |name| {
            let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
            format!("/admin/backup?name={name}")
        },
    );
    let ask = |method: &str, path: &str| -> anyhow::Result<Value> {
        let answer = ask_well_for(to, method, path, Some(&token), WAITS_S)?;
        serde_json::from_str(&answer).context("the answer is no JSON")
    };
    let begun = ask("POST", &path)?;
    loop {
        let view = ask("GET", "/admin/backup")?;
        // Another one was asked for when this one had ended.
        if view["began_ms"] != begun["began_ms"] || view["file"] != begun["file"] {
            bail!("the gateway makes another backup by now; its log says what became of {}", begun["file"]);
        }
        match view["state"].as_str() {
            Some("running") => thread::sleep(LOOK),
            Some("done") => {
                let file = view["file"].as_str().context("the answer has no file")?;
                return printed(file, view["bytes"].as_u64().context("the answer has no size")?);
            }
            _ => bail!("no backup: {}", view["why"].as_str().unwrap_or("the gateway does not say why")),
        }
    }
}

fn printed(file: &str, bytes: u64) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{}", json!({ "file": file, "bytes": bytes }))?)
}

//! `imgate config print|running|check|default|doc|explain KEY`.
//!
//! Never: shows a secret.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use imgate::config::{Config, Layers, Shown, explain, sample, shown, table};
use imgate::node;
use serde_json::Value;

use super::ask::{address, ask_well};

/// What to do.
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints the configuration file with every setting and its default (the default).
    Default,
    /// Prints every setting as it is in force here, with where it came from. Secrets are not shown.
    Print,
    /// Prints every setting as the running gateway has it, with where it came from. Secrets are not
    /// shown.
    Running,
    /// Says whether the configuration is valid, its certificates included; exit code 1 and the
    /// reason if it is not.
    Check,
    /// Prints all settings as a Markdown table.
    Doc,
    /// Says everything about one setting: what it means, what is allowed, its value here and where
    /// that came from.
    Explain {
        /// As in the file, as a flag or as a variable.
        #[arg(value_name = "KEY")]
        key: String,
    },
}

/// Does it; `layers` are read only when they matter.
pub(crate) fn run(
    what: Option<&ConfigCommand>,
    layers: impl FnOnce() -> anyhow::Result<Layers>,
) -> anyhow::Result<ExitCode> {
    let text = match what {
        None | Some(ConfigCommand::Default) => sample(),
        Some(ConfigCommand::Doc) => table(),
        Some(ConfigCommand::Print) => shown(&layers()?).iter().map(|one| one.line() + "\n").collect(),
        Some(ConfigCommand::Running) => running(&Config::from_layers(&layers()?)?)?,
        Some(ConfigCommand::Check) => {
            let config = Config::from_layers(&layers()?)?;
            for (key, why) in config.without_effect() {
                let _ = writeln!(io::stderr(), "imgate: {key} has no effect: {why}");
            }
            for warning in node::check_certificates(&config)? {
                let _ = writeln!(io::stderr(), "imgate: {warning}");
            }
            format!("valid; settings {}\n", config.fingerprint())
        }
        Some(ConfigCommand::Explain { key }) => {
            let unknown = || format!("there is no setting `{key}`; `imgate config` prints all of them");
            explain(&layers()?, key).with_context(unknown)?
        }
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// As the gateway at the admin address of `config` tells it.
fn running(config: &Config) -> anyhow::Result<String> {
    let token = node::gateways_key(config)?.admin_token();
    let answer = ask_well(address(config), "GET", "/admin/config", Some(&token))?;
    let answer: Value = serde_json::from_str(&answer).context("the answer is no JSON")?;
    let settings = answer["settings"].as_array().context("the answer has no settings")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let line = |one: &Value| Shown::told(&text(&one["key"])?, text(&one["value"]), &text(&one["origin"])?);
    Ok(settings.iter().filter_map(line).map(|one| one.line() + "\n").collect())
}

//! `imgate key new|list|rotate|end`.
//!
//! Owns: what is printed. A key is printed once, alone on stdout, when it is made.
//! Never: opens the database: the gateway that runs on it is asked.

use std::io::{self, Write};

use anyhow::Context;
use clap::{Args, Subcommand};
use imgate::config::{Config, parse_duration_ms};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::ask::{address, ask_well};

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Makes a key and prints it. It is not shown again.
    New(NewArgs),
    /// Lists the keys, without their secrets.
    List,
    /// Makes a key in the place of another one, with the same name, scopes and rate, and prints it.
    Rotate {
        /// The id of the old key.
        id: String,
        /// How long the old key goes on.
        #[arg(long, value_name = "TIME", default_value = "24h")]
        grace: String,
    },
    /// Ends a key. Within a second nothing is done for it any more.
    End {
        /// Its id.
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct NewArgs {
    /// What it is called in lists and in the log.
    name: String,
    /// What it may do, with commas between: send, users, groups, online, history, moderate, data,
    /// stats, tokens.
    #[arg(long, value_name = "LIST")]
    scopes: String,
    /// Calls in a second.
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// How long it is good; for ever without it.
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
}

/// Asks the gateway and prints what it says.
pub(crate) fn run(config: &Config, what: &KeyCommand) -> anyhow::Result<()> {
    let to = address(config);
    let token = imgate::node::gateways_key(config)?.admin_token();
    let ask = |method: &str, path: &str| ask_well(to, method, path, Some(&token));
    match what {
        KeyCommand::New(args) => print_key(&ask("POST", &path_of(args)?)?),
        KeyCommand::List => print_list(&ask("GET", "/admin/keys")?),
        KeyCommand::Rotate { id, grace } => {
            let seconds = parse_duration_ms(grace).context("--grace is no time")?.div_ceil(1000);
            print_key(&ask("POST", &format!("/admin/keys/{}/rotate?grace_s={seconds}", encoded(id)))?)
        }
        KeyCommand::End { id } => {
            ask("DELETE", &format!("/admin/keys/{}", encoded(id)))?;
            Ok(writeln!(io::stderr(), "ended")?)
        }
    }
}

fn path_of(args: &NewArgs) -> anyhow::Result<String> {
    let mut path = format!("/admin/keys?name={}&scopes={}", encoded(&args.name), encoded(&args.scopes));
    if let Some(rate) = args.rate {
        path.push_str(&format!("&rate={rate}"));
    }
    if let Some(ttl) = &args.ttl {
        let seconds = parse_duration_ms(ttl).context("--ttl is no time")? / 1000;
        path.push_str(&format!("&ttl_s={seconds}"));
    }
    Ok(path)
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn print_key(answer: &str) -> anyhow::Result<()> {
    let answer: Value = serde_json::from_str(answer).context("the gateway says something else")?;
    let key = answer["key"].as_str().context("the gateway says something else")?;
    writeln!(io::stderr(), "{}", described(&answer))?;
    Ok(writeln!(io::stdout(), "{key}")?)
}

fn print_list(answer: &str) -> anyhow::Result<()> {
    let answer: Value = serde_json::from_str(answer).context("the gateway says something else")?;
    for key in answer["keys"].as_array().into_iter().flatten() {
        writeln!(io::stdout(), "{}", described(key))?;
    }
    Ok(())
}

fn described(key: &Value) -> String {
    let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
    let scopes: Vec<&str> = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let ends = key["expires_ms"].as_u64().map_or_else(String::new, |ms| {
        let left_s = ms.saturating_sub(imgate::clock::wall_ms()) / 1000;
        if left_s == 0 {
            ", ended".to_owned()
        } else {
            format!(", ends in {}", humantime::format_duration(std::time::Duration::from_secs(left_s)))
        }
    });
    format!("{} {:?}: {}, {} calls a second{ends}", text("id"), text("name"), scopes.join(","), key["rate"])
}

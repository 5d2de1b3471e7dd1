//! `imgate log FILTER`: the running gateway lets more or less into its log, until it loads its
//! configuration again or ends.

use std::io::{self, Write};

use clap::Args;
use imgate::config::Config;

use super::ask::{address, ask_well};

#[derive(Args)]
pub(crate) struct LogArgs {
    /// A level (off, error, warn, info, debug), or levels by module: `info,imgate::store=debug`.
    #[arg(value_name = "FILTER")]
    filter: String,
}

/// Asks for it.
pub(crate) fn run(config: &Config, args: &LogArgs) -> anyhow::Result<()> {
    imgate::log::check(&args.filter)?;
    // What is a filter has nothing in it that a query would have to hide, but blanks.
    let filter: String = args.filter.chars().filter(|c| !c.is_whitespace()).collect();
    let to = address(config);
    let token = imgate::node::gateways_key(config)?.admin_token();
    ask_well(to, "POST", &format!("/admin/log?filter={filter}"), Some(&token))?;
    Ok(writeln!(io::stdout(), "the log of the gateway at {to} has {filter}, until the next reload or restart")?)
}

//! `imgate online`: the users online on the running gateway, a number a line.

use std::io::{self, Write};

use anyhow::Context;
use imgate::config::Config;
use serde_json::Value;

use super::ask::{address, ask_well};

/// Reads page by page and prints.
pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    let to = address(config);
    let token = imgate::node::gateways_key(config)?.admin_token();
    let mut out = io::stdout().lock();
    let mut path = "/admin/online".to_owned();
    loop {
        let page = ask_well(to, "GET", &path, Some(&token))?;
        let page: Value = serde_json::from_str(&page).context("the answer is no JSON")?;
        for user in page["users"].as_array().context("the answer has no users")? {
            writeln!(out, "{user}")?;
        }
        let Some(next) = page["next"].as_str() else { return Ok(()) };
        path = format!("/admin/online?after={next}");
    }
}

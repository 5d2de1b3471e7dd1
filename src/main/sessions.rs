//! `imgate sessions USER`: a user's sessions on the running gateway, and their end.
//!
//! Owns: how they are printed, and the exit codes.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use imgate::config::Config;
use imgate::ids::UserId;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::ask::{address, ask_found};

/// The arguments.
#[derive(Args)]
pub(crate) struct SessionsArgs {
    /// The user's number.
    #[arg(value_name = "USER")]
    user: u64,
    /// Ends the session of that name, the first column of the list. Its client comes back by itself
    /// (4000): to keep a user out, see `imgate user ban`.
    #[arg(long, value_name = "SESSION", conflicts_with = "end_all")]
    end: Option<String>,
    /// Ends all of the user's sessions on this gateway.
    #[arg(long)]
    end_all: bool,
    /// Prints one JSON line.
    #[arg(long)]
    json: bool,
}

/// There is no such session.
const EXIT_NO_SUCH_SESSION: u8 = 3;
/// The gateway may wait for a shard, and then for its database, before it answers.
const WAITS_S: u64 = 5;

/// Lists the sessions, or ends some.
pub(crate) fn run(config: &Config, args: &SessionsArgs) -> anyhow::Result<ExitCode> {
    let user = UserId::new(args.user).context("an id is 1 to 2^53 - 1")?;
    let to = address(config);
    let token = imgate::node::gateways_key(config)?.admin_token();
    let ask = |method: &str, path: &str| ask_found(to, method, path, Some(&token), WAITS_S);
    let all = format!("/admin/users/{user}/sessions");
    let answer = match (&args.end, args.end_all) {
        (Some(session), _) => ask("DELETE", &format!("{all}/{}", utf8_percent_encode(session, NON_ALPHANUMERIC)))?,
        (None, true) => ask("DELETE", &all)?,
        (None, false) => ask("GET", &all)?,
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(words) if args.end.as_ref().is_some_and(|end| end.is_empty() || words.contains("session")) => {
            writeln!(io::stderr(), "imgate: user {user} has no such session on this gateway, or none any more")?;
            return Ok(EXIT_NO_SUCH_SESSION.into());
        }
        Err(_) => bail!("the gateway at {to} knows no such call: is it older than this command?"),
    };
    if args.json {
        writeln!(io::stdout(), "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer: Value = serde_json::from_str(&answer).context("the answer is no JSON")?;
    if args.end.is_some() || args.end_all {
        let ended = answer["ended"].as_u64().context("the answer has no number")?;
        writeln!(io::stdout(), "{ended} ended")?;
        return Ok(ExitCode::SUCCESS);
    }
    let sessions = answer["sessions"].as_array().context("the answer has no sessions")?;
    if sessions.is_empty() {
        writeln!(io::stderr(), "user {user} has no session on this gateway")?;
    } else {
        io::stdout().write_all(table(sessions).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

const TITLES: [&str; 8] = ["SESSION", "PROFILE", "TRANSPORT", "ADDRESS", "DEVICE", "SILENT", "WAITING", "STATE"];

/// A line for each, in columns; behind them what its login called itself, which has any length.
fn table(sessions: &[Value]) -> String {
    let rows: Vec<_> = sessions.iter().map(row).collect();
    let widths: Vec<usize> = (0..TITLES.len())
        .map(|at| rows.iter().map(|(cells, _)| cells[at].chars().count()).fold(TITLES[at].len(), usize::max))
        .collect();
    let line = |cells: &[String], last: &str| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}  {last}", cells.join("  ")).trim_end().to_owned() + "\n"
    };
    let titles = TITLES.map(str::to_owned);
    let rows = rows.iter().map(|(cells, agent)| line(cells, agent));
    std::iter::once(line(&titles, "LOGGED IN BY")).chain(rows).collect()
}

fn row(session: &Value) -> ([String; TITLES.len()], String) {
    let text = |name: &str| session[name].as_str().unwrap_or("-").to_owned();
    let number = |name: &str| session[name].as_u64().unwrap_or_default();
    let silent = format!("{} s", number("silent_ms") / 1000);
    let mut state = vec![if session["open"] == true { "open" } else { "opening" }.to_owned()];
    if let Some(why) = session["held_back"].as_str() {
        state.push(format!("held back ({why})"));
    }
    if session["behind"] == true {
        state.push("behind".to_owned());
    }
    let waiting = format!("{} B", number("waiting_bytes"));
    // A client's text must not move the cursor of the operator's terminal.
    let agent = session["login"]["agent"].as_str().unwrap_or_default();
    let agent = agent.chars().map(|c| if c.is_control() || turns_text(c) { '\u{fffd}' } else { c }).collect();
    let cells = [
        text("id"),
        text("profile"),
        text("transport"),
        text("address"),
        text("device"),
        silent,
        waiting,
        state.join(", "),
    ];
    (cells, agent)
}

/// Whether it changes the direction of what stands behind it (Unicode Standard Annex 9, section 2),
/// which would show the line in another order.
const fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sessions_stand_in_columns() {
        let short = json!({
            "id": "s0-1-1", "profile": "v2", "transport": "plain", "address": "192.0.2.1", "device": "web",
            "login": { "id": 5, "agent": "Fire\u{1b}[2Jfox\u{202e}" }, "open": true, "silent_ms": 61_500, "waiting_bytes": 0,
            "behind": false, "held_back": null,
        });
        let long = json!({
            "id": "s0-12345-17", "profile": "legacy", "transport": "tls_deflate", "address": "2001:db8::1",
            "device": "phone", "login": null, "open": true, "silent_ms": 0, "waiting_bytes": 4096, "behind": true,
            "held_back": "pace",
        });
        let opening = json!({ "id": "s0-2-1", "profile": "v2", "device": "web", "open": false });
        assert_eq!(
            table(&[short, long, opening]),
            "\
SESSION      PROFILE  TRANSPORT    ADDRESS      DEVICE  SILENT  WAITING  STATE                           LOGGED IN BY
s0-1-1       v2       plain        192.0.2.1    web     61 s    0 B      open                            Fire\u{fffd}[2Jfox\u{fffd}
s0-12345-17  legacy   tls_deflate  2001:db8::1  phone   0 s     4096 B   open, held back (pace), behind
s0-2-1       v2       -            -            web     0 s     0 B      opening
"
        );
    }
}

//! `imgate user show|ban|unban|delete ID`.
//!
//! Owns: how the outcome is printed, and the exit codes.
//! Never: opens a database on which a gateway runs that can be asked: its sessions would not hear
//! of it.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use imgate::api::control::{self, AskError};
use imgate::api::services::operator::{self, AccountView, Deed, DeedOutcome};
use imgate::config::Config;
use imgate::ids::UserId;
use imgate::store::Error;

/// The arguments.
#[derive(Args)]
pub(crate) struct UserArgs {
    /// What to do. `ban` ends the user's sessions at once and lets the user in no more; `unban`
    /// lets the user in again; `delete` removes everything that is not in the others' histories,
    /// for good; `show` changes nothing. Doing again what is done already is no error.
    #[arg(value_enum, value_name = "WHAT")]
    what: What,
    /// The user's number.
    #[arg(value_name = "ID")]
    id: u64,
    /// Prints one JSON line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Show,
    Ban,
    Unban,
    Delete,
}

/// There is no such user.
const EXIT_NO_SUCH_USER: u8 = 3;
/// Done or not done: look, and ask again.
const EXIT_UNSURE: u8 = 4;

/// Does it and prints the account as it stands then.
pub(crate) fn run(config: &Config, args: &UserArgs) -> anyhow::Result<ExitCode> {
    let user = UserId::new(args.id).context("an id is 1 to 2^53 - 1")?;
    let deed = match args.what {
        What::Show => Deed::Show,
        What::Ban => Deed::Ban,
        What::Unban => Deed::Unban,
        What::Delete => Deed::Delete,
    };
    let done = match control::ask(&config.data, deed, user) {
        Ok(Some(done)) => done,
        Ok(None) => offline(config, deed, user)?,
        Err(AskError::Unasked(error)) => {
            let data = config.data.display();
            bail!("not done: a gateway may run on {data}, and cannot be asked ({error}); use its account, or root");
        }
        Err(AskError::Unanswered(error)) => {
            writeln!(io::stderr(), "imgate: the gateway was asked and has not answered: {error}")?;
            return Ok(EXIT_UNSURE.into());
        }
    };
    match done {
        DeedOutcome::Account(shown) => {
            let text = if args.json { json_line(&shown)? } else { text(&shown) };
            io::stdout().write_all(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        DeedOutcome::NoSuchUser => {
            writeln!(io::stderr(), "imgate: there is no user {user}")?;
            Ok(EXIT_NO_SUCH_USER.into())
        }
        DeedOutcome::Unsure => {
            writeln!(io::stderr(), "imgate: done or not done; ask again")?;
            Ok(EXIT_UNSURE.into())
        }
        DeedOutcome::Busy => bail!("not done, or not all of it: the gateway or its database is busy; ask again"),
        DeedOutcome::Broken => bail!("the database is broken; the gateway's log says how"),
    }
}

fn offline(config: &Config, deed: Deed, user: UserId) -> anyhow::Result<DeedOutcome> {
    if config.store.expose().starts_with("memory") {
        bail!("no gateway answers in {}, and the store `memory:` is nowhere else", config.data.display());
    }
    // Opening makes what is not there, which is not wanted where a directory was mistyped.
    if config.store.expose().starts_with("sqlite") && !config.data.join("imgate.db").exists() {
        bail!("there is no database in {}", config.data.display());
    }
    let mut backend = imgate::node::open_backend(config)?;
    match operator::on_database(backend.as_mut(), deed, user) {
        Ok(Some(shown)) => Ok(DeedOutcome::Account(shown)),
        Ok(None) => Ok(DeedOutcome::NoSuchUser),
        Err(Error::Unknown(_)) => Ok(DeedOutcome::Unsure),
        Err(error) => Err(error.into()),
    }
}

fn json_line(shown: &AccountView) -> anyhow::Result<String> {
    Ok(serde_json::to_string(shown)? + "\n")
}

fn text(shown: &AccountView) -> String {
    let state = match (shown.deleted, shown.banned) {
        (true, _) => "deleted",
        (false, true) => "banned",
        (false, false) => "active",
    };
    let rows = [
        ("id", shown.id.to_string()),
        ("state", state.to_owned()),
        ("mobile", shown.mobile.clone()),
        ("nickname", shown.nickname.clone()),
        ("sex", shown.sex.clone()),
        ("avatar", shown.avatar.clone()),
        ("memo", shown.memo.clone()),
        ("created_ms", shown.created_ms.to_string()),
        ("token_epoch", shown.token_epoch.to_string()),
        ("friends", shown.friends.to_string()),
        ("groups", shown.groups.to_string()),
        ("upload_bytes", shown.upload_bytes.to_string()),
    ];
    // A user's text must not move the cursor of the operator's terminal.
    let plain = |text: &str| text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    rows.iter().map(|(name, value)| format!("{name}: {}\n", plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_shown_a_field_a_line() {
        let shown = AccountView {
            id: 7,
            mobile: "13800000001".into(),
            nickname: "Ann\u{1b}[2J\n".into(),
            sex: "W".into(),
            avatar: String::new(),
            memo: String::new(),
            created_ms: 1,
            banned: true,
            deleted: false,
            token_epoch: 2,
            friends: 3,
            groups: 4,
            upload_bytes: 5,
        };
        let text = text(&shown);
        assert_eq!(text.lines().count(), 12);
        assert!(
            text.starts_with("id: 7\nstate: banned\nmobile: 13800000001\nnickname: Ann\u{fffd}[2J\u{fffd}\n"),
            "{text}"
        );
        let line = json_line(&shown).expect("JSON");
        assert!(line.ends_with("}\n") && line.lines().count() == 1 && line.contains(r#""banned":true"#), "{line}");
    }
}

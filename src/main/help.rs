//! What `--help` of each command shows: the settings that concern it, and no others.
//!
//! Owns: [`command`]. All settings are flags of all commands, because scripts give the same ones to
//! `seed` and `serve`; whoever asks for help with `token` wants to know of three.
//! Never: refuses a flag. One that is hidden is still taken.

use clap::{Command, CommandFactory};
use imgate::config::FIELDS;

use super::Cli;

/// The settings that the help of a command shows; `None`: all of them.
fn settings(command: &str) -> Option<&'static [&'static str]> {
    match command {
        "token" => Some(&["data", "secret", "token_ttl", "log"]),
        "seed" => Some(&["data", "store", "secret", "token_ttl", "log"]),
        "backup" | "import" | "user" => Some(&["data", "store", "log"]),
        "doctor" => Some(&[
            "listen",
            "admin",
            "data",
            "store",
            "durability",
            "sqlite_synchronous",
            "shards",
            "max_connections",
            "log",
        ]),
        "top" | "sessions" => Some(&["admin", "data", "secret", "log"]),
        "drain" => Some(&["admin", "data", "secret", "drain_deadline", "log"]),
        "ready" => Some(&["admin", "log"]),
        "config" | "completions" => Some(&[]),
        _ => None,
    }
}

/// The command line with its help as it is shown.
pub(super) fn command() -> Command {
    let mut command = Cli::command();
    // Flags of all commands are handed down when it is built, and can be hidden then.
    command.build();
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        let Some(shown) = settings(&name) else { continue };
        command = command.mut_subcommand(name, |sub| {
            sub.mut_args(|arg| {
                let id = arg.get_id().as_str();
                let is_setting = FIELDS.iter().any(|field| field.key == id) || (id == "config" && shown.is_empty());
                let hidden = arg.is_hide_set() || (is_setting && !shown.contains(&id));
                arg.hide(hidden)
            })
        });
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(arguments: &[&str]) -> String {
        let error = command().try_get_matches_from(arguments).expect_err("help is no command");
        assert_eq!(error.exit_code(), 0, "{error}");
        error.to_string()
    }

    #[test]
    fn help_of_a_command_shows_what_concerns_it() {
        for (name, shown, hidden) in [
            ("token", "--token-ttl", "--shards"),
            ("seed", "--store", "--listen"),
            ("backup", "--store", "--token-ttl"),
            ("user", "--data", "--connect-rate"),
            ("config", "Usage", "--data"),
            ("serve", "--shards", "--count"),
        ] {
            let help = help(&["imgate", name, "--help"]);
            assert!(help.contains(shown) && !help.contains(hidden), "{name}: {help}");
        }
        let all = help(&["imgate", "--help"]);
        assert!(all.contains("--listen") && all.contains("--connect-rate"), "{all}");
        let known = |key: &&str| FIELDS.iter().any(|field| field.key == *key);
        for name in ["token", "seed", "backup", "import", "user", "config"] {
            let shown = settings(name).expect("a choice");
            assert!(shown.iter().all(&known), "{name}: {shown:?}");
        }
    }

    #[test]
    fn what_is_hidden_is_taken_all_the_same() {
        let matches = command()
            .try_get_matches_from(["imgate", "token", "--user", "1", "--shards", "2", "--listen", ":1", "--data", "x"])
            .expect("scripts give the same flags to all commands");
        let (_, token) = matches.subcommand().expect("a command");
        let one = |key: &str| token.get_one::<String>(key).map(String::as_str);
        assert_eq!((one("shards"), one("data")), (Some("2"), Some("x")));
    }
}

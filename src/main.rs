//! The command line: `serve` (the default), `token`, `seed`, `backup`, `import`, `user`, `key`,
//! `drain`, `reload`, `log`, `doctor`, `top`, `online`, `sessions`, `ready`, `config`,
//! `completions`.
//!
//! Owns: arguments, exit codes, what is printed.
//! Never: does the work itself; every command is a few lines over the library.

#[path = "main/ask.rs"]
mod ask;
#[path = "main/backup.rs"]
mod backup;
#[path = "main/doctor.rs"]
mod doctor;
#[path = "main/drain.rs"]
mod drain;
#[path = "main/files.rs"]
mod files;
#[path = "main/help.rs"]
mod help;
#[path = "main/keys.rs"]
mod keys;
#[path = "main/log.rs"]
mod log;
#[path = "main/online.rs"]
mod online;
#[path = "main/reload.rs"]
mod reload;
#[path = "main/retention.rs"]
mod retention;
#[path = "main/sessions.rs"]
mod sessions;
#[path = "main/settings.rs"]
mod settings;
#[path = "main/top.rs"]
mod top;
#[path = "main/users.rs"]
mod users;

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand, ValueEnum};
use imgate::auth::{Issuer, Key};
use imgate::clock;
use imgate::config::{self, Config, FIELDS, Layers, Reach, parse_duration_ms};
use imgate::ids::UserId;
use imgate::store::{Seed, Seeded};

/// Gives memory back when a burst is over, from a thread of its own: glibc keeps what a thousand
/// slow readers or bodies have taken.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A sharded, high-performance instant-messaging gateway.
#[derive(Parser)]
#[command(name = "imgate", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Verb>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs the gateway (the default).
    Serve,
    /// Prints tokens, one `id token` a line. Needs the signing key and no database.
    Token(TokenArgs),
    /// Fills the database with users and groups for load tests; prints one JSON line.
    Seed(SeedArgs),
    /// Copies the database to a new file, also while a gateway runs on it, or has the gateway do
    /// so; prints one JSON line.
    Backup(backup::BackupArgs),
    /// Prints what the running gateway keeps and what its retention has removed, and begins a pass.
    Retention(retention::RetentionArgs),
    /// Takes over users, groups and friends of a fastIM or IMChat database; prints one JSON line.
    /// No gateway may run on SQLite meanwhile.
    Import(ImportArgs),
    /// Shows, bans, lets in again or deletes a user, through the running gateway or, if none runs,
    /// on the database itself. Exit code 3: there is no such user; 4: done or not done.
    User(users::UserArgs),
    /// Makes, lists, replaces and ends the keys of backends, which call /api/v1/server, through the
    /// running gateway.
    Key {
        #[command(subcommand)]
        what: keys::KeyCommand,
    },
    /// Looks at the machine, the configuration and the database, and says what would stop a gateway
    /// with so many connections, with the command that mends it. Exit code 3: warnings; 4: the
    /// target is not reached.
    Doctor(doctor::DoctorArgs),
    /// Stops the running gateway in order, as SIGTERM does: sessions are closed at a pace, and each
    /// is told when to come back.
    Drain(DrainArgs),
    /// Has the running gateway load its configuration again, as SIGHUP does, and prints which
    /// settings are in force now and which wait for a restart; one JSON line with --json. Exit code
    /// 1: it is not valid, and nothing has changed; or a certificate cannot be taken up, and
    /// everything else is in force.
    Reload(reload::ReloadArgs),
    /// Lets more or less into the log of the running gateway, until it loads its configuration
    /// again or ends.
    Log(log::LogArgs),
    /// Shows live what the running gateway does, and which users take the most.
    Top(top::TopArgs),
    /// Prints the users online on the running gateway, a number a line.
    Online,
    /// Lists a user's sessions on the running gateway, and ends them. Exit code 3: there is no such
    /// session.
    Sessions(sessions::SessionsArgs),
    /// Asks the running gateway whether it is ready, as /readyz does: for containers, which have no
    /// other client. Exit code 1: it is not, or there is none.
    Ready,
    /// Prints what a shell needs to complete commands and settings.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Prints a page of the documentation that is made from the code.
    #[command(hide = true)]
    Docs {
        #[command(subcommand)]
        page: Page,
    },
    /// Prints the configuration file with every setting and its default; or what is in force here,
    /// and why.
    Config {
        #[command(subcommand)]
        what: Option<settings::ConfigCommand>,
    },
}

#[derive(Subcommand)]
enum Page {
    /// docs/metrics.md.
    Metrics,
    /// Writes manual pages, one of each command, to a directory.
    Man {
        /// Where to. It is there already.
        directory: PathBuf,
    },
}

#[derive(Args)]
struct DrainArgs {
    /// Returns at once instead of when the gateway has ended.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
struct TokenArgs {
    /// The (first) user's id.
    #[arg(long, value_name = "ID", required_unless_present = "operator")]
    user: Option<u64>,
    /// Prints the operator's token for the admin port instead.
    #[arg(long, conflicts_with = "user")]
    operator: bool,
    /// How many users, with consecutive ids.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    /// How long the tokens are valid; the setting `token_ttl` without it.
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// Whose login the tokens stand for: `imchat` sessions get their own group messages back.
    #[arg(long, value_enum, default_value_t = IssuerName::Fastim)]
    issuer: IssuerName,
}

#[derive(Args)]
struct SeedArgs {
    /// Users to make; their passwords fit nothing.
    #[arg(long, value_name = "N")]
    users: u64,
    /// Groups to make.
    #[arg(long, value_name = "G", default_value_t = 0)]
    groups: u64,
    /// Members of each group: the new users in turn.
    #[arg(long, value_name = "M", default_value_t = 0)]
    group_size: u64,
    /// Where the users' tokens go, one `id token` a line; readable by the owner only.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
}

#[derive(Args)]
struct ImportArgs {
    /// The old database, `mysql://user:password@host:port/database`. Nothing is changed there.
    // A variable keeps the password out of the list of processes.
    #[arg(long, value_name = "URL", env = "IMGATE_IMPORT_FROM", hide_env_values = true)]
    from: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum IssuerName {
    Fastim,
    Imchat,
    Own,
}

impl From<IssuerName> for Issuer {
    fn from(name: IssuerName) -> Self {
        match name {
            IssuerName::Fastim => Self::FastIm,
            IssuerName::Imchat => Self::ImChat,
            IssuerName::Own => Self::Own,
        }
    }
}

/// The settings given as flags, on any command. Which flags there are is the business of
/// [`FIELDS`].
struct Settings {
    file: Option<PathBuf>,
    layers: Layers,
}

impl Args for Settings {
    fn augment_args(mut command: Command) -> Command {
        command = command.next_help_heading("Settings").arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .global(true)
                .help("Reads settings from a TOML file [env: IMGATE_CONFIG]"),
        );
        for field in FIELDS.iter().filter(|field| field.reach != Reach::NoFlag) {
            let action = if field.reach == Reach::Repeatable { ArgAction::Append } else { ArgAction::Set };
            let help = format!("{} [env: {}] [default: {}]", field.doc, field.variable(), bare(field.default));
            let mut arg = Arg::new(field.key).long(field.flag()).value_name(field.value).action(action).global(true);
            if field.value == "BOOL" {
                // `--echo` alone is `--echo=true`.
                arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
            }
            command = command.arg(arg.hide(field.reach == Reach::Hidden).help(help));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A default without TOML's quotes and brackets.
fn bare(default: &str) -> String {
    default.trim_matches(['[', ']']).replace('"', "")
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self { file: None, layers: Layers::default() };
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(file) = matches.get_one::<String>("config") {
            self.file = Some(PathBuf::from(file));
        }
        for field in FIELDS.iter().filter(|field| field.reach != Reach::NoFlag) {
            if let Some(values) = matches.get_many::<String>(field.key) {
                self.layers.flag(field, values.cloned().collect());
            }
        }
        Ok(())
    }
}

impl Settings {
    /// The file, the environment and the flags, as they are now.
    fn load(&self) -> anyhow::Result<Layers> {
        let mut layers = self.layers_of_file()?;
        layers.environment(std::env::vars_os())?;
        Ok(layers)
    }

    /// As [`Settings::load`], for commands that serve no clients: a variable that is no setting is
    /// told, and costs nothing more.
    fn load_leniently(&self) -> anyhow::Result<Layers> {
        let mut variables: Vec<_> = std::env::vars_os().collect();
        loop {
            let mut layers = self.layers_of_file()?;
            match layers.environment(variables.iter().cloned()) {
                Err(config::Error::UnknownVariable { variable, meant }) => {
                    variables.retain(|(name, _)| *name != *variable);
                    let error = config::Error::UnknownVariable { variable, meant };
                    let _ = writeln!(io::stderr(), "imgate: {error}");
                }
                taken => return Ok(taken.map(|()| layers)?),
            }
        }
    }

    fn layers_of_file(&self) -> anyhow::Result<Layers> {
        let mut layers = self.layers.clone();
        // As with settings, an empty variable is as good as none.
        let named = std::env::var_os("IMGATE_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        if let Some(path) = self.file.clone().or(named) {
            layers.file(&path)?;
        }
        Ok(layers)
    }
}

fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&help::command().get_matches()).unwrap_or_else(|error| error.exit());
    match run(cli) {
        Ok(code) => code,
        // The reader of our output has what it wanted: `imgate token --count 1000000 | head -1`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "imgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Some(Verb::Config { what }) = &cli.command {
        return settings::run(what.as_ref(), || cli.settings.load());
    }
    match &cli.command {
        Some(Verb::Docs { page: Page::Metrics }) => {
            io::stdout().write_all(imgate::metrics::names::page().as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Verb::Docs { page: Page::Man { directory } }) => {
            files::manual(directory).with_context(|| format!("cannot write to {}", directory.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Verb::Completions { shell }) => {
            files::completions(*shell, &mut io::stdout().lock())?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let serves = matches!(cli.command, None | Some(Verb::Serve));
    let layers = if serves { cli.settings.load()? } else { cli.settings.load_leniently()? };
    let config = Config::from_layers(&layers)?;
    let log = imgate::log::start(&config.log, config.log_format).context("cannot start the log")?;
    match cli.command {
        None | Some(Verb::Serve) => {
            let settings = cli.settings;
            let port = imgate::node::run(&config, layers, &log, Box::new(move || settings.load()))?;
            // The port last: whoever waits for the end of this process looks at it.
            drop(log);
            drop(port);
        }
        Some(Verb::Token(args)) => token(&config, &args)?,
        Some(Verb::Seed(args)) => seed(&config, &args)?,
        Some(Verb::Backup(args)) => backup::run(&config, &args)?,
        Some(Verb::Retention(args)) => retention::run(&config, &args)?,
        Some(Verb::Import(args)) => import(&config, &args.from)?,
        Some(Verb::Doctor(args)) => return doctor::run(&config, &args),
        Some(Verb::Online) => online::run(&config)?,
        Some(Verb::Sessions(args)) => return sessions::run(&config, &args),
        Some(Verb::Log(args)) => log::run(&config, &args)?,
        Some(Verb::Top(args)) => top::run(&config, &args)?,
        Some(Verb::Drain(args)) => drain::run(&config, !args.no_wait)?,
        Some(Verb::Reload(args)) => reload::run(&config, &args)?,
        Some(Verb::Key { what }) => keys::run(&config, &what)?,
        Some(Verb::User(args)) => return users::run(&config, &args),
        Some(Verb::Ready) => {
            ask::ask_well(ask::address(&config), "GET", "/readyz", None)?;
        }
        Some(Verb::Config { .. } | Verb::Docs { .. } | Verb::Completions { .. }) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn token(config: &Config, args: &TokenArgs) -> anyhow::Result<()> {
    let ttl_ms = match &args.ttl {
        None => config.token_ttl_ms,
        Some(text) => parse_duration_ms(text).with_context(|| format!("--ttl: `{text}` is no time such as 30d"))?,
    };
    if args.operator {
        return Ok(writeln!(io::stdout(), "{}", imgate::node::gateways_key(config)?.admin_token())?);
    }
    let first = args.user.and_then(UserId::new).context("--user: an id is 1 to 2^53 - 1")?;
    let tokens = Tokens {
        key: imgate::node::tokens_key(config)?,
        issuer: args.issuer.into(),
        expires_ms: clock::wall_ms() + ttl_ms,
    };
    tokens.write(first, args.count, BufWriter::new(io::stdout().lock()))
}

fn seed(config: &Config, args: &SeedArgs) -> anyhow::Result<()> {
    if args.group_size > args.users {
        bail!("--group-size: a group of {} needs as many users, not {}", args.group_size, args.users);
    }
    // The key first: a seed without tokens would have to be thrown away.
    let key = imgate::node::signing_key(config)?;
    let now_ms = clock::wall_ms();
    let wanted = Seed { users: args.users, groups: args.groups, group_size: args.group_size, created_ms: now_ms };
    let seeded = imgate::node::open_backend(config)?.seed(&wanted)?;
    if let Some(path) = &args.tokens {
        let tokens = Tokens { key, issuer: Issuer::FastIm, expires_ms: now_ms + config.token_ttl_ms };
        let file = private_file(path).with_context(|| format!("cannot write {}", path.display()))?;
        tokens.write(seeded.first_user, seeded.users, BufWriter::new(file))?;
    }
    Ok(writeln!(io::stdout(), "{}", seeded_line(&seeded))?)
}

fn import(config: &Config, from: &str) -> anyhow::Result<()> {
    let mut backend = imgate::node::open_backend(config)?;
    let done = imgate::store::import(from, backend.as_mut()).context("the import ended early; it may be repeated")?;
    let line = serde_json::json!({
        "users": done.users, "users_renumbered": done.users_renumbered, "users_here": done.users_here, "users_left_out": done.users_left_out,
        "groups": done.groups, "groups_renumbered": done.groups_renumbered, "groups_here": done.groups_here, "groups_left_out": done.groups_left_out,
        "members": done.members, "friends": done.friends, "contacts_left_out": done.contacts_left_out,
    });
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// `{"users":…,"first_user":…,"groups":[ids]}`.
fn seeded_line(seeded: &Seeded) -> String {
    let groups: Vec<u64> = seeded.groups.iter().map(|group| group.get()).collect();
    let Seeded { users, first_user, .. } = seeded;
    format!(r#"{{"users":{users},"first_user":{first_user},"groups":{}}}"#, serde_json::json!(groups))
}

/// Tokens of consecutive users.
struct Tokens {
    key: Key,
    issuer: Issuer,
    expires_ms: u64,
}

impl Tokens {
    fn write(&self, first: UserId, count: u64, mut out: impl Write) -> anyhow::Result<()> {
        for offset in 0..count {
            let id = first.get().checked_add(offset).and_then(UserId::new);
            let user = id.with_context(|| format!("there is no user {offset} after {first}"))?;
            // Epoch 0 is that of a user without a log-out everywhere.
            writeln!(out, "{user} {}", self.key.issue(user, 0, self.issuer, self.expires_ms))?;
        }
        Ok(out.flush()?)
    }
}

/// A fresh file for its owner only, also when there was one for everybody: tokens are as good as
/// passwords.
fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(path)?;
    file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
    Ok(file)
}

const OWNER_ONLY: u32 = 0o600;

#[cfg(test)]
mod tests {
    use super::*;
    use imgate::ids::GroupId;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_may_stand_on_either_side_of_the_command() {
        for line in [
            &["imgate", "--shards", "3", "serve"][..],
            &["imgate", "serve", "--shards", "3"],
            &["imgate", "--shards=3"],
        ] {
            let cli = Cli::try_parse_from(line).expect("a valid command line");
            let config = Config::from_layers(&cli.settings.layers).expect("a valid setting");
            assert_eq!(config.shards, 3, "{line:?}");
        }
        assert!(Cli::try_parse_from(["imgate", "--secret", "x"]).is_err(), "others may read a process's arguments");
    }

    #[test]
    fn the_line_of_a_seed_is_json() {
        let seeded = Seeded {
            users: 5,
            first_user: UserId::new(7).expect("an id"),
            groups: [3, 4].into_iter().filter_map(GroupId::new).collect(),
        };
        assert_eq!(seeded_line(&seeded), r#"{"users":5,"first_user":7,"groups":[3,4]}"#);
    }

    #[test]
    fn tokens_are_those_of_consecutive_users() {
        let key = Key::new([1; 32]);
        let tokens = Tokens { key: key.clone(), issuer: Issuer::ImChat, expires_ms: 1000 };
        let mut out = Vec::new();
        tokens.write(UserId::new(41).expect("an id"), 2, &mut out).expect("memory takes everything");
        let lines: Vec<(u64, Issuer)> = String::from_utf8(out)
            .expect("text")
            .lines()
            .map(|line| {
                let (id, token) = line.split_once(' ').expect("id and token");
                let identity = key.verify(token, 999).expect("valid before its end");
                assert_eq!(id, identity.user().to_string());
                (identity.user().get(), identity.issuer())
            })
            .collect();
        assert_eq!(lines, [(41, Issuer::ImChat), (42, Issuer::ImChat)]);
        let last = UserId::new(imgate::ids::ID_MAX).expect("an id");
        assert!(tokens.write(last, 2, &mut Vec::new()).is_err(), "there is no user after the last");
    }
}

//! The command line as a person uses it: the real binary, in a folder of its own.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The binary, without the settings of this machine, with its data in `folder`.
fn imgate(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env_clear().current_dir(folder).args(args).stdin(Stdio::null());
    command
}

fn run(folder: &TempDir, args: &[&str]) -> Output {
    imgate(folder, args).output().expect("the binary can be started")
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

/// A folder with a data directory in which no gateway has run yet.
fn with_data() -> TempDir {
    let folder = folder();
    std::fs::create_dir(folder.path().join("data")).expect("the folder can be written");
    folder
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

#[test]
fn config_prints_a_file_that_it_reads() {
    let folder = with_data();
    let printed = run(&folder, &["config"]);
    assert!(printed.status.success());
    assert_eq!(text(&printed.stdout), imgate::config::sample());
    std::fs::write(folder.path().join("imgate.toml"), &printed.stdout).expect("the folder can be written");
    let token = run(&folder, &["token", "--user", "1", "--config", "imgate.toml"]);
    assert!(token.status.success(), "{}", text(&token.stderr));
}

#[test]
fn shells_and_manuals_know_every_command() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish"] {
        let printed = run(&folder, &["completions", shell]);
        assert!(printed.status.success(), "{}", text(&printed.stderr));
        for word in ["doctor", "drain", "trusted-proxies"] {
            assert!(text(&printed.stdout).contains(word), "{shell} does not know {word}");
        }
    }
    std::fs::create_dir(folder.path().join("man")).expect("a folder");
    let made = run(&folder, &["docs", "man", "man"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    for page in ["imgate.1", "imgate-serve.1", "imgate-doctor.1", "imgate-config-explain.1"] {
        let page = std::fs::read_to_string(folder.path().join("man").join(page)).expect("a page");
        assert!(page.starts_with(".ie") && page.contains(".SH NAME"), "{page}");
    }
    assert!(!folder.path().join("man/imgate-docs.1").exists(), "what is hidden has no page");
}

#[test]
fn nothing_that_runs_is_not_ready() {
    // A port of nobody: it was free a moment ago, and is not listened on now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    let asked = run(&folder(), &["ready", "--admin", &free.to_string()]);
    assert_eq!(asked.status.code(), Some(1), "{}", text(&asked.stderr));
    assert!(text(&asked.stderr).contains("no gateway answers"), "{}", text(&asked.stderr));
}

#[test]
fn version_is_that_of_the_package() {
    let printed = run(&folder(), &["--version"]);
    assert_eq!(text(&printed.stdout), format!("imgate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn mistakes_are_told_with_their_origin() {
    let folder = folder();
    let bad = imgate(&folder, &["token", "--user", "1"]).env("IMGATE_SHARDS", "many").output().expect("it starts");
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stderr).starts_with("imgate: IMGATE_SHARDS: `many`"), "{}", text(&bad.stderr));
    assert!(bad.stdout.is_empty());
    let unknown = run(&folder, &["--shrads", "2"]);
    assert_eq!(unknown.status.code(), Some(2));
    let file = run(&folder, &["--config", "nowhere.toml"]);
    assert!(text(&file.stderr).contains("nowhere.toml"), "{}", text(&file.stderr));
}

#[test]
fn what_changes_nothing_is_told_and_empty_variables_are_none() {
    let folder = folder();
    let mut check = imgate(&folder, &["config", "check", "--durability", "volatile", "--keep-age", "30d"]);
    let checked = check.env("IMGATE_CONFIG", "").env("IMGATE_SHARDS", "").output().expect("it starts");
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&checked.stderr).contains("keep_age has no effect"), "{}", text(&checked.stderr));
    let module = run(&folder, &["config", "check", "--log", "info,imgate::stoer=debug"]);
    assert_eq!(module.status.code(), Some(1));
    assert!(text(&module.stderr).contains("`imgate::stoer`"), "{}", text(&module.stderr));
}

#[test]
fn a_check_reads_the_certificates() {
    let folder = folder();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("it is a name");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("it is a name");
    std::fs::write(folder.path().join("a.pem"), made.cert.pem()).expect("the folder can be written");
    let check = |key: &str| {
        std::fs::write(folder.path().join("a.key"), key).expect("the folder can be written");
        let settings = ["config", "check", "--listen-tls", "127.0.0.1:0", "--tls-cert", "a.pem", "--tls-key", "a.key"];
        run(&folder, &settings)
    };
    let fits = check(&made.signing_key.serialize_pem());
    assert!(fits.status.success(), "{}", text(&fits.stderr));
    assert!(text(&fits.stderr).contains("others may read the key"), "{}", text(&fits.stderr));
    let another = check(&other.signing_key.serialize_pem());
    assert_eq!(another.status.code(), Some(1));
    assert!(text(&another.stderr).contains("cannot serve TLS"), "{}", text(&another.stderr));
}

#[test]
fn help_shows_defaults_without_the_quotes_of_the_file() {
    let help = run(&folder(), &["--help"]);
    let words = text(&help.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("[default: 127.0.0.0/8, ::1/128]"), "{words}");
}

#[test]
#[cfg(feature = "legacy")]
fn a_checkout_that_is_not_there_is_named() {
    let folder = folder();
    let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let gone = run(&folder, &[&listen[..], &["--legacy-pages", "no/such/folder"]].concat());
    assert_eq!(gone.status.code(), Some(1));
    let told = text(&gone.stderr);
    assert!(told.contains("legacy_pages") && told.contains("no/such/folder"), "{told}");
}

#[test]
fn tokens_need_no_database_and_keep_their_key() {
    let folder = with_data();
    let first = run(&folder, &["token", "--user", "7", "--count", "3"]);
    let ids: Vec<&str> = text(&first.stdout).lines().filter_map(|line| Some(line.split_once(' ')?.0)).collect();
    assert_eq!(ids, ["7", "8", "9"], "{}", text(&first.stderr));
    let made: Vec<_> = std::fs::read_dir(folder.path().join("data")).expect("the data directory").collect();
    assert_eq!(made.len(), 1, "nothing but the key: {made:?}");
    let key = imgate::auth::Key::load_or_create(&folder.path().join("data/secret.key")).expect("the key stays").key;
    let token = text(&first.stdout).lines().next().and_then(|line| line.split_once(' ')).expect("a line").1;
    assert_eq!(key.verify(token, 0).expect("signed with it").user().get(), 7);
}

#[test]
fn asking_a_gateway_makes_no_key() {
    let folder = folder();
    for args in [&["key", "list"][..], &["drain"], &["reload"], &["top", "--once"], &["token", "--operator"]] {
        let asked = run(&folder, args);
        assert!(!asked.status.success() && asked.stdout.is_empty(), "{args:?}");
        assert!(text(&asked.stderr).contains("data/secret.key: --data"), "{args:?}: {}", text(&asked.stderr));
    }
    assert!(!folder.path().join("data").exists(), "a key that no gateway has was made");
}

#[test]
fn a_mistyped_data_directory_gets_no_key() {
    let folder = with_data();
    for args in [&["token", "--user", "7"][..], &["token", "--operator"]] {
        let asked = run(&folder, &[args, &["--data", "no/such/folder"]].concat());
        assert!(!asked.status.success() && asked.stdout.is_empty(), "{args:?}");
        assert!(text(&asked.stderr).contains("no/such/folder"), "{args:?}: {}", text(&asked.stderr));
        assert!(!folder.path().join("no").exists(), "{args:?} makes nothing");
    }
    // One that is there gets a key for users' tokens before the first start, and none for an operator's.
    let operator = run(&folder, &["token", "--operator"]);
    assert!(!operator.status.success() && !folder.path().join("data/secret.key").exists());
    assert!(run(&folder, &["token", "--user", "7"]).status.success());
    assert!(run(&folder, &["token", "--operator"]).status.success(), "now there is one");
    // A secret of the configuration needs no directory.
    let mut shared = imgate(&folder, &["token", "--operator", "--data", "no/such/folder"]);
    assert!(shared.env("IMGATE_SECRET", "open-sesame-open-sesame").status().expect("it starts").success());
}

#[test]
fn the_data_directory_is_private() {
    let folder = folder();
    assert!(run(&folder, &["seed", "--users", "1"]).status.success());
    let mode = std::fs::metadata(folder.path().join("data")).expect("it was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the messages of all users lie there");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let folder = with_data();
    // The first call makes the key, and says so.
    assert!(run(&folder, &["token", "--user", "1"]).status.success());
    let mut child = imgate(&folder, &["token", "--user", "1", "--count", "100000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert!(ended.status.success() && ended.stderr.is_empty(), "{}", text(&ended.stderr));
}

#[test]
fn seed_fills_the_store_and_writes_tokens() {
    let folder = folder();
    let seeded = run(&folder, &["seed", "--users", "50", "--groups", "2", "--group-size", "10", "--tokens", "t.txt"]);
    assert!(seeded.status.success(), "{}", text(&seeded.stderr));
    let line: serde_json::Value = serde_json::from_slice(&seeded.stdout).expect("one JSON document");
    assert_eq!(line["users"], 50);
    assert_eq!(line["groups"].as_array().map(Vec::len), Some(2));
    let first = line["first_user"].as_u64().expect("a number");
    let tokens = std::fs::read_to_string(folder.path().join("t.txt")).expect("the tokens are written");
    let ids: Vec<u64> = tokens.lines().filter_map(|line| line.split_once(' ')?.0.parse().ok()).collect();
    assert_eq!(ids, (first..first + 50).collect::<Vec<u64>>());

    let again = run(&folder, &["seed", "--users", "5"]);
    let line: serde_json::Value = serde_json::from_slice(&again.stdout).expect("one JSON document");
    assert_eq!(line["first_user"], first + 50, "a second seed comes after the first");

    let too_large = run(&folder, &["seed", "--users", "5", "--groups", "1", "--group-size", "6"]);
    assert_eq!(too_large.status.code(), Some(1));
}

#[test]
fn who_cannot_listen_leaves_nothing_behind() {
    let folder = folder();
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    let taken = held.local_addr().expect("a bound socket has an address").to_string();
    let refused = |args: &[&str]| {
        let refused = run(&folder, args);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains(&format!("cannot listen on {taken}")), "{}", text(&refused.stderr));
        assert!(!folder.path().join("data").exists(), "a directory was made");
    };
    refused(&["--listen", &taken, "--admin", "127.0.0.1:0"]);
    refused(&["--listen", "127.0.0.1:0", "--admin", &taken]);
}

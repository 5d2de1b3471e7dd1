//! Tests of the configuration: layers, ranges, the sample.

use std::ffi::OsString;
use std::path::Path;

use super::*;

fn field(key: &str) -> &'static Field {
    FIELDS.iter().find(|field| field.key == key).expect("the test names a setting that exists")
}

fn with_flags(flags: &[(&str, &[&str])]) -> Result<Config, Error> {
    let mut layers = Layers::default();
    for (key, values) in flags {
        layers.flag(field(key), values.iter().map(|&value| value.to_owned()).collect());
    }
    Config::from_layers(&layers)
}

fn defaults() -> Config {
    Config::from_layers(&Layers::default()).expect("the defaults are allowed")
}

fn variables(given: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    given.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn a_variable_that_is_no_setting_is_an_error_and_says_what_was_meant() {
    let refused = |name: &str| {
        let error = Layers::default().environment(variables(&[(name, "30d")])).expect_err(name);
        error.to_string()
    };
    assert!(refused("IMGATE_KEEPAGE").contains("did you mean `IMGATE_KEEP_AGE`?"));
    assert!(refused("IMGATE_SHARD").contains("did you mean `IMGATE_SHARDS`?"));
    assert!(!refused("IMGATE_XYZZY").contains("did you mean"));
    let kubernetes =
        [("IMGATE_SERVICE_HOST", "10.0.0.1"), ("IMGATE_PORT", "tcp://10.0.0.1:8081"), ("IMGATE_PORT_8081_TCP", "x")];
    Layers::default().environment(variables(&kubernetes)).expect("what others set is no mistake");
    let bytes = std::os::unix::ffi::OsStringExt::from_vec(vec![b'3', 0xff]);
    let error = Layers::default().environment([("IMGATE_SHARDS".into(), bytes)]).expect_err("no text");
    assert!(matches!(error, Error::NoText { .. }), "{error}");
}

#[test]
fn zero_is_a_time_and_a_refused_value_names_units_and_range() {
    for zero in ["0", "0s", "0ms"] {
        assert_eq!(with_flags(&[("coalesce", &[zero])]).expect("zero").coalesce_ms, 0, "{zero}");
        assert_eq!(with_flags(&[("keep_age", &[zero])]).expect("zero").keep.age_ms, 0, "{zero}");
    }
    let error = with_flags(&[("ping_after", &["5"])]).expect_err("no unit").to_string();
    assert!(error.contains("11s to 30m") && error.contains("250ms"), "{error}");
    let error = with_flags(&[("outbox", &["1 parsec"])]).expect_err("no unit").to_string();
    assert!(error.contains("128KiB to 256KiB") && error.contains("64KiB"), "{error}");
    let error = with_flags(&[("log", &["verbose"])]).expect_err("no level").to_string();
    assert!(error.contains("`verbose` is no level"), "{error}");
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let mut layers = Layers::default();
    layers.file_text(Path::new("x.toml"), "shards = 1\nnode = 1\nlog = \"debug\"").expect("the file is valid");
    layers
        .environment(variables(&[("IMGATE_SHARDS", "2"), ("IMGATE_NODE", "2"), ("IMGATE_DATA", ""), ("SHARDS", "x")]))
        .expect("ours are settings, the others are not ours");
    layers.flag(field("shards"), vec!["3".to_owned()]);
    let config = Config::from_layers(&layers).expect("every value is allowed");
    assert_eq!((config.shards, config.node, config.log.as_str()), (3, NodeId(2), "debug"));
    assert_eq!(config.data, defaults().data, "an empty variable is an unset one");
}

#[test]
fn several_addresses_from_every_layer() {
    let wanted: Vec<SocketAddr> = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
    let mut file = Layers::default();
    file.file_text(Path::new("x.toml"), r#"listen = ["127.0.0.1:1", "[::1]:2"]"#).expect("the file is valid");
    assert_eq!(Config::from_layers(&file).expect("allowed").listen, wanted);
    let mut environment = Layers::default();
    environment.environment(variables(&[("IMGATE_LISTEN", "127.0.0.1:1, [::1]:2")])).expect("a setting");
    assert_eq!(Config::from_layers(&environment).expect("allowed").listen, wanted);
    assert_eq!(with_flags(&[("listen", &["127.0.0.1:1", "[::1]:2"])]).expect("allowed").listen, wanted);
    assert!(with_flags(&[("listen", &["127.0.0.1:1", "127.0.0.1:1"])]).is_err(), "twice the same");
    assert!(with_flags(&[("listen", &["127.0.0.1:0", "127.0.0.1:0"])]).is_ok(), "two ports that the system chooses");
}

#[test]
fn addresses_for_the_proxy_protocol_are_further_ones() {
    let config = with_flags(&[("listen", &["127.0.0.1:1"]), ("listen_proxy", &["127.0.0.1:2"])]).expect("allowed");
    assert_eq!((config.listen.len(), config.listen_proxy), (1, vec![SocketAddr::from(([127, 0, 0, 1], 2))]));
    assert_eq!(defaults().listen_proxy, []);
    assert!(with_flags(&[("listen", &["127.0.0.1:1"]), ("listen_proxy", &["127.0.0.1:1"])]).is_err(), "twice the same");
    let many = ["127.0.0.1:0"; limits::LISTENERS_MAX];
    assert!(with_flags(&[("listen", &many)]).is_ok());
    assert!(with_flags(&[("listen", &many), ("listen_proxy", &["127.0.0.1:0"])]).is_err(), "too many together");
}

#[test]
fn a_port_alone_is_every_ipv4_address_and_a_name_is_looked_up() {
    let config =
        with_flags(&[("listen", &[":8081", "localhost:9000"]), ("admin", &["localhost:8082"])]).expect("allowed");
    assert_eq!(config.listen[0], SocketAddr::from(([0, 0, 0, 0], 8081)));
    for (address, port) in [(config.listen[1], 9000), (config.admin, 8082)] {
        assert!(address.ip().is_loopback() && address.port() == port, "{address}");
    }
    assert_eq!(with_flags(&[("admin", &[":0"])]).expect("allowed").admin, SocketAddr::from(([0, 0, 0, 0], 0)));
    assert!(with_flags(&[("listen", &["0.0.0.0:8081", ":8081"])]).is_err(), "twice the same");
}

#[test]
fn a_list_in_one_flag_is_told_how_lists_are_given() {
    let refused = |values: &[&str]| with_flags(&[("trusted_proxies", values)]).expect_err("no networks").to_string();
    assert!(refused(&["10.0.0.0/8,192.168.0.0/16"]).ends_with("; several: the flag once for each"));
    assert!(!refused(&["proxy.example"]).contains("several"));
    let page = "https://chat.example,https://page.example";
    let why = with_flags(&[("cors_origins", &[page])]).expect_err("no origin").to_string();
    assert!(why.contains("https://chat.example, as of") && why.contains("several"), "{why}");
    let mut layers = Layers::default();
    layers.environment(variables(&[("IMGATE_CORS_ORIGINS", page)])).expect("it is a setting");
    Config::from_layers(&layers).expect("commas are the environment's");
}

#[test]
fn what_is_out_of_range_is_refused_with_its_origin_and_range() {
    let cases: &[(&str, &str)] = &[
        ("shards", "0"),
        ("shards", "1025"),
        ("shards", "many"),
        ("outbox", "1KiB"),
        ("outbox", "1GiB"),
        ("outbox_budget", "7MiB"),
        ("outbox_budget", "1025GiB"),
        ("send_buffer", "15KiB"),
        ("send_buffer", "5MiB"),
        ("devices", "0"),
        ("devices", "65"),
        ("devices", "8,phone"),
        ("devices", "8,fridge=1"),
        ("devices", "8,=1"),
        ("devices", "8,phone=1,pad=2,phone=2"),
        ("drain_announce", "5001ms"),
        ("drain_announce", "5"),
        ("ping_after", "31m"),
        ("ping_after", "30"),
        ("idle_after", "110s"),
        ("idle_after", "66m"),
        ("token_ttl", "59s"),
        ("token_ttl", "99999d"),
        ("durability", "maybe"),
        ("log_format", "xml"),
        ("sqlite_synchronous", "off"),
        ("store_writers", "0"),
        ("store_writers", "9"),
        ("max_connections", "0"),
        ("inbound_budget", "1MiB"),
        ("connect_rate", "1001"),
        ("connect_burst", "0"),
        ("connections_per_address", "-1"),
        ("chatroom_guests", "0"),
        ("chatroom_guests_per_address", "many"),
        ("node", "65536"),
        ("admin", "localhost"),
        ("admin", ":65536"),
        ("listen", "8081"),
        ("listen", ":"),
        ("listen", "localhost:"),
        ("listen", "::1:8081"),
        ("listen", "not a name:8081"),
        ("listen_proxy", "8081"),
        ("origins", "chat.example"),
        ("origins", "null"),
        ("origins", "https://chat.example/page"),
        ("trusted_proxies", "proxy.example"),
        ("data", ""),
        ("store", ""),
    ];
    for (key, value) in cases {
        let error = with_flags(&[(key, &[value])]).expect_err(key).to_string();
        assert!(error.starts_with(&format!("--{}: ", field(key).flag())), "{error}");
        assert!(error.contains(field(key).range), "{key}: {error}");
    }
    let announced = [("drain_announce", &["15s"][..]), ("drain_deadline", &["30s"])];
    assert_eq!(with_flags(&announced).expect("half of it").drain.announce_ms, 15_000);
    assert!(with_flags(&[("ping_after", &["20s"]), ("idle_after", &["41s"])]).is_ok());
    assert!(with_flags(&[("ping_after", &["20s"]), ("idle_after", &["40s"])]).is_err(), "two pings must fit");
    let patient = with_flags(&[("ping_after", &["30m"])]).expect("where nothing stands in between");
    assert_eq!(patient.idle_after_ms, 60 * 60_000 + 20_000, "two pings fit, as by default");
    assert_eq!(with_flags(&[]).expect("the defaults").idle_after_ms, limits::IDLE_MS);
}

#[test]
fn secrets_are_never_shown() {
    let mut layers = Layers::default();
    layers.environment(variables(&[("IMGATE_SECRET", "hunter2 hunter2 hunter2")])).expect("a setting");
    let config = Config::from_layers(&layers).expect("long enough");
    assert_eq!(config.secret.as_ref().map(Secret::expose), Some("hunter2 hunter2 hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));

    let mut short = Layers::default();
    short.environment(variables(&[("IMGATE_SECRET", "hunter2")])).expect("a setting");
    assert!(!Config::from_layers(&short).expect_err("too short").to_string().contains("hunter2"));

    let config = with_flags(&[("store", &["mysql://root:hunter2@db/chat"])]).expect("the store judges it");
    assert_eq!(config.store.expose(), "mysql://root:hunter2@db/chat");
    let shown = format!("{config:?}");
    assert!(shown.contains("mysql") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn files_with_mistakes_are_refused() {
    for (text, part) in [
        ("shard = 2", "no setting `shard`; did you mean `shards`?"),
        ("echo = true", "no setting `echo`"),
        ("shards = [1, 2]", "one value is wanted for `shards`"),
        ("shards = 1.5", "one value is wanted for `shards`"),
        ("[log]\nlevel = \"info\"", "one value is wanted for `log`"),
        ("shards = ", "x.toml"),
    ] {
        let mut layers = Layers::default();
        let error = layers.file_text(Path::new("x.toml"), text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(matches!(Layers::default().file(Path::new("/does/not/exist")), Err(Error::File { .. })));
}

#[test]
fn everything_is_kept_unless_told_otherwise() {
    assert!(with_flags(&[]).expect("defaults").keep.is_everything());
    let keep = |age, count| with_flags(&[("keep_age", &[age]), ("keep_count", &[count])]).map(|config| config.keep);
    let kept = |age_ms, count| Keep { age_ms, count };
    assert_eq!(keep("30d", "0").expect("a month"), kept(2_592_000_000, 0));
    assert_eq!(keep("0", "200").expect("a page"), kept(0, 200));
    for (age, count) in
        [("1", "0"), ("59m", "0"), ("36501d", "0"), ("", "0"), ("0", "199"), ("0", "1000000001"), ("0", "-1")]
    {
        keep(age, count).expect_err(&format!("{age} {count}"));
    }
}

#[test]
fn the_sample_says_the_defaults() {
    let sample = sample();
    // Secrets have no default: their lines are the only ones that stay comments.
    let bare: String = sample
        .lines()
        .filter(|line| !line.starts_with("# ") && !line.starts_with("#secret") && !line.starts_with("#webhook_secret"))
        .map(|line| format!("{}\n", line.trim_start_matches('#')))
        .collect();
    let mut layers = Layers::default();
    layers.file_text(Path::new("sample"), &bare).expect("the sample is a valid file");
    let given = FIELDS.iter().filter(|field| layers.find(field.key).is_some()).count();
    assert_eq!(given, FIELDS.iter().filter(|field| field.reach != Reach::Hidden).count() - 3);
    assert_eq!(Config::from_layers(&layers).expect("the defaults are allowed"), defaults());
}

#[test]
fn the_sample_in_the_docs_is_the_one_that_is_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/imgate.sample.toml");
    let kept = std::fs::read_to_string(path).expect("docs/imgate.sample.toml is there");
    assert!(kept == sample(), "run: cargo run -- config > docs/imgate.sample.toml");
}

#[test]
fn a_fingerprint_tells_settings_apart_and_no_secrets() {
    let of = |text: &str| {
        let mut layers = Layers::default();
        layers.file_text(Path::new("x.toml"), text).expect("a file");
        Config::from_layers(&layers).expect("a configuration").fingerprint()
    };
    assert_eq!(of("").len(), 8);
    assert_ne!(of("keep_count = 200"), of("keep_count = 300"));
    let secret = |last: char| of(&format!("keep_count = 200\nsecret = \"{}{last}\"", "x".repeat(40)));
    assert_eq!(secret('a'), secret('b'));
    for own in [
        "node = 7",
        "listen = [\"127.0.0.1:9001\"]",
        "listen_proxy = [\"127.0.0.1:9002\"]",
        "admin = \"127.0.0.1:9003\"",
        "data = \"/srv/imgate-7\"",
        "shards = 3",
        "log = \"warn\"",
        "log_format = \"json\"",
    ] {
        assert_eq!(of(own), of(""), "gateways of a cluster are set up alike with {own}");
    }
}

/// Two endpoints of one URL would write into one file of what waits.
#[test]
fn a_webhook_stands_there_once() {
    let of = |second: &str| {
        let mut layers = Layers::default();
        let text = format!(
            "webhook_url = [\"https://hooks.example/a\", \"{second}\"]\nwebhook_secret = \"whsec_{}\"",
            "A".repeat(32)
        );
        layers.file_text(Path::new("x.toml"), &text).expect("a file");
        Config::from_layers(&layers)
    };
    assert_eq!(of("https://hooks.example/b").expect("two").webhooks.endpoints.len(), 2);
    for same in ["https://hooks.example/a", "https://HOOKS.example:443/a"] {
        let refused = of(same).expect_err("twice").to_string();
        assert!(refused.contains("webhook_url") && refused.contains("twice"), "{refused}");
        assert!(!refused.contains("hooks.example"), "a URL may hold a secret: {refused}");
    }
}

#[test]
fn several_values_lie_in_a_file_one_a_line() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "nats://im:s@a:4222\r\n\n  tls://im:s@b  \n").expect("written");
    let text = format!("cluster_file = {:?}\nstore = \"mysql://h/d\"", file.path());
    let mut layers = Layers::default();
    layers.file_text(Path::new("x.toml"), &text).expect("TOML");
    let config = Config::from_layers(&layers).expect("a configuration");
    assert_eq!(config.cluster.expose(), ["nats://im:s@a:4222", "tls://im:s@b"]);
}

#[test]
fn a_secret_may_lie_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("secret");
    std::fs::write(&path, "open-sesame-open-sesame\n").expect("a file");
    let place = path.display().to_string();
    let read = |file: &str, variables: &[(&str, &str)]| {
        let mut layers = Layers::default();
        layers.file_text(Path::new("x.toml"), file)?;
        layers.environment(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))?;
        Config::from_layers(&layers)
    };
    let by_file = read(&format!("secret_file = {place:?}"), &[]).expect("a configuration");
    let by_variable = read("", &[("IMGATE_SECRET_FILE", &place)]).expect("a configuration");
    std::fs::write(&path, "\u{feff}open-sesame-open-sesame\r\n").expect("a file");
    let marked = read(&format!("secret_file = {place:?}"), &[]).expect("a configuration");
    for config in [&by_file, &by_variable, &marked] {
        assert_eq!(config.secret.as_ref().map(Secret::expose), Some("open-sesame-open-sesame"));
    }
    let over = read(&format!("secret_file = {place:?}"), &[("IMGATE_SECRET", "another-secret-of-ours")]);
    assert_eq!(over.expect("the environment goes first").secret.map(|one| one.expose().len()), Some(22));
    for (file, told) in [
        ("secret_file = \"/nowhere/at/all\"".to_owned(), "cannot read /nowhere/at/all"),
        (format!("secret = \"open-sesame-open-sesame\"\nsecret_file = {place:?}"), "already"),
        ("shards_file = \"x\"".to_owned(), "there is no setting `shards_file`"),
    ] {
        let error = read(&file, &[]).expect_err(told).to_string();
        assert!(error.contains(told) && !error.contains("sesame"), "{error}");
    }
}

#[test]
fn settings_without_effect_say_so() {
    let told = |flags: &[(&str, &[&str])]| {
        let config = with_flags(flags).expect("allowed");
        config.without_effect().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert!(told(&[]).is_empty() && told(&[("durability", &["volatile"])]).is_empty(), "what nobody has asked for");
    assert!(told(&[("keep_age", &["30d"]), ("keep_count", &["1000"])]).is_empty());
    let volatile = ("durability", &["volatile"][..]);
    assert_eq!(told(&[volatile, ("keep_age", &["30d"]), ("keep_count", &["1000"])]), ["keep_age", "keep_count"]);
    for store in ["mysql://root@localhost/imgate", "mariadb://root@localhost/imgate", "memory:"] {
        let told = told(&[("store", &[store]), ("sqlite_synchronous", &["normal"])]);
        assert_eq!(told, ["sqlite_synchronous"], "{store}");
    }
    assert_eq!(told(&[("tls_cert", &["a.pem"]), ("tls_key", &["a.key"])]), ["tls_cert"]);
}

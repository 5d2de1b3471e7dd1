//! The configuration as it is in force, for people: each setting with its value and where that came
//! from.
//!
//! Never: shows a secret, nor a database URL that may hold a password.

use std::fmt::Write as _;

use super::layers::Layers;
use super::{FIELDS, Field, Reach, TakesEffect};

/// The origin of what nothing sets.
const DEFAULT: &str = "default";

/// One setting as it is in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Which.
    pub key: &'static str,
    /// Its value as TOML; `None` for one that is not shown, or not set.
    pub value: Option<String>,
    /// Where it came from: a file and its key, a variable, a flag, or `default`.
    pub origin: String,
}

impl Shown {
    fn of(field: &'static Field, layers: &Layers) -> Self {
        let Some(found) = layers.find(field.key) else {
            let value = (!field.default.is_empty()).then(|| field.default.to_owned());
            return Self { key: field.key, value, origin: DEFAULT.to_owned() };
        };
        let quoted: Vec<String> = found.values.iter().map(|value| toml_of(value)).collect();
        let value = match field.reach {
            Reach::Repeatable => format!("[{}]", quoted.join(", ")),
            _ => quoted.join(", "),
        };
        let hidden = is_secret(field.key, found.values);
        Self { key: field.key, value: (!hidden).then_some(value), origin: found.origin().to_owned() }
    }

    /// As a gateway has told it; `None`: there is no such setting.
    #[must_use]
    pub fn told(key: &str, value: Option<String>, origin: &str) -> Option<Self> {
        let field = FIELDS.iter().find(|field| field.key == key)?;
        Some(Self { key: field.key, value, origin: origin.to_owned() })
    }

    /// As a line of a configuration file.
    #[must_use]
    pub fn line(&self) -> String {
        match &self.value {
            Some(value) => format!("{} = {value}  # {}", self.key, self.origin),
            None if self.origin == DEFAULT => format!("# {} is not set", self.key),
            None => format!("# {} is set by {}; it is not shown", self.key, self.origin),
        }
    }
}

fn is_secret(key: &str, values: &[String]) -> bool {
    // Of a URL only one without a user can have no password.
    matches!(key, "secret" | "secret_fallback" | "webhook_secret" | "s3_access_key" | "s3_secret_key")
        // A path may be the secret of an endpoint.
        || (key == "webhook_url" && !values.is_empty())
        || (["store", "cluster", "s3_endpoint"].contains(&key) && values.iter().any(|url| url.contains('@')))
}

fn toml_of(text: &str) -> String {
    let is_bare = text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok();
    if is_bare { text.to_owned() } else { toml::Value::from(text).to_string() }
}

/// Every setting as it is in force, in the order of the sample file.
#[must_use]
pub fn shown(layers: &Layers) -> Vec<Shown> {
    FIELDS.iter().filter(|field| field.reach != Reach::Hidden).map(|field| Shown::of(field, layers)).collect()
}

/// Every setting as a running gateway has it that was started with `first` and has loaded `last`
/// since: what waits for a restart is still as it was.
#[must_use]
pub fn in_force(first: &Layers, last: &Layers) -> Vec<Shown> {
    let taken_up = |key: &str| FIELDS.iter().any(|field| field.key == key && field.change == TakesEffect::Reload);
    let both = shown(first).into_iter().zip(shown(last));
    both.map(|(first, last)| if taken_up(first.key) { last } else { first }).collect()
}

/// What there is to say about one setting; `None`: there is no such setting.
#[must_use]
pub fn explain(layers: &Layers, key: &str) -> Option<String> {
    // As a flag and as a variable, too.
    let key = key.trim_start_matches('-').trim_start_matches("IMGATE_").replace('-', "_").to_ascii_lowercase();
    let field = FIELDS.iter().find(|field| field.key == key)?;
    let Shown { value, origin, .. } = Shown::of(field, layers);
    let mut out = format!("{}\n\n{}\n\n", field.key, field.doc);
    let flag = if field.reach == Reach::NoFlag { "none".to_owned() } else { format!("--{}", field.flag()) };
    let value = value.unwrap_or_else(|| if origin == DEFAULT { "not set" } else { "(not shown)" }.to_owned());
    let default = if field.default.is_empty() { "none" } else { field.default };
    for (name, text) in [
        ("allowed", field.range),
        ("default", default),
        ("flag", &flag),
        ("variable", &field.variable()),
        ("changes", field.change.words()),
        ("in force", &format!("{value} ({origin})")),
    ] {
        // Writing into a string cannot fail.
        let _ = writeln!(out, "{:<10}{text}", format!("{name}:"));
    }
    Some(out)
}

/// All settings as a Markdown table.
#[must_use]
pub fn table() -> String {
    let mut out = String::from("| setting | default | allowed | changes | meaning |\n|---|---|---|---|---|\n");
    for field in FIELDS.iter().filter(|field| field.reach != Reach::Hidden) {
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(
            out,
            "| `{}` | `{}` | {} | {} | {} |",
            field.key,
            field.default.trim_matches('"'),
            cell(field.range),
            field.change.words(),
            cell(field.doc)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn layers(file: &str, variables: &[(&str, &str)]) -> Layers {
        let mut layers = Layers::default();
        layers.file_text(Path::new("x.toml"), file).expect("a file");
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        layers.environment(variables).expect("an environment");
        layers
    }

    fn line(layers: &Layers, key: &str) -> String {
        shown(layers).into_iter().find(|one| one.key == key).expect("a setting").line()
    }

    #[test]
    fn every_value_says_where_it_came_from() {
        let mut layers =
            layers("shards = 3\nlisten = [\"127.0.0.1:1\", \":2\"]\nlog = \"warn\"", &[("IMGATE_LOG", "debug")]);
        let field = FIELDS.iter().find(|field| field.key == "outbox").expect("a setting");
        layers.flag(field, vec!["64KiB".to_owned()]);
        for (key, wanted) in [
            ("shards", "shards = 3  # x.toml, `shards`"),
            ("listen", "listen = [\"127.0.0.1:1\", \":2\"]  # x.toml, `listen`"),
            ("log", "log = \"debug\"  # IMGATE_LOG"),
            ("outbox", "outbox = \"64KiB\"  # --outbox"),
            ("chatroom", "chatroom = true  # default"),
        ] {
            assert_eq!(line(&layers, key), wanted);
        }
    }

    #[test]
    fn what_waits_for_a_restart_is_shown_as_it_is_in_force() {
        let (first, last) = (layers("shards = 3\nlog = \"warn\"", &[]), layers("shards = 4\nlog = \"info\"", &[]));
        let lines: Vec<String> = in_force(&first, &last).iter().map(Shown::line).collect();
        assert!(lines.contains(&"shards = 3  # x.toml, `shards`".to_owned()), "{lines:?}");
        assert!(lines.contains(&"log = \"info\"  # x.toml, `log`".to_owned()), "{lines:?}");
    }

    #[test]
    fn what_is_printed_is_a_valid_file_that_says_the_same() {
        let given = layers("shards = 3\nkeep_age = \"90d\"", &[("IMGATE_ECHO", "true")]);
        let text: String = shown(&given).iter().map(|one| one.line() + "\n").collect();
        let again = layers(&text, &[]);
        // A number may stand in quotes.
        let bare = |one: Shown| (one.key, one.value.map(|value| value.trim_matches('"').to_owned()));
        let values = |layers: &Layers| shown(layers).into_iter().map(bare).collect::<Vec<_>>();
        assert_eq!(values(&given), values(&again));
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let word = "open-sesame-open-sesame";
        let layers = layers(
            &format!("secret = \"{word}\"\nstore = \"mysql://u:{word}@h/d\"\ns3_endpoint = \"http://u:{word}@h\""),
            &[("IMGATE_DATA", "/x")],
        );
        let all: String = shown(&layers).iter().map(Shown::line).collect();
        let explained: String = ["secret", "store"].iter().filter_map(|key| explain(&layers, key)).collect();
        assert!(!all.contains("sesame") && !explained.contains("sesame"), "{all}{explained}");
        assert_eq!(line(&layers, "secret"), "# secret is set by x.toml, `secret`; it is not shown");
        assert!(explained.contains("(not shown) (x.toml, `store`)"), "{explained}");
    }

    #[test]
    fn a_setting_is_explained_under_each_of_its_names() {
        let layers = Layers::default();
        let first = explain(&layers, "connect_rate").expect("a setting");
        for name in ["--connect-rate", "IMGATE_CONNECT_RATE", "connect-rate"] {
            assert_eq!(explain(&layers, name), Some(first.clone()));
        }
        assert!(first.contains("flag:     --connect-rate\n") && first.contains("(default)\n"), "{first}");
        assert_eq!(explain(&layers, "nonsense"), None);
        assert!(table().lines().count() > FIELDS.len() - 3);
    }
}

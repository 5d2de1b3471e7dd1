//! The sources of a configuration as texts: a file, the environment, flags, in ascending rank.
//!
//! Owns: what each source may say, and which of them is heard. Never: knows what a value means. A
//! secret may lie in a file of its own: `secret_file`, `store_file` and
//! others ([`KEPT_IN_FILES`]) name it.

use std::ffi::OsString;
use std::path::Path;

use super::error::most_like;
use super::units::{SIZE_UNITS, TIME_UNITS};
use super::{Config, Error, FIELDS, Field, Reach};

/// The values of one source, as written.
#[derive(Clone, Default)]
struct Layer {
    /// Field, where it came from, the values.
    values: Vec<(&'static Field, String, Vec<String>)>,
}

impl Layer {
    fn get(&self, key: &str) -> Option<(&str, &[String])> {
        self.values
            .iter()
            .find(|(field, _, _)| field.key == key)
            .map(|(_, origin, values)| (origin.as_str(), &values[..]))
    }
}

impl Layer {
    /// Takes a value. One source says it once.
    fn take(&mut self, field: &'static Field, origin: String, values: Vec<String>) -> Result<(), Error> {
        if let Some((other, _)) = self.get(field.key) {
            let why = format!("`{}` is set by {other} already", field.key);
            return Err(Error::Value { origin, why });
        }
        self.values.push((field, origin, values));
        Ok(())
    }

    /// Takes the value that the file `path` holds, without the end of its line and the byte order
    /// mark that some editors put before everything: neither is seen, and a secret with it is
    /// another secret. Of a setting that has several values each line is one.
    fn take_file(&mut self, field: &'static Field, origin: String, path: &Path) -> Result<(), Error> {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|error| Error::File { path: path.to_owned(), error })?;
        let value = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
        let values = match field.reach {
            Reach::Repeatable => {
                value.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
            }
            _ => vec![value.to_owned()],
        };
        self.take(field, format!("{origin} ({})", path.display()), values)
    }
}

/// Settings whose values may lie in files: secrets, and what may hold one.
const KEPT_IN_FILES: [&str; 7] =
    ["secret", "secret_fallback", "store", "cluster", "webhook_secret", "s3_access_key", "s3_secret_key"];

/// The setting whose value lies in a file that `key` names.
fn kept_in_file(key: &str) -> Option<&'static Field> {
    let base = key.strip_suffix("_file").filter(|base| KEPT_IN_FILES.contains(base))?;
    FIELDS.iter().find(|field| field.key == base)
}

/// What every variable of ours begins with.
const PREFIX: &str = "IMGATE_";

/// Variables with our prefix that are no settings: arguments of the command line, where scripts and
/// tests find the binary, and what Kubernetes sets in every container beside a service of the name
/// `imgate` (`IMGATE_SERVICE_HOST`, `IMGATE_PORT_8081_TCP`, …).
fn is_no_setting(variable: &str) -> bool {
    let others = ["IMGATE_CONFIG", "IMGATE_IMPORT_FROM", "IMGATE_BIN", "IMGATE_BINARY", "IMGATE_PORT"];
    others.contains(&variable) || ["IMGATE_SERVICE_", "IMGATE_PORT_"].iter().any(|prefix| variable.starts_with(prefix))
}

/// The sources in ascending rank. Built by the command line, by tests, and nowhere else.
#[derive(Clone, Default)]
pub struct Layers {
    file: Layer,
    environment: Layer,
    flags: Layer,
}

impl Layers {
    /// Reads the TOML file `path`.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Toml`], [`Error::UnknownKey`], [`Error::Shape`].
    pub fn file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::File { path: path.to_owned(), error })?;
        self.file_text(path, &text)
    }

    /// As [`Layers::file`], for a text that was read from `path`.
    ///
    /// # Errors
    /// As there.
    pub fn file_text(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let table: toml::Table =
            text.parse().map_err(|error| Error::Toml { path: path.to_owned(), error: Box::new(error) })?;
        for (key, value) in table {
            if let (Some(field), Some(place)) = (kept_in_file(&key), value.as_str()) {
                let origin = format!("{}, `{key}`", path.display());
                self.file.take_file(field, origin, Path::new(place))?;
                continue;
            }
            let known = FIELDS.iter().find(|field| field.key == key && field.reach != Reach::Hidden);
            let Some(field) = known else {
                let meant = most_like(&key).map(|field| field.key);
                return Err(Error::UnknownKey { path: path.to_owned(), key, meant });
            };
            let origin = format!("{}, `{key}`", path.display());
            let values = match (value, field.reach) {
                (toml::Value::Array(list), Reach::Repeatable) => list.into_iter().map(scalar).collect(),
                (value, _) => scalar(value).map(|text| vec![text]),
            };
            let Some(values) = values else { return Err(Error::Shape { origin, key: field.key }) };
            self.file.take(field, origin, values)?;
        }
        Ok(())
    }

    /// Takes the `IMGATE_…` variables of an environment. An empty variable is an unset one.
    ///
    /// # Errors
    /// [`Error::UnknownVariable`], [`Error::NoText`].
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Error> {
        let mut given: Vec<(String, OsString)> = variables
            .into_iter()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty() && !is_no_setting(name))
            .collect();
        // The environment has no order; what is complained about should not change from start to
        // start.
        given.sort();
        for (variable, value) in given {
            let key = variable.trim_start_matches(PREFIX).to_ascii_lowercase();
            if let Some(field) = kept_in_file(&key) {
                self.environment.take_file(field, variable, Path::new(&value))?;
                continue;
            }
            let Some(field) = FIELDS.iter().find(|field| field.variable() == variable) else {
                return Err(Error::UnknownVariable { variable, meant: most_like(&key).map(Field::variable) });
            };
            let Ok(text) = value.into_string() else { return Err(Error::NoText { variable }) };
            let values = match field.reach {
                Reach::Repeatable => text.split(',').map(|part| part.trim().to_owned()).collect(),
                _ => vec![text],
            };
            self.environment.take(field, variable, values)?;
        }
        Ok(())
    }

    /// The settings that are not in force as they are with `other`. One that is written in another
    /// way, or left to its default, is the same: what counts is the [`Config`].
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let given = |layers: &Self, key| layers.find(key).map(|found| found.values.to_vec());
        let config = Config::from_layers(self);
        let differs = |key: &&str| {
            let mixed = Config::from_layers(&self.with(key, other));
            // Where one alone makes no configuration, it is as different as it looks.
            !matches!((&config, &mixed), (Ok(one), Ok(other)) if one == other)
        };
        let keys = FIELDS.iter().map(|field| field.key);
        keys.filter(|key| given(self, key) != given(other, key)).filter(differs).collect()
    }

    /// These, with one setting as it is in `other`.
    fn with(&self, key: &str, other: &Self) -> Self {
        let of =
            |layer: &Layer| layer.values.iter().filter(|(field, ..)| field.key == key).cloned().collect::<Vec<_>>();
        let mut mixed = self.clone();
        let layers = [&mut mixed.file, &mut mixed.environment, &mut mixed.flags];
        for (layer, other) in layers.into_iter().zip([&other.file, &other.environment, &other.flags]) {
            layer.values.retain(|(field, ..)| field.key != key);
            layer.values.extend(of(other));
        }
        mixed
    }

    /// Takes the values of one flag.
    pub fn flag(&mut self, field: &'static Field, values: Vec<String>) {
        self.flags.values.push((field, format!("--{}", field.flag()), values));
    }

    /// The values of the highest layer that has the key.
    pub(super) fn find(&self, key: &'static str) -> Option<Found<'_>> {
        [&self.flags, &self.environment, &self.file]
            .into_iter()
            .find_map(|layer| layer.get(key))
            .map(|(origin, values)| Found { key, origin, values })
    }
}

/// What was found for a setting.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    key: &'static str,
    origin: &'a str,
    pub(super) values: &'a [String],
}

impl Found<'_> {
    pub(super) const fn origin(&self) -> &str {
        self.origin
    }

    pub(super) fn one(&self) -> Result<&str, Error> {
        match self.values {
            [one] => Ok(one),
            _ => Err(Error::Shape { origin: self.origin.to_owned(), key: self.key }),
        }
    }

    pub(super) fn wrong(&self, given: &str) -> Error {
        let field = FIELDS.iter().find(|field| field.key == self.key);
        let range = field.map_or("", |field| field.range);
        let units = match field.map_or("", |field| field.value) {
            "TIME" => format!(", {}", TIME_UNITS),
            "SIZE" => format!(", {}", SIZE_UNITS),
            _ => String::new(),
        };
        // As the environment has it, and other programs.
        let is_list = self.origin.starts_with("--")
            && given.contains(',')
            && field.is_some_and(|field| matches!(field.reach, Reach::Repeatable));
        let several = if is_list { "; several: the flag once for each" } else { "" };
        Error::Value {
            origin: self.origin.to_owned(),
            why: format!("`{given}` is not allowed; wanted: {range}{units}{several}"),
        }
    }

    /// For values that may hold a secret, and reasons of their own.
    pub(super) fn wrong_unshown(&self, why: &str) -> Error {
        Error::Value { origin: self.origin.to_owned(), why: why.to_owned() }
    }
}

/// A TOML value as the text that a flag would carry; `None` for lists, tables and dates.
fn scalar(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

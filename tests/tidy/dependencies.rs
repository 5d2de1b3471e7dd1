//! What the tree depends on, judged by `deny.toml`: licences, sources, and crates that are refused.
//!
//! The rules are those of `cargo deny check bans licenses sources`, as far as our file uses them, and its graph is cargo's
//! own. What the file says and this does not understand is an error, so that no rule is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// `deny.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    graph: Graph,
    /// Against a database that `cargo deny check advisories` fetches: not here.
    #[serde(rename = "advisories")]
    _advisories: toml::Table,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Licenses {
    allow: BTreeSet<String>,
    exceptions: Vec<Exception>,
    private: Private,
    /// For licences that are guessed from their texts: here a crate must name its own.
    #[serde(rename = "confidence-threshold")]
    _confidence_threshold: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Private {
    ignore: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    multiple_versions: Lint,
    wildcards: Lint,
    allow_wildcard_paths: bool,
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    #[serde(rename = "crate")]
    which: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: Lint,
    unknown_git: Lint,
    allow_registry: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Lint {
    Warn,
    Deny,
}

/// What `cargo metadata` tells.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A crate of the graph.
#[derive(Clone, Default, Deserialize)]
pub(crate) struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// `None`: a path of this tree.
    source: Option<String>,
    /// Where it may be published: nowhere if empty, anywhere if `None`.
    publish: Option<Vec<String>>,
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

impl Rules {
    /// Reads the file of the tree.
    pub(crate) fn read(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join("deny.toml")).expect("deny.toml is there");
        Self::parse(&text).unwrap_or_else(|error| panic!("deny.toml: {error}"))
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The crates that are built for any of the targets, also those of tests.
    pub(crate) fn graph(&self, root: &Path) -> Vec<Package> {
        let mut graph = BTreeMap::new();
        for target in &self.graph.targets {
            let told = cargo(root, &["metadata", "--format-version", "1", "--locked", "--filter-platform", target]);
            let told: Metadata = serde_json::from_str(&told).expect("cargo's JSON");
            // That one also tells of what no feature turns on; `cargo tree` does not.
            let tree = cargo(root, &["tree", "--workspace", "--locked", "--target", target, "--prefix", "none"]);
            let named = tree.lines().filter_map(|line| line.split_once(" v"));
            let version = |rest: &str| rest.split(' ').next().unwrap_or_default().to_owned();
            let built: BTreeSet<_> = named.map(|(name, rest)| (name.to_owned(), version(rest))).collect();
            let packages = told.packages.into_iter().map(|package| (package.key(), package));
            graph.extend(packages.filter(|(key, _)| built.contains(key)));
        }
        graph.into_values().collect()
    }

    /// Every complaint about one crate.
    pub(crate) fn check(&self, package: &Package) -> Vec<String> {
        let found = [self.licence(package), self.source(package)].into_iter().flatten();
        let found = found.chain(self.bans.deny.iter().filter_map(|ban| ban.meets(package)));
        let found = found.chain(self.wildcards(package));
        found.map(|what| format!("{} {}: {what}", package.name, package.version)).collect()
    }

    fn licence(&self, package: &Package) -> Option<String> {
        if self.licenses.private.ignore && package.publish.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let more = self.licenses.exceptions.iter().find(|exception| exception.name == package.name);
        let allowed =
            |one: &str| self.licenses.allow.contains(one) || more.is_some_and(|more| more.allow.contains(one));
        let Some(expression) = &package.license else { return Some("names no licence".to_owned()) };
        match satisfied(expression, &allowed) {
            Some(true) => None,
            Some(false) => Some(format!("the licence {expression} is not allowed")),
            None => Some(format!("the licence {expression} is no SPDX expression")),
        }
    }

    fn source(&self, package: &Package) -> Option<String> {
        let source = package.source.as_deref()?;
        let (kind, url) = source.split_once('+').unwrap_or((source, ""));
        let lint = if kind == "git" { self.sources.unknown_git } else { self.sources.unknown_registry };
        let known = kind != "git" && self.sources.allow_registry.iter().any(|allowed| allowed == url);
        (lint == Lint::Deny && !known).then(|| format!("comes from {source}"))
    }

    fn wildcards(&self, package: &Package) -> Option<String> {
        let any = |one: &&Dependency| one.req == "*" && !(self.bans.allow_wildcard_paths && one.path.is_some());
        let wild = package.dependencies.iter().find(any).filter(|_| self.bans.wildcards == Lint::Deny)?;
        Some(format!("takes any version of {}", wild.name))
    }

    /// Crates that are there in several versions, if that is refused.
    pub(crate) fn doubles(&self, graph: &[Package]) -> Vec<String> {
        let mut versions: BTreeMap<&str, u32> = BTreeMap::new();
        for package in graph {
            *versions.entry(&package.name).or_default() += 1;
        }
        let doubled = versions.iter().filter(|(_, many)| self.bans.multiple_versions == Lint::Deny && **many > 1);
        doubled.map(|(name, many)| format!("{name} is there in {many} versions")).collect()
    }

    /// Exceptions for crates that are not in the graph.
    pub(crate) fn unused_exceptions(&self, graph: &[Package]) -> Vec<String> {
        let unused = self.licenses.exceptions.iter().filter(|one| graph.iter().all(|package| package.name != one.name));
        unused.map(|one| format!("the exception for {} is not needed", one.name)).collect()
    }
}

impl Package {
    /// What tells it from others: its name and version.
    fn key(&self) -> (String, String) {
        (self.name.clone(), self.version.clone())
    }
}

/// What cargo says, asked at the root of the tree.
fn cargo(root: &Path, arguments: &[&str]) -> String {
    // The cargo that runs this test.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(arguments).current_dir(root).output().expect("cargo runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

impl Ban {
    /// Why the crate is refused, if this is about it: `name`, or `name:<1.2.3` for what is older.
    fn meets(&self, package: &Package) -> Option<String> {
        let (name, versions) = self.which.split_once(':').unwrap_or((&self.which, ""));
        let older = |than: &str| numbers(&package.version) < numbers(than);
        let meant = match versions.strip_prefix('<') {
            Some(than) => older(than),
            None => {
                assert!(versions.is_empty(), "deny.toml: `{}`: only `<` is understood", self.which);
                true
            }
        };
        (name == package.name && meant).then(|| format!("refused: {}", self.reason))
    }
}

/// Major, minor and patch.
fn numbers(version: &str) -> Vec<u64> {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    plain.split('.').map(|number| number.parse().unwrap_or_else(|_| panic!("{version} is no version"))).collect()
}

/// Whether an SPDX expression holds with what is allowed; `None` if it is none. `/` is an old word for `OR`.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let holds = either(&mut words, allowed)?;
    words.next().is_none().then_some(holds)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut holds = both(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        holds |= both(words, allowed)?;
    }
    Some(holds)
}

fn both(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut holds = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        holds &= one(words, allowed)?;
    }
    Some(holds)
}

fn one(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    match words.next()? {
        "(" => {
            let holds = either(words, allowed)?;
            (words.next()? == ")").then_some(holds)
        }
        ")" | "OR" | "AND" | "WITH" => None,
        name => match words.next_if_eq(&"WITH") {
            Some(_) => Some(allowed(&format!("{name} WITH {}", words.next()?))),
            None => Some(allowed(name)),
        },
    }
}

#[cfg(test)]
const RULES: &str = r#"
graph.targets = ["x86_64-unknown-linux-gnu"]
advisories.yanked = "deny"
licenses = { allow = ["MIT", "ISC", "A WITH E"], exceptions = [{ crate = "roots", allow = ["DATA"] }], private.ignore = true, confidence-threshold = 0.9 }
bans = { multiple-versions = "deny", wildcards = "deny", allow-wildcard-paths = true, deny = [
    { crate = "bad", reason = "it is bad" },
    { crate = "old:<0.5.15", reason = "it was bad" },
] }
sources = { unknown-registry = "deny", unknown-git = "deny", allow-registry = ["https://here"] }
"#;

#[cfg(test)]
fn complaints(change: impl FnOnce(&mut Package)) -> usize {
    let mut package = Package {
        name: "good".to_owned(),
        version: "1.0.0".to_owned(),
        license: Some("MIT".to_owned()),
        source: Some("registry+https://here".to_owned()),
        ..Package::default()
    };
    change(&mut package);
    Rules::parse(RULES).expect("the rules of the tests").check(&package).len()
}

#[test]
fn licences_that_are_not_allowed_are_found() {
    for good in
        ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "MIT AND ISC", "(GPL-3.0 OR ISC) AND MIT", "A WITH E", "X OR A WITH E"]
    {
        assert_eq!(complaints(|package| package.license = Some(good.to_owned())), 0, "{good}");
    }
    for bad in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "A",
        "MIT WITH E",
        "(MIT OR ISC) AND GPL-3.0",
        "",
        "MIT OR",
        "(MIT",
        "MIT ISC",
        "DATA",
    ] {
        assert_eq!(complaints(|package| package.license = Some(bad.to_owned())), 1, "{bad}");
    }
    assert_eq!(complaints(|package| package.license = None), 1);
    let data = |name: &str| {
        let name = name.to_owned();
        complaints(|package| (package.name, package.license) = (name, Some("DATA".to_owned())))
    };
    assert_eq!((data("roots"), data("others")), (0, 1), "an exception is for one crate");
    assert_eq!(complaints(|package| (package.license, package.publish) = (None, Some(Vec::new()))), 0, "our own");
}

#[test]
fn refused_crates_and_sources_are_found() {
    assert_eq!(complaints(|package| package.name = "bad".to_owned()), 1);
    for (version, found) in [("0.5.14", 1), ("0.5.15", 0), ("0.10.0", 0), ("0.5.15-rc.1", 0), ("0.4.99", 1)] {
        let named = |package: &mut Package| (package.name, package.version) = ("old".to_owned(), version.to_owned());
        assert_eq!(complaints(named), found, "{version}");
    }
    for bad in ["registry+https://there", "git+https://here", "sparse+https://there"] {
        assert_eq!(complaints(|package| package.source = Some(bad.to_owned())), 1, "{bad}");
    }
    assert_eq!(complaints(|package| package.source = None), 0, "of this tree");
    let any =
        |path: Option<&str>| Dependency { name: "x".to_owned(), req: "*".to_owned(), path: path.map(str::to_owned) };
    assert_eq!(complaints(|package| package.dependencies = vec![any(None)]), 1);
    assert_eq!(complaints(|package| package.dependencies = vec![any(Some("here"))]), 0);
}

#[test]
fn rules_that_are_not_understood_are_an_error() {
    assert!(Rules::parse(&RULES.replace("allow-registry", "allow-git")).is_err());
    assert!(Rules::parse(&format!("{RULES}\n[output]\nfeature-depth = 1")).is_err());
    let rules = Rules::parse(RULES).expect("the rules of the tests");
    let twice = vec![Package { name: "x".to_owned(), ..Package::default() }; 2];
    assert_eq!((rules.doubles(&twice).len(), rules.unused_exceptions(&twice).len()), (1, 1));
}

//! One meaning for each name of a type that the whole of a crate can see.

use std::collections::BTreeMap;

use super::source::Source;

/// Names that several rooms have, always said with the room's name before them, each with its reason.
const BY_ROOM: [(&str, &str); 3] = [
    ("Error", "what a room's calls can fail with"),
    ("Setup", "what a room is made from"),
    ("Flags", "what a command of the load test is told"),
];

/// What declares a type.
const DECLARING: [&str; 4] = ["struct", "enum", "trait", "type"];

/// Types with a name that another one of the crate has.
pub(crate) fn twice(sources: &[Source]) -> Vec<String> {
    let found = declared(sources);
    let known = |name: &str| BY_ROOM.iter().any(|(known, _)| *known == name);
    let twice = found.iter().filter(|((_, name), paths)| paths.len() > 1 && !known(name));
    twice.map(|((_, name), paths)| format!("`{name}` names several types: {}", paths.join(", "))).collect()
}

/// Exceptions that no crate needs.
pub(crate) fn unused_exceptions(sources: &[Source]) -> Vec<String> {
    let found = declared(sources);
    let needed = |name: &str| found.iter().any(|((_, other), paths)| *other == name && paths.len() > 1);
    let unused = BY_ROOM.iter().filter(|(name, _)| !needed(name));
    unused.map(|(name, _)| format!("no two types are called `{name}`")).collect()
}

/// The files that declare a type which its whole crate can see, by crate and name.
fn declared(sources: &[Source]) -> BTreeMap<(&str, &str), Vec<&str>> {
    let mut found: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for source in sources {
        let Some((of, _)) = source.path.split_once("src/") else { continue };
        for name in source.shipped.lines().filter_map(visible) {
            found.entry((of, name)).or_default().push(&source.path);
        }
    }
    found
}

/// The name of the type that a line declares for the whole crate.
fn visible(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) "))?;
    let (kind, rest) = rest.split_once(' ')?;
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    // Types that belong to a trait's implementation are not declared with `pub`.
    (DECLARING.contains(&kind) && !name.is_empty()).then_some(name)
}

#[test]
fn a_name_with_two_meanings_is_found() {
    let sources = [
        Source::new("src/a.rs", "pub struct Lane;\nstruct Own;\npub(super) enum Near {}\npub struct Error;"),
        Source::new(
            "src/b/c.rs",
            "    pub(crate) enum Lane<T> { A(T) }\nstruct Own;\npub enum Near {}\npub enum Error {}",
        ),
        Source::new("tls/src/a.rs", "pub struct Lane;"),
    ];
    assert_eq!(twice(&sources), ["`Lane` names several types: src/a.rs, src/b/c.rs"]);
    assert_eq!(unused_exceptions(&sources).len(), BY_ROOM.len() - 1);
}

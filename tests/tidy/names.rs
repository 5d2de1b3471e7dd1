//! One meaning for each name of a type: in a crate, of those that the whole of it can see; in a room, of
//! those that one and the same file can see.

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
    let twice = found.iter().filter(|((_, name), paths)| paths.len() > 1 && !is_by_room(name));
    twice.map(|((_, name), paths)| format!("`{name}` names several types: {}", paths.join(", "))).collect()
}

/// Types of one room with one name, of which some file of the room can see both: it would have to say
/// which one it means.
pub(crate) fn twice_in_a_room(sources: &[Source]) -> Vec<String> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for source in sources {
        let Some((of, _)) = source.path.split_once("src/") else { continue };
        let (room, parent) = home(&source.path[of.len() + "src/".len()..]);
        for (name, seen_by) in source.shipped.lines().filter_map(declaration) {
            let scope = if seen_by == Some("super") { parent.clone() } else { room.to_owned() };
            found.entry((of, room, name)).or_default().push((scope, source.path.as_str()));
        }
    }
    let mut complaints = Vec::new();
    for ((_, _, name), places) in found.iter().filter(|((_, _, name), _)| !is_by_room(name)) {
        for (at, (scope, path)) in places.iter().enumerate() {
            let both = |(other, _): &&(String, &str)| is_below(scope, other) || is_below(other, scope);
            let others = places[..at].iter().filter(both);
            complaints.extend(others.map(|(_, other)| format!("`{name}` names two types: {other}, {path}")));
        }
    }
    complaints
}

/// The room of a file below `src/`, and the module in which its `super` is.
fn home(below: &str) -> (&str, String) {
    let module = below.trim_end_matches(".rs").trim_end_matches("/mod");
    let room = module.split('/').next().unwrap_or(module);
    (room, module.rsplit_once('/').map_or(room, |(parent, _)| parent).to_owned())
}

/// Whether a module is another one, or stands in it.
fn is_below(module: &str, other: &str) -> bool {
    module.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_by_room(name: &str) -> bool {
    BY_ROOM.iter().any(|(known, _)| *known == name)
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
    declaration(line).filter(|(_, seen_by)| seen_by.is_none_or(|by| by == "crate")).map(|(name, _)| name)
}

/// The name of the type that a line declares for others than its own module, and for whom, if that
/// is said: `super`, `crate`, `in crate::…`.
fn declaration(line: &str) -> Option<(&str, Option<&str>)> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let (seen_by, rest) = match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(") ").map(|(by, rest)| (Some(by), rest))?,
        None => (None, rest.strip_prefix(' ')?),
    };
    let (kind, rest) = rest.split_once(' ')?;
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    // Types that belong to a trait's implementation are not declared with `pub`.
    (DECLARING.contains(&kind) && !name.is_empty()).then_some((name, seen_by))
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

#[test]
fn a_name_with_two_meanings_in_one_room_is_found() {
    let twice = |one: (&str, &str), other: (&str, &str)| {
        twice_in_a_room(&[Source::new(one.0, one.1), Source::new(other.0, other.1)]).len()
    };
    let near = ("src/a/b.rs", "pub(super) struct Lane;");
    for other in [
        ("src/a/mod.rs", "pub enum Lane {}"),
        ("src/a/c.rs", "pub(super) type Lane = u8;"),
        ("src/a/c/d.rs", "pub(super) struct Lane;"),
        ("src/a/c/d/e.rs", "pub(in crate::a) struct Lane;"),
    ] {
        assert_eq!(twice(near, other), 1, "{other:?}");
    }
    for other in [("src/a/c.rs", "struct Lane;"), ("src/d/b.rs", "pub struct Lane;"), ("tls/src/a/b.rs", near.1)] {
        assert_eq!(twice(near, other), 0, "{other:?}");
    }
    let twins = [("src/a/c/d.rs", "pub(super) struct Row;"), ("src/a/e/d.rs", "pub(super) struct Row;")];
    assert_eq!(twice(twins[0], twins[1]), 0, "no file sees both");
}

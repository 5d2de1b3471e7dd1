//! Who may import whom (docs/architecture.md): a room uses the layers below its own, and its own layer not at all.

use super::source::{Source, braces, occurrences};

/// The rooms, from the ground up. What stands in one row does not know of each other.
const LAYERS: [&[&str]; 11] = [
    &["ids", "limits", "clock", "chunks"],
    &["fair", "log", "threads"],
    &["http", "metrics"],
    &["ws"],
    &["wire", "auth", "store"],
    &["caller"],
    &["shard"],
    &["hooks", "mesh", "object_store"],
    &["driver", "cluster", "api", "config"],
    &["node", "doctor"],
    &["main"],
];

/// Imports against the table, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "wire",
    "store",
    "a sync answer is made of the store's rows, and its request says where a page of the store begins",
)];

/// The other crates of the workspace, and the rooms that each may use: TLS and pictures do not know for
/// whom they work, the clients know the protocol's page alone. Benchmarks stand outside the house.
const CRATES: [(&str, &[&str]); 5] = [
    ("tls/", &[]),
    ("pictures/", &[]),
    ("client/", &[]),
    ("loadtest/", &[]),
    ("bench/", &["ids", "limits", "clock", "ws", "wire", "auth", "store", "shard"]),
];

/// Complaints about the imports of one file.
pub(crate) fn check(source: &Source) -> Vec<String> {
    uses(source)
        .into_iter()
        .filter(|(_, to)| !allowed(source, to))
        .map(|(line, to)| format!("{}, line {line}: may not use `{to}`", source.path))
        .collect()
}

fn allowed(source: &Source, to: &str) -> bool {
    if let Some((_, rooms)) = CRATES.iter().find(|(folder, _)| source.path.starts_with(folder)) {
        return rooms.contains(&to);
    }
    match source.room() {
        // Tests stand outside the house.
        None | Some("lib") => true,
        Some(from) => {
            let below = rank(to).is_some() && rank(to) < rank(from);
            from == to || below || is_exception(from, to)
        }
    }
}

fn is_exception(from: &str, to: &str) -> bool {
    EXCEPTIONS.iter().any(|(a, b, _)| (*a, *b) == (from, to))
}

fn rank(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&room))
}

/// Exceptions that no file makes use of.
pub(crate) fn unused_exceptions(sources: &[Source]) -> Vec<String> {
    let used = |from: &str, to: &str| {
        sources.iter().any(|source| source.room() == Some(from) && uses(source).iter().any(|(_, room)| room == to))
    };
    EXCEPTIONS
        .iter()
        .filter(|(from, to, _)| !used(from, to))
        .map(|(from, to, _)| format!("the exception {from} -> {to} is not needed"))
        .collect()
}

/// Rooms in the rows of the other crates of which these use nothing.
pub(crate) fn unused_rooms(sources: &[Source]) -> Vec<String> {
    let used = |folder: &str, to: &str| {
        sources.iter().any(|source| source.path.starts_with(folder) && uses(source).iter().any(|(_, room)| room == to))
    };
    let rows = CRATES.iter().flat_map(|(folder, rooms)| rooms.iter().map(move |room| (*folder, *room)));
    rows.filter(|(folder, room)| !used(folder, room))
        .map(|(folder, room)| format!("{folder} needs no {room}"))
        .collect()
}

/// Rooms that the table does not know.
pub(crate) fn unknown_rooms(sources: &[Source]) -> Vec<String> {
    let rooms = sources.iter().filter_map(Source::room).filter(|&room| room != "lib" && rank(room).is_none());
    rooms.map(|room| format!("src/{room} stands in no layer")).collect()
}

/// The rooms that a file names, with lines: in `use` and in paths, in shipped code only.
fn uses(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // Inside a member of the workspace, `crate` is that member.
    let roots: &[&str] = if source.is_ours() { &["crate::", "imgate::"] } else { &["imgate::"] };
    for root in roots {
        for at in occurrences(&source.shipped, root) {
            for segment in first_segments(&source.shipped[at + root.len()..]) {
                found.push((source.line(at), segment));
            }
        }
    }
    for at in occurrences(&source.shipped, "super::") {
        // The later links of a chain belong to its first.
        if source.shipped[..at].ends_with("super::") {
            continue;
        }
        let chain = &source.shipped[at..];
        let links = chain.split("super::").take_while(|part| part.is_empty()).count();
        if links >= source.module().len() && source.is_ours() {
            for segment in first_segments(&chain[links * "super::".len()..]) {
                found.push((source.line(at), segment));
            }
        }
    }
    // A name at the crate's root that is no module (a macro, a re-export) does not count.
    found.retain(|(_, room)| rank(room).is_some() || room == "*");
    found
}

/// The first segment of every path in the use tree at the start of `code`.
pub(crate) fn first_segments(code: &str) -> Vec<String> {
    if !code.starts_with('{') {
        let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(code.len());
        let word = &code[..end];
        return vec![if word.is_empty() { code.chars().take(1).collect() } else { word.to_owned() }];
    }
    let group = &code[1..braces(code) - 1];
    let mut depth = 0usize;
    let mut parts = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("there is a first part").push(c);
    }
    parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).flat_map(first_segments).collect()
}

#[cfg(test)]
fn complaints(path: &str, text: &str) -> usize {
    check(&Source::new(path, text)).len()
}

#[test]
fn an_import_upwards_is_found_however_it_is_written() {
    for text in [
        "use crate::driver::Loop;",
        "use crate::driver;",
        "use crate::{ids::UserId, limits, driver::{gate::{Head}, tls}};",
        "use crate::{\n    ids::{UserId, ConvId},\n    {mesh::Lane},\n};",
        "fn f() { crate::mesh::ring(); }",
        "use super::super::mesh::Lane;",
        "use super::super::{ids, mesh};",
        "use crate::*;",
    ] {
        assert_eq!(complaints("src/shard/session.rs", text), 1, "{text}");
    }
    assert_eq!(complaints("src/shard/mod.rs", "use super::mesh::Lane;"), 1);
    assert_eq!(complaints("src/mesh.rs", "use super::{driver, node};"), 2);
    assert_eq!(complaints("src/auth.rs", "use crate::store::Row;"), 1, "one layer, two rooms");
    for path in ["loadtest/src/main.rs", "pictures/src/lib.rs", "client/src/session.rs", "tls/src/lib.rs"] {
        assert_eq!(complaints(path, "use imgate::ids::UserId;"), 1, "{path}");
    }
    assert_eq!(complaints("bench/src/gateway.rs", "use imgate::{ids, shard::Shard, driver::Driver};"), 1);
}

#[test]
fn an_import_downwards_is_no_violation() {
    for text in [
        "use crate::{ids::UserId, wire::Packet, store::{Row, Page}};",
        "use super::super::ids::ConvId;",
        "use super::event::Event;",
        "use super::{driver, peer};",
        "// use crate::driver;\nlet x = \"crate::driver\";",
        "#[cfg(test)]\nmod tests { use crate::driver; }",
        "use crate::shard::Shard;",
    ] {
        assert_eq!(complaints("src/shard/session.rs", text), 0, "{text}");
    }
    assert_eq!(complaints("tests/e2e.rs", "use imgate::node;"), 0);
    assert_eq!(complaints("src/lib.rs", "pub mod node;"), 0);
}

#[test]
fn a_room_without_a_layer_is_found() {
    assert_eq!(unknown_rooms(&[Source::new("src/stuff.rs", ""), Source::new("src/ids.rs", "")]).len(), 1);
    assert_eq!(unused_exceptions(&[]).len(), EXCEPTIONS.len());
    assert!(!unused_rooms(&[]).is_empty());
}

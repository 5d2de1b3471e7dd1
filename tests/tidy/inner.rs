//! Who may import whom inside a large room: its parts stand in layers, as the rooms do among themselves, so that none of
//! them goes round in a circle.

use super::imports::first_segments;
use super::source::{Source, occurrences};

/// The parts of `api`, from the ground up. What stands in one row does not know of each other.
const API: &[&[&str]] = &[
    &["services", "slots", "blocking", "bodies", "json", "caller", "stream", "current_judge", "trails"],
    &["absent", "admin", "control", "following", "foreign", "user_requests", "delivery", "ending", "family", "history"],
    &["client", "exchange", "uploads"],
    &["app", "rewind"],
    &["cors", "files", "measured"],
    &["v1", "legacy"],
    &["limiter"],
    &["connection"],
    &["acceptor"],
];

/// The rooms whose parts are in a table.
const ROOMS: &[(&str, &[&[&str]])] = &[("api", API)];

/// Complaints about what one file imports of its own room.
pub(crate) fn check(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some((room, layers)) = ROOMS.iter().find(|(room, _)| module.first() == Some(room) && source.is_ours()) else {
        return Vec::new();
    };
    // The room's own file puts its parts together; tests stand outside.
    let Some(from) = module.get(1).filter(|part| **part != "tests") else { return Vec::new() };
    let rank = |part: &str| layers.iter().position(|layer| layer.contains(&part));
    let Some(own) = rank(from) else {
        return vec![format!("{}: `{from}` stands in no layer of `{room}`", source.path)];
    };
    uses(source, room)
        .into_iter()
        .filter(|(_, to)| to != from && rank(to).is_none_or(|below| below >= own))
        .map(|(line, to)| format!("{}, line {line}: may not use `{room}::{to}`", source.path))
        .collect()
}

/// The parts of its own room that a file names, with lines, in shipped code only.
fn uses(source: &Source, room: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let root = format!("crate::{room}::");
    for at in occurrences(&source.shipped, &root) {
        found
            .extend(first_segments(&source.shipped[at + root.len()..]).into_iter().map(|part| (source.line(at), part)));
    }
    for at in occurrences(&source.shipped, "super::") {
        // The later links of a chain belong to its first.
        if source.shipped[..at].ends_with("super::") {
            continue;
        }
        let chain = &source.shipped[at..];
        let links = chain.split("super::").take_while(|part| part.is_empty()).count();
        if links + 1 == source.module().len() {
            let parts = first_segments(&chain[links * "super::".len()..]);
            found.extend(parts.into_iter().map(|part| (source.line(at), part)));
        }
    }
    found
}

#[cfg(test)]
fn complaints(path: &str, text: &str) -> usize {
    check(&Source::new(path, text)).len()
}

#[test]
fn a_part_that_uses_one_above_it_is_found_however_it_is_written() {
    for text in [
        "use super::super::legacy::TOO_LARGE;",
        "use crate::api::{json, v1::refusal};",
        "fn f() { crate::api::acceptor::serve(); }",
        "use super::super::Setup;",
        "use crate::api::Setup;",
    ] {
        assert_eq!(complaints("src/api/uploads/taking.rs", text), 1, "{text}");
    }
    assert_eq!(complaints("src/api/delivery.rs", "use super::uploads::Uploads;"), 1);
    assert_eq!(complaints("src/api/v1/mod.rs", "use super::legacy;"), 1, "one layer, two parts");
    assert_eq!(complaints("src/api/stuff.rs", ""), 1, "no layer");
}

#[test]
fn a_part_that_uses_one_below_it_is_no_violation() {
    for text in [
        "use super::{kind::Kind, blobs};",
        "use super::super::{delivery::Object, json};",
        "use crate::api::services::Db;",
        "use crate::store::Claim;",
        "#[cfg(test)]\nmod tests { use crate::api::v1; }",
    ] {
        assert_eq!(complaints("src/api/uploads/taking.rs", text), 0, "{text}");
    }
    assert_eq!(complaints("src/api/mod.rs", "use v1::routes; use self::legacy;"), 0);
    assert_eq!(complaints("src/store/mod.rs", "use crate::api::v1;"), 0, "the table of rooms is about that");
}

//! The parts of `src/shard`: which of them may call which (docs/architecture.md), and what of a session is whose.

use super::imports::first_segments;
use super::source::{Source, braces, occurrences};

/// What every part may use: files of plain data, and the context of a step.
const BASE: [&str; 13] = [
    "asks",
    "broken",
    "coalescing",
    "effect",
    "event",
    "far",
    "io",
    "lanes",
    "passages",
    "peer",
    "retries",
    "setup",
    "top",
];

/// The parts, in the order in which they can be read, each with the parts that it may call. There is
/// no cycle as long as each names only parts above it, which a test below looks at.
const PARTS: [(&str, &[&str]); 8] = [
    ("session", &[]),
    ("home", &[]),
    ("sessions", &["session"]),
    ("catching_up", &["session", "sessions"]),
    ("delivery", &["session", "sessions", "catching_up"]),
    ("opening", &["session", "sessions", "catching_up"]),
    ("posting", &["session", "sessions", "delivery"]),
    ("social", &["session", "home", "sessions"]),
];

/// Files beside the parts that hand events to them.
const TOP: [&str; 6] = ["commands", "invariants", "notices", "sending", "tests", "mod"];

/// Uses against the table, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("effect", "session", "a broadcast names the batch that is to be written"),
    ("io", "session", "the account of what readers keep alive is defined with the outbox"),
];

/// Fields of a session that only some parts may touch, besides `session` itself: by which name it is
/// said, its type, the field.
const FIELDS: [(&str, &str, &str, &[&str]); 6] = [
    ("unfinished", "Unfinished", "behind", &["catching_up"]),
    ("unfinished", "Unfinished", "introductions", &["catching_up"]),
    ("unfinished", "Unfinished", "left", &["opening"]),
    ("unfinished", "Unfinished", "parked", &["posting"]),
    ("session", "Session", "stream", &["sessions"]),
    ("session", "Session", "unconfirmed", &["sessions"]),
];

/// The part that a file belongs to.
fn part(source: &Source) -> Option<&str> {
    let rest = source.path.strip_prefix("src/shard/")?;
    Some(rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs"))
}

/// Complaints about the calls and fields of one file.
pub(crate) fn check(source: &Source) -> Vec<String> {
    let Some(from) = part(source).filter(|part| !TOP.contains(part)) else { return Vec::new() };
    let mut complaints: Vec<String> = uses(source)
        .into_iter()
        .filter(|(_, to)| !allowed(from, to))
        .map(|(line, to)| format!("{}, line {line}: {from} may not use {to}", source.path))
        .collect();
    for (of, its_type, field, owners) in FIELDS {
        if from == "session" || owners.contains(&from) {
            continue;
        }
        for at in touches(&source.shipped, of, its_type, field) {
            let line = source.line(at);
            complaints.push(format!("{}, line {line}: `{of}.{field}` of a session is not {from}'s", source.path));
        }
    }
    complaints
}

/// Where code touches a field: behind a name, behind the method that lends it, in a pattern.
fn touches(code: &str, of: &str, its_type: &str, field: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for before in [of.to_owned(), format!("{of}_mut()")] {
        found.extend(occurrences(code, &format!("{before}.{field}")));
    }
    let pattern = format!("{its_type} {{");
    found.extend(occurrences(code, &pattern).filter(|&at| {
        // The braces of a function that answers one, or of its methods, are no pattern.
        let before = code[..at].trim_end().trim_end_matches("mut").trim_end_matches(['&', ' ']);
        let is_pattern = !["->", "impl", "for"].iter().any(|word| before.ends_with(word));
        let open = at + pattern.len() - 1;
        is_pattern && occurrences(&code[open..open + braces(&code[open..])], field).next().is_some()
    }));
    found
}

fn allowed(from: &str, to: &str) -> bool {
    let known = |name: &str| BASE.contains(&name) || PARTS.iter().any(|(part, _)| *part == name);
    // A type that the room's root shows: settings are everybody's, the shard itself is nobody's.
    if !known(to) && !TOP.contains(&to) {
        return to != "Shard";
    }
    let listed = PARTS.iter().any(|(part, below)| *part == from && below.contains(&to));
    let excepted = EXCEPTIONS.iter().any(|(a, b, _)| (*a, *b) == (from, to));
    from == to || BASE.contains(&to) || listed || excepted
}

/// What of the room a file names, with lines, in shipped code.
fn uses(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let root = "crate::shard::";
    for at in occurrences(&source.shipped, root) {
        found.extend(first_segments(&source.shipped[at + root.len()..]).into_iter().map(|to| (source.line(at), to)));
    }
    for at in occurrences(&source.shipped, "super::") {
        if source.shipped[..at].ends_with("super::") {
            continue;
        }
        let chain = &source.shipped[at..];
        let links = chain.split("super::").take_while(|part| part.is_empty()).count();
        if links + 1 == source.module().len() {
            let to = first_segments(&chain[links * "super::".len()..]);
            found.extend(to.into_iter().map(|to| (source.line(at), to)));
        }
    }
    found
}

/// Files of the room that the table does not know.
pub(crate) fn unknown(sources: &[Source]) -> Vec<String> {
    let known = |name: &str| BASE.contains(&name) || TOP.contains(&name) || PARTS.iter().any(|(part, _)| *part == name);
    let strangers = sources.iter().filter(|source| part(source).is_some_and(|part| !known(part)));
    strangers.map(|source| format!("{} stands in no row of tests/tidy/parts.rs", source.path)).collect()
}

#[cfg(test)]
fn complaints(path: &str, text: &str) -> usize {
    check(&Source::new(path, text)).len()
}

#[test]
fn the_table_has_no_cycle() {
    for (at, (part, below)) in PARTS.iter().enumerate() {
        for other in *below {
            let place = PARTS.iter().position(|(name, _)| name == other);
            assert!(place.is_some_and(|place| place < at), "{part} calls {other}, which does not stand above it");
        }
    }
}

#[test]
fn a_call_upwards_is_found_however_it_is_written() {
    for text in [
        "use crate::shard::social::Social;",
        "use crate::shard::{io::Io, social::{Social, hints}};",
        "fn f(social: &mut crate::shard::social::Social) {}",
        "use super::super::social::Social;",
        "use crate::shard::Shard;",
    ] {
        assert_eq!(complaints("src/shard/sessions/flow.rs", text), 1, "{text}");
    }
    assert_eq!(complaints("src/shard/home/mod.rs", "use super::sessions::Sessions;"), 1);
    assert_eq!(complaints("src/shard/peer.rs", "use super::opening::Opening;"), 1);
    assert_eq!(complaints("src/shard/opening/mod.rs", "use crate::shard::delivery::Deliveries;"), 1);
}

#[test]
fn a_call_downwards_is_no_violation() {
    for text in [
        "use crate::shard::{PlantedBug, io::Io, peer::PeerMsg, session::Session};",
        "use super::table::Table;",
        "use super::super::io::Io;",
        "#[cfg(test)]\nmod tests { use crate::shard::social::Social; }",
    ] {
        assert_eq!(complaints("src/shard/sessions/flow.rs", text), 0, "{text}");
    }
    assert_eq!(complaints("src/shard/commands.rs", "use super::{Shard, social::Social};"), 0);
    assert_eq!(complaints("src/driver/gate.rs", "use crate::shard::Shard;"), 0, "another room");
}

#[test]
fn a_field_in_a_strange_hand_is_found() {
    for text in [
        "fn f() { unfinished.behind.clear(); }",
        "fn f() { session.unfinished_mut().behind.clear(); }",
        "fn f() { let Unfinished { behind, .. } = unfinished; }",
    ] {
        assert_eq!(complaints("src/shard/posting/mod.rs", text), 1, "{text}");
        assert_eq!(complaints("src/shard/catching_up/mod.rs", text), 0, "{text}");
    }
    let own = "fn f() -> &Unfinished { let Unfinished { parked, .. } = unfinished; behind }";
    assert_eq!(complaints("src/shard/posting/mod.rs", own), 0);
}

#[test]
fn a_file_without_a_row_is_found() {
    assert_eq!(unknown(&[Source::new("src/shard/stuff/x.rs", ""), Source::new("src/shard/home/x.rs", "")]).len(), 1);
}

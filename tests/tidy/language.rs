//! Comments: plain, narrow, and citing only what is in the repository.

use super::source::{Source, is_test_file};

/// Rooms that are about people: what a user may do, what one user sees of another. There "a user who
/// joins" is a person; everywhere else it is a session, a shard, a connection or a key.
const SOCIAL: [&str; 2] = ["api", "store"];

/// Columns of a comment line.
const COLUMNS_MAX: usize = 100;

/// Words for people where a thing is meant: name the thing (a session, a user, a shard, a client).
const PEOPLE: [&str; 4] = ["who", "nobody", "somebody", "anybody"];

/// Nothing here is a woman; a user is "the user".
const HER: [&str; 3] = ["she", "her", "hers"];

/// Beginnings of citations of pages that are not in the repository.
const ABSENT: [&str; 4] = ["design, section", "design, promise", "contract, part", "contract, "];

/// Complaints about the comments of one file. Tests may be wide and speak of people, though not cite
/// absent pages; the other crates of the workspace may speak of people, who use them.
pub(crate) fn check(source: &Source) -> Vec<String> {
    let is_test = is_test_file(&source.path) || !source.path.contains("src/");
    let is_thing = source.room().is_some_and(|room| !is_test && !SOCIAL.contains(&room));
    let people: &[&str] = if is_thing { &PEOPLE } else { &[] };
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let comment = line.trim_start();
        if !comment.starts_with("//") {
            continue;
        }
        let mut complain = |what: &str| complaints.push(format!("{}, line {number}: {what}", source.path));
        if !is_test && line.chars().count() > COLUMNS_MAX {
            complain(&format!("a comment of more than {COLUMNS_MAX} columns"));
        }
        let lower = comment.to_lowercase();
        let mut words = lower.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '\''));
        if let Some(word) = words.find(|word| people.contains(word) || HER.contains(word)) {
            complain(&format!("`{word}`: name the thing"));
        }
        if ABSENT.iter().any(|citation| lower.contains(citation)) {
            complain("cites a page that is not in the repository");
        }
    }
    complaints
}

#[cfg(test)]
fn complaints(path: &str, text: &str) -> usize {
    check(&Source::new(path, text)).len()
}

#[test]
fn a_wide_comment_is_found() {
    let comment = |columns: usize| format!("//! {}\n", "x".repeat(columns - 4));
    assert_eq!(complaints("src/shard/x.rs", &comment(COLUMNS_MAX)), 0);
    assert_eq!(complaints("src/shard/x.rs", &comment(COLUMNS_MAX + 1)), 1);
    assert_eq!(complaints("src/shard/x.rs", &"let y = 1; ".repeat(20)), 0, "code has its own width");
    assert_eq!(complaints("bench/src/x.rs", &comment(COLUMNS_MAX + 1)), 1);
    assert_eq!(complaints("tests/e2e/x.rs", &comment(COLUMNS_MAX + 1)), 0);
}

#[test]
fn a_word_for_people_is_found() {
    for text in ["// Who waits.", "/// Nobody listens.", "    // it is hers", "//! for somebody"] {
        assert_eq!(complaints("src/driver/x.rs", text), 1, "{text}");
    }
    assert_eq!(complaints("src/api/x.rs", "// A user who joins."), 0, "a person");
    for path in ["src/api/x.rs", "tests/e2e/x.rs", "src/shard/tests/x.rs", "bench/src/x.rs"] {
        assert_eq!(complaints(path, "// Her groups."), 1, "{path}");
    }
    assert_eq!(complaints("loadtest/src/x.rs", "// Whoever and who runs it."), 0);
    for text in ["// whole, there, others, ahead", "fn who() {}", "// `fn is_who`"] {
        assert_eq!(complaints("src/driver/x.rs", text), 0, "{text}");
    }
}

#[test]
fn a_citation_of_an_absent_page_is_found() {
    for path in ["src/shard/x.rs", "tests/simulation/x.rs"] {
        assert_eq!(complaints(path, "// As promised (design, section 4)."), 1, "{path}");
    }
    assert_eq!(complaints("src/shard/x.rs", "// See RFC 6455, section 5.5.3, and docs/protocol.md."), 0);
}

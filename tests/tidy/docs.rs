//! What pages may name: things, not lines; and nothing may name a path of one machine.

use std::collections::HashSet;

use super::source::{Source, Text, is_word};

/// Complaints about line numbers, which are wrong a week later.
pub(crate) fn line_numbers(page: &Text) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in page.text.lines().enumerate() {
        for extension in [".rs", ".sh", ".toml", ".md", ".js"] {
            let cites = |mark: &str| {
                line.match_indices(&format!("{extension}{mark}"))
                    .any(|(at, hit)| line[at + hit.len()..].starts_with(|c: char| c.is_ascii_digit()))
            };
            if cites(":") || cites("#L") {
                complaints.push(format!("{}, line {}: cites a line of a file", page.path, number + 1));
            }
        }
    }
    complaints
}

/// Complaints about relative links to what does not exist.
pub(crate) fn dead_links(page: &Text, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut complaints = Vec::new();
    for (at, _) in page.text.match_indices("](") {
        let rest = &page.text[at + 2..];
        let Some(end) = rest.find(')') else { continue };
        let target = rest[..end].split('#').next().unwrap_or_default();
        if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let path = if folder.is_empty() { target.to_owned() } else { format!("{folder}/{target}") };
        if !exists(&path) {
            complaints.push(format!("{}: links to {target}, which is not there", page.path));
        }
    }
    complaints
}

/// Where machines keep people and work. Cut in two, so that this file does not name them.
const MACHINE: [(&str, &str); 4] = [("/wo", "rk/"), ("/ho", "me/"), ("/ro", "ot/"), ("/Use", "rs/")];

/// Complaints about absolute paths of one machine.
pub(crate) fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (head, tail) in MACHINE {
            // Inside a longer path or a URL it is a folder of that name and no root.
            let rooted = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/}".contains(c));
            if line.match_indices(&format!("{head}{tail}")).any(|(at, _)| rooted(at)) {
                complaints.push(format!("{path}, line {}: names a path of one machine", number + 1));
            }
        }
    }
    complaints
}

/// Names on the map that are not of the code: an option of the kernel, a call of systemd.
const FOREIGN: [&str; 2] = ["SO_REUSEPORT", "sd_notify"];

/// Complaints about names in backticks (with `_` or `::` in them) that the code does not have. Of a
/// path some file has all parts: in its code, or as its own name and that of its folders.
pub(crate) fn unknown_names(page: &Text, sources: &[Source]) -> Vec<String> {
    let words: Vec<HashSet<&str>> = sources.iter().map(words_and_strings).collect();
    let is_known = |path: &str| words.iter().any(|words| path.split("::").all(|part| words.contains(part)));
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(page.text.lines()) {
        for name in line.split('`').skip(1).step_by(2) {
            // `shard_of(user)` names a function.
            let name = name.split('(').next().unwrap_or_default();
            let is_name = name.bytes().all(|byte| is_word(byte) || byte == b':');
            if is_name && name.contains(['_', ':']) && !FOREIGN.contains(&name) && !is_known(name) {
                complaints.push(format!("{}, line {number}: `{name}` is not in the code", page.path));
            }
        }
    }
    complaints
}

/// Complaints about links in doc comments to what their file neither has nor imports, as a renamed
/// type leaves them behind. `cargo doc` knows it for certain, and takes minutes.
pub(crate) fn broken_links(source: &Source) -> Vec<String> {
    const EVERYWHERE: [&str; 6] = ["Self", "crate", "self", "std", "super", "Drop"];
    let words = words(source);
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let line = line.trim_start();
        if !(line.starts_with("///") || line.starts_with("//!")) {
            continue;
        }
        for link in line.split("[`").skip(1) {
            let Some((name, rest)) = link.split_once("`]") else { continue };
            let first = name.split([':', '(', '<', '!']).next().unwrap_or_default();
            // With a target of its own, there or at the end of the comment.
            let is_told = rest.starts_with(['(', '[', ':']) || source.text.contains(&format!("[`{name}`]: "));
            if !is_told && !words.contains(first) && !EVERYWHERE.contains(&first) {
                complaints.push(format!("{}, line {number}: [`{name}`] leads nowhere", source.path));
            }
        }
    }
    complaints
}

/// The words of a source's code, and of its path.
fn words(source: &Source) -> HashSet<&str> {
    let code = source.code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    code.chain(source.path.split(['/', '.'])).collect()
}

/// The same, and whole string literals: settings are named by them.
fn words_and_strings(source: &Source) -> HashSet<&str> {
    let mut words = words(source);
    words.extend(source.strings.iter().map(|(_, inside)| inside.as_str()));
    words
}

#[cfg(test)]
fn page(text: &str) -> Text {
    Text { path: "docs/x.md".to_owned(), text: text.to_owned() }
}

#[test]
fn a_cited_line_is_found() {
    assert_eq!(line_numbers(&page("see src/mesh.rs:17\nand [this](../src/ids.rs#L3)")).len(), 2);
    assert!(line_numbers(&page("see `mesh::Lane` in src/mesh.rs: it is at 127.0.0.1:8081")).is_empty());
}

#[test]
fn a_dead_link_is_found() {
    let exists = |path: &str| path == "docs/there.md";
    assert_eq!(dead_links(&page("[a](gone.md) [b](there.md#part) [c](https://x.y/z) [d](#here)"), exists).len(), 1);
}

#[test]
fn a_path_of_a_machine_is_found() {
    for (head, tail) in MACHINE {
        assert_eq!(machine_paths("x.md", &format!("look in {head}{tail}me")).len(), 1);
        assert_eq!(machine_paths("x.md", &format!("\"{head}{tail}me\"")).len(), 1);
        assert!(machine_paths("x.md", &format!("https://x.y{head}{tail}me")).is_empty());
    }
}

#[test]
fn a_name_that_is_gone_is_found() {
    let sources = [
        Source::new("src/home/ordering.rs", "fn hand_on() {}\n// hand_off"),
        Source::new("src/caller.rs", "struct Place;"),
    ];
    let unknown = |text: &str| unknown_names(&page(text), &sources).len();
    for text in ["`hand_on`", "`home::hand_on`", "`ordering::hand_on`", "`caller::Place`, `x`", "`hand_on(user)`"] {
        assert_eq!(unknown(text), 0, "{text}");
    }
    for text in ["`hand_off`", "`caller::hand_on`", "`Home::hand_on`"] {
        assert_eq!(unknown(text), 1, "{text}");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let broken = |doc: &str| broken_links(&Source::new("src/x.rs", &format!("//! {doc}\nuse crate::y::There;"))).len();
    for doc in ["[`There`]", "[`There::is`]", "[`crate::z`]", "[`Gone`](crate::z::Gone)", "[`Gone`]\n//! [`Gone`]: z"] {
        assert_eq!(broken(doc), 0, "{doc}");
    }
    for doc in ["[`Gone`]", "[`Gone::is`], see there", "[`There`] and [`gone()`]"] {
        assert_eq!(broken(doc), 1, "{doc}");
    }
}

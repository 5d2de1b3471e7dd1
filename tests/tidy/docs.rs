//! What pages may name: things, not lines; and nothing may name a path of one machine.

use super::source::Text;

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

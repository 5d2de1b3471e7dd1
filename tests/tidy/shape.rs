//! The shape of files: purpose first, names of nouns, lengths, limits with reasons.

use super::source::{Source, braces, is_test_file, occurrences};

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;

/// Files that are longer, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// Functions that are longer: file, function, reason.
const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

/// Names that say nothing of what is inside.
const GRAB_BAGS: [&str; 14] = [
    "util", "utils", "common", "helper", "helpers", "misc", "types", "manager", "core", "base", "shared", "stuff",
    "tools", "lib2",
];

/// Line 1 says what the file is.
pub(crate) fn opens_with_doc(source: &Source) -> Vec<String> {
    let said = source.text.strip_prefix("//! ").is_some_and(|rest| rest.starts_with(|c: char| !c.is_whitespace()));
    complaint_unless(said, || format!("{}: does not open with `//!` and what it is", source.path))
}

/// No file or folder is a grab bag.
pub(crate) fn name(source: &Source) -> Vec<String> {
    let path = source.path.strip_suffix(".rs").unwrap_or(&source.path);
    let bag = path.split('/').find(|part| GRAB_BAGS.contains(part));
    bag.map(|bag| format!("{}: `{bag}` is no noun of this house", source.path)).into_iter().collect()
}

/// Files of shipped code stay below the cap.
pub(crate) fn file_length(source: &Source) -> Vec<String> {
    let lines = shipped_lines(source);
    let known = LONG_FILES.iter().any(|(path, _)| *path == source.path);
    complaint_unless(lines <= FILE_LINES_MAX || known, || {
        format!("{}: {lines} lines without tests, more than {FILE_LINES_MAX}", source.path)
    })
}

/// Lines up to the last one that is shipped; a file of tests has none.
fn shipped_lines(source: &Source) -> usize {
    source.text.lines().zip(source.shipped.lines()).filter(|(text, shipped)| is_shipped(text, shipped)).count()
}

/// Comments and blank lines count as well, as far as they are no test's; those inside tests are few and count too.
fn is_shipped(text: &str, shipped: &str) -> bool {
    !shipped.trim().is_empty() || text.trim().is_empty() || text.trim_start().starts_with("//")
}

/// Functions of shipped code stay below the cap.
pub(crate) fn function_lengths(source: &Source) -> Vec<String> {
    long_functions(source)
        .into_iter()
        .filter(|(name, _)| !LONG_FUNCTIONS.iter().any(|(path, known, _)| *path == source.path && known == name))
        .map(|(name, lines)| format!("{}: `{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}", source.path))
        .collect()
}

fn long_functions(source: &Source) -> Vec<(String, usize)> {
    let code = &source.shipped;
    let mut long = Vec::new();
    for at in occurrences(code, "fn") {
        let rest = &code[at..];
        let name: String = rest[2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // A type `fn(…)` has no name; a declaration ends before a body begins.
        let Some(open) = rest.find(['{', ';']).filter(|_| !name.is_empty()) else { continue };
        if rest.as_bytes()[open] == b'{' {
            let body = &rest[..open + braces(&rest[open..])];
            let lines = body.lines().count();
            if lines > FUNCTION_LINES_MAX {
                long.push((name, lines));
            }
        }
    }
    long
}

/// Exceptions that no file needs any more.
pub(crate) fn unused_exceptions(sources: &[Source]) -> Vec<String> {
    let find = |path: &str| sources.iter().find(|source| source.path == path);
    let files = LONG_FILES
        .iter()
        .filter(|(path, _)| find(path).is_none_or(|source| shipped_lines(source) <= FILE_LINES_MAX))
        .map(|(path, _)| format!("{path} is not too long"));
    let functions = LONG_FUNCTIONS
        .iter()
        .filter(|(path, name, _)| {
            find(path).is_none_or(|source| !long_functions(source).iter().any(|(known, _)| known == name))
        })
        .map(|(path, name, _)| format!("{name} in {path} is not too long"));
    files.chain(functions).collect()
}

/// Whether a file is made of limits.
pub(crate) fn has_limits(source: &Source) -> bool {
    source.room() == Some("limits") || source.path == "pictures/src/bounds.rs"
}

/// Every constant of `limits.rs` has a doc comment right before it.
pub(crate) fn limits(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut complaints = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("pub const ") else { continue };
        let above = lines[..index].iter().rev().map_while(|line| line.strip_prefix("///"));
        let reason = above.map(|text| text.trim().len()).sum::<usize>() > 10;
        complaints.extend(complaint_unless(reason, || {
            format!("{}: `{}` has no reason", source.path, rest.split(':').next().unwrap_or_default())
        }));
    }
    complaints
}

fn complaint_unless(fine: bool, complaint: impl FnOnce() -> String) -> Vec<String> {
    if fine { Vec::new() } else { vec![complaint()] }
}

#[test]
fn a_file_without_a_purpose_is_found() {
    for text in ["", "use x;\n//! Late.", "//!\n//! Late.", "// Not a doc comment.", "//! \n"] {
        assert_eq!(opens_with_doc(&Source::new("src/x.rs", text)).len(), 1, "{text:?}");
    }
    assert!(opens_with_doc(&Source::new("src/x.rs", "//! What it is.\nuse x;")).is_empty());
}

#[test]
fn a_grab_bag_is_found() {
    for path in ["src/util.rs", "src/shard/common.rs", "src/helpers/mod.rs", "loadtest/src/misc/x.rs"] {
        assert_eq!(name(&Source::new(path, "")).len(), 1, "{path}");
    }
    assert!(name(&Source::new("src/shard/commons_house.rs", "")).is_empty());
}

#[test]
fn a_long_file_is_found() {
    let code = "fn a() {}\n".repeat(FILE_LINES_MAX);
    assert!(file_length(&Source::new("src/x.rs", &code)).is_empty());
    assert_eq!(file_length(&Source::new("src/x.rs", &format!("{code}fn b() {{}}\n"))).len(), 1);
    let tests = format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n");
    assert!(file_length(&Source::new("src/x.rs", &tests)).is_empty(), "tests do not count");
    assert!(is_test_file("src/x/tests.rs") && file_length(&Source::new("src/x/tests.rs", &tests)).is_empty());
}

#[test]
fn a_long_function_is_found() {
    let lines = "    x();\n".repeat(FUNCTION_LINES_MAX - 2);
    let short = format!("trait T {{ fn declared(&self);\nfn a(f: fn(u8) -> u8) {{\n{lines}}} }}\n");
    assert!(function_lengths(&Source::new("src/x.rs", &short)).is_empty());
    let long = format!("impl T {{\nfn a() -> u8 {{\n{lines}    y();\n}}\n}}\n");
    assert_eq!(function_lengths(&Source::new("src/x.rs", &long)).len(), 1);
    let test = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert!(function_lengths(&Source::new("src/x.rs", &test)).is_empty());
}

#[test]
fn a_limit_without_a_reason_is_found() {
    let text = "/// A reason that says why.\npub const A_MAX: u32 = 1;\npub const B_MAX: u32 = 2;\n/// B.\npub const C_MAX: u32 = 3;\n";
    assert_eq!(limits(&Source::new("src/limits.rs", text)).len(), 2);
}

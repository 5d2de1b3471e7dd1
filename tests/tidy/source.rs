//! The files of the tree, and Rust sources with their comments, strings and tests told apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What is not ours to judge: built, fetched, or a gateway's data.
const SKIPPED: [&str; 6] = [".git", "target", "data", "node_modules", ".venv", "proptest-regressions"];

/// Every file that the checkers look at.
pub(crate) struct Tree {
    root: PathBuf,
    /// Rust sources.
    pub(crate) rust: Vec<Source>,
    /// Other texts: pages, scripts, manifests.
    pub(crate) texts: Vec<Text>,
}

/// A text that is no Rust.
pub(crate) struct Text {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

/// One Rust file in three readings of the same length and line breaks.
pub(crate) struct Source {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// Without comments and the insides of literals.
    pub(crate) code: String,
    /// As `code`, and without what is compiled for tests only.
    pub(crate) shipped: String,
    /// String literals of `shipped`: line from 1, inside.
    pub(crate) strings: Vec<(usize, String)>,
}

impl Tree {
    /// The tree of the package, read once for all tests.
    pub(crate) fn read() -> &'static Self {
        static TREE: OnceLock<Tree> = OnceLock::new();
        TREE.get_or_init(|| {
            // At run time first, so that one build of this test can judge another checkout.
            let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
            let mut tree = Self { root: PathBuf::from(root), rust: Vec::new(), texts: Vec::new() };
            let root = tree.root.clone();
            tree.walk(&root);
            tree
        })
    }

    /// Whether the path from the root names a file or folder.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    fn walk(&mut self, folder: &Path) {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder)
            .expect("a folder of the tree can be listed")
            .map(|entry| entry.expect("an entry can be read").path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if SKIPPED.contains(&name) {
                continue;
            }
            if path.is_dir() {
                self.walk(&path);
                continue;
            }
            // What is not UTF-8 is a picture or a database.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let below = path.strip_prefix(&self.root).expect("the walk began at the root");
            let below = below.to_str().expect("file names are UTF-8").to_owned();
            if name.ends_with(".rs") {
                self.rust.push(Source::new(&below, &text));
            } else {
                self.texts.push(Text { path: below, text });
            }
        }
    }
}

impl Source {
    /// Reads a source.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, strings) = blank(text);
        let shipped = if is_test_file(path) { spaces(&code) } else { without_tests(&code) };
        // A string survives if its opening quote does.
        let strings = strings
            .into_iter()
            .filter(|(at, _)| !shipped.as_bytes()[*at].is_ascii_whitespace())
            .map(|(at, inside)| (line_of(text, at), inside))
            .collect();
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped, strings }
    }

    /// The package's own code, as opposed to tests, load tests and benchmarks.
    pub(crate) fn is_ours(&self) -> bool {
        self.path.starts_with("src/")
    }

    /// The room of a file below `src/`: `shard` for `src/shard/peer.rs`, `mesh` for `src/mesh.rs`.
    pub(crate) fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let first = below.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// The module path of a file below `src/`: `["shard", "peer"]`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let mut parts: Vec<&str> = below.strip_suffix(".rs").unwrap_or(below).split('/').collect();
        if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
            parts.pop();
        }
        parts
    }

    /// The line, from 1, of a byte offset.
    pub(crate) fn line(&self, at: usize) -> usize {
        line_of(&self.text, at)
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// `src/…/tests.rs` and what lies in a folder `tests`.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests" || part == "benches")
}

fn spaces(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// Overwrites comments and the insides of literals with blanks, byte for byte. Answers the text and its strings (offset of
/// the opening quote, inside).
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut strings = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            let end = at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            wipe(&mut out[at..end]);
            end
        } else if rest.starts_with(b"/*") {
            let end = at + block_comment(rest);
            wipe(&mut out[at..end]);
            end
        } else if let Some((open, inside)) = string(bytes, at) {
            let (from, to) = (at + open, at + open + inside);
            strings.push((from - 1, text[from..to].to_owned()));
            wipe(&mut out[from..to]);
            // The closing quote; the hashes of a raw string are harmless.
            to + 1
        } else if let Some(length) = char_literal(rest) {
            wipe(&mut out[at + 1..at + length - 1]);
            at + length
        } else {
            at + 1
        };
        at = end.min(bytes.len());
    }
    (String::from_utf8(out).expect("whole characters were wiped"), strings)
}

fn wipe(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Length of a block comment; they nest.
fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// If a string literal begins at `at`: bytes before its inside, and bytes of its inside.
fn string(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = &bytes[at..];
    if rest[0] == b'"' {
        let mut inside = 1;
        while inside < rest.len() && rest[inside] != b'"' {
            inside += if rest[inside] == b'\\' { 2 } else { 1 };
        }
        return Some((1, inside.min(rest.len()) - 1));
    }
    // A raw string; an identifier that ends in r is none.
    let prefix = [&b"br"[..], b"cr", b"r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    if at > 0 && is_word(bytes[at - 1]) {
        return None;
    }
    let hashes = rest[prefix.len()..].iter().take_while(|&&byte| byte == b'#').count();
    let open = prefix.len() + hashes + 1;
    if rest.get(open - 1) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let inside = rest[open..].windows(close.len()).position(|window| window == close)?;
    Some((open, inside))
}

/// Length of a char literal; `None` for a lifetime.
fn char_literal(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' {
        return None;
    }
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|&byte| byte == b'\'')?;
        return Some(close + 4);
    }
    // One character of one to four bytes, then the quote.
    (2..=5)
        .find(|&end| rest.get(end) == Some(&b'\'') && std::str::from_utf8(&rest[1..end]).is_ok_and(one_char))
        .map(|end| end + 1)
}

fn one_char(text: &str) -> bool {
    text.chars().count() == 1
}

/// Whether the byte can stand in an identifier.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Overwrites every item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let start = from + found;
        let end = start + item_length(&code[start..]);
        wipe(&mut out[start..end]);
        from = end;
    }
    String::from_utf8(out).expect("whole characters were wiped")
}

/// Bytes of the item at the start of `code`: up to its closing brace, or its semicolon.
fn item_length(code: &str) -> usize {
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b';' => return at + 1,
            b'{' => return at + braces(&code[at..]),
            _ => {}
        }
    }
    code.len()
}

/// Bytes of the balanced braces at the start of blanked `code`.
pub(crate) fn braces(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Offsets of `word` in blanked code, where it is not a part of a longer identifier.
pub(crate) fn occurrences<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let inner = |byte: Option<&u8>| byte.is_some_and(|&byte| is_word(byte));
    let starts_word = word.bytes().next().is_some_and(is_word);
    let ends_word = word.bytes().last().is_some_and(is_word);
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let after = bytes.get(at + word.len());
        !(starts_word && inner(before) || ends_word && inner(after))
    })
}

#[test]
fn comments_and_literals_are_blanked() {
    let source = Source::new(
        "src/x.rs",
        "let a = \"mio::x \\\" y\"; // mio\nlet b = r#\"mio \" mio\"#; /* mio /* mio */ mio */ let c = '\"'; fn d<'mio>() {}\nlet e = '\\''; f(b'x');",
    );
    assert_eq!(occurrences(&source.code, "mio").count(), 1, "the lifetime only: {}", source.code);
    assert_eq!(source.strings.len(), 2, "{:?}", source.strings);
    assert_eq!(source.strings[1], (2, "mio \" mio".to_owned()));
    assert!(source.code.contains("fn d<") && source.code.contains("let e") && source.code.contains("f(b"));
    assert_eq!(source.code.len(), source.text.len());
}

#[test]
fn tests_are_told_apart() {
    let text = "fn a() { x(); }\n#[cfg(test)]\nmod tests { fn b() { \"s\"; { y() } } }\n#[cfg(test)]\nmod more;\nfn c() { \"t\"; }\n";
    let source = Source::new("src/x.rs", text);
    assert!(source.shipped.contains("fn a") && source.shipped.contains("fn c"));
    assert!(!source.shipped.contains("fn b") && !source.shipped.contains("more"));
    assert_eq!(source.strings, [(6, "t".to_owned())]);
    assert!(Source::new("src/x/tests.rs", text).shipped.trim().is_empty());
}

#[test]
fn rooms_and_modules() {
    assert_eq!(Source::new("src/shard/peer.rs", "").module(), ["shard", "peer"]);
    assert_eq!(Source::new("src/shard/mod.rs", "").module(), ["shard"]);
    assert_eq!(Source::new("src/shard/mod.rs", "").room(), Some("shard"));
    assert_eq!(Source::new("src/mesh.rs", "").room(), Some("mesh"));
    assert_eq!(Source::new("tests/e2e.rs", "").room(), None);
}

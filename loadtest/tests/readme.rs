//! Every line of `autoclient` in the two READMEs and in the docs is one that it understands.

use std::process::Command;

const PAGES: [(&str, &str, usize); 3] = [
    ("README.md", include_str!("../../README.md"), 4),
    ("loadtest/README.md", include_str!("../README.md"), 12),
    ("docs/capacity.md", include_str!("../../docs/capacity.md"), 5),
];

/// Lines that continue are one; quotes and what the shell puts in stand for one word.
fn commands(page: &str) -> Vec<Vec<String>> {
    let (mut fenced, mut found) = (false, Vec::new());
    let joined = page.replace("\\\n", " ");
    for line in joined.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        let at = line.find("autoclient ").filter(|at| fenced && line[..*at].rsplit(' ').next() != Some("#"));
        // A folder before it, another program before it on the same line, or nothing.
        if let Some(at) = at {
            found.push(words(&line[at + "autoclient ".len()..]));
        }
    }
    found
}

fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => (quote, begun) = (Some(c), true),
            (Some(open), c) if open == c => quote = None,
            (None, ' ') => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (None, '#' | '&' | '>' | '|') if !begun => break,
            (_, c) => {
                word.push(c);
                begun = true;
            }
        }
    }
    words.extend(begun.then_some(word));
    // What a shell fills in, where a number is wanted.
    words.into_iter().map(|word| if word == "$!" { "1".to_owned() } else { word }).collect()
}

#[test]
fn every_line_is_understood() {
    for (name, page, least) in PAGES {
        let commands = commands(page);
        assert!(commands.len() >= least, "{name}: {commands:?}");
        for command in commands {
            // What is not known is told before the help is.
            let output = Command::new(env!("CARGO_BIN_EXE_autoclient")).args(&command).arg("--help").output();
            let output = output.expect("autoclient runs");
            assert!(output.status.success(), "{name}: {command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

//! Blocks of shell in the documents, which people paste as they stand.

const DOCUMENTS: [(&str, &str); 3] = [
    ("README.md", include_str!("../../README.md")),
    ("docs/capacity.md", include_str!("../../docs/capacity.md")),
    ("loadtest/README.md", include_str!("../../loadtest/README.md")),
];

/// What goes wrong in a block when it is pasted, each with its line.
fn too_early(text: &str) -> Vec<&str> {
    let (mut fenced, mut starting, mut found) = (false, false, Vec::new());
    for line in text.lines() {
        if line.starts_with("```") {
            (fenced, starting) = (!fenced, false);
            continue;
        }
        if !fenced {
            continue;
        }
        let command = line.split(" #").next().unwrap_or_default().trim();
        let waits = command.ends_with('&');
        // A list goes into the background as a whole, and what follows begins at once.
        if waits && command.contains(" seed ") {
            found.push(line);
        }
        // Who waits for a client that connects again by itself has waited for the gateway.
        starting &= !command.starts_with("wait ");
        let is_client = command.starts_with("autoclient") || command.contains(" autoclient ");
        if is_client && starting {
            found.push(line);
        }
        let is_gateway = command.split(' ').any(|word| word == "imgate" || word.ends_with("/imgate"));
        starting = (starting || (is_gateway && waits)) && !command.starts_with("until curl");
    }
    found
}

#[test]
fn nothing_asks_a_gateway_that_is_still_starting() {
    for (name, text) in DOCUMENTS {
        assert_eq!(too_early(text), Vec::<&str>::new(), "{name}");
    }
    let hasty = "```\nimgate seed --tokens t && imgate &\nautoclient capacity --tokens t\n```\n";
    assert_eq!(too_early(hasty).len(), 2, "the check can fail");
}

//! Any bytes as a command: the parser answers, the same for a fresh and a used parser, and what it relays is JSON without our keys.
#![no_main]

use imgate::wire::command::{Command, Parser};
use imgate::wire::{Echo, Profile};
use libfuzzer_sys::fuzz_target;

/// The keys that no client may speak for.
const OWNED: [&str; 11] =
    ["id", "seq", "ts", "userid", "cmd", "dstid", "kind", "dup", "recall", "recalled", "happened"];

fuzz_target!(|message: &[u8]| {
    let mut used = Parser::default();
    let _ = used.parse(br#"{"cmd":10,"dstid":2,"cid":"x","a":[{"b":"\u0041"}]}"#, Profile::V2);
    for profile in [Profile::Legacy(Echo::None), Profile::V2] {
        let command = Parser::default().parse(message, profile);
        assert_eq!(command, used.parse(message, profile), "a parser keeps nothing of the message before");
        let Ok(Command::Post(post)) = command else { continue };
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&format!("{{{}}}", post.body)).expect("a body is the inside of an object");
        for key in object.keys() {
            // Unicode's full case mapping folds more than the parser does, but nothing else into these names but dotless i.
            let folded = key.to_uppercase().to_lowercase();
            assert!(!OWNED.contains(&folded.as_str()) || key.contains('\u{131}'), "{key:?} is ours");
        }
    }
});

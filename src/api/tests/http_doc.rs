//! `docs/http.md` says what the code does: its table of routes and its texts are compared with the
//! code.

use std::collections::BTreeSet;

#[cfg(feature = "legacy")]
use super::rig::{Ask, Client, LOCAL, Rig};

const DOC: &str = include_str!("../../../docs/http.md");
const PUBLIC: [&str; 2] = [include_str!("../mod.rs"), include_str!("../legacy/mod.rs")];
const ADMIN: &str = include_str!("../admin.rs");
/// Where the answers' texts stand.
const TEXTS: [&str; 6] = [
    include_str!("../legacy/mod.rs"),
    include_str!("../legacy/accounts.rs"),
    include_str!("../legacy/friends.rs"),
    include_str!("../legacy/groups.rs"),
    include_str!("../legacy/history.rs"),
    include_str!("../legacy/attach.rs"),
];

/// The paths of the table of routes that are on `port`.
fn documented(port: &str) -> BTreeSet<&'static str> {
    let rows = DOC.lines().filter_map(|line| line.strip_prefix("| `/")?.split_once("` | "));
    rows.filter(|(_, rest)| rest.starts_with(port)).map(|(path, _)| path).collect()
}

#[test]
fn every_refusal_of_v1_is_explained() {
    let calls = include_str!("../v1/refusal.rs").split("refusal(StatusCode::").skip(1);
    let codes: BTreeSet<&str> = calls.filter_map(|call| call.split('"').nth(1)).collect();
    assert!(codes.len() > 20, "they were found: {codes:?}");
    let missing: Vec<_> = codes.into_iter().filter(|code| !DOC.contains(&format!("| `{code}` |"))).collect();
    assert!(missing.is_empty(), "docs/http.md does not explain {missing:?}");
}

/// The paths that a router is built of, without their first slash. `axum` does not tell them, so
/// its calls are read.
fn routed(source: &'static str) -> impl Iterator<Item = &'static str> {
    source.split(".route(\"/").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0))
}

#[test]
fn the_table_has_every_route_and_no_other() {
    let calls = super::v1_description::routed();
    let calls = calls.iter().map(|(path, _)| path.trim_start_matches('/').to_owned());
    let ours: BTreeSet<String> = PUBLIC.into_iter().flat_map(routed).map(str::to_owned).chain(calls).collect();
    assert_eq!(documented("public |").into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), ours);
    assert_eq!(documented("admin |"), routed(ADMIN).collect());
    assert_eq!((documented("public |").len(), documented("admin |").len()), (62, 19), "both were found");
}

#[test]
#[cfg(feature = "legacy")]
fn every_path_of_the_table_answers() {
    let rig = Rig::start();
    let kept = super::files::keep(&rig, b"a file");
    for (port, address) in [("public |", rig.public), ("admin |", rig.admin)] {
        for path in documented(port) {
            let path = path
                .replace("{id}", "1")
                .replace("{user}", "2")
                .replace("{secret}", "x")
                .replace("{name}", &kept)
                .replace("{session}", "s0-0-1");
            let status = Client::connect(address).ask(Ask::get(&format!("/{path}"), &[LOCAL])).status;
            assert_ne!(status, 404, "/{path}");
        }
        assert_eq!(Client::connect(address).ask(Ask::get("/nowhere", &[LOCAL])).status, 404);
    }
}

#[test]
fn every_text_of_an_answer_is_explained() {
    let lines = TEXTS.into_iter().flat_map(str::lines).filter(|line| !line.trim_start().starts_with("//"));
    let texts: BTreeSet<&str> =
        lines.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(|text| !text.is_ascii()).collect();
    assert!(texts.len() > 20, "they were found: {texts:?}");
    let missing: Vec<_> = texts.into_iter().filter(|text| !DOC.contains(&format!("`{text}`"))).collect();
    assert!(missing.is_empty(), "docs/http.md does not explain {missing:?}");
}

//! The OpenAPI document describes every call, and no other.

use std::collections::BTreeSet;

use super::rig::{Ask, Rig};

const ROUTES: &str = include_str!("../v1/mod.rs");
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Path and method of every call in the list of which the router is made.
pub(super) fn routed() -> BTreeSet<(String, String)> {
    let list = ROUTES.split_once("\ncalls! {").expect("the list").1.split_once("\n}").expect("its end").0;
    let mut calls = BTreeSet::new();
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (path, handlers) = line.split_once(": ").expect("a path");
        for handler in handlers.trim_end_matches(';').split(", ") {
            let method = handler.split_once(' ').expect("a method").0;
            calls.insert((path.trim_matches('"').to_owned(), method.to_owned()));
        }
    }
    calls
}

#[test]
fn the_document_has_every_call_and_no_other() {
    let rig = Rig::start();
    let answer = rig.ask(Ask::get("/api/v1/openapi.json", &[]));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    let paths = document["paths"].as_object().expect("paths");
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().expect("an item").keys().map(|method| (path.clone(), method.clone())))
        .collect();
    assert_eq!(described, routed());
    assert_eq!(described.len(), 63);
    // And the router agrees: what is described is there, what is not is refused.
    let mut client = rig.client();
    for (path, _) in &described {
        let target = path.replace("{id}", "1").replace("{user}", "2").replace("{secret}", "x");
        for method in METHODS {
            let status = client.ask(Ask { method: &method.to_uppercase(), ..Ask::get(&target, &[]) }).status;
            let is_described = described.contains(&(path.clone(), method.to_owned()));
            assert_eq!(status != 405, is_described, "{method} {path}: {status}");
            assert_ne!(status, 404, "{method} {path}");
        }
    }
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    let rig = Rig::start();
    let text = rig.ask(Ask::get("/api/v1/openapi.json", &[])).body;
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let references = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next());
    let mut found = 0;
    for pointer in references {
        assert!(document.pointer(pointer).is_some(), "{pointer}");
        found += 1;
    }
    assert!(found > 20);
    let me = &document["components"]["schemas"]["Me"];
    assert!(me.to_string().contains("mobile"), "{me}");
    assert!(!document["components"]["schemas"]["User"].to_string().contains("mobile"), "private");
    assert_eq!(document["paths"]["/api/v1/login"]["post"]["security"], serde_json::json!([{}]), "without a login");
}

//! The files of the web client as they are built in: complete, safe, and served as they should be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::rig::{Ask, Rig};
use crate::api::client::{self, FILES, POLICY};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web")
}

/// The files of the tree by the paths at which they belong.
fn in_the_tree() -> BTreeSet<String> {
    let mut found = BTreeSet::from(["/".to_owned()]);
    for part in ["app", "sdk"] {
        for entry in fs::read_dir(folder().join(part)).expect("a folder") {
            found.insert(format!("/{part}/{}", entry.expect("an entry").file_name().to_str().expect("UTF-8")));
        }
    }
    found
}

fn served() -> BTreeSet<String> {
    FILES.iter().map(|file| file.path.to_owned()).chain(["/".to_owned()]).collect()
}

/// Every text of the client with its path.
fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    let page = ("/", include_str!("../../web/index.html"));
    FILES.iter().map(|file| (file.path, std::str::from_utf8(file.bytes).expect("UTF-8"))).chain([page])
}

/// What makes a script, or markup, of a string; cut in two, so that this list is not a finding of
/// whoever looks for it.
const WAYS_TO_HTML: [(&str, &str); 16] = [
    ("inner", "HTML"),
    ("outer", "HTML"),
    ("insertAdjacent", "HTML"),
    ("setHTML", "Unsafe"),
    ("document.", "write"),
    ("DOM", "Parser"),
    ("createContextual", "Fragment"),
    ("src", "doc"),
    ("eval", "("),
    ("new Func", "tion"),
    ("setTimeout(", "\""),
    ("setAttribute(\"", "on"),
    ("setAttribute(\"", "style"),
    ("javascript", ":\""),
    ("create", "Policy"),
    ("import", "Scripts"),
];

fn ways_to_html(text: &str) -> Vec<String> {
    WAYS_TO_HTML.iter().map(|(head, tail)| format!("{head}{tail}")).filter(|way| text.contains(way)).collect()
}

#[test]
fn every_file_of_the_tree_is_served_and_no_other() {
    assert_eq!(served(), in_the_tree());
}

#[test]
fn no_string_becomes_html() {
    for (path, text) in texts() {
        assert_eq!(ways_to_html(text), Vec::<String>::new(), "{path}");
    }
    assert_eq!(ways_to_html("node.inner\u{48}TML = name;").len(), 1, "the search finds something");
}

#[test]
fn nothing_is_inline_or_from_elsewhere() {
    let (_, page) = texts().find(|(path, _)| *path == "/").expect("the page");
    for tag in page.split('<').filter(|tag| tag.starts_with("script") || tag.starts_with("link")) {
        let (_, rest) = tag.split_once("src=\"").or_else(|| tag.split_once("href=\"")).expect("an address");
        let (address, _) = rest.split_once('"').expect("its end");
        assert!(served().contains(address), "{address}");
    }
    assert!(!page.contains("style=") && !page.contains("<style") && !page.contains(" on"), "inline");
    for (path, text) in texts().filter(|(path, _)| path.ends_with(".css")) {
        assert!(!text.contains("url(") && !text.contains("@import"), "{path} loads something");
    }
}

#[test]
fn every_import_leads_to_a_file() {
    let mut imports = 0;
    for (path, text) in texts().filter(|(path, _)| path.ends_with(".js")) {
        for line in text.lines().filter(|line| line.starts_with("import ")) {
            let (_, rest) = line.rsplit_once(" \"").expect("a module in quotes");
            let module = rest.trim_end_matches("\";");
            let target = match module.strip_prefix("../") {
                Some(rest) => format!("/{rest}"),
                None => format!("/app/{}", module.strip_prefix("./").expect("a relative path")),
            };
            assert!(served().contains(&target), "{path} imports {module}");
            imports += 1;
        }
    }
    assert!(imports > 20, "{imports} imports were found");
}

#[test]
fn files_are_served_with_their_type_and_the_policy() {
    let rig = Rig::start();
    for path in served() {
        let answer = rig.ask(Ask::get(&path, &[]));
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-security-policy"), Some(POLICY), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        let media_type = answer.header("content-type").expect("a type").to_owned();
        let wanted = match path.rsplit_once('.').map_or("html", |(_, extension)| extension) {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "ts" => "application/typescript; charset=utf-8",
            "webmanifest" => "application/manifest+json",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(media_type, wanted, "{path}");
        let tag = answer.header("etag").expect("a tag").to_owned();
        for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let again = rig.ask(Ask::get(&path, &[("If-None-Match", &known)]));
            assert_eq!((again.status, again.body.as_str()), (304, ""), "{path} {known}");
        }
        assert_eq!(rig.ask(Ask::get(&path, &[("If-None-Match", "\"other\"")])).status, 200);
    }
}

#[test]
fn the_page_loads_every_module_at_once_from_the_folder_of_its_version() {
    let rig = Rig::start();
    let page = rig.ask(Ask::get("/", &[])).body;
    let folder = client::folder();
    let named = |attribute: &str| -> BTreeSet<String> {
        let parts = page.split(attribute).skip(1);
        parts.filter_map(|part| Some(part.split_once('"')?.0.to_owned())).collect()
    };
    let preloaded = named("rel=\"modulepreload\" href=\"");
    let modules = FILES.iter().map(|file| file.path).filter(|path| path.ends_with(".js") && *path != "/app/main.js");
    assert_eq!(preloaded, modules.map(|path| format!("{folder}{path}")).collect());
    let (scripts, all) = (named("src=\""), named("href=\""));
    assert_eq!(scripts, BTreeSet::from([format!("{folder}/app/main.js")]));
    for address in all.union(&scripts) {
        let answer = rig.ask(Ask::get(address, &[]));
        assert_eq!(answer.status, 200, "{address}");
        let forever = address.starts_with(&folder).then_some("public, max-age=31536000, immutable");
        assert_eq!(answer.header("cache-control"), Some(forever.unwrap_or("no-cache")), "{address}");
    }
    assert_eq!(rig.ask(Ask::get("/", &[])).header("cache-control"), Some("no-cache"));
}

#[test]
fn another_version_of_a_file_is_served_and_not_kept() {
    let rig = Rig::start();
    let other = rig.ask(Ask::get("/assets/0123456789abcdef/app/main.js", &[]));
    assert_eq!((other.status, other.header("cache-control")), (200, Some("no-cache")));
    assert_eq!(rig.ask(Ask::get("/assets/0123456789abcdef/app/none.js", &[])).status, 404);
}

#[test]
fn every_page_may_load_the_sdk_and_no_other_may_load_the_client() {
    let rig = Rig::start();
    let folder = client::folder();
    for path in ["/sdk/imgate.js", "/sdk/imgate.d.ts", &format!("{folder}/sdk/imgate.js")] {
        let answer = rig.ask(Ask::get(path, &[("Origin", "https://app.example")]));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("cross-origin"), "{path}");
    }
    let client = rig.ask(Ask::get("/app/main.js", &[("Origin", "https://app.example")]));
    assert_eq!(client.header("access-control-allow-origin"), None);
    assert_eq!(client.header("cross-origin-resource-policy"), Some("same-origin"));
}

//! The architecture as a test: who may import whom, the words that a layer may not say, the shape of files, what docs may name,
//! and what the tree may depend on.
//!
//! Every checker is a function from a source to a list of complaints, and is itself tested on planted violations beside it, so
//! that it can fail. The tests here run all of them over the tree.

#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/inner.rs"]
mod inner;
#[path = "tidy/language.rs"]
mod language;
#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/parts.rs"]
mod parts;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use source::{Source, Text, Tree};

/// Fails with every complaint at once: one run shows all there is to do.
fn no_complaints(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn over_rust(check: fn(&Source) -> Vec<String>) {
    let tree = Tree::read();
    assert!(tree.rust.len() > 20, "only {} Rust files were found", tree.rust.len());
    no_complaints(&tree.rust.iter().flat_map(check).collect::<Vec<String>>());
}

#[test]
fn rooms_import_only_what_is_below_them() {
    over_rust(imports::check);
}

#[test]
fn parts_of_the_shard_call_only_what_stands_above_them() {
    over_rust(parts::check);
}

#[test]
fn every_part_of_the_shard_stands_in_the_table() {
    no_complaints(&parts::unknown(&Tree::read().rust));
}

#[test]
fn parts_of_a_room_import_only_what_is_below_them() {
    over_rust(inner::check);
}

#[test]
fn every_exception_to_the_import_table_is_needed() {
    no_complaints(&imports::unused_exceptions(&Tree::read().rust));
}

#[test]
fn every_room_in_the_rows_of_the_other_crates_is_needed() {
    no_complaints(&imports::unused_rooms(&Tree::read().rust));
}

#[test]
fn every_room_has_a_layer() {
    no_complaints(&imports::unknown_rooms(&Tree::read().rust));
}

#[test]
fn rooms_do_not_say_what_is_not_their_business() {
    over_rust(words::check);
}

#[test]
fn comments_are_plain_and_narrow() {
    over_rust(language::check);
}

#[test]
fn files_open_with_their_purpose() {
    over_rust(shape::opens_with_doc);
}

#[test]
fn files_have_names_of_nouns() {
    over_rust(shape::name);
}

#[test]
fn a_type_that_a_whole_crate_sees_has_a_name_of_its_own() {
    no_complaints(&names::twice(&Tree::read().rust));
}

#[test]
fn a_type_that_a_part_of_a_room_sees_has_a_name_of_its_own_there() {
    no_complaints(&names::twice_in_a_room(&Tree::read().rust));
}

#[test]
fn every_exception_to_the_names_is_needed() {
    no_complaints(&names::unused_exceptions(&Tree::read().rust));
}

#[test]
fn files_are_short() {
    over_rust(shape::file_length);
}

#[test]
fn functions_are_short() {
    over_rust(shape::function_lengths);
}

#[test]
fn every_exception_to_the_lengths_is_needed() {
    no_complaints(&shape::unused_exceptions(&Tree::read().rust));
}

#[test]
fn every_limit_has_its_reason() {
    let tree = Tree::read();
    let limits: Vec<&Source> = tree.rust.iter().filter(|source| shape::has_limits(source)).collect();
    assert!(limits.len() >= 4, "src/limits.rs, what stands below it, and the bounds of pictures");
    no_complaints(&limits.into_iter().flat_map(shape::limits).collect::<Vec<String>>());
}

#[test]
fn docs_name_things_and_not_lines() {
    let tree = Tree::read();
    assert!(tree.texts.iter().any(|text| text.path == "README.md"), "README.md was not found");
    let pages = tree.texts.iter().filter(|text| text.path.ends_with(".md"));
    no_complaints(&pages.flat_map(docs::line_numbers).collect::<Vec<String>>());
}

#[test]
fn docs_link_to_what_exists() {
    let tree = Tree::read();
    let pages = tree.texts.iter().filter(|text| text.path.ends_with(".md"));
    no_complaints(&pages.flat_map(|page| docs::dead_links(page, |path| tree.exists(path))).collect::<Vec<String>>());
}

#[test]
fn docs_of_the_code_link_to_what_is_there() {
    over_rust(docs::broken_links);
}

#[test]
fn nothing_names_a_path_of_one_machine() {
    let tree = Tree::read();
    let rust = tree.rust.iter().flat_map(|source| docs::machine_paths(&source.path, &source.text));
    let other = tree.texts.iter().flat_map(|text| docs::machine_paths(&text.path, &text.text));
    no_complaints(&rust.chain(other).collect::<Vec<String>>());
}

fn map(tree: &'static Tree) -> &'static Text {
    tree.texts.iter().find(|text| text.path == "docs/architecture.md").expect("the map is there")
}

#[test]
fn the_map_names_what_is_in_the_code() {
    let tree = Tree::read();
    no_complaints(&docs::unknown_names(map(tree), &tree.rust));
}

#[test]
fn the_map_can_be_read_in_one_sitting() {
    let map = map(Tree::read());
    let lines = map.text.lines().count();
    assert!(lines < 400, "docs/architecture.md has {lines} lines");
}

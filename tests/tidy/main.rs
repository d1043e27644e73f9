//! What the compiler cannot check about the house: who imports whom, words, shapes, files that must agree.
//!
//! What is here: one test per rule; each names file and line of what it found. The rules themselves are pure
//! functions in the modules beside, each with a test that shows it can fail.
//! Deliberately not here: anything rustc, clippy or rustfmt already says.

mod arrows;
mod rules;
mod rust;
mod text;
mod tree;

use std::fs;
use std::path::Path;

use tree::{Finding, Tree};

#[test]
fn imports_point_down_only() {
    none(arrows::violations(&Tree::of_the_repository()));
}

#[test]
fn invariant_2_no_code_asks_what_a_process_is() {
    none(each(tree::is_product_rust, rust::forbidden_identifiers));
}

#[test]
fn every_rust_file_begins_with_a_module_doc() {
    none(each(tree::is_rust, rust::missing_module_doc));
}

#[test]
fn no_file_outgrows_five_hundred_lines_before_its_tests() {
    none(each(tree::is_rust, rust::too_long));
}

#[test]
fn no_test_is_ignored() {
    none(each(tree::is_rust, rust::ignored_tests));
}

#[test]
fn no_test_sleeps_on_a_real_clock() {
    none(each(tree::is_rust, rust::sleeping_tests));
}

#[test]
fn nothing_is_left_for_later() {
    none(each(tree::is_text, text::left_for_later));
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    none(each(tree::is_text, text::names_a_machine));
}

#[test]
fn every_relative_link_in_a_document_leads_to_a_file() {
    let tree = Tree::of_the_repository();
    none(text::dead_links(&tree));
}

#[test]
fn every_file_and_test_that_the_architecture_names_exists() {
    let tree = Tree::of_the_repository();
    none(text::missing_from_the_map(&tree));
}

#[test]
fn the_readme_and_ci_run_the_same_tests() {
    let tree = Tree::of_the_repository();
    none(text::ci_runs_other_tests(&tree));
}

#[test]
fn no_lock_file_names_a_registry_host() {
    none(each(tree::is_npm_lock, text::registry_hosts));
}

#[test]
fn every_suite_is_built_and_run() {
    none(each(tree::is_manifest_of_tests, text::suites_left_out));
}

#[test]
fn every_rule_of_streaming_is_proven_or_remarked_on() {
    none(rules::findings(&Tree::of_the_repository()));
}

#[test]
fn the_table_of_rules_says_what_the_tests_say() {
    let tree = Tree::of_the_repository();
    let right = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rules.md");
    fs::write(&right, rules::page(&tree)).expect("the target directory can be written");
    assert!(
        rules::is_current(&tree),
        "docs/rules.md is out of date: replace it by target/tmp/rules.md"
    );
}

/// Applies one rule to every file it is about.
fn each(
    is_about: impl Fn(&str) -> bool,
    rule: impl Fn(&tree::Source) -> Vec<Finding>,
) -> Vec<Finding> {
    let tree = Tree::of_the_repository();
    let about: Vec<_> = tree.sources.iter().filter(|s| is_about(&s.path)).collect();
    about.iter().flat_map(|source| rule(source)).collect()
}

/// Fails with one line per finding, as `path:line: what is wrong`.
fn none(findings: Vec<Finding>) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} found:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

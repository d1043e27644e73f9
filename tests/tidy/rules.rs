//! The table of streaming rules: which tests prove each, and what is said of the others.
//!
//! Made from `rules.txt` and the names of tests, so that `docs/rules.md` cannot claim what no test shows.
//! Tests of `lab` do not count: they are about the origin and the players that stand outside.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::tree::{Finding, Source, Tree};

const LIST: &str = "tests/tidy/rules.txt";
const PAGE: &str = "docs/rules.md";

/// One rule of the list.
struct Rule<'a> {
    id: &'a str,
    says: &'a str,
    remark: &'a str,
    line: usize,
}

/// Returns what the page should be.
pub(crate) fn page(tree: &Tree) -> String {
    let tests = tests_by_rule(tree);
    let list = source(tree, LIST);
    let rules: Vec<Rule<'_>> = list.iter().flat_map(|list| rules(list)).collect();
    let proven = |rule: &&Rule<'_>| rule.remark.is_empty() || rule.remark.starts_with('=');
    let remarked = |start: &str| rules.iter().filter(|r| r.remark.starts_with(start)).count();
    let mut text = String::from(HEAD);
    writeln!(
        text,
        "{} rules: {} proven by tests, {} in part, {} shown otherwise, {} fall to others, {} open.\n",
        rules.len(),
        rules.iter().filter(proven).count(),
        remarked("part:"),
        remarked("shown:"),
        remarked("peer:"),
        remarked("open:"),
    )
    .expect("writing to a string");
    text.push_str("| rule | what is to be | how it is known |\n|---|---|---|\n");
    for rule in &rules {
        let known = match (tests.get(rule.id), rule.remark.strip_prefix("= ")) {
            (Some(names), _) if rule.remark.is_empty() => names.join("<br>"),
            (Some(names), _) => format!("{}<br>{}", rule.remark, names.join("<br>")),
            (None, Some(other)) => format!("by the tests of {other}"),
            (None, None) => rule.remark.to_owned(),
        };
        writeln!(text, "| {} | {} | {known} |", rule.id, rule.says).expect("writing to a string");
    }
    text
}

/// Returns what is wrong with the list: rules of which nothing is said, and remarks that tests contradict.
pub(crate) fn findings(tree: &Tree) -> Vec<Finding> {
    let Some(list) = source(tree, LIST) else {
        return Vec::new();
    };
    let tests = tests_by_rule(tree);
    let rules: Vec<Rule<'_>> = rules(list).collect();
    let mut found = Vec::new();
    for rule in &rules {
        let is_tested = tests.contains_key(rule.id);
        let other = rule.remark.strip_prefix("= ");
        let message = match (is_tested, rule.remark, other) {
            (true, "", _) => continue,
            (true, remark, _) if remark.starts_with("part:") => continue,
            (true, _, _) => "a test names the rule: take the remark away",
            (false, "", _) => "no test names the rule: say why",
            (false, _, Some(other)) if !tests.contains_key(other) => "no test names the other rule",
            (false, _, _) => continue,
        };
        found.push(list.finding(rule.line, format!("{}: {message}", rule.id)));
    }
    for id in tests.keys() {
        if !rules.iter().any(|rule| rule.id == id) {
            found.push(list.finding(1, format!("{id}: tests name a rule that is not listed")));
        }
    }
    found
}

/// Returns whether the page is what it should be.
pub(crate) fn is_current(tree: &Tree) -> bool {
    source(tree, PAGE).is_some_and(|page_now| page_now.text == page(tree))
}

fn source<'a>(tree: &'a Tree, path: &str) -> Option<&'a Source> {
    tree.sources.iter().find(|source| source.path == path)
}

fn rules(list: &Source) -> impl Iterator<Item = Rule<'_>> {
    list.numbered_lines()
        .filter(|(_, text)| !text.starts_with('#') && !text.is_empty())
        .filter_map(|(line, text)| {
            let mut fields = text.splitn(3, '|').map(str::trim);
            Some(Rule {
                id: fields.next()?,
                says: fields.next()?,
                remark: fields.next()?,
                line,
            })
        })
}

/// Returns the names of tests by the rules they carry.
fn tests_by_rule(tree: &Tree) -> BTreeMap<String, Vec<String>> {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let is_ours = |source: &&Source| {
        source.path.ends_with(".rs")
            && !["lab/", "bench/"]
                .iter()
                .any(|d| source.path.starts_with(d))
    };
    for source in tree.sources.iter().filter(is_ours) {
        for (_, line) in source.numbered_lines() {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            let Some(name) = line.strip_prefix("fn ").and_then(|l| l.split('(').next()) else {
                continue;
            };
            for id in ids(name) {
                let names = tests.entry(id).or_default();
                let name = format!("`{name}`");
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    tests
}

/// Returns the rules at the beginning of a test's name: `ca_06_fm_18_the_first` carries two.
fn ids(name: &str) -> Vec<String> {
    let words: Vec<&str> = name.split('_').collect();
    words
        .chunks(2)
        .map_while(|pair| match pair {
            [family, number]
                if FAMILIES.contains(family)
                    && number.len() == 2
                    && number.bytes().all(|b| b.is_ascii_digit()) =>
            {
                Some(format!("{}-{number}", family.to_uppercase()))
            }
            _ => None,
        })
        .collect()
}

const FAMILIES: [&str; 9] = ["ll", "lb", "lt", "ca", "fm", "pl", "ld", "hx", "st"];

const HEAD: &str = "# Rules of live streaming\n\n\
    What RFC 8216bis, DASH, CTA and the HTTP RFCs ask of a cache, what goes wrong in the field, and how it\n\
    is known that a node does right. Made from `tests/tidy/rules.txt` and the names of tests by\n\
    `cargo test -p seawall-tests --test tidy`, which fails when this page says anything else and leaves the\n\
    right one in `target/tmp/rules.md`. What HTTP caching itself asks is measured by `tests/conformance`.\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_carries_the_rules_it_begins_with() {
        assert_eq!(ids("ca_06_fm_18_the_first_viewer"), ["CA-06", "FM-18"]);
        assert_eq!(ids("ll_05_to_ll_08_refusals"), ["LL-05"]);
        assert_eq!(ids("a_part_that_breaks"), [""; 0]);
        assert_eq!(ids("is_06_nothing"), [""; 0]);
    }
}

//! Rules about any text people write: code, documents, scripts, lock files.

use crate::tree::{Finding, Source, Tree};

/// Finds marks that say the work is not done. What is left out is left out wholly.
pub(crate) fn left_for_later(source: &Source) -> Vec<Finding> {
    // Written in halves, or this file would find itself.
    const MARKS: &[&str] = &[
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
    ];
    const MACROS: &[&str] = &[concat!("to", "do!("), concat!("unimple", "mented!(")];
    let mut found = Vec::new();
    for (number, line) in source.numbered_lines() {
        let mut words = line.split(|c: char| !c.is_alphanumeric());
        let marked = words.any(|word| MARKS.contains(&word));
        if marked || MACROS.iter().any(|name| line.contains(name)) {
            found.push(source.finding(number, "finish it or leave it out wholly"));
        }
    }
    found
}

/// Finds absolute paths of a developer's machine.
pub(crate) fn names_a_machine(source: &Source) -> Vec<Finding> {
    const PLACES: &[&str] = &[
        concat!("/wo", "rk/"),
        concat!("/tmp", "/wt"),
        concat!("/ro", "ot/"),
    ];
    source
        .numbered_lines()
        .filter(|(_, line)| PLACES.iter().any(|place| line.contains(place)))
        .map(|(number, _)| source.finding(number, "name no path that exists on one machine only"))
        .collect()
}

/// Finds packages in an npm lock that say which registry they came from.
pub(crate) fn registry_hosts(source: &Source) -> Vec<Finding> {
    source
        .numbered_lines()
        .filter(|(_, line)| line.contains("\"resolved\": \"http"))
        .map(|(number, _)| source.finding(number, "install with omit-lockfile-registry-resolved"))
        .collect()
}

/// Finds links in documents whose target does not exist.
pub(crate) fn dead_links(tree: &Tree) -> Vec<Finding> {
    let documents = tree.sources.iter().filter(|s| s.path.ends_with(".md"));
    documents
        .flat_map(|document| {
            let folder = tree
                .root
                .join(&document.path)
                .parent()
                .map(ToOwned::to_owned)
                .unwrap_or_default();
            relative_links(document)
                .into_iter()
                .filter(move |(_, target)| !folder.join(target).exists())
                .map(|(line, target)| document.finding(line, format!("no such file: {target}")))
        })
        .collect()
}

/// Returns the targets of Markdown links that are paths, without their anchors.
fn relative_links(document: &Source) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in document.numbered_lines() {
        for after in line.split("](").skip(1) {
            let target = after.split([')', ' ', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                links.push((number, target.to_owned()));
            }
        }
    }
    links
}

/// Finds files and tests that ARCHITECTURE.md names and that do not exist.
pub(crate) fn missing_from_the_map(tree: &Tree) -> Vec<Finding> {
    let Some(map) = tree.sources.iter().find(|s| s.path == "ARCHITECTURE.md") else {
        return vec![];
    };
    let names_a_test = |name: &str| name.len() > 25 && name.contains('_') && is_identifier(name);
    let exists = |name: &str| {
        let begin = format!("fn {name}(");
        tree.sources.iter().any(|s| s.text.contains(&begin))
    };
    let mut found = Vec::new();
    for (line, code) in code_spans(map) {
        let name = code.strip_prefix("tidy: ").unwrap_or(code);
        if name.contains('/') && is_path(name) && !tree.root.join(name).exists() {
            found.push(map.finding(line, format!("no such file: {name}")));
        }
        if names_a_test(name) && !exists(name) {
            found.push(map.finding(line, format!("no such test: {name}")));
        }
    }
    found
}

/// Finds a README and a CI that do not run the same tests.
pub(crate) fn ci_runs_other_tests(tree: &Tree) -> Vec<Finding> {
    const COMMAND: &str = "cargo test --workspace --locked";
    let both = ["README.md", ".ci/run"];
    let about = tree.sources.iter().filter(|s| both.contains(&&*s.path));
    about
        .filter(|source| !source.text.contains(COMMAND))
        .map(|source| source.finding(1, format!("must name `{COMMAND}`")))
        .collect()
}

/// Returns what stands between single backquotes, with its line.
fn code_spans(document: &Source) -> impl Iterator<Item = (usize, &str)> {
    let lines = document.numbered_lines();
    lines.flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |c| (number, c)))
}

fn is_identifier(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Tells paths from other code with a slash in it.
fn is_path(name: &str) -> bool {
    name.chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
}

/// A suite that is not a target is not run, and nothing else says so.
pub(crate) fn suites_left_out(manifest: &Source) -> Vec<Finding> {
    let is_missing = |suite: &&str| {
        !manifest
            .text
            .contains(&format!("path = \"{suite}/main.rs\""))
    };
    SUITES
        .iter()
        .copied()
        .filter(is_missing)
        .map(|suite| Finding {
            path: manifest.path.clone(),
            line: 1,
            message: format!("tests/{suite} is not a [[test]] target: it would never run"),
        })
        .collect()
}

/// The folders of `tests/` that hold suites of `cargo test`.
const SUITES: [&str; 3] = ["golden", "scenarios", "tidy"];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Source {
        Source {
            path: "docs/x.md".into(),
            text: text.into(),
        }
    }

    #[test]
    fn a_mark_for_later_is_found_as_a_word_only() {
        let mark = concat!("// TO", "DO: limits");
        assert_eq!(left_for_later(&text(mark)).len(), 1);
        assert_eq!(left_for_later(&text("mktemp -d /tmp/x.XXXXXX")).len(), 0);
    }

    #[test]
    fn a_machine_path_is_found() {
        assert_eq!(
            names_a_machine(&text(concat!("see /ro", "ot/notes"))).len(),
            1
        );
    }

    #[test]
    fn only_relative_links_are_followed() {
        let links = relative_links(&text(
            "[a](b.md#part) [c](https://x.example/) [d](#here) [e](f/g.md)",
        ));
        let targets: Vec<&str> = links.iter().map(|(_, target)| target.as_str()).collect();
        assert_eq!(targets, ["b.md", "f/g.md"]);
    }

    #[test]
    fn what_the_map_names_and_nothing_has_is_found() {
        let map = Source {
            path: "ARCHITECTURE.md".into(),
            text: "`src/lost.rs` `a_test_that_nobody_ever_wrote_down`\n".into(),
        };
        let tree = Tree {
            root: "no/such/folder".into(),
            sources: vec![map],
        };
        let found = missing_from_the_map(&tree);
        let messages: Vec<&str> = found.iter().map(|f| f.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "no such file: src/lost.rs",
                "no such test: a_test_that_nobody_ever_wrote_down"
            ]
        );
    }

    #[test]
    fn a_ci_that_runs_other_tests_is_found() {
        let ci = Source {
            path: ".ci/run".into(),
            text: "cargo test -p cache".into(),
        };
        let tree = Tree {
            root: "no/such/folder".into(),
            sources: vec![ci],
        };
        assert_eq!(ci_runs_other_tests(&tree).len(), 1);
    }

    #[test]
    fn a_lock_with_hosts_is_found() {
        assert_eq!(
            registry_hosts(&text("  \"resolved\": \"https://r.example/a.tgz\",")).len(),
            1
        );
    }

    #[test]
    fn a_suite_that_is_no_target_is_found() {
        let text = "[[test]]\nname = \"golden\"\npath = \"golden/main.rs\"\n";
        let manifest = Source {
            path: "tests/Cargo.toml".to_owned(),
            text: text.to_owned(),
        };
        let found: Vec<_> = suites_left_out(&manifest)
            .into_iter()
            .map(|f| f.message)
            .collect();
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("tests/scenarios is not a [[test]] target"));
    }
}

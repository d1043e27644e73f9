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
    fn a_lock_with_hosts_is_found() {
        assert_eq!(
            registry_hosts(&text("  \"resolved\": \"https://r.example/a.tgz\",")).len(),
            1
        );
    }
}

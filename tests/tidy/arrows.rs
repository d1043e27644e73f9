//! The crate arrows: which member of the workspace may import which.

use std::collections::BTreeSet;

use toml::Table;

use crate::tree::{Finding, Source, Tree};

/// Each crate and what it may import of ours. A crate that is not here is a decision nobody took yet.
///
/// ```text
///          cli
///     /   /   \   \
///  edge shield purge-api lab     cache and media do not know each other;
///     \   |   /                  they meet in node/src/route.rs.
///       node                    purge-log is what the purge API and the nodes share.
///      /  |   \
///  cache media purge-log
/// ```
const ARROWS: &[(&str, &[&str])] = &[
    ("cache", &[]),
    ("media", &[]),
    ("purge-log", &[]),
    ("node", &["cache", "media", "purge-log"]),
    ("edge", &["node"]),
    ("shield", &["node"]),
    // A purge API must run where no node does. Its model test holds the fence of `cache` against the log.
    ("purge-api", &["purge-log", "cache"]),
    // The lab plays what is outside of us, so it must not share our machinery: text arithmetic only.
    ("lab", &["media"]),
    ("bench", &["node", "cache", "media"]),
    (
        "cli",
        &[
            "node",
            "edge",
            "shield",
            "purge-log",
            "purge-api",
            "lab",
            "cache",
            "media",
        ],
    ),
    (
        "seawall-tests",
        &[
            "cache",
            "media",
            "node",
            "edge",
            "shield",
            "purge-log",
            "purge-api",
            "lab",
            "cli",
        ],
    ),
    ("seawall-fuzz", &["cache", "media"]),
];

/// Finds every arrow that the picture above does not have.
pub(crate) fn violations(tree: &Tree) -> Vec<Finding> {
    let manifests = tree
        .sources
        .iter()
        .filter(|s| s.path.ends_with("/Cargo.toml"));
    manifests.flat_map(judge_manifest).collect()
}

fn judge_manifest(source: &Source) -> Vec<Finding> {
    let manifest: Table = match source.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![source.finding(1, error.to_string())],
    };
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(|name| name.as_str())
        .unwrap_or_default();
    let Some((_, allowed)) = ARROWS.iter().find(|(of, _)| *of == name) else {
        return vec![source.finding(1, format!("`{name}` has no place in tests/tidy/arrows.rs"))];
    };
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(of, _)| *of).collect();
    let mut imported = Vec::new();
    collect_dependencies(&manifest, &mut imported);
    imported
        .iter()
        .filter(|to| ours.contains(to.as_str()) && !allowed.contains(&to.as_str()))
        .map(|to| {
            source.finding(
                line_of(source, to),
                format!("`{name}` must not import `{to}`"),
            )
        })
        .collect()
}

/// Collects the package names of every kind of dependency, also those per target.
fn collect_dependencies(table: &Table, imported: &mut Vec<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else {
            continue;
        };
        match key.as_str() {
            "dependencies" | "dev-dependencies" | "build-dependencies" => {
                imported.extend(inner.iter().map(|(name, spec)| package_name(name, spec)));
            }
            "target" => {
                for target in inner.values().filter_map(|target| target.as_table()) {
                    collect_dependencies(target, imported);
                }
            }
            _ => {}
        }
    }
}

/// Returns what a dependency is really called, whatever it was renamed to.
fn package_name(name: &str, spec: &toml::Value) -> String {
    let renamed = spec.get("package").and_then(|package| package.as_str());
    renamed.unwrap_or(name).to_owned()
}

fn line_of(source: &Source, dependency: &str) -> usize {
    source
        .numbered_lines()
        .find(|(_, line)| line.starts_with(dependency))
        .map_or(1, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Source {
        Source {
            path: "cache/Cargo.toml".into(),
            text: text.into(),
        }
    }

    #[test]
    fn an_upward_arrow_is_found_with_its_line() {
        let source =
            manifest("[package]\nname = \"cache\"\n[dependencies]\nmedia.workspace = true\n");
        let found = judge_manifest(&source);
        assert_eq!(
            found,
            vec![source.finding(4, "`cache` must not import `media`")]
        );
    }

    #[test]
    fn a_renamed_or_target_specific_dependency_does_not_hide_the_arrow() {
        let source = manifest(
            "[package]\nname = \"media\"\n[target.'cfg(unix)'.dev-dependencies]\nother = { path = \"x\", package = \"cache\" }\n",
        );
        assert_eq!(judge_manifest(&source).len(), 1);
    }

    #[test]
    fn a_crate_without_a_place_in_the_picture_is_found() {
        assert_eq!(
            judge_manifest(&manifest("[package]\nname = \"helpers\"\n")).len(),
            1
        );
    }

    #[test]
    fn an_arrow_that_points_down_is_fine() {
        let source =
            manifest("[package]\nname = \"edge\"\n[dependencies]\nnode.workspace = true\n");
        assert_eq!(judge_manifest(&source), vec![]);
    }
}

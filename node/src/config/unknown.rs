//! Keys that nobody asked for, and which key their writer may have meant.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::problem::Problem;
use super::section::dotted;

/// A key that nobody asked for.
#[derive(Debug)]
pub(super) struct Unknown {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) span: Range<usize>,
}

impl Unknown {
    pub(super) fn problem(
        self,
        known: &BTreeSet<String>,
        tables: &BTreeMap<String, String>,
    ) -> Problem {
        let shown = dotted(&self.section, &self.key);
        let here = |path: &&String| parent_of(path) == self.section;
        let nearest = known
            .iter()
            .filter(here)
            .map(|path| last_of(path))
            .map(|name| (distance(name, &self.key), name))
            .min()
            .filter(|(distance, name)| *distance <= name.len().max(3) / 3);
        let elsewhere = known.iter().find(|path| last_of(path) == self.key);
        let allowed = match (nearest, elsewhere) {
            (Some((_, name)), _) => format!("did you mean `{name}`?"),
            (None, Some(_)) if tables.contains_key(&self.key) => {
                format!("{} is a table of its own", tables[&self.key])
            }
            (None, Some(path)) if parent_of(path).is_empty() => {
                "it belongs at the top of the file, before the first [table]".to_owned()
            }
            (None, Some(path)) => {
                let parent = parent_of(path);
                let written = tables.get(last_of(parent)).cloned();
                format!(
                    "it belongs in {}",
                    written.unwrap_or_else(|| format!("[{parent}]"))
                )
            }
            (None, None) => {
                let names: Vec<&str> = known.iter().filter(here).map(|p| last_of(p)).collect();
                format!("known here: {}", names.join(", "))
            }
        };
        Problem {
            title: format!("unknown key `{}`", shown.escape_default()),
            span: Some(self.span),
            allowed,
            elsewhere: None,
            help: None,
            is_secret: false,
        }
    }
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

fn last_of(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

/// Levenshtein's distance: the fewest insertions, removals and replacements from one to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().take(KEY_CHARS_COMPARED).collect();
    let mut previous: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut current = vec![i + 1];
        for (j, &b) in to.iter().enumerate() {
            let replaced = previous[j] + usize::from(a != b);
            current.push(replaced.min(previous[j + 1] + 1).min(current[j] + 1));
        }
        previous = current;
    }
    previous[to.len()]
}

/// No key of ours is longer.
const KEY_CHARS_COMPARED: usize = 64;

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distance_counts_edits() {
        for (from, to, edits) in [
            ("memory", "memory", 0),
            ("memory", "memroy", 2),
            ("", "abc", 3),
            ("https", "http", 1),
        ] {
            assert_eq!(distance(from, to), edits, "{from} {to}");
        }
    }
}

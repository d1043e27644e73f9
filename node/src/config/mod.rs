//! From a configuration file to checked values.
//!
//! ```text
//! TOML text ──► Section (spans kept) ──► values, each with its own check ──► Common + what a tier adds
//!                     └──────────────► problems, all of them, each with line, key and what is allowed
//! ```
//!
//! What is here: the reader, the value types, and the building blocks that every kind of node shares.
//! Who calls it: `edge` and `shield`, each of which adds its own parents and nothing of the other's.
//! Deliberately not here: what a node does with the values, and any key that only one of them has.

mod common;
mod effective;
mod parent;
mod problem;
mod purge;
mod rules;
mod section;
mod unknown;
mod values;

pub use common::Common;
pub use effective::{Effective, quoted, quoted_list};
pub use parent::{Parent, read_headers, read_parents};
pub use problem::{ConfigError, Problems, Styling, Wrong};
pub use purge::Purge;
pub use section::{Item, Section};
pub use values::{
    ByteSize, byte_size, count, duration, duration_text, file, flag, host, name, network,
    parameter_name, percent, url,
};

use std::fs;
use std::path::{Path, PathBuf};

use problem::Problem;
use section::Reader;

/// Where a configuration text comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// How the file is called in errors.
    pub name: String,
    /// What relative paths in it are relative to.
    pub directory: PathBuf,
    /// Whether the files it names are looked for.
    pub files: Files,
}

/// Whether the files that a configuration names are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// A missing file is an error.
    MustExist,
    /// The configuration is for another machine: only its text is checked.
    NotChecked,
}

impl Source {
    /// Returns the source for a file that is read here.
    pub fn file(path: &Path, files: Files) -> Self {
        Self {
            name: path.display().to_string(),
            directory: path.parent().unwrap_or(Path::new("")).to_owned(),
            files,
        }
    }
}

/// Reads the file at `path` with `read`.
///
/// # Errors
///
/// A file that cannot be read or is larger than [`TEXT_BYTES_MAX`]; otherwise as [`parse`].
pub fn load<T>(
    path: &Path,
    files: Files,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<T, ConfigError> {
    let name = path.display().to_string();
    let unreadable = |source| ConfigError::Unreadable {
        name: name.clone(),
        source,
    };
    if fs::metadata(path).map_err(unreadable)?.len() > TEXT_BYTES_MAX {
        return Err(ConfigError::TooLarge { name });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    parse(&text, &Source::file(path, files), read)
}

/// Reads `text` with `read`, which returns a stand-in for every value it cannot have.
///
/// # Errors
///
/// Every problem of the text at once: syntax, unknown keys, values that are wrong or missing.
pub fn parse<T>(
    text: &str,
    source: &Source,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<T, ConfigError> {
    let (table, syntax) = toml::de::DeTable::parse_recoverable(text);
    let reader = Reader::new(source);
    if syntax.is_empty() {
        let mut root = Section::root(&reader, table.get_ref());
        let value = read(&mut root);
        drop(root);
        let problems = reader.into_problems();
        if problems.is_empty() {
            return Ok(value);
        }
        return Err(ConfigError::new(source, text, problems));
    }
    let problems = syntax.iter().map(Problem::of_syntax).collect();
    Err(ConfigError::new(source, text, problems))
}

/// Returns the paths of all keys that `read` asks for in `text`, e.g. `listen.https`.
///
/// For the test that compares them with the documentation.
pub fn known_keys<T>(text: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Vec<String> {
    let (table, _) = toml::de::DeTable::parse_recoverable(text);
    let source = Source {
        name: String::new(),
        directory: PathBuf::new(),
        files: Files::NotChecked,
    };
    let reader = Reader::new(&source);
    let mut root = Section::root(&reader, table.get_ref());
    read(&mut root);
    drop(root);
    reader.known()
}

/// Returns those of `keys` that `page`, the documentation, does not have.
///
/// What `[cache]` and `[[rule]]` have in common is documented once, as the rule's; what all kinds of media
/// have in common once, as `KIND`'s.
pub fn undocumented(page: &str, keys: Vec<String>) -> Vec<String> {
    let shown = |key: &str| {
        let key = key.replacen("cache.", "rule.", 1);
        let kinds = crate::rules::Group::ALL.map(|group| format!("rule.{}", group.name()));
        let of_kind = kinds
            .iter()
            .find_map(|kind| key.strip_prefix(kind.as_str()));
        of_kind.map_or(key.clone(), |rest| format!("rule.KIND{rest}"))
    };
    let is_documented = |key: &String| {
        let key = shown(key);
        page.contains(&format!("| `{key}` |"))
            || page.contains(&format!("`[{key}]`"))
            || page.contains(&format!("`[[{key}]]`"))
    };
    keys.into_iter().filter(|key| !is_documented(key)).collect()
}

/// Bytes of a configuration file.
pub const TEXT_BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;

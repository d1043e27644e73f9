//! The files of the repository, read once, and what kind each path is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Every text file of the repository, with paths relative to its root and `/` between the parts.
pub(crate) struct Tree {
    /// Where the repository is.
    pub(crate) root: PathBuf,
    /// Its files, in path order.
    pub(crate) sources: Vec<Source>,
}

/// One file.
pub(crate) struct Source {
    /// Path relative to the root.
    pub(crate) path: String,
    /// Its whole text.
    pub(crate) text: String,
}

/// Something a rule objects to.
#[derive(Debug, PartialEq)]
pub(crate) struct Finding {
    /// The file.
    pub(crate) path: String,
    /// The line, from 1.
    pub(crate) line: usize,
    /// What is wrong and what would be right.
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

impl Tree {
    /// Reads the repository this test was built in.
    pub(crate) fn of_the_repository() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the tests crate lies in the repository's root")
            .to_path_buf();
        let mut sources = Vec::new();
        read_folder(&root, &root, &mut sources);
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(sources.len() > 20, "the repository was not found");
        Self { root, sources }
    }
}

impl Source {
    /// Makes a finding on `line`, counted from 1.
    pub(crate) fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            message: message.into(),
        }
    }

    /// Returns the lines with their numbers, from 1.
    pub(crate) fn numbered_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line))
    }
}

fn read_folder(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("a folder of the repository can be listed");
    for entry in entries {
        let path = entry.expect("a folder entry can be read").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !FOREIGN_FOLDERS.contains(&name.as_str()) {
                read_folder(root, &path, sources);
            }
            continue;
        }
        // Media, screenshots and fuzz seeds are not text; they fail this read and no rule is about them.
        if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(root).expect("the walk stays below root");
            let path = relative.to_string_lossy().replace('\\', "/");
            sources.push(Source { path, text });
        }
    }
}

/// Folders that are built, downloaded or made, not written.
const FOREIGN_FOLDERS: &[&str] = &[
    ".git",
    "target",
    "node_modules",
    "corpus",
    "corpus-work",
    "out",
];

/// Rust of any kind.
pub(crate) fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

/// Rust that runs in a process an operator starts.
pub(crate) fn is_product_rust(path: &str) -> bool {
    const PRODUCT: &[&str] = &[
        "cache/",
        "media/",
        "node/",
        "edge/",
        "shield/",
        "purge-log/",
        "purge-api/",
        "cli/",
    ];
    is_rust(path) && PRODUCT.iter().any(|folder| path.starts_with(folder))
}

/// Rust that is a test as a whole file.
pub(crate) fn is_whole_test(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.contains("/benches/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
}

/// Text that people write: code, configuration, documents, pages, scripts.
pub(crate) fn is_text(path: &str) -> bool {
    const ENDINGS: &[&str] = &[
        ".rs", ".toml", ".md", ".sh", ".js", ".mjs", ".css", ".html", ".json", ".service", ".conf",
    ];
    let is_written = ENDINGS.iter().any(|ending| path.ends_with(ending));
    (is_written || path == ".ci/run") && !is_npm_lock(path)
}

/// The manifest that names the suites.
pub(crate) fn is_manifest_of_tests(path: &str) -> bool {
    path == "tests/Cargo.toml"
}

/// npm's lock file.
pub(crate) fn is_npm_lock(path: &str) -> bool {
    path.ends_with("package-lock.json")
}

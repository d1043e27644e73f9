//! The configurations that are shipped load, all of them.

use std::fs;
use std::path::{Path, PathBuf};

use node::config::Files;

#[test]
fn every_shipped_configuration_loads() {
    let mut loaded = 0;
    for path in files_below(Path::new("../configs")) {
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or("");
        // Read by a crate of its own, which checks it beside its reader.
        if name == "purge-api" {
            continue;
        }
        let result = match name {
            "edge" => edge::Config::load(&path, Files::NotChecked).map(|_| ()),
            "shield" => shield::Config::load(&path, Files::NotChecked).map(|_| ()),
            _ => panic!("{} is neither an edge's nor a shield's", path.display()),
        };
        if let Err(error) = result {
            panic!("{error}");
        }
        loaded += 1;
    }
    assert!(loaded >= 5, "only {loaded} files were found");
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("configs/ can be listed") {
        let path = entry.expect("configs/ can be listed").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

//! A configuration file becomes the configuration in effect, or errors that say what to do.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use node::config::Files;

#[test]
fn an_edges_file_becomes_what_is_expected() {
    check("edge", |path| {
        edge::Config::load(path, Files::MustExist)
            .map(|config| config.effective())
            .map_err(|error| error.to_string())
    });
}

#[test]
fn a_shields_file_becomes_what_is_expected() {
    check("shield", |path| {
        shield::Config::load(path, Files::MustExist)
            .map(|config| config.effective())
            .map_err(|error| error.to_string())
    });
}

fn check(kind: &str, load: impl Fn(&Path) -> Result<String, String>) {
    let directory = Path::new("golden/config").join(kind);
    let actual_directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("golden/config")
        .join(kind);
    fs::create_dir_all(&actual_directory).expect("cargo's directory for tests is writable");
    let mut differences = String::new();
    let cases = cases(&directory);
    assert!(!cases.is_empty(), "no cases in {}", directory.display());
    for case in cases {
        let actual = match load(&case) {
            Ok(effective) => format!("ok\n\n{effective}"),
            Err(error) => format!("{error}\n"),
        };
        let expected_path = case.with_extension("expected");
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if actual == expected {
            continue;
        }
        let name = expected_path.file_name().expect("a case has a name");
        let actual_path = actual_directory.join(name);
        fs::write(&actual_path, &actual).expect("cargo's directory for tests is writable");
        writeln!(
            differences,
            "{}: expected\n{expected}\nbut was\n{actual}\nIf that is right: cp {} tests/{}\n",
            case.display(),
            actual_path.display(),
            expected_path.display(),
        )
        .expect("writing to a String cannot fail");
    }
    assert!(differences.is_empty(), "{differences}");
}

/// The `.toml` files of a directory that have something expected of them, in order.
fn cases(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the cases are beside this file");
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a directory of ours can be listed").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    cases.sort();
    cases
}

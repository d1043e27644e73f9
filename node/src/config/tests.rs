//! Tests of reading values; whole files are golden tests.

use std::path::PathBuf;
use std::time::Duration;

use super::*;

fn source() -> Source {
    Source {
        name: "test.toml".into(),
        directory: PathBuf::new(),
        files: Files::NotChecked,
    }
}

fn read<T>(
    text: &str,
    parse: impl FnOnce(&Item<'_>) -> Result<T, Wrong>,
) -> Result<Option<T>, String> {
    super::parse(text, &source(), |root| root.optional("key", parse)).map_err(|e| e.to_string())
}

#[test]
fn sizes_have_a_binary_unit() {
    let sizes = byte_size(1..=1 << 40);
    for (text, bytes) in [
        ("1B", 1),
        ("64KiB", 65_536),
        ("512MiB", 512 << 20),
        ("4 GiB", 4 << 30),
    ] {
        assert_eq!(
            read(&format!("key = \"{text}\""), &sizes).unwrap(),
            Some(bytes),
            "{text}"
        );
    }
    for (text, shown) in [
        ("\"4GB\"", "write \"4GiB\""),
        ("\"4gib\"", "write \"4GiB\""),
        ("4096", "is not a size"),
        ("\"\"", "is not a size"),
        ("\"GiB\"", "is not a size"),
        ("\"0B\"", "from 1B to 1TiB"),
        ("\"2TiB\"", "from 1B to 1TiB"),
        ("\"99999999999999999999GiB\"", "is not a size"),
        ("\"18446744073709551615TiB\"", "is out of range"),
        ("\"-4GiB\"", "is not a size"),
    ] {
        let error = read(&format!("key = {text}"), &sizes).unwrap_err();
        assert!(error.contains(shown), "{text}:\n{error}");
    }
}

#[test]
fn durations_have_a_unit() {
    let durations = duration(Duration::from_millis(1)..=Duration::from_secs(3600));
    for (text, milliseconds) in [
        ("500ms", 500),
        ("2s", 2000),
        ("5m", 300_000),
        ("1h", 3_600_000),
    ] {
        let expected = Some(Duration::from_millis(milliseconds));
        assert_eq!(
            read(&format!("key = \"{text}\""), &durations).unwrap(),
            expected,
            "{text}"
        );
    }
    for (text, shown) in [
        ("\"2\"", "is not a duration"),
        ("2", "is not a duration"),
        ("\"1.5s\"", "is not a duration"),
        ("\"2 seconds\"", "is not a duration"),
        ("\"0s\"", "from 1ms to 1h"),
        ("\"2h\"", "from 1ms to 1h"),
    ] {
        let error = read(&format!("key = {text}"), &durations).unwrap_err();
        assert!(error.contains(shown), "{text}:\n{error}");
    }
}

#[test]
fn a_parents_url_is_scheme_and_authority() {
    for text in [
        "http://10.0.0.1:8080",
        "https://s.example",
        "http://[::1]:80",
    ] {
        assert!(read(&format!("key = \"{text}\""), url).is_ok(), "{text}");
    }
    for (text, shown) in [
        ("s.example", "a scheme and a host"),
        ("ftp://s.example", "a scheme and a host"),
        ("https://", "a scheme and a host"),
        ("https://u:p@s.example", "no user and password"),
        ("https://s.example/", "nothing after the host"),
        ("https://s.example/live", "nothing after the host"),
        ("https://s.example?x", "nothing after the host"),
        ("https://s.example:0", "from 1 to 65535"),
        ("https://s.example:99999", "from 1 to 65535"),
        ("https://s.example:", "from 1 to 65535"),
    ] {
        let error = read(&format!("key = \"{text}\""), url).unwrap_err();
        assert!(error.contains(shown), "{text}:\n{error}");
    }
}

#[test]
fn names_can_stand_in_a_structured_field() {
    for text in ["a", "fra-1", "Edge_1.example"] {
        assert!(read(&format!("key = \"{text}\""), name).is_ok(), "{text}");
    }
    for text in ["1", "-a", "a b", "a;b", "ä", "a\\n", &"a".repeat(65)] {
        assert!(read(&format!("key = \"{text}\""), name).is_err(), "{text}");
    }
}

#[test]
fn a_hostile_file_is_an_error_of_bounded_size() {
    let many: String = (0..20_000).map(|i| format!("k{i} = 1\n")).collect();
    for text in [
        many.as_str(),
        "\u{0}",
        "a = \"\\u{1b}",
        "[[[",
        "= = =",
        "\u{202e} = 1",
    ] {
        let error = read(text, flag).unwrap_err();
        assert!(error.len() < 200_000, "{} bytes", error.len());
    }
    let escape = read("\"\\u001b[2J\" = 1", flag).unwrap_err();
    assert!(
        !escape.contains('\u{1b}'),
        "no control character reaches the terminal:\n{escape}"
    );
}

#[test]
fn an_unreadable_file_is_named() {
    let missing = PathBuf::from("no-such-directory/edge.toml");
    let error = load(&missing, Files::NotChecked, |_| ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no-such-directory/edge.toml cannot be read"),
        "{error}"
    );
}

//! Configurations that are right, and what is said of those that are not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const RIGHT: &str = r#"
[listen]
address = "127.0.0.1:0"

[journal]
path = "purges.redb"

[audit]
path = "audit.jsonl"

[[principal]]
name = "origin"
hosts = ["live.example"]
verbs = ["url"]
key = [{ id = "k", kind = "hmac", file = "secret" }]
"#;

fn load(text: &str, mode: u32) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    let path = folder.path().join("purge-api.toml");
    fs::write(&path, text).unwrap();
    Config::load(&path).map_err(|error| error.to_string())
}

#[test]
fn what_is_not_written_has_a_default_and_paths_are_relative_to_the_file() {
    let config = load(RIGHT, 0o600).unwrap();
    assert!(config.journal_path.is_absolute());
    assert_eq!(config.principals[0].per_second, 50);
    assert_eq!(config.principals[0].wide_per_second, 5);
    assert_eq!(config.limits, ApiLimits::default());
    assert!(config.tls.is_none() && config.private.is_none());
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    for mode in [0o640, 0o604, 0o660] {
        let error = load(RIGHT, mode).unwrap_err();
        assert!(error.contains(&format!("mode {mode:04o}")), "{error}");
        assert!(error.contains("chmod 600"), "{error}");
    }
    assert!(load(RIGHT, 0o400).is_ok());
}

/// What is right, what stands there instead, and what is said of it.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "path = \"purges.redb\"",
        "pth = \"purges.redb\"",
        "unknown field `pth`, expected one of `path`",
    ),
    (
        "verbs = [\"url\"]",
        "verbs = [\"tag\"]",
        "unknown variant `tag`, expected one of `url`",
    ),
    (
        "\"live.example\"",
        "\"*live.example\"",
        "`*live.example` is not a host in lower case",
    ),
    ("kind = \"hmac\"", "kind = \"rsa\"", "unknown variant `rsa`"),
    ("127.0.0.1:0", "nowhere", "invalid socket address"),
    (
        "127.0.0.1:0",
        "0.0.0.0:0",
        "can be reached by others without TLS",
    ),
    (
        "[journal]",
        "[private]\naddress = \"0.0.0.0:0\"\n[journal]",
        "use a loopback address",
    ),
    (
        "[journal]",
        "[limits]\nwait_max = \"soon\"\n[journal]",
        "`soon` is not a time: write e.g. 500ms",
    ),
    ("hosts = [\"live.example\"]", "", "verbs that need `hosts`"),
    (
        "verbs = [\"url\"]",
        "verbs = [\"key\"]",
        "needs `surrogate_keys`",
    ),
    (
        "\"secret\"",
        "\"no-such-file\"",
        "cannot be read (entity not found)",
    ),
    ("id = \"k\"", "id = \"a b\"", "letters, digits and `-._`"),
    (
        "verbs = [\"url\"]",
        "verbs = [\"url\"]\ncertificates = [\"x\"]",
        "need `listen.client_ca`",
    ),
    (
        "[journal]",
        "client_ca = \"x\"\n[journal]",
        "needs `listen.certificate`",
    ),
    (
        "[journal]",
        "key = \"x\"\n[journal]",
        "`listen.certificate` is missing",
    ),
];

#[test]
fn mistakes_are_shown_with_their_line_and_what_is_allowed() {
    for (right, wrong, expected) in MISTAKES {
        let text = RIGHT.replacen(right, wrong, 1);
        let error = load(&text, 0o600).unwrap_err();
        assert!(error.contains("purge-api.toml"), "{error}");
        assert!(error.contains(expected), "{wrong}: {error}");
    }
    let text = RIGHT.replace("path = \"purges.redb\"", "pth = 1");
    assert!(
        load(&text, 0o600).unwrap_err().contains("line 6"),
        "the line is named"
    );
}

#[test]
fn the_shipped_configuration_is_right() {
    let shipped = include_str!("../../../configs/purge-api.toml");
    let text: text::Text = toml::from_str(shipped).unwrap();
    text.check().unwrap();
}

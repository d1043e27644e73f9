//! Configurations that are right, and what is said of those that are not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::journal::NatsLogin;

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
    let JournalPlace::File(path) = &config.journal_place else {
        panic!("{:?}", config.journal_place);
    };
    assert!(path.is_absolute());
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

/// What stands in `[journal.nats]`, and what is said of it.
const NATS_MISTAKES: &[(&str, &str)] = &[
    ("servers = []", "must list 1 to 16 servers"),
    ("servers = [\"nats-1:4222\"]", "write `nats://host:port`"),
    (
        "servers = [\"nats://u:secret@a:4222\"]",
        "credentials into `user` and `password_file`",
    ),
    (
        "servers = [\"nats://a:4222\"]\nstream = \"a.b\"",
        "letters, digits and `-_`",
    ),
    (
        "servers = [\"nats://a:4222\"]\nreplicas = 0",
        "between 1 and 5",
    ),
    (
        "servers = [\"nats://a:4222\"]\nuser = \"u\"",
        "`journal.nats.password_file` go together",
    ),
    (
        "servers = [\"nats://a:4222\"]\nuser = \"u\"\npassword_file = \"secret\"\ntoken_file = \"secret\"",
        "both `user` and `token_file`",
    ),
    (
        "servers = [\"nats://a:4222\"]\ncertificate = \"c\"",
        "`journal.nats.key` go together",
    ),
];

#[test]
fn a_stream_of_nats_can_be_the_journal_and_its_secret_is_read_from_a_file() {
    let with =
        |nats: &str| RIGHT.replace("path = \"purges.redb\"", &format!("[journal.nats]\n{nats}"));
    let written =
        "servers = [\"tls://nats-1.example:4222\"]\nuser = \"u\"\npassword_file = \"secret\"";
    let config = load(&with(written), 0o600).unwrap();
    let JournalPlace::Nats(nats) = &config.journal_place else {
        panic!("{:?}", config.journal_place);
    };
    assert_eq!((nats.stream.as_str(), nats.replicas), ("seawall", 3));
    let password = "0123456789abcdef0123456789abcdef".to_owned();
    let user = "u".to_owned();
    assert_eq!(nats.login, NatsLogin::Password { user, password });
    assert!(!format!("{config:?}").contains("0123456789"), "invariant 7");
    let readable = load(&with(written), 0o644).unwrap_err();
    assert!(readable.contains("`journal.nats`: the key"), "{readable}");
    for (wrong, expected) in NATS_MISTAKES {
        let error = load(&with(wrong), 0o600).unwrap_err();
        assert!(error.contains(expected), "{wrong}: {error}");
        assert!(!error.contains("u:secret"), "{error}");
    }
    let both = RIGHT.replace(
        "[audit]",
        "[journal.nats]\nservers = [\"nats://a:1\"]\n[audit]",
    );
    assert!(load(&both, 0o600).unwrap_err().contains("one of them"));
    let neither = RIGHT.replace("path = \"purges.redb\"", "");
    assert!(
        load(&neither, 0o600)
            .unwrap_err()
            .contains("needs `path`, or `nats`")
    );
}

#[test]
fn the_shipped_configuration_is_right() {
    let shipped = include_str!("../../../configs/purge-api.toml");
    let text: text::Text = toml::from_str(shipped).unwrap();
    text.check().unwrap();
}

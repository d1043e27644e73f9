//! The audit on real files: what is written is whole, and what was changed shows.

use std::fs;
use std::path::Path;

use super::*;

fn config(folder: &Path) -> AuditConfig {
    AuditConfig {
        path: folder.join("audit.jsonl"),
        bytes_max: u64::MAX,
        files_max: None,
        applied: true,
    }
}

fn refused(detail: &str) -> Event {
    Event::Refused {
        by: None,
        from: "192.0.2.1".to_owned(),
        problem: "forbidden".to_owned(),
        detail: detail.to_owned(),
    }
}

fn verified(path: &Path) -> Result<Verified, VerifyError> {
    verify(fs::read(path).unwrap().as_slice(), |_| {})
}

async fn write(audit: &Audit, details: &[&str]) {
    for detail in details {
        audit.write(UnixMillis(1), refused(detail)).await.unwrap();
    }
}

#[tokio::test]
async fn the_chain_goes_on_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (audit, report) = Audit::open(&config).unwrap();
    assert_eq!(report.link, Link::start());
    write(&audit, &["a", "b"]).await;
    assert!(matches!(Audit::open(&config), Err(AuditError::InUse(_))));
    audit.close().await;
    let (audit, report) = Audit::open(&config).unwrap();
    assert_eq!((report.lines, report.cut_bytes), (2, 0));
    write(&audit, &["c"]).await;
    let verified = verified(&config.path).unwrap();
    assert_eq!((verified.lines, verified.ends.number), (3, 3));
    assert_eq!(verified.begins, Link::start());
}

#[tokio::test]
async fn a_line_that_was_changed_removed_added_or_swapped_shows() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (audit, _) = Audit::open(&config).unwrap();
    write(&audit, &["a", "b", "c", "d"]).await;
    let text = fs::read_to_string(&config.path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let judge = |lines: &[&str]| {
        let text = lines.join("\n") + "\n";
        verify(text.as_bytes(), |_| {}).map(|verified| verified.lines)
    };
    assert_eq!(judge(&lines).unwrap(), 4);
    let changed = lines[1].replace("\"b\"", "\"x\"");
    assert!(judge(&[lines[0], &changed, lines[2], lines[3]]).is_err());
    assert!(judge(&[lines[0], lines[2], lines[3]]).is_err());
    assert!(judge(&[lines[0], lines[1], lines[1], lines[2], lines[3]]).is_err());
    assert!(judge(&[lines[0], lines[2], lines[1], lines[3]]).is_err());
    let forged = lines[0].replace(&"0".repeat(64), &"1".repeat(64));
    assert!(
        judge(&[&forged]).is_err(),
        "a first line with something before it"
    );
    assert!(judge(&["nonsense"]).is_err());
    let huge = "x".repeat(LINE_BYTES_MAX + 1);
    assert!(
        judge(&[&huge])
            .unwrap_err()
            .to_string()
            .contains("more than")
    );
}

#[tokio::test]
async fn what_a_crash_left_of_a_line_is_cut_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (audit, _) = Audit::open(&config).unwrap();
    write(&audit, &["a", "b"]).await;
    audit.close().await;
    let whole = fs::read(&config.path).unwrap();
    let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    // Every place where the second line can be cut off.
    for length in first..whole.len() {
        fs::write(&config.path, &whole[..length]).unwrap();
        let (audit, report) = Audit::open(&config).unwrap();
        assert_eq!(report.lines, 1);
        assert_eq!(report.cut_bytes, u64::try_from(length - first).unwrap());
        write(&audit, &["c"]).await;
        assert_eq!(verified(&config.path).unwrap().lines, 2);
        audit.close().await;
    }
}

#[test]
fn a_closed_audit_can_be_opened_though_a_process_that_is_being_started_has_a_copy_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let opened = open::open(&config.path).unwrap();
    let copy = opened.file.try_clone().unwrap();
    let (file, bytes, link) = (opened.file, opened.bytes, opened.report.link);
    let (commands, waiting) = mpsc::channel(1);
    drop(commands);
    let (alive, _ended) = watch::channel(());
    Writer::new(&config, file, bytes, link, Arc::default(), alive).run(waiting);
    assert!(open::open(&config.path).is_ok());
    drop(copy);
}

#[tokio::test]
async fn a_changed_file_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (audit, _) = Audit::open(&config).unwrap();
    write(&audit, &["a", "b"]).await;
    let text = fs::read_to_string(&config.path).unwrap();
    let elsewhere = AuditConfig {
        path: folder.path().join("changed.jsonl"),
        ..config
    };
    fs::write(&elsewhere.path, text.replace("\"a\"", "\"x\"")).unwrap();
    let error = Audit::open(&elsewhere).unwrap_err();
    assert!(matches!(error, AuditError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn a_full_file_is_set_aside_and_the_chain_goes_on_in_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let config = AuditConfig {
        bytes_max: 1,
        ..config(folder.path())
    };
    let (audit, _) = Audit::open(&config).unwrap();
    write(&audit, &["a", "b"]).await;
    let aside = verified(&folder.path().join("audit.jsonl.1")).unwrap();
    let present = verified(&config.path).unwrap();
    assert_eq!(aside.ends, present.begins);
    assert_eq!(present.ends.number, 2);
}

#[tokio::test]
async fn a_crash_between_two_files_does_not_break_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (audit, _) = Audit::open(&config).unwrap();
    write(&audit, &["a", "b"]).await;
    audit.close().await;
    // Set aside, and then the power went: the next file is empty, or not there.
    let aside = folder.path().join("audit.jsonl.2");
    fs::rename(&config.path, &aside).unwrap();
    for _ in 0..2 {
        let (audit, report) = Audit::open(&config).unwrap();
        assert_eq!((report.lines, report.link.number), (0, 2));
        audit.close().await;
    }
    let (audit, _) = Audit::open(&config).unwrap();
    write(&audit, &["c"]).await;
    audit.close().await;
    let (files, all) = verify_files(&config.path, |_| {}).unwrap();
    assert_eq!((files, all.lines, all.ends.number), (2, 3, 3));
    // What it would go on from was changed: it is not written to.
    fs::remove_file(&config.path).unwrap();
    let text = fs::read_to_string(&aside).unwrap();
    fs::write(&aside, text.replace("\"a\"", "\"x\"")).unwrap();
    let error = Audit::open(&config).unwrap_err();
    assert!(matches!(error, AuditError::Before { .. }), "{error}");
}

#[tokio::test]
async fn all_files_are_verified_in_order_and_one_that_is_missing_shows() {
    let folder = tempfile::tempdir().unwrap();
    let config = AuditConfig {
        bytes_max: 1,
        ..config(folder.path())
    };
    let (audit, _) = Audit::open(&config).unwrap();
    // More than nine, so that names are compared as numbers.
    let details: Vec<String> = (1..=12).map(|number| number.to_string()).collect();
    write(
        &audit,
        &details.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    let mut seen = Vec::new();
    let (files, all) = verify_files(&config.path, |line| seen.push(line.number)).unwrap();
    assert_eq!((files, all.lines), (12, 12));
    assert_eq!(seen, (1..=12).collect::<Vec<_>>());
    fs::remove_file(folder.path().join("audit.jsonl.5")).unwrap();
    let missing = verify_files(&config.path, |_| {}).unwrap_err();
    let said = "audit.jsonl.6` begins with line 6, and the file before it ends with line 4";
    assert!(missing.to_string().contains(said), "{missing}");
}

#[tokio::test]
async fn files_beyond_the_limit_are_removed_and_the_chain_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = AuditConfig {
        bytes_max: 1,
        files_max: Some(2),
        ..config(folder.path())
    };
    let (audit, _) = Audit::open(&config).unwrap();
    write(&audit, &["a", "b", "c", "d", "e", "f"]).await;
    let mut removed = Vec::new();
    let see = |line: &Line| {
        if let Event::Removed { through } = line.event {
            removed.push(through);
        }
    };
    let (files, all) = verify_files(&config.path, see).unwrap();
    assert_eq!(files, 3, "the present one and two");
    assert!(all.begins.number > 0, "what is left begins in the middle");
    assert_eq!(removed.last(), Some(&all.begins.number));
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_or_counted_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (audit, _) = Audit::open(&config).unwrap();
    let asked = 20_000;
    for _ in 0..asked {
        audit.note(UnixMillis(1), refused("x"));
    }
    write(&audit, &["last"]).await;
    write(&audit, &["after the lost ones were counted"]).await;
    let mut seen = 0;
    let text = fs::read(&config.path).unwrap();
    verify(text.as_slice(), |line| match &line.event {
        Event::Lost { lines } => seen += lines,
        Event::Refused { .. } => seen += 1,
        other => panic!("{other:?}"),
    })
    .unwrap();
    assert_eq!(seen, asked + 2);
}

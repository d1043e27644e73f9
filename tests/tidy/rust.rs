//! Rules about Rust files. Each takes one file and returns what it objects to.

use crate::tree::{Finding, Source, is_whole_test};

/// Finds identifiers that ask what a process is (invariant 2). A composition knows; code does not ask.
pub(crate) fn forbidden_identifiers(source: &Source) -> Vec<Finding> {
    let code = code_only(&source.text);
    let mut found = Vec::new();
    for (line, identifier) in identifiers(&code) {
        let asks = matches!(identifier, "is_edge" | "is_shield")
            || words(identifier)
                .iter()
                .any(|word| matches!(word.as_str(), "tier" | "tiers" | "role" | "roles"));
        if asks {
            found.push(source.finding(
                line,
                format!(
                    "identifier `{identifier}`: a process's place is a composition, not a value"
                ),
            ));
        }
    }
    found
}

/// Finds a file whose first line is not a module doc.
pub(crate) fn missing_module_doc(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    if first.starts_with("//! ") {
        return vec![];
    }
    vec![source.finding(
        1,
        "begin with a module doc: what is here, who calls it, what is not here",
    )]
}

/// Finds a file that is longer than [`LINES_MAX`] before its tests.
pub(crate) fn too_long(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    let product = first_test_line(source).map_or(lines, |line| line - 1);
    if product <= LINES_MAX || is_whole_test(&source.path) {
        return vec![];
    }
    vec![source.finding(
        LINES_MAX + 1,
        format!("{product} lines before the tests, {LINES_MAX} allowed: split by topic"),
    )]
}

/// Finds tests that are switched off.
pub(crate) fn ignored_tests(source: &Source) -> Vec<Finding> {
    let code = code_only(&source.text);
    numbered(&code)
        .filter(|(_, line)| line.contains("#[ignore"))
        .map(|(number, _)| source.finding(number, "an ignored test proves nothing: fix or delete"))
        .collect()
}

/// Finds tests that wait for a guess on a real clock instead of an event.
///
/// Under `start_paused = true` a sleep is a date in virtual time, and the harness is the simulated network itself.
pub(crate) fn sleeping_tests(source: &Source) -> Vec<Finding> {
    if source.path.starts_with("tests/harness/") {
        return vec![];
    }
    let tests_begin = if is_whole_test(&source.path) {
        1
    } else {
        first_test_line(source).unwrap_or(usize::MAX)
    };
    let code = code_only(&source.text);
    let mut is_paused = false;
    let mut found = Vec::new();
    for (number, line) in numbered(&code) {
        if line.contains("::test]") || line.contains("::test(") || line.contains("#[test]") {
            is_paused = line.contains("start_paused");
        }
        if number >= tests_begin && calls_sleep(line) && !is_paused {
            found.push(source.finding(number, "wait for an event, or pause the clock"));
        }
    }
    found
}

/// Lines a file may have before its tests.
const LINES_MAX: usize = 500;

fn calls_sleep(line: &str) -> bool {
    identifiers(line).any(|(_, identifier)| matches!(identifier, "sleep" | "sleep_until"))
        && line.contains("sleep")
        && line.contains('(')
}

/// Returns the line of the first `#[cfg(test)]` that opens a module.
fn first_test_line(source: &Source) -> Option<usize> {
    let lines: Vec<&str> = source.text.lines().collect();
    let opens_module = |at: usize| {
        lines
            .get(at + 1..)
            .unwrap_or_default()
            .iter()
            .find(|line| !line.trim_start().starts_with("#["))
            .is_some_and(|line| line.trim_start().starts_with("mod "))
    };
    (0..lines.len())
        .find(|&at| {
            lines
                .get(at)
                .is_some_and(|l| l.trim().starts_with("#[cfg(") && l.contains("test"))
                && opens_module(at)
        })
        .map(|at| at + 1)
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line))
}

/// Returns every identifier with its line.
fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    numbered(code).flat_map(|(number, line)| {
        line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .map(move |word| (number, word))
    })
}

/// Splits an identifier into its words: `TierName` and `tier_name` are both `tier`, `name`.
fn words(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in identifier.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        if c != '_' {
            let word = words.last_mut().expect("the list begins with one word");
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// Blanks comments, strings and characters, keeping every line where it is.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = opaque_prefix(rest);
        if skipped == 0 {
            code.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            // An identifier is taken whole, so that `r#"` and `b"` begin only where a word does not end.
            while c.is_alphanumeric() || c == '_' {
                match rest.chars().next() {
                    Some(next) if next.is_alphanumeric() || next == '_' => {
                        code.push(next);
                        rest = rest.get(next.len_utf8()..).unwrap_or_default();
                    }
                    _ => break,
                }
            }
            continue;
        }
        let (opaque, after) = rest.split_at(skipped.min(rest.len()));
        code.extend(opaque.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    code
}

/// Returns how many bytes at the start of `rest` are a comment, string or character; 0 when it is code.
fn opaque_prefix(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    let unprefixed = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - unprefixed.len();
    if prefix <= 1 && unprefixed.starts_with('"') {
        return prefix + quoted(unprefixed, '"');
    }
    if prefix <= 1 && (unprefixed.starts_with("r\"") || unprefixed.starts_with("r#")) {
        return raw_string(unprefixed).map_or(0, |length| prefix + length);
    }
    let mut chars = rest.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\''), Some('\\'), _) => quoted(rest, '\''),
        (Some('\''), Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}

/// Returns the length of a literal that ends at the first unescaped `quote` after its start.
fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Returns the length of a raw string, or `None` for a raw identifier.
fn raw_string(rest: &str) -> Option<usize> {
    let hashes = rest.chars().skip(1).take_while(|&c| c == '#').count();
    let body = rest.get(1 + hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).unwrap_or(body.len());
    Some((2 + hashes + length + end.len()).min(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> Source {
        Source {
            path: "node/src/x.rs".into(),
            text: text.into(),
        }
    }

    #[test]
    fn identifiers_that_ask_what_a_process_is_are_found() {
        for (code, count) in [
            ("fn f(tier: u8) {}", 1),
            ("enum NodeRole { A }", 1),
            ("if self.is_edge() {}", 1),
            ("let tiered = 1; let parole = 2; let frontier = 3;", 0),
            (
                "// the tier\nlet s = \"role\"; let r = r#\"tier \" role\"#;",
                0,
            ),
            ("let c = '\"'; let tier = 1; // '\"'", 1),
            ("fn f<'a>(x: &'a str, role: u8) {}", 1),
        ] {
            assert_eq!(forbidden_identifiers(&rust(code)).len(), count, "{code}");
        }
    }

    #[test]
    fn blanked_text_keeps_its_lines() {
        let text = "a /* 1\n2 */ b\n\"x\ny\" c";
        assert_eq!(code_only(text).lines().count(), text.lines().count());
    }

    #[test]
    fn a_file_without_a_module_doc_is_found() {
        assert_eq!(missing_module_doc(&rust("use std::fmt;\n")).len(), 1);
        assert_eq!(missing_module_doc(&rust("//! Words.\n")).len(), 0);
    }

    #[test]
    fn only_lines_before_the_test_module_count() {
        let body = "//! Doc.\n".to_owned() + &"x\n".repeat(490);
        let tests = "#[cfg(test)]\nmod tests {\n".to_owned() + &"y\n".repeat(600);
        assert_eq!(too_long(&rust(&(body.clone() + &tests))), vec![]);
        assert_eq!(too_long(&rust(&(body + &"x\n".repeat(11)))).len(), 1);
    }

    #[test]
    fn a_lone_test_import_does_not_end_the_counted_part() {
        let text = "//! Doc.\n#[cfg(test)]\nuse x::y;\n".to_owned() + &"x\n".repeat(600);
        assert_eq!(too_long(&rust(&text)).len(), 1);
    }

    #[test]
    fn ignored_and_sleeping_tests_are_found() {
        let ignored = concat!("#[test]\n#[ig", "nore]\nfn f() {}\n");
        assert_eq!(ignored_tests(&rust(ignored)).len(), 1);
        let real = "#[cfg(test)]\nmod tests {\n#[tokio::test]\nasync fn f() { sleep(d).await }\n}";
        assert_eq!(sleeping_tests(&rust(real)).len(), 1);
        let paused = real.replace("::test]", "::test(start_paused = true)]");
        assert_eq!(sleeping_tests(&rust(&paused)), vec![]);
        let product = "async fn f() { sleep(d).await }\n";
        assert_eq!(sleeping_tests(&rust(product)), vec![]);
    }
}

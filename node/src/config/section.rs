//! Reading a TOML table key by key, collecting problems instead of stopping at the first.
//!
//! A [`Section`] hands out the keys it is asked for. What nobody asked for by the time it is dropped
//! is unknown, and reported with the nearest key that is known.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Wrong};
use super::unknown::Unknown;
use super::{Files, Source};

/// What reading one text has found so far.
#[derive(Debug)]
pub(super) struct Reader {
    directory: PathBuf,
    files: Files,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    problems: Vec<Problem>,
    unknown: Vec<Unknown>,
    /// Paths of keys that were asked for, present or not.
    known: BTreeSet<String>,
    /// Those of them that are tables, as they are written.
    tables: BTreeMap<String, String>,
}

/// A table of the text, or the place where it would be.
#[derive(Debug)]
pub struct Section<'r> {
    reader: &'r Reader,
    /// Dotted, empty for the root.
    path: String,
    /// Where the table is; `None` for the root and for tables that are not there.
    span: Option<Range<usize>>,
    is_present: bool,
    entries: BTreeMap<&'r str, (Range<usize>, &'r Spanned<DeValue<'r>>)>,
    /// Spans of values that were handed out, for checks across keys.
    taken: BTreeMap<&'static str, Range<usize>>,
}

/// One value of the text.
#[derive(Clone, Copy, Debug)]
pub struct Item<'r> {
    reader: &'r Reader,
    value: &'r Spanned<DeValue<'r>>,
}

impl Reader {
    pub(super) fn new(source: &Source) -> Self {
        Self {
            directory: source.directory.clone(),
            files: source.files,
            state: RefCell::default(),
        }
    }

    /// Returns the problems, with those of unknown keys: only now is every known key known.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let State {
            mut problems,
            unknown,
            known,
            tables,
        } = self.state.into_inner();
        problems.extend(unknown.into_iter().map(|u| u.problem(&known, &tables)));
        problems
    }

    pub(super) fn known(self) -> Vec<String> {
        self.state.into_inner().known.into_iter().collect()
    }
}

impl<'r> Section<'r> {
    pub(super) fn root(reader: &'r Reader, table: &'r DeTable<'r>) -> Self {
        Self::new(reader, String::new(), None, table)
    }

    fn new(
        reader: &'r Reader,
        path: String,
        span: Option<Range<usize>>,
        table: &'r DeTable<'r>,
    ) -> Self {
        let entries = table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), (key.span(), value)))
            .collect();
        Self {
            reader,
            path,
            span,
            is_present: true,
            entries,
            taken: BTreeMap::new(),
        }
    }

    fn absent(reader: &'r Reader, path: String) -> Self {
        Self {
            reader,
            path,
            span: None,
            is_present: false,
            entries: BTreeMap::new(),
            taken: BTreeMap::new(),
        }
    }

    /// Returns whether the text has this table.
    pub fn is_present(&self) -> bool {
        self.is_present
    }

    /// Returns whether `key` was present, once it has been asked for.
    pub fn has(&self, key: &str) -> bool {
        self.taken.contains_key(key)
    }

    /// Returns the value of `key` through `parse`, or `None` when it is absent or wrong.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Item<'r>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let (_, value) = self.take(key)?;
        self.taken.insert(key, value.span());
        match parse(&Item {
            reader: self.reader,
            value,
        }) {
            Ok(parsed) => Some(parsed),
            Err(wrong) => {
                self.report(Problem {
                    title: format!("`{}` {}", self.dotted(key), wrong.what),
                    span: Some(value.span()),
                    ..Problem::of(wrong)
                });
                None
            }
        }
    }

    /// Returns the value of `key`, or `default` when it is absent.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Item<'r>) -> Result<T, Wrong>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// Returns the members of the list at `key`, or `default` when it is absent. Each wrong member is
    /// a problem of its own.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        parse: impl Fn(&Item<'r>) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let not_a_list = || Wrong::new("is not a list", "values in brackets: [..]");
        let members = self.optional(key, |item| item.items().ok_or_else(not_a_list));
        let Some(members) = members else {
            return if self.has(key) { Vec::new() } else { default };
        };
        let mut values = Vec::new();
        for member in members {
            match parse(&member) {
                Ok(value) => values.push(value),
                Err(wrong) => self.report(Problem {
                    title: format!("`{}` has a member that {}", self.dotted(key), wrong.what),
                    span: Some(member.span()),
                    ..Problem::of(wrong)
                }),
            }
        }
        values
    }

    /// Returns the value of `key`; its absence is a problem.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&Item<'r>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let value = self.optional(key, parse);
        if !self.has(key) {
            let place = if self.path.is_empty() { "" } else { " here" };
            self.report(Problem {
                title: format!("`{}` is missing", self.dotted(key)),
                span: self.span.clone(),
                allowed: format!("add {key} = {example}{place}"),
                elsewhere: None,
                help: None,
                is_secret: false,
            });
        }
        value
    }

    /// Returns the table at `key`; an absent one is empty.
    pub fn table(&mut self, key: &'static str) -> Self {
        let path = self.dotted(key);
        self.note_table(key, format!("[{path}]"));
        let Some((_, value)) = self.take(key) else {
            return Self::absent(self.reader, path);
        };
        self.taken.insert(key, value.span());
        if let DeValue::Table(table) = value.get_ref() {
            return Self::new(self.reader, path, Some(value.span()), table);
        }
        self.wrong_type(
            key,
            value,
            "is not a table",
            &format!("write [{path}] on a line of its own"),
        );
        Self::absent(self.reader, path)
    }

    /// Returns the tables of the array at `key`.
    pub fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let path = self.dotted(key);
        self.note_table(key, format!("[[{path}]]"));
        let Some((_, value)) = self.take(key) else {
            return Vec::new();
        };
        self.taken.insert(key, value.span());
        let allowed = format!("write [[{path}]] on a line of its own for each");
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, value, "is not a list of tables", &allowed);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Self::new(
                        self.reader,
                        path.clone(),
                        Some(item.span()),
                        table,
                    ));
                }
                _ => self.wrong_type(key, item, "is not a list of tables", &allowed),
            }
        }
        sections
    }

    /// Returns every entry of a table whose keys are the operator's own.
    pub fn entries(&mut self) -> Vec<(String, Item<'r>)> {
        let entries = std::mem::take(&mut self.entries);
        let item = |value| Item {
            reader: self.reader,
            value,
        };
        entries
            .into_iter()
            .map(|(key, (_, value))| (key.to_owned(), item(value)))
            .collect()
    }

    /// Refuses `key`, which belongs to another kind of configuration.
    pub fn refuse(&mut self, key: &'static str, what: &str, allowed: &str) {
        if let Some((span, _)) = self.entries.remove(key) {
            self.report(Problem {
                title: format!("`{}` {what}", self.dotted(key)),
                span: Some(span),
                allowed: allowed.to_owned(),
                elsewhere: None,
                help: None,
                is_secret: false,
            });
        }
    }

    /// Reports what is wrong with `key`, a value that was handed out, beside the rest of the table.
    pub fn wrong(&self, key: &str, what: &str, allowed: &str) {
        self.wrong_twice(key, what, allowed, None);
    }

    /// As [`Section::wrong`], pointing also at another place.
    pub fn wrong_twice(
        &self,
        key: &str,
        what: &str,
        allowed: &str,
        elsewhere: Option<(Range<usize>, &str)>,
    ) {
        let span = self.taken.get(key).cloned().or_else(|| self.span.clone());
        self.report(Problem {
            title: format!("`{}` {what}", self.dotted(key)),
            span,
            allowed: allowed.to_owned(),
            elsewhere: elsewhere.map(|(span, label)| (span, label.to_owned())),
            help: None,
            is_secret: false,
        });
    }

    /// Reports what is wrong with one of [`Section::entries`], without showing its line.
    pub fn wrong_secret(&self, key: &str, item: &Item<'_>, wrong: Wrong) {
        self.wrong_entry(key, item, wrong.of_secret());
    }

    /// Reports what is wrong with one of [`Section::entries`].
    pub fn wrong_entry(&self, key: &str, item: &Item<'_>, wrong: Wrong) {
        self.report(Problem {
            title: format!("`{}` {}", self.dotted(key).escape_default(), wrong.what),
            span: Some(item.span()),
            ..Problem::of(wrong)
        });
    }

    /// Reports what is wrong with the table as a whole.
    pub fn incomplete(&self, title: &str, allowed: &str, help: &str) {
        self.report(Problem {
            title: title.to_owned(),
            span: self.span.clone(),
            allowed: allowed.to_owned(),
            elsewhere: None,
            help: Some(help.to_owned()),
            is_secret: false,
        });
    }

    /// Returns where the value of `key` is, once it has been handed out.
    pub fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.taken.get(key).cloned()
    }

    fn take(&mut self, key: &'static str) -> Option<(Range<usize>, &'r Spanned<DeValue<'r>>)> {
        self.reader
            .state
            .borrow_mut()
            .known
            .insert(self.dotted(key));
        self.entries.remove(key)
    }

    fn note_table(&self, key: &str, written: String) {
        let mut state = self.reader.state.borrow_mut();
        state.tables.insert(key.to_owned(), written);
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, what: &str, allowed: &str) {
        self.report(Problem {
            title: format!("`{}` {what}", self.dotted(key)),
            span: Some(value.span()),
            allowed: allowed.to_owned(),
            elsewhere: None,
            help: None,
            is_secret: false,
        });
    }

    fn report(&self, problem: Problem) {
        self.reader.state.borrow_mut().problems.push(problem);
    }

    fn dotted(&self, key: &str) -> String {
        dotted(&self.path, key)
    }
}

impl Drop for Section<'_> {
    /// What nobody asked for is unknown.
    fn drop(&mut self) {
        let mut state = self.reader.state.borrow_mut();
        for (key, (span, _)) in std::mem::take(&mut self.entries) {
            let section = self.path.clone();
            state.unknown.push(Unknown {
                section,
                key: key.to_owned(),
                span,
            });
        }
    }
}

impl<'r> Item<'r> {
    pub(super) fn value(&self) -> &'r DeValue<'r> {
        self.value.get_ref()
    }

    /// Returns where the value is in the text.
    pub fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// Returns the items of an array.
    pub(super) fn items(&self) -> Option<impl Iterator<Item = Self> + use<'r>> {
        let DeValue::Array(items) = self.value.get_ref() else {
            return None;
        };
        let reader = self.reader;
        Some(items.iter().map(move |value| Self { reader, value }))
    }

    /// Returns the string that a table of this single key has, e.g. `{ file = "..." }`.
    pub(super) fn single(&self, key: &str) -> Option<Self> {
        let DeValue::Table(table) = self.value.get_ref() else {
            return None;
        };
        let mut entries = table.iter();
        let (only, value) = entries.next()?;
        let is_single = entries.next().is_none() && only.get_ref() == key;
        is_single.then_some(Self {
            reader: self.reader,
            value,
        })
    }

    /// Resolves a path of the text, and returns whether files are to be looked for.
    pub(super) fn resolve(&self, path: &str) -> (PathBuf, Files) {
        (
            self.reader.directory.join(Path::new(path)),
            self.reader.files,
        )
    }
}

pub(super) fn dotted(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

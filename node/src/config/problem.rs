//! What is wrong with a configuration, and how it is shown.

use std::fmt;
use std::io;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::Source;

/// Why a configuration cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// How the file is called.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is larger than [`super::TEXT_BYTES_MAX`].
    TooLarge {
        /// How the file is called.
        name: String,
    },
    /// The text has problems.
    Wrong(Problems),
}

/// The problems of one text, in the order of the text.
#[derive(Debug)]
pub struct Problems {
    name: String,
    text: String,
    /// Invariant: not empty.
    in_order: Vec<Problem>,
}

/// Whether errors are colored for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Styling {
    /// For files, pipes and tests.
    Plain,
    /// With colors.
    Terminal,
}

/// One problem.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// What is wrong, naming the key.
    pub(super) title: String,
    /// Where; `None` for the file as a whole.
    pub(super) span: Option<Range<usize>>,
    /// What is allowed.
    pub(super) allowed: String,
    /// Another place that matters, and why.
    pub(super) elsewhere: Option<(Range<usize>, String)>,
    /// What to do.
    pub(super) help: Option<String>,
    /// Whether the line holds a secret: it is named and not shown (invariant 7).
    pub(super) is_secret: bool,
}

/// A value that cannot be used: what it is not, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong, as said of the key: "is not a duration".
    pub what: String,
    /// What is allowed, shown beside the value.
    pub allowed: String,
    /// Whether the value holds a secret that must not be shown.
    pub is_secret: bool,
}

impl Wrong {
    /// Creates a judgment about a value that may be shown.
    pub fn new(what: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            allowed: allowed.into(),
            is_secret: false,
        }
    }
}

impl Wrong {
    /// Returns the same judgment about a value that must not be shown.
    #[must_use]
    pub fn of_secret(self) -> Self {
        Self {
            is_secret: true,
            ..self
        }
    }
}

impl Problem {
    /// Returns what `wrong` says, for a place that its caller knows.
    pub(super) fn of(wrong: Wrong) -> Self {
        Self {
            title: wrong.what,
            span: None,
            allowed: wrong.allowed,
            elsewhere: None,
            help: None,
            is_secret: wrong.is_secret,
        }
    }

    pub(super) fn of_syntax(error: &toml::de::Error) -> Self {
        Self {
            title: "the file is not valid TOML".to_owned(),
            span: error.span(),
            allowed: error.message().trim().replace('\n', ", "),
            elsewhere: None,
            help: None,
            is_secret: false,
        }
    }

    fn report<'a>(&'a self, name: &'a str, text: &'a str) -> Vec<Group<'a>> {
        let title = Level::ERROR.primary_title(self.title.as_str());
        let mut notes = Vec::new();
        let mut group = match &self.span {
            Some(span) if !self.is_secret => title.element(self.snippet(span, name, text)),
            span => {
                notes.push(Level::NOTE.message(&self.allowed));
                let origin = Origin::path(name);
                title.element(match span {
                    Some(span) => origin.line(line_of(span, text)),
                    None => origin,
                })
            }
        };
        notes.extend(self.help.as_ref().map(|help| Level::HELP.message(help)));
        for note in notes {
            group = group.element(note);
        }
        vec![group]
    }

    fn snippet<'a>(
        &'a self,
        span: &Range<usize>,
        name: &'a str,
        text: &'a str,
    ) -> Snippet<'a, Annotation<'a>> {
        let primary = AnnotationKind::Primary.span(visible(span, text));
        let snippet = Snippet::source(text)
            .path(name)
            .annotation(primary.label(&self.allowed));
        match &self.elsewhere {
            None => snippet,
            Some((span, label)) => {
                let context = AnnotationKind::Context.span(visible(span, text));
                snippet.annotation(context.label(label))
            }
        }
    }
}

fn line_of(span: &Range<usize>, text: &str) -> usize {
    let before = text.as_bytes().iter().take(span.start);
    before.filter(|&&byte| byte == b'\n').count() + 1
}

/// Keeps a span within the text and on its first line: an array over ten lines needs no ten lines.
fn visible(span: &Range<usize>, text: &str) -> Range<usize> {
    let start = span.start.min(text.len());
    let end = span.end.clamp(start, text.len());
    let first_line = text
        .get(start..end)
        .and_then(|s| s.find('\n'))
        .map_or(end, |at| start + at);
    start..first_line
}

impl ConfigError {
    pub(super) fn new(source: &Source, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
        Self::Wrong(Problems {
            name: source.name.clone(),
            text: text.to_owned(),
            in_order: problems,
        })
    }

    /// Returns the error as text: for each problem the line, the key, and what is allowed.
    pub fn render(&self, styling: Styling) -> String {
        let renderer = match styling {
            Styling::Plain => Renderer::plain(),
            Styling::Terminal => Renderer::styled(),
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        match self {
            Self::Unreadable { name, source } => {
                format!("error: {name} cannot be read: {source}")
            }
            Self::TooLarge { name } => {
                format!("error: {name} is larger than the 1MiB a configuration may have")
            }
            Self::Wrong(problems) => {
                let shown = problems.in_order.iter().take(PROBLEMS_SHOWN_MAX);
                let mut rendered: Vec<String> = shown
                    .map(|p| renderer.render(&p.report(&problems.name, &problems.text)))
                    .collect();
                if let Some(more) = problems.in_order.len().checked_sub(PROBLEMS_SHOWN_MAX)
                    && more > 0
                {
                    rendered.push(format!("and {more} more"));
                }
                rendered.join("\n\n")
            }
        }
    }

    /// Returns how many problems there are.
    pub fn problems(&self) -> usize {
        match self {
            Self::Unreadable { .. } | Self::TooLarge { .. } => 1,
            Self::Wrong(problems) => problems.in_order.len(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Styling::Plain))
    }
}

impl std::error::Error for ConfigError {}

/// Problems shown at once; a file that is not ours at all has thousands.
const PROBLEMS_SHOWN_MAX: usize = 50;

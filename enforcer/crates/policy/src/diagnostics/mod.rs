//! Findings about policy files, with the place they are about.
//!
//! Left out: what is found. Readers and checks make findings; here they are placed and printed.

mod draw;
mod nearest;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use nearest::nearest;

/// Past this many, more lines help nobody; the count of the rest is printed.
const MAX_RENDERED: usize = 100;

/// Findings with their places, ready to print.
#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
}

/// One thing that is wrong (`error`) or looks wrong (a warning) in a policy file.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Finding {
    pub code: &'static str,
    pub error: bool,
    pub file: String,
    /// 1-based; 0 where a finding is about a whole file
    pub line: usize,
    /// 1-based, in characters
    pub column: usize,
    pub message: String,
    pub hint: Option<String>,
    #[serde(skip)]
    cites: Vec<Cite>,
}

/// A file's name and text, for citing, and behind them those of the files it includes.
///
/// A span counts through all these texts as if they were laid end to end, so whoever has a file and a
/// span need not know which of the texts the span is of.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) name: Arc<str>,
    pub(crate) text: Arc<str>,
    /// where each line starts
    lines: Arc<[usize]>,
    included: Arc<[File]>,
}

/// Bytes of a file a person should look at.
pub(crate) type Span = Range<usize>;

#[derive(Debug, Clone)]
struct Cite {
    file: File,
    marks: Vec<Mark>,
}

#[derive(Debug, Clone)]
struct Mark {
    span: Span,
    label: Option<String>,
    primary: bool,
}

impl Report {
    /// Drawn as compilers draw: `error[E020]: …` with the cited line; `color` adds ANSI.
    pub fn render(&self, color: bool) -> String {
        let mut out = String::new();
        for finding in self.findings.iter().take(MAX_RENDERED) {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&draw::draw(finding, color));
            out.push('\n');
        }
        if let Some(more) = self.findings.len().checked_sub(MAX_RENDERED).filter(|more| *more > 0) {
            out.push_str(&format!("\nand {more} more\n"));
        }
        out
    }

    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.error)
    }

    pub(crate) fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Errors before warnings, each in the order of the files; what is found twice, in a file that two
    /// others include, once.
    pub(crate) fn sort(&mut self) {
        self.findings.sort_by(|a, b| {
            (!a.error, &a.file, a.line, a.column).cmp(&(!b.error, &b.file, b.line, b.column))
        });
        self.findings.dedup_by(|b, a| {
            (a.code, &a.file, a.line, a.column, &a.message) == (b.code, &b.file, b.line, b.column, &b.message)
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Finding {
    pub(crate) fn error(code: &'static str, file: &File, span: &Span, message: impl Into<String>) -> Self {
        Self::new(code, true, file, span, message.into())
    }

    pub(crate) fn warning(code: &'static str, file: &File, span: &Span, message: impl Into<String>) -> Self {
        Self::new(code, false, file, span, message.into())
    }

    /// About a file as a whole, where there is no line to cite.
    pub(crate) fn about(code: &'static str, file: &File, message: impl Into<String>) -> Self {
        let file = file.name.to_string();
        Finding {
            code,
            error: true,
            file,
            line: 0,
            column: 0,
            message: printable(message.into()),
            hint: None,
            cites: Vec::new(),
        }
    }

    fn new(code: &'static str, error: bool, file: &File, span: &Span, message: String) -> Self {
        let (file, span) = file.part(span);
        let (line, column) = file.position(span.start);
        let marks = vec![Mark { span, label: None, primary: true }];
        let cites = vec![Cite { file: file.clone(), marks }];
        let message = printable(message);
        Finding { code, error, file: file.name.to_string(), line, column, message, hint: None, cites }
    }

    /// Words behind the carets.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(mark) = self.cites.first_mut().and_then(|cite| cite.marks.first_mut()) {
            mark.label = Some(printable(label.into()));
        }
        self
    }

    /// A second place that belongs to the finding.
    pub(crate) fn also(mut self, file: &File, span: &Span, label: impl Into<String>) -> Self {
        let (file, span) = file.part(span);
        let mark = Mark { span, label: Some(printable(label.into())), primary: false };
        match self.cites.iter_mut().find(|cite| Arc::ptr_eq(&cite.file.text, &file.text)) {
            Some(cite) => cite.marks.push(mark),
            None => self.cites.push(Cite { file: file.clone(), marks: vec![mark] }),
        }
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(printable(hint.into()));
        self
    }
}

/// Findings quote files; what a file holds must not move the cursor of whoever reads them.
fn printable(text: String) -> String {
    let unsafe_in_a_terminal = |c: char| (c.is_control() && c != '\n') || is_bidi(c);
    if !text.contains(unsafe_in_a_terminal) {
        return text;
    }
    let escape =
        |c: char| if unsafe_in_a_terminal(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Characters that make a line read in another order than it is written.
pub(crate) fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl File {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(after).collect();
        File { name: name.into(), text: text.into(), lines, included: Arc::new([]) }
    }

    /// The same file with these behind it. Spans of it stay as they are.
    pub(crate) fn including(&self, included: Vec<File>) -> Self {
        File { included: included.into(), ..self.clone() }
    }

    /// Where the texts of these files begin, when they stand behind this one.
    pub(crate) fn starts(&self, included: &[File]) -> Vec<usize> {
        // One more than a text is long: the end of one is not the start of the next.
        let mut at = self.text.len() + 1;
        let mut starts = Vec::new();
        for file in included {
            starts.push(at);
            at += file.text.len() + 1;
        }
        starts
    }

    /// The file that a span is of, and the span in its text.
    fn part(&self, span: &Span) -> (&File, Span) {
        let starts = self.starts(&self.included);
        match starts.iter().zip(&*self.included).rfind(|(start, _)| **start <= span.start) {
            Some((start, file)) => (file, span.start - start..span.end.saturating_sub(*start)),
            None => (self, span.clone()),
        }
    }

    /// The text of a span.
    pub(crate) fn cited(&self, span: &Span) -> Option<&str> {
        let (file, span) = self.part(span);
        file.text.get(span)
    }

    /// Its own text, then those of what it includes.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.text).chain(self.included.iter().map(|file| &*file.text))
    }

    /// Line and column, both from 1, the column in characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let column = self.text.get(start..offset).map_or(0, |line| line.chars().count());
        (line, column + 1)
    }

    /// From 1.
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).max(1)
    }

    /// `file:line`, as receipts and explanations name a rule's place.
    pub(crate) fn place(&self, span: &Span) -> String {
        let (file, span) = self.part(span);
        format!("{}:{}", file.name, file.line(span.start))
    }
}

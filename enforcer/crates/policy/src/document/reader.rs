//! Taking fields out of the tree, with one wording for each way they can be wrong.
//!
//! Absent and empty are different: an absent field is the caller's to interpret, an empty one
//! (`methods:`, `methods: []`) is an error everywhere, because readers guess "none" and "all" alike.

use super::form::Shape;
use super::{At, later};
use crate::canon::shown;
use crate::diagnostics::{File, Finding, Report, Span, is_bidi, nearest};
use crate::name::Name;
use crate::yaml::{Entry, Node, Value};

/// Messages and descriptions are shown in terminals and cards.
const MAX_PROSE: usize = 1000;

pub(super) struct Reader<'a> {
    pub(super) file: &'a File,
    report: &'a mut Report,
}

/// The entries of one mapping whose keys have been checked.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n>(&'n [Entry]);

impl<'n> Fields<'n> {
    pub(super) fn all(&self) -> &'n [Entry] {
        self.0
    }

    pub(super) fn get(&self, name: &str) -> Option<&'n Entry> {
        self.0.iter().find(|entry| entry.key == name)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a File, report: &'a mut Report) -> Self {
        Reader { file, report }
    }

    pub(super) fn error(&mut self, code: &'static str, span: &Span, message: impl Into<String>) {
        self.report.push(Finding::error(code, self.file, span, message));
    }

    pub(super) fn error_with(
        &mut self,
        code: &'static str,
        span: &Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.report.push(Finding::error(code, self.file, span, message).hint(hint));
    }

    /// Two lines that do not go together.
    pub(super) fn two_places(
        &mut self,
        code: &'static str,
        first: (&Span, &str),
        second: (&Span, &str),
        message: &str,
    ) {
        let finding = Finding::error(code, self.file, first.0, message).label(first.1);
        self.report.push(finding.also(self.file, second.0, second.1));
    }

    /// What was found in another file.
    pub(super) fn add(&mut self, report: Report) {
        report.findings.into_iter().for_each(|finding| self.report.push(finding));
    }

    pub(super) fn missing(&mut self, node: &Node, message: &str, hint: &str) {
        self.error_with("E001", &node.span, message, hint);
    }

    /// A known word this version has no machinery for.
    pub(super) fn unenforced(&mut self, span: &Span, word: &str) {
        let message = format!(
            "`{word}` is part of the policy language, but this version cannot enforce it; \
             a policy that needs it is refused rather than weakened"
        );
        self.error_with("E030", span, message, later::until_then(word));
    }

    /// Checks the keys of a mapping. `None`, after saying so, where there is nothing to read.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, shape: &Shape) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            let message = format!("{} is a mapping, but here is {}", shape.what, node.kind());
            let hint = format!("write `NAME: VALUE` with {}", shape.listed());
            self.error_with("E001", &node.span, message, hint);
            return None;
        };
        if entries.is_empty() {
            self.error("E001", &node.span, format!("{} is empty; remove it or fill it", shape.what));
            return None;
        }
        for entry in entries {
            self.check_key(entry, shape);
        }
        Some(Fields(entries))
    }

    pub(super) fn section<'n>(&mut self, entry: &'n Entry, shape: &Shape) -> Option<Fields<'n>> {
        if matches!(entry.value.value, Value::Null) {
            self.empty(entry);
            return None;
        }
        self.fields(&entry.value, shape)
    }

    fn check_key(&mut self, entry: &Entry, shape: &Shape) {
        let word = entry.key.as_str();
        if shape.names().any(|known| known == word) {
            return;
        }
        if shape.later.contains(&word) {
            return self.unenforced(&entry.key_span, word);
        }
        let message = format!("unknown field `{}` in {}", shown(word), shape.what);
        let hint = match nearest(word, shape.names().chain(shape.later.iter().copied())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", shape.listed()),
        };
        self.error_with("E001", &entry.key_span, message, hint);
    }

    /// The text of a single value.
    pub(super) fn text(&mut self, entry: &Entry) -> Option<At<String>> {
        match &entry.value.value {
            Value::Null => self.empty(entry),
            _ => return self.item(&entry.key, &entry.value),
        }
        None
    }

    /// A single value, alone or out of a list.
    pub(super) fn item(&mut self, field: &str, node: &Node) -> Option<At<String>> {
        match &node.value {
            Value::Scalar(text) => Some(At { value: text.clone(), span: node.span.clone() }),
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.error(
                    "E001",
                    &node.span,
                    format!("`{field}` takes a single value, but here is {}", node.kind()),
                );
                None
            }
        }
    }

    /// One value or a list of values; never empty where nothing was reported.
    pub(super) fn one_or_list(&mut self, entry: &Entry) -> Vec<At<String>> {
        let nodes = match &entry.value.value {
            Value::List(_) => self.list(entry),
            Value::Null => {
                self.empty(entry);
                return Vec::new();
            }
            Value::Scalar(_) | Value::Map(_) => std::slice::from_ref(&entry.value),
        };
        nodes.iter().filter_map(|node| self.item(&entry.key, node)).collect()
    }

    pub(super) fn list<'n>(&mut self, entry: &'n Entry) -> &'n [Node] {
        match &entry.value.value {
            Value::List(items) if !items.is_empty() => return items,
            Value::List(_) => {
                let message =
                    format!("`{}` is an empty list, which could be read as none or as all", entry.key);
                self.error_with(
                    "E001",
                    &entry.value.span,
                    message,
                    format!("remove `{}` or fill it", entry.key),
                );
            }
            Value::Null => self.empty(entry),
            Value::Scalar(_) | Value::Map(_) => {
                let message = format!("`{}` takes a list, but here is {}", entry.key, entry.value.kind());
                self.error_with("E001", &entry.value.span, message, "start each item with `- `");
            }
        }
        &[]
    }

    pub(super) fn name(&mut self, entry: &Entry) -> Option<At<Name>> {
        let text = self.text(entry)?;
        self.parse_name(&text.value, &text.span)
    }

    pub(super) fn parse_name(&mut self, text: &str, span: &Span) -> Option<At<Name>> {
        match Name::parse(text) {
            Ok(value) => Some(At { value, span: span.clone() }),
            Err(error) => {
                self.error("E001", span, error.to_string());
                None
            }
        }
    }

    /// Text for people. It reaches terminals, cards and agents, so nothing in it may move a cursor or turn a line round.
    pub(super) fn prose(&mut self, entry: &Entry) -> Option<String> {
        let text = self.text(entry)?;
        if text.value.chars().any(|c| (c.is_control() && c != '\n') || is_bidi(c)) {
            self.error("E001", &text.span, format!("`{}` holds a control character", entry.key));
            return None;
        }
        if text.value.chars().count() > MAX_PROSE {
            self.error("E001", &text.span, format!("`{}` is longer than {MAX_PROSE} characters", entry.key));
            return None;
        }
        Some(text.value)
    }

    /// One of a few words; those in `later` are known but not enforced.
    pub(super) fn choice<T: Copy>(
        &mut self,
        entry: &Entry,
        words: &[(&str, T)],
        later: &[&str],
    ) -> Option<T> {
        let text = self.text(entry)?;
        if later.contains(&text.value.as_str()) {
            self.unenforced(&text.span, &format!("{}: {}", entry.key, text.value));
            return None;
        }
        self.word_or(&entry.key, &text, words, later)
    }

    /// The same of a text out of a list.
    pub(super) fn word<T: Copy>(&mut self, field: &str, text: &At<String>, words: &[(&str, T)]) -> Option<T> {
        self.word_or(field, text, words, &[])
    }

    fn word_or<T: Copy>(
        &mut self,
        field: &str,
        text: &At<String>,
        words: &[(&str, T)],
        later: &[&str],
    ) -> Option<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let expected: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!(
            "`{}` is not a value of `{field}`, expected {}",
            shown(&text.value),
            expected.join(" or ")
        );
        match nearest(&text.value, expected.iter().chain(later).copied()) {
            Some(near) => self.error_with("E001", &text.span, message, format!("did you mean `{near}`?")),
            None => self.error("E001", &text.span, message),
        }
        None
    }

    pub(super) fn empty(&mut self, entry: &Entry) {
        let message = format!("`{}` has no value", shown(&entry.key));
        self.error_with(
            "E001",
            &entry.key_span,
            message,
            format!("remove `{}` or give it a value", shown(&entry.key)),
        );
    }
}

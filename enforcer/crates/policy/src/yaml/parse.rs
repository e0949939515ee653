//! Events to tree.

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle};

use super::{Entry, Node, Value, words};
use crate::diagnostics::{File, Finding, Report, Span};

/// The deepest construct of the language is 7 levels deep.
const MAX_DEPTH: usize = 32;

/// The root of the one document in the file. Findings go to `report`; `None` if the text is not YAML
/// at all. A tree that comes with findings has holes.
pub(crate) fn parse(file: &File, report: &mut Report) -> Option<Node> {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder { file, report, open: Vec::new(), root: None, documents: 0 };
    for item in Parser::new_from_str_with_options(&file.text, options) {
        match item {
            Ok((event, span)) => {
                let span = span.byte_range().unwrap_or_default();
                if builder.take(event, span).is_none() {
                    return builder.root;
                }
            }
            Err(error) => {
                let finding = words::translate(file, &error);
                builder.report.push(finding);
                return None;
            }
        }
    }
    if builder.root.is_none() {
        let finding = Finding::about("E001", file, "the file is empty")
            .hint("a policy starts with `version: 1` and `agent: NAME`");
        builder.report.push(finding);
    }
    builder.root
}

struct Builder<'a> {
    file: &'a File,
    report: &'a mut Report,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

enum Open {
    List { start: usize, items: Vec<Node> },
    Map { start: usize, entries: Vec<Entry>, key: Option<(String, Span)> },
}

impl Builder<'_> {
    /// `None` ends the reading early.
    fn take(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a file holds one policy, but a second document starts here";
                    self.error(&span, message, Some("put each agent into a file of its own"));
                    return None;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.check_properties(&span, anchor != 0, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let value = if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    Value::Scalar(text.into_owned())
                };
                self.node(Node { span, value, quoted: !plain });
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_properties(&span, anchor != 0, tag.is_some());
                self.open.push(Open::List { start: span.start, items: Vec::new() });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_properties(&span, anchor != 0, tag.is_some());
                self.open.push(Open::Map { start: span.start, entries: Vec::new(), key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span.end),
            Event::UnresolvedAlias(name) => {
                let hint = format!("write \"*{name}\"; in YAML a bare `*` refers to an anchor");
                self.error(&span, "a value that starts with `*` must be in quotes", Some(&hint));
                self.node(Node { span, value: Value::Null, quoted: false });
            }
            Event::Alias(_) => {
                self.error(
                    &span,
                    "aliases (`*name`) are not part of the policy language",
                    Some("write the value out"),
                );
                self.node(Node { span, value: Value::Null, quoted: false });
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            // Comments and anchor events were not asked for; a kind of event added later must not slip by.
            _ => self.error(&span, "this is YAML the policy language has no use for", None),
        }
        Some(())
    }

    fn node(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some((key, key_span)) => entries.push(Entry { key, key_span, value: node }),
                None => {
                    let (text, complaint) = match node.value {
                        Value::Scalar(text) if text == "<<" => {
                            (text, Some("merge keys (`<<`) are not part of the policy language"))
                        }
                        Value::Scalar(text) => (text, None),
                        Value::Null => (String::new(), Some("a key is missing here")),
                        Value::List(_) | Value::Map(_) => {
                            (String::new(), Some("a key must be a single word"))
                        }
                    };
                    let first =
                        entries.iter().find(|entry| entry.key == text).map(|entry| entry.key_span.clone());
                    *key = Some((text.clone(), node.span.clone()));
                    if let Some(complaint) = complaint {
                        self.error(&node.span, complaint, None);
                    } else if let Some(first) = first {
                        let finding = Finding::error(
                            "E001",
                            self.file,
                            &node.span,
                            format!("the same key is written twice: {text}"),
                        )
                        .also(self.file, &first, "first")
                        .hint("join the two, or remove one");
                        self.report.push(finding);
                    }
                }
            },
        }
    }

    fn close(&mut self, end: usize) {
        let node = match self.open.pop() {
            Some(Open::List { start, items }) => {
                Node { span: start..end.max(start), value: Value::List(items), quoted: false }
            }
            Some(Open::Map { start, entries, key: _ }) => {
                Node { span: start..end.max(start), value: Value::Map(entries), quoted: false }
            }
            None => return,
        };
        self.node(node);
    }

    fn check_properties(&mut self, span: &Span, anchor: bool, tag: bool) {
        if anchor {
            self.error(
                span,
                "anchors (`&name`) are not part of the policy language",
                Some("write the value out"),
            );
        }
        if tag {
            self.error(
                span,
                "tags (`!name`) are not part of the policy language",
                Some("a text is written in quotes"),
            );
        }
    }

    fn error(&mut self, span: &Span, message: &str, hint: Option<&str>) {
        let mut finding = Finding::error("E001", self.file, span, message);
        if let Some(hint) = hint {
            finding = finding.hint(hint);
        }
        self.report.push(finding);
    }
}

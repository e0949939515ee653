//! YAML text as a tree in which every node knows its place.
//!
//! Built on the event parser of serde-saphyr rather than on serde: serde stops at the first type
//! error, hides tags and anchors, and loses the places of keys. The readers in `document` need all
//! errors at once and each with its place.
//!
//! Taken from YAML: block and flow mappings and lists, plain, quoted and block texts, comments.
//! Refused: anchors, aliases, tags, merge keys, directives, several documents, duplicate keys.

mod parse;
#[cfg(test)]
mod tests;
mod words;
mod write;

pub(crate) use parse::parse;
pub(crate) use write::{flow, mapping, quoted, word};

use crate::diagnostics::Span;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// A scalar in quotes (or as a block). Only where a value stands for one of a request, which may have
    /// types, is there a difference.
    pub(crate) quoted: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// No text at all, or a plain `null` or `~`.
    Null,
    /// The words of the language decide what a text means; `1` and `"1"` are the same here.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

impl Entry {
    /// A field as if it stood there.
    pub(crate) fn said(key: &str, value: &str, at: &Span) -> Entry {
        let value = Node { span: at.clone(), value: Value::Scalar(value.to_owned()), quoted: false };
        Entry { key: key.to_owned(), key_span: at.clone(), value }
    }
}

impl Node {
    /// Moves every place in it, for a file whose text stands behind others.
    pub(crate) fn shift(&mut self, by: usize) {
        self.visit(&mut |span| *span = span.start + by..span.end + by);
    }

    /// Takes everything in it to be written at one place.
    pub(crate) fn placed(&mut self, at: &Span) {
        self.visit(&mut |span| *span = at.clone());
    }

    fn visit(&mut self, change: &mut impl FnMut(&mut Span)) {
        change(&mut self.span);
        match &mut self.value {
            Value::Null | Value::Scalar(_) => {}
            Value::List(items) => items.iter_mut().for_each(|item| item.visit(change)),
            Value::Map(entries) => {
                for entry in entries {
                    change(&mut entry.key_span);
                    entry.value.visit(change);
                }
            }
        }
    }

    /// What a reader who expected something else is told they wrote.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

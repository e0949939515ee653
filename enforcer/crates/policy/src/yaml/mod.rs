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

pub(crate) use parse::parse;

use crate::diagnostics::Span;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// A scalar in quotes (or as a block). Only where a value stands for one of a request, which may have
    /// types, is there a difference.
    pub(crate) quoted: bool,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// No text at all, or a plain `null` or `~`.
    Null,
    /// The words of the language decide what a text means; `1` and `"1"` are the same here.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

impl Node {
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

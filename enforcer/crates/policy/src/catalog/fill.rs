//! `${setting}` in the values of a catalogue or a preset.
//!
//! Whole nodes are replaced, never text that is read as YAML afterwards, so a setting cannot become a key.

use std::collections::BTreeMap;

use super::{Given, Setting};
use crate::diagnostics::Span;
use crate::yaml::{Entry, Node, Value};

/// By name. `None`: optional, and not given.
pub(crate) type Settings = BTreeMap<String, Option<Node>>;

impl Setting {
    /// Where nobody gives a value, for checking a catalogue and for telling what it is about.
    pub(crate) fn stand_in(&self) -> Option<Node> {
        match &self.given {
            Given::Default(value) | Given::Needed { example: value } => Some(value.clone()),
            Given::Optional { example } => example.clone(),
        }
    }

    /// With its values placed where a file names what has it.
    pub(crate) fn placed(&self, at: &Span) -> Setting {
        let mut setting = self.clone();
        match &mut setting.given {
            Given::Default(value)
            | Given::Needed { example: value }
            | Given::Optional { example: Some(value) } => value.placed(at),
            Given::Optional { example: None } => {}
        }
        setting
    }

    /// As a person would write it.
    pub(crate) fn example(&self) -> Option<String> {
        let node = self.stand_in()?;
        let texts = super::texts_of(&node);
        Some(match texts.as_slice() {
            [one] => format!("\"{one}\""),
            many => {
                format!("[{}]", many.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", "))
            }
        })
    }
}

/// The node with settings in place. `Ok(None)`: it goes, because a setting that it needs is optional and not
/// given. `Err`: the setting that is needed and missing.
pub(crate) fn fill(node: &Node, settings: &Settings) -> Result<Option<Node>, String> {
    let value = match &node.value {
        Value::Null => Value::Null,
        Value::Scalar(text) => return scalar(node, text, settings),
        Value::List(items) => {
            let mut filled = Vec::new();
            for item in items {
                match fill(item, settings)? {
                    // A list where one item stood.
                    Some(Node { value: Value::List(inner), .. }) if is_text(item) => filled.extend(inner),
                    Some(item) => filled.push(item),
                    None => {}
                }
            }
            if filled.is_empty() && !items.is_empty() {
                return Ok(None);
            }
            Value::List(filled)
        }
        Value::Map(entries) => {
            let mut filled = Vec::new();
            for entry in entries {
                if let Some(value) = fill(&entry.value, settings)? {
                    filled.push(Entry { value, ..entry.clone() });
                }
            }
            Value::Map(filled)
        }
    };
    Ok(Some(Node { value, ..node.clone() }))
}

fn is_text(node: &Node) -> bool {
    matches!(node.value, Value::Scalar(_))
}

/// The first `${name}`: what is before it, the name, what is after.
fn first(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${")?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

fn scalar(node: &Node, text: &str, settings: &Settings) -> Result<Option<Node>, String> {
    let mut texts = vec![Node { value: Value::Scalar(String::new()), ..node.clone() }];
    let mut many = false;
    let mut rest = text;
    while let Some((before, name, after)) = first(rest) {
        let Some(value) = settings.get(name) else { return Err(name.to_owned()) };
        let Some(value) = value else { return Ok(None) };
        if rest == text && before.is_empty() && after.is_empty() {
            return Ok(Some(value.clone()));
        }
        let values = match &value.value {
            Value::List(items) => {
                many = true;
                items.as_slice()
            }
            Value::Null | Value::Scalar(_) | Value::Map(_) => std::slice::from_ref(value),
        };
        texts = texts
            .iter()
            .flat_map(|start| values.iter().map(move |value| joined(start, before, value)))
            .collect();
        rest = after;
    }
    for text in &mut texts {
        if let Value::Scalar(text) = &mut text.value {
            text.push_str(rest);
        }
    }
    match texts.pop() {
        Some(one) if !many => Ok(Some(one)),
        last => {
            texts.extend(last);
            Ok(Some(Node { value: Value::List(texts), ..node.clone() }))
        }
    }
}

/// Readers have made sure that settings are texts or lists of texts.
fn joined(start: &Node, before: &str, value: &Node) -> Node {
    let text = |node: &Node| match &node.value {
        Value::Scalar(text) => text.clone(),
        Value::Null | Value::List(_) | Value::Map(_) => String::new(),
    };
    // Where a value is wrong, it is the one who gave it that can change it.
    Node {
        value: Value::Scalar(text(start) + before + &text(value)),
        span: value.span.clone(),
        quoted: start.quoted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::{File, Report};
    use crate::yaml::parse;

    fn node(text: &str) -> Node {
        parse(&File::new("f", text), &mut Report::default()).unwrap()
    }

    fn plain(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".into(),
            Value::Scalar(text) => text.clone(),
            Value::List(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(",")),
            Value::Map(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|e| format!("{}:{}", e.key, plain(&e.value))).collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    #[test]
    fn settings_stand_where_they_are_named() {
        let settings: Settings = [
            ("one".to_owned(), Some(node("x"))),
            ("list".to_owned(), Some(node("[a, b]"))),
            ("none".to_owned(), None),
            ("tricky".to_owned(), Some(node("\"${one}: [y]\""))),
        ]
        .into();
        for (text, expected) in [
            ("\"${one}\"", "x"),
            ("\"${one}.${list}.z\"", "[x.a.z,x.b.z]"),
            ("\"${list}${list}\"", "[aa,ab,ba,bb]"),
            ("[p, \"${list}\", \"-${one}\"]", "[p,a,b,-x]"),
            ("{ k: \"${one}\", l: \"${none}\", m: [\"${none}\"] }", "{k:x}"),
            ("{ k: \"${tricky}\" }", "{k:${one}: [y]}"),
            ("\"$one {one}\"", "$one {one}"),
        ] {
            assert_eq!(plain(&fill(&node(text), &settings).unwrap().unwrap()), expected, "{text}");
        }
        assert!(fill(&node("\"${none}\""), &settings).unwrap().is_none());
        assert_eq!(fill(&node("[\"${other}\"]"), &settings).unwrap_err(), "other");
    }
}

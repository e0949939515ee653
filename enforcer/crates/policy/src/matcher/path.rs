//! Places in a JSON value: `head.repo.name`, `items[*].price`, with or without `$.` before.

use std::fmt;

use super::check::Value;
use crate::body::{Entry, Json};

/// A place, or with `[*]` several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonPath {
    text: Box<str>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(Box<str>),
    Each,
}

impl JsonPath {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let malformed = || {
            format!(
                "`{}` is not a place in a body; write for example `head.repo` or `items[*].price`",
                crate::canon::shown(text)
            )
        };
        let rest = match text.strip_prefix('$') {
            Some(rest) => rest.strip_prefix('.').unwrap_or(rest),
            None => text,
        };
        let mut steps = Vec::new();
        for part in rest.split('.') {
            let (key, mut each) = part.split_at(part.find('[').unwrap_or(part.len()));
            // Only the root may be a list itself.
            if !key.is_empty() {
                if key.contains([']', '*', '"', '\'', '$']) || key.chars().any(char::is_control) {
                    return Err(malformed());
                }
                steps.push(Step::Key(key.into()));
            } else if each.is_empty() || !steps.is_empty() {
                return Err(malformed());
            }
            while let Some(after) = each.strip_prefix("[*]") {
                steps.push(Step::Each);
                each = after;
            }
            if !each.is_empty() {
                return Err(malformed());
            }
        }
        Ok(JsonPath { text: text.into(), steps })
    }

    /// What is there. Nothing: nothing is.
    pub(crate) fn values<'a>(&self, root: &'a Json) -> Vec<Value<'a>> {
        let mut values = Vec::new();
        walk(&self.steps, root, &mut values);
        values
    }
}

fn walk<'a>(steps: &[Step], json: &'a Json, values: &mut Vec<Value<'a>>) {
    let Some((step, rest)) = steps.split_first() else { return values.push(Value::Json(json)) };
    match (step, json) {
        (Step::Key(key), Json::Map(_)) => match json.get(key) {
            Entry::Missing => {}
            Entry::One(inner) => walk(rest, inner, values),
            Entry::Unclear => values.push(Value::Unclear),
        },
        (Step::Each, Json::List(items)) => items.iter().for_each(|item| walk(rest, item, values)),
        (Step::Key(_) | Step::Each, Json::Null) => {}
        // Not of the shape the rule speaks of; what the server makes of it is not known.
        (Step::Key(_) | Step::Each, _) => values.push(Value::Unclear),
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

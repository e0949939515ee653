//! `response:` of a rule: what is taken out of an answer, how large it may be, and of what type.

use std::sync::Arc;

use super::fields::{REDACT, RESPONSE};
use super::form::{Text, text};
use super::reader::Reader;
use super::{At, values};
use crate::canon::shown;
use crate::policy::{JsonPath, Pattern, ResponseRules, Step};
use crate::yaml::{Entry, Node};

pub(super) const MEDIA_TYPE: Text =
    text("^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$", &["application/json"]);
pub(super) const FIELD: Text = text("^[^$.\\[][^.\\[]*$", &["email"]);
pub(super) const JSON_PATH: Text =
    text(r#"^\$(\.[^.\[]+|\[\*\]|\[[0-9]+\]|\["[^"\\]+"\])+$"#, &["$.items[*].email"]);

/// A key of a real API is far shorter; the redactor holds this much of one.
const MAX_KEY: usize = 128;
const MAX_STEPS: usize = 32;

pub(super) fn read(r: &mut Reader<'_>, entry: &Entry) -> Option<Arc<ResponseRules>> {
    let fields = r.section(entry, &RESPONSE)?;
    let mut rules = ResponseRules {
        max_body: fields.get("max_body").and_then(|entry| values::size(r, entry)),
        ..ResponseRules::default()
    };
    if let Some(entry) = fields.get("content_types") {
        for text in r.one_or_list(entry) {
            if let Some(media_type) = media_type(r, &text) {
                rules.content_types.push(media_type);
            }
        }
    }
    if let Some(entry) = fields.get("redact") {
        for node in r.list(entry) {
            redact(r, node, &mut rules);
        }
    }
    Some(Arc::new(rules))
}

fn redact(r: &mut Reader<'_>, node: &Node, rules: &mut ResponseRules) {
    let Some(fields) = r.fields(node, &REDACT) else { return };
    for text in fields.get("fields").map(|entry| r.one_or_list(entry)).unwrap_or_default() {
        if key(r, &text) {
            rules.fields.push(text.value.to_lowercase().into());
        }
    }
    for text in fields.get("json").map(|entry| r.one_or_list(entry)).unwrap_or_default() {
        match json_path(&text.value) {
            Some(path) => rules.json.push(path),
            None => r.error_with(
                "E001",
                &text.span,
                format!("`{}` is not a path into JSON", shown(&text.value)),
                "write for example `$.user.email`, `$.items[*].owner` or `$[\"odd key\"]`",
            ),
        }
    }
    if let Some(entry) = fields.get("pattern") {
        let words = [("email", Pattern::Email), ("card_number", Pattern::CardNumber)];
        for node in r.one_or_list(entry) {
            if let Some(pattern) = r.word("pattern", &node, &words) {
                rules.patterns.push(pattern);
            }
        }
    }
    for text in fields.get("headers").map(|entry| r.one_or_list(entry)).unwrap_or_default() {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.value.is_empty() || text.value.len() > MAX_KEY || !text.value.bytes().all(token) {
            r.error("E001", &text.span, format!("`{}` is not a header name", shown(&text.value)));
        } else {
            rules.headers.push(text.value.to_ascii_lowercase().into());
        }
    }
}

fn key(r: &mut Reader<'_>, text: &At<String>) -> bool {
    let good = !text.value.is_empty() && text.value.chars().count() <= MAX_KEY;
    if !good {
        let message = format!("`{}` is not a field name, 1 to {MAX_KEY} characters", shown(&text.value));
        r.error("E001", &text.span, message);
    } else if text.value.starts_with('$') || text.value.contains(['.', '[']) {
        let message = format!("`{}` looks like a path; `fields` are names, at any depth", shown(&text.value));
        r.error_with("E001", &text.span, message, "write paths as `json: \"$.user.email\"`");
        return false;
    }
    good
}

/// `$`, then `.name`, `.*`, `[*]`, `[0]` or `["name"]`, at least one.
pub(super) fn json_path(text: &str) -> Option<JsonPath> {
    let mut rest = text.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let step;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, left) = after.split_at(end);
            let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
            step = match name {
                "*" => Step::Any,
                _ if plain && !name.is_empty() => Step::Key(name.into()),
                _ => return None,
            };
            rest = left;
        } else {
            let (inside, left) = bracket(rest)?;
            step = if inside == "*" {
                Step::Any
            } else if let Some(name) = inside.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
                (!name.is_empty() && !name.contains(['"', '\\'])).then(|| Step::Key(name.into()))?
            } else {
                let digits = !inside.is_empty() && inside.bytes().all(|b| b.is_ascii_digit());
                Step::Index(digits.then(|| inside.parse().ok()).flatten()?)
            };
            rest = left;
        }
        if matches!(&step, Step::Key(name) if name.chars().count() > MAX_KEY) {
            return None;
        }
        steps.push(step);
    }
    (1..=MAX_STEPS).contains(&steps.len()).then(|| JsonPath { text: text.into(), steps })
}

/// What stands between the brackets, and what is behind them. A name may hold a bracket.
fn bracket(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('[')?;
    match inside.strip_prefix('"') {
        Some(name) => {
            let end = name.find("\"]")?;
            // Both quotes.
            Some((inside.get(..end + 2)?, inside.get(end + 3..)?))
        }
        None => inside.split_once(']'),
    }
}

/// `text/html`: without parameters, in lower case.
fn media_type(r: &mut Reader<'_>, text: &At<String>) -> Option<Box<str>> {
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match text.value.split_once('/') {
        Some((kind, sub)) if token(kind) && token(sub) => Some(text.value.to_ascii_lowercase().into()),
        _ => {
            r.error_with(
                "E001",
                &text.span,
                format!("`{}` is not a content type", shown(&text.value)),
                "write for example `application/json`, without `*` and without `; charset=…`",
            );
            None
        }
    }
}

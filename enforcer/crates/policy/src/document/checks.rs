//! The checks of a rule: `query`, `headers`, `form`, `json`, each a mapping of places to tests.

use super::reader::{Fields, Reader};
use super::rule::Effect;
use super::values;
use super::{fields, git, graphql, mcp};
use crate::body::Number;
use crate::canon::shown;
use crate::diagnostics::Span;
use crate::matcher::{Check, Checks, Field, Glob, JsonPath, Kind, Literal, Pattern, Place, Stops, Test};
use crate::yaml::{Entry, Node, Value};

/// These are taken out or written anew before a request is sent, so what a rule sees in them means nothing.
const NOT_SENT: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "accept-encoding",
    "range",
    "if-range",
];

pub(super) fn read(r: &mut Reader<'_>, fields: Fields<'_>, effect: Effect) -> Checks {
    let mut checks = Checks::default();
    if let Some(entry) = fields.get("query") {
        checks.query = named(r, entry, |_, entry| Some(entry.key.clone()));
    }
    if let Some(entry) = fields.get("headers") {
        checks.headers = named(r, entry, header_name);
    }
    if let Some(entry) = fields.get("form") {
        checks.form = named(r, entry, |_, entry| Some(entry.key.clone()));
    }
    if let Some(entry) = fields.get("json") {
        checks.json = places(r, entry);
    }
    checks.graphql = fields.get("graphql").and_then(|entry| graphql::read(r, entry, effect));
    checks.mcp = fields.get("mcp").and_then(|entry| mcp::read(r, entry));
    checks.jsonrpc = fields.get("jsonrpc").and_then(|entry| mcp::read_rpc(r, entry));
    checks.git = fields.get("git").and_then(|entry| git::read(r, entry, effect));
    conflicts(r, fields, &checks, effect);
    checks
}

/// What cannot both be so.
fn conflicts(r: &mut Reader<'_>, fields: Fields<'_>, checks: &Checks, effect: Effect) {
    // JSON bodies first: several of these may be meant for one.
    let kinds = [&["json", "graphql", "mcp", "jsonrpc"][..], &["form"], &["git"]];
    let there = |names: &[&str]| names.iter().find_map(|name| fields.get(name));
    let mut present = kinds.iter().filter_map(|names| there(names));
    if let (Some(one), Some(other)) = (present.next(), present.next()) {
        let message = format!("`{}` and `{}` stand in one rule, which no body can meet", one.key, other.key);
        r.error_with("E022", &other.key_span, message, "a body is one or the other; write a rule for each");
    }
    if effect == Effect::Allow
        && checks.wanted().is_some()
        && let Some(websocket) = fields.get("websocket")
    {
        let hint = "the messages of a WebSocket are not looked into; make it a rule of its own";
        r.error_with(
            "E022",
            &websocket.key_span,
            "a rule that looks into bodies cannot allow WebSockets",
            hint,
        );
    }
}

fn named(
    r: &mut Reader<'_>,
    entry: &Entry,
    name: fn(&mut Reader<'_>, &Entry) -> Option<String>,
) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for entry in keys(r, entry) {
        let (name, check) = (name(r, entry), check(r, entry));
        if let (Some(name), Some(check)) = (name, check) {
            fields.push(Field { name, check });
        }
    }
    fields
}

pub(super) fn header_name(r: &mut Reader<'_>, entry: &Entry) -> Option<String> {
    let name = entry.key.to_ascii_lowercase();
    let token = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if !token {
        r.error("E001", &entry.key_span, format!("`{}` is not a header name", shown(&entry.key)));
        return None;
    }
    if NOT_SENT.contains(&name.as_str()) {
        let message =
            format!("`{name}` is written anew for the server, so no rule can rely on what the agent wrote");
        r.error("E001", &entry.key_span, message);
        return None;
    }
    Some(name)
}

/// Places in a JSON value and what has to be there.
pub(super) fn places(r: &mut Reader<'_>, entry: &Entry) -> Vec<Place> {
    let mut places = Vec::new();
    for entry in keys(r, entry) {
        let path = match JsonPath::parse(&entry.key) {
            Ok(path) => Some(path),
            Err(why) => {
                r.error("E001", &entry.key_span, why);
                None
            }
        };
        if let (Some(path), Some(check)) = (path, check(r, entry)) {
            places.push(Place { path, check });
        }
    }
    places
}

/// The entries of a mapping whose keys are the writer's own words.
pub(super) fn keys<'n>(r: &mut Reader<'_>, entry: &'n Entry) -> &'n [Entry] {
    match &entry.value.value {
        Value::Map(entries) if !entries.is_empty() => return entries,
        Value::Null => r.empty(entry),
        Value::Map(_) => {
            r.error("E001", &entry.value.span, format!("`{}` is empty; remove it or fill it", entry.key))
        }
        Value::Scalar(_) | Value::List(_) => {
            let message = format!("`{}` is a mapping, but here is {}", entry.key, entry.value.kind());
            r.error_with(
                "E001",
                &entry.value.span,
                message,
                "write for example `{ NAME: { equals: VALUE } }`",
            );
        }
    }
    &[]
}

pub(super) fn check(r: &mut Reader<'_>, entry: &Entry) -> Option<Check> {
    if let Value::Scalar(text) = &entry.value.value {
        let message = format!("`{}` needs a test, but here is a single value", shown(&entry.key));
        r.error_with(
            "E001",
            &entry.value.span,
            message,
            format!("did you mean `{{ equals: {} }}`?", shown(text)),
        );
        return None;
    }
    if let Value::List(_) = &entry.value.value {
        let message = format!("`{}` needs a test, but here is a list", shown(&entry.key));
        r.error_with("E001", &entry.value.span, message, "did you mean `{ in: […] }`?");
        return None;
    }
    let shape = &fields::CHECK;
    let read = r.section(entry, shape)?;
    let mut tests = Vec::new();
    for name in shape.names() {
        if let Some(entry) = read.get(name) {
            tests.push(test(r, name, entry));
        }
    }
    if let (Some(exists), 2..) = (read.get("exists"), tests.len()) {
        let hint = "every other test asks that the value is there";
        r.error_with("E022", &exists.key_span, "`exists` stands beside another test", hint);
        return None;
    }
    let tests: Option<Vec<Test>> = tests.into_iter().collect();
    tests.filter(|tests| !tests.is_empty()).map(Check)
}

fn test(r: &mut Reader<'_>, name: &str, entry: &Entry) -> Option<Test> {
    match name {
        "equals" => literal(r, entry, &entry.value).map(Test::Equals),
        "in" => literals(r, entry).map(Test::In),
        "not_in" => literals(r, entry).map(Test::NotIn),
        "glob" => globs(r, entry, Stops::ListItems).map(Test::Glob),
        "matches" => {
            let text = r.text(entry)?;
            match Pattern::parse(&text.value) {
                Ok(pattern) => Some(Test::Matches(pattern)),
                Err(why) => {
                    let message = format!("the regular expression of `matches` cannot be used: {why}");
                    r.error_with(
                        "E001",
                        &text.span,
                        message,
                        "it has to match the whole value; look-around and back-references are not part of it",
                    );
                    None
                }
            }
        }
        "max" => number(r, entry).map(Test::Max),
        "min" => number(r, entry).map(Test::Min),
        "max_length" => values::count(r, entry).map(Test::MaxLength),
        "exists" => r.choice(entry, &[("true", true), ("false", false)], &[]).map(Test::Exists),
        // `fields::CHECK` has no other.
        _ => None,
    }
}

/// One or more texts with `*` in them.
pub(super) fn globs(r: &mut Reader<'_>, entry: &Entry, stops: Stops) -> Option<Vec<Glob>> {
    let texts = r.one_or_list(entry);
    let mut globs = Vec::new();
    for text in texts {
        glob(r, &text.value, &text.span, stops).into_iter().for_each(|glob| globs.push(glob));
    }
    (!globs.is_empty()).then_some(globs)
}

pub(super) fn one_glob(r: &mut Reader<'_>, entry: &Entry, stops: Stops) -> Option<Glob> {
    let text = r.text(entry)?;
    glob(r, &text.value, &text.span, stops)
}

/// A glob runs in (its length × that of the value) steps.
const MAX_GLOB: usize = 256;

fn glob(r: &mut Reader<'_>, text: &str, span: &Span, stops: Stops) -> Option<Glob> {
    if text.is_empty() || text.chars().count() > MAX_GLOB {
        r.error("E001", span, format!("a pattern has from 1 to {MAX_GLOB} characters"));
        return None;
    }
    Some(Glob::new(text, stops))
}

fn number(r: &mut Reader<'_>, entry: &Entry) -> Option<Number> {
    let text = r.text(entry)?;
    let number = Number::parse(&text.value);
    if number.is_none() {
        let message = format!("`{}` is not a number", shown(&text.value));
        r.error_with(
            "E001",
            &text.span,
            message,
            "write digits, with a point where there is a fraction: `5000`, `0.5`",
        );
    }
    number
}

fn literals(r: &mut Reader<'_>, entry: &Entry) -> Option<Vec<Literal>> {
    let nodes = match &entry.value.value {
        Value::List(_) => r.list(entry),
        Value::Null | Value::Scalar(_) | Value::Map(_) => std::slice::from_ref(&entry.value),
    };
    let literals: Option<Vec<Literal>> = nodes.iter().map(|node| literal(r, entry, node)).collect();
    literals.filter(|literals| !literals.is_empty())
}

/// Unquoted `5`, `true` and `null` are a number, a truth value and nothing; in quotes they are texts.
fn literal(r: &mut Reader<'_>, entry: &Entry, node: &Node) -> Option<Literal> {
    let text = match &node.value {
        // As written, `~` too.
        Value::Null if r.file.cited(&node.span) == Some("null") => "null".to_owned(),
        Value::Null | Value::Scalar(_) | Value::List(_) | Value::Map(_) => r.item(&entry.key, node)?.value,
    };
    let kind = match Number::parse(&text) {
        _ if node.quoted => Kind::Text,
        Some(number) => Kind::Number(number),
        None if matches!(text.as_str(), "true" | "false" | "null") => Kind::Word,
        None => Kind::Text,
    };
    Some(Literal { text, kind })
}

//! The entries of `tests:`, each a request and what should become of it.

use super::reader::{Fields, Reader};
use super::{At, checks, fields};
use crate::body::{Body, Number, Unreadable};
use crate::canon::{Headers, Request, shown};
use crate::window::Moment;
use crate::yaml::{Entry, Node, Value};

/// An entry of `tests:`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) request: At<Request>,
    pub(crate) allow: bool,
    pub(crate) by: Option<At<String>>,
    /// `ANY` where none is named: a test must not pass or fail by the time of day
    pub(crate) at: Moment,
}

pub(super) fn read_all(r: &mut Reader<'_>, entry: &Entry) -> Vec<Case> {
    let mut cases = Vec::new();
    for node in r.list(entry) {
        let Some(fields) = r.fields(node, &fields::TEST) else { continue };
        let request = match fields.get("request") {
            Some(entry) => read_request(r, fields, entry),
            None => {
                r.missing(node, "a test needs a request", "write `request: \"GET https://HOST/PATH\"`");
                None
            }
        };
        let allow = match fields.get("expect") {
            Some(entry) => r.choice(entry, &[("allow", true), ("deny", false)], &["approve"]),
            None => {
                r.missing(
                    node,
                    "a test needs to say what it expects",
                    "write `expect: allow` or `expect: deny`",
                );
                None
            }
        };
        let by = fields.get("by").and_then(|entry| r.text(entry));
        let at = match fields.get("at") {
            Some(entry) => read_moment(r, entry),
            None => Some(Moment::ANY),
        };
        if let (Some(request), Some(allow), Some(at)) = (request, allow, at) {
            cases.push(Case { request, allow, by, at });
        }
    }
    cases
}

fn read_moment(r: &mut Reader<'_>, entry: &Entry) -> Option<Moment> {
    let text = r.text(entry)?;
    let moment = Moment::parse(&text.value);
    if moment.is_none() {
        r.error_with(
            "E001",
            &text.span,
            format!("`{}` is not a moment", shown(&text.value)),
            "write for example `2026-01-05T10:00:00+01:00`",
        );
    }
    moment
}

fn read_request(r: &mut Reader<'_>, fields: Fields<'_>, entry: &Entry) -> Option<At<Request>> {
    let text = r.text(entry)?;
    let Some((method, url)) = text.value.split_once(' ') else {
        let message = format!("`{}` is not a request", shown(&text.value));
        r.error_with(
            "E001",
            &text.span,
            message,
            "write METHOD and URL, for example `GET https://HOST/PATH`",
        );
        return None;
    };
    match Request::parse(method, url) {
        Ok(mut value) => {
            value.headers = headers(r, fields)?;
            value.body = body(r, fields)?;
            Some(At { value, span: text.span })
        }
        Err(error) => {
            let hint = "such a request is refused before any rule is asked, so there is nothing to test";
            r.error_with("E001", &text.span, error.to_string(), hint);
            None
        }
    }
}

fn headers(r: &mut Reader<'_>, fields: Fields<'_>) -> Option<Headers> {
    let mut headers = Headers::default();
    let Some(entry) = fields.get("headers") else { return Some(headers) };
    for entry in checks::keys(r, entry) {
        let name = checks::header_name(r, entry)?;
        for value in r.one_or_list(entry) {
            headers.push(&name, value.value.as_bytes());
        }
    }
    Some(headers)
}

/// A test without a body is of a request without one.
fn body(r: &mut Reader<'_>, fields: Fields<'_>) -> Option<Body> {
    match (fields.get("json"), fields.get("form")) {
        (Some(_), Some(form)) => {
            r.error("E022", &form.key_span, "a test has `json` and `form`, but a request has one body");
            None
        }
        (Some(entry), None) => unreadable(r, entry, |_, entry| Some(Body::json(&json(&entry.value)))),
        (None, Some(entry)) => unreadable(r, entry, |r, entry| Some(Body::form(&r.text(entry)?.value))),
        (None, None) => Some(Body::Empty),
    }
}

type Read = fn(&mut Reader<'_>, &Entry) -> Option<Result<Body, Unreadable>>;

fn unreadable(r: &mut Reader<'_>, entry: &Entry, read: Read) -> Option<Body> {
    match read(r, entry)? {
        Ok(body) => Some(body),
        Err(error) => {
            r.error("E001", &entry.value.span, error.to_string());
            None
        }
    }
}

/// The YAML of a test as JSON text: what is not quoted and looks like a number, `true`, `false` or `null` is one.
fn json(node: &Node) -> String {
    let list = |items: Vec<String>| items.join(",");
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Scalar(text) => {
            let plain = Number::parse(text).is_some() || matches!(text.as_str(), "true" | "false");
            if plain && !node.quoted { text.clone() } else { quote(text) }
        }
        Value::List(items) => format!("[{}]", list(items.iter().map(json).collect())),
        Value::Map(entries) => {
            let entry = |entry: &Entry| format!("{}:{}", quote(&entry.key), json(&entry.value));
            format!("{{{}}}", list(entries.iter().map(entry).collect()))
        }
    }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

//! The `credentials:` section: how a secret is put into a request.
//!
//! Left out: the secret itself. A policy names it; the vault holds it with its own list of hosts.

use super::fields;
use super::form::Shape;
use super::reader::{Fields, Reader};
use super::{At, values};
use crate::canon::shown;
use crate::name::Name;
use crate::policy::{CredentialKind, CredentialSpec, Place};
use crate::yaml::{Entry, Node, Value};

/// Headers that frame or route the message; a secret in one of them would change what is sent where.
const FRAMING: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
];

type Declared = (Vec<At<Name>>, Vec<At<CredentialSpec>>);

pub(super) fn read_all(r: &mut Reader<'_>, entry: &Entry) -> Declared {
    let (mut declared, mut credentials) = (Vec::new(), Vec::new());
    match &entry.value.value {
        Value::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                let Some(name) = r.parse_name(&entry.key, &entry.key_span) else { continue };
                declared.push(name.clone());
                if let Some(spec) = read(r, name.value, entry) {
                    credentials.push(At { value: spec, span: name.span });
                }
            }
        }
        Value::Null => r.empty(entry),
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
            r.error_with(
                "E001",
                &entry.value.span,
                "`credentials` is a mapping of names",
                "write `NAME: { bearer: { secret: NAME } }`",
            );
        }
    }
    (declared, credentials)
}

type ReadKind = fn(&mut Reader<'_>, Fields<'_>, &Node) -> Option<CredentialKind>;

fn read(r: &mut Reader<'_>, name: Name, entry: &Entry) -> Option<CredentialSpec> {
    let kind = only_entry(r, entry, &fields::CREDENTIAL)?;
    let (shape, read_kind): (&Shape, ReadKind) = match kind.key.as_str() {
        "bearer" => (&fields::BEARER, |_, _, _| Some(CredentialKind::Bearer)),
        "header" => (&fields::HEADER, header),
        "basic" => (&fields::BASIC, basic),
        "query" => (&fields::QUERY, query),
        "placeholder" => (&fields::PLACEHOLDER, placeholder),
        // Reported by `only_entry`.
        _ => return None,
    };
    let fields = r.section(kind, shape)?;
    let spec = read_kind(r, fields, &kind.value);
    let secret = match fields.get("secret") {
        Some(entry) => secret(r, entry),
        None => {
            r.missing(
                &kind.value,
                "a credential needs a secret",
                "write `secret: NAME`, as in `enforcer secret set NAME`",
            );
            None
        }
    };
    let env = match fields.get("env") {
        Some(entry) => Some(values::variable(r, entry)?),
        None => None,
    };
    Some(CredentialSpec { name, secret: secret?, env, kind: spec? })
}

/// The entry of a mapping that chooses one of several.
fn only_entry<'n>(r: &mut Reader<'_>, entry: &'n Entry, shape: &Shape) -> Option<&'n Entry> {
    r.section(entry, shape)?;
    let Value::Map(entries) = &entry.value.value else { return None };
    if let Some(second) = entries.get(1) {
        let message = format!("{} is one of {}, but here are two", shape.what, shape.listed());
        r.error("E001", &second.key_span, message);
    }
    entries.first()
}

/// `NAME` or `{secret: NAME}`.
fn secret(r: &mut Reader<'_>, entry: &Entry) -> Option<Name> {
    let entry = match &entry.value.value {
        Value::Map(_) => only_entry(r, entry, &fields::VALUE).filter(|inner| inner.key == "secret")?,
        Value::Null | Value::Scalar(_) | Value::List(_) => entry,
    };
    r.name(entry).map(|name| name.value)
}

fn header(r: &mut Reader<'_>, fields: Fields<'_>, node: &Node) -> Option<CredentialKind> {
    let name = match fields.get("name") {
        Some(entry) => r.text(entry).and_then(|text| header_name(r, &text)),
        None => {
            r.missing(node, "`header` needs the name of the header", "write for example `name: x-api-key`");
            None
        }
    };
    let format = match fields.get("format") {
        Some(entry) => {
            let text = r.text(entry)?;
            let printable = text.value.bytes().all(|b| (b' '..=b'~').contains(&b));
            if !printable || text.value.matches("{}").count() != 1 {
                let message = format!(
                    "`{}` is not a format: printable text with one `{{}}` for the secret",
                    shown(&text.value)
                );
                r.error_with("E001", &text.span, message, "for example `format: \"Bearer {}\"`");
                return None;
            }
            text.value
        }
        None => "{}".to_owned(),
    };
    Some(CredentialKind::Header { name: name?, format })
}

/// Header names compare without case; they are kept in lower case, as HTTP/2 sends them.
fn header_name(r: &mut Reader<'_>, text: &At<String>) -> Option<String> {
    let name = text.value.to_ascii_lowercase();
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        r.error("E001", &text.span, format!("`{}` is not a header name", shown(&name)));
        None
    } else if FRAMING.contains(&name.as_str()) {
        r.error("E001", &text.span, format!("header `{name}` frames the message and cannot carry a secret"));
        None
    } else {
        Some(name)
    }
}

fn query_name(r: &mut Reader<'_>, text: &At<String>) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if text.value.is_empty() || text.value.len() > 128 || !text.value.bytes().all(plain) {
        r.error(
            "E001",
            &text.span,
            format!("`{}` is not a query parameter: letters, digits, `-._~`", shown(&text.value)),
        );
        return None;
    }
    Some(text.value.clone())
}

fn basic(r: &mut Reader<'_>, fields: Fields<'_>, node: &Node) -> Option<CredentialKind> {
    let Some(entry) = fields.get("username") else {
        r.missing(node, "`basic` needs a user name", "write `username: \"\"` where the server wants none");
        return None;
    };
    let text = r.text(entry)?;
    // RFC 7617, 2: a user name with a colon cannot be told from its password.
    if text.value.contains(':') || text.value.len() > 255 || text.value.chars().any(char::is_control) {
        r.error("E001", &text.span, "a user name holds no `:` and no control characters");
        return None;
    }
    Some(CredentialKind::Basic { username: text.value })
}

fn query(r: &mut Reader<'_>, fields: Fields<'_>, node: &Node) -> Option<CredentialKind> {
    let Some(entry) = fields.get("name") else {
        r.missing(node, "`query` needs the name of the parameter", "write for example `name: api_key`");
        return None;
    };
    let text = r.text(entry)?;
    Some(CredentialKind::Query { name: query_name(r, &text)? })
}

fn placeholder(r: &mut Reader<'_>, fields: Fields<'_>, node: &Node) -> Option<CredentialKind> {
    if fields.get("env").is_none() {
        r.missing(
            node,
            "`placeholder` needs a variable in which the agent finds it",
            "write for example `env: API_TOKEN`",
        );
    }
    let required = match fields.get("required") {
        Some(entry) => r.choice(entry, &[("true", true), ("false", false)], &[])?,
        None => false,
    };
    let Some(entry) = fields.get("in") else {
        r.missing(
            node,
            "`placeholder` needs the places where it may stand",
            "write for example `in: [{ header: authorization }]`",
        );
        return None;
    };
    let mut places = Vec::new();
    for node in r.list(entry) {
        if let Some(place) = place(r, node) {
            places.push(place);
        }
    }
    (!places.is_empty()).then_some(CredentialKind::Placeholder { places, required })
}

/// `path`, `{header: NAME}` or `{query: NAME}`.
fn place(r: &mut Reader<'_>, node: &Node) -> Option<Place> {
    match &node.value {
        Value::Scalar(text) if text == "path" => Some(Place::Path),
        Value::Scalar(text) if text == "body" => {
            r.unenforced(&node.span, "in: body");
            None
        }
        Value::Scalar(text) if text == "header" || text == "query" => {
            let hint = format!("write for example `{{ {}: NAME }}`", text);
            r.error_with(
                "E001",
                &node.span,
                format!("a placeholder may not stand in any {}; name it", text),
                hint,
            );
            None
        }
        Value::Map(entries) => {
            r.fields(node, &fields::PLACE)?;
            let [entry] = entries.as_slice() else {
                r.error("E001", &node.span, "each place of `in` is an item of its own");
                return None;
            };
            let text = r.text(entry)?;
            match entry.key.as_str() {
                "header" => header_name(r, &text).map(Place::Header),
                "query" => query_name(r, &text).map(Place::Query),
                // Reported by `fields`.
                _ => None,
            }
        }
        Value::Null | Value::Scalar(_) | Value::List(_) => {
            r.error_with(
                "E001",
                &node.span,
                "this is not a place",
                "write `path`, `{ header: NAME }` or `{ query: NAME }`",
            );
            None
        }
    }
}

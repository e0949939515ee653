//! JSON-RPC 2.0 messages: one, or a batch of them, each judged by itself.

use super::json::{Entry, Json};

/// Part of a message.
pub(crate) struct Message<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) params: Option<&'a Json>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// a request or a notification
    Call(&'a str),
    /// An answer to something the server asked; `empty`: there is nothing in it.
    Answer { empty: bool },
}

/// The messages, or `None` where servers could see others in it.
pub(crate) fn messages(body: &Json) -> Option<Vec<Message<'_>>> {
    match body {
        Json::List(items) if items.is_empty() => None,
        Json::List(items) => items.iter().map(message).collect(),
        Json::Map(_) => Some(vec![message(body)?]),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => None,
    }
}

fn message(json: &Json) -> Option<Message<'_>> {
    let get = |key: &str| match json.get(key) {
        Entry::Missing => Some(None),
        Entry::One(value) => Some(Some(value)),
        Entry::Unclear => None,
    };
    let (method, params, result, error) = (get("method")?, get("params")?, get("result")?, get("error")?);
    if get("jsonrpc")?.and_then(Json::text) != Some("2.0") {
        return None;
    }
    let kind = match (method, result, error) {
        (Some(Json::Text(method)), None, None) => Kind::Call(method),
        (None, Some(result), None) => {
            Kind::Answer { empty: matches!(result, Json::Map(entries) if entries.is_empty()) }
        }
        (None, None, Some(_)) => Kind::Answer { empty: false },
        _ => return None,
    };
    Some(Message { kind, params })
}

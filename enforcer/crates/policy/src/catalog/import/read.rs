//! The part of an OpenAPI document that a catalogue needs, out of JSON or YAML.
//!
//! `$ref` is followed for path items only, within the document; parameters and bodies are not looked at.

use serde_json::Value;

use crate::diagnostics::Report;

/// The largest public document that was tried has 12 MB.
const MAX_TEXT: usize = 64 * 1024 * 1024;
/// It has about a thousand.
const MAX_OPERATIONS: usize = 10_000;

/// What aliases may add to a document.
const MAX_REPLAYED: usize = 10_000;

const METHODS: &[(&str, &str)] = &[
    ("get", "GET"),
    ("head", "HEAD"),
    ("options", "OPTIONS"),
    ("post", "POST"),
    ("put", "PUT"),
    ("patch", "PATCH"),
    ("delete", "DELETE"),
];

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0}")]
    Service(String),
    #[error("the document is larger than 64 MiB")]
    TooLarge,
    #[error("the document is neither JSON nor YAML that can be read: {0}")]
    Unreadable(String),
    #[error("this is not an OpenAPI 3 document: {0}")]
    NotOpenapi(&'static str),
    #[error("the document does not say at which host the service is; name it with `--host`")]
    NoHost,
    #[error("the document has no operation that a catalogue can name")]
    NoOperations,
    #[error("the document has more than {0} operations")]
    TooMany(usize),
    #[error("what came out is no catalogue:\n{0}")]
    Unusable(Report),
}

pub(super) struct Document {
    pub(super) title: String,
    pub(super) version: Option<String>,
    /// host, where it is absolute, and path before every path
    pub(super) server: Option<(Option<String>, String)>,
    pub(super) operations: Vec<Operation>,
}

pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) id: Option<String>,
    pub(super) summary: Option<String>,
    pub(super) tag: Option<String>,
}

pub(super) fn document(text: &str) -> Result<Document, ImportError> {
    if text.len() > MAX_TEXT {
        return Err(ImportError::TooLarge);
    }
    let root = parse(text)?;
    if root.get("swagger").is_some() {
        return Err(ImportError::NotOpenapi("it is Swagger 2; convert it first"));
    }
    if !root.get("openapi").and_then(Value::as_str).is_some_and(|version| version.starts_with("3.")) {
        return Err(ImportError::NotOpenapi("it has no `openapi: 3.…`"));
    }
    let Some(Value::Object(paths)) = root.get("paths") else {
        return Err(ImportError::NotOpenapi("it has no `paths`"));
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let info = root.get("info").unwrap_or(&Value::Null);
    let mut operations = Vec::new();
    for (path, item) in paths {
        let item = resolved(&root, item);
        for (key, method) in METHODS {
            let Some(operation) = item.get(key) else { continue };
            if operations.len() == MAX_OPERATIONS {
                return Err(ImportError::TooMany(MAX_OPERATIONS));
            }
            let tag = operation.get("tags").and_then(|tags| tags.get(0)).and_then(Value::as_str);
            operations.push(Operation {
                method,
                path: path.clone(),
                id: text(operation, "operationId"),
                summary: text(operation, "summary").or_else(|| text(operation, "description")),
                tag: tag.map(str::to_owned),
            });
        }
    }
    Ok(Document {
        title: text(info, "title").unwrap_or_else(|| "A service".to_owned()),
        version: text(info, "version"),
        server: root.get("servers").and_then(|servers| servers.get(0)).and_then(server),
        operations,
    })
}

/// JSON where it begins like it: far quicker for the large ones. Both parsers have bounds on depth of their own, and
/// the YAML one on aliases.
fn parse(text: &str) -> Result<Value, ImportError> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| ImportError::Unreadable(error.to_string()));
    }
    let mut options = serde_saphyr::Options::default();
    options.alias_limits.max_total_replayed_events = MAX_REPLAYED;
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| ImportError::Unreadable(error.to_string()))
}

/// A path item that stands elsewhere in the document. One step: a chain of them is nothing anybody writes.
fn resolved<'v>(root: &'v Value, item: &'v Value) -> &'v Value {
    let place = item.get("$ref").and_then(Value::as_str).and_then(|place| place.strip_prefix('#'));
    place.and_then(|place| root.pointer(place)).unwrap_or(item)
}

/// `https://{region}.example.com/v1` with the defaults of its variables.
fn server(server: &Value) -> Option<(Option<String>, String)> {
    let mut url = server.get("url")?.as_str()?.to_owned();
    if let Some(Value::Object(variables)) = server.get("variables") {
        for (name, variable) in variables {
            let default = variable.get("default").and_then(Value::as_str).unwrap_or_default();
            url = url.replace(&format!("{{{name}}}"), default);
        }
    }
    let (host, path) = match url.split_once("://") {
        Some((_, rest)) => match rest.split_once('/') {
            Some((host, path)) => (Some(host.to_owned()), format!("/{path}")),
            None => (Some(rest.to_owned()), String::new()),
        },
        None => (None, url),
    };
    let path = path.trim_end_matches('/').to_owned();
    Some((host.filter(|host| !host.is_empty()), path))
}

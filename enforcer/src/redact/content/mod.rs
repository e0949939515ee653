//! What a rule takes out of answers: fields of JSON by name or path, and patterns in texts.
//!
//! Streaming, with bounded memory. It stands between the decoder and the search for secrets, so the
//! search sees what goes to the agent. What it cannot read with certainty ends the answer: a reader
//! that forgives more than we do would find in it what we did not.

mod json;
mod pattern;
mod text;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use enforcer_policy::ResponseRules;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName};

use super::ScrubError;
use json::Json;
use text::Text;

/// What stands where something was.
const INSTEAD: &str = "[redacted]";

/// One answer being read.
pub(super) enum Content {
    Json(Box<Json>),
    Text(Text),
}

impl Content {
    /// The reader that this answer needs. `None`: its body passes as it is.
    pub(super) fn of(
        rules: &Arc<ResponseRules>,
        headers: &HeaderMap,
        cut: &Arc<AtomicU32>,
    ) -> Result<Option<Content>, ScrubError> {
        if !rules.redacts_bodies() {
            return Ok(None);
        }
        let media_type = media_type(headers)?;
        let lines =
            matches!(&*media_type, "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines");
        if lines || matches!(&*media_type, "application/json" | "text/json") || media_type.ends_with("+json")
        {
            return Ok(Some(Content::Json(Box::new(Json::new(rules.clone(), lines, cut.clone())))));
        }
        let readable = media_type.starts_with("text/")
            || media_type.ends_with("+xml")
            || matches!(
                &*media_type,
                "application/xml" | "application/javascript" | "application/x-www-form-urlencoded"
            );
        if rules.fields.is_empty() && rules.json.is_empty() && readable {
            return Ok(Some(Content::Text(Text::new(rules.patterns.clone(), cut.clone()))));
        }
        Err(ScrubError::Unreadable(media_type))
    }

    /// What may be passed on now.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<Bytes, ScrubError> {
        match self {
            Content::Json(json) => json.feed(chunk),
            Content::Text(text) => Ok(text.feed(chunk)),
        }
    }

    /// The rest, at the end of the answer.
    pub(super) fn finish(&mut self) -> Result<Bytes, ScrubError> {
        match self {
            Content::Json(json) => json.finish(),
            Content::Text(text) => Ok(text.finish()),
        }
    }
}

/// Is an answer of this type allowed by the rule?
pub(super) fn allowed(rules: &ResponseRules, headers: &HeaderMap) -> Result<(), ScrubError> {
    if rules.content_types.is_empty() {
        return Ok(());
    }
    let media_type = media_type(headers)?;
    if rules.content_types.iter().any(|allowed| **allowed == *media_type) {
        Ok(())
    } else {
        Err(ScrubError::Type(media_type))
    }
}

/// Takes the headers out that the rule names.
pub(super) fn headers(rules: &ResponseRules, headers: &mut HeaderMap, cut: &AtomicU32) {
    for name in rules.headers.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()) {
        if headers.remove(&name).is_some() {
            cut.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// In lower case, without parameters. One header, in UTF-8 if it says in what.
fn media_type(headers: &HeaderMap) -> Result<String, ScrubError> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(ScrubError::Unreadable("none, or more than one".to_owned()));
    };
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_owned();
    let foreign = parts
        .filter_map(|parameter| parameter.strip_prefix("charset="))
        .any(|charset| !matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii" | "ascii"));
    if foreign { Err(ScrubError::Unreadable(text)) } else { Ok(media_type) }
}

#[cfg(test)]
mod tests;

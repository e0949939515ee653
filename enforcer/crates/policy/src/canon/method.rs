//! HTTP methods.

use std::fmt;
use std::sync::Arc;

use super::{RequestError, shown};

/// The longest registered method, UPDATEREDIRECTREF, has 17 letters.
const MAX_METHOD: usize = 32;

/// An upper-case method token; TRACE, TRACK and CONNECT are never methods here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(Arc<str>);

impl Method {
    pub fn parse(text: &str) -> Result<Self, RequestError> {
        let mut bytes = text.bytes();
        let starts_well = bytes.next().is_some_and(|b| b.is_ascii_uppercase());
        let all_well = bytes.all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
        if !starts_well || !all_well || text.len() > MAX_METHOD {
            let message = format!("`{}` is not an upper-case method", shown(text));
            return Err(RequestError::new("method_malformed", message));
        }
        // TRACE and TRACK answer with the request, injected credential included; CONNECT tunnels past
        // every rule; PRI is how HTTP/2 connections begin.
        if matches!(text, "TRACE" | "TRACK" | "CONNECT" | "PRI") {
            return Err(RequestError::new("method_forbidden", format!("method {text} is never let through")));
        }
        Ok(Method(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! The one canonical form of a request, and how bytes get there or are refused.
//!
//! Nothing is repaired: of two servers, one would always read the repaired text differently. The two
//! changes made are ones no reader can disagree about: ASCII case of a host, and percent-escapes of
//! unreserved characters (RFC 3986, 6.2.2.2), which are sent on in their decoded form.

mod headers;
mod host;
mod method;
mod punycode;
mod request;
mod target;
#[cfg(test)]
mod tests;

pub use headers::Headers;
pub use host::Host;
pub use method::Method;
pub use request::{Request, Scheme, authority};
pub use target::Target;
pub(crate) use target::{cmp_decoded_segment, decoded_segment, decoded_segment_eq, path_literal, segments};

/// Why bytes could not be made canonical. `code` is stable, for receipts and refusals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    pub code: &'static str,
    pub message: String,
}

impl RequestError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        RequestError { code, message: message.into() }
    }
}

/// Agent bytes in an error text: short, and nothing that moves a cursor or starts a line.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

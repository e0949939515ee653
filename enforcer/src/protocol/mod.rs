//! What agents may speak: TLS with HTTP inside, or HTTP in the clear. Anything else is refused.
//!
//! A protocol is one folder or file and one line in [`PROTOCOLS`].

pub mod http;
pub mod tls;

use crate::proxy::Protocol;

/// Asked in this order; their first bytes do not overlap.
pub const PROTOCOLS: &[&dyn Protocol] = &[&tls::Tls, &http::Http2, &http::Http1];

#[cfg(test)]
mod tests;

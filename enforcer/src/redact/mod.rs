//! What must never flow back: injected values are cut out of headers and bodies, streaming.
//!
//! Whole values only (a prefix rule would be an oracle); plain, base64 and percent-encoded forms of the value;
//! gzip, deflate, br, zstd decoded within caps, undecodable codings refused.
// SKELETON: signatures are the contract.

use std::sync::Arc;

use bytes::Bytes;

use crate::secret::Fetched;

/// `accept-encoding` that we send upstream when a credential was injected.
pub const ACCEPT_ENCODING: &str = "gzip, deflate, br, zstd";

#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    #[error("the response uses content coding `{0}`, which cannot be searched for secrets")] Coding(String),
    #[error("the response body cannot be decoded: {0}")] Decode(String),
    #[error("the response decodes to more than {0} times its size")] Bomb(u32),
}

/// Search values for one response; built from what was injected.
pub struct Needles { _p: () }
impl Needles { pub fn new(injected: &[Arc<Fetched>]) -> Self { let _ = injected; todo!() } pub fn is_empty(&self) -> bool { todo!() } }

/// Cuts values out of the header block (same-length `*` mask), fixes content-length/-encoding/etag, and wraps the body.
/// When there is nothing to look for the body passes untouched.
pub fn scrub<B>(parts: &mut http::response::Parts, body: B, needles: Arc<Needles>) -> Result<ScrubbedBody<B>, ScrubError>
where B: http_body::Body<Data = Bytes> + Unpin { let _ = (parts, body, needles); todo!() }

/// An `http_body::Body<Data = Bytes>`; `scrubbed()` tells how many values were cut so far (shared counter).
pub struct ScrubbedBody<B> { _b: B }
impl<B> ScrubbedBody<B> { pub fn scrubbed(&self) -> u32 { todo!() } }
impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for ScrubbedBody<B> {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    fn poll_frame(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> { let _ = cx; todo!() }
}

//! What must never flow back: injected values are cut out of headers and bodies, streaming.
//!
//! Whole values only: a rule that matched a part of a value would tell an agent, guess by guess,
//! what the rest is. Looked for are the value and the ways an upstream writes it (see `needles`);
//! each is overwritten with `*` of the same length. gzip, deflate, br and zstd are decoded within
//! caps and passed on plain; what cannot be decoded is refused, never passed unseen.
//!
//! In reading order: [`Needles`] (what), `search` (where), `scan` (across chunks), `head`
//! (headers and trailers), `coding` (decoders), `content` (what a rule takes out), `body` (the stream).
//!
//! A rule's `response` is applied to what was decoded, and the search for secrets to what that left:
//! the search has the last look at every byte that the agent gets.
//!
//! Not here: transformations beyond those forms (encryption, hashes, a value broken over lines),
//! and up to four bits of the first and the last character of a value inside a longer base64 text.

mod body;
mod coding;
mod content;
mod head;
mod needles;
mod scan;
mod search;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use enforcer_policy::ResponseRules;

pub use body::ScrubbedBody;
pub use needles::Needles;
pub use watch::{Found, Watch};

use coding::Coding;
use content::Content;

/// `accept-encoding` that we send upstream when a credential was injected.
pub const ACCEPT_ENCODING: &str = "gzip, deflate, br, zstd";

#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    #[error("the response uses content coding `{0}`, which cannot be searched for secrets")]
    Coding(String),
    #[error("the response body cannot be decoded: {0}")]
    Decode(String),
    #[error("the response decodes to more than {0} times its size")]
    Bomb(u32),
    #[error(
        "the rule takes fields or patterns out of the response, and its content type ({0}) is not one we can read"
    )]
    Unreadable(String),
    #[error("the response is `{0}`, which the rule's `content_types` do not have")]
    Type(String),
    #[error("the response is not the JSON it says it is, at byte {at}: {why}")]
    Json { at: u64, why: String },
    #[error("the response is larger than the {0} bytes the rule allows")]
    TooLarge(u64),
}

/// Cuts values out of the header block (same-length `*` mask), applies the rule's `response`, fixes what
/// a changed body makes untrue, and wraps the body. When there is nothing to look for everything passes untouched.
pub fn scrub<B>(
    parts: &mut http::response::Parts,
    body: B,
    needles: Arc<Needles>,
    rules: Option<&Arc<ResponseRules>>,
) -> Result<ScrubbedBody<B>, ScrubError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let cut = Arc::new(AtomicU32::new(0));
    let redacted = Arc::new(AtomicU32::new(0));
    let mut content = None;
    if let Some(rules) = rules {
        content::headers(rules, &mut parts.headers, &redacted);
        if !body.is_end_stream() {
            content::allowed(rules, &parts.headers)?;
            let least = body.size_hint().lower();
            if let Some(max) = rules.max_body.filter(|max| least > *max) {
                return Err(ScrubError::TooLarge(max));
            }
            content = Content::of(rules, &parts.headers, &redacted)?;
        }
    }
    if needles.is_empty() && content.is_none() {
        return Ok(ScrubbedBody::untouched(body, needles, cut).under(rules, None, redacted));
    }
    let coding = Coding::of(&parts.headers);
    head::clean(&mut parts.headers, &needles, &cut);
    // A reason phrase is free text of the upstream's, which HTTP/1 would write back.
    parts.extensions.remove::<hyper::ext::ReasonPhrase>();
    if body.is_end_stream() {
        // An answer to HEAD, a 204 or 304: its headers speak of a body that we would have decoded.
        if let Ok(Some(_)) = coding {
            head::decoded(&mut parts.headers);
        }
        return Ok(ScrubbedBody::untouched(body, needles, cut).under(rules, None, redacted));
    }
    if content.is_some() {
        head::decoded(&mut parts.headers);
    }
    let body = match coding? {
        None => ScrubbedBody::plain(body, needles, cut),
        Some(coding) => {
            head::decoded(&mut parts.headers);
            ScrubbedBody::decoding(body, needles, cut, coding.decoder()?)
        }
    };
    Ok(body.under(rules, content, redacted))
}

#[cfg(test)]
mod tests;

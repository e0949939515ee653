//! What must not travel: hop-by-hop headers, headers that speak of another request than the one
//! judged, and in answers whatever would lead the agent round us.

use std::borrow::Cow;

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, IF_RANGE, RANGE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::redact;

/// Hop-by-hop by definition or by habit (RFC 9110, 7.6.1), in both directions.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Servers that believe these would act on another path, method, host or client than was judged.
/// Compared after `_` and `.` are read as `-`: many servers fold them.
const REWRITERS: &[&str] = &[
    "forwarded",
    "via",
    "client-ip",
    "true-client-ip",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-rewrite-url",
    "x-forwarded",
];
const REWRITER_FAMILIES: &[&str] = &["x-forwarded-", "x-original-", "x-envoy-", "proxy-"];

/// Would send the agent to another port, protocol or collector.
const FROM_ANSWERS: &[&str] = &["alt-svc", "nel", "report-to", "reporting-endpoints", "alt-used"];

/// Have their say before a body, or say what it is: behind one they are for a reader that takes trailers for headers (RFC 9110, 6.5.1).
const NOT_TRAILERS: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "expires",
    "host",
    "location",
    "pragma",
    "retry-after",
    "set-cookie",
    "vary",
    "warning",
    "www-authenticate",
];

/// Cleans the head of a request. Names listed in `Connection` go first, so that nothing we add later
/// can be named there.
pub fn clean_request(headers: &mut HeaderMap) {
    let trailers = headers.get_all(TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    strip_hop_by_hop(headers);
    // hyper writes the framing anew from the body itself.
    for name in [HOST, CONTENT_LENGTH, EXPECT] {
        headers.remove(name);
    }
    remove(headers, rewrites);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    join_cookies(headers);
}

/// Where a value could come back: the answer must be whole and in a coding we can search.
pub fn clean_for_search(headers: &mut HeaderMap) {
    headers.remove(RANGE);
    headers.remove(IF_RANGE);
    let asked = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let codings = common_codings(asked);
    headers.insert(ACCEPT_ENCODING, codings);
}

/// Is `chunked` the only transfer coding of an answer, if it has one, and then without a length beside it?
/// Under another one a body would pass us coded, whatever `Content-Encoding` says; with both, two readers
/// may find two ends (RFC 9112, 6.1).
pub fn plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter().peekable();
    let twice = codings.peek().is_some() && headers.contains_key(CONTENT_LENGTH);
    !twice && codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// Cleans the head of an answer.
pub fn clean_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    remove(headers, |name| FROM_ANSWERS.contains(&name));
}

/// Cleans what comes behind the body of an answer.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| !may_trail(name));
}

/// What an answer says it will have behind its body, as far as that passes. In HTTP/1 nothing else does.
pub fn announced(headers: &HeaderMap) -> Option<HeaderValue> {
    let listed = headers.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok());
    let listed = listed.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let passing: Vec<String> = listed.filter(|name| may_trail(name)).collect();
    HeaderValue::try_from(passing.join(", ")).ok().filter(|list| !list.is_empty())
}

fn may_trail(name: &str) -> bool {
    ![HOP_BY_HOP, FROM_ANSWERS, NOT_TRAILERS].iter().any(|no| no.contains(&name))
}

/// Looks at the few names there are, rather than for the many that may be.
fn remove(headers: &mut HeaderMap, gone: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| gone(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in listed {
        headers.remove(name);
    }
    remove(headers, |name| HOP_BY_HOP.contains(&name));
    debug_assert!([TRAILER, TRANSFER_ENCODING, UPGRADE].iter().all(|name| !headers.contains_key(name)));
}

fn rewrites(name: &str) -> bool {
    let folded = match name.contains(['_', '.']) {
        true => Cow::Owned(name.replace(['_', '.'], "-")),
        false => Cow::Borrowed(name),
    };
    let folded = &*folded;
    REWRITERS.contains(&folded)
        || REWRITER_FAMILIES.iter().any(|family| folded.starts_with(family))
        // A twin of a hop-by-hop or framing header has no honest use.
        || (folded != name
            && (HOP_BY_HOP.contains(&folded) || ["host", "content-length", "expect"].contains(&folded)))
}

/// HTTP/2 may split cookies; HTTP/1 servers expect one header (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

/// The codings both the agent accepts and we can search. An agent that names none gets the plain text.
fn common_codings<'a>(asked: impl Iterator<Item = &'a str>) -> HeaderValue {
    let mut wanted = Vec::new();
    for item in asked.flat_map(|value| value.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts.any(|weight| {
            weight.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q == 0.0))
        });
        if !coding.is_empty() && !refused {
            wanted.push(coding);
        }
    }
    let any = wanted.iter().any(|coding| coding == "*");
    let common: Vec<&str> = redact::ACCEPT_ENCODING
        .split(',')
        .map(str::trim)
        .filter(|known| {
            any || wanted.iter().any(|coding| coding == known || coding.strip_prefix("x-") == Some(known))
        })
        .collect();
    if common.is_empty() {
        return HeaderValue::from_static("identity");
    }
    HeaderValue::try_from(common.join(", ")).unwrap_or(HeaderValue::from_static("identity"))
}

#[cfg(test)]
mod tests;

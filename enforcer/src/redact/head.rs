//! Headers and trailers: values masked, names removed, and what decoding makes untrue taken out.

use std::sync::atomic::{AtomicU32, Ordering};

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue,
};

use super::needles::Needles;
use super::scan::mask;

/// Digests of the coded bytes, which the agent will not see.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

pub(super) fn clean(headers: &mut HeaderMap, needles: &Needles, cut: &AtomicU32) {
    for value in headers.values_mut() {
        if let Some(masked) = mask(value.as_bytes(), needles, cut) {
            *value =
                HeaderValue::from_bytes(&masked).expect("a header value stays one when bytes become `*`");
        }
    }
    let named: Vec<HeaderName> =
        headers.keys().filter(|name| needles.in_name(name.as_str())).cloned().collect();
    for name in named {
        headers.remove(name);
        cut.fetch_add(1, Ordering::Relaxed);
    }
    // Ranges are not asked for where a value was injected: two halves of it would pass unseen.
    headers.remove(ACCEPT_RANGES);
}

/// The body is passed on decoded.
pub(super) fn decoded(headers: &mut HeaderMap) {
    headers.remove(CONTENT_ENCODING);
    headers.remove(CONTENT_LENGTH);
    for digest in DIGESTS {
        headers.remove(digest);
    }
    // RFC 9110, 8.8.1: the same tag for other bytes can only be a weak one.
    if let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) {
        let weak = [b"W/", tag.as_bytes()].concat();
        headers.insert(ETAG, HeaderValue::from_bytes(&weak).expect("`W/` before a header value is one"));
    }
}

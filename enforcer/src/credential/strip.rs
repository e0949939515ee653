//! Removing what an agent sent as a credential, before ours is put in.
//!
//! Names are compared folded: CGI and many frameworks read `X_Api_Key` and `X.Api.Key` as
//! `X-Api-Key`, and the first of two wins somewhere. Cookies stay: they are the agent's session.

use std::borrow::Cow;

use enforcer_policy::Place;
use http::header::{HeaderMap, HeaderName, PROXY_AUTHORIZATION};
use http::request::Parts;

use super::check::basic;
use super::{shape, target};
use crate::secret::encode;

/// Headers that carry a credential at one well-known service or another.
const CREDENTIALS: &[&str] = &[
    "api-key",
    "authorization",
    "private-token",
    "proxy-authorization",
    "x-access-token",
    "x-api-key",
    "x-api-token",
    "x-auth-key",
    "x-auth-token",
    "x-goog-api-key",
    "x-vault-token",
];

/// For requests without a credential of ours: what was meant for a proxy never goes further.
pub(super) fn proxy_credentials(headers: &mut HeaderMap) {
    remove(headers, |name, _| fold(name.as_str()) == PROXY_AUTHORIZATION.as_str());
}

/// Everything credential-like, and whatever stands in the places of ours. With `keep`, values in
/// those places stay when they hold that placeholder, to have it swapped.
pub(super) fn credentials(parts: &mut Parts, places: &[Place], keep: Option<&str>) -> Result<(), String> {
    let holds = |text: &[u8]| {
        keep.is_some_and(|placeholder| {
            shape::find_all(text).any(|found| shape::is_exactly(text, found.start, placeholder))
        })
    };
    let ours =
        |name: &str| places.iter().any(|p| matches!(p, Place::Header(named) if fold(named) == fold(name)));
    let named = |name: &str| {
        places.iter().any(|p| matches!(p, Place::Header(named) if named.eq_ignore_ascii_case(name)))
    };
    remove(&mut parts.headers, |name, value| {
        let credential = CREDENTIALS.contains(&&*fold(name.as_str())) || ours(name.as_str());
        let kept = named(name.as_str())
            && (holds(value) || basic(value).is_some_and(|coded| holds(&encode::base64_decode(coded))));
        credential && !kept
    });
    for place in places {
        if let Place::Query(name) = place {
            target::retain(parts, |pair| pair.name != name.as_bytes() || holds(&pair.value))?;
        }
    }
    Ok(())
}

/// Removes single values, not only whole names.
fn remove(headers: &mut HeaderMap, gone: impl Fn(&HeaderName, &[u8]) -> bool) {
    let names: Vec<HeaderName> = headers
        .iter()
        .filter(|(name, value)| gone(name, value.as_bytes()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        let kept: Vec<_> =
            headers.get_all(&name).iter().filter(|value| !gone(&name, value.as_bytes())).cloned().collect();
        headers.remove(&name);
        for value in kept {
            headers.append(name.clone(), value);
        }
    }
}

fn fold(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Cow::Borrowed(name);
    }
    name.chars().map(|c| if matches!(c, '_' | '.') { '-' } else { c.to_ascii_lowercase() }).collect()
}

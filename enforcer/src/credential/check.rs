//! Placeholders in a request's head: counted where the credential names the place, refused elsewhere.
//!
//! Looked at as sent and decoded, as a server might read it: percent-escapes, and the base64 of
//! `Basic`. Nothing is changed here.

use enforcer_policy::Place;
use http::request::Parts;

use super::{CredentialError, shape, target};
use crate::secret::encode;

/// The one placeholder that may be there, and where.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) placeholder: &'a str,
    pub(super) places: &'a [Place],
}

/// How often the expected placeholder stands in a place for it.
pub(super) fn head(parts: &Parts, expected: Option<Expected<'_>>) -> Result<usize, CredentialError> {
    let mut found = 0;
    let mut look = |text: &[u8], here: &dyn Fn(&Place) -> bool, place: &dyn Fn() -> String| {
        let allowed = expected.filter(|e| e.places.iter().any(here)).map(|e| e.placeholder);
        for candidate in shape::find_all(text) {
            if !allowed.is_some_and(|placeholder| shape::is_exactly(text, candidate.start, placeholder)) {
                return Err(CredentialError::Misplaced {
                    credential: candidate.name.to_owned(),
                    place: place(),
                });
            }
            found += 1;
        }
        Ok(())
    };

    let path = parts.uri.path().as_bytes();
    look(path, &|place| matches!(place, Place::Path), &|| "the path".to_owned())?;
    escaped(path, || "the path".to_owned())?;
    for pair in target::pairs(&parts.uri) {
        let place = || format!("query parameter `{}`", shown(&pair.name));
        look(&pair.name, &|_| false, &|| "the name of a query parameter".to_owned())?;
        look(&pair.value, &|p| matches!(p, Place::Query(name) if name.as_bytes() == pair.name), &place)?;
    }
    for (name, value) in &parts.headers {
        let here = |place: &Place| matches!(place, Place::Header(named) if name == named.as_str());
        let place = || format!("header `{name}`");
        look(name.as_str().as_bytes(), &|_| false, &|| "the name of a header".to_owned())?;
        look(value.as_bytes(), &here, &place)?;
        escaped(value.as_bytes(), place)?;
        if let Some(coded) = basic(value.as_bytes()) {
            look(&encode::base64_decode(coded), &here, &place)?;
        }
    }
    Ok(found)
}

/// One that shows only when escapes are decoded is in no place for it: it could not be swapped there.
fn escaped(text: &[u8], place: impl Fn() -> String) -> Result<(), CredentialError> {
    if !text.contains(&b'%') {
        return Ok(());
    }
    let plain = encode::percent_decode(text);
    match shape::find_all(&plain).nth(shape::find_all(text).count()) {
        None => Ok(()),
        Some(hidden) => {
            Err(CredentialError::Misplaced { credential: hidden.name.to_owned(), place: place() })
        }
    }
}

/// The base64 of a `Basic` credential.
pub(super) fn basic(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.trim_ascii_start().split_at_checked(5)?;
    (scheme.eq_ignore_ascii_case(b"basic") && rest.first().is_some_and(|b| b.is_ascii_whitespace()))
        .then(|| rest.trim_ascii_start())
}

/// Text of the agent's, short and harmless in a log line.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(64).flat_map(char::escape_debug).collect()
}

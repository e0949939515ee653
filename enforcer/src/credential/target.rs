//! Reading and editing the request target. What is not edited keeps its bytes.

use http::Uri;
use http::request::Parts;
use http::uri::PathAndQuery;
use memchr::memmem;
use zeroize::Zeroizing;

use crate::secret::encode;

/// One `name=value` of the query.
pub(super) struct Pair<'a> {
    raw: &'a str,
    /// decoded, `+` read as a space
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

pub(super) fn pairs(uri: &Uri) -> impl Iterator<Item = Pair<'_>> {
    uri.query().into_iter().flat_map(|query| query.split('&')).map(|raw| {
        let (name, value) = raw.split_once('=').unwrap_or((raw, ""));
        Pair { raw, name: decode(name), value: decode(value) }
    })
}

/// Keeps the parameters for which `keep` holds.
pub(super) fn retain(parts: &mut Parts, keep: impl Fn(&Pair<'_>) -> bool) -> Result<(), String> {
    if pairs(&parts.uri).all(|pair| keep(&pair)) {
        return Ok(());
    }
    let kept: Vec<&str> = pairs(&parts.uri).filter(keep).map(|pair| pair.raw).collect();
    let mut target = Zeroizing::new(parts.uri.path().to_owned());
    if !kept.is_empty() {
        target.push('?');
        target.push_str(&kept.join("&"));
    }
    set(parts, &target)
}

/// Adds a parameter at the end.
pub(super) fn append(parts: &mut Parts, name: &str, value: &[u8]) -> Result<(), String> {
    let query = parts.uri.query().filter(|query| !query.is_empty());
    let (name, value) = (encode::percent(name.as_bytes()), encode::percent(value));
    let mut target = Zeroizing::new(Vec::with_capacity(
        parts.uri.path().len() + query.map_or(0, str::len) + name.len() + value.len() + 3,
    ));
    target.extend_from_slice(parts.uri.path().as_bytes());
    target.push(b'?');
    if let Some(query) = query {
        target.extend_from_slice(query.as_bytes());
        target.push(b'&');
    }
    target.extend_from_slice(&name);
    target.push(b'=');
    target.extend_from_slice(&value);
    set(parts, std::str::from_utf8(&target).map_err(|e| e.to_string())?)
}

/// Swaps a text that needs no escapes for a value, escaped, in the path and in the values of the
/// parameters that `within` accepts.
pub(super) fn swap(
    parts: &mut Parts,
    from: &str,
    to: &[u8],
    in_path: bool,
    within: impl Fn(&Pair<'_>) -> bool,
) -> Result<(), String> {
    let escaped = encode::percent(to);
    let escaped = std::str::from_utf8(&escaped).map_err(|e| e.to_string())?;
    let path = parts.uri.path();
    let mut target = Zeroizing::new(if in_path { path.replace(from, escaped) } else { path.to_owned() });
    for (at, pair) in pairs(&parts.uri).enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        let found = memmem::find(&pair.value, from.as_bytes()).is_some();
        if found && within(&pair) {
            let value = encode::percent(&super::shape::swap(&pair.value, from, to));
            target.push_str(pair.raw.split_once('=').map_or(pair.raw, |(name, _)| name));
            target.push('=');
            target.push_str(std::str::from_utf8(&value).map_err(|e| e.to_string())?);
        } else {
            target.push_str(pair.raw);
        }
    }
    set(parts, &target)
}

fn set(parts: &mut Parts, target: &str) -> Result<(), String> {
    // The causes quote nothing, but a target may hold a secret by now: say no more than this.
    let unfit = "the target would not be valid".to_owned();
    let Ok(target) = PathAndQuery::try_from(target) else { return Err(unfit) };
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = Some(target);
    parts.uri = Uri::from_parts(uri).map_err(|_cause| unfit)?;
    Ok(())
}

fn decode(text: &str) -> Vec<u8> {
    encode::percent_decode(text.replace('+', " ").as_bytes())
}

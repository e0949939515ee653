//! The request that is judged, and the authority part of a URL.

use super::{Headers, Host, Method, RequestError, Target, shown};
use crate::body::Body;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The one request type that is judged.
#[derive(Clone, Debug)]
pub struct Request {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    pub method: Method,
    pub target: Target,
    /// As they are sent on.
    pub headers: Headers,
    pub body: Body,
}

impl Request {
    /// Without headers, its body not read yet.
    pub fn new(scheme: Scheme, host: Host, port: u16, method: Method, target: Target) -> Self {
        Request { scheme, host, port, method, target, headers: Headers::default(), body: Body::Unread }
    }

    /// From `METHOD`, `scheme://host[:port]/path` as typed by a person.
    pub fn parse(method: &str, url: &str) -> Result<Self, RequestError> {
        let method = Method::parse(method)?;
        let (scheme, rest) = if let Some(rest) = url.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = url.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            let message = format!("`{}` does not start with `https://` or `http://`", shown(url));
            return Err(RequestError::new("url_scheme", message));
        };
        // Backslash is not a delimiter of RFC 3986 but is one for browsers; left in the authority, the
        // host check refuses it.
        let (before, target) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = authority(before)?;
        let port = port.unwrap_or(scheme.default_port());
        Ok(Request::new(scheme, host, port, method, Target::parse(target)?))
    }
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`, as in a URL, a `Host` header or `:authority`.
pub fn authority(text: &str) -> Result<(Host, Option<u16>), RequestError> {
    let refuse = |code, why: &str| Err(RequestError::new(code, format!("`{}` {why}", shown(text))));
    if text.contains('@') {
        return refuse("host_userinfo", "has a user name before the host");
    }
    let (host, port) = if text.starts_with('[') {
        match text.split_once(']') {
            Some((_, "")) => (text, None),
            Some((address, after)) => match after.strip_prefix(':') {
                // The closing bracket is one byte after the address.
                Some(port) => (text.get(..address.len() + 1).unwrap_or(text), Some(port)),
                None => return refuse("host_malformed", "has text after the bracket"),
            },
            None => return refuse("host_malformed", "opens a bracket that is not closed"),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return refuse("host_malformed", "needs brackets round an IPv6 address");
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let host = Host::parse(host)?;
    let port = match port {
        None => None,
        Some(digits) => match parse_port(digits) {
            Some(port) => Some(port),
            None => return refuse("port_malformed", "has a port that is not a number from 1 to 65535"),
        },
    };
    Ok((host, port))
}

/// Decimal, no sign, no leading zero, not 0.
fn parse_port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if plain { digits.parse().ok() } else { None }
}

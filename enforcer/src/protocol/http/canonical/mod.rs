//! From what hyper read to the one request that is judged and sent.
//!
//! Server name, `:authority`, `Host` and the port that was dialled must agree. What has two readings
//! is refused, never repaired. Headers other than those that say where and how long are `headers`' work.

use enforcer_policy::{Host, Method, Request, RequestError, Scheme, Target};
use http::request::Parts;
use http::{HeaderMap, Uri, Version, header};

use super::strict::head::{MAX_HEADERS, content_length, plain_number};
use crate::gate::{Asked, Code};
use crate::proxy::Connection;

/// Longer targets are met nowhere but in attacks.
const MAX_TARGET: usize = 8 * 1024;

/// What a client is told that takes us for a proxy.
const NO_PROXY: &str = "There is none here, connections are redirected without one: unset HTTP_PROXY, HTTPS_PROXY and \
                        ALL_PROXY, and connect to the server itself";

/// Where the bytes came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// What the handshake named; `None` in the clear.
    pub tls: Option<&'a Host>,
    /// The port the agent dialled.
    pub port: u16,
}

impl Arrived<'_> {
    pub fn of(connection: &Connection) -> Arrived<'_> {
        Arrived { tls: connection.tls.as_ref().map(|tls| &tls.host), port: connection.destination.0.port() }
    }

    fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }
}

/// Why a request cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclear {
    pub code: Code,
    pub reason: String,
}

fn bad(reason: impl Into<String>) -> Unclear {
    Unclear { code: Code::BadRequest, reason: reason.into() }
}

fn elsewhere(reason: impl Into<String>) -> Unclear {
    Unclear { code: Code::Misdirected, reason: reason.into() }
}

impl From<RequestError> for Unclear {
    fn from(error: RequestError) -> Self {
        bad(error.message)
    }
}

/// The request, canonical, or why there is none. Its headers are still to be cleaned.
pub fn read(parts: &Parts, arrived: Arrived<'_>) -> Result<Request, Unclear> {
    if parts.headers.len() > MAX_HEADERS {
        let reason = format!("there are more than {MAX_HEADERS} header fields");
        return Err(Unclear { code: Code::HeadersTooLarge, reason });
    }
    if parts.method == http::Method::CONNECT {
        return Err(bad(format!("CONNECT is for a proxy. {NO_PROXY}")));
    }
    let method = Method::parse(parts.method.as_str())?;
    let scheme = arrived.scheme();
    let (host, port) = authority(parts, scheme)?;
    if port != arrived.port {
        let proxied = parts.version != Version::HTTP_2 && parts.uri.authority().is_some();
        let advice = if proxied { format!(". {NO_PROXY}") } else { String::new() };
        return Err(elsewhere(format!(
            "the request names port {port}, the connection goes to port {}{advice}",
            arrived.port
        )));
    }
    if let Some(tls) = arrived.tls.filter(|tls| **tls != host) {
        return Err(elsewhere(format!("the request is for `{host}`, the TLS connection for `{tls}`")));
    }
    framing(&parts.headers, parts.version)?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    if target.len() > MAX_TARGET {
        return Err(bad("the request target is longer than 8 KiB"));
    }
    if target == "*" {
        return Err(bad("`*` is not a target here"));
    }
    let target = Target::parse(target)?;
    Ok(Request::new(scheme, host, port, method, target))
}

/// What can be said of a request that [`read`] refused.
pub fn asked(parts: &Parts, arrived: Arrived<'_>) -> Asked {
    let scheme = arrived.scheme();
    let host = authority(parts, scheme).ok().map(|(host, _)| host).or_else(|| arrived.tls.cloned());
    Asked {
        protocol: scheme.as_str(),
        method: Some(short(parts.method.as_str())),
        host: host.map(|host| host.to_string()),
        port: Some(arrived.port),
        path: Some(short(parts.uri.path())),
    }
}

/// A receipt is no place to store what an agent likes to send.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// Every authority in the request; all must be the same.
fn authority(parts: &Parts, scheme: Scheme) -> Result<(Host, u16), Unclear> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let from_host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(value), None) => {
            let text = value.to_str().map_err(|_error| bad("the Host header is not plain ASCII"))?;
            Some(host_port(text, scheme)?)
        }
        (Some(_), Some(_)) => return Err(bad("there is more than one Host header")),
    };
    let from_uri = in_uri(&parts.uri, scheme)?;
    match (from_uri, from_host) {
        (Some(uri), Some(host)) if uri == host => Ok(uri),
        (Some(_), Some(_)) => Err(bad("the request target and the Host header name different hosts")),
        (Some(uri), None) if parts.version == Version::HTTP_2 => Ok(uri),
        (None, Some(host)) if parts.version != Version::HTTP_2 => Ok(host),
        (None, Some(_)) => Err(bad("there is no :authority")),
        (_, None) => Err(bad("there is no Host header")),
    }
}

/// `:authority`, or HTTP/1's absolute form.
fn in_uri(uri: &Uri, scheme: Scheme) -> Result<Option<(Host, u16)>, Unclear> {
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => Ok(None),
        (Some(said), Some(authority)) => {
            if said != scheme.as_str() {
                return Err(bad(format!("the request says {said}, the connection is {}", scheme.as_str())));
            }
            host_port(authority.as_str(), scheme).map(Some)
        }
        _ => Err(bad("the request target is neither a path nor a whole URL")),
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`; nothing else, so no `user@`.
fn host_port(text: &str, scheme: Scheme) -> Result<(Host, u16), Unclear> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or_else(|| bad("the host has no closing `]`"))?;
        let ip: std::net::Ipv6Addr =
            inside.parse().map_err(|_error| bad("what stands in `[]` is not an IPv6 address"))?;
        let port = match after {
            "" => None,
            after => {
                Some(after.strip_prefix(':').ok_or_else(|| bad("something follows the `]` of the host"))?)
            }
        };
        (Host::from_ip(ip.into()), port)
    } else {
        let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
        (Host::parse(&name.to_ascii_lowercase())?, port)
    };
    let port = match port {
        None => scheme.default_port(),
        Some(digits) => plain_number(digits)
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| *number != 0)
            .ok_or_else(|| bad("the port of the host is not a number from 1 to 65535"))?,
    };
    Ok((host, port))
}

/// How long is the body? One answer, or none. hyper has settled the length by now and dropped what
/// lost; this refuses what the next reader might settle otherwise.
fn framing(headers: &HeaderMap, version: Version) -> Result<(), Unclear> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(bad("there is more than one Content-Length"));
    }
    if length.is_some_and(|length| content_length(length.as_bytes()).is_none()) {
        return Err(bad("the Content-Length is not a plain number"));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(_), _) if version != Version::HTTP_11 => Err(bad("Transfer-Encoding belongs to HTTP/1.1")),
        (Some(_), _) if length.is_some() => Err(bad("there are both Content-Length and Transfer-Encoding")),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _) => Err(bad("the only Transfer-Encoding accepted is `chunked`, once")),
    }
}

#[cfg(test)]
mod tests;

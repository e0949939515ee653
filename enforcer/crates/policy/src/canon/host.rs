//! Hosts: DNS names and IP addresses, in one spelling.
//!
//! Left out: resolving them, and saying which addresses are special; both need more than text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{RequestError, Scheme, punycode, shown};

/// RFC 1035, 2.3.4: 255 octets on the wire are 253 characters of text without the final dot.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A canonical host: a DNS name (lower case, A-labels, LDH, no trailing dot, last label not numeric) or an IP address.
///
/// It prints as it is parsed; an IPv6 address without brackets. [`Host::authority`] adds them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Repr);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Name(Arc<str>),
    Ip(IpAddr),
}

impl Host {
    /// Strict: what is ambiguous is an error, never repaired. An IPv6 address may stand in brackets.
    pub fn parse(text: &str) -> Result<Self, RequestError> {
        let refuse = |code, why: &str| Err(RequestError::new(code, format!("host `{}` {why}", shown(text))));
        if text.is_empty() {
            return Err(RequestError::new("host_empty", "the host is empty"));
        }
        if !text.is_ascii() {
            return refuse("host_not_ascii", "is not ASCII; write it in its `xn--` form");
        }
        if let Some(inner) = text.strip_prefix('[') {
            return match inner.strip_suffix(']') {
                Some(inner) => Self::v6(inner, text),
                None => refuse("host_malformed", "opens a bracket that is not closed"),
            };
        }
        match text.matches(':').count() {
            0 => {}
            1 => return refuse("host_malformed", "has a `:`, so it is more than a host"),
            _ => return Self::v6(text, text),
        }
        // `Ipv4Addr` takes exactly four decimal numbers without leading zeros; `127.1`, `0x7f.1` and
        // `2130706433` fall through to the rule about the last label.
        if let Ok(v4) = text.parse::<Ipv4Addr>() {
            return Ok(Host(Repr::Ip(IpAddr::V4(v4))));
        }
        if text.len() > MAX_NAME {
            return refuse("host_too_long", "is longer than 253 characters");
        }
        if text.ends_with('.') {
            return refuse("host_trailing_dot", "ends in a dot");
        }
        let name = text.to_ascii_lowercase();
        for label in name.split('.') {
            if let Err((code, why)) = check_label(label) {
                return refuse(code, why);
            }
        }
        let last = name.rsplit('.').next().unwrap_or(&name);
        if ends_in_a_number(last) {
            return refuse("host_numeric", "ends in a number but is not four decimal numbers");
        }
        Ok(Host(Repr::Name(name.into())))
    }

    pub fn from_ip(ip: IpAddr) -> Self {
        Host(Repr::Ip(ip.to_canonical()))
    }

    pub fn ip(&self) -> Option<IpAddr> {
        match &self.0 {
            Repr::Ip(ip) => Some(*ip),
            Repr::Name(_) => None,
        }
    }

    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Repr::Name(name) => Some(name),
            Repr::Ip(_) => None,
        }
    }

    /// As it stands in a `Host` header: brackets round IPv6, the port unless it is the scheme's own.
    pub fn authority(&self, scheme: Scheme, port: u16) -> String {
        let host = match &self.0 {
            Repr::Ip(IpAddr::V6(v6)) => format!("[{v6}]"),
            Repr::Ip(IpAddr::V4(v4)) => v4.to_string(),
            Repr::Name(name) => name.to_string(),
        };
        if port == scheme.default_port() { host } else { format!("{host}:{port}") }
    }

    fn v6(address: &str, whole: &str) -> Result<Self, RequestError> {
        let v6: Ipv6Addr = address.parse().map_err(|_error: std::net::AddrParseError| {
            RequestError::new("host_malformed", format!("host `{}` is not an IPv6 address", shown(whole)))
        })?;
        if v6.to_ipv4_mapped().is_some() {
            let message = format!("host `{}` hides an IPv4 address; write that address", shown(whole));
            return Err(RequestError::new("host_mapped", message));
        }
        Ok(Host(Repr::Ip(IpAddr::V6(v6))))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Name(name) => f.write_str(name),
            Repr::Ip(ip) => ip.fmt(f),
        }
    }
}

fn check_label(label: &str) -> Result<(), (&'static str, &'static str)> {
    if label.is_empty() {
        return Err(("host_malformed", "has an empty label"));
    }
    if label.len() > MAX_LABEL {
        return Err(("host_too_long", "has a label longer than 63 characters"));
    }
    if !label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(("host_malformed", "has characters other than letters, digits, `-` and `.`"));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(("host_malformed", "has a label that starts or ends with `-`"));
    }
    if let Some(encoded) = label.strip_prefix("xn--") {
        // A label that decodes to plain ASCII is a second spelling of another name (RUSTSEC-2024-0421).
        let genuine = punycode::decode(encoded).is_some_and(|decoded| !decoded.iter().all(char::is_ascii));
        if !genuine {
            return Err(("host_malformed", "has an `xn--` label that encodes nothing"));
        }
    }
    Ok(())
}

/// getaddrinfo and the WHATWG URL standard read such names as IPv4 addresses.
fn ends_in_a_number(last: &str) -> bool {
    last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

//! Where a secret may be sent: scheme, host or wildcard, and port.
//!
//! Parsed once into one canonical text, which is what gets sealed with the value. Strict: what
//! could be read in two ways is refused. Public suffixes are not known here, which is one reason
//! why a wildcard needs a flag.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::VaultError;

/// The wider forms a person has to ask for by name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dangers {
    /// `*.example.com`: whoever can make a name below it receives the secret.
    pub wildcard: bool,
    /// `http://…`: everybody on the way can read the secret.
    pub plaintext: bool,
}

/// One place a secret may go to.
///
/// Deserialising is as strict as [`Binding::parse`] without dangers, so that no message can carry
/// a wildcard past the flag. Send texts and flags instead, and parse them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Binding {
    https: bool,
    host: Pattern,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Name(String),
    /// Any depth below the name, never the name itself.
    Below(String),
    Ip(IpAddr),
}

impl Binding {
    /// `api.github.com`, `https://api.example.com:8443`, `*.example.com` (only with `wildcard`),
    /// `http://…` (only with `plaintext`). Without a scheme: https. Without a port: the scheme's.
    pub fn parse(text: &str, dangers: Dangers) -> Result<Self, VaultError> {
        let binding = Self::read(text)?;
        if !binding.https && !dangers.plaintext {
            return Err(VaultError::Invalid(format!(
                "`{text}` would send the secret unencrypted; use https, or allow plaintext explicitly for this secret"
            )));
        }
        if matches!(binding.host, Pattern::Below(_)) && !dangers.wildcard {
            return Err(VaultError::Invalid(format!(
                "`{text}` covers every name below it; name the hosts one by one, or allow a wildcard explicitly for this secret"
            )));
        }
        Ok(binding)
    }

    /// Does this place include that endpoint? `host` is canonical: lower case, no trailing dot.
    pub fn covers(&self, scheme: &str, host: &str, port: u16) -> bool {
        let scheme_fits = match scheme {
            "https" => self.https,
            "http" => !self.https,
            _ => false,
        };
        let host_fits = match &self.host {
            Pattern::Name(name) => name == host,
            Pattern::Below(parent) => host
                .strip_suffix(parent.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(is_dns_name),
            Pattern::Ip(ip) => read_ip(host) == Some(*ip),
        };
        scheme_fits && host_fits && port == self.port
    }

    /// Every form, the dangerous ones too: for what has been stored already.
    pub(crate) fn read(text: &str) -> Result<Self, VaultError> {
        let refuse = |why: &str| {
            Err(VaultError::Invalid(format!("`{text}` is not a host to bind a secret to: {why}")))
        };
        let (https, rest) = match text.split_once("://") {
            None => (true, text),
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return refuse("only https:// and http:// are known"),
        };
        if rest.contains(['/', '?', '#', '@']) {
            return refuse("give the host alone, without path, query or user");
        }
        let (host, port) = match split_port(rest) {
            Ok(parts) => parts,
            Err(why) => return refuse(why),
        };
        let port = port.unwrap_or(if https { 443 } else { 80 });
        if !host.is_ascii() {
            return refuse("write an international name in its `xn--` form");
        }
        let host = host.to_ascii_lowercase();
        let pattern = if let Some(ip) = read_ip(&host) {
            Pattern::Ip(ip)
        } else if let Some(parent) = host.strip_prefix("*.") {
            if !is_dns_name(parent) || !parent.contains('.') {
                return refuse(
                    "a wildcard stands for all labels before a name of at least two, as in `*.example.com`",
                );
            }
            Pattern::Below(parent.to_owned())
        } else if host.contains('*') {
            return refuse("`*` may only stand alone as the first label");
        } else if host.ends_with('.') {
            return refuse("write it without the dot at the end");
        } else if !is_dns_name(&host) {
            return refuse("it is neither a DNS name nor an IP address");
        } else {
            Pattern::Name(host)
        };
        Ok(Binding { https, host: pattern, port })
    }
}

/// The canonical text, port always named.
impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.https { "https://" } else { "http://" })?;
        match &self.host {
            Pattern::Name(name) => write!(f, "{name}")?,
            Pattern::Below(parent) => write!(f, "*.{parent}")?,
            Pattern::Ip(IpAddr::V4(ip)) => write!(f, "{ip}")?,
            Pattern::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
        }
        write!(f, ":{}", self.port)
    }
}

impl TryFrom<String> for Binding {
    type Error = VaultError;
    fn try_from(text: String) -> Result<Self, VaultError> {
        Binding::parse(&text, Dangers::default())
    }
}

impl From<Binding> for String {
    fn from(binding: Binding) -> String {
        binding.to_string()
    }
}

/// For listings: what has been stored may hold the dangerous forms.
pub(crate) mod stored {
    use serde::{Deserialize, Deserializer};

    use super::Binding;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Binding>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| Binding::read(text).map_err(serde::de::Error::custom)).collect()
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = if text.starts_with('[') {
        match text.split_once(']') {
            // The brackets stay on: they are what makes it an address of version 6.
            Some((inner, rest)) => {
                (text.split_at(inner.len() + 1).0, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
            }
            None => return Err("`[` is not closed"),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("put an IPv6 address in brackets"),
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        }
    };
    match port {
        Some("") if text.ends_with(':') => Err("the port is missing"),
        Some("") => Ok((host, None)),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0') => {
            digits.parse().map(|port| (host, Some(port))).map_err(|_out_of_range| "the port is over 65535")
        }
        _ => Err("the port is not a number from 1 to 65535"),
    }
}

fn read_ip(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<Ipv6Addr>() {
        return Some(IpAddr::V6(ip));
    }
    if bare.len() == host.len() { bare.parse::<Ipv4Addr>().ok().map(IpAddr::V4) } else { None }
}

/// Letters, digits and inner hyphens, lower case; the last label is not a number (that would be
/// one of the many spellings of an IPv4 address).
fn is_dns_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let numeric = |l: &str| {
        l.bytes().all(|b| b.is_ascii_digit())
            || l.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    name.len() <= 253 && name.split('.').all(label) && !name.rsplit('.').next().is_some_and(numeric)
}

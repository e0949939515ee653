//! Host patterns: exact, everything below a name, or any host at all.

use std::fmt;
use std::sync::Arc;

use crate::canon::{Host, RequestError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// In allow rules written `*`; in deny rules no host at all is.
    Any,
    Exact(Host),
    /// `*.example.com`: any depth below the name, never the name itself, never an address.
    Below(Arc<str>),
}

impl HostPattern {
    /// `*` alone is not a pattern; what it would mean is for the caller to say.
    pub(crate) fn parse(text: &str) -> Result<Self, RequestError> {
        let Some(base) = text.strip_prefix("*.") else { return Host::parse(text).map(HostPattern::Exact) };
        match Host::parse(base)?.name() {
            Some(name) => Ok(HostPattern::Below(name.into())),
            None => Err(RequestError::new(
                "host_malformed",
                format!("there are no names below the address `{base}`"),
            )),
        }
    }

    pub(crate) fn matches(&self, host: &Host) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Exact(own) => own == host,
            HostPattern::Below(base) => host.name().is_some_and(|name| is_below(name, base)),
        }
    }

    pub(crate) fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Any, _) => true,
            (_, HostPattern::Exact(host)) => self.matches(host),
            (HostPattern::Below(own), HostPattern::Below(base)) => own == base || is_below(base, own),
            (HostPattern::Exact(_) | HostPattern::Below(_), HostPattern::Any)
            | (HostPattern::Exact(_), HostPattern::Below(_)) => false,
        }
    }

    /// Is there a host that matches both? Patterns are nested or apart.
    pub(crate) fn overlaps(&self, other: &HostPattern) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Any => f.write_str("*"),
            HostPattern::Exact(host) => host.fmt(f),
            HostPattern::Below(base) => write!(f, "*.{base}"),
        }
    }
}

/// By labels: `evilgithub.com` is not below `github.com`.
fn is_below(name: &str, base: &str) -> bool {
    name.strip_suffix(base).is_some_and(|above| above.ends_with('.'))
}

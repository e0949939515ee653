//! Connections that no rule looks into: TLS that is passed through, and raw TCP to named hosts.
//!
//! Which way a TLS connection goes follows the order of the file, as everything in `allow` does: the
//! first rule for the endpoint says whether it is inspected or passed through.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::canon::{Host, Scheme};
use crate::matcher::{Carriage, Conditions, HostPattern};
use crate::policy::{AgentPolicy, Rule};
use crate::window::Moment;

/// Where a connection that is relayed unread leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub relay: Relay,
    pub host: Host,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// TLS whose server name is the host.
    Passthrough,
    /// TCP to this address, which is one of the host's.
    Raw { address: IpAddr },
}

/// Which way a TLS connection goes.
#[derive(Clone, Debug)]
pub enum Route {
    Inspect,
    Passthrough,
    Refuse,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.relay {
            Relay::Passthrough => "tls",
            Relay::Raw { .. } => "tcp",
        };
        match self.host.ip() {
            Some(IpAddr::V6(ip)) => write!(f, "{scheme}://[{ip}]:{}", self.port),
            _ => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl AgentPolicy {
    /// For a TLS connection to this server name.
    pub fn route(&self, host: &Host, port: u16, at: Moment) -> Route {
        if self.denies_endpoint(host, port, Some(Scheme::Https), at) {
            return Route::Refuse;
        }
        let reaches = |number: usize| {
            let conditions = self.conditions.get(number)?;
            let tls = match conditions.carriage {
                Carriage::Requests => conditions.scheme == Some(Scheme::Https),
                Carriage::Passthrough => true,
                Carriage::Raw => false,
            };
            (tls && conditions.leads(host, port, at)).then_some(conditions.carriage)
        };
        match self.allow.first(host, reaches) {
            None if self.observes() => Route::Inspect,
            None => Route::Refuse,
            Some((_, Carriage::Passthrough)) => Route::Passthrough,
            Some(_) => Route::Inspect,
        }
    }

    /// The hosts that raw rules name for this port, in the order of the file.
    pub fn raw_hosts(&self, port: u16, at: Moment) -> Vec<Host> {
        if !self.raw_ports.contains(&port) {
            return Vec::new();
        }
        let raw = self.conditions.iter().filter(|c| c.carriage == Carriage::Raw && c.port == Some(port));
        let hosts = raw.filter(|c| c.is_open(at)).flat_map(|c| &c.hosts);
        hosts
            .filter_map(|pattern| match pattern {
                HostPattern::Exact(host) => Some(host.clone()),
                HostPattern::Any | HostPattern::Below(_) => None,
            })
            .collect()
    }

    /// The rule that lets this connection through unread.
    pub fn relays(&self, endpoint: &Endpoint, at: Moment) -> Option<Arc<Rule>> {
        let Endpoint { relay, host, port } = endpoint;
        let carriage = match relay {
            Relay::Passthrough => match self.route(host, *port, at) {
                Route::Passthrough => Carriage::Passthrough,
                Route::Inspect | Route::Refuse => return None,
            },
            Relay::Raw { address } => {
                let by_address = Host::from_ip(*address);
                if [host, &by_address].into_iter().any(|host| self.denies_endpoint(host, *port, None, at)) {
                    return None;
                }
                Carriage::Raw
            }
        };
        let takes = |number: usize| {
            self.conditions
                .get(number)
                .filter(|c| c.carriage == carriage && c.leads(host, *port, at))
                .map(drop)
        };
        self.allow.first(host, takes).and_then(|(number, ())| self.rules.get(number).cloned())
    }

    /// Is there a deny rule for all that could go there?
    fn denies_endpoint(&self, host: &Host, port: u16, scheme: Option<Scheme>, at: Moment) -> bool {
        let denies = |number: usize| {
            let conditions: &Conditions = self.conditions.get(number)?;
            let all = conditions.scheme.is_none() || conditions.scheme == scheme;
            (all && self.enforces(number) && conditions.whole_endpoint() && conditions.leads(host, port, at))
                .then_some(())
        };
        self.deny.first(host, denies).is_some()
    }
}

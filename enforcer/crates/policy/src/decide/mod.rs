//! The decision: any deny rule blocks, the first allow rule decides, no rule means no.
//!
//! Left out: rates, credentials, receipts. A decision names the rule; the gate does the rest.

#[cfg(test)]
mod tests;

use crate::canon::{Host, Request, Scheme};
use crate::policy::{AgentPolicy, Decision, NameMatch};
use crate::window::Moment;

impl AgentPolicy {
    /// At this moment; see [`Moment`] for what is judged without one.
    pub fn decide(&self, request: &Request, at: Moment) -> Decision {
        let matches = |number: usize| self.conditions.get(number)?.matches(request, at);
        if let Some((number, _)) = self.deny.first(&request.host, matches) {
            return Decision::Deny { rule: self.rules.get(number).cloned() };
        }
        let allowed = self.allow.first(&request.host, matches);
        match allowed.and_then(|(number, template)| Some((self.rules.get(number)?, template))) {
            Some((rule, template)) => Decision::Allow { rule: rule.clone(), template: template.clone() },
            None => Decision::Deny { rule: None },
        }
    }

    /// Could any allow rule match this endpoint? For the TLS handshake, before a request is seen.
    pub fn reaches(&self, scheme: Scheme, host: &Host, port: u16, at: Moment) -> bool {
        let reaches =
            |number: usize| self.conditions.get(number).filter(|c| c.reaches(scheme, host, port, at));
        let denied = self.deny.first(host, |number| reaches(number).filter(|c| c.whole_endpoint()));
        denied.is_none() && self.allow.first(host, reaches).is_some()
    }

    /// Could any allow rule match this name (on any port, at any time)? For DNS.
    pub fn resolves(&self, host: &Host) -> NameMatch {
        if self.denies_host(host) {
            NameMatch::No
        } else if self.allow.names(host) || self.also_resolved.contains(host) {
            NameMatch::Exact
        } else if self.allow.first(host, Some).is_some() {
            NameMatch::Wildcard
        } else {
            NameMatch::No
        }
    }

    /// Is there a deny rule for all of this host, whatever the scheme, port, method, path and time?
    pub(crate) fn denies_host(&self, host: &Host) -> bool {
        let whole = |number: usize| {
            self.conditions
                .get(number)
                .filter(|c| c.scheme.is_none() && c.port.is_none() && c.when.is_none() && c.whole_endpoint())
        };
        self.deny.first(host, whole).is_some()
    }
}

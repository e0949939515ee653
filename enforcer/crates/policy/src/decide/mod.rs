//! The decision: any deny rule blocks, the first allow rule decides, no rule means no.
//!
//! In one step where the head decides, in two where the body does: a deny rule that looks into bodies
//! makes every body on its way be read, whatever allows the request afterwards.
//!
//! Left out: rates, credentials, receipts. A decision names the rule; the gate does the rest.

#[cfg(test)]
mod body_tests;
mod observe;
#[cfg(test)]
mod tests;

pub use observe::{Observed, WouldDeny};

use crate::body::{Body, Wanted};
use crate::canon::{Host, Request, Scheme};
use crate::matcher::Judged;
use crate::policy::{AgentPolicy, Decision, NameMatch, Resolve};
use crate::window::Moment;

impl AgentPolicy {
    /// The decision at this moment (see [`Moment`] for what is judged without one), or which body it takes
    /// to make one. Allocates nothing unless a rule looks into the request.
    pub fn decide(&self, request: &Request, at: Moment) -> Decision {
        self.decide_by(request, at, |_number| true)
    }

    /// As if deny rules that do not count were not there.
    fn decide_by(&self, request: &Request, at: Moment, counts: impl Fn(usize) -> bool) -> Decision {
        let judge = |number: usize| self.conditions.get(number).map_or(Judged::No, |c| c.judge(request, at));
        let denies = |number: usize| match judge(number) {
            Judged::Yes(template) if counts(number) => Some(template),
            Judged::Yes(_) | Judged::No | Judged::Needs(_) => None,
        };
        if let Some((number, _)) = self.deny.first_for(request, denies) {
            return Decision::Deny { rule: self.rules.get(number).cloned() };
        }
        let may_allow = |number: usize| match judge(number) {
            Judged::No => None,
            judged @ (Judged::Yes(_) | Judged::Needs(_)) => Some(judged),
        };
        let Some((number, judged)) = self.allow.first_for(request, may_allow) else {
            return Decision::Deny { rule: None };
        };
        let wanted = self.wanted(request, at);
        match (judged, wanted, self.rules.get(number)) {
            (Judged::Yes(template), None, Some(rule)) => {
                Decision::Allow { rule: rule.clone(), template: template.clone() }
            }
            (_, Some(wanted), _) => Decision::Needs(wanted),
            (_, None, _) => Decision::Deny { rule: None },
        }
    }

    /// What the deny rules have to see of the body, and the allow rules up to the first that needs
    /// nothing of it. Nothing, once the body has been read.
    fn wanted(&self, request: &Request, at: Moment) -> Option<Wanted> {
        if !matches!(request.body, Body::Unread) || !self.reads_bodies {
            return None;
        }
        let judge = |number: usize| self.conditions.get(number).map_or(Judged::No, |c| c.judge(request, at));
        let settles = |number: usize| matches!(judge(number), Judged::Yes(_)).then_some(());
        let settled = self.allow.first_for(request, settles).map_or(usize::MAX, |(number, ())| number);
        let mut all: Option<Wanted> = None;
        let mut needs = |list: &[usize]| {
            for &number in list.iter().take_while(|number| **number < settled) {
                match judge(number) {
                    Judged::Needs(wanted) => all = Some(all.map_or(wanted, |all| all.and(wanted))),
                    Judged::Yes(_) | Judged::No => {}
                }
            }
        };
        self.deny.candidates(request, &mut needs);
        self.allow.candidates(request, &mut needs);
        all
    }

    /// Could any allow rule match this endpoint? For the TLS handshake, before a request is seen.
    pub fn reaches(&self, scheme: Scheme, host: &Host, port: u16, at: Moment) -> bool {
        let reaches =
            |number: usize| self.conditions.get(number).filter(|c| c.reaches(scheme, host, port, at));
        let holds = |number: usize| reaches(number).filter(|c| c.whole_endpoint() && self.enforces(number));
        let denied = self.deny.first(host, holds);
        denied.is_none() && (self.observes() || self.allow.first(host, reaches).is_some())
    }

    /// Could any allow rule match this name (on any port, at any time)? For DNS.
    pub fn resolves(&self, host: &Host) -> NameMatch {
        if self.denies_host(host) || self.resolve == Resolve::None {
            NameMatch::No
        } else if self.resolve == Resolve::Any || self.allow.names(host) || self.also_resolved.contains(host)
        {
            NameMatch::Exact
        } else if self.observes() || self.allow.first(host, Some).is_some() {
            NameMatch::Wildcard
        } else {
            NameMatch::No
        }
    }

    /// Is there a deny rule for all of this host, whatever the scheme, port, method, path and time?
    pub(crate) fn denies_host(&self, host: &Host) -> bool {
        let whole = |number: usize| {
            self.conditions.get(number).filter(|c| {
                self.enforces(number)
                    && c.scheme.is_none()
                    && c.port.is_none()
                    && c.when.is_none()
                    && c.whole_endpoint()
            })
        };
        self.deny.first(host, whole).is_some()
    }
}

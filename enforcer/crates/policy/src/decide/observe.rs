//! `mode: observe`: a request passes, and what the rules say of it is told beside.
//!
//! A deny rule that observes blocks nothing. In a policy that observes, a request that no rule allows
//! passes without a credential; deny rules with a `mode: enforce` of their own still block. Everything
//! else stays: the endpoint is still ours to dial, and special addresses stay shut.

use std::sync::Arc;

use crate::canon::Request;
use crate::matcher::Template;
use crate::policy::{AgentPolicy, Decision, Mode, Rule};
use crate::window::Moment;

/// What becomes of a request, and what would if everything were enforced.
#[derive(Clone, Debug)]
pub struct Observed {
    pub decision: Decision,
    /// It passes only because it is observed.
    pub would_deny: Option<WouldDeny>,
}

/// `rule: None`: no rule allows it.
#[derive(Clone, Debug)]
pub struct WouldDeny {
    pub rule: Option<Arc<Rule>>,
}

impl Observed {
    /// The rule of the file that decides, or would if everything were enforced. `None`: no rule does.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        match (&self.would_deny, &self.decision) {
            (Some(would), _) => would.rule.as_ref(),
            (None, Decision::Allow { rule, .. }) => Some(rule),
            (None, Decision::Deny { rule }) => rule.as_ref(),
            (None, Decision::Needs(_)) => None,
        }
    }
}

impl AgentPolicy {
    /// What the gate acts on. [`AgentPolicy::decide`] says what the rules say.
    pub fn observe(&self, request: &Request, at: Moment) -> Observed {
        let said = self.decide(request, at);
        let Decision::Deny { rule } = &said else { return Observed { decision: said, would_deny: None } };
        if rule.as_ref().map_or(self.mode, |rule| rule.mode) == Mode::Enforce {
            return Observed { decision: said, would_deny: None };
        }
        let would_deny = WouldDeny { rule: rule.clone() };
        let decision = match self.decide_by(request, at, |number| self.enforces(number)) {
            Decision::Deny { rule: None } if self.mode == Mode::Observe => {
                // A deny rule that holds may have to see the body first.
                match self.wanted(request, at) {
                    Some(wanted) => Decision::Needs(wanted),
                    None => Decision::Allow { rule: self.unruled.clone(), template: Template::any() },
                }
            }
            decision => decision,
        };
        let passes = matches!(decision, Decision::Allow { .. });
        Observed { decision, would_deny: passes.then_some(would_deny) }
    }

    pub(crate) fn enforces(&self, number: usize) -> bool {
        self.rules.get(number).is_none_or(|rule| rule.mode == Mode::Enforce)
    }

    pub(crate) fn observes(&self) -> bool {
        self.mode == Mode::Observe
    }
}

//! Decoys, and what happens when an agent touches a tripwire.
//!
//! Left out: the values of decoys, and how they are recognised (`credential`).

use crate::canon::Host;
use crate::name::Name;
use crate::policy::AgentPolicy;

/// A value in the agent's environment that nothing honest has a use for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoy {
    pub name: Name,
    /// The variable that it is found in.
    pub env: String,
    /// With one `{}` for the part that makes it unique.
    pub format: String,
}

/// What follows when a tripwire is touched. In every case the request is refused and written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    Alert,
    /// The agent is switched off; `freeze`: and its processes are stopped.
    Quarantine {
        freeze: bool,
    },
}

/// `tripwire`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tripwire(pub(crate) Option<Response>);

impl Tripwire {
    /// A placeholder was sent to a host that no rule of its credential names. Clients do that by mistake
    /// too, when they follow a redirect: so unless the policy says more, it is an alert.
    pub fn strayed(self) -> Response {
        self.0.unwrap_or(Response::Alert)
    }

    /// A decoy was used. Nothing does that by mistake.
    pub fn bitten(self) -> Response {
        self.0.unwrap_or(Response::Quarantine { freeze: false })
    }
}

impl AgentPolicy {
    /// Does any allow rule bring this credential to this host?
    pub fn brings(&self, credential: &str, host: &Host) -> bool {
        self.rules.iter().zip(&self.conditions).skip(self.denies).any(|(rule, conditions)| {
            rule.credential.as_ref().is_some_and(|name| name.as_str() == credential)
                && conditions.hosts.iter().any(|pattern| pattern.matches(host))
        })
    }

    pub fn decoys(&self) -> &[Decoy] {
        &self.decoys
    }

    pub fn tripwire(&self) -> Tripwire {
        self.tripwire
    }
}

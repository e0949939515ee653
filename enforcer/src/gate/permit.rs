//! The proof that the gate said yes. Nothing else makes one, and nothing copies one.

use std::sync::Arc;

use enforcer_policy::{CredentialSpec, Request, Rule};

use super::forward::Passage;
use crate::agent::Agent;

/// Proof that the gate admitted this request. Not `Clone`; made nowhere else.
#[must_use]
pub struct Permit {
    request: Arc<Request>,
    rule: Arc<Rule>,
    credential: Option<CredentialSpec>,
    agent: Arc<Agent>,
}

/// Proof that the gate admitted this forwarded connection. As strict as a [`Permit`].
#[must_use]
pub struct ForwardPermit {
    passage: Passage,
}

impl ForwardPermit {
    pub(super) fn new(passage: Passage) -> Self {
        ForwardPermit { passage }
    }

    pub fn passage(&self) -> Passage {
        self.passage
    }
}

impl Permit {
    pub(super) fn new(
        request: Arc<Request>,
        rule: Arc<Rule>,
        credential: Option<CredentialSpec>,
        agent: Arc<Agent>,
    ) -> Self {
        Permit { request, rule, credential, agent }
    }

    /// A permit nobody asked the gate for.
    #[cfg(test)]
    pub(crate) fn for_test(
        request: Request,
        rule: Arc<Rule>,
        credential: Option<CredentialSpec>,
        agent: Arc<Agent>,
    ) -> Self {
        Permit { request: Arc::new(request), rule, credential, agent }
    }

    pub fn request(&self) -> &Request {
        &self.request
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    pub fn credential(&self) -> Option<&CredentialSpec> {
        self.credential.as_ref()
    }

    pub fn agent(&self) -> &Agent {
        &self.agent
    }
}

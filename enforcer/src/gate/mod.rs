//! The only code that says yes.
//!
//! [`Gate::admit`] judges one request and makes the one [`Permit`] it may be sent with.
// SKELETON: owned by the data-path work; `Permit` is what credential/ and proxy/upstream take.

use std::sync::Arc;

use enforcer_policy::{CredentialSpec, Request, Rule};

/// Proof that the gate admitted this request. Not `Clone`; made nowhere else.
#[must_use]
pub struct Permit {
    pub(crate) request: Arc<Request>,
    pub(crate) rule: Arc<Rule>,
    pub(crate) credential: Option<CredentialSpec>,
    pub(crate) agent: Arc<crate::agent::Agent>,
}
impl Permit {
    pub fn request(&self) -> &Request { &self.request }
    pub fn rule(&self) -> &Rule { &self.rule }
    pub fn credential(&self) -> Option<&CredentialSpec> { self.credential.as_ref() }
    pub fn agent(&self) -> &crate::agent::Agent { &self.agent }

    /// A permit nobody asked the gate for.
    #[cfg(test)]
    pub(crate) fn for_test(
        request: Request,
        rule: Arc<Rule>,
        credential: Option<CredentialSpec>,
        agent: Arc<crate::agent::Agent>,
    ) -> Self {
        Permit { request: Arc::new(request), rule, credential, agent }
    }
}

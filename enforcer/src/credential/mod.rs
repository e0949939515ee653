//! Attaching a credential to a permitted request, as late as can be.
//!
//! Strips what the agent sent, swaps placeholders where the rule says, refuses them anywhere else.
// SKELETON: signatures are the contract. One file per kind; `KINDS` is the registry.

use std::sync::Arc;

use enforcer_policy::{AgentPolicy, CredentialSpec};

use crate::gate::Permit;
use crate::secret::{Fetched, Secrets};

/// The placeholder that stands for a credential of an agent: `enf-NAME-` and 32 hex digits, stable for
/// (host key, agent, credential), so restarts keep it. Exactly recognisable in any byte stream.
pub struct Placeholders { _p: () }
impl Placeholders {
    pub fn new(key: &[u8; 32]) -> Self { let _ = key; todo!() }
    pub fn of(&self, agent: &str, credential: &str) -> String { let _ = (agent, credential); todo!() }
    /// All of one agent: to scan requests for, and for its environment (`env` name → placeholder).
    pub fn environment(&self, policy: &AgentPolicy) -> Vec<(String, String)> { let _ = policy; todo!() }
}

/// A request head with its credential, and the permit it was made with.
pub struct Authorized { pub permit: Permit, pub parts: http::request::Parts, /// the values that must not come back
    pub injected: Vec<Arc<Fetched>> }

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("the placeholder of credential `{credential}` may not be used in {place}")] Misplaced { credential: String, place: String },
    #[error("credential `{credential}` must be sent by the agent as its placeholder")] Required { credential: String },
    #[error("cannot read secret `{name}`")] Secret { name: String, #[source] error: enforcer_vault::VaultError },
    #[error("credential `{credential}` cannot be put into this request: {why}")] Unfit { credential: String, why: String },
}

/// Strips every credential-like header (Authorization, Cookie stays, the spec's own header and its `_`/`.` twins, Proxy-*),
/// checks path, query and header values for placeholders of this agent, fetches the secret, injects it once (sensitive).
pub async fn authorize(permit: Permit, parts: http::request::Parts, policy: &AgentPolicy, placeholders: &Placeholders, secrets: &Secrets) -> Result<Authorized, CredentialError> {
    let _ = (permit, parts, policy, placeholders, secrets); todo!()
}

/// Streams a request body through a search for any placeholder of the agent; found → the body ends in an error
/// (the upstream request is cut, nothing after the match is sent).
pub struct BodyGuard { _p: () }
impl BodyGuard { pub fn new(policy: &AgentPolicy, placeholders: &Placeholders) -> Self { let _ = (policy, placeholders); todo!() }
    pub fn check(&mut self, chunk: &[u8]) -> Result<(), CredentialError> { let _ = chunk; todo!() } }

#[allow(dead_code, reason = "skeleton")]
fn kinds(_: &CredentialSpec) {}

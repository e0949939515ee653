//! Attaching a credential to a permitted request, as late as can be.
//!
//! In this order: a placeholder in a place that the rule's credential does not name refuses the
//! request; what the agent sent as a credential is removed; the secret is fetched for exactly this
//! endpoint; it is put in once. A new kind is one file in `kind/` and one line in its table.
//!
//! Not here: whether the request is allowed (the [`Permit`] says so), hop-by-hop headers, ranges
//! and codings (the protocol's), and what comes back (`redact`).

mod check;
mod guard;
mod kind;
mod placeholders;
mod shape;
mod strip;
mod target;
mod tripwire;

use std::sync::Arc;

use enforcer_policy::AgentPolicy;
use http::request::Parts;

use crate::gate::Permit;
use crate::secret::{Bound, Fetched, Secrets};

pub use guard::BodyGuard;
pub use kind::KINDS;
pub use placeholders::Placeholders;
pub use tripwire::{Alarm, Tripwires};

use kind::Wanted;

/// A request head with its credential, and the permit it was made with. From here on the target
/// and the headers may hold a secret: they are for the wire, not for logs.
pub struct Authorized {
    pub permit: Permit,
    pub parts: Parts,
    /// what is in the request
    pub injected: Vec<Arc<Fetched>>,
    /// The values that must not come back: those, and all others that this agent can have sent to this
    /// endpoint. What one request left there another one may read.
    pub guarded: Arc<Bound>,
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The same for a placeholder of this agent, of another one, and of nobody.
    #[error("the placeholder of credential `{credential}` may not be used in {place}")]
    Misplaced { credential: String, place: String },
    #[error("decoy `{name}` opens nothing and may not be sent anywhere")]
    Decoy { name: String },
    #[error("credential `{credential}` must be sent by the agent as its placeholder")]
    Required { credential: String },
    #[error("cannot read secret `{name}`")]
    Secret {
        name: String,
        #[source]
        error: enforcer_vault::VaultError,
    },
    #[error("credential `{credential}` cannot be put into this request: {why}")]
    Unfit { credential: String, why: String },
}

/// Makes the head that is sent. A rule without a credential lets the agent's own `Authorization`
/// pass as it is: it is the agent's to send, and holds no placeholder.
pub async fn authorize(
    permit: Permit,
    parts: Parts,
    policy: &AgentPolicy,
    placeholders: &Placeholders,
    secrets: &Secrets,
) -> Result<Authorized, CredentialError> {
    let mut authorized = attach(permit, parts, policy, placeholders, secrets).await?;
    let names: Vec<String> = policy.credentials().iter().map(|spec| spec.secret.to_string()).collect();
    let request = authorized.permit.request();
    let bound = secrets
        .bound(names.clone(), request.scheme.as_str(), &request.host.to_string(), request.port)
        .await
        .map_err(|error| CredentialError::Secret { name: names.join("`, `"), error })?;
    // Another version only while one is being replaced.
    let others = authorized.injected.iter().filter(|fetched| {
        bound.iter().all(|b| (b.name.as_str(), b.version) != (fetched.name.as_str(), fetched.version))
    });
    let others = others.cloned().collect();
    authorized.guarded = bound.with(others);
    Ok(authorized)
}

async fn attach(
    permit: Permit,
    mut parts: Parts,
    policy: &AgentPolicy,
    placeholders: &Placeholders,
    secrets: &Secrets,
) -> Result<Authorized, CredentialError> {
    let done = |permit, parts, injected| Authorized { permit, parts, injected, guarded: Arc::default() };
    let Some(spec) = permit.credential().cloned() else {
        check::head(&parts, None)?;
        strip::proxy_credentials(&mut parts.headers);
        return Ok(done(permit, parts, Vec::new()));
    };
    let name = || spec.name.to_string();
    let unfit = |why| CredentialError::Unfit { credential: name(), why };
    let credential =
        kind::of(&spec.kind).ok_or_else(|| unfit("this version does not know its kind".to_owned()))?;
    let agent = permit.agent().name.as_str();
    let placeholder = placeholders.of(policy.name.as_str(), spec.name.as_str());
    let places = credential.places();

    let found = check::head(&parts, Some(check::Expected { placeholder: &placeholder, places: &places }))?;
    let wanted = credential.wanted(found);
    if wanted == Wanted::Missing {
        return Err(CredentialError::Required { credential: name() });
    }
    strip::credentials(&mut parts, &places, credential.edits().then_some(placeholder.as_str()))
        .map_err(unfit)?;
    if wanted == Wanted::No {
        return Ok(done(permit, parts, Vec::new()));
    }

    let request = permit.request();
    let fetched = secrets
        .fetch(agent, spec.secret.as_str(), request.scheme.as_str(), &request.host.to_string(), request.port)
        .await
        .map_err(|error| CredentialError::Secret { name: spec.secret.to_string(), error })?;
    credential.apply(&mut parts, &placeholder, fetched.secret.expose()).map_err(unfit)?;
    Ok(done(permit, parts, vec![fetched]))
}

#[cfg(test)]
mod tests;

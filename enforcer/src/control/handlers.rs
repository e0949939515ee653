//! What each command answers, but for agents and receipts.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use enforcer_policy::SecretName;
use enforcer_vault::{Binding, Dangers, Entry, Secret, VaultError};
use http::header;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Failure;
use super::explain::{ExplainError, Explained, Question, explain as explain_request};
use super::{ControlState, agents, receipts};
use crate::policies::PolicyLoadError;
use crate::tls::distrust::Finding;

pub(super) type Answer<T> = Result<Json<T>, Failure>;

pub(super) async fn status(State(state): State<ControlState>) -> Answer<Value> {
    let secrets = state.secrets.list().await;
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "worker": &*state.confinement,
        "uptime_s": state.started.elapsed().as_secs(),
        "policies": state.policies.last(),
        "agents": state.policies.current().agents().count(),
        "sessions": state.agents.all().len(),
        "attached": agents::attached(&state),
        "disabled": state.switchboard.switches().all(),
        "secrets": secrets.as_ref().map(Vec::len).ok(),
        "vault_error": secrets.err().map(|e| e.to_string()),
        "backstop": state.backstop,
        "proofs": state.proofs.all(),
        "receipts": receipts::health(&state.audit),
    })))
}

pub(super) async fn distrust(State(state): State<ControlState>) -> Json<Vec<Finding>> {
    Json(state.distrust.all())
}

pub(super) async fn policies(State(state): State<ControlState>) -> Answer<Value> {
    let set = state.policies.current();
    let agents: Vec<Value> = set
        .agents()
        .map(|policy| {
            json!({
                "agent": policy.name.to_string(),
                "description": policy.description(),
                "owner": policy.owner(),
                "revision": policy.revision(),
                "hosts": policy.allowed_hosts(),
                "credentials": policy.credentials().iter().map(|c| c.name.to_string()).collect::<Vec<_>>(),
                "rules": policy.rules().len(),
            })
        })
        .collect();
    Ok(Json(json!({ "last": state.policies.last(), "agents": agents })))
}

pub(super) async fn policy_reload(State(state): State<ControlState>) -> Answer<Value> {
    let policies = state.policies;
    let reloaded = tokio::task::spawn_blocking(move || policies.reload()).await;
    match reloaded.map_err(|error| Failure::internal(&error))? {
        Ok(loaded) => Ok(Json(json!(loaded))),
        Err(failure) => Err(unloaded(&failure)),
    }
}

fn unloaded(failure: &PolicyLoadError) -> Failure {
    let text = Failure::internal(failure).body.error;
    let hint = failure.hint().unwrap_or_default();
    Failure::invalid(text).hint(format!("the policies in force before stay in force. {hint}"))
}

pub(super) async fn explain(State(state): State<ControlState>, body: Bytes) -> Answer<Explained> {
    let question: Question = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request(format!("the body cannot be read: {error}")))?;
    explain_request(&state.policies.current(), &question).map(Json).map_err(|error| {
        let text = Failure::internal(&error).body.error;
        let failure = match &error {
            ExplainError::NoAgent { .. } => Failure::not_found(text),
            ExplainError::Request { .. }
            | ExplainError::Header(_)
            | ExplainError::TwoBodies
            | ExplainError::Body(_) => Failure::bad_request(text),
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

pub(super) async fn secrets(State(state): State<ControlState>) -> Answer<Vec<Entry>> {
    state.secrets.list().await.map(Json).map_err(vault)
}

pub(super) async fn secret_show(
    State(state): State<ControlState>,
    Path(name): Path<String>,
) -> Answer<Entry> {
    state.secrets.entry(secret_name(&name)?).await.map(Json).map_err(vault)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetQuery {
    /// Bindings, with commas between; no host contains one.
    host: String,
    #[serde(default)]
    wildcard: bool,
    #[serde(default)]
    plaintext: bool,
}

/// The body is the value, byte for byte. It is never logged, echoed or kept outside the vault.
pub(super) async fn secret_set(
    State(state): State<ControlState>,
    Path(name): Path<String>,
    query: Result<Query<SetQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Value> {
    let name = secret_name(&name)?;
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let body = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let dangers = Dangers { wildcard: query.wildcard, plaintext: query.plaintext };
    let hosts: Vec<Binding> = query
        .host
        .split(',')
        .filter(|host| !host.is_empty())
        .map(|host| Binding::parse(host, dangers).map_err(|error| Failure::bad_request(error.to_string())))
        .collect::<Result<_, _>>()?;
    if hosts.is_empty() {
        return Err(Failure::bad_request("a secret is bound to at least one host")
            .hint("add `--host api.example.com`"));
    }
    // A `Vec` of the same memory where it is the only owner; `Secret` wipes it when it is dropped.
    let secret = Secret::new(Vec::from(body)).map_err(|error| Failure::bad_request(error.to_string()))?;
    let version = state.secrets.set(name.clone(), hosts, secret).await.map_err(vault)?;
    let cut = state.switchboard.secret_changed(&name);
    Ok(Json(json!({ "name": name, "version": version, "cut": cut })))
}

pub(super) async fn secret_remove(
    State(state): State<ControlState>,
    Path(name): Path<String>,
) -> Answer<Value> {
    let name = secret_name(&name)?;
    state.secrets.remove(name.clone()).await.map_err(vault)?;
    let cut = state.switchboard.secret_changed(&name);
    Ok(Json(json!({ "removed": name, "cut": cut })))
}

pub(super) async fn ca(State(state): State<ControlState>) -> Response {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], state.ca_pem.to_string()).into_response()
}

fn secret_name(text: &str) -> Result<String, Failure> {
    SecretName::parse(text)
        .map(|name| name.to_string())
        .map_err(|error| Failure::bad_request(error.to_string()))
}

fn vault(error: VaultError) -> Failure {
    match error {
        VaultError::NotFound(_) => {
            Failure::not_found(error.to_string()).hint("`enforcer secret ls` lists the secrets there are")
        }
        VaultError::NotBound { .. } | VaultError::Invalid(_) => Failure::bad_request(error.to_string()),
        VaultError::Changed(_) | VaultError::Other(_) => Failure::internal(&error),
    }
}

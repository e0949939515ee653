//! What `enforcer prove` found: kept in mind for `status`, written down, and cried out when something got out.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use enforcer_policy::AgentName;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::ControlState;
use super::error::Failure;
use super::handlers::Answer;
use super::server::Caller;
use super::switchboard::By;

/// The last proof of each agent since the daemon started.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<BTreeMap<String, Proved>>);

/// One proof, in short; the whole one is in its file.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Proved {
    /// Seconds since 1970.
    at: u64,
    #[serde(flatten)]
    told: Told,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    agent: String,
    holds: bool,
    /// Ways by which something got out, or that could not be judged.
    leaks: Vec<String>,
    /// Frames that a witness had no room for.
    lost: u32,
    file: String,
}

impl Proofs {
    pub(super) fn all(&self) -> BTreeMap<String, Proved> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Proved>> {
        // Each use is one call on the map: a panic cannot leave it half changed.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

pub(super) async fn proved(
    State(state): State<ControlState>,
    ConnectInfo(Caller(peer)): ConnectInfo<Caller>,
    body: Bytes,
) -> Answer<Proved> {
    let told: Told = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request(format!("the body cannot be read: {error}")))?;
    let agent = AgentName::parse(&told.agent).map_err(|error| Failure::bad_request(error.to_string()))?;
    if told.holds {
        info!(%agent, file = told.file, "proved: nothing got out");
    } else {
        error!(%agent, leaks = told.leaks.join(", "), lost = told.lost, file = told.file, "NOT PROVED: agents can get out, or nobody knows");
    }
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let proved = Proved { at, told };
    state.proofs.lock().insert(agent.to_string(), proved.clone());
    let (code, words) = match proved.told.holds {
        true => ("proof_held", None),
        false => ("proof_failed", Some(format!("got out: {}", proved.told.leaks.join(", ")))),
    };
    state.switchboard.record(&agent, "prove", code, words, &[], By::of(&peer)).await;
    Ok(Json(proved))
}

//! The agents that run, and the switch of each.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use enforcer_capture::message::Attached;
use enforcer_policy::AgentName;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ControlState;
use super::error::Failure;
use super::handlers::Answer;
use super::server::Caller;
use super::switchboard::Switched;
use crate::switches::Off;

/// A reason is a sentence.
const MAX_REASON: usize = 500;

/// A session, or an agent that is off and has none.
#[derive(Serialize)]
pub(super) struct Row {
    agent: String,
    session: Option<String>,
    cgroup: Option<u64>,
    netns: Option<u64>,
    uid: Option<u32>,
    /// `on`, `disabled`, `quarantined`, `frozen`
    state: &'static str,
    /// `strict` or `weak`, where it was attached; with it the reasons and what holds it.
    mode: Option<&'static str>,
    attached: Option<Attached>,
}

pub(super) async fn list(State(state): State<ControlState>) -> Answer<Vec<Row>> {
    let mut off = state.switchboard.switches().all();
    let word = |off: Option<&std::sync::Arc<Off>>| match off.map(|off| (off.frozen, off.quarantine)) {
        None => "on",
        Some((true, _)) => "frozen",
        Some((false, true)) => "quarantined",
        Some((false, false)) => "disabled",
    };
    let sessions = state.agents.all();
    let mut rows: Vec<Row> = sessions
        .iter()
        .map(|agent| (agent, state.agents.attached(&agent.session)))
        .map(|(agent, attached)| Row {
            agent: agent.name.to_string(),
            session: Some(agent.session.to_string()),
            cgroup: Some(agent.cgroup.0),
            netns: Some(agent.netns.0),
            uid: Some(agent.uid),
            state: word(off.get(agent.name.as_str())),
            mode: attached.as_ref().map(Attached::mode),
            attached,
        })
        .collect();
    off.retain(|name, _| !sessions.iter().any(|agent| agent.name.as_str() == name));
    rows.extend(off.into_iter().map(|(agent, off)| Row {
        agent,
        session: None,
        cgroup: None,
        netns: None,
        uid: None,
        state: if off.quarantine { "quarantined" } else { "disabled" },
        mode: None,
        attached: None,
    }));
    rows.sort_by(|a, b| (&a.agent, &a.session).cmp(&(&b.agent, &b.session)));
    Ok(Json(rows))
}

/// What `enforcer attach` governs, by session, for `enforcer status`.
pub(super) fn attached(state: &ControlState) -> BTreeMap<String, Value> {
    let all = state.agents.all().into_iter();
    all.filter_map(|agent| Some((agent.session.to_string(), state.agents.attached(&agent.session)?)))
        .map(|(session, attached)| (session, json!({ "mode": attached.mode(), "attached": attached })))
        .collect()
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Disable {
    #[serde(default)]
    freeze: bool,
    reason: Option<String>,
}

pub(super) async fn disable(
    State(state): State<ControlState>,
    ConnectInfo(Caller(peer)): ConnectInfo<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer<Switched> {
    let agent = known(&state, &name)?;
    let Disable { freeze, reason } = if body.is_empty() {
        Disable::default()
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| Failure::bad_request(format!("the body cannot be read: {error}")))?
    };
    if reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON) {
        return Err(Failure::bad_request(format!("a reason has at most {MAX_REASON} bytes")));
    }
    // In a task of its own: a caller that hangs up must not stop it half way.
    let switching =
        tokio::spawn(async move { state.switchboard.disable(&agent, freeze, reason, &peer).await });
    told(switching.await.map_err(|error| Failure::internal(&error))?)
}

pub(super) async fn enable(
    State(state): State<ControlState>,
    ConnectInfo(Caller(peer)): ConnectInfo<Caller>,
    Path(name): Path<String>,
) -> Answer<Switched> {
    let agent = known(&state, &name)?;
    let switching = tokio::spawn(async move { state.switchboard.enable(&agent, &peer).await });
    told(switching.await.map_err(|error| Failure::internal(&error))?)
}

/// A switch for an agent that does not exist would be taken for one that does.
fn known(state: &ControlState, name: &str) -> Result<AgentName, Failure> {
    let agent = AgentName::parse(name).map_err(|error| Failure::bad_request(error.to_string()))?;
    let policies = state.policies.current();
    let exists = policies.agent(name).is_some()
        || state.agents.all().iter().any(|running| running.name == agent)
        || state.switchboard.switches().off(name).is_some();
    if exists {
        return Ok(agent);
    }
    let names: Vec<&str> = policies.agents().map(|policy| policy.name.as_str()).collect();
    Err(Failure::not_found(format!("there is no agent `{name}`"))
        .hint(format!("agents with a policy: {}", names.join(", "))))
}

fn told(switched: Switched) -> Answer<Switched> {
    if switched.troubles.is_empty() {
        return Ok(Json(switched));
    }
    let Switched { agent, state, troubles, .. } = switched;
    let text = format!("agent `{agent}` is {state}, but: {}", troubles.join("; "));
    Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, text)
        .hint("what the sentence says holds; correct the rest and give the command again"))
}

//! The kill switch: an agent is switched off, by a person or by a tripwire, or on again.
//!
//! Off, in this order: nothing new is served, what is under way is cut, the kernel denies the agent's
//! sessions everything, the switch is written down. No step waits for one that can fail: what did not
//! work is told at the end, and the rest holds. On is the same backwards.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use enforcer_capture::peer::Peer;
use enforcer_policy::{AgentName, Durability, Response};
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::warn;

use crate::audit::{AuditLog, Intent, Outcome, RequestId, Verdict};
use crate::gate::Tripped;
use crate::gate::lifeline::Lifelines;
use crate::switches::{Off, SwitchError, Switches};

/// Sockets that are cut before the kernel denies the session can still tell the agent so. They get
/// this long; then the kernel has its turn.
const GOODBYE: Duration = Duration::from_millis(50);
/// A full disk must not hold up the answer.
const RECORD: Duration = Duration::from_secs(2);

/// The part of the switch that is in the kernel.
pub trait Containment: Send + Sync {
    /// Denies every session of the agent everything; `freeze`: and stops its processes.
    fn shut_in(&self, agent: &str, freeze: bool) -> Contained<'_>;
    /// Lets them connect again, and run.
    fn let_out(&self, agent: &str) -> Contained<'_>;
}

/// What became of it, in words for a person if it did not work.
pub type Contained<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

pub struct Switchboard {
    switches: Arc<Switches>,
    lifelines: Arc<Lifelines>,
    containment: Arc<dyn Containment>,
    audit: AuditLog,
    /// One switch at a time.
    turn: tokio::sync::Mutex<()>,
}

/// What a command did.
#[derive(Debug, Serialize)]
pub(super) struct Switched {
    pub(super) agent: String,
    /// `on`, `disabled`
    pub(super) state: &'static str,
    /// It was so before.
    pub(super) already: bool,
    pub(super) frozen: bool,
    /// Connections and requests that were cut.
    pub(super) cut: usize,
    #[serde(skip)]
    pub(super) troubles: Vec<String>,
}

impl Switchboard {
    pub fn new(
        switches: Arc<Switches>,
        lifelines: Arc<Lifelines>,
        containment: Arc<dyn Containment>,
        audit: AuditLog,
    ) -> Self {
        Switchboard { switches, lifelines, containment, audit, turn: tokio::sync::Mutex::default() }
    }

    pub(super) fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Cuts what used a version of this secret that is not in force any more.
    pub(super) fn secret_changed(&self, name: &str) -> usize {
        self.lifelines.cut_secret(name)
    }

    pub(super) async fn disable(
        &self,
        agent: &AgentName,
        freeze: bool,
        reason: Option<String>,
        peer: &Peer,
    ) -> Switched {
        let _turn = self.turn.lock().await;
        let before = self.switches.off(agent.as_str());
        let frozen = freeze || before.as_ref().is_some_and(|off| off.frozen);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let off = Off { at, uid: peer.uid, reason: reason.clone(), frozen, quarantine: false };
        self.switches.turn_off(agent, off);
        let cut = self.lifelines.cut_agent(agent.as_str());
        let mut troubles = Vec::new();
        if !self.lifelines.ended(agent.as_str(), GOODBYE).await {
            warn!(%agent, "what was cut is still ending");
        }
        if let Err(error) = self.containment.shut_in(agent.as_str(), frozen).await {
            troubles.push(format!("the kernel does not deny its connections yet: {error}"));
        }
        if let Err(error) = self.save().await {
            troubles.push(format!("it is on again when the daemon restarts: {error}"));
        }
        self.record(agent, "disable", "agent_disabled", reason, &troubles, By::of(peer)).await;
        Switched {
            agent: agent.to_string(),
            state: "disabled",
            already: before.is_some(),
            frozen,
            cut,
            troubles,
        }
    }

    pub(super) async fn enable(&self, agent: &AgentName, peer: &Peer) -> Switched {
        let _turn = self.turn.lock().await;
        let mut switched = Switched {
            agent: agent.to_string(),
            state: "on",
            already: self.switches.off(agent.as_str()).is_none(),
            frozen: false,
            cut: 0,
            troubles: Vec::new(),
        };
        // Written down first: a switch that cannot be kept is not moved.
        let off = self.switches.turn_on(agent);
        if let Err(error) = self.save().await {
            if let Some(off) = off {
                switched.frozen = off.frozen;
                self.switches.turn_off(agent, off.as_ref().clone());
            }
            switched.state = "disabled";
            switched.troubles.push(error);
        } else if let Err(error) = self.containment.let_out(agent.as_str()).await {
            switched.troubles.push(format!("the kernel still denies its connections: {error}"));
        }
        self.record(agent, "enable", "agent_enabled", None, &switched.troubles, By::of(peer)).await;
        switched
    }

    /// Finishes what the gate has begun, for as long as the worker runs.
    pub async fn follow(&self, mut tripped: mpsc::Receiver<Tripped>) {
        while let Some(tripped) = tripped.recv().await {
            self.tripped(tripped).await;
        }
    }

    async fn tripped(&self, tripped: Tripped) {
        let _turn = self.turn.lock().await;
        let Tripped { caller, touched, response, host, reason } = tripped;
        let agent = &caller.agent.name;
        let mut troubles = Vec::new();
        let method = match response {
            Response::Alert => "alert",
            // A person may have switched it on again in between.
            Response::Quarantine { .. } if self.switches.off(agent.as_str()).is_none() => "quarantine",
            Response::Quarantine { freeze } => {
                if !self.lifelines.ended(agent.as_str(), GOODBYE).await {
                    warn!(%agent, "what was cut is still ending");
                }
                if let Err(error) = self.containment.shut_in(agent.as_str(), freeze).await {
                    troubles.push(format!("the kernel does not deny its connections yet: {error}"));
                }
                if let Err(error) = self.save().await {
                    troubles.push(format!("it is on again when the daemon restarts: {error}"));
                }
                "quarantine"
            }
        };
        let by = By {
            session: caller.agent.session.to_string(),
            cgroup: caller.agent.cgroup.0,
            pid: caller.pid,
            uid: caller.uid,
            comm: caller.comm.to_string(),
            protocol: "tripwire",
            host: Some(host),
        };
        self.record(agent, method, touched.code(), Some(reason), &troubles, by).await;
    }

    async fn save(&self) -> Result<(), String> {
        let switches = self.switches.clone();
        let saved = tokio::task::spawn_blocking(move || switches.save().map_err(chain)).await;
        saved.unwrap_or_else(|panicked| Err(panicked.to_string()))
    }

    /// Who did it, among the receipts.
    pub(super) async fn record(
        &self,
        agent: &AgentName,
        method: &str,
        code: &str,
        reason: Option<String>,
        troubles: &[String],
        by: By,
    ) {
        warn!(%agent, uid = by.uid, pid = by.pid, reason = reason.as_deref(), ?troubles, "{code}");
        let intent = Intent {
            id: RequestId::random(),
            agent: agent.to_string(),
            session: by.session,
            cgroup: by.cgroup,
            pid: by.pid,
            uid: by.uid,
            comm: by.comm,
            protocol: by.protocol.into(),
            method: Some(method.to_owned()),
            host: by.host,
            port: None,
            path: None,
            template: None,
            action: None,
            query_keys: Vec::new(),
            verdict: Verdict::Allow,
            rule: None,
            reason: code.to_owned(),
            policy: None,
            credential: None,
        };
        let words: Vec<String> = reason.into_iter().chain(troubles.iter().cloned()).collect();
        let error = (!words.is_empty()).then(|| words.join("; "));
        match tokio::time::timeout(RECORD, self.audit.begin(intent, Durability::Synced)).await {
            Ok(Ok(guard)) => guard.finish(Outcome { end: "done".into(), error, ..Outcome::default() }),
            Ok(Err(error)) => warn!(%agent, %error, "a switch has no receipt"),
            Err(_elapsed) => warn!(%agent, "a switch may have no receipt: the log does not answer"),
        }
    }
}

/// Who caused a switch, for its receipt.
pub(super) struct By {
    session: String,
    cgroup: u64,
    pid: u32,
    uid: u32,
    comm: String,
    protocol: &'static str,
    host: Option<String>,
}

impl By {
    /// Somebody at the control socket.
    pub(super) fn of(peer: &Peer) -> Self {
        By {
            session: String::new(),
            cgroup: peer.cgroup_id.unwrap_or_default(),
            pid: peer.pid,
            uid: peer.uid,
            comm: "enforcer".into(),
            protocol: "control",
            host: None,
        }
    }
}

fn chain(error: SwitchError) -> String {
    match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

//! Leave for connections that are relayed unread: to a port of the host's loopback, or to a published port
//! of an agent. There is no request to judge, so a port is allowed or it is not.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

use enforcer_policy::{AgentName, AgentPolicy, Durability};
use tokio_util::sync::CancellationToken;

use super::lifeline::Lifeline;
use super::{Code, ForwardPermit, Gate, No, Refusal, blank};
use crate::agent::Caller;
use crate::audit::{Intent, RecordGuard, RequestId, Verdict};

/// Which way a connection wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// From an agent to this port of the host's loopback.
    Loopback { port: u16 },
    /// From `peer`, which came to a published port of the host, to this port of an agent's loopback.
    Published { peer: SocketAddr, port: u16 },
}

impl Passage {
    /// The port that the policy has to name.
    fn loopback(self) -> Option<u16> {
        match self {
            Passage::Loopback { port } => Some(port),
            Passage::Published { .. } => None,
        }
    }

    fn intent(self, id: &RequestId, caller: &Caller) -> Intent {
        let (protocol, host, port) = match self {
            Passage::Loopback { port } => ("loopback", "localhost".to_owned(), port),
            Passage::Published { peer, port } => ("publish", peer.to_string(), port),
        };
        Intent { protocol: protocol.into(), host: Some(host), port: Some(port), ..blank(id, caller) }
    }
}

/// What an admitted connection gets.
pub struct Forwarded {
    pub permit: ForwardPermit,
    pub guard: RecordGuard,
    /// To be held until the connection has ended; cut when the yes is taken back.
    pub lifeline: Lifeline,
}

impl Gate {
    /// Yes or no to one connection. `session` ends its lifeline.
    pub async fn admit_forward(
        &self,
        passage: Passage,
        caller: &Caller,
        session: &CancellationToken,
    ) -> Result<Forwarded, Refusal> {
        let id = RequestId::random();
        let agent = &caller.agent.name;
        let mut intent = passage.intent(&id, caller);
        // Before switch and policy are looked at: a change that comes later finds the connection.
        let lifeline = self.lifelines.forward(agent, passage.loopback(), session);
        let policy = self.policy(caller);
        intent.policy = policy.as_ref().map(|policy| policy.revision().to_owned());
        let refusal = |no: No| Refusal {
            code: no.code,
            id: id.clone(),
            agent: agent.to_string(),
            request: None,
            rule: None,
            reason: no.reason,
            retry_after: None,
            report: None,
        };
        let durability = match self.judge_forward(passage, agent, policy.as_deref()) {
            Ok(durability) => durability,
            Err(no) => {
                intent.reason = no.code.as_str().into();
                let refusal = refusal(no);
                self.record(intent, &refusal).await;
                return Err(refusal);
            }
        };
        intent.verdict = Verdict::Allow;
        intent.reason = "allowed".into();
        match self.audit.begin(intent, durability).await {
            Ok(guard) => Ok(Forwarded { permit: ForwardPermit::new(passage), guard, lifeline }),
            Err(error) => {
                tracing::error!(%error, %agent, "no receipt, no connection");
                let reason = "receipts cannot be written, so no connection is made".into();
                Err(refusal(No::because(Code::ReceiptsUnavailable, reason)))
            }
        }
    }

    fn judge_forward(
        &self,
        passage: Passage,
        agent: &AgentName,
        policy: Option<&AgentPolicy>,
    ) -> Result<Durability, No> {
        if self.switches.off(agent.as_str()).is_some() {
            return Err(No::because(Code::AgentDisabled, format!("agent `{agent}` has been disabled")));
        }
        let Some(policy) = policy else {
            return Err(No::because(Code::NoPolicy, format!("agent `{agent}` has no policy")));
        };
        match passage {
            Passage::Loopback { port } if !policy.loopback().contains(&port) => {
                let reason = format!("`loopback` of the policy does not name port {port}");
                Err(No::because(Code::NoRule, reason))
            }
            // Through the host's loopback one agent would reach another.
            Passage::Published { peer, .. } if self.relays.are(peer) => {
                Err(No::because(Code::SpecialAddress, "the connection comes from an agent".into()))
            }
            Passage::Loopback { .. } | Passage::Published { .. } => Ok(policy.durability()),
        }
    }
}

/// Our own ends of connections to the host's loopback.
#[derive(Debug, Default)]
pub struct Relays(Mutex<HashSet<SocketAddr>>);

/// One of them, for as long as its connection may be seen.
#[derive(Debug)]
pub struct Relayed<'a>(&'a Relays, SocketAddr);

impl Relays {
    /// To be called before the connection is made.
    pub fn add(&self, from: SocketAddr) -> Relayed<'_> {
        self.set().insert(from);
        Relayed(self, from)
    }

    fn are(&self, peer: SocketAddr) -> bool {
        self.set().contains(&peer)
    }

    fn set(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        // Each use is one call on the set: a panic cannot leave it half changed.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Relayed<'_> {
    fn drop(&mut self) {
        self.0.set().remove(&self.1);
    }
}

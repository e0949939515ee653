//! Leave for connections whose bytes nobody here reads: TLS that is passed through, and raw TCP.
//!
//! Judged once, when it opens, by where it leads; there is no request in it to judge. It takes from
//! rates, budgets and places as a request does, has a receipt, and is cut when the policy, the switch
//! or a window takes its rule away.

use std::sync::Arc;
use std::time::SystemTime;

use enforcer_policy::{AgentPolicy, Endpoint, Mode, Relay};

use super::limit::Meter;
use super::limit::places::Place;
use super::{Code, Gate, No, Refusal, WOULD_DENY, blank, meters};
use crate::agent::{Agent, Caller};
use crate::audit::{Intent, RecordGuard, RequestId, Verdict};
use crate::gate::lifeline::Lifeline;

/// Proof that the gate admitted this connection, as strict as a `Permit`: not `Clone`, made nowhere else.
#[must_use]
pub struct TunnelPermit {
    endpoint: Arc<Endpoint>,
    agent: Arc<Agent>,
}

impl TunnelPermit {
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub fn agent(&self) -> &Agent {
        &self.agent
    }
}

/// What an admitted connection gets.
pub struct Tunnel {
    pub permit: TunnelPermit,
    pub guard: RecordGuard,
    pub policy: Arc<AgentPolicy>,
    /// To be held until the connection has ended; cut when the yes is taken back.
    pub lifeline: Lifeline,
    /// Among the agent's requests; to be held as long.
    pub place: Place,
    pub upload: Meter,
    pub download: Meter,
}

impl Gate {
    /// Yes or no to one connection. Every no is on record when this returns.
    pub async fn admit_tunnel(&self, endpoint: Endpoint, caller: &Caller) -> Result<Tunnel, Refusal> {
        let id = RequestId::random();
        let agent = &caller.agent.name;
        let endpoint = Arc::new(endpoint);
        let mut intent = intent(&id, caller, &endpoint);
        // Before switch and policy are looked at: a change that comes later finds the connection.
        let lifeline = self.lifelines.tunnel(agent, &endpoint);
        let policy = self.policy(caller);
        intent.policy = policy.as_ref().map(|policy| policy.revision().to_owned());
        let judged = self.judge_tunnel(&endpoint, caller, policy.as_deref(), &mut intent).await;
        let ((place, upload, download), policy) = match (judged, policy) {
            (Ok(judged), Some(policy)) => (judged, policy),
            (Err(no), _) => return Err(self.refuse_tunnel(intent, no).await),
            (Ok(_), None) => unreachable!("nothing is judged without a policy"),
        };
        intent.verdict = Verdict::Allow;
        match self.audit.begin(intent, policy.durability()).await {
            Ok(guard) => {
                let permit = TunnelPermit { endpoint, agent: caller.agent.clone() };
                Ok(Tunnel { permit, guard, policy, lifeline, place, upload, download })
            }
            Err(error) => {
                tracing::error!(%error, %agent, "no receipt, no connection");
                let reason = "receipts cannot be written, so no connection is made".to_owned();
                Err(refusal(id, agent.to_string(), No::because(Code::ReceiptsUnavailable, reason)))
            }
        }
    }

    async fn judge_tunnel(
        &self,
        endpoint: &Endpoint,
        caller: &Caller,
        policy: Option<&AgentPolicy>,
        intent: &mut Intent,
    ) -> Result<(Place, Meter, Meter), No> {
        let agent = &caller.agent.name;
        if self.switches.off(agent.as_str()).is_some() {
            return Err(No::because(Code::AgentDisabled, format!("agent `{agent}` has been disabled")));
        }
        let Some(policy) = policy else {
            return Err(No::because(Code::NoPolicy, format!("agent `{agent}` has no policy")));
        };
        let Some(rule) = policy.relays(endpoint, SystemTime::now().into()) else {
            let reason = format!("no rule of the policy lets a connection to {endpoint} through unread");
            return Err(No::because(Code::NoRule, reason));
        };
        intent.rule = Some(rule.name.to_string());
        let place = self.place(policy).await?;
        intent.reason = "allowed".into();
        match self.take(&meters::connection_rates(policy, &rule)?) {
            Err(_no) if rule.mode == Mode::Observe => intent.reason = WOULD_DENY.into(),
            taken => taken?,
        }
        let (upload, download) = meters::budgets(&self.limits, policy, &endpoint.host)?;
        [&upload, &download].into_iter().try_for_each(Meter::has_any).map_err(meters::not_taken)?;
        Ok((place, upload, download))
    }

    async fn refuse_tunnel(&self, mut intent: Intent, no: No) -> Refusal {
        intent.reason = no.code.as_str().into();
        let refusal = refusal(intent.id.clone(), intent.agent.clone(), no);
        self.record(intent, &refusal).await;
        refusal
    }
}

fn refusal(id: RequestId, agent: String, no: No) -> Refusal {
    let No { code, reason, retry_after } = no;
    Refusal { code, id, agent, request: None, rule: None, reason, retry_after, report: None }
}

fn intent(id: &RequestId, caller: &Caller, endpoint: &Endpoint) -> Intent {
    let protocol = match endpoint.relay {
        Relay::Passthrough => "tls",
        Relay::Raw { .. } => "tcp",
    };
    Intent {
        protocol: protocol.into(),
        host: Some(endpoint.host.to_string()),
        port: Some(endpoint.port),
        ..blank(id, caller)
    }
}

//! Tripwires: what is known the moment one is touched, and done before anything else.
//!
//! Quarantine begins here, within the request: nothing new is served and what is under way is cut. The
//! kernel, the file and the receipt follow, by whoever takes the [`Tripped`] (`control`).

use std::time::{SystemTime, UNIX_EPOCH};

use enforcer_policy::{AgentName, Response, Tripwire};
use tokio::sync::mpsc;

use super::Gate;
use crate::agent::Caller;
use crate::switches::Off;

/// Alerts that wait for their receipt. An agent that causes more has caused enough.
pub const WAITING: usize = 64;

/// Which tripwire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// A placeholder, sent to a host that no rule of its credential names.
    Stray {
        credential: String,
    },
    Decoy {
        name: String,
    },
}

impl Touched {
    /// Stable, for receipts.
    pub fn code(&self) -> &'static str {
        match self {
            Touched::Stray { .. } => "placeholder_strayed",
            Touched::Decoy { .. } => "decoy_used",
        }
    }

    fn text(&self, host: &str) -> String {
        match self {
            Touched::Stray { credential } => {
                format!(
                    "the placeholder of credential `{credential}` was sent to {host}, which it is not for"
                )
            }
            Touched::Decoy { name } => format!("decoy `{name}` was used, in a request to {host}"),
        }
    }

    fn response(&self, tripwire: Tripwire) -> Response {
        match self {
            Touched::Stray { .. } => tripwire.strayed(),
            Touched::Decoy { .. } => tripwire.bitten(),
        }
    }
}

/// For the rest of the work.
#[derive(Debug)]
pub struct Tripped {
    pub caller: Caller,
    pub touched: Touched,
    pub response: Response,
    pub host: String,
    pub reason: String,
}

impl Gate {
    /// Who is told of tripwires that were touched.
    pub fn reporting_to(mut self, tripped: mpsc::Sender<Tripped>) -> Self {
        self.tripped = Some(tripped);
        self
    }

    /// Does at once what the policy says.
    pub fn trip(&self, caller: &Caller, tripwire: Tripwire, touched: &Touched, host: &str) {
        let (agent, reason) = (&caller.agent.name, touched.text(host));
        let response = touched.response(tripwire);
        tracing::error!(%agent, session = %caller.agent.session, pid = caller.pid, ?response, "tripwire: {reason}");
        if let Response::Quarantine { freeze } = response {
            self.quarantine(agent, freeze, &reason);
        }
        let tripped = Tripped {
            caller: caller.clone(),
            touched: touched.clone(),
            response,
            host: host.to_owned(),
            reason,
        };
        if let Some(sender) = &self.tripped
            && let Err(error) = sender.try_send(tripped)
        {
            tracing::error!(%agent, %error, "a tripwire has no receipt");
        }
    }

    fn quarantine(&self, agent: &AgentName, freeze: bool, reason: &str) {
        if self.switches.off(agent.as_str()).is_some() {
            return;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let off = Off { at, uid: 0, reason: Some(reason.to_owned()), frozen: freeze, quarantine: true };
        self.switches.turn_off(agent, off);
        self.lifelines.cut_agent(agent.as_str());
    }
}

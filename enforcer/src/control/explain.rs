//! Why a request would be allowed or refused: the same answer from the daemon and from a file.

use std::time::SystemTime;

use enforcer_policy::{Explanation, PolicySet, Request, RequestError};
use serde::Serialize;

/// Which policy was asked, about what, and what it says.
#[derive(Debug, Serialize)]
pub struct Explained {
    pub agent: String,
    /// Digest of the policy that answered.
    pub revision: String,
    pub method: String,
    pub url: String,
    #[serde(flatten)]
    pub explanation: Explanation,
}

#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("agent `{agent}` has no policy in force")]
    NoAgent { agent: String, known: Vec<String> },
    #[error("`{method} {url}` is not a request that can be judged")]
    Request {
        method: String,
        url: String,
        #[source]
        error: RequestError,
    },
}

impl ExplainError {
    pub fn hint(&self) -> Option<String> {
        match self {
            ExplainError::NoAgent { known, .. } if known.is_empty() => {
                Some("no policy is in force: `enforcer status` says why".to_owned())
            }
            ExplainError::NoAgent { known, .. } => {
                Some(format!("agents with a policy: {}", known.join(", ")))
            }
            ExplainError::Request { .. } => {
                Some("write for example `GET https://api.example.com/path`".to_owned())
            }
        }
    }
}

/// Asks the policy of one agent about one request, as typed by a person.
pub fn explain(set: &PolicySet, agent: &str, method: &str, url: &str) -> Result<Explained, ExplainError> {
    let Some(policy) = set.agent(agent) else {
        let known = set.agents().map(|p| p.name.to_string()).collect();
        return Err(ExplainError::NoAgent { agent: agent.to_owned(), known });
    };
    let request = Request::parse(method, url).map_err(|error| ExplainError::Request {
        method: method.to_owned(),
        url: url.to_owned(),
        error,
    })?;
    Ok(Explained {
        agent: agent.to_owned(),
        revision: policy.revision().to_owned(),
        method: method.to_owned(),
        url: url.to_owned(),
        explanation: policy.explain(&request, SystemTime::now().into()),
    })
}

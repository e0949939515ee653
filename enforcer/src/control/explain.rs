//! Why a request would be allowed or refused: the same answer from the daemon and from a file.

use std::time::SystemTime;

use enforcer_policy::{Body, Explanation, PolicySet, Request, RequestError, Unreadable};
use serde::{Deserialize, Serialize};

/// A request as a person types it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub agent: String,
    pub method: String,
    pub url: String,
    /// `name: value`
    #[serde(default)]
    pub headers: Vec<String>,
    /// the body, as JSON or as a form; at most one
    #[serde(default)]
    pub json: Option<String>,
    #[serde(default)]
    pub form: Option<String>,
}

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
    #[error("`{0}` is not a header; write `NAME: VALUE`")]
    Header(String),
    #[error("a request has one body, as JSON or as a form")]
    TwoBodies,
    #[error("the body cannot be judged")]
    Body(#[from] Unreadable),
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
            ExplainError::Body(_) => {
                Some("such a body is refused wherever a rule looks into bodies".to_owned())
            }
            ExplainError::Header(_) | ExplainError::TwoBodies => None,
        }
    }
}

/// Asks the policy of one agent about one request.
pub fn explain(set: &PolicySet, question: &Question) -> Result<Explained, ExplainError> {
    let Question { agent, method, url, .. } = question;
    let Some(policy) = set.agent(agent) else {
        let known = set.agents().map(|p| p.name.to_string()).collect();
        return Err(ExplainError::NoAgent { agent: agent.clone(), known });
    };
    let request = request(question)?;
    Ok(Explained {
        agent: agent.clone(),
        revision: policy.revision().to_owned(),
        method: method.clone(),
        url: url.clone(),
        explanation: policy.explain(&request, SystemTime::now().into()),
    })
}

fn request(question: &Question) -> Result<Request, ExplainError> {
    let Question { method, url, headers, json, form, .. } = question;
    let mut request = Request::parse(method, url).map_err(|error| ExplainError::Request {
        method: method.clone(),
        url: url.clone(),
        error,
    })?;
    for header in headers {
        let (name, value) = header.split_once(':').ok_or_else(|| ExplainError::Header(header.clone()))?;
        request.headers.push(&name.to_ascii_lowercase(), value.trim().as_bytes());
    }
    request.body = match (json, form) {
        (Some(_), Some(_)) => return Err(ExplainError::TwoBodies),
        (Some(text), None) => Body::json(text)?,
        (None, Some(text)) => Body::form(text)?,
        // GET and its like have none; of others it is not known.
        (None, None) if matches!(request.method.as_str(), "GET" | "HEAD") => Body::Empty,
        (None, None) => Body::Unread,
    };
    Ok(request)
}

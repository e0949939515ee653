//! The placeholders of agents: what stands for a credential in an agent's environment.

use enforcer_policy::AgentPolicy;
use ring::hmac;

use super::shape;
use crate::text::hex;

/// The placeholder that stands for a credential of an agent: `enf-NAME-` and 32 hex digits, stable
/// for (host key, agent, credential), so restarts keep it. Exactly recognisable in any byte stream.
pub struct Placeholders {
    key: hmac::Key,
}

impl Placeholders {
    pub fn new(key: &[u8; 32]) -> Self {
        Placeholders { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    pub fn of(&self, agent: &str, credential: &str) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        // Names hold no NUL, so the two cannot run into each other.
        for part in ["enforcer placeholder 1", agent, credential] {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        let digits = hex(&context.sign().as_ref()[..shape::DIGITS / 2]);
        format!("{}{credential}-{digits}", shape::PREFIX)
    }

    /// An agent's environment: variable and placeholder, in the order of the policy.
    pub fn environment(&self, policy: &AgentPolicy) -> Vec<(String, String)> {
        let of = |credential: &str| self.of(policy.name.as_str(), credential);
        policy
            .credentials()
            .iter()
            .filter_map(|spec| Some((spec.env.clone()?, of(spec.name.as_str()))))
            .collect()
    }
}

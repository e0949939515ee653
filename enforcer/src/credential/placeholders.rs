//! The placeholders of agents, what stands for a credential in an agent's environment; and their decoys, which stand for nothing.

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

    /// The random part of a decoy, as stable as a placeholder: 40 letters and digits, as many as an AWS secret key has.
    pub(super) fn decoy_core(&self, agent: &str, decoy: &str) -> String {
        const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let half = |number: &str| {
            let mut context = hmac::Context::with_key(&self.key);
            for part in ["enforcer decoy 1", agent, decoy, number] {
                context.update(part.as_bytes());
                context.update(&[0]);
            }
            context.sign().as_ref()[..20].to_vec()
        };
        // Some letters a little likelier than others: nothing hangs on that.
        let letter = |byte: u8| char::from(LETTERS[usize::from(byte) % LETTERS.len()]);
        half("1").into_iter().chain(half("2")).map(letter).collect()
    }

    /// An agent's environment: variable and placeholder, then variable and decoy, in the order of the policy.
    pub fn environment(&self, policy: &AgentPolicy) -> Vec<(String, String)> {
        let agent = policy.name.as_str();
        let placeholders = policy
            .credentials()
            .iter()
            .filter_map(|spec| Some((spec.env.clone()?, self.of(agent, spec.name.as_str()))));
        let decoys = policy.decoys().iter().map(|decoy| {
            let core = self.decoy_core(agent, decoy.name.as_str());
            (decoy.env.clone(), decoy.format.replace("{}", &core))
        });
        placeholders.chain(decoys).collect()
    }
}

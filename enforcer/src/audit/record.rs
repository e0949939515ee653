//! What a receipt says.
//!
//! Plain data. Sizes are bounded here, because an agent chooses paths, hosts and command names.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::clock::Time;
use crate::text::clip;

/// A path is at most 8 KiB (the proxy's limit for a request target); no other text needs more.
const MAX_TEXT: usize = 8 * 1024;
/// More query keys than this are counted, not named.
const MAX_KEYS: usize = 64;
const MAX_KEY: usize = 128;

/// Numbers asked of the kernel at a time: asking costs more than a number. Ids are no secrets.
const AT_ONCE: usize = 64;

thread_local! {
    static RANDOM: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// `r_` and 10 characters; in every refusal, receipt and log line of one request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// 50 random bits in base 32 (RFC 4648), lower case.
    pub fn random() -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut bits = RANDOM.with_borrow_mut(|kept| {
            if kept.is_empty() {
                let fresh: [u8; 8 * AT_ONCE] = ring::rand::generate(&ring::rand::SystemRandom::new())
                    .expect("the kernel's random source answers: the vault and TLS could not work without it")
                    .expose();
                kept.extend(fresh.as_chunks().0.iter().map(|bytes| u64::from_be_bytes(*bytes)));
            }
            kept.pop().expect("filled above")
        });
        let mut text = String::with_capacity(12);
        text.push_str("r_");
        for _ in 0..10 {
            text.push(char::from(ALPHABET[(bits & 31) as usize]));
            bits >>= 5;
        }
        RequestId(text.into())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allow,
    Deny,
}

/// What is known when the decision is made. Unknown parts are `None`, never made up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub id: RequestId,
    pub agent: String,
    pub session: String,
    pub cgroup: u64,
    pub pid: u32,
    pub uid: u32,
    pub comm: String,
    /// `https`, `http`, `dns`, `tls`, `tcp`, `loopback` and `publish` (relayed unread), `connect` (refused in the kernel or
    /// before a request was read)
    pub protocol: String,
    pub method: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<String>,
    pub template: Option<String>,
    /// what it is to the server beyond that, where a rule looks: an operation, a tool, refs; never values
    #[serde(default)]
    pub action: Option<String>,
    /// names of the query keys, never values
    pub query_keys: Vec<String>,
    pub verdict: Verdict,
    /// the rule that decided
    pub rule: Option<String>,
    /// stable code: `allowed`, `would_deny` (passed only because it is observed), `no_rule`, `deny_rule`, `rate_limited`, `bad_request`, …
    pub reason: String,
    pub policy: Option<String>,
    /// the credential the rule brings, by name
    pub credential: Option<String>,
}

impl Intent {
    /// Cuts every text to its bound and says so in the text.
    pub(super) fn bound(&mut self) {
        let required =
            [&mut self.agent, &mut self.session, &mut self.comm, &mut self.protocol, &mut self.reason];
        let optional = [
            &mut self.method,
            &mut self.host,
            &mut self.path,
            &mut self.template,
            &mut self.action,
            &mut self.rule,
            &mut self.policy,
            &mut self.credential,
        ];
        required.into_iter().chain(optional.into_iter().flatten()).for_each(|text| clip(text, MAX_TEXT));
        if self.query_keys.len() > MAX_KEYS {
            let more = self.query_keys.len() - MAX_KEYS;
            self.query_keys.truncate(MAX_KEYS);
            self.query_keys.push(format!("…({more} more)"));
        }
        self.query_keys.iter_mut().for_each(|key| clip(key, MAX_KEY));
    }
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `done`, `refused`, `cancelled`, `cut`, `upstream_failed`, `unknown`
    pub end: String,
    pub status: Option<u16>,
    /// what was attached, with the version of its secret: `github@3`
    #[serde(default)]
    pub credential: Option<String>,
    pub upstream: Option<String>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub scrubbed: u32,
    /// what the rule's `response` took out of the answer
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redacted: u32,
    pub first_byte_us: Option<u64>,
    pub total_us: u64,
    /// one plain sentence for a failure
    pub error: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Outcome {
    pub(super) fn bound(&mut self) {
        clip(&mut self.end, MAX_TEXT);
        [&mut self.credential, &mut self.upstream, &mut self.error]
            .into_iter()
            .flatten()
            .for_each(|text| clip(text, MAX_TEXT));
    }
}

/// One operation as it is read back: its intent, and its outcome once there is one.
///
/// As JSON, the intent's fields stand beside `seq`; the outcome is an object of its own or `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// of the intent's entry in the log
    pub seq: u64,
    pub time: Time,
    #[serde(flatten)]
    pub intent: Intent,
    pub outcome: Option<Outcome>,
    /// how many equal operations this stands for: more than 1 where refusals were folded
    pub count: u64,
    /// when the last of them happened
    pub until: Option<Time>,
    /// of the intent's entry, in hex
    pub hash: String,
}

impl Receipt {
    /// The agent was told no: by the policy, or after its yes (a misplaced placeholder, a body too large).
    pub fn refused(&self) -> bool {
        self.intent.verdict == Verdict::Deny || self.outcome.as_ref().is_some_and(|o| o.end == "refused")
    }

    /// The credential that was attached, with its version; before that is known, the one the rule brings.
    pub fn credential(&self) -> Option<&str> {
        let attached = self.outcome.as_ref().and_then(|outcome| outcome.credential.as_deref());
        attached.or(self.intent.credential.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_have_their_form() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| RequestId::random()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let rest = id.0.strip_prefix("r_").unwrap();
            assert!(
                rest.len() == 10
                    && rest.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)),
                "{id}"
            );
        }
    }
}

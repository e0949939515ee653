//! Receipts: an append-only, hash-chained log is the truth; SQLite indexes it behind.
//!
//! No receipt, no credential: `AuditLog::begin` returns once the intent is as durable as asked.
// SKELETON: signatures are the contract.

use std::path::Path;
use std::sync::Arc;

use enforcer_policy::Durability;
use serde::{Deserialize, Serialize};

/// `r_` and 10 characters; in every refusal, receipt and log line of one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId(pub Arc<str>);
impl RequestId { pub fn random() -> Self { todo!() } }
impl std::fmt::Display for RequestId { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(&self.0) } }

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict { Allow, Deny }

/// What is known when the decision is made. Unknown parts are `None`, never made up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Intent {
    pub id: RequestId,
    pub agent: String,
    pub session: String,
    pub cgroup: u64,
    pub pid: u32,
    pub uid: u32,
    pub comm: String,
    /// `https`, `http`, `dns`, `connect` (refused in the kernel or before a request was read)
    pub protocol: String,
    pub method: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<String>,
    pub template: Option<String>,
    /// names of the query keys, never values
    pub query_keys: Vec<String>,
    pub verdict: Verdict,
    /// the rule that decided
    pub rule: Option<String>,
    /// stable code: `allowed`, `no_rule`, `deny_rule`, `rate_limited`, `bad_request`, …
    pub reason: String,
    pub policy: Option<String>,
    /// `github@3`
    pub credential: Option<String>,
}

/// What became of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// `done`, `refused`, `cancelled`, `upstream_failed`, `unknown`
    pub end: String,
    pub status: Option<u16>,
    pub upstream: Option<String>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub scrubbed: u32,
    pub first_byte_us: Option<u64>,
    pub total_us: u64,
    /// one plain sentence for a failure
    pub error: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AuditError { #[error("the receipt log cannot be written: {0}")] Unwritable(String) }

/// Narrow, cheap handle.
#[derive(Clone)]
pub struct AuditLog { _p: Arc<()> }
impl AuditLog {
    /// Opens the newest segment under `dir`, verifies its tail, marks open intents `unknown`, starts writer and indexer threads.
    pub fn open(dir: &Path) -> Result<Self, AuditError> { let _ = dir; todo!() }
    /// Writes the intent of an allowed request; returns when it is as durable as asked (group-committed).
    pub async fn begin(&self, intent: Intent, durability: Durability) -> Result<RecordGuard, AuditError> { let _ = (intent, durability); todo!() }
    /// Writes intent and outcome of a refusal as one entry.
    pub async fn refused(&self, intent: Intent, outcome: Outcome) -> Result<(), AuditError> { let _ = (intent, outcome); todo!() }
}

/// Exactly one outcome per intent: dropped without `finish`, it writes `cancelled`.
pub struct RecordGuard { _p: () }
impl RecordGuard {
    pub fn id(&self) -> &RequestId { todo!() }
    pub fn finish(self, outcome: Outcome) { let _ = outcome; todo!() }
}

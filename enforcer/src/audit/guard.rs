//! Exactly one outcome per intent.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::record::{Outcome, RequestId};
use super::shared::Shared;

/// Exactly one outcome per intent: dropped without [`finish`](Self::finish), it writes `cancelled`.
#[must_use = "dropping it records the request as cancelled"]
pub struct RecordGuard {
    shared: Arc<Shared>,
    id: RequestId,
    /// of the intent's entry
    seq: u64,
    began: Instant,
    outcome: Option<Outcome>,
}

impl RecordGuard {
    pub(super) fn new(shared: Arc<Shared>, id: RequestId, seq: u64) -> Self {
        RecordGuard { shared, id, seq, began: Instant::now(), outcome: None }
    }

    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// Never blocks on the disk: the place for the outcome was taken when the intent was accepted.
    pub fn finish(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for RecordGuard {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| Outcome {
            end: "cancelled".to_owned(),
            total_us: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            ..Outcome::default()
        });
        self.shared.close_intent(self.seq, self.id.clone(), outcome);
    }
}

impl fmt::Debug for RecordGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordGuard({})", self.id)
    }
}

//! Receipts as they come, for `enforcer logs -f`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::query::Query;
use super::record::Receipt;

/// A stream of finished receipts.
pub struct Follow {
    query: Query,
    past: VecDeque<Receipt>,
    given: HashSet<u64>,
    live: broadcast::Receiver<Arc<Receipt>>,
}

/// As a JSON line: the receipt, or `{"missed":12}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// The reader was too slow for this many receipts; `GET /v1/receipts` has them.
    Missed {
        missed: u64,
    },
    Receipt(Box<Receipt>),
}

impl Follow {
    pub(super) fn new(query: Query, past: Vec<Receipt>, live: broadcast::Receiver<Arc<Receipt>>) -> Self {
        let past: VecDeque<_> = past.into_iter().filter(|receipt| receipt.outcome.is_some()).collect();
        let given = past.iter().map(|receipt| receipt.seq).collect();
        Follow { query, past, given, live }
    }

    /// The next one; `None` when the daemon stops.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(receipt) = self.past.pop_front() {
            return Some(Event::Receipt(Box::new(receipt)));
        }
        loop {
            match self.live.recv().await {
                Ok(receipt) if self.given.remove(&receipt.seq) || !self.query.matches(&receipt) => {}
                Ok(receipt) => return Some(Event::Receipt(Box::new(Receipt::clone(&receipt)))),
                Err(broadcast::error::RecvError::Lagged(missed)) => return Some(Event::Missed { missed }),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

//! What the worker asks of the keeper: agents shut in at the kernel, or let out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use enforcer_capture::message::{Channel, Switch, ToKeeper};
use tokio::sync::oneshot;
use tracing::warn;

use crate::control::{Contained, Containment};

/// The keeper answers in milliseconds; a launch under way may hold it up.
const ANSWER: Duration = Duration::from_secs(35);

pub(super) struct Keeper {
    channel: Arc<Channel>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Option<String>>>>,
}

impl Keeper {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Keeper { channel, next: AtomicU64::new(1), waiting: Mutex::default() }
    }

    /// The answer has come.
    pub(super) fn answered(&self, seq: u64, error: Option<String>) {
        let asker = self.waiting().remove(&seq);
        if asker.is_none_or(|asker| asker.send(error).is_err()) {
            warn!(seq, "the keeper answered what nobody waits for");
        }
    }

    async fn switch(&self, agent: String, to: Switch) -> Result<(), String> {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting().insert(seq, sender);
        if let Err(error) = self.channel.send(&ToKeeper::Switch { seq, agent, to }, &[]) {
            self.waiting().remove(&seq);
            return Err(format!("the keeper cannot be asked: {error}"));
        }
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(error))) => Err(error),
            Ok(Err(_gone)) => Err("the keeper is gone".into()),
            Err(_elapsed) => {
                self.waiting().remove(&seq);
                Err(format!("the keeper did not answer within {} s", ANSWER.as_secs()))
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Option<String>>>> {
        // Each use is one call on the map: a panic cannot leave it half changed.
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Containment for Keeper {
    fn shut_in(&self, agent: &str, freeze: bool) -> Contained<'_> {
        Box::pin(self.switch(agent.to_owned(), Switch::Off { freeze }))
    }

    fn let_out(&self, agent: &str) -> Contained<'_> {
        Box::pin(self.switch(agent.to_owned(), Switch::On))
    }
}

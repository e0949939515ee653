//! How many requests of an agent may be under way at a time: `limits.concurrent`.
//!
//! One too many waits for another to end, so that a client with many connections is slowed down and not
//! refused at once. The bound is the one of the policy in force when a place is asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use enforcer_policy::AgentName;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct Places {
    agents: Mutex<HashMap<AgentName, Arc<Taken>>>,
}

#[derive(Debug, Default)]
struct Taken {
    count: Mutex<u32>,
    freed: Notify,
}

/// Held for as long as the request is under way.
#[derive(Debug)]
pub struct Place(Arc<Taken>);

impl Places {
    /// Without a bound too: what is under way counts when a bound comes. `None`: none became free in time.
    pub async fn take(&self, agent: &AgentName, bound: Option<u32>, patience: Duration) -> Option<Place> {
        let taken = self.of(agent);
        let wait = async {
            loop {
                let freed = taken.freed.notified();
                tokio::pin!(freed);
                // From here on a place that becomes free is not missed.
                freed.as_mut().enable();
                if let Some(place) = Place::in_(&taken, bound) {
                    return place;
                }
                freed.await;
            }
        };
        tokio::time::timeout(patience, wait).await.ok()
    }

    fn of(&self, agent: &AgentName) -> Arc<Taken> {
        let mut agents = self.agents.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(taken) = agents.get(agent) {
            return taken.clone();
        }
        agents.entry(agent.clone()).or_default().clone()
    }
}

impl Taken {
    fn count(&self) -> MutexGuard<'_, u32> {
        self.count.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Place {
    fn in_(taken: &Arc<Taken>, bound: Option<u32>) -> Option<Place> {
        let mut count = taken.count();
        if bound.is_some_and(|bound| *count >= bound) {
            return None;
        }
        *count += 1;
        Some(Place(taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn one_too_many_waits_until_a_place_is_free() {
        let places = Arc::new(Places::default());
        let bot = enforcer_policy::Name::parse("bot").unwrap();
        let other = enforcer_policy::Name::parse("other").unwrap();
        let first = places.take(&bot, Some(2), SHORT).await.unwrap();
        // Counts although it was let in without a bound.
        let _second = places.take(&bot, None, SHORT).await.unwrap();
        assert!(places.take(&bot, Some(2), SHORT).await.is_none());
        assert!(places.take(&other, Some(1), SHORT).await.is_some(), "each agent has its own");
        let waiting = tokio::spawn({
            let (places, bot) = (places.clone(), bot.clone());
            async move { places.take(&bot, Some(2), Duration::from_secs(20)).await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.unwrap());
    }
}

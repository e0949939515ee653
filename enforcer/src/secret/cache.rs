//! Values that were given out a moment ago, so that a busy agent does not cost a look-up each time.
//!
//! Keyed by the whole use, so what the vault has not allowed cannot be found here. Written by the
//! vault's thread only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use enforcer_vault::Use;

use super::{Bound, Fetched};

/// Long enough for a burst, short enough that a value does not stay in memory for the day.
pub(super) const KEEP: Duration = Duration::from_secs(5);
/// Uses in five seconds of a busy host; beyond it the cache starts over.
const MOST: usize = 256;

#[derive(Default)]
pub(super) struct Cache {
    values: Kept<Arc<Fetched>>,
    /// What may go to an endpoint; often nothing, which is remembered as well.
    bound: Kept<Arc<Bound>>,
}

impl Cache {
    pub(super) fn get(&self, key: &str, now: Instant) -> Option<Arc<Fetched>> {
        self.values.get(key, now)
    }

    pub(super) fn put(&mut self, key: Box<str>, value: Arc<Fetched>, now: Instant) {
        self.values.put(key, value, now);
    }

    pub(super) fn bound(&self, key: &str, now: Instant) -> Option<Arc<Bound>> {
        self.bound.get(key, now)
    }

    pub(super) fn put_bound(&mut self, key: Box<str>, values: Arc<Bound>, now: Instant) {
        self.bound.put(key, values, now);
    }

    pub(super) fn forget(&mut self, secret: &str) {
        self.values.0.retain(|_, (_, value)| value.name != secret);
        // It may belong to any of these now.
        self.bound.0.clear();
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.values.expire(now);
        self.bound.expire(now);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.values.0.len()
    }
}

/// Entries with the time they were put in.
struct Kept<T>(HashMap<Box<str>, (Instant, T)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(HashMap::new())
    }
}

impl<T: Clone> Kept<T> {
    fn get(&self, key: &str, now: Instant) -> Option<T> {
        let (since, value) = self.0.get(key)?;
        (now.duration_since(*since) < KEEP).then(|| value.clone())
    }

    fn put(&mut self, key: Box<str>, value: T, now: Instant) {
        if self.0.len() >= MOST {
            self.expire(now);
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(key, (now, value));
    }

    fn expire(&mut self, now: Instant) {
        self.0.retain(|_, (since, _)| now.duration_since(*since) < KEEP);
    }
}

/// The whole use as one text; NUL is in none of the parts that the vault accepts.
pub(super) fn key(usage: &Use<'_>) -> Box<str> {
    let Use { agent, secret, scheme, host, port } = usage;
    format!("{agent}\0{secret}\0{scheme}\0{host}\0{port}").into()
}

/// The same for a set of secrets.
pub(super) fn key_of_bound(names: &[String], scheme: &str, host: &str, port: u16) -> Box<str> {
    format!("{}\0\0{scheme}\0{host}\0{port}", names.join("\0")).into()
}

pub(super) fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    // A panic while holding the lock cannot leave the map half changed: every write is one call.
    cache.lock().unwrap_or_else(|e| e.into_inner())
}

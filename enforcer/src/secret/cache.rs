//! Values that were given out a moment ago, so that a busy agent does not cost a look-up each time.
//!
//! Keyed by the whole use, so what the vault has not allowed cannot be found here. Written by the
//! vault's thread only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use enforcer_vault::Use;

use super::Fetched;

/// Long enough for a burst, short enough that a value does not stay in memory for the day.
pub(super) const KEEP: Duration = Duration::from_secs(5);
/// Uses in five seconds of a busy host; beyond it the cache starts over.
const MOST: usize = 256;

/// By use, with the moment it was put there.
type Dated<T> = HashMap<Box<str>, (Instant, T)>;

#[derive(Default)]
pub(super) struct Cache {
    values: Dated<Arc<Fetched>>,
    /// What may go to an endpoint; often nothing, which is remembered as well.
    bound: Dated<Arc<[Arc<Fetched>]>>,
}

impl Cache {
    pub(super) fn get(&self, key: &str, now: Instant) -> Option<Arc<Fetched>> {
        let (since, value) = self.values.get(key)?;
        (now.duration_since(*since) < KEEP).then(|| value.clone())
    }

    pub(super) fn put(&mut self, key: Box<str>, value: Arc<Fetched>, now: Instant) {
        if self.values.len() >= MOST {
            self.expire(now);
        }
        if self.values.len() >= MOST {
            self.values.clear();
        }
        self.values.insert(key, (now, value));
    }

    pub(super) fn bound(&self, key: &str, now: Instant) -> Option<Arc<[Arc<Fetched>]>> {
        let (since, values) = self.bound.get(key)?;
        (now.duration_since(*since) < KEEP).then(|| values.clone())
    }

    pub(super) fn put_bound(&mut self, key: Box<str>, values: Arc<[Arc<Fetched>]>, now: Instant) {
        if self.bound.len() >= MOST {
            self.expire(now);
        }
        if self.bound.len() >= MOST {
            self.bound.clear();
        }
        self.bound.insert(key, (now, values));
    }

    pub(super) fn forget(&mut self, secret: &str) {
        self.values.retain(|_, (_, value)| value.name != secret);
        // It may belong to any of these now.
        self.bound.clear();
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.values.retain(|_, (since, _)| now.duration_since(*since) < KEEP);
        self.bound.retain(|_, (since, _)| now.duration_since(*since) < KEEP);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.values.len()
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

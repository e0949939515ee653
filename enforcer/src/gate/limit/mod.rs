//! Rates, as a generic cell rate algorithm: one instant per (agent, rule, rate).
//!
//! Pure: callers pass `now`. A request takes from all of its rates or from none. There is no
//! "no limit" value here; a rate that cannot be counted is an error.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use enforcer_policy::{AgentName, Rate, RuleName};

/// Above this many cells the ones that are full again are forgotten.
const SWEEP_ABOVE: usize = 4096;

/// What a rate is counted by. `rule: None` is the agent's own `limits`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub agent: AgentName,
    pub rule: Option<RuleName>,
    pub rate: Rate,
}

/// A rate that cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rate of {count} per {period:?} with burst {burst} cannot be counted")]
pub struct Uncountable {
    pub count: u32,
    pub period: Duration,
    pub burst: u32,
}

/// The first rate that had nothing left, and when all of them will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    pub key: Key,
    pub retry_after: Duration,
}

/// Why nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    Exhausted(Exhausted),
    Uncountable(Uncountable),
}

/// A rate in the form the algorithm needs: one token each `interval`, `tolerance` ahead of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    interval: Duration,
    tolerance: Duration,
}

impl Quota {
    /// Nothing that could overflow or divide by zero later gets past here.
    pub fn new(rate: Rate) -> Result<Self, Uncountable> {
        let Rate { count, period, burst } = rate;
        let uncountable = Uncountable { count, period, burst };
        if count == 0 || burst == 0 || period.is_zero() {
            return Err(uncountable);
        }
        // Rounded up: rounding down would let one request too many through in a long window.
        let nanos = period.as_nanos().div_ceil(u128::from(count));
        let interval = Duration::from_nanos(u64::try_from(nanos).map_err(|_error| uncountable)?);
        let tolerance = interval.checked_mul(burst - 1).ok_or(uncountable)?;
        // A century bounds every sum with an `Instant` made below.
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        if interval > CENTURY || tolerance > CENTURY {
            return Err(uncountable);
        }
        Ok(Quota { interval, tolerance })
    }

    /// The cell after one more token, or how long until there is one.
    fn next(&self, cell: Option<Instant>, now: Instant) -> Result<Instant, Duration> {
        let due = cell.map_or(now, |cell| cell.max(now));
        let ahead = due - now;
        if ahead > self.tolerance { Err(ahead - self.tolerance) } else { Ok(due + self.interval) }
    }
}

/// All cells: for each key the instant at which its next token is due if no burst is left.
#[derive(Debug, Default)]
pub struct Limits {
    cells: HashMap<Key, Instant>,
}

impl Limits {
    /// Takes one token from every key, or none at all.
    pub fn take(&mut self, keys: &[Key], now: Instant) -> Result<(), NotTaken> {
        let mut taken = Vec::with_capacity(keys.len());
        let mut exhausted: Option<Exhausted> = None;
        for key in keys {
            let quota = Quota::new(key.rate).map_err(NotTaken::Uncountable)?;
            match (quota.next(self.cells.get(key).copied(), now), &mut exhausted) {
                (Ok(cell), _) => taken.push(cell),
                (Err(wait), None) => exhausted = Some(Exhausted { key: key.clone(), retry_after: wait }),
                (Err(wait), Some(first)) => first.retry_after = first.retry_after.max(wait),
            }
        }
        if let Some(exhausted) = exhausted {
            return Err(NotTaken::Exhausted(exhausted));
        }
        if self.cells.len() > SWEEP_ABOVE {
            self.cells.retain(|_key, cell| *cell > now);
        }
        for (key, cell) in keys.iter().zip(taken) {
            self.cells.insert(key.clone(), cell);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

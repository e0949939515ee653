//! Rates and byte budgets: what may be taken, by whom, and what was. Survives a restart.
//!
//! A request takes from all of its counters or from none. What cannot be counted, found room for or
//! written down is a no. Counters by value (`per {owner}`, `per host`) are bounded for each agent: one
//! that floods us with values is refused new ones and keeps nobody else from counting.

mod file;
pub mod places;
mod quota;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use enforcer_policy::{AgentName, Budget, Rate, RuleName};
use ring::digest;

pub use file::LimitsError;
use file::{Id, Now, Slot, Slots};
pub use quota::{Quota, Short, Uncountable};

use super::Code;
use crate::text::shown;

/// Values of one agent that count at a time.
const MAX_VALUES: usize = 4096;
/// Of all agents together.
const MAX_ALL_VALUES: usize = 128 * 1024;
/// Looking for cells that are full again means looking at all of them.
const SWEEP: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    Requests(Rate),
    Upload(Budget),
    Download(Budget),
}

/// By what it is counted. `rule: None` is the agent's own `limits`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub agent: AgentName,
    pub rule: Option<RuleName>,
    pub limit: Limit,
    /// what stands for the names of `per`, or the host
    pub value: Option<String>,
}

/// A key made ready to count by.
#[derive(Clone, Debug)]
pub struct Counter {
    pub key: Key,
    quota: Quota,
    id: Id,
    agent: u64,
}

impl Counter {
    pub fn new(key: Key) -> Result<Self, Uncountable> {
        let quota = match &key.limit {
            Limit::Requests(rate) => Quota::of_rate(rate)?,
            Limit::Upload(budget) | Limit::Download(budget) => Quota::of_budget(budget)?,
        };
        let (what, form) = match &key.limit {
            Limit::Requests(rate) => ("requests", rate.to_string()),
            Limit::Upload(budget) => ("upload", budget.to_string()),
            Limit::Download(budget) => ("download", budget.to_string()),
        };
        let rule = key.rule.as_ref().map_or("", RuleName::as_str);
        let value = key.value.as_deref().unwrap_or_default();
        let digest = digest_of(&[key.agent.as_str(), rule, what, &form, value]);
        let agent = u64::from_le_bytes(first(&digest_of(&[key.agent.as_str()])));
        Ok(Counter { id: first(&digest), agent, quota, key })
    }

    fn by_value(&self) -> bool {
        self.key.value.is_some()
    }
}

/// Texts cannot run into each other: each comes with its length.
fn digest_of(texts: &[&str]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for text in texts {
        context.update(&(text.len() as u64).to_le_bytes());
        context.update(text.as_bytes());
    }
    context.finish()
}

fn first<const N: usize>(digest: &digest::Digest) -> [u8; N] {
    std::array::from_fn(|at| digest.as_ref().get(at).copied().unwrap_or_default())
}

/// Why nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The first that had nothing left, and when all of them will.
    Exhausted { key: Key, wait: Duration },
    /// More than this one ever lets through at once.
    Beyond { key: Key },
    /// Too many values are counting.
    Crowded { key: Key, wait: Duration },
    /// It could not be written down.
    Unkept(String),
}

impl NotTaken {
    /// When to come again, where coming again helps.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            NotTaken::Exhausted { wait, .. } | NotTaken::Crowded { wait, .. } => Some(*wait),
            NotTaken::Beyond { .. } | NotTaken::Unkept(_) => None,
        }
    }

    pub fn code(&self) -> Code {
        match self {
            NotTaken::Exhausted { key, .. } if !matches!(key.limit, Limit::Requests(_)) => Code::BudgetSpent,
            NotTaken::Exhausted { .. } | NotTaken::Crowded { .. } => Code::RateLimited,
            NotTaken::Beyond { .. } => Code::TooLarge,
            NotTaken::Unkept(_) => Code::LimitsUnavailable,
        }
    }
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotTaken::Exhausted { key, .. } => write!(f, "{key} is used up"),
            NotTaken::Beyond { key } => write!(f, "{key} does not cover so much"),
            NotTaken::Crowded { key, .. } => {
                write!(f, "{key}: {MAX_VALUES} different values are being counted, and this is a new one")
            }
            NotTaken::Unkept(error) => {
                write!(f, "what is used up cannot be written down, so nothing is let through: {error}")
            }
        }
    }
}

/// `rule `read`: 5/hour per {owner} (of `x`)`
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "rule `{rule}`: ")?,
            None => f.write_str("the agent's limits: ")?,
        }
        match &self.limit {
            Limit::Requests(rate) => write!(f, "{rate}"),
            Limit::Upload(budget) => write!(f, "{budget} sent"),
            Limit::Download(budget) => write!(f, "{budget} received"),
        }?;
        match &self.value {
            Some(value) => write!(f, " (of `{}`)", shown(value)),
            None => Ok(()),
        }
    }
}

/// All cells.
#[derive(Debug)]
pub struct Limits {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cells: HashMap<Id, Cell>,
    slots: Slots,
    /// slots of cells that were forgotten
    free: Vec<u32>,
    used: u32,
    /// cells by value, for each agent
    values: HashMap<u64, usize>,
    all_values: usize,
    swept: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    due: Duration,
    slot: u32,
    agent: u64,
    by_value: bool,
}

impl Limits {
    /// As they were when the daemon ended, with what was refilled since.
    pub fn open(directory: &Path, boot: Option<&str>) -> Result<Self, LimitsError> {
        Self::open_at(directory, boot, Now::read())
    }

    fn open_at(directory: &Path, boot: Option<&str>, now: Now) -> Result<Self, LimitsError> {
        let (slots, kept) = Slots::open(directory, boot, now)?;
        let mut state = State {
            cells: HashMap::new(),
            slots,
            free: Vec::new(),
            used: 0,
            values: HashMap::new(),
            all_values: 0,
            swept: now.boot,
        };
        for Slot { id, agent, due } in kept {
            // Whether it counts by value is not known any more; it is bounded as if it did.
            let slot = state.used;
            state.used += 1;
            state.remember(id, Cell { due, slot, agent, by_value: true });
        }
        Ok(Limits { state: Mutex::new(state) })
    }

    /// Takes so much from every counter, or nothing at all.
    pub fn take(&self, counters: &[Counter], units: u64) -> Result<(), NotTaken> {
        if counters.is_empty() { Ok(()) } else { self.state().take(counters, units, Now::read()) }
    }

    /// Is there so much? Takes nothing.
    fn has(&self, counters: &[Counter], units: u64) -> Result<(), NotTaken> {
        if counters.is_empty() {
            return Ok(());
        }
        self.state().next(counters, units, Now::read()).map(drop)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves at worst a unit uncounted in one cell.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl State {
    fn take(&mut self, counters: &[Counter], units: u64, now: Now) -> Result<(), NotTaken> {
        let taken = self.next(counters, units, now)?;
        if let Some(counter) = counters.iter().find(|counter| !self.has_room(counter, now)) {
            return Err(NotTaken::Crowded { key: counter.key.clone(), wait: self.room_in(counter, now) });
        }
        for (counter, due) in counters.iter().zip(taken) {
            self.put(counter, due, now).map_err(|error| NotTaken::Unkept(error.to_string()))?;
        }
        Ok(())
    }

    /// The cells as they would be afterwards.
    fn next(&self, counters: &[Counter], units: u64, now: Now) -> Result<Vec<Duration>, NotTaken> {
        let mut taken = Vec::with_capacity(counters.len());
        let mut exhausted: Option<(&Counter, Duration)> = None;
        for counter in counters {
            let cell = self.cells.get(&counter.id).map(|cell| cell.due);
            match (counter.quota.next(cell, now.boot, units), &mut exhausted) {
                (Ok(due), _) => taken.push(due),
                (Err(Short::Ever), _) => return Err(NotTaken::Beyond { key: counter.key.clone() }),
                (Err(Short::For(wait)), None) => exhausted = Some((counter, wait)),
                (Err(Short::For(wait)), Some((_, longest))) => *longest = wait.max(*longest),
            }
        }
        if let Some((counter, wait)) = exhausted {
            return Err(NotTaken::Exhausted { key: counter.key.clone(), wait });
        }
        Ok(taken)
    }

    fn has_room(&mut self, counter: &Counter, now: Now) -> bool {
        if !counter.by_value() || self.cells.contains_key(&counter.id) || self.may_add(counter.agent) {
            return true;
        }
        if now.boot.saturating_sub(self.swept) >= SWEEP {
            self.sweep(now);
        }
        self.may_add(counter.agent)
    }

    fn may_add(&self, agent: u64) -> bool {
        self.values.get(&agent).is_none_or(|count| *count < MAX_VALUES) && self.all_values < MAX_ALL_VALUES
    }

    /// When the first of the agent's values is full again.
    fn room_in(&self, counter: &Counter, now: Now) -> Duration {
        let of_agent = self.cells.values().filter(|cell| cell.by_value && cell.agent == counter.agent);
        let first = of_agent.map(|cell| cell.due.saturating_sub(now.boot)).min();
        first.unwrap_or_default().max(SWEEP)
    }

    /// Forgets what is full again.
    fn sweep(&mut self, now: Now) {
        self.swept = now.boot;
        let State { cells, free, values, all_values, .. } = self;
        cells.retain(|_id, cell| {
            let counts = cell.due > now.boot;
            if !counts {
                free.push(cell.slot);
                if cell.by_value {
                    *all_values -= 1;
                    if let Some(count) = values.get_mut(&cell.agent) {
                        *count -= 1;
                    }
                }
            }
            counts
        });
        values.retain(|_agent, count| *count > 0);
    }

    /// On disk first: what is not written down was not taken.
    fn put(&mut self, counter: &Counter, due: Duration, now: Now) -> std::io::Result<()> {
        let slot = Slot { id: counter.id, agent: counter.agent, due };
        if let Some(cell) = self.cells.get_mut(&counter.id) {
            self.slots.write(cell.slot, &slot, now)?;
            cell.due = due;
            return Ok(());
        }
        let (number, fresh) = match self.free.pop() {
            Some(number) => (number, false),
            None => (self.used, true),
        };
        if let Err(error) = self.slots.write(number, &slot, now) {
            if !fresh {
                self.free.push(number);
            }
            return Err(error);
        }
        self.used += u32::from(fresh);
        let by_value = counter.by_value();
        self.remember(counter.id, Cell { due, slot: number, agent: counter.agent, by_value });
        Ok(())
    }

    fn remember(&mut self, id: Id, cell: Cell) {
        if cell.by_value {
            *self.values.entry(cell.agent).or_default() += 1;
            self.all_values += 1;
        }
        if let Some(before) = self.cells.insert(id, cell) {
            // Two slots for one cell: only a file from elsewhere has that. The later one counts.
            self.free.push(before.slot);
            if before.by_value {
                self.all_values -= 1;
                self.values.entry(before.agent).and_modify(|count| *count -= 1);
            }
        }
    }
}

/// Counters that are taken from while something flows.
#[derive(Clone, Debug)]
pub struct Meter {
    limits: Arc<Limits>,
    counters: Arc<[Counter]>,
}

impl Meter {
    pub fn new(limits: Arc<Limits>, counters: Vec<Counter>) -> Self {
        Meter { limits, counters: counters.into() }
    }

    /// To be asked before the bytes are passed on.
    pub fn take(&self, bytes: u64) -> Result<(), NotTaken> {
        self.limits.take(&self.counters, bytes)
    }

    /// Would so many bytes pass?
    pub fn has(&self, bytes: u64) -> Result<(), NotTaken> {
        self.limits.has(&self.counters, bytes)
    }

    /// Would any?
    pub fn has_any(&self) -> Result<(), NotTaken> {
        self.has(1)
    }
}

#[cfg(test)]
mod tests;

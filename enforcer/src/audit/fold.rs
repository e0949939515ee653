//! Floods of equal refusals become counts, so that they cannot bury evidence or fill the disk.
//!
//! Pure: callers pass the time. What is only counted is lost when the process is killed within the
//! same second; the first refusals of each kind are always written.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::clock::Time;
use super::record::{Intent, RequestId};

const WINDOW: Duration = Duration::from_secs(1);
/// Equal refusals written one by one per window.
const EQUAL: u64 = 10;
/// Refusals of one agent written one by one per window, however different they are.
const PER_AGENT: u64 = 100;
/// Kinds counted apart per agent; beyond this the host is left out of the kind.
const KINDS: usize = 256;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    rule: Option<String>,
    reason: String,
    host: Option<String>,
}

#[derive(Default)]
struct Count {
    seen: u64,
    folded: Option<Folded>,
}

/// Refusals that were counted instead of written.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    /// the first of them
    pub(super) example: Intent,
    pub(super) count: u64,
    pub(super) until: Time,
    pub(super) last: RequestId,
}

struct Agent {
    since: Instant,
    written: u64,
    kinds: HashMap<Kind, Count>,
}

#[derive(Default)]
pub(super) struct Fold {
    agents: HashMap<String, Agent>,
}

impl Fold {
    /// Whether this refusal is to be written. If not, it was counted.
    pub(super) fn write(&mut self, now: Instant, time: Time, intent: &Intent) -> bool {
        let agent = self.agents.entry(intent.agent.clone()).or_insert_with(|| Agent {
            since: now,
            written: 0,
            kinds: HashMap::new(),
        });
        let mut kind =
            Kind { rule: intent.rule.clone(), reason: intent.reason.clone(), host: intent.host.clone() };
        if agent.kinds.len() >= KINDS && !agent.kinds.contains_key(&kind) {
            kind.host = None;
        }
        let blurred = kind.host != intent.host;
        let count = agent.kinds.entry(kind).or_default();
        count.seen += 1;
        if count.seen <= EQUAL && agent.written < PER_AGENT {
            agent.written += 1;
            return true;
        }
        let folded = count.folded.get_or_insert_with(|| {
            let mut example = intent.clone();
            if blurred {
                example.host = None;
            }
            Folded { example, count: 0, until: time, last: intent.id.clone() }
        });
        folded.count += 1;
        folded.until = time;
        folded.last = intent.id.clone();
        false
    }

    /// The counts of windows that have ended by `now`; all of them when `now` is `None`.
    pub(super) fn due(&mut self, now: Option<Instant>) -> Vec<Folded> {
        let ended = |agent: &mut Agent| now.is_none_or(|now| now >= agent.since + WINDOW);
        self.agents
            .extract_if(|_name, agent| ended(agent))
            .flat_map(|(_name, agent)| agent.kinds.into_values().filter_map(|count| count.folded))
            .collect()
    }

    /// When the next window ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.agents.values().map(|agent| agent.since + WINDOW).min()
    }
}

//! Two policies side by side: which recorded requests change their verdict, which classes widen.
//!
//! A class is what one rule says of one host, method and template. That a class does not widen is
//! proved (one old rule covers it, no deny rule lost its hold); that it does is shown by an example
//! where one is found, and otherwise said to be possible.
//!
//! Left out: whether a change is meant. `policy apply` asks for `--force` where recorded requests change.

mod classes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::learn::{Seen, shown};
use crate::policy::{AgentPolicy, Decision, PolicySet};

/// What would become different for one agent.
#[derive(Debug, serde::Serialize)]
pub struct Comparison {
    pub agent: String,
    pub recorded: Vec<Change>,
    /// recorded requests that were looked at, folded ones counted
    pub requests: u64,
    pub widened: Vec<Class>,
    pub narrowed: Vec<Class>,
    /// of rules that both have: rates, credentials, sizes
    pub obligations: Vec<String>,
}

/// A recorded request with another verdict.
#[derive(Debug, serde::Serialize)]
pub struct Change {
    pub request: String,
    /// the newest receipt of it
    pub receipt: String,
    pub count: u64,
    pub before: String,
    pub after: String,
    /// was refused, would or might be allowed
    pub widens: bool,
}

#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub struct Class {
    /// `POST https://api.example.com/items/{item}`
    pub what: String,
    /// the rule that makes the difference
    pub rule: String,
    pub place: String,
    /// a request of the class; `None`: none was found, but none is ruled out
    pub example: Option<String>,
}

impl Comparison {
    pub fn is_empty(&self) -> bool {
        let Comparison { agent: _, recorded, requests: _, widened, narrowed, obligations } = self;
        recorded.is_empty() && widened.is_empty() && narrowed.is_empty() && obligations.is_empty()
    }
}

/// For every agent that either set knows; an agent without a policy is refused everything. `seen` is by agent.
pub fn compare(old: &PolicySet, new: &PolicySet, seen: &BTreeMap<String, Vec<Seen>>) -> Vec<Comparison> {
    let agents: BTreeSet<&str> =
        old.agents().chain(new.agents()).map(|policy| policy.name.as_str()).collect();
    agents
        .into_iter()
        .map(|agent| {
            let (before, after) = (old.agent(agent).map(|p| &**p), new.agent(agent).map(|p| &**p));
            let seen = seen.get(agent).map(Vec::as_slice).unwrap_or_default();
            Comparison {
                agent: agent.to_owned(),
                recorded: recorded(before, after, seen),
                requests: seen.iter().map(|one| one.count).sum(),
                widened: classes::widened(before, after),
                narrowed: classes::widened(after, before),
                obligations: obligations(before, after),
            }
        })
        .collect()
}

fn recorded(old: Option<&AgentPolicy>, new: Option<&AgentPolicy>, seen: &[Seen]) -> Vec<Change> {
    let mut changes: BTreeMap<String, Change> = BTreeMap::new();
    for one in seen {
        let (before, after) = (verdict(old, one), verdict(new, one));
        if before == after {
            continue;
        }
        let request = shown(&one.request);
        let change = changes.entry(request.clone()).or_insert_with(|| Change {
            request,
            receipt: one.id.clone(),
            count: 0,
            widens: before == Verdict::Denied,
            before: before.to_string(),
            after: after.to_string(),
        });
        change.count += one.count;
        change.receipt.clone_from(&one.id);
    }
    changes.into_values().collect()
}

/// What matters of a decision: a rule under another name that brings the same is no change.
#[derive(PartialEq, Eq)]
enum Verdict {
    Denied,
    Allowed {
        credential: Option<String>,
    },
    /// and no receipt has it
    BodyDecides,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Denied => f.write_str("denied"),
            Verdict::Allowed { credential: None } => f.write_str("allowed"),
            Verdict::Allowed { credential: Some(credential) } => write!(f, "allowed with `{credential}`"),
            Verdict::BodyDecides => f.write_str("decided by its body"),
        }
    }
}

fn verdict(policy: Option<&AgentPolicy>, one: &Seen) -> Verdict {
    match policy.map(|policy| policy.decide(&one.request, one.moment())) {
        Some(Decision::Allow { rule, .. }) => {
            Verdict::Allowed { credential: rule.credential.as_ref().map(ToString::to_string) }
        }
        Some(Decision::Needs(_)) => Verdict::BodyDecides,
        Some(Decision::Deny { .. }) | None => Verdict::Denied,
    }
}

/// Rules by name: what each obliges to, before and after.
fn obligations(old: Option<&AgentPolicy>, new: Option<&AgentPolicy>) -> Vec<String> {
    let (Some(old), Some(new)) = (old, new) else { return Vec::new() };
    let mut changes = Vec::new();
    for rule in new.rules.iter().skip(new.denies) {
        let Some(before) = old.rules.iter().skip(old.denies).find(|before| before.name == rule.name) else {
            continue;
        };
        let (was, is) = (old.obligations(before), new.obligations(rule));
        let gone = was.iter().filter(|line| !is.contains(line)).map(|line| format!("no longer {line}"));
        let added = is.iter().filter(|line| !was.contains(line)).map(|line| format!("now {line}"));
        changes.extend(gone.chain(added).map(|line| format!("rule `{}`: {line}", rule.name)));
    }
    changes
}

//! `policy unused`: what a policy grants and nobody used, and the file without it.
//!
//! A rule is used when today's policy gives it a request that was seen. Parts of a rule are used one by
//! one: a method, a host. Paths are not: a template stands for many, and seeing one says nothing of the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::Seen;
use crate::canon::Method;
use crate::catalog::Library;
use crate::diagnostics::{File, Report};
use crate::layout::Edit;
use crate::matcher::HostPattern;
use crate::policy::{AgentPolicy, Compiled, Decision, PolicySet, Source};

#[derive(Debug, serde::Serialize)]
pub struct Unused {
    pub agent: String,
    /// receipts that were looked at, folded ones counted
    pub requests: u64,
    /// allow rules that no request came to
    pub rules: Vec<String>,
    /// of rules that were used: rule and method
    pub methods: Vec<(String, String)>,
    /// of rules that were used: rule and host
    pub hosts: Vec<(String, String)>,
    pub credentials: Vec<String>,
    /// the file without all that. `None`: there is nothing to take away
    #[serde(skip)]
    pub tightened: Option<String>,
}

#[derive(Default)]
struct Use {
    methods: BTreeSet<Method>,
    hosts: BTreeSet<usize>,
}

/// `Err`: the policy does not load, or would not without what is unused.
pub fn unused(source: &Source, library: &Library, seen: &[Seen]) -> Result<Unused, Report> {
    let Compiled { set, .. } = PolicySet::compile_with(std::slice::from_ref(source), library)?;
    let Some(policy) = set.agents().next() else { return Err(Report::default()) };
    let used = uses(policy, seen);
    let mut found = Unused {
        agent: policy.name.to_string(),
        requests: seen.iter().map(|one| one.count).sum(),
        rules: Vec::new(),
        methods: Vec::new(),
        hosts: Vec::new(),
        credentials: Vec::new(),
        tightened: None,
    };
    let mut brought: BTreeSet<&str> = BTreeSet::new();
    for (rule, conditions) in policy.rules.iter().zip(&policy.conditions).skip(policy.denies) {
        let name = rule.name.to_string();
        let Some(own) = used.get(rule.name.as_str()) else {
            // An action may be several rules.
            if found.rules.last() != Some(&name) {
                found.rules.push(name);
            }
            continue;
        };
        brought.extend(rule.credential.as_ref().map(|credential| credential.as_str()));
        // Which methods and hosts an action has is the catalogue's.
        if rule.action.is_some() {
            continue;
        }
        let methods = conditions.methods.iter().flatten().filter(|method| !own.methods.contains(method));
        found.methods.extend(methods.map(|method| (name.clone(), method.to_string())));
        let hosts = conditions.hosts.iter().enumerate().filter(|(number, _)| !own.hosts.contains(number));
        found.hosts.extend(hosts.map(|(_, host)| (name.clone(), host.to_string())));
    }
    let declared = policy.credentials().iter().map(|credential| credential.name.as_str());
    found.credentials = declared.filter(|name| !brought.contains(name)).map(str::to_owned).collect();
    found.tightened = tightened(source, library, &found)?;
    Ok(found)
}

fn uses<'p>(policy: &'p AgentPolicy, seen: &[Seen]) -> BTreeMap<&'p str, Use> {
    let mut used: BTreeMap<&str, Use> = BTreeMap::new();
    for one in seen {
        if let Decision::Deny { rule: Some(_) } = policy.decide(&one.request, one.moment()) {
            continue;
        }
        // A receipt does not tell what checks look at, so every rule up to the first without any may be
        // the one that was used.
        let allow = policy.rules.iter().zip(&policy.conditions).skip(policy.denies);
        for (rule, conditions) in allow.filter(|(_, own)| own.takes_head(&one.request, one.moment())) {
            let own = used.entry(rule.name.as_str()).or_default();
            own.methods.insert(one.request.method.clone());
            // Of several patterns for a host, the first is the one it takes.
            let host = &one.request.host;
            own.hosts.extend(conditions.hosts.iter().position(|pattern: &HostPattern| pattern.matches(host)));
            if conditions.checks.is_empty() {
                break;
            }
        }
    }
    used
}

/// The file without what is unused, laid out. A test that needs an unused rule goes with it.
fn tightened(source: &Source, library: &Library, found: &Unused) -> Result<Option<String>, Report> {
    let mut edits: Vec<Edit> = Vec::new();
    edits.extend(found.rules.iter().map(|rule| match rule.split_once('/') {
        Some((entry, action)) => Edit::Action(entry.to_owned(), action.to_owned()),
        None => Edit::Rule(rule.clone()),
    }));
    edits.extend(
        found.methods.iter().map(|(rule, method)| Edit::Item(rule.clone(), "methods", method.clone())),
    );
    edits.extend(found.hosts.iter().map(|(rule, host)| Edit::Item(rule.clone(), "host", host.clone())));
    edits.extend(found.credentials.iter().map(|name| Edit::Credential(name.clone())));
    if edits.is_empty() {
        return Ok(None);
    }
    let text = crate::layout::edited(source, &edits)?;
    // Tests that no longer hold were about what is gone.
    let tightened = Source { name: source.name.clone(), text: text.clone() };
    let failing = match PolicySet::compile_with(std::slice::from_ref(&tightened), library) {
        Ok(_) => return Ok(Some(text)),
        Err(report) => report,
    };
    let file = File::new(&tightened.name, &tightened.text);
    let lines: BTreeSet<usize> = failing
        .findings
        .iter()
        .filter(|finding| matches!(finding.code, "E040" | "E041") && finding.file == *file.name)
        .map(|finding| finding.line)
        .collect();
    if lines.is_empty() {
        return Err(failing);
    }
    let text = crate::layout::edited(&tightened, &[Edit::TestsAt(lines)])?;
    PolicySet::compile_with(&[Source { name: source.name.clone(), text: text.clone() }], library)?;
    Ok(Some(text))
}

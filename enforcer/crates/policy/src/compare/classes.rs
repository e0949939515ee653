//! Which classes of requests one policy allows and another does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Class;
use crate::canon::{Method, Request, Scheme};
use crate::learn::shown;
use crate::matcher::{Conditions, HostPattern, Template};
use crate::policy::{AgentPolicy, Decision, Rule};
use crate::window::Moment;

/// Methods to try where a rule says nothing of them. The last is one that no list has.
const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "X-OTHER"];

/// Requests tried for one class. Enough for every pair of templates of a policy people can read.
const MAX_TRIED: usize = 4096;

/// What `new` allows and `old` may not. Each class once, in the order of the rules.
pub(super) fn widened(old: Option<&AgentPolicy>, new: Option<&AgentPolicy>) -> Vec<Class> {
    let Some(new) = new else { return Vec::new() };
    let lost = old.map(|old| lost_denies(old, new)).unwrap_or_default();
    let mut found: BTreeMap<(usize, String), Class> = BTreeMap::new();
    for (number, (rule, conditions)) in allows(new).enumerate() {
        for atom in conditions.atoms() {
            let covered = old.is_some_and(|old| allows(old).any(|(_, own)| own.covers(&atom)));
            let let_go: Vec<&(&Arc<Rule>, &Conditions)> =
                lost.iter().filter(|(_, deny)| deny.overlaps(&atom)).collect();
            let denied = deny_conditions(new).any(|deny| deny.covers(&atom));
            if denied || covered && let_go.is_empty() {
                continue;
            }
            let (example, all_tried) = example(old, new, rule, &atom, &let_go);
            // What a lost deny rule let go of may be denied or not allowed by something else.
            let by_head = atom.checks.is_empty() && let_go.iter().all(|(_, deny)| deny.judged_by_head());
            if covered && by_head && example.is_none() && all_tried {
                continue;
            }
            let class = Class {
                what: told(&atom),
                rule: rule.name.to_string(),
                place: rule.place.clone(),
                example: example.map(|request| shown(&request)),
            };
            found.entry((number, class.what.clone())).or_insert(class);
        }
    }
    found.into_values().collect()
}

fn allows(policy: &AgentPolicy) -> impl Iterator<Item = (&Arc<Rule>, &Conditions)> {
    policy.rules.iter().zip(&policy.conditions).skip(policy.denies)
}

fn deny_conditions(policy: &AgentPolicy) -> impl Iterator<Item = &Conditions> {
    policy.conditions.iter().take(policy.denies)
}

/// Deny rules of `old` that no single deny rule of `new` replaces.
fn lost_denies<'p>(old: &'p AgentPolicy, new: &AgentPolicy) -> Vec<(&'p Arc<Rule>, &'p Conditions)> {
    let denies = old.rules.iter().zip(&old.conditions).take(old.denies);
    denies.filter(|(_, deny)| !deny_conditions(new).any(|own| own.covers(deny))).collect()
}

/// A request that the rule of `new` allows and `old` refuses, and whether all that come into question were tried.
fn example(
    old: Option<&AgentPolicy>,
    new: &AgentPolicy,
    rule: &Arc<Rule>,
    atom: &Conditions,
    lost: &[&(&Arc<Rule>, &Conditions)],
) -> (Option<Request>, bool) {
    let others = || {
        let olds = old.into_iter().flat_map(|old| old.conditions.iter());
        lost.iter().map(|(_, deny)| *deny).chain(olds)
    };
    let hosts = atom.hosts.iter().flat_map(|host| {
        let theirs = others().flat_map(|other| &other.hosts).filter(move |other| host.covers(other));
        std::iter::once(host).chain(theirs).map(sample_host).collect::<Vec<String>>()
    });
    let hosts: Vec<String> = unique(hosts);
    let paths: Vec<String> = unique(atom.templates.iter().flat_map(|own| {
        let theirs = others().flat_map(|other| &other.templates).flat_map(move |other| own.common(other));
        let slashes = atom.raw_path.then(|| own.sample_of_slashes());
        own.samples().into_iter().chain(slashes).chain(theirs).collect::<Vec<String>>()
    }));
    let methods: Vec<Method> = match &atom.methods {
        Some(methods) => methods.clone(),
        None => METHODS.iter().filter_map(|method| Method::parse(method).ok()).collect(),
    };
    let scheme = atom.scheme.unwrap_or(Scheme::Https);
    let port = atom.port.unwrap_or(scheme.default_port());
    let mut tried = 0;
    for method in &methods {
        for host in &hosts {
            for path in &paths {
                tried += 1;
                if tried > MAX_TRIED {
                    return (None, false);
                }
                let authority = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let url = format!("{}://{authority}:{port}{path}", scheme.as_str());
                let Ok(request) = Request::parse(method.as_str(), &url) else { continue };
                let by_rule = matches!(new.decide(&request, Moment::ANY), Decision::Allow { rule: own, .. } if own.name == rule.name);
                let before = old
                    .is_some_and(|old| matches!(old.decide(&request, Moment::ANY), Decision::Allow { .. }));
                if by_rule && !before {
                    return (Some(request), true);
                }
            }
        }
    }
    (None, true)
}

fn unique(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    items.filter(|item| seen.insert(item.clone())).collect()
}

fn sample_host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Any => "any.example".to_owned(),
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Below(base) => format!("any.{base}"),
    }
}

/// `POST https://api.example.com/items/{item}`, of conditions with one of each.
fn told(atom: &Conditions) -> String {
    let method = match atom.methods.as_deref() {
        Some([method]) => method.to_string(),
        Some(_) | None => "*".to_owned(),
    };
    let scheme = atom.scheme.map_or("*", Scheme::as_str);
    let host = atom.hosts.first().map(ToString::to_string).unwrap_or_default();
    let port = match atom.port {
        Some(port) if atom.scheme.map(Scheme::default_port) != Some(port) => format!(":{port}"),
        Some(_) | None => String::new(),
    };
    let path =
        atom.templates.first().map(|template: &Template| template.as_str().to_owned()).unwrap_or_default();
    format!("{method} {scheme}://{host}{port}{path}")
}

//! What was seen, as actions of catalogues: `services:` entries of a suggestion.
//!
//! An action fits where the head of a request alone tells it, and only one action is it. Receipts hold no bodies and
//! no queries, so what a catalogue tells apart by those stays a rule with a path.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::suggest::{Place, moments};
use super::{Seen, rates};
use crate::catalog::{Action, Catalogue, SERVICES, Shelf};
use crate::diagnostics::{File, Report};
use crate::policy::{AgentPolicy, Source};
use crate::yaml::{self, Node, Value, flow, mapping, word};

/// More resources than people list are all of their owner's.
const MOST_LISTED: usize = 12;

/// Actions that go together: one entry of `services`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    service: String,
    credential: Option<String>,
    /// the policy's, as a mapping; empty: none
    settings: String,
    /// empty: it is not about resources
    resources: BTreeSet<String>,
}

type Actions<'s> = BTreeMap<String, Vec<&'s Seen>>;
/// By service, credential, settings and action: the resources, and what was seen.
type Found<'s> = BTreeMap<(String, Option<String>, String, String), (BTreeSet<String>, Vec<&'s Seen>)>;

/// The `services` section, and what no action is.
pub(super) fn services<'s>(
    shelf: Shelf<'_>,
    policy: Option<&AgentPolicy>,
    seen: &[&'s Seen],
    denied: Denied,
) -> (String, Vec<&'s Seen>) {
    let catalogues = catalogues(shelf, policy);
    let mut rest = Vec::new();
    let mut found: Found<'_> = BTreeMap::new();
    for &one in seen {
        let Some((catalogue, action, resource)) = told(&catalogues, one) else {
            rest.push(one);
            continue;
        };
        let credential = Place::of(policy, one).credential;
        let key =
            (catalogue.name.to_string(), credential, mapping(&catalogue.given), action.name.to_string());
        let (resources, requests) = found.entry(key).or_default();
        resources.extend(resource);
        requests.push(one);
    }
    let mut entries: BTreeMap<Entry, Actions<'_>> = BTreeMap::new();
    for ((service, credential, settings, action), (resources, requests)) in found {
        let entry = Entry { service, credential, settings, resources: listed(resources) };
        entries.entry(entry).or_default().insert(action, requests);
    }
    (write(&entries, denied), rest)
}

/// Entries of the file that deny: decisions of people, by name, each as the text of its fields.
pub(super) type Denied = BTreeMap<String, String>;

/// What is kept of `services`: what it denies.
pub(super) fn denied(source: &Source) -> Denied {
    let file = File::new(&source.name, &source.text);
    let root = yaml::parse(&file, &mut Report::default());
    let Some(Node { value: Value::Map(top), .. }) = root else { return Denied::new() };
    let services = top.into_iter().find(|entry| entry.key == "services").map(|entry| entry.value.value);
    let Some(Value::Map(entries)) = services else { return Denied::new() };
    let mut denied = Denied::new();
    for entry in entries {
        let Value::Map(fields) = &entry.value.value else { continue };
        if !fields.iter().any(|field| field.key == "deny") {
            continue;
        }
        let of_deny = ["service", "settings", "deny", "when", "message"];
        let kept = fields.iter().filter(|field| of_deny.contains(&field.key.as_str()));
        let text = kept.map(|field| format!("    {}: {}\n", field.key, flow(&field.value))).collect();
        denied.insert(entry.key, text);
    }
    denied
}

fn catalogues(shelf: Shelf<'_>, policy: Option<&AgentPolicy>) -> Vec<Arc<Catalogue>> {
    // Several entries of a policy may speak of one; with settings of its own it is elsewhere.
    let same = |one: &Catalogue, other: &Catalogue| one.name == other.name && one.reach == other.reach;
    let mut all: Vec<Arc<Catalogue>> = Vec::new();
    let own = policy.into_iter().flat_map(|policy| policy.catalogues.iter().cloned());
    let others = SERVICES.iter().filter_map(|(name, _)| shelf.catalogue(name)?.ok());
    for catalogue in own.chain(others) {
        if !all.iter().any(|known| same(known, &catalogue)) {
            all.push(catalogue);
        }
    }
    all
}

/// The one action that a request is, and what it is about.
fn told<'c>(
    catalogues: &'c [Arc<Catalogue>],
    one: &Seen,
) -> Option<(&'c Catalogue, &'c Action, Option<String>)> {
    let mut found = None;
    for catalogue in catalogues.iter().filter(|catalogue| catalogue.is_at(&one.request.host)) {
        for action in &catalogue.actions {
            // Also one that its body or query would have to confirm is one too many.
            if !action.conditions.iter().any(|own| own.takes_head(&one.request, one.moment())) {
                continue;
            }
            if found.replace((&**catalogue, action)).is_some() {
                return None;
            }
        }
    }
    let (catalogue, action) = found?;
    if action.conditions.iter().any(|own| !own.checks.is_empty()) {
        return None;
    }
    let resource = catalogue.resource_of(action, &one.request).ok()?;
    Some((catalogue, action, resource))
}

/// Each by itself, or all of an owner's where they are many.
fn listed(resources: BTreeSet<String>) -> BTreeSet<String> {
    if resources.len() <= MOST_LISTED {
        return resources;
    }
    let wide = |resource: &String| match resource.rsplit_once('/') {
        Some((owner, _)) => format!("{owner}/*"),
        None => "*".to_owned(),
    };
    resources.iter().map(wide).collect()
}

fn write(entries: &BTreeMap<Entry, Actions<'_>>, denied: Denied) -> String {
    if entries.is_empty() && denied.is_empty() {
        return String::new();
    }
    let mut text = String::from("services:\n");
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (name, fields) in denied {
        text.push_str(&format!("  {name}:\n{fields}"));
        taken.insert(name);
    }
    for (entry, actions) in entries {
        let name = free(&entry.service, &mut taken);
        let all: Vec<&Seen> = actions.values().flatten().copied().collect();
        let requests: u64 = all.iter().map(|one| one.count).sum();
        text.push_str(&format!("  # {requests} {}\n", if requests == 1 { "request" } else { "requests" }));
        text.push_str(&format!("  {name}:\n"));
        if name != entry.service {
            text.push_str(&format!("    service: {}\n", entry.service));
        }
        if let Some(credential) = &entry.credential {
            text.push_str(&format!("    credential: {credential}\n"));
        }
        if !entry.settings.is_empty() {
            text.push_str(&format!("    settings: {}\n", entry.settings));
        }
        if !entry.resources.is_empty() {
            let resources: Vec<String> = entry.resources.iter().map(|resource| word(resource)).collect();
            text.push_str(&format!("    resources: [{}]\n", resources.join(", ")));
        }
        let names: Vec<&str> = actions.keys().map(String::as_str).collect();
        text.push_str(&format!("    allow: [{}]\n", names.join(", ")));
        let rates: Vec<String> =
            actions.iter().map(|(name, seen)| format!("{name}: {}", rates::rate(&moments(seen)))).collect();
        text.push_str(&format!("    rate: {{ {} }}\n", rates.join(", ")));
        let most = all.iter().map(|one| one.sent).max().unwrap_or(0);
        if most > 0 {
            text.push_str(&format!("    max_body: {}\n", rates::size(most)));
        }
    }
    text
}

/// The service's own name, or one with a number.
fn free(service: &str, taken: &mut BTreeSet<String>) -> String {
    let mut name = service.to_owned();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{service}-{number}");
        number += 1;
    }
    name
}

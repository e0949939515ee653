//! `policy suggest`: the `services` and `allow` sections that what was seen needs, in the file the agent has.
//!
//! Everything else of the file stays as its author wrote it. Deny rules are decisions of people: what
//! they refuse is not covered, and is said to be left out.

use std::collections::{BTreeMap, BTreeSet};

use super::{Seen, actions, paths, rates};
use crate::canon::{Host, Method, Request, Scheme};
use crate::catalog::Library;
use crate::diagnostics::{File, Report};
use crate::layout::format;
use crate::policy::{AgentPolicy, Compiled, Decision, PolicySet, Source};
use crate::yaml::{self, Value, word};

/// Sections that a suggestion writes anew, or that only hold for the rules as they were.
const OWN: &[&str] = &["version", "agent", "mode", "services", "allow", "tests"];

#[derive(Debug)]
pub struct Suggestion {
    /// a policy that loads
    pub text: String,
    /// requests it allows, folded ones counted
    pub covered: u64,
    /// what was seen and is not covered, with the reason
    pub left_out: Vec<(String, String)>,
}

/// `current`: the policy of the agent so far. `Err`: that policy does not load.
pub fn suggest(
    agent: &str,
    current: Option<&Source>,
    library: &Library,
    seen: &[Seen],
) -> Result<Suggestion, Report> {
    let policy = match current {
        Some(source) => Some(PolicySet::compile_with(std::slice::from_ref(source), library)?),
        None => None,
    };
    let policy = policy.as_ref().and_then(|compiled| compiled.set.agent(agent));
    let (mut taken, mut left_out): (Vec<&Seen>, BTreeMap<String, String>) = (Vec::new(), BTreeMap::new());
    for one in seen {
        match why_not(policy.map(|policy| &**policy), one) {
            None => taken.push(one),
            Some(why) => {
                left_out.insert(shown(&one.request), why);
            }
        }
    }
    let kept = current.map(kept_sections).unwrap_or_default();
    let head = format!("version: 1\nagent: {agent}\n{kept}");
    let limited = kept.lines().any(|line| line.starts_with("limits:"));
    let name = current.map_or_else(|| format!("{agent}.yaml"), |source| source.name.clone());
    let policy = policy.map(|policy| &**policy);
    let denied = current.map(actions::denied).unwrap_or_default();
    let (services, rest) = actions::services(library.shelf(&name), policy, &taken, denied);
    let allow = allow(policy, &rest);
    // Limits that are there already held while all this was seen.
    let limits = match limited || taken.is_empty() {
        true => String::new(),
        false => format!("limits: {{ rate: {} }}\n", rates::rate(&moments(&taken))),
    };
    let text = format!("{head}{allow}{limits}{services}");
    let text = format(&Source { name: name.clone(), text })?;
    let Compiled { set, .. } = PolicySet::compile_with(&[Source { name, text: text.clone() }], library)?;
    let covered = |one: &&&Seen| {
        set.agent(agent)
            .is_some_and(|policy| !matches!(policy.decide(&one.request, one.moment()), Decision::Deny { .. }))
    };
    let (good, bad): (Vec<&Seen>, Vec<&Seen>) = taken.iter().copied().partition(|one| covered(&one));
    for one in bad {
        left_out.insert(shown(&one.request), "no rule of this version can say it".to_owned());
    }
    Ok(Suggestion {
        text,
        covered: good.iter().map(|one| one.count).sum(),
        left_out: left_out.into_iter().collect(),
    })
}

/// Why a request is not one the agent shall keep.
fn why_not(policy: Option<&AgentPolicy>, one: &Seen) -> Option<String> {
    if let Some(Decision::Deny { rule: Some(rule) }) =
        policy.map(|policy| policy.decide(&one.request, one.moment()))
    {
        return Some(format!("your deny rule `{}` refuses it", rule.name));
    }
    (!one.passed).then(|| "it was refused".to_owned())
}

/// The sections of the file that stay, with the comments in them.
fn kept_sections(source: &Source) -> String {
    let file = File::new(&source.name, &source.text);
    let Some(root) = yaml::parse(&file, &mut Report::default()) else { return String::new() };
    let Value::Map(entries) = &root.value else { return String::new() };
    let mut kept = String::new();
    for (number, entry) in entries.iter().enumerate() {
        if OWN.contains(&entry.key.as_str()) {
            continue;
        }
        let until = entries.get(number + 1).map_or(source.text.len(), |next| next.key_span.start);
        let section = source.text.get(entry.key_span.start..until).unwrap_or_default();
        // Comments above the next section belong to that one.
        let mut lines: Vec<&str> = section.lines().collect();
        while lines.len() > 1 && lines.last().is_some_and(|line| line.is_empty() || line.starts_with('#')) {
            lines.pop();
        }
        kept.push_str(&lines.join("\n"));
        kept.push('\n');
    }
    kept
}

/// Requests that go into one rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    scheme: &'static str,
    host: Host,
    port: u16,
    pub(super) credential: Option<String>,
}

impl Place {
    pub(super) fn of(policy: Option<&AgentPolicy>, one: &Seen) -> Place {
        let request = &one.request;
        // A credential that the file no longer declares cannot be brought.
        let declared = |name: &&String| policy.is_some_and(|policy| policy.credential(name).is_some());
        Place {
            scheme: request.scheme.as_str(),
            host: request.host.clone(),
            port: request.port,
            credential: one.credential.as_ref().filter(declared).cloned(),
        }
    }
}

fn allow(policy: Option<&AgentPolicy>, seen: &[&Seen]) -> String {
    let mut places: BTreeMap<Place, Vec<&Seen>> = BTreeMap::new();
    for one in seen {
        places.entry(Place::of(policy, one)).or_default().push(one);
    }
    if places.is_empty() {
        return String::new();
    }
    let mut names = BTreeSet::new();
    let mut text = String::from("allow:\n");
    for (place, seen) in &places {
        for (methods, group) in by_methods(seen, place.credential.is_some()) {
            text.push_str(&rule(place, &methods, &group, &mut names));
        }
    }
    text
}

/// The templates of each method, and methods with the same templates together.
fn by_methods<'s>(seen: &[&'s Seen], key: bool) -> Vec<(Vec<Method>, Group<'s>)> {
    let reading = |method: &Method| matches!(method.as_str(), "GET" | "HEAD");
    let mut families: BTreeMap<String, Vec<&Seen>> = BTreeMap::new();
    for &one in seen {
        // What may be read may be asked for its headers.
        let family = if reading(&one.request.method) { "GET" } else { one.request.method.as_str() };
        families.entry(family.to_owned()).or_default().push(one);
    }
    let mut groups: BTreeMap<Vec<String>, (BTreeSet<Method>, Group<'s>)> = BTreeMap::new();
    for (family, seen) in families {
        let paths: BTreeSet<&str> = seen.iter().map(|one| one.request.target.path()).collect();
        let templates = paths::templates(paths, family == "GET" && !key);
        let (methods, group) = groups
            .entry(templates.clone())
            .or_insert_with(|| (BTreeSet::new(), Group { templates, seen: Vec::new() }));
        methods.extend(seen.iter().map(|one| one.request.method.clone()));
        group.seen.extend(seen);
    }
    groups.into_values().map(|(methods, group)| (methods.into_iter().collect(), group)).collect()
}

struct Group<'s> {
    templates: Vec<String>,
    seen: Vec<&'s Seen>,
}

fn rule(place: &Place, methods: &[Method], group: &Group<'_>, names: &mut BTreeSet<String>) -> String {
    let requests: u64 = group.seen.iter().map(|one| one.count).sum();
    let paths: BTreeSet<&str> = group.seen.iter().map(|one| one.request.target.path()).collect();
    let mut text = format!(
        "  # {requests} {} to {} {}\n  - name: {}\n    host: {}\n",
        if requests == 1 { "request" } else { "requests" },
        paths.len(),
        if paths.len() == 1 { "path" } else { "paths" },
        name(place, methods, names),
        word(&place.host.to_string()),
    );
    if place.scheme == "http" {
        text.push_str("    protocol: http\n");
    }
    let default = if place.scheme == "http" { Scheme::Http } else { Scheme::Https }.default_port();
    if place.port != default {
        text.push_str(&format!("    port: {}\n", place.port));
    }
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    text.push_str(&format!("    methods: [{}]\n", methods.join(", ")));
    let templates: Vec<String> = group.templates.iter().map(|template| word(template)).collect();
    text.push_str(&format!("    paths: [{}]\n", templates.join(", ")));
    if group.seen.iter().any(|one| one.request.target.has_encoded_slash()) {
        text.push_str("    raw_path: true\n");
    }
    if let Some(credential) = &place.credential {
        text.push_str(&format!("    credential: {credential}\n"));
    }
    text.push_str(&format!("    rate: {}\n", rates::rate(&moments(&group.seen))));
    let most = group.seen.iter().map(|one| one.sent).max().unwrap_or(0);
    if most > 0 {
        text.push_str(&format!("    max_body: {}\n", rates::size(most)));
    }
    text
}

pub(super) fn moments(seen: &[&Seen]) -> Vec<u64> {
    let times = |one: &&Seen| usize::try_from(one.count).unwrap_or(usize::MAX).min(MAX_FOLDED);
    seen.iter().flat_map(|one| std::iter::repeat_n(one.at, times(one))).collect()
}

/// A receipt that stands for more is a flood, which no rate should be made for.
const MAX_FOLDED: usize = 10_000;

/// After what the rule is for: `read-api-github-com`, `post-api-github-com-2`.
fn name(place: &Place, methods: &[Method], names: &mut BTreeSet<String>) -> String {
    let reading = methods.iter().all(|method| matches!(method.as_str(), "GET" | "HEAD"));
    let verb = match methods {
        _ if reading => "read".to_owned(),
        [one] => one.as_str().to_ascii_lowercase(),
        _ => "use".to_owned(),
    };
    let host: String = place
        .host
        .to_string()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    // 63 is the longest name; a number may follow.
    let base: String = format!("{verb}-{host}").chars().take(56).collect();
    let base = base.trim_end_matches('-').to_owned();
    let mut name = base.clone();
    let mut number = 2;
    while !names.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

/// As a person would type it.
pub(crate) fn shown(request: &Request) -> String {
    let Request { scheme, host, port, method, target, .. } = request;
    format!("{method} {}://{}{}", scheme.as_str(), host.authority(*scheme, *port), target.path())
}

//! An endpoint of a catalogue as the fields of ordinary rules.

use super::scope::{self, Resource};
use super::{Catalogue, Endpoint, Settings, fill};
use crate::canon::Method;
use crate::diagnostics::Span;
use crate::matcher::Template;
use crate::yaml::{Entry, Node, Value};

/// The fields of a rule, but for its name.
pub(crate) struct Made {
    pub(crate) rule: Node,
    /// for every resource, with the names of what stands where
    pub(crate) templates: Vec<Template>,
}

/// The rules that one endpoint makes for these resources, or for all where there are none. `extra`: fields of the
/// policy's own. `at`: where the policy names the action; what comes from the catalogue is placed there. `Err`:
/// a setting is missing.
pub(crate) fn rules(
    catalogue: &Catalogue,
    endpoint: &Endpoint,
    resources: &[Resource],
    settings: &Settings,
    extra: &[Entry],
    at: &Span,
) -> Result<Vec<Made>, String> {
    let Some(hosts) = catalogue.hosts(&endpoint.host) else { return Ok(Vec::new()) };
    // What is wrong with a setting is wrong where it is given, everything else where the action is named.
    let placed = |node: &Node| {
        let mut node = node.clone();
        node.placed(at);
        node
    };
    let (Some(hosts), Some(paths)) =
        (fill(&placed(hosts), settings)?, fill(&placed(&endpoint.path), settings)?)
    else {
        return Ok(Vec::new());
    };
    let mut checks = Vec::new();
    for entry in &endpoint.checks {
        // A check that a setting would narrow, and does not: the endpoint is for those who give it.
        let Some(value) = fill(&placed(&entry.value), settings)? else { return Ok(Vec::new()) };
        checks.push(Entry { value, key_span: at.clone(), key: entry.key.clone() });
    }
    let in_host = texts_of(&hosts).iter().any(|host| host.contains('{'));
    let all: Vec<Option<&Resource>> = match resources {
        [] => vec![None],
        some => some.iter().map(Some).collect(),
    };
    // Hosts and paths of one rule go together in every combination, so what stands in both must be one resource.
    let groups: Vec<&[Option<&Resource>]> = if in_host { all.chunks(1).collect() } else { vec![&all] };
    let templates: Vec<Template> =
        texts_of(&paths).iter().filter_map(|path| Template::parse(&scope::named(path)).ok()).collect();
    let mut made = Vec::new();
    for group in groups {
        let (mut own_hosts, mut own_paths) = (Vec::new(), Vec::new());
        for resource in group {
            own_hosts.extend(scoped(&hosts, |text| scope::host(text, *resource)));
            own_paths.extend(scoped(&paths, |text| scope::path(text, *resource)));
        }
        if own_hosts.is_empty() || own_paths.is_empty() {
            continue;
        }
        let mut fields = vec![
            list("host", own_hosts, at),
            list("paths", own_paths, at),
            list("methods", endpoint.methods.iter().map(|method| text(method.as_str(), at)).collect(), at),
        ];
        fields.extend(checks.iter().cloned());
        fields.extend(extra.iter().cloned());
        made.push(Made {
            rule: Node { span: at.clone(), value: Value::Map(fields), quoted: false },
            templates: templates.clone(),
        });
    }
    Ok(made)
}

/// A text, or those of a list.
pub(crate) fn texts_of(node: &Node) -> Vec<String> {
    let one = |node: &Node| match &node.value {
        Value::Scalar(text) => Some(text.clone()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    };
    match &node.value {
        Value::List(items) => items.iter().filter_map(one).collect(),
        Value::Null | Value::Scalar(_) | Value::Map(_) => one(node).into_iter().collect(),
    }
}

fn scoped(node: &Node, scope: impl Fn(&str) -> Option<String>) -> Vec<Node> {
    let one = |node: &Node| match &node.value {
        Value::Scalar(text) => scope(text).map(|value| self::text(&value, &node.span)),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    };
    match &node.value {
        Value::List(items) => items.iter().filter_map(one).collect(),
        Value::Null | Value::Scalar(_) | Value::Map(_) => one(node).into_iter().collect(),
    }
}

fn text(value: &str, at: &Span) -> Node {
    Node { span: at.clone(), value: Value::Scalar(value.to_owned()), quoted: true }
}

fn list(key: &str, mut items: Vec<Node>, at: &Span) -> Entry {
    let mut seen = std::collections::BTreeSet::new();
    items.retain(|item| match &item.value {
        Value::Scalar(text) => seen.insert(text.clone()),
        Value::Null | Value::List(_) | Value::Map(_) => true,
    });
    Entry {
        key: key.to_owned(),
        key_span: at.clone(),
        value: Node { span: at.clone(), value: Value::List(items), quoted: false },
    }
}

/// What may be read may be asked for its headers.
pub(crate) fn with_head(methods: Vec<Method>) -> Vec<Method> {
    let get = methods.iter().any(|method| method.as_str() == "GET");
    let head = Method::parse("HEAD").ok().filter(|head| get && !methods.contains(head));
    methods.into_iter().chain(head).collect()
}

//! W055, W056: actions that a catalogue warns of, by the way or by name.
//!
//! A `false` of [`apart`] may be wrong: then a reader looks once more.

use std::sync::Arc;

use super::Surroundings;
use crate::catalog::{Action, Catalogue, Library, RuleAction, SERVICES};
use crate::diagnostics::{File, Finding, Report};
use crate::document::{Document, RuleText};
use crate::matcher::{Check, Checks, Conditions, Field, GitCheck, GraphqlCheck, Test};

/// Of one rule. A rule for whole hosts allows hundreds, and the list would say less than their number.
const MAX_TOLD: usize = 8;

/// The catalogues that are shipped, or what stands in their place beside the policy, and those it speaks of.
fn catalogues(library: &Library, policy: &str, document: &Document) -> Vec<Arc<Catalogue>> {
    let shelf = library.shelf(policy);
    let mut all: Vec<Arc<Catalogue>> = document.catalogues.clone();
    for (name, _) in SERVICES {
        // One that does not load is told of where it is used. With settings of the policy it is elsewhere.
        let Some(Ok(other)) = shelf.catalogue(name) else { continue };
        if !all.iter().any(|own| own.name == other.name && own.reach == other.reach) {
            all.push(other);
        }
    }
    all
}

pub(super) fn check(
    file: &File,
    policy: &str,
    document: &Document,
    around: &Surroundings,
    report: &mut Report,
) {
    let catalogues = catalogues(&around.library, policy, document);
    for rule in &document.allow {
        match &rule.action {
            Some(action) => by_name(file, rule, action, &catalogues, report),
            None => by_the_way(file, document, rule, &catalogues, report),
        }
    }
}

/// "which …", of what a catalogue warns of.
fn warned(action: &Action) -> Option<String> {
    let mints = action.mints.as_ref().map(|what| format!("{what} (credentials)"));
    mints.or_else(|| action.dangerous.clone())
}

fn by_name(
    file: &File,
    rule: &RuleText,
    named: &RuleAction,
    catalogues: &[Arc<Catalogue>],
    report: &mut Report,
) {
    let of = catalogues.iter().find(|catalogue| catalogue.name == named.service);
    let action = of.and_then(|of| of.actions.iter().find(|action| action.name == named.action));
    if let Some(what) = action.and_then(warned) {
        let (name, named) = (rule.name.value.to_string(), named.to_string());
        let message = match name == named {
            true => format!("`{name}` is allowed, which {what}"),
            false => format!("`{name}` allows `{named}`, which {what}"),
        };
        report.push(
            Finding::warning("W056", file, &rule.name.span, message)
                .hint("where it is meant, say so to CI with `--allow W056`"),
        );
    }
}

fn by_the_way(
    file: &File,
    document: &Document,
    rule: &RuleText,
    catalogues: &[Arc<Catalogue>],
    report: &mut Report,
) {
    let all = catalogues.iter().flat_map(|own| own.actions.iter().map(move |action| (own, action)));
    let mut found: Vec<(&Catalogue, &Action, &Conditions, String)> = all
        .filter_map(|(own, action)| {
            let what = warned(action)?;
            let mut conditions = action.conditions.iter();
            let conditions = conditions.find(|danger| allows(document, rule, danger, own, action))?;
            Some((&**own, action, conditions, what))
        })
        .collect();
    // Where not all are told, what makes credentials is.
    found.sort_by_key(|(_, action, _, _)| action.mints.is_none());
    let name = &rule.name.value;
    for (own, action, conditions, what) in found.iter().take(MAX_TOLD) {
        let request = request(conditions);
        let message =
            format!("rule `{name}` allows `{}/{}` ({request}), which {what}", own.name, action.name);
        report.push(
            Finding::warning("W055", file, &rule.name.span, message)
                .hint("deny it, or narrow the rule; where it is meant, name the action under `services`"),
        );
    }
    let more = found.len().saturating_sub(MAX_TOLD);
    if more > 0 {
        let message = format!("rule `{name}` allows {more} more actions that catalogues warn of");
        report.push(Finding::warning("W055", file, &rule.name.span, message).hint("narrow the rule"));
    }
}

fn allows(
    document: &Document,
    rule: &RuleText,
    danger: &Conditions,
    catalogue: &Catalogue,
    action: &Action,
) -> bool {
    let denied = document.deny.iter().any(|deny| {
        // With settings of the policy it may be denied at another host.
        let same = |own: &Arc<RuleAction>| {
            own.service == catalogue.name
                && own.action == action.name
                && deny.conditions.hosts == danger.hosts
        };
        deny.conditions.covers(danger) || deny.action.as_ref().is_some_and(same)
    });
    !denied && rule.conditions.may_ask(danger) && !apart(&rule.conditions.checks, &danger.checks)
}

fn request(conditions: &Conditions) -> String {
    let methods = conditions.methods.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let host = conditions.hosts.first().map(ToString::to_string).unwrap_or_default();
    let path = conditions.templates.first().map(ToString::to_string).unwrap_or_default();
    format!("{methods} {host}{path}")
}

/// Can no request pass both?
fn apart(rule: &Checks, danger: &Checks) -> bool {
    fields_apart(&rule.query, &danger.query)
        || fields_apart(&rule.headers, &danger.headers)
        || fields_apart(&rule.form, &danger.form)
        || matches!((&rule.graphql, &danger.graphql), (Some(rule), Some(danger)) if graphql_apart(rule, danger))
        || matches!((&rule.git, &danger.git), (Some(rule), Some(danger)) if git_apart(rule, danger))
}

fn fields_apart(rule: &[Field], danger: &[Field]) -> bool {
    let of = |danger: &Field| rule.iter().find(|own| own.name == danger.name);
    danger.iter().any(|danger| {
        let (Some(one), Some(other)) = (of(danger).and_then(|own| values(&own.check)), values(&danger.check))
        else {
            return false;
        };
        one.iter().all(|value| !other.contains(value))
    })
}

/// The values that a check takes, where it lists them.
fn values(check: &Check) -> Option<Vec<&str>> {
    check.0.iter().find_map(|test| match test {
        Test::Equals(literal) => Some(vec![literal.text.as_str()]),
        Test::In(literals) => Some(literals.iter().map(|literal| literal.text.as_str()).collect()),
        Test::NotIn(_)
        | Test::Glob(_)
        | Test::Matches(_)
        | Test::Max(_)
        | Test::Min(_)
        | Test::MaxLength(_)
        | Test::Exists(_) => None,
    })
}

fn graphql_apart(rule: &GraphqlCheck, danger: &GraphqlCheck) -> bool {
    let kinds = match (&rule.operations, &danger.operations) {
        (Some(own), Some(other)) => own.iter().all(|kind| !other.contains(kind)),
        (None, _) | (_, None) => false,
    };
    let root =
        |path: &crate::matcher::FieldPath| path.to_string().split('.').next().unwrap_or_default().to_owned();
    let fields = match (&rule.fields, &danger.fields) {
        (Some(own), Some(other)) => own.iter().map(root).all(|own| {
            !own.starts_with('*')
                && other.iter().map(root).all(|other| !other.starts_with('*') && own != other)
        }),
        // Fields that a person listed one by one are no catch-all.
        (Some(own), None) => own.iter().map(root).all(|own| !own.starts_with('*')),
        (None, _) => false,
    };
    kinds || fields
}

/// What a catalogue warns of in git is pushing, and of that deleting and forcing.
fn git_apart(rule: &GitCheck, danger: &GitCheck) -> bool {
    match (&rule.push, &danger.push) {
        (None, Some(_)) => true,
        (Some(own), Some(other)) => (other.delete || other.force) && !own.delete && !own.force,
        (_, None) => false,
    }
}

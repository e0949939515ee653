//! Warnings: what loads but is probably not meant.
//!
//! Only for files without errors. A warning never changes what a policy does.

use std::cell::Cell;

use crate::canon::Scheme;
use crate::diagnostics::{File, Finding, Report};
use crate::document::{Document, RuleText};
use crate::matcher::{HostPattern, Index};
use crate::policy::Mode;

/// Pairs of rules compared for W031, of the same host and with paths alike. Beyond, the check stops quietly.
const MAX_PAIRS: usize = 1_000_000;

pub(crate) fn check(file: &File, document: &Document, report: &mut Report) {
    for rule in &document.allow {
        credential_reach(file, rule, report);
    }
    if let Some(span) = document.mode_span.as_ref().filter(|_| document.mode == Mode::Observe) {
        let message = "what no rule allows passes, and is only recorded";
        let hint = "write `mode: enforce` once the receipts show nothing unexpected";
        report.push(Finding::warning("W035", file, span, message).hint(hint));
    }
    unreachable(file, document, report);
    unused(file, document, report);
}

/// W030, W033: where a credential may end up.
fn credential_reach(file: &File, rule: &RuleText, report: &mut Report) {
    let Some(credential) = &rule.credential else { return };
    for (pattern, span) in rule.conditions.hosts.iter().zip(&rule.host_spans) {
        let reach = match pattern {
            HostPattern::Exact(_) => None,
            HostPattern::Below(base) => Some(format!("any host under `{base}`")),
            HostPattern::Any => Some("any host at all".to_owned()),
        };
        if let Some(reach) = reach {
            let message = format!("credential `{}` may be sent to {reach}", credential.value);
            report.push(
                Finding::warning("W030", file, span, message)
                    .label("wildcard")
                    .also(file, &credential.span, "credential")
                    .hint("list the hosts, or keep the wildcard and restrict the secret: `enforcer secret hosts`"),
            );
        }
    }
    if rule.conditions.scheme == Some(Scheme::Http) {
        let message = format!("credential `{}` is sent without encryption", credential.value);
        report.push(
            Finding::warning("W033", file, &credential.span, message)
                .label("the rule says `protocol: http`")
                .hint("anyone on the way can read it; use https"),
        );
    }
}

/// W031: rules that never decide, because one before them takes all their requests.
fn unreachable(file: &File, document: &Document, report: &mut Report) {
    let index = |rules: &[RuleText]| Index::new(0, false, rules.iter().map(|rule| &rule.conditions));
    let (deny, allow) = (index(&document.deny), index(&document.allow));
    let pairs = Cell::new(0);
    for (number, rule) in document.allow.iter().enumerate() {
        let covers = |rules: &[RuleText], first: usize| {
            pairs.set(pairs.get() + 1);
            let first = rules.get(first).filter(|_| pairs.get() <= MAX_PAIRS);
            first.is_some_and(|first| first.conditions.covers(&rule.conditions))
        };
        let denied = deny.first_above(&rule.conditions, |first| covers(&document.deny, first));
        // Where actions of one catalogue overlap, nobody who names both is mistaken.
        let kin = |first: usize| document.allow.get(first).is_some_and(|first| first.of_one_catalogue(rule));
        let earlier = || {
            allow.first_above(&rule.conditions, |first| {
                first < number && !kin(first) && covers(&document.allow, first)
            })
        };
        let first = match denied {
            Some(first) => {
                document.deny.get(first).map(|r| (r, "this deny rule already blocks every such request"))
            }
            None => earlier()
                .and_then(|first| document.allow.get(first))
                .map(|r| (r, "this rule already takes every such request")),
        };
        let Some((first, why)) = first else { continue };
        report.push(
            Finding::warning(
                "W031",
                file,
                &rule.name.span,
                format!("rule `{}` can never match", rule.name.value),
            )
            .label("never reached")
            .also(file, &first.name.span, why)
            .hint("rules are read from top to bottom; put the narrow rule first"),
        );
    }
}

/// W032: a credential no rule brings along is a line that looks like more than it is.
fn unused(file: &File, document: &Document, report: &mut Report) {
    for name in &document.declared {
        let used = document
            .allow
            .iter()
            .filter_map(|rule| rule.credential.as_ref())
            .any(|c| c.value == name.value.as_str());
        if !used {
            let message = format!("credential `{}` is used by no rule", name.value);
            let hint = format!("write `credential: {}` in the rules that need it, or remove it", name.value);
            report.push(Finding::warning("W032", file, &name.span, message).hint(hint));
        }
    }
}

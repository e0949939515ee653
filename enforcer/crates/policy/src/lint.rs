//! Warnings: what loads but is probably not meant.
//!
//! Only for files without errors. A warning never changes what a policy does.

use crate::canon::Scheme;
use crate::diagnostics::{File, Finding, Report};
use crate::document::{Document, RuleText};
use crate::matcher::HostPattern;
use crate::policy::Mode;

/// Pairs of rules compared for W031. Enough for a thousand rules; beyond, the check stops quietly.
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
    let mut pairs = 0;
    for (number, rule) in document.allow.iter().enumerate() {
        let denied =
            document.deny.iter().map(|first| (first, "this deny rule already blocks every such request"));
        let earlier = document
            .allow
            .iter()
            .take(number)
            .map(|first| (first, "this rule already takes every such request"));
        let first = denied.chain(earlier).take_while(|_| {
            pairs += 1;
            pairs <= MAX_PAIRS
        });
        let Some((first, why)) =
            first.into_iter().find(|(first, _)| first.conditions.covers(&rule.conditions))
        else {
            continue;
        };
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

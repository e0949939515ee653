//! The `tests:` of a file, run whenever it loads. A file whose tests fail is not loaded.

use std::collections::BTreeSet;

use crate::diagnostics::{File, Finding, Report, nearest};
use crate::document::Case;
use crate::name::RuleName;
use crate::policy::{AgentPolicy, Decision};

/// The rules that decided a test.
pub(crate) fn run(
    file: &File,
    policy: &AgentPolicy,
    cases: &[Case],
    report: &mut Report,
) -> BTreeSet<RuleName> {
    let mut tested = BTreeSet::new();
    for case in cases {
        if let Some(by) = &case.by
            && !policy.rules().iter().any(|rule| rule.name.as_str() == by.value)
        {
            let finding = Finding::error("E041", file, &by.span, format!("there is no rule `{}`", by.value));
            report.push(match nearest(&by.value, policy.rules().iter().map(|rule| rule.name.as_str())) {
                Some(near) => finding.hint(format!("did you mean `{near}`?")),
                None => finding,
            });
            continue;
        }
        let (allowed, rule) = match policy.decide(&case.request.value, case.at) {
            Decision::Allow { rule, template } => (!template.catches_dns(&case.request.value), Some(rule)),
            Decision::Deny { rule } => (false, rule),
            // A test has a body or says that there is none.
            Decision::Needs(_) => (false, None),
        };
        tested.extend(rule.as_ref().map(|rule| rule.name.clone()));
        let by_another = case
            .by
            .as_ref()
            .is_some_and(|by| rule.as_ref().is_none_or(|rule| rule.name.as_str() != by.value));
        if allowed == case.allow && !by_another {
            continue;
        }
        let verdict = if allowed { "allowed" } else { "denied" };
        let by = rule.map_or("because no rule matches".to_owned(), |rule| {
            format!("by rule `{}` ({})", rule.name, rule.place)
        });
        let instead = match &case.by {
            Some(expected) if by_another => format!(", not by `{}`", expected.value),
            _ => String::new(),
        };
        let hint = policy.explain(&case.request.value, case.at).hint.filter(|_| case.allow && !allowed);
        let finding = Finding::error("E040", file, &case.request.span, "a test of this policy fails")
            .label(format!("{verdict} {by}{instead}"));
        report.push(match hint {
            Some(hint) => finding.hint(hint),
            None => finding,
        });
    }
    tested
}

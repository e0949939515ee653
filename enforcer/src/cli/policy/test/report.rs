//! What `policy test` prints: for people, for JUnit readers, as TAP.

use enforcer_policy::Case;

use super::Tested;
use crate::cli::output::{DIM, GREEN, RED, YELLOW};
use crate::cli::policy::count;
use crate::cli::{Failure, Output};
use crate::text::shown;

/// Differences as a diff reads: what was expected, and what is.
pub(super) fn text(tested: &[Tested], coverage: bool, out: &mut Output) -> Result<(), Failure> {
    for one in tested {
        let (mark, style) = match (one.passes(), one.updated) {
            (true, true) => ("updated", YELLOW),
            (true, false) => ("ok     ", GREEN),
            (false, _) => ("FAILED ", RED),
        };
        out.line(format!("{style}{mark}{style:#} {}{}", shown(&one.policy), summary(one)))?;
        if let Some(broken) = &one.broken {
            for line in broken.trim_end().lines() {
                out.line(format!("  {}", shown(line)))?;
            }
        }
        let Some(result) = &one.result else { continue };
        let cases = one.cases.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        for case in result.cases.iter().filter(|case| !case.passes()) {
            out.line(format!("  {DIM}{}:{}{DIM:#}  {}", shown(&cases), case.line, shown(&case.case)))?;
            match &case.expected {
                Some(expected) => out.line(format!("    {RED}- {}{RED:#}", shown(expected)))?,
                None => out.line(format!("    {DIM}  nothing was expected{DIM:#}"))?,
            }
            out.line(format!("    {GREEN}+ {}{GREEN:#}", shown(&case.verdict)))?;
        }
        for line in &result.gone {
            out.line(format!("  {RED}- {}{RED:#}", shown(line)))?;
            out.line(format!("    {DIM}  expected, but no longer among the cases{DIM:#}"))?;
        }
        if result.stale {
            out.line(
                "  all verdicts are as expected; comments, order or spacing of the expectation are not",
            )?;
        }
        if coverage && !result.uncovered.is_empty() {
            out.line(format!("  {YELLOW}no case reaches{YELLOW:#} {}", result.uncovered.join(", ")))?;
        }
    }
    if tested.iter().any(|one| !one.passes() && one.broken.is_none()) {
        out.line(
            "\nWhere the new verdicts are meant: `enforcer policy test --update`, then review the diff.",
        )?;
    }
    Ok(())
}

fn summary(one: &Tested) -> String {
    let Some(result) = &one.result else { return ": does not load".to_owned() };
    let failed = result.cases.iter().filter(|case| !case.passes()).count() + result.gone.len();
    let cases = match (&one.cases, failed) {
        (None, _) => "no cases".to_owned(),
        (Some(_), 0) => count(result.cases.len(), "case"),
        (Some(_), failed) => format!("{failed} of {} differ", count(result.cases.len(), "case")),
    };
    format!(": {cases}, {} of {} reached", result.rules - result.uncovered.len(), count(result.rules, "rule"))
}

/// A test a case, a suite a policy.
pub(super) fn junit(tested: &[Tested]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for one in tested {
        let results = results(one);
        let failures = results.iter().filter(|(_, why)| why.is_some()).count();
        let suite = escaped(&one.policy);
        xml.push_str(&format!(
            "  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failures}\">\n",
            results.len()
        ));
        for (name, why) in results {
            xml.push_str(&format!("    <testcase classname=\"{suite}\" name=\"{}\"", escaped(&name)));
            match why {
                Some(why) => xml.push_str(&format!(
                    ">\n      <failure message=\"{}\"/>\n    </testcase>\n",
                    escaped(&why)
                )),
                None => xml.push_str("/>\n"),
            }
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// TAP version 14.
pub(super) fn tap(tested: &[Tested]) -> String {
    let all: Vec<(&Tested, (String, Option<String>))> =
        tested.iter().flat_map(|one| results(one).into_iter().map(move |result| (one, result))).collect();
    let mut text = format!("TAP version 14\n1..{}\n", all.len());
    for (number, (one, (name, why))) in all.iter().enumerate() {
        // `#` would begin a directive.
        let description = shown(&format!("{}: {name}", one.policy)).replace('#', "\\#");
        let sign = if why.is_none() { "ok" } else { "not ok" };
        text.push_str(&format!("{sign} {} - {description}\n", number + 1));
        if let Some(why) = why {
            text.push_str(&format!("  ---\n  message: {}\n  ...\n", serde_json::Value::from(why.as_str())));
        }
    }
    text
}

/// Name of each test and why it fails.
fn results(one: &Tested) -> Vec<(String, Option<String>)> {
    if let Some(broken) = &one.broken {
        return vec![("loads".to_owned(), Some(broken.clone()))];
    }
    let mut results = vec![("loads".to_owned(), None)];
    let Some(result) = &one.result else { return results };
    let why = |case: &Case| {
        (!case.passes() && !one.updated).then(|| {
            let expected = case.expected.as_deref().unwrap_or("nothing");
            format!("expected {expected}, got {}", case.verdict)
        })
    };
    results.extend(result.cases.iter().map(|case| (case.case.clone(), why(case))));
    if !one.updated {
        results.extend(
            result.gone.iter().map(|line| (line.clone(), Some("no longer among the cases".to_owned()))),
        );
        if result.stale {
            results.push(("expectation".to_owned(), Some("comments, order or spacing differ".to_owned())));
        }
    }
    results
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            // XML 1.0 has no way to write the others.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

//! A policy as it is in force: every rule that its file, what it includes, `services` and `use` come to, in the order
//! in which they are asked.

use crate::catalog::Library;
use crate::compile::{compile, read};
use crate::diagnostics::Report;
use crate::layout::format;
use crate::policy::Source;
use crate::yaml::flow;

/// The rules as YAML, each below the place it comes from. For reading: names such as `github/create-pr` are of rules
/// that were made, and no file can have them.
///
/// # Errors
/// What is wrong with the policy, where it does not load.
pub fn effective(source: &Source, library: &Library) -> Result<String, Report> {
    compile(std::slice::from_ref(source), library)?;
    let mut report = Report::default();
    let Some((file, document)) = read(source, library, &mut report) else { return Err(report) };
    let agent = document.agent.map(|agent| agent.value.to_string()).unwrap_or_default();
    let mut text = format!("version: 1\nagent: {agent}\n");
    for (effect, rules) in [("deny", &document.deny), ("allow", &document.allow)] {
        if rules.is_empty() {
            continue;
        }
        text.push_str(&format!("{effect}:\n"));
        for rule in rules {
            text.push_str(&format!("  # {}\n  - name: {}\n", file.place(&rule.name.span), rule.name.value));
            for field in rule.fields.iter().filter(|field| field.key != "name") {
                text.push_str(&format!("    {}: {}\n", field.key, flow(&field.value)));
            }
        }
    }
    format(&Source { name: source.name.clone(), text })
}

//! `policy …` and `reload`.
//!
//! What works on files needs neither daemon nor root, so it runs in CI and in editors.

mod apply;
mod audit;
mod check;
mod diff;
mod explain;
pub(super) mod files;
mod layout;
mod learn;
mod recorded;
mod show;
mod test;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Subcommand;
use enforcer_policy::Report;

use super::failure::INVALID;
use super::output::moment;
use super::{Context, Ended, Failure, Output};
use crate::policies::Loaded;
use crate::text::shown;

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Check policy files; needs no daemon
    Check(check::CheckArgs),
    /// Print a policy, or with `--effective` every rule that it comes to
    Show(show::ShowArgs),
    /// Say what would happen to a request, and by which rule
    Explain(explain::ExplainArgs),
    /// Ask the cases beside policies, and compare with what is expected
    Test(test::TestArgs),
    /// Say what a careful reader would ask: reach of keys, dangerous actions, rules without a rate
    Audit(audit::AuditArgs),
    /// Say which recorded requests change, and which classes widen, from one policy to another
    Diff(diff::DiffArgs),
    /// Put files into the policy folder, unless recorded requests would change
    Apply(apply::ApplyArgs),
    /// Write the tightest policy that allows what an agent was seen to do
    Suggest(learn::LearnArgs),
    /// Say what a policy grants and nobody used
    Unused(learn::LearnArgs),
    /// Bring policy files into the one layout; comments stay, meaning too
    Fmt(layout::FmtArgs),
    /// Print the JSON Schema of policy files, for editors and CI
    Schema,
}

pub(super) fn policy(command: PolicyCommand, context: &Context, out: &mut Output) -> Ended {
    match command {
        PolicyCommand::Check(args) => check::check(&args, context, out),
        PolicyCommand::Show(args) => show::show(&args, context, out),
        PolicyCommand::Explain(args) => explain::explain(&args, context, out),
        PolicyCommand::Test(args) => test::test(&args, context, out),
        PolicyCommand::Audit(args) => audit::audit(&args, context, out),
        PolicyCommand::Diff(args) => diff::diff(&args, context, out),
        PolicyCommand::Apply(args) => apply::apply(&args, context, out),
        PolicyCommand::Suggest(args) => learn::suggest(&args, context, out),
        PolicyCommand::Unused(args) => learn::unused(&args, context, out),
        PolicyCommand::Fmt(args) => layout::fmt(&args, context, out),
        PolicyCommand::Schema => {
            out.json(&enforcer_policy::schema(), true)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub(super) fn reload(context: &Context, out: &mut Output) -> Ended {
    let loaded: Loaded = context.client()?.json(http::Method::POST, "/v1/policies/reload", Vec::new())?;
    if context.json {
        out.json(&loaded, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    let at = moment(i64::try_from(loaded.at).unwrap_or(0));
    out.line(format!(
        "in force: {} from {}, read {at}",
        count(loaded.files.len(), "policy file"),
        loaded.directory.display()
    ))?;
    if let Some(report) = &loaded.report {
        out.line(report.split('\n').map(shown).collect::<Vec<_>>().join("\n").trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Never colour alone: the sign says it too.
pub(super) fn mark(allowed: bool) -> (&'static str, anstyle::Style) {
    use anstyle::AnsiColor::{Green, Red};
    if allowed { ("+ allow", Green.on_default().bold()) } else { ("- deny", Red.on_default().bold()) }
}

/// Enough of a digest to tell two apart.
pub(super) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

pub(super) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// With ANSI in it; the writer takes it out again where colour is not wanted.
fn render(report: &Report) -> String {
    report.render(true)
}

pub(super) fn invalid(report: Report) -> Failure {
    Failure::text(INVALID, format!("the policy does not load\n{}", report.render(false)))
}

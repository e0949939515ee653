//! `policy suggest` and `policy unused`: a policy out of receipts, and what one grants for nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use enforcer_policy::Source;
use serde_json::json;

use super::files::{create, library, of_agent, read};
use super::recorded::Recorded;
use super::{count, invalid};
use crate::cli::failure::FAILED;
use crate::cli::{Context, Ended, Failure, Output};
use crate::text::shown;

#[derive(Debug, Args)]
pub(in crate::cli) struct LearnArgs {
    /// Agent, as its policy names it
    agent: String,
    #[command(flatten)]
    recorded: Recorded,
    /// The agent's policy; without it, the one in the policy folder
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write the policy here, into a file that does not exist yet
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl LearnArgs {
    fn current(&self, context: &Context) -> Result<Option<Source>, Failure> {
        match &self.policy {
            Some(path) => read(path).map(Some),
            None => of_agent(&self.agent, context),
        }
    }
}

pub(super) fn suggest(args: &LearnArgs, context: &Context, out: &mut Output) -> Ended {
    let seen = args.recorded.read(Some(&args.agent), context)?.remove(&args.agent).unwrap_or_default();
    if seen.is_empty() {
        return Err(Failure::text(FAILED, format!("there are no receipts of requests by `{}`", args.agent))
            .hint("let it work first, or look further back: `--since 4w`"));
    }
    let current = args.current(context)?;
    let library = library(current.as_slice())?;
    let suggestion =
        enforcer_policy::suggest(&args.agent, current.as_ref(), &library, &seen).map_err(invalid)?;
    if context.json {
        let left_out: Vec<_> = suggestion
            .left_out
            .iter()
            .map(|(request, why)| json!({ "request": request, "why": why }))
            .collect();
        out.json(
            &json!({ "policy": suggestion.text, "covered": suggestion.covered, "left_out": left_out }),
            true,
        )?;
        return written(args.output.as_deref(), Some(&suggestion.text));
    }
    // On standard output the policy stands alone, so what else there is to say is in it.
    let mut notes = vec![format!(
        "Suggested from {} of `{}`; review it, then `enforcer policy apply`.",
        count(usize::try_from(suggestion.covered).unwrap_or(usize::MAX), "request"),
        args.agent
    )];
    notes.extend(suggestion.left_out.iter().map(|(request, why)| format!("Not covered: {request} ({why})")));
    let notes: String = notes.iter().map(|note| format!("# {}\n", shown(note))).collect();
    let text = format!("{notes}\n{}", suggestion.text);
    match &args.output {
        Some(path) => {
            create(path, &text)?;
            out.line(format!("wrote {}", path.display()))?;
            for note in notes.lines() {
                out.line(note.trim_start_matches("# "))?;
            }
        }
        None => out.raw(text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn unused(args: &LearnArgs, context: &Context, out: &mut Output) -> Ended {
    let current = args.current(context)?.ok_or_else(|| {
        Failure::text(FAILED, format!("there is no policy for `{}`", args.agent))
            .hint("name its file with `--policy`")
    })?;
    let seen = args.recorded.read(Some(&args.agent), context)?.remove(&args.agent).unwrap_or_default();
    let library = library(std::slice::from_ref(&current))?;
    let found = enforcer_policy::unused(&current, &library, &seen).map_err(invalid)?;
    if context.json {
        out.json(&json!({ "unused": found, "tightened": found.tightened }), true)?;
        return written(args.output.as_deref(), found.tightened.as_deref());
    }
    let requests = usize::try_from(found.requests).unwrap_or(usize::MAX);
    out.line(format!("`{}`: {} against {}", found.agent, count(requests, "request"), shown(&current.name)))?;
    for rule in &found.rules {
        out.line(format!("  rule        {rule}"))?;
    }
    for (rule, method) in &found.methods {
        out.line(format!("  method      {method} of {rule}"))?;
    }
    for (rule, host) in &found.hosts {
        out.line(format!("  host        {host} of {rule}"))?;
    }
    for credential in &found.credentials {
        out.line(format!("  credential  {credential}"))?;
    }
    match (&found.tightened, &args.output) {
        (None, _) => out.line("everything it grants was used")?,
        (Some(text), Some(path)) => {
            create(path, text)?;
            out.line(format!("wrote {} without all that", path.display()))?;
        }
        (Some(_), None) => out.line("`-o FILE` writes the policy without all that")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn written(path: Option<&Path>, text: Option<&str>) -> Ended {
    if let (Some(path), Some(text)) = (path, text) {
        create(path, text)?;
    }
    Ok(ExitCode::SUCCESS)
}

//! `policy diff`: two policies over the recorded requests, and class by class.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use enforcer_policy::{Class, Comparison, compare};

use super::files::{compile, read_all};
use super::recorded::Recorded;
use super::{count, invalid};
use crate::cli::output::{DIM, GREEN, RED, YELLOW};
use crate::cli::{Context, Ended, Failure, Output};
use crate::text::shown;

#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// File or folder as it is
    old: PathBuf,
    /// File or folder as it shall be
    new: PathBuf,
    #[command(flatten)]
    recorded: Recorded,
    /// Compare rules only, without receipts
    #[arg(long, conflicts_with = "receipts")]
    no_receipts: bool,
}

pub(super) fn diff(args: &DiffArgs, context: &Context, out: &mut Output) -> Ended {
    let load = |path: &PathBuf| compile(&read_all(std::slice::from_ref(path))?)?.map_err(invalid);
    let (old, new) = (load(&args.old)?, load(&args.new)?);
    let seen = if args.no_receipts { Default::default() } else { args.recorded.read(None, context)? };
    let found = compare(&old.set, &new.set, &seen);
    if context.json {
        out.json(&found, true)?;
    } else {
        print(&found, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Agents with differences; one line where there are none.
pub(super) fn print(found: &[Comparison], out: &mut Output) -> Result<(), Failure> {
    for one in found.iter().filter(|one| !one.is_empty()) {
        out.line(format!("agent {}", shown(&one.agent)))?;
        if !one.recorded.is_empty() {
            let requests = usize::try_from(one.requests).unwrap_or(usize::MAX);
            out.line(format!("  of {} on record, these change:", count(requests, "request")))?;
        }
        for change in &one.recorded {
            let (mark, style) = if change.widens { ("+", GREEN) } else { ("-", RED) };
            out.line(format!(
                "  {style}{mark}{style:#} {} {DIM}({} times, last {}){DIM:#}",
                shown(&change.request),
                change.count,
                change.receipt
            ))?;
            out.line(format!("      was {}, will be {}", change.before, change.after))?;
        }
        classes("wider", &one.widened, out)?;
        classes("narrower", &one.narrowed, out)?;
        for line in &one.obligations {
            out.line(format!("  {YELLOW}~{YELLOW:#} {}", shown(line)))?;
        }
    }
    if found.iter().all(Comparison::is_empty) {
        out.line("nothing changes")?;
    }
    Ok(())
}

fn classes(word: &str, classes: &[Class], out: &mut Output) -> Result<(), Failure> {
    for class in classes {
        let example = match &class.example {
            Some(example) => format!("for example {example}"),
            None => "perhaps: no example was found, and none is ruled out".to_owned(),
        };
        out.line(format!(
            "  {YELLOW}{word}{YELLOW:#} {} by `{}` ({})",
            shown(&class.what),
            class.rule,
            class.place
        ))?;
        out.line(format!("      {DIM}{}{DIM:#}", shown(&example)))?;
    }
    Ok(())
}

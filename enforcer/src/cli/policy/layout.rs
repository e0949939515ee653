//! `policy fmt`: the one layout, in place or only looked for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use enforcer_policy::{Source, format};
use serde_json::json;

use super::files::{read_all, replace};
use super::{count, invalid};
use crate::cli::failure::INVALID;
use crate::cli::{Context, Ended, Output};

#[derive(Debug, Args)]
pub(in crate::cli) struct FmtArgs {
    /// Files, or folders with `*.yaml` files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Change nothing; exit with 3 when a file would change
    #[arg(long)]
    check: bool,
}

pub(super) fn fmt(args: &FmtArgs, context: &Context, out: &mut Output) -> Ended {
    let sources = read_all(&args.files)?;
    let mut changed: Vec<(&Source, String)> = Vec::new();
    for source in &sources {
        let text = format(source).map_err(invalid)?;
        if text != source.text {
            changed.push((source, text));
        }
    }
    if !args.check {
        for (source, text) in &changed {
            replace(Path::new(&source.name), text)?;
        }
    }
    let names: Vec<&str> = changed.iter().map(|(source, _)| source.name.as_str()).collect();
    if context.json {
        out.json(&json!({ "files": sources.len(), "changed": names, "written": !args.check }), true)?;
    } else {
        for name in &names {
            out.line(format!("{} {name}", if args.check { "would change" } else { "changed" }))?;
        }
        out.line(format!(
            "{}, {} {}",
            count(sources.len(), "file"),
            names.len(),
            match args.check {
                true => "to change",
                false => "changed",
            }
        ))?;
    }
    Ok(if args.check && !names.is_empty() { ExitCode::from(INVALID) } else { ExitCode::SUCCESS })
}

//! `policy check`: the findings of the compiler, over all files together.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use enforcer_policy::Compiled;
use serde_json::json;

use super::files::{compile, read_all};
use super::{count, render};
use crate::cli::failure::INVALID;
use crate::cli::{Context, Ended, Output};

#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArgs {
    /// Files, or folders with `*.yaml` files; all are checked together
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Warnings count as errors
    #[arg(long)]
    strict: bool,
}

pub(super) fn check(args: &CheckArgs, context: &Context, out: &mut Output) -> Ended {
    let sources = read_all(&args.files)?;
    let (agents, report) = match compile(&sources)? {
        Ok(Compiled { set, warnings }) => (set.agents().count(), warnings),
        Err(report) => (0, report),
    };
    let errors = report.findings.iter().filter(|f| f.error).count();
    let warnings = report.findings.len() - errors;
    let ok = errors == 0 && !(args.strict && warnings > 0);
    if context.json {
        let findings = &report.findings;
        out.json(&json!({ "ok": ok, "files": sources.len(), "agents": agents, "findings": findings }), true)?;
    } else {
        if !report.findings.is_empty() {
            out.line(render(&report).trim_end())?;
        }
        let files = count(sources.len(), "file");
        match (ok, errors, warnings) {
            (true, _, 0) => out.line(format!("ok: {files}, {}", count(agents, "agent")))?,
            (true, _, w) => {
                out.line(format!("ok: {files}, {}, {}", count(agents, "agent"), count(w, "warning")))?
            }
            (false, 0, w) => out.line(format!("not ok: {files}, {} with `--strict`", count(w, "warning")))?,
            (false, e, 0) => out.line(format!("not ok: {files}, {}", count(e, "error")))?,
            (false, e, w) => {
                out.line(format!("not ok: {files}, {}, {}", count(e, "error"), count(w, "warning")))?
            }
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(INVALID) })
}

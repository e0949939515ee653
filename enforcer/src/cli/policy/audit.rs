//! `policy audit`: what a careful reader would ask, with an exit code for CI.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use enforcer_policy::{Surroundings, audit as ask};
use serde::Deserialize;
use serde_json::json;

use super::files::{library, read_all};
use super::{count, invalid, render};
use crate::cli::failure::INVALID;
use crate::cli::{Context, Ended, Output};

#[derive(Debug, Args)]
pub(in crate::cli) struct AuditArgs {
    /// Files, or folders with `*.yaml` files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A finding that is known and meant, for example W051; may be repeated
    #[arg(long, value_name = "CODE")]
    allow: Vec<String>,
    /// Do not ask the daemon where secrets may go
    #[arg(long)]
    offline: bool,
}

/// What the vault says of a secret; never its value.
#[derive(Deserialize)]
struct Bound {
    name: String,
    hosts: Vec<String>,
}

pub(super) fn audit(args: &AuditArgs, context: &Context, out: &mut Output) -> Ended {
    let sources = read_all(&args.files)?;
    let (bindings, skipped) = match bindings(args, context) {
        Ok(bindings) => (Some(bindings), None),
        Err(why) => (None, Some(why)),
    };
    let around = Surroundings { bindings, library: library(&sources)? };
    let mut report = ask(&sources, &around).map_err(invalid)?;
    report.findings.retain(|finding| !args.allow.iter().any(|code| code == finding.code));
    let found = report.findings.len();
    if context.json {
        let findings = &report.findings;
        out.json(
            &json!({ "files": sources.len(), "findings": findings, "bindings_not_checked": skipped }),
            true,
        )?;
    } else {
        if found > 0 {
            out.line(render(&report).trim_end())?;
        }
        if let Some(why) = skipped {
            out.line(format!("not checked: where secrets may go, because {why}"))?;
        }
        out.line(format!("{}, {}", count(sources.len(), "file"), count(found, "finding")))?;
    }
    Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::from(INVALID) })
}

/// By secret. `Err`: why the vault was not asked.
fn bindings(args: &AuditArgs, context: &Context) -> Result<BTreeMap<String, Vec<String>>, String> {
    if args.offline {
        return Err("of `--offline`".to_owned());
    }
    let client = context.client().map_err(|_unusable| "the settings cannot be read".to_owned())?;
    let secrets: Vec<Bound> = client.get("/v1/secrets").map_err(|error| error.to_string())?;
    Ok(secrets.into_iter().map(|secret| (secret.name, secret.hosts)).collect())
}

//! `policy test`: the cases beside policies, and which rules none of them reaches.
//!
//! Left out: what a case means, which is `enforcer_policy`'s; here are files, formats and exit codes.

mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use enforcer_policy::Cases;

use super::files::{compile, read_all, replace};
use crate::cli::failure::{FAILED, INVALID};
use crate::cli::{Context, Ended, Failure, Output};

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArgs {
    /// Files, or folders with `*.yaml` files; beside each, `NAME.cases` and `NAME.expected`
    #[arg(default_value = ".", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write what became of the cases to `NAME.expected`; review it as a diff
    #[arg(long)]
    update: bool,
    /// Name the rules that no case and no test of the file reaches
    #[arg(long)]
    coverage: bool,
    /// `--json` is the same as `--format json`
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Junit,
    Tap,
}

/// One policy file and what came of it.
#[derive(Debug, serde::Serialize)]
struct Tested {
    policy: String,
    /// where the cases are; `None`: there are none, and the file has only its own tests
    cases: Option<PathBuf>,
    /// findings of a file that does not load, drawn
    broken: Option<String>,
    #[serde(flatten)]
    result: Option<Cases>,
    updated: bool,
}

impl Tested {
    fn passes(&self) -> bool {
        self.broken.is_none() && (self.updated || self.result.as_ref().is_none_or(Cases::passes))
    }
}

pub(super) fn test(args: &TestArgs, context: &Context, out: &mut Output) -> Ended {
    let mut tested = Vec::new();
    for source in read_all(&args.paths)? {
        let path = PathBuf::from(&source.name);
        let name = source.name.clone();
        let compiled = match compile(&[source])? {
            Ok(compiled) => compiled,
            Err(report) => {
                let broken = Some(report.render(false));
                tested.push(Tested { policy: name, cases: None, broken, result: None, updated: false });
                continue;
            }
        };
        // One file has one agent.
        let Some(policy) = compiled.set.agents().next() else { continue };
        let cases = path.with_extension("cases");
        let expected = path.with_extension("expected");
        let asked = read_if_there(&cases)?;
        let result = policy
            .cases(asked.as_deref().unwrap_or_default(), &read_if_there(&expected)?.unwrap_or_default());
        let updated = args.update && asked.is_some() && !result.passes();
        if updated {
            write(&expected, &result.expected)?;
        }
        let cases = asked.is_some().then_some(cases);
        tested.push(Tested { policy: name, cases, broken: None, result: Some(result), updated });
    }
    let format = if context.json { Format::Json } else { args.format };
    match format {
        Format::Text => report::text(&tested, args.coverage, out)?,
        Format::Json => out.json(&tested, true)?,
        Format::Junit => out.raw(report::junit(&tested).as_bytes())?,
        Format::Tap => out.raw(report::tap(&tested).as_bytes())?,
    }
    let good = tested.iter().all(Tested::passes);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(INVALID) })
}

fn read_if_there(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let error = anyhow::Error::new(error).context(format!("cannot read {}", path.display()));
            Err(Failure::new(FAILED, error))
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if path.exists() {
        return Ok(replace(path, text)?);
    }
    std::fs::write(path, text).map_err(|error| {
        Failure::new(FAILED, anyhow::Error::new(error).context(format!("cannot write {}", path.display())))
    })
}

//! `policy show`: a policy as it is written, or every rule that it comes to.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use enforcer_policy::effective;
use serde_json::json;

use super::files::{library, of_agent, read};
use super::invalid;
use crate::cli::failure::FAILED;
use crate::cli::{Context, Ended, Failure, Output};
use crate::text::shown;

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// Agent, whose policy is looked for in the policy folder, or a policy file
    #[arg(value_name = "AGENT|FILE")]
    policy: PathBuf,
    /// Write out the rules of `services`, `use` and `include`, all in the order in which they are asked
    #[arg(long)]
    effective: bool,
}

pub(super) fn show(args: &ShowArgs, context: &Context, out: &mut Output) -> Ended {
    let named = args.policy.to_string_lossy();
    let source = match args.policy.is_file() {
        true => read(&args.policy)?,
        false => of_agent(&named, context)?.ok_or_else(|| {
            Failure::text(FAILED, format!("`{}` is no file, and no agent with a policy", shown(&named)))
                .hint("`enforcer agents` lists them; `enforcer policy check` says why a file does not load")
        })?,
    };
    let text = match args.effective {
        true => effective(&source, &library(std::slice::from_ref(&source))?).map_err(invalid)?,
        false => source.text,
    };
    if context.json {
        out.json(&json!({ "file": source.name, "text": text }), true)?;
    } else {
        let lines: Vec<_> = text.trim_end().split('\n').map(shown).collect();
        out.line(lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

//! `catalog import`: a catalogue out of an OpenAPI 3 document.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use enforcer_policy::{Imported, import as make};
use serde_json::json;

use crate::cli::failure::INVALID;
use crate::cli::policy::count;
use crate::cli::policy::files::{create, read};
use crate::cli::{Context, Ended, Failure, Output};
use crate::text::shown;

#[derive(Args, Debug)]
pub(in crate::cli) struct ImportArgs {
    /// OpenAPI 3 document, JSON or YAML
    file: PathBuf,
    /// What the service is called in policies
    #[arg(long, value_name = "NAME")]
    service: String,
    /// Host of the service, where the document names none or another
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Write the catalogue here, into a file that does not exist yet; it has to be called NAME.yaml
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn import(args: &ImportArgs, context: &Context, out: &mut Output) -> Ended {
    let document = read(&args.file)?;
    let Imported { text, actions, notes } = make(&args.service, &document.text, args.host.as_deref())
        .map_err(|error| Failure::text(INVALID, error.to_string()))?;
    if context.json {
        out.json(&json!({ "catalogue": text, "actions": actions, "notes": notes }), true)?;
        if let Some(path) = &args.output {
            create(path, &text)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    // On standard output the catalogue stands alone, so what else there is to say is in it.
    let head = "Review it: kinds are those of the methods, and of what is dangerous only what makes credentials is guessed.";
    let notes: String =
        std::iter::once(head.to_owned()).chain(notes).map(|note| format!("# {}\n", shown(&note))).collect();
    let text = format!("{notes}{text}");
    match &args.output {
        Some(path) => {
            create(path, &text)?;
            out.line(format!("wrote {} with {}", path.display(), count(actions, "action")))?;
            for note in notes.lines() {
                out.line(note.trim_start_matches("# "))?;
            }
        }
        None => out.raw(text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

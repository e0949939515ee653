//! `policy apply`: files into the policy folder, once the recorded requests have been asked.
//!
//! All of the files or none: what was there comes back when the daemon does not take the new set, and
//! the last versions stay in `.history`, which the daemon does not read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use enforcer_policy::{Comparison, Library, PolicySet, Source, compare};
use serde_json::json;

use super::files::{compile, folder, in_force, install, library, read_all};
use super::recorded::Recorded;
use super::{count, diff, invalid, short};
use crate::cli::failure::{INVALID, NO_DAEMON};
use crate::cli::{Context, Ended, Failure, Output};
use crate::control::client::ClientError;
use crate::policies::Loaded;

/// Versions of one policy that are kept.
const KEPT: usize = 20;

#[derive(Debug, Args)]
pub(in crate::cli) struct ApplyArgs {
    /// Files, or folders with `*.yaml` files; each replaces the policy of its agent
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    recorded: Recorded,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Apply although recorded requests change
    #[arg(long)]
    force: bool,
}

pub(super) fn apply(args: &ApplyArgs, context: &Context, out: &mut Output) -> Ended {
    let folder = folder(context)?;
    let new = read_all(&args.paths)?;
    let old = in_force(context)?;
    let plan = plan(&folder, &old, &new)?;
    let after = PolicySet::compile_with(&plan.after, &plan.library()?).map_err(invalid)?.set;
    // A set that does not load refuses everything; replacing it is no loss.
    let before = compile(&old)?.map_or_else(|_report| PolicySet::empty(), |compiled| compiled.set);
    let seen = match args.recorded.read(None, context) {
        Ok(seen) => seen,
        Err(failure) if args.force && failure.code() == NO_DAEMON => BTreeMap::new(),
        Err(failure) => {
            return Err(failure.hint(
                "receipts are asked first: `--receipts FILE` reads them from a file, `--force` goes without",
            ));
        }
    };
    let found = compare(&before, &after, &seen);
    let surprises: usize = found.iter().map(|one| one.recorded.len()).sum();
    let refused = surprises > 0 && !args.force && !args.dry_run;
    if !context.json {
        diff::print(&found, out)?;
    }
    if args.dry_run || refused {
        return ended(args, context, out, &found, surprises, refused);
    }
    plan.keep(&folder)?;
    for (path, text) in &plan.files {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        if let Err(error) = install(path, text) {
            plan.undo()?;
            return Err(error.into());
        }
    }
    match context.client()?.json::<Loaded>(http::Method::POST, "/v1/policies/reload", Vec::new()) {
        Ok(_) => ended(args, context, out, &found, surprises, false),
        // It will read them when it starts.
        Err(ClientError::NotRunning { .. }) => {
            let ended = ended(args, context, out, &found, surprises, false)?;
            if !context.json {
                out.line("the daemon is not running; it reads them when it starts")?;
            }
            Ok(ended)
        }
        Err(error) => {
            plan.undo()?;
            Err(Failure::from(error)
                .ending_with(INVALID)
                .hint("nothing was changed: the files are as they were"))
        }
    }
}

fn ended(
    args: &ApplyArgs,
    context: &Context,
    out: &mut Output,
    found: &[Comparison],
    surprises: usize,
    refused: bool,
) -> Ended {
    let applied = !args.dry_run && !refused;
    if context.json {
        out.json(&json!({ "applied": applied, "agents": found }), true)?;
    } else if refused {
        let requests = count(surprises, "recorded request");
        out.line(format!("not applied: {requests} would change; `--force` applies it all the same"))?;
    } else {
        out.line(if applied { "applied" } else { "a dry run: nothing was changed" })?;
    }
    Ok(if refused { ExitCode::from(INVALID) } else { ExitCode::SUCCESS })
}

struct Plan {
    /// what the folder will hold
    after: Vec<Source>,
    /// what is written where
    files: Vec<(PathBuf, String)>,
    /// what is there now; `None`: nothing
    before: Vec<(PathBuf, Option<String>)>,
}

/// A policy goes where the policy of its agent is; a new one is called after its agent.
fn plan(folder: &Path, old: &[Source], new: &[Source]) -> Result<Plan, Failure> {
    let mut places: BTreeMap<String, PathBuf> = BTreeMap::new();
    for source in old {
        if let Ok(compiled) = compile(std::slice::from_ref(source))? {
            places.extend(compiled.set.agents().map(|p| (p.name.to_string(), PathBuf::from(&source.name))));
        }
    }
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    compile(new)?.map_err(invalid)?;
    for source in new {
        let Ok(compiled) = compile(std::slice::from_ref(source))? else { continue };
        // One file has one agent.
        let Some(policy) = compiled.set.agents().next() else { continue };
        let agent = policy.name.as_str();
        let place = places.get(agent).cloned().unwrap_or_else(|| folder.join(format!("{agent}.yaml")));
        files.push((place, source.text.clone()));
    }
    let named = |path: &Path| path.display().to_string();
    let mut after: Vec<Source> = old
        .iter()
        .filter(|source| !files.iter().any(|(path, _)| named(path) == source.name))
        .cloned()
        .collect();
    after.extend(files.iter().map(|(path, text)| Source { name: named(path), text: text.clone() }));
    files.extend(beside(folder, new)?);
    let text = |path: &Path| match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot read {}", path.display()))),
    };
    let mut before = Vec::new();
    for (path, _) in &files {
        before.push((path.clone(), text(path)?));
    }
    Ok(Plan { after, files, before })
}

/// What the new policies refer to goes where they go.
fn beside(folder: &Path, new: &[Source]) -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for source in new {
        let from = Path::new(&source.name).parent().unwrap_or(Path::new(""));
        for (path, text) in library(std::slice::from_ref(source))?.files() {
            let Ok(relative) = Path::new(path).strip_prefix(from) else { continue };
            let place = folder.join(relative);
            match files.iter().find(|(path, _)| *path == place) {
                Some((_, other)) if other != text => {
                    let message = format!("two different files would become {}", place.display());
                    return Err(Failure::text(INVALID, message));
                }
                Some(_) => {}
                None => files.push((place, text.to_owned())),
            }
        }
    }
    Ok(files)
}

impl Plan {
    /// As the daemon will find it.
    fn library(&self) -> Result<Library, Failure> {
        let found = library(&self.after)?;
        Library::load(&self.after, |path| {
            let new = self.files.iter().find(|(place, _)| place == Path::new(path));
            let old = || found.files().find(|(own, _)| *own == path).map(|(_, text)| text.to_owned());
            Ok(new.map(|(_, text)| text.clone()).or_else(old))
        })
    }

    /// Copies what is about to be replaced to `.history/NAME/NUMBER-DIGEST.yaml`.
    fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        for (path, text) in &self.before {
            let (Some(text), Some(stem)) = (text, path.file_stem()) else { continue };
            // Parts of policies are kept as they are placed: `.history/shared/base/`.
            let inner =
                path.parent().and_then(|parent| parent.strip_prefix(folder).ok()).unwrap_or(Path::new(""));
            let history = folder.join(".history").join(inner).join(stem);
            std::fs::create_dir_all(&history)
                .with_context(|| format!("cannot make {}", history.display()))?;
            let mut versions: Vec<PathBuf> = std::fs::read_dir(&history)
                .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
                .with_context(|| format!("cannot read {}", history.display()))?;
            versions.sort();
            let last =
                versions.last().and_then(|path| path.file_name()?.to_str()?.split('-').next()?.parse().ok());
            let number: u64 = last.unwrap_or(0u64) + 1;
            let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
            let name = format!("{number:06}-{}.yaml", short(&crate::text::hex(digest.as_ref())));
            install(&history.join(name), text)?;
            for old in versions.iter().take((versions.len() + 1).saturating_sub(KEPT)) {
                std::fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
            }
        }
        Ok(())
    }

    fn undo(&self) -> anyhow::Result<()> {
        for (path, text) in &self.before {
            match text {
                Some(text) => install(path, text)?,
                None => match std::fs::remove_file(path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(
                            anyhow::Error::new(error).context(format!("cannot remove {}", path.display()))
                        );
                    }
                    Ok(()) | Err(_) => {}
                },
            }
        }
        Ok(())
    }
}

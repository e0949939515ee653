//! Policy files by path, as arguments name them.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use enforcer_policy::{Compiled, Library, PolicySet, Report, Source};

use crate::cli::failure::FAILED;
use crate::cli::{Context, Failure};

/// The files, and of folders their `*.yaml`, in order of name.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for path in paths {
        if path.is_dir() {
            let files = yaml_files(path)?;
            if files.is_empty() {
                return Err(Failure::text(FAILED, format!("there is no *.yaml file in {}", path.display())));
            }
            for file in &files {
                sources.push(read(file)?);
            }
        } else {
            sources.push(read(path)?);
        }
    }
    Ok(sources)
}

/// What the policies refer to, from beside them. The daemon looks closer at whose files these are.
pub(super) fn library(sources: &[Source]) -> Result<Library, Failure> {
    Library::load(sources, |path| match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(Path::new(path), error)),
    })
}

/// `Ok(Err(…))`: they do not load.
pub(super) fn compile(sources: &[Source]) -> Result<Result<Compiled, Report>, Failure> {
    Ok(PolicySet::compile_with(sources, &library(sources)?))
}

pub(in crate::cli) fn read(path: &Path) -> Result<Source, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    Ok(Source { name: path.display().to_string(), text })
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(FAILED, anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
}

/// All of the new text or all of the old one, with the mode of the old.
pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    // A symbolic link stays one: what it points to is replaced.
    let target = path.canonicalize().with_context(|| cannot_write(path))?;
    let mode = target.metadata().with_context(|| cannot_write(path))?.permissions().mode();
    put(&target, text, mode)
}

/// A policy that the daemon reads: everybody may look, only its owner may change it.
pub(super) fn install(path: &Path, text: &str) -> anyhow::Result<()> {
    put(path, text, 0o644)
}

fn put(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let cannot = || cannot_write(path);
    let folder = path.parent().unwrap_or(Path::new("/"));
    // Hidden until it is whole, so nobody takes it for a policy.
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(mode)).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).map_err(|error| error.error).with_context(cannot)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(cannot)
}

/// A file that is not there yet.
pub(in crate::cli) fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("{}; name a file that does not exist yet", cannot_write(path));
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).open(path).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// The folder the daemon reads.
pub(in crate::cli) fn folder(context: &Context) -> Result<PathBuf, Failure> {
    Ok(context.settings()?.policy_dir)
}

/// What is in that folder, which may be nothing.
pub(super) fn in_force(context: &Context) -> Result<Vec<Source>, Failure> {
    yaml_files(&folder(context)?)?.iter().map(|path| read(path)).collect()
}

/// The policy of an agent in that folder; none also where there is no folder, as on a machine without the daemon.
pub(super) fn of_agent(agent: &str, context: &Context) -> Result<Option<Source>, Failure> {
    if !folder(context)?.exists() {
        return Ok(None);
    }
    for source in in_force(context)? {
        let compiled = compile(std::slice::from_ref(&source))?;
        if compiled.is_ok_and(|compiled| compiled.set.agent(agent).is_some()) {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

/// As the daemon lists them: hidden files are none.
pub(in crate::cli) fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
        .map_err(|error| unreadable(folder, error))?;
    let hidden = |file: &Path| file.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
    files.retain(|file| file.extension().is_some_and(|e| e == "yaml") && !hidden(file));
    files.sort();
    Ok(files)
}

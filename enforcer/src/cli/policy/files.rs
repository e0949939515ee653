//! Policy files by path, as arguments name them.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use enforcer_policy::Source;

use crate::cli::Failure;
use crate::cli::failure::FAILED;

/// The files, and of folders their `*.yaml`, in order of name.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(path)
                .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
                .map_err(|error| unreadable(path, error))?;
            files.retain(|file| file.extension().is_some_and(|e| e == "yaml"));
            files.sort();
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

pub(super) fn read(path: &Path) -> Result<Source, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    Ok(Source { name: path.display().to_string(), text })
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(FAILED, anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
}

/// All of the new text or all of the old one, with the mode of the old.
pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    // A symbolic link stays one: what it points to is replaced.
    let target = path.canonicalize().with_context(cannot)?;
    let mode = target.metadata().with_context(cannot)?.permissions().mode();
    let folder = target.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(mode)).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(&target).map_err(|error| error.error).with_context(cannot)?;
    Ok(())
}

//! What the compiler does not check: layers, module documentation, crate walls, the layout.
//!
//! Textual on purpose: the rules are simple enough to be seen in the text, and a line of output
//! names the file, the line and the way out.

mod crates;
mod files;
mod layers;
mod source;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::{self, RED, done, title};

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) file: String,
    /// 0: the whole file.
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// A file of the project: its path from the root, with `/`, and its text.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn tidy(root: &Path) -> Result<()> {
    title("Tidy");
    let files = files_of(root)?;
    let findings = check(&files);
    for finding in &findings {
        anstream::eprintln!("  {RED}✗{RED:#} {finding}");
    }
    if !findings.is_empty() {
        bail!("{} things are untidy. Repeat with:\n\n    cargo xtask tidy\n", findings.len());
    }
    done(&format!("{} files", files.len()));
    Ok(())
}

/// Every rule over every file.
fn check(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        findings.extend(layers::check(file));
        findings.extend(crates::check(file));
        findings.extend(files::check(file));
    }
    findings.extend(files::layout(files));
    findings
}

/// What git knows or would know, so that build output and private files do not matter.
fn files_of(root: &Path) -> Result<Vec<SourceFile>> {
    let list = run::output(root, &["git", "ls-files", "--cached", "--others", "--exclude-standard"])?;
    let mut files = Vec::new();
    for path in list.lines() {
        match std::fs::read(root.join(path)) {
            // What is not text is nothing for these rules.
            Ok(bytes) => files
                .extend(String::from_utf8(bytes).ok().map(|text| SourceFile { path: path.to_owned(), text })),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("read {path}")),
        }
    }
    Ok(files)
}

//! A workload's own stores, read in its view: bounded, and never written back.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::trust;

/// A store has some hundred certificates of two kilobytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
const MAX_FILES: usize = 4096;

/// The stores of a workload, in memory.
#[derive(Default)]
pub(super) struct Snapshot {
    files: BTreeMap<PathBuf, Content>,
    bytes: u64,
}

enum Content {
    File(Vec<u8>),
    /// Never one that is read through: bundles are files here.
    Link(PathBuf),
}

impl Snapshot {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// In the workload's view.
    pub(super) fn take() -> io::Result<Self> {
        let mut snapshot = Snapshot::default();
        for store in trust::stores_of(Path::new("/")) {
            let real = fs::canonicalize(&store)?;
            if real.is_dir() {
                snapshot.add_dir(&real, &store, 0)?;
            } else {
                snapshot.add_file(&real, &store)?;
            }
        }
        Ok(snapshot)
    }

    fn add_dir(&mut self, from: &Path, at: &Path, depth: u32) -> io::Result<()> {
        /// As deep as the stores of the distributions are, and more.
        const MAX_DEPTH: u32 = 6;
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!("{} is nested too deep for a trust store", from.display())));
        }
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (path, at, kind) = (entry.path(), at.join(entry.file_name()), entry.file_type()?);
            if kind.is_dir() {
                self.add_dir(&path, &at, depth + 1)?;
            } else if kind.is_file() || trust::is_store_name(&entry.file_name()) {
                self.add_file(&path, &at)?;
            } else if kind.is_symlink() {
                self.add(at, Content::Link(fs::read_link(&path)?), 0)?;
            }
        }
        Ok(())
    }

    fn add_file(&mut self, from: &Path, at: &Path) -> io::Result<()> {
        // A pipe must not hold us up, and a device must not be read.
        let file =
            fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(from)?;
        if !file.metadata()?.is_file() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        let length = bytes.len() as u64;
        self.add(at.to_owned(), Content::File(bytes), length)
    }

    fn add(&mut self, at: PathBuf, content: Content, bytes: u64) -> io::Result<()> {
        self.bytes += bytes;
        if self.bytes > MAX_BYTES || self.files.len() >= MAX_FILES {
            return Err(io::Error::other("its trust stores are larger than any we know"));
        }
        self.files.insert(at, content);
        Ok(())
    }

    /// As a file system of its own below `root`.
    pub(super) fn write(&self, root: &Path) -> io::Result<()> {
        for (path, content) in &self.files {
            let to = root.join(path.strip_prefix("/").unwrap_or(path));
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            match content {
                Content::File(bytes) => fs::write(&to, bytes)?,
                Content::Link(target) => std::os::unix::fs::symlink(target, &to)?,
            }
        }
        Ok(())
    }
}

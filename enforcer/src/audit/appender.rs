//! Bytes onto the disk, whole or not at all.
//!
//! Keeps the open segment, cuts half-written lines away, holds room back so that outcomes and refusals
//! can still be written when a disk is full. Knows nothing of entries.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::segment;

/// Held back for outcomes and refusals: about 250 of them.
const RESERVE: u64 = 128 * 1024;
/// Taken ahead, so that not every batch asks the file system for room.
const AHEAD: u64 = 1024 * 1024;

/// One open segment. A trait, so that tests can make each single call fail.
pub(super) trait Medium: Send {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize>;
    fn sync(&mut self) -> io::Result<()>;
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Room for `len` bytes from `at`, without changing the file's size.
    fn reserve(&mut self, at: u64, len: u64) -> io::Result<()>;
}

pub(super) trait Disk: Send {
    fn open(&mut self, path: &Path) -> io::Result<Box<dyn Medium>>;
}

pub(super) struct Files;

impl Disk for Files {
    fn open(&mut self, path: &Path) -> io::Result<Box<dyn Medium>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().write(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        // The name itself must survive a power cut too.
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(Box::new(file))
    }
}

impl Medium for File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
    fn reserve(&mut self, at: u64, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(self, FallocateFlags::KEEP_SIZE, at, len)?)
    }
}

/// For its owner only, also where it was there before.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mode = std::fs::metadata(dir)?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

pub(super) struct Appender {
    disk: Box<dyn Disk>,
    dir: PathBuf,
    medium: Option<Box<dyn Medium>>,
    number: u32,
    len: u64,
    /// Bytes past `len` may be in the file: a torn line, or a batch that was not accepted.
    dirty: bool,
    reserved: u64,
    pub(super) writes: u64,
    pub(super) syncs: u64,
}

impl Appender {
    /// Goes on in segment `number` after its first `len` bytes; what follows them is cut away on first use.
    pub(super) fn new(disk: Box<dyn Disk>, dir: PathBuf, number: u32, len: u64) -> Self {
        Appender { disk, dir, medium: None, number, len, dirty: true, reserved: len, writes: 0, syncs: 0 }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn path(&self) -> PathBuf {
        segment::path(&self.dir, self.number)
    }

    /// Brings the segment to the disk and gives back the room held ahead.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.dirty = true;
        self.ready()?;
        self.sync()?;
        self.medium = None;
        Ok(())
    }

    /// The next append begins a new segment. Start-up looks at the newest one only, so this one is finished.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        self.finish()?;
        self.number += 1;
        self.len = 0;
        self.reserved = 0;
        self.dirty = true;
        Ok(())
    }

    fn ready(&mut self) -> io::Result<&mut dyn Medium> {
        if self.medium.is_none() {
            self.medium = Some(self.disk.open(&segment::path(&self.dir, self.number))?);
        }
        let medium = self.medium.as_mut().expect("opened above");
        if self.dirty {
            medium.truncate(self.len)?;
            self.dirty = false;
            self.reserved = self.len;
        }
        Ok(medium.as_mut())
    }

    /// Makes sure `need` bytes can be appended and the reserve is still there afterwards.
    pub(super) fn reserve(&mut self, need: u64) -> io::Result<()> {
        let least = need + RESERVE;
        let (len, reserved) = (self.len, self.reserved);
        if !self.dirty && self.medium.is_some() && len + least <= reserved {
            return Ok(());
        }
        let medium = self.ready()?;
        let taken = match medium.reserve(len, least + AHEAD) {
            Ok(()) => Ok(len + least + AHEAD),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                medium.reserve(len, least).map(|()| len + least)
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok(reserved) => self.reserved = reserved,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(
                    "the file system of the receipts cannot hold room back; a full disk will also stop outcomes"
                );
                self.reserved = u64::MAX;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// All of `bytes`, or nothing.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut at = self.len;
        let mut rest = bytes;
        self.writes += 1;
        let medium = self.ready()?;
        while !rest.is_empty() {
            let wrote = match medium.write_at(rest, at) {
                Ok(0) => Err(io::Error::from(io::ErrorKind::WriteZero)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                wrote => wrote,
            };
            match wrote {
                Ok(wrote) => {
                    at += wrote as u64;
                    rest = &rest[wrote..];
                }
                Err(error) => {
                    self.cut(self.len);
                    return Err(error);
                }
            }
        }
        self.len = at;
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        self.ready()?.sync()
    }

    /// Takes back what was appended after the first `len` bytes.
    pub(super) fn cut(&mut self, len: u64) {
        self.len = len;
        self.dirty = true;
        if let Err(error) = self.ready().map(drop) {
            tracing::debug!(%error, "a rejected batch of receipts is still in the file; it is cut away before the next write");
        }
    }
}

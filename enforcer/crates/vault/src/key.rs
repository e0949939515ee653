//! The master key: 32 random bytes in a file of its own, or handed over on a descriptor.
//!
//! Where a key file may lie is checked here too, because a key beside its database protects from
//! nothing. systemd credentials pass the same checks (0400, in a directory of their own).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::VaultError;

pub(crate) const KEY_LEN: usize = 32;

/// The master key (32 bytes), read from a descriptor the keeper opened.
pub struct VaultKey(Zeroizing<[u8; KEY_LEN]>);

impl VaultKey {
    /// Reads exactly 32 bytes to the end of the source.
    pub fn read(mut source: impl Read) -> Result<Self, VaultError> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        source.read_exact(&mut *key).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => wrong_length(),
            _ => VaultError::storage("read the vault key", e),
        })?;
        let mut more = Zeroizing::new([0; 1]);
        match source.read(&mut *more) {
            Ok(0) => Ok(VaultKey(key)),
            Ok(_) => Err(wrong_length()),
            Err(e) => Err(VaultError::storage("read the vault key", e)),
        }
    }

    /// Makes a key file (0600, `O_EXCL`) with fresh random bytes, durably.
    pub fn create(path: &Path) -> Result<(), VaultError> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        SystemRandom::new()
            .fill(&mut *key)
            .map_err(|e| VaultError::storage("make a vault key: the system gave no random bytes", e))?;
        let doing = format!("make the vault key `{}`", path.display());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
            |e| match e.kind() {
                std::io::ErrorKind::AlreadyExists => VaultError::Invalid(format!(
                    "`{}` exists; it is not overwritten, since what it has sealed could not be read again",
                    path.display()
                )),
                _ => VaultError::storage(&doing, e),
            },
        )?;
        file.write_all(&*key).and_then(|()| file.sync_all()).map_err(|e| VaultError::storage(&doing, e))?;
        // A key that is lost with the power takes the vault with it.
        let directory = directory_of(path);
        File::open(&directory).and_then(|d| d.sync_all()).map_err(|e| VaultError::storage(&doing, e))
    }

    /// Opens a key file for the database at `database`, after the checks of [`check_key_place`] on
    /// the very file that was opened. For passing the descriptor on, or to [`VaultKey::read`].
    pub fn open_file(path: &Path, database: &Path) -> Result<File, VaultError> {
        let checked = check_key_place(path, database)?;
        let file = File::open(path)
            .map_err(|e| VaultError::storage(&format!("open the vault key `{}`", path.display()), e))?;
        let opened = file.metadata().map_err(|e| VaultError::storage("look at the vault key", e))?;
        if (opened.dev(), opened.ino()) != (checked.dev(), checked.ino()) {
            return Err(VaultError::Changed(format!(
                "the vault key `{}` was replaced while it was opened",
                path.display()
            )));
        }
        check_file(path, &opened)?;
        Ok(file)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

/// Refuses a key file that others can read, that has not 32 bytes, or that lies in (or below) the
/// directory of the database, where a thief of one has the other. Links are not followed.
pub fn check_key_place(key: &Path, database: &Path) -> Result<fs::Metadata, VaultError> {
    let metadata = fs::symlink_metadata(key).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => VaultError::Invalid(format!(
            "there is no vault key at `{}`; make one, or restore the one this vault was made with",
            key.display()
        )),
        _ => VaultError::storage(&format!("look at the vault key `{}`", key.display()), e),
    })?;
    check_file(key, &metadata)?;
    let key_directory = real_directory_of(key)?;
    let database_directory = real_directory_of(database)?;
    if key_directory.starts_with(&database_directory) {
        return Err(VaultError::Invalid(format!(
            "the vault key `{}` lies with the vault in `{}`, so a copy of the directory would open itself; move the key elsewhere",
            key.display(),
            database_directory.display()
        )));
    }
    Ok(metadata)
}

fn check_file(path: &Path, metadata: &fs::Metadata) -> Result<(), VaultError> {
    let refuse = |why: String| Err(VaultError::Invalid(format!("the vault key `{}` {why}", path.display())));
    if !metadata.is_file() {
        return refuse("is not a regular file".to_owned());
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return refuse(format!(
            "can be read by others (mode {mode:04o}); `chmod 600` it, and treat the key as known"
        ));
    }
    if metadata.len() != KEY_LEN as u64 {
        return refuse(format!("has {} bytes, not {KEY_LEN}", metadata.len()));
    }
    Ok(())
}

fn wrong_length() -> VaultError {
    VaultError::Invalid(format!("a vault key is exactly {KEY_LEN} bytes; this is not one"))
}

pub(crate) fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn real_directory_of(path: &Path) -> Result<PathBuf, VaultError> {
    let directory = directory_of(path);
    fs::canonicalize(&directory)
        .map_err(|e| VaultError::storage(&format!("find `{}`", directory.display()), e))
}

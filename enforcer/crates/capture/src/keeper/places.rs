//! The keeper's directories, sockets and key file: made where they are missing, checked where they are not.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use tracing::{info, warn};

use super::hand_over::Inherited;
use super::{Settings, VaultKeySource};
use crate::Error;
use crate::error::Doing;
use crate::netns;
use crate::session::{self, Paths};
use crate::sys;

/// Makes everything; the lock holds the run directory for this keeper alone.
pub(super) fn prepare(settings: &Settings, paths: &Paths, managed_root: &Path) -> Result<File, Error> {
    if settings.worker_id == 0 || settings.agent_ids.contains(&0) {
        return Err(Error::refused("neither the worker nor an agent may run as root", "correct `ids`"));
    }
    if settings.agent_ids.contains(&settings.worker_id) {
        return Err(Error::refused(
            format!("the worker's id {} lies among the agents' ids", settings.worker_id),
            "correct `ids`: an agent with the worker's id could look into it",
        ));
    }
    // Sockets inside have their own modes; everybody may pass through to them.
    directory(&settings.run_dir, 0o711)?;
    let lock = lock(&settings.run_dir)?;
    for private in [paths.sessions(), paths.pins(), paths.trust(), paths.units()] {
        directory(&private, 0o700)?;
    }
    netns::prepare_pin_dir(&paths.pins())?;

    directory(&settings.state_dir, 0o711)?;
    directory(&settings.state_dir.join("agents"), 0o711)?;
    let worker = settings.state_dir.join("worker");
    directory(&worker, 0o700)?;
    std::os::unix::fs::chown(&worker, Some(settings.worker_id), Some(settings.worker_id))
        .doing(|| format!("give {} to the worker", worker.display()))?;

    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(managed_root)
        .doing(|| format!("make the managed root {}", managed_root.display()))?;
    fs::set_permissions(managed_root, fs::Permissions::from_mode(0o755))
        .doing(|| format!("set the mode of {}", managed_root.display()))?;
    let owner = fs::metadata(managed_root).doing(|| format!("look at {}", managed_root.display()))?.uid();
    if owner != 0 {
        return Err(Error::refused(
            format!("the managed root {} belongs to uid {owner}, not to root", managed_root.display()),
            "name another one: whoever owns it can move agents out of it",
        ));
    }
    Ok(lock)
}

fn directory(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .doing(|| format!("make the directory {}", path.display()))
}

fn lock(run_dir: &Path) -> Result<File, Error> {
    let path = run_dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .doing(|| format!("open {}", path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::refused(
            format!("another daemon runs with the run directory {}", run_dir.display()),
            "stop it first, or give this one its own `run_dir`, `state_dir`, `managed_root` and `pins`",
        )),
        Err(error) => Err(error).doing(|| format!("lock {}", path.display())),
    }
}

/// A socket for root and the group of the settings. One that an earlier daemon left is replaced, unless it was handed over.
pub(super) fn listen(settings: &Settings, name: &str, inherited: &Inherited) -> Result<UnixListener, Error> {
    let path = settings.run_dir.join(name);
    let listener = match inherited.unix(&path).filter(|_| path.exists()) {
        Some(listener) => listener,
        None => {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).doing(|| format!("replace {}", path.display()));
                }
                _ => {}
            }
            UnixListener::bind(&path).doing(|| format!("listen on {}", path.display()))?
        }
    };
    let group = sys::group_id(&settings.group).doing(|| format!("look up the group {}", settings.group))?;
    if group.is_none() {
        info!(group = settings.group, socket = name, "there is no such group: only root may use the socket");
    }
    std::os::unix::fs::chown(&path, Some(0), Some(group.unwrap_or(0)))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o660)))
        .doing(|| format!("set who may use {}", path.display()))?;
    Ok(listener)
}

/// The key, for the worker to read. The first start makes one.
pub(super) fn open_vault_key(settings: &Settings) -> Result<File, Error> {
    match &settings.vault_key {
        VaultKeySource::SystemdCredential(name) => {
            let missing = || {
                Error::refused(
                    format!("systemd has not passed the credential `{name}`"),
                    format!("add `LoadCredentialEncrypted={name}` to the unit; see systemd-creds(1)"),
                )
            };
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(missing)?;
            let path = PathBuf::from(directory).join(name);
            match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
                other => other.doing(|| format!("read the credential {}", path.display())),
            }
        }
        VaultKeySource::File(path) => {
            match refuse_beside_vault(path, settings).and_then(|()| open_key_file(path)) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    make_key_file(path, settings)?;
                    open_key_file(path)
                }
                other => other,
            }
        }
    }
}

/// A copy or a backup of the vault's folder must not carry the key that opens it.
fn refuse_beside_vault(path: &Path, settings: &Settings) -> Result<(), Error> {
    let folder = settings.state_dir.join("worker");
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_not_there_yet| path.to_path_buf());
    let beside = path.parent().is_some_and(|parent| real(parent).starts_with(real(&folder)));
    if beside || path.starts_with(&folder) {
        return Err(Error::refused(
            format!("the vault key {} lies in the folder of the vault, {}", path.display(), folder.display()),
            "move it to a folder of its own, such as /etc/enforcer, and name that in `vault_key`",
        ));
    }
    Ok(())
}

fn open_key_file(path: &Path) -> Result<File, Error> {
    let doing = || format!("read the vault key {}", path.display());
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).doing(doing)?;
    let metadata = file.metadata().doing(doing)?;
    if !metadata.is_file() || metadata.uid() != 0 || metadata.mode() & 0o077 != 0 {
        return Err(Error::refused(
            format!("the vault key {} can be read by others than root", path.display()),
            format!("chown root: {0} && chmod 600 {0}, and think about who has read it", path.display()),
        ));
    }
    Ok(file)
}

fn make_key_file(path: &Path, settings: &Settings) -> Result<(), Error> {
    let vault = settings.state_dir.join("worker/vault.db");
    if vault.exists() {
        return Err(Error::refused(
            format!("the key {} of the vault {} is missing", path.display(), vault.display()),
            "restore the key from your backup; a new key cannot open the old vault",
        ));
    }
    let doing = || format!("make the vault key {}", path.display());
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).doing(doing)?;
    }
    let mut key = [0u8; 32];
    session::random(&mut key).doing(doing)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).doing(doing)?;
    let written = file.write_all(&key).and_then(|()| file.sync_all());
    key.fill(0);
    std::hint::black_box(&key);
    if let Err(error) = written {
        if let Err(error) = fs::remove_file(path) {
            warn!("a broken vault key is left at {}: {error}", path.display());
        }
        return Err(error).doing(doing);
    }
    info!(path = %path.display(), "made a new vault key; keep a copy of it in a safe place");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &Path) -> Settings {
        Settings {
            run_dir: dir.join("run"),
            state_dir: dir.join("state"),
            vault_key: VaultKeySource::File(dir.join("etc/vault.key")),
            managed_root: "unused".into(),
            pins: dir.join("unused"),
            worker_id: 61500,
            agent_ids: 61600..=61699,
            group: "no-such-group-here".into(),
            config: String::new(),
            executable: "/proc/self/exe".into(),
            prove: None,
        }
    }

    #[test]
    fn the_vault_key_is_made_once_and_never_in_place_of_a_lost_one() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let VaultKeySource::File(path) = &settings.vault_key else { unreachable!() };
        open_vault_key(&settings).unwrap();
        let made = fs::read(path).unwrap();
        assert_eq!(made.len(), 32);
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        open_vault_key(&settings).unwrap();
        assert_eq!(fs::read(path).unwrap(), made);

        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open_vault_key(&settings).unwrap_err().to_string().contains("others than root"));

        fs::remove_file(path).unwrap();
        fs::create_dir_all(settings.state_dir.join("worker")).unwrap();
        fs::write(settings.state_dir.join("worker/vault.db"), "").unwrap();
        assert!(open_vault_key(&settings).unwrap_err().to_string().contains("missing"));
        assert!(!path.exists());
    }

    #[test]
    fn a_key_beside_the_vault_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        let folder = settings.state_dir.join("worker");
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, dir.path().join("elsewhere")).unwrap();
        for path in
            [folder.join("vault.key"), folder.join("keys/vault.key"), dir.path().join("elsewhere/vault.key")]
        {
            settings.vault_key = VaultKeySource::File(path.clone());
            assert!(open_vault_key(&settings).unwrap_err().to_string().contains("folder of the vault"));
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_credential_that_is_not_there_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        settings.vault_key = VaultKeySource::SystemdCredential("enforcer-key".into());
        assert!(open_vault_key(&settings).unwrap_err().hint().unwrap().contains("LoadCredential"));
    }
}

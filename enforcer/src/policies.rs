//! The policies in force: read from a folder, compiled, published to whoever judges.
//!
//! All files or none. A reload that fails keeps the old set; a start that fails denies everything and
//! stays up, so that people can ask why. What a policy means is `enforcer_policy`'s.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use enforcer_policy::{Compiled, Finding, Library, PolicySet, Report, Source};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// A policy is read by people; a megabyte is not.
const MAX_FILE: u64 = 1024 * 1024;
/// One agent a file.
const MAX_FILES: usize = 4096;

/// The last attempt to read the folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loaded {
    /// Seconds since 1970 of the last attempt.
    pub at: u64,
    pub directory: PathBuf,
    pub files: Vec<String>,
    /// Is what was last read in force? If not, the set before it still is.
    pub in_force: bool,
    /// Why not, drawn as `policy check` draws it; or warnings.
    pub report: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyLoadError {
    #[error("cannot read the policy folder {}", directory.display())]
    Directory {
        directory: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("policy file {} is not trusted: {why}", path.display())]
    Untrusted { path: PathBuf, why: String },
    #[error("cannot read policy file {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("{0}")]
    Invalid(Report),
}

impl PolicyLoadError {
    pub fn hint(&self) -> Option<String> {
        match self {
            // The worker is bound to the folder itself, not to its name.
            PolicyLoadError::Directory { directory, error }
                if error.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Some(format!(
                    "the daemon can read the folder that {0} was when it started: if it was made or replaced since, restart the daemon; else `chmod 0755 {0}`",
                    directory.display()
                ))
            }
            PolicyLoadError::Directory { directory, .. } => {
                Some(format!("make it with `install -d -m 0755 {}`", directory.display()))
            }
            PolicyLoadError::Untrusted { path, .. } => Some(format!(
                "`chown root {0}` and `chmod 0644 {0}`, and no symbolic links: who can change a policy decides what agents may do",
                path.display()
            )),
            PolicyLoadError::File { .. } => None,
            PolicyLoadError::Invalid(_) => {
                Some("`enforcer policy check FILE` shows the same findings".to_owned())
            }
        }
    }
}

/// Reads, compiles, publishes. Clonable; one reload at a time.
#[derive(Clone)]
pub struct Policies {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    set: watch::Sender<Arc<PolicySet>>,
    last: Mutex<Loaded>,
}

impl Policies {
    /// Reads the folder for the first time. Never fails: what cannot be read denies everything.
    pub fn open(directory: &Path) -> Self {
        let last = Loaded {
            at: 0,
            directory: directory.to_owned(),
            files: Vec::new(),
            in_force: false,
            report: None,
        };
        let set = watch::Sender::new(Arc::new(PolicySet::empty()));
        let policies = Policies {
            inner: Arc::new(Inner { directory: directory.to_owned(), set, last: Mutex::new(last) }),
        };
        if policies.reload().is_err() {
            error!(directory = %directory.display(), "no policy is in force: every request is refused until `enforcer reload` succeeds");
        }
        policies
    }

    /// One snapshot per request; the value changes at each successful reload.
    pub fn watch(&self) -> watch::Receiver<Arc<PolicySet>> {
        self.inner.set.subscribe()
    }

    pub fn current(&self) -> Arc<PolicySet> {
        self.inner.set.borrow().clone()
    }

    /// What became of the last attempt.
    pub fn last(&self) -> Loaded {
        self.lock().clone()
    }

    /// Reads all files anew and publishes the set, or keeps the old one and says why. Blocks on files.
    pub fn reload(&self) -> Result<Loaded, PolicyLoadError> {
        // Held throughout, so that two reloads cannot publish in the wrong order.
        let mut last = self.lock();
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let compiled = sources(&self.inner.directory).and_then(|sources| {
            let library = Library::load(&sources, |path| beside(&self.inner.directory, Path::new(path)))?;
            let beside = library.files().map(|(path, _)| path.to_owned());
            let files = sources.iter().map(|s| s.name.clone()).chain(beside).collect();
            let compiled = PolicySet::compile_with(&sources, &library).map_err(PolicyLoadError::Invalid)?;
            Ok((files, compiled))
        });
        last.at = at;
        match compiled {
            Ok((files, Compiled { set, warnings })) => {
                let agents = set.agents().count();
                last.files = files;
                last.in_force = true;
                last.report = (!warnings.findings.is_empty()).then(|| warnings.to_string());
                for Finding { file, line, message, .. } in &warnings.findings {
                    warn!(file, line, message, "policy warning");
                }
                info!(agents, directory = %self.inner.directory.display(), "policies loaded");
                self.inner.set.send_replace(Arc::new(set));
                Ok(last.clone())
            }
            Err(failure) => {
                last.in_force = false;
                last.report = Some(failure_text(&failure));
                error!(
                    error = &failure as &dyn std::error::Error,
                    "policies not loaded; the set before stays in force"
                );
                Err(failure)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Loaded> {
        // A panic in between leaves an older report, never a wider set.
        self.inner.last.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn failure_text(failure: &PolicyLoadError) -> String {
    use std::error::Error;
    match failure.source() {
        Some(cause) => format!("{failure}: {cause}"),
        None => failure.to_string(),
    }
}

/// Every `*.yaml` of the folder, in order of name.
fn sources(directory: &Path) -> Result<Vec<Source>, PolicyLoadError> {
    let unreadable = |error| PolicyLoadError::Directory { directory: directory.to_owned(), error };
    // Whoever can add a file to the folder can add an agent.
    trusted(directory, &std::fs::metadata(directory).map_err(unreadable)?)?;
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|e| e == "yaml") {
            paths.push(path);
        }
    }
    if paths.len() > MAX_FILES {
        return Err(unreadable(std::io::Error::other(format!("it holds more than {MAX_FILES} files"))));
    }
    paths.sort();
    paths.iter().map(|path| source(path)).collect()
}

/// A file that a policy refers to, below the folder. `None`: there is none. The folders on the way to it are looked
/// at like the file: nobody else may put another in its place.
fn beside(directory: &Path, path: &Path) -> Result<Option<String>, PolicyLoadError> {
    let failed = |path: &Path, error| PolicyLoadError::File { path: path.to_owned(), error };
    let Ok(inner) = path.strip_prefix(directory) else {
        return Err(failed(path, std::io::Error::other("it is not in the policy folder")));
    };
    let mut way = directory.to_owned();
    for part in inner.components() {
        way.push(part);
        let metadata = match std::fs::symlink_metadata(&way) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&way, error)),
        };
        if metadata.is_symlink() {
            let why = "it is a symbolic link".to_owned();
            return Err(PolicyLoadError::Untrusted { path: way, why });
        }
        trusted(&way, &metadata)?;
    }
    source(path).map(|source| Some(source.text))
}

/// One file, through one descriptor: what was checked is what is read.
fn source(path: &Path) -> Result<Source, PolicyLoadError> {
    let failed = |error| PolicyLoadError::File { path: path.to_owned(), error };
    let untrusted = |why: &str| PolicyLoadError::Untrusted { path: path.to_owned(), why: why.to_owned() };
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let file: File = match OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(untrusted("it is a symbolic link"));
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(untrusted("it is not a regular file"));
    }
    trusted(path, &metadata)?;
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(std::io::Error::other("it is larger than 1 MiB")));
    }
    Ok(Source { name: path.display().to_string(), text })
}

/// Owned by root or by us, and changed by nobody else.
fn trusted(path: &Path, metadata: &std::fs::Metadata) -> Result<(), PolicyLoadError> {
    let own = rustix::process::geteuid().as_raw();
    let why = if metadata.uid() != 0 && metadata.uid() != own {
        format!("it belongs to user {}", metadata.uid())
    } else if metadata.mode() & 0o022 != 0 {
        format!("others may write to it (mode {:04o})", metadata.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(PolicyLoadError::Untrusted { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const POLICY: &str =
        "version: 1\nagent: bot\nallow:\n  - name: read\n    host: api.example.com\n    methods: GET\n";

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        folder
    }

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_bad_reload_keeps_the_old_set_and_says_why() {
        let folder = folder();
        let file = folder.path().join("bot.yaml");
        write(&file, POLICY, 0o644);
        let policies = Policies::open(folder.path());
        let mut watch = policies.watch();
        assert!(policies.current().agent("bot").is_some());
        assert!(policies.last().in_force);

        write(&file, "version: 1\nagent: bot\nalow: []\n", 0o644);
        assert!(policies.reload().is_err());
        assert!(policies.current().agent("bot").is_some());
        assert!(!watch.has_changed().unwrap());
        let last = policies.last();
        assert!(!last.in_force && last.report.unwrap().contains("alow"));

        write(&file, &POLICY.replace("bot", "robot"), 0o644);
        policies.reload().unwrap();
        assert!(watch.has_changed().unwrap());
        assert!(watch.borrow_and_update().agent("robot").is_some());
        assert!(policies.current().agent("bot").is_none());
    }

    #[test]
    fn a_start_without_a_valid_policy_denies_everything_and_stays_up() {
        let folder = folder();
        write(&folder.path().join("a.yaml"), POLICY, 0o644);
        write(&folder.path().join("b.yaml"), "nonsense", 0o644);
        let policies = Policies::open(folder.path());
        assert_eq!(policies.current().agents().count(), 0);
        assert!(!policies.last().in_force);
        let missing = Policies::open(Path::new("/nonexistent/policies"));
        assert!(missing.last().report.unwrap().contains("/nonexistent/policies"));
    }

    #[test]
    fn what_a_policy_includes_is_read_from_the_folder_and_nowhere_else() {
        let folder = folder();
        write(&folder.path().join("bot.yaml"), "version: 1\nagent: bot\ninclude: shared/base.yaml\n", 0o644);
        let shared = folder.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o755)).unwrap();
        let part = shared.join("base.yaml");
        let text = "version: 1\nallow:\n  - { name: read, host: api.example.com, methods: GET }\n";
        write(&part, text, 0o644);
        let policies = Policies::open(folder.path());
        assert_eq!(policies.current().agent("bot").unwrap().rules().len(), 1, "{:?}", policies.last());
        assert!(policies.last().files.iter().any(|file| file.ends_with("shared/base.yaml")));

        let refused = |why: &str| {
            let failure = policies.reload().unwrap_err().to_string();
            assert!(failure.contains(why), "{failure}");
        };
        write(&part, text, 0o666);
        refused("others may write to it");
        std::fs::set_permissions(&part, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
        refused("others may write to it");
        // The whole folder swapped for one elsewhere that is fine by itself.
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::set_permissions(elsewhere.path(), PermissionsExt::from_mode(0o755)).unwrap();
        write(&elsewhere.path().join("base.yaml"), text, 0o644);
        std::fs::remove_file(&part).unwrap();
        std::fs::remove_dir(&shared).unwrap();
        symlink(elsewhere.path(), &shared).unwrap();
        refused("symbolic link");
        std::fs::remove_file(&shared).unwrap();
        refused("there is no file `shared/base.yaml`");
    }

    #[test]
    fn files_that_others_can_change_are_not_read() {
        let folder = folder();
        let file = folder.path().join("bot.yaml");
        let why = || source(&file).map(|_| ()).unwrap_err().to_string();
        write(&file, POLICY, 0o666);
        assert!(why().contains("others may write to it (mode 0666)"), "{}", why());
        std::fs::remove_file(&file).unwrap();
        symlink("/etc/hostname", &file).unwrap();
        assert!(why().contains("symbolic link"), "{}", why());
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(why().contains("regular file"), "{}", why());
        std::fs::remove_dir(&file).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &file,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        assert!(why().contains("regular file"), "{}", why());
        std::fs::remove_file(&file).unwrap();
        write(&file, &"#".repeat(2 * 1024 * 1024), 0o644);
        let error = source(&file).unwrap_err();
        assert!(failure_text(&error).contains("larger than 1 MiB"));
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(sources(folder.path()).is_err());
    }
}

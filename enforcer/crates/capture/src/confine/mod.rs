//! The worker locks itself in: it parses what agents and upstreams send, and a bug there must not reach further.
//!
//! Landlock bounds files, TCP listeners, signals and abstract sockets; the filter of [`calls`] bounds system calls.
//! For good, and for every thread started later. User, capabilities, core dumps and the limit of descriptors
//! are set by the keeper before the worker runs.

mod calls;

use std::fmt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};
use rustix::process::{Resource, Rlimit};
use tracing::{info, warn};

use crate::Error;
use crate::error::Doing;

/// What is asked of Landlock. A kernel that has less gives what it has, from file access (ABI 1) up.
/// Raise it together with a test on such a kernel: later versions could forbid what the worker needs.
const LANDLOCK: ABI = ABI::V7;
/// All threads of the user count. Workers of several daemons may share it, and tokio alone may start 500.
const THREADS: u64 = 8192;
/// Read while running: `/proc/PID/cgroup` tells whether a caller of the control socket is an agent, and SQLite
/// takes its randomness from the device.
const ALWAYS_READ: [&str; 2] = ["/proc", "/dev/urandom"];

/// What is in force, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// `None`: the kernel has none.
    landlock: Option<ABI>,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock {
            Some(abi) => write!(f, "confined (landlock ABI {abi}, seccomp)"),
            None => write!(f, "partly confined (seccomp; the kernel has no landlock)"),
        }
    }
}

/// Confines this process to reading below `read` and to changing what is below `write`.
///
/// Call with one thread, with everything else open: from here on no other file opens, no program
/// starts, and sockets are internet sockets. What cannot be put in force is an error; only a kernel
/// without Landlock is lived with, loudly.
pub fn confine(read: &[&Path], write: &[&Path]) -> Result<Confinement, Error> {
    // Landlock binds the calling thread and those it starts; one that runs already would stay free.
    let threads = std::fs::read_dir("/proc/self/task").doing(|| "count the worker's threads".into())?.count();
    if threads != 1 {
        return Err(Error::refused(
            format!("the worker has {threads} threads already and cannot be confined as a whole"),
            "this is a fault of enforcer; please report it",
        ));
    }
    let limit = Rlimit { current: Some(THREADS), maximum: Some(THREADS) };
    match rustix::process::setrlimit(Resource::Nproc, limit) {
        // A lower hard limit is in force already.
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error).doing(|| "limit the worker's threads".into()),
    }
    let landlock = restrict(read, write)?;
    calls::restrict()?;
    let confinement = Confinement { landlock };
    match landlock {
        Some(abi) => info!(landlock = %abi, seccomp = "allow-list", "worker confined"),
        None => warn!(
            seccomp = "allow-list",
            "worker confined without Landlock: this kernel does not have it, so file permissions alone keep the worker from the host's files; use Linux 5.13 or later, with `landlock` in the boot parameter `lsm=`"
        ),
    }
    Ok(confinement)
}

/// Which version is in force.
fn restrict(read: &[&Path], write: &[&Path]) -> Result<Option<ABI>, Error> {
    let ruleset = || -> Result<_, RulesetError> {
        Ruleset::default()
            // Whatever the kernel calls Landlock can do this much.
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK))?
            // No rule allows a port: the worker's listeners come from the keeper.
            .handle_access(AccessNet::BindTcp)?
            .scope(Scope::from_all(LANDLOCK))?
            .create()
    };
    let mut ruleset = ruleset().map_err(failed)?;
    for path in ALWAYS_READ.map(Path::new).iter().chain(read) {
        let rights = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        match beneath(path, rights) {
            Ok(rule) => ruleset = ruleset.add_rule(rule).map_err(failed)?,
            // Whoever needs it says so when it is missing.
            Err(Missing::NotFound) => warn!(
                path = %path.display(),
                "it does not exist; the worker can read it only after it was made and the daemon was restarted"
            ),
            Err(Missing::Other(error)) => return Err(error),
        }
    }
    for path in write {
        let rights = make_bitflags!(AccessFs::{
            ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
        });
        let rule = beneath(path, rights).map_err(|missing| match missing {
            Missing::Other(error) => error,
            Missing::NotFound => Error::refused(
                format!("the worker's directory {} does not exist", path.display()),
                "the daemon makes it at its start; was it removed? Restart the daemon",
            ),
        })?;
        ruleset = ruleset.add_rule(rule).map_err(failed)?;
    }
    let status = ruleset.restrict_self().map_err(failed)?;
    match status.landlock {
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Ok(None),
        LandlockStatus::Available { effective_abi, .. } => match status.ruleset {
            landlock::RulesetStatus::FullyEnforced | landlock::RulesetStatus::PartiallyEnforced => {
                Ok(Some(effective_abi.min(LANDLOCK)))
            }
            landlock::RulesetStatus::NotEnforced => Err(failed("the kernel has it and does not enforce it")),
        },
    }
}

enum Missing {
    NotFound,
    Other(Error),
}

fn beneath(path: &Path, rights: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, Missing> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Missing::NotFound,
        _ => Missing::Other(Error::Io { what: format!("look at {}", path.display()), source: error }),
    })?;
    // Rights to a directory's entries mean nothing for a file, and the kernel refuses them.
    let rights = if metadata.is_dir() { rights } else { rights & AccessFs::from_file(LANDLOCK) };
    let opened = PathFd::new(path).map_err(|error| Missing::Other(failed(error)))?;
    Ok(PathBeneath::new(opened, rights))
}

fn failed(error: impl fmt::Display) -> Error {
    Error::refused(
        format!("cannot confine the worker with Landlock: {error}"),
        "the worker never runs unconfined on a kernel that has Landlock; does a container or another security module refuse landlock_restrict_self?",
    )
}

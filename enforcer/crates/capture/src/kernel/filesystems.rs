//! File systems of the kernel side: the cgroup2 hierarchy of the managed root and the bpffs of the pins.
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use super::KernelError;

/// include/uapi/linux/magic.h
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Where a bpffs belongs by convention; mounted there when the host has not done it.
const BPFFS: &str = "/sys/fs/bpf";
/// `PROC_CGROUP_INIT_INO`: the initial cgroup namespace.
const INITIAL_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;

/// A cgroup to attach to, open, with what the programs need to know about it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) path: PathBuf,
    pub(crate) dir: File,
    pub(crate) id: u64,
    /// Level in the hierarchy of the cgroups that are agents.
    pub(crate) agent_level: u32,
    /// The only agent's id, where the cgroup itself is the agent; else 0.
    pub(crate) attached: u64,
}

impl Target {
    /// The managed root: its children are the agents.
    pub(crate) fn managed_root(root: &Path) -> Result<Self, KernelError> {
        let target = Target::open(root)?;
        Ok(Target { agent_level: target.agent_level + 1, attached: 0, ..target })
    }

    /// A cgroup anywhere in the hierarchy, which is an agent itself.
    pub(crate) fn open(cgroup: &Path) -> Result<Self, KernelError> {
        let problem = |error| KernelError::ManagedRoot { path: cgroup.to_owned(), error };
        let path = cgroup.canonicalize().map_err(problem)?;
        if !is_on(&path, CGROUP2_SUPER_MAGIC).map_err(problem)? {
            return Err(KernelError::NoCgroup2 { path: cgroup.to_owned() });
        }
        // In another cgroup namespace the levels seen here are not the ones that the programs see: every agent would be unknown.
        if fs::metadata("/proc/self/ns/cgroup").map_err(problem)?.ino() != INITIAL_CGROUP_NAMESPACE {
            return Err(KernelError::CgroupNamespace);
        }
        let dir = File::open(&path).map_err(problem)?;
        // The inode number of a cgroup directory is the cgroup's id.
        let id = dir.metadata().map_err(problem)?.ino();
        let agent_level = level(&path).map_err(problem)?;
        if agent_level == 0 {
            return Err(KernelError::RootOfHierarchy { path: cgroup.to_owned() });
        }
        Ok(Target { path, dir, id, agent_level, attached: id })
    }
}

/// The id of the cgroup that is at this path now.
pub(crate) fn cgroup_id(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

/// Makes the directory of the pins, for root alone. Whether it is new.
pub(crate) fn prepare_pins(pins: &Path) -> Result<bool, KernelError> {
    let problem = |error| KernelError::Pins { path: pins.to_owned(), error };
    ensure_bpffs(pins)?;
    let new = !pins.try_exists().map_err(problem)?;
    if new {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(pins).map_err(problem)?;
    }
    let metadata = fs::symlink_metadata(pins).map_err(problem)?;
    if !metadata.is_dir() || metadata.uid() != 0 {
        return Err(problem(io::Error::new(io::ErrorKind::PermissionDenied, "not a directory of root's")));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(pins, fs::Permissions::from_mode(0o700)).map_err(problem)?;
    }
    if !is_on(pins, BPF_FS_MAGIC).map_err(problem)? {
        return Err(KernelError::NoBpffs { path: pins.to_owned(), error: None });
    }
    Ok(new)
}

fn ensure_bpffs(pins: &Path) -> Result<(), KernelError> {
    let missing = |error| KernelError::NoBpffs { path: pins.to_owned(), error };
    let existing = nearest_existing(pins).map_err(|error| missing(Some(error)))?;
    if is_on(&existing, BPF_FS_MAGIC).map_err(|error| missing(Some(error)))? {
        return Ok(());
    }
    if !pins.starts_with(BPFFS) || pins == Path::new(BPFFS) {
        return Err(missing(None));
    }
    let options = rustix::mount::MountFlags::NOSUID
        | rustix::mount::MountFlags::NODEV
        | rustix::mount::MountFlags::NOEXEC;
    rustix::mount::mount("bpf", BPFFS, "bpf", options, c"mode=0700")
        .map_err(|error| missing(Some(error.into())))?;
    tracing::warn!(path = BPFFS, "no bpffs was mounted; mounted one");
    Ok(())
}

fn nearest_existing(path: &Path) -> io::Result<PathBuf> {
    for candidate in path.ancestors() {
        if candidate.try_exists()? {
            return Ok(candidate.to_owned());
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "not an absolute path"))
}

fn is_on(path: &Path, magic: i64) -> io::Result<bool> {
    // The field's type differs between architectures; the magic numbers fit 32 bits.
    Ok(statfs(path)?.f_type as i64 & 0xffff_ffff == magic)
}

/// Level in the hierarchy: the root of it is level 0, and has no parent in the same file system.
fn level(path: &Path) -> io::Result<u32> {
    let device = fs::metadata(path)?.dev();
    let mut level = 0;
    for parent in path.ancestors().skip(1) {
        if fs::metadata(parent)?.dev() != device {
            break;
        }
        level += 1;
    }
    Ok(level)
}

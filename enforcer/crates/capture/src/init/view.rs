//! The agent's view of the file system: its trust stores and resolver, no sockets of the host's daemons,
//! no way to cgroups or pins. What is the agent's own in it is `own`'s.
//!
//! A mount namespace of its own over the same files; what is hidden is hidden by a mount on top, which a
//! process without privileges cannot lift.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use super::Spec;
use super::own::Own;
use crate::Error;
use crate::cgroup::mounts;
use crate::error::Doing;
use crate::session::Paths;
use crate::sys;

/// Daemons outside of all cgroups act on what is put here or on who speaks to them here.
const DEPUTIES: [&str; 8] = [
    "/var/spool/cron",
    "/var/spool/at",
    "/var/spool/atspool",
    "/var/spool/atjobs",
    "/var/spool/postfix",
    "/var/lib/lxd",
    "/var/lib/incus",
    "/var/lib/sss/pipes",
];

/// From here on the process sees what the agent will see. Returns which sockets the policy names that are not there. `cwd`:
/// where the agent is to start.
pub(super) fn enter(spec: &Spec, cwd: &Path) -> Result<Vec<PathBuf>, Error> {
    sys::unshare(UnshareFlags::NEWNS).doing(|| "make a mount namespace".into())?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make the mounts private".into())?;
    let run = fs::canonicalize(&spec.run_dir).doing(|| format!("look at {}", spec.run_dir.display()))?;
    // Pins of other sessions would keep their namespaces alive as long as this agent.
    detach(&Paths { run_dir: run.clone() }.pins())?;

    // Taken before their place is hidden.
    let trust = Tree::take(&spec.trust)?;
    let binds = spec
        .binds
        .iter()
        .map(|bind| Ok((Tree::take(&bind.from)?, &bind.to)))
        .collect::<Result<Vec<_>, Error>>()?;
    let own = Own::take(spec, cwd)?;

    own_sysfs()?;
    hide_kernel_objects()?;
    private_run(spec)?;
    if !run.starts_with("/run") {
        hide(&run)?;
    }
    for path in DEPUTIES.map(Path::new) {
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            hide(path)?;
        }
    }
    own.show_places()?;

    let shown_at = Paths { run_dir: run }.trust();
    make_dirs(&shown_at)?;
    trust.show(&shown_at)?;
    for (tree, to) in binds {
        if let Some(target) = target_of(to)? {
            tree.show(&target)?;
        }
    }
    own.show_sockets()
}

/// A copy of a mount, held by a descriptor until it is shown somewhere.
pub(super) struct Tree(pub(super) OwnedFd, PathBuf);

impl Tree {
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let fd = rustix::mount::open_tree(CWD, path, flags)
            .doing(|| format!("take {} into the agent's view", path.display()))?;
        Ok(Tree(fd, path.to_owned()))
    }

    pub(super) fn take_recursive(path: &Path) -> Result<Self, Error> {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let fd = rustix::mount::open_tree(CWD, path, flags)
            .doing(|| format!("take {} into the agent's view", path.display()))?;
        Ok(Tree(fd, path.to_owned()))
    }

    /// Puts it over `target`, as it is.
    pub(super) fn put(&self, target: &Path) -> Result<(), Error> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        rustix::mount::move_mount(&self.0, "", CWD, target, flags)
            .doing(|| format!("show {} at {}", self.1.display(), target.display()))
    }

    /// Shows it, read-only, over `target`.
    fn show(&self, target: &Path) -> Result<(), Error> {
        self.put(target)?;
        sys::mount_read_only_recursive(target)
            .doing(|| format!("show {} at {}", self.1.display(), target.display()))
    }
}

/// `/sys` as this network namespace has it, without the file systems that the host mounts inside it;
/// the cgroups come back to be read, since runtimes look up their limits there.
fn own_sysfs() -> Result<(), Error> {
    let cgroups = Path::new("/sys/fs/cgroup");
    let kept = if cgroups.is_dir() { Some(Tree::take_recursive(cgroups)?) } else { None };
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    detach(Path::new("/sys"))?;
    rustix::mount::mount("sysfs", "/sys", "sysfs", flags, None)
        .doing(|| "mount the session's own /sys".into())?;
    match kept {
        Some(tree) => tree.show(cgroups),
        None => Ok(()),
    }
}

/// Pins and cgroups, wherever else the host has them mounted.
fn hide_kernel_objects() -> Result<(), Error> {
    for mount in mounts().doing(|| "read the mount table".into())? {
        let done = match mount.kind.as_str() {
            "bpf" => hide(&mount.point),
            // Namespaces, also those of another instance.
            "nsfs" => detach(&mount.point),
            "cgroup" | "cgroup2" => sys::mount_read_only_recursive(&mount.point)
                .doing(|| format!("make {} read-only", mount.point.display())),
            _ => Ok(()),
        };
        match done {
            // Under another mount by now: out of sight already.
            Err(Error::Io { source, .. })
                if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {}
            other => other?,
        }
    }
    Ok(())
}

/// An empty `/run`: every socket of the host's daemons is gone with the old one.
fn private_run(spec: &Spec) -> Result<(), Error> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mut places = vec![PathBuf::from("/run")];
    if fs::canonicalize("/var/run").is_ok_and(|real| real != Path::new("/run")) {
        places.push("/var/run".into());
    }
    let mounted = mounts().doing(|| "read the mount table".into())?;
    for place in places {
        for mount in mounted.iter().filter(|mount| mount.point.starts_with(&place)) {
            detach(&mount.point)?;
        }
        rustix::mount::mount("tmpfs", &place, "tmpfs", flags, Some(c"mode=0755,size=16m"))
            .doing(|| format!("give the agent its own {}", place.display()))?;
    }
    let mine = PathBuf::from(format!("/run/user/{}", spec.uid));
    make_dirs(&mine)?;
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o700))
        .and_then(|()| std::os::unix::fs::chown(&mine, Some(spec.uid), Some(spec.gid)))
        .doing(|| format!("make {}", mine.display()))?;
    make_dirs(Path::new("/run/lock"))?;
    fs::set_permissions("/run/lock", fs::Permissions::from_mode(0o1777)).doing(|| "make /run/lock".into())
}

/// Lets go of a mount with all that is mounted below it, rather than leaving it underneath another one.
pub(super) fn detach(path: &Path) -> Result<(), Error> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        // Not a mount of its own, or gone with the one above it.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error).doing(|| format!("let go of {}", path.display())),
    }
}

fn hide(path: &Path) -> Result<(), Error> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, Some(c"mode=0755,size=64k"))
        .doing(|| format!("hide {}", path.display()))
}

/// Where a mount on `to` has to go. A link into the hidden `/run` (as resolv.conf often is) gets a file there.
fn target_of(to: &Path) -> Result<Option<PathBuf>, Error> {
    let doing = || format!("look at {}", to.display());
    match fs::canonicalize(to) {
        Ok(real) => return Ok(Some(real)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).doing(doing),
    }
    let Ok(link) = fs::read_link(to) else { return Ok(None) };
    let joined = to.parent().unwrap_or(Path::new("/")).join(link);
    let target = lexically_normal(&joined);
    let target = match target.strip_prefix("/var/run") {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => target,
    };
    if !target.starts_with("/run") {
        return Ok(None);
    }
    make_dirs(target.parent().unwrap_or(Path::new("/run")))?;
    fs::write(&target, "").doing(|| format!("make {}", target.display()))?;
    Ok(Some(target))
}

fn lexically_normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

pub(super) fn make_dirs(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .doing(|| format!("make {} in the agent's view", path.display()))
}

//! Trust for a workload that has a mount namespace of its own: its stores with our root in them, mounted over them where it reads
//! them. Its files are not touched, and unmounting takes it back.
//!
//! Its stores are read in its own view and copied to a directory of ours first: what is built from them follows no link of its making.
//! Who shares the host's mounts is not helped by mounts, because everybody would see them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::cgroup;
use crate::error::Doing;
use crate::keeper::Keeper;
use crate::launch::CallerTrust;
use crate::mountns::MountNamespace;
use crate::session::{Record, TrustMount};
use crate::sys;
use crate::trust;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

/// A store has some hundred certificates of two kilobytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
const MAX_FILES: usize = 4096;

/// What became of the stores.
#[derive(Debug, Default)]
pub(super) struct Installed {
    pub(super) mounts: Vec<TrustMount>,
    /// Why a process does not trust us, in words for a person.
    pub(super) missing: Vec<String>,
}

/// Mounts trust into every mount namespace that the cgroup's processes have for themselves.
pub(super) fn install(keeper: &Keeper, record: &Record, ca_pem: &str) -> Result<Installed, Error> {
    let mut installed = Installed::default();
    for (inode, pid) in namespaces(&record.cgroup).doing(|| "see the workload's mount namespaces".into())? {
        if inode == mounts_of("self").doing(|| "see our own mount namespace".into())? {
            installed.missing.push(
                "it shares the host's file system, whose trust stores stay as they are: give it the root \
                 of `enforcer ca export`"
                    .into(),
            );
            continue;
        }
        let dir = keeper.paths.trust().join(&record.session.id).join(inode.to_string());
        match install_in(&dir, pid, ca_pem) {
            Ok(points) if points.is_empty() => {
                installed.missing.push(
                    "it has no trust store that we know: give it the root of `enforcer ca export`".into(),
                );
            }
            Ok(points) => installed.mounts.push(TrustMount { namespace: inode, points }),
            // Without trust it reaches nothing over TLS: an inconvenience, not a hole.
            Err(error) => {
                installed.missing.push(format!("its trust stores stay as they are: {}", error.chain()))
            }
        }
    }
    Ok(installed)
}

/// Unmounts what [`install`] mounted. A namespace that nobody of the session is in any more is gone, with its mounts.
pub(super) fn remove(record: &Record, mounts: &[TrustMount]) -> Result<(), Error> {
    let there = match namespaces(&record.cgroup) {
        Ok(there) => there,
        Err(_) if !record.cgroup().exists() => return Ok(()),
        Err(error) => return Err(error).doing(|| "see the workload's mount namespaces".into()),
    };
    for mount in mounts {
        let Some((_, pid)) = there.iter().find(|(inode, _)| *inode == mount.namespace) else { continue };
        let removed = MountNamespace::of_process(*pid).and_then(|namespace| {
            namespace.within(|| {
                for point in mount.points.iter().rev() {
                    match rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(())
            })
        });
        removed.doing(|| format!("unmount the trust stores of process {pid}"))?;
    }
    Ok(())
}

fn install_in(dir: &Path, pid: u32, ca_pem: &str) -> Result<Vec<PathBuf>, Error> {
    let doing = || format!("copy the trust stores of process {pid}");
    let namespace = MountNamespace::of_process(pid).doing(doing)?;
    let snapshot = namespace.within(Snapshot::take).doing(doing)?;
    if snapshot.files.is_empty() {
        return Ok(Vec::new());
    }
    let host = dir.join("theirs");
    snapshot.write(&host).doing(doing)?;
    let ours = dir.join("ours");
    // There is no variable to be set any more, so nothing is shown at a place of ours.
    let trust = trust::build(&ours, Path::new("/run/enforcer/trust"), &host, ca_pem, &CallerTrust::default())
        .doing(|| "make the workload's trust stores".into())?;
    let trees = trust
        .binds
        .iter()
        .map(|bind| Ok((tree(&bind.from)?, bind.to.clone())))
        .collect::<io::Result<Vec<_>>>()
        .doing(doing)?;
    fs::remove_dir_all(&host).doing(doing)?;
    let own_peers = peer_groups("/proc/self/mountinfo").doing(doing)?;
    // As seen from its root. In there `/proc` may know its own processes only, and not ours.
    let mounts = mount_points(&format!("/proc/{pid}/mountinfo")).doing(doing)?;
    namespace
        .within(|| trees.into_iter().map(|(tree, to)| show(&tree, &to, &mounts, &own_peers)).collect())
        .doing(|| format!("mount trust stores for process {pid}"))
}

fn tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

/// In the workload's view: mounts over where `to` really is.
fn show(tree: &OwnedFd, to: &Path, mounts: &[MountPoint], own_peers: &[String]) -> io::Result<PathBuf> {
    let target = fs::canonicalize(to)?;
    // A mount under a shared one appears wherever that one does.
    let (_, below) = mounts
        .iter()
        .filter(|(point, _)| target.starts_with(point))
        .max_by_key(|(point, _)| point.as_os_str().len())
        .ok_or(io::ErrorKind::NotFound)?;
    if below.as_ref().is_some_and(|group| own_peers.contains(group)) {
        return Err(io::Error::other(format!("a mount at {} would be seen on the host", target.display())));
    }
    rustix::mount::move_mount(tree, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    sys::mount_read_only_recursive(&target)?;
    Ok(target)
}

/// A mount point, with its peer group if it is shared.
type MountPoint = (PathBuf, Option<String>);

fn mount_points(table: &str) -> io::Result<Vec<MountPoint>> {
    let text = fs::read_to_string(table)?;
    let parse = |line: &str| {
        let mut fields = line.split(" - ").next()?.split(' ').skip(4);
        let point = PathBuf::from(fields.next()?);
        let group = fields.skip(1).find_map(|field| field.strip_prefix("shared:").map(str::to_owned));
        Some((point, group))
    };
    Ok(text.lines().filter_map(parse).collect())
}

fn peer_groups(table: &str) -> io::Result<Vec<String>> {
    Ok(mount_points(table)?.into_iter().filter_map(|(_, group)| group).collect())
}

/// The stores of a workload, in memory.
#[derive(Default)]
struct Snapshot {
    files: BTreeMap<PathBuf, Content>,
    bytes: u64,
}

enum Content {
    File(Vec<u8>),
    /// Never one that is read through: bundles are files here.
    Link(PathBuf),
}

impl Snapshot {
    /// In the workload's view.
    fn take() -> io::Result<Self> {
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
    fn write(&self, root: &Path) -> io::Result<()> {
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

/// Mount namespaces of the cgroup's processes, each with one of them.
fn namespaces(cgroup: &Path) -> io::Result<Vec<(u64, u32)>> {
    let mut found: Vec<(u64, u32)> = Vec::new();
    for pid in cgroup::processes(cgroup)? {
        // It may be gone by now.
        if let Ok(inode) = mounts_of(&pid.to_string())
            && !found.iter().any(|(known, _)| *known == inode)
        {
            found.push((inode, pid));
        }
    }
    Ok(found)
}

fn mounts_of(who: &str) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{who}/ns/mnt"))?.ino())
}

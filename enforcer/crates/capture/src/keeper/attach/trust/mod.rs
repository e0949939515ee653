//! Trust for a workload that has mount namespaces of its own: its stores with our root in them, mounted over them where it reads
//! them. Its files are not touched, and unmounting takes it back.
//!
//! Containers and programs come later than `enforcer attach`, so this is looked at again and again. What is there is read off the mounts
//! themselves, never remembered: numbers of namespaces are given out again, and a container changes its root while it starts.
//!
//! Its stores are read in its own view and copied to a directory of ours first: what is built from them follows no link of its making.
//! Who shares the host's mounts is not helped by mounts, because everybody would see them.

mod mounts;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use self::mounts::Table;
use self::snapshot::Snapshot;
use super::unit;
use crate::Error;
use crate::cgroup;
use crate::error::Doing;
use crate::keeper::Keeper;
use crate::launch::CallerTrust;
use crate::mountns::MountNamespace;
use crate::session::Record;
use crate::sys;
use crate::trust;

const SHARED: &str = "it shares the host's file system, whose trust stores stay as they are: give it the root of `enforcer ca export`";
const NO_STORE: &str = "it has no trust store that we know: give it the root of `enforcer ca export`";

/// Each holds a copy of its stores, of a megabyte; a workload that makes more has none in the others.
const MAX_NAMESPACES: usize = 64;

/// Which mount namespaces of a session are without, by inode.
#[derive(Debug, Default)]
pub(super) struct Trust {
    missing: BTreeMap<u64, Missing>,
}

#[derive(Debug)]
struct Missing {
    /// In words for a person.
    why: String,
    /// The mounts with which it was tried.
    mounts: String,
}

/// The session's directory, made and holding what [`Trust::look`] needs.
pub(super) fn prepare(keeper: &Keeper, record: &Record, ca_pem: &str) -> Result<(), Error> {
    let dir = directory(keeper, record);
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(dir.join("ca.pem"), ca_pem))
        .doing(|| format!("make the session's files in {}", dir.display()))
}

/// Of the session's files.
pub(super) fn directory(keeper: &Keeper, record: &Record) -> PathBuf {
    keeper.paths.trust().join(&record.session.id)
}

impl Trust {
    /// Mounts trust into every mount namespace that the cgroup's processes have for themselves and that is without; answers with the places that
    /// are new. What failed is tried again when its mounts are others, or when `all` is.
    pub(super) fn look(
        &mut self,
        keeper: &Keeper,
        record: &Record,
        all: bool,
    ) -> Result<Vec<PathBuf>, Error> {
        let dir = directory(keeper, record);
        let own = MountNamespace::inode_of("self").doing(|| "see our own mount namespace".into())?;
        let there = namespaces(&record.cgroup).doing(|| "see the workload's mount namespaces".into())?;
        self.missing.retain(|inode, _| there.iter().any(|(other, _)| other == inode));
        // Directories that somebody sees, or is to see; and whether all of them are known.
        let mut used: BTreeSet<String> = unit::directory(keeper, record).into_iter().collect();
        let mut known = true;
        let mut mounted = Vec::new();
        for (inode, pid) in there {
            if inode == own {
                self.missing.insert(inode, Missing { why: SHARED.into(), mounts: String::new() });
                continue;
            }
            let Ok(table) = Table::of(&pid.to_string()) else {
                // It is gone by now; others may be in there.
                known = false;
                continue;
            };
            let ours = table.ours(&dir);
            if !ours.is_empty() {
                self.missing.remove(&inode);
                used.extend(ours.into_iter().map(|(_, dir)| dir));
                continue;
            }
            if !all && self.missing.get(&inode).is_some_and(|missing| missing.mounts == table.text()) {
                continue;
            }
            if used.len() >= MAX_NAMESPACES {
                let why = format!("over {MAX_NAMESPACES} mount namespaces: the others are left as they are");
                self.missing.insert(inode, Missing { why, mounts: String::new() });
                continue;
            }
            let (number, numbered) = free(&dir)?;
            used.insert(number);
            let why = match install(&dir, &numbered, (inode, pid), &table) {
                Ok(points) if points.is_empty() => NO_STORE.into(),
                Ok(points) => {
                    self.missing.remove(&inode);
                    mounted.extend(points);
                    continue;
                }
                // Without trust it reaches nothing over TLS: an inconvenience, not a hole.
                Err(error) => format!("its trust stores stay as they are: {}", error.chain()),
            };
            self.missing.insert(inode, Missing { why, mounts: table.text().to_owned() });
        }
        if known {
            prune(&dir, &used).doing(|| format!("tidy {}", dir.display()))?;
        }
        Ok(mounted)
    }

    /// Why processes do not trust us, in words for a person.
    pub(super) fn missing(&self) -> Vec<String> {
        let all: BTreeSet<&str> = self.missing.values().map(|missing| missing.why.as_str()).collect();
        all.into_iter().map(str::to_owned).collect()
    }
}

/// Unmounts what shows files of the session. A namespace that nobody of the session is in any more is gone, with its mounts.
pub(super) fn remove(keeper: &Keeper, record: &Record) -> Result<(), Error> {
    let dir = directory(keeper, record);
    let there = match namespaces(&record.cgroup) {
        Ok(there) => there,
        Err(_) if !record.cgroup().exists() => return Ok(()),
        Err(error) => return Err(error).doing(|| "see the workload's mount namespaces".into()),
    };
    let own = MountNamespace::inode_of("self").doing(|| "see our own mount namespace".into())?;
    for (inode, pid) in there.into_iter().filter(|(inode, _)| *inode != own) {
        // It is gone by now.
        let Ok(table) = Table::of(&pid.to_string()) else { continue };
        let ours = table.ours(&dir);
        if ours.is_empty() {
            continue;
        }
        let removed = MountNamespace::of_process(pid, inode).and_then(|namespace| {
            namespace.within(|| {
                for (point, _) in ours.iter().rev() {
                    match rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(())
            })
        });
        match removed {
            Err(_) if MountNamespace::inode_of(&pid.to_string()).is_err() => {}
            removed => removed.doing(|| format!("unmount the trust stores of process {pid}"))?,
        }
    }
    Ok(())
}

/// A new directory in the session's, by a number: its name and its path.
pub(super) fn free(session: &Path) -> Result<(String, PathBuf), Error> {
    let made = (0_u32..).map(|number| number.to_string()).find_map(|number| {
        let dir = session.join(&number);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            made => Some(made.map(|()| (number, dir))),
        }
    });
    made.unwrap_or_else(|| Err(io::ErrorKind::StorageFull.into()))
        .doing(|| format!("make a directory in {}", session.display()))
}

/// Numbered directories that nobody sees any more.
fn prune(session: &Path, used: &BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(session)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_ok() && !used.contains(&name) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// `dir`: the session's; `numbered`: an empty one in it; `whose`: the namespace, and a process in it.
fn install(dir: &Path, numbered: &Path, whose: (u64, u32), table: &Table) -> Result<Vec<PathBuf>, Error> {
    let (inode, pid) = whose;
    let doing = || format!("copy the trust stores of process {pid}");
    let namespace = MountNamespace::of_process(pid, inode).doing(doing)?;
    let snapshot = namespace.within(Snapshot::take).doing(doing)?;
    if snapshot.is_empty() {
        return Ok(Vec::new());
    }
    let ca_pem = fs::read_to_string(dir.join("ca.pem")).doing(|| "read our root".into())?;
    let host = numbered.join("theirs");
    snapshot.write(&host).doing(doing)?;
    let ours = numbered.join("ours");
    // There is no variable to be set any more, so nothing is shown at a place of ours.
    let trust =
        trust::build(&ours, Path::new("/run/enforcer/trust"), &host, &ca_pem, &CallerTrust::default())
            .doing(|| "make the workload's trust stores".into())?;
    let trees = trust
        .binds
        .iter()
        .map(|bind| Ok((tree(&bind.from)?, bind.to.clone())))
        .collect::<io::Result<Vec<_>>>()
        .doing(doing)?;
    fs::remove_dir_all(&host).doing(doing)?;
    let own = Table::of("self").doing(doing)?;
    // As seen from its root. In there `/proc` may know its own processes only, and not ours.
    namespace
        .within(|| trees.into_iter().map(|(tree, to)| show(&tree, &to, table, &own)).collect())
        .doing(|| format!("mount trust stores for process {pid}"))
}

fn tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

/// In the workload's view: mounts over where `to` really is.
fn show(tree: &OwnedFd, to: &Path, theirs: &Table, own: &Table) -> io::Result<PathBuf> {
    let target = fs::canonicalize(to)?;
    let below = theirs
        .mounts()
        .filter(|mount| target.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len())
        .ok_or(io::ErrorKind::NotFound)?;
    if below.group.is_some_and(|group| own.peer_groups().contains(group)) {
        return Err(io::Error::other(format!("a mount at {} would be seen on the host", target.display())));
    }
    rustix::mount::move_mount(tree, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    sys::mount_read_only_recursive(&target)?;
    Ok(target)
}

/// Mount namespaces of the cgroup's processes, each with one of them.
fn namespaces(cgroup: &Path) -> io::Result<Vec<(u64, u32)>> {
    let mut found: Vec<(u64, u32)> = Vec::new();
    for pid in cgroup::processes(cgroup)? {
        // It may be gone by now.
        if let Ok(inode) = MountNamespace::inode_of(&pid.to_string())
            && !found.iter().any(|(known, _)| *known == inode)
        {
            found.push((inode, pid));
        }
    }
    Ok(found)
}

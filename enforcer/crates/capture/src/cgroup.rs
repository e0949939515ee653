//! The managed root and the sessions' cgroups below it, in the cgroup2 hierarchy.
//!
//! Identity is the kernel's 64-bit id (the inode), never the path.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::Error;
use crate::error::Doing;

/// One line of a mount table, as far as we need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    pub(crate) kind: String,
}

/// The mounts that this process sees.
pub(crate) fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?))
}

fn parse_mounts(table: &str) -> Vec<Mount> {
    table
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let point = before.split(' ').nth(4)?;
            Some(Mount { point: unescape(point).into(), kind: after.split(' ').next()?.to_owned() })
        })
        .collect()
}

/// The mount table writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Where the cgroup2 hierarchy is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a hybrid host.
pub fn hierarchy() -> Result<PathBuf, Error> {
    let mounts = mounts().doing(|| "read the mount table /proc/self/mountinfo".into())?;
    mounts.into_iter().find(|mount| mount.kind == "cgroup2").map(|mount| mount.point).ok_or_else(|| {
        Error::refused(
            "this host has no cgroup2 hierarchy mounted",
            "mount it: mount -t cgroup2 none /sys/fs/cgroup/unified",
        )
    })
}

/// The full path of the managed root that the configuration names.
pub fn managed_root(name: &str) -> Result<PathBuf, Error> {
    let plain =
        !name.is_empty() && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !plain {
        return Err(Error::refused(
            format!("`{name}` is not a name for the managed root"),
            "name a cgroup below the cgroup2 mount, such as `managed_root: enforcer-agents.slice`",
        ));
    }
    Ok(hierarchy()?.join(name))
}

/// The kernel's id of a cgroup.
pub(crate) fn id(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

/// Full path of the cgroup that a process is in, as far as this process may see.
pub(crate) fn of_process(pid: u32, hierarchy: &Path) -> io::Result<PathBuf> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::/")).ok_or(io::ErrorKind::NotFound)?;
    // Outside of our own view of the hierarchy, or a cgroup that is gone.
    if path.split('/').any(|part| part == "..") || path.ends_with(" (deleted)") {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(hierarchy.join(path))
}

/// The cgroups right below this one.
pub(crate) fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Processes in this cgroup and below it. Those that come or go meanwhile may or may not be among them.
pub(crate) fn processes(dir: &Path) -> io::Result<Vec<u32>> {
    let mut found: Vec<u32> =
        fs::read_to_string(dir.join("cgroup.procs"))?.lines().filter_map(|line| line.parse().ok()).collect();
    for child in children(dir)? {
        match processes(&child) {
            Ok(more) => found.extend(more),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The cgroup of this id, at or below `dir`.
pub(crate) fn find(dir: &Path, wanted: u64) -> io::Result<Option<PathBuf>> {
    if id(dir)? == wanted {
        return Ok(Some(dir.to_owned()));
    }
    for child in children(dir)? {
        match find(&child, wanted) {
            Ok(None) => {}
            Err(error) if is_gone(&error) => {}
            found => return found,
        }
    }
    Ok(None)
}

/// Ids of this cgroup and of all below it.
pub(crate) fn ids(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = vec![id(dir)?];
    for child in children(dir)? {
        match ids(&child) {
            Ok(more) => found.extend(more),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// One session's cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    pub(crate) path: PathBuf,
    pub(crate) id: u64,
}

impl Cgroup {
    /// Makes the cgroup of a new session; a cgroup of that name must not exist.
    pub(crate) fn create(managed_root: &Path, session: &str) -> Result<Self, Error> {
        let path = managed_root.join(session);
        fs::create_dir(&path)
            // Runtimes look up their limits here.
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .doing(|| format!("make the cgroup {}", path.display()))?;
        let id = id(&path).doing(|| format!("look at the cgroup {}", path.display()))?;
        Ok(Cgroup { path, id })
    }

    /// Where a process writes `0` to enter.
    pub(crate) fn entrance(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Still the same cgroup, not another of its name.
    pub(crate) fn exists(&self) -> bool {
        id(&self.path).is_ok_and(|id| id == self.id)
    }

    /// Are there processes in it, at any depth? One that is gone has none.
    pub(crate) fn populated(&self) -> io::Result<bool> {
        match fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(events) => Ok(is_populated(&events)),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until no process is left in it.
    pub(crate) fn wait_empty(&self) -> io::Result<()> {
        let mut file = match File::open(self.path.join("cgroup.events")) {
            Ok(file) => file,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut events = String::new();
        loop {
            events.clear();
            let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut events));
            match read {
                Ok(_) if !is_populated(&events) => return Ok(()),
                Ok(_) => {}
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
            // The kernel raises POLLPRI on each change since the last read.
            match rustix::event::poll(&mut [PollFd::new(&file, PollFlags::PRI)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Stops all its processes where they are, or lets them go on. One that is gone is neither.
    pub(crate) fn freeze(&self, freeze: bool) -> io::Result<()> {
        if !self.exists() {
            return Ok(());
        }
        match fs::write(self.path.join("cgroup.freeze"), if freeze { "1" } else { "0" }) {
            Err(error) if is_gone(&error) => Ok(()),
            other => other,
        }
    }

    /// Ends whatever is left in it and removes it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        /// Processes that were killed need a moment to leave.
        const PATIENCE: Duration = Duration::from_secs(5);
        if !self.exists() {
            return Ok(());
        }
        if self.populated()? {
            fs::write(self.path.join("cgroup.kill"), "1")?;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match fs::remove_dir(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_populated(events: &str) -> bool {
    !events.lines().any(|line| line == "populated 0")
}

/// kernfs answers ENODEV on a file of a removed cgroup.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_read_with_its_escapes() {
        let table = "25 1 0:23 / /sys/fs/cgroup\\040two rw,relatime shared:4 - cgroup2 cgroup2 rw\n\
                     26 1 0:24 / /proc rw - proc proc rw\n";
        let mounts = parse_mounts(table);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0], Mount { point: "/sys/fs/cgroup two".into(), kind: "cgroup2".into() });
        assert_eq!(mounts[1].kind, "proc");
    }

    #[test]
    fn a_managed_root_is_named_below_the_mount() {
        assert!(managed_root("enforcer-agents.slice").is_ok());
        for name in ["", "/", "..", "a/../..", "/a", "a//b", "."] {
            assert!(managed_root(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_cgroup_is_found_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(find(dir.path(), id(&deep).unwrap()).unwrap(), Some(deep));
        assert_eq!(find(dir.path(), u64::MAX).unwrap(), None);
    }

    #[test]
    fn populated_unless_the_kernel_says_no() {
        assert!(!is_populated("populated 0\nfrozen 0\n"));
        assert!(is_populated("populated 1\nfrozen 0\n"));
        assert!(is_populated(""), "unknown is populated: nothing is taken away from a running agent");
    }
}

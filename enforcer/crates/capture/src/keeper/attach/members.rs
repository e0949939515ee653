//! Who is in which network namespace, as `/proc` tells it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cgroup;

/// Inodes of the network namespaces that the cgroup's processes are in, each with one of them.
pub(super) fn in_use(cgroup: &Path) -> io::Result<Vec<(u64, u32)>> {
    let mut found: Vec<(u64, u32)> = Vec::new();
    for pid in cgroup::processes(cgroup)? {
        // It may be gone by now.
        if let Ok(inode) = netns_of(pid)
            && !found.iter().any(|(known, _)| *known == inode)
        {
            found.push((inode, pid));
        }
    }
    Ok(found)
}

fn netns_of(pid: u32) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{pid}/ns/net"))?.ino())
}

/// Nobody but the cgroup's processes is in the namespace. Our own is everybody's.
pub(super) fn is_private(inode: u64, cgroup: &Path) -> io::Result<bool> {
    if netns_of(std::process::id())? == inode {
        return Ok(false);
    }
    let hierarchy = cgroup::hierarchy().map_err(io::Error::other)?;
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let here = || netns_of(pid).is_ok_and(|other| other == inode);
        // One that ended while it was looked at has no cgroup to be seen, and is not there any more.
        if here() && !cgroup::of_process(pid, &hierarchy).is_ok_and(|path| path.starts_with(cgroup)) && here()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

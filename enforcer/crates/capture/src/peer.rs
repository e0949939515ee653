//! Who is at the other end of a unix socket, and whether it is an agent. Needs no privilege.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use crate::cgroup;
use crate::sys;

/// The process that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of the cgroup it is in now, where the kernel tells.
    pub cgroup_id: Option<u64>,
    /// It sits under the managed root or in an attached cgroup, or we cannot tell. Such a peer gets nothing.
    pub managed: bool,
}

impl Peer {
    /// `governed`: the full paths of the managed root, see [`cgroup::managed_root`], and of the attached cgroups.
    pub fn of(socket: BorrowedFd<'_>, governed: &[PathBuf]) -> io::Result<Self> {
        let credentials = sys::peer_credentials(socket)?;
        let pid = u32::try_from(credentials.pid).unwrap_or(0);
        let pidfd = pidfd_of(socket, credentials.pid);
        let cgroup_id = pidfd.as_ref().and_then(|pidfd| sys::pidfd_cgroup_id(pidfd.as_fd()));
        let managed = match &pidfd {
            Some(pidfd) => is_managed(pid, pidfd, governed).unwrap_or(true),
            None => true,
        };
        Ok(Peer { pid, uid: credentials.uid, gid: credentials.gid, cgroup_id, managed })
    }
}

fn pidfd_of(socket: BorrowedFd<'_>, pid: i32) -> Option<OwnedFd> {
    match sys::peer_pidfd(socket) {
        Ok(pidfd) => Some(pidfd),
        // Before Linux 6.5. The number may have passed to another process by now; that one is judged then.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
        }
        // The peer is gone.
        Err(_) => None,
    }
}

/// `None`: cannot tell.
fn is_managed(pid: u32, pidfd: &OwnedFd, governed: &[PathBuf]) -> Option<bool> {
    if pid == 0 {
        return None;
    }
    let hierarchy = cgroup::hierarchy().ok()?;
    let path = cgroup::of_process(pid, &hierarchy).ok()?;
    // The number belonged to the peer while we read, if the peer is still there now.
    let mut poll = [PollFd::new(pidfd, PollFlags::IN)];
    let ended = rustix::event::poll(&mut poll, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).ok()?;
    (ended == 0).then(|| governed.iter().any(|cgroup| path.starts_with(cgroup)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::cgroup::Cgroup;

    #[test]
    fn a_peer_is_known_by_its_cgroup() {
        let root = cgroup::managed_root(&format!("enforcer-peer-test-{}", std::process::id())).unwrap();
        std::fs::create_dir(&root).unwrap();
        let cgroup = Cgroup::create(&root, "bot-abcdef").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();

        let _me = UnixStream::connect(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let peer = Peer::of(accepted.as_fd(), std::slice::from_ref(&root)).unwrap();
        assert_eq!((peer.pid, peer.uid, peer.managed), (std::process::id(), 0, false));

        // A process inside, which connects when it is told to.
        let script = format!(
            "read line; exec python3 -c 'import socket,time; s=socket.socket(socket.AF_UNIX); s.connect(\"{}\"); time.sleep(60)'",
            path.display()
        );
        let mut child = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        std::fs::write(cgroup.path.join("cgroup.procs"), child.id().to_string()).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let peer = Peer::of(accepted.as_fd(), std::slice::from_ref(&root)).unwrap();
        assert_eq!((peer.pid, peer.managed), (child.id(), true));
        assert!(peer.cgroup_id.is_none_or(|id| id == cgroup.id));

        // Once it is gone nobody can tell any more.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Peer::of(accepted.as_fd(), std::slice::from_ref(&root)).unwrap().managed);
        cgroup.remove().unwrap();
        std::fs::remove_dir(&root).unwrap();
    }
}

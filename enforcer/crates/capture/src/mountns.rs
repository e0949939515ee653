//! Another mount namespace, entered by threads made for that; the process stays where it is.
//!
//! In there `/` is the root of whoever lives in it, so links that it made lead nowhere but into its own tree.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::sys;

/// The mount namespace of a process, and what that process takes for `/`.
#[derive(Debug)]
pub(crate) struct MountNamespace {
    namespace: File,
    root: File,
}

impl MountNamespace {
    /// This namespace, by a process that was seen in it. Its number may have passed to another meanwhile: that one's is never entered.
    pub(crate) fn of_process(pid: u32, inode: u64) -> io::Result<Self> {
        let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
        let root = File::open(format!("/proc/{pid}/root"))?;
        // Held by us, the namespace keeps its number; asked again, the process was in it when its root was opened.
        if namespace.metadata()?.ino() != inode || MountNamespace::inode_of(&pid.to_string())? != inode {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the process has left its mount namespace"));
        }
        Ok(MountNamespace { namespace, root })
    }

    /// The number by which `/proc` names the namespace of a process.
    pub(crate) fn inode_of(who: &str) -> io::Result<u64> {
        Ok(fs::metadata(format!("/proc/{who}/ns/mnt"))?.ino())
    }

    /// Runs `work` in a thread that sees the file system as the process does.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("mounts".into()).spawn_scoped(scope, || {
                // Root and working directory of its own: the kernel lets nobody change namespace who shares them.
                sys::unshare(UnshareFlags::FS)?;
                rustix::thread::move_into_link_name_space(
                    self.namespace.as_fd(),
                    Some(LinkNameSpaceType::Mount),
                )?;
                rustix::process::fchdir(&self.root)?;
                rustix::process::chroot(".")?;
                work()
            })?;
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
        })
    }
}

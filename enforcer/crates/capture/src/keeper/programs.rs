//! The kernel programs as the keeper uses them.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use crate::kernel::{Attachment, Kernel, KernelError, Listening};
use crate::records::Records;

/// The keeper's view of the kernel programs; tests put something lighter in its place.
pub trait Programs: Send + Sync {
    fn verify(&self) -> Result<(), KernelError>;
    fn govern(&self, cgroup_id: u64) -> Result<(), KernelError>;
    fn release(&self, cgroup_id: u64) -> Result<(), KernelError>;
    fn admit(&self, cgroup_id: u64, netns_cookie: u64, at: Listening) -> Result<(), KernelError>;
    /// Where it may connect to from this network namespace, as an earlier keeper may have said.
    fn admitted(&self, cgroup_id: u64, netns_cookie: u64) -> Result<Option<Listening>, KernelError>;
    fn expel(&self, cgroup_id: u64, netns_cookie: u64) -> Result<(), KernelError>;
    fn attach(&self, name: &str, cgroup: &Path) -> Result<Attachment, KernelError>;
    fn detach(&self, name: &str) -> Result<bool, KernelError>;
    fn attached(&self) -> Result<Vec<String>, KernelError>;
    fn records(&self) -> io::Result<OwnedFd>;
    fn events(&self) -> io::Result<OwnedFd>;
    /// `None`: there will not be any.
    fn new_namespaces(&self) -> io::Result<Option<OwnedFd>>;
    fn prepare_listener(&self, socket: BorrowedFd<'_>) -> io::Result<()>;
}

impl Programs for Kernel {
    fn verify(&self) -> Result<(), KernelError> {
        Kernel::verify(self)
    }
    fn govern(&self, cgroup_id: u64) -> Result<(), KernelError> {
        Kernel::govern(self, cgroup_id)
    }
    fn release(&self, cgroup_id: u64) -> Result<(), KernelError> {
        Kernel::release(self, cgroup_id)
    }
    fn admit(&self, cgroup_id: u64, netns_cookie: u64, at: Listening) -> Result<(), KernelError> {
        Kernel::admit(self, cgroup_id, netns_cookie, at)
    }
    fn admitted(&self, cgroup_id: u64, netns_cookie: u64) -> Result<Option<Listening>, KernelError> {
        Kernel::admitted(self, cgroup_id, netns_cookie)
    }
    fn expel(&self, cgroup_id: u64, netns_cookie: u64) -> Result<(), KernelError> {
        Kernel::expel(self, cgroup_id, netns_cookie)
    }
    fn attach(&self, name: &str, cgroup: &Path) -> Result<Attachment, KernelError> {
        Kernel::attach(self, name, cgroup)
    }
    fn detach(&self, name: &str) -> Result<bool, KernelError> {
        Kernel::detach(self, name)
    }
    fn attached(&self) -> Result<Vec<String>, KernelError> {
        Kernel::attached(self)
    }
    fn records(&self) -> io::Result<OwnedFd> {
        Kernel::records(self)
    }
    fn events(&self) -> io::Result<OwnedFd> {
        Kernel::events(self)
    }
    fn new_namespaces(&self) -> io::Result<Option<OwnedFd>> {
        Kernel::new_namespaces(self).map(Some)
    }
    fn prepare_listener(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        Records::prepare_listener(socket)
    }
}

//! Loads, attaches, pins and adopts the programs. Keeper only.
// SKELETON: signatures are the contract.
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Where this instance keeps its kernel state. Two instances with different layouts do not meet.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The managed root in the cgroup2 hierarchy, e.g. `/sys/fs/cgroup/enforcer-agents.slice`.
    pub managed_root: PathBuf,
    /// A root-only directory in a bpffs, e.g. `/sys/fs/bpf/enforcer`.
    pub pins: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("{message}")]
    Other { message: String, hint: String },
}

pub struct Kernel { _p: () }
impl Kernel {
    /// Adopts the pinned maps and links of an earlier run (programs are swapped atomically) or loads, attaches and pins anew.
    /// The managed root must exist.
    pub fn start(layout: &Layout) -> Result<Self, KernelError> { let _ = layout; todo!() }
    /// Everything is still attached to this very managed root. Asked before each launch.
    pub fn verify(&self) -> Result<(), KernelError> { todo!() }
    /// From now on this cgroup is an agent and may connect from this network namespace.
    pub fn govern(&self, cgroup_id: u64, netns_cookie: u64, private_netns: bool) -> Result<(), KernelError> { let _ = (cgroup_id, netns_cookie, private_netns); todo!() }
    /// The cgroup is no agent any more: everything is denied.
    pub fn release(&self, cgroup_id: u64) -> Result<(), KernelError> { let _ = cgroup_id; todo!() }
    /// Map descriptors for the worker.
    pub fn records(&self) -> std::io::Result<OwnedFd> { todo!() }
    pub fn events(&self) -> std::io::Result<OwnedFd> { todo!() }
    /// `enforcer unmanage`: the only way the pins go away.
    pub fn unmanage(layout: &Layout) -> Result<(), KernelError> { let _ = layout; todo!() }
}

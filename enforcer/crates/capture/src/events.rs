//! Refusals made in the kernel, read from the ring buffer. Worker side.
// SKELETON: signatures are the contract.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::net::SocketAddr;

#[derive(Clone, Debug)]
pub struct Refused { pub cgroup_id: u64, pub hook: &'static str, pub reason: &'static str, pub family: u16, pub sock_type: u32, pub protocol: u32, pub address: Option<SocketAddr>, pub pid: u32, pub uid: u32, pub comm: String }

pub struct Events { fd: OwnedFd }
impl Events {
    pub fn new(map: OwnedFd) -> std::io::Result<Self> { Ok(Events { fd: map }) }
    /// Does not block; poll `as_fd` for readability first.
    pub fn next(&mut self) -> Option<Refused> { todo!() }
}
impl AsFd for Events { fn as_fd(&self) -> BorrowedFd<'_> { self.fd.as_fd() } }

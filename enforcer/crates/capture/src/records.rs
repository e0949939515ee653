//! Where an accepted connection was going, and who asked. Worker side, without privilege.
// SKELETON: signatures are the contract.
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The destination the agent asked for. Never a default, never a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalDst(pub SocketAddr);

#[derive(Clone, Debug)]
pub struct Origin { pub dst: OriginalDst, pub cgroup_id: u64, pub netns_cookie: u64, pub pid: u32, pub uid: u32, pub comm: String }

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the connection carries no redirect cookie")] NoCookie,
    #[error("no connect record for this connection")] NoRecord,
    #[error("the connect record is for another {0}")] Mismatch(&'static str),
    #[error("cannot read {0}")] Io(&'static str, #[source] std::io::Error),
}

pub struct Records { _p: () }
impl Records {
    pub fn new(map: OwnedFd) -> Result<Self, RecordError> { let _ = map; todo!() }
    /// Must be set on a listener before `listen` so that `take` works (TCP_SAVE_SYN).
    pub fn prepare_listener(socket: BorrowedFd<'_>) -> std::io::Result<()> { let _ = socket; todo!() }
    /// Reads the cookie from the saved SYN of an accepted socket and takes (deletes) its record; one use.
    /// Refuses a record of another cgroup or namespace than the listener's, and old ones (> 60 s).
    pub fn take(&self, accepted: BorrowedFd<'_>, cgroup_id: u64, netns_cookie: u64) -> Result<Origin, RecordError> { let _ = (accepted, cgroup_id, netns_cookie); todo!() }
}

//! Listeners that outlive their keeper: connections made meanwhile wait in their queues instead of being refused.
//!
//! Two ways lead to the next keeper, and both end in [`Inherited`]. systemd keeps copies and passes them to what it starts next
//! (`FileDescriptorStoreMax=`); a keeper that replaces itself ([`super::upgrade`]) leaves its own open. What a descriptor is for is
//! asked of the kernel, never taken from a name.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use enforcer_common::AGENT_SLOTS;
use rustix::io::FdFlags;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sockopt,
};
use tracing::warn;

use crate::netns::{LISTENERS, Listener};
use crate::sys;

/// `PID:FD,FD,…`, for the program that replaces this one.
const VARIABLE: &str = "ENFORCER_INHERITED";
/// Letters of a name in systemd's store.
const NAME: usize = 16;
/// `MAX_ARG_STRLEN` of the kernel: the names of all sessions' listeners, with colons between.
const _: () = assert!(AGENT_SLOTS as usize * LISTENERS.len() * (NAME + 1) < 128 * 1024);
/// Descriptors below are left to the standard streams and to the channels of children.
const LOWEST: RawFd = 16;

/// Sockets that an earlier keeper left, for the threads that take its sessions up.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    sockets: Mutex<Sockets>,
    /// By a keeper that was this process.
    ourselves: bool,
}

impl Inherited {
    /// What was passed to this process. Once, before anything else opens descriptors.
    pub(super) fn receive() -> io::Result<Self> {
        let left = std::env::var(VARIABLE).ok().and_then(|value| numbers(&value));
        let ourselves = left.is_some();
        let numbers = match left {
            Some(numbers) => numbers,
            None => sd_notify::listen_fds()?.collect(),
        };
        let mut sockets = Sockets::default();
        for number in numbers {
            match sys::inherited(number).and_then(|fd| Ok(rustix::io::fcntl_dupfd_cloexec(&fd, LOWEST)?)) {
                Ok(socket) => sockets.add(socket),
                Err(error) => warn!(number, "a descriptor that was said to be passed was not: {error}"),
            }
        }
        Ok(Inherited { sockets: sockets.into(), ourselves })
    }

    /// Whether this process was a keeper before it became this program.
    pub(super) fn left_by_ourselves(&self) -> bool {
        self.ourselves
    }

    /// These listeners of a network namespace, in this order; `None` unless all are there, and then they are closed.
    pub(super) fn listeners(&self, netns_cookie: u64, wanted: &[Listener]) -> Option<Vec<OwnedFd>> {
        let found: Vec<_> = wanted.iter().map(|wanted| self.listener(netns_cookie, wanted)).collect();
        found.into_iter().collect()
    }

    /// This listener of a network namespace.
    pub(super) fn listener(&self, netns_cookie: u64, wanted: &Listener) -> Option<OwnedFd> {
        let (kind, address) = *wanted;
        self.sockets().listeners.remove(&(netns_cookie, kind.as_raw(), address))
    }

    /// The socket at this path.
    pub(super) fn unix(&self, path: &Path) -> Option<UnixListener> {
        let at_path = |fd: &OwnedFd| {
            let address =
                rustix::net::getsockname(fd).ok().and_then(|any| SocketAddrUnix::try_from(any).ok());
            address.is_some_and(|address| address.path_bytes() == Some(path.as_os_str().as_encoded_bytes()))
        };
        let mut sockets = self.sockets();
        let found = sockets.others.iter().position(at_path)?;
        Some(sockets.others.swap_remove(found).into())
    }

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        // Taken out one by one: a panic leaves the others.
        self.sockets.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Cookie of the network namespace, `SOCK_STREAM` or `SOCK_DGRAM`, address.
type Place = (u64, u32, SocketAddr);

/// Thousands, where there are many sessions: each is looked at once, not once for each that is looked for.
#[derive(Debug, Default)]
struct Sockets {
    /// Of two at one place (a dead session's and its successor's copy, never both open) the later stands.
    listeners: HashMap<Place, OwnedFd>,
    others: Vec<OwnedFd>,
}

impl Sockets {
    fn add(&mut self, socket: OwnedFd) {
        match place(&socket) {
            Some(place) => drop(self.listeners.insert(place, socket)),
            None => self.others.push(socket),
        }
    }
}

/// Of a listener, or a datagram socket. A connection that was accepted has the address of its listener, and is none.
fn place(socket: &OwnedFd) -> Option<Place> {
    let address = SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()?;
    let kind = sockopt::socket_type(socket).ok()?;
    if kind == SocketType::STREAM && !sockopt::socket_acceptconn(socket).unwrap_or(false) {
        return None;
    }
    Some((sys::netns_cookie(socket.as_fd()).ok()?, kind.as_raw(), address))
}

/// Of another process's environment, which we may have by inheritance, it says nothing to us.
fn numbers(value: &str) -> Option<Vec<RawFd>> {
    let (pid, numbers) = value.split_once(':')?;
    if pid.parse() != Ok(std::process::id()) {
        return None;
    }
    numbers.split(',').map(|number| number.parse().ok()).collect()
}

/// Leaves the sockets open for the program that replaces this one, which finds them by what is returned; or not, after all.
pub(super) fn leave_open(sockets: &[BorrowedFd<'_>], open: bool) -> io::Result<(&'static str, String)> {
    let flags = if open { FdFlags::empty() } else { FdFlags::CLOEXEC };
    let mut numbers = Vec::with_capacity(sockets.len());
    for socket in sockets {
        rustix::io::fcntl_setfd(socket, flags)?;
        numbers.push(socket.as_raw_fd().to_string());
    }
    Ok((VARIABLE, format!("{}:{}", std::process::id(), numbers.join(","))))
}

/// What systemd files a session's sockets under. It passes all names in one variable, one for each socket, and a variable takes
/// 128 KiB: with names as long as sessions' it could not start a daemon of many sessions any more.
fn filed_as(session: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, session.as_bytes());
    digest.as_ref().iter().take(NAME / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// Has systemd keep copies of a session's listeners, for the start after a restart or a crash.
pub(super) fn store(session: &str, listeners: &[OwnedFd]) {
    let sockets: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    // Sockets report errors to a poll although nothing is wrong with them: systemd would drop them then.
    tell(&format!("FDSTORE=1\nFDNAME={}\nFDPOLL=0", filed_as(session)), &sockets);
}

/// The session has ended.
pub(super) fn forget(session: &str) {
    tell(&format!("FDSTOREREMOVE=1\nFDNAME={}", filed_as(session)), &[]);
}

/// Without waiting: launches must not hang on who reads this. What is lost costs a moment of refusals at a restart, no more.
fn tell(words: &str, sockets: &[BorrowedFd<'_>]) {
    let Some(manager) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = (|| {
        let address = match manager.as_encoded_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
            path => SocketAddrUnix::new(path)?,
        };
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LISTENERS.len()))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(rustix::io::Errno::TOOBIG);
        }
        let words = [IoSlice::new(words.as_bytes())];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendmsg_addr(&socket, &address, &words, &mut beside, flags).map(drop)
    })();
    if let Err(error) = told {
        warn!("systemd keeps no copies of a session's listeners: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_this_process_is_meant() {
        assert_eq!(numbers(&format!("{}:5,7", std::process::id())), Some(vec![5, 7]));
        for value in ["", "1:5", "5", &format!("{}:x", std::process::id())] {
            assert_eq!(numbers(value), None, "{value}");
        }
    }

    #[test]
    fn a_listener_is_known_by_what_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let wanted = (SocketType::STREAM, address);
        let elsewhere = (SocketType::STREAM, "127.0.0.1:1".parse().unwrap());
        let cookie = sys::netns_cookie(listener.as_fd()).unwrap();
        let mut sockets = Sockets::default();
        sockets.add(accepted.into());
        let inherited = Inherited { sockets: sockets.into(), ourselves: false };
        assert!(inherited.listener(cookie, &wanted).is_none(), "a connection is no listener");
        inherited.sockets().add(listener.into());
        assert!(inherited.listeners(cookie + 1, &[wanted]).is_none());
        assert!(inherited.listeners(cookie, &[(SocketType::DGRAM, address)]).is_none());
        assert!(inherited.listeners(cookie, &[elsewhere]).is_none());
        assert_eq!(
            inherited.sockets().listeners.len(),
            1,
            "another namespace's and another session's are left alone"
        );
        // Without the others it is not a session's set, and is closed rather than mixed with new ones.
        assert!(inherited.listeners(cookie, &[wanted, elsewhere]).is_none());
        assert!(inherited.sockets().listeners.is_empty());
    }
}

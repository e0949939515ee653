//! Sockets of a network namespace as the kernel lists them (`NETLINK_SOCK_DIAG`), and their end by `SOCK_DESTROY`.
//!
//! Everything here is about the network namespace of the calling thread.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `NETLINK_SOCK_DIAG`.
const SOCK_DIAG: u32 = 4;
/// `SOCK_DIAG_BY_FAMILY`, `SOCK_DESTROY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// `TCP_LISTEN`.
const LISTEN: u8 = 10;
/// `INET_DIAG_CGROUP_ID` of linux/inet_diag.h (Linux 5.9).
const CGROUP_ID: u16 = 21;
/// Of `struct nlmsghdr` and of `struct inet_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 72;
/// Where `struct inet_diag_sockid` is in an answer, and how long it is.
const ID: std::ops::Range<usize> = 4..52;

/// One internet socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InetSocket {
    pub(crate) family: u8,
    pub(crate) protocol: u8,
    pub(crate) listening: bool,
    pub(crate) inode: u32,
    /// Of the cgroup that it was made in, where the kernel tells.
    pub(crate) cgroup_id: Option<u64>,
    /// `struct inet_diag_sockid`, by which the kernel finds it again.
    id: [u8; 48],
}

/// A line to the kernel's lists.
pub(crate) struct SockDiag {
    netlink: OwnedFd,
}

impl SockDiag {
    pub(crate) fn open() -> io::Result<Self> {
        let protocol = rustix::net::RawProtocol::new(SOCK_DIAG).map(Protocol::from_raw);
        let netlink = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        Ok(SockDiag { netlink })
    }

    /// Every TCP and UDP socket.
    pub(crate) fn sockets(&self) -> io::Result<Vec<InetSocket>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_UDPLITE] {
                self.list(family as u8, protocol as u8, &mut found)?;
            }
        }
        Ok(found)
    }

    /// Every unix socket by inode, with the inode of the one that it is connected to.
    pub(crate) fn unix_sockets(&self) -> io::Result<Vec<(u32, Option<u32>)>> {
        /// `UDIAG_SHOW_PEER`, `UNIX_DIAG_PEER` of linux/unix_diag.h; its `struct unix_diag_msg` has 16 bytes.
        const SHOW_PEER: u32 = 4;
        const PEER: u16 = 2;
        const UNIX_MESSAGE: usize = 16;
        // `struct unix_diag_req`: family, all states, no inode in particular, what to show, no cookie.
        let mut body = vec![libc::AF_UNIX as u8, 0, 0, 0];
        for number in [u32::MAX, 0, SHOW_PEER, 0, 0] {
            body.extend(number.to_ne_bytes());
        }
        self.send(BY_FAMILY, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16, &body)?;
        let mut found = Vec::new();
        self.receive(|kind, body| {
            if kind == BY_FAMILY
                && let (Some(inode), Some(attributes)) = (u32_at(body, 4), body.get(UNIX_MESSAGE..))
            {
                found.push((inode, attribute(attributes, PEER).and_then(|peer| u32_at(peer, 0))));
            }
        })?;
        Ok(found)
    }

    /// Ends a socket: whoever holds it gets ECONNABORTED. `false`: it was gone, or the kernel cannot end this kind.
    pub(crate) fn destroy(&self, socket: &InetSocket) -> io::Result<bool> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        self.send(DESTROY, flags, &request(socket.family, socket.protocol, &socket.id))?;
        match self.receive(|_, _| {}) {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::EOPNOTSUPP) => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn list(&self, family: u8, protocol: u8, found: &mut Vec<InetSocket>) -> io::Result<()> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        self.send(BY_FAMILY, flags, &request(family, protocol, &[0; 48]))?;
        let listed = self.receive(|kind, body| {
            if kind == BY_FAMILY
                && let Some(socket) = socket(protocol, body)
            {
                found.push(socket);
            }
        });
        match listed {
            // A kernel without this protocol has no socket of it.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn send(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        rustix::net::send(&self.netlink, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Reads until the kernel says that this was all, or what went wrong.
    fn receive(&self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            let (length, _) = rustix::net::recv(&self.netlink, &mut buffer, RecvFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let (Some(total), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
                let total = total as usize;
                let Some(body) = rest.get(HEADER..total) else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return match u32_at(body, 0).map(u32::cast_signed) {
                            Some(0) => Ok(()),
                            Some(error) => Err(io::Error::from_raw_os_error(-error)),
                            None => Err(io::ErrorKind::InvalidData.into()),
                        };
                    }
                    _ => each(kind, body),
                }
                // Messages begin at multiples of four.
                rest = rest.get(total.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// `struct inet_diag_req_v2`, in all states.
fn request(family: u8, protocol: u8, id: &[u8; 48]) -> Vec<u8> {
    let mut body = vec![family, protocol, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(id);
    body
}

/// `struct inet_diag_msg` and the attributes after it.
fn socket(protocol: u8, body: &[u8]) -> Option<InetSocket> {
    let cgroup_id = attribute(body.get(MESSAGE..)?, CGROUP_ID);
    Some(InetSocket {
        family: *body.first()?,
        protocol,
        listening: *body.get(1)? == LISTEN && protocol == libc::IPPROTO_TCP as u8,
        inode: u32_at(body, MESSAGE - 4)?,
        cgroup_id: cgroup_id.and_then(|value| value.first_chunk()).map(|bytes| u64::from_ne_bytes(*bytes)),
        id: body.get(ID)?.try_into().ok()?,
    })
}

/// The value of the attribute of this kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let value = attributes.get(4..usize::from(length))?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(usize::from(length).next_multiple_of(4)..)?;
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_ne_bytes(*two))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_ne_bytes(*four))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn inode(fd: &impl std::os::fd::AsFd) -> u32 {
        let copy = fd.as_fd().try_clone_to_owned().unwrap();
        u32::try_from(std::fs::File::from(copy).metadata().unwrap().ino()).unwrap()
    }

    #[test]
    fn sockets_are_listed_with_their_cgroup_and_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        udp.connect(udp.local_addr().unwrap()).unwrap();
        let diag = SockDiag::open().unwrap();
        let all = diag.sockets().unwrap();
        let of = |inode: u32| all.iter().find(|socket| socket.inode == inode).unwrap();
        assert!(of(inode(&listener)).listening && !of(inode(&stream)).listening);
        assert!(of(inode(&stream)).cgroup_id.is_some());

        assert!(diag.destroy(of(inode(&stream))).unwrap());
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(diag.destroy(of(inode(&udp))).unwrap());
        assert!(udp.send(b"x").is_err());
        assert!(!diag.destroy(of(inode(&stream))).unwrap(), "it is gone by now");
    }

    #[test]
    fn unix_sockets_tell_whom_they_are_connected_to() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let all = SockDiag::open().unwrap().unix_sockets().unwrap();
        assert!(all.contains(&(inode(&a), Some(inode(&b)))), "{all:?}");
    }
}

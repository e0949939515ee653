//! Sockets below or beside TCP and UDP.

use crate::sys::{in4, in6, outward_link, receive, sendto, socket};
use crate::{Attempt, Stage, Verdict};

const ANSWER_MS: i32 = 250;
/// ICMP echo request, with a checksum that is right for an empty one with id and sequence zero.
const ECHO: [u8; 8] = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
const ECHO6: [u8; 8] = [128, 0, 0, 0, 0, 0, 0, 1];

pub(crate) fn ping_dgram(stage: &Stage) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
    sendto(&fd, &ECHO, 0, &in4(stage.v4()?, 0))?;
    answered(fd.0)
}

pub(crate) fn ping6_dgram(stage: &Stage) -> Attempt {
    let fd = socket(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6)?;
    sendto(&fd, &ECHO6, 0, &in6(stage.v6()?, 0))?;
    answered(fd.0)
}

pub(crate) fn icmp_raw(stage: &Stage) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
    sendto(&fd, &ECHO, 0, &in4(stage.v4()?, 0))?;
    answered(fd.0)
}

/// A whole IPv4 packet of our own making.
pub(crate) fn hdrincl(stage: &Stage) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(stage.v4()?.octets());
    packet.extend(ECHO);
    sendto(&fd, &packet, 0, &in4(stage.v4()?, 0))?;
    Ok(Verdict::Out("the kernel took a raw packet".to_owned()))
}

/// A frame for everybody on the cable.
pub(crate) fn packet(_: &Stage) -> Attempt {
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
    sendto(&fd, b"AF_PACKET was here", 0, &address)?;
    Ok(Verdict::Out("the kernel took a frame".to_owned()))
}

/// On a virtual machine this is a line to the hypervisor; any user may draw it.
pub(crate) fn vsock(_: &Stage) -> Attempt {
    let _fd = socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)?;
    Ok(Verdict::Out("made a VSOCK socket".to_owned()))
}

/// Every family but those an agent needs. One that can be made is one too many.
pub(crate) fn odd_families(_: &Stage) -> Attempt {
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

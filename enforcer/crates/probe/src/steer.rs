//! Options and control messages that steer packets: routes, interfaces, sources, a handshake left out.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::dgram::{PORT, sent, udp};
use crate::stream::{go, heard, tcp};
use crate::sys::{bind, check, connect, in4, in6, outward_link, send, sendmsg, setsockopt};
use crate::{Attempt, Targets, Verdict};

const TCP_REPAIR: i32 = 19;
const IP_UNICAST_IF: i32 = 50;
/// Where a packet says it goes while its route says otherwise.
const FAR4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
/// Whose address `ip-transparent` borrows.
const BORROWED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);

/// Loose source route: the SYN goes to the first hop whatever the destination says.
pub(crate) fn lsrr(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    setsockopt(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &loose_route(to.v4()?))?;
    go(&fd, &in4(FAR4, 443))?;
    heard(&fd)
}

fn loose_route(hop: Ipv4Addr) -> [u8; 12] {
    let [a, b, c, d] = hop.octets();
    // NOP, type 131, length 11, pointer 4, one hop and room for the final destination.
    [1, 131, 11, 4, a, b, c, d, 0, 0, 0, 0]
}

/// Segment routing header (type 4) with the attacker as the first segment.
fn segments(hop: Ipv6Addr) -> [u8; 40] {
    let mut header = [0u8; 40];
    // next header, length in units of 8, type, segments left, last entry
    header[1..5].copy_from_slice(&[4, 4, 1, 1]);
    header[24..40].copy_from_slice(&hop.octets());
    header
}

pub(crate) fn rthdr(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET6)?;
    setsockopt(&fd, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, &segments(to.v6()?))?;
    go(&fd, &in6(FAR6, 443))?;
    heard(&fd)
}

pub(crate) fn bindtodevice(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    let (link, _) = outward_link()?;
    // SAFETY: the buffer is the name's own, with its length.
    let result = unsafe {
        libc::setsockopt(
            fd.0,
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            link.as_ptr().cast(),
            link.len() as u32,
        )
    };
    check("SO_BINDTODEVICE", result)?;
    go(&fd, &in4(to.v4()?, 443))?;
    heard(&fd)
}

/// With a source address that is not ours.
pub(crate) fn transparent(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    setsockopt(&fd, libc::IPPROTO_IP, libc::IP_TRANSPARENT, &1i32)?;
    bind(&fd, &in4(BORROWED, 0))?;
    go(&fd, &in4(to.v4()?, 443))?;
    heard(&fd)
}

/// Established by decree, so that no SYN is there to be looked at.
pub(crate) fn repair(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    setsockopt(&fd, libc::IPPROTO_TCP, TCP_REPAIR, &1i32)?;
    bind(&fd, &in4(Ipv4Addr::UNSPECIFIED, 0))?;
    connect(&fd, &in4(to.v4()?, 443))?;
    setsockopt(&fd, libc::IPPROTO_TCP, TCP_REPAIR, &0i32)?;
    send(fd.0, &to.payload("without a handshake"))?;
    heard(&fd)
}

pub(crate) fn udp_lsrr(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    setsockopt(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &loose_route(to.v4()?))?;
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &in4(FAR4, PORT))?;
    sent(&fd)
}

/// What no hook for socket options sees.
pub(crate) fn udp_lsrr_cmsg(to: &Targets) -> Attempt {
    const IP_RETOPTS: i32 = 7;
    let fd = udp(libc::AF_INET)?;
    let beside = (libc::IPPROTO_IP, IP_RETOPTS, loose_route(to.v4()?));
    sendmsg(&fd, &to.payload("hello"), &in4(FAR4, PORT), &beside)?;
    sent(&fd)
}

pub(crate) fn udp_rthdr(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET6)?;
    setsockopt(&fd, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, &segments(to.v6()?))?;
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &in6(FAR6, PORT))?;
    sent(&fd)
}

/// Beside a message the kernel takes the header of mobile hosts (type 2) alone.
pub(crate) fn udp_rthdr_cmsg(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET6)?;
    let mut header = [0u8; 24];
    header[1..4].copy_from_slice(&[2, 2, 1]);
    header[8..24].copy_from_slice(&to.v6()?.octets());
    let beside = (libc::IPPROTO_IPV6, libc::IPV6_RTHDR, header);
    sendmsg(&fd, &to.payload("hello"), &in6(FAR6, PORT), &beside).map_err(|refused| {
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EINVAL) => Verdict::Absent("no routing header beside a message".to_owned()),
            _ => refused,
        }
    })?;
    sent(&fd)
}

pub(crate) fn udp_pktinfo(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    let none = libc::in_addr { s_addr: 0 };
    let info = libc::in_pktinfo { ipi_ifindex: outward_link()?.1 as i32, ipi_spec_dst: none, ipi_addr: none };
    sendmsg(&fd, &to.payload("hello"), &in4(to.v4()?, PORT), &(libc::IPPROTO_IP, libc::IP_PKTINFO, info))?;
    sent(&fd)
}

pub(crate) fn udp_unicast_if(to: &Targets) -> Attempt {
    let fd = udp(libc::AF_INET)?;
    setsockopt(&fd, libc::IPPROTO_IP, IP_UNICAST_IF, &outward_link()?.1.to_be())?;
    crate::sys::sendto(&fd, &to.payload("hello"), 0, &in4(to.v4()?, PORT))?;
    sent(&fd)
}

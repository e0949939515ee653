//! Packet sockets, for those who watch what leaves.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, Protocol, RawProtocol, SocketFlags, SocketType};

use super::check;

/// `ETH_P_ALL` in network order, as socket(2) wants it.
const ALL: u32 = (libc::ETH_P_ALL as u16).to_be() as u32;

/// A socket that sees every frame of its namespace, in and out, without its link-layer header.
pub(crate) fn every_frame() -> io::Result<OwnedFd> {
    let protocol = RawProtocol::new(ALL).map(Protocol::from_raw);
    Ok(rustix::net::socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, protocol)?)
}

/// Leaves of a packet socket's frames those for 198.18.0.0/15 and 2001:2::/48.
pub(crate) fn only_benchmarking_networks(socket: BorrowedFd<'_>) -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    /// The packet's protocol, which is no part of its bytes (linux/filter.h: SKF_AD_OFF + SKF_AD_PROTOCOL).
    const PROTOCOL: u32 = (-0x1000i32) as u32;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Jumps count from the next step; the last two refuse and accept.
    let mut program = [
        step(LOAD, 0, 0, PROTOCOL),
        step(EQUALS, 0, 3, libc::ETH_P_IP as u32),
        step(LOAD, 0, 0, 16),
        step(AND, 0, 0, 0xfffe_0000),
        step(EQUALS, 7, 6, 0xc612_0000),
        step(EQUALS, 0, 5, libc::ETH_P_IPV6 as u32),
        step(LOAD, 0, 0, 24),
        step(EQUALS, 0, 3, 0x2001_0002),
        step(LOAD, 0, 0, 28),
        step(AND, 0, 0, 0xffff_0000),
        step(EQUALS, 1, 0, 0),
        step(RETURN, 0, 0, 0),
        step(RETURN, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call, its length is its own, and the kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    check(result.into()).map(drop)
}

/// Frames that a packet socket had no room for since the last time it was asked.
pub(crate) fn frames_lost(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // `struct tpacket_stats`: packets, drops.
    let mut statistics = [0u32; 2];
    let mut length = size_of_val(&statistics) as libc::socklen_t;
    // SAFETY: two words and their size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            statistics.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    check(result.into())?;
    Ok(statistics[1])
}

/// Sends an IPv4 packet for 198.18.0.0 over `lo`, where it ends: nobody on the host has that address.
pub(crate) fn frame_on_loopback(content: &[u8]) -> io::Result<()> {
    let socket = every_frame()?;
    let length = (20 + content.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 1, 253, 0, 0, 198, 18, 255, 254, 198, 18, 0, 0]);
    packet.extend(content);
    // SAFETY: all-zero is a valid link-layer address.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    to.sll_ifindex = 1;
    to.sll_halen = 6;
    // SAFETY: both buffers are borrowed for the call, with their own lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    check(sent as i64).map(drop)
}

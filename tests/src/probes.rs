//! The table of ways out: what each one is, how it leaks when nothing guards, and who judges.
//!
//! `enforcer/docs/bypasses.md` is this table in words; a test keeps the two together.

use std::net::IpAddr;

use crate::packet::{ICMP, ICMP6, IGMP, PROBE_GROUP_V4, PROBE_GROUP_V6, Packet, TCP, UDP, UDPLITE};
use crate::world::plan;

/// How the attempt fares with the guard off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    /// It leaks for an ordinary user.
    Leaks,
    /// It leaks for root: an ordinary user is refused by the kernel anyway, and the guard must not change that.
    LeaksAsRoot,
    /// It cannot leak without the guard either, for this reason.
    Structural(&'static str),
}

/// Who says that it leaked.
#[derive(Clone, Copy)]
pub enum Judge {
    /// The counter outside saw such a packet.
    Packet(fn(&Packet) -> bool),
    /// The probe's exit code is 0: what it reaches is on this host.
    Exit,
}

/// What must be there for the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// Descriptor 7 is a connected UDP socket when the command is started.
    InheritedFd,
    /// Standard input is one.
    InheritedStdin,
    /// A process of the same user outside, which holds a socket.
    Victim,
    /// Another agent that serves on its loopback.
    OtherAgent,
}

#[derive(Clone, Copy)]
pub struct Probe {
    /// As `probe list` has it.
    pub name: &'static str,
    pub off: Off,
    pub judge: Judge,
    pub needs: Needs,
}

const fn packet(name: &'static str, judge: fn(&Packet) -> bool) -> Probe {
    Probe { name, off: Off::Leaks, judge: Judge::Packet(judge), needs: Needs::Nothing }
}

const fn here(name: &'static str) -> Probe {
    Probe { name, off: Off::Leaks, judge: Judge::Exit, needs: Needs::Nothing }
}

impl Probe {
    const fn root(self) -> Self {
        Probe { off: Off::LeaksAsRoot, ..self }
    }

    const fn structural(self, why: &'static str) -> Self {
        Probe { off: Off::Structural(why), ..self }
    }

    const fn needs(self, needs: Needs) -> Self {
        Probe { needs, ..self }
    }
}

/// Every way there is a probe for.
pub const PROBES: &[Probe] = &[
    packet("tcp4", |p| tcp4(p, 443)),
    packet("tcp6", |p| tcp6(p, 443)),
    packet("tcp4-mapped", |p| tcp4(p, 443)),
    packet("tcp-other-port", |p| tcp4(p, 8443)),
    packet("tcp-bound-source", |p| tcp4(p, 22)),
    packet("tcp-after-unspec", |p| tcp4(p, 443)),
    packet("fastopen-sendto", |p| tcp4(p, 443)),
    packet("fastopen-connect", |p| tcp4(p, 443)),
    packet("mptcp", |p| tcp4(p, 443)),
    // Older kernels allow a source route to everybody, newer ones ask for CAP_NET_RAW.
    packet("lsrr", |p| is(p, TCP, plan::ATTACKER_V4.into(), 443) && routed(p)).root(),
    packet("rthdr", |p| is(p, TCP, plan::ATTACKER_V6.into(), 443) && routed(p)),
    packet("bindtodevice", |p| tcp4(p, 443)),
    packet("dot-853", |p| tcp4(p, 853)),
    packet("dns-tcp", |p| tcp4(p, 53)),
    packet("metadata", |p| is(p, TCP, plan::METADATA_V4.into(), 80)),
    here("host-loopback"),
    here("host-address"),
    here("agent-loopback").needs(Needs::OtherAgent),
    here("injector-direct").structural("there is no injector without the guard"),
    here("injector-bind").root(),
    packet("udp-connect", |p| udp4(p, 4444)),
    packet("udp-sendto", |p| udp4(p, 4444)),
    packet("udp-sendmmsg", |p| udp4(p, 4444)),
    packet("udp-gso", |p| udp4(p, 4444)),
    packet("udp6", |p| is(p, UDP, plan::ATTACKER_V6.into(), 4444)),
    packet("udp6-mapped", |p| udp4(p, 4444)),
    packet("udp-unspec", |p| udp4(p, 4444)),
    packet("udp-lsrr", |p| udp4(p, 4444) && routed(p)).root(),
    packet("udplite", |p| is(p, UDPLITE, plan::ATTACKER_V4.into(), 4444)),
    packet("quic-443", |p| udp4(p, 443)),
    packet("dns-tunnel", |p| udp4(p, 53) && p.contains(b"c2VjcmV0")),
    packet("multicast", |p| is(p, UDP, IpAddr::from([239, 1, 2, 3]), 5000)),
    packet("broadcast", |p| is(p, UDP, IpAddr::from([255, 255, 255, 255]), 5000)),
    packet("igmp-join", |p| protocol(p) == Some(IGMP) && p.contains(&PROBE_GROUP_V4.octets())),
    packet("mld-join", |p| protocol(p) == Some(ICMP6) && p.contains(&PROBE_GROUP_V6.octets())),
    packet("so-mark", |p| udp4(p, 4444) && p.contains(b"marked")).root(),
    packet("inherited-fd", |p| udp4(p, 4444) && p.contains(b"inherited")).needs(Needs::InheritedFd),
    packet("inherited-stdin", |p| udp4(p, 4444) && p.contains(b"inherited")).needs(Needs::InheritedStdin),
    packet("icmp-ping-dgram", |p| is(p, ICMP, plan::ATTACKER_V4.into(), 0)),
    packet("icmp6-ping-dgram", |p| is(p, ICMP6, plan::ATTACKER_V6.into(), 0)),
    packet("icmp-raw", |p| is(p, ICMP, plan::ATTACKER_V4.into(), 0)).root(),
    packet("raw-hdrincl", |p| is(p, ICMP, plan::ATTACKER_V4.into(), 0)).root(),
    packet("packet", |p| p.contains(b"AF_PACKET was here")).root(),
    here("vsock"),
    here("odd-families").root(),
    packet("io-uring-connect", |p| tcp4(p, 443)),
    packet("io-uring-sendmsg", |p| udp4(p, 4444) && p.contains(b"by ring")),
    here("netlink-route").root(),
    packet("unshare-netns", |p| udp4(p, 4444)).structural("a namespace of one's own leads nowhere"),
    packet("setns-host", |p| udp4(p, 4444)).root(),
    here("cgroup-procs").root(),
    here("bpf-pins").root(),
    here("unix-abstract"),
    here("unix-path"),
    here("docker-sock"),
    packet("scm-rights", |p| udp4(p, 4444) && p.contains(b"handed over")),
    here("ptrace-outside").needs(Needs::Victim),
    packet("pidfd-getfd", |p| udp4(p, 4444) && p.contains(b"taken")).needs(Needs::Victim),
];

fn tcp4(p: &Packet, port: u16) -> bool {
    is(p, TCP, plan::ATTACKER_V4.into(), port)
}

fn tcp6(p: &Packet, port: u16) -> bool {
    is(p, TCP, plan::ATTACKER_V6.into(), port)
}

fn udp4(p: &Packet, port: u16) -> bool {
    is(p, UDP, plan::ATTACKER_V4.into(), port)
}

fn is(p: &Packet, protocol: u8, to: IpAddr, port: u16) -> bool {
    p.ip.is_some_and(|ip| ip.protocol == protocol && ip.destination == to && ip.destination_port == port)
}

fn routed(p: &Packet) -> bool {
    p.ip.is_some_and(|ip| ip.source_routed)
}

fn protocol(p: &Packet) -> Option<u8> {
    p.ip.map(|ip| ip.protocol)
}

//! Who judges the ways out: what a packet looks like that left by each of them.
//!
//! The table of the ways themselves is `enforcer_probe::ROUTES`. `enforcer/docs/bypasses.md` is that table in words;
//! a test keeps all three together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use enforcer_probe::{Needs, ROUTES, Sign};

use crate::packet::{ICMP, ICMP6, IGMP, PROBE_GROUP_V4, PROBE_GROUP_V6, Packet, SCTP, TCP, UDP, UDPLITE};
use crate::world::{Output, World, plan};

/// The counter outside saw such a packet: it left.
pub type Judge = fn(&Packet) -> bool;

/// The judge of each way that is about packets; the others are judged by their exit code.
pub const JUDGES: &[(&str, Judge)] = &[
    ("tcp4", |p| tcp4(p, 443)),
    ("tcp6", |p| tcp6(p, 443)),
    ("tcp4-mapped", |p| tcp4(p, 443)),
    ("tcp6-link-local", |p| is(p, TCP, plan::ATTACKER_LINK_LOCAL.into(), 443)),
    ("tcp-other-port", |p| tcp4(p, 8443)),
    ("tcp-bound-source", |p| tcp4(p, 22)),
    ("tcp-after-unspec", |p| tcp4(p, 443)),
    ("fastopen-sendto", |p| tcp4(p, 443)),
    ("fastopen-connect", |p| tcp4(p, 443)),
    ("mptcp", |p| tcp4(p, 443)),
    ("sctp", |p| is(p, SCTP, plan::ATTACKER_V4.into(), 443)),
    ("lsrr", |p| is(p, TCP, plan::ATTACKER_V4.into(), 443) && routed(p)),
    ("rthdr", |p| is(p, TCP, plan::ATTACKER_V6.into(), 443) && routed(p)),
    ("bindtodevice", |p| tcp4(p, 443)),
    ("ip-transparent", |p| tcp4(p, 443) && from(p, Ipv4Addr::new(198, 51, 100, 77).into())),
    ("tcp-repair", |p| tcp4(p, 443)),
    ("dot-853", |p| tcp4(p, 853)),
    ("dns-tcp", |p| tcp4(p, 53)),
    ("metadata", |p| is(p, TCP, plan::METADATA_V4.into(), 80)),
    ("metadata6", |p| is(p, TCP, Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254).into(), 80)),
    ("metadata-azure", |p| is(p, TCP, Ipv4Addr::new(168, 63, 129, 16).into(), 80)),
    ("udp-connect", |p| udp4(p, 4444)),
    ("udp-sendto", |p| udp4(p, 4444)),
    ("udp-sendmmsg", |p| udp4(p, 4444)),
    ("udp-gso", |p| udp4(p, 4444)),
    ("udp6", |p| is(p, UDP, plan::ATTACKER_V6.into(), 4444)),
    ("udp6-mapped", |p| udp4(p, 4444)),
    ("udp6-link-local", |p| is(p, UDP, plan::ATTACKER_LINK_LOCAL.into(), 4444)),
    ("udp-unspec", |p| udp4(p, 4444)),
    ("udp-lsrr", |p| udp4(p, 4444) && routed(p)),
    ("udp-lsrr-cmsg", |p| udp4(p, 4444) && routed(p)),
    ("udp-rthdr", |p| is(p, UDP, plan::ATTACKER_V6.into(), 4444) && routed(p)),
    ("udp-rthdr-cmsg", |p| is(p, UDP, plan::ATTACKER_V6.into(), 4444) && routed(p)),
    ("udp-pktinfo", |p| udp4(p, 4444)),
    ("udp-unicast-if", |p| udp4(p, 4444)),
    ("udplite", |p| is(p, UDPLITE, plan::ATTACKER_V4.into(), 4444)),
    ("quic-443", |p| udp4(p, 443)),
    ("doq-853", |p| udp4(p, 853)),
    ("dns-tunnel", |p| udp4(p, 53) && p.contains(b"c2VjcmV0")),
    ("multicast", |p| is(p, UDP, IpAddr::from([239, 1, 2, 3]), 5000)),
    ("multicast6", |p| is(p, UDP, Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 0xabcd).into(), 5000)),
    ("broadcast", |p| is(p, UDP, IpAddr::from([255, 255, 255, 255]), 5000)),
    ("igmp-join", |p| protocol(p) == Some(IGMP) && p.contains(&PROBE_GROUP_V4.octets())),
    ("mld-join", |p| protocol(p) == Some(ICMP6) && p.contains(&PROBE_GROUP_V6.octets())),
    ("so-mark", |p| udp4(p, 4444) && p.contains(b"marked")),
    ("inherited-fd", |p| udp4(p, 4444) && p.contains(b"inherited")),
    ("inherited-stdin", |p| udp4(p, 4444) && p.contains(b"inherited")),
    ("icmp-ping-dgram", |p| is(p, ICMP, plan::ATTACKER_V4.into(), 0)),
    ("icmp6-ping-dgram", |p| is(p, ICMP6, plan::ATTACKER_V6.into(), 0)),
    ("icmp-raw", |p| is(p, ICMP, plan::ATTACKER_V4.into(), 0)),
    ("icmp6-raw", |p| is(p, ICMP6, plan::ATTACKER_V6.into(), 0)),
    ("raw-hdrincl", |p| is(p, ICMP, plan::ATTACKER_V4.into(), 0)),
    ("raw6-hdrincl", |p| is(p, ICMP6, plan::ATTACKER_V6.into(), 0)),
    ("raw-gre", |p| protocol(p) == Some(47) && p.contains(b"gre")),
    ("packet", |p| p.contains(b"AF_PACKET was here")),
    ("io-uring-connect", |p| tcp4(p, 443)),
    ("io-uring-socket", |p| tcp4(p, 443)),
    ("io-uring-sqpoll", |p| tcp4(p, 443)),
    ("io-uring-sendmsg", |p| udp4(p, 4444) && p.contains(b"by ring")),
    ("unshare-netns", |p| udp4(p, 4444)),
    ("unshare-userns-raw", |p| is(p, ICMP, plan::ATTACKER_V4.into(), 0)),
    ("netns-relay", |p| udp4(p, 4444) && p.contains(b"by relay")),
    ("setns-host", |p| udp4(p, 4444)),
    ("scm-rights", |p| udp4(p, 4444) && p.contains(b"handed over")),
    ("pidfd-getfd", |p| udp4(p, 4444) && p.contains(b"taken")),
];

/// Every way that would put a packet on the cable, tried one after the other by `run`, which is given the words of a command of
/// `program`; names of those that did, and what each said.
pub fn leaking(
    world: &World,
    program: &str,
    run: impl Fn(&[String]) -> Result<Output>,
) -> Result<(Vec<&'static str>, String)> {
    let mut leaking = Vec::new();
    let mut said = String::new();
    for route in ROUTES.iter().filter(|route| route.needs == Needs::Nothing && route.sign == Sign::Packet) {
        let mark = world.sniffer.mark();
        let line = [&[program.to_owned(), route.name.to_owned()][..], &places(world)].concat();
        let output = run(&line)?;
        said.push_str(&format!("{:<18} {}\n", route.name, output.all().trim()));
        // The kernel repeats the report of an earlier join when it likes.
        let joins = ["igmp-join", "mld-join"].contains(&route.name);
        if world.sniffer.since(mark).iter().any(|packet| joins || !packet.is_group_report()) {
            leaking.push(route.name);
        }
    }
    Ok((leaking, said))
}

/// Where everything is that a way may lead to, in the words of the probe.
pub fn places(world: &World) -> Vec<String> {
    vec![
        format!("v4={}", plan::ATTACKER_V4),
        format!("v6={}", plan::ATTACKER_V6),
        format!("host={}", plan::HOST_V4),
        format!("ll6={}", plan::ATTACKER_LINK_LOCAL),
        format!("group4={PROBE_GROUP_V4}"),
        format!("group6={PROBE_GROUP_V6}"),
        format!("name={}", plan::API),
        format!("netns={}", world.host_netns.display()),
    ]
}

/// The judge of this way, if it is about packets.
pub fn judge(name: &str) -> Option<Judge> {
    JUDGES.iter().find(|(known, _)| *known == name).map(|(_, judge)| *judge)
}

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

fn from(p: &Packet, source: IpAddr) -> bool {
    p.ip.is_some_and(|ip| ip.source == source)
}

fn routed(p: &Packet) -> bool {
    p.ip.is_some_and(|ip| ip.source_routed)
}

fn protocol(p: &Packet) -> Option<u8> {
    p.ip.map(|ip| ip.protocol)
}

//! Just enough of Ethernet, IPv4 and IPv6 to say what a packet is.
//!
//! Lenient by intent: a packet that cannot be read is still a packet that left.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

pub const ICMP: u8 = 1;
pub const IGMP: u8 = 2;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP6: u8 = 58;
pub const SCTP: u8 = 132;
pub const UDPLITE: u8 = 136;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// One frame as the outside saw it.
#[derive(Clone, Debug)]
pub struct Packet {
    pub arrived: Instant,
    pub source_mac: [u8; 6],
    pub ethertype: u16,
    pub ip: Option<Ip>,
    pub bytes: Vec<u8>,
}

/// What its IP header says.
#[derive(Clone, Copy, Debug)]
pub struct Ip {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// After IPv6 extension headers.
    pub protocol: u8,
    /// Zero where the protocol has none.
    pub destination_port: u16,
    /// IPv4 options, or an IPv6 routing header.
    pub source_routed: bool,
    /// First byte after the IP headers: the type of an ICMP message.
    pub first: u8,
}

impl Packet {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let source_mac = bytes.get(6..12)?.try_into().ok()?;
        let ethertype = be16(bytes, 12)?;
        let ip = match ethertype {
            IPV4 => ipv4(bytes.get(14..)?),
            IPV6 => ipv6(bytes.get(14..)?),
            _ => None,
        };
        Some(Packet { arrived: Instant::now(), source_mac, ethertype, ip, bytes: bytes.to_vec() })
    }

    /// The kernel's own housekeeping, which no process asked for: ARP, neighbour and router
    /// discovery, and multicast reports for the addresses every interface has.
    pub fn is_housekeeping(&self) -> bool {
        match self.ip {
            None => self.ethertype == ARP,
            Some(ip) if ip.protocol == ICMP6 => {
                matches!(ip.first, 133..=136)
                    || (self.is_group_report() && !self.contains(&PROBE_GROUP_V6.octets()))
            }
            Some(_) => false,
        }
    }

    /// Says who is in a multicast group: IGMP, or MLD's reports and its goodbye (RFC 2710, RFC 9777).
    pub fn is_group_report(&self) -> bool {
        self.ip.is_some_and(|ip| {
            ip.protocol == IGMP || (ip.protocol == ICMP6 && matches!(ip.first, 131 | 132 | 143))
        })
    }

    /// The source port of a TCP reset over IPv4.
    pub fn tcp_reset_from(&self) -> Option<u16> {
        const RST: u8 = 4;
        let ip = self.bytes.get(14..).filter(|_| self.ip.is_some_and(|ip| ip.protocol == TCP))?;
        let tcp = ip.get(usize::from(ip.first()? & 0x0f) * 4..)?;
        (*tcp.get(13)? & RST != 0).then(|| be16(tcp, 0)).flatten()
    }

    pub fn contains(&self, needle: &[u8]) -> bool {
        self.bytes.windows(needle.len()).any(|w| w == needle)
    }
}

/// The IPv6 group that the `mld-join` probe joins; a report for it is not housekeeping.
pub const PROBE_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0x7777, 0x7777);
/// The IPv4 group that the `igmp-join` probe joins.
pub const PROBE_GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 7, 7, 7);

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => {
                write!(f, "{} > {}", ip.source, ip.destination)?;
                write!(f, " proto {} port {}", ip.protocol, ip.destination_port)?;
                if ip.source_routed { f.write_str(" source-routed") } else { Ok(()) }
            }
            None => write!(f, "ethertype {:#06x}, {} bytes", self.ethertype, self.bytes.len()),
        }
    }
}

fn ipv4(b: &[u8]) -> Option<Ip> {
    let header = usize::from(b.first()? & 0x0f) * 4;
    let protocol = *b.get(9)?;
    Some(Ip {
        source: Ipv4Addr::from(<[u8; 4]>::try_from(b.get(12..16)?).ok()?).into(),
        destination: Ipv4Addr::from(<[u8; 4]>::try_from(b.get(16..20)?).ok()?).into(),
        protocol,
        destination_port: port(protocol, b, header),
        // IGMP always carries Router Alert; only a longer header is a route.
        source_routed: header > 24,
        first: b.get(header).copied().unwrap_or(0),
    })
}

fn ipv6(b: &[u8]) -> Option<Ip> {
    let source = Ipv6Addr::from(<[u8; 16]>::try_from(b.get(8..24)?).ok()?).into();
    let destination = Ipv6Addr::from(<[u8; 16]>::try_from(b.get(24..40)?).ok()?).into();
    let (mut protocol, mut at, mut source_routed) = (*b.get(6)?, 40, false);
    // Hop-by-hop, routing, destination options: length in units of 8 after the first 8 bytes.
    while matches!(protocol, 0 | 43 | 60) {
        source_routed |= protocol == 43;
        let (Some(next), Some(units)) = (b.get(at), b.get(at + 1)) else { break };
        protocol = *next;
        at += (usize::from(*units) + 1) * 8;
    }
    let first = b.get(at).copied().unwrap_or(0);
    Some(Ip { source, destination, protocol, destination_port: port(protocol, b, at), source_routed, first })
}

fn port(protocol: u8, b: &[u8], at: usize) -> u16 {
    match protocol {
        TCP | UDP | UDPLITE | SCTP => be16(b, at + 2).unwrap_or(0),
        _ => 0,
    }
}

fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(ethertype: u16, rest: &[u8]) -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        f.extend(ethertype.to_be_bytes());
        f.extend(rest);
        f
    }

    #[test]
    fn reads_ports_behind_ipv4_options() {
        let mut ip = vec![0x47, 0, 0, 0, 0, 0, 0, 0, 64, TCP, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        ip.extend([131, 7, 4, 9, 9, 9, 9, 0]);
        ip.extend([0x30, 0x39, 0x01, 0xbb]);
        let packet = Packet::parse(&frame(IPV4, &ip)).unwrap();
        let seen = packet.ip.unwrap();
        assert_eq!((seen.destination_port, seen.source_routed), (443, true));
        assert_eq!(seen.destination.to_string(), "5.6.7.8");
        assert!(!packet.is_housekeeping());
    }

    #[test]
    fn walks_ipv6_extension_headers() {
        let mut ip = vec![0x60, 0, 0, 0, 0, 0, 43, 64];
        ip.extend([0; 32]);
        ip.extend([UDP, 0, 4, 0, 0, 0, 0, 0]);
        ip.extend([0, 1, 0, 53, 0, 0, 0, 0]);
        let seen = Packet::parse(&frame(IPV6, &ip)).unwrap().ip.unwrap();
        assert_eq!((seen.protocol, seen.destination_port, seen.source_routed), (UDP, 53, true));
    }

    #[test]
    fn a_report_for_the_probe_group_is_no_housekeeping() {
        let mut ip = vec![0x60, 0, 0, 0, 0, 0, 0, 1];
        ip.extend([0; 32]);
        ip.extend([ICMP6, 0, 5, 2, 0, 0, 1, 0, 143, 0]);
        assert!(Packet::parse(&frame(IPV6, &ip)).unwrap().is_housekeeping());
        ip.extend(PROBE_GROUP_V6.octets());
        assert!(!Packet::parse(&frame(IPV6, &ip)).unwrap().is_housekeeping());
    }

    #[test]
    fn an_unreadable_frame_still_counts() {
        let packet = Packet::parse(&frame(IPV4, &[0x45])).unwrap();
        assert!(packet.ip.is_none() && !packet.is_housekeeping());
    }
}

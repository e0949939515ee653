//! Special-purpose addresses: the ones no name may lead an agent to.
//!
//! Asked about the very address that is dialled, after IPv4 inside IPv6 was unwrapped. What is
//! neither listed here nor global unicast is special too: unknown is no. This file knows no policy
//! but the list of networks one hands in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// IPv4 ranges of the IANA special-purpose registry that are not plain internet hosts, and the
/// addresses of metadata services that look as if they were. The narrowest stands first.
const V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(169, 254, 169, 254), 32, METADATA),
    (Ipv4Addr::new(169, 254, 170, 2), 32, METADATA),
    (Ipv4Addr::new(169, 254, 170, 23), 32, METADATA),
    (Ipv4Addr::new(168, 63, 129, 16), 32, METADATA),
    (Ipv4Addr::new(100, 100, 100, 200), 32, METADATA),
    (Ipv4Addr::new(192, 0, 0, 192), 32, METADATA),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, PRIVATE),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier-grade NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, LOOPBACK),
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL),
    (Ipv4Addr::new(172, 16, 0, 0), 12, PRIVATE),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, PRIVATE),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(203, 0, 113, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(224, 0, 0, 0), 4, MULTICAST),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// The same for IPv6. Tunnels (6to4, Teredo) are refused whole: both ends of them are IPv4
/// addresses that somebody else chose.
const V6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 128, "unspecified"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 1), 128, LOOPBACK),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96, "IPv4-compatible"),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96, "IPv4-translated"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "local NAT64"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "discard-only"),
    (Ipv6Addr::new(0x100, 0, 0, 1, 0, 0, 0, 0), 64, "dummy prefix"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "Teredo tunnel"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "protocol assignments"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, DOCUMENTATION),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4 tunnel"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, DOCUMENTATION),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, "segment routing"),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32, METADATA),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128, METADATA),
    (Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128, METADATA),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, PRIVATE),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, LINK_LOCAL),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, MULTICAST),
];

const METADATA: &str = "cloud metadata";
const LOOPBACK: &str = "loopback";
const PRIVATE: &str = "private network";
const LINK_LOCAL: &str = "link-local";
const DOCUMENTATION: &str = "documentation";
const MULTICAST: &str = "multicast";

/// Is this address special (loopback, private, link-local, metadata, multicast, documentation,
/// embedded IPv4 of such …)? Returns the reason. Used on the very address dialled.
pub fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => special_v4(v4),
            None => special_v6(v6),
        },
    }
}

/// As [`special`], but the networks that a policy names (`dns.private_addresses`) are no longer special.
pub fn forbidden(address: IpAddr, named: &[IpNet]) -> Option<&'static str> {
    let plain = address.to_canonical();
    if named.iter().any(|net| net.contains(&plain)) {
        return None;
    }
    special(plain)
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = u32::from(address);
    V4.iter()
        .find(|(base, prefix, _)| (bits ^ u32::from(*base)).leading_zeros() >= *prefix)
        .map(|(_, _, reason)| *reason)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = u128::from(address);
    let listed = V6
        .iter()
        .find(|(base, prefix, _)| (bits ^ u128::from(*base)).leading_zeros() >= *prefix)
        .map(|(_, _, reason)| *reason);
    if listed.is_some() {
        return listed;
    }
    let segments = address.segments();
    let [.., high, low] = segments;
    let embedded = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match segments {
        // The well-known NAT64 prefix (RFC 6052): the network translates to the address at the end.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => special_v4(embedded),
        // ISATAP (RFC 5214): a tunnel to the address at the end, under any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => special_v4(embedded).or(Some("ISATAP tunnel")),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("not global unicast"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_form_is_named() {
        let table = [
            ("0.0.0.0", "this network"),
            ("0.0.0.1", "this network"),
            ("0.255.255.255", "this network"),
            ("10.0.0.0", PRIVATE),
            ("10.255.255.255", PRIVATE),
            ("100.64.0.1", "carrier-grade NAT"),
            ("100.127.255.255", "carrier-grade NAT"),
            ("100.100.100.200", METADATA),
            ("127.0.0.1", LOOPBACK),
            ("127.0.0.53", LOOPBACK),
            ("127.1.2.3", LOOPBACK),
            ("127.255.255.255", LOOPBACK),
            ("168.63.129.16", METADATA),
            ("169.254.169.254", METADATA),
            ("169.254.170.2", METADATA),
            ("169.254.170.23", METADATA),
            ("169.254.0.1", LINK_LOCAL),
            ("169.254.255.255", LINK_LOCAL),
            ("172.16.0.1", PRIVATE),
            ("172.31.255.255", PRIVATE),
            ("192.0.0.1", "protocol assignments"),
            ("192.0.0.8", "protocol assignments"),
            ("192.0.0.192", METADATA),
            ("192.0.2.1", DOCUMENTATION),
            ("192.88.99.1", "6to4 relay"),
            ("192.168.0.1", PRIVATE),
            ("192.168.255.255", PRIVATE),
            ("198.18.0.1", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("198.51.100.7", DOCUMENTATION),
            ("203.0.113.7", DOCUMENTATION),
            ("224.0.0.1", MULTICAST),
            ("239.255.255.255", MULTICAST),
            ("240.0.0.1", "reserved"),
            ("255.255.255.254", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", LOOPBACK),
            ("::2", "IPv4-compatible"),
            ("::7f00:1", "IPv4-compatible"),
            ("::127.0.0.1", "IPv4-compatible"),
            ("::8.8.8.8", "IPv4-compatible"),
            ("::ffff:127.0.0.1", LOOPBACK),
            ("::ffff:10.1.2.3", PRIVATE),
            ("::ffff:169.254.169.254", METADATA),
            ("::ffff:168.63.129.16", METADATA),
            ("::ffff:0.0.0.0", "this network"),
            ("::ffff:0:127.0.0.1", "IPv4-translated"),
            ("::ffff:0:8.8.8.8", "IPv4-translated"),
            ("64:ff9b::127.0.0.1", LOOPBACK),
            ("64:ff9b::10.0.0.1", PRIVATE),
            ("64:ff9b::169.254.169.254", METADATA),
            ("64:ff9b:1::1", "local NAT64"),
            ("100::1", "discard-only"),
            ("100:0:0:1::1", "dummy prefix"),
            ("2001::1", "Teredo tunnel"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo tunnel"),
            ("2001:2::1", "protocol assignments"),
            ("2001:10::1", "protocol assignments"),
            ("2001:20::1", "protocol assignments"),
            ("2001:1ff::1", "protocol assignments"),
            ("2001:db8::1", DOCUMENTATION),
            ("2002:7f00:1::1", "6to4 tunnel"),
            ("2002:a00:1::", "6to4 tunnel"),
            ("2002:808:808::1", "6to4 tunnel"),
            ("3fff::1", DOCUMENTATION),
            ("5f00::1", "segment routing"),
            ("fc00::1", PRIVATE),
            ("fd12:3456:789a::1", PRIVATE),
            ("fd00:ec2::254", METADATA),
            ("fd00:ec2::23", METADATA),
            ("fd20:ce::254", METADATA),
            ("fd00:c1::a9fe:a9fe", METADATA),
            ("fe80::1", LINK_LOCAL),
            ("febf::1", LINK_LOCAL),
            ("fec0::1", "site-local"),
            ("ff02::1", MULTICAST),
            ("ff0e::1", MULTICAST),
            ("2a00:1450::5efe:127.0.0.1", LOOPBACK),
            ("2a00:1450::200:5efe:8.8.8.8", "ISATAP tunnel"),
            ("400::1", "not global unicast"),
            ("4000::1", "not global unicast"),
            ("8000::1", "not global unicast"),
            ("e000::1", "not global unicast"),
        ];
        assert!(table.len() >= 70);
        for (text, reason) in table {
            let address: IpAddr = text.parse().expect(text);
            assert_eq!(special(address), Some(reason), "{text}");
        }
    }

    #[test]
    fn plain_internet_hosts_are_not_special() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "168.63.129.15",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:4860:4860::8888",
            "2606:4700:4700::1111",
            "2a00:1450:4001::200e",
        ] {
            let address: IpAddr = text.parse().expect(text);
            assert_eq!(special(address), None, "{text}");
        }
    }

    #[test]
    fn a_policy_may_name_a_network_and_only_that_one() {
        let named = ["10.1.0.0/16".parse().unwrap(), "fd12::/16".parse().unwrap()];
        for text in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1", "8.8.8.8"] {
            assert_eq!(forbidden(text.parse().unwrap(), &named), None, "{text}");
        }
        for text in ["10.2.0.1", "127.0.0.1", "fd13::1", "64:ff9b::10.1.2.3", "169.254.169.254"] {
            assert!(forbidden(text.parse().unwrap(), &named).is_some(), "{text}");
        }
    }
}

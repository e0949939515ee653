//! Where everything on the stage is: names, addresses, ports.
//!
//! The addresses look public on purpose: the product treats private ranges in its own way, and
//! both namespaces are private, so no packet for them ever reaches a real network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The host side of the veth pair, where the daemon lives.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(44, 77, 0, 1);
pub const HOST_V6: Ipv6Addr = v6(1);
/// The workload in a namespace of its own, as in a container, and the outside's end of its cable.
pub const BOX_V4: Ipv4Addr = Ipv4Addr::new(44, 77, 1, 2);
pub const BOX_V6: Ipv6Addr = Ipv6Addr::new(0x2a0e, 0x4477, 0, 1, 0, 0, 0, 2);
pub const BOX_GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(44, 77, 1, 1);
pub const BOX_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2a0e, 0x4477, 0, 1, 0, 0, 0, 1);
/// nginx and the name server.
pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(44, 77, 0, 2);
pub const SERVER_V6: Ipv6Addr = v6(2);
/// A second server's address; nothing listens there until a test starts something.
pub const SHOP_V4: Ipv4Addr = Ipv4Addr::new(44, 77, 0, 3);
pub const SHOP_V6: Ipv6Addr = v6(3);
/// The attacker's machine: says [`BANNER`] on every port listed here.
pub const ATTACKER_V4: Ipv4Addr = Ipv4Addr::new(44, 77, 0, 9);
pub const ATTACKER_V6: Ipv6Addr = v6(9);
/// Made of [`OUTSIDE_MAC`] by the kernel; good on the cable alone.
pub const ATTACKER_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 2);
/// A private address that exists outside, which no policy names.
pub const PRIVATE_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
pub const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The attacker answers TCP on these, at once.
pub const TCP_PORTS: [u16; 6] = [22, 53, 80, 443, 853, 8443];
/// The attacker answers any datagram on these. 53 is a name server besides.
pub const UDP_PORTS: [u16; 3] = [443, 853, 4444];
/// What everything says that an agent should not be able to reach.
pub const BANNER: &str = "OUTSIDE-THE-FENCE";
/// How long the attacker keeps a connection after that: closing at once would reset what the client still sends.
pub const ATTACKER_LINGERS: Duration = Duration::from_millis(300);

/// A service of the host's own on loopback, as a database would be.
pub const HOST_LOOPBACK_PORT: u16 = 5432;
/// A service of the host's own on all its addresses.
pub const HOST_ANY_PORT: u16 = 5433;

/// Where somebody outside keeps knocking on the host's door, for an agent that listens.
pub const INBOUND_PORT: u16 = 7001;

/// Real servers behind nginx.
pub const API: &str = "api.example.test";
pub const OTHER: &str = "other.example.test";
pub const GIT: &str = "git.example.test";
pub const PLAIN: &str = "plain.example.test";
/// At [`SHOP_V4`], for a server that a test brings.
pub const SHOP: &str = "shop.example.test";
/// Its certificate is self-signed.
pub const BAD_CERTIFICATE: &str = "badcert.example.test";
/// Resolves to [`PRIVATE_V4`].
pub const INTERNAL: &str = "internal.example.test";
/// Resolves to 127.0.0.1.
pub const REBOUND: &str = "rebound.example.test";
/// The first question for such a name is answered with [`SERVER_V4`], the next ones with [`PRIVATE_V4`], and no answer may be kept.
pub const TURNING: [&str; 2] = ["turning.example.test", "turning-too.example.test"];
/// Everything below it exists and says [`BANNER`]: an attacker's zone, for tunnels.
pub const TUNNEL_ZONE: &str = "tunnel.test";

/// Everything below it is at [`SERVER_V4`], with one certificate for all: for loads of many names.
pub const MANY_ZONE: &str = "many.test";

const fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2a0e, 0x4477, 0, 0, 0, 0, 0, last)
}

/// The addresses of a name, for the name server. `None`: it does not exist.
pub fn addresses(name: &str) -> Option<Vec<IpAddr>> {
    match name {
        API | OTHER | GIT | PLAIN | BAD_CERTIFICATE => Some(vec![SERVER_V4.into(), SERVER_V6.into()]),
        SHOP => Some(vec![SHOP_V4.into(), SHOP_V6.into()]),
        INTERNAL => Some(vec![PRIVATE_V4.into()]),
        REBOUND => Some(vec![Ipv4Addr::LOCALHOST.into()]),
        _ if name.ends_with(&format!(".{MANY_ZONE}")) => Some(vec![SERVER_V4.into()]),
        _ => name.ends_with(&format!(".{TUNNEL_ZONE}")).then(|| vec![ATTACKER_V4.into(), ATTACKER_V6.into()]),
    }
}

//! Where attempts are made that nothing real may be reached by: namespaces of our own, and a cable that leads out of them to
//! one more, where a witness sits.
//!
//! The far end owns the benchmarking networks (RFC 2544, RFC 5180), so that what gets there is answered with a
//! plain no at once. Nothing here touches the host's own network.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use crate::netns::Netns;
use crate::rtnetlink::{self, LO, Leads};

/// The cable's index at both ends; new namespaces have devices up to a handful, and attempts look at 64.
const CABLE: u32 = 60;
const NEAR4: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);
const NEAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0xff00, 0, 0, 0, 1);

/// Each attempt has addresses of its own, so that a packet tells whose it is.
pub(super) fn target4(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(198, 18, high & 0x7f, low)
}

/// The same in IPv6.
pub(super) fn target6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 2, 0, number & 0x7fff, 0, 0, 0, 9)
}

/// A namespace with `lo` and nothing else, as sessions have, but with ping sockets for everybody, as distributions set it.
pub(super) fn empty() -> io::Result<Netns> {
    let namespace = Netns::unpinned()?;
    namespace.within(|| fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"))?;
    Ok(namespace)
}

/// Lays the cable between a namespace and a new one, in which the far end is; returns the latter.
pub(super) fn lay_cable(near: &Netns) -> io::Result<Netns> {
    let far = Netns::unpinned()?;
    far.within(|| {
        let netlink = rtnetlink::open()?;
        rtnetlink::cable(&netlink, CABLE, near.file.as_fd())?;
        rtnetlink::link_up(&netlink, CABLE, true)?;
        for (network, prefix, back, whole) in [
            (IpAddr::V4(target4(0)), 17, IpAddr::V4(NEAR4), 32),
            (IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0)), 49, IpAddr::V6(NEAR6), 128),
        ] {
            rtnetlink::add_route(&netlink, LO, network, prefix, Leads::Here)?;
            rtnetlink::add_route(&netlink, CABLE, back, whole, Leads::Out)?;
        }
        Ok(())
    })?;
    near.within(|| {
        let netlink = rtnetlink::open()?;
        rtnetlink::link_up(&netlink, CABLE, true)?;
        rtnetlink::add_address(&netlink, CABLE, NEAR4.into(), 32)?;
        rtnetlink::add_address(&netlink, CABLE, NEAR6.into(), 128)?;
        rtnetlink::add_route(&netlink, CABLE, Ipv4Addr::UNSPECIFIED.into(), 0, Leads::Out)?;
        rtnetlink::add_route(&netlink, CABLE, Ipv6Addr::UNSPECIFIED.into(), 0, Leads::Out)
    })?;
    Ok(far)
}

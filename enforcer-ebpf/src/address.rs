//! Destinations, and what a socket address context says about one. No decision is taken here.
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::{INJECTOR_PORT, RESOLVER_PORT, SHARED_PORT_FIRST, SHARED_PORT_LAST};

use crate::maps::Peer;

pub(crate) const AF_INET: u32 = 2;
pub(crate) const AF_INET6: u32 = 10;
pub(crate) const TCP: u32 = 6;
pub(crate) const UDP: u32 = 17;

/// Interface number of `lo`: the first one of every network namespace.
pub(crate) const LOOPBACK_IFINDEX: u32 = 1;

/// Third word of an IPv4-mapped IPv6 address, ::ffff:a.b.c.d.
const MAPPED: u32 = 0xffff_u32.to_be();
const LOOPBACK4: u32 = 0x7f00_0001_u32.to_be();
const LOOPBACK6: [u32; 4] = [0, 0, 0, 1_u32.to_be()];
/// 192.0.0.8 (RFC 7600, IPv4 dummy address) and 100::1 (RFC 6666), put on `lo` of an agent's namespace.
const DUMMY4: u32 = 0xc000_0008_u32.to_be();
const DUMMY6: [u32; 4] = [0x0100_0000_u32.to_be(), 0, 0, 1_u32.to_be()];

/// A port that the injector or the resolver may listen on.
#[inline(always)]
pub(crate) fn is_reserved(port: u16) -> bool {
    matches!(port, INJECTOR_PORT | RESOLVER_PORT | SHARED_PORT_FIRST..=SHARED_PORT_LAST)
}

/// Where something is to go.
#[derive(Clone, Copy)]
pub(crate) struct Destination {
    /// IPv6 notation, IPv4 as mapped; network order.
    pub(crate) addr_be: [u32; 4],
    /// Host order.
    pub(crate) port: u16,
}

impl Destination {
    #[inline(always)]
    pub(crate) fn v4(addr_be: u32, port: u16) -> Self {
        Destination { addr_be: [0, 0, MAPPED, addr_be], port }
    }

    #[inline(always)]
    pub(crate) fn is_v4(&self) -> bool {
        self.addr_be[0] == 0 && self.addr_be[1] == 0 && self.addr_be[2] == MAPPED
    }

    /// This network namespace itself: loopback, unspecified (which the kernel takes as loopback) or the dummy addresses.
    #[inline(always)]
    pub(crate) fn is_local(&self) -> bool {
        let [a, b, c, d] = self.addr_be;
        if self.is_v4() {
            return d & 0xff_00_00_00_u32.to_be() == 0x7f_00_00_00_u32.to_be() || d == 0 || d == DUMMY4;
        }
        if a == DUMMY6[0] {
            return b == DUMMY6[1] && c == DUMMY6[2] && d == DUMMY6[3];
        }
        a == 0 && b == 0 && c == 0 && (d == 0 || d == LOOPBACK6[3])
    }

    /// Loopback of the same family, at this port of ours.
    #[inline(always)]
    pub(crate) fn ours(&self, port: u16) -> Self {
        if self.is_v4() { Destination::v4(LOOPBACK4, port) } else { Destination { addr_be: LOOPBACK6, port } }
    }

    /// What a rewrite of `asked` led to.
    #[inline(always)]
    pub(crate) fn is_ours_for(&self, asked: &Destination) -> bool {
        asked.port != 0 && is_reserved(self.port) && self.is(&asked.ours(self.port))
    }

    #[inline(always)]
    pub(crate) fn is(&self, other: &Destination) -> bool {
        self.port == other.port
            && self.addr_be[0] == other.addr_be[0]
            && self.addr_be[1] == other.addr_be[1]
            && self.addr_be[2] == other.addr_be[2]
            && self.addr_be[3] == other.addr_be[3]
    }

    /// For records and events: 4 or 6, and the address with IPv4 in the first word.
    #[inline(always)]
    pub(crate) fn plain(&self) -> (u16, [u32; 4]) {
        if self.is_v4() { (4, [self.addr_be[3], 0, 0, 0]) } else { (6, self.addr_be) }
    }

    #[inline(always)]
    pub(crate) fn as_peer(&self) -> Peer {
        Peer { addr_be: self.addr_be, port_be: u32::from(self.port.to_be()) }
    }

    #[inline(always)]
    pub(crate) fn of_peer(peer: &Peer) -> Self {
        Destination { addr_be: peer.addr_be, port: u16::from_be(peer.port_be as u16) }
    }
}

/// Which half of a socket address context holds the address. Decided by the hook, never by what the caller says
/// (`user_family` is the caller's word: AF_UNSPEC reaches sendmsg4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Reads the address. Volatile throughout: merged accesses become pointer arithmetic on the context, which the verifier refuses.
#[inline(always)]
pub(crate) fn read(ctx: &SockAddrContext, family: Family) -> Destination {
    let raw = ctx.sock_addr;
    // SAFETY: raw is the context of this program; the verifier checks each field for this hook.
    unsafe {
        let port = u16::from_be((&raw const (*raw).user_port).read_volatile() as u16);
        match family {
            Family::V4 => Destination::v4((&raw const (*raw).user_ip4).read_volatile(), port),
            Family::V6 => {
                let words = &raw const (*raw).user_ip6;
                let addr_be = [
                    (&raw const (*words)[0]).read_volatile(),
                    (&raw const (*words)[1]).read_volatile(),
                    (&raw const (*words)[2]).read_volatile(),
                    (&raw const (*words)[3]).read_volatile(),
                ];
                Destination { addr_be, port }
            }
        }
    }
}

/// Puts an address in the place of the caller's.
#[inline(always)]
pub(crate) fn write(ctx: &SockAddrContext, family: Family, to: &Destination) {
    let raw = ctx.sock_addr;
    // SAFETY: as for `read`; these hooks may write exactly these fields.
    unsafe {
        match family {
            Family::V4 => (&raw mut (*raw).user_ip4).write_volatile(to.addr_be[3]),
            Family::V6 => {
                let words = &raw mut (*raw).user_ip6;
                (&raw mut (*words)[0]).write_volatile(to.addr_be[0]);
                (&raw mut (*words)[1]).write_volatile(to.addr_be[1]);
                (&raw mut (*words)[2]).write_volatile(to.addr_be[2]);
                (&raw mut (*words)[3]).write_volatile(to.addr_be[3]);
            }
        }
        (&raw mut (*raw).user_port).write_volatile(u32::from(to.port.to_be()));
    }
}

#[inline(always)]
pub(crate) fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: the context of this program; its socket is never null.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}

#[inline(always)]
pub(crate) fn protocol(ctx: &SockAddrContext) -> u32 {
    // SAFETY: the context of this program.
    unsafe { (&raw const (*ctx.sock_addr).protocol).read_volatile() }
}

#[inline(always)]
pub(crate) fn sock_type(ctx: &SockAddrContext) -> u32 {
    // SAFETY: the context of this program.
    unsafe { (&raw const (*ctx.sock_addr).type_).read_volatile() }
}

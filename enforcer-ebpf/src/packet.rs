//! cgroup_skb: the last word on packets. Out: only `lo`, only to addresses of this namespace, only plain TCP and UDP. In: only `lo`.
//!
//! It sees the packet as it is, so source routes, routing headers and bound devices end here whatever call set them. A packet
//! dropped here is silent to TCP; the connect hooks give the errors.
use aya_ebpf::helpers::generated::bpf_skb_ancestor_cgroup_id;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use enforcer_common::{counter, hook, reason};

use crate::address::{AF_INET, AF_INET6, Destination, LOOPBACK_IFINDEX, TCP, UDP};
use crate::agent::is_agent;
use crate::event::{Attempt, Denial, Task, count, report};
use crate::maps::agent_level;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// Version 4, header of five words: no options.
const IPV4_PLAIN: u8 = 0x45;
/// More fragments, or a fragment offset.
const IPV4_FRAGMENT: u16 = 0x3fff;
/// The hop-by-hop header that the kernel itself puts before a TCP segment which it means to cut later and whose length does not fit into 16 bits
/// (`ip6_xmit`, `struct hop_jumbo_hdr`): one option, the jumbo payload (RFC 2675), behind the number of the next header.
const HOP_BY_HOP: u8 = 0;
const JUMBO: [u8; 3] = [0, 0xc2, 4];

#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    verdict(&ctx, hook::EGRESS, try_egress(&ctx))
}

#[cgroup_skb(ingress)]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    verdict(&ctx, hook::INGRESS, try_ingress(&ctx))
}

#[inline(always)]
fn try_egress(ctx: &SkBuffContext) -> Result<(), Denial> {
    if !is_agent(agent_id(ctx)) {
        return Err(Denial(reason::UNKNOWN_AGENT));
    }
    if ifindex(ctx) != LOOPBACK_IFINDEX {
        return Err(Denial(reason::NOT_LOOPBACK));
    }
    let packet = Packet::read(ctx).ok_or(Denial(reason::TRAFFIC_KIND))?;
    if !packet.plain || (packet.protocol != TCP && packet.protocol != UDP) {
        return Err(Denial(reason::TRAFFIC_KIND));
    }
    if !packet.to.is_local() {
        return Err(Denial(reason::NOT_LOOPBACK));
    }
    Ok(())
}

#[inline(always)]
fn try_ingress(ctx: &SkBuffContext) -> Result<(), Denial> {
    if ifindex(ctx) == LOOPBACK_IFINDEX { Ok(()) } else { Err(Denial(reason::NOT_LOOPBACK)) }
}

#[inline(always)]
fn verdict(ctx: &SkBuffContext, hook: u16, decision: Result<(), Denial>) -> i32 {
    let Err(denial) = decision else {
        count(hook, counter::PASSED);
        return 1;
    };
    let mut attempt = Attempt {
        hook,
        cgroup_id: agent_id(ctx),
        addr_be: [0; 4],
        port: 0,
        family: 0,
        sock_type: 0,
        protocol: 0,
    };
    if let Some(packet) = Packet::read(ctx) {
        let (family, addr_be) = packet.to.plain();
        attempt.addr_be = addr_be;
        attempt.family = if family == 4 { AF_INET as u16 } else { AF_INET6 as u16 };
        attempt.protocol = packet.protocol;
        if packet.plain {
            attempt.port = packet.port(ctx);
        }
    }
    // Packets leave from timers and softirqs as well: whoever is current then has nothing to do with them.
    report(&denial, &attempt, &Task::NONE);
    0
}

/// The network header, as far as it matters here.
struct Packet {
    to: Destination,
    protocol: u32,
    header_len: usize,
    /// No options, no extension headers, no fragment.
    plain: bool,
}

impl Packet {
    #[inline(always)]
    fn read(ctx: &SkBuffContext) -> Option<Self> {
        // SAFETY: the context of this program.
        let ethertype = unsafe { (&raw const (*ctx.skb.skb).protocol).read_volatile() } as u16;
        match u16::from_be(ethertype) {
            ETH_P_IP => {
                let header: &[u8; 20] = leading(ctx)?;
                let fragment = u16::from_be_bytes([header[6], header[7]]);
                let addr_be = u32::from_ne_bytes([header[16], header[17], header[18], header[19]]);
                Some(Packet {
                    to: Destination::v4(addr_be, 0),
                    protocol: u32::from(header[9]),
                    header_len: 20,
                    plain: header[0] == IPV4_PLAIN && fragment & IPV4_FRAGMENT == 0,
                })
            }
            ETH_P_IPV6 => {
                // The next header of a packet with extension headers is neither TCP nor UDP: refused by protocol.
                let header: &[u8; 40] = leading(ctx)?;
                let protocol = header[6];
                let word = |at: usize| {
                    u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
                };
                let addr_be = [word(24), word(28), word(32), word(36)];
                let (protocol, header_len) = if protocol == HOP_BY_HOP {
                    let option: [u8; 4] = ctx.load(40).ok()?;
                    if option[1..] == JUMBO { (option[0], 48) } else { (protocol, 40) }
                } else {
                    (protocol, 40)
                };
                Some(Packet {
                    to: Destination { addr_be, port: 0 },
                    protocol: u32::from(protocol),
                    header_len,
                    plain: true,
                })
            }
            _ => None,
        }
    }

    /// Destination port, for the event.
    #[inline(always)]
    fn port(&self, ctx: &SkBuffContext) -> u16 {
        if self.protocol != TCP && self.protocol != UDP {
            return 0;
        }
        ctx.load::<u16>(self.header_len + 2).map_or(0, u16::from_be)
    }
}

/// The first bytes, where they lie: the kernel has just written them there, in one piece.
#[inline(always)]
fn leading<const N: usize>(ctx: &SkBuffContext) -> Option<&[u8; N]> {
    // SAFETY: the context of this program; the verifier knows both numbers for pointers.
    let (start, end) = unsafe {
        let skb = ctx.skb.skb;
        (
            (&raw const (*skb).data).read_volatile() as usize,
            (&raw const (*skb).data_end).read_volatile() as usize,
        )
    };
    if start + N > end {
        return None;
    }
    // SAFETY: so many bytes are there, by the comparison that the verifier asks for.
    Some(unsafe { &*(start as *const [u8; N]) })
}

#[inline(always)]
fn ifindex(ctx: &SkBuffContext) -> u32 {
    // SAFETY: the context of this program.
    unsafe { (&raw const (*ctx.skb.skb).ifindex).read_volatile() }
}

/// The agent that the packet's socket belongs to.
#[inline(always)]
fn agent_id(ctx: &SkBuffContext) -> u64 {
    // SAFETY: the context of this program.
    unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, agent_level()) }
}

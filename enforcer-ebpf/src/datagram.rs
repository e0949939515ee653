//! sendmsg and recvmsg: datagrams without connect. Port 53 of any server is the resolver, and its answers come from the server
//! that was asked.
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::{hook, reason};

use crate::address::{self, Destination, Family, UDP};
use crate::agent::Agent;
use crate::connect::{Way, verdict, way};
use crate::event::Denial;
use crate::maps::known;

/// `TCP_ESTABLISHED`, which stands for "connected" on UDP sockets too.
const CONNECTED: u32 = 1;

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V4, hook::SENDMSG4, try_sendmsg(&ctx, Family::V4))
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V6, hook::SENDMSG6, try_sendmsg(&ctx, Family::V6))
}

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    show_asked(&ctx, Family::V4);
    1
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    show_asked(&ctx, Family::V6);
    1
}

#[inline(always)]
fn try_sendmsg(ctx: &SockAddrContext, family: Family) -> Result<Way, Denial> {
    let agent = Agent::caller()?;
    let sk = address::socket(ctx);
    let (socket, namespace) = agent.own(ctx, sk)?;
    let to = address::read(ctx, family);
    let resolver = to.ours(namespace.resolver_port);
    // SAFETY: the socket of the context.
    let state = unsafe { (&raw const (*sk).state).read_volatile() };
    // An IPv6 socket connected to an IPv4-mapped server comes here at every send, with the address that connect wrote:
    // the server asked for is the one remembered then.
    if state == CONNECTED && address::protocol(ctx) == UDP && to.is(&resolver) {
        return Ok(Way::Resolver);
    }
    let way = way(&namespace, address::protocol(ctx), &to)?;
    match way {
        Way::AsAsked => {}
        // TCP has no sendmsg hook, so nothing but a resolver question gets here with a rewrite.
        Way::Injector => return Err(Denial(reason::TRAFFIC_KIND)),
        Way::Resolver => {
            socket.asked = to.as_peer();
            address::write(ctx, family, &resolver);
        }
    }
    Ok(way)
}

#[inline(always)]
fn show_asked(ctx: &SockAddrContext, family: Family) {
    let from = address::read(ctx, family);
    let Some(socket) = known(address::socket(ctx)) else { return };
    let asked = Destination::of_peer(&socket.asked);
    if from.is_ours_for(&asked) {
        address::write(ctx, family, &asked);
    }
}

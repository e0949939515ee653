//! bind4, bind6: the ports of the injector and the resolver are part of the boundary. With our listeners gone, whoever binds them
//! would receive redirected connections.
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::{hook, reason};

use crate::address::{self, Family};
use crate::agent::Agent;
use crate::connect::{Way, verdict};
use crate::event::Denial;

#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V4, hook::BIND4, try_bind(&ctx, Family::V4))
}

#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V6, hook::BIND6, try_bind(&ctx, Family::V6))
}

#[inline(always)]
fn try_bind(ctx: &SockAddrContext, family: Family) -> Result<Way, Denial> {
    let _agent = Agent::caller()?;
    if address::is_reserved(address::read(ctx, family).port) {
        return Err(Denial(reason::RESERVED_PORT));
    }
    Ok(Way::AsAsked)
}

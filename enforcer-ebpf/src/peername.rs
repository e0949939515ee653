//! getpeername tells the peer that was asked for: programs compare and log it. getsockname and /proc show the truth.
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::address::{self, Destination, Family};
use crate::maps::known;

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    show_connected(&ctx, Family::V4);
    1
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    show_connected(&ctx, Family::V6);
    1
}

#[inline(always)]
fn show_connected(ctx: &SockAddrContext, family: Family) {
    let peer = address::read(ctx, family);
    let Some(socket) = known(address::socket(ctx)) else { return };
    let asked = Destination::of_peer(&socket.connected);
    // The rewritten peer only, so that a remembered one is never shown for another connection.
    if peer.is_ours_for(&asked) {
        address::write(ctx, family, &asked);
    }
}

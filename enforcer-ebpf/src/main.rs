//! The half that runs in the kernel: every program here is attached to the managed root, or to a cgroup that
//! `enforcer attach` names, and binds all below it.
//!
//! A file per duty, each with thin entries around a `try_…` that answers `Result<_, Denial>`: the error is the refusal,
//! and `event` turns it into the verdict, a counter and an event. Unknown is no, in every program.
//! Unix sockets, other address families and capabilities are not handled here but by how an agent is launched.
//!
//! | file | hooks |
//! |---|---|
//! | `sock_create` | which sockets may exist, and whose they are |
//! | `connect` | redirect of TCP to the injector, of DNS to the resolver |
//! | `datagram` | the same for datagrams without connect, and the way back |
//! | `peername` | `getpeername` tells what the agent asked for |
//! | `bind` | our own ports |
//! | `syn` | the tag of the connect on the SYN |
//! | `packet` | the last word: packets on `lo` only |
//! | `sockopt` | options that steer packets |
//! | `device` | the same last word where a namespace has devices, for what passes no cgroup hook |
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the target has no atomic types, only their instructions")]

mod address;
mod agent;
mod bind;
mod connect;
mod datagram;
mod device;
mod event;
mod maps;
mod packet;
mod peername;
mod sock_create;
mod sockopt;
mod syn;

/// Several helpers are for programs under a GPL-compatible licence only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could get here.
    loop {}
}

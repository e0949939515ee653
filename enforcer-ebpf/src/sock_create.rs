//! Which internet sockets may exist: TCP and UDP. Tags each with its agent, so that a socket handed over is known as foreign.
//!
//! This hook runs for AF_INET and AF_INET6 only; the launcher's seccomp filter deals with the other families.
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use enforcer_common::{counter, hook, reason};

use crate::address::{AF_INET, AF_INET6, TCP, UDP};
use crate::agent::{Agent, caller_id};
use crate::event::{Attempt, Denial, Task, count, report};
use crate::maps::known_or_new;

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const MPTCP: u32 = 262;
const EPROTONOSUPPORT: i32 = 93;

#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    match try_sock_create(&ctx) {
        Ok(()) => {
            count(hook::SOCK_CREATE, counter::PASSED);
            1
        }
        Err(denial) => {
            let (family, sock_type, protocol) = kind(&ctx);
            let attempt = Attempt {
                hook: hook::SOCK_CREATE,
                cgroup_id: caller_id(),
                addr_be: [0; 4],
                port: 0,
                family: family as u16,
                sock_type,
                protocol,
            };
            report(&denial, &attempt, &Task::current());
            0
        }
    }
}

#[inline(always)]
fn try_sock_create(ctx: &SockContext) -> Result<(), Denial> {
    let agent = Agent::caller()?;
    match kind(ctx) {
        (AF_INET | AF_INET6, SOCK_STREAM, TCP) | (AF_INET | AF_INET6, SOCK_DGRAM, UDP) => {}
        (_, SOCK_STREAM, MPTCP) => {
            // Callers take this errno as "no MPTCP here" and fall back to TCP.
            // SAFETY: a helper without pointers.
            unsafe { bpf_set_retval(-EPROTONOSUPPORT) };
            return Err(Denial(reason::SOCKET_KIND));
        }
        _ => return Err(Denial(reason::SOCKET_KIND)),
    }
    let socket = known_or_new(ctx.as_ptr().cast()).ok_or(Denial(reason::INTERNAL))?;
    socket.owner = agent.id;
    Ok(())
}

/// Family, type, protocol.
#[inline(always)]
fn kind(ctx: &SockContext) -> (u32, u32, u32) {
    let sk = ctx.sock;
    // SAFETY: the context of this program.
    unsafe {
        (
            (&raw const (*sk).family).read_volatile(),
            (&raw const (*sk).type_).read_volatile(),
            (&raw const (*sk).protocol).read_volatile(),
        )
    }
}

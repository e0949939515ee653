//! setsockopt: options that steer packets past an address, by device, mark, route or group. The network namespace and `packet` stop
//! what they do; here the caller gets an error it can understand.
use aya_ebpf::macros::cgroup_sockopt;
use aya_ebpf::programs::SockoptContext;
use enforcer_common::{counter, hook, reason};

use crate::agent::{Agent, caller_id};
use crate::event::{Attempt, Denial, Task, count, report};

const SOL_IP: i32 = 0;
const SOL_SOCKET: i32 = 1;
const SOL_TCP: i32 = 6;
const SOL_IPV6: i32 = 41;

/// The kernel shows a program one page of a larger option and takes the original only when the length is set to 0.
const VISIBLE: i32 = 4096;

#[cgroup_sockopt(setsockopt)]
pub fn setsockopt(ctx: SockoptContext) -> i32 {
    match try_setsockopt(&ctx) {
        Ok(()) => {
            count(hook::SETSOCKOPT, counter::PASSED);
            1
        }
        Err(denial) => {
            let (level, name) = option(&ctx);
            let attempt = Attempt {
                hook: hook::SETSOCKOPT,
                cgroup_id: caller_id(),
                addr_be: [0; 4],
                port: 0,
                family: 0,
                // There is no address; level and option name say what was tried.
                sock_type: level as u32,
                protocol: name as u32,
            };
            report(&denial, &attempt, &Task::current());
            0
        }
    }
}

#[inline(always)]
fn try_setsockopt(ctx: &SockoptContext) -> Result<(), Denial> {
    let _agent = Agent::caller()?;
    let (level, name) = option(ctx);
    if steers(level, name) {
        return Err(Denial(reason::SOCKET_OPTION));
    }
    let raw = ctx.sockopt;
    // SAFETY: the context of this program; optlen may be written.
    unsafe {
        if (&raw const (*raw).optlen).read_volatile() > VISIBLE {
            (&raw mut (*raw).optlen).write_volatile(0);
        }
    }
    Ok(())
}

#[inline(always)]
fn steers(level: i32, name: i32) -> bool {
    // Membership by the protocol-independent names is the same number at both IP levels:
    // MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP, MCAST_MSFILTER.
    const JOIN: [i32; 3] = [42, 46, 48];
    match level {
        // SO_BINDTODEVICE, SO_MARK, SO_BINDTOIFINDEX
        SOL_SOCKET => matches!(name, 25 | 36 | 62),
        // IP_HDRINCL, IP_OPTIONS, IP_TRANSPARENT, IP_MULTICAST_IF, IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP, IP_MSFILTER,
        // IP_UNICAST_IF
        SOL_IP => matches!(name, 3 | 4 | 19 | 32 | 35 | 39 | 41 | 50) || JOIN.contains(&name),
        // IPV6_2292PKTOPTIONS, IPV6_MULTICAST_IF, IPV6_ADD_MEMBERSHIP, IPV6_JOIN_ANYCAST, IPV6_FLOWLABEL_MGR (carries routing
        // headers), IPV6_HOPOPTS, IPV6_RTHDRDSTOPTS, IPV6_RTHDR, IPV6_DSTOPTS, IPV6_TRANSPARENT, IPV6_UNICAST_IF
        SOL_IPV6 => {
            matches!(name, 6 | 17 | 20 | 27 | 32 | 54 | 55 | 57 | 59 | 75 | 76) || JOIN.contains(&name)
        }
        // TCP_REPAIR
        SOL_TCP => name == 19,
        _ => false,
    }
}

/// Level and name.
#[inline(always)]
fn option(ctx: &SockoptContext) -> (i32, i32) {
    let raw = ctx.sockopt;
    // SAFETY: the context of this program.
    unsafe { ((&raw const (*raw).level).read_volatile(), (&raw const (*raw).optname).read_volatile()) }
}

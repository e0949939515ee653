//! connect4, connect6: TCP goes to the injector with a record of where it was going, port 53 to the resolver, the agent's own
//! loopback as asked, all else nowhere.
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::{ConnectRecord, RESOLVER_PORT, counter, hook, reason, record_key};

use crate::address::{self, AF_INET, AF_INET6, Destination, Family, TCP, UDP};
use crate::agent::{Agent, Namespace, caller_id};
use crate::event::{Attempt, Denial, Task, count, report};
use crate::maps::{Peer, RECORDS, next_tag};

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V4, hook::CONNECT4, try_connect(&ctx, Family::V4))
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V6, hook::CONNECT6, try_connect(&ctx, Family::V6))
}

/// Where a destination really leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    AsAsked,
    Injector,
    Resolver,
}

/// The table of the whole product, as far as the kernel decides it.
#[inline(always)]
pub(crate) fn way(namespace: &Namespace, protocol: u32, to: &Destination) -> Result<Way, Denial> {
    if protocol != TCP && protocol != UDP {
        return Err(Denial(reason::TRAFFIC_KIND));
    }
    if to.port == RESOLVER_PORT {
        return Ok(Way::Resolver);
    }
    if to.is_local() {
        // Without a rewrite there is no record: nobody talks to the injector directly.
        if address::is_reserved(to.port) {
            return Err(Denial(reason::RESERVED_PORT));
        }
        if namespace.private() {
            return Ok(Way::AsAsked);
        }
    }
    if protocol == TCP { Ok(Way::Injector) } else { Err(Denial(reason::TRAFFIC_KIND)) }
}

#[inline(always)]
fn try_connect(ctx: &SockAddrContext, family: Family) -> Result<Way, Denial> {
    let agent = Agent::caller()?;
    let sk = address::socket(ctx);
    let (socket, namespace) = agent.own(ctx, sk)?;
    let to = address::read(ctx, family);
    let way = way(&namespace, address::protocol(ctx), &to)?;

    // What an earlier connect of this socket left behind is not true of this one.
    socket.tag = 0;
    let port = match way {
        Way::AsAsked => {
            socket.connected = Peer::NONE;
            socket.asked = Peer::NONE;
            return Ok(way);
        }
        Way::Injector => {
            socket.tag = keep(&agent, &namespace, &to)?;
            namespace.injector_port
        }
        Way::Resolver => namespace.resolver_port,
    };
    socket.connected = to.as_peer();
    socket.asked = to.as_peer();
    address::write(ctx, family, &to.ours(port));
    Ok(way)
}

/// Writes the record of this connect, and says by which tag the injector finds it.
#[inline(always)]
fn keep(agent: &Agent, namespace: &Namespace, to: &Destination) -> Result<u64, Denial> {
    let tag = next_tag(agent.slot).ok_or(Denial(reason::INTERNAL))?;
    match RECORDS.insert(record_key(tag), record(agent, namespace, to, tag), 0) {
        Ok(()) => Ok(tag),
        Err(_) => Err(Denial(reason::INTERNAL)),
    }
}

#[inline(always)]
fn record(agent: &Agent, namespace: &Namespace, to: &Destination, tag: u64) -> ConnectRecord {
    let task = Task::current();
    let (family, addr_be) = to.plain();
    ConnectRecord {
        tag,
        cgroup_id: agent.id,
        netns_cookie: namespace.cookie,
        // SAFETY: a helper without arguments.
        at_ns: unsafe { bpf_ktime_get_ns() },
        addr_be,
        port_be: to.port.to_be(),
        family,
        pid: task.pid,
        uid: task.uid,
        reserved: 0,
        comm: task.comm(),
    }
}

/// The answer of a connect, sendmsg or bind hook.
#[inline(always)]
pub(crate) fn verdict(
    ctx: &SockAddrContext,
    family: Family,
    hook: u16,
    decision: Result<Way, Denial>,
) -> i32 {
    match decision {
        Ok(Way::AsAsked) => {
            count(hook, counter::PASSED);
            1
        }
        Ok(Way::Injector | Way::Resolver) => {
            count(hook, counter::REDIRECTED);
            1
        }
        Err(denial) => {
            let to = address::read(ctx, family);
            let (plain, addr_be) = to.plain();
            let attempt = Attempt {
                hook,
                cgroup_id: caller_id(),
                addr_be,
                port: to.port,
                family: if plain == 4 { AF_INET as u16 } else { AF_INET6 as u16 },
                sock_type: address::sock_type(ctx),
                protocol: address::protocol(ctx),
            };
            report(&denial, &attempt, &Task::current());
            0
        }
    }
}

//! tcx egress: frames of an attached cgroup end at the device. AF_PACKET passes every cgroup hook and netfilter, but not this.
//!
//! Devices belong to everybody in their namespace, so each copy of this program knows one cgroup and lets the rest pass. On `lo`,
//! where internet sockets are governed by the other programs, only frames made by hand end here.
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_sk_fullsock, bpf_skb_ancestor_cgroup_id};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use enforcer_common::{counter, hook, reason};

use crate::address::{AF_INET, AF_INET6, LOOPBACK_IFINDEX};
use crate::event::{Attempt, Denial, Task, count, report};
use crate::maps::{agent_level, attached};

/// `TCX_NEXT` and `TCX_DROP` of linux/bpf.h.
const NEXT: i32 = -1;
const DROP: i32 = 2;

#[classifier]
pub fn device(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context of this program.
    let (sender, ifindex) = unsafe {
        (bpf_skb_ancestor_cgroup_id(skb, agent_level()), (&raw const (*skb).ifindex).read_volatile())
    };
    if sender == 0 || sender != attached() {
        return NEXT;
    }
    let family = socket_family(skb);
    if ifindex == LOOPBACK_IFINDEX && (family == AF_INET || family == AF_INET6) {
        count(hook::DEVICE, counter::PASSED);
        return NEXT;
    }
    let attempt = Attempt {
        hook: hook::DEVICE,
        cgroup_id: sender,
        addr_be: [0; 4],
        port: 0,
        family: family as u16,
        sock_type: 0,
        protocol: 0,
    };
    report(&Denial(reason::NOT_LOOPBACK), &attempt, &Task::NONE);
    DROP
}

/// AF_* of the socket that sent it; 0 when there is none to be seen.
#[inline(always)]
fn socket_family(skb: *mut __sk_buff) -> u32 {
    // SAFETY: the context of this program; null is checked before each step, as the verifier asks.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return 0;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return 0;
        }
        (&raw const (*sk).family).read_volatile()
    }
}

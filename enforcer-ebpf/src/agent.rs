//! Which agent is calling, and whether it may use this socket here. The cgroup decides, nothing that the agent can write.
use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_netns_cookie};
use enforcer_common::{AgentEntry, flags, reason};

use crate::address::LOOPBACK_IFINDEX;
use crate::event::Denial;
use crate::maps::{AGENTS, Socket, agent_level, known};

/// A known agent.
pub(crate) struct Agent {
    pub(crate) id: u64,
    pub(crate) netns_cookie: u64,
    /// Of its tags.
    pub(crate) slot: u32,
    flags: u32,
}

impl Agent {
    /// The agent that the current task belongs to.
    #[inline(always)]
    pub(crate) fn caller() -> Result<Self, Denial> {
        Self::by_id(caller_id())
    }

    /// Loopback is the agent's own.
    #[inline(always)]
    pub(crate) fn private_netns(&self) -> bool {
        self.flags & flags::PRIVATE_NETNS != 0
    }

    /// What is known of a socket that is this agent's, is in its network namespace and stays on `lo`; no other may be used.
    #[inline(always)]
    pub(crate) fn own(
        &self,
        ctx: &impl EbpfContext,
        sk: *mut bpf_sock,
    ) -> Result<&'static mut Socket, Denial> {
        let socket = match known(sk) {
            Some(socket) if socket.owner == self.id => socket,
            _ => return Err(Denial(reason::FOREIGN_SOCKET)),
        };
        // SAFETY: ctx is the context of this program; the helper answers for the namespace of its socket.
        if unsafe { bpf_get_netns_cookie(ctx.as_ptr()) } != self.netns_cookie {
            return Err(Denial(reason::UNKNOWN_NETNS));
        }
        // SAFETY: sk is the socket of the context. A TCP SYN follows the device, whatever address we write.
        let device = unsafe { (&raw const (*sk).bound_dev_if).read_volatile() };
        if device != 0 && device != LOOPBACK_IFINDEX {
            return Err(Denial(reason::BOUND_DEVICE));
        }
        Ok(socket)
    }

    #[inline(always)]
    fn by_id(id: u64) -> Result<Self, Denial> {
        // SAFETY: the entry is copied at once; a concurrent update of a slot by the keeper is for the same agent.
        match unsafe { AGENTS.get(id) } {
            Some(&AgentEntry { netns_cookie, flags, slot }) => Ok(Agent { id, netns_cookie, slot, flags }),
            None => Err(Denial(reason::UNKNOWN_AGENT)),
        }
    }
}

/// Cgroup id of the caller's ancestor right below the managed root; 0 when it is not below it.
#[inline(always)]
pub(crate) fn caller_id() -> u64 {
    // SAFETY: a helper without pointers.
    unsafe { bpf_get_current_ancestor_cgroup_id(agent_level()) }
}

/// Packets go by the cgroup of their socket: is that one of a known agent?
#[inline(always)]
pub(crate) fn is_agent(id: u64) -> bool {
    // SAFETY: only whether there is an entry.
    unsafe { AGENTS.get(id) }.is_some()
}

//! Which agent is calling, and whether it may use this socket here. The cgroup decides, nothing that the agent can write.
use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_netns_cookie};
use enforcer_common::{AgentEntry, NamespaceEntry, NamespaceKey, NewNamespace, flags, reason};

use crate::address::LOOPBACK_IFINDEX;
use crate::event::Denial;
use crate::maps::{AGENTS, NAMESPACES, NEW_NAMESPACES, Socket, agent_level, known};

/// A known agent.
pub(crate) struct Agent {
    pub(crate) id: u64,
    /// Of its tags.
    pub(crate) slot: u32,
}

/// A network namespace that the agent may connect from, with where we listen in it.
pub(crate) struct Namespace {
    pub(crate) cookie: u64,
    pub(crate) injector_port: u16,
    pub(crate) resolver_port: u16,
    flags: u32,
}

impl Agent {
    /// The agent that the current task belongs to.
    #[inline(always)]
    pub(crate) fn caller() -> Result<Self, Denial> {
        let id = caller_id();
        // SAFETY: the entry is copied at once; a concurrent update of a slot by the keeper is for the same agent.
        match unsafe { AGENTS.get(id) } {
            Some(&AgentEntry { slot, .. }) => Ok(Agent { id, slot }),
            None => Err(Denial(reason::UNKNOWN_AGENT)),
        }
    }

    /// What is known of a socket that is this agent's, is in a network namespace where we listen for it and stays on `lo`; no
    /// other may be used.
    #[inline(always)]
    pub(crate) fn own(
        &self,
        ctx: &impl EbpfContext,
        sk: *mut bpf_sock,
    ) -> Result<(&'static mut Socket, Namespace), Denial> {
        let socket = match known(sk) {
            Some(socket) if socket.owner == self.id => socket,
            _ => return Err(Denial(reason::FOREIGN_SOCKET)),
        };
        // SAFETY: ctx is the context of this program; the helper answers for the namespace of its socket.
        let namespace = self.namespace(unsafe { bpf_get_netns_cookie(ctx.as_ptr()) })?;
        // SAFETY: sk is the socket of the context. A TCP SYN follows the device, whatever address we write.
        let device = unsafe { (&raw const (*sk).bound_dev_if).read_volatile() };
        if device != 0 && device != LOOPBACK_IFINDEX {
            return Err(Denial(reason::BOUND_DEVICE));
        }
        Ok((socket, namespace))
    }

    #[inline(always)]
    fn namespace(&self, cookie: u64) -> Result<Namespace, Denial> {
        // SAFETY: the entry is copied at once; a concurrent update of a slot by the keeper is for the same key.
        match unsafe { NAMESPACES.get(NamespaceKey { cgroup_id: self.id, netns_cookie: cookie }) } {
            Some(&NamespaceEntry { flags, injector_port, resolver_port }) => {
                Ok(Namespace { cookie, injector_port, resolver_port, flags })
            }
            None => {
                // The keeper may open listeners there; until then, and if this is lost, it stays a refusal.
                _ = NEW_NAMESPACES.output(&NewNamespace { cgroup_id: self.id, netns_cookie: cookie }, 0);
                Err(Denial(reason::UNKNOWN_NETNS))
            }
        }
    }
}

impl Namespace {
    /// Loopback is the agent's own.
    #[inline(always)]
    pub(crate) fn private(&self) -> bool {
        self.flags & flags::PRIVATE_NETNS != 0
    }
}

/// Cgroup id of the caller's ancestor at the level of agents; 0 when it is above that.
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

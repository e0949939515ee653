//! The ABI between the programs in the kernel and the daemon in userspace.
//!
//! Every type is `repr(C)`, of fixed width, without padding, `bool` or logic. Addresses and ports
//! are in network byte order where the name ends in `_be`, else in host order.
#![no_std]

/// TCP port of the injector's listeners, on 127.0.0.1 and ::1 of every governed network namespace.
/// Below 1024, so that an agent cannot bind it; the bind hooks refuse it as well.
pub const INJECTOR_PORT: u16 = 923;
/// UDP and TCP port of the resolver's listeners, on 127.0.0.1 and ::1 of every governed namespace.
pub const RESOLVER_PORT: u16 = 53;
/// Ports of both in namespaces that we did not make, where those above may be taken or several sessions meet: a pair
/// for each session, the injector's first. IANA has assigned none of them to anybody.
pub const SHARED_PORT_FIRST: u16 = 924;
/// The last port of the last pair.
pub const SHARED_PORT_LAST: u16 = 951;

/// TCP option kind of the tag on a redirected SYN (RFC 4727 experimental).
pub const TAG_OPTION_KIND: u8 = 254;
/// Length of that option: kind, length, 16-bit magic, 64-bit tag.
pub const TAG_OPTION_LEN: u8 = 12;
/// The magic of that option (RFC 6994 experiment identifier), in network order on the wire.
pub const TAG_OPTION_MAGIC: u16 = 0xE4F0;

/// Agents at one time. Each has a slot, and with it a share of the connect records that no other can touch.
pub const AGENT_SLOTS: u32 = 1024;
/// That share, a power of two: twice the connections that wait at a listener, for those still on their way to it.
pub const RECORDS_PER_AGENT: u32 = 2048;
/// In a tag, the slot stands above the number of the connect within that slot, which never starts again.
pub const TAG_SLOT_SHIFT: u32 = 48;

/// Where the record of a tagged connect is: at the same place as the one made [`RECORDS_PER_AGENT`] connects of this
/// slot ago.
pub const fn record_key(tag: u64) -> u32 {
    (tag >> TAG_SLOT_SHIFT) as u32 * RECORDS_PER_AGENT + (tag as u32 & (RECORDS_PER_AGENT - 1))
}

/// Where a redirected connection was going and who asked; written by connect4/6 at [`record_key`] of its tag, taken once by
/// the injector.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRecord {
    /// The connect that this record is of: no other ever has it, while the map's entry is used again.
    pub tag: u64,
    /// Cgroup id of the agent (the child of the managed root).
    pub cgroup_id: u64,
    /// Cookie of the network namespace that the connect was made in.
    pub netns_cookie: u64,
    /// `bpf_ktime_get_ns` at connect.
    pub at_ns: u64,
    /// Destination address, network order; IPv4 in the first word.
    pub addr_be: [u32; 4],
    /// Destination port, network order.
    pub port_be: u16,
    /// 4 or 6.
    pub family: u16,
    /// Process (tgid) that called connect.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Must be zero.
    pub reserved: u32,
    /// Its comm: free text set by the agent, for display only.
    pub comm: [u8; 16],
}

/// A governed agent cgroup; key: cgroup id. With its entry gone the agent is denied everything, at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentEntry {
    /// Its own among those governed, below [`AGENT_SLOTS`].
    pub slot: u32,
    /// Must be zero.
    pub reserved: u32,
}

/// A network namespace that an agent may connect from: the key of [`NamespaceEntry`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceKey {
    pub cgroup_id: u64,
    pub netns_cookie: u64,
}

/// How an agent connects from one network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceEntry {
    /// Bits of [`flags`].
    pub flags: u32,
    /// Where the injector listens for this agent, host order.
    pub injector_port: u16,
    /// The same for the resolver.
    pub resolver_port: u16,
}

/// An agent tried to connect from a namespace that has no entry, and was refused; sent through a ring buffer of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNamespace {
    pub cgroup_id: u64,
    pub netns_cookie: u64,
}

/// Bits of [`NamespaceEntry::flags`].
pub mod flags {
    /// The namespace holds only this agent and our listeners: loopback is the agent's own.
    pub const PRIVATE_NETNS: u32 = 1;
}

/// A refusal made in the kernel, sent through the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalEvent {
    /// Cgroup id of the agent, 0 when it is not known.
    pub cgroup_id: u64,
    /// `bpf_ktime_get_ns`.
    pub at_ns: u64,
    /// Destination address, network order; IPv4 in the first word; zero where there is none.
    pub addr_be: [u32; 4],
    /// Destination port, network order.
    pub port_be: u16,
    /// Address family number as the kernel has it (AF_*).
    pub family: u16,
    /// One of [`hook`].
    pub hook: u16,
    /// One of [`reason`].
    pub reason: u16,
    /// Socket type (SOCK_*); the option's level for [`hook::SETSOCKOPT`]; zero for packets.
    pub sock_type: u32,
    /// IP protocol; the option's name for [`hook::SETSOCKOPT`].
    pub protocol: u32,
    /// Process (tgid); zero for packets, which are sent on behalf of nobody.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its comm: free text, for display only.
    pub comm: [u8; 16],
}

/// Which program refused.
pub mod hook {
    pub const SOCK_CREATE: u16 = 1;
    pub const CONNECT4: u16 = 2;
    pub const CONNECT6: u16 = 3;
    pub const SENDMSG4: u16 = 4;
    pub const SENDMSG6: u16 = 5;
    pub const BIND4: u16 = 6;
    pub const BIND6: u16 = 7;
    pub const SETSOCKOPT: u16 = 8;
    pub const EGRESS: u16 = 9;
    pub const INGRESS: u16 = 10;
    /// tcx egress of a network device.
    pub const DEVICE: u16 = 11;
}

/// Why it refused.
pub mod reason {
    /// The cgroup is under the managed root but is no agent we know.
    pub const UNKNOWN_AGENT: u16 = 1;
    /// The network namespace is not the agent's.
    pub const UNKNOWN_NETNS: u16 = 2;
    /// This kind of socket is not allowed.
    pub const SOCKET_KIND: u16 = 3;
    /// This kind of traffic (UDP, raw, ...) may not leave.
    pub const TRAFFIC_KIND: u16 = 4;
    /// One of the daemon's own ports.
    pub const RESERVED_PORT: u16 = 5;
    /// The socket is bound to a device.
    pub const BOUND_DEVICE: u16 = 6;
    /// A socket option that steers packets.
    pub const SOCKET_OPTION: u16 = 7;
    /// A map was full or a helper failed.
    pub const INTERNAL: u16 = 8;
    /// The packet would have left the loopback device.
    pub const NOT_LOOPBACK: u16 = 9;
    /// The socket belongs to another agent than the caller.
    pub const FOREIGN_SOCKET: u16 = 10;
}

/// Slots of the per-CPU counters: `hook * WIDTH + what`, a `u64` each.
pub mod counter {
    /// Slots per hook.
    pub const WIDTH: u32 = 4;
    /// Let through as asked.
    pub const PASSED: u32 = 0;
    /// Let through to one of our listeners.
    pub const REDIRECTED: u32 = 1;
    /// Refused.
    pub const REFUSED: u32 = 2;
    /// Refused, but the event found no room in the ring buffer.
    pub const LOST_EVENT: u32 = 3;
    /// Slots in all: sixteen hooks.
    pub const SLOTS: u32 = 16 * WIDTH;
}

/// Names of the maps in the object and of their pins.
pub mod map {
    /// Hash: cgroup id of an agent → [`AgentEntry`](crate::AgentEntry).
    pub const AGENTS: &str = "AGENTS";
    /// Hash: [`NamespaceKey`](crate::NamespaceKey) → [`NamespaceEntry`](crate::NamespaceEntry).
    pub const NAMESPACES: &str = "NAMESPACES";
    /// Ring buffer of [`NewNamespace`](crate::NewNamespace), for the keeper.
    pub const NEW_NAMESPACES: &str = "NEW_NAMESPACES";
    /// Hash: [`record_key`](crate::record_key) → [`ConnectRecord`](crate::ConnectRecord).
    pub const RECORDS: &str = "RECORDS";
    /// Array: slot → the number of its last connect, `u64`.
    pub const SEQUENCES: &str = "SEQUENCES";
    /// Ring buffer of [`RefusalEvent`](crate::RefusalEvent).
    pub const EVENTS: &str = "EVENTS";
    /// Per-CPU array of `u64`, see [`counter`](crate::counter).
    pub const COUNTERS: &str = "COUNTERS";
    /// Socket storage: whose it is, the tag of its connect, the peers that the agent asked for.
    pub const SOCKETS: &str = "SOCKETS";
}

/// Name of the global that holds the cgroup level of the agents: one below the managed root, or that of the attached cgroup.
pub const AGENT_LEVEL_GLOBAL: &str = "AGENT_LEVEL";
/// Name of the global that holds the id of the attached cgroup; 0 for the managed root.
pub const ATTACHED_GLOBAL: &str = "ATTACHED";

#[cfg(feature = "user")]
mod user {
    // SAFETY: repr(C), fixed width, no padding (pinned by the tests below), any bit pattern is valid.
    unsafe impl aya::Pod for crate::ConnectRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::AgentEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::NamespaceKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::NamespaceEntry {}
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::{AGENT_SLOTS, ConnectRecord, RECORDS_PER_AGENT, RefusalEvent, TAG_SLOT_SHIFT, record_key};

    /// The programs in the kernel and readers in userspace of another version go by these.
    #[test]
    fn fields_stay_where_they_are() {
        assert_eq!(offset_of!(ConnectRecord, at_ns), 24);
        assert_eq!(offset_of!(ConnectRecord, addr_be), 32);
        assert_eq!(offset_of!(ConnectRecord, port_be), 48);
        assert_eq!(offset_of!(ConnectRecord, family), 50);
        assert_eq!(offset_of!(ConnectRecord, pid), 52);
        assert_eq!(offset_of!(ConnectRecord, comm), 64);
        assert_eq!(offset_of!(RefusalEvent, addr_be), 16);
        assert_eq!(offset_of!(RefusalEvent, port_be), 32);
        assert_eq!(offset_of!(RefusalEvent, reason), 38);
        assert_eq!(offset_of!(RefusalEvent, pid), 48);
        assert_eq!(offset_of!(RefusalEvent, comm), 56);
    }

    #[test]
    fn slots_share_no_record() {
        let tag = |slot: u32, number: u64| u64::from(slot) << TAG_SLOT_SHIFT | number;
        assert_eq!(record_key(tag(0, 1)), 1);
        assert_eq!(record_key(tag(0, u64::from(RECORDS_PER_AGENT) + 1)), 1, "the next round");
        for slot in [1, AGENT_SLOTS - 1] {
            let own = slot * RECORDS_PER_AGENT..(slot + 1) * RECORDS_PER_AGENT;
            for number in [0, 1, 4095, (1 << 48) - 1] {
                assert!(own.contains(&record_key(tag(slot, number))), "{slot} {number}");
            }
        }
    }

    #[test]
    fn shared_types_have_no_padding() {
        assert_eq!(size_of::<super::ConnectRecord>(), 8 * 4 + 16 + 4 + 12 + 16);
        assert_eq!(size_of::<super::AgentEntry>(), 8);
        assert_eq!(size_of::<super::NamespaceKey>(), 16);
        assert_eq!(size_of::<super::NamespaceEntry>(), 8);
        assert_eq!(size_of::<super::NewNamespace>(), 16);
        assert_eq!(size_of::<super::RefusalEvent>(), 16 + 16 + 8 + 16 + 16);
    }
}

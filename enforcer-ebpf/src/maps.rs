//! The maps and the one global, as `enforcer_common::map` names them, and access to socket storage.
use core::intrinsics::AtomicOrdering;

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::btf_map;
use enforcer_common::{
    AGENT_SLOTS, AgentEntry, ConnectRecord, NamespaceEntry, NamespaceKey, NewNamespace, RECORDS_PER_AGENT,
    RefusalEvent, TAG_SLOT_SHIFT, counter,
};

#[btf_map]
pub(crate) static AGENTS: HashMap<u64, AgentEntry, { AGENT_SLOTS as usize }> = HashMap::new();

#[btf_map]
pub(crate) static NAMESPACES: HashMap<NamespaceKey, NamespaceEntry, 4096> = HashMap::new();

/// When it is full the keeper learns of the namespace from its own look at the agent's processes.
#[btf_map]
pub(crate) static NEW_NAMESPACES: RingBuf<NewNamespace, 65536> = RingBuf::new();

/// An entry lives from connect to accept. There is room for every share in full, so an agent that connects and connects writes
/// over its own oldest record and over nobody else's. Entries take memory only while they are there.
#[btf_map]
pub(crate) static RECORDS: HashMap<
    u32,
    ConnectRecord,
    { (AGENT_SLOTS * RECORDS_PER_AGENT) as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map]
static SEQUENCES: Array<u64, { AGENT_SLOTS as usize }> = Array::new();

#[btf_map]
pub(crate) static EVENTS: RingBuf<RefusalEvent, 262144> = RingBuf::new();

#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { counter::SLOTS as usize }> = PerCpuArray::new();

#[btf_map]
static SOCKETS: SkStorage<Socket> = SkStorage::new();

/// Cgroup level of the agents: one below the managed root, or that of the attached cgroup; set when the object is loaded.
/// Level 0 is the root of the hierarchy, which is no agent: unset, everything is refused.
#[unsafe(no_mangle)]
static AGENT_LEVEL: u32 = 0;

/// Id of the attached cgroup that this copy of the programs is for; 0 in the copy for the managed root.
#[unsafe(no_mangle)]
static ATTACHED: u64 = 0;

/// What is known of an agent's socket.
#[repr(C)]
pub(crate) struct Socket {
    /// Cgroup id of the agent that made it.
    pub(crate) owner: u64,
    /// The redirected connect that it is in, 0 for none.
    pub(crate) tag: u64,
    /// The peer asked for by connect: the answer of getpeername.
    pub(crate) connected: Peer,
    /// By the last send or connect: the sender that recvmsg shows.
    pub(crate) asked: Peer,
}

/// An address in IPv6 notation (IPv4 as mapped), network order; port 0 is none.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) addr_be: [u32; 4],
    pub(crate) port_be: u32,
}

impl Peer {
    pub(crate) const NONE: Peer = Peer { addr_be: [0; 4], port_be: 0 };
}

pub(crate) fn agent_level() -> i32 {
    // SAFETY: a static of the object; volatile, since the loader writes its value after compilation.
    unsafe { core::ptr::read_volatile(&raw const AGENT_LEVEL) as i32 }
}

pub(crate) fn attached() -> u64 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const ATTACHED) }
}

/// A tag that no other connect has, of this agent or another. `None`: a slot that does not exist.
#[inline(always)]
pub(crate) fn next_tag(slot: u32) -> Option<u64> {
    let last = SEQUENCES.get_ptr_mut(slot)?;
    // Ordered, although no order is needed: for a relaxed addition the compiler leaves out what was there before (LLVM 22), and
    // every connect would have the same tag.
    // SAFETY: last points to an entry of the map, which only this instruction changes.
    let before = unsafe { core::intrinsics::atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(last, 1) };
    Some(u64::from(slot) << TAG_SLOT_SHIFT | (before + 1) & ((1 << TAG_SLOT_SHIFT) - 1))
}

/// What is known of this socket; `None`: it was not made by an agent.
#[inline(always)]
pub(crate) fn known(sk: *mut bpf_sock) -> Option<&'static mut Socket> {
    storage(sk, 0)
}

/// The same, all zero when nothing was known yet. `None`: no memory.
#[inline(always)]
pub(crate) fn known_or_new(sk: *mut bpf_sock) -> Option<&'static mut Socket> {
    storage(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
}

#[inline(always)]
fn storage(sk: *mut bpf_sock, flags: u64) -> Option<&'static mut Socket> {
    let map = core::ptr::from_ref(&SOCKETS).cast_mut().cast();
    // SAFETY: map is the definition that the loader replaces by the map, sk is the socket of a context; a null value makes a new
    // entry of zeroes, which a `Socket` may consist of.
    unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags).cast::<Socket>().as_mut() }
}

//! The maps and the one global, as `enforcer_common::map` names them, and access to socket storage.
use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::{HashMap, LruHashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::btf_map;
use enforcer_common::{AgentEntry, ConnectRecord, RefusalEvent, counter};

/// More agents at once than one host runs.
#[btf_map]
pub(crate) static AGENTS: HashMap<u64, AgentEntry, 4096> = HashMap::new();

/// An entry lives from connect to accept; when full the oldest goes, and its connection is refused.
#[btf_map]
pub(crate) static RECORDS: LruHashMap<u64, ConnectRecord, 65536> = LruHashMap::new();

#[btf_map]
pub(crate) static EVENTS: RingBuf<RefusalEvent, 262144> = RingBuf::new();

#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { counter::SLOTS as usize }> = PerCpuArray::new();

/// Cgroup id of the agent that made the socket.
#[btf_map]
pub(crate) static OWNERS: SkStorage<u64> = SkStorage::new();

#[btf_map]
pub(crate) static PEERS: SkStorage<Peers> = SkStorage::new();

/// Cgroup level of the agents, one below the managed root; set when the object is loaded.
/// Level 0 is the root of the hierarchy, which is no agent: unset, everything is refused.
#[unsafe(no_mangle)]
static AGENT_LEVEL: u32 = 0;

/// Whom the agent asked for, before the rewrite.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Peers {
    /// By connect: the answer of getpeername.
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

pub(crate) fn agent_level() -> i32 {
    // SAFETY: a static of the object; volatile, since the loader writes its value after compilation.
    unsafe { core::ptr::read_volatile(&raw const AGENT_LEVEL) as i32 }
}

/// The value that belongs to this socket, if there is one.
#[inline(always)]
pub(crate) fn stored<T>(map: &'static SkStorage<T>, sk: *mut bpf_sock) -> Option<&'static mut T> {
    // SAFETY: the helper takes the socket of a context and a null value without the create flag.
    unsafe { storage(map, sk, 0).as_mut() }
}

/// The value that belongs to this socket, made of zeroes when there is none yet. `None`: no memory.
#[inline(always)]
pub(crate) fn stored_or_new<T>(map: &'static SkStorage<T>, sk: *mut bpf_sock) -> Option<&'static mut T> {
    // SAFETY: as above; a null value with the create flag makes a zeroed one, valid for the plain types stored here.
    unsafe { storage(map, sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE)).as_mut() }
}

#[inline(always)]
unsafe fn storage<T>(map: &'static SkStorage<T>, sk: *mut bpf_sock, flags: u64) -> *mut T {
    let map = core::ptr::from_ref(map).cast_mut().cast();
    // SAFETY: map is the definition that the loader replaces by the map, sk comes from a context.
    unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags).cast() }
}

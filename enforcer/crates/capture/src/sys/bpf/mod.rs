//! bpf(2): pins, cgroup links and map entries. The library that loads the programs cannot update every kind of link, and the
//! worker's map accesses have to work without capabilities.
mod tcx;

pub(crate) use tcx::{attach_tcx, tcx_ifindex};

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::Pod;

// enum bpf_cmd (include/uapi/linux/bpf.h).
const MAP_CREATE: u32 = 0;
const PROG_LOAD: u32 = 5;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const MAP_GET_NEXT_KEY: u32 = 4;
const OBJ_PIN: u32 = 6;
const OBJ_GET: u32 = 7;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const MAP_LOOKUP_AND_DELETE_ELEM: u32 = 21;
const PROG_QUERY: u32 = 16;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const LINK_DETACH: u32 = 34;

/// Pins a map, program or link at a path in a bpffs.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let attr = PathAttr { path: path.as_ptr() as u64, fd: raw(object), flags: 0 };
    // SAFETY: path is a C string that outlives the call; fd is open (borrowed).
    unsafe { call(OBJ_PIN, &attr) }.map(drop)
}

/// Opens a pinned map, program or link.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let attr = PathAttr { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: path is a C string that outlives the call; the result is a descriptor of ours.
    unsafe { call(OBJ_GET, &attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// `return 0`, which hooks on socket addresses turn into EPERM: struct bpf_insn has opcode, registers, offset, immediate.
/// BPF_ALU64 | BPF_MOV | BPF_K; BPF_JMP | BPF_EXIT.
pub(crate) const REFUSAL: [u64; 2] = [0xb7, 0x95];

/// Loads a program for a hook on socket addresses. For the hooks that the library does not know by name.
pub(crate) fn load_for_addresses(attach_type: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    /// `enum bpf_prog_type`.
    const CGROUP_SOCK_ADDR: u32 = 18;
    let code: Vec<u64> = instructions.iter().map(|instruction| instruction.to_le()).collect();
    let license = c"Dual MIT/GPL";
    let attr = ProgLoadAttr {
        kind: CGROUP_SOCK_ADDR,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log: [0; 6],
        name: *b"enforcer_unix\0\0\0",
        interface: 0,
        attach_type,
    };
    // SAFETY: code and license outlive the call; the result is a descriptor of ours.
    unsafe { call(PROG_LOAD, &attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Attaches a program to a cgroup. The link holds until it is detached, or nothing refers to it any more.
pub(crate) fn attach(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let attr = LinkCreateAttr { program: raw(program), target: raw(cgroup), attach_type, flags: 0 };
    // SAFETY: both descriptors are open (borrowed); the result is a descriptor of ours.
    unsafe { call(LINK_CREATE, &attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Swaps the program of a link; at no moment is there none.
pub(crate) fn replace_program(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = LinkUpdateAttr { link: raw(link), program: raw(program), flags: 0, old_program: 0 };
    // SAFETY: both descriptors are open (borrowed).
    unsafe { call(LINK_UPDATE, &attr) }.map(drop)
}

pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let attr = LinkDetachAttr { link: raw(link) };
    // SAFETY: the descriptor is open (borrowed).
    unsafe { call(LINK_DETACH, &attr) }.map(drop)
}

/// The head of `struct bpf_link_info`, for a cgroup link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkInfo {
    kind: u32,
    pub(crate) id: u32,
    pub(crate) program_id: u32,
    reserved: u32,
    /// 0 when the cgroup is gone.
    pub(crate) cgroup_id: u64,
    pub(crate) attach_type: u32,
    reserved2: u32,
}

/// `BPF_LINK_TYPE_CGROUP`.
const LINK_TYPE_CGROUP: u32 = 3;

/// What a cgroup link is attached to. Of another kind of object only numbers without meaning could come, and no command on a link
/// takes one.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // SAFETY: LinkInfo is plain integers, of which the kernel fills at most its size.
    let info: LinkInfo = unsafe { info(link) }?;
    if info.kind != LINK_TYPE_CGROUP {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a cgroup link"));
    }
    Ok(info)
}

/// Ids of the programs that run at a hook of a cgroup, those of the cgroups above it included. At most as many
/// as the kernel lets one cgroup have (64) a few times over; the rest is left out.
pub(crate) fn programs_at(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    const EFFECTIVE: u32 = 1;
    let mut ids = [0u32; 256];
    let mut attr = ProgQueryAttr {
        target: raw(cgroup),
        attach_type,
        query_flags: EFFECTIVE,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        reserved: 0,
    };
    // SAFETY: the descriptor is open (borrowed); the kernel writes at most count ids, and how many to attr.
    unsafe { call_mut(PROG_QUERY, &mut attr) }?;
    Ok(ids.get(..attr.count as usize).unwrap_or(&ids).to_vec())
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MapInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    // SAFETY: MapInfo is plain integers, of which the kernel fills at most its size.
    unsafe { info(map) }
}

/// A map of one value, under the key 0 (32 bit).
pub(crate) fn one_entry(value_size: usize) -> io::Result<OwnedFd> {
    const ARRAY: u32 = 2;
    let value_size = u32::try_from(value_size).map_err(io::Error::other)?;
    let attr = MapCreateAttr { kind: ARRAY, key_size: size_of::<u32>() as u32, value_size, max_entries: 1 };
    // SAFETY: the attributes are numbers; the result is a descriptor of ours.
    unsafe { call(MAP_CREATE, &attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
}

/// The number by which the kernel knows a program.
pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: ProgramInfo is plain integers, of which the kernel fills at most its size.
    let info: ProgramInfo = unsafe { info(program) }?;
    Ok(info.id)
}

/// A hash map whose keys and values are known to have the sizes of `K` and `V`.
#[derive(Debug)]
pub(crate) struct HashMap<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Pod, V: Pod> HashMap<K, V> {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let info = map_info(fd.as_fd())?;
        if (info.key_size as usize, info.value_size as usize) != (size_of::<K>(), size_of::<V>()) {
            let message = format!("a map of {} byte keys and {} byte values", info.key_size, info.value_size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(HashMap { fd, types: PhantomData })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes the entry out of the map in one step: of two callers one gets it.
    pub(crate) fn take(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        let attr = self.attr(key, value.as_mut_ptr() as u64);
        // SAFETY: `new` compared the sizes, so the kernel reads a key and writes a value of just these types.
        let found = found(unsafe { call(MAP_LOOKUP_AND_DELETE_ELEM, &attr) })?;
        // SAFETY: the call succeeded, so value is written; any bit pattern is a valid `Pod`.
        Ok(found.map(|_| unsafe { value.assume_init() }))
    }

    pub(crate) fn insert(&self, key: &K, value: &V) -> io::Result<()> {
        let attr = self.attr(key, std::ptr::from_ref(value) as u64);
        // SAFETY: `new` compared the sizes; key and value outlive the call, which only reads them.
        unsafe { call(MAP_UPDATE_ELEM, &attr) }.map(drop)
    }

    /// Only where there is none; whether it was put in.
    pub(crate) fn insert_new(&self, key: &K, value: &V) -> io::Result<bool> {
        const NOEXIST: u64 = 1;
        let attr = MapAttr { flags: NOEXIST, ..self.attr(key, std::ptr::from_ref(value) as u64) };
        // SAFETY: as for `insert`.
        match unsafe { call(MAP_UPDATE_ELEM, &attr) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        let attr = self.attr(key, value.as_mut_ptr() as u64);
        // SAFETY: `new` compared the sizes, so the kernel reads a key and writes a value of just these types.
        let found = found(unsafe { call(MAP_LOOKUP_ELEM, &attr) })?;
        // SAFETY: the call succeeded, so value is written; any bit pattern is a valid `Pod`.
        Ok(found.map(|_| unsafe { value.assume_init() }))
    }

    /// Whether there was one.
    pub(crate) fn remove(&self, key: &K) -> io::Result<bool> {
        let attr = self.attr(key, 0);
        // SAFETY: `new` compared the sizes; the key outlives the call.
        found(unsafe { call(MAP_DELETE_ELEM, &attr) }).map(|found| found.is_some())
    }

    /// All keys, with those possibly missing that come or go meanwhile.
    pub(crate) fn keys(&self) -> io::Result<Vec<K>> {
        let limit = map_info(self.fd())?.max_entries as usize;
        let mut keys: Vec<K> = Vec::new();
        // The walk starts again when its key is deleted meanwhile: the bound ends it.
        while keys.len() < limit {
            let mut next = MaybeUninit::<K>::uninit();
            let key = keys.last().map_or(0, |key| std::ptr::from_ref(key) as u64);
            let attr =
                MapAttr { map: raw(self.fd()), reserved: 0, key, value: next.as_mut_ptr() as u64, flags: 0 };
            // SAFETY: `new` compared the sizes; the kernel writes one key to next.
            if found(unsafe { call(MAP_GET_NEXT_KEY, &attr) })?.is_none() {
                break;
            }
            // SAFETY: the call succeeded, so next is written; any bit pattern is a valid `Pod`.
            keys.push(unsafe { next.assume_init() });
        }
        Ok(keys)
    }

    fn attr(&self, key: &K, value: u64) -> MapAttr {
        MapAttr { map: raw(self.fd()), reserved: 0, key: std::ptr::from_ref(key) as u64, value, flags: 0 }
    }
}

/// The members of `union bpf_attr` used here; the kernel takes what is beyond the given size as zero.
/// The head of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct ProgLoadAttr {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    /// log_level, log_size, log_buf, kern_version, prog_flags
    log: [u32; 6],
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
struct MapCreateAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct MapAttr {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct PathAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct LinkCreateAttr {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
struct LinkDetachAttr {
    link: u32,
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// The member of `union bpf_attr` for `BPF_PROG_QUERY`; the kernel writes `attach_flags` and `count`.
#[repr(C)]
struct ProgQueryAttr {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
}

/// # Safety
/// `T` is `repr(C)`, made of integers only, and the head of the kernel's info struct for this kind of object.
unsafe fn info<T: Default>(object: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    let attr =
        InfoAttr { fd: raw(object), len: size_of::<T>() as u32, info: std::ptr::from_mut(&mut info) as u64 };
    // SAFETY: the kernel writes at most len bytes to info, which outlives the call.
    unsafe { call(OBJ_GET_INFO_BY_FD, &attr) }?;
    Ok(info)
}

/// # Safety
/// `T` is the part of `union bpf_attr` that this command reads; the addresses in it are valid for what the command does.
unsafe fn call<T>(command: u32, attr: &T) -> io::Result<RawFd> {
    // SAFETY: attr is readable for its size; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// For a command that answers in `attr`.
///
/// # Safety
/// As [`call`]; what the kernel writes to `T` are integers.
unsafe fn call_mut<T>(command: u32, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: attr is writable for its size; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

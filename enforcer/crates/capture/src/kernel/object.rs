//! The embedded object: its maps as pinned, its programs as loaded. Attaching is `link`'s.
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::programs::{Program, ProgramError, ProgramFd};
use aya::{Ebpf, EbpfLoader};
use enforcer_common::{
    AGENT_LEVEL_GLOBAL, AGENT_SLOTS, ATTACHED_GLOBAL, AgentEntry, ConnectRecord, NamespaceEntry,
    NamespaceKey, RECORDS_PER_AGENT, counter, map,
};

use super::filesystems::Target;
use super::link::{DEVICE, HOOKS, Hook};
use crate::sys::bpf;

/// The object, if `cargo xtask bpf` had built one when this crate was compiled.
#[cfg(bpf_object)]
pub(crate) const OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!("ENFORCER_BPF_OBJECT")));
#[cfg(not(bpf_object))]
pub(crate) const OBJECT: Option<&[u8]> = None;

/// A map as this version has it. A pinned one of an earlier run is used on when it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapShape {
    pub(crate) name: &'static str,
    /// `enum bpf_map_type`.
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const SK_STORAGE: u32 = 24;
const RINGBUF: u32 = 27;
const NO_PREALLOC: u32 = 1;

const NONE: MapShape = MapShape { name: "", kind: 0, key_size: 0, value_size: 0, max_entries: 0, flags: 0 };

pub(crate) const MAPS: &[MapShape] = &[
    MapShape {
        name: map::AGENTS,
        kind: HASH,
        key_size: 8,
        value_size: size_of::<AgentEntry>() as u32,
        max_entries: AGENT_SLOTS,
        ..NONE
    },
    MapShape {
        name: map::NAMESPACES,
        kind: HASH,
        key_size: size_of::<NamespaceKey>() as u32,
        value_size: size_of::<NamespaceEntry>() as u32,
        max_entries: 4096,
        ..NONE
    },
    MapShape { name: map::NEW_NAMESPACES, kind: RINGBUF, max_entries: 65536, ..NONE },
    MapShape {
        name: map::RECORDS,
        kind: HASH,
        key_size: 4,
        value_size: size_of::<ConnectRecord>() as u32,
        max_entries: AGENT_SLOTS * RECORDS_PER_AGENT,
        flags: NO_PREALLOC,
    },
    MapShape {
        name: map::SEQUENCES,
        kind: ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: AGENT_SLOTS,
        ..NONE
    },
    MapShape { name: map::EVENTS, kind: RINGBUF, max_entries: 262_144, ..NONE },
    MapShape {
        name: map::COUNTERS,
        kind: PERCPU_ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: counter::SLOTS,
        ..NONE
    },
    // Entries without preallocation is what this kind has to be asked for.
    MapShape {
        name: map::SOCKETS,
        kind: SK_STORAGE,
        key_size: 4,
        value_size: 56,
        flags: NO_PREALLOC,
        ..NONE
    },
];

impl MapShape {
    pub(crate) fn pin(&self, pins: &Path) -> PathBuf {
        pins.join(format!("map_{}", self.name))
    }

    /// Where one of another version lies until this version's is in force.
    pub(crate) fn aside(&self, pins: &Path) -> PathBuf {
        pins.join(format!("old_{}", self.name))
    }

    /// The pinned map; `Ok(Err)` says how it differs from this shape.
    pub(crate) fn open(&self, pins: &Path) -> io::Result<Result<OwnedFd, String>> {
        let fd = bpf::pinned(&self.pin(pins))?;
        let info = bpf::map_info(fd.as_fd())?;
        let found = MapShape {
            name: self.name,
            kind: info.kind,
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: info.flags,
        };
        if found == *self {
            return Ok(Ok(fd));
        }
        let tell = |shape: &MapShape| {
            format!(
                "type {}, {} byte keys, {} byte values, {} entries, flags {:#x}",
                shape.kind, shape.key_size, shape.value_size, shape.max_entries, shape.flags
            )
        };
        Ok(Err(format!("{}; this version has {}", tell(&found), tell(self))))
    }
}

/// Loads the object. Pinned maps are used as they are, missing ones made and pinned.
pub(crate) fn load(object: &[u8], pins: &Path, target: &Target) -> Result<Ebpf, aya::EbpfError> {
    let mut loader = EbpfLoader::new();
    loader.override_global(AGENT_LEVEL_GLOBAL, &target.agent_level, true);
    loader.override_global(ATTACHED_GLOBAL, &target.attached, true);
    for map in MAPS {
        loader.map_pin_path(map.name, map.pin(pins));
    }
    loader.load(object)
}

/// Loads the object with maps of its own, which end with it.
pub(crate) fn load_unpinned(object: &[u8]) -> Result<Ebpf, aya::EbpfError> {
    EbpfLoader::new().override_global(AGENT_LEVEL_GLOBAL, &1u32, true).load(object)
}

/// Hands each program to the verifier. All of them, before any is attached.
pub(crate) fn verify_programs(ebpf: &mut Ebpf) -> Result<Vec<(Hook, ProgramFd)>, (Hook, ProgramError)> {
    HOOKS
        .iter()
        .map(|hook| verify(ebpf, *hook).map(|fd| (*hook, fd)).map_err(|error| (*hook, error)))
        .collect()
}

/// The program for devices, which only attached cgroups need.
pub(crate) fn verify_device(ebpf: &mut Ebpf) -> Result<ProgramFd, ProgramError> {
    verify(ebpf, DEVICE)
}

fn verify(ebpf: &mut Ebpf, hook: Hook) -> Result<ProgramFd, ProgramError> {
    let program = ebpf.program_mut(hook.name).ok_or(ProgramError::UnexpectedProgramType)?;
    match program {
        Program::CgroupSock(program) => program.load()?,
        Program::CgroupSockAddr(program) => program.load()?,
        Program::CgroupSkb(program) => program.load()?,
        Program::CgroupSockopt(program) => program.load()?,
        Program::SockOps(program) => program.load()?,
        Program::SchedClassifier(program) => program.load()?,
        _ => return Err(ProgramError::UnexpectedProgramType),
    }
    program
        .fd()?
        .try_clone()
        .map_err(|io_error| ProgramError::SyscallError(aya::sys::SyscallError { call: "dup", io_error }))
}

//! The pinned maps of an earlier version: set aside while this version's take their place, their agents carried over.
//!
//! The programs of the earlier version go on with the maps that they have until each is swapped, so at no moment is an agent without
//! either. What only waits in a map (records of connects on their way) is not carried over: its connections are refused.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use enforcer_common::{AGENT_SLOTS, AgentEntry, map};

use super::absent;
use super::error::KernelError;
use super::object::{MAPS, MapShape};
use crate::sys::bpf::{self, HashMap};

/// Pins that this version does not use as they are.
#[derive(Debug)]
pub(super) struct Earlier {
    pins: PathBuf,
    aside: Vec<MapShape>,
}

impl Earlier {
    /// Makes room for this version's maps. Those of a start that was cut short are found again.
    pub(super) fn set_aside(pins: &Path) -> Result<Self, KernelError> {
        let mut aside = Vec::new();
        for map in MAPS {
            let pin = map.pin(pins);
            let problem = |error| KernelError::Pins { path: pin.clone(), error };
            if let Some(Err(difference)) = absent(map.open(pins)).map_err(problem)? {
                fs::rename(&pin, map.aside(pins)).map_err(problem)?;
                tracing::info!(
                    map = map.name,
                    difference,
                    "a pinned map is of another version: it is replaced"
                );
            }
            if map.aside(pins).exists() {
                aside.push(*map);
            }
        }
        Ok(Earlier { pins: pins.to_owned(), aside })
    }

    /// There are none: what is pinned is used on.
    pub(super) fn is_none(&self) -> bool {
        self.aside.is_empty()
    }

    /// The programs of this version did not stand: the earlier ones, which are still attached, get their pins back.
    pub(super) fn put_back(self) {
        for map in self.aside {
            if let Err(error) = fs::rename(map.aside(&self.pins), map.pin(&self.pins)) {
                tracing::warn!(map = map.name, %error, "cannot put back the pin of the earlier version");
            }
        }
    }

    /// The agents of the earlier version are agents of this one.
    pub(super) fn carry_agents(&self, agents: &Agents) -> Result<(), KernelError> {
        let Some(map) = self.aside.iter().find(|map| map.name == map::AGENTS) else { return Ok(()) };
        let path = map.aside(&self.pins);
        let carried = bpf::pinned(&path).and_then(HashMap::<u64, AgentEntry>::new).and_then(|old| {
            for cgroup_id in old.keys()? {
                agents.insert(cgroup_id)?;
            }
            Ok(())
        });
        match carried {
            // Taking up their sessions makes them known again.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(%error, "the agents of another version are denied until their sessions are taken up");
                Ok(())
            }
            other => other.map_err(|error| KernelError::Pins { path, error }),
        }
    }

    /// Every program is this version's: nothing needs the earlier maps any more.
    pub(super) fn forget(self) -> Result<(), KernelError> {
        remove(&self.pins, |name| {
            name.starts_with("old_")
                || name.strip_prefix("map_").is_some_and(|name| MAPS.iter().all(|map| map.name != name))
        })
    }
}

/// Removes the pins of maps, those of other versions as well.
pub(super) fn remove_all(pins: &Path) -> Result<(), KernelError> {
    remove(pins, |name| name.starts_with("map_") || name.starts_with("old_"))
}

fn remove(pins: &Path, which: impl Fn(&str) -> bool) -> Result<(), KernelError> {
    let problem = |error| KernelError::Pins { path: pins.to_owned(), error };
    let Some(entries) = absent(fs::read_dir(pins)).map_err(problem)? else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(problem)?;
        if entry.file_name().to_str().is_some_and(&which) {
            let path = entry.path();
            absent(fs::remove_file(&path)).map_err(|error| KernelError::Pins { path, error })?;
        }
    }
    Ok(())
}

/// The governed cgroups, each with a slot that no other has.
#[derive(Debug)]
pub(super) struct Agents {
    map: HashMap<u64, AgentEntry>,
    slots: std::sync::Mutex<BTreeMap<u64, u32>>,
}

impl Agents {
    /// With the agents that are in the map already.
    pub(super) fn new(map: OwnedFd) -> io::Result<Self> {
        let map = HashMap::<u64, AgentEntry>::new(map)?;
        let mut slots = BTreeMap::new();
        for cgroup_id in map.keys()? {
            if let Some(entry) = map.get(&cgroup_id)? {
                slots.insert(cgroup_id, entry.slot);
            }
        }
        Ok(Agents { map, slots: slots.into() })
    }

    /// `OutOfMemory`: every slot is taken.
    pub(super) fn insert(&self, cgroup_id: u64) -> io::Result<()> {
        let mut slots = self.slots();
        let slot = match slots.get(&cgroup_id) {
            Some(slot) => *slot,
            None => {
                let taken: BTreeSet<u32> = slots.values().copied().collect();
                (0..AGENT_SLOTS).find(|slot| !taken.contains(slot)).ok_or(io::ErrorKind::OutOfMemory)?
            }
        };
        self.map.insert(&cgroup_id, &AgentEntry { slot, reserved: 0 })?;
        slots.insert(cgroup_id, slot);
        Ok(())
    }

    pub(super) fn remove(&self, cgroup_id: u64) -> io::Result<()> {
        let mut slots = self.slots();
        self.map.remove(&cgroup_id)?;
        slots.remove(&cgroup_id);
        Ok(())
    }

    pub(super) fn ids(&self) -> io::Result<Vec<u64>> {
        self.map.keys()
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, u32>> {
        // Changed in single steps, after the kernel: a panic leaves it right.
        self.slots.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A map that the loader has pinned by now.
pub(super) fn open(name: &'static str, pins: &Path) -> Result<OwnedFd, KernelError> {
    let map = MAPS.iter().find(|map| map.name == name).expect("every name asked for is in MAPS");
    match map.open(pins) {
        Ok(Ok(fd)) => Ok(fd),
        Ok(Err(difference)) => Err(KernelError::OtherLayout { map: name, difference }),
        Err(error) => Err(KernelError::Pins { path: map.pin(pins), error }),
    }
}

/// Id of each map, in the order of [`MAPS`].
pub(super) fn ids(pins: &Path) -> Result<Vec<u32>, KernelError> {
    let id = |map: &MapShape| {
        let fd = open(map.name, pins)?;
        let info = bpf::map_info(fd.as_fd());
        info.map(|info| info.id).map_err(|error| KernelError::Pins { path: map.pin(pins), error })
    };
    MAPS.iter().map(id).collect()
}

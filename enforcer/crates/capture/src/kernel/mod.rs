//! Loads, attaches, pins and adopts the programs, and tells them which cgroups are agents. Keeper only.
//!
//! Links and maps are pinned: when the keeper dies they go on denying and redirecting, and the next one takes them over. Only
//! [`Kernel::unmanage`] takes them away. Making the managed root and what is in it belongs to others.
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::ProgramFd;
use enforcer_common::{INJECTOR_PORT, NamespaceEntry, NamespaceKey, RESOLVER_PORT, flags, map};
use serde::{Deserialize, Serialize};

use self::boundary::Boundary;
use self::filesystems::Target;
use self::link::{HOOKS, Hook, UNIX_HOOKS};
use self::maps::{Agents, Earlier};
use self::object::{MAPS, OBJECT};
use self::unix_view::Made;
use crate::sys::bpf::{self, HashMap};

mod attachment;
mod boundary;
mod btf;
mod build;
mod error;
mod filesystems;
mod inspect;
mod link;
mod maps;
mod object;
mod unix_view;

pub use attachment::Attachment;
pub use error::KernelError;
pub use inspect::{Inspection, inspect, try_programs};

/// Where this instance keeps its kernel state. Two instances with different layouts do not meet.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The managed root in the cgroup2 hierarchy, e.g. `/sys/fs/cgroup/enforcer-agents.slice`.
    pub managed_root: PathBuf,
    /// A root-only directory in a bpffs, e.g. `/sys/fs/bpf/enforcer`.
    pub pins: PathBuf,
}

/// Where the injector and the resolver listen for an agent in one network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// The namespace holds only this agent and our listeners: loopback is the agent's own.
    pub private: bool,
    pub injector_port: u16,
    pub resolver_port: u16,
}

impl Listening {
    /// In a namespace that we made for the agent.
    pub const PRIVATE: Listening =
        Listening { private: true, injector_port: INJECTOR_PORT, resolver_port: RESOLVER_PORT };
}

/// The programs, attached and pinned. Dropping it leaves them so.
#[derive(Debug)]
pub struct Kernel {
    layout: Layout,
    boundary: Boundary,
    agents: Agents,
    namespaces: HashMap<NamespaceKey, NamespaceEntry>,
    new_namespaces: OwnedFd,
    records: OwnedFd,
    events: OwnedFd,
    counters: OwnedFd,
    /// Id of each map, in the order of [`MAPS`].
    map_ids: Vec<u32>,
}

impl Kernel {
    /// Adopts the pinned maps and links of an earlier run (programs are swapped atomically) or loads, attaches and pins anew.
    /// The managed root must exist.
    pub fn start(layout: &Layout) -> Result<Self, KernelError> {
        if !rustix::process::geteuid().is_root() {
            return Err(KernelError::NotRoot);
        }
        let object = OBJECT.ok_or(KernelError::NoObject)?;
        let root = Target::managed_root(&layout.managed_root)?;
        let new = filesystems::prepare_pins(&layout.pins)?;
        let started = Kernel::attach_all(layout, object, &root);
        if started.is_err() && new {
            // Half of a boundary that nobody relies on yet. What keeps a pin from going is the reported error's concern.
            if let Err(error) = Kernel::unmanage(layout) {
                tracing::warn!(%error, "cannot remove the pins of a failed start");
            }
        }
        started
    }

    /// Everything is still attached to this very managed root, and pinned. Asked before each launch.
    pub fn verify(&self) -> Result<(), KernelError> {
        self.boundary.verify()?;
        for (map, id) in MAPS.iter().zip(&self.map_ids) {
            let pin = map.pin(&self.layout.pins);
            match bpf::pinned(&pin).and_then(|fd| bpf::map_info(fd.as_fd())) {
                Ok(info) if info.id == *id => {}
                Ok(_) => return Err(KernelError::Unpinned { pin }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(KernelError::Unpinned { pin });
                }
                Err(error) => return Err(KernelError::Pins { path: pin, error }),
            }
        }
        Ok(())
    }

    /// From now on this cgroup is an agent, and may connect from the namespaces that it was admitted to.
    pub fn govern(&self, cgroup_id: u64) -> Result<(), KernelError> {
        self.agents.insert(cgroup_id).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => KernelError::TooManyAgents,
            _ => KernelError::Io { what: format!("govern cgroup {cgroup_id}"), error },
        })
    }

    /// The cgroup is no agent any more: everything is denied, connections that it has are cut.
    pub fn release(&self, cgroup_id: u64) -> Result<(), KernelError> {
        self.agents
            .remove(cgroup_id)
            .map_err(|error| KernelError::Io { what: format!("release cgroup {cgroup_id}"), error })
    }

    /// The agent may connect from this network namespace, to these ports.
    pub fn admit(&self, cgroup_id: u64, netns_cookie: u64, at: Listening) -> Result<(), KernelError> {
        let Listening { private, injector_port, resolver_port } = at;
        let flags = if private { flags::PRIVATE_NETNS } else { 0 };
        let entry = NamespaceEntry { flags, injector_port, resolver_port };
        self.namespaces.insert(&NamespaceKey { cgroup_id, netns_cookie }, &entry).map_err(|error| {
            KernelError::Io { what: format!("admit cgroup {cgroup_id} to a namespace"), error }
        })
    }

    /// Where it may connect to from this network namespace, as an earlier run may have said.
    pub fn admitted(&self, cgroup_id: u64, netns_cookie: u64) -> Result<Option<Listening>, KernelError> {
        let entry = self.namespaces.get(&NamespaceKey { cgroup_id, netns_cookie }).map_err(|error| {
            KernelError::Io { what: format!("ask where cgroup {cgroup_id} is admitted"), error }
        })?;
        Ok(entry.map(|NamespaceEntry { flags: set, injector_port, resolver_port }| Listening {
            private: set & flags::PRIVATE_NETNS != 0,
            injector_port,
            resolver_port,
        }))
    }

    /// The agent may not connect from this network namespace any more.
    pub fn expel(&self, cgroup_id: u64, netns_cookie: u64) -> Result<(), KernelError> {
        self.namespaces.remove(&NamespaceKey { cgroup_id, netns_cookie }).map(drop).map_err(|error| {
            KernelError::Io { what: format!("expel cgroup {cgroup_id} from a namespace"), error }
        })
    }

    /// Attaches a cgroup elsewhere in the hierarchy, by a name for its pins; or takes up what is attached under that name.
    /// It is denied everything until it is governed by its own id.
    pub fn attach(&self, name: &str, cgroup: &Path) -> Result<Attachment, KernelError> {
        Attachment::raise(&self.layout, name, cgroup)
    }

    /// Takes the programs away from an attached cgroup: it is free then. `false`: there was nothing.
    pub fn detach(&self, name: &str) -> Result<bool, KernelError> {
        attachment::remove(&self.layout, name)
    }

    /// Names of everything attached, whether somebody knows it or not.
    pub fn attached(&self) -> Result<Vec<String>, KernelError> {
        attachment::names(&self.layout)
    }

    /// Each session that is attached, with the id of its cgroup; by the pins, whether a daemon runs or not.
    pub fn attached_to(layout: &Layout) -> Result<Vec<(String, u64)>, KernelError> {
        attachment::targets(layout)
    }

    /// Namespaces that agents tried to connect from and that nobody listens in, for the keeper ([`crate::events::NewNamespaces`]).
    pub fn new_namespaces(&self) -> io::Result<OwnedFd> {
        self.new_namespaces.try_clone()
    }

    /// The governed cgroups, those of an earlier run included.
    pub fn governed(&self) -> Result<Vec<u64>, KernelError> {
        self.agents
            .ids()
            .map_err(|error| KernelError::Io { what: "list the governed cgroups".to_owned(), error })
    }

    /// The connect records, for the worker ([`crate::records::Records`]).
    pub fn records(&self) -> io::Result<OwnedFd> {
        self.records.try_clone()
    }

    /// The refusals, for the worker ([`crate::events::Events`]).
    pub fn events(&self) -> io::Result<OwnedFd> {
        self.events.try_clone()
    }

    /// The counters, for the worker ([`crate::events::Counters`]).
    pub fn counters(&self) -> io::Result<OwnedFd> {
        self.counters.try_clone()
    }

    /// The only way the pins go away, but for [`Kernel::detach`]. Whatever runs under the managed root, or was attached, is without
    /// these programs then: [`crate::unmanage`] asks first. `false`: there was nothing to let go of.
    pub fn unmanage(layout: &Layout) -> Result<bool, KernelError> {
        let pins = &layout.pins;
        attachment::remove_all(layout)?;
        build::forget(pins)?;
        Boundary::remove(pins)?;
        maps::remove_all(pins)?;
        boundary::remove_dir(pins)
    }

    fn attach_all(layout: &Layout, object: &[u8], root: &Target) -> Result<Self, KernelError> {
        let pins = &layout.pins;
        let earlier = Earlier::set_aside(pins)?;
        let host_netns = crate::netns::cookie_here().map_err(|error| KernelError::Io {
            what: "ask for the number of the host's network namespace".to_owned(),
            error,
        })?;
        if earlier.is_none()
            && let Some(boundary) = Kernel::in_force(object, root, host_netns, pins)
        {
            earlier.forget()?;
            let problem = |error| KernelError::Pins { path: pins.clone(), error };
            let agents = Agents::new(maps::open(map::AGENTS, pins)?).map_err(problem)?;
            return Kernel::with(layout, boundary, agents);
        }
        build::forget(pins)?;
        let (programs, agents) = match load(object, pins, root, &earlier) {
            Ok(loaded) => loaded,
            Err(error) => {
                earlier.put_back();
                return Err(error);
            }
        };
        let agents_map = maps::open(map::AGENTS, pins)?;
        let made = Made { agent_level: root.agent_level, agents: agents_map.as_fd(), host_netns };
        let boundary = Boundary::raise(&programs, root, pins, Some(&made))?;
        earlier.forget()?;
        let digest = build::digest(object, root, host_netns, &maps::ids(pins)?);
        let written = boundary.programs().and_then(|programs| match programs {
            Some(programs) => build::write(digest, &programs, pins),
            None => Ok(()),
        });
        written.map_err(|error| KernelError::Pins { path: pins.clone(), error })?;
        Kernel::with(layout, boundary, agents)
    }

    /// What an earlier keeper attached, if it is what this one would. What cannot be seen is made anew.
    fn in_force(object: &[u8], root: &Target, host_netns: u64, pins: &Path) -> Option<Boundary> {
        let digest = build::digest(object, root, host_netns, &maps::ids(pins).ok()?);
        let known = build::made_from(digest, pins).ok()??;
        Boundary::in_force(known.get(..HOOKS.len() + UNIX_HOOKS.len())?, root, pins).ok()?
    }

    fn with(layout: &Layout, boundary: Boundary, agents: Agents) -> Result<Self, KernelError> {
        let pins = &layout.pins;
        let namespaces = HashMap::new(maps::open(map::NAMESPACES, pins)?)
            .map_err(|error| KernelError::Pins { path: pins.clone(), error })?;
        Ok(Kernel {
            layout: layout.clone(),
            boundary,
            agents,
            namespaces,
            new_namespaces: maps::open(map::NEW_NAMESPACES, pins)?,
            records: maps::open(map::RECORDS, pins)?,
            events: maps::open(map::EVENTS, pins)?,
            counters: maps::open(map::COUNTERS, pins)?,
            map_ids: maps::ids(pins)?,
        })
    }
}

/// The programs, verified and not yet attached, and the agents they will know.
fn load(
    object: &[u8],
    pins: &Path,
    root: &Target,
    earlier: &Earlier,
) -> Result<(Vec<(Hook, ProgramFd)>, Agents), KernelError> {
    let (_ebpf, programs) = verified(object, pins, root)?;
    let agents = Agents::new(maps::open(map::AGENTS, pins)?)
        .map_err(|error| KernelError::Pins { path: pins.to_owned(), error })?;
    earlier.carry_agents(&agents)?;
    Ok((programs, agents))
}

/// Loads a copy of the programs for this cgroup, and hands each to the verifier.
fn verified(
    object: &[u8],
    pins: &Path,
    target: &Target,
) -> Result<(Ebpf, Vec<(Hook, ProgramFd)>), KernelError> {
    let mut ebpf =
        object::load(object, pins, target).map_err(|error| KernelError::Load { error: Box::new(error) })?;
    let programs = object::verify_programs(&mut ebpf).map_err(|(hook, error)| KernelError::Program {
        hook: hook.name,
        since: hook.since,
        error: error.into(),
    })?;
    Ok((ebpf, programs))
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

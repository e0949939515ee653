//! Loads, attaches, pins and adopts the programs, and tells them which cgroups are agents. Keeper only.
//!
//! Links and maps are pinned: when the keeper dies they go on denying and redirecting, and the next one takes them over. Only
//! [`Kernel::unmanage`] takes them away. Making the managed root and what is in it belongs to others.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::programs::ProgramFd;
use enforcer_common::{flags, map};

use self::filesystems::ManagedRoot;
use self::link::{Attached, HOOKS, Held, Hook, Link, UNIX_HOOKS};
use self::maps::{Agents, Earlier};
use self::object::{MAPS, OBJECT};
use crate::sys::bpf;

mod error;
mod filesystems;
mod inspect;
mod link;
mod maps;
mod object;

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

/// The programs, attached and pinned. Dropping it leaves them so.
#[derive(Debug)]
pub struct Kernel {
    layout: Layout,
    links: Vec<Link>,
    agents: Agents,
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
        let root = filesystems::open_root(&layout.managed_root)?;
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
        let root = &self.layout.managed_root;
        let root_id = filesystems::cgroup_id(root)
            .map_err(|error| KernelError::ManagedRoot { path: root.clone(), error })?;
        for link in &self.links {
            let name = link.hook.name;
            let held = link
                .holds(root_id, &self.layout.pins)
                .map_err(|error| KernelError::Io { what: format!("check the link of `{name}`"), error })?;
            match held {
                Held::Yes => {}
                Held::Detached => return Err(KernelError::Detached { hook: name, root: root.clone() }),
                Held::Unpinned => {
                    return Err(KernelError::Unpinned { pin: link.hook.pin(&self.layout.pins) });
                }
            }
        }
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

    /// From now on this cgroup is an agent and may connect from this network namespace.
    pub fn govern(&self, cgroup_id: u64, netns_cookie: u64, private_netns: bool) -> Result<(), KernelError> {
        let flags = if private_netns { flags::PRIVATE_NETNS } else { 0 };
        self.agents.insert(cgroup_id, netns_cookie, flags).map_err(|error| match error.kind() {
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

    /// `enforcer unmanage`: the only way the pins go away. Whatever runs under the managed root is without these programs then:
    /// end it first. `false`: there was nothing to let go of.
    pub fn unmanage(layout: &Layout) -> Result<bool, KernelError> {
        let pins = &layout.pins;
        for hook in HOOKS.iter().chain(UNIX_HOOKS) {
            Link::remove(*hook, pins).map_err(|error| KernelError::Pins { path: hook.pin(pins), error })?;
        }
        maps::remove_all(pins)?;
        absent_is_fine(std::fs::remove_dir(pins))
            .map_err(|error| KernelError::Pins { path: pins.clone(), error })
    }

    fn attach_all(layout: &Layout, object: &[u8], root: &ManagedRoot) -> Result<Self, KernelError> {
        let pins = &layout.pins;
        let earlier = Earlier::set_aside(pins)?;
        let (programs, agents) = match load(object, pins, root, &earlier) {
            Ok(loaded) => loaded,
            Err(error) => {
                earlier.put_back();
                return Err(error);
            }
        };

        let mut links = Vec::with_capacity(programs.len() + UNIX_HOOKS.len());
        let mut adopted = 0;
        let mut attach = |hook: &Hook, program: BorrowedFd<'_>| {
            let attached = Link::adopt_or_attach(*hook, program, root.dir.as_fd(), root.id, pins)
                .map_err(|error| KernelError::Attach { hook: hook.name, error })?;
            match attached {
                Attached::Anew(link) => links.push(link),
                Attached::Adopted(link) => {
                    adopted += 1;
                    links.push(link);
                }
                Attached::Foreign(info) => {
                    return Err(KernelError::Foreign { pin: hook.pin(pins), cgroup_id: info.cgroup_id });
                }
            }
            Ok(())
        };
        for (hook, program) in &programs {
            attach(hook, program.as_fd())?;
        }
        for hook in UNIX_HOOKS {
            let program = hook.refusal().map_err(|error| KernelError::Attach { hook: hook.name, error })?;
            match program {
                Some(program) => attach(hook, program.as_fd())?,
                None => tracing::warn!(
                    hook = hook.name,
                    since = hook.since,
                    "this kernel cannot refuse unix sockets: agents reach those that everyone may write to, by path"
                ),
            }
        }
        tracing::info!(links = links.len(), adopted, root = %layout.managed_root.display(), "programs attached");

        earlier.forget()?;
        Ok(Kernel {
            layout: layout.clone(),
            links,
            agents,
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
    root: &ManagedRoot,
    earlier: &Earlier,
) -> Result<(Vec<(Hook, ProgramFd)>, Agents), KernelError> {
    let mut ebpf = object::load(object, pins, root.agent_level)
        .map_err(|error| KernelError::Load { error: Box::new(error) })?;
    let programs = object::verify_programs(&mut ebpf).map_err(|(hook, error)| KernelError::Program {
        hook: hook.name,
        since: hook.since,
        error: Box::new(error),
    })?;
    let agents = Agents::new(maps::open(map::AGENTS, pins)?)
        .map_err(|error| KernelError::Pins { path: pins.to_owned(), error })?;
    earlier.carry_agents(&agents)?;
    Ok((programs, agents))
}

/// Was there something to remove?
fn absent_is_fine(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

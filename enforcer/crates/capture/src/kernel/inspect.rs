//! What is in force in the kernel, seen from outside of the daemon. Changes nothing.
use std::os::fd::AsFd;

use super::error::KernelError;
use super::filesystems::Target;
use super::link::HOOKS;
use super::object::{self, MAPS, OBJECT};
use super::{Layout, absent};
use crate::sys::bpf;

/// The state of the pins and of the managed root's hooks.
#[derive(Debug, Default)]
pub struct Inspection {
    /// Hooks that this version has a program for.
    pub hooks: usize,
    /// Hooks whose pinned link is attached to the managed root.
    pub attached: usize,
    /// Hooks without a pin.
    pub unpinned: Vec<&'static str>,
    /// Hooks whose pinned link is attached to nothing, or to something else.
    pub elsewhere: Vec<&'static str>,
    /// Maps without a pin.
    pub missing_maps: Vec<&'static str>,
    /// Hooks at which programs of others run as well, with their number.
    pub others: Vec<(&'static str, usize)>,
}

/// Looks at a daemon's pins, whether it runs or not. Needs root.
pub fn inspect(layout: &Layout) -> Result<Inspection, KernelError> {
    let root = Target::managed_root(&layout.managed_root)?;
    let pins = &layout.pins;
    let mut found = Inspection { hooks: HOOKS.len(), ..Inspection::default() };
    for hook in HOOKS {
        let problem = |error| KernelError::Pins { path: hook.pin(pins), error };
        let link = match absent(bpf::pinned(&hook.pin(pins))).map_err(problem)? {
            Some(fd) => Some(bpf::link_info(fd.as_fd()).map_err(problem)?),
            None => None,
        };
        let ours = match link {
            Some(link) if link.cgroup_id == root.id && link.attach_type == hook.attach_type => {
                found.attached += 1;
                Some(link.program_id)
            }
            Some(_) => {
                found.elsewhere.push(hook.name);
                None
            }
            None => {
                found.unpinned.push(hook.name);
                None
            }
        };
        let running = bpf::programs_at(root.dir.as_fd(), hook.attach_type).map_err(|error| {
            KernelError::Io { what: format!("ask which programs run at the hook `{}`", hook.name), error }
        })?;
        match running.iter().filter(|id| Some(**id) != ours).count() {
            0 => {}
            others => found.others.push((hook.name, others)),
        }
    }
    for map in MAPS {
        let pin = map.pin(pins);
        if absent(bpf::pinned(&pin)).map_err(|error| KernelError::Pins { path: pin, error })?.is_none() {
            found.missing_maps.push(map.name);
        }
    }
    Ok(found)
}

/// Hands all programs to the verifier and lets them go again; how many there are. Needs root.
pub fn try_programs() -> Result<usize, KernelError> {
    if !rustix::process::geteuid().is_root() {
        return Err(KernelError::NotRoot);
    }
    let object = OBJECT.ok_or(KernelError::NoObject)?;
    let mut ebpf =
        object::load_unpinned(object).map_err(|error| KernelError::Load { error: Box::new(error) })?;
    let programs = object::verify_programs(&mut ebpf).map_err(|(hook, error)| KernelError::Program {
        hook: hook.name,
        since: hook.since,
        error: error.into(),
    })?;
    Ok(programs.len())
}

//! A cgroup elsewhere in the hierarchy as an agent of its own: a copy of the programs that knows this one cgroup, attached to
//! it, and one more at the devices of the network namespaces that it uses.
//!
//! Pins lie in a directory of their own below those of the managed root; the maps are the same for all copies.
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::boundary::{Boundary, remove_dir};
use super::build::{self, Digest};
use super::error::Rejected;
use super::filesystems::Target;
use super::link::{HOOKS, UNIX_HOOKS};
use super::object::{self, OBJECT};
use super::{KernelError, Layout, absent, maps};
use crate::sys::bpf;

/// Below the pins of the managed root.
const PLACE: &str = "attached";
const DEVICE_PIN: &str = "device_";
/// The program for devices, of which there may be none just now.
const PROGRAM_PIN: &str = "program_device";

/// The programs at one attached cgroup. Dropping it leaves them there.
#[derive(Debug)]
pub struct Attachment {
    boundary: Boundary,
    /// `None`: this kernel cannot attach to devices (before 6.6) or does not take the program.
    device: Option<OwnedFd>,
    pins: PathBuf,
    id: u64,
}

impl Attachment {
    /// Attaches to the cgroup, or takes up what an earlier keeper attached. From here on it is denied everything.
    pub(super) fn raise(layout: &Layout, name: &str, cgroup: &Path) -> Result<Self, KernelError> {
        let object = OBJECT.ok_or(KernelError::NoObject)?;
        let target = Target::open(cgroup)?;
        let pins = layout.pins.join(PLACE).join(name);
        let problem = |error| KernelError::Pins { path: pins.clone(), error };
        let new = !pins.try_exists().map_err(problem)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&pins).map_err(problem)?;
        let raised = Attachment::raise_at(layout, object, &target, &pins);
        // Never what an earlier keeper put in force.
        if raised.is_err()
            && new
            && let Err(error) = remove_at(&pins)
        {
            tracing::warn!(%error, "cannot remove the pins of a failed attach: the cgroup stays denied");
        }
        raised
    }

    fn raise_at(layout: &Layout, object: &[u8], target: &Target, pins: &Path) -> Result<Self, KernelError> {
        let problem = |error| KernelError::Pins { path: pins.to_owned(), error };
        let digest = build::digest(object, target, 0, &maps::ids(&layout.pins)?);
        // What cannot be seen is made anew.
        if let Ok(Some(attachment)) = Attachment::in_force(digest, target, pins) {
            return Ok(attachment);
        }
        build::forget(pins)?;
        let (mut ebpf, programs) = super::verified(object, &layout.pins, target)?;
        let boundary = Boundary::raise(&programs, target, pins, None)?;
        absent(fs::remove_file(pins.join(PROGRAM_PIN))).map_err(problem)?;
        let device = match object::verify_device(&mut ebpf) {
            Ok(program) => Some(program.as_fd().try_clone_to_owned().map_err(problem)?),
            Err(error) => {
                let error = Rejected::from(error);
                tracing::warn!(%error, "this kernel does not take the program for network devices");
                None
            }
        };
        if let (Some(mut programs), Some(device)) = (boundary.programs().map_err(problem)?, &device) {
            let pinned = bpf::pin(device.as_fd(), &pins.join(PROGRAM_PIN));
            programs.push(bpf::program_id(device.as_fd()).map_err(problem)?);
            pinned.and_then(|()| build::write(digest, &programs, pins)).map_err(problem)?;
        }
        Ok(Attachment { boundary, device, pins: pins.to_owned(), id: target.id })
    }

    /// What an earlier keeper attached, if all of it is what this one would.
    fn in_force(digest: Digest, target: &Target, pins: &Path) -> io::Result<Option<Self>> {
        let Some(known) = build::made_from(digest, pins)? else { return Ok(None) };
        let (programs, rest) = known.split_at(HOOKS.len() + UNIX_HOOKS.len());
        let Some(device) = absent(bpf::pinned(&pins.join(PROGRAM_PIN)))? else { return Ok(None) };
        if rest.first() != Some(&bpf::program_id(device.as_fd())?) {
            return Ok(None);
        }
        let boundary = Boundary::in_force(programs, target, pins)?;
        let (device, pins) = (Some(device), pins.to_owned());
        Ok(boundary.map(|boundary| Attachment { boundary, device, pins, id: target.id }))
    }

    /// Of the attached cgroup.
    pub fn cgroup_id(&self) -> u64 {
        self.id
    }

    /// Named unix sockets are refused, too (Linux 6.7).
    pub fn refuses_unix_sockets(&self) -> bool {
        self.boundary.unix
    }

    /// As [`super::Kernel::verify`], for this cgroup.
    pub fn verify(&self) -> Result<(), KernelError> {
        self.boundary.verify()
    }

    /// Attaches to a device of the calling thread's network namespace, unless it is already. `false`: the kernel has no tcx.
    pub fn guard_device(&self, netns_cookie: u64, ifindex: u32) -> io::Result<bool> {
        let Some(program) = &self.device else { return Ok(false) };
        let pin = self.pins.join(format!("{DEVICE_PIN}{netns_cookie}_{ifindex}"));
        match bpf::pinned(&pin) {
            Ok(link) if bpf::tcx_ifindex(link.as_fd())? == ifindex => {
                bpf::replace_program(link.as_fd(), program.as_fd())?;
                return Ok(true);
            }
            // Its device is gone, and another has got the number.
            Ok(_) => fs::remove_file(&pin)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match bpf::attach_tcx(program.as_fd(), ifindex) {
            Ok(link) => bpf::pin(link.as_fd(), &pin).map(|()| true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets go of the devices of a network namespace that the cgroup does not use any more.
    pub fn release_devices(&self, netns_cookie: u64) -> io::Result<()> {
        release_devices(&self.pins, &format!("{DEVICE_PIN}{netns_cookie}_"))
    }
}

/// Detaches from the cgroup and its devices, and removes the pins. Whatever of it is there; nothing is fine.
pub(super) fn remove(layout: &Layout, name: &str) -> Result<bool, KernelError> {
    remove_at(&layout.pins.join(PLACE).join(name))
}

/// The names of all attachments that have pins.
pub(super) fn names(layout: &Layout) -> Result<Vec<String>, KernelError> {
    let place = layout.pins.join(PLACE);
    let problem = |error| KernelError::Pins { path: place.clone(), error };
    let Some(entries) = absent(fs::read_dir(&place)).map_err(problem)? else { return Ok(Vec::new()) };
    entries.map(|entry| Ok(entry.map_err(problem)?.file_name().to_string_lossy().into_owned())).collect()
}

/// Each attachment that has pins, and the cgroup that it is attached to. What was attached to one that is gone is not among them.
pub(super) fn targets(layout: &Layout) -> Result<Vec<(String, u64)>, KernelError> {
    let mut targets = Vec::new();
    for name in names(layout)? {
        let pins = layout.pins.join(PLACE).join(&name);
        for hook in HOOKS {
            let pin = hook.pin(&pins);
            let link = absent(bpf::pinned(&pin)).and_then(|link| match link {
                Some(link) => bpf::link_info(link.as_fd()).map(|info| info.cgroup_id),
                None => Ok(0),
            });
            match link.map_err(|error| KernelError::Pins { path: pin, error })? {
                0 => {}
                id => {
                    targets.push((name, id));
                    break;
                }
            }
        }
    }
    Ok(targets)
}

/// As [`remove`], for all of them.
pub(super) fn remove_all(layout: &Layout) -> Result<(), KernelError> {
    for name in names(layout)? {
        remove(layout, &name)?;
    }
    remove_dir(&layout.pins.join(PLACE)).map(drop)
}

fn remove_at(pins: &Path) -> Result<bool, KernelError> {
    release_devices(pins, DEVICE_PIN).map_err(|error| KernelError::Pins { path: pins.to_owned(), error })?;
    let program = pins.join(PROGRAM_PIN);
    absent(fs::remove_file(&program)).map_err(|error| KernelError::Pins { path: program, error })?;
    build::forget(pins)?;
    Boundary::remove(pins)?;
    remove_dir(pins)
}

fn release_devices(pins: &Path, prefix: &str) -> io::Result<()> {
    for entry in absent(fs::read_dir(pins))?.into_iter().flatten() {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let link = bpf::pinned(&entry.path())?;
            match bpf::detach(link.as_fd()) {
                // The device has gone with its link.
                Err(error) if error.raw_os_error() != Some(libc::ENOLINK) => return Err(error),
                _ => fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}

//! The programs at one cgroup: attached, pinned in one directory, adopted from an earlier keeper, checked, taken away.
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::programs::ProgramFd;

use super::KernelError;
use super::filesystems::{self, Target};
use super::link::{Attached, HOOKS, Held, Hook, Link, UNIX_HOOKS};
use super::unix_view::Made;

#[derive(Debug)]
pub(super) struct Boundary {
    pub(super) cgroup: PathBuf,
    id: u64,
    pins: PathBuf,
    links: Vec<Link>,
    /// This kernel has the hooks for unix sockets.
    pub(super) unix: bool,
    /// Each program is the one that was wanted, none a refusal in its place.
    complete: bool,
}

impl Boundary {
    /// Attaches each program, or puts it in the place of the one that an earlier keeper attached. `view`: agents here have a
    /// view of their own for unix sockets; without, all that have a name are refused.
    pub(super) fn raise(
        programs: &[(Hook, ProgramFd)],
        target: &Target,
        pins: &Path,
        view: Option<&Made<'_>>,
    ) -> Result<Self, KernelError> {
        let mut links = Vec::with_capacity(programs.len() + UNIX_HOOKS.len());
        let mut adopted = 0;
        let mut attach = |hook: &Hook, program: BorrowedFd<'_>| {
            let attached = Link::adopt_or_attach(*hook, program, target.dir.as_fd(), target.id, pins)
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
        for (hook, program) in programs {
            attach(hook, program.as_fd())?;
        }
        let mut unix = true;
        let mut complete = true;
        for hook in UNIX_HOOKS {
            let refusal = hook.refusal().map_err(|error| KernelError::Attach { hook: hook.name, error })?;
            match refusal {
                Some(refusal) => {
                    let program = match view.map(|made| hook.view(made)) {
                        None => refusal,
                        Some(Ok(program)) => program,
                        Some(Err(error)) => {
                            tracing::warn!(
                                hook = hook.name,
                                %error,
                                "agents cannot use unix sockets with a name, their own included"
                            );
                            complete = false;
                            refusal
                        }
                    };
                    attach(hook, program.as_fd())?;
                }
                None => {
                    unix = false;
                    cannot_refuse(hook);
                }
            }
        }
        tracing::info!(links = links.len(), adopted, cgroup = %target.path.display(), "programs attached");
        Ok(Boundary {
            cgroup: target.path.clone(),
            id: target.id,
            pins: pins.to_owned(),
            links,
            unix,
            complete,
        })
    }

    /// What an earlier keeper attached, if it is these programs: of [`HOOKS`] and [`UNIX_HOOKS`], 0 where the kernel has no such hook.
    pub(super) fn in_force(programs: &[u32], target: &Target, pins: &Path) -> io::Result<Option<Self>> {
        let mut links = Vec::with_capacity(programs.len());
        let mut unix = true;
        for (hook, program_id) in HOOKS.iter().chain(UNIX_HOOKS).zip(programs) {
            if *program_id == 0 {
                unix = false;
                cannot_refuse(hook);
                continue;
            }
            let Some(link) = Link::in_force(*hook, *program_id, target.id, pins)? else { return Ok(None) };
            links.push(link);
        }
        tracing::info!(links = links.len(), cgroup = %target.path.display(), "the programs are in force already");
        let pins = pins.to_owned();
        Ok(Some(Boundary { cgroup: target.path.clone(), id: target.id, pins, links, unix, complete: true }))
    }

    /// The ids of its programs, as [`Boundary::in_force`] takes them; `None`: a later start should try again to do better.
    pub(super) fn programs(&self) -> io::Result<Option<Vec<u32>>> {
        let id_of = |hook: &Hook| {
            let link = self.links.iter().find(|link| link.hook.name == hook.name);
            link.map_or(Ok(0), Link::program_id)
        };
        let ids: io::Result<Vec<u32>> = HOOKS.iter().chain(UNIX_HOOKS).map(id_of).collect();
        Ok(Some(ids?).filter(|_| self.complete))
    }

    /// Everything is still attached to this very cgroup, and pinned.
    pub(super) fn verify(&self) -> Result<(), KernelError> {
        let id = filesystems::cgroup_id(&self.cgroup)
            .map_err(|error| KernelError::ManagedRoot { path: self.cgroup.clone(), error })?;
        for link in &self.links {
            let name = link.hook.name;
            let held = link
                .holds(self.id, &self.pins)
                .map_err(|error| KernelError::Io { what: format!("check the link of `{name}`"), error })?;
            match held {
                Held::Yes if id == self.id => {}
                Held::Yes | Held::Detached => {
                    return Err(KernelError::Detached { hook: name, root: self.cgroup.clone() });
                }
                Held::Unpinned => return Err(KernelError::Unpinned { pin: link.hook.pin(&self.pins) }),
            }
        }
        Ok(())
    }

    /// Detaches and unpins whatever of it is pinned there.
    pub(super) fn remove(pins: &Path) -> Result<(), KernelError> {
        for hook in HOOKS.iter().chain(UNIX_HOOKS) {
            Link::remove(*hook, pins).map_err(|error| KernelError::Pins { path: hook.pin(pins), error })?;
        }
        Ok(())
    }
}

fn cannot_refuse(hook: &Hook) {
    tracing::warn!(
        hook = hook.name,
        since = hook.since,
        "this kernel cannot refuse unix sockets: agents reach those that everyone may write to, by path; use Linux 6.7 or later"
    );
}

/// Removes the directory of the pins. `false`: there was none.
pub(super) fn remove_dir(pins: &Path) -> Result<bool, KernelError> {
    match std::fs::remove_dir(pins) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(KernelError::Pins { path: pins.to_owned(), error }),
    }
}

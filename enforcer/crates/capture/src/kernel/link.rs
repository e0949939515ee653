//! The programs as attached: one pinned cgroup link per hook, on the managed root.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::btf::Types;
use super::unix_view::{self, Made};
use crate::sys::bpf::{self, LinkInfo};

/// A program of the object and the hook it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// Name of the program, and of its link's pin after [`Hook::pin`].
    pub(crate) name: &'static str,
    /// `enum bpf_attach_type`.
    pub(crate) attach_type: u32,
    /// The first kernel that has it.
    pub(crate) since: &'static str,
}

/// In the order in which they are attached: what stops packets first.
pub(crate) const HOOKS: &[Hook] = &[
    Hook { name: "egress", attach_type: 1, since: "4.10" },
    Hook { name: "ingress", attach_type: 0, since: "4.10" },
    Hook { name: "sock_create", attach_type: 2, since: "4.10" },
    Hook { name: "connect4", attach_type: 10, since: "4.17" },
    Hook { name: "connect6", attach_type: 11, since: "4.17" },
    Hook { name: "sendmsg4", attach_type: 14, since: "4.18" },
    Hook { name: "sendmsg6", attach_type: 15, since: "4.18" },
    Hook { name: "bind4", attach_type: 8, since: "4.17" },
    Hook { name: "bind6", attach_type: 9, since: "4.17" },
    Hook { name: "setsockopt", attach_type: 22, since: "5.3" },
    Hook { name: "syn", attach_type: 3, since: "5.10" },
    Hook { name: "recvmsg4", attach_type: 19, since: "5.2" },
    Hook { name: "recvmsg6", attach_type: 20, since: "5.2" },
    Hook { name: "getpeername4", attach_type: 29, since: "5.8" },
    Hook { name: "getpeername6", attach_type: 30, since: "5.8" },
];

/// Egress of a network device; a link per device, see [`super::attachment`]. The attach type is that of tcx.
pub(crate) const DEVICE: Hook = Hook { name: "device", attach_type: 47, since: "6.6" };

/// Connecting and sending to named unix sockets. Socket pairs have no name and work. Not part of the object: see
/// [`super::unix_view`].
pub(crate) const UNIX_HOOKS: &[Hook] = &[
    Hook { name: "connect_unix", attach_type: 49, since: "6.7" },
    Hook { name: "sendmsg_unix", attach_type: 50, since: "6.7" },
];

impl Hook {
    /// A program for one of [`UNIX_HOOKS`] that refuses everything; `None`: this kernel has no such hook.
    pub(crate) fn refusal(&self) -> io::Result<Option<OwnedFd>> {
        match bpf::load_for_addresses(self.attach_type, &bpf::REFUSAL) {
            Ok(program) => Ok(Some(program)),
            // What the kernel says to an attach type that it does not know.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The program that leads into the agent's own view.
    pub(crate) fn view(&self, made: &Made<'_>) -> io::Result<OwnedFd> {
        let program = unix_view::program(&Types::of_this_kernel()?, made)?;
        bpf::load_for_addresses(self.attach_type, &program)
    }

    pub(crate) fn pin(&self, pins: &Path) -> std::path::PathBuf {
        pins.join(format!("link_{}", self.name))
    }
}

/// What became of a pin.
#[derive(Debug)]
pub(crate) enum Attached {
    Anew(Link),
    Adopted(Link),
    /// The pinned link is on another cgroup, or at another hook.
    Foreign(LinkInfo),
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) hook: Hook,
    fd: OwnedFd,
}

impl Link {
    /// Puts the program into the pinned link, or makes and pins one. A link whose cgroup is gone holds nothing: it is replaced.
    pub(crate) fn adopt_or_attach(
        hook: Hook,
        program: BorrowedFd<'_>,
        root: BorrowedFd<'_>,
        root_id: u64,
        pins: &Path,
    ) -> io::Result<Attached> {
        let pin = hook.pin(pins);
        match bpf::pinned(&pin) {
            Ok(fd) => {
                let info = bpf::link_info(fd.as_fd())?;
                if info.cgroup_id == root_id && info.attach_type == hook.attach_type {
                    bpf::replace_program(fd.as_fd(), program)?;
                    return Ok(Attached::Adopted(Link { hook, fd }));
                }
                if info.cgroup_id != 0 {
                    return Ok(Attached::Foreign(info));
                }
                std::fs::remove_file(&pin)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let fd = bpf::attach(program, root, hook.attach_type)?;
        bpf::pin(fd.as_fd(), &pin)?;
        Ok(Attached::Anew(Link { hook, fd }))
    }

    /// The pinned link, if it holds this very program at this cgroup.
    pub(crate) fn in_force(
        hook: Hook,
        program_id: u32,
        root_id: u64,
        pins: &Path,
    ) -> io::Result<Option<Link>> {
        let fd = match bpf::pinned(&hook.pin(pins)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            pinned => pinned?,
        };
        let info = bpf::link_info(fd.as_fd())?;
        let same = info.program_id == program_id
            && info.cgroup_id == root_id
            && info.attach_type == hook.attach_type;
        Ok(same.then_some(Link { hook, fd }))
    }

    /// Which program it holds.
    pub(crate) fn program_id(&self) -> io::Result<u32> {
        bpf::link_info(self.fd.as_fd()).map(|info| info.program_id)
    }

    /// Attached to this cgroup, and pinned.
    pub(crate) fn holds(&self, root_id: u64, pins: &Path) -> io::Result<Held> {
        let info = bpf::link_info(self.fd.as_fd())?;
        if info.cgroup_id != root_id || info.attach_type != self.hook.attach_type {
            return Ok(Held::Detached);
        }
        match bpf::pinned(&self.hook.pin(pins)).and_then(|fd| bpf::link_info(fd.as_fd())) {
            Ok(pinned) if pinned.id == info.id => Ok(Held::Yes),
            Ok(_) => Ok(Held::Unpinned),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Held::Unpinned),
            Err(error) => Err(error),
        }
    }

    /// Detaches and unpins; nothing to do is fine.
    pub(crate) fn remove(hook: Hook, pins: &Path) -> io::Result<()> {
        let pin = hook.pin(pins);
        match bpf::pinned(&pin) {
            Ok(fd) => match bpf::detach(fd.as_fd()) {
                // Its cgroup is gone already.
                Err(error) if error.raw_os_error() != Some(libc::ENOLINK) => Err(error),
                _ => std::fs::remove_file(&pin),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Yes,
    Detached,
    Unpinned,
}

//! What a child does between fork and exec: it keeps one channel and, as the worker, no privilege.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use super::check;
use super::signals::unblock_signals;

/// Passes `channel` to the child as descriptor 3 and nothing else beyond the standard streams. It may have as many descriptors as
/// `limit` says.
///
/// Descriptor 3 of this process must be in use already ([`reserve_descriptor_3`]): the standard library's own
/// pipe to the child would be overwritten otherwise.
pub(crate) fn pass_channel(command: &mut Command, channel: OwnedFd, limit: Rlimit) {
    // SAFETY: the closure runs between fork and exec and makes system calls only: no allocation, no locks.
    unsafe {
        command.pre_exec(move || {
            close_on_exec_from(3)?;
            rustix::process::setrlimit(Resource::Nofile, limit)?;
            unblock_signals()?;
            pass_as_descriptor_3(&channel)
        });
    }
}

/// Must be called in the child only, between fork and exec.
fn pass_as_descriptor_3(channel: &OwnedFd) -> io::Result<()> {
    // SAFETY: both numbers are valid; descriptor 3 is ours to replace, see the callers' contract.
    let result = unsafe {
        if channel.as_raw_fd() == 3 {
            libc::fcntl(3, libc::F_SETFD, 0)
        } else {
            libc::dup2(channel.as_raw_fd(), 3)
        }
    };
    check(result.into()).map(drop)
}

/// As [`pass_channel`], and the child gives up all privilege before it runs its program: own ids, no groups,
/// no capabilities in any set, no way to get any, no core dumps, dead when we are.
pub(crate) fn confine_worker(command: &mut Command, channel: OwnedFd, id: u32, keeper: Pid) {
    // SAFETY: the closure runs between fork and exec and makes system calls only: no allocation, no locks.
    unsafe {
        command.pre_exec(move || {
            close_on_exec_from(3)?;
            unblock_signals()?;
            raise_descriptor_limit(false)?;
            drop_privileges(id, id)?;
            forbid_core_dumps()?;
            pass_as_descriptor_3(&channel)?;
            // After the change of ids, which would clear it; and the parent may have gone in between.
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            if rustix::process::getppid() != Some(keeper) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// More descriptors than the host's usual hard limit, where we may, for this process (`at_once`) or to be taken later, as the
/// worker does.
pub(crate) fn raise_descriptor_limit(at_once: bool) -> io::Result<()> {
    /// Of the worker: some 20,000 connections with their upstreams, beside 1,000 sessions of six listeners. Of the keeper: the same
    /// listeners, and four more for each session.
    const WANTED: u64 = 65_536;
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    // No maximum is the highest.
    limit.maximum = limit.maximum.map(|hard| hard.max(WANTED));
    if at_once {
        limit.current = limit.maximum;
    }
    match rustix::process::setrlimit(Resource::Nofile, limit) {
        // Root without the right to raise hard limits, as in some containers: what there is has to do.
        Err(rustix::io::Errno::PERM) if at_once => {
            let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
            Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
        }
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A crash leaves no copy of memory anywhere.
pub(crate) fn forbid_core_dumps() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(io::Error::from)
}

/// Leaves root for good: empties the bounding set, drops groups, takes the ids, checks that nothing is left.
///
/// For a process with one thread, or between fork and exec: the ids of the calling thread change, no others.
pub(crate) fn drop_privileges(uid: u32, gid: u32) -> io::Result<()> {
    if uid == 0 || uid == u32::MAX || gid == u32::MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for capability in 0..64u32 {
        // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) };
        if let Err(error) = check(result.into()) {
            // The first number that the kernel does not know ends the list; any other refusal is one.
            if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 {
                break;
            }
            return Err(error);
        }
    }
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::set_no_new_privs(true)?;
    let left = rustix::thread::capabilities(None)?;
    let root = rustix::process::getuid().is_root() || rustix::process::geteuid().is_root();
    if left != sets || root || !rustix::thread::no_new_privs()? {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    Ok(())
}

/// Keeps descriptor 3 in use for as long as the result lives. Call first thing in a process.
pub(crate) fn reserve_descriptor_3() -> io::Result<OwnedFd> {
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    // The lowest free number from 3 up: 3 itself, or something else holds 3 already.
    Ok(rustix::io::fcntl_dupfd_cloexec(&null, 3)?)
}

/// The descriptor that [`pass_channel`] gave this process. Once.
pub(crate) fn passed_channel() -> io::Result<OwnedFd> {
    // SAFETY: asks for flags only; a closed descriptor is an error.
    check(unsafe { libc::fcntl(3, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: descriptor 3 is open and was put there for this process; callers take it once, first thing.
    Ok(unsafe { OwnedFd::from_raw_fd(3) })
}

/// Sets close-on-exec on every descriptor from `first` up.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only flags of descriptors change; no memory is passed.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })
    .map(drop)
}

/// What a container engine gives root by default; all of it counts inside of a user namespace only.
const ROOTS: [u32; 14] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    13, // NET_RAW
    18, // SYS_CHROOT
    27, // MKNOD
    29, // AUDIT_WRITE
    31, // SETFCAP
];

/// Root of a user namespace of its own, in which no other id exists: outside of it the process stays who it is. Files and
/// processes of others are not this root's, and neither is the network, which belongs to the namespace outside.
///
/// For a process with one thread, after [`drop_privileges`].
pub(crate) fn become_root_inside(uid: u32, gid: u32) -> io::Result<()> {
    // The change of ids has given /proc/self to root, and the maps are written there.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    super::unshare(rustix::thread::UnshareFlags::NEWUSER)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    for capability in (0..64u32).filter(|capability| !ROOTS.contains(capability)) {
        // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) };
        if let Err(error) = check(result.into()) {
            // The first number that the kernel does not know ends the list.
            if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 {
                break;
            }
            return Err(error);
        }
    }
    let kept = CapabilitySet::from_bits_retain(ROOTS.iter().fold(0, |bits, number| bits | 1 << number));
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    let left = rustix::thread::capabilities(None)?;
    if left != sets || !rustix::process::geteuid().is_root() || !rustix::thread::no_new_privs()? {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    Ok(())
}

/// A child that gets all signals again, which this process takes itself, and is ended with the thread that starts it.
pub(crate) fn end_with_parent(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec and makes system calls only: no allocation, no locks.
    unsafe {
        command.pre_exec(|| {
            unblock_signals()?;
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
            Ok(())
        });
    }
}

/// Has the child enter a network namespace and become a user with nothing but `capabilities`, which it keeps when it runs its
/// program. `held` becomes its descriptor 3; no other is left to it but the standard streams.
pub(crate) fn become_ordinary(
    command: &mut Command,
    netns: Option<OwnedFd>,
    id: u32,
    capabilities: &'static [u32],
    held: Option<std::os::fd::RawFd>,
) {
    // SAFETY: the closure runs between fork and exec and makes system calls only: no allocation, no locks.
    unsafe {
        command.pre_exec(move || {
            close_on_exec_from(3)?;
            unblock_signals()?;
            if let Some(held) = held {
                // SAFETY: the descriptor is open, its owner waits for the spawn; 3 is ours to replace.
                check(libc::dup2(held, 3).into())?;
                if held == 3 {
                    // SAFETY: only a flag of the descriptor changes.
                    check(libc::fcntl(3, libc::F_SETFD, 0).into())?;
                }
            }
            if let Some(netns) = &netns {
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(netns), kind)?;
            }
            let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
            rustix::thread::set_keep_capabilities(true)?;
            rustix::thread::set_thread_groups(&[])?;
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            let kept = CapabilitySet::from_bits_retain(capabilities.iter().fold(0, |bits, n| bits | 1 << n));
            let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
            rustix::thread::set_capabilities(None, sets)?;
            for number in capabilities {
                let one = CapabilitySet::from_bits_retain(1 << number);
                rustix::thread::configure_capability_in_ambient_set(one, true)?;
            }
            Ok(())
        });
    }
}

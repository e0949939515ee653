//! System calls of the process side that have no safe wrapper elsewhere: namespaces, credentials of peers,
//! pidfds, signals as descriptors, mount attributes, and what a child does between fork and exec.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid, UnshareFlags};

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Gives the calling thread namespaces of its own.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: the unsafety of unshare is about CLONE_FILES (a descriptor closed elsewhere stays open here), which no caller passes.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

fn socket_option<T: Copy>(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the descriptor is open (borrowed), value has room for length bytes and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    check(result.into())?;
    if length as usize != size_of::<T>() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // SAFETY: the kernel has filled all of it; T is an integer here (see the callers).
    Ok(unsafe { value.assume_init() })
}

/// Cookie of the network namespace that the socket was made in.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    /// `SO_NETNS_COOKIE` of asm-generic/socket.h (Linux 5.14).
    const SO_NETNS_COOKIE: libc::c_int = 71;
    socket_option::<u64>(socket, SO_NETNS_COOKIE)
}

/// Address family a socket was made for.
pub(crate) fn socket_domain(socket: BorrowedFd<'_>) -> io::Result<i32> {
    socket_option::<i32>(socket, libc::SO_DOMAIN)
}

/// A pidfd of the process that connected; no reuse of its number can fool it.
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `SO_PEERPIDFD` of asm-generic/socket.h (Linux 6.5).
    const SO_PEERPIDFD: libc::c_int = 77;
    let fd = socket_option::<i32>(socket, SO_PEERPIDFD)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Credentials of the process that connected, as they were then.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    socket_option::<libc::ucred>(socket, libc::SO_PEERCRED)
}

/// `struct pidfd_info` of linux/pidfd.h, first version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_CGROUPID: u64 = 1 << 2;
const PIDFD_INFO_EXIT: u64 = 1 << 3;

fn pidfd_info(pidfd: BorrowedFd<'_>, mask: u64) -> io::Result<PidfdInfo> {
    /// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, struct pidfd_info)` (Linux 6.13; the exit status came with 6.15).
    const PIDFD_GET_INFO: libc::c_ulong =
        (3 << 30) | ((size_of::<PidfdInfo>() as libc::c_ulong) << 16) | (0xff << 8) | 11;
    let mut info = PidfdInfo { mask, ..PidfdInfo::default() };
    // SAFETY: the descriptor is open (borrowed); the request carries the size of info, which outlives the call.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    check(result.into())?;
    Ok(info)
}

/// Id of the cgroup that the process is in now, where the kernel tells (Linux 6.13).
pub(crate) fn pidfd_cgroup_id(pidfd: BorrowedFd<'_>) -> Option<u64> {
    let info = pidfd_info(pidfd, PIDFD_INFO_CGROUPID).ok()?;
    (info.mask & PIDFD_INFO_CGROUPID != 0).then_some(info.cgroup_id)
}

/// Wait status of a process that has ended and been reaped, where the kernel tells (Linux 6.15).
pub(crate) fn pidfd_exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let info = pidfd_info(pidfd, PIDFD_INFO_EXIT).ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// Signals a process, or its whole process group where the kernel can (Linux 6.9), else the process alone.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32, group: bool) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    let send = |flags: libc::c_uint| {
        // SAFETY: the descriptor is open (borrowed); a null siginfo asks the kernel to make one.
        check(unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                flags,
            )
        })
        .map(drop)
    };
    if group {
        match send(PIDFD_SIGNAL_PROCESS_GROUP) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            other => return other,
        }
    }
    send(0)
}

/// Sets close-on-exec on every descriptor from `first` up.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only flags of descriptors change; no memory is passed.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })
    .map(drop)
}

/// Makes a mount and everything below it read-only.
pub(crate) fn mount_read_only_recursive(path: &Path) -> io::Result<()> {
    let path = c_string(path)?;
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: path is NUL-terminated, attributes has the size that is passed, both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Leaves the inherited session keyring for a new, empty one.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    let result = check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    });
    match result {
        // A kernel without keyrings has none to leave.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// Signals that arrive as reads of a descriptor instead of as interruptions.
#[derive(Debug)]
pub(crate) struct Signals(OwnedFd);

/// One signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) number: i32,
    /// A terminal made it: everything in the foreground was meant.
    pub(crate) by_terminal: bool,
}

impl Signals {
    /// Blocks these signals in the calling thread, and in threads it starts from now on.
    pub(crate) fn take(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: the set is initialised by sigemptyset before it is read; all calls get valid pointers.
        unsafe {
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            match libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) {
                0 => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            }
            let fd = check(libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
            Ok(Signals(OwnedFd::from_raw_fd(fd as i32)))
        }
    }

    /// The next signal, if one has arrived; poll for readability to wait.
    pub(crate) fn next(&self) -> io::Result<Option<Arrived>> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut info) {
            Ok(n) if n == info.len() => {
                // SAFETY: the buffer has the size of the structure, which is plain integers; alignment does not matter.
                let info = unsafe { info.as_ptr().cast::<libc::signalfd_siginfo>().read_unaligned() };
                Ok(Some(Arrived {
                    number: info.ssi_signo as i32,
                    by_terminal: info.ssi_code == libc::SI_KERNEL,
                }))
            }
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets every signal through again; an ancestor may have blocked some.
pub(crate) fn unblock_signals() -> io::Result<()> {
    // SAFETY: the set is initialised by sigemptyset before it is read.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Gives every signal its default effect again; an ancestor may have ignored some.
pub(crate) fn default_signals() -> io::Result<()> {
    /// Signal numbers of Linux; the C library hides two of them, so the kernel is asked.
    const SIGNALS: std::ops::RangeInclusive<libc::c_int> = 1..=64;
    /// SIG_DFL, no flags, no restorer, an empty mask: all zero, on every architecture at most this long.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_SIZE: usize = 8;
    for signal in SIGNALS {
        // SAFETY: the action is at least as long as the kernel reads, outlives the call, and runs no code of ours.
        let set = check(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                std::ptr::null_mut::<u64>(),
                MASK_SIZE,
            )
        });
        if let Err(error) = set
            && signal != libc::SIGKILL
            && signal != libc::SIGSTOP
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Passes `channel` to the child as descriptor 3 and nothing else beyond the standard streams.
///
/// Descriptor 3 of this process must be in use already ([`reserve_descriptor_3`]): the standard library's own
/// pipe to the child would be overwritten otherwise.
pub(crate) fn pass_channel(command: &mut Command, channel: OwnedFd) {
    // SAFETY: the closure runs between fork and exec and makes system calls only: no allocation, no locks.
    unsafe {
        command.pre_exec(move || {
            close_on_exec_from(3)?;
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
            raise_descriptor_limit()?;
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

/// Lets the worker have more descriptors than the host's usual hard limit, where we may; it takes them itself.
fn raise_descriptor_limit() -> io::Result<()> {
    /// Some 20,000 connections with their upstreams.
    const WANTED: u64 = 65_536;
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // No maximum is the highest.
    limit.maximum = limit.maximum.map(|hard| hard.max(WANTED));
    match rustix::process::setrlimit(rustix::process::Resource::Nofile, limit) {
        // Root without the right to raise hard limits, as in some containers.
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A crash leaves no copy of memory anywhere.
pub(crate) fn forbid_core_dumps() -> io::Result<()> {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).map_err(io::Error::from)
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

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

/// Looks a user up in whatever databases this host uses.
pub(crate) fn user(name: &str) -> io::Result<Option<User>> {
    let name_c = CString::new(name)?;
    let mut buffer = vec![0 as libc::c_char; 64 * 1024];
    let mut entry = MaybeUninit::<libc::passwd>::zeroed();
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are valid for the call, the buffer has the length that is passed.
    let error = unsafe {
        libc::getpwnam_r(
            name_c.as_ptr(),
            entry.as_mut_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    match error {
        0 if found.is_null() => Ok(None),
        0 => {
            // SAFETY: found is not null, so entry is filled and its strings live in buffer, which is still here.
            let user = unsafe {
                let entry = entry.assume_init();
                User {
                    name: name.to_owned(),
                    uid: entry.pw_uid,
                    gid: entry.pw_gid,
                    home: PathBuf::from(CStr::from_ptr(entry.pw_dir).to_string_lossy().into_owned()),
                }
            };
            Ok(Some(user))
        }
        libc::ENOENT | libc::ESRCH => Ok(None),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// The version of Landlock that the kernel has; `None`: none. Asks for the version only; nothing is made.
pub(crate) fn landlock_abi() -> io::Result<Option<u32>> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel wants a null pointer and no size.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    if let Ok(abi) = u32::try_from(abi) {
        return Ok(Some(abi));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Not built in; switched off.
        Some(libc::ENOSYS | libc::EOPNOTSUPP) => Ok(None),
        _ => Err(error),
    }
}

/// Id of a group of this host.
pub(crate) fn group_id(name: &str) -> io::Result<Option<u32>> {
    let name = CString::new(name)?;
    let mut buffer = vec![0 as libc::c_char; 256 * 1024];
    let mut entry = MaybeUninit::<libc::group>::zeroed();
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are valid for the call, the buffer has the length that is passed.
    let error = unsafe {
        libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    match error {
        0 if found.is_null() => Ok(None),
        // SAFETY: found is not null, so entry is filled.
        0 => Ok(Some(unsafe { entry.assume_init() }.gr_gid)),
        libc::ENOENT | libc::ESRCH => Ok(None),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_encoded_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pidfd_info_has_the_size_of_the_first_version() {
        assert_eq!(size_of::<PidfdInfo>(), 64);
    }

    #[test]
    fn users_and_groups_are_found_or_not() {
        assert_eq!(user("root").unwrap().unwrap().uid, 0);
        assert_eq!(user("no-such-user-here").unwrap(), None);
        assert_eq!(group_id("no-such-group-here").unwrap(), None);
    }

    #[test]
    fn a_pidfd_tells_how_its_process_ended() {
        let mut child = Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert!(pidfd_cgroup_id(pidfd.as_fd()).is_some());
        child.wait().unwrap();
        assert_eq!(pidfd_exit_status(pidfd.as_fd()), Some(7 << 8));
    }
}

//! Processes by descriptor: what they are in, how they ended, signals to them.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use rustix::process::Pid;

    use super::*;

    #[test]
    fn pidfd_info_has_the_size_of_the_first_version() {
        assert_eq!(size_of::<PidfdInfo>(), 64);
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

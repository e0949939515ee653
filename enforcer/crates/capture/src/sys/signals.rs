//! Signals: as reads of a descriptor, and back to what a new program expects.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

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

//! The SYN of an accepted connection (tcp(7), `TCP_SAVE_SYN` and `TCP_SAVED_SYN`).
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// include/uapi/linux/tcp.h
const TCP_SAVE_SYN: libc::c_int = 27;
const TCP_SAVED_SYN: libc::c_int = 28;

/// IPv6 header 40, TCP header at most 60 bytes; IPv4 header at most 60.
pub(crate) const MAX_SYN: usize = 120;

/// Keeps the SYN of each connection that this listener will accept.
pub(crate) fn keep(listener: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open (borrowed); on outlives the call, with its size given.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_SAVE_SYN,
            std::ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// IP and TCP header of the SYN, into the buffer; once. Empty when none was kept (a SYN cookie was used).
pub(crate) fn read<'a>(socket: BorrowedFd<'_>, buffer: &'a mut [u8; MAX_SYN]) -> io::Result<&'a [u8]> {
    let mut len = MAX_SYN as libc::socklen_t;
    // SAFETY: the descriptor is open (borrowed); the kernel writes at most len bytes to buffer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_SAVED_SYN,
            buffer.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(buffer.get(..len as usize).unwrap_or_default())
}

//! What sockets tell: where they were made, and who is at the other end.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

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

/// The network devices of the calling thread's network namespace, by number and name.
pub(crate) fn network_devices() -> io::Result<Vec<(u32, String)>> {
    // SAFETY: returns null or an array that ends with a zero entry, which is ours to free.
    let list = unsafe { libc::if_nameindex() };
    if list.is_null() {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut at = list;
    // SAFETY: at stays inside the array, whose last entry has the index 0; names are NUL-terminated.
    unsafe {
        while (*at).if_index != 0 {
            let name = std::ffi::CStr::from_ptr((*at).if_name).to_string_lossy().into_owned();
            found.push(((*at).if_index, name));
            at = at.add(1);
        }
        libc::if_freenameindex(list);
    }
    Ok(found)
}

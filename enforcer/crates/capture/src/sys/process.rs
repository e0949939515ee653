//! What a process takes part in: namespaces, mounts, keyrings.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::path::Path;

use rustix::thread::UnshareFlags;

use super::check;

/// Gives the calling thread namespaces of its own.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: the unsafety of unshare is about CLONE_FILES (a descriptor closed elsewhere stays open here), which no caller passes.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Makes a mount and all below it read-only.
pub(crate) fn mount_read_only_recursive(path: &Path) -> io::Result<()> {
    set_mount_attributes(path, libc::MOUNT_ATTR_RDONLY, libc::AT_RECURSIVE)
}

/// Makes a mount follow no symbolic links on it.
pub(crate) fn mount_without_symlinks(path: &Path) -> io::Result<()> {
    set_mount_attributes(path, libc::MOUNT_ATTR_NOSYMFOLLOW, 0)
}

fn set_mount_attributes(path: &Path, attr_set: u64, flags: libc::c_int) -> io::Result<()> {
    let path = c_string(path)?;
    let attributes = libc::mount_attr { attr_set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: path is NUL-terminated, attributes has the size that is passed, both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
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

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_encoded_bytes())?)
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

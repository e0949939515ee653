//! This process becomes another program, and takes descriptors over from the one before.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::check;

/// Executes a program in this process; returns when that failed. Blocked signals stay blocked, so that none that
/// comes in between ends the process: the program takes them over.
pub(crate) fn execute(
    program: &Path,
    arguments: impl Iterator<Item = OsString>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> io::Error {
    let environment = environment.map(|(name, value)| [name, value].join(OsStr::new("=")));
    let strings = (|| {
        Ok::<_, io::Error>((
            c_strings([program.as_os_str().to_owned()].into_iter())?,
            c_strings(arguments)?,
            c_strings(environment)?,
        ))
    })();
    let (program, arguments, environment) = match strings {
        Ok(strings) => strings,
        Err(error) => return error,
    };
    let (arguments, environment) = (pointers(&arguments), pointers(&environment));
    // SAFETY: all are NUL-terminated strings, the arrays end with a null, and everything outlives the call.
    unsafe { libc::execve(pointers(&program)[0], arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

fn c_strings(strings: impl Iterator<Item = OsString>) -> io::Result<Vec<CString>> {
    strings.map(|string| Ok(CString::new(string.into_vec())?)).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// A descriptor that was left open for this program; no program that we start gets it. Each number once, before
/// anything else opens descriptors.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: only flags change; a number that is not open is an error.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: the number is open, and by the contract nothing else of this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

//! Users and groups of this host, from whatever databases it uses.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::path::PathBuf;

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

/// The name of a user of this host.
pub(crate) fn user_name(uid: u32) -> io::Result<Option<String>> {
    let mut buffer = vec![0 as libc::c_char; 64 * 1024];
    let mut entry = MaybeUninit::<libc::passwd>::zeroed();
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are valid for the call, the buffer has the length that is passed.
    let error = unsafe {
        libc::getpwuid_r(uid, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    match error {
        0 if found.is_null() => Ok(None),
        // SAFETY: found is not null, so entry is filled and its strings live in buffer, which is still here.
        0 => Ok(unsafe { CStr::from_ptr(entry.assume_init().pw_name) }.to_str().ok().map(str::to_owned)),
        libc::ENOENT | libc::ESRCH => Ok(None),
        error => Err(io::Error::from_raw_os_error(error)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_or_not() {
        assert_eq!(user("root").unwrap().unwrap().uid, 0);
        assert_eq!(user("no-such-user-here").unwrap(), None);
        assert_eq!(user_name(0).unwrap().as_deref(), Some("root"));
        assert_eq!(user_name(u32::MAX - 7).unwrap(), None);
        assert_eq!(group_id("no-such-group-here").unwrap(), None);
    }
}

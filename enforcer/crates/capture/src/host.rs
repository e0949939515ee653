//! Questions about this host whose answers the parts in here know. For `enforcer doctor`; changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use crate::{sys, trust};

/// The oldest kernel that is supported. Before it, `net_cls` and `net_prio` of cgroup v1 could change which cgroup a socket belongs
/// to (fixed in 5.15), and programs at some hooks could not choose their error.
pub const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// Release of the running kernel, and its first two numbers if they can be told.
pub fn kernel() -> (String, Option<(u32, u32)>) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = kernel_version(&release);
    (release, version)
}

/// The first two numbers of `6.1.0-18-amd64`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The version of Landlock that the kernel offers; `None`: none, or switched off at boot.
pub fn landlock_abi() -> io::Result<Option<u32>> {
    sys::landlock_abi()
}

/// The id of a group, if there is such a group.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    sys::group_id(name)
}

/// Bundles and trees of public roots that agents get with our root in them.
pub fn trust_stores() -> Vec<PathBuf> {
    trust::stores_of(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read() {
        for (release, version) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("5.15.167.4-microsoft-standard-WSL2", Some((5, 15))),
            ("6.18", Some((6, 18))),
            ("6", None),
            ("six.one", None),
            ("", None),
        ] {
            assert_eq!(kernel_version(release), version, "{release}");
        }
        assert!(
            kernel_version("5.4.0") < Some(OLDEST_KERNEL) && kernel_version("10.0.1") > Some(OLDEST_KERNEL)
        );
    }
}

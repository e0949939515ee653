//! Questions about this host whose answers the parts in here know. For `enforcer doctor`; changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use crate::{sys, trust};

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

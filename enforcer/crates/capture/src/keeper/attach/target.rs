//! Which cgroups may be attached: no part of ours, nothing that holds the daemon itself, none twice.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::cgroup;
use crate::error::Doing;
use crate::keeper::Keeper;

/// The cgroup's real path, if it may be attached.
pub(super) fn check(keeper: &Keeper, asked: &Path) -> Result<PathBuf, Error> {
    let doing = || format!("look at the cgroup {}", asked.display());
    let cgroup = fs::canonicalize(asked).doing(doing)?;
    let hierarchy = cgroup::hierarchy()?;
    if !cgroup.starts_with(&hierarchy) || cgroup == hierarchy {
        return Err(Error::refused(
            format!("{} is no cgroup below {}", asked.display(), hierarchy.display()),
            "name one of the cgroup2 hierarchy; `systemd-cgls` shows it",
        ));
    }
    if overlap(&cgroup, &keeper.managed_root) {
        return Err(Error::refused(
            format!("{} is a part of the managed root, or holds it", cgroup.display()),
            "what is in there is governed already: `enforcer agents` lists it",
        ));
    }
    let own = cgroup::of_process(std::process::id(), &hierarchy).doing(|| "see our own cgroup".into())?;
    if own.starts_with(&cgroup) {
        return Err(Error::refused(
            format!("the daemon itself runs in {}", cgroup.display()),
            "it cannot govern itself: name the cgroup of the workload alone",
        ));
    }
    let sessions = keeper.sessions();
    let other = sessions
        .values()
        .find(|running| running.attached.is_some() && overlap(&cgroup, &running.record.cgroup));
    match other {
        None => Ok(cgroup),
        Some(running) => Err(Error::refused(
            format!(
                "{} is attached already, as session {}",
                running.record.cgroup.display(),
                running.record.session.id
            ),
            format!(
                "one agent for one part of the tree: `enforcer detach {}` first",
                running.record.session.id
            ),
        )),
    }
}

/// One of them is the other, or is below it.
fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_each_other_overlap_and_neighbours_do_not() {
        let overlaps = |a: &str, b: &str| overlap(Path::new(a), Path::new(b));
        assert!(
            overlaps("/c/a.slice", "/c/a.slice/b.service") && overlaps("/c/a.slice/b.service", "/c/a.slice")
        );
        assert!(overlaps("/c/a", "/c/a") && !overlaps("/c/a", "/c/ab") && !overlaps("/c/a/b", "/c/a/c"));
    }
}

//! What a policy may select a cgroup by: its path, whom its processes run as, and what its container engine told the caller.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::Error;
use crate::cgroup;
use crate::error::Doing;
use crate::message::{Container, User, Workload};
use crate::sys;

pub(super) fn of(cgroup: &Path, processes: &[u32], container: Option<Container>) -> Result<Workload, Error> {
    let hierarchy = cgroup::hierarchy()?;
    // A path that is no text is selected by nothing.
    let path = cgroup.strip_prefix(hierarchy).ok().and_then(Path::to_str);
    let mut uids = BTreeSet::new();
    for pid in processes {
        match fs::read_to_string(format!("/proc/{pid}/status")) {
            Ok(status) => uids.extend(ids(&status).doing(|| format!("see whom process {pid} runs as"))?),
            // It ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).doing(|| format!("look at process {pid}")),
        }
    }
    let named = |uid| Ok(User { uid, name: sys::user_name(uid)? });
    let users: io::Result<Vec<User>> = uids.into_iter().map(named).collect();
    Ok(Workload {
        run: false,
        cgroup: path.map_or_else(String::new, |path| format!("/{path}")),
        users: users.doing(|| "look a user up".into())?,
        container,
    })
}

/// Real, effective, saved and file system id, as `/proc/PID/status` has them.
fn ids(status: &str) -> io::Result<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let ids: Option<Vec<u32>> =
        line.map(|line| line.split_whitespace().filter_map(|id| id.parse().ok()).collect());
    ids.filter(|ids| ids.len() == 4).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_whom_a_process_can_be_is_told() {
        let all = ids("Name:\tsh\nUid:\t1000\t0\t0\t1000\nGid:\t1\t1\t1\t1\n").unwrap();
        assert_eq!(all, [1000, 0, 0, 1000]);
        for bad in ["Name:\tsh\n", "Uid:\t1\t2\t3\n", "Uid:\t1\t2\t3\tx\n"] {
            assert!(ids(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_runs_here_is_told_as_it_is() {
        let hierarchy = cgroup::hierarchy().unwrap();
        let own = cgroup::of_process(std::process::id(), &hierarchy).unwrap_or_else(|_| hierarchy.clone());
        let workload = of(&own, &[std::process::id(), u32::MAX], None).unwrap();
        assert!(workload.cgroup.starts_with('/') && !workload.run);
        let uid = rustix::process::getuid().as_raw();
        assert!(workload.users.iter().any(|user| user.uid == uid), "{:?}", workload.users);
        assert!(of(&own, &[], None).unwrap().users.is_empty());
    }
}

//! Sockets that were open before their cgroup was attached: ended where the kernel can, told where it cannot.
//!
//! The programs go by the cgroup that a socket was made in, so those from inside are held already, and ended so that their holders
//! learn it and open new ones. Those from outside (inherited, handed over, activated by systemd) pass every program: of these
//! even listeners are ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use crate::cgroup;
use crate::netns::Netns;
use crate::sys::inet_diag::SockDiag;

/// Ending sockets makes programs open new ones, which are governed; more rounds would meet only those that reappear by themselves.
const ROUNDS: usize = 3;

/// What was done about the sockets.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) ended: usize,
    /// What stays open, in words for a person.
    pub(super) left: Vec<String>,
}

/// Ends what the processes of the cgroup, or it itself, have open in these namespaces. What only `caller` holds, which asked for this and
/// ends with our answer, is not told of: a unit that attaches itself does it by a process of root's in its own cgroup.
pub(super) fn sweep<'a>(
    cgroup: &Path,
    namespaces: impl Iterator<Item = &'a Netns> + Clone,
    caller: u32,
) -> io::Result<Swept> {
    let cgroups: BTreeSet<u64> = cgroup::ids(cgroup)?.into_iter().collect();
    let mut swept = Swept::default();
    let mut known = Known::default();
    for _ in 0..ROUNDS {
        let held = held(cgroup, None)?;
        let mut ended = 0;
        for netns in namespaces.clone() {
            let (done, here) = netns.within(|| sweep_here(&cgroups, &held))?;
            ended += done;
            known.inet.extend(here.inet);
            known.unix.extend(here.unix);
        }
        swept.ended += ended;
        if ended == 0 {
            break;
        }
    }
    swept.left = left(&held(cgroup, Some(caller))?, &known);
    Ok(swept)
}

/// Sockets that nothing more is to be said about, or only whom they are connected to.
#[derive(Default)]
struct Known {
    inet: BTreeSet<u64>,
    unix: BTreeMap<u64, Option<u64>>,
}

/// In the calling thread's namespace: how many were ended, and which there are.
fn sweep_here(cgroups: &BTreeSet<u64>, held: &BTreeMap<u64, u32>) -> io::Result<(usize, Known)> {
    let diag = SockDiag::open()?;
    let mut ended = 0;
    let mut known = Known::default();
    for socket in diag.sockets()? {
        let born_inside = socket.cgroup_id.is_some_and(|id| cgroups.contains(&id));
        let inode = u64::from(socket.inode);
        if !born_inside && !held.contains_key(&inode) {
            continue;
        }
        // A listener from inside serves the loopback of its namespace and no more: that much is allowed.
        if socket.listening && born_inside {
            known.inet.insert(inode);
        } else if diag.destroy(&socket)? {
            ended += 1;
            known.inet.insert(inode);
        }
    }
    for (inode, peer) in diag.unix_sockets()? {
        known.unix.insert(inode.into(), peer.map(u64::from));
    }
    Ok((ended, known))
}

/// Inodes of all sockets that the cgroup's processes hold, each with one of them.
fn held(cgroup: &Path, but: Option<u32>) -> io::Result<BTreeMap<u64, u32>> {
    let mut found = BTreeMap::new();
    for pid in cgroup::processes(cgroup)?.into_iter().filter(|pid| Some(*pid) != but) {
        // It may be gone by now.
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            if let Ok(target) = fs::read_link(entry.path())
                && let Some(inode) = target.to_str().and_then(socket_inode)
            {
                found.insert(inode, pid);
            }
        }
    }
    Ok(found)
}

/// Of `socket:[1234]`.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Sockets that lead out of the workload and stay open, by kind, with how many of them there are.
fn left(held: &BTreeMap<u64, u32>, known: &Known) -> Vec<String> {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tables: BTreeMap<u32, BTreeMap<u64, &'static str>> = BTreeMap::new();
    for (inode, pid) in held {
        let kind = match known.unix.get(inode) {
            // Nobody, or one of its own.
            Some(None) => continue,
            Some(Some(peer)) if held.contains_key(peer) => continue,
            Some(Some(_)) => "unix socket that is connected to a process outside",
            None if known.inet.contains(inode) => continue,
            None => match tables.entry(*pid).or_insert_with(|| kinds_in(*pid)).get(inode) {
                // To the kernel, which asks for capabilities at each request.
                Some(&"netlink socket") => continue,
                Some(kind) => kind,
                None => "socket of another kind or network namespace",
            },
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
        .into_iter()
        .map(|(kind, count)| format!("{count} open since before it was attached: {kind}"))
        .collect()
}

/// The tables of `/proc/PID/net` that are neither TCP, UDP nor unix: inode and kind.
fn kinds_in(pid: u32) -> BTreeMap<u64, &'static str> {
    // Name, kind, and the column of the inode.
    const TABLES: [(&str, &str, usize); 6] = [
        ("packet", "packet socket", 8),
        ("raw", "raw socket", 9),
        ("raw6", "raw socket", 9),
        ("icmp", "ping socket", 9),
        ("icmp6", "ping socket", 9),
        ("netlink", "netlink socket", 9),
    ];
    let mut found = BTreeMap::new();
    for (name, kind, column) in TABLES {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            if let Some(Ok(inode)) = line.split_whitespace().nth(column).map(str::parse) {
                found.insert(inode, kind);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_are_read_from_links_of_descriptors() {
        assert_eq!(socket_inode("socket:[81]"), Some(81));
        assert_eq!(socket_inode("pipe:[81]"), None);
        assert_eq!(socket_inode("/socket:[81"), None);
    }
}

//! `strict` or `weak`: what of an attached workload is held less firmly than an agent that `enforcer run` started, each reason in
//! words for a person. What cannot be seen counts as a reason.
//!
//! Nothing here holds anything. The reasons are found anew every few seconds, because processes change.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::Live;
use crate::cgroup;
use crate::session::Record;

/// Capabilities by which a process leaves, or takes the cage apart: number and name (linux/capability.h).
const DANGEROUS: [(u32, &str); 9] = [
    (2, "CAP_DAC_READ_SEARCH"),
    (12, "CAP_NET_ADMIN"),
    (16, "CAP_SYS_MODULE"),
    (17, "CAP_SYS_RAWIO"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (22, "CAP_SYS_BOOT"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];
const NET_ADMIN: u32 = 12;
/// Devices behind which packets leave, or the whole host lies.
const DEVICES: [&str; 7] = ["net/tun", "vhost-net", "vhost-vsock", "vsock", "kvm", "mem", "fuse"];

/// Every reason, once.
pub(super) fn weak(live: &Live, record: &Record, open_sockets: &[String]) -> Vec<String> {
    let mut reasons: BTreeSet<String> = open_sockets.iter().cloned().collect();
    if let Err(error) = live.attachment.verify() {
        reasons.insert(format!("the programs are not all in force: {error}"));
    }
    if !live.attachment.refuses_unix_sockets() {
        reasons.insert("this kernel (before 6.7) cannot refuse unix sockets by path".into());
    }
    for served in live.namespaces().iter() {
        if !served.private() {
            reasons.insert("it shares a network namespace with processes that are not governed".into());
        }
        reasons.extend(served.lacks());
    }
    match fs::metadata(&record.cgroup) {
        Ok(dir) if dir.uid() == 0 && dir.mode() & 0o022 == 0 => {}
        Ok(dir) => {
            reasons.insert(format!("its cgroup is delegated to user {}, who may move processes", dir.uid()));
        }
        Err(error) => {
            reasons.insert(format!("its cgroup cannot be seen: {error}"));
        }
    }
    match processes(&record.cgroup) {
        Ok(processes) => {
            reasons.extend(
                processes.iter().flat_map(|process| CHECKS.iter().filter_map(|check| check(process))),
            );
            reasons.extend(shared_users(&record.cgroup, &processes));
        }
        Err(error) => {
            reasons.insert(format!("its processes cannot be seen: {error}"));
        }
    }
    reasons.into_iter().collect()
}

const CHECKS: [fn(&Process) -> Option<String>; 6] =
    [host_root, capabilities, gains_privileges, no_seccomp, kernel_mounts, devices];

/// What of a process matters here.
#[derive(Debug, Default)]
struct Process {
    pid: u32,
    uid: u32,
    capabilities: u64,
    bounding: u64,
    no_new_privs: bool,
    seccomp: bool,
    own_user_namespace: bool,
    own_mounts: bool,
    own_pids: bool,
}

impl Process {
    fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let own = |kind: &str| -> io::Result<bool> {
            let inode = |who: &str| fs::metadata(format!("/proc/{who}/ns/{kind}")).map(|ns| ns.ino());
            Ok(inode(&pid.to_string())? != inode("self")?)
        };
        Ok(Process {
            pid,
            own_user_namespace: own("user")?,
            own_mounts: own("mnt")?,
            own_pids: own("pid")?,
            ..Process::read(&status)?
        })
    }

    fn read(status: &str) -> io::Result<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()).ok_or(io::ErrorKind::InvalidData)
        };
        let mask = |name: &str| u64::from_str_radix(field(name)?, 16).map_err(io::Error::other);
        Ok(Process {
            uid: field("Uid")?.parse().map_err(io::Error::other)?,
            capabilities: mask("CapPrm")? | mask("CapEff")? | mask("CapAmb")?,
            bounding: mask("CapBnd")?,
            no_new_privs: field("NoNewPrivs")? != "0",
            seccomp: field("Seccomp")? != "0",
            ..Process::default()
        })
    }
}

fn processes(cgroup: &Path) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for pid in cgroup::processes(cgroup)? {
        match Process::of(pid) {
            Ok(process) => found.push(process),
            // It is gone by now.
            Err(_) if fs::metadata(format!("/proc/{pid}")).is_err() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn host_root(process: &Process) -> Option<String> {
    (process.uid == 0 && !process.own_user_namespace && !process.own_mounts)
        .then(|| "it runs as root on the host's own file system: root can take its cage apart".into())
}

fn names(mask: u64) -> Vec<&'static str> {
    DANGEROUS.iter().filter(|(number, _)| mask & (1 << number) != 0).map(|(_, name)| *name).collect()
}

fn capabilities(process: &Process) -> Option<String> {
    if process.own_user_namespace {
        // Over its own namespaces only; of these the network's counts.
        return (process.capabilities & (1 << NET_ADMIN) != 0)
            .then(|| "it has CAP_NET_ADMIN over its own network namespace".into());
    }
    let names = names(process.capabilities);
    (!names.is_empty()).then(|| format!("it has {}", names.join(", ")))
}

/// Set-user-id programs give what the bounding set leaves.
fn gains_privileges(process: &Process) -> Option<String> {
    let names = names(process.bounding & !process.capabilities);
    let may = !process.no_new_privs && !process.own_user_namespace && !names.is_empty();
    may.then(|| format!("it may gain {} by set-user-id programs: no_new_privs is off", names.join(", ")))
}

fn no_seccomp(process: &Process) -> Option<String> {
    (!process.seccomp).then(|| {
        "it has no seccomp filter: sockets of other families are open to it, AF_VSOCK to the hypervisor among them"
            .into()
    })
}

/// Root of the host's, in a view of its own, with the means of its cage in that view.
fn kernel_mounts(process: &Process) -> Option<String> {
    if process.uid != 0 || process.own_user_namespace || !process.own_mounts {
        return None;
    }
    let Ok(table) = fs::read_to_string(format!("/proc/{}/mountinfo", process.pid)) else {
        return Some("its mounts cannot be seen".into());
    };
    let reachable = |line: &str| {
        let Some((before, after)) = line.split_once(" - ") else { return false };
        let kind = after.split(' ').next().unwrap_or_default();
        let writable = before.split(' ').nth(5).is_some_and(|options| options.split(',').any(|o| o == "rw"));
        kind == "bpf" || (kind == "cgroup2" && writable)
    };
    table.lines().any(reachable).then(|| "it is root with BPF pins or writable cgroups in its view".into())
}

/// Looked at as names, never opened: the tree is the workload's.
fn devices(process: &Process) -> Option<String> {
    let usable = |name: &&&str| {
        fs::symlink_metadata(format!("/proc/{}/root/dev/{name}", process.pid)).is_ok_and(|node| {
            node.file_type().is_char_device() && (process.uid == 0 || node.mode() & 0o006 != 0)
        })
    };
    let found: Vec<String> = DEVICES.iter().filter(usable).map(|name| format!("/dev/{name}")).collect();
    (!found.is_empty()).then(|| format!("it can open {}", found.join(", ")))
}

/// Processes of the same user in the same view of processes can be traced, and made to act.
fn shared_users(cgroup: &Path, processes: &[Process]) -> Vec<String> {
    let users: BTreeSet<u32> =
        processes.iter().filter(|process| !process.own_pids).map(|process| process.uid).collect();
    let Ok(hierarchy) = cgroup::hierarchy() else { return vec!["its neighbours cannot be seen".into()] };
    let mut shared = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(process) = entry.metadata() else { continue };
        if users.contains(&process.uid())
            && !cgroup::of_process(pid, &hierarchy).is_ok_and(|path| path.starts_with(cgroup))
            // Not one that ended while it was looked at.
            && entry.metadata().is_ok()
        {
            shared.insert(process.uid());
        }
    }
    shared
        .into_iter()
        .map(|uid| {
            format!("processes outside run as its user {uid}: it may trace them, or leave code for them")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n";

    /// What Docker gives an ordinary user in a container, with its own filter.
    #[test]
    fn a_process_in_a_container_of_docker_gives_no_reason() {
        let process =
            Process { own_mounts: true, own_pids: true, pid: u32::MAX, ..Process::read(STATUS).unwrap() };
        let reasons: Vec<_> = CHECKS.iter().filter_map(|check| check(&process)).collect();
        assert_eq!(reasons, [""; 0]);
        let root = Process { uid: 0, ..process };
        assert!(host_root(&root).is_none());
        assert_eq!(kernel_mounts(&root).unwrap(), "its mounts cannot be seen", "unknown is a reason");
    }

    #[test]
    fn each_weakness_is_a_reason() {
        let strong = || Process { own_mounts: true, no_new_privs: true, seccomp: true, ..Process::default() };
        let reason = |process: Process| {
            let reasons: Vec<_> = CHECKS[..4].iter().filter_map(|check| check(&process)).collect();
            assert_eq!(reasons.len(), 1, "{process:?}: {reasons:?}");
            reasons[0].clone()
        };
        assert!(reason(Process { own_mounts: false, ..strong() }).contains("as root on the host"));
        assert!(reason(Process { capabilities: 1 << NET_ADMIN, ..strong() }).contains("CAP_NET_ADMIN"));
        assert!(reason(Process { seccomp: false, ..strong() }).contains("AF_VSOCK"));
        let gains = Process { bounding: 1 << 21, no_new_privs: false, uid: 5, ..strong() };
        assert!(reason(gains).contains("CAP_SYS_ADMIN by set-user-id"));
        let inner = Process { own_user_namespace: true, capabilities: u64::MAX, ..strong() };
        assert!(reason(inner).contains("over its own network namespace"));
    }

    #[test]
    fn a_status_that_says_less_is_an_error() {
        assert!(Process::read("Uid:\t0\n").is_err());
    }
}

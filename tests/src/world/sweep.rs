//! Takes a stage down by its name alone, whatever state it is in.
//!
//! One function for every way a test can end: `Drop` calls it, the janitor calls it when the owner
//! was killed or interrupted, and the next world calls it for stages whose owner is gone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};

/// Directories of all stages are `BASE/ew-PID-N`. Not under /run, which is often `noexec`.
pub(super) const BASE: &str = "/var/tmp";
const PREFIX: &str = "ew-";
/// How long killed processes may take to be gone.
const DYING: Duration = Duration::from_secs(5);

pub(super) fn dir(name: &str) -> PathBuf {
    Path::new(BASE).join(name)
}

/// The namespace that plays the host.
pub(super) fn host_netns(name: &str) -> PathBuf {
    Path::new("/run/netns").join(format!("{name}-host"))
}

/// The namespace that plays the rest of the world.
pub(super) fn outside_netns(name: &str) -> PathBuf {
    Path::new("/run/netns").join(format!("{name}-net"))
}

/// The namespace of workloads that run apart from the host, as in a container.
pub(super) fn box_netns(name: &str) -> PathBuf {
    Path::new("/run/netns").join(format!("{name}-box"))
}

fn netns_of(name: &str) -> [PathBuf; 3] {
    [host_netns(name), outside_netns(name), box_netns(name)]
}

/// Names of this stage's cgroups: the managed root and those of workloads all begin like this.
fn cgroup_prefix(name: &str) -> String {
    format!("{name}.")
}

/// The stage's cgroups. runc makes them in the hierarchies of version 1 as well, where there are any.
fn cgroups(name: &str) -> Result<Vec<PathBuf>> {
    let prefix = cgroup_prefix(name);
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    let first =
        mounts.lines().filter(|line| line.contains(" - cgroup ")).filter_map(|line| line.split(' ').nth(4));
    let hierarchies = first.map(PathBuf::from).chain([cgroup_root()?]);
    let entries = hierarchies.flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten());
    Ok(entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect())
}

/// Name of the managed root of this stage's daemon.
pub(super) fn slice(name: &str) -> String {
    format!("{name}.slice")
}

/// A name for a new stage, which tells its owner.
pub(super) fn fresh_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Kills, unmounts and removes everything of the stage. Succeeds when nothing is left.
pub fn sweep(name: &str) -> Result<()> {
    kill_all(name)?;
    cgroups(name)?.iter().try_for_each(|cgroup| remove_cgroup(cgroup))?;
    unmount_below(&dir(name))?;
    for netns in netns_of(name) {
        if netns.exists() {
            // Fails when it is a plain file already; the removal below tells.
            let _gone = rustix::mount::unmount(&netns, UnmountFlags::DETACH);
            fs::remove_file(&netns).with_context(|| format!("remove {}", netns.display()))?;
        }
    }
    match fs::remove_dir_all(dir(name)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", dir(name).display()))
        }
        _ => Ok(()),
    }
}

/// Sweeps stages whose owner no longer runs, for example after a power cut of the test runner.
pub(super) fn sweep_abandoned() {
    for name in all() {
        let owner = name.trim_start_matches(PREFIX).split('-').next().unwrap_or_default().to_owned();
        if !Path::new("/proc").join(owner).exists() {
            let _best_effort = sweep(&name);
        }
    }
}

/// What is still there of a stage: nothing, after [`sweep`].
pub fn leftovers(name: &str) -> Vec<String> {
    let mut left = Vec::new();
    left.extend(processes(name).into_iter().map(|(pid, what)| format!("process {pid}: {what}")));
    left.extend(mounts_below(&dir(name)).into_iter().map(|m| format!("mount {}", m.display())));
    let places = netns_of(name).into_iter().chain([dir(name)]).chain(cgroups(name).unwrap_or_default());
    for path in places {
        if path.exists() {
            left.push(path.display().to_string());
        }
    }
    left
}

/// Where cgroup v2 is mounted: hybrid hosts have it below the v1 hierarchies.
pub fn cgroup_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .and_then(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .context("no cgroup2 hierarchy is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

/// Names of every stage that has a directory.
pub fn all() -> Vec<String> {
    let entries = fs::read_dir(BASE).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.starts_with(PREFIX)).collect()
}

/// Processes of a stage: in one of its namespaces, below its cgroup, run from its directory or
/// named after it.
pub fn processes(name: &str) -> Vec<(i32, String)> {
    let spaces: Vec<u64> =
        netns_of(name).iter().filter_map(|p| fs::metadata(p).ok()).map(|m| m.ino()).collect();
    let home = dir(name);
    let below = format!("/{}", cgroup_prefix(name));
    let me = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if u32::try_from(pid) == Ok(me) {
            continue;
        }
        let proc = entry.path();
        let space = fs::metadata(proc.join("ns/net")).map(|m| m.ino());
        let in_space = space.is_ok_and(|ino| spaces.contains(&ino));
        let from_home = fs::read_link(proc.join("exe")).is_ok_and(|exe| exe.starts_with(&home));
        let in_slice = fs::read_to_string(proc.join("cgroup"))
            .is_ok_and(|text| text.lines().any(|l| l.starts_with("0::") && l.contains(&below)));
        // What is dead and waits for its parent holds nothing; on some machines nobody ever asks.
        if (in_space || from_home || in_slice) && !is_zombie(pid) {
            let line = fs::read(proc.join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

fn kill_all(name: &str) -> Result<()> {
    let deadline = Instant::now() + DYING;
    loop {
        let alive = processes(name);
        for (pid, _) in &alive {
            if let Some(pid) = Pid::from_raw(*pid) {
                let _already_gone = kill_process(pid, Signal::KILL);
            }
        }
        if alive.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "processes of {name} do not die: {alive:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which may hold anything but ends in the last bracket.
    stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z') || rest.is_empty())
}

fn remove_cgroup(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    let deadline = Instant::now() + DYING;
    loop {
        match fs::remove_dir(path) {
            // EBUSY until the last process has been reaped.
            Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("remove cgroup {}", path.display()));
            }
            _ => return Ok(()),
        }
    }
}

fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|m| m.starts_with(dir))
        .collect()
}

fn unmount_below(dir: &Path) -> Result<()> {
    for mount in mounts_below(dir).iter().rev() {
        rustix::mount::unmount(mount, UnmountFlags::DETACH)
            .with_context(|| format!("unmount {}", mount.display()))?;
    }
    Ok(())
}

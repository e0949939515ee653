//! What runs without the product's doing, until `enforcer attach`: processes in a cgroup of their own, on the host's network or
//! on their own, as a service or a container has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::command::{self, Output, Running};
use super::{World, clean, inside, net, sweep};

/// One command in it.
const LIMIT: Duration = Duration::from_secs(30);
/// Capabilities of root in a container, as Docker gives them.
pub const DOCKER_CAPS: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,\
                               +net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap";

#[derive(Debug)]
pub struct Workload<'w> {
    pub world: &'w World,
    pub cgroup: PathBuf,
    netns: PathBuf,
    /// Words before each command: who runs it.
    pub who: Vec<String>,
}

impl World {
    /// A service of the host, under a user of its own.
    pub fn service(&self, label: &str, uid: u32) -> Result<Workload<'_>> {
        let id = uid.to_string();
        let who = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"].map(str::to_owned);
        self.workload(label, self.host_netns.clone(), who.into())
    }

    /// Root with a container's capabilities, on a network of its own.
    pub fn boxed(&self, label: &str) -> Result<Workload<'_>> {
        let netns = sweep::box_netns(&self.name);
        if !netns.exists() {
            net::make_box(&self.name)?;
        }
        let bounding = format!("--bounding-set={DOCKER_CAPS}");
        let who = ["setpriv", &bounding, "--inh-caps=-all", "--"].map(str::to_owned);
        self.workload(label, netns, who.into())
    }

    fn workload(&self, label: &str, netns: PathBuf, who: Vec<String>) -> Result<Workload<'_>> {
        let cgroup = sweep::cgroup_root()?.join(format!("{}.{label}", self.name));
        fs::create_dir(&cgroup).with_context(|| format!("make {}", cgroup.display()))?;
        Ok(Workload { world: self, cgroup, netns, who })
    }
}

impl Workload<'_> {
    /// A command of the workload's, as its supervisor would start it: into the cgroup first, then into its network, where nobody
    /// else is seen so.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Command {
        let enter = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", self.cgroup.display());
        let netns = format!("--net={}", self.netns.display());
        let mut command = clean("sh");
        command
            .args(["-c", &enter, "enter", "nsenter", &netns, "--"])
            .args(&self.who)
            .args(words.iter().map(AsRef::as_ref))
            .current_dir("/tmp");
        command
    }

    /// A command of the host's root in the workload's network namespace, outside of its cgroup.
    pub fn beside<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Command {
        inside(&self.netns, words)
    }

    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Result<Output> {
        command::run(self.command(words), LIMIT)
    }

    pub fn spawn<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Result<Running> {
        Running::spawn(self.command(words), None)
    }

    /// The cgroup as the product is told it.
    pub fn path(&self) -> &str {
        self.cgroup.to_str().unwrap_or_default()
    }

    /// Ends what runs in it.
    pub fn kill(&self) -> Result<()> {
        kill(&self.cgroup)
    }
}

impl Drop for Workload<'_> {
    fn drop(&mut self) {
        // The stage's sweep removes the rest.
        let _best_effort = kill(&self.cgroup);
    }
}

fn kill(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.kill"), "1")
        .with_context(|| format!("end what runs in {}", cgroup.display()))
}

//! A control group for each peer: what it and all its children spend, and what they hold.
//!
//! The kernel counts a group's time in nanoseconds, also that of children which have ended.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enforcer_tests::world::{World, cgroup_root};

/// Less than a hundredth of the time is rest.
const REST: u32 = 100;
/// The enforcer brings its index up to date when a load is over; nobody needs longer than this.
const RESTLESS: Duration = Duration::from_secs(10);

/// Swept with the stage: it has its name.
pub(super) struct Group {
    path: PathBuf,
}

impl Group {
    pub(super) fn new(world: &World, peer: &str) -> Result<Self> {
        let path = cgroup_root()?.join(format!("{}.bench-{peer}", world.name));
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Group { path })
    }

    /// The command, begun in this group.
    pub(super) fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = Command::new("sh");
        wrapped.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(self.path.join("cgroup.procs"));
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped.env_clear();
        wrapped.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        wrapped
    }

    pub(super) fn take(&self, pids: &[i32]) -> Result<()> {
        let procs = self.path.join("cgroup.procs");
        pids.iter()
            .try_for_each(|pid| fs::write(&procs, pid.to_string()))
            .context("move a peer into its group")
    }

    /// Processor time so far, of user and system together.
    pub(super) fn spent(&self) -> Result<Duration> {
        let text = fs::read_to_string(self.path.join("cpu.stat"))?;
        let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
        micros.map(Duration::from_micros).context("a group has usage_usec")
    }

    /// Waits until nothing is done any more for as long as `look`.
    pub(super) fn settle(&self, look: Duration) -> Result<()> {
        let deadline = Instant::now() + RESTLESS;
        let mut before = self.spent()?;
        loop {
            std::thread::sleep(look);
            let now = self.spent()?;
            if now - before < look / REST || Instant::now() > deadline {
                return Ok(());
            }
            before = now;
        }
    }

    /// Resident memory in KiB, of each process by itself.
    pub(super) fn resident(&self) -> Result<f64> {
        let procs = fs::read_to_string(self.path.join("cgroup.procs"))?;
        let mut sum = 0;
        for pid in procs.lines() {
            // One that ends meanwhile holds nothing.
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            sum += line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u32>().ok()).unwrap_or(0);
        }
        ensure!(sum > 0, "nobody is in {}", self.path.display());
        Ok(f64::from(sum))
    }
}

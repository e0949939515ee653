//! The daemon of a stage: its settings, its start and its violent ends, and the commands a person
//! would type at it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::command::{self, Output, patient};
use super::manager::Manager;
use super::{World, plan, sweep};

/// Loading the programs takes most of it, on a machine that compiles beside it.
const STARTING: Duration = Duration::from_secs(40);
/// A drain of nothing is quick.
const STOPPING: Duration = Duration::from_secs(20);
/// Any command of the tool that is no agent.
const COMMAND: Duration = Duration::from_secs(60);
/// Agents of the stage; outside of it is [`super::UNGUARDED_UID`].
const AGENT_IDS: &str = "61600-61699";

/// The settings of one daemon; change them before the start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    pub policy_dir: PathBuf,
    pub vault_key: PathBuf,
    pub managed_root: String,
    pub pins: PathBuf,
    /// Further lines of the file.
    pub more: String,
}

/// A daemon that was configured, and runs between [`Daemon::start`] and its end.
#[derive(Debug)]
pub struct Daemon<'w> {
    pub world: &'w World,
    pub settings: Settings,
    pub config: PathBuf,
    pub log: PathBuf,
    child: Option<Child>,
    manager: Manager,
}

impl World {
    /// A daemon with this policy of `bot`, and the API's token in its vault.
    pub fn serving(&self, policy: &str) -> Result<Daemon<'_>> {
        let daemon = self.daemon(&[("bot", policy)])?;
        daemon.secret_set("api-token", plan::API, &self.canaries.bearer)?;
        Ok(daemon)
    }

    /// A daemon with these policies, started.
    pub fn daemon(&self, policies: &[(&str, &str)]) -> Result<Daemon<'_>> {
        let mut daemon = self.configured(policies)?;
        daemon.start()?;
        Ok(daemon)
    }

    /// A daemon with these policies, not started yet.
    pub fn configured(&self, policies: &[(&str, &str)]) -> Result<Daemon<'_>> {
        let bin = self.bin("enforcer");
        ensure!(bin.exists(), "the product is not built. Run: cargo xtask bpf && cargo build -p enforcer");
        let etc = self.dir.join("etc");
        fs::DirBuilder::new().mode(0o755).recursive(true).create(etc.join("policies"))?;
        fs::write(etc.join("hosts"), "127.0.0.1 localhost\n")?;
        let settings = Settings {
            run_dir: self.dir.join("run"),
            state_dir: self.dir.join("state"),
            policy_dir: etc.join("policies"),
            vault_key: etc.join("vault.key"),
            managed_root: sweep::slice(&self.name),
            pins: self.dir.join("bpf/enforcer"),
            more: String::new(),
        };
        let manager = Manager::start(self.dir.join("notify.sock"))?;
        let daemon = Daemon {
            world: self,
            settings,
            config: etc.join("enforcer.yaml"),
            log: self.dir.join("daemon.log"),
            child: None,
            manager,
        };
        for (name, text) in policies {
            daemon.write_policy(name, text)?;
        }
        Ok(daemon)
    }
}

impl Daemon<'_> {
    /// Writes one policy file; the daemon learns of it at its start or by a reload.
    pub fn write_policy(&self, name: &str, text: &str) -> Result<()> {
        let path = self.settings.policy_dir.join(format!("{name}.yaml"));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Starts and waits until the daemon says that it is ready. (Its sockets take connections before.)
    pub fn start(&mut self) -> Result<()> {
        let before = self.notified().matches("READY=1").count();
        self.spawn()?;
        let deadline = Instant::now() + patient(STARTING);
        while self.notified().matches("READY=1").count() == before {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                self.child = None;
                bail!("the daemon ended at its start: {status}\n{}", self.log_text());
            }
            ensure!(
                Instant::now() < deadline,
                "the daemon is not ready after {STARTING:?}\n{}",
                self.log_text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Starts and waits for the end, for starts that must fail.
    pub fn start_and_fail(&mut self) -> Result<Output> {
        self.write_settings()?;
        let mut command = self.world.on_host(&[self.world.bin("enforcer")]);
        command.arg("daemon").arg("--config").arg(&self.config).env("NO_COLOR", "1");
        command::run(command, Duration::from_secs(15))
    }

    fn spawn(&mut self) -> Result<()> {
        self.write_settings()?;
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.world.on_host(&[self.world.bin("enforcer")]);
        command.arg("daemon").arg("--config").arg(&self.config);
        command.env("NO_COLOR", "1").env("NOTIFY_SOCKET", &self.manager.socket);
        let (mut command, _passed) = match self.manager.passing(&command)? {
            Some((command, passed)) => (command, passed),
            None => (command, Vec::new()),
        };
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("start the daemon")?);
        Ok(())
    }

    fn write_settings(&self) -> Result<()> {
        let s = &self.settings;
        let text = format!(
            "run_dir: {}\nstate_dir: {}\npolicy_dir: {}\nvault_key: {}\nmanaged_root: {}\npins: {}\n\
             ids: {{ worker: 61500, agents: {AGENT_IDS} }}\n\
             resolver: {{ servers: [\"{}:53\"], hosts_file: {}, timeout_ms: 1000 }}\n\
             upstream_roots: [{}]\n{}",
            s.run_dir.display(),
            s.state_dir.display(),
            s.policy_dir.display(),
            s.vault_key.display(),
            s.managed_root,
            s.pins.display(),
            plan::SERVER_V4,
            self.world.dir.join("etc/hosts").display(),
            self.world.upstream_ca().display(),
            s.more,
        );
        fs::write(&self.config, text)?;
        // Root's alone, as a careful person would have it: nothing but the keeper may need it.
        fs::set_permissions(&self.config, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    /// Everything the daemon told the service manager so far.
    pub fn notified(&self) -> String {
        self.manager.said()
    }

    /// The service manager keeps the descriptors that it is given from now on, and passes them to what is started next.
    pub fn keep_descriptors(&self) {
        self.manager.keep();
    }

    /// How many descriptors the service manager keeps under each name.
    pub fn kept_descriptors(&self) -> BTreeMap<String, usize> {
        self.manager.stored()
    }

    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log holds a line with all of these words.
    pub fn wait_log(&self, words: &[&str], limit: Duration) -> bool {
        let deadline = Instant::now() + patient(limit);
        loop {
            if self.log_text().lines().any(|line| words.iter().all(|w| line.contains(w))) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGKILL to keeper and worker at once, with no chance to tidy up. Returns the pids.
    pub fn kill9(&mut self) -> Result<Vec<i32>> {
        let ours = self.ours(&["daemon", "worker"]);
        ensure!(!ours.is_empty(), "no daemon is running");
        kill(&ours);
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        self.wait_gone(&ours)?;
        Ok(ours)
    }

    /// SIGKILL to the worker alone; the keeper starts another. Returns the pids.
    pub fn kill9_worker(&self) -> Result<Vec<i32>> {
        let workers = self.ours(&["worker"]);
        ensure!(!workers.is_empty(), "no worker is running");
        kill(&workers);
        self.wait_gone(&workers)?;
        Ok(workers)
    }

    /// SIGKILL to the keeper alone, which its worker does not survive.
    pub fn kill9_keeper(&mut self) -> Result<()> {
        let workers = self.ours(&["worker"]);
        let mut child = self.child.take().context("no daemon is running")?;
        child.kill()?;
        child.wait()?;
        self.wait_gone(&workers)
    }

    /// SIGKILL to every process that runs our binary, whatever its part.
    pub fn kill9_everything(&mut self) -> Result<Vec<i32>> {
        let ours = self.ours(&[]);
        kill(&ours);
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(ours)
    }

    /// SIGTERM, then wait for a clean end.
    pub fn stop(&mut self) -> Result<std::process::ExitStatus> {
        let Some(mut child) = self.child.take() else { bail!("no daemon is running") };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        let deadline = Instant::now() + patient(STOPPING);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("the daemon did not stop within {STOPPING:?} of SIGTERM\n{}", self.log_text());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            self.stop()?;
        }
        self.start()
    }

    /// Installs the program anew and has the daemon become it; waits until it is ready again.
    pub fn upgrade(&self) -> Result<()> {
        let (installed, fresh) = (self.world.bin("enforcer"), self.world.bin("enforcer.new"));
        fs::copy(&installed, &fresh)?;
        fs::rename(&fresh, &installed)?;
        let before = self.notified().matches("READY=1").count();
        let pid =
            self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).context("no daemon is running")?;
        kill_process(pid, Signal::USR2)?;
        let deadline = Instant::now() + patient(STARTING);
        while self.notified().matches("READY=1").count() == before {
            ensure!(Instant::now() < deadline, "no upgrade after {STARTING:?}\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(20));
        }
        ensure!(!self.log_text().contains("the daemon stays what it is"), "{}", self.log_text());
        Ok(())
    }

    /// Processes that run our binary, in one of these parts; any part when none is named.
    pub fn ours(&self, parts: &[&str]) -> Vec<i32> {
        let exe = self.world.bin("enforcer");
        let running = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|e| e == exe);
        let plays =
            |line: &str| parts.is_empty() || line.split(' ').skip(1).any(|word| parts.contains(&word));
        let all = sweep::processes(&self.world.name).into_iter();
        all.filter(|(pid, line)| running(*pid) && plays(line)).map(|(pid, _)| pid).collect()
    }

    fn wait_gone(&self, pids: &[i32]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while pids.iter().any(|pid| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok()) {
            ensure!(Instant::now() < deadline, "killed processes are still there: {pids:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// A command line of the tool, for this daemon.
    pub fn tool<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Command {
        let mut command = self.world.on_host(&[self.world.bin("enforcer")]);
        command.arg("--config").arg(&self.config).args(words.iter().map(AsRef::as_ref));
        command.env("NO_COLOR", "1");
        command
    }

    /// Runs the tool.
    pub fn cli(&self, words: &[&str]) -> Result<Output> {
        command::run(self.tool(words), COMMAND)
    }

    /// Runs the tool; it must succeed.
    pub fn cli_ok(&self, words: &[&str]) -> Result<String> {
        let output = self.cli(words)?;
        ensure!(output.ok(), "{output}\n--- daemon\n{}", self.log_text());
        Ok(output.stdout)
    }

    /// Types a secret into the vault, by standard input.
    pub fn secret_set(&self, name: &str, host: &str, value: &str) -> Result<()> {
        let command = self.tool(&["secret", "set", name, "--host", host]);
        let output = command::run_with_input(command, Some(value.as_bytes()), COMMAND)?;
        ensure!(output.ok(), "{output}\n--- daemon\n{}", self.log_text());
        Ok(())
    }

    /// Every receipt, oldest first.
    pub fn receipts(&self) -> Result<Vec<Value>> {
        documents(&self.cli_ok(&["receipts", "ls", "--json"])?)
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if self.child.is_some() && self.stop().is_err() {
            // It was asked, it was killed; the stage's sweep removes what it left.
            kill(&self.ours(&[]));
        }
    }
}

/// One array, or one object per line.
fn documents(text: &str) -> Result<Vec<Value>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).context("read the JSON array");
    }
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).with_context(|| format!("read the JSON line `{line}`")))
        .collect()
}

fn kill(pids: &[i32]) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _already_gone = kill_process(pid, Signal::KILL);
    }
}

/// Keeps the log of a failed test where a person finds it.
pub(super) fn keep_log(world: &World) {
    let kept = std::env::temp_dir().join(format!("{}-daemon.log", world.name));
    if fs::copy(world.dir.join("daemon.log"), &kept).is_ok() {
        use std::io::Write;
        let _best_effort = writeln!(std::io::stderr(), "the daemon's log is kept in {}", kept.display());
    }
}

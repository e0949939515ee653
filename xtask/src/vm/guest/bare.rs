//! A daemon without the tests' stage, for kernels that the stage cannot be built on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use enforcer_tests::world::{Output, command};

const DIR: &str = "/var/tmp/bare";
const LONG: Duration = Duration::from_secs(60);
const POLICY: &str = "version: 1\nagent: bot\nallow:\n  - { name: api, host: api.example.test }\n";

/// Settings, and a daemon that may or may not have started.
pub(super) struct Bare {
    pub(super) enforcer: PathBuf,
    config: PathBuf,
    pub(super) pins: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Bare {
    /// Starts the daemon and waits until it is there, or has ended.
    pub(super) fn start() -> Result<Self> {
        let dir = Path::new(DIR);
        fs::create_dir_all(dir.join("policies"))?;
        fs::write(dir.join("policies/bot.yaml"), POLICY)?;
        fs::write(dir.join("hosts"), "127.0.0.1 localhost\n")?;
        let me = std::env::current_exe()?;
        let enforcer = me.with_file_name("enforcer");
        let (config, log) = (dir.join("enforcer.yaml"), dir.join("log"));
        let pins = PathBuf::from("/sys/fs/bpf/enforcer");
        let d = dir.display();
        let settings = format!(
            "run_dir: {d}/run\nstate_dir: {d}/state\npolicy_dir: {d}/policies\nvault_key: {d}/vault.key\n\
             ids: {{ worker: 61500, agents: 61600-61699 }}\n\
             resolver: {{ servers: [\"127.0.0.1:53\"], hosts_file: {d}/hosts, timeout_ms: 1000 }}\n"
        );
        fs::write(&config, settings)?;
        let child = Command::new(&enforcer)
            .args(["daemon", "--config"])
            .arg(&config)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log)?)
            .stderr(fs::File::options().append(true).open(&log)?)
            .spawn()
            .context("start the daemon")?;
        let mut bare = Bare { enforcer, config, pins, log, child };
        bare.settle()?;
        Ok(bare)
    }

    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + command::patient(LONG);
        while self.running()? && !self.tool(&["status"])?.ok() {
            if Instant::now() > deadline {
                bail!("the daemon neither came up nor ended in time\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    pub(super) fn running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(super) fn tool(&self, words: &[&str]) -> Result<Output> {
        let mut line = Command::new(&self.enforcer);
        line.arg("--config").arg(&self.config).args(words).env("NO_COLOR", "1");
        command::run(line, LONG)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // The guest ends with the scene; this is for a scene that goes on.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

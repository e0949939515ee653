//! A server process of the bench: one that a peer is, or that stands behind all of them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enforcer_tests::world::command;

const STARTING: Duration = Duration::from_secs(60);
const STOPPING: Duration = Duration::from_secs(10);

/// Ends with its owner.
pub(super) struct Server {
    child: Child,
    typed: String,
    out: std::path::PathBuf,
}

impl Server {
    /// Starts it; what it says goes to `out`.
    pub(super) fn start(mut command: Command, out: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let typed = command::typed(&command);
        let log = fs::File::create(out)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("start `{typed}`"))?;
        Ok(Server { child, typed, out: out.to_owned() })
    }

    /// Waits until somebody listens where it will: `listening` prints the socket.
    pub(super) fn wait(&mut self, listening: impl Fn() -> Command) -> Result<()> {
        let deadline = Instant::now() + command::patient(STARTING);
        while command::run(listening(), Duration::from_secs(5))?.stdout.is_empty() {
            self.check()?;
            ensure!(Instant::now() < deadline, "`{}` does not listen:\n{}", self.typed, self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether it still runs.
    pub(super) fn check(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "`{}` has ended:\n{}", self.typed, self.said());
        Ok(())
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // TERM: nginx ends its workers, which a killed master would leave.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _gone_already = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + STOPPING;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

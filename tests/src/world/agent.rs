//! Running something as an agent, the way a user does: `enforcer run AGENT -- CMD`.

use std::time::Duration;

use anyhow::Result;

use super::command::{self, Output, Running};
use super::daemon::Daemon;

/// A request through everything takes milliseconds; this is for a machine that is busy compiling.
const AGENT: Duration = Duration::from_secs(60);

impl Daemon<'_> {
    /// The command line, for callers that add to it.
    pub fn agent_command<S: AsRef<std::ffi::OsStr>>(
        &self,
        agent: &str,
        words: &[S],
    ) -> std::process::Command {
        let mut command = self.tool(&["run", agent, "--"]);
        command.args(words.iter().map(AsRef::as_ref));
        // Any directory an agent may stand in; the checkout may be closed to it.
        command.current_dir("/tmp");
        command
    }

    /// Runs to the end.
    pub fn run_agent<S: AsRef<std::ffi::OsStr>>(&self, agent: &str, words: &[S]) -> Result<Output> {
        command::run(self.agent_command(agent, words), AGENT)
    }

    /// Starts and returns.
    pub fn spawn_agent<S: AsRef<std::ffi::OsStr>>(&self, agent: &str, words: &[S]) -> Result<Running> {
        Running::spawn(self.agent_command(agent, words), None)
    }

    /// A shell line as the agent.
    pub fn shell(&self, agent: &str, line: &str) -> Result<Output> {
        self.run_agent(agent, &["sh", "-c", line])
    }
}

//! The generator (`xtask/peers/src/bin/load`), where a client of the peer would be: as an agent, or beside the peer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One generator with one load. Ends with its owner.
pub(super) struct Load {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Load {
    /// Returns when its connections are there and warm.
    pub(super) fn start(mut command: Command, spec: &Value) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start the generator")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("its output is a pipe")?);
        let mut load = Load { child, stdin, stdout: BufReader::new(stdout) };
        load.say(&spec.to_string())?;
        let line = load.line()?;
        ensure!(line == "ready", "the generator is not ready: {line}");
        Ok(load)
    }

    /// The load itself, until what was seen is told. Its connections stay.
    pub(super) fn run(&mut self) -> Result<Value> {
        self.say("go")?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("read `{line}` of the generator"))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        let pipe = self.stdin.as_mut().context("its input is a pipe")?;
        pipe.write_all(format!("{text}\n").as_bytes()).context("the generator has ended")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "the generator has ended");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.stdin.take());
        let _reaped = self.child.wait();
    }
}

//! A program that holds connections, and what it says about them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;

use anyhow::{Context, Result};

/// One line: `SIDE ROUND WHO WHAT SECONDS`.
pub(super) struct Said {
    pub(super) round: usize,
    /// `SIDE WHO WHAT`
    pub(super) what: String,
    pub(super) at: f64,
}

impl Said {
    fn parse(line: &str) -> Option<Self> {
        let [side, round, who, what, at] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let at = at.parse().ok()?;
        // Of a connection that nobody asked anything on.
        let round = round.parse().unwrap_or_default();
        Some(Said { round, what: format!("{side} {who} {what}"), at })
    }
}

/// Ends with its owner.
pub(super) struct Side {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Side {
    pub(super) fn start(mut command: Command, says: &Sender<Said>) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("its output is a pipe")?);
        let says = says.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(said) = Said::parse(&line) {
                    // Nobody listens at the end.
                    let _late = says.send(said);
                }
            }
        });
        Ok(Side { child, stdin })
    }

    pub(super) fn tell(&self, words: &str) -> Result<()> {
        let mut pipe = self.stdin.as_ref().context("its input is a pipe")?;
        // In one piece, or it may be read in two.
        pipe.write_all(format!("{words}\n").as_bytes()).context("a program that holds connections has ended")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // The end of their input is the end of all of them.
        drop(self.stdin.take());
        let _reaped = self.child.wait();
    }
}

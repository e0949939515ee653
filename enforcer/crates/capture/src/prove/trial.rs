//! One run of attempts: a process of ours that is told what to try and says what became of it.
//!
//! `enforcer attempt` says `ready PID`, reads a line for each attempt (`NAME KEY=VALUE…`), and writes one for each
//! (`NAME`, code, text, with tabs).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use enforcer_probe::{Verdict, route};

use crate::Error;
use crate::error::Doing;

/// A launch, on a machine that is very busy.
const READY: Duration = Duration::from_secs(60);
/// All attempts of a run together; most take less than a second, and several run at a time.
const ALL: Duration = Duration::from_secs(180);

/// What became of each attempt, by name.
pub(super) type Verdicts = BTreeMap<&'static str, Verdict>;

/// Starts `command`, lets `prepare` do what needs the process's number, has it try `lines`, and waits for its end.
pub(super) fn run(
    mut command: Command,
    lines: &[String],
    prepare: impl FnOnce(u32) -> Result<(), Error>,
) -> Result<Verdicts, Error> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().doing(|| "start the process that makes the attempts".into())?;
    let mut running = Running(child);
    let told = running.told()?;
    let first =
        told.recv_timeout(READY).map_err(|_silent| running.failed("it did not say that it is ready"))?;
    let pid = first.strip_prefix("ready ").and_then(|pid| pid.parse().ok());
    prepare(pid.ok_or_else(|| running.failed(&format!("it said `{}`", first.escape_debug())))?)?;
    if let Some(mut stdin) = running.0.stdin.take() {
        stdin.write_all(lines.concat().as_bytes()).doing(|| "say what to try".into())?;
    }
    let mut verdicts = Verdicts::new();
    let deadline = Instant::now() + ALL;
    loop {
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let (name, verdict) =
                    read(&line).ok_or_else(|| running.failed("it says what makes no sense"))?;
                verdicts.insert(name, verdict);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(verdicts),
            Err(RecvTimeoutError::Timeout) => return Err(running.failed("it does not come to an end")),
        }
    }
}

fn read(line: &str) -> Option<(&'static str, Verdict)> {
    let mut fields = line.splitn(3, '\t');
    let (name, code, text) = (fields.next()?, fields.next()?, fields.next()?);
    Some((route(name)?.name, Verdict::from_code(code.parse().ok()?, text.to_owned())?))
}

/// Ends with its owner.
struct Running(Child);

impl Running {
    /// Lines of its standard output, from a thread: it may say nothing for ever.
    fn told(&mut self) -> Result<mpsc::Receiver<String>, Error> {
        let stdout = self.0.stdout.take().ok_or_else(|| self.failed("it has no standard output"))?;
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new()
            .name("attempts".into())
            .spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })
            .doing(|| "start a thread".into())?;
        Ok(receiver)
    }

    fn failed(&mut self, what: &str) -> Error {
        let _it_may_be_gone = self.0.kill();
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            let _partial = std::io::Read::read_to_string(&mut stderr, &mut said);
        }
        Error::refused(
            format!("the attempts could not be made: {what}; {}", said.trim().escape_debug()),
            "`enforcer run AGENT -- true` may say more; the program's file must be readable by everybody",
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _it_may_be_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

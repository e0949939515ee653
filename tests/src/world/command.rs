//! Running programmes: errors that say what was run and what it said, and never without an end.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a programme did.
#[derive(Clone, Debug)]
pub struct Output {
    /// As typed.
    pub command: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// It did not end by itself.
    pub timed_out: bool,
    pub took: Duration,
}

impl Output {
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Both streams, for a search.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        match (self.timed_out, self.code, self.signal) {
            (true, _, _) => writeln!(f, "did not end within {:?}", self.took)?,
            (_, Some(code), _) => writeln!(f, "exit code {code} after {:?}", self.took)?,
            (_, None, signal) => writeln!(f, "ended by signal {signal:?} after {:?}", self.took)?,
        }
        write!(f, "--- stdout\n{}\n--- stderr\n{}", self.stdout.trim_end(), self.stderr.trim_end())
    }
}

/// A command line from words.
pub fn command<S: AsRef<std::ffi::OsStr>>(words: &[S]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().expect("a command line is never empty"));
    command.args(words);
    command
}

/// A limit as this machine needs it: `ENFORCER_PATIENCE` says how many times longer everything takes (in a guest without KVM).
pub fn patient(limit: Duration) -> Duration {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| {
        std::env::var("ENFORCER_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
    });
    limit * *FACTOR
}

/// Runs a helper that must succeed; returns its standard output.
pub fn must(words: &[&str]) -> Result<String> {
    let output = run(command(words), Duration::from_secs(30))?;
    if !output.ok() {
        bail!("a set-up step failed\n{output}");
    }
    Ok(output.stdout)
}

/// Runs to the end, or to the limit, without input.
pub fn run(command: Command, limit: Duration) -> Result<Output> {
    run_with_input(command, None, limit)
}

/// The same with bytes on standard input.
pub fn run_with_input(command: Command, input: Option<&[u8]>, limit: Duration) -> Result<Output> {
    Running::spawn(command, input)?.finish(limit)
}

/// A programme that was started, its output being collected.
#[derive(Debug)]
pub struct Running {
    pub child: Child,
    typed: String,
    started: Instant,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Running {
    pub fn spawn(mut command: Command, input: Option<&[u8]>) -> Result<Self> {
        let typed = typed(&command);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start `{typed}`"))?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
            let input = input.to_vec();
            // A thread, because a programme that answers before it has read all would block us both.
            std::thread::spawn(move || pipe.write_all(&input));
        }
        Ok(Running { child, typed, started: Instant::now(), stdout, stderr })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it and does not ask what it said: something it started may hold its pipes for long.
    pub fn abandon(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits; what has not ended at the limit is killed and reported as such.
    pub fn finish(mut self, limit: Duration) -> Result<Output> {
        let deadline = self.started + patient(limit);
        let (status, timed_out) = loop {
            if let Some(status) = self.child.try_wait()? {
                break (status, false);
            }
            if Instant::now() > deadline {
                self.child.kill()?;
                break (self.child.wait()?, true);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = self.started.elapsed();
        Ok(Output {
            command: self.typed,
            code: status.code(),
            signal: status.signal(),
            stdout: text(self.stdout, timed_out),
            stderr: text(self.stderr, timed_out),
            timed_out,
            took,
        })
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _end = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// A killed programme may leave children that hold its pipe: then what was said is not waited for.
fn text(reader: JoinHandle<Vec<u8>>, abandoned: bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(if abandoned { 1 } else { 10 });
    while !reader.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    if !reader.is_finished() {
        return "(a child of it still holds the pipe)".to_owned();
    }
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

/// The command line as a person would type it.
pub fn typed(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quote(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// One word as a shell reads it.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_killed() {
        let output = run(command(&["sleep", "30"]), Duration::from_millis(100)).unwrap();
        assert!(output.timed_out && !output.ok());
    }

    #[test]
    fn a_failure_shows_the_command_and_its_words() {
        let error = must(&["sh", "-c", "echo it broke >&2; exit 3"]).unwrap_err().to_string();
        assert!(
            error.contains("sh -c 'echo it broke >&2; exit 3'") && error.contains("exit code 3"),
            "{error}"
        );
    }

    #[test]
    fn input_is_given_and_output_taken() {
        let output = run_with_input(command(&["cat"]), Some(b"hello"), Duration::from_secs(5)).unwrap();
        assert_eq!(output.stdout, "hello");
    }
}

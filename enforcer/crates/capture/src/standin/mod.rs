//! `enforcer run` as the person sees it: stands in for the agent with terminal, signals and exit code.
//!
//! The agent is the keeper's child; this process asks for it, passes bytes and signals on, and ends as it ends.
//! It stays when the daemon goes away, as the agent does.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

use crate::Error;
use crate::channel::Channel;
use crate::error::Doing;
use crate::forward::Publish;
use crate::launch::{CallerTrust, Exit, FromKeeper, Launch, PROTOCOL, Text, ToKeeper};
use crate::sys;

mod terminal;

use terminal::Terminal;

/// What a person asked `enforcer run` for.
#[derive(Clone, Debug)]
pub struct Request {
    /// `run_dir/launch.sock`
    pub socket: PathBuf,
    pub agent: String,
    pub user: Option<String>,
    /// See [`Launch::root`].
    pub root: bool,
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// What the agent inherits.
    pub environment: Vec<(OsString, OsString)>,
    pub publish: Vec<Publish>,
}

/// Signals that concern the agent rather than us. SIGTTOU is taken so that restoring the terminal from the
/// background does not stop us.
const TAKEN: [i32; 10] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTOU,
    libc::SIGWINCH,
];

/// Runs the command as the agent and says how it ended. To be called before the process has other threads.
pub fn run(request: Request) -> Result<Exit, Error> {
    let channel = connect(&request)?;
    let signals = sys::Signals::take(&TAKEN).doing(|| "take over signals".into())?;
    let mut terminal = Terminal::open().doing(|| "make a pseudo-terminal".into())?;

    let env: Vec<(Text, Text)> =
        request.environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let launch = Launch {
        protocol: PROTOCOL,
        agent: request.agent,
        argv: request.command.into_iter().map(Text::from).collect(),
        user: request.user,
        root: request.root,
        stdio: terminal.kinds(),
        trust: CallerTrust::from_environment(&env),
        env,
        publish: request.publish,
    };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let own = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let [a, b, c] = terminal.streams(own);
    // By name it may be out of reach in the agent's view; the keeper looks.
    let cwd = rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "open the working directory".into())?;
    channel
        .send(&ToKeeper::Launch(launch), &[a, b, c, cwd.as_fd()])
        .doing(|| "ask the daemon for a launch".into())?;

    let received = channel.receive::<FromKeeper>().doing(|| "hear from the daemon".into())?;
    let received = received.ok_or_else(gone)?;
    let pidfd = match received.message {
        FromKeeper::Launched { .. } => received.descriptors.into_iter().next().ok_or_else(gone)?,
        FromKeeper::Refused { message, hint, exit_code } => {
            return Err(Error::Refused { message, hint, exit_code });
        }
        FromKeeper::Exited(exit) => return Ok(exit),
        // Answers to what a stand-in never asks.
        FromKeeper::Attached(_) | FromKeeper::Detached { .. } => return Err(gone()),
    };
    terminal.started().doing(|| "set the terminal up".into())?;
    let outcome = StandIn { channel, signals, terminal: &mut terminal, pidfd, keeper_gone: false }.attend();
    terminal.finish();
    outcome
}

fn connect(request: &Request) -> Result<Channel, Error> {
    let socket = request.socket.display();
    match UnixStream::connect(&request.socket) {
        Ok(stream) => Ok(Channel::new(stream)),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::refused(
                format!("the daemon is not running: nothing listens on {socket}"),
                "start it with: systemctl start enforcer (or, in another terminal: sudo enforcer daemon)",
            ),
            io::ErrorKind::PermissionDenied => Error::refused(
                format!("you may not use {socket}"),
                "run it as root, or ask to be added to the group `enforcer` and log in again",
            ),
            _ => Error::Io { what: format!("connect to the daemon at {socket}"), source: error },
        }),
    }
}

fn gone() -> Error {
    Error::refused(
        "the daemon went away while it started the agent",
        "its log says why: journalctl -u enforcer; `enforcer status` tells whether the agent runs",
    )
}

struct StandIn<'a> {
    channel: Channel,
    signals: sys::Signals,
    terminal: &'a mut Terminal,
    pidfd: OwnedFd,
    keeper_gone: bool,
}

impl StandIn<'_> {
    /// Until the agent has ended.
    fn attend(mut self) -> Result<Exit, Error> {
        loop {
            let waits_for: BorrowedFd<'_> =
                if self.keeper_gone { self.pidfd.as_fd() } else { self.channel.as_fd() };
            let wanted = self.terminal.wanted();
            let mut polled = vec![
                PollFd::from_borrowed_fd(waits_for, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            polled.extend(wanted.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
            match rustix::event::poll(&mut polled, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).doing(|| "wait for the agent".into()),
            }
            let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(polled);
            drop(wanted);

            self.terminal.relay().doing(|| "pass the terminal's bytes on".into())?;
            while let Some(signal) = self.signals.next().doing(|| "read a signal".into())? {
                self.pass_on(signal)?;
            }
            if ready.first() == Some(&true)
                && let Some(exit) = self.heard()?
            {
                return Ok(exit);
            }
        }
    }

    fn heard(&mut self) -> Result<Option<Exit>, Error> {
        if self.keeper_gone {
            return exit_of(self.pidfd.as_fd()).map(Some);
        }
        match self.channel.receive::<FromKeeper>() {
            Ok(Some(received)) => match received.message {
                FromKeeper::Exited(exit) => Ok(Some(exit)),
                FromKeeper::Launched { .. }
                | FromKeeper::Refused { .. }
                | FromKeeper::Attached(_)
                | FromKeeper::Detached { .. } => Ok(None),
            },
            Ok(None) | Err(_) => {
                self.keeper_gone = true;
                self.terminal.say("the daemon went away; the agent keeps running, shut in until it is back");
                Ok(None)
            }
        }
    }

    fn pass_on(&mut self, signal: sys::Arrived) -> Result<(), Error> {
        match signal.number {
            libc::SIGWINCH => self.terminal.resize(),
            libc::SIGTTOU => {}
            libc::SIGTSTP => {
                // The agent's own session has no shell to be stopped for: a plain SIGTSTP would be thrown away.
                self.send(libc::SIGSTOP, true);
                self.terminal.suspend();
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)
                    .doing(|| "stop".into())?;
                self.terminal.resume().doing(|| "set the terminal up again".into())?;
            }
            libc::SIGCONT => self.send(libc::SIGCONT, true),
            number => self.send(number, signal.by_terminal),
        }
        Ok(())
    }

    fn send(&mut self, number: i32, group: bool) {
        let sent = if self.keeper_gone {
            // Works where we may signal the agent's user: root, or `--user` with our own name.
            sys::pidfd_signal(self.pidfd.as_fd(), number, group)
        } else {
            self.channel.send(&ToKeeper::Signal { number, group }, &[])
        };
        if let Err(error) = sent
            && self.keeper_gone
        {
            self.terminal.say(&format!("cannot pass signal {number} on while the daemon is away: {error}"));
        }
    }
}

/// How a process ended that is not our child.
fn exit_of(pidfd: BorrowedFd<'_>) -> Result<Exit, Error> {
    /// Its new parent collects it at once; the kernel tells the status from then on (POLLHUP).
    const COLLECTED: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
    let mut poll = [PollFd::from_borrowed_fd(pidfd, PollFlags::HUP)];
    if let Err(error) = rustix::event::poll(&mut poll, Some(&COLLECTED))
        && error != rustix::io::Errno::INTR
    {
        return Err(error).doing(|| "wait for the agent".into());
    }
    for _ in 0..20 {
        if let Some(status) = sys::pidfd_exit_status(pidfd) {
            use std::os::unix::process::ExitStatusExt;
            return Ok(Exit::from_status(std::process::ExitStatus::from_raw(status)));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(Error::refused(
        "the agent has ended, but this kernel does not tell how to anybody but the daemon, which is away",
        "Linux 6.15 and later tell",
    ))
}

/// On standard error, for the person; losing it changes nothing.
fn say(text: &str, end: &str) {
    if write!(io::stderr(), "enforcer: {text}{end}").is_err() {
        // Nobody is looking.
    }
}

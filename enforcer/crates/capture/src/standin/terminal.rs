//! The person's terminal and the agent's: a pseudo-terminal between the two, bytes relayed, modes restored always.
//!
//! The agent never gets the person's own terminal: it could type into it or read from it later.
//! Streams that are no terminals are passed through as they are.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, Termios};

use super::say;
use crate::launch::Stdio;

/// One read of a terminal; its own buffer is 4 KiB.
const CHUNK: usize = 8 * 1024;
/// End of file, as a terminal in line mode is told it.
const END_OF_FILE: u8 = 4;

/// What is between the person and the agent.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Which of the three streams are terminals.
    is_terminal: [bool; 3],
    pty: Option<Pty>,
}

#[derive(Debug)]
struct Pty {
    master: OwnedFd,
    /// Ours until the agent has it; while we held it, the end of the agent's output would not be seen.
    slave: Option<OwnedFd>,
    /// The person's terminal as it was, and whether we have it in raw mode.
    before: Option<Termios>,
    raw: bool,
    /// Keys are passed on; not when we run in the background or standard input is no terminal.
    reads: bool,
    /// Keys that the agent's terminal has not taken yet.
    pending: Vec<u8>,
    ended: bool,
}

impl Terminal {
    pub(super) fn open() -> io::Result<Self> {
        let is_terminal = [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
        let pty = if is_terminal.contains(&true) { Some(Pty::open(is_terminal)?) } else { None };
        Ok(Terminal { is_terminal, pty })
    }

    pub(super) fn kinds(&self) -> [Stdio; 3] {
        self.is_terminal.map(|terminal| if terminal { Stdio::Terminal } else { Stdio::Passed })
    }

    /// What the agent gets for our own streams.
    pub(super) fn streams<'a>(&'a self, own: [BorrowedFd<'a>; 3]) -> [BorrowedFd<'a>; 3] {
        let Some(slave) = self.pty.as_ref().and_then(|pty| pty.slave.as_ref()) else { return own };
        let mut streams = own;
        for (stream, terminal) in streams.iter_mut().zip(self.is_terminal) {
            if terminal {
                *stream = slave.as_fd();
            }
        }
        streams
    }

    /// The agent runs and has its side.
    pub(super) fn started(&mut self) -> io::Result<()> {
        let Some(pty) = &mut self.pty else { return Ok(()) };
        pty.slave = None;
        self.resume()
    }

    /// Keys go to the agent as they are typed: its terminal, not ours, makes lines and signals of them.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        let whole = self.is_terminal[0] && self.is_terminal[1];
        let Some(pty) = &mut self.pty else { return Ok(()) };
        let stdin = io::stdin();
        let foreground = self.is_terminal[0]
            && rustix::termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp());
        pty.reads = foreground;
        if whole
            && foreground
            && let Some(before) = &pty.before
        {
            let mut raw = before.clone();
            raw.make_raw();
            rustix::termios::tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
            pty.raw = true;
        }
        self.resize();
        Ok(())
    }

    /// Gives the person's terminal back as it was.
    pub(super) fn suspend(&mut self) {
        if let Some(pty) = &mut self.pty {
            pty.restore();
        }
    }

    /// Our window has another size now.
    pub(super) fn resize(&self) {
        if let Some(pty) = &self.pty
            && let Some(size) = window_size(self.is_terminal)
            && let Err(error) = rustix::termios::tcsetwinsize(&pty.master, size)
        {
            tracing::debug!("the agent's terminal keeps its size: {error}");
        }
    }

    /// What to wait for.
    pub(super) fn wanted(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let Some(pty) = self.pty.as_ref().filter(|pty| !pty.ended) else { return Vec::new() };
        let mut flags = PollFlags::IN;
        if !pty.pending.is_empty() {
            flags |= PollFlags::OUT;
        }
        let mut list = vec![(pty.master.as_fd(), flags)];
        if pty.reads && pty.pending.is_empty() {
            list.push((rustix::stdio::stdin(), PollFlags::IN));
        }
        list
    }

    /// Moves what can be moved without waiting.
    pub(super) fn relay(&mut self) -> io::Result<()> {
        let output_is_stdout = self.is_terminal[1];
        match &mut self.pty {
            Some(pty) => pty.relay(output_is_stdout),
            None => Ok(()),
        }
    }

    /// Passes the rest of the agent's output on and gives the terminal back.
    pub(super) fn finish(&mut self) {
        let output_is_stdout = self.is_terminal[1];
        if let Some(pty) = &mut self.pty {
            pty.reads = false;
            while !pty.ended && readable(pty.master.as_fd()) {
                if pty.relay(output_is_stdout).is_err() {
                    break;
                }
            }
            pty.restore();
        }
    }

    /// For the person, whatever mode the terminal is in.
    pub(super) fn say(&self, text: &str) {
        let raw = self.pty.as_ref().is_some_and(|pty| pty.raw);
        say(text, if raw { "\r\n" } else { "\n" });
    }
}

impl Pty {
    fn open(is_terminal: [bool; 3]) -> io::Result<Self> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let slave = rustix::pty::ioctl_tiocgptpeer(
            &master,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )?;
        // A full terminal must not hold up output, signals and the end.
        rustix::io::ioctl_fionbio(&master, true)?;
        let before = if is_terminal[0] { rustix::termios::tcgetattr(io::stdin()).ok() } else { None };
        if let Some(before) = &before {
            // Erase and interrupt keys as the person has them.
            let mut same = before.clone();
            if !is_terminal[1] {
                // Ours stays in line mode and echoes already.
                same.local_modes.remove(LocalModes::ECHO);
            }
            rustix::termios::tcsetattr(&slave, OptionalActions::Now, &same)?;
        }
        if let Some(size) = window_size(is_terminal) {
            rustix::termios::tcsetwinsize(&master, size)?;
        }
        Ok(Pty {
            master,
            slave: Some(slave),
            before,
            raw: false,
            reads: false,
            pending: Vec::new(),
            ended: false,
        })
    }

    fn relay(&mut self, output_is_stdout: bool) -> io::Result<()> {
        let mut chunk = [0u8; CHUNK];
        if self.reads && self.pending.is_empty() && readable(rustix::stdio::stdin()) {
            match rustix::io::read(rustix::stdio::stdin(), &mut chunk) {
                Ok(0) if self.raw => self.reads = false,
                Ok(0) => {
                    self.pending.push(END_OF_FILE);
                    self.reads = false;
                }
                Ok(n) => self.pending.extend(chunk.get(..n).unwrap_or_default()),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // The terminal is gone.
                Err(_) => self.reads = false,
            }
        }
        if !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(_) => self.pending.clear(),
            }
        }
        match rustix::io::read(&self.master, &mut chunk) {
            Ok(0) => self.ended = true,
            Ok(n) => {
                let bytes = chunk.get(..n).unwrap_or_default();
                let written = if output_is_stdout {
                    io::stdout().write_all(bytes).and_then(|()| io::stdout().flush())
                } else {
                    io::stderr().write_all(bytes)
                };
                // Nobody reads any more; the agent goes on as it would writing to a closed window.
                if written.is_err() {
                    self.ended = true;
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            // EIO: the agent's side is closed.
            Err(_) => self.ended = true,
        }
        Ok(())
    }

    fn restore(&mut self) {
        if self.raw
            && let Some(before) = &self.before
        {
            if let Err(error) = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, before) {
                say(&format!("cannot restore the terminal ({error}); `reset` does"), "\r\n");
            }
            self.raw = false;
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.restore();
    }
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut poll = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut poll, Some(&now)).is_ok_and(|ready| ready > 0)
}

fn window_size(is_terminal: [bool; 3]) -> Option<rustix::termios::Winsize> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let (stream, _) = streams.into_iter().zip(is_terminal).find(|(_, terminal)| *terminal)?;
    rustix::termios::tcgetwinsize(stream).ok()
}

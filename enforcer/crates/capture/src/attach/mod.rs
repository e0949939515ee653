//! `enforcer attach` and `enforcer detach`: what they ask the keeper, over `launch.sock`, and what they get.
//!
//! The caller says which cgroup; how a unit, a container or a process leads to one is [`resolve`]'s. What is done with it is
//! the keeper's.

mod engine;
mod resolve;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::channel::Channel;
use crate::error::Doing;
use crate::launch::{FromKeeper, PROTOCOL, ToKeeper};
use crate::message::{Attached, Container};

pub use resolve::{Found, Target};

/// Govern this cgroup as this agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attach {
    pub protocol: u32,
    /// None: the one whose policy selects it.
    pub agent: Option<String>,
    /// The full path, below the cgroup2 mount.
    pub cgroup: PathBuf,
    /// What runs there, where it is a container that an engine of this host tells of.
    pub container: Option<Container>,
    /// The unit of systemd's that it is, where it was named as one.
    pub unit: Option<String>,
}

/// Let go of what was attached: of one session, or of all of an agent's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Detach {
    pub protocol: u32,
    /// An agent's or a session's.
    pub name: String,
}

/// What `attach` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub session: String,
    pub agent: String,
    pub attached: Attached,
    /// Processes that are governed now.
    pub processes: usize,
    /// Sockets from before that were ended.
    pub sockets_ended: usize,
    /// Places where the workload finds our root, as it sees them.
    pub trusted_at: Vec<PathBuf>,
    /// Where the lines of its unit find what its next programs are to see.
    pub unit: Option<PathBuf>,
}

/// Asks the keeper behind this socket to attach, and waits until it has.
pub fn attach(socket: &Path, agent: Option<String>, found: Found) -> Result<Report, Error> {
    let Found { cgroup, container, unit } = found;
    let request = ToKeeper::Attach(Attach { protocol: PROTOCOL, agent, cgroup, container, unit });
    match ask(socket, &request)? {
        FromKeeper::Attached(report) => Ok(report),
        other => Err(unexpected(other)),
    }
}

/// The reverse; answers with the sessions that were let go.
pub fn detach(socket: &Path, name: &str) -> Result<Vec<String>, Error> {
    let request = ToKeeper::Detach(Detach { protocol: PROTOCOL, name: name.to_owned() });
    match ask(socket, &request)? {
        FromKeeper::Detached { sessions } => Ok(sessions),
        other => Err(unexpected(other)),
    }
}

fn ask(socket: &Path, request: &ToKeeper) -> Result<FromKeeper, Error> {
    let stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    let channel = Channel::new(stream);
    channel.send(request, &[]).doing(|| "speak to the daemon".into())?;
    let answer = channel.receive().doing(|| "hear from the daemon".into())?;
    answer.map(|received| received.message).ok_or_else(|| {
        Error::refused("the daemon went away before it answered", "see its log: journalctl -u enforcer")
    })
}

fn unreachable(socket: &Path, error: &io::Error) -> Error {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    Error::Refused {
        message: format!("cannot reach the daemon at {}: {error}", socket.display()),
        hint: Some(if denied { "run it with `sudo`" } else { "start it: systemctl start enforcer" }.into()),
        exit_code: if denied { 4 } else { 5 },
    }
}

fn unexpected(answer: FromKeeper) -> Error {
    match answer {
        FromKeeper::Refused { message, hint, exit_code } => Error::Refused { message, hint, exit_code },
        FromKeeper::Launched { .. }
        | FromKeeper::Exited(_)
        | FromKeeper::Attached(_)
        | FromKeeper::Detached { .. } => {
            Error::refused("the daemon gave another answer than was asked for", "restart the daemon")
        }
    }
}

//! `enforcer agent-init`: becomes the agent. Enters its cgroup and namespaces, gives up every privilege, executes.
//!
//! Started by the keeper as root, with the specification on descriptor 3. One thread; what it does is in
//! [`become_agent`], in that order. Every step that fails ends the launch.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::fs::Mode;
use rustix::thread::LinkNameSpaceType;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::channel::Channel;
use crate::error::Doing;
use crate::launch::Text;
use crate::sys;
use crate::trust::Bind;

mod domain;
mod filter;
mod own;
mod view;

/// Below it, once more and without following symbolic links, what an agent may connect to: see [`crate::kernel`]. As long as
/// the policy language takes it to be.
pub(crate) const OWN_VIEW: &str = "/run/own";

/// What to become. Descriptors: working directory, network namespace, the cgroup's `cgroup.procs`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) argv: Vec<Text>,
    pub(crate) env: Vec<(Text, Text)>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The id is the agent's alone: no process outside of its sessions runs under it.
    pub(crate) own_uid: bool,
    /// It is root in a user namespace of its own.
    pub(crate) root: bool,
    pub(crate) home: PathBuf,
    /// Which standard stream, if any, is the terminal to control the session.
    pub(crate) terminal: Option<usize>,
    pub(crate) run_dir: PathBuf,
    /// The session's trust directory; the agent sees it at `run_dir/trust`.
    pub(crate) trust: PathBuf,
    pub(crate) binds: Vec<Bind>,
    /// Sockets of the host's that the policy names.
    pub(crate) unix: Vec<PathBuf>,
}

/// From agent-init to the keeper. After `Executing` the channel closes by itself when the program runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Executing,
    Failed { message: String, hint: Option<String>, exit_code: u8 },
}

/// The whole process. Returns only when the agent could not be started.
pub fn main() -> ExitCode {
    let channel = match Channel::passed() {
        Ok(channel) => channel,
        Err(_) => {
            note("agent-init is started by the daemon, not by people: use `enforcer run`");
            return ExitCode::from(2);
        }
    };
    let Err(error) = become_agent(&channel);
    let report = Report::Failed { message: error.chain(), hint: error.hint(), exit_code: error.exit_code() };
    // A keeper that is gone cannot be told; the exit code says it to whoever waits.
    if channel.send(&report, &[]).is_err() {
        note(&error.chain());
    }
    ExitCode::from(error.exit_code())
}

fn become_agent(channel: &Channel) -> Result<std::convert::Infallible, Error> {
    let received = channel.receive::<Spec>().doing(|| "read what to start".into())?;
    let received = received.ok_or_else(|| Error::refused("the daemon went away", "start it again"))?;
    let spec = received.message;
    let [cwd, netns, cgroup]: [OwnedFd; 3] = received.descriptors.try_into().map_err(|_descriptors| {
        Error::refused("the daemon sent other descriptors than expected", "report this")
    })?;

    // The daemon's own is stricter.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::io::write(&cgroup, b"0").doing(|| "enter the session's cgroup".into())?;
    drop(cgroup);
    rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .doing(|| "enter the session's network namespace".into())?;
    drop(netns);

    let start = Start::of(cwd).doing(|| "look at the working directory".into())?;
    for absent in view::enter(&spec, &start.path)? {
        note(&format!("the policy names {}, but no socket is there", absent.display()));
    }
    take_terminal(&spec).doing(|| "take the terminal".into())?;

    // The daemon may be protected from the memory killer; its agents are not.
    fs::write("/proc/self/oom_score_adj", "0").doing(|| "reset oom_score_adj".into())?;
    sys::forbid_core_dumps().doing(|| "forbid core dumps".into())?;
    sys::drop_privileges(spec.uid, spec.gid).doing(|| "give up privileges".into())?;
    // Only now: a keyring belongs to whoever makes it.
    sys::new_session_keyring().doing(|| "leave the session keyring".into())?;

    start.enter(&spec.home)?;
    sys::close_on_exec_from(3).doing(|| "close descriptors".into())?;
    sys::unblock_signals().and_then(|()| sys::default_signals()).doing(|| "reset signals".into())?;
    let filters = filter::build(!spec.own_uid)?;
    channel.send(&Report::Executing, &[]).doing(|| "tell the daemon".into())?;
    if !spec.own_uid && !domain::enter()? {
        note("on this kernel only file permissions keep this agent from its user's other processes");
    }
    filter::apply(&filters)?;
    if spec.root {
        // Last: nobody may look into this process, which must not look like its user's others, before it is filtered.
        sys::become_root_inside(spec.uid, spec.gid).map_err(|error| {
            Error::refused(
                format!("cannot make the agent root of a user namespace: {error}"),
                "the host may forbid it: see user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns",
            )
        })?;
    }
    Err(execute(&spec))
}

/// A session and, where there is one, a controlling terminal of its own.
fn take_terminal(spec: &Spec) -> io::Result<()> {
    rustix::process::setsid()?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams: [BorrowedFd<'_>; 3] = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    if let Some(terminal) = spec.terminal.and_then(|index| streams.get(index)) {
        rustix::process::ioctl_tiocsctty(terminal)?;
        // Programs open their terminal again by name.
        rustix::fs::fchown(terminal, Some(rustix::fs::Uid::from_raw(spec.uid)), None)?;
    }
    Ok(())
}

/// Where the caller stood, by name: the descriptor itself belongs to the caller's view of the file system,
/// and from a directory of that view `..` would lead to everything this one hides.
struct Start {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Start {
    fn of(cwd: OwnedFd) -> io::Result<Self> {
        let path = fs::read_link(format!("/proc/self/fd/{}", cwd.as_raw_fd()))?;
        let metadata = fs::File::from(cwd).metadata()?;
        Ok(Start { path, device: metadata.dev(), inode: metadata.ino() })
    }

    fn enter(&self, home: &Path) -> Result<(), Error> {
        let entered = std::env::set_current_dir(&self.path).and_then(|()| fs::metadata("."));
        let reason = match entered {
            Ok(here) if (here.dev(), here.ino()) == (self.device, self.inode) => return Ok(()),
            // The agent's own, which is what one would expect there.
            Ok(_) if self.path == Path::new(own::TMP) => return Ok(()),
            Ok(_) => "it is hidden from agents".to_owned(),
            Err(error) => error.to_string(),
        };
        let home = if std::env::set_current_dir(home).is_ok() { home } else { Path::new("/") };
        std::env::set_current_dir(home).doing(|| format!("enter {}", home.display()))?;
        note(&format!("cannot work in {} ({reason}); starting in {}", self.path.display(), home.display()));
        Ok(())
    }
}

/// Only comes back with what went wrong, said as a shell would count it.
fn execute(spec: &Spec) -> Error {
    let Some((program, arguments)) = spec.argv.split_first() else {
        return Error::refused("there is no command to run", "enforcer run AGENT -- COMMAND");
    };
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (&name.0, &value.0)))
        .exec();
    let name = program.0.to_string_lossy();
    match error.kind() {
        // The C library also says "permission denied" when a directory of PATH is closed to the agent.
        _ if error.kind() == io::ErrorKind::NotFound || !exists(program, &spec.env) => Error::Refused {
            message: format!("`{name}`: command not found"),
            hint: Some("looked in the agent's own PATH; a path needs every part of it to exist".into()),
            exit_code: 127,
        },
        _ => Error::Refused {
            message: format!("cannot execute `{name}`: {error}"),
            hint: Some("the agent's user must be allowed to read and execute it".into()),
            exit_code: 126,
        },
    }
}

/// Is there such a program, as far as the agent can see?
fn exists(program: &Text, env: &[(Text, Text)]) -> bool {
    if program.0.as_encoded_bytes().contains(&b'/') {
        return true;
    }
    let path = env.iter().find(|(name, _)| name.0 == "PATH").map(|(_, path)| path.0.as_os_str());
    std::env::split_paths(path.unwrap_or_default()).any(|dir| dir.join(&program.0).is_file())
}

/// Said on the agent's own standard error, where the person looks. Losing it must not stop the launch.
fn note(text: &str) {
    if writeln!(io::stderr(), "enforcer: {text}").is_err() {
        // Standard error is closed: nobody is looking.
    }
}

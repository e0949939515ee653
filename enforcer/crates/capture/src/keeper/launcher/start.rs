//! Makes a session and starts its agent in it. Whatever fails takes the session apart again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio as ChildStdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags};
use tracing::warn;

use super::request::Asked;
use crate::Error;
use crate::cgroup::Cgroup;
use crate::channel::Channel;
use crate::error::Doing;
use crate::forward::{Forward, Publish};
use crate::init::{Report, Spec};
use crate::keeper::Keeper;
use crate::keeper::files::{self, Files};
use crate::keeper::sessions::{self, Prepared, Running, Standing, govern, open_listeners, prepare, watch};
use crate::launch::{Stdio, Text};
use crate::message::{Session, User, Workload};
use crate::netns::Netns;
use crate::session::{self, Record};
use crate::sys;
use crate::trust;

/// From fork to exec, on a machine that is very busy.
const INIT: Duration = Duration::from_secs(30);

/// They name sockets and directories of the caller's that an agent does not see. Without them programs make their own;
/// with them they fail.
const LEADING_NOWHERE: [&str; 10] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "GPG_AGENT_INFO",
    "SSH_AGENT_PID",
    "SSH_AUTH_SOCK",
    "STY",
    "TMPDIR",
    "TMUX",
    "TMUX_PANE",
    "TMUX_TMPDIR",
    "WAYLAND_DISPLAY",
];

/// An agent that runs.
pub(super) struct Started {
    pub(super) session: String,
    pub(super) uid: u32,
    pub(super) child: Child,
    pub(super) pidfd: OwnedFd,
}

pub(super) fn launch(keeper: &Arc<Keeper>, asked: Asked) -> Result<Started, Error> {
    keeper.programs.verify()?;
    let user = User { uid: asked.identity.uid, name: Some(asked.identity.name.clone()) };
    let workload = Workload { run: true, users: vec![user], ..Workload::default() };
    let Prepared { agent, environment, ca_pem, guide, loopback, unix } =
        prepare(keeper, Some(&asked.launch.agent), workload)?;
    let id = session::new_id(&agent)?;
    let loopback = loopback.into_iter().map(Forward::Loopback);
    let published = asked.launch.publish.iter().copied().map(Forward::Published);
    // What `end` needs to take apart whatever was made by then.
    let mut record = Record {
        session: Session {
            id: id.clone(),
            agent,
            cgroup_id: 0,
            netns_cookie: 0,
            uid: asked.identity.uid,
            forwards: loopback.chain(published).collect(),
        },
        cgroup: PathBuf::new(),
        pid: 0,
        attached: None,
        backstop: None,
    };
    let dir = keeper.paths.trust().join(&id);
    let made = files::make(keeper, &dir, &ca_pem, &guide, &asked.launch.trust, Some(&asked.identity));
    let outcome = made.and_then(|files| {
        let environment = compose(keeper, &asked, &id, &files, environment);
        start(keeper, asked, &mut record, files, unix, environment)
    });
    if outcome.is_err() {
        keeper.sessions().remove(&id);
        sessions::end(keeper, &record);
    }
    outcome
}

/// The caller's environment, then who the agent is, then the session's variables.
fn compose(
    keeper: &Keeper,
    asked: &Asked,
    id: &str,
    files: &Files,
    placeholders: Vec<(String, String)>,
) -> Vec<(Text, Text)> {
    let mut all: BTreeMap<OsString, OsString> =
        asked.launch.env.iter().map(|(name, value)| (name.0.clone(), value.0.clone())).collect();
    for name in LEADING_NOWHERE {
        all.remove(std::ffi::OsStr::new(name));
    }
    all.entry("PATH".into()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".into());
    let identity = &asked.identity;
    all.insert("HOME".into(), identity.home.clone().into());
    let name = if asked.launch.root { "root" } else { &identity.name };
    all.insert("USER".into(), name.into());
    all.insert("LOGNAME".into(), name.into());
    all.insert("XDG_RUNTIME_DIR".into(), format!("/run/user/{}", identity.uid).into());
    for (name, value) in files::variables(keeper, files, placeholders, &asked.launch.agent, id) {
        trust::merge(&mut all, name, value);
    }
    all.into_iter().map(|(name, value)| (Text(name), Text(value))).collect()
}

/// Makes cgroup and namespace, puts them in force, and only then lets a process of the agent's exist.
fn start(
    keeper: &Arc<Keeper>,
    asked: Asked,
    record: &mut Record,
    files: Files,
    unix: Vec<PathBuf>,
    env: Vec<(Text, Text)>,
) -> Result<Started, Error> {
    let id = record.session.id.clone();
    // First: a port that is taken is the likeliest thing to go wrong.
    let published =
        asked.launch.publish.iter().copied().map(Publish::listen).collect::<Result<Vec<_>, _>>()?;
    let cgroup = Cgroup::create(&keeper.managed_root, &id)?;
    record.cgroup = cgroup.path.clone();
    record.session.cgroup_id = cgroup.id;
    let netns = Netns::create(&keeper.paths.pin(&id))?;
    record.session.netns_cookie = netns.cookie;
    record.save(&keeper.paths)?;
    record.backstop = keeper.backstop.load(&netns)?;
    let mut listeners = open_listeners(keeper, record, &netns)?;
    for forward in &record.session.forwards {
        if let Forward::Loopback(port) = forward {
            let opened = forward.listen(&netns);
            listeners.extend(opened.doing(|| format!("open port {port} of the agent's loopback"))?);
        }
    }
    listeners.extend(published);
    let running = Running::new(record.clone(), listeners);
    // Known before the worker is asked: one that starts in between serves it as well.
    keeper.sessions().insert(id.clone(), Arc::clone(&running));
    if let Standing::Off { message, hint } = govern(keeper, &running)? {
        return Err(Error::Refused { message, hint, exit_code: 125 });
    }

    let spec = Spec {
        argv: asked.launch.argv,
        env,
        uid: asked.identity.uid,
        gid: asked.identity.gid,
        own_uid: asked.identity.own,
        root: asked.launch.root,
        home: asked.identity.home,
        terminal: asked.launch.stdio.iter().position(|kind| *kind == Stdio::Terminal),
        run_dir: keeper.paths.run_dir.clone(),
        trust: files.trust.dir,
        binds: files.binds,
        unix,
    };
    let (child, pidfd) = spawn(keeper, &spec, asked.stdio, &asked.cwd, &netns, &cgroup)?;
    record.pid = child.id();
    record.save(&keeper.paths)?;
    watch(keeper, running)?;
    Ok(Started { session: id, uid: spec.uid, child, pidfd })
}

/// Returns when the agent's program runs, or says why it does not.
fn spawn(
    keeper: &Keeper,
    spec: &Spec,
    stdio: [OwnedFd; 3],
    cwd: &OwnedFd,
    netns: &Netns,
    cgroup: &Cgroup,
) -> Result<(Child, OwnedFd), Error> {
    let (ours, theirs) = Channel::pair().doing(|| "make a channel".into())?;
    let entrance = cgroup.entrance().doing(|| "open the session's cgroup".into())?;
    let [stdin, stdout, stderr] = stdio;
    let mut command = Command::new(&keeper.settings.executable);
    command
        .arg("agent-init")
        // The caller's variables must not reach a process that is still root: LD_PRELOAD is one of them.
        .env_clear()
        .current_dir("/")
        .stdin(ChildStdio::from(stdin))
        .stdout(ChildStdio::from(stdout))
        .stderr(ChildStdio::from(stderr));
    sys::pass_channel(&mut command, theirs.into_fd(), keeper.descriptors);
    let mut child = command.spawn().doing(|| "start the agent".into())?;
    drop(command);
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        .doing(|| "watch the agent".into());
    let begun = pidfd.and_then(|pidfd| {
        ours.set_receive_timeout(Some(INIT)).doing(|| "set a timeout".into())?;
        ours.send(spec, &[cwd.as_fd(), netns.file.as_fd(), entrance.as_fd()])
            .doing(|| "tell the agent's first process what to become".into())?;
        await_program(&ours)?;
        Ok(pidfd)
    });
    match begun {
        Ok(pidfd) => Ok((child, pidfd)),
        Err(error) => {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                warn!("cannot end the agent's first process: {error}");
            }
            Err(error)
        }
    }
}

/// The channel closes by itself when the program is executed.
fn await_program(channel: &Channel) -> Result<(), Error> {
    let mut executing = false;
    loop {
        match channel.receive::<Report>().doing(|| "hear from the agent's first process".into())? {
            Some(received) => match received.message {
                Report::Executing => executing = true,
                Report::Failed { message, hint, exit_code } => {
                    return Err(Error::Refused { message, hint, exit_code });
                }
            },
            None if executing => return Ok(()),
            None => {
                return Err(Error::refused(
                    "the agent's first process ended before it could run the command",
                    "see the daemon's log",
                ));
            }
        }
    }
}

//! Serves `launch.sock`: starts agents for `enforcer run` and stands between the two until the agent ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as ChildStdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags};
use tracing::{error, info, warn};

use super::Keeper;
use super::sessions::{self, Running, Standing, govern, unexpected, watch};
use crate::Error;
use crate::cgroup::Cgroup;
use crate::channel::Channel;
use crate::error::Doing;
use crate::etc;
use crate::identity::{self, Identity};
use crate::init::{Report, Spec};
use crate::launch::{Exit, FromKeeper, Launch, PROTOCOL, Stdio, Text, ToKeeper as FromCaller};
use crate::message::{Session, ToKeeper, ToWorker};
use crate::netns::Netns;
use crate::peer::Peer;
use crate::session::{self, Record};
use crate::sys::process as sys;
use crate::trust::{self, Bind};

/// Launches and running stand-ins at one time; each holds a thread and a few descriptors.
const MAX_CALLERS: usize = 1024;
/// A caller sends its request at once.
const REQUEST: Duration = Duration::from_secs(10);
/// From fork to exec, on a machine that is very busy.
const INIT: Duration = Duration::from_secs(30);
/// What may be passed on: what people and supervisors send to a command.
const SIGNALS: [i32; 10] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGKILL,
];

/// Accepts callers in a thread of its own, from now on.
pub(super) fn serve(keeper: &Arc<Keeper>, listener: UnixListener) -> Result<(), Error> {
    let keeper = Arc::clone(keeper);
    let callers = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new()
        .name("launches".into())
        .spawn(move || {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => admit(&keeper, &callers, stream),
                    Err(error) => {
                        // Out of descriptors, most likely: they come back when sessions end.
                        error!("cannot accept a launch: {error}");
                        std::thread::sleep(Duration::from_millis(200));
                    }
                }
            }
        })
        .map(drop)
        .doing(|| "start a thread".into())
}

fn admit(keeper: &Arc<Keeper>, callers: &Arc<AtomicUsize>, stream: UnixStream) {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let before = callers.fetch_add(1, Ordering::SeqCst);
    let counted = Counted(Arc::clone(callers));
    if before >= MAX_CALLERS {
        warn!("too many launches at once: one is turned away");
        return;
    }
    let keeper = Arc::clone(keeper);
    let started = std::thread::Builder::new().name("launch".into()).spawn(move || {
        let _counted = counted;
        attend(&keeper, &Arc::new(Channel::new(stream)));
    });
    if let Err(error) = started {
        error!("cannot start a thread for a launch: {error}");
    }
}

/// One caller from its request to its end.
fn attend(keeper: &Arc<Keeper>, channel: &Arc<Channel>) {
    let started = match receive(keeper, channel).and_then(|asked| launch(keeper, asked)) {
        Ok(started) => started,
        Err(error) => {
            info!("launch refused: {}", error.chain());
            let refused = FromKeeper::Refused {
                message: error.chain(),
                hint: error.hint(),
                exit_code: error.exit_code(),
            };
            tell(channel, &refused, &[]);
            channel.discard();
            return;
        }
    };
    let Started { session, uid, mut child, pidfd } = started;
    let launched = FromKeeper::Launched { session: session.clone(), pid: child.id() };
    tell(channel, &launched, &[pidfd.as_fd()]);
    info!(session, uid, pid = child.id(), "agent started");
    // Its thread outlives a caller that goes away: somebody must wait for the child.
    let waiter = std::thread::Builder::new().name("wait".into()).spawn({
        let channel = Arc::clone(channel);
        move || {
            let exit = match child.wait() {
                Ok(status) => Exit::from_status(status),
                Err(error) => {
                    error!(session, "cannot see how the agent ended: {error}");
                    Exit::Code(125)
                }
            };
            tell(&channel, &FromKeeper::Exited(exit), &[]);
        }
    });
    if let Err(error) = waiter {
        error!("cannot start a thread, the agent's end will not be told: {error}");
    }
    while let Ok(Some(received)) = channel.receive::<FromCaller>() {
        if let FromCaller::Signal { number, group } = received.message
            && SIGNALS.contains(&number)
            && let Err(error) = sys::pidfd_signal(pidfd.as_fd(), number, group)
            // It ended in between.
            && error.raw_os_error() != Some(libc::ESRCH)
        {
            warn!(number, "cannot pass a signal on: {error}");
        }
    }
}

/// A caller that is gone does not stop its agent.
fn tell(channel: &Channel, message: &FromKeeper, descriptors: &[std::os::fd::BorrowedFd<'_>]) {
    if let Err(error) = channel.send(message, descriptors) {
        info!("the caller is gone: {error}");
    }
}

/// A request that is allowed as far as the keeper can tell.
struct Asked {
    launch: Launch,
    identity: Identity,
    stdio: [OwnedFd; 3],
    cwd: OwnedFd,
}

fn receive(keeper: &Keeper, channel: &Channel) -> Result<Asked, Error> {
    channel
        .set_receive_timeout(Some(REQUEST))
        .and_then(|()| channel.stream().set_write_timeout(Some(REQUEST)))
        .doing(|| "set a timeout".into())?;
    if keeper.stopping() {
        return Err(Error::refused("the daemon is stopping", "start it again, then run the agent"));
    }
    let peer =
        Peer::of(channel.as_fd(), &keeper.managed_root).doing(|| "see who asks for a launch".into())?;
    if peer.managed {
        return Err(Error::Refused {
            message: "an agent cannot start agents".into(),
            hint: Some("run the command from outside of any agent".into()),
            exit_code: 125,
        });
    }
    let received = channel
        .receive::<FromCaller>()
        .doing(|| "read what to launch".into())?
        .ok_or_else(|| Error::refused("the caller went away", "nothing to do"))?;
    channel.set_receive_timeout(None).doing(|| "set a timeout".into())?;
    let FromCaller::Launch(launch) = received.message else {
        return Err(Error::refused("a launch must come first", "use `enforcer run` of the same version"));
    };
    if launch.protocol != PROTOCOL {
        return Err(Error::refused(
            "this `enforcer` and the running daemon are of different versions",
            "restart the daemon: systemctl restart enforcer",
        ));
    }
    let [stdin, stdout, stderr, cwd]: [OwnedFd; 4] =
        received.descriptors.try_into().map_err(|_descriptors| {
            Error::refused("a launch needs four descriptors", "use `enforcer run` of the same version")
        })?;
    let stdio = [stdin, stdout, stderr];
    check_descriptors(&stdio, &launch.stdio, &cwd, peer.uid)?;
    identity::check_name(&launch.agent)?;
    if launch.argv.is_empty() {
        return Err(Error::refused("there is no command to run", "enforcer run AGENT -- COMMAND"));
    }
    let settings = &keeper.settings;
    let identity = match &launch.user {
        Some(user) => identity::of_user(user, peer.uid)?,
        None => {
            // Two launches at once must not get the same number.
            let _one_at_a_time = keeper.ids.lock().unwrap_or_else(|e| e.into_inner());
            identity::own(&settings.state_dir, &settings.agent_ids, &launch.agent)?
        }
    };
    if identity.uid == settings.worker_id
        || (launch.user.is_some() && settings.agent_ids.contains(&identity.uid))
    {
        return Err(Error::refused(
            format!("`{}` has an id that is kept for the daemon and its agents", identity.name),
            "correct `ids` in the configuration, or run the agent as another user",
        ));
    }
    Ok(Asked { launch, identity, stdio, cwd })
}

/// Standard streams that would lead an agent out: directories and internet sockets made outside.
fn check_descriptors(
    stdio: &[OwnedFd; 3],
    kinds: &[Stdio; 3],
    cwd: &OwnedFd,
    caller: u32,
) -> Result<(), Error> {
    /// Numbers of pseudo-terminals' far sides (Documentation/admin-guide/devices.txt).
    const PTS: std::ops::RangeInclusive<u32> = 136..=143;
    let look = |fd: &OwnedFd| -> Result<fs::Metadata, Error> {
        let file = fd.try_clone().doing(|| "copy a descriptor".into())?;
        File::from(file).metadata().doing(|| "look at a descriptor".into())
    };
    for ((fd, kind), name) in stdio.iter().zip(kinds).zip(["input", "output", "error"]) {
        let metadata = look(fd)?;
        let flags = rustix::fs::fcntl_getfl(fd).doing(|| "look at a descriptor".into())?;
        let foreign_socket = metadata.file_type().is_socket()
            && !sys::socket_domain(fd.as_fd()).is_ok_and(|domain| domain == libc::AF_UNIX);
        if metadata.is_dir() || flags.contains(OFlags::PATH) || foreign_socket {
            return Err(Error::refused(
                format!("standard {name} is a network socket or a directory, which an agent must not have"),
                "pass a file, a pipe or a terminal; `| cat` in between is enough",
            ));
        }
        let theirs = metadata.file_type().is_char_device()
            && PTS.contains(&rustix::fs::major(metadata.rdev()))
            && metadata.uid() == caller;
        if *kind == Stdio::Terminal && !theirs {
            return Err(Error::refused(
                format!("standard {name} is not a terminal of the caller's own"),
                "use `enforcer run` of the same version",
            ));
        }
    }
    if !look(cwd)?.is_dir() {
        return Err(Error::refused("the working directory is no directory", "change to one and try again"));
    }
    Ok(())
}

/// An agent that runs.
struct Started {
    session: String,
    uid: u32,
    child: Child,
    pidfd: OwnedFd,
}

fn launch(keeper: &Arc<Keeper>, asked: Asked) -> Result<Started, Error> {
    keeper.programs.verify()?;
    let id = session::new_id(&asked.launch.agent)?;
    let Prepared { environment, ca_pem, guide } = prepare(keeper, &asked.launch.agent, &id)?;
    // What `end` needs to take apart whatever was made by then.
    let mut record = Record {
        session: Session {
            id: id.clone(),
            agent: asked.launch.agent.clone(),
            cgroup_id: 0,
            netns_cookie: 0,
            uid: asked.identity.uid,
        },
        cgroup: PathBuf::new(),
        pid: 0,
    };
    let session_files = files(keeper, &asked, &id, &ca_pem, &guide);
    let outcome = session_files.and_then(|files| {
        let environment = compose(keeper, &asked, &id, &files, environment);
        start(keeper, asked, &mut record, files, environment)
    });
    if outcome.is_err() {
        keeper.sessions().remove(&id);
        sessions::end(keeper, &record);
    }
    outcome
}

struct Prepared {
    environment: Vec<(String, String)>,
    ca_pem: String,
    guide: String,
}

fn prepare(keeper: &Keeper, agent: &str, session: &str) -> Result<Prepared, Error> {
    let (agent, session) = (agent.to_owned(), session.to_owned());
    let (_, answer) = keeper.worker.call(|seq| ToWorker::Prepare { seq, agent, session }, &[])?;
    match answer {
        ToKeeper::Prepared { environment, ca_pem, guide, .. } => Ok(Prepared { environment, ca_pem, guide }),
        ToKeeper::Refused { message, hint, .. } => Err(Error::Refused { message, hint, exit_code: 125 }),
        ToKeeper::Ready | ToKeeper::Done { .. } | ToKeeper::Disabled { .. } | ToKeeper::Switch { .. } => {
            Err(unexpected())
        }
    }
}

/// What the session's directory holds.
struct Files {
    trust: trust::Trust,
    binds: Vec<Bind>,
}

fn files(keeper: &Keeper, asked: &Asked, id: &str, ca_pem: &str, guide: &str) -> Result<Files, Error> {
    let dir = keeper.paths.trust().join(id);
    let doing = || format!("make the session's files in {}", dir.display());
    let shown_at = keeper.paths.trust();
    let trust = trust::build(&dir, &shown_at, Path::new("/"), ca_pem, &asked.launch.trust).doing(doing)?;
    let mut binds = trust.binds.clone();
    binds.extend(etc::build(&dir, &asked.identity).doing(doing)?);
    let guide_file = dir.join("guide.md");
    fs::write(&guide_file, guide)
        .and_then(|()| fs::set_permissions(&guide_file, fs::Permissions::from_mode(0o644)))
        .doing(doing)?;
    Ok(Files { trust, binds })
}

/// The caller's environment, then who the agent is, then what makes it trust us, then the worker's placeholders.
fn compose(
    keeper: &Keeper,
    asked: &Asked,
    id: &str,
    files: &Files,
    placeholders: Vec<(String, String)>,
) -> Vec<(Text, Text)> {
    let mut all: BTreeMap<OsString, OsString> =
        asked.launch.env.iter().map(|(name, value)| (name.0.clone(), value.0.clone())).collect();
    all.entry("PATH".into()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".into());
    let identity = &asked.identity;
    all.insert("HOME".into(), identity.home.clone().into());
    all.insert("USER".into(), identity.name.clone().into());
    all.insert("LOGNAME".into(), identity.name.clone().into());
    all.insert("XDG_RUNTIME_DIR".into(), format!("/run/user/{}", identity.uid).into());
    for (name, value) in files.trust.environment.iter().cloned().chain(placeholders) {
        trust::merge(&mut all, name, value);
    }
    all.insert("ENFORCER_AGENT".into(), asked.launch.agent.clone().into());
    all.insert("ENFORCER_SESSION".into(), id.into());
    all.insert("ENFORCER_GUIDE".into(), keeper.paths.trust().join("guide.md").into());
    all.into_iter().map(|(name, value)| (Text(name), Text(value))).collect()
}

/// Makes cgroup and namespace, puts them in force, and only then lets a process of the agent's exist.
fn start(
    keeper: &Arc<Keeper>,
    asked: Asked,
    record: &mut Record,
    files: Files,
    env: Vec<(Text, Text)>,
) -> Result<Started, Error> {
    let id = record.session.id.clone();
    let cgroup = Cgroup::create(&keeper.managed_root, &id)?;
    record.cgroup = cgroup.path.clone();
    record.session.cgroup_id = cgroup.id;
    let netns = Netns::create(&keeper.paths.pin(&id))?;
    record.session.netns_cookie = netns.cookie;
    record.save(&keeper.paths)?;
    let listeners = netns.open_listeners(&|socket| keeper.programs.prepare_listener(socket))?;
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
        home: asked.identity.home,
        terminal: asked.launch.stdio.iter().position(|kind| *kind == Stdio::Terminal),
        run_dir: keeper.paths.run_dir.clone(),
        trust: files.trust.dir,
        binds: files.binds,
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
    sys::pass_channel(&mut command, theirs.into_fd());
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

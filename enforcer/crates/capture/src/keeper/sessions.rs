//! Running sessions: told to each worker, watched until their cgroup is empty, shut in when their agent is
//! switched off, taken up again after a restart.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::net::SocketType;
use tracing::{error, info, warn};

use super::Keeper;
use super::attach::{self, Live};
use super::hand_over::{self, Inherited};
use crate::Error;
use crate::cgroup::Cgroup;
use crate::error::Doing;
use crate::forward::Forward;
use crate::kernel::Listening;
use crate::message::{Session, SocketOf, Switch, ToKeeper, ToWorker, Workload};
use crate::netns::{self, LISTENERS, Netns};
use crate::session::{self, Record};

/// One session in force.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) record: Record,
    /// Our own copies, so that the next worker gets the same sockets with the connections waiting in them.
    listeners: Vec<OwnedFd>,
    /// What `enforcer attach` holds, where it is that.
    pub(super) attached: Option<Live>,
    governed: Mutex<Governed>,
}

#[derive(Debug, Default)]
struct Governed {
    /// The worker that serves the session, by generation. Before the first one there is none.
    by: Option<u64>,
    standing: Standing,
}

/// What the worker said of a session's agent.
#[derive(Clone, Debug, Default)]
pub(super) enum Standing {
    #[default]
    On,
    /// It is switched off; the kernel denies the session everything.
    Off { message: String, hint: Option<String> },
}

impl Running {
    pub(super) fn new(record: Record, listeners: Vec<OwnedFd>) -> Arc<Self> {
        Arc::new(Running { record, listeners, attached: None, governed: Mutex::default() })
    }

    pub(super) fn attached(record: Record, live: Live) -> Arc<Self> {
        Arc::new(Running { record, listeners: Vec::new(), attached: Some(live), governed: Mutex::default() })
    }

    /// Of a session that `enforcer run` started: attached ones have theirs with each namespace.
    pub(super) fn listeners(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.iter().map(AsFd::as_fd)
    }
}

/// What the worker gives a new session.
pub(super) struct Prepared {
    pub(super) agent: String,
    pub(super) environment: Vec<(String, String)>,
    pub(super) ca_pem: String,
    pub(super) guide: String,
    pub(super) loopback: Vec<u16>,
    pub(super) unix: Vec<PathBuf>,
}

/// May this be that agent? Without a name: which agent is it?
pub(super) fn prepare(keeper: &Keeper, agent: Option<&str>, workload: Workload) -> Result<Prepared, Error> {
    let agent = agent.map(str::to_owned);
    let (_, answer) = keeper.worker.call(|seq| ToWorker::Prepare { seq, agent, workload }, &[])?;
    match answer {
        ToKeeper::Prepared { seq: _, agent, environment, ca_pem, guide, loopback, unix } => {
            Ok(Prepared { agent, environment, ca_pem, guide, loopback, unix })
        }
        ToKeeper::Refused { message, hint, .. } => Err(Error::Refused { message, hint, exit_code: 125 }),
        ToKeeper::Ready
        | ToKeeper::Done { .. }
        | ToKeeper::Disabled { .. }
        | ToKeeper::Switch { .. }
        | ToKeeper::Socket { .. }
        | ToKeeper::Look { .. } => Err(unexpected()),
    }
}

/// Has the running worker serve the session, if it does not yet, and puts in force in the kernel what it says.
pub(super) fn govern(keeper: &Keeper, running: &Running) -> Result<Standing, Error> {
    // Held until the kernel knows: a switch that comes meanwhile has the last word.
    let mut governed = running.governed.lock().unwrap_or_else(|e| e.into_inner());
    if governed.by == Some(keeper.worker.generation()) {
        return Ok(governed.standing.clone());
    }
    let descriptors: Vec<_> = running.listeners().collect();
    let session = running.record.session.clone();
    let (generation, answer) = keeper.worker.call(|seq| ToWorker::Govern { seq, session }, &descriptors)?;
    if let Some(live) = &running.attached
        && matches!(answer, ToKeeper::Done { .. } | ToKeeper::Disabled { .. })
    {
        live.serve(keeper, &running.record)?;
    }
    let standing = match answer {
        ToKeeper::Done { .. } => {
            release_to_work(keeper, &running.record)?;
            Standing::On
        }
        ToKeeper::Disabled { freeze, message, hint, .. } => {
            shut_in(keeper, &running.record, freeze)?;
            Standing::Off { message, hint }
        }
        ToKeeper::Refused { message, hint, .. } => {
            return Err(Error::Refused { message, hint, exit_code: 125 });
        }
        ToKeeper::Ready
        | ToKeeper::Prepared { .. }
        | ToKeeper::Switch { .. }
        | ToKeeper::Socket { .. }
        | ToKeeper::Look { .. } => {
            return Err(unexpected());
        }
    };
    if let Some(live) = &running.attached {
        live.tell_again(keeper, &running.record);
    }
    *governed = Governed { by: Some(generation), standing: standing.clone() };
    Ok(standing)
}

/// The session may connect, to the injector.
fn release_to_work(keeper: &Keeper, record: &Record) -> Result<(), Error> {
    let Session { cgroup_id, netns_cookie, .. } = record.session;
    if record.attached.is_none() {
        keeper.programs.admit(cgroup_id, netns_cookie, Listening::PRIVATE)?;
    }
    Ok(keeper.programs.govern(cgroup_id)?)
}

/// The kernel denies the session everything.
fn shut_in(keeper: &Keeper, record: &Record, freeze: bool) -> Result<(), Error> {
    keeper.programs.release(record.session.cgroup_id)?;
    if freeze {
        record.cgroup().freeze(true).doing(|| format!("freeze {}", record.cgroup.display()))?;
    }
    Ok(())
}

/// Switches an agent as the worker asks, and tells it how that went. In a thread of its own, because a session
/// may be waiting for an answer of the worker's.
pub(super) fn switch_soon(keeper: &Arc<Keeper>, seq: u64, agent: String, to: Switch) {
    let switching = Arc::clone(keeper);
    let started = std::thread::Builder::new().name("switch".into()).spawn(move || {
        let error = switch(&switching, &agent, to);
        info!(agent, ?to, error, "agent switched");
        switching.worker.tell(&ToWorker::Switched { seq, error });
    });
    if let Err(error) = started {
        let error = Some(format!("cannot start a thread: {error}"));
        keeper.worker.tell(&ToWorker::Switched { seq, error });
    }
}

/// Goes on past failures, and says which there were.
fn switch(keeper: &Keeper, agent: &str, to: Switch) -> Option<String> {
    let mut all: Vec<_> = keeper.sessions().values().cloned().collect();
    all.retain(|running| running.record.session.agent == agent);
    let mut troubles = Vec::new();
    for running in all {
        let mut governed = running.governed.lock().unwrap_or_else(|e| e.into_inner());
        let record = &running.record;
        let switched = match to {
            Switch::Off { freeze } => shut_in(keeper, record, freeze),
            Switch::On => release_to_work(keeper, record).and_then(|()| {
                governed.standing = Standing::On;
                record.cgroup().freeze(false).doing(|| format!("thaw {}", record.cgroup.display()))
            }),
        };
        if let Err(error) = switched {
            troubles.push(format!("session {}: {}", record.session.id, error.chain()));
        }
    }
    (!troubles.is_empty()).then(|| troubles.join("; "))
}

/// Makes the worker a socket. In a thread of its own, which may have to enter a namespace.
pub(super) fn socket_soon(keeper: &Arc<Keeper>, seq: u64, of: SocketOf) {
    let making = Arc::clone(keeper);
    let started =
        std::thread::Builder::new().name("socket".into()).spawn(move || match socket(&making, &of) {
            Ok(socket) => making.worker.tell_with(&ToWorker::Socket { seq, error: None }, &[socket.as_fd()]),
            Err(error) => making.worker.tell(&ToWorker::Socket { seq, error: Some(error.chain()) }),
        });
    if let Err(error) = started {
        let error = Some(format!("cannot start a thread: {error}"));
        keeper.worker.tell(&ToWorker::Socket { seq, error });
    }
}

fn socket(keeper: &Keeper, of: &SocketOf) -> Result<OwnedFd, Error> {
    match of {
        SocketOf::Session(id) if !keeper.sessions().contains_key(id) => {
            Err(Error::refused("the session has ended", "start another"))
        }
        SocketOf::Session(id) => Netns::open(&keeper.paths.pin(id))?
            .socket()
            .doing(|| "make a socket inside of the session".into()),
        SocketOf::Host(address) if !address.is_loopback() => {
            Err(Error::refused(format!("{address} is no loopback address"), "report this"))
        }
        SocketOf::Host(address) => {
            netns::bound_socket(*address).doing(|| format!("bind a socket to {address}"))
        }
    }
}

pub(super) fn unexpected() -> Error {
    Error::refused("the worker gave another answer than was asked for", "restart the daemon and report this")
}

/// A new worker knows of no session yet. In a thread of its own.
pub(super) fn govern_all_soon(keeper: &Arc<Keeper>) {
    let all: Vec<_> = keeper.sessions().values().cloned().collect();
    let keeper = Arc::clone(keeper);
    let started = std::thread::Builder::new().name("govern".into()).spawn(move || {
        for running in all {
            let session = &running.record.session.id;
            match govern(&keeper, &running) {
                Ok(Standing::On) => info!(session, "the new worker serves the session"),
                Ok(Standing::Off { message, .. }) => info!(session, "the session stays shut in: {message}"),
                Err(error) => error!(session, "the agent stays shut in: {}", error.chain()),
            }
        }
    });
    if let Err(error) = started {
        error!("cannot start a thread, sessions stay shut in: {error}");
    }
}

/// Adds the session and watches it until its last process is gone.
pub(super) fn watch(keeper: &Arc<Keeper>, running: Arc<Running>) -> Result<(), Error> {
    let id = running.record.session.id.clone();
    keeper.sessions().insert(id.clone(), Arc::clone(&running));
    keeper.tell_status();
    let keeper = Arc::clone(keeper);
    std::thread::Builder::new()
        .name("session".into())
        .spawn(move || {
            if let Err(error) = running.record.cgroup().wait_empty() {
                error!(session = id, "cannot watch the session, it is kept: {error}");
                return;
            }
            keeper.sessions().remove(&id);
            end(&keeper, &running.record);
            info!(session = id, "session ended");
            keeper.tell_status();
        })
        .map(drop)
        .doing(|| "start a thread".into())
}

/// Takes a session apart: whatever of it is there. Goes on past failures, which it logs.
pub(super) fn end(keeper: &Keeper, record: &Record) {
    let id = &record.session.id;
    let complain = |what: &str, error: &dyn std::fmt::Display| {
        warn!(session = id, "cannot {what}: {error}");
    };
    // First the processes: none may live on with its session gone.
    if let Err(error) = record.cgroup().remove() {
        complain("remove the cgroup", &error);
    }
    // Zero: the launch failed before there was one.
    let Session { cgroup_id, netns_cookie, .. } = record.session;
    if cgroup_id != 0 {
        let programs = &keeper.programs;
        let released = programs.release(cgroup_id).and_then(|()| programs.expel(cgroup_id, netns_cookie));
        if let Err(error) = released {
            complain("release the cgroup in the kernel", &error);
        }
    }
    keeper.worker.tell(&ToWorker::Ended { session: id.clone() });
    hand_over::forget(id);
    if let Err(error) = Netns::unpin(&keeper.paths.pin(id)) {
        complain("let go of the network namespace", &error);
    }
    remove_rest(keeper, id);
}

/// The files of a session.
pub(super) fn remove_rest(keeper: &Keeper, id: &str) {
    let trust = keeper.paths.trust().join(id);
    let record = keeper.paths.record(id);
    for (path, removed) in [(&trust, fs::remove_dir_all(&trust)), (&record, fs::remove_file(&record))] {
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!(session = id, "cannot remove {}: {error}", path.display());
            }
            _ => {}
        }
    }
}

/// Takes up what an earlier keeper left running, and clears away what it left behind.
/// Listeners that are not handed over are opened again; those of sessions that are gone are closed.
pub(super) fn adopt(keeper: &Arc<Keeper>, inherited: &Inherited) -> Result<(), Error> {
    /// Each waits for others most of the time: for the worker, for `nft`, for locks of the kernel's.
    const TOGETHER: usize = 8;
    let records = session::load_all(&keeper.paths)?;
    let threads = records.len().min(TOGETHER);
    let records = Mutex::new(records.into_iter());
    let next = || records.lock().unwrap_or_else(|e| e.into_inner()).next();
    std::thread::scope(|scope| {
        let adopting = || {
            while let Some(loaded) = next() {
                adopt_one(keeper, loaded, inherited);
            }
        };
        (0..threads).try_for_each(|_| {
            let thread = std::thread::Builder::new().name("adopt".into());
            thread.spawn_scoped(scope, adopting).map(drop).doing(|| "start a thread".into())
        })
    })?;
    attach::complain_of_strays(keeper)?;
    sweep(keeper)
}

fn adopt_one(keeper: &Arc<Keeper>, loaded: session::Loaded, inherited: &Inherited) {
    let record = match loaded {
        Ok(record) => record,
        Err((name, error)) => {
            return error!(session = name, "the session's record is lost: {}", error.chain());
        }
    };
    if record.attached.is_some() {
        return attach::take_up(keeper, record, inherited);
    }
    let session = &record.session.id;
    match take_up(keeper, &record, inherited) {
        Ok(true) => info!(session, "session taken up again"),
        Ok(false) => {
            end(keeper, &record);
            info!(session, "session ended while the daemon was away");
        }
        // Its processes live and stay shut in: no listener answers them.
        Err(error) => {
            error!(session, "cannot take the session up, its agent stays shut in: {}", error.chain());
        }
    }
}

/// The session's listeners, which a restart finds again.
pub(super) fn open_listeners(keeper: &Keeper, record: &Record, netns: &Netns) -> Result<Vec<OwnedFd>, Error> {
    let listeners = netns.open_listeners(&|socket| keeper.programs.prepare_listener(socket))?;
    hand_over::store(&record.session.id, &listeners);
    Ok(listeners)
}

/// The listeners of each forward, where all of them were handed over.
fn handed_forwards(
    record: &Record,
    netns_cookie: u64,
    inherited: &Inherited,
) -> VecDeque<Option<Vec<OwnedFd>>> {
    let here = netns::cookie_here().ok();
    let handed = |forward: &Forward| {
        let cookie = match forward {
            Forward::Loopback(_) => Some(netns_cookie),
            Forward::Published(_) => here,
        };
        let listeners = forward.addresses().into_iter().map(|at| (SocketType::STREAM, at));
        listeners.map(|wanted| inherited.listener(cookie?, &wanted)).collect()
    };
    record.session.forwards.iter().map(handed).collect()
}

/// `false`: nothing of it runs any more.
fn take_up(keeper: &Arc<Keeper>, record: &Record, inherited: &Inherited) -> Result<bool, Error> {
    let cgroup = record.cgroup();
    if cgroup.path.parent() != Some(&keeper.managed_root) || !cgroup.exists() {
        return Ok(false);
    }
    if !cgroup.populated().doing(|| format!("look into {}", cgroup.path.display()))? {
        return Ok(false);
    }
    let netns = Netns::open(&keeper.paths.pin(&record.session.id))?;
    if netns.cookie != record.session.netns_cookie {
        return Err(Error::refused("the pinned network namespace is another one", "stop the agent"));
    }
    let mut record = record.clone();
    // An earlier keeper may have been without it, and of two versions this one's counts.
    if !record.backstop.as_ref().is_some_and(|mark| keeper.backstop.stands(&netns, mark)) {
        record.backstop = keeper.backstop.load(&netns)?;
        record.save(&keeper.paths)?;
    }
    let mut handed = handed_forwards(&record, netns.cookie, inherited);
    let mut listeners = match inherited.listeners(netns.cookie, &LISTENERS) {
        Some(listeners) => listeners,
        None => open_listeners(keeper, &record, &netns)?,
    };
    let id = record.session.id.clone();
    record.session.forwards.retain(|forward| {
        let opened =
            handed.pop_front().flatten().map_or_else(|| netns::once_free(|| forward.listen(&netns)), Ok);
        match opened {
            Ok(opened) => listeners.extend(opened),
            // The session is worth more than one of its ports.
            Err(error) => {
                error!(session = id, ?forward, "a port is not forwarded any more: {error}");
                return false;
            }
        }
        true
    });
    let running = Running::new(record, listeners);
    // Watched even when the worker refuses it: it must end some day.
    watch(keeper, Arc::clone(&running))?;
    if let Standing::Off { message, .. } = govern(keeper, &running)? {
        info!(session = id, "the session stays shut in: {message}");
    }
    Ok(true)
}

/// What belongs to no session we know: a launch that was cut short.
fn sweep(keeper: &Keeper) -> Result<(), Error> {
    let known = |name: &str| keeper.paths.record(name).exists();
    for dir in [keeper.paths.pins(), keeper.paths.trust(), keeper.managed_root.clone()] {
        for entry in fs::read_dir(&dir).doing(|| format!("list {}", dir.display()))? {
            let entry = entry.doing(|| format!("list {}", dir.display()))?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if known(&name) {
                continue;
            }
            let removed = if dir == keeper.managed_root {
                sweep_cgroup(&path)
            } else if dir == keeper.paths.pins() {
                Netns::unpin(&path)
            } else {
                fs::remove_dir_all(&path)
            };
            if let Err(error) = removed {
                warn!("cannot remove {}, which belongs to no session: {error}", path.display());
            }
        }
    }
    Ok(())
}

fn sweep_cgroup(path: &std::path::Path) -> std::io::Result<()> {
    if !path.is_dir() {
        return Ok(());
    }
    let cgroup = Cgroup { path: path.to_owned(), id: crate::cgroup::id(path)? };
    if cgroup.populated()? {
        warn!(cgroup = %path.display(), "processes in the managed root belong to no session: they stay denied");
        return Ok(());
    }
    cgroup.remove()
}

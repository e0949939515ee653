//! `enforcer daemon`: the one process with root's rights. Small, threads of the standard library, no tokio.
//!
//! Owns pins, cgroups, namespaces, listeners and launches, and keeps a worker running that does everything
//! else. Never reads a byte that an agent or an upstream sent.

use std::collections::HashMap;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Resource, Rlimit, getrlimit};
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use crate::Error;
use crate::backstop::Backstop;
use crate::cgroup;
use crate::error::Doing;
use crate::kernel::{Kernel, KernelError, Layout};
use crate::message::{ToKeeper, ToWorker};
use crate::session::Paths;
use crate::sys;

mod admission;
mod attach;
mod files;
mod hand_over;
mod launcher;
mod look;
mod places;
mod programs;
mod proofs;
mod rights;
mod sessions;
mod upgrade;
mod worker;

use admission::Admission;
use hand_over::Inherited;
pub use programs::Programs;
use sessions::Running;
use worker::Worker;

/// How long a worker may take to finish what is running when the daemon stops.
const DRAIN: Duration = Duration::from_secs(10);

/// What the keeper needs of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `control.sock`, `launch.sock`, `sessions/`, `netns/`, `trust/`, `units/`.
    pub run_dir: PathBuf,
    /// `worker/`, `agents/`, `ids.json`.
    pub state_dir: PathBuf,
    pub vault_key: VaultKeySource,
    /// A name below the cgroup2 mount, such as `enforcer-agents.slice`.
    pub managed_root: String,
    /// A directory in a bpffs.
    pub pins: PathBuf,
    /// Uid and gid of the worker.
    pub worker_id: u32,
    /// Uids and gids of agents.
    pub agent_ids: RangeInclusive<u32>,
    /// Who may use the sockets beside root. A group that does not exist is nobody.
    pub group: String,
    /// The configuration's text, for the worker.
    pub config: String,
    /// This program; `/proc/self/exe` stays right when the file is replaced.
    pub executable: PathBuf,
    /// `None`: nothing is proved unless somebody asks.
    pub prove: Option<Prove>,
}

/// `enforcer prove --all`, on a timer.
#[derive(Clone, Debug)]
pub struct Prove {
    pub every: Duration,
    /// The settings that were named to the daemon.
    pub config: Option<PathBuf>,
}

/// Where the vault's key comes from.
#[derive(Clone, Debug)]
pub enum VaultKeySource {
    /// A file that only root reads; made on the first start.
    File(PathBuf),
    /// The name of a systemd credential (`LoadCredentialEncrypted=`).
    SystemdCredential(String),
}

/// Runs until SIGTERM or SIGINT. Agents keep running and the pins keep denying after it has returned.
///
/// To be called first thing in a process that has no other threads.
pub fn run(settings: Settings) -> Result<(), Error> {
    run_with(settings, |layout| Ok(Box::new(Kernel::start(layout)?)))
}

/// As [`run`], with other kernel programs.
pub fn run_with(
    settings: Settings,
    start: impl FnOnce(&Layout) -> Result<Box<dyn Programs>, KernelError>,
) -> Result<(), Error> {
    // First: what was left to us may be more than that.
    let descriptors = getrlimit(Resource::Nofile);
    sys::raise_descriptor_limit(true).doing(|| "raise the limit on open files".into())?;
    let inherited = Inherited::receive().doing(|| "take over the sockets of the daemon before".into())?;
    // Before any thread: they all must leave the signals to us.
    let signals = sys::Signals::take(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR2])
        .doing(|| "take over signals".into())?;
    let _descriptor_3 = sys::reserve_descriptor_3().doing(|| "open /dev/null".into())?;
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Refused {
            message: "the daemon must be started as root".into(),
            hint: Some("systemctl start enforcer, or: sudo enforcer daemon".into()),
            exit_code: 4,
        });
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rights::give_up(inherited.left_by_ourselves())?;

    launcher::await_inherited()?;

    let managed_root = cgroup::managed_root(&settings.managed_root)?;
    let paths = Paths { run_dir: settings.run_dir.clone() };
    let lock = places::prepare(&settings, &paths, &managed_root)?;
    let programs = start(&Layout { managed_root: managed_root.clone(), pins: settings.pins.clone() })?;
    let backstop = Backstop::find();
    if matches!(backstop, Backstop::Absent) {
        warn!(
            "sessions have no nftables backstop: nft is not installed; `apt-get install nftables`, then restart"
        );
    }
    drop(places::open_vault_key(&settings)?);
    let control = places::listen(&settings, "control.sock", &inherited)?;
    let launches = places::listen(&settings, "launch.sock", &inherited)?;

    // One waiting word is enough: it is read with the number of that moment.
    let (status_changed, changes) = mpsc::sync_channel(1);
    let keeper = Arc::new(Keeper {
        settings,
        paths,
        managed_root,
        programs,
        backstop,
        control,
        launches,
        descriptors,
        admission: Arc::default(),
        worker: Worker::default(),
        sessions: Mutex::default(),
        ids: Mutex::default(),
        units: Mutex::default(),
        status_changed,
        stopping: AtomicBool::new(false),
        _lock: lock,
    });
    let worker = worker::begin(&keeper)?;
    // Sessions are made ready meanwhile. That the worker does not start is the first thing to be told.
    let adopted = sessions::adopt(&keeper, &inherited);
    worker::wait(&worker)?;
    adopted?;
    // Of sessions that are gone.
    drop(inherited);
    attach::follow_new_namespaces(&keeper)?;
    launcher::serve(&keeper)?;
    proofs::start(&keeper)?;
    info!(sessions = keeper.sessions().len(), "the daemon is ready");
    notify(&[NotifyState::Ready, NotifyState::Status(&keeper.status())]);
    tell_changes(&keeper, changes)?;
    keeper.attend(&signals)
}

fn tell_changes(keeper: &Arc<Keeper>, changes: Receiver<()>) -> Result<(), Error> {
    let keeper = Arc::clone(keeper);
    std::thread::Builder::new()
        .name("status".into())
        .spawn(move || {
            while changes.recv().is_ok() && !keeper.stopping() {
                notify(&[NotifyState::Status(&keeper.status())]);
            }
        })
        .map(drop)
        .doing(|| "start a thread".into())
}

/// Everything the keeper's threads share.
struct Keeper {
    settings: Settings,
    paths: Paths,
    managed_root: PathBuf,
    programs: Box<dyn Programs>,
    backstop: Backstop,
    control: UnixListener,
    launches: UnixListener,
    /// How many an agent may open: as many as this process might when it was started.
    descriptors: Rlimit,
    admission: Arc<Admission>,
    worker: Worker,
    sessions: Mutex<HashMap<String, Arc<Running>>>,
    /// Held while `ids.json` is read and written.
    ids: Mutex<()>,
    /// Held while a link in `units/` is changed.
    units: Mutex<()>,
    status_changed: SyncSender<()>,
    stopping: AtomicBool,
    /// One keeper per run directory.
    _lock: File,
}

impl Keeper {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Running>>> {
        // Each use is one call on the map: a panic cannot leave it half changed.
        self.sessions.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whoever is in one of these gets nothing from us: all agents are below them.
    fn governed_cgroups(&self) -> Vec<PathBuf> {
        let sessions = self.sessions();
        let attached = sessions.values().filter(|running| running.attached.is_some());
        // Another may have taken the name of one that is gone.
        let there = attached.map(|running| running.record.cgroup()).filter(cgroup::Cgroup::exists);
        let mut all: Vec<_> = there.map(|cgroup| cgroup.path).collect();
        all.push(self.managed_root.clone());
        all
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn status(&self) -> String {
        match self.sessions().len() {
            1 => "1 session".to_owned(),
            n => format!("{n} sessions"),
        }
    }

    /// Somebody may not read what we tell: launches must not wait for that, so a thread of its own tells it.
    fn tell_status(&self) {
        if let Err(TrySendError::Disconnected(())) = self.status_changed.try_send(()) {
            warn!("the thread that tells the status is gone");
        }
    }

    /// Waits for signals and does as they say.
    fn attend(self: &Arc<Self>, signals: &sys::Signals) -> Result<(), Error> {
        // Twice in the time after which systemd takes us for hung.
        let beat = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let timeout = beat.and_then(|beat| Timespec::try_from(beat).ok());
        loop {
            match rustix::event::poll(&mut [PollFd::new(signals, PollFlags::IN)], timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {
                    if beat.is_some() {
                        notify(&[NotifyState::Watchdog]);
                    }
                }
                Err(error) => return Err(error).doing(|| "wait for signals".into()),
            }
            while let Some(signal) = signals.next().doing(|| "read a signal".into())? {
                match signal.number {
                    libc::SIGHUP => self.reload(),
                    libc::SIGUSR2 => {
                        let error = upgrade::upgrade(self);
                        error!(
                            hint = error.hint().unwrap_or_default(),
                            "the daemon stays what it is: {}",
                            error.chain()
                        );
                        notify(&[NotifyState::Ready, NotifyState::Status(&self.status())]);
                    }
                    _ => {
                        self.stop();
                        return Ok(());
                    }
                }
            }
        }
    }

    fn reload(&self) {
        notify(&[NotifyState::Reloading, NotifyState::Status("reading the policies again")]);
        match self.worker.call(|seq| ToWorker::Reload { seq }, &[]) {
            Ok((_, ToKeeper::Refused { message, hint, .. })) => {
                error!(
                    hint = hint.as_deref().unwrap_or_default(),
                    "the old policies stay in force: {message}"
                );
            }
            Ok(_) => info!("policies read again"),
            Err(error) => error!("the worker could not read the policies again: {}", error.chain()),
        }
        notify(&[NotifyState::Ready, NotifyState::Status(&self.status())]);
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        notify(&[NotifyState::Stopping, NotifyState::Status("finishing what is running")]);
        info!(sessions = self.sessions().len(), "stopping; agents stay shut in until the daemon is back");
        for name in ["control.sock", "launch.sock"] {
            if let Err(error) = std::fs::remove_file(self.settings.run_dir.join(name)) {
                warn!(socket = name, "cannot remove the socket: {error}");
            }
        }
        self.worker.stop(DRAIN);
    }
}

/// Tells systemd, where it listens.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot tell systemd how we are: {error}");
    }
}

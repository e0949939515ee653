//! The worker as the keeper sees it: started, spoken to, started again when it dies.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags};
use tracing::{error, info, warn};

use super::{Keeper, places, sessions};
use crate::Error;
use crate::channel::Channel;
use crate::error::Doing;
use crate::message::{Received, ToKeeper, ToWorker};
use crate::sys::process as sys;

/// A worker answers in milliseconds; compiling large policies takes the longest.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a launch waits for a worker that is being started again.
const RESTART: Duration = Duration::from_secs(10);
/// First start: rebuilding the receipts' index may take a while.
const FIRST_READY: Duration = Duration::from_secs(90);
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A worker that lived this long was not broken from the start.
const SETTLED: Duration = Duration::from_secs(30);
/// What of the keeper's environment the worker gets. Never variables that steer TLS or name lookups.
const PASSED: [&str; 9] = [
    "PATH",
    "LANG",
    "TZ",
    "TMPDIR",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "ENFORCER_LOG",
    "NO_COLOR",
    "JOURNAL_STREAM",
];

/// The line to the worker; usable from any thread.
#[derive(Debug, Default)]
pub(super) struct Worker {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    line: Option<Line>,
    /// Counts workers; the sessions know which one governs them.
    generation: u64,
    next_seq: u64,
    stopping: bool,
    /// The supervisor has returned: no worker runs and none will.
    over: bool,
}

#[derive(Debug)]
struct Line {
    channel: Arc<Channel>,
    pidfd: OwnedFd,
    ready: bool,
    waiting: HashMap<u64, Sender<ToKeeper>>,
}

impl Worker {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is changed in single steps; a panic of another thread leaves it usable.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Which worker runs now.
    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// Asks and waits for the answer; says which worker gave it.
    pub(super) fn call(
        &self,
        message: impl FnOnce(u64) -> ToWorker,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(u64, ToKeeper), Error> {
        let (sender, answer) = mpsc::channel();
        let (seq, generation, channel) = {
            let state = self.state();
            let not_ready = |state: &mut State| {
                !state.over && !state.stopping && !state.line.as_ref().is_some_and(|line| line.ready)
            };
            let (mut state, _) =
                self.changed.wait_timeout_while(state, RESTART, not_ready).unwrap_or_else(|e| e.into_inner());
            state.next_seq += 1;
            let (seq, generation) = (state.next_seq, state.generation);
            let Some(line) = state.line.as_mut().filter(|line| line.ready) else { return Err(away()) };
            line.waiting.insert(seq, sender);
            (seq, generation, Arc::clone(&line.channel))
        };
        channel.send(&message(seq), descriptors).doing(|| "speak to the worker".into())?;
        match answer.recv_timeout(ANSWER) {
            Ok(answer) => Ok((generation, answer)),
            // The worker died; the supervisor has dropped the other half.
            Err(RecvTimeoutError::Disconnected) => Err(away()),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(line) = &mut self.state().line {
                    line.waiting.remove(&seq);
                }
                Err(Error::refused(
                    "the worker does not answer",
                    "see the daemon's log; is the machine overloaded?",
                ))
            }
        }
    }

    /// Says without waiting. A worker that is not there needs no telling: the next one starts from what is.
    pub(super) fn tell(&self, message: &ToWorker) {
        let channel = self.state().line.as_ref().map(|line| Arc::clone(&line.channel));
        if let Some(channel) = channel
            && let Err(error) = channel.send(message, &[])
        {
            warn!("cannot speak to the worker: {error}");
        }
    }

    /// Lets the worker finish, for so long, then ends it.
    pub(super) fn stop(&self, patience: Duration) {
        self.state().stopping = true;
        self.changed.notify_all();
        self.tell(&ToWorker::Drain);
        let (state, waited) = self
            .changed
            .wait_timeout_while(self.state(), patience, |state| !state.over)
            .unwrap_or_else(|e| e.into_inner());
        if waited.timed_out()
            && let Some(line) = &state.line
        {
            warn!("the worker has not finished in {} s: ending it", patience.as_secs());
            if let Err(error) = sys::pidfd_signal(line.pidfd.as_fd(), libc::SIGKILL, false) {
                warn!("cannot end the worker: {error}");
            }
        }
    }

    fn answer(&self, seq: u64, message: ToKeeper) {
        let asker = self.state().line.as_mut().and_then(|line| line.waiting.remove(&seq));
        // An asker that has given up is gone, and so is its interest.
        if asker.is_none_or(|asker| asker.send(message).is_err()) {
            warn!(seq, "the worker answered what nobody waits for");
        }
    }
}

fn away() -> Error {
    Error::refused(
        "the daemon's worker is not running",
        "wait a moment and try again; the daemon's log says why",
    )
}

/// Starts the worker and the thread that keeps it running; returns when the worker serves.
pub(super) fn start(keeper: &Arc<Keeper>) -> Result<(), Error> {
    let (first, ready) = mpsc::channel();
    let keeper = Arc::clone(keeper);
    // The worker dies with the thread that started it (PR_SET_PDEATHSIG): this one lives as long as the keeper.
    std::thread::Builder::new()
        .name("worker".into())
        .spawn(move || {
            supervise(&keeper, first);
            let mut state = keeper.worker.state();
            state.over = true;
            state.line = None;
            drop(state);
            keeper.worker.changed.notify_all();
        })
        .doing(|| "start a thread".into())?;
    match ready.recv_timeout(FIRST_READY) {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::refused(
            format!("the worker was not ready within {} s", FIRST_READY.as_secs()),
            "its own messages are above, or in the journal: journalctl -u enforcer",
        )),
    }
}

fn supervise(keeper: &Arc<Keeper>, first: Sender<Result<(), Error>>) {
    let mut first = Some(first);
    let mut back_off = BACK_OFF.0;
    loop {
        let started = Instant::now();
        let end = spawn(keeper).map(|(child, channel)| attend(keeper, child, &channel, &mut first));
        if keeper.worker.state().stopping {
            return;
        }
        let end = match end {
            Ok(status) => Error::refused(
                format!("the worker ended ({status})"),
                "its own messages are above, or in the journal: journalctl -u enforcer",
            ),
            Err(error) => error,
        };
        if let Some(first) = first.take() {
            // The daemon's start fails with this.
            if first.send(Err(end)).is_err() {
                warn!("the daemon gave up waiting for the worker");
            }
            return;
        }
        if started.elapsed() > SETTLED {
            back_off = BACK_OFF.0;
        }
        error!("{}; agents are refused until it is back, in {back_off:?}", end.chain());
        let (state, _) = keeper
            .worker
            .changed
            .wait_timeout_while(keeper.worker.state(), back_off, |state| !state.stopping)
            .unwrap_or_else(|e| e.into_inner());
        if state.stopping {
            return;
        }
        back_off = (back_off * 2).min(BACK_OFF.1);
    }
}

fn spawn(keeper: &Keeper) -> Result<(Child, Arc<Channel>), Error> {
    let (ours, theirs) = Channel::pair().doing(|| "make the worker's channel".into())?;
    // A worker that does not read must not hold up the keeper for ever.
    ours.stream().set_write_timeout(Some(ANSWER)).doing(|| "set a timeout".into())?;
    let id = keeper.settings.worker_id;
    let mut command = Command::new(&keeper.settings.executable);
    command.arg("worker").env_clear().stdin(Stdio::null()).current_dir("/");
    command.envs(PASSED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    sys::confine_worker(&mut command, theirs.into_fd(), id, rustix::process::getpid());
    let mut child = command.spawn().doing(|| "start the worker".into())?;
    // Its half of the channel closes here, so that its end is seen.
    drop(command);

    let started = Pid::from_child(&child);
    let begun = rustix::process::pidfd_open(started, PidfdFlags::empty())
        .doing(|| "watch the worker".into())
        .and_then(|pidfd| {
            let key = places::open_vault_key(&keeper.settings)?;
            let records = keeper.programs.records().doing(|| "pass the RECORDS map".into())?;
            let events = keeper.programs.events().doing(|| "pass the EVENTS map".into())?;
            let start = ToWorker::Start { config: keeper.settings.config.clone() };
            let beside = [key.as_fd(), keeper.control.as_fd(), records.as_fd(), events.as_fd()];
            ours.send(&start, &beside).doing(|| "speak to the worker".into())?;
            Ok(pidfd)
        });
    let pidfd = match begun {
        Ok(pidfd) => pidfd,
        Err(error) => {
            end_child(&mut child);
            return Err(error);
        }
    };
    let channel = Arc::new(ours);
    let mut state = keeper.worker.state();
    state.generation += 1;
    state.line = Some(Line { channel: Arc::clone(&channel), pidfd, ready: false, waiting: HashMap::new() });
    info!(pid = child.id(), uid = id, "worker started");
    Ok((child, channel))
}

/// Reads what the worker says until it ends.
fn attend(
    keeper: &Arc<Keeper>,
    mut child: Child,
    channel: &Channel,
    first: &mut Option<Sender<Result<(), Error>>>,
) -> String {
    loop {
        match channel.receive::<ToKeeper>() {
            Ok(Some(Received { message, .. })) => match message {
                ToKeeper::Ready => {
                    if let Some(line) = &mut keeper.worker.state().line {
                        line.ready = true;
                    }
                    keeper.worker.changed.notify_all();
                    match first.take() {
                        Some(first) if first.send(Ok(())).is_err() => {
                            warn!("the worker was ready too late");
                        }
                        Some(_) => {}
                        // Not from this thread, which must read the answers.
                        None => sessions::govern_all_soon(keeper),
                    }
                }
                ToKeeper::Switch { seq, agent, to } => sessions::switch_soon(keeper, seq, agent, to),
                ToKeeper::Prepared { seq, .. }
                | ToKeeper::Done { seq }
                | ToKeeper::Refused { seq, .. }
                | ToKeeper::Disabled { seq, .. } => {
                    keeper.worker.answer(seq, message);
                }
            },
            Ok(None) => break,
            Err(error) => {
                error!("the worker says what makes no sense: {error}");
                break;
            }
        }
    }
    let stopping = {
        let mut state = keeper.worker.state();
        if !state.stopping {
            // Whoever waits for an answer learns it now. While stopping the line stays for `stop` to end it.
            state.line = None;
        }
        state.stopping
    };
    if !stopping {
        end_child(&mut child);
    }
    match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => format!("its end could not be seen: {error}"),
    }
}

/// Without its channel a worker is of no use, whatever it is doing.
fn end_child(child: &mut Child) {
    /// One that crashes closes its channel a little before it can be waited for; its status is worth that much.
    const GRACE: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        warn!("cannot end the worker: {error}");
    }
}

//! Starts the worker, reads what it says, and starts it again when it dies.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags};
use tracing::{error, info, warn};

use super::{ANSWER, Line};
use crate::Error;
use crate::channel::Channel;
use crate::error::Doing;
use crate::keeper::{Keeper, look, places, sessions};
use crate::message::{Received, ToKeeper, ToWorker};
use crate::sys;

/// First start: rebuilding the receipts' index may take a while.
pub(super) const FIRST_READY: Duration = Duration::from_secs(90);
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

/// How the first worker fared.
pub(in crate::keeper) type First = Receiver<Result<(), Error>>;

/// Starts the worker and the thread that keeps it running.
pub(in crate::keeper) fn begin(keeper: &Arc<Keeper>) -> Result<First, Error> {
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
    Ok(ready)
}

/// Returns when the worker serves.
pub(in crate::keeper) fn wait(first: &First) -> Result<(), Error> {
    match first.recv_timeout(FIRST_READY) {
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
            let start =
                ToWorker::Start { config: keeper.settings.config.clone(), backstop: keeper.backstop.told() };
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
                ToKeeper::Socket { seq, of } => sessions::socket_soon(keeper, seq, of),
                ToKeeper::Look { seq, session, pid } => look::soon(keeper, seq, session, pid),
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

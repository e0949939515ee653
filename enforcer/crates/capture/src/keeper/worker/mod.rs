//! The worker as the keeper's threads see it: a line to speak over, while there is one. [`supervise`] keeps it there.

mod supervise;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tracing::warn;

use crate::Error;
use crate::channel::Channel;
use crate::error::Doing;
use crate::message::{ToKeeper, ToWorker};
use crate::sys;

pub(super) use supervise::{begin, wait};

/// A worker answers in milliseconds; compiling large policies takes the longest.
const ANSWER: Duration = Duration::from_secs(30);
/// Beyond what it was given to drain: the receipts are closed and brought to the disk.
const CLOSING: Duration = Duration::from_secs(4);
/// How long a launch waits for a worker that is being started again.
const RESTART: Duration = Duration::from_secs(10);
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
            // Sessions of before wait for the first.
            let limit = if state.generation > 1 { RESTART } else { supervise::FIRST_READY };
            let (mut state, _) =
                self.changed.wait_timeout_while(state, limit, not_ready).unwrap_or_else(|e| e.into_inner());
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
        self.tell_with(message, &[]);
    }

    pub(super) fn tell_with(&self, message: &ToWorker, descriptors: &[BorrowedFd<'_>]) {
        let channel = self.state().line.as_ref().map(|line| Arc::clone(&line.channel));
        if let Some(channel) = channel
            && let Err(error) = channel.send(message, descriptors)
        {
            warn!("cannot speak to the worker: {error}");
        }
    }

    /// Lets the worker finish what runs, for so long, and waits for its end. One that hangs is ended.
    pub(super) fn stop(&self, patience: Duration) {
        self.state().stopping = true;
        self.changed.notify_all();
        self.tell(&ToWorker::Drain { patience });
        if self.over_within(patience + CLOSING) {
            return;
        }
        if let Some(line) = &self.state().line {
            warn!("the worker has not finished in {} s: ending it", (patience + CLOSING).as_secs());
            if let Err(error) = sys::pidfd_signal(line.pidfd.as_fd(), libc::SIGKILL, false) {
                warn!("cannot end the worker: {error}");
            }
        }
        if !self.over_within(CLOSING) {
            warn!("the worker was ended and is still there");
        }
    }

    fn over_within(&self, time: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| !state.over);
        waited.unwrap_or_else(|e| e.into_inner()).0.over
    }

    /// After [`Worker::stop`]: another may be started.
    pub(super) fn revive(&self) {
        let mut state = self.state();
        state.stopping = false;
        state.over = false;
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

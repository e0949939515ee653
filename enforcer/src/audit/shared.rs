//! What the handles, the writer and the indexer have in common: the inbox, how far the log reaches, counters.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, watch};

use super::appender::Appender;
use super::clock::Time;
use super::entry::{Body, Closed, Encoded};
use super::fold::Fold;
use super::head::Head;
use super::log::{AuditError, Stats};
use super::record::{Intent, Outcome, Receipt, RequestId};
use super::writer::{Batch, Job};

/// Intents and refusals that may wait for the writer. More than the connections a host serves at once;
/// a disk that is this far behind is as good as broken.
const MAX_WAITING: usize = 8192;
/// Receipts a slow `logs -f` may lag behind.
const FOLLOW: usize = 1024;
/// An outcome waits so long for an intent to be written with. A process killed meanwhile leaves it `unknown`.
const LINGER: Duration = Duration::from_millis(5);

/// What the handles and the threads have in common.
pub(super) struct Shared {
    pub(super) receipts: PathBuf,
    pub(super) index: PathBuf,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    progress: Mutex<Progress>,
    /// The log has grown, and the indexer waits for that.
    grown: Condvar,
    /// The indexer rests, and is wanted or has to end.
    rested: Condvar,
    /// Sequence number up to which the index has seen the log.
    pub(super) indexed: watch::Sender<u64>,
    /// `None` once the log is closed.
    finished: Mutex<Option<broadcast::Sender<Arc<Receipt>>>>,
    writes: AtomicU64,
    syncs: AtomicU64,
    failures: AtomicU64,
    late: AtomicU64,
    entries: AtomicU64,
}

#[derive(Default)]
struct Inbox {
    jobs: Vec<Job>,
    /// All of the jobs but outcomes: somebody waits for them. Outcomes always have a place.
    waiting: usize,
    /// Those that may not be written but by the writer's thread, because they take long.
    synced: usize,
    fold: Fold,
    /// The writer's thread sleeps, and would not wake for an outcome.
    asleep: bool,
    /// The writer's thread has to look at its own deadlines again.
    nudged: bool,
    closing: bool,
    closed: bool,
}

impl Inbox {
    fn take(&mut self) -> Vec<Job> {
        (self.waiting, self.synced) = (0, 0);
        std::mem::take(&mut self.jobs)
    }
}

/// How far the log reaches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) segment: u32,
    pub(super) len: u64,
    pub(super) seq: u64,
    pub(super) head: Option<Head>,
    closed: bool,
    /// The indexer waits for more.
    awaited: bool,
    /// Somebody waits for the indexer.
    wanted: bool,
}

/// How a rest of the indexer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rested {
    Well,
    /// Somebody waits for the index.
    Wanted,
    /// The log is closed.
    Closed,
}

impl Progress {
    pub(super) fn at(segment: u32, len: u64, seq: u64) -> Self {
        Progress { segment, len, seq, ..Progress::default() }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds one of these locks can leave its data half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn closed() -> AuditError {
    AuditError::Unwritable("it is closed because the daemon is stopping; try again once it runs".to_owned())
}

/// However the writer ends, nobody waits for it afterwards.
pub(super) struct Closer(pub(super) Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        let mut inbox = lock(&self.0.inbox);
        inbox.closed = true;
        // Dropping the jobs drops their reply channels, which answers everyone.
        let jobs = inbox.take();
        drop(inbox);
        drop(jobs);
        lock(&self.0.progress).closed = true;
        self.0.grown.notify_all();
        self.0.rested.notify_all();
    }
}

impl Shared {
    pub(super) fn new(receipts: PathBuf, index: PathBuf, progress: Progress) -> Self {
        Shared {
            receipts,
            index,
            inbox: Mutex::default(),
            wake: Condvar::new(),
            progress: Mutex::new(progress),
            grown: Condvar::new(),
            rested: Condvar::new(),
            indexed: watch::Sender::new(0),
            finished: Mutex::new(Some(broadcast::Sender::new(FOLLOW))),
            writes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            late: AtomicU64::new(0),
            entries: AtomicU64::new(0),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        *lock(&self.progress)
    }

    pub(super) fn close(&self) {
        lock(&self.inbox).closing = true;
        self.wake.notify_all();
    }

    pub(super) fn follow(&self) -> broadcast::Receiver<Arc<Receipt>> {
        let sender = lock(&self.finished).clone();
        // From a closed log: a channel that has ended.
        sender.unwrap_or_else(|| broadcast::Sender::new(1)).subscribe()
    }

    /// Tells the followers; `None` ends their streams.
    pub(super) fn publish(&self, receipt: Option<Receipt>) {
        let mut finished = lock(&self.finished);
        match (receipt, finished.as_ref()) {
            // No followers is no error.
            (Some(receipt), Some(sender)) => drop(sender.send(Arc::new(receipt))),
            _ => *finished = None,
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            entries: get(&self.entries),
            writes: get(&self.writes),
            syncs: get(&self.syncs),
            failures: get(&self.failures),
            late: get(&self.late),
        }
    }

    /// Puts it among what waits. Nobody is told.
    pub(super) fn submit(&self, job: Job) -> Result<(), AuditError> {
        let mut inbox = lock(&self.inbox);
        if inbox.closed || inbox.closing {
            return Err(closed());
        }
        if inbox.waiting >= MAX_WAITING {
            return Err(AuditError::Unwritable(format!(
                "{MAX_WAITING} receipts are waiting for the disk, which is too slow or stuck; try again later, and look at its load (`iostat`)"
            )));
        }
        inbox.waiting += 1;
        inbox.synced += usize::from(job.is_synced());
        inbox.jobs.push(job);
        Ok(())
    }

    /// Has the writer's thread look.
    pub(super) fn nudge(&self) {
        lock(&self.inbox).nudged = true;
        self.wake.notify_one();
    }

    /// What waits, if it can be written at once; `None`: there is nothing, or it is for the writer's thread.
    pub(super) fn take_quick(&self) -> Option<Vec<Job>> {
        let mut inbox = lock(&self.inbox);
        (inbox.waiting > 0 && inbox.synced == 0 && !inbox.closing).then(|| inbox.take())
    }

    /// Does somebody wait for the writer?
    pub(super) fn is_waited_for(&self) -> bool {
        lock(&self.inbox).waiting > 0
    }

    /// Counts the refusal if it is one too many of its kind.
    pub(super) fn folds(&self, intent: &Intent) -> bool {
        let mut inbox = lock(&self.inbox);
        if inbox.closed || inbox.fold.write(Instant::now(), Time::now(), intent) {
            return false;
        }
        drop(inbox);
        // The writer must notice when the window ends.
        self.wake.notify_one();
        true
    }

    pub(super) fn close_intent(&self, of: u64, id: RequestId, mut outcome: Outcome) {
        outcome.bound();
        let body = Encoded::new(&Body::Outcome(Closed { id, of, outcome }));
        let mut inbox = lock(&self.inbox);
        if inbox.closed {
            self.late.fetch_add(1, Ordering::Relaxed);
            return;
        }
        inbox.jobs.push(Job::Outcome { body, of });
        let asleep = std::mem::take(&mut inbox.asleep);
        drop(inbox);
        if asleep {
            self.wake.notify_one();
        }
    }

    /// Waits until there is work for the writer's thread, at most until `deadline`.
    pub(super) fn wait(&self, deadline: Option<Instant>) {
        let mut inbox = lock(&self.inbox);
        let mut lingers = None;
        loop {
            let now = Instant::now();
            if !inbox.jobs.is_empty() {
                lingers.get_or_insert(now + LINGER);
            }
            let next = inbox.fold.deadline().into_iter().chain(deadline).chain(lingers).min();
            let due = next.is_some_and(|next| next <= now);
            if inbox.waiting > 0 || inbox.nudged || inbox.closing || due {
                break;
            }
            inbox.asleep = lingers.is_none();
            inbox = match next {
                Some(next) => {
                    self.wake.wait_timeout(inbox, next - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner),
            };
        }
        inbox.asleep = false;
        inbox.nudged = false;
    }

    /// Everything that waits.
    pub(super) fn take(&self) -> Batch {
        let mut inbox = lock(&self.inbox);
        let last = inbox.closing && inbox.jobs.is_empty();
        inbox.closed |= last;
        let folded = inbox.fold.due((!last).then(Instant::now));
        Batch { jobs: inbox.take(), folded, last }
    }

    pub(super) fn accepted(&self, appender: &Appender, seq: u64, head: Option<Head>, entries: usize) {
        self.writes.store(appender.writes, Ordering::Relaxed);
        self.syncs.store(appender.syncs, Ordering::Relaxed);
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
        let mut progress = lock(&self.progress);
        progress.segment = appender.number();
        progress.len = appender.len();
        progress.seq = seq;
        progress.head = head.or(progress.head);
        let awaited = std::mem::take(&mut progress.awaited);
        drop(progress);
        if awaited {
            self.grown.notify_all();
        }
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until the log holds more than entry `seq`; `None` once it holds no more and is closed.
    pub(super) fn grown(&self, seq: u64) -> Option<Progress> {
        let mut progress = lock(&self.progress);
        while progress.seq <= seq {
            if progress.closed {
                return None;
            }
            progress.awaited = true;
            progress = self.grown.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        Some(*progress)
    }

    /// The index is waited for.
    pub(super) fn want_index(&self) {
        lock(&self.progress).wanted = true;
        self.rested.notify_all();
    }

    /// Somebody hears of each receipt.
    pub(super) fn is_followed(&self) -> bool {
        lock(&self.finished).as_ref().is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// The indexer rests a while, or until it is wanted.
    pub(super) fn rest(&self, time: Duration) -> Rested {
        let progress = lock(&self.progress);
        let rested = self.rested.wait_timeout_while(progress, time, |p| !p.closed && !p.wanted);
        let mut progress = rested.unwrap_or_else(PoisonError::into_inner).0;
        match (progress.closed, std::mem::take(&mut progress.wanted)) {
            (true, _) => Rested::Closed,
            (false, true) => Rested::Wanted,
            (false, false) => Rested::Well,
        }
    }
}

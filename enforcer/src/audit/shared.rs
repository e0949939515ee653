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

/// What the handles and the threads have in common.
pub(super) struct Shared {
    pub(super) receipts: PathBuf,
    pub(super) index: PathBuf,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    progress: Mutex<Progress>,
    grown: Condvar,
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
    /// Intents and refusals among the jobs; outcomes always have a place.
    waiting: usize,
    fold: Fold,
    closing: bool,
    closed: bool,
}

/// How far the log reaches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) segment: u32,
    pub(super) len: u64,
    pub(super) seq: u64,
    pub(super) head: Option<Head>,
    closed: bool,
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
        let jobs = std::mem::take(&mut inbox.jobs);
        drop(inbox);
        drop(jobs);
        lock(&self.0.progress).closed = true;
        self.0.grown.notify_all();
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
        inbox.jobs.push(job);
        drop(inbox);
        self.wake.notify_one();
        Ok(())
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
        drop(inbox);
        self.wake.notify_one();
    }

    /// Waits for work, at most until `deadline`.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Batch {
        let mut inbox = lock(&self.inbox);
        loop {
            let now = Instant::now();
            let next = inbox.fold.deadline().into_iter().chain(deadline).min();
            if !inbox.jobs.is_empty() || inbox.closing || next.is_some_and(|next| next <= now) {
                break;
            }
            inbox = match next {
                Some(next) => {
                    self.wake.wait_timeout(inbox, next - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let last = inbox.closing && inbox.jobs.is_empty();
        inbox.closed |= last;
        inbox.waiting = 0;
        let folded = inbox.fold.due((!last).then(Instant::now));
        Batch { jobs: std::mem::take(&mut inbox.jobs), folded, last }
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
        drop(progress);
        self.grown.notify_all();
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
            progress = self.grown.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        Some(*progress)
    }

    /// Waits a while; `false` if the log is closed.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let progress = lock(&self.progress);
        let progress = self.grown.wait_timeout_while(progress, time, |p| !p.closed);
        !progress.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}

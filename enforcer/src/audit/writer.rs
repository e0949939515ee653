//! Writing the log: by one at a time, in the order of the chain.
//!
//! Whoever has an intent to be `written` writes it himself, if nobody is writing and nothing slow is in the way ([`Desk`]); all else
//! is the work of the writer's thread. Either takes everything that waits as one batch: one write for those who asked for `written`, one write and
//! one fdatasync for those who asked for `synced`. What must never be lost (outcomes, counts, the start
//! entry) is kept in memory until it is written; intents and refusals that cannot be written now are
//! refused now, and the next call tries again.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use enforcer_policy::Durability;
use tokio::sync::oneshot;

use super::appender::Appender;
use super::chain::Chain;
use super::clock::Stamp;
use super::entry::{Body, Encoded};
use super::fold::Folded;
use super::guard::RecordGuard;
use super::head::{Head, Signer};
use super::log::AuditError;
use super::record::RequestId;
use super::shared::{Shared, lock};

/// A head after this many entries …
const HEAD_EVERY: u64 = 1000;
/// … or this long after an entry that no head covers.
const HEAD_AFTER: Duration = Duration::from_secs(60);
/// With outcomes waiting for a disk that failed; "recovers within seconds".
const RETRY: Duration = Duration::from_millis(500);

/// A write this slow, and the next ones are left to the thread for a while: callers have other connections to serve. A machine
/// that is merely busy lets us wait for our turn for tens of milliseconds.
const SLOW: Duration = Duration::from_millis(250);
const RECOVERS: Duration = Duration::from_secs(if cfg!(test) { 3600 } else { 5 });
/// Room for a batch; with less left in a segment, the thread rotates.
const BATCH: u64 = 1024 * 1024;

/// Work for the writer.
pub(super) enum Job {
    Begin {
        body: Encoded,
        id: RequestId,
        durability: Durability,
        reply: oneshot::Sender<Result<RecordGuard, AuditError>>,
    },
    Refused {
        body: Encoded,
        reply: oneshot::Sender<Result<(), AuditError>>,
    },
    Outcome {
        body: Encoded,
        of: u64,
    },
    /// Answered once everything before it was tried.
    Mark {
        reply: oneshot::Sender<()>,
    },
}

impl Job {
    pub(super) fn is_synced(&self) -> bool {
        match self {
            Job::Begin { durability, .. } => *durability == Durability::Synced,
            Job::Refused { .. } | Job::Outcome { .. } | Job::Mark { .. } => false,
        }
    }
}

/// Everything that waited.
pub(super) struct Batch {
    pub(super) jobs: Vec<Job>,
    pub(super) folded: Vec<Folded>,
    /// Nothing will come any more.
    pub(super) last: bool,
}

pub(super) enum Item {
    Other(Encoded),
    Opens(Encoded, RequestId),
    Closes(Encoded, u64),
    /// The chain as it is when this is written, signed.
    Head,
}

impl Item {
    fn line_len(&self) -> u64 {
        match self {
            Item::Other(body) | Item::Opens(body, _) | Item::Closes(body, _) => body.line_len(),
            Item::Head => 1024,
        }
    }
}

enum Reply {
    Begin(oneshot::Sender<Result<RecordGuard, AuditError>>, RequestId),
    Refused(oneshot::Sender<Result<(), AuditError>>),
}

impl Reply {
    fn fail(self, error: AuditError) {
        // Whoever asked may be gone; then nobody needs the answer.
        match self {
            Reply::Begin(reply, _) => drop(reply.send(Err(error))),
            Reply::Refused(reply) => drop(reply.send(Err(error))),
        }
    }

    fn done(self, shared: &Arc<Shared>, seq: u64) {
        match self {
            // An answer nobody takes is dropped, here or in the channel, and the guard in it closes the intent.
            Reply::Begin(reply, id) => drop(reply.send(Ok(RecordGuard::new(Arc::clone(shared), id, seq)))),
            Reply::Refused(reply) => drop(reply.send(Ok(()))),
        }
    }
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) appender: Appender,
    pub(super) chain: Chain,
    pub(super) open: BTreeMap<u64, RequestId>,
    pub(super) signer: Signer,
    pub(super) boot: Option<String>,
    pub(super) max_segment: u64,
    /// Must be written, in this order, before anything else.
    pub(super) backlog: Vec<Item>,
    pub(super) state: State,
}

#[derive(Default)]
pub(super) struct State {
    /// Entries no head covers, and since when.
    uncovered: u64,
    uncovered_since: Option<Instant>,
    failing: bool,
    /// There was no room for intents when last asked.
    full: bool,
    slow_until: Option<Instant>,
}

/// Where the writer sits.
pub(super) struct Desk {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
    /// Callers may write.
    open: bool,
}

impl Desk {
    /// With `open`, callers write what is quickly written.
    pub(super) fn new(writer: Writer, open: bool) -> Self {
        Desk { shared: Arc::clone(&writer.shared), writer: Mutex::new(writer), open }
    }

    /// The writer's thread.
    pub(super) fn run(&self) {
        loop {
            let deadline = lock(&self.writer).deadline();
            self.shared.wait(deadline);
            let mut writer = lock(&self.writer);
            let batch = self.shared.take();
            let last = batch.last;
            writer.turn(batch);
            if last {
                writer.stop();
                return;
            }
        }
    }

    /// Brings a job to the writer. When this returns, it has been done, or is the thread's.
    pub(super) fn hand_in(&self, job: Job) -> Result<(), AuditError> {
        self.shared.submit(job)?;
        // Whoever is writing may have looked a moment too early: then it is for us.
        while self.shared.is_waited_for() {
            let Ok(mut writer) = self.writer.try_lock() else { break };
            if !self.open || !writer.is_quick() {
                break;
            }
            let Some(jobs) = self.shared.take_quick() else { break };
            writer.turn_here(jobs);
        }
        if self.shared.is_waited_for() {
            self.shared.nudge();
        }
        Ok(())
    }
}

impl Writer {
    /// Nothing in the way of a write that takes microseconds?
    fn is_quick(&self) -> bool {
        let State { failing, slow_until, .. } = self.state;
        !failing
            && self.backlog.is_empty()
            && self.appender.len() + BATCH <= self.max_segment
            && slow_until.is_none_or(|until| until <= Instant::now())
    }

    /// On the thread of a caller.
    fn turn_here(&mut self, jobs: Vec<Job>) {
        let before = self.deadline().is_some();
        self.turn(Batch { jobs, folded: Vec::new(), last: false });
        if !before && self.deadline().is_some() {
            self.shared.nudge();
        }
    }

    /// The start entry, what the run before left open, and a head, durably. Where that fails now, it is
    /// retried before anything else is written.
    pub(super) fn start(&mut self) {
        let backlog = std::mem::take(&mut self.backlog);
        if let Err(error) = self.flush(&backlog, true) {
            self.failed(&error);
            self.backlog = backlog;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.state.failing {
            return Some(Instant::now() + RETRY);
        }
        self.state.uncovered_since.map(|since| since + HEAD_AFTER)
    }

    fn stop(&mut self) {
        self.backlog.push(Item::Other(Encoded::new(&Body::Stop {})));
        self.backlog.push(Item::Head);
        let backlog = std::mem::take(&mut self.backlog);
        if let Err(error) = self.flush(&backlog, true).and_then(|_seqs| self.appender.finish()) {
            let lost = backlog.len();
            tracing::error!(%error, lost, "the receipt log could not be closed in order; open requests will read `unknown`");
        }
    }

    /// Writes a batch and answers everybody in it.
    fn turn(&mut self, batch: Batch) {
        let mut written = (Vec::new(), Vec::new());
        let mut synced = (Vec::new(), Vec::new());
        let mut intents = 0;
        let mut marks = Vec::new();
        for job in batch.jobs {
            match job {
                Job::Outcome { body, of } => self.backlog.push(Item::Closes(body, of)),
                // Dropped at the end of this turn, however it ends, which is an answer as well.
                Job::Mark { reply } => marks.push(reply),
                Job::Refused { body, reply } => {
                    written.0.push(Item::Other(body));
                    written.1.push(Reply::Refused(reply));
                }
                Job::Begin { body, id, durability, reply } => {
                    intents += body.line_len();
                    let (items, replies) = match durability {
                        Durability::Written => &mut written,
                        Durability::Synced => &mut synced,
                    };
                    items.push(Item::Opens(body, id.clone()));
                    replies.push(Reply::Begin(reply, id));
                }
            }
        }
        self.backlog.extend(batch.folded.into_iter().map(|Folded { example, count, until, last }| {
            Item::Other(Encoded::new(&Body::Folded { intent: example, count, until, last }))
        }));
        let overdue = self.state.uncovered_since.is_some_and(|since| since.elapsed() >= HEAD_AFTER);
        if self.state.uncovered >= HEAD_EVERY || overdue {
            self.backlog.push(Item::Head);
        }

        if intents > 0 {
            // Room for outcomes and refusals is left alone, so that what has begun can still be recorded.
            let waiting: u64 = self.backlog.iter().map(Item::line_len).sum();
            let room = self.appender.reserve(intents + waiting);
            self.state.full = room.is_err();
            if let Err(error) = room {
                let error = self.failed(&error);
                refuse_intents(&mut written, &error);
                refuse_intents(&mut synced, &error);
            }
        }

        let (items, replies) = written;
        let kept = self.backlog.len();
        self.backlog.extend(items);
        let batch = std::mem::take(&mut self.backlog);
        if !batch.is_empty() {
            match self.flush(&batch, false) {
                Ok(seqs) => {
                    let seqs = &seqs[kept..];
                    replies.into_iter().zip(seqs).for_each(|(reply, seq)| reply.done(&self.shared, *seq));
                }
                Err(error) => {
                    let error = self.failed(&error);
                    self.backlog = batch;
                    self.backlog.truncate(kept);
                    self.backlog.retain(|item| !matches!(item, Item::Head));
                    replies.into_iter().chain(synced.1).for_each(|reply| reply.fail(error.clone()));
                    return;
                }
            }
        }

        let (items, replies) = synced;
        if !items.is_empty() {
            match self.flush(&items, true) {
                Ok(seqs) => {
                    replies.into_iter().zip(seqs).for_each(|(reply, seq)| reply.done(&self.shared, seq))
                }
                Err(error) => {
                    let error = self.failed(&error);
                    replies.into_iter().for_each(|reply| reply.fail(error.clone()));
                }
            }
        }
    }

    /// Writes all of `items`, or none; gives their sequence numbers.
    fn flush(&mut self, items: &[Item], sync: bool) -> io::Result<Vec<u64>> {
        let size: u64 = items.iter().map(Item::line_len).sum();
        if self.appender.len() > 0 && self.appender.len() + size > self.max_segment {
            self.appender.rotate()?;
        }
        let mut chain = self.chain;
        let mut head = None;
        let mut lines = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        if self.appender.len() == 0 {
            let open = self.open.iter().map(|(seq, id)| (*seq, id.clone())).collect();
            head = Some(self.seal_head(&mut chain, &mut lines, Some(open)));
        }
        let mut seqs = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Other(body) | Item::Opens(body, _) | Item::Closes(body, _) => {
                    chain.seal(&mut lines, Stamp::now(), self.boot.as_deref(), body);
                }
                Item::Head => head = Some(self.seal_head(&mut chain, &mut lines, None)),
            }
            seqs.push(chain.seq);
        }
        let (before, began) = (self.appender.len(), Instant::now());
        self.appender.append(&lines)?;
        let took = began.elapsed();
        if took >= SLOW {
            tracing::debug!(?took, "a slow write; callers leave receipts to the writer's thread for a while");
            self.state.slow_until = Some(began + took + RECOVERS);
        }
        // After a failed fdatasync the kernel may have dropped the pages, and a second one would lie.
        if sync && let Err(error) = self.appender.sync() {
            self.appender.cut(before);
            return Err(error);
        }
        self.accept(chain, items, &seqs, head);
        Ok(seqs)
    }

    fn seal_head(&self, chain: &mut Chain, lines: &mut Vec<u8>, open: Option<Vec<(u64, RequestId)>>) -> Head {
        let (head, mark) = self.signer.mark(chain, open);
        chain.seal(lines, Stamp::now(), self.boot.as_deref(), &Encoded::new(&Body::Head(mark)));
        head
    }

    fn accept(&mut self, chain: Chain, items: &[Item], seqs: &[u64], head: Option<Head>) {
        self.chain = chain;
        for (item, seq) in items.iter().zip(seqs) {
            match item {
                Item::Opens(_, id) => drop(self.open.insert(*seq, id.clone())),
                Item::Closes(_, of) => drop(self.open.remove(of)),
                Item::Other(_) | Item::Head => {}
            }
            if matches!(item, Item::Head) {
                self.state.uncovered = 0;
                self.state.uncovered_since = None;
            } else {
                self.state.uncovered += 1;
                self.state.uncovered_since.get_or_insert_with(Instant::now);
            }
        }
        if let Some(head) = head {
            // The journal is the first place outside the log that keeps heads.
            tracing::info!(seq = head.seq, %head, "receipt head");
        }
        if self.state.failing && !self.state.full {
            self.state.failing = false;
            tracing::info!("the receipt log can be written again");
        }
        self.shared.accepted(&self.appender, chain.seq, head, items.len());
    }

    fn failed(&mut self, error: &io::Error) -> AuditError {
        let path = self.appender.path();
        let text = format!("{}: {error}; {}", path.display(), next_step(error));
        if !std::mem::replace(&mut self.state.failing, true) {
            tracing::error!(path = %path.display(), %error, next = next_step(error), "the receipt log cannot be written; requests are refused");
        }
        self.shared.failed();
        AuditError::Unwritable(text)
    }
}

fn refuse_intents(group: &mut (Vec<Item>, Vec<Reply>), error: &AuditError) {
    let (items, replies) = std::mem::take(group);
    for (item, reply) in items.into_iter().zip(replies) {
        match item {
            Item::Opens(..) => reply.fail(error.clone()),
            Item::Other(_) | Item::Closes(..) | Item::Head => {
                group.0.push(item);
                group.1.push(reply);
            }
        }
    }
}

fn next_step(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero => {
            "free space on this file system; requests pass again by themselves once there is some"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "make the folder writable for the enforcer's worker; requests pass again by themselves then"
        }
        io::ErrorKind::NotFound => "put the folder back; requests pass again by themselves then",
        _ => {
            "look at the disk (`dmesg`, `smartctl`); requests pass again by themselves once it can be written"
        }
    }
}

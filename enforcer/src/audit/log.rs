//! The handle of the log: what the rest of the daemon may do with receipts.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use enforcer_policy::Durability;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::appender::{self, Appender, Disk, Files};
use super::clock;
use super::entry::{Body, Closed, Encoded, Start};
use super::follow::Follow;
use super::guard::RecordGuard;
use super::head::{self, Head, Signer};
use super::index::{self, Index};
use super::query::Query;
use super::record::{Intent, Outcome, Receipt, RequestId};
use super::recover;
use super::segment::MAX_SEGMENT;
use super::shared::{Closer, Progress, Shared, closed, lock};
use super::verify::{self, Report};
use super::writer::{Desk, Item, Job, State, Writer};

/// How long a question waits for the index to catch up with the log.
const CATCH_UP: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the receipt log cannot be written: {0}")]
    Unwritable(String),
    #[error(
        "the receipt log is damaged: {file}:{line}: {what}. Nothing was changed. Look with `enforcer receipts verify --dir {dir}`; \
         to keep the damaged file and go on in a new segment, start once with `--continue-receipts`"
    )]
    Broken { dir: String, file: String, line: u64, what: String },
    #[error("the receipt log cannot be opened: {0}")]
    Open(String),
    #[error(
        "the index of the receipts cannot be read: {0}; it is rebuilt from the log when `index.db` is removed and the daemon restarted"
    )]
    Index(String),
}

/// How to open the log.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Ed25519 key as PKCS#8 that signs heads; see [`head::new_key`].
    pub key: Option<&'a [u8]>,
    /// An operator has seen that the log is damaged and wants to go on behind the damage.
    pub continue_after_fault: bool,
}

/// Counts since the log was opened, for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub entries: u64,
    /// batches brought to the disk
    pub writes: u64,
    pub syncs: u64,
    /// attempts to write that failed
    pub failures: u64,
    /// outcomes that came after the log was closed; they will read `unknown`
    pub late: u64,
}

/// Narrow, cheap handle. The last one dropped closes the log.
#[derive(Clone)]
pub struct AuditLog {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held for as long as this process may write.
    lock: Mutex<Option<std::fs::File>>,
}

impl AuditLog {
    /// Opens the newest segment under `dir/receipts`, verifies its tail, marks open intents `unknown` and starts
    /// the writer and the indexer (`dir/index.db`). A full disk is no reason not to start: calls fail until it has room.
    pub fn open(dir: &Path, options: Options<'_>) -> Result<Self, AuditError> {
        Self::open_on(Box::new(Files), MAX_SEGMENT, dir, options, true)
    }

    /// With `here`, callers write what is quickly written.
    pub(super) fn open_on(
        disk: Box<dyn Disk>,
        max_segment: u64,
        dir: &Path,
        options: Options<'_>,
        here: bool,
    ) -> Result<Self, AuditError> {
        let receipts = dir.join("receipts");
        let cannot = |what: &str, error: std::io::Error| {
            AuditError::Open(format!("{}: {what}: {error}", receipts.display()))
        };
        appender::make_dir(&receipts).map_err(|error| cannot("cannot make the folder", error))?;
        let held = recover::take_lock(&receipts)?;
        let signer = Signer::new(options.key).map_err(AuditError::Open)?;
        let key_file = receipts.join(head::KEY_FILE);
        let keys = head::read_keys(&key_file).map_err(|error| cannot(head::KEY_FILE, error))?;
        match signer.key() {
            Some(key) => head::keep_key(&key_file, key).map_err(|error| cannot(head::KEY_FILE, error))?,
            None if keys.is_empty() => {}
            None => {
                let file = key_file.display();
                return Err(AuditError::Open(format!(
                    "heads of this log are signed ({file}), but no signing key was given"
                )));
            }
        }
        let tail = recover::tail(&receipts, options.continue_after_fault)?;

        let begin = Progress::at(tail.number, tail.len, tail.chain.seq);
        let shared = Arc::new(Shared::new(receipts, dir.join("index.db"), begin));
        let index_ahead = index::last_seq(&shared.index).filter(|seq| *seq > tail.chain.seq);
        if let Some(seen) = index_ahead {
            tracing::error!(
                log = tail.chain.seq,
                index = seen,
                "the receipt log is shorter than its index: entries at its end are gone"
            );
        }
        if let Some(continued) = &tail.continued {
            tracing::error!(
                file = continued.file,
                line = continued.line,
                fault = continued.fault,
                "receipts go on behind a damaged segment"
            );
        }
        let start = Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            truncated: tail.truncated,
            unknown: tail.open.len() as u64,
            index_ahead,
            continued: tail.continued,
        };
        let unknown = tail.open.iter().map(|(of, id)| {
            let outcome = Outcome {
                end: "unknown".to_owned(),
                error: Some("the enforcer stopped before the outcome was recorded".to_owned()),
                ..Outcome::default()
            };
            Item::Closes(Encoded::new(&Body::Outcome(Closed { id: id.clone(), of: *of, outcome })), *of)
        });
        let backlog = [Item::Other(Encoded::new(&Body::Start(start)))]
            .into_iter()
            .chain(unknown)
            .chain([Item::Head])
            .collect();
        let mut writer = Writer {
            appender: Appender::new(disk, shared.receipts.clone(), tail.number, tail.len),
            chain: tail.chain,
            open: tail.open,
            signer,
            boot: clock::boot_id(),
            max_segment,
            backlog,
            state: State::default(),
            shared: Arc::clone(&shared),
        };
        writer.start();

        let owner =
            Owner { shared: Arc::clone(&shared), threads: Mutex::default(), lock: Mutex::new(Some(held)) };
        let closer = Closer(Arc::clone(&shared));
        let desk = Arc::new(Desk::new(writer, here));
        let of_thread = Arc::clone(&desk);
        owner.spawn("receipt-writer", move || {
            let _closer = closer;
            of_thread.run();
        })?;
        let seen = tail.chain.seq;
        owner.spawn("receipt-index", move || index::run(&shared, seen))?;
        Ok(AuditLog { shared: Arc::clone(&owner.shared), desk, owner: Arc::new(owner) })
    }

    /// Writes the intent of an allowed request; returns when it is as durable as asked (group-committed).
    /// If the caller goes away while waiting, the request is recorded as `cancelled`.
    pub async fn begin(&self, mut intent: Intent, durability: Durability) -> Result<RecordGuard, AuditError> {
        intent.bound();
        let id = intent.id.clone();
        let body = Encoded::new(&Body::Intent(intent));
        let (reply, answer) = oneshot::channel();
        self.desk.hand_in(Job::Begin { body, id, durability, reply })?;
        answer.await.unwrap_or_else(|_gone| Err(closed()))
    }

    /// Writes intent and outcome of a refusal as one entry. In a flood of equal refusals the first ones
    /// are written; the others are counted, and their count is written within about a second.
    pub async fn refused(&self, mut intent: Intent, mut outcome: Outcome) -> Result<(), AuditError> {
        intent.bound();
        outcome.bound();
        if self.shared.folds(&intent) {
            return Ok(());
        }
        let body = Encoded::new(&Body::Refused { intent, outcome });
        let (reply, answer) = oneshot::channel();
        self.desk.hand_in(Job::Refused { body, reply })?;
        answer.await.unwrap_or_else(|_gone| Err(closed()))
    }

    /// Receipts in the order of the log. Includes everything written before the call, unless the index is more than
    /// two seconds behind.
    pub async fn query(&self, query: Query) -> Result<Vec<Receipt>, AuditError> {
        self.read(move |index| index.query(&query)).await
    }

    /// The newest receipt with this id.
    pub async fn get(&self, id: RequestId) -> Result<Option<Receipt>, AuditError> {
        self.read(move |index| index.get(&id)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Index) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, AuditError> {
        self.catch_up().await;
        let path = self.shared.index.clone();
        let answer =
            tokio::task::spawn_blocking(move || Index::read_only(&path).and_then(|index| ask(&index))).await;
        match answer {
            Ok(answer) => answer.map_err(|error| AuditError::Index(error.to_string())),
            Err(error) => Err(AuditError::Index(error.to_string())),
        }
    }

    /// Waits until the index has what was handed in before.
    async fn catch_up(&self) {
        // Outcomes wait for company. Of a closed log everything is written.
        let (reply, written) = oneshot::channel();
        if self.desk.hand_in(Job::Mark { reply }).is_ok() {
            // Answered by being dropped.
            drop(written.await);
        }
        let seq = self.shared.progress().seq;
        let mut indexed = self.shared.indexed.subscribe();
        self.shared.want_index();
        if tokio::time::timeout(CATCH_UP, indexed.wait_for(|seen| *seen >= seq)).await.is_err() {
            tracing::warn!(
                log = seq,
                index = *indexed.borrow(),
                "the index of the receipts is behind the log"
            );
        }
    }

    /// Finished receipts as they come; with `after_seq`, those after it first.
    pub async fn follow(&self, query: Query) -> Result<Follow, AuditError> {
        let query = Query { limit: Some(u32::MAX), ..query };
        self.catch_up().await;
        // Subscribed first: what finishes during the query comes twice and is given once.
        let live = self.shared.follow();
        let past = if query.after_seq.is_some() { self.query(query.clone()).await? } else { Vec::new() };
        Ok(Follow::new(query, past, live))
    }

    /// Checks the whole log as far as it is written now. Reads every segment: give it a thread of its own
    /// (`spawn_blocking`).
    pub fn verify(&self, expected: Option<&Head>) -> std::io::Result<Report> {
        let Progress { segment, len, .. } = self.shared.progress();
        let keys = head::read_keys(&self.shared.receipts.join(head::KEY_FILE))?;
        verify::verify(&self.shared.receipts, &keys, expected, Some((segment, len)))
    }

    /// The newest head in the log, to be kept elsewhere.
    pub fn head(&self) -> Option<Head> {
        self.shared.progress().head
    }

    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Writes what waits, a `stop` entry and a last head, and ends the threads. Blocks for as long as the disk does.
    /// Guards should be gone by now.
    pub fn close(&self) {
        self.owner.close();
    }
}

impl Owner {
    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), AuditError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread =
            thread.map_err(|error| AuditError::Open(format!("cannot start the thread {name}: {error}")))?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    fn close(&self) {
        self.shared.close();
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the receipt log ended with a panic");
            }
        }
        *lock(&self.lock) = None;
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

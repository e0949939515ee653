//! What the tests share: intents, folders, and disks that fail where told.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};

use enforcer_policy::Durability;

use super::super::appender::{Disk, Files, Medium};
use super::super::entry::{self, Entry};
use super::super::segment::{self, MAX_SEGMENT};
use super::super::verify::{Report, verify};
use super::super::*;

pub(super) fn intent(path: &str) -> Intent {
    Intent {
        id: RequestId::random(),
        agent: "github-pr-bot".to_owned(),
        session: "s1".to_owned(),
        cgroup: 4711,
        pid: 42,
        uid: 61600,
        comm: "curl".to_owned(),
        protocol: "https".to_owned(),
        method: Some("POST".to_owned()),
        host: Some("api.github.com".to_owned()),
        port: Some(443),
        path: Some(path.to_owned()),
        template: None,
        action: None,
        query_keys: vec!["page".to_owned()],
        verdict: Verdict::Allow,
        rule: Some("open-pr".to_owned()),
        reason: "allowed".to_owned(),
        policy: Some("abc".to_owned()),
        credential: Some("github@3".to_owned()),
    }
}

pub(super) fn denied(path: &str) -> Intent {
    Intent {
        verdict: Verdict::Deny,
        rule: Some("no-delete".to_owned()),
        reason: "deny_rule".to_owned(),
        ..intent(path)
    }
}

pub(super) fn done() -> Outcome {
    Outcome { end: "done".to_owned(), status: Some(201), total_us: 234_000, ..Outcome::default() }
}

pub(super) fn refused() -> Outcome {
    Outcome { end: "refused".to_owned(), ..Outcome::default() }
}

pub(super) fn open(dir: &Path) -> AuditLog {
    AuditLog::open(dir, Options::default()).unwrap()
}

pub(super) fn small_segments(dir: &Path, size: u64) -> AuditLog {
    AuditLog::open_on(Box::new(Files), size, dir, Options::default(), true).unwrap()
}

pub(super) type Begin = Pin<Box<dyn Future<Output = Result<RecordGuard, AuditError>>>>;

/// Asks for an intent to be written, and does not wait for it.
pub(super) fn submit(log: &AuditLog, path: &str, durability: Durability) -> Begin {
    let (log, intent) = (log.clone(), intent(path));
    let mut begin: Begin = Box::pin(async move { log.begin(intent, durability).await });
    let polled = begin.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    match polled {
        Poll::Pending => begin,
        Poll::Ready(answer) => Box::pin(std::future::ready(answer)),
    }
}

/// Every entry of the log, in order.
pub(super) fn entries(dir: &Path) -> Vec<Entry> {
    let receipts = dir.join("receipts");
    let mut all = Vec::new();
    for number in segment::list(&receipts).unwrap() {
        let text = std::fs::read(segment::path(&receipts, number)).unwrap();
        all.extend(
            text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|line| entry::open(line).unwrap()),
        );
    }
    all
}

pub(super) fn check(dir: &Path, head: Option<&Head>) -> Report {
    let receipts = dir.join("receipts");
    let keys = head::read_keys(&receipts.join(head::KEY_FILE)).unwrap();
    verify(&receipts, &keys, head, None).unwrap()
}

pub(super) fn check_good(dir: &Path) {
    let report = check(dir, None);
    assert_eq!(report.faults, [], "{report:?}");
}

/// The real disk, but each call is counted, can be made to fail, and writes can be held.
#[derive(Clone, Default)]
pub(super) struct Unwell(Arc<Illness>);

#[derive(Default)]
pub(super) struct Illness {
    pub(super) calls: AtomicU64,
    /// Calls that still succeed; negative: all do.
    pub(super) healthy: AtomicI64,
    /// A failing write leaves half of its bytes.
    pub(super) torn: AtomicBool,
    held: Mutex<bool>,
    freed: Condvar,
    /// Writes that are held up.
    waiting: AtomicU64,
}

impl Unwell {
    pub(super) fn new() -> Self {
        let unwell = Unwell::default();
        unwell.heal();
        unwell
    }
    pub(super) fn heal(&self) {
        self.0.healthy.store(-1, Ordering::SeqCst);
    }
    pub(super) fn fail_after(&self, calls: i64, torn: bool) {
        self.0.torn.store(torn, Ordering::SeqCst);
        self.0.healthy.store(calls, Ordering::SeqCst);
    }
    pub(super) fn waiting(&self) -> u64 {
        self.0.waiting.load(Ordering::SeqCst)
    }
    pub(super) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }
    pub(super) fn hold(&self, held: bool) {
        *self.0.held.lock().unwrap() = held;
        self.0.freed.notify_all();
    }
    /// Written by the writer's thread, so that a held disk holds nobody else.
    pub(super) fn log(&self, dir: &Path) -> Result<AuditLog, AuditError> {
        AuditLog::open_on(Box::new(self.clone()), MAX_SEGMENT, dir, Options::default(), false)
    }
    pub(super) fn log_here(&self, dir: &Path) -> Result<AuditLog, AuditError> {
        AuditLog::open_on(Box::new(self.clone()), MAX_SEGMENT, dir, Options::default(), true)
    }

    fn call(&self) -> io::Result<()> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let left = self
            .0
            .healthy
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left - i64::from(left > 0)));
        if left == Ok(0) { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

impl Disk for Unwell {
    fn open(&mut self, path: &Path) -> io::Result<Box<dyn Medium>> {
        self.call()?;
        Ok(Box::new((self.clone(), Files.open(path)?)))
    }
}

impl Medium for (Unwell, Box<dyn Medium>) {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let held = self.0.0.held.lock().unwrap();
        self.0.0.waiting.fetch_add(1, Ordering::SeqCst);
        drop(self.0.0.freed.wait_while(held, |held| *held).unwrap());
        self.0.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.call().or_else(|error| {
            if self.0.0.torn.load(Ordering::SeqCst) {
                self.1.write_at(&bytes[..bytes.len() / 2], at)?;
            }
            Err(error)
        })?;
        self.1.write_at(bytes, at)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.call()?;
        self.1.sync()
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.call()?;
        self.1.truncate(len)
    }
    fn reserve(&mut self, at: u64, len: u64) -> io::Result<()> {
        self.0.call()?;
        self.1.reserve(at, len)
    }
}

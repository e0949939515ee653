//! Guards, group commit, durability, rotation, floods.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use enforcer_policy::Durability::{Synced, Written};

use super::super::entry::Body;
use super::super::*;
use super::stage::*;

fn outcomes(dir: &std::path::Path, id: &RequestId) -> Vec<String> {
    let ends = entries(dir).into_iter().filter_map(|entry| match entry.body {
        Body::Outcome(closed) if closed.id == *id => Some(closed.outcome.end),
        _ => None,
    });
    ends.collect()
}

#[tokio::test]
async fn an_operation_has_one_intent_and_one_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let guard = log.begin(intent("/a"), Synced).await.unwrap();
    let id = guard.id().clone();
    guard.finish(done());
    log.close();
    assert_eq!(outcomes(dir.path(), &id), ["done"]);
    check_good(dir.path());
    let kinds: Vec<_> = entries(dir.path())
        .iter()
        .map(|e| format!("{:?}", e.body).split(['(', ' ', '{']).next().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["Head", "Start", "Head", "Intent", "Outcome", "Stop", "Head"]);
}

#[tokio::test]
async fn a_dropped_guard_writes_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let guard = log.begin(intent("/a"), Written).await.unwrap();
    let id = guard.id().clone();
    drop(guard);
    log.close();
    assert_eq!(outcomes(dir.path(), &id), ["cancelled"]);
}

#[tokio::test]
async fn a_caller_that_goes_away_while_waiting_leaves_no_open_intent() {
    let dir = tempfile::tempdir().unwrap();
    let unwell = Unwell::new();
    let log = unwell.log(dir.path()).unwrap();
    unwell.hold(true);
    let lost = intent("/a");
    let id = lost.id.clone();
    let waited = tokio::time::timeout(Duration::from_millis(20), log.begin(lost, Written)).await;
    assert!(waited.is_err());
    unwell.hold(false);
    // Written after the caller had gone; the guard nobody took closes it.
    while log.get(id.clone()).await.unwrap().is_none_or(|receipt| receipt.outcome.is_none()) {
        tokio::task::yield_now().await;
    }
    log.close();
    assert_eq!(outcomes(dir.path(), &id), ["cancelled"]);
}

/// Without waiting for another thread: the first look at the future has the answer.
fn at_once(log: &AuditLog, path: &str) -> Option<Result<RecordGuard, AuditError>> {
    let mut begin = std::pin::pin!(log.begin(intent(path), Written));
    match begin.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[test]
fn a_caller_writes_its_intent_itself_and_outcomes_that_wait_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut own = 0;
    while own < 10 {
        // The thread may be at it just now: it writes outcomes that no intent came for.
        match at_once(&log, "/a") {
            Some(begun) => {
                begun.unwrap().finish(done());
                own += 1;
            }
            None => std::thread::yield_now(),
        }
    }
    log.close();
    check_good(dir.path());
    let ends = entries(dir.path())
        .into_iter()
        .filter(|e| matches!(&e.body, Body::Outcome(c) if c.outcome.end == "done"));
    assert_eq!(ends.count(), 10);
}

#[tokio::test]
async fn an_outcome_is_written_without_a_further_intent() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let before = log.stats();
    log.begin(intent("/a"), Written).await.unwrap().finish(done());
    while log.stats().entries - before.entries < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(entries(dir.path()).iter().filter(|e| matches!(e.body, Body::Outcome(_))).count(), 1);
}

#[test]
fn after_a_slow_write_callers_leave_it_to_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let unwell = Unwell::new();
    let log = unwell.log_here(dir.path()).unwrap();
    let before = log.stats();
    unwell.hold(true);
    let slow = std::thread::spawn({
        let log = log.clone();
        move || drop(at_once(&log, "/slow"))
    });
    while unwell.waiting() == 0 {
        std::thread::yield_now();
    }
    // Meanwhile others are not held up.
    assert!(at_once(&log, "/beside").is_none());
    std::thread::sleep(Duration::from_millis(300));
    unwell.hold(false);
    slow.join().unwrap();
    while log.stats().entries == before.entries {
        std::thread::yield_now();
    }
    unwell.hold(true);
    assert!(at_once(&log, "/after").is_none());
    unwell.hold(false);
    log.close();
    check_good(dir.path());
}

#[tokio::test]
async fn a_thousand_begins_share_their_writes() {
    for durability in [Written, Synced] {
        let dir = tempfile::tempdir().unwrap();
        let unwell = Unwell::new();
        let log = unwell.log(dir.path()).unwrap();
        unwell.hold(true);
        let before = log.stats();
        let begins: Vec<_> = (0..1000).map(|n| submit(&log, &format!("/{n}"), durability)).collect();
        unwell.hold(false);
        let mut guards = Vec::new();
        for begin in begins {
            guards.push(begin.await.unwrap());
        }
        let stats = log.stats();
        // The first may have been on its way alone; all others were waiting and go together.
        assert!(stats.writes - before.writes <= 2, "{stats:?}");
        assert_eq!(stats.entries - before.entries, 1000);
        assert!(
            if durability == Synced { stats.syncs - before.syncs <= 2 } else { stats.syncs == before.syncs },
            "{stats:?}"
        );
        guards.into_iter().for_each(|guard| guard.finish(done()));
        log.close();
        check_good(dir.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_a_real_disk_too_writes_are_far_fewer_than_begins() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let before = log.stats();
    let begins: Vec<_> = (0..1000)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(
                async move { log.begin(intent(&format!("/{n}")), Synced).await.unwrap().finish(done()) },
            )
        })
        .collect();
    for begin in begins {
        begin.await.unwrap();
    }
    let stats = log.stats();
    println!(
        "1000 synced begins: {} writes, {} fdatasyncs",
        stats.writes - before.writes,
        stats.syncs - before.syncs
    );
    assert!(stats.syncs - before.syncs < 500, "{stats:?}");
    log.close();
    check_good(dir.path());
}

#[tokio::test]
async fn segments_rotate_and_an_open_intent_survives_the_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let log = small_segments(dir.path(), 8 * 1024);
    let long = log.begin(intent("/long"), Written).await.unwrap();
    let id = long.id().clone();
    for n in 0..60 {
        log.begin(intent(&format!("/{n}")), Written).await.unwrap().finish(done());
    }
    // As if killed: the guard never gets to say anything.
    std::mem::forget(long);
    log.close();
    drop(log);
    let segments = std::fs::read_dir(dir.path().join("receipts")).unwrap().count() - 1;
    assert!(segments > 4, "{segments} segments");
    check_good(dir.path());
    let log = small_segments(dir.path(), 8 * 1024);
    let receipt = log.get(id.clone()).await.unwrap().unwrap();
    assert_eq!(receipt.outcome.unwrap().end, "unknown");
    drop(log);
    assert_eq!(outcomes(dir.path(), &id), ["unknown"]);
    // Once only.
    drop(open(dir.path()));
    assert_eq!(outcomes(dir.path(), &id), ["unknown"]);
    check_good(dir.path());
}

#[tokio::test]
async fn a_flood_of_equal_refusals_is_folded_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for n in 0..100_000 {
        log.refused(denied(&format!("/{n}")), refused()).await.unwrap();
    }
    // Others are not drowned.
    let other = Intent { agent: "other".to_owned(), ..denied("/quiet") };
    log.refused(other, refused()).await.unwrap();
    log.close();
    let (mut written, mut counted, mut quiet) = (0, 0, 0);
    for entry in entries(dir.path()) {
        match entry.body {
            Body::Refused { intent, .. } if intent.agent == "other" => quiet += 1,
            Body::Refused { .. } => written += 1,
            Body::Folded { count, .. } => counted += count,
            _ => {}
        }
    }
    assert_eq!((written + counted, quiet), (100_000, 1));
    assert!(written < 1_000, "{written} written one by one");
}

#[tokio::test]
async fn a_flood_of_different_refusals_is_bounded_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for n in 0..50_000 {
        let flood = Intent { host: Some(format!("h{n}.example.com")), ..denied("/") };
        log.refused(flood, refused()).await.unwrap();
    }
    log.close();
    let seconds = 1 + entries(dir.path()).iter().map(|e| e.time.seconds()).max().unwrap()
        - entries(dir.path())[0].time.seconds();
    let all = entries(dir.path());
    let bound = usize::try_from(seconds).unwrap() * (100 + 257) + 20;
    assert!(all.len() < bound, "{} entries in {seconds} s", all.len());
    let total: u64 = all
        .iter()
        .map(|e| match &e.body {
            Body::Refused { .. } => 1,
            Body::Folded { count, .. } => *count,
            _ => 0,
        })
        .sum();
    assert_eq!(total, 50_000);
}

#[tokio::test]
async fn a_folded_count_is_written_within_seconds_without_further_requests() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for _ in 0..30 {
        log.refused(denied("/x"), refused()).await.unwrap();
    }
    let all_counted = async {
        loop {
            let found = log.query(Query { denied: true, ..Query::default() }).await.unwrap();
            if found.iter().map(|receipt| receipt.count).sum::<u64>() == 30 {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(10), all_counted).await.unwrap();
    assert!(found.iter().all(|receipt| receipt.outcome.as_ref().unwrap().end == "refused"));
    assert!(found.iter().any(|receipt| receipt.until.is_some()));
}

#[tokio::test]
async fn texts_an_agent_chooses_are_bounded_and_cannot_break_lines() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let hostile = Intent {
        path: Some("/\"}\n{\"seq\":1,\"kind\":\"stop\"\u{202e}\u{1b}[2J".repeat(2000)),
        comm: "=cmd()\n".to_owned(),
        query_keys: vec!["k".repeat(500); 500],
        ..intent("/")
    };
    let id = hostile.id.clone();
    log.begin(hostile, Written).await.unwrap().finish(done());
    let receipt = log.get(id).await.unwrap().unwrap();
    assert!(receipt.intent.path.unwrap().len() < 8300 && receipt.intent.query_keys.len() == 65);
    assert_eq!(receipt.intent.comm, "=cmd()\n");
    log.close();
    check_good(dir.path());
    let text = std::fs::read_to_string(dir.path().join("receipts/00000001.log")).unwrap();
    assert!(text.chars().all(|c| c == '\n' || !crate::text::hidden(c)));
    assert_eq!(text.lines().count(), entries(dir.path()).len());
}

#[test]
fn two_processes_cannot_write_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    let Err(second) = AuditLog::open(dir.path(), Options::default()) else { panic!("opened twice") };
    assert!(second.to_string().contains("another process writes receipts here"), "{second}");
}

#[tokio::test]
async fn nothing_begins_after_the_close() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let late = log.begin(intent("/late"), Written).await.unwrap();
    log.close();
    let error = log.begin(intent("/"), Written).await.unwrap_err();
    assert!(error.to_string().contains("stopping"), "{error}");
    assert!(log.refused(denied("/"), refused()).await.is_err());
    late.finish(done());
    assert_eq!(log.stats().late, 1);
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("receipts")).unwrap();
    open(dir.path()).close();
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("receipts"), 0o700);
    assert_eq!(mode("receipts/00000001.log"), 0o600);
    assert_eq!(mode("index.db"), 0o600);
}

//! Full and failing disks: refused with a reason, nothing half written, back by itself.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use enforcer_policy::Durability::{self, Synced, Written};

use super::super::*;
use super::stage::*;

fn unwritable(error: &AuditError) -> &str {
    match error {
        AuditError::Unwritable(reason) => reason,
        other => panic!("{other}"),
    }
}

/// Every single call to the disk fails once, and everything after it, for each kind of request; then it heals.
#[tokio::test]
async fn a_failure_at_any_call_refuses_and_heals() {
    for (durability, here) in [(Written, false), (Written, true), (Synced, false)] {
        for torn in [false, true] {
            for healthy in 0.. {
                let dir = tempfile::tempdir().unwrap();
                let unwell = Unwell::new();
                let log = if here { unwell.log_here(dir.path()) } else { unwell.log(dir.path()) }.unwrap();
                let calls = unwell.calls();
                unwell.fail_after(healthy, torn);
                let mut acknowledged = Vec::new();
                let mut failures = 0;
                for n in 0..3 {
                    match log.begin(intent(&format!("/{n}")), durability).await {
                        Ok(guard) => {
                            acknowledged.push(guard.id().clone());
                            guard.finish(done());
                        }
                        Err(error) => {
                            failures += 1;
                            let reason = unwritable(&error);
                            assert!(
                                reason.contains("os error 5") && reason.contains("requests pass again"),
                                "{reason}"
                            );
                        }
                    }
                }
                let used = i64::try_from(unwell.calls() - calls).unwrap();
                unwell.heal();
                let guard = log.begin(intent("/healed"), durability).await.unwrap();
                acknowledged.push(guard.id().clone());
                guard.finish(done());
                log.close();
                check_good(dir.path());
                let receipts = reread(dir.path()).await;
                for id in &acknowledged {
                    let receipt = receipts.iter().find(|r| r.intent.id == *id).unwrap();
                    assert_eq!(receipt.outcome.as_ref().unwrap().end, "done");
                }
                assert_eq!(receipts.len(), acknowledged.len(), "what was refused is not in the log");
                if failures == 0 && used <= healthy {
                    assert!(healthy >= 3, "the loop saw no call fail");
                    break;
                }
            }
        }
    }
}

async fn reread(dir: &Path) -> Vec<Receipt> {
    open(dir).query(Query::default()).await.unwrap()
}

#[tokio::test]
async fn outcomes_wait_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let unwell = Unwell::new();
    let log = unwell.log(dir.path()).unwrap();
    let guard = log.begin(intent("/a"), Written).await.unwrap();
    let id = guard.id().clone();
    unwell.fail_after(0, true);
    guard.finish(done());
    assert!(log.begin(intent("/b"), Written).await.is_err());
    unwell.heal();
    // No further request is needed.
    let since = Instant::now();
    while log.get(id.clone()).await.unwrap().unwrap().outcome.is_none() {
        assert!(since.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let unwell = Unwell::new();
    let log = unwell.log(dir.path()).unwrap();
    unwell.hold(true);
    // One full queue that the writer has taken and cannot write, and one behind it.
    let waiting: Vec<_> = (0..17_000).map(|_| submit(&log, "/", Written)).collect();
    unwell.hold(false);
    let mut passed = 0;
    for begin in waiting {
        match begin.await {
            Ok(guard) => {
                passed += 1;
                guard.finish(done());
            }
            Err(error) => assert!(unwritable(&error).contains("waiting for the disk"), "{error}"),
        }
    }
    assert!((8192..=2 * 8192).contains(&passed), "{passed}");
    log.close();
    check_good(dir.path());
}

#[test]
fn a_log_that_cannot_be_written_yet_opens_and_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let unwell = Unwell::new();
    unwell.fail_after(0, false);
    let log = unwell.log(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert!(log.begin(intent("/"), Written).await.is_err());
        unwell.heal();
        log.begin(intent("/"), Written).await.unwrap().finish(done());
    });
    log.close();
    check_good(dir.path());
}

const TMPFS: &str = "ENFORCER_TEST_TMPFS";

/// A file system of 1 MiB, in a mount namespace of its own.
#[test]
fn a_full_file_system_refuses_with_a_reason_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let root = rustix::process::geteuid().is_root();
    let script = r#"mount -t tmpfs -o size=1m none "$ENFORCER_TEST_TMPFS" && exec "$0" --exact audit::tests::disk::on_the_small_file_system --nocapture --test-threads=1"#;
    let child = Command::new("unshare")
        .arg(if root { "-m" } else { "-Urm" })
        .args(["sh", "-ec", script])
        .arg(std::env::current_exe().unwrap())
        .env(TMPFS, dir.path())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{out}\n{}", String::from_utf8_lossy(&child.stderr));
    assert!(out.contains("filled, refused, recovered"), "the inner test did not run: {out}");
}

/// The inner half of the test above; alone it has nothing to do.
#[test]
fn on_the_small_file_system() {
    let Some(dir) = std::env::var_os(TMPFS) else { return };
    let dir = Path::new(&dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for durability in [Written, Synced] {
        runtime.block_on(fill_and_recover(dir, durability));
    }
    println!("filled, refused, recovered");
}

async fn fill_and_recover(dir: &Path, durability: Durability) {
    let log = open(dir);
    // What takes the space is not ours, as in life.
    let filler = dir.join("filler");
    std::fs::write(&filler, vec![0; 300 * 1024]).unwrap();
    let mut open_guards = vec![log.begin(intent("/early"), durability).await.unwrap()];
    let mut began = 0;
    let error = loop {
        match log.begin(intent(&format!("/{}", "x".repeat(2000))), durability).await {
            Ok(guard) if open_guards.len() < 20 => open_guards.push(guard),
            Ok(guard) => guard.finish(done()),
            Err(error) => break error,
        }
        began += 1;
        assert!(began < 2000, "the file system never got full");
    };
    let reason = unwritable(&error);
    assert!(reason.contains("No space left") && reason.contains("free space"), "{reason}");
    // What has begun can still be finished, and refusals can still be written.
    let ids: Vec<_> = open_guards.iter().map(|guard| guard.id().clone()).collect();
    open_guards.into_iter().for_each(|guard| guard.finish(done()));
    log.refused(denied("/while-full"), refused()).await.unwrap();
    assert!(log.begin(intent("/still-full"), durability).await.is_err());

    std::fs::remove_file(&filler).unwrap();
    let freed = Instant::now();
    log.begin(intent("/again"), durability).await.unwrap().finish(done());
    assert!(freed.elapsed() < Duration::from_secs(60));
    log.close();
    check_good(dir);
    let ends: std::collections::HashMap<_, _> = entries(dir)
        .into_iter()
        .filter_map(|entry| match entry.body {
            super::super::entry::Body::Outcome(closed) => Some((closed.id, closed.outcome.end)),
            _ => None,
        })
        .collect();
    assert!(ids.iter().all(|id| ends.get(id).is_some_and(|end| end == "done")));
    drop(log);
    std::fs::remove_dir_all(dir.join("receipts")).unwrap();
    ["index.db", "index.db-wal", "index.db-shm"]
        .iter()
        .for_each(|file| drop(std::fs::remove_file(dir.join(file))));
}

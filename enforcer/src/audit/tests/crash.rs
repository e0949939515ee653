//! kill -9 at random points: what was acknowledged is there, what was open reads `unknown`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use enforcer_policy::Durability::{Synced, Written};

use super::super::entry::Body;
use super::super::*;
use super::stage::*;

const DIR: &str = "ENFORCER_TEST_CRASH_DIR";
const RUNS: usize = 60;
/// How far the child may be ahead of us, some 900 lines: more than it writes in the longest wait before a kill, and so
/// little that a machine which lets us wait for our turn does not fill the log by the hundred thousand.
const AHEAD: usize = 16 * 1024;

#[test]
fn kill_9_loses_no_acknowledged_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for run in 0..RUNS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit::tests::crash::writes_until_killed", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        rustix::pipe::fcntl_setpipe_size(&out, AHEAD).unwrap();
        let mut out = BufReader::new(out);
        // Kill at a random moment, once it is writing: after some lines and up to 8 ms.
        let random: [u8; 2] = ring::rand::generate(&ring::rand::SystemRandom::new()).unwrap().expose();
        let mut lines = Vec::new();
        let mut line = String::new();
        while lines.len() < usize::from(random[0]) && out.read_line(&mut line).unwrap() > 0 {
            lines.extend(line.trim().strip_prefix("ack ").map(str::to_owned));
            line.clear();
        }
        std::thread::sleep(Duration::from_micros(u64::from(random[1]) * 32));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts too, except a line it did not finish.
        while out.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            lines.extend(line.trim().strip_prefix("ack ").map(str::to_owned));
            line.clear();
        }
        assert!(!lines.is_empty() || random[0] == 0, "run {run}: the child wrote nothing");
        acknowledged.extend(lines);

        drop(open(dir.path()));
    }
    check_good(dir.path());
    check_all_present(dir.path(), &acknowledged);
}

fn check_all_present(dir: &Path, acknowledged: &[String]) {
    let mut begun = std::collections::HashMap::new();
    let mut refused = std::collections::HashSet::new();
    let mut torn = 0;
    for entry in entries(dir) {
        match entry.body {
            Body::Start(start) => torn += u32::from(start.truncated > 0),
            Body::Intent(intent) => drop(begun.insert(intent.id.0.to_string(), Vec::new())),
            Body::Outcome(closed) => begun.get_mut(&*closed.id.0).unwrap().push(closed.outcome.end),
            Body::Refused { intent, .. } => drop(refused.insert(intent.id.0.to_string())),
            _ => {}
        }
    }
    let lost: Vec<_> =
        acknowledged.iter().filter(|id| !begun.contains_key(*id) && !refused.contains(*id)).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
    for (id, ends) in &begun {
        assert_eq!(ends.len(), 1, "{id}: {ends:?}");
    }
    let unknown = begun.values().filter(|ends| ends[0] == "unknown").count();
    let (all, acknowledged) = (begun.len() + refused.len(), acknowledged.len());
    println!("{RUNS} kills, {acknowledged} of {all} acknowledged, {unknown} unknown, {torn} torn last lines");
    assert!(unknown > 0, "no kill left an open intent: the test kills at the wrong moments");
}

/// The process that is killed; alone it has nothing to do.
#[test]
fn writes_until_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let log = small_segments(Path::new(&dir), 64 * 1024);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let say = |id: &RequestId| {
        // One write system call per line: a pipe keeps it whole.
        let line = format!("ack {id}\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    };
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for task in 0..8_u32 {
            let log = log.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0.. {
                    let path = format!("/{task}/{n}");
                    if n % 5 == 4 {
                        let refusal = Intent {
                            host: Some(format!("{task}-{n}.example.com")),
                            agent: format!("a{task}-{n}"),
                            ..denied(&path)
                        };
                        let id = refusal.id.clone();
                        log.refused(refusal, refused()).await.unwrap();
                        say(&id);
                    } else {
                        let durability = if task % 4 == 0 { Synced } else { Written };
                        let guard = log.begin(intent(&path), durability).await.unwrap();
                        say(guard.id());
                        tokio::task::yield_now().await;
                        guard.finish(done());
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[tokio::test]
async fn a_torn_last_line_is_cut_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.begin(intent("/a"), Written).await.unwrap().finish(done());
    log.close();
    drop(log);
    let file = dir.path().join("receipts/00000001.log");
    let whole = std::fs::read(&file).unwrap();
    for torn in [b"{".as_slice(), b"{\"seq\":8,\"time\"", &[0; 4096]] {
        std::fs::write(&file, [whole.as_slice(), torn].concat()).unwrap();
        open(dir.path()).close();
        check_good(dir.path());
        let starts = entries(dir.path()).into_iter().filter_map(|e| match e.body {
            Body::Start(s) => Some(s.truncated),
            _ => None,
        });
        assert_eq!(starts.last(), Some(torn.len() as u64));
    }
}

#[test]
fn a_crash_right_after_a_rotation_is_no_damage() {
    for leftover in [b"".as_slice(), b"{\"seq\":"] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).close();
        std::fs::write(dir.path().join("receipts/00000002.log"), leftover).unwrap();
        open(dir.path()).close();
        check_good(dir.path());
        assert_eq!(check(dir.path(), None).segments, 2);
    }
}

#[tokio::test]
async fn a_broken_chain_stops_the_start_until_an_operator_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let early = log.begin(intent("/early"), Written).await.unwrap();
    let id = early.id().clone();
    early.finish(done());
    for n in 0..5 {
        log.begin(intent(&format!("/{n}")), Written).await.unwrap().finish(done());
    }
    drop(log);
    let file = dir.path().join("receipts/00000001.log");
    let text = std::fs::read_to_string(&file).unwrap();
    let damaged: Vec<_> = text
        .lines()
        .enumerate()
        .map(
            |(n, line)| {
                if n == 7 { line.replace("POST", "GETT").replace("done", "gone") } else { line.to_owned() }
            },
        )
        .collect();
    std::fs::write(&file, damaged.join("\n") + "\n").unwrap();

    let Err(error) = AuditLog::open(dir.path(), Options::default()) else { panic!("opened") };
    let said = error.to_string();
    assert!(said.contains("00000001.log:8:") && said.contains("--continue-receipts"), "{said}");
    assert!(!dir.path().join("receipts/00000002.log").exists());

    let go_on = Options { continue_after_fault: true, ..Options::default() };
    let log = AuditLog::open(dir.path(), go_on).unwrap();
    log.begin(intent("/after"), Written).await.unwrap().finish(done());
    // The index still knows what can be read.
    assert!(log.get(id).await.unwrap().is_some());
    drop(log);
    // From now on it starts without being told again, and later damage is seen behind the known one.
    drop(open(dir.path()));
    let report = check(dir.path(), None);
    assert_eq!(report.faults.len(), 1);
    assert!(report.faults[0].known && report.faults[0].line == 8 && report.is_good(), "{report:?}");
    let file = dir.path().join("receipts/00000002.log");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("/after", "/other", 1)).unwrap();
    let report = check(dir.path(), None);
    assert_eq!(report.faults.len(), 2);
    assert!(!report.is_good() && report.faults[1].file == "00000002.log", "{report:?}");
}

//! The kill switch and the cut-off, as a person uses them while an agent is at work.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use enforcer_tests::world::{Daemon, Running, World, cgroup_root, plan};

const LIMIT: Duration = Duration::from_secs(60);
const POLICY: &str = r#"
version: 1
agent: bot
credentials:
  api: { bearer: { secret: api-token, env: API_TOKEN } }
allow:
  - { name: slow, host: api.example.test, methods: GET, paths: "/slow", credential: api }
  - { name: read, host: api.example.test, methods: GET, paths: "/v1/**", credential: api }
"#;

/// An agent at work: a download of minutes, and a loop of short requests. What they do can be read in files.
struct Work {
    agent: Option<Running>,
    session: std::path::PathBuf,
    dir: std::path::PathBuf,
}

impl Work {
    fn start(daemon: &Daemon<'_>) -> Self {
        let dir = daemon.world.dir.join("work");
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
        let d = dir.display();
        let script = format!(
            "cd {d}; exec > /dev/null 2>&1\n\
             (curl -sS -N -o download -m 300 https://api.example.test/slow 2> download.error; echo $? > download.code) &\n\
             while :; do curl -s -o /dev/null -m 2 -w '%{{http_code}}\\n' https://api.example.test/v1/loop >> loop; \
             date +%s.%N > tick; sleep 0.05; done"
        );
        let agent = daemon.spawn_agent("bot", &["sh", "-c", &script]).unwrap();
        wait("the download runs", || fs::metadata(dir.join("download")).is_ok_and(|file| file.len() > 0));
        let work = Work { agent: Some(agent), session: session(daemon), dir };
        wait("the agent is served", || work.last() == "200");
        work
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    fn downloaded(&self) -> u64 {
        fs::metadata(self.dir.join("download")).map_or(0, |file| file.len())
    }

    /// How the latest short request ended.
    fn last(&self) -> String {
        self.file("loop").lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            // A frozen one dies of this, too.
            fs::write(self.session.join("cgroup.kill"), "1").unwrap();
            agent.child.kill().unwrap();
            agent.finish(Duration::from_secs(2)).unwrap();
        }
    }
}

/// What a connect says to the agent.
fn connect(daemon: &Daemon<'_>) -> String {
    let script = "import socket, sys\n\
        try:\n  s = socket.socket(); s.settimeout(3); s.connect((sys.argv[1], 443)); print('connected')\n\
        except OSError as e: print(e.errno)";
    // In the cgroup of the running session: a new one is not launched for a disabled agent.
    let session = session(daemon);
    let procs = session.join("cgroup.procs");
    let pid = fs::read_to_string(&procs).unwrap().lines().next().unwrap().to_owned();
    let line = format!(
        "echo $$ > {} && exec nsenter --net=/proc/{pid}/ns/net -- /usr/bin/python3 -c \"$0\" {}",
        procs.display(),
        plan::SERVER_V4
    );
    let output = daemon.world.on_host(&["sh", "-c", &line, script]).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
}

fn session(daemon: &Daemon<'_>) -> std::path::PathBuf {
    let root = cgroup_root().unwrap().join(&daemon.settings.managed_root);
    let mut found = fs::read_dir(root).unwrap().flatten().map(|e| e.path()).filter(|p| p.is_dir());
    found.next().expect("a session")
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Nothing goes on: not a byte of the download, not a request upstream.
fn still(world: &World, work: &Work) {
    let (bytes, asked) = (work.downloaded(), world.seen().iter().filter(|s| s.uri == "/v1/loop").count());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(work.downloaded(), bytes);
    assert_eq!(world.seen().iter().filter(|s| s.uri == "/v1/loop").count(), asked);
}

#[test]
fn a_disabled_agent_is_cut_at_once_stays_off_over_restarts_and_works_again_when_enabled() {
    let world = World::new().unwrap();
    let mut daemon = world.serving(POLICY).unwrap();
    let work = Work::start(&daemon);
    // With the switch on: the same connect works.
    assert_eq!(connect(&daemon), "connected");

    daemon.cli_ok(&["agent", "disable", "bot", "--reason", "it went wild"]).unwrap();
    wait("the agent knows that its download broke off", || !work.file("download.code").is_empty());
    assert_ne!(work.file("download.code").trim(), "0", "a broken download must not look whole");
    wait("the loop is shut in", || work.last() == "000");
    let mark = world.sniffer.mark();
    still(&world, &work);
    // The other leg is gone, too: the server hears nothing but the end.
    assert!(world.sniffer.since(mark).is_empty(), "{:?}", world.sniffer.since(mark));
    assert_eq!(connect(&daemon), "1", "EPERM, from the kernel");

    let refused = daemon.run_agent("bot", &["true"]).unwrap();
    assert_eq!(refused.code, Some(125), "{refused}");
    assert!(
        refused.stderr.contains("it went wild") && refused.stderr.contains("enforcer agent enable bot"),
        "{refused}"
    );
    let agents = daemon.cli_ok(&["agents"]).unwrap();
    assert!(agents.contains("disabled"), "{agents}");
    assert!(daemon.cli_ok(&["status"]).unwrap().contains("bot is disabled"));
    let receipts = daemon.receipts().unwrap();
    let slow = receipts.iter().find(|r| r["path"] == "/slow").unwrap();
    assert_eq!(
        (slow["outcome"]["end"].as_str(), slow["outcome"]["error"].as_str()),
        (Some("cut"), Some("the agent was disabled"))
    );
    assert!(
        receipts.iter().any(|r| r["reason"] == "agent_disabled" && r["method"] == "disable" && r["uid"] == 0),
        "{receipts:?}"
    );

    daemon.restart().unwrap();
    still(&world, &work);
    assert_eq!((connect(&daemon).as_str(), work.last().as_str()), ("1", "000"), "after a restart");
    daemon.kill9().unwrap();
    daemon.start().unwrap();
    still(&world, &work);
    assert_eq!((connect(&daemon).as_str(), work.last().as_str()), ("1", "000"), "after kill -9");
    // The worker alone: the kernel keeps what it was told.
    let worker = daemon.ours(&["worker"]);
    for pid in &worker {
        world.on_host(&["kill", "-9", &pid.to_string()]).status().unwrap();
    }
    wait("the next worker serves", || {
        !daemon.ours(&["worker"]).is_empty() && daemon.ours(&["worker"]) != worker
    });
    still(&world, &work);
    assert_eq!(connect(&daemon), "1", "after the end of the worker");

    daemon.cli_ok(&["agent", "enable", "bot"]).unwrap();
    wait("the loop goes on", || work.last() == "200");
    assert_eq!(connect(&daemon), "connected");
    assert!(daemon.run_agent("bot", &["true"]).unwrap().ok());
    assert!(!daemon.cli_ok(&["status"]).unwrap().contains("disabled"));
}

#[test]
fn freezing_stops_the_processes_as_well() {
    let world = World::new().unwrap();
    let mut daemon = world.serving(POLICY).unwrap();
    let work = Work::start(&daemon);
    daemon.cli_ok(&["agent", "disable", "bot", "--freeze"]).unwrap();
    let frozen = || fs::read_to_string(session(&daemon).join("cgroup.events")).unwrap().contains("frozen 1");
    wait("the kernel has frozen it", frozen);
    let tick = work.file("tick");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(work.file("tick"), tick, "a process runs");
    assert!(daemon.cli_ok(&["agents"]).unwrap().contains("frozen"));
    daemon.restart().unwrap();
    assert_eq!(work.file("tick"), tick, "a process runs after a restart");
    daemon.cli_ok(&["agent", "enable", "bot"]).unwrap();
    wait("it goes on", || work.file("tick") != tick && work.last() == "200");
}

#[test]
fn a_removed_secret_and_a_tighter_policy_cut_the_download() {
    let world = World::new().unwrap();
    let daemon = world.serving(POLICY).unwrap();
    let work = Work::start(&daemon);
    daemon.write_policy("bot", &POLICY.replace("\"/slow\"", "\"/slower\"")).unwrap();
    daemon.cli_ok(&["reload"]).unwrap();
    wait("the download is cut", || !work.file("download.code").is_empty());
    assert_ne!(work.file("download.code").trim(), "0");
    wait("the loop goes on", || work.last() == "200");
    drop(work);

    daemon.write_policy("bot", POLICY).unwrap();
    daemon.cli_ok(&["reload"]).unwrap();
    fs::remove_dir_all(world.dir.join("work")).unwrap();
    let work = Work::start(&daemon);
    daemon.cli_ok(&["secret", "rm", "api-token"]).unwrap();
    wait("the download is cut", || !work.file("download.code").is_empty());
    assert_ne!(work.file("download.code").trim(), "0");
    wait("the loop is refused", || work.last() == "503");
    let receipts = daemon.receipts().unwrap();
    let ends: Vec<_> = receipts
        .iter()
        .filter(|r| r["path"] == "/slow")
        .map(|r| r["outcome"]["error"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(ends, ["the policy no longer allows it", "secret `api-token` was replaced or removed"]);
}

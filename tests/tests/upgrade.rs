//! The daemon is replaced again and again while agents work: no connection is refused, no answer is wrong, nothing gets out.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use enforcer_tests::world::workload::Workload;
use enforcer_tests::world::{Daemon, Running, World, command, plan};

const POLICY: &str = r#"
version: 1
agent: bot
credentials:
  api: { bearer: { secret: api-token, env: API_TOKEN } }
allow:
  - { name: read, host: api.example.test, methods: GET, paths: "/v1/**", credential: api }
"#;
const UPGRADES: usize = 5;
/// A port that nothing serves and no rule allows: a packet to it has gone past us.
const ELSEWHERE: u16 = 9;

#[test]
fn upgrades_refuse_no_connection_and_let_nothing_out() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    daemon.secret_set("api-token", plan::API, &world.canaries.bearer).unwrap();
    let work = world.dir.join("work");
    fs::create_dir_all(&work).unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o1777)).unwrap();
    let lines = || fs::read_to_string(work.join("loop")).unwrap_or_default().lines().count();

    // With the guard off this is seen outside.
    let send = format!(
        "import socket\nu = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nu.sendto(b'out', ('{}', {ELSEWHERE}))",
        plan::SERVER_V4
    );
    let to_elsewhere = |packet: &enforcer_tests::packet::Packet| {
        packet.ip.as_ref().is_some_and(|ip| ip.destination_port == ELSEWHERE)
    };
    let mark = world.sniffer.mark();
    command::run(world.unguarded(&["python3", "-c", &send]), Duration::from_secs(10)).unwrap();
    assert!(world.sniffer.saw(mark, Duration::from_secs(3), to_elsewhere), "the attack works without us");

    let script = format!(
        "cd {}; (while [ ! -e stop ]; do python3 -c \"$0\" 2>/dev/null && echo out >> out; done) &\n\
         while [ ! -e stop ]; do curl -s -o body -m 40 -w '%{{http_code}} %{{errormsg}}\\n' \
         https://api.example.test/v1/loop >> loop; done; wait",
        work.display()
    );
    let mark = world.sniffer.mark();
    let agent = daemon.spawn_agent("bot", &["sh", "-c", &script, &send]).unwrap();
    let at_least = |wanted: usize| {
        let deadline = Instant::now() + Duration::from_secs(40);
        while lines() < wanted {
            assert!(Instant::now() < deadline, "{} of {wanted} answers\n{}", lines(), daemon.log_text());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    at_least(3);
    let keeper = daemon.pid();
    let mut workers = daemon.ours(&["worker"]);
    for _ in 0..UPGRADES {
        daemon.upgrade().unwrap();
        workers.extend(daemon.ours(&["worker"]));
        at_least(lines() + 3);
    }
    fs::write(work.join("stop"), "").unwrap();
    agent.finish(Duration::from_secs(40)).unwrap();

    workers.dedup();
    assert_eq!((daemon.pid(), workers.len()), (keeper, UPGRADES + 1));
    let answers = fs::read_to_string(work.join("loop")).unwrap();
    assert!(answers.lines().all(|line| line.trim() == "200"), "{answers}");
    assert!(!work.join("out").exists(), "a datagram was taken");
    let packets = world.sniffer.since(mark);
    assert!(!packets.iter().any(to_elsewhere), "{packets:?}");
    // Each has one receipt that knows how it ended.
    let receipts = daemon.receipts().unwrap();
    let mine: Vec<_> = receipts.iter().filter(|receipt| receipt["path"] == "/v1/loop").collect();
    assert_eq!(mine.len(), answers.lines().count());
    assert!(mine.iter().all(|receipt| receipt["outcome"]["status"] == 200), "{mine:?}");
}

/// Attached workloads that ask in a loop: one on a network of its own, and two that share the host's, where each has ports
/// of its own. What they are answered is in a file each.
struct Attached<'w> {
    workloads: Vec<Workload<'w>>,
    loops: Vec<Running>,
    dir: PathBuf,
}

impl<'w> Attached<'w> {
    fn start(world: &'w World, daemon: &Daemon<'_>) -> Self {
        let dir = world.dir.join("work");
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
        let roots = dir.join("ca.pem");
        fs::write(&roots, daemon.cli_ok(&["ca", "export"]).unwrap()).unwrap();
        let workloads = vec![
            world.boxed("box").unwrap(),
            world.service("one", 61_991).unwrap(),
            world.service("two", 61_992).unwrap(),
        ];
        let mut work = Attached { workloads, loops: Vec::new(), dir };
        for (number, workload) in work.workloads.iter().enumerate() {
            let script = format!(
                "cd {}; while [ ! -e go ]; do sleep 0.1; done; while [ ! -e stop ]; do curl -s -o body{number} -m 40 \
                 --cacert ca.pem --resolve {host}:443:{} -w '%{{http_code}} %{{errormsg}}\n' \
                 https://{host}/v1/{number} >> {number}; done",
                work.dir.display(),
                plan::SERVER_V4,
                host = plan::API
            );
            work.loops.push(workload.spawn(&["sh", "-c", &script]).unwrap());
            let runs = || !fs::read_to_string(workload.cgroup.join("cgroup.procs")).unwrap().is_empty();
            wait("it runs", runs);
            daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
        }
        fs::write(work.dir.join("go"), "").unwrap();
        work.go_on(daemon);
        work
    }

    fn answers(&self, number: usize) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join(number.to_string())).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// Waits until each was answered thrice.
    fn go_on(&self, daemon: &Daemon<'_>) {
        let before: Vec<_> = (0..self.workloads.len()).map(|n| self.answers(n).len()).collect();
        for (number, before) in before.into_iter().enumerate() {
            let deadline = Instant::now() + Duration::from_secs(60);
            while self.answers(number).len() < before + 3 {
                assert!(Instant::now() < deadline, "{:?}\n{}", self.answers(number), daemon.log_text());
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Every answer so far.
    fn all(&self) -> Vec<String> {
        (0..self.workloads.len()).flat_map(|number| self.answers(number)).collect()
    }

    /// Nothing but answers; a failure says what the receipts know of it.
    fn all_served(&self, daemon: &Daemon<'_>) {
        let answers = self.all();
        let refused: Vec<_> =
            daemon.receipts().unwrap().into_iter().filter(|r| r["outcome"]["status"] != 200).collect();
        assert!(answers.iter().all(|a| a == "200"), "{answers:?}\n{refused:?}\n{}", daemon.log_text());
    }

    fn end(&mut self) {
        fs::write(self.dir.join("stop"), "").unwrap();
        for running in self.loops.drain(..) {
            running.finish(Duration::from_secs(300)).unwrap();
        }
    }
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "waited until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_upgrade_refuses_no_connection_of_what_is_attached() {
    let world = World::new().unwrap();
    let daemon = world.serving(POLICY).unwrap();
    let mut work = Attached::start(&world, &daemon);
    let keeper = daemon.pid();
    for _ in 0..3 {
        daemon.upgrade().unwrap();
        work.go_on(&daemon);
    }
    work.end();
    assert_eq!(daemon.pid(), keeper);
    work.all_served(&daemon);
}

#[test]
fn a_restart_with_kept_listeners_refuses_no_connection_of_what_is_attached() {
    let world = World::new().unwrap();
    let mut daemon = world.serving(POLICY).unwrap();
    daemon.keep_descriptors();
    let mut work = Attached::start(&world, &daemon);
    let kept = daemon.kept_descriptors();
    assert_eq!(kept.values().collect::<Vec<_>>(), [&6, &6, &6], "{kept:?}");
    for _ in 0..3 {
        daemon.restart().unwrap();
        work.go_on(&daemon);
    }
    assert_eq!(daemon.kept_descriptors(), kept);
    work.all_served(&daemon);
    // A crash breaks what is under way, and refuses nobody either.
    daemon.kill9().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    daemon.start().unwrap();
    work.go_on(&daemon);
    work.end();
    let answers = work.all();
    assert!(
        !answers.iter().any(|answer| answer.contains("connect to")),
        "{answers:?}\n{}",
        daemon.log_text()
    );
    daemon.cli_ok(&["detach", "bot"]).unwrap();
    wait("nothing is kept", || daemon.kept_descriptors().is_empty());
}

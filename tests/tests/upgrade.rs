//! The daemon is replaced again and again while an agent works: no connection is refused, no answer is wrong, nothing gets out.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use enforcer_tests::world::{World, command, plan};

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

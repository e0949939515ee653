//! Loopback: an agent's own servers, ports of the host's that its policy names, ports that are published to the host.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use enforcer_tests::world::{Daemon, Running, World, command, plan};

const LIMIT: Duration = Duration::from_secs(60);
/// A port of the host's that agents publish at.
const PUBLISHED: u16 = 3000;

fn policy(agent: &str, more: &str) -> String {
    format!("version: 1\nagent: {agent}\n{more}")
}

/// Connects, and says what came or which error.
const DIAL: &str = "
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
try:
  with socket.create_connection((host, port), 5) as s: print(s.recv(64).decode() or 'closed')
except OSError as e: print(e.errno)
";

fn dial(daemon: &Daemon<'_>, agent: &str, host: &str, port: u16) -> String {
    let output = daemon.run_agent(agent, &["/usr/bin/python3", "-c", DIAL, host, &port.to_string()]).unwrap();
    output.stdout.trim().to_owned()
}

fn on_host(world: &World, port: u16) -> String {
    let line = world.on_host(&["/usr/bin/python3", "-c", DIAL, "127.0.0.1", &port.to_string()]);
    command::run(line, LIMIT).unwrap().stdout.trim().to_owned()
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const REFUSED: &str = "111";

#[test]
fn an_agents_own_servers_work_on_its_loopback() {
    const SERVERS: &str = "
import socket, threading
def echo(server):
  c, _ = server.accept(); c.sendall(c.recv(9)); c.close()
def tcp(family, at, dial, dual=False):
  s = socket.socket(family)
  if dual: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
  s.bind((at, 0)); s.listen(); threading.Thread(target=echo, args=(s,)).start()
  with socket.create_connection((dial, s.getsockname()[1]), 5) as c: c.sendall(b'x'); assert c.recv(9) == b'x'
tcp(socket.AF_INET, '127.0.0.1', '127.0.0.1')
tcp(socket.AF_INET, '0.0.0.0', 'localhost')
tcp(socket.AF_INET, '127.0.0.2', '127.0.0.2')
tcp(socket.AF_INET6, '::1', '::1')
tcp(socket.AF_INET6, '::', '127.0.0.1', True)
tcp(socket.AF_INET6, '::', '::ffff:127.0.0.1', True)
for family, at in (socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1'):
  s, c = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
  s.bind((at, 0)); s.settimeout(5); c.settimeout(5)
  c.sendto(b'a', s.getsockname()); data, who = s.recvfrom(9); assert data == b'a'
  s.sendto(b'b', who); assert c.recv(9) == b'b'
  c.connect(s.getsockname()); c.send(b'c'); assert s.recv(9) == b'c'
print('all')
";
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", &policy("bot", ""))]).unwrap();
    let output = daemon.run_agent("bot", &["/usr/bin/python3", "-c", SERVERS]).unwrap();
    assert_eq!(output.stdout.trim(), "all", "{output}");
}

#[test]
fn the_hosts_loopback_is_reached_at_the_named_port_only_and_cut_when_it_is_named_no_more() {
    const HOLD: &str = "
import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)
print('held', flush=True)
try: print('got', s.recv(64))
except OSError as e: print(e.errno)
";
    let world = World::new().unwrap();
    let port = plan::HOST_LOOPBACK_PORT;
    // With the guard off: any user of the host gets to both.
    assert_eq!(on_host(&world, port), plan::BANNER);
    assert_eq!(on_host(&world, plan::HOST_ANY_PORT), plan::BANNER);
    // A server that says nothing by itself.
    let silent = world.on_host(&["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "5434"]);
    let silent = Running::spawn(silent, None).unwrap();
    wait("the silent server listens", || on_host(&world, 5434) != REFUSED);

    let named = policy("bot", &format!("loopback: [{port}, 5434]\n"));
    let daemon = world.daemon(&[("bot", &named), ("other", &policy("other", ""))]).unwrap();
    assert_eq!(dial(&daemon, "bot", "127.0.0.1", port), plan::BANNER);
    assert_eq!(dial(&daemon, "bot", "::1", port), plan::BANNER, "at the agent's ::1 as well");
    assert_eq!(dial(&daemon, "bot", "localhost", plan::HOST_ANY_PORT), REFUSED, "not named");
    assert_eq!(dial(&daemon, "other", "127.0.0.1", port), REFUSED, "another agent's policy");
    let guide = daemon.shell("bot", "cat $ENFORCER_GUIDE").unwrap().stdout;
    assert!(guide.contains(&format!("port {port} of it is the host's")), "{guide}");
    let receipts = daemon.receipts().unwrap();
    let mine = |r: &&serde_json::Value| r["protocol"] == "loopback" && r["port"] == port;
    let receipt = receipts.iter().find(mine).unwrap();
    assert_eq!((receipt["verdict"].as_str(), receipt["agent"].as_str()), (Some("allow"), Some("bot")));
    assert_eq!(receipt["outcome"]["response_bytes"], plan::BANNER.len());

    // Held open, and then named no more.
    let hold = || daemon.spawn_agent("bot", &["/usr/bin/python3", "-c", HOLD, "5434"]).unwrap();
    let admitted = |n: usize| {
        daemon.receipts().unwrap().iter().filter(|r| r["protocol"] == "loopback" && r["port"] == 5434).count()
            == n
    };
    let held = hold();
    wait("the connection is admitted", || admitted(1));
    daemon.write_policy("bot", &policy("bot", &format!("loopback: [{port}]\n"))).unwrap();
    daemon.cli_ok(&["reload"]).unwrap();
    let output = held.finish(LIMIT).unwrap();
    assert_eq!(output.stdout.trim().lines().last(), Some("104"), "ECONNRESET: {output}");
    // A session that is older than the policy.
    daemon.write_policy("bot", &named).unwrap();
    daemon.cli_ok(&["reload"]).unwrap();
    let held = hold();
    wait("the connection is admitted", || admitted(2));
    daemon.cli_ok(&["agent", "disable", "bot"]).unwrap();
    let output = held.finish(LIMIT).unwrap();
    assert_eq!(output.stdout.trim().lines().last(), Some("104"), "ECONNRESET: {output}");
    let receipts = daemon.receipts().unwrap();
    let mut ends: Vec<_> = receipts
        .iter()
        .filter(|r| r["protocol"] == "loopback" && r["port"] == 5434)
        .map(|r| r["outcome"]["error"].as_str().unwrap_or_default().to_owned())
        .collect();
    ends.sort();
    assert_eq!(ends, ["the agent was disabled", "the policy no longer allows it"]);
    silent.abandon().unwrap();
}

/// A server inside that says who it is.
const SERVE: &str = "
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('127.0.0.1', 8000)); s.listen()
while True: c, _ = s.accept(); c.sendall(b'the agent'); c.close()
";

fn publish(daemon: &Daemon<'_>, agent: &str, ports: &str) -> std::process::Command {
    let mut line = daemon.tool(&["run", "--publish", ports, agent, "--", "/usr/bin/python3", "-c", SERVE]);
    line.current_dir("/tmp");
    line
}

#[test]
fn a_published_port_leads_in_ends_with_the_session_and_serves_no_agent() {
    let world = World::new().unwrap();
    let mut daemon = world
        .daemon(&[
            ("bot", &policy("bot", "")),
            ("other", &policy("other", &format!("loopback: [{PUBLISHED}]\n"))),
        ])
        .unwrap();
    assert_eq!(on_host(&world, PUBLISHED), REFUSED);
    let forms = format!("{PUBLISHED}:8000");
    let bot = Running::spawn(publish(&daemon, "bot", &forms), None).unwrap();
    wait("the agent's server is reached", || on_host(&world, PUBLISHED) == "the agent");

    // Through the host's loopback, which its policy names, another agent would get to this one.
    assert_eq!(dial(&daemon, "other", "127.0.0.1", PUBLISHED), "104", "reset");
    wait("the refusal is written down", || {
        daemon.receipts().unwrap().iter().any(|r| r["protocol"] == "publish" && r["verdict"] == "deny")
    });

    let taken = command::run(publish(&daemon, "other", &forms), LIMIT).unwrap();
    assert_eq!(taken.code, Some(125), "{taken}");
    assert!(taken.stderr.contains("127.0.0.1:3000 is taken") && taken.stderr.contains("ss -ltnp"), "{taken}");

    daemon.restart().unwrap();
    wait("it is reached after a restart", || on_host(&world, PUBLISHED) == "the agent");
    daemon.cli_ok(&["agent", "disable", "bot"]).unwrap();
    assert_eq!(on_host(&world, PUBLISHED), "104", "a disabled agent is not reached either");
    daemon.cli_ok(&["agent", "enable", "bot"]).unwrap();
    assert_eq!(on_host(&world, PUBLISHED), "the agent");

    end(&daemon, bot);
    wait("the port is free again", || on_host(&world, PUBLISHED) == REFUSED);
    // And may be the host's own.
    let mut own = publish(&daemon, "other", "[::1]:3001:8000");
    own.stderr(std::process::Stdio::null());
    let own = Running::spawn(own, None).unwrap();
    let v6 = world.on_host(&["/usr/bin/python3", "-c", DIAL, "::1", "3001"]);
    wait("the other form works", || {
        let mut again = std::process::Command::new(v6.get_program());
        again.args(v6.get_args());
        command::run(again, LIMIT).unwrap().stdout.trim() == "the agent"
    });
    end(&daemon, own);
}

/// The agent's processes; the stand-in then ends by itself.
fn end(daemon: &Daemon<'_>, running: Running) {
    let root = enforcer_tests::world::cgroup_root().unwrap().join(&daemon.settings.managed_root);
    for session in std::fs::read_dir(root).unwrap().flatten().filter(|e| e.path().is_dir()) {
        std::fs::write(session.path().join("cgroup.kill"), "1").unwrap();
    }
    running.finish(LIMIT).unwrap();
}

//! What holds an attached workload, each line with the others taken away by the host's root: the programs at its cgroup, nftables, the
//! programs at the devices. With all of them gone it gets out, so each of them was what held.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use enforcer_tests::probes;
use enforcer_tests::world::workload::Workload;
use enforcer_tests::world::{Daemon, Running, World, command};
use rustix::process::{Pid, Signal, kill_process};

const POLICY: &str =
    "version: 1\nagent: bot\nallow:\n  - { name: api, host: api.example.test, paths: \"/v1/**\" }\n";
const LIMIT: Duration = Duration::from_secs(60);
/// Reports of groups are sent by the kernel itself: they have no socket, and so no cgroup that a packet filter or a
/// program at a device could match. The programs at the cgroup refuse to join.
const NOBODYS: [&str; 2] = ["igmp-join", "mld-join"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Programs,
    Nftables,
    Devices,
}

const LINES: [Line; 3] = [Line::Programs, Line::Nftables, Line::Devices];

impl Line {
    /// As the host's root would, by intent or by accident.
    fn take_away(self, daemon: &Daemon<'_>, workload: &Workload<'_>) {
        let world = daemon.world;
        let attached = attached(daemon);
        let words = match self {
            Line::Programs => detach(world, pins(attached, "link_")),
            Line::Devices => detach(world, pins(attached, "device_")),
            Line::Nftables => ["nft", "delete", "table", "inet", &table(daemon)].map(str::to_owned).to_vec(),
        };
        let output = command::run(workload.beside(&words), LIMIT).unwrap();
        assert!(output.ok(), "{self:?} is still there: {output}");
    }
}

/// Where the pins of the one session that is attached are.
fn attached(daemon: &Daemon<'_>) -> PathBuf {
    fs::read_dir(daemon.settings.pins.join("attached")).unwrap().next().unwrap().unwrap().path()
}

/// Its nftables table.
fn table(daemon: &Daemon<'_>) -> String {
    format!("enforcer-{}", attached(daemon).file_name().unwrap().to_str().unwrap())
}

/// The keeper puts a table back as soon as it sees that it is gone. It sees nothing until this is dropped.
struct Blind(Pid);

impl Blind {
    fn keeper(daemon: &Daemon<'_>) -> Self {
        let pid = Pid::from_raw(daemon.pid().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Blind(pid)
    }
}

impl Drop for Blind {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).unwrap();
    }
}

fn detach(world: &World, pins: Vec<String>) -> Vec<String> {
    assert!(!pins.is_empty());
    [world.bin("probe").display().to_string(), "detach".to_owned()].into_iter().chain(pins).collect()
}

fn pins(dir: PathBuf, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path().display().to_string()).collect()
}

/// A process in it that stays.
fn at_work(workload: &Workload<'_>) -> Running {
    let stays = workload.spawn(&["sleep", "600"]).unwrap();
    wait("it runs", || !fs::read_to_string(workload.cgroup.join("cgroup.procs")).unwrap().is_empty());
    stays
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// With each line alone, then with none, against what may get past it.
fn each_alone(workload: &Workload<'_>, daemon: &Daemon<'_>, past: impl Fn(Line) -> Vec<&'static str>) {
    let world = workload.world;
    let leaking = || {
        let program = world.bin("probe").display().to_string();
        let (leaking, said) = probes::leaking(world, &program, |words| workload.run(words)).unwrap();
        println!("{said}");
        leaking
    };
    let stays = at_work(workload);
    let mut wrong = Vec::new();
    for alone in LINES {
        daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
        let blind = Blind::keeper(daemon);
        for line in LINES.into_iter().filter(|line| *line != alone) {
            line.take_away(daemon, workload);
        }
        println!("--- {alone:?} alone");
        let leaking_now = leaking();
        if leaking_now != past(alone) {
            wrong.push(format!("{alone:?} alone: {leaking_now:?} got out, not {:?}", past(alone)));
        }
        if alone == Line::Devices {
            alone.take_away(daemon, workload);
            let free = leaking();
            for name in ["tcp4", "tcp6", "udp-sendto", "udp6", "icmp-ping-dgram"] {
                assert!(free.contains(&name), "{name} proves nothing: {free:?}");
            }
        }
        drop(blind);
        daemon.cli_ok(&["detach", "bot"]).unwrap();
    }
    stays.abandon().unwrap();
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), daemon.log_text());
}

/// Frames go past what is bound to a cgroup's sockets and past a filter for IP.
#[test]
fn each_line_alone_holds_root_with_a_network_of_its_own() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let workload = world.boxed("box").unwrap();
    each_alone(&workload, &daemon, |alone| match alone {
        Line::Programs | Line::Nftables => vec!["packet"],
        Line::Devices => NOBODYS.to_vec(),
    });
}

#[test]
fn each_line_alone_holds_a_user_on_the_hosts_network() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let workload = world.service("svc", 61_991).unwrap();
    each_alone(&workload, &daemon, |alone| match alone {
        Line::Programs => Vec::new(),
        Line::Nftables | Line::Devices => NOBODYS.to_vec(),
    });
}

/// Rules flushed, every table flushed, and a table that its owner does not give back: told, and put back as soon as it can be.
fn put_back(workload: &Workload<'_>, daemon: &Daemon<'_>) {
    let stays = at_work(workload);
    daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
    let table = table(daemon);
    let nft = |line: &str| command::run(workload.beside(&["nft", line]), LIMIT).unwrap();
    let listed = || nft(&format!("list table inet {table}")).stdout;
    let status = || daemon.cli_ok(&["status"]).unwrap();
    let loaded = listed();
    assert!(loaded.contains("chain output") && status().contains(", nftables"), "{loaded}\n{}", status());

    // While nobody looks it stays away.
    let blind = Blind::keeper(daemon);
    assert!(nft(&format!("flush table inet {table}")).ok());
    std::thread::sleep(Duration::from_secs(3));
    assert_ne!(listed(), loaded);
    drop(blind);
    wait("its rules are back", || listed() == loaded);
    wait("status tells of it", || status().contains("nftables (changed by somebody, reloaded: 1"));
    assert!(nft("flush ruleset").ok());
    wait("it is back", || listed() == loaded);
    wait("status tells of it", || status().contains("nftables (changed by somebody, reloaded: 2"));

    let mut owner = workload.beside(&["nft", "-i"]);
    let mut owner = owner.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let line = format!("delete table inet {table}; add table inet {table} {{ flags owner; }}\n");
    owner.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    wait("status says that it is gone", || {
        let status = status();
        status.contains("cannot be loaded") && !status.contains(", nftables")
    });
    println!("{}", status());
    drop(owner.stdin.take());
    owner.wait().unwrap();
    wait("it is back", || listed() == loaded);
    wait("status tells of it", || {
        status().contains("nftables (changed by somebody, reloaded: 3")
            && !status().contains("cannot be loaded")
    });

    // What others do there is theirs.
    assert!(nft("add table inet others").ok());
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        status().contains("nftables (changed by somebody, reloaded: 3") && listed() == loaded,
        "{}",
        status()
    );
    assert!(nft("delete table inet others").ok());
    daemon.cli_ok(&["detach", "bot"]).unwrap();
    assert!(!nft(&format!("list table inet {table}")).ok());
    stays.abandon().unwrap();
}

#[test]
fn a_table_that_somebody_takes_away_is_put_back_in_a_network_of_its_own() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    put_back(&world.boxed("box").unwrap(), &daemon);
}

#[test]
fn a_table_that_somebody_takes_away_is_put_back_on_the_hosts_network() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    put_back(&world.service("svc", 61_991).unwrap(), &daemon);
}

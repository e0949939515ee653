//! What holds an attached workload, each line with the others taken away by the host's root: the programs at its cgroup, nftables, the
//! programs at the devices. With all of them gone it gets out, so each of them was what held.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use enforcer_tests::probes;
use enforcer_tests::world::workload::Workload;
use enforcer_tests::world::{Daemon, World, command};

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
        let attached = fs::read_dir(daemon.settings.pins.join("attached")).unwrap().next().unwrap().unwrap();
        let session = attached.file_name().into_string().unwrap();
        let words = match self {
            Line::Programs => detach(world, pins(attached.path(), "link_")),
            Line::Devices => detach(world, pins(attached.path(), "device_")),
            Line::Nftables => ["nft", "delete", "table", "inet"]
                .map(str::to_owned)
                .into_iter()
                .chain([format!("enforcer-{session}")])
                .collect(),
        };
        let output = command::run(workload.beside(&words), LIMIT).unwrap();
        assert!(output.ok(), "{self:?} is still there: {output}");
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

/// With each line alone, then with none, against what may get past it.
fn each_alone(workload: &Workload<'_>, daemon: &Daemon<'_>, past: impl Fn(Line) -> Vec<&'static str>) {
    let world = workload.world;
    let leaking = || {
        let program = world.bin("probe").display().to_string();
        let (leaking, said) = probes::leaking(world, &program, |words| workload.run(words)).unwrap();
        println!("{said}");
        leaking
    };
    let stays = workload.spawn(&["sleep", "600"]).unwrap();
    let deadline = Instant::now() + LIMIT;
    while fs::read_to_string(workload.cgroup.join("cgroup.procs")).unwrap().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut wrong = Vec::new();
    for alone in LINES {
        daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
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

//! `enforcer run` behaves like the command itself, and outlives the daemon.

use std::time::{Duration, Instant};

use enforcer_tests::world::{World, command};

use super::{serving, shared};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn exit_codes_are_the_commands() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    for code in [0, 1, 42, 255] {
        assert_eq!(daemon.shell("bot", &format!("exit {code}")).unwrap().code, Some(code));
    }
    // As env and docker have it: not found, not executable, our own failure.
    assert_eq!(daemon.run_agent("bot", &["/no/such/programme"]).unwrap().code, Some(127));
    assert_eq!(daemon.run_agent("bot", &["/etc/passwd"]).unwrap().code, Some(126));
    let unknown = daemon.run_agent("nobody-knows-me", &["true"]).unwrap();
    assert_eq!(unknown.code, Some(125), "{unknown}");
    assert!(unknown.stderr.contains("nobody-knows-me"), "{unknown}");
    // The end by a signal, as a shell reports it.
    let killed = daemon.shell("bot", "kill -TERM $$").unwrap();
    assert!(killed.code == Some(143) || killed.signal == Some(15), "{killed}");
}

#[test]
fn streams_directory_and_arguments_pass_through() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let input: Vec<u8> = (0..200_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let command = daemon.agent_command("bot", &["sha256sum"]);
    let output = command::run_with_input(command, Some(&input), LIMIT).unwrap();
    let here = command::run_with_input(command::command(&["sha256sum"]), Some(&input), LIMIT).unwrap();
    assert_eq!(output.stdout, here.stdout);

    let place = shared(&world);
    let mut command = daemon.agent_command(
        "bot",
        &["sh", "-c", "pwd; echo to-stderr >&2; printf '<%s>' \"$@\"", "sh", "a b", "", "*"],
    );
    command.current_dir(&place);
    let output = command::run(command, LIMIT).unwrap();
    assert_eq!(output.stdout, format!("{place}\n<a b><><*>"), "{output}");
    assert_eq!(output.stderr.trim(), "to-stderr");
}

#[test]
fn signals_reach_the_command() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let said = format!("{}/said", shared(&world));
    for (signal, number) in [("TERM", 7), ("INT", 8), ("HUP", 9)] {
        let script = format!(
            "trap 'echo {signal} > {said}; exit {number}' {signal}; echo ready > {said}; while :; do sleep 0.05; done"
        );
        let agent = daemon.spawn_agent("bot", &["sh", "-c", &script]).unwrap();
        wait("the command runs", || std::fs::read_to_string(&said).is_ok_and(|s| s.trim() == "ready"));
        let pid = agent.pid().to_string();
        assert!(world.on_host(&["kill", &format!("-{signal}"), &pid]).status().unwrap().success());
        let output = agent.finish(LIMIT).unwrap();
        assert_eq!(output.code, Some(number), "{output}");
        assert_eq!(std::fs::read_to_string(&said).unwrap().trim(), signal);
    }
}

#[test]
fn an_agent_is_a_nobody() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let status = daemon.run_agent("bot", &["cat", "/proc/self/status"]).unwrap().stdout;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    let output = daemon.shell("bot", "id -u; ls /sys/class/net 2>/dev/null || cat /proc/net/dev | tail -n +3 | cut -d: -f1; ls /proc/self/fd | wc -l").unwrap();
    let lines: Vec<&str> = output.stdout.split_whitespace().collect();
    let uid: u32 = lines[0].parse().unwrap();
    assert!((61_600..61_700).contains(&uid), "{output}");
    assert_eq!(lines[1], "lo", "{output}");
    // 0, 1, 2 and the one that ls opened.
    assert_eq!(lines[2], "4", "{output}");
    // Two agents are two users.
    assert!(daemon.shell("bot", "cat /proc/1/environ").unwrap().code != Some(0));
}

#[test]
fn kill_9_shuts_in_and_a_restart_picks_up() {
    let world = World::new().unwrap();
    let mut daemon = serving(&world);
    let log = format!("{}/loop", shared(&world));
    let script = format!(
        "while :; do curl -s -o /dev/null -m 2 -w '%{{http_code}}\\n' https://api.example.test/v1/loop; sleep 0.1; done > {log} 2>&1"
    );
    let agent = daemon.spawn_agent("bot", &["sh", "-c", &script]).unwrap();
    let last =
        || std::fs::read_to_string(&log).unwrap_or_default().lines().last().unwrap_or_default().to_owned();
    wait("the agent is served", || last() == "200");

    assert!(daemon.kill9().unwrap().len() >= 2);
    wait("the agent is shut in", || last() == "000");
    let mark = world.sniffer.mark();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(world.sniffer.since(mark).len(), 0);

    daemon.start().unwrap();
    wait("the running agent is served again", || last() == "200");
    // Receipts of before are still there, and the chain holds over the crash.
    let verified = daemon.cli(&["receipts", "verify"]).unwrap();
    assert!(verified.ok(), "{verified}");
    // And new agents start beside the adopted one.
    assert!(daemon.run_agent("bot", &["true"]).unwrap().ok());
    agent.abandon().unwrap();
}

#[test]
fn a_clean_stop_keeps_the_agent_shut_in() {
    let world = World::new().unwrap();
    let mut daemon = serving(&world);
    assert!(daemon.notified().contains("READY=1"), "the service manager is told");
    let log = format!("{}/loop", shared(&world));
    let script = format!(
        "while :; do curl -s -o /dev/null -m 2 -w '%{{http_code}}\\n' https://api.example.test/v1/loop; sleep 0.1; done > {log} 2>&1"
    );
    let agent = daemon.spawn_agent("bot", &["sh", "-c", &script]).unwrap();
    let last =
        || std::fs::read_to_string(&log).unwrap_or_default().lines().last().unwrap_or_default().to_owned();
    wait("the agent is served", || last() == "200");
    let status = daemon.stop().unwrap();
    assert!(status.success(), "{status}\n{}", daemon.log_text());
    wait("the agent is shut in", || last() == "000");
    daemon.start().unwrap();
    wait("the agent is served again", || last() == "200");
    agent.abandon().unwrap();
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

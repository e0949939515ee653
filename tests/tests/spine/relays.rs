//! What is relayed unread, through the confined worker: a server that speaks first, a client that pins.

use std::time::Duration;

use enforcer_tests::world::{Daemon, World, plan};
use serde_json::Value;

use super::shared;

const HOST: &str = "shell.tunnel.test";

fn policy(rules: &str) -> String {
    format!(
        "version: 1\nagent: bot\nallow:\n{rules}  - {{ name: api, host: api.example.test, methods: GET, rate: 2/hour }}\n"
    )
}

fn of_protocol(daemon: &Daemon<'_>, protocol: &str) -> Vec<Value> {
    let receipts = daemon.receipts().unwrap();
    receipts.into_iter().filter(|receipt| receipt["protocol"] == protocol).collect()
}

/// Says nothing, listens.
fn listen(daemon: &Daemon<'_>) -> String {
    let line =
        format!("timeout 8 bash -c 'exec 3<>/dev/tcp/{HOST}/22 && head -c {} <&3'", plan::BANNER.len());
    daemon.shell("bot", &line).unwrap().stdout
}

#[test]
fn a_server_that_speaks_first_is_heard_where_a_rule_names_it_and_only_there() {
    let world = World::new().unwrap();
    let without = policy(&format!("  - {{ name: web, host: {HOST}, methods: GET }}\n"));
    let daemon = world.daemon(&[("bot", &without)]).unwrap();
    assert!(!listen(&daemon).contains(plan::BANNER), "no rule relays it");

    let rule = format!("  - {{ name: shell, host: {HOST}, protocol: tcp, port: 22 }}\n");
    daemon.write_policy("bot", &policy(&rule)).unwrap();
    daemon.cli_ok(&["reload"]).unwrap();
    let heard = listen(&daemon);
    assert!(heard.contains(plan::BANNER), "{heard:?}\n{}", daemon.log_text());
    let receipts = of_protocol(&daemon, "tcp");
    assert_eq!((&receipts[0]["rule"], &receipts[0]["host"]), (&"shell".into(), &HOST.into()), "{receipts:?}");
}

#[test]
fn a_client_that_pins_gets_through_by_its_server_name() {
    let world = World::new().unwrap();
    let rule = "  - { name: pinned, host: other.example.test, tls: passthrough }\n";
    let daemon = world.daemon(&[("bot", &policy(rule))]).unwrap();
    let ca = format!("{}/upstream.pem", shared(&world));
    std::fs::copy(world.upstream_ca(), &ca).unwrap();
    let ask = |host: &str| {
        let url = format!("https://{host}/open/pinned");
        // Without a folder of its own curl takes the host's as well, and our root is in there.
        let pinned = ["--cacert", &ca, "--capath", "/nonexistent"];
        let words = [&["curl", "-sS", "-m", "10"], &pinned[..], &[&url]].concat();
        daemon.run_agent("bot", &words).unwrap()
    };
    let through = ask(plan::OTHER);
    assert!(through.code == Some(0), "{through}\n{}", daemon.log_text());
    assert!(world.wait_seen(|seen| seen.uri == "/open/pinned").is_some());
    let inspected = ask(plan::API);
    assert!(inspected.code == Some(60), "our certificate is not the server's: {inspected}");
    let receipts = of_protocol(&daemon, "tls");
    assert_eq!((receipts.len(), &receipts[0]["rule"]), (1, &"pinned".into()), "{receipts:?}");
}

#[test]
fn what_is_used_up_stays_so_when_the_daemon_is_killed() {
    let world = World::new().unwrap();
    let mut daemon = world.daemon(&[("bot", &policy(""))]).unwrap();
    let ask = |daemon: &Daemon<'_>| {
        let words = [
            "curl",
            "-sS",
            "-m",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "https://api.example.test/v1/x",
        ];
        daemon.run_agent("bot", &words).unwrap().stdout
    };
    assert_eq!((ask(&daemon), ask(&daemon), ask(&daemon)), ("200".into(), "200".into(), "429".into()));
    daemon.kill9().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    daemon.start().unwrap();
    assert_eq!(ask(&daemon), "429", "{}", daemon.log_text());
}

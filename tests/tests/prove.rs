//! `enforcer prove`: each line that holds an agent holds alone, the table says so, and a leak is found out.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use enforcer_probe::{Open, ROUTES, Sign};
use enforcer_tests::world::{Daemon, Output, Running, World, command};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(170);
const POLICY: &str =
    "version: 1\nagent: bot\nallow:\n  - { name: api, host: api.example.test, paths: \"/v1/**\" }\n";

/// Without the packet programs these leave: what hands over a socket that leads out already is none of a packet filter's or
/// of a namespace's business.
const HANDED_OVER: [&str; 2] = ["scm-rights", "pidfd-getfd"];
/// Frames and what is below a filter for IP: the namespace has no device, seccomp refuses the family.
const BELOW: [&str; 1] = ["packet"];

fn prove(daemon: &Daemon<'_>) -> Output {
    command::run(daemon.tool(&["--json", "prove", "bot"]), LIMIT).unwrap()
}

/// Route, then guard, to what became of it.
fn table(output: &Output) -> BTreeMap<String, BTreeMap<String, String>> {
    let proof: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output}"));
    let routes = proof["routes"].as_array().unwrap();
    let row = |tried: &Value| {
        let outcomes = tried["outcomes"].as_object().unwrap();
        let cells = outcomes.iter().map(|(guard, o)| (guard.clone(), o["fate"].as_str().unwrap().to_owned()));
        (tried["route"].as_str().unwrap().to_owned(), cells.collect())
    };
    routes.iter().map(row).collect()
}

#[test]
fn each_line_holds_alone_and_all_of_them_together() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let mark = world.sniffer.mark();
    let output = prove(&daemon);
    println!("{}", daemon.cli(&["status"]).unwrap());
    assert!(output.ok(), "{output}\n--- daemon\n{}", daemon.log_text());
    let packets = world.sniffer.since(mark);
    assert!(packets.is_empty(), "the host's own network is not touched: {packets:?}");

    let table = table(&output);
    let mut wrong = Vec::new();
    for route in ROUTES {
        let fate = |guard: &str| table[route.name].get(guard).map_or("-", String::as_str);
        println!(
            "{:<20} {:<8} {:<8} {:<8} {:<8} {:<8}",
            route.name,
            fate("none"),
            fate("namespace"),
            fate("nftables"),
            fate("programs"),
            fate("agent")
        );
        let mut expect = |guard: &str, may: &[&str]| {
            if !may.contains(&fate(guard)) {
                wrong.push(format!("{} with {guard}: {}, not {may:?}", route.name, fate(guard)));
            }
        };
        let absent = if route.optional { "absent" } else { "held" };
        // The contrast: on the network everything gets out, unless it is structural.
        match (route.open, route.sign) {
            (Open::Structural(_), _) => {}
            (Open::LeaksAsRoot, Sign::Here) => expect("none", &["-"]),
            _ => expect("none", &["out", absent, "-"]),
        }
        if route.sign == Sign::Packet && !HANDED_OVER.contains(&route.name) {
            expect("namespace", &["held", absent, "-"]);
            let below = if BELOW.contains(&route.name) { "out" } else { "held" };
            expect("nftables", &["held", absent, "-", below]);
            expect("programs", &["held", absent, "-"]);
        }
        expect("agent", &["held", absent, "-"]);
    }
    assert!(wrong.is_empty(), "{}\n{output}", wrong.join("\n"));

    // For people, and for later.
    let status = daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("proof     bot held"), "{status}");
    let folder = daemon.settings.state_dir.join("proofs");
    let files: Vec<_> = fs::read_dir(&folder).unwrap().flatten().map(|e| e.path()).collect();
    let file = files.iter().find(|p| p.extension().is_some_and(|e| e == "json")).unwrap();
    let path = file.display().to_string();
    let shown = daemon.cli_ok(&["prove", "--verify", &path]).unwrap();
    assert!(shown.contains("the signature is right") && shown.contains("AS AGENT"), "{shown}");
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, text.replacen("held", "fine", 1)).unwrap();
    let forged = daemon.cli(&["prove", "--verify", &path]).unwrap();
    assert_eq!(forged.code, Some(3), "{forged}");
    let receipts = daemon.receipts().unwrap();
    assert!(receipts.iter().any(|r| r.to_string().contains("proof_held")), "{receipts:?}");
}

#[test]
fn the_daemon_proves_on_a_timer() {
    let world = World::new().unwrap();
    let mut daemon = world.configured(&[("bot", POLICY)]).unwrap();
    daemon.settings.more = "prove: { every: 10s }\n".to_owned();
    daemon.start().unwrap();
    assert!(daemon.wait_log(&["proved: nothing got out", "bot"], LIMIT), "{}", daemon.log_text());
    assert!(daemon.wait_log(&["proved for every agent"], LIMIT), "{}", daemon.log_text());
    let folder = daemon.settings.state_dir.join("proofs");
    assert!(
        fs::read_dir(&folder).unwrap().flatten().any(|e| e.file_name().to_string_lossy().starts_with("bot-"))
    );
    // The next one may be under way: it ends with the daemon.
    daemon.stop().unwrap();
    assert!(daemon.ours(&[]).is_empty(), "{:?}", daemon.ours(&[]));
}

/// Everything that holds the session is taken away by the host's root, after the launch and before the attempts: the proof sees it.
/// The stage holds back the attempts meanwhile; the daemon's view of the program's path is a gate before the real one.
#[test]
fn a_session_whose_lines_were_all_taken_away_is_found_out() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let gate = world.dir.join("gate");
    fs::create_dir(&gate).unwrap();
    fs::set_permissions(&gate, fs::Permissions::from_mode(0o1777)).unwrap();
    let (real, program) = (world.bin("enforcer"), world.dir.join("bin/tried"));
    // The first launch tries the programs alone, and goes on; the second is the agent as it is.
    let script = format!(
        "#!/bin/sh\ncd {}\nif mkdir first 2> /dev/null; then exec {real} \"$@\"; fi\n\
         echo > second\nwhile [ ! -e go ]; do sleep 0.1; done\nexec {real} \"$@\"\n",
        gate.display(),
        real = real.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let line = format!(
        "mount --bind {} {program} && exec {program} --config {} --json prove bot",
        real.display(),
        daemon.config.display(),
        program = program.display()
    );
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &line];
    let proving = Running::spawn(world.on_host(&words), None).unwrap();

    let deadline = Instant::now() + LIMIT;
    while !gate.join("second").exists() {
        assert!(Instant::now() < deadline, "no second launch\n{}", daemon.log_text());
        std::thread::sleep(Duration::from_millis(50));
    }
    let sessions = fs::read_dir(daemon.settings.run_dir.join("netns")).unwrap().flatten();
    let pin = sessions.map(|entry| entry.path()).next().expect("the session that waits");
    let links: Vec<String> = fs::read_dir(&daemon.settings.pins)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("link_"))
        .map(|entry| entry.path().display().to_string())
        .collect();
    let probe = world.bin("probe").display().to_string();
    let inside = format!("nsenter --net={} --", pin.display());
    let away = format!(
        "{probe} detach {} && {inside} nft flush ruleset && {inside} ip link add out type veth peer name far \
         && {inside} ip link set far up && {inside} ip link set out arp off up \
         && {inside} ip addr add 198.51.100.1/24 dev out && {inside} ip route add default dev out",
        links.join(" ")
    );
    let taken = command::run(world.on_host(&["sh", "-c", &away]), Duration::from_secs(20)).unwrap();
    assert!(taken.ok(), "{taken}");
    fs::write(gate.join("go"), "").unwrap();

    let output = proving.finish(LIMIT).unwrap();
    assert_eq!(output.code, Some(8), "{output}\n--- daemon\n{}", daemon.log_text());
    let table = table(&output);
    for route in ["tcp4", "udp-sendto", "udp-connect"] {
        assert_eq!(table[route]["agent"], "out", "{route}: {output}");
    }
    // What nobody took away still holds.
    assert_eq!(table["packet"]["agent"], "held", "{output}");
    let receipts = daemon.receipts().unwrap();
    let alarm = receipts.iter().find(|r| r.to_string().contains("proof_failed")).unwrap();
    assert!(alarm.to_string().contains("udp-sendto"), "{alarm}");
    assert!(daemon.log_text().contains("NOT PROVED"), "{}", daemon.log_text());
    let status = daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("proof     ! bot got out"), "{status}");
}

//! Clients that do not trust us are found, with what runs there, and the fix that is named works.

use std::fs;
use std::time::{Duration, Instant};

use enforcer_tests::world::{Daemon, Output, World, command, plan};
use serde_json::Value;

use super::{LIMIT, installed, one_of};

const POLICY: &str = r#"
version: 1
agent: bot
allow:
  - { name: api, host: api.example.test, methods: GET }
"#;

/// What the doctor found of this program, once it has found it.
fn found(daemon: &Daemon<'_>, program: &str) -> Value {
    let ours = |exe: &str| exe.rsplit('/').next().is_some_and(|name| name.starts_with(program));
    wait(daemon, program, |found| found["exe"].as_str().is_some_and(ours))
}

/// The latest finding that is wanted, once there is one.
pub(crate) fn wait(daemon: &Daemon<'_>, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + command::patient(Duration::from_secs(60));
    loop {
        let told = daemon.cli(&["--json", "trust", "doctor", "bot"]).unwrap();
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        if let Some(found) = told["found"].as_array().unwrap().iter().rev().find(|found| wanted(found)) {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "{what} was not found: {told}\n{}", daemon.log_text());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn run(daemon: &Daemon<'_>, words: &[&str]) -> Output {
    command::run(daemon.agent_command("bot", words), LIMIT).unwrap()
}

/// `NAME=value` words at the start of the part of a fix that says what to start a program with.
fn assignments(fix: &str) -> Vec<&str> {
    let rest = fix.strip_prefix("start it with ").unwrap_or_else(|| panic!("{fix}"));
    let list = rest.split(", which").next().unwrap();
    list.split(' ').collect()
}

#[test]
fn a_client_with_roots_of_its_own_is_named_with_the_fix_which_works() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let nothing = daemon.cli(&["trust", "doctor"]).unwrap();
    assert!(nothing.ok() && nothing.stdout.contains("no client has refused"), "{nothing}");

    // uv is Rust's reqwest with Mozilla's roots inside. It asks three times and more before it gives up.
    let clients = world.dir.join("clients");
    fs::create_dir(&clients).unwrap();
    let (from, to) = (installed().display().to_string(), clients.display().to_string());
    command::must(&["mount", "--bind", "-o", "ro", &from, &to]).unwrap();
    let uv = format!("{to}/python/bin/uv");
    let asking = [
        "pip",
        "install",
        "--no-cache",
        "--dry-run",
        "--target",
        "/tmp/there",
        "--python",
        "/usr/bin/python3",
    ];
    let index = format!("https://{}/simple", plan::API);
    let with = |given: &[&str]| -> Output {
        let mut words = vec!["env", "-i", "HOME=/tmp", "PATH=/usr/bin:/bin"];
        words.extend(given);
        words.push(&uv);
        words.extend(asking);
        words.extend(["--default-index", &index, "hello"]);
        run(&daemon, &words)
    };
    let refused = with(&[]);
    assert!(!refused.ok() && refused.stderr.to_lowercase().contains("certificate"), "{refused}");
    let finding = found(&daemon, "uv");
    assert_eq!(finding["kind"], "uv");
    assert_eq!(finding["host"], plan::API);
    assert_eq!(finding["sign"], "unknown_ca");
    assert_eq!(finding["exe"], uv.as_str());
    let fix = finding["fix"].as_str().unwrap();
    assert!(daemon.wait_log(&["WARN", "does not trust", "/uv"], Duration::from_secs(30)));
    let receipt = daemon.receipts().unwrap().into_iter().find(|r| r["reason"] == "client_distrust");
    let receipt = receipt.expect("the refused handshake has a receipt");
    let why = receipt["outcome"]["error"].as_str().or(receipt["error"].as_str()).unwrap_or_default();
    assert!(why.contains("/uv") && why.contains("SSL_CERT_FILE="), "{receipt}");

    // As the fix says: now it is the server that has no such page, and it was asked.
    let trusting = with(&assignments(fix));
    assert!(world.wait_seen(|seen| seen.uri.starts_with("/simple/hello")).is_some(), "{trusting}");
    let told = daemon.cli(&["trust", "doctor"]).unwrap();
    assert_eq!(told.code, Some(8), "{told}");
    for word in ["bot", &uv, plan::API, "unknown_ca", "fix"] {
        assert!(told.stdout.contains(word), "{word}: {told}");
    }
    assert!(daemon.cli(&["trust", "doctor", "another"]).unwrap().ok());
}

#[test]
fn each_runtime_without_our_variables_is_known_by_its_program() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let node = format!("{}/node/node_modules", installed().display());
    let deno = one_of(&node, "@deno/linux-*-glibc/deno");
    let there = world.dir.join("deno").display().to_string();
    fs::copy(deno, &there).unwrap();
    let url = format!("https://{}/v1/runtime", plan::API);
    // Each tries, and lives on for a while: what has ended cannot be looked at.
    let fetch = format!("fetch('{url}').catch(() => 0).then(() => setTimeout(() => process.exit(3), 2000))");
    let fine = format!("fetch('{url}').then(() => process.exit(0))");
    for (program, sign, refused, fix, accepted) in [
        (
            "node",
            "left",
            ["/usr/bin/node", "-e", &fetch],
            "NODE_EXTRA_CA_CERTS=",
            ["/usr/bin/node", "-e", &fine],
        ),
        ("deno", "unknown_ca", [&there, "eval", &fetch], "DENO_CERT=", [&there, "eval", &fine]),
    ] {
        let mut words = vec!["env", "-i", "HOME=/tmp"];
        words.extend(refused);
        let output = run(&daemon, &words);
        assert_eq!(output.code, Some(3), "{output}");
        let finding = found(&daemon, program);
        let told = finding["fix"].as_str().unwrap();
        assert!(told.contains(fix), "{finding}");
        assert_eq!(finding["sign"], sign, "{finding}");
        let mut words = vec!["env", "-i", "HOME=/tmp"];
        words.extend(assignments(told));
        words.extend(accepted);
        let output = run(&daemon, &words);
        assert!(output.ok(), "{output}\n{told}");
    }
}

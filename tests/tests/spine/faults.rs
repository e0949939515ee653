//! Bad input and bad days: each gives a clear error with a next step, and nothing widens.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use enforcer_tests::world::{Daemon, Output, World, command};

use super::{POLICY, serving};

fn get(daemon: &Daemon<'_>, uri: &str) -> Output {
    let url = format!("https://api.example.test{uri}");
    daemon
        .run_agent("bot", &["curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", &url])
        .unwrap()
}

#[test]
fn a_broken_policy_at_the_start_denies_everything_and_can_be_explained() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", &POLICY.replace("rate: 5/hour", "rate: 5 per hour"))]).unwrap();
    let output = get(&daemon, "/v1/a");
    assert_ne!(output.stdout.trim(), "200", "{output}");
    assert!(!world.seen().iter().any(|s| s.uri == "/v1/a"));
    assert!(daemon.log_text().contains("5 per hour"), "the log cites the place\n{}", daemon.log_text());
    let status = daemon.cli(&["status"]).unwrap();
    assert!(status.all().contains("polic"), "the daemon stays up to explain: {status}");
    let check = daemon
        .cli(&["policy", "check", &daemon.settings.policy_dir.join("bot.yaml").display().to_string()])
        .unwrap();
    assert_eq!(check.code, Some(3), "{check}");
    assert!(
        check.all().contains("bot.yaml:") && check.all().contains("5/hour") | check.all().contains("30/min"),
        "{check}"
    );
    // Repaired, it works without a restart.
    daemon.write_policy("bot", POLICY).unwrap();
    daemon.cli_ok(&["reload"]).unwrap();
    daemon.secret_set("api-token", "api.example.test", &world.canaries.bearer).unwrap();
    assert_eq!(get(&daemon, "/v1/a").stdout.trim(), "200");
}

#[test]
fn an_unreadable_policy_changes_nothing() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let file = daemon.settings.policy_dir.join("zz.yaml");
    fs::write(&file, [0xff, 0xfe, 0x00, 0x80]).unwrap();
    let reload = daemon.cli(&["reload"]).unwrap();
    assert!(!reload.ok() && reload.all().contains("zz.yaml"), "{reload}");
    fs::write(&file, "version: 1\nagent: other\nallow: []\n").unwrap();
    // The worker is no root: what it cannot read is an error, not an absence.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let reload = daemon.cli(&["reload"]).unwrap();
    assert!(!reload.ok() && reload.all().contains("zz.yaml"), "{reload}");
    assert_eq!(get(&daemon, "/v1/a").stdout.trim(), "200");
}

#[test]
fn the_wrong_vault_key_is_named() {
    let world = World::new().unwrap();
    let mut daemon = serving(&world);
    daemon.stop().unwrap();
    let key = fs::read(&daemon.settings.vault_key).unwrap();
    let wrong: Vec<u8> = key.iter().map(|byte| byte ^ 1).collect();
    fs::write(&daemon.settings.vault_key, wrong).unwrap();
    let output = daemon.start_and_fail().unwrap();
    assert!(!output.ok() && !output.timed_out, "{output}");
    assert!(output.all().contains("key"), "{output}");
    // The right one again: nothing was lost.
    fs::write(&daemon.settings.vault_key, key).unwrap();
    daemon.start().unwrap();
    assert_eq!(get(&daemon, "/v1/a").stdout.trim(), "200");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let world = World::new().unwrap();
    let mut daemon = serving(&world);
    daemon.stop().unwrap();
    fs::set_permissions(&daemon.settings.vault_key, fs::Permissions::from_mode(0o644)).unwrap();
    let output = daemon.start_and_fail().unwrap();
    assert!(!output.ok() && !output.timed_out, "{output}");
    assert!(output.all().contains("chmod") || output.all().contains("0600"), "{output}");
}

#[test]
fn settings_with_an_unknown_word_are_refused_with_a_hint() {
    let world = World::new().unwrap();
    let mut daemon = world.configured(&[("bot", POLICY)]).unwrap();
    daemon.settings.more = "polcy_dir: /tmp\n".to_owned();
    let output = daemon.start_and_fail().unwrap();
    assert!(!output.ok() && !output.timed_out, "{output}");
    assert!(output.all().contains("polcy_dir") && output.all().contains("policy_dir"), "{output}");
}

#[test]
fn a_full_disk_refuses_and_recovers_alone() {
    let world = World::new().unwrap();
    let small = world.dir.join("small");
    fs::create_dir(&small).unwrap();
    command::must(&["mount", "-t", "tmpfs", "-o", "size=12m,mode=755", "none", &small.display().to_string()])
        .unwrap();
    let mut daemon = world.configured(&[("bot", POLICY)]).unwrap();
    daemon.settings.state_dir = small.join("state");
    daemon.start().unwrap();
    daemon.secret_set("api-token", "api.example.test", &world.canaries.bearer).unwrap();
    assert_eq!(get(&daemon, "/v1/before").stdout.trim(), "200");
    // No room for anything: what was reserved is soon used up.
    let filler = small.join("filler");
    let full = command::run(
        command::command(&["dd", "if=/dev/zero", &format!("of={}", filler.display()), "bs=4k"]),
        std::time::Duration::from_secs(20),
    )
    .unwrap();
    assert!(!full.ok(), "the disk is full: {full}");
    let many = [
        "curl",
        "-s",
        "-w",
        "%{http_code} %{url_effective}\\n",
        "-o",
        "/dev/null",
        "https://api.example.test/v1/full[1-4000]",
    ];
    let output = daemon.run_agent("bot", &many).unwrap();
    let line = output.stdout.lines().find(|line| line.starts_with("503 "));
    let line = line.unwrap_or_else(|| panic!("requests without receipts passed\n{}", daemon.log_text()));
    let uri = line.trim_start_matches("503 https://api.example.test").to_owned();
    assert!(world.never_seen(|s| s.uri == uri), "no receipt, no credential: {uri}");
    fs::remove_file(&filler).unwrap();
    let mut recovered = false;
    for _ in 0..50 {
        recovered = get(&daemon, "/v1/after").stdout.trim() == "200";
        if recovered {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert!(recovered, "{}", daemon.log_text());
    let verified = daemon.cli(&["receipts", "verify"]).unwrap();
    assert!(verified.ok(), "{verified}");
}

#[test]
fn a_secret_is_never_sent_to_a_host_it_is_not_for() {
    let world = World::new().unwrap();
    let daemon = world
        .daemon(&[(
            "bot",
            &POLICY.replace(
                "host: other.example.test, methods: [GET, POST], paths: \"/key/**\", credential: key",
                "host: other.example.test, methods: [GET, POST], paths: \"/key/**\", credential: api",
            ),
        )])
        .unwrap();
    daemon.secret_set("api-token", "api.example.test", &world.canaries.bearer).unwrap();
    let output = daemon
        .run_agent(
            "bot",
            &["curl", "-s", "-m", "10", "-w", "\n%{http_code}", "https://other.example.test/key/a"],
        )
        .unwrap();
    assert!(!output.stdout.ends_with("200"), "{output}");
    assert!(!world.seen().iter().any(|s| s.authorization.contains(&world.canaries.bearer)), "{output}");
}

#[test]
fn without_the_secret_nothing_is_forwarded() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let output = get(&daemon, "/v1/a");
    assert_ne!(output.stdout.trim(), "200", "{output}");
    assert_eq!(world.seen().len(), 0);
}

#[test]
fn without_a_daemon_commands_say_so() {
    let world = World::new().unwrap();
    let daemon = world.configured(&[("bot", POLICY)]).unwrap();
    let status = {
        // Settings are written at a start; here there is none.
        fs::write(&daemon.config, format!("run_dir: {}\n", daemon.settings.run_dir.display())).unwrap();
        daemon.cli(&["status"]).unwrap()
    };
    assert_eq!(status.code, Some(5), "{status}");
    let run = daemon.run_agent("bot", &["true"]).unwrap();
    assert_eq!(run.code, Some(125), "{run}");
    assert!(run.stderr.contains("enforcer daemon"), "it says what to start: {run}");
}

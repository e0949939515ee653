//! The worker that parses hostile bytes is locked in, in the product as it runs. What that stops is tested, attempt
//! by attempt, in `enforcer-capture`.

use std::fs;

use enforcer_tests::world::World;
use serde_json::Value;

use super::{POLICY, serving};

#[test]
fn the_worker_is_confined_and_says_so() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let status = daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("worker    confined (landlock ABI "), "{status}");

    let status: Value = serde_json::from_str(&daemon.cli_ok(&["status", "--json"]).unwrap()).unwrap();
    let proc = format!("/proc/{}", status["pid"]);
    for task in fs::read_dir(format!("{proc}/task")).unwrap() {
        let shown = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            shown.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned)
        };
        assert_eq!(field("Seccomp:").as_deref(), Some("2"), "{shown}");
        // The keeper's, which it was born with, and two of its own.
        assert_eq!(field("Seccomp_filters:").as_deref(), Some("3"), "{shown}");
        assert_eq!(field("NoNewPrivs:").as_deref(), Some("1"), "{shown}");
        assert_eq!(field("CapEff:").as_deref(), Some("0000000000000000"), "{shown}");
    }
    let limits = fs::read_to_string(format!("{proc}/limits")).unwrap();
    let limit = |name: &str| {
        let words = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace();
        words.take(2).map(|value| value.parse::<u64>().ok()).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max core file size"), [Some(0), Some(0)]);
    // As many descriptors as the host lets the daemon have.
    assert_eq!(limit("Max open files")[0], limit("Max open files")[1], "{limits}");
    assert!(limit("Max processes")[0].is_some(), "{limits}");
    // Its memory and descriptors are closed to its own user, and stay so.
    assert_eq!(
        fs::metadata(format!("{proc}/mem")).map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap(),
        0
    );
}

#[test]
fn a_policy_folder_put_in_the_place_of_another_is_read_after_a_restart() {
    let world = World::new().unwrap();
    let mut daemon = serving(&world);
    let folder = daemon.settings.policy_dir.clone();
    fs::rename(&folder, folder.with_extension("old")).unwrap();
    fs::create_dir(&folder).unwrap();
    daemon.write_policy("second", &POLICY.replace("agent: bot", "agent: second")).unwrap();
    let reload = daemon.cli(&["reload"]).unwrap();
    assert!(!reload.ok() && reload.all().contains("restart the daemon"), "{reload}");
    assert_eq!(daemon.shell("bot", "exit 3").unwrap().code, Some(3), "the policies before stay in force");
    daemon.restart().unwrap();
    assert_eq!(daemon.shell("second", "exit 4").unwrap().code, Some(4));
    assert_eq!(daemon.shell("bot", "exit 3").unwrap().code, Some(125));
}

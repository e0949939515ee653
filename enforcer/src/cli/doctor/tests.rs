use std::path::{Path, PathBuf};

use enforcer_capture::kernel::Inspection;

use super::daemon::{judge_hooks, judge_pins, judge_proofs, judge_version};
use super::files::{judge_key, judge_space, permits};
use super::host::{judge_capabilities, judge_core_pattern, judge_swap, taken_ids};
use super::kernel::{judge_hierarchy, parse_mounts};
use super::*;
use crate::cli::tests::{enforcer, file};
use crate::config::Ids;

/// The word, and a part of what is found.
fn check(finding: &Finding, word: &str, part: &str) {
    assert_eq!(finding.word(), word, "{finding:?}");
    assert!(finding.found().contains(part), "{finding:?} does not say `{part}`");
    assert_eq!(finding.fix().is_none_or(str::is_empty), word == "ok", "{finding:?}");
}

#[test]
fn hierarchies_are_told_apart() {
    let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\nproc /proc proc rw 0 0\n";
    let hybrid = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                  cgroup /sys/fs/cgroup/net_cls,net_prio cgroup rw,net_cls,net_prio 0 0\n";
    let legacy = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\nbroken line\n";
    for (table, version, word, part) in [
        (unified, (6, 1), "ok", "unified, at /sys/fs/cgroup"),
        (unified, (5, 4), "ok", "unified"),
        (hybrid, (6, 1), "ok", "hybrid with cgroup v1, at /sys/fs/cgroup/unified"),
        (hybrid, (5, 10), "fail", "net_cls, net_prio"),
        (legacy, (6, 1), "fail", "no cgroup2"),
        ("", (6, 1), "fail", "no cgroup2"),
    ] {
        check(&judge_hierarchy(&parse_mounts(table), Some(version)), word, part);
    }
}

#[test]
fn swap_on_a_disk_is_a_warning() {
    let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
    for (rows, word, part) in [
        ("", "ok", "none"),
        ("/dev/zram0 partition 1 0 100\n", "ok", "zram"),
        ("/dev/zram0 partition 1 0 100\n/swapfile file 1 0 -2\n", "warn", "written to /swapfile"),
        ("/dev/dm-1 partition 1 0 -2\n", "warn", "/dev/dm-1"),
    ] {
        check(&judge_swap(&format!("{head}{rows}")), word, part);
    }
    check(&judge_swap(""), "ok", "none");
}

#[test]
fn root_of_a_container_is_less_than_root() {
    check(&judge_capabilities("Name:\tx\nCapBnd:\t000001ffffffffff\n"), "ok", "all");
    // What an engine gives by default.
    check(&judge_capabilities("CapBnd:\t00000000a80425fb\n"), "fail", "CAP_SYS_ADMIN");
    check(&judge_capabilities("Name:\tx\n"), "warn", "not checked");
}

#[test]
fn a_proof_that_failed_is_broken() {
    check(&judge_proofs(&json!({ "proofs": { "bot": { "holds": true } } })), "ok", "bot");
    check(&judge_proofs(&json!({ "proofs": {} })), "ok", "none");
    let failed =
        json!({ "proofs": { "bot": { "holds": false, "leaks": ["tcp4"] }, "a": { "holds": true } } });
    check(&judge_proofs(&failed), "fail", "bot (tcp4)");
}

#[test]
fn core_patterns_that_start_programs_are_a_warning() {
    check(&judge_core_pattern("core"), "ok", "core");
    check(&judge_core_pattern("/var/crash/%e"), "ok", "/var/crash");
    check(
        &judge_core_pattern("|/usr/lib/systemd/systemd-coredump %P %u"),
        "warn",
        "`/usr/lib/systemd/systemd-coredump`",
    );
}

#[test]
fn ids_of_others_are_found() {
    let taken = |passwd, group, subuid| taken_ids(&Ids::default(), passwd, group, subuid);
    assert!(
        taken("alice:x:1000:1000::/:/bin/sh\nbad line\n", "users:x:100:\n", "alice:100000:65536\n")
            .is_empty()
    );
    assert_eq!(taken("eve:x:61600:1::/:/bin/sh\n", "", ""), ["user eve"]);
    assert_eq!(taken("w:x:61500:1::/:/bin/sh\n", "g:x:61999:\n", ""), ["user w", "group g"]);
    assert!(taken("a:x:61599:1::/:/\n", "b:x:62624:\n", "c:62624:1\nd:61900:0\n").is_empty());
    assert_eq!(taken("", "", "bob:61000:1000\n"), ["containers of bob (/etc/subuid)"]);
    assert_eq!(taken("", "", "bob:1:4294967295\n"), ["containers of bob (/etc/subuid)"]);
}

#[test]
fn keys_are_for_root_alone_and_not_beside_the_vault() {
    let judge = |path: &str, file, uid, mode| {
        judge_key(Path::new(path), file, uid, mode, Path::new("/var/lib/enforcer"))
    };
    check(&judge("/etc/enforcer/vault.key", true, 0, 0o100_600), "ok", "root alone");
    check(&judge("/etc/enforcer/vault.key", true, 0, 0o100_640), "fail", "mode 0640");
    check(&judge("/etc/enforcer/vault.key", true, 1000, 0o100_600), "fail", "user 1000");
    check(&judge("/etc/enforcer/vault.key", false, 0, 0o120_600), "fail", "not a file");
    check(&judge("/var/lib/enforcer/vault.key", true, 0, 0o100_600), "warn", "beside the vault");
}

#[test]
fn a_full_disk_is_broken_and_a_small_one_a_warning() {
    const MIB: u64 = 1024 * 1024;
    let judge = |mib: u64, inodes| judge_space(Path::new("/var/lib/enforcer"), mib * MIB, inodes);
    check(&judge(10_240, (1000, 2000)), "ok", "10 GiB");
    check(&judge(10_240, (0, 0)), "ok", "10 GiB");
    check(&judge(500, (1000, 2000)), "warn", "500 MiB");
    check(&judge(63, (1000, 2000)), "fail", "63 MiB");
    check(&judge(10_240, (3, 2000)), "fail", "3 inodes");
}

#[test]
fn permission_is_by_owner_then_group_then_others() {
    for (uid, gid, mode, bit, may) in [
        (0, 0, 0o644, 4, true),
        (0, 0, 0o640, 4, false),
        (0, 61500, 0o640, 4, true),
        (61500, 0, 0o044, 4, false),
        (61500, 0, 0o400, 4, true),
        (0, 0, 0o711, 1, true),
        (0, 0, 0o710, 1, false),
    ] {
        assert_eq!(permits(uid, gid, mode, 61500, bit), may, "{uid} {gid} {mode:o} {bit}");
    }
}

#[test]
fn sockets_that_agents_see_are_a_warning() {
    let path = |text: &str| PathBuf::from(text);
    check(&neighbours::judge(&[], &[]), "ok", "none");
    check(
        &neighbours::judge(&[], &[path("/run/docker.sock")]),
        "ok",
        "out of agents' reach: /run/docker.sock",
    );
    check(
        &neighbours::judge(&[path("/tmp/s")], &[path("/run/docker.sock")]),
        "warn",
        "connect to /tmp/s; out of",
    );
    for (text, hidden) in [
        ("/run/docker.sock", true),
        ("/tmp/.X11-unix/X0", true),
        ("/tmp/.X11-unixes/X0", false),
        ("/tmp/a/run/s", false),
        ("/running/s", false),
    ] {
        assert_eq!(neighbours::is_hidden(&path(text)), hidden, "{text}");
    }
}

#[test]
fn pins_and_hooks_are_judged() {
    let all = || Inspection { hooks: 15, attached: 15, ..Inspection::default() };
    let none = || Inspection { hooks: 15, unpinned: vec!["egress"; 15], ..Inspection::default() };
    check(&judge_pins(&all(), true), "ok", "all 15");
    check(&judge_pins(&all(), false), "ok", "all 15");
    check(&judge_pins(&none(), false), "warn", "nothing is pinned");
    check(&judge_pins(&none(), true), "fail", "without a pin: egress");
    let partly = Inspection { attached: 14, elsewhere: vec!["connect4"], ..all() };
    check(&judge_pins(&partly, false), "fail", "elsewhere: connect4");
    let no_map = Inspection { missing_maps: vec!["AGENTS"], ..all() };
    check(&judge_pins(&no_map, true), "fail", "maps without a pin: AGENTS");
    check(&judge_hooks(&all()), "ok", "no program but ours");
    check(&judge_hooks(&Inspection { others: vec![("connect4", 2)], ..all() }), "warn", "connect4 (2)");
    check(&judge_version("0.1.0", "0.1.0"), "ok", "0.1.0");
    check(&judge_version("0.0.9", "0.1.0"), "warn", "0.0.9");
}

#[test]
fn names_are_unique_and_stable_words() {
    let mut seen = std::collections::BTreeSet::new();
    for check in CHECKS.iter().copied().flatten() {
        assert!(
            check.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{}",
            check.name
        );
        assert!(seen.insert(check.name), "{} twice", check.name);
    }
}

/// On this very machine, whatever it is like: as root everything is looked at, and something may be broken.
#[test]
fn a_real_run_has_every_check_and_ends_with_0_or_8() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let settings = format!(
        "run_dir: {}\nstate_dir: {}\npolicy_dir: {}\nvault_key: {}\nmanaged_root: enforcer-doctor-test.slice\n",
        path("run"),
        path("state"),
        path("policies"),
        path("vault.key")
    );
    let config = file(folder.path(), "enforcer.yaml", &settings);
    let (code, text, error) = enforcer(&["--config", &config, "doctor"]);
    let (json_code, json, _) = enforcer(&["--config", &config, "--json", "doctor"]);
    assert_eq!((code, error.as_str()), (json_code, ""));
    let json: Value = serde_json::from_str(&json).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let names: Vec<&str> = CHECKS.iter().copied().flatten().map(|check| check.name).collect();
    assert_eq!(json["checks"].as_array().unwrap().len(), names.len());
    for (name, entry) in names.iter().zip(json["checks"].as_array().unwrap()) {
        assert_eq!(entry["name"], *name);
        let status = entry["status"].as_str().unwrap();
        assert!(["ok", "warn", "fail"].contains(&status), "{entry}");
        assert_eq!(entry["fix"].is_null(), status == "ok", "{entry}");
        let begins = |line: &&&str| line.starts_with(&format!("{status:<4}  {name} "));
        assert_eq!(lines.iter().filter(begins).count(), 1, "{name}:\n{text}");
    }
    // There is no daemon and no policy: that much is broken anywhere.
    let of = |name: &str| json["checks"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap();
    assert_eq!(
        (of("daemon")["status"].as_str(), of("policy-dir")["status"].as_str()),
        (Some("fail"), Some("fail"))
    );
    assert_eq!((code, &json["ok"]), (8, &Value::Bool(false)), "{text}");
    // Nothing was made.
    assert!(!folder.path().join("state").exists() && !folder.path().join("vault.key").exists());
}

#[test]
fn broken_settings_are_one_finding_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "enforcer.yaml", "policy_dirr: /x\n");
    let (code, text, _) = enforcer(&["--config", &config, "doctor"]);
    assert_eq!(code, 8);
    assert!(text.contains("fail  settings ") && text.contains("policy_dirr"), "{text}");
    assert!(text.contains("not checked: the settings do not load") && text.contains("  kernel "), "{text}");
}

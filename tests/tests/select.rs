//! Which agent something is, as policies say under `select`: through `enforcer attach`, with and without a name, and `enforcer run`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use enforcer_tests::world::command::{self, Running};
use enforcer_tests::world::workload::Workload;
use enforcer_tests::world::{Daemon, World};

const LIMIT: Duration = Duration::from_secs(30);
/// Users of the workloads, one each.
const USERS: [u32; 4] = [61_971, 61_972, 61_973, 61_974];

/// A service with one process, until the handle is dropped, and the id of that process.
fn running<'w>(world: &'w World, label: &str, uid: u32) -> (Workload<'w>, Running, u32) {
    let workload = world.service(label, uid).unwrap();
    let (handle, pid) = started(&workload, "");
    (workload, handle, pid)
}

/// Starts one more process, and waits until it has its user.
fn started(workload: &Workload<'_>, before: &str) -> (Running, u32) {
    let handle = workload.spawn(&["sleep", "300"]).unwrap();
    let deadline = Instant::now() + LIMIT;
    loop {
        let all = fs::read_to_string(workload.cgroup.join("cgroup.procs")).unwrap();
        let new = all.lines().find(|pid| !before.lines().any(|old| old == *pid));
        let comm = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if let Some(pid) = new.filter(|pid| comm(pid) == "sleep\n") {
            return (handle, pid.parse().unwrap());
        }
        assert!(Instant::now() < deadline, "nothing runs in {}: {all:?}", workload.path());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// As the kernel shows it, from the root of the hierarchy.
fn path(pid: u32) -> String {
    let shown = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    shown.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

fn attached(daemon: &Daemon<'_>, words: &[&str], agent: &str) {
    let said = daemon.cli_ok(&[&["attach"], words].concat()).unwrap();
    assert!(said.starts_with(&format!("{agent} is attached as ")), "{words:?}: {said}");
    daemon.cli_ok(&["detach", agent]).unwrap();
}

fn refused(daemon: &Daemon<'_>, words: &[&str], why: &[&str]) {
    let output = daemon.cli(words).unwrap();
    println!("{words:?}: {}", output.all());
    assert!(!output.ok(), "{words:?}");
    for why in why {
        assert!(output.all().contains(why), "{words:?}: {why}: {}", output.all());
    }
    assert!(!daemon.cli_ok(&["status"]).unwrap().contains("attached"), "{words:?}");
}

#[test]
fn what_is_selected_is_the_agent_and_nothing_else_is() {
    let world = World::new().unwrap();
    let [one, two, both, nobody] = USERS;
    let (first, _one, first_pid) = running(&world, "sel1", one);
    let (mut second, _two, _) = running(&world, "sel2", two);
    let (third, _three, _) = running(&world, "sel3", both);
    let (fourth, _four, fourth_pid) = running(&world, "sel4", nobody);
    let policy = |agent: &str, select: &str| format!("version: 1\nagent: {agent}\n{select}");
    let by_user = |uid: u32| format!("select: [{{ user: {uid} }}]");
    let policies = [
        ("by-path", format!("select: [{{ cgroup: \"{}\" }}]", path(first_pid))),
        ("by-user", by_user(two)),
        ("by-run", "select: [{ run: by-run }]".to_owned()),
        ("both-one", by_user(both)),
        ("both-two", format!("select: [{{ run: both-two }}, {{ user: {both} }}]")),
        (
            "by-container",
            "select: [{ container: { image: \"agents/*:1\", labels: { role: help* } } }]".to_owned(),
        ),
        ("unsaid", String::new()),
    ]
    .map(|(agent, select)| (agent, policy(agent, &select)));
    let policies: Vec<(&str, &str)> = policies.iter().map(|(agent, text)| (*agent, text.as_str())).collect();
    let daemon = world.daemon(&policies).unwrap();

    // Without a name: the one that selects it.
    attached(&daemon, &["--cgroup", first.path()], "by-path");
    attached(&daemon, &["--cgroup", second.path()], "by-user");
    refused(&daemon, &["attach", "--cgroup", third.path()], &["both-one, both-two all select this"]);
    refused(&daemon, &["attach", "--cgroup", fourth.path()], &["no policy selects this", "name the agent"]);

    // With a name: not against the policy of that name.
    attached(&daemon, &["both-two", "--cgroup", third.path()], "both-two");
    attached(&daemon, &["unsaid", "--cgroup", fourth.path()], "unsaid");
    let place = format!("selects cgroup {}", path(first_pid));
    refused(&daemon, &["attach", "by-path", "--cgroup", second.path()], &["`by-path` is not this", &place]);
    let user = format!("selects user {two}");
    refused(&daemon, &["attach", "by-user", "--cgroup", first.path()], &["`by-user` is not this", &user]);
    refused(
        &daemon,
        &["attach", "by-run", "--cgroup", first.path()],
        &["selects what `enforcer run` starts"],
    );
    refused(
        &daemon,
        &["attach", "no-such", "--cgroup", first.path()],
        &["no policy in force names agent `no-such`"],
    );
    refused(&daemon, &["run", "by-path", "--", "true"], &["`by-path` is not this", "add `- run: by-path`"]);
    daemon.cli_ok(&["run", "by-run", "--", "true"]).unwrap();
    daemon.cli_ok(&["run", "both-two", "--", "true"]).unwrap();
    daemon.cli_ok(&["run", "unsaid", "--", "true"]).unwrap();

    // Of two users is not of one.
    let before = fs::read_to_string(second.cgroup.join("cgroup.procs")).unwrap();
    second.who = second.who.iter().map(|word| word.replace(&two.to_string(), &one.to_string())).collect();
    let _other = started(&second, &before);
    let users = format!("as {one}, {two}");
    refused(&daemon, &["attach", "--cgroup", second.path()], &["no policy selects this", &users]);
    refused(&daemon, &["attach", "by-user", "--cgroup", second.path()], &["`by-user` is not this", &users]);

    // What an engine tells.
    let engine = |image: &str, role: &str| {
        let told = format!(
            r#"[{{"State":{{"Pid":{fourth_pid}}},"Name":"/web","Config":{{"Image":"{image}","Labels":{{"role":"{role}"}}}}}}]"#
        );
        let folder = world.dir.join("engine");
        fs::create_dir_all(&folder).unwrap();
        let docker = folder.join("docker");
        fs::write(&docker, format!("#!/bin/sh\n[ \"$*\" = 'inspect -- web' ] && echo '{told}'\n")).unwrap();
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
        let mut tool = daemon.tool(&["attach", "--container", "web"]);
        tool.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()));
        command::run(tool, LIMIT).unwrap()
    };
    let said = engine("agents/helper:2", "helper");
    assert!(
        said.all().contains("no policy selects this")
            && said.all().contains("container web of image agents/helper:2"),
        "{said}"
    );
    assert!(engine("agents/helper:1", "other").all().contains("no policy selects this"));
    let said = engine("agents/helper:1", "helper");
    assert!(said.stdout.starts_with("by-container is attached as "), "{said}\n{}", daemon.log_text());
}

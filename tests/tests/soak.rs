//! Agents at work and at their tricks while the daemon is killed and restarted, and while policies change: nothing leaves past it,
//! no answer is wrong.
//!
//! A few rounds by default; `cargo xtask soak restarts reloads` makes it a hundred restarts and a thousand reloads (`ENFORCER_RESTARTS`,
//! `ENFORCER_RELOADS`).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use enforcer_probe::{Needs, ROUTES, Sign};
use enforcer_tests::packet::{PROBE_GROUP_V4, PROBE_GROUP_V6, Packet};
use enforcer_tests::world::{self, Daemon, Running, World, plan};

/// For a machine that compiles beside it; what it really took is printed.
const LIMIT: Duration = Duration::from_secs(40);

const POLICY: &str = r#"
version: 1
agent: bot
credentials:
  api: { bearer: { secret: api-token, env: API_TOKEN } }
allow:
  - { name: read, host: api.example.test, methods: GET, paths: "/v1/**", credential: api }
"#;

fn rounds(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// One agent that asks, two that try to get out.
struct Load {
    answers: PathBuf,
    agents: Vec<Running>,
}

impl Load {
    fn start(daemon: &Daemon<'_>, paths: &[&str]) -> Self {
        let dir = daemon.world.dir.join("work");
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
        let answers = dir.join("answers");
        let asking: String = paths
            .iter()
            .map(|path| {
                format!("curl -s -m 4 -w ' {path} %{{http_code}}\\n' https://api.example.test{path} | tr -d '\\n' >> {0}; echo >> {0}; ", answers.display())
            })
            .collect();
        let script = format!("while :; do {asking} done");
        let mut agents = vec![daemon.spawn_agent("bot", &["sh", "-c", &script]).unwrap()];
        let ways: Vec<&str> = ROUTES
            .iter()
            .filter(|r| r.needs == Needs::Nothing && r.sign == Sign::Packet)
            .filter(|r| !matches!(r.name, "setns-host" | "unshare-netns" | "unshare-userns-raw"))
            .map(|r| r.name)
            .collect();
        // Halves: with one agent a round of all of them would take longer than a restart.
        let probe = daemon.world.bin("probe").display().to_string();
        for half in ways.chunks(ways.len().div_ceil(2)) {
            let mut line = vec![probe.clone(), "loop".into(), "3600".into(), half.join(",")];
            line.extend([
                format!("v4={}", plan::ATTACKER_V4),
                format!("v6={}", plan::ATTACKER_V6),
                format!("ll6={}", plan::ATTACKER_LINK_LOCAL),
                format!("group4={PROBE_GROUP_V4}"),
                format!("group6={PROBE_GROUP_V6}"),
                format!("deputies={}", daemon.world.deputies().display()),
            ]);
            agents.push(daemon.spawn_agent("bot", &line).unwrap());
        }
        let load = Load { answers, agents };
        load.wait_for_more(0, "the agent is served");
        // One that is still being launched has no daemon to be launched by in a moment.
        let begun = Instant::now();
        while sessions_that_probe(daemon) < load.agents.len() - 1 {
            assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} until all agents run");
            std::thread::sleep(Duration::from_millis(20));
        }
        load
    }

    /// Every answer: what was said, for which path, with which code.
    fn answers(&self) -> Vec<String> {
        fs::read_to_string(&self.answers).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn good(&self) -> usize {
        self.answers().iter().filter(|line| line.ends_with(" 200")).count()
    }

    /// How long it took until there is one more good answer.
    fn wait_for_more(&self, than: usize, what: &str) -> Duration {
        let begun = Instant::now();
        while self.good() <= than {
            assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} until {what}: {:?}", self.answers().last());
            std::thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }

    /// Those that try to get out try on: one that succeeds ends.
    fn all_run(&mut self) {
        for agent in &mut self.agents {
            let ended = agent.child.try_wait().unwrap();
            assert!(ended.is_none(), "an agent ended: {ended:?}");
        }
    }
}

/// Cgroups in which the probe runs.
fn sessions_that_probe(daemon: &Daemon<'_>) -> usize {
    let probe = daemon.world.bin("probe");
    let runs = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == probe);
    let cgroup = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    let all = world::processes(&daemon.world.name).into_iter().map(|(pid, _)| pid);
    all.filter(runs).filter_map(cgroup).collect::<std::collections::BTreeSet<_>>().len()
}

/// The daemon's own packets go to the servers; nothing else may.
fn stray(world: &World, mark: usize) -> Vec<String> {
    let to_servers = |p: &Packet| {
        p.ip.is_some_and(|ip| ip.destination == plan::SERVER_V4 || ip.destination == plan::SERVER_V6)
    };
    world.sniffer.since(mark).iter().filter(|p| !to_servers(p)).map(ToString::to_string).collect()
}

/// What reached the server came from the injector: it alone has the credential.
fn all_injected(world: &World) {
    let right = format!("Bearer {}", world.canaries.bearer);
    let bare: Vec<_> = world.seen().into_iter().filter(|seen| seen.authorization != right).collect();
    assert!(bare.is_empty(), "requests past the injector: {bare:?}");
}

#[test]
fn restarts_under_load_let_nothing_out_and_answer_nothing_wrong() {
    let world = World::new().unwrap();
    let mut daemon = world.serving(POLICY).unwrap();
    let mark = world.sniffer.mark();
    let mut load = Load::start(&daemon, &["/v1/loop"]);
    let (mut ready, mut served) = (Vec::new(), Vec::new());
    for round in 0..rounds("ENFORCER_RESTARTS", 12) {
        // Every third as an administrator does it, the others as a crash.
        if round % 3 == 0 {
            daemon.stop().unwrap();
        } else {
            daemon.kill9().unwrap();
        }
        let (before, begun) = (load.good(), Instant::now());
        daemon.start().unwrap();
        ready.push(begun.elapsed());
        load.wait_for_more(before, "the agent is served again");
        served.push(begun.elapsed());
        let strays = stray(&world, mark);
        assert!(strays.is_empty(), "round {round}: {strays:?}");
        load.all_run();
    }
    ready.sort();
    served.sort();
    let middle = |times: &[Duration]| (times[times.len() / 2], *times.last().unwrap());
    println!("from start to ready: median {:?}, longest {:?}", middle(&ready).0, middle(&ready).1);
    println!("from start to served: median {:?}, longest {:?}", middle(&served).0, middle(&served).1);

    // Served right, or not at all: nobody was there.
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for line in load.answers() {
        let code = line.rsplit(' ').next().unwrap_or_default().to_owned();
        if code == "200" {
            assert!(line.contains("\"credential\":\"right\""), "{line}");
        }
        *codes.entry(code).or_default() += 1;
    }
    println!("answers: {codes:?}");
    codes.retain(|code, _| !matches!(code.as_str(), "200" | "000" | ""));
    assert!(codes.is_empty(), "wrong answers: {codes:?}");
    all_injected(&world);
}

#[test]
fn a_storm_of_reloads_lets_nothing_out_and_interrupts_nothing() {
    let world = World::new().unwrap();
    let daemon = world.serving(POLICY).unwrap();
    let wider = format!(
        "{POLICY}  - {{ name: more, host: api.example.test, methods: GET, paths: \"/v2/**\", credential: api }}\n"
    );
    let broken = POLICY.replace("version: 1", "version: 1\nnonsense: yes");
    let mark = world.sniffer.mark();
    let mut load = Load::start(&daemon, &["/v1/always", "/v2/sometimes"]);
    for round in 0..rounds("ENFORCER_RELOADS", 60) {
        let text = [&wider, POLICY, &broken][round % 3];
        daemon.write_policy("bot", text).unwrap();
        let reload = daemon.cli(&["reload"]).unwrap();
        assert_eq!(reload.ok(), text != broken, "{reload}");
    }
    daemon.write_policy("bot", POLICY).unwrap();
    daemon.cli_ok(&["reload"]).unwrap();
    load.wait_for_more(load.good(), "the agent is served");
    load.all_run();
    let strays = stray(&world, mark);
    assert!(strays.is_empty(), "{strays:?}");
    let mut codes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in load.answers() {
        let mut words = line.rsplit(' ');
        let (code, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        *codes.entry((path.to_owned(), code.to_owned())).or_default() += 1;
    }
    println!("answers: {codes:?}");
    for (path, code) in codes.keys() {
        // A request that the new policy does not allow is cut under way: curl says 000.
        let fine = match path.as_str() {
            "/v1/always" => code == "200",
            "/v2/sometimes" => matches!(code.as_str(), "200" | "403" | "000"),
            // The last line may be half written.
            _ => true,
        };
        assert!(fine, "{path} {code}: {codes:?}");
    }
    all_injected(&world);
}

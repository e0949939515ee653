//! The run: two launched agents and an attached service at work, faults thrown one after another, then what everybody wrote.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::check::{self, Histories, Verdict};
use super::faults::{Fault, Target, served_again};
use super::history;
use super::measure::{self, DESCRIPTORS, RESIDENT, Series, Watcher};
use crate::world::command::{self, Running};
use crate::world::{Daemon, World, plan};

const LAUNCHED: [&str; 2] = ["one", "two"];
const ATTACHED: &str = "three";
/// Every kind of request must have come to its good end, which is one of these.
const KINDS: [&str; 9] =
    ["item", "post", "down", "up", "events", "limited", "forbidden", "websocket", "tunnel"];
const GOOD: [&str; 3] = ["200", "101", "403 no_rule"];
pub const WORKER: &str = "worker";
pub const KEEPER: &str = "keeper";
const SERVICE_UID: u32 = 61_993;
const SECRET: &str = "soak-token";
/// The agents' requests end within their own limit.
const ENDING: Duration = Duration::from_secs(180);
/// What the allocator keeps for the next burst has grown until then.
const WARM_UP: Duration = Duration::from_secs(120);
/// Connections that are kept wait a minute for their next request.
const DRAINING: Duration = Duration::from_secs(90);
const EXPORTING: Duration = Duration::from_secs(600);

/// How long, and how hard.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// With restarts and kills.
    pub rough: Duration,
    /// Without: the daemon's processes stay the same and are measured.
    pub quiet: Duration,
    /// What of it is not measured: caches and pools fill.
    pub warm_up: Duration,
    /// Between two faults.
    pub gap: Duration,
}

impl Plan {
    /// Half of it rough.
    pub fn minutes(minutes: u32) -> Self {
        let half = Duration::from_secs(30) * minutes;
        let warm_up = (half / 5).max(WARM_UP).min(half);
        Plan { rough: half, quiet: half, warm_up, gap: Duration::from_secs(8) }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub plan: Plan,
    pub verdict: Verdict,
    /// How often each was done, and the longest time until every agent had a good answer again.
    pub faults: BTreeMap<Fault, (usize, Duration)>,
    /// How often the receipts were verified; each time they were whole.
    pub verified: usize,
    pub receipts: usize,
    pub tunnels: usize,
    pub series: Series,
    /// The worker's descriptors without load: before all of it, and when its connections had gone.
    pub idle: (f64, f64),
    /// Where the histories are, if something was wrong with them.
    pub kept: Option<PathBuf>,
    /// Of the daemon's log: what must not be there.
    pub panics: Vec<String>,
}

/// A leak of this much is what the soak is to find.
const MOST_GROWTH: f64 = 1024.0;
/// What may differ in descriptors from one moment to the next: the load is the same on the average.
const MORE_DESCRIPTORS: f64 = 16.0;

impl Report {
    /// What must not be, in words; empty after a good run.
    pub fn wrongs(&self) -> Vec<String> {
        let mut wrongs = Vec::new();
        for (fault, which) in &self.verdict.faults {
            wrongs.push(format!("{fault}: {} times", which.len()));
            wrongs.extend(which.iter().take(5).map(|one| format!("    {one}")));
        }
        wrongs.extend(self.kept.iter().map(|kept| format!("the histories are kept in {}", kept.display())));
        wrongs.extend(self.panics.iter().cloned());
        for kind in KINDS {
            if GOOD.iter().all(|end| self.verdict.ended(kind, end) == 0) {
                wrongs.push(format!("no request of the kind `{kind}` was answered"));
            }
        }
        let warm_up = self.plan.warm_up.as_secs_f64();
        for process in [WORKER, KEEPER] {
            let fit = |what| {
                self.series.get(&(process.to_owned(), what)).and_then(|all| measure::fit(all, warm_up))
            };
            let (Some(memory), Some(descriptors)) = (fit(RESIDENT), fit(DESCRIPTORS)) else { continue };
            // A short run cannot tell; it says so by its error.
            if memory.slope - 2.0 * memory.error > MOST_GROWTH {
                wrongs.push(format!("the {process} grows by {:.0} KiB an hour", memory.slope));
            }
            let hours = (self.plan.quiet.saturating_sub(self.plan.warm_up)).as_secs_f64() / 3600.0;
            if (descriptors.slope - 2.0 * descriptors.error) * hours > MORE_DESCRIPTORS {
                wrongs.push(format!("the {process}'s descriptors grow by {:.0} an hour", descriptors.slope));
            }
        }
        let (before, after) = self.idle;
        if after > before + MORE_DESCRIPTORS {
            wrongs.push(format!("{before} descriptors before the load, {after} after it"));
        }
        wrongs
    }
}

/// Plays it on a stage of its own; `says` is told what happens.
pub fn play(world: &World, plan: Plan, says: &dyn Fn(&str)) -> Result<Report> {
    let upstream = world.dir.join("outside/soak");
    fs::DirBuilder::new().mode(0o700).create(&upstream)?;
    let names = LAUNCHED.iter().chain([&ATTACHED]);
    let policies: Vec<(String, [String; 2])> =
        names.map(|name| ((*name).to_owned(), [policy(name, ""), policy(name, MORE)])).collect();
    let first: Vec<(&str, &str)> =
        policies.iter().map(|(name, [first, _])| (name.as_str(), first.as_str())).collect();
    let mut daemon = world.daemon(&first)?;
    let traffic = world.bin("traffic");
    ensure!(traffic.exists(), "the load is not built. Run: cargo build -p enforcer-tests --bins");
    let mut server = world.outside(&[&traffic]);
    server.arg("upstream").arg(world.dir.join("pki")).arg(&upstream);
    world.server(server, &upstream.join("log"))?;

    let work = world.dir.join("work");
    fs::create_dir_all(&work)?;
    fs::set_permissions(&work, fs::Permissions::from_mode(0o1777))?;
    let ours = world.dir.join("ours.pem");
    fs::write(&ours, daemon.cli_ok(&["ca", "export"])?)?;
    let service = world.service("soak", SERVICE_UID)?;
    let target = Target::new(&mut daemon, policies, SECRET, upstream.join("accepted"))?;

    let before = measure::look(worker(target.daemon)?)?[DESCRIPTORS];
    let mut agents = Vec::new();
    for name in LAUNCHED {
        agents.push(target.daemon.spawn_agent(name, &agent(&traffic, name, &work, "-"))?);
    }
    // It waits until it is attached, so that nothing of it goes past the injector.
    let wait = "while [ ! -e \"$0/start\" ]; do sleep 0.1; done; exec \"$@\"";
    let mut words = vec!["sh".to_owned(), "-c".to_owned(), wait.to_owned(), work.display().to_string()];
    words.extend(agent(&traffic, ATTACHED, &work, &plan::SHOP_V4.to_string()));
    let mut command = service.command(&words);
    command.env("SSL_CERT_FILE", &ours);
    agents.push(Running::spawn(command, None)?);
    while fs::read_to_string(service.cgroup.join("cgroup.procs"))?.is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    target.daemon.cli_ok(&["attach", ATTACHED, "--cgroup", service.path()])?;
    fs::write(work.join("start"), "")?;

    let begun = Instant::now();
    let files: Vec<PathBuf> = LAUNCHED.iter().chain([&ATTACHED]).map(|name| work.join(name)).collect();
    all_served(&files, &vec![0; files.len()]).context("the agents do not begin")?;
    let mut run = Run { target, files, agents, faults: BTreeMap::new(), verified: 0, says };
    says("the agents are at work");
    run.phase(plan.rough, plan.gap, Fault::ROUGH)?;
    run.target.throw(Fault::Restart)?;
    let worker = worker(run.target.daemon)?;
    let keeper = run.target.daemon.pid().context("the keeper has a process")?;
    let watcher = Watcher::start(vec![(WORKER.to_owned(), worker), (KEEPER.to_owned(), keeper)]);
    says("from here on the daemon's processes stay the same");
    run.phase(plan.quiet, plan.gap, Fault::QUIET)?;
    let series = watcher.stop()?;
    run.target.throw(Fault::Clear)?;

    fs::write(work.join("stop"), "")?;
    says("the agents come to an end");
    let Run { target, agents, faults, verified, .. } = run;
    for agent in agents {
        let output = agent.finish(begun.elapsed() + ENDING)?;
        ensure!(!output.timed_out, "an agent did not end\n{output}");
    }
    let drained = drained(worker)?;
    target.verify()?;
    let exported = world.dir.join("receipts.jsonl");
    let out = exported.display().to_string();
    let output = command::run(target.daemon.tool(&["receipts", "export", "--output", &out]), EXPORTING)?;
    ensure!(output.ok(), "{output}");
    let mut histories = Histories {
        agents: Vec::new(),
        upstream: history::read(&upstream.join("upstream"))?,
        receipts: history::receipts(&exported)?,
        replaced: target.secret.replaced.clone(),
    };
    for name in LAUNCHED.iter().chain([&ATTACHED]) {
        histories.agents.extend(history::read(&work.join(name))?);
    }
    let (verdict, log) = (check::check(&histories), target.daemon.log_text());
    let kept = if verdict.good() {
        None
    } else {
        Some(keep(world, &[&upstream.join("upstream"), &exported, &work])?)
    };
    Ok(Report {
        plan,
        verdict,
        kept,
        faults,
        verified: verified + 1,
        receipts: histories.receipts.len(),
        tunnels: histories
            .receipts
            .iter()
            .filter(|receipt| receipt.protocol == "tcp" && receipt.allowed)
            .count(),
        series,
        idle: (before, drained),
        panics: log.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect(),
    })
}

struct Run<'r, 'd, 'w> {
    target: Target<'d, 'w>,
    /// The agents' histories.
    files: Vec<PathBuf>,
    agents: Vec<Running>,
    faults: BTreeMap<Fault, (usize, Duration)>,
    verified: usize,
    says: &'r dyn Fn(&str),
}

impl Run<'_, '_, '_> {
    fn phase(&mut self, length: Duration, gap: Duration, faults: &[Fault]) -> Result<()> {
        let begun = Instant::now();
        for fault in faults.iter().cycle() {
            if begun.elapsed() >= length {
                break;
            }
            (self.says)(&format!("{fault}"));
            let marks =
                self.files.iter().map(|file| Ok(fs::metadata(file)?.len())).collect::<Result<Vec<_>>>()?;
            self.target.throw(*fault).with_context(|| format!("{fault}"))?;
            let took = all_served(&self.files, &marks).with_context(|| format!("after: {fault}"))?;
            let (times, worst) = self.faults.entry(*fault).or_default();
            *times += 1;
            *worst = took.max(*worst);
            if fault.kills() {
                self.target.verify().with_context(|| format!("after: {fault}"))?;
                self.verified += 1;
            }
            for agent in &mut self.agents {
                let ended = agent.child.try_wait()?;
                ensure!(ended.is_none(), "an agent has ended: {ended:?}");
            }
            std::thread::sleep(gap.min(length.saturating_sub(begun.elapsed())));
        }
        Ok(())
    }
}

fn worker(daemon: &Daemon<'_>) -> Result<u32> {
    let workers = daemon.ours(&[WORKER]);
    let [worker] = workers.as_slice() else { bail!("there is one worker: {workers:?}") };
    Ok(u32::try_from(*worker)?)
}

fn all_served(files: &[PathBuf], marks: &[u64]) -> Result<Duration> {
    let begun = Instant::now();
    let deadline = command::patient(ENDING);
    for (file, from) in files.iter().zip(marks) {
        while !file.exists() {
            ensure!(begun.elapsed() < deadline, "{} did not begin", file.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        served_again(file, *from)?;
    }
    Ok(begun.elapsed())
}

/// The stage goes; a person may want to read them.
fn keep(world: &World, histories: &[&Path]) -> Result<PathBuf> {
    let to = std::env::temp_dir().join(format!("{}-histories", world.name));
    let mut words = vec!["cp".to_owned(), "-r".to_owned(), "-t".to_owned(), to.display().to_string()];
    fs::create_dir(&to)?;
    words.extend(histories.iter().map(|path| path.display().to_string()));
    command::must(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(to)
}

/// Descriptors once the connections of a load that has ended are gone.
fn drained(worker: u32) -> Result<f64> {
    let (begun, mut least) = (Instant::now(), f64::INFINITY);
    while begun.elapsed() < DRAINING {
        least = least.min(measure::look(worker)?[DESCRIPTORS]);
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(least)
}

const MORE: &str = "  - { name: more, host: other.example.test, methods: GET }\n";

fn policy(agent: &str, more: &str) -> String {
    let (host, tunnel) = (plan::SHOP, super::content::TUNNEL_PORT);
    format!(
        "version: 1\nagent: {agent}\ncredentials:\n  soak: {{ bearer: {{ secret: {SECRET}, env: SOAK_TOKEN }} }}\nallow:\n\
         \x20 - {{ name: read, host: {host}, methods: GET, paths: [\"/soak/item/**\", \"/soak/down/**\", \"/soak/events/**\"], credential: soak }}\n\
         \x20 - {{ name: write, host: {host}, methods: POST, paths: [\"/soak/post/**\", \"/soak/up/**\"], credential: soak }}\n\
         \x20 - {{ name: limited, host: {host}, methods: GET, paths: \"/soak/limited/**\", credential: soak, rate: 60/min }}\n\
         \x20 - {{ name: talk, host: {host}, methods: GET, paths: \"/soak/websocket/**\", credential: soak, websocket: true }}\n\
         \x20 - {{ name: relay, host: {host}, protocol: tcp, port: {tunnel} }}\n{more}"
    )
}

fn agent(traffic: &Path, name: &str, work: &Path, at: &str) -> Vec<String> {
    let (traffic, work) = (traffic.display().to_string(), work.display().to_string());
    vec![traffic, "agent".to_owned(), name.to_owned(), work, at.to_owned()]
}

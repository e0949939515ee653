//! `cargo xtask bench restart`: from the end of a daemon until the next one serves all that runs, on the stage of the tests.
//!
//! Sessions are attached services that share the host's network. A start that finds the programs in force takes turns with one that
//! does not know them and loads them anew, which is what every start did before decision 0126.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enforcer_tests::world::workload::Workload;
use enforcer_tests::world::{Daemon, World, plan};

use super::document;
use crate::run::note;

const SESSIONS: [usize; 3] = [0, 4, 12];
const FIRST_UID: u32 = 61_970;
const POLICY: &str = "version: 1\nagent: bot\nallow:\n  - { name: read, host: api.example.test }\n";

/// On the stage, as root.
pub(super) fn measure(root: &Path, write: bool, rounds: usize) -> Result<()> {
    let world = World::new()?;
    let mut daemon = world.serving(POLICY)?;
    let ca = world.dir.join("ours.pem");
    std::fs::write(&ca, daemon.cli_ok(&["ca", "export"])?)?;
    let mut text = format!(
        "{rounds} rounds, milliseconds, median (lowest to highest). `stop`: SIGTERM to the end; `start`: from the process to READY, when every session is served.\n\n\
         | attached sessions | stop | start, programs in force | start, programs loaded | ratio |\n|---|---|---|---|---|\n"
    );
    let mut attached = Vec::new();
    for sessions in SESSIONS {
        while attached.len() < sessions {
            attached.push(attach(&world, &daemon, attached.len())?);
        }
        let (mut stops, mut kept, mut loaded) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            for (starts, forget) in [(&mut kept, false), (&mut loaded, true)] {
                stops.push(timed(|| daemon.stop().map(drop))?);
                if forget {
                    forget_programs(&daemon.settings.pins)?;
                }
                starts.push(timed(|| daemon.start())?);
                attached
                    .iter()
                    .try_for_each(|(workload, _)| served(workload, &ca))
                    .with_context(|| daemon.log_text())?;
            }
        }
        let ratio = middle(&mut kept).as_secs_f64() / middle(&mut loaded).as_secs_f64();
        let [stops, kept, loaded] = [stops, kept, loaded].map(shown);
        text.push_str(&format!("| {sessions} | {stops} | {kept} | {loaded} | {ratio:.2} |\n"));
        note(&format!("{sessions} sessions"));
    }
    for (_, running) in attached {
        running.abandon()?;
    }
    anstream::println!("{text}");
    if write { document::write(root, "restart", &text) } else { Ok(()) }
}

type Attached<'w> = (Workload<'w>, enforcer_tests::world::Running);

fn attach<'w>(world: &'w World, daemon: &Daemon<'_>, number: usize) -> Result<Attached<'w>> {
    let workload = world.service(&format!("service{number}"), FIRST_UID + u32::try_from(number)?)?;
    // It says that it runs: its network is known when it is attached.
    let running = workload.spawn(&["sleep", "3600"])?;
    while std::fs::read_to_string(workload.cgroup.join("cgroup.procs"))?.is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()])?;
    Ok((workload, running))
}

/// The control: what is measured is a start after which it works.
fn served(workload: &Workload<'_>, ca: &Path) -> Result<()> {
    let (url, ca) = (format!("https://{}/v1/x", plan::API), ca.display().to_string());
    let resolve = format!("{}:443:{}", plan::API, plan::SERVER_V4);
    let words = ["curl", "-sSf", "-m", "10", "--cacert", &ca, "--resolve", &resolve, "-o", "/dev/null", &url];
    let output = workload.run(&words)?;
    ensure!(output.ok(), "a session is not served: {output}");
    Ok(())
}

/// What the programs in force were made from is not known any more.
fn forget_programs(pins: &Path) -> Result<()> {
    let attached = std::fs::read_dir(pins.join("attached")).into_iter().flatten().flatten();
    for dir in attached.map(|entry| entry.path()).chain([pins.to_owned()]) {
        std::fs::remove_file(dir.join("build")).with_context(|| format!("forget {}", dir.display()))?;
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn middle(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn shown(mut times: Vec<Duration>) -> String {
    let (middle, ms) = (middle(&mut times), |time: Option<&Duration>| time.map_or(0, Duration::as_millis));
    format!("{} ({} to {})", middle.as_millis(), ms(times.first()), ms(times.last()))
}

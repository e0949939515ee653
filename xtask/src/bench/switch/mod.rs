//! `cargo xtask bench switch`: how long an agent keeps what it had, once it is cut off, on the stage of the tests.
//!
//! A launched session and an attached service of one agent hold connections; so does the server at their other
//! ends. Both tell when each socket was dead, by the clock of the machine. The switches are thrown in turn.

mod report;
mod side;

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enforcer_tests::world::{Daemon, World, plan};
use rustix::time::{ClockId, clock_gettime};

use self::report::Results;
use self::side::{Said, Side};
use super::document;
use crate::run::note;

const AGENT: &str = "bench";
const TLS: u16 = 9450;
const RAW: u16 = 9451;
const SERVICE_UID: u32 = 61_991;
/// What has not happened by then does not happen.
const NEVER: Duration = Duration::from_secs(10);

/// What takes something away from the agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Switch {
    Disable,
    Tripwire,
    Secret,
    Policy,
}

impl Switch {
    const ALL: [Switch; 4] = [Switch::Disable, Switch::Tripwire, Switch::Secret, Switch::Policy];

    fn name(self) -> &'static str {
        match self {
            Switch::Disable => "`agent disable`",
            Switch::Tripwire => "a decoy is used",
            Switch::Secret => "`secret rm`",
            Switch::Policy => "a tighter policy, `reload`",
        }
    }

    /// Which sockets must die of it: what depends on it, and no more.
    fn ends(self) -> &'static [&'static str] {
        match self {
            Switch::Disable | Switch::Tripwire => &[
                "client agent download",
                "client agent websocket",
                "client agent tunnel",
                "client agent idle",
                "client agent denied",
                "client service download",
                "client service websocket",
                "client service denied",
                "upstream agent download",
                "upstream agent websocket",
                "upstream agent tunnel",
                "upstream agent idle",
                "upstream service download",
                "upstream service websocket",
            ],
            Switch::Secret => &[
                "client agent download",
                "client agent websocket",
                "client service download",
                "client service websocket",
                "upstream agent download",
                "upstream agent websocket",
                "upstream agent idle",
                "upstream service download",
                "upstream service websocket",
            ],
            Switch::Policy => &[
                "client agent download",
                "client agent websocket",
                "client agent tunnel",
                "client service download",
                "client service websocket",
                "upstream agent download",
                "upstream agent websocket",
                "upstream agent tunnel",
                "upstream service download",
                "upstream service websocket",
            ],
        }
    }
}

/// On the stage, as root.
pub(super) fn measure(root: &Path, write: bool, rounds: usize) -> Result<()> {
    let world = World::new()?;
    let mut results = Results::default();
    play(&world, rounds, &mut results)?;
    drop(world);
    let text = results.markdown(rounds);
    anstream::println!("{text}");
    if write { document::write(root, "switch", &text) } else { Ok(()) }
}

fn play(world: &World, rounds: usize, results: &mut Results) -> Result<()> {
    let daemon = world.daemon(&[(AGENT, &policy(true))])?;
    let (says, hears) = channel();
    let _upstream = Side::start(upstream(world), &says)?;
    hears.recv_timeout(NEVER).context("the server of held connections does not start")?;
    let workload = world.service("held", SERVICE_UID)?;
    let ca = world.dir.join("ours.pem");
    std::fs::write(&ca, daemon.cli_ok(&["ca", "export"])?)?;
    let at = plan::SERVER_V4.to_string();
    let mut command = workload.command(&holder("service", &at, &["download", "websocket"]));
    command.env("SSL_CERT_FILE", &ca);
    let service = Side::start(command, &says)?;
    // It runs: its network is known when it is attached.
    hears.recv_timeout(NEVER).context("the service does not start")?;
    daemon.cli_ok(&["attach", AGENT, "--cgroup", workload.path()])?;
    let kinds = ["tunnel", "download", "websocket", "idle"];
    let agent = Side::start(daemon.agent_command(AGENT, &holder("agent", "-", &kinds)), &says)?;
    let mut round = 0;
    for turn in 1..=rounds {
        for switch in Switch::ALL {
            round += 1;
            results.add(switch, &throw(&daemon, switch, round, [&service, &agent], &hears)?);
        }
        if turn % 10 == 0 {
            note(&format!("round {turn} of {rounds}"));
        }
    }
    Ok(())
}

/// When it was thrown and done, and when what died of it, in seconds of the machine's clock.
struct Thrown {
    start: f64,
    end: Option<f64>,
    ends: Vec<(&'static str, Option<f64>)>,
}

fn throw(
    daemon: &Daemon<'_>,
    switch: Switch,
    round: usize,
    holders: [&Side; 2],
    hears: &Receiver<Said>,
) -> Result<Thrown> {
    daemon.write_policy(AGENT, &policy(true))?;
    daemon.cli_ok(&["reload"])?;
    daemon.secret_set("api-token", &format!("https://{}:{TLS}", plan::API), &daemon.world.canaries.bearer)?;
    daemon.cli_ok(&["agent", "enable", AGENT])?;
    let mut told = Told { round, hears, heard: Vec::new() };
    // The launched session last: its idle connection upstream is then nobody else's next.
    for (holder, who) in holders.into_iter().zip(["service", "agent"]) {
        holder.tell(&format!("open {round}"))?;
        let open = format!("client {who} open");
        told.wait(&open).with_context(|| format!("{who} has no connections"))?;
    }
    for holder in holders {
        holder.tell("watch")?;
    }
    if switch == Switch::Policy {
        daemon.write_policy(AGENT, &policy(false))?;
    }
    let (start, end) = match switch {
        Switch::Disable => timed(daemon, &["agent", "disable", AGENT])?,
        Switch::Secret => timed(daemon, &["secret", "rm", "api-token"])?,
        Switch::Policy => timed(daemon, &["reload"])?,
        Switch::Tripwire => {
            holders[1].tell("bait")?;
            (told.wait("client agent start").context("the bait was not sent")?, None)
        }
    };
    let ends = switch.ends().iter().map(|what| (*what, told.wait(what))).collect();
    for holder in holders {
        holder.tell("close")?;
    }
    Ok(Thrown { start, end, ends })
}

/// What was said of one round.
struct Told<'a> {
    round: usize,
    hears: &'a Receiver<Said>,
    heard: Vec<Said>,
}

impl Told<'_> {
    /// When it happened.
    fn wait(&mut self, what: &str) -> Option<f64> {
        let deadline = Instant::now() + NEVER;
        loop {
            if let Some(said) = self.heard.iter().find(|said| said.what == what) {
                return Some(said.at);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let said = self.hears.recv_timeout(left).ok()?;
            if said.round == self.round {
                self.heard.push(said);
            }
        }
    }
}

/// A command, from before its process is made to after it has ended.
fn timed(daemon: &Daemon<'_>, words: &[&str]) -> Result<(f64, Option<f64>)> {
    let mut command = daemon.tool(words);
    let start = now();
    let output = command.output()?;
    let end = now();
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok((start, Some(end)))
}

fn now() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// `loose`: it lets through what is held.
fn policy(loose: bool) -> String {
    let (api, held) = (plan::API, if loose { "/held/**" } else { "/held/*/*/idle" });
    let websocket = if loose { ", websocket: true" } else { "" };
    let raw = if loose {
        format!("  - {{ name: raw, host: {api}, protocol: tcp, port: {RAW} }}\n")
    } else {
        String::new()
    };
    format!(
        "version: 1\nagent: {AGENT}\ncredentials:\n  api: {{ bearer: {{ secret: api-token, env: API_TOKEN }} }}\n\
         decoys:\n  - {{ name: backup, env: AWS_SECRET_ACCESS_KEY }}\nallow:\n\
         \x20 - {{ name: held, host: {api}, port: {TLS}, methods: GET, paths: \"{held}\", credential: api{websocket} }}\n{raw}"
    )
}

fn holder(who: &str, at: &str, kinds: &[&str]) -> Vec<String> {
    let (tls, raw) = (TLS.to_string(), RAW.to_string());
    let mut words = vec!["/usr/bin/python3", "-c", include_str!("holder.py"), who, plan::API, &tls, &raw, at];
    words.extend(kinds);
    words.into_iter().map(str::to_owned).collect()
}

fn upstream(world: &World) -> Command {
    let pki = world.dir.join("pki");
    let mut command = world.outside(&["/usr/bin/python3", "-c", include_str!("upstream.py")]);
    command
        .args([plan::SERVER_V4.to_string(), TLS.to_string(), RAW.to_string()])
        .args([pki.join("server.pem"), pki.join("server.key")]);
    command
}

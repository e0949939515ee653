//! `cargo xtask bench floods`: what a second agent notices while another attacks, on the stage of the tests.
//!
//! The attacks are the sixteen floods that the tests know over HTTP/2, and slowhttptest in each of its modes. The second agent
//! asks at a steady rate, alone and beside each attack in turn. Both agents and the server are on the first processor,
//! the enforcer on the second; the attacker is `nice`, so that it takes from the second agent what it takes through the enforcer.

mod report;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use enforcer_tests::world::command::{self, Running};
use enforcer_tests::world::{Daemon, World, plan};

use self::report::Results;
use super::{document, pin};
use crate::run::note;

/// One turn of the second agent, and how often it asks.
const SECONDS: u32 = 4;
const RATE: u32 = 100;
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
enum Attack {
    /// By its name in `flood.py`.
    Flood(&'static str),
    Slow {
        name: &'static str,
        words: &'static [&'static str],
    },
}

impl Attack {
    fn name(self) -> &'static str {
        match self {
            Attack::Flood(name) | Attack::Slow { name, .. } => name,
        }
    }
}

const ATTACKS: &[Attack] = &[
    Attack::Flood("rapid reset"),
    Attack::Flood("resets by our own faults"),
    Attack::Flood("streams beyond the limit"),
    Attack::Flood("CONTINUATION without end"),
    Attack::Flood("empty CONTINUATION without end"),
    Attack::Flood("settings"),
    Attack::Flood("windows that grow and shrink"),
    Attack::Flood("pings"),
    Attack::Flood("acknowledged pings"),
    Attack::Flood("empty DATA"),
    Attack::Flood("DATA that is all padding"),
    Attack::Flood("priorities"),
    Attack::Flood("window updates"),
    Attack::Flood("frames of an unknown type"),
    Attack::Flood("blocks that grow when they are read"),
    Attack::Flood("tables of a new size for each request"),
    Attack::Slow { name: "slowhttptest: heads", words: &["-H", "-i", "5"] },
    Attack::Slow { name: "slowhttptest: bodies", words: &["-B", "-i", "5", "-s", "8192", "-x", "16"] },
    Attack::Slow { name: "slowhttptest: ranges", words: &["-R", "-t", "HEAD"] },
    Attack::Slow {
        name: "slowhttptest: readers",
        words: &["-X", "-w", "512", "-y", "1024", "-n", "4", "-z", "32"],
    },
];

/// On the stage, as root.
pub(super) fn measure(root: &Path, write: bool, rounds: usize) -> Result<()> {
    pin::to_first()?;
    let world = World::new()?;
    // What starts now starts on the second processor, and takes it for the only one.
    let back = pin::to_second()?;
    let daemon = world.daemon(&[("attacker", &policy("attacker")), ("second", &policy("second"))])?;
    drop(back);
    let mut results = Results::default();
    for round in 1..=rounds {
        for attack in ATTACKS {
            note(&format!("round {round} of {rounds}: {}", attack.name()));
            let alone = second(&daemon)?;
            let attacker = start(&daemon, *attack)?;
            let beside = second(&daemon)?;
            results.add(attack.name(), &alone, &beside);
            results.closed(attack.name(), closed(*attack, attacker, round == rounds)?);
        }
    }
    ensure!(!daemon.log_text().contains("panicked"), "something panicked:\n{}", daemon.log_text());
    drop(daemon);
    drop(world);
    let text = results.markdown(rounds);
    anstream::println!("{text}");
    if write { document::write(root, "floods", &text) } else { Ok(()) }
}

fn policy(agent: &str) -> String {
    format!(
        "version: 1\nagent: {agent}\nallow:\n\
         \x20 - {{ name: api, host: {}, methods: [GET, HEAD, POST], paths: \"/**\" }}\n\
         \x20 - {{ name: plain, host: {}, port: 80, protocol: http, methods: [GET, POST], paths: \"/**\" }}\n",
        plan::API,
        plan::PLAIN
    )
}

/// How long each of its answers took, in microseconds.
fn second(daemon: &Daemon<'_>) -> Result<Vec<f64>> {
    let (seconds, rate) = (SECONDS.to_string(), RATE.to_string());
    let words = ["/usr/bin/python3", "-c", include_str!("quick.py"), plan::API, &seconds, &rate];
    let output = command::run(daemon.agent_command("second", &words), LIMIT)?;
    ensure!(output.ok(), "the second agent is not served: {output}");
    numbers(&output.stdout)
}

fn start(daemon: &Daemon<'_>, attack: Attack) -> Result<Running> {
    let mut words = vec!["nice", "-n", "10"];
    // It goes on before, during and after the second agent's turn.
    let seconds = (SECONDS + 4).to_string();
    let url = format!("https://{}/big", plan::API);
    match attack {
        Attack::Flood(name) => {
            words.extend(["/usr/bin/python3", "-c", include_str!("flood.py"), plan::PLAIN, name, &seconds]);
        }
        Attack::Slow { words: more, .. } => {
            words.extend([
                "slowhttptest",
                "-c",
                "200",
                "-r",
                "200",
                "-l",
                "90",
                "-p",
                "60",
                "-v",
                "1",
                "-u",
                &url,
            ]);
            words.extend(more);
        }
    }
    let running = daemon.spawn_agent("attacker", &words)?;
    // Until its session is there and it has begun.
    std::thread::sleep(Duration::from_secs(2));
    Ok(running)
}

/// Seconds until its connections were closed, of those that were. `last`: it is waited for.
fn closed(attack: Attack, attacker: Running, last: bool) -> Result<Vec<f64>> {
    match attack {
        Attack::Flood(_) => {
            let output = attacker.finish(LIMIT)?;
            ensure!(output.ok(), "{output}");
            numbers(output.stdout.trim_start_matches("ready"))
        }
        Attack::Slow { .. } if last => {
            let output = attacker.finish(LIMIT)?;
            let text = output.all();
            let second = text
                .split("Test ended on ")
                .nth(1)
                .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<f64>().ok());
            Ok(second.filter(|_| text.contains("No open connections left")).into_iter().collect())
        }
        Attack::Slow { .. } => attacker.abandon().map(|()| Vec::new()),
    }
}

/// Whatever is said here is said in numbers.
fn numbers(text: &str) -> Result<Vec<f64>> {
    text.split_whitespace()
        .map(|word| word.parse().with_context(|| format!("`{word}` is no number")))
        .collect()
}

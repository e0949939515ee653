//! `cargo xtask bench proxy`: the data path beside what people use today, on the stage of the tests.
//!
//! One upstream, one generator, one load; the peers take turns, round by round, and a ratio is taken within
//! its round. Upstream and generator are on the first processor, the proxies on the second, so that what is
//! measured is one core of each. The enforcer runs with everything on: redirect, policy, injection, scrubbing, receipts.

mod cell;
mod configs;
mod forward;
mod goals;
mod group;
mod install;
mod load;
mod ours;
mod peers;
mod report;
mod results;
mod rows;
mod server;
mod upstream;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use enforcer_tests::world::World;

use super::{document, pin};
use crate::run::{as_root, note, step};

/// The priority of all that is measured.
const FIRST: i32 = -20;

#[derive(Args)]
pub(crate) struct Options {
    /// Write the tables into enforcer/docs/performance.md as well
    #[arg(long)]
    write: bool,
    /// How often each peer takes its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the loads whose names hold this
    #[arg(long, default_value = "")]
    only: String,
    /// Only these, beside the enforcer itself: nginx,mini
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Only the measurement; everything is built already
    #[arg(long, hide = true)]
    on_stage: bool,
}

pub(super) fn bench(root: &Path, options: &Options) -> Result<()> {
    check(options)?;
    if options.on_stage {
        return measure(root, options);
    }
    install::install(root, |peer| wanted(options, peer))?;
    let me = std::env::current_exe().context("find this programme")?.display().to_string();
    let product = format!("ENFORCER_BIN={}", root.join("target/release/enforcer").display());
    let words = words(options);
    let mut line = vec!["env", &product, &me, "bench", "proxy", "--on-stage"];
    line.extend(words.iter().map(String::as_str));
    step(root, "Measuring", &as_root(&line)?)
}

fn check(options: &Options) -> Result<()> {
    let known: Vec<_> = peers::SERVERS.iter().map(|known| known.name).chain([peers::DIRECT]).collect();
    for peer in options.peers.iter().filter(|peer| *peer != ours::NAME) {
        ensure!(known.contains(&peer.as_str()), "there is no peer `{peer}`. There are: {}", known.join(", "));
    }
    let loads: Vec<_> = rows::ROWS.iter().map(|row| row.name).collect();
    let some = loads.iter().any(|load| load.contains(&options.only));
    ensure!(some, "no load's name holds `{}`. There are:\n  {}", options.only, loads.join("\n  "));
    Ok(())
}

/// The enforcer always; its agents with other policies when nothing is chosen.
fn wanted(options: &Options, peer: &str) -> bool {
    peer == ours::NAME || options.peers.is_empty() || options.peers.iter().any(|wanted| wanted == peer)
}

/// The choice as it would be typed.
fn words(options: &Options) -> Vec<String> {
    let mut words = vec!["--rounds".to_owned(), options.rounds.to_string()];
    if !options.only.is_empty() {
        words.extend(["--only".to_owned(), options.only.clone()]);
    }
    if !options.peers.is_empty() {
        words.extend(["--peers".to_owned(), options.peers.join(",")]);
    }
    if options.write {
        words.push("--write".to_owned());
    }
    words
}

/// On the stage, as root.
fn measure(root: &Path, options: &Options) -> Result<()> {
    if pin::processors() < 2 {
        note("one processor: generator, upstream and proxies share it, and ratios say little");
    }
    pin::to_first()?;
    let loads = [document::load()?];
    let world = World::new()?;
    install::onto(&world, root, |peer| wanted(options, peer))?;
    // What starts from here on comes first on a busy machine, and is nobody's who looks after processes of the checkout.
    rustix::process::setpriority_process(None, FIRST)?;
    std::env::set_current_dir(&world.dir)?;
    let _upstream = upstream::start(&world)?;
    let daemon = Rc::new(RefCell::new(ours::daemon(&world)?));
    let peers = peers::all(&world, &daemon, |peer| wanted(options, peer))?;
    ours::secrets(&daemon.borrow())?;
    let mut results = results::Results::default();
    for round in 1..=options.rounds {
        for row in rows::ROWS.iter().filter(|row| row.name.contains(&options.only)) {
            note(&format!("round {round} of {}: {}", options.rounds, row.name));
            for peer in peers.iter().filter(|peer| peer.plays(row)) {
                results.add(row.name, peer.name, round, cell(row, peer, round)?);
            }
        }
    }
    let names: Vec<_> = peers.iter().map(|peer| peer.name).collect();
    let text = report::markdown(&results, &names, options.rounds);
    let [before] = loads;
    let said = format!("Load average {before} before, {} after.\n\n{text}", document::load()?);
    anstream::println!("{said}");
    let command = format!("bench proxy {}", words(options).join(" "));
    if options.write { document::write_as(root, "proxy", &command, &said) } else { Ok(()) }
}

/// A load that cannot be played at all counts as an error, loudly, and the next one is played.
fn cell(row: &rows::Row, peer: &peers::Peer<'_>, round: usize) -> Result<cell::Cell> {
    match cell::measure(row, peer, round) {
        Ok(cell) => Ok(cell),
        Err(error) => {
            note(&format!("{} in `{}`: {error:#}", peer.name, row.name));
            peer.stop()?;
            peer.start()?;
            Ok(cell::Cell::from([(cell::Metric::Errors, 1.0)]))
        }
    }
}

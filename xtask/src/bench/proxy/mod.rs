//! `cargo xtask bench proxy`: the data path against reverse proxies that re-encrypt, on the stage of the tests.
//!
//! One upstream, one generator, one load; the peers take turns, round by round, and a ratio is taken within
//! its round. Upstream and generator are on the first processor, the proxies on the second, so that what is
//! measured is one core of each. The enforcer runs with everything on: redirect, policy, injection, scrubbing, receipts.

mod load;
mod peers;
mod report;

use std::path::Path;

use anyhow::{Context, Result};
use enforcer_tests::world::World;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::document;
use crate::run::{self, as_root, note, step};
use crate::{bpf, setup};

/// Debian packages that only this needs, and why.
const PACKAGES: &[(&str, &str)] = &[
    ("wrk", "makes requests over HTTP/1.1"),
    ("nghttp2-client", "h2load makes requests over HTTP/2"),
    ("haproxy", "a peer"),
];

/// From a bare machine to the table. `write`: into `enforcer/docs/performance.md` as well.
pub(super) fn prepare_and_measure(root: &Path, write: bool, rounds: usize, only: &str) -> Result<()> {
    setup::setup(root)?;
    setup::ensure_packages(root, PACKAGES)?;
    bpf::build(root, None)?;
    step(root, "Building the product", &["cargo", "build", "--release", "-p", "enforcer", "--bins"])?;
    step(root, "Building the stage", &["cargo", "build", "-p", "enforcer-tests", "--bins"])?;
    let me = std::env::current_exe().context("find this programme")?;
    let product = format!("ENFORCER_BIN={}", root.join("target/release/enforcer").display());
    let (me, rounds) = (me.display().to_string(), rounds.to_string());
    let mut words =
        vec!["env", &product, &me, "bench", "proxy", "--on-stage", "--rounds", &rounds, "--only", only];
    if write {
        words.push("--write");
    }
    step(root, "Measuring", &as_root(&words)?)
}

/// On the stage, as root.
pub(super) fn measure(root: &Path, write: bool, rounds: usize, only: &str) -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        note("one processor: generator, upstream and proxies share it, and ratios say little");
    }
    pin(0)?;
    let world = World::new()?;
    let upstream = peers::upstream(&world)?;
    // What starts now starts on the second processor, and takes it for the only one.
    pin(1)?;
    let (nginx, haproxy) = (peers::nginx(&world)?, peers::haproxy(&world)?);
    let daemon = peers::enforcer(&world)?;
    pin(0)?;
    let peers = peers::all(&nginx, &haproxy, &daemon)?;
    let mut results = report::Results::default();
    for round in 1..=rounds {
        for row in load::ROWS.iter().filter(|row| row.name.contains(only)) {
            run::note(&format!("round {round} of {rounds}: {}", row.name));
            for peer in &peers {
                results.add(row.name, peer.name, (row.measure)(&world, peer)?);
            }
        }
    }
    for peer in &peers {
        results.resident(peer.name, peer.resident()?);
    }
    drop((daemon, nginx, haproxy, upstream));
    let text = results.markdown(rounds);
    anstream::println!("{text}");
    if write { document::write(root, "proxy", &text) } else { Ok(()) }
}

/// This process, and whatever it starts from now on.
fn pin(processor: usize) -> Result<()> {
    let last = std::thread::available_parallelism()?.get() - 1;
    // Asked before the first pin: afterwards there is one.
    static PROCESSORS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    let mut set = CpuSet::new();
    set.set(processor.min(*PROCESSORS.get_or_init(|| last)));
    Ok(sched_setaffinity(None, &set)?)
}

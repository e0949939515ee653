//! `cargo xtask bench NAME`: measurements, each a table of ratios taken in one run.
//!
//! What is compared runs in short bursts in turn, so that a busy machine slows both alike. Nothing here passes or fails.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::run::{as_root, step};
use crate::{bpf, setup};

pub(crate) use self::document::write_as;

mod document;
mod floods;
mod kernel;
mod pin;
mod policy;
mod proxy;
mod restart;
mod switch;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// What a second agent notices while another attacks: floods over HTTP/2, and slowhttptest
    Floods {
        /// Write the table into enforcer/docs/performance.md as well
        #[arg(long)]
        write: bool,
        /// How often each attack takes its turn
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Only the measurement; everything is built already
        #[arg(long, hide = true)]
        on_stage: bool,
    },
    /// The programs in the kernel: connect, accept and bulk transfer with and without them
    Kernel,
    /// Decisions and reloads of a thousand rules: time and allocations
    Policy,
    /// The data path: requests, connections, large bodies, events and memory, beside other proxies
    Proxy(proxy::Options),
    /// A restart of the daemon: until every session is served, with the programs in force and with all loaded anew
    Restart {
        /// Write the table into enforcer/docs/performance.md as well
        #[arg(long)]
        write: bool,
        /// How often each way of starting takes its turn
        #[arg(long, default_value_t = 10)]
        rounds: usize,
        /// Only the measurement; everything is built already
        #[arg(long, hide = true)]
        on_stage: bool,
    },
    /// The kill switch: how long until connections that are held are dead, and new ones denied
    Switch {
        /// Write the table into enforcer/docs/performance.md as well
        #[arg(long)]
        write: bool,
        /// How often each switch is thrown
        #[arg(long, default_value_t = 60)]
        rounds: usize,
        /// Only the measurement; everything is built already
        #[arg(long, hide = true)]
        on_stage: bool,
    },
}

pub(crate) fn bench(bench: &Bench, root: &Path) -> Result<()> {
    match bench {
        Bench::Floods { write, rounds, on_stage: false } => on_stage(root, "floods", *write, *rounds, true),
        Bench::Floods { write, rounds, on_stage: true } => floods::measure(root, *write, *rounds),
        Bench::Kernel => kernel::bench(root),
        Bench::Policy => policy::bench(root),
        Bench::Proxy(options) => proxy::bench(root, options),
        Bench::Restart { write, rounds, on_stage: false } => {
            on_stage(root, "restart", *write, *rounds, false)
        }
        Bench::Restart { write, rounds, on_stage: true } => restart::measure(root, *write, *rounds),
        Bench::Switch { write, rounds, on_stage: false } => on_stage(root, "switch", *write, *rounds, false),
        Bench::Switch { write, rounds, on_stage: true } => switch::measure(root, *write, *rounds),
    }
}

/// From a bare machine to the table of what plays on the tests' stage, with the product as they build it, or optimized: `write` puts it into
/// `enforcer/docs/performance.md` as well.
fn on_stage(root: &Path, name: &str, write: bool, rounds: usize, release: bool) -> Result<()> {
    setup::setup(root)?;
    bpf::build(root, None)?;
    let words = ["cargo", "build", "-p", "enforcer", "-p", "enforcer-tests", "--bins"];
    step(root, "Building the product and the stage", &words)?;
    let me = std::env::current_exe().context("find this programme")?.display().to_string();
    let rounds = rounds.to_string();
    let product = format!("ENFORCER_BIN={}", root.join("target/release/enforcer").display());
    let mut words = vec!["env"];
    if release {
        step(
            root,
            "Building the product as it is used",
            &["cargo", "build", "--release", "-p", "enforcer", "--bins"],
        )?;
        words.push(&product);
    }
    words.extend([me.as_str(), "bench", name, "--on-stage", "--rounds", &rounds]);
    if write {
        words.push("--write");
    }
    step(root, "Measuring", &as_root(&words)?)
}

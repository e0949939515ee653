//! `cargo xtask bench NAME`: measurements, each a table of ratios taken in one run.
//!
//! What is compared runs in short bursts in turn, so that a busy machine slows both alike. Nothing here passes or fails.

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;

mod kernel;
mod policy;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The programs in the kernel: connect, accept and bulk transfer with and without them
    Kernel,
    /// Decisions and reloads of a thousand rules: time and allocations
    Policy,
}

pub(crate) fn bench(bench: &Bench, root: &Path) -> Result<()> {
    match bench {
        Bench::Kernel => kernel::bench(root),
        Bench::Policy => policy::bench(root),
    }
}

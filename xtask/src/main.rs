//! Every chore of the project: `cargo xtask CHORE`.
//!
//! Each chore sets up what it needs, says what it does, and on a failure says which command to
//! repeat. Colour only on a terminal, and never with `NO_COLOR`.
#![forbid(unsafe_code)]

mod bench;
mod bpf;
mod ci;
mod clients;
mod demo;
mod fuzz;
mod run;
mod setup;
mod soak;
mod test;
mod tidy;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::setup::bpf_toolchain::Compiler;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Every chore of the project",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what is missing: Debian packages, the BPF toolchain, nextest. Safe to repeat
    Setup,
    /// Build the programs for the kernel
    Bpf {
        /// Build with this compiler, not with the first that is there
        #[arg(long, value_enum)]
        toolchain: Option<Compiler>,
    },
    /// Set up, build and show the product working, in under a minute once built
    Demo {
        /// Only the show; everything is built already
        #[arg(long, hide = true)]
        on_stage: bool,
    },
    /// Set up, build and run every test, privileged ones included
    Test {
        /// Passed to `cargo nextest run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Measure
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Fuzz a parser: a file of `tests/fuzz/targets` without its ending
    Fuzz {
        /// All of them, one after the other, when none is named
        target: Option<String>,
        /// Of each; 0: until something is found
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Go on until each has been run so often, earlier runs with this counted
        #[arg(long, conflicts_with = "seconds")]
        runs: Option<u64>,
    },
    /// Try every client of the matrix, also those that take long to install, with large transfers of 64 MiB
    Clients,
    /// The long runs: half an hour of mixed load and faults, a hundred restarts, a thousand reloads
    Soak {
        /// Which; all of them when nothing is named
        #[arg(value_enum)]
        parts: Vec<soak::Part>,
        /// How long the mixed part takes: half of it with restarts and kills, half without
        #[arg(long, default_value_t = 30)]
        minutes: u32,
        /// Write what the mixed part found into enforcer/docs/performance.md as well
        #[arg(long)]
        write: bool,
        /// Only the mixed part; everything is built already
        #[arg(long, hide = true)]
        on_stage: bool,
    },
    /// Boot Debian's kernels in QEMU: kernels that lack something, power cuts. Slow; needs no KVM
    Vm {
        /// What to show; all of it when nothing is named
        #[arg(value_enum)]
        shows: Vec<vm::Show>,
        /// A version as in `6.1`, or `newest`; may be repeated. Otherwise one for each thing that came with a kernel
        #[arg(long)]
        kernel: Vec<String>,
        /// Only this scene of a show
        #[arg(long)]
        scene: Option<String>,
        /// Only boot; everything is there and built
        #[arg(long, hide = true)]
        built: bool,
        /// In the guest
        #[arg(long, hide = true)]
        on_guest: Option<String>,
    },
    /// What is checked before a change is taken, but the tests: format, tidy, lints, documentation
    Ci,
    /// Layers, module documentation, crate walls, top-level layout
    Tidy,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match root().and_then(|root| chore(arguments.chore, &root)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn chore(chore: Chore, root: &Path) -> Result<()> {
    match chore {
        Chore::Setup => setup::for_tests(root),
        Chore::Bpf { toolchain } => {
            bpf::build(root, toolchain).map(|object| run::done(&format!("built {}", object.display())))
        }
        Chore::Demo { on_stage: false } => demo::prepare_and_show(root),
        Chore::Demo { on_stage: true } => demo::show(),
        Chore::Test { rest } => test::test(root, &rest),
        Chore::Bench { bench } => bench::bench(&bench, root),
        Chore::Fuzz { target, seconds, runs } => {
            let extent = runs.map_or(fuzz::Extent::Seconds(seconds), fuzz::Extent::Runs);
            fuzz::fuzz(root, target.as_deref(), &extent)
        }
        Chore::Clients => clients::clients(root),
        Chore::Soak { minutes, write, on_stage: true, .. } => soak::mixed(root, minutes, write),
        Chore::Soak { parts, minutes, write, on_stage: false } => soak::soak(root, &parts, minutes, write),
        Chore::Vm { on_guest: Some(scene), .. } => vm::guest::play(&scene),
        Chore::Vm { shows, kernel, scene, built, on_guest: None } => {
            if !built {
                vm::prepare(root)?;
            }
            vm::vm(root, &kernel, &shows, scene.as_deref())
        }
        Chore::Ci => ci::ci(root),
        Chore::Tidy => tidy::tidy(root),
    }
}

/// The checkout, wherever the chore was called from.
fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).context("xtask has a parent directory")
}

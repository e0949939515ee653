//! The product at work, in one terminal and under a minute: real servers, real agents, real checks.
//!
//! The stage is that of the tests. Ctrl-C is safe at any point: the stage's janitor takes it down.

mod screen;
mod steps;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use enforcer_tests::world::World;

use self::screen::Screen;
use crate::run::{self, as_root, step};
use crate::{bpf, setup};

/// From a bare machine to the end of the show.
pub(crate) fn prepare_and_show(root: &Path) -> Result<()> {
    setup::setup(root)?;
    run::title("Building");
    bpf::build(root, None)?;
    step(
        root,
        "Building the product",
        &["cargo", "build", "-p", "enforcer", "-p", "enforcer-tests", "--bins"],
    )?;
    if run::is_root() {
        return show();
    }
    let me = std::env::current_exe().context("find this programme")?;
    // Only the show needs root; what cargo built stays the user's.
    step(root, "The show, as root", &as_root(&[&me.display().to_string(), "demo", "--on-stage"])?)
}

/// The show itself.
pub(crate) fn show() -> Result<()> {
    let started = Instant::now();
    let screen = Screen::new(steps::STEPS.len());
    screen.opening();
    let world = World::new()?;
    let ended = steps::play(&world, &screen);
    if ended.is_err() {
        screen.daemon_log(&world.dir.join("daemon.log"));
    }
    let name = world.name.clone();
    drop(world);
    ended?;
    screen.check(
        "nothing of the show is left on this machine",
        enforcer_tests::world::leftovers(&name).is_empty(),
    );
    match screen.failed() {
        0 => {
            screen.closing(started.elapsed());
            Ok(())
        }
        n => bail!("{n} of the checks above did not hold"),
    }
}

//! What only another kernel, a power cut or an init of its own can show: Debian kernels, booted in QEMU.
//!
//! The guest's root is this machine's, read-only over 9p, with everything that is written kept in the guest's memory. What runs
//! there is this very programme ([`guest`]), on the stage of the tests. No KVM is needed; it is slow without.

mod disk;
pub(crate) mod guest;
mod initramfs;
mod kernel;
mod machine;
mod power;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use self::guest::Scene;
use self::kernel::Kernel;
use self::machine::Machine;
use crate::run::{self, done, step, title};
use crate::{bpf, setup};

/// Debian packages and why. Not of the ordinary set-up: only this chore needs them.
const PACKAGES: &[(&str, &str)] = &[
    ("qemu-system-x86", "the machine that kernels are booted in"),
    ("busybox-static", "the first process of the guest"),
    ("kmod", "finds the modules that the guest needs for its root"),
    ("cpio", "packs them"),
    ("xz-utils", "unpacks them"),
    ("nbdkit", "a disk whose cache is lost with the power"),
    ("e2fsprogs", "its file system"),
];

/// One for each thing that came with a kernel: refused, no unix hooks, all of it, and the newest there is.
const KERNELS: &[&str] = &["5.10", "6.1", "6.12", kernel::NEWEST];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Show {
    /// A kernel that lacks something is told, and nothing widens
    Features,
    /// The units, under a real systemd with cgroup v2 alone
    Systemd,
    /// Receipts survive a power cut, as the policy asks
    Power,
}

/// What the host knows of a run.
struct Run<'r> {
    root: &'r Path,
    /// Kernels, images and logs: `target/vm`.
    dir: PathBuf,
    failed: usize,
    shown: usize,
}

/// What is missing, and what is to be seen.
pub(crate) fn prepare(root: &Path) -> Result<()> {
    title("Setting up");
    setup::ensure_packages(root, PACKAGES)?;
    setup::setup(root)?;
    bpf::build(root, None)?;
    step(root, "Building", &["cargo", "build", "--workspace", "--bins"])?;
    Ok(())
}

pub(crate) fn vm(root: &Path, kernels: &[String], shows: &[Show], only: Option<&str>) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "only kernels for x86-64 are booted so far");
    let mut run = Run { root, dir: root.join("target/vm"), failed: 0, shown: 0 };
    let wanted: Vec<&str> =
        if kernels.is_empty() { KERNELS.to_vec() } else { kernels.iter().map(String::as_str).collect() };
    let shown = |show| shows.is_empty() || shows.contains(&show);
    for wanted in wanted {
        let kernel = kernel::fetch(&run.dir, wanted)?;
        for show in [Show::Features, Show::Systemd].into_iter().filter(|show| shown(*show)) {
            for scene in
                Scene::of(show, kernel.version).filter(|scene| only.is_none_or(|only| only == scene.name))
            {
                run.play(&kernel, scene)?;
            }
        }
        if only.is_none() && shown(Show::Power) && guest::supported(kernel.version) {
            power::show(&mut run, &kernel)?;
            run.shown += 1;
        }
    }
    ensure!(run.shown > 0, "nothing was shown: none of these kernels has such a scene");
    match run.failed {
        0 => Ok(()),
        n => bail!(
            "{n} of the expectations above did not hold. The guests' consoles are in {}",
            run.dir.display()
        ),
    }
}

impl Run<'_> {
    /// Boots, lets the guest say what holds, and counts what does not.
    fn play(&mut self, kernel: &Kernel, scene: &'static Scene) -> Result<()> {
        self.shown += 1;
        title(&format!("Linux {}: {}", kernel.release, scene.what));
        let mut machine = Machine::boot(self, kernel, scene, &[])?;
        let mut ended = false;
        while let Some(line) = machine.line()? {
            ended |= self.heard(&line);
        }
        self.expect(ended, &format!("the guest came to its end (console: {})", machine.console.display()));
        Ok(())
    }

    /// One line of the guest's. `true`: it has come to its end.
    fn heard(&mut self, line: &str) -> bool {
        match line.split_once(' ') {
            Some(("@holds", what)) => self.expect(true, what),
            Some(("@fails", what)) => self.expect(false, what),
            Some(("@end", code)) => return code == "0",
            _ => anstream::eprintln!("      {}{line}{}", run::DIM.render(), run::DIM.render_reset()),
        }
        false
    }

    fn expect(&mut self, holds: bool, what: &str) {
        if holds {
            done(what);
        } else {
            self.failed += 1;
            anstream::eprintln!("  {}✗ {what}{}", run::RED.render(), run::RED.render_reset());
        }
    }
}

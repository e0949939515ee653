//! What the bench needs beyond the set-up: the peers, from the registries, and the programs of `xtask/peers`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use enforcer_tests::world::World;

use crate::run::step;
use crate::{bpf, setup};

/// Debian packages that only this needs, and why.
const PACKAGES: &[(&str, &str)] = &[("haproxy", "a peer")];
/// Programs of `xtask/peers`.
const PROGRAMS: [&str; 3] = ["load", "events", "mini"];
const TARGET: &str = "target/peers";

/// From a bare machine to all that is measured. A workspace of its own builds the peers: nothing else needs them.
pub(super) fn install(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    setup::setup(root)?;
    let packages: Vec<_> = PACKAGES.iter().filter(|(name, _)| wanted(name)).copied().collect();
    setup::ensure_packages(root, &packages)?;
    bpf::build(root, None)?;
    let peers = [
        "cargo",
        "build",
        "--release",
        "--locked",
        "--manifest-path",
        "xtask/peers/Cargo.toml",
        "--target-dir",
        TARGET,
    ];
    step(root, "Building peers and generator", &peers)?;
    step(root, "Building the product", &["cargo", "build", "--release", "-p", "enforcer", "--bins"])?;
    step(root, "Building the stage", &["cargo", "build", "-p", "enforcer-tests", "--bins"])
}

/// Where every user of the stage can reach them.
pub(super) fn onto(world: &World, root: &Path) -> Result<()> {
    fs::create_dir(world.dir.join("bench"))?;
    PROGRAMS.iter().try_for_each(|program| {
        let from = root.join(TARGET).join("release").join(program);
        fs::copy(&from, world.bin(program)).with_context(|| format!("install {}", from.display())).map(drop)
    })
}

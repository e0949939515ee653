//! What the bench needs beyond the set-up: the peers, from the registries, and the programs of `xtask/peers`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use enforcer_tests::world::World;

use crate::run::{self, step};
use crate::{bpf, setup};

/// Debian packages that only this needs, each a peer of this name.
const PACKAGES: &[(&str, &str)] = &[("haproxy", "haproxy"), ("squid", "squid-openssl")];
/// Programs of `xtask/peers` that are always there, and those that are peers of this name.
const PROGRAMS: [&str; 3] = ["load", "events", "mini"];
const MORE_PROGRAMS: [&str; 1] = ["hudsucker"];
const TARGET: &str = "target/peers";
/// The last one for the Python of Debian 12.
const MITMPROXY: &str = "mitmproxy==11.0.2";
const VENV: &str = "target/mitmproxy";

/// From a bare machine to all that is measured. A workspace of its own builds the peers: nothing else needs them.
pub(super) fn install(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    setup::setup(root)?;
    let packages = PACKAGES.iter().filter(|(peer, _)| wanted(peer));
    setup::ensure_packages(root, &packages.map(|(_, package)| (*package, "a peer")).collect::<Vec<_>>())?;
    if wanted("mitmproxy") {
        mitmproxy(root)?;
    }
    bpf::build(root, None)?;
    build(root, "enforcer-peers", "Building generator and peers")?;
    if wanted("hudsucker") {
        build(root, "enforcer-peer-hudsucker", "Building a peer of hudsucker")?;
    }
    step(root, "Building the product", &["cargo", "build", "--release", "-p", "enforcer", "--bins"])?;
    step(root, "Building the stage", &["cargo", "build", "-p", "enforcer-tests", "--bins"])
}

fn build(root: &Path, package: &str, what: &str) -> Result<()> {
    let manifest = "xtask/peers/Cargo.toml";
    let how = ["--release", "--locked", "--manifest-path", manifest, "--target-dir", TARGET, "-p", package];
    step(root, what, &[&["cargo", "build"], &how[..]].concat())
}

fn mitmproxy(root: &Path) -> Result<()> {
    let python = format!("{VENV}/bin/python");
    let there = ["sh", "-c", "\"$0\" -m pip freeze 2>&1 | grep -qx \"$1\"", &python, MITMPROXY];
    if run::output(root, &there).is_ok() {
        return Ok(());
    }
    step(root, "Making a place for mitmproxy", &["/usr/bin/python3", "-m", "venv", VENV])?;
    step(root, "Installing mitmproxy", &[&python, "-m", "pip", "install", "--quiet", MITMPROXY])
}

/// Where every user of the stage can reach them.
pub(super) fn onto(world: &World, root: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let files = world.dir.join("bench");
    fs::create_dir(&files)?;
    std::os::unix::fs::symlink(root.join(VENV).join("bin/mitmdump"), files.join("mitmdump"))?;
    let more = MORE_PROGRAMS.iter().filter(|program| wanted(program));
    PROGRAMS.iter().chain(more).try_for_each(|program| {
        let from = root.join(TARGET).join("release").join(program);
        fs::copy(&from, world.bin(program)).with_context(|| format!("install {}", from.display())).map(drop)
    })
}

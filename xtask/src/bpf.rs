//! `cargo xtask bpf`: builds the eBPF object that the host crate embeds, at `target/bpf/enforcer.bpf.o`.
//!
//! `enforcer-ebpf` is a workspace of its own, with its own lock file and target. Which compiler builds it is
//! `setup::bpf_toolchain`'s business.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::setup::bpf_toolchain::{Compiler, TARGET, ensure_toolchain};

/// Where the host crate's build script looks for the object.
const OBJECT: &str = "target/bpf/enforcer.bpf.o";

/// Builds the object for the workspace at `root`, with the toolchain installed first if need be:
/// any that there is, or the one that is wanted.
pub(crate) fn build(root: &Path, wanted: Option<Compiler>) -> Result<PathBuf> {
    let toolchain = ensure_toolchain(root, wanted)?;
    anstream::println!("eBPF toolchain: {toolchain}");

    let build_dir = root.join("target/bpf-build");
    let mut cargo = toolchain.cargo(root)?;
    // A target directory of its own: the other workspace's locks and flags have nothing to do with it.
    cargo.args(["build", "--release", "--locked"]).arg("--target-dir").arg(&build_dir);
    run(&mut cargo).context("cannot build the eBPF programs")?;

    let built = build_dir.join(TARGET).join("release/enforcer");
    let bytes = std::fs::read(&built).with_context(|| format!("cannot read `{}`", built.display()))?;
    ensure!(
        contains(&bytes, b".BTF\0"),
        "the object has no BTF, which the socket storage maps need: is bpf-linker called with `--btf`?"
    );
    let object = root.join(OBJECT);
    // The same bytes are left alone: the host crate is compiled again whenever the file is newer.
    if std::fs::read(&object).is_ok_and(|old| old == bytes) {
        return Ok(object);
    }
    let folder = object.parent().context("the object has a folder")?;
    std::fs::create_dir_all(folder)?;
    let fresh = folder.join("enforcer.bpf.o.new");
    std::fs::write(&fresh, &bytes).with_context(|| format!("cannot write `{}`", fresh.display()))?;
    std::fs::rename(&fresh, &object).with_context(|| format!("cannot write `{}`", object.display()))?;
    Ok(object)
}

/// Runs a command with the terminal's output; a failure names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

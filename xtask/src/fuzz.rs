//! Fuzzing what parses the bytes of others: `cargo xtask fuzz TARGET`, and some runs of each in CI.
//!
//! libFuzzer with the stable compiler: coverage is a matter of flags, and no sanitizer is wanted where
//! `unsafe` is forbidden. What is found stays in `target/fuzz/TARGET`; an input that shows something
//! new to a reader goes by hand into `tests/fuzz/corpus/TARGET`, which is kept small.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::{step, step_with};

const MANIFEST: &str = "tests/fuzz/Cargo.toml";
/// Build scripts and macros are built for the host, without the flags, because a target is named.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Of each target in CI: the corpus, and enough to see that it still fuzzes. From a fixed seed, since CI judges
/// a commit: what a throw of dice finds is for `cargo xtask fuzz`.
const SMOKE: [&str; 2] = ["-seed=1", "-runs=5000"];

/// One target for so many seconds; 0: until it finds something or is stopped.
pub(crate) fn fuzz(root: &Path, target: &str, seconds: u32) -> Result<()> {
    let targets = targets(root)?;
    if !targets.iter().any(|known| known == target) {
        bail!("there is no target `{target}`. There are: {}", targets.join(", "));
    }
    build(root)?;
    run(root, target, &format!("target/fuzz/{target}"), &[&format!("-max_total_time={seconds}")])
}

/// All targets are built, and each runs a little.
pub(crate) fn smoke(root: &Path) -> Result<()> {
    build(root)?;
    targets(root)?.iter().try_for_each(|target| {
        // Not with what earlier runs found on this machine.
        let found = format!("target/fuzz-smoke/{target}");
        if root.join(&found).exists() {
            std::fs::remove_dir_all(root.join(&found)).with_context(|| format!("empty {found}"))?;
        }
        run(root, target, &found, &SMOKE)
    })
}

fn build(root: &Path) -> Result<()> {
    let words = [
        "cargo",
        "build",
        "--release",
        "--locked",
        "--manifest-path",
        MANIFEST,
        "--target-dir",
        "target/fuzz-build",
        "--target",
        TARGET,
    ];
    step_with(root, "Building the fuzz targets", &words, &[("RUSTFLAGS", FLAGS.to_owned())])
}

/// `found` is the folder for what shows something new, and for what fails.
fn run(root: &Path, target: &str, found: &str, extent: &[&str]) -> Result<()> {
    std::fs::create_dir_all(root.join(found)).with_context(|| format!("make {found}"))?;
    let binary = format!("target/fuzz-build/{TARGET}/release/{target}");
    let (corpus, failures) = (format!("tests/fuzz/corpus/{target}"), format!("-artifact_prefix={found}/"));
    let mut words = vec![binary.as_str(), found, &corpus, &failures];
    words.extend(extent);
    // No parser of ours takes longer than this for 4 KiB.
    words.extend(["-max_len=4096", "-timeout=10", "-verbosity=0"]);
    step(root, &format!("Fuzzing {target}"), &words)
}

/// A file a target.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("tests/fuzz/targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

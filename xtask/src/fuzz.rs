//! Fuzzing what parses the bytes of others: `cargo xtask fuzz TARGET`, and some runs of each in CI.
//!
//! libFuzzer with the stable compiler: coverage is a matter of flags, and no sanitizer is wanted where
//! `unsafe` is forbidden. What is found stays in `target/fuzz/TARGET`; an input that shows something
//! new to a reader goes by hand into `tests/fuzz/corpus/TARGET`, which is kept small.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{note, step, step_with};

const MANIFEST: &str = "tests/fuzz/Cargo.toml";
/// Build scripts and macros are built for the host, without the flags, because a target is named.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Of each target in CI: the corpus, and enough to see that it still fuzzes. From a fixed seed, since CI judges
/// a commit: what a throw of dice finds is for `cargo xtask fuzz`.
const SMOKE: [&str; 2] = ["-seed=1", "-runs=5000"];
/// Long inputs are slow, and show nothing that 1 KiB does not. No parser of ours takes a second for it; on a busy machine the wait is long.
const LIMITS: [&str; 3] = ["-max_len=1024", "-timeout=60", "-verbosity=0"];
/// What shows something new, by target.
const FOUND: &str = "target/fuzz";

/// So long at a time: what has been counted survives a run that is stopped.
const SLICE: u32 = 120;

/// How far one target, or each, is fuzzed.
pub(crate) enum Extent {
    /// 0: until something is found.
    Seconds(u32),
    /// Until it has been run so often in all.
    Runs(u64),
}

/// One target, or each of them in turn.
pub(crate) fn fuzz(root: &Path, target: Option<&str>, extent: &Extent) -> Result<()> {
    let known = targets(root)?;
    let chosen: Vec<String> = match target {
        None => known,
        Some(target) if known.iter().any(|known| known == target) => vec![target.to_owned()],
        Some(target) => bail!("there is no target `{target}`. There are: {}", known.join(", ")),
    };
    build(root)?;
    match extent {
        Extent::Seconds(seconds) => chosen.iter().try_for_each(|target| {
            run(root, target, &format!("{FOUND}/{target}"), &[&format!("-max_total_time={seconds}")])
        }),
        Extent::Runs(runs) => {
            chosen.iter().try_for_each(|target| until(root, target, *runs))?;
            table(root)
        }
    }
}

/// Slice after slice, until it has been run so often.
fn until(root: &Path, target: &str, runs: u64) -> Result<()> {
    loop {
        let before = counted(root, target)?;
        if before >= runs {
            return Ok(());
        }
        let (most, time) = (format!("-runs={}", runs - before), format!("-max_total_time={SLICE}"));
        let said = [most.as_str(), time.as_str(), "-print_final_stats=1"];
        let words = invocation(root, target, &format!("{FOUND}/{target}"), &said)?;
        let (program, arguments) = words.split_first().context("a target is a program")?;
        let fuzzed = Command::new(program).args(arguments).current_dir(root).output()?;
        let text = String::from_utf8_lossy(&fuzzed.stderr);
        if !fuzzed.status.success() {
            bail!("{target} failed:\n{text}\nRepeat it with:\n\n    {}\n", words.join(" "));
        }
        let units = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        let units: u64 =
            units.and_then(|units| units.trim().parse().ok()).context("libFuzzer counted nothing")?;
        let count = format!("{}\n", before + units);
        std::fs::write(root.join(format!("{FOUND}/{target}.runs")), count).context("write the count")?;
        note(&format!("{target}: {} of {runs}", before + units));
    }
}

/// Runs so far.
fn counted(root: &Path, target: &str) -> Result<u64> {
    match std::fs::read_to_string(root.join(format!("{FOUND}/{target}.runs"))) {
        Ok(text) => text.trim().parse().with_context(|| format!("the count of {target}")),
        Err(_none_yet) => Ok(0),
    }
}

/// What has been counted of each.
fn table(root: &Path) -> Result<()> {
    anstream::println!("| target | executions |\n|---|---|");
    for target in targets(root)? {
        anstream::println!("| {target} | {} |", counted(root, &target)?);
    }
    Ok(())
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
    step(root, &format!("Fuzzing {target}"), &invocation(root, target, found, extent)?)
}

fn invocation(root: &Path, target: &str, found: &str, extent: &[&str]) -> Result<Vec<String>> {
    std::fs::create_dir_all(root.join(found)).with_context(|| format!("make {found}"))?;
    let binary = format!("target/fuzz-build/{TARGET}/release/{target}");
    let (corpus, failures) = (format!("tests/fuzz/corpus/{target}"), format!("-artifact_prefix={found}/"));
    let mut words = vec![binary, found.to_owned(), corpus, failures];
    words.extend(extent.iter().map(|word| (*word).to_owned()));
    words.extend(LIMITS.map(str::to_owned));
    Ok(words)
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

//! The long runs: half an hour of mixed load and faults, a hundred restarts, a thousand reloads. Minutes, so not a part of `test`.

mod report;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use enforcer_tests::soak::play::{Plan, play};
use enforcer_tests::world::World;

use crate::bench;
use crate::run::{as_root, done, note, step, step_with};
use crate::{bpf, setup, test};

/// A part of the soak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Mixed load under packet loss, slow links, resets, restarts and kills, checked from three histories
    Mixed,
    /// A hundred restarts under load
    Restarts,
    /// A thousand reloads under load
    Reloads,
}

/// Variable, rounds, the test that reads it.
const ROUNDS: &[(Part, &str, &str, &str)] = &[
    (Part::Restarts, "ENFORCER_RESTARTS", "100", "restarts_under_load"),
    (Part::Reloads, "ENFORCER_RELOADS", "1000", "a_storm_of_reloads"),
];

/// From a bare machine; all parts where none is named. `write`: into `enforcer/docs/performance.md` as well.
pub(crate) fn soak(root: &Path, parts: &[Part], minutes: u32, write: bool) -> Result<()> {
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    setup::setup(root)?;
    bpf::build(root, None)?;
    step(root, "Building", &["cargo", "build", "--workspace", "--all-targets"])?;
    if wanted(Part::Mixed) {
        step(root, "Building the product", &["cargo", "build", "--release", "-p", "enforcer", "--bins"])?;
        let me = std::env::current_exe().context("find this programme")?.display().to_string();
        let product = format!("ENFORCER_BIN={}", root.join("target/release/enforcer").display());
        let minutes = minutes.to_string();
        let mut words = vec!["env", &product, &me, "soak", "mixed", "--on-stage", "--minutes", &minutes];
        if write {
            words.push("--write");
        }
        step(root, "Soaking", &as_root(&words)?)?;
    }
    for (part, variable, rounds, test) in ROUNDS.iter().filter(|(part, ..)| wanted(*part)) {
        let mut environment = test::runner(root)?;
        environment.push((variable, (*rounds).to_owned()));
        let words =
            ["cargo", "nextest", "run", "-p", "enforcer-tests", "--test", "soak", "--no-capture", test];
        step_with(root, &format!("Soaking: {part:?}"), &words, &environment)?;
    }
    Ok(())
}

/// The mixed part, on the stage, as root.
pub(crate) fn mixed(root: &Path, minutes: u32, write: bool) -> Result<()> {
    ensure!(minutes > 0, "the soak lasts a minute at least");
    let world = World::new()?;
    let report = play(&world, Plan::minutes(minutes), &|what| note(what))?;
    drop(world);
    let text = report::markdown(&report);
    anstream::println!("{text}");
    if write {
        bench::write_as(root, "soak", &format!("soak mixed --minutes {minutes} --write"), &text)?;
    }
    let wrongs = report.wrongs();
    ensure!(wrongs.is_empty(), "the soak found {} wrongs:\n{}", wrongs.len(), wrongs.join("\n"));
    done("nothing was wrong");
    Ok(())
}

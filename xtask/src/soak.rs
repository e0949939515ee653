//! The long runs: a hundred restarts and a thousand reloads under load. Minutes, so not a part of `test`.

use std::path::Path;

use anyhow::Result;

use crate::run::{step, step_with};
use crate::{bpf, setup, test};

/// Variable, rounds.
const ROUNDS: &[(&str, &str)] = &[("ENFORCER_RESTARTS", "100"), ("ENFORCER_RELOADS", "1000")];

pub(crate) fn soak(root: &Path) -> Result<()> {
    setup::setup(root)?;
    bpf::build(root, None)?;
    step(root, "Building", &["cargo", "build", "--workspace", "--all-targets"])?;
    let mut environment = test::runner(root)?;
    environment.extend(ROUNDS.iter().map(|(name, rounds)| (*name, (*rounds).to_owned())));
    let words = ["cargo", "nextest", "run", "-p", "enforcer-tests", "--test", "soak", "--no-capture"];
    step_with(root, "Soaking", &words.map(str::to_owned), &environment)
}
